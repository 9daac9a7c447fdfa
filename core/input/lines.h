/* Lines of a file or of standard input, plain or compressed with zstd or gzip. One thread. */
#ifndef DOVETAIL_INPUT_LINES_H
#define DOVETAIL_INPUT_LINES_H

#include <stdint.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct lines;

/* `path` NULL or "-": standard input. The compression is told by the first bytes. */
enum status lines_open(const char *path, struct lines **out, struct error *error) MUST_CHECK;
/* Reads from where `fd` stands, which stays the caller's; `name` is for messages. */
enum status lines_open_fd(int fd, const char *name, struct lines **out,
                          struct error *error) MUST_CHECK;
void lines_close(struct lines *lines); /* accepts NULL */

/* The next line without its line feed, good until the next call; *line is NULL at the end, and when
 * the program is stopping. The last line needs no line feed. */
enum status lines_next(struct lines *lines, const char **line, size_t *length,
                       struct error *error) MUST_CHECK;

/* Instead of lines: what comes next of the decompressed text, as much as there is at once. *length
 * is 0 at the end, and when the program is stopping. */
enum status lines_next_text(struct lines *lines, const char **text, size_t *length,
                            struct error *error) MUST_CHECK;

/* Bytes read so far, as they are in the file. */
int64_t lines_bytes_read(const struct lines *lines);

/* XXH3-128 of all text decompressed so far, hexadecimal: the content's, at the end. */
enum { LINES_CHECKSUM_BYTES = 33 };
void lines_checksum(const struct lines *lines, char out[LINES_CHECKSUM_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
