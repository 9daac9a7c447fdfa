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

#include "core/definition.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dedupe),
        cmocka_unit_test(test_dedupe_faults),
    };
    return cmocka_run_group_tests_name("rules of sources", tests, NULL, NULL);
}
