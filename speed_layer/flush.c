/* Collecting what one transaction writes: see flush.h. flush_write.c writes it.
 *
 * Main thread. Fails only for want of memory, which is fatal: a group that was marked stored and is
 * not in the flush would be lost. */
#include "speed_layer/flush.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the SQL of a version --- */

/* `pattern` for each column of states, with the column's name for every '@'; `separator` between
 * two of them. */
static void put_columns(FILE *out, const struct view *view, const char *pattern,
                        const char *separator)
{
    bool first = true;
    for (size_t i = 0; i < view->state_count; i++) {
        const struct measure *measure = view->measures[i].measure;
        for (size_t c = 0; c < measure->column_count; c++) {
            const char *suffix = measure->columns[c].suffix;
            fputs(first ? "" : separator, out);
            first = false;
            for (const char *at = pattern; *at != '\0'; at++) {
                if (*at != '@')
                    fputc(*at, out);
                else
                    fprintf(out, "\"%s%s%s\"", view->measures[i].name, suffix != NULL ? "$" : "",
                            suffix != NULL ? suffix : "");
            }
        }
    }
}

static bool has_state_columns(const struct view *view)
{
    for (size_t i = 0; i < view->state_count; i++)
        if (view->measures[i].measure->column_count > 0)
            return true;
    return false;
}

static bool write_version_sql(struct flush_version *entry, const char *columns, FILE *stage,
                              FILE *update)
{
    const struct view *view = entry->version->view;
    int version = entry->version->version;
    char table[CATALOG_NAME_BYTES];
    catalog_speed_table(version, table);
    fprintf(stage,
            "CREATE TEMP TABLE stage_%d ON COMMIT DELETE ROWS AS "
            "SELECT _partition, _slice_start, _group_id, ",
            version);
    put_columns(stage, view, "@", ", ");
    fprintf(stage, " FROM %s WITH NO DATA", table);
    /* A nested loop over the index whatever the planner thinks of a table without statistics: see
     * the connection's settings in flusher.c. */
    fprintf(update, "UPDATE %s AS s SET ", table);
    put_columns(update, view, "@ = n.@", ", ");
    fprintf(update,
            " FROM stage_%d AS n WHERE s._partition = n._partition AND "
            "s._slice_start = n._slice_start AND s._group_id = n._group_id",
            version);
    return asprintf(&entry->copy_sql,
                    "COPY %s (_partition, _slice_start, _group_id, %s) FROM STDIN (FORMAT binary)",
                    table, columns) >= 0 &&
           asprintf(&entry->stage_copy_sql, "COPY stage_%d FROM STDIN (FORMAT binary)", version) >=
               0;
}

static enum status prepare_version(struct flush_version *entry,
                                   const struct catalog_version *version, struct error *error)
{
    entry->version = version;
    pgbinary_writer_init(&entry->inserts);
    pgbinary_writer_init(&entry->updates);
    size_t length = 0;
    char *columns = catalog_state_columns(version->view, "");
    FILE *stage = open_memstream(&entry->stage_sql, &length);
    FILE *update = open_memstream(&entry->update_sql, &length);
    bool good = columns != NULL && stage != NULL && update != NULL &&
                write_version_sql(entry, columns, stage, update);
    good = stage != NULL && fclose(stage) == 0 && good;
    good = update != NULL && fclose(update) == 0 && good;
    free(columns);
    return good ? STATUS_OK : error_no_memory(error);
}

/* --- the collection --- */

static void deinit_versions(struct flush *flush)
{
    for (size_t i = 0; i < flush->version_count; i++) {
        struct flush_version *entry = &flush->versions[i];
        free(entry->copy_sql);
        free(entry->stage_sql);
        free(entry->stage_copy_sql);
        free(entry->update_sql);
        pgbinary_writer_deinit(&entry->inserts);
        pgbinary_writer_deinit(&entry->updates);
    }
    free(flush->versions);
    flush->versions = NULL;
    flush->version_count = 0;
}

enum status flush_prepare(struct flush *flush, const struct catalog *catalog, struct error *error)
{
    flush_clear(flush);
    deinit_versions(flush);
    flush->versions = calloc(catalog->version_count + 1, sizeof *flush->versions);
    if (flush->versions == NULL)
        return error_no_memory(error);
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < catalog->version_count; i++)
        status =
            prepare_version(&flush->versions[flush->version_count++], &catalog->versions[i], error);
    return status;
}

void flush_clear(struct flush *flush)
{
    for (size_t i = 0; i < flush->version_count; i++) {
        struct flush_version *entry = &flush->versions[i];
        pgbinary_writer_clear(&entry->inserts);
        pgbinary_writer_clear(&entry->updates);
        entry->insert_count = 0;
        entry->update_count = 0;
    }
    flush->partition_count = 0;
    flush->ledger_count = 0;
    flush->commit_in_doubt = false;
    flush->status = STATUS_OK;
    dead_letters_clear(&flush->letters);
    memset(flush->dead, 0, sizeof flush->dead);
    flush->slices = 0;
}

