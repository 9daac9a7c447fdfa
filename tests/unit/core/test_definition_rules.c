/* What a source says beyond its fields: what is read, and the exact text of every kind of fault. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/definitions/definition.h"
#include "core/records/event_parser.h"
#include "core/groups.h"

static struct error error;

/* A source with fields of each type and more members; ' stands for ". */
static struct source *source_with(const char *members)
{
    char text[2000];
    snprintf(text, sizeof text,
             "{'source':'s','topic':'t','event_time':{'field':'at','format':'epoch_s'},"
             "'fields':{'at':'integer','id':'string','n':'integer','price':'decimal',"
             "'paid':'boolean','seen':'timestamp',"
             "'email':{'type':'string','nullable':true,'path':'user.email'},"
             "'amount':{'type':'integer','nullable':true}}%s%s}",
             members[0] == '\0' ? "" : ",", members);
    for (char *c = text; *c != '\0'; c++)
        *c = (char)(*c == '\'' ? '"' : *c);
    json_error_t fault;
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &fault);
    if (json == NULL)
        fail_msg("%s: %s", text, fault.text);
    struct source *source;
    enum status status = source_create(json, "x.json", &source, &error);
    json_decref(json);
    assert_true((source != NULL) == (status == STATUS_OK));
    return source;
}

static struct source *good(const char *members)
{
    struct source *source = source_with(members);
    if (source == NULL)
        fail_msg("%s: %s", members, error.text);
    return source;
}

struct fault {
    const char *members;
    const char *text;
};

static void check_faults(const struct fault *faults, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct source *source = source_with(faults[i].members);
        if (source != NULL)
            fail_msg("accepted: %s", faults[i].members);
        assert_int_equal(error.status, STATUS_REJECT);
        assert_string_equal(error.text, faults[i].text);
    }
}

static char *canonical(const char *members)
{
    struct source *source = good(members);
    struct view *view;
    json_t *json =
        json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "view", "v", "source", "s", "window", "type",
                  "tumbling", "size", "1h", "measures", "c", "count(*)");
    assert_int_equal(view_create(json, "v.json", source, &view, &error), STATUS_OK);
    char *text = view_canonical_text(view);
    assert_non_null(text);
    view_destroy(view);
    source_destroy(source);
    json_decref(json);
    return text;
}

/* Is a view over the one source another version than over the other? */
static bool differ(const char *a, const char *b)
{
    char *left = canonical(a);
    char *right = canonical(b);
    bool different = strcmp(left, right) != 0;
    free(left);
    free(right);
    return different;
}

static void test_dedupe(void **state)
{
    (void)state;
    struct source *source = good("");
    assert_int_equal(source->dedupe_within, 0);
    source_destroy(source);
    source = good("'dedupe':{'field':'id','within':1}");
    assert_int_equal(source->dedupe_within, 1);
    assert_string_equal(source->fields[source->dedupe_field].name, "id");
    source_destroy(source);
    source = good("'dedupe':{'within':100000000,'field':'amount','description':'x'}");
    assert_int_equal(source->dedupe_within, 100000000);
    source_destroy(source);
    assert_true(differ("", "'dedupe':{'field':'id','within':5}"));
    assert_true(differ("'dedupe':{'field':'id','within':6}", "'dedupe':{'field':'id','within':5}"));
    assert_false(
        differ("'dedupe':{'within':5,'field':'id'}", "'dedupe':{'field':'id','within':5}"));
}

static void test_dedupe_faults(void **state)
{
    (void)state;
    static const char within[] = "x.json: dedupe: within: wants a number of offsets, an integer "
                                 "from 1 to 100000000";
    static const struct fault faults[] = {
        {"'dedupe':5", "x.json: dedupe: wants an object with \"field\" and \"within\""},
        {"'dedupe':{'within':5}", "x.json: dedupe: field: missing; wants a field's name"},
        {"'dedupe':{'field':5,'within':5}", "x.json: dedupe: field: wants a field's name"},
        {"'dedupe':{'field':'no','within':5}", "x.json: dedupe: field: there is no field \"no\""},
        {"'dedupe':{'field':'price','within':5}",
         "x.json: dedupe: field: \"price\" is of type decimal; an id is a string or an integer"},
        {"'dedupe':{'field':'id','within':5,'window':'1h'}", "x.json: dedupe: window: unknown key"},
        {"'dedupe':{'field':'id'}", within},
        {"'dedupe':{'field':'id','within':0}", within},
        {"'dedupe':{'field':'id','within':100000001}", within},
        {"'dedupe':{'field':'id','within':'5'}", within},
        {"'dedupe':{'field':'id','within':5.0}", within},
    };
    check_faults(faults, sizeof faults / sizeof faults[0]);
}

