/* Merging sorted sources: see row_stream.h. A binary heap of cursors, ordered by the row that each
 * gives next (Knuth, The Art of Computer Programming, volume 3, 5.4.1). */
#include "batch_layer/row_stream.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

enum cursor_kind { GROUPS, ROWS, RUN };

struct cursor {
    enum cursor_kind kind;
    const struct row_entry *next; /* of what is in memory */
    const struct row_entry *end;
    struct spill_reader *reader;
    struct row row; /* the next one; of groups and runs without its fields */
    uint64_t key_prefix;
};

struct row_stream {
    const struct view *view;
    bool combine;
    struct cursor *cursors;
    size_t count;
    size_t capacity;
    struct cursor **heap; /* made by the first row_stream_next */
    size_t heap_count;
    struct cursor *given;           /* whose row was given last, and must be moved on; or NULL */
    struct groups *merged;          /* one group, where several sources have it */
    struct pgbinary_field *split;   /* of one row */
    struct pgbinary_writer encoded; /* a group's fields */
    struct pgbinary_writer room;    /* fields that are larger than a reader's buffer */
};

/* --- order --- */

uint64_t row_key_prefix(const unsigned char *key, size_t length)
{
    unsigned char bytes[sizeof(uint64_t)] = {0};
    uint64_t prefix;
    memcpy(bytes, key, length < sizeof bytes ? length : sizeof bytes);
    memcpy(&prefix, bytes, sizeof prefix);
    return be64toh(prefix);
}

static int compare_keys(const unsigned char *a, size_t a_length, const unsigned char *b,
                        size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    if (order != 0 || a_length == b_length)
        return order;
    return a_length < b_length ? -1 : 1;
}

int row_compare(const struct row *a, const struct row *b)
{
    if (a->window_start_us != b->window_start_us)
        return a->window_start_us < b->window_start_us ? -1 : 1;
    return compare_keys(a->key, a->key_length, b->key, b->key_length);
}

/* 0: only the keys can tell. */
static int compare_heads(const struct row_entry *a, const struct row_entry *b)
{
    if (a->window_start_us != b->window_start_us)
        return a->window_start_us < b->window_start_us ? -1 : 1;
    return a->key_prefix < b->key_prefix ? -1 : a->key_prefix > b->key_prefix;
}

static int compare_groups(const void *left, const void *right)
{
    const struct row_entry *a = left;
    const struct row_entry *b = right;
    int order = compare_heads(a, b);
    if (order != 0)
        return order;
    const struct group *x = a->item;
    const struct group *y = b->item;
    return compare_keys(x->key, x->key_length, y->key, y->key_length);
}

static int compare_rows(const void *left, const void *right)
{
    const struct row_entry *a = left;
    const struct row_entry *b = right;
    int order = compare_heads(a, b);
    if (order != 0)
        return order;
    const struct stored_row *x = a->item;
    const struct stored_row *y = b->item;
    return compare_keys(x->bytes, x->key_length, y->bytes, y->key_length);
}

void row_entries_sort_groups(struct row_entry *entries, size_t count)
{
    if (count > 0)
        qsort(entries, count, sizeof *entries, compare_groups);
}

void row_entries_sort_rows(struct row_entry *entries, size_t count)
{
    if (count > 0)
        qsort(entries, count, sizeof *entries, compare_rows);
}

/* --- runs --- */

enum { RUNS_LEAST = 4, RUNS_MOST = 256 };

size_t row_runs_most(size_t bytes)
{
    size_t most = bytes / SPILL_BUFFER_BYTES;
    return most < RUNS_LEAST ? RUNS_LEAST : most > RUNS_MOST ? RUNS_MOST : most;
}

