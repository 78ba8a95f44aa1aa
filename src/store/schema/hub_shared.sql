-- What the members of a mesh share: values by key, remembered texts, skills.

CREATE TABLE state (
  mesh_id    TEXT NOT NULL,
  key        TEXT NOT NULL,
  value      TEXT NOT NULL,
  updated_by TEXT NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (mesh_id, key)
) WITHOUT ROWID;

CREATE TABLE memory (
  n             INTEGER PRIMARY KEY AUTOINCREMENT,
  id            TEXT NOT NULL UNIQUE,
  mesh_id       TEXT NOT NULL,
  content       TEXT NOT NULL,
  tags          TEXT NOT NULL,
  member_id     TEXT NOT NULL,
  remembered_by TEXT NOT NULL,
  remembered_at INTEGER NOT NULL
);
CREATE INDEX memory_mesh ON memory (mesh_id, n);
CREATE VIRTUAL TABLE memory_text USING fts5 (content, tags, content = 'memory', content_rowid = 'n', tokenize = 'porter unicode61');
CREATE TRIGGER memory_insert AFTER INSERT ON memory BEGIN
  INSERT INTO memory_text (rowid, content, tags) VALUES (new.n, new.content, new.tags);
END;
CREATE TRIGGER memory_delete AFTER DELETE ON memory BEGIN
  INSERT INTO memory_text (memory_text, rowid, content, tags) VALUES ('delete', old.n, old.content, old.tags);
END;

CREATE TABLE skill (
  mesh_id      TEXT NOT NULL,
  name         TEXT NOT NULL,
  description  TEXT NOT NULL,
  instructions TEXT NOT NULL,
  tags         TEXT NOT NULL,
  manifest     TEXT,
  member_id    TEXT NOT NULL,
  author       TEXT NOT NULL,
  created_at   INTEGER NOT NULL,
  PRIMARY KEY (mesh_id, name)
) WITHOUT ROWID;
