/* Kafka and its group, faults, and who goes next: one history.
 *
 * The log is shared by all; records come at its end and go, by retention, at its beginning, which
 * may overtake P and the archive. The group assigns every partition to one instance, alive or not,
 * and whoever was assigned it before learns of that in some later poll or never: until then it goes
 * on folding and flushing. That is more than Kafka's protocol permits (an eager rebalance waits for
 * its members, up to a time-out), so whatever it permits is in it. */
#include <stdarg.h>
#include <string.h>

#include "tests/simulator/simulator.h"

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators"). */
uint64_t next_random(struct world *world)
{
    world->state ^= world->state >> 12;
    world->state ^= world->state << 25;
    world->state ^= world->state >> 27;
    return world->state * UINT64_C(2685821657736338717);
}

int pick(struct world *world, int bound)
{
    return (int)((next_random(world) >> 33) % (uint64_t)bound);
}

bool chance(struct world *world, int per_thousand)
{
    return pick(world, 1000) < per_thousand;
}

void say(struct world *world, const char *format, ...)
{
    va_list arguments;
    if (world->trace == NULL)
        return;
    fprintf(world->trace, "%5d  ", world->step);
    va_start(arguments, format);
    vfprintf(world->trace, format, arguments);
    va_end(arguments);
    fputc('\n', world->trace);
}

void violated(struct world *world, const char *format, ...)
{
    va_list arguments;
    if (world->failed)
        return;
    world->failed = true;
    va_start(arguments, format);
    vsnprintf(world->failure, sizeof world->failure, format, arguments);
    va_end(arguments);
    say(world, "VIOLATED: %s", world->failure);
}

/* --- Kafka --- */

static void produce(struct world *world)
{
    int p = pick(world, world->partitions);
    for (int i = 1 + pick(world, 3); i > 0 && world->end[p] < LOG_MAX; i--) {
        struct sim_record *record = &world->log[p][world->end[p]];
        records_make(world, p, record);
        say(world, "p%d offset %d: %s", p, (int)world->end[p],
            !record->present    ? "no record"
            : record->dead      ? "a bad record"
            : record->duplicate ? "a duplicate"
            : record->filtered  ? "a record that is filtered"
                                : "a record");
        world->end[p]++;
    }
}

static void retain(struct world *world)
{
    int p = pick(world, world->partitions);
    int64_t low = world->low[p] + 1 + pick(world, 6);
    /* As a rule what is archived. */
    if (!chance(world, 100) && low > world->db.now.archived[p])
        low = world->db.now.archived[p];
    if (low > world->end[p])
        low = world->end[p];
    if (low <= world->low[p])
        return;
    say(world, "Kafka drops p%d below %d", p, (int)low);
    world->low[p] = low;
}

static void assign_anew(struct world *world)
{
    world->generation++;
    for (int p = 0; p < world->partitions; p++)
        world->assigned_to[p] = pick(world, world->speeds);
    say(world, "the group assigns p0 to %d, p1 to %d, p2 to %d", world->assigned_to[0],
        world->assigned_to[1], world->assigned_to[2]);
}

/* --- one history --- */

static void begin(struct world *world, uint64_t seed, enum bug bug, FILE *trace)
{
    struct world *w = world;
    /* Everything but the database's large tables, and the memory of partitions and flushes. */
    w->seed = seed;
    w->state = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15);
    w->bug = bug;
    w->trace = trace;
    w->failed = false;
    w->failure[0] = '\0';
    w->step = 0;
    w->checked = w->answers = w->publications = w->rollbacks = 0;
    for (int i = 0; i < 4; i++)
        (void)next_random(w);
    w->partitions = 1 + pick(w, PARTITIONS_MAX);
    w->speeds = 1 + pick(w, SPEEDS_MAX);
    w->retained_runs = 1 + pick(w, 3);
    w->steps = 200 << pick(w, 4);
    w->lost_rate = chance(w, 500) ? 0 : 1 + pick(w, 20);
    w->crash_rate = chance(w, 600) ? 0 : 1 + pick(w, 10);
    w->retention_rate = chance(w, 600) ? 0 : 1 + pick(w, 20);
    w->rebalance_rate = chance(w, 300) ? 0 : 1 + pick(w, 20);
    w->rollback_rate = chance(w, 600) ? 40 : 100 + pick(w, 600);
    w->slowness = pick(w, SPEEDS_MAX + 1); /* this instance hardly ever goes on */
    memset(w->low, 0, sizeof w->low);
    memset(w->end, 0, sizeof w->end);
    memset(w->seen, 0, sizeof w->seen);
    w->letters = 0;
    w->generation = 0;
    w->last_owner = 0;
    database_reset(w);
    w->batch = (struct sim_batch){.session = -1};
    w->rollback = w->registration = (struct sim_operator){.session = -1};
    for (int i = 0; i < READERS; i++)
        w->readers[i].line = 0;
    for (int i = 0; i < SPEEDS_MAX; i++)
        w->speed[i].session = w->speed[i].flusher.session = -1;
    assign_anew(w);
}

static void kill_somebody(struct world *world)
{
    if (chance(world, 250)) {
        say(world, "the batch process is killed");
        batch_kill(world);
        return;
    }
    struct sim_speed *speed = &world->speed[pick(world, world->speeds)];
    if (!speed->up)
        return;
    say(world, "process %d is killed", speed->owner);
    speed_kill(world, speed);
}

static void step(struct world *world)
{
    int actor = pick(world, 100);
    int speed = pick(world, world->speeds);
    for (int p = 0; p < world->partitions; p++)
        world->end_at[world->step][p] = (int8_t)world->end[p];
    if (chance(world, world->crash_rate))
        kill_somebody(world);
    if (chance(world, world->retention_rate))
        retain(world);
    if (chance(world, world->rebalance_rate))
        assign_anew(world);
    if (chance(world, 3)) /* time goes by: who has not flushed for long is seen to */
        for (int p = 0; p < world->partitions; p++)
            world->db.now.positions[p].lone = true;
    if (speed == world->slowness && actor < 55 && !chance(world, 60))
        return;
    if (actor < 30)
        speed_step(world, &world->speed[speed]);
    else if (actor < 55)
        flusher_step(world, &world->speed[speed]);
    else if (actor < 75)
        batch_step(world);
    else if (actor < 85)
        reader_step(world, &world->readers[pick(world, READERS)]);
    else if (actor < 88)
        rollback_step(world);
    else if (actor < 90)
        registration_step(world);
    else if (actor < 94)
        server_step(world);
    else
        produce(world);
}

bool history_run(struct world *world, uint64_t seed, enum bug bug, FILE *trace)
{
    begin(world, seed, bug, trace);
    say(world, "seed %llu: %d partitions, %d instances, %d runs are retained",
        (unsigned long long)seed, world->partitions, world->speeds, world->retained_runs);
    for (; world->step < world->steps && !world->failed; world->step++)
        step(world);
    for (int i = 0; i < SPEEDS_MAX; i++)
        speed_kill(world, &world->speed[i]);
    return !world->failed;
}
