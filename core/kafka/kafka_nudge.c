/* Keeps a consumer's queue filled.
 *
 * A fetcher of librdkafka that finds the queue full looks again after a second, however soon there
 * is room. Whoever reads faster than the queue's bytes in a second then waits for the rest of it:
 * 0.7 instead of 2.5 million messages a second here. From version 2.2 on a property sets the pause.
 * Before, fetchers look again when something wakes them, and of the public calls only the setting
 * of credentials does so, without a request to a broker. So the credentials in use are set again,
 * every megabyte taken. Not with Kerberos, which reads them without a lock: there it stays slow.
 *
 * Nothing here can lose or repeat a record. One thread, the consumer's. */
#include "core/kafka/kafka_nudge.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    NUDGE_BYTES = 1 << 20,
    MESSAGE_BYTES = 128, /* what a message costs besides its value, about */
};

static const char *text_property(const json_t *properties, const char *name)
{
    return json_string_value(json_object_get(properties, name));
}

/* False where setting them again would change or endanger anything. */
static bool find_credentials(const json_t *properties, const char **username, const char **password)
{
    const char *protocol = text_property(properties, "security.protocol");
    *username = *password = "";
    if (protocol == NULL || strncasecmp(protocol, "sasl", 4) != 0)
        return true; /* nobody reads them */
    const char *mechanism = text_property(properties, "sasl.mechanisms");
    if (mechanism == NULL)
        mechanism = text_property(properties, "sasl.mechanism");
    *username = text_property(properties, "sasl.username");
    *password = text_property(properties, "sasl.password");
    return mechanism != NULL && strcasecmp(mechanism, "GSSAPI") != 0 && *username != NULL &&
           *password != NULL;
}

enum status kafka_nudge_init(struct kafka_nudge *nudge, const json_t *properties,
                             rd_kafka_conf_t *conf, struct error *error)
{
    static const char pause[] = "fetch.queue.backoff.ms";
    char reason[64];
    const char *username, *password;
    *nudge = (struct kafka_nudge){0};
    if (json_object_get(properties, pause) != NULL ||
        rd_kafka_conf_set(conf, pause, "5", reason, sizeof reason) == RD_KAFKA_CONF_OK ||
        !find_credentials(properties, &username, &password))
        return STATUS_OK;
    nudge->username = strdup(username);
    nudge->password = strdup(password);
    if (nudge->username == NULL || nudge->password == NULL)
        return error_no_memory(error);
    nudge->needed = true;
    return STATUS_OK;
}

void kafka_nudge_deinit(struct kafka_nudge *nudge)
{
    free(nudge->username);
    free(nudge->password);
    *nudge = (struct kafka_nudge){0};
}

static void wake_fetchers(struct kafka_nudge *nudge, rd_kafka_t *rk)
{
    nudge->taken_bytes = 0;
    if (!nudge->needed)
        return;
    rd_kafka_error_t *failure = rd_kafka_sasl_set_credentials(rk, nudge->username, nudge->password);
    if (failure != NULL)
        rd_kafka_error_destroy(failure);
}

void kafka_nudge_taken(struct kafka_nudge *nudge, rd_kafka_t *rk, size_t bytes)
{
    nudge->taken_bytes += bytes + MESSAGE_BYTES;
    if (nudge->taken_bytes >= NUDGE_BYTES)
        wake_fetchers(nudge, rk);
}

void kafka_nudge_empty(struct kafka_nudge *nudge, rd_kafka_t *rk)
{
    if (nudge->taken_bytes > 0)
        wake_fetchers(nudge, rk);
}
