/* Events on their way to Kafka: see serving/ingest.h.
 *
 * Invariant: the bytes of all records that are not reported yet are below the bound, which is below
 * that of the producer's own queue: that one is never full, unless the configuration of Kafka makes
 * it smaller. */
#include "serving/ingest.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/http/upload.h"

struct ingest {
    struct kafka_writer *writer;
    struct upload_budget budget;
    atomic_bool is_closed;
    atomic_uint_fast64_t counts[INGEST_DOORS][INGEST_OUTCOMES];
};

bool ingest_is_configured(const struct config *config)
{
    if (config->serving_udp_listen != NULL)
        return true;
    if (config->serving_token_count == 0)
        return config->serving_ingest;
    for (size_t i = 0; i < config->serving_token_count; i++)
        if (config->serving_tokens[i].all_sources || config->serving_tokens[i].source_count > 0)
            return true;
    return false;
}

static void reported(void *opaque, const struct kafka_report *report)
{
    struct ingest_record *record = opaque;
    record->reported(record, report);
}

enum status ingest_create(const struct config *config, struct ingest **out, struct error *error)
{
    struct ingest *ingest = calloc(1, sizeof *ingest);
    *out = ingest;
    if (ingest == NULL)
        return error_no_memory(error);
    ingest->budget.limit_bytes = (size_t)config->serving_ingest_memory_bytes;
    enum status status = kafka_writer_create(config->kafka, (int)config->serving_ingest_timeout_ms,
                                             reported, &ingest->writer, error);
    if (status != STATUS_OK) {
        free(ingest);
        *out = NULL;
    }
    return status;
}

void ingest_destroy(struct ingest *ingest)
{
    if (ingest == NULL)
        return;
    kafka_writer_destroy(ingest->writer);
    free(ingest);
}

void ingest_close(struct ingest *ingest)
{
    atomic_store(&ingest->is_closed, true);
}

bool ingest_is_closed(const struct ingest *ingest)
{
    return atomic_load(&ingest->is_closed);
}

bool ingest_enter(struct ingest *ingest, size_t bytes)
{
    return upload_budget_take(&ingest->budget, bytes);
}

void ingest_leave(struct ingest *ingest, size_t bytes)
{
    upload_budget_give_back(&ingest->budget, bytes);
}

enum status ingest_send(struct ingest *ingest, const char *topic, const char *key,
                        size_t key_length, const char *value, size_t value_length,
                        struct ingest_record *record, struct error *error)
{
    return kafka_writer_send(ingest->writer, topic, key, key_length, value, value_length, record,
                             error);
}

void ingest_count(struct ingest *ingest, enum ingest_door door, enum ingest_outcome outcome,
                  uint64_t events)
{
    atomic_fetch_add_explicit(&ingest->counts[door][outcome], events, memory_order_relaxed);
}

void ingest_write_metrics(const struct ingest *ingest, FILE *out)
{
    static const char *const doors[] = {"http", "udp"};
    static const char *const outcomes[] = {"accepted", "invalid", "not_written", "unknown",
                                           "overflow"};
    if (ingest == NULL)
        return;
    fputs("# HELP dovetail_ingest_events_total Events that were sent here, by what became of them."
          "\n# TYPE dovetail_ingest_events_total counter\n",
          out);
    for (size_t d = 0; d < INGEST_DOORS; d++)
        for (size_t o = 0; o < INGEST_OUTCOMES; o++)
            fprintf(out,
                    "dovetail_ingest_events_total{door=\"%s\",outcome=\"%s\"} %" PRIuFAST64 "\n",
                    doors[d], outcomes[o],
                    atomic_load_explicit(&ingest->counts[d][o], memory_order_relaxed));
    fprintf(out,
            "# HELP dovetail_ingest_pending_bytes Events that are being answered.\n"
            "# TYPE dovetail_ingest_pending_bytes gauge\ndovetail_ingest_pending_bytes %zu\n",
            atomic_load(&ingest->budget.used_bytes));
}
