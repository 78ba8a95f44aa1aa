-- Topics, what peers grant each other, who is kept out, what is to be sent later, and tasks.

CREATE TABLE topic (
  id          TEXT PRIMARY KEY,
  mesh_id     TEXT NOT NULL,
  name        TEXT NOT NULL,
  description TEXT,
  visibility  TEXT NOT NULL CHECK (visibility IN ('public', 'private', 'dm')),
  created_at  INTEGER NOT NULL,
  UNIQUE (mesh_id, name)
) WITHOUT ROWID;

CREATE TABLE topic_member (
  topic_id     TEXT NOT NULL REFERENCES topic (id),
  member_id    TEXT NOT NULL REFERENCES member (id),
  role         TEXT NOT NULL CHECK (role IN ('lead', 'member', 'observer')),
  joined_at    INTEGER NOT NULL,
  last_read_at INTEGER,
  PRIMARY KEY (topic_id, member_id)
) WITHOUT ROWID;

-- What was said, for those who look later; `id` is the message's own.
CREATE TABLE topic_message (
  seq              INTEGER PRIMARY KEY AUTOINCREMENT,
  topic_id         TEXT NOT NULL REFERENCES topic (id),
  id               TEXT NOT NULL UNIQUE,
  client_id        TEXT,
  sender_member_id TEXT NOT NULL,
  sender_pubkey    TEXT NOT NULL,
  sender_name      TEXT NOT NULL,
  nonce            TEXT NOT NULL,
  ciphertext       TEXT NOT NULL,
  reply_to_id      TEXT,
  mentions         TEXT NOT NULL,
  created_at       INTEGER NOT NULL
);
CREATE INDEX topic_message_topic ON topic_message (topic_id, seq);
CREATE INDEX topic_message_client ON topic_message (topic_id, client_id) WHERE client_id IS NOT NULL;

-- What a member allows another; without a row, what is allowed by default. `capabilities` is a JSON list.
CREATE TABLE peer_grant (
  mesh_id      TEXT NOT NULL,
  member_key   TEXT NOT NULL,
  peer_key     TEXT NOT NULL,
  capabilities TEXT NOT NULL,
  PRIMARY KEY (mesh_id, member_key, peer_key)
) WITHOUT ROWID;

CREATE TABLE kick (
  mesh_id TEXT NOT NULL,
  key     TEXT NOT NULL,
  until   INTEGER NOT NULL,
  PRIMARY KEY (mesh_id, key)
) WITHOUT ROWID;

CREATE TABLE scheduled (
  id            TEXT PRIMARY KEY,
  mesh_id       TEXT NOT NULL,
  member_id     TEXT NOT NULL REFERENCES member (id),
  sender_pubkey TEXT NOT NULL,
  sender_name   TEXT NOT NULL,
  target_spec   TEXT NOT NULL,
  nonce         TEXT NOT NULL,
  ciphertext    TEXT NOT NULL,
  subtype       TEXT,
  cron          TEXT,
  deliver_at    INTEGER NOT NULL,
  created_at    INTEGER NOT NULL,
  fired         INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX scheduled_due ON scheduled (deliver_at);
CREATE INDEX scheduled_member ON scheduled (member_id);

CREATE TABLE task (
  n              INTEGER PRIMARY KEY AUTOINCREMENT,
  id             TEXT NOT NULL UNIQUE,
  mesh_id        TEXT NOT NULL,
  title          TEXT NOT NULL,
  assignee       TEXT,
  claimed_by     TEXT,
  claimed_member TEXT,
  status         TEXT NOT NULL CHECK (status IN ('open', 'claimed', 'done')),
  priority       TEXT NOT NULL,
  created_by     TEXT NOT NULL,
  created_member TEXT NOT NULL,
  tags           TEXT NOT NULL,
  result         TEXT,
  created_at     INTEGER NOT NULL
);
CREATE INDEX task_mesh ON task (mesh_id, n);

-- What kind of message it is, where it is not somebody's word of the moment.
ALTER TABLE message ADD COLUMN subtype TEXT;
-- Whose a value is: what that member grants others is about its values.
ALTER TABLE state ADD COLUMN member_key TEXT;