enum status row_runs_add(struct row_runs *runs, const struct spill_run *run, struct error *error)
{
    if (runs->count == runs->capacity) {
        size_t capacity = runs->capacity == 0 ? 16 : runs->capacity * 2;
        struct spill_run *grown = reallocarray(runs->items, capacity, sizeof *grown);
        if (grown == NULL)
            return error_no_memory(error);
        runs->items = grown;
        runs->capacity = capacity;
    }
    runs->items[runs->count++] = *run;
    return STATUS_OK;
}

void row_runs_deinit(struct row_runs *runs)
{
    free(runs->items);
    *runs = (struct row_runs){0};
}

/* The first `count` runs become one, behind the others: so all grow alike. */
static enum status merge_first(struct row_runs *runs, size_t count, const struct view *view,
                               bool combine, struct spill_file *file, struct error *error)
{
    struct row_stream *stream = NULL;
    const struct row_runs first = {.items = runs->items, .count = count};
    enum status status = row_stream_create(view, combine, &stream, error);
    if (status == STATUS_OK)
        status = row_stream_add_runs(stream, &first, error);
    if (status == STATUS_OK)
        status = row_stream_spill(stream, file, runs, error);
    row_stream_destroy(stream);
    for (size_t i = 0; status == STATUS_OK && i < count; i++)
        status = spill_run_free(&runs->items[i], error);
    if (status != STATUS_OK)
        return status;
    runs->count -= count;
    memmove(runs->items, runs->items + count, runs->count * sizeof *runs->items);
    return STATUS_OK;
}

enum status row_runs_reduce(struct row_runs *runs, size_t most, const struct view *view,
                            bool combine, struct spill_file *file, struct error *error)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && runs->count > most) {
        size_t surplus = runs->count - most + 1;
        status = merge_first(runs, surplus < most ? surplus : most, view, combine, file, error);
    }
    return status;
}

/* --- cursors --- */

/* Goes to the cursor's next row; *ended where it has none. */
static enum status move_on(struct cursor *cursor, bool *ended, struct error *error)
{
    struct row *row = &cursor->row;
    *ended = false;
    if (cursor->kind == RUN) {
        enum status status = spill_reader_next(cursor->reader, row, ended, error);
        if (status == STATUS_OK && !*ended)
            cursor->key_prefix = row_key_prefix(row->key, row->key_length);
        return status;
    }
    *ended = cursor->next == cursor->end;
    if (*ended)
        return STATUS_OK;
    const struct row_entry *entry = cursor->next++;
    cursor->key_prefix = entry->key_prefix;
    if (cursor->kind == GROUPS) {
        const struct group *group = entry->item;
        *row = (struct row){.window_start_us = group->window_start_us,
                            .key = group->key,
                            .key_length = group->key_length};
    } else {
        const struct stored_row *stored = entry->item;
        *row = (struct row){.window_start_us = entry->window_start_us,
                            .id = stored->id,
                            .key = stored->bytes,
                            .key_length = stored->key_length,
                            .fields = stored->bytes + stored->key_length,
                            .length = stored->length};
    }
    return STATUS_OK;
}

static int compare_cursors(const struct cursor *a, const struct cursor *b)
{
    if (a->row.window_start_us != b->row.window_start_us)
        return a->row.window_start_us < b->row.window_start_us ? -1 : 1;
    if (a->key_prefix != b->key_prefix)
        return a->key_prefix < b->key_prefix ? -1 : 1;
    return compare_keys(a->row.key, a->row.key_length, b->row.key, b->row.key_length);
}

static void push(struct row_stream *stream, struct cursor *cursor)
{
    size_t at = stream->heap_count++;
    while (at > 0 && compare_cursors(cursor, stream->heap[(at - 1) / 2]) < 0) {
        stream->heap[at] = stream->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    stream->heap[at] = cursor;
}

static struct cursor *pop(struct row_stream *stream)
{
    struct cursor *least = stream->heap[0];
    struct cursor *last = stream->heap[--stream->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= stream->heap_count)
            break;
        if (child + 1 < stream->heap_count &&
            compare_cursors(stream->heap[child + 1], stream->heap[child]) < 0)
            child++;
        if (compare_cursors(last, stream->heap[child]) <= 0)
            break;
        stream->heap[at] = stream->heap[child];
        at = child;
    }
    stream->heap[at] = last;
    return least;
}

