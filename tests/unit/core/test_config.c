/* The configuration file: defaults, faults by name, references, and that the documentation is the
 * option table's. With DOVETAIL_WRITE_DOCS=1 it writes docs/CONFIGURATION.md instead of comparing.
 * Run from the repository root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/program/config.h"
#include "core/program/config_options.h"
#include "core/kafka/kafka.h"

static char directory[] = "/tmp/test-config-XXXXXX";
static char path[64];
static struct error error;

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/dovetail.json", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char secret[64];
    snprintf(secret, sizeof secret, "%s/secret", directory);
    unlink(secret);
    unlink(path);
    return rmdir(directory);
}

static void write_file(const char *name, const char *content, size_t length)
{
    char file_path[64];
    snprintf(file_path, sizeof file_path, "%s/%s", directory, name);
    FILE *file = fopen(file_path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static struct config *load(const char *json)
{
    struct config *config = NULL;
    write_file("dovetail.json", json, strlen(json));
    if (config_load(path, &config, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    assert_non_null(config);
    return config;
}

/* `expected` is the message behind "FILE: ". */
static void assert_fault(const char *json, const char *expected)
{
    struct config *config = NULL;
    write_file("dovetail.json", json, strlen(json));
    assert_int_equal(config_load(path, &config, &error), STATUS_REJECT);
    assert_null(config);
    assert_memory_equal(error.text, path, strlen(path));
    assert_string_equal(error.text + strlen(path), expected);
}

/* A file whose only interesting part is `member`. */
static void assert_member_fault(const char *member, const char *expected)
{
    char json[512];
    snprintf(json, sizeof json,
             "{\"kafka\": {\"bootstrap.servers\": \"h:1\"}, \"postgres\": \"host=h\", %s}", member);
    assert_fault(json, expected);
}

#define REQUIRED "\"kafka\": {\"bootstrap.servers\": \"h:1\"}, \"postgres\": \"host=h\""

static void assert_below_directory(const char *text, const char *name)
{
    char expected[128];
    snprintf(expected, sizeof expected, "%s/%s", directory, name);
    assert_string_equal(text, expected);
}

static void test_defaults(void **state)
{
    (void)state;
    struct config *config = load("{" REQUIRED "}");
    assert_string_equal(config->postgres, "host=h");
    assert_below_directory(config->schemas, "schemas");
    assert_int_equal(config->speed_flush_interval_ms, 100);
    assert_int_equal(config->speed_slice_interval_ms, 60000);
    assert_int_equal(config->speed_memory_bytes, 256 * 1024 * 1024);
    assert_below_directory(config->batch_archive, "archive");
    assert_string_equal(config->batch_schedule, "*/10 * * * *");
    assert_int_equal(config->batch_threads, 0);
    assert_int_equal(config->batch_memory_bytes, 1 << 30);
    assert_null(config->batch_spill);
    assert_int_equal(config->batch_segment_bytes, 64 * 1024 * 1024);
    assert_int_equal(config->batch_compression_level, 3);
    assert_int_equal(config->batch_retained_runs, 3);
    assert_string_equal(config->serving_listen, "127.0.0.1:8080");
    assert_int_equal(config->serving_threads, 0);
    assert_int_equal(config->serving_row_limit, 100000);
    assert_int_equal(config->serving_memory_bytes, 512 * 1024 * 1024);
    assert_string_equal(json_string_value(json_object_get(config->kafka, "bootstrap.servers")),
                        "h:1");
    config_destroy(config);
    config_destroy(NULL);
}

