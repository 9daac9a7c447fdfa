/* The arguments of `dovetail-batch import`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch_layer/import.h"
#include "core/program/program.h"

static bool complain(const char *subject, const char *text)
{
    fprintf(stderr, "dovetail-batch: import: %s%s%s\n", subject, subject[0] != '\0' ? ": " : "",
            text);
    return false;
}

/* "column=field"; the last equals sign counts, since a field's name has none. */
static bool take_mapping(struct import_options *options, char *text)
{
    char *equals = strrchr(text, '=');
    if (equals == NULL || equals == text || equals[1] == '\0')
        return complain("--map", "wants COLUMN=FIELD");
    *equals = '\0';
    options->mappings[options->mapping_count++] =
        (struct csv_mapping){.column = text, .field = equals + 1};
    return true;
}

static bool take_format(struct import_options *options, const char *text)
{
    if (strcmp(text, "json") == 0)
        options->format = IMPORT_JSON;
    else if (strcmp(text, "csv") == 0)
        options->format = IMPORT_CSV;
    else
        return complain("--format", "wants json or csv");
    return true;
}

/* The value of option `name` in "name=value" or "name value"; NULL: the argument is another. */
static char *option_value(char *const **next, const char *name)
{
    char *argument = **next;
    size_t length = strlen(name);
    if (strncmp(argument, name, length) != 0)
        return NULL;
    if (argument[length] == '=')
        return argument + length + 1;
    if (argument[length] != '\0')
        return NULL;
    if ((*next)[1] == NULL)
        return argument + length; /* empty, which no option takes */
    return *++*next;
}

static bool parse(char *const *arguments, struct import_options *options, const char **files)
{
    bool literal = false;
    for (; *arguments != NULL; arguments++) {
        char *value;
        if (literal || (*arguments)[0] != '-' || strcmp(*arguments, "-") == 0) {
            if (options->source == NULL)
                options->source = *arguments;
            else
                files[options->file_count++] = *arguments;
        } else if (strcmp(*arguments, "--") == 0) {
            literal = true;
        } else if (strcmp(*arguments, "--dry-run") == 0) {
            options->dry_run = true;
        } else if ((value = option_value(&arguments, "--map")) != NULL) {
            if (!take_mapping(options, value))
                return false;
        } else if ((value = option_value(&arguments, "--format")) != NULL) {
            if (!take_format(options, value))
                return false;
        } else {
            return complain(*arguments, "no such option (see --help)");
        }
    }
    if (options->source == NULL)
        return complain("", "which source? (see --help)");
    if (options->file_count == 0)
        return complain("", "which file? \"-\" is standard input (see --help)");
    return true;
}

int import_command(const struct config *config, char *const *arguments)
{
    size_t count = 0;
    while (arguments[count] != NULL)
        count++;
    const char **files = calloc(count + 1, sizeof *files);
    struct import_options options = {.mappings = calloc(count + 1, sizeof *options.mappings)};
    struct error error;
    int code = PROGRAM_USAGE;
    if (files == NULL || options.mappings == NULL) {
        complain("", "out of memory");
        code = PROGRAM_FAILURE;
    } else if (parse(arguments, &options, files)) {
        options.files = files;
        enum status status = import_run(config, &options, &error);
        code = status == STATUS_OK       ? PROGRAM_OK
               : status == STATUS_REJECT ? PROGRAM_USAGE
                                         : PROGRAM_FAILURE;
        if (status != STATUS_OK)
            complain("", error.text);
        if (status != STATUS_OK && program_stopping())
            code = PROGRAM_OK;
    }
    free(files);
    free(options.mappings);
    return code;
}
