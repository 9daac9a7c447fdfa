/* A checksum of records themselves: see core/archive/archive.h.
 *
 * Each record is hashed as three little-endian numbers of 8 bytes, offset, timestamp and 0 for null
 * or length + 1, and the bytes of its value. Pure; one thread for each object. */
#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

#include "core/archive/archive.h"
#include "core/archive/archive_format.h"

/* struct archive_content is an XXH3_state_t under another name. */

struct archive_content *archive_content_create(void)
{
    XXH3_state_t *state = XXH3_createState();
    if (state != NULL)
        XXH3_128bits_reset(state);
    return (struct archive_content *)state;
}

void archive_content_destroy(struct archive_content *content)
{
    XXH3_freeState((XXH3_state_t *)content);
}

void archive_content_add(struct archive_content *content, const struct archive_record *record)
{
    unsigned char head[24];
    archive_put_le(head, (uint64_t)record->offset, 8);
    archive_put_le(head + 8, (uint64_t)record->timestamp_ms, 8);
    archive_put_le(head + 16, record->value == NULL ? 0 : (uint64_t)record->length + 1, 8);
    XXH3_128bits_update((XXH3_state_t *)content, head, sizeof head);
    if (record->value != NULL)
        XXH3_128bits_update((XXH3_state_t *)content, record->value, record->length);
}

void archive_content_text(const struct archive_content *content, char out[ARCHIVE_CHECKSUM_BYTES])
{
    XXH128_hash_t hash = XXH3_128bits_digest((const XXH3_state_t *)content);
    snprintf(out, ARCHIVE_CHECKSUM_BYTES, "%016" PRIx64 "%016" PRIx64, (uint64_t)hash.high64,
             (uint64_t)hash.low64);
}
