/* What fuzz targets share.
 *
 * A target is tests/fuzz/fuzz_<name>.c with libFuzzer's entry point below; its inputs are kept in
 * tests/fuzz/corpus/<name>/. The same target is linked twice: with libFuzzer, for long runs (make
 * fuzz), and with driver.c, which replays the corpus and mutations of it under gcc's sanitizers
 * (make fuzz-short). Whatever does not hold ends the process, so that both keep the input.
 *
 * A target is one thread, keeps nothing from one input to the next but what it made at first, and
 * gives the same answer for the same bytes. */
#ifndef DOVETAIL_TESTS_FUZZ_FUZZ_H
#define DOVETAIL_TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/error.h"
#include "core/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct source;
struct view;

/* Says what is wrong with this input and ends the process. */
#define FUZZ_CHECK(condition, ...)                                                                 \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fuzz_fail(__FILE__, __LINE__, __VA_ARGS__);                                            \
    } while (0)

_Noreturn void fuzz_fail(const char *file, int line, const char *format, ...) PRINTF_LIKE(3, 4);

/* A failure that the fuzzed function may tell: its text is there, and ends within its buffer. */
void fuzz_check_refusal(enum status status, const struct error *error);
/* What every value that comes out of the engine is: valid UTF-8 without U+0000, a decimal of at
 * most 38 digits, and so on. */
void fuzz_check_value(const struct value *value, enum value_type type);

/* --- an input taken apart from its front; where it is at its end, numbers are 0 --- */

struct fuzz_input {
    const uint8_t *data;
    size_t length;
};

uint8_t fuzz_byte(struct fuzz_input *input);
uint64_t fuzz_number(struct fuzz_input *input, size_t bytes); /* little-endian */
size_t fuzz_below(struct fuzz_input *input, size_t bound);    /* one byte or two */
/* The next `length` bytes, or as many as there are. */
struct fuzz_input fuzz_take(struct fuzz_input *input, size_t length);
/* Up to the next 0, which is passed over. */
struct fuzz_input fuzz_take_text(struct fuzz_input *input);
bool fuzz_is_text(const char *data, size_t length); /* UTF-8 without U+0000 */
/* As a string of its exact size, so that a byte read beyond its end is found. Caller frees. */
char *fuzz_string(struct fuzz_input text);
char *fuzz_rest(struct fuzz_input *input);

/* A value of `type` as input may have it, extremes often; strings are in the arena. */
struct value fuzz_value(struct fuzz_input *input, enum value_type type, struct arena *arena);

/* --- definitions --- */

/* Of a JSON text that must be good. */
struct source *fuzz_source(const char *json);
struct view *fuzz_view(const char *json, const struct source *source);

/* A field of each type, all nullable: at, i, d, s, b. */
extern const char *const fuzz_source_json;
enum { FUZZ_FIELDS = 5 };

/* --- a file in memory; FUZZ_FILES/<number> is its path --- */

#define FUZZ_FILES "/proc/self/fd"
int fuzz_file_create(void);
void fuzz_file_write(int file, const void *data, size_t length);

#endif
