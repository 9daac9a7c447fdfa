/* The parsed form of expressions: shared by the parser, the evaluator and the measures.
 *
 * Nodes live in the arena of whoever parses and never change once parsed. */
#ifndef DOVETAIL_EXPRESSION_NODE_H
#define DOVETAIL_EXPRESSION_NODE_H

#include "core/expression.h"

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
    EXPRESSION_UNTYPED_NULL,    /* NULL before it has met a typed neighbour */
    EXPRESSION_OTHER,
};

struct expression {
    expression_function *evaluate;
    enum expression_kind kind;
    bool is_whole_literal; /* a constant written as digits alone, with or without minus signs */
    enum value_type type;
    struct expression **children;
    size_t child_count;
    union {
        size_t field;               /* index into the source's fields */
        struct value constant;
        enum comparison comparison;
        char operator;              /* + - * / % */
        struct {
            bool wanted;            /* IS TRUE or IS FALSE */
            bool negated;           /* IS NOT ..., NOT IN, NOT BETWEEN */
        } test;
        bool has_operand;           /* CASE x WHEN ... */
    };
    struct arena *owner; /* of a root made by expression_create: freed with it */
};

/* Evaluators, one for each form; the parser has checked the children's types and numbers. */
expression_function expression_field, expression_constant, expression_negate_integer,
    expression_negate_decimal, expression_integer_arithmetic, expression_decimal_arithmetic,
    expression_to_decimal, expression_concatenate, expression_compare, expression_and,
    expression_or, expression_not, expression_is_null, expression_is_boolean,
    expression_is_distinct, expression_in, expression_between,
    expression_case, expression_coalesce;

/* True where no field is read, so that it may be evaluated once, without a record. */
bool expression_is_constant(const struct expression *expression);

static inline enum status expression_run(const struct expression *node, struct evaluation *in,
                                         struct value *out)
{
    return node->evaluate(node, in, out);
}

#endif
