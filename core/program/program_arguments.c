/* The arguments of every program's main: see core/program/program.h.
 *
 * Runs once, in the main thread, before there are others. What is wrong is told on stderr, and the
 * exit code says whose fault it is. */
#include "core/program/program.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/program/config.h"

static bool print_help(const char *name, const char *help)
{
    char *keys = config_help();
    if (keys == NULL)
        return false;
    printf("%s %s\n\n%s\n"
           "  --config FILE   configuration (default dovetail.json)\n"
           "  --help          this text\n"
           "  --version       name and version\n\n%s",
           name, DOVETAIL_VERSION, help, keys);
    free(keys);
    return fflush(stdout) == 0;
}

/* Removes the shared options from the arguments. False: the program shall exit. */
static bool parse_arguments(int argc, char **argv, const char *name, const char *help,
                            struct program_arguments *out, int *exit_code)
{
    static const char prefix[] = "--config=";
    int kept = 1;
    bool literal = false; /* behind "--" */
    for (int i = 1; i < argc; i++) {
        char *argument = argv[i];
        if (literal) {
            argv[kept++] = argument;
        } else if (strcmp(argument, "--help") == 0) {
            *exit_code = print_help(name, help) ? PROGRAM_OK : PROGRAM_FAILURE;
            return false;
        } else if (strcmp(argument, "--version") == 0) {
            bool printed = printf("%s %s\n", name, DOVETAIL_VERSION) > 0 && fflush(stdout) == 0;
            *exit_code = printed ? PROGRAM_OK : PROGRAM_FAILURE;
            return false;
        } else if (strncmp(argument, prefix, sizeof prefix - 1) == 0) {
            out->config_path = argument + sizeof prefix - 1;
        } else if (strcmp(argument, "--config") == 0) {
            if (++i == argc) {
                fprintf(stderr, "%s: --config needs a file (see --help)\n", name);
                *exit_code = PROGRAM_USAGE;
                return false;
            }
            out->config_path = argv[i];
        } else {
            literal = strcmp(argument, "--") == 0;
            argv[kept++] = argument;
        }
    }
    argv[kept < argc ? kept : argc] = NULL;
    out->rest = argv + 1;
    out->rest_count = kept - 1;
    return true;
}

/* glibc gives each thread a heap of its own, up to eight for each processor, and each keeps what it
 * had once: threads that come and go with connections and runs fill one after the other. One for
 * each processor is as good, since no more threads run at a time. Who has set it otherwise knows
 * why. */
static void bound_heaps(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (getenv("MALLOC_ARENA_MAX") == NULL && getenv("GLIBC_TUNABLES") == NULL)
        (void)mallopt(M_ARENA_MAX, processors < 1 ? 1 : (int)processors);
}

bool program_start(int argc, char **argv, const char *name, const char *help,
                   struct program_arguments *out, int *exit_code)
{
    assert(argc >= 1);
    *out = (struct program_arguments){0};
    if (!parse_arguments(argc, argv, name, help, out, exit_code))
        return false;
    bound_heaps();
    if (!program_install_signals()) {
        fprintf(stderr, "%s: cannot set up signals: %s\n", name, strerror(errno));
        *exit_code = PROGRAM_FAILURE;
        return false;
    }
    return true;
}
