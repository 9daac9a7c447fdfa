/* The whole pipeline under random faults, for SOAK_MINUTES (default 60): two speed processes, the
 * scheduler, the serving process, a broker of its own and PostgreSQL, while events arrive and every
 * answer is checked (tests/support/traffic.h).
 *
 * One speed process, the scheduler and the serving process live from the beginning to the end and
 * see all that happens to the others: what they hold of memory and of file descriptors after a
 * fifth of the time is what they hold at the end. They run as they are shipped. Nothing that they
 * are there to keep grows after the first fifth: event times begin again every few hours,
 * partitions are added before, and the cache of answers is small, so that it is full by then; how
 * full it is stands beside the sizes. Prints what was done; DOVETAIL_SEED repeats it, up to timing.
 *
 * PostgreSQL breaks as a server does one of whose processes is killed: it ends all sessions and
 * recovers. So this test wants a stack for itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/cluster.h"
#include "tests/support/http.h"
#include "tests/support/orders.h"
#include "tests/support/sql_rows.h"
#include "tests/support/stack.h"
#include "tests/support/traffic.h"

enum {
    PARTITIONS = 3,
    RATE = 150,
    SAMPLE_MS = 2000,
    SAMPLES_MAX = 100000,
    GROWTH_PERCENT = 5,
    PAUSE_MS = 4000,
};

static char directory[] = "/tmp/dovetail-soak-XXXXXX";
static struct cluster *cluster;
static struct deployment *deployment;
static struct traffic *traffic;
static uint64_t moments; /* random */
static int64_t begun_ms, minutes;

/* The steady one, and the one that things happen to. */
static struct child *speeds[2];
static struct child *scheduler;

static struct traffic_options options = {.partitions = PARTITIONS,
                                         .rate = RATE,
                                         .readers = 1,
                                         .transactions = true,
                                         .dedupe_within = 100,
                                         .may_be_unavailable = true,
                                         .period_us = 4 * 3600 * INT64_C(1000000)};

/* --- resources --- */

struct samples {
    const char *name;
    struct child **child;
    int count;
    struct {
        int64_t at_ms;
        int64_t resident_kb;
        int64_t own_kb; /* of it, but for pages of files, such as of the program's code */
        int descriptors;
    } items[SAMPLES_MAX];
};

static struct samples samples[] = {
    {.name = "dovetail-speed", .child = &speeds[0]},
    {.name = "dovetail-batch schedule", .child = &scheduler},
    {.name = "dovetail-serving"},
};
enum { SAMPLED = sizeof samples / sizeof samples[0] };

/* "VmRSS:", "RssAnon:" */
static int64_t memory_kb(pid_t pid, const char *which)
{
    char path[64], line[200];
    int64_t kb = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *in = fopen(path, "r");
    while (in != NULL && fgets(line, sizeof line, in) != NULL)
        if (strncmp(line, which, strlen(which)) == 0)
            kb = strtoll(line + strlen(which), NULL, 10);
    if (in != NULL)
        fclose(in);
    return kb;
}

static int descriptors(pid_t pid)
{
    char path[64];
    int count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *entries = opendir(path);
    while (entries != NULL && readdir(entries) != NULL)
        count++;
    if (entries != NULL)
        closedir(entries);
    return count;
}

static void take_samples(void)
{
    static int64_t next_ms;
    if (stack_now_ms() < next_ms)
        return;
    next_ms = stack_now_ms() + SAMPLE_MS;
    for (int i = 0; i < SAMPLED; i++) {
        struct samples *of = &samples[i];
        if (of->count == SAMPLES_MAX)
            continue;
        of->items[of->count].at_ms = stack_now_ms() - begun_ms;
        of->items[of->count].resident_kb = memory_kb(child_pid(*of->child), "VmRSS:");
        of->items[of->count].own_kb = memory_kb(child_pid(*of->child), "RssAnon:");
        of->items[of->count].descriptors = descriptors(child_pid(*of->child));
        of->count++;
    }
}

