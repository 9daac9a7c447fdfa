/* The views of the orders, in JSON and in C: see orders.h. */
#include <stdlib.h>
#include <string.h>

#include "tests/support/orders.h"

const char orders_source[] =
    "{\"source\": \"orders\", \"partitions\": 4,"
    " \"event_time\": {\"field\": \"time\", \"format\": \"rfc3339\"},"
    " \"fields\": {\"time\": \"timestamp\","
    "  \"shop\": {\"type\": \"string\", \"path\": \"shop.name\", \"nullable\": true},"
    "  \"item\": {\"type\": \"integer\", \"nullable\": true},"
    "  \"amount\": {\"type\": \"integer\", \"nullable\": true},"
    "  \"price\": \"decimal\","
    "  \"parts\": \"integer\","
    "  \"paid\": {\"type\": \"boolean\", \"nullable\": true},"
    "  \"note\": {\"type\": \"string\", \"nullable\": true}}}";

char *orders_source_with(int partitions, int64_t within)
{
    json_t *source = json_loads(orders_source, 0, NULL);
    json_object_set_new(source, "partitions", json_integer(partitions));
    if (within > 0) {
        json_object_set_new(json_object_get(source, "fields"), "id",
                            json_pack("{s:s, s:b}", "type", "integer", "nullable", 1));
        json_object_set_new(source, "dedupe",
                            json_pack("{s:s, s:I}", "field", "id", "within", (json_int_t)within));
    }
    char *text = json_dumps(source, 0);
    json_decref(source);
    return text;
}

void orders_set_string(struct oracle_value *out, bool has, const char *text)
{
    *out = (struct oracle_value){
        .type = ORACLE_STRING, .is_null = !has, .text = text, .length = strlen(text)};
}

bool orders_set_number(struct oracle_value *out, enum oracle_type type, bool has, int64_t number)
{
    *out = (struct oracle_value){.type = type, .is_null = !has, .number = number};
    return has;
}

static void key_shop(const void *event, struct oracle_value *out)
{
    const struct order *order = event;
    orders_set_string(out, order->has_shop, order->shop);
}

static void key_item(const void *event, struct oracle_value *out)
{
    const struct order *order = event;
    orders_set_number(out, ORACLE_INTEGER, order->has_item, order->item);
}

static void key_pair(const void *event, struct oracle_value *out)
{
    const struct order *order = event;
    orders_set_string(out, order->has_shop && order->has_note, order->pair);
}

static bool all(const void *event, struct oracle_value *out)
{
    (void)event, (void)out;
    return true;
}

static bool amount(const void *event, struct oracle_value *out)
{
    const struct order *order = event;
    return orders_set_number(out, ORACLE_INTEGER, order->has_amount, order->amount);
}

static bool big(const void *event, struct oracle_value *out)
{
    const struct order *order = event;
    (void)out;
    return order->has_amount && order->amount > 10;
}

static bool price(const void *event, struct oracle_value *out)
{
    const struct order *order = event;
    return orders_set_number(out, ORACLE_DECIMAL, true, order->cents);
}

static bool price_of_paid(const void *event, struct oracle_value *out)
{
    const struct order *order = event;
    return price(event, out) && order->has_paid && order->paid;
}

static bool paid(const void *event, struct oracle_value *out)
{
    const struct order *order = event;
    (void)out;
    return order->has_paid && order->paid;
}

static bool note(const void *event, struct oracle_value *out)
{
    const struct order *order = event;
    orders_set_string(out, order->has_note, order->note);
    return order->has_note;
}

static bool event_time(const void *event, struct oracle_value *out)
{
    const struct order *order = event;
    return orders_set_number(out, ORACLE_TIME, true, order->time_us);
}

static bool share(const void *event, struct oracle_value *out)
{
    const struct order *order = event;
    if (!order->has_amount)
        return false;
    return orders_set_number(out, ORACLE_INTEGER, true, order->amount / order->parts);
}

static enum oracle_verdict sales_verdict(const void *event)
{
    const struct order *order = event;
    return order->cents != 0 ? ORACLE_COUNTED : ORACLE_FILTERED;
}

static enum oracle_verdict totals_verdict(const void *event)
{
    const struct order *order = event;
    return !order->has_amount || order->amount > -15 ? ORACLE_COUNTED : ORACLE_FILTERED;
}

