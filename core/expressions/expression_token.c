/* Splitting expressions into tokens.
 *
 * Invariant: a text that is accepted here is split into the same tokens by PostgreSQL
 * (src/backend/parser/scan.l), or refused here: comments, escape strings, operators that PostgreSQL
 * would read as one longer operator. Pure; any thread. */
#include "core/expressions/expression_token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* PostgreSQL's reserved words: documentation, appendix C, "reserved" and "reserved (can be function
 * or type)". Sorted. */
static const char *const reserved[] = {
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
};

static int compare_words(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool expression_word_is_reserved(const char *word)
{
    return bsearch(&word, reserved, sizeof reserved / sizeof reserved[0], sizeof reserved[0],
                   compare_words) != NULL;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_name_part(char c)
{
    return is_name_start(c) || is_digit(c);
}

static bool is_operator_part(char c)
{
    return c != '\0' && strchr("+-*/<>=~!@#%^&|`?", c) != NULL;
}

/* A fault of the token that begins at lexer->token.column. */
static enum status fault(const struct expression_lexer *lexer, const char *what,
                         struct error *error)
{
    return error_set(error, STATUS_REJECT, "column %zu: %s", lexer->token.column, what);
}

static enum status set_token(struct expression_lexer *lexer, enum token_kind kind, const char *text,
                             size_t length, struct arena *arena, struct error *error)
{
    lexer->token.kind = kind;
    lexer->token.text = arena_copy(arena, text, length);
    lexer->token.length = length;
    return lexer->token.text == NULL ? error_no_memory(error) : STATUS_OK;
}

static enum status lex_name(struct expression_lexer *lexer, struct arena *arena,
                            struct error *error)
{
    const char *start = lexer->next;

    while (is_name_part(*lexer->next)) {
        lexer->next++;
    }
    size_t length = (size_t)(lexer->next - start);
    if (length == 1 && *lexer->next == '\'' && strchr("eEbBxXnNuU", *start) != NULL) {
        return fault(lexer, "strings with a prefix are not supported", error);
    }
    char *folded = arena_copy(arena, start, length);
    if (folded == NULL) {
        return error_no_memory(error);
    }
    for (size_t i = 0; i < length; i++) {
        folded[i] = (char)(folded[i] >= 'A' && folded[i] <= 'Z' ? folded[i] + 32 : folded[i]);
    }
    lexer->token.kind = TOKEN_NAME;
    lexer->token.text = folded;
    lexer->token.length = length;
    return STATUS_OK;
}

/* A text between `quote`s, in which the quote is written twice. */
static enum status lex_quoted(struct expression_lexer *lexer, char quote, struct arena *arena,
                              struct error *error)
{
    const char *start = lexer->next + 1, *end = start;
    size_t length = 0;

    while (*end != '\0' && (*end != quote || end[1] == quote)) {
        end += *end == quote ? 2 : 1;
    }
    if (*end == '\0') {
        return fault(lexer,
                     quote == '\'' ? "the string does not end" : "the quoted name does not end",
                     error);
    }
    char *text = arena_alloc(arena, (size_t)(end - start) + 1);
    if (text == NULL) {
        return error_no_memory(error);
    }
    for (const char *c = start; c < end; c += *c == quote ? 2 : 1) {
        text[length++] = *c;
    }
    text[length] = '\0';
    lexer->next = end + 1;
    lexer->token.kind = quote == '\'' ? TOKEN_STRING : TOKEN_QUOTED_NAME;
    lexer->token.text = text;
    lexer->token.length = length;
    return STATUS_OK;
}

static const char *skip_digits(const char *c)
{
    while (is_digit(*c)) {
        c++;
    }
    return c;
}

/* SQL also writes 007, .5, 5. and 5.e3; the token is in JSON's grammar, which decimal_parse reads.
 * 5. becomes 5e0, so that it is still told from 5, which is an integer. */
static enum status lex_number(struct expression_lexer *lexer, struct arena *arena,
                              struct error *error)
{
    const char *whole = lexer->next;
    while (whole[0] == '0' && is_digit(whole[1])) {
        whole++;
    }
    const char *whole_end = skip_digits(whole);
    const char *fraction = *whole_end == '.' ? whole_end + 1 : whole_end;
    const char *fraction_end = skip_digits(fraction), *end = fraction_end;
    if (*end == 'e' || *end == 'E') {
        const char *digits = end + (end[1] == '+' || end[1] == '-' ? 2 : 1);
        end = is_digit(*digits) ? skip_digits(digits) : end;
    }
    if (is_name_part(*end) || *end == '.') {
        return fault(lexer, "the number is followed by other characters", error);
    }
    char *text = arena_alloc(arena, (size_t)(end - whole) + 4);
    if (text == NULL) {
        return error_no_memory(error);
    }
    bool has_fraction = fraction_end != fraction && fraction != whole_end;
    bool is_bare_point = fraction != whole_end && !has_fraction && end == fraction_end;
    int length =
        sprintf(text, "%s%.*s%s%.*s%.*s%s", whole_end == whole ? "0" : "", (int)(whole_end - whole),
                whole, has_fraction ? "." : "", has_fraction ? (int)(fraction_end - fraction) : 0,
                fraction, (int)(end - fraction_end), fraction_end, is_bare_point ? "e0" : "");
    lexer->next = end;
    lexer->token.kind = TOKEN_NUMBER;
    lexer->token.text = text;
    lexer->token.length = (size_t)length;
    return STATUS_OK;
}

static enum status lex_symbol(struct expression_lexer *lexer, struct arena *arena,
                              struct error *error)
{
    static const char *const symbols[] = {"||", "<=", ">=", "<>", "!=", "!~", "::", "=",
                                          "<",  ">",  "+",  "-",  "*",  "/",  "%",  "^",
                                          "~",  "(",  ")",  ",",  "[",  "]"};
    const char *start = lexer->next;

    if (strncmp(start, "--", 2) == 0 || strncmp(start, "/*", 2) == 0) {
        return fault(lexer, "SQL reads this as a comment; put a space in between", error);
    }
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        size_t length = strlen(symbols[i]);
        if (strncmp(start, symbols[i], length) != 0) {
            continue;
        }
        /* PostgreSQL reads an operator with one of ~!@#%^&|`? as far as operator characters go */
        bool greedy = strpbrk(symbols[i], "%|!^~") != NULL;
        bool sign_follows = start[length] == '+' || start[length] == '-';
        if (is_operator_part(start[0]) && is_operator_part(start[length]) &&
            (greedy || !sign_follows)) {
            return fault(lexer, "SQL reads this as one operator; put a space in between", error);
        }
        lexer->next += length;
        const char *text = strcmp(symbols[i], "!=") == 0 ? "<>" : symbols[i];
        return set_token(lexer, TOKEN_SYMBOL, text, length, arena, error);
    }
    return fault(lexer, "this character has no meaning here", error);
}

void expression_lexer_init(struct expression_lexer *lexer, const char *text)
{
    *lexer = (struct expression_lexer){.next = text, .counted = text};
}

enum status expression_lexer_advance(struct expression_lexer *lexer, struct arena *arena,
                                     struct error *error)
{
    while (*lexer->next == ' ' || *lexer->next == '\t' || *lexer->next == '\n' ||
           *lexer->next == '\r') {
        lexer->next++;
    }
    for (; lexer->counted < lexer->next; lexer->counted++) {
        lexer->columns += ((unsigned char)*lexer->counted & 0xC0) != 0x80; /* UTF-8: not inside */
    }
    lexer->token = (struct token){.kind = TOKEN_END, .text = "", .column = lexer->columns + 1};
    char c = *lexer->next;
    if (c == '\0') {
        return STATUS_OK;
    }
    if (is_name_start(c)) {
        return lex_name(lexer, arena, error);
    }
    if (is_digit(c) || (c == '.' && is_digit(lexer->next[1]))) {
        return lex_number(lexer, arena, error);
    }
    if (c == '\'' || c == '"') {
        return lex_quoted(lexer, c, arena, error);
    }
    return lex_symbol(lexer, arena, error);
}
