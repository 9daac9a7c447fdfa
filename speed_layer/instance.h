/* The instance: this process's static membership in the consumer group.
 *
 * Kafka gives a member that comes back under the same instance name its partitions at once, without
 * waiting for a session time-out. So the name must be the same after a crash and never shared by
 * two processes: it is a free slot of this host, a slot being a PostgreSQL advisory lock that lives
 * with a session, which a crash ends; of the free ones the first that owns partitions, which
 * somebody left without saying so, or else the first. A session can end without its process, and
 * then somebody else may take the slot: exactness does not depend on the name, and ownership.c
 * finds another one. Main thread only. */
#ifndef DOVETAIL_SPEED_INSTANCE_H
#define DOVETAIL_SPEED_INSTANCE_H

#include "core/postgres/postgres.h"

enum { INSTANCE_SLOTS = 256, INSTANCE_NAME_BYTES = 200 };

struct instance {
    char name[INSTANCE_NAME_BYTES]; /* Kafka's group.instance.id */
    char lock[512];                 /* what the lock's number is a hash of */
    int slot;                       /* -1: named by the operator */
};

/* Takes a free slot of this host in `group`, or, where `name` is not NULL, that name.
 * STATUS_REJECT: the name, or every slot, is taken. The lock lasts as long as the session. */
enum status instance_take(struct postgres *postgres, const char *group, const char *name,
                          struct instance *out, struct error *error) MUST_CHECK;

/* Takes the same instance in a new session. STATUS_REJECT: another process was faster. */
enum status instance_take_again(struct postgres *postgres, const struct instance *instance,
                                struct error *error) MUST_CHECK;

/* Takes another free slot of this host than `instance` has, whose name somebody else uses. */
enum status instance_take_other(struct postgres *postgres, const struct instance *instance,
                                struct instance *out, struct error *error) MUST_CHECK;

#endif
