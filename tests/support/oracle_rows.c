/* Folding and rows of the naive model: see oracle.h and oracle_internal.h. */
#include "tests/support/oracle_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { US_PER_SECOND = 1000000 };

/* --- texts of values --- */

void oracle_time_text(int64_t us, char *out, size_t size)
{
    int64_t seconds = us / US_PER_SECOND, fraction = us % US_PER_SECOND;
    if (fraction < 0) {
        fraction += US_PER_SECOND;
        seconds--;
    }
    struct tm tm;
    time_t time = (time_t)seconds;
    gmtime_r(&time, &tm);
    /* ISO 8601 has an expanded form for the years that RFC 3339 cannot write. */
    int length =
        snprintf(out, size, tm.tm_year + 1900 > 9999 ? "+%06d" : "%04d", tm.tm_year + 1900);
    length += snprintf(out + length, size - (size_t)length, "-%02d-%02dT%02d:%02d:%02d",
                       tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    if (fraction != 0) {
        length += snprintf(out + length, size - (size_t)length, ".%06" PRId64, fraction);
        while (out[length - 1] == '0')
            length--;
    }
    snprintf(out + length, size - (size_t)length, "Z");
}

/* `number` with its point before the last `scale` digits, without trailing zeros. */
static void decimal_text(oracle_number number, int scale, char *out)
{
    char digits[48];
    int count = 0;
    bool negative = number < 0;
    if (negative)
        number = -number;
    while (scale > 0 && number % 10 == 0) {
        number /= 10;
        scale--;
    }
    while (number > 0 || count <= scale) {
        digits[count++] = (char)('0' + (int)(number % 10));
        number /= 10;
    }
    if (negative)
        *out++ = '-';
    while (count > 0) {
        *out++ = digits[--count];
        if (count == scale && scale > 0)
            *out++ = '.';
    }
    *out = '\0';
}

/* The weight of a number's first digit to the base 10000, and that digit. */
static void leading_digit(oracle_number number, int *weight, int *digit)
{
    *weight = 0;
    *digit = 0;
    if (number < 0)
        number = -number;
    for (int i = 0; number > 0; i++, number /= 10000) {
        *weight = i;
        *digit = (int)(number % 10000);
    }
}

/* PostgreSQL's avg(numeric): numeric.c, select_div_scale gives the quotient at least 16 significant
 * digits, and the last one is rounded half away from zero. */
static void average_text(oracle_number hundredths, int64_t count, char *out)
{
    int weight, divisor_weight, digit, divisor_digit;
    leading_digit(hundredths * 100, &weight, &digit); /* four digits behind the point: one place */
    weight--;
    if (hundredths == 0)
        weight = 0;
    leading_digit(count, &divisor_weight, &divisor_digit);
    int quotient_weight = weight - divisor_weight - (digit <= divisor_digit ? 1 : 0);
    int scale = 16 - 4 * quotient_weight;
    if (scale < 4)
        scale = 4; /* the inputs' own digits; not reached by what the tests produce */
    oracle_number dividend = hundredths < 0 ? -hundredths : hundredths;
    for (int i = 2; i < scale; i++)
        dividend *= 10;
    oracle_number quotient = dividend / count + (dividend % count * 2 >= count ? 1 : 0);
    decimal_text(hundredths < 0 ? -quotient : quotient, scale, out);
}

static void put_value(struct oracle_text *text, const struct oracle_value *value)
{
    char buffer[64];
    if (value->is_null) {
        oracle_put(text, "null");
        return;
    }
    switch (value->type) {
    case ORACLE_STRING:
        oracle_put(text, "\"");
        oracle_put_bytes(text, value->text, value->length);
        oracle_put(text, "\"");
        return;
    case ORACLE_INTEGER:
        decimal_text(value->number, 0, buffer);
        break;
    case ORACLE_DECIMAL:
        decimal_text(value->number, 2, buffer);
        break;
    case ORACLE_BOOLEAN:
        snprintf(buffer, sizeof buffer, "%s", value->number != 0 ? "true" : "false");
        break;
    case ORACLE_TIME:
        oracle_put(text, "\"");
        oracle_time_text((int64_t)value->number, buffer, sizeof buffer);
        oracle_put(text, buffer);
        snprintf(buffer, sizeof buffer, "\"");
        break;
    }
    oracle_put(text, buffer);
}

/* --- order --- */

static int compare_values(const struct oracle_value *a, const struct oracle_value *b)
{
    if (a->is_null || b->is_null)
        return (int)a->is_null - (int)b->is_null; /* NULL last */
    if (a->type != ORACLE_STRING)
        return (a->number > b->number) - (a->number < b->number);
    size_t common = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->text, b->text, common);
    return order != 0 ? order : (a->length > b->length) - (a->length < b->length);
}

