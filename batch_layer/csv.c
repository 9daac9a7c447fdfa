/* Reading CSV: see csv.h.
 *
 * `held` has the lines that were read and not yet used up, each with its line feed. A record is
 * parsed from its begin on and takes more lines while a quote is open. Where the quote is never
 * closed only the first line is used up, and the others are still there for the next record. */
#include "batch_layer/csv.h"

#include <stdlib.h>
#include <string.h>

struct csv_reader {
    struct lines *lines;
    char *held;
    size_t capacity;
    size_t begin;
    size_t end;
    int64_t line; /* of held[begin] */
    bool ended;
    char *unquoted; /* the text of quoted fields; as large as `held` */
    struct csv_field *fields;
    size_t field_count;
};

/* Where the parser is in a record. */
struct place {
    size_t at;       /* index into held */
    size_t unquoted; /* used of it */
    int64_t lines;   /* line feeds within the record */
};

enum field_end { FIELD_NEXT, FIELD_LAST, FIELD_OPEN, FIELD_BAD };

enum status csv_reader_create(struct lines *lines, struct csv_reader **out, struct error *error)
{
    struct csv_reader *reader = calloc(1, sizeof *reader);
    *out = reader;
    if (reader == NULL)
        return error_no_memory(error);
    reader->lines = lines;
    reader->line = 1;
    reader->fields = calloc(CSV_COLUMNS_MAX, sizeof *reader->fields);
    if (reader->fields != NULL)
        return STATUS_OK;
    csv_reader_destroy(reader);
    *out = NULL;
    return error_no_memory(error);
}

void csv_reader_destroy(struct csv_reader *reader)
{
    if (reader == NULL)
        return;
    free(reader->held);
    free(reader->unquoted);
    free(reader->fields);
    free(reader);
}

static enum status reserve(struct csv_reader *reader, size_t more, struct error *error)
{
    if (reader->begin > 0) {
        memmove(reader->held, reader->held + reader->begin, reader->end - reader->begin);
        reader->end -= reader->begin;
        reader->begin = 0;
    }
    if (more <= reader->capacity - reader->end)
        return STATUS_OK;
    size_t capacity = reader->capacity * 2 + more;
    char *held = realloc(reader->held, capacity);
    if (held != NULL)
        reader->held = held;
    char *unquoted = realloc(reader->unquoted, capacity);
    if (unquoted != NULL)
        reader->unquoted = unquoted;
    if (held == NULL || unquoted == NULL)
        return error_no_memory(error);
    reader->capacity = capacity;
    return STATUS_OK;
}

/* Takes one more line from the file; *got is false at its end. */
static enum status hold_line(struct csv_reader *reader, bool *got, struct error *error)
{
    const char *line;
    size_t length;
    *got = false;
    if (reader->ended)
        return STATUS_OK;
    enum status status = lines_next(reader->lines, &line, &length, error);
    if (status != STATUS_OK)
        return status;
    reader->ended = line == NULL;
    if (line == NULL)
        return STATUS_OK;
    status = reserve(reader, length + 1, error);
    if (status != STATUS_OK)
        return status;
    memcpy(reader->held + reader->end, line, length);
    reader->held[reader->end + length] = '\n';
    reader->end += length + 1;
    *got = true;
    return STATUS_OK;
}

/* Behind a field: a comma, or the end of the line, with or without a carriage return. */
static enum field_end end_field(const struct csv_reader *reader, struct place *place)
{
    const char *held = reader->held;
    if (held[place->at] == ',') {
        place->at++;
        return FIELD_NEXT;
    }
    if (held[place->at] == '\r' && held[place->at + 1] == '\n')
        place->at++;
    return held[place->at] == '\n' ? FIELD_LAST : FIELD_BAD;
}

static enum field_end parse_quoted(const struct csv_reader *reader, struct place *place,
                                   struct csv_field *out)
{
    char *text = reader->unquoted + place->unquoted;
    *out = (struct csv_field){.data = text, .quoted = true};
    for (place->at++; place->at < reader->end; place->at++) {
        char byte = reader->held[place->at];
        if (byte == '"') {
            place->at++;
            if (place->at == reader->end || reader->held[place->at] != '"')
                break;
        }
        place->lines += byte == '\n';
        text[out->length++] = byte;
    }
    place->unquoted += out->length;
    /* A line that is held ends with a line feed, so a quote that is closed has one behind it. */
    return place->at == reader->end ? FIELD_OPEN : end_field(reader, place);
}