static int compare_numbers(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

enum what { RESIDENT, OWN, DESCRIPTORS };

/* The median from one share of the time to another one. */
static int64_t median(const struct samples *of, double from, double to, enum what what)
{
    static int64_t numbers[SAMPLES_MAX];
    size_t count = 0;
    for (int i = 0; i < of->count; i++) {
        double share = (double)of->items[i].at_ms / (double)(minutes * 60000);
        if (share >= from && share < to)
            numbers[count++] = what == RESIDENT ? of->items[i].resident_kb
                               : what == OWN    ? of->items[i].own_kb
                                                : of->items[i].descriptors;
    }
    if (count == 0)
        return -1;
    qsort(numbers, count, sizeof *numbers, compare_numbers);
    return numbers[count / 2];
}

/* Shares of the time. */
#define WARM 0.2, 0.4
#define END 0.8, 1.1

static void check_resources(void)
{
    bool good = true;
    for (int i = 0; i < SAMPLED; i++) {
        const struct samples *of = &samples[i];
        int64_t warm = median(of, WARM, RESIDENT), end = median(of, END, RESIDENT);
        int64_t warm_files = median(of, WARM, DESCRIPTORS),
                end_files = median(of, END, DESCRIPTORS);
        print_message("%s: resident %" PRId64 " KiB after warm-up, %" PRId64
                      " KiB at the end (%+.1f %%), of which no file's %" PRId64 " and %" PRId64
                      " KiB; descriptors %" PRId64 ", %" PRId64 "\n",
                      of->name, warm, end, 100.0 * (double)(end - warm) / (double)warm,
                      median(of, WARM, OWN), median(of, END, OWN), warm_files, end_files);
        good = good && end * 100 <= warm * (100 + GROWTH_PERCENT) && end_files <= warm_files + 4;
    }
    assert_true(good);
}

/* KiB of answers that the serving process keeps; -1 where it does not say. */
static int64_t cached_kb(void)
{
    struct http_session *session = http_session_create(deployment->port);
    struct http_reply reply;
    http_get(session, "/metrics", &reply);
    const char *at = reply.status == 200 ? strstr(reply.body, "\ndovetail_cache_bytes ") : NULL;
    int64_t kb = at != NULL ? strtoll(at + strlen("\ndovetail_cache_bytes "), NULL, 10) / 1024 : -1;
    http_reply_free(&reply);
    http_session_destroy(session);
    return kb;
}

static void tell(void)
{
    struct traffic_counts now = traffic_counts(traffic);
    fprintf(stderr, "%" PRId64 " min: %" PRId64 " records, %" PRId64 " answers; KiB (no file's):",
            (stack_now_ms() - begun_ms) / 60000, now.records, now.http_answers + now.sql_answers);
    for (int i = 0; i < SAMPLED; i++)
        fprintf(stderr, " %" PRId64 " (%" PRId64 ")",
                memory_kb(child_pid(*samples[i].child), "VmRSS:"),
                memory_kb(child_pid(*samples[i].child), "RssAnon:"));
    fprintf(stderr, "; answers that are kept %" PRId64 "\n", cached_kb());
}

/* --- waiting --- */

static void look_on(int ms)
{
    int64_t until = stack_now_ms() + ms;
    do {
        traffic_must_be_well(traffic);
        children_must_run(&speeds[0], 1);
        children_must_run(&scheduler, 1);
        children_must_run(&deployment->serving, 1);
        take_samples();
        stack_sleep_ms(50);
    } while (stack_now_ms() < until);
}

/* PostgreSQL answers. */
static void await_database(void)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (PQping(deployment->postgres) != PQPING_OK) {
        if (stack_now_ms() > deadline)
            fail_msg("PostgreSQL does not come back");
        look_on(50);
    }
}

/* All that has been sent by now is counted. */
static void await_end(void)
{
    int64_t ends[ORACLE_PARTITIONS], deadline = stack_now_ms() + 3 * STACK_WAIT_MS;
    struct oracle_positions positions;
    char problem[1000];
    struct sql_session *sql = sql_session_create(deployment->postgres, traffic_topic(traffic));
    oracle_ends(traffic_oracle(traffic), ends);
    for (bool behind = true; behind;) {
        behind = !sql_read_positions(sql, &positions, problem, sizeof problem);
        for (int p = 0; !behind && p < oracle_partitions(traffic_oracle(traffic)); p++)
            behind = p >= positions.partitions || positions.next_offset[p] < ends[p];
        if (behind && stack_now_ms() > deadline) {
            children_show();
            fail_msg("the speed layer does not come to the end");
        }
        if (behind)
            look_on(100);
    }
    sql_session_destroy(sql);
}

/* --- faults --- */

static void kill_a_speed_process(void)
{
    child_kill(speeds[1]);
    look_on((int)orders_below(&moments, 2000));
    speeds[1] = deployment_start(deployment, "dovetail-speed", NULL);
}

static void stop_a_speed_process(void)
{
    child_stop(speeds[1]);
    look_on((int)orders_below(&moments, 2000));
    speeds[1] = deployment_start(deployment, "dovetail-speed", NULL);
}

/* Shorter and longer than the session time-out. */
static void freeze_a_speed_process(void)
{
    child_signal(speeds[1], SIGSTOP);
    look_on((int)orders_below(&moments, 10000));
    child_signal(speeds[1], SIGCONT);
}

static void kill_a_run(void)
{
    struct child *batch = deployment_start(deployment, "dovetail-batch", "run", NULL);
    look_on((int)orders_below(&moments, 1000));
    if (child_is_running(batch))
        child_kill(batch);
}

/* Amid what else may go on. */
static void finish(struct child *child)
{
    while (child_is_running(child))
        look_on(20);
    int code = child_wait(child, STACK_WAIT_MS);
    if (code < 0 || code > 2)
        fail_msg("%s ended with %d: %s", child_name(child), code, child_errors(child));
}

