/* dovetail diff: what another definition of a view would change, by window and keys.
 *
 * The new side is recomputed from the records below the positions of the served answer's receipt,
 * as `dovetail verify` does it (cli/recomputation.h). So both sides are about the same records, and
 * the version that is being built need not be readable, nor even be registered. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/recomputation.h"
#include "cli/table.h"
#include "core/time/timestamp.h"

enum { SHOWN_MAX = 20, VALUES_BYTES = 400 };
enum { UNDECIDED = 3 }; /* exit code: nothing was compared */

/* What the served version is compared with. */
struct candidate {
    const struct source *source;
    const struct view *view;
    int version;                    /* 0: the definition file, which is not registered yet */
    struct definitions definitions; /* owned */
};

struct difference {
    const struct view *served;
    const struct view *candidate;
    struct table *table;
    size_t shown;
    size_t added, removed, changed, same;
};

/* --- the two definitions --- */

static bool computes_the_same(const struct view *a, const struct view *b, struct error *error)
{
    char *left = view_canonical_text(a);
    char *right = view_canonical_text(b);
    bool same = left != NULL && right != NULL && strcmp(left, right) == 0;
    if (left == NULL || right == NULL)
        error_no_memory(error);
    free(left);
    free(right);
    return same;
}

static const struct catalog_version *find_building(const struct catalog *catalog, const char *name)
{
    for (size_t i = 0; i < catalog->version_count; i++)
        if (catalog->versions[i].state == CATALOG_BUILDING &&
            strcmp(catalog->versions[i].view->name, name) == 0)
            return &catalog->versions[i];
    return NULL;
}

/* The version that is being built, or else the definition file where that says something else.
 * out->view stays NULL where there is neither. */
static int find_candidate(const struct session *session, const struct catalog_version *served,
                          struct candidate *out)
{
    struct error error = {0};
    const char *name = served->view->name;
    const struct catalog_version *building = find_building(session->catalog, name);
    if (building != NULL) {
        out->source = building->source;
        out->view = building->view;
        out->version = building->version;
        return PROGRAM_OK;
    }
    int code = command_load_definitions(session->config, &out->definitions);
    if (code != PROGRAM_OK)
        return code;
    for (size_t i = 0; i < out->definitions.view_count; i++) {
        struct view *view = out->definitions.views[i];
        if (strcmp(view->name, name) != 0)
            continue;
        if (!computes_the_same(view, served->view, &error)) {
            out->view = view;
            out->source = view->source;
        }
        break;
    }
    return error.status == STATUS_OK ? PROGRAM_OK : command_fail(&error);
}

/* --- comparing --- */

/* Rows can be matched where the keys are the same ones. */
static bool keys_match(const struct view *a, const struct view *b)
{
    if (a->key_count != b->key_count)
        return false;
    for (size_t i = 0; i < a->key_count; i++)
        if (strcmp(a->keys[i].name, b->keys[i].name) != 0 || a->keys[i].type != b->keys[i].type)
            return false;
    return true;
}

/* -1: there is none. */
static int find_measure(const struct view *view, const char *name)
{
    for (size_t i = 0; i < view->measure_count; i++)
        if (strcmp(view->measures[i].name, name) == 0)
            return (int)i;
    return -1;
}

static const char *shown(const char *text)
{
    return text != NULL ? text : "NULL";
}

static const char *measure_of(const struct view *view, const struct row *row, size_t measure)
{
    return shown(row->texts[view->key_count + measure]);
}

/* "flights=3 late=1"; cut where it is long. */
static void describe_measures(const struct view *view, const struct row *row, char *out)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < view->measure_count && used < VALUES_BYTES; i++)
        used += (size_t)snprintf(out + used, VALUES_BYTES - used, "%s%s=%s", i > 0 ? " " : "",
                                 view->measures[i].name, measure_of(view, row, i));
}

