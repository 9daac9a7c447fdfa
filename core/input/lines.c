/* Lines of plain or compressed input: see core/input/lines.h.
 *
 * Two buffers: bytes as read, and text, which is decompressed from them (or is read directly where
 * nothing is compressed). The text buffer grows to the longest line, which is bounded. */
#include "core/input/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include <zlib.h>
#include <zstd.h>

#include "core/program/program.h"

enum { CHUNK_BYTES = 1 << 17, LINE_MAX_BYTES = 64 << 20, GZIP_WINDOW_BITS = 15 + 16 };

struct lines {
    int fd;
    bool owns_fd;
    char *name;
    bool started;
    bool ended; /* nothing more comes from fd */
    int64_t bytes_read;
    XXH3_state_t *hash; /* of the text */

    ZSTD_DCtx *zstd; /* NULL: not zstd */
    z_stream *gzip;  /* NULL: not gzip */
    bool frame_open; /* in the middle of a zstd frame or a gzip member */
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

enum status lines_open_fd(int fd, const char *name, struct lines **out, struct error *error)
{
    *out = NULL;
    struct lines *lines = calloc(1, sizeof *lines);
    if (lines == NULL)
        return error_no_memory(error);
    lines->fd = fd;
    lines->name = strdup(name);
    lines->input = malloc(CHUNK_BYTES);
    lines->hash = XXH3_createState();
    if (lines->name == NULL || lines->input == NULL || lines->hash == NULL) {
        lines_close(lines);
        return error_no_memory(error);
    }
    XXH3_128bits_reset(lines->hash);
    *out = lines;
    return STATUS_OK;
}

enum status lines_open(const char *path, struct lines **out, struct error *error)
{
    *out = NULL;
    if (path == NULL || strcmp(path, "-") == 0)
        return lines_open_fd(STDIN_FILENO, "standard input", out, error);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(error, STATUS_REJECT, "%s: %s", path, strerror(errno));
    enum status status = lines_open_fd(fd, path, out, error);
    if (status == STATUS_OK)
        (*out)->owns_fd = true;
    else
        close(fd);
    return status;
}

void lines_close(struct lines *lines)
{
    if (lines == NULL)
        return;
    if (lines->owns_fd)
        close(lines->fd);
    if (lines->gzip != NULL)
        inflateEnd(lines->gzip);
    free(lines->gzip);
    ZSTD_freeDCtx(lines->zstd);
    XXH3_freeState(lines->hash);
    free(lines->name);
    free(lines->input);
    free(lines->text);
    free(lines);
}

int64_t lines_bytes_read(const struct lines *lines)
{
    return lines->bytes_read;
}

void lines_checksum(const struct lines *lines, char out[LINES_CHECKSUM_BYTES])
{
    XXH128_hash_t hash = XXH3_128bits_digest(lines->hash);
    snprintf(out, LINES_CHECKSUM_BYTES, "%016" PRIx64 "%016" PRIx64, (uint64_t)hash.high64,
             (uint64_t)hash.low64);
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
        lines->bytes_read += got;
        *length = (size_t)got;
        return STATUS_OK;
    }
}

static enum status start_gzip(struct lines *lines, struct error *error)
{
    lines->gzip = calloc(1, sizeof *lines->gzip);
    if (lines->gzip != NULL && inflateInit2(lines->gzip, GZIP_WINDOW_BITS) == Z_OK)
        return STATUS_OK;
    free(lines->gzip);
    lines->gzip = NULL;
    return error_no_memory(error);
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
        return start_gzip(lines, error);
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

static enum status step_zstd(struct lines *lines, struct error *error)
{
    ZSTD_inBuffer in = {lines->input, lines->input_length, lines->input_next};
    ZSTD_outBuffer out = {lines->text, lines->capacity, lines->end};
    size_t rest = ZSTD_decompressStream(lines->zstd, &out, &in);
    if (ZSTD_isError(rest))
        return lines_error(lines, ZSTD_getErrorName(rest), error);
    if (in.pos != lines->input_next || out.pos != lines->end)
        lines->frame_open = rest != 0;
    lines->input_next = in.pos;
    lines->end = out.pos;
    return STATUS_OK;
}

/* A file may have several members, one behind the other. */
static enum status step_gzip(struct lines *lines, struct error *error)
{
    z_stream *gzip = lines->gzip;
    size_t next = lines->input_next;
    size_t end = lines->end;
    gzip->next_in = (Bytef *)lines->input + lines->input_next;
    gzip->avail_in = (uInt)(lines->input_length - lines->input_next);
    gzip->next_out = (Bytef *)lines->text + lines->end;
    gzip->avail_out = (uInt)(lines->capacity - lines->end);
    int code = inflate(gzip, Z_NO_FLUSH);
    lines->input_next = lines->input_length - gzip->avail_in;
    lines->end = lines->capacity - gzip->avail_out;
    if (lines->input_next != next || lines->end != end)
        lines->frame_open = code != Z_STREAM_END;
    if (code == Z_STREAM_END)
        code = inflateReset(gzip);
    if (code == Z_OK || code == Z_BUF_ERROR)
        return STATUS_OK;
    return lines_error(lines, gzip->msg != NULL ? gzip->msg : "the gzip data is damaged", error);
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
        size_t next = lines->input_next;
        enum status status =
            lines->zstd != NULL ? step_zstd(lines, error) : step_gzip(lines, error);
        if (status != STATUS_OK)
            return status;
        if (lines->ended && next == lines->input_next && lines->end == before)
            break;
    } while (lines->end == before);
    *more = lines->end > before;
    if (!*more && lines->frame_open && !program_stopping())
        return lines_error(lines, "the compressed data is cut off", error);
    return STATUS_OK;
}

static enum status read_plain(struct lines *lines, bool *more, struct error *error)
{
    enum status status = STATUS_OK;
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

/* Appends text; *more is false at the end. */
static enum status fill(struct lines *lines, bool *more, struct error *error)
{
    enum status status = lines->started ? STATUS_OK : start(lines, error);
    if (status == STATUS_OK)
        status = reserve(lines, error);
    if (status != STATUS_OK)
        return status;
    size_t before = lines->end;
    bool plain = lines->zstd == NULL && lines->gzip == NULL;
    status = plain ? read_plain(lines, more, error) : decompress(lines, more, error);
    XXH3_128bits_update(lines->hash, lines->text + before, lines->end - before);
    return status;
}

enum status lines_next_text(struct lines *lines, const char **text, size_t *length,
                            struct error *error)
{
    bool more = lines->begin < lines->end;
    enum status status = more ? STATUS_OK : fill(lines, &more, error);
    bool has = status == STATUS_OK && more && !program_stopping();
    *text = has ? lines->text + lines->begin : NULL;
    *length = has ? lines->end - lines->begin : 0;
    lines->begin = lines->end;
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
