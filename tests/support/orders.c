/* Random orders and what the views make of them: see orders.h. */
#include "tests/support/orders.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const int64_t second_us = 1000000;
static const int64_t minute_us = 60 * 1000000LL;
static const int64_t hour_us = 3600 * 1000000LL;
static const int64_t day_us = 86400 * 1000000LL;
static const int64_t begin_us = 1767225600 * 1000000LL; /* 2026-01-01 */

/* --- random numbers: splitmix64 (Steele, Lea, Flood, 2014) --- */

uint64_t orders_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

size_t orders_below(uint64_t *state, size_t bound)
{
    return (size_t)(orders_random(state) % bound);
}

static bool chance(uint64_t *state, unsigned permille)
{
    return orders_below(state, 1000) < permille;
}

/* --- values --- */

static const char *const shops[] = {"north", "süd", "", "a\"b\\c", "東京"};
static const char *const notes[] = {"x", "y", "", "longer note", "é\n", "Z"};

static int64_t random_time(struct orders_generator *generator)
{
    uint64_t *random = &generator->random;
    generator->clock_us += (int64_t)orders_below(random, 900) * 1000;
    if (generator->period_us > 0 && generator->clock_us > begin_us + generator->period_us)
        generator->clock_us -= generator->period_us;
    if (chance(random, 30)) /* a year late */
        return generator->clock_us - 365 * day_us + (int64_t)orders_below(random, 7200) * second_us;
    if (chance(random, 20)) /* as late as the records of several slices and runs */
        return generator->clock_us - (int64_t)orders_below(random, 3600) * second_us;
    if (chance(random, 5)) /* before 1970, and to the microsecond */
        return -day_us + (int64_t)orders_below(random, 1000000000);
    int64_t jitter = (int64_t)orders_below(random, 600) - 500;
    return generator->clock_us + jitter * second_us +
           (chance(random, 200) ? (int64_t)orders_below(random, 1000000) : 0);
}

static void random_order(struct orders_generator *generator, struct order *order)
{
    uint64_t *random = &generator->random;
    *order = (struct order){.time_us = random_time(generator)};
    order->has_shop = !chance(random, 100);
    snprintf(order->shop, sizeof order->shop, "%s", shops[orders_below(random, COUNT(shops))]);
    order->has_item = !chance(random, 100);
    order->item = (int64_t)orders_below(random, 3) - 1;
    order->has_amount = !chance(random, 150);
    order->amount = (int64_t)orders_below(random, 41) - 20;
    order->cents = chance(random, 150) ? 0 : (int64_t)orders_below(random, 200000) - 50000;
    order->parts = chance(random, 20) ? 0 : (int64_t)orders_below(random, 6) + 1;
    order->has_paid = !chance(random, 200);
    order->paid = chance(random, 500);
    order->has_note = !chance(random, 100);
    snprintf(order->note, sizeof order->note, "%s", notes[orders_below(random, COUNT(notes))]);
    snprintf(order->pair, sizeof order->pair, "%s-%s", order->shop, order->note);
}

static enum oracle_outcome outcome_of(const struct orders_generator *generator,
                                      const struct order *order)
{
    bool counted = false;
    for (size_t i = 0; i < generator->view_count; i++) {
        enum oracle_verdict verdict = generator->views[i].verdict(order);
        if (verdict == ORACLE_REJECTED)
            return ORACLE_IS_DEAD;
        counted = counted || verdict == ORACLE_COUNTED;
    }
    return counted ? ORACLE_IS_COUNTED : ORACLE_IS_FILTERED;
}

/* --- their JSON --- */

struct writer {
    char *out;
    size_t size, length;
};

static void put(struct writer *writer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void put(struct writer *writer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length =
        vsnprintf(writer->out + writer->length, writer->size - writer->length, format, arguments);
    va_end(arguments);
    writer->length += (size_t)length;
    if (writer->length >= writer->size)
        abort();
}

static void put_string(struct writer *writer, uint64_t *random, const char *text)
{
    put(writer, "\"");
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\')
            put(writer, "\\%c", *c);
        else if (*c < 0x20 || (*c < 0x80 && chance(random, 50)))
            put(writer, "\\u%04x", *c);
        else
            put(writer, "%c", *c);
    }
    put(writer, "\"");
}

static void put_time(struct writer *writer, uint64_t *random, int64_t us)
{
    char text[48];
    if (chance(random, 100)) { /* as they would write it in another zone */
        oracle_time_text(us + 90 * minute_us, text, sizeof text);
        put(writer, "\"%.*s+01:30\"", (int)strlen(text) - 1, text);
    } else {
        oracle_time_text(us, text, sizeof text);
        put(writer, "\"%s\"", text);
    }
}

static void put_price(struct writer *writer, uint64_t *random, int64_t cents)
{
    const char *sign = cents < 0 ? "-" : "";
    int64_t rest = cents < 0 ? -cents : cents;
    switch (orders_below(random, 6)) {
    case 0:
        put(writer, "%" PRId64 "e-2", cents);
        break;
    case 1:
        put(writer, "%s%" PRId64 ".%02" PRId64 "000", sign, rest / 100, rest % 100);
        break;
    case 2:
        put(writer, "%s0.%07" PRId64 "E+5", sign, rest);
        break;
    default:
        put(writer, "%s%" PRId64 ".%02" PRId64, sign, rest / 100, rest % 100);
    }
}

