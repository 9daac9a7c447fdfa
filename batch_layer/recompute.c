/* Recompute: see recompute.h.
 *
 * Three steps, each on all threads, with a join between them:
 *   fold    each thread takes segments from a queue and folds them into tables of its own
 *   split   each thread lists its groups by the table they belong to in the end
 *   merge   thread t merges every other thread's groups of shard t into its own table
 * In `merge` a thread writes to groups of its shard only, and groups never move, so what others
 * read stands still. States are commutative monoids: which thread folded what makes no difference.
 *
 * Where a definition compares ids (core/records/recent_ids.h), the segments of a partition are
 * folded in stretches: each is several segments that follow each other, folded by one thread in the
 * order of offsets, and before it the thread reads the records within reach below the stretch, only
 * for their ids. So every record is judged as in one pass over the log; a stretch is several times
 * as long as that reach, which bounds what is read twice.
 *
 * One event parser serves all versions of a topic whose source definitions are equal; several
 * definitions of one topic are parsed one after the other. */
#include "batch_layer/recompute.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "batch_layer/progress.h"
#include "core/records/event_parser.h"
#include "core/records/mask.h"
#include "core/program/program.h"
#include "core/records/recent_ids.h"
#include "core/time/watermark.h"

enum {
    THREADS_MAX = 256,
    STOP_CHECK_RECORDS = 4096,
    WAIT_MS = 100,
    STRETCH_REACHES = 4,    /* a stretch covers at least as many times what is read before it */
    STRETCHES_A_THREAD = 4, /* and no less than makes about as many for each thread */
};

/* Versions that read the same events. */
struct reading {
    const struct source *source;
    size_t *versions; /* indexes into the catalogue's */
    size_t version_count;
    bool newest;        /* the source's own definition, which decides what a record is */
    bool imported_only; /* no version has it: it is for the ledger of imported records */
};

/* What became of one record, over all definitions of its topic. */
struct verdict {
    bool dead; /* to the newest definition */
    bool duplicate;
    bool counted; /* by some version */
    bool rejected;
};

/* Segments of one partition that one thread folds, one after the other. */
struct stretch {
    const struct archive_segment **segments; /* into the job's list */
    size_t count;
    size_t before; /* segments of the partition below, which are at segments[-1], [-2], ... */
    int64_t raw_bytes;
};

struct group_list {
    struct group **items;
    size_t count;
    size_t capacity;
};

struct worker;

struct job {
    const struct config *config;
    const struct catalog *catalog;
    const struct recompute_segments *segments;
    struct cut *cuts;
    size_t cut_count;
    struct reading *readings;
    size_t reading_count;
    struct worker *workers;
    size_t worker_count;
    const struct archive_segment **order; /* all segments by partition and offset */
    struct stretch *stretches;            /* the largest first */
    size_t stretch_count;
    atomic_size_t next_stretch;
    atomic_bool failed;   /* some worker has; the others stop soon */
    atomic_llong folded;  /* records, for the progress bar */
    pthread_mutex_t lock; /* guards `running` */
    pthread_cond_t ended;
    size_t running;
};

struct worker {
    struct job *job;
    size_t index;
    enum status (*step)(struct worker *worker, struct error *error);
    pthread_t thread;
    struct event_parser **parsers; /* one for each reading */
    struct mask **masks;           /* one for each reading whose source has a mask */
    struct recent_ids **ids;       /* one for each reading that compares ids, in a stretch */
    struct groups **groups;        /* one for each version */
    struct group_list *lists;      /* [version * worker_count + table] */
    int64_t *watermarks;           /* one for each cut */
    struct cut_ledger *ledgers;    /* one for each cut; of imported records */
    struct recompute_counts counts;
    enum status status;
    struct error error;
};

/* --- segments --- */

static bool has_version(const struct catalog *catalog, const char *topic)
{
    for (size_t i = 0; i < catalog->version_count; i++)
        if (strcmp(catalog->versions[i].source->topic, topic) == 0)
            return true;
    return false;
}

