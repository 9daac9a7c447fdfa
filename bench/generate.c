/* Makes flights where the real ones are not at hand: the same shape, from a fixed seed.
 *
 *     generate COUNT
 *
 * Writes COUNT JSON lines to stdout, sorted by time. What matters for the benchmarks is about as in
 * the real data set of 3 million: six months in steps of a minute with quiet nights, 229 origins of
 * which the busiest has one in sixteen departures, some 3,000 routes, delays around zero with a
 * long tail, 93 bytes a line. The codes are no real airports'. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/support.h"

enum {
    AIRPORTS = 229,
    ROUTES = 400,      /* destinations of the busiest airport */
    START = 978307260, /* 2001-01-01T00:01:00Z */
    SECONDS = 181 * 86400,
    REAL_COUNT = 3000000, /* records of the real data set in that time */
};

/* splitmix64: Steele, Lea, Flood, Fast splittable pseudorandom number generators, 2014. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* In [0, 1). */
static double next_fraction(uint64_t *state)
{
    return (double)(next_random(state) >> 11) * 0x1p-53;
}

static void write_code(int airport, char *out)
{
    uint64_t seed = (uint64_t)airport * 7919;
    uint64_t random = next_random(&seed);
    out[0] = (char)('A' + airport % 26);
    out[1] = (char)('A' + airport / 26);
    out[2] = (char)('A' + random % 26);
    out[3] = '\0';
}

static int choose_airport(const double *cumulative, uint64_t *state)
{
    double wanted = next_fraction(state) * cumulative[AIRPORTS - 1];
    int low = 0;
    int high = AIRPORTS - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (cumulative[middle] < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int64_t delay_minutes(uint64_t *state)
{
    double sum = 0;
    for (int i = 0; i < 4; i++)
        sum += next_fraction(state);
    double delay = (sum - 2) * 25 - 3;
    if (next_fraction(state) < 0.2)
        delay += -40 * log(1 - next_fraction(state));
    return (int64_t)delay;
}

/* Departures follow the day: few between midnight and five. `day_fraction` is uniform. */
static double time_of_day(double day_fraction)
{
    return day_fraction < 0.02 ? day_fraction / 0.02 * 5 * 3600
                               : (5 + (day_fraction - 0.02) / 0.98 * 19) * 3600;
}

static time_t time_of_record(double index)
{
    double days = index / REAL_COUNT * SECONDS / 86400;
    double day = floor(days);
    time_t time = START + (time_t)(day * 86400 + time_of_day(days - day));
    return time - time % 60;
}

static void write_record(double index, const double *cumulative, uint64_t *state)
{
    int origin = choose_airport(cumulative, state);
    double weight = cumulative[origin] - (origin > 0 ? cumulative[origin - 1] : 0);
    uint64_t routes = 2 + (uint64_t)(ROUTES * weight / cumulative[0]);
    uint64_t route = (uint64_t)origin * 1000 + next_random(state) % routes;
    int destination = choose_airport(cumulative, &route);
    char from[4];
    char to[4];
    char text[32];
    struct tm parts;
    time_t time = time_of_record(index);
    write_code(origin, from);
    write_code(destination, to);
    gmtime_r(&time, &parts);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    printf("{\"time\":\"%s\",\"delay\":%" PRId64 ",\"distance\":%" PRIu64
           ",\"origin\":\"%s\",\"destination\":\"%s\"}\n",
           text, delay_minutes(state), 60 + next_random(&route) % 2500, from, to);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        bench_fail("usage: generate COUNT");
    long count = bench_number(argv[1], "COUNT", 1, 1000000000);
    double cumulative[AIRPORTS];
    double sum = 0;
    for (int i = 0; i < AIRPORTS; i++)
        cumulative[i] = sum += pow(i + 35, -3.3); /* fits the real counts */
    uint64_t state = 1;
    for (long i = 0; i < count; i++)
        write_record((double)i, cumulative, &state);
    if (fflush(stdout) != 0 || ferror(stdout))
        bench_fail("generate: standard output cannot be written");
    return 0;
}
