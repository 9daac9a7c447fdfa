/* Parsing expressions: the interface for expression.c and measure.c.
 *
 * A parser walks one text once. Nodes are allocated in the caller's arena. Every fault is
 * STATUS_REJECT with "column N: ..." (N counts characters from 1). */
#ifndef DOVETAIL_EXPRESSION_PARSER_H
#define DOVETAIL_EXPRESSION_PARSER_H

#include "core/expressions/expression.h"
#include "core/expressions/expression_token.h"

struct expression_parser {
    struct expression_lexer lexer; /* lexer.token is the next token, not yet consumed */
    const struct source *source;
    struct arena *arena;
    struct error *error;
    const struct expression *last_operand; /* that operators and AT TIME ZONE stand behind */
    unsigned depth;                        /* of nesting, bounded */
    unsigned node_count; /* bounded, too: a chain a + a + ... is as deep as it is long */
};

enum status expression_parser_init(struct expression_parser *parser, const char *text,
                                   const struct source *source, struct arena *arena,
                                   struct error *error) MUST_CHECK;

/* Parses one expression. */
enum status expression_parse(struct expression_parser *parser, struct expression **out) MUST_CHECK;
/* The same, which must be boolean (`what` names it in the error: "WHERE"). */
enum status expression_parse_condition(struct expression_parser *parser, const char *what,
                                       struct expression **out) MUST_CHECK;

/* Consume the next token if it is this keyword or symbol. */
enum status expression_parser_accept(struct expression_parser *parser, const char *word,
                                     bool *accepted) MUST_CHECK;
enum status expression_parser_expect(struct expression_parser *parser, const char *word) MUST_CHECK;
enum status expression_parser_expect_end(struct expression_parser *parser) MUST_CHECK;

/* STATUS_REJECT at the next token. */
enum status expression_parser_fault(struct expression_parser *parser, const char *format, ...)
    PRINTF_LIKE(2, 3);

#endif
