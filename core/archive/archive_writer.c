/* Writes one segment file: see core/archive/archive.h and core/archive/archive_format.h.
 *
 * Invariant: under its final name a file is complete and durable. It grows under a temporary name;
 * finish syncs it, renames it and syncs the directory. The bytes depend on the records, the
 * range and the level alone, so a segment that is written again after a crash is the same file.
 *
 * One thread for each writer. A failure leaves nothing but a temporary file, which destroy removes,
 * or archive_remove_temporary where the process died. Memory: zstd's window (some MiB), the largest
 * record, a few bytes for each line, and the records that are no lines. */
#include "core/archive/archive.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "core/archive/archive_format.h"
#include "core/records/event_parser.h"

static const char temporary_suffix[] = ".tmp";

enum { TOPIC_NAME_MAX = 249 };

struct bytes {
    unsigned char *data;
    size_t length;
    size_t capacity;
};

struct archive_writer {
    char *topic;
    int32_t partition;
    struct archive_summary summary;
    char *folder;    /* <directory>/<topic>/<partition> */
    char *temporary; /* path; NULL once it is renamed */
    int fd;
    int64_t file_bytes;
    XXH3_state_t *hash;
    struct archive_content *content;
    const struct archive_segment *replaces; /* NULL: none */
    ZSTD_CCtx *compressor;
    struct event_parser *checker;
    struct bytes output; /* compressed and not yet written */
    struct bytes offsets;
    struct bytes timestamps;
    struct bytes others;
    char *masked; /* NULL: nothing is */
    int64_t last_offset;
    int64_t last_line_offset;
    int64_t last_line_timestamp;
    int64_t last_other_offset;
    int64_t last_other_timestamp;
};

bool archive_topic_is_valid(const char *topic)
{
    size_t length =
        strspn(topic, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    return length > 0 && length <= TOPIC_NAME_MAX && topic[length] == '\0' &&
           strcmp(topic, ".") != 0 && strcmp(topic, "..") != 0;
}

static enum status file_error(struct error *error, const char *path)
{
    /* Disks fill up and come back: the same call may succeed later. */
    return error_set(error, STATUS_RETRY, "archive: %s: %s", path, strerror(errno));
}

/* --- growing buffers --- */

static bool bytes_reserve(struct bytes *bytes, size_t more)
{
    if (more <= bytes->capacity - bytes->length)
        return true;
    size_t capacity = bytes->capacity == 0 ? 4096 : bytes->capacity;
    while (capacity - bytes->length < more) {
        if (capacity > SIZE_MAX / 2)
            return false;
        capacity *= 2;
    }
    unsigned char *data = realloc(bytes->data, capacity);
    if (data == NULL)
        return false;
    bytes->data = data;
    bytes->capacity = capacity;
    return true;
}

/* The caller has reserved ARCHIVE_VARINT_BYTES. */
static void bytes_put_varint(struct bytes *bytes, uint64_t number)
{
    bytes->length += archive_put_varint(bytes->data + bytes->length, number);
}

/* --- files and folders --- */

static enum status sync_folder(const char *path, struct error *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return file_error(error, path);
    enum status status = fsync(fd) == 0 ? STATUS_OK : file_error(error, path);
    close(fd);
    return status;
}

/* Makes one folder; its parent is synced where it is new, for the entry lives there. */
static enum status make_folder(const char *path, struct error *error)
{
    if (mkdir(path, 0777) != 0)
        return errno == EEXIST ? STATUS_OK : file_error(error, path);
    char parent[ARCHIVE_PATH_BYTES];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        return sync_folder(".", error);
    slash[slash == parent ? 1 : 0] = '\0';
    return sync_folder(parent, error);
}

static enum status make_folders(const char *path, struct error *error)
{
    char part[ARCHIVE_PATH_BYTES];
    if (strlen(path) >= sizeof part)
        return error_set(error, STATUS_REJECT, "archive: the path is too long");
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        enum status status = make_folder(part, error);
        if (status != STATUS_OK)
            return status;
        *slash = '/';
    }
    return make_folder(part, error);
}

