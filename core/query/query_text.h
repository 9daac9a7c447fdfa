/* The text that answers and statements are written into: used in core/query/ and by
 * `dovetail export`.
 *
 * One buffer grows by doubling; a failed allocation is remembered and told at the end. Written by
 * hand because it is the fast path of serving: jansson would build a tree of every answer first.
 * Pure; any thread. */
#ifndef DOVETAIL_QUERY_TEXT_H
#define DOVETAIL_QUERY_TEXT_H

#include "core/query/query.h"

struct query_text { /* zeroed: empty */
    char *data;
    size_t length;
    size_t capacity;
    bool failed;
};

void query_put(struct query_text *text, const char *data, size_t length);
void query_put_text(struct query_text *text, const char *string);
void query_put_format(struct query_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void query_put_char(struct query_text *text, char c);
void query_put_spaces(struct query_text *text, size_t count);
void query_put_integer(struct query_text *text, int64_t integer);
void query_put_time(struct query_text *text, int64_t us);
/* An array, between `open` and `close`. */
void query_put_array(struct query_text *text, const struct value *value, char open, char close);
/* Any value as it is: a string needs its format's quoting instead. */
void query_put_plain(struct query_text *text, const struct value *value);
/* A character as JSON escapes it. */
void query_put_escape(struct query_text *text, unsigned char c);

/* A string with what JSON, or CSV (RFC 4180), puts around and into it. */
void query_put_json_string(struct query_text *text, const char *data, size_t length);
void query_put_csv_string(struct query_text *text, const char *data, size_t length);

/* Terminates the text and gives it away; NULL when memory was short. */
char *query_text_take(struct query_text *text, size_t *length);
/* Gives back what the text holds; a copy of it in the arena, or NULL when memory was short. */
const char *query_text_keep(struct query_text *text, struct arena *arena);

const char *query_key_name(const struct query_answer *answer, size_t index);
const char *query_measure_name(const struct query_answer *answer, size_t index);

#endif
