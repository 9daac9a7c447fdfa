/* What the main of every program shares: arguments, signals, log lines, clocks, waiting.
 *
 * A program stops by an event, never by polling: SIGTERM, SIGINT or program_stop make
 * program_stop_fd readable and it stays so, therefore every wait can have it in its poll set.
 * program_start is called once, by the main thread, before other threads exist; everything else
 * may be called from any thread. */
#ifndef DOVETAIL_PROGRAM_H
#define DOVETAIL_PROGRAM_H

#include <stdint.h>
#include <syslog.h> /* only for the level names, LOG_ERR and so on */

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum program_exit {
    PROGRAM_OK = 0,
    PROGRAM_FAILURE = 1,
    PROGRAM_USAGE = 2, /* bad usage or configuration */
};

struct program_arguments {
    const char *config_path; /* NULL where --config was not given: config_load's default */
    char **rest;             /* the other arguments in their order, without the program's name */
    int rest_count;          /* rest[rest_count] is NULL */
};

/* Takes --config FILE, --config=FILE, --help and --version out of the arguments, wherever they
 * stand before a "--" (which stays in `rest`); installs the signal handlers. `help` is the text of
 * --help after the line "name version"; the table of configuration keys follows it. True: go on.
 * False: exit with *exit_code, everything is printed. argv is reordered and outlives *out. */
bool program_start(int argc, char **argv, const char *name, const char *help,
                   struct program_arguments *out, int *exit_code) MUST_CHECK;

/* The part of program_start that catches SIGTERM and SIGINT and ignores SIGPIPE; for tests. */
bool program_install_signals(void) MUST_CHECK;

/* Has SIGTERM, SIGINT or program_stop come? A second SIGINT ends the process at once. */
bool program_stopping(void);
/* Readable from then on; nobody reads it. -1 before program_start. */
int program_stop_fd(void);
/* The same as SIGTERM, from within. */
void program_stop(void);

/* What was freed goes back to the system, also from between what is in use: at moments after which
 * much may have become free, and now and then. */
void program_return_memory(void);

/* Waits `ms` milliseconds, or less when the program is stopping: true then. */
bool program_wait_ms(int64_t ms);
/* Waits until `fd` is readable: 1; 0 after `ms` milliseconds (-1: no limit) or on stopping. */
int program_wait_fd(int fd, int64_t ms);

/* One line on stderr, written by one write(2): "2026-01-01T00:00:00.000Z warning text". `level` is
 * LOG_ERR, LOG_WARNING, LOG_INFO or another of syslog(3); line feeds become spaces. */
void program_log(int level, const char *format, ...) PRINTF_LIKE(2, 3);

int64_t program_clock_us(void);     /* since the Unix epoch */
int64_t program_monotonic_us(void); /* since some moment; never goes back */

#ifdef __cplusplus
}
#endif
#endif
