/* The configuration options: see core/program/config_options.h.
 *
 * The one place that knows names, ranges, defaults and meanings; parsing, --help and
 * docs/CONFIGURATION.md follow it. Constant data and pure functions; any thread. */
#include "core/program/config_options.h"

#include <stdio.h>
#include <string.h>

#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

#define FIELD(name) .offset = offsetof(struct config, name)

const struct option config_options[] = {
    {.name = "kafka",
     .type = OPTION_PROPERTIES,
     .required = true,
     .secret = true,
     FIELD(kafka),
     .help =
         "Any properties of librdkafka, by their names there; values are strings, numbers or "
         "booleans. Refused are those that exact results depend on: `enable.auto.commit`, "
         "`enable.auto.offset.store`, `auto.offset.reset`, `isolation.level`, "
         "`partition.assignment.strategy`, `group.instance.id`; and an `acks` other than `all`, or "
         "`enable.idempotence` other than `true`, with which dead letters could be lost."},
    {.section = "kafka",
     .name = "bootstrap.servers",
     .type = OPTION_TEXT,
     .required = true,
     .help = "Brokers to ask first, as `host:port`, separated by commas."},
    {.name = "postgres",
     .type = OPTION_TEXT,
     .required = true,
     .secret = true,
     FIELD(postgres),
     .help = "Connection string of libpq, as keywords and values or as a URI."},
    {.name = "schemas",
     .type = OPTION_PATH,
     .text = "schemas",
     FIELD(schemas),
     .help = "Directory that has `sources/` and `views/`."},

    {.section = "speed",
     .name = "flush_interval_ms",
     .type = OPTION_INTEGER,
     .minimum = 1,
     .maximum = 60000,
     .number = 100,
     .unit = "ms",
     FIELD(speed_flush_interval_ms),
     .help = "Time between two flushes of changed states to PostgreSQL, while events come: what "
             "freshness costs. Far behind a topic's end flushes are rarer."},
    {.section = "speed",
     .name = "slice_interval_ms",
     .type = OPTION_INTEGER,
     .minimum = 100,
     .maximum = 86400000,
     .number = 60000,
     .unit = "ms",
     FIELD(speed_slice_interval_ms),
     .help = "Time after which a new slice is begun. A batch run cuts at the start of a slice; "
             "more slices mean more rows to merge."},
    {.section = "speed",
     .name = "memory",
     .type = OPTION_SIZE,
     .minimum = MIB,
     .maximum = TIB,
     .number = 256 * MIB,
     FIELD(speed_memory_bytes),
     .help = "Bound of what records have become and PostgreSQL does not have yet: half for the "
             "states of open slices, which are closed early beyond it, the other half for rows and "
             "dead letters on their way, beyond which consumption pauses. Not in it: about 100 MiB "
             "for the program, with what Kafka's client has fetched (`queued.max.messages.kbytes`, "
             "`queued.min.messages`), and the ids of `dedupe`."},
    {.section = "speed",
     .name = "metrics",
     .type = OPTION_ADDRESS,
     FIELD(speed_metrics),
     .help = "Address of a page of metrics for Prometheus, `/metrics`, of this process; without it "
             "there is none. One that is "
             "not loopback is refused, unless the next option is set."},
    {.section = "speed",
     .name = "metrics_allow_unauthenticated",
     .type = OPTION_BOOLEAN,
     FIELD(speed_metrics_allow_unauthenticated),
     .help = "Lets everybody who reaches an address that is not loopback read the page: names of "
             "topics, offsets, counts."},

    {.section = "batch",
     .name = "archive",
     .type = OPTION_PATH,
     .text = "archive",
     FIELD(batch_archive),
     .help = "Directory of the archive's segments."},
    {.section = "batch",
     .name = "schedule",
     .type = OPTION_CRON,
     .text = "*/10 * * * *",
     FIELD(batch_schedule),
     .help = "When `dovetail-batch schedule` runs, in UTC: minute, hour, day of month, month, day "
             "of week."},
    {.section = "batch",
     .name = "full_schedule",
     .type = OPTION_CRON,
     .text = "17 3 * * *",
     .choices = {"off"},
     FIELD(batch_full_schedule),
     .help = "When `dovetail-batch schedule` recomputes everything from the archive and compares "
             "it with the rows that the other runs left; `off`: never, so that only "
             "`dovetail-batch run --full` does. It reads the whole archive."},
    {.section = "batch",
     .name = "on_mismatch",
     .type = OPTION_CHOICE,
     .text = "publish",
     .choices = {"publish", "hold"},
     FIELD(batch_on_mismatch),
     .help = "What becomes of a run that differs from what the rows or the speed layer say of the "
             "same records. `publish`: what was recomputed replaces them. `hold`: nothing changes, "
             "and every later run recomputes everything, until one agrees or is accepted with "
             "`dovetail-batch run --accept-mismatch`. Either is told in the log, in `dovetail "
             "runs` and in `/metrics`."},
    {.section = "batch",
     .name = "threads",
     .type = OPTION_INTEGER,
     .minimum = 0,
     .maximum = 256,
     .number = 0,
     FIELD(batch_threads),
     .help = "Threads that recompute; 0 is one for each processor."},
    {.section = "batch",
     .name = "memory",
     .type = OPTION_SIZE,
     .minimum = 4 * MIB,
     .maximum = TIB,
     .number = GIB,
     FIELD(batch_memory_bytes),
     .help = "Bound of what a run keeps in memory of its groups: their keys, states, sketches and "
             "sets, the hash tables, and the rows that they are compared with. What exceeds it is "
             "sorted and written to `batch.spill`; the result is the same. Not in it: about 64 MiB "
             "for the program, for each of `batch.threads` a compressed segment, and the ids of "
             "`dedupe`."},
    {.section = "batch",
     .name = "spill",
     .type = OPTION_PATH,
     FIELD(batch_spill),
     .help =
         "Directory for what `batch.memory` does not hold, on a disk with room for several times "
         "the rows of the largest run; not in memory (tmpfs). Default: `~spill` in "
         "`batch.archive`. "
         "Files there vanish with the process, however it ends. Where it is full the run "
         "fails, and nothing has changed."},
    {.section = "batch",
     .name = "segment_size",
     .type = OPTION_SIZE,
     .minimum = 4 * KIB,
     .maximum = 4 * GIB,
     .number = 64 * MIB,
     FIELD(batch_segment_bytes),
     .help = "Raw bytes of one segment before compression: the unit of parallel work and of "
             "reuse."},
    {.section = "batch",
     .name = "compression_level",
     .type = OPTION_INTEGER,
     .minimum = 1,
     .maximum = 19,
     .number = 3,
     FIELD(batch_compression_level),
     .help = "zstd's level for new segments: 1 is fast, 19 small and slow."},
    {.section = "batch",
     .name = "retained_runs",
     .type = OPTION_INTEGER,
     .minimum = 1,
     .maximum = 1000,
     .number = 3,
     FIELD(batch_retained_runs),
     .help = "Published runs that are kept, the current one included: how far `dovetail runs "
             "rollback` can go back. As many earlier definitions of each view are kept, for "
             "`dovetail versions switch`."},
    {.section = "batch",
     .name = "metrics",
     .type = OPTION_ADDRESS,
     FIELD(batch_metrics),
     .help = "Address of a page of metrics for Prometheus, `/metrics`, of `dovetail-batch "
             "schedule`; without it there is none. One that is "
             "not loopback is refused, unless the next option is set."},
    {.section = "batch",
     .name = "metrics_allow_unauthenticated",
     .type = OPTION_BOOLEAN,
     FIELD(batch_metrics_allow_unauthenticated),
     .help = "Lets everybody who reaches an address that is not loopback read the page: names of "
             "topics, offsets, counts."},

    {.section = "serving",
     .name = "listen",
     .type = OPTION_ADDRESS,
     .text = "127.0.0.1:8080",
     FIELD(serving_listen),
     .help =
         "Address of the HTTP server. Port 0 is any free one. One that is not loopback is refused "
         "unless clients have to say who they are (`serving.tokens` or "
         "`serving.tls_client_ca`), or `serving.allow_unauthenticated` is set."},
    {.section = "serving",
     .name = "tokens",
     .type = OPTION_TOKENS,
     .secret = true,
     FIELD(serving_tokens),
     .help = "Who may ask: a list of `{\"name\", \"sha256\", \"views\", \"role\", \"rows\", "
             "\"write\"}`, which "
             "`dovetail token new` prints. With it every request needs `Authorization: Bearer "
             "TOKEN`, but for the dashboard's files and the health checks. See docs/SECURITY.md."},
    {.section = "serving",
     .name = "allow_unauthenticated",
     .type = OPTION_BOOLEAN,
     FIELD(serving_allow_unauthenticated),
     .help = "Lets everybody who reaches an address that is not loopback read every view. For a "
             "server behind a proxy that asks who is there."},
    {.section = "serving",
     .name = "tls_certificate",
     .type = OPTION_PATH,
     FIELD(serving_tls_certificate),
     .help = "File with the server's certificate and those between it and its authority, PEM. "
             "With `serving.tls_key` the server speaks HTTPS alone."},
    {.section = "serving",
     .name = "tls_key",
     .type = OPTION_PATH,
     FIELD(serving_tls_key),
     .help = "File with the certificate's private key, PEM, without a passphrase."},
    {.section = "serving",
     .name = "tls_client_ca",
     .type = OPTION_PATH,
     FIELD(serving_tls_client_ca),
     .help = "File with authorities, PEM: a client needs a certificate from one of them for "
             "anything at all, besides its token where there are tokens."},
    {.section = "serving",
     .name = "connections",
     .type = OPTION_INTEGER,
     .minimum = 1,
     .maximum = 65536,
     .number = 1024,
     FIELD(serving_connections),
     .help = "Most connections at once; more wait until one ends."},
    {.section = "serving",
     .name = "connections_per_address",
     .type = OPTION_INTEGER,
     .minimum = 0,
     .maximum = 65536,
     .number = 256,
     FIELD(serving_connections_per_address),
     .help = "Most connections of one client's address, so that one client does not take all; more "
             "are closed at once. 0 is "
             "no such bound, as behind a proxy."},
    {.section = "serving",
     .name = "receive_timeout_ms",
     .type = OPTION_INTEGER,
     .minimum = 100,
     .maximum = 3600000,
     .number = 60000,
     .unit = "ms",
     FIELD(serving_receive_timeout_ms),
     .help = "Time within which a whole request has to be there, from the opening of the "
             "connection or the end of the answer before: however slowly its bytes come, and also "
             "how long an idle connection is kept."},
    {.section = "serving",
     .name = "respond_timeout_ms",
     .type = OPTION_INTEGER,
     .minimum = 100,
     .maximum = 3600000,
     .number = 120000,
     .unit = "ms",
     FIELD(serving_respond_timeout_ms),
     .help = "Time within which an answer has to be made and taken, from the end of its request."},
    {.section = "serving",
     .name = "queue_ms",
     .type = OPTION_INTEGER,
     .minimum = 10,
     .maximum = 3600000,
     .number = 10000,
     .unit = "ms",
     FIELD(serving_queue_ms),
     .help = "A request that has waited longer than this for a thread is told to come again, with "
             "503 and `Retry-After`, instead of being answered late: where more come than can be "
             "answered, those that wait do not become ever more, nor ever older."},
    {.section = "serving",
     .name = "threads",
     .type = OPTION_INTEGER,
     .minimum = 0,
     .maximum = 256,
     .number = 0,
     FIELD(serving_threads),
     .help = "Threads that answer; 0 is one for each processor, at least four."},
    {.section = "serving",
     .name = "row_limit",
     .type = OPTION_INTEGER,
     .minimum = 1,
     .maximum = 10000000,
     .number = 100000,
     .unit = "rows",
     FIELD(serving_row_limit),
     .help = "Most rows of one answer."},
    {.section = "serving",
     .name = "memory",
     .type = OPTION_SIZE,
     .minimum = MIB,
     .maximum = TIB,
     .number = 512 * MIB,
     FIELD(serving_memory_bytes),
     .help =
         "Bound of the groups that all queries together hold while they are answered, and of the "
         "rows that live streams hold while they are open. A query that needs more than all of "
         "it is refused, one that others leave too little for is told to come again. Few queries "
         "need many groups: see docs/QUERIES.md."},
    {.section = "serving",
     .name = "cache_bytes",
     .type = OPTION_SIZE,
     .minimum = 0,
     .maximum = TIB,
     .number = 64 * MIB,
     FIELD(serving_cache_bytes),
     .help = "Bound of the answers that are kept; the least recently used go first. 0 keeps none."},
    {.section = "serving",
     .name = "cache_age_ms",
     .type = OPTION_INTEGER,
     .minimum = 0,
     .maximum = 60000,
     .number = 0,
     .unit = "ms",
     FIELD(serving_cache_age_ms),
     .help = "A kept answer is given without asking PostgreSQL for this long after it last said "
             "that nothing moved. With 0 it is asked each time, so that an answer never has less "
             "than what was committed when the request came."},
    {.section = "serving",
     .name = "live_streams",
     .type = OPTION_INTEGER,
     .minimum = 0,
     .maximum = 512,
     .number = 64,
     FIELD(serving_live_streams),
     .help = "Live streams (`/v1/views/{view}/live`) that may be open at a time; each holds a "
             "connection, and its rows in `serving.memory`. 0 turns them off."},
    {.section = "serving",
     .name = "live_streams_per_token",
     .type = OPTION_INTEGER,
     .minimum = 0,
     .maximum = 512,
     .number = 16,
     FIELD(serving_live_streams_per_token),
     .help = "Most of them of one token; 0 is no such bound."},
    {.section = "serving",
     .name = "live_streams_per_address",
     .type = OPTION_INTEGER,
     .minimum = 0,
     .maximum = 512,
     .number = 32,
     FIELD(serving_live_streams_per_address),
     .help = "Most of them of one client's address; 0 is no such bound, as behind a proxy."},

    {.section = "serving",
     .name = "ingest",
     .type = OPTION_BOOLEAN,
     FIELD(serving_ingest),
     .help = "Takes events (`POST /v1/sources/{source}/events`) from everybody who reaches the "
             "server. For trials: with `serving.tokens` it is a token's `write` that says who may "
             "send events to which source, and this changes nothing."},
    {.section = "serving",
     .name = "ingest_body",
     .type = OPTION_SIZE,
     .minimum = KIB,
     .maximum = 16 * MIB,
     .number = MIB,
     FIELD(serving_ingest_body_bytes),
     .help = "Most bytes of one request's events, as they are sent and unpacked."},
    {.section = "serving",
     .name = "ingest_events",
     .type = OPTION_INTEGER,
     .minimum = 1,
     .maximum = 100000,
     .number = 10000,
     .unit = "events",
     FIELD(serving_ingest_events),
     .help = "Most events of one request."},
    {.section = "serving",
     .name = "ingest_memory",
     .type = OPTION_SIZE,
     .minimum = MIB,
     .maximum = 64 * MIB,
     .number = 32 * MIB,
     FIELD(serving_ingest_memory_bytes),
     .help =
         "Bound of the bodies that are being received, and again of the events that Kafka has "
         "not acknowledged yet, with the lists of those that are refused. Who comes beyond it is "
         "told to come again."},
    {.section = "serving",
     .name = "ingest_timeout_ms",
     .type = OPTION_INTEGER,
     .minimum = 1000,
     .maximum = 30000,
     .number = 10000,
     .unit = "ms",
     FIELD(serving_ingest_timeout_ms),
     .help = "Time within which Kafka has to acknowledge a request's events; then the answer says "
             "which were not written, or may have been."},
    {.section = "serving",
     .name = "udp_listen",
     .type = OPTION_ADDRESS,
     FIELD(serving_udp_listen),
     .help = "Address on which events are taken by UDP, without an answer: a datagram is one event "
             "or JSON lines. None: no UDP. See docs/INGEST.md."},
    {.section = "serving",
     .name = "udp_source",
     .type = OPTION_TEXT,
     FIELD(serving_udp_source),
     .help = "Source of these events; required with `serving.udp_listen`."},
    {.section = "serving",
     .name = "udp_key",
     .type = OPTION_TEXT,
     FIELD(serving_udp_key),
     .help = "Field whose text is the key of their records; without it they have none."},
    {.section = "serving",
     .name = "udp_allow_remote",
     .type = OPTION_BOOLEAN,
     FIELD(serving_udp_allow_remote),
     .help = "Lets `serving.udp_listen` be an address that is not loopback, where whoever reaches "
             "it sends events: UDP knows no tokens."},
};

