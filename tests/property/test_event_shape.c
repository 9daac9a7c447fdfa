/* core/records/event_shape.h beside the walk over tokens, on records that are made from a few
 * forms, and damaged at random: what matches a shape is valid, with the same kinds and tokens as
 * the walk finds. DOVETAIL_SEED repeats a run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/records/event_shape.h"
#include "core/records/json_index.h"

enum { RECORDS = 200000, RECORD_BYTES = 2048, LEAVES_MAX = 16 };

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define FIELD(its_name, ...)                                                                       \
    {                                                                                              \
        .name = (its_name), .type = VALUE_STRING, .path = (const char *const[]){__VA_ARGS__},      \
        .path_count = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)                  \
    }

static const struct source_field fields[] = {
    FIELD("a", "a"),        FIELD("b", "b"),       FIELD("c", "c"),
    FIELD("ax", "a", "x"),  FIELD("by", "b", "y"), FIELD("byz", "b", "y", "z"),
    FIELD("missing", "no"),
};
static const struct source source = {
    .name = "test", .fields = fields, .field_count = COUNT(fields)};

/* '?' is where a scalar goes. */
static const char *const forms[] = {
    "{\"a\":?,\"b\":?,\"c\":?}",
    "{\"a\":?,\"b\":?,\"c\":?,\"other\":?}",
    "{ \"a\" : ? , \"b\" : ?,\n\"c\": ?\t}",
    "{\"a\":{\"x\":?},\"b\":{\"y\":{\"z\":?}},\"c\":?}",
    "{\"a\":{\"x\":?},\"b\":?,\"a\":?}",
    "{\"b\":?,\"a\":?,\"a\":{\"x\":?,\"q\":[?,?,{}]},\"a\":{\"x\":?}}",
    "{\"c\":[?,?,[?]],\"b\":{\"y\":?,\"y\":{}},\"\":?}",
    "{\"\\u0061\":?,\"b\\\"\":?,\"\xc3\xa9\":{\"a\":?}}",
    "{\"a long name, of more than sixteen bytes\":?,\"c\":?,\"and another one of the kind\":[]}",
    "{}",
    "{\"a\":?,\"b\":?,\"c\":?} ",
};
static const char *const scalars[] = {"0",
                                      "-0",
                                      "7",
                                      "-12",
                                      "1.5",
                                      "-0.25",
                                      "1e3",
                                      "2E-2",
                                      "9223372036854775807",
                                      "true",
                                      "false",
                                      "null",
                                      "\"\"",
                                      "\"LAS\"",
                                      "\"exactly 16 bytes\"",
                                      "\"some text that takes more than one look\"",
                                      "\"{\"",
                                      "\":,\"",
                                      "\"}\"",
                                      "\"0123456789012345678901234567890123456789\""};
/* What the walk has to look at, valid or not. */
static const char *const others[] = {
    "\"\\n\"", "\"\\\"\"", "\"\\\\\"",  "\"\xc3\xa9\"", "\"\\u0041\"", "01",      "1.", "-",
    "tru",     "nulll",    "+1",        "\"\x01\"",     "\"\xff\"",    "\"\\x\"", "{}", "[]",
    "\"",      "",         "truefalse", "1 2",          "\"a\"\"b\""};

static uint64_t random_state;

static uint32_t random_below(uint32_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 11) % bound);
}

struct fixture {
    struct arena arena;
    struct json_index *index;
    struct event_shapes *shapes;
    struct event_walk matched; /* what the shapes say */
    struct event_walk walked;  /* what the walk says */
    uint8_t kinds[2][LEAVES_MAX];
    struct token_text tokens[2][LEAVES_MAX];
    char scratch[RECORD_BYTES + EVENT_PADDING_BYTES];
    size_t matches, valid;
};