static void test_every_key(void **state)
{
    (void)state;
    struct config *config =
        load("{ \"kafka\": { \"bootstrap.servers\": \"127.0.0.1:19092\", \"check.crcs\": false,"
             "               \"session.timeout.ms\": 7000 },"
             "  \"postgres\": \"host=127.0.0.1 port=15432 dbname=dovetail\","
             "  \"schemas\": \"../definitions\","
             "  \"speed\": { \"flush_interval_ms\": 1, \"slice_interval_ms\": 86400000,"
             "               \"memory\": \"1 GiB\" },"
             "  \"batch\": { \"archive\": \"/var/lib/dovetail/archive\", \"schedule\": \"5 4 * * "
             "MON-FRI\","
             "               \"threads\": 8, \"segment_size\": 8192,"
             "               \"memory\": \"4 MiB\", \"spill\": \"scratch\","
             "               \"compression_level\": 19, \"retained_runs\": 1000 },"
             "  \"serving\": { \"listen\": \"[::1]:0\", \"threads\": 2, \"row_limit\": 10 } }");
    assert_below_directory(config->schemas, "../definitions");
    assert_int_equal(config->speed_flush_interval_ms, 1);
    assert_int_equal(config->speed_slice_interval_ms, 86400000);
    assert_int_equal(config->speed_memory_bytes, 1 << 30);
    assert_string_equal(config->batch_archive, "/var/lib/dovetail/archive");
    assert_string_equal(config->batch_schedule, "5 4 * * MON-FRI");
    assert_int_equal(config->batch_threads, 8);
    assert_int_equal(config->batch_memory_bytes, 4 << 20);
    assert_below_directory(config->batch_spill, "scratch");
    assert_int_equal(config->batch_segment_bytes, 8192);
    assert_int_equal(config->batch_compression_level, 19);
    assert_int_equal(config->batch_retained_runs, 1000);
    assert_string_equal(config->serving_listen, "[::1]:0");
    assert_int_equal(config->serving_threads, 2);
    assert_int_equal(config->serving_row_limit, 10);
    assert_string_equal(json_string_value(json_object_get(config->kafka, "check.crcs")), "false");
    assert_string_equal(json_string_value(json_object_get(config->kafka, "session.timeout.ms")),
                        "7000");
    config_destroy(config);
}

static void test_names(void **state)
{
    (void)state;
    assert_fault("{}", ": kafka.\"bootstrap.servers\": is required");
    assert_fault("{\"kafka\": {\"bootstrap.servers\": \"h:1\"}}", ": postgres: is required");
    assert_fault(
        "{\"kafka\": {\"bootstrap.servers\": \"h:1\"}, \"postgres\": \"secret colour=red\"}",
        ": postgres: the PostgreSQL connection string is malformed: missing");
    assert_member_fault("\"sped\": {}", ": sped: there is no such key; did you mean \"speed\"?");
    assert_member_fault("\"speed\": {\"flush_interval\": 5}",
                        ": speed.flush_interval: there is no such key; did you mean "
                        "\"flush_interval_ms\"?");
    assert_member_fault("\"batch\": {\"flush_interval_ms\": 5}",
                        ": batch.flush_interval_ms: there is no such key");
    assert_member_fault("\"colour\": 1", ": colour: there is no such key");
    assert_member_fault("\"speed\": 5", ": speed: must be an object");
    assert_member_fault("\"kafka\": {}", ": line 1, column 69: duplicate object key");
}

static void test_types_and_ranges(void **state)
{
    (void)state;
    assert_member_fault("\"speed\": {\"flush_interval_ms\": 0}",
                        ": speed.flush_interval_ms: 0 is not within 1 to 60000");
    assert_member_fault("\"speed\": {\"flush_interval_ms\": 60001}",
                        ": speed.flush_interval_ms: 60001 is not within 1 to 60000");
    assert_member_fault("\"speed\": {\"flush_interval_ms\": 1.5}",
                        ": speed.flush_interval_ms: must be an integer");
    assert_member_fault("\"speed\": {\"flush_interval_ms\": \"100\"}",
                        ": speed.flush_interval_ms: must be an integer");
    assert_member_fault("\"speed\": {\"memory\": true}",
                        ": speed.memory: must be an integer or a text such as \"256MiB\"");
    assert_member_fault("\"speed\": {\"memory\": \"lots\"}",
                        ": speed.memory: \"lots\" is not a size such as \"256MiB\"");
    assert_member_fault("\"speed\": {\"memory\": \"1KiB\"}",
                        ": speed.memory: 1024 bytes are not within 1 MiB to 1 TiB");
    assert_member_fault("\"schemas\": 5", ": schemas: must be a string");
    assert_member_fault("\"schemas\": null", ": schemas: must be a string");
    assert_member_fault("\"schemas\": \"\"", ": schemas: must not be empty");
    assert_member_fault("\"batch\": {\"schedule\": \"every day\"}",
                        ": batch.schedule: does not have the five fields of a cron "
                        "expression");
    assert_member_fault("\"batch\": {\"schedule\": \"61 * * * *\"}",
                        ": batch.schedule: minute: 61 is not between 0 and 59");
    assert_member_fault("\"batch\": {\"full_schedule\": \"0 0 * * x\"}",
                        ": batch.full_schedule: day of week: \"x\" is not a number or a name");
    assert_member_fault("\"serving\": {\"listen\": \"8080\"}",
                        ": serving.listen: is not host:port");
    assert_member_fault("\"serving\": {\"listen\": \"::1:80\"}",
                        ": serving.listen: is not host:port");
    assert_member_fault("\"serving\": {\"listen\": \"h:65536\"}",
                        ": serving.listen: is not host:port");
}

