/* Comparing: see audit.h. Main thread. Both sides come sorted by group, and go side by side. */
#include "batch_layer/audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch_layer/store.h"
#include "core/program/program.h"
#include "core/records/mask.h"
#include "core/time/timestamp.h"

struct comparison {
    struct audit *audit;
    const struct recompute *recompute;
    const struct catalog_version *version;
    size_t index;
    enum recompute_part part;
    const char *with; /* "rows of run 4", "speed rows" */
    struct row_stream *ours;
    struct row our_row;
    bool ours_ended;
    struct row_stream *theirs; /* rows as they are; several of one group follow each other */
    struct row their_row;
    bool theirs_ended;
    /* Of a group of slices. */
    struct pgbinary_field *fields;
    struct groups *slices; /* it, merged, alone */
    unsigned char key[ROW_KEY_MAX];
    struct pgbinary_writer encoded;
};

enum status audit_init(struct audit *audit, struct error *error)
{
    *audit = (struct audit){.examples = json_array()};
    return audit->examples == NULL ? error_no_memory(error) : STATUS_OK;
}

void audit_deinit(struct audit *audit)
{
    json_decref(audit->examples);
    audit->examples = NULL;
}

/* --- telling --- */

static json_t *key_json(const struct value *value)
{
    struct arena arena;
    size_t length;
    arena_init(&arena);
    const char *text = value->is_null ? NULL : value_text(value, &arena, &length);
    json_t *json = text == NULL ? json_null() : json_stringn(text, length);
    arena_deinit(&arena);
    return json;
}

/* The keys as JSON: {"shop": "a", ...}; NULL: they are none that a group can have. */
static json_t *keys_json(const struct view *view, const struct row *row)
{
    struct value values[VIEW_KEY_MAX];
    if (view->key_count > 0 && row->key_length == 0)
        return json_null();
    group_key_values(view, row->key, values);
    json_t *keys = json_object();
    for (size_t i = 0; i < view->key_count; i++)
        json_object_set_new(keys, view->keys[i].name, key_json(&values[i]));
    return keys;
}

static void tell(struct comparison *comparison, const struct row *row, const char *problem)
{
    struct audit *audit = comparison->audit;
    const struct view *view = comparison->version->view;
    char window[TIMESTAMP_TEXT_SIZE];
    audit->mismatches++;
    if (json_array_size(audit->examples) >= AUDIT_EXAMPLES)
        return;
    timestamp_format(row->window_start_us, window, sizeof window);
    json_t *keys = keys_json(view, row);
    char *text = json_dumps(keys, JSON_COMPACT | JSON_ENCODE_ANY);
    program_log(LOG_ERR, "MISMATCH: view %s, version %d, window %s, keys %s: %s (%s)", view->name,
                comparison->version->version, window, text == NULL ? "?" : text, problem,
                comparison->with);
    free(text);
    json_array_append_new(audit->examples,
                          json_pack("{s:s, s:i, s:s, s:o, s:s, s:s}", "view", view->name, "version",
                                    comparison->version->version, "window_start", window, "keys",
                                    keys, "compared_with", comparison->with, "problem", problem));
}

/* --- going side by side --- */

static enum status next_ours(struct comparison *comparison, struct error *error)
{
    return row_stream_next(comparison->ours, &comparison->our_row, &comparison->ours_ended, error);
}

static enum status next_theirs(struct comparison *comparison, struct error *error)
{
    return row_stream_next(comparison->theirs, &comparison->their_row, &comparison->theirs_ended,
                           error);
}

/* Whose group is next: <0 ours, >0 theirs, 0 both have it. */
static int order(const struct comparison *comparison)
{
    if (comparison->ours_ended || comparison->theirs_ended)
        return comparison->ours_ended - comparison->theirs_ended;
    return row_compare(&comparison->our_row, &comparison->their_row);
}

static enum status take_ours_alone(struct comparison *comparison, struct error *error)
{
    comparison->audit->compared++;
    tell(comparison, &comparison->our_row, "the recompute has it alone");
    return next_ours(comparison, error);
}

static bool is_equal(const struct row *ours, const void *fields, size_t length)
{
    return ours->length == length && memcmp(ours->fields, fields, length) == 0;
}

/* Not decoded: what is no state at all is a mismatch, too, and must not stop the run. */
static enum status take_row(struct comparison *comparison, struct error *error)
{
    struct audit *audit = comparison->audit;
    const struct row *ours = &comparison->our_row;
    const struct row *theirs = &comparison->their_row;
    audit->compared++;
    if (order(comparison) > 0) {
        tell(comparison, theirs, "the recompute has no such group");
        return next_theirs(comparison, error);
    }
    if (!is_equal(ours, theirs->fields, theirs->length))
        tell(comparison, ours, "the states differ");
    for (;;) {
        enum status status = next_theirs(comparison, error);
        if (status != STATUS_OK || comparison->theirs_ended || row_compare(ours, theirs) != 0)
            return status == STATUS_OK ? next_ours(comparison, error) : status;
        audit->compared++;
        tell(comparison, ours, "there are two rows of the group");
    }
}

