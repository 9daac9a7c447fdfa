-- What a later release may bring along: tests/faults/test_upgrade.c.

ALTER TABLE dovetail_internal.position ADD COLUMN next_release integer;
