/* Sending records to a source's topic at a rate, with acknowledgement: what `produce` and
 * `generate` share. One thread. */
#ifndef DOVETAIL_CLI_SENDING_H
#define DOVETAIL_CLI_SENDING_H

#include "cli/command.h"
#include "core/kafka/kafka.h"

struct sending {
    const struct config *config;
    const char *topic;
    struct kafka_producer *producer;
    int64_t rate; /* records a second at most, 0: no limit */
    int64_t sent;
    int64_t start_us;
};

/* A command that sends to the configured source of that name: loads the configuration and the
 * definitions' files and calls `send`, whose exit code it returns. */
typedef int sending_function(const void *arguments, const struct config *config,
                             const struct source *source);
int sending_command(const struct program_arguments *program, const char *source_name,
                    sending_function *send, const void *arguments);

/* Fills the rest of *sending and makes the producer. */
enum status sending_start(struct sending *sending, struct error *error) MUST_CHECK;

/* Waits until the next record is due; shorter where the program stops. */
void sending_keep_rate(const struct sending *sending);

/* partition -1: by key, or spread. */
enum status sending_send(struct sending *sending, int32_t partition, const char *key,
                         size_t key_length, const char *value, size_t length,
                         struct error *error) MUST_CHECK;

/* Until all is acknowledged, as long as the brokers take; message.timeout.ms ends it, and, some
 * seconds later, SIGTERM. `status` is what came of sending: what was sent counts in any case, and a
 * failure before is the one that is returned. */
enum status sending_finish(struct sending *sending, enum status status,
                           struct error *error) MUST_CHECK;

/* {"topic": [next offsets]} on stdout, as the at_least parameter of a query takes it. */
enum status sending_print_offsets(const struct sending *sending, struct error *error) MUST_CHECK;

void sending_end(struct sending *sending);

#endif
