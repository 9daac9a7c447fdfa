/* Stored rows of states: window, keys and states as a server may send them are refused, or they are
 * groups that come back from their own rows and become the windows of any range.
 *
 * Input: the view, the range, then rows, each column in one of several ways. */
#include "tests/fuzz/fuzz.h"

#include <inttypes.h>

#include "core/groups.h"
#include "core/time/timestamp.h"

enum { VIEWS = 6, ROWS_MAX = 12, COLUMNS_MAX = 32 };

#define REST                                                                                       \
    "\"measures\":{\"n\":\"count(*)\",\"most\":\"max(s)\",\"total\":\"sum(d)\",\"last\":\"last(i)" \
    "\""                                                                                           \
    "}}"

static const char *const view_texts[VIEWS] = {
    "{\"view\":\"v\",\"source\":\"s\",\"group_by\":[\"s\",\"d\",\"i\",\"b\",\"at\"],"
    "\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"}," REST,
    "{\"view\":\"v\",\"source\":\"s\",\"group_by\":[\"b\"],"
    "\"window\":{\"type\":\"session\",\"gap\":\"10m\"}," REST,
    "{\"view\":\"v\",\"source\":\"s\",\"group_by\":[\"b\"],"
    "\"window\":{\"type\":\"hopping\",\"size\":\"50m\",\"slide\":\"15m\"}," REST,
    "{\"view\":\"v\",\"source\":\"s\",\"window\":{\"type\":\"tumbling\",\"size\":\"1d\","
    "\"timezone\":\"America/New_York\"}," REST,
    "{\"view\":\"v\",\"source\":\"s\",\"window\":{\"type\":\"tumbling\",\"size\":\"1mo\"}," REST,
    "{\"view\":\"v\",\"source\":\"s\",\"group_by\":[\"s\"],\"window\":{\"type\":\"none\"}," REST,
};

static struct source *source;
static struct view *views[VIEWS];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    source = fuzz_source(fuzz_source_json);
    for (size_t i = 0; i < VIEWS; i++)
        views[i] = fuzz_view(view_texts[i], source);
    return 0;
}

/* --- rows --- */

static bool value_type_of(uint32_t oid, enum value_type *type)
{
    for (*type = VALUE_STRING; *type <= VALUE_TIMESTAMP; (*type)++)
        if (value_type_oid(*type) == oid)
            return true;
    return false;
}

/* A value of the column's type, NULL, or bytes. */
static void put_column(struct pgbinary_writer *writer, struct fuzz_input *input, uint32_t oid,
                       struct arena *arena)
{
    enum value_type type;
    uint8_t way = fuzz_byte(input);
    if (way % 16 == 14) {
        pgbinary_put_null(writer);
    } else if (oid == PG_OID_INT4 && way % 16 < 14) {
        pgbinary_put_int4(writer, way);
    } else if (way % 16 == 15 || !value_type_of(oid, &type)) {
        struct fuzz_input bytes = fuzz_take(input, way / 16);
        struct value text = value_string((const char *)bytes.data, bytes.length);
        pgbinary_put_value(writer, &text);
    } else if (type == VALUE_TIMESTAMP && way % 16 == 0) {
        pgbinary_put_timestamp(writer, INT64_MAX - fuzz_byte(input));
    } else if (type == VALUE_TIMESTAMP && way % 16 < 8) {
        pgbinary_put_timestamp(writer, (int64_t)fuzz_byte(input) * 5 * 60000000);
    } else if (type == VALUE_INTEGER && way % 16 < 8) {
        pgbinary_put_int8(writer, fuzz_byte(input) % 4);
    } else if (type == VALUE_INTEGER && way % 16 < 11) {
        pgbinary_put_int8(writer, way % 16 == 8 ? INT64_MAX : INT64_MAX - 1);
    } else {
        struct value value = fuzz_value(input, type, arena);
        pgbinary_put_value(writer, &value);
    }
}

static enum status merge_row(struct groups *groups, struct fuzz_input *input, struct error *error)
{
    const struct view *view = groups_view(groups);
    struct pgbinary_writer writer;
    struct pgbinary_field fields[COLUMNS_MAX];
    size_t count = view_row_columns(view);
    struct arena arena;
    FUZZ_CHECK(count <= COLUMNS_MAX, "too many columns");
    arena_init(&arena);
    pgbinary_writer_init(&writer);
    pgbinary_put_row(&writer, (int16_t)count);
    put_column(&writer, input, PG_OID_TIMESTAMPTZ, &arena);
    for (size_t i = 0; i < view->key_count; i++)
        put_column(&writer, input, value_type_oid(view->keys[i].type), &arena);
    for (size_t i = 0; i < view->state_count; i++)
        for (size_t c = 0; c < view->measures[i].measure->column_count; c++)
            put_column(&writer, input, view->measures[i].measure->columns[c].oid, &arena);
    FUZZ_CHECK(pgbinary_split_row((const uint8_t *)writer.data, writer.length, fields, count,
                                  error) == STATUS_OK,
               "%s", error->text);
    enum status status = groups_merge_row(groups, fields, NULL, error);
    memset(writer.data, 0xAA, writer.length); /* what is kept must have been copied */
    pgbinary_writer_deinit(&writer);
    arena_deinit(&arena);
    return status;
}

