/* Deciding what is reused: see reuse.h. Main thread; reads PostgreSQL and changes nothing there. */
#include "batch_layer/reuse.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { NUMBER_BYTES = 24 };

/* What is known of the base run and of those after it. */
struct base {
    int64_t run;
    int64_t held;      /* a later run that was held; 0: none */
    PGresult *cutoffs; /* of the run */
};

enum {
    CUTOFF_TOPIC,
    CUTOFF_PARTITION,
    CUTOFF_OFFSET,
    CUTOFF_FINGERPRINT,
    CUTOFF_LEDGER_OF,
    CUTOFF_WATERMARK,
    CUTOFF_LEDGER
};

static enum status read_base(struct postgres *postgres, struct base *base, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres,
        "SELECT c.run, COALESCE((SELECT max(r.run) FROM dovetail_internal.run AS r"
        "  WHERE r.state = 'held' AND r.run > (SELECT max(p.run) FROM dovetail_internal.run AS p"
        "   WHERE p.state IN ('published', 'dropped'))), 0)"
        " FROM dovetail_internal.current_run AS c",
        0, NULL, &result, error);
    if (status == STATUS_OK) {
        base->run = postgres_int64(result, 0, 0);
        base->held = postgres_int64(result, 0, 1);
    }
    PQclear(result);
    if (status != STATUS_OK)
        return status;
    char run[NUMBER_BYTES];
    snprintf(run, sizeof run, "%" PRId64, base->run);
    const char *parameters[] = {run};
    return postgres_query(postgres,
                          "SELECT topic, partition, next_offset, segments, ledger_of,"
                          " (extract(epoch FROM watermark) * 1000000)::bigint,"
                          " consumed, counted, filtered, duplicate, dead_lettered"
                          " FROM dovetail_internal.run_cutoff WHERE run = $1",
                          1, parameters, &base->cutoffs, error);
}

/* The row of a partition, or -1. */
static int find_cutoff(const struct base *base, const struct cut *cut)
{
    for (int row = 0; row < PQntuples(base->cutoffs); row++)
        if (postgres_int64(base->cutoffs, row, CUTOFF_PARTITION) == cut->partition &&
            strcmp(PQgetvalue(base->cutoffs, row, CUTOFF_TOPIC), cut->topic) == 0)
            return row;
    return -1;
}

static void hash_text(const char *text, char out[SEGMENTS_FINGERPRINT_BYTES])
{
    XXH128_hash_t hash = XXH3_128bits(text, strlen(text));
    snprintf(out, SEGMENTS_FINGERPRINT_BYTES, "%016" PRIx64 "%016" PRIx64, (uint64_t)hash.high64,
             (uint64_t)hash.low64);
}

/* --- partitions --- */

/* The newest definition of the source and the versions that read it. */
static enum status note_ledger_of(const struct catalog *catalog, struct cut *cut,
                                  struct error *error)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < catalog->source_count; i++) {
        if (strcmp(catalog->sources[i]->topic, cut->topic) != 0)
            continue;
        char *definition = json_dumps(catalog->sources[i]->json, JSON_COMPACT | JSON_SORT_KEYS);
        fputs(definition != NULL ? definition : "", out);
        free(definition);
    }
    for (size_t i = 0; i < catalog->version_count; i++)
        if (strcmp(catalog->versions[i].source->topic, cut->topic) == 0)
            fprintf(out, " %d", catalog->versions[i].version);
    if (fclose(out) != 0 || text == NULL) {
        free(text);
        return error_no_memory(error);
    }
    hash_text(text, cut->ledger_of);
    free(text);
    return STATUS_OK;
}

/* C_B */
static int64_t base_cutoff(const struct base *base, const struct cut *cut)
{
    int row = find_cutoff(base, cut);
    return row < 0 ? cut->base_offset : postgres_int64(base->cutoffs, row, CUTOFF_OFFSET);
}

/* Fills what the base run says of each partition and the cut's own fingerprint. `why` receives the
 * reason why nothing of the topic can be reused; it is left alone where there is none. */
