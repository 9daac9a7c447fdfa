/* Evaluators of times that have their own syntax; the functions are in the table. */
#ifndef DOVETAIL_TIMES_H
#define DOVETAIL_TIMES_H

#include "core/functions/functions.h"

enum time_unit {
    UNIT_MICROSECOND,
    UNIT_MILLISECOND,
    UNIT_SECOND,
    UNIT_MINUTE,
    UNIT_HOUR,
    UNIT_DAY,
    UNIT_WEEK,
    UNIT_MONTH,
    UNIT_QUARTER,
    UNIT_YEAR,
    UNIT_DECADE,
    UNIT_CENTURY,
    UNIT_MILLENNIUM, /* up to here date_trunc knows them */
    UNIT_DOW,
    UNIT_ISODOW,
    UNIT_DOY,
    UNIT_ISOYEAR,
    UNIT_EPOCH,
};

/* False for a word that names none. */
bool time_unit_from_name(const char *name, size_t length, enum time_unit *out);
/* Whether EXTRACT takes it from an interval. */
bool time_unit_is_of_interval(enum time_unit unit);

/* timestamp ± node->interval; timestamp ± difference of timestamps; timestamp - timestamp. */
expression_function time_add_interval, time_add_difference, time_subtract;
/* The span of an interval literal. */
expression_function time_interval_literal;

/* EXTRACT(node->unit FROM timestamp or difference of timestamps). */
extern const struct function time_extract_timestamp, time_extract_interval;
/* date_trunc(node->unit, timestamp) */
extern const struct function time_truncate;

#endif
