/* The key of a Kafka record: the text of one of its fields. Whoever produces records of a source
 * takes it from here, so that equal values have equal keys, and lie in one partition, whichever way
 * they came. Pure; any thread. */
#ifndef DOVETAIL_RECORD_KEY_H
#define DOVETAIL_RECORD_KEY_H

#include "core/records/event_parser.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The index of the source's field of that name; false where it has none. */
bool record_key_field(const struct source *source, const char *name, size_t *out) MUST_CHECK;

/* The field's text, in `arena`; *key is NULL where the field is NULL: a record without a key. */
enum status record_key_text(const struct event *event, size_t field, struct arena *arena,
                            const char **key, size_t *length, struct error *error) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
