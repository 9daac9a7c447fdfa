/* Merged queries at a steady rate, each of them checked.
 *
 *     steady URL VIEW TOPIC RATE CONNECTIONS [SECONDS]
 *
 * Asks for all records of VIEW in one row, RATE times a second on CONNECTIONS connections, for
 * SECONDS or until its input ends. The measure `flights` of each answer must be the sum of the
 * positions in its receipt: the view counts every record of TOPIC, whose partitions begin at 0. A
 * latency counts from the moment at which the question was due, so a server that does not keep up
 * is not asked less.
 *
 * One line on stdout: answers, then in milliseconds the median, 99th percentile and greatest
 * latency; runs and positions that were seen. */
#include <curl/curl.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/support.h"

enum { CONNECTIONS_MAX = 64, ANSWERS_MAX = 1 << 20, BODY_BYTES = 1 << 16 };

struct asker {
    pthread_t thread;
    const char *url;
    const char *topic;
    double begin;    /* of the first question */
    double interval; /* between two of this asker */
    double *latencies_ms;
    size_t count;
    json_int_t run;
    json_int_t position;
    size_t runs; /* changes of these */
    size_t positions;
    char body[BODY_BYTES];
    size_t length;
};

static atomic_bool is_over;

static size_t receive(char *data, size_t size, size_t count, void *context)
{
    struct asker *asker = context;
    size_t length = size * count;
    if (asker->length + length >= sizeof asker->body)
        return 0;
    memcpy(asker->body + asker->length, data, length);
    asker->length += length;
    return length;
}

static void check(struct asker *asker)
{
    json_t *root = json_loadb(asker->body, asker->length, 0, NULL);
    const json_t *rows = json_object_get(root, "rows");
    const json_t *receipt = json_object_get(root, "receipt");
    const json_t *positions = json_object_get(json_object_get(receipt, "positions"), asker->topic);
    json_int_t run = json_integer_value(json_object_get(receipt, "run"));
    json_int_t sum = 0;
    size_t partition;
    json_t *position;
    json_array_foreach (positions, partition, position)
        sum += json_integer_value(position);
    json_int_t flights = json_integer_value(json_object_get(json_array_get(rows, 0), "flights"));
    if (json_array_size(rows) != 1 || partition == 0 || flights != sum)
        bench_fail("steady: %" PRId64 " flights below positions whose sum is %" PRId64 ": %.*s",
                   (int64_t)flights, (int64_t)sum, (int)asker->length, asker->body);
    asker->runs += asker->count > 0 && run != asker->run;
    asker->positions += asker->count > 0 && sum != asker->position;
    asker->run = run;
    asker->position = sum;
    json_decref(root);
}

static void wait_until(double moment)
{
    double left = moment - bench_seconds();
    if (left <= 0)
        return;
    struct timespec pause = {.tv_sec = (time_t)left};
    pause.tv_nsec = (long)((left - (double)pause.tv_sec) * 1e9);
    nanosleep(&pause, NULL);
}

static void *ask(void *context)
{
    struct asker *asker = context;
    CURL *curl = curl_easy_init();
    if (curl == NULL)
        bench_fail("out of memory");
    curl_easy_setopt(curl, CURLOPT_URL, asker->url);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, asker);
    for (double due = asker->begin; !atomic_load(&is_over); due += asker->interval) {
        long code = 0;
        wait_until(due);
        asker->length = 0;
        CURLcode result = curl_easy_perform(curl);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
        if (result != CURLE_OK || code != 200)
            bench_fail("steady: %s: %s, code %ld: %.*s", asker->url, curl_easy_strerror(result),
                       code, (int)asker->length, asker->body);
        double latency_ms = (bench_seconds() - due) * 1e3;
        check(asker);
        if (asker->count == ANSWERS_MAX)
            bench_fail("steady: more than %d answers", ANSWERS_MAX);
        asker->latencies_ms[asker->count++] = latency_ms;
    }
    curl_easy_cleanup(curl);
    return NULL;
}

/* Until `seconds` are over, or the input where there are none. */
static void wait_for_end(double seconds)
{
    char byte;
    if (seconds > 0)
        wait_until(bench_seconds() + seconds);
    else
        while (read(STDIN_FILENO, &byte, 1) > 0)
            continue;
    atomic_store(&is_over, true);
}

static void report(const struct asker *askers, size_t asker_count)
{
    size_t count = 0;
    size_t runs = 0;
    size_t positions = 0;
    for (size_t i = 0; i < asker_count; i++) {
        count += askers[i].count;
        runs = askers[i].runs > runs ? askers[i].runs : runs;
        positions = askers[i].positions > positions ? askers[i].positions : positions;
    }
    double *all = malloc((count + 1) * sizeof *all);
    if (all == NULL || count == 0)
        bench_fail("steady: no answers");
    size_t filled = 0;
    for (size_t i = 0; i < asker_count; i++) {
        memcpy(all + filled, askers[i].latencies_ms, askers[i].count * sizeof *all);
        filled += askers[i].count;
    }
    double median = bench_quantile(all, count, 0.5);
    double p99 = bench_quantile(all, count, 0.99);
    printf("%zu %.3f %.3f %.3f %zu %zu\n", count, median, p99, bench_quantile(all, count, 1), runs,
           positions);
    free(all);
}

int main(int argc, char **argv)
{
    static struct asker askers[CONNECTIONS_MAX];
    char url[512];
    if (argc != 6 && argc != 7)
        bench_fail("usage: steady URL VIEW TOPIC RATE CONNECTIONS [SECONDS]");
    double rate = (double)bench_number(argv[4], "RATE", 1, 100000);
    size_t count = (size_t)bench_number(argv[5], "CONNECTIONS", 1, CONNECTIONS_MAX);
    double seconds = argc == 7 ? (double)bench_number(argv[6], "SECONDS", 1, 3600) : 0;
    snprintf(url, sizeof url, "%s/v1/views/%s/rows?granularity=all&measures=flights", argv[1],
             argv[2]);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    double begin = bench_seconds();
    for (size_t i = 0; i < count; i++) {
        askers[i].url = url;
        askers[i].topic = argv[3];
        askers[i].begin = begin + (double)i / rate;
        askers[i].interval = (double)count / rate;
        askers[i].latencies_ms = malloc(ANSWERS_MAX * sizeof *askers[i].latencies_ms);
        if (askers[i].latencies_ms == NULL ||
            pthread_create(&askers[i].thread, NULL, ask, &askers[i]) != 0)
            bench_fail("steady: a thread cannot be started");
    }
    wait_for_end(seconds);
    for (size_t i = 0; i < count; i++)
        pthread_join(askers[i].thread, NULL);
    report(askers, count);
    curl_global_cleanup();
    return 0;
}
