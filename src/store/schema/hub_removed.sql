-- Why a member has no part in the mesh any more: 'banned', or 'left' by itself. Only the first can be taken back by others.
ALTER TABLE member ADD COLUMN revoked_as TEXT;
UPDATE member SET revoked_as = 'banned' WHERE revoked_at IS NOT NULL;
