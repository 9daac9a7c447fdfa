/* Comparing: see audit.h. Main thread. group->stored says that the other side has the group; it is
 * cleared again. */
#include "batch_layer/audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch_layer/row_key.h"
#include "core/program/program.h"
#include "core/records/mask.h"
#include "core/time/timestamp.h"

enum { ROW_HEADER_BYTES = 2, STOP_CHECK_ROWS = 4096 };

struct comparison {
    struct audit *audit;
    const struct recompute *recompute;
    const struct catalog_version *version;
    size_t index;
    enum recompute_part part;
    const char *with; /* "rows of run 4", "speed rows" */
    struct pgbinary_field *fields;
    size_t field_count;
    struct pgbinary_writer ours;
    struct pgbinary_writer theirs;
    struct groups *slices; /* the group that is being merged, alone */
    struct group *slice;   /* it; NULL: none yet */
    struct row_key key;
    int64_t seen;
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

/* The keys as JSON: {"shop": "a", ...}; *group is of this version. */
static json_t *keys_json(const struct view *view, const struct group *group)
{
    struct value values[VIEW_KEY_MAX];
    group_keys(view, group, values);
    json_t *keys = json_object();
    for (size_t i = 0; i < view->key_count; i++)
        json_object_set_new(keys, view->keys[i].name, key_json(&values[i]));
    return keys;
}

/* `group` NULL: its keys are none that a group can have. */
static void tell(struct comparison *comparison, const struct group *group, const char *problem)
{
    struct audit *audit = comparison->audit;
    const struct view *view = comparison->version->view;
    char window[TIMESTAMP_TEXT_SIZE] = "?";
    audit->mismatches++;
    if (json_array_size(audit->examples) >= AUDIT_EXAMPLES)
        return;
    if (group != NULL)
        timestamp_format(group->window_start_us, window, sizeof window);
    json_t *keys = group == NULL ? json_null() : keys_json(view, group);
    char *text = json_dumps(keys, JSON_COMPACT);
    program_log(LOG_ERR, "MISMATCH: view %s, version %d, window %s, keys %s: %s (%s)", view->name,
                comparison->version->version, window, text == NULL ? "?" : text, problem,
                comparison->with);
    free(text);
    json_array_append_new(audit->examples,
                          json_pack("{s:s, s:i, s:s, s:o, s:s, s:s}", "view", view->name, "version",
                                    comparison->version->version, "window_start", window, "keys",
                                    keys, "compared_with", comparison->with, "problem", problem));
}

/* --- comparing one group --- */

static enum status encode(const struct comparison *comparison, const struct group *group,
                          struct pgbinary_writer *writer, struct error *error)
{
    pgbinary_writer_clear(writer);
    return group_encode_row(comparison->version->view, group, writer, error);
}

/* `theirs` is the group's row, window_start and all, in PostgreSQL's bytes. */
static enum status compare_bytes(struct comparison *comparison, struct group *ours,
                                 const void *theirs, size_t length, struct error *error)
{
    comparison->audit->compared++;
    if (ours->stored) {
        tell(comparison, ours, "there are two rows of the group");
        return STATUS_OK;
    }
    ours->stored = true;
    enum status status = encode(comparison, ours, &comparison->ours, error);
    if (status == STATUS_OK &&
        (comparison->ours.length != length || memcmp(comparison->ours.data, theirs, length) != 0))
        tell(comparison, ours, "the states differ");
    return status;
}

/* Not decoded: what is no state at all is a mismatch, too, and must not stop the run. */
static enum status compare_row(struct comparison *comparison, const uint8_t *row, size_t length,
                               struct error *error)
{
    const struct row_key *key = &comparison->key;
    struct group *group =
        key->length == SIZE_MAX
            ? NULL
            : recompute_part_find(comparison->recompute, comparison->index, comparison->part,
                                  key->window_start_us, key->bytes, key->length);
    if (group != NULL)
        return compare_bytes(comparison, group, row, length, error);
    comparison->audit->compared++;
    size_t known = key->length == SIZE_MAX ? 0 : key->length;
    enum status status = STATUS_OK;
    if (known > 0 || comparison->version->view->key_count == 0)
        status = groups_find_or_add(comparison->slices, key->window_start_us, key->bytes, known,
                                    &group, error);
    if (status == STATUS_OK)
        tell(comparison, group, "the recompute has no such group");
    groups_clear(comparison->slices);
    return status;
}

/* The group that has been merged is complete. */
static enum status finish_slice(struct comparison *comparison, struct error *error)
{
    if (comparison->slice == NULL)
        return STATUS_OK;
    const struct group *slice = comparison->slice;
    struct group *ours =
        recompute_part_find(comparison->recompute, comparison->index, comparison->part,
                            slice->window_start_us, slice->key, slice->key_length);
    enum status status = STATUS_OK;
    if (ours == NULL) {
        comparison->audit->compared++;
        tell(comparison, slice, "the recompute has no such group");
    } else {
        status = encode(comparison, slice, &comparison->theirs, error);
        if (status == STATUS_OK)
            status = compare_bytes(comparison, ours, comparison->theirs.data,
                                   comparison->theirs.length, error);
    }
    groups_clear(comparison->slices);
    comparison->slice = NULL;
    return status;
}

static bool is_same_group(const struct group *group, const struct row_key *key)
{
    return group->window_start_us == key->window_start_us && group->key_length == key->length &&
           memcmp(group->key, key->bytes, key->length) == 0;
}

/* As such rows, a speed row that is no state must not stop the run that would do without it. */
static enum status tell_unreadable(struct comparison *comparison, struct error *error)
{
    const struct row_key *key = &comparison->key;
    struct group *ours = NULL;
    if (key->length != SIZE_MAX)
        ours = recompute_part_find(comparison->recompute, comparison->index, comparison->part,
                                   key->window_start_us, key->bytes, key->length);
    program_log(LOG_ERR, "%s", error->text);
    comparison->audit->compared++;
    tell(comparison, ours, "a row cannot be read");
    if (ours != NULL)
        ours->stored = true;
    groups_clear(comparison->slices);
    comparison->slice = NULL;
    return STATUS_OK;
}

/* Rows come ordered by group, so that all of one group follow each other. */
static enum status take_row(const uint8_t *row, size_t length, void *context, struct error *error)
{
    struct comparison *comparison = context;
    if (comparison->seen++ % STOP_CHECK_ROWS == 0 && program_stopping())
        return error_set(error, STATUS_RETRY, "stopped");
    enum status status =
        pgbinary_split_row(row, length, comparison->fields, comparison->field_count, error);
    if (status == STATUS_OK)
        status =
            row_key_read(comparison->version->view, comparison->fields, &comparison->key, error);
    if (status != STATUS_OK)
        return status;
    if (comparison->part == RECOMPUTE_OLD)
        return compare_row(comparison, row + ROW_HEADER_BYTES, length - ROW_HEADER_BYTES, error);
    if (comparison->slice != NULL && !is_same_group(comparison->slice, &comparison->key))
        status = finish_slice(comparison, error);
    if (status == STATUS_OK && groups_merge_row(comparison->slices, comparison->fields,
                                                &comparison->slice, error) != STATUS_OK)
        return tell_unreadable(comparison, error);
    return status;
}

/* What the other side does not have; and group->stored is as it was. */
static void find_missing(struct comparison *comparison)
{
    size_t table = 0;
    size_t cursor = 0;
    struct group *group;
    while ((group = recompute_part_next(comparison->recompute, comparison->index, comparison->part,
                                        &table, &cursor)) != NULL) {
        if (!group->stored) {
            comparison->audit->compared++;
            tell(comparison, group, "the recompute has it alone");
        }
        group->stored = false;
    }
}

static enum status compare(struct comparison *comparison, struct postgres *postgres,
                           const char *sql, struct error *error)
{
    const struct view *view = comparison->version->view;
    comparison->field_count = view_row_columns(view);
    comparison->fields = calloc(comparison->field_count, sizeof *comparison->fields);
    pgbinary_writer_init(&comparison->ours);
    pgbinary_writer_init(&comparison->theirs);
    enum status status = comparison->fields == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK)
        status = groups_create(view, &comparison->slices, error);
    if (status == STATUS_OK)
        status = postgres_copy_out(postgres, sql, take_row, comparison, error);
    if (status == STATUS_OK)
        status = finish_slice(comparison, error);
    if (status == STATUS_OK)
        find_missing(comparison);
    groups_destroy(comparison->slices);
    pgbinary_writer_deinit(&comparison->ours);
    pgbinary_writer_deinit(&comparison->theirs);
    free(comparison->fields);
    return status;
}

