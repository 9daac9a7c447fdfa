/* The kinds of windows there are; core/windows/window.c lists them. */
#ifndef DOVETAIL_WINDOWS_KINDS_H
#define DOVETAIL_WINDOWS_KINDS_H

#include "core/windows/window.h"

extern const struct window_kind window_tumbling;
extern const struct window_kind window_calendar;
extern const struct window_kind window_hopping;
extern const struct window_kind window_session;
extern const struct window_kind window_none;

/* Widths of windows stay below this, so that starts and ends are times that PostgreSQL holds. */
#define WINDOW_MAX_US (INT64_C(365000) * 86400000000)

/* The greatest multiple of `step_us` since the Unix epoch that is not above `time_us`. */
int64_t window_floor(int64_t time_us, int64_t step_us);

/* Start and end of a window that is named by its start; for kinds whose group is a window. */
void window_bounds_of_pane(const struct view *view, const struct group *group, int64_t *start_us,
                           int64_t *end_us);

/* "1d", "2w", "3mo" or "1y": days with their origin, or months. False: none of these. */
bool calendar_parse_size(const char *text, struct window *out);
/* True where every calendar window of `coarse` is a union of calendar windows of `fine`. */
bool calendar_is_rollup(const struct window *fine, const struct window *coarse);

#endif