/* --- derive --- */

static const struct source_field *field_of(const struct source *source, const char *name)
{
    for (size_t i = 0; i < source->field_count; i++)
        if (strcmp(source->fields[i].name, name) == 0)
            return &source->fields[i];
    fail_msg("no field %s", name);
    return NULL;
}

/* The text of a literal in a JSON text with ' for ": SQL's own quote is \u0027. */
static struct source *derived_source(const char *more)
{
    char members[600];
    snprintf(members, sizeof members,
             "'derive':{'total':'price * n','half':'total / 2 + n',"
             "'label':'id || \\u0027/\\u0027 || email','share':'n / amount'}%s",
             more);
    return good(members);
}

static void test_derive(void **state)
{
    (void)state;
    struct source *source = derived_source("");
    assert_int_equal(source->field_count, 12);
    assert_int_equal(source->derived_count, 4);
    assert_int_equal(field_of(source, "total")->type, VALUE_DECIMAL);
    assert_false(field_of(source, "total")->nullable);
    assert_int_equal(field_of(source, "half")->type, VALUE_DECIMAL);
    assert_int_equal(field_of(source, "label")->type, VALUE_STRING);
    assert_true(field_of(source, "label")->nullable);
    assert_int_equal(field_of(source, "share")->type, VALUE_INTEGER);
    assert_true(field_of(source, "share")->nullable);
    source_destroy(source);
    assert_true(differ("", "'derive':{'a':'n'}"));
    assert_true(differ("'derive':{'a':'n + 1'}", "'derive':{'a':'n'}"));
    source = good("'derive':{'key':'id || id'},'dedupe':{'field':'key','within':5}");
    assert_string_equal(source->fields[source->dedupe_field].name, "key");
    source_destroy(source);
}

static void test_nullability(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool nullable;
    } cases[] = {
        {"n", false},
        {"amount", true},
        {"n + amount", true},
        {"-n", false},
        {"n + 1", false},
        {"amount IS NULL", false},
        {"(amount > 1) IS TRUE", false},
        {"amount IS DISTINCT FROM 1", false},
        {"amount = 1", true},
        {"n IN (1, amount)", true},
        {"n IN (1, 2)", false},
        {"n BETWEEN 1 AND amount", true},
        {"NOT paid", false},
        {"paid AND amount > 1", true},
        {"COALESCE(amount, n)", false},
        {"COALESCE(amount, amount)", true},
        {"CASE WHEN amount > 1 THEN 1 ELSE 2 END", false},
        {"CASE WHEN paid THEN 1 END", true},
        {"CASE WHEN paid THEN amount ELSE 1 END", true},
        {"CASE amount WHEN 1 THEN n ELSE 2 END", false},
        {"CASE n WHEN 1 THEN 1 WHEN 2 THEN amount ELSE 2 END", true},
        {"n * 1.5", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char members[200];
        snprintf(members, sizeof members, "'derive':{'x':'%s'}", cases[i].text);
        struct source *source = good(members);
        if (field_of(source, "x")->nullable != cases[i].nullable)
            fail_msg("%s", cases[i].text);
        source_destroy(source);
    }
}

static enum status parse_text(struct event_parser *parser, const char *json, struct event *event)
{
    return event_parser_parse(parser, json, strlen(json), strlen(json), event, &error);
}