static void test_kafka_properties(void **state)
{
    (void)state;
    const char *start = "{\"postgres\": \"host=x\", \"kafka\": {\"bootstrap.servers\": \"h:1\", ";
    char json[256], expected[256];
    snprintf(json, sizeof json, "%s\"auto.offset.reset\": \"latest\"}}", start);
    assert_fault(json, ": kafka.\"auto.offset.reset\": cannot be set, exact results depend on it");
    snprintf(json, sizeof json, "%s\"client.id\": [1]}}", start);
    assert_fault(json, ": kafka.\"client.id\": must be a string, a number or a boolean");
    snprintf(json, sizeof json, "%s\"linger.ms\": \"geheim\"}}", start);
    assert_fault(json, ": kafka.\"linger.ms\": not a value that librdkafka accepts");
    snprintf(json, sizeof json, "%s\"sasl.passwort\": \"geheim\"}}", start);
    snprintf(expected, sizeof expected,
             ": kafka.\"sasl.passwort\": librdkafka %s has no such property",
             rd_kafka_version_str());
    assert_fault(json, expected);
}

/* What dead letters depend on may be said, but not weakened. */
static void test_kafka_properties_are_strong(void **state)
{
    (void)state;
    static const char *const weak[][3] = {
        {"acks", "1", "all"},
        {"acks", "\"0\"", "all"},
        {"request.required.acks", "1", "all"},
        {"enable.idempotence", "false", "true"},
        {"enable.idempotence", "\"0\"", "true"},
    };
    static const char *const strong[] = {"\"acks\": \"all\"", "\"acks\": -1",
                                         "\"request.required.acks\": \"-1\"",
                                         "\"enable.idempotence\": true"};
    char json[256], expected[256];
    for (size_t i = 0; i < sizeof weak / sizeof weak[0]; i++) {
        snprintf(json, sizeof json,
                 "{\"postgres\": \"host=x\", \"kafka\": {\"bootstrap.servers\": \"h:1\","
                 " \"%s\": %s}}",
                 weak[i][0], weak[i][1]);
        snprintf(expected, sizeof expected,
                 ": kafka.\"%s\": cannot be other than \"%s\", or dead letters could be lost",
                 weak[i][0], weak[i][2]);
        assert_fault(json, expected);
    }
    for (size_t i = 0; i < sizeof strong / sizeof strong[0]; i++) {
        snprintf(json, sizeof json, "{%s}", strong[i]);
        json_t *properties = json_loads(json, 0, NULL);
        assert_int_equal(kafka_properties_check(properties, &error), STATUS_OK);
        json_decref(properties);
    }
}

static void test_files_that_cannot_be_read(void **state)
{
    (void)state;
    struct config *config = NULL;
    assert_int_equal(config_load("/no/such/file.json", &config, &error), STATUS_REJECT);
    assert_string_equal(error.text, "/no/such/file.json: No such file or directory");
    assert_int_equal(config_load(directory, &config, NULL), STATUS_REJECT);
    assert_fault("{\"kafka\": {},\n  \"postgres\" \"geheim\"}",
                 ": line 2, column 21: ':' expected");
    assert_fault("{\"postgres\": \"geheim", ": line 1, column 20: premature end of input");
    assert_fault("", ": line 1, column 0: '[' or '{' expected");
    assert_fault("[]", ": must be a JSON object");
    assert_fault("{" REQUIRED ", \"schemas\": geheim}", ": line 1, column 79: invalid token");
}