/* A member that is NULL is written so, or left out. */
static bool put_null(struct writer *writer, uint64_t *random, const char *name, bool has)
{
    if (has)
        return false;
    if (chance(random, 500))
        put(writer, ",\"%s\":null", name);
    return true;
}

static void put_noise(struct writer *writer, uint64_t *random)
{
    static const char *const noise[] = {
        ",\"extra\":{\"price\":\"none\",\"deep\":[1,[2,{\"time\":null}]]}",
        ",\"Time\":\"not this one\"",
        ",\"price\":true", /* a later one counts */
        ", \t\n\"list\" : [ ]",
        ",\"\\u0000\":\"\\ud83d\\ude00\"",
    };
    if (chance(random, 200))
        put(writer, "%s", noise[orders_below(random, COUNT(noise))]);
}

static void write_order(struct writer *writer, uint64_t *random, const struct order *order)
{
    put(writer, "{\"time\":");
    put_time(writer, random, order->time_us);
    if (order->id != 0)
        put(writer, ",\"id\":%" PRId64, order->id);
    put_noise(writer, random);
    if (order->has_shop) {
        put(writer, ",\"shop\":{\"id\":7,\"name\":");
        put_string(writer, random, order->shop);
        put(writer, "}");
    } else if (chance(random, 500)) {
        put(writer, "%s", chance(random, 500) ? ",\"shop\":{}" : ",\"shop\":{\"name\":null}");
    }
    if (!put_null(writer, random, "item", order->has_item))
        put(writer, ",\"item\":%" PRId64, order->item);
    if (!put_null(writer, random, "amount", order->has_amount))
        put(writer, ",\"amount\":%" PRId64, order->amount);
    put(writer, ",\"price\":");
    put_price(writer, random, order->cents);
    put(writer, ",\"parts\":%" PRId64, order->parts);
    if (!put_null(writer, random, "paid", order->has_paid))
        put(writer, ",\"paid\":%s", order->paid ? "true" : "false");
    if (!put_null(writer, random, "note", order->has_note)) {
        put(writer, ",\"note\":");
        put_string(writer, random, order->note);
    }
    put(writer, "}");
}

/* --- bad records --- */

static const struct {
    const char *value; /* NULL: a tombstone */
    size_t length;     /* 0: of the string */
} bad[] = {
    {NULL, 0},
    {"", 0},
    {"null", 0},
    {"[1,2]", 0},
    {"{}", 0},
    {"not JSON at all", 0},
    {"\xff\xfe\x00\x01 rubbish", 12},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":1,\"parts\":1", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":1,\"parts\":1,}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":1,\"parts\":1}{}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":01,\"parts\":1}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":NaN,\"parts\":1}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":1,\"parts\":1,\"x\":\"\\q\"}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":1,\"parts\":1,\"x\":\"\xc3\"}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":1}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":\"1\",\"parts\":1}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":null,\"parts\":1}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":1,\"parts\":1.5}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":1,\"parts\":9223372036854775808}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":1e300,\"parts\":1}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":1,\"parts\":1,\"paid\":1}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":1,\"parts\":1,\"note\":[]}", 0},
    {"{\"time\":\"2026-01-01T00:00:00Z\",\"price\":1,\"parts\":1,\"note\":\"\\u0000\"}", 0},
    {"{\"time\":\"2026-02-30T00:00:00Z\",\"price\":1,\"parts\":1}", 0},
    {"{\"time\":\"0000-01-01T00:00:00Z\",\"price\":1,\"parts\":1}", 0},
    {"{\"time\":\"10000-01-01T00:00:00Z\",\"price\":1,\"parts\":1}", 0},
    {"{\"time\":\"yesterday\",\"price\":1,\"parts\":1}", 0},
    {"{\"time\":1767225600,\"price\":1,\"parts\":1}", 0},
};

static void make_bad(struct orders_generator *generator, struct orders_record *out)
{
    size_t kind = orders_below(&generator->random, COUNT(bad));
    out->has_value = bad[kind].value != NULL;
    out->fault = out->has_value ? bad[kind].value : "no value";
    out->length = 0;
    if (out->has_value)
        out->length = bad[kind].length != 0 ? bad[kind].length : strlen(bad[kind].value);
    memcpy(out->value, out->has_value ? bad[kind].value : "", out->length);
    out->model = (struct oracle_record){.outcome = ORACLE_IS_DEAD};
}

/* --- interface --- */

void orders_generator_init(struct orders_generator *generator, uint64_t seed,
                           const struct oracle_view *views, size_t view_count)
{
    *generator = (struct orders_generator){
        .random = seed, .clock_us = begin_us, .views = views, .view_count = view_count};
}

