/* What consumers, producers and topic requests share: building a client from the configuration's
 * properties, and keeping librdkafka's newest complaint. Internal to core/kafka. */
#ifndef DOVETAIL_KAFKA_CLIENT_H
#define DOVETAIL_KAFKA_CLIENT_H

#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "core/base/error.h"

/* The opaque of a client's callbacks. Outlives the client. */
struct kafka_client {
    pthread_mutex_t lock;    /* guards problem and told_us: librdkafka's threads write them */
    char problem[512];       /* newest warning or error */
    int64_t told_us;         /* monotonic time of it */
    atomic_bool has_problem; /* so that looking at each message costs nothing */
};

struct kafka_property {
    const char *name;
    const char *value; /* NULL: skipped */
};

void kafka_client_init(struct kafka_client *client);
void kafka_client_deinit(struct kafka_client *client);

/* Copies the newest problem; false where there is none, or it has not been repeated for a minute.
 */
bool kafka_client_problem(struct kafka_client *client, char *buffer, size_t size);
void kafka_client_set_problem(struct kafka_client *client, const char *text);
void kafka_client_clear_problem(struct kafka_client *client);

/* defaults, then the user's properties, then `fixed`; both arrays end with a NULL name. Refuses the
 * properties that exactness depends on, by name. The caller destroys *out. */
enum status kafka_client_configure(struct kafka_client *client, const json_t *properties,
                                   const struct kafka_property *defaults,
                                   const struct kafka_property *fixed, rd_kafka_conf_t **out,
                                   struct error *error) MUST_CHECK;

/* Takes *conf, sets it to NULL. */
enum status kafka_client_create(rd_kafka_type_t type, rd_kafka_conf_t **conf, rd_kafka_t **out,
                                struct error *error) MUST_CHECK;

/* Ends a consumer's client, in bounded time. False: it did not end, and lives on with all that its
 * callbacks use, which the caller must leave alone, as long as the process. Where a topic that was
 * read is deleted, librdkafka 2.0 loses count of who uses a broker's thread and waits for it
 * without end. */
bool kafka_client_end(rd_kafka_t *rk) MUST_CHECK;

/* error_set with the code kept. */
enum status kafka_client_error(struct error *error, enum status status, rd_kafka_resp_err_t code,
                               const char *format, ...) PRINTF_LIKE(4, 5);

/* The status of a client that cannot go on; STATUS_OK while it can. */
enum status kafka_client_check_fatal(rd_kafka_t *rk, struct error *error) MUST_CHECK;

/* Troubles of brokers and networks that librdkafka itself works to overcome. */
bool kafka_client_is_transient(rd_kafka_resp_err_t code);

#endif