/* Takes over the topic's segments that begin below their partition's cut-off. */
static enum status take_segments(struct recompute_segments *out, struct archive_segment *segments,
                                 size_t count, const struct cut *cuts, size_t cut_count,
                                 struct error *error)
{
    struct archive_segment *grown =
        realloc(out->items, (out->count + count + 1) * sizeof *out->items);
    if (grown == NULL)
        return error_no_memory(error);
    out->items = grown;
    for (size_t i = 0; i < count; i++) {
        const struct cut *cut =
            cut_find((struct cut *)cuts, cut_count, segments[i].topic, segments[i].partition);
        if (cut == NULL || segments[i].start_offset >= cut->offset)
            continue;
        out->items[out->count++] = segments[i];
        segments[i] = (struct archive_segment){0};
    }
    return STATUS_OK;
}

/* archive_manifest_list has checked that there is no gap between them. */
static enum status check_coverage(const struct recompute_segments *segments, const struct cut *cut,
                                  struct error *error)
{
    int64_t covered = cut->base_offset;
    for (size_t i = 0; i < segments->count; i++) {
        const struct archive_segment *segment = &segments->items[i];
        if (segment->partition == cut->partition && strcmp(segment->topic, cut->topic) == 0)
            covered = segment->end_offset;
    }
    if (covered >= cut->offset && cut->offset >= cut->base_offset)
        return STATUS_OK;
    return error_set(error, STATUS_FATAL,
                     "%s[%" PRId32 "]: the cut-off %" PRId64
                     " is outside of what is archived, %" PRId64 " to %" PRId64,
                     cut->topic, cut->partition, cut->offset, cut->base_offset, covered);
}

enum status recompute_list_segments(struct postgres *postgres, const struct catalog *catalog,
                                    const struct cut *cuts, size_t cut_count,
                                    struct recompute_segments *out, struct error *error)
{
    *out = (struct recompute_segments){0};
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < catalog->source_count; i++) {
        struct archive_segment *segments = NULL;
        size_t count = 0;
        if (!has_version(catalog, catalog->sources[i]->topic))
            continue;
        status =
            archive_manifest_list(postgres, catalog->sources[i]->topic, &segments, &count, error);
        if (status == STATUS_OK)
            status = take_segments(out, segments, count, cuts, cut_count, error);
        archive_segments_free(segments, count);
    }
    for (size_t i = 0; status == STATUS_OK && i < cut_count; i++)
        if (has_version(catalog, cuts[i].topic))
            status = check_coverage(out, &cuts[i], error);
    return status;
}

/* --- readings --- */

static enum status add_to_reading(struct reading *reading, size_t version, struct error *error)
{
    size_t *versions = realloc(reading->versions, (reading->version_count + 1) * sizeof *versions);
    if (versions == NULL)
        return error_no_memory(error);
    versions[reading->version_count++] = version;
    reading->versions = versions;
    return STATUS_OK;
}

/* Equal texts have their fields in the same order, so one event serves the views of both. */
/* The reading whose definition reads like `source`'s; NULL: there is none. */
static struct reading *find_reading(const struct job *job, const struct source *source)
{
    for (size_t i = 0; i < job->reading_count; i++)
        if (source_reads_alike(job->readings[i].source, source))
            return &job->readings[i];
    return NULL;
}

static enum status add_version(struct job *job, size_t version, struct error *error)
{
    const struct source *source = job->catalog->versions[version].source;
    struct reading *reading = find_reading(job, source);
    if (reading == NULL) {
        reading = &job->readings[job->reading_count++];
        *reading = (struct reading){.source = source};
    }
    return add_to_reading(reading, version, error);
}

/* Finds, or adds where imported records need it, the reading by the source's newest definition. */
static void add_newest(struct job *job, const struct source *source)
{
    if (!has_version(job->catalog, source->topic))
        return; /* its segments are not read */
    struct reading *reading = find_reading(job, source);
    if (reading != NULL)
        reading->newest = true;
    else if (cut_find(job->cuts, job->cut_count, source->topic, ARCHIVE_IMPORTED) != NULL)
        job->readings[job->reading_count++] =
            (struct reading){.source = source, .newest = true, .imported_only = true};
}

