/* Writes one version's result where it differs: see store.h and core/catalog/catalog_tables.c.
 *
 * The open rows come by COPY in PostgreSQL's binary format and are sorted as the computed groups
 * are (row_sorter.h); then both go side by side, once. Equal states have equal bytes, so comparing
 * the bytes compares the states, without decoding any. A row that is compared unequal for another
 * reason would be written anew, which is never wrong. Groups are written in the order in which they
 * come: neighbours in time become neighbours in the table, and PostgreSQL's indexes take ascending
 * rows in half the time. */
#include "batch_layer/store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/postgres/pgbinary.h"
#include "core/program/program.h"

enum {
    COPY_PIECE_BYTES = 1 << 18,
    PATTERNS = 1 << VIEW_KEY_MAX,
    STOP_CHECK_ROWS = 4096,
    CLOSED_MAX = 1 << 16, /* in memory */
};

/* Row ids, in memory or, many of them, on disk. */
struct id_list {
    int64_t *ids;
    size_t count;
    struct spill_file *file; /* NULL: all are in memory */
    struct row_runs runs;
};

struct storing {
    struct postgres *postgres;
    const struct recompute *recompute;
    size_t index;
    const struct view *view;
    const char *table;
    const char *columns;
    int64_t run;
    bool reuses_rows; /* rows are merged with the groups, not replaced by them */
    struct store_counts *counts;
    struct progress *progress;
    /* Side by side. */
    struct row_stream *groups;
    struct row group;
    bool groups_ended;
    struct row_stream *rows;
    struct row row;
    bool rows_ended;
    /* Of a group and its row. */
    struct groups *merged;
    struct pgbinary_field *fields;
    struct pgbinary_writer encoded;
    struct pgbinary_writer copied; /* rows on their way */
    bool copying;
    struct id_list closed;
    int64_t seen;
};

