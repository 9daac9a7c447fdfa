/* Writes one version's result where it differs: see store.h and core/catalog/catalog_tables.c.
 *
 * The open rows come by COPY in PostgreSQL's binary format, and so do the computed groups: equal
 * states have equal bytes, so comparing the bytes compares the states, without decoding any. A row
 * that is compared unequal for another reason would be written anew, which is never wrong. */
#include "batch_layer/store.h"

#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "batch_layer/row_key.h"
#include "core/postgres/pgbinary.h"
#include "core/program/program.h"

enum {
    COPY_PIECE_BYTES = 1 << 18,
    ROW_HEADER_BYTES = 2,
    ROW_ID_BYTES = 12, /* length and number */
    PATTERNS = 1 << VIEW_KEY_MAX,
    STOP_CHECK_ROWS = 4096,
};

struct comparison {
    const struct recompute *recompute;
    size_t index;
    bool reuses_rows; /* rows are merged with the groups, not replaced by them */
    const struct view *view;
    struct pgbinary_field *fields; /* row id, then the state's columns */
    size_t field_count;
    struct pgbinary_writer encoded;
    int64_t *closed; /* row ids */
    size_t closed_count;
    size_t closed_capacity;
    int64_t unchanged;
    int64_t seen;
    struct progress *progress;
};

static enum status check_stop(int64_t rows, struct error *error)
{
    if (rows % STOP_CHECK_ROWS == 0 && program_stopping())
        return error_set(error, STATUS_RETRY, "stopped");
    return STATUS_OK;
}

/* --- comparing --- */

/* The computed group of a stored row; *group NULL where there is none. */
static enum status find_group(const struct comparison *comparison, struct group **group,
                              struct error *error)
{
    struct row_key key;
    *group = NULL;
    enum status status = row_key_read(comparison->view, comparison->fields + 1, &key, error);
    if (status == STATUS_OK && key.length != SIZE_MAX)
        *group = recompute_find(comparison->recompute, comparison->index, key.window_start_us,
                                key.bytes, key.length);
    return status;
}

/* Adds what the row has to what is new. */
static enum status merge_row(const struct comparison *comparison, struct group *group,
                             struct error *error)
{
    if (group->merged)
        return error_set(error, STATUS_FATAL,
                         "there are two open rows of one group; "
                         "`dovetail-batch run --full` writes them anew");
    group->merged = true;
    return groups_merge_row(recompute_groups(comparison->recompute, comparison->index, group),
                            comparison->fields + 1, NULL, error);
}

static enum status close_row(struct comparison *comparison, int64_t row_id, struct error *error)
{
    if (comparison->closed_count == comparison->closed_capacity) {
        size_t capacity = comparison->closed_capacity == 0 ? 1024 : comparison->closed_capacity * 2;
        int64_t *closed = reallocarray(comparison->closed, capacity, sizeof *closed);
        if (closed == NULL)
            return error_no_memory(error);
        comparison->closed = closed;
        comparison->closed_capacity = capacity;
    }
    comparison->closed[comparison->closed_count++] = row_id;
    return STATUS_OK;
}

static enum status compare_row(const uint8_t *row, size_t length, void *context,
                               struct error *error)
{
    struct comparison *comparison = context;
    int64_t row_id;
    struct group *group;
    enum status status = check_stop(comparison->seen, error);
    if (status == STATUS_OK)
        status =
            pgbinary_split_row(row, length, comparison->fields, comparison->field_count, error);
    if (status == STATUS_OK)
        status = pgbinary_get_int8(&comparison->fields[0], &row_id, error);
    if (status == STATUS_OK)
        status = find_group(comparison, &group, error);
    if (status != STATUS_OK)
        return status;
    progress_update(comparison->progress, ++comparison->seen);
    if (comparison->reuses_rows && group == NULL)
        return STATUS_OK; /* nothing new of it */
    if (comparison->reuses_rows)
        status = merge_row(comparison, group, error);
    if (status != STATUS_OK)
        return status;
    /* A second open row of one group must not be: it is closed. */
    if (group == NULL || group->stored)
        return close_row(comparison, row_id, error);
    pgbinary_writer_clear(&comparison->encoded);
    status = group_encode_row(comparison->view, group, &comparison->encoded, error);
    if (status != STATUS_OK)
        return status;
    const size_t skipped = ROW_HEADER_BYTES + ROW_ID_BYTES;
    if (length - skipped != comparison->encoded.length ||
        memcmp(row + skipped, comparison->encoded.data, comparison->encoded.length) != 0)
        return close_row(comparison, row_id, error);
    group->stored = true;
    comparison->unchanged++;
    return STATUS_OK;
}

