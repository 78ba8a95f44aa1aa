-- Each mesh has its row in `kept` from the start: what counts settled messages is then an UPDATE, in which nothing can fail. For
-- one that may, SQLite keeps aside every page that the statement changes.
DROP TRIGGER message_settled_insert;
DROP TRIGGER message_settled_update;
INSERT OR IGNORE INTO kept (mesh_id) SELECT id FROM mesh;
CREATE TRIGGER mesh_kept AFTER INSERT ON mesh BEGIN
  INSERT INTO kept (mesh_id) VALUES (new.id) ON CONFLICT (mesh_id) DO NOTHING;
END;
CREATE TRIGGER message_settled_insert AFTER INSERT ON message WHEN new.waiting = 0 BEGIN
  UPDATE kept SET settled = settled + 1 WHERE mesh_id = new.mesh_id;
END;
CREATE TRIGGER message_settled_update AFTER UPDATE OF waiting ON message WHEN new.waiting = 0 AND old.waiting <> 0 BEGIN
  UPDATE kept SET settled = settled + 1 WHERE mesh_id = new.mesh_id;
END;
