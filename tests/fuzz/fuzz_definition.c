/* Definitions: any source and view is refused by name, or it folds records, stores their groups and
 * reads them again.
 *
 * Input: {"source": {...}, "view": {...}}, 0, then the bytes of records. */
#include "tests/fuzz/fuzz.h"

#include <jansson.h>

#include "core/catalog/catalog.h"
#include "core/groups.h"
#include "core/time/timestamp.h"

enum { RECORDS = 4 };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return 0;
}

static void check_rows(const struct groups *groups)
{
    const struct view *view = groups_view(groups);
    struct pgbinary_writer writer;
    struct groups *again = NULL;
    struct error error = {0};
    size_t count = view_row_columns(view);
    struct groups_cursor cursor = {0};
    struct pgbinary_field *fields = calloc(count, sizeof *fields);
    const struct group *group;
    pgbinary_writer_init(&writer);
    FUZZ_CHECK(fields != NULL && groups_create(view, &again, &error) == STATUS_OK, "%s",
               error.text);
    while ((group = groups_next(groups, &cursor)) != NULL) {
        pgbinary_writer_clear(&writer);
        pgbinary_put_row(&writer, (int16_t)count);
        FUZZ_CHECK(group_encode_row(view, group, &writer, &error) == STATUS_OK &&
                       pgbinary_split_row((const uint8_t *)writer.data, writer.length, fields,
                                          count, &error) == STATUS_OK &&
                       groups_merge_row(again, fields, NULL, &error) == STATUS_OK,
                   "a group's own row: %s", error.text);
    }
    FUZZ_CHECK(groups_count(again) == groups_count(groups), "%zu groups of %zu come back",
               groups_count(again), groups_count(groups));
    groups_destroy(again);
    pgbinary_writer_deinit(&writer);
    free(fields);
}

static void fold_records(const struct source *source, struct groups *groups,
                         struct fuzz_input *input)
{
    struct value *fields = calloc(source->field_count, sizeof *fields);
    if (fields == NULL)
        abort();
    for (int i = 0; i < RECORDS; i++) {
        struct arena arena;
        struct error error = {0};
        enum fold_outcome outcome;
        struct measure_origin origin = {.offset = i};
        struct event event = {.fields = fields};
        arena_init(&arena);
        for (size_t f = 0; f < source->field_count; f++) {
            fields[f] = fuzz_value(input, source->fields[f].type, &arena);
            if (fields[f].is_null && !source->fields[f].nullable) {
                fields[f] = (struct value){.type = source->fields[f].type};
                if (fields[f].type == VALUE_STRING)
                    fields[f] = value_string("", 0);
            }
        }
        event.time_us = fuzz_value(input, VALUE_TIMESTAMP, &arena).timestamp_us;
        if (!timestamp_in_range(event.time_us))
            event.time_us = 0;
        origin.time_us = event.time_us;
        enum status status = groups_fold(groups, &event, &origin, &outcome, &error);
        if (status != STATUS_OK) {
            FUZZ_CHECK(status == STATUS_REJECT, "status %d: %s", (int)status, error.text);
            fuzz_check_refusal(status, &error);
        }
        arena_deinit(&arena);
    }
    free(fields);
}

static void check_view(const struct source *source, json_t *json, struct fuzz_input *input)
{
    struct view *view = NULL;
    struct groups *groups = NULL;
    struct error error = {0};
    enum status status = view_create(json, "view.json", source, &view, &error);
    if (status != STATUS_OK) {
        FUZZ_CHECK(view == NULL, "refused, and there all the same");
        fuzz_check_refusal(status, &error);
        FUZZ_CHECK(strncmp(error.text, "view.json", 9) == 0, "no place: %s", error.text);
        return;
    }
    char *canonical = view_canonical_text(view);
    FUZZ_CHECK(canonical != NULL, "no canonical text");
    free(canonical);
    char *columns = catalog_state_columns(view, "s.");
    FUZZ_CHECK(columns != NULL, "no columns");
    free(columns);
    FUZZ_CHECK(groups_create(view, &groups, &error) == STATUS_OK, "%s", error.text);
    /* What is stored has no looked-up columns; the keys are those in front of them. */
    fold_records(source, groups, input);
    check_rows(groups);
    groups_destroy(groups);
    view_destroy(view);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    struct source *source = NULL;
    struct error error = {0};
    struct fuzz_input text = fuzz_take_text(&input);
    json_t *json = json_loadb((const char *)text.data, text.length, JSON_REJECT_DUPLICATES, NULL);
    json_t *source_json = json_object_get(json, "source"), *view = json_object_get(json, "view");
    if (source_json != NULL) {
        enum status status = source_create(source_json, "source.json", &source, &error);
        if (status != STATUS_OK) {
            FUZZ_CHECK(source == NULL, "refused, and there all the same");
            fuzz_check_refusal(status, &error);
            FUZZ_CHECK(strncmp(error.text, "source.json", 11) == 0, "no place: %s", error.text);
        } else if (view != NULL) {
            check_view(source, view, &input);
        }
        source_destroy(source);
    }
    json_decref(json);
    return 0;
}
