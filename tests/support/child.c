/* Child processes: see child.h. One list, used by the main thread alone. */
#include "tests/support/child.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/stack.h"

enum { SHOWN_BYTES = 2000, STOP_MS = 60000 };

struct child {
    struct child *next;
    pid_t pid;
    bool ended;
    int code;
    char name[80];
    char output_path[PATH_MAX];
    char errors_path[PATH_MAX];
    char *output; /* as last read; owned */
    char *errors;
};

static struct child *children;
static int child_count;

/* --- starting --- */

/* Between fork and exec, where other threads may hold any lock: system calls only. */
static void become(const char *const *argv, const char *output, const char *errors, pid_t parent)
{
    int out = open(output, O_CREAT | O_WRONLY | O_TRUNC | O_APPEND, 0600);
    int err = open(errors, O_CREAT | O_WRONLY | O_TRUNC | O_APPEND, 0600);
    int in = open("/dev/null", O_RDONLY);
    if (out < 0 || err < 0 || in < 0)
        _exit(126);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    close_range(STDERR_FILENO + 1, ~0U, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* the test died before prctl */
        _exit(126);
    execv(argv[0], (char *const *)argv);
    _exit(127);
}

struct child *child_start(const char *directory, const char *name, const char *const *argv)
{
    struct child *child = calloc(1, sizeof *child);
    assert_non_null(child);
    if (child_count++ == 0)
        atexit(children_end);
    snprintf(child->name, sizeof child->name, "%s.%d", name, child_count);
    snprintf(child->output_path, sizeof child->output_path, "%s/%s.out", directory, child->name);
    snprintf(child->errors_path, sizeof child->errors_path, "%s/%s.err", directory, child->name);
    pid_t parent = getpid();
    child->pid = fork();
    if (child->pid == 0)
        become(argv, child->output_path, child->errors_path, parent);
    if (child->pid < 0) {
        free(child);
        fail_msg("fork: %s", strerror(errno));
    }
    child->next = children;
    children = child;
    return child;
}

/* --- ending --- */

static void note_end(struct child *child, int status)
{
    child->ended = true;
    child->code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

bool child_is_running(struct child *child)
{
    int status;
    if (!child->ended && waitpid(child->pid, &status, WNOHANG) == child->pid)
        note_end(child, status);
    return !child->ended;
}

pid_t child_pid(const struct child *child)
{
    return child->pid;
}

const char *child_name(const struct child *child)
{
    return child->name;
}

int child_wait(struct child *child, int timeout_ms)
{
    int64_t deadline = stack_now_ms() + timeout_ms;
    while (child_is_running(child)) {
        if (stack_now_ms() > deadline) {
            children_show();
            fail_msg("%s is still running after %d ms", child->name, timeout_ms);
        }
        stack_sleep_ms(5);
    }
    return child->code;
}

/* Until then it is our copy, with our handlers. */
static bool is_its_program(const struct child *child)
{
    char path[40], own[PATH_MAX], its[PATH_MAX];
    snprintf(path, sizeof path, "/proc/%d/exe", (int)child->pid);
    ssize_t own_length = readlink("/proc/self/exe", own, sizeof own);
    ssize_t its_length = readlink(path, its, sizeof its);
    return its_length > 0 &&
           (its_length != own_length || memcmp(own, its, (size_t)its_length) != 0);
}

static bool catches(const struct child *child, int signal)
{
    char path[40], line[100];
    unsigned long long caught = 0;
    if (!is_its_program(child))
        return false;
    snprintf(path, sizeof path, "/proc/%d/status", (int)child->pid);
    FILE *status = fopen(path, "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "SigCgt: %llx", &caught) == 1)
            break;
    if (status != NULL)
        fclose(status);
    return (caught >> (signal - 1) & 1) != 0;
}

/* Before a program has begun, SIGTERM is no request to end well: it just ends it. */
static void await_handler(struct child *child, int signal)
{
    int64_t deadline = stack_now_ms() + STOP_MS;
    while (child_is_running(child) && !catches(child, signal)) {
        if (stack_now_ms() > deadline)
            fail_msg("%s does not come to handle signal %d", child->name, signal);
        stack_sleep_ms(5);
    }
}

void child_signal(struct child *child, int signal)
{
    if (signal == SIGTERM)
        await_handler(child, signal);
    if (child_is_running(child) && kill(child->pid, signal) != 0)
        fail_msg("kill %s: %s", child->name, strerror(errno));
}

void child_kill(struct child *child)
{
    child_signal(child, SIGKILL);
    (void)child_wait(child, STOP_MS);
}

void child_expect(struct child *child, int expected)
{
    int code = child_wait(child, STOP_MS);
    if (code != expected) {
        children_show();
        fail_msg("%s ended with %d, not %d: %s", child->name, code, expected, child_errors(child));
    }
}

void child_stop(struct child *child)
{
    child_signal(child, SIGTERM);
    child_expect(child, 0);
}

/* --- output --- */

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat stat;
    char *text = NULL;
    size_t length = 0;
    if (file != NULL && fstat(fileno(file), &stat) == 0 &&
        (text = malloc((size_t)stat.st_size + 1)) != NULL)
        length = fread(text, 1, (size_t)stat.st_size, file);
    if (file != NULL)
        fclose(file);
    if (text == NULL)
        return strdup("");
    text[length] = '\0';
    return text;
}

const char *child_output(struct child *child)
{
    free(child->output);
    child->output = read_file(child->output_path);
    return child->output;
}

const char *child_errors(struct child *child)
{
    free(child->errors);
    child->errors = read_file(child->errors_path);
    return child->errors;
}

void children_show(void)
{
    for (struct child *child = children; child != NULL; child = child->next) {
        const char *text = child_errors(child);
        size_t length = strlen(text);
        if (length == 0)
            continue;
        char state[32] = "running";
        if (!child_is_running(child))
            snprintf(state, sizeof state, "ended with %d", child->code);
        print_message("--- %s (%s):\n%s\n", child->name, state,
                      length > SHOWN_BYTES ? text + length - SHOWN_BYTES : text);
    }
}

void children_must_run(struct child *const *list, int count)
{
    for (int i = 0; i < count; i++) {
        if (list[i] != NULL && !child_is_running(list[i])) {
            children_show();
            fail_msg("%s ended by itself with %d: %s", list[i]->name, list[i]->code,
                     child_errors(list[i]));
        }
    }
}

void children_end(void)
{
    while (children != NULL) {
        struct child *child = children;
        children = child->next;
        if (child_is_running(child)) {
            int status;
            kill(child->pid, SIGKILL);
            waitpid(child->pid, &status, 0);
        }
        free(child->output);
        free(child->errors);
        free(child);
    }
}
