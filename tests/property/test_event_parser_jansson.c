/* core/records/event_parser.h beside jansson, on records made at random and then damaged at random:
 * the same verdict on every one, and the same fields. DOVETAIL_SEED repeats a run. */
#include <time.h>

#include "tests/support/event_parser_jansson.h"

enum { RANDOM_RECORDS = 20000 };

static uint64_t random_state;

static uint32_t random_below(uint32_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 11) % bound);
}

enum { RANDOM_RECORD_BYTES = 4096 };

struct text {
    char bytes[RANDOM_RECORD_BYTES];
    size_t length;
};

static void put(struct text *text, const char *bytes)
{
    size_t length = strlen(bytes);
    if (text->length + length <= sizeof text->bytes) {
        memcpy(text->bytes + text->length, bytes, length);
        text->length += length;
    }
}

#define PUT_ONE_OF(text, list) put(text, (list)[random_below(COUNT(list))])

static void put_space(struct text *text)
{
    static const char *const spaces[] = {"", "", "", "", "", "", " ", "\n", "\t", "\r", "  \n   "};
    PUT_ONE_OF(text, spaces);
}

static void put_string(struct text *text)
{
    static const char *const parts[] = {"a",
                                        "b",
                                        "LAS",
                                        "some plain text",
                                        "\xc3\xa9",
                                        "\xe2\x82\xac",
                                        "\xf0\x9d\x84\x9e",
                                        "{",
                                        "}",
                                        "[",
                                        ",",
                                        ":",
                                        "\\\"",
                                        "\\\\",
                                        "\\/",
                                        "\\n",
                                        "\\t",
                                        "\\b",
                                        "\\f",
                                        "\\r",
                                        "\\u0041",
                                        "\\u00e9",
                                        "\\u20AC",
                                        "\\ud834\\udd1e",
                                        "\\u0000",
                                        "//",
                                        "0123456789012345678901234567890123456789"};
    static const char *const bad[] = {"\\ud834", "\\udd1e", "\\x", "\xff", "\xc3", "\x01", "\\u12"};
    put(text, "\"");
    for (uint32_t n = random_below(4); n > 0; n--)
        PUT_ONE_OF(text, parts);
    if (random_below(300) == 0)
        PUT_ONE_OF(text, bad);
    put(text, "\"");
}

static void put_scalar(struct text *text)
{
    static const char *const scalars[] = {"true",
                                          "false",
                                          "null",
                                          "0",
                                          "-0",
                                          "1",
                                          "42",
                                          "-7",
                                          "1.5",
                                          "-0.25",
                                          "1e3",
                                          "2E-2",
                                          "3.25e+2",
                                          "9223372036854775807",
                                          "-9223372036854775808",
                                          "1500",
                                          "978307260"};
    static const char *const bad[] = {"01",    "1.", "+1", "-",   "tru",
                                      "nulll", ".5", "1e", "0x1", "''"};
    if (random_below(3) == 0)
        put_string(text);
    else if (random_below(300) == 0)
        PUT_ONE_OF(text, bad);
    else
        PUT_ONE_OF(text, scalars);
}

static void put_value(struct text *text, uint32_t depth);

static void put_members(struct text *text, uint32_t count, uint32_t depth)
{
    static const char *const names[] = {"\"a\"", "\"b\"",       "\"c\"",       "\"d\"",  "\"e\"",
                                        "\"t\"", "\"\\u0061\"", "\"\\u0062\"", "\"ab\"", "\"\""};
    for (uint32_t i = 0; i < count; i++) {
        put(text, i == 0 ? "" : ",");
        put_space(text);
        if (random_below(12) == 0)
            put_string(text);
        else
            PUT_ONE_OF(text, names);
        put_space(text);
        put(text, ":");
        put_value(text, depth);
    }
}

static void put_value(struct text *text, uint32_t depth)
{
    put_space(text);
    uint32_t form = depth == 0 ? 0 : random_below(8);
    if (form >= 4) {
        put(text, "{");
        put_members(text, random_below(4), depth - 1);
        put(text, "}");
    } else if (form == 3) {
        put(text, "[");
        for (uint32_t n = random_below(4), i = 0; i < n; i++) {
            put(text, i == 0 ? "" : ",");
            put_value(text, depth - 1);
        }
        put(text, "]");
    } else {
        put_scalar(text);
    }
    put_space(text);
}

static void put_record(struct text *text)
{
    text->length = 0;
    put_space(text);
    put(text, "{");
    if (random_below(4) > 0)
        put(text, "\"t\":1500,");
    put_members(text, 1 + random_below(6), 3);
    put(text, "}");
    put_space(text);
}

static void mutate(struct text *text)
{
    static const char specials[] = "{}[]:,\"\\ 0-.eEtfnu\n\x00\x01\x0c\x1a\x7f\x80\xc3\xed\xff";
    for (uint32_t n = 1 + random_below(3); n > 0 && text->length > 0; n--) {
        size_t at = random_below((uint32_t)text->length);
        char byte = random_below(4) > 0 ? specials[random_below(sizeof specials - 1)]
                                        : (char)random_below(256);
        char *bytes = text->bytes;
        switch (random_below(5)) {
        case 0:
            text->length = at;
            break;
        case 1:
            memmove(bytes + at, bytes + at + 1, text->length - at - 1);
            text->length--;
            break;
        case 2:
            if (text->length < sizeof text->bytes) {
                memmove(bytes + at + 1, bytes + at, text->length - at);
                bytes[at] = byte;
                text->length++;
            }
            break;
        case 3:
            bytes[at] = bytes[random_below((uint32_t)text->length)];
            break;
        default:
            bytes[at] = byte;
        }
    }
}

static void test_agrees_with_jansson(void **state)
{
    (void)state;
    const char *seed = getenv("DOVETAIL_SEED");
    random_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    print_message("seed %llu\n", (unsigned long long)random_state);
    random_state = random_state * UINT64_C(0x9E3779B97F4A7C15) | 1;

    struct event_parser *checker = parser_for(NULL);
    struct event_parser *parsers[RANDOM_SOURCES];
    for (size_t i = 0; i < RANDOM_SOURCES; i++)
        parsers[i] = parser_for(&random_sources[i]);
    struct tally tally = {0};
    static struct text text;
    for (int i = 0; i < RANDOM_RECORDS; i++) {
        put_record(&text);
        compare_record(parsers, checker, text.bytes, text.length, &tally);
        mutate(&text);
        compare_record(parsers, checker, text.bytes, text.length, &tally);
    }
    for (size_t i = 0; i < RANDOM_SOURCES; i++)
        event_parser_destroy(parsers[i]);
    event_parser_destroy(checker);
    print_message("accepted %zu, rejected for fields %zu, for JSON %zu, not comparable %zu\n",
                  tally.accepted, tally.rejected_fields, tally.rejected_json, tally.unknown);
    /* Each kind occurs often enough for the comparison to mean something. */
    assert_true(tally.accepted > RANDOM_RECORDS / 2);
    assert_true(tally.rejected_fields > RANDOM_RECORDS / 4);
    assert_true(tally.rejected_json > RANDOM_RECORDS / 4);
    assert_true(tally.unknown < RANDOM_RECORDS / 2);
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_jansson),
    };
    return cmocka_run_group_tests_name(event_parser_target(), tests, NULL, NULL);
}

int main(void)
{
    return for_each_target(run_all);
}
