/* Sessions of dovetail-speed that are lost: with PostgreSQL, with answers to COMMIT on their way,
 * and with the name or slot by which a process is known. No record is lost or counts twice. */
#include "tests/support/speed_fixture.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

/* The connection is lost at any moment, COMMIT included. */
static void test_lost_connections(void **state)
{
    (void)state;
    start_process(0);
    for (int i = 0; i < 60; i++) {
        produce_everywhere(100);
        execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name LIKE 'dovetail-speed%'");
    }
    assert_exact();
    stop_process(0);
}

/* --- a proxy that loses the answers of some COMMITs --- */

struct proxy_link {
    int client;
    int server;
    bool committing;
};

enum { LINKS_MAX = 8, LOSE_EVERY = 5 };

/* True: instead, the COMMIT itself is lost, and the server does not hear that the client is gone.
 */
static bool proxy_keeps_sessions;

static int connect_loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        _exit(1);
    return fd;
}

static void close_link(struct proxy_link *link)
{
    close(link->client);
    if (!link->committing || !proxy_keeps_sessions)
        close(link->server);
    *link = (struct proxy_link){.client = -1, .server = -1};
}

/* What came on one side goes to the other. The simple query COMMIT is 'Q', a length, the text. */
static void forward(struct proxy_link *link, bool from_client)
{
    static unsigned commits;
    static char buffer[1 << 16];
    ssize_t length = read(from_client ? link->client : link->server, buffer, sizeof buffer);
    if (length <= 0 || (!from_client && link->committing)) {
        close_link(link); /* the answer is here: the server has committed */
        return;
    }
    if (from_client && memmem(buffer, (size_t)length, "COMMIT", 7) != NULL)
        link->committing = ++commits % LOSE_EVERY == 0;
    if (link->committing && proxy_keeps_sessions) {
        close_link(link);
        return;
    }
    for (ssize_t at = 0; at < length;) {
        ssize_t written =
            write(from_client ? link->server : link->client, buffer + at, (size_t)(length - at));
        if (written <= 0) {
            close_link(link);
            return;
        }
        at += written;
    }
}

static void run_proxy(int listener, int server_port)
{
    struct proxy_link links[LINKS_MAX];
    for (int i = 0; i < LINKS_MAX; i++)
        links[i] = (struct proxy_link){.client = -1, .server = -1};
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        struct pollfd waits[2 * LINKS_MAX + 1] = {[2 * LINKS_MAX] = {listener, POLLIN, 0}};
        for (int i = 0; i < LINKS_MAX; i++) {
            waits[2 * i] = (struct pollfd){links[i].client, POLLIN, 0};
            waits[2 * i + 1] = (struct pollfd){links[i].server, POLLIN, 0};
        }
        poll(waits, 2 * LINKS_MAX + 1, -1);
        for (int i = 0; i < LINKS_MAX; i++) {
            if (waits[2 * i].revents != 0)
                forward(&links[i], true);
            if (waits[2 * i + 1].revents != 0 && links[i].server == waits[2 * i + 1].fd)
                forward(&links[i], false);
        }
        for (int i = 0; i < LINKS_MAX && waits[2 * LINKS_MAX].revents != 0; i++) {
            if (links[i].client >= 0)
                continue;
            links[i] = (struct proxy_link){.client = accept(listener, NULL, NULL),
                                           .server = connect_loopback(server_port)};
            break;
        }
    }
}

/* Starts the proxy as process 3; its port. */
static int start_proxy(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    int server_port = atoi(PQport(postgres_handle(postgres)));
    processes[3] = fork();
    assert_true(processes[3] >= 0);
    if (processes[3] == 0)
        run_proxy(listener, server_port);
    close(listener);
    return ntohs(address.sin_port);
}

static void lose_commits(void)
{
    char *server = NULL;
    assert_true(asprintf(&server, "%s port=%d sslmode=disable gssencmode=disable", conninfo,
                         start_proxy()) > 0);
    write_config("proxy.json", server, 300, 64 << 20);
    free(server);
    start_with(0, "proxy.json");
    for (int i = 0; i < 60; i++)
        produce_everywhere(100);
    assert_exact();
    assert_true(log_has(0, "PostgreSQL is away"));
    /* It knew what to make of them: it was never wrong about P. */
    assert_false(log_has(0, "fenced"));
    stop_process(0);
    kill_process(3);
}

