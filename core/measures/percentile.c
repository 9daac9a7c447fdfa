/* approx_percentile(x, q) and approx_percentile(x, q, error): the value below which the share q of
 * all values lies, with a relative error of at most 1 %, or `error`.
 *
 * DDSketch (Masson, Rim, Lee, VLDB 2019): counts of values in buckets whose bounds grow by a
 * constant factor. Which bucket a value is in must be the same on every machine, so no logarithm is
 * taken: bounds are linear between powers of two (the paper's fast variant). With b bits of
 * precision the bucket of a value with 2^e <= |x| < 2^(e+1) is
 *
 *   key = (e + 127) 2^b + floor((|x| / 2^e - 1) 2^b) + 1,   -key where x < 0,   0 where x = 0
 *
 * computed in integers: the leading b + 1 binary digits of |x|. e goes from -127 (10^-38) to 126
 * (10^38), so there are at most 508 * 2^b + 1 buckets: 32,513 at 1 %, where b is 6, and data
 * within a factor of a million takes 1,280.
 *
 * The result is what SQL's percentile_disc(q) finds (the value with rank ceil(q n), at least 1),
 * replaced by its bucket's representative: of integers, the middle of the bucket's integers,
 * rounded towards zero; of decimals, the middle of the bucket in six significant digits, half away
 * from zero. Both are within 2^-(b+1) + 6/10^6 of every value of the bucket, relative to it; b is
 * the least for which that is no more than the error asked for.
 *
 * State: struct sketch, counts by key. Monoid: addition of counts. Stored: an array with key and
 * count of each bucket that has a value, by key. */
#include <stdlib.h>
#include <string.h>

#include "core/measures/kinds.h"

enum {
    EXPONENT_MIN = -127,
    EXPONENT_MAX = 126,
    PRECISION_MAX = 13,
    SHARE_SCALE_MAX = 9, /* of q: so that q n fits 128 bits */
    BUCKETS_AT_FIRST = 4,
    DIGITS = 6, /* of a decimal representative */
};

struct bucket {
    int64_t key;
    int64_t count;
};

struct sketch {
    struct bucket *buckets; /* by key */
    size_t count;
    size_t capacity;
};

/* What bind leaves in the parameters: q, then the precision b. */
enum { SHARE, PRECISION };

static int precision_of(const struct measure *measure)
{
    return (int)measure->parameters[PRECISION].integer;
}

/* --- binding --- */

static struct decimal as_decimal(const struct value *value)
{
    return value->type == VALUE_INTEGER ? decimal_from_int64(value->integer)
                                        : decimal_trim(&value->decimal);
}

static bool is_number(const struct value *value)
{
    return !value->is_null && (value->type == VALUE_INTEGER || value->type == VALUE_DECIMAL);
}

static bool is_between(const struct decimal *low, const struct decimal *x,
                       const struct decimal *high)
{
    return decimal_compare(low, x) <= 0 && decimal_compare(x, high) <= 0;
}

/* The least b with 2^-(b+1) + 6/10^6 <= error. */
static int choose_precision(const struct decimal *error)
{
    int b = 1;

    for (; b < PRECISION_MAX; b++) {
        /* times 10^6 2^(b+1), which both are whole at */
        struct decimal bound = decimal_from_int64(1000000 + ((int64_t)6 << (b + 1)));
        struct decimal factor = decimal_from_int64((int64_t)1000000 << (b + 1)), scaled;
        if (decimal_multiply(error, &factor, &scaled) == DECIMAL_OK &&
            decimal_compare(&bound, &scaled) <= 0) {
            break;
        }
    }
    return b;
}

static enum status bind_parameters(struct measure *measure, struct error *error)
{
    static const struct decimal zero = {0}, one = {.coefficient = 1},
                                least = {.coefficient = 1, .scale = 4},
                                most = {.coefficient = 5, .scale = 1};
    struct value *parameters = measure->parameters;
    struct decimal relative_error = {.coefficient = 1, .scale = 2};

