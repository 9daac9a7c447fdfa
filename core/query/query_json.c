/* Answers as JSON, whole or line by line: see core/query/query.h.
 *
 * Invariant: every value is given exactly, and the text is valid whatever the strings hold. Pure;
 * any thread. */
#include "core/query/query_text.h"

#include <string.h>

static void put_json_value(struct query_text *text, const struct value *value, const char *wide)
{
    if (wide != NULL)
        query_put_text(text, wide);
    else if (value->is_null)
        query_put_text(text, "null");
    else if (value->type == VALUE_STRING)
        query_put_json_string(text, value->string.data, value->string.length);
    else if (value->type == VALUE_TIMESTAMP) {
        query_put_char(text, '"');
        query_put_time(text, value->timestamp_us);
        query_put_char(text, '"');
    } else if (value->type == VALUE_INTEGERS)
        query_put_array(text, value, '[', ']');
    else
        query_put_plain(text, value);
}

static void put_json_time(struct query_text *text, bool known, int64_t us)
{
    struct value value = value_timestamp(us);
    value.is_null = !known;
    put_json_value(text, &value, NULL);
}

/* A comma and a name. Those of definitions have nothing to escape (definition_name_is_valid), and
 * looking for it was a sixteenth of answering with 100 windows. */
static void put_json_name(struct query_text *text, const char *name)
{
    query_put(text, ",\"", 2);
    query_put_text(text, name);
    query_put(text, "\":", 2);
}

/* What the row is about; returns where that ends. */
static size_t put_json_identity(struct query_text *text, const struct query_answer *answer,
                                const struct query_row *row)
{
    query_put_text(text, "{\"window_start\":");
    put_json_time(text, answer->has_start, row->window_start_us);
    query_put_text(text, ",\"window_end\":");
    put_json_time(text, answer->has_end, row->window_end_us);
    for (size_t i = 0; i < answer->key_count; i++) {
        put_json_name(text, query_key_name(answer, i));
        put_json_value(text, &row->keys[i], NULL);
    }
    return text->length;
}

/* Returns where its identity ends. */
static size_t put_json_row(struct query_text *text, const struct query_answer *answer,
                           const struct query_row *row)
{
    size_t end = put_json_identity(text, answer, row);
    for (size_t i = 0; i < answer->measure_count; i++) {
        put_json_name(text, query_measure_name(answer, i));
        put_json_value(text, &row->results[i], row->wide_texts[i]);
    }
    query_put_text(text, ",\"provisional\":");
    query_put_text(text, row->provisional ? "true}" : "false}");
    return end;
}

/* {"topic":[offset of partition 0, of 1, ...]}; null where a partition is unknown. */
static void put_json_offsets(struct query_text *text, const struct query_receipt *receipt,
                             bool cutoffs)
{
    query_put_char(text, '{');
    int32_t next = 0;
    for (size_t i = 0; i < receipt->partition_count; i++) {
        const struct query_partition *partition = &receipt->partitions[i];
        if (i == 0) {
            query_put_json_string(text, partition->topic, strlen(partition->topic));
            query_put_text(text, ":[");
        }
        for (; next < partition->partition; next++)
            query_put_text(text, next > 0 ? ",null" : "null");
        if (next > 0)
            query_put_char(text, ',');
        query_put_integer(text, cutoffs ? partition->cutoff : partition->position);
        next = partition->partition + 1;
    }
    query_put_text(text, receipt->partition_count > 0 ? "]}" : "}");
}

static void put_json_receipt(struct query_text *text, const struct query_receipt *receipt)
{
    query_put_text(text, "{\"run\":");
    query_put_integer(text, receipt->run);
    query_put_text(text, ",\"cutoffs\":");
    put_json_offsets(text, receipt, true);
    query_put_text(text, ",\"positions\":");
    put_json_offsets(text, receipt, false);
    if (receipt->imported > 0) {
        query_put_text(text, ",\"imported\":{");
        query_put_json_string(text, receipt->partitions[0].topic,
                              strlen(receipt->partitions[0].topic));
        query_put_char(text, ':');
        query_put_integer(text, receipt->imported);
        query_put_char(text, '}');
    }
    query_put_text(text, ",\"watermark\":");
    put_json_time(text, receipt->has_watermark, receipt->watermark_us);
    query_put_text(text, ",\"freshness_ms\":");
    if (receipt->has_freshness)
        query_put_integer(text, receipt->freshness_ms);
    else
        query_put_text(text, "null");
    query_put_char(text, '}');
}

/* {"more":true,"next":"...","moved":false}: where rows were left out, and how to go on. */
static void put_json_page(struct query_text *text, const struct query_answer *answer)
{
    query_put_text(text, answer->has_more ? "{\"more\":true" : "{\"more\":false");
    query_put_text(text, ",\"next\":");
    if (answer->next != NULL)
        query_put_json_string(text, answer->next, strlen(answer->next));
    else
        query_put_text(text, "null");
    query_put_text(text, answer->has_moved ? ",\"moved\":true}" : ",\"moved\":false}");
}

