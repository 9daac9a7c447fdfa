/* Sources: what a topic's events look like.
 *
 * Invariant: a struct source that exists is complete and consistent: at least one field, an event
 * time field whose type and format go together, topics that Kafka accepts. */
#include <stdlib.h>
#include <string.h>

#include "core/definitions/definition.h"
#include "core/definitions/definition_json.h"

static enum status check_topic(const char *key, const char *topic, struct error *error)
{
    size_t length = strlen(topic);

    if (length == 0 || length > 249 || strcmp(topic, ".") == 0 || strcmp(topic, "..") == 0 ||
        strspn(topic, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") !=
            length) {
        return error_set(error, STATUS_REJECT,
                         "%s: \"%.60s\" is not a topic name: up to 249 letters, digits, '.', '_' "
                         "and '-'",
                         key, topic);
    }
    return STATUS_OK;
}

static enum status load_topics(struct source *source, struct error *error)
{
    const char *topic = NULL, *dead = NULL;
    char fallback[300];

    enum status status =
        definition_get_string(source->json, "topic", "a Kafka topic", &topic, error);
    status = status == STATUS_OK ? check_topic("topic", topic, error) : status;
    if (status != STATUS_OK) {
        return status;
    }
    if (json_object_get(source->json, "dead_letter_topic") != NULL) {
        status =
            definition_get_string(source->json, "dead_letter_topic", "a Kafka topic", &dead, error);
    } else {
        size_t length = strlen(topic);
        memcpy(fallback, topic, length);
        memcpy(fallback + length, ".dead", sizeof ".dead");
        dead = fallback;
    }
    status = status == STATUS_OK ? check_topic("dead_letter_topic", dead, error) : status;
    if (status == STATUS_OK && strcmp(dead, topic) == 0) {
        return error_set(error, STATUS_REJECT, "dead_letter_topic: is the topic itself");
    }
    if (status == STATUS_OK) {
        source->topic = arena_copy(&source->arena, topic, strlen(topic));
        source->dead_letter_topic = arena_copy(&source->arena, dead, strlen(dead));
        if (source->topic == NULL || source->dead_letter_topic == NULL) {
            return error_no_memory(error);
        }
    }
    return status;
}

static enum status load_partitions(struct source *source, struct error *error)
{
    const json_t *partitions = json_object_get(source->json, "partitions");

    source->partitions = 3;
    if (partitions == NULL) {
        return STATUS_OK;
    }
    json_int_t count = json_integer_value(partitions);
    if (!json_is_integer(partitions) || count < 1 || count > 10000) {
        return error_set(error, STATUS_REJECT, "partitions: wants an integer from 1 to 10000");
    }
    source->partitions = (int)count;
    return STATUS_OK;
}

static enum status format_of(const json_t *json, enum time_format *out, struct error *error)
{
    static const char *const names[] = {"rfc3339", "epoch_s", "epoch_ms", "epoch_us"};
    const char *name = json_string_value(json);

    for (size_t i = 0; name != NULL && i < 4; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum time_format)i;
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_REJECT,
                     "format: wants \"rfc3339\", \"epoch_s\", \"epoch_ms\" or \"epoch_us\"");
}

/* "a.b" or ["a", "b"]: the array is for member names that have a dot. */
static enum status load_path(struct source *source, struct source_field *field, const json_t *json,
                             struct error *error)
{
    const char *names[32];
    size_t lengths[32], count = 0;

