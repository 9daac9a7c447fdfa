/* dovetail archive: the segments of the archive, as the manifest has them. */
#include "cli/archive.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/table.h"

/* --- topics --- */

static enum status add_topic(char ***topics, size_t *count, const char *topic, struct error *error)
{
    for (size_t i = 0; i < *count; i++)
        if (strcmp((*topics)[i], topic) == 0)
            return STATUS_OK;
    char **grown = reallocarray(*topics, *count + 1, sizeof *grown);
    if (grown == NULL)
        return error_no_memory(error);
    *topics = grown;
    grown[*count] = strdup(topic);
    if (grown[*count] == NULL)
        return error_no_memory(error);
    (*count)++;
    return STATUS_OK;
}

static enum status add_folders(const char *directory, char ***topics, size_t *count,
                               struct error *error)
{
    DIR *folder = opendir(directory);
    if (folder == NULL)
        return errno == ENOENT
                   ? STATUS_OK
                   : error_set(error, STATUS_FATAL, "archive: %s: %s", directory, strerror(errno));
    enum status status = STATUS_OK;
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(folder)) != NULL;)
        if (archive_topic_is_valid(entry->d_name))
            status = add_topic(topics, count, entry->d_name, error);
    closedir(folder);
    return status;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum status archive_topics(const struct archive_question *question, char ***out, size_t *count,
                           struct error *error)
{
    *out = NULL;
    *count = 0;
    if (question->source != NULL)
        return add_topic(out, count, question->source->topic, error);
    PGresult *result = NULL;
    enum status status = postgres_query(question->session->postgres,
                                        "SELECT DISTINCT topic FROM dovetail_internal.segment", 0,
                                        NULL, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++)
        status = add_topic(out, count, PQgetvalue(result, row, 0), error);
    PQclear(result);
    if (status == STATUS_OK)
        status = add_folders(question->session->config->batch_archive, out, count, error);
    if (*count > 0)
        qsort(*out, *count, sizeof **out, compare_texts);
    return status;
}

void archive_topics_free(char **topics, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(topics[i]);
    free(topics);
}

/* --- list --- */

/* `missing` is how far the segment begins behind the one before, or behind the history's start. */
static const char list_sql[] =
    "SELECT s.topic, s.partition, s.start_offset AS from_offset, s.end_offset AS to_offset,"
    "       s.record_count AS records,"
    "       s.end_offset - s.start_offset - s.record_count AS empty_offsets,"
    "       s.file_bytes AS bytes, s.raw_bytes,"
    "       round(s.raw_bytes::numeric / s.file_bytes, 2) AS ratio, s.checksum, s.file,"
    "       to_char(s.archived_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS archived_at,"
    "       s.start_offset - lag(s.end_offset, 1, coalesce(p.base_offset,"
    "         CASE s.partition WHEN -1 THEN 0 ELSE s.start_offset END))"
    "         OVER (PARTITION BY s.topic, s.partition ORDER BY s.start_offset) AS missing"
    " FROM dovetail_internal.segment AS s LEFT JOIN dovetail_internal.position AS p"
    " USING (topic, partition) WHERE $1::text IS NULL OR s.topic = $1"
    " ORDER BY s.topic, s.partition, s.start_offset";

enum column {
    TOPIC,
    PARTITION,
    FROM,
    TO,
    RECORDS,
    EMPTY,
    BYTES,
    RAW,
    RATIO,
    CHECKSUM,
    FILE_NAME,
    ARCHIVED_AT,
    MISSING
};

struct totals {
    int64_t records;
    int64_t empty;
    int64_t bytes;
    int64_t raw;
    int64_t missing;
};

static struct totals add_up(const PGresult *result)
{
    struct totals totals = {0};
    for (int row = 0; row < PQntuples(result); row++) {
        totals.records += postgres_int64(result, row, RECORDS);
        totals.empty += postgres_int64(result, row, EMPTY);
        totals.bytes += postgres_int64(result, row, BYTES);
        totals.raw += postgres_int64(result, row, RAW);
        totals.missing += postgres_int64(result, row, MISSING);
    }
    return totals;
}

