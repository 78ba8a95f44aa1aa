-- inbox.db. The table's first columns, their constraints and indexes are the reference's, whose daemon can reopen the file.
-- Times are Unix milliseconds.

CREATE TABLE IF NOT EXISTS inbox (
  id                   TEXT PRIMARY KEY,
  client_message_id    TEXT NOT NULL UNIQUE,
  broker_message_id    TEXT,
  mesh                 TEXT NOT NULL,
  topic                TEXT,
  sender_pubkey        TEXT NOT NULL,
  sender_name          TEXT NOT NULL,
  body                 TEXT,
  meta                 TEXT,
  received_at          INTEGER NOT NULL,
  reply_to_id          TEXT,
  seen_at              INTEGER,
  recipient_pubkey     TEXT,
  recipient_kind       TEXT,
  -- From here on the reference knows nothing.
  seq                  INTEGER,
  client_id            TEXT,
  sender_member_pubkey TEXT,
  priority             TEXT,
  subtype              TEXT,
  created_at           TEXT,
  nonce                TEXT,
  ciphertext           TEXT,
  unreadable           TEXT,
  plain                INTEGER
);