static enum status look_at_cut(const struct base *base, const struct segments *segments,
                               const struct gap *gaps, size_t gap_count, struct cut *cut, char *why,
                               struct error *error)
{
    enum status status =
        segments_fingerprint(segments, gaps, gap_count, cut, cut->offset, cut->fingerprint, error);
    int row = find_cutoff(base, cut);
    cut->reused_offset = base_cutoff(base, cut);
    if (status != STATUS_OK || row < 0)
        return status;
    if (cut->offset < cut->reused_offset) {
        snprintf(why, REUSE_WHY_BYTES,
                 "the cut-off of %s[%" PRId32 "] is %" PRId64 ", and run %" PRId64 " had %" PRId64,
                 cut->topic, cut->partition, cut->offset, base->run, cut->reused_offset);
        cut->reused_offset = cut->base_offset; /* nobody can say anything of part of it */
        return STATUS_OK;
    }
    char now[SEGMENTS_FINGERPRINT_BYTES];
    status = segments_fingerprint(segments, gaps, gap_count, cut, cut->reused_offset, now, error);
    if (status != STATUS_OK)
        return status;
    if (PQgetisnull(base->cutoffs, row, CUTOFF_FINGERPRINT))
        snprintf(why, REUSE_WHY_BYTES, "run %" PRId64 " did not note which segments it folded",
                 base->run);
    else if (strcmp(now, PQgetvalue(base->cutoffs, row, CUTOFF_FINGERPRINT)) != 0)
        snprintf(why, REUSE_WHY_BYTES,
                 "segments or gaps of %s[%" PRId32 "] below %" PRId64
                 " are not those that run %" PRId64 " folded",
                 cut->topic, cut->partition, cut->reused_offset, base->run);
    return STATUS_OK;
}

static enum status look_at_topic(struct postgres *postgres, const struct base *base,
                                 const struct catalog *catalog, const struct segments *segments,
                                 struct cut *cuts, size_t cut_count, const char *topic, char *why,
                                 struct error *error)
{
    struct gap *gaps = NULL;
    size_t gap_count = 0;
    enum status status = gaps_list(postgres, topic, &gaps, &gap_count, error);
    for (size_t i = 0; status == STATUS_OK && i < cut_count; i++) {
        if (strcmp(cuts[i].topic, topic) != 0)
            continue;
        status = look_at_cut(base, segments, gaps, gap_count, &cuts[i], why, error);
        if (status == STATUS_OK && cuts[i].partition == ARCHIVE_IMPORTED)
            status = note_ledger_of(catalog, &cuts[i], error);
    }
    for (int row = 0; status == STATUS_OK && row < PQntuples(base->cutoffs); row++) {
        int32_t partition = (int32_t)postgres_int64(base->cutoffs, row, CUTOFF_PARTITION);
        if (strcmp(PQgetvalue(base->cutoffs, row, CUTOFF_TOPIC), topic) == 0 &&
            cut_find(cuts, cut_count, topic, partition) == NULL)
            snprintf(why, REUSE_WHY_BYTES, "%s[%" PRId32 "] is not there any more", topic,
                     partition);
    }
    free(gaps);
    return status;
}

/* --- versions --- */

static void decide(struct reuse_version *version, enum reuse_kind kind, const char *why)
{
    version->kind = kind;
    snprintf(version->why, sizeof version->why, "%s", why);
}

static enum status look_at_version(struct postgres *postgres, const struct base *base,
                                   const struct catalog_version *registered, const char *topic_why,
                                   const char *full, struct reuse_version *out, struct error *error)
{
    char *canonical = view_canonical_text(registered->view);
    if (canonical == NULL)
        return error_no_memory(error);
    hash_text(canonical, out->rows_of);
    free(canonical);
    char number[NUMBER_BYTES];
    char text[REUSE_WHY_BYTES];
    snprintf(number, sizeof number, "%d", registered->version);
    const char *parameters[] = {number};
    PGresult *result = NULL;
    enum status status = postgres_query(postgres,
                                        "SELECT COALESCE(rows_run, 0), rows_of"
                                        " FROM dovetail_internal.view_version WHERE version = $1",
                                        1, parameters, &result, error);
    bool there = status == STATUS_OK && PQntuples(result) == 1;
    int64_t rows_run = there ? postgres_int64(result, 0, 0) : 0;
    bool same = there && strcmp(PQgetvalue(result, 0, 1), out->rows_of) == 0;
    PQclear(result);
    if (status != STATUS_OK)
        return status;
    if (base->run == 0 || rows_run == 0) {
        decide(out, REUSE_NOTHING, "no run has folded it yet");
    } else if (rows_run != base->run) {
        snprintf(text, sizeof text,
                 "run %" PRId64 " is served, and the newest rows are those of run %" PRId64,
                 base->run, rows_run);
        decide(out, REUSE_NOTHING, text);
    } else if (!same) {
        decide(out, REUSE_NOTHING, "the engine, or the rules of its time zone, have changed");
    } else if (topic_why[0] != '\0') {
        decide(out, REUSE_NOTHING, topic_why);
    } else if (full != NULL) {
        decide(out, REUSE_COMPARE, full);
    } else if (base->held != 0) {
        snprintf(text, sizeof text, "run %" PRId64 " was held", base->held);
        decide(out, REUSE_COMPARE, text);
    } else {
        decide(out, REUSE_ROWS, "");
    }
    return STATUS_OK;
}

