/* Lines of a file or of standard input, plain or compressed with zstd. */
#ifndef DOVETAIL_CLI_LINES_H
#define DOVETAIL_CLI_LINES_H

#include "core/base/error.h"

struct lines;

/* `path` NULL or "-": standard input. The compression is told by the first bytes. */
enum status lines_open(const char *path, struct lines **out, struct error *error) MUST_CHECK;
void lines_close(struct lines *lines); /* accepts NULL */

/* The next line without its line feed, good until the next call; *line is NULL at the end, and when
 * the program is stopping. The last line needs no line feed. */
enum status lines_next(struct lines *lines, const char **line, size_t *length,
                       struct error *error) MUST_CHECK;

#endif