static void run(void)
{
    finish(deployment_start(deployment, "dovetail-batch", "run",
                            orders_below(&moments, 4) == 0 ? "--full" : NULL, NULL));
}

static void roll_back(void)
{
    char number[24];
    int64_t now = deployment_number(deployment, "SELECT run FROM dovetail_internal.current_run");
    if (now < 2)
        return;
    snprintf(number, sizeof number, "%" PRId64, now - 1);
    finish(deployment_start(deployment, "dovetail", "runs", "rollback", number, NULL));
}

static void kill_the_broker(void)
{
    cluster_kill(cluster, 1);
    look_on((int)orders_below(&moments, 5000));
    cluster_revive(cluster, 1);
    cluster_await_copies(cluster, traffic_topic(traffic), 1);
}

static void restart_the_broker(void)
{
    cluster_shut_down(cluster, 1);
    cluster_revive(cluster, 1);
    cluster_await_copies(cluster, traffic_topic(traffic), 1);
}

static void break_the_database(void)
{
    PGconn *connection = deployment_connect(deployment);
    pid_t pid = PQbackendPID(connection);
    assert_int_equal(kill(pid, SIGKILL), 0);
    PQfinish(connection);
    look_on(100);
    await_database();
}

static void add_a_partition(void)
{
    int count = oracle_partitions(traffic_oracle(traffic));
    bool warms_up = stack_now_ms() - begun_ms < minutes * 60000 / 5; /* each takes its memory */
    if (count < ORACLE_PARTITIONS && warms_up)
        traffic_grow(traffic, count + 1);
}

static const struct {
    const char *name;
    void (*act)(void);
    unsigned weight;
} faults[] = {
    {"a speed process was killed", kill_a_speed_process, 6},
    {"a speed process left and came", stop_a_speed_process, 4},
    {"a speed process stood still", freeze_a_speed_process, 4},
    {"a run was killed", kill_a_run, 6},
    {"a run", run, 4},
    {"a rollback", roll_back, 3},
    {"the broker was killed", kill_the_broker, 2},
    {"the broker was restarted", restart_the_broker, 1},
    {"PostgreSQL broke down", break_the_database, 2},
    {"a partition was added", add_a_partition, 1},
};
enum { FAULTS = sizeof faults / sizeof faults[0] };

static size_t choose(void)
{
    unsigned all = 0;
    for (size_t i = 0; i < FAULTS; i++)
        all += faults[i].weight;
    size_t drawn = orders_below(&moments, all), which = 0;
    while (drawn >= faults[which].weight)
        drawn -= faults[which++].weight;
    return which;
}

/* --- the test --- */

static int set_up(void **state)
{
    (void)state;
    const struct cluster_options one = {.nodes = 1};
    const char *text = getenv("SOAK_MINUTES");
    minutes = text != NULL ? strtoll(text, NULL, 10) : 60;
    if (minutes < 1 || mkdtemp(directory) == NULL)
        return -1;
    cluster = cluster_start(&one, directory);
    deployment = deployment_create();
    deployment_set(deployment, "kafka", "session.timeout.ms", json_integer(6000));
    deployment_set(deployment, "kafka", "heartbeat.interval.ms", json_integer(500));
    deployment_set(deployment, "batch", "segment_size", json_integer(1 << 20));
    deployment_set(deployment, "batch", "schedule", json_string("* * * * *"));
    /* It fills, and then it is full. */
    deployment_set(deployment, "serving", "cache_bytes", json_string("4 MiB"));
    traffic_define_with(deployment, &options);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    samples[2].child = &deployment->serving;
    options.seed = moments = stack_seed();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[100];
    traffic_destroy(traffic);
    deployment_destroy(deployment);
    cluster_stop(cluster);
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command) == 0 ? 0 : -1;
}

static void everything_at_random(void **state)
{
    (void)state;
    int counts[FAULTS] = {0};
    int64_t told_ms = 0;
    begun_ms = stack_now_ms();
    traffic = traffic_start(deployment, &options);
    for (int i = 0; i < 2; i++)
        speeds[i] = deployment_start(deployment, "dovetail-speed", NULL);
    scheduler = deployment_start(deployment, "dovetail-batch", "schedule", NULL);
    while (stack_now_ms() - begun_ms < minutes * 60000) {
        look_on((int)orders_below(&moments, PAUSE_MS));
        size_t which = choose();
        faults[which].act();
        counts[which]++;
        if (orders_below(&moments, 3) == 0)
            await_end();
        if (stack_now_ms() - told_ms > 60000) {
            told_ms = stack_now_ms();
            tell();
        }
    }
    await_end();
    child_stop(scheduler);
    traffic_prove(traffic, deployment, speeds, 2);
    for (size_t i = 0; i < FAULTS; i++)
        print_message("%4d × %s\n", counts[i], faults[i].name);
    check_resources();
    child_stop(speeds[0]);
    child_stop(speeds[1]);
    child_stop(deployment->serving);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_at_random, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
