/* dovetail archive verify, and cat: reading the archive's files.
 *
 * Invariant: a segment is good only if its file has the manifest's size and checksum, its records'
 * offsets ascend within the segment's range, and their number, bytes and contents are the
 * manifest's. The reader checks most of it (core/archive/archive_reader.c). Files that no row names
 * are looked for under the batch lock, so that one that is being archived is not taken for one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/archive.h"
#include "core/archive/batch_lock.h"

enum { STOP_EVERY = 4096 };

/* --- verify --- */

static enum status check_counts(const struct archive_segment *segment, int64_t records,
                                const struct archive_content *content, struct error *error)
{
    char text[ARCHIVE_CHECKSUM_BYTES];
    archive_content_text(content, text);
    if (records != segment->record_count)
        return error_set(error, STATUS_FATAL,
                         "archive: %s has %" PRId64 " records, the manifest says %" PRId64,
                         segment->file, records, segment->record_count);
    if (segment->content[0] != '\0' && strcmp(segment->content, text) != 0)
        return error_set(error, STATUS_FATAL,
                         "archive: %s has other records than the manifest says", segment->file);
    return STATUS_OK;
}

enum status archive_check_segment(const struct config *config,
                                  const struct archive_segment *segment, struct error *error)
{
    struct archive_reader *reader = NULL;
    struct archive_content *content = archive_content_create();
    int64_t records = 0;
    bool end = false;
    enum status status = content == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK)
        status = archive_reader_open(config->batch_archive, segment, &reader, error);
    while (status == STATUS_OK) {
        struct archive_record record;
        status = archive_reader_next(reader, &record, &end, error);
        if (status != STATUS_OK || end)
            break;
        archive_content_add(content, &record);
        if (++records % STOP_EVERY == 0 && program_stopping())
            status = error_set(error, STATUS_RETRY, "interrupted");
    }
    if (status == STATUS_OK)
        status = check_counts(segment, records, content, error);
    archive_reader_close(reader);
    archive_content_destroy(content);
    return status;
}

struct verification {
    const struct archive_question *question;
    int64_t segments;
    int64_t records;
    int64_t bytes;
    int64_t faults;
};

static enum status check_one(struct verification *verification,
                             const struct archive_segment *segment, int64_t expected,
                             struct error *error)
{
    if (segment->start_offset != expected) {
        verification->faults++;
        printf("%s[%" PRId32 "]: the manifest has %s offsets %" PRId64 " to %" PRId64 "\n",
               segment->topic, segment->partition,
               segment->start_offset > expected ? "no segment for" : "two segments for",
               segment->start_offset > expected ? expected : segment->start_offset,
               segment->start_offset > expected ? segment->start_offset : expected);
    }
    struct error fault;
    enum status status =
        archive_check_segment(verification->question->session->config, segment, &fault);
    if (status == STATUS_RETRY) {
        *error = fault;
        return status;
    }
    verification->segments++;
    verification->records += segment->record_count;
    verification->bytes += segment->file_bytes;
    if (status != STATUS_OK) {
        verification->faults++;
        command_progress_end();
        printf("%s\n", fault.text);
    }
    command_progress("%" PRId64 " segments, %" PRId64 " records, %" PRId64 " MiB read",
                     verification->segments, verification->records, verification->bytes >> 20);
    return STATUS_OK;
}

static enum status check_topic(struct verification *verification, const char *topic,
                               struct error *error)
{
    struct archive_segment *segments = NULL;
    int64_t *expected = NULL;
    size_t count = 0;
    enum status status = archive_manifest_read(verification->question->session->postgres, topic,
                                               &segments, &expected, &count, error);
    for (size_t i = 0; status == STATUS_OK && i < count; i++)
        status = program_stopping() ? error_set(error, STATUS_RETRY, "interrupted")
                                    : check_one(verification, &segments[i], expected[i], error);
    archive_segments_free(segments, count);
    free(expected);
    return status;
}

/* An import that is at work has files without rows in a folder of its own. */
static enum status imports_rest(const struct archive_question *question, const char *topic,
                                bool *rest, struct error *error)
{
    const struct catalog *catalog = question->session->catalog;
    *rest = true;
    for (size_t i = 0; i < catalog->source_count; i++)
        if (strcmp(catalog->sources[i]->topic, topic) == 0)
            return batch_lock_try_import(question->session->postgres, catalog->sources[i]->name,
                                         rest, error);
    return STATUS_OK;
}

