/* Partitions that stand still, because the log does not have what is next: see
 * archiver_internal.h. Each is noted in the database with its offsets; the others go on. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "batch_layer/archiver_internal.h"
#include "core/program/program.h"

static enum status halt(struct archiver *archiver, struct archiver_partition *partition,
                        bool new_log, const struct error *why, struct error *error)
{
    partition->halted = true;
    program_log(LOG_ERR, "halted: %s", why->text);
    return halt_note(archiver->postgres, "batch", partition->topic, partition->partition,
                     partition->next_offset, new_log, why->text, error);
}

static enum status halt_missing(struct archiver *archiver, struct archiver_partition *partition,
                                struct error *error)
{
    struct error why;
    (void)!error_set(&why, STATUS_FATAL,
                     "%s[%" PRId32 "]: Kafka has no such partition any more; offset %" PRId64
                     " would be next",
                     partition->topic, partition->partition, partition->next_offset);
    return halt(archiver, partition, false, &why, error);
}

/* Is the next offset in the log, which begins at `low` and ends at log_end? If not it is halted. */
enum status archiver_check_log(struct archiver *archiver, struct archiver_partition *partition,
                               int64_t low, const struct gap *gaps, size_t gap_count,
                               struct error *error)
{
    struct error why;
    if (partition->missing)
        return halt_missing(archiver, partition, error);
    int64_t next = gaps_pass(gaps, gap_count, partition->partition, partition->next_offset);
    if (next > partition->next_offset)
        program_log(LOG_NOTICE,
                    "%s[%" PRId32 "]: the gap from offset %" PRId64 " to %" PRId64
                    " is archived as a hole",
                    partition->topic, partition->partition, partition->next_offset, next);
    partition->next_offset = next;
    partition->halted = next < low || next > partition->log_end;
    if (partition->halted && next > partition->log_end &&
        gaps_resume_at(gaps, gap_count, partition->partition, next))
        program_log(LOG_NOTICE,
                    "%s[%" PRId32 "]: waiting until the new log has grown to offset %" PRId64,
                    partition->topic, partition->partition, next);
    else if (partition->halted) {
        (void)!halt_describe(&why, partition->source, partition->topic, partition->partition, next,
                             next, low, partition->log_end);
        return halt(archiver, partition, false, &why, error);
    }
    if (partition->check_offset < low ||
        partition->check_offset < gaps_log_begins(gaps, gap_count, partition->partition))
        partition->check_offset = -1;
    return halt_clear(archiver->postgres, "batch", partition->topic, partition->partition, error);
}

enum status archiver_check_logs(struct archiver *archiver, const int64_t *lows, struct error *error)
{
    struct gap *gaps = NULL;
    size_t gap_count = 0;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < archiver->count; i++) {
        struct archiver_partition *partition = &archiver->partitions[i];
        if (i == 0 || strcmp(partition->topic, archiver->partitions[i - 1].topic) != 0) {
            free(gaps);
            gaps = NULL;
            status = gaps_list(archiver->postgres, partition->topic, &gaps, &gap_count, error);
        }
        if (status == STATUS_OK)
            status = archiver_check_log(archiver, partition, lows[i], gaps, gap_count, error);
    }
    free(gaps);
    return status;
}

enum status archiver_halt_foreign(struct archiver *archiver, struct archiver_partition *partition,
                                  int64_t offset, struct error *error)
{
    struct error why;
    (void)!halt_describe_foreign(&why, partition->source, partition->topic, partition->partition,
                                 offset);
    return halt(archiver, partition, true, &why, error);
}
