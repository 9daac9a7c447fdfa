/* Rows that were told, and what differs: see serving/live_rows.h.
 *
 * The text of a row begins with what names it, so two answers are compared as texts: both are put
 * in the order of their identities and walked together. */
#include "serving/live_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void live_rows_deinit(struct live_rows *rows)
{
    free(rows->text);
    free(rows->rows);
    free(rows->order);
    *rows = (struct live_rows){0};
}

static int compare_identity(const struct live_rows *a, size_t a_row, const struct live_rows *b,
                            size_t b_row)
{
    const struct query_row_text *left = &a->rows[a_row];
    const struct query_row_text *right = &b->rows[b_row];
    size_t length = left->identity_length < right->identity_length ? left->identity_length
                                                                   : right->identity_length;
    int order = memcmp(a->text + left->at, b->text + right->at, length);
    if (order != 0)
        return order;
    return (left->identity_length > right->identity_length) -
           (left->identity_length < right->identity_length);
}

static int compare_order(const void *a, const void *b, void *context)
{
    return compare_identity(context, *(const size_t *)a, context, *(const size_t *)b);
}

enum status live_rows_make(const struct query_answer *answer, struct live_rows *out,
                           struct error *error)
{
    size_t length;
    *out = (struct live_rows){.known = true, .count = answer->row_count};
    out->rows = calloc(answer->row_count + 1, sizeof out->rows[0]);
    out->order = calloc(answer->row_count + 1, sizeof out->order[0]);
    if (out->rows != NULL && out->order != NULL)
        out->text = query_rows_json(answer, out->rows, &length);
    if (out->text == NULL) {
        live_rows_deinit(out);
        return error_no_memory(error);
    }
    out->bytes = length + out->count * (sizeof out->rows[0] + sizeof out->order[0]);
    for (size_t i = 0; i < out->count; i++)
        out->order[i] = i;
    qsort_r(out->order, out->count, sizeof out->order[0], compare_order, out);
    return STATUS_OK;
}

static bool is_equal(const struct live_rows *a, size_t a_row, const struct live_rows *b,
                     size_t b_row)
{
    const struct query_row_text *left = &a->rows[a_row];
    const struct query_row_text *right = &b->rows[b_row];
    return left->length == right->length &&
           memcmp(a->text + left->at, b->text + right->at, left->length) == 0;
}

/* Marks the rows of `now` that are new or other, writes what is gone; how many there are of both.
 */
static size_t compare(const struct live_rows *told, const struct live_rows *now, bool *is_new,
                      FILE *gone)
{
    size_t differences = 0;
    size_t removed = 0;
    size_t i = 0;
    size_t j = 0;
    while (i < told->count || j < now->count) {
        int order = i == told->count  ? 1
                    : j == now->count ? -1
                                      : compare_identity(told, told->order[i], now, now->order[j]);
        if (order < 0) {
            const struct query_row_text *row = &told->rows[told->order[i]];
            fprintf(gone, "%s%.*s}", removed++ > 0 ? "," : "", (int)row->identity_length,
                    told->text + row->at);
        } else {
            is_new[now->order[j]] =
                order > 0 || !is_equal(told, told->order[i], now, now->order[j]);
            differences += is_new[now->order[j]];
        }
        i += order <= 0;
        j += order >= 0;
    }
    return differences + removed;
}

static void put_rows(FILE *out, const struct live_rows *now, const bool *is_new)
{
    bool first = true;
    for (size_t i = 0; i < now->count; i++) {
        if (!is_new[i])
            continue;
        if (!first)
            fputc(',', out);
        first = false;
        fwrite(now->text + now->rows[i].at, 1, now->rows[i].length, out);
    }
}

static void put_receipt(FILE *out, const struct query_receipt *receipt, bool *failed)
{
    size_t length;
    char *text = query_receipt_json(receipt, &length);
    *failed = *failed || text == NULL;
    fprintf(out, "\"receipt\":%s}\n\n", text != NULL ? text : "null");
    free(text);
}

enum status live_rows_event(const struct live_rows *told, const struct live_rows *now,
                            const struct query_receipt *receipt, const char *id, char **event,
                            size_t *length, struct error *error)
{
    char *gone_text = NULL;
    size_t gone_length = 0;
    bool failed = false;
    bool *is_new = calloc(now->count + 1, sizeof *is_new);
    FILE *gone = open_memstream(&gone_text, &gone_length);
    FILE *out = open_memstream(event, length);
    size_t differences = 0;
    if (is_new != NULL && gone != NULL && out != NULL) {
        differences = compare(told, now, is_new, gone);
        failed = fflush(gone) != 0;
        fprintf(out, "event: %s\nid: %s\ndata: {\"rows\":[", told->known ? "rows" : "snapshot", id);
        put_rows(out, now, is_new);
        fputs("],", out);
        if (told->known)
            fprintf(out, "\"removed\":[%s],", gone_text);
        put_receipt(out, receipt, &failed);
    } else {
        failed = true;
    }
    failed = (gone != NULL && fclose(gone) != 0) || failed;
    failed = (out != NULL && fclose(out) != 0) || failed;
    free(gone_text);
    free(is_new);
    if (failed || (told->known && differences == 0)) {
        if (out != NULL)
            free(*event);
        *event = NULL;
    }
    return failed ? error_no_memory(error) : STATUS_OK;
}

char *live_receipt_event(const struct query_receipt *receipt, const char *id, size_t *length)
{
    char *event = NULL;
    bool failed = false;
    FILE *out = open_memstream(&event, length);
    if (out == NULL)
        return NULL;
    fprintf(out, "event: receipt\nid: %s\ndata: {", id);
    put_receipt(out, receipt, &failed);
    if (fclose(out) == 0 && !failed)
        return event;
    free(event);
    return NULL;
}
