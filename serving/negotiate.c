/* Content negotiation: see serving/negotiate.h. */
#include "serving/negotiate.h"

#include <string.h>
#include <strings.h>

/* One element of a list: "text/csv;q=0.5" has the name text/csv and the weight 500. */
struct element {
    const char *name;
    size_t length;
    int weight; /* thousandths */
};

static const char *skip(const char *at)
{
    return at + strspn(at, " \t");
}

/* "0", "0.75", "1.000"; -1 where it is none. */
static int read_weight(const char *at, size_t length)
{
    static const int units[] = {100, 10, 1};
    if (length == 0 || length > 5 || (at[0] != '0' && at[0] != '1'))
        return -1;
    int weight = (at[0] - '0') * 1000;
    for (size_t i = 1; i < length; i++) {
        bool good = i == 1 ? at[i] == '.' : at[i] >= '0' && at[i] <= '9';
        if (!good)
            return -1;
        weight += i == 1 ? 0 : (at[i] - '0') * units[i - 2];
    }
    return weight <= 1000 ? weight : -1;
}

/* The next element; false at the end. One with a weight that is none has weight -1. */
static bool next_element(const char **at, struct element *out)
{
    const char *begin = skip(*at + strspn(*at, ", \t"));
    if (*begin == '\0')
        return false;
    *out = (struct element){.name = begin, .length = strcspn(begin, ",; \t"), .weight = 1000};
    const char *end = begin + strcspn(begin, ",");
    for (const char *part = memchr(begin, ';', (size_t)(end - begin)); part != NULL;
         part = memchr(part, ';', (size_t)(end - part))) {
        part = skip(part + 1);
        if (strncasecmp(part, "q=", 2) == 0)
            out->weight = read_weight(part + 2, strcspn(part + 2, ",; \t"));
    }
    *at = end;
    return true;
}

/* How exactly a media range names a type: 0 not at all, 1 all types, 2 all of its kind, 3 itself.
 */
static int media_match(const struct element *range, const char *type)
{
    size_t kind = strcspn(type, "/");
    if (range->length == 3 && memcmp(range->name, "*/*", 3) == 0)
        return 1;
    if (range->length == kind + 2 && strncasecmp(range->name, type, kind + 1) == 0 &&
        range->name[kind + 1] == '*')
        return 2;
    return range->length == strlen(type) && strncasecmp(range->name, type, range->length) == 0 ? 3
                                                                                               : 0;
}

/* The weight of the range that names it most exactly. */
static int media_weight(const char *accept, const char *type)
{
    struct element range;
    int best = 0;
    int weight = 0;
    while (next_element(&accept, &range)) {
        int match = range.weight >= 0 ? media_match(&range, type) : 0;
        if (match > best) {
            best = match;
            weight = range.weight;
        }
    }
    return weight;
}

int negotiate_media(const char *accept, const char *const *offered, size_t count)
{
    int chosen = -1;
    int greatest = 0;
    if (accept == NULL || *skip(accept) == '\0')
        return 0;
    for (size_t i = 0; i < count; i++) {
        int weight = media_weight(accept, offered[i]);
        if (weight > greatest) {
            greatest = weight;
            chosen = (int)i;
        }
    }
    return chosen;
}

bool negotiate_gzip(const char *accept_encoding)
{
    struct element coding;
    int any = 0;
    if (accept_encoding == NULL)
        return false;
    while (next_element(&accept_encoding, &coding)) {
        if (coding.length == 4 && strncasecmp(coding.name, "gzip", 4) == 0)
            return coding.weight > 0;
        if (coding.length == 1 && coding.name[0] == '*')
            any = coding.weight;
    }
    return any > 0;
}

static const char *opaque(const char *etag)
{
    return strncmp(etag, "W/", 2) == 0 ? etag + 2 : etag;
}

bool negotiate_has_etag(const char *if_none_match, const char *etag)
{
    size_t wanted = strlen(opaque(etag));
    if (if_none_match == NULL)
        return false;
    for (const char *at = skip(if_none_match); *at != '\0';) {
        if (*at == '*')
            return true;
        at = opaque(at);
        const char *end = *at == '"' ? strchr(at + 1, '"') : NULL;
        if (end == NULL)
            return false;
        if ((size_t)(end + 1 - at) == wanted && memcmp(at, opaque(etag), wanted) == 0)
            return true;
        at = end + 1 + strspn(end + 1, ", \t");
    }
    return false;
}
