/* Sources and views as their JSON definitions say them.
 *
 * A definition is loaded once, checked completely and then never changed: everything here may be
 * read from any thread. Faults name the file, the key and, inside expressions, the column. Nothing
 * here reads a clock or does I/O but definition_load_file. */
#ifndef DOVETAIL_DEFINITION_H
#define DOVETAIL_DEFINITION_H

#include <jansson.h>

#include "core/expressions/expression.h"
#include "core/measures/measure.h"
#include "core/value.h"
#include "core/windows/window.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    NAME_MAX_BYTES = 48,         /* [a-z][a-z0-9_]{0,47} */
    SOURCE_FIELD_MAX = 256,      /* fields of one source, derived ones too */
    SOURCE_MASK_MAX = 64,        /* masked fields of one source */
    VIEW_KEY_MAX = 16,           /* group_by entries of one view */
    VIEW_MEASURE_MAX = 64,       /* measures of one view */
    VIEW_LOOKUP_MAX = 8,         /* reference tables of one view */
    VIEW_LOOKED_UP_MAX = 32,     /* their columns together */
    LOOKED_UP_BYTES_MAX = 65536, /* string bytes of one row's looked-up columns together */
    KEY_BYTES_MAX = 2000, /* string bytes of one group's keys together: PostgreSQL's index limit */
};

/* The version of what definitions mean; part of view_canonical_text, so that `dovetail init` makes
 * a new version of every view and no state of another engine is ever merged with this one's.
 *
 * Raise it with every change after which some view gives, for some record, another fate (counted,
 * filtered, rejected), another window, key or result, or stores its state in another form: changed
 * types or rounding, another hash or estimate, another encoding. Do not raise it for what was
 * refused and now loads, for texts of errors, or for speed.
 * tests/unit/core/test_engine_version.c notices many such changes.
 *
 *   1  the first
 *   2  literals within 32 bits and what is computed from them are integers of 32 bits, as in
 *      PostgreSQL, and go out of range there
 */
#ifndef DOVETAIL_ENGINE_VERSION /* tests have programs of another one */
#define DOVETAIL_ENGINE_VERSION 2
#endif
enum { ENGINE_VERSION = DOVETAIL_ENGINE_VERSION };

enum time_format { TIME_RFC3339, TIME_EPOCH_S, TIME_EPOCH_MS, TIME_EPOCH_US };

struct source_field {
    const char *name;
    enum value_type type;
    enum time_format format; /* of a timestamp */
    bool nullable;
    const char *const *path; /* member names from the record's root; of a derived field none */
    size_t path_count;
};

struct source_derived {
    const char *text; /* as written */
    struct expression *expression;
};

struct source {
    const char *name;
    const char *topic;
    const char *dead_letter_topic;
    int partitions;                    /* of a topic that `dovetail init` creates */
    const struct source_field *fields; /* those of the record, then the derived ones in order */
    size_t field_count;
    struct source_derived *derived; /* for each of the last derived_count fields */
    size_t derived_count;
    const size_t *drop_if_null; /* indexes: a record in which one of these is NULL is filtered */
    size_t drop_if_null_count;
    size_t event_time_field; /* index; a timestamp, or what event_time_format is read from */
    enum time_format event_time_format;
    const size_t *mask_fields; /* indexes of the strings that are masked: core/records/mask.h */
    size_t mask_count;         /* 0: the source has no mask */
    const char *mask_key_file;
    bool mask_key;             /* the key of a dead letter is withheld */
    char mask_fingerprint[65]; /* of the registered key; empty: not known. Set by the catalogue */
    int64_t dedupe_within;     /* offsets; 0: records are not compared */
    size_t
        dedupe_field;   /* index of the id: a string or an integer; see core/records/recent_ids.h */
    json_t *json;       /* owned; the definition as given */
    char *text;         /* owned; the same as compact text: see source_reads_alike */
    struct arena arena; /* owns everything above */
};

/* A key, or a looked-up column, which answers treat like one. */
struct view_key {
    const char *name;
    const char *text; /* the expression as written; of a looked-up column "airports.city" */
    enum value_type type;
    struct expression *expression;    /* NULL of a looked-up column */
    const struct view_lookup *lookup; /* NULL of a key */
    const char *column;               /* of the reference table */
};

/* A reference table in PostgreSQL, joined to the rows of an answer by one of the view's keys. It is
 * no part of what a view computes. Names are as PostgreSQL has them, valid identifiers. */
struct view_lookup {
    size_t number; /* 1, 2, ... */
    const char *schema;
    const char *table;
    const char *shown;     /* "airports" or "ref.airports", as written */
    size_t key;            /* index into view->keys */
    const char *on;        /* the table's column that is equal to the key */
    const char *collation; /* of that column, quoted; NULL: none, or not known yet */
    size_t first;          /* its columns are view->keys[first] and the following */
    size_t column_count;
};

struct view_measure {
    const char *name;
    const char *text; /* as written, e.g. "sum(delay) FILTER (WHERE delay > 0)" */
    struct measure *measure;
};

struct view {
    const char *name;
    const struct source *source; /* borrowed */
    const char *where_text;      /* NULL: every record */
    struct expression *where;
    struct view_key *keys; /* the keys, and behind them the looked-up columns */
    size_t key_count;
    size_t looked_up_count;
    struct view_lookup *lookups;
    size_t lookup_count;
    struct window window;
    struct view_measure *measures;
    size_t measure_count;
    size_t
        state_count; /* measures with states: measure_count, and the window's hidden one behind */
    size_t state_bytes; /* of all measures of one group; measure i is at state_offsets[i] */
    size_t *state_offsets;
    json_t *json;
    struct arena arena;
};

/* Builds a source from JSON. `place` (a file name or "database") begins every error text. */
enum status source_create(json_t *json, const char *place, struct source **out,
                          struct error *error) MUST_CHECK;
void source_destroy(struct source *source);
/* Equal texts have the same fields in the same order, so one parsed event serves the views of both.
 */
bool source_reads_alike(const struct source *a, const struct source *b);

/* Room for the state of measures[index], behind all others. */
void view_place_state(struct view *view, size_t index);
/* Adds the window's hidden measure, if it has one, behind those of the view: `measures` and
 * `state_offsets` have room for it. */
void view_add_hidden_measure(struct view *view);

/* Builds a view over `source`, which must outlive it. NULL is the source of a view that names none:
 * such a view is refused. */
enum status view_create(json_t *json, const char *place, const struct source *source,
                        struct view **out, struct error *error) MUST_CHECK;
void view_destroy(struct view *view);

/* Every source and view below `directory`/sources and `directory`/views, sorted by name. */
struct definitions {
    struct source **sources;
    size_t source_count;
    struct view **views;
    size_t view_count;
};

/* Loads and checks all of them. At the first fault of each file `on_fault` is called with its text;
 * STATUS_REJECT when there was one. The caller owns *out in every case (definitions_deinit). */
enum status definitions_load(const char *directory, struct definitions *out,
                             void (*on_fault)(const char *text, void *context), void *context,
                             struct error *error) MUST_CHECK;
void definitions_deinit(struct definitions *definitions);

/* Canonical text of what a view computes (its definition, its source's, the engine's version): two
 * views with equal text have equal rows, so their stored states may be shared. Lookups are no part
 * of it: they are joined to the rows when somebody asks. Owned by the caller
 * (free). NULL when out of memory. */
char *view_canonical_text(const struct view *view) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
