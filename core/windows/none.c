/* No windows: all of time is one, without start and end, and never closed. It is stored as a pane
 * that starts at the Unix epoch. */
#include "core/windows/kinds.h"

static int64_t none_start(const struct window *window, int64_t time_us)
{
    (void)window, (void)time_us;
    return 0;
}

static int64_t none_end(const struct window *window, int64_t start_us)
{
    (void)window, (void)start_us;
    return INT64_MAX;
}

static void none_bounds(const struct view *view, const struct group *group, int64_t *start_us,
                        int64_t *end_us)
{
    (void)view, (void)group;
    *start_us = *end_us = 0;
}

static void none_put_end(const struct window *window, FILE *out)
{
    (void)window;
    fputs("NULL::timestamptz", out);
}

const struct window_kind window_none = {
    .type = WINDOW_NONE,
    .is_timeless = true,
    .pane_start = none_start,
    .pane_end = none_end,
    .bounds = none_bounds,
    .sql_group = "u.window_start",
    .sql_start = "NULL::timestamptz",
    .put_end = none_put_end,
};