static enum status check_stop(int64_t rows, struct error *error)
{
    if (rows % STOP_CHECK_ROWS == 0 && program_stopping())
        return error_set(error, STATUS_RETRY, "stopped");
    return STATUS_OK;
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

/* --- the open rows --- */

static size_t sorter_bytes(const struct recompute *recompute)
{
    return spill_memory(recompute->spill) / 8;
}

static enum status read_rows(struct postgres *postgres, const struct view *view, const char *table,
                             const char *join, struct row_sorter *rows, struct error *error)
{
    char *sql = NULL;
    char *columns = catalog_state_columns(view, "b.");
    if (columns == NULL ||
        asprintf(&sql,
                 "COPY (SELECT b._row_id, %s FROM %s b%s AND b._run_to = 9223372036854775807)"
                 " TO STDOUT (FORMAT binary)",
                 columns, table, join) < 0) {
        free(columns);
        return error_no_memory(error);
    }
    enum status status = row_sorter_read(rows, postgres, sql, true, error);
    free(columns);
    free(sql);
    return status;
}

enum status store_read_rows(struct postgres *postgres, const struct recompute *recompute,
                            size_t index, struct row_sorter **out, struct error *error)
{
    const struct catalog_version *version = &recompute->catalog->versions[index];
    const size_t memory_bytes = sorter_bytes(recompute);
    char table[CATALOG_NAME_BYTES];
    catalog_batch_table(version->version, table);
    enum status status =
        row_sorter_create(version->view, recompute->spill, memory_bytes, out, error);
    if (status == STATUS_OK)
        status = read_rows(postgres, version->view, table, " WHERE true", *out, error);
    if (status == STATUS_OK) /* all versions' are kept at a time */
        status = row_sorter_finish(*out, memory_bytes / recompute->catalog->version_count, error);
    return status;
}

/* --- the rows of groups alone --- */

/* Which keys of the group are NULL, a bit each: `=` finds no NULL, and an index needs to know. */
static unsigned null_pattern(const struct view *view, const struct value *keys)
{
    unsigned pattern = 0;
    for (size_t i = 0; i < view->key_count; i++)
        pattern |= (unsigned)keys[i].is_null << i;
    return pattern;
}

static enum status copy_keys(struct storing *storing, bool *patterns, struct error *error)
{
    const struct view *view = storing->view;
    struct pgbinary_writer *writer = &storing->copied;
    struct row_stream *groups = NULL;
    bool end = false;
    pgbinary_put_copy_header(writer);
    enum status status =
        recompute_rows(storing->recompute, storing->index, RECOMPUTE_PARTS, &groups, error);
    if (status == STATUS_OK)
        status = postgres_copy_in_begin(
            storing->postgres, "COPY pg_temp.dovetail_touched FROM STDIN (FORMAT binary)", error);
    while (status == STATUS_OK && !end) {
        struct value keys[VIEW_KEY_MAX];
        struct row row;
        status = row_stream_next(groups, &row, &end, error);
        if (status != STATUS_OK || end)
            break;
        group_key_values(view, row.key, keys);
        pgbinary_put_row(writer, (int16_t)(1 + view->key_count));
        pgbinary_put_timestamp(writer, row.window_start_us);
        for (size_t i = 0; i < view->key_count; i++)
            pgbinary_put_value(writer, &keys[i]);
        patterns[null_pattern(view, keys)] = true;
        status = send(storing->postgres, writer, false, &storing->counts->bytes, error);
    }
    row_stream_destroy(groups);
    if (status == STATUS_OK)
        status = send(storing->postgres, writer, true, &storing->counts->bytes, error);
    if (status == STATUS_OK)
        status = postgres_copy_in_end(storing->postgres, error);
    return status;
}

/* Of the types and collations of the rows' columns. */
static enum status make_touched(const struct storing *storing, struct error *error)
{
    const struct view *view = storing->view;
    char *sql = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&sql, &size);
    if (out == NULL)
        return error_no_memory(error);
    fputs("CREATE TEMPORARY TABLE dovetail_touched ON COMMIT DROP AS SELECT window_start", out);
    for (size_t i = 0; i < view->key_count; i++)
        fprintf(out, ", \"%s\"", view->keys[i].name);
    fprintf(out, " FROM %s WITH NO DATA", storing->table);
    if (fclose(out) != 0 || sql == NULL)
        return error_no_memory(error);
    enum status status = postgres_execute(storing->postgres, sql, error);
    free(sql);
    return status;
}

static enum status read_pattern(const struct storing *storing, unsigned pattern,
                                struct row_sorter *rows, struct error *error)
{
    const struct view *view = storing->view;
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
    enum status status = read_rows(storing->postgres, view, storing->table, join, rows, error);
    free(join);
    return status;
}

/* One statement for each pattern of NULLs that there is, so that each finds rows by the index. */
static enum status read_touched(struct storing *storing, struct row_sorter *rows,
                                struct error *error)
{
    struct postgres *postgres = storing->postgres;
    bool *patterns = calloc(PATTERNS, sizeof *patterns);
    enum status status = patterns == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK)
        status = make_touched(storing, error);
    if (status == STATUS_OK)
        status = copy_keys(storing, patterns, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "ANALYZE pg_temp.dovetail_touched", error);
    for (unsigned pattern = 0; status == STATUS_OK && pattern < PATTERNS; pattern++)
        if (patterns[pattern])
            status = read_pattern(storing, pattern, rows, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "DROP TABLE pg_temp.dovetail_touched", error);
    free(patterns);
    return status;
}

/* --- closing --- */

static enum status spill_ids(struct storing *storing, struct error *error)
{
    struct id_list *list = &storing->closed;
    struct spill_run run;
    enum status status = STATUS_OK;
    if (list->file == NULL)
        status = spill_file_create(storing->recompute->spill, &list->file, error);
    if (status == STATUS_OK)
        status = spill_begin(list->file, error);
    for (size_t i = 0; status == STATUS_OK && i < list->count; i++) {
        const struct row row = {.id = list->ids[i]};
        status = spill_add(list->file, &row, error);
    }
    if (status == STATUS_OK)
        status = spill_end(list->file, &run, error);
    list->count = 0;
    return status == STATUS_OK ? row_runs_add(&list->runs, &run, error) : status;
}

