/* Reads one segment file: see core/archive/archive.h and core/archive/archive_format.h.
 *
 * Invariant: nothing of a file is given out before its size and checksum are the manifest's, and
 * every number in it is checked against its bounds all the same: offsets ascend within the segment,
 * lengths stay within their part, and at the end all counts have come true. Any failure is
 * STATUS_FATAL and names the file.
 *
 * One thread for each reader. Memory: the compressed file, the parts that go with the lines
 * (some bytes for each), and a piece of the lines at a time. */
#include "core/archive/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "core/archive/archive_format.h"
#include "core/records/event_parser.h"

enum { LINE_PIECE_BYTES = 1 << 19 };

/* One part of the file, decompressed, and how far it was read. */
struct part {
    unsigned char *data;
    size_t length;
    const unsigned char *at;
};

struct archive_reader {
    const struct archive_segment *segment;
    struct archive_segment
        *examined; /* the same, to be filled from the file; NULL: to be checked */
    unsigned char *file;
    struct archive_summary summary;
    struct part parts[ARCHIVE_PART_END];

    ZSTD_DCtx *decompressor;
    ZSTD_inBuffer in; /* the frame of lines */
    bool frame_ended;
    char *lines; /* capacity + EVENT_PADDING_BYTES bytes */
    size_t capacity;
    size_t next;    /* the next line begins here */
    size_t scanned; /* no line feed between next and here */
    size_t filled;

    int64_t line_count; /* read so far */
    int64_t line_bytes;
    int64_t other_count;
    int64_t raw_bytes;
    /* Of the next line and the next other record; offset INT64_MAX: there is none. */
    int64_t line_offset;
    int64_t line_timestamp;
    int64_t other_offset;
    int64_t other_timestamp;
};

static enum status damaged(const struct archive_reader *reader, const char *what,
                           struct error *error)
{
    const struct archive_segment *segment = reader->segment;
    return error_set(error, STATUS_FATAL,
                     "archive: %s is damaged: %s (%s[%" PRId32 "], offsets %" PRId64 " to %" PRId64
                     ")",
                     segment->file, what, segment->topic, segment->partition, segment->start_offset,
                     segment->end_offset);
}

/* --- the file --- */

/* The manifest comes from a database; it does not choose which files of the machine are read. */
static bool file_is_inside(const char *file)
{
    if (file[0] == '/' || file[0] == '\0')
        return false;
    for (const char *part = file; part != NULL; part = strchr(part, '/')) {
        part += part[0] == '/';
        size_t length = strcspn(part, "/");
        if (length == 0 || (length <= 2 && strncmp(part, "..", length) == 0))
            return false;
    }
    return true;
}

