-- Run once every column is there. An index entry ends with the rowid, and rowids grow with `seq`: each of these also gives
-- its rows in the order of their arrival.

CREATE INDEX IF NOT EXISTS inbox_received_at ON inbox (received_at);
CREATE INDEX IF NOT EXISTS inbox_topic ON inbox (topic);
CREATE INDEX IF NOT EXISTS inbox_sender ON inbox (sender_pubkey);
CREATE INDEX IF NOT EXISTS inbox_seen_at ON inbox (seen_at);
CREATE INDEX IF NOT EXISTS inbox_recipient ON inbox (recipient_pubkey);

CREATE INDEX IF NOT EXISTS inbox_mesh ON inbox (mesh);
CREATE INDEX IF NOT EXISTS inbox_unread ON inbox (mesh, recipient_pubkey) WHERE seen_at IS NULL;
CREATE INDEX IF NOT EXISTS inbox_unreadable ON inbox (mesh, recipient_pubkey) WHERE unreadable IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS inbox_seq ON inbox (seq);
-- One sender cannot suppress another's id, and a broadcast lands once for each recipient. NULLs are distinct: rows of the
-- reference's daemon, which leaves `client_id` empty, are under its own UNIQUE alone.
CREATE UNIQUE INDEX IF NOT EXISTS inbox_dedupe ON inbox (mesh, recipient_pubkey, sender_pubkey, client_id);

-- The last `seq` given out. It outlives the rows, so that an event id is never used twice.
CREATE TABLE IF NOT EXISTS inbox_counter (one INTEGER PRIMARY KEY CHECK (one = 1), last_seq INTEGER NOT NULL);
INSERT OR IGNORE INTO inbox_counter VALUES (1, 0);
