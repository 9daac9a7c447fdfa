/* Loading the configuration file: see core/program/config.h.
 *
 * Invariant: what is loaded was checked against the option table key by key, and every message
 * names the file and the key but never a value of a secret. `root` becomes the effective
 * configuration: references replaced, defaults filled in; the struct's texts point into it. Runs
 * once at start, in one thread. */
#include "core/program/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/program/config_options.h"
#include "core/time/cron.h"
#include "core/kafka/kafka.h"
#include "core/postgres/postgres.h"

enum { KEY_BYTES = 160 };

/* What the steps of loading pass along. */
struct load {
    const char *path; /* of the file, for messages and relative paths */
    struct config *config;
    struct error *error;
};

static enum status fault(const struct load *load, const char *key, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* "FILE: KEY: text", STATUS_REJECT. */
static enum status fault(const struct load *load, const char *key, const char *format, ...)
{
    char text[ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(load->error, STATUS_REJECT, "%s: %s: %s", load->path, key, text);
}

/* --- the file --- */

static enum status read_file(struct load *load)
{
    json_error_t place;
    FILE *file = fopen(load->path, "re");
    if (file == NULL)
        return error_set(load->error, STATUS_REJECT, "%s: %s", load->path, strerror(errno));
    load->config->root = json_loadf(file, JSON_REJECT_DUPLICATES, &place);
    fclose(file);
    if (load->config->root == NULL && place.text[0] == '\0')
        return error_no_memory(load->error);
    if (load->config->root == NULL) {
        /* Behind "near" jansson quotes the file, which may be a secret. */
        char *near = strstr(place.text, " near ");
        if (near != NULL)
            *near = '\0';
        return error_set(load->error, STATUS_REJECT, "%s: line %d, column %d: %s", load->path,
                         place.line, place.column, place.text);
    }
    if (!json_is_object(load->config->root))
        return error_set(load->error, STATUS_REJECT, "%s: must be a JSON object", load->path);
    return STATUS_OK;
}

/* The replacement of a text with its references resolved, or NULL where there are none. */
static enum status expand_text(const struct load *load, const char *key, const json_t *value,
                               json_t **out)
{
    char *text = NULL;
    *out = NULL;
    if (strstr(json_string_value(value), "${") == NULL)
        return STATUS_OK;
    if (config_expand(json_string_value(value), &text, load->error) != STATUS_OK) {
        error_wrap(load->error, "%s: %s", load->path, key);
        return load->error->status;
    }
    *out = json_string(text);
    free(text);
    if (*out == NULL)
        return fault(load, key, "the value that is inserted is not UTF-8");
    return STATUS_OK;
}

enum { EXPAND_DEPTH_MAX = 8 };

static enum status expand_value(const struct load *load, const char *key, json_t *value, int depth,
                                json_t **out);

/* "serving.tokens[0].rows", "kafka.\"bootstrap.servers\"". */
static void child_key(const char *key, const char *name, char *out, size_t size)
{
    if (strncmp(key, "serving.tokens[", strlen("serving.tokens[")) == 0)
        snprintf(out, size, "%s.%s", key, name);
    else
        config_key_text(key[0] != '\0' ? key : NULL, name, out, size);
}

static enum status expand_object(const struct load *load, const char *key, json_t *object,
                                 int depth)
{
    const char *name;
    json_t *value;
    json_object_foreach (object, name, value) {
        char inner[KEY_BYTES];
        json_t *expanded = NULL;
        child_key(key, name, inner, sizeof inner);
        enum status status = expand_value(load, inner, value, depth, &expanded);
        if (status != STATUS_OK)
            return status;
        /* Replacing the value of the key in hand is allowed while iterating. */
        if (expanded != NULL && json_object_set_new(object, name, expanded) != 0)
            return error_no_memory(load->error);
    }
    return STATUS_OK;
}

static enum status expand_array(const struct load *load, const char *key, json_t *array, int depth)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        char inner[KEY_BYTES];
        json_t *expanded = NULL;
        snprintf(inner, sizeof inner, "%s[%zu]", key, i);
        enum status status = expand_value(load, inner, json_array_get(array, i), depth, &expanded);
        if (status != STATUS_OK)
            return status;
        if (expanded != NULL && json_array_set_new(array, i, expanded) != 0)
            return error_no_memory(load->error);
    }
    return STATUS_OK;
}

