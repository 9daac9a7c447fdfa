/* Who reads what: the readings of the definitions, the routes of records, the stretches of
 * segments, and the threads' shares of them.
 *
 * Where a definition compares ids (core/records/recent_ids.h), the segments of a partition are
 * folded in stretches: each is several segments that follow each other, folded by one thread in the
 * order of offsets, and before it the thread reads the records within reach below the stretch, only
 * for their ids. So every record is judged as in one pass over the log; a stretch is several times
 * as long as that reach, which bounds what is read twice.
 *
 * Segments that lie wholly below what anybody folds are in no stretch: they are read for ids at the
 * most. One event parser serves all versions of a topic whose source definitions are equal; several
 * definitions of one topic are parsed one after the other. */
#include "batch_layer/recompute_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    STRETCH_REACHES = 4,    /* a stretch covers at least as many times what is read before it */
    STRETCHES_A_THREAD = 4, /* and no less than makes about as many for each thread */
};

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
    if (!segments_are_read(job->catalog, source->topic))
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

/* --- routes --- */

static struct route route_of(const struct job *job, size_t version, size_t cut)
{
    struct route route = {.from = INT64_MIN, .below = RECOMPUTE_REST, .above = RECOMPUTE_REST};
    if (job->reuse == NULL)
        return route;
    enum reuse_kind kind = job->reuse->versions[version].kind;
    route.from = job->cuts[cut].reused_offset;
    route.skips = kind == REUSE_ROWS;
    if (kind == REUSE_COMPARE)
        route.below = RECOMPUTE_OLD;
    if (job->reuse->covered[version * job->cut_count + cut])
        route.above = RECOMPUTE_SPEED;
    return route;
}

/* The first offset of a partition that somebody folds by this reading. */
static int64_t start_of(const struct job *job, const struct reading *reading, size_t cut)
{
    if (job->reuse == NULL || job->reuse->recount[cut])
        return INT64_MIN;
    if (reading->version_count == 0)
        return job->cuts[cut].reused_offset;
    int64_t start = INT64_MAX;
    for (size_t i = 0; i < reading->version_count; i++) {
        const struct route *route = &job->routes[reading->versions[i] * job->cut_count + cut];
        int64_t from = route->skips ? route->from : INT64_MIN;
        start = from < start ? from : start;
    }
    return start;
}

static enum status make_routes(struct job *job, struct error *error)
{
    size_t versions = job->catalog->version_count;
    job->routes = calloc(versions * job->cut_count + 1, sizeof *job->routes);
    if (job->routes == NULL)
        return error_no_memory(error);
    for (size_t v = 0; v < versions; v++)
        for (size_t c = 0; c < job->cut_count; c++)
            job->routes[v * job->cut_count + c] = route_of(job, v, c);
    for (size_t r = 0; r < job->reading_count; r++) {
        struct reading *reading = &job->readings[r];
        reading->starts = calloc(job->cut_count + 1, sizeof *reading->starts);
        if (reading->starts == NULL)
            return error_no_memory(error);
        for (size_t c = 0; c < job->cut_count; c++)
            reading->starts[c] = start_of(job, reading, c);
    }
    return STATUS_OK;
}

/* --- stretches --- */

int64_t recompute_reach(const struct job *job, const char *topic)
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

static int compare_stretches(const void *a, const void *b)
{
    const struct stretch *left = a;
    const struct stretch *right = b;
    return left->place < right->place ? -1 : left->place > right->place;
}

/* Whether somebody folds records of the segment. */
static bool is_wanted(const struct job *job, const struct archive_segment *segment)
{
    const struct cut *cut = cut_find(job->cuts, job->cut_count, segment->topic, segment->partition);
    for (size_t i = 0; cut != NULL && i < job->reading_count; i++) {
        const struct reading *reading = &job->readings[i];
        if (strcmp(reading->source->topic, segment->topic) == 0 &&
            (!reading->imported_only || segment->partition == ARCHIVE_IMPORTED) &&
            segment->end_offset > reading->starts[cut - job->cuts])
            return true;
    }
    return false;
}

/* One segment each, but for topics whose ids are compared. What is wanted of a partition is its
 * end, so the segments of a stretch follow each other. */