static enum status read_file(struct archive_reader *reader, int fd, struct error *error)
{
    const struct archive_segment *segment = reader->segment;
    struct stat stat;
    if (fstat(fd, &stat) != 0)
        return error_set(error, STATUS_FATAL, "archive: %s: %s", segment->file, strerror(errno));
    if (reader->examined != NULL)
        reader->examined->file_bytes = stat.st_size;
    if (!S_ISREG(stat.st_mode) || stat.st_size != segment->file_bytes || segment->file_bytes <= 0) {
        char what[100];
        snprintf(what, sizeof what, "it has %" PRId64 " bytes, the manifest says %" PRId64,
                 (int64_t)stat.st_size, segment->file_bytes);
        return damaged(reader, what, error);
    }
    size_t size = (size_t)segment->file_bytes;
    reader->file = malloc(size);
    if (reader->file == NULL)
        return error_no_memory(error);
    for (size_t length = 0; length < size;) {
        ssize_t got = read(fd, reader->file + length, size - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(error, STATUS_FATAL, "archive: %s: %s", segment->file,
                             strerror(errno));
        if (got == 0)
            return damaged(reader, "it was cut while it was read", error);
        length += (size_t)got;
    }
    return STATUS_OK;
}

static enum status check_file(struct archive_reader *reader, struct error *error)
{
    XXH128_hash_t hash = XXH3_128bits(reader->file, (size_t)reader->segment->file_bytes);
    char checksum[ARCHIVE_CHECKSUM_BYTES];
    snprintf(checksum, sizeof checksum, "%016" PRIx64 "%016" PRIx64, (uint64_t)hash.high64,
             (uint64_t)hash.low64);
    if (reader->examined != NULL)
        memcpy(reader->examined->checksum, checksum, sizeof checksum);
    else if (strcmp(checksum, reader->segment->checksum) != 0)
        return damaged(reader, "its checksum is not the manifest's", error);
    return STATUS_OK;
}

static enum status load_file(struct archive_reader *reader, const char *directory,
                             struct error *error)
{
    const char *file = reader->segment->file;
    char path[ARCHIVE_PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/%s", directory, file);
    if (!file_is_inside(file) || length < 0 || (size_t)length >= sizeof path)
        return error_set(error, STATUS_FATAL, "archive: \"%s\" is not a segment's name", file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(error, STATUS_FATAL,
                         "archive: %s %s%s (%s[%" PRId32 "], offsets %" PRId64 " to %" PRId64 ")",
                         file, errno == ENOENT ? "is missing" : "cannot be read: ",
                         errno == ENOENT ? "" : strerror(errno), reader->segment->topic,
                         reader->segment->partition, reader->segment->start_offset,
                         reader->segment->end_offset);
    enum status status = read_file(reader, fd, error);
    close(fd);
    return status == STATUS_OK ? check_file(reader, error) : status;
}

/* --- the skippable frames --- */

/* Appends what one skippable frame holds to the part of its kind. */
static enum status unpack_part(struct archive_reader *reader, const unsigned char *content,
                               size_t length, struct error *error)
{
    if (length < ARCHIVE_PART_HEADER_BYTES || memcmp(content, "DVT", 3) != 0)
        return damaged(reader, "a part has no signature", error);
    if (content[3] != ARCHIVE_VERSION)
        return error_set(error, STATUS_FATAL, "archive: %s has format version %u, not %d",
                         reader->segment->file, content[3], ARCHIVE_VERSION);
    uint64_t raw = archive_get_le(content + 5, 8);
    if (content[4] == 0 || content[4] >= ARCHIVE_PART_END || raw > ARCHIVE_PART_BYTES)
        return damaged(reader, "a part of unknown kind or length", error);
    struct part *part = &reader->parts[content[4]];
    unsigned char *data = realloc(part->data, part->length + (size_t)raw + 1);
    if (data == NULL)
        return error_no_memory(error);
    part->data = data;
    size_t got =
        ZSTD_decompress(data + part->length, (size_t)raw + 1, content + ARCHIVE_PART_HEADER_BYTES,
                        length - ARCHIVE_PART_HEADER_BYTES);
    if (ZSTD_isError(got) || got != raw)
        return damaged(reader, "a part cannot be decompressed", error);
    part->length += got;
    data[part->length] = '\0'; /* for the part that is a text */
    return STATUS_OK;
}

/* Finds the frame of lines and unpacks every part behind it. */
static enum status find_parts(struct archive_reader *reader, struct error *error)
{
    size_t size = (size_t)reader->segment->file_bytes;
    size_t at = ZSTD_findFrameCompressedSize(reader->file, size);
    if (size < 4 || archive_get_le(reader->file, 4) != ZSTD_MAGICNUMBER || ZSTD_isError(at))
        return damaged(reader, "it does not begin with a zstd frame", error);
    reader->in = (ZSTD_inBuffer){.src = reader->file, .size = at};
    while (at < size) {
        const unsigned char *frame = reader->file + at;
        if (size - at < ARCHIVE_SKIPPABLE_HEADER_BYTES ||
            archive_get_le(frame, 4) != ARCHIVE_SKIPPABLE_MAGIC)
            return damaged(reader, "a part has no frame", error);
        size_t length = (size_t)archive_get_le(frame + 4, 4);
        at += ARCHIVE_SKIPPABLE_HEADER_BYTES;
        if (length > size - at)
            return damaged(reader, "a part is cut", error);
        enum status status = unpack_part(reader, reader->file + at, length, error);
        if (status != STATUS_OK)
            return status;
        at += length;
    }
    for (int kind = 1; kind < ARCHIVE_PART_END; kind++)
        reader->parts[kind].at = reader->parts[kind].data;
    return STATUS_OK;
}

static enum status check_summary(struct archive_reader *reader, struct error *error)
{
    const struct part *part = &reader->parts[ARCHIVE_PART_SUMMARY];
    if (part->length != ARCHIVE_SUMMARY_BYTES)
        return damaged(reader, "it has no summary", error);
    int64_t numbers[ARCHIVE_SUMMARY_NUMBERS];
    for (size_t i = 0; i < ARCHIVE_SUMMARY_NUMBERS; i++) {
        numbers[i] = (int64_t)archive_get_le(part->data + 8 * i, 8);
        if (numbers[i] < 0)
            return damaged(reader, "its summary has a negative number", error);
    }
    reader->summary = (struct archive_summary){numbers[0], numbers[1], numbers[2],
                                               numbers[3], numbers[4], numbers[5]};
    const struct archive_segment *segment = reader->segment;
    int64_t records;
    if (reader->examined != NULL) {
        reader->examined->raw_bytes = numbers[5];
        if (!__builtin_add_overflow(numbers[2], numbers[4], &records))
            reader->examined->record_count = records;
    }
    if (reader->summary.start_offset != segment->start_offset ||
        reader->summary.end_offset != segment->end_offset ||
        reader->summary.raw_bytes != segment->raw_bytes ||
        __builtin_add_overflow(reader->summary.line_count, reader->summary.other_count, &records) ||
        records != segment->record_count || segment->start_offset >= segment->end_offset)
        return damaged(reader, "its summary is not what the manifest says", error);
    reader->line_offset = reader->other_offset = segment->start_offset - 1;
    return STATUS_OK;
}

/* --- where records stand --- */

/* The next offset and timestamp, coded as differences in `offsets` and `timestamps` (which may be
 * the same part). */
static bool read_origin(const struct archive_reader *reader, struct part *offsets,
                        struct part *timestamps, int64_t *last_offset, int64_t *last_timestamp)
{
    uint64_t step;
    uint64_t coded;
    if (!archive_get_varint(&offsets->at, offsets->data + offsets->length, &step) ||
        !archive_get_varint(&timestamps->at, timestamps->data + timestamps->length, &coded))
        return false;
    if (step == 0 || step > (uint64_t)(reader->summary.end_offset - 1 - *last_offset))
        return false;
    *last_offset += (int64_t)step;
    *last_timestamp = archive_unzigzag_difference(coded, *last_timestamp);
    return true;
}

static enum status find_next_line(struct archive_reader *reader, struct error *error)
{
    if (reader->line_count == reader->summary.line_count) {
        reader->line_offset = INT64_MAX;
        return STATUS_OK;
    }
    if (!read_origin(reader, &reader->parts[ARCHIVE_PART_OFFSETS],
                     &reader->parts[ARCHIVE_PART_TIMESTAMPS], &reader->line_offset,
                     &reader->line_timestamp))
        return damaged(reader, "a line has no offset in the segment", error);
    return STATUS_OK;
}

static enum status find_next_other(struct archive_reader *reader, struct error *error)
{
    if (reader->other_count == reader->summary.other_count) {
        reader->other_offset = INT64_MAX;
        return STATUS_OK;
    }
    struct part *others = &reader->parts[ARCHIVE_PART_OTHERS];
    if (!read_origin(reader, others, others, &reader->other_offset, &reader->other_timestamp))
        return damaged(reader, "a record has no offset in the segment", error);
    return STATUS_OK;
}

/* --- opening --- */

static enum status open_reader(const char *directory, const struct archive_segment *segment,
                               struct archive_segment *examined, struct archive_reader **out,
                               struct error *error)
{
    *out = NULL;
    struct archive_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return error_no_memory(error);
    reader->segment = segment;
    reader->examined = examined;
    reader->capacity = LINE_PIECE_BYTES;
    reader->lines = calloc(1, reader->capacity + EVENT_PADDING_BYTES);
    reader->decompressor = ZSTD_createDCtx();
    enum status status = STATUS_OK;
    if (reader->lines == NULL || reader->decompressor == NULL)
        status = error_no_memory(error);
    if (status == STATUS_OK)
        status = load_file(reader, directory, error);
    if (status == STATUS_OK)
        status = find_parts(reader, error);
    if (status == STATUS_OK)
        status = check_summary(reader, error);
    if (status == STATUS_OK)
        status = find_next_line(reader, error);
    if (status == STATUS_OK)
        status = find_next_other(reader, error);
    if (status == STATUS_OK)
        *out = reader;
    else
        archive_reader_close(reader);
    return status;
}

enum status archive_reader_open(const char *directory, const struct archive_segment *segment,
                                struct archive_reader **out, struct error *error)
{
    return open_reader(directory, segment, NULL, out, error);
}

void archive_reader_close(struct archive_reader *reader)
{
    if (reader == NULL)
        return;
    for (int kind = 0; kind < ARCHIVE_PART_END; kind++)
        free(reader->parts[kind].data);
    ZSTD_freeDCtx(reader->decompressor);
    free(reader->lines);
    free(reader->file);
    free(reader);
}

const char *archive_reader_masked(const struct archive_reader *reader)
{
    return (const char *)reader->parts[ARCHIVE_PART_MASKED].data;
}

/* --- records --- */

/* Room behind what is filled: moves the line that is being read to the front, or doubles. */
static enum status make_room(struct archive_reader *reader, struct error *error)
{
    if (reader->next > 0) {
        memmove(reader->lines, reader->lines + reader->next, reader->filled - reader->next);
        reader->filled -= reader->next;
        reader->scanned -= reader->next;
        reader->next = 0;
    }
    if (reader->filled < reader->capacity)
        return STATUS_OK;
    size_t capacity = reader->capacity * 2;
    char *lines = realloc(reader->lines, capacity + EVENT_PADDING_BYTES);
    if (lines == NULL)
        return error_no_memory(error);
    memset(lines + capacity, 0, EVENT_PADDING_BYTES);
    reader->lines = lines;
    reader->capacity = capacity;
    return STATUS_OK;
}

/* Decompresses the next piece of lines. */
static enum status refill(struct archive_reader *reader, struct error *error)
{
    if (reader->frame_ended)
        return damaged(reader, "lines are missing", error);
    enum status status = make_room(reader, error);
    if (status != STATUS_OK)
        return status;
    ZSTD_outBuffer out = {.dst = reader->lines, .size = reader->capacity, .pos = reader->filled};
    size_t consumed = reader->in.pos;
    size_t rest = ZSTD_decompressStream(reader->decompressor, &out, &reader->in);
    if (ZSTD_isError(rest))
        return damaged(reader, ZSTD_getErrorName(rest), error);
    if (out.pos == reader->filled && reader->in.pos == consumed && rest != 0)
        return damaged(reader, "the lines are cut", error);
    reader->frame_ended = rest == 0;
    reader->filled = out.pos;
    return STATUS_OK;
}

static enum status next_line(struct archive_reader *reader, struct archive_record *out,
                             struct error *error)
{
    char *feed;
    while ((feed = memchr(reader->lines + reader->scanned, '\n',
                          reader->filled - reader->scanned)) == NULL) {
        reader->scanned = reader->filled;
        enum status status = refill(reader, error);
        if (status != STATUS_OK)
            return status;
    }
    const char *line = reader->lines + reader->next;
    size_t length = (size_t)(feed - line);
    *out = (struct archive_record){
        .offset = reader->line_offset,
        .timestamp_ms = reader->line_timestamp,
        .value = line,
        .length = length,
        .readable = reader->capacity + EVENT_PADDING_BYTES - reader->next,
        .is_line = true,
    };
    reader->next += length + 1;
    reader->scanned = reader->next;
    reader->line_count++;
    reader->line_bytes += (int64_t)length + 1;
    reader->raw_bytes += (int64_t)length;
    return find_next_line(reader, error);
}

static enum status next_other(struct archive_reader *reader, struct archive_record *out,
                              struct error *error)
{
    struct part *others = &reader->parts[ARCHIVE_PART_OTHERS];
    const unsigned char *end = others->data + others->length;
    uint64_t coded_length;
    if (!archive_get_varint(&others->at, end, &coded_length))
        return damaged(reader, "a record has no length", error);
    size_t length = coded_length == 0 ? 0 : (size_t)(coded_length - 1);
    if (length > (size_t)(end - others->at))
        return damaged(reader, "a record is cut", error);
    *out = (struct archive_record){
        .offset = reader->other_offset,
        .timestamp_ms = reader->other_timestamp,
        .value = coded_length == 0 ? NULL : (const char *)others->at,
        .length = length,
        .readable = coded_length == 0 ? 0 : (size_t)(end - others->at),
    };
    others->at += length;
    reader->other_count++;
    reader->raw_bytes += (int64_t)length;
    return find_next_other(reader, error);
}

/* All records were given out: nothing may be left over. */
static enum status check_end(struct archive_reader *reader, struct error *error)
{
    /* The frame's last bytes are its checksum, which zstd compares when it reads them. */
    while (!reader->frame_ended) {
        enum status status = refill(reader, error);
        if (status != STATUS_OK)
            return status;
        if (reader->filled > reader->next)
            break;
    }
    if (reader->filled != reader->next || reader->line_bytes != reader->summary.line_bytes ||
        reader->raw_bytes != reader->summary.raw_bytes)
        return damaged(reader, "it has more or fewer bytes than its summary says", error);
    for (int kind = ARCHIVE_PART_OFFSETS; kind <= ARCHIVE_PART_OTHERS; kind++)
        if (reader->parts[kind].at != reader->parts[kind].data + reader->parts[kind].length)
            return damaged(reader, "a part is longer than its summary says", error);
    return STATUS_OK;
}

enum status archive_reader_next(struct archive_reader *reader, struct archive_record *out,
                                bool *end, struct error *error)
{
    *end = false;
    if (reader->line_offset == reader->other_offset && reader->line_offset < INT64_MAX)
        return damaged(reader, "two records have one offset", error);
    if (reader->line_offset < reader->other_offset)
        return next_line(reader, out, error);
    if (reader->other_offset < INT64_MAX)
        return next_other(reader, out, error);
    *end = true;
    return check_end(reader, error);
}

/* --- files without a manifest row --- */

enum status archive_segment_examine(const char *directory, struct archive_segment *segment,
                                    char **masked, struct archive_record *last, struct error *error)
{
    struct archive_reader *reader = NULL;
    struct archive_content *content = archive_content_create();
    bool end = false;
    *masked = NULL;
    *last = (struct archive_record){.offset = -1, .timestamp_ms = -1};
    enum status status = content == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK)
        status = open_reader(directory, segment, segment, &reader, error);
    while (status == STATUS_OK) {
        struct archive_record record;
        status = archive_reader_next(reader, &record, &end, error);
        if (status != STATUS_OK || end)
            break;
        archive_content_add(content, &record);
        *last =
            (struct archive_record){.offset = record.offset, .timestamp_ms = record.timestamp_ms};
    }
    if (status == STATUS_OK && archive_reader_masked(reader) != NULL) {
        *masked = strdup(archive_reader_masked(reader));
        if (*masked == NULL)
            status = error_no_memory(error);
    }
    if (status == STATUS_OK)
        archive_content_text(content, segment->content);
    archive_content_destroy(content);
    archive_reader_close(reader);
    return status;
}
