/* Records and answers of the naive model: see oracle.h. */
#include "tests/support/oracle_internal.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/http.h"

enum { CACHES = 16 };

struct partition {
    struct oracle_record *records; /* by offset */
    bool *known;
    int64_t end, capacity;
};

/* Answers come in the order of their positions, so the fold of the last one goes on. */
struct cache {
    const struct oracle_view *view;
    enum oracle_layer layer;
    int64_t positions[ORACLE_PARTITIONS];
    struct oracle_groups groups;
};

struct oracle {
    pthread_mutex_t lock; /* guards all below */
    char topic[256];
    int partition_count, partitions_at_least;
    int64_t dedupe_within; /* 0: there are no duplicates */
    struct partition partitions[ORACLE_PARTITIONS];
    struct cache caches[CACHES];
    int64_t count;
    void (*release)(void *event);
};

/* --- texts --- */

void oracle_put_bytes(struct oracle_text *text, const char *data, size_t length)
{
    if (text->capacity - text->length <= length) {
        text->capacity = 2 * text->capacity + length + 256;
        text->data = realloc(text->data, text->capacity);
        if (text->data == NULL)
            abort();
    }
    memcpy(text->data + text->length, data, length);
    text->length += length;
    text->data[text->length] = '\0';
}

void oracle_put(struct oracle_text *text, const char *more)
{
    oracle_put_bytes(text, more, strlen(more));
}