/* --- references --- */

static void test_variables_and_files(void **state)
{
    (void)state;
    char json[512];
    setenv("TEST_CONFIG_PASSWORD", "a ${b} c", 1);
    write_file("secret", "s3cret\n", 7);
    snprintf(
        json, sizeof json,
        "{\"kafka\": {\"bootstrap.servers\": \"h:1\", \"sasl.password\": \"<${file:%s/secret}>\"},"
        " \"postgres\": \"password='x${TEST_CONFIG_PASSWORD}y $${z} $$ $'\"}",
        directory);
    struct config *config = load(json);
    assert_string_equal(config->postgres,
                        "password='xa ${b} cy ${z} $$ $'"); /* not expanded again */
    assert_string_equal(json_string_value(json_object_get(config->kafka, "sasl.password")),
                        "<s3cret>");
    config_destroy(config);
    write_file("secret", "two\nlines\r\n", 11);
    config = load(json);
    assert_string_equal(json_string_value(json_object_get(config->kafka, "sasl.password")),
                        "<two\nlines>");
    config_destroy(config);
    unsetenv("TEST_CONFIG_PASSWORD");
}

static void test_references_that_fail(void **state)
{
    (void)state;
    unsetenv("TEST_CONFIG_UNSET");
    assert_member_fault("\"schemas\": \"${TEST_CONFIG_UNSET}\"",
                        ": schemas: environment variable TEST_CONFIG_UNSET is not set");
    assert_member_fault("\"batch\": {\"archive\": \"${file:/no/such}\"}",
                        ": batch.archive: cannot read /no/such: No such file or directory");
    assert_member_fault("\"schemas\": \"${file:/}\"", ": schemas: cannot read /: Is a directory");
    assert_member_fault("\"schemas\": \"a ${b\"",
                        ": schemas: ${ without }; write $${ for a plain ${");
    assert_member_fault("\"schemas\": \"${a-b}\"",
                        ": schemas: ${...} must hold the name of an environment variable or "
                        "file:/path; write $${ for a plain ${");
    char json[256];
    snprintf(
        json, sizeof json,
        "{\"postgres\": \"host=x\", \"kafka\": {\"bootstrap.servers\": \"${TEST_CONFIG_UNSET}\"}}");
    assert_fault(json, ": kafka.\"bootstrap.servers\": environment variable TEST_CONFIG_UNSET is "
                       "not set");
    setenv("TEST_CONFIG_UNSET", "\xff", 1);
    assert_fault(json, ": kafka.\"bootstrap.servers\": the value that is inserted is not UTF-8");
    unsetenv("TEST_CONFIG_UNSET");
    write_file("secret", "a\0b", 3);
    snprintf(json, sizeof json, "{\"postgres\": \"${file:%s/secret}\"}", directory);
    char expected[256];
    snprintf(expected, sizeof expected, ": postgres: %s/secret is not a text file", directory);
    assert_fault(json, expected);
}

/* --- sizes and documentation --- */

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes; /* -1: refused */
    } cases[] = {
        {"0", 0},
        {"17", 17},
        {"17B", 17},
        {"1 kB", 1000},
        {"1KiB", 1024},
        {"256MiB", 256 << 20},
        {"2GB", 2000000000},
        {"1TiB", INT64_C(1) << 40},
        {"", -1},
        {"MiB", -1},
        {"1 ", -1},
        {"-1", -1},
        {"1.5GiB", -1},
        {"1mib", -1},
        {"1  MB", -1},
        {"99999999TiB", -1},
        {"9999999999999999999", -1},
        {" 1", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t bytes = -1;
        assert_int_equal(config_parse_size(cases[i].text, &bytes), cases[i].bytes >= 0);
        if (cases[i].bytes >= 0)
            assert_int_equal(bytes, cases[i].bytes);
    }
    char buffer[32];
    assert_string_equal(config_format_size(INT64_C(256) << 20, buffer, sizeof buffer), "256 MiB");
    assert_string_equal(config_format_size(1000, buffer, sizeof buffer), "1000 B");
    assert_string_equal(config_format_size(0, buffer, sizeof buffer), "0 B");
}

