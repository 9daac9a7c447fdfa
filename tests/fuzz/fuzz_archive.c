/* Segments: any bytes whose checksum the manifest has are read to their end within the bounds that
 * the manifest gives, or the file is refused by name.
 *
 * Input: 0 and the numbers of the manifest's row, then the file as it is; or a 1, and the contents
 * of the parts, of which the file is made: so mutations pass compression and reach what is inside.
 */
#include "tests/fuzz/fuzz.h"

#include <inttypes.h>
#include <xxhash.h>
#include <zstd.h>

#include "core/archive/archive.h"
#include "core/archive/archive_format.h"

enum { FILE_MAX_BYTES = 1 << 17 };

static int file;
static unsigned char bytes[FILE_MAX_BYTES];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    file = fuzz_file_create();
    return 0;
}

/* --- reading --- */

static unsigned sum_of(const char *data, size_t length)
{
    unsigned sum = 0;
    for (size_t i = 0; i < length; i++)
        sum += (unsigned char)data[i];
    return sum;
}

static enum status read_records(struct archive_reader *reader,
                                const struct archive_segment *segment, struct error *error)
{
    static volatile unsigned sink;
    int64_t last = segment->start_offset - 1, count = 0, raw = 0;
    for (;;) {
        struct archive_record record;
        bool end = false;
        enum status status = archive_reader_next(reader, &record, &end, error);
        if (status != STATUS_OK)
            return status;
        if (end)
            break;
        FUZZ_CHECK(record.offset > last && record.offset < segment->end_offset,
                   "offset %" PRId64 " after %" PRId64, record.offset, last);
        FUZZ_CHECK(record.value == NULL ? record.length == 0 : record.readable >= record.length,
                   "%zu bytes, of which %zu may be read", record.length, record.readable);
        if (record.value != NULL)
            sink = sum_of(record.value, record.readable < 4096 ? record.readable : 4096);
        last = record.offset;
        count++;
        raw += (int64_t)record.length;
    }
    FUZZ_CHECK(count == segment->record_count && raw == segment->raw_bytes,
               "%" PRId64 " records of %" PRId64 " bytes", count, raw);
    if (archive_reader_masked(reader) != NULL)
        sink = (unsigned)strlen(archive_reader_masked(reader));
    (void)sink;
    return STATUS_OK;
}

static bool read_file(struct archive_segment *segment, const void *data, size_t length)
{
    struct archive_reader *reader = NULL;
    struct error error = {0};
    char name[24], topic[] = "t";
    fuzz_file_write(file, data, length);
    snprintf(name, sizeof name, "%d", file);
    segment->topic = topic;
    segment->file = name;
    segment->file_bytes = (int64_t)length;
    XXH128_hash_t hash = XXH3_128bits(data, length);
    snprintf(segment->checksum, sizeof segment->checksum, "%016" PRIx64 "%016" PRIx64,
             (uint64_t)hash.high64, (uint64_t)hash.low64);
    enum status status = archive_reader_open(FUZZ_FILES, segment, &reader, &error);
    if (status == STATUS_OK)
        status = read_records(reader, segment, &error);
    if (status != STATUS_OK) {
        FUZZ_CHECK(status == STATUS_FATAL, "refused with status %d", (int)status);
        fuzz_check_refusal(status, &error);
    }
    archive_reader_close(reader);
    return status == STATUS_OK;
}

/* --- writing --- */

static size_t put_frame(size_t at, const void *data, size_t length)
{
    size_t size = ZSTD_compress(bytes + at, sizeof bytes - at, data, length, 1);
    FUZZ_CHECK(!ZSTD_isError(size), "%s", ZSTD_getErrorName(size));
    return at + size;
}

static size_t put_part(size_t at, enum archive_part kind, const void *data, size_t length)
{
    unsigned char *frame = bytes + at, *content = frame + ARCHIVE_SKIPPABLE_HEADER_BYTES;
    memcpy(content, "DVT", 3);
    content[3] = ARCHIVE_VERSION;
    content[4] = (unsigned char)kind;
    archive_put_le(content + 5, length, 8);
    size_t end =
        put_frame(at + ARCHIVE_SKIPPABLE_HEADER_BYTES + ARCHIVE_PART_HEADER_BYTES, data, length);
    archive_put_le(frame, ARCHIVE_SKIPPABLE_MAGIC, 4);
    archive_put_le(frame + 4, end - at - ARCHIVE_SKIPPABLE_HEADER_BYTES, 4);
    return end;
}

