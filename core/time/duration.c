/*
 * Durations from and to text. Both directions read one table of units. Pure; any thread.
 */
#include "core/time/duration.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct duration_unit {
    const char *name;
    int64_t us;
};

/* Largest first: formatting takes the first that divides. */
static const struct duration_unit units[] = {
    {"w", INT64_C(604800000000)}, {"d", INT64_C(86400000000)}, {"h", INT64_C(3600000000)},
    {"m", INT64_C(60000000)},     {"s", INT64_C(1000000)},     {"ms", INT64_C(1000)},
};
enum { UNIT_COUNT = sizeof(units) / sizeof(units[0]) };

static const struct duration_unit *find_unit(const char *name, size_t length)
{
    for (size_t i = 0; i < UNIT_COUNT; i++) {
        if (strlen(units[i].name) == length && memcmp(units[i].name, name, length) == 0) {
            return &units[i];
        }
    }
    return NULL;
}

enum duration_status duration_parse(const char *text, size_t length, int64_t *us)
{
    size_t digits = 0;
    int64_t count = 0;
    bool overflow = false;
    for (; digits < length && text[digits] >= '0' && text[digits] <= '9'; digits++) {
        overflow |= __builtin_mul_overflow(count, INT64_C(10), &count);
        overflow |= __builtin_add_overflow(count, (int64_t)(text[digits] - '0'), &count);
    }
    const struct duration_unit *unit = find_unit(text + digits, length - digits);
    if (digits == 0 || unit == NULL || (text[0] == '0' && digits > 1)) {
        return DURATION_SYNTAX;
    }
    int64_t result;
    if (overflow || count == 0 || __builtin_mul_overflow(count, unit->us, &result)) {
        return DURATION_RANGE;
    }
    *us = result;
    return DURATION_OK;
}

size_t duration_format(int64_t us, char *buffer, size_t size)
{
    assert(us >= 0);
    const char *name = "us";
    int64_t count = us;
    for (size_t i = 0; i < UNIT_COUNT; i++) {
        /* Zero is `0s`, not `0w`. */
        if (us % units[i].us == 0 && (us != 0 || units[i].us == 1000000)) {
            name = units[i].name;
            count = us / units[i].us;
            break;
        }
    }
    int length = snprintf(buffer, size, "%" PRId64 "%s", count, name);
    if (length < 0 || (size_t)length >= size) {
        if (size > 0) {
            buffer[0] = '\0';
        }
        return 0;
    }
    return (size_t)length;
}
