/* Runs a command and says what it cost.
 *
 *     timed OUT COMMAND [ARGUMENT]...
 *
 * Writes one line into the file OUT: wall seconds, CPU seconds (user and system, children that it
 * waited for included), most resident memory in KiB. The exit code is the command's. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/support.h"

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        bench_fail("usage: timed OUT COMMAND [ARGUMENT]...");
    double start = bench_seconds();
    pid_t child = fork();
    if (child < 0)
        bench_fail("timed: %s", strerror(errno));
    if (child == 0) {
        execvp(argv[2], argv + 2);
        bench_fail("timed: %s: %s", argv[2], strerror(errno));
    }
    int status;
    struct rusage usage;
    while (wait4(child, &status, 0, &usage) < 0)
        if (errno != EINTR)
            bench_fail("timed: %s", strerror(errno));
    double wall = bench_seconds() - start;
    FILE *out = fopen(argv[1], "w");
    if (out == NULL)
        bench_fail("timed: %s cannot be written", argv[1]);
    fprintf(out, "%.6f %.3f %ld\n", wall, seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime),
            usage.ru_maxrss);
    fclose(out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