    if (json_is_array(json)) {
        for (size_t i = 0; i < json_array_size(json) && i < 32; i++, count++) {
            names[i] = json_string_value(json_array_get(json, i));
            lengths[i] = names[i] == NULL ? 0 : json_string_length(json_array_get(json, i));
        }
        count = json_array_size(json) > 32 ? 0 : count;
    } else {
        const char *next = json == NULL ? field->name : json_string_value(json);
        while (next != NULL && count < 32) {
            names[count] = next;
            lengths[count] = strcspn(next, ".");
            next = next[lengths[count]] == '.' ? next + lengths[count] + 1 : NULL;
            count++;
        }
        count = next != NULL ? 0 : count;
    }
    const char **path = arena_alloc(&source->arena, (count + 1) * sizeof(char *));
    if (path == NULL) {
        return error_no_memory(error);
    }
    for (size_t i = 0; i < count; i++) {
        if (names[i] == NULL || lengths[i] == 0) {
            count = 0;
            break;
        }
        path[i] = arena_copy(&source->arena, names[i], lengths[i]);
        if (path[i] == NULL) {
            return error_no_memory(error);
        }
    }
    if (count == 0) {
        return error_set(error, STATUS_REJECT,
                         "path: wants member names joined by dots, such as \"customer.id\", or an "
                         "array of at most 32 of them");
    }
    field->path = path;
    field->path_count = count;
    return STATUS_OK;
}

static enum status load_long_field(struct source *source, struct source_field *field,
                                   const json_t *json, struct error *error)
{
    static const char *const known[] = {"type", "path", "nullable", "format", NULL};
    const json_t *nullable = json_object_get(json, "nullable");
    const json_t *format = json_object_get(json, "format");
    const char *type = NULL;

    enum status status = definition_check_keys(json, known, error);
    status =
        status == STATUS_OK ? definition_get_string(json, "type", "a type", &type, error) : status;
    if (status != STATUS_OK) {
        return status;
    }
    if (!value_type_from_name(type, &field->type)) {
        return error_set(error, STATUS_REJECT, "type: there is no type \"%.60s\"", type);
    }
    if (nullable != NULL && !json_is_boolean(nullable)) {
        return error_set(error, STATUS_REJECT, "nullable: wants true or false");
    }
    field->nullable = json_is_true(nullable);
    if (format != NULL && field->type != VALUE_TIMESTAMP) {
        return error_set(error, STATUS_REJECT, "format: only a timestamp has one");
    }
    status = format == NULL ? STATUS_OK : format_of(format, &field->format, error);
    return status == STATUS_OK ? load_path(source, field, json_object_get(json, "path"), error)
                               : status;
}

static enum status load_field(struct source *source, struct source_field *field, const char *name,
                              const json_t *json, struct error *error)
{
    if (!definition_name_is_valid(name)) {
        return error_set(
            error, STATUS_REJECT,
            "not a name: a lower-case letter, then up to 47 lower-case letters, digits "
            "and _ (for another member name use \"path\")");
    }
    field->name = arena_copy(&source->arena, name, strlen(name));
    if (field->name == NULL) {
        return error_no_memory(error);
    }
    if (json_is_object(json)) {
        return load_long_field(source, field, json, error);
    }
    if (!json_is_string(json) || !value_type_from_name(json_string_value(json), &field->type)) {
        return error_set(
            error, STATUS_REJECT,
            "wants \"string\", \"integer\", \"decimal\", \"boolean\", \"timestamp\" or "
            "an object with \"type\"");
    }
    return load_path(source, field, NULL, error);
}

static enum status load_fields(struct source *source, struct error *error)
{
    json_t *fields = json_object_get(source->json, "fields");
    const char *name;
    json_t *json;

    if (!json_is_object(fields) || json_object_size(fields) == 0) {
        return error_set(error, STATUS_REJECT, "fields: wants an object with at least one field");
    }
    if (json_object_size(fields) > SOURCE_FIELD_MAX) {
        return error_set(error, STATUS_REJECT, "fields: more than %d", SOURCE_FIELD_MAX);
    }
    size_t room =
        json_object_size(fields) + json_object_size(json_object_get(source->json, "derive"));
    struct source_field *array = arena_alloc(&source->arena, room * sizeof *array);
    if (array == NULL) {
        return error_no_memory(error);
    }
    source->fields = array;
    json_object_foreach (fields, name, json) {
        struct source_field *field = &array[source->field_count++];
        *field = (struct source_field){.format = TIME_RFC3339};
        if (load_field(source, field, name, json, error) != STATUS_OK) {
            return error_wrap(error, "fields.%.60s", name);
        }
    }
    return STATUS_OK;
}