static void init_walk(struct fixture *fixture, struct event_walk *walk, size_t side)
{
    uint32_t leaf_of_field[COUNT(fields)];
    walk->root = field_trie_create(&source, &fixture->arena, leaf_of_field, &walk->leaf_count);
    assert_non_null(walk->root);
    assert_true(walk->leaf_count <= LEAVES_MAX);
    walk->kinds = fixture->kinds[side];
    walk->tokens = fixture->tokens[side];
}

static int setup(void **state)
{
    static struct fixture fixture;
    struct error error;
    fixture = (struct fixture){0};
    arena_init(&fixture.arena);
    init_walk(&fixture, &fixture.matched, 0);
    init_walk(&fixture, &fixture.walked, 1);
    assert_int_equal(json_index_create(&fixture.index, &error), STATUS_OK);
    fixture.shapes = event_shapes_create(fixture.walked.leaf_count);
    assert_non_null(fixture.shapes);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    event_shapes_destroy(fixture->shapes);
    json_index_destroy(fixture->index);
    arena_deinit(&fixture->arena);
    return 0;
}

static bool has_text(uint8_t kind)
{
    return kind != TOKEN_MISSING && kind != TOKEN_OBJECT && kind != TOKEN_ARRAY;
}

static void compare_walks(const struct fixture *fixture, const char *json, size_t length)
{
    for (uint32_t i = 0; i < fixture->walked.leaf_count; i++) {
        uint8_t kind = fixture->walked.kinds[i];
        if (fixture->matched.kinds[i] != kind)
            fail_msg("leaf %u is of kind %d, not %d: %.*s", i, fixture->matched.kinds[i], kind,
                     (int)length, json);
        if (!has_text(kind))
            continue;
        assert_ptr_equal(fixture->matched.tokens[i].text, fixture->walked.tokens[i].text);
        assert_int_equal(fixture->matched.tokens[i].length, fixture->walked.tokens[i].length);
    }
}

/* In memory of its own, so that reading too far is found; what is behind must make no difference.
 * True: it matched a shape. */
static bool check_record(struct fixture *fixture, const char *record, size_t length)
{
    static const char *const behind[] = {"}", "\"", "0", "\"}", ",\"c\":1}", " ", "e"};
    const char *pattern = behind[random_below(COUNT(behind))];
    char *json = malloc(length + EVENT_PADDING_BYTES);
    assert_non_null(json);
    memcpy(json, record, length);
    for (size_t i = 0; i < EVENT_PADDING_BYTES; i++)
        json[length + i] = pattern[i % strlen(pattern)];
    struct error error;
    const uint32_t *starts;
    size_t count;
    bool matches = event_shapes_match(fixture->shapes, &fixture->matched, json, length);
    enum status status = json_index_build(fixture->index, json, length, &starts, &count, &error);
    if (status == STATUS_OK)
        status = event_walk_record(&fixture->walked, json, length, starts, count, fixture->scratch,
                                   &error);
    if (matches && status != STATUS_OK)
        fail_msg("matches, but %s: %.*s", error.text, (int)length, json);
    if (matches)
        compare_walks(fixture, json, length);
    else if (status == STATUS_OK)
        event_shapes_learn(fixture->shapes, &fixture->walked, json, length, starts, count);
    fixture->matches += matches;
    fixture->valid += status == STATUS_OK;
    free(json);
    return matches;
}

static bool check_text(struct fixture *fixture, const char *record)
{
    return check_record(fixture, record, strlen(record));
}

/* --- random records --- */

static size_t fill_form(const char *form, uint32_t odd, char *out)
{
    size_t length = 0;
    for (; *form != '\0'; form++) {
        if (*form != '?') {
            out[length++] = *form;
            continue;
        }
        const char *scalar = odd != 0 && random_below(odd) == 0
                                 ? others[random_below(COUNT(others))]
                                 : scalars[random_below(COUNT(scalars))];
        memcpy(out + length, scalar, strlen(scalar));
        length += strlen(scalar);
    }
    return length;
}

