/* The option table as text, for --help and for docs/CONFIGURATION.md. Pure; any thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/program/config_options.h"

enum { HELP_COLUMNS = 79 };

static const char *const type_names[OPTION_TYPES] = {
    [OPTION_PROPERTIES] = "object", [OPTION_TEXT] = "text",       [OPTION_PATH] = "path",
    [OPTION_INTEGER] = "integer",   [OPTION_SIZE] = "size",       [OPTION_CRON] = "cron expression",
    [OPTION_ADDRESS] = "address",   [OPTION_BOOLEAN] = "boolean", [OPTION_TOKENS] = "list",
    [OPTION_CHOICE] = "text",
};

static void print_number(FILE *out, const struct option *option, int64_t number)
{
    char buffer[32];
    if (option->type == OPTION_SIZE)
        fputs(config_format_size(number, buffer, sizeof buffer), out);
    else
        fprintf(out, "%lld", (long long)number);
}

static bool is_number(const struct option *option)
{
    return option->type == OPTION_INTEGER || option->type == OPTION_SIZE;
}

static void print_range(FILE *out, const struct option *option)
{
    print_number(out, option, option->minimum);
    fputs(" to ", out);
    print_number(out, option, option->maximum);
    if (option->unit != NULL)
        fprintf(out, " %s", option->unit);
}

/* `quote` goes around a default: a backtick in Markdown. */
static void print_default(FILE *out, const struct option *option, const char *quote)
{
    if (option->required) {
        fputs("required", out);
    } else if (is_number(option)) {
        fputs(quote, out);
        print_number(out, option, option->number);
        fputs(quote, out);
    } else if (option->type == OPTION_BOOLEAN) {
        fprintf(out, "%sfalse%s", quote, quote);
    } else if (option->text == NULL) {
        fputs("none", out);
    } else {
        fprintf(out, "%s%s%s", quote, option->text, quote);
    }
}

/* Indented, for a terminal of 80 columns, without Markdown's backticks. */
static void print_wrapped(FILE *out, const char *text)
{
    size_t column = 0;
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        if (column > 0 && column + 1 + length > HELP_COLUMNS) {
            fputc('\n', out);
            column = 0;
        }
        column += column == 0 ? (size_t)fprintf(out, "      ") : (size_t)fprintf(out, " ");
        for (size_t i = 0; i < length; i++)
            if (text[i] != '`')
                fputc(text[i], out);
        column += length;
        text += length + strspn(text + length, " ");
    }
    fputc('\n', out);
}

static void print_help(FILE *out)
{
    fputs("Configuration keys:\n", out);
    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *option = &config_options[i];
        char key[64];
        fprintf(out, "\n  %s  (%s", config_key_text(option->section, option->name, key, sizeof key),
                type_names[option->type]);
        if (is_number(option)) {
            fputs(", ", out);
            print_range(out, option);
        }
        fputs(option->required ? ", " : ", default ", out);
        print_default(out, option, "");
        fputs(")\n", out);
        print_wrapped(out, option->help);
    }
}

static void print_markdown(FILE *out)
{
    fputs(
        "# Configuration\n"
        "\n"
        "<!-- Written from the option table in core/program/config_options.c: edit that, then run\n"
        "     DOVETAIL_WRITE_DOCS=1 with the test tests/unit/core/test_config.c. -->\n"
        "\n"
        "All programs read one JSON file: `--config FILE`, or `dovetail.json` in the current\n"
        "directory. An unknown key, a value of the wrong type or one out of range is refused by\n"
        "name, with exit code 2.\n"
        "\n"
        "Inside every string `${NAME}` is replaced by the environment variable and\n"
        "`${file:/path}` by the file's content, without the line feed at its end: passwords need\n"
        "not stand in the configuration. `$${` stands for a plain `${`. A variable that is not\n"
        "set, or a file that cannot be read, is an error.\n"
        "\n"
        "A path is relative to the configuration file's directory. A size is a number of bytes\n"
        "or a text such as `\"256MiB\"`, with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB. Values\n"
        "marked secret never appear in messages.\n"
        "\n"
        "| Key | Type | Default | Range | Meaning |\n"
        "|---|---|---|---|---|\n",
        out);
    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *option = &config_options[i];
        char key[64];
        fprintf(out, "| `%s` | %s%s | ",
                config_key_text(option->section, option->name, key, sizeof key),
                type_names[option->type], option->secret ? ", secret" : "");
        print_default(out, option, "`");
        fputs(" | ", out);
        if (is_number(option))
            print_range(out, option);
        for (size_t c = 0; option->choices[c] != NULL; c++)
            fprintf(out, "%s`%s`", c > 0 ? ", " : "", option->choices[c]);
        fprintf(out, " | %s |\n", option->help);
    }
}

static char *to_text(void (*print)(FILE *out))
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return NULL;
    print(out);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

char *config_help(void)
{
    return to_text(print_help);
}

char *config_markdown(void)
{
    return to_text(print_markdown);
}
