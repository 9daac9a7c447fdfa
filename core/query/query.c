/* One query, from its request to its answer. The way is listed in core/query/query_internal.h. */
#include "core/query/query_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/program/program.h"

int64_t query_lap_us(struct query_reader *reader)
{
    int64_t now_us = program_monotonic_us();
    int64_t lap_us = now_us - reader->mark_us;
    reader->mark_us = now_us;
    return lap_us;
}

static struct query_answer *answer_create(const struct catalog_version *version)
{
    struct query_answer *answer = calloc(1, sizeof *answer);
    if (answer == NULL)
        return NULL;
    answer->view = version->view;
    answer->version = version->version;
    arena_init(&answer->arena);
    return answer;
}

bool query_budget_take(struct query_budget *budget, size_t bytes)
{
    if (atomic_fetch_add(&budget->used_bytes, bytes) + bytes <= budget->limit_bytes)
        return true;
    atomic_fetch_sub(&budget->used_bytes, bytes);
    return false;
}

void query_budget_give_back(struct query_budget *budget, size_t bytes)
{
    atomic_fetch_sub(&budget->used_bytes, bytes);
}

void query_answer_destroy(struct query_answer *answer)
{
    if (answer == NULL)
        return;
    if (answer->budget != NULL)
        query_budget_give_back(answer->budget, answer->reserved_bytes);
    groups_destroy(answer->groups);
    for (int i = 0; i < QUERY_LAYERS; i++)
        groups_destroy(answer->shares[i]);
    arena_deinit(&answer->arena);
    free(answer);
}

/* A session may have panes of both layers, so no part of it is one layer's. */
static enum status prepare_explain(struct query_reader *reader, struct error *error)
{
    struct query_explain *explain = &reader->answer->explain;
    const struct view *shape = &reader->plan->shape;
    explain->asked = reader->request->explain;
    explain->has_shares = explain->asked && shape->window.kind->type != WINDOW_SESSION;
    enum status status = STATUS_OK;
    for (int i = 0; i < QUERY_LAYERS && explain->has_shares && status == STATUS_OK; i++)
        status = groups_create(shape, &reader->shares[i], error);
    return status;
}

/* What the plan says about the answer. */
static enum status prepare(struct query_reader *reader, struct query_plan *plan,
                           struct error *error)
{
    struct query_answer *answer = reader->answer;
    enum status status =
        query_plan_make(reader->version, reader->request, &answer->arena, plan, error);
    if (status == STATUS_OK)
        status = groups_create(&plan->shape, &answer->groups, error);
    if (status == STATUS_OK)
        status = prepare_explain(reader, error);
    if (status != STATUS_OK)
        return status;
    answer->keys = plan->keys;
    answer->key_count = plan->shape.key_count;
    answer->measures = plan->measures;
    answer->measure_count = plan->answer_measure_count;
    bool has_windows = !plan->view->window.kind->is_timeless;
    answer->has_start = plan->window_is_all ? plan->range.has_from : has_windows;
    answer->has_end = plan->window_is_all ? plan->range.has_to : has_windows;
    for (size_t i = 0; i < plan->view->lookup_count; i++)
        answer->has_lookups = answer->has_lookups || plan->joins[i];
    reader->field_count = view_row_columns(&plan->shape);
    reader->fields = arena_alloc(&answer->arena, reader->field_count * sizeof *reader->fields);
    return reader->fields != NULL ? STATUS_OK : error_no_memory(error);
}

static enum status finish_page(const struct query_reader *reader, struct error *error)
{
    struct query_answer *answer = reader->answer;
    const struct query_plan *plan = reader->plan;
    answer->is_page = reader->request->limit > 0 || plan->has_after;
    answer->has_moved =
        plan->has_after && plan->after_state != query_state_of(&answer->receipt).low;
    if (!answer->has_more || answer->row_count == 0)
        return STATUS_OK;
    return query_cursor_write(reader, &answer->rows[answer->row_count - 1], &answer->next, error);
}

static enum status answer_query(struct query_reader *reader, struct query_plan *plan,
                                struct error *error)
{
    reader->mark_us = program_monotonic_us();
    bool held = false;
    enum status status = prepare(reader, plan, error);
    (void)query_lap_us(reader);
    if (status == STATUS_OK && !reader->request->receipt_only && !reader->request->explain)
        status = query_known_read(reader, &held, error);
    if (status == STATUS_OK && !held)
        status = query_snapshot_read(reader, error);
    (void)query_lap_us(reader);
    if (status == STATUS_OK)
        status = query_merge_finish(reader, error);
    if (status == STATUS_OK)
        status = query_rows_make(reader, error);
    if (status == STATUS_OK)
        status = finish_page(reader, error);
    reader->answer->explain.rows_us = query_lap_us(reader);
    return status;
}

enum status query_run(struct postgres *postgres, const struct catalog_version *version,
                      const struct query_request *request, struct query_answer **out,
                      struct error *error)
{
    *out = NULL;
    struct query_answer *answer = answer_create(version);
    if (answer == NULL)
        return error_no_memory(error);
    answer->budget = request->budget;
    /* The groups refer to the plan's shape, so the plan lives as long as the answer. */
    struct query_plan *plan = arena_alloc(&answer->arena, sizeof *plan);
    if (plan == NULL) {
        query_answer_destroy(answer);
        return error_no_memory(error);
    }
    struct query_reader reader = {
        .postgres = postgres,
        .version = version,
        .request = request,
        .plan = plan,
        .answer = answer,
    };
    enum status status = answer_query(&reader, plan, error);
    for (int i = 0; i < QUERY_LAYERS; i++)
        answer->shares[i] = reader.shares[i]; /* rows borrow from their states */
    if (status != STATUS_OK) {
        query_answer_destroy(answer);
        return status;
    }
    *out = answer;
    return STATUS_OK;
}

enum status query_receipt_here(struct postgres *postgres, const struct catalog_version *version,
                               const struct query_request *request, struct query_answer **out,
                               struct error *error)
{
    *out = NULL;
    struct query_answer *answer = answer_create(version);
    if (answer == NULL)
        return error_no_memory(error);
    struct query_plan plan;
    struct query_reader reader = {.postgres = postgres,
                                  .version = version,
                                  .request = request,
                                  .plan = &plan,
                                  .answer = answer};
    char number[16];
    PGresult *result = NULL;
    snprintf(number, sizeof number, "%d", version->version);
    const char *parameters[] = {version->view->source->topic, version->view->name, number,
                                version->lookups};
    enum status status = query_plan_make(version, request, &answer->arena, &plan, error);
    if (status == STATUS_OK)
        status = postgres_query_binary(postgres, query_receipt_sql, 4, parameters, &result, error);
    if (status == STATUS_OK)
        status = query_receipt_read(&reader, result, error);
    PQclear(result);
    if (status == STATUS_OK)
        *out = answer;
    else
        query_answer_destroy(answer);
    return status;
}
