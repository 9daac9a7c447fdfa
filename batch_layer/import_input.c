/* Reading what is imported: see import_input.h. */
#include "batch_layer/import_input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch_layer/progress.h"
#include "core/program/program.h"

enum { COPY_BYTES = 1 << 18 };

static const char byte_order_mark[] = "\xEF\xBB\xBF";

struct import_input {
    int fd; /* of a regular file */
    char *name;
    enum import_format format;
    char checksum[LINES_CHECKSUM_BYTES];
    int64_t line_count;
    struct lines *lines;
    int64_t line;
    struct csv_reader *csv;
    struct csv_layout *layout;
    char *json; /* what the layout made of the last record */
    size_t json_length;
    struct error fault;
};

/* --- files --- */

static bool has_ending(const char *name, size_t length, const char *ending)
{
    size_t size = strlen(ending);
    return length > size && strncasecmp(name + length - size, ending, size) == 0;
}

static enum status choose_format(struct import_input *input, enum import_format format,
                                 struct error *error)
{
    static const char *const compressed[] = {".zst", ".gz"};
    static const char *const json[] = {".json", ".jsonl", ".ndjson"};
    size_t length = strlen(input->name);
    input->format = format;
    if (format != IMPORT_BY_NAME)
        return STATUS_OK;
    for (size_t i = 0; i < 2; i++)
        if (has_ending(input->name, length, compressed[i])) {
            length -= strlen(compressed[i]);
            break;
        }
    for (size_t i = 0; i < 3; i++)
        if (has_ending(input->name, length, json[i]))
            input->format = IMPORT_JSON;
    if (has_ending(input->name, length, ".csv"))
        input->format = IMPORT_CSV;
    if (input->format != IMPORT_BY_NAME)
        return STATUS_OK;
    return error_set(error, STATUS_REJECT,
                     "%s: the name tells no format; say --format json or --format csv",
                     input->name);
}

static enum status io_error(const char *name, struct error *error)
{
    return error_set(error, STATUS_REJECT, "%s: %s", name, strerror(errno));
}

static enum status write_all(int fd, const char *data, size_t length, const char *directory,
                             struct error *error)
{
    while (length > 0) {
        ssize_t written = write(fd, data, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return error_set(error, STATUS_RETRY, "%s: %s", directory, strerror(errno));
        data += written;
        length -= (size_t)written;
    }
    return STATUS_OK;
}

static enum status copy_input(int from, int to, const char *name, const char *directory,
                              struct error *error)
{
    char *buffer = malloc(COPY_BYTES);
    enum status status = buffer == NULL ? error_no_memory(error) : STATUS_OK;
    while (status == STATUS_OK) {
        if (program_wait_fd(from, -1) == 0) {
            status = error_set(error, STATUS_RETRY, "stopped");
            break;
        }
        ssize_t got = read(from, buffer, COPY_BYTES);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got == 0)
            break;
        status =
            got < 0 ? io_error(name, error) : write_all(to, buffer, (size_t)got, directory, error);
    }
    free(buffer);
    return status;
}

/* Makes input->fd a regular file with the same content. */
static enum status spool(struct import_input *input, const char *directory, struct error *error)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/.import-XXXXXX", directory);
    if (length < 0 || (size_t)length >= sizeof path)
        return error_set(error, STATUS_REJECT, "%s: the path is too long", directory);
    if (mkdir(directory, 0777) != 0 && errno != EEXIST)
        return error_set(error, STATUS_RETRY, "%s: %s", directory, strerror(errno));
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return error_set(error, STATUS_RETRY, "%s: %s", directory, strerror(errno));
    unlink(path);
    enum status status = copy_input(input->fd, fd, input->name, directory, error);
    close(input->fd);
    input->fd = fd;
    return status;
}

