/* What the commands of `dovetail` share: their table entry, their options, and the way to the
 * configuration, the definitions and the database.
 *
 * A command prints data on stdout and messages on stderr. The functions here that can fail print
 * what is wrong and give an exit code; PROGRAM_OK means go on. One thread. */
#ifndef DOVETAIL_CLI_COMMAND_H
#define DOVETAIL_CLI_COMMAND_H

#include "core/catalog/catalog.h"
#include "core/program/config.h"
#include "core/definitions/definition.h"
#include "core/postgres/postgres.h"
#include "core/program/program.h"
#include "core/query/query_parse.h"

struct command {
    const char *name;
    const char *summary; /* one line */
    const char *help;    /* of `dovetail NAME --help` */
    /* `arguments` are those behind the name; returns the exit code. */
    int (*run)(const struct program_arguments *arguments);
};

extern const struct command command_init;
extern const struct command command_validate;
extern const struct command command_produce;
extern const struct command command_generate;
extern const struct command command_query;
extern const struct command command_verify;
extern const struct command command_status;
extern const struct command command_runs;
extern const struct command command_versions;
extern const struct command command_diff;
extern const struct command command_drop;
extern const struct command command_dead_letters;
extern const struct command command_resume;
extern const struct command command_archive;
extern const struct command command_token;
extern const struct command command_export;

/* --- messages --- */

/* "dovetail: text" on stderr. */
void command_complain(const char *format, ...) PRINTF_LIKE(1, 2);

/* Complains with error->text; the exit code for its status: 2 where the user is at fault. */
int command_fail(const struct error *error);

/* A line on stderr that overwrites the one before, if stderr is a terminal; NULL clears it. */
void command_progress(const char *format, ...) PRINTF_LIKE(1, 2);
void command_progress_end(void);

/* --- options --- */

struct option_spec {
    const char *name; /* with its dashes */
    bool has_value;
};

struct option_reader {
    char **next;                     /* ends with NULL */
    const struct option_spec *specs; /* ends with a NULL name */
    bool literal;                    /* behind "--" */
};

enum option_result { OPTION_END, OPTION_FOUND, OPTION_POSITIONAL, OPTION_FAULT };

/* The next argument. OPTION_FOUND: *index into specs, *value where it has one. OPTION_POSITIONAL:
 * *value. OPTION_FAULT: complained already. */
enum option_result option_next(struct option_reader *reader, size_t *index, const char **value);

/* A decimal number in [low, high]; false after complaining about option `name`. */
bool option_int64(const char *name, const char *text, int64_t low, int64_t high, int64_t *out);

/* The value of --where, KEY=VALUE, KEY.in=A,B and so on; false after complaining. */
bool option_where(struct query_question *question, const char *text);

/* Takes one positional argument, a view, and options, each of which `take` is given (it complains
 * where it returns false). False after complaining. */
typedef bool (*option_taker)(void *context, size_t index, const char *value);
bool option_one_view(const struct program_arguments *arguments, const struct option_spec *specs,
                     option_taker take, void *context, const char **view);

/* The value of --format: table, or json for *as_json; false after complaining. */
bool option_format(const char *value, bool *as_json);

/* Takes `count` positional arguments and nothing else; false after complaining. */
bool option_positionals(const struct program_arguments *arguments, const char **out, size_t count);

/* --- what most commands need --- */

struct session {
    struct config *config;
    struct postgres *postgres;
    struct catalog *catalog;
};

/* Fills what is asked for, in this order; session_close in every case. */
int session_load_config(struct session *session, const struct program_arguments *arguments);
int session_connect(struct session *session);
int session_load_catalog(struct session *session);
/* All three. */
int session_open(struct session *session, const struct program_arguments *arguments);
void session_close(struct session *session);

/* The readable version of a view; *exit_code and NULL after complaining. */
const struct catalog_version *session_view(const struct session *session, const char *name,
                                           int *exit_code);

/* Has the source such a partition; -1: has anything been imported into it? PROGRAM_USAGE after
 * complaining where not. */
int session_partition(const struct session *session, const struct source *source,
                      int64_t partition);

/* All definitions below config->schemas; every fault is printed. Caller: definitions_deinit. */
int command_load_definitions(const struct config *config, struct definitions *out);

/* The result as an array of objects, one for each row, with the columns' names; types by the
 * columns' types. False when out of memory. */
bool command_print_json(const PGresult *result);

/* Flushes stdout: PROGRAM_FAILURE where the data could not be written. */
int command_finish_output(void);

#endif
