/* Answers as JSON, CSV and a table for people: see core/query/query.h.
 *
 * Invariant: every value is given exactly; JSON and CSV are valid whatever the strings hold. One
 * buffer grows by doubling; a failed allocation is remembered and told at the end. Written by hand
 * because it is the fast path of serving: jansson would build a tree of every answer first. Pure;
 * any thread. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/query/query.h"
#include "core/time/timestamp.h"

/* --- a growing text --- */

struct text {
    char *data;
    size_t length;
    size_t capacity;
    bool failed;
};

static bool reserve(struct text *text, size_t more)
{
    if (text->failed)
        return false;
    if (text->capacity - text->length >= more)
        return true;
    size_t capacity = text->capacity == 0 ? 4096 : 2 * text->capacity;
    while (capacity - text->length < more)
        capacity *= 2;
    char *data = realloc(text->data, capacity);
    if (data == NULL) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    return true;
}

static void put(struct text *text, const char *data, size_t length)
{
    if (length > 0 && reserve(text, length)) {
        memcpy(text->data + text->length, data, length);
        text->length += length;
    }
}

static void put_text(struct text *text, const char *string)
{
    put(text, string, strlen(string));
}

static void put_char(struct text *text, char c)
{
    put(text, &c, 1);
}

static void put_spaces(struct text *text, size_t count)
{
    for (; count > 0; count--)
        put_char(text, ' ');
}

static void put_integer(struct text *text, int64_t integer)
{
    char digits[24];
    char *at = digits + sizeof digits;
    uint64_t rest = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (integer < 0)
        *--at = '-';
    put(text, at, (size_t)(digits + sizeof digits - at));
}

static void put_time(struct text *text, int64_t us)
{
    char buffer[TIMESTAMP_TEXT_SIZE];
    put(text, buffer, timestamp_format(us, buffer, sizeof buffer));
}

/* Terminates the text and gives it away; NULL when memory was short. */
static char *text_take(struct text *text, size_t *length)
{
    *length = text->length;
    put_char(text, '\0');
    if (text->failed) {
        free(text->data);
        text->data = NULL;
    }
    return text->data;
}

static void put_array(struct text *text, const struct value *value, char open, char close)
{
    put_char(text, open);
    for (size_t i = 0; i < value->integers.count; i++) {
        if (i > 0)
            put_char(text, ',');
        put_integer(text, value->integers.data[i]);
    }
    put_char(text, close);
}

/* Anything but a string, which needs its format's quoting. */
static void put_plain(struct text *text, const struct value *value)
{
    char buffer[DECIMAL_TEXT_SIZE];
    switch (value->type) {
    case VALUE_INTEGER:
        put_integer(text, value->integer);
        break;
    case VALUE_DECIMAL: {
        struct decimal trimmed = decimal_trim(&value->decimal);
        put(text, buffer, decimal_format(&trimmed, buffer, sizeof buffer));
        break;
    }
    case VALUE_BOOLEAN:
        put_text(text, value->boolean ? "true" : "false");
        break;
    case VALUE_TIMESTAMP:
        put_time(text, value->timestamp_us);
        break;
    case VALUE_STRING:
        put(text, value->string.data, value->string.length);
        break;
    case VALUE_INTEGERS:
        put_array(text, value, '{', '}');
        break;
    }
}

static const char *key_name(const struct query_answer *answer, size_t index)
{
    return answer->view->keys[answer->keys[index]].name;
}

static const char *measure_name(const struct query_answer *answer, size_t index)
{
    return answer->view->measures[answer->measures[index]].name;
}

/* --- JSON --- */

static void put_escape(struct text *text, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";
    char escape[] = "\\u00__";
    switch (c) {
    case '"':
        put(text, "\\\"", 2);
        return;
    case '\\':
        put(text, "\\\\", 2);
        return;
    case '\n':
        put(text, "\\n", 2);
        return;
    case '\r':
        put(text, "\\r", 2);
        return;
    case '\t':
        put(text, "\\t", 2);
        return;
    default:
        escape[4] = digits[c >> 4];
        escape[5] = digits[c & 15];
        put(text, escape, 6);
    }
}

/* RFC 8259, section 7: quotation mark, reverse solidus and controls must be escaped. */
static void put_json_string(struct text *text, const char *data, size_t length)
{
    put_char(text, '"');
    size_t start = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        put(text, data + start, i - start);
        put_escape(text, c);
        start = i + 1;
    }
    put(text, data + start, length - start);
    put_char(text, '"');
}

