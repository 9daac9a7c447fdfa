/* Casts: from one type to another with PostgreSQL's texts, rounding and errors. */
#ifndef DOVETAIL_CONVERSION_H
#define DOVETAIL_CONVERSION_H

#include "core/functions/functions.h"

/* The cast between two types (letters s i j d b t), evaluated by expression_call; NULL where
 * PostgreSQL has none. From a type to itself it is one that does nothing. */
const struct function *conversion_find(char from, char to);

/* What numeric(p, s) does with the decimal: node->numeric. */
extern const struct function conversion_to_precision;

/* A value, which is not NULL, as PostgreSQL prints it in UTC with DateStyle ISO. */
enum status conversion_text(const struct value *value, struct evaluation *in,
                            struct value *out) MUST_CHECK;

#endif
