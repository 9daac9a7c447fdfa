/* Windows: definitions of each kind, which pane holds an instant, windows made of panes, and which
 * roll-ups are exact. Time zones have tests of their own (test_timezone.c), and what panes make of
 * whole histories is in tests/property/test_seam.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/groups.h"
#include "core/time/timestamp.h"

#define MINUTE INT64_C(60000000)
#define HOUR (60 * MINUTE)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct error error;
static struct arena arena;

static enum status read_window(const char *text, struct window *out)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    if (json == NULL)
        fail_msg("%s", text);
    enum status status = window_from_json(json, &arena, out, &error);
    json_decref(json);
    return status;
}

static struct window window_of(const char *text)
{
    struct window window;
    if (read_window(text, &window) != STATUS_OK)
        fail_msg("%s: %s", text, error.text);
    return window;
}

static int64_t at(const char *text)
{
    int64_t us = 0;
    assert_int_equal(timestamp_parse_date_or_rfc3339(text, strlen(text), &us), TIMESTAMP_OK);
    return us;
}

/* --- definitions --- */

#define TUMBLING(members) "{\"type\":\"tumbling\"," members "}"
#define HOPPING(members) "{\"type\":\"hopping\"," members "}"
#define SESSION(members) "{\"type\":\"session\"," members "}"
#define NEW_YORK "\"timezone\":\"America/New_York\""

static void test_good(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        struct window window;
    } cases[] = {
        {TUMBLING("\"size\":\"1ms\""), {.size_us = 1000}},
        {TUMBLING("\"size\":\"90s\""), {.size_us = 90000000}},
        {"{\"size\":\"15m\",\"type\":\"tumbling\",\"description\":\"x\"}",
         {.size_us = 15 * MINUTE}},
        {TUMBLING("\"size\":\"1d\""), {.size_us = TIMESTAMP_US_PER_DAY}},
        {TUMBLING("\"size\":\"2w\""), {.size_us = 14 * TIMESTAMP_US_PER_DAY}},
        {TUMBLING("\"size\":\"365000d\""), {.size_us = 365000 * TIMESTAMP_US_PER_DAY}},
        {TUMBLING("\"size\":\"1mo\""), {.months = 1}},
        {TUMBLING("\"size\":\"6mo\""), {.months = 6}},
        {TUMBLING("\"size\":\"1y\""), {.months = 12}},
        {TUMBLING("\"size\":\"1d\"," NEW_YORK), {.days = 1}},
        {TUMBLING("\"size\":\"10d\"," NEW_YORK), {.days = 10}},
        {TUMBLING("\"size\":\"1w\"," NEW_YORK), {.days = 7, .origin_day = -3}},
        {TUMBLING("\"size\":\"2w\"," NEW_YORK), {.days = 14, .origin_day = -3}},
        {TUMBLING("\"size\":\"3mo\"," NEW_YORK), {.months = 3}},
        {TUMBLING("\"size\":\"1d\",\"timezone\":\"UTC\""), {.days = 1}},
        {HOPPING("\"size\":\"1h\",\"slide\":\"5m\""),
         {.size_us = HOUR, .slide_us = 5 * MINUTE, .pane_us = 5 * MINUTE}},
        {HOPPING("\"size\":\"50m\",\"slide\":\"15m\""),
         {.size_us = 50 * MINUTE, .slide_us = 15 * MINUTE, .pane_us = 5 * MINUTE}},
        {HOPPING("\"size\":\"1h\",\"slide\":\"1h\""),
         {.size_us = HOUR, .slide_us = HOUR, .pane_us = HOUR}},
        {SESSION("\"gap\":\"30m\",\"description\":\"x\""), {.size_us = 30 * MINUTE}},
        {"{\"type\":\"none\"}", {.size_us = 0}},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct window *want = &cases[i].window;
        struct window window = window_of(cases[i].json);
        assert_int_equal(window.size_us, want->size_us);
        assert_int_equal(window.slide_us, want->slide_us);
        assert_int_equal(window.pane_us, want->pane_us);
        assert_int_equal(window.days, want->days);
        assert_int_equal(window.months, want->months);
        assert_int_equal(window.origin_day, want->origin_day);
        bool is_calendar = want->days > 0 || want->months > 0;
        assert_int_equal(window.kind->type == WINDOW_CALENDAR, is_calendar);
        assert_int_equal(window.zone != NULL, is_calendar);
    }
}

