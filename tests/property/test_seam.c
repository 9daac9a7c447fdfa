/* The seam, as a property: whatever happens, merged = recompute = a naive model, bit for bit.
 *
 * A history is a random sequence of steps over a log in memory: records arrive, a speed process
 * folds, flushes (the commit may fail, or succeed with its reply lost), crashes, starts again or is
 * taken over while its predecessor still tries to flush; slices begin at random; batch runs choose
 * cut-offs as the protocol says (the open slice's start, or a planned cut), recompute with random
 * splits and orders, and publish; runs are rolled back. The store is a model of PostgreSQL's
 * tables: rows of states as the bytes that would be stored. After every step a reader's answer is
 * compared with one fold over the records below its receipt, and with the model's own arithmetic.
 *
 * Records have ids, some of them that of a record shortly before: those count as duplicates,
 * however the log is cut. A speed process that claims a partition learns the ids below P first; a
 * recompute goes over random stretches, each behind the ids below it.
 *
 * All of it goes for every kind of window: hopping windows and sessions are made of the merged
 * panes, also of those alone that a range of time asks for, and compared with what the records,
 * sorted by time, give without any panes.
 *
 * The engine's real code folds, encodes, decodes, merges and combines. DOVETAIL_SEED repeats a
 * history. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/groups.h"
#include "core/records/recent_ids.h"

enum {
    PARTITIONS = 3,
    LOG_MAX = 400,
    ROWS_MAX = 200000,
    RUNS_MAX = 64,
    HISTORIES = 300,
    STEPS = 120,
    KEYS = 5, /* the last one is NULL */
    HOURS = 6,
    WITHIN = 25, /* offsets in which ids are compared */
};

/* --- random numbers: splitmix64 (Steele, Lea, Flood, 2014) --- */

static uint64_t random_state;

