-- Which transaction retired a version. What the version leaves behind is dropped once no snapshot is older.

SET LOCAL search_path = dovetail_internal;

ALTER TABLE view_version ADD COLUMN retired_by xid8;
UPDATE view_version SET retired_by = pg_current_xact_id() WHERE state = 'retired';