static void put_json_value(struct text *text, const struct value *value, const char *wide)
{
    if (wide != NULL)
        put_text(text, wide);
    else if (value->is_null)
        put_text(text, "null");
    else if (value->type == VALUE_STRING)
        put_json_string(text, value->string.data, value->string.length);
    else if (value->type == VALUE_TIMESTAMP) {
        put_char(text, '"');
        put_time(text, value->timestamp_us);
        put_char(text, '"');
    } else if (value->type == VALUE_INTEGERS)
        put_array(text, value, '[', ']');
    else
        put_plain(text, value);
}

static void put_json_time(struct text *text, bool known, int64_t us)
{
    struct value value = value_timestamp(us);
    value.is_null = !known;
    put_json_value(text, &value, NULL);
}

/* A comma and a name; names of definitions need no escaping, but cost nothing here either. */
static void put_json_name(struct text *text, const char *name)
{
    put_char(text, ',');
    put_json_string(text, name, strlen(name));
    put_char(text, ':');
}

static void put_json_row(struct text *text, const struct query_answer *answer,
                         const struct query_row *row)
{
    put_text(text, "{\"window_start\":");
    put_json_time(text, answer->has_start, row->window_start_us);
    put_text(text, ",\"window_end\":");
    put_json_time(text, answer->has_end, row->window_end_us);
    for (size_t i = 0; i < answer->key_count; i++) {
        put_json_name(text, key_name(answer, i));
        put_json_value(text, &row->keys[i], NULL);
    }
    for (size_t i = 0; i < answer->measure_count; i++) {
        put_json_name(text, measure_name(answer, i));
        put_json_value(text, &row->results[i], row->wide_texts[i]);
    }
    put_text(text, ",\"provisional\":");
    put_text(text, row->provisional ? "true}" : "false}");
}

/* {"topic":[offset of partition 0, of 1, ...]}; null where a partition is unknown. */
static void put_json_offsets(struct text *text, const struct query_receipt *receipt, bool cutoffs)
{
    put_char(text, '{');
    int32_t next = 0;
    for (size_t i = 0; i < receipt->partition_count; i++) {
        const struct query_partition *partition = &receipt->partitions[i];
        if (i == 0) {
            put_json_string(text, partition->topic, strlen(partition->topic));
            put_text(text, ":[");
        }
        for (; next < partition->partition; next++)
            put_text(text, next > 0 ? ",null" : "null");
        if (next > 0)
            put_char(text, ',');
        put_integer(text, cutoffs ? partition->cutoff : partition->position);
        next = partition->partition + 1;
    }
    put_text(text, receipt->partition_count > 0 ? "]}" : "}");
}

static void put_json_receipt(struct text *text, const struct query_receipt *receipt)
{
    put_text(text, "{\"run\":");
    put_integer(text, receipt->run);
    put_text(text, ",\"cutoffs\":");
    put_json_offsets(text, receipt, true);
    put_text(text, ",\"positions\":");
    put_json_offsets(text, receipt, false);
    if (receipt->imported > 0) {
        put_text(text, ",\"imported\":{");
        put_json_string(text, receipt->partitions[0].topic, strlen(receipt->partitions[0].topic));
        put_char(text, ':');
        put_integer(text, receipt->imported);
        put_char(text, '}');
    }
    put_text(text, ",\"watermark\":");
    put_json_time(text, receipt->has_watermark, receipt->watermark_us);
    put_text(text, ",\"freshness_ms\":");
    if (receipt->has_freshness)
        put_integer(text, receipt->freshness_ms);
    else
        put_text(text, "null");
    put_char(text, '}');
}

char *query_answer_json(const struct query_answer *answer, size_t *length)
{
    struct text text = {0};
    put_text(&text, "{\"view\":");
    put_json_string(&text, answer->view->name, strlen(answer->view->name));
    put_text(&text, ",\"rows\":[");
    for (size_t i = 0; i < answer->row_count; i++) {
        if (i > 0)
            put_text(&text, ",\n");
        put_json_row(&text, answer, &answer->rows[i]);
    }
    put_text(&text, "],\"receipt\":");
    put_json_receipt(&text, &answer->receipt);
    put_text(&text, "}\n");
    return text_take(&text, length);
}

/* --- CSV: RFC 4180; NULL is an empty field, an empty string is "" --- */

