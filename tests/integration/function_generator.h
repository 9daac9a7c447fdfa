/* Random calls of functions, casts and patterns; part of expression_generator.h, which includes it
 * in its middle. */
#ifndef TESTS_FUNCTION_GENERATOR_H
#define TESTS_FUNCTION_GENERATOR_H

/* Both texts are the same. */
static inline struct generated plain_text(const char *text, enum generator_level level)
{
    return (struct generated){text, text, level};
}

#define PICK(...)                                                                                  \
    ((const char *const[]){                                                                        \
        __VA_ARGS__}[below(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))])

static inline struct generated generate_int4(struct arena *arena, int depth, bool typed);

static inline struct generated generate_text(struct arena *arena, int depth, bool typed)
{
    return generate(arena, VALUE_STRING, depth - 1, typed);
}

/* Not a literal alone, which would be cast when the text is read. */
static inline struct generated generate_cast_text(struct arena *arena, int depth)
{
    if (chance(60)) {
        return plain_text(PICK("s1", "\"order\""), LEVEL_PRIMARY);
    }
    struct generated text = generate_text(arena, depth, true);
    return COMBINE(LEVEL_PRIMARY, "btrim(%s)", text);
}

/* A number of characters or digits, mostly small. */
static inline struct generated generate_count(struct arena *arena, int depth)
{
    if (chance(70)) {
        return plain_text(PICK("-3", "-1", "0", "1", "2", "3", "5", "-2147483648"), LEVEL_SIGN);
    }
    return generate_int4(arena, depth - 1, false);
}

/* One that a string may be repeated by. */
static inline struct generated generate_small_count(struct arena *arena, int depth)
{
    if (chance(60)) {
        return plain_text(PICK("-1", "0", "1", "2", "7"), LEVEL_SIGN);
    }
    struct generated count = generate_int4(arena, depth - 1, true);
    return COMBINE(LEVEL_PRIMARY, "mod(%s, 9)", count);
}

/* name(a[, b[, c]]) of strings. */
static inline struct generated call_of_texts(struct arena *arena, const char *name, int count,
                                             int depth)
{
    struct generated function = plain_text(name, LEVEL_PRIMARY);
    struct generated a = generate_text(arena, depth, false);
    struct generated b = generate_text(arena, depth, false);
    struct generated c = generate_text(arena, depth, false);
    return count == 1   ? COMBINE(LEVEL_PRIMARY, "%s(%s)", function, a)
           : count == 2 ? COMBINE(LEVEL_PRIMARY, "%s(%s, %s)", function, a, b)
                        : COMBINE(LEVEL_PRIMARY, "%s(%s, %s, %s)", function, a, b, c);
}

static inline struct generated generate_part(struct arena *arena, int depth)
{
    struct generated s = generate_text(arena, depth, true);
    struct generated n = generate_count(arena, depth), k = generate_count(arena, depth);
    struct generated d = generate_text(arena, depth, false);

    switch (below(8)) {
    case 0:
        return COMBINE(LEVEL_PRIMARY, "substr(%s, %s)", s, n);
    case 1:
        return COMBINE(LEVEL_PRIMARY, "substring(%s, %s, %s)", s, n, k);
    case 2:
        return COMBINE(LEVEL_PRIMARY, "SUBSTRING(%s FROM %s FOR %s)", s, n, k);
    case 3:
        return COMBINE(LEVEL_PRIMARY, "substring(%s for %s)", s, k);
    case 4:
        return COMBINE(LEVEL_PRIMARY, "left(%s, %s)", s, n);
    case 5:
        return COMBINE(LEVEL_PRIMARY, "right(%s, %s)", s, n);
    default:
        return COMBINE(LEVEL_PRIMARY, "split_part(%s, %s, %s)", s, d, n);
    }
}

static inline struct generated generate_trim(struct arena *arena, int depth)
{
    struct generated s = generate_text(arena, depth, true);
    struct generated c = generate_text(arena, depth, false);

    switch (below(5)) {
    case 0:
        return COMBINE(LEVEL_PRIMARY, "TRIM(%s)", s);
    case 1:
        return COMBINE(LEVEL_PRIMARY, "TRIM(BOTH %s FROM %s)", c, s);
    case 2:
        return COMBINE(LEVEL_PRIMARY, "trim(leading from %s)", s);
    case 3:
        return COMBINE(LEVEL_PRIMARY, "trim(trailing %s from %s)", c, s);
    default:
        return call_of_texts(arena, PICK("btrim", "ltrim", "rtrim"), 1 + (int)below(2), depth);
    }
}

