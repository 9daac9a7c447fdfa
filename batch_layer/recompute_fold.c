/* Step 1 of the recompute: each thread takes stretches from a queue and folds them into groups of
 * its own, in the part that the record's route says.
 *
 * Invariant: every record in [start, C) is judged once by every version that folds it, with the ids
 * within reach below it known. */
#include "batch_layer/recompute_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"
#include "core/time/watermark.h"

enum { STOP_CHECK_RECORDS = 4096, SCRATCH_SHARE = 8 };

/* What became of one record, over all definitions of its topic. */
struct verdict {
    bool dead; /* to the newest definition */
    bool duplicate;
    bool counted; /* by some version */
    bool rejected;
};

/* What holds for every record of one segment. */
struct passage {
    const struct archive_segment *segment;
    const struct cut *cut;
    size_t place; /* of the cut */
    bool imported;
    size_t *readings; /* those of the segment's topic */
    size_t reading_count;
};

/* The version's groups for a record at this offset; *out NULL: it is not to be folded. *slot is
 * theirs in worker->groups, or SIZE_MAX: what is in them is not kept. */
static enum status find_groups(struct worker *worker, size_t version, size_t cut, int64_t offset,
                               struct groups **out, size_t *slot, struct error *error)
{
    const struct job *job = worker->job;
    const struct route *route = &job->routes[version * job->cut_count + cut];
    const struct view *view = job->catalog->versions[version].view;
    struct groups **groups;
    *out = NULL;
    *slot = SIZE_MAX;
    if (offset < route->from && route->skips) {
        if (!job->reuse->recount[cut])
            return STATUS_OK;
        groups = &worker->scratch[version];
        if (*groups != NULL && groups_peak_bytes(*groups) > worker->share_bytes / SCRATCH_SHARE /
                                                                job->catalog->version_count) {
            groups_destroy(*groups); /* cleared, it would keep its largest tables */
            *groups = NULL;
        }
    } else {
        enum recompute_part part = offset < route->from ? route->below : route->above;
        *slot = version * RECOMPUTE_PARTS + part;
        groups = &worker->groups[*slot];
    }
    if (*groups == NULL) {
        enum status status = groups_create(view, groups, error);
        if (status != STATUS_OK)
            return status;
    }
    *out = *groups;
    return STATUS_OK;
}

static enum status fold_event(struct worker *worker, const struct reading *reading, size_t cut,
                              const struct event *event, const struct measure_origin *origin,
                              struct verdict *verdict, struct error *error)
{
    for (size_t i = 0; i < reading->version_count; i++) {
        enum fold_outcome outcome;
        struct groups *groups;
        size_t slot;
        enum status status =
            find_groups(worker, reading->versions[i], cut, origin->offset, &groups, &slot, error);
        if (status != STATUS_OK)
            return status;
        if (groups == NULL)
            continue;
        status = groups_fold(groups, event, origin, &outcome, error);
        if (status != STATUS_OK && status != STATUS_REJECT)
            return status;
        bool counted = status == STATUS_OK && outcome == FOLD_COUNTED;
        bool rejected = status == STATUS_REJECT;
        if (counted && slot != SIZE_MAX)
            status = recompute_note_growth(worker, slot, error);
        if (status != STATUS_OK && !rejected)
            return status;
        worker->counts.rejected += rejected;
        worker->counts.counted += counted;
        worker->counts.filtered += !rejected && !counted;
        verdict->rejected = verdict->rejected || rejected;
        verdict->counted = verdict->counted || counted;
    }
    return STATUS_OK;
}

/* What one definition makes of a record. STATUS_REJECT: no event. */
static enum status read_record(struct worker *worker, size_t index,
                               const struct archive_record *record, struct event *event,
                               bool *duplicate, struct error *error)
{
    *duplicate = false;
    if (record->value == NULL)
        return STATUS_REJECT;
    enum status status = event_parser_parse(worker->parsers[index], record->value, record->length,
                                            record->readable, event, error);
    if (status != STATUS_OK || worker->ids[index] == NULL)
        return status;
    const struct source *source = worker->job->readings[index].source;
    return recent_ids_add(worker->ids[index], &event->fields[source->dedupe_field], record->offset,
                          duplicate, error);
}

