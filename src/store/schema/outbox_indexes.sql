-- What keeps the cost of the outbox flat however many finished rows it holds. Run once every column is there.

-- Waiting rows by link and recipient, oldest first: an index entry ends with the rowid.
CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (mesh, sender_session_pubkey, target_spec) WHERE status = 'pending';
CREATE INDEX IF NOT EXISTS outbox_flying ON outbox (mesh, sender_session_pubkey, next_attempt_at) WHERE status = 'inflight';
CREATE INDEX IF NOT EXISTS outbox_age ON outbox (status, enqueued_at);

-- How many rows are in each status, so that nobody counts them one by one.
CREATE TABLE IF NOT EXISTS outbox_counts (status TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
DELETE FROM outbox_counts;
INSERT INTO outbox_counts VALUES ('pending', 0), ('inflight', 0), ('done', 0), ('dead', 0), ('aborted', 0);
UPDATE outbox_counts SET n = (SELECT count(*) FROM outbox WHERE outbox.status = outbox_counts.status);

CREATE TRIGGER IF NOT EXISTS outbox_counts_insert AFTER INSERT ON outbox BEGIN
  UPDATE outbox_counts SET n = n + 1 WHERE status = new.status;
END;
CREATE TRIGGER IF NOT EXISTS outbox_counts_delete AFTER DELETE ON outbox BEGIN
  UPDATE outbox_counts SET n = n - 1 WHERE status = old.status;
END;
CREATE TRIGGER IF NOT EXISTS outbox_counts_update AFTER UPDATE OF status ON outbox WHEN old.status <> new.status BEGIN
  UPDATE outbox_counts SET n = n - 1 WHERE status = old.status;
  UPDATE outbox_counts SET n = n + 1 WHERE status = new.status;
END;
