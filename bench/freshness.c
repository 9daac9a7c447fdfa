/* From produce to queryable: how long until a record counts in an answer over HTTP.
 *
 *     freshness BOOTSTRAP TOPIC URL SAMPLES FIRST_DAY SECONDS
 *
 * Sends flights one at a time, at moments that have nothing to do with the speed layer's timer,
 * each into a day that has no other: FIRST_DAY (days since the epoch), the day after it, and so on.
 * Then asks for that day of view flights_total, on a connection that stays open, until the answer
 * has it. A sample ends when that answer is read, so it includes the pause between two questions (2
 * ms). After SECONDS no further sample is begun.
 *
 * One line on stdout: samples, then in milliseconds the median, 99th percentile and greatest of
 * produce to queryable, and the median of produce to acknowledged. */
#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/support.h"
#include "core/kafka/kafka.h"

enum { SAMPLES_MAX = 100000, PATIENCE_MS = 30000, POLL_PAUSE_NS = 2000000, PHASE_US = 200000 };

struct answer {
    char text[65536];
    size_t length;
};

struct sample {
    double queryable_ms;
    double acknowledged_ms;
};

static size_t receive(char *data, size_t size, size_t count, void *context)
{
    struct answer *answer = context;
    size_t length = size * count;
    if (answer->length + length >= sizeof answer->text)
        return 0;
    memcpy(answer->text + answer->length, data, length);
    answer->length += length;
    answer->text[answer->length] = '\0';
    return length;
}

static void day_text(long day, char *out, size_t size)
{
    time_t time = (time_t)day * 86400;
    struct tm parts;
    gmtime_r(&time, &parts);
    strftime(out, size, "%Y-%m-%d", &parts);
}

/* Flights of the day according to the view; 0 where it has no row. */
static json_int_t ask(CURL *curl, const char *url)
{
    static struct answer answer;
    long code = 0;
    answer.length = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    CURLcode result = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    if (result != CURLE_OK || code != 200)
        bench_fail("freshness: %s: %s, code %ld", url, curl_easy_strerror(result), code);
    json_t *root = json_loadb(answer.text, answer.length, 0, NULL);
    const json_t *rows = json_object_get(root, "rows");
    if (!json_is_array(rows) || json_array_size(rows) > 1)
        bench_fail("freshness: %s: not the answer that was expected", url);
    json_int_t flights = json_integer_value(json_object_get(json_array_get(rows, 0), "flights"));
    json_decref(root);
    return flights;
}

static void send_flight(struct kafka_producer *producer, const char *topic, long day, int number)
{
    char date[16];
    char record[160];
    struct error error;
    day_text(day, date, sizeof date);
    int length = snprintf(record, sizeof record,
                          "{\"time\":\"%sT12:00:00Z\",\"delay\":1,\"distance\":1,"
                          "\"origin\":\"ZZZ\",\"destination\":\"ZZ%d\"}",
                          date, number % 10);
    if (kafka_producer_send(producer, topic, RD_KAFKA_PARTITION_UA, NULL, 0, record, (size_t)length,
                            NULL, &error) != STATUS_OK ||
        kafka_producer_flush(producer, PATIENCE_MS, &error) != STATUS_OK)
        bench_fail("freshness: %s", error.text);
}

static struct sample take_sample(struct kafka_producer *producer, CURL *curl, const char *topic,
                                 const char *base_url, long day, int number)
{
    char from[16];
    char to[16];
    char url[512];
    struct sample sample;
    day_text(day, from, sizeof from);
    day_text(day + 1, to, sizeof to);
    snprintf(url, sizeof url, "%s/v1/views/flights_total/rows?from=%s&to=%s&measures=flights",
             base_url, from, to);
    if (ask(curl, url) != 0)
        bench_fail("freshness: %s has flights already", from);
    double start = bench_seconds();
    send_flight(producer, topic, day, number);
    sample.acknowledged_ms = (bench_seconds() - start) * 1e3;
    json_int_t flights;
    while ((flights = ask(curl, url)) == 0) {
        if (bench_seconds() - start > PATIENCE_MS / 1e3)
            bench_fail("freshness: not queryable after %d ms", PATIENCE_MS);
        nanosleep(&(struct timespec){.tv_nsec = POLL_PAUSE_NS}, NULL);
    }
    sample.queryable_ms = (bench_seconds() - start) * 1e3;
    if (flights != 1)
        bench_fail("freshness: one flight was sent, the answer has %" JSON_INTEGER_FORMAT, flights);
    return sample;
}

static CURL *create_client(void)
{
    CURL *curl = curl_easy_init();
    if (curl == NULL)
        bench_fail("freshness: libcurl cannot be started");
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
    return curl;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        bench_fail("usage: freshness BOOTSTRAP TOPIC URL SAMPLES FIRST_DAY SECONDS");
    static double queryable_ms[SAMPLES_MAX];
    static double acknowledged_ms[SAMPLES_MAX];
    size_t wanted = (size_t)bench_number(argv[4], "SAMPLES", 1, SAMPLES_MAX);
    long first_day = bench_number(argv[5], "FIRST_DAY", 0, 1000000);
    double end = bench_seconds() + (double)bench_number(argv[6], "SECONDS", 1, 86400);
    struct kafka_producer *producer = NULL;
    struct error error;
    json_t *properties = json_pack("{s:s}", "bootstrap.servers", argv[1]);
    if (kafka_producer_create(properties, &producer, &error) != STATUS_OK)
        bench_fail("freshness: %s", error.text);
    CURL *curl = create_client();
    size_t count = 0;
    (void)take_sample(producer, curl, argv[2], argv[3], first_day, 0);
    while (count == 0 || (count < wanted && bench_seconds() < end)) {
        nanosleep(&(struct timespec){.tv_nsec = random() % PHASE_US * 1000}, NULL);
        struct sample sample =
            take_sample(producer, curl, argv[2], argv[3], first_day + 1 + (long)count, (int)count);
        queryable_ms[count] = sample.queryable_ms;
        acknowledged_ms[count] = sample.acknowledged_ms;
        count++;
    }
    double median = bench_quantile(queryable_ms, count, 0.5);
    double p99 = bench_quantile(queryable_ms, count, 0.99);
    printf("%zu %.2f %.2f %.2f %.2f\n", count, median, p99, queryable_ms[count - 1],
           bench_quantile(acknowledged_ms, count, 0.5));
    curl_easy_cleanup(curl);
    kafka_producer_destroy(producer);
    json_decref(properties);
    return 0;
}