static enum status make_readings(struct job *job, struct error *error)
{
    const struct catalog *catalog = job->catalog;
    job->readings =
        calloc(catalog->version_count + catalog->source_count + 1, sizeof *job->readings);
    enum status status = job->readings == NULL ? error_no_memory(error) : STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < catalog->version_count; i++)
        status = add_version(job, i, error);
    for (size_t i = 0; status == STATUS_OK && i < catalog->source_count; i++)
        add_newest(job, catalog->sources[i]);
    return status;
}

/* --- stretches --- */

/* How far back the definitions of a topic compare ids; 0: none does. */
static int64_t reach_of(const struct job *job, const char *topic)
{
    int64_t reach = 0;
    for (size_t i = 0; i < job->reading_count; i++) {
        const struct source *source = job->readings[i].source;
        if (strcmp(source->topic, topic) == 0 && source->dedupe_within > reach)
            reach = source->dedupe_within;
    }
    return reach;
}

static bool same_partition(const struct archive_segment *a, const struct archive_segment *b)
{
    return a->partition == b->partition && strcmp(a->topic, b->topic) == 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct archive_segment *left = *(const struct archive_segment *const *)a;
    const struct archive_segment *right = *(const struct archive_segment *const *)b;
    int order = strcmp(left->topic, right->topic);
    if (order != 0)
        return order;
    if (left->partition != right->partition)
        return left->partition < right->partition ? -1 : 1;
    return left->start_offset < right->start_offset ? -1 : left->start_offset > right->start_offset;
}

/* The largest first: the last one that is taken from the queue should be a short one. */
static int compare_sizes(const void *a, const void *b)
{
    const struct stretch *left = a;
    const struct stretch *right = b;
    return left->raw_bytes < right->raw_bytes ? 1 : -(left->raw_bytes > right->raw_bytes);
}

/* One segment each, but for topics whose ids are compared. */
static void divide(struct job *job)
{
    int64_t records = 0;
    for (size_t i = 0; i < job->segments->count; i++)
        records += job->order[i]->record_count;
    int64_t fair = records / ((int64_t)job->worker_count * STRETCHES_A_THREAD);
    size_t before = 0;
    for (size_t i = 0; i < job->segments->count;) {
        const struct archive_segment *first = job->order[i];
        before = i > 0 && same_partition(job->order[i - 1], first) ? before : 0;
        int64_t reach = reach_of(job, first->topic);
        int64_t wanted = reach * STRETCH_REACHES > fair ? reach * STRETCH_REACHES : fair;
        struct stretch *stretch = &job->stretches[job->stretch_count++];
        *stretch = (struct stretch){.segments = &job->order[i], .before = before};
        do {
            stretch->raw_bytes += job->order[i]->raw_bytes;
            stretch->count++;
            i++;
        } while (reach > 0 && i < job->segments->count && same_partition(job->order[i], first) &&
                 job->order[i]->start_offset - first->start_offset < wanted);
        before += stretch->count;
    }
    if (job->stretch_count > 0)
        qsort(job->stretches, job->stretch_count, sizeof *job->stretches, compare_sizes);
}

static enum status make_stretches(struct job *job, struct error *error)
{
    size_t count = job->segments->count;
    job->order = calloc(count + 1, sizeof(struct archive_segment *));
    job->stretches = calloc(count + 1, sizeof *job->stretches);
    if (job->order == NULL || job->stretches == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < count; i++)
        job->order[i] = &job->segments->items[i];
    if (count > 0)
        qsort(job->order, count, sizeof(struct archive_segment *), compare_places);
    divide(job);
    return STATUS_OK;
}

/* --- step 1: fold --- */

