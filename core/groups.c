/* The table of groups: see groups.h.
 *
 * Invariant: a record is folded into all measures of its group or into none. Everything that can
 * fail because of the record (conditions, keys, arguments) is evaluated before the group is
 * touched; after that only memory can run out, which ends the process. */
#include "core/groups.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/expressions/expression_node.h"
#include "core/group_table.h"

struct groups {
    const struct view *view;
    struct group_table table;
    struct arena scratch; /* of one record */
    struct group *changed;
    size_t changed_count;
    struct measure_input *inputs; /* of one record: one for each measure */
    unsigned char *key;           /* of one record: room for any accepted key */
    size_t key_room;
    unsigned char *initial; /* states of a new group */
    int64_t pane_start_us;  /* of the last record: [start, end) */
    int64_t pane_end_us;
};

/* Room for the keys of any record that is accepted, and at first for those of any row that is read.
 * Only looked-up columns need more (read_key). */
static size_t key_room(const struct view *view)
{
    return view->key_count * VALUE_KEY_FIXED_BYTES + KEY_BYTES_MAX;
}

static void init_states(const struct view *view, unsigned char *state)
{
    memset(state, 0, view->state_bytes);
    for (size_t i = 0; i < view->state_count; i++) {
        const struct measure *measure = view->measures[i].measure;
        measure->kind->init(measure, state + view->state_offsets[i]);
    }
}

enum status groups_create(const struct view *view, struct groups **out, struct error *error)
{
    struct groups *groups = calloc(1, sizeof *groups);

    *out = NULL;
    if (groups == NULL) {
        return error_no_memory(error);
    }
    groups->view = view;
    arena_init(&groups->scratch);
    groups->initial = aligned_alloc(16, (view->state_bytes + 31) & ~(size_t)15);
    groups->inputs = aligned_alloc(16, view->state_count * sizeof *groups->inputs);
    groups->key_room = key_room(view);
    groups->key = malloc(groups->key_room);
    if (groups->inputs == NULL || groups->key == NULL || groups->initial == NULL ||
        !group_table_init(&groups->table, view->state_bytes, groups->initial)) {
        groups_destroy(groups);
        return error_no_memory(error);
    }
    init_states(view, groups->initial);
    *out = groups;
    return STATUS_OK;
}

void groups_destroy(struct groups *groups)
{
    if (groups == NULL) {
        return;
    }
    group_table_deinit(&groups->table);
    arena_deinit(&groups->scratch);
    free(groups->inputs);
    free(groups->key);
    free(groups->initial);
    free(groups);
}

void groups_clear(struct groups *groups)
{
    group_table_clear(&groups->table);
    groups->changed = NULL;
    groups->changed_count = 0;
}

size_t groups_count(const struct groups *groups)
{
    return groups->table.group_count;
}

size_t groups_memory_bytes(const struct groups *groups)
{
    return group_table_bytes(&groups->table);
}

size_t groups_peak_bytes(const struct groups *groups)
{
    return group_table_peak_bytes(&groups->table) + groups->scratch.reserved_bytes;
}

struct arena *groups_arena(struct groups *groups)
{
    return &groups->table.arena;
}

const struct view *groups_view(const struct groups *groups)
{
    return groups->view;
}

enum status groups_find_or_add(struct groups *groups, int64_t window_start_us,
                               const unsigned char *key, size_t key_length, struct group **out,
                               struct error *error)
{
    uint64_t hash = group_hash(window_start_us, key, key_length);
    return group_table_add(&groups->table, group_table_pane(&groups->table, window_start_us),
                           window_start_us, hash, key, key_length, out, error);
}

enum status groups_reserve(struct groups *groups, int64_t window_start_us, size_t count,
                           struct error *error)
{
    return group_table_reserve(&groups->table, window_start_us, count, error);
}

struct group *groups_find(const struct groups *groups, int64_t window_start_us,
                          const unsigned char *key, size_t key_length)
{
    return group_pane_find(&groups->table, group_table_find_pane(&groups->table, window_start_us),
                           group_hash(window_start_us, key, key_length), key, key_length);
}

bool groups_have_pane(const struct groups *groups, int64_t start_us)
{
    return group_table_find_pane(&groups->table, start_us)->slots != NULL;
}

