/* dovetail init: makes database and topics what the definitions say.
 *
 * Everything is checked before anything is touched. Topics come first, because position rows need
 * their partitions; then one transaction registers sources, partitions and views, so that a failure
 * leaves the database as it was. An advisory lock of the session lets one init run at a time. Safe
 * to repeat: what is there already is left alone. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "core/catalog/catalog_roles.h"
#include "core/catalog/lock_wait.h"
#include "core/kafka/kafka.h"

enum { KAFKA_TIMEOUT_MS = 15000, REGISTER_ATTEMPTS = 5 };

/* One source's topic, as Kafka has it. */
struct topic {
    int partitions;
    int64_t *base_offsets; /* first offset of each partition's log; owned */
};

static const char *const change_words[] = {
    [CATALOG_UNCHANGED] = "unchanged", [CATALOG_ADDED] = "added", [CATALOG_CHANGED] = "changed"};

/* --- topics --- */

/* `partitions` 0: as many as the topic has. */
static enum status ensure_topic(const struct config *config, const char *topic, int partitions,
                                int *count, bool *created, struct error *error)
{
    *created = false;
    enum status status =
        kafka_topic_partitions(config->kafka, topic, KAFKA_TIMEOUT_MS, count, error);
    if (status != STATUS_OK || *count >= 0)
        return status;
    status = kafka_topic_create(config->kafka, topic, partitions, KAFKA_TIMEOUT_MS, created, error);
    if (status != STATUS_OK)
        return status;
    *count = partitions;
    if (!*created) /* somebody else was faster */
        status = kafka_topic_partitions(config->kafka, topic, KAFKA_TIMEOUT_MS, count, error);
    if (status == STATUS_OK && *count < 0)
        status = error_set(error, STATUS_RETRY, "Kafka: topic %s is not there yet", topic);
    return status;
}

static enum status read_bases(const struct config *config, const char *name, struct topic *topic,
                              struct error *error)
{
    struct kafka_consumer *consumer = NULL;
    enum status status = kafka_consumer_assign(config->kafka, NULL, 0, &consumer, error);
    for (int32_t i = 0; status == STATUS_OK && i < topic->partitions; i++) {
        int64_t high;
        status = kafka_consumer_watermarks(consumer, name, i, KAFKA_TIMEOUT_MS,
                                           &topic->base_offsets[i], &high, error);
    }
    kafka_consumer_close(consumer);
    return status;
}

static void tell_topic(const char *name, int partitions, bool created)
{
    printf("topic %s: %s, %d partition%s\n", name, created ? "created" : "unchanged", partitions,
           partitions == 1 ? "" : "s");
}

static enum status prepare_topic(const struct config *config, const struct source *source,
                                 struct topic *out, struct error *error)
{
    bool created = false;
    enum status status =
        ensure_topic(config, source->topic, source->partitions, &out->partitions, &created, error);
    if (status != STATUS_OK)
        return status;
    tell_topic(source->topic, out->partitions, created);
    out->base_offsets = calloc((size_t)out->partitions, sizeof *out->base_offsets);
    if (out->base_offsets == NULL)
        return error_no_memory(error);
    if (!created) /* a new topic's logs begin at 0 */
        status = read_bases(config, source->topic, out, error);
    int count = 0;
    if (status == STATUS_OK)
        status = ensure_topic(config, source->dead_letter_topic, 1, &count, &created, error);
    if (status != STATUS_OK)
        return status;
    tell_topic(source->dead_letter_topic, count, created);
    const char *topics[] = {source->topic, source->dead_letter_topic};
    status = kafka_topics_check_uncompacted(config->kafka, topics, 2, KAFKA_TIMEOUT_MS, error);
    return status == STATUS_OK ? status : error_wrap(error, "source %s", source->name);
}

/* --- registering --- */

struct changes {
    enum catalog_change *sources;
    enum catalog_change *views;
};

