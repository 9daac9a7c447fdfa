/* What tests of whole answers over HTTP begin with: the trips (trips_fixture.h) with more views,
 * their raw events as a table for PostgreSQL to compute from, and a view of very many groups.
 * Included by one test program each, whose main passes set_up_all and tear_down_all to cmocka. */
#ifndef DOVETAIL_TESTS_SUPPORT_QUERY_FIXTURE_H
#define DOVETAIL_TESTS_SUPPORT_QUERY_FIXTURE_H

#define TRIPS_MORE_VIEWS                                                                           \
    "{\"view\": \"many\", \"source\": \"trips\", \"group_by\": [\"delay\"],"                       \
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\"},"                                     \
    " \"measures\": {\"trips\": \"count(*)\"}}",                                                   \
        "{\"view\": \"kinds\", \"source\": \"trips\", \"group_by\": [\"late\"],"                   \
        " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\"},"                                 \
        " \"measures\": {\"trips\": \"count(*)\", \"first\": \"min(destination)\","                \
        "  \"booked\": \"max(booked)\", \"all_late\": \"bool_and(late)\","                         \
        "  \"delays\": \"histogram(delay, [0, 10, 20])\", \"spread\": \"var_samp(fare)\"}}",       \
        "{\"view\": \"hops\", \"source\": \"trips\", \"group_by\": [\"destination\"],"             \
        " \"window\": {\"type\": \"hopping\", \"size\": \"6h\", \"slide\": \"2h\"},"               \
        " \"measures\": {\"trips\": \"count(*)\", \"total\": \"sum(delay)\"}}",                    \
        "{\"view\": \"visits\", \"source\": \"trips\", \"group_by\": [\"origin\"],"                \
        " \"window\": {\"type\": \"session\", \"gap\": \"3h\"},"                                   \
        " \"measures\": {\"trips\": \"count(*)\", \"total\": \"sum(delay)\"}}",                    \
        "{\"view\": \"forever\", \"source\": \"trips\", \"group_by\": [\"origin\", \"late\"],"     \
        " \"window\": {\"type\": \"none\"}, \"measures\": {\"trips\": \"count(*)\"}}",             \
        "{\"view\": \"named\", \"source\": \"trips\","                                             \
        " \"group_by\": [{\"name\": \"from\", \"expr\": \"delay\"}],"                              \
        " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\"},"                                 \
        " \"measures\": {\"trips\": \"count(*)\"}}",

#include "tests/support/database.h"
#include "tests/support/http.h"
#include "tests/support/trips_fixture.h"

static struct http_session *session;

enum { MANY = 300000 };

/* --- the raw events, for PostgreSQL --- */

static inline void put_literal(FILE *out, const struct value *value, struct arena *arena)
{
    if (value->is_null) {
        fputs(", NULL", out);
        return;
    }
    size_t length = 0;
    const char *text = value_text(value, arena, &length);
    char *literal = PQescapeLiteral(postgres_handle(postgres), text, length);
    fprintf(out, ", %s", literal);
    PQfreemem(literal);
}

static inline void store_raw(void)
{
    static const char *const fields[] = {"time", "destination", "origin", "delay",
                                         "fare", "late",        "booked"};
    struct catalog *catalog = NULL;
    struct arena arena;
    char *text = NULL;
    size_t length = 0;
    arena_init(&arena);
    execute("CREATE TABLE raw (n integer, time timestamptz, destination text COLLATE \"C\","
            " origin text COLLATE \"C\", delay bigint, fare numeric, late boolean,"
            " booked timestamptz)");
    assert_status(STATUS_OK, catalog_load(postgres, &catalog, &error));
    const struct source *source = catalog_source(catalog, "trips");
    FILE *out = open_memstream(&text, &length);
    for (size_t i = 0; i < EVENTS; i++) {
        fprintf(out, "%s(%zu", i > 0 ? ", " : "INSERT INTO raw VALUES ", i);
        for (size_t f = 0; f < sizeof fields / sizeof fields[0]; f++)
            for (size_t at = 0; at < source->field_count; at++)
                if (strcmp(source->fields[at].name, fields[f]) == 0)
                    put_literal(out, &trips[i].fields[at], &arena);
        fputc(')', out);
    }
    assert_int_equal(fclose(out), 0);
    execute(text);
    free(text);
    catalog_destroy(catalog);
    arena_deinit(&arena);
}

/* Far more groups of one view than an answer may have. */
static inline void store_many(void)
{
    struct catalog *catalog = NULL;
    char table[CATALOG_NAME_BYTES];
    assert_status(STATUS_OK, catalog_load(postgres, &catalog, &error));
    catalog_batch_table(catalog_current(catalog, "many")->version, table);
    assert_status(STATUS_OK,
                  postgres_executef(postgres, &error,
                                    "INSERT INTO %s (_run_from, window_start, delay, trips)"
                                    " SELECT 1, '2002-01-01Z', i, 1 FROM generate_series(1, %d) i;"
                                    " ANALYZE %s",
                                    table, MANY, table));
    catalog_destroy(catalog);
}

static inline int set_up_all(void **state)
{
    if (set_up(state) != 0)
        return -1;
    store_raw();
    store_many();
    session = http_session_create(port);
    return session != NULL ? 0 : -1;
}

static inline int tear_down_all(void **state)
{
    http_session_destroy(session);
    return tear_down(state);
}

/* --- texts that grow --- */

struct growing {
    char text[16384];
};

static inline void add(struct growing *to, const char *format, ...) PRINTF_LIKE(2, 3);

static inline void add(struct growing *to, const char *format, ...)
{
    size_t length = strlen(to->text);
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(to->text + length, sizeof to->text - length, format, arguments);
    va_end(arguments);
    assert_true(written >= 0 && (size_t)written < sizeof to->text - length);
}

/* A request with headers of its own ("Accept: text/csv\r\n"). */
static inline struct reply get_with(const char *target, const char *headers)
{
    char text[8000];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n",
             target, headers);
    return receive(send_text(text));
}

/* The text of the rows, between the brackets; malloc'd. */
static inline char *rows_of(const char *body)
{
    const char *begin = strstr(body, "\"rows\":[");
    const char *end = strstr(body, "],\"receipt\":");
    assert_non_null(begin);
    assert_non_null(end);
    begin += strlen("\"rows\":[");
    return strndup(begin, (size_t)(end - begin));
}

#endif
