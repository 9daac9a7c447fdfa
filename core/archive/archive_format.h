/* The bytes of a segment file, as core/archive/archive_writer.c writes and
 * core/archive/archive_reader.c reads them.
 *
 *   one zstd frame                 the lines, each followed by a line feed
 *   one zstd skippable frame       for each part below, in this order
 *
 * A skippable frame is its magic number, its content's length (4 bytes) and the content:
 *
 *   0   "DVT"                      signature
 *   3   version                    ARCHIVE_VERSION
 *   4   kind                       enum archive_part
 *   5   raw length, 8 bytes        of this part before compression
 *   13  one zstd frame
 *
 * A part longer than ARCHIVE_PART_BYTES is split into several frames of its kind. Numbers of fixed
 * length are little-endian; the others are LEB128 varints, signed ones zigzag-coded.
 *
 *   OFFSETS     for each line: offset - the offset before, which begins as start_offset - 1
 *   TIMESTAMPS  for each line: signed: timestamp - the timestamp before, which begins as 0
 *   OTHERS      for each other record: offset (as above), timestamp (as above), 0 for null or
 *               length + 1, then the bytes
 *   SUMMARY     struct archive_summary, 8 bytes each
 *   MASKED      only where values were masked before they were archived: the paths of those, a JSON
 *               array of arrays of member names. A record that had no such fields to be found
 * stands among the others, as null.
 *
 * zstd: RFC 8878, section 3.1.2 for skippable frames. */
#ifndef DOVETAIL_ARCHIVE_FORMAT_H
#define DOVETAIL_ARCHIVE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ARCHIVE_VERSION = 1,
    ARCHIVE_SKIPPABLE_HEADER_BYTES = 8,
    ARCHIVE_PART_HEADER_BYTES = 13,
    ARCHIVE_PART_BYTES = 1 << 30,
    ARCHIVE_VARINT_BYTES = 10,
    ARCHIVE_PATH_BYTES = 4096,
};

#define ARCHIVE_SKIPPABLE_MAGIC UINT32_C(0x184D2A5D)

enum archive_part {
    ARCHIVE_PART_OFFSETS = 1,
    ARCHIVE_PART_TIMESTAMPS,
    ARCHIVE_PART_OTHERS,
    ARCHIVE_PART_SUMMARY,
    ARCHIVE_PART_MASKED,
    ARCHIVE_PART_END, /* one beyond the last */
};

struct archive_summary {
    int64_t start_offset;
    int64_t end_offset;
    int64_t line_count;
    int64_t line_bytes; /* of the first frame, decompressed */
    int64_t other_count;
    int64_t raw_bytes; /* of all values */
};

enum { ARCHIVE_SUMMARY_NUMBERS = 6, ARCHIVE_SUMMARY_BYTES = ARCHIVE_SUMMARY_NUMBERS * 8 };

static inline void archive_put_le(unsigned char *out, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (unsigned char)(number >> (8 * i));
}

static inline uint64_t archive_get_le(const unsigned char *in, size_t bytes)
{
    uint64_t number = 0;
    for (size_t i = 0; i < bytes; i++)
        number |= (uint64_t)in[i] << (8 * i);
    return number;
}

/* Writes at most ARCHIVE_VARINT_BYTES and returns their number. */
static inline size_t archive_put_varint(unsigned char *out, uint64_t number)
{
    size_t length = 0;
    while (number >= 0x80) {
        out[length++] = (unsigned char)(number | 0x80);
        number >>= 7;
    }
    out[length++] = (unsigned char)number;
    return length;
}

/* Reads from *at and moves it; false where the bytes end or the number is above 64 bits. */
static inline bool archive_get_varint(const unsigned char **at, const unsigned char *end,
                                      uint64_t *number)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        uint64_t byte = *(*at)++;
        if (shift == 63 && byte > 1)
            return false;
        value |= (byte & 0x7F) << shift;
        if (byte < 0x80) {
            *number = value;
            return true;
        }
    }
    return false;
}

/* A signed difference, zigzag-coded. It wraps around: producers may claim any timestamp. */
static inline uint64_t archive_zigzag_difference(int64_t number, int64_t before)
{
    uint64_t difference = (uint64_t)number - (uint64_t)before;
    return (difference << 1) ^ ((difference >> 63) != 0 ? UINT64_MAX : 0);
}

/* The way back. */
static inline int64_t archive_unzigzag_difference(uint64_t coded, int64_t before)
{
    uint64_t difference = (coded >> 1) ^ ((coded & 1) != 0 ? UINT64_MAX : 0);
    return (int64_t)((uint64_t)before + difference);
}

#endif
