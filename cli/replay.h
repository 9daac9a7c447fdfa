/* `dovetail dead-letters replay`: the records of dead letters back into their topic.
 *
 * docs/ARCHITECTURE.md, "Replaying dead letters", says which ones, and what is guaranteed. */
#ifndef DOVETAIL_CLI_REPLAY_H
#define DOVETAIL_CLI_REPLAY_H

#include "cli/command.h"

struct replay_options {
    const char *source; /* NULL: all */
    int64_t partition;  /* of the record, as `list` shows it; -1: any */
    int64_t offset;     /* -1: any */
    bool has_since;
    int64_t since_us; /* the letter was written then or later */
    bool still_bad;   /* also what no definition accepts */
    bool dry_run;
};

/* The exit code; everything is printed. */
int replay_letters(const struct session *session, const struct replay_options *options);

#endif
