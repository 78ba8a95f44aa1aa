-- Messages that somebody deleted: their brokers may push them once more, if the acknowledgement was lost.
CREATE TABLE IF NOT EXISTS inbox_deleted (
  mesh             TEXT NOT NULL,
  recipient_pubkey TEXT NOT NULL,
  sender_pubkey    TEXT NOT NULL,
  client_id        TEXT NOT NULL,
  received_at      INTEGER NOT NULL,
  PRIMARY KEY (mesh, recipient_pubkey, sender_pubkey, client_id)
) WITHOUT ROWID;
