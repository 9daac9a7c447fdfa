/* Shapes of records: a short cut through a record that looks like an earlier one.
 *
 * Records of one producer mostly differ in their scalars only: member names, brackets and white
 * space between them are the same bytes. So what was learned of a record that proved valid is the
 * bytes between its scalars, and which scalar stands on which field's path. A record that has the
 * same bytes there, and any valid scalar in each of the gaps, is valid JSON of the same structure:
 * in JSON's grammar one scalar may stand where another stands, whatever its type. Everything else,
 * and every string with a backslash or a byte beyond ASCII, is left to the walk, which gives every
 * verdict of refusal: here a record matches or is not judged.
 *
 * The bytes that decide are compared in full, so it is a proof and no guess. A few shapes are kept;
 * records that seldom match are seldom tried. Shapes belong to one thread, and have a fixed size:
 * records with more scalars or names than that are not learned. */
#ifndef DOVETAIL_EVENT_SHAPE_H
#define DOVETAIL_EVENT_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/records/event_walk.h"

struct event_shapes;

/* For walks with `leaf_count` leaves. NULL: out of memory. */
struct event_shapes *event_shapes_create(uint32_t leaf_count) MUST_CHECK;
void event_shapes_destroy(struct event_shapes *shapes); /* accepts NULL */

/* True: the record is valid, and kinds and tokens are what event_walk_record would set. False: they
 * mean nothing, ask event_walk_record. EVENT_PADDING_BYTES are readable behind the record; length
 * > 0. */
bool event_shapes_match(struct event_shapes *shapes, struct event_walk *state, const char *json,
                        size_t length);

/* A record that did not match, but that event_walk_record has accepted; the arguments are its. */
void event_shapes_learn(struct event_shapes *shapes, const struct event_walk *state,
                        const char *json, size_t length, const uint32_t *starts, size_t count);

#endif
