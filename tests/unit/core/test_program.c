/* What the mains share: options anywhere on the line, stopping by signal, waits that end by it. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <malloc.h>
#include <pthread.h>

#include "core/program/program.h"

enum { ARGUMENTS_MAX = 16 };

static char *line[ARGUMENTS_MAX];
static struct program_arguments arguments;
static int exit_code;

/* Splits `text` at spaces and starts with it. */
static bool start(const char *text)
{
    static char buffer[256];
    int count = 0;
    strcpy(buffer, text);
    for (char *word = strtok(buffer, " "); word != NULL; word = strtok(NULL, " "))
        line[count++] = word;
    line[count] = NULL;
    exit_code = -1;
    return program_start(count, line, "dovetail-test", "Tests.\n", &arguments, &exit_code);
}

enum { THREADS = 64 };

static pthread_barrier_t all_have;

static void *hold_memory(void *context)
{
    (void)context;
    volatile char *held = malloc(2000);
    held[0] = 1; /* or the compiler would leave it out */
    (void)pthread_barrier_wait(&all_have);
    free((void *)held);
    return NULL;
}

/* Heaps of the process, of which glibc makes more where threads are many. */
static long count_heaps(void)
{
    char *text = NULL;
    size_t length;
    long count = 0;
    FILE *out = open_memstream(&text, &length);
    assert_int_equal(malloc_info(0, out), 0);
    fclose(out);
    for (const char *at = text; (at = strstr(at, "<heap nr=")) != NULL; at++)
        count++;
    free(text);
    return count;
}

static void test_heaps_are_no_more_than_processors(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    unsetenv("MALLOC_ARENA_MAX");
    assert_true(start("x"));
    pthread_barrier_init(&all_have, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hold_memory, NULL), 0);
    (void)pthread_barrier_wait(&all_have);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&all_have);
    long heaps = count_heaps();
    if (heaps > sysconf(_SC_NPROCESSORS_ONLN))
        fail_msg("%ld heaps", heaps);
}

static long own_kib(void)
{
    char text[200];
    long kib = -1;
    FILE *in = fopen("/proc/self/status", "r");
    while (in != NULL && fgets(text, sizeof text, in) != NULL)
        (void)sscanf(text, "RssAnon: %ld kB", &kib);
    if (in != NULL)
        fclose(in);
    return kib;
}

/* Much that was freed below something that is in use. */
static void test_what_is_freed_goes_back(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* it keeps what is freed, for a while */
#endif
    enum { PIECES = 30000, BYTES = 1000 };
    char **pieces = malloc(PIECES * sizeof *pieces);
    for (int i = 0; i < PIECES; i++) {
        pieces[i] = malloc(BYTES);
        memset(pieces[i], i, BYTES);
    }
    for (int i = 0; i < PIECES - 1; i++)
        free(pieces[i]);
    long before = own_kib();
    program_return_memory();
    long after = own_kib();
    free(pieces[PIECES - 1]);
    free(pieces);
    if (after > before - PIECES * BYTES / 1024 / 2)
        fail_msg("%ld KiB before, %ld KiB after", before, after);
}

static void test_options_are_taken_out_wherever_they_stand(void **state)
{
    (void)state;
    assert_true(start("x query VIEW --config a.json --limit 5"));
    assert_string_equal(arguments.config_path, "a.json");
    assert_int_equal(arguments.rest_count, 4);
    assert_string_equal(arguments.rest[0], "query");
    assert_string_equal(arguments.rest[3], "5");
    assert_null(arguments.rest[4]);

    assert_true(start("x --config=b.json"));
    assert_string_equal(arguments.config_path, "b.json");
    assert_int_equal(arguments.rest_count, 0);
    assert_null(arguments.rest[0]);

    assert_true(start("x run -- --config c.json --help"));
    assert_null(arguments.config_path);
    assert_int_equal(arguments.rest_count, 5);

    assert_true(start("x"));
    assert_null(arguments.config_path);
}

static void test_options_that_end_the_program(void **state)
{
    (void)state;
    assert_false(start("x --version"));
    assert_int_equal(exit_code, PROGRAM_OK);
    assert_false(start("x query --help"));
    assert_int_equal(exit_code, PROGRAM_OK);
    assert_false(start("x --config"));
    assert_int_equal(exit_code, PROGRAM_USAGE);
}

static void test_waits(void **state)
{
    (void)state;
    int pipe_fds[2];
    assert_true(start("x"));
    int64_t begun_us = program_monotonic_us();
    assert_false(program_wait_ms(20));
    assert_true(program_monotonic_us() - begun_us >= 20000);
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(program_wait_fd(pipe_fds[0], 1), 0);
    assert_int_equal(write(pipe_fds[1], "x", 1), 1);
    assert_int_equal(program_wait_fd(pipe_fds[0], -1), 1);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* Last: a program that is stopping stays so. */
static void test_a_signal_ends_waits_for_good(void **state)
{
    (void)state;
    assert_true(start("x"));
    assert_false(program_stopping());
    assert_int_equal(raise(SIGTERM), 0);
    assert_true(program_stopping());
    assert_true(program_wait_ms(1000000));
    assert_int_equal(program_wait_fd(-1, -1), 0);
    assert_int_equal(raise(SIGTERM), 0); /* repeating it changes nothing */
    assert_int_equal(raise(SIGPIPE), 0);
    program_stop();
    assert_true(program_stopping());
    program_log(LOG_INFO, "a line\nin %s", "two parts");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heaps_are_no_more_than_processors),
        cmocka_unit_test(test_what_is_freed_goes_back),
        cmocka_unit_test(test_options_are_taken_out_wherever_they_stand),
        cmocka_unit_test(test_options_that_end_the_program),
        cmocka_unit_test(test_waits),
        cmocka_unit_test(test_a_signal_ends_waits_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
