/* dovetail verify: recomputes a view from the raw records and compares every value.
 * See cli/recomputation.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/recomputation.h"
#include "cli/table.h"
#include "core/time/timestamp.h"

enum { SHOWN_MAX = 20 };

struct comparison {
    const struct view *view;
    struct table *table;
    size_t difference_count;
};

/* --- comparing --- */

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
    row_describe_keys(comparison->view, row, keys, sizeof keys);
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
        if (row_compare_texts(a, b) != 0)
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
        int order =
            a == answer->count ? 1
            : b == recomputed->count
                ? -1
                : row_compare_keys(&answer->rows[a], &recomputed->rows[b], answer->key_count);
        if (order == 0)
            compare_measures(comparison, &answer->rows[a++], &recomputed->rows[b++]);
        else if (order < 0)
            add_difference(comparison, &answer->rows[a++], "(row)", "present", "missing");
        else
            add_difference(comparison, &recomputed->rows[b++], "(row)", "missing", "present");
    }
}

/* --- telling --- */

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
                            const struct recomputation *verification, size_t row_count)
{
    if (comparison->difference_count == 0) {
        printf("identical: %zu row%s, %" PRId64 " record%s, ", row_count,
               plural((int64_t)row_count), verification->record_count,
               plural(verification->record_count));
        recomputation_print_receipt(&verification->answer->receipt);
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
    recomputation_print_receipt(&verification->answer->receipt);
    print_lookups(comparison->view);
    (void)command_finish_output();
    return PROGRAM_FAILURE;
}

static int compare_and_print(const struct view *view, const struct recomputation *verification)
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

static int verify(const struct session *session, struct recomputation *verification)
{
    int code = PROGRAM_OK;
    struct error error = {0};
    const struct catalog_version *version = session_view(session, verification->view_name, &code);
    if (version == NULL)
        return code;
    enum status status =
        recomputation_make(verification, session, version, version->source, version->view, &error);
    code =
        status == STATUS_OK ? compare_and_print(version->view, verification) : command_fail(&error);
    return code;
}

static int run(const struct program_arguments *program)
{
    return recomputation_command(program, PROGRAM_FAILURE, verify);
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