#define HASH "00ff11223344556677889900aabbccddeeff00112233445566778899aabbccdd"
#define TOKENS(entries) "\"serving\": {\"tokens\": [" entries "]}"
#define ENTRY(members) "{\"name\": \"a\", \"sha256\": \"" HASH "\"" members "}"

static void test_tokens(void **state)
{
    (void)state;
    assert_int_equal(setenv("TEST_TOKEN_HASH", HASH, 1), 0);
    assert_int_equal(setenv("TEST_TOKEN_ROW", "JFK", 1), 0);
    struct config *config =
        load("{\"kafka\": {\"bootstrap.servers\": \"h:1\"}, \"postgres\": \"host=h\", " TOKENS(
            "{\"name\": \"one\", \"sha256\": \"${TEST_TOKEN_HASH}\", \"views\": [\"v\", \"w\"],"
            " \"role\": \"admin\", \"write\": [\"s\", \"t\"], \"rows\": {\"k\": "
            "[\"${TEST_TOKEN_ROW}\", 7, true]}},"
            "{\"name\": \"two\", \"views\": \"*\", \"sha256\": "
            "\"11ff11223344556677889900aabbccddeeff"
            "00112233445566778899aabbccdd\"}") "}");
    assert_int_equal(config->serving_token_count, 2);
    const struct config_token *one = &config->serving_tokens[0];
    assert_string_equal(one->name, "one");
    assert_int_equal(one->sha256[1], 0xff);
    assert_int_equal(one->sha256[31], 0xdd);
    assert_false(one->all_views);
    assert_int_equal(one->view_count, 2);
    assert_string_equal(one->views[1], "w");
    assert_true(one->is_admin);
    assert_false(one->all_sources);
    assert_int_equal(one->source_count, 2);
    assert_string_equal(one->sources[1], "t");
    assert_int_equal(one->row_count, 1);
    assert_string_equal(one->rows[0].key, "k");
    assert_int_equal(one->rows[0].value_count, 3);
    assert_string_equal(one->rows[0].values[0], "JFK");
    assert_string_equal(one->rows[0].values[1], "7");
    assert_string_equal(one->rows[0].values[2], "true");
    assert_true(config->serving_tokens[1].all_views);
    assert_false(config->serving_tokens[1].is_admin);
    assert_int_equal(config->serving_tokens[1].row_count, 0);
    assert_false(config->serving_tokens[1].all_sources);
    assert_int_equal(config->serving_tokens[1].source_count, 0);
    config_destroy(config);
}