static uint64_t next_random(void)
{
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static size_t below(size_t bound)
{
    return (size_t)(next_random() % bound);
}

static bool chance(unsigned percent)
{
    return below(100) < percent;
}

/* --- the log, and what the naive model knows of each record --- */

struct record {
    int64_t offset;
    bool valid;
    bool present;  /* false: a hole, as transactions and compaction leave */
    int hour, key; /* key KEYS - 1 is NULL */
    int64_t time_s;
    bool has_amount;
    long long amount; /* integer field, nullable */
    long long id;     /* -1: NULL */
    long long cents;  /* decimal field, in hundredths */
    char name[12];
    char json[256];
};

struct partition {
    struct record log[LOG_MAX];
    int64_t end;
    /* stored, as in the tables position and planned_cut */
    int64_t position, slice_start, epoch;
    int64_t planned[RUNS_MAX];
    size_t planned_count;
    bool cut_requested;
};

/* A stored row of states. Speed rows have partition and slice; batch rows a range of runs. */
struct row {
    int partition;
    int64_t slice_start;
    int64_t run_from, run_to;
    uint64_t group; /* hash of its key columns, to find it again */
    size_t length;
    char *bytes;
};

struct run {
    int64_t cutoffs[PARTITIONS];
};

struct store {
    struct partition partitions[PARTITIONS];
    struct row speed[ROWS_MAX];
    size_t speed_count;
    struct row batch[ROWS_MAX];
    size_t batch_count;
    struct run runs[RUNS_MAX];
    size_t run_count;
    size_t current_run;
};

/* A speed process: what is in its memory for each partition. */
struct speed {
    bool owns[PARTITIONS];
    int64_t epoch[PARTITIONS];
    int64_t committed[PARTITIONS]; /* P as it last knew it */
    int64_t folded[PARTITIONS];    /* next offset to fold */
    int64_t slice[PARTITIONS];
    struct groups *open[PARTITIONS];
    struct recent_ids *ids[PARTITIONS];
    /* closed slices that wait for the next flush */
    struct row waiting[ROWS_MAX];
    size_t waiting_count;
};

static struct source *source;
static struct view *view; /* the one of the history that is running */
static struct event_parser *parser;
static struct store store;
static struct speed speeds[2];
static struct error error;
static unsigned char secret[RECENT_IDS_SECRET_BYTES];
static char seed_text[24]; /* of the history that is running: told at the end, whatever happens */

static void must(enum status status)
{
    if (status != STATUS_OK) {
        fail_msg("%s", error.text);
    }
}

static const char source_json[] =
    "{\"source\":\"s\",\"topic\":\"t\",\"event_time\":{\"field\":\"time\",\"format\":\"epoch_s\"},"
    "\"fields\":{\"time\":\"timestamp\",\"key\":{\"type\":\"string\",\"nullable\":true},"
    "\"amount\":{\"type\":\"integer\",\"nullable\":true},\"price\":\"decimal\",\"name\":\"string\","
    "\"id\":{\"type\":\"integer\",\"nullable\":true}},\"dedupe\":{\"field\":\"id\",\"within\":25}}";
static const char *const windows_json[] = {
    "{\"type\":\"tumbling\",\"size\":\"1h\"}",
    "{\"type\":\"hopping\",\"size\":\"1h\",\"slide\":\"20m\"}",
    "{\"type\":\"hopping\",\"size\":\"50m\",\"slide\":\"15m\"}",
    "{\"type\":\"session\",\"gap\":\"5m\"}",
    "{\"type\":\"session\",\"gap\":\"40s\"}",
};
enum { KINDS = 5, TUMBLING = 0 };
static struct view *views[KINDS];
static const char view_json[] =
    "{\"view\":\"v\",\"source\":\"s\",\"where\":\"price <> 0\",\"group_by\":[\"key\"],"
    "\"measures\":{"
    "\"n\":\"count(*)\",\"some\":\"count(amount)\",\"big\":\"count(*) FILTER (WHERE amount > 10)\","
    "\"total\":\"sum(amount)\",\"turnover\":\"sum(price)\",\"mean\":\"avg(price)\","
    "\"least\":\"min(price)\",\"most\":\"max(amount)\",\"last_name\":\"max(name)\"}}";

static int set_up(void **state)
{
    (void)state;
    json_t *json = json_loads(source_json, 0, NULL);
    must(source_create(json, "source", &source, &error));
    json_decref(json);
    for (int i = 0; i < KINDS; i++) {
        json = json_loads(view_json, 0, NULL);
        json_object_set_new(json, "window", json_loads(windows_json[i], 0, NULL));
        must(view_create(json, "view", source, &views[i], &error));
        json_decref(json);
    }
    must(event_parser_create(source, &parser, &error));
    memset(secret, 0x5A, sizeof secret);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    event_parser_destroy(parser);
    for (int i = 0; i < KINDS; i++) {
        view_destroy(views[i]);
    }
    source_destroy(source);
    print_message("last history: DOVETAIL_SEED=%s\n", seed_text);
    return 0;
}

static void append_record(struct partition *partition)
{
    struct record *r = &partition->log[partition->end];
    static const char *const names[] = {"a", "b", "longer", "\xC3\xA9", ""};
    char key[16] = "null", amount[24] = "null", id[24] = "null", json[256];

    *r = (struct record){.offset = partition->end++, .present = !chance(5)};
    r->hour = (int)below(HOURS) - 2; /* before the epoch, too */
    r->key = (int)below(KEYS);
    /* whole minutes often, so that gaps are exactly as long as sessions allow, or a second less */
    r->time_s = r->hour * 3600LL + (int64_t)(chance(50) ? below(60) * 60 : below(3600));
    r->has_amount = chance(80);
    r->amount = (long long)below(40) - 20;
    r->cents = chance(10) ? 0 : (long long)below(100000) - 50000;
    snprintf(r->name, sizeof r->name, "%s", names[below(5)]);
    r->valid = !chance(5);
    r->id = chance(10) ? -1 : (long long)below(60);
    if (r->id >= 0) {
        snprintf(id, sizeof id, "%lld", r->id);
    }
    if (r->key != KEYS - 1) {
        snprintf(key, sizeof key, "\"k%d\"", r->key);
    }
    if (r->has_amount) {
        snprintf(amount, sizeof amount, "%lld", r->amount);
    }
    snprintf(json, sizeof json,
             "{\"time\":%lld,\"key\":%s,\"amount\":%s,\"price\":%s%lld.%02lld%s,\"name\":\"%s\","
             "\"id\":%s%s",
             (long long)r->time_s, key, amount, r->cents < 0 ? "-" : "", llabs(r->cents) / 100,
             llabs(r->cents) % 100, chance(20) ? "000" : "", r->name, id, r->valid ? "}" : ",}");
    memcpy(r->json, json, sizeof json);
}

/* `groups` NULL: only the id is of use. */
static void fold(struct groups *groups, struct recent_ids *ids, const struct record *record,
                 int partition)
{
    struct event event;
    enum fold_outcome outcome;
    bool duplicate;
    size_t length = strlen(record->json);

    if (!record->present) {
        return;
    }
    enum status status = event_parser_parse(parser, record->json, length, length, &event, &error);
    assert_int_equal(status, record->valid ? STATUS_OK : STATUS_REJECT);
    if (status != STATUS_OK) {
        return;
    }
    must(recent_ids_add(ids, &event.fields[source->dedupe_field], record->offset, &duplicate,
                        &error));
    if (groups != NULL && !duplicate) {
        struct measure_origin origin = {event.time_us, partition, record->offset};
        must(groups_fold(groups, &event, &origin, &outcome, &error));
    }
}

/* Ids as somebody knows them who is about to fold the record at `offset`. */
static struct recent_ids *ids_below(int partition, int64_t offset)
{
    struct recent_ids *ids;

    must(recent_ids_create(WITHIN, secret, &ids, &error));
    for (int64_t i = offset < WITHIN ? 0 : offset - WITHIN; i < offset; i++) {
        fold(NULL, ids, &store.partitions[partition].log[i], partition);
    }
    return ids;
}

/* --- rows --- */

static void encode(const struct group *group, struct row *row)
{
    struct pgbinary_writer writer;

    pgbinary_writer_init(&writer);
    pgbinary_put_row(&writer, (int16_t)view_row_columns(view));
    must(group_encode_row(view, group, &writer, &error));
    row->group = group->hash;
    row->bytes = writer.data;
    row->length = writer.length;
}

static void merge_row(struct groups *into, const struct row *row)
{
    struct pgbinary_field fields[64];

    must(pgbinary_split_row((const uint8_t *)row->bytes, row->length, fields,
                            view_row_columns(view), &error));
    must(groups_merge_row(into, fields, NULL, &error));
}

static void put_speed_row(const struct row *row)
{
    for (size_t i = 0; i < store.speed_count; i++) {
        struct row *old = &store.speed[i];
        if (old->partition == row->partition && old->slice_start == row->slice_start &&
            old->group == row->group) {
            free(old->bytes);
            old->bytes = malloc(row->length);
            memcpy(old->bytes, row->bytes, row->length);
            old->length = row->length;
            return;
        }
    }
    assert_true(store.speed_count < ROWS_MAX);
    struct row *added = &store.speed[store.speed_count++];
    *added = *row;
    added->bytes = malloc(row->length);
    memcpy(added->bytes, row->bytes, row->length);
}

/* --- the speed process --- */

static void forget_waiting(struct speed *speed, int partition)
{
    size_t kept = 0;
    for (size_t i = 0; i < speed->waiting_count; i++) {
        if (speed->waiting[i].partition == partition) {
            free(speed->waiting[i].bytes);
        } else {
            speed->waiting[kept++] = speed->waiting[i];
        }
    }
    speed->waiting_count = kept;
}

static void collect_changed(struct speed *speed, int partition)
{
    struct groups *groups = speed->open[partition];
    for (struct group *g = groups_changed(groups); g != NULL; g = g->next_changed) {
        struct row *row = &speed->waiting[speed->waiting_count++];
        *row = (struct row){.partition = partition, .slice_start = speed->slice[partition]};
        encode(g, row);
    }
    groups_changed_reset(groups);
}

static void begin_slice(struct speed *speed, int partition)
{
    collect_changed(speed, partition);
    groups_clear(speed->open[partition]);
    speed->slice[partition] = speed->folded[partition];
}

/* One transaction of the claim. */
static void claim(struct speed *speed, int p)
{
    struct partition *stored = &store.partitions[p];

    forget_waiting(speed, p);
    groups_clear(speed->open[p]);
    recent_ids_destroy(speed->ids[p]);
    speed->ids[p] = ids_below(p, stored->position);
    stored->epoch++;
    stored->slice_start = stored->position;
    stored->cut_requested = false;
    speed->owns[p] = true;
    speed->epoch[p] = stored->epoch;
    speed->committed[p] = speed->folded[p] = speed->slice[p] = stored->position;
}

static void fold_some(struct speed *speed, int p)
{
    struct partition *stored = &store.partitions[p];

    for (size_t n = below(30); n > 0 && speed->folded[p] < stored->end; n--) {
        /* planned cuts that were stored when the partition was claimed; later ones bump the epoch
         */
        for (size_t i = 0; i < stored->planned_count; i++) {
            if (stored->planned[i] == speed->folded[p] && speed->slice[p] < speed->folded[p]) {
                begin_slice(speed, p);
            }
        }
        fold(speed->open[p], speed->ids[p], &stored->log[speed->folded[p]], p);
        speed->folded[p]++;
    }
}

/* One transaction; `lost`: it commits, but the process does not learn of it and reads back. */
static void flush(struct speed *speed, int p, bool fails, bool lost)
{
    struct partition *stored = &store.partitions[p];

    collect_changed(speed, p);
    if (stored->epoch != speed->epoch[p] || stored->position != speed->committed[p]) {
        forget_waiting(speed, p); /* fenced: claim again, or leave it to the other */
        speed->owns[p] = false;
        return;
    }
    if (fails) {
        return; /* rolled back; the same rows again next time */
    }
    for (size_t i = 0; i < speed->waiting_count; i++) {
        if (speed->waiting[i].partition == p) {
            put_speed_row(&speed->waiting[i]);
        }
    }
    stored->position = speed->folded[p];
    stored->slice_start = speed->slice[p];
    bool requested = stored->cut_requested;
    if (speed->slice[p] == speed->folded[p]) {
        stored->cut_requested = requested = false;
    }
    (void)lost; /* reading next_offset back gives the same as the reply would have */
    forget_waiting(speed, p);
    speed->committed[p] = speed->folded[p];
    if (requested) {
        begin_slice(speed, p);
    }
}

/* --- the batch process --- */

static void recompute(struct groups *out, const int64_t *cutoffs)
{
    struct groups *parts[3];

    for (int i = 0; i < 3; i++) {
        must(groups_create(view, &parts[i], &error));
    }
    for (int p = 0; p < PARTITIONS; p++) {
        int64_t end = cutoffs[p];
        while (end > 0) { /* stretches from the last to the first, over random threads */
            int64_t start = end - 1 - (int64_t)below((size_t)end);
            struct recent_ids *ids = ids_below(p, start);
            for (int64_t i = start; i < end; i++) {
                fold(parts[below(3)], ids, &store.partitions[p].log[i], p);
            }
            recent_ids_destroy(ids);
            end = start;
        }
    }
    for (int i = 0; i < 3; i++) {
        must(groups_merge(out, parts[i], &error));
        groups_destroy(parts[i]);
    }
}

static void publish(const int64_t *cutoffs)
{
    const int64_t open = INT64_MAX;
    struct groups *groups;
    struct groups_cursor cursor = {0};
    struct group *group;
    int64_t run = (int64_t)store.run_count;

    must(groups_create(view, &groups, &error));
    recompute(groups, cutoffs);
    for (size_t i = 0; i < store.batch_count; i++) { /* close every open row ... */
        if (store.batch[i].run_to == open) {
            store.batch[i].run_to = run;
        }
    }
    while ((group = groups_next(groups, &cursor)) != NULL) {
        struct row row = {.run_from = run, .run_to = open};
        bool unchanged = false;
        encode(group, &row);
        for (size_t i = 0; i < store.batch_count && !unchanged;
             i++) { /* ... but not the equal ones */
            struct row *old = &store.batch[i];
            if (old->run_to == run && old->length == row.length &&
                memcmp(old->bytes, row.bytes, row.length) == 0) {
                old->run_to = open;
                unchanged = true;
            }
        }
        if (unchanged) {
            free(row.bytes);
        } else {
            store.batch[store.batch_count++] = row;
        }
    }
    memcpy(store.runs[store.run_count].cutoffs, cutoffs, sizeof store.runs[0].cutoffs);
    store.current_run = store.run_count++;
    groups_destroy(groups);
}

/* Chooses C for each partition: the open slice's start where the owner answers, else planned. */
static void run_batch(void)
{
    int64_t cutoffs[PARTITIONS];

    if (store.run_count == RUNS_MAX) {
        return;
    }
    for (int p = 0; p < PARTITIONS; p++) {
        struct partition *stored = &store.partitions[p];
        bool answers = chance(60);
        if (answers) {
            cutoffs[p] = stored->slice_start;
        } else if (stored->end > stored->position && chance(70)) {
            cutoffs[p] =
                stored->position + 1 + (int64_t)below((size_t)(stored->end - stored->position));
            stored->planned[stored->planned_count++] = cutoffs[p];
            stored->epoch++;
        } else {
            stored->slice_start = stored->position;
            stored->epoch++;
            cutoffs[p] = stored->position;
        }
        stored->cut_requested = chance(50);
    }
    publish(cutoffs);
}

/* --- the reader and its two judges --- */

struct tally {
    bool present;
    long long n, some, big, total, turnover, least, most;
    char last_name[12];
};

static bool is_duplicate(const struct record *log, int64_t offset)
{
    const struct record *r = &log[offset];

    for (int64_t i = offset - 1; r->id >= 0 && i >= 0 && i >= offset - WITHIN; i--) {
        if (log[i].present && log[i].valid && log[i].id == r->id) {
            return true;
        }
    }
    return false;
}

static void tally_record(struct tally tallies[HOURS][KEYS], const struct record *log,
                         int64_t offset)
{
    const struct record *r = &log[offset];

    if (!r->present || !r->valid || r->cents == 0 || is_duplicate(log, offset)) {
        return;
    }
    struct tally *t = &tallies[r->hour + 2][r->key];
    if (!t->present || r->cents < t->least) {
        t->least = r->cents;
    }
    if (!t->present || strcmp(r->name, t->last_name) > 0) {
        memcpy(t->last_name, r->name, sizeof t->last_name);
    }
    if (r->has_amount) {
        t->most = t->some == 0 || r->amount > t->most ? r->amount : t->most;
        t->some++;
        t->big += r->amount > 10;
        t->total += r->amount;
    }
    t->present = true;
    t->n++;
    t->turnover += r->cents;
}

static void check_result(const struct group *group, size_t measure, bool is_null,
                         struct decimal want)
{
    struct arena arena;
    struct value value;
    const char *wide;
    const struct measure *m = view->measures[measure].measure;

    arena_init(&arena);
    must(m->kind->finish(m, group_state(group) + view->state_offsets[measure], &arena, &value,
                         &wide, &error));
    assert_null(wide);
    assert_int_equal(value.is_null, is_null);
    if (!is_null) {
        struct decimal got =
            value.type == VALUE_INTEGER ? decimal_from_int64(value.integer) : value.decimal;
        assert_int_equal(decimal_compare(&got, &want), 0);
    }
    arena_deinit(&arena);
}

static struct decimal cents(long long value)
{
    return (struct decimal){.coefficient = value, .scale = 2};
}

static void check_against_tallies(const struct groups *merged, const int64_t *positions)
{
    static struct tally tallies[HOURS][KEYS];
    size_t expected = 0;
    struct groups_cursor cursor = {0};
    struct group *group;

    memset(tallies, 0, sizeof tallies);
    for (int p = 0; p < PARTITIONS; p++) {
        for (int64_t i = 0; i < positions[p]; i++) {
            tally_record(tallies, store.partitions[p].log, i);
        }
    }
    for (int i = 0; i < HOURS * KEYS; i++) {
        expected += tallies[i / KEYS][i % KEYS].present;
    }
    assert_int_equal(groups_count(merged), expected);
    while ((group = groups_next(merged, &cursor)) != NULL) {
        struct value key, name;
        struct decimal mean, n, turnover;
        const char *wide;
        group_keys(view, group, &key);
        int hour = (int)(group->window_start_us / 3600000000);
        int k = key.is_null ? KEYS - 1 : key.string.data[1] - '0';
        const struct tally *t = &tallies[hour + 2][k];
        assert_true(t->present);
        check_result(group, 0, false, decimal_from_int64(t->n));
        check_result(group, 1, false, decimal_from_int64(t->some));
        check_result(group, 2, false, decimal_from_int64(t->big));
        check_result(group, 3, t->some == 0, decimal_from_int64(t->total));
        check_result(group, 4, false, cents(t->turnover));
        n = decimal_from_int64(t->n);
        turnover = cents(t->turnover);
        turnover.scale = 2;
        /* PostgreSQL's digits depend on the largest scale met: compare the mean times n */
        const struct measure *m = view->measures[5].measure;
        must(m->kind->finish(m, group_state(group) + view->state_offsets[5], NULL, &key, &wide,
                             &error));
        mean = key.decimal;
        assert_int_equal(decimal_multiply(&mean, &n, &mean), DECIMAL_OK);
        assert_int_equal(decimal_subtract(&mean, &turnover, &mean), DECIMAL_OK);
        struct decimal tolerance = {.coefficient = 1, .scale = 10};
        mean.coefficient = mean.coefficient < 0 ? -mean.coefficient : mean.coefficient;
        assert_true(decimal_compare(&mean, &tolerance) < 0);
        check_result(group, 6, false, cents(t->least));
        check_result(group, 7, t->some == 0, decimal_from_int64(t->most));
        m = view->measures[8].measure;
        must(m->kind->finish(m, group_state(group) + view->state_offsets[8], NULL, &name, &wide,
                             &error));
        assert_int_equal(name.string.length, strlen(t->last_name));
        assert_memory_equal(name.string.data, t->last_name, name.string.length);
    }
}

static void check_same_bytes(const struct groups *merged, const struct groups *recomputed)
{
    struct group **a, **b;

    must(groups_sorted(merged, &a, &error));
    must(groups_sorted(recomputed, &b, &error));
    assert_int_equal(groups_count(merged), groups_count(recomputed));
    for (size_t i = 0; i < groups_count(merged); i++) {
        struct row x, y;
        encode(a[i], &x);
        encode(b[i], &y);
        assert_int_equal(x.length, y.length);
        assert_memory_equal(x.bytes, y.bytes, x.length);
        free(x.bytes);
        free(y.bytes);
    }
    free(a);
    free(b);
}

/* --- windows that are made of panes --- */

struct naive_window {
    int64_t start_us, end_us;
    int key;
    long long n, turnover;
};

enum { NAIVE_MAX = PARTITIONS * LOG_MAX * 4 };

static int compare_records(const void *left, const void *right)
{
    const struct record *a = *(const struct record *const *)left;
    const struct record *b = *(const struct record *const *)right;
    if (a->key != b->key) {
        return a->key - b->key;
    }
    return (a->time_s > b->time_s) - (a->time_s < b->time_s);
}

static struct naive_window *find_naive(struct naive_window *windows, size_t *count,
                                       int64_t start_us, int key)
{
    for (size_t i = *count; i-- > 0;) {
        if (windows[i].start_us == start_us && windows[i].key == key) {
            return &windows[i];
        }
    }
    assert_true(*count < NAIVE_MAX);
    windows[*count] = (struct naive_window){.start_us = start_us, .key = key};
    return &windows[(*count)++];
}

/* From the records below `positions` alone, sorted by key and time. */
static size_t naive_windows(const int64_t *positions, struct naive_window *windows)
{
    static const struct record *records[PARTITIONS * LOG_MAX];
    bool is_session = view->window.kind->type == WINDOW_SESSION;
    int64_t size_us = view->window.size_us, slide_us = view->window.slide_us;
    struct naive_window *session = NULL;
    size_t record_count = 0, count = 0;

    for (int p = 0; p < PARTITIONS; p++) {
        for (int64_t i = 0; i < positions[p]; i++) {
            const struct record *r = &store.partitions[p].log[i];
            if (r->present && r->valid && r->cents != 0 &&
                !is_duplicate(store.partitions[p].log, i)) {
                records[record_count++] = r;
            }
        }
    }
    qsort(records, record_count, sizeof *records, compare_records);
    for (size_t i = 0; i < record_count; i++) {
        const struct record *r = records[i];
        int64_t time_us = r->time_s * 1000000;
        if (is_session) {
            if (session == NULL || session->key != r->key || time_us >= session->end_us) {
                session = find_naive(windows, &count, time_us, r->key);
            }
            session->end_us = time_us + size_us;
            session->n++;
            session->turnover += r->cents;
            continue;
        }
        for (int64_t k = -1000; k <= 1000; k++) {
            int64_t start_us = k * slide_us;
            if (start_us <= time_us && time_us < start_us + size_us) {
                struct naive_window *window = find_naive(windows, &count, start_us, r->key);
                window->end_us = start_us + size_us;
                window->n++;
                window->turnover += r->cents;
            }
        }
    }
    return count;
}

static struct groups *combine(const struct groups *panes, const struct window_range *range)
{
    struct groups *windows;
    must(groups_create(view, &windows, &error));
    must(view->window.kind->combine(view, range, panes, SIZE_MAX, windows, &error));
    return windows;
}

/* The windows of a range, from the panes alone that it needs. */
static struct groups *combine_range(const struct groups *panes, const struct window_range *range)
{
    struct window_range needed = *range;
    struct groups *chosen, *windows;
    struct row row;
    struct groups_cursor cursor = {0};
    struct group *group;

    view->window.kind->widen(&view->window, &needed);
    must(groups_create(view, &chosen, &error));
    while ((group = groups_next(panes, &cursor)) != NULL) {
        if ((!needed.has_from || group->window_start_us >= needed.from_us) &&
            (!needed.has_to || group->window_start_us < needed.to_us)) {
            encode(group, &row);
            merge_row(chosen, &row);
            free(row.bytes);
        }
    }
    windows = combine(chosen, range);
    groups_destroy(chosen);
    return windows;
}

static void check_windows(const struct groups *merged, const struct groups *recomputed,
                          const int64_t *positions)
{
    static struct naive_window naive[NAIVE_MAX];
    struct window_range all = {0}, range = {.has_from = chance(80), .has_to = chance(80)};
    struct groups *windows = combine(merged, &all), *others = combine(recomputed, &all);
    size_t count = naive_windows(positions, naive), in_range = 0;

    check_same_bytes(windows, others);
    groups_destroy(others);
    range.from_us = ((int64_t)below(HOURS * 60) - 120) * 60000000;
    range.to_us = range.from_us + (int64_t)below(180) * 60000000;
    others = combine_range(merged, &range);
    assert_int_equal(groups_count(windows), count);
    for (size_t i = 0; i < count; i++) {
        struct value key = value_null(VALUE_STRING);
        char name[3] = {'k', (char)('0' + naive[i].key), '\0'};
        unsigned char bytes[64];
        int64_t start_us, end_us;
        if (naive[i].key != KEYS - 1) {
            key = value_string(name, 2);
        }
        size_t length = value_key_encode(&key, bytes);
        struct group *group = groups_find(windows, naive[i].start_us, bytes, length);
        assert_non_null(group);
        view->window.kind->bounds(view, group, &start_us, &end_us);
        assert_int_equal(start_us, naive[i].start_us);
        assert_int_equal(end_us, naive[i].end_us);
        check_result(group, 0, false, decimal_from_int64(naive[i].n));
        check_result(group, 4, false, cents(naive[i].turnover));
        if ((range.has_from && start_us < range.from_us) ||
            (range.has_to && start_us >= range.to_us)) {
            assert_null(groups_find(others, start_us, bytes, length));
            continue;
        }
        struct group *other = groups_find(others, start_us, bytes, length);
        struct row x, y;
        in_range++;
        assert_non_null(other);
        encode(group, &x);
        encode(other, &y);
        assert_int_equal(x.length, y.length);
        assert_memory_equal(x.bytes, y.bytes, x.length);
        free(x.bytes);
        free(y.bytes);
    }
    assert_int_equal(groups_count(others), in_range);
    groups_destroy(windows);
    groups_destroy(others);
}

/* One snapshot: run, C, P, batch rows, speed rows. */
static void read_and_check(void)
{
    const struct run *run = &store.runs[store.current_run];
    int64_t id = (int64_t)store.current_run, positions[PARTITIONS];
    struct groups *merged, *recomputed;

    must(groups_create(view, &merged, &error));
    must(groups_create(view, &recomputed, &error));
    for (size_t i = 0; i < store.batch_count; i++) {
        if (store.batch[i].run_from <= id && id < store.batch[i].run_to) {
            merge_row(merged, &store.batch[i]);
        }
    }
    for (size_t i = 0; i < store.speed_count; i++) {
        if (store.speed[i].slice_start >= run->cutoffs[store.speed[i].partition]) {
            merge_row(merged, &store.speed[i]);
        }
    }
    for (int p = 0; p < PARTITIONS; p++) {
        int64_t position = store.partitions[p].position;
        positions[p] = position > run->cutoffs[p] ? position : run->cutoffs[p];
        struct recent_ids *ids = ids_below(p, 0);
        for (int64_t i = 0; i < positions[p]; i++) {
            fold(recomputed, ids, &store.partitions[p].log[i], p);
        }
        recent_ids_destroy(ids);
    }
    check_same_bytes(merged, recomputed);
    if (view == views[TUMBLING]) {
        check_against_tallies(merged, positions);
    } else {
        check_windows(merged, recomputed, positions);
    }
    groups_destroy(merged);
    groups_destroy(recomputed);
}

/* --- histories --- */

static void step(void)
{
    int p = (int)below(PARTITIONS);
    struct speed *speed = &speeds[below(2)];

    switch (below(10)) {
    case 0:
    case 1:
        for (size_t n = below(20); n > 0 && store.partitions[p].end < LOG_MAX; n--) {
            append_record(&store.partitions[p]);
        }
        break;
    case 2:
    case 3:
    case 4:
        if (speed->owns[p]) {
            fold_some(speed, p);
        } else if (chance(30)) {
            claim(speed, p);
        }
        break;
    case 5:
    case 6:
        if (speed->owns[p]) {
            flush(speed, p, chance(20), chance(20));
        }
        break;
    case 7:
        if (speed->owns[p]) {
            begin_slice(speed, p);
        }
        break;
    case 8: /* crash and restart, or a take-over while the other still believes to own it */
        if (chance(30)) {
            claim(speed, p);
        }
        break;
    default:
        if (chance(40)) {
            run_batch();
        } else if (chance(20)) {
            store.current_run = below(store.run_count);
        }
        break;
    }
}

static void reset(void)
{
    for (size_t i = 0; i < store.speed_count; i++) {
        free(store.speed[i].bytes);
    }
    for (size_t i = 0; i < store.batch_count; i++) {
        free(store.batch[i].bytes);
    }
    memset(&store, 0, sizeof store);
    store.run_count = 1; /* run 0: nothing */
    for (int s = 0; s < 2; s++) {
        for (int p = 0; p < PARTITIONS; p++) {
            forget_waiting(&speeds[s], p);
            speeds[s].owns[p] = false;
            if (speeds[s].open[p] == NULL) {
                must(groups_create(view, &speeds[s].open[p], &error));
            }
            groups_clear(speeds[s].open[p]);
        }
    }
}

static void run_histories(int kind, int histories)
{
    const char *fixed = getenv("DOVETAIL_SEED");
    uint64_t seed = fixed != NULL ? strtoull(fixed, NULL, 10) : (uint64_t)time(NULL) * 1000003u;

    view = views[kind];
    for (int history = 0; history < (fixed != NULL ? 1 : histories); history++, seed++) {
        random_state = seed;
        snprintf(seed_text, sizeof seed_text, "%" PRIu64, seed);
        reset();
        for (int i = 0; i < STEPS; i++) {
            step();
            if (i % 3 == 0 || i == STEPS - 1) {
                read_and_check();
            }
        }
    }
    reset();
    for (int s = 0; s < 2; s++) {
        for (int p = 0; p < PARTITIONS; p++) {
            groups_destroy(speeds[s].open[p]);
            speeds[s].open[p] = NULL;
        }
    }
}

static void test_merged_equals_recompute(void **state)
{
    (void)state;
    run_histories(TUMBLING, HISTORIES);
}

static void test_windows_of_panes(void **state)
{
    (void)state;
    for (int kind = 1; kind < KINDS; kind++) {
        run_histories(kind, HISTORIES / 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merged_equals_recompute),
        cmocka_unit_test(test_windows_of_panes),
    };
    return cmocka_run_group_tests_name("seam", tests, set_up, tear_down);
}