static enum oracle_verdict shares_verdict(const void *event)
{
    const struct order *order = event;
    if (order->has_paid && order->paid)
        return ORACLE_FILTERED;
    return order->has_amount && order->parts == 0 ? ORACLE_REJECTED : ORACLE_COUNTED;
}

const struct oracle_view orders_views[ORDERS_VIEWS] = {
    {
        .name = "sales",
        .json = "{\"view\": \"sales\", \"source\": \"orders\", \"where\": \"price <> 0\","
                " \"group_by\": [\"shop\", \"item\"],"
                " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"},"
                " \"measures\": {\"n\": \"count(*)\", \"some\": \"count(amount)\","
                "  \"big\": \"count(*) FILTER (WHERE amount > 10)\","
                "  \"total\": \"sum(amount)\", \"turnover\": \"sum(price)\","
                "  \"mean\": \"avg(price)\", \"mean_amount\": \"avg(amount)\","
                "  \"least\": \"min(price)\", \"most\": \"max(amount)\","
                "  \"last_note\": \"max(note)\", \"first_note\": \"min(note)\","
                "  \"earliest\": \"min(time)\"}}",
        .window_us = 3600 * 1000000LL,
        .verdict = sales_verdict,
        .keys = {{"shop", key_shop}, {"item", key_item}},
        .key_count = 2,
        .measures = {{"n", ORACLE_COUNT, ORACLE_INTEGER, all},
                     {"some", ORACLE_COUNT, ORACLE_INTEGER, amount},
                     {"big", ORACLE_COUNT, ORACLE_INTEGER, big},
                     {"total", ORACLE_SUM, ORACLE_INTEGER, amount},
                     {"turnover", ORACLE_SUM, ORACLE_DECIMAL, price},
                     {"mean", ORACLE_AVG, ORACLE_DECIMAL, price},
                     {"mean_amount", ORACLE_AVG, ORACLE_INTEGER, amount},
                     {"least", ORACLE_MIN, ORACLE_DECIMAL, price},
                     {"most", ORACLE_MAX, ORACLE_INTEGER, amount},
                     {"last_note", ORACLE_MAX, ORACLE_STRING, note},
                     {"first_note", ORACLE_MIN, ORACLE_STRING, note},
                     {"earliest", ORACLE_MIN, ORACLE_TIME, event_time}},
        .measure_count = 12,
    },
    {
        .name = "totals",
        .json = "{\"view\": \"totals\", \"source\": \"orders\","
                " \"where\": \"amount IS NULL OR amount > -15\","
                " \"window\": {\"type\": \"tumbling\", \"size\": \"1m\"},"
                " \"measures\": {\"n\": \"count(*)\", \"turnover\": \"sum(price)\","
                "  \"mean\": \"avg(price)\","
                "  \"paid_orders\": \"count(*) FILTER (WHERE paid)\","
                "  \"paid_turnover\": \"sum(price) FILTER (WHERE paid)\","
                "  \"latest\": \"max(time)\"}}",
        .window_us = 60 * 1000000LL,
        .verdict = totals_verdict,
        .measures = {{"n", ORACLE_COUNT, ORACLE_INTEGER, all},
                     {"turnover", ORACLE_SUM, ORACLE_DECIMAL, price},
                     {"mean", ORACLE_AVG, ORACLE_DECIMAL, price},
                     {"paid_orders", ORACLE_COUNT, ORACLE_INTEGER, paid},
                     {"paid_turnover", ORACLE_SUM, ORACLE_DECIMAL, price_of_paid},
                     {"latest", ORACLE_MAX, ORACLE_TIME, event_time}},
        .measure_count = 6,
    },
    {
        .name = "shares",
        .json = "{\"view\": \"shares\", \"source\": \"orders\", \"where\": \"paid IS NOT TRUE\","
                " \"group_by\": [{\"name\": \"pair\", \"expr\": \"shop || '-' || note\"}],"
                " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\"},"
                " \"measures\": {\"n\": \"count(*)\", \"shares\": \"sum(amount / parts)\","
                "  \"most_shares\": \"max(amount / parts)\"}}",
        .window_us = 86400 * 1000000LL,
        .verdict = shares_verdict,
        .keys = {{"pair", key_pair}},
        .key_count = 1,
        .measures = {{"n", ORACLE_COUNT, ORACLE_INTEGER, all},
                     {"shares", ORACLE_SUM, ORACLE_INTEGER, share},
                     {"most_shares", ORACLE_MAX, ORACLE_INTEGER, share}},
        .measure_count = 3,
    },
};