static enum status copy_rows(struct postgres *postgres, struct comparison *comparison,
                             const char *table, const char *columns, const char *join,
                             struct error *error)
{
    char *sql = NULL;
    if (asprintf(&sql,
                 "COPY (SELECT b._row_id, %s FROM %s b%s AND b._run_to = 9223372036854775807)"
                 " TO STDOUT (FORMAT binary)",
                 columns, table, join) < 0)
        return error_no_memory(error);
    enum status status = postgres_copy_out(postgres, sql, compare_row, comparison, error);
    free(sql);
    return status;
}

/* Sends what has gathered once it is worth a message; `all` at the end, with the trailer. */
static enum status send(struct postgres *postgres, struct pgbinary_writer *writer, bool all,
                        int64_t *bytes, struct error *error)
{
    if (all)
        pgbinary_put_copy_trailer(writer);
    else if (writer->length < COPY_PIECE_BYTES)
        return STATUS_OK;
    enum status status = pgbinary_writer_check(writer, error);
    if (status == STATUS_OK)
        status = postgres_copy_in_data(postgres, writer->data, writer->length, error);
    *bytes += (int64_t)writer->length;
    pgbinary_writer_clear(writer);
    return status;
}

/* --- reading the rows of groups alone --- */

/* Which keys of the group are NULL, a bit each: `=` finds no NULL, and an index needs to know. */
static unsigned null_pattern(const struct view *view, const struct group *group)
{
    struct value keys[VIEW_KEY_MAX];
    unsigned pattern = 0;
    group_keys(view, group, keys);
    for (size_t i = 0; i < view->key_count; i++)
        pattern |= (unsigned)keys[i].is_null << i;
    return pattern;
}

static enum status copy_keys(struct postgres *postgres, struct comparison *comparison,
                             bool *patterns, int64_t *bytes, struct error *error)
{
    const struct view *view = comparison->view;
    struct pgbinary_writer writer;
    pgbinary_writer_init(&writer);
    pgbinary_put_copy_header(&writer);
    enum status status = postgres_copy_in_begin(
        postgres, "COPY pg_temp.dovetail_touched FROM STDIN (FORMAT binary)", error);
    size_t table = 0;
    size_t cursor = 0;
    struct group *group;
    while (status == STATUS_OK && (group = recompute_next(comparison->recompute, comparison->index,
                                                          &table, &cursor)) != NULL) {
        struct value keys[VIEW_KEY_MAX];
        group_keys(view, group, keys);
        pgbinary_put_row(&writer, (int16_t)(1 + view->key_count));
        pgbinary_put_timestamp(&writer, group->window_start_us);
        for (size_t i = 0; i < view->key_count; i++)
            pgbinary_put_value(&writer, &keys[i]);
        patterns[null_pattern(view, group)] = true;
        status = send(postgres, &writer, false, bytes, error);
    }
    if (status == STATUS_OK)
        status = send(postgres, &writer, true, bytes, error);
    if (status == STATUS_OK)
        status = postgres_copy_in_end(postgres, error);
    pgbinary_writer_deinit(&writer);
    return status;
}

/* Of the types and collations of the rows' columns. */
static enum status make_touched(struct postgres *postgres, const struct view *view,
                                const char *table, struct error *error)
{
    char *sql = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&sql, &size);
    if (out == NULL)
        return error_no_memory(error);
    fputs("CREATE TEMPORARY TABLE dovetail_touched ON COMMIT DROP AS SELECT window_start", out);
    for (size_t i = 0; i < view->key_count; i++)
        fprintf(out, ", \"%s\"", view->keys[i].name);
    fprintf(out, " FROM %s WITH NO DATA", table);
    if (fclose(out) != 0 || sql == NULL)
        return error_no_memory(error);
    enum status status = postgres_execute(postgres, sql, error);
    free(sql);
    return status;
}

static enum status copy_pattern(struct postgres *postgres, struct comparison *comparison,
                                const char *table, const char *columns, unsigned pattern,
                                struct error *error)
{
    const struct view *view = comparison->view;
    char *join = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&join, &size);
    if (out == NULL)
        return error_no_memory(error);
    fputs(" JOIN pg_temp.dovetail_touched t ON b.window_start = t.window_start", out);
    for (size_t i = 0; i < view->key_count; i++) {
        const char *name = view->keys[i].name;
        if ((pattern >> i & 1) == 0)
            fprintf(out, " AND b.\"%s\" = t.\"%s\"", name, name);
        else
            fprintf(out, " AND b.\"%s\" IS NULL AND t.\"%s\" IS NULL", name, name);
    }
    if (fclose(out) != 0 || join == NULL)
        return error_no_memory(error);
    enum status status = copy_rows(postgres, comparison, table, columns, join, error);
    free(join);
    return status;
}

