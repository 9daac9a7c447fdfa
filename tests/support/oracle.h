/* What every answer must be: a naive model that shares no code with the program.
 *
 * It keeps every record of a topic by partition and offset, as the generator's own numbers, and
 * computes the rows of a query over the records below a vector of positions: one fold, in 128-bit
 * hundredths, over arrays searched by bisection. What a view means is given in C (struct
 * oracle_view) beside the JSON that the program reads.
 *
 * Rows are compared as text, one line for each, with every value exactly as the program writes it:
 *
 *     2026-01-01T00:00:00Z 2026-01-01T01:00:00Z shop="a" item=null | n=3 turnover=12.5 | final
 *
 * Any thread; one lock. */
#ifndef DOVETAIL_TESTS_SUPPORT_ORACLE_H
#define DOVETAIL_TESTS_SUPPORT_ORACLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

__extension__ typedef __int128 oracle_number;

enum { ORACLE_PARTITIONS = 8, ORACLE_KEYS = 4, ORACLE_MEASURES = 16 };

enum oracle_type {
    ORACLE_STRING,
    ORACLE_INTEGER,
    ORACLE_DECIMAL, /* in hundredths */
    ORACLE_BOOLEAN,
    ORACLE_TIME, /* microseconds since 1970 */
};

struct oracle_value {
    enum oracle_type type;
    bool is_null;
    oracle_number number; /* of all but strings */
    const char *text;     /* borrowed from the event */
    size_t length;
};

/* --- views --- */

enum oracle_verdict { ORACLE_COUNTED, ORACLE_FILTERED, ORACLE_REJECTED };
enum oracle_fold { ORACLE_COUNT, ORACLE_SUM, ORACLE_AVG, ORACLE_MIN, ORACLE_MAX };

struct oracle_key {
    const char *name;
    void (*value)(const void *event, struct oracle_value *out);
};

struct oracle_measure {
    const char *name;
    enum oracle_fold fold;
    enum oracle_type type; /* of the argument; no matter for ORACLE_COUNT */
    /* The argument; false where FILTER refuses the record or the argument is NULL. */
    bool (*value)(const void *event, struct oracle_value *out);
};

enum oracle_kind { ORACLE_TUMBLING, ORACLE_HOPPING, ORACLE_SESSION, ORACLE_CALENDAR, ORACLE_NONE };

struct oracle_view {
    const char *name;
    const char *json; /* its definition, which says the same */
    enum oracle_kind kind;
    int64_t window_us; /* the size, the gap of sessions; 0 for calendars and without windows */
    int64_t slide_us;  /* of hopping windows */
    /* The window of a calendar that a time is in. */
    void (*calendar)(int64_t time_us, int64_t *start_us, int64_t *end_us);
    enum oracle_verdict (*verdict)(const void *event);
    struct oracle_key keys[ORACLE_KEYS];
    size_t key_count;
    struct oracle_measure measures[ORACLE_MEASURES];
    size_t measure_count;
};

/* --- records --- */

/* What becomes of a record in the source's ledger. */
enum oracle_outcome { ORACLE_IS_COUNTED, ORACLE_IS_FILTERED, ORACLE_IS_DEAD };
enum oracle_judgement { ORACLE_NOT_JUDGED, ORACLE_IS_FIRST, ORACLE_IS_DUPLICATE };

struct oracle_record {
    const void *event; /* NULL: not an event of the source, a dead letter for every view */
    int64_t time_us;
    bool is_ahead;               /* so far in the future that the watermark does not believe it */
    enum oracle_outcome outcome; /* unless it is a duplicate */
    int64_t id;                  /* what duplicates are known by; 0: none */
    enum oracle_judgement judgement; /* the oracle's own */
};

struct oracle;

/* `release` frees an event at the end; may be NULL. */
struct oracle *oracle_create(const char *topic, int partitions, void (*release)(void *event));
void oracle_destroy(struct oracle *oracle); /* accepts NULL */
/* From now on a record whose id another one has within so many offsets before it, in the same
 * partition, is a duplicate. Before the first record. */
void oracle_dedupe(struct oracle *oracle, int64_t within);
/* Partitions are about to be added: until the last answer that does not know them yet, both are
 * right. To be called before Kafka has them. */
