/* Sources, views and folders of them: what is read, and the exact text of every kind of fault. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/definitions/definition.h"

static struct error error;

/* JSON in which ' stands for ", for legibility; `^ stands for '. */
static json_t *json_of(const char *text)
{
    char *copy = strdup(text);
    json_error_t fault;

    assert_non_null(copy);
    for (char *c = copy; *c != '\0'; c++) {
        *c = (char)(*c == '\'' ? '"' : *c == '`' ? '\'' : *c);
    }
    json_t *json = json_loads(copy, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &fault);
    if (json == NULL) {
        fail_msg("%s: %s", copy, fault.text);
    }
    free(copy);
    return json;
}

static struct source *source_of(const char *text)
{
    struct source *source;
    json_t *json = json_of(text);
    enum status status = source_create(json, "sources/x.json", &source, &error);
    json_decref(json);
    assert_int_equal(source == NULL, status != STATUS_OK);
    assert_true(status == STATUS_OK || status == STATUS_REJECT);
    return source;
}

static struct view *view_of(const char *text, const struct source *source)
{
    struct view *view;
    json_t *json = json_of(text);
    enum status status = view_create(json, "views/x.json", source, &view, &error);
    json_decref(json);
    assert_int_equal(view == NULL, status != STATUS_OK);
    assert_true(status == STATUS_OK || status == STATUS_REJECT);
    return view;
}

/* --- sources --- */

static void test_short_source(void **state)
{
    (void)state;
    struct source *source = source_of(
        "{'source':'flights','topic':'flights.v1','event_time':{'field':'time','format':'rfc3339'},"
        "'fields':{'time':'timestamp','n':'integer','d':'decimal','s':'string','b':'boolean'}}");
    if (source == NULL) {
        fail_msg("%s", error.text);
    }
    assert_string_equal(source->name, "flights");
    assert_string_equal(source->topic, "flights.v1");
    assert_string_equal(source->dead_letter_topic, "flights.v1.dead");
    assert_int_equal(source->partitions, 3);
    assert_int_equal(source->field_count, 5);
    static const enum value_type types[] = {VALUE_TIMESTAMP, VALUE_INTEGER, VALUE_DECIMAL,
                                            VALUE_STRING, VALUE_BOOLEAN};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(source->fields[i].type, types[i]);
        assert_false(source->fields[i].nullable);
        assert_int_equal(source->fields[i].path_count, 1);
        assert_string_equal(source->fields[i].path[0], source->fields[i].name);
    }
    assert_int_equal(source->event_time_field, 0);
    assert_int_equal(source->event_time_format, TIME_RFC3339);
    source_destroy(source);
}

static void test_long_source(void **state)
{
    (void)state;
    struct source *source = source_of(
        "{'$schema':'x','description':'d','source':'a_2','topic':'T-1_x.y','partitions':12,"
        "'dead_letter_topic':'elsewhere','event_time':{'field':'at'},'fields':{"
        "'id':{'type':'string','path':'customer.id.value'},"
        "'dotted':{'type':'integer','path':['a.b','c'],'nullable':true},"
        "'at':{'type':'timestamp','format':'epoch_ms','nullable':false,'description':'when'},"
        "'sent':{'type':'timestamp','format':'epoch_us','path':'meta.sent'},"
        "'seen':{'type':'timestamp'}}}");
    if (source == NULL) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(source->partitions, 12);
    assert_string_equal(source->dead_letter_topic, "elsewhere");
    assert_int_equal(source->fields[0].path_count, 3);
    assert_string_equal(source->fields[0].path[0], "customer");
    assert_string_equal(source->fields[0].path[1], "id");
    assert_string_equal(source->fields[0].path[2], "value");
    assert_int_equal(source->fields[1].path_count, 2);
    assert_string_equal(source->fields[1].path[0], "a.b");
    assert_true(source->fields[1].nullable);
    assert_int_equal(source->event_time_field, 2);
    assert_int_equal(source->event_time_format, TIME_EPOCH_MS);
    assert_int_equal(source->fields[2].format, TIME_EPOCH_MS);
    assert_int_equal(source->fields[3].format, TIME_EPOCH_US);
    assert_int_equal(source->fields[4].format, TIME_RFC3339);
    source_destroy(source);
}