const size_t config_option_count = sizeof config_options / sizeof config_options[0];

const char *config_key_text(const char *section, const char *name, char *buffer, size_t size)
{
    const char *quote = strchr(name, '.') != NULL ? "\"" : "";
    snprintf(buffer, size, "%s%s%s%s%s", section != NULL ? section : "", section != NULL ? "." : "",
             quote, name, quote);
    return buffer;
}

/* --- sizes --- */

static const struct {
    const char *name;
    int64_t bytes;
} units[] = {
    {"TiB", TIB},       {"GiB", GIB},    {"MiB", MIB}, {"KiB", KIB}, {"TB", INT64_C(1000000000000)},
    {"GB", 1000000000}, {"MB", 1000000}, {"kB", 1000}, {"B", 1},
};

bool config_parse_size(const char *text, int64_t *bytes)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 18)
        return false;
    int64_t number = 0;
    for (size_t i = 0; i < digits; i++)
        number = number * 10 + (text[i] - '0');
    const char *unit = text + digits;
    if (*unit == ' ')
        unit++;
    if (*unit == '\0' && unit == text + digits) {
        *bytes = number;
        return true;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(unit, units[i].name) == 0)
            return !__builtin_mul_overflow(number, units[i].bytes, bytes);
    return false;
}

const char *config_format_size(int64_t bytes, char *buffer, size_t size)
{
    size_t i = 0;
    while (i < 4 && (bytes == 0 || bytes % units[i].bytes != 0))
        i++;
    if (i == 4)
        snprintf(buffer, size, "%lld B", (long long)bytes);
    else
        snprintf(buffer, size, "%lld %s", (long long)(bytes / units[i].bytes), units[i].name);
    return buffer;
}

/* --- names that are nearly right --- */

enum { NAME_MAX_LENGTH = 40 };

/* Levenshtein's distance; a large number for long names. */
static size_t edit_distance(const char *left, const char *right)
{
    size_t row[NAME_MAX_LENGTH + 1];
    size_t width = strlen(right);
    if (width > NAME_MAX_LENGTH || strlen(left) > NAME_MAX_LENGTH)
        return NAME_MAX_LENGTH;
    for (size_t j = 0; j <= width; j++)
        row[j] = j;
    for (size_t i = 1; left[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= width; j++) {
            size_t best = diagonal + (left[i - 1] != right[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[width];
}

const char *config_nearest_name(const char *section, const char *name)
{
    const char *nearest = NULL;
    size_t least = strlen(name) / 3 + 2; /* must be below */
    for (size_t i = 0; i < config_option_count; i++) {
        const struct option *option = &config_options[i];
        const char *candidate = option->name;
        if (section == NULL && option->section != NULL)
            candidate = option->section;
        else if (section != NULL && (option->section == NULL || strcmp(option->section, section)))
            continue;
        size_t distance = edit_distance(name, candidate);
        if (distance < least) {
            least = distance;
            nearest = candidate;
        }
    }
    return nearest;
}
