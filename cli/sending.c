/* Sending: see cli/sending.h. */
#include "cli/sending.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    FLUSH_STEP_MS = 500,
    STOP_WAIT_US = 5000000,
    KAFKA_TIMEOUT_MS = 15000,
    PROGRESS_EVERY = 4096,
};

/* NULL after complaining, with *exit_code. */
static const struct source *find_source(const struct definitions *definitions,
                                        const struct config *config, const char *name,
                                        int *exit_code)
{
    for (size_t i = 0; i < definitions->source_count; i++)
        if (strcmp(definitions->sources[i]->name, name) == 0)
            return definitions->sources[i];
    command_complain("there is no source %s in %s/sources", name, config->schemas);
    *exit_code = PROGRAM_USAGE;
    return NULL;
}

int sending_command(const struct program_arguments *program, const char *source_name,
                    sending_function *send, const void *arguments)
{
    struct session session = {0};
    struct definitions definitions = {0};
    const struct source *source = NULL;
    int code = session_load_config(&session, program);
    if (code == PROGRAM_OK)
        code = command_load_definitions(session.config, &definitions);
    if (code == PROGRAM_OK)
        source = find_source(&definitions, session.config, source_name, &code);
    if (code == PROGRAM_OK)
        code = send(arguments, session.config, source);
    definitions_deinit(&definitions);
    session_close(&session);
    return code;
}

enum status sending_start(struct sending *sending, struct error *error)
{
    sending->sent = 0;
    enum status status = kafka_producer_create(sending->config->kafka, &sending->producer, error);
    sending->start_us = program_monotonic_us();
    return status;
}

void sending_keep_rate(const struct sending *sending)
{
    int64_t rate = sending->rate;
    if (rate == 0)
        return;
    int64_t due_us =
        sending->start_us + sending->sent / rate * 1000000 + sending->sent % rate * 1000000 / rate;
    int64_t left_us = due_us - program_monotonic_us();
    if (left_us >= 1000)
        (void)program_wait_ms(left_us / 1000); /* the loop sees the stop */
}

static void show_progress(const struct sending *sending)
{
    command_progress("%" PRId64 " of %" PRId64 " records acknowledged",
                     kafka_producer_acknowledged(sending->producer), sending->sent);
}

enum status sending_send(struct sending *sending, int32_t partition, const char *key,
                         size_t key_length, const char *value, size_t length, struct error *error)
{
    enum status status = kafka_producer_send(sending->producer, sending->topic,
                                             partition < 0 ? RD_KAFKA_PARTITION_UA : partition, key,
                                             key_length, value, length, NULL, error);
    if (status != STATUS_OK)
        return status;
    int64_t every =
        sending->rate > 0 && sending->rate < PROGRESS_EVERY ? sending->rate : PROGRESS_EVERY;
    if (++sending->sent % every == 0)
        show_progress(sending);
    return STATUS_OK;
}

static enum status flush(const struct sending *sending, struct error *error)
{
    enum status status;
    int64_t stop_us = 0; /* when the stop was noticed */
    do {
        status = kafka_producer_flush(sending->producer, FLUSH_STEP_MS, error);
        show_progress(sending);
        if (program_stopping() && stop_us == 0)
            stop_us = program_monotonic_us();
    } while (status == STATUS_RETRY &&
             (stop_us == 0 || program_monotonic_us() - stop_us < STOP_WAIT_US));
    command_progress_end();
    return status;
}

enum status sending_finish(struct sending *sending, enum status status, struct error *error)
{
    struct error flush_error = {0};
    enum status flushed = flush(sending, &flush_error);
    if (status != STATUS_OK || flushed == STATUS_OK)
        return status;
    *error = flush_error;
    return flushed;
}

enum status sending_print_offsets(const struct sending *sending, struct error *error)
{
    struct kafka_consumer *consumer = NULL;
    int count = 0;
    enum status status = kafka_topic_partitions(sending->config->kafka, sending->topic,
                                                KAFKA_TIMEOUT_MS, &count, error);
    if (status == STATUS_OK)
        status = kafka_consumer_assign(sending->config->kafka, NULL, 0, &consumer, error);
    if (status == STATUS_OK)
        printf("{\"%s\": [", sending->topic);
    for (int32_t i = 0; status == STATUS_OK && i < count; i++) {
        int64_t low;
        int64_t high;
        status = kafka_consumer_watermarks(consumer, sending->topic, i, KAFKA_TIMEOUT_MS, &low,
                                           &high, error);
        if (status == STATUS_OK)
            printf("%s%" PRId64, i > 0 ? ", " : "", high);
    }
    if (status == STATUS_OK)
        puts("]}");
    kafka_consumer_close(consumer);
    return status;
}

void sending_end(struct sending *sending)
{
    kafka_producer_destroy(sending->producer);
    sending->producer = NULL;
}