static inline struct generated generate_string_call(struct arena *arena, int depth)
{
    struct generated s, n, other;

    switch (below(12)) {
    case 0:
        return call_of_texts(arena, PICK("lower", "upper", "initcap", "reverse"), 1, depth);
    case 1:
        return generate_trim(arena, depth);
    case 2:
    case 3:
        return generate_part(arena, depth);
    case 4:
        return call_of_texts(arena, PICK("replace", "translate"), 3, depth);
    case 5:
        s = generate_text(arena, depth, true);
        n = generate_small_count(arena, depth);
        other = plain_text(PICK("lpad", "rpad", "repeat"), LEVEL_PRIMARY);
        return COMBINE(LEVEL_PRIMARY, "%s(%s, %s)", other, s, n);
    case 6:
        s = generate_text(arena, depth, true);
        n = generate_small_count(arena, depth);
        other = generate_text(arena, depth, false);
        return chance(50) ? COMBINE(LEVEL_PRIMARY, "lpad(%s, %s, %s)", s, n, other)
                          : COMBINE(LEVEL_PRIMARY, "rpad(%s, %s, %s)", s, n, other);
    case 7:
        s = generate_text(arena, depth, false);
        other = generate(arena, generate_type(), depth - 1, true);
        return chance(50) ? COMBINE(LEVEL_PRIMARY, "concat(%s, %s)", s, other)
                          : COMBINE(LEVEL_PRIMARY, "concat_ws(%s, %s, %s)", s, other, s);
    case 8:
        n = generate_int4(arena, 0,
                          false); /* no sums, which could be capital letters beyond ASCII */
        return COMBINE(LEVEL_PRIMARY, "chr(%s)", n);
    case 9: {
        other = part_of(arena, generate_type(), depth - 1, true, LEVEL_SUM);
        s = held(arena, plain_text(PICK("s1", "\"order\""), LEVEL_PRIMARY), LEVEL_SUM);
        return COMBINE(LEVEL_CONCATENATION, "%s || %s", s, other);
    }
    case 10:
        other = part_of(arena, generate_type(), depth - 1, true, LEVEL_PRIMARY);
        return COMBINE(LEVEL_CAST, "%s::text", other);
    default:
        other = generate(arena, generate_type(), depth - 1, true);
        return COMBINE(LEVEL_PRIMARY, "CAST(%s AS text)", other);
    }
}

/* Integers of 32 bits. */
static inline struct generated generate_int4_call(struct arena *arena, int depth)
{
    struct generated a, b;

    switch (below(8)) {
    case 0:
    case 1:
        return call_of_texts(
            arena, PICK("length", "char_length", "character_length", "octet_length", "ascii"), 1,
            depth);
    case 2:
        a = held(arena, generate_text(arena, depth, true), LEVEL_CONCATENATION);
        b = held(arena, generate_text(arena, depth, false), LEVEL_CONCATENATION);
        return chance(50) ? COMBINE(LEVEL_PRIMARY, "POSITION(%s IN %s)", b, a)
                          : COMBINE(LEVEL_PRIMARY, "strpos(%s, %s)", a, b);
    case 3:
        a = generate(arena, generate_numeric_type(), depth - 1, true);
        return COMBINE(LEVEL_PRIMARY, "CAST(%s AS integer)", a);
    case 4:
        a = generate_cast_text(arena, depth);
        return chance(50) ? COMBINE(LEVEL_CAST, "%s::int", a)
                          : COMBINE(LEVEL_PRIMARY, "cast(%s as int4)", a);
    case 5:
        a = part_of(arena, VALUE_BOOLEAN, depth - 1, true, LEVEL_PRIMARY);
        return COMBINE(LEVEL_CAST, "%s::int4", a);
    case 6:
        a = held(arena, generate_int4(arena, depth - 1, true), LEVEL_SUM);
        b = held(arena, generate_int4(arena, depth - 1, true), LEVEL_PRODUCT);
        return COMBINE(LEVEL_SUM, "%s + %s", a, b);
    default:
        a = generate_int4(arena, depth - 1, true);
        b = generate_int4(arena, depth - 1, true);
        return chance(50) ? COMBINE(LEVEL_PRIMARY, "mod(%s, %s)", a, b)
                          : COMBINE(LEVEL_PRIMARY, "abs(%s)", a);
    }
}

