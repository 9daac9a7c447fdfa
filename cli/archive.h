/* dovetail archive: its actions. Each prints and returns the exit code; one thread. */
#ifndef DOVETAIL_CLI_ARCHIVE_H
#define DOVETAIL_CLI_ARCHIVE_H

#include "cli/command.h"
#include "core/archive/archive.h"

struct archive_question {
    const struct session *session;
    const struct source *source; /* NULL: every topic that the manifest or the folder has */
    bool as_json;
    bool has_partition;
    int64_t partition;
    int64_t from_offset;
    int64_t to_offset; /* exclusive */
};

int archive_list(const struct archive_question *question);
int archive_verify(const struct archive_question *question);
int archive_cat(const struct archive_question *question);
int archive_repair(const struct archive_question *question);

/* One segment, wholly: the file, every record's offset, the counts, the contents. STATUS_FATAL says
 * what is wrong with it; STATUS_RETRY "interrupted". */
enum status archive_check_segment(const struct config *config,
                                  const struct archive_segment *segment,
                                  struct error *error) MUST_CHECK;

/* The topics of a question. Caller: free each, and the array. */
enum status archive_topics(const struct archive_question *question, char ***out, size_t *count,
                           struct error *error) MUST_CHECK;
void archive_topics_free(char **topics, size_t count);

#endif
