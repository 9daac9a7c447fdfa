/* PostgreSQL's roles, one for each process: group roles without a login, PREFIX_owner, _speed,
 * _batch, _serving and _analytics, which a deployment's login roles are members of.
 *
 * Optional: a database whose schema belongs to a login role has none of this, and the functions
 * do nothing there. */
#ifndef DOVETAIL_CATALOG_ROLES_H
#define DOVETAIL_CATALOG_ROLES_H

#include "core/postgres/postgres.h"

/* Makes those of the roles that are missing, lets the connection's own role be one of the owners,
 * and lets the owners make schemas in this database. STATUS_REJECT where that role may not, with
 * what an administrator would have to run. Before the tables are migrated. */
enum status catalog_roles_create(struct postgres *postgres, const char *prefix,
                                 struct error *error) MUST_CHECK;

/* Hands everything in Dovetail's schemas over to PREFIX_owner, and grants each role what it needs,
 * of what is there and of what is made later. Safe to repeat. In a transaction of its own. */
enum status catalog_roles_grant(struct postgres *postgres, const char *prefix,
                                struct error *error) MUST_CHECK;

/* For the rest of the caller's transaction: acts as PREFIX_owner, where the schema is its, so that
 * what is made belongs to it whoever makes it. */
enum status catalog_roles_act_as_owner(struct postgres *postgres, struct error *error) MUST_CHECK;

/* Lets PREFIX_speed write the states of a version, in the transaction that makes its tables. */
enum status catalog_roles_grant_version(struct postgres *postgres, int version,
                                        struct error *error) MUST_CHECK;

#endif
