/* The archive: immutable segments of a topic partition's records, and the manifest that names them.
 *
 * A segment is one file, <archive>/<topic>/<partition>/<start>-<end>.jsonl.zst (offsets as 20
 * digits, half-open). It begins with one ordinary zstd frame: the values of all records that are
 * valid JSON objects without a line break in them, a line each, so that zstdcat, DuckDB and Spark
 * read it. (One frame, because some readers stop behind the first.) zstd skippable frames follow,
 * which those tools pass over, with what else is needed to have the log back exactly: the offset
 * and broker timestamp of every line, and every other record (null, empty, not JSON, with line
 * breaks) byte for byte. The layout is in core/archive/archive_format.h. Keys and headers are not
 * archived.
 *
 * Invariant: a file counts only if the manifest (table segment) has its row; the row is inserted
 * after the file was written under a temporary name, fsynced and renamed, and its directory
 * fsynced; segments of a partition follow each other without a gap. Checksums are verified on every
 * read.
 *
 * One archive directory belongs to one database: a file that its manifest does not name may be
 * replaced. */
#ifndef DOVETAIL_ARCHIVE_H
#define DOVETAIL_ARCHIVE_H

#include <stdint.h>

#include "core/base/error.h"
#include "core/postgres/postgres.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    ARCHIVE_CHECKSUM_BYTES = 33,
    /* Not a partition of Kafka's: what `dovetail-batch import` brought, with offsets of its own
     * from 0 on. Before every real one, so that it comes first where partitions are an order. */
    ARCHIVE_IMPORTED = -1,
};

struct archive_segment {
    char *topic;
    int32_t partition;
    int64_t start_offset; /* inclusive */
    int64_t end_offset;   /* exclusive */
    char *file;           /* relative to the archive directory */
    int64_t record_count;
    int64_t file_bytes;
    int64_t raw_bytes;                     /* of the records' values */
    char checksum[ARCHIVE_CHECKSUM_BYTES]; /* XXH3-128 of the file, hexadecimal */
    /* archive_content_text of its records, the same however they are compressed; "": not known. */
    char content[ARCHIVE_CHECKSUM_BYTES];
};

/* One record of the log. value NULL: a tombstone. */
struct archive_record {
    int64_t offset;
    int64_t timestamp_ms; /* the broker's, -1 = none */
    const char *value;
    size_t length;
    size_t readable; /* bytes that may be read from value on; see event_parser_parse */
    bool is_line;    /* set by the reader: it is one of the lines that other tools read */
};

/* Kafka's rule for topic names: letters, digits, '.', '_', '-', at most 249, neither "." nor "..".
 * Whatever else would let a path leave the archive. */
bool archive_topic_is_valid(const char *topic);

/* --- what records are, apart from their file: offsets, timestamps and values --- */

struct archive_content;

struct archive_content *archive_content_create(void) MUST_CHECK; /* NULL: out of memory */
void archive_content_destroy(struct archive_content *content);   /* accepts NULL */
/* In the order of their offsets. */
void archive_content_add(struct archive_content *content, const struct archive_record *record);
/* XXH3-128, hexadecimal. */
void archive_content_text(const struct archive_content *content, char out[ARCHIVE_CHECKSUM_BYTES]);

/* --- writing: one writer for each partition, one thread --- */

struct archive_writer;

/* Begins the segment that starts at `start_offset` under a temporary name, in directories that are
 * made where they are missing. STATUS_RETRY: the file system failed; STATUS_REJECT: the topic's
 * name. */
enum status archive_writer_create(const char *directory, const char *topic, int32_t partition,
                                  int64_t start_offset, struct archive_writer **out,
                                  struct error *error) MUST_CHECK;
/* Says that the values at these paths are masked in every record of the segment: mask_paths_text,
 * which is copied. */
enum status archive_writer_set_masked(struct archive_writer *writer, const char *paths_text,
                                      struct error *error) MUST_CHECK;
/* Before the first record: zstd's level, 1 (fast) to 19 (small). */
void archive_writer_set_level(struct archive_writer *writer, int level);
/* The file is to take the place of this segment, which must outlive the writer: finish refuses with
 * STATUS_REJECT, and no file changes, where the records are others than it had. */
void archive_writer_replaces(struct archive_writer *writer, const struct archive_segment *segment);
/* Appends one record; offsets ascend. */
enum status archive_writer_add(struct archive_writer *writer, const struct archive_record *record,
                               struct error *error) MUST_CHECK;