static void add_line(struct difference *difference, const char *what, const struct view *view,
                     const struct row *row, const char *measure, const char *served,
                     const char *candidate)
{
    char window[TIMESTAMP_TEXT_SIZE];
    char keys[300];
    if (++difference->shown > SHOWN_MAX)
        return;
    timestamp_format(row->window_us, window, sizeof window);
    row_describe_keys(view, row, keys, sizeof keys);
    table_add(difference->table, what);
    table_add(difference->table, view->window.kind->is_timeless ? "" : window);
    table_add(difference->table, keys);
    table_add(difference->table, measure);
    table_add(difference->table, served);
    table_add(difference->table, candidate);
}

static void add_row(struct difference *difference, const struct row *row, bool is_added)
{
    char values[VALUES_BYTES];
    const struct view *view = is_added ? difference->candidate : difference->served;
    describe_measures(view, row, values);
    *(is_added ? &difference->added : &difference->removed) += 1;
    add_line(difference, is_added ? "added" : "removed", view, row, "(row)",
             is_added ? NULL : values, is_added ? values : NULL);
}

static void compare_pair(struct difference *difference, const struct row *served,
                         const struct row *candidate)
{
    const struct view *old = difference->served;
    const struct view *new = difference->candidate;
    bool changed = served->end_us != candidate->end_us;
    if (changed) {
        char a[TIMESTAMP_TEXT_SIZE], b[TIMESTAMP_TEXT_SIZE];
        timestamp_format(served->end_us, a, sizeof a);
        timestamp_format(candidate->end_us, b, sizeof b);
        add_line(difference, "changed", old, served, "window_end", a, b);
    }
    for (size_t i = 0; i < new->measure_count; i++) {
        int other = find_measure(old, new->measures[i].name);
        const char *to = candidate->texts[new->key_count + i];
        if (other < 0) {
            changed = true;
            add_line(difference, "changed", new, candidate, new->measures[i].name, NULL, shown(to));
            continue;
        }
        const char *from = served->texts[old->key_count + (size_t)other];
        if (row_compare_texts(from, to) == 0)
            continue;
        changed = true;
        add_line(difference, "changed", new, candidate, new->measures[i].name, shown(from),
                 shown(to));
    }
    for (size_t i = 0; i < old->measure_count; i++) {
        if (find_measure(new, old->measures[i].name) >= 0)
            continue;
        changed = true;
        add_line(difference, "changed", old, served, old->measures[i].name,
                 measure_of(old, served, i), NULL);
    }
    *(changed ? &difference->changed : &difference->same) += 1;
}

static void compare(struct difference *difference, const struct rows *served,
                    const struct rows *candidate)
{
    size_t a = 0;
    size_t b = 0;
    bool matching = keys_match(difference->served, difference->candidate);
    while (a < served->count || b < candidate->count) {
        int order =
            a == served->count ? 1
            : b == candidate->count || !matching
                ? -1
                : row_compare_keys(&served->rows[a], &candidate->rows[b], served->key_count);
        if (order == 0)
            compare_pair(difference, &served->rows[a++], &candidate->rows[b++]);
        else if (order < 0)
            add_row(difference, &served->rows[a++], false);
        else
            add_row(difference, &candidate->rows[b++], true);
    }
}

/* --- telling --- */

static void print_subject(const struct catalog_version *served, const struct candidate *candidate)
{
    if (candidate->version > 0)
        printf("version %d, which is being built, against version %d, which is served: ",
               candidate->version, served->version);
    else
        printf("the definition file, which is not registered, against version %d, which is "
               "served: ",
               served->version);
}

static int print_difference(const struct difference *difference,
                            const struct catalog_version *served, const struct candidate *candidate,
                            struct recomputation *recomputation)
{
    bool different = difference->added + difference->removed + difference->changed > 0;
    if (different && !table_print(difference->table, stdout)) {
        command_complain("out of memory");
        return PROGRAM_FAILURE;
    }
    if (difference->shown > SHOWN_MAX)
        printf("... and %zu more\n", difference->shown - SHOWN_MAX);
    if (!keys_match(difference->served, difference->candidate))
        puts("the keys are others, so no row of one is a row of the other");
    print_subject(served, candidate);
    printf("%zu row%s added, %zu removed, %zu changed, %zu the same; %" PRId64 " record%s, ",
           difference->added, plural((int64_t)difference->added), difference->removed,
           difference->changed, difference->same, recomputation->record_count,
           plural(recomputation->record_count));
    recomputation_print_receipt(&recomputation->answer->receipt);
    int written = command_finish_output();
    recomputation->differs = different && written == PROGRAM_OK;
    return different ? PROGRAM_FAILURE : written;
}

