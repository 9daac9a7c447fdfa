/* Says where a test stands still. tests/run.sh ends a program that is not done in time by SIGTERM:
 * then stderr gets the stack of the thread that the signal interrupts, usually the main one, with
 * names and lines where addr2line is there, and what the test's children have said; and the program
 * dies of the signal. stack_join ends a program in the same way.
 *
 * It runs once, in a process that is about to die, so it does what signal handlers should not; what
 * gets stuck in that is killed by tests/run.sh after ten seconds. */
#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/child.h"
#include "tests/support/stack.h"

enum { FRAMES_MAX = 48, TEXT_BYTES = 24 };

/* Names and lines of the frames that are in the program itself. */
static void name_frames(void *const *frames, int count)
{
    static char texts[FRAMES_MAX][TEXT_BYTES], program[64];
    char *argv[FRAMES_MAX + 8] = {"timeout", "5", "addr2line", "-f", "-p", "-e", program};
    Dl_info own, info;
    int arguments = 7;
    if (dladdr((void *)name_frames, &own) == 0)
        return;
    snprintf(program, sizeof program, "/proc/%d/exe", (int)getpid());
    for (int i = 0; i < count; i++) {
        if (dladdr(frames[i], &info) == 0 || info.dli_fbase != own.dli_fbase)
            continue;
        snprintf(texts[i], TEXT_BYTES, "%#lx",
                 (unsigned long)((char *)frames[i] - (char *)own.dli_fbase - 1));
        argv[arguments++] = texts[i];
    }
    pid_t pid = fork();
    if (pid == 0) {
        dup2(STDERR_FILENO, STDOUT_FILENO);
        execvp(argv[0], argv);
        _exit(127);
    }
    if (pid > 0)
        waitpid(pid, NULL, 0);
}

static pid_t self; /* a child before its exec has this handler, too */

static void tell(int signal)
{
    if (getpid() != self) {
        raise(signal);
        return;
    }
    static const char head[] = "--- the test stands still here:\n";
    void *frames[FRAMES_MAX];
    int count = backtrace(frames, FRAMES_MAX);
    if (write(STDERR_FILENO, head, sizeof head - 1) < 0)
        _exit(1);
    backtrace_symbols_fd(frames, count, STDERR_FILENO);
    name_frames(frames, count);
    children_show();
    raise(signal); /* by default again, once this handler has returned */
}

__attribute__((constructor)) static void begin(void)
{
    void *frame;
    self = getpid();
    (void)backtrace(&frame, 1); /* the first call loads a library */
    struct sigaction action = {.sa_handler = tell, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGTERM, &action, NULL);
}

void stack_join(pthread_t thread, const char *what)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += STACK_JOIN_S;
    if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &end) == 0)
        return;
    fprintf(stderr, "%s has not ended after %d s\n", what, STACK_JOIN_S);
    raise(SIGTERM); /* nobody can go on beside a thread that stands still */
}
