/* Functions, casts and patterns on a deployment: a view that cleans its records, over records that
 * need it and records on which it fails, some by PostgreSQL's errors and some by limits of ours.
 * The answer is known, the failing records are dead letters of that view alone, and `dovetail
 * verify`, which leaves expressions to PostgreSQL, finds no difference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/deployment.h"

static struct deployment *deployment;

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

static const char source[] =
    "{ \"source\": \"readings\", \"topic\": \"readings\", \"partitions\": 1,"
    "  \"event_time\": { \"field\": \"at\", \"format\": \"rfc3339\" },"
    "  \"fields\": { \"at\": \"timestamp\", \"sensor\": \"string\","
    "    \"n\": { \"type\": \"integer\", \"nullable\": true },"
    "    \"reading\": { \"type\": \"string\", \"nullable\": true },"
    "    \"celsius\": { \"type\": \"decimal\", \"nullable\": true } } }";

static const char clean_view[] =
    "{ \"view\": \"clean\", \"source\": \"readings\","
    "  \"where\": \"trim(sensor) <> '' AND sensor NOT ILIKE 'TEST-%'\","
    "  \"group_by\": [ { \"name\": \"id\", \"expr\": \"lower(trim(sensor))\" },"
    "    { \"name\": \"day\", \"expr\": \"date_trunc('day', at + interval '2 hours')\" },"
    "    { \"name\": \"hour\", \"expr\": \"EXTRACT(hour FROM at)\" } ],"
    "  \"window\": { \"type\": \"tumbling\", \"size\": \"1d\" },"
    "  \"measures\": {"
    "    \"records\": \"count(*)\","
    "    \"clipped\": \"sum(GREATEST(LEAST(COALESCE(celsius, 20), 60), -40))\","
    "    \"parsed\": \"sum(CASE WHEN reading ~ '^[0-9]{1,18}$' THEN CAST(reading AS bigint) END)\","
    "    \"unreadable\": \"count(*) FILTER (WHERE reading !~ '^[0-9]{1,18}$')\" } }";

/* Every member fails for some record below: beyond 38 digits, the year 9999 and 16 MiB, which are
 * limits of ours, and chr(0), a cast and a length, which PostgreSQL refuses, too. */
static const char failing_view[] =
    "{ \"view\": \"failing\", \"source\": \"readings\","
    "  \"group_by\": [ { \"name\": \"id\", \"expr\": \"left(sensor, 5)\" } ],"
    "  \"window\": { \"type\": \"tumbling\", \"size\": \"1d\" },"
    "  \"measures\": {"
    "    \"power\": \"sum((celsius * 100000000) ^ 2)\","
    "    \"rounded\": \"max(round(celsius, CAST(n AS integer)))\","
    "    \"later\": \"max(at + interval '100 years')\","
    "    \"letter\": \"min(chr(CAST(n AS integer)))\","
    "    \"long\": \"max(length(repeat(sensor, CAST(n AS integer))))\","
    "    \"part\": \"min(substr(sensor, 1, CAST(n AS integer)))\","
    "    \"number\": \"sum(CAST(reading AS numeric))\" } }";

static const char records[] =
    "{\"at\":\"2001-01-01T10:00:00Z\",\"sensor\":\" A1 "
    "\",\"n\":3,\"reading\":\"12\",\"celsius\":99.5}\n"
    "{\"at\":\"2001-01-01T10:59:59Z\",\"sensor\":\"a1\",\"n\":4,\"reading\":\"x12\",\"celsius\":"
    "null}\n"
    "{\"at\":\"2001-01-01T23:30:00Z\",\"sensor\":\"a1\",\"n\":5,\"reading\":null,\"celsius\":-300."
    "25}\n"
    "{\"at\":\"2001-01-01T10:00:00Z\",\"sensor\":\"test-1\",\"n\":6,\"reading\":\"1\",\"celsius\":"
    "1}\n"
    "{\"at\":\"2001-01-01T10:00:00Z\",\"sensor\":\"  \",\"n\":7,\"reading\":\"1\",\"celsius\":1}\n"
    /* each fails for the second view */
    "{\"at\":\"2001-01-01T11:00:00Z\",\"sensor\":\"b\",\"n\":3,\"reading\":\"1\",\"celsius\":12345}"
    "\n"
    "{\"at\":\"2001-01-01T11:00:00Z\",\"sensor\":\"b\",\"n\":39,\"reading\":\"1\",\"celsius\":1}\n"
    "{\"at\":\"9950-01-01T11:00:00Z\",\"sensor\":\"b\",\"n\":3,\"reading\":\"1\",\"celsius\":1}\n"
    "{\"at\":\"2001-01-01T11:00:00Z\",\"sensor\":\"b\",\"n\":0,\"reading\":\"1\",\"celsius\":1}\n"
    "{\"at\":\"2001-01-01T11:00:00Z\",\"sensor\":\"b\",\"n\":-1,\"reading\":\"1\",\"celsius\":1}\n"
    "{\"at\":\"2001-01-01T11:00:00Z\",\"sensor\":\"b\",\"n\":99999999,\"reading\":\"1\","
    "\"celsius\":1}\n"
    "{\"at\":\"2001-01-01T11:00:00Z\",\"sensor\":\"b\",\"n\":3,\"reading\":\"1,5\",\"celsius\":1}"
    "\n";

static void wants_line(struct child *child, const char *line)
{
    if (strstr(child_output(child), line) == NULL) {
        fail_msg("no line %s in\n%s", line, child_output(child));
    }
}

static void test_cleaning_and_failing(void **state)
{
    (void)state;
    char path[4096];

    deployment_define_source(deployment, source);
    deployment_define_view(deployment, clean_view);
    deployment_define_view(deployment, failing_view);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_write(deployment, "records.jsonl", records);
    snprintf(path, sizeof path, "%s/records.jsonl", deployment->directory);
    deployment_run(deployment, 0, "dovetail", "produce", "readings", path, NULL);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);

    struct child *clean =
        deployment_run(deployment, 0, "dovetail", "query", "clean", "--format", "csv", NULL);
    wants_line(clean, ",a1,2001-01-01T00:00:00Z,10,2,80,12,1,");
    wants_line(clean, ",a1,2001-01-02T00:00:00Z,23,1,-40,,0,");
    wants_line(clean, ",b,2001-01-01T00:00:00Z,11,6,");
    struct child *failing =
        deployment_run(deployment, 0, "dovetail", "query", "failing", "--format", "csv", NULL);
    assert_null(strstr(child_output(failing), ",b,"));
    wants_line(failing, ", A1 ,");
    deployment_run(deployment, 0, "dovetail", "verify", "clean", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "failing", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cleaning_and_failing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
