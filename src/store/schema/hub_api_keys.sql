-- Keys of scripts. The secret is not here: `hash` is its SHA-256 in hex, `prefix` the beginning by which a person knows it.
CREATE TABLE api_key (
  n            INTEGER PRIMARY KEY AUTOINCREMENT,
  id           TEXT NOT NULL UNIQUE,
  mesh_id      TEXT NOT NULL,
  member_id    TEXT NOT NULL REFERENCES member (id),
  label        TEXT NOT NULL,
  prefix       TEXT NOT NULL,
  hash         TEXT NOT NULL UNIQUE,
  capabilities TEXT NOT NULL,
  topic_scopes TEXT,
  created_at   INTEGER NOT NULL,
  last_used_at INTEGER,
  revoked_at   INTEGER,
  expires_at   INTEGER
);
CREATE INDEX api_key_mesh ON api_key (mesh_id, member_id);