static enum status open_file(struct import_input *input, const char *path, const char *directory,
                             struct error *error)
{
    struct stat about;
    if (strcmp(path, "-") == 0)
        input->fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    else
        input->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (input->fd < 0 || fstat(input->fd, &about) != 0)
        return io_error(input->name, error);
    if (S_ISDIR(about.st_mode))
        return error_set(error, STATUS_REJECT, "%s: is a directory", input->name);
    return S_ISREG(about.st_mode) ? STATUS_OK : spool(input, directory, error);
}

static enum status open_lines(struct import_input *input, struct error *error)
{
    lines_close(input->lines);
    input->lines = NULL;
    if (lseek(input->fd, 0, SEEK_SET) < 0)
        return io_error(input->name, error);
    return lines_open_fd(input->fd, input->name, &input->lines, error);
}

static int64_t count_line_feeds(const char *text, size_t length)
{
    int64_t count = 0;
    const char *end = text + length;
    for (; (text = memchr(text, '\n', (size_t)(end - text))) != NULL; text++)
        count++;
    return count;
}

static enum status read_through(struct import_input *input, struct error *error)
{
    struct stat about;
    struct progress progress;
    const char *text;
    size_t length = 1;
    enum status status = open_lines(input, error);
    if (status != STATUS_OK)
        return status;
    progress_begin(&progress, "check", "bytes", fstat(input->fd, &about) == 0 ? about.st_size : 0);
    while (status == STATUS_OK && length > 0) {
        status = lines_next_text(input->lines, &text, &length, error);
        if (status == STATUS_OK && length > 0)
            input->line_count += count_line_feeds(text, length);
        progress_update(&progress, lines_bytes_read(input->lines));
    }
    progress_end(&progress, lines_bytes_read(input->lines));
    if (status == STATUS_OK && program_stopping())
        status = error_set(error, STATUS_RETRY, "stopped");
    lines_checksum(input->lines, input->checksum);
    return status;
}

enum status import_input_open(const char *path, enum import_format format,
                              const char *spool_directory, struct import_input **out,
                              struct error *error)
{
    struct import_input *input = calloc(1, sizeof *input);
    *out = NULL;
    if (input == NULL)
        return error_no_memory(error);
    input->fd = -1;
    input->name = strdup(strcmp(path, "-") == 0 ? "standard input" : path);
    enum status status = input->name == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK)
        status = choose_format(input, format, error);
    if (status == STATUS_OK)
        status = open_file(input, path, spool_directory, error);
    if (status == STATUS_OK)
        status = read_through(input, error);
    if (status == STATUS_OK)
        *out = input;
    else
        import_input_close(input);
    return status;
}

void import_input_close(struct import_input *input)
{
    if (input == NULL)
        return;
    csv_layout_destroy(input->layout);
    csv_reader_destroy(input->csv);
    lines_close(input->lines);
    if (input->fd >= 0)
        close(input->fd);
    free(input->json);
    free(input->name);
    free(input);
}

const char *import_input_name(const struct import_input *input)
{
    return input->name;
}

enum import_format import_input_format(const struct import_input *input)
{
    return input->format;
}

const char *import_input_checksum(const struct import_input *input)
{
    return input->checksum;
}

int64_t import_input_line_count(const struct import_input *input)
{
    return input->line_count;
}

const char *import_input_left_out(const struct import_input *input)
{
    return input->layout == NULL ? "" : csv_layout_left_out(input->layout);
}

/* --- records --- */

static void skip_byte_order_mark(const char **text, size_t *length)
{
    const size_t size = sizeof byte_order_mark - 1;
    if (*length < size || memcmp(*text, byte_order_mark, size) != 0)
        return;
    *text += size;
    *length -= size;
}

