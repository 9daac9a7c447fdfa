/* Making events: see cli/event_maker.h.
 *
 * The record is written once, as a JSON text with a marked slot for each path; events are the text
 * between the slots and new values in them. Every event goes through the event parser before it is
 * given out, so a good one is good, and a bad one is one that the layers dead-letter. */
#include "cli/event_maker.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/time/timestamp.h"

enum {
    ATTEMPTS = 100,   /* to make an event that the source's own expressions accept */
    REMEMBERED = 256, /* events that may be repeated */
    SLOT_SIZE = 16,
};

static const double null_share = 0.05;

struct slot {
    const struct source_field *field;
    size_t before; /* length of the text before it, in the record without values */
    bool is_event_time;
    bool is_id;
    bool is_required; /* by one of the fields of its path */
};

struct event_maker {
    const struct source *source;
    struct event_maker_options options;
    struct event_parser *parser;
    struct event event;
    uint64_t random;
    uint64_t made;
    char *record; /* the texts around the slots, one after the other */
    struct slot slots[SOURCE_FIELD_MAX];
    size_t slot_count;
    char *text; /* the event */
    size_t length;
    size_t size; /* of the stream's buffer */
    FILE *out;   /* to text */
    char *remembered[REMEMBERED];
    size_t remembered_count;
};

/* --- random values --- */