/* Merges the slices' rows of one group; *readable: all of them are states. */
static enum status merge_slices(struct comparison *comparison, const struct row *ours,
                                struct group **merged, bool *readable, struct error *error)
{
    const size_t columns = view_row_columns(comparison->version->view);
    groups_clear(comparison->slices);
    *readable = true;
    for (;;) {
        const struct row *row = &comparison->their_row;
        struct error trouble;
        if (*readable && (pgbinary_split_fields(row->fields, row->length, comparison->fields,
                                                columns, &trouble) != STATUS_OK ||
                          groups_merge_row(comparison->slices, comparison->fields, merged,
                                           &trouble) != STATUS_OK)) {
            program_log(LOG_ERR, "%s", trouble.text);
            *readable = false;
        }
        enum status status = next_theirs(comparison, error);
        if (status != STATUS_OK || comparison->theirs_ended || row_compare(ours, row) != 0)
            return status;
    }
}

/* All rows of a group that we do not have. */
static enum status pass_group(struct comparison *comparison, struct error *error)
{
    const struct row *row = &comparison->their_row;
    const struct row first = {.window_start_us = row->window_start_us,
                              .key = comparison->key,
                              .key_length = row->key_length};
    memcpy(comparison->key, row->key, row->key_length);
    enum status status;
    do
        status = next_theirs(comparison, error);
    while (status == STATUS_OK && !comparison->theirs_ended && row_compare(&first, row) == 0);
    return status;
}

/* As a batch row, a speed row that is no state must not stop the run that would do without it. */
static enum status take_slices(struct comparison *comparison, struct error *error)
{
    const struct row ours = comparison->our_row;
    struct group *merged = NULL;
    bool readable;
    comparison->audit->compared++;
    if (order(comparison) > 0) {
        tell(comparison, &comparison->their_row, "the recompute has no such group");
        return pass_group(comparison, error);
    }
    enum status status = merge_slices(comparison, &ours, &merged, &readable, error);
    pgbinary_writer_clear(&comparison->encoded);
    if (status == STATUS_OK && readable)
        status = group_encode_row(comparison->version->view, merged, &comparison->encoded, error);
    if (status != STATUS_OK)
        return status;
    if (!readable)
        tell(comparison, &ours, "a row cannot be read");
    else if (!is_equal(&ours, comparison->encoded.data, comparison->encoded.length))
        tell(comparison, &ours, "the states differ");
    return next_ours(comparison, error);
}

static enum status compare_all(struct comparison *comparison, struct error *error)
{
    enum status status = next_ours(comparison, error);
    if (status == STATUS_OK)
        status = next_theirs(comparison, error);
    while (status == STATUS_OK && !(comparison->ours_ended && comparison->theirs_ended)) {
        if (order(comparison) < 0)
            status = take_ours_alone(comparison, error);
        else if (comparison->part == RECOMPUTE_OLD)
            status = take_row(comparison, error);
        else
            status = take_slices(comparison, error);
    }
    return status;
}

static enum status compare(struct comparison *comparison, const struct row_sorter *theirs,
                           struct error *error)
{
    const struct view *view = comparison->version->view;
    comparison->fields = calloc(view_row_columns(view), sizeof *comparison->fields);
    pgbinary_writer_init(&comparison->encoded);
    enum status status = comparison->fields == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK)
        status = groups_create(view, &comparison->slices, error);
    if (status == STATUS_OK)
        status = recompute_rows(comparison->recompute, comparison->index, comparison->part,
                                &comparison->ours, error);
    if (status == STATUS_OK)
        status = row_sorter_rows(theirs, &comparison->theirs, error);
    if (status == STATUS_OK)
        status = compare_all(comparison, error);
    row_stream_destroy(comparison->ours);
    row_stream_destroy(comparison->theirs);
    groups_destroy(comparison->slices);
    pgbinary_writer_deinit(&comparison->encoded);
    free(comparison->fields);
    return status;
}

/* --- the two --- */

/* The open rows: the base run has written them (reuse.h), so they are what is visible under it. */
static enum status compare_rows(struct comparison *comparison, struct postgres *postgres,
                                int64_t base, struct row_sorter **rows, struct error *error)
{
    char with[64];
    snprintf(with, sizeof with, "rows of run %" PRId64, base);
    comparison->with = with;
    comparison->part = RECOMPUTE_OLD;
    enum status status =
        store_read_rows(postgres, comparison->recompute, comparison->index, rows, error);
    return status == STATUS_OK ? compare(comparison, *rows, error) : status;
}

