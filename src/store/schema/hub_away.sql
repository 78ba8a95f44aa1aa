-- How a session went: what is for many is kept for one whose lease ran out, and not for one that said that it is over. Of
-- those that went before this was noted nobody knows. Who hides is hidden when it comes back.
ALTER TABLE session ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;
UPDATE session SET ended = 1 WHERE here = 0;

-- In which groups sessions are, so that a message to a group looks at nobody else.
CREATE TABLE session_group (
  mesh_id TEXT NOT NULL,
  name    TEXT NOT NULL,
  pubkey  TEXT NOT NULL,
  PRIMARY KEY (mesh_id, name, pubkey)
) WITHOUT ROWID;
CREATE INDEX session_group_session ON session_group (mesh_id, pubkey);
INSERT OR IGNORE INTO session_group (mesh_id, name, pubkey)
  SELECT session.mesh_id, json_extract(said.value, '$.name'), session.pubkey
    FROM session, json_each(session.about, '$.groups') AS said WHERE session.here = 1 AND session.about IS NOT NULL;
