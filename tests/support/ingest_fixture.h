/* A deployment with one source and one view whose serving process takes events; for the tests of
 * the ingest door. Include it once, in a test program. */
#ifndef DOVETAIL_TESTS_SUPPORT_INGEST_FIXTURE_H
#define DOVETAIL_TESTS_SUPPORT_INGEST_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/broker.h"
#include "tests/support/deployment.h"
#include "tests/support/http.h"
#include "tests/support/stack.h"

#define DOOR "/v1/sources/orders/events"
#define JSON "Content-Type: application/json"
#define LINES "Content-Type: application/x-ndjson"

static struct deployment *deployment;
static struct http_session *session;

static const char orders_json[] =
    "{\"source\": \"orders\", \"partitions\": 3,"
    " \"event_time\": {\"field\": \"at\", \"format\": \"rfc3339\"},"
    " \"fields\": {\"at\": \"timestamp\", \"shop\": \"string\", \"amount\": \"decimal\","
    "  \"count\": {\"type\": \"integer\", \"path\": \"detail.count\", \"nullable\": true}}}";

static const char sales_json[] =
    "{\"view\": \"sales\", \"source\": \"orders\", \"group_by\": [\"shop\"],"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"},"
    " \"measures\": {\"n\": \"count(*)\", \"total\": \"sum(amount)\"}}";

/* An order as a JSON text; good until four calls later. */
static inline const char *order(const char *shop, const char *amount)
{
    static char texts[4][256];
    static unsigned next;
    char *text = texts[next++ % 4];
    snprintf(text, sizeof texts[0],
             "{\"at\":\"2026-01-05T10:20:00Z\",\"shop\":\"%s\",\"amount\":%s}", shop, amount);
    return text;
}

/* Sends a body and takes the reply as JSON, whose status must be `status`; the caller releases. */
static inline json_t *post_with(const char *target, const char *const *headers, const void *body,
                                size_t length, int status)
{
    struct http_reply reply;
    http_post(session, target, headers, body, length, &reply);
    json_t *json = http_reply_json(&reply);
    if (reply.status != status || json == NULL) {
        children_show();
        fail_msg("%s with %.200s: %d %s %s", target, (const char *)body, reply.status,
                 reply.problem, reply.body);
    }
    bool is_problem = status >= 400;
    if (strcmp(reply.content_type, is_problem ? "application/problem+json" : "application/json") !=
        0)
        fail_msg("%s: %s", target, reply.content_type);
    http_reply_free(&reply);
    return json;
}

static inline json_t *post(const char *target, const char *type, const char *body, int status)
{
    const char *const headers[] = {type, NULL};
    return post_with(target, headers, body, strlen(body), status);
}

static inline void assert_number(const json_t *json, const char *name, int64_t expected)
{
    const json_t *value = json_object_get(json, name);
    if (!json_is_integer(value) || json_integer_value(value) != expected) {
        char *text = json_dumps(json, JSON_COMPACT);
        fail_msg("%s is not %lld in %s", name, (long long)expected, text);
    }
}

/* A problem whose detail has `words`, with that parameter (NULL: none). */
static inline void assert_problem(json_t *problem, const char *parameter, const char *words)
{
    const char *its = json_string_value(json_object_get(problem, "parameter"));
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    if (detail == NULL || strstr(detail, words) == NULL ||
        strcmp(its != NULL ? its : "", parameter != NULL ? parameter : "") != 0)
        fail_msg("%s: %s", its, detail);
    json_decref(problem);
}

/* Records of the topic now. */
static inline int64_t topic_size(void)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < 3; i++)
        sum += broker_end(deployment_topic(deployment, "orders"), i);
    return sum;
}

static inline void serve_anew(void)
{
    http_session_destroy(session);
    if (deployment->serving != NULL && child_is_running(deployment->serving))
        child_stop(deployment->serving);
    deployment_serve(deployment);
    session = http_session_create(deployment->port);
    assert_non_null(session);
}

static inline int ingest_set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_define_source(deployment, orders_json);
    deployment_define_view(deployment, sales_json);
    deployment_set(deployment, "serving", "ingest", json_true());
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    serve_anew();
    return 0;
}

static inline int ingest_tear_down(void **state)
{
    (void)state;
    http_session_destroy(session);
    session = NULL;
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

#endif
