/* The batch layer's metrics: see batch_layer/telemetry.h. */
#include "batch_layer/telemetry.h"

#include <inttypes.h>

static const double stage_bounds[] = {0.01, 0.1, 0.5, 1,   2.5, 5,    10,
                                      30,   60,  120, 300, 600, 1800, 3600};

static const char *const stage_names[TELEMETRY_STAGES] = {"load", "prepare", "process", "audit",
                                                          "store"};

enum status telemetry_start(struct telemetry *telemetry, const struct config *config,
                            struct error *error)
{
    for (size_t i = 0; i < TELEMETRY_STAGES; i++) {
        telemetry->stages[i].bounds = stage_bounds;
        telemetry->stages[i].bound_count = sizeof stage_bounds / sizeof stage_bounds[0];
    }
    return metrics_page_start(config->batch_metrics, "batch.metrics",
                              config->batch_metrics_allow_unauthenticated, &telemetry->page, error);
}

void telemetry_stop(struct telemetry *telemetry)
{
    metrics_page_destroy(telemetry->page);
    telemetry->page = NULL;
}

void telemetry_note_run(struct telemetry *telemetry, const struct run_report *report,
                        enum status status)
{
    const double ms[TELEMETRY_STAGES] = {report->stats.load_ms, report->stats.prepare_ms,
                                         report->stats.process_ms, report->audit.ms,
                                         report->stats.store_ms};
    telemetry->published += status == STATUS_OK;
    telemetry->failed += status != STATUS_OK;
    telemetry->mismatched += report->audit.mismatches;
    telemetry->refused = report->refused;
    if (status != STATUS_OK)
        return;
    for (size_t i = 0; i < TELEMETRY_STAGES; i++)
        metrics_observe(&telemetry->stages[i], ms[i] / 1e3);
    telemetry->folded += report->folded.read;
    telemetry->written += report->stored.inserted + report->stored.closed;
    telemetry->spilled_bytes += report->stats.spilled.bytes;
}

static void note_archiver(struct telemetry *telemetry, const struct archiver *archiver)
{
    if (archiver == NULL)
        return;
    int64_t records = archiver_record_count(archiver);
    int64_t bytes = archiver_raw_bytes(archiver);
    telemetry->archived_records += records - telemetry->seen_records;
    telemetry->archived_bytes += bytes - telemetry->seen_bytes;
    telemetry->seen_records = records;
    telemetry->seen_bytes = bytes;
}

void telemetry_forget_archiver(struct telemetry *telemetry, const struct archiver *archiver)
{
    note_archiver(telemetry, archiver);
    telemetry->seen_records = 0;
    telemetry->seen_bytes = 0;
}

/* --- telling --- */

enum partition_number { ARCHIVED, LOG_END, LAG, HALTED };

static int64_t number_of(const struct archiver_partition *partition, enum partition_number number)
{
    switch (number) {
    case ARCHIVED:
        return partition->next_offset;
    case LOG_END:
        return partition->log_end;
    case LAG:
        return partition->log_end < 0 ? -1
               : partition->log_end > partition->next_offset
                   ? partition->log_end - partition->next_offset
                   : 0;
    case HALTED:
        break;
    }
    return partition->halted;
}

static void write_partitions(struct archiver *archiver, FILE *out)
{
    static const struct {
        const char *name;
        const char *help;
    } families[] = {
        [ARCHIVED] = {"dovetail_archive_read_offset", "The archiver has every record below."},
        [LOG_END] = {"dovetail_log_end_offset", "End of the log, as Kafka told last."},
        [LAG] = {"dovetail_consumer_lag_records",
                 "Offsets between what the archiver has and the end of the log."},
        [HALTED] = {"dovetail_archive_halted", "1 where Kafka does not have the next record."},
    };
    size_t count = 0;
    const struct archiver_partition *partitions =
        archiver != NULL ? archiver_partitions(archiver, &count) : NULL;
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++) {
        metrics_describe(out, families[f].name, "gauge", families[f].help);
        for (size_t i = 0; i < count; i++) {
            int64_t number = number_of(&partitions[i], (enum partition_number)f);
            if (number >= 0) /* names of topics are of [a-zA-Z0-9._-] */
                fprintf(out, "%s{topic=\"%s\",partition=\"%" PRId32 "\"} %" PRId64 "\n",
                        families[f].name, partitions[i].topic, partitions[i].partition, number);
        }
    }
}

static void write_runs(const struct telemetry *telemetry, int64_t next_run_us, FILE *out)
{
    char labels[40];
    metrics_describe(out, "dovetail_runs_total", "counter", "Runs of this process.");
    fprintf(out, "dovetail_runs_total{result=\"published\"} %" PRId64 "\n", telemetry->published);
    fprintf(out, "dovetail_runs_total{result=\"failed\"} %" PRId64 "\n", telemetry->failed);
    metrics_describe(out, "dovetail_run_stage_duration_seconds", "histogram",
                     "What published runs cost; store is comparing, writing and publishing.");
    for (size_t i = 0; i < TELEMETRY_STAGES; i++) {
        snprintf(labels, sizeof labels, "stage=\"%s\"", stage_names[i]);
        metrics_write_histogram(out, "dovetail_run_stage_duration_seconds", labels,
                                &telemetry->stages[i]);
    }
    metrics_put(out, "dovetail_run_records_total", "counter", "Records that runs folded.",
                (double)telemetry->folded);
    metrics_put(out, "dovetail_run_rows_total", "counter", "Rows that runs closed and wrote.",
                (double)telemetry->written);
    metrics_put(out, "dovetail_run_spilled_bytes_total", "counter",
                "What published runs wrote to batch.spill.", (double)telemetry->spilled_bytes);
    metrics_put(out, "dovetail_run_mismatched_groups_total", "counter",
                "Groups that differed from what was said of the same records before.",
                (double)telemetry->mismatched);
    metrics_put(out, "dovetail_refused_definitions", "gauge",
                "Registered definitions that this program does not accept, by the last run.",
                (double)telemetry->refused);
    metrics_put(out, "dovetail_run_in_progress", "gauge", "1 while a run is at work.",
                telemetry->running);
    if (next_run_us != INT64_MAX)
        metrics_put(out, "dovetail_next_run_timestamp_seconds", "gauge",
                    "When the next run is due.", (double)next_run_us / 1e6);
}

void telemetry_write(struct telemetry *telemetry, struct archiver *archiver, int64_t next_run_us)
{
    note_archiver(telemetry, archiver);
    FILE *out = metrics_page_begin(telemetry->page);
    if (out == NULL)
        return;
    metrics_put(out, "dovetail_archived_records_total", "counter", "Records read from Kafka.",
                (double)telemetry->archived_records);
    metrics_put(out, "dovetail_archived_bytes_total", "counter", "Bytes of their values.",
                (double)telemetry->archived_bytes);
    write_partitions(archiver, out);
    write_runs(telemetry, next_run_us, out);
    metrics_page_end(telemetry->page);
}
