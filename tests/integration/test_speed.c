/* dovetail-speed: whatever happens to the process, its rows are the fold of the records below P,
 * and the ledger balances. */
#include "tests/support/speed_fixture.h"

/* --- tests --- */

static void test_plain(void **state)
{
    (void)state;
    produce_everywhere(3000);
    start_process(0);
    wait_until_caught_up();
    for (int i = 0; i < 20; i++)
        produce_everywhere(150);
    assert_exact();
    /* An idle process keeps saying that it has everything. */
    execute("CREATE TABLE seen AS SELECT min(as_of) AS as_of FROM dovetail_internal.position");
    wait_until_sql("SELECT (p.as_of > s.as_of)::integer FROM seen AS s, "
                   "(SELECT min(as_of) AS as_of FROM dovetail_internal.position) AS p");
    stop_process(0);
    produce_everywhere(500);
    start_process(0);
    assert_exact();
    /* Slices begin on a timer, too, wherever records come. */
    for (int i = 0; i < 1000 && query_int64("SELECT count(DISTINCT _slice_start) FROM "
                                            "dovetail_internal.speed_1 WHERE _partition = 0") < 6;
         i++)
        produce_everywhere(5);
    assert_exact();
    assert_true(query_int64("SELECT count(DISTINCT _slice_start) "
                            "FROM dovetail_internal.speed_1 WHERE _partition = 0") >= 6);
    stop_process(0);
}

static void test_kill(void **state)
{
    (void)state;
    produce_everywhere(2000);
    for (int round = 0; round < 3; round++) {
        start_process(0);
        produce_everywhere(20000);
        char sql[256];
        snprintf(sql, sizeof sql,
                 "SELECT (count(*) = 3 AND sum(next_offset) > %lld)::integer "
                 "FROM dovetail_internal.position",
                 (long long)(produced[0] + produced[1] + produced[2] - 55000));
        wait_until_sql(sql);
        kill_process(0);
    }
    produce_everywhere(100);
    start_process(0);
    assert_exact();
    stop_process(0);
}

/* Far behind the end every flush closes its slices, whose rows have no address then; at the end
 * slices stay open, and a group of one has one row. */
static void test_backlog(void **state)
{
    (void)state;
    enum { BACKLOG = 150000 };
    produce(0, BACKLOG);
    start_process(0);
    wait_until_sql("SELECT (sum(next_offset) > 20000)::integer FROM dovetail_internal.position");
    kill_process(0);
    start_process(0);
    assert_exact();
    assert_true(query_int64("SELECT sum(flights) FROM dovetail_internal.speed_1 "
                            "WHERE _group_id IS NULL AND _partition = 0") > BACKLOG / 2);
    for (int i = 0; i < 20; i++) {
        produce_everywhere(100);
        wait_until_caught_up();
    }
    assert_exact();
    assert_int_equal(query_int64("SELECT count(*) FROM (SELECT FROM dovetail_internal.speed_1 "
                                 "GROUP BY _partition, _slice_start, window_start, origin "
                                 "HAVING count(*) > 1) AS twice"),
                     0);
    stop_process(0);
}

static void test_zombie(void **state)
{
    (void)state;
    start_process(0);
    produce_everywhere(1000);
    wait_until_caught_up();
    assert_int_equal(kill(processes[0], SIGSTOP), 0);
    execute("UPDATE dovetail_internal.position SET owner_epoch = owner_epoch + 1, "
            "owner = 'other', slice_start = next_offset");
    execute("CREATE TABLE before AS SELECT topic, partition, next_offset, consumed "
            "FROM dovetail_internal.position");
    produce_everywhere(1000);
    assert_int_equal(kill(processes[0], SIGCONT), 0);
    wait_until("the zombie is fenced", log_has_line, "fenced, nothing was written");
    wait_until("it lets go", log_has_line, "belongs to another process");
    assert_int_equal(
        query_int64("SELECT count(*) FROM dovetail_internal.position AS p "
                    "JOIN before AS b USING (topic, partition) "
                    "WHERE (p.next_offset, p.consumed) <> (b.next_offset, b.consumed)"),
        0);
    assert_rows(1, "true", "at_offset < 1000");
    /* The group gives the partitions anew as soon as its members change. */
    start_process(1);
    assert_exact();
    stop_process(0);
    produce_everywhere(10);
    assert_exact();
    stop_process(1);
}

static void test_owner_looks_again(void **state)
{
    (void)state;
    start_process(0);
    produce_everywhere(1000);
    wait_until_caught_up();
    execute("UPDATE dovetail_internal.position SET owner_epoch = owner_epoch + 1");
    produce_everywhere(1000);
    assert_exact();
    assert_true(log_has(0, "fenced, nothing was written"));
    stop_process(0);
}

/* PostgreSQL does not answer: consumption pauses, and nothing is lost or doubled afterwards. */
static void test_bounded_memory(void **state)
{
    (void)state;
    start_with(0, "small.json");
    produce_everywhere(100);
    wait_until_caught_up();
    execute("BEGIN; SELECT FROM dovetail_internal.position FOR UPDATE");
    for (int i = 0; i < 2000 && !log_has(0, "consumption pauses"); i++)
        produce_everywhere(300);
    assert_true(log_has(0, "consumption pauses"));
    produce_everywhere(3000);
    execute("COMMIT");
    assert_exact();
    assert_true(log_has(0, "consumption goes on"));
    stop_process(0);
}