static inline struct generated generate_int4(struct arena *arena, int depth, bool typed)
{
    if (depth > 0 && chance(60)) {
        return generate_int4_call(arena, depth);
    }
    if (!typed && chance(10)) {
        return (struct generated){"NULL", "n0", LEVEL_PRIMARY};
    }
    for (;;) {
        size_t i = below(GENERATOR_LITERALS);
        const char *text = generator_literals[i].text;
        if (generator_literals[i].type == VALUE_INTEGER && generator_is_int4(text)) {
            return (struct generated){text, generator_format(arena, "c%zu", i),
                                      text[0] == '-' ? LEVEL_SIGN : LEVEL_PRIMARY};
        }
    }
}

static inline struct generated generate_integer_call(struct arena *arena, int depth)
{
    struct generated a, b;

    switch (below(5)) {
    case 0:
        a = generate(arena, VALUE_INTEGER, depth - 1, true);
        return COMBINE(LEVEL_PRIMARY, "abs(%s)", a);
    case 1:
        a = generate(arena, VALUE_INTEGER, depth - 1, true);
        b = generate(arena, VALUE_INTEGER, depth - 1, true);
        return COMBINE(LEVEL_PRIMARY, "mod(%s, %s)", a, b);
    case 2:
        a = generate(arena, generate_numeric_type(), depth - 1, true);
        return COMBINE(LEVEL_PRIMARY, "CAST(%s AS bigint)", a);
    case 3:
        a = generate_cast_text(arena, depth);
        return COMBINE(LEVEL_CAST, "%s::int8", a);
    default:
        return generate_int4_call(arena, depth);
    }
}

static inline struct generated generate_time_difference(struct arena *arena, int depth)
{
    struct generated a = part_of(arena, VALUE_TIMESTAMP, depth - 1, true, LEVEL_SUM);
    struct generated b = part_of(arena, VALUE_TIMESTAMP, depth - 1, true, LEVEL_PRODUCT);
    return COMBINE(LEVEL_SUM, "%s - %s", a, b);
}

static inline struct generated generate_zone(void)
{
    return plain_text(PICK("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe",
                           "Asia/Kathmandu", "America/Havana"),
                      LEVEL_PRIMARY);
}

static inline struct generated generate_extract(struct arena *arena, int depth)
{
    if (chance(30)) {
        struct generated difference = generate_time_difference(arena, depth);
        struct generated field = plain_text(
            PICK("epoch", "day", "hour", "minute", "second", "milliseconds", "microseconds"),
            LEVEL_PRIMARY);
        return COMBINE(LEVEL_PRIMARY, "extract(%s from %s)", field, difference);
    }
    struct generated time = generate(arena, VALUE_TIMESTAMP, depth - 1, true);
    struct generated field =
        plain_text(PICK("year", "month", "DAY", "hour", "minute", "second", "millisecond",
                        "milliseconds", "microseconds", "dow", "isodow", "doy", "week", "isoyear",
                        "'quarter'", "epoch", "decade", "century", "millennium"),
                   LEVEL_PRIMARY);
    if (chance(40)) {
        struct generated zone = generate_zone();
        return COMBINE(LEVEL_PRIMARY, "EXTRACT(%s FROM (%s) AT TIME ZONE '%s')", field, time, zone);
    }
    return COMBINE(LEVEL_PRIMARY, "EXTRACT(%s FROM %s)", field, time);
}