/* splitmix64: Steele, Lea, Flood, Fast splittable pseudorandom number generators, 2014. */
static uint64_t next_random(struct event_maker *maker)
{
    uint64_t z = maker->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* In [0, 1). */
static double fraction(struct event_maker *maker)
{
    return (double)(next_random(maker) >> 11) * 0x1p-53;
}

static bool chance(struct event_maker *maker, double share)
{
    return fraction(maker) < share;
}

/* In [0, count), small ones more often: the first has the most, as busy shops and airports do. */
static int64_t skewed(struct event_maker *maker, int64_t count)
{
    double u = fraction(maker);
    int64_t value = (int64_t)((double)count * u * u);
    return value < count ? value : count - 1;
}

static void put_time(struct event_maker *maker, enum time_format format, int64_t us)
{
    char text[TIMESTAMP_TEXT_SIZE];
    switch (format) {
    case TIME_RFC3339:
        (void)timestamp_format(us, text, sizeof text);
        fprintf(maker->out, "\"%s\"", text);
        return;
    case TIME_EPOCH_S:
        fprintf(maker->out, "%" PRId64, us / 1000000);
        return;
    case TIME_EPOCH_MS:
        fprintf(maker->out, "%" PRId64, us / 1000);
        return;
    case TIME_EPOCH_US:
        fprintf(maker->out, "%" PRId64, us);
        return;
    }
}

static void put_value(struct event_maker *maker, const struct slot *slot, int64_t time_us)
{
    const struct source_field *field = slot->field;
    if (slot->is_event_time) {
        put_time(maker, maker->source->event_time_format, time_us);
        return;
    }
    if (!slot->is_required && chance(maker, null_share)) {
        fputs("null", maker->out);
        return;
    }
    switch (field->type) {
    case VALUE_TIMESTAMP: /* something that was a little earlier */
        put_time(maker, field->format,
                 time_us - (int64_t)(fraction(maker) * 3600e6) / 1000000 * 1000000);
        return;
    case VALUE_INTEGER:
        fprintf(maker->out, "%" PRIu64,
                slot->is_id ? maker->made : (uint64_t)skewed(maker, 1000) + 1);
        return;
    case VALUE_DECIMAL:
        fprintf(maker->out, "%" PRId64 ".%02" PRIu64, skewed(maker, 200),
                next_random(maker) % 99 + 1);
        return;
    case VALUE_BOOLEAN:
        fputs(chance(maker, 0.7) ? "true" : "false", maker->out);
        return;
    default:
        if (slot->is_id)
            fprintf(maker->out, "\"%016" PRIx64 "-%" PRIu64 "\"", maker->options.seed, maker->made);
        else
            fprintf(maker->out, "\"%s-%" PRId64 "\"", field->name,
                    skewed(maker, maker->options.keys) + 1);
    }
}

/* --- the record's form --- */

static bool has_path(const struct source_field *field, const struct source_field *other)
{
    bool same = field->path_count == other->path_count;
    for (size_t i = 0; same && i < field->path_count; i++)
        same = strcmp(field->path[i], other->path[i]) == 0;
    return same;
}

/* Several fields may read one path: the narrower type gives the value, since the wider take it. */
static int width(enum value_type type)
{
    static const enum value_type narrow_first[] = {VALUE_TIMESTAMP, VALUE_BOOLEAN, VALUE_INTEGER,
                                                   VALUE_DECIMAL, VALUE_STRING};
    for (size_t i = 0; i < sizeof narrow_first / sizeof narrow_first[0]; i++)
        if (narrow_first[i] == type)
            return (int)i;
    return (int)sizeof narrow_first;
}

static void add_field(struct event_maker *maker, size_t index)
{
    const struct source *source = maker->source;
    const struct source_field *field = &source->fields[index];
    struct slot *slot = NULL;
    for (size_t i = 0; i < maker->slot_count && slot == NULL; i++)
        if (has_path(maker->slots[i].field, field))
            slot = &maker->slots[i];
    if (slot == NULL) {
        slot = &maker->slots[maker->slot_count++];
        *slot = (struct slot){.field = field};
    }
    if (width(field->type) < width(slot->field->type))
        slot->field = field;
    slot->is_required = slot->is_required || !field->nullable;
    slot->is_event_time = slot->is_event_time || index == source->event_time_field;
    slot->is_id = slot->is_id || (source->dedupe_within > 0 && index == source->dedupe_field);
}

/* Puts the mark of a slot at its place in the record. */
static bool place(json_t *record, const struct source_field *field, const char *mark)
{
    json_t *object = record;
    for (size_t i = 0; i + 1 < field->path_count; i++) {
        json_t *inner = json_object_get(object, field->path[i]);
        if (inner == NULL) {
            if (json_object_set_new(object, field->path[i], json_object()) != 0)
                return false;
            inner = json_object_get(object, field->path[i]);
        }
        if (!json_is_object(inner))
            return false;
        object = inner;
    }
    const char *last = field->path[field->path_count - 1];
    return json_object_get(object, last) == NULL &&
           json_object_set_new(object, last, json_string(mark)) == 0;
}

static void make_mark(size_t slot, char out[SLOT_SIZE])
{
    snprintf(out, SLOT_SIZE, "\x1f%zu\x1f", slot);
}

/* Splits the text at its marks, and brings the slots into the order in which they stand there. */
static bool split(struct event_maker *maker, const char *text)
{
    struct slot ordered[SOURCE_FIELD_MAX];
    size_t count = 0;
    size_t length = 0;
    static const char open[] = "\"\\u001F"; /* a mark, as it is escaped */
    const size_t open_length = sizeof open - 1;
    maker->record = malloc(strlen(text) + 1);
    if (maker->record == NULL)
        return false;
    for (const char *at = text; *at != '\0';) {
        const char *mark = strstr(at, open);
        size_t before = mark != NULL ? (size_t)(mark - at) : strlen(at);
        memcpy(maker->record + length, at, before);
        length += before;
        if (mark == NULL)
            break;
        char *end = NULL;
        size_t index = strtoul(mark + open_length, &end, 10);
        if (index >= maker->slot_count || count == maker->slot_count)
            return false;
        ordered[count] = maker->slots[index];
        ordered[count++].before = before;
        at = end + open_length; /* \u001F" */
    }
    maker->record[length] = '\0';
    memcpy(maker->slots, ordered, count * sizeof ordered[0]);
    return count == maker->slot_count;
}

static enum status make_form(struct event_maker *maker, struct error *error)
{
    const struct source *source = maker->source;
    json_t *record = json_object();
    bool placed = true;
    for (size_t i = 0; i < source->field_count - source->derived_count; i++)
        add_field(maker, i);
    size_t fault = 0;
    for (size_t i = 0; i < maker->slot_count && placed; i++) {
        char mark[SLOT_SIZE];
        make_mark(i, mark);
        placed = place(record, maker->slots[i].field, mark);
        fault = i;
    }
    char *text = placed ? json_dumps(record, JSON_COMPACT) : NULL;
    bool good = text != NULL && split(maker, text);
    free(text);
    json_decref(record);
    if (!placed)
        return error_set(error, STATUS_REJECT,
                         "source %s: no record can have field %s besides the others, whose paths "
                         "lead through its place",
                         source->name, maker->slots[fault].field->name);
    return good ? STATUS_OK : error_no_memory(error);
}

/* --- events --- */

static void write_event(struct event_maker *maker, int64_t time_us)
{
    const char *at = maker->record;
    rewind(maker->out);
    for (size_t i = 0; i < maker->slot_count; i++) {
        fwrite(at, 1, maker->slots[i].before, maker->out);
        at += maker->slots[i].before;
        put_value(maker, &maker->slots[i], time_us);
    }
    fputs(at, maker->out);
}

/* Something is wrong with it, in one of the ways in which that happens. */
static void write_bad_event(struct event_maker *maker, int64_t time_us)
{
    static const char *const instead[] = {"null", "\"soon\"", "{}", "99999999999999999999"};
    uint64_t way = next_random(maker) % 5;
    const char *at = maker->record;
    write_event(maker, time_us);
    (void)fflush(maker->out);
    if (way == 4) { /* the end is missing */
        long end = ftell(maker->out);
        (void)fseek(maker->out, end - 1 - (long)(next_random(maker) % (uint64_t)(end / 2)),
                    SEEK_SET);
        return;
    }
    rewind(maker->out);
    for (size_t i = 0; i < maker->slot_count; i++) {
        fwrite(at, 1, maker->slots[i].before, maker->out);
        at += maker->slots[i].before;
        if (maker->slots[i].is_event_time)
            fputs(instead[way], maker->out);
        else
            put_value(maker, &maker->slots[i], time_us);
    }
    fputs(at, maker->out);
}

/* What was written; in maker->text. */
static bool finish(struct event_maker *maker)
{
    bool good = fflush(maker->out) == 0;
    long length = ftell(maker->out);
    maker->length = length > 0 ? (size_t)length : 0;
    return good && length > 0;
}

static enum status parse(struct event_maker *maker, struct error *error)
{
    return event_parser_parse(maker->parser, maker->text, maker->length, maker->length,
                              &maker->event, error);
}

static enum status make_event(struct event_maker *maker, int64_t now_us, struct made_event *out,
                              struct error *error)
{
    enum status status = STATUS_REJECT;
    for (int i = 0; i < ATTEMPTS && status == STATUS_REJECT; i++) {
        out->is_late = chance(maker, maker->options.late);
        int64_t time_us = now_us;
        if (out->is_late)
            time_us -= 1000 + (int64_t)(fraction(maker) * (double)maker->options.lateness_us);
        write_event(maker, time_us);
        if (!finish(maker))
            return error_no_memory(error);
        status = parse(maker, error);
    }
    out->event = &maker->event;
    return status == STATUS_REJECT
               ? error_wrap(error, "source %s refuses what is made for it", maker->source->name)
               : status;
}

static enum status make_bad_event(struct event_maker *maker, int64_t now_us, struct made_event *out,
                                  struct error *error)
{
    struct error ignored;
    for (int i = 0; i < ATTEMPTS; i++) {
        write_bad_event(maker, now_us);
        if (!finish(maker))
            return error_no_memory(error);
        enum status status = parse(maker, &ignored);
        if (status == STATUS_REJECT) {
            out->is_bad = true;
            return STATUS_OK;
        }
        if (status != STATUS_OK)
            return error_set(error, status, "%s", ignored.text);
    }
    return error_set(error, STATUS_REJECT, "source %s takes everything", maker->source->name);
}

static enum status remember(struct event_maker *maker, struct error *error)
{
    char *copy = strndup(maker->text, maker->length);
    if (copy == NULL)
        return error_no_memory(error);
    size_t place = maker->made % REMEMBERED;
    free(maker->remembered[place]);
    maker->remembered[place] = copy;
    if (maker->remembered_count < REMEMBERED)
        maker->remembered_count++;
    return STATUS_OK;
}

static enum status repeat(struct event_maker *maker, struct made_event *out, struct error *error)
{
    const char *text = maker->remembered[next_random(maker) % maker->remembered_count];
    rewind(maker->out);
    fputs(text, maker->out);
    if (!finish(maker))
        return error_no_memory(error);
    out->is_repeat = true;
    out->event = &maker->event;
    return parse(maker, error);
}

enum status event_maker_next(struct event_maker *maker, int64_t now_us, struct made_event *out,
                             struct error *error)
{
    enum status status;
    *out = (struct made_event){0};
    if (chance(maker, maker->options.bad)) {
        status = make_bad_event(maker, now_us, out, error);
    } else if (maker->remembered_count > 0 && chance(maker, maker->options.repeat)) {
        status = repeat(maker, out, error);
    } else {
        status = make_event(maker, now_us, out, error);
        if (status == STATUS_OK && maker->options.repeat > 0)
            status = remember(maker, error);
        maker->made++;
    }
    out->text = maker->text;
    out->length = maker->length;
    return status;
}

enum status event_maker_create(const struct source *source,
                               const struct event_maker_options *options, struct event_maker **out,
                               struct error *error)
{
    struct event_maker *maker = calloc(1, sizeof *maker);
    *out = NULL;
    if (maker == NULL)
        return error_no_memory(error);
    maker->source = source;
    maker->options = *options;
    maker->random = options->seed;
    maker->out = open_memstream(&maker->text, &maker->size);
    enum status status = maker->out != NULL ? event_parser_create(source, &maker->parser, error)
                                            : error_no_memory(error);
    if (status == STATUS_OK) {
        event_parser_unmask(maker->parser);
        status = make_form(maker, error);
    }
    if (status != STATUS_OK) {
        event_maker_destroy(maker);
        return status;
    }
    *out = maker;
    return STATUS_OK;
}

void event_maker_destroy(struct event_maker *maker)
{
    if (maker == NULL)
        return;
    for (size_t i = 0; i < maker->remembered_count; i++)
        free(maker->remembered[i]);
    if (maker->out != NULL)
        (void)fclose(maker->out);
    free(maker->text);
    free(maker->record);
    event_parser_destroy(maker->parser);
    free(maker);
}
