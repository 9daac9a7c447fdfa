/* Inside the expression parser only: what its files share.
 *
 *   expression_parser.c   tokens, faults, and one function for each level of precedence
 *   expression_types.c    nodes, and the types that PostgreSQL gives them
 *   expression_primary.c  literals, fields, CASE, COALESCE and their like
 *   expression_call.c     functions, casts, typed literals */
#ifndef DOVETAIL_EXPRESSION_BUILD_H
#define DOVETAIL_EXPRESSION_BUILD_H

#include "core/expressions/expression_node.h"
#include "core/expressions/expression_parser.h"

/* Nodes that grow in number while they are parsed. */
struct node_list {
    struct expression **nodes;
    size_t count;
    size_t capacity;
};

typedef enum status parse_level(struct expression_parser *parser, struct expression **out);

/* --- tokens --- */

bool expression_next_is(const struct expression_parser *parser, const char *word);
enum status expression_advance(struct expression_parser *parser) MUST_CHECK;
enum status expression_fault_at(struct expression_parser *parser, size_t column, const char *format,
                                ...) PRINTF_LIKE(3, 4);

/* --- levels --- */

/* One level deeper, bounded. */
enum status expression_parse_nested(struct expression_parser *parser, parse_level *level,
                                    struct expression **out) MUST_CHECK;
parse_level expression_parse_any, expression_parse_concatenation, expression_parse_primary;
/* a, b, ... up to what is not a comma. */
enum status expression_parse_list(struct expression_parser *parser,
                                  struct node_list *list) MUST_CHECK;

/* --- nodes --- */

enum status expression_new(struct expression_parser *parser, expression_function *evaluate,
                           enum value_type type, size_t child_count,
                           struct expression **out) MUST_CHECK;
enum status expression_new_constant(struct expression_parser *parser, struct value value,
                                    struct expression **out) MUST_CHECK;
/* A node with those children. */
enum status expression_new_over(struct expression_parser *parser, expression_function *evaluate,
                                enum value_type type, struct expression *const *children,
                                size_t count, struct expression **out) MUST_CHECK;
enum status expression_list_add(struct expression_parser *parser, struct node_list *list,
                                struct expression *node) MUST_CHECK;

/* --- types --- */

bool expression_is_numeric(enum value_type type);
/* A string literal, which may still become a time. */
bool expression_is_untyped_text(const struct expression *node);
/* An integer computed from integers has 32 bits where all of them have. */
void expression_set_width(struct expression *node, struct expression *const *parts, size_t count);

/* Makes *node of `type`. *possible is false where it cannot be. */
enum status expression_coerce(struct expression_parser *parser, enum value_type type,
                              struct expression **node, bool *possible) MUST_CHECK;
/* Gives all nodes the type that PostgreSQL gives them together. */
enum status expression_unify(struct expression_parser *parser, struct expression **nodes,
                             size_t count, size_t column, const char *what,
                             enum value_type *type) MUST_CHECK;
/* The same where they are results, which intervals cannot be. */
enum status expression_unify_results(struct expression_parser *parser, struct expression **nodes,
                                     size_t count, size_t column, const char *what,
                                     enum value_type *type) MUST_CHECK;
enum status expression_want_boolean(struct expression_parser *parser, struct expression **node,
                                    size_t column, const char *what) MUST_CHECK;
/* Makes *node a string as || does, from any type but intervals. */
enum status expression_to_text(struct expression_parser *parser,
                               struct expression **node) MUST_CHECK;

/* --- calls --- */

/* The function's name, COALESCE, CAST and their like, `name` being the word before the parenthesis
 * that is the next token. */
enum status expression_parse_call(struct expression_parser *parser, const struct token *name,
                                  struct expression **out) MUST_CHECK;
/* The type's name, consumed, then its literal. *found is false where `name` begins no type that a
 * string literal follows; nothing is consumed then. */
enum status expression_parse_typed_literal(struct expression_parser *parser,
                                           const struct token *name, struct expression **out,
                                           bool *found) MUST_CHECK;
/* `:: type` after the operand, the :: being consumed. */
enum status expression_parse_cast(struct expression_parser *parser, struct expression *operand,
                                  size_t column, struct expression **out) MUST_CHECK;
/* A call of the table's function over arguments that are parsed. */
enum status expression_new_call(struct expression_parser *parser, const char *name, size_t column,
                                struct expression **arguments, size_t count,
                                struct expression **out) MUST_CHECK;
/* timestamp ± interval, timestamp - timestamp; *found is false where it is none of these. */
enum status expression_time_arithmetic(struct expression_parser *parser, char operator,
                                       struct expression ** pair, size_t column,
                                       struct expression **out, bool *found) MUST_CHECK;

#endif