/* Another order may have the id of an earlier one: then it is a duplicate all the same. */
static void choose_id(struct orders_generator *generator, struct order *order,
                      struct orders_record *out)
{
    size_t which = orders_below(&generator->random, ORDERS_REMEMBERED);
    if (generator->remembered[which].id != 0 && chance(&generator->random, 80)) {
        order->id = generator->remembered[which].id;
        out->partition = generator->remembered[which].partition;
    } else if (!chance(&generator->random, 50)) { /* some have none */
        order->id = ++generator->last_id;
    }
}

void orders_sent(struct orders_generator *generator, const struct orders_record *record,
                 int partition)
{
    if (record->model.id == 0)
        return;
    size_t which = (size_t)record->model.id % ORDERS_REMEMBERED;
    generator->remembered[which].id = record->model.id;
    generator->remembered[which].partition = partition;
}

void orders_next(struct orders_generator *generator, struct orders_record *out)
{
    uint64_t *random = &generator->random;
    *out = (struct orders_record){.partition = -1};
    if (!chance(random, 300))
        out->key_length =
            (size_t)snprintf(out->key, sizeof out->key, "k%zu", orders_below(random, 50));
    if (chance(random, 40)) {
        make_bad(generator, out);
        return;
    }
    struct order *order = malloc(sizeof *order);
    if (order == NULL)
        abort();
    struct writer writer = {.out = out->value, .size = sizeof out->value};
    random_order(generator, order);
    if (generator->has_ids)
        choose_id(generator, order, out);
    write_order(&writer, random, order);
    out->has_value = true;
    out->length = writer.length;
    out->model = (struct oracle_record){.event = order,
                                        .time_us = order->time_us,
                                        .outcome = outcome_of(generator, order),
                                        .id = order->id};
}

static void random_filter(uint64_t *random, struct oracle_query *query)
{
    query->has_filter = true;
    query->filter_key = orders_below(random, query->view->key_count);
    bool is_null = chance(random, 200);
    const char *name = query->view->keys[query->filter_key].name;
    const char *shop = shops[orders_below(random, COUNT(shops))];
    if (strcmp(name, "item") == 0) {
        orders_set_number(&query->filter, ORACLE_INTEGER, !is_null,
                          (int64_t)orders_below(random, 4) - 1);
        return;
    }
    if (strcmp(name, "shop") == 0)
        snprintf(query->filter_text, sizeof query->filter_text, "%s", shop);
    else
        snprintf(query->filter_text, sizeof query->filter_text, "%s-%s", shop,
                 notes[orders_below(random, COUNT(notes))]);
    orders_set_string(&query->filter, !is_null, "");
    query->filter.length = strlen(query->filter_text);
}

/* Half of the bounds are on a window's start, half anywhere. */
static void random_range(uint64_t *random, struct oracle_query *query)
{
    bool on_grid = chance(random, 500) && query->view->window_us != 0;
    int64_t grid = on_grid ? query->view->window_us : second_us;
    int64_t origin = chance(random, 200) ? begin_us - 366 * day_us : begin_us - hour_us;
    origin = origin / day_us * day_us;
    query->has_from = chance(random, 500);
    query->from_us = origin + (int64_t)orders_below(random, 30000) * second_us / grid * grid;
    query->has_to = chance(random, 500);
    query->to_us =
        query->from_us + (int64_t)orders_below(random, 20000) * second_us / grid * grid + minute_us;
}

static void random_choices(uint64_t *random, struct oracle_query *query)
{
    const struct oracle_view *view = query->view;
    query->has_group_by = view->key_count > 0 && chance(random, 300);
    for (size_t i = 0; query->has_group_by && i < view->key_count; i++)
        if (chance(random, 400))
            query->group_by[query->group_by_count++] = i;
    if (query->group_by_count == 2 && chance(random, 500)) {
        query->group_by[0] = 1;
        query->group_by[1] = 0;
    }
    query->has_measures = chance(random, 200);
    for (size_t i = 0; query->has_measures && i < view->measure_count; i++)
        if (i == 0 || chance(random, 300))
            query->measures[query->measure_count++] = i;
    if (chance(random, 250) && view->kind == ORACLE_TUMBLING) /* others refuse it */
        query->granularity = chance(random, 300)   ? ORACLE_ALL
                             : chance(random, 500) ? 7 * day_us
                                                   : day_us;
}

void orders_random_query(uint64_t *random, const struct oracle_view *views, size_t view_count,
                         struct oracle_query *out)
{
    *out = (struct oracle_query){.view = &views[orders_below(random, view_count)]};
    if (chance(random, 150))
        return;
    if (out->view->kind != ORACLE_NONE)
        random_range(random, out);
    if (out->view->key_count > 0 && chance(random, 300))
        random_filter(random, out);
    random_choices(random, out);
    if (chance(random, 200)) {
        out->has_order = true;
        out->order = 0; /* a count: chosen in every query, and rich in ties */
        out->descending = chance(random, 700);
    }
    if (chance(random, 150))
        out->limit = orders_below(random, 10) + 1;
    if (chance(random, 150))
        out->layer = chance(random, 500) ? ORACLE_BATCH : ORACLE_SPEED;
}
