/* Masking: values that are replaced by a keyed hash before anything is stored.
 *
 * A masked value is the HMAC-SHA-256 (RFC 2104, FIPS 198-1) of its bytes in 64 lower-case
 * hexadecimal digits, keyed with the content of a file, without the line break at its end. Equal
 * values have equal hashes, so they can be counted, grouped and compared; without the key nobody
 * can tell a value or try values out. The key is never stored; the catalogue has a fingerprint of
 * it, the HMAC of a constant, so that no process goes on with another key.
 *
 * A struct mask belongs to one thread. */
#ifndef DOVETAIL_MASK_H
#define DOVETAIL_MASK_H

#include <stdint.h>

#include "core/definitions/definition.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MASK_BYTES = 64, /* of a masked value */
    MASK_KEY_MIN_BYTES = 16,
    MASK_KEY_MAX_BYTES = 1024,
};

struct mask;

/* Reads the key of a source that has a mask. STATUS_REJECT "source s: mask.key_file: ...": the file
 * is missing, too short, or has another key than the one that was registered
 * (source->mask_fingerprint, if that is set). Where everybody may read the file a warning is
 * logged, once in a process. */
enum status mask_create(const struct source *source, struct mask **out,
                        struct error *error) MUST_CHECK;
void mask_destroy(struct mask *mask); /* accepts NULL */

/* Writes the MASK_BYTES of the masked value. */
enum status mask_value(struct mask *mask, const void *data, size_t length, char *out,
                       struct error *error) MUST_CHECK;
enum status mask_fingerprint(struct mask *mask, char out[MASK_BYTES + 1],
                             struct error *error) MUST_CHECK;

/* --- which fields --- */

/* The paths of the source's masked fields as a JSON text, in which a segment of the archive tells
 * what was masked before it was written. Caller frees; NULL when out of memory. */
char *mask_paths_text(const struct source *source) MUST_CHECK;

/* The fields of source->mask_fields, as bits, whose paths are in such a text (NULL: none). */
uint64_t mask_fields_in(const struct source *source, const char *paths_text);

/* --- records --- */

/* Masks whole records, as they are archived and written to dead letters. */
struct record_mask;

/* Keeps a copy of the source, which has a mask. Fails as mask_create does. */
enum status record_mask_create(const struct source *source, struct record_mask **out,
                               struct error *error) MUST_CHECK;
void record_mask_destroy(struct record_mask *masker); /* accepts NULL */

/* Says that the values at these paths are masked in the records that come: mask_paths_text, as a
 * segment of the archive has it. NULL: none is, as in Kafka. */
void record_mask_note(struct record_mask *masker, const char *paths_text);

/* The record with every value at a masked path replaced, also values that a later member of the
 * same name overrides; all other bytes are as they were. *out is NULL where the record has no such
 * fields to be found: it is not JSON, or one of its fields is missing or of a wrong type. Good
 * until the next call. Fails for want of memory only. */
enum status record_mask_apply(struct record_mask *masker, const char *value, size_t length,
                              const char **out, size_t *out_length, struct error *error) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
