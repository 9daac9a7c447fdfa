/* Taking an instance's slot: see instance.h. */
#include "speed_layer/instance.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/program.h"

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

/* Tries the first `count` slots of the host, without `avoided`. */
static enum status try_slots(struct postgres *postgres, struct instance *instance, int count,
                             int avoided, bool *locked, struct error *error)
{
    for (int slot = 0; slot < count && !*locked; slot++) {
        if (slot == avoided)
            continue;
        enum status status = try_lock(postgres, instance->lock, slot, locked, error);
        if (status != STATUS_OK)
            return status;
        instance->slot = slot;
    }
    return STATUS_OK;
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
    bool locked = false;
    /* The server needs a moment to notice that a killed process's session is gone. Its slot is
     * worth that moment: another one would wait for the dead member's session time-out. */
    for (int pass = 0; pass < PASSES && !locked; pass++) {
        int slots = pass + 1 < PASSES ? pass + 1 : INSTANCE_SLOTS;
        if (pass > 0 && program_wait_ms(PASS_WAIT_MS))
            break;
        enum status status = try_slots(postgres, out, slots, -1, &locked, error);
        if (status != STATUS_OK)
            return status;
    }
    return name_slot(out, locked, error);
}

enum status instance_take_other(struct postgres *postgres, const struct instance *instance,
                                struct instance *out, struct error *error)
{
    *out = *instance;
    bool locked = false;
    enum status status = try_slots(postgres, out, INSTANCE_SLOTS, instance->slot, &locked, error);
    return status == STATUS_OK ? name_slot(out, locked, error) : status;
}

enum status instance_take_again(struct postgres *postgres, const struct instance *instance,
                                struct error *error)
{
    struct instance copy = *instance;
    return take_named(postgres, &copy, error);
}