/* --- explain --- */

static void put_json_count(struct query_text *text, const char *name, int64_t count)
{
    put_json_name(text, name);
    query_put_integer(text, count);
}

static void put_json_share(struct query_text *text, const struct query_answer *answer,
                           const struct query_share *share)
{
    if (share->results == NULL) {
        query_put_text(text, "null");
        return;
    }
    query_put_char(text, '{');
    for (size_t i = 0; i < answer->measure_count; i++) {
        const char *name = query_measure_name(answer, i);
        query_put_text(text, i > 0 ? "," : "");
        query_put_json_string(text, name, strlen(name));
        query_put_char(text, ':');
        put_json_value(text, &share->results[i], share->wide_texts[i]);
    }
    query_put_char(text, '}');
}

static void put_json_explain(struct query_text *text, const struct query_answer *answer)
{
    const struct query_explain *explain = &answer->explain;
    query_put_text(text, "{\"rows_read\":{\"batch\":");
    query_put_integer(text, (int64_t)answer->batch_rows_read);
    put_json_count(text, "speed", (int64_t)answer->speed_rows_read);
    query_put_char(text, '}');
    put_json_count(text, "groups_held", (int64_t)explain->groups_held);
    query_put_text(text, ",\"time_us\":{\"receipt\":");
    query_put_integer(text, explain->receipt_us);
    put_json_count(text, "batch", explain->batch_us);
    put_json_count(text, "speed", explain->speed_us);
    put_json_count(text, "rows", explain->rows_us);
    query_put_text(text, "},\"shares\":");
    query_put_text(text, explain->has_shares ? "[" : "null}");
    for (size_t i = 0; explain->has_shares && i < answer->row_count; i++) {
        const struct query_share *shares = answer->rows[i].shares;
        query_put_text(text, i > 0 ? ",{\"batch\":" : "{\"batch\":");
        put_json_share(text, answer, &shares[QUERY_BATCH - QUERY_BATCH]);
        query_put_text(text, ",\"speed\":");
        put_json_share(text, answer, &shares[QUERY_SPEED - QUERY_BATCH]);
        query_put_char(text, '}');
    }
    if (explain->has_shares)
        query_put_text(text, "]}");
}

/* --- the whole --- */

/* "receipt":{...}, and what else was asked for, up to the closing brace of the document. */
static void put_json_end(struct query_text *text, const struct query_answer *answer,
                         struct query_span *receipt)
{
    query_put_text(text, "\"receipt\":");
    size_t at = text->length;
    put_json_receipt(text, &answer->receipt);
    if (receipt != NULL)
        *receipt = (struct query_span){at, text->length - at};
    if (answer->is_page) {
        query_put_text(text, ",\"page\":");
        put_json_page(text, answer);
    }
    if (answer->explain.asked) {
        query_put_text(text, ",\"explain\":");
        put_json_explain(text, answer);
    }
    query_put_text(text, "}\n");
}

char *query_answer_json(const struct query_answer *answer, size_t *length,
                        struct query_span *receipt)
{
    struct query_text text = {0};
    query_put_text(&text, "{\"view\":");
    query_put_json_string(&text, answer->view->name, strlen(answer->view->name));
    query_put_text(&text, ",\"rows\":[");
    for (size_t i = 0; i < answer->row_count; i++) {
        if (i > 0)
            query_put_text(&text, ",\n");
        (void)put_json_row(&text, answer, &answer->rows[i]);
    }
    query_put_text(&text, "],");
    put_json_end(&text, answer, receipt);
    return query_text_take(&text, length);
}

char *query_answer_ndjson(const struct query_answer *answer, size_t *length,
                          struct query_span *receipt)
{
    struct query_text text = {0};
    for (size_t i = 0; i < answer->row_count; i++) {
        (void)put_json_row(&text, answer, &answer->rows[i]);
        query_put_char(&text, '\n');
    }
    query_put_char(&text, '{');
    put_json_end(&text, answer, receipt);
    return query_text_take(&text, length);
}

char *query_rows_json(const struct query_answer *answer, struct query_row_text *rows,
                      size_t *length)
{
    struct query_text text = {0};
    for (size_t i = 0; i < answer->row_count; i++) {
        rows[i].at = text.length;
        rows[i].identity_length = put_json_row(&text, answer, &answer->rows[i]) - rows[i].at;
        rows[i].length = text.length - rows[i].at;
    }
    return query_text_take(&text, length);
}

char *query_receipt_json(const struct query_receipt *receipt, size_t *length)
{
    struct query_text text = {0};
    put_json_receipt(&text, receipt);
    return query_text_take(&text, length);
}

char *query_page_json(const struct query_answer *answer, size_t *length)
{
    struct query_text text = {0};
    put_json_page(&text, answer);
    return query_text_take(&text, length);
}