void flush_deinit(struct flush *flush)
{
    deinit_versions(flush);
    free(flush->partitions);
    free(flush->ledgers);
    free(flush->scratch);
    dead_letters_deinit(&flush->letters);
    *flush = (struct flush){0};
}

bool flush_is_empty(const struct flush *flush)
{
    /* Rows, ledgers and letters never go without the partition they move. */
    return flush->partition_count == 0;
}

size_t flush_bytes(const struct flush *flush)
{
    size_t bytes = flush->letters.bytes;
    for (size_t i = 0; i < flush->version_count; i++)
        bytes += flush->versions[i].inserts.length + flush->versions[i].updates.length;
    return bytes;
}

/* Without a group: nobody will address the row. */
static void put_address(struct pgbinary_writer *writer, size_t field_count, int32_t partition,
                        int64_t slice_start, const struct group *group)
{
    pgbinary_put_row(writer, (int16_t)(3 + field_count));
    pgbinary_put_int4(writer, partition);
    pgbinary_put_int8(writer, slice_start);
    if (group != NULL)
        pgbinary_put_int8(writer, (int64_t)group->id);
    else
        pgbinary_put_null(writer);
}

static enum status add_insert(struct flush_version *entry, int32_t partition, int64_t slice_start,
                              const struct group *group, bool closing, struct error *error)
{
    const struct view *view = entry->version->view;
    if (entry->insert_count++ == 0)
        pgbinary_put_copy_header(&entry->inserts);
    put_address(&entry->inserts, view_row_columns(view), partition, slice_start,
                closing ? NULL : group);
    return group_encode_row(view, group, &entry->inserts, error);
}

/* Window and keys never change: an update carries the states alone. */
static enum status add_update(struct flush_version *entry, int32_t partition, int64_t slice_start,
                              const struct group *group, struct error *error)
{
    const struct view *view = entry->version->view;
    if (!has_state_columns(view))
        return STATUS_OK;
    if (entry->update_count++ == 0)
        pgbinary_put_copy_header(&entry->updates);
    put_address(&entry->updates, view_row_columns(view) - 1 - view->key_count, partition,
                slice_start, group);
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < view->state_count; i++) {
        const struct measure *measure = view->measures[i].measure;
        status = measure->kind->encode(measure, group_state(group) + view->state_offsets[i],
                                       &entry->updates, error);
    }
    return status;
}

/* Room for one more element of `size` bytes. */
static bool make_room(void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return true;
    size_t wanted = *capacity == 0 ? 16 : *capacity * 2;
    void **slot = array;
    void *grown = reallocarray(*slot, wanted, size);
    if (grown == NULL)
        return false;
    *slot = grown;
    *capacity = wanted;
    return true;
}

enum status flush_add_partition(struct flush *flush, const struct flush_partition *partition,
                                struct error *error)
{
    if (!make_room(&flush->partitions, flush->partition_count, &flush->partition_capacity,
                   sizeof *partition))
        return error_no_memory(error);
    flush->partitions[flush->partition_count++] = *partition;
    return STATUS_OK;
}

enum status flush_add_ledger(struct flush *flush, const struct flush_ledger *ledger,
                             struct error *error)
{
    if (!make_room(&flush->ledgers, flush->ledger_count, &flush->ledger_capacity, sizeof *ledger))
        return error_no_memory(error);
    flush->ledgers[flush->ledger_count++] = *ledger;
    return STATUS_OK;
}

/* The changed groups, oldest change first. The list has them the other way round, which would be
 * the worst order for the tables' indexes: ascending rows cost PostgreSQL half the time. */
static enum status sort_changed(struct flush *flush, struct group *newest, size_t *count,
                                struct error *error)
{
    *count = 0;
    for (const struct group *group = newest; group != NULL; group = group->next_changed)
        ++*count;
    if (*count > flush->scratch_capacity) {
        struct group **grown = reallocarray(flush->scratch, *count, sizeof *grown);
        if (grown == NULL)
            return error_no_memory(error);
        flush->scratch = grown;
        flush->scratch_capacity = *count;
    }
    size_t at = *count;
    for (struct group *group = newest; group != NULL; group = group->next_changed)
        flush->scratch[--at] = group;
    return STATUS_OK;
}

enum status flush_add_groups(struct flush *flush, size_t version, int32_t partition,
                             int64_t slice_start, struct groups *groups, bool closing,
                             struct error *error)
{
    struct flush_version *entry = &flush->versions[version];
    size_t count;
    enum status status = sort_changed(flush, groups_changed(groups), &count, error);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        struct group *group = flush->scratch[i];
        status = group->stored ? add_update(entry, partition, slice_start, group, error)
                               : add_insert(entry, partition, slice_start, group, closing, error);
        group->stored = true;
    }
    groups_changed_reset(groups);
    if (status == STATUS_OK)
        status = pgbinary_writer_check(&entry->inserts, error);
    return status == STATUS_OK ? pgbinary_writer_check(&entry->updates, error) : status;
}
