/* Lookups of a view: what is read, and the exact text of every kind of fault. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog_lookup.h"
#include "core/catalog/catalog_tables.h"
#include "core/definitions/definition.h"

static struct error error;
static struct source *source;

/* `start`, `middle`, then "}"; ' stands for ". */
static json_t *json_of(const char *start, const char *middle)
{
    char text[6000];
    json_error_t fault;
    snprintf(text, sizeof text, "%s%s}", start, middle);
    for (char *c = text; *c != '\0'; c++)
        *c = (char)(*c == '\'' ? '"' : *c);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &fault);
    if (json == NULL)
        fail_msg("%s: %s", text, fault.text);
    return json;
}

/* A view with the keys origin, route and number, and the lookups. */
static struct view *view_with(const char *lookups)
{
    struct view *view = NULL;
    json_t *json =
        json_of("{'view':'v','source':'s','group_by':['origin',{'name':'route','expr':'origin || "
                "origin'},'number'],'window':{'type':'tumbling','size':'1h'},"
                "'measures':{'c':'count(*)'}",
                lookups);
    enum status status = view_create(json, "views/v.json", source, &view, &error);
    json_decref(json);
    assert_true((view != NULL) == (status == STATUS_OK));
    return view;
}

static struct view *good(const char *lookups)
{
    struct view *view = view_with(lookups);
    if (view == NULL)
        fail_msg("%s: %s", lookups, error.text);
    return view;
}

static int set_up(void **state)
{
    (void)state;
    json_t *json =
        json_of("{'source':'s','topic':'t','event_time':{'field':'at','format':'epoch_s'},"
                "'fields':{'at':'integer','origin':'string','number':'integer'}",
                "");
    assert_int_equal(source_create(json, "s.json", &source, &error), STATUS_OK);
    json_decref(json);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    source_destroy(source);
    return 0;
}

static void test_lookups_are_read(void **state)
{
    (void)state;
    struct view *view =
        good(",'lookup':[{'table':'airports','key':'origin','columns':['city','state']},"
             "{'table':'Ref.Air_Ports2','key':'route','on':'_iata','description':'again',"
             "'columns':[{'city':'second_city'},'altitude']},"
             "{'table':'carriers','key':'number','columns':{'Name':'carrier','city':'seat'}}]");
    static const char *const names[] = {"city",     "state",   "second_city",
                                        "altitude", "carrier", "seat"};
    static const char *const texts[] = {"airports.city",       "airports.state",
                                        "Ref.Air_Ports2.city", "Ref.Air_Ports2.altitude",
                                        "carriers.Name",       "carriers.city"};
    assert_int_equal(view->key_count, 3);
    assert_int_equal(view->looked_up_count, 6);
    assert_int_equal(view->lookup_count, 3);
    for (size_t i = 0; i < 6; i++) {
        const struct view_key *column = &view->keys[3 + i];
        assert_string_equal(column->name, names[i]);
        assert_string_equal(column->text, texts[i]);
        assert_int_equal(column->lookup->number, 1 + i / 2);
        assert_int_equal(column->type, VALUE_STRING);
        assert_null(column->expression);
    }
    assert_string_equal(view->lookups[0].schema, "public");
    assert_string_equal(view->lookups[0].on, "origin");
    assert_string_equal(view->lookups[1].schema, "Ref");
    assert_string_equal(view->lookups[1].table, "Air_Ports2");
    assert_string_equal(view->lookups[1].on, "_iata");
    assert_int_equal(view->lookups[1].key, 1);
    assert_string_equal(view->keys[view->lookups[2].first].column, "Name");
    assert_null(view->keys[0].lookup);
    assert_int_equal(view->keys[2].type, VALUE_INTEGER);
    view_destroy(view);
    view = good(",'lookup':[]");
    assert_int_equal(view->lookup_count, 0);
    view_destroy(view);
}

/* What is looked up changes nothing of what is computed and stored. */
static void test_states_do_not_depend_on_lookups(void **state)
{
    (void)state;
    struct view *without = good("");
    struct view *with =
        good(",'lookup':[{'table':'airports','key':'origin','columns':['city','state']}]");
    char *texts[] = {view_canonical_text(without), view_canonical_text(with)};
    assert_string_equal(texts[0], texts[1]);
    char *tables[] = {catalog_tables_sql(without, 7), catalog_tables_sql(with, 7)};
    assert_string_equal(tables[0], tables[1]);
    for (int i = 0; i < 2; i++) {
        free(texts[i]);
        free(tables[i]);
    }
    view_destroy(without);
    view_destroy(with);
}

#define LOOKUP(members) ",'lookup':[{" members "}]"
#define AIRPORTS "'table':'airports','key':'origin',"
#define TABLE_RULE                                                                                 \
    " is not the name of a table, such as airports or ref.airports: letters, digits and _, as "    \
    "PostgreSQL has it, each part at most 63"