static void put_csv_string(struct text *text, const char *data, size_t length)
{
    bool plain = length > 0;
    for (size_t i = 0; i < length && plain; i++)
        plain = strchr(",\"\r\n", data[i]) == NULL;
    if (plain) {
        put(text, data, length);
        return;
    }
    put_char(text, '"');
    for (size_t i = 0; i < length; i++) {
        if (data[i] == '"')
            put_char(text, '"');
        put_char(text, data[i]);
    }
    put_char(text, '"');
}

static void put_csv_value(struct text *text, const struct value *value, const char *wide)
{
    put_char(text, ',');
    if (wide != NULL)
        put_text(text, wide);
    else if (value->is_null)
        return;
    else if (value->type == VALUE_STRING)
        put_csv_string(text, value->string.data, value->string.length);
    else if (value->type == VALUE_INTEGERS && value->integers.count > 1) {
        put_char(text, '"');
        put_plain(text, value);
        put_char(text, '"');
    } else
        put_plain(text, value);
}

static void put_csv_row(struct text *text, const struct query_answer *answer,
                        const struct query_row *row)
{
    if (answer->has_start)
        put_time(text, row->window_start_us);
    put_char(text, ',');
    if (answer->has_end)
        put_time(text, row->window_end_us);
    for (size_t i = 0; i < answer->key_count; i++)
        put_csv_value(text, &row->keys[i], NULL);
    for (size_t i = 0; i < answer->measure_count; i++)
        put_csv_value(text, &row->results[i], row->wide_texts[i]);
    put_text(text, row->provisional ? ",true\r\n" : ",false\r\n");
}

char *query_answer_csv(const struct query_answer *answer, size_t *length)
{
    struct text text = {0};
    put_text(&text, "window_start,window_end");
    for (size_t i = 0; i < answer->key_count; i++) {
        put_char(&text, ',');
        put_text(&text, key_name(answer, i));
    }
    for (size_t i = 0; i < answer->measure_count; i++) {
        put_char(&text, ',');
        put_text(&text, measure_name(answer, i));
    }
    put_text(&text, ",provisional\r\n");
    for (size_t i = 0; i < answer->row_count; i++)
        put_csv_row(&text, answer, &answer->rows[i]);
    return text_take(&text, length);
}

/* --- a table for people --- */

/* Strings as they are, but for controls: those would be commands to the terminal. */
static void put_shown(struct text *text, const char *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)data[i];
        bool c1 = c == 0xC2 && i + 1 < length && (unsigned char)data[i + 1] < 0xA0;
        if (c < 0x20 || c == 0x7F) {
            put_escape(text, c);
        } else if (c1) {
            put_escape(text, (unsigned char)data[++i]);
        } else {
            put_char(text, data[i]);
        }
    }
}

struct table {
    struct text cells; /* 0-terminated texts, row by row; the first row is the names */
    size_t columns;
    size_t *widths;
    bool *right;
};

