/* What a CSV record says as JSON: see csv.h.
 *
 * The fields are written in the order of their paths, so that those within one object stand
 * together: between two fields the objects that only the first is in are closed, and those that
 * only the second is in are opened. */
#include "batch_layer/csv.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/utf8.h"

struct placed {
    const struct source_field *field;
    size_t column;
};

struct csv_layout {
    struct placed *placed; /* by path */
    size_t placed_count;
    size_t column_count;
    char **columns; /* their names, for messages */
    char *left_out;
};

/* --- which column is which field --- */

static bool is_text(const struct csv_field *field, const char *text)
{
    return field->length == strlen(text) && memcmp(field->data, text, field->length) == 0;
}

/* Is the column called like the field's path, "customer.country"? */
static bool is_path(const struct csv_field *column, const struct source_field *field)
{
    size_t at = 0;
    for (size_t i = 0; i < field->path_count; i++) {
        size_t length = strlen(field->path[i]);
        if (i > 0 && (at >= column->length || column->data[at++] != '.'))
            return false;
        if (column->length - at < length || memcmp(column->data + at, field->path[i], length) != 0)
            return false;
        at += length;
    }
    return at == column->length;
}

static size_t record_fields(const struct source *source)
{
    return source->field_count - source->derived_count;
}

static const struct source_field *find_field(const struct source *source, const char *name)
{
    for (size_t i = 0; i < record_fields(source); i++)
        if (strcmp(source->fields[i].name, name) == 0)
            return &source->fields[i];
    return NULL;
}

static const struct source_field *field_of_column(const struct source *source,
                                                  const struct csv_field *column)
{
    for (size_t i = 0; i < record_fields(source); i++)
        if (is_text(column, source->fields[i].name))
            return &source->fields[i];
    for (size_t i = 0; i < record_fields(source); i++)
        if (is_path(column, &source->fields[i]))
            return &source->fields[i];
    return NULL;
}

static enum status place(struct csv_layout *layout, const struct source_field *field, size_t column,
                         struct error *error)
{
    for (size_t i = 0; i < layout->placed_count; i++)
        if (layout->placed[i].field == field)
            return error_set(error, STATUS_REJECT, "field %s: two columns are for it, %s and %s",
                             field->name, layout->columns[layout->placed[i].column],
                             layout->columns[column]);
    layout->placed[layout->placed_count++] = (struct placed){.field = field, .column = column};
    return STATUS_OK;
}

static enum status place_mapped(struct csv_layout *layout, const struct source *source,
                                const struct csv_mapping *mapping, bool *taken, struct error *error)
{
    const struct source_field *field = find_field(source, mapping->field);
    size_t found = layout->column_count;
    if (field == NULL)
        return error_set(error, STATUS_REJECT, "--map %s=%s: source %s has no field %s",
                         mapping->column, mapping->field, source->name, mapping->field);
    for (size_t i = 0; i < layout->column_count; i++) {
        if (strcmp(layout->columns[i], mapping->column) != 0)
            continue;
        if (found < layout->column_count)
            return error_set(error, STATUS_REJECT, "--map %s=%s: two columns have this name",
                             mapping->column, mapping->field);
        found = i;
    }
    if (found == layout->column_count)
        return error_set(error, STATUS_REJECT, "--map %s=%s: the header has no column %s",
                         mapping->column, mapping->field, mapping->column);
    taken[found] = true;
    return place(layout, field, found, error);
}

static bool add_left_out(struct csv_layout *layout, const char *name)
{
    char *text = NULL;
    const char *before = layout->left_out == NULL ? "" : layout->left_out;
    if (asprintf(&text, "%s%s%s", before, before[0] == '\0' ? "" : ", ", name) < 0)
        return false;
    free(layout->left_out);
    layout->left_out = text;
    return true;
}

static enum status place_named(struct csv_layout *layout, const struct source *source,
                               const struct csv_record *header, const bool *taken,
                               struct error *error)
{
    enum status status = STATUS_OK;
    size_t mapped = layout->placed_count;
    for (size_t i = 0; status == STATUS_OK && i < layout->column_count; i++) {
        if (taken[i])
            continue;
        const struct source_field *field = field_of_column(source, &header->fields[i]);
        for (size_t j = 0; field != NULL && j < mapped; j++)
            if (layout->placed[j].field == field)
                field = NULL; /* --map has another column for it */
        if (field != NULL)
            status = place(layout, field, i, error);
        else if (!add_left_out(layout, layout->columns[i]))
            status = error_no_memory(error);
    }
    return status;
}

