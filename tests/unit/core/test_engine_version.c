/* What the engine computes stays the same while its version does: the views of tests/data/engine
 * over fixed events give rows of states and results whose checksums are in `results` there.
 *
 * Where this fails, either something broke, or what a definition means has been changed on purpose.
 * Then raise ENGINE_VERSION (core/definitions/definition.h) and put the lines that the test prints
 * into `results`. A new view there needs its line only. Runs in the repository's root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/groups.h"
#include "core/records/event_parser.h"

#define FOLDER "tests/data/engine"

enum { EVENTS = 2000, PARTS = 3, LINES_MAX = 20000 };

static struct error error;
static uint64_t random_state;

static void must(enum status status)
{
    if (status != STATUS_OK)
        fail_msg("%s", error.text);
}

/* The same numbers everywhere, for ever. */
static uint32_t draw(uint32_t bound)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % bound;
}

static size_t put_event(char *out, size_t size)
{
    static const char *const texts[] = {"null",       "\"alpha\"", "\"beta\"", "\"Ärger\"",
                                        "\"éclair\"", "\"\"",      "\" Gem \""};
    static const char *const flags[] = {"null", "true", "false"};
    int64_t at_ms = INT64_C(1015000000000) + (int64_t)draw(40000000) * 1000;
    char whole[16] = "null", amount[24] = "null", seen[40] = "null";
    if (draw(9) != 0)
        snprintf(whole, sizeof whole, "%d", (int)draw(100) - 10);
    if (draw(9) != 0)
        snprintf(amount, sizeof amount, "%d.%0*u", (int)draw(200) - 50, 1 + (int)draw(3), draw(10));
    if (draw(30) != 0)
        snprintf(seen, sizeof seen, "\"2002-%02u-%02uT%02u:30:00.5Z\"", 1 + draw(12), 1 + draw(28),
                 draw(24));
    const char *text = texts[draw(7)], *flag = flags[draw(3)];
    return (size_t)snprintf(out, size,
                            "{\"at\": %" PRId64 ", \"text\": %s, \"whole\": %s, \"amount\": %s,"
                            " \"flag\": %s, \"seen\": %s}",
                            at_ms, text, whole, amount, flag, seen);
}

/* Folds the events into several tables, which are merged. What is rejected, and why, is part of
 * the sum: not the text of it, but the SQLSTATE. */
static struct groups *fold(const struct view *view, XXH3_state_t *sum)
{
    struct groups *parts[PARTS];
    struct event_parser *parser;
    must(event_parser_create(view->source, &parser, &error));
    for (size_t i = 0; i < PARTS; i++)
        must(groups_create(view, &parts[i], &error));
    size_t counted = 0;
    random_state = 1;
    for (int64_t i = 0; i < EVENTS; i++) {
        char json[500];
        struct event event;
        enum fold_outcome outcome = FOLD_FILTERED;
        size_t length = put_event(json, sizeof json);
        error = (struct error){0};
        enum status status = event_parser_parse(parser, json, length, sizeof json, &event, &error);
        bool is_event = status == STATUS_OK;
        if (is_event) {
            const struct measure_origin origin = {
                .time_us = event.time_us, .partition = (int32_t)(i % 2), .offset = i};
            status = groups_fold(parts[i % PARTS], &event, &origin, &outcome, &error);
        }
        assert_true(status == STATUS_OK || status == STATUS_REJECT);
        counted += outcome == FOLD_COUNTED;
        char fate[40];
        snprintf(fate, sizeof fate, "%d %d %d %s", is_event, status == STATUS_OK,
                 outcome == FOLD_COUNTED, status == STATUS_OK ? "" : error.sqlstate);
        XXH3_64bits_update(sum, fate, strlen(fate) + 1);
    }
    assert_true(counted > EVENTS / 2);
    for (size_t i = 1; i < PARTS; i++) {
        must(groups_merge(parts[0], parts[i], &error));
        groups_destroy(parts[i]);
    }
    event_parser_destroy(parser);
    return parts[0];
}

/* The stored row of every pane. */
static void add_states(const struct view *view, const struct groups *panes, XXH3_state_t *sum)
{
    struct group **sorted;
    struct pgbinary_writer writer;
    pgbinary_writer_init(&writer);
    must(groups_sorted(panes, &sorted, &error));
    for (size_t i = 0; i < groups_count(panes); i++)
        must(group_encode_row(view, sorted[i], &writer, &error));
    XXH3_64bits_update(sum, writer.data, writer.length);
    free(sorted);
    pgbinary_writer_deinit(&writer);
}

