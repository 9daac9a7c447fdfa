/* Taking an instance's slot: see instance.h. */
#include "speed_layer/instance.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/program/program.h"

enum {
    HOST_BYTES = 128,
    PASSES = 4, /* over the slots a killed process may hold for a moment yet */
    PASS_WAIT_MS = 100,
};

/* The two-number locks are a space of their own, and ours are alone in it but for other programs'
 * in the same database: a collision costs a slot number, never correctness. */
static enum status try_lock(struct postgres *postgres, const char *lock, int slot, bool *locked,
                            struct error *error)
{
    char number[16];
    snprintf(number, sizeof number, "%d", slot);
    const char *parameters[] = {lock, number};
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres, "SELECT pg_try_advisory_lock(hashtext($1), $2::integer)", 2,
                       parameters, &result, error);
    *locked = status == STATUS_OK && postgres_bool(result, 0, 0);
    PQclear(result);
    return status;
}

/* Kafka takes letters, digits, '.', '_' and '-'. */
static void read_host(char *host, size_t size)
{
    if (gethostname(host, size) != 0)
        snprintf(host, size, "localhost");
    host[size - 1] = '\0';
    for (char *at = host; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && strchr("._-", *at) == NULL)
            *at = '-';
}

static enum status take_named(struct postgres *postgres, struct instance *instance,
                              struct error *error)
{
    bool locked = false;
    for (int pass = 0; pass < PASSES; pass++) {
        if (pass > 0 && program_wait_ms(PASS_WAIT_MS))
            break;
        enum status status = try_lock(postgres, instance->lock, instance->slot, &locked, error);
        if (status != STATUS_OK || locked)
            return status;
    }
    return error_set(error, STATUS_REJECT, "another process runs as instance \"%s\"",
                     instance->name);
}

/* Takes the first free slot that `wanted` says; locked is false where there is none. */
static enum status try_slots(struct postgres *postgres, struct instance *instance,
                             const bool *wanted, bool *locked, struct error *error)
{
    *locked = false;
    for (int slot = 0; slot < INSTANCE_SLOTS && !*locked; slot++) {
        if (!wanted[slot])
            continue;
        enum status status = try_lock(postgres, instance->lock, slot, locked, error);
        if (status != STATUS_OK)
            return status;
        instance->slot = slot;
    }
    return STATUS_OK;
}

/* Which slots' names own partitions. An owner is a name, '/' and a number. */
static enum status find_owners(struct postgres *postgres, const char *host, bool *owning,
                               bool *found, struct error *error)
{
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "SELECT DISTINCT split_part(owner, '/', 1) FROM dovetail_internal.position "
                       "WHERE owner IS NOT NULL",
                       0, NULL, &result, error);
    size_t length = strlen(host);
    *found = false;
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        const char *name = PQgetvalue(result, row, 0);
        int slot, end = 0;
        if (strncmp(name, host, length) != 0 || sscanf(name + length, "-%3d%n", &slot, &end) != 1 ||
            name[length + (size_t)end] != '\0' || slot < 0 || slot >= INSTANCE_SLOTS)
            continue;
        owning[slot] = *found = true;
    }
    PQclear(result);
    return status;
}

static enum status name_slot(struct instance *instance, bool locked, struct error *error)
{
    char host[HOST_BYTES];
    read_host(host, sizeof host);
    snprintf(instance->name, sizeof instance->name, "%s-%d", host, instance->slot);
    if (locked)
        return STATUS_OK;
    return error_set(error, STATUS_REJECT, "all %d instance slots of host %s are taken",
                     INSTANCE_SLOTS, host);
}

enum status instance_take(struct postgres *postgres, const char *group, const char *name,
                          struct instance *out, struct error *error)
{
    *out = (struct instance){.slot = -1};
    if (name != NULL) {
        snprintf(out->lock, sizeof out->lock, "%s instance %s", group, name);
        snprintf(out->name, sizeof out->name, "%s", name);
        return take_named(postgres, out, error);
    }
    char host[HOST_BYTES];
    read_host(host, sizeof host);
    snprintf(out->lock, sizeof out->lock, "%s host %s", group, host);
    bool owning[INSTANCE_SLOTS] = {false};
    bool all[INSTANCE_SLOTS];
    bool found;
    bool locked = false;
    memset(all, true, sizeof all);
    /* A name that owns partitions and has no session is that of somebody who was killed: the group
     * gives its partitions to whoever has the name, and to others only after the session time-out.
     * The server needs a moment to notice that a killed process's session is gone. */
    enum status status = find_owners(postgres, host, owning, &found, error);
    for (int pass = 0; status == STATUS_OK && found && !locked && pass < PASSES; pass++) {
        if (pass > 0 && program_wait_ms(PASS_WAIT_MS))
            break;
        status = try_slots(postgres, out, owning, &locked, error);
    }
    if (status == STATUS_OK && !locked)
        status = try_slots(postgres, out, all, &locked, error);
    if (status != STATUS_OK)
        return status;
    return name_slot(out, locked, error);
}

enum status instance_take_other(struct postgres *postgres, const struct instance *instance,
                                struct instance *out, struct error *error)
{
    *out = *instance;
    bool others[INSTANCE_SLOTS];
    bool locked = false;
    memset(others, true, sizeof others);
    others[instance->slot] = false;
    enum status status = try_slots(postgres, out, others, &locked, error);
    return status == STATUS_OK ? name_slot(out, locked, error) : status;
}

enum status instance_take_again(struct postgres *postgres, const struct instance *instance,
                                struct error *error)
{
    struct instance copy = *instance;
    return take_named(postgres, &copy, error);
}