/* --- what they become --- */

static struct groups *new_groups(const struct view *view)
{
    struct groups *groups = NULL;
    struct error error = {0};
    FUZZ_CHECK(groups_create(view, &groups, &error) == STATUS_OK, "%s", error.text);
    return groups;
}

/* The row of each group, split and merged into another table, is that group. */
static void check_round_trip(const struct groups *groups)
{
    const struct view *view = groups_view(groups);
    struct groups *again = new_groups(view);
    struct group **sorted = NULL, **sorted_again = NULL;
    struct pgbinary_field fields[COLUMNS_MAX];
    struct pgbinary_writer writer, writer_again;
    struct error error = {0};
    size_t count = view_row_columns(view);
    pgbinary_writer_init(&writer);
    pgbinary_writer_init(&writer_again);
    FUZZ_CHECK(groups_sorted(groups, &sorted, &error) == STATUS_OK, "%s", error.text);
    for (size_t i = 0; i < groups_count(groups); i++) {
        pgbinary_writer_clear(&writer_again);
        pgbinary_put_row(&writer_again, (int16_t)count);
        FUZZ_CHECK(group_encode_row(view, sorted[i], &writer_again, &error) == STATUS_OK &&
                       pgbinary_split_row((const uint8_t *)writer_again.data, writer_again.length,
                                          fields, count, &error) == STATUS_OK &&
                       groups_merge_row(again, fields, NULL, &error) == STATUS_OK,
                   "a group's own row: %s", error.text);
        FUZZ_CHECK(group_encode_row(view, sorted[i], &writer, &error) == STATUS_OK, "%s",
                   error.text);
    }
    FUZZ_CHECK(groups_count(again) == groups_count(groups), "%zu groups of %zu come back",
               groups_count(again), groups_count(groups));
    FUZZ_CHECK(groups_sorted(again, &sorted_again, &error) == STATUS_OK, "%s", error.text);
    pgbinary_writer_clear(&writer_again);
    for (size_t i = 0; i < groups_count(again); i++)
        FUZZ_CHECK(group_encode_row(view, sorted_again[i], &writer_again, &error) == STATUS_OK,
                   "%s", error.text);
    FUZZ_CHECK(
        writer.length == writer_again.length &&
            (writer.length == 0 || memcmp(writer.data, writer_again.data, writer.length) == 0),
        "other bytes come back");
    free(sorted);
    free(sorted_again);
    pgbinary_writer_deinit(&writer);
    pgbinary_writer_deinit(&writer_again);
    groups_destroy(again);
}

static void check_windows(const struct groups *groups, struct window_range range)
{
    const struct view *view = groups_view(groups);
    const struct window_kind *kind = view->window.kind;
    struct groups *windows = kind->combine == NULL ? NULL : new_groups(view);
    struct error error = {0};
    struct groups_cursor cursor = {0};
    struct window_range wide = range;
    if (kind->widen != NULL)
        kind->widen(&view->window, &wide);
    if (windows != NULL) {
        enum status status = kind->combine(view, &range, groups, (size_t)1 << 24, windows, &error);
        if (status != STATUS_OK) {
            fuzz_check_refusal(status, &error);
            groups_destroy(windows);
            return;
        }
    }
    const struct group *group;
    while ((group = groups_next(windows != NULL ? windows : groups, &cursor)) != NULL) {
        int64_t start_us = 0, end_us = 0;
        if (kind->is_timeless)
            continue;
        kind->bounds(view, group, &start_us, &end_us);
        FUZZ_CHECK(start_us < end_us, "[%" PRId64 ", %" PRId64 ") is no window", start_us, end_us);
        FUZZ_CHECK(windows == NULL || ((!range.has_from || start_us >= range.from_us) &&
                                       (!range.has_to || start_us < range.to_us)),
                   "a window outside the range");
    }
    groups_destroy(windows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    const struct view *view = views[fuzz_below(&input, VIEWS)];
    struct groups *groups = new_groups(view);
    struct window_range range = {.has_from = fuzz_byte(&input) % 2 == 1,
                                 .has_to = fuzz_byte(&input) % 2 == 1};
    enum status status = STATUS_OK;
    range.from_us = (int64_t)fuzz_number(&input, 2) * 60000000;
    range.to_us = range.from_us + (int64_t)fuzz_number(&input, 2) * 60000000;
    for (int i = 0; i < ROWS_MAX && input.length > 0 && status == STATUS_OK; i++) {
        struct error error = {0};
        status = merge_row(groups, &input, &error);
        if (status != STATUS_OK) {
            FUZZ_CHECK(status == STATUS_FATAL, "refused with status %d", (int)status);
            fuzz_check_refusal(status, &error);
        }
    }
    if (status == STATUS_OK) {
        check_round_trip(groups);
        check_windows(groups, range);
    }
    groups_destroy(groups);
    return 0;
}