static enum status fold_reading(struct worker *worker, size_t index, const struct passage *passage,
                                const struct archive_record *record, struct verdict *verdict,
                                struct error *error)
{
    const struct reading *reading = &worker->job->readings[index];
    struct event event;
    bool duplicate;
    enum status status = read_record(worker, index, record, &event, &duplicate, error);
    if (status == STATUS_REJECT) {
        /* The speed layer, or the import, tells why, in the dead letter. */
        worker->counts.dead++;
        verdict->dead = verdict->dead || reading->newest;
        return STATUS_OK;
    }
    if (status != STATUS_OK)
        return status;
    if (duplicate) {
        worker->counts.duplicates++;
        verdict->duplicate = verdict->duplicate || reading->newest;
        return STATUS_OK;
    }
    watermark_note(&worker->watermarks[passage->place], event.time_us, record->timestamp_ms);
    struct measure_origin origin = {.time_us = event.time_us,
                                    .partition = passage->segment->partition,
                                    .offset = record->offset};
    return fold_event(worker, reading, passage->place, &event, &origin, verdict, error);
}

/* What is done with each record of a segment. */
typedef enum status take_record(struct worker *worker, const struct passage *passage,
                                const struct archive_record *record, struct error *error);

/* As the speed layer does for the records of the topic: speed_layer/partition.c. */
static void count_verdict(struct cut_ledger *ledger, const struct verdict *verdict)
{
    bool dead = !verdict->duplicate && (verdict->dead || verdict->rejected);
    bool counted = !verdict->duplicate && !dead && verdict->counted;
    ledger->consumed++;
    ledger->duplicate += verdict->duplicate;
    ledger->dead_lettered += dead;
    ledger->counted += counted;
    ledger->filtered += !verdict->duplicate && !dead && !counted;
}

/* Only the id is of use. */
static enum status learn_id(struct worker *worker, size_t reading,
                            const struct archive_record *record, struct error *error)
{
    struct event event;
    bool duplicate;
    if (worker->ids[reading] == NULL)
        return STATUS_OK;
    enum status status = read_record(worker, reading, record, &event, &duplicate, error);
    return status == STATUS_REJECT ? STATUS_OK : status;
}

static enum status fold_record(struct worker *worker, const struct passage *passage,
                               const struct archive_record *record, struct error *error)
{
    const struct job *job = worker->job;
    const struct cut *cut = passage->cut;
    if (record->offset >= cut->offset)
        return STATUS_OK;
    bool folded = false;
    struct verdict verdict = {0};
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < passage->reading_count; i++) {
        size_t index = passage->readings[i];
        if (record->offset < job->readings[index].starts[passage->place]) {
            status = learn_id(worker, index, record, error);
            continue;
        }
        folded = true;
        status = fold_reading(worker, index, passage, record, &verdict, error);
    }
    if (folded) {
        worker->counts.read++;
        worker->counts.raw_bytes += (int64_t)record->length;
    }
    bool in_ledger =
        passage->imported && (job->reuse == NULL || job->reuse->recount[passage->place] ||
                              record->offset >= cut->reused_offset);
    if (status == STATUS_OK && in_ledger)
        count_verdict(&worker->ledgers[passage->place], &verdict);
    return status;
}

static enum status learn_record(struct worker *worker, const struct passage *passage,
                                const struct archive_record *record, struct error *error)
{
    (void)passage;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < worker->job->reading_count; i++)
        status = learn_id(worker, i, record, error);
    return status;
}

static enum status take_records(struct worker *worker, struct archive_reader *reader,
                                const struct passage *passage, int64_t first_offset,
                                take_record *take, struct error *error)
{
    const struct archive_segment *segment = passage->segment;
    for (int64_t count = 0;; count++) {
        if (count % STOP_CHECK_RECORDS == 0) {
            if (take == fold_record && count > 0)
                atomic_fetch_add(&worker->job->folded, STOP_CHECK_RECORDS);
            if (program_stopping() || atomic_load(&worker->job->failed))
                return error_set(error, STATUS_RETRY, "stopped");
        }
        struct archive_record record;
        bool end;
        enum status status = archive_reader_next(reader, &record, &end, error);
        if (status != STATUS_OK)
            return status;
        if (end && count != segment->record_count)
            return error_set(error, STATUS_FATAL,
                             "archive: %s has %" PRId64 " records, not %" PRId64, segment->file,
                             count, segment->record_count);
        if (end)
            return STATUS_OK;
        if (record.offset >= first_offset)
            status = take(worker, passage, &record, error);
        if (status != STATUS_OK)
            return status;
    }
}

