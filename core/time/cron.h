/* Five-field cron expressions, in UTC: minute, hour, day of month, month, day of week.
 *
 * A field is "*" or a list of numbers and ranges "a-b"; "*" and ranges may have a step "/n". Months
 * and days of the week may be English names of three letters; Sunday is 0 and 7. Where neither day
 * field begins with "*", a day matches when either field does; otherwise when both do. This is what
 * Vixie cron does (crontab(5)). Pure functions; any thread. */
#ifndef DOVETAIL_CRON_H
#define DOVETAIL_CRON_H

#include <stdint.h>

#include "core/base/error.h"

struct cron {
    uint64_t minutes; /* bit i: minute i */
    uint64_t hours;
    uint64_t days; /* 1 to 31 */
    uint64_t months;
    uint64_t weekdays; /* 0 to 6, Sunday first */
    bool both_days;    /* a day must match both day fields, not one of them */
};

/* STATUS_REJECT names the field and what is wrong with it. */
enum status cron_parse(const char *text, struct cron *out, struct error *error) MUST_CHECK;

/* The first matching minute after `after_us` (microseconds since the Unix epoch). False where there
 * is none within 40 years, such as on February 30. */
bool cron_next(const struct cron *cron, int64_t after_us, int64_t *out_us) MUST_CHECK;

#endif