static void mark_changed(struct groups *groups, struct group *group)
{
    if (!group->changed) {
        group->changed = true;
        group->next_changed = groups->changed;
        groups->changed = group;
        groups->changed_count++;
    }
}

struct group *groups_changed(const struct groups *groups)
{
    return groups->changed;
}

void groups_changed_reset(struct groups *groups)
{
    for (struct group *group = groups->changed; group != NULL;) {
        struct group *next = group->next_changed;
        group->changed = false;
        group->next_changed = NULL;
        group = next;
    }
    groups->changed = NULL;
    groups->changed_count = 0;
}

size_t groups_changed_bytes(const struct groups *groups)
{
    if (groups->changed_count == 0)
        return 0;
    return groups->changed_count * (groups_memory_bytes(groups) / groups->table.group_count);
}

/* --- folding --- */

static enum status prepare_key(struct groups *groups, const struct event *event, size_t *key_length,
                               struct error *error)
{
    const struct view *view = groups->view;
    size_t length = 0, string_bytes = 0;

    for (size_t i = 0; i < view->key_count; i++) {
        struct value evaluated;
        const struct value *value = expression_plain(view->keys[i].expression, event->fields);
        if (value == NULL) {
            enum status status = expression_evaluate(view->keys[i].expression, event->fields,
                                                     &groups->scratch, &evaluated, error);
            if (status != STATUS_OK) {
                return error_wrap(error, "view \"%s\": key \"%s\"", view->name, view->keys[i].name);
            }
            value = &evaluated;
        }
        if (value->type == VALUE_STRING && !value->is_null) {
            string_bytes += value->string.length;
            if (string_bytes > KEY_BYTES_MAX) {
                return error_set(error, STATUS_REJECT,
                                 "view \"%s\": key \"%s\": the keys are longer than %d bytes",
                                 view->name, view->keys[i].name, KEY_BYTES_MAX);
            }
        }
        length += value_key_encode(value, groups->key + length);
    }
    *key_length = length;
    return STATUS_OK;
}

static enum status prepare_measures(struct groups *groups, const struct event *event,
                                    struct error *error)
{
    const struct view *view = groups->view;

    for (size_t i = 0; i < view->state_count; i++) {
        const struct measure *measure = view->measures[i].measure;
        struct measure_input *input = &groups->inputs[i];
        if (measure->filter == NULL && measure->plain_field != SIZE_MAX) {
            input->skip = false;
            input->arguments = &event->fields[measure->plain_field];
            continue;
        }
        enum status status =
            measure_prepare(measure, event->fields, &groups->scratch, input, error);
        if (status != STATUS_OK) {
            return error_wrap(error, "view \"%s\": measure \"%s\"", view->name,
                              view->measures[i].name);
        }
    }
    return STATUS_OK;
}

static enum status passes_where(struct groups *groups, const struct event *event, bool *passes,
                                struct error *error)
{
    const struct view *view = groups->view;
    struct value condition;

    *passes = true;
    if (view->where == NULL) {
        return STATUS_OK;
    }
    enum status status =
        expression_evaluate(view->where, event->fields, &groups->scratch, &condition, error);
    if (status != STATUS_OK) {
        return error_wrap(error, "view \"%s\": where", view->name);
    }
    *passes = !condition.is_null && condition.boolean;
    return STATUS_OK;
}

/* Where the pane of a time starts. Records that follow each other are mostly of one. */
static int64_t pane_of(struct groups *groups, int64_t time_us)
{
    const struct window *window = &groups->view->window;

    if (time_us < groups->pane_start_us || time_us >= groups->pane_end_us) {
        groups->pane_start_us = window_pane_start(window, time_us);
        groups->pane_end_us = window_pane_end(window, groups->pane_start_us);
    }
    return groups->pane_start_us;
}

enum status groups_fold(struct groups *groups, const struct event *event,
                        const struct measure_origin *origin, enum fold_outcome *outcome,
                        struct error *error)
{
    const struct view *view = groups->view;
    struct group *group;
    size_t key_length = 0;
    bool passes;

