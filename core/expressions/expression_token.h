/* Tokens of expressions, as PostgreSQL's scanner would split the same text. */
#ifndef DOVETAIL_EXPRESSION_TOKEN_H
#define DOVETAIL_EXPRESSION_TOKEN_H

#include "core/base/arena.h"
#include "core/base/error.h"

enum token_kind {
    TOKEN_END,
    TOKEN_NAME,        /* unquoted, folded to lower case: a keyword, field or function */
    TOKEN_QUOTED_NAME, /* "field", without the quotes */
    TOKEN_NUMBER,      /* in JSON's grammar: 1, 0.5, 1e3; digits alone are an integer */
    TOKEN_STRING,      /* without the quotes */
    TOKEN_SYMBOL,      /* ( ) [ ] , + - * / % ^ || ~ !~ :: = <> < <= > >= */
};

struct token {
    enum token_kind kind;
    const char *text; /* in the arena, 0-terminated */
    size_t length;
    size_t column; /* characters from 1 */
};

struct expression_lexer {
    const char *next;
    struct token token;
    const char *counted; /* characters before it: */
    size_t columns;
};

void expression_lexer_init(struct expression_lexer *lexer, const char *text);

/* Reads the next token into lexer->token. STATUS_REJECT: "column N: ...". */
enum status expression_lexer_advance(struct expression_lexer *lexer, struct arena *arena,
                                     struct error *error) MUST_CHECK;

/* True for words that SQL reserves, so that an unquoted field of that name would mean something
 * else to PostgreSQL (`user`, `order`). */
bool expression_word_is_reserved(const char *word);

#endif
