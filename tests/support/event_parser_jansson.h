/* core/records/event_parser.h and jansson on one record: the same verdict, and the same fields.
 * What the random records of tests/property and the fuzz target share. Include it once, in a
 * program. */
#ifndef DOVETAIL_TESTS_SUPPORT_EVENT_PARSER_JANSSON_H
#define DOVETAIL_TESTS_SUPPORT_EVENT_PARSER_JANSSON_H

#include "tests/support/event_parser_fixture.h"

static inline json_t *at_path(json_t *root, const struct source_field *field)
{
    for (size_t i = 0; i < field->path_count && root != NULL; i++)
        root = json_is_object(root) ? json_object_get(root, field->path[i]) : NULL;
    return root;
}

/* Whether jansson's value is acceptable for the field; NULLs count as acceptable. */
static inline bool is_acceptable(const struct source_field *field, json_t *json)
{
    if (json == NULL || json_is_null(json))
        return field->nullable;
    switch (field->type) {
    case VALUE_STRING:
        return json_is_string(json) && strlen(json_string_value(json)) == json_string_length(json);
    case VALUE_INTEGER:
        return json_is_integer(json);
    case VALUE_DECIMAL:
        return json_is_number(json);
    case VALUE_BOOLEAN:
        return json_is_boolean(json);
    default:
        return false;
    }
}

static inline void compare_value(const struct value *value, json_t *json)
{
    if (json == NULL || json_is_null(json)) {
        assert_true(value->is_null);
        return;
    }
    assert_false(value->is_null);
    int64_t integer;
    switch (value->type) {
    case VALUE_STRING:
        assert_int_equal(value->string.length, json_string_length(json));
        assert_memory_equal(value->string.data, json_string_value(json), value->string.length);
        break;
    case VALUE_INTEGER:
        assert_true(value->integer == json_integer_value(json));
        break;
    case VALUE_DECIMAL:
        if (json_is_integer(json)) {
            assert_true(decimal_to_int64(&value->decimal, &integer));
            assert_true(integer == json_integer_value(json));
        }
        break;
    default:
        assert_true(value->boolean == json_is_true(json));
    }
}

static const struct source_field random_fields_1[] = {
    FIELD("t", VALUE_INTEGER, TIME_RFC3339, false, "t"),
    FIELD("ab", VALUE_INTEGER, TIME_RFC3339, true, "a", "b"),
    FIELD("aab", VALUE_STRING, TIME_RFC3339, true, "a", "a", "b"),
    FIELD("c", VALUE_BOOLEAN, TIME_RFC3339, true, "c"),
};
static const struct source_field random_fields_2[] = {
    FIELD("t", VALUE_INTEGER, TIME_RFC3339, false, "t"),
    FIELD("a", VALUE_STRING, TIME_RFC3339, true, "a"),
    FIELD("ab", VALUE_STRING, TIME_RFC3339, true, "a", "b"),
    FIELD("empty", VALUE_DECIMAL, TIME_RFC3339, true, "b", ""),
    FIELD("d", VALUE_STRING, TIME_RFC3339, true, "d"),
};
static const struct source_field random_fields_3[] = {
    FIELD("t", VALUE_DECIMAL, TIME_RFC3339, false, "t"),
    FIELD("b", VALUE_DECIMAL, TIME_RFC3339, true, "b"),
    FIELD("eb", VALUE_STRING, TIME_RFC3339, true, "e", "b"),
};
enum { RANDOM_SOURCES = 3 };
static const struct source random_sources[RANDOM_SOURCES] = {
    SOURCE(0, TIME_EPOCH_US, random_fields_1),
    SOURCE(0, TIME_EPOCH_US, random_fields_2),
    SOURCE(0, TIME_EPOCH_US, random_fields_3),
};

struct tally {
    size_t accepted, rejected_fields, rejected_json, unknown;
};

/* Prints the record so that it can be read whatever bytes it has, and fails. */
static inline void fail_for(const char *bytes, size_t length, const char *verdict,
                            const char *reason)
{
    print_error("%s here, not in jansson (%s):\n", verdict, reason);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        print_error(byte >= 0x20 && byte < 0x7F ? "%c" : "<%02x>", byte);
    }
    fail_msg("see above");
}

/* jansson's verdict on the record as one of this source. The JSON is valid and `root` its value. */
static inline void compare_fields(struct event_parser *parser, const struct source *source,
                                  const char *bytes, size_t length, json_t *root,
                                  struct tally *tally)
{
    struct event event;
    struct error error;
    enum status status = parse_bytes(parser, bytes, length, &event, &error);
    /* jansson has no exact decimals and no calendar. */
    if (status == STATUS_REJECT && (strstr(error.text, "a time outside") != NULL ||
                                    strstr(error.text, decimal_status_text(DECIMAL_OVERFLOW)))) {
        tally->unknown++;
        return;
    }
    bool is_good = json_is_object(root);
    for (size_t i = 0; i < source->field_count; i++)
        is_good = is_good && is_acceptable(&source->fields[i], at_path(root, &source->fields[i]));
    if (is_good != (status == STATUS_OK))
        fail_for(bytes, length, is_good ? "rejected" : "accepted", error.text);
    if (is_good) {
        for (size_t i = 0; i < source->field_count; i++)
            compare_value(&event.fields[i], at_path(root, &source->fields[i]));
        tally->accepted++;
    } else {
        tally->rejected_fields++;
    }
}

static inline void compare_record(struct event_parser **parsers, struct event_parser *checker,
                                  const char *bytes, size_t length, struct tally *tally)
{
    struct event event;
    struct error error;
    json_error_t json_error;
    json_t *root = json_loadb(bytes, length, JSON_ALLOW_NUL, &json_error);
    if (root != NULL && memchr(bytes, '\0', length) != NULL) {
        json_decref(root); /* jansson 2.14 overlooks a zero byte behind a number */
        root = NULL;
    }
    enum status status = parse_bytes(checker, bytes, length, &event, &error);
    enum json_error_code code = root == NULL ? json_error_code(&json_error) : json_error_unknown;
    if (code == json_error_numeric_overflow || code == json_error_null_byte_in_key) {
        tally->unknown++; /* valid so far, but jansson cannot hold it and reads no further */
    } else if (json_is_object(root) != (status == STATUS_OK)) {
        fail_for(bytes, length, status == STATUS_OK ? "accepted" : "rejected",
                 root == NULL ? json_error.text : error.text);
    } else if (root == NULL) {
        tally->rejected_json++;
    } else {
        for (size_t i = 0; i < RANDOM_SOURCES; i++)
            compare_fields(parsers[i], &random_sources[i], bytes, length, root, tally);
    }
    json_decref(root);
}

#endif
