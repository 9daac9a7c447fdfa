/* Answers that are kept, and where each view stood when PostgreSQL was last asked.
 *
 * Invariant: a kept answer is given again only where its state (run, C, P, what is imported,
 * watermark) is that of a receipt which was read, or found to hold still (query_mark_read), no
 * longer ago than the caller allows. Rows follow
 * from the question, the version of the view and that state, so such an answer is the one that
 * PostgreSQL would have led to when the receipt was read. Receipts are not kept with answers: the
 * one that goes out is the one that was read, with its freshness grown by its age.
 *
 * All memory is bounded: answers by the bytes given to cache_create, least recently used first to
 * go; receipts by their number. Counted references, so nothing is copied under the lock. Any
 * thread. */
#ifndef DOVETAIL_SERVING_CACHE_H
#define DOVETAIL_SERVING_CACHE_H

#include "core/query/query.h"

struct cache;

/* An answer's body but for its receipt; immutable. */
struct kept_answer {
    struct query_state state; /* of its receipt */
    int64_t read_us;          /* monotonic, before PostgreSQL was asked */
    char *head; /* malloc'd: up to where the receipt goes; all of it where that is no part of
                   the body */
    size_t head_length;
    char *tail; /* malloc'd: behind the receipt; NULL: the body has no receipt */
    size_t tail_length;
    char *page; /* malloc'd; for a header; or NULL */
};

/* Where a version stood; immutable. */
struct kept_receipt {
    struct query_state state;
    int64_t read_us; /* monotonic, before PostgreSQL was asked */
    struct query_receipt receipt;
};

struct cache_counts {
    uint64_t hits;
    uint64_t misses; /* questions that could have been kept, and were not or had moved */
    uint64_t evictions;
    uint64_t held;  /* questions whether anything had moved, and nothing had */
    uint64_t moved; /* that something had */
    uint64_t answers;
    uint64_t bytes;
    uint64_t limit_bytes;
};

/* Keeps nothing where limit_bytes is 0. NULL: out of memory. */
struct cache *cache_create(size_t limit_bytes) MUST_CHECK;
void cache_destroy(struct cache *cache); /* accepts NULL; nothing may be borrowed any more */
bool cache_is_on(const struct cache *cache);

/* The answer of that key, or NULL; given back with cache_release_answer. Counts nothing. */
struct kept_answer *cache_find(struct cache *cache, const void *key, size_t key_length);
void cache_release_answer(struct cache *cache, struct kept_answer *answer); /* accepts NULL */
/* Keeps a copy of the struct, in the place of what has that key; takes its texts in any case. One
 * that would fill more than a quarter of the cache is not kept. */
void cache_keep(struct cache *cache, const void *key, size_t key_length,
                const struct kept_answer *answer);

void cache_count(struct cache *cache, bool hit);
void cache_read_counts(struct cache *cache, struct cache_counts *out);

/* The receipt that was read last; NULL where it was neither read nor confirmed at or after
 * `since_us`. */
struct kept_receipt *cache_find_receipt(struct cache *cache, int32_t version,
                                        enum query_layer layer, int64_t since_us);
void cache_release_receipt(struct cache *cache, struct kept_receipt *receipt); /* accepts NULL */
/* It held still for a question that was put to PostgreSQL at `asked_us`. */
void cache_confirm_receipt(struct cache *cache, struct kept_receipt *receipt, int64_t asked_us);
/* What became of a receipt that was kept: it held still or not, by a question that was put to
 * PostgreSQL, or (was_asked false) by what was read without one. */
void cache_note_hold(struct cache *cache, bool held, bool was_asked);
/* Whether that is worth a question. What was found last decides, of whatever view: while something
 * is written all the time the question is nearly always in vain, and one more round trip before the
 * rows are read. */
bool cache_expects_hold(struct cache *cache);
/* Copies; forgets an older one. Receipts are kept whatever limit_bytes is. */
void cache_keep_receipt(struct cache *cache, int32_t version, enum query_layer layer,
                        const struct query_receipt *receipt, int64_t read_us);

#endif
