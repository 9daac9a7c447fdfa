/* Windows: which windows an event time falls into.
 *
 * A window is the half-open range [start, end) of event time, named by its start. One kind is one
 * entry in the table in window.c. Pure; any thread. */
#ifndef DOVETAIL_WINDOW_H
#define DOVETAIL_WINDOW_H

#include <jansson.h>
#include <stdint.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum window_kind { WINDOW_TUMBLING };

struct window {
    enum window_kind kind;
    int64_t size_us;
};

/* From a definition's "window" member. Errors name the key below "window". */
enum status window_from_json(const json_t *json, struct window *out, struct error *error) MUST_CHECK;

/* Start of the window that holds `time_us`; tumbling windows align to the Unix epoch. */
int64_t window_start(const struct window *window, int64_t time_us);
int64_t window_end(const struct window *window, int64_t start_us);

/* True where windows of `coarse` are unions of windows of `fine`, so that a roll-up is exact. */
bool window_is_rollup(const struct window *fine, const struct window *coarse);

#ifdef __cplusplus
}
#endif
#endif
