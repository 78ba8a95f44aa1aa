-- Who may join. The token is what the reference's links carry; the code is the short form of it.

CREATE TABLE invite (
  id         TEXT PRIMARY KEY,
  mesh_id    TEXT NOT NULL REFERENCES mesh (id),
  code       TEXT NOT NULL UNIQUE,
  token      TEXT NOT NULL UNIQUE,
  role       TEXT NOT NULL CHECK (role IN ('admin', 'member')),
  created_by TEXT NOT NULL REFERENCES member (id),
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  uses       INTEGER NOT NULL,
  used       INTEGER NOT NULL DEFAULT 0,
  revoked_at INTEGER
) WITHOUT ROWID;
CREATE INDEX invite_mesh ON invite (mesh_id, created_at);