/* Each format with each type that can hold it. */
static void test_time_formats(void **state)
{
    (void)state;
    static const char *const formats[] = {"rfc3339", "epoch_s", "epoch_ms", "epoch_us"};
    static const char *const types[] = {"timestamp", "string", "integer", "decimal", "boolean"};
    char text[300], fault[200];

    for (int f = 0; f < 4; f++) {
        for (int t = 0; t < 5; t++) {
            bool fits = t == 0 || (f == 0 ? t == 1 : t == 2 || t == 3);
            snprintf(text, sizeof text,
                     "{'source':'s','topic':'t','event_time':{'field':'at','format':'%s'},"
                     "'fields':{'at':'%s'}}",
                     formats[f], types[t]);
            struct source *source = source_of(text);
            assert_int_equal(source != NULL, fits);
            if (fits) {
                assert_int_equal(source->event_time_format, TIME_RFC3339 + f);
            } else {
                snprintf(fault, sizeof fault,
                         "sources/x.json: event_time.format: does not go with field \"at\" of type "
                         "%s",
                         types[t]);
                assert_string_equal(error.text, fault);
            }
            source_destroy(source);
        }
    }
}

#define TOPIC "'source':'s','topic':'t'"
#define TIME "'event_time':{'field':'at','format':'epoch_s'}"
#define AT "'at':'timestamp'"
#define FIELD(json) "{" TOPIC "," TIME ",'fields':{" AT ",'f':" json "}}"
#define NAME_RULE "a lower-case letter, then up to 47 lower-case letters, digits and _"
#define PATH_RULE                                                                                  \
    "wants member names joined by dots, such as \"customer.id\", or an array of at most 32 of "    \
    "them"