/* --- what the speed layer covers --- */

/* Where it has come to C and its rows begin at or below C_B; but not where records have been given
 * up that it may have counted, nor where C lies below C_B: of slices below the served run's cut-off
 * some may have been dropped. */
static enum status read_covered(struct postgres *postgres, const struct base *base,
                                const struct catalog *catalog, const struct cut *cuts,
                                size_t cut_count, struct reuse *reuse, struct error *error)
{
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "SELECT k.version, k.topic, k.partition, k.speed_from, p.next_offset,"
                       " COALESCE((SELECT max(g.to_offset) FROM dovetail_internal.gap AS g"
                       "  WHERE g.topic = k.topic AND g.partition = k.partition), -1)"
                       " FROM dovetail_internal.coverage AS k"
                       " JOIN dovetail_internal.position AS p USING (topic, partition)",
                       0, NULL, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        struct cut *cut = cut_find((struct cut *)cuts, cut_count, PQgetvalue(result, row, 1),
                                   (int32_t)postgres_int64(result, row, 2));
        if (cut == NULL || cut->partition == ARCHIVE_IMPORTED)
            continue;
        bool covered = base_cutoff(base, cut) == cut->reused_offset &&
                       postgres_int64(result, row, 3) <= cut->reused_offset &&
                       postgres_int64(result, row, 4) >= cut->offset &&
                       postgres_int64(result, row, 5) < cut->reused_offset &&
                       cut->reused_offset < cut->offset;
        for (size_t v = 0; v < catalog->version_count; v++)
            if (catalog->versions[v].version == postgres_int64(result, row, 0))
                reuse->covered[v * cut_count + (size_t)(cut - cuts)] = covered;
    }
    PQclear(result);
    return status;
}

/* --- what goes on from the base run --- */

static bool reads_topic(const struct reuse *reuse, const struct catalog *catalog, const char *topic,
                        bool incremental)
{
    for (size_t v = 0; v < catalog->version_count; v++)
        if ((reuse->versions[v].kind == REUSE_ROWS) == incremental &&
            strcmp(catalog->versions[v].source->topic, topic) == 0)
            return true;
    return false;
}

static void take_over(const struct base *base, const struct catalog *catalog, struct reuse *reuse,
                      struct cut *cuts, size_t cut_count)
{
    for (size_t i = 0; i < cut_count; i++) {
        struct cut *cut = &cuts[i];
        int row = find_cutoff(base, cut);
        bool ledger_is_same =
            row >= 0 && !PQgetisnull(base->cutoffs, row, CUTOFF_LEDGER) &&
            strcmp(PQgetvalue(base->cutoffs, row, CUTOFF_LEDGER_OF), cut->ledger_of) == 0;
        if (cut->partition == ARCHIVE_IMPORTED)
            reuse->recount[i] = !ledger_is_same || reads_topic(reuse, catalog, cut->topic, false);
        if (row < 0 || !reads_topic(reuse, catalog, cut->topic, true))
            continue;
        if (!PQgetisnull(base->cutoffs, row, CUTOFF_WATERMARK)) {
            cut->has_watermark = true;
            cut->watermark_us = postgres_int64(base->cutoffs, row, CUTOFF_WATERMARK);
        }
        if (cut->partition == ARCHIVE_IMPORTED && !reuse->recount[i])
            cut->ledger = (struct cut_ledger){
                .consumed = postgres_int64(base->cutoffs, row, CUTOFF_LEDGER),
                .counted = postgres_int64(base->cutoffs, row, CUTOFF_LEDGER + 1),
                .filtered = postgres_int64(base->cutoffs, row, CUTOFF_LEDGER + 2),
                .duplicate = postgres_int64(base->cutoffs, row, CUTOFF_LEDGER + 3),
                .dead_lettered = postgres_int64(base->cutoffs, row, CUTOFF_LEDGER + 4)};
    }
}

