/* Bearer tokens: see serving/access.h.
 *
 * Invariants: a token is compared by its hash, with every configured one and in constant time, so
 * that neither its bytes nor its place in the list can be told from how long that takes; what does
 * not look like a token of `dovetail token new` is none, whatever its hash. A token that is refused
 * is in no message and no log. RFC 6750 says what is answered. */
#include "serving/access.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "serving/problem.h"

struct access_token {
    const struct config_token *config;
    struct query_filter *scope; /* config->row_count */
};

struct access {
    size_t count;
    struct access_token tokens[];
};

enum status access_create(const struct config *config, struct access **out, struct error *error)
{
    size_t count = config->serving_token_count;
    struct access *access = calloc(1, sizeof *access + count * sizeof access->tokens[0]);
    *out = access;
    if (access == NULL)
        return error_no_memory(error);
    access->count = count;
    for (size_t i = 0; i < count; i++) {
        const struct config_token *token = &config->serving_tokens[i];
        struct query_filter *scope = calloc(token->row_count + 1, sizeof *scope);
        access->tokens[i] = (struct access_token){.config = token, .scope = scope};
        if (scope == NULL) {
            access_destroy(access);
            *out = NULL;
            return error_no_memory(error);
        }
        for (size_t r = 0; r < token->row_count; r++)
            scope[r] = (struct query_filter){.key = token->rows[r].key,
                                             .kind = QUERY_IN,
                                             .texts = token->rows[r].values,
                                             .text_count = token->rows[r].value_count};
    }
    return STATUS_OK;
}

void access_destroy(struct access *access)
{
    if (access == NULL)
        return;
    for (size_t i = 0; i < access->count; i++)
        free(access->tokens[i].scope);
    free(access);
}

/* --- who --- */

/* The token of "Bearer TOKEN", or NULL. */
static const char *bearer_token(const char *header)
{
    static const char scheme[] = "Bearer ";
    if (header == NULL || strncasecmp(header, scheme, strlen(scheme)) != 0)
        return NULL;
    const char *token = header + strlen(scheme);
    return token + strspn(token, " ");
}

static bool looks_like_token(const char *text)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    return strlen(text) == TOKEN_LENGTH && strncmp(text, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) == 0 &&
           text[strspn(text, alphabet)] == '\0';
}

static const struct access_token *find_token(const struct access *access, const char *text)
{
    unsigned char hash[TOKEN_HASH_BYTES];
    const struct access_token *found = NULL;
    if (!looks_like_token(text) ||
        EVP_Digest(text, strlen(text), hash, NULL, EVP_sha256(), NULL) != 1)
        return NULL;
    for (size_t i = 0; i < access->count; i++)
        if (CRYPTO_memcmp(hash, access->tokens[i].config->sha256, sizeof hash) == 0)
            found = &access->tokens[i];
    return found;
}

static void respond_unknown(struct http_response *response, bool has_token)
{
    problem_respond(response, 401, NULL, "%s",
                    has_token ? "the token is not known here"
                              : "a token is needed: Authorization: Bearer TOKEN");
    respond_header(response, "WWW-Authenticate",
                   has_token ? "Bearer realm=\"dovetail\", error=\"invalid_token\""
                             : "Bearer realm=\"dovetail\"");
}

void access_refuse(struct http_response *response, const char *detail)
{
    problem_respond(response, 403, NULL, "%s", detail);
    respond_header(response, "WWW-Authenticate",
                   "Bearer realm=\"dovetail\", error=\"insufficient_scope\"");
}

bool access_check(const struct access *access, enum access_need need, struct http_request *request,
                  struct http_response *response)
{
    request->caller = NULL;
    if (access->count == 0 || need == ACCESS_OPEN)
        return true;
    const char *text = bearer_token(http_request_header(request, "Authorization"));
    const struct access_token *token = text != NULL ? find_token(access, text) : NULL;
    if (token == NULL) {
        respond_unknown(response, text != NULL);
        return false;
    }
    if (need == ACCESS_ADMIN && !token->config->is_admin) {
        access_refuse(response, "the token has not the role \"admin\"");
        return false;
    }
    request->caller = token;
    return true;
}

/* --- what --- */

bool access_has_view(const struct access_token *caller, const char *view)
{
    if (caller == NULL || caller->config->all_views)
        return true;
    for (size_t i = 0; i < caller->config->view_count; i++)
        if (strcmp(caller->config->views[i], view) == 0)
            return true;
    return false;
}

static bool has_key(const struct view *view, const char *name)
{
    for (size_t i = 0; i < view->key_count + view->looked_up_count; i++)
        if (strcmp(view->keys[i].name, name) == 0)
            return true;
    return false;
}

bool access_fits_view(const struct access_token *caller, const struct view *view)
{
    bool fits = access_has_view(caller, view->name);
    for (size_t i = 0; fits && caller != NULL && i < caller->config->row_count; i++)
        fits = has_key(view, caller->config->rows[i].key);
    return fits;
}

bool access_has_rows(const struct access_token *caller)
{
    return caller != NULL && caller->config->row_count > 0;
}

void access_refuse_view(struct http_response *response)
{
    access_refuse(response, "the token does not cover this view");
}

bool access_may_write(const struct access_token *caller, const char *source)
{
    if (caller->config->all_sources)
        return true;
    for (size_t i = 0; i < caller->config->source_count; i++)
        if (strcmp(caller->config->sources[i], source) == 0)
            return true;
    return false;
}

const char *access_name(const struct access_token *caller)
{
    return caller != NULL ? caller->config->name : "";
}

void access_restrict(const struct access_token *caller, struct query_request *request)
{
    if (caller == NULL)
        return;
    request->scope = caller->scope;
    request->scope_count = caller->config->row_count;
}
