-- outbox.db. The table, its first index and every NOT NULL are the reference's, whose daemon can reopen the file. Its other
-- index, `outbox_pending`, is for its queries alone, and each change of a status would write it: it is dropped when a file is
-- opened here, and made again by the reference.
-- Times are Unix milliseconds.

CREATE TABLE IF NOT EXISTS outbox (
  id                    TEXT PRIMARY KEY,
  client_message_id     TEXT NOT NULL UNIQUE,
  request_fingerprint   BLOB NOT NULL,
  payload               BLOB NOT NULL,
  enqueued_at           INTEGER NOT NULL,
  attempts              INTEGER NOT NULL DEFAULT 0,
  next_attempt_at       INTEGER NOT NULL,
  status                TEXT NOT NULL CHECK (status IN ('pending', 'inflight', 'done', 'dead', 'aborted')),
  last_error            TEXT,
  delivered_at          INTEGER,
  broker_message_id     TEXT,
  aborted_at            INTEGER,
  aborted_by            TEXT,
  superseded_by         TEXT,
  mesh                  TEXT,
  target_spec           TEXT,
  nonce                 TEXT,
  ciphertext            TEXT,
  priority              TEXT,
  sender_session_pubkey TEXT,
  reply_to_id           TEXT,
  meta                  TEXT
);

CREATE INDEX IF NOT EXISTS outbox_aborted ON outbox (status, aborted_at) WHERE status = 'aborted';
