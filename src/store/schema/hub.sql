-- hub.db: the broker's. Times are Unix milliseconds; keys are 64 lower-case hex characters.

CREATE TABLE mesh (
  id           TEXT PRIMARY KEY,
  slug         TEXT NOT NULL,
  name         TEXT NOT NULL,
  owner_pubkey TEXT NOT NULL,
  created_at   INTEGER NOT NULL,
  archived_at  INTEGER
) WITHOUT ROWID;

CREATE TABLE member (
  id           TEXT PRIMARY KEY,
  mesh_id      TEXT NOT NULL REFERENCES mesh (id),
  pubkey       TEXT NOT NULL,
  display_name TEXT NOT NULL,
  role         TEXT NOT NULL CHECK (role IN ('admin', 'member')),
  joined_at    INTEGER NOT NULL,
  revoked_at   INTEGER,
  UNIQUE (mesh_id, pubkey)
) WITHOUT ROWID;

-- Session keys that have been here: what is sent to one of them is kept while it is away.
CREATE TABLE session (
  mesh_id      TEXT NOT NULL,
  pubkey       TEXT NOT NULL,
  member_id    TEXT NOT NULL REFERENCES member (id),
  display_name TEXT NOT NULL,
  last_seen_at INTEGER NOT NULL,
  PRIMARY KEY (mesh_id, pubkey)
) WITHOUT ROWID;
CREATE INDEX session_last_seen ON session (mesh_id, last_seen_at);

-- A message stays until it expires, so that a retry is recognised; its text goes as soon as every recipient has it.
CREATE TABLE message (
  seq              INTEGER PRIMARY KEY AUTOINCREMENT,
  id               TEXT NOT NULL UNIQUE,
  mesh_id          TEXT NOT NULL,
  sender_member_id TEXT NOT NULL,
  sender_pubkey    TEXT NOT NULL,
  sender_name      TEXT NOT NULL,
  target_spec      TEXT NOT NULL,
  priority         TEXT NOT NULL CHECK (priority IN ('now', 'next', 'low')),
  reply_to_id      TEXT,
  created_at       INTEGER NOT NULL,
  expires_at       INTEGER NOT NULL,
  client_id        TEXT,
  fingerprint      TEXT,
  recipients       INTEGER NOT NULL,
  waiting          INTEGER NOT NULL,
  delivered_at     INTEGER,
  nonce            TEXT NOT NULL,
  ciphertext       TEXT NOT NULL
);
-- Also finds what a recipient acks by the sender's id alone.
CREATE UNIQUE INDEX message_client ON message (mesh_id, client_id, sender_member_id) WHERE client_id IS NOT NULL;
CREATE INDEX message_expires ON message (expires_at);

-- One row for each recipient that does not have the message yet.
CREATE TABLE delivery (
  mesh_id   TEXT NOT NULL,
  recipient TEXT NOT NULL,
  seq       INTEGER NOT NULL,
  urgent    INTEGER NOT NULL,
  PRIMARY KEY (mesh_id, recipient, seq)
) WITHOUT ROWID;
CREATE INDEX delivery_message ON delivery (seq);

-- How many rows `delivery` has, so that nobody counts them one by one.
CREATE TABLE depth (one INTEGER PRIMARY KEY CHECK (one = 1), n INTEGER NOT NULL);
INSERT INTO depth VALUES (1, 0);
