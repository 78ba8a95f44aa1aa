-- What a mesh keeps beside the mail that waits, so that it can be bounded: the bytes of what its members share, and how many
-- messages every recipient has. Kept by triggers, as `waiting` is.
CREATE TABLE kept (
  mesh_id TEXT PRIMARY KEY,
  bytes   INTEGER NOT NULL DEFAULT 0,
  settled INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE VIEW shared_row (mesh_id, bytes) AS
  SELECT mesh_id, 256 + length(CAST(value AS BLOB)) + length(CAST(key AS BLOB)) FROM state
  UNION ALL SELECT mesh_id, 256 + length(CAST(content AS BLOB)) + length(CAST(tags AS BLOB)) FROM memory
  UNION ALL SELECT mesh_id, 256 + length(CAST(description AS BLOB)) + length(CAST(instructions AS BLOB))
                     + length(CAST(tags AS BLOB)) + coalesce(length(CAST(manifest AS BLOB)), 0) FROM skill
  UNION ALL SELECT mesh_id, 256 + length(CAST(title AS BLOB)) + length(CAST(tags AS BLOB))
                     + coalesce(length(CAST(result AS BLOB)), 0) FROM task
  UNION ALL SELECT (SELECT mesh_id FROM topic WHERE topic.id = topic_id), 256 + length(nonce) + length(ciphertext) FROM topic_message;
INSERT INTO kept (mesh_id, bytes, settled)
  SELECT mesh_id, sum(bytes), sum(settled) FROM (
    SELECT mesh_id, bytes, 0 AS settled FROM shared_row
    UNION ALL SELECT mesh_id, 0, count(*) FROM message WHERE waiting = 0 GROUP BY mesh_id
  ) WHERE mesh_id IS NOT NULL GROUP BY mesh_id;
DROP VIEW shared_row;

CREATE TRIGGER state_insert AFTER INSERT ON state BEGIN
  INSERT INTO kept (mesh_id, bytes) VALUES (new.mesh_id, 256 + length(CAST(new.value AS BLOB)) + length(CAST(new.key AS BLOB)))
    ON CONFLICT (mesh_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER state_update AFTER UPDATE OF value ON state BEGIN
  UPDATE kept SET bytes = bytes + length(CAST(new.value AS BLOB)) - length(CAST(old.value AS BLOB)) WHERE mesh_id = new.mesh_id;
END;
CREATE TRIGGER state_delete AFTER DELETE ON state BEGIN
  UPDATE kept SET bytes = bytes - 256 - length(CAST(old.value AS BLOB)) - length(CAST(old.key AS BLOB)) WHERE mesh_id = old.mesh_id;
END;
CREATE TRIGGER memory_kept AFTER INSERT ON memory BEGIN
  INSERT INTO kept (mesh_id, bytes) VALUES (new.mesh_id, 256 + length(CAST(new.content AS BLOB)) + length(CAST(new.tags AS BLOB)))
    ON CONFLICT (mesh_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER memory_gone AFTER DELETE ON memory BEGIN
  UPDATE kept SET bytes = bytes - 256 - length(CAST(old.content AS BLOB)) - length(CAST(old.tags AS BLOB)) WHERE mesh_id = old.mesh_id;
END;
CREATE TRIGGER skill_insert AFTER INSERT ON skill BEGIN
  INSERT INTO kept (mesh_id, bytes) VALUES (new.mesh_id, 256 + length(CAST(new.description AS BLOB))
      + length(CAST(new.instructions AS BLOB)) + length(CAST(new.tags AS BLOB)) + coalesce(length(CAST(new.manifest AS BLOB)), 0))
    ON CONFLICT (mesh_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER skill_update AFTER UPDATE ON skill BEGIN
  UPDATE kept SET bytes = bytes
      + length(CAST(new.description AS BLOB)) - length(CAST(old.description AS BLOB))
      + length(CAST(new.instructions AS BLOB)) - length(CAST(old.instructions AS BLOB))
      + length(CAST(new.tags AS BLOB)) - length(CAST(old.tags AS BLOB))
      + coalesce(length(CAST(new.manifest AS BLOB)), 0) - coalesce(length(CAST(old.manifest AS BLOB)), 0)
    WHERE mesh_id = new.mesh_id;
END;
CREATE TRIGGER skill_delete AFTER DELETE ON skill BEGIN
  UPDATE kept SET bytes = bytes - 256 - length(CAST(old.description AS BLOB)) - length(CAST(old.instructions AS BLOB))
      - length(CAST(old.tags AS BLOB)) - coalesce(length(CAST(old.manifest AS BLOB)), 0)
    WHERE mesh_id = old.mesh_id;
END;
CREATE TRIGGER task_insert AFTER INSERT ON task BEGIN
  INSERT INTO kept (mesh_id, bytes) VALUES (new.mesh_id, 256 + length(CAST(new.title AS BLOB)) + length(CAST(new.tags AS BLOB)))
    ON CONFLICT (mesh_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER task_update AFTER UPDATE OF result ON task BEGIN
  UPDATE kept SET bytes = bytes + coalesce(length(CAST(new.result AS BLOB)), 0) - coalesce(length(CAST(old.result AS BLOB)), 0)
    WHERE mesh_id = new.mesh_id;
END;
CREATE TRIGGER task_delete AFTER DELETE ON task BEGIN
  UPDATE kept SET bytes = bytes - 256 - length(CAST(old.title AS BLOB)) - length(CAST(old.tags AS BLOB))
      - coalesce(length(CAST(old.result AS BLOB)), 0)
    WHERE mesh_id = old.mesh_id;
END;
CREATE TRIGGER topic_message_insert AFTER INSERT ON topic_message BEGIN
  INSERT INTO kept (mesh_id, bytes)
    VALUES ((SELECT mesh_id FROM topic WHERE id = new.topic_id), 256 + length(new.nonce) + length(new.ciphertext))
    ON CONFLICT (mesh_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER topic_message_delete AFTER DELETE ON topic_message BEGIN
  UPDATE kept SET bytes = bytes - 256 - length(old.nonce) - length(old.ciphertext)
    WHERE mesh_id = (SELECT mesh_id FROM topic WHERE id = old.topic_id);
END;

-- Messages that every recipient has, the oldest first: the ones to forget.
CREATE INDEX message_settled ON message (mesh_id, seq) WHERE waiting = 0;
CREATE TRIGGER message_settled_insert AFTER INSERT ON message WHEN new.waiting = 0 BEGIN
  INSERT INTO kept (mesh_id, settled) VALUES (new.mesh_id, 1) ON CONFLICT (mesh_id) DO UPDATE SET settled = settled + 1;
END;
CREATE TRIGGER message_settled_update AFTER UPDATE OF waiting ON message WHEN new.waiting = 0 AND old.waiting <> 0 BEGIN
  INSERT INTO kept (mesh_id, settled) VALUES (new.mesh_id, 1) ON CONFLICT (mesh_id) DO UPDATE SET settled = settled + 1;
END;
CREATE TRIGGER message_settled_delete AFTER DELETE ON message WHEN old.waiting = 0 BEGIN
  UPDATE kept SET settled = settled - 1 WHERE mesh_id = old.mesh_id;
END;
ALTER TABLE policy ADD COLUMN kept_bytes INTEGER NOT NULL DEFAULT 0;

-- What could not be sent when its time came, and why; it is not tried again, and shown until it is cancelled or old.
ALTER TABLE scheduled ADD COLUMN error TEXT;
ALTER TABLE scheduled ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
DROP INDEX scheduled_due;
CREATE INDEX scheduled_due ON scheduled (deliver_at) WHERE failed = 0;
