/* Queries: parameters of GET /v1/views/{view}/rows and options of `dovetail query` are refused by
 * name, or they make a plan whose statements have nothing of them in their texts. A page's cursor
 * leads back to the place that it was written for; one that was changed is refused, or leads to a
 * place.
 *
 * Input: the view; name=value pairs with & between them, as they are once decoded; 0; the values of
 * a page's last row, and where its cursor is changed. */
#include "tests/fuzz/fuzz.h"

#include "core/query/query_internal.h"
#include "core/query/query_parse.h"
#include "core/time/timestamp.h"

enum { VIEWS = 6, ROW_LIMIT = 1000, RESULTS_MAX = 8, KEYS_MAX = 8 };

#define MEASURES                                                                                   \
    "\"measures\":{\"n\":\"count(*)\",\"total\":\"sum(d)\",\"p\":\"approx_percentile(i, 0.5)\"}}"

static const char *const view_texts[VIEWS] = {
    "{\"view\":\"v\",\"source\":\"s\",\"group_by\":[\"s\",\"d\",\"i\",\"b\",\"at\"],"
    "\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"}," MEASURES,
    "{\"view\":\"v\",\"source\":\"s\",\"group_by\":[\"b\",{\"name\":\"is\",\"expr\":\"s\"},"
    "{\"name\":\"key\",\"expr\":\"i\"}],\"window\":{\"type\":\"session\",\"gap\":\"10m\"}"
    "," MEASURES,
    "{\"view\":\"v\",\"source\":\"s\",\"group_by\":[\"b\"],"
    "\"window\":{\"type\":\"hopping\",\"size\":\"50m\",\"slide\":\"15m\"}," MEASURES,
    "{\"view\":\"v\",\"source\":\"s\",\"group_by\":[{\"name\":\"limit\",\"expr\":\"i\"}],"
    "\"window\":{\"type\":\"tumbling\",\"size\":\"1d\",\"timezone\":\"America/"
    "New_York\"}," MEASURES,
    "{\"view\":\"v\",\"source\":\"s\",\"window\":{\"type\":\"tumbling\",\"size\":\"1mo\"}"
    "," MEASURES,
    "{\"view\":\"v\",\"source\":\"s\",\"group_by\":[\"s\"],\"window\":{\"type\":\"none\"},"
    "\"lookup\":[{\"table\":\"airports\",\"key\":\"s\",\"on\":\"iata\",\"columns\":[\"city\"]}]"
    "," MEASURES,
};

static struct source *source;
static struct catalog_version versions[VIEWS];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    source = fuzz_source(fuzz_source_json);
    for (size_t i = 0; i < VIEWS; i++)
        versions[i] = (struct catalog_version){
            .version = 7, .view = fuzz_view(view_texts[i], source), .source = source};
    return 0;
}

static void check_refused(enum status status, const struct error *error)
{
    FUZZ_CHECK(status == STATUS_REJECT, "status %d: %s", (int)status, error->text);
    fuzz_check_refusal(status, error);
    FUZZ_CHECK(strchr(error->text, ':') != NULL, "no parameter is named: %s", error->text);
}

/* --- from texts to a request --- */

static enum status take_pair(struct query_question *question, char *pair, struct error *error)
{
    bool known = false;
    char *value = strchr(pair, '=');
    if (value != NULL)
        *value++ = '\0';
    const char *text = value == NULL ? "" : value;
    enum status status = query_question_take(question, pair, text, &known, error);
    FUZZ_CHECK(known == query_is_parameter(pair), "%s: known, or not?", pair);
    if (status != STATUS_OK || known)
        return status;
    return query_question_restrict(question, pair, pair, strcspn(pair, "."), text, error);
}

static enum status take_pairs(struct query_question *question, char *rest, struct error *error)
{
    enum status status = STATUS_OK;
    for (char *pair; status == STATUS_OK && (pair = strsep(&rest, "&")) != NULL;)
        status = take_pair(question, pair, error);
    return status;
}

/* --- plans --- */

static void check_statement(const struct query_sql *sql)
{
    if (sql->text == NULL)
        return;
    FUZZ_CHECK(strstr(sql->text, "xyzzy") == NULL, "a value is in a statement: %s", sql->text);
    FUZZ_CHECK(sql->parameters.count >= 0 && sql->parameters.count <= QUERY_PARAMETER_MAX,
               "%d parameters", sql->parameters.count);
    for (int i = 0; i < sql->parameters.count; i++)
        FUZZ_CHECK(sql->parameters.values[i] == NULL || sql->parameters.formats[i] == 1 ||
                       sql->parameters.types[i] == PG_OID_INT8_ARRAY,
                   "parameter %d", i);
}