static enum status read_header(struct import_input *input, const struct source *source,
                               const struct csv_mapping *mappings, size_t mapping_count,
                               struct error *error)
{
    struct csv_record header;
    bool end;
    enum status status = csv_reader_next(input->csv, &header, &end, error);
    if (status != STATUS_OK)
        return status;
    if (end)
        return error_set(error, STATUS_REJECT, "%s: has no header line", input->name);
    if (header.fault != NULL)
        return error_set(error, STATUS_REJECT, "%s: the header line: %s", input->name,
                         header.fault);
    struct csv_field *fields = calloc(header.field_count, sizeof *fields);
    if (fields == NULL)
        return error_no_memory(error);
    memcpy(fields, header.fields, header.field_count * sizeof *fields);
    skip_byte_order_mark(&fields[0].data, &fields[0].length);
    header.fields = fields;
    status = csv_layout_create(source, &header, mappings, mapping_count, &input->layout, error);
    free(fields);
    return status == STATUS_REJECT ? error_wrap(error, "%s", input->name) : status;
}

enum status import_input_begin(struct import_input *input, const struct source *source,
                               const struct csv_mapping *mappings, size_t mapping_count,
                               struct error *error)
{
    enum status status = open_lines(input, error);
    if (status != STATUS_OK || input->format != IMPORT_CSV)
        return status;
    status = csv_reader_create(input->lines, &input->csv, error);
    if (status == STATUS_OK)
        status = read_header(input, source, mappings, mapping_count, error);
    return status;
}

static enum status next_line(struct import_input *input, struct import_record *out, bool *end,
                             struct error *error)
{
    for (;;) {
        const char *line;
        size_t length;
        enum status status = lines_next(input->lines, &line, &length, error);
        if (status != STATUS_OK)
            return status;
        *end = line == NULL;
        if (*end)
            return STATUS_OK;
        input->line++;
        if (input->line == 1)
            skip_byte_order_mark(&line, &length);
        if (length > 0 && line[length - 1] == '\r')
            length--;
        if (length == 0)
            continue;
        *out = (struct import_record){.line = input->line,
                                      .last_line = input->line,
                                      .value = line,
                                      .length = length,
                                      .text = line,
                                      .text_length = length};
        return STATUS_OK;
    }
}

/* What it says as JSON. STATUS_REJECT: nothing. */
static enum status convert(struct import_input *input, const struct csv_record *record,
                           struct error *error)
{
    free(input->json);
    input->json = NULL;
    FILE *json = open_memstream(&input->json, &input->json_length);
    if (json == NULL)
        return error_no_memory(error);
    enum status status = csv_layout_write(input->layout, record, json, error);
    if (fclose(json) != 0 && status == STATUS_OK)
        status = error_no_memory(error);
    return status;
}

static enum status next_csv(struct import_input *input, struct import_record *out, bool *end,
                            struct error *error)
{
    struct csv_record record;
    enum status status = csv_reader_next(input->csv, &record, end, error);
    if (status != STATUS_OK || *end)
        return status;
    *out = (struct import_record){.line = record.line,
                                  .last_line = record.last_line,
                                  .text = record.text,
                                  .text_length = record.length};
    status = convert(input, &record, &input->fault);
    if (status == STATUS_OK) {
        out->value = input->json;
        out->length = input->json_length;
        return STATUS_OK;
    }
    if (status == STATUS_REJECT) {
        out->fault = input->fault.text;
        return STATUS_OK;
    }
    *error = input->fault;
    return status;
}

enum status import_input_next(struct import_input *input, struct import_record *out, bool *end,
                              struct error *error)
{
    char checksum[LINES_CHECKSUM_BYTES];
    *out = (struct import_record){0};
    enum status status = input->format == IMPORT_CSV ? next_csv(input, out, end, error)
                                                     : next_line(input, out, end, error);
    if (status != STATUS_OK || !*end)
        return status;
    if (program_stopping())
        return error_set(error, STATUS_RETRY, "stopped");
    lines_checksum(input->lines, checksum);
    if (strcmp(checksum, input->checksum) != 0)
        return error_set(error, STATUS_RETRY, "%s: was changed while it was read", input->name);
    return STATUS_OK;
}
