/* Building librdkafka clients: see core/kafka/kafka_client.h.
 *
 * Invariant: the properties that exactness depends on are ours alone, and a value of a property is
 * never printed, because some are secrets. Callbacks of this file run in librdkafka's threads and
 * touch nothing but the locked problem text. */
#include "core/kafka/kafka_client.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/kafka/kafka.h"
#include "core/program/program.h"

/* librdkafka repeats a lasting failure every 30 seconds. */
#define PROBLEM_LIFE_US INT64_C(60000000)

enum { END_TIMEOUT_S = 5 };

/* Offsets are kept in PostgreSQL, out-of-range offsets must be told, aborted transactions must not
 * be counted, every acknowledgement must be seen; and the other assignment strategies have faults
 * in librdkafka 2.0. */
static const char *const reserved_properties[] = {
    "auto.commit.enable",
    "auto.offset.reset",
    "delivery.report.only.error",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "group.instance.id",
    "isolation.level",
    "partition.assignment.strategy",
};

/* P moves past a record once its dead letter is acknowledged, so that must mean kept by all in-sync
 * replicas. These may be written, but not made weaker. */
static const struct strong_property {
    const char *name;
    const char *values[3]; /* that are strong enough */
} strong_properties[] = {
    {"acks", {"all", "-1"}},
    {"request.required.acks", {"all", "-1"}},
    {"enable.idempotence", {"true", "t", "1"}},
};

void kafka_client_init(struct kafka_client *client)
{
    *client = (struct kafka_client){.lock = PTHREAD_MUTEX_INITIALIZER};
}

void kafka_client_deinit(struct kafka_client *client)
{
    pthread_mutex_destroy(&client->lock);
}

/* --- problems --- */

bool kafka_client_problem(struct kafka_client *client, char *buffer, size_t size)
{
    bool recent = false;
    if (!atomic_load(&client->has_problem))
        return false;
    pthread_mutex_lock(&client->lock);
    if (program_monotonic_us() - client->told_us < PROBLEM_LIFE_US) {
        snprintf(buffer, size, "%s", client->problem);
        recent = true;
    }
    pthread_mutex_unlock(&client->lock);
    return recent;
}

void kafka_client_set_problem(struct kafka_client *client, const char *text)
{
    pthread_mutex_lock(&client->lock);
    snprintf(client->problem, sizeof client->problem, "%s", text);
    client->told_us = program_monotonic_us();
    atomic_store(&client->has_problem, true);
    pthread_mutex_unlock(&client->lock);
}

void kafka_client_clear_problem(struct kafka_client *client)
{
    if (atomic_load_explicit(&client->has_problem, memory_order_relaxed))
        atomic_store(&client->has_problem, false);
}

static void receive_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    /* A property of producers given to a consumer, and lag hints that got lost, are no problems. */
    if (level > LOG_WARNING || strcmp(facility, "CONFWARN") == 0 ||
        strcmp(facility, "COMMITFAIL") == 0)
        return;
    if (strncmp(text, "[thrd:", 6) == 0) {
        const char *end = strstr(text, "]: ");
        text = end != NULL ? end + 3 : text;
    }
    struct kafka_client *client = rd_kafka_opaque(rk);
    if (client != NULL)
        kafka_client_set_problem(client, text);
    /* A fatal error is returned by the next call, and told by whoever called. */
    if (level <= LOG_ERR && strcmp(facility, "FATAL") != 0)
        program_log(LOG_ERR, "Kafka: %s", text);
}

/* Its presence keeps librdkafka from logging these. Fatal ones are asked for where calls fail; that
 * all brokers are down would hide why each of them is. */
static void receive_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    (void)rk;
    if (code != RD_KAFKA_RESP_ERR__FATAL && code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        kafka_client_set_problem(opaque, reason);
}

/* --- properties --- */

