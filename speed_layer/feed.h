/* What the records of each topic go through: the parsers and view versions of one catalogue.
 *
 * A view version keeps the definition its source had when it was registered, because what a version
 * counts must never change. Versions whose source definitions are equal share one parser, so that a
 * record is parsed once for each distinct definition. Main thread only, but for the catalogue,
 * which is immutable. */
#ifndef DOVETAIL_SPEED_FEED_H
#define DOVETAIL_SPEED_FEED_H

#include "core/catalog/catalog.h"
#include "core/records/event_parser.h"
#include "core/records/mask.h"

/* One distinct definition of a source, and what it made of the record at hand. */
struct feed_parser {
    const struct source *source;
    struct event_parser *parser; /* owned */
    struct mask *mask;           /* owned; NULL: the definition has none */
    struct event event;
    bool parsed;    /* false: this definition refuses the record */
    bool duplicate; /* its id occurred shortly before: no version folds it */
};

struct feed_version {
    const struct catalog_version *version;
    size_t index;  /* in the catalogue's versions */
    size_t parser; /* index into feed->parsers */
};

/* One topic. */
struct feed {
    const struct source *source;    /* its newest definition: the parser at index 0 */
    const unsigned char *id_secret; /* the catalogue's */
    struct record_mask *masker;     /* of the newest definition, for dead letters; NULL: no mask */
    struct feed_parser *parsers;    /* at least one */
    size_t parser_count;
    struct feed_version *versions;
    size_t version_count;
};

struct feeds {
    struct catalog *catalog; /* owned */
    struct feed *feeds;      /* one for each source whose topic is not held (catalog_holds_topic) */
    size_t count;
};

/* Takes the catalogue, also when it fails. STATUS_REJECT: a mask's key. */
enum status feeds_create(struct catalog *catalog, struct feeds **out,
                         struct error *error) MUST_CHECK;
void feeds_destroy(struct feeds *feeds); /* accepts NULL */

/* Says that the values at these paths are masked in the records that come: mask_paths_text, as a
 * segment of the archive has it. NULL: none is, as in Kafka. */
void feed_note_masked(struct feed *feed, const char *paths_text);

/* The feed of a topic; NULL when no source has it. */
struct feed *feeds_find(const struct feeds *feeds, const char *topic);

#endif
