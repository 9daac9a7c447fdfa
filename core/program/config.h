/* The configuration file: one table of options that drives parsing, --help and documentation.
 *
 * `${ENV_NAME}` and `${file:/path}` inside strings are replaced. Faults are STATUS_REJECT and name
 * the file and the key ("dovetail.json: speed.flush_interval_ms: ..."); unknown keys are faults.
 * Loaded once at start, then read-only from any thread. Secrets never appear in error texts. */
#ifndef DOVETAIL_CONFIG_H
#define DOVETAIL_CONFIG_H

#include <jansson.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/program/config_tokens.h"

struct config {
    json_t *kafka;        /* object of librdkafka properties, every value a string; owned */
    const char *postgres; /* libpq conninfo; secret */
    const char *schemas;  /* directory; relative paths are relative to the configuration file */

    int64_t speed_flush_interval_ms;          /* 1..60000, default 100 */
    int64_t speed_slice_interval_ms;          /* 100..86400000, default 60000 */
    int64_t speed_memory_bytes;               /* states and rows not yet written, default 256 MiB */
    const char *speed_metrics;                /* host:port of a page of metrics; NULL: none */
    bool speed_metrics_allow_unauthenticated; /* on an address that is not loopback */

    const char *batch_archive;  /* directory; default "archive" beside the configuration file */
    const char *batch_schedule; /* five-field cron expression, default every 10 minutes */
    const char *batch_full_schedule; /* the same, default nightly, or "off" */
    const char *batch_on_mismatch;   /* "publish" (default) or "hold" */
    int64_t batch_threads;           /* 0..256, 0 = one for each processor */
    int64_t batch_memory_bytes;      /* groups of a run, default 1 GiB */
    const char *batch_spill;         /* directory; NULL: "~spill" in batch_archive */
    int64_t batch_segment_bytes;     /* raw bytes of one segment, default 64 MiB */
    int64_t batch_compression_level; /* 1..19, default 3 */
    int64_t batch_retained_runs;     /* 1..1000, default 3 */
    const char *batch_metrics;       /* host:port of a page of metrics; NULL: none */
    bool batch_metrics_allow_unauthenticated;

    const char *serving_listen;   /* host:port, default 127.0.0.1:8080; port 0 = any free one */
    int64_t serving_threads;      /* 0 = one for each processor, at least four */
    int64_t serving_row_limit;    /* most rows of one answer, default 100000 */
    int64_t serving_memory_bytes; /* groups of all queries together, default 512 MiB */
    int64_t serving_cache_bytes;  /* kept answers, default 64 MiB; 0 = none */
    int64_t serving_live_streams; /* at a time, default 64; 0 = none */
    int64_t serving_live_streams_per_token;   /* 0 = no such bound */
    int64_t serving_live_streams_per_address; /* 0 = no such bound */
    int64_t serving_cache_age_ms; /* default 0 = PostgreSQL is asked whether anything moved */

    struct config_token *serving_tokens; /* in `arena`; none: nobody is asked who he is */
    size_t serving_token_count;
    bool serving_allow_unauthenticated;  /* on an address that is not loopback */
    const char *serving_tls_certificate; /* files, PEM; NULL: plain HTTP */
    const char *serving_tls_key;
    const char *serving_tls_client_ca; /* NULL: clients need no certificate */
    int64_t serving_connections;
    int64_t serving_connections_per_address; /* 0 = no bound of its own */
    int64_t serving_receive_timeout_ms;
    int64_t serving_respond_timeout_ms;

    int64_t serving_queue_ms;            /* that a request may wait for a thread, default 10000 */
    bool serving_ingest;                 /* events are taken from whoever reaches the server */
    int64_t serving_ingest_body_bytes;   /* of one request, unpacked too; default 1 MiB */
    int64_t serving_ingest_events;       /* of one request, default 10000 */
    int64_t serving_ingest_memory_bytes; /* bodies on their way to Kafka, default 64 MiB */
    int64_t serving_ingest_timeout_ms;   /* until Kafka has acknowledged, default 10000 */
    const char *serving_udp_listen;      /* host:port; NULL: no UDP */
    const char *serving_udp_source;      /* its name; required with that */
    const char *serving_udp_key;         /* a field, or NULL */
    bool serving_udp_allow_remote;

    json_t *root; /* owns the strings */
    struct arena arena;
};

/* `path` NULL means dovetail.json. */
enum status config_load(const char *path, struct config **out, struct error *error) MUST_CHECK;
void config_destroy(struct config *config);

/* The option table as text for --help, and as Markdown for docs/CONFIGURATION.md. Caller frees. */
char *config_help(void) MUST_CHECK;
char *config_markdown(void) MUST_CHECK;

#endif