static void add_text(XXH3_state_t *sum, const struct value *value, const char *wide,
                     struct arena *arena)
{
    const char *text = wide != NULL     ? wide
                       : value->is_null ? "NULL"
                                        : value_text(value, arena, NULL);
    assert_non_null(text);
    XXH3_64bits_update(sum, text, strlen(text) + 1);
}

/* Bounds and results of every window. */
static void add_results(const struct view *view, const struct groups *windows, XXH3_state_t *sum)
{
    struct group **sorted;
    struct arena arena;
    arena_init(&arena);
    must(groups_sorted(windows, &sorted, &error));
    for (size_t row = 0; row < groups_count(windows); row++) {
        int64_t bounds[2];
        view->window.kind->bounds(view, sorted[row], &bounds[0], &bounds[1]);
        XXH3_64bits_update(sum, bounds, sizeof bounds);
        for (size_t i = 0; i < view->measure_count; i++) {
            const struct measure *measure = view->measures[i].measure;
            struct value value;
            const char *wide = NULL;
            enum status status =
                measure->kind->finish(measure, group_state(sorted[row]) + view->state_offsets[i],
                                      &arena, &value, &wide, &error);
            if (status == STATUS_OK)
                add_text(sum, &value, wide, &arena);
            else
                XXH3_64bits_update(sum, "refused", sizeof "refused");
        }
        arena_reset(&arena);
    }
    free(sorted);
    arena_deinit(&arena);
}

static uint64_t checksum(const struct view *view, size_t *windows_count)
{
    const struct window_range everything = {0};
    XXH3_state_t *sum = XXH3_createState();
    XXH3_64bits_reset(sum);
    struct groups *groups = fold(view, sum);
    add_states(view, groups, sum);
    if (view->window.kind->combine != NULL) {
        struct groups *windows;
        must(groups_create(view, &windows, &error));
        must(view->window.kind->combine(view, &everything, groups, SIZE_MAX, windows, &error));
        groups_destroy(groups);
        groups = windows;
    }
    add_results(view, groups, sum);
    *windows_count = groups_count(groups);
    groups_destroy(groups);
    uint64_t digest = XXH3_64bits_digest(sum);
    XXH3_freeState(sum);
    return digest;
}

static void read_results(char *out, size_t size)
{
    FILE *file = fopen(FOLDER "/results", "r");
    assert_non_null(file);
    size_t length = fread(out, 1, size - 1, file);
    out[length] = '\0';
    fclose(file);
}

static void test_results_are_those_of_the_version(void **state)
{
    (void)state;
    static char results[LINES_MAX];
    struct definitions definitions;
    size_t wrong = 0, lines = 0;
    must(definitions_load(FOLDER, &definitions, NULL, NULL, &error));
    read_results(results, sizeof results);
    for (const char *at = results; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    for (size_t i = 0; i < definitions.view_count; i++) {
        char line[200];
        size_t windows = 0;
        const struct view *view = definitions.views[i];
        uint64_t sum = checksum(view, &windows);
        assert_true(windows > 1 || view->key_count == 0);
        snprintf(line, sizeof line, "%d %s %016" PRIx64 "\n", ENGINE_VERSION, view->name, sum);
        if (strstr(results, line) == NULL) {
            wrong++;
            print_error("%s", line);
        }
    }
    if (wrong > 0)
        print_error("These lines are not in " FOLDER "/results. Where what a definition means was"
                    " changed on purpose, raise ENGINE_VERSION and put them there.\n");
    assert_int_equal(wrong, 0);
    assert_int_equal(lines, definitions.view_count);
    definitions_deinit(&definitions);
}

/* The version is part of what makes two views the same. */
static void test_version_is_part_of_a_view(void **state)
{
    (void)state;
    struct definitions definitions;
    char wanted[40];
    must(definitions_load(FOLDER, &definitions, NULL, NULL, &error));
    char *text = view_canonical_text(definitions.views[0]);
    snprintf(wanted, sizeof wanted, "{\"engine\":%d,", ENGINE_VERSION);
    assert_memory_equal(text, wanted, strlen(wanted));
    free(text);
    definitions_deinit(&definitions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results_are_those_of_the_version),
        cmocka_unit_test(test_version_is_part_of_a_view),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