static void test_derived_values(void **state)
{
    (void)state;
    struct source *source = derived_source(",'drop_if_null':['share']");
    struct event_parser *parser;
    struct event event;
    assert_int_equal(event_parser_create(source, &parser, &error), STATUS_OK);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(
            parse_text(parser,
                       "{\"at\":1,\"id\":\"a\",\"n\":7,\"price\":1.50,\"paid\":true,\"seen\":"
                       "\"2001-01-01T00:00:00Z\",\"user\":{\"email\":\"e\"},\"amount\":2}",
                       &event),
            STATUS_OK);
        const struct value *derived = event.fields + 8;
        struct decimal total = {.coefficient = 105, .scale = 1};
        struct decimal half = {.coefficient = 1225, .scale = 2};
        assert_int_equal(decimal_compare(&derived[0].decimal, &total), 0);
        assert_int_equal(decimal_compare(&derived[1].decimal, &half), 0);
        assert_int_equal(derived[2].string.length, 3);
        assert_memory_equal(derived[2].string.data, "a/e", 3);
        assert_int_equal(derived[3].integer, 3);
        assert_false(event.is_dropped);
        /* NULL where a part is; dropped for it, which is no fault. */
        assert_int_equal(
            parse_text(parser,
                       "{\"at\":1,\"id\":\"a\",\"n\":7,\"price\":1.50,\"paid\":true,\"seen\":"
                       "\"2001-01-01T00:00:00Z\"}",
                       &event),
            STATUS_OK);
        assert_true(event.fields[10].is_null && event.fields[11].is_null);
        assert_true(event.is_dropped);
        assert_int_equal(
            parse_text(parser,
                       "{\"at\":1,\"id\":\"a\",\"n\":7,\"price\":1.50,\"paid\":true,\"seen\":"
                       "\"2001-01-01T00:00:00Z\",\"amount\":0}",
                       &event),
            STATUS_REJECT);
        assert_string_equal(error.text, "derive.share: division by zero");
    }
    event_parser_destroy(parser);
    source_destroy(source);
}

static void test_derive_faults(void **state)
{
    (void)state;
    static const struct fault faults[] = {
        {"'derive':5", "x.json: derive: wants an object with names and SQL expressions"},
        {"'derive':{'A':'n'}", "x.json: derive.A: not a name: a lower-case letter, then up to 47 "
                               "lower-case letters, digits and _"},
        {"'derive':{'id':'n'}", "x.json: derive.id: there is a field of that name already"},
        {"'derive':{'x':5}", "x.json: derive.x: wants an SQL expression"},
        {"'derive':{'x':'y','y':'n'}",
         "x.json: derive.x: column 1: source \"s\" has no field \"y\""},
        {"'derive':{'x':'n + x'}", "x.json: derive.x: column 5: source \"s\" has no field \"x\""},
    };
    check_faults(faults, sizeof faults / sizeof faults[0]);
    assert_null(source_with("'derive':{'x':'n + '}"));
    assert_non_null(strstr(error.text, "x.json: derive.x: column "));
}

/* --- mask --- */

static void test_mask(void **state)
{
    (void)state;
    struct source *source = good("'mask':{'fields':['email','id'],'key_file':'/k','key':true}");
    assert_int_equal(source->mask_count, 2);
    assert_string_equal(source->fields[source->mask_fields[0]].name, "email");
    assert_string_equal(source->fields[source->mask_fields[1]].name, "id");
    assert_string_equal(source->mask_key_file, "/k");
    assert_true(source->mask_key);
    source_destroy(source);
    assert_true(differ("", "'mask':{'fields':['id'],'key_file':'/k'}"));
    static const struct fault faults[] = {
        {"'mask':5", "x.json: mask: wants an object with \"fields\" and \"key_file\""},
        {"'mask':{'key_file':'/k'}",
         "x.json: mask: fields: wants an array of 1 to 64 fields' names"},
        {"'mask':{'fields':[],'key_file':'/k'}",
         "x.json: mask: fields: wants an array of 1 to 64 fields' names"},
        {"'mask':{'fields':[1],'key_file':'/k'}", "x.json: mask: fields[0]: wants a field's name"},
        {"'mask':{'fields':['id','no'],'key_file':'/k'}",
         "x.json: mask: fields[1]: there is no field \"no\" in \"fields\""},
        {"'mask':{'fields':['id','id'],'key_file':'/k'}",
         "x.json: mask: fields[1]: field \"id\" is named twice"},
        {"'mask':{'fields':['amount'],'key_file':'/k'}",
         "x.json: mask: fields[0]: field \"amount\" is of type integer; strings are masked"},
        {"'derive':{'x':'id || id'},'mask':{'fields':['x'],'key_file':'/k'}",
         "x.json: mask: fields[0]: there is no field \"x\" in \"fields\""},
        {"'mask':{'fields':['id']}", "x.json: mask: key_file: missing; wants the path of a file"},
        {"'mask':{'fields':['id'],'key_file':'k'}",
         "x.json: mask: key_file: wants a path that begins with /"},
        {"'mask':{'fields':['id'],'key_file':'/k','key':1}",
         "x.json: mask: key: wants true or false"},
        {"'mask':{'fields':['id'],'key_file':'/k','salt':1}", "x.json: mask: salt: unknown key"},
    };
    check_faults(faults, sizeof faults / sizeof faults[0]);
}