int64_t archive_writer_raw_bytes(const struct archive_writer *writer);
int64_t archive_writer_record_count(const struct archive_writer *writer);
/* Completes the file as [start_offset, end_offset): end_offset is beyond the last record's, and
 * larger where the log has holes. Syncs, renames, and fills *segment (caller:
 * archive_segment_deinit). The manifest row is the caller's next step (archive_manifest_add), then
 * archive_writer_destroy. */
enum status archive_writer_finish(struct archive_writer *writer, int64_t end_offset,
                                  struct archive_segment *segment, struct error *error) MUST_CHECK;
/* Accepts NULL; an unfinished file is removed. */
void archive_writer_destroy(struct archive_writer *writer);

/* Removes temporary files of writers that did not live to finish. Only while no writer is at work.
 */
enum status archive_remove_temporary(const char *directory, const char *topic,
                                     struct error *error) MUST_CHECK;

/* A file of the archive that no manifest row names: whoever wrote it did not live to do so, or it
 * is of another database's. Other tools that read the whole folder count its records twice. */
struct archive_unlisted {
    char *file; /* relative to the archive directory */
    int32_t partition;
    int64_t start_offset;
    int64_t end_offset;
};

/* All files with a segment's name in the topic's folders that are none of these segments, by
 * partition and offset. Files with other names are not looked at. Caller: archive_unlisted_free. */
enum status archive_find_unlisted(const char *directory, const char *topic,
                                  const struct archive_segment *segments, size_t count,
                                  struct archive_unlisted **out, size_t *out_count,
                                  struct error *error) MUST_CHECK;
void archive_unlisted_free(struct archive_unlisted *unlisted, size_t count);
/* Only while no writer is at work there. One that is gone already is no failure. */
enum status archive_remove_file(const char *directory, const char *file,
                                struct error *error) MUST_CHECK;

/* Removes what lies in a partition's folder and is none of these segments: a writer did not live to
 * put it into the manifest. Only while no writer is at work there. */
enum status archive_remove_unlisted(const char *directory, const char *topic, int32_t partition,
                                    const struct archive_segment *segments, size_t count,
                                    struct error *error) MUST_CHECK;

/* --- the manifest --- */

enum status archive_manifest_add(struct postgres *postgres, const struct archive_segment *segment,
                                 struct error *error) MUST_CHECK;
/* Every segment of a topic, by partition and offset. STATUS_FATAL names the first gap: each
 * partition begins at its position.base_offset (ARCHIVE_IMPORTED at 0) and every segment where the
 * one before ends. Caller:
 * archive_segments_free. */
enum status archive_manifest_list(struct postgres *postgres, const char *topic,
                                  struct archive_segment **out, size_t *count,
                                  struct error *error) MUST_CHECK;
/* The same without a look at gaps; *expected has the offset at which each segment should begin.
 * Caller: free. */
enum status archive_manifest_read(struct postgres *postgres, const char *topic,
                                  struct archive_segment **out, int64_t **expected, size_t *count,
                                  struct error *error) MUST_CHECK;
/* After archive_writer_replaces: the same records in another file. */
enum status archive_manifest_replace(struct postgres *postgres,
                                     const struct archive_segment *segment,
                                     struct error *error) MUST_CHECK;
void archive_segments_free(struct archive_segment *segments, size_t count);
void archive_segment_deinit(struct archive_segment *segment);

/* --- reading: any number of threads, one reader each --- */

struct archive_reader;

/* Reads and checks the whole file. STATUS_FATAL names the file that is missing or damaged. The
 * segment must outlive the reader. */
enum status archive_reader_open(const char *directory, const struct archive_segment *segment,
                                struct archive_reader **out, struct error *error) MUST_CHECK;
/* The next record, by offset; *end when there is none. The value is good until the next call. */
enum status archive_reader_next(struct archive_reader *reader, struct archive_record *out,
                                bool *end, struct error *error) MUST_CHECK;
/* What archive_writer_set_masked said; NULL: nothing was masked. Good until the reader is closed.
 */
const char *archive_reader_masked(const struct archive_reader *reader);
void archive_reader_close(struct archive_reader *reader); /* accepts NULL */

/* What a manifest row would say of a file. Topic, partition, offsets and file are given, the rest
 * is filled after every record was read. *masked (caller frees): archive_reader_masked; *last: the
 * last record's offset and timestamp, offset -1 where there is none. STATUS_FATAL: the file is
 * missing or damaged. */
enum status archive_segment_examine(const char *directory, struct archive_segment *segment,
                                    char **masked, struct archive_record *last,
                                    struct error *error) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
