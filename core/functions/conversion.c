/* Casts. Any thread.
 *
 * Texts are read as PostgreSQL 15's input functions read them, white space around them included.
 * What they read and a decimal or a timestamp of ours cannot hold (NaN, infinities, more than 38
 * digits, times that are not in ISO's form) is refused without an SQLSTATE, as a limit of ours. */
#include "core/functions/conversion.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/numbers/decimal_functions.h"
#include "core/functions/time_text.h"
#include "core/time/timestamp.h"

enum { SHOWN_BYTES = 60 }; /* of a bad text, in errors */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A text between its first and its last character that is not white space. */
struct text {
    const char *at;
    const char *end;
};

static struct text trimmed(const struct value *string)
{
    struct text text = {string->string.data, string->string.data + string->string.length};
    while (text.at < text.end && is_space(*text.at)) {
        text.at++;
    }
    while (text.at < text.end && is_space(text.end[-1])) {
        text.end--;
    }
    return text;
}

static enum status bad_text(const struct value *string, const char *type, struct evaluation *in)
{
    const char *data = string->string.data;
    size_t shown = string->string.length > SHOWN_BYTES ? SHOWN_BYTES : string->string.length;
    while (shown > 0 && shown < string->string.length &&
           ((unsigned char)data[shown] & 0xC0) == 0x80) {
        shown--;
    }
    return expression_fail(in, "22P02", "invalid input for type %s: \"%.*s\"", type, (int)shown,
                           shown == 0 ? "" : data);
}

/* --- from strings --- */

static enum status out_of_range(const char *type, struct evaluation *in)
{
    return expression_fail(in, "22003", "value out of range for type %s", type);
}

/* PostgreSQL counts downwards: it tells a number below `low` before it sees what follows the
 * digits, and one above `high`, which is -low - 1, after that. */
static enum status read_integer(const struct value *string, int64_t low, const char *type,
                                struct evaluation *in, struct value *out)
{
    struct text text = trimmed(string);
    int64_t number = 0;

    bool negative = text.at < text.end && *text.at == '-';
    if (text.at < text.end && (*text.at == '-' || *text.at == '+')) {
        text.at++;
    }
    const char *digits = text.at;
    for (; text.at < text.end && is_digit(*text.at); text.at++) {
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_sub_overflow(number, *text.at - '0', &number) || number < low) {
            return out_of_range(type, in);
        }
    }
    if (text.at == digits || text.at != text.end) {
        return bad_text(string, type, in);
    }
    if (!negative && number == low) {
        return out_of_range(type, in);
    }
    *out = value_integer(negative ? number : -number);
    return STATUS_OK;
}

static enum status string_to_integer(const struct expression *node, const struct value *arguments,
                                     struct evaluation *in, struct value *out)
{
    (void)node;
    return read_integer(&arguments[0], INT64_MIN, "bigint", in, out);
}

static enum status string_to_int4(const struct expression *node, const struct value *arguments,
                                  struct evaluation *in, struct value *out)
{
    (void)node;
    return read_integer(&arguments[0], INT32_MIN, "integer", in, out);
}

static const char *skip_digits(const char *at, const char *end)
{
    while (at < end && is_digit(*at)) {
        at++;
    }
    return at;
}

/* Whether PostgreSQL refuses the exponent as soon as it has read it. */
static bool exponent_is_absurd(const char *digits, const char *end)
{
    int64_t value = 0;
    for (; digits < end && value < INT32_MAX / 2; digits++) {
        value = value * 10 + (*digits - '0');
    }
    return value >= INT32_MAX / 2;
}

/* SQL's number in JSON's grammar, for decimal_parse: its length in *length. `out` has room for
 * three characters more than the text. */
static enum decimal_status normalize_number(struct text text, char *out, size_t *length)
{
    char *start = out;

    if (text.at < text.end && (*text.at == '-' || *text.at == '+')) {
        if (*text.at++ == '-') {
            *out++ = '-';
        }
    }
    const char *whole = text.at, *whole_end = skip_digits(whole, text.end);
    bool has_point = whole_end < text.end && *whole_end == '.';
    const char *fraction = whole_end + has_point, *end = skip_digits(fraction, text.end);
    if (whole == whole_end && fraction == end) {
        return DECIMAL_SYNTAX;
    }
    while (whole < whole_end && *whole == '0') {
        whole++;
    }
    *out++ = '0';
    if (whole < whole_end) {
        out--;
        memcpy(out, whole, (size_t)(whole_end - whole));
        out += whole_end - whole;
    }
    if (fraction < end) {
        *out++ = '.';
        memcpy(out, fraction, (size_t)(end - fraction));
        out += end - fraction;
    }
    if (end < text.end && (*end == 'e' || *end == 'E')) {
        *out++ = 'e';
        for (end++; end < text.end && is_space(*end);) {
            end++; /* strtol of PostgreSQL's skips it */
        }
        if (end < text.end && (*end == '-' || *end == '+')) {
            *out++ = *end++;
        }
        const char *exponent = end;
        end = skip_digits(end, text.end);
        memcpy(out, exponent, (size_t)(end - exponent));
        out += end - exponent;
        if (exponent == end) {
            return DECIMAL_SYNTAX;
        }
        if (exponent_is_absurd(exponent, end)) {
            return DECIMAL_OVERFLOW;
        }
    }
    *length = (size_t)(out - start);
    return end == text.end ? DECIMAL_OK : DECIMAL_SYNTAX;
}