/* --- every other kind of window, over the same orders --- */

static enum oracle_verdict every(const void *event)
{
    (void)event;
    return ORACLE_COUNTED;
}

/* Days of Nepal, which moved its clocks from 5:30 to 5:45 hours when 1986 began. */
static void nepal_day(int64_t time_us, int64_t *start_us, int64_t *end_us)
{
    const int64_t day_us = 86400 * 1000000LL, moved_us = 504901800 * 1000000LL;
    int64_t local_us = time_us + (time_us < moved_us ? 330 : 345) * 60 * 1000000LL;
    int64_t into_us = ((local_us % day_us) + day_us) % day_us;
    *start_us = time_us - into_us;
    *end_us = *start_us + day_us; /* no order is of the day that was shorter */
}

#define WINDOW_MEASURES                                                                            \
    "\"measures\": {\"n\": \"count(*)\", \"turnover\": \"sum(price)\","                            \
    " \"mean\": \"avg(price)\", \"paid_orders\": \"count(*) FILTER (WHERE paid)\","                \
    " \"most\": \"max(amount)\", \"earliest\": \"min(time)\", \"last_note\": \"max(note)\"}}"

#define WINDOW_MODEL                                                                               \
    .measures = {{"n", ORACLE_COUNT, ORACLE_INTEGER, all},                                         \
                 {"turnover", ORACLE_SUM, ORACLE_DECIMAL, price},                                  \
                 {"mean", ORACLE_AVG, ORACLE_DECIMAL, price},                                      \
                 {"paid_orders", ORACLE_COUNT, ORACLE_INTEGER, paid},                              \
                 {"most", ORACLE_MAX, ORACLE_INTEGER, amount},                                     \
                 {"earliest", ORACLE_MIN, ORACLE_TIME, event_time},                                \
                 {"last_note", ORACLE_MAX, ORACLE_STRING, note}},                                  \
    .measure_count = 7

const struct oracle_view orders_window_views[ORDERS_WINDOW_VIEWS] = {
    {
        .name = "sessions",
        .json =
            "{\"view\": \"sessions\", \"source\": \"orders\", \"group_by\": [\"shop\", \"item\"],"
            " \"window\": {\"type\": \"session\", \"gap\": \"20s\"}, " WINDOW_MEASURES,
        .kind = ORACLE_SESSION,
        .window_us = 20 * 1000000LL,
        .verdict = every,
        .keys = {{"shop", key_shop}, {"item", key_item}},
        .key_count = 2,
        WINDOW_MODEL,
    },
    {
        .name = "bursts",
        .json = "{\"view\": \"bursts\", \"source\": \"orders\", \"where\": \"price <> 0\","
                " \"window\": {\"type\": \"session\", \"gap\": \"1500ms\"}, " WINDOW_MEASURES,
        .kind = ORACLE_SESSION,
        .window_us = 1500 * 1000LL,
        .verdict = sales_verdict,
        WINDOW_MODEL,
    },
    {
        .name = "hops",
        .json = "{\"view\": \"hops\", \"source\": \"orders\", \"group_by\": [\"shop\"],"
                " \"where\": \"amount IS NULL OR amount > -15\","
                " \"window\": {\"type\": \"hopping\", \"size\": \"10m\", \"slide\": \"4m\"},"
                " " WINDOW_MEASURES,
        .kind = ORACLE_HOPPING,
        .window_us = 600 * 1000000LL,
        .slide_us = 240 * 1000000LL,
        .verdict = totals_verdict,
        .keys = {{"shop", key_shop}},
        .key_count = 1,
        WINDOW_MODEL,
    },
    {
        .name = "days",
        .json = "{\"view\": \"days\", \"source\": \"orders\", \"group_by\": [\"item\"],"
                " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\","
                "  \"timezone\": \"Asia/Kathmandu\"}, " WINDOW_MEASURES,
        .kind = ORACLE_CALENDAR,
        .calendar = nepal_day,
        .verdict = every,
        .keys = {{"item", key_item}},
        .key_count = 1,
        WINDOW_MODEL,
    },
    {
        .name = "ever",
        .json = "{\"view\": \"ever\", \"source\": \"orders\", \"group_by\": [\"shop\"],"
                " \"window\": {\"type\": \"none\"}, " WINDOW_MEASURES,
        .kind = ORACLE_NONE,
        .verdict = every,
        .keys = {{"shop", key_shop}},
        .key_count = 1,
        WINDOW_MODEL,
    },
};
