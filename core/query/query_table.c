/* Answers as a table for people. Pure; any thread. */
#include "core/query/query_text.h"

#include <stdlib.h>
#include <string.h>

/* Strings as they are, but for controls: those would be commands to the terminal. */
static void put_shown(struct query_text *text, const char *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)data[i];
        bool c1 = c == 0xC2 && i + 1 < length && (unsigned char)data[i + 1] < 0xA0;
        if (c < 0x20 || c == 0x7F) {
            query_put_escape(text, c);
        } else if (c1) {
            query_put_escape(text, (unsigned char)data[++i]);
        } else {
            query_put_char(text, data[i]);
        }
    }
}

struct table {
    struct query_text cells; /* 0-terminated texts, row by row; the first row is the names */
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
    query_put_char(&table->cells, '\0');
    if (table->cells.failed)
        return;
    size_t width = display_width(table->cells.data + start);
    if (width > table->widths[column])
        table->widths[column] = width;
}

static void cell_text(struct table *table, size_t column, const char *text)
{
    size_t start = table->cells.length;
    query_put_text(&table->cells, text);
    cell_end(table, column, start);
}

static void cell_time(struct table *table, size_t column, bool known, int64_t us)
{
    size_t start = table->cells.length;
    if (known)
        query_put_time(&table->cells, us);
    cell_end(table, column, start);
}

static void cell_value(struct table *table, size_t column, const struct value *value,
                       const char *wide)
{
    size_t start = table->cells.length;
    if (wide != NULL)
        query_put_text(&table->cells, wide);
    else if (value->is_null)
        query_put_text(&table->cells, "NULL");
    else if (value->type == VALUE_STRING)
        put_shown(&table->cells, value->string.data, value->string.length);
    else
        query_put_plain(&table->cells, value);
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

static void put_line(struct query_text *text, const struct table *table, const char **cell)
{
    for (size_t column = 0; column < table->columns; column++) {
        size_t padding = table->widths[column] - display_width(*cell);
        bool last = column + 1 == table->columns;
        if (table->right[column])
            query_put_spaces(text, padding);
        query_put_text(text, *cell);
        if (!table->right[column] && !last)
            query_put_spaces(text, padding);
        if (!last)
            query_put_text(text, "  ");
        *cell += strlen(*cell) + 1;
    }
    query_put_char(text, '\n');
}

static void put_rule(struct query_text *text, const struct table *table)
{
    for (size_t column = 0; column < table->columns; column++) {
        for (size_t i = 0; i < table->widths[column]; i++)
            query_put_char(text, '-');
        query_put_text(text, column + 1 == table->columns ? "\n" : "  ");
    }
}

static void put_table_offsets(struct query_text *text, const char *what,
                              const struct query_receipt *receipt, bool cutoffs)
{
    query_put_text(text, what);
    for (size_t i = 0; i < receipt->partition_count; i++) {
        const struct query_partition *partition = &receipt->partitions[i];
        if (i == 0)
            query_put_text(text, partition->topic);
        query_put_char(text, ' ');
        query_put_integer(text, partition->partition);
        query_put_char(text, ':');
        query_put_integer(text, cutoffs ? partition->cutoff : partition->position);
    }
    query_put_char(text, '\n');
}

static void put_table_receipt(struct query_text *text, const struct query_answer *answer)
{
    const struct query_receipt *receipt = &answer->receipt;
    query_put_text(text, "\n");
    query_put_integer(text, (int64_t)answer->row_count);
    query_put_text(text, answer->row_count == 1 ? " row" : " rows");
    query_put_text(text, ", batch run ");
    query_put_integer(text, receipt->run);
    query_put_char(text, '\n');
    put_table_offsets(text, "cut-offs   C  ", receipt, true);
    put_table_offsets(text, "positions  P  ", receipt, false);
    if (receipt->imported > 0) {
        query_put_text(text, "imported      ");
        query_put_integer(text, receipt->imported);
        query_put_text(text, receipt->imported == 1 ? " record\n" : " records\n");
    }
    query_put_text(text, "watermark     ");
    if (receipt->has_watermark)
        query_put_time(text, receipt->watermark_us);
    else
        query_put_text(text, "none");
    query_put_text(text, "\nfreshness     ");
    if (receipt->has_freshness) {
        query_put_integer(text, receipt->freshness_ms);
        query_put_text(text, " ms\n");
    } else {
        query_put_text(text, "unknown\n");
    }
}

static void put_table_page(struct query_text *text, const struct query_answer *answer)
{
    if (answer->has_moved)
        query_put_text(text, "moved         run, C or P are not those of the page before\n");
    if (!answer->has_more)
        return;
    query_put_text(text, "more          --cursor ");
    query_put_text(text, answer->next != NULL ? answer->next : "(the keys are too long for one)");
    query_put_char(text, '\n');
}

static void put_table_stage(struct query_text *text, const char *stage, int64_t us)
{
    query_put_text(text, stage);
    query_put_integer(text, us);
    query_put_text(text, " us");
}

static void put_table_explain(struct query_text *text, const struct query_answer *answer)
{
    const struct query_explain *explain = &answer->explain;
    query_put_text(text, "rows read     batch ");
    query_put_integer(text, (int64_t)answer->batch_rows_read);
    query_put_text(text, ", speed ");
    query_put_integer(text, (int64_t)answer->speed_rows_read);
    query_put_text(text, "; groups held at most ");
    query_put_integer(text, (int64_t)explain->groups_held);
    put_table_stage(text, "\ntime          receipt ", explain->receipt_us);
    put_table_stage(text, ", batch ", explain->batch_us);
    put_table_stage(text, ", speed ", explain->speed_us);
    put_table_stage(text, ", rows ", explain->rows_us);
    query_put_char(text, '\n');
}

char *query_answer_table(const struct query_answer *answer, size_t *length)
{
    struct query_text text = {0};
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
    put_table_page(&text, answer);
    if (answer->explain.asked)
        put_table_explain(&text, answer);
    (void)query_text_take(&text, length);
cleanup:
    free(table.cells.data);
    free(table.widths);
    free(table.right);
    return text.data;
}