    if (!is_number(&parameters[SHARE])) {
        return error_set(error, STATUS_REJECT, "the share wants a number from 0 to 1");
    }
    struct decimal share = as_decimal(&parameters[SHARE]);
    if (!is_between(&zero, &share, &one) || share.scale > SHARE_SCALE_MAX) {
        return error_set(
            error, STATUS_REJECT,
            "the share is a number from 0 to 1 with at most %d digits behind the point",
            SHARE_SCALE_MAX);
    }
    if (measure->parameter_count == 2) {
        if (is_number(&parameters[PRECISION])) {
            relative_error = as_decimal(&parameters[PRECISION]);
        }
        if (!is_number(&parameters[PRECISION]) || relative_error.scale > 9 ||
            !is_between(&least, &relative_error, &most)) {
            return error_set(error, STATUS_REJECT,
                             "the relative error is a number from 0.0001 to 0.5 with at most 9 "
                             "digits behind the point");
        }
    }
    parameters[SHARE] = value_decimal(share);
    parameters[PRECISION] = value_integer(choose_precision(&relative_error));
    return STATUS_OK;
}

static enum status percentile_bind(struct measure *measure, struct error *error)
{
    char share[DECIMAL_TEXT_SIZE];

    if (measure->argument_count != 1 || measure->parameter_count < 1 ||
        measure->parameter_count > 2 || measure->has_array) {
        return error_set(error, STATUS_REJECT,
                         "wants a number, a share and perhaps a relative error");
    }
    if (measure->argument_type != VALUE_INTEGER && measure->argument_type != VALUE_DECIMAL) {
        return error_set(error, STATUS_REJECT, "wants an integer or decimal, found type %s",
                         value_type_name(measure->argument_type));
    }
    enum status status = bind_parameters(measure, error);
    if (status != STATUS_OK) {
        return status;
    }
    measure->result_type = measure->argument_type;
    measure->state_bytes = sizeof(struct sketch);
    measure->columns[0] = (struct measure_column){.oid = PG_OID_INT8_ARRAY, .sql_type = "bigint[]"};
    measure->column_count = 1;
    decimal_format(&measure->parameters[SHARE].decimal, share, sizeof share);
    const char *whole = measure->argument_type == VALUE_INTEGER ? "true" : "false";
    measure->sql_text = measure_text(
        measure, "dovetail_internal.sketch_percentile(array_agg({}::text), %s, %d, %s)", share,
        precision_of(measure), whole);
    measure->oracle_text = measure_text(
        measure, "pg_temp.verify_percentile(array_agg(({1}\n)::numeric) {filter}, %s, %d, %s)",
        share, precision_of(measure), whole);
    return measure->sql_text == NULL || measure->oracle_text == NULL ? error_no_memory(error)
                                                                     : STATUS_OK;
}

static void percentile_init(const struct measure *measure, void *state)
{
    (void)measure;
    *(struct sketch *)state = (struct sketch){0};
}

/* --- buckets --- */

static int bit_length(uint128 x)
{
    uint64_t high = (uint64_t)(x >> 64), low = (uint64_t)x;
    return high != 0 ? 128 - __builtin_clzll(high) : low != 0 ? 64 - __builtin_clzll(low) : 0;
}

/* The key of numerator / 10^scale, which is positive and below 10^38. */
static int64_t key_of(uint128 numerator, int32_t scale, int b)
{
    uint128 denominator = 1;
    int64_t part = 0;

    for (int32_t i = 0; i < scale; i++) {
        denominator *= 10;
    }
    /* Make the quotient lie in [1, 2). Both stay below 2^128: they have no more bits than the
     * longer of the two, whose bound is 10^38 < 2^127, and the last step adds one to the numerator.
     */
    int exponent = bit_length(numerator) - bit_length(denominator);
    if (exponent >= 0) {
        denominator <<= exponent;
    } else {
        numerator <<= -exponent;
    }
    if (numerator < denominator) {
        numerator <<= 1;
        exponent--;
    }
    /* b binary digits of the fraction. The rest is below the denominator, hence below 2^127. */
    uint128 rest = numerator - denominator;
    for (int i = 0; i < b; i++) {
        rest <<= 1;
        part = part * 2 + (rest >= denominator);
        rest -= rest >= denominator ? denominator : 0;
    }
    return ((int64_t)(exponent - EXPONENT_MIN) << b) + part + 1;
}

