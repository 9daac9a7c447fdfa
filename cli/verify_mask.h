/* Masking raw records for `dovetail verify`, by a path of its own: no code of the engine's for
 * masks and for parsing takes part. What is copied into PostgreSQL is masked before it leaves this
 * process, and so is the key: it never does. */
#ifndef DOVETAIL_CLI_VERIFY_MASK_H
#define DOVETAIL_CLI_VERIFY_MASK_H

#include "core/definitions/definition.h"

struct verify_mask;

/* For a source that has a mask. STATUS_REJECT: the key file, or a key that is not the registered
 * one. */
enum status verify_mask_create(const struct source *source, struct verify_mask **out,
                               struct error *error) MUST_CHECK;
void verify_mask_destroy(struct verify_mask *mask); /* accepts NULL */

/* What the records that come are masked with already, as the archive's segment says: a JSON array
 * of paths, or NULL. */
void verify_mask_already(struct verify_mask *mask, const char *paths_text);

/* The record with the values at the source's masked paths replaced. *out NULL: it is not a JSON
 * object, and a dead letter whatever it says. Good until the next call. */
enum status verify_mask_apply(struct verify_mask *mask, const char *value, size_t length,
                              const char **out, size_t *out_length, struct error *error) MUST_CHECK;

#endif
