/* Moving the watermark: see core/time/watermark.h. */
#include "core/time/watermark.h"

#include "core/time/timestamp.h"

void watermark_note(int64_t *watermark_us, int64_t event_us, int64_t record_ms)
{
    const int64_t day_ms = TIMESTAMP_US_PER_DAY / 1000;
    if (event_us <= *watermark_us)
        return;
    /* In milliseconds, and only what cannot overflow is added: whatever times come, from whoever.
     */
    if (record_ms >= 0 && record_ms <= INT64_MAX - day_ms && event_us / 1000 > record_ms + day_ms)
        return;
    *watermark_us = event_us;
}