static bool is_word(struct text text, const char *word)
{
    size_t length = strlen(word);
    return (size_t)(text.end - text.at) == length && strncasecmp(text.at, word, length) == 0;
}

static bool is_special_number(struct text text)
{
    if (is_word(text, "nan")) {
        return true;
    }
    text.at += text.at < text.end && (*text.at == '-' || *text.at == '+');
    return is_word(text, "inf") || is_word(text, "infinity");
}

static enum status string_to_decimal(const struct expression *node, const struct value *arguments,
                                     struct evaluation *in, struct value *out)
{
    struct text text = trimmed(&arguments[0]);
    struct decimal decimal;

    (void)node;
    if (is_special_number(text)) {
        return expression_fail(in, "", "decimal out of range: NaN and infinity are not supported");
    }
    char *number = arena_alloc(in->scratch, (size_t)(text.end - text.at) + 4);
    if (number == NULL) {
        return error_no_memory(in->error);
    }
    size_t length;
    enum decimal_status status = normalize_number(text, number, &length);
    status = status == DECIMAL_OK ? decimal_parse(number, length, &decimal) : status;
    if (status == DECIMAL_SYNTAX) {
        return bad_text(&arguments[0], "numeric", in);
    }
    if (status != DECIMAL_OK) {
        return expression_fail_decimal(in, status);
    }
    *out = value_decimal(decimal);
    return STATUS_OK;
}

/* Beginnings of true, false, yes, no, on, off that say which, and 1 and 0. */
static enum status string_to_boolean(const struct expression *node, const struct value *arguments,
                                     struct evaluation *in, struct value *out)
{
    static const struct {
        const char *word;
        size_t least;
        bool value;
    } words[] = {{"true", 1, true}, {"false", 1, false}, {"yes", 1, true}, {"no", 1, false},
                 {"on", 2, true},   {"off", 2, false},   {"1", 1, true},   {"0", 1, false}};
    struct text text = trimmed(&arguments[0]);
    size_t length = (size_t)(text.end - text.at);

    (void)node;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (length >= words[i].least && length <= strlen(words[i].word) &&
            strncasecmp(text.at, words[i].word, length) == 0) {
            *out = value_boolean(words[i].value);
            return STATUS_OK;
        }
    }
    return bad_text(&arguments[0], "boolean", in);
}

static enum status string_to_timestamp(const struct expression *node, const struct value *arguments,
                                       struct evaluation *in, struct value *out)
{
    struct text text = trimmed(&arguments[0]);
    int64_t us;

    (void)node;
    switch (time_text_parse(text.at, (size_t)(text.end - text.at), &us)) {
    case TIME_TEXT_OK:
        *out = value_timestamp(us);
        return STATUS_OK;
    case TIME_TEXT_NO_SUCH_TIME:
        return expression_fail(in, "22008", "there is no such time");
    case TIME_TEXT_NO_SUCH_OFFSET:
        return expression_fail(in, "22009", "there is no such offset from UTC");
    case TIME_TEXT_OUT_OF_RANGE:
        return expression_fail(in, "", "timestamp out of range: years 0001 to 9999");
    case TIME_TEXT_UNKNOWN_FORM:
        break;
    }
    return expression_fail(in, "",
                           "the text is not a time such as 2001-01-01 or "
                           "2001-01-01T00:00:00Z");
}

/* --- to strings --- */

enum status conversion_text(const struct value *value, struct evaluation *in, struct value *out)
{
    char buffer[64], *data;
    size_t length = 0;

    switch (value->type) {
    case VALUE_STRING:
        *out = *value;
        return STATUS_OK;
    case VALUE_INTEGER:
        length = decimal_int128_format(value->integer, buffer, sizeof buffer);
        break;
    case VALUE_DECIMAL:
        length = decimal_format(&value->decimal, buffer, sizeof buffer);
        break;
    case VALUE_BOOLEAN:
        length = (size_t)sprintf(buffer, "%s", value->boolean ? "true" : "false");
        break;
    case VALUE_TIMESTAMP: /* 2001-01-01T00:00:00Z: PostgreSQL has a space, and +00 */
        length = timestamp_format(value->timestamp_us, buffer, sizeof buffer - 2);
        buffer[10] = ' ';
        memcpy(buffer + length - 1, "+00", 4);
        length += 2;
        break;
    case VALUE_INTEGERS:
        break;
    }
    enum status status = function_new_string(in, length, &data, out);
    if (status == STATUS_OK) {
        memcpy(data, buffer, length);
    }
    return status;
}