/* --- the whole --- */

static enum status plan(struct postgres *postgres, const struct base *base,
                        const struct catalog *catalog, const struct segments *segments,
                        struct cut *cuts, size_t cut_count, const char *full, struct reuse *reuse,
                        struct error *error)
{
    enum status status = STATUS_OK;
    reuse->base = base->run;
    for (size_t s = 0; status == STATUS_OK && s < catalog->source_count; s++) {
        const char *topic = catalog->sources[s]->topic;
        char why[REUSE_WHY_BYTES] = "";
        status =
            look_at_topic(postgres, base, catalog, segments, cuts, cut_count, topic, why, error);
        for (size_t v = 0; status == STATUS_OK && v < catalog->version_count; v++)
            if (strcmp(catalog->versions[v].source->topic, topic) == 0)
                status = look_at_version(postgres, base, &catalog->versions[v], why, full,
                                         &reuse->versions[v], error);
    }
    if (status == STATUS_OK)
        status = read_covered(postgres, base, catalog, cuts, cut_count, reuse, error);
    if (status == STATUS_OK)
        take_over(base, catalog, reuse, cuts, cut_count);
    return status;
}

enum status reuse_plan(struct postgres *postgres, const struct catalog *catalog,
                       const struct segments *segments, struct cut *cuts, size_t cut_count,
                       const char *full, struct reuse **out, struct error *error)
{
    *out = NULL;
    struct base base = {0};
    struct reuse *reuse = calloc(1, sizeof *reuse);
    if (reuse == NULL)
        return error_no_memory(error);
    reuse->version_count = catalog->version_count;
    reuse->cut_count = cut_count;
    reuse->versions = calloc(catalog->version_count + 1, sizeof *reuse->versions);
    reuse->covered = calloc(catalog->version_count * cut_count + 1, sizeof *reuse->covered);
    reuse->recount = calloc(cut_count + 1, sizeof *reuse->recount);
    enum status status = STATUS_OK;
    if (reuse->versions == NULL || reuse->covered == NULL || reuse->recount == NULL)
        status = error_no_memory(error);
    if (status == STATUS_OK)
        status = read_base(postgres, &base, error);
    if (status == STATUS_OK)
        status = plan(postgres, &base, catalog, segments, cuts, cut_count, full, reuse, error);
    PQclear(base.cutoffs);
    if (status != STATUS_OK) {
        reuse_destroy(reuse);
        return status;
    }
    *out = reuse;
    return STATUS_OK;
}

void reuse_destroy(struct reuse *reuse)
{
    if (reuse == NULL)
        return;
    free(reuse->versions);
    free(reuse->covered);
    free(reuse->recount);
    free(reuse);
}

bool reuse_is_incremental(const struct reuse *reuse)
{
    for (size_t i = 0; i < reuse->version_count; i++)
        if (reuse->versions[i].kind == REUSE_ROWS)
            return true;
    return false;
}

/* The reason is given once where several versions have the same. */
void reuse_why(const struct reuse *reuse, const struct catalog *catalog, char *out, size_t size)
{
    bool all_same = true;
    const char *first = NULL;
    out[0] = '\0';
    for (size_t i = 0; i < reuse->version_count; i++) {
        const struct reuse_version *version = &reuse->versions[i];
        all_same = all_same && version->kind != REUSE_ROWS &&
                   (first == NULL || strcmp(first, version->why) == 0);
        if (version->kind != REUSE_ROWS && first == NULL)
            first = version->why;
    }
    if (first != NULL && all_same) {
        snprintf(out, size, "%s", first);
        return;
    }
    for (size_t i = 0; i < reuse->version_count; i++) {
        size_t length = strlen(out);
        if (reuse->versions[i].kind != REUSE_ROWS)
            snprintf(out + length, size - length, "%s%s, version %d: %s", length > 0 ? "; " : "",
                     catalog->versions[i].view->name, catalog->versions[i].version,
                     reuse->versions[i].why);
    }
}
