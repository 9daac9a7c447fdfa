/* Which row comes first.
 *
 * By the columns of `order`, then by window and keys, so that the order of an answer is total: two
 * rows never have the same window and keys. NULL is greater than every value, as in PostgreSQL.
 * Pure; any thread. */
#include "core/query/query_internal.h"

#include <stdlib.h>
#include <string.h>

/* --- numbers --- */

/* A decimal's text in pieces, for comparing by value. */
struct number {
    bool negative;
    const char *whole; /* without leading zeros */
    size_t whole_length;
    const char *fraction; /* without trailing zeros */
    size_t fraction_length;
};

static struct number split_number(const char *text)
{
    struct number number = {.negative = *text == '-'};
    text += number.negative ? 1 : 0;
    text += strspn(text, "0");
    number.whole = text;
    number.whole_length = strspn(text, "0123456789");
    number.fraction = text + number.whole_length;
    if (*number.fraction == '.')
        number.fraction++;
    number.fraction_length = strlen(number.fraction);
    while (number.fraction_length > 0 && number.fraction[number.fraction_length - 1] == '0')
        number.fraction_length--;
    if (number.whole_length == 0 && number.fraction_length == 0)
        number.negative = false;
    return number;
}

static int compare_magnitudes(const struct number *a, const struct number *b)
{
    if (a->whole_length != b->whole_length)
        return a->whole_length < b->whole_length ? -1 : 1;
    int order = memcmp(a->whole, b->whole, a->whole_length);
    if (order != 0)
        return order;
    bool shorter = a->fraction_length < b->fraction_length;
    order = memcmp(a->fraction, b->fraction, shorter ? a->fraction_length : b->fraction_length);
    if (order != 0)
        return order;
    return shorter ? -1 : a->fraction_length > b->fraction_length;
}

static int compare_number_texts(const char *a, const char *b)
{
    struct number left = split_number(a);
    struct number right = split_number(b);
    if (left.negative != right.negative)
        return left.negative ? -1 : 1;
    int order = compare_magnitudes(&left, &right);
    return left.negative ? -order : order;
}

int query_compare_number(const struct value *result, const char *wide_text, const char *text)
{
    char buffer[DECIMAL_TEXT_SIZE];
    if (wide_text != NULL)
        return compare_number_texts(wide_text, text);
    if (result->type == VALUE_INTEGER)
        snprintf(buffer, sizeof buffer, "%lld", (long long)result->integer);
    else
        decimal_format(&result->decimal, buffer, sizeof buffer);
    return compare_number_texts(buffer, text);
}

/* --- rows --- */

/* Results, of which decimals that are too wide for struct value are given as text. */
static int compare_results(const struct query_row *a, const struct query_row *b, size_t index)
{
    const struct value *left = &a->results[index];
    const struct value *right = &b->results[index];
    const char *left_text = a->wide_texts[index];
    const char *right_text = b->wide_texts[index];
    if (left_text == NULL && right_text == NULL)
        return value_compare(left, right);
    char left_buffer[DECIMAL_TEXT_SIZE];
    char right_buffer[DECIMAL_TEXT_SIZE];
    if (left_text == NULL) {
        if (left->is_null)
            return 1;
        decimal_format(&left->decimal, left_buffer, sizeof left_buffer);
        left_text = left_buffer;
    }
    if (right_text == NULL) {
        if (right->is_null)
            return -1;
        decimal_format(&right->decimal, right_buffer, sizeof right_buffer);
        right_text = right_buffer;
    }
    return compare_number_texts(left_text, right_text);
}

static int compare_column(const struct query_row *a, const struct query_row *b,
                          const struct query_sort *sort)
{
    switch (sort->column) {
    case QUERY_WINDOW_START:
        return (a->window_start_us > b->window_start_us) -
               (a->window_start_us < b->window_start_us);
    case QUERY_WINDOW_END:
        return (a->window_end_us > b->window_end_us) - (a->window_end_us < b->window_end_us);
    case QUERY_KEY:
        return value_compare(&a->keys[sort->index], &b->keys[sort->index]);
    case QUERY_MEASURE:
        return compare_results(a, b, sort->index);
    }
    return 0;
}

int query_compare_rows(const struct query_plan *plan, const struct query_row *a,
                       const struct query_row *b)
{
    for (size_t i = 0; i < plan->order_count; i++) {
        int order = compare_column(a, b, &plan->order[i]);
        if (order != 0)
            return plan->order[i].descending ? -order : order; /* NULLs first, as in PostgreSQL */
    }
    if (a->window_start_us != b->window_start_us)
        return a->window_start_us < b->window_start_us ? -1 : 1;
    for (size_t i = 0; i < plan->shape.key_count; i++) {
        int order = value_compare(&a->keys[i], &b->keys[i]);
        if (order != 0)
            return order;
    }
    return 0;
}

static int compare_rows(const void *left, const void *right, void *context)
{
    return query_compare_rows(context, left, right);
}

void query_sort_rows(const struct query_plan *plan, struct query_row *rows, size_t count)
{
    qsort_r(rows, count, sizeof *rows, compare_rows, (void *)plan);
}

/* --- groups --- */

void query_group_window(const struct query_plan *plan, const struct group *group, int64_t *start_us,
                        int64_t *end_us)
{
    if (plan->window_is_all) {
        *start_us = plan->range.from_us;
        *end_us = plan->range.to_us;
    } else {
        plan->shape.window.kind->bounds(&plan->shape, group, start_us, end_us);
    }
}

static int compare_candidates(const void *left, const void *right, void *context)
{
    const struct query_candidate *a = left;
    const struct query_candidate *b = right;
    return query_compare_rows(context, &a->row, &b->row);
}

enum status query_first_groups(const struct query_plan *plan, const struct groups *groups,
                               size_t most, struct arena *arena, struct query_candidate **out,
                               size_t *count, struct error *error)
{
    size_t key_count = plan->shape.key_count;
    size_t all = groups_count(groups);
    size_t found = 0;
    struct groups_cursor cursor = {0};
    struct query_candidate *candidates = arena_alloc(arena, all * sizeof *candidates);
    struct value *keys = arena_alloc(arena, all * key_count * sizeof *keys);
    if (candidates == NULL || keys == NULL)
        return error_no_memory(error);
    for (struct group *group; (group = groups_next(groups, &cursor)) != NULL;) {
        struct query_candidate *candidate = &candidates[found];
        *candidate =
            (struct query_candidate){.group = group, .row = {.keys = keys + found * key_count}};
        query_group_window(plan, group, &candidate->row.window_start_us,
                           &candidate->row.window_end_us);
        group_keys(&plan->shape, group, candidate->row.keys);
        if (!plan->has_after || query_compare_rows(plan, &candidate->row, &plan->after) > 0)
            found++;
    }
    qsort_r(candidates, found, sizeof *candidates, compare_candidates, (void *)plan);
    *out = candidates;
    *count = most > 0 && most < found ? most : found;
    return STATUS_OK;
}