    if (groups->scratch.blocks != NULL) {
        arena_reset(&groups->scratch);
    }
    if (event->is_dropped) {
        *outcome = FOLD_FILTERED;
        return STATUS_OK;
    }
    enum status status = passes_where(groups, event, &passes, error);
    if (status != STATUS_OK || !passes) {
        *outcome = FOLD_FILTERED;
        return status;
    }
    status = prepare_key(groups, event, &key_length, error);
    if (status != STATUS_OK) {
        return status;
    }
    int64_t start_us = pane_of(groups, event->time_us);
    uint64_t hash = group_hash(start_us, groups->key, key_length);
    struct group_pane *pane = group_table_pane(&groups->table, start_us);
    __builtin_prefetch(group_pane_slot(pane, hash)); /* while the measures are prepared */
    status = prepare_measures(groups, event, error);
    status = status == STATUS_OK ? group_table_add(&groups->table, pane, start_us, hash,
                                                   groups->key, key_length, &group, error)
                                 : status;
    for (size_t i = 0; status == STATUS_OK && i < view->state_count; i++) {
        const struct measure *measure = view->measures[i].measure;
        if (!groups->inputs[i].skip) {
            status = measure->kind->fold(measure, group_state(group) + view->state_offsets[i],
                                         groups->inputs[i].arguments, origin, &groups->table.arena,
                                         error);
        }
    }
    if (status == STATUS_OK) {
        mark_changed(groups, group);
        *outcome = FOLD_COUNTED;
    }
    return status;
}

/* --- merging --- */

enum status groups_merge_states(struct groups *groups, struct group *into,
                                const unsigned char *state, struct error *error)
{
    const struct view *view = groups->view;

    for (size_t i = 0; i < view->state_count; i++) {
        const struct measure *measure = view->measures[i].measure;
        size_t at = view->state_offsets[i];
        enum status status = measure->kind->merge(measure, group_state(into) + at, state + at,
                                                  &groups->table.arena, error);
        if (status != STATUS_OK) {
            return error_wrap(error, "view \"%s\": measure \"%s\"", view->name,
                              view->measures[i].name);
        }
    }
    mark_changed(groups, into);
    return STATUS_OK;
}

static enum status add_group(struct groups *into, const struct group *from, struct error *error)
{
    struct group *group;
    enum status status = group_table_add(
        &into->table, group_table_pane(&into->table, from->window_start_us), from->window_start_us,
        from->hash, from->key, from->key_length, &group, error);
    return status == STATUS_OK ? groups_merge_states(into, group, group_state(from), error)
                               : status;
}

static const struct group_slot *first_slot(const struct groups *groups, const struct group *group)
{
    return group_pane_slot(group_table_find_pane(&groups->table, group->window_start_us),
                           group->hash);
}

/* All that is read was mostly written long ago, or by another thread, and comes from memory: first
 * the other table's group, then the slot of ours, then our group. */
enum status groups_add(struct groups *into, struct group *const *from, size_t count,
                       struct error *error)
{
    enum { GROUP_AHEAD = 16, SLOT_AHEAD = 8, INTO_AHEAD = 4 };
    enum status status = STATUS_OK;

    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        if (i + GROUP_AHEAD < count) {
            group_prefetch(&into->table, from[i + GROUP_AHEAD]);
        }
        if (i + SLOT_AHEAD < count) {
            __builtin_prefetch(first_slot(into, from[i + SLOT_AHEAD]));
        }
        if (i + INTO_AHEAD < count) {
            const struct group_slot *slot = first_slot(into, from[i + INTO_AHEAD]);
            if (slot != NULL && slot->group != NULL) {
                group_prefetch(&into->table, slot->group);
            }
        }
        status = add_group(into, from[i], error);
    }
    return status;
}

enum status groups_merge(struct groups *into, const struct groups *from, struct error *error)
{
    struct groups_cursor cursor = {0};
    const struct group *group;
    enum status status = STATUS_OK;

    while (status == STATUS_OK && (group = groups_next(from, &cursor)) != NULL) {
        status = add_group(into, group, error);
    }
    return status;
}

/* --- walking --- */

const struct group_pane *groups_next_pane(const struct groups *groups, size_t *cursor)
{
    return group_table_next_pane(&groups->table, cursor);
}

struct group *groups_next(const struct groups *groups, struct groups_cursor *cursor)
{
    const struct group_table *table = &groups->table;
    uint64_t hash;