static void test_bad_sources(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"[]", "wants an object"},
        {"'x'", "wants an object"},
        {"{}", "source: missing; wants a name"},
        {"{'sources':'s'}", "sources: unknown key"},
        {"{'source':5}", "source: wants a name"},
        {"{'source':'Flights'}", "source: \"Flights\" is not a name: " NAME_RULE},
        {"{'source':''}", "source: \"\" is not a name: " NAME_RULE},
        {"{'source':'_a'}", "source: \"_a\" is not a name: " NAME_RULE},
        {"{'source':'a-b'}", "source: \"a-b\" is not a name: " NAME_RULE},
        {"{'source':'a23456789012345678901234567890123456789012345678x'}",
         "source: \"a23456789012345678901234567890123456789012345678x\" is not a name: " NAME_RULE},
        {"{'source':'s'}", "topic: missing; wants a Kafka topic"},
        {"{'source':'s','topic':7}", "topic: wants a Kafka topic"},
        {"{'source':'s','topic':'a b'}", "topic: \"a b\" is not a topic name: up to 249 letters, "
                                         "digits, '.', '_' and '-'"},
        {"{'source':'s','topic':'..'}", "topic: \"..\" is not a topic name: up to 249 letters, "
                                        "digits, '.', '_' and '-'"},
        {"{" TOPIC ",'dead_letter_topic':'t'}", "dead_letter_topic: is the topic itself"},
        {"{" TOPIC ",'dead_letter_topic':null}", "dead_letter_topic: wants a Kafka topic"},
        {"{" TOPIC ",'dead_letter_topic':'?'}", "dead_letter_topic: \"?\" is not a topic name: up "
                                                "to 249 letters, digits, '.', '_' and '-'"},
        {"{" TOPIC ",'partitions':0}", "partitions: wants an integer from 1 to 10000"},
        {"{" TOPIC ",'partitions':10001}", "partitions: wants an integer from 1 to 10000"},
        {"{" TOPIC ",'partitions':'3'}", "partitions: wants an integer from 1 to 10000"},
        {"{" TOPIC ",'partitions':3.0}", "partitions: wants an integer from 1 to 10000"},
        {"{" TOPIC "}", "fields: wants an object with at least one field"},
        {"{" TOPIC ",'fields':{}}", "fields: wants an object with at least one field"},
        {"{" TOPIC ",'fields':['a']}", "fields: wants an object with at least one field"},
        {"{" TOPIC ",'fields':{'A':'string'}}",
         "fields.A: not a name: " NAME_RULE " (for another member name use \"path\")"},
        {FIELD("'text'"), "fields.f: wants \"string\", \"integer\", \"decimal\", \"boolean\", "
                          "\"timestamp\" or an object with \"type\""},
        {FIELD("null"), "fields.f: wants \"string\", \"integer\", \"decimal\", \"boolean\", "
                        "\"timestamp\" or an object with \"type\""},
        {FIELD("{}"), "fields.f: type: missing; wants a type"},
        {FIELD("{'type':'text'}"), "fields.f: type: there is no type \"text\""},
        {FIELD("{'type':'string','optional':true}"), "fields.f: optional: unknown key"},
        {FIELD("{'type':'string','nullable':'yes'}"), "fields.f: nullable: wants true or false"},
        {FIELD("{'type':'string','format':'rfc3339'}"),
         "fields.f: format: only a timestamp has one"},
        {FIELD("{'type':'timestamp','format':'iso'}"), "fields.f: format: wants \"rfc3339\", "
                                                       "\"epoch_s\", \"epoch_ms\" or \"epoch_us\""},
        {FIELD("{'type':'string','path':''}"), "fields.f: path: " PATH_RULE},
        {FIELD("{'type':'string','path':'a..b'}"), "fields.f: path: " PATH_RULE},
        {FIELD("{'type':'string','path':'a.'}"), "fields.f: path: " PATH_RULE},
        {FIELD("{'type':'string','path':[]}"), "fields.f: path: " PATH_RULE},
        {FIELD("{'type':'string','path':['a','']}"), "fields.f: path: " PATH_RULE},
        {FIELD("{'type':'string','path':['a',1]}"), "fields.f: path: " PATH_RULE},
        {FIELD("{'type':'string','path':5}"), "fields.f: path: " PATH_RULE},
        {FIELD("{'type':'string','path':'a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a."
               "a.a.a.a'}"),
         "fields.f: path: " PATH_RULE},
        {"{" TOPIC ",'fields':{" AT "}}",
         "event_time: wants an object with \"field\" and \"format\""},
        {"{" TOPIC ",'fields':{" AT "},'event_time':'at'}",
         "event_time: wants an object with \"field\" and \"format\""},
        {"{" TOPIC ",'fields':{" AT "},'event_time':{}}",
         "event_time: field: missing; wants a field's name"},
        {"{" TOPIC ",'fields':{" AT "},'event_time':{'field':'at','zone':'UTC'}}",
         "event_time: zone: unknown key"},
        {"{" TOPIC ",'fields':{" AT "},'event_time':{'field':'at','format':'iso'}}",
         "event_time: format: wants \"rfc3339\", \"epoch_s\", \"epoch_ms\" or \"epoch_us\""},
        {"{" TOPIC ",'fields':{" AT "},'event_time':{'field':'when','format':'rfc3339'}}",
         "event_time.field: there is no field \"when\""},
        {"{" TOPIC ",'fields':{'at':{'type':'timestamp','format':'epoch_s'}},"
         "'event_time':{'field':'at','format':'epoch_ms'}}",
         "event_time.format: differs from fields.at.format"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct source *source = source_of(cases[i][0]);
        if (source != NULL) {
            fail_msg("accepted: %s", cases[i][0]);
        }
        assert_memory_equal(error.text, "sources/x.json: ", 16);
        assert_string_equal(error.text + 16, cases[i][1]);
    }
}