static enum status close_row(struct storing *storing, int64_t id, struct error *error)
{
    struct id_list *list = &storing->closed;
    if (list->ids == NULL)
        list->ids = calloc(CLOSED_MAX, sizeof *list->ids);
    if (list->ids == NULL)
        return error_no_memory(error);
    enum status status = list->count == CLOSED_MAX ? spill_ids(storing, error) : STATUS_OK;
    if (status == STATUS_OK) {
        list->ids[list->count++] = id;
        storing->counts->closed++;
    }
    return status;
}

static enum status send_id(struct storing *storing, int64_t id, struct error *error)
{
    pgbinary_put_row(&storing->copied, 1);
    pgbinary_put_int8(&storing->copied, id);
    return send(storing->postgres, &storing->copied, false, &storing->counts->bytes, error);
}

static enum status send_run(struct storing *storing, const struct spill_run *run,
                            struct error *error)
{
    struct spill_reader *reader = NULL;
    bool end = false;
    enum status status = spill_reader_open(run, &reader, error);
    while (status == STATUS_OK && !end) {
        struct row row;
        status = spill_reader_next(reader, &row, &end, error);
        if (status == STATUS_OK && !end)
            status = send_id(storing, row.id, error);
    }
    spill_reader_close(reader);
    return status;
}

static enum status copy_closed(struct storing *storing, struct error *error)
{
    const struct id_list *list = &storing->closed;
    pgbinary_put_copy_header(&storing->copied);
    enum status status = postgres_copy_in_begin(
        storing->postgres, "COPY pg_temp.dovetail_closed FROM STDIN (FORMAT binary)", error);
    for (size_t i = 0; status == STATUS_OK && i < list->runs.count; i++)
        status = send_run(storing, &list->runs.items[i], error);
    for (size_t i = 0; status == STATUS_OK && i < list->count; i++)
        status = send_id(storing, list->ids[i], error);
    if (status == STATUS_OK)
        status = send(storing->postgres, &storing->copied, true, &storing->counts->bytes, error);
    if (status == STATUS_OK)
        status = postgres_copy_in_end(storing->postgres, error);
    return status;
}

static enum status close_rows(struct storing *storing, struct error *error)
{
    struct postgres *postgres = storing->postgres;
    if (storing->closed.count == 0 && storing->closed.runs.count == 0)
        return STATUS_OK;
    enum status status = postgres_execute(
        postgres, "CREATE TEMPORARY TABLE dovetail_closed (row_id bigint) ON COMMIT DROP", error);
    if (status == STATUS_OK)
        status = copy_closed(storing, error);
    if (status == STATUS_OK) /* the planner must know whether there are ten or ten million */
        status = postgres_execute(postgres, "ANALYZE pg_temp.dovetail_closed", error);
    if (status == STATUS_OK)
        status = postgres_executef(postgres, error,
                                   "UPDATE %s b SET _run_to = %" PRId64
                                   " FROM pg_temp.dovetail_closed c WHERE b._row_id = c.row_id",
                                   storing->table, storing->run);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "DROP TABLE pg_temp.dovetail_closed", error);
    return status;
}

/* --- inserting --- */

static enum status begin_copying(struct storing *storing, struct error *error)
{
    char *sql = NULL;
    if (asprintf(&sql, "COPY %s (_run_from, %s) FROM STDIN (FORMAT binary)", storing->table,
                 storing->columns) < 0)
        return error_no_memory(error);
    enum status status = postgres_copy_in_begin(storing->postgres, sql, error);
    free(sql);
    storing->copying = status == STATUS_OK;
    pgbinary_put_copy_header(&storing->copied);
    return status;
}