static enum status fold_event(struct worker *worker, const struct reading *reading,
                              const struct event *event, const struct measure_origin *origin,
                              struct verdict *verdict, struct error *error)
{
    for (size_t i = 0; i < reading->version_count; i++) {
        enum fold_outcome outcome;
        enum status status =
            groups_fold(worker->groups[reading->versions[i]], event, origin, &outcome, error);
        if (status != STATUS_OK && status != STATUS_REJECT)
            return status;
        bool counted = status == STATUS_OK && outcome == FOLD_COUNTED;
        worker->counts.rejected += status == STATUS_REJECT;
        worker->counts.counted += counted;
        worker->counts.filtered += status == STATUS_OK && !counted;
        verdict->rejected = verdict->rejected || status == STATUS_REJECT;
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

static enum status fold_reading(struct worker *worker, size_t index,
                                const struct archive_segment *segment,
                                const struct archive_record *record, int64_t *watermark,
                                struct verdict *verdict, struct error *error)
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
    watermark_note(watermark, event.time_us, record->timestamp_ms);
    struct measure_origin origin = {
        .time_us = event.time_us, .partition = segment->partition, .offset = record->offset};
    return fold_event(worker, reading, &event, &origin, verdict, error);
}

/* What is done with each record of a segment. */
typedef enum status take_record(struct worker *worker, const struct archive_segment *segment,
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

static enum status fold_record(struct worker *worker, const struct archive_segment *segment,
                               const struct archive_record *record, struct error *error)
{
    struct job *job = worker->job;
    const struct cut *cut = cut_find(job->cuts, job->cut_count, segment->topic, segment->partition);
    if (record->offset >= cut->offset)
        return STATUS_OK;
    worker->counts.read++;
    worker->counts.raw_bytes += (int64_t)record->length;
    bool imported = segment->partition == ARCHIVE_IMPORTED;
    struct verdict verdict = {0};
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < job->reading_count; i++)
        if (strcmp(job->readings[i].source->topic, segment->topic) == 0 &&
            (imported || !job->readings[i].imported_only))
            status = fold_reading(worker, i, segment, record, &worker->watermarks[cut - job->cuts],
                                  &verdict, error);
    if (status == STATUS_OK && imported)
        count_verdict(&worker->ledgers[cut - job->cuts], &verdict);
    return status;
}

/* Only the id is of use. */
static enum status learn_record(struct worker *worker, const struct archive_segment *segment,
                                const struct archive_record *record, struct error *error)
{
    (void)segment;
    for (size_t i = 0; i < worker->job->reading_count; i++) {
        struct event event;
        bool duplicate;
        if (worker->ids[i] == NULL)
            continue;
        enum status status = read_record(worker, i, record, &event, &duplicate, error);
        if (status != STATUS_OK && status != STATUS_REJECT)
            return status;
    }
    return STATUS_OK;
}

static enum status take_records(struct worker *worker, struct archive_reader *reader,
                                const struct archive_segment *segment, int64_t first_offset,
                                take_record *take, struct error *error)
{
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
            status = take(worker, segment, &record, error);
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

static enum status take_segment(struct worker *worker, const struct archive_segment *segment,
                                int64_t first_offset, take_record *take, struct error *error)
{
    struct archive_reader *reader = NULL;
    enum status status =
        archive_reader_open(worker->job->config->batch_archive, segment, &reader, error);
    if (status == STATUS_OK)
        note_masks(worker, reader);
    if (status == STATUS_OK)
        status = take_records(worker, reader, segment, first_offset, take, error);
    archive_reader_close(reader);
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
    int64_t reach = reach_of(job, first->topic);
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

static enum status step_fold(struct worker *worker, struct error *error)
{
    struct job *job = worker->job;
    for (;;) {
        size_t index = atomic_fetch_add(&job->next_stretch, 1);
        if (index >= job->stretch_count)
            return STATUS_OK;
        enum status status = fold_stretch(worker, &job->stretches[index], error);
        if (status != STATUS_OK)
            return status;
    }
}

/* --- steps 2 and 3: split and merge --- */

static size_t table_of(size_t table_count, int64_t window_start_us, const unsigned char *key,
                       size_t key_length)
{
    if (table_count == 1)
        return 0;
    return XXH3_64bits_withSeed(key, key_length, (XXH64_hash_t)window_start_us) % table_count;
}

static enum status list_add(struct group_list *list, struct group *group, struct error *error)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 1024 : list->capacity * 2;
        struct group **items = reallocarray(list->items, capacity, sizeof *items);
        if (items == NULL)
            return error_no_memory(error);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = group;
    return STATUS_OK;
}

static enum status step_split(struct worker *worker, struct error *error)
{
    struct job *job = worker->job;
    for (size_t v = 0; v < job->catalog->version_count; v++) {
        struct group *group;
        for (size_t cursor = 0; (group = groups_next(worker->groups[v], &cursor)) != NULL;) {
            size_t table =
                table_of(job->worker_count, group->window_start_us, group->key, group->key_length);
            if (table == worker->index)
                continue; /* is where it belongs */
            enum status status =
                list_add(&worker->lists[v * job->worker_count + table], group, error);
            if (status != STATUS_OK)
                return status;
        }
    }
    return STATUS_OK;
}

static enum status merge_list(struct groups *into, const struct group_list *list,
                              struct error *error)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct group *from = list->items[i];
        struct group *group;
        enum status status = groups_find_or_add(into, from->window_start_us, from->key,
                                                from->key_length, &group, error);
        if (status == STATUS_OK)
            status = groups_merge_states(into, group, from->state, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status step_merge(struct worker *worker, struct error *error)
{
    struct job *job = worker->job;
    for (size_t v = 0; v < job->catalog->version_count; v++) {
        for (size_t other = 0; other < job->worker_count; other++) {
            if (other == worker->index)
                continue;
            const struct group_list *list =
                &job->workers[other].lists[v * job->worker_count + worker->index];
            enum status status = merge_list(worker->groups[v], list, error);
            if (status != STATUS_OK)
                return status;
        }
    }
    return STATUS_OK;
}

/* --- threads --- */

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct job *job = worker->job;
    worker->status = worker->step(worker, &worker->error);
    if (worker->status != STATUS_OK)
        atomic_store(&job->failed, true);
    pthread_mutex_lock(&job->lock);
    job->running--;
    pthread_cond_signal(&job->ended);
    pthread_mutex_unlock(&job->lock);
    return NULL;
}

/* Waits until every worker has ended, and shows how far they are. */
static void watch_workers(struct job *job, struct progress *progress)
{
    pthread_mutex_lock(&job->lock);
    while (job->running > 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += WAIT_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&job->ended, &job->lock, &until);
        progress_update(progress, atomic_load(&job->folded));
    }
    pthread_mutex_unlock(&job->lock);
}

/* The reason of the failure, not the "stopped" of those that stopped because of it. */
static enum status first_failure(const struct job *job, struct error *error)
{
    const struct worker *found = NULL;
    for (size_t i = 0; i < job->worker_count; i++) {
        const struct worker *worker = &job->workers[i];
        if (worker->status == STATUS_OK)
            continue;
        if (found == NULL || (found->status == STATUS_RETRY && worker->status != STATUS_RETRY))
            found = worker;
    }
    if (found == NULL)
        return STATUS_OK;
    *error = found->error;
    return found->status;
}

static enum status run_step(struct job *job,
                            enum status (*step)(struct worker *worker, struct error *error),
                            struct progress *progress, struct error *error)
{
    size_t started = 0;
    job->running = job->worker_count;
    for (; started < job->worker_count; started++) {
        job->workers[started].step = step;
        if (pthread_create(&job->workers[started].thread, NULL, worker_main,
                           &job->workers[started]) != 0)
            break;
    }
    if (started < job->worker_count) {
        atomic_store(&job->failed, true);
        pthread_mutex_lock(&job->lock);
        job->running -= job->worker_count - started;
        pthread_mutex_unlock(&job->lock);
    }
    watch_workers(job, progress);
    for (size_t i = 0; i < started; i++)
        pthread_join(job->workers[i].thread, NULL);
    if (started < job->worker_count)
        return error_set(error, STATUS_FATAL, "cannot start a thread");
    return first_failure(job, error);
}

static size_t thread_count(const struct config *config, size_t segments)
{
    int64_t threads = config->batch_threads;
    if (threads <= 0)
        threads = sysconf(_SC_NPROCESSORS_ONLN);
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    if (threads > (int64_t)segments)
        threads = (int64_t)segments;
    return threads < 1 ? 1 : (size_t)threads;
}

/* --- the whole --- */

static enum status worker_init(struct job *job, size_t index, struct error *error)
{
    struct worker *worker = &job->workers[index];
    size_t versions = job->catalog->version_count;
    worker->job = job;
    worker->index = index;
    worker->parsers = calloc(job->reading_count + 1, sizeof *worker->parsers);
    worker->masks = calloc(job->reading_count + 1, sizeof *worker->masks);
    worker->ids = calloc(job->reading_count + 1, sizeof *worker->ids);
    worker->groups = calloc(versions + 1, sizeof *worker->groups);
    worker->lists = calloc(versions * job->worker_count + 1, sizeof *worker->lists);
    worker->watermarks = calloc(job->cut_count + 1, sizeof *worker->watermarks);
    worker->ledgers = calloc(job->cut_count + 1, sizeof *worker->ledgers);
    if (worker->parsers == NULL || worker->masks == NULL || worker->ids == NULL ||
        worker->groups == NULL || worker->lists == NULL || worker->watermarks == NULL ||
        worker->ledgers == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < job->cut_count; i++)
        worker->watermarks[i] = WATERMARK_NONE;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < job->reading_count; i++)
        status = event_parser_create(job->readings[i].source, &worker->parsers[i], error);
    for (size_t i = 0; status == STATUS_OK && i < job->reading_count; i++)
        if (job->readings[i].source->mask_count > 0)
            status = mask_create(job->readings[i].source, &worker->masks[i], error);
    for (size_t i = 0; status == STATUS_OK && i < versions; i++)
        status = groups_create(job->catalog->versions[i].view, &worker->groups[i], error);
    return status;
}