static void test_longest_names(void **state)
{
    (void)state;
    struct source *source =
        source_of("{'source':'a2345678901234567890123456789012345678901234567z','topic':'t'," TIME
                  ",'fields':{" AT "}}");
    assert_non_null(source);
    source_destroy(source);
    char topic[300], text[500];
    memset(topic, 'x', 250);
    topic[249] = '\0';
    snprintf(text, sizeof text, "{'source':'s','topic':'%s'," TIME ",'fields':{" AT "}}", topic);
    assert_null(source_of(text)); /* with ".dead" it is too long */
    assert_non_null(strstr(error.text, "dead_letter_topic: "));
    topic[244] = '\0';
    snprintf(text, sizeof text, "{'source':'s','topic':'%s'," TIME ",'fields':{" AT "}}", topic);
    source = source_of(text);
    assert_non_null(source);
    source_destroy(source);
}

static void test_number_of_fields(void **state)
{
    (void)state;
    for (int count = SOURCE_FIELD_MAX; count <= SOURCE_FIELD_MAX + 1; count++) {
        json_t *fields = json_object();
        for (int i = 0; i < count; i++) {
            char name[16];
            snprintf(name, sizeof name, "f%d", i);
            json_object_set_new(fields, name, json_string("timestamp"));
        }
        json_t *json =
            json_pack("{s:s, s:s, s:{s:s, s:s}, s:o}", "source", "s", "topic", "t", "event_time",
                      "field", "f7", "format", "epoch_s", "fields", fields);
        struct source *source;
        bool fits = source_create(json, "x", &source, &error) == STATUS_OK;
        assert_int_equal(fits, count == SOURCE_FIELD_MAX);
        if (!fits) {
            assert_string_equal(error.text, "x: fields: more than 256");
        }
        source_destroy(source);
        json_decref(json);
    }
}

/* --- views --- */

static struct source *flights(void)
{
    struct source *source =
        source_of("{'source':'flights','topic':'flights'," TIME ",'fields':{" AT
                  ",'delay':{'type':'integer','nullable':true},'distance':'integer',"
                  "'origin':'string','destination':'string','order':'string','late':'boolean'}}");
    assert_non_null(source);
    return source;
}

static void test_views(void **state)
{
    (void)state;
    struct source *source = flights();
    struct view *view = view_of("{'view':'v','source':'flights','window':{'type':'tumbling','size':"
                                "'1h'},'measures':{'n':'count(*)'}}",
                                source);
    if (view == NULL) {
        fail_msg("%s", error.text);
    }
    assert_null(view->where);
    assert_null(view->where_text);
    assert_int_equal(view->key_count, 0);
    assert_int_equal(view->measure_count, 1);
    assert_ptr_equal(view->source, source);
    view_destroy(view);

    view = view_of("{'$schema':'x','description':'d','view':'delay_by_route','source':'flights',"
                   "'where':'distance > 0 AND NOT late','group_by':['origin',{'name':'route',"
                   "'expr':'origin || `-` || destination','description':'d'},'order'],"
                   "'window':{'type':'tumbling','size':'15m'},"
                   "'measures':{'n':'count(*)','worst':'max(delay)',"
                   "'mean':'avg(delay) FILTER (WHERE delay > 0)'}}",
                   source);
    if (view == NULL) {
        fail_msg("%s", error.text);
    }
    assert_string_equal(view->name, "delay_by_route");
    assert_string_equal(view->where_text, "distance > 0 AND NOT late");
    assert_int_equal(view->key_count, 3);
    assert_string_equal(view->keys[0].name, "origin");
    assert_string_equal(view->keys[0].text, "\"origin\"");
    assert_string_equal(view->keys[1].name, "route");
    assert_string_equal(view->keys[1].text, "origin || '-' || destination");
    assert_string_equal(view->keys[2].text, "\"order\"");
    assert_int_equal(view->measure_count, 3);
    assert_string_equal(view->measures[0].name, "n"); /* in the order they are written in */
    assert_string_equal(view->measures[1].name, "worst");
    assert_string_equal(view->measures[2].name, "mean");
    assert_string_equal(view->measures[2].text, "avg(delay) FILTER (WHERE delay > 0)");
    size_t end = 0;
    for (size_t i = 0; i < 3; i++) {
        size_t bytes = view->measures[i].measure->state_bytes;
        assert_int_equal(view->state_offsets[i] % (bytes % 16 == 0 ? 16 : bytes & -bytes), 0);
        assert_true(view->state_offsets[i] >= end);
        end = view->state_offsets[i] + view->measures[i].measure->state_bytes;
    }
    assert_true(view->state_bytes >= end);
    view_destroy(view);
    source_destroy(source);
}