/* Moves a cursor on that is not in the heap, and puts it back unless it has ended. */
static enum status push_next(struct row_stream *stream, struct cursor *cursor, struct error *error)
{
    bool ended;
    enum status status = move_on(cursor, &ended, error);
    if (status == STATUS_OK && !ended)
        push(stream, cursor);
    return status;
}

/* --- the stream --- */

enum status row_stream_create(const struct view *view, bool combine, struct row_stream **out,
                              struct error *error)
{
    struct row_stream *stream = calloc(1, sizeof *stream);
    *out = NULL;
    if (stream == NULL)
        return error_no_memory(error);
    stream->view = view;
    stream->combine = combine;
    pgbinary_writer_init(&stream->encoded);
    pgbinary_writer_init(&stream->room);
    stream->split = calloc(view_row_columns(view), sizeof *stream->split);
    enum status status = stream->split == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK)
        status = groups_create(view, &stream->merged, error);
    if (status != STATUS_OK) {
        row_stream_destroy(stream);
        return status;
    }
    *out = stream;
    return STATUS_OK;
}

void row_stream_destroy(struct row_stream *stream)
{
    if (stream == NULL)
        return;
    for (size_t i = 0; i < stream->count; i++)
        spill_reader_close(stream->cursors[i].reader);
    free(stream->cursors);
    free(stream->heap);
    groups_destroy(stream->merged);
    free(stream->split);
    pgbinary_writer_deinit(&stream->encoded);
    pgbinary_writer_deinit(&stream->room);
    free(stream);
}

static enum status add_cursor(struct row_stream *stream, const struct cursor *cursor,
                              struct error *error)
{
    if (stream->count == stream->capacity) {
        size_t capacity = stream->capacity == 0 ? 8 : stream->capacity * 2;
        struct cursor *grown = reallocarray(stream->cursors, capacity, sizeof *grown);
        if (grown == NULL)
            return error_no_memory(error);
        stream->cursors = grown;
        stream->capacity = capacity;
    }
    stream->cursors[stream->count++] = *cursor;
    return STATUS_OK;
}

enum status row_stream_add_groups(struct row_stream *stream, const struct row_entry *sorted,
                                  size_t count, struct error *error)
{
    struct cursor cursor = {.kind = GROUPS, .next = sorted, .end = sorted + count};
    return count == 0 ? STATUS_OK : add_cursor(stream, &cursor, error);
}

enum status row_stream_add_rows(struct row_stream *stream, const struct row_entry *sorted,
                                size_t count, struct error *error)
{
    struct cursor cursor = {.kind = ROWS, .next = sorted, .end = sorted + count};
    return count == 0 ? STATUS_OK : add_cursor(stream, &cursor, error);
}

enum status row_stream_add_runs(struct row_stream *stream, const struct row_runs *runs,
                                struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < runs->count; i++) {
        struct cursor cursor = {.kind = RUN};
        status = spill_reader_open(&runs->items[i], &cursor.reader, error);
        if (status != STATUS_OK)
            break;
        status = add_cursor(stream, &cursor, error);
        if (status != STATUS_OK)
            spill_reader_close(cursor.reader);
    }
    return status;
}

static enum status begin(struct row_stream *stream, struct error *error)
{
    stream->heap = calloc(stream->count + 1, sizeof *stream->heap);
    enum status status = stream->heap == NULL ? error_no_memory(error) : STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < stream->count; i++)
        status = push_next(stream, &stream->cursors[i], error);
    return status;
}

/* The group that a cursor of groups is at. */
static const struct group *group_of(const struct cursor *cursor)
{
    return cursor->next[-1].item;
}

