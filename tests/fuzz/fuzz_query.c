/* Queries: the parameters of GET /v1/views/{view}/rows are refused by name, or they make a plan
 * whose statements have nothing of them in their texts.
 *
 * Input: the view, then name=value pairs with & between them, as they are once decoded. */
#include "tests/fuzz/fuzz.h"

/* its parameters are taken apart by functions of its own */
#include "serving/handle_rows.c"

#include "core/query/query_plan.h"

enum { VIEWS = 6 };

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
static struct config config = {.serving_row_limit = 1000};
static struct server server = {.config = &config};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    source = fuzz_source(fuzz_source_json);
    for (size_t i = 0; i < VIEWS; i++)
        versions[i] = (struct catalog_version){
            .version = 7, .view = fuzz_view(view_texts[i], source), .source = source};
    return 0;
}

static void split(char *text, struct http_request *request)
{
    char *pair;
    while ((pair = strsep(&text, "&")) != NULL && request->parameter_count < HTTP_PARAMETER_MAX) {
        char *value = strchr(pair, '=');
        if (value != NULL)
            *value++ = '\0';
        request->parameters[request->parameter_count++] =
            (struct http_parameter){.name = pair, .value = value == NULL ? "" : value};
    }
}

/* Of two requests that differ in values only, the statements have one text. */
static void check_plan(const struct query_plan *plan)
{
    FUZZ_CHECK(plan->batch_sql != NULL || plan->speed_sql != NULL, "no statement");
    FUZZ_CHECK(plan->parameters.count >= 0 && plan->parameters.count < QUERY_PARAMETER_MAX,
               "%d parameters", plan->parameters.count);
    const char *const statements[] = {plan->batch_sql, plan->speed_sql};
    for (int i = 0; i < 2; i++)
        FUZZ_CHECK(statements[i] == NULL || strstr(statements[i], "xyzzy") == NULL,
                   "a value is in a statement: %s", statements[i]);
    for (int i = 0; i <= plan->parameters.count; i++)
        FUZZ_CHECK(plan->parameters.formats[i] == 1 && plan->parameters.values[i] != NULL,
                   "parameter %d", i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rows_request rows;
    static struct http_request request;
    struct fuzz_input input = {data, size};
    struct error error = {0};
    const struct catalog_version *version = &versions[fuzz_below(&input, VIEWS)];
    char *text = fuzz_rest(&input);
    request = (struct http_request){0};
    split(text, &request);
    rows_request_init(&rows, &server);
    enum status status = take_parameters(&rows, version->view, &request, &error);
    if (status == STATUS_OK) {
        struct query_plan plan;
        struct arena arena;
        arena_init(&arena);
        status = query_plan_make(version, &rows.query, &arena, &plan, &error);
        if (status == STATUS_OK)
            check_plan(&plan);
        arena_deinit(&arena);
    }
    if (status != STATUS_OK) {
        FUZZ_CHECK(status == STATUS_REJECT, "status %d: %s", (int)status, error.text);
        fuzz_check_refusal(status, &error);
        FUZZ_CHECK(strchr(error.text, ':') != NULL, "no parameter is named: %s", error.text);
    }
    rows_request_deinit(&rows);
    free(text);
    return 0;
}