/* The event time's format is also its field's, and must go with the field's type. */
static enum status load_event_time(struct source *source, struct error *error)
{
    static const char *const known[] = {"field", "format", NULL};
    const json_t *json = json_object_get(source->json, "event_time");
    const json_t *format = json_object_get(json, "format");
    const char *name = NULL;

    if (!json_is_object(json)) {
        return error_set(error, STATUS_REJECT,
                         "event_time: wants an object with \"field\" and \"format\"");
    }
    enum status status = definition_check_keys(json, known, error);
    status = status == STATUS_OK
                 ? definition_get_string(json, "field", "a field's name", &name, error)
                 : status;
    status = status == STATUS_OK && format != NULL
                 ? format_of(format, &source->event_time_format, error)
                 : status;
    if (status != STATUS_OK) {
        return error_wrap(error, "event_time");
    }
    for (size_t i = 0; i < source->field_count; i++) {
        struct source_field *field = (struct source_field *)&source->fields[i];
        if (strcmp(field->name, name) != 0) {
            continue;
        }
        source->event_time_field = i;
        bool is_text = source->event_time_format == TIME_RFC3339;
        if (field->type == VALUE_TIMESTAMP) {
            bool own =
                json_object_get(json_object_get(json_object_get(source->json, "fields"), name),
                                "format") != NULL;
            if (own && format != NULL && field->format != source->event_time_format) {
                return error_set(error, STATUS_REJECT,
                                 "event_time.format: differs from fields.%s.format", name);
            }
            if (own) {
                source->event_time_format = field->format;
            }
            field->format = source->event_time_format;
        } else if (is_text ? field->type != VALUE_STRING
                           : field->type != VALUE_INTEGER && field->type != VALUE_DECIMAL) {
            return error_set(error, STATUS_REJECT,
                             "event_time.format: does not go with field \"%s\" "
                             "of type %s",
                             name, value_type_name(field->type));
        }
        return STATUS_OK;
    }
    return error_set(error, STATUS_REJECT, "event_time.field: there is no field \"%.60s\"", name);
}

static enum status load(struct source *source, struct error *error)
{
    static const char *const known[] = {"$schema",      "source",     "topic",  "dead_letter_topic",
                                        "partitions",   "event_time", "fields", "derive",
                                        "drop_if_null", "dedupe",     "mask",   NULL};

    if (!json_is_object(source->json)) {
        return error_set(error, STATUS_REJECT, "wants an object");
    }
    enum status status = definition_check_keys(source->json, known, error);
    status = status == STATUS_OK
                 ? definition_get_name(source->json, "source", &source->arena, &source->name, error)
                 : status;
    status = status == STATUS_OK ? load_topics(source, error) : status;
    status = status == STATUS_OK ? load_partitions(source, error) : status;
    status = status == STATUS_OK ? load_fields(source, error) : status;
    status = status == STATUS_OK ? load_event_time(source, error) : status;
    return status == STATUS_OK ? definition_load_rules(source, error) : status;
}

enum status source_create(json_t *json, const char *place, struct source **out, struct error *error)
{
    struct source *source = calloc(1, sizeof *source);

    *out = NULL;
    if (source == NULL) {
        return error_no_memory(error);
    }
    arena_init(&source->arena);
    source->json = json_incref(json);
    source->text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    enum status status = source->text != NULL ? load(source, error) : error_no_memory(error);
    if (status != STATUS_OK) {
        source_destroy(source);
        return error_wrap(error, "%s", place);
    }
    *out = source;
    return STATUS_OK;
}

void source_destroy(struct source *source)
{
    if (source != NULL) {
        for (size_t i = 0; i < source->derived_count; i++) {
            expression_destroy(source->derived[i].expression);
        }
        json_decref(source->json);
        free(source->text);
        arena_deinit(&source->arena);
        free(source);
    }
}

bool source_reads_alike(const struct source *a, const struct source *b)
{
    return strcmp(a->text, b->text) == 0;
}