static enum status insert_row(struct storing *storing, const void *fields, size_t length,
                              struct error *error)
{
    enum status status = storing->copying ? STATUS_OK : begin_copying(storing, error);
    if (status != STATUS_OK)
        return status;
    pgbinary_put_row(&storing->copied, (int16_t)(1 + view_row_columns(storing->view)));
    pgbinary_put_int8(&storing->copied, storing->run);
    pgbinary_put_fields(&storing->copied, fields, length);
    storing->counts->inserted++;
    return send(storing->postgres, &storing->copied, false, &storing->counts->bytes, error);
}

static enum status end_copying(struct storing *storing, struct error *error)
{
    if (!storing->copying)
        return STATUS_OK;
    enum status status =
        send(storing->postgres, &storing->copied, true, &storing->counts->bytes, error);
    return status == STATUS_OK ? postgres_copy_in_end(storing->postgres, error) : status;
}

/* --- side by side --- */

static enum status next_group(struct storing *storing, struct error *error)
{
    enum status status = check_stop(storing->seen, error);
    if (status == STATUS_OK)
        status = row_stream_next(storing->groups, &storing->group, &storing->groups_ended, error);
    storing->counts->rows += status == STATUS_OK && !storing->groups_ended;
    progress_update(storing->progress, ++storing->seen);
    return status;
}

static enum status next_row(struct storing *storing, struct error *error)
{
    enum status status = check_stop(storing->seen, error);
    if (status == STATUS_OK)
        status = row_stream_next(storing->rows, &storing->row, &storing->rows_ended, error);
    progress_update(storing->progress, ++storing->seen);
    return status;
}

/* Whose group is next: <0 only ours, >0 only a row's, 0 both have it. */
static int order(const struct storing *storing)
{
    if (storing->groups_ended || storing->rows_ended)
        return storing->groups_ended - storing->rows_ended;
    return row_compare(&storing->group, &storing->row);
}

static enum status add_states(struct storing *storing, const struct row *row, struct group **group,
                              struct error *error)
{
    enum status status = pgbinary_split_fields(row->fields, row->length, storing->fields,
                                               view_row_columns(storing->view), error);
    return status == STATUS_OK ? groups_merge_row(storing->merged, storing->fields, group, error)
                               : status;
}

/* What is new of the group and what its row has, merged; in storing->encoded. */
static enum status merge_row(struct storing *storing, struct error *error)
{
    struct group *group = NULL;
    groups_clear(storing->merged);
    pgbinary_writer_clear(&storing->encoded);
    enum status status = add_states(storing, &storing->group, &group, error);
    if (status == STATUS_OK)
        status = add_states(storing, &storing->row, &group, error);
    return status == STATUS_OK ? group_encode_row(storing->view, group, &storing->encoded, error)
                               : status;
}

/* The group, and all rows that it has: the first stays where it is equal. A second open row of one
 * group must not be: it is closed, unless rows are reused, because then it has records of its own.
 */
static enum status store_both(struct storing *storing, struct error *error)
{
    enum status status = STATUS_OK;
    struct row wanted = storing->group;
    if (storing->reuses_rows) {
        status = merge_row(storing, error);
        wanted.fields = (uint8_t *)storing->encoded.data;
        wanted.length = storing->encoded.length;
    }
    if (status != STATUS_OK)
        return status;
    const struct row *row = &storing->row;
    bool equal =
        row->length == wanted.length && memcmp(row->fields, wanted.fields, wanted.length) == 0;
    if (equal)
        storing->counts->unchanged++;
    else
        status = close_row(storing, row->id, error);
    if (status == STATUS_OK && !equal)
        status = insert_row(storing, wanted.fields, wanted.length, error);
    while (status == STATUS_OK) {
        status = next_row(storing, error);
        if (status != STATUS_OK || order(storing) != 0)
            break;
        if (storing->reuses_rows)
            return error_set(error, STATUS_FATAL,
                             "there are two open rows of one group; "
                             "`dovetail-batch run --full` writes them anew");
        status = close_row(storing, row->id, error);
    }
    return status == STATUS_OK ? next_group(storing, error) : status;
}

