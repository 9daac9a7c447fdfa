/* The examples of docs/VIEWS.md are definitions that load: every block that begins with ```json
 * source or ```json view. A view is over a source that stands before it. The program runs in the
 * repository's root, as make does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/definitions/definition.h"
#include "core/functions/functions.h"
#include "core/groups.h"

enum { SOURCES_MAX = 16, TEXT_MAX = 100000 };

static struct error error;
static char text[TEXT_MAX];

static void read_page(void)
{
    FILE *file = fopen("docs/VIEWS.md", "r");
    assert_non_null(file);
    size_t length = fread(text, 1, sizeof text - 1, file);
    assert_true(length > 0 && length < sizeof text - 1);
    text[length] = '\0';
    fclose(file);
}

/* The next block of JSON at or after `from`: its kind and its text. NULL at the end. */
static const char *next_block(const char *from, char *kind, size_t size, json_t **json)
{
    const char *start = strstr(from, "\n```json");
    if (start == NULL) {
        return NULL;
    }
    const char *line_end = strchr(start + 1, '\n');
    const char *end = line_end == NULL ? NULL : strstr(line_end, "\n```");
    assert_non_null(end);
    snprintf(kind, size, "%.*s", (int)(line_end - start - 8), start + 8);
    json_error_t fault;
    *json = json_loadb(line_end, (size_t)(end - line_end), JSON_REJECT_DUPLICATES, &fault);
    if (*json == NULL) {
        fail_msg("%.*s: %s", (int)(end - start), start, fault.text);
    }
    return end + 1;
}

static const struct source *find(struct source *const *sources, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(sources[i]->name, name) == 0) {
            return sources[i];
        }
    }
    fail_msg("no source \"%s\" before its view", name);
    return NULL;
}

/* Which of measure_kinds() the examples have used. */
static bool is_used[64];

static void note_measures(const struct view *view)
{
    for (size_t i = 0; i < view->measure_count; i++) {
        for (size_t k = 0; measure_kinds()[k] != NULL; k++) {
            is_used[k] = is_used[k] || measure_kinds()[k] == view->measures[i].measure->kind;
        }
    }
}

/* Names that mean the same as another, which has the example. */
static bool is_synonym(const char *name)
{
    return strcmp(name, "variance") == 0 || strcmp(name, "stddev") == 0;
}

static void test_examples_load(void **state)
{
    (void)state;
    struct source *sources[SOURCES_MAX];
    size_t source_count = 0, view_count = 0;
    char kind[32];
    json_t *json;

    read_page();
    for (const char *at = text; (at = next_block(at, kind, sizeof kind, &json)) != NULL;) {
        if (strcmp(kind, " source") == 0) {
            assert_true(source_count < SOURCES_MAX);
            if (source_create(json, "docs/VIEWS.md", &sources[source_count], &error) != STATUS_OK) {
                fail_msg("%s", error.text);
            }
            source_count++;
        } else if (strcmp(kind, " view") == 0) {
            const char *name = json_string_value(json_object_get(json, "source"));
            struct view *view;
            assert_non_null(name);
            if (view_create(json, "docs/VIEWS.md", find(sources, source_count, name), &view,
                            &error) != STATUS_OK) {
                fail_msg("%s", error.text);
            }
            note_measures(view);
            view_destroy(view);
            view_count++;
        } else {
            fail_msg("a block of JSON is neither \"source\" nor \"view\", but \"%s\"", kind);
        }
        json_decref(json);
    }
    for (size_t i = 0; measure_kinds()[i] != NULL; i++) {
        if (!is_used[i] && !is_synonym(measure_kinds()[i]->name)) {
            fail_msg("no example uses %s", measure_kinds()[i]->name);
        }
    }
    assert_true(source_count >= 3);
    assert_true(view_count >= 3);
    for (size_t i = 0; i < source_count; i++) {
        source_destroy(sources[i]);
    }
}

/* The names of all measures, and the limits, are on the page. */
static void test_measures_and_limits_are_told(void **state)
{
    (void)state;
    char wanted[64];

    read_page();
    for (size_t i = 0; measure_kinds()[i] != NULL; i++) {
        snprintf(wanted, sizeof wanted, "`%s(", measure_kinds()[i]->name);
        if (strstr(text, wanted) == NULL) {
            fail_msg("docs/VIEWS.md does not mention %s)`", wanted);
        }
    }
    static const struct {
        const char *format;
        int limit;
    } limits[] = {
        {"use, 1 to %d |", SOURCE_FIELD_MAX},
        {"the keys, at most %d:", VIEW_KEY_MAX},
        {"call of each measure, 1 to %d |", VIEW_MEASURE_MAX},
        {"At most %d lookups", VIEW_LOOKUP_MAX},
        {"lookups and %d columns", VIEW_LOOKED_UP_MAX},
        {"together at most %d KiB", LOOKED_UP_BYTES_MAX / 1024},
        {"then up to %d letters", NAME_MAX_BYTES - 1},
        {"at most %d digits, at most", DECIMAL_MAX_DIGITS},
        {"nested more than %d deep", EVENT_DEPTH_MAX},
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        char start[64];
        snprintf(wanted, sizeof wanted, "%s", limits[i].format);
        char *number = strstr(wanted, "%d");
        assert_non_null(number);
        snprintf(start, sizeof start, "%.*s%d%s", (int)(number - wanted), wanted, limits[i].limit,
                 number + 2);
        if (strstr(text, start) == NULL) {
            fail_msg("docs/VIEWS.md does not say \"%s\"", start);
        }
    }
    assert_int_equal(KEY_BYTES_MAX, 2000);
    assert_non_null(strstr(text, "2,000 bytes together"));
}

/* The page's tables of functions have the rows of core/functions, in their order, and no others. */
static void test_functions_are_told(void **state)
{
    (void)state;
    char row[1000];

    read_page();
    const char *at = strstr(text, "### Functions\n");
    assert_non_null(at);
    for (size_t i = 0; function_tables[i] != NULL; i++) {
        at = strstr(at, "\n| call | result | meaning |\n|---|---|---|\n");
        assert_non_null(at);
        at = strstr(at, "|---|\n") + strlen("|---|\n");
        for (const struct function *one = function_tables[i]; one->name != NULL; one++) {
            if (one->form == NULL) {
                continue;
            }
            const char *gives = one->gives != NULL
                                    ? one->gives
                                    : value_type_name(function_type_of_letter(one->result));
            snprintf(row, sizeof row, "| `%s` | %s | %s |\n", one->form, gives, one->meaning);
            if (strncmp(at, row, strlen(row)) != 0) {
                fail_msg("docs/VIEWS.md should have the row\n%s  instead of\n%.*s", row,
                         (int)strcspn(at, "\n"), at);
            }
            at += strlen(row);
        }
        assert_true(*at == '\n'); /* no more rows */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_functions_are_told),
        cmocka_unit_test(test_examples_load),
        cmocka_unit_test(test_measures_and_limits_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
