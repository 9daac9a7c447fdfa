/* dovetail-speed: keeps the views up to date from Kafka. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"
#include "speed_layer/speed.h"

static const char help[] =
    "Usage: dovetail-speed [--config FILE] [--instance NAME]\n\n"
    "Folds the records of every registered source into its views, and writes them to PostgreSQL\n"
    "together with the offsets they reach to. Any number of processes share the work.\n\n"
    "  --instance NAME this process's name in the consumer group (default: host and first free "
    "slot)\n";

/* Arguments that program_start left over. */
static bool parse_rest(const struct program_arguments *arguments, const char **instance)
{
    static const char prefix[] = "--instance=";
    *instance = NULL;
    for (int i = 0; i < arguments->rest_count; i++) {
        const char *argument = arguments->rest[i];
        if (strncmp(argument, prefix, sizeof prefix - 1) == 0) {
            *instance = argument + sizeof prefix - 1;
        } else if (strcmp(argument, "--instance") == 0 && i + 1 < arguments->rest_count) {
            *instance = arguments->rest[++i];
        } else {
            fprintf(stderr, "dovetail-speed: unexpected argument %s (see --help)\n", argument);
            return false;
        }
    }
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (*instance == NULL)
        return true;
    size_t length = strlen(*instance);
    if (length == 0 || length >= INSTANCE_NAME_BYTES || strspn(*instance, allowed) != length) {
        fprintf(stderr, "dovetail-speed: --instance: letters, digits, '.', '_' and '-' only\n");
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct program_arguments arguments;
    int exit_code = PROGRAM_FAILURE;
    if (!program_start(argc, argv, "dovetail-speed", help, &arguments, &exit_code))
        return exit_code;
    const char *instance;
    if (!parse_rest(&arguments, &instance))
        return PROGRAM_USAGE;
    struct config *config = NULL;
    struct error error;
    enum status status = config_load(arguments.config_path, &config, &error);
    if (status != STATUS_OK) {
        program_log(LOG_ERR, "%s", error.text);
        return status == STATUS_REJECT ? PROGRAM_USAGE : PROGRAM_FAILURE;
    }
    exit_code = speed_run(config, instance);
    config_destroy(config);
    return exit_code;
}
