/* dovetail-batch: archives topics, recomputes every view from the archive and publishes.
 *
 * Data goes to stdout, messages to stderr. Exit codes: 0 done (or stopped by SIGTERM, nothing
 * half-done), 1 failed, or published while partitions are halted or definitions refused, 2 bad
 * usage or configuration. */
#include <stdio.h>
#include <string.h>

#include "batch_layer/import.h"
#include "batch_layer/memory.h"
#include "batch_layer/run.h"
#include "batch_layer/schedule.h"
#include "batch_layer/session.h"
#include "core/catalog/migrations.h"
#include "core/program/program.h"

static const char help[] =
    "Archives topics, recomputes every view from the archive and publishes the result.\n"
    "\n"
    "  dovetail-batch run [--full] [--accept-mismatch]\n"
    "                                one run: archive what is new, fold it, add it to the rows of\n"
    "                                the run that is served, publish, exit;\n"
    "                                --full: recompute everything from the archive, and compare\n"
    "                                it with those rows\n"
    "                                --accept-mismatch: publish although something differs, where\n"
    "                                batch.on_mismatch is \"hold\"\n"
    "                                exits with 1, too, where it published but a partition is\n"
    "                                halted and keeps the cut-off it had (dovetail status), or\n"
    "                                something differs (dovetail runs)\n"
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
    struct run_request request = {.reason = "command"};
    for (; *options != NULL; options++) {
        if (strcmp(*options, "--full") == 0)
            request.full = "asked for";
        else if (strcmp(*options, "--accept-mismatch") == 0)
            request.accept = true;
        else
            return complain(PROGRAM_USAGE,
                            "run takes no arguments but --full and --accept-mismatch");
    }
    struct batch batch = {.config = config};
    struct run_report report = {0};
    struct error error;
    enum status status = session_open(config, false, &batch.postgres, &error);
    if (status == STATUS_OK)
        status = migrations_check(batch.postgres, &error);
    if (status == STATUS_OK)
        status = run_execute(&batch, &request, &report, &error);
    archiver_destroy(batch.archiver);
    postgres_close(batch.postgres);
    if (status == STATUS_OK) {
        run_print(&report);
        bool differs = report.audit.mismatches > 0;
        run_report_deinit(&report);
        if (differs && !request.accept)
            return complain(PROGRAM_FAILURE, "the run is published, but something differs");
        if (report.halted > 0)
            return complain(PROGRAM_FAILURE, "the run is published, but partitions are halted");
        if (report.refused > 0)
            return complain(PROGRAM_FAILURE, "the run is published, but definitions are refused");
        return PROGRAM_OK;
    }
    run_report_deinit(&report);
    if (program_stopping()) {
        complain(PROGRAM_OK, "stopped before the run was published; nothing has changed");
        return PROGRAM_OK;
    }
    return complain(status == STATUS_REJECT ? PROGRAM_USAGE : PROGRAM_FAILURE, error.text);
}

/* False: the program ends with *exit_code. */
static bool read_cron(const char *key, const char *text, struct cron *out, int *exit_code)
{
    struct error error;
    int64_t next_us;
    if (cron_parse(text, out, &error) != STATUS_OK)
        error_wrap(&error, "%s", key);
    else if (cron_next(out, program_clock_us(), &next_us))
        return true;
    else
        (void)error_set(&error, STATUS_REJECT, "%s: there is no such day in any year", key);
    *exit_code = complain(PROGRAM_USAGE, error.text);
    return false;
}

static int command_schedule(const struct config *config, char *const *options)
{
    if (*options != NULL)
        return complain(PROGRAM_USAGE, "schedule takes no arguments");
    struct cron cron;
    struct cron full;
    int exit_code;
    bool has_full = strcmp(config->batch_full_schedule, "off") != 0;
    if (!read_cron("batch.schedule", config->batch_schedule, &cron, &exit_code) ||
        (has_full &&
         !read_cron("batch.full_schedule", config->batch_full_schedule, &full, &exit_code)))
        return exit_code;
    return schedule_run(config, &cron, has_full ? &full : NULL);
}

int main(int argc, char **argv)
{
    struct program_arguments arguments;
    int exit_code;
    memory_return_what_is_freed();
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