static bool is_reserved(const char *name)
{
    for (size_t i = 0; i < sizeof reserved_properties / sizeof reserved_properties[0]; i++)
        if (strcmp(name, reserved_properties[i]) == 0)
            return true;
    return false;
}

static enum status check_strength(const char *name, const char *value, struct error *error)
{
    for (size_t i = 0; i < sizeof strong_properties / sizeof strong_properties[0]; i++) {
        const struct strong_property *property = &strong_properties[i];
        if (strcmp(name, property->name) != 0)
            continue;
        for (size_t v = 0; v < 3 && property->values[v] != NULL; v++)
            if (strcmp(value, property->values[v]) == 0)
                return STATUS_OK;
        return error_set(error, STATUS_REJECT,
                         "kafka.\"%s\": cannot be other than \"%s\", or dead letters could be lost",
                         name, property->values[0]);
    }
    return STATUS_OK;
}

const char *kafka_property_text(const json_t *value, char *buffer, size_t size)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return json_string_value(value);
    case JSON_INTEGER:
        snprintf(buffer, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return buffer;
    case JSON_REAL:
        snprintf(buffer, size, "%.10g", json_real_value(value));
        return buffer;
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    default:
        return NULL;
    }
}

static enum status set_property(rd_kafka_conf_t *conf, const char *name, const char *value,
                                struct error *error)
{
    char reason[512]; /* not shown: it may quote the value */
    switch (rd_kafka_conf_set(conf, name, value, reason, sizeof reason)) {
    case RD_KAFKA_CONF_OK:
        return STATUS_OK;
    case RD_KAFKA_CONF_UNKNOWN:
        return error_set(error, STATUS_REJECT, "kafka.\"%s\": librdkafka %s has no such property",
                         name, rd_kafka_version_str());
    default:
        return error_set(error, STATUS_REJECT, "kafka.\"%s\": not a value that librdkafka accepts",
                         name);
    }
}

static enum status set_properties(rd_kafka_conf_t *conf, const struct kafka_property *properties,
                                  struct error *error)
{
    enum status status = STATUS_OK;
    for (; status == STATUS_OK && properties->name != NULL; properties++)
        if (properties->value != NULL)
            status = set_property(conf, properties->name, properties->value, error);
    return status;
}