/* What a segment was masked with before is not masked again. */
static void note_masks(struct worker *worker, const struct archive_reader *reader)
{
    for (size_t i = 0; i < worker->job->reading_count; i++)
        if (worker->masks[i] != NULL)
            event_parser_mask(
                worker->parsers[i], worker->masks[i],
                mask_fields_in(worker->job->readings[i].source, archive_reader_masked(reader)));
}

static enum status passage_init(struct passage *passage, const struct job *job,
                                const struct archive_segment *segment, struct error *error)
{
    const struct cut *cut = cut_find(job->cuts, job->cut_count, segment->topic, segment->partition);
    *passage = (struct passage){.segment = segment,
                                .cut = cut,
                                .place = cut == NULL ? 0 : (size_t)(cut - job->cuts),
                                .imported = segment->partition == ARCHIVE_IMPORTED,
                                .readings = calloc(job->reading_count + 1, sizeof(size_t))};
    if (passage->readings == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < job->reading_count; i++)
        if (strcmp(job->readings[i].source->topic, segment->topic) == 0 &&
            (!job->readings[i].imported_only || passage->imported))
            passage->readings[passage->reading_count++] = i;
    return STATUS_OK;
}

static enum status take_segment(struct worker *worker, const struct archive_segment *segment,
                                int64_t first_offset, take_record *take, struct error *error)
{
    struct archive_reader *reader = NULL;
    struct passage passage;
    enum status status = passage_init(&passage, worker->job, segment, error);
    if (status == STATUS_OK)
        status = archive_reader_open(worker->job->config->batch_archive, segment, &reader, error);
    if (status == STATUS_OK)
        note_masks(worker, reader);
    if (status == STATUS_OK)
        status = take_records(worker, reader, &passage, first_offset, take, error);
    archive_reader_close(reader);
    free(passage.readings);
    return status;
}

static void forget_ids(struct worker *worker)
{
    for (size_t i = 0; i < worker->job->reading_count; i++) {
        recent_ids_destroy(worker->ids[i]);
        worker->ids[i] = NULL;
    }
}

/* The ids of the records within reach below the stretch. */
static enum status learn_before(struct worker *worker, const struct stretch *stretch,
                                struct error *error)
{
    const struct job *job = worker->job;
    const struct archive_segment *first = stretch->segments[0];
    for (size_t i = 0; i < job->reading_count; i++) {
        const struct source *source = job->readings[i].source;
        if (strcmp(source->topic, first->topic) != 0 || source->dedupe_within == 0)
            continue;
        enum status status = recent_ids_create(source->dedupe_within, job->catalog->id_secret,
                                               &worker->ids[i], error);
        if (status != STATUS_OK)
            return status;
    }
    int64_t reach = recompute_reach(job, first->topic);
    size_t back = 0;
    while (back < stretch->before &&
           stretch->segments[-1 - (ptrdiff_t)back]->end_offset > first->start_offset - reach)
        back++;
    enum status status = STATUS_OK;
    for (; status == STATUS_OK && reach > 0 && back > 0; back--)
        status = take_segment(worker, stretch->segments[-(ptrdiff_t)back],
                              first->start_offset - reach, learn_record, error);
    return status;
}

static enum status fold_stretch(struct worker *worker, const struct stretch *stretch,
                                struct error *error)
{
    enum status status = learn_before(worker, stretch, error);
    for (size_t i = 0; status == STATUS_OK && i < stretch->count; i++)
        status = take_segment(worker, stretch->segments[i], INT64_MIN, fold_record, error);
    forget_ids(worker);
    return status;
}

enum status recompute_step_fold(struct worker *worker, struct error *error)
{
    const struct stretch *stretch;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (stretch = recompute_take(worker->job, worker->index)) != NULL)
        status = fold_stretch(worker, stretch, error);
    return status;
}
