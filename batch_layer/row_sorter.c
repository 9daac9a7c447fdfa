/* Sorting rows: see row_sorter.h. */
#include "batch_layer/row_sorter.h"

#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"

enum { STOP_CHECK_ROWS = 4096, MEMORY_LEAST = 256 << 10, ENTRIES_AT_FIRST = 256 };

struct row_sorter {
    const struct view *view;
    struct spill *spill;
    struct spill_file *file; /* NULL: nothing was spilled */
    size_t memory_bytes;
    struct arena arena; /* struct stored_row */
    struct row_entry *entries;
    size_t count;
    size_t capacity;
    struct row_runs runs;
    /* While rows are read. */
    bool with_id;
    struct pgbinary_field *fields;
    unsigned char key[ROW_KEY_MAX];
    int64_t seen;
};

enum status row_sorter_create(const struct view *view, struct spill *spill, size_t memory_bytes,
                              struct row_sorter **out, struct error *error)
{
    struct row_sorter *sorter = calloc(1, sizeof *sorter);
    *out = NULL;
    if (sorter == NULL)
        return error_no_memory(error);
    sorter->view = view;
    sorter->spill = spill;
    sorter->memory_bytes = memory_bytes < MEMORY_LEAST ? MEMORY_LEAST : memory_bytes;
    sorter->fields = calloc(1 + view_row_columns(view), sizeof *sorter->fields);
    arena_init(&sorter->arena);
    if (sorter->fields == NULL) {
        row_sorter_destroy(sorter);
        return error_no_memory(error);
    }
    *out = sorter;
    return STATUS_OK;
}

void row_sorter_destroy(struct row_sorter *sorter)
{
    if (sorter == NULL)
        return;
    arena_deinit(&sorter->arena);
    free(sorter->entries);
    row_runs_deinit(&sorter->runs);
    spill_file_destroy(sorter->file);
    free(sorter->fields);
    free(sorter);
}

/* --- keeping --- */

static enum status write_entries(struct row_sorter *sorter, struct error *error)
{
    struct row_stream *stream = NULL;
    enum status status = row_stream_create(sorter->view, false, &stream, error);
    if (status == STATUS_OK)
        status = row_stream_add_rows(stream, sorter->entries, sorter->count, error);
    if (status == STATUS_OK)
        status = row_stream_spill(stream, sorter->file, &sorter->runs, error);
    row_stream_destroy(stream);
    return status;
}

static enum status spill_entries(struct row_sorter *sorter, struct error *error)
{
    enum status status = STATUS_OK;
    if (sorter->file == NULL)
        status = spill_file_create(sorter->spill, &sorter->file, error);
    row_entries_sort_rows(sorter->entries, sorter->count);
    if (status == STATUS_OK)
        status = write_entries(sorter, error);
    arena_deinit(&sorter->arena);
    free(sorter->entries);
    sorter->entries = NULL;
    sorter->count = 0;
    sorter->capacity = 0;
    return status;
}

static enum status make_room(struct row_sorter *sorter, size_t bytes, struct error *error)
{
    bool full = sorter->count == sorter->capacity;
    /* While the entries grow there are old and new ones; while they are sorted, two of each. */
    size_t entries =
        (full ? 3 * sorter->capacity : 2 * sorter->capacity) * sizeof(struct row_entry);
    enum status status = STATUS_OK;
    if (sorter->count > 0 && sorter->arena.reserved_bytes + bytes + entries > sorter->memory_bytes)
        status = spill_entries(sorter, error);
    if (status != STATUS_OK || sorter->count < sorter->capacity)
        return status;
    size_t capacity = sorter->capacity == 0 ? ENTRIES_AT_FIRST : sorter->capacity * 2;
    struct row_entry *grown = reallocarray(sorter->entries, capacity, sizeof *grown);
    if (grown == NULL)
        return error_no_memory(error);
    sorter->entries = grown;
    sorter->capacity = capacity;
    return STATUS_OK;
}

