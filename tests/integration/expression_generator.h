/* Random typed expressions and rows, for the tests that let PostgreSQL judge.
 *
 * Every expression comes as two texts of one meaning: `text`, as a definition would have it, and
 * `unfolded`, in which each literal is a column of the same value. PostgreSQL evaluates constant
 * sub-expressions when it plans, whether or not a row ever reaches them; in the second text it has
 * none. Parentheses are left out where PostgreSQL's precedence makes them unnecessary (most of the
 * time), so a difference in precedence or associativity shows. One thread. */
#ifndef TESTS_EXPRESSION_GENERATOR_H
#define TESTS_EXPRESSION_GENERATOR_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/arena.h"
#include "core/value.h"

/* --- random numbers: splitmix64 (Steele, Lea, Flood, 2014) --- */

static uint64_t generator_state;

static inline uint64_t generator_next(void)
{
    uint64_t z = generator_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline size_t below(size_t bound)
{
    return (size_t)(generator_next() % bound);
}

/* How often an expression is a call, in percent. */
static unsigned generator_calls = 40;

static inline bool chance(unsigned percent)
{
    return below(100) < percent;
}

static inline void generator_start(const char *program)
{
    const char *given = getenv("DOVETAIL_SEED");
    generator_state = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("%s: DOVETAIL_SEED=%" PRIu64 "\n", program, generator_state);
}

/* --- fields and literals --- */

struct generator_field {
    const char *name; /* as JSON has it */
    const char *text; /* as SQL has it */
    enum value_type type;
};

static const struct generator_field generator_fields[] = {
    {"i1", "i1", VALUE_INTEGER},   {"i2", "\"i2\"", VALUE_INTEGER},
    {"d1", "d1", VALUE_DECIMAL},   {"d2", "D2", VALUE_DECIMAL},
    {"s1", "s1", VALUE_STRING},    {"order", "\"order\"", VALUE_STRING},
    {"b1", "b1", VALUE_BOOLEAN},   {"b2", "b2", VALUE_BOOLEAN},
    {"t1", "t1", VALUE_TIMESTAMP}, {"time", "time", VALUE_TIMESTAMP},
};

enum { GENERATOR_FIELDS = sizeof generator_fields / sizeof generator_fields[0] };

/* Literal n is column c<n> in the unfolded text. 2^63 and -2^31 are not among them: a minus makes
 * them of another type, which no column can imitate. */
static const struct generator_literal {
    const char *text;
    enum value_type type;
} generator_literals[] = {
    {"0", VALUE_INTEGER},
    {"1", VALUE_INTEGER},
    {"2", VALUE_INTEGER},
    {"007", VALUE_INTEGER},
    {"10", VALUE_INTEGER},
    {"100", VALUE_INTEGER},
    {"86400", VALUE_INTEGER},
    {"9731", VALUE_INTEGER},
    {"55296", VALUE_INTEGER},
    {"2147483647", VALUE_INTEGER},
    {"2147483649", VALUE_INTEGER},
    {"-2147483647", VALUE_INTEGER},
    {"9223372036854775807", VALUE_INTEGER},
    {"-1", VALUE_INTEGER},
    {"-3", VALUE_INTEGER},
    {"-9223372036854775807", VALUE_INTEGER},
    {"0.5", VALUE_DECIMAL},
    {"1.50", VALUE_DECIMAL},
    {".25", VALUE_DECIMAL},
    {"2.", VALUE_DECIMAL},
    {"3.e1", VALUE_DECIMAL},
    {"1e3", VALUE_DECIMAL},
    {"1.5E-3", VALUE_DECIMAL},
    {"0.00", VALUE_DECIMAL},
    {"-0.1", VALUE_DECIMAL},
    {"9223372036854775809", VALUE_DECIMAL},
    {"123456789012345678901234.5", VALUE_DECIMAL},
    {"''", VALUE_STRING},
    {"'a'", VALUE_STRING},
    {"'ab'", VALUE_STRING},
    {"'it''s'", VALUE_STRING},
    {"'\xE2\x98\x83'",
     VALUE_STRING}, /* no letter: of literals alone, PostgreSQL's are not ASCII's */
    {"'Z\\'", VALUE_STRING},
    {"'%_'", VALUE_STRING},
    {"' 12'", VALUE_STRING},
    {"TRUE", VALUE_BOOLEAN},
    {"false", VALUE_BOOLEAN},
    {"'2001-01-01'", VALUE_TIMESTAMP},
    {"'2001-01-01T00:00:00Z'", VALUE_TIMESTAMP},
    {"'1969-12-31 23:59:59.999999+02:00'", VALUE_TIMESTAMP},
};

/* Whether PostgreSQL gives the integer 32 bits. */
static inline bool generator_is_int4(const char *literal)
{
    long long value = strtoll(literal, NULL, 10);
    return value >= INT32_MIN && value <= INT32_MAX;
}

enum { GENERATOR_LITERALS = sizeof generator_literals / sizeof generator_literals[0] };

/* The definition of a source with the fields; every one but `time` may be NULL. */
static inline const char *generator_source(void)
{
    static char json[2000];
    size_t length = (size_t)snprintf(json, sizeof json,
                                     "{\"source\":\"facts\",\"topic\":\"facts\",\"event_time\":"
                                     "{\"field\":\"time\",\"format\":\"rfc3339\"},\"fields\":{");
    for (size_t i = 0; i < GENERATOR_FIELDS; i++) {
        const struct generator_field *field = &generator_fields[i];
        length += (size_t)snprintf(json + length, sizeof json - length,
                                   "%s\"%s\":{\"type\":\"%s\",\"nullable\":%s}", i == 0 ? "" : ",",
                                   field->name, value_type_name(field->type),
                                   strcmp(field->name, "time") == 0 ? "false" : "true");
    }
    snprintf(json + length, sizeof json - length, "}}");
    return json;
}

/* SQL that creates the empty temporary table facts: id, the fields, then the literals, which fill
 * themselves by default. The caller frees it. */
static inline char *generator_table(void)
{
    char *sql = NULL;
    size_t length;
    FILE *out = open_memstream(&sql, &length);

    fputs("CREATE TEMPORARY TABLE facts (id integer PRIMARY KEY", out);
    for (size_t i = 0; i < GENERATOR_FIELDS; i++) {
        fprintf(out, ", \"%s\" %s%s", generator_fields[i].name,
                value_type_sql(generator_fields[i].type),
                generator_fields[i].type == VALUE_STRING ? " COLLATE \"C\"" : "");
    }
    for (size_t i = 0; i < GENERATOR_LITERALS; i++) {
        enum value_type type = generator_literals[i].type;
        bool is_int4 = type == VALUE_INTEGER && generator_is_int4(generator_literals[i].text);
        fprintf(out, ", c%zu %s%s DEFAULT %s", i, is_int4 ? "integer" : value_type_sql(type),
                type == VALUE_STRING ? " COLLATE \"C\"" : "", generator_literals[i].text);
    }
    fputs(", n0 integer", out); /* NULL as an integer, which is narrowed or widened by others */
    for (int type = VALUE_STRING; type <= VALUE_TIMESTAMP; type++) {
        fprintf(out, ", n%d %s%s", type, value_type_sql((enum value_type)type),
                type == VALUE_STRING ? " COLLATE \"C\"" : "");
    }
    fputc(')', out);
    fclose(out);
    return sql;
}

/* A random text of a value, as both value_parse and PostgreSQL read it; NULL for NULL. */
static inline const char *generator_value(enum value_type type, bool tame, struct arena *arena)
{
    static const char *const integers[] = {"0",
                                           "1",
                                           "-1",
                                           "2",
                                           "3",
                                           "5",
                                           "7",
                                           "10",
                                           "-10",
                                           "100",
                                           "4611686018427387904",
                                           "9223372036854775807",
                                           "-9223372036854775808",
                                           "2147483647",
                                           "-2147483648"};
    static const char *const decimals[] = {"0",
                                           "0.00",
                                           "1",
                                           "1.0",
                                           "1.50",
                                           "-1.5",
                                           "0.1",
                                           "0.2",
                                           "-0.30",
                                           "10",
                                           "100.000",
                                           "0.0000000001",
                                           "99999999999999999999.99",
                                           "-12345678901234567890123456789012345678",
                                           "0.00000000000000000000000000000000000001",
                                           "3.3333333333333333"};
    static const char *const strings[] = {"",
                                          "a",
                                          "A",
                                          "ab",
                                          "b",
                                          "Z\\",
                                          "it's",
                                          "\xC3\xA9",
                                          "\xF0\x9F\x98\x80",
                                          "a longer text",
                                          " ",
                                          "%",
                                          "a_b%c",
                                          "12",
                                          " 7\t",
                                          "-3.50",
                                          "+1e2",
                                          ".5",
                                          "5.",
                                          "1e",
                                          "- 1",
                                          "2147483648",
                                          "-9223372036854775808",
                                          "9223372036854775808x",
                                          "0x1F",
                                          "1_000",
                                          "\xD9\xA3",
                                          "true",
                                          " oF ",
                                          "o",
                                          "YES",
                                          "n",
                                          "2001-02-28",
                                          "2001-02-29",
                                          "2000-02-29T23:59:60Z",
                                          "2001-01-01 24:00",
                                          "2001-01-01 10:11:12.3456785+05:30",
                                          "2001-01-01t00:00:00.9999996-0030",
                                          "9999-12-31T23:00-02",
                                          "0001-01-01",
                                          "2001-1-1",
                                          "2001-13-01",
                                          "a,b,,c",
                                          ",",
                                          "aaa",
                                          "abab",
                                          "x\xC3\x9Fy\xC4\xB0",
                                          "\xC3\x89t\xC3\xA9 \xC3\xA0 PARIS",
                                          "e\xCC\x81",
                                          "\xC2\xA0x\xC2\xA0",
                                          "\xEF\xBC\xA1\xEF\xBD\x81",
                                          "\xE2\x82\xAC",
                                          "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9",
                                          "\xF4\x8F\xBF\xBF",
                                          "\n",
                                          "\r\na",
                                          "\x01",
                                          "\x7F"};
    char text[64];

    if (chance(15)) {
        return NULL;
    }
    switch (type) {
    case VALUE_INTEGER:
        if (chance(50)) {
            snprintf(text, sizeof text, "%d", (int)below(41) - 20);
            break;
        }
        return integers[below(tame ? 11 : 15)];
    case VALUE_DECIMAL:
        if (chance(50)) {
            snprintf(text, sizeof text, "%s%zu.%02zu", chance(50) ? "-" : "", below(50),
                     below(100));
            break;
        }
        return decimals[below(tame ? 11 : 16)];
    case VALUE_STRING:
        return strings[below(tame ? 30 : sizeof strings / sizeof strings[0])];
    case VALUE_BOOLEAN:
        return chance(50) ? "true" : "false";
    case VALUE_TIMESTAMP:
        if (chance(20)) {
            return "2001-01-01T00:00:00Z";
        }
        snprintf(text, sizeof text, "%s-%02zu-%02zuT%02zu:%02zu:%02zu.%06zuZ",
                 chance(50) ? "1970" : "1969", chance(50) ? (size_t)1 : 12, 1 + below(31),
                 below(24), below(60), below(60), chance(50) ? (size_t)0 : below(1000000));
        break;
    case VALUE_INTEGERS:
        return NULL;
    }
    return arena_copy(arena, text, strlen(text));
}

/* --- expressions --- */

/* How tightly a text holds together: PostgreSQL's precedence, documentation 4.1.6. */
enum generator_level {
    LEVEL_OR,
    LEVEL_AND,
    LEVEL_NOT,
    LEVEL_DISTINCT, /* like IS, but does not chain */
    LEVEL_IS,
    LEVEL_COMPARISON,
    LEVEL_RANGE,
    LEVEL_CONCATENATION,
    LEVEL_SUM,
    LEVEL_PRODUCT,
    LEVEL_POWER,
    LEVEL_SIGN,
    LEVEL_CAST,
    LEVEL_PRIMARY,
};

struct generated {
    const char *text;
    const char *unfolded;
    enum generator_level level;
};

static inline char *generator_format(struct arena *arena, const char *format, ...)
    PRINTF_LIKE(2, 3);

static inline char *generator_format(struct arena *arena, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    char *copy = length < 0 ? NULL : arena_copy(arena, text, (size_t)length);
    free(text);
    if (copy == NULL) {
        abort();
    }
    return copy;
}

/* Both texts from one format, whose arguments are generated parts. */
#define COMBINE(level_, format, ...)                                                               \
    ((struct generated){.text = generator_format(arena, format, EACH(text, __VA_ARGS__)),          \
                        .unfolded = generator_format(arena, format, EACH(unfolded, __VA_ARGS__)),  \
                        .level = level_})
#define EACH(member, ...) EACH_N(__VA_ARGS__, EACH4, EACH3, EACH2, EACH1)(member, __VA_ARGS__)
#define EACH_N(a, b, c, d, name, ...) name
#define EACH1(member, a) a.member
#define EACH2(member, a, b) a.member, b.member
#define EACH3(member, a, b, c) a.member, b.member, c.member
#define EACH4(member, a, b, c, d) a.member, b.member, c.member, d.member

static inline struct generated generate(struct arena *arena, enum value_type type, int depth,
                                        bool typed);

/* In parentheses where the place needs them, and sometimes where it does not. */
static inline struct generated held(struct arena *arena, struct generated part,
                                    enum generator_level level)
{
    if (part.level >= level && !chance(4)) {
        return part;
    }
    return COMBINE(LEVEL_PRIMARY, "(%s)", part);
}

static inline struct generated part_of(struct arena *arena, enum value_type type, int depth,
                                       bool typed, enum generator_level level)
{
    return held(arena, generate(arena, type, depth, typed), level);
}

/* A number of either type. */
static inline enum value_type generate_numeric_type(void)
{
    return chance(50) ? VALUE_INTEGER : VALUE_DECIMAL;
}

static inline enum value_type generate_type(void)
{
    return (enum value_type)(VALUE_STRING + (int)below(5));
}

/* The type of another operand that goes with `type`. */
static inline enum value_type generate_companion(enum value_type type)
{
    bool numeric = type == VALUE_INTEGER || type == VALUE_DECIMAL;
    return numeric && chance(30) ? generate_numeric_type() : type;
}

/* `typed`: not NULL and not a text that only becomes a timestamp beside one. */
static inline struct generated generate_leaf(struct arena *arena, enum value_type type, bool typed)
{
    if (!typed && chance(8)) {
        return (struct generated){
            "NULL", generator_format(arena, "n%d", type == VALUE_INTEGER ? 0 : (int)type),
            LEVEL_PRIMARY};
    }
    while (chance(40) && !(typed && type == VALUE_TIMESTAMP)) {
        size_t i = below(GENERATOR_LITERALS);
        const char *text = generator_literals[i].text;
        if (generator_literals[i].type == type) {
            return (struct generated){text, generator_format(arena, "c%zu", i),
                                      text[0] == '-' ? LEVEL_SIGN : LEVEL_PRIMARY};
        }
    }
    for (;;) {
        const struct generator_field *field = &generator_fields[below(GENERATOR_FIELDS)];
        if (field->type == type) {
            return (struct generated){field->text, field->text, LEVEL_PRIMARY};
        }
    }
}

static inline struct generated generate_arithmetic(struct arena *arena, enum value_type type,
                                                   int depth)
{
    enum value_type left = type, right = type;

    if (type == VALUE_DECIMAL && chance(40)) {
        *(chance(50) ? &left : &right) = VALUE_INTEGER;
    }
    if (chance(10)) {
        struct generated child = part_of(arena, type, depth - 1, true, LEVEL_SIGN);
        return chance(80) ? COMBINE(LEVEL_SIGN, "- %s", child) : COMBINE(LEVEL_SIGN, "+ %s", child);
    }
    bool sum = chance(50);
    enum generator_level level = sum ? LEVEL_SUM : LEVEL_PRODUCT;
    struct generated a = part_of(arena, left, depth - 1, true, level);
    /* `decimal + NULL` and `integer + NULL` have the type of the operand that has one */
    struct generated b = part_of(arena, right, depth - 1, left != type, level + 1);
    if (sum) {
        return chance(50) ? COMBINE(level, "%s + %s", a, b) : COMBINE(level, "%s - %s", a, b);
    }
    switch (below(3)) {
    case 0:
        return COMBINE(level, "%s * %s", a, b);
    case 1:
        return COMBINE(level, "%s / %s", a, b);
    default:
        return COMBINE(level, "%s %% %s", a, b);
    }
}

#include "tests/integration/function_generator.h"

static inline struct generated generate_case(struct arena *arena, enum value_type type, int depth)
{
    struct generated condition, result, otherwise, all;
    bool has_operand = chance(40);
    enum value_type operand = generate_type();

    all = (struct generated){"CASE", "CASE", LEVEL_PRIMARY};
    if (has_operand) {
        struct generated x = generate(arena, operand, depth - 1, true);
        all = COMBINE(LEVEL_PRIMARY, "%s %s", all, x);
    }
    for (size_t i = 0, count = 1 + below(2); i < count; i++) {
        condition = has_operand ? generate(arena, generate_companion(operand), depth - 1, false)
                                : generate(arena, VALUE_BOOLEAN, depth - 1, false);
        result = generate(arena, type, depth - 1, i == 0);
        all = COMBINE(LEVEL_PRIMARY, "%s WHEN %s THEN %s", all, condition, result);
    }
    if (chance(70)) {
        bool widens = type == VALUE_DECIMAL && chance(30);
        otherwise = generate(arena, widens ? VALUE_INTEGER : type, depth - 1, widens);
        return COMBINE(LEVEL_PRIMARY, "%s ELSE %s END", all, otherwise);
    }
    return COMBINE(LEVEL_PRIMARY, "%s END", all);
}

static inline struct generated generate_coalesce(struct arena *arena, enum value_type type,
                                                 int depth)
{
    struct generated a = generate(arena, type, depth - 1, true);
    struct generated b = generate(arena, type, depth - 1, false);
    if (chance(60)) {
        return COMBINE(LEVEL_PRIMARY, "COALESCE(%s, %s)", a, b);
    }
    enum value_type third = type == VALUE_DECIMAL ? generate_numeric_type() : type;
    struct generated c = generate(arena, third, depth - 1, third != type);
    return COMBINE(LEVEL_PRIMARY, "coalesce(%s, %s, %s)", a, b, c);
}

static inline struct generated generate_comparison(struct arena *arena, int depth)
{
    enum value_type type = generate_type();
    enum generator_level level = LEVEL_RANGE;
    struct generated a = part_of(arena, type, depth - 1, true, level);
    struct generated b = part_of(arena, generate_companion(type), depth - 1, false, level);

    switch (below(6)) {
    case 0:
        return COMBINE(LEVEL_COMPARISON, "%s = %s", a, b);
    case 1:
        return chance(50) ? COMBINE(LEVEL_COMPARISON, "%s <> %s", a, b)
                          : COMBINE(LEVEL_COMPARISON, "%s != %s", a, b);
    case 2:
        return COMBINE(LEVEL_COMPARISON, "%s < %s", a, b);
    case 3:
        return COMBINE(LEVEL_COMPARISON, "%s <= %s", a, b);
    case 4:
        return COMBINE(LEVEL_COMPARISON, "%s > %s", a, b);
    default:
        return COMBINE(LEVEL_COMPARISON, "%s >= %s", a, b);
    }
}

static inline struct generated generate_test(struct arena *arena, int depth)
{
    bool negated = chance(50);
    struct generated child, right;

    switch (below(3)) {
    case 0:
        child = part_of(arena, generate_type(), depth - 1, true, LEVEL_IS);
        return negated ? COMBINE(LEVEL_IS, "%s IS NOT NULL", child)
                       : COMBINE(LEVEL_IS, "%s IS NULL", child);
    case 1:
        child = part_of(arena, VALUE_BOOLEAN, depth - 1, false, LEVEL_IS);
        if (chance(50)) {
            return negated ? COMBINE(LEVEL_IS, "%s IS NOT TRUE", child)
                           : COMBINE(LEVEL_IS, "%s IS TRUE", child);
        }
        return negated ? COMBINE(LEVEL_IS, "%s is not false", child)
                       : COMBINE(LEVEL_IS, "%s is false", child);
    default: {
        enum value_type type = generate_type();
        child = part_of(arena, type, depth - 1, true, LEVEL_COMPARISON);
        right = part_of(arena, generate_companion(type), depth - 1, false, LEVEL_COMPARISON);
        return negated ? COMBINE(LEVEL_DISTINCT, "%s IS NOT DISTINCT FROM %s", child, right)
                       : COMBINE(LEVEL_DISTINCT, "%s IS DISTINCT FROM %s", child, right);
    }
    }
}

static inline struct generated generate_range(struct arena *arena, int depth)
{
    enum value_type type = generate_type();
    enum generator_level level = LEVEL_CONCATENATION;
    bool negated = chance(30);
    struct generated x = part_of(arena, type, depth - 1, true, level);

    if (chance(50)) {
        struct generated low = part_of(arena, generate_companion(type), depth - 1, false, level);
        struct generated high = part_of(arena, generate_companion(type), depth - 1, false, level);
        return negated ? COMBINE(LEVEL_RANGE, "%s NOT BETWEEN %s AND %s", x, low, high)
                       : COMBINE(LEVEL_RANGE, "%s BETWEEN %s AND %s", x, low, high);
    }
    struct generated list = generate(arena, generate_companion(type), depth - 1, false);
    for (size_t i = below(4); i > 0; i--) {
        struct generated member = generate(arena, generate_companion(type), depth - 1, false);
        list = COMBINE(LEVEL_PRIMARY, "%s, %s", list, member);
    }
    return negated ? COMBINE(LEVEL_RANGE, "%s NOT IN (%s)", x, list)
                   : COMBINE(LEVEL_RANGE, "%s IN (%s)", x, list);
}

static inline struct generated generate_condition(struct arena *arena, int depth)
{
    struct generated a, b;

    switch (below(8)) {
    case 0:
        a = part_of(arena, VALUE_BOOLEAN, depth - 1, false, LEVEL_OR);
        b = part_of(arena, VALUE_BOOLEAN, depth - 1, false, LEVEL_AND);
        return COMBINE(LEVEL_OR, "%s OR %s", a, b);
    case 1:
        a = part_of(arena, VALUE_BOOLEAN, depth - 1, false, LEVEL_AND);
        b = part_of(arena, VALUE_BOOLEAN, depth - 1, false, LEVEL_NOT);
        return COMBINE(LEVEL_AND, "%s AND %s", a, b);
    case 2:
        a = part_of(arena, VALUE_BOOLEAN, depth - 1, false, LEVEL_NOT);
        return COMBINE(LEVEL_NOT, "NOT %s", a);
    case 3:
        return generate_test(arena, depth);
    case 4:
        return generate_range(arena, depth);
    default:
        return generate_comparison(arena, depth);
    }
}

static inline struct generated generate(struct arena *arena, enum value_type type, int depth,
                                        bool typed)
{
    if (depth <= 0 || chance(15)) {
        return generate_leaf(arena, type, typed);
    }
    if (chance(type == VALUE_TIMESTAMP ? 25 : 12)) {
        return generate_case(arena, type, depth);
    }
    if (chance(generator_calls)) {
        return generate_call(arena, type, depth);
    }
    if (chance(type == VALUE_TIMESTAMP ? 60 : 10)) {
        return generate_coalesce(arena, type, depth);
    }
    switch (type) {
    case VALUE_INTEGER:
    case VALUE_DECIMAL:
        return generate_arithmetic(arena, type, depth);
    case VALUE_STRING: {
        struct generated a = part_of(arena, type, depth - 1, true, LEVEL_CONCATENATION);
        struct generated b = part_of(arena, type, depth - 1, false, LEVEL_SUM);
        return COMBINE(LEVEL_CONCATENATION, "%s || %s", a, b);
    }
    case VALUE_BOOLEAN:
        return generate_condition(arena, depth);
    case VALUE_TIMESTAMP:
    case VALUE_INTEGERS:
        break;
    }
    return generate_leaf(arena, type, typed);
}

#endif