static enum status write_file(struct archive_writer *writer, const void *data, size_t length,
                              struct error *error)
{
    XXH3_128bits_update(writer->hash, data, length);
    writer->file_bytes += (int64_t)length;
    for (const char *at = data; length > 0;) {
        ssize_t written = write(writer->fd, at, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return file_error(error, writer->temporary);
        at += written;
        length -= (size_t)written;
    }
    return STATUS_OK;
}

static enum status flush_output(struct archive_writer *writer, struct error *error)
{
    enum status status = write_file(writer, writer->output.data, writer->output.length, error);
    writer->output.length = 0;
    return status;
}

/* --- the first frame: lines --- */

static enum status compress(struct archive_writer *writer, const void *data, size_t length,
                            ZSTD_EndDirective directive, struct error *error)
{
    ZSTD_inBuffer in = {.src = data, .size = length};
    for (;;) {
        ZSTD_outBuffer out = {.dst = writer->output.data,
                              .size = writer->output.capacity,
                              .pos = writer->output.length};
        size_t rest = ZSTD_compressStream2(writer->compressor, &out, &in, directive);
        if (ZSTD_isError(rest))
            return error_set(error, STATUS_FATAL, "archive: zstd: %s", ZSTD_getErrorName(rest));
        writer->output.length = out.pos;
        if (directive == ZSTD_e_continue ? in.pos == in.size : rest == 0)
            return STATUS_OK;
        enum status status = flush_output(writer, error);
        if (status != STATUS_OK)
            return status;
    }
}

static enum status add_line(struct archive_writer *writer, const struct archive_record *record,
                            struct error *error)
{
    if (!bytes_reserve(&writer->offsets, ARCHIVE_VARINT_BYTES) ||
        !bytes_reserve(&writer->timestamps, ARCHIVE_VARINT_BYTES))
        return error_no_memory(error);
    enum status status = compress(writer, record->value, record->length, ZSTD_e_continue, error);
    if (status == STATUS_OK)
        status = compress(writer, "\n", 1, ZSTD_e_continue, error);
    if (status != STATUS_OK)
        return status;
    bytes_put_varint(&writer->offsets, (uint64_t)(record->offset - writer->last_line_offset));
    bytes_put_varint(&writer->timestamps,
                     archive_zigzag_difference(record->timestamp_ms, writer->last_line_timestamp));
    writer->last_line_offset = record->offset;
    writer->last_line_timestamp = record->timestamp_ms;
    writer->summary.line_count++;
    writer->summary.line_bytes += (int64_t)record->length + 1;
    return STATUS_OK;
}

/* --- the records that are no lines --- */

static enum status add_other(struct archive_writer *writer, const struct archive_record *record,
                             struct error *error)
{
    struct bytes *others = &writer->others;
    if (!bytes_reserve(others, 3 * (size_t)ARCHIVE_VARINT_BYTES + record->length))
        return error_no_memory(error);
    bytes_put_varint(others, (uint64_t)(record->offset - writer->last_other_offset));
    bytes_put_varint(others,
                     archive_zigzag_difference(record->timestamp_ms, writer->last_other_timestamp));
    bytes_put_varint(others, record->value == NULL ? 0 : (uint64_t)record->length + 1);
    if (record->length > 0)
        memcpy(others->data + others->length, record->value, record->length);
    others->length += record->length;
    writer->last_other_offset = record->offset;
    writer->last_other_timestamp = record->timestamp_ms;
    writer->summary.other_count++;
    return STATUS_OK;
}

/* Is the value a line of JSON that every tool reads? *line is only written with STATUS_OK. */
static enum status is_line(struct archive_writer *writer, const struct archive_record *record,
                           bool *line, struct error *error)
{
    *line = false;
    if (record->value == NULL || record->length == 0 ||
        memchr(record->value, '\n', record->length) != NULL ||
        memchr(record->value, '\r', record->length) != NULL)
        return STATUS_OK;
    if ((unsigned char)record->value[0] == 0xEF) /* a byte order mark, in the middle of the file */
        return STATUS_OK;
    struct event event;
    enum status status = event_parser_parse(writer->checker, record->value, record->length,
                                            record->readable, &event, error);
    *line = status == STATUS_OK;
    return status == STATUS_REJECT ? STATUS_OK : status;
}

enum status archive_writer_set_masked(struct archive_writer *writer, const char *paths_text,
                                      struct error *error)
{
    free(writer->masked);
    writer->masked = strdup(paths_text);
    return writer->masked == NULL ? error_no_memory(error) : STATUS_OK;
}

enum status archive_writer_add(struct archive_writer *writer, const struct archive_record *record,
                               struct error *error)
{
    if (record->offset <= writer->last_offset)
        return error_set(error, STATUS_FATAL,
                         "archive: %s/%" PRId32 ": offset %" PRId64 " comes after offset %" PRId64,
                         writer->topic, writer->partition, record->offset, writer->last_offset);
    bool line;
    enum status status = is_line(writer, record, &line, error);
    if (status == STATUS_OK)
        status = line ? add_line(writer, record, error) : add_other(writer, record, error);
    if (status != STATUS_OK)
        return status;
    archive_content_add(writer->content, record);
    writer->last_offset = record->offset;
    writer->summary.raw_bytes += (int64_t)record->length;
    return STATUS_OK;
}

/* --- the skippable frames --- */

static enum status write_part(struct archive_writer *writer, enum archive_part kind,
                              const unsigned char *raw, size_t length, struct error *error)
{
    const size_t header = ARCHIVE_SKIPPABLE_HEADER_BYTES + ARCHIVE_PART_HEADER_BYTES;
    size_t bound = ZSTD_compressBound(length);
    unsigned char *frame = malloc(header + bound);
    if (frame == NULL)
        return error_no_memory(error);
    size_t packed =
        ZSTD_compress2(writer->compressor, frame + header, bound, length > 0 ? raw : frame, length);
    enum status status;
    if (ZSTD_isError(packed)) {
        status = error_set(error, STATUS_FATAL, "archive: zstd: %s", ZSTD_getErrorName(packed));
    } else {
        unsigned char *content = frame + ARCHIVE_SKIPPABLE_HEADER_BYTES;
        archive_put_le(frame, ARCHIVE_SKIPPABLE_MAGIC, 4);
        archive_put_le(frame + 4, ARCHIVE_PART_HEADER_BYTES + packed, 4);
        memcpy(content, "DVT", 3);
        content[3] = ARCHIVE_VERSION;
        content[4] = (unsigned char)kind;
        archive_put_le(content + 5, length, 8);
        status = write_file(writer, frame, header + packed, error);
    }
    free(frame);
    return status;
}

static enum status write_parts(struct archive_writer *writer, enum archive_part kind,
                               const struct bytes *bytes, struct error *error)
{
    size_t at = 0;
    do {
        size_t piece = bytes->length - at;
        if (piece > ARCHIVE_PART_BYTES)
            piece = ARCHIVE_PART_BYTES;
        enum status status =
            write_part(writer, kind, bytes->data == NULL ? NULL : bytes->data + at, piece, error);
        if (status != STATUS_OK)
            return status;
        at += piece;
    } while (at < bytes->length);
    return STATUS_OK;
}

static enum status write_summary(struct archive_writer *writer, struct error *error)
{
    const struct archive_summary *summary = &writer->summary;
    const int64_t numbers[ARCHIVE_SUMMARY_NUMBERS] = {summary->start_offset, summary->end_offset,
                                                      summary->line_count,   summary->line_bytes,
                                                      summary->other_count,  summary->raw_bytes};
    unsigned char raw[ARCHIVE_SUMMARY_BYTES];
    for (size_t i = 0; i < ARCHIVE_SUMMARY_NUMBERS; i++)
        archive_put_le(raw + 8 * i, (uint64_t)numbers[i], 8);
    return write_part(writer, ARCHIVE_PART_SUMMARY, raw, sizeof raw, error);
}

static enum status write_rest(struct archive_writer *writer, struct error *error)
{
    enum status status = compress(writer, NULL, 0, ZSTD_e_end, error);
    if (status == STATUS_OK)
        status = flush_output(writer, error);
    if (status == STATUS_OK)
        status = write_parts(writer, ARCHIVE_PART_OFFSETS, &writer->offsets, error);
    if (status == STATUS_OK)
        status = write_parts(writer, ARCHIVE_PART_TIMESTAMPS, &writer->timestamps, error);
    if (status == STATUS_OK)
        status = write_parts(writer, ARCHIVE_PART_OTHERS, &writer->others, error);
    if (status == STATUS_OK)
        status = write_summary(writer, error);
    if (status == STATUS_OK && writer->masked != NULL)
        status = write_part(writer, ARCHIVE_PART_MASKED, (const unsigned char *)writer->masked,
                            strlen(writer->masked), error);
    return status;
}

/* --- beginning and end --- */

static enum status open_temporary(struct archive_writer *writer, struct error *error)
{
    enum status status = make_folders(writer->folder, error);
    if (status != STATUS_OK)
        return status;
    char path[ARCHIVE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/.%020" PRId64 "%s", writer->folder,
             writer->summary.start_offset, temporary_suffix);
    /* Unlinked first: a writer that lost its lock may still hold the old one open. */
    if (unlink(path) != 0 && errno != ENOENT)
        return file_error(error, path);
    writer->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (writer->fd < 0)
        return file_error(error, path);
    writer->temporary = strdup(path);
    if (writer->temporary == NULL) {
        unlink(path);
        return error_no_memory(error);
    }
    return STATUS_OK;
}

static enum status create_tools(struct archive_writer *writer, struct error *error)
{
    writer->hash = XXH3_createState();
    writer->content = archive_content_create();
    writer->compressor = ZSTD_createCCtx();
    if (writer->hash == NULL || writer->content == NULL || writer->compressor == NULL ||
        !bytes_reserve(&writer->output, ZSTD_CStreamOutSize()))
        return error_no_memory(error);
    XXH3_128bits_reset(writer->hash);
    ZSTD_CCtx_setParameter(writer->compressor, ZSTD_c_checksumFlag, 1);
    return event_parser_create(NULL, &writer->checker, error);
}

enum status archive_writer_create(const char *directory, const char *topic, int32_t partition,
                                  int64_t start_offset, struct archive_writer **out,
                                  struct error *error)
{
    *out = NULL;
    if (!archive_topic_is_valid(topic) || partition < ARCHIVE_IMPORTED || start_offset < 0)
        return error_set(error, STATUS_REJECT,
                         "archive: \"%s\" partition %" PRId32 " offset %" PRId64
                         " cannot be archived",
                         topic, partition, start_offset);
    struct archive_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return error_no_memory(error);
    writer->fd = -1;
    writer->partition = partition;
    writer->summary.start_offset = start_offset;
    writer->last_offset = writer->last_line_offset = writer->last_other_offset = start_offset - 1;
    writer->topic = strdup(topic);
    if (asprintf(&writer->folder, "%s/%s/%" PRId32, directory, topic, partition) < 0)
        writer->folder = NULL;
    enum status status = STATUS_OK;
    if (writer->topic == NULL || writer->folder == NULL)
        status = error_no_memory(error);
    if (status == STATUS_OK)
        status = create_tools(writer, error);
    if (status == STATUS_OK)
        status = open_temporary(writer, error);
    if (status == STATUS_OK)
        *out = writer;
    else
        archive_writer_destroy(writer);
    return status;
}

void archive_writer_set_level(struct archive_writer *writer, int level)
{
    ZSTD_CCtx_setParameter(writer->compressor, ZSTD_c_compressionLevel, level);
}

void archive_writer_replaces(struct archive_writer *writer, const struct archive_segment *segment)
{
    writer->replaces = segment;
}

int64_t archive_writer_raw_bytes(const struct archive_writer *writer)
{
    return writer->summary.raw_bytes;
}

int64_t archive_writer_record_count(const struct archive_writer *writer)
{
    return writer->summary.line_count + writer->summary.other_count;
}

static enum status fill_segment(const struct archive_writer *writer,
                                struct archive_segment *segment, struct error *error)
{
    const struct archive_summary *summary = &writer->summary;
    *segment = (struct archive_segment){.partition = writer->partition,
                                        .start_offset = summary->start_offset,
                                        .end_offset = summary->end_offset,
                                        .record_count = summary->line_count + summary->other_count,
                                        .file_bytes = writer->file_bytes,
                                        .raw_bytes = summary->raw_bytes};
    XXH128_hash_t hash = XXH3_128bits_digest(writer->hash);
    snprintf(segment->checksum, sizeof segment->checksum, "%016" PRIx64 "%016" PRIx64,
             (uint64_t)hash.high64, (uint64_t)hash.low64);
    archive_content_text(writer->content, segment->content);
    segment->topic = strdup(writer->topic);
    if (asprintf(&segment->file, "%s/%" PRId32 "/%020" PRId64 "-%020" PRId64 ".jsonl.zst",
                 writer->topic, writer->partition, summary->start_offset, summary->end_offset) < 0)
        segment->file = NULL;
    if (segment->topic != NULL && segment->file != NULL)
        return STATUS_OK;
    archive_segment_deinit(segment);
    return error_no_memory(error);
}

static enum status check_replaced(const struct archive_writer *writer,
                                  const struct archive_segment *segment, struct error *error)
{
    const struct archive_segment *old = writer->replaces;
    if (old == NULL || strcmp(old->checksum, segment->checksum) == 0 ||
        (old->content[0] != '\0' && strcmp(old->content, segment->content) == 0 &&
         old->record_count == segment->record_count && old->raw_bytes == segment->raw_bytes))
        return STATUS_OK;
    return error_set(
        error, STATUS_REJECT,
        "%s[%" PRId32 "]: offsets %" PRId64 " to %" PRId64 " are not what was archived: %" PRId64
        " records of %" PRId64 " bytes, not %" PRId64 " of %" PRId64 "%s",
        old->topic, old->partition, old->start_offset, old->end_offset, segment->record_count,
        segment->raw_bytes, old->record_count, old->raw_bytes,
        old->record_count == segment->record_count && old->raw_bytes == segment->raw_bytes
            ? ", with other contents"
            : "");
}

/* From here on the file is found under its name, and is whole even after a power failure. */
static enum status publish_file(struct archive_writer *writer, struct error *error)
{
    if (fsync(writer->fd) != 0)
        return file_error(error, writer->temporary);
    char path[ARCHIVE_PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/%020" PRId64 "-%020" PRId64 ".jsonl.zst",
                          writer->folder, writer->summary.start_offset, writer->summary.end_offset);
    if (length < 0 || (size_t)length >= sizeof path)
        return error_set(error, STATUS_REJECT, "archive: the path is too long");
    if (rename(writer->temporary, path) != 0)
        return file_error(error, path);
    free(writer->temporary);
    writer->temporary = NULL;
    return sync_folder(writer->folder, error);
}

enum status archive_writer_finish(struct archive_writer *writer, int64_t end_offset,
                                  struct archive_segment *segment, struct error *error)
{
    *segment = (struct archive_segment){0};
    if (end_offset <= writer->last_offset || end_offset <= writer->summary.start_offset)
        return error_set(error, STATUS_FATAL,
                         "archive: %s/%" PRId32 ": a segment cannot end at %" PRId64, writer->topic,
                         writer->partition, end_offset);
    writer->summary.end_offset = end_offset;
    enum status status = write_rest(writer, error);
    if (status == STATUS_OK)
        status = fill_segment(writer, segment, error);
    if (status == STATUS_OK)
        status = check_replaced(writer, segment, error);
    if (status == STATUS_OK)
        status = publish_file(writer, error);
    if (status != STATUS_OK)
        archive_segment_deinit(segment);
    return status;
}

void archive_writer_destroy(struct archive_writer *writer)
{
    if (writer == NULL)
        return;
    if (writer->temporary != NULL)
        unlink(writer->temporary);
    if (writer->fd >= 0)
        close(writer->fd);
    event_parser_destroy(writer->checker);
    ZSTD_freeCCtx(writer->compressor);
    XXH3_freeState(writer->hash);
    archive_content_destroy(writer->content);
    free(writer->output.data);
    free(writer->offsets.data);
    free(writer->timestamps.data);
    free(writer->others.data);
    free(writer->temporary);
    free(writer->folder);
    free(writer->masked);
    free(writer->topic);
    free(writer);
}

/* --- what crashed writers left --- */

static enum status remove_in_folder(const char *path, struct error *error)
{
    DIR *folder = opendir(path);
    if (folder == NULL)
        return errno == ENOENT || errno == ENOTDIR ? STATUS_OK : file_error(error, path);
    enum status status = STATUS_OK;
    const size_t suffix = sizeof temporary_suffix - 1;
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(folder)) != NULL;) {
        size_t length = strlen(entry->d_name);
        if (entry->d_name[0] != '.' || length <= suffix + 1 ||
            strcmp(entry->d_name + length - suffix, temporary_suffix) != 0)
            continue;
        if (unlinkat(dirfd(folder), entry->d_name, 0) != 0 && errno != ENOENT)
            status = file_error(error, path);
    }
    closedir(folder);
    return status;
}

enum status archive_remove_temporary(const char *directory, const char *topic, struct error *error)
{
    if (!archive_topic_is_valid(topic))
        return error_set(error, STATUS_REJECT, "archive: \"%s\" is not a topic's name", topic);
    char path[ARCHIVE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", directory, topic);
    DIR *partitions = opendir(path);
    if (partitions == NULL)
        return errno == ENOENT ? STATUS_OK : file_error(error, path);
    enum status status = STATUS_OK;
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(partitions)) != NULL;) {
        if (entry->d_name[0] == '.' || strspn(entry->d_name, "0123456789") != strlen(entry->d_name))
            continue;
        char folder[ARCHIVE_PATH_BYTES + 300];
        snprintf(folder, sizeof folder, "%s/%s", path, entry->d_name);
        status = remove_in_folder(folder, error);
    }
    closedir(partitions);
    return status;
}