static int compare_and_print(const struct catalog_version *served,
                             const struct candidate *candidate, struct recomputation *recomputation)
{
    static const char *const columns[] = {"change", "window", "keys", "measure",
                                          "served", "new",    NULL};
    struct error error = {0};
    struct rows old = {0};
    struct rows new = {0};
    struct difference difference = {
        .served = served->view, .candidate = candidate->view, .table = table_create(columns)};
    int code = PROGRAM_FAILURE;
    arena_init(&old.arena);
    arena_init(&new.arena);
    enum status status = difference.table != NULL ? STATUS_OK : error_no_memory(&error);
    if (status == STATUS_OK)
        status = rows_from_answer(&old, recomputation->answer, &error);
    if (status == STATUS_OK)
        status = rows_from_result(&new, recomputation->recomputed, candidate->view, &error);
    if (status == STATUS_OK) {
        compare(&difference, &old, &new);
        code = print_difference(&difference, served, candidate, recomputation);
    } else {
        code = command_fail(&error);
    }
    table_destroy(difference.table);
    arena_deinit(&old.arena);
    arena_deinit(&new.arena);
    return code;
}

/* --- the command --- */

static int compare_with(const struct session *session, const struct catalog_version *served,
                        const struct candidate *candidate, struct recomputation *recomputation)
{
    struct error error = {0};
    if (candidate->view == NULL) {
        printf("nothing would change: version %d is served, none is being built, and the definition"
               " file does not say anything else\n",
               served->version);
        return command_finish_output();
    }
    if (strcmp(candidate->source->topic, served->source->topic) != 0) {
        command_complain("the definitions read the topics %s and %s: there is no position in both",
                         served->source->topic, candidate->source->topic);
        return PROGRAM_USAGE;
    }
    enum status status = recomputation_make(recomputation, session, served, candidate->source,
                                            candidate->view, &error);
    int code = status == STATUS_OK ? compare_and_print(served, candidate, recomputation)
                                   : command_fail(&error);
    return code;
}

static int diff(const struct session *session, struct recomputation *recomputation)
{
    int code = PROGRAM_OK;
    struct candidate candidate = {0};
    const struct catalog_version *served = session_view(session, recomputation->view_name, &code);
    if (served == NULL)
        return code;
    code = find_candidate(session, served, &candidate);
    if (code == PROGRAM_OK)
        code = compare_with(session, served, &candidate, recomputation);
    definitions_deinit(&candidate.definitions);
    return code;
}

static int run(const struct program_arguments *program)
{
    return recomputation_command(program, UNDECIDED, diff);
}

const struct command command_diff = {
    .name = "diff",
    .summary = "what a changed definition of a view would change",
    .help =
        "usage: dovetail diff VIEW [--from T] [--to T]\n"
        "\n"
        "Compares the version of a view that is served with the one that is being built, or, "
        "where\n"
        "none is, with its definition file: so it can be asked before `dovetail init`. The new "
        "side\n"
        "is recomputed from every raw record below the positions of the served answer, as "
        "`dovetail\n"
        "verify` does it, so both are about the same records. Looked-up columns are left out. "
        "Works\n"
        "on temporary tables only, of the size of all those records.\n"
        "\n"
        "Exit code 0: no row would change; 1: rows are added, removed or changed, of which the\n"
        "first 20 lines are shown and all are counted; 2: bad usage; 3: it could not be compared.\n"
        "\n"
        "  --from T, --to T    only windows that start in [from, to): RFC 3339 or a date\n"
        "\n"
        "options of all commands:",
    .run = run,
};
