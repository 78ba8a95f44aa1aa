-- How much waits, by recipient and (recipient '') by mesh: kept by triggers, so that whoever adds or takes a copy need not
-- think of it. `full`: refused since the limit was met, until there is room again.
ALTER TABLE delivery ADD COLUMN weight INTEGER NOT NULL DEFAULT 0;
UPDATE delivery SET weight = 256 + coalesce((SELECT length(nonce) + length(ciphertext) FROM message WHERE message.seq = delivery.seq), 0);
CREATE TABLE waiting (
  mesh_id   TEXT NOT NULL,
  recipient TEXT NOT NULL,
  copies    INTEGER NOT NULL,
  bytes     INTEGER NOT NULL,
  full      INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (mesh_id, recipient)
) WITHOUT ROWID;
INSERT INTO waiting (mesh_id, recipient, copies, bytes)
  SELECT mesh_id, recipient, count(*), sum(weight) FROM delivery GROUP BY mesh_id, recipient
  UNION ALL SELECT mesh_id, '', count(*), sum(weight) FROM delivery GROUP BY mesh_id;
CREATE TRIGGER delivery_insert AFTER INSERT ON delivery BEGIN
  INSERT INTO waiting (mesh_id, recipient, copies, bytes)
    VALUES (new.mesh_id, new.recipient, 1, new.weight), (new.mesh_id, '', 1, new.weight)
    ON CONFLICT (mesh_id, recipient) DO UPDATE SET copies = copies + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER delivery_delete AFTER DELETE ON delivery BEGIN
  UPDATE waiting SET copies = copies - 1, bytes = bytes - old.weight
    WHERE mesh_id = old.mesh_id AND recipient IN (old.recipient, '');
END;

-- What the broker was started with; 0 is no limit.
CREATE TABLE policy (
  one             INTEGER PRIMARY KEY CHECK (one = 1),
  mesh_bytes      INTEGER NOT NULL,
  recipient_bytes INTEGER NOT NULL,
  meshes          INTEGER NOT NULL,
  audit_messages  INTEGER NOT NULL
);
INSERT INTO policy VALUES (1, 0, 0, 0, 0);

-- What happened in a mesh, each row's hash over the one before: a row that is changed or taken out breaks the chain.
CREATE TABLE audit (
  mesh_id    TEXT NOT NULL,
  n          INTEGER NOT NULL,
  event      TEXT NOT NULL,
  actor      TEXT,
  payload    TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  hash       TEXT NOT NULL,
  PRIMARY KEY (mesh_id, n)
) WITHOUT ROWID;

-- Where a chain begins whose oldest rows were removed in good order.
CREATE TABLE audit_anchor (
  mesh_id TEXT PRIMARY KEY,
  n       INTEGER NOT NULL,
  hash    TEXT NOT NULL
) WITHOUT ROWID;