/* --- paths --- */

static size_t common_length(const struct source_field *a, const struct source_field *b)
{
    size_t i = 0;
    while (i < a->path_count && i < b->path_count && strcmp(a->path[i], b->path[i]) == 0)
        i++;
    return i;
}

static int compare_paths(const void *left, const void *right)
{
    const struct source_field *a = ((const struct placed *)left)->field;
    const struct source_field *b = ((const struct placed *)right)->field;
    size_t i = common_length(a, b);
    if (i < a->path_count && i < b->path_count)
        return strcmp(a->path[i], b->path[i]);
    return a->path_count < b->path_count ? -1 : a->path_count > b->path_count;
}

/* Paths in order: whatever lies within another stands right behind it, or behind others that do. */
static enum status check_paths(const struct csv_layout *layout, struct error *error)
{
    for (size_t i = 1; i < layout->placed_count; i++) {
        const struct source_field *before = layout->placed[i - 1].field;
        const struct source_field *field = layout->placed[i].field;
        if (common_length(before, field) == before->path_count)
            return error_set(error, STATUS_REJECT,
                             "fields %s and %s: one record cannot have both, because the path of"
                             " one leads through the other",
                             before->name, field->name);
    }
    return STATUS_OK;
}

static enum status check_required(const struct csv_layout *layout, const struct source *source,
                                  struct error *error)
{
    for (size_t i = 0; i < record_fields(source); i++) {
        const struct source_field *field = &source->fields[i];
        bool found = field->nullable;
        for (size_t j = 0; !found && j < layout->placed_count; j++)
            found = layout->placed[j].field->path_count == field->path_count &&
                    common_length(layout->placed[j].field, field) == field->path_count;
        if (!found)
            return error_set(error, STATUS_REJECT,
                             "field %s: is required, and no column is called so; say which one it"
                             " is with --map COLUMN=%s",
                             field->name, field->name);
    }
    return STATUS_OK;
}

static enum status copy_names(struct csv_layout *layout, const struct csv_record *header,
                              struct error *error)
{
    layout->columns = calloc(header->field_count + 1, sizeof *layout->columns);
    if (layout->columns == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < header->field_count; i++) {
        const struct csv_field *field = &header->fields[i];
        if (!utf8_is_text(field->data, field->length))
            return error_set(error, STATUS_REJECT, "the name of column %zu is not valid UTF-8",
                             i + 1);
        layout->columns[i] = strndup(field->data, field->length);
        if (layout->columns[i] == NULL)
            return error_no_memory(error);
        layout->column_count++;
    }
    return STATUS_OK;
}

enum status csv_layout_create(const struct source *source, const struct csv_record *header,
                              const struct csv_mapping *mappings, size_t mapping_count,
                              struct csv_layout **out, struct error *error)
{
    *out = NULL;
    struct csv_layout *layout = calloc(1, sizeof *layout);
    bool *taken = calloc(header->field_count + 1, sizeof *taken);
    enum status status = layout == NULL || taken == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK) {
        layout->placed = calloc(header->field_count + mapping_count + 1, sizeof *layout->placed);
        status = layout->placed == NULL ? error_no_memory(error) : STATUS_OK;
    }
    if (status == STATUS_OK)
        status = copy_names(layout, header, error);
    for (size_t i = 0; status == STATUS_OK && i < mapping_count; i++)
        status = place_mapped(layout, source, &mappings[i], taken, error);
    if (status == STATUS_OK)
        status = place_named(layout, source, header, taken, error);
    if (status == STATUS_OK) {
        qsort(layout->placed, layout->placed_count, sizeof *layout->placed, compare_paths);
        status = check_paths(layout, error);
    }
    if (status == STATUS_OK)
        status = check_required(layout, source, error);
    free(taken);
    if (status == STATUS_OK)
        *out = layout;
    else
        csv_layout_destroy(layout);
    return status;
}

void csv_layout_destroy(struct csv_layout *layout)
{
    if (layout == NULL)
        return;
    for (size_t i = 0; i < layout->column_count; i++)
        free(layout->columns[i]);
    free(layout->columns);
    free(layout->placed);
    free(layout->left_out);
    free(layout);
}

const char *csv_layout_left_out(const struct csv_layout *layout)
{
    return layout->left_out == NULL ? "" : layout->left_out;
}

/* --- values --- */

static void put_string(const char *data, size_t length, FILE *out)
{
    putc_unlocked('"', out);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)data[i];
        if (byte == '"' || byte == '\\')
            putc_unlocked('\\', out);
        if (byte < 0x20)
            fprintf(out, "\\u%04x", byte);
        else
            putc_unlocked(byte, out);
    }
    putc_unlocked('"', out);
}

