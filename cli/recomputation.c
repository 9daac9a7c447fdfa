/* Recomputing a view from raw records: see cli/recomputation.h. */
#include "cli/recomputation.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/verify_records.h"
#include "core/time/timestamp.h"

/* --- the two sides --- */

int row_compare_texts(const char *a, const char *b)
{
    if (a == NULL || b == NULL)
        return (a == NULL) - (b == NULL);
    return strcmp(a, b);
}

int row_compare_keys(const struct row *a, const struct row *b, size_t key_count)
{
    if (a->window_us != b->window_us)
        return a->window_us < b->window_us ? -1 : 1;
    for (size_t i = 0; i < key_count; i++) {
        int order = row_compare_texts(a->texts[i], b->texts[i]);
        if (order != 0)
            return order;
    }
    return 0;
}

static int compare_rows(const void *a, const void *b, void *context)
{
    const struct rows *rows = context;
    return row_compare_keys(a, b, rows->key_count);
}

static enum status rows_reserve(struct rows *rows, const struct view *view, size_t count,
                                struct error *error)
{
    rows->key_count = view->key_count;
    rows->text_count = view->key_count + view->measure_count;
    rows->count = count;
    rows->rows = arena_alloc(&rows->arena, (count + 1) * sizeof *rows->rows);
    if (rows->rows == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < count; i++) {
        rows->rows[i].texts = arena_alloc(&rows->arena, rows->text_count * sizeof(char *));
        if (rows->rows[i].texts == NULL)
            return error_no_memory(error);
    }
    return STATUS_OK;
}

static void rows_sort(struct rows *rows)
{
    qsort_r(rows->rows, rows->count, sizeof *rows->rows, compare_rows, rows);
}

static enum status take_value(struct rows *rows, const struct value *value, const char *wide_text,
                              const char **out, struct error *error)
{
    size_t length;
    *out = wide_text;
    if (wide_text != NULL || value->is_null)
        return STATUS_OK;
    *out = value_text(value, &rows->arena, &length);
    return *out != NULL ? STATUS_OK : error_no_memory(error);
}

enum status rows_from_answer(struct rows *rows, const struct query_answer *answer,
                             struct error *error)
{
    enum status status = rows_reserve(rows, answer->view, answer->row_count, error);
    for (size_t i = 0; status == STATUS_OK && i < rows->count; i++) {
        const struct query_row *from = &answer->rows[i];
        struct row *to = &rows->rows[i];
        to->window_us = from->window_start_us;
        to->end_us = from->window_end_us;
        for (size_t k = 0; status == STATUS_OK && k < rows->key_count; k++)
            status = take_value(rows, &from->keys[k], NULL, &to->texts[k], error);
        for (size_t m = 0; status == STATUS_OK && m < answer->measure_count; m++)
            status = take_value(rows, &from->results[m],
                                from->wide_texts != NULL ? from->wide_texts[m] : NULL,
                                &to->texts[rows->key_count + m], error);
    }
    if (status == STATUS_OK)
        rows_sort(rows);
    return status;
}

static enum value_type type_of_text(const struct view *view, size_t index)
{
    if (index < view->key_count)
        return expression_type(view->keys[index].expression);
    return view->measures[index - view->key_count].measure->result_type;
}

enum status rows_from_result(struct rows *rows, const PGresult *result, const struct view *view,
                             struct error *error)
{
    enum status status = rows_reserve(rows, view, (size_t)PQntuples(result), error);
    for (size_t i = 0; status == STATUS_OK && i < rows->count; i++) {
        struct row *row = &rows->rows[i];
        row->window_us = postgres_int64(result, (int)i, 0);
        row->end_us = postgres_int64(result, (int)i, 1);
        for (size_t t = 0; status == STATUS_OK && t < rows->text_count; t++) {
            int column = (int)t + 2;
            bool is_null = PQgetisnull(result, (int)i, column) != 0;
            row->texts[t] = is_null ? NULL : PQgetvalue(result, (int)i, column);
            if (is_null || type_of_text(view, t) != VALUE_TIMESTAMP)
                continue;
            struct value time = value_timestamp(postgres_int64(result, (int)i, column));
            status = take_value(rows, &time, NULL, &row->texts[t], error);
        }
    }
    if (status == STATUS_OK)
        rows_sort(rows);
    return status;
}

void row_describe_keys(const struct view *view, const struct row *row, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < view->key_count && used < size; i++) {
        const char *text = row->texts[i];
        used += (size_t)snprintf(out + used, size - used, "%s%s=%s", i > 0 ? " " : "",
                                 view->keys[i].name, text != NULL ? text : "NULL");
    }
}

/* --- recomputing --- */

static enum status execute_owned(struct postgres *postgres, char *sql, struct error *error)
{
    if (sql == NULL)
        return error_no_memory(error);
    enum status status = postgres_execute(postgres, sql, error);
    free(sql);
    return status;
}

