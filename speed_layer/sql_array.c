/* Array literals for unnest(): see sql_array.h. Pure but for memory. */
#include "speed_layer/sql_array.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/time/timestamp.h"

void sql_array_begin(struct sql_array *array)
{
    *array = (struct sql_array){.empty = true};
    array->stream = open_memstream(&array->text, &array->length);
}

/* The separator before an element; false when there is no memory to write to. */
static bool begin_element(struct sql_array *array)
{
    if (array->stream == NULL)
        return false;
    fputc(array->empty ? '{' : ',', array->stream);
    array->empty = false;
    return true;
}

void sql_array_add_text(struct sql_array *array, const char *text)
{
    if (!begin_element(array))
        return;
    if (text == NULL) {
        fputs("NULL", array->stream);
        return;
    }
    fputc('"', array->stream);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', array->stream);
        fputc(*text, array->stream);
    }
    fputc('"', array->stream);
}

void sql_array_add_int64(struct sql_array *array, int64_t integer)
{
    if (begin_element(array))
        fprintf(array->stream, "%" PRId64, integer);
}

void sql_array_add_bool(struct sql_array *array, bool boolean)
{
    if (begin_element(array))
        fputc(boolean ? 't' : 'f', array->stream);
}

void sql_array_add_timestamp(struct sql_array *array, bool present, int64_t timestamp_us)
{
    char text[TIMESTAMP_TEXT_SIZE];
    if (present)
        timestamp_format(timestamp_us, text, sizeof text);
    sql_array_add_text(array, present ? text : NULL);
}

static bool end(struct sql_array *array)
{
    if (array->stream == NULL)
        return false;
    fputs(array->empty ? "{}" : "}", array->stream);
    bool failed = ferror(array->stream) != 0;
    failed = fclose(array->stream) != 0 || failed;
    array->stream = NULL;
    return !failed;
}

enum status sql_arrays_end(struct sql_array *arrays, size_t count, struct error *error)
{
    bool good = true;
    for (size_t i = 0; i < count; i++)
        good = end(&arrays[i]) && good;
    return good ? STATUS_OK : error_no_memory(error);
}

void sql_arrays_deinit(struct sql_array *arrays, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (arrays[i].stream != NULL)
            fclose(arrays[i].stream);
        free(arrays[i].text);
        arrays[i] = (struct sql_array){0};
    }
}
