/* `dovetail-batch schedule`: archives continuously and runs by the clock. */
#ifndef DOVETAIL_BATCH_SCHEDULE_H
#define DOVETAIL_BATCH_SCHEDULE_H

#include "core/time/cron.h"
#include "core/program/config.h"

/* Returns the exit code when the program is stopping. A failing run is logged and the next one is
 * tried; a missing Kafka or PostgreSQL is waited for. */
/* `full_cron`: when everything is recomputed, NULL: never. */
int schedule_run(const struct config *config, const struct cron *cron,
                 const struct cron *full_cron);

#endif