static void make_stretches(struct job *job)
{
    int64_t fair = job->wanted_records / ((int64_t)job->worker_count * STRETCHES_A_THREAD);
    size_t before = 0;
    for (size_t i = 0; i < job->segments->count;) {
        const struct archive_segment *first = job->order[i];
        before = i > 0 && same_partition(job->order[i - 1], first) ? before : 0;
        if (!is_wanted(job, first)) {
            before++;
            i++;
            continue;
        }
        int64_t reach = recompute_reach(job, first->topic);
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
}

/* Stretches are in the order of partitions and offsets. */
static void place_stretches(struct job *job)
{
    for (size_t i = 0, next; i < job->stretch_count; i = next) {
        const struct archive_segment *first = job->stretches[i].segments[0];
        int64_t bytes = 0;
        int64_t below = 0;
        for (next = i;
             next < job->stretch_count && same_partition(job->stretches[next].segments[0], first);
             next++)
            bytes += job->stretches[next].raw_bytes;
        for (size_t j = i; j < next; j++) {
            struct stretch *stretch = &job->stretches[j];
            stretch->place = ((double)below + (double)stretch->raw_bytes / 2) / ((double)bytes + 1);
            below += stretch->raw_bytes;
        }
    }
    if (job->stretch_count > 0)
        qsort(job->stretches, job->stretch_count, sizeof *job->stretches, compare_stretches);
}

/* Records mostly come in the order of their time, so the same part of each partition has the same
 * windows. A thread begins with such a part: then few groups are in the tables of two. */
enum status recompute_divide(struct job *job, struct error *error)
{
    make_stretches(job);
    place_stretches(job);
    job->queues = calloc(job->worker_count, sizeof *job->queues);
    if (job->queues == NULL)
        return error_no_memory(error);
    double bytes = 0;
    double below = 0;
    size_t next = 0;
    for (size_t i = 0; i < job->stretch_count; i++)
        bytes += (double)job->stretches[i].raw_bytes;
    for (size_t w = 0; w < job->worker_count; w++) {
        double share = bytes * (double)(w + 1) / (double)job->worker_count;
        job->queues[w].next = next;
        for (; next < job->stretch_count; next++) {
            double half = (double)job->stretches[next].raw_bytes / 2;
            if (w + 1 < job->worker_count && below + half > share)
                break;
            below += 2 * half;
        }
        job->queues[w].end = next;
    }
    return STATUS_OK;
}

/* Whoever has done its part helps the one who has most before it, from that part's end. */
const struct stretch *recompute_take(struct job *job, size_t worker)
{
    const struct stretch *stretch = NULL;
    pthread_mutex_lock(&job->lock);
    struct queue *own = &job->queues[worker];
    struct queue *longest = own;
    for (size_t w = 0; w < job->worker_count; w++)
        if (job->queues[w].end - job->queues[w].next > longest->end - longest->next)
            longest = &job->queues[w];
    if (own->next < own->end)
        stretch = &job->stretches[own->next++];
    else if (longest->next < longest->end)
        stretch = &job->stretches[--longest->end];
    pthread_mutex_unlock(&job->lock);
    return stretch;
}

static enum status order_segments(struct job *job, struct error *error)
{
    size_t count = job->segments->count;
    job->order = calloc(count + 1, sizeof(struct archive_segment *));
    job->stretches = calloc(count + 1, sizeof *job->stretches);
    if (job->order == NULL || job->stretches == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < count; i++) {
        job->order[i] = &job->segments->items[i];
        if (is_wanted(job, job->order[i])) {
            job->wanted_segments++;
            job->wanted_records += job->order[i]->record_count;
        }
    }
    if (count > 0)
        qsort(job->order, count, sizeof(struct archive_segment *), compare_places);
    return STATUS_OK;
}

/* --- the whole --- */

enum status recompute_plan(struct job *job, struct error *error)
{
    enum status status = make_readings(job, error);
    if (status == STATUS_OK)
        status = make_routes(job, error);
    if (status == STATUS_OK)
        status = order_segments(job, error);
    return status;
}

void recompute_plan_deinit(struct job *job)
{
    for (size_t i = 0; job->readings != NULL && i < job->reading_count; i++) {
        free(job->readings[i].versions);
        free(job->readings[i].starts);
    }
    free(job->readings);
    free(job->routes);
    free(job->order);
    free(job->stretches);
    free(job->queues);
}
