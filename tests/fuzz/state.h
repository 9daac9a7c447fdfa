/* States of measures that somebody may have damaged: what fuzz_state.c and fuzz_sketch.c share. See
 * state.c for the form of an input. */
#ifndef DOVETAIL_TESTS_FUZZ_STATE_H
#define DOVETAIL_TESTS_FUZZ_STATE_H

#include "tests/fuzz/fuzz.h"

struct measure;

/* Calls over the fields of fuzz_source_json. */
void state_init(const char *const *texts, size_t count);
void state_check_input(const uint8_t *data, size_t size);

#endif
