/* GET /v1/views and /v1/views/{view}: what can be queried. The catalogue is compared with the
 * database's first, so a view that was registered a moment ago is listed. Each caller sees his own
 * alone. */
#include <jansson.h>
#include <string.h>

#include "serving/problem.h"
#include "serving/server.h"

static json_t *describe_column(const char *name, enum value_type type, const char *expression)
{
    return json_pack("{s:s, s:s, s:s}", "name", name, "type", value_type_name(type), "expression",
                     expression);
}

static json_t *describe_keys(const struct view *view)
{
    json_t *keys = json_array();
    for (size_t i = 0; i < view->key_count; i++)
        json_array_append_new(keys, describe_column(view->keys[i].name,
                                                    expression_type(view->keys[i].expression),
                                                    view->keys[i].text));
    return keys;
}

static json_t *describe_lookups(const struct view *view)
{
    json_t *lookups = json_array();
    for (size_t i = 0; i < view->looked_up_count; i++) {
        const struct view_key *column = &view->keys[view->key_count + i];
        json_array_append_new(lookups, json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", column->name,
                                                 "type", value_type_name(column->type), "key",
                                                 view->keys[column->lookup->key].name, "table",
                                                 column->lookup->shown, "column", column->column));
    }
    return lookups;
}

static json_t *describe_measures(const struct view *view)
{
    json_t *measures = json_array();
    for (size_t i = 0; i < view->measure_count; i++)
        json_array_append_new(measures, describe_column(view->measures[i].name,
                                                        view->measures[i].measure->result_type,
                                                        view->measures[i].text));
    return measures;
}

/* The member of a view's definition as it was given; null where there is none. A copy: the
 * catalogue is shared by all threads, and counting references to it would be writing. */
static json_t *given(const struct view *view, const char *member)
{
    json_t *json = json_object_get(view->json, member);
    return json != NULL ? json_deep_copy(json) : json_null();
}

static json_t *describe(const struct catalogue *catalogue, const struct catalog_version *version)
{
    const struct view *view = version->view;
    bool current = version->state == CATALOG_CURRENT;
    char self[128];
    char rows[128];
    snprintf(self, sizeof self, "/v1/views/%s", view->name);
    snprintf(rows, sizeof rows, "/v1/views/%s/rows", view->name);
    return json_pack(
        "{s:s, s:o, s:s, s:s, s:i, s:s, s:b, s:I, s:o, s:o, s:o, s:o, s:o, s:{s:s, s:s}}", "view",
        view->name,                                                 /* s:s */
        "description", given(view, "description"),                  /* s:o */
        "source", view->source->name, "topic", view->source->topic, /* s:s s:s */
        "version", version->version,                                /* s:i */
        "state", current ? "current" : "building",                  /* s:s */
        "readable", current && version->readable,                   /* s:b */
        "run", (json_int_t)catalogue->run,                          /* s:I */
        "where", given(view, "where"),                              /* s:o */
        "window", given(view, "window"),                            /* s:o */
        "keys", describe_keys(view),                                /* s:o */
        "lookups", describe_lookups(view),                          /* s:o */
        "measures", describe_measures(view),                        /* s:o */
        "links", "self", self, "rows", rows);                       /* s:{} */
}

/* The version that answers queries, else the one that is being built. Versions are sorted by view,
 * then version, and at most one of each state. */
static const struct catalog_version *shown_version(const struct catalog *catalog, size_t first,
                                                   size_t *next)
{
    const char *name = catalog->versions[first].view->name;
    const struct catalog_version *shown = &catalog->versions[first];
    size_t i = first;
    for (; i < catalog->version_count && strcmp(catalog->versions[i].view->name, name) == 0; i++)
        if (catalog->versions[i].state == CATALOG_CURRENT)
            shown = &catalog->versions[i];
    *next = i;
    return shown;
}

static void respond_json(struct http_response *response, json_t *json)
{
    char *body = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    respond_body(response, "application/json", body, body != NULL ? strlen(body) : 0);
    json_decref(json);
}

enum http_outcome handle_views(struct server *server, struct http_request *request,
                               struct http_response *response)
{
    struct postgres *postgres;
    struct catalogue *catalogue;
    if (!server_take_catalogue(server, &postgres, &catalogue, response))
        return HTTP_RESPOND;
    pool_give_back(server->pool, postgres);
    json_t *views = json_array();
    for (size_t i = 0; i < catalogue->catalog->version_count;) {
        const struct catalog_version *version = shown_version(catalogue->catalog, i, &i);
        if (access_fits_view(request->caller, version->view))
            json_array_append_new(views, describe(catalogue, version));
    }
    respond_json(response, json_pack("{s:o}", "views", views));
    catalogue_release(server->catalogues, catalogue);
    return HTTP_RESPOND;
}

enum http_outcome handle_view(struct server *server, struct http_request *request,
                              struct http_response *response)
{
    struct postgres *postgres;
    struct catalogue *catalogue;
    const struct catalog_version *found = NULL;
    if (!access_has_view(request->caller, request->segments[2])) {
        access_refuse_view(response);
        return HTTP_RESPOND;
    }
    if (!server_take_catalogue(server, &postgres, &catalogue, response))
        return HTTP_RESPOND;
    pool_give_back(server->pool, postgres);
    for (size_t i = 0; i < catalogue->catalog->version_count && found == NULL;) {
        const struct catalog_version *version = shown_version(catalogue->catalog, i, &i);
        if (strcmp(version->view->name, request->segments[2]) == 0)
            found = version;
    }
    if (found != NULL && !access_fits_view(request->caller, found->view))
        access_refuse_view(response);
    else if (found != NULL)
        respond_json(response, describe(catalogue, found));
    else
        catalogue_respond_no_version(catalogue, request->segments[2], request->caller, response);
    catalogue_release(server->catalogues, catalogue);
    return HTTP_RESPOND;
}
