/* Gaps: offsets that neither Kafka nor the archive has any more, and that an operator gave up
 * (`dovetail resume --accept-gap`). And halts: partitions that a layer cannot go on with.
 *
 * Invariant: for every reader the records of a gap do not exist. Both layers and `dovetail verify`
 * pass over them; in the archive a gap is a hole in a segment, as the marker of a transaction is.
 * Tables dovetail_internal.gap and halt. Any thread, with a connection of its own. */
#ifndef DOVETAIL_GAP_H
#define DOVETAIL_GAP_H

#include <stdint.h>

#include "core/base/error.h"
#include "core/postgres/postgres.h"

struct gap {
    int32_t partition;
    int64_t from_offset;  /* inclusive */
    int64_t to_offset;    /* exclusive; the same where a new log shall be gone on with there */
    int64_t speed_offset; /* P when it was accepted */
    bool new_log;         /* the log has other records below to_offset */
};

/* Those of a topic, by partition and offset. The caller frees *out. */
enum status gaps_list(struct postgres *postgres, const char *topic, struct gap **out, size_t *count,
                      struct error *error) MUST_CHECK;

/* Where to go on from `offset`: behind the gap that it lies in, or there. */
int64_t gaps_pass(const struct gap *gaps, size_t count, int32_t partition, int64_t offset);

/* Whether somebody accepted that a new log is gone on with at `offset`, or behind a gap there. */
bool gaps_resume_at(const struct gap *gaps, size_t count, int32_t partition, int64_t offset);

/* Below this offset the log has other records than the history: of a topic that was made anew. */
int64_t gaps_log_begins(const struct gap *gaps, size_t count, int32_t partition);

/* --- halts --- */

/* Notes that `layer`, "speed" or "batch", stands at `next_offset`, and why; or that it does not.
 * `new_log`: because the log has another record than the one that was read. */
enum status halt_note(struct postgres *postgres, const char *layer, const char *topic,
                      int32_t partition, int64_t next_offset, bool new_log, const char *message,
                      struct error *error) MUST_CHECK;
enum status halt_clear(struct postgres *postgres, const char *layer, const char *topic,
                       int32_t partition, struct error *error) MUST_CHECK;

/* What a layer that wants to go on at `next` says when it cannot: the log has [low, high), the
 * archive ends at `archived`. Returns STATUS_FATAL. */
enum status halt_describe(struct error *error, const char *source, const char *topic,
                          int32_t partition, int64_t next, int64_t archived, int64_t low,
                          int64_t high);

/* The same where the log has another record at `offset` than the one that was read there. */
enum status halt_describe_foreign(struct error *error, const char *source, const char *topic,
                                  int32_t partition, int64_t offset);

#endif
