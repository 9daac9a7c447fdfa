/* Helpers for reading definitions from JSON: for definition_*.c only. */
#ifndef DOVETAIL_DEFINITION_JSON_H
#define DOVETAIL_DEFINITION_JSON_H

#include <jansson.h>

#include "core/base/arena.h"
#include "core/base/error.h"

/* True for [a-z][a-z0-9_]{0,47}. */
bool definition_name_is_valid(const char *name);

/* STATUS_REJECT "key: unknown key" for the first member that is not in `known` (NULL-terminated);
 * "description", a text for people, is known everywhere. `json` must be an object. */
enum status definition_check_keys(const json_t *json, const char *const *known,
                                  struct error *error) MUST_CHECK;

/* A required name below `key`, copied into the arena. */
enum status definition_get_name(const json_t *json, const char *key, struct arena *arena,
                                const char **out, struct error *error) MUST_CHECK;

/* A required string without U+0000; `wanted` says what it should be. Borrowed from the JSON. */
enum status definition_get_string(const json_t *json, const char *key, const char *wanted,
                                  const char **out, struct error *error) MUST_CHECK;

/* What a source says about its records beyond their fields, into a source whose fields are loaded:
 * mask, derived fields, drop_if_null, dedupe. The array of fields has room for the derived ones.
 * definition_rules.c. */
struct source;
enum status definition_load_rules(struct source *source, struct error *error) MUST_CHECK;

/* The lookups of a view whose keys and measures are loaded; view->keys has room for
 * VIEW_LOOKED_UP_MAX more. definition_lookup.c. */
struct view;
enum status definition_load_lookups(struct view *view, struct error *error) MUST_CHECK;

/* Refuses what is no name, names that mean something else in a row of the view, and names that are
 * in use in it. definition_view.c. */
enum status definition_check_column(const struct view *view, const char *name,
                                    struct error *error) MUST_CHECK;

#endif
