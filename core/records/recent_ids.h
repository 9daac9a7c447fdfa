/* The ids of a partition's recent records: is a record a duplicate?
 *
 * A record is a duplicate if its id occurred in the same partition within the previous `within`
 * offsets, whatever became of that earlier record. So it is enough to know the last offset of each
 * id, and the answer depends on the log alone: whoever has seen the ids of the `within` offsets
 * before a record decides as everybody else does.
 *
 * An id is kept as a 128-bit hash keyed with the deployment's secret (XXH3-128 with a secret; see
 * xxhash.h), so that producers cannot choose two ids that collide. That two given ids collide has
 * the probability 2^-128: among 10^12 records with `within` at its maximum a record is taken for a
 * duplicate by mistake with a probability below 10^-18.
 *
 * Memory: 24 bytes for each of the last `within` offsets that has an id, and 5 to 11 bytes of
 * table: 33 MB for a `within` of 1,000,000. One thread. */
#ifndef DOVETAIL_RECENT_IDS_H
#define DOVETAIL_RECENT_IDS_H

#include "core/value.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    RECENT_IDS_SECRET_BYTES = 192, /* of XXH3's default secret, too */
    RECENT_IDS_WITHIN_MAX = 100000000,
};

struct recent_ids;

/* `within` is 1..RECENT_IDS_WITHIN_MAX; `secret` has RECENT_IDS_SECRET_BYTES and is borrowed. */
enum status recent_ids_create(int64_t within, const unsigned char *secret, struct recent_ids **out,
                              struct error *error) MUST_CHECK;
void recent_ids_destroy(struct recent_ids *ids); /* accepts NULL */

/* Notes the id, a string or an integer, of the record at `offset`; offsets ascend. NULL is no id
 * and never a duplicate. Fails for want of memory only. */
enum status recent_ids_add(struct recent_ids *ids, const struct value *id, int64_t offset,
                           bool *duplicate, struct error *error) MUST_CHECK;

size_t recent_ids_memory_bytes(const struct recent_ids *ids);

#ifdef __cplusplus
}
#endif
#endif