static void put_format(struct oracle_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void put_format(struct oracle_text *text, const char *format, ...)
{
    char buffer[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    oracle_put(text, buffer);
}

/* --- records --- */

struct oracle *oracle_create(const char *topic, int partitions, void (*release)(void *event))
{
    struct oracle *oracle = calloc(1, sizeof *oracle);
    if (oracle == NULL)
        return NULL;
    pthread_mutex_init(&oracle->lock, NULL);
    snprintf(oracle->topic, sizeof oracle->topic, "%s", topic);
    oracle->partition_count = oracle->partitions_at_least = partitions;
    oracle->release = release;
    return oracle;
}

void oracle_destroy(struct oracle *oracle)
{
    if (oracle == NULL)
        return;
    for (int p = 0; p < oracle->partition_count; p++) {
        struct partition *partition = &oracle->partitions[p];
        for (int64_t i = 0; oracle->release != NULL && i < partition->end; i++)
            if (partition->known[i] && partition->records[i].event != NULL)
                oracle->release((void *)partition->records[i].event);
        free(partition->records);
        free(partition->known);
    }
    for (size_t i = 0; i < CACHES; i++)
        oracle_groups_clear(&oracle->caches[i].groups);
    pthread_mutex_destroy(&oracle->lock);
    free(oracle);
}

void oracle_dedupe(struct oracle *oracle, int64_t within)
{
    oracle->dedupe_within = within;
}

void oracle_grow(struct oracle *oracle, int partitions)
{
    if (partitions > ORACLE_PARTITIONS)
        abort();
    pthread_mutex_lock(&oracle->lock);
    oracle->partition_count = partitions;
    pthread_mutex_unlock(&oracle->lock);
}

int oracle_partitions(struct oracle *oracle)
{
    pthread_mutex_lock(&oracle->lock);
    int count = oracle->partition_count;
    pthread_mutex_unlock(&oracle->lock);
    return count;
}

void oracle_add(struct oracle *oracle, int number, int64_t offset,
                const struct oracle_record *record)
{
    pthread_mutex_lock(&oracle->lock);
    struct partition *partition = &oracle->partitions[number];
    if (offset >= partition->capacity) {
        int64_t capacity = 2 * partition->capacity + offset + 1024;
        partition->records = realloc(partition->records, (size_t)capacity * sizeof *record);
        partition->known = realloc(partition->known, (size_t)capacity * sizeof(bool));
        if (partition->records == NULL || partition->known == NULL)
            abort();
        memset(partition->known + partition->capacity, 0, (size_t)(capacity - partition->capacity));
        partition->capacity = capacity;
    }
    partition->records[offset] = *record;
    partition->known[offset] = true;
    if (offset >= partition->end)
        partition->end = offset + 1;
    oracle->count++;
    pthread_mutex_unlock(&oracle->lock);
}

void oracle_ends(struct oracle *oracle, int64_t *out)
{
    pthread_mutex_lock(&oracle->lock);
    for (int p = 0; p < oracle->partition_count; p++)
        out[p] = oracle->partitions[p].end;
    pthread_mutex_unlock(&oracle->lock);
}

int64_t oracle_count(struct oracle *oracle)
{
    pthread_mutex_lock(&oracle->lock);
    int64_t count = oracle->count;
    pthread_mutex_unlock(&oracle->lock);
    return count;
}

/* A record is judged when all before it are known. One that is no event has no id. */
static bool is_duplicate(const struct oracle *oracle, struct partition *partition, int64_t offset)
{
    struct oracle_record *record = &partition->records[offset];
    if (record->judgement != ORACLE_NOT_JUDGED || record->id == 0 || oracle->dedupe_within == 0)
        return record->judgement == ORACLE_IS_DUPLICATE;
    record->judgement = ORACLE_IS_FIRST;
    for (int64_t i = offset - 1; i >= 0 && i >= offset - oracle->dedupe_within; i--)
        if (partition->known[i] && partition->records[i].id == record->id)
            record->judgement = ORACLE_IS_DUPLICATE;
    return record->judgement == ORACLE_IS_DUPLICATE;
}

struct oracle_ledger oracle_ledger(struct oracle *oracle, int number, int64_t position)
{
    struct oracle_ledger ledger = {.last_offset = -1};
    pthread_mutex_lock(&oracle->lock);
    struct partition *partition = &oracle->partitions[number];
    for (int64_t i = 0; i < partition->end && i < position; i++) {
        if (!partition->known[i])
            continue;
        ledger.consumed++;
        ledger.last_offset = i;
        if (is_duplicate(oracle, partition, i)) {
            ledger.duplicate++;
            continue;
        }
        ledger.counted += partition->records[i].outcome == ORACLE_IS_COUNTED;
        ledger.filtered += partition->records[i].outcome == ORACLE_IS_FILTERED;
        ledger.dead_lettered += partition->records[i].outcome == ORACLE_IS_DEAD;
    }
    pthread_mutex_unlock(&oracle->lock);
    return ledger;
}

static void describe_ledger(int64_t next_offset, const struct oracle_ledger *ledger, char *out,
                            size_t size)
{
    snprintf(out, size,
             "below %" PRId64 ": consumed %" PRId64 ", counted %" PRId64 ", filtered %" PRId64
             ", duplicate %" PRId64 ", dead %" PRId64 "; the last one is %" PRId64,
             next_offset, ledger->consumed, ledger->counted, ledger->filtered, ledger->duplicate,
             ledger->dead_lettered, ledger->last_offset);
}

bool oracle_check_positions(struct oracle *oracle, const struct oracle_positions *positions,
                            char *problem, size_t problem_size)
{
    int most = oracle_partitions(oracle);
    if (positions->partitions < oracle->partitions_at_least || positions->partitions > most) {
        snprintf(problem, problem_size, "%d partitions have a position, not %d",
                 positions->partitions, most);
        return false;
    }
    for (int p = 0; p < positions->partitions; p++) {
        char expected[300], got[300];
        struct oracle_ledger ledger = oracle_ledger(oracle, p, positions->next_offset[p]);
        describe_ledger(positions->next_offset[p], &ledger, expected, sizeof expected);
        describe_ledger(positions->next_offset[p], &positions->ledgers[p], got, sizeof got);
        if (strcmp(expected, got) != 0) {
            snprintf(problem, problem_size,
                     "ledger of partition %d\n  expected: %s\n  got:      %s", p, expected, got);
            return false;
        }
    }
    return true;
}

bool oracle_watermark(struct oracle *oracle, const int64_t *positions, int64_t *out_us)
{
    bool any = false;
    pthread_mutex_lock(&oracle->lock);
    for (int p = 0; p < oracle->partition_count; p++) {
        struct partition *partition = &oracle->partitions[p];
        bool has = false;
        int64_t greatest = 0;
        for (int64_t i = 0; i < partition->end && i < positions[p]; i++) {
            const struct oracle_record *record = &partition->records[i];
            if (partition->known[i] && record->event != NULL && !record->is_ahead &&
                !is_duplicate(oracle, partition, i) && (!has || record->time_us > greatest)) {
                greatest = record->time_us;
                has = true;
            }
        }
        if (has && (!any || greatest < *out_us)) {
            *out_us = greatest;
            any = true;
        }
    }
    pthread_mutex_unlock(&oracle->lock);
    return any;
}

/* --- rows --- */

static void fold_range(struct oracle *oracle, const struct oracle_view *view, const int64_t *from,
                       const int64_t *to, struct oracle_groups *groups)
{
    for (int p = 0; p < oracle->partition_count; p++) {
        struct partition *partition = &oracle->partitions[p];
        for (int64_t i = from[p]; i < to[p] && i < partition->end; i++)
            if (partition->known[i] && !is_duplicate(oracle, partition, i))
                oracle_fold_record(view, groups, &partition->records[i]);
    }
}

static struct cache *find_cache(struct oracle *oracle, const struct oracle_query *query,
                                const int64_t *positions)
{
    struct cache *cache = oracle->caches;
    while (cache->view != NULL && (cache->view != query->view || cache->layer != query->layer))
        if (++cache == oracle->caches + CACHES)
            abort();
    cache->view = query->view;
    cache->layer = query->layer;
    for (int p = 0; p < oracle->partition_count; p++) {
        if (cache->positions[p] > positions[p]) {
            oracle_groups_clear(&cache->groups);
            memset(cache->positions, 0, sizeof cache->positions);
        }
    }
    return cache;
}

char *oracle_rows(struct oracle *oracle, const struct oracle_query *query,
                  const struct oracle_receipt *receipt, size_t *count)
{
    char *rows;
    pthread_mutex_lock(&oracle->lock);
    if (query->layer == ORACLE_SPEED) {
        struct oracle_groups groups = {0};
        fold_range(oracle, query->view, receipt->cutoffs, receipt->positions, &groups);
        rows = oracle_render(query, receipt, &groups, count);
        oracle_groups_clear(&groups);
    } else {
        const int64_t *positions =
            query->layer == ORACLE_BATCH ? receipt->cutoffs : receipt->positions;
        struct cache *cache = find_cache(oracle, query, positions);
        fold_range(oracle, query->view, cache->positions, positions, &cache->groups);
        memcpy(cache->positions, positions, sizeof cache->positions);
        rows = oracle_render(query, receipt, &cache->groups, count);
    }
    pthread_mutex_unlock(&oracle->lock);
    return rows;
}

/* --- asking --- */

static void put_parameter(struct oracle_text *text, const char *name, const char *value)
{
    char *escaped = http_escape(value, strlen(value));
    oracle_put(text, strchr(text->data, '?') == NULL ? "?" : "&");
    oracle_put(text, name);
    oracle_put(text, "=");
    oracle_put(text, escaped);
    free(escaped);
}

static void put_time_parameter(struct oracle_text *text, const char *name, bool has, int64_t us)
{
    char buffer[48];
    if (!has)
        return;
    oracle_time_text(us, buffer, sizeof buffer);
    put_parameter(text, name, buffer);
}

static void put_filter(struct oracle_text *text, const struct oracle_query *query)
{
    const char *name = query->view->keys[query->filter_key].name;
    char buffer[80];
    if (query->filter.is_null) {
        snprintf(buffer, sizeof buffer, "%s.is", name);
        put_parameter(text, buffer, "null");
    } else if (query->filter.type == ORACLE_STRING) {
        put_parameter(text, name, query->filter_text);
    } else if (query->filter.type == ORACLE_BOOLEAN) {
        put_parameter(text, name, query->filter.number != 0 ? "true" : "false");
    } else {
        snprintf(buffer, sizeof buffer, "%" PRId64, (int64_t)query->filter.number);
        put_parameter(text, name, buffer);
    }
}

char *oracle_target(const struct oracle_query *query)
{
    static const char *const layers[] = {"merged", "batch", "speed"};
    const struct oracle_view *view = query->view;
    struct oracle_text text = {0}, names = {0};
    put_format(&text, "/v1/views/%s/rows", view->name);
    put_time_parameter(&text, "from", query->has_from, query->from_us);
    put_time_parameter(&text, "to", query->has_to, query->to_us);
    if (query->has_filter)
        put_filter(&text, query);
    oracle_put(&names, "");
    for (size_t i = 0; query->has_group_by && i < query->group_by_count; i++)
        put_format(&names, "%s%s", i > 0 ? "," : "", view->keys[query->group_by[i]].name);
    if (query->has_group_by)
        put_parameter(&text, "group_by", names.data);
    names.length = 0;
    oracle_put(&names, "");
    for (size_t i = 0; query->has_measures && i < query->measure_count; i++)
        put_format(&names, "%s%s", i > 0 ? "," : "", view->measures[query->measures[i]].name);
    if (query->has_measures)
        put_parameter(&text, "measures", names.data);
    char buffer[80];
    if (query->granularity == ORACLE_ALL) {
        put_parameter(&text, "granularity", "all");
    } else if (query->granularity != ORACLE_WINDOW) {
        int64_t minutes = query->granularity / 60000000;
        bool days = minutes % 1440 == 0;
        snprintf(buffer, sizeof buffer, "%" PRId64 "%s", days ? minutes / 1440 : minutes,
                 days ? "d" : "m");
        put_parameter(&text, "granularity", buffer);
    }
    if (query->has_order) {
        snprintf(buffer, sizeof buffer, "%s%s", query->descending ? "-" : "",
                 view->measures[query->order].name);
        put_parameter(&text, "order", buffer);
    }
    if (query->limit != 0) {
        snprintf(buffer, sizeof buffer, "%zu", query->limit);
        put_parameter(&text, "limit", buffer);
    }
    if (query->layer != ORACLE_MERGED)
        put_parameter(&text, "layer", layers[query->layer]);
    free(names.data);
    return text.data;
}

/* --- answers --- */

json_t *oracle_exact_json(const char *text)
{
    struct oracle_text exact = {0};
    bool in_string = false;
    oracle_put(&exact, "");
    while (*text != '\0') {
        if (in_string) {
            size_t length = *text == '\\' && text[1] != '\0' ? 2 : 1;
            in_string = *text != '"';
            oracle_put_bytes(&exact, text, length);
            text += length;
        } else if (*text == '-' || (*text >= '0' && *text <= '9')) {
            size_t length = strspn(text, "+-.0123456789eE");
            oracle_put(&exact, "\"#");
            oracle_put_bytes(&exact, text, length);
            oracle_put(&exact, "\"");
            text += length;
        } else {
            in_string = *text == '"';
            oracle_put_bytes(&exact, text++, 1);
        }
    }
    json_t *json =
        json_loadb(exact.data, exact.length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    free(exact.data);
    return json;
}

static bool is_number(const json_t *json)
{
    return json_is_string(json) && json_string_value(json)[0] == '#';
}

static void put_json(struct oracle_text *text, const json_t *json)
{
    if (is_number(json)) {
        oracle_put(text, json_string_value(json) + 1);
    } else if (json_is_string(json)) {
        oracle_put(text, "\"");
        oracle_put_bytes(text, json_string_value(json), json_string_length(json));
        oracle_put(text, "\"");
    } else {
        oracle_put(text, json_is_null(json)    ? "null"
                         : json_is_true(json)  ? "true"
                         : json_is_false(json) ? "false"
                                               : "?");
    }
}

/* The members come in the order of the interface: window, keys, measures, provisional. */
static void put_json_row(struct oracle_text *text, const json_t *row, size_t key_count)
{
    const char *name;
    json_t *value;
    size_t index = 0, last = json_object_size(row) - 1;
    json_object_foreach ((json_t *)row, name, value) {
        if (index < 2) {
            bool right = strcmp(name, index == 0 ? "window_start" : "window_end") == 0;
            const char *time = json_string_value(value);
            put_format(text, "%s%s ", right ? "" : "not a window: ", time != NULL ? time : "null");
        } else if (index == last) {
            bool right = strcmp(name, "provisional") == 0 && json_is_boolean(value);
            oracle_put(text, !right                ? " not provisional\n"
                             : json_is_true(value) ? " | provisional\n"
                                                   : " | final\n");
        } else {
            if (index == 2 + key_count)
                oracle_put(text, "|");
            put_format(text, "%s%s=", index >= 2 + key_count ? " " : "", name);
            put_json(text, value);
            if (index < 2 + key_count)
                oracle_put(text, " ");
        }
        index++;
    }
}

static bool read_offsets(const struct oracle *oracle, const json_t *receipt, const char *name,
                         int64_t *out)
{
    const json_t *object = json_object_get(receipt, name);
    const json_t *offsets = json_object_get(object, oracle->topic);
    size_t count = json_array_size(offsets);
    if (json_object_size(object) != 1 || count < (size_t)oracle->partitions_at_least ||
        count > (size_t)oracle->partition_count)
        return false;
    for (size_t p = 0; p < count; p++) {
        const json_t *offset = json_array_get(offsets, p);
        if (!is_number(offset))
            return false;
        out[p] = strtoll(json_string_value(offset) + 1, NULL, 10);
    }
    return true;
}

static int digits(const char **text, int count)
{
    int number = 0;
    for (; count > 0; count--)
        number = number * 10 + (*(*text)++ - '0');
    return number;
}

/* "2026-01-01T00:00:00.5Z", as the program writes it. */
static bool read_time(const char *text, int64_t *us)
{
    int fraction_digits = 0;
    if (text == NULL || strlen(text) < 20 || text[strlen(text) - 1] != 'Z')
        return false;
    int year = digits(&text, 4), month = (text++, digits(&text, 2)),
        day = (text++, digits(&text, 2)), hour = (text++, digits(&text, 2)),
        minute = (text++, digits(&text, 2)), second = (text++, digits(&text, 2));
    int64_t fraction = 0;
    if (*text == '.')
        for (text++; *text >= '0' && *text <= '9'; fraction_digits++)
            fraction = fraction * 10 + (*text++ - '0');
    for (; fraction_digits < 6; fraction_digits++)
        fraction *= 10;
    /* Days since 1970 by counting years from 1 March, so that leap days come last. */
    int64_t y = month <= 2 ? year - 1 : year, m = month <= 2 ? month + 9 : month - 3;
    int64_t days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
    *us = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000000 + fraction;
    return *text == 'Z';
}

static bool read_receipt(const struct oracle *oracle, const json_t *json,
                         struct oracle_receipt *out)
{
    const json_t *run = json_object_get(json, "run");
    const json_t *watermark = json_object_get(json, "watermark");
    const json_t *freshness = json_object_get(json, "freshness_ms");
    *out = (struct oracle_receipt){.partitions = oracle->partition_count};
    if (!is_number(run) || watermark == NULL || freshness == NULL)
        return false;
    out->run = strtoll(json_string_value(run) + 1, NULL, 10);
    out->has_watermark = !json_is_null(watermark);
    if (out->has_watermark && !read_time(json_string_value(watermark), &out->watermark_us))
        return false;
    return read_offsets(oracle, json, "cutoffs", out->cutoffs) &&
           read_offsets(oracle, json, "positions", out->positions);
}

bool oracle_read_answer(struct oracle *oracle, const struct oracle_query *query, const char *body,
                        struct oracle_answer *out, char *problem, size_t problem_size)
{
    struct oracle_text text = {0};
    json_t *row;
    size_t index;
    json_t *json = oracle_exact_json(body);
    const json_t *rows = json_object_get(json, "rows");
    const char *view = json_string_value(json_object_get(json, "view"));
    bool good = false;
    if (json == NULL)
        snprintf(problem, problem_size, "the answer is not JSON: %.200s", body);
    else if (view == NULL || strcmp(view, query->view->name) != 0 || !json_is_array(rows))
        snprintf(problem, problem_size, "no \"view\" or no \"rows\": %.200s", body);
    else if (!read_receipt(oracle, json_object_get(json, "receipt"), &out->receipt))
        snprintf(problem, problem_size, "no complete receipt: %.400s",
                 strstr(body, "\"receipt\"") != NULL ? strstr(body, "\"receipt\"") : body);
    else
        good = true;
    oracle_put(&text, "");
    size_t keys = query->has_group_by ? query->group_by_count : query->view->key_count;
    json_array_foreach (rows, index, row)
        put_json_row(&text, row, keys);
    json_decref(json);
    out->rows = text.data;
    return good;
}

/* --- comparing --- */

static size_t line_length(const char *text)
{
    return strcspn(text, "\n");
}

bool oracle_difference(const char *expected, const char *got, char *out, size_t size)
{
    for (int line = 1; *expected != '\0' || *got != '\0'; line++) {
        size_t wanted = line_length(expected), have = line_length(got);
        if (wanted != have || memcmp(expected, got, wanted) != 0) {
            snprintf(out, size, "row %d\n  expected: %.*s\n  got:      %.*s", line,
                     wanted > 900 ? 900 : (int)wanted, expected, have > 900 ? 900 : (int)have, got);
            return true;
        }
        expected += wanted + (expected[wanted] != '\0');
        got += have + (got[have] != '\0');
    }
    return false;
}

static void describe_receipt(const struct oracle_receipt *receipt, char *out, size_t size)
{
    size_t length = (size_t)snprintf(out, size, "run %" PRId64 ", C:P", receipt->run);
    for (int p = 0; p < receipt->partitions && length < size; p++)
        length += (size_t)snprintf(out + length, size - length, " %" PRId64 ":%" PRId64,
                                   receipt->cutoffs[p], receipt->positions[p]);
}

/* What a receipt must be, whatever the rows are. */
static bool check_receipt(struct oracle *oracle, const struct oracle_query *query,
                          const struct oracle_receipt *receipt, char *problem, size_t size)
{
    int64_t watermark_us = 0;
    for (int p = 0; p < receipt->partitions; p++) {
        if (receipt->cutoffs[p] > receipt->positions[p]) {
            snprintf(problem, size, "partition %d: C is beyond P", p);
            return false;
        }
        if (query->layer == ORACLE_BATCH && receipt->cutoffs[p] != receipt->positions[p]) {
            snprintf(problem, size, "partition %d: layer batch, but P is not C", p);
            return false;
        }
    }
    bool has = oracle_watermark(oracle, receipt->positions, &watermark_us);
    if (has == receipt->has_watermark && (!has || watermark_us == receipt->watermark_us))
        return true;
    char wanted[48] = "null", got[48] = "null";
    if (has)
        oracle_time_text(watermark_us, wanted, sizeof wanted);
    if (receipt->has_watermark)
        oracle_time_text(receipt->watermark_us, got, sizeof got);
    snprintf(problem, size, "watermark: expected %s, got %s", wanted, got);
    return false;
}

bool oracle_check(struct oracle *oracle, const struct oracle_query *query, const char *body,
                  char *problem, size_t problem_size)
{
    struct oracle_answer answer = {0};
    char receipt[400] = "", text[3000] = "";
    size_t count = 0;
    char *expected = NULL;
    bool good = oracle_read_answer(oracle, query, body, &answer, text, sizeof text);
    if (good)
        good = check_receipt(oracle, query, &answer.receipt, text, sizeof text);
    if (good) {
        expected = oracle_rows(oracle, query, &answer.receipt, &count);
        good = !oracle_difference(expected, answer.rows, text, sizeof text);
    }
    if (!good) {
        char *target = oracle_target(query);
        describe_receipt(&answer.receipt, receipt, sizeof receipt);
        snprintf(problem, problem_size, "%s\n%s\n%s", target, receipt, text);
        free(target);
    }
    free(expected);
    free(answer.rows);
    return good;
}
