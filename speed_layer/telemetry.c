/* The speed layer's metrics: see speed_layer/telemetry.h. */
#include "speed_layer/telemetry.h"

#include <inttypes.h>
#include <string.h>

#include "core/program/program.h"
#include "speed_layer/speed.h"

enum { PAGE_US = 500000 };

static const double flush_bounds[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                      1,     2.5,  5,     10,   30,  60,   300};

enum status telemetry_start(struct speed *speed, struct error *error)
{
    struct telemetry *telemetry = &speed->telemetry;
    telemetry->flushes.bounds = flush_bounds;
    telemetry->flushes.bound_count = sizeof flush_bounds / sizeof flush_bounds[0];
    return metrics_page_start(speed->config->speed_metrics, "speed.metrics",
                              speed->config->speed_metrics_allow_unauthenticated, &telemetry->page,
                              error);
}

void telemetry_stop(struct speed *speed)
{
    metrics_page_destroy(speed->telemetry.page);
    speed->telemetry.page = NULL;
}

/* --- counting --- */

void telemetry_note_submitted(struct speed *speed)
{
    speed->telemetry.submitted_us = program_monotonic_us();
}

void telemetry_note_flush(struct speed *speed, const struct flush *flush)
{
    struct telemetry *telemetry = &speed->telemetry;
    telemetry->fenced += flush->status == STATUS_FENCED;
    telemetry->abandoned += flush->status == STATUS_RETRY;
    if (flush->status != STATUS_OK)
        return;
    metrics_observe(&telemetry->flushes,
                    (double)(program_monotonic_us() - telemetry->submitted_us) / 1e6);
    for (size_t i = 0; i < flush->partition_count; i++) {
        telemetry->consumed += flush->partitions[i].consumed;
        telemetry->counted += flush->partitions[i].counted;
        telemetry->filtered += flush->partitions[i].filtered;
        telemetry->duplicate += flush->partitions[i].duplicate;
    }
    for (size_t i = 0; i < flush->version_count; i++) {
        telemetry->inserted += (int64_t)flush->versions[i].insert_count;
        telemetry->updated += (int64_t)flush->versions[i].update_count;
    }
    for (size_t i = 0; i < DEAD_LETTER_KINDS; i++)
        telemetry->dead[i] += flush->dead[i];
    telemetry->slices += flush->slices;
}

/* --- telling --- */

static void write_partitions(const struct speed *speed, FILE *out, const char *name,
                             const char *help,
                             bool (*read)(const struct speed *, const struct partition *, double *))
{
    metrics_describe(out, name, "gauge", help);
    for (size_t i = 0; i < speed->partition_count; i++) {
        const struct partition *partition = &speed->partitions[i];
        double value;
        if (partition->claimed && read(speed, partition, &value)) /* names are of [a-zA-Z0-9._-] */
            fprintf(out, "%s{topic=\"%s\",partition=\"%" PRId32 "\"} %.17g\n", name,
                    partition->topic, partition->partition, value);
    }
}

static bool read_position(const struct speed *speed, const struct partition *partition, double *out)
{
    (void)speed;
    *out = (double)partition->next_offset;
    return true;
}

static int64_t log_end(const struct speed *speed, const struct partition *partition)
{
    return kafka_consumer_known_end(speed->consumer, partition->topic, partition->partition);
}

static bool read_end(const struct speed *speed, const struct partition *partition, double *out)
{
    int64_t end = log_end(speed, partition);
    *out = (double)end;
    return end >= 0;
}

static bool read_lag(const struct speed *speed, const struct partition *partition, double *out)
{
    int64_t end = log_end(speed, partition);
    *out = end > partition->next_offset ? (double)(end - partition->next_offset) : 0;
    return end >= 0;
}

static bool read_freshness(const struct speed *speed, const struct partition *partition,
                           double *out)
{
    (void)speed;
    *out = (double)(program_monotonic_us() - partition->handed_as_of_us) / 1e6;
    return partition->handed_as_of_us != 0;
}

static bool read_halted(const struct speed *speed, const struct partition *partition, double *out)
{
    (void)speed;
    *out = partition->supply == SUPPLY_HALTED;
    return true;
}