/* *out: what stands in the place of a text that has references; else NULL, and texts within an
 * object or a list are replaced there. */
static enum status expand_value(const struct load *load, const char *key, json_t *value, int depth,
                                json_t **out)
{
    *out = NULL;
    if (json_is_string(value))
        return expand_text(load, key, value, out);
    if (!json_is_object(value) && !json_is_array(value))
        return STATUS_OK;
    if (depth == EXPAND_DEPTH_MAX)
        return fault(load, key, "is nested too deeply");
    return json_is_object(value) ? expand_object(load, key, value, depth + 1)
                                 : expand_array(load, key, value, depth + 1);
}

/* --- names --- */

static bool is_section(const char *name)
{
    for (size_t i = 0; i < config_option_count; i++)
        if (config_options[i].section != NULL && strcmp(config_options[i].section, name) == 0)
            return true;
    return false;
}

static bool is_option(const char *section, const char *name)
{
    for (size_t i = 0; i < config_option_count; i++) {
        const char *its = config_options[i].section;
        if (strcmp(config_options[i].name, name) == 0 &&
            (section == NULL ? its == NULL : its != NULL && strcmp(its, section) == 0))
            return true;
    }
    return false;
}

static enum status unknown_key(const struct load *load, const char *section, const char *name)
{
    char key[KEY_BYTES];
    const char *nearest = config_nearest_name(section, name);
    config_key_text(section, name, key, sizeof key);
    if (nearest == NULL)
        return fault(load, key, "there is no such key");
    return fault(load, key, "there is no such key; did you mean \"%s\"?", nearest);
}

static enum status check_names(const struct load *load, const char *section, const json_t *object)
{
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)object, name, value) {
        bool inner = section == NULL && is_section(name);
        if (!inner && !is_option(section, name))
            return unknown_key(load, section, name);
        if (inner && !json_is_object(value))
            return fault(load, name, "must be an object");
        if (inner && strcmp(name, "kafka") != 0) { /* librdkafka knows those names */
            enum status status = check_names(load, name, value);
            if (status != STATUS_OK)
                return status;
        }
    }
    return STATUS_OK;
}

/* --- values --- */

/* The object that holds an option; it is made where it is missing. */
static json_t *holder_of(const struct load *load, const struct option *option)
{
    if (option->section == NULL)
        return load->config->root;
    json_t *section = json_object_get(load->config->root, option->section);
    if (section == NULL &&
        json_object_set_new(load->config->root, option->section, json_object()) == 0)
        section = json_object_get(load->config->root, option->section);
    return section;
}

static enum status load_number(const struct load *load, const struct option *option,
                               const char *key, const json_t *value)
{
    int64_t number = option->number;
    bool is_size = option->type == OPTION_SIZE;
    if (json_is_integer(value))
        number = json_integer_value(value);
    else if (value != NULL && !(is_size && json_is_string(value)))
        return fault(load, key,
                     is_size ? "must be an integer or a text such as \"256MiB\""
                             : "must be an integer");
    else if (value != NULL && !config_parse_size(json_string_value(value), &number))
        return fault(load, key, "\"%s\" is not a size such as \"256MiB\"",
                     json_string_value(value));
    if (number < option->minimum || number > option->maximum) {
        char low[32], high[32];
        if (!is_size)
            return fault(load, key, "%lld is not within %lld to %lld", (long long)number,
                         (long long)option->minimum, (long long)option->maximum);
        return fault(load, key, "%lld bytes are not within %s to %s", (long long)number,
                     config_format_size(option->minimum, low, sizeof low),
                     config_format_size(option->maximum, high, sizeof high));
    }
    *(int64_t *)((char *)load->config + option->offset) = number;
    return STATUS_OK;
}

/* What does not even look like one is not quoted: it may be a secret. */
static bool looks_like_cron(const char *text)
{
    int fields = 0;
    for (const char *at = text + strspn(text, " \t"); *at != '\0'; fields++) {
        size_t length = strcspn(at, " \t");
        for (size_t i = 0; i < length; i++)
            if (strchr("0123456789*/,-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
                       at[i]) == NULL)
                return false;
        at += length;
        at += strspn(at, " \t");
    }
    return fields == 5;
}

