/* `dovetail`: the operators' commands. Each is one file with one struct command.
 *
 * Exit codes: 0 done; 1 it failed, or verify or diff found a difference; 2 the command line, the
 * configuration or a definition is at fault. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"

static const struct command *const commands[] = {
    &command_init,    &command_validate, &command_produce,      &command_query,
    &command_verify,  &command_status,   &command_runs,         &command_versions,
    &command_diff,    &command_drop,     &command_dead_letters, &command_resume,
    &command_archive, &command_token,    &command_export,       &command_generate,
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static const char main_help[] =
    "usage: dovetail COMMAND [ARGUMENT]...\n"
    "\n"
    "  init               create or migrate the database's tables, missing topics, register views\n"
    "  validate           check configuration, sources and views\n"
    "  produce            send JSON lines to a source's topic\n"
    "  generate           send made-up events of a source, at a rate\n"
    "  query              ask a view: batch and speed layer, merged\n"
    "  verify             recompute a view from the raw records and compare every value\n"
    "  status             positions, lag and ledger of partitions; runs and freshness of views\n"
    "  runs               list the batch runs, or roll back to one\n"
    "  versions           list a view's versions, show one, or switch back to one\n"
    "  diff               what a changed definition of a view would change\n"
    "  drop               remove a view that has no definition file any more\n"
    "  dead-letters       list the records that could not be counted, or send them again\n"
    "  resume             what is lost of a source's log, and going on without it\n"
    "  export             all rows of a view into a file, with their receipt\n"
    "  archive            list, verify, read and repair the segments of the archive\n"
    "  token new          make a token for asking dovetail-serving\n"
    "\n"
    "`dovetail COMMAND --help` tells more about one of them.\n"
    "\n"
    "options of all commands:";

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

/* The first argument that is neither an option nor the value of --config. */
static const char *first_word(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--config") == 0)
            i++;
        else if (argv[i][0] != '-')
            return argv[i];
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const char *name = first_word(argc, argv);
    const struct command *command = name != NULL ? find_command(name) : NULL;
    struct program_arguments arguments;
    int exit_code = PROGRAM_OK;
    if (!program_start(argc, argv, "dovetail", command != NULL ? command->help : main_help,
                       &arguments, &exit_code))
        return exit_code;
    if (name == NULL && arguments.rest_count > 0) {
        command_complain("%s: unknown option (see --help)", arguments.rest[0]);
        return PROGRAM_USAGE;
    }
    if (name == NULL || arguments.rest_count == 0) {
        command_complain("which command? (see --help)");
        return PROGRAM_USAGE;
    }
    if (command == NULL) {
        command_complain("%s: no such command (see --help)", name);
        return PROGRAM_USAGE;
    }
    if (arguments.rest[0] != name) {
        command_complain("%s: the command comes before its options (see --help)",
                         arguments.rest[0]);
        return PROGRAM_USAGE;
    }
    arguments.rest++;
    arguments.rest_count--;
    return command->run(&arguments);
}