static inline struct generated generate_decimal_call(struct arena *arena, int depth)
{
    struct generated d = generate(arena, VALUE_DECIMAL, depth - 1, true), x, n;
    struct generated name;

    switch (below(9)) {
    case 0:
    case 1:
        name = plain_text(PICK("abs", "round", "trunc", "floor", "ceil", "ceiling", "sign"),
                          LEVEL_PRIMARY);
        return COMBINE(LEVEL_PRIMARY, "%s(%s)", name, d);
    case 2:
        x = generate(arena, generate_numeric_type(), depth - 1, true);
        n = generate_count(arena, depth);
        return chance(50) ? COMBINE(LEVEL_PRIMARY, "round(%s, %s)", x, n)
                          : COMBINE(LEVEL_PRIMARY, "trunc(%s, %s)", x, n);
    case 3:
        x = generate(arena, generate_numeric_type(), depth - 1, true);
        return chance(50) ? COMBINE(LEVEL_PRIMARY, "div(%s, %s)", x, d)
                          : COMBINE(LEVEL_PRIMARY, "mod(%s, %s)", x, d);
    case 4:
        n = plain_text(PICK("0", "1", "2", "3", "4", "7"), LEVEL_PRIMARY);
        d = held(arena, d, LEVEL_POWER);
        return chance(50) ? COMBINE(LEVEL_PRIMARY, "power(%s, %s)", d, n)
                          : COMBINE(LEVEL_POWER, "%s ^ %s", d, n);
    case 5:
        x = part_of(arena, generate_numeric_type(), depth - 1, true, LEVEL_PRIMARY);
        return chance(50) ? COMBINE(LEVEL_CAST, "%s::numeric", x)
                          : COMBINE(LEVEL_PRIMARY, "CAST(%s AS numeric(9, 2))", x);
    case 6:
        x = generate_cast_text(arena, depth);
        return chance(50) ? COMBINE(LEVEL_PRIMARY, "CAST(%s AS decimal)", x)
                          : COMBINE(LEVEL_CAST, "%s::numeric(4)", x);
    default:
        return generate_extract(arena, depth);
    }
}

static inline struct generated generate_interval(void)
{
    return plain_text(PICK("interval '1 day'", "interval '-90 minutes'", "interval '1' month",
                           "interval '1 year -1 month 1 week'", "interval '36:00:00.5'",
                           "interval '2 hours 30 seconds 250 milliseconds'", "interval '11' MONTH",
                           "interval '-1 day 01:30'", "interval '-13 months'",
                           "INTERVAL '5' second"),
                      LEVEL_PRIMARY);
}

static inline struct generated generate_time_call(struct arena *arena, int depth)
{
    struct generated t = part_of(arena, VALUE_TIMESTAMP, depth - 1, true, LEVEL_SUM), x;

    switch (below(6)) {
    case 0:
    case 1:
        x = plain_text(PICK("microseconds", "milliseconds", "second", "minute", "hour", "day",
                            "WEEK", "month", "quarter", "year", "decade", "century", "millennium"),
                       LEVEL_PRIMARY);
        if (chance(40)) {
            struct generated zone = generate_zone();
            return COMBINE(LEVEL_PRIMARY, "date_trunc('%s', %s, '%s')", x, t, zone);
        }
        return COMBINE(LEVEL_PRIMARY, "date_trunc('%s', %s)", x, t);
    case 2:
    case 3:
        x = generate_interval();
        return chance(50)   ? COMBINE(LEVEL_SUM, "%s + %s", t, x)
               : chance(80) ? COMBINE(LEVEL_SUM, "%s - %s", t, x)
                            : COMBINE(LEVEL_SUM, "%s + (%s)", x, t);
    case 4:
        x = generate_time_difference(arena, depth);
        return chance(50) ? COMBINE(LEVEL_SUM, "%s + (%s)", t, x)
                          : COMBINE(LEVEL_SUM, "%s - (%s)", t, x);
    default:
        x = generate_cast_text(arena, depth);
        return chance(50) ? COMBINE(LEVEL_PRIMARY, "CAST(%s AS timestamp with time zone)", x)
                          : COMBINE(LEVEL_CAST, "%s::timestamptz", x);
    }
}

