/* The table of configuration options: what config.c parses by and config_text.c describes. */
#ifndef DOVETAIL_CONFIG_OPTIONS_H
#define DOVETAIL_CONFIG_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "core/program/config.h"

enum option_type {
    OPTION_PROPERTIES, /* an object that is handed to librdkafka */
    OPTION_TEXT,
    OPTION_PATH, /* relative to the configuration file */
    OPTION_INTEGER,
    OPTION_SIZE,    /* bytes: an integer, or a text with a unit */
    OPTION_CRON,    /* five fields, or one of the choices */
    OPTION_CHOICE,  /* one of the choices */
    OPTION_ADDRESS, /* host:port */
    OPTION_BOOLEAN, /* false where it is missing */
    OPTION_TOKENS,  /* see core/program/config_tokens.h; none where it is missing */
    OPTION_TYPES
};

struct option {
    const char *section; /* NULL: at the top */
    const char *name;
    enum option_type type;
    bool required;
    bool secret;
    size_t offset;            /* in struct config, of an int64_t or a const char * */
    int64_t minimum, maximum; /* of numbers, inclusive */
    int64_t number;           /* default of numbers */
    const char *text;         /* default of texts; NULL: none, the field stays NULL */
    const char *unit;         /* of numbers, or NULL */
    const char *choices[4];   /* texts, ended by NULL */
    const char *help;         /* one or two sentences */
};

extern const struct option config_options[];
extern const size_t config_option_count;

/* "speed.memory", "kafka.\"bootstrap.servers\"": as messages and documentation name a key. */
const char *config_key_text(const char *section, const char *name, char *buffer, size_t size);

/* True, with *bytes written, for digits and an optional unit: B, kB, MB, GB, TB (powers of 1000) or
 * KiB, MiB, GiB, TiB; one space may stand between. */
bool config_parse_size(const char *text, int64_t *bytes);

/* The size in the largest binary unit that leaves no remainder: "256 MiB". */
const char *config_format_size(int64_t bytes, char *buffer, size_t size);

/* The name of a known option, or section, that is nearly `name`; NULL where none is. */
const char *config_nearest_name(const char *section, const char *name);

/* Replaces ${NAME}, ${file:/path} and $${ in `text`; the result is malloc'd. STATUS_REJECT names
 * the variable or file, and shows neither's content. */
enum status config_expand(const char *text, char **out, struct error *error) MUST_CHECK;

#endif