/* In a transaction. */
static enum status register_all(struct postgres *postgres, const struct definitions *definitions,
                                const struct topic *topics, struct changes *changes,
                                struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < definitions->source_count; i++) {
        struct source *source = definitions->sources[i];
        status = catalog_register_source(postgres, source, &changes->sources[i], error);
        if (status == STATUS_OK)
            status = catalog_add_partitions(postgres, source->topic, topics[i].base_offsets,
                                            topics[i].partitions, error);
    }
    for (size_t i = 0; status == STATUS_OK && i < definitions->view_count; i++)
        status = catalog_register_view(postgres, definitions->views[i], &changes->views[i], error);
    return status;
}

static enum status register_once(struct postgres *postgres, const struct definitions *definitions,
                                 const struct topic *topics, struct changes *changes,
                                 struct error *error)
{
    enum status status = postgres_execute(postgres, "BEGIN; " LOCK_WAIT_SQL, error);
    if (status == STATUS_OK)
        status = catalog_lock(postgres, error);
    if (status == STATUS_OK)
        status = register_all(postgres, definitions, topics, changes, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "COMMIT", error);
    if (status != STATUS_OK)
        (void)!postgres_execute(postgres, "ROLLBACK", NULL);
    return status;
}

/* Again where a flush or a batch run got in the way. */
static enum status register_patiently(struct postgres *postgres,
                                      const struct definitions *definitions,
                                      const struct topic *topics, struct changes *changes,
                                      struct error *error)
{
    enum status status = STATUS_RETRY;
    for (int attempt = 0; attempt < REGISTER_ATTEMPTS && status == STATUS_RETRY; attempt++) {
        if (attempt > 0 && (!postgres_is_connected(postgres) || program_wait_ms(200)))
            return status;
        struct lock_wait wait = lock_wait_begin();
        do
            status = register_once(postgres, definitions, topics, changes, error);
        while (lock_wait_again(&wait, postgres, status, error));
        if (status != STATUS_OK && lock_wait_was_in_vain(error))
            return status;
    }
    return status;
}

/* --- telling --- */

/* "version 2, being built by the next batch run" for the newest version of a view. */
static enum status tell_view(struct postgres *postgres, const struct view *view,
                             enum catalog_change change, struct error *error)
{
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "SELECT version, state FROM dovetail_internal.view_version "
                       "WHERE view = $1 AND state <> 'retired' ORDER BY version DESC LIMIT 1",
                       1, &view->name, &result, error);
    if (status == STATUS_OK && PQntuples(result) == 1) {
        bool building = strcmp(PQgetvalue(result, 0, 1), "building") == 0;
        printf("view %s: %s, version %s%s\n", view->name, change_words[change],
               PQgetvalue(result, 0, 0),
               building ? ", readable once `dovetail-batch run` has built it" : "");
    }
    PQclear(result);
    return status;
}

/* Views without a definition file go on being computed. */
static enum status tell_forgotten(struct postgres *postgres, const struct definitions *definitions,
                                  struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(postgres,
                                        "SELECT DISTINCT view FROM dovetail_internal.view_version "
                                        "WHERE state <> 'retired' ORDER BY view",
                                        0, NULL, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        bool found = false;
        for (size_t i = 0; i < definitions->view_count; i++)
            found = found || strcmp(definitions->views[i]->name, PQgetvalue(result, row, 0)) == 0;
        if (!found)
            printf("view %s: kept, though it has no definition file any more; `dovetail drop` "
                   "removes it\n",
                   PQgetvalue(result, row, 0));
    }
    PQclear(result);
    return status;
}

static enum status tell_changes(struct postgres *postgres, const struct definitions *definitions,
                                const struct changes *changes, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < definitions->source_count; i++)
        printf("source %s: %s\n", definitions->sources[i]->name, change_words[changes->sources[i]]);
    for (size_t i = 0; status == STATUS_OK && i < definitions->view_count; i++)
        status = tell_view(postgres, definitions->views[i], changes->views[i], error);
    return status == STATUS_OK ? tell_forgotten(postgres, definitions, error) : status;
}

/* --- the command --- */