/* host:port, [IPv6]:port or :port. */
static bool looks_like_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon[1] == '\0' || strlen(colon + 1) > 5 ||
        colon[1 + strspn(colon + 1, "0123456789")] != '\0')
        return false;
    const char *first = strchr(text, ':');
    bool bracketed = text[0] == '[' && colon > text && colon[-1] == ']';
    return strtol(colon + 1, NULL, 10) <= 65535 && (first == colon || bracketed);
}

/* `text` below the directory of the configuration file; malloc'd. */
static char *resolve_path(const struct load *load, const char *text)
{
    const char *slash = strrchr(load->path, '/');
    char *resolved = NULL;
    if (text[0] == '/' || slash == NULL)
        return strdup(text);
    if (asprintf(&resolved, "%.*s%s", (int)(slash - load->path) + 1, load->path, text) < 0)
        return NULL;
    return resolved;
}

static enum status fault_choice(const struct load *load, const struct option *option,
                                const char *key)
{
    char text[128] = "";
    for (const char *const *choice = option->choices; *choice != NULL; choice++) {
        size_t length = strlen(text);
        snprintf(text + length, sizeof text - length, "%s\"%s\"", length > 0 ? " or " : "",
                 *choice);
    }
    return fault(load, key, "must be %s", text);
}

/* The text may have come from ${...}, so that no message shows it; but for what is wrong with a
 * schedule, which by then has the form of one. */
static enum status check_text(const struct load *load, const struct option *option, const char *key,
                              const char *text)
{
    if (text[0] == '\0')
        return fault(load, key, "must not be empty");
    for (const char *const *choice = option->choices; *choice != NULL; choice++)
        if (strcmp(text, *choice) == 0)
            return STATUS_OK;
    if (option->type == OPTION_CHOICE)
        return fault_choice(load, option, key);
    if (option->type == OPTION_CRON && !looks_like_cron(text))
        return fault(load, key, "does not have the five fields of a cron expression");
    struct cron cron;
    struct error reason;
    if (option->type == OPTION_CRON && cron_parse(text, &cron, &reason) != STATUS_OK)
        return fault(load, key, "%s", reason.text);
    if (option->type == OPTION_ADDRESS && !looks_like_address(text))
        return fault(load, key, "is not host:port");
    return STATUS_OK;
}

/* Keeps the text in root, which owns it. */
static enum status load_text(const struct load *load, const struct option *option, const char *key,
                             const json_t *value)
{
    if (value != NULL && !json_is_string(value))
        return fault(load, key, "must be a string");
    const char *text = value != NULL ? json_string_value(value) : option->text;
    if (text == NULL)
        return STATUS_OK; /* the field is NULL */
    enum status status = check_text(load, option, key, text);
    if (status != STATUS_OK)
        return status;
    char *kept = option->type == OPTION_PATH ? resolve_path(load, text) : strdup(text);
    if (kept == NULL)
        return error_no_memory(load->error);
    json_t *holder = holder_of(load, option);
    int failed = holder == NULL || json_object_set_new(holder, option->name, json_string(kept));
    free(kept);
    if (failed)
        return error_no_memory(load->error);
    if (option->offset != 0) /* kafka's are kept in its object; no text is the first field */
        *(const char **)((char *)load->config + option->offset) =
            json_string_value(json_object_get(holder, option->name));
    return STATUS_OK;
}

_Static_assert(offsetof(struct config, kafka) == 0, "see load_text");

static enum status load_boolean(const struct load *load, const struct option *option,
                                const char *key, const json_t *value)
{
    if (value != NULL && !json_is_boolean(value))
        return fault(load, key, "must be true or false");
    *(bool *)((char *)load->config + option->offset) = json_is_true(value);
    return STATUS_OK;
}

static enum status load_tokens(const struct load *load, const json_t *value)
{
    if (value == NULL)
        return STATUS_OK;
    enum status status =
        config_tokens_read(value, &load->config->arena, &load->config->serving_tokens,
                           &load->config->serving_token_count, load->error);
    return status == STATUS_REJECT ? error_wrap(load->error, "%s", load->path) : status;
}

