-- Who had a place when the broker ended: what is for many reaches those who have not come back yet.
ALTER TABLE session ADD COLUMN about TEXT;
ALTER TABLE session ADD COLUMN here INTEGER NOT NULL DEFAULT 0;
CREATE INDEX session_here ON session (mesh_id) WHERE here = 1;