static bool print_table(const PGresult *result)
{
    static const char *const columns[] = {
        "topic",      ">partition", ">from",    ">to",      ">records", ">empty", ">bytes",
        ">raw bytes", ">ratio",     "checksum", "archived", "file",     NULL};
    static const enum column shown[] = {TOPIC, PARTITION, FROM,  TO,       RECORDS,     EMPTY,
                                        BYTES, RAW,       RATIO, CHECKSUM, ARCHIVED_AT, FILE_NAME};
    struct table *table = table_create(columns);
    if (table == NULL)
        return false;
    for (int row = 0; row < PQntuples(result); row++)
        for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++)
            table_add(table, PQgetvalue(result, row, (int)shown[i]));
    bool good = table_print(table, stdout);
    table_destroy(table);
    struct totals totals = add_up(result);
    printf("%d segments, %" PRId64 " records, %" PRId64 " offsets without a record, %" PRId64
           " bytes for %" PRId64,
           PQntuples(result), totals.records, totals.empty, totals.bytes, totals.raw);
    if (totals.bytes > 0)
        printf(", ratio %.2f", (double)totals.raw / (double)totals.bytes);
    putchar('\n');
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t from = postgres_int64(result, row, FROM);
        int64_t missing = postgres_int64(result, row, MISSING);
        if (missing != 0)
            printf("%s[%s]: the manifest has %s offsets %" PRId64 " to %" PRId64 "\n",
                   PQgetvalue(result, row, TOPIC), PQgetvalue(result, row, PARTITION),
                   missing > 0 ? "no segment for" : "two segments for",
                   missing > 0 ? from - missing : from, missing > 0 ? from : from - missing);
    }
    return good;
}

static json_t *segment_json(const PGresult *result, int row)
{
    json_t *object = json_object();
    for (int column = 0; column < MISSING; column++) {
        const char *text = PQgetvalue(result, row, column);
        bool is_number = column >= PARTITION && column <= RAW;
        json_object_set_new(object, PQfname(result, column),
                            is_number         ? json_integer(postgres_int64(result, row, column))
                            : column == RATIO ? json_real(strtod(text, NULL))
                                              : json_string(text));
    }
    return object;
}

static bool print_json(const PGresult *result)
{
    struct totals totals = add_up(result);
    json_t *segments = json_array();
    json_t *missing = json_array();
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t from = postgres_int64(result, row, FROM);
        int64_t before = from - postgres_int64(result, row, MISSING);
        json_array_append_new(segments, segment_json(result, row));
        if (before != from)
            json_array_append_new(
                missing,
                json_pack("{s:s, s:I, s:I, s:I}", "topic", PQgetvalue(result, row, TOPIC),
                          "partition", (json_int_t)postgres_int64(result, row, PARTITION),
                          "from_offset", (json_int_t)before, "to_offset", (json_int_t)from));
    }
    json_t *all = json_pack("{s:o, s:o, s:{s:i, s:I, s:I, s:I, s:I}}", "segments", segments,
                            "missing", missing, "total", "segments", PQntuples(result), "records",
                            (json_int_t)totals.records, "empty_offsets", (json_int_t)totals.empty,
                            "bytes", (json_int_t)totals.bytes, "raw_bytes", (json_int_t)totals.raw);
    char *text = all == NULL ? NULL : json_dumps(all, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    json_decref(all);
    if (text != NULL)
        puts(text);
    free(text);
    return text != NULL;
}

int archive_list(const struct archive_question *question)
{
    struct error error = {0};
    PGresult *result = NULL;
    const char *topic = question->source == NULL ? NULL : question->source->topic;
    if (postgres_query(question->session->postgres, list_sql, 1, &topic, &result, &error) !=
        STATUS_OK) {
        PQclear(result);
        return command_fail(&error);
    }
    bool good = question->as_json ? print_json(result) : print_table(result);
    PQclear(result);
    if (!good) {
        command_complain("out of memory");
        return PROGRAM_FAILURE;
    }
    return command_finish_output();
}

/* --- the command --- */

static const struct action {
    const char *name;
    int (*act)(const struct archive_question *question);
    bool wants_source;
} actions[] = {
    {"list", archive_list, false},
    {"verify", archive_verify, false},
    {"cat", archive_cat, true},
    {"repair", archive_repair, false},
};

enum option { OPTION_FORMAT, OPTION_PARTITION, OPTION_FROM_OFFSET, OPTION_TO_OFFSET };

static const struct option_spec specs[] = {[OPTION_FORMAT] = {"--format", true},
                                           [OPTION_PARTITION] = {"--partition", true},
                                           [OPTION_FROM_OFFSET] = {"--from-offset", true},
                                           [OPTION_TO_OFFSET] = {"--to-offset", true},
                                           {NULL, false}};

struct arguments {
    const struct action *action;
    const char *source;
    const char *cat_option; /* one that was given and is of cat alone, or NULL */
    struct archive_question question;
};

