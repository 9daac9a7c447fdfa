/* The parsed form of expressions: shared by the parser, the evaluator and the measures.
 *
 * Nodes live in the arena of whoever parses and never change once parsed. */
#ifndef DOVETAIL_EXPRESSION_NODE_H
#define DOVETAIL_EXPRESSION_NODE_H

#include "core/expressions/expression.h"

struct function;
struct regex;
struct time_zone;

struct evaluation {
    const struct value *fields;
    struct arena *scratch;
    struct error *error;
};

typedef enum status expression_function(const struct expression *node, struct evaluation *in,
                                        struct value *out);

enum comparison { COMPARE_EQ, COMPARE_NE, COMPARE_LT, COMPARE_LE, COMPARE_GT, COMPARE_GE };

enum expression_kind {
    EXPRESSION_FIELD,
    EXPRESSION_CONSTANT,
    EXPRESSION_UNTYPED_NULL,     /* NULL before it has met a typed neighbour */
    EXPRESSION_INTERVAL_LITERAL, /* .interval says what the one integer of its value cannot */
    EXPRESSION_OTHER,
};

/* The type of intervals, which exist inside expressions only: beside a comparison, in extract, and
 * added to a timestamp. As a struct value it is a VALUE_INTEGER, the microseconds by which
 * PostgreSQL compares intervals: months of 30 days, days of 24 hours. */
#define TYPE_INTERVAL ((enum value_type)64)

struct interval {
    int32_t months;
    int32_t days;
    int64_t us;
};

struct expression {
    expression_function *evaluate;
    enum expression_kind kind;
    bool is_whole_literal; /* a constant written as digits alone, with or without minus signs */
    bool is_int4;          /* an integer that PostgreSQL computes in 32 bits */
    enum value_type type;
    struct expression **children;
    size_t child_count;
    const struct function *function; /* of a call */
    const struct time_zone *zone;    /* of EXTRACT and date_trunc; NULL: UTC */
    union {
        size_t field; /* index into the source's fields */
        struct value constant;
        struct interval interval;
        enum comparison comparison;
        char operator; /* + - * / % */
        struct {
            bool wanted;  /* IS TRUE or IS FALSE */
            bool negated; /* IS NOT ..., NOT IN, NOT BETWEEN */
        } test;
        bool has_operand; /* CASE x WHEN ... */
        bool greatest;    /* GREATEST, not LEAST */
        int unit;         /* of a time: enum time_unit */
        struct {
            int32_t precision; /* of numeric(p, s); 0 for any */
            int32_t scale;
        } numeric;
        struct {
            const struct regex *regex;
            bool negated;
        } match;
    };
    struct arena *owner; /* of a root made by expression_create: freed with it */
};

/* The value of a field or a constant where it stands; NULL: it has to be evaluated. */
static inline const struct value *expression_plain(const struct expression *node,
                                                   const struct value *fields)
{
    if (node->kind == EXPRESSION_FIELD)
        return &fields[node->field];
    return node->kind == EXPRESSION_CONSTANT ? &node->constant : NULL;
}

/* Evaluators, one for each form; the parser has checked the children's types and numbers. */
expression_function expression_field, expression_constant, expression_negate_integer,
    expression_negate_decimal, expression_integer_arithmetic, expression_decimal_arithmetic,
    expression_to_decimal, expression_concatenate, expression_compare, expression_and,
    expression_or, expression_not, expression_is_null, expression_is_boolean,
    expression_is_distinct, expression_in, expression_between, expression_case, expression_coalesce,
    expression_nullif, expression_extreme, expression_call;

/* True where no field is read, so that it may be evaluated once, without a record. */
bool expression_is_constant(const struct expression *expression);

/* For messages: also knows intervals. */
const char *expression_type_name(enum value_type type);

static inline enum status expression_run(const struct expression *node, struct evaluation *in,
                                         struct value *out)
{
    return node->evaluate(node, in, out);
}

/* STATUS_REJECT with PostgreSQL's SQLSTATE; "" for a limit that is ours alone. */
enum status expression_fail(struct evaluation *in, const char *sqlstate, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* What a failed decimal operation means for the record. */
enum status expression_fail_decimal(struct evaluation *in, enum decimal_status status);
enum status expression_fail_integer(struct evaluation *in);

#endif
