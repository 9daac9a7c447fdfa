/* Tumbling windows of one length, aligned to the Unix epoch. */
#include <inttypes.h>

#include "core/windows/kinds.h"

static int64_t tumbling_start(const struct window *window, int64_t time_us)
{
    return window_floor(time_us, window->size_us);
}

static int64_t tumbling_end(const struct window *window, int64_t start_us)
{
    return start_us + window->size_us;
}

/* Microseconds only, no days: the sum does not depend on the reader's time zone. */
static void tumbling_put_end(const struct window *window, FILE *out)
{
    fprintf(out, "u.window_start + interval '%" PRId64 " microseconds'", window->size_us);
}

const struct window_kind window_tumbling = {
    .type = WINDOW_TUMBLING,
    .pane_start = tumbling_start,
    .pane_end = tumbling_end,
    .bounds = window_bounds_of_pane,
    .sql_group = "u.window_start",
    .sql_start = "u.window_start",
    .put_end = tumbling_put_end,
};
