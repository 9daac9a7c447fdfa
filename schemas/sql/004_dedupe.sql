-- The deployment's secret: what the hashes of records' ids are keyed with (core/records/recent_ids.h), so that
-- producers cannot choose ids that collide. 192 bytes, as XXH3 wants.

ALTER TABLE dovetail_internal.deployment ADD COLUMN id_secret bytea;
UPDATE dovetail_internal.deployment SET id_secret =
    sha512(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
    || sha512(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
    || sha512(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
ALTER TABLE dovetail_internal.deployment ALTER COLUMN id_secret SET NOT NULL;