static size_t damage(char *record, size_t length)
{
    static const char bytes[] = "{}[]:,\"\\ 0-.etn\n\x01\x80";
    size_t at = random_below((uint32_t)length);
    switch (random_below(4)) {
    case 0: /* another byte */
        record[at] = bytes[random_below(sizeof bytes - 1)];
        return length;
    case 1: /* one less */
        memmove(record + at, record + at + 1, length - at - 1);
        return length > 1 ? length - 1 : length;
    case 2: /* one more */
        memmove(record + at + 1, record + at, length - at);
        record[at] = bytes[random_below(sizeof bytes - 1)];
        return length + 1;
    default: /* cut off */
        return at + 1;
    }
}

static void test_random_records(void **state)
{
    struct fixture *fixture = *state;
    char record[RECORD_BYTES];
    size_t form = 0;
    for (size_t i = 0; i < RECORDS; i++) {
        if (random_below(20) == 0) /* the same form for a while, as a producer's */
            form = random_below(COUNT(forms));
        size_t length = fill_form(forms[form], 40, record);
        if (random_below(5) == 0)
            length = damage(record, length);
        check_record(fixture, record, length);
    }
    print_message("%zu of %zu valid records matched\n", fixture->matches, fixture->valid);
    assert_true(fixture->matches > fixture->valid / 3);
}

/* --- what it is for --- */

/* Every form but the last, which ends with a space, is known once it was seen. */
static void test_learns_from_one_record(void **state)
{
    (void)state;
    char record[RECORD_BYTES];
    for (size_t f = 0; f < COUNT(forms); f++) {
        struct fixture *fixture = NULL;
        setup((void **)&fixture);
        check_record(fixture, record, fill_form(forms[f], 0, record));
        for (size_t i = 0; i < 100; i++) {
            size_t length = fill_form(forms[f], 0, record);
            bool matches = check_record(fixture, record, length);
            assert_int_equal(matches, record[length - 1] == '}');
        }
        teardown((void **)&fixture);
    }
}

static void test_a_form_that_changes(void **state)
{
    struct fixture *fixture = *state;
    char record[RECORD_BYTES];
    for (size_t i = 0; i < 1000; i++) /* as of text that is not ASCII: nothing matches */
        assert_false(check_text(fixture, "{\"a\":\"\xc3\xa9\"}"));
    size_t matches = 0;
    for (size_t i = 0; i < 2000; i++)
        matches += check_record(fixture, record, fill_form(forms[0], 0, record));
    assert_true(matches > 1000);     /* it was found out in time */
    for (size_t i = 0; i < 100; i++) /* two that alternate */
        matches += check_record(fixture, record, fill_form(forms[i % 2], 0, record));
    assert_true(check_record(fixture, record, fill_form(forms[0], 0, record)));
    assert_true(check_record(fixture, record, fill_form(forms[1], 0, record)));
}

static void test_what_is_too_large_is_not_learned(void **state)
{
    struct fixture *fixture = *state;
    static char record[20000];
    size_t length = (size_t)sprintf(record, "{\"%05000d\":1}", 0);
    for (int i = 0; i < 3; i++)
        assert_false(check_record(fixture, record, length));
    length = (size_t)sprintf(record, "{\"a\":[1");
    for (int i = 0; i < 200; i++)
        length += (size_t)sprintf(record + length, ",%d", i);
    length += (size_t)sprintf(record + length, "]}");
    for (int i = 0; i < 3; i++)
        assert_false(check_record(fixture, record, length));
    assert_false(check_text(fixture, "{\"a\":1}"));
}

int main(void)
{
    const char *seed = getenv("DOVETAIL_SEED");
    random_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    random_state |= 1;
    print_message("DOVETAIL_SEED=%llu\n", (unsigned long long)random_state);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random_records, setup, teardown),
        cmocka_unit_test(test_learns_from_one_record),
        cmocka_unit_test_setup_teardown(test_a_form_that_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_too_large_is_not_learned, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