static void worker_deinit(struct worker *worker)
{
    if (worker->job == NULL)
        return;
    for (size_t i = 0; worker->parsers != NULL && i < worker->job->reading_count; i++)
        event_parser_destroy(worker->parsers[i]);
    for (size_t i = 0; worker->masks != NULL && i < worker->job->reading_count; i++)
        mask_destroy(worker->masks[i]);
    size_t versions = worker->job->catalog->version_count;
    for (size_t i = 0; worker->groups != NULL && i < versions; i++)
        groups_destroy(worker->groups[i]);
    for (size_t i = 0; worker->lists != NULL && i < versions * worker->job->worker_count; i++)
        free(worker->lists[i].items);
    free(worker->parsers);
    free(worker->masks);
    free(worker->ids);
    free(worker->groups);
    free(worker->lists);
    free(worker->watermarks);
    free(worker->ledgers);
}

static enum status job_init(struct job *job, struct error *error)
{
    pthread_mutex_init(&job->lock, NULL);
    pthread_cond_init(&job->ended, NULL);
    enum status status = make_readings(job, error);
    if (status != STATUS_OK)
        return status;
    job->worker_count = thread_count(job->config, job->segments->count);
    status = make_stretches(job, error);
    if (status != STATUS_OK)
        return status;
    job->workers = calloc(job->worker_count, sizeof *job->workers);
    if (job->workers == NULL)
        return error_no_memory(error);
    for (size_t i = 0; status == STATUS_OK && i < job->worker_count; i++)
        status = worker_init(job, i, error);
    return status;
}

