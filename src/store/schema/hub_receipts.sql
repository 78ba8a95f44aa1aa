-- Who has had a message that was for many; whose a message for one is, its target says.
CREATE TABLE had (
  seq       INTEGER NOT NULL,
  recipient TEXT NOT NULL,
  PRIMARY KEY (seq, recipient)
) WITHOUT ROWID;

-- What recipients said of messages, until a daemon of the sender's member has it. `seq` is the message's place; the message
-- itself may be gone.
CREATE TABLE receipt (
  n          INTEGER PRIMARY KEY AUTOINCREMENT,
  mesh_id    TEXT NOT NULL,
  member_id  TEXT NOT NULL,
  seq        INTEGER NOT NULL,
  recipient  TEXT NOT NULL,
  message_id TEXT NOT NULL,
  client_id  TEXT NOT NULL,
  state      TEXT NOT NULL,
  detail     TEXT NOT NULL,
  at         INTEGER NOT NULL,
  signature  TEXT NOT NULL,
  stored_at  INTEGER NOT NULL,
  UNIQUE (seq, recipient)
);
CREATE INDEX receipt_member ON receipt (member_id);