/* The view's statement over verify_parsed. An expression that fails for one record fails it as a
 * whole: then the records that do so are dropped one by one, as the engine does. */
static enum status recompute(struct postgres *postgres, const struct view *view,
                             const struct verify_range *range, PGresult **out, struct error *error)
{
    char *sql = verify_rows_sql(view, range);
    if (sql == NULL)
        return error_no_memory(error);
    enum status status = postgres_query(postgres, sql, 0, NULL, out, error);
    bool is_data = strncmp(error->sqlstate, "22", 2) == 0 || /* data exceptions, and what has no */
                   strncmp(error->sqlstate, "54", 2) == 0;   /* room, such as chr(0) */
    if (status != STATUS_OK && is_data) {
        PQclear(*out);
        *out = NULL;
        command_progress("some records make an expression fail: finding them");
        status = execute_owned(postgres, verify_reject_sql(view), error);
        if (status == STATUS_OK)
            status = postgres_query(postgres, sql, 0, NULL, out, error);
    }
    free(sql);
    return status;
}

/* query_run has checked the texts. */
static int64_t parse_bound(const char *text, int64_t otherwise)
{
    int64_t us = otherwise;
    if (text != NULL && timestamp_parse_date_or_rfc3339(text, strlen(text), &us) != TIMESTAMP_OK)
        us = otherwise;
    return us;
}

enum status recomputation_make(struct recomputation *recomputation, const struct session *session,
                               const struct catalog_version *served, const struct source *source,
                               const struct view *view, struct error *error)
{
    struct postgres *postgres = session->postgres;
    struct query_request *request = &recomputation->request;
    /* Looked-up columns are left out: no record says what they should be. */
    request->group_by = recomputation->keys;
    request->group_by_count = served->view->key_count;
    for (size_t i = 0; i < served->view->key_count; i++)
        recomputation->keys[i] = served->view->keys[i].name;
    recomputation->range = (struct verify_range){parse_bound(request->from, INT64_MIN),
                                                 parse_bound(request->to, INT64_MAX)};
    enum status status = query_run(postgres, served, request, &recomputation->answer, error);
    if (status == STATUS_OK)
        status = execute_owned(postgres, verify_setup_sql(source), error);
    if (status == STATUS_OK)
        status =
            verify_load_records(postgres, session->config, source, &recomputation->answer->receipt,
                                &recomputation->record_count, error);
    if (status == STATUS_OK)
        command_progress("parsing %" PRId64 " records", recomputation->record_count);
    if (status == STATUS_OK) {
        status = execute_owned(postgres, verify_parse_sql(source), error);
        if (status != STATUS_OK)
            (void)error_wrap(error, "parsing the records of source %s in PostgreSQL", source->name);
    }
    if (status == STATUS_OK)
        status = postgres_execute(postgres, verify_view_settings_sql, error);
    if (status == STATUS_OK)
        command_progress("recomputing");
    if (status == STATUS_OK) {
        status =
            recompute(postgres, view, &recomputation->range, &recomputation->recomputed, error);
        if (status != STATUS_OK)
            (void)error_wrap(error, "recomputing view %s in PostgreSQL", view->name);
    }
    command_progress_end();
    return status;
}

void recomputation_deinit(struct recomputation *recomputation)
{
    PQclear(recomputation->recomputed);
    query_answer_destroy(recomputation->answer);
}

/* --- arguments --- */

static bool take_option(void *context, size_t index, const char *value)
{
    struct recomputation *recomputation = context;
    *(index == 0 ? &recomputation->request.from : &recomputation->request.to) = value;
    return true;
}

int recomputation_command(const struct program_arguments *program, int failure,
                          int (*compare)(const struct session *session,
                                         struct recomputation *recomputation))
{
    static const struct option_spec specs[] = {{"--from", true}, {"--to", true}, {NULL, false}};
    struct session session = {0};
    struct recomputation recomputation = {.request = {.row_limit = INT64_MAX}};
    if (!option_one_view(program, specs, take_option, &recomputation, &recomputation.view_name))
        return PROGRAM_USAGE;
    int code = session_open(&session, program);
    if (code == PROGRAM_OK)
        code = compare(&session, &recomputation);
    recomputation_deinit(&recomputation);
    session_close(&session);
    return code == PROGRAM_FAILURE && !recomputation.differs ? failure : code;
}

/* --- telling --- */

const char *plural(int64_t count)
{
    return count == 1 ? "" : "s";
}

void recomputation_print_receipt(const struct query_receipt *receipt)
{
    printf("run %" PRId64 ", positions", receipt->run);
    for (size_t i = 0; i < receipt->partition_count; i++) {
        const struct query_partition *partition = &receipt->partitions[i];
        if (i == 0)
            printf(" %s [", partition->topic);
        printf("%s%" PRId64, i > 0 ? ", " : "", partition->position);
    }
    puts(receipt->partition_count > 0 ? "]" : " none");
}