static int compare_groups(const struct oracle_group *group, int64_t window_us,
                          const struct oracle_value *keys, size_t key_count)
{
    if (group->window_us != window_us)
        return group->window_us < window_us ? -1 : 1;
    for (size_t i = 0; i < key_count; i++) {
        int order = compare_values(&group->keys[i], &keys[i]);
        if (order != 0)
            return order;
    }
    return 0;
}

/* --- groups --- */

static struct oracle_group *find_or_add(struct oracle_groups *groups, int64_t window_us,
                                        const struct oracle_value *keys, size_t key_count)
{
    size_t low = 0, high = groups->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare_groups(groups->items[middle], window_us, keys, key_count);
        if (order == 0)
            return groups->items[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (groups->count == groups->capacity) {
        groups->capacity = groups->capacity == 0 ? 64 : 2 * groups->capacity;
        groups->items = realloc(groups->items, groups->capacity * sizeof *groups->items);
        if (groups->items == NULL)
            abort();
    }
    struct oracle_group *group = calloc(1, sizeof *group);
    if (group == NULL)
        abort();
    group->window_us = window_us;
    memcpy(group->keys, keys, key_count * sizeof *keys);
    memmove(groups->items + low + 1, groups->items + low,
            (groups->count - low) * sizeof *groups->items);
    groups->items[low] = group;
    groups->count++;
    return group;
}

void oracle_groups_clear(struct oracle_groups *groups)
{
    for (size_t i = 0; i < groups->count; i++)
        free(groups->items[i]);
    free(groups->items);
    *groups = (struct oracle_groups){0};
}

static int64_t window_of(int64_t time_us, int64_t size_us)
{
    int64_t into = time_us % size_us;
    return time_us - (into < 0 ? into + size_us : into);
}

static void fold_value(enum oracle_fold fold, struct oracle_state *state,
                       const struct oracle_value *value)
{
    bool first = state->count++ == 0;
    switch (fold) {
    case ORACLE_COUNT:
        break;
    case ORACLE_SUM:
    case ORACLE_AVG:
        state->sum += value->number;
        break;
    case ORACLE_MIN:
        if (first || compare_values(value, &state->extreme) < 0)
            state->extreme = *value;
        break;
    case ORACLE_MAX:
        if (first || compare_values(value, &state->extreme) > 0)
            state->extreme = *value;
        break;
    }
}

static void fold_event(const struct oracle_view *view, struct oracle_group *group,
                       const void *event)
{
    for (size_t i = 0; i < view->measure_count; i++) {
        struct oracle_value value = {.type = view->measures[i].type};
        if (view->measures[i].value(event, &value))
            fold_value(view->measures[i].fold, &group->states[i], &value);
    }
}

void oracle_fold_record(const struct oracle_view *view, struct oracle_groups *groups,
                        const struct oracle_record *record)
{
    struct oracle_value keys[ORACLE_KEYS];
    if (record->event == NULL || view->verdict(record->event) != ORACLE_COUNTED)
        return;
    for (size_t i = 0; i < view->key_count; i++) {
        keys[i] = (struct oracle_value){0};
        view->keys[i].value(record->event, &keys[i]);
    }
    int64_t time_us = record->time_us, start_us = time_us, end_us;
    switch (view->kind) {
    case ORACLE_TUMBLING:
        start_us = window_of(time_us, view->window_us);
        break;
    case ORACLE_HOPPING:
        for (start_us = window_of(time_us, view->slide_us); start_us > time_us - view->window_us;
             start_us -= view->slide_us)
            fold_event(view, find_or_add(groups, start_us, keys, view->key_count), record->event);
        return;
    case ORACLE_SESSION: /* joined when the answer is made */
        break;
    case ORACLE_CALENDAR:
        view->calendar(time_us, &start_us, &end_us);
        break;
    case ORACLE_NONE:
        start_us = 0;
        break;
    }
    fold_event(view, find_or_add(groups, start_us, keys, view->key_count), record->event);
}

static void merge_state(enum oracle_fold fold, struct oracle_state *into,
                        const struct oracle_state *from)
{
    if (from->count == 0)
        return;
    bool take = into->count == 0;
    if (fold == ORACLE_MIN)
        take = take || compare_values(&from->extreme, &into->extreme) < 0;
    if (fold == ORACLE_MAX)
        take = take || compare_values(&from->extreme, &into->extreme) > 0;
    if (take)
        into->extreme = from->extreme;
    into->count += from->count;
    into->sum += from->sum;
}

/* --- the query over a view's groups --- */

static bool is_in_range(const struct oracle_query *query, const struct oracle_group *group)
{
    return !(query->has_from && group->window_us < query->from_us) &&
           !(query->has_to && group->window_us >= query->to_us);
}

static bool has_wanted_key(const struct oracle_query *query, const struct oracle_group *group)
{
    if (!query->has_filter)
        return true;
    struct oracle_value wanted = query->filter;
    wanted.text = query->filter_text;
    return compare_values(&group->keys[query->filter_key], &wanted) == 0;
}

static void merge_group(const struct oracle_view *view, struct oracle_group *into,
                        const struct oracle_group *from)
{
    for (size_t m = 0; m < view->measure_count; m++)
        merge_state(view->measures[m].fold, &into->states[m], &from->states[m]);
}

static void project_keys(const struct oracle_query *query, const struct oracle_group *group,
                         struct oracle_value *keys)
{
    for (size_t k = 0; k < query->group_by_count; k++)
        keys[k] = group->keys[query->group_by[k]];
}

/* The groups of the answer, from the view's own. */
static void roll_up(const struct oracle_query *query, const struct oracle_groups *from,
                    struct oracle_groups *into)
{
    for (size_t i = 0; i < from->count; i++) {
        const struct oracle_group *group = from->items[i];
        struct oracle_value keys[ORACLE_KEYS];
        if (!is_in_range(query, group) || !has_wanted_key(query, group))
            continue;
        project_keys(query, group, keys);
        int64_t window_us = query->granularity == ORACLE_ALL ? 0
                            : query->granularity == ORACLE_WINDOW
                                ? group->window_us
                                : window_of(group->window_us, query->granularity);
        struct oracle_group *target = find_or_add(into, window_us, keys, query->group_by_count);
        merge_group(query->view, target, group);
    }
}

/* Sessions: the records come in the order of time, so each goes on with the newest session of its
 * keys or begins one. `newest` has that session for each combination of keys, under window 0. */
static void join_sessions(const struct oracle_query *query, const struct oracle_groups *records,
                          struct oracle_groups *into)
{
    struct oracle_groups newest = {0}, sessions = {0};
    for (size_t i = 0; i < records->count; i++) {
        const struct oracle_group *record = records->items[i];
        struct oracle_value keys[ORACLE_KEYS];
        if (!has_wanted_key(query, record))
            continue;
        project_keys(query, record, keys);
        size_t known = newest.count;
        struct oracle_group *key = find_or_add(&newest, 0, keys, query->group_by_count);
        if (newest.count > known || record->window_us - key->last_us >= query->view->window_us)
            key->states[0].count = record->window_us; /* where the session starts */
        key->last_us = record->window_us;
        struct oracle_group *session =
            find_or_add(&sessions, key->states[0].count, keys, query->group_by_count);
        session->last_us = record->window_us;
        merge_group(query->view, session, record);
    }
    for (size_t i = 0; i < sessions.count; i++) {
        const struct oracle_group *session = sessions.items[i];
        if (is_in_range(query, session))
            *find_or_add(into, session->window_us, session->keys, query->group_by_count) = *session;
    }
    oracle_groups_clear(&newest);
    oracle_groups_clear(&sessions);
}

/* The result of a measure as a value to order by; NULL where there is none. Averages are ordered
 * only where their texts decide (see oracle_target: they are never asked for). */
static struct oracle_value result_of(const struct oracle_measure *measure,
                                     const struct oracle_state *state)
{
    struct oracle_value value = {.type = measure->type};
    switch (measure->fold) {
    case ORACLE_COUNT:
        value.type = ORACLE_INTEGER;
        value.number = state->count;
        break;
    case ORACLE_SUM:
    case ORACLE_AVG:
        value.is_null = state->count == 0;
        value.number = state->sum;
        break;
    case ORACLE_MIN:
    case ORACLE_MAX:
        value = state->extreme;
        value.is_null = state->count == 0;
        break;
    }
    return value;
}

struct ranked {
    struct oracle_group *group;
    size_t rank;
    struct oracle_value by;
    bool descending;
};

static int compare_ranked(const void *left, const void *right)
{
    const struct ranked *a = left, *b = right;
    int order = compare_values(&a->by, &b->by);
    if (a->descending)
        order = -order;
    return order != 0 ? order : (a->rank > b->rank) - (a->rank < b->rank);
}

static void sort_groups(const struct oracle_query *query, struct oracle_groups *groups)
{
    struct ranked *ranked = calloc(groups->count + 1, sizeof *ranked);
    if (ranked == NULL)
        abort();
    for (size_t i = 0; i < groups->count; i++)
        ranked[i] = (struct ranked){
            .group = groups->items[i],
            .rank = i,
            .by = result_of(&query->view->measures[query->order],
                            &groups->items[i]->states[query->order]),
            .descending = query->descending,
        };
    qsort(ranked, groups->count, sizeof *ranked, compare_ranked);
    for (size_t i = 0; i < groups->count; i++)
        groups->items[i] = ranked[i].group;
    free(ranked);
}

/* --- rows --- */

static void put_result(struct oracle_text *text, const struct oracle_measure *measure,
                       const struct oracle_state *state)
{
    char buffer[64];
    struct oracle_value value = result_of(measure, state);
    if (measure->fold != ORACLE_AVG || value.is_null) {
        put_value(text, &value);
        return;
    }
    average_text(measure->type == ORACLE_DECIMAL ? state->sum : state->sum * 100, state->count,
                 buffer);
    oracle_put(text, buffer);
}

static void put_bound(struct oracle_text *text, bool known, int64_t us)
{
    char buffer[48];
    if (known)
        oracle_time_text(us, buffer, sizeof buffer);
    else
        snprintf(buffer, sizeof buffer, "null");
    oracle_put(text, buffer);
    oracle_put(text, " ");
}

static int64_t window_end(const struct oracle_view *view, const struct oracle_group *group)
{
    int64_t start_us = group->window_us, end_us = 0;
    if (view->kind == ORACLE_SESSION)
        return group->last_us + view->window_us;
    if (view->kind == ORACLE_CALENDAR)
        view->calendar(start_us, &start_us, &end_us);
    else
        end_us = start_us + view->window_us;
    return end_us;
}

/* Writes window and says whether more may come into it. */
static bool put_window(struct oracle_text *text, const struct oracle_query *query,
                       const struct oracle_receipt *receipt, const struct oracle_group *group)
{
    const struct oracle_view *view = query->view;
    int64_t end_us;
    bool open = false;
    if (view->kind == ORACLE_NONE) {
        put_bound(text, false, 0);
        put_bound(text, false, 0);
        return true;
    }
    if (query->granularity == ORACLE_ALL) {
        put_bound(text, query->has_from, query->from_us);
        put_bound(text, query->has_to, query->to_us);
        open = !query->has_to;
        /* the last window that begins before `to` */
        end_us = open ? 0 : window_of(query->to_us - 1, view->window_us) + view->window_us;
    } else {
        end_us = query->granularity == ORACLE_WINDOW ? window_end(view, group)
                                                     : group->window_us + query->granularity;
        put_bound(text, true, group->window_us);
        put_bound(text, true, end_us);
    }
    return open || !receipt->has_watermark || end_us > receipt->watermark_us;
}

static void put_row(struct oracle_text *text, const struct oracle_query *query,
                    const struct oracle_receipt *receipt, const struct oracle_group *group)
{
    const struct oracle_view *view = query->view;
    bool provisional = put_window(text, query, receipt, group);
    for (size_t i = 0; i < query->group_by_count; i++) {
        oracle_put(text, view->keys[query->group_by[i]].name);
        oracle_put(text, "=");
        put_value(text, &group->keys[i]);
        oracle_put(text, " ");
    }
    oracle_put(text, "|");
    for (size_t i = 0; i < query->measure_count; i++) {
        size_t index = query->measures[i];
        oracle_put(text, " ");
        oracle_put(text, view->measures[index].name);
        oracle_put(text, "=");
        put_result(text, &view->measures[index], &group->states[index]);
    }
    oracle_put(text, provisional ? " | provisional\n" : " | final\n");
}

/* The query with every default written out. */
static struct oracle_query complete(const struct oracle_query *query)
{
    struct oracle_query whole = *query;
    if (!whole.has_group_by) {
        whole.group_by_count = whole.view->key_count;
        for (size_t i = 0; i < whole.group_by_count; i++)
            whole.group_by[i] = i;
    }
    if (!whole.has_measures) {
        whole.measure_count = whole.view->measure_count;
        for (size_t i = 0; i < whole.measure_count; i++)
            whole.measures[i] = i;
    }
    return whole;
}

char *oracle_render(const struct oracle_query *query, const struct oracle_receipt *receipt,
                    const struct oracle_groups *own, size_t *count)
{
    struct oracle_query whole = complete(query);
    struct oracle_groups groups = {0};
    struct oracle_text text = {0};
    if (whole.view->kind == ORACLE_SESSION)
        join_sessions(&whole, own, &groups);
    else
        roll_up(&whole, own, &groups);
    if (whole.has_order)
        sort_groups(&whole, &groups);
    *count = whole.limit != 0 && whole.limit < groups.count ? whole.limit : groups.count;
    oracle_put(&text, "");
    for (size_t i = 0; i < *count; i++)
        put_row(&text, &whole, receipt, groups.items[i]);
    oracle_groups_clear(&groups);
    return text.data;
}
