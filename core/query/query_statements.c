/* Prepared statements of a connection: see core/query/query_statements.h.
 *
 * Invariant: an entry with `prepared` set is a statement that the server has under that name; names
 * are never used twice on a connection. A full table forgets what was not used for longest. */
#include "core/query/query_statements.h"

#include <libpq-events.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/query/query_plan.h"

struct statements {
    struct query_statement entries[QUERY_STATEMENT_MAX];
    size_t count;
    uint64_t serial; /* of the newest name */
    uint64_t uses;
};

static void statements_clear(struct statements *statements)
{
    for (size_t i = 0; i < statements->count; i++)
        free(statements->entries[i].text);
    statements->count = 0;
}

/* libpq tells the end of a connection, and PQreset, which forgets what was prepared. */
static int on_event(PGEventId id, void *info, void *context)
{
    (void)context;
    if (id == PGEVT_CONNRESET) {
        struct statements *statements = PQinstanceData(((PGEventConnReset *)info)->conn, on_event);
        if (statements != NULL)
            statements_clear(statements);
    } else if (id == PGEVT_CONNDESTROY) {
        struct statements *statements =
            PQinstanceData(((PGEventConnDestroy *)info)->conn, on_event);
        if (statements != NULL)
            statements_clear(statements);
        free(statements);
    }
    return 1;
}

static struct statements *statements_of(PGconn *connection)
{
    struct statements *statements = PQinstanceData(connection, on_event);
    if (statements != NULL)
        return statements;
    /* Fails harmlessly where an earlier call registered it and then had no memory. */
    (void)PQregisterEventProc(connection, on_event, "dovetail query statements", NULL);
    statements = calloc(1, sizeof *statements);
    if (statements != NULL && !PQsetInstanceData(connection, on_event, statements)) {
        free(statements);
        statements = NULL;
    }
    return statements;
}

static struct query_statement *least_used(struct statements *statements)
{
    struct query_statement *least = &statements->entries[0];
    for (size_t i = 1; i < statements->count; i++)
        if (statements->entries[i].used < least->used)
            least = &statements->entries[i];
    return least;
}

/* An empty entry: a new one, or an old one's after it is gone from the server. */
static enum status free_entry(struct postgres *postgres, struct statements *statements,
                              struct query_statement **out, struct error *error)
{
    if (statements->count < QUERY_STATEMENT_MAX) {
        *out = &statements->entries[statements->count++];
        return STATUS_OK;
    }
    struct query_statement *entry = least_used(statements);
    if (entry->prepared) {
        enum status status = postgres_executef(postgres, error, "DEALLOCATE %s", entry->name);
        if (status != STATUS_OK)
            return status;
    }
    free(entry->text);
    *out = entry;
    return STATUS_OK;
}

enum status query_statement_find(struct postgres *postgres, const char *text,
                                 struct query_statement **out, struct error *error)
{
    struct statements *statements = statements_of(postgres_handle(postgres));
    if (statements == NULL)
        return error_no_memory(error);
    uint64_t hash = XXH3_64bits(text, strlen(text));
    for (size_t i = 0; i < statements->count; i++) {
        struct query_statement *entry = &statements->entries[i];
        if (entry->hash == hash && strcmp(entry->text, text) == 0) {
            entry->used = ++statements->uses;
            *out = entry;
            return STATUS_OK;
        }
    }
    char *copy = strdup(text);
    if (copy == NULL)
        return error_no_memory(error);
    enum status status = free_entry(postgres, statements, out, error);
    if (status != STATUS_OK) {
        free(copy);
        return status;
    }
    **out = (struct query_statement){.hash = hash, .text = copy, .used = ++statements->uses};
    snprintf((*out)->name, sizeof(*out)->name, "dovetail_query_%llu",
             (unsigned long long)++statements->serial);
    return STATUS_OK;
}

enum status query_statement_prepare(struct postgres *postgres, const char *text,
                                    const struct query_parameters *parameters,
                                    struct query_statement **out, struct error *error)
{
    PGconn *connection = postgres_handle(postgres);
    enum status status = query_statement_find(postgres, text, out, error);
    if (status != STATUS_OK || (*out)->prepared)
        return status;
    PGresult *result =
        PQprepare(connection, (*out)->name, text, parameters->count, parameters->types);
    if (PQresultStatus(result) == PGRES_COMMAND_OK)
        (*out)->prepared = true;
    else
        status = postgres_error(connection, result, "query", error);
    PQclear(result);
    return status;
}

enum status query_statement_run(struct postgres *postgres, const char *text,
                                const struct query_parameters *parameters, PGresult **result,
                                struct error *error)
{
    PGconn *connection = postgres_handle(postgres);
    struct query_statement *statement = NULL;
    enum status status = query_statement_prepare(postgres, text, parameters, &statement, error);
    *result = NULL;
    if (status != STATUS_OK)
        return status;
    *result = PQexecPrepared(connection, statement->name, parameters->count, parameters->values,
                             parameters->lengths, parameters->formats, 1);
    if (PQresultStatus(*result) != PGRES_TUPLES_OK)
        status = postgres_error(connection, *result, "query", error);
    return status;
}
