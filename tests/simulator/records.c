/* Records and states of the simulator.
 *
 * The record at an offset carries a number with one bit that is its own, so the sum of a group says
 * which records it has, and with the count whether one is there twice. Definition, parser, fold,
 * merge and encoding are the real ones of core/; row_read decodes what they wrote by itself, so
 * that the checks share nothing with them. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/simulator/simulator.h"

static const char source_text[] =
    "{\"source\":\"s\",\"topic\":\"t\",\"event_time\":{\"field\":\"time\",\"format\":\"epoch_s\"},"
    "\"fields\":{\"time\":\"timestamp\",\"key\":\"string\",\"bit\":\"decimal\","
    "\"id\":{\"type\":\"integer\",\"nullable\":true}},\"dedupe\":{\"field\":\"id\",\"within\":5}}";
static const char view_text[] =
    "{\"view\":\"v\",\"source\":\"s\",\"where\":\"key <> 'z'\",\"group_by\":[\"key\"],"
    "\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"},"
    "\"measures\":{\"n\":\"count(*)\",\"bits\":\"sum(bit)\"}}";

struct feeds *sim_feeds;
static struct groups *table; /* of records_fold and rows_merge */
static struct pgbinary_writer writer;
static char bit_texts[128][44];

static void must(enum status status, const struct error *error)
{
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "simulator: %s\n", error->text);
    abort();
}

static struct source *make_source(void)
{
    struct error error;
    struct source *source = NULL;
    json_t *json = json_loads(source_text, 0, NULL);
    must(source_create(json, "simulator", &source, &error), &error);
    json_decref(json);
    return source;
}

void records_set_up(void)
{
    struct error error;
    struct catalog *catalog = calloc(1, sizeof *catalog);
    catalog->sources = calloc(1, sizeof *catalog->sources);
    catalog->versions = calloc(1, sizeof *catalog->versions);
    catalog->sources[catalog->source_count++] = make_source();
    struct catalog_version *version = &catalog->versions[0];
    version->source = make_source();
    version->version = (int)++catalog->version_count;
    json_t *json = json_loads(view_text, 0, NULL);
    must(view_create(json, "simulator", version->source, &version->view, &error), &error);
    json_decref(json);
    must(feeds_create(catalog, &sim_feeds, &error), &error);
    must(groups_create(version->view, &table, &error), &error);
    pgbinary_writer_init(&writer);
    for (int i = 0; i < 128; i++) {
        char digits[44];
        char *at = digits + sizeof digits - 1;
        *at = '\0';
        for (bits_t number = (bits_t)1 << i; number > 0; number /= 10)
            *--at = (char)('0' + (int)(number % 10));
        snprintf(bit_texts[i], sizeof bit_texts[i], "%s", at);
    }
}

void records_tear_down(void)
{
    groups_destroy(table);
    pgbinary_writer_deinit(&writer);
    feeds_destroy(sim_feeds);
}

/* What becomes of it is decided here, once, and depends on the log alone. */
void records_make(struct world *world, int partition, struct sim_record *out)
{
    int64_t offset = world->end[partition];
    int kind = pick(world, 12);
    *out = (struct sim_record){.id = -1};
    if (kind == 0)
        return; /* a hole */
    out->present = true;
    int window = pick(world, WINDOWS);
    int key = pick(world, KEYS);
    out->group = window * KEYS + key;
    out->dead = kind == 1;
    out->filtered = kind == 2;
    char id[24] = "null";
    if (!out->dead && chance(world, 500)) {
        out->id = pick(world, 8);
        snprintf(id, sizeof id, "%d", (int)out->id);
    }
    for (int64_t o = offset - 1; out->id >= 0 && o >= 0 && o >= offset - DEDUPE_WITHIN; o--)
        if (world->log[partition][o].id == out->id)
            out->duplicate = true;
    if (out->dead && chance(world, 500)) {
        out->length = 0; /* without a value */
        return;
    }
    int length =
        snprintf(out->text, sizeof out->text, "{\"time\":%d,\"key\":\"%c\",\"bit\":%s,\"id\":%s%s",
                 window * 3600 + pick(world, 3600), out->filtered ? 'z' : 'a' + key,
                 bit_texts[partition * LOG_MAX + (int)offset], id, out->dead ? "" : "}");
    out->length = (size_t)length;
}

/* --- stored rows --- */

static int64_t read_integer(const unsigned char *data, size_t length)
{
    uint64_t number = length > 0 && data[0] >= 0x80 ? UINT64_MAX : 0;
    for (size_t i = 0; i < length; i++)
        number = number << 8 | data[i];
    return (int64_t)number;
}

