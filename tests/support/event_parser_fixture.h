/* What the tests of core/records/event_parser.h share: sources built by hand, parsing under hostile
 * conditions, and one run for each instruction set. Include it once, in a test program. */
#ifndef DOVETAIL_TESTS_SUPPORT_EVENT_PARSER_FIXTURE_H
#define DOVETAIL_TESTS_SUPPORT_EVENT_PARSER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/records/event_parser.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define FIELD(its_name, its_type, its_format, may_be_null, ...)                                    \
    {                                                                                              \
        .name = (its_name), .type = (its_type), .format = (its_format), .nullable = (may_be_null), \
        .path = (const char *const[]){__VA_ARGS__},                                                \
        .path_count = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)                  \
    }
#define SOURCE(time_field, time_format, list)                                                      \
    {                                                                                              \
        .name = "test", .fields = (list), .field_count = COUNT(list),                              \
        .event_time_field = (time_field), .event_time_format = (time_format)                       \
    }

static const struct source_field flight_fields[] = {
    FIELD("time", VALUE_TIMESTAMP, TIME_RFC3339, false, "time"),
    FIELD("delay", VALUE_INTEGER, TIME_RFC3339, true, "delay"),
    FIELD("distance", VALUE_INTEGER, TIME_RFC3339, false, "distance"),
    FIELD("origin", VALUE_STRING, TIME_RFC3339, false, "origin"),
};
static const struct source flights = SOURCE(0, TIME_RFC3339, flight_fields);

static inline struct event_parser *parser_for(const struct source *source)
{
    struct event_parser *parser = NULL;
    struct error error;
    assert_int_equal(event_parser_create(source, &parser, &error), STATUS_OK);
    return parser;
}

/* Parses an exact heap copy, so that reading past it is found, and then the same bytes with hostile
 * ones behind them, which must make no difference. The second one's event is what *out holds. */
static inline enum status parse_bytes(struct event_parser *parser, const char *json, size_t length,
                                      struct event *out, struct error *error)
{
    static const char *const behind[] = {"}", "\"", "\\", "0", ",\"a\":1}", " ", "]}"};
    static size_t turn = 0;
    const char *pattern = behind[turn++ % COUNT(behind)];
    char *exact = malloc(length + 1); /* for length 0; that byte is not promised as readable */
    static char *padded = NULL;       /* outlives the call, as a caller's buffer would */
    free(padded);
    padded = malloc(length + EVENT_PADDING_BYTES);
    assert_non_null(exact);
    assert_non_null(padded);
    exact[length] = '}';
    memcpy(exact, json, length);
    memcpy(padded, json, length);
    for (size_t i = 0; i < EVENT_PADDING_BYTES; i++)
        padded[length + i] = pattern[i % strlen(pattern)];

    struct error copied = {0};
    *error = (struct error){0};
    enum status status = event_parser_parse(parser, exact, length, length, out, &copied);
    free(exact);
    assert_int_equal(
        event_parser_parse(parser, padded, length, length + EVENT_PADDING_BYTES, out, error),
        status);
    assert_string_equal(error->text, copied.text);
    return status;
}

static inline void accept_with(struct event_parser *parser, const char *json, struct event *event)
{
    struct error error;
    if (parse_bytes(parser, json, strlen(json), event, &error) != STATUS_OK)
        fail_msg("%s: %s", json, error.text);
}

static inline void reject_bytes_with(struct event_parser *parser, const char *json, size_t length,
                                     const char *reason)
{
    struct event event;
    struct error error;
    if (parse_bytes(parser, json, length, &event, &error) != STATUS_REJECT)
        fail_msg("accepted: %s", json);
    if (strstr(error.text, reason) == NULL)
        fail_msg("%s: \"%s\" does not contain \"%s\"", json, error.text, reason);
}

static inline void reject_with(struct event_parser *parser, const char *json, const char *reason)
{
    reject_bytes_with(parser, json, strlen(json), reason);
}

static inline void assert_string(const struct value *value, const char *expected)
{
    assert_int_equal(value->type, VALUE_STRING);
    assert_false(value->is_null);
    assert_int_equal(value->string.length, strlen(expected));
    assert_memory_equal(value->string.data, expected, strlen(expected));
}

/* The library chooses when it is first asked, so each one gets a process of its own. */
static inline bool passes_with(const char *target, int (*run)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        setenv("SIMDJSON_FORCE_IMPLEMENTATION", target, 1);
        if (strcmp(event_parser_target(), target) != 0) {
            print_message("this simdjson has no %s\n", target);
            exit(0);
        }
        exit(run() == 0 ? 0 : 1);
    }
    int result = 1;
    return child > 0 && waitpid(child, &result, 0) == child && WIFEXITED(result) &&
           WEXITSTATUS(result) == 0;
}

/* Exit code of a test program: `run` once for each instruction set that this machine and simdjson's
 * library have. */
static inline int for_each_target(int (*run)(void))
{
    bool is_good = true;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd"))
        is_good = passes_with("icelake", run) && is_good;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("pclmul"))
        is_good = passes_with("haswell", run) && is_good;
    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"))
        is_good = passes_with("westmere", run) && is_good;
#else
    is_good = run() == 0;
#endif
    is_good = passes_with("fallback", run) && is_good;
    return is_good ? 0 : 1;
}

#endif
