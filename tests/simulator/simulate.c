/* Histories, one after the other: see simulator.h.
 *
 * Without arguments the tests of `make unit`: the protocol as it is passes histories for a moment,
 * from a seed of chance that is printed (DOVETAIL_SEED repeats it), and each planted bug is found
 * from fixed seeds on. With arguments, `make simulate`: see usage below. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <cmocka.h>

#include "tests/simulator/simulator.h"

enum {
    TEST_HISTORIES = 6000,
    BUG_HISTORIES = 200000, /* each bug is found in fewer */
    SHORTEST_OF = 2000,     /* so many are looked at for the shortest that violates, and more only
                               until there is one */
    TRACE_LINES = 40,
};

const struct bug_name bug_names[BUG_COUNT] = {
    [BUG_NONE] = {"none", "the protocol as it is"},
    [BUG_NO_FENCE] = {"no-fence", "a flush checks neither P nor epoch"},
    [BUG_ZOMBIE_FLUSH] = {"zombie-flush", "a flush checks P, but not the epoch"},
    [BUG_CUT_ANYWHERE] = {"cut-anywhere", "a run takes P as its cut-off, not the slice's start"},
    [BUG_P_BEFORE_ROWS] = {"p-before-rows", "P moves in a transaction before that of the rows"},
    [BUG_TORN_READ] = {"torn-read", "C, P and rows are read in different snapshots"},
    [BUG_PUBLISH_MOVES_P] = {"publish-moves-p",
                             "publishing moves P up to C, without planned cut or epoch"},
    [BUG_EARLY_DROP] = {"early-drop", "slices below the current cut-offs alone are dropped"},
    [BUG_APPEND_ON_RETRY] = {"append-on-retry", "after a lost COMMIT the rows are added again"},
    [BUG_FORGET_SLICES] = {"forget-slices", "a rollback takes the slices of the run with it"},
    [BUG_PLAN_WITHOUT_EPOCH] = {"plan-without-epoch", "a planned cut leaves the epoch as it was"},
    [BUG_CLAIM_WITHOUT_CUTS] = {"claim-without-cuts", "a claim does not read the planned cuts"},
    [BUG_UNLOCKED_RETENTION] = {"unlocked-retention", "retention does not lock current_run"},
    [BUG_STALE_FLOOR] = {"stale-floor",
                         "publishing does not look whether later cut-offs are served meanwhile"},
    [BUG_COMPARE_DROPPED] = {"compare-dropped",
                             "a run compares slices that retention may have dropped"},
    [BUG_LATE_LETTERS] = {"late-letters", "dead letters are sent after the flush"},
};

static struct world *world;

static void set_up(void)
{
    struct error error;
    records_set_up();
    world = calloc(1, sizeof *world);
    bool good = world != NULL;
    for (int i = 0; good && i < SPEEDS_MAX; i++) {
        for (int p = 0; good && p < PARTITIONS_MAX; p++)
            good = partition_init(&world->speed[i].partitions[p], "t", p, &error) == STATUS_OK;
        for (int f = 0; good && f < 2; f++)
            good =
                flush_prepare(&world->speed[i].flushes[f], sim_feeds->catalog, &error) == STATUS_OK;
    }
    if (!good)
        abort();
}

static void tear_down(void)
{
    for (int i = 0; i < SPEEDS_MAX; i++) {
        for (int p = 0; p < PARTITIONS_MAX; p++)
            partition_deinit(&world->speed[i].partitions[p]);
        for (int f = 0; f < 2; f++)
            flush_deinit(&world->speed[i].flushes[f]);
    }
    free(world);
    records_tear_down();
}

/* What a search came to. */
struct search {
    uint64_t histories;
    uint64_t first;    /* histories until the first that violated */
    uint64_t shortest; /* the seed of the shortest one */
    int steps;         /* of that */
    int found;
    int64_t checked, answers, publications, rollbacks;
};

/* Seeds from `seed` on, until `histories` or `until` (0: no such bound), or a violation; but at
 * least `least` of them. */
static struct search search(uint64_t seed, enum bug bug, uint64_t histories, time_t until,
                            uint64_t least)
{
    struct search search = {0};
    for (; (histories == 0 || search.histories < histories) &&
           (search.found == 0 || search.histories < least) &&
           (until == 0 || search.histories % 64 != 0 || time(NULL) < until);
         search.histories++) {
        bool good = history_run(world, seed + search.histories, bug, NULL);
        search.checked += world->checked;
        search.answers += world->answers;
        search.publications += world->publications;
        search.rollbacks += world->rollbacks;
        if (good)
            continue;
        if (search.found++ == 0)
            search.first = search.histories + 1;
        if (search.found == 1 || world->step < search.steps) {
            search.shortest = seed + search.histories;
            search.steps = world->step;
        }
    }
    return search;
}