/* A field's content; *length is -1 for NULL. */
static const unsigned char *next_field(const unsigned char **at, int64_t *length)
{
    *length = read_integer(*at, 4);
    const unsigned char *data = *at + 4;
    *at = data + (*length > 0 ? *length : 0);
    return data;
}

/* PostgreSQL's numeric: count, weight, sign, scale, digits to the base of 10,000. */
static bits_t read_numeric(const unsigned char *data)
{
    int64_t count = read_integer(data, 2);
    int64_t weight = read_integer(data + 2, 2);
    bits_t number = 0;
    for (int64_t i = 0; i <= weight; i++)
        number = number * 10000 + (unsigned)(i < count ? read_integer(data + 8 + 2 * i, 2) : 0);
    return number;
}

size_t row_read(const unsigned char *data, bool update, struct row *out)
{
    const unsigned char *at = data + 2;
    int64_t length;
    const unsigned char *field = next_field(&at, &length);
    *out = (struct row){.partition = (int)read_integer(field, 4), .died = INT64_MAX};
    out->slice_start = read_integer(next_field(&at, &length), 8);
    field = next_field(&at, &length);
    out->address = length < 0 ? 0 : read_integer(field, 8);
    const unsigned char *content = at;
    if (!update) {
        field = next_field(&at, &length);
        int64_t window_us = read_integer(field, 8) + INT64_C(946684800000000);
        field = next_field(&at, &length);
        out->group = (int)(window_us / INT64_C(3600000000)) * KEYS + (field[0] - 'a');
    }
    out->count = read_integer(next_field(&at, &length), 8);
    out->bits = read_numeric(next_field(&at, &length));
    out->length = (size_t)(at - content);
    assert(out->length <= ROW_BYTES);
    memcpy(out->bytes, content, out->length);
    return (size_t)(at - data);
}

/* UPDATE ... SET the states: window and key stay. */
void row_join(struct row *stored, const struct row *states)
{
    const unsigned char *at = stored->bytes;
    int64_t length;
    next_field(&at, &length);
    next_field(&at, &length);
    size_t kept = (size_t)(at - stored->bytes);
    assert(kept + states->length <= ROW_BYTES);
    memcpy(stored->bytes + kept, states->bytes, states->length);
    stored->length = kept + states->length;
    stored->count = states->count;
    stored->bits = states->bits;
}

/* --- folding and merging: core/groups.c --- */

static int table_rows(struct row *out)
{
    struct error error;
    struct group **sorted = NULL;
    int count = (int)groups_count(table);
    must(groups_sorted(table, &sorted, &error), &error);
    for (int i = 0; i < count; i++) {
        pgbinary_writer_clear(&writer);
        pgbinary_put_row(&writer, 3);
        pgbinary_put_int4(&writer, 0);
        pgbinary_put_int8(&writer, 0);
        pgbinary_put_null(&writer);
        must(group_encode_row(groups_view(table), sorted[i], &writer, &error), &error);
        row_read((const unsigned char *)writer.data, false, &out[i]);
    }
    free(sorted);
    groups_clear(table);
    return count;
}

int records_fold(const struct world *world, const int64_t *starts, const int64_t *ends,
                 struct row *out)
{
    struct error error;
    struct feed_parser *parser = &sim_feeds->feeds[0].parsers[0];
    for (int p = 0; p < world->partitions; p++) {
        for (int64_t o = starts[p]; o < ends[p]; o++) {
            const struct sim_record *record = &world->log[p][o];
            enum fold_outcome outcome;
            struct event event;
            const struct measure_origin origin = {.partition = p, .offset = o};
            if (!record->present || record->dead || record->duplicate)
                continue;
            must(event_parser_parse(parser->parser, record->text, record->length,
                                    sizeof record->text, &event, &error),
                 &error);
            must(groups_fold(table, &event, &origin, &outcome, &error), &error);
        }
    }
    return table_rows(out);
}

int rows_merge(const struct row *const *rows, int count, struct row *out)
{
    struct error error;
    for (int i = 0; i < count; i++) {
        struct pgbinary_field fields[4];
        const unsigned char *at = rows[i]->bytes;
        for (int f = 0; f < 4; f++) {
            int64_t length;
            fields[f].data = next_field(&at, &length);
            fields[f].length = (size_t)length;
        }
        must(groups_merge_row(table, fields, NULL, &error), &error);
    }
    return table_rows(out);
}

bool rows_equal(const struct row *left, int left_count, const struct row *right, int right_count)
{
    bool equal = left_count == right_count;
    for (int i = 0; equal && i < left_count; i++)
        equal = left[i].length == right[i].length &&
                memcmp(left[i].bytes, right[i].bytes, left[i].length) == 0;
    return equal;
}