static int64_t bucket_of(const struct value *value, int b)
{
    int128 coefficient = value->type == VALUE_INTEGER ? value->integer : value->decimal.coefficient;
    int32_t scale = value->type == VALUE_INTEGER ? 0 : value->decimal.scale;

    if (coefficient == 0) {
        return 0;
    }
    return coefficient > 0 ? key_of((uint128)coefficient, scale, b)
                           : -key_of((uint128)-coefficient, scale, b);
}

/* A bucket's lower bound is (2^b + part) 2^(exponent - b); the upper one has part + 1. */
static void split_key(int64_t key, int b, int *exponent, int64_t *part)
{
    *exponent = (int)((key - 1) >> b) + EXPONENT_MIN;
    *part = (key - 1) & (((int64_t)1 << b) - 1);
}

static size_t find(const struct sketch *sketch, int64_t key)
{
    size_t low = 0, high = sketch->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (sketch->buckets[middle].key < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static enum status make_room(struct sketch *sketch, struct arena *arena, struct error *error)
{
    if (sketch->count < sketch->capacity) {
        return STATUS_OK;
    }
    size_t capacity = sketch->capacity == 0 ? BUCKETS_AT_FIRST : sketch->capacity * 2;
    struct bucket *buckets = arena_alloc(arena, capacity * sizeof *buckets);
    if (buckets == NULL) {
        return error_no_memory(error);
    }
    if (sketch->count > 0) {
        memcpy(buckets, sketch->buckets, sketch->count * sizeof *buckets);
    }
    sketch->buckets = buckets;
    sketch->capacity = capacity;
    return STATUS_OK;
}

static enum status add(struct sketch *sketch, int64_t key, int64_t count, struct arena *arena,
                       struct error *error)
{
    size_t at = find(sketch, key);

    if (at < sketch->count && sketch->buckets[at].key == key) {
        int64_t *total = &sketch->buckets[at].count;
        return __builtin_add_overflow(*total, count, total)
                   ? error_set(error, STATUS_FATAL, "stored counts add up to more than 2^63")
                   : STATUS_OK;
    }
    enum status status = make_room(sketch, arena, error);
    if (status == STATUS_OK) {
        memmove(&sketch->buckets[at + 1], &sketch->buckets[at],
                (sketch->count - at) * sizeof *sketch->buckets);
        sketch->buckets[at] = (struct bucket){.key = key, .count = count};
        sketch->count++;
    }
    return status;
}

static enum status percentile_fold(const struct measure *measure, void *state,
                                   const struct value *arguments,
                                   const struct measure_origin *origin, struct arena *arena,
                                   struct error *error)
{
    (void)origin;
    return arguments[0].is_null
               ? STATUS_OK
               : add(state, bucket_of(&arguments[0], precision_of(measure)), 1, arena, error);
}

static enum status percentile_merge(const struct measure *measure, void *into, const void *from,
                                    struct arena *arena, struct error *error)
{
    const struct sketch *other = from;
    enum status status = STATUS_OK;

    (void)measure;
    for (size_t i = 0; i < other->count && status == STATUS_OK; i++) {
        status = add(into, other->buckets[i].key, other->buckets[i].count, arena, error);
    }
    return status;
}

/* --- stored --- */

static enum status percentile_encode(const struct measure *measure, const void *state,
                                     struct pgbinary_writer *writer, struct error *error)
{
    const struct sketch *sketch = state;

    (void)measure, (void)error;
    size_t begun = pgbinary_array_begin(writer, PG_OID_INT8, 2 * sketch->count);
    for (size_t i = 0; i < sketch->count; i++) {
        pgbinary_put_int8(writer, sketch->buckets[i].key);
        pgbinary_put_int8(writer, sketch->buckets[i].count);
    }
    pgbinary_array_end(writer, begun);
    return STATUS_OK;
}

/* True if some value of the measure's type is in the bucket. */
static bool key_is_possible(const struct measure *measure, int64_t key)
{
    int b = precision_of(measure), exponent;
    int64_t key_max = (int64_t)(EXPONENT_MAX - EXPONENT_MIN + 1) << b, part;

    if (key < -key_max || key > key_max) {
        return false;
    }
    if (measure->argument_type == VALUE_DECIMAL || key == 0) {
        return true;
    }
    split_key(key < 0 ? -key : key, b, &exponent, &part);
    if (exponent >= 63) {
        return exponent == 63 && part == 0 && key < 0; /* -2^63 */
    }
    /* below 2^b buckets are narrower than 1 */
    return exponent >= 0 && (exponent >= b || part % ((int64_t)1 << (b - exponent)) == 0);
}

static enum status percentile_decode(const struct measure *measure, void *state,
                                     const struct pgbinary_field *fields, struct arena *arena,
                                     struct error *error)
{
    struct sketch *sketch = state;
    struct pgbinary_array array;
    struct pgbinary_field element;
    int64_t pair[2] = {0};

    enum status status = pgbinary_get_array(&fields[0], PG_OID_INT8, &array, error);
    if (status == STATUS_OK && array.count % 2 != 0) {
        return error_set(error, STATUS_FATAL, "stored state: a bucket without a count");
    }
    while (status == STATUS_OK && array.count > 0) {
        for (int i = 0; i < 2 && status == STATUS_OK; i++) {
            status = pgbinary_array_next(&array, &element, error);
            status = status == STATUS_OK ? pgbinary_get_int8(&element, &pair[i], error) : status;
        }
        if (status == STATUS_OK &&
            (pair[1] <= 0 || !key_is_possible(measure, pair[0]) ||
             (sketch->count > 0 && pair[0] <= sketch->buckets[sketch->count - 1].key))) {
            return error_set(error, STATUS_FATAL, "stored state: buckets that cannot be");
        }
        status = status == STATUS_OK ? add(sketch, pair[0], pair[1], arena, error) : status;
    }
    return status;
}

/* --- the result --- */

/* The middle of the integers lower .. upper - 1, rounded down. -2^63 is alone in its bucket. */
static int64_t middle_integer(int64_t key, int b)
{
    int64_t magnitude = key < 0 ? -key : key, part;
    int exponent;

    if (key == 0) {
        return 0;
    }
    split_key(magnitude, b, &exponent, &part);
    if (exponent == 63) {
        return INT64_MIN;
    }
    int64_t leading = ((int64_t)1 << b) + part,
            middle = leading >> (exponent < b ? b - exponent : 0);
    if (exponent >= b) {
        int64_t width = (int64_t)1 << (exponent - b);
        middle = leading * width + (width - 1) / 2;
    }
    return key < 0 ? -middle : middle;
}

/* A natural number in decimal digits, the lowest first. */
struct digits {
    uint8_t digit[120]; /* 2^15 5^141 has 104, 2^15 2^126 has 43 */
    int count;
};

static void digits_multiply(struct digits *number, unsigned factor)
{
    unsigned carry = 0;

    for (int i = 0; i < number->count || carry != 0; i++) {
        unsigned product = (i < number->count ? number->digit[i] : 0) * factor + carry;
        number->digit[i] = (uint8_t)(product % 10);
        carry = product / 10;
        number->count = i < number->count ? number->count : i + 1;
    }
}

/* The leading DIGITS digits of the middle of the bucket, and the power of ten that they count: the
 * middle is odd * 2^shift, and 2^-n is 5^n / 10^n. */
static int64_t middle_leading(int64_t magnitude, int b, int *power)
{
    struct digits number = {0};
    int64_t part, leading = 0;
    int exponent;

    split_key(magnitude, b, &exponent, &part);
    int shift = exponent - b - 1;
    for (int64_t odd = ((int64_t)2 << b) + 2 * part + 1; odd > 0; odd /= 10) {
        number.digit[number.count++] = (uint8_t)(odd % 10);
    }
    for (int i = 0; i < (shift < 0 ? -shift : shift); i++) {
        digits_multiply(&number, shift < 0 ? 5 : 2);
    }
    int cut = number.count > DIGITS ? number.count - DIGITS : 0;
    for (int i = number.count - 1; i >= cut; i--) {
        leading = leading * 10 + number.digit[i];
    }
    if (cut > 0 && number.digit[cut - 1] >= 5) {
        leading++;
    }
    *power = cut + (shift < 0 ? shift : 0);
    return leading;
}

/* leading * 10^power as a plain text. */
static const char *plain_text(bool negative, int64_t leading, int power, struct arena *arena)
{
    char digits[24];
    size_t length = 0;

    for (; leading % 10 == 0; leading /= 10) {
        power++;
    }
    size_t count = decimal_int128_format(leading, digits, sizeof digits);
    size_t whole = (int)count + power > 0 ? count + (size_t)(power > 0 ? power : 0) : 1;
    char *text = arena_alloc(arena, whole + (size_t)abs(power) + count + 4);
    if (text == NULL) {
        return NULL;
    }
    if (negative) {
        text[length++] = '-';
    }
    if ((int)count + power <= 0) { /* 0.00ddd */
        text[length++] = '0';
        text[length++] = '.';
        for (int i = 0; i < -power - (int)count; i++) {
            text[length++] = '0';
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (power < 0 && i > 0 && (int)i == (int)count + power) {
            text[length++] = '.';
        }
        text[length++] = digits[i];
    }
    for (int i = 0; i < power; i++) {
        text[length++] = '0';
    }
    text[length] = '\0';
    return text;
}

static enum status middle_decimal(int64_t key, int b, struct arena *arena, struct value *out,
                                  const char **wide_text, struct error *error)
{
    struct decimal decimal = {0};
    int power;

    if (key != 0) {
        int64_t leading = middle_leading(key < 0 ? -key : key, b, &power);
        const char *text = plain_text(key < 0, leading, power, arena);
        if (text == NULL) {
            return error_no_memory(error);
        }
        if (decimal_parse(text, strlen(text), &decimal) != DECIMAL_OK) {
            *wide_text = text;
        }
    }
    *out = value_decimal(decimal);
    return STATUS_OK;
}

static enum status percentile_finish(const struct measure *measure, const void *state,
                                     struct arena *arena, struct value *out, const char **wide_text,
                                     struct error *error)
{
    const struct sketch *sketch = state;
    const struct decimal *share = &measure->parameters[SHARE].decimal;
    uint128 total = 0, unit = 1, seen = 0;
    size_t at = 0;

    *wide_text = NULL;
    *out = value_null(measure->result_type);
    if (sketch->count == 0) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < sketch->count; i++) {
        total += (uint64_t)sketch->buckets[i].count;
    }
    for (int32_t i = 0; i < share->scale; i++) {
        unit *= 10;
    }
    uint128 rank = ((uint128)share->coefficient * total + unit - 1) / unit;
    while (at + 1 < sketch->count && (seen += (uint64_t)sketch->buckets[at].count) < rank) {
        at++;
    }
    int64_t key = sketch->buckets[at].key;
    if (measure->argument_type == VALUE_INTEGER) {
        *out = value_integer(middle_integer(key, precision_of(measure)));
        return STATUS_OK;
    }
    return middle_decimal(key, precision_of(measure), arena, out, wide_text, error);
}

static const char *percentile_sql(const struct measure *measure)
{
    return measure->sql_text;
}

static const char *percentile_oracle_sql(const struct measure *measure)
{
    return measure->oracle_text;
}

const struct measure_kind measure_approx_percentile = {
    .name = "approx_percentile",
    .help = "approx_percentile(x, q): the value below which the share q of the values lies, within "
            "1 % of percentile_disc(q) (DDSketch), or within a third parameter; NULL where there "
            "is no value",
    .first_parameter = 1,
    .bind = percentile_bind,
    .init = percentile_init,
    .fold = percentile_fold,
    .merge = percentile_merge,
    .encode = percentile_encode,
    .decode = percentile_decode,
    .finish = percentile_finish,
    .sql = percentile_sql,
    .oracle_sql = percentile_oracle_sql,
};
