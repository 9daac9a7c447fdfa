/* Regular expressions: the part of PostgreSQL's (POSIX, "advanced") that is regular indeed, so that
 * a match is decided in time linear in the string, whatever the pattern.
 *
 * Characters . [...] [^...] ranges \d \w \s and their complements; anchors ^ $; * + ? {m} {m,}
 * {m,n}; ( ) (?: ) and |. Anything else is refused. Classes are those of ASCII, as under the
 * collation "C". */
#ifndef DOVETAIL_REGEX_H
#define DOVETAIL_REGEX_H

#include "core/expressions/expression_node.h"

enum {
    REGEX_REPEAT_MAX = 255,       /* PostgreSQL's limit, too */
    REGEX_INSTRUCTION_MAX = 2000, /* of a pattern, repetitions written out */
};

/* Compiles into the arena. STATUS_REJECT says what is wrong. */
enum status regex_compile(const char *pattern, size_t length, struct arena *arena,
                          const struct regex **out, struct error *error) MUST_CHECK;

/* Whether the pattern matches somewhere; memory from scratch. STATUS_FATAL: out of memory. */
enum status regex_search(const struct regex *regex, const char *string, size_t length,
                         struct arena *scratch, bool *found, struct error *error) MUST_CHECK;

/* node->match over one string. */
expression_function regex_evaluate;

#endif