static enum status find_unlisted(struct verification *verification, const char *topic,
                                 struct error *error)
{
    const struct session *session = verification->question->session;
    struct archive_segment *segments = NULL;
    struct archive_unlisted *unlisted = NULL;
    int64_t *expected = NULL;
    size_t segment_count = 0;
    size_t count = 0;
    bool rest = false;
    enum status status = imports_rest(verification->question, topic, &rest, error);
    if (status == STATUS_OK)
        status = archive_manifest_read(session->postgres, topic, &segments, &expected,
                                       &segment_count, error);
    if (status == STATUS_OK)
        status = archive_find_unlisted(session->config->batch_archive, topic, segments,
                                       segment_count, &unlisted, &count, error);
    for (size_t i = 0; i < count; i++) {
        if (unlisted[i].partition == ARCHIVE_IMPORTED && !rest)
            continue;
        verification->faults++;
        printf("archive: %s is in no manifest (%s[%" PRId32 "], offsets %" PRId64 " to %" PRId64
               "): whoever wrote it did not live to finish; the next dovetail-batch run removes it"
               " where its records are safe\n",
               unlisted[i].file, topic, unlisted[i].partition, unlisted[i].start_offset,
               unlisted[i].end_offset);
    }
    archive_unlisted_free(unlisted, count);
    archive_segments_free(segments, segment_count);
    free(expected);
    return status;
}

/* Whoever holds the batch lock may have just written a file and not its row. */
static enum status find_all_unlisted(struct verification *verification, char *const *topics,
                                     size_t count, struct error *error)
{
    enum status status = batch_lock_take(verification->question->session->postgres, error);
    if (status == STATUS_FENCED) {
        command_complain("%s: files that no manifest row names were not looked for", error->text);
        return STATUS_OK;
    }
    for (size_t i = 0; status == STATUS_OK && i < count; i++)
        status = find_unlisted(verification, topics[i], error);
    return status;
}

int archive_verify(const struct archive_question *question)
{
    struct verification verification = {.question = question};
    struct error error = {0};
    char **topics = NULL;
    size_t count = 0;
    enum status status = archive_topics(question, &topics, &count, &error);
    for (size_t i = 0; status == STATUS_OK && i < count; i++)
        status = check_topic(&verification, topics[i], &error);
    if (status == STATUS_OK)
        status = find_all_unlisted(&verification, topics, count, &error);
    command_progress_end();
    archive_topics_free(topics, count);
    if (status != STATUS_OK)
        return command_fail(&error);
    printf("%" PRId64 " segments, %" PRId64 " records, %" PRId64 " bytes: ", verification.segments,
           verification.records, verification.bytes);
    if (verification.faults == 0)
        printf("all good\n");
    else
        printf("%" PRId64 " faults\n", verification.faults);
    int code = command_finish_output();
    return code == PROGRAM_OK && verification.faults > 0 ? PROGRAM_FAILURE : code;
}

/* --- cat --- */

static enum status cat_segment(const struct archive_question *question,
                               const struct archive_segment *segment, int64_t *left_out,
                               struct error *error)
{
    struct archive_reader *reader = NULL;
    bool end = false;
    enum status status =
        archive_reader_open(question->session->config->batch_archive, segment, &reader, error);
    while (status == STATUS_OK) {
        struct archive_record record;
        status = archive_reader_next(reader, &record, &end, error);
        if (status != STATUS_OK || end || record.offset >= question->to_offset)
            break;
        if (record.offset < question->from_offset)
            continue;
        if (!record.is_line) {
            ++*left_out;
            continue;
        }
        if (fwrite(record.value, 1, record.length, stdout) != record.length ||
            putchar('\n') == EOF || program_stopping())
            break; /* told at the end */
    }
    archive_reader_close(reader);
    return status;
}

int archive_cat(const struct archive_question *question)
{
    struct archive_segment *segments = NULL;
    struct error error = {0};
    size_t count = 0;
    int64_t left_out = 0;
    enum status status = archive_manifest_list(question->session->postgres, question->source->topic,
                                               &segments, &count, &error);
    for (size_t i = 0; status == STATUS_OK && i < count && ferror(stdout) == 0; i++) {
        const struct archive_segment *segment = &segments[i];
        if ((question->has_partition && segment->partition != question->partition) ||
            segment->end_offset <= question->from_offset ||
            segment->start_offset >= question->to_offset)
            continue;
        if (program_stopping())
            status = error_set(&error, STATUS_RETRY, "interrupted");
        else
            status = cat_segment(question, segment, &left_out, &error);
    }
    archive_segments_free(segments, count);
    int code = command_finish_output();
    if (status != STATUS_OK)
        code = command_fail(&error);
    if (left_out > 0)
        command_complain("%" PRId64 " records are no line of JSON and were left out", left_out);
    return code;
}
