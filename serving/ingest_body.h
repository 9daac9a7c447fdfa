/* What a client sends to the ingest door, taken apart into events: pure, any thread.
 *
 * A body is one JSON object, an array of them, or JSON lines; plain or in gzip. Here it is only
 * found out where each event begins and ends; judging each is the event parser's business. */
#ifndef DOVETAIL_SERVING_INGEST_BODY_H
#define DOVETAIL_SERVING_INGEST_BODY_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

enum ingest_form { INGEST_OBJECT, INGEST_ARRAY, INGEST_LINES };

/* The media type of a Content-Type header: application/json, or application/x-ndjson and its
 * cousins; parameters are skipped. False for any other one, and for none. */
bool ingest_media(const char *content_type, bool *is_lines) MUST_CHECK;

/* The content of a gzip stream, malloc'd. STATUS_REJECT: it is none, or longer than `max`, which is
 * found out before more than that was written. */
enum status ingest_gunzip(const char *data, size_t length, size_t max, char **out,
                          size_t *out_length, struct error *error) MUST_CHECK;

struct ingest_piece {
    char *text;
    size_t length;
    size_t number; /* of lines the first is 1, of an array's elements the first is 0 */
};

/* The pieces of a body, at most `max`; malloc'd, pointing into `body`. Lines of nothing but white
 * space are no pieces. STATUS_REJECT: there is none, there are too many, or it is no whole array;
 * nothing of such a body is used. */
enum status ingest_split(char *body, size_t length, bool is_lines, size_t max,
                         struct ingest_piece **out, size_t *count, enum ingest_form *form,
                         struct error *error) MUST_CHECK;

/* Line breaks of a valid JSON text stand between its tokens: they become spaces, so that the record
 * is a line of the archive as all the others. */
void ingest_unbreak(struct ingest_piece *piece);

#endif
