/* Answers as CSV, RFC 4180: NULL is an empty field, an empty string is "". Pure; any thread. */
#include "core/query/query_text.h"

#include <string.h>

static void put_csv_value(struct query_text *text, const struct value *value, const char *wide)
{
    query_put_char(text, ',');
    if (wide != NULL)
        query_put_text(text, wide);
    else if (value->is_null)
        return;
    else if (value->type == VALUE_STRING)
        query_put_csv_string(text, value->string.data, value->string.length);
    else if (value->type == VALUE_INTEGERS && value->integers.count > 1) {
        query_put_char(text, '"');
        query_put_plain(text, value);
        query_put_char(text, '"');
    } else
        query_put_plain(text, value);
}

static void put_csv_row(struct query_text *text, const struct query_answer *answer,
                        const struct query_row *row)
{
    if (answer->has_start)
        query_put_time(text, row->window_start_us);
    query_put_char(text, ',');
    if (answer->has_end)
        query_put_time(text, row->window_end_us);
    for (size_t i = 0; i < answer->key_count; i++)
        put_csv_value(text, &row->keys[i], NULL);
    for (size_t i = 0; i < answer->measure_count; i++)
        put_csv_value(text, &row->results[i], row->wide_texts[i]);
    query_put_text(text, row->provisional ? ",true\r\n" : ",false\r\n");
}

char *query_answer_csv(const struct query_answer *answer, size_t *length)
{
    struct query_text text = {0};
    query_put_text(&text, "window_start,window_end");
    for (size_t i = 0; i < answer->key_count; i++) {
        query_put_char(&text, ',');
        query_put_text(&text, query_key_name(answer, i));
    }
    for (size_t i = 0; i < answer->measure_count; i++) {
        query_put_char(&text, ',');
        query_put_text(&text, query_measure_name(answer, i));
    }
    query_put_text(&text, ",provisional\r\n");
    for (size_t i = 0; i < answer->row_count; i++)
        put_csv_row(&text, answer, &answer->rows[i]);
    return query_text_take(&text, length);
}