    for (; cursor->pane < table->pane_capacity; cursor->pane++, cursor->slot = 0) {
        struct group *group = group_pane_next(&table->panes[cursor->pane], &cursor->slot, &hash);
        if (group != NULL) {
            return group;
        }
    }
    return NULL;
}

void group_keys(const struct view *view, const struct group *group, struct value *out)
{
    group_key_values(view, group->key, out);
}

void group_key_values(const struct view *view, const unsigned char *key, struct value *out)
{
    const unsigned char *next = key;

    for (size_t i = 0; i < view->key_count; i++) {
        next += value_key_decode(view->keys[i].type, next, &out[i]);
    }
}

static int compare_panes(const void *left, const void *right)
{
    int64_t a = (*(const struct group_pane *const *)left)->start_us;
    int64_t b = (*(const struct group_pane *const *)right)->start_us;
    return (a > b) - (a < b);
}

enum status groups_panes_sorted(const struct groups *groups, const struct group_pane ***out,
                                size_t *count, struct error *error)
{
    const struct group_pane **panes =
        malloc((groups->table.pane_count + 1) * sizeof(const struct group_pane *));
    size_t cursor = 0;

    *out = panes;
    *count = 0;
    if (panes == NULL) {
        return error_no_memory(error);
    }
    while ((panes[*count] = groups_next_pane(groups, &cursor)) != NULL) {
        ++*count;
    }
    qsort(panes, *count, sizeof(const struct group_pane *), compare_panes);
    return STATUS_OK;
}

static int compare_groups(const void *left, const void *right, void *context)
{
    const struct view *view = context;
    const struct group *a = *(struct group *const *)left;
    const struct group *b = *(struct group *const *)right;

    if (a->window_start_us != b->window_start_us) {
        return a->window_start_us < b->window_start_us ? -1 : 1;
    }
    const unsigned char *at_a = a->key, *at_b = b->key;
    for (size_t i = 0; i < view->key_count; i++) {
        enum value_type type = view->keys[i].type;
        struct value value_a, value_b;
        at_a += value_key_decode(type, at_a, &value_a);
        at_b += value_key_decode(type, at_b, &value_b);
        int order = value_compare(&value_a, &value_b);
        if (order != 0) {
            return order;
        }
    }
    return 0;
}

enum status groups_sorted(const struct groups *groups, struct group ***out, struct error *error)
{
    struct group **sorted = malloc((groups->table.group_count + 1) * sizeof(struct group *));
    struct groups_cursor cursor = {0};
    size_t count = 0;
    struct group *group;

    *out = NULL;
    if (sorted == NULL) {
        return error_no_memory(error);
    }
    while ((group = groups_next(groups, &cursor)) != NULL) {
        sorted[count++] = group;
    }
    assert(count == groups->table.group_count);
    qsort_r(sorted, count, sizeof(struct group *), compare_groups, (void *)groups->view);
    *out = sorted;
    return STATUS_OK;
}

/* --- rows of states --- */

size_t view_row_columns(const struct view *view)
{
    size_t columns = 1 + view->key_count;

    for (size_t i = 0; i < view->state_count; i++) {
        columns += view->measures[i].measure->column_count;
    }
    return columns;
}

enum status group_encode_row(const struct view *view, const struct group *group,
                             struct pgbinary_writer *writer, struct error *error)
{
    const unsigned char *next = group->key;

