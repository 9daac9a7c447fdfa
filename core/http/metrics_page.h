/* A page of metrics of its own, GET /metrics, for a process that serves nothing else.
 *
 * The process writes the text when it likes, its newest one is told; so nothing of the process is
 * read by another thread, and a process that hangs has a page that stands still, which
 * dovetail_metrics_timestamp_seconds shows. */
#ifndef DOVETAIL_METRICS_PAGE_H
#define DOVETAIL_METRICS_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "core/base/error.h"

struct metrics_page;

/* `listen` NULL: *out is NULL, and the functions below do nothing. `key` names the option that it
 * is from. Unless `anywhere`, an address that is not loopback is refused: STATUS_REJECT. */
enum status metrics_page_start(const char *listen, const char *key, bool anywhere,
                               struct metrics_page **out, struct error *error) MUST_CHECK;
void metrics_page_destroy(struct metrics_page *page); /* accepts NULL */

/* A new text is begun, and told with metrics_page_end. NULL: there is no page, or no memory. */
FILE *metrics_page_begin(struct metrics_page *page) MUST_CHECK;
void metrics_page_end(struct metrics_page *page);

#endif
