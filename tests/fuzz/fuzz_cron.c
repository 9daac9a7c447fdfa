/* Cron expressions: refused, or the next minute is one that the fields have, and none before it is.
 *
 * Input: 8 bytes of a time, then the expression. */
#include "tests/fuzz/fuzz.h"

#include <inttypes.h>

#include "core/time/cron.h"
#include "core/time/timestamp.h"

enum { MINUTES_BEFORE = 1500, TIMES = 3 };

static const int64_t minute_us = 60 * TIMESTAMP_US_PER_SECOND;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return 0;
}

static bool has(uint64_t bits, int64_t number)
{
    return (bits >> number & 1) != 0;
}

static bool matches(const struct cron *cron, int64_t us)
{
    int64_t days = us / TIMESTAMP_US_PER_DAY, into = us % TIMESTAMP_US_PER_DAY;
    if (into < 0) {
        into += TIMESTAMP_US_PER_DAY;
        days--;
    }
    struct timestamp_date date = timestamp_date_from_days(days);
    bool day = has(cron->days, date.day);
    bool weekday = has(cron->weekdays, ((days + 4) % 7 + 7) % 7); /* 1970 began on a Thursday */
    return has(cron->minutes, into / minute_us % 60) && has(cron->hours, into / minute_us / 60) &&
           has(cron->months, date.month) && (cron->both_days ? day && weekday : day || weekday);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    struct cron cron;
    struct error error = {0};
    uint64_t span = (uint64_t)(TIMESTAMP_END_US - TIMESTAMP_MIN_US);
    int64_t after = TIMESTAMP_MIN_US + (int64_t)(fuzz_number(&input, 8) % span), next;
    char *text = fuzz_rest(&input);
    enum status status = cron_parse(text, &cron, &error);
    if (status != STATUS_OK)
        fuzz_check_refusal(status, &error);
    for (int i = 0; status == STATUS_OK && i < TIMES && cron_next(&cron, after, &next); i++) {
        FUZZ_CHECK(next > after && next % minute_us == 0, "%" PRId64 " after %" PRId64, next,
                   after);
        FUZZ_CHECK(matches(&cron, next), "%" PRId64 " does not match %s", next, text);
        int64_t earlier = next - minute_us;
        for (int m = 0; m < MINUTES_BEFORE && earlier > after; m++, earlier -= minute_us)
            FUZZ_CHECK(!matches(&cron, earlier), "%" PRId64 " matches %s, too", earlier, text);
        after = next;
    }
    free(text);
    return 0;
}
