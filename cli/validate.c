/* dovetail validate: checks files only, talks to nobody. */
#include <stdio.h>

#include "cli/command.h"

static int run(const struct program_arguments *arguments)
{
    struct session session = {0};
    struct definitions definitions = {0};
    if (!option_positionals(arguments, NULL, 0))
        return PROGRAM_USAGE;
    int code = session_load_config(&session, arguments);
    if (code == PROGRAM_OK)
        code = command_load_definitions(session.config, &definitions);
    if (code == PROGRAM_OK) {
        printf("valid: configuration, %zu source%s, %zu view%s\n", definitions.source_count,
               definitions.source_count == 1 ? "" : "s", definitions.view_count,
               definitions.view_count == 1 ? "" : "s");
        code = command_finish_output();
    }
    definitions_deinit(&definitions);
    session_close(&session);
    return code;
}

const struct command command_validate = {
    .name = "validate",
    .summary = "check configuration, sources and views",
    .help =
        "usage: dovetail validate\n"
        "\n"
        "Checks the configuration file and every definition below its \"schemas\" directory, and\n"
        "prints each fault with file, key and, inside expressions, column. Neither Kafka nor\n"
        "PostgreSQL is asked. Exit code 0: all are valid; 2: at least one fault.\n"
        "\n"
        "options of all commands:",
    .run = run,
};
