/* Importing files: see import.h.
 *
 * Order matters: the lock; then what others left is removed, since by now whoever held the lock has
 * either committed or never will; the segments; the dead letters; the one transaction. */
#include "batch_layer/import.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "batch_layer/import_check.h"
#include "batch_layer/import_letters.h"
#include "batch_layer/progress.h"
#include "batch_layer/session.h"
#include "core/archive/archive.h"
#include "core/catalog/catalog.h"
#include "core/program/program.h"
#include "core/records/mask.h"

enum { SEGMENT_RECORDS_MAX = 1 << 24, NUMBER_BYTES = 24, SHOWN_MAX = 20, UPDATE_EVERY = 256 };

struct importer {
    const struct config *config;
    const struct import_options *options;
    struct postgres *postgres;
    struct catalog *catalog;
    const struct source *source;
    struct import_check *check;
    struct record_mask *masker; /* NULL: the source has no mask */
    struct mask *hasher;        /* the same; hashes checksums */
    char *masked_paths;
};

/* One file on its way. */
struct attempt {
    struct importer *importer;
    struct import_input *input;
    struct import_letters *letters;
    struct archive_writer *writer;
    struct archive_segment *segments;
    size_t segment_count;
    int64_t start_offset;
    int64_t next_offset;
    int64_t dead_lettered;
    char checksum[MASK_BYTES + 1];
};

/* --- what is known --- */

static enum status load_definitions(struct importer *importer, struct error *error)
{
    enum status status = catalog_load(importer->postgres, &importer->catalog, error);
    if (status == STATUS_OK)
        status = catalog_leave_replaced(importer->catalog, error);
    if (status != STATUS_OK)
        return status;
    const struct source *source = catalog_source(importer->catalog, importer->options->source);
    if (source == NULL)
        return error_set(error, STATUS_REJECT,
                         "there is no source %s; `dovetail init` registers sources",
                         importer->options->source);
    const struct catalog_refusal *refusal = catalog_holds_topic(importer->catalog, source->topic);
    if (refusal != NULL) {
        char text[ERROR_TEXT_BYTES]; /* what it would reject of the records cannot be told */
        catalog_refusal_describe(refusal, text, sizeof text);
        return error_set(error, STATUS_FATAL, "nothing is imported: %s", text);
    }
    if (!archive_topic_is_valid(source->topic))
        return error_set(error, STATUS_REJECT, "\"%s\" is not a topic's name", source->topic);
    importer->source = source;
    status = import_check_create(importer->catalog, source, &importer->check, error);
    if (status != STATUS_OK || source->mask_count == 0)
        return status;
    importer->masked_paths = mask_paths_text(source);
    if (importer->masked_paths == NULL)
        return error_no_memory(error);
    status = record_mask_create(source, &importer->masker, error);
    if (status == STATUS_OK)
        status = mask_create(source, &importer->hasher, error);
    return status;
}

/* Where values are masked nobody shall be able to try contents out, not even a short file's as a
 * whole; so the checksum is hashed with the key as well. */
static enum status name_content(struct attempt *attempt, struct error *error)
{
    const char *checksum = import_input_checksum(attempt->input);
    struct mask *hasher = attempt->importer->hasher;
    snprintf(attempt->checksum, sizeof attempt->checksum, "%s", checksum);
    if (hasher == NULL)
        return STATUS_OK;
    attempt->checksum[MASK_BYTES] = '\0';
    return mask_value(hasher, checksum, strlen(checksum), attempt->checksum, error);
}

