/* The events that the tests of the whole pipeline send: orders, as random as records get.
 *
 * Most are good, in many spellings of the same JSON; event times mostly go up, some lie a year
 * back; keys are sometimes NULL; some records are bad in one of many ways, some only for one view.
 * The same seed gives the same records. */
#ifndef DOVETAIL_TESTS_SUPPORT_ORDERS_H
#define DOVETAIL_TESTS_SUPPORT_ORDERS_H

#include "tests/support/oracle.h"

struct order {
    int64_t id; /* 0: none */
    int64_t time_us;
    bool has_shop, has_item, has_amount, has_paid, has_note;
    char shop[16];
    int64_t item;
    int64_t amount;
    int64_t cents; /* the price */
    int64_t parts;
    bool paid;
    char note[16];
    char pair[40]; /* shop || '-' || note; no matter where either is NULL */
};

extern const char orders_source[]; /* its definition, without the topic */
/* The same with another number of partitions, and with "dedupe" by "id" unless `within` is 0;
 * malloc'd. */
char *orders_source_with(int partitions, int64_t within);

enum { ORDERS_VIEWS = 3 };
/* sales: by shop and item, hourly. totals: by nothing, every minute. shares: by an expression,
 * daily, with a measure that fails on some records. */
extern const struct oracle_view orders_views[ORDERS_VIEWS];

/* Windows of every other kind: sessions by shop and item, bursts (sessions of all), hops by shop,
 * days of a time zone by item, ever (no windows) by shop. */
enum { ORDERS_WINDOW_VIEWS = 5 };
extern const struct oracle_view orders_window_views[ORDERS_WINDOW_VIEWS];

enum { ORDERS_REMEMBERED = 32 };

struct orders_generator {
    uint64_t random; /* the seed, to begin with */
    int64_t clock_us;
    int64_t period_us;               /* after which event times begin again; 0: never */
    const struct oracle_view *views; /* they decide what the ledger says of a record */
    size_t view_count;
    /* With ids, some of which come again in the same partition. */
    bool has_ids;
    int64_t last_id;
    struct {
        int64_t id;
        int partition;
    } remembered[ORDERS_REMEMBERED];
};

struct orders_record {
    bool has_value;
    size_t length;
    char value[1024];
    size_t key_length; /* 0: no key */
    char key[16];
    int partition;              /* that it must go to; -1: any */
    const char *fault;          /* what is bad about it, or NULL */
    struct oracle_record model; /* its event is malloc'd */
};

uint64_t orders_random(uint64_t *state); /* splitmix64 */
size_t orders_below(uint64_t *state, size_t bound);

void orders_generator_init(struct orders_generator *generator, uint64_t seed,
                           const struct oracle_view *views, size_t view_count);
void orders_next(struct orders_generator *generator, struct orders_record *out);
/* A record with an id went to a partition, so its id may come again there. */
void orders_sent(struct orders_generator *generator, const struct orders_record *record,
                 int partition);

/* Any question that can be asked about one of the views. */
void orders_random_query(uint64_t *random, const struct oracle_view *views, size_t view_count,
                         struct oracle_query *out);

/* Values for keys, filters and arguments of measures; orders_set_number gives `has`. */
void orders_set_string(struct oracle_value *out, bool has, const char *text);
bool orders_set_number(struct oracle_value *out, enum oracle_type type, bool has, int64_t number);

#endif
