/* Lines of plain or compressed input: see cli/lines.h.
 *
 * Two buffers: bytes as read, and text, which is decompressed from them (or is read directly where
 * nothing is compressed). The text buffer grows to the longest line, which is bounded. */
#include "cli/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "core/program/program.h"

enum { CHUNK_BYTES = 1 << 17, LINE_MAX_BYTES = 64 << 20 };

struct lines {
    int fd;
    char *name;
    bool started;
    bool ended; /* nothing more comes from fd */

    ZSTD_DCtx *zstd; /* NULL: plain */
    bool frame_open; /* in the middle of a zstd frame */
    char *input;     /* CHUNK_BYTES of compressed bytes */
    size_t input_length;
    size_t input_next;

    char *text;
    size_t capacity;
    size_t begin; /* of the next line */
    size_t end;   /* of the text there is */
};

static enum status lines_error(const struct lines *lines, const char *what, struct error *error)
{
    return error_set(error, STATUS_REJECT, "%s: %s", lines->name, what);
}

enum status lines_open(const char *path, struct lines **out, struct error *error)
{
    *out = NULL;
    bool is_standard = path == NULL || strcmp(path, "-") == 0;
    struct lines *lines = calloc(1, sizeof *lines);
    if (lines == NULL)
        return error_no_memory(error);
    lines->fd = -1;
    lines->name = strdup(is_standard ? "standard input" : path);
    lines->input = malloc(CHUNK_BYTES);
    enum status status = STATUS_OK;
    if (lines->name == NULL || lines->input == NULL)
        status = error_no_memory(error);
    else if (!is_standard && (lines->fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        status = lines_error(lines, strerror(errno), error);
    if (status != STATUS_OK) {
        lines_close(lines);
        return status;
    }
    if (is_standard)
        lines->fd = STDIN_FILENO;
    *out = lines;
    return STATUS_OK;
}

void lines_close(struct lines *lines)
{
    if (lines == NULL)
        return;
    if (lines->fd > STDIN_FILENO)
        close(lines->fd);
    ZSTD_freeDCtx(lines->zstd);
    free(lines->name);
    free(lines->input);
    free(lines->text);
    free(lines);
}

/* Reads up to `size` bytes; 0 at the end and when the program is stopping. */
static enum status read_some(struct lines *lines, char *out, size_t size, size_t *length,
                             struct error *error)
{
    *length = 0;
    for (;;) {
        if (program_wait_fd(lines->fd, -1) == 0) { /* only a stop ends an endless wait */
            lines->ended = true;
            return STATUS_OK;
        }
        ssize_t got = read(lines->fd, out, size);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            return lines_error(lines, strerror(errno), error);
        lines->ended = got == 0;
        *length = (size_t)got;
        return STATUS_OK;
    }
}

/* Looks at the first bytes. */
static enum status start(struct lines *lines, struct error *error)
{
    static const unsigned char zstd_magic[] = {0x28, 0xB5, 0x2F, 0xFD};
    static const unsigned char gzip_magic[] = {0x1F, 0x8B};
    lines->started = true;
    while (lines->input_length < sizeof zstd_magic && !lines->ended) {
        size_t got;
        enum status status = read_some(lines, lines->input + lines->input_length,
                                       CHUNK_BYTES - lines->input_length, &got, error);
        if (status != STATUS_OK)
            return status;
        lines->input_length += got;
    }
    if (lines->input_length >= sizeof gzip_magic &&
        memcmp(lines->input, gzip_magic, sizeof gzip_magic) == 0)
        return lines_error(
            lines, "gzip is not read directly; use: zcat FILE | dovetail produce ...", error);
    if (lines->input_length < sizeof zstd_magic ||
        memcmp(lines->input, zstd_magic, sizeof zstd_magic) != 0)
        return STATUS_OK;
    lines->zstd = ZSTD_createDCtx();
    return lines->zstd != NULL ? STATUS_OK : error_no_memory(error);
}

/* Makes room behind the text there is. */
static enum status reserve(struct lines *lines, struct error *error)
{
    if (lines->begin > 0) {
        memmove(lines->text, lines->text + lines->begin, lines->end - lines->begin);
        lines->end -= lines->begin;
        lines->begin = 0;
    }
    if (lines->capacity - lines->end >= CHUNK_BYTES)
        return STATUS_OK;
    if (lines->end > LINE_MAX_BYTES)
        return lines_error(lines, "a line is longer than 64 MiB", error);
    size_t capacity = lines->capacity * 2 + 2 * CHUNK_BYTES;
    char *text = realloc(lines->text, capacity);
    if (text == NULL)
        return error_no_memory(error);
    lines->text = text;
    lines->capacity = capacity;
    return STATUS_OK;
}

static enum status decompress(struct lines *lines, bool *more, struct error *error)
{
    size_t before = lines->end;
    do {
        if (lines->input_next == lines->input_length && !lines->ended) {
            lines->input_next = 0;
            enum status status =
                read_some(lines, lines->input, CHUNK_BYTES, &lines->input_length, error);
            if (status != STATUS_OK)
                return status;
        }
        ZSTD_inBuffer in = {lines->input, lines->input_length, lines->input_next};
        ZSTD_outBuffer out = {lines->text, lines->capacity, lines->end};
        size_t rest = ZSTD_decompressStream(lines->zstd, &out, &in);
        if (ZSTD_isError(rest))
            return lines_error(lines, ZSTD_getErrorName(rest), error);
        bool stuck = in.pos == lines->input_next && out.pos == lines->end;
        if (!stuck)
            lines->frame_open = rest != 0;
        lines->input_next = in.pos;
        lines->end = out.pos;
        if (stuck && lines->ended)
            break;
    } while (lines->end == before);
    *more = lines->end > before;
    if (!*more && lines->frame_open && !program_stopping())
        return lines_error(lines, "the compressed data is cut off", error);
    return STATUS_OK;
}

/* Appends text; *more is false at the end. */
static enum status fill(struct lines *lines, bool *more, struct error *error)
{
    enum status status = lines->started ? STATUS_OK : start(lines, error);
    if (status == STATUS_OK)
        status = reserve(lines, error);
    if (status != STATUS_OK)
        return status;
    if (lines->zstd != NULL)
        return decompress(lines, more, error);
    size_t got = lines->input_length;
    if (got > 0) { /* what start has read */
        memcpy(lines->text + lines->end, lines->input, got);
        lines->input_length = 0;
    } else if (!lines->ended) {
        status =
            read_some(lines, lines->text + lines->end, lines->capacity - lines->end, &got, error);
    }
    lines->end += got;
    *more = got > 0;
    return status;
}

enum status lines_next(struct lines *lines, const char **line, size_t *length, struct error *error)
{
    size_t searched = lines->begin;
    *line = NULL;
    *length = 0;
    while (!program_stopping()) {
        const char *found = searched < lines->end
                                ? memchr(lines->text + searched, '\n', lines->end - searched)
                                : NULL;
        bool more = found == NULL;
        searched = lines->end - lines->begin;
        if (found == NULL) {
            enum status status = fill(lines, &more, error);
            if (status != STATUS_OK)
                return status;
            if (more)
                continue; /* fill has moved the line to the buffer's begin: see reserve */
            if (lines->begin == lines->end || program_stopping())
                return STATUS_OK;
        }
        const char *end = found != NULL ? found : lines->text + lines->end;
        *line = lines->text + lines->begin;
        *length = (size_t)(end - *line);
        lines->begin = (size_t)(end - lines->text) + (found != NULL);
        return STATUS_OK;
    }
    return STATUS_OK;
}