/* *file is when and as what it was imported; empty: it was not. */
static enum status find_earlier(const struct attempt *attempt, char *file, size_t size,
                                struct error *error)
{
    PGresult *result = NULL;
    const char *parameters[] = {attempt->importer->source->topic, attempt->checksum,
                                import_input_checksum(attempt->input)};
    enum status status =
        postgres_query(attempt->importer->postgres,
                       "SELECT file || ', at ' || to_char(imported_at AT TIME ZONE 'UTC',"
                       "   'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM dovetail_internal.import"
                       " WHERE topic = $1 AND checksum IN ($2, $3)",
                       3, parameters, &result, error);
    file[0] = '\0';
    if (status == STATUS_OK && PQntuples(result) > 0)
        snprintf(file, size, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return status;
}

/* --- records --- */

static enum status finish_segment(struct attempt *attempt, struct error *error)
{
    if (attempt->writer == NULL)
        return STATUS_OK;
    struct archive_segment *segments =
        realloc(attempt->segments, (attempt->segment_count + 1) * sizeof *segments);
    if (segments == NULL)
        return error_no_memory(error);
    attempt->segments = segments;
    struct archive_segment *segment = &segments[attempt->segment_count];
    enum status status =
        archive_writer_finish(attempt->writer, attempt->next_offset, segment, error);
    if (status != STATUS_OK)
        return status;
    attempt->segment_count++;
    archive_writer_destroy(attempt->writer);
    attempt->writer = NULL;
    return STATUS_OK;
}

static enum status archive(struct attempt *attempt, const char *value, size_t length,
                           struct error *error)
{
    const struct importer *importer = attempt->importer;
    enum status status = STATUS_OK;
    if (attempt->writer == NULL) {
        status =
            archive_writer_create(importer->config->batch_archive, importer->source->topic,
                                  ARCHIVE_IMPORTED, attempt->next_offset, &attempt->writer, error);
        if (status == STATUS_OK)
            archive_writer_set_level(attempt->writer,
                                     (int)importer->config->batch_compression_level);
        if (status == STATUS_OK && importer->masked_paths != NULL)
            status = archive_writer_set_masked(attempt->writer, importer->masked_paths, error);
    }
    struct archive_record record = {.offset = attempt->next_offset,
                                    .timestamp_ms = -1,
                                    .value = value,
                                    .length = length,
                                    .readable = length};
    if (status == STATUS_OK)
        status = archive_writer_add(attempt->writer, &record, error);
    if (status != STATUS_OK)
        return status;
    attempt->next_offset++;
    if (archive_writer_raw_bytes(attempt->writer) < importer->config->batch_segment_bytes &&
        archive_writer_record_count(attempt->writer) < SEGMENT_RECORDS_MAX)
        return STATUS_OK;
    return finish_segment(attempt, error);
}

static void show_fault(const struct attempt *attempt, const struct import_record *record,
                       const struct import_fault *fault)
{
    if (attempt->dead_lettered <= SHOWN_MAX)
        fprintf(stderr, "%s:%" PRId64 ": %s%s%s\n", import_input_name(attempt->input), record->line,
                fault->view_count > 0 ? fault->views[0] : "", fault->view_count > 0 ? ": " : "",
                fault->reason);
    else if (attempt->dead_lettered == SHOWN_MAX + 1)
        fputs("more bad lines are only counted\n", stderr);
}

/* A line that is no record takes its offset all the same, without a value. */
static enum status take_record(struct attempt *attempt, const struct import_record *record,
                               struct error *error)
{
    struct importer *importer = attempt->importer;
    struct import_fault fault;
    bool good;
    enum status status = import_check_record(importer->check, record, &good, &fault, error);
    attempt->dead_lettered += status == STATUS_OK && !good;
    if (status == STATUS_OK && !good && importer->options->dry_run)
        show_fault(attempt, record, &fault);
    if (status != STATUS_OK || importer->options->dry_run) {
        attempt->next_offset++;
        return status;
    }
    const char *value = record->value;
    size_t length = record->length;
    if (importer->masker != NULL)
        status = record_mask_apply(importer->masker, value, length, &value, &length, error);
    if (status == STATUS_OK && !good)
        status = import_letters_add(attempt->letters, record, value, length, attempt->next_offset,
                                    &fault, error);
    return status == STATUS_OK ? archive(attempt, value, length, error) : status;
}

static enum status take_records(struct attempt *attempt, struct error *error)
{
    const struct import_options *options = attempt->importer->options;
    struct progress progress;
    bool end = false;
    int64_t count = 0;
    progress_begin(&progress, options->dry_run ? "read" : "import", "lines",
                   import_input_line_count(attempt->input));
    enum status status = import_input_begin(attempt->input, attempt->importer->source,
                                            options->mappings, options->mapping_count, error);
    while (status == STATUS_OK && !end) {
        struct import_record record;
        status = import_input_next(attempt->input, &record, &end, error);
        if (status != STATUS_OK || end)
            break;
        status = take_record(attempt, &record, error);
        if (++count % UPDATE_EVERY == 0)
            progress_update(&progress, record.last_line);
    }
    if (status == STATUS_OK)
        status = finish_segment(attempt, error);
    progress_end(&progress, count);
    return status;
}

/* --- committing --- */

static enum status check_unchanged(const struct attempt *attempt, struct error *error)
{
    const struct importer *importer = attempt->importer;
    PGresult *result = NULL;
    const char *parameters[] = {importer->source->name};
    enum status status =
        postgres_query(importer->postgres,
                       "SELECT definition FROM dovetail_internal.source WHERE source = $1"
                       " FOR SHARE",
                       1, parameters, &result, error);
    json_t *now = NULL;
    if (status == STATUS_OK && PQntuples(result) == 1)
        now = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
    if (status == STATUS_OK && (now == NULL || !json_equal(now, importer->source->json)))
        status = error_set(error, STATUS_RETRY,
                           "the definition of source %s has changed meanwhile; import it again",
                           importer->source->name);
    json_decref(now);
    PQclear(result);
    return status;
}

static enum status insert_import(const struct attempt *attempt, struct error *error)
{
    const struct source *source = attempt->importer->source;
    const int64_t numbers[] = {attempt->start_offset, attempt->next_offset, attempt->dead_lettered};
    char texts[3][NUMBER_BYTES];
    for (size_t i = 0; i < 3; i++)
        snprintf(texts[i], NUMBER_BYTES, "%" PRId64, numbers[i]);
    const char *parameters[] = {source->name,
                                source->topic,
                                import_input_name(attempt->input),
                                import_input_format(attempt->input) == IMPORT_CSV ? "csv" : "json",
                                attempt->checksum,
                                texts[0],
                                texts[1],
                                texts[2]};
    PGresult *result = NULL;
    enum status status =
        postgres_query(attempt->importer->postgres,
                       "INSERT INTO dovetail_internal.import (source, topic, file, format,"
                       " checksum, start_offset, end_offset, dead_lettered)"
                       " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                       8, parameters, &result, error);
    PQclear(result);
    return status;
}

static enum status write_rows(const struct attempt *attempt, struct error *error)
{
    enum status status = check_unchanged(attempt, error);
    if (status == STATUS_OK)
        status = insert_import(attempt, error);
    for (size_t i = 0; status == STATUS_OK && i < attempt->segment_count; i++)
        status = archive_manifest_add(attempt->importer->postgres, &attempt->segments[i], error);
    return status;
}

/* Where the connection breaks at the COMMIT, the table tells whether it was one. */
static enum status commit(const struct attempt *attempt, struct error *error)
{
    struct postgres *postgres = attempt->importer->postgres;
    struct error ignored;
    enum status status = postgres_execute(postgres, "BEGIN", error);
    if (status == STATUS_OK)
        status = write_rows(attempt, error);
    if (status != STATUS_OK) {
        (void)!postgres_execute(postgres, "ROLLBACK", &ignored);
        return status;
    }
    status = postgres_execute(postgres, "COMMIT", error);
    if (status == STATUS_OK || postgres_is_connected(postgres))
        return status;
    char earlier[ERROR_TEXT_BYTES];
    if (postgres_reconnect(postgres, &ignored) == STATUS_OK &&
        find_earlier(attempt, earlier, sizeof earlier, &ignored) == STATUS_OK && earlier[0] != '\0')
        return session_lock_import(postgres, attempt->importer->source->name, error);
    return error_wrap(error, "whether the file was imported is not known; import it again");
}

/* --- one file --- */

static enum status begin_offsets(struct attempt *attempt, struct error *error)
{
    const struct importer *importer = attempt->importer;
    struct archive_segment *segments = NULL;
    size_t count = 0;
    enum status status = archive_manifest_list(importer->postgres, importer->source->topic,
                                               &segments, &count, error);
    size_t imported = 0; /* they come first, by partition */
    while (imported < count && segments[imported].partition == ARCHIVE_IMPORTED)
        imported++;
    attempt->start_offset = imported == 0 ? 0 : segments[imported - 1].end_offset;
    attempt->next_offset = attempt->start_offset;
    if (status == STATUS_OK && !importer->options->dry_run)
        status = archive_remove_unlisted(importer->config->batch_archive, importer->source->topic,
                                         ARCHIVE_IMPORTED, segments, imported, error);
    archive_segments_free(segments, count);
    return status;
}

static void tell_outcome(const struct attempt *attempt, const char *earlier)
{
    const struct import_options *options = attempt->importer->options;
    const char *name = import_input_name(attempt->input);
    const char *left_out = import_input_left_out(attempt->input);
    int64_t lines = attempt->next_offset - attempt->start_offset;
    if (left_out[0] != '\0')
        program_log(LOG_INFO, "%s: columns that are no field of the source are left out: %s", name,
                    left_out);
    if (earlier[0] != '\0')
        printf("%s: was imported before, as %s%s\n", name, earlier,
               options->dry_run ? "" : "; nothing to do");
    if (earlier[0] != '\0' && !options->dry_run)
        return;
    printf("%s: %" PRId64 " records, %" PRId64 " %s, %" PRId64 " dead-lettered%s", name, lines,
           lines - attempt->dead_lettered, options->dry_run ? "good" : "imported",
           attempt->dead_lettered, options->dry_run ? " if it were imported\n" : "");
    if (!options->dry_run)
        printf(", %zu segments\n", attempt->segment_count);
    fflush(stdout);
}

static enum status import_content(struct attempt *attempt, struct error *error)
{
    const struct importer *importer = attempt->importer;
    char earlier[ERROR_TEXT_BYTES];
    enum status status = name_content(attempt, error);
    if (status == STATUS_OK)
        status = find_earlier(attempt, earlier, sizeof earlier, error);
    if (status == STATUS_OK && (earlier[0] == '\0' || importer->options->dry_run)) {
        status = begin_offsets(attempt, error);
        if (status == STATUS_OK && !importer->options->dry_run)
            status =
                import_letters_create(importer->config, importer->source,
                                      import_input_name(attempt->input), &attempt->letters, error);
        if (status == STATUS_OK)
            status = take_records(attempt, error);
        if (status == STATUS_OK && attempt->letters != NULL)
            status = import_letters_flush(attempt->letters, error);
        if (status == STATUS_OK && !importer->options->dry_run)
            status = commit(attempt, error);
    }
    if (status == STATUS_OK)
        tell_outcome(attempt, earlier);
    return status;
}

static enum status import_file(struct importer *importer, const char *path, struct error *error)
{
    struct attempt attempt = {.importer = importer};
    enum status status = import_input_open(path, importer->options->format,
                                           importer->config->batch_archive, &attempt.input, error);
    if (status == STATUS_OK)
        status = import_content(&attempt, error);
    archive_writer_destroy(attempt.writer);
    archive_segments_free(attempt.segments, attempt.segment_count);
    import_letters_destroy(attempt.letters);
    import_input_close(attempt.input);
    return status;
}

enum status import_run(const struct config *config, const struct import_options *options,
                       struct error *error)
{
    struct importer importer = {.config = config, .options = options};
    enum status status =
        postgres_connect(config->postgres, "dovetail-batch", &importer.postgres, error);
    if (status == STATUS_OK && !options->dry_run)
        status = session_lock_import(importer.postgres, options->source, error);
    if (status == STATUS_OK)
        status = load_definitions(&importer, error);
    for (size_t i = 0; status == STATUS_OK && i < options->file_count; i++)
        status = import_file(&importer, options->files[i], error);
    record_mask_destroy(importer.masker);
    mask_destroy(importer.hasher);
    free(importer.masked_paths);
    import_check_destroy(importer.check);
    catalog_destroy(importer.catalog);
    postgres_close(importer.postgres);
    return status;
}