static int64_t count_lines(struct fuzz_input lines)
{
    int64_t count = 0;
    for (size_t i = 0; i < lines.length; i++)
        count += lines.data[i] == '\n';
    return count;
}

/* The bytes of the other records, and their number; as many as are well-formed. */
static int64_t count_others(struct fuzz_input others, int64_t *raw)
{
    const unsigned char *at = others.data, *end = at + others.length;
    int64_t count = 0;
    uint64_t number, length;
    while (others.length > 0 && at < end && archive_get_varint(&at, end, &number) &&
           archive_get_varint(&at, end, &number) && archive_get_varint(&at, end, &length)) {
        length -= length > 0;
        if (length > (uint64_t)(end - at))
            break;
        at += length;
        *raw += (int64_t)length;
        count++;
    }
    return count;
}

/* start_offset, the length of the offsets, what is dishonest; then each part behind its length. */
static void read_made(struct fuzz_input *input)
{
    struct archive_segment segment = {.start_offset = (int64_t)fuzz_number(input, 2)};
    unsigned char summary[ARCHIVE_SUMMARY_BYTES];
    segment.end_offset = segment.start_offset + (int64_t)fuzz_number(input, 2);
    uint8_t lie = fuzz_byte(input);
    struct fuzz_input offsets = fuzz_take(input, fuzz_byte(input));
    struct fuzz_input timestamps = fuzz_take(input, fuzz_byte(input));
    struct fuzz_input others = fuzz_take(input, fuzz_byte(input));
    struct fuzz_input masked = fuzz_take(input, fuzz_byte(input) % 64);
    struct fuzz_input lines = fuzz_take(input, 4096);
    int64_t line_count = count_lines(lines);
    segment.raw_bytes = (int64_t)lines.length - line_count;
    int64_t other_count = count_others(others, &segment.raw_bytes);
    if (lie == 1)
        segment.end_offset = INT64_MAX;
    if (lie == 2)
        line_count++;
    if (lie == 3)
        other_count++;
    segment.record_count = line_count + other_count;
    int64_t numbers[] = {segment.start_offset, segment.end_offset,
                         line_count,           (int64_t)lines.length + (lie == 4),
                         other_count,          segment.raw_bytes};
    for (size_t i = 0; i < ARCHIVE_SUMMARY_NUMBERS; i++)
        archive_put_le(summary + 8 * i, (uint64_t)numbers[i], 8);
    size_t at = put_frame(0, lines.data, lines.length);
    at = put_part(at, ARCHIVE_PART_OFFSETS, offsets.data, offsets.length);
    at = put_part(at, ARCHIVE_PART_TIMESTAMPS, timestamps.data, timestamps.length);
    at = put_part(at, ARCHIVE_PART_OTHERS, others.data, others.length);
    at = put_part(at, ARCHIVE_PART_SUMMARY, summary, sizeof summary);
    if (masked.length > 0)
        at = put_part(at, ARCHIVE_PART_MASKED, masked.data, masked.length);
    (void)read_file(&segment, bytes, at);
    if (lie == 5 && at > 0) { /* and the same file cut */
        size_t end = fuzz_below(input, at);
        FUZZ_CHECK(!read_file(&segment, bytes, end), "a file that was cut is read");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    if (fuzz_byte(&input) % 2 == 1) {
        read_made(&input);
        return 0;
    }
    struct archive_segment segment = {.start_offset = (int64_t)fuzz_number(&input, 8),
                                      .end_offset = (int64_t)fuzz_number(&input, 8),
                                      .record_count = (int64_t)fuzz_number(&input, 8),
                                      .raw_bytes = (int64_t)fuzz_number(&input, 8)};
    /* what the manifest's CHECK constraints let through */
    bool possible = segment.start_offset >= 0 && segment.end_offset > segment.start_offset &&
                    segment.record_count >= 0 && segment.raw_bytes >= 0;
    if (possible)
        (void)read_file(&segment, input.data == NULL ? (const uint8_t *)"" : input.data,
                        input.length);
    return 0;
}