/* One statement for each pattern of NULLs that there is, so that each finds rows by the index. */
static enum status compare_touched(struct postgres *postgres, struct comparison *comparison,
                                   const char *table, const char *columns, int64_t *bytes,
                                   struct error *error)
{
    bool *patterns = calloc(PATTERNS, sizeof *patterns);
    enum status status = patterns == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK)
        status = make_touched(postgres, comparison->view, table, error);
    if (status == STATUS_OK)
        status = copy_keys(postgres, comparison, patterns, bytes, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "ANALYZE pg_temp.dovetail_touched", error);
    for (unsigned pattern = 0; status == STATUS_OK && pattern < PATTERNS; pattern++)
        if (patterns[pattern])
            status = copy_pattern(postgres, comparison, table, columns, pattern, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "DROP TABLE pg_temp.dovetail_touched", error);
    free(patterns);
    return status;
}

/* --- writing --- */

static enum status copy_closed(struct postgres *postgres, const struct comparison *comparison,
                               int64_t *bytes, struct error *error)
{
    struct pgbinary_writer writer;
    pgbinary_writer_init(&writer);
    pgbinary_put_copy_header(&writer);
    enum status status = postgres_copy_in_begin(
        postgres, "COPY pg_temp.dovetail_closed FROM STDIN (FORMAT binary)", error);
    for (size_t i = 0; status == STATUS_OK && i < comparison->closed_count; i++) {
        pgbinary_put_row(&writer, 1);
        pgbinary_put_int8(&writer, comparison->closed[i]);
        status = send(postgres, &writer, false, bytes, error);
    }
    if (status == STATUS_OK)
        status = send(postgres, &writer, true, bytes, error);
    if (status == STATUS_OK)
        status = postgres_copy_in_end(postgres, error);
    pgbinary_writer_deinit(&writer);
    return status;
}

static enum status close_rows(struct postgres *postgres, const struct comparison *comparison,
                              const char *table, int64_t run, int64_t *bytes, struct error *error)
{
    if (comparison->closed_count == 0)
        return STATUS_OK;
    enum status status = postgres_execute(
        postgres, "CREATE TEMPORARY TABLE dovetail_closed (row_id bigint) ON COMMIT DROP", error);
    if (status == STATUS_OK)
        status = copy_closed(postgres, comparison, bytes, error);
    if (status == STATUS_OK) /* the planner must know whether there are ten or ten million */
        status = postgres_execute(postgres, "ANALYZE pg_temp.dovetail_closed", error);
    if (status == STATUS_OK)
        status = postgres_executef(postgres, error,
                                   "UPDATE %s b SET _run_to = %" PRId64
                                   " FROM pg_temp.dovetail_closed c WHERE b._row_id = c.row_id",
                                   table, run);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "DROP TABLE pg_temp.dovetail_closed", error);
    return status;
}

/* A group to be written. The first bytes of its key spare most comparisons a look at it. */
struct pending {
    int64_t window_start_us;
    uint64_t key_prefix;
    struct group *group;
};

static uint64_t key_prefix(const struct group *group)
{
    unsigned char bytes[sizeof(uint64_t)] = {0};
    memcpy(bytes, group->key, group->key_length < sizeof bytes ? group->key_length : sizeof bytes);
    uint64_t prefix;
    memcpy(&prefix, bytes, sizeof prefix);
    return be64toh(prefix);
}

/* By window, then by the bytes of the keys: any fixed order of keys does. */
static int compare_pending(const void *left, const void *right)
{
    const struct pending *a = left;
    const struct pending *b = right;
    if (a->window_start_us != b->window_start_us)
        return a->window_start_us < b->window_start_us ? -1 : 1;
    if (a->key_prefix != b->key_prefix)
        return a->key_prefix < b->key_prefix ? -1 : 1;
    size_t length =
        a->group->key_length < b->group->key_length ? a->group->key_length : b->group->key_length;
    int order = memcmp(a->group->key, b->group->key, length);
    if (order != 0 || a->group->key_length == b->group->key_length)
        return order;
    return a->group->key_length < b->group->key_length ? -1 : 1;
}

static enum status add_pending(struct pending **pending, size_t count, size_t *capacity,
                               struct group *group, struct error *error)
{
    if (count == *capacity) {
        size_t wanted = *capacity == 0 ? 1024 : *capacity * 2;
        struct pending *grown = reallocarray(*pending, wanted, sizeof *grown);
        if (grown == NULL)
            return error_no_memory(error);
        *pending = grown;
        *capacity = wanted;
    }
    (*pending)[count] = (struct pending){
        .window_start_us = group->window_start_us, .key_prefix = key_prefix(group), .group = group};
    return STATUS_OK;
}

/* Every group that has no equal row, in the order in which it is written: neighbours in time become
 * neighbours in the table, and PostgreSQL's indexes take ascending rows in half the time. */