static size_t digits(const char *text, size_t length)
{
    size_t i = 0;
    while (i < length && text[i] >= '0' && text[i] <= '9')
        i++;
    return i;
}

/* A decimal number as JSON writes it, digit for digit, but for a leading plus, leading zeros and a
 * point without digits on one side. */
static bool put_number(const char *text, size_t length, FILE *out)
{
    const char *end = text + length;
    bool negative = length > 0 && *text == '-';
    if (length > 0 && (*text == '-' || *text == '+'))
        text++;
    size_t whole = digits(text, (size_t)(end - text));
    const char *point = text + whole;
    bool has_point = point < end && *point == '.';
    size_t part = has_point ? digits(point + 1, (size_t)(end - point - 1)) : 0;
    const char *rest = point + (has_point ? 1 + part : 0);
    const char *exponent = rest;
    if (whole + part == 0)
        return false;
    if (rest < end) {
        if (*rest != 'e' && *rest != 'E')
            return false;
        rest++;
        if (rest < end && (*rest == '-' || *rest == '+'))
            rest++;
        size_t power = digits(rest, (size_t)(end - rest));
        if (power == 0 || rest + power != end)
            return false;
    }
    while (whole > 1 && *text == '0') {
        text++;
        whole--;
    }
    fprintf(out, "%s%.*s", negative ? "-" : "", whole > 0 ? (int)whole : 1, whole > 0 ? text : "0");
    if (part > 0)
        fprintf(out, ".%.*s", (int)part, point + 1);
    fwrite(exponent, 1, (size_t)(end - exponent), out);
    return true;
}

static bool put_boolean(const struct csv_field *value, FILE *out)
{
    static const char *const texts[] = {"false", "true", "f", "t", "no", "yes", "0", "1"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (value->length != strlen(texts[i]) ||
            strncasecmp(value->data, texts[i], value->length) != 0)
            continue;
        fputs(i % 2 == 1 ? "true" : "false", out);
        return true;
    }
    return false;
}

/* Returns what the text should have been, or NULL. */
static const char *put_value(const struct source_field *field, const struct csv_field *value,
                             FILE *out)
{
    bool is_string = field->type == VALUE_STRING;
    if (value->length == 0 && !(is_string && value->quoted)) {
        fputs("null", out);
        return NULL;
    }
    if (field->type == VALUE_BOOLEAN)
        return put_boolean(value, out) ? NULL : "a boolean";
    if (is_string || (field->type == VALUE_TIMESTAMP && field->format == TIME_RFC3339)) {
        if (!utf8_is_text(value->data, value->length))
            return "valid UTF-8";
        put_string(value->data, value->length, out);
        return NULL;
    }
    return put_number(value->data, value->length, out) ? NULL : "a number";
}

static void open_objects(const struct source_field *field, size_t from, FILE *out)
{
    for (size_t i = from; i < field->path_count; i++) {
        put_string(field->path[i], strlen(field->path[i]), out);
        fputs(i + 1 < field->path_count ? ":{" : ":", out);
    }
}

static void close_objects(const struct source_field *field, size_t down_to, FILE *out)
{
    for (size_t i = field->path_count - 1; i > down_to; i--)
        putc_unlocked('}', out);
}

enum status csv_layout_write(const struct csv_layout *layout, const struct csv_record *record,
                             FILE *out, struct error *error)
{
    if (record->fault != NULL)
        return error_set(error, STATUS_REJECT, "it is no CSV: %s", record->fault);
    if (record->field_count != layout->column_count)
        return error_set(error, STATUS_REJECT, "it has %zu columns, and the header %zu",
                         record->field_count, layout->column_count);
    const struct source_field *before = NULL;
    putc_unlocked('{', out);
    for (size_t i = 0; i < layout->placed_count; i++) {
        const struct placed *placed = &layout->placed[i];
        size_t common = before == NULL ? 0 : common_length(before, placed->field);
        if (before != NULL) {
            close_objects(before, common, out);
            putc_unlocked(',', out);
        }
        open_objects(placed->field, common, out);
        const char *wanted = put_value(placed->field, &record->fields[placed->column], out);
        if (wanted != NULL)
            return error_set(error, STATUS_REJECT, "column %s: is not %s",
                             layout->columns[placed->column], wanted);
        before = placed->field;
    }
    if (before != NULL)
        close_objects(before, 0, out);
    putc_unlocked('}', out);
    return STATUS_OK;
}
