/* Folding records into the open slice of one partition: see partition.h. */
#include "speed_layer/partition.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/records/recent_ids.h"
#include "core/time/watermark.h"

enum {
    /* Larger tables are given back when a slice closes: the next one may be smaller. */
    KEPT_TABLE_BYTES = 1 << 16,
    AS_OF_STEP_US = 1000000,
};

/* --- life --- */

enum status partition_init(struct partition *partition, const char *topic, int32_t number,
                           struct error *error)
{
    *partition = (struct partition){.partition = number,
                                    .check_offset = -1,
                                    .last_offset = -1,
                                    .newest_timestamp_ms = -1,
                                    .watermark_us = WATERMARK_NONE};
    partition->topic = strdup(topic);
    return partition->topic != NULL ? STATUS_OK : error_no_memory(error);
}

void partition_discard(struct partition *partition)
{
    for (size_t i = 0; i < partition->view_count; i++)
        groups_destroy(partition->views[i].groups);
    free(partition->views);
    free(partition->cuts);
    for (size_t i = 0; partition->ids != NULL && i < partition->ids_count; i++)
        recent_ids_destroy(partition->ids[i]);
    free(partition->ids);
    *partition = (struct partition){.topic = partition->topic,
                                    .partition = partition->partition,
                                    .check_offset = -1,
                                    .last_offset = -1,
                                    .newest_timestamp_ms = -1,
                                    .watermark_us = WATERMARK_NONE};
}

void partition_deinit(struct partition *partition)
{
    partition_discard(partition);
    free(partition->topic);
    partition->topic = NULL;
}

/* One set of ids for each definition that compares them; recall_offset for the one that reaches
 * furthest back. The history begins at the base. */
static enum status begin_ids(struct partition *partition, const struct claim *claim,
                             struct error *error)
{
    const struct feed *feed = partition->feed;
    partition->recall_offset = claim->next_offset;
    partition->ids = calloc(feed->parser_count, sizeof *partition->ids);
    if (partition->ids == NULL)
        return error_no_memory(error);
    partition->ids_count = feed->parser_count;
    for (size_t i = 0; i < feed->parser_count; i++) {
        int64_t within = feed->parsers[i].source->dedupe_within;
        if (within == 0)
            continue;
        enum status status = recent_ids_create(within, feed->id_secret, &partition->ids[i], error);
        if (status != STATUS_OK)
            return status;
        int64_t first = claim->next_offset - within;
        if (first < claim->base_offset)
            first = claim->base_offset;
        if (first < partition->recall_offset)
            partition->recall_offset = first;
    }
    return STATUS_OK;
}

enum status partition_begin(struct partition *partition, struct claim *claim, struct feed *feed,
                            int64_t now_us, struct error *error)
{
    assert(!partition->claimed && claim->claimed);
    partition->feed = feed;
    partition->views = calloc(feed->version_count + 1, sizeof *partition->views);
    if (partition->views == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < feed->version_count; i++) {
        struct partition_view *view = &partition->views[partition->view_count];
        view->version = &feed->versions[i];
        enum status status = groups_create(view->version->version->view, &view->groups, error);
        if (status != STATUS_OK)
            return status;
        partition->view_count++;
    }
    enum status status = begin_ids(partition, claim, error);
    if (status != STATUS_OK)
        return status;
    partition->epoch = claim->epoch;
    partition->next_offset = claim->next_offset;
    partition->slice_start = claim->next_offset;
    partition->slice_began_us = now_us;
    partition->handed_offset = claim->next_offset;
    partition->handed_slice_start = claim->next_offset;
    partition->cuts = claim->cuts;
    partition->cut_count = claim->cut_count;
    claim->cuts = NULL;
    claim->cut_count = 0;
    partition->claimed = true;
    return STATUS_OK;
}

size_t partition_memory_bytes(const struct partition *partition)
{
    size_t bytes = 0;
    for (size_t i = 0; i < partition->view_count; i++)
        bytes += groups_memory_bytes(partition->views[i].groups);
    return bytes;
}

size_t partition_pending_bytes(const struct partition *partition)
{
    size_t bytes = 0;
    for (size_t i = 0; i < partition->view_count; i++)
        bytes += groups_changed_bytes(partition->views[i].groups);
    return bytes;
}

/* --- slices --- */