void oracle_grow(struct oracle *oracle, int partitions);
int oracle_partitions(struct oracle *oracle);
/* The record at this offset. Offsets that are never added are holes of the log. */
void oracle_add(struct oracle *oracle, int partition, int64_t offset,
                const struct oracle_record *record);

/* For each partition the offset behind its last record. */
void oracle_ends(struct oracle *oracle, int64_t *out);
int64_t oracle_count(struct oracle *oracle); /* of records */

struct oracle_ledger {
    int64_t consumed, counted, filtered, duplicate, dead_lettered;
    int64_t last_offset; /* of the last record below the position, -1 before the first */
};
/* Of one partition's records below `position`. */
struct oracle_ledger oracle_ledger(struct oracle *oracle, int partition, int64_t position);

/* What the program says of its partitions, in one snapshot. */
struct oracle_positions {
    int partitions;
    int64_t next_offset[ORACLE_PARTITIONS]; /* P */
    struct oracle_ledger ledgers[ORACLE_PARTITIONS];
};
/* Nothing is lost or counted twice, and P is behind the last record that was applied: for every
 * partition consumed = counted + filtered + duplicate + dead-lettered = the records below P, each
 * of them as it must be, and no record lies between the last one applied and P. */
bool oracle_check_positions(struct oracle *oracle, const struct oracle_positions *positions,
                            char *problem, size_t problem_size);

/* --- queries --- */

enum oracle_layer { ORACLE_MERGED, ORACLE_BATCH, ORACLE_SPEED };
enum { ORACLE_WINDOW = 0, ORACLE_ALL = -1 }; /* granularities; else microseconds */

/* Zeroed: everything. */
struct oracle_query {
    const struct oracle_view *view;
    bool has_from, has_to;
    int64_t from_us, to_us;
    bool has_filter;
    size_t filter_key;
    struct oracle_value filter; /* the string of a filter is filter_text */
    char filter_text[32];
    bool has_group_by;
    size_t group_by[ORACLE_KEYS];
    size_t group_by_count;
    int64_t granularity;
    bool has_measures;
    size_t measures[ORACLE_MEASURES];
    size_t measure_count;
    bool has_order; /* by one measure */
    size_t order;
    bool descending;
    size_t limit;
    enum oracle_layer layer;
};

/* Path and query of the HTTP request that asks it; malloc'd. */
char *oracle_target(const struct oracle_query *query);

/* Where an answer stands. */
struct oracle_receipt {
    int64_t run;
    int partitions;
    int64_t cutoffs[ORACLE_PARTITIONS];
    int64_t positions[ORACLE_PARTITIONS];
    bool has_watermark;
    int64_t watermark_us;
};

/* The rows that the records below the receipt's positions give (for layer speed: those from its
 * cut-offs on), one line each; malloc'd. *count is their number. */
char *oracle_rows(struct oracle *oracle, const struct oracle_query *query,
                  const struct oracle_receipt *receipt, size_t *count);

/* The watermark that the records below `positions` give: the least over the partitions of the
 * greatest event time. False before the first event. */
bool oracle_watermark(struct oracle *oracle, const int64_t *positions, int64_t *out_us);

/* --- answers --- */

struct oracle_answer {
    struct oracle_receipt receipt;
    char *rows; /* as oracle_rows writes them; malloc'd */
};

/* Reads the JSON of an answer to `query`, numbers by their text. False with a text in `problem`:
 * it is not what the interface promises. */
bool oracle_read_answer(struct oracle *oracle, const struct oracle_query *query, const char *body,
                        struct oracle_answer *out, char *problem, size_t problem_size);

/* Compares an answer with the model: false with the first difference in `problem`. */
bool oracle_check(struct oracle *oracle, const struct oracle_query *query, const char *body,
                  char *problem, size_t problem_size);

/* The first line in which two texts of rows differ, for people. False: they are equal. */
bool oracle_difference(const char *expected, const char *got, char *out, size_t size);

/* "2026-01-01T00:00:00Z", with a fraction where there is one. `size` 40 suffices. */
void oracle_time_text(int64_t us, char *out, size_t size);

/* A JSON text whose numbers are strings that begin with '#', so that no digit is lost. */
json_t *oracle_exact_json(const char *text);

#endif