static void job_deinit(struct job *job)
{
    for (size_t i = 0; job->workers != NULL && i < job->worker_count; i++)
        worker_deinit(&job->workers[i]);
    for (size_t i = 0; job->readings != NULL && i < job->reading_count; i++) {
        free(job->readings[i].versions);
    }
    free(job->workers);
    free(job->readings);
    free(job->order);
    free(job->stretches);
    pthread_cond_destroy(&job->ended);
    pthread_mutex_destroy(&job->lock);
}

static void collect(const struct job *job, struct recompute_counts *counts)
{
    for (size_t w = 0; w < job->worker_count; w++) {
        const struct worker *worker = &job->workers[w];
        counts->read += worker->counts.read;
        counts->raw_bytes += worker->counts.raw_bytes;
        counts->dead += worker->counts.dead;
        counts->counted += worker->counts.counted;
        counts->filtered += worker->counts.filtered;
        counts->rejected += worker->counts.rejected;
        counts->duplicates += worker->counts.duplicates;
        for (size_t i = 0; i < job->cut_count; i++) {
            struct cut *cut = &job->cuts[i];
            cut->ledger.consumed += worker->ledgers[i].consumed;
            cut->ledger.counted += worker->ledgers[i].counted;
            cut->ledger.filtered += worker->ledgers[i].filtered;
            cut->ledger.duplicate += worker->ledgers[i].duplicate;
            cut->ledger.dead_lettered += worker->ledgers[i].dead_lettered;
            if (worker->watermarks[i] == WATERMARK_NONE ||
                (cut->has_watermark && cut->watermark_us >= worker->watermarks[i]))
                continue;
            cut->has_watermark = true;
            cut->watermark_us = worker->watermarks[i];
        }
    }
}

