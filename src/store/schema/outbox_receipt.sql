-- What recipients said of messages that were sent from here. It goes with the message's row.
CREATE TABLE receipt (
  row_id     TEXT NOT NULL,
  recipient  TEXT NOT NULL,
  arrived_at INTEGER,
  offered_at INTEGER,
  offered_by TEXT,
  held_at    INTEGER,
  held_why   TEXT,
  expired_at INTEGER,
  PRIMARY KEY (row_id, recipient)
) WITHOUT ROWID;
CREATE TRIGGER outbox_receipts_delete AFTER DELETE ON outbox BEGIN
  DELETE FROM receipt WHERE row_id = old.id;
END;
