/* The address of a request, taken apart: see core/http/address.h.
 *
 * It is decoded here, from the raw text, because libmicrohttpd accepts broken escapes and cuts
 * values at %00. */
#include "core/http/address.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/base/utf8.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes in place; false where an escape is broken or the result is no text. */
static bool decode(char *text, bool plus_is_space)
{
    char *out = text;
    for (const char *in = text; *in != '\0'; in++) {
        char c = *in;
        if (c == '+' && plus_is_space) {
            c = ' ';
        } else if (c == '%') {
            int high = hex_digit(in[1]);
            int low = high < 0 ? -1 : hex_digit(in[2]);
            if (low < 0 || (high == 0 && low == 0))
                return false;
            c = (char)(high * 16 + low);
            in += 2;
        }
        *out++ = c;
    }
    *out = '\0';
    return utf8_is_text(text, (size_t)(out - text));
}

/* The first fault is the one that is told. */
static void set_fault(struct http_request *request, int status, const char *parameter,
                      const char *detail)
{
    if (request->fault.status != 0)
        return;
    request->fault.status = status;
    request->fault.detail = detail;
    snprintf(request->fault.parameter, sizeof request->fault.parameter, "%s", parameter);
    /* A name may be anything, and may have been cut within a character. */
    for (char *c = request->fault.parameter; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7E)
            *c = '?';
}

static void parse_path(struct http_request *request, char *path)
{
    char *rest = path;
    for (char *segment; (segment = strsep(&rest, "/")) != NULL;) {
        if (request->segment_count == 0 && segment == path)
            continue; /* what is before the first '/' */
        if (segment[0] == '\0' && rest == NULL)
            break; /* behind a trailing '/' */
        if (request->segment_count >= HTTP_SEGMENT_MAX) {
            request->segment_count = HTTP_SEGMENT_MAX + 1;
            return;
        }
        if (!decode(segment, false))
            set_fault(request, 400, "", "the path is not valid percent-encoded UTF-8");
        request->segments[request->segment_count++] = segment;
    }
}

static void add_parameter(struct http_request *request, char *name, char *value)
{
    if (!decode(name, true))
        set_fault(request, 400, name,
                  "the parameter's name is not valid percent-encoded UTF-8 without U+0000");
    if (!decode(value, true))
        set_fault(request, 400, name,
                  "the value is not valid percent-encoded UTF-8 without U+0000");
    for (size_t i = 0; i < request->parameter_count; i++)
        if (strcmp(request->parameters[i].name, name) == 0)
            set_fault(request, 400, name, "the parameter occurs twice");
    if (request->parameter_count == HTTP_PARAMETER_MAX) {
        set_fault(request, 400, name, "there are more than 64 parameters");
        return;
    }
    request->parameters[request->parameter_count++] =
        (struct http_parameter){.name = name, .value = value};
}

static void parse_query(struct http_request *request, char *query)
{
    static char empty[1];
    for (char *pair; (pair = strsep(&query, "&")) != NULL;) {
        if (pair[0] == '\0')
            continue;
        char *value = strchr(pair, '=');
        if (value != NULL)
            *value++ = '\0';
        add_parameter(request, pair, value != NULL ? value : empty);
    }
}

void http_address_parse(struct http_request *request, char *uri)
{
    if (strlen(uri) > HTTP_URI_MAX_BYTES) {
        set_fault(request, 414, "", "the address is longer than 8,192 bytes");
        return;
    }
    char *fragment = strchr(uri, '#');
    if (fragment != NULL)
        *fragment = '\0';
    char *query = strchr(uri, '?');
    if (query != NULL)
        *query++ = '\0';
    if (uri[0] != '/') /* "http://host/path" or "*" */
        set_fault(request, 400, "", "the request target has to begin with '/'");
    parse_path(request, uri);
    if (query != NULL)
        parse_query(request, query);
}

const char *http_request_parameter(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->parameter_count; i++)
        if (strcmp(request->parameters[i].name, name) == 0)
            return request->parameters[i].value;
    return NULL;
}