static enum status encode_groups(struct partition *partition, struct flush *flush, bool closing,
                                 struct error *error)
{
    for (size_t i = 0; i < partition->view_count; i++) {
        struct partition_view *view = &partition->views[i];
        enum status status = flush_add_groups(flush, view->version->index, partition->partition,
                                              partition->slice_start, view->groups, closing, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status empty_groups(struct partition_view *view, struct error *error)
{
    if (groups_memory_bytes(view->groups) <= KEPT_TABLE_BYTES) {
        groups_clear(view->groups);
        return STATUS_OK;
    }
    groups_destroy(view->groups);
    view->groups = NULL;
    return groups_create(view->version->version->view, &view->groups, error);
}

enum status partition_cut(struct partition *partition, struct flush *flush, int64_t now_us,
                          struct error *error)
{
    partition->slice_began_us = now_us;
    if (partition->next_offset == partition->slice_start)
        return STATUS_OK; /* the open slice begins here already */
    flush->slices++;
    enum status status = encode_groups(partition, flush, true, error);
    for (size_t i = 0; status == STATUS_OK && i < partition->view_count; i++)
        status = empty_groups(&partition->views[i], error);
    partition->slice_start = partition->next_offset;
    return status;
}

/* Starts a slice exactly at every planned cut up to `offset`, which is where folding goes on. */
static enum status pass_cuts(struct partition *partition, int64_t offset, struct flush *flush,
                             struct error *error)
{
    while (partition->cuts_passed < partition->cut_count &&
           partition->cuts[partition->cuts_passed] <= offset) {
        int64_t cut = partition->cuts[partition->cuts_passed++];
        /* No record lies between next_offset and the cut: the one at `offset` is the next. */
        if (cut > partition->next_offset)
            partition->next_offset = cut;
        enum status status = partition_cut(partition, flush, partition->slice_began_us, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* --- records --- */

static void note_rejection(struct rejection *rejection, const char *view, const struct error *error)
{
    if (view == NULL || rejection->view_count == 0) {
        snprintf(rejection->reason, sizeof rejection->reason, "%s", error->text);
    } else {
        struct error both;
        error_set(&both, STATUS_REJECT, "%s; %s", rejection->reason, error->text);
        snprintf(rejection->reason, sizeof rejection->reason, "%s", both.text);
    }
    if (view == NULL)
        return;
    for (size_t i = 0; i < rejection->view_count; i++)
        if (strcmp(rejection->views[i], view) == 0)
            return; /* two versions of one view */
    if (rejection->view_count < REJECTION_VIEWS_MAX)
        rejection->views[rejection->view_count++] = view;
}

/* With one definition. STATUS_REJECT: it refuses the record, which then has no id either. */
static enum status parse_with(struct partition *partition, size_t index,
                              const struct record *record, struct error *error)
{
    struct feed_parser *parser = &partition->feed->parsers[index];
    parser->parsed = parser->duplicate = false;
    if (record->value == NULL)
        return error_set(error, STATUS_REJECT, "the record has no value");
    enum status status = event_parser_parse(parser->parser, record->value, record->length,
                                            record->length, &parser->event, error);
    if (status != STATUS_OK)
        return status;
    parser->parsed = true;
    if (partition->ids[index] == NULL)
        return STATUS_OK;
    return recent_ids_add(partition->ids[index],
                          &parser->event.fields[parser->source->dedupe_field], record->offset,
                          &parser->duplicate, error);
}

/* A record below next_offset: only its id is of use, and whether it is the one that was there. */
static enum status learn(struct partition *partition, const struct record *record,
                         enum record_outcome *outcome, struct error *error)
{
    if (record->offset >= partition->check_offset) {
        bool foreign = record->offset == partition->check_offset &&
                       record->timestamp_ms != partition->newest_timestamp_ms;
        partition->check_offset = -1;
        if (foreign) {
            *outcome = RECORD_FOREIGN;
            return STATUS_OK;
        }
    }
    if (record->offset < partition->recall_offset)
        return STATUS_OK;
    for (size_t i = 0; i < partition->ids_count; i++) {
        enum status status =
            partition->ids[i] == NULL ? STATUS_OK : parse_with(partition, i, record, error);
        if (status != STATUS_OK && status != STATUS_REJECT)
            return status;
    }
    partition->recall_offset = record->offset + 1;
    *outcome = RECORD_LEARNED;
    return STATUS_OK;
}

int64_t partition_read_offset(const struct partition *partition)
{
    int64_t offset = partition->recall_offset < partition->next_offset ? partition->recall_offset
                                                                       : partition->next_offset;
    return partition->check_offset >= 0 && partition->check_offset < offset
               ? partition->check_offset
               : offset;
}

/* The newest definition decides what the record is; the others only what their versions make of
 * it. */
static enum status parse(struct partition *partition, const struct record *record,
                         struct rejection *rejection, bool *dead, struct error *error)
{
    *dead = false;
    for (size_t i = 0; i < partition->feed->parser_count; i++) {
        enum status status = parse_with(partition, i, record, error);
        if (status == STATUS_OK)
            continue;
        if (status != STATUS_REJECT)
            return status;
        if (i == 0) {
            *dead = true;
            note_rejection(rejection, NULL, error);
        }
    }
    return STATUS_OK;
}

static enum status fold_into_view(const struct partition *partition, struct partition_view *view,
                                  const struct record *record, bool settled, bool *counted,
                                  bool *rejected, struct rejection *rejection, struct error *error)
{
    const struct feed_parser *parser = &partition->feed->parsers[view->version->parser];
    if (parser->duplicate)
        return STATUS_OK;
    if (!parser->parsed) {
        /* Refused by an older definition alone: this version's own affair. */
        view->rejected += settled ? 0 : 1;
        return STATUS_OK;
    }
    const struct measure_origin origin = {.time_us = parser->event.time_us,
                                          .partition = partition->partition,
                                          .offset = record->offset};
    enum fold_outcome outcome;
    enum status status = groups_fold(view->groups, &parser->event, &origin, &outcome, error);
    if (status == STATUS_REJECT) {
        view->rejected++;
        *rejected = true;
        if (!settled)
            note_rejection(rejection, view->version->version->view->name, error);
        return STATUS_OK;
    }
    if (status != STATUS_OK)
        return status;
    if (outcome == FOLD_COUNTED) {
        view->counted++;
        *counted = true;
    } else {
        view->filtered++;
    }
    return STATUS_OK;
}

static void move_watermark(struct partition *partition, const struct record *record)
{
    const struct feed_parser *newest = &partition->feed->parsers[0];
    if (newest->parsed && !newest->duplicate)
        watermark_note(&partition->watermark_us, newest->event.time_us, record->timestamp_ms);
}

static void count_outcome(struct partition *partition, enum record_outcome outcome)
{
    partition->consumed++;
    partition->counted += outcome == RECORD_COUNTED;
    partition->filtered += outcome == RECORD_FILTERED;
    partition->duplicate += outcome == RECORD_DUPLICATE;
    partition->dead_lettered += outcome == RECORD_DEAD;
}

enum status partition_fold(struct partition *partition, const struct record *record,
                           struct flush *flush, enum record_outcome *outcome,
                           struct rejection *rejection, struct error *error)
{
    *outcome = RECORD_STALE;
    if (record->offset < partition->next_offset)
        return learn(partition, record, outcome, error);
    rejection->view_count = 0;
    bool dead = false;
    bool counted = false;
    bool rejected = false;
    enum status status = STATUS_OK;
    if (partition->cuts_passed < partition->cut_count)
        status = pass_cuts(partition, record->offset, flush, error);
    if (status == STATUS_OK)
        status = parse(partition, record, rejection, &dead, error);
    /* What the newest definition takes for bad or for a duplicate is nothing else besides, whatever
     * versions with an older definition make of it. */
    bool duplicate = partition->feed->parsers[0].duplicate;
    for (size_t i = 0; status == STATUS_OK && i < partition->view_count; i++)
        status = fold_into_view(partition, &partition->views[i], record, dead || duplicate,
                                &counted, &rejected, rejection, error);
    if (status != STATUS_OK)
        return status;
    *outcome = duplicate          ? RECORD_DUPLICATE
               : dead || rejected ? RECORD_DEAD
               : counted          ? RECORD_COUNTED
                                  : RECORD_FILTERED;
    count_outcome(partition, *outcome);
    move_watermark(partition, record);
    partition->next_offset = partition->recall_offset = record->offset + 1;
    partition->last_offset = record->offset;
    partition->newest_timestamp_ms = record->timestamp_ms;
    partition->check_offset = -1; /* it would have come before */
    return STATUS_OK;
}

enum status partition_pass(struct partition *partition, int64_t offset, struct flush *flush,
                           struct error *error)
{
    enum status status = STATUS_OK;
    if (offset > partition->recall_offset)
        partition->recall_offset = offset;
    if (offset < partition->next_offset)
        return STATUS_OK;
    status = pass_cuts(partition, offset, flush, error);
    partition->next_offset = offset;
    return status;
}

enum status partition_reach_end(struct partition *partition, int64_t end_offset,
                                struct flush *flush, struct error *error)
{
    if (end_offset < partition->next_offset)
        return STATUS_OK;         /* of an earlier assignment */
    partition->check_offset = -1; /* it would have come before the end */
    /* What lies between is no record: markers of transactions, or compacted away. */
    return partition_pass(partition, end_offset, flush, error);
}

/* --- freshness --- */

/* Takes the ends that P has reached. */
static void settle_as_of(struct partition *partition)
{
    size_t reached = 0;
    while (reached < partition->end_count &&
           partition->ends[reached].offset <= partition->next_offset)
        reached++;
    if (reached == 0)
        return;
    if (partition->ends[reached - 1].asked_us > partition->as_of_us)
        partition->as_of_us = partition->ends[reached - 1].asked_us;
    partition->end_count -= reached;
    memmove(partition->ends, partition->ends + reached,
            partition->end_count * sizeof *partition->ends);
    if (partition->end_count == 0)
        partition->end_spacing_us = 0;
}

/* Every second one goes, and new ones come at this distance from then on: however far behind the
 * log P is, as_of lags by about an eighth of that. */
static void thin_ends(struct partition *partition)
{
    size_t kept = 0;
    for (size_t i = 1; i < partition->end_count; i += 2)
        partition->ends[kept++] = partition->ends[i];
    partition->end_count = kept;
    partition->end_spacing_us =
        (partition->ends[kept - 1].asked_us - partition->ends[0].asked_us) / (int64_t)(kept - 1);
}

void partition_note_end(struct partition *partition, int64_t end_offset, int64_t asked_us)
{
    settle_as_of(partition);
    if (partition->end_count > 0 &&
        asked_us - partition->ends[partition->end_count - 1].asked_us < partition->end_spacing_us)
        return;
    if (partition->end_count == PARTITION_ENDS_MAX)
        thin_ends(partition);
    partition->ends[partition->end_count++] =
        (struct partition_end){.offset = end_offset, .asked_us = asked_us};
    settle_as_of(partition);
}

static bool is_told_as_of(const struct partition *partition)
{
    return partition->handed_as_of_us > partition->handed_at_us;
}

bool partition_follows_log(const struct partition *partition)
{
    return partition->claimed && partition->check_offset < 0 && !partition->foreign &&
           (partition->supply == SUPPLY_KAFKA || partition->supply == SUPPLY_ARCHIVE);
}

bool partition_wants_end(const struct partition *partition)
{
    return partition_follows_log(partition) &&
           (partition->next_offset != partition->handed_offset || !is_told_as_of(partition));
}

/* --- handing over --- */

bool partition_has_news(const struct partition *partition)
{
    return partition->claimed &&
           (partition->next_offset != partition->handed_offset ||
            partition->slice_start != partition->handed_slice_start || partition->cut_answered ||
            partition->as_of_us - partition->handed_as_of_us >= AS_OF_STEP_US ||
            (partition->as_of_us > partition->handed_at_us && !is_told_as_of(partition)));
}

static enum status hand_over_ledgers(struct partition *partition, struct flush *flush,
                                     struct error *error)
{
    for (size_t i = 0; i < partition->view_count; i++) {
        struct partition_view *view = &partition->views[i];
        if (view->counted == 0 && view->filtered == 0 && view->rejected == 0)
            continue;
        const struct flush_ledger ledger = {.version = view->version->version->version,
                                            .topic = partition->feed->source->topic,
                                            .partition = partition->partition,
                                            .counted = view->counted,
                                            .filtered = view->filtered,
                                            .rejected = view->rejected};
        enum status status = flush_add_ledger(flush, &ledger, error);
        if (status != STATUS_OK)
            return status;
        view->counted = view->filtered = view->rejected = 0;
    }
    return STATUS_OK;
}

enum status partition_hand_over(struct partition *partition, struct flush *flush, int64_t clock_us,
                                struct error *error)
{
    settle_as_of(partition);
    const struct flush_partition entry = {
        .topic = partition->feed->source->topic,
        .partition = partition->partition,
        .epoch = partition->epoch,
        .expected_offset = partition->handed_offset,
        .next_offset = partition->next_offset,
        .slice_start = partition->slice_start,
        .cut_answered = partition->cut_answered,
        .has_watermark = partition->watermark_us != WATERMARK_NONE,
        .watermark_us = partition->watermark_us,
        .has_as_of = partition->as_of_us > 0,
        .as_of_us = partition->as_of_us,
        .consumed = partition->consumed,
        .counted = partition->counted,
        .filtered = partition->filtered,
        .duplicate = partition->duplicate,
        .dead_lettered = partition->dead_lettered,
        .last_offset = partition->last_offset,
        .last_timestamp_ms = partition->newest_timestamp_ms,
    };
    enum status status = encode_groups(partition, flush, false, error);
    if (status == STATUS_OK)
        status = hand_over_ledgers(partition, flush, error);
    if (status == STATUS_OK)
        status = flush_add_partition(flush, &entry, error);
    if (partition->next_offset != partition->handed_offset)
        partition->handed_at_us = clock_us;
    partition->handed_offset = partition->next_offset;
    partition->handed_slice_start = partition->slice_start;
    partition->handed_as_of_us = partition->as_of_us;
    partition->cut_answered = false;
    partition->consumed = partition->counted = partition->filtered = 0;
    partition->duplicate = partition->dead_lettered = 0;
    return status;
}
