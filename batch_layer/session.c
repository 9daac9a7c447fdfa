/* The session of a batch process: see session.h. Main thread only. */
#include "batch_layer/session.h"

#include "core/archive/batch_lock.h"
#include "core/program/program.h"

enum { IMPORT_POLL_MS = 500 };

/* In the middle of a long statement the server would notice our death only at its end, and keep the
 * lock until then. Not every platform has it. */
static void watch_connection(struct postgres *postgres)
{
    struct error ignored;
    (void)!postgres_execute(postgres, "SET client_connection_check_interval = '1s'", &ignored);
}

enum status session_lock_import(struct postgres *postgres, const char *source, struct error *error)
{
    watch_connection(postgres);
    for (bool told = false;; told = true) {
        bool locked;
        enum status status = batch_lock_try_import(postgres, source, &locked, error);
        if (status != STATUS_OK || locked)
            return status;
        if (!told)
            program_log(LOG_INFO, "another import of source %s is at work: waiting", source);
        if (program_wait_ms(IMPORT_POLL_MS))
            return error_set(error, STATUS_RETRY, "stopped");
    }
}

enum status session_open(const struct config *config, bool schedules, struct postgres **out,
                         struct error *error)
{
    *out = NULL;
    struct postgres *postgres = NULL;
    enum status status = postgres_connect(config->postgres, "dovetail-batch", &postgres, error);
    if (status != STATUS_OK)
        return status;
    watch_connection(postgres);
    if (schedules)
        status = batch_lock_take_schedule(postgres, error);
    if (status == STATUS_OK)
        status = batch_lock_take(postgres, error);
    if (status == STATUS_OK)
        *out = postgres;
    else
        postgres_close(postgres);
    return status;
}

enum status session_listen(struct postgres *postgres, struct error *error)
{
    return postgres_execute(postgres, "LISTEN dovetail_batch", error);
}

enum status session_is_wanted(struct postgres *postgres, bool *wanted, struct error *error)
{
    return postgres_poll_notification(postgres, "dovetail_batch", wanted, error);
}