#define VIEW(json) "{'view':'v','source':'flights'," json "}"
#define WINDOW "'window':{'type':'tumbling','size':'1h'}"
#define REST WINDOW ",'measures':{'n':'count(*)'}"
#define MEASURE(name, text) VIEW(WINDOW ",'measures':{'" name "':" text "}")

static void test_bad_views(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"[]", "wants an object"},
        {"{}", "view: missing; wants a name"},
        {"{'view':'v'}", "source: missing; wants a name"},
        {"{'view':'V','source':'flights'}", "view: \"V\" is not a name: " NAME_RULE},
        {"{'view':'v','source':'other'}", "source: \"other\" is not \"flights\""},
        {VIEW("'having':'n > 1'," REST), "having: unknown key"},
        {VIEW("'where':5," REST), "where: wants an SQL condition"},
        {VIEW("'where':null," REST), "where: wants an SQL condition"},
        {VIEW("'where':''," REST), "where: column 1: wants a value, found the end"},
        {VIEW("'where':'delay'," REST), "where: column 1: wants a condition, found type integer"},
        {VIEW("'where':'late AND delay > x'," REST),
         "where: column 18: source \"flights\" has no field \"x\""},
        {VIEW("'group_by':'origin'," REST), "group_by: wants an array"},
        {VIEW("'group_by':[5]," REST),
         "group_by[0]: wants a field's name or an object with \"name\" and \"expr\""},
        {VIEW("'group_by':['origin','gate']," REST),
         "group_by[1]: column 1: source \"flights\" has no field \"gate\""},
        {VIEW("'group_by':['lower(origin)']," REST),
         "group_by[0]: \"lower(origin)\" is not a field's name; for an expression write {\"name\": "
         "..., \"expr\": ...}"},
        {VIEW("'group_by':['origin','origin']," REST), "group_by[1]: the name \"origin\" is taken"},
        {VIEW("'group_by':[{'name':'k'}]," REST),
         "group_by[0]: expr: missing; wants an SQL expression"},
        {VIEW("'group_by':[{'expr':'1'}]," REST), "group_by[0]: name: missing; wants a name"},
        {VIEW("'group_by':[{'name':'K','expr':'1'}]," REST),
         "group_by[0]: name: \"K\" is not a name: " NAME_RULE},
        {VIEW("'group_by':[{'name':'k','expr':'1','as':'x'}]," REST),
         "group_by[0]: as: unknown key"},
        {VIEW("'group_by':['late',{'name':'k','expr':'origin ||'}]," REST),
         "group_by[1]: expr: column 10: wants a value, found the end"},
        {VIEW("'group_by':[{'name':'window_start','expr':'1'}]," REST),
         "group_by[0]: the name \"window_start\" is taken"},
        {VIEW("'group_by':[{'name':'ctid','expr':'1'}]," REST),
         "group_by[0]: the name \"ctid\" is taken"},
        {VIEW("'measures':{'n':'count(*)'}"),
         "window: wants an object such as {\"type\": \"tumbling\", \"size\": \"1h\"}"},
        {VIEW("'window':{'type':'tumbling','size':'1 hour'},'measures':{'n':'count(*)'}"),
         "window: size: wants a duration such as \"15m\", \"1h\" or \"1d\""},
        {VIEW(WINDOW), "measures: wants an object with at least one measure"},
        {VIEW(WINDOW ",'measures':{}"), "measures: wants an object with at least one measure"},
        {VIEW(WINDOW ",'measures':['count(*)']"),
         "measures: wants an object with at least one measure"},
        {MEASURE("n", "5"), "measures.n: wants a measure such as \"sum(delay)\""},
        {MEASURE("N", "'count(*)'"), "measures.N: not a name: " NAME_RULE},
        {MEASURE("provisional", "'count(*)'"),
         "measures.provisional: the name \"provisional\" is taken"},
        {MEASURE("xmin", "'min(delay)'"), "measures.xmin: the name \"xmin\" is taken"},
        {VIEW("'group_by':['origin']," WINDOW ",'measures':{'origin':'count(*)'}"),
         "measures.origin: the name \"origin\" is taken"},
        {MEASURE("m", "'sum(origin)'"),
         "measures.m: column 1: sum: wants one argument, an integer or a decimal"},
        {MEASURE("m", "'sum(delay) FILTER (WHERE delay)'"),
         "measures.m: column 26: WHERE wants a boolean, found type integer"},
        {MEASURE("m", "'max(delay + origin)'"),
         "measures.m: column 11: + wants numbers, found type string"},
    };
    struct source *source = flights();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct view *view = view_of(cases[i][0], source);
        if (view != NULL) {
            fail_msg("accepted: %s", cases[i][0]);
        }
        assert_memory_equal(error.text, "views/x.json: ", 14);
        assert_string_equal(error.text + 14, cases[i][1]);
    }
    source_destroy(source);
}

