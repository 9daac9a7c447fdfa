/* The watermark: the greatest event time seen, but for those of broken clocks.
 *
 * An event time that lies more than a day ahead of the broker's time of the record must not make
 * every window look final, so it does not move the watermark. Pure. */
#ifndef DOVETAIL_WATERMARK_H
#define DOVETAIL_WATERMARK_H

#include <stdbool.h>
#include <stdint.h>

#define WATERMARK_NONE INT64_MIN

/* Moves *watermark_us, which is WATERMARK_NONE before the first event, for an event whose record
 * the broker has with the time record_ms (-1 = none). */
void watermark_note(int64_t *watermark_us, int64_t event_us, int64_t record_ms);

#endif