static enum status store_next(struct storing *storing, struct error *error)
{
    int which = order(storing);
    if (which == 0)
        return store_both(storing, error);
    enum status status = STATUS_OK;
    if (which < 0) {
        status = insert_row(storing, storing->group.fields, storing->group.length, error);
        return status == STATUS_OK ? next_group(storing, error) : status;
    }
    if (!storing->reuses_rows) /* else there is nothing new of it */
        status = close_row(storing, storing->row.id, error);
    return status == STATUS_OK ? next_row(storing, error) : status;
}

static enum status store_rows(struct storing *storing, const struct row_sorter *rows,
                              struct error *error)
{
    enum status status = recompute_rows(storing->recompute, storing->index, RECOMPUTE_PARTS,
                                        &storing->groups, error);
    if (status == STATUS_OK)
        status = row_sorter_rows(rows, &storing->rows, error);
    if (status == STATUS_OK)
        status = next_group(storing, error);
    if (status == STATUS_OK)
        status = next_row(storing, error);
    while (status == STATUS_OK && !(storing->groups_ended && storing->rows_ended))
        status = store_next(storing, error);
    if (status == STATUS_OK)
        status = end_copying(storing, error);
    return status == STATUS_OK ? close_rows(storing, error) : status;
}

/* What the version's rows are compared with, where nobody has read them before. */
static enum status get_rows(struct storing *storing, struct row_sorter **rows, struct error *error)
{
    const struct recompute *recompute = storing->recompute;
    if (*rows != NULL)
        return STATUS_OK;
    if (!storing->reuses_rows)
        return store_read_rows(storing->postgres, recompute, storing->index, rows, error);
    enum status status =
        row_sorter_create(storing->view, recompute->spill, sorter_bytes(recompute), rows, error);
    if (status == STATUS_OK && !recompute_is_empty(recompute, storing->index))
        status = read_touched(storing, *rows, error);
    return status == STATUS_OK ? row_sorter_finish(*rows, sorter_bytes(recompute), error) : status;
}

enum status store_version(struct postgres *postgres, const struct recompute *recompute,
                          size_t index, bool reuses_rows, struct row_sorter **rows, int64_t run,
                          struct progress *progress, struct store_counts *counts,
                          struct error *error)
{
    const struct catalog_version *version = &recompute->catalog->versions[index];
    char *columns = catalog_state_columns(version->view, "");
    char table[CATALOG_NAME_BYTES];
    catalog_batch_table(version->version, table);
    struct storing storing = {.postgres = postgres,
                              .recompute = recompute,
                              .index = index,
                              .view = version->view,
                              .table = table,
                              .columns = columns,
                              .run = run,
                              .reuses_rows = reuses_rows,
                              .counts = counts,
                              .progress = progress};
    pgbinary_writer_init(&storing.encoded);
    pgbinary_writer_init(&storing.copied);
    storing.fields = calloc(view_row_columns(version->view), sizeof *storing.fields);
    enum status status =
        columns == NULL || storing.fields == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK)
        status = groups_create(version->view, &storing.merged, error);
    if (status == STATUS_OK)
        status = get_rows(&storing, rows, error);
    if (status == STATUS_OK)
        status = store_rows(&storing, *rows, error);
    row_stream_destroy(storing.groups);
    row_stream_destroy(storing.rows);
    groups_destroy(storing.merged);
    pgbinary_writer_deinit(&storing.encoded);
    pgbinary_writer_deinit(&storing.copied);
    row_runs_deinit(&storing.closed.runs);
    spill_file_destroy(storing.closed.file);
    free(storing.closed.ids);
    free(storing.fields);
    free(columns);
    if (status != STATUS_OK)
        error_wrap(error, "view %s, version %d", version->view->name, version->version);
    return status;
}
