/* Texts of times and intervals, as far as PostgreSQL and ISO 8601 read them alike. */
#ifndef DOVETAIL_TIME_TEXT_H
#define DOVETAIL_TIME_TEXT_H

#include "core/expressions/expression_node.h"

enum time_text {
    TIME_TEXT_OK,
    TIME_TEXT_NO_SUCH_TIME,   /* PostgreSQL refuses it, too: 2001-02-30 */
    TIME_TEXT_NO_SUCH_OFFSET, /* 16 hours or more */
    TIME_TEXT_OUT_OF_RANGE,   /* beyond the years 0001 to 9999 */
    TIME_TEXT_UNKNOWN_FORM,   /* which PostgreSQL may know: refused here */
};

/* YYYY-MM-DD, and behind T or a space hh:mm[:ss[.ffffff]] and Z, ±hh, ±hhmm, ±hh:mm or nothing,
 * which is UTC. 24:00:00 and second 60 run over; what is finer than a microsecond is rounded, as
 * PostgreSQL does. */
enum time_text time_text_parse(const char *text, size_t length, int64_t *us) MUST_CHECK;

/* "1 day -02:30:00", "3 months 2 weeks": whole numbers with a unit, each unit at most once, and
 * hh:mm[:ss[.ffffff]]; or a whole number alone, with `unit` from behind the literal. Each part at
 * most 200 years. */
bool time_text_parse_interval(const char *text, size_t length, const char *unit,
                              struct interval *out) MUST_CHECK;

/* The microseconds by which PostgreSQL compares intervals. */
int64_t interval_span_us(const struct interval *interval);

#endif