/* Groups that all differ: what waits for the flusher is bounded before it is encoded, too. */
static void test_bounded_flushes(void **state)
{
    (void)state;
    enum { MEMORY = 16 << 20, ROW_BYTES = 80 /* at least */ };
    origins = 1000000;
    write_config("groups.json", conninfo, 3600000, MEMORY);
    start_with(0, "groups.json");
    produce_everywhere(100);
    wait_until_caught_up();
    execute("BEGIN; SELECT FROM dovetail_internal.position FOR UPDATE");
    produce_everywhere(50000);
    wait_until("consumption pauses", log_has_line, "consumption pauses");
    execute("COMMIT");
    assert_exact();
    assert_true(query_int64("SELECT max(count) FROM (SELECT count(*) FROM "
                            "dovetail_internal.speed_1 GROUP BY xmin) AS flush") <
                MEMORY / 4 / ROW_BYTES);
    stop_process(0);
}

static void test_cut_while_idle(void **state)
{
    (void)state;
    start_with(0, "long-slices.json");
    produce_everywhere(100);
    wait_until_caught_up();
    wait_until_sql("SELECT bool_and(as_of IS NOT NULL)::integer FROM dovetail_internal.position");
    execute("UPDATE dovetail_internal.position SET cut_requested = true; NOTIFY dovetail_cut");
    wait_until_sql("SELECT bool_and(NOT cut_requested AND slice_start = next_offset)::integer "
                   "FROM dovetail_internal.position");
    produce_everywhere(100);
    assert_exact();
    assert_rows(1, "_slice_start = 100", "at_offset >= 100");
    stop_process(0);
}

static void test_planned_cut(void **state)
{
    (void)state;
    start_with(0, "long-slices.json");
    produce_everywhere(100);
    wait_until_caught_up();
    execute("BEGIN; SELECT FROM dovetail_internal.position ORDER BY partition FOR UPDATE; "
            "INSERT INTO dovetail_internal.planned_cut "
            "SELECT topic, partition, 150 + partition FROM dovetail_internal.position; "
            "UPDATE dovetail_internal.position SET owner_epoch = owner_epoch + 1; COMMIT");
    produce_everywhere(100);
    assert_exact();
    assert_rows(1, "_slice_start >= 150 + _partition", "at_offset >= 150 + partition");
    assert_rows(1, "_slice_start < 150 + _partition", "at_offset < 150 + partition");
    stop_process(0);
}

static void test_new_version(void **state)
{
    (void)state;
    start_process(0);
    produce_everywhere(1000);
    wait_until_caught_up(); /* or the new version would cover everything, and replace the old one */
    produce_everywhere(1000);
    json_t *changed = by_origin_json();
    json_object_set_new(json_object_get(changed, "measures"), "best", json_string("min(delay)"));
    register_view(changed);
    produce_everywhere(1000);
    assert_exact();
    /* From its coverage on, everything, wherever P was when it was registered. */
    assert_rows(2, "true",
                "at_offset >= (SELECT c.speed_from FROM dovetail_internal.coverage AS c "
                "WHERE c.version = 2 AND c.partition = model.partition)");
    stop_process(0);
}

static void test_two_processes(void **state)
{
    (void)state;
    start_process(0);
    produce_everywhere(2000);
    start_process(1);
    wait_until_sql("SELECT (count(DISTINCT owner) = 2)::integer FROM dovetail_internal.position");
    produce_everywhere(2000);
    assert_exact();
    kill_process(1);
    produce_everywhere(2000);
    assert_exact(); /* the group takes from the dead after its session time-out */
    stop_process(0);
}

/* Who stops gives its partitions away; who is killed comes back under the same name. */
static void test_no_session_is_waited_for(void **state)
{
    (void)state;
    start_with(0, "patient.json");
    start_with(1, "patient.json");
    produce_everywhere(1000);
    wait_until_sql("SELECT (count(DISTINCT owner) = 2)::integer FROM dovetail_internal.position");
    stop_process(1);
    produce_everywhere(1000);
    assert_exact();
    kill_process(0);
    produce_everywhere(1000);
    start_with(0, "patient.json");
    assert_exact();
    stop_process(0);
    produce_everywhere(1000);
    start_with(0, "patient.json");
    assert_exact();
    start_with(1, "patient.json");
    wait_until_sql("SELECT (count(DISTINCT owner) = 2)::integer FROM dovetail_internal.position");
    stop_process(0);
    stop_process(1);
    start_with(1, "patient.json");
    produce_everywhere(1000);
    assert_exact();
    stop_process(1);
}

static void test_nothing_to_do(void **state)
{
    (void)state;
    execute("TRUNCATE dovetail_internal.source CASCADE");
    start_process(0);
    int exit_state = wait_for_exit(0);
    assert_true(WIFEXITED(exit_state));
    assert_int_equal(WEXITSTATUS(exit_state), PROGRAM_USAGE);
    assert_true(log_has(0, "no source is registered"));
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kill, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_backlog, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_zombie, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_owner_looks_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounded_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounded_flushes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut_while_idle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_planned_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_new_version, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_processes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_session_is_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_to_do, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