/* `roles` may be NULL. */
static enum status migrate(struct postgres *postgres, const char *roles, struct error *error)
{
    bool changed = false;
    enum status status = postgres_execute(
        postgres, "SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtext('dovetail init'))",
        error);
    if (status != STATUS_OK)
        return lock_wait_was_in_vain(error)
                   ? error_wrap(error, "another `dovetail init` is at work")
                   : status;
    if (roles != NULL)
        status = catalog_roles_create(postgres, roles, error);
    struct lock_wait wait = lock_wait_begin();
    if (status == STATUS_OK) {
        do
            status = catalog_migrate(postgres, &changed, error);
        while (lock_wait_again(&wait, postgres, status, error));
    }
    if (status == STATUS_OK && roles != NULL) {
        do
            status = catalog_roles_grant(postgres, roles, error);
        while (lock_wait_again(&wait, postgres, status, error));
    }
    if (status == STATUS_OK && roles != NULL)
        printf("roles: %s_owner, %s_speed, %s_batch, %s_serving, %s_analytics\n", roles, roles,
               roles, roles, roles);
    if (status == STATUS_OK)
        printf("tables: %s\n", changed ? "migrated" : "unchanged");
    return status;
}

static int initialise(const struct session *session, const struct definitions *definitions,
                      const char *roles)
{
    struct error error = {0};
    struct topic *topics = calloc(definitions->source_count + 1, sizeof *topics);
    struct changes changes = {
        .sources = calloc(definitions->source_count + 1, sizeof *changes.sources),
        .views = calloc(definitions->view_count + 1, sizeof *changes.views),
    };
    enum status status = STATUS_OK;
    if (topics == NULL || changes.sources == NULL || changes.views == NULL)
        status = error_no_memory(&error);
    if (status == STATUS_OK)
        status = migrate(session->postgres, roles, &error);
    for (size_t i = 0; status == STATUS_OK && i < definitions->source_count; i++)
        status = prepare_topic(session->config, definitions->sources[i], &topics[i], &error);
    if (status == STATUS_OK)
        status = register_patiently(session->postgres, definitions, topics, &changes, &error);
    if (status == STATUS_OK)
        status = tell_changes(session->postgres, definitions, &changes, &error);
    for (size_t i = 0; topics != NULL && i < definitions->source_count; i++)
        free(topics[i].base_offsets);
    free(topics);
    free(changes.sources);
    free(changes.views);
    int written = command_finish_output();
    return status == STATUS_OK ? written : command_fail(&error);
}

static bool take_options(const struct program_arguments *arguments, const char **roles)
{
    static const struct option_spec specs[] = {{"--roles", true}, {NULL, false}};
    struct option_reader reader = {.next = arguments->rest, .specs = specs};
    size_t option;
    const char *value;
    for (enum option_result found; (found = option_next(&reader, &option, &value)) != OPTION_END;) {
        if (found == OPTION_FAULT)
            return false;
        if (found == OPTION_POSITIONAL) {
            command_complain("unexpected argument: %s", value);
            return false;
        }
        *roles = value;
    }
    return true;
}

static int run(const struct program_arguments *arguments)
{
    struct session session = {0};
    struct definitions definitions = {0};
    const char *roles = NULL;
    if (!take_options(arguments, &roles))
        return PROGRAM_USAGE;
    int code = session_load_config(&session, arguments);
    if (code == PROGRAM_OK)
        code = command_load_definitions(session.config, &definitions);
    if (code == PROGRAM_OK)
        code = session_connect(&session);
    if (code == PROGRAM_OK)
        code = initialise(&session, &definitions, roles);
    definitions_deinit(&definitions);
    session_close(&session);
    return code;
}

const struct command command_init = {
    .name = "init",
    .summary = "create or migrate the database's tables, missing topics, register views",
    .help =
        "usage: dovetail init [--roles PREFIX]\n"
        "\n"
        "Checks all definitions, then creates or migrates Dovetail's tables, creates missing\n"
        "topics, and registers sources and views. Safe to repeat and to run while the layers\n"
        "work: a changed definition becomes a new version of its view, which is built beside\n"
        "the old one and replaces it when the next batch run has covered it.\n"
        "\n"
        "  --roles PREFIX     also creates PostgreSQL's group roles PREFIX_owner, _speed, _batch,\n"
        "                     _serving and _analytics, hands the tables over to the first, and\n"
        "                     grants each what it needs; your login roles become members of\n"
        "                     them (docs/SECURITY.md). The user has to be allowed to create\n"
        "                     roles. Without it, everything belongs to the user of init.\n"
        "\n"
        "options of all commands:",
    .run = run,
};