    pgbinary_put_timestamp(writer, group->window_start_us);
    for (size_t i = 0; i < view->key_count; i++) {
        struct value value;
        next += value_key_decode(view->keys[i].type, next, &value);
        pgbinary_put_value(writer, &value);
    }
    for (size_t i = 0; i < view->state_count; i++) {
        const struct measure *measure = view->measures[i].measure;
        enum status status = measure->kind->encode(
            measure, group_state(group) + view->state_offsets[i], writer, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return pgbinary_writer_check(writer, error);
}

/* Room for `more` bytes behind the first `length` of the key. */
static enum status reserve_key(struct groups *groups, size_t length, size_t more,
                               struct error *error)
{
    if (length + more <= groups->key_room) {
        return STATUS_OK;
    }
    size_t room = 2 * (length + more);
    unsigned char *key = realloc(groups->key, room);
    if (key == NULL) {
        return error_no_memory(error);
    }
    groups->key = key;
    groups->key_room = room;
    return STATUS_OK;
}

/* What is wrong with a value from a reference table, which is not ours to keep right. */
static enum status bad_lookup(const struct view_key *key, struct error *error)
{
    error_wrap(error, "lookup: column \"%s\" (%s)", key->name, key->text);
    return error->status = STATUS_RETRY;
}

static enum status check_string_bytes(const struct view_key *key, const size_t bytes[2],
                                      struct error *error)
{
    if (bytes[0] > KEY_BYTES_MAX) {
        return error_set(error, STATUS_FATAL, "stored state: keys longer than %d bytes",
                         KEY_BYTES_MAX);
    }
    if (bytes[1] > LOOKED_UP_BYTES_MAX) {
        (void)error_set(error, STATUS_FATAL, "more than %d bytes in one row of an answer",
                        LOOKED_UP_BYTES_MAX);
        return bad_lookup(key, error);
    }
    return STATUS_OK;
}

static enum status read_key(struct groups *groups, const struct pgbinary_field *fields,
                            int64_t *window_start_us, size_t *key_length, struct error *error)
{
    const struct view *view = groups->view;
    size_t length = 0, string_bytes[2] = {0}; /* of keys, of looked-up columns */

    enum status status = window_read_start(&fields[0], window_start_us, error);
    for (size_t i = 0; status == STATUS_OK && i < view->key_count; i++) {
        const struct view_key *key = &view->keys[i];
        struct value value;
        status = pgbinary_get_value(&fields[1 + i], key->type, &value, error);
        if (status != STATUS_OK) {
            return key->lookup != NULL ? bad_lookup(key, error) : status;
        }
        if (value.type == VALUE_STRING && !value.is_null) {
            string_bytes[key->lookup != NULL] += value.string.length;
        }
        status = check_string_bytes(key, string_bytes, error);
        if (status == STATUS_OK) {
            status = reserve_key(groups, length, value_key_size(&value), error);
        }
        if (status == STATUS_OK) {
            length += value_key_encode(&value, groups->key + length);
        }
    }
    *key_length = length;
    return status;
}

/* Decodes the measures' columns into initialised states at `state`. */
static enum status read_states(const struct view *view, const struct pgbinary_field *fields,
                               unsigned char *state, struct arena *arena, struct error *error)
{
    const struct pgbinary_field *next = fields;

    for (size_t i = 0; i < view->state_count; i++) {
        const struct measure *measure = view->measures[i].measure;
        enum status status =
            measure->kind->decode(measure, state + view->state_offsets[i], next, arena, error);
        if (status != STATUS_OK) {
            return error_wrap(error, "view \"%s\": measure \"%s\"", view->name,
                              view->measures[i].name);
        }
        next += measure->column_count;
    }
    return STATUS_OK;
}

static enum status merge_decoded(struct groups *groups, struct group *into,
                                 const struct pgbinary_field *fields, struct error *error)
{
    const struct view *view = groups->view;

    arena_reset(&groups->scratch);
    unsigned char *state = arena_alloc(&groups->scratch, view->state_bytes);
    if (state == NULL) {
        return error_no_memory(error);
    }
    memcpy(state, groups->initial, view->state_bytes);
    enum status status = read_states(view, fields, state, &groups->scratch, error);
    return status == STATUS_OK ? groups_merge_states(groups, into, state, error) : status;
}

enum status groups_merge_row(struct groups *groups, const struct pgbinary_field *fields,
                             struct group **group, struct error *error)
{
    const struct view *view = groups->view;
    const struct pgbinary_field *states = fields + 1 + view->key_count;
    size_t count_before = groups->table.group_count, key_length = 0;
    int64_t window_start_us = 0;
    struct group *into;

    enum status status = read_key(groups, fields, &window_start_us, &key_length, error);
    status = status == STATUS_OK ? groups_find_or_add(groups, window_start_us, groups->key,
                                                      key_length, &into, error)
                                 : status;
    if (status != STATUS_OK) {
        return status;
    }
    if (groups->table.group_count != count_before) { /* new: nothing to merge with */
        status = read_states(view, states, group_state(into), &groups->table.arena, error);
        mark_changed(groups, into);
    } else {
        status = merge_decoded(groups, into, states, error);
    }
    if (group != NULL) {
        *group = into;
    }
    return status;
}
