/* LIKE and ILIKE. Any thread.
 *
 * The meaning is that of PostgreSQL's matcher (src/backend/utils/adt/like_match.c), errors
 * included: a pattern that ends in its escape character fails only where matching comes to that
 * place. A % is given up only for the next one, never for an earlier one, so time is at most the
 * product of the lengths, and nothing recurses. */
#include <string.h>

#include "core/functions/characters.h"
#include "core/functions/functions.h"

static enum status ends_in_escape(struct evaluation *in)
{
    return expression_fail(in, "22025", "LIKE pattern must not end with escape character");
}

static enum status like(const struct value *string, const struct value *pattern,
                        struct evaluation *in, bool *matches)
{
    const char *s = string->string.data, *p = pattern->string.data;
    size_t s_end = string->string.length, p_end = pattern->string.length;
    size_t i = 0, k = 0;                    /* in s, in p */
    size_t retry_s = 0, retry_p = SIZE_MAX; /* behind the last %: the next try */

    *matches = false;
    for (;;) {
        if (i == s_end) {
            while (k < p_end && p[k] == '%') {
                k++;
            }
            *matches = k == p_end;
            return STATUS_OK;
        }
        if (k < p_end && p[k] == '%') {
            for (k++; k < p_end && (p[k] == '%' || p[k] == '_'); k++) {
                if (p[k] == '_') {
                    if (i == s_end) {
                        return STATUS_OK;
                    }
                    i += character_bytes(s + i);
                }
            }
            if (k == p_end) {
                *matches = true;
                return STATUS_OK;
            }
            if (p[k] == '\\' && k + 1 == p_end) {
                return ends_in_escape(in);
            }
            retry_s = i;
            retry_p = k;
            if (i == s_end) { /* what follows is no %, and needs a character */
                return STATUS_OK;
            }
        }
        bool same = false;
        if (k < p_end && p[k] == '_') {
            i += character_bytes(s + i);
            k++;
            continue;
        }
        if (k < p_end && p[k] == '\\') {
            if (k + 1 == p_end) {
                return ends_in_escape(in);
            }
            same = p[k + 1] == s[i];
            k += same ? 1 : 0;
        } else if (k < p_end) {
            same = p[k] == s[i];
        }
        if (same) {
            i++;
            k++;
        } else if (retry_p == SIZE_MAX) {
            return STATUS_OK;
        } else {
            retry_s += character_bytes(s + retry_s);
            i = retry_s;
            k = retry_p;
        }
    }
}

/* The pattern with \ for `escape`, and \ itself made literal. */
enum status function_escape(const struct expression *node, const struct value *arguments,
                            struct evaluation *in, struct value *out)
{
    const struct value *pattern = &arguments[0], *escape = &arguments[1];
    const char *p = pattern->string.data, *e = escape->string.data;
    size_t e_bytes = escape->string.length, end = pattern->string.length;
    bool escaped = false;
    char *data, *start;

    (void)node;
    if (e_bytes != 0 && e_bytes != character_bytes(e)) {
        return expression_fail(in, "22025", "an escape string is empty or one character");
    }
    if (e_bytes == 1 && *e == '\\') {
        *out = *pattern;
        return STATUS_OK;
    }
    enum status status = function_new_string(in, 2 * end, &data, out);
    if (status != STATUS_OK) {
        return status;
    }
    start = data;
    for (size_t i = 0; i < end;) {
        size_t bytes = character_bytes(p + i);
        if (!escaped && bytes == e_bytes && memcmp(p + i, e, bytes) == 0) {
            *data++ = '\\';
            escaped = true;
        } else {
            if (p[i] == '\\' && !escaped) {
                *data++ = '\\';
            }
            memcpy(data, p + i, bytes);
            data += bytes;
            escaped = false;
        }
        i += bytes;
    }
    out->string.length = (size_t)(data - start);
    return STATUS_OK;
}

static enum status run(const struct value *arguments, bool lower, bool negated,
                       struct evaluation *in, struct value *out)
{
    struct value string = arguments[0], pattern = arguments[1];
    enum status status = STATUS_OK;
    bool matches = false;

    if (lower) {
        status = function_lower(&arguments[0], in, &string);
        status = status == STATUS_OK ? function_lower(&arguments[1], in, &pattern) : status;
    }
    status = status == STATUS_OK ? like(&string, &pattern, in, &matches) : status;
    *out = value_boolean(matches != negated);
    return status;
}

enum status function_like(const struct expression *node, const struct value *arguments,
                          struct evaluation *in, struct value *out)
{
    (void)node;
    return run(arguments, false, false, in, out);
}

enum status function_not_like(const struct expression *node, const struct value *arguments,
                              struct evaluation *in, struct value *out)
{
    (void)node;
    return run(arguments, false, true, in, out);
}

enum status function_ilike(const struct expression *node, const struct value *arguments,
                           struct evaluation *in, struct value *out)
{
    (void)node;
    return run(arguments, true, false, in, out);
}

enum status function_not_ilike(const struct expression *node, const struct value *arguments,
                               struct evaluation *in, struct value *out)
{
    (void)node;
    return run(arguments, true, true, in, out);
}
