/* dovetail-batch: archives topics, recomputes every view from the archive and publishes.
 *
 * Data goes to stdout, messages to stderr. Exit codes: 0 done (or stopped by SIGTERM, nothing
 * half-done), 1 failed, or published while partitions are halted, 2 bad usage or configuration. */
#include <stdio.h>
#include <string.h>

#include "batch_layer/import.h"
#include "batch_layer/run.h"
#include "batch_layer/schedule.h"
#include "batch_layer/session.h"
#include "core/program/program.h"

static const char help[] =
    "Archives topics, recomputes every view from the archive and publishes the result.\n"
    "\n"
    "  dovetail-batch run [--full]   one run: archive what is new, recompute, publish, exit;\n"
    "                                --full: reuse no earlier result (as every run does yet)\n"
    "                                exits with 1, too, where it published but a partition is\n"
    "                                halted and keeps the cut-off it had (dovetail status)\n"
    "  dovetail-batch schedule       archive continuously, run by batch.schedule\n"
    "  dovetail-batch import SOURCE FILE...\n"
    "                                historical records into the archive, as history from before\n"
    "                                the topic; the next run has them in every answer\n"
    "\n"
    "options of import:\n"
    "  --format json|csv     JSON lines or CSV; else by the name: .json, .jsonl, .ndjson, .csv,\n"
    "                        before .zst or .gz. FILE \"-\" is standard input\n"
    "  --map COLUMN=FIELD    a CSV's column for a field of the source; repeatable. Columns that "
    "are\n"
    "                        called like a field, or like its path with dots, need none; what is\n"
    "                        no field is left out\n"
    "  --dry-run             check every line, show the bad ones, change nothing\n"
    "  CSV: header line, RFC 4180. An empty field is null, \"\" in quotes an empty string; "
    "numbers\n"
    "  are taken digit for digit, booleans are true/false, t/f, yes/no, 1/0, times as the source\n"
    "  has them. Bad lines go to the dead-letter topic with file, line and reason; the others "
    "count.\n"
    "  A file is imported whole or not at all, and once: the same content again changes nothing,\n"
    "  whatever it is called. So correct bad lines in a file of their own, not in the whole one.\n";

static int complain(int exit_code, const char *text)
{
    fprintf(stderr, "dovetail-batch: %s\n", text);
    return exit_code;
}

static int command_run(const struct config *config, char *const *options)
{
    for (; *options != NULL; options++)
        if (strcmp(*options, "--full") != 0)
            return complain(PROGRAM_USAGE, "run takes no argument but --full");
    struct batch batch = {.config = config};
    struct run_report report;
    struct error error;
    enum status status = session_open(config, &batch.postgres, &error);
    if (status == STATUS_OK)
        status = run_execute(&batch, "command", &report, &error);
    archiver_destroy(batch.archiver);
    postgres_close(batch.postgres);
    if (status == STATUS_OK) {
        run_print(&report);
        if (report.halted > 0)
            return complain(PROGRAM_FAILURE, "the run is published, but partitions are halted");
        return PROGRAM_OK;
    }
    if (program_stopping()) {
        complain(PROGRAM_OK, "stopped before the run was published; nothing has changed");
        return PROGRAM_OK;
    }
    return complain(status == STATUS_REJECT ? PROGRAM_USAGE : PROGRAM_FAILURE, error.text);
}

static int command_schedule(const struct config *config, char *const *options)
{
    if (*options != NULL)
        return complain(PROGRAM_USAGE, "schedule takes no arguments");
    struct cron cron;
    struct error error;
    int64_t next_us;
    if (cron_parse(config->batch_schedule, &cron, &error) != STATUS_OK) {
        error_wrap(&error, "batch.schedule");
        return complain(PROGRAM_USAGE, error.text);
    }
    if (!cron_next(&cron, program_clock_us(), &next_us))
        return complain(PROGRAM_USAGE, "batch.schedule: there is no such day in any year");
    return schedule_run(config, &cron);
}

int main(int argc, char **argv)
{
    struct program_arguments arguments;
    int exit_code;
    if (!program_start(argc, argv, "dovetail-batch", help, &arguments, &exit_code))
        return exit_code;
    if (arguments.rest_count == 0)
        return complain(PROGRAM_USAGE, "which command? run, schedule or import (see --help)");
    const char *command = arguments.rest[0];
    int (*function)(const struct config *config, char *const *options) = NULL;
    if (strcmp(command, "run") == 0)
        function = command_run;
    else if (strcmp(command, "schedule") == 0)
        function = command_schedule;
    else if (strcmp(command, "import") == 0)
        function = import_command;
    else {
        fprintf(stderr, "dovetail-batch: %s: no such command (see --help)\n", command);
        return PROGRAM_USAGE;
    }
    struct config *config = NULL;
    struct error error;
    if (config_load(arguments.config_path, &config, &error) != STATUS_OK)
        return complain(PROGRAM_USAGE, error.text);
    exit_code = function(config, arguments.rest + 1);
    config_destroy(config);
    return exit_code;
}
