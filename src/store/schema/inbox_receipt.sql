-- What senders are to be told of their messages, until a broker has it: the last word on each.
CREATE TABLE receipt (
  seq        INTEGER PRIMARY KEY,
  mesh       TEXT NOT NULL,
  recipient  TEXT NOT NULL,
  sender     TEXT NOT NULL,
  message_id TEXT NOT NULL,
  client_id  TEXT NOT NULL,
  state      TEXT NOT NULL,
  detail     TEXT NOT NULL,
  at         INTEGER NOT NULL
);
CREATE INDEX receipt_recipient ON receipt (mesh, recipient);