enum status row_sorter_add(struct row_sorter *sorter, const struct row *row, struct error *error)
{
    size_t bytes = sizeof(struct stored_row) + row->key_length + row->length;
    enum status status = make_room(sorter, bytes, error);
    if (status != STATUS_OK)
        return status;
    struct stored_row *stored = arena_alloc(&sorter->arena, bytes);
    if (stored == NULL)
        return error_no_memory(error);
    *stored = (struct stored_row){
        .id = row->id, .key_length = (uint32_t)row->key_length, .length = (uint32_t)row->length};
    if (row->key_length > 0)
        memcpy(stored->bytes, row->key, row->key_length);
    memcpy(stored->bytes + row->key_length, row->fields, row->length);
    sorter->entries[sorter->count++] =
        (struct row_entry){.window_start_us = row->window_start_us,
                           .key_prefix = row_key_prefix(row->key, row->key_length),
                           .item = stored};
    return STATUS_OK;
}

enum status row_sorter_finish(struct row_sorter *sorter, size_t memory_bytes, struct error *error)
{
    size_t bytes = sorter->arena.reserved_bytes + sorter->capacity * sizeof(struct row_entry);
    enum status status = STATUS_OK;
    if (sorter->count > 0 && (sorter->file != NULL || bytes > memory_bytes))
        status = spill_entries(sorter, error);
    row_entries_sort_rows(sorter->entries, sorter->count);
    if (status == STATUS_OK && sorter->file != NULL)
        status = row_runs_reduce(&sorter->runs, row_runs_most(spill_memory(sorter->spill) / 16),
                                 sorter->view, false, sorter->file, error);
    return status;
}

/* --- reading from PostgreSQL --- */

/* Window and keys, as struct group has them; row->key_length 0: no group can have such keys. */
static enum status read_key(struct row_sorter *sorter, const struct pgbinary_field *fields,
                            struct row *row, struct error *error)
{
    const struct view *view = sorter->view;
    row->key = sorter->key;
    row->key_length = 0;
    enum status status = pgbinary_get_timestamp(&fields[0], &row->window_start_us, error);
    for (size_t i = 0; status == STATUS_OK && i < view->key_count; i++) {
        struct value value;
        status = pgbinary_get_value(&fields[1 + i], expression_type(view->keys[i].expression),
                                    &value, error);
        if (status != STATUS_OK)
            break;
        if (value_key_size(&value) > sizeof sorter->key - row->key_length) {
            row->key_length = 0;
            break;
        }
        row->key_length += value_key_encode(&value, sorter->key + row->key_length);
    }
    return status;
}

static enum status take_row(const uint8_t *bytes, size_t length, void *context, struct error *error)
{
    struct row_sorter *sorter = context;
    const struct pgbinary_field *states = sorter->fields + sorter->with_id;
    struct row row = {0};
    if (sorter->seen++ % STOP_CHECK_ROWS == 0 && program_stopping())
        return error_set(error, STATUS_RETRY, "stopped");
    enum status status = pgbinary_split_row(
        bytes, length, sorter->fields, sorter->with_id + view_row_columns(sorter->view), error);
    if (status == STATUS_OK && sorter->with_id)
        status = pgbinary_get_int8(&sorter->fields[0], &row.id, error);
    if (status == STATUS_OK)
        status = read_key(sorter, states, &row, error);
    if (status != STATUS_OK)
        return status;
    const size_t skipped = sizeof(int16_t) + (sorter->with_id ? sizeof(int32_t) + 8 : 0);
    row.fields = bytes + skipped;
    row.length = length - skipped;
    return row_sorter_add(sorter, &row, error);
}

enum status row_sorter_read(struct row_sorter *sorter, struct postgres *postgres, const char *sql,
                            bool with_id, struct error *error)
{
    sorter->with_id = with_id;
    return postgres_copy_out(postgres, sql, take_row, sorter, error);
}

/* --- giving --- */

bool row_sorter_is_empty(const struct row_sorter *sorter)
{
    return sorter->count == 0 && sorter->runs.count == 0;
}

enum status row_sorter_rows(const struct row_sorter *sorter, struct row_stream **out,
                            struct error *error)
{
    enum status status = row_stream_create(sorter->view, false, out, error);
    if (status == STATUS_OK)
        status = row_stream_add_rows(*out, sorter->entries, sorter->count, error);
    if (status == STATUS_OK)
        status = row_stream_add_runs(*out, &sorter->runs, error);
    if (status != STATUS_OK) {
        row_stream_destroy(*out);
        *out = NULL;
    }
    return status;
}