/* --- the two --- */

static enum status compare_rows(struct comparison *comparison, struct postgres *postgres,
                                int64_t base, const char *columns, struct error *error)
{
    char *sql = NULL;
    char with[64];
    char table[CATALOG_NAME_BYTES];
    catalog_batch_table(comparison->version->version, table);
    snprintf(with, sizeof with, "rows of run %" PRId64, base);
    comparison->with = with;
    comparison->part = RECOMPUTE_OLD;
    if (asprintf(&sql,
                 "COPY (SELECT %s FROM %s WHERE _run_from <= %" PRId64 " AND %" PRId64
                 " < _run_to) TO STDOUT (FORMAT binary)",
                 columns, table, base, base) < 0)
        return error_no_memory(error);
    enum status status = compare(comparison, postgres, sql, error);
    free(sql);
    return status;
}

static void write_order(FILE *out, const struct view *view)
{
    fputs(" ORDER BY \"window_start\"", out);
    for (size_t i = 0; i < view->key_count; i++)
        fprintf(out, ", \"%s\"", view->keys[i].name);
}

/* The slices between C_B and C of the partitions that are covered. NULL: there are none. */
static enum status speed_sql(const struct comparison *comparison, const struct reuse *reuse,
                             const struct cut *cuts, const char *columns, char **sql,
                             struct error *error)
{
    char table[CATALOG_NAME_BYTES];
    size_t size = 0;
    size_t partitions = 0;
    catalog_speed_table(comparison->version->version, table);
    FILE *out = open_memstream(sql, &size);
    if (out == NULL)
        return error_no_memory(error);
    fprintf(out, "COPY (SELECT %s FROM %s WHERE ", columns, table);
    for (size_t i = 0; i < reuse->cut_count; i++)
        if (reuse->covered[comparison->index * reuse->cut_count + i])
            fprintf(out,
                    "%s(_partition = %" PRId32 " AND _slice_start >= %" PRId64
                    " AND _slice_start < %" PRId64 ")",
                    partitions++ > 0 ? " OR " : "", cuts[i].partition, cuts[i].reused_offset,
                    cuts[i].offset);
    write_order(out, comparison->version->view);
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
                                 const char *columns, struct error *error)
{
    char *sql = NULL;
    comparison->with = "speed rows";
    comparison->part = RECOMPUTE_SPEED;
    enum status status = speed_sql(comparison, reuse, cuts, columns, &sql, error);
    if (status == STATUS_OK && sql != NULL)
        status = compare(comparison, postgres, sql, error);
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
                          const struct cut *cuts, size_t index, struct error *error)
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
    char *columns = catalog_state_columns(blank.version->view, "");
    enum status status = columns == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK && reuse->versions[index].kind == REUSE_COMPARE)
        status = compare_rows(&comparison, postgres, reuse->base, columns, error);
    comparison = blank;
    if (status == STATUS_OK)
        status = compare_speed(&comparison, postgres, reuse, cuts, columns, error);
    free(columns);
    audit->ms += (double)(program_monotonic_us() - begun_us) / 1e3;
    if (status != STATUS_OK)
        error_wrap(error, "comparing view %s, version %d", blank.version->view->name,
                   blank.version->version);
    return status;
}
