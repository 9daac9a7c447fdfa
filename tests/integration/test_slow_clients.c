/* Clients that are slow, broken or greedy, hundreds at once, from many addresses; others are served
 * meanwhile, and an end is put to each of them.
 *
 * A client's own address is one of 127.0.0.0/8. */
#include "tests/support/trips_fixture.h"

#include "core/program/program.h"

enum { SLOW = 300, CONNECTIONS = 1000, PER_ADDRESS = 20, RECEIVE_MS = 2500, RESPOND_MS = 4000 };

static const char settings[] =
    "{\"connections\":1000,\"connections_per_address\":20,\"receive_timeout_ms\":2500,"
    "\"respond_timeout_ms\":4000,\"threads\":4}";

/* A connection from 127.1.x.y. */
static int connect_from(unsigned number, int receive_bytes)
{
    struct sockaddr_in own = {.sin_family = AF_INET};
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    own.sin_addr.s_addr = htonl(0x7F010000U + number);
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (receive_bytes > 0)
        assert_int_equal(
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof own), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&server, sizeof server), 0);
    return fd;
}

static void put(int fd, const char *text)
{
    (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* True where the server has closed it, or does within the time; what it sends is thrown away. */
static bool is_closed_within(int fd, int ms)
{
    char buffer[65536];
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    while (poll(&wait, 1, ms) == 1)
        if (recv(fd, buffer, sizeof buffer, 0) <= 0)
            return true;
    return false;
}

static void assert_others_are_served(void)
{
    json_decref(get_json("/v1/views/by_route/rows?origin=JFK"));
    struct reply reply = get("/livez");
    assert_int_equal(reply.status, 200);
    free(reply.text);
}

static const char one_request[] =
    "GET /v1/views/by_route/rows HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";

/* One more byte of a header each, from time to time: never idle, never done. */
static void test_slow_headers(void **state)
{
    (void)state;
    static int fds[SLOW];
    bool alive = true;
    for (unsigned i = 0; i < SLOW; i++) {
        fds[i] = connect_from(i / 4, 0);
        put(fds[i], i % 3 == 0 ? "G" : i % 3 == 1 ? one_request : "");
    }
    int rounds = 0;
    while (alive) {
        assert_others_are_served();
        alive = false;
        for (unsigned i = 0; i < SLOW; i++) {
            if (fds[i] < 0)
                continue;
            if (i % 3 == 1)
                put(fds[i], "x");
            if (is_closed_within(fds[i], 0)) {
                close(fds[i]);
                fds[i] = -1;
            } else {
                alive = true;
            }
        }
        poll(NULL, 0, 50); /* a slow client's pace */
        if (++rounds > 1200)
            fail_msg("slow clients are never cut off");
    }
    assert_true(rounds > 1);
}

/* Who asks for much and does not read it. */
static void test_slow_readers(void **state)
{
    (void)state;
    static int fds[SLOW];
    for (unsigned i = 0; i < SLOW; i++) {
        fds[i] = connect_from(i / 4, 2048);
        for (int k = 0; k < 40; k++) /* answers of 60 kB each: more than all buffers hold */
            put(fds[i], "GET /v1/views/by_route/rows?limit=300 HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for (int i = 0; i < 10; i++)
        assert_others_are_served();
    /* What is on its way is read to the end; the end comes before the 40 answers. */
    for (unsigned i = 0; i < SLOW; i++) {
        if (i == 0)
            poll(NULL, 0, RESPOND_MS + 500);
        assert_true(is_closed_within(fds[i], 60000));
        close(fds[i]);
    }
    assert_others_are_served();
}

static void test_broken_framing(void **state)
{
    (void)state;
    static char long_line[70000];
    static char long_header[70000];
    memset(long_line, 'a', sizeof long_line - 1);
    memcpy(long_line, "GET /", 5);
    memset(long_header, 'h', sizeof long_header - 1);
    memcpy(long_header, "GET / HTTP/1.1\r\nX: ", 19);
    const char *const texts[] = {
        "\r\n\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", /* a TLS greeting */
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "POST /v1/views HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
        long_line,
        long_header,
    };
    /* All at once: some are cut off only when their time is over. */
    enum { ROUNDS = 5, TEXTS = sizeof texts / sizeof texts[0] };
    int fds[ROUNDS * TEXTS];
    for (unsigned i = 0; i < ROUNDS * TEXTS; i++) {
        fds[i] = connect_from(1000 + i % TEXTS, 0);
        put(fds[i], texts[i % TEXTS]);
    }
    for (unsigned i = 0; i < ROUNDS * TEXTS; i++) {
        if (!is_closed_within(fds[i], 60000))
            fail_msg("text %u holds its connection", i % TEXTS);
        close(fds[i]);
    }
    assert_others_are_served();
}

/* A body that nobody asked for is read up to a bound, however it comes. */
static void test_endless_bodies(void **state)
{
    (void)state;
    static char part[8192];
    memset(part, 'b', sizeof part);
    static const char *const heads[] = {
        "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n",
    };
    for (size_t i = 0; i < 2; i++) {
        int fd = connect_from(2000, 0);
        put(fd, heads[i]);
        size_t sent = 0;
        while (sent < 200 * sizeof part && send(fd, part, sizeof part, MSG_NOSIGNAL) > 0)
            sent += sizeof part;
        assert_true(is_closed_within(fd, 60000));
        close(fd);
    }
    assert_others_are_served();
}

/* The address has its share, and no more; others are not touched by it. */
static void test_connections_per_address(void **state)
{
    (void)state;
    static const char text[] = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    int fds[PER_ADDRESS + 10];
    int answered = 0;
    for (size_t i = 0; i < PER_ADDRESS + 10; i++) {
        fds[i] = connect_from(3000, 0);
        put(fds[i], text);
        char byte;
        struct pollfd wait = {.fd = fds[i], .events = POLLIN};
        assert_int_equal(poll(&wait, 1, 20000), 1);
        answered += recv(fds[i], &byte, 1, 0) == 1;
    }
    assert_int_equal(answered, PER_ADDRESS);
    assert_others_are_served();
    for (size_t i = 0; i < PER_ADDRESS + 10; i++)
        close(fds[i]);
}

/* One that goes on asking is not cut off: the time begins anew with each request. */
static void test_a_lively_connection_stays(void **state)
{
    (void)state;
    static const char text[] = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd = connect_from(4000, 0);
    int64_t asked = 0;
    for (int i = 0; i < 12; i++) {
        char buffer[2048];
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        put(fd, text);
        assert_int_equal(poll(&wait, 1, 20000), 1);
        assert_true(recv(fd, buffer, sizeof buffer, 0) > 12);
        assert_memory_equal(buffer, "HTTP/1.1 200", 12);
        asked++;
        poll(NULL, 0, RECEIVE_MS / 5);
    }
    assert_int_equal(asked, 12);
    close(fd);
}

/* A stream is not meant to end, so it has no deadline. */
static void test_a_stream_stays(void **state)
{
    (void)state;
    static const char text[] = "GET /v1/views/by_route/live?limit=3 HTTP/1.1\r\nHost: x\r\n\r\n";
    char head[12];
    int fd = connect_from(5000, 0);
    put(fd, text);
    assert_int_equal(recv(fd, head, sizeof head, MSG_WAITALL), sizeof head);
    assert_memory_equal(head, "HTTP/1.1 200", 12);
    int64_t begun_us = program_monotonic_us();
    while (program_monotonic_us() - begun_us < (RESPOND_MS + 1500) * INT64_C(1000))
        assert_false(is_closed_within(fd, 500));
    close(fd);
}

static void test_headers_of_every_answer(void **state)
{
    (void)state;
    static const char *const targets[] = {"/",
                                          "/dashboard/main.js",
                                          "/v1/views",
                                          "/nothing",
                                          "/v1/views/by_route/rows?limit=0",
                                          "/metrics",
                                          "/livez"};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct reply reply = get(targets[i]);
        assert_true(has_header(&reply, "X-Content-Type-Options: nosniff\r\n"));
        assert_true(has_header(&reply, "X-Frame-Options: DENY\r\n"));
        assert_true(has_header(&reply, "Referrer-Policy: no-referrer\r\n"));
        assert_true(has_header(&reply, "Cross-Origin-Resource-Policy: same-origin\r\n"));
        assert_true(has_header(&reply, "Content-Security-Policy: default-src 'none'; "));
        assert_true(has_header(&reply, "frame-ancestors 'none'"));
        assert_false(has_header(&reply, "unsafe"));
        assert_int_equal(count_of(reply.text, "Content-Security-Policy:"), 1);
        assert_false(has_header(&reply, "Access-Control-"));
        free(reply.text);
    }
    /* A page of another origin is not even told what it might ask. */
    more_headers = "Origin: http://elsewhere.example\r\n"
                   "Access-Control-Request-Method: GET\r\n";
    struct reply reply = receive(send_request("OPTIONS", "/v1/views"));
    more_headers = "";
    assert_int_equal(reply.status, 405);
    assert_false(has_header(&reply, "Access-Control-"));
    free(reply.text);
}

static int set_up_with_limits(void **state)
{
    more_settings = settings;
    return set_up(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_headers),
        cmocka_unit_test(test_slow_readers),
        cmocka_unit_test(test_broken_framing),
        cmocka_unit_test(test_endless_bodies),
        cmocka_unit_test(test_connections_per_address),
        cmocka_unit_test(test_a_lively_connection_stays),
        cmocka_unit_test(test_a_stream_stays),
        cmocka_unit_test(test_headers_of_every_answer),
    };
    return cmocka_run_group_tests(tests, set_up_with_limits, tear_down);
}
