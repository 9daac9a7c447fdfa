/* dovetail verify: recomputes a view from the raw records and compares every value.
 *
 * Order matters: the answer is read first, then the records below exactly the positions of its
 * receipt. Whatever is published or flushed meanwhile changes neither. The recomputation is
 * PostgreSQL's (verify_sql.h) and shares no folding, parsing or evaluating code with the engine.
 * Only temporary tables and functions are made, which end with the connection. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/table.h"
#include "cli/verify_records.h"
#include "cli/verify_sql.h"
#include "core/query/query.h"
#include "core/time/timestamp.h"

enum { SHOWN_MAX = 20, NUMBER_BYTES = 32 };

/* One row of either side. Texts are canonical, so equal values have equal texts; NULL is NULL. */
struct row {
    int64_t window_us, end_us;
    const char **texts; /* keys, then measures */
};

struct rows {
    struct row *rows; /* sorted by window and keys; in the arena, as all of it */
    size_t count;
    size_t key_count;
    size_t text_count;
    struct arena arena;
};

struct comparison {
    const struct view *view;
    struct table *table;
    size_t difference_count;
};

/* --- the two sides --- */

static int compare_texts(const char *a, const char *b)
{
    if (a == NULL || b == NULL)
        return (a == NULL) - (b == NULL);
    return strcmp(a, b);
}

static int compare_keys(const struct row *a, const struct row *b, size_t key_count)
{
    if (a->window_us != b->window_us)
        return a->window_us < b->window_us ? -1 : 1;
    for (size_t i = 0; i < key_count; i++) {
        int order = compare_texts(a->texts[i], b->texts[i]);
        if (order != 0)
            return order;
    }
    return 0;
}

