/* What a client can take: Accept, Accept-Encoding and If-None-Match (RFC 9110). Pure; any thread.
 *
 * Headers are a client's texts: what cannot be read in one is skipped, as if it were not there. */
#ifndef DOVETAIL_SERVING_NEGOTIATE_H
#define DOVETAIL_SERVING_NEGOTIATE_H

#include <stdbool.h>
#include <stddef.h>

/* The index of the media type that `accept` (NULL or empty: anything) prefers, the first of those
 * that it likes alike; -1 where it takes none of them. */
int negotiate_media(const char *accept, const char *const *offered, size_t count);

bool negotiate_gzip(const char *accept_encoding);

/* Weak comparison: `etag` with or without W/ is in the list, or the list is "*". */
bool negotiate_has_etag(const char *if_none_match, const char *etag);

#endif