/* The slices between C_B and C of the partitions that are covered. NULL: there are none. */
static enum status speed_sql(const struct comparison *comparison, const struct reuse *reuse,
                             const struct cut *cuts, char **sql, struct error *error)
{
    char table[CATALOG_NAME_BYTES];
    size_t size = 0;
    size_t partitions = 0;
    char *columns = catalog_state_columns(comparison->version->view, "");
    catalog_speed_table(comparison->version->version, table);
    FILE *out = columns == NULL ? NULL : open_memstream(sql, &size);
    if (out == NULL) {
        free(columns);
        return error_no_memory(error);
    }
    fprintf(out, "COPY (SELECT %s FROM %s WHERE ", columns, table);
    free(columns);
    for (size_t i = 0; i < reuse->cut_count; i++)
        if (reuse->covered[comparison->index * reuse->cut_count + i])
            fprintf(out,
                    "%s(_partition = %" PRId32 " AND _slice_start >= %" PRId64
                    " AND _slice_start < %" PRId64 ")",
                    partitions++ > 0 ? " OR " : "", cuts[i].partition, cuts[i].reused_offset,
                    cuts[i].offset);
    fputs(") TO STDOUT (FORMAT binary)", out);
    if (fclose(out) != 0 || *sql == NULL)
        return error_no_memory(error);
    if (partitions == 0) {
        free(*sql);
        *sql = NULL;
    }
    return STATUS_OK;
}

static enum status compare_speed(struct comparison *comparison, struct postgres *postgres,
                                 const struct reuse *reuse, const struct cut *cuts,
                                 struct error *error)
{
    char *sql = NULL;
    struct row_sorter *slices = NULL;
    struct spill *spill = comparison->recompute->spill;
    const size_t memory_bytes = spill_memory(spill) / 8;
    comparison->with = "speed rows";
    comparison->part = RECOMPUTE_SPEED;
    enum status status = speed_sql(comparison, reuse, cuts, &sql, error);
    if (status != STATUS_OK || sql == NULL)
        return status;
    status = row_sorter_create(comparison->version->view, spill, memory_bytes, &slices, error);
    if (status == STATUS_OK)
        status = row_sorter_read(slices, postgres, sql, false, error);
    if (status == STATUS_OK)
        status = row_sorter_finish(slices, memory_bytes, error);
    if (status == STATUS_OK)
        status = compare(comparison, slices, error);
    row_sorter_destroy(slices);
    free(sql);
    return status;
}

/* A version from before a mask was added or taken back has rows of other values than the run's
 * fold, which reads records as they are masked now. Values that are masked by now must not be told.
 */
static enum status is_masked_alike(const struct catalog *catalog,
                                   const struct catalog_version *version, bool *alike,
                                   struct error *error)
{
    *alike = true;
    for (size_t i = 0; i < catalog->source_count; i++) {
        if (strcmp(catalog->sources[i]->topic, version->source->topic) != 0)
            continue;
        char *now = mask_paths_text(catalog->sources[i]);
        char *then = mask_paths_text(version->source);
        *alike = now != NULL && then != NULL && strcmp(now, then) == 0;
        bool failed = now == NULL || then == NULL;
        free(now);
        free(then);
        if (failed)
            return error_no_memory(error);
    }
    return STATUS_OK;
}

enum status audit_version(struct audit *audit, struct postgres *postgres,
                          const struct recompute *recompute, const struct reuse *reuse,
                          const struct cut *cuts, size_t index, struct row_sorter **rows,
                          struct error *error)
{
    int64_t begun_us = program_monotonic_us();
    const struct comparison blank = {.audit = audit,
                                     .recompute = recompute,
                                     .version = &recompute->catalog->versions[index],
                                     .index = index};
    struct comparison comparison = blank;
    bool alike;
    if (is_masked_alike(recompute->catalog, blank.version, &alike, error) != STATUS_OK)
        return STATUS_FATAL;
    if (!alike) {
        program_log(LOG_NOTICE,
                    "view %s, version %d, is compared with nothing: its source masks other fields"
                    " by now",
                    blank.version->view->name, blank.version->version);
        return STATUS_OK;
    }
    enum status status = STATUS_OK;
    if (reuse->versions[index].kind == REUSE_COMPARE)
        status = compare_rows(&comparison, postgres, reuse->base, rows, error);
    comparison = blank;
    if (status == STATUS_OK)
        status = compare_speed(&comparison, postgres, reuse, cuts, error);
    audit->ms += (double)(program_monotonic_us() - begun_us) / 1e3;
    if (status != STATUS_OK)
        error_wrap(error, "comparing view %s, version %d", blank.version->view->name,
                   blank.version->version);
    return status;
}