/* Every fifth COMMIT takes place without the program's hearing of it. */
static void test_commits_in_doubt(void **state)
{
    (void)state;
    proxy_keeps_sessions = false;
    lose_commits();
}

/* Every fifth never arrives, and the session that should have got it keeps its locks. */
static void test_sessions_that_outlive_their_client(void **state)
{
    (void)state;
    proxy_keeps_sessions = true;
    lose_commits();
}

/* --- names --- */

static void end_sessions(void)
{
    execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'dovetail-speed%'");
}

static void wait_for_owners(int count)
{
    char sql[128];
    snprintf(sql, sizeof sql,
             "SELECT (count(DISTINCT owner) = %d)::integer FROM dovetail_internal.position", count);
    wait_until_sql(sql);
}

/* Another process takes the name of one that is there and has no session. */
static void take_name_of_stopped(const char *instance)
{
    produce_everywhere(1000);
    start_named(0, "dovetail.json", instance);
    wait_until_caught_up();
    assert_int_equal(kill(processes[0], SIGSTOP), 0);
    end_sessions();
    execute("CREATE TABLE before AS SELECT DISTINCT owner FROM dovetail_internal.position");
    start_named(1, "dovetail.json", instance);
    wait_until_sql("SELECT (count(*) = 0)::integer FROM dovetail_internal.position "
                   "WHERE owner IN (SELECT owner FROM before)");
    produce_everywhere(1000);
    assert_int_equal(kill(processes[0], SIGCONT), 0);
}

static void test_name_lost_in_the_group(void **state)
{
    (void)state;
    take_name_of_stopped(NULL);
    wait_until("it takes another name", log_has_line, "this one goes on as");
    wait_for_owners(2);
    produce_everywhere(1000);
    assert_exact();
    stop_process(0);
    stop_process(1);
}

static void test_given_name_lost_in_the_group(void **state)
{
    (void)state;
    take_name_of_stopped("given");
    int exit_state = wait_for_exit(0);
    assert_true(WIFEXITED(exit_state));
    assert_int_equal(WEXITSTATUS(exit_state), PROGRAM_FAILURE);
    assert_true(log_has(0, "instance given"));
    produce_everywhere(1000);
    assert_exact();
    stop_process(1);
}

/* Takes the lock of process 0's slot as soon as its session ends, on the test's own connection. */
static void take_slot(void)
{
    PGresult *result = NULL;
    assert_ok(postgres_query(postgres,
                             "SELECT classid::bigint::bit(32)::integer, objid::bigint::bit(32)"
                             "::integer, pid FROM pg_locks WHERE locktype = 'advisory' "
                             "AND objsubid = 2 AND database = (SELECT oid FROM pg_database "
                             "WHERE datname = current_database())",
                             0, NULL, &result, &error));
    assert_int_equal(PQntuples(result), 1);
    assert_ok(postgres_executef(postgres, &error,
                                "SELECT pg_terminate_backend(%s, 10000); "
                                "SELECT pg_advisory_lock(%s, %s)",
                                PQgetvalue(result, 0, 2), PQgetvalue(result, 0, 0),
                                PQgetvalue(result, 0, 1)));
    PQclear(result);
    end_sessions(); /* it notices when the other one, for flushes, is gone */
}

static void test_slot_lost_with_the_session(void **state)
{
    (void)state;
    produce_everywhere(1000);
    start_process(0);
    wait_until_caught_up();
    take_slot();
    wait_until("it takes another name", log_has_line, "this one goes on as");
    produce_everywhere(1000);
    assert_exact();
    stop_process(0);
}

static void test_given_name_lost_with_the_session(void **state)
{
    (void)state;
    start_named(0, "dovetail.json", "given");
    produce_everywhere(1000);
    wait_until_caught_up();
    take_slot();
    int exit_state = wait_for_exit(0);
    assert_true(WIFEXITED(exit_state));
    assert_int_equal(WEXITSTATUS(exit_state), PROGRAM_FAILURE);
    assert_true(log_has(0, "another process runs as instance \"given\""));
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lost_connections, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_commits_in_doubt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sessions_that_outlive_their_client, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_name_lost_in_the_group, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_name_lost_in_the_group, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slot_lost_with_the_session, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_name_lost_with_the_session, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