static int compare_rows(const void *a, const void *b, void *context)
{
    const struct rows *rows = context;
    return compare_keys(a, b, rows->key_count);
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

/* The answer's rows; the answer must outlive them. */
static enum status rows_from_answer(struct rows *rows, const struct query_answer *answer,
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

/* The recomputed rows; the result must outlive them. */
static enum status rows_from_result(struct rows *rows, const PGresult *result,
                                    const struct view *view, struct error *error)
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

/* --- comparing --- */

static void describe_keys(const struct view *view, const struct row *row, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < view->key_count && used < size; i++) {
        const char *text = row->texts[i];
        used += (size_t)snprintf(out + used, size - used, "%s%s=%s", i > 0 ? " " : "",
                                 view->keys[i].name, text != NULL ? text : "NULL");
    }
}

static void add_difference(struct comparison *comparison, const struct row *row,
                           const char *measure, const char *answer, const char *recomputed)
{
    char window[TIMESTAMP_TEXT_SIZE];
    char keys[300];
    if (++comparison->difference_count > SHOWN_MAX)
        return;
    timestamp_format(row->window_us, window, sizeof window);
    if (comparison->view->window.kind->is_timeless)
        window[0] = '\0';
    describe_keys(comparison->view, row, keys, sizeof keys);
    table_add(comparison->table, window);
    table_add(comparison->table, keys);
    table_add(comparison->table, measure);
    table_add(comparison->table, answer);
    table_add(comparison->table, recomputed);
}

static void compare_measures(struct comparison *comparison, const struct row *answer,
                             const struct row *recomputed)
{
    const struct view *view = comparison->view;
    if (answer->end_us != recomputed->end_us) {
        char a[TIMESTAMP_TEXT_SIZE], b[TIMESTAMP_TEXT_SIZE];
        timestamp_format(answer->end_us, a, sizeof a);
        timestamp_format(recomputed->end_us, b, sizeof b);
        add_difference(comparison, answer, "window_end", a, b);
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        const char *a = answer->texts[view->key_count + i];
        const char *b = recomputed->texts[view->key_count + i];
        if (compare_texts(a, b) != 0)
            add_difference(comparison, answer, view->measures[i].name, a != NULL ? a : "NULL",
                           b != NULL ? b : "NULL");
    }
}

static void compare_sides(struct comparison *comparison, const struct rows *answer,
                          const struct rows *recomputed)
{
    size_t a = 0;
    size_t b = 0;
    while (a < answer->count || b < recomputed->count) {
        int order = a == answer->count ? 1
                    : b == recomputed->count
                        ? -1
                        : compare_keys(&answer->rows[a], &recomputed->rows[b], answer->key_count);
        if (order == 0)
            compare_measures(comparison, &answer->rows[a++], &recomputed->rows[b++]);
        else if (order < 0)
            add_difference(comparison, &answer->rows[a++], "(row)", "present", "missing");
        else
            add_difference(comparison, &recomputed->rows[b++], "(row)", "missing", "present");
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

struct verification {
    const char *view_name;
    struct query_request request;
    const char *keys[VIEW_KEY_MAX]; /* of the view, for the request */
    struct verify_range range;
    struct query_answer *answer;
    PGresult *recomputed;
    int64_t record_count;
};

/* query_run has checked the texts. */
static int64_t parse_bound(const char *text, int64_t otherwise)
{
    int64_t us = otherwise;
    if (text != NULL && timestamp_parse_date_or_rfc3339(text, strlen(text), &us) != TIMESTAMP_OK)
        us = otherwise;
    return us;
}

static enum status gather(const struct session *session, const struct catalog_version *version,
                          struct verification *verification, struct error *error)
{
    struct postgres *postgres = session->postgres;
    struct query_request *request = &verification->request;
    /* Looked-up columns are left out: no record says what they should be. */
    request->group_by = verification->keys;
    request->group_by_count = version->view->key_count;
    for (size_t i = 0; i < version->view->key_count; i++)
        verification->keys[i] = version->view->keys[i].name;
    verification->range = (struct verify_range){parse_bound(request->from, INT64_MIN),
                                                parse_bound(request->to, INT64_MAX)};
    enum status status = query_run(postgres, version, request, &verification->answer, error);
    if (status == STATUS_OK)
        status = execute_owned(postgres, verify_setup_sql(version->source), error);
    if (status == STATUS_OK)
        status =
            verify_load_records(postgres, session->config, version->source,
                                &verification->answer->receipt, &verification->record_count, error);
    if (status == STATUS_OK)
        command_progress("parsing %" PRId64 " records", verification->record_count);
    if (status == STATUS_OK)
        status = execute_owned(postgres, verify_parse_sql(version->source), error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, verify_view_settings_sql, error);
    if (status == STATUS_OK)
        command_progress("recomputing");
    if (status == STATUS_OK)
        status = recompute(postgres, version->view, &verification->range, &verification->recomputed,
                           error);
    command_progress_end();
    return status;
}

/* --- telling --- */

static const char *plural(int64_t count)
{
    return count == 1 ? "" : "s";
}

static void print_receipt(const struct query_receipt *receipt)
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

/* What was not compared. */
static void print_lookups(const struct view *view)
{
    for (size_t i = 0; i < view->looked_up_count; i++) {
        const struct view_key *column = &view->keys[view->key_count + i];
        printf("%s%s (%s)", i == 0 ? "looked up when asked, not recomputed: " : ", ", column->name,
               column->text);
    }
    if (view->looked_up_count > 0)
        putchar('\n');
}

static int print_comparison(const struct comparison *comparison,
                            const struct verification *verification, size_t row_count)
{
    if (comparison->difference_count == 0) {
        printf("identical: %zu row%s, %" PRId64 " record%s, ", row_count,
               plural((int64_t)row_count), verification->record_count,
               plural(verification->record_count));
        print_receipt(&verification->answer->receipt);
        print_lookups(comparison->view);
        return command_finish_output();
    }
    if (!table_print(comparison->table, stdout)) {
        command_complain("out of memory");
        return PROGRAM_FAILURE;
    }
    if (comparison->difference_count > SHOWN_MAX)
        printf("... and %zu more\n", comparison->difference_count - SHOWN_MAX);
    printf("different: %zu difference%s, %zu row%s, %" PRId64 " record%s, ",
           comparison->difference_count, plural((int64_t)comparison->difference_count), row_count,
           plural((int64_t)row_count), verification->record_count,
           plural(verification->record_count));
    print_receipt(&verification->answer->receipt);
    print_lookups(comparison->view);
    (void)command_finish_output();
    return PROGRAM_FAILURE;
}

static int compare_and_print(const struct view *view, const struct verification *verification)
{
    static const char *const columns[] = {"window", "keys",       "measure",
                                          "answer", "recomputed", NULL};
    struct error error = {0};
    struct rows answer = {0};
    struct rows recomputed = {0};
    struct comparison comparison = {.view = view, .table = table_create(columns)};
    int code = PROGRAM_FAILURE;
    arena_init(&answer.arena);
    arena_init(&recomputed.arena);
    enum status status = comparison.table != NULL ? STATUS_OK : error_no_memory(&error);
    if (status == STATUS_OK)
        status = rows_from_answer(&answer, verification->answer, &error);
    if (status == STATUS_OK)
        status = rows_from_result(&recomputed, verification->recomputed, view, &error);
    if (status == STATUS_OK) {
        compare_sides(&comparison, &answer, &recomputed);
        code = print_comparison(&comparison, verification, answer.count);
    } else {
        code = command_fail(&error);
    }
    table_destroy(comparison.table);
    arena_deinit(&answer.arena);
    arena_deinit(&recomputed.arena);
    return code;
}

/* --- the command --- */

static int verify(const struct session *session, struct verification *verification)
{
    int code = PROGRAM_OK;
    struct error error = {0};
    const struct catalog_version *version = session_view(session, verification->view_name, &code);
    if (version == NULL)
        return code;
    enum status status = gather(session, version, verification, &error);
    code =
        status == STATUS_OK ? compare_and_print(version->view, verification) : command_fail(&error);
    PQclear(verification->recomputed);
    query_answer_destroy(verification->answer);
    return code;
}

static bool parse(const struct program_arguments *program, struct verification *out)
{
    static const struct option_spec specs[] = {{"--from", true}, {"--to", true}, {NULL, false}};
    struct option_reader reader = {.next = program->rest, .specs = specs};
    size_t index;
    const char *value = NULL;
    enum option_result result;
    while ((result = option_next(&reader, &index, &value)) != OPTION_END) {
        if (result == OPTION_FAULT)
            return false;
        if (result == OPTION_POSITIONAL && out->view_name != NULL) {
            command_complain("%s: unexpected argument (see --help)", value);
            return false;
        }
        if (result == OPTION_POSITIONAL)
            out->view_name = value;
        else if (index == 0)
            out->request.from = value;
        else
            out->request.to = value;
    }
    if (out->view_name == NULL)
        command_complain("which view? (see --help)");
    return out->view_name != NULL;
}

static int run(const struct program_arguments *program)
{
    struct session session = {0};
    struct verification verification = {.request = {.row_limit = INT64_MAX}};
    if (!parse(program, &verification))
        return PROGRAM_USAGE;
    int code = session_open(&session, program);
    if (code == PROGRAM_OK)
        code = verify(&session, &verification);
    session_close(&session);
    return code;
}

const struct command command_verify = {
    .name = "verify",
    .summary = "recompute a view from the raw records and compare every value",
    .help =
        "usage: dovetail verify VIEW [--from T] [--to T]\n"
        "\n"
        "Asks the view, then recomputes it by an independent path: every raw record below the\n"
        "positions of the answer's receipt, from the archive and from Kafka, is parsed by\n"
        "PostgreSQL and aggregated there with the view's own expressions. Every value of every\n"
        "row is compared, but for looked-up columns, which come from no record. Works on\n"
        "temporary tables only, of the size of all those records.\n"
        "\n"
        "Exit code 0: identical; 1: there are differences, of which the first 20 are shown.\n"
        "\n"
        "  --from T, --to T    only windows that start in [from, to): RFC 3339 or a date\n"
        "\n"
        "options of all commands:",
    .run = run,
};