/* Takes the workers' tables over as the result. */
static enum status take_tables(struct job *job, struct recompute **out, struct error *error)
{
    size_t versions = job->catalog->version_count;
    struct recompute *recompute = calloc(1, sizeof *recompute);
    if (recompute == NULL)
        return error_no_memory(error);
    recompute->catalog = job->catalog;
    recompute->table_count = job->worker_count;
    recompute->tables = calloc(versions + 1, sizeof *recompute->tables);
    for (size_t v = 0; recompute->tables != NULL && v < versions; v++) {
        recompute->tables[v] = calloc(job->worker_count, sizeof **recompute->tables);
        if (recompute->tables[v] == NULL) {
            recompute_destroy(recompute);
            return error_no_memory(error);
        }
        for (size_t w = 0; w < job->worker_count; w++) {
            recompute->tables[v][w] = job->workers[w].groups[v];
            job->workers[w].groups[v] = NULL;
        }
    }
    if (recompute->tables == NULL) {
        recompute_destroy(recompute);
        return error_no_memory(error);
    }
    collect(job, &recompute->counts);
    *out = recompute;
    return STATUS_OK;
}

enum status recompute_run(const struct config *config, const struct catalog *catalog,
                          const struct recompute_segments *segments, struct cut *cuts,
                          size_t cut_count, struct recompute **out, struct error *error)
{
    *out = NULL;
    struct job job = {.config = config,
                      .catalog = catalog,
                      .segments = segments,
                      .cuts = cuts,
                      .cut_count = cut_count};
    int64_t total = 0;
    for (size_t i = 0; i < segments->count; i++)
        total += segments->items[i].record_count;
    struct progress progress;
    progress_begin(&progress, "process", "records", total);
    enum status status = job_init(&job, error);
    if (status == STATUS_OK)
        status = run_step(&job, step_fold, &progress, error);
    if (status == STATUS_OK && job.worker_count > 1)
        status = run_step(&job, step_split, &progress, error);
    if (status == STATUS_OK && job.worker_count > 1)
        status = run_step(&job, step_merge, &progress, error);
    if (status == STATUS_OK)
        status = take_tables(&job, out, error);
    progress_end(&progress, status == STATUS_OK ? (*out)->counts.read : 0);
    job_deinit(&job);
    return status;
}

void recompute_destroy(struct recompute *recompute)
{
    if (recompute == NULL)
        return;
    for (size_t v = 0; recompute->tables != NULL && v < recompute->catalog->version_count; v++) {
        for (size_t t = 0; recompute->tables[v] != NULL && t < recompute->table_count; t++)
            groups_destroy(recompute->tables[v][t]);
        free(recompute->tables[v]);
    }
    free(recompute->tables);
    free(recompute);
}

/* --- the result --- */

size_t recompute_table(const struct recompute *recompute, int64_t window_start_us,
                       const unsigned char *key, size_t key_length)
{
    return table_of(recompute->table_count, window_start_us, key, key_length);
}

struct group *recompute_next(const struct recompute *recompute, size_t index, size_t *table,
                             size_t *cursor)
{
    for (; *table < recompute->table_count; (*table)++, *cursor = 0) {
        struct group *group;
        while ((group = groups_next(recompute->tables[index][*table], cursor)) != NULL)
            if (recompute_table(recompute, group->window_start_us, group->key, group->key_length) ==
                *table)
                return group;
    }
    return NULL;
}

struct group *recompute_find(const struct recompute *recompute, size_t index,
                             int64_t window_start_us, const unsigned char *key, size_t key_length)
{
    size_t table = recompute_table(recompute, window_start_us, key, key_length);
    return groups_find(recompute->tables[index][table], window_start_us, key, key_length);
}