static void test_number_of_keys_and_measures(void **state)
{
    (void)state;
    struct source *source = flights();
    for (int extra = 0; extra < 3; extra++) {
        json_t *keys = json_array(), *measures = json_object();
        struct view *view;
        char name[16];
        for (int i = 0; i < VIEW_KEY_MAX + (extra == 1); i++) {
            snprintf(name, sizeof name, "k%d", i);
            json_array_append_new(keys, json_pack("{s:s, s:s}", "name", name, "expr", "delay"));
        }
        for (int i = 0; i < VIEW_MEASURE_MAX + (extra == 2); i++) {
            snprintf(name, sizeof name, "m%d", i);
            json_object_set_new(measures, name, json_string("avg(delay)"));
        }
        json_t *json = json_pack("{s:s, s:s, s:o, s:{s:s, s:s}, s:o}", "view", "v", "source",
                                 "flights", "group_by", keys, "window", "type", "tumbling", "size",
                                 "1h", "measures", measures);
        assert_int_equal(view_create(json, "x", source, &view, &error),
                         extra == 0 ? STATUS_OK : STATUS_REJECT);
        if (extra > 0) {
            assert_string_equal(error.text, extra == 1 ? "x: group_by: more than 16 keys"
                                                       : "x: measures: more than 64");
        }
        view_destroy(view);
        json_decref(json);
    }
    source_destroy(source);
}

/* Equal where the rows are, whatever comments and white space say. */
static void test_canonical_text(void **state)
{
    (void)state;
    static const char *const same[] = {
        VIEW("'group_by':['origin']," REST),
        "{" REST ",'group_by':['origin'],'description':'x','source':'flights','view':'v'}",
    };
    static const char *const others[] = {
        VIEW("'group_by':['destination']," REST),
        VIEW("'where':'late','group_by':['origin']," REST),
        VIEW("'group_by':['origin'],'window':{'type':'tumbling','size':'2h'},"
             "'measures':{'n':'count(*)'}"),
        VIEW("'group_by':['origin']," WINDOW ",'measures':{'n':'count(delay)'}"),
    };
    struct source *source = flights();
    char *texts[6];
    for (size_t i = 0; i < 6; i++) {
        struct view *view = view_of(i < 2 ? same[i] : others[i - 2], source);
        assert_non_null(view);
        texts[i] = view_canonical_text(view);
        assert_non_null(texts[i]);
        view_destroy(view);
    }
    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_int_equal(strcmp(texts[i], texts[j]) == 0, i < 2 && j < 2);
        }
    }
    for (size_t i = 0; i < 6; i++) {
        free(texts[i]);
    }
    source_destroy(source);
}

