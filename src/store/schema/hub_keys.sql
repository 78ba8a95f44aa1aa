-- Keys that the members of a mesh ('*') or of a topic ('#id') share: which there have been, and a sealed copy of each for
-- each member. The keys themselves are never here.

-- `pending`: somebody has no copy yet. `closed`: somebody who has one is gone, or there is a later key. Triggers keep it
-- so, whoever adds or removes a member.
CREATE TABLE scope_epoch (
  mesh_id   TEXT NOT NULL,
  scope     TEXT NOT NULL,
  epoch     INTEGER NOT NULL,
  publisher TEXT NOT NULL,
  proof     TEXT NOT NULL,
  state     TEXT NOT NULL CHECK (state IN ('open', 'pending', 'closed')),
  PRIMARY KEY (mesh_id, scope, epoch)
) WITHOUT ROWID;
CREATE INDEX scope_epoch_in_use ON scope_epoch (mesh_id, scope) WHERE state <> 'closed';

-- Empty texts: nothing can be sealed to this member's key.
CREATE TABLE sealed_key (
  mesh_id       TEXT NOT NULL,
  scope         TEXT NOT NULL,
  epoch         INTEGER NOT NULL,
  member_id     TEXT NOT NULL,
  encrypted_key TEXT NOT NULL,
  nonce         TEXT NOT NULL,
  PRIMARY KEY (mesh_id, scope, epoch, member_id)
) WITHOUT ROWID;

CREATE TRIGGER member_added AFTER INSERT ON member BEGIN
  UPDATE scope_epoch SET state = 'pending' WHERE mesh_id = new.mesh_id AND scope = '*' AND state = 'open';
END;
CREATE TRIGGER member_shut_out AFTER UPDATE OF revoked_at ON member
  WHEN old.revoked_at IS NULL AND new.revoked_at IS NOT NULL BEGIN
  UPDATE scope_epoch SET state = 'closed'
   WHERE mesh_id = new.mesh_id AND state <> 'closed'
     AND (scope = '*' OR scope IN (SELECT '#' || topic_id FROM topic_member WHERE member_id = new.id));
END;
-- What was said while somebody was shut out stays closed to it.
CREATE TRIGGER member_let_in_again AFTER UPDATE OF revoked_at ON member
  WHEN old.revoked_at IS NOT NULL AND new.revoked_at IS NULL BEGIN
  UPDATE scope_epoch SET state = 'closed'
   WHERE mesh_id = new.mesh_id AND state <> 'closed'
     AND (scope = '*' OR scope IN (SELECT '#' || topic_id FROM topic_member WHERE member_id = new.id));
END;
CREATE TRIGGER topic_member_added AFTER INSERT ON topic_member BEGIN
  UPDATE scope_epoch SET state = 'pending'
   WHERE mesh_id = (SELECT mesh_id FROM topic WHERE id = new.topic_id) AND scope = '#' || new.topic_id AND state = 'open';
END;
CREATE TRIGGER topic_member_gone AFTER DELETE ON topic_member BEGIN
  UPDATE scope_epoch SET state = 'closed'
   WHERE mesh_id = (SELECT mesh_id FROM topic WHERE id = old.topic_id) AND scope = '#' || old.topic_id AND state <> 'closed';
END;

-- How a body to many is sealed, as JSON; nothing where it is in clear.
ALTER TABLE message ADD COLUMN seal TEXT;
ALTER TABLE topic_message ADD COLUMN seal TEXT;
ALTER TABLE topic_message ADD COLUMN body_version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE scheduled ADD COLUMN seal TEXT;
-- The sender's own id for what is sealed for many.
ALTER TABLE scheduled ADD COLUMN client_id TEXT;

-- Whether its client, when last seen, could open what is sealed for many; not known of those from before this was noted.
ALTER TABLE session ADD COLUMN opens INTEGER;
ALTER TABLE member ADD COLUMN opens INTEGER;
CREATE INDEX session_unable ON session (mesh_id) WHERE opens = 0;
CREATE INDEX member_unable ON member (mesh_id) WHERE opens = 0;