static enum status set_user_properties(rd_kafka_conf_t *conf, const json_t *properties,
                                       struct error *error)
{
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)properties, name, value) {
        char buffer[64];
        const char *text = kafka_property_text(value, buffer, sizeof buffer);
        if (is_reserved(name))
            return error_set(error, STATUS_REJECT,
                             "kafka.\"%s\": cannot be set, exact results depend on it", name);
        if (text == NULL)
            return error_set(error, STATUS_REJECT,
                             "kafka.\"%s\": must be a string, a number or a boolean", name);
        enum status status = check_strength(name, text, error);
        if (status == STATUS_OK)
            status = set_property(conf, name, text, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

enum status kafka_client_configure(struct kafka_client *client, const json_t *properties,
                                   const struct kafka_property *defaults,
                                   const struct kafka_property *fixed, rd_kafka_conf_t **out,
                                   struct error *error)
{
    *out = NULL;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_opaque(conf, client);
    rd_kafka_conf_set_log_cb(conf, receive_log);
    rd_kafka_conf_set_error_cb(conf, receive_error);
    enum status status = set_properties(conf, defaults, error);
    if (status == STATUS_OK)
        status = set_user_properties(conf, properties, error);
    if (status == STATUS_OK)
        status = set_properties(conf, fixed, error);
    if (status != STATUS_OK) {
        rd_kafka_conf_destroy(conf);
        return status;
    }
    *out = conf;
    return STATUS_OK;
}

enum status kafka_client_create(rd_kafka_type_t type, rd_kafka_conf_t **conf, rd_kafka_t **out,
                                struct error *error)
{
    char reason[512];
    *out = rd_kafka_new(type, *conf, reason, sizeof reason);
    if (*out == NULL) {
        rd_kafka_conf_destroy(*conf);
        *conf = NULL;
        return error_set(error, STATUS_FATAL, "Kafka client: %s", reason);
    }
    *conf = NULL;
    return STATUS_OK;
}

/* --- the end --- */

struct ending {
    rd_kafka_t *rk;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool has_ended;
    bool left_behind; /* whoever waited has gone: the thread frees this */
};

static void free_ending(struct ending *ending)
{
    pthread_cond_destroy(&ending->ended);
    pthread_mutex_destroy(&ending->lock);
    free(ending);
}

static void *end_client(void *context)
{
    struct ending *ending = context;
    rd_kafka_destroy_flags(ending->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    pthread_mutex_lock(&ending->lock);
    ending->has_ended = true;
    bool left_behind = ending->left_behind;
    pthread_cond_signal(&ending->ended);
    pthread_mutex_unlock(&ending->lock);
    if (left_behind)
        free_ending(ending);
    return NULL;
}

static struct ending *make_ending(rd_kafka_t *rk)
{
    struct ending *ending = calloc(1, sizeof *ending);
    if (ending == NULL)
        return NULL;
    ending->rk = rk;
    pthread_mutex_init(&ending->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&ending->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    return ending;
}

/* The thread has not been joined where it has not ended. */
static bool await_end(struct ending *ending)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += END_TIMEOUT_S;
    pthread_mutex_lock(&ending->lock);
    while (!ending->has_ended && pthread_cond_timedwait(&ending->ended, &ending->lock, &until) == 0)
        continue;
    bool has_ended = ending->has_ended;
    ending->left_behind = !has_ended;
    pthread_mutex_unlock(&ending->lock);
    return has_ended;
}

bool kafka_client_end(rd_kafka_t *rk)
{
    struct ending *ending = make_ending(rk);
    pthread_t thread;
    if (ending == NULL || pthread_create(&thread, NULL, end_client, ending) != 0) {
        if (ending != NULL)
            free_ending(ending);
        return false; /* better left behind than waited for */
    }
    if (await_end(ending)) {
        pthread_join(thread, NULL);
        free_ending(ending);
        return true;
    }
    pthread_detach(thread);
    program_log(LOG_WARNING, "a client of Kafka does not end and is left behind");
    return false;
}

enum status kafka_properties_check(const json_t *properties, struct error *error)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    enum status status = set_user_properties(conf, properties, error);
    rd_kafka_conf_destroy(conf);
    return status;
}

/* --- errors --- */

enum status kafka_client_error(struct error *error, enum status status, rd_kafka_resp_err_t code,
                               const char *format, ...)
{
    char text[2 * ERROR_TEXT_BYTES]; /* longer, so that error_set does the cutting */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    error_set(error, status, "%s", text);
    if (error != NULL)
        error->kafka_code = code;
    return status;
}

enum status kafka_client_check_fatal(rd_kafka_t *rk, struct error *error)
{
    char reason[512];
    rd_kafka_resp_err_t code = rd_kafka_fatal_error(rk, reason, sizeof reason);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return STATUS_OK;
    if (code == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID)
        return kafka_client_error(
            error, STATUS_FENCED, code,
            "Kafka: another process joined the group with this instance name");
    return kafka_client_error(error, STATUS_FATAL, code, "Kafka: %s", reason);
}

bool kafka_client_is_transient(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED: /* a revocation follows, then the group is rejoined
                                                */
    case RD_KAFKA_RESP_ERR__RESOLVE:
    case RD_KAFKA_RESP_ERR__RETRY:
    case RD_KAFKA_RESP_ERR__SSL:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__WAIT_COORD:
    case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH:
    case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
    case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
    case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
    case RD_KAFKA_RESP_ERR_NOT_CONTROLLER:
    case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
    case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
    case RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
    case RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH:
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
        return true;
    default:
        return false;
    }
}