static enum status load_option(const struct load *load, const struct option *option)
{
    char key[KEY_BYTES];
    config_key_text(option->section, option->name, key, sizeof key);
    const json_t *holder = option->section != NULL
                               ? json_object_get(load->config->root, option->section)
                               : load->config->root;
    const json_t *value = json_object_get(holder, option->name);
    if (value == NULL && option->required && option->type != OPTION_PROPERTIES)
        return fault(load, key, "is required");
    switch (option->type) {
    case OPTION_PROPERTIES:
        return STATUS_OK; /* see load_properties */
    case OPTION_INTEGER:
    case OPTION_SIZE:
        return load_number(load, option, key, value);
    case OPTION_BOOLEAN:
        return load_boolean(load, option, key, value);
    case OPTION_TOKENS:
        return load_tokens(load, value);
    default:
        return load_text(load, option, key, value);
    }
}

/* Every property as a text, as librdkafka takes them, and checked by it. */
static enum status load_properties(const struct load *load)
{
    const char *name;
    json_t *value;
    load->config->kafka = json_object();
    json_object_foreach (json_object_get(load->config->root, "kafka"), name, value) {
        char key[KEY_BYTES], number[64];
        const char *text = kafka_property_text(value, number, sizeof number);
        if (text == NULL)
            return fault(load, config_key_text("kafka", name, key, sizeof key),
                         "must be a string, a number or a boolean");
        if (json_object_set_new(load->config->kafka, name, json_string(text)) != 0)
            return error_no_memory(load->error);
    }
    enum status status = kafka_properties_check(load->config->kafka, load->error);
    if (status != STATUS_OK)
        error_wrap(load->error, "%s", load->path);
    return status;
}

static enum status check_conninfo(const struct load *load)
{
    struct error cause;
    if (postgres_conninfo_check(load->config->postgres, &cause) == STATUS_OK)
        return STATUS_OK;
    return fault(load, "postgres", "%s", cause.text);
}

/* One without the other would be plain HTTP where TLS was meant. */
/* Such a body would be told to come again for ever. */
static enum status check_ingest(const struct load *load)
{
    const struct config *config = load->config;
    if (config->serving_ingest_body_bytes > config->serving_ingest_memory_bytes)
        return fault(load, "serving.ingest_body", "must not be above serving.ingest_memory");
    return STATUS_OK;
}

static enum status check_tls(const struct load *load)
{
    const struct config *config = load->config;
    bool has_certificate = config->serving_tls_certificate != NULL;
    bool has_key = config->serving_tls_key != NULL;
    if (has_certificate != has_key)
        return fault(load, has_key ? "serving.tls_certificate" : "serving.tls_key",
                     "is required with serving.%s", has_key ? "tls_key" : "tls_certificate");
    if (config->serving_tls_client_ca != NULL && !has_key)
        return fault(load, "serving.tls_client_ca",
                     "needs serving.tls_certificate and "
                     "serving.tls_key");
    return STATUS_OK;
}

static enum status load_all(struct load *load)
{
    enum status status = read_file(load);
    if (status == STATUS_OK)
        status = check_names(load, NULL, load->config->root);
    if (status == STATUS_OK)
        status = expand_object(load, "", load->config->root, 0);
    for (size_t i = 0; status == STATUS_OK && i < config_option_count; i++)
        status = load_option(load, &config_options[i]);
    if (status == STATUS_OK)
        status = check_tls(load);
    if (status == STATUS_OK)
        status = check_ingest(load);
    if (status == STATUS_OK)
        status = check_conninfo(load);
    return status == STATUS_OK ? load_properties(load) : status;
}

enum status config_load(const char *path, struct config **out, struct error *error)
{
    struct error unwanted = {0}; /* the steps add context to a text */
    *out = NULL;
    struct config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return error_no_memory(error);
    arena_init(&config->arena);
    struct load load = {.path = path != NULL ? path : "dovetail.json",
                        .config = config,
                        .error = error != NULL ? error : &unwanted};
    enum status status = load_all(&load);
    if (status != STATUS_OK) {
        config_destroy(config);
        return status;
    }
    *out = config;
    return STATUS_OK;
}

void config_destroy(struct config *config)
{
    if (config == NULL)
        return;
    json_decref(config->kafka);
    json_decref(config->root);
    arena_deinit(&config->arena);
    free(config);
}