static enum field_end parse_plain(const struct csv_reader *reader, struct place *place,
                                  struct csv_field *out)
{
    const char *begin = reader->held + place->at;
    size_t length = strcspn(begin, ",\"\n"); /* held ends with a line feed; a NUL is caught below */
    place->at += length;
    if (reader->held[place->at] == '\n' && length > 0 && begin[length - 1] == '\r') {
        length--;
        place->at--;
    }
    *out = (struct csv_field){.data = begin, .length = length};
    return end_field(reader, place);
}

/* Parses what is held. The end of the record, without its line break, is place->at where it is not
 * FIELD_OPEN. */
static enum field_end parse(struct csv_reader *reader, struct place *place, const char **fault)
{
    *place = (struct place){.at = reader->begin};
    reader->field_count = 0;
    *fault = NULL;
    enum field_end end = FIELD_NEXT;
    while (end == FIELD_NEXT) {
        if (reader->field_count == CSV_COLUMNS_MAX) {
            *fault = "it has more than 4096 columns";
            return FIELD_BAD;
        }
        struct csv_field *field = &reader->fields[reader->field_count++];
        bool quoted = reader->held[place->at] == '"';
        end = quoted ? parse_quoted(reader, place, field) : parse_plain(reader, place, field);
        if (end == FIELD_BAD)
            *fault = quoted ? "something stands between a closing quote and the next comma"
                            : "a quote or a NUL stands within a field that does not begin with a"
                              " quote";
    }
    return end;
}

/* The record takes [begin, at its line feed]; `lines` more line feeds are within it. */
static void use_up(struct csv_reader *reader, size_t line_feed, int64_t lines,
                   struct csv_record *out)
{
    size_t end = line_feed;
    if (end > reader->begin && reader->held[end - 1] == '\r')
        end--;
    out->line = reader->line;
    out->last_line = reader->line + lines;
    out->text = reader->held + reader->begin;
    out->length = end - reader->begin;
    out->fields = reader->fields;
    out->field_count = reader->field_count;
    reader->begin = line_feed + 1;
    reader->line += lines + 1;
}

static size_t line_feed_from(const struct csv_reader *reader, size_t at)
{
    const char *found = memchr(reader->held + at, '\n', reader->end - at);
    return found == NULL ? reader->end - 1 : (size_t)(found - reader->held);
}

/* Takes lines until the record is whole, or cannot be. */
static enum status read_record(struct csv_reader *reader, struct csv_record *out,
                               struct error *error)
{
    struct place place;
    for (size_t parsed = 0;;) {
        size_t held = reader->end - reader->begin;
        /* Not at each line, or a quote that is open for long would cost the square of its length.
         */
        enum field_end end = FIELD_OPEN;
        bool got = true;
        if (held >= parsed * 2)
            end = parse(reader, &place, &out->fault);
        if (end != FIELD_OPEN) {
            use_up(reader, line_feed_from(reader, place.at), place.lines, out);
            return STATUS_OK;
        }
        if (held >= parsed * 2)
            parsed = held;
        if (held <= CSV_RECORD_BYTES) {
            enum status status = hold_line(reader, &got, error);
            if (status != STATUS_OK)
                return status;
        }
        if (got && held <= CSV_RECORD_BYTES)
            continue;
        if (parse(reader, &place, &out->fault) == FIELD_OPEN) {
            out->fault = "a quote is opened and not closed";
            use_up(reader, line_feed_from(reader, reader->begin), 0, out);
        } else {
            use_up(reader, line_feed_from(reader, place.at), place.lines, out);
        }
        return STATUS_OK;
    }
}

enum status csv_reader_next(struct csv_reader *reader, struct csv_record *out, bool *end,
                            struct error *error)
{
    *out = (struct csv_record){0};
    *end = false;
    for (;;) {
        bool got = true;
        enum status status =
            reader->begin == reader->end ? hold_line(reader, &got, error) : STATUS_OK;
        if (status != STATUS_OK)
            return status;
        if (!got) {
            *end = true;
            return STATUS_OK;
        }
        const char *text = reader->held + reader->begin;
        size_t empty = text[0] == '\n' ? 1 : text[0] == '\r' && text[1] == '\n' ? 2 : 0;
        if (empty == 0)
            return read_record(reader, out, error);
        reader->begin += empty;
        reader->line++;
    }
}