#define COLUMN_RULE " is not a column's name: letters, digits and _, at most 63"
#define LONG64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void test_faults(void **state)
{
    (void)state;
    static const struct {
        const char *lookups;
        const char *text;
    } cases[] = {
        {",'lookup':{}", "lookup: wants an array of at most 8 lookups"},
        {",'lookup':[1]", "lookup[0]: wants an object with \"table\", \"key\" and \"columns\""},
        {LOOKUP(AIRPORTS "'columns':['city'],'where':'x'"), "lookup[0]: where: unknown key"},
        {LOOKUP("'key':'origin','columns':['city']"),
         "lookup[0]: table: missing; wants a table's name"},
        {LOOKUP("'table':7,'key':'origin','columns':['city']"),
         "lookup[0]: table: wants a table's name"},
        {LOOKUP("'table':'airports','columns':['city']"),
         "lookup[0]: key: missing; wants a key of the view"},
        {LOOKUP("'table':'airports','key':'destination','columns':['city']"),
         "lookup[0]: key: the view has no key \"destination\""},
        {LOOKUP("'table':'airports','key':'c','columns':['city']"),
         "lookup[0]: key: the view has no key \"c\""},
        {LOOKUP(AIRPORTS "'on':''"), "lookup[0]: on: \"\"" COLUMN_RULE},
        {LOOKUP(AIRPORTS "'on':5"), "lookup[0]: on: wants a column of the table"},
        {LOOKUP("'table':'airports','key':'origin'"),
         "lookup[0]: columns: wants an array of columns"},
        {LOOKUP(AIRPORTS "'columns':[]"), "lookup[0]: columns: wants an array of columns"},
        {LOOKUP(AIRPORTS "'columns':['city',4]"),
         "lookup[0]: columns[1]: wants a column's name, or {\"column\": \"another name\"}"},
        {LOOKUP(AIRPORTS "'columns':[{}]"),
         "lookup[0]: columns[0]: wants a column's name, or {\"column\": \"another name\"}"},
        {LOOKUP(AIRPORTS "'columns':[{'city':1}]"), "lookup[0]: columns[0]: city: wants a name"},
        {LOOKUP(AIRPORTS "'columns':{'city':'origin'}"),
         "lookup[0]: columns: origin: the name \"origin\" is taken"},
        /* one name space with keys, measures, other lookups and the columns of every row */
        {LOOKUP(AIRPORTS "'columns':['route']"),
         "lookup[0]: columns[0]: route: the name \"route\" is taken"},
        {LOOKUP(AIRPORTS "'columns':['c']"), "lookup[0]: columns[0]: c: the name \"c\" is taken"},
        {LOOKUP(AIRPORTS "'columns':['city','city']"),
         "lookup[0]: columns[1]: city: the name \"city\" is taken"},
        {LOOKUP(AIRPORTS "'columns':['window_start']"),
         "lookup[0]: columns[0]: window_start: the name \"window_start\" is taken"},
        {LOOKUP(AIRPORTS "'columns':['xmin']"),
         "lookup[0]: columns[0]: xmin: the name \"xmin\" is taken"},
        {",'lookup':[{" AIRPORTS "'columns':['city']},{'table':'b','key':'route','columns':['city']"
         "}]",
         "lookup[1]: columns[0]: city: the name \"city\" is taken"},
        {LOOKUP(AIRPORTS "'columns':['City']"),
         "lookup[0]: columns[0]: City: not a name: a lower-case letter, then up to 47 lower-case "
         "letters, digits and _"},
        /* names that would say more than a name, in SQL */
        {LOOKUP("'table':'airports; DROP TABLE x','key':'origin','columns':['city']"),
         "lookup[0]: table: \"airports; DROP TABLE x\"" TABLE_RULE},
        {LOOKUP("'table':'air\\'ports','key':'origin','columns':['city']"),
         "lookup[0]: table: \"air\"ports\"" TABLE_RULE},
        {LOOKUP("'table':'a.b.c','key':'origin','columns':['city']"),
         "lookup[0]: table: \"a.b.c\"" TABLE_RULE},
        {LOOKUP("'table':'.b','key':'origin','columns':['city']"),
         "lookup[0]: table: \".b\"" TABLE_RULE},
        {LOOKUP("'table':'a.','key':'origin','columns':['city']"),
         "lookup[0]: table: \"a.\"" TABLE_RULE},
        {LOOKUP("'table':'','key':'origin','columns':['city']"),
         "lookup[0]: table: \"\"" TABLE_RULE},
        {LOOKUP("'table':'(SELECT 1)','key':'origin','columns':['city']"),
         "lookup[0]: table: \"(SELECT 1)\"" TABLE_RULE},
        {LOOKUP("'table':'airports -- ','key':'origin','columns':['city']"),
         "lookup[0]: table: \"airports -- \"" TABLE_RULE},
        {LOOKUP("'table':'7airports','key':'origin','columns':['city']"),
         "lookup[0]: table: \"7airports\"" TABLE_RULE},
        {LOOKUP("'table':'flugh\xC3\xA4"
                "fen','key':'origin','columns':['city']"),
         "lookup[0]: table: \"flugh\xC3\xA4"
         "fen\"" TABLE_RULE},
        {LOOKUP("'table':'" LONG64 "','key':'origin','columns':['city']"),
         "lookup[0]: table: \"" LONG64 "\"" TABLE_RULE},
        {LOOKUP(AIRPORTS "'on':'iata\\' OR true --','columns':['city']"),
         "lookup[0]: on: \"iata\" OR true --\"" COLUMN_RULE},
        {LOOKUP(AIRPORTS "'columns':['city\\', pg_sleep(9) AS \\'x']"),
         "lookup[0]: columns[0]: \"city\", pg_sleep(9) AS \"x\"" COLUMN_RULE},
        {LOOKUP(AIRPORTS "'columns':[{'a b':'ab'}]"), "lookup[0]: columns[0]: \"a b\"" COLUMN_RULE},
        {LOOKUP(AIRPORTS "'columns':[{'city':'x\\' FROM y'}]"),
         "lookup[0]: columns[0]: x\" FROM y: not a name: a lower-case letter, then up to 47 "
         "lower-case letters, digits and _"},
        /* tables that hold no reference data */
        {LOOKUP("'table':'pg_catalog.pg_authid','key':'origin','columns':['rolpassword']"),
         "lookup[0]: table: the schema \"pg_catalog\" has no reference tables"},
        {LOOKUP("'table':'dovetail_internal.deployment','key':'origin','columns':['id_secret']"),
         "lookup[0]: table: the schema \"dovetail_internal\" has no reference tables"},
        {LOOKUP("'table':'dovetail.v','key':'origin','columns':['x']"),
         "lookup[0]: table: the schema \"dovetail\" has no reference tables"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[ERROR_TEXT_BYTES];
        snprintf(text, sizeof text, "views/v.json: %s", cases[i].text);
        struct view *view = view_with(cases[i].lookups);
        if (view != NULL)
            fail_msg("accepted: %s", cases[i].lookups);
        assert_int_equal(error.status, STATUS_REJECT);
        assert_string_equal(error.text, text);
    }
}

static void test_bounds(void **state)
{
    (void)state;
    char text[6000] = "";
    for (int extra = 0; extra < 2; extra++) {
        size_t length = (size_t)snprintf(text, sizeof text, ",'lookup':[");
        for (int i = 0; i < VIEW_LOOKUP_MAX + extra; i++)
            length += (size_t)snprintf(text + length, sizeof text - length,
                                       "%s{'table':'t','key':'origin','columns':['a%d']}",
                                       i > 0 ? "," : "", i);
        snprintf(text + length, sizeof text - length, "]");
        struct view *view = view_with(text);
        assert_int_equal(view == NULL, extra);
        view_destroy(view);
        length = (size_t)snprintf(text, sizeof text, LOOKUP(AIRPORTS "'columns':['x'%s]"), "");
        length -= 3;
        for (int i = 1; i < VIEW_LOOKED_UP_MAX + extra; i++)
            length += (size_t)snprintf(text + length, sizeof text - length, ",'c%d'", i);
        snprintf(text + length, sizeof text - length, "]}]");
        view = view_with(text);
        assert_int_equal(view == NULL, extra);
        view_destroy(view);
    }
    assert_string_equal(error.text,
                        "views/v.json: lookup[0]: columns[32]: more than 32 looked-up columns");
}

/* A binding gives types; one that does not fit is refused. */
static void test_binding(void **state)
{
    (void)state;
    struct view *view = good(LOOKUP(AIRPORTS "'columns':['height','open']"));
    assert_int_equal(
        catalog_lookups_bind(view,
                             "[{\"collation\":\"pg_catalog.\\\"default\\\"\",\"columns\":"
                             "[[\"height\",\"height\",\"2\",\"decimal\"],"
                             "[\"open\",\"open\",\"3\",\"boolean\"]]}]",
                             &error),
        STATUS_OK);
    assert_int_equal(view->keys[3].type, VALUE_DECIMAL);
    assert_int_equal(view->keys[4].type, VALUE_BOOLEAN);
    char *sql = catalog_lookups_sql(view, 12);
    assert_non_null(sql);
    assert_non_null(strstr(sql, "CREATE VIEW dovetail_internal.lookup_12_1 AS\n"));
    assert_non_null(strstr(sql, "r.\"height\"::numeric AS \"height\""));
    assert_non_null(strstr(sql, "FROM \"public\".\"airports\" AS r\n"));
    free(sql);
    static const char *const bad[] = {
        NULL,
        "",
        "[]",
        "[{}]",
        "[{\"columns\":[[\"height\",\"height\",\"2\",\"decimal\"]]}]",
        "[{\"columns\":[[\"open\",\"open\",\"2\",\"decimal\"],[\"x\",\"x\",\"2\",\"decimal\"]]}]",
        "[{\"columns\":[[\"height\",\"height\",\"2\",\"shape\"],[\"open\",\"open\",\"3\","
        "\"boolean\"]"
        "]}]"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(catalog_lookups_bind(view, bad[i], &error), STATUS_REJECT);
    view_destroy(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lookups_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_states_do_not_depend_on_lookups, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_faults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_binding, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
