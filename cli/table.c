/* Tables for people: see cli/table.h. Widths count characters of UTF-8, not bytes. */
#include "cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct table {
    const char *const *columns;
    size_t column_count;
    char **cells;
    size_t cell_count;
    size_t capacity;
    bool failed;
};

struct table *table_create(const char *const *columns)
{
    struct table *table = calloc(1, sizeof *table);
    if (table == NULL)
        return NULL;
    table->columns = columns;
    while (columns[table->column_count] != NULL)
        table->column_count++;
    return table;
}

void table_destroy(struct table *table)
{
    if (table == NULL)
        return;
    for (size_t i = 0; i < table->cell_count; i++)
        free(table->cells[i]);
    free(table->cells);
    free(table);
}

void table_add(struct table *table, const char *text)
{
    if (table->cell_count == table->capacity) {
        size_t capacity = table->capacity * 2 + 64;
        char **cells = realloc(table->cells, capacity * sizeof *cells);
        if (cells == NULL) {
            table->failed = true;
            return;
        }
        table->cells = cells;
        table->capacity = capacity;
    }
    char *copy = strdup(text != NULL ? text : "-");
    if (copy == NULL)
        table->failed = true;
    else
        table->cells[table->cell_count++] = copy;
}

void table_addf(struct table *table, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    table_add(table, text);
}

static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

/* Control characters would break the table, or the terminal. */
static void print_cell(const char *text, size_t width, bool right, bool last, FILE *out)
{
    size_t padding = width - width_of(text);
    if (right)
        fprintf(out, "%*s", (int)padding, "");
    for (const char *at = text; *at != '\0'; at++)
        fputc((unsigned char)*at < ' ' || *at == 0x7F ? '?' : *at, out);
    if (!right && !last)
        fprintf(out, "%*s", (int)padding, "");
    fputs(last ? "\n" : "  ", out);
}

bool table_print(const struct table *table, FILE *out)
{
    size_t widths[TABLE_COLUMN_MAX] = {0};
    size_t columns = table->column_count;
    if (table->failed || columns > TABLE_COLUMN_MAX)
        return false;
    for (size_t i = 0; i < columns; i++)
        widths[i] = width_of(table->columns[i]) - (table->columns[i][0] == '>');
    for (size_t i = 0; i < table->cell_count; i++) {
        size_t width = width_of(table->cells[i]);
        if (width > widths[i % columns])
            widths[i % columns] = width;
    }
    for (size_t i = 0; i < columns; i++) {
        bool right = table->columns[i][0] == '>';
        print_cell(table->columns[i] + right, widths[i], right, i + 1 == columns, out);
    }
    for (size_t i = 0; i < table->cell_count; i++) {
        size_t column = i % columns;
        print_cell(table->cells[i], widths[column], table->columns[column][0] == '>',
                   column + 1 == columns, out);
    }
    return true;
}
