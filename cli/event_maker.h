/* Plausible events of any source, by the types of its fields: what `dovetail generate` sends. Pure
 * but for memory: the same seed and the same times make the same events. One thread. */
#ifndef DOVETAIL_CLI_EVENT_MAKER_H
#define DOVETAIL_CLI_EVENT_MAKER_H

#include "core/records/event_parser.h"

struct event_maker_options {
    uint64_t seed;
    int64_t keys;             /* different values of each string field */
    int64_t lateness_us;      /* late events are up to this much behind */
    double late, bad, repeat; /* shares, 0 to 1 */
};

struct made_event {
    const char *text; /* good until the next call */
    size_t length;
    const struct event *event; /* as parsed; NULL of a bad one */
    bool is_late, is_bad, is_repeat;
};

struct event_maker;

/* `source` must outlive it. STATUS_REJECT: no record can be made that has all of its fields. */
enum status event_maker_create(const struct source *source,
                               const struct event_maker_options *options, struct event_maker **out,
                               struct error *error) MUST_CHECK;
void event_maker_destroy(struct event_maker *maker); /* accepts NULL */

/* The next event, at `now_us` or late. STATUS_REJECT: the source refuses what is made for it. */
enum status event_maker_next(struct event_maker *maker, int64_t now_us, struct made_event *out,
                             struct error *error) MUST_CHECK;

#endif
