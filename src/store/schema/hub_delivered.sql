-- Since when a recipient has had a message that was for many: what it was before this was noted nobody knows.
ALTER TABLE had ADD COLUMN at INTEGER;