static void write_ledger(const struct telemetry *telemetry, FILE *out)
{
    static const char name[] = "dovetail_speed_records_total";
    int64_t dead = 0;
    for (size_t i = 0; i < DEAD_LETTER_KINDS; i++)
        dead += telemetry->dead[i];
    metrics_describe(out, name, "counter",
                     "Records by what became of them; consumed is the sum of the others.");
    fprintf(out, "%s{outcome=\"consumed\"} %" PRId64 "\n", name, telemetry->consumed);
    fprintf(out, "%s{outcome=\"counted\"} %" PRId64 "\n", name, telemetry->counted);
    fprintf(out, "%s{outcome=\"filtered\"} %" PRId64 "\n", name, telemetry->filtered);
    fprintf(out, "%s{outcome=\"duplicate\"} %" PRId64 "\n", name, telemetry->duplicate);
    fprintf(out, "%s{outcome=\"dead_lettered\"} %" PRId64 "\n", name, dead);
    metrics_describe(out, "dovetail_dead_letters_total", "counter", "Dead letters by reason.");
    for (size_t i = 0; i < DEAD_LETTER_KINDS; i++)
        fprintf(out, "dovetail_dead_letters_total{reason=\"%s\"} %" PRId64 "\n",
                dead_letter_kind_name((enum dead_letter_kind)i), telemetry->dead[i]);
}

static void write_flushes(const struct telemetry *telemetry, FILE *out)
{
    metrics_describe(out, "dovetail_flush_duration_seconds", "histogram",
                     "From handing a flush over until it was committed, retries included.");
    metrics_write_histogram(out, "dovetail_flush_duration_seconds", "", &telemetry->flushes);
    metrics_describe(out, "dovetail_flush_failures_total", "counter",
                     "Flushes that wrote nothing, or may have.");
    fprintf(out, "dovetail_flush_failures_total{reason=\"fenced\"} %" PRId64 "\n",
            telemetry->fenced);
    fprintf(out, "dovetail_flush_failures_total{reason=\"abandoned\"} %" PRId64 "\n",
            telemetry->abandoned);
    metrics_describe(out, "dovetail_flush_rows_total", "counter", "Rows of states written.");
    fprintf(out, "dovetail_flush_rows_total{kind=\"new\"} %" PRId64 "\n", telemetry->inserted);
    fprintf(out, "dovetail_flush_rows_total{kind=\"changed\"} %" PRId64 "\n", telemetry->updated);
    metrics_put(out, "dovetail_slices_total", "counter", "Slices that were closed.",
                (double)telemetry->slices);
}

static void write_memory(const struct speed *speed, FILE *out)
{
    size_t states = 0;
    size_t waiting = flush_bytes(speed->open);
    for (size_t i = 0; i < speed->partition_count; i++) {
        states += partition_memory_bytes(&speed->partitions[i]);
        waiting += partition_pending_bytes(&speed->partitions[i]);
    }
    metrics_put(out, "dovetail_speed_states_bytes", "gauge", "States of open slices.",
                (double)states);
    metrics_put(out, "dovetail_speed_waiting_bytes", "gauge",
                "Rows and dead letters that the next flush takes.", (double)waiting);
    metrics_put(out, "dovetail_speed_memory_limit_bytes", "gauge", "speed.memory.",
                (double)speed->config->speed_memory_bytes);
    metrics_put(out, "dovetail_speed_paused", "gauge",
                "1 while consumption waits for the flush under way.", speed->paused);
}

void telemetry_tick(struct speed *speed)
{
    struct telemetry *telemetry = &speed->telemetry;
    if (telemetry->page == NULL || speed->now_us < telemetry->next_us)
        return;
    telemetry->next_us = speed->now_us + PAGE_US;
    FILE *out = metrics_page_begin(telemetry->page);
    if (out == NULL)
        return;
    metrics_put(out, "dovetail_speed_read_records_total", "counter",
                "Records folded, written or not; those that are read again are counted again.",
                (double)(speed->records_total + speed->records));
    metrics_put(out, "dovetail_speed_read_bytes_total", "counter", "Bytes of their values.",
                (double)telemetry->bytes);
    write_partitions(speed, out, "dovetail_speed_read_offset",
                     "Records below it are folded, of the partitions that are ours.",
                     read_position);
    write_partitions(speed, out, "dovetail_log_end_offset", "End of the log, as Kafka told last.",
                     read_end);
    write_partitions(speed, out, "dovetail_consumer_lag_records",
                     "Offsets between what is folded and the end of the log.", read_lag);
    write_partitions(speed, out, "dovetail_speed_freshness_seconds",
                     "What was in the log this long ago has been handed to PostgreSQL.",
                     read_freshness);
    write_partitions(speed, out, "dovetail_speed_halted",
                     "1 where neither Kafka nor the archive has the next record.", read_halted);
    write_ledger(telemetry, out);
    write_flushes(telemetry, out);
    write_memory(speed, out);
    metrics_page_end(telemetry->page);
}