static void test_tokens_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *member, *expected;
    } cases[] = {
        {"\"serving\": {\"tokens\": []}",
         ": serving.tokens: a list of 1 to 1000 tokens is expected"},
        {"\"serving\": {\"tokens\": {}}",
         ": serving.tokens: a list of 1 to 1000 tokens is expected"},
        {TOKENS("7"), ": serving.tokens[0]: must be an object"},
        {TOKENS(ENTRY(", \"views\": \"*\", \"colour\": 1")),
         ": serving.tokens[0]: there are name, sha256, views, role, rows and write, and nothing "
         "else"},
        {TOKENS("{\"name\": \"a b\"}"), ": serving.tokens[0].name: 1 to 64 letters, digits, '.', "
                                        "'_' and '-' are expected"},
        {TOKENS("{\"name\": \"a\", \"sha256\": \"secret\"}"),
         ": serving.tokens[0].sha256: the 64 hexadecimal digits (0-9, a-f) that `dovetail token "
         "new` prints are expected"},
        /* Nothing is everything by default. */
        {TOKENS(ENTRY("")),
         ": serving.tokens[0].views: \"*\" or a list of views' names is expected"},
        {TOKENS(ENTRY(", \"views\": \"all\"")),
         ": serving.tokens[0].views: \"*\" or a list of views' names is expected"},
        {TOKENS(ENTRY(", \"views\": [\"v\", \"*\"]")),
         ": serving.tokens[0].views: number 2 is no view's name"},
        {TOKENS(ENTRY(", \"views\": [], \"write\": true")),
         ": serving.tokens[0].write: \"*\" or a list of sources' names is expected"},
        {TOKENS(ENTRY(", \"views\": [], \"write\": [\"S\"]")),
         ": serving.tokens[0].write: number 1 is no source's name"},
        {TOKENS(ENTRY(", \"views\": \"*\", \"role\": \"root\"")),
         ": serving.tokens[0].role: \"read\" or \"admin\" is expected"},
        {TOKENS(ENTRY(", \"views\": \"*\", \"rows\": {}")),
         ": serving.tokens[0].rows: {\"KEY\": [VALUE, ...]} is expected"},
        {TOKENS(ENTRY(", \"views\": \"*\", \"rows\": {\"k\": []}")),
         ": serving.tokens[0].rows: k: a list of texts, integers or booleans is expected, and not "
         "an empty one"},
        {TOKENS(ENTRY(", \"views\": \"*\", \"rows\": {\"k\": [\"a\", null]}")),
         ": serving.tokens[0].rows: k: a list of texts, integers or booleans is expected, and not "
         "an empty one"},
        {TOKENS(ENTRY(", \"views\": \"*\"") "," ENTRY(", \"views\": \"*\"")),
         ": serving.tokens[1].name: number 0 of the list has the same"},
        {TOKENS("{\"name\": \"a\", \"sha256\": \"${TEST_NOT_SET}\"}"),
         ": serving.tokens[0].sha256: environment variable TEST_NOT_SET is not set"},
        {"\"serving\": {\"tls_key\": \"k\"}",
         ": serving.tls_certificate: is required with serving.tls_key"},
        {"\"serving\": {\"tls_certificate\": \"k\"}",
         ": serving.tls_key: is required with serving.tls_certificate"},
        {"\"serving\": {\"ingest_body\": \"4MiB\", \"ingest_memory\": \"2MiB\"}",
         ": serving.ingest_body: must not be above serving.ingest_memory"},
        {"\"serving\": {\"tls_client_ca\": \"k\"}",
         ": serving.tls_client_ca: needs serving.tls_certificate and serving.tls_key"},
        {"\"serving\": {\"allow_unauthenticated\": 1}",
         ": serving.allow_unauthenticated: must be true or false"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_member_fault(cases[i].member, cases[i].expected);
}

static void test_documentation_is_the_option_table(void **state)
{
    (void)state;
    static const char file_path[] = "docs/CONFIGURATION.md";
    char *wanted = config_markdown();
    assert_non_null(wanted);
    const char *write = getenv("DOVETAIL_WRITE_DOCS");
    FILE *file = fopen(file_path, write != NULL ? "w" : "r");
    if (file == NULL)
        fail_msg("cannot open %s; run from the repository root", file_path);
    if (write != NULL) {
        fputs(wanted, file);
    } else {
        static char found[65536];
        size_t length = fread(found, 1, sizeof found - 1, file);
        found[length] = '\0';
        if (strcmp(found, wanted) != 0)
            fail_msg("%s differs from the option table; run this test with DOVETAIL_WRITE_DOCS=1",
                     file_path);
    }
    fclose(file);
    free(wanted);
}

static void test_help_names_every_key(void **state)
{
    (void)state;
    char *help = config_help();
    assert_non_null(help);
    for (size_t i = 0; i < config_option_count; i++) {
        char key[64];
        config_key_text(config_options[i].section, config_options[i].name, key, sizeof key);
        assert_non_null(strstr(help, key));
    }
    free(help);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_key),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_types_and_ranges),
        cmocka_unit_test(test_kafka_properties),
        cmocka_unit_test(test_kafka_properties_are_strong),
        cmocka_unit_test(test_files_that_cannot_be_read),
        cmocka_unit_test(test_variables_and_files),
        cmocka_unit_test(test_references_that_fail),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_tokens_that_are_refused),
        cmocka_unit_test(test_documentation_is_the_option_table),
        cmocka_unit_test(test_help_names_every_key),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