static bool take_option(struct arguments *out, enum option option, const char *value)
{
    struct archive_question *question = &out->question;
    if (option != OPTION_FORMAT)
        out->cat_option = specs[option].name;
    switch (option) {
    case OPTION_FORMAT:
        return option_format(value, &question->as_json);
    case OPTION_PARTITION:
        question->has_partition = true;
        return option_int64("--partition", value, ARCHIVE_IMPORTED, INT32_MAX,
                            &question->partition);
    case OPTION_FROM_OFFSET:
        return option_int64("--from-offset", value, 0, INT64_MAX, &question->from_offset);
    case OPTION_TO_OFFSET:
        return option_int64("--to-offset", value, 0, INT64_MAX, &question->to_offset);
    }
    return false;
}

static bool take_positional(struct arguments *out, const char *value)
{
    if (out->action == NULL) {
        for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
            if (strcmp(actions[i].name, value) == 0)
                out->action = &actions[i];
        if (out->action != NULL)
            return true;
    } else if (out->source == NULL) {
        out->source = value;
        return true;
    }
    command_complain("%s: unexpected (see --help)", value);
    return false;
}

static bool parse(const struct program_arguments *program, struct arguments *out)
{
    struct option_reader reader = {.next = program->rest, .specs = specs};
    size_t index;
    const char *value = NULL;
    enum option_result result;
    while ((result = option_next(&reader, &index, &value)) != OPTION_END) {
        if (result == OPTION_FAULT)
            return false;
        if (result == OPTION_POSITIONAL ? !take_positional(out, value)
                                        : !take_option(out, (enum option)index, value))
            return false;
    }
    if (out->action == NULL)
        out->action = &actions[0];
    if (out->cat_option != NULL && out->action->act != archive_cat) { /* it may come first */
        command_complain("%s: only of archive cat (see --help)", out->cat_option);
        return false;
    }
    if (out->action->wants_source && out->source == NULL)
        command_complain("archive %s: wants a source (see --help)", out->action->name);
    return !out->action->wants_source || out->source != NULL;
}

static int run(const struct program_arguments *program)
{
    struct session session = {0};
    struct arguments arguments = {.question = {.session = &session, .to_offset = INT64_MAX}};
    if (!parse(program, &arguments))
        return PROGRAM_USAGE;
    int code = session_open(&session, program);
    if (code == PROGRAM_OK && arguments.source != NULL) {
        arguments.question.source = catalog_source(session.catalog, arguments.source);
        if (arguments.question.source == NULL) {
            command_complain("source %s is not registered", arguments.source);
            code = PROGRAM_USAGE;
        }
    }
    if (code == PROGRAM_OK && arguments.question.has_partition)
        code = session_partition(&session, arguments.question.source, arguments.question.partition);
    if (code == PROGRAM_OK)
        code = arguments.action->act(&arguments.question);
    session_close(&session);
    return code;
}

const struct command command_archive = {
    .name = "archive",
    .summary = "the segments of the archive",
    .help =
        "usage: dovetail archive [list [SOURCE]] [--format table|json]\n"
        "       dovetail archive verify [SOURCE]\n"
        "       dovetail archive cat SOURCE [--partition N] [--from-offset A] [--to-offset B]\n"
        "       dovetail archive repair [SOURCE]\n"
        "\n"
        "list    every segment as the manifest has it: offsets (to is exclusive), records, "
        "offsets\n"
        "        that are no record (empty: markers of transactions, what retention or a gap left\n"
        "        out), bytes of the file and of the records in it. What is imported is partition\n"
        "        -1. Offsets that the manifest lacks are named below the table.\n"
        "verify  reads every file: it is there and has its checksum, every record has its offset\n"
        "        in order and in range, counts and contents are the manifest's; and names files\n"
        "        that no manifest row does. Exits with 1 where anything is wrong.\n"
        "cat     the records with offsets in [A, B), a line each, partition by partition. Records\n"
        "        that are no line of JSON are left out and counted on stderr. Masked values are "
        "as\n"
        "        they were archived.\n"
        "repair  verifies, fetches segments that are missing or damaged from Kafka again, and "
        "puts\n"
        "        them in place where they have the same records as before: the same offsets,\n"
        "        timestamps and values, masked as the source says. Changes nothing else. Exits\n"
        "        with 1 where a segment stays damaged: Kafka has its offsets no more, or other\n"
        "        records there, or it was imported. Waits for the batch lock.\n"
        "\n"
        "Without SOURCE: every topic. `dovetail-batch run` checks every file that it reads, too;\n"
        "where one is damaged it changes nothing, and what was published before is served on.\n"
        "\n"
        "options of all commands:",
    .run = run,
};