/* Its last lines; `lines` 0: all. Whether it violates again. */
static bool print_history(uint64_t seed, enum bug bug, int lines)
{
    char *text = NULL;
    size_t length = 0;
    FILE *trace = open_memstream(&text, &length);
    if (trace == NULL)
        abort();
    bool good = history_run(world, seed, bug, trace);
    fclose(trace);
    const char *from = text + length;
    for (int line = 0; from > text && (lines == 0 || line <= lines); from--)
        line += from[-1] == '\n';
    if (from > text)
        from += 2;
    printf("%s%s", from > text ? "    ...\n" : "", from);
    printf("%s; again: make simulate SEED=%llu HISTORIES=1 BUG=%s\n",
           good ? "nothing was violated" : world->failure, (unsigned long long)seed,
           bug_names[bug].name);
    fflush(stdout);
    free(text);
    return !good;
}

static uint64_t first_seed(void)
{
    const char *given = getenv("DOVETAIL_SEED");
    uint32_t seed = 1;
    if (given != NULL && given[0] != '\0')
        return strtoull(given, NULL, 10);
    return getrandom(&seed, sizeof seed, 0) == sizeof seed ? seed : 1;
}

static void print_search(const struct search *search)
{
    printf("%llu histories; %lld states checked, %lld answers, %lld runs published, "
           "%lld rollbacks; %d violations\n",
           (unsigned long long)search->histories, (long long)search->checked,
           (long long)search->answers, (long long)search->publications,
           (long long)search->rollbacks, search->found);
    fflush(stdout);
}

/* --- the tests --- */

static void test_the_protocol_keeps_its_promise(void **state)
{
    (void)state;
    uint64_t seed = first_seed();
    printf("DOVETAIL_SEED=%llu\n", (unsigned long long)seed);
    struct search found = search(seed, BUG_NONE, TEST_HISTORIES, 0, 0);
    print_search(&found);
    if (found.found > 0)
        (void)print_history(found.shortest, BUG_NONE, TRACE_LINES);
    assert_int_equal(found.found, 0);
    /* Histories in which nothing happens would pass as well. */
    assert_true(found.publications > TEST_HISTORIES / 10 && found.rollbacks > 0 &&
                found.answers > TEST_HISTORIES);
}

static void test_every_planted_bug_is_found(void **state)
{
    (void)state;
    for (int bug = BUG_NONE + 1; bug < BUG_COUNT; bug++) {
        struct search found = search(1, bug, BUG_HISTORIES, 0, SHORTEST_OF);
        printf("--- %s: %s\n    found in history %llu; the shortest of %d has %d steps\n",
               bug_names[bug].name, bug_names[bug].help, (unsigned long long)found.first,
               found.found, found.steps);
        if (found.found == 0)
            fail_msg("%s was not found in %d histories", bug_names[bug].name, BUG_HISTORIES);
        assert_true(print_history(found.shortest, bug, TRACE_LINES));
        assert_int_equal(world->step, found.steps);
    }
}

static int test_all(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_protocol_keeps_its_promise),
                                       cmocka_unit_test(test_every_planted_bug_is_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* --- the command --- */

static const char usage[] =
    "usage: simulate [--seconds N] [--histories N] [--seed N] [--bug NAME]\n"
    "\n"
    "Runs histories from a seed on until one violates an invariant, and prints it. With\n"
    "--histories 1 the history is printed in any case.\n"
    "\n"
    "bugs:\n";

static bool parse(int count, char **arguments, uint64_t *seconds, uint64_t *histories,
                  uint64_t *seed, enum bug *bug)
{
    for (int i = 1; i < count; i += 2) {
        const char *value = i + 1 < count ? arguments[i + 1] : "";
        if (value[0] == '\0')
            return false;
        if (strcmp(arguments[i], "--seconds") == 0) {
            *seconds = strtoull(value, NULL, 10);
        } else if (strcmp(arguments[i], "--histories") == 0) {
            *histories = strtoull(value, NULL, 10);
        } else if (strcmp(arguments[i], "--seed") == 0) {
            *seed = strtoull(value, NULL, 10);
        } else if (strcmp(arguments[i], "--bug") == 0) {
            *bug = BUG_NONE;
            while (*bug < BUG_COUNT && strcmp(bug_names[*bug].name, value) != 0)
                ++*bug;
            if (*bug == BUG_COUNT)
                return false;
        } else {
            return false;
        }
    }
    return true;
}

static int run_command(int count, char **arguments)
{
    uint64_t seconds = 0, histories = 0, seed = first_seed();
    enum bug bug = BUG_NONE;
    bool help = strcmp(arguments[1], "--help") == 0;
    if (help || !parse(count, arguments, &seconds, &histories, &seed, &bug)) {
        FILE *out = help ? stdout : stderr;
        fputs(usage, out);
        for (int i = 0; i < BUG_COUNT; i++)
            fprintf(out, "  %-20s %s\n", bug_names[i].name, bug_names[i].help);
        return help ? 0 : 2;
    }
    if (histories == 1)
        return print_history(seed, bug, 0) ? 1 : 0;
    printf("seed %llu, %s\n", (unsigned long long)seed, bug_names[bug].name);
    fflush(stdout);
    struct search found =
        search(seed, bug, histories, seconds > 0 ? time(NULL) + (time_t)seconds : 0, 0);
    print_search(&found);
    if (found.found > 0)
        (void)print_history(found.shortest, bug, TRACE_LINES);
    return found.found > 0 ? 1 : 0;
}

int main(int count, char **arguments)
{
    set_up();
    int code = count > 1 ? run_command(count, arguments) : test_all();
    tear_down();
    return code;
}