static enum status encode(struct row_stream *stream, const struct group *group, struct row *row,
                          struct error *error)
{
    pgbinary_writer_clear(&stream->encoded);
    enum status status = group_encode_row(stream->view, group, &stream->encoded, error);
    *row = (struct row){.window_start_us = group->window_start_us,
                        .key = group->key,
                        .key_length = group->key_length,
                        .fields = (uint8_t *)stream->encoded.data,
                        .length = stream->encoded.length};
    return status;
}

/* The row that nobody else has a part of. */
static enum status give(struct row_stream *stream, struct cursor *cursor, struct row *row,
                        struct error *error)
{
    stream->given = cursor;
    if (cursor->kind == GROUPS)
        return encode(stream, group_of(cursor), row, error);
    enum status status = STATUS_OK;
    if (cursor->kind == RUN)
        status = spill_reader_fields(cursor->reader, &stream->room, &cursor->row, error);
    *row = cursor->row;
    return status;
}

static enum status merge(struct row_stream *stream, struct cursor *cursor, struct group **into,
                         struct error *error)
{
    struct groups *merged = stream->merged;
    if (cursor->kind == GROUPS) {
        const struct group *group = group_of(cursor);
        enum status status = groups_find_or_add(merged, group->window_start_us, group->key,
                                                group->key_length, into, error);
        return status == STATUS_OK ? groups_merge_states(merged, *into, group_state(group), error)
                                   : status;
    }
    size_t columns = view_row_columns(stream->view);
    enum status status = STATUS_OK;
    if (cursor->kind == RUN)
        status = spill_reader_fields(cursor->reader, &stream->room, &cursor->row, error);
    if (status == STATUS_OK)
        status = pgbinary_split_fields(cursor->row.fields, cursor->row.length, stream->split,
                                       columns, error);
    return status == STATUS_OK ? groups_merge_row(merged, stream->split, into, error) : status;
}

static bool is_of(const struct group *group, const struct cursor *cursor)
{
    return group->window_start_us == cursor->row.window_start_us &&
           group->key_length == cursor->row.key_length &&
           memcmp(group->key, cursor->row.key, group->key_length) == 0;
}

static enum status give_merged(struct row_stream *stream, struct cursor *cursor, struct row *row,
                               struct error *error)
{
    struct group *group = NULL;
    groups_clear(stream->merged);
    for (;;) {
        enum status status = merge(stream, cursor, &group, error);
        if (status == STATUS_OK)
            status = push_next(stream, cursor, error);
        if (status != STATUS_OK)
            return status;
        if (stream->heap_count == 0 || !is_of(group, stream->heap[0]))
            return encode(stream, group, row, error);
        cursor = pop(stream);
    }
}

enum status row_stream_next(struct row_stream *stream, struct row *row, bool *end,
                            struct error *error)
{
    enum status status = STATUS_OK;
    if (stream->heap == NULL)
        status = begin(stream, error);
    else if (stream->given != NULL)
        status = push_next(stream, stream->given, error);
    stream->given = NULL;
    *end = stream->heap_count == 0;
    if (status != STATUS_OK || *end)
        return status;
    struct cursor *cursor = pop(stream);
    if (!stream->combine || stream->heap_count == 0 ||
        compare_cursors(cursor, stream->heap[0]) != 0)
        return give(stream, cursor, row, error);
    return give_merged(stream, cursor, row, error);
}

enum status row_stream_spill(struct row_stream *stream, struct spill_file *file,
                             struct row_runs *runs, struct error *error)
{
    bool end = false;
    struct spill_run run;
    enum status status = spill_begin(file, error);
    while (status == STATUS_OK && !end) {
        struct row row;
        status = row_stream_next(stream, &row, &end, error);
        if (status == STATUS_OK && !end)
            status = spill_add(file, &row, error);
    }
    if (status == STATUS_OK)
        status = spill_end(file, &run, error);
    return status == STATUS_OK ? row_runs_add(runs, &run, error) : status;
}