/* The rules of a time zone are part of what a view computes. */
/* Rules of zones in expressions are part of it, wherever the expression stands. */
static void test_canonical_text_of_expressions_zones(void **state)
{
    (void)state;
    static const char *const views[] = {
        "{'view':'v','source':'flights','window':{'type':'none'},'measures':{'n':'count(*)'}}",
        "{'view':'v','source':'flights','window':{'type':'none'},'measures':{'n':'count(*)'},"
        "'where':'date_trunc(`day`, at, `UTC`) < at'}",
        "{'view':'v','source':'flights','window':{'type':'none'},'measures':{'n':'count(*)'},"
        "'where':'1 < EXTRACT(hour FROM at AT TIME ZONE `Europe/Berlin`)'}",
        "{'view':'v','source':'flights','window':{'type':'none'},'measures':{'n':'count(*)'},"
        "'group_by':[{'name':'k','expr':'date_trunc(`day`, at, `Europe/Berlin`)'}]}",
        "{'view':'v','source':'flights','window':{'type':'none'},'measures':{'n':"
        "'min(date_trunc(`day`, at, `Europe/Berlin`))'}}",
        "{'view':'v','source':'flights','window':{'type':'none'},'measures':{'n':"
        "'count(*) FILTER (WHERE date_trunc(`day`, at, `Europe/Berlin`) = at)'}}",
    };
    struct source *source = flights();
    for (size_t i = 0; i < sizeof views / sizeof views[0]; i++) {
        struct view *view = view_of(views[i], source);
        if (view == NULL)
            fail_msg("%s", error.text);
        char *text = view_canonical_text(view);
        assert_int_equal(strstr(text, "\"expression_timezone_rules\":\"") != NULL, i >= 2);
        free(text);
        view_destroy(view);
    }
    source_destroy(source);
}

static void test_canonical_text_of_zones(void **state)
{
    (void)state;
    static const char *const windows[] = {"'timezone':'America/New_York'",
                                          "'timezone':'US/Eastern'", "'timezone':'UTC'"};
    struct source *source = flights();
    char *rules[3];
    for (size_t i = 0; i < 3; i++) {
        char text[300];
        snprintf(text, sizeof text,
                 "{'view':'v','source':'flights','window':{'type':'tumbling','size':'1d',%s},"
                 "'measures':{'n':'count(*)'}}",
                 windows[i]);
        struct view *view = view_of(text, source);
        assert_non_null(view);
        char *canonical = view_canonical_text(view);
        const char *found = strstr(canonical, "\"timezone_rules\":\"");
        rules[i] = found != NULL ? strndup(found, 36) : NULL;
        free(canonical);
        view_destroy(view);
    }
    assert_non_null(rules[0]);
    assert_string_equal(rules[0], rules[1]); /* two names of one zone */
    assert_null(rules[2]);
    free(rules[0]);
    free(rules[1]);
    source_destroy(source);
}

/* --- folders --- */

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test_definition.XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static void put_file(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (; *text != '\0'; text++) {
        fputc(*text == '\'' ? '"' : *text, file);
    }
    assert_int_equal(fclose(file), 0);
}