static void test_bad(void **state)
{
    (void)state;
    static const char size[] = "size: wants a duration such as \"15m\", \"1h\" or \"1d\"";
    static const char object[] =
        "wants an object such as {\"type\": \"tumbling\", \"size\": \"1h\"}";
    static const char type[] = "type: wants \"tumbling\", \"hopping\", \"session\" or \"none\"";
    static const char *const cases[][2] = {
        {"null", object},
        {"\"1h\"", object},
        {"[]", object},
        {"{\"type\":\"nothing\",\"size\":\"1h\"}", type},
        {"{\"size\":\"1h\"}", type},
        {"{\"type\":\"tumbling\"}", size},
        {TUMBLING("\"size\":60"), size},
        {TUMBLING("\"size\":\"\""), size},
        {TUMBLING("\"size\":\"1\""), size},
        {TUMBLING("\"size\":\"0h\""), size},
        {TUMBLING("\"size\":\"-1h\""), size},
        {TUMBLING("\"size\":\"1.5h\""), size},
        {TUMBLING("\"size\":\"1 h\""), size},
        {TUMBLING("\"size\":\"1H\""), size},
        {TUMBLING("\"size\":\"01h\""), size},
        {TUMBLING("\"size\":\"5mo\""), size},
        {TUMBLING("\"size\":\"24mo\""), size},
        {TUMBLING("\"size\":\"2y\""), size},
        {TUMBLING("\"size\":\"0mo\""), size},
        {TUMBLING("\"size\":\"99999999999999999999h\""), size},
        {TUMBLING("\"size\":\"365001d\""), "size: longer than 365,000 days"},
        {TUMBLING("\"size\":\"1h\",\"offset\":\"5m\""), "offset: unknown key"},
        {TUMBLING("\"size\":\"1h\",\"slide\":\"5m\""), "slide: unknown key"},
        {TUMBLING("\"size\":\"24h\"," NEW_YORK),
         "timezone: only windows of whole days have one: \"1d\", \"1w\", \"1mo\" or \"1y\""},
        {TUMBLING("\"size\":\"365001d\"," NEW_YORK), "size: longer than 365,000 days"},
        {TUMBLING("\"size\":\"1d\",\"timezone\":5"),
         "timezone: wants a name such as \"America/New_York\""},
        {TUMBLING("\"size\":\"1d\",\"timezone\":\"Mars/Base\""),
         "timezone: there is no time zone \"Mars/Base\" in /usr/share/zoneinfo (package tzdata)"},
        {TUMBLING("\"size\":\"1d\",\"timezone\":\"EST\""),
         "timezone: \"EST\" is not the name of a time zone such as \"America/New_York\", or "
         "\"UTC\""},
        {HOPPING("\"size\":\"1h\""), "slide: wants a duration such as \"15m\", \"1h\" or \"1d\""},
        {HOPPING("\"slide\":\"1h\""), size},
        {HOPPING("\"size\":\"1h\",\"slide\":\"2h\""),
         "slide: longer than the size: events between two windows would be lost"},
        {HOPPING("\"size\":\"1h\",\"slide\":\"3599999ms\""),
         "slide: with this size a window has more than 10000 panes, the greatest common divisor of "
         "both"},
        {HOPPING("\"size\":\"1d\",\"slide\":\"1h\"," NEW_YORK), "timezone: unknown key"},
        {"{\"type\":\"session\"}", "gap: wants a duration such as \"15m\", \"1h\" or \"1d\""},
        {SESSION("\"gap\":\"0s\""), "gap: wants a duration such as \"15m\", \"1h\" or \"1d\""},
        {SESSION("\"gap\":\"365001d\""), "gap: longer than 365,000 days"},
        {SESSION("\"gap\":\"1h\",\"size\":\"1h\""), "size: unknown key"},
        {"{\"type\":\"none\",\"size\":\"1h\"}", "size: unknown key"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct window window;
        assert_int_equal(read_window(cases[i][0], &window), STATUS_REJECT);
        assert_string_equal(error.text, cases[i][1]);
    }
}

/* --- panes --- */

static void test_starts(void **state)
{
    (void)state;
    const struct window hour = window_of(TUMBLING("\"size\":\"1h\""));
    static const int64_t cases[][2] = {
        {0, 0},
        {1, 0},
        {3599999999, 0},
        {3600000000, 3600000000},
        {-1, -3600000000},
        {-3600000000, -3600000000},
        {-3600000001, -7200000000},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t start = window_pane_start(&hour, cases[i][0]);
        assert_int_equal(start, cases[i][1]);
        assert_int_equal(window_pane_end(&hour, start), start + 3600000000);
    }
}

static void test_calendar(void **state)
{
    (void)state;
#define SAO_PAULO "\"timezone\":\"America/Sao_Paulo\""
    static const struct {
        const char *window, *time, *start, *end;
    } cases[] = {
        {TUMBLING("\"size\":\"1mo\""), "2024-02-29T23:59:59Z", "2024-02-01T00:00:00Z",
         "2024-03-01T00:00:00Z"},
        {TUMBLING("\"size\":\"1mo\""), "1969-12-31T23:59:59Z", "1969-12-01T00:00:00Z",
         "1970-01-01T00:00:00Z"},
        {TUMBLING("\"size\":\"3mo\""), "1968-02-29T12:00:00Z", "1968-01-01T00:00:00Z",
         "1968-04-01T00:00:00Z"},
        {TUMBLING("\"size\":\"1y\"," NEW_YORK), "2024-01-01T04:59:59Z", "2023-01-01T05:00:00Z",
         "2024-01-01T05:00:00Z"},
        {TUMBLING("\"size\":\"1mo\"," NEW_YORK), "2024-03-20T00:00:00Z", "2024-03-01T05:00:00Z",
         "2024-04-01T04:00:00Z"},
        /* weeks begin on Monday; this one has 167 hours */
        {TUMBLING("\"size\":\"1w\"," NEW_YORK), "2024-03-11T03:59:59Z", "2024-03-04T05:00:00Z",
         "2024-03-11T04:00:00Z"},
        {TUMBLING("\"size\":\"2w\",\"timezone\":\"UTC\""), "1970-01-01", "1969-12-29T00:00:00Z",
         "1970-01-12T00:00:00Z"},
        {TUMBLING("\"size\":\"2d\",\"timezone\":\"UTC\""), "1969-12-31", "1969-12-30T00:00:00Z",
         "1970-01-01T00:00:00Z"},
        {TUMBLING("\"size\":\"1d\"," SAO_PAULO), "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z",
         "2018-11-05T02:00:00Z"},
        {TUMBLING("\"size\":\"1w\"," SAO_PAULO), "2018-11-04T12:00:00Z", "2018-10-29T03:00:00Z",
         "2018-11-05T02:00:00Z"},
        /* the second one would begin with the day that was left out */
        {TUMBLING("\"size\":\"2d\",\"timezone\":\"Pacific/Apia\""), "2011-12-31T12:00:00Z",
         "2011-12-31T10:00:00Z", "2012-01-02T10:00:00Z"},
        {TUMBLING("\"size\":\"2d\",\"timezone\":\"Pacific/Apia\""), "2011-12-30T12:00:00Z",
         "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct window window = window_of(cases[i].window);
        char start[TIMESTAMP_TEXT_SIZE], end[TIMESTAMP_TEXT_SIZE];
        int64_t start_us = window_pane_start(&window, at(cases[i].time));
        timestamp_format(start_us, start, sizeof start);
        timestamp_format(window_pane_end(&window, start_us), end, sizeof end);
        assert_string_equal(start, cases[i].start);
        assert_string_equal(end, cases[i].end);
    }
}

/* The first and the last instant an event can have, in every window there can be. */
static void test_bounds_of_time(void **state)
{
    (void)state;
    static const char *const windows[] = {
        TUMBLING("\"size\":\"1ms\""),
        TUMBLING("\"size\":\"7ms\""),
        TUMBLING("\"size\":\"1h\""),
        TUMBLING("\"size\":\"365000d\""),
        TUMBLING("\"size\":\"365000d\"," NEW_YORK),
        TUMBLING("\"size\":\"52142w\",\"timezone\":\"Asia/Tokyo\""),
        TUMBLING("\"size\":\"1y\",\"timezone\":\"Pacific/Kiritimati\""),
        TUMBLING("\"size\":\"1mo\""),
        HOPPING("\"size\":\"365000d\",\"slide\":\"1000d\""),
        SESSION("\"gap\":\"365000d\""),
        "{\"type\":\"none\"}",
    };
    static const int64_t times[] = {TIMESTAMP_MIN_US, TIMESTAMP_END_US - 1, 0, -1};
    for (size_t i = 0; i < COUNT(windows); i++) {
        const struct window window = window_of(windows[i]);
        for (size_t t = 0; t < COUNT(times); t++) {
            int64_t start = window_pane_start(&window, times[t]);
            int64_t end = window_pane_end(&window, start);
            if (window.kind->type == WINDOW_NONE) {
                assert_int_equal(start, 0); /* whatever the time */
                continue;
            }
            assert_true(start <= times[t] && times[t] < end);
            assert_int_equal(window_pane_start(&window, start), start);
            assert_int_equal(window_pane_start(&window, end - 1), start);
            /* as timestamptz, from 4714 BC on */
            assert_true(start > INT64_C(-210866803200000000));
        }
    }
}

/* --- windows of panes --- */

static const char source_json[] =
    "{\"source\":\"s\",\"topic\":\"t\",\"event_time\":{\"field\":\"time\",\"format\":\"epoch_us\"},"
    "\"fields\":{\"time\":\"timestamp\",\"key\":{\"type\":\"string\",\"nullable\":true}}}";

struct fixture {
    struct source *source;
    struct view *view;
    struct groups *panes;
    struct groups *windows;
};

static void fixture_init(struct fixture *fixture, const char *window)
{
    json_t *json = json_loads(source_json, 0, NULL);
    assert_int_equal(source_create(json, "source", &fixture->source, &error), STATUS_OK);
    json_decref(json);
    json = json_pack("{s:s, s:s, s:[s], s:o, s:{s:s}}", "view", "v", "source", "s", "group_by",
                     "key", "window", json_loads(window, 0, NULL), "measures", "n", "count(*)");
    if (view_create(json, "view", fixture->source, &fixture->view, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    json_decref(json);
    assert_int_equal(groups_create(fixture->view, &fixture->panes, &error), STATUS_OK);
    assert_int_equal(groups_create(fixture->view, &fixture->windows, &error), STATUS_OK);
}

static void fixture_deinit(struct fixture *fixture)
{
    groups_destroy(fixture->panes);
    groups_destroy(fixture->windows);
    view_destroy(fixture->view);
    source_destroy(fixture->source);
}

static void add(struct fixture *fixture, const char *key, int64_t time_us)
{
    struct value fields[] = {value_timestamp(time_us), value_null(VALUE_STRING)};
    struct event event = {.fields = fields, .time_us = time_us};
    struct measure_origin origin = {.time_us = time_us};
    enum fold_outcome outcome;
    if (key != NULL)
        fields[1] = value_string(key, strlen(key));
    assert_int_equal(groups_fold(fixture->panes, &event, &origin, &outcome, &error), STATUS_OK);
}

/* "key start-end n" of each window, in microseconds, separated by semicolons. */
static const char *shown(struct fixture *fixture, const struct window_range *range)
{
    static char text[2000];
    const struct view *view = fixture->view;
    struct group **sorted;
    size_t length = 0;
    text[0] = '\0';
    groups_clear(fixture->windows);
    assert_int_equal(
        view->window.kind->combine(view, range, fixture->panes, SIZE_MAX, fixture->windows, &error),
        STATUS_OK);
    assert_int_equal(groups_sorted(fixture->windows, &sorted, &error), STATUS_OK);
    for (size_t i = 0; i < groups_count(fixture->windows); i++) {
        struct value key, n;
        const char *wide;
        int64_t start_us, end_us;
        group_keys(view, sorted[i], &key);
        view->window.kind->bounds(view, sorted[i], &start_us, &end_us);
        const struct measure *measure = view->measures[0].measure;
        assert_int_equal(
            measure->kind->finish(measure, group_state(sorted[i]), NULL, &n, &wide, &error),
            STATUS_OK);
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%.*s %lld-%lld %lld",
                                   i > 0 ? "; " : "", key.is_null ? 1 : (int)key.string.length,
                                   key.is_null ? "-" : key.string.data, (long long)start_us,
                                   (long long)end_us, (long long)n.integer);
    }
    free(sorted);
    return text;
}

static void test_hopping(void **state)
{
    (void)state;
    static const struct window_range all = {0};
    struct fixture fixture;
    fixture_init(&fixture, HOPPING("\"size\":\"5ms\",\"slide\":\"2ms\""));
    assert_string_equal(shown(&fixture, &all), "");
    add(&fixture, "a", 0);
    assert_string_equal(shown(&fixture, &all), "a -4000-1000 1; a -2000-3000 1; a 0-5000 1");
    add(&fixture, "a", 1000);
    assert_string_equal(shown(&fixture, &all), "a -4000-1000 1; a -2000-3000 2; a 0-5000 2");
    add(&fixture, NULL, 4999);
    assert_string_equal(shown(&fixture, &all), "a -4000-1000 1; a -2000-3000 2; a 0-5000 2; "
                                               "- 0-5000 1; - 2000-7000 1; - 4000-9000 1");
    const struct window_range some = {true, true, -2000, 2000};
    assert_string_equal(shown(&fixture, &some), "a -2000-3000 2; a 0-5000 2; - 0-5000 1");
    struct window_range panes = some;
    fixture.view->window.kind->widen(&fixture.view->window, &panes);
    assert_int_equal(panes.from_us, -2000);
    assert_int_equal(panes.to_us, 7000);
    fixture_deinit(&fixture);
}

static void test_sessions(void **state)
{
    (void)state;
    static const struct window_range all = {0};
    struct fixture fixture;
    fixture_init(&fixture, SESSION("\"gap\":\"10ms\""));
    assert_string_equal(shown(&fixture, &all), "");
    add(&fixture, "a", 9999);
    add(&fixture, "a", 0); /* one pane, one session, in any order */
    assert_string_equal(shown(&fixture, &all), "a 0-19999 2");
    add(&fixture, "a", 19999); /* exactly at the end: the next session */
    assert_string_equal(shown(&fixture, &all), "a 0-19999 2; a 19999-29999 1");
    add(&fixture, "a", 19998); /* one microsecond before it */
    assert_string_equal(shown(&fixture, &all), "a 0-29999 4");
    add(&fixture, "a", 40000); /* an empty pane between */
    add(&fixture, NULL, 12000);
    add(&fixture, "ab", -1);
    assert_string_equal(shown(&fixture, &all),
                        "ab -1-9999 1; a 0-29999 4; - 12000-22000 1; a 40000-50000 1");
    add(&fixture, "a", 30500); /* too late for the one, early enough for the other */
    assert_string_equal(shown(&fixture, &all),
                        "ab -1-9999 1; a 0-29999 4; - 12000-22000 1; a 30500-50000 2");
    add(&fixture, "a", 29000); /* the bridge */
    assert_string_equal(shown(&fixture, &all), "ab -1-9999 1; a 0-50000 7; - 12000-22000 1");
    const struct window_range some = {true, true, 0, 12000};
    assert_string_equal(shown(&fixture, &some), "a 0-50000 7");
    struct window_range panes = {true, true, 25000, 26000};
    fixture.view->window.kind->widen(&fixture.view->window, &panes);
    assert_true(panes.has_from && !panes.has_to);
    assert_int_equal(panes.from_us, 10000);
    fixture_deinit(&fixture);
}

/* Least and greatest time are stored with the pane, and nothing that cannot be is read back. */
static void test_session_states(void **state)
{
    (void)state;
    struct fixture fixture;
    struct pgbinary_writer writer;
    struct pgbinary_field fields[5];
    struct group **sorted;
    static const struct window_range all = {0};
    fixture_init(&fixture, SESSION("\"gap\":\"10ms\""));
    assert_int_equal(fixture.view->measure_count, 1);
    assert_int_equal(fixture.view->state_count, 2);
    assert_int_equal(view_row_columns(fixture.view), 5);
    add(&fixture, "a", 3000);
    add(&fixture, "a", 5000);
    pgbinary_writer_init(&writer);
    assert_int_equal(groups_sorted(fixture.panes, &sorted, &error), STATUS_OK);
    pgbinary_put_row(&writer, 5);
    assert_int_equal(group_encode_row(fixture.view, sorted[0], &writer, &error), STATUS_OK);
    free(sorted);
    assert_int_equal(
        pgbinary_split_row((const uint8_t *)writer.data, writer.length, fields, 5, &error),
        STATUS_OK);
    groups_clear(fixture.panes);
    assert_int_equal(groups_merge_row(fixture.panes, fields, NULL, &error), STATUS_OK);
    assert_string_equal(shown(&fixture, &all), "a 3000-15000 2");
    struct pgbinary_field swapped = fields[3];
    fields[3] = fields[4];
    fields[4] = swapped;
    assert_int_equal(groups_merge_row(fixture.panes, fields, NULL, &error), STATUS_FATAL);
    fields[4].data = NULL;
    assert_int_equal(groups_merge_row(fixture.panes, fields, NULL, &error), STATUS_FATAL);
    pgbinary_writer_deinit(&writer);
    fixture_deinit(&fixture);
}

/* --- roll-ups --- */

static void test_rollups(void **state)
{
    (void)state;
    static const char *const own[] = {
        TUMBLING("\"size\":\"1h\""), TUMBLING("\"size\":\"1d\"," NEW_YORK),
        TUMBLING("\"size\":\"1w\"," NEW_YORK), TUMBLING("\"size\":\"3mo\""),
        TUMBLING("\"size\":\"2d\"," NEW_YORK)};
    static const struct {
        size_t own;
        const char *granularity, *timezone, *fault; /* NULL: none */
    } cases[] = {
        {0, "1h", NULL, NULL},
        {0, "2h", NULL, NULL},
        {0, "1d", NULL, NULL},
        {0, "1d", "Europe/Berlin", NULL},
        {0, "1mo", NULL, NULL},
        {0, "90m", NULL, "granularity: has to be a multiple of the view's window, 1h"},
        {0, "365001d", NULL, "granularity: has to be a multiple of the view's window, 1h"},
        {0, "soon", NULL,
         "granularity: \"all\" or a duration such as 1h is expected, a multiple of the view's 1h"},
        {0, "2h", "Europe/Berlin",
         "granularity: with a time zone it is days, weeks, months or a year, such as 1d, 1w, 1mo "
         "or "
         "1y"},
        {0, "1d", "Berlin",
         "timezone: \"Berlin\" is not the name of a time zone such as \"America/New_York\", or "
         "\"UTC\""},
        {1, "1d", NULL, NULL},
        {1, "1w", NULL, NULL},
        {1, "10d", NULL, NULL},
        {1, "1mo", "America/New_York", NULL},
        {1, "1y", NULL, NULL},
        {1, "1d", "UTC", "timezone: the view's windows are those of America/New_York"},
        {1, "24h", NULL,
         "granularity: with a time zone it is days, weeks, months or a year, such as 1d, 1w, 1mo "
         "or "
         "1y"},
        {2, "2w", NULL, NULL},
        {2, "7d", NULL,
         "granularity: has to be made of the view's windows, 7d in America/New_York"},
        {2, "1mo", NULL,
         "granularity: has to be made of the view's windows, 7d in America/New_York"},
        {3, "1y", NULL, NULL},
        {3, "6mo", "UTC", NULL},
        {3, "4mo", NULL, "granularity: has to be made of the view's windows, 3mo in UTC"},
        {3, "1d", NULL, "granularity: has to be made of the view's windows, 3mo in UTC"},
        {4, "4d", NULL, NULL},
        {4, "3d", NULL,
         "granularity: has to be made of the view's windows, 2d in America/New_York"},
        {4, "2w", NULL,
         "granularity: has to be made of the view's windows, 2d in America/New_York"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct window window = window_of(own[cases[i].own]);
        struct window coarse;
        enum window_nesting nesting;
        enum status status = window_coarser(&window, cases[i].granularity, cases[i].timezone,
                                            &arena, &coarse, &nesting, &error);
        assert_int_equal(window_check_rollup(&window, &error), STATUS_OK);
        if (cases[i].fault != NULL) {
            assert_int_equal(status, STATUS_REJECT);
            assert_string_equal(error.text, cases[i].fault);
            continue;
        }
        if (status != STATUS_OK)
            fail_msg("%s: %s", cases[i].granularity, error.text);
        /* each window of the view lies within one of these, all through two years */
        for (int64_t us = at("2023-01-01"); us < at("2025-01-01"); us += 50 * MINUTE) {
            int64_t start = window_pane_start(&window, us);
            assert_true(window_is_within(&window, &coarse, start));
        }
    }
}

static void test_within(void **state)
{
    (void)state;
    const struct window hour = window_of(TUMBLING("\"size\":\"1h\""));
    const struct window nepal =
        window_of(TUMBLING("\"size\":\"1d\",\"timezone\":\"Asia/Kathmandu\""));
    assert_true(window_is_within(&hour, &nepal, at("2024-01-01T17:00:00Z")));
    assert_false(window_is_within(&hour, &nepal, at("2024-01-01T18:00:00Z")));
    assert_true(window_is_within(&hour, &nepal, at("2024-01-01T19:00:00Z")));
    static const char *const none[] = {HOPPING("\"size\":\"1h\",\"slide\":\"5m\""),
                                       SESSION("\"gap\":\"1h\""), "{\"type\":\"none\"}"};
    for (size_t i = 0; i < COUNT(none); i++) {
        const struct window window = window_of(none[i]);
        assert_int_equal(window_check_rollup(&window, &error), STATUS_REJECT);
        assert_memory_equal(error.text, "granularity: ", 13);
    }
}

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_deinit(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),           cmocka_unit_test(test_bad),
        cmocka_unit_test(test_starts),         cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_bounds_of_time), cmocka_unit_test(test_hopping),
        cmocka_unit_test(test_sessions),       cmocka_unit_test(test_session_states),
        cmocka_unit_test(test_rollups),        cmocka_unit_test(test_within),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