/* In characters, taking each code point for one column. */
static size_t display_width(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static void cell_end(struct table *table, size_t column, size_t start)
{
    put_char(&table->cells, '\0');
    if (table->cells.failed)
        return;
    size_t width = display_width(table->cells.data + start);
    if (width > table->widths[column])
        table->widths[column] = width;
}

static void cell_text(struct table *table, size_t column, const char *text)
{
    size_t start = table->cells.length;
    put_text(&table->cells, text);
    cell_end(table, column, start);
}

static void cell_time(struct table *table, size_t column, bool known, int64_t us)
{
    size_t start = table->cells.length;
    if (known)
        put_time(&table->cells, us);
    cell_end(table, column, start);
}

static void cell_value(struct table *table, size_t column, const struct value *value,
                       const char *wide)
{
    size_t start = table->cells.length;
    if (wide != NULL)
        put_text(&table->cells, wide);
    else if (value->is_null)
        put_text(&table->cells, "NULL");
    else if (value->type == VALUE_STRING)
        put_shown(&table->cells, value->string.data, value->string.length);
    else
        put_plain(&table->cells, value);
    cell_end(table, column, start);
}

static void table_names(struct table *table, const struct query_answer *answer)
{
    size_t column = 0;
    cell_text(table, column++, "window_start");
    cell_text(table, column++, "window_end");
    for (size_t i = 0; i < answer->key_count; i++) {
        const struct view_key *key = &answer->view->keys[answer->keys[i]];
        table->right[column] = key->type == VALUE_INTEGER || key->type == VALUE_DECIMAL;
        cell_text(table, column++, key->name);
    }
    for (size_t i = 0; i < answer->measure_count; i++) {
        const struct view_measure *measure = &answer->view->measures[answer->measures[i]];
        enum value_type type = measure->measure->result_type;
        table->right[column] = type == VALUE_INTEGER || type == VALUE_DECIMAL;
        cell_text(table, column++, measure->name);
    }
    cell_text(table, column, "provisional");
}

static void table_row(struct table *table, const struct query_answer *answer,
                      const struct query_row *row)
{
    size_t column = 0;
    cell_time(table, column++, answer->has_start, row->window_start_us);
    cell_time(table, column++, answer->has_end, row->window_end_us);
    for (size_t i = 0; i < answer->key_count; i++)
        cell_value(table, column++, &row->keys[i], NULL);
    for (size_t i = 0; i < answer->measure_count; i++)
        cell_value(table, column++, &row->results[i], row->wide_texts[i]);
    cell_text(table, column, row->provisional ? "yes" : "no");
}

static void put_line(struct text *text, const struct table *table, const char **cell)
{
    for (size_t column = 0; column < table->columns; column++) {
        size_t padding = table->widths[column] - display_width(*cell);
        bool last = column + 1 == table->columns;
        if (table->right[column])
            put_spaces(text, padding);
        put_text(text, *cell);
        if (!table->right[column] && !last)
            put_spaces(text, padding);
        if (!last)
            put_text(text, "  ");
        *cell += strlen(*cell) + 1;
    }
    put_char(text, '\n');
}

static void put_rule(struct text *text, const struct table *table)
{
    for (size_t column = 0; column < table->columns; column++) {
        for (size_t i = 0; i < table->widths[column]; i++)
            put_char(text, '-');
        put_text(text, column + 1 == table->columns ? "\n" : "  ");
    }
}

static void put_table_offsets(struct text *text, const char *what,
                              const struct query_receipt *receipt, bool cutoffs)
{
    put_text(text, what);
    for (size_t i = 0; i < receipt->partition_count; i++) {
        const struct query_partition *partition = &receipt->partitions[i];
        if (i == 0)
            put_text(text, partition->topic);
        put_char(text, ' ');
        put_integer(text, partition->partition);
        put_char(text, ':');
        put_integer(text, cutoffs ? partition->cutoff : partition->position);
    }
    put_char(text, '\n');
}

static void put_table_receipt(struct text *text, const struct query_answer *answer)
{
    const struct query_receipt *receipt = &answer->receipt;
    put_text(text, "\n");
    put_integer(text, (int64_t)answer->row_count);
    put_text(text, answer->row_count == 1 ? " row" : " rows");
    put_text(text, ", batch run ");
    put_integer(text, receipt->run);
    put_char(text, '\n');
    put_table_offsets(text, "cut-offs   C  ", receipt, true);
    put_table_offsets(text, "positions  P  ", receipt, false);
    if (receipt->imported > 0) {
        put_text(text, "imported      ");
        put_integer(text, receipt->imported);
        put_text(text, receipt->imported == 1 ? " record\n" : " records\n");
    }
    put_text(text, "watermark     ");
    if (receipt->has_watermark)
        put_time(text, receipt->watermark_us);
    else
        put_text(text, "none");
    put_text(text, "\nfreshness     ");
    if (receipt->has_freshness) {
        put_integer(text, receipt->freshness_ms);
        put_text(text, " ms\n");
    } else {
        put_text(text, "unknown\n");
    }
}

char *query_answer_table(const struct query_answer *answer, size_t *length)
{
    struct text text = {0};
    struct table table = {.columns = 3 + answer->key_count + answer->measure_count};
    *length = 0;
    table.widths = calloc(table.columns, sizeof *table.widths);
    table.right = calloc(table.columns, sizeof *table.right);
    if (table.widths == NULL || table.right == NULL)
        goto cleanup;
    table_names(&table, answer);
    for (size_t i = 0; i < answer->row_count; i++)
        table_row(&table, answer, &answer->rows[i]);
    if (table.cells.failed)
        goto cleanup;
    const char *cell = table.cells.data;
    put_line(&text, &table, &cell);
    put_rule(&text, &table);
    for (size_t i = 0; i < answer->row_count; i++)
        put_line(&text, &table, &cell);
    put_table_receipt(&text, answer);
    (void)text_take(&text, length);
cleanup:
    free(table.cells.data);
    free(table.widths);
    free(table.right);
    return text.data;
}