static inline struct generated generate_match(struct arena *arena, int depth)
{
    struct generated s = held(arena, generate_text(arena, depth, true), LEVEL_CONCATENATION);
    struct generated p = held(arena, generate_text(arena, depth, false), LEVEL_CONCATENATION);
    struct generated like = plain_text(PICK("LIKE", "NOT LIKE", "ILIKE", "not ilike"), LEVEL_RANGE);

    switch (below(4)) {
    case 0:
        p = plain_text(PICK("'%a%'", "'_'", "'a_%'", "'%\\%%'", "'\\'", "'%\xC3\xA9_'", "'%_'"),
                       LEVEL_PRIMARY);
        break;
    case 1: {
        struct generated e =
            plain_text(PICK("''", "'a'", "'\\'", "'%'", "'_'", "'ab'", "s1"), LEVEL_PRIMARY);
        return COMBINE(LEVEL_RANGE, "%s %s %s ESCAPE %s", s, like, p, e);
    }
    case 2: {
        struct generated regex =
            plain_text(PICK("'^[0-9]+$'", "'^ *[-+]?[0-9]*\\.?[0-9]+$'", "'a|b'", "'^.$'",
                            "'(ab)+|^$'", "'[^a-z ]'", "'\\d{2,3}'", "'\\w\\W'", "'^\\s|\\S$'",
                            "'[]%-]'", "'x*'", "'.{3}'", "'^(a|b)?(a|b)?$'", "'[[:upper:]_]'",
                            "'\xC3\xA9|[\xE2\x82\xAC-\xF0\x9F\x98\x80]'"),
                       LEVEL_PRIMARY);
        return chance(70) ? COMBINE(LEVEL_CONCATENATION, "%s ~ %s", s, regex)
                          : COMBINE(LEVEL_CONCATENATION, "%s !~ %s", s, regex);
    }
    default:
        break;
    }
    return COMBINE(LEVEL_RANGE, "%s %s %s", s, like, p);
}

static inline struct generated generate_boolean_call(struct arena *arena, int depth)
{
    struct generated a, b;

    switch (below(7)) {
    case 0:
        return call_of_texts(arena, "starts_with", 2, depth);
    case 1:
        a = generate_cast_text(arena, depth);
        return COMBINE(LEVEL_CAST, "%s::boolean", a);
    case 2:
        a = generate_int4(arena, depth - 1, true);
        return COMBINE(LEVEL_PRIMARY, "CAST(%s AS bool)", a);
    case 3:
        a = generate_time_difference(arena, depth);
        b = generate_interval();
        return chance(50) ? COMBINE(LEVEL_COMPARISON, "%s > %s", a, b)
                          : COMBINE(LEVEL_RANGE, "%s BETWEEN %s AND interval '2 months'", a, b);
    default:
        return generate_match(arena, depth);
    }
}

static inline struct generated generate_choice(struct arena *arena, enum value_type type, int depth)
{
    struct generated a = generate(arena, type, depth - 1, true);
    struct generated b = generate(arena, type, depth - 1, false);
    struct generated c = generate(arena, generate_companion(type), depth - 1, false);

    if (type == VALUE_INTEGER || chance(40)) {
        /* of integers and decimals the result would be a decimal */
        return chance(50)   ? COMBINE(LEVEL_PRIMARY, "LEAST(%s, %s)", a, b)
               : chance(50) ? COMBINE(LEVEL_PRIMARY, "greatest(%s, %s)", a, b)
                            : COMBINE(LEVEL_PRIMARY, "NULLIF(%s, %s)", a, b);
    }
    return chance(30)   ? COMBINE(LEVEL_PRIMARY, "NULLIF(%s, %s)", a, c)
           : chance(50) ? COMBINE(LEVEL_PRIMARY, "LEAST(%s, %s, %s)", a, b, c)
                        : COMBINE(LEVEL_PRIMARY, "GREATEST(%s, %s, %s)", a, c, b);
}

static inline struct generated generate_call(struct arena *arena, enum value_type type, int depth)
{
    if (chance(10)) {
        return generate_choice(arena, type, depth);
    }
    switch (type) {
    case VALUE_STRING:
        return generate_string_call(arena, depth);
    case VALUE_INTEGER:
        return generate_integer_call(arena, depth);
    case VALUE_DECIMAL:
        return generate_decimal_call(arena, depth);
    case VALUE_BOOLEAN:
        return generate_boolean_call(arena, depth);
    default:
        return generate_time_call(arena, depth);
    }
}

#endif