static void make_subfolders(void)
{
    char path[200];
    snprintf(path, sizeof path, "%s/sources", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/views", folder);
    assert_int_equal(mkdir(path, 0700), 0);
}

struct faults {
    char texts[16][300];
    size_t count;
};

static void note_fault(const char *text, void *context)
{
    struct faults *faults = context;
    assert_true(faults->count < 16);
    snprintf(faults->texts[faults->count++], sizeof faults->texts[0], "%s", text);
}

static const char good_source[] = "{" TOPIC "," TIME ",'fields':{" AT "}}";
static const char good_view[] = "{'view':'v','source':'s'," REST "}";

static void test_good_folder(void **state)
{
    (void)state;
    struct definitions all;
    make_subfolders();
    put_file("sources/b.json", good_source);
    put_file("sources/a.json", "{'source':'other','topic':'u'," TIME ",'fields':{" AT "}}");
    put_file("sources/.hidden.json", "{");
    put_file("sources/README.md", "not a definition");
    put_file("views/v.json", good_view);
    put_file("views/u.json", "{'view':'u','source':'other'," REST "}");
    assert_int_equal(definitions_load(folder, &all, NULL, NULL, &error), STATUS_OK);
    assert_int_equal(all.source_count, 2);
    assert_string_equal(all.sources[0]->name, "other");
    assert_int_equal(all.view_count, 2);
    assert_string_equal(all.views[0]->name, "u");
    assert_ptr_equal(all.views[1]->source, all.sources[1]);
    definitions_deinit(&all);
}

/* One fault for each bad file, all of them told. */
static void test_bad_folder(void **state)
{
    (void)state;
    struct definitions all;
    struct faults faults = {0};
    make_subfolders();
    put_file("sources/a.json", good_source);
    put_file("sources/b.json", good_source);
    put_file("sources/c.json", "{'source':'c','topic':'t.dead'," TIME ",'fields':{" AT "}}");
    put_file("sources/d.json", "{'source':'d',\n 'topic':}");
    put_file("sources/e.json", "{'source':'e','source':'f'}");
    put_file("views/a.json", good_view);
    put_file("views/b.json", good_view);
    put_file("views/c.json", "{'view':'c','source':'d'," REST "}");
    put_file("views/d.json", "[]");
    put_file("views/e.json", "{'view':'e','source':'s','where':'at >'," REST "}");
    put_file("views/f.json", "{'view':'f','source':'f'," REST "}");
    assert_int_equal(definitions_load(folder, &all, note_fault, &faults, &error), STATUS_REJECT);
    static const char *const wanted[] = {
        "sources/b.json: source: \"s\" is defined twice",
        "sources/c.json: topic: source \"s\" has the topic already",
        "sources/d.json: line 2, column 10: ",
        "sources/e.json: line 1, column 22: duplicate object key",
        "views/b.json: view: \"v\" is defined twice",
        "views/c.json: cannot be checked while source \"d\" has a fault",
        "views/d.json: wants an object",
        "views/e.json: where: column 5: wants a value, found the end",
        "views/f.json: source: there is no source \"f\"",
    };
    assert_int_equal(faults.count, 9);
    for (size_t i = 0; i < 9; i++) {
        if (strncmp(faults.texts[i], wanted[i], strlen(wanted[i])) != 0) {
            fail_msg("%s, wanted %s", faults.texts[i], wanted[i]);
        }
    }
    char text[100];
    snprintf(text, sizeof text, "%s: 9 faults in the definitions", folder);
    assert_string_equal(error.text, text);
    definitions_deinit(&all);
}

static void test_missing_folder(void **state)
{
    (void)state;
    struct definitions all;
    struct faults faults = {0};
    assert_int_equal(definitions_load("/nonexistent/x", &all, note_fault, &faults, &error),
                     STATUS_REJECT);
    assert_int_equal(faults.count, 2);
    assert_string_equal(faults.texts[0],
                        "/nonexistent/x/sources: cannot be read: No such file or directory");
    definitions_deinit(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_source),
        cmocka_unit_test(test_long_source),
        cmocka_unit_test(test_time_formats),
        cmocka_unit_test(test_bad_sources),
        cmocka_unit_test(test_longest_names),
        cmocka_unit_test(test_number_of_fields),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_bad_views),
        cmocka_unit_test(test_number_of_keys_and_measures),
        cmocka_unit_test(test_canonical_text),
        cmocka_unit_test(test_canonical_text_of_zones),
        cmocka_unit_test(test_canonical_text_of_expressions_zones),
        cmocka_unit_test_setup_teardown(test_good_folder, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_bad_folder, make_folder, remove_folder),
        cmocka_unit_test(test_missing_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