static void check_plan(const struct query_plan *plan, const struct catalog_version *version,
                       const struct query_request *request, struct arena *arena)
{
    struct query_partition partitions[] = {{"t", 1, 5, 9}, {"t", 3, 0, 2}};
    const struct query_receipt known = {
        .run = 7, .partitions = partitions, .partition_count = 2, .mark = {.snapshot = "1:1:"}};
    struct query_sql batch;
    struct query_sql speed;
    struct query_sql both;
    bool is_short = false;
    struct error error;
    enum status status =
        query_make_statements(plan, version, request->layer, arena, &batch, &speed, &error);
    FUZZ_CHECK(status == STATUS_OK, "%s", error.text);
    struct query_request asked = *request;
    asked.known = &known;
    status = query_make_known_statement(plan, version, &asked, arena, &both, &is_short, &error);
    FUZZ_CHECK(status == STATUS_OK, "%s", error.text);
    FUZZ_CHECK(batch.text != NULL || speed.text != NULL, "no statement");
    check_statement(&batch);
    check_statement(&speed);
    check_statement(&both);
    FUZZ_CHECK(request->limit >= 0, "a negative limit");
}

/* --- cursors --- */

/* Some row that an answer to this plan could end with. */
static void make_row(const struct query_plan *plan, struct fuzz_input *input, struct arena *arena,
                     struct query_row *row)
{
    for (size_t i = 0; i < plan->shape.key_count; i++)
        row->keys[i] = fuzz_value(input, plan->shape.keys[i].type, arena);
    for (size_t i = 0; i < plan->shape.measure_count; i++) {
        row->results[i] = fuzz_value(input, plan->shape.measures[i].measure->result_type, arena);
        row->wide_texts[i] = NULL;
    }
    /* In a year from -998 to 9999: windows are up to 1,000 years long. */
    row->window_start_us = TIMESTAMP_MIN_US - 365000 * TIMESTAMP_US_PER_DAY +
                           (int64_t)(fuzz_number(input, 8) % UINT64_C(347073897600000000));
    row->window_end_us = row->window_start_us + 1 + (int64_t)fuzz_number(input, 4);
}

static void check_place(const struct query_plan *plan, const struct query_row *row)
{
    FUZZ_CHECK(plan->has_after && plan->after.window_start_us == row->window_start_us &&
                   plan->after.window_end_us == row->window_end_us,
               "the cursor leads to another window");
    for (size_t i = 0; i < plan->shape.key_count; i++)
        FUZZ_CHECK(value_compare(&plan->after.keys[i], &row->keys[i]) == 0,
                   "the cursor leads to another %s", plan->shape.keys[i].name);
    FUZZ_CHECK(query_compare_rows(plan, &plan->after, row) == 0, "the cursor leads elsewhere");
}

static void check_cursor(const struct catalog_version *version, const struct query_plan *plan,
                         struct query_request *request, struct fuzz_input *input)
{
    struct query_answer answer = {.view = version->view};
    const struct query_reader reader = {
        .version = version, .request = request, .plan = plan, .answer = &answer};
    struct value keys[KEYS_MAX], results[RESULTS_MAX];
    const char *wide_texts[RESULTS_MAX], *cursor = NULL;
    struct query_row row = {.keys = keys, .results = results, .wide_texts = wide_texts};
    struct query_plan next;
    struct error error = {0};
    FUZZ_CHECK(plan->shape.key_count <= KEYS_MAX && plan->shape.measure_count <= RESULTS_MAX,
               "too many columns");
    arena_init(&answer.arena);
    make_row(plan, input, &answer.arena, &row);
    FUZZ_CHECK(query_cursor_write(&reader, &row, &cursor, &error) == STATUS_OK, "%s", error.text);
    if (cursor != NULL) { /* not too long for an address */
        request->cursor = cursor;
        FUZZ_CHECK(query_plan_make(version, request, &answer.arena, &next, &error) == STATUS_OK,
                   "its own cursor: %s", error.text);
        check_place(&next, &row);
        check_plan(&next, version, request, &answer.arena);
        char *changed = arena_copy(&answer.arena, cursor, strlen(cursor));
        for (size_t i = fuzz_below(input, 4); changed != NULL && i > 0; i--) {
            size_t at = fuzz_below(input, strlen(cursor));
            changed[at] = "AaZz09-_wIx"[fuzz_below(input, 11)];
        }
        request->cursor = changed;
        enum status status = query_plan_make(version, request, &answer.arena, &next, &error);
        if (status == STATUS_OK)
            check_plan(&next, version, request, &answer.arena);
        else
            check_refused(status, &error);
    }
    arena_deinit(&answer.arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct query_question question;
    static struct query_plan plan;
    struct fuzz_input input = {data, size};
    struct error error = {0};
    struct arena arena;
    const struct catalog_version *version = &versions[fuzz_below(&input, VIEWS)];
    char *text = fuzz_rest(&input);
    if (!fuzz_is_text(text, strlen(text))) { /* refused before */
        free(text);
        return 0;
    }
    arena_init(&arena);
    query_question_init(&question);
    question.request.row_limit = ROW_LIMIT;
    enum status status = take_pairs(&question, text, &error);
    if (status == STATUS_OK)
        status = query_plan_make(version, &question.request, &arena, &plan, &error);
    if (status == STATUS_OK) {
        check_plan(&plan, version, &question.request, &arena);
        if (question.request.cursor == NULL)
            check_cursor(version, &plan, &question.request, &input);
    } else {
        check_refused(status, &error);
    }
    query_question_deinit(&question);
    arena_deinit(&arena);
    free(text);
    return 0;
}
