/* What went wrong, and what the caller must do about it.
 *
 * Every function that can fail returns an enum status and fills a caller-owned struct error.
 * The status is an instruction, the text is for people. No secret (connection string, password,
 * record payload) is ever written into a text. Thread: any; an error belongs to its caller. */
#ifndef DOVETAIL_ERROR_H
#define DOVETAIL_ERROR_H

#include <stdbool.h>
#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_index, first_index)                                                     \
    __attribute__((format(printf, format_index, first_index)))

#ifdef __cplusplus
extern "C" {
#endif

enum status {
    STATUS_OK = 0,
    STATUS_RETRY,  /* nothing happened or it was rolled back: the same call may succeed later */
    STATUS_REJECT, /* this record, parameter or definition is at fault, and only it */
    STATUS_FENCED, /* somebody else owns or changed the state: discard work, read it again */
    STATUS_FATAL,  /* going on would lose data or cannot work: stop and say so */
};

enum { ERROR_TEXT_BYTES = 1024 };

struct error {
    enum status status;
    char sqlstate[6]; /* five characters, or empty */
    int kafka_code;   /* rd_kafka_resp_err_t, or 0 */
    char text[ERROR_TEXT_BYTES];
};

/* Fills *error (which may be NULL) and returns `status`, so that `return error_set(...)` reads
 * well. A text that does not fit is cut between two UTF-8 characters. *error may be among the
 * arguments. */
enum status error_set(struct error *error, enum status status, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* Puts "context: " before the text that is already there; returns error->status. *error must hold
 * an error (it may not be NULL, unlike above: the status to return comes from it). */
enum status error_wrap(struct error *error, const char *format, ...) PRINTF_LIKE(2, 3);

/* error_set with STATUS_FATAL and the text "out of memory". */
enum status error_no_memory(struct error *error);

#ifdef __cplusplus
}
#endif
#endif