/* What is masked under one name must not be read under another, and the time is no secret. */
static void test_mask_paths(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {"\"a\":\"string\",\"b\":{\"type\":\"string\",\"path\":\"a\"}",
         "x.json: mask: fields: field \"b\" has the path of \"a\" and is not masked"},
        {"\"a\":\"string\"", NULL},
    };
    for (size_t i = 0; i < 2; i++) {
        char text[400];
        struct source *source;
        snprintf(text, sizeof text,
                 "{\"source\":\"s\",\"topic\":\"t\",\"event_time\":{\"field\":\"at\"},\"fields\":"
                 "{\"at\":\"string\",%s},\"mask\":{\"fields\":[\"%s\"],\"key_file\":\"/k\"}}",
                 texts[i][0], i == 0 ? "a" : "at");
        json_t *json = json_loads(text, 0, NULL);
        assert_int_equal(source_create(json, "x.json", &source, &error), STATUS_REJECT);
        assert_string_equal(error.text, i == 0 ? texts[0][1]
                                               : "x.json: mask: fields[0]: field \"at\" is the "
                                                 "event's time");
        json_decref(json);
    }
}

/* --- drop_if_null --- */

static void test_drop_if_null(void **state)
{
    (void)state;
    struct source *source = good("'drop_if_null':['amount','email']");
    assert_int_equal(source->drop_if_null_count, 2);
    source_destroy(source);
    assert_true(differ("", "'drop_if_null':['amount']"));
    static const struct fault faults[] = {
        {"'drop_if_null':'amount'", "x.json: drop_if_null: wants an array of fields' names"},
        {"'drop_if_null':[]", "x.json: drop_if_null: wants an array of fields' names"},
        {"'drop_if_null':[5]", "x.json: drop_if_null[0]: wants a field's name"},
        {"'drop_if_null':['amount','no']", "x.json: drop_if_null[1]: there is no field \"no\""},
        {"'drop_if_null':['n']", "x.json: drop_if_null[0]: field \"n\" is never NULL"},
        {"'derive':{'x':'n + 1'},'drop_if_null':['x']",
         "x.json: drop_if_null[0]: field \"x\" is never NULL"},
    };
    check_faults(faults, sizeof faults / sizeof faults[0]);
}

/* A view filters what is dropped, also where its own expressions would fail. */
static void test_dropped_is_filtered(void **state)
{
    (void)state;
    struct source *source = good("'drop_if_null':['amount']");
    struct view *view;
    struct groups *groups;
    struct measure_origin origin = {0};
    enum fold_outcome outcome;
    json_t *json = json_pack("{s:s, s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "view", "v", "source", "s",
                             "where", "1 / (n - n) > 0", "window", "type", "tumbling", "size", "1h",
                             "measures", "c", "count(*)");
    assert_int_equal(view_create(json, "v.json", source, &view, &error), STATUS_OK);
    assert_int_equal(groups_create(view, &groups, &error), STATUS_OK);
    struct value fields[8] = {[2] = value_integer(4), [7] = value_null(VALUE_INTEGER)};
    struct event event = {.fields = fields, .is_dropped = true};
    assert_int_equal(groups_fold(groups, &event, &origin, &outcome, &error), STATUS_OK);
    assert_int_equal(outcome, FOLD_FILTERED);
    event.is_dropped = false;
    assert_int_equal(groups_fold(groups, &event, &origin, &outcome, &error), STATUS_REJECT);
    groups_destroy(groups);
    view_destroy(view);
    source_destroy(source);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dedupe),         cmocka_unit_test(test_dedupe_faults),
        cmocka_unit_test(test_derive),         cmocka_unit_test(test_nullability),
        cmocka_unit_test(test_derived_values), cmocka_unit_test(test_derive_faults),
        cmocka_unit_test(test_mask),           cmocka_unit_test(test_mask_paths),
        cmocka_unit_test(test_drop_if_null),   cmocka_unit_test(test_dropped_is_filtered),
    };
    return cmocka_run_group_tests_name("rules of sources", tests, NULL, NULL);
}
