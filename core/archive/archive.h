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
};

/* One record of the log. value NULL: a tombstone. */
struct archive_record {
    int64_t offset;
    int64_t timestamp_ms; /* the broker's, -1 = none */
    const char *value;
    size_t length;
    size_t readable; /* bytes that may be read from value on; see event_parser_parse */
};

/* Kafka's rule for topic names: letters, digits, '.', '_', '-', at most 249, neither "." nor "..".
 * Whatever else would let a path leave the archive. */
bool archive_topic_is_valid(const char *topic);

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

#ifdef __cplusplus
}
#endif
#endif
