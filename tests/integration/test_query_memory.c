/* Questions about very many groups: what the serving process holds stays within its bound, and
 * those that ask at once share it. */
#include "tests/support/query_fixture.h"

#include <pthread.h>

static long peak_kilobytes(void)
{
    char path[64];
    char line[256];
    long peak = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)server_pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "VmHWM:", 6) == 0)
            peak = atol(line + 6);
    fclose(file);
    assert_true(peak > 0);
    return peak;
}

struct heavy {
    const char *target;
    int status;
    char body[300];
};

static void *ask_heavy(void *context)
{
    struct heavy *heavy = context;
    struct http_reply reply;
    struct http_session *own = http_session_create(port);
    http_get(own, heavy->target, &reply);
    heavy->status = reply.status;
    snprintf(heavy->body, sizeof heavy->body, "%s", reply.body != NULL ? reply.body : "");
    http_reply_free(&reply);
    http_session_destroy(own);
    return NULL;
}

/* AddressSanitizer holds 256 MB back before it reuses anything. */
#ifdef __SANITIZE_ADDRESS__
enum { GROWTH_MAX_KB = (16 + 256) * 1024 };
#else
enum { GROWTH_MAX_KB = 16 * 1024 };
#endif

static void ask_eight(struct heavy heavy[8], const char *target)
{
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) {
        heavy[i] = (struct heavy){.target = target};
        assert_int_equal(pthread_create(&threads[i], NULL, ask_heavy, &heavy[i]), 0);
    }
    for (int i = 0; i < 8; i++)
        stack_join(threads[i], "a question");
}

/* Eight at once, of 300,000 groups each, which took some 45 MB apiece: memory stays where it was,
 * whether they are refused or have a limit. */
static void assert_bounded(const char *target, int status, const char *part)
{
    struct heavy heavy[8];
    long before = peak_kilobytes();
    ask_eight(heavy, target);
    for (int i = 0; i < 8; i++)
        if (heavy[i].status != status || strstr(heavy[i].body, part) == NULL)
            fail_msg("%s: %d %s", target, heavy[i].status, heavy[i].body);
    long grown = peak_kilobytes() - before;
    if (grown > GROWTH_MAX_KB)
        fail_msg("%s: memory grew by %ld kB", target, grown);
}

/* Eight at once, of which 48 MiB have room for one: the others come again. */
static void assert_shared(const char *target)
{
    struct heavy heavy[8];
    int answered = 0;
    long before = peak_kilobytes();
    ask_eight(heavy, target);
    for (int i = 0; i < 8; i++) {
        bool shared = heavy[i].status == 503 && strstr(heavy[i].body, "other queries use") != NULL;
        answered += heavy[i].status == 200;
        if (heavy[i].status != 200 && !shared)
            fail_msg("%s: %d %s", target, heavy[i].status, heavy[i].body);
    }
    printf("%d of 8 answered at once\n", answered);
    long grown = peak_kilobytes() - before;
    if (grown > 48 * 1024)
        fail_msg("%s: memory grew by %ld kB", target, grown);
}

static void test_memory_is_bounded(void **state)
{
    (void)state;
    assert_bounded("/v1/views/many/rows", 400, "more than 300 rows");
    assert_bounded("/v1/views/many/rows?limit=1000", 400, "more than 300 rows");
    assert_bounded("/v1/views/many/rows?order=-trips", 400, "more than 300 rows");
    assert_bounded("/v1/views/many/rows?from=2002-01-01&limit=2", 200, "\"delay\":1,");
    assert_bounded("/v1/views/many/rows?from=2002-01-01&order=-delay&limit=2", 200,
                   "\"delay\":300000,");
    assert_bounded("/v1/views/many/rows?granularity=all&order=delay&limit=2&from=2002-01-01", 200,
                   "\"delay\":2,");
    /* An order by a measure needs all groups: one at a time has room, eight share it. */
    json_decref(get_json("/v1/views/many/rows?from=2002-01-01&order=-trips&limit=2"));
    assert_shared("/v1/views/many/rows?from=2002-01-01&order=-trips&limit=2");
    assert_problem("/v1/views/many/rows?from=2002-01-01&order=-trips&limit=2&explain=1", 400,
                   "limit", "more than 48 MiB");
    for (int i = 0; i < 3; i++) /* all of it was given back */
        json_decref(get_json("/v1/views/many/rows?from=2002-01-01&order=-trips&limit=2"));
    /* What is held is counted, too. */
    json_t *json = get_json("/v1/views/many/rows?from=2002-01-01&order=-delay&limit=2&explain=1");
    json_t *explain = json_object_get(json, "explain");
    assert_true(json_integer_value(json_object_get(explain, "groups_held")) < 2000);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(explain, "rows_read"), "batch")), MANY);
    json_decref(json);
    /* In the order of the index PostgreSQL ends early as well. */
    json = get_json("/v1/views/many/rows?from=2002-01-01&limit=2&explain=1");
    explain = json_object_get(json, "explain");
    assert_true(
        json_integer_value(json_object_get(json_object_get(explain, "rows_read"), "batch")) <= 3);
    json_decref(json);
}

int main(void)
{
    more_settings = "{\"queue_ms\": 120000}"; /* eight of these take long under a sanitizer */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