static enum status to_string(const struct expression *node, const struct value *arguments,
                             struct evaluation *in, struct value *out)
{
    (void)node;
    return conversion_text(&arguments[0], in, out);
}

/* --- between numbers and booleans --- */

static enum status unchanged(const struct expression *node, const struct value *arguments,
                             struct evaluation *in, struct value *out)
{
    (void)node, (void)in;
    *out = arguments[0];
    return STATUS_OK;
}

static enum status integer_to_int4(const struct expression *node, const struct value *arguments,
                                   struct evaluation *in, struct value *out)
{
    (void)node;
    if (arguments[0].integer != (int32_t)arguments[0].integer) {
        return expression_fail_integer(in);
    }
    *out = arguments[0];
    return STATUS_OK;
}

static enum status integer_to_decimal(const struct expression *node, const struct value *arguments,
                                      struct evaluation *in, struct value *out)
{
    (void)node, (void)in;
    *out = value_decimal(decimal_from_int64(arguments[0].integer));
    return STATUS_OK;
}

/* Rounds, as PostgreSQL does. */
static enum status decimal_to_integer(const struct expression *node, const struct value *arguments,
                                      struct evaluation *in, struct value *out)
{
    struct decimal whole;
    int64_t integer;

    if (decimal_round(&arguments[0].decimal, 0, &whole) != DECIMAL_OK ||
        !decimal_to_int64(&whole, &integer) || (node->is_int4 && integer != (int32_t)integer)) {
        return expression_fail_integer(in);
    }
    *out = value_integer(integer);
    return STATUS_OK;
}

static enum status to_precision(const struct expression *node, const struct value *arguments,
                                struct evaluation *in, struct value *out)
{
    int32_t whole_digits = node->numeric.precision - node->numeric.scale;
    struct decimal rounded,
        limit = {.coefficient = 1, .scale = whole_digits < 0 ? -whole_digits : 0};

    for (int32_t i = 0; i < whole_digits; i++) {
        limit.coefficient *= 10;
    }
    bool fits = decimal_round(&arguments[0].decimal, node->numeric.scale, &rounded) == DECIMAL_OK;
    struct decimal magnitude = fits ? decimal_absolute(&rounded) : limit;
    if (decimal_compare(&magnitude, &limit) >= 0) {
        return expression_fail(in, "22003", "numeric field overflow");
    }
    *out = value_decimal(rounded);
    return STATUS_OK;
}

const struct function conversion_to_precision = {"numeric", "d", 'd', .evaluate = to_precision};

static enum status boolean_to_int4(const struct expression *node, const struct value *arguments,
                                   struct evaluation *in, struct value *out)
{
    (void)node, (void)in;
    *out = value_integer(arguments[0].boolean ? 1 : 0);
    return STATUS_OK;
}

static enum status int4_to_boolean(const struct expression *node, const struct value *arguments,
                                   struct evaluation *in, struct value *out)
{
    (void)node, (void)in;
    *out = value_boolean(arguments[0].integer != 0);
    return STATUS_OK;
}

static const struct function casts[] = {
    {"cast", "s", 'i', .evaluate = string_to_integer},
    {"cast", "s", 'j', .evaluate = string_to_int4},
    {"cast", "s", 'd', .evaluate = string_to_decimal},
    {"cast", "s", 'b', .evaluate = string_to_boolean},
    {"cast", "s", 't', .evaluate = string_to_timestamp},
    {"cast", "s", 's', .evaluate = unchanged},
    {"cast", "i", 's', .evaluate = to_string},
    {"cast", "j", 's', .evaluate = to_string},
    {"cast", "d", 's', .evaluate = to_string},
    {"cast", "b", 's', .evaluate = to_string},
    {"cast", "t", 's', .evaluate = to_string},
    {"cast", "i", 'i', .evaluate = unchanged},
    {"cast", "j", 'j', .evaluate = unchanged},
    {"cast", "j", 'i', .evaluate = unchanged},
    {"cast", "i", 'j', .evaluate = integer_to_int4},
    {"cast", "i", 'd', .evaluate = integer_to_decimal},
    {"cast", "j", 'd', .evaluate = integer_to_decimal},
    {"cast", "d", 'i', .evaluate = decimal_to_integer},
    {"cast", "d", 'j', .evaluate = decimal_to_integer},
    {"cast", "d", 'd', .evaluate = unchanged},
    {"cast", "b", 'j', .evaluate = boolean_to_int4},
    {"cast", "j", 'b', .evaluate = int4_to_boolean},
    {"cast", "b", 'b', .evaluate = unchanged},
    {"cast", "t", 't', .evaluate = unchanged},
};

const struct function *conversion_find(char from, char to)
{
    for (size_t i = 0; i < sizeof casts / sizeof casts[0]; i++) {
        if (casts[i].arguments[0] == from && casts[i].result == to) {
            return &casts[i];
        }
    }
    return NULL;
}