static enum status find_pending(const struct comparison *comparison, struct pending **out,
                                size_t *count, struct store_counts *counts, struct error *error)
{
    size_t capacity = 0;
    size_t table = 0;
    size_t cursor = 0;
    struct group *group;
    enum status status = STATUS_OK;
    *out = NULL;
    *count = 0;
    while (status == STATUS_OK && (group = recompute_next(comparison->recompute, comparison->index,
                                                          &table, &cursor)) != NULL) {
        counts->rows++;
        if (group->stored)
            continue;
        status = add_pending(out, *count, &capacity, group, error);
        if (status == STATUS_OK)
            ++*count;
    }
    if (status == STATUS_OK && *count > 0)
        qsort(*out, *count, sizeof **out, compare_pending);
    return status;
}

static enum status copy_groups(struct postgres *postgres, const struct comparison *comparison,
                               const struct pending *pending, size_t count, int64_t run,
                               struct store_counts *counts, struct error *error)
{
    const struct view *view = comparison->view;
    const int16_t columns = (int16_t)(1 + view_row_columns(view));
    struct pgbinary_writer writer;
    pgbinary_writer_init(&writer);
    pgbinary_put_copy_header(&writer);
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        pgbinary_put_row(&writer, columns);
        pgbinary_put_int8(&writer, run);
        status = group_encode_row(view, pending[i].group, &writer, error);
        if (status == STATUS_OK)
            status = send(postgres, &writer, false, &counts->bytes, error);
        if (status == STATUS_OK)
            status = check_stop(++counts->inserted, error);
        progress_update(comparison->progress, comparison->seen + counts->inserted);
    }
    if (status == STATUS_OK)
        status = send(postgres, &writer, true, &counts->bytes, error);
    pgbinary_writer_deinit(&writer);
    return status;
}

static enum status insert_rows(struct postgres *postgres, const struct comparison *comparison,
                               const char *table, const char *columns, int64_t run,
                               struct store_counts *counts, struct error *error)
{
    struct pending *pending = NULL;
    size_t count = 0;
    char *sql = NULL;
    enum status status = find_pending(comparison, &pending, &count, counts, error);
    if (status != STATUS_OK || count == 0)
        goto cleanup;
    if (asprintf(&sql, "COPY %s (_run_from, %s) FROM STDIN (FORMAT binary)", table, columns) < 0) {
        sql = NULL;
        status = error_no_memory(error);
        goto cleanup;
    }
    status = postgres_copy_in_begin(postgres, sql, error);
    if (status == STATUS_OK)
        status = copy_groups(postgres, comparison, pending, count, run, counts, error);
    if (status == STATUS_OK)
        status = postgres_copy_in_end(postgres, error);
cleanup:
    free(sql);
    free(pending);
    return status;
}

static bool is_empty(const struct comparison *comparison)
{
    size_t table = 0;
    size_t cursor = 0;
    return recompute_next(comparison->recompute, comparison->index, &table, &cursor) == NULL;
}

enum status store_version(struct postgres *postgres, const struct recompute *recompute,
                          size_t index, bool reuses_rows, int64_t run, struct progress *progress,
                          struct store_counts *counts, struct error *error)
{
    const struct catalog_version *version = &recompute->catalog->versions[index];
    struct comparison comparison = {.recompute = recompute,
                                    .index = index,
                                    .reuses_rows = reuses_rows,
                                    .view = version->view,
                                    .field_count = 1 + view_row_columns(version->view),
                                    .progress = progress};
    pgbinary_writer_init(&comparison.encoded);
    comparison.fields = calloc(comparison.field_count, sizeof *comparison.fields);
    char *columns = catalog_state_columns(version->view, "");
    char *read_columns = catalog_state_columns(version->view, "b.");
    char table[CATALOG_NAME_BYTES];
    catalog_batch_table(version->version, table);
    enum status status = STATUS_OK;
    if (comparison.fields == NULL || columns == NULL || read_columns == NULL)
        status = error_no_memory(error);
    if (status == STATUS_OK && !reuses_rows)
        status = copy_rows(postgres, &comparison, table, read_columns, " WHERE true", error);
    else if (status == STATUS_OK && !is_empty(&comparison))
        status = compare_touched(postgres, &comparison, table, read_columns, &counts->bytes, error);
    if (status == STATUS_OK)
        status = close_rows(postgres, &comparison, table, run, &counts->bytes, error);
    if (status == STATUS_OK)
        status = insert_rows(postgres, &comparison, table, columns, run, counts, error);
    counts->unchanged += comparison.unchanged;
    counts->closed += (int64_t)comparison.closed_count;
    pgbinary_writer_deinit(&comparison.encoded);
    free(comparison.closed);
    free(comparison.fields);
    free(columns);
    free(read_columns);
    if (status != STATUS_OK)
        error_wrap(error, "view %s, version %d", version->view->name, version->version);
    return status;
}
