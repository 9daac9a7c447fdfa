/* Functions of strings: characters are Unicode code points, letters those of ASCII, as PostgreSQL
 * has it for UTF-8 and the collation "C". Any thread. */
#include <string.h>

#include "core/functions/characters.h"
#include "core/functions/conversion.h"
#include "core/functions/functions.h"

/* A part of a string that somebody else keeps: fields, constants and scratch outlive the result. */
static enum status part(const struct value *whole, size_t start, size_t end, struct value *out)
{
    *out = value_string(whole->string.data + start, end - start);
    return STATUS_OK;
}

static void append(char **at, const char *data, size_t length)
{
    if (length != 0) {
        memcpy(*at, data, length);
        *at += length;
    }
}

static size_t count_of(const struct value *string)
{
    return characters_count(string->string.data, string->string.length);
}

/* --- letters --- */

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static char to_lower(char c)
{
    return is_upper(c) ? (char)(c + ('a' - 'A')) : c;
}

static char to_upper(char c)
{
    return is_lower(c) ? (char)(c - ('a' - 'A')) : c;
}

enum status function_lower(const struct value *string, struct evaluation *in, struct value *out)
{
    char *data;
    enum status status = function_new_string(in, string->string.length, &data, out);
    for (size_t i = 0; status == STATUS_OK && i < string->string.length; i++) {
        data[i] = to_lower(string->string.data[i]);
    }
    return status;
}

static enum status lower(const struct expression *node, const struct value *arguments,
                         struct evaluation *in, struct value *out)
{
    (void)node;
    return function_lower(&arguments[0], in, out);
}

static enum status upper(const struct expression *node, const struct value *arguments,
                         struct evaluation *in, struct value *out)
{
    char *data;
    (void)node;
    enum status status = function_new_string(in, arguments[0].string.length, &data, out);
    for (size_t i = 0; status == STATUS_OK && i < arguments[0].string.length; i++) {
        data[i] = to_upper(arguments[0].string.data[i]);
    }
    return status;
}

static enum status initcap(const struct expression *node, const struct value *arguments,
                           struct evaluation *in, struct value *out)
{
    char *data;
    bool in_word = false;
    (void)node;
    enum status status = function_new_string(in, arguments[0].string.length, &data, out);
    for (size_t i = 0; status == STATUS_OK && i < arguments[0].string.length; i++) {
        char c = arguments[0].string.data[i];
        data[i] = in_word ? to_lower(c) : to_upper(c);
        in_word = is_lower(c) || is_upper(c) || (c >= '0' && c <= '9');
    }
    return status;
}

/* --- measuring --- */

static enum status length(const struct expression *node, const struct value *arguments,
                          struct evaluation *in, struct value *out)
{
    (void)node, (void)in;
    *out = value_integer((int64_t)count_of(&arguments[0]));
    return STATUS_OK;
}

static enum status octet_length(const struct expression *node, const struct value *arguments,
                                struct evaluation *in, struct value *out)
{
    (void)node, (void)in;
    *out = value_integer((int64_t)arguments[0].string.length);
    return STATUS_OK;
}

static enum status ascii(const struct expression *node, const struct value *arguments,
                         struct evaluation *in, struct value *out)
{
    (void)node, (void)in;
    *out = value_integer(
        arguments[0].string.length == 0 ? 0 : character_decode(arguments[0].string.data));
    return STATUS_OK;
}

static enum status chr(const struct expression *node, const struct value *arguments,
                       struct evaluation *in, struct value *out)
{
    int64_t code = arguments[0].integer;
    char *data;

    (void)node;
    if (code < 0) {
        return expression_fail(in, "22023", "chr: the character number must be positive");
    }
    if (code == 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
        return expression_fail(in, "54000", "chr: %d is no character", (int)code);
    }
    uint32_t c = (uint32_t)code;
    size_t bytes = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    enum status status = function_new_string(in, bytes, &data, out);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = bytes; i-- > 1; c >>= 6) {
        data[i] = (char)(0x80 | (c & 0x3F));
    }
    data[0] = (char)(bytes == 1 ? c : (0xF00u >> bytes & 0xFFu) | c);
    return STATUS_OK;
}

/* --- parts --- */

/* substr(s, from[, count]) */
static enum status substr(const struct expression *node, const struct value *arguments,
                          struct evaluation *in, struct value *out)
{
    const struct value *string = &arguments[0];
    int64_t from = arguments[1].integer, end = INT64_MAX; /* characters from 1, end exclusive */

    if (node->child_count == 3) {
        if (arguments[2].integer < 0) {
            return expression_fail(in, "22011", "negative substring length not allowed");
        }
        end = from + arguments[2].integer;
    }
    from = from < 1 ? 1 : from;
    if (end <= from) {
        return part(string, 0, 0, out);
    }
    size_t start = characters_end(string->string.data, string->string.length, (size_t)(from - 1));
    size_t bytes = characters_end(string->string.data + start, string->string.length - start,
                                  (size_t)(end - from));
    return part(string, start, start + bytes, out);
}

/* Where the first n characters end; of a negative n, where all but the last -n do. */
static size_t split_at(const struct value *string, int64_t n)
{
    int64_t count = n >= 0 ? n : (int64_t)count_of(string) + n;
    return count <= 0 ? 0
                      : characters_end(string->string.data, string->string.length, (size_t)count);
}

static enum status left(const struct expression *node, const struct value *arguments,
                        struct evaluation *in, struct value *out)
{
    (void)node, (void)in;
    return part(&arguments[0], 0, split_at(&arguments[0], arguments[1].integer), out);
}

/* The last n characters are all but the first count - n. */
static enum status right(const struct expression *node, const struct value *arguments,
                         struct evaluation *in, struct value *out)
{
    int64_t n = arguments[1].integer;
    int64_t skipped = n < 0 ? -n : (int64_t)count_of(&arguments[0]) - n;
    (void)node, (void)in;
    size_t start = skipped <= 0 ? 0 : split_at(&arguments[0], skipped);
    return part(&arguments[0], start, arguments[0].string.length, out);
}

enum trimmed { TRIM_START = 1, TRIM_END = 2 };

static enum status trim(const struct expression *node, const struct value *arguments, unsigned ends,
                        struct value *out)
{
    const char *data = arguments[0].string.data;
    const char *set = node->child_count == 2 ? arguments[1].string.data : " ";
    size_t set_length = node->child_count == 2 ? arguments[1].string.length : 1;
    size_t start = 0, end = arguments[0].string.length, index;

    while ((ends & TRIM_START) != 0 && start < end &&
           character_is_among(data + start, set, set_length, &index)) {
        start += character_bytes(data + start);
    }
    while ((ends & TRIM_END) != 0 && start < end) {
        size_t last = end - 1;
        while (character_continues(data[last])) {
            last--;
        }
        if (!character_is_among(data + last, set, set_length, &index)) {
            break;
        }
        end = last;
    }
    return part(&arguments[0], start, end, out);
}

static enum status btrim(const struct expression *node, const struct value *arguments,
                         struct evaluation *in, struct value *out)
{
    (void)in;
    return trim(node, arguments, TRIM_START | TRIM_END, out);
}

static enum status ltrim(const struct expression *node, const struct value *arguments,
                         struct evaluation *in, struct value *out)
{
    (void)in;
    return trim(node, arguments, TRIM_START, out);
}

static enum status rtrim(const struct expression *node, const struct value *arguments,
                         struct evaluation *in, struct value *out)
{
    (void)in;
    return trim(node, arguments, TRIM_END, out);
}

/* --- searching --- */

/* Where `wanted`, which is not empty, is at or after byte `from`; the string's length if nowhere.
 * UTF-8 needs no look at characters: no character's bytes are a part of another's. */
static size_t find(const struct value *string, size_t from, const struct value *wanted)
{
    const char *data = string->string.data;
    size_t left_over = string->string.length - from;
    const char *at =
        left_over == 0 ? NULL
                       : memmem(data + from, left_over, wanted->string.data, wanted->string.length);
    return at == NULL ? string->string.length : (size_t)(at - data);
}

static enum status strpos(const struct expression *node, const struct value *arguments,
                          struct evaluation *in, struct value *out)
{
    const struct value *string = &arguments[0], *wanted = &arguments[1];
    size_t at = wanted->string.length == 0 ? 0 : find(string, 0, wanted);
    (void)node, (void)in;
    bool found = wanted->string.length == 0 || at < string->string.length;
    *out = value_integer(found ? (int64_t)characters_count(string->string.data, at) + 1 : 0);
    return STATUS_OK;
}

static enum status starts_with(const struct expression *node, const struct value *arguments,
                               struct evaluation *in, struct value *out)
{
    size_t bytes = arguments[1].string.length;
    (void)node, (void)in;
    *out = value_boolean(bytes == 0 ||
                         (bytes <= arguments[0].string.length &&
                          memcmp(arguments[0].string.data, arguments[1].string.data, bytes) == 0));
    return STATUS_OK;
}

static size_t occurrences(const struct value *string, const struct value *wanted)
{
    size_t count = 0;
    for (size_t at = find(string, 0, wanted); at < string->string.length;
         at = find(string, at + wanted->string.length, wanted)) {
        count++;
    }
    return count;
}

static enum status replace(const struct expression *node, const struct value *arguments,
                           struct evaluation *in, struct value *out)
{
    const struct value *string = &arguments[0], *wanted = &arguments[1], *by = &arguments[2];
    char *data;

    (void)node;
    if (wanted->string.length == 0 || string->string.length == 0) {
        *out = *string;
        return STATUS_OK;
    }
    /* Both factors are below 2^32 or so: strings come from records and literals. */
    size_t count = occurrences(string, wanted);
    enum status status = function_new_string(
        in, string->string.length - count * wanted->string.length + count * by->string.length,
        &data, out);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t from = 0;;) {
        size_t at = find(string, from, wanted);
        append(&data, string->string.data + from, at - from);
        if (at == string->string.length) {
            return STATUS_OK;
        }
        append(&data, by->string.data, by->string.length);
        from = at + wanted->string.length;
    }
}

static enum status split_part(const struct expression *node, const struct value *arguments,
                              struct evaluation *in, struct value *out)
{
    const struct value *string = &arguments[0], *delimiter = &arguments[1];
    int64_t n = arguments[2].integer;

    (void)node;
    if (n == 0) {
        return expression_fail(in, "22023", "split_part: the field position must not be zero");
    }
    if (delimiter->string.length == 0) {
        return part(string, 0, n == 1 || n == -1 ? string->string.length : 0, out);
    }
    if (n < 0) {
        n += (int64_t)occurrences(string, delimiter) + 2;
    }
    size_t from = 0;
    for (int64_t field = 1; n >= 1; field++) {
        size_t at = find(string, from, delimiter);
        if (field == n) {
            return part(string, from, at, out);
        }
        if (at == string->string.length) {
            break;
        }
        from = at + delimiter->string.length;
    }
    return part(string, 0, 0, out);
}

/* --- building --- */

/* What translate makes of the character at `at`: its bytes in *length, none where it goes. */
static const char *translated(const char *at, const struct value *from, const struct value *to,
                              size_t *length)
{
    size_t index;

    if (!character_is_among(at, from->string.data, from->string.length, &index)) {
        *length = character_bytes(at);
        return at;
    }
    size_t place = characters_end(to->string.data, to->string.length, index);
    *length = place < to->string.length ? character_bytes(to->string.data + place) : 0;
    return to->string.data + place;
}

/* The n-th character of the third string for the n-th of the second. */
static enum status translate(const struct expression *node, const struct value *arguments,
                             struct evaluation *in, struct value *out)
{
    const char *at = arguments[0].string.data, *end = at + arguments[0].string.length;
    size_t bytes = 0, length;
    char *data;

    (void)node;
    for (const char *c = at; c < end; c += character_bytes(c), bytes += length) {
        (void)translated(c, &arguments[1], &arguments[2], &length);
    }
    enum status status = function_new_string(in, bytes, &data, out);
    for (; status == STATUS_OK && at < end; at += character_bytes(at)) {
        const char *c = translated(at, &arguments[1], &arguments[2], &length);
        append(&data, c, length);
    }
    return status;
}

static enum status reverse(const struct expression *node, const struct value *arguments,
                           struct evaluation *in, struct value *out)
{
    const char *source = arguments[0].string.data;
    size_t bytes = arguments[0].string.length;
    char *data;

    (void)node;
    enum status status = function_new_string(in, bytes, &data, out);
    for (size_t i = 0; status == STATUS_OK && i < bytes; i += character_bytes(source + i)) {
        size_t step = character_bytes(source + i);
        memcpy(data + bytes - i - step, source + i, step);
    }
    return status;
}

static enum status repeat(const struct expression *node, const struct value *arguments,
                          struct evaluation *in, struct value *out)
{
    size_t bytes = arguments[0].string.length;
    size_t count = arguments[1].integer <= 0 || bytes == 0 ? 0 : (size_t)arguments[1].integer;
    char *data;

    (void)node;
    enum status status = function_new_string(in, bytes * count, &data, out);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        append(&data, arguments[0].string.data, bytes);
    }
    return status;
}

/* `count` characters of `fill`, again and again from its start. */
static size_t fill_bytes(const struct value *fill, size_t fill_count, size_t count)
{
    return count / fill_count * fill->string.length +
           characters_end(fill->string.data, fill->string.length, count % fill_count);
}

static void put_fill(char **at, const struct value *fill, size_t bytes)
{
    for (; bytes > fill->string.length; bytes -= fill->string.length) {
        append(at, fill->string.data, fill->string.length);
    }
    append(at, fill->string.data, bytes);
}

static enum status pad(const struct expression *node, const struct value *arguments,
                       struct evaluation *in, bool at_start, struct value *out)
{
    const struct value *string = &arguments[0], space = value_string(" ", 1);
    const struct value *fill = node->child_count == 3 ? &arguments[2] : &space;
    size_t wanted = arguments[1].integer <= 0 ? 0 : (size_t)arguments[1].integer;
    size_t count = count_of(string), fill_count = count_of(fill), filled = 0;
    char *data;

    if (count >= wanted || fill_count == 0) {
        return part(string, 0, characters_end(string->string.data, string->string.length, wanted),
                    out);
    }
    filled = fill_bytes(fill, fill_count, wanted - count);
    enum status status = function_new_string(in, string->string.length + filled, &data, out);
    if (status != STATUS_OK) {
        return status;
    }
    if (at_start) {
        put_fill(&data, fill, filled);
    }
    append(&data, string->string.data, string->string.length);
    if (!at_start) {
        put_fill(&data, fill, filled);
    }
    return STATUS_OK;
}

static enum status lpad(const struct expression *node, const struct value *arguments,
                        struct evaluation *in, struct value *out)
{
    return pad(node, arguments, in, true, out);
}

static enum status rpad(const struct expression *node, const struct value *arguments,
                        struct evaluation *in, struct value *out)
{
    return pad(node, arguments, in, false, out);
}

/* Appends `added` to *text, which grows in scratch. */
static enum status grow(struct value *text, const struct value *added, struct evaluation *in)
{
    const struct value before = *text;
    char *data;

    if (added->string.length == 0) {
        return STATUS_OK;
    }
    enum status status =
        function_new_string(in, before.string.length + added->string.length, &data, text);
    if (status == STATUS_OK) {
        append(&data, before.string.data, before.string.length);
        append(&data, added->string.data, added->string.length);
    }
    return status;
}

/* The children from `first` on that are not NULL, with `separator` between them. */
static enum status concatenate(const struct expression *node, size_t first,
                               const struct value *separator, struct evaluation *in,
                               struct value *out)
{
    struct value text = value_string("", 0), member;
    bool separated = false;
    enum status status = STATUS_OK;

    for (size_t i = first; status == STATUS_OK && i < node->child_count; i++) {
        status = expression_run(node->children[i], in, &member);
        if (status != STATUS_OK || member.is_null) {
            continue;
        }
        if (member.type == VALUE_BOOLEAN) {
            member = value_string(member.boolean ? "t" : "f", 1); /* here unlike in a cast */
        }
        status = conversion_text(&member, in, &member);
        if (status == STATUS_OK && separated) {
            status = grow(&text, separator, in);
        }
        status = status == STATUS_OK ? grow(&text, &member, in) : status;
        separated = true;
    }
    *out = text;
    return status;
}

static enum status concat(const struct expression *node, struct evaluation *in, struct value *out)
{
    const struct value nothing = value_string("", 0);
    return concatenate(node, 0, &nothing, in, out);
}

/* Evaluates its arguments where the separator is NULL, too. */
static enum status concat_ws(const struct expression *node, struct evaluation *in,
                             struct value *out)
{
    struct value separator;
    enum status status = expression_run(node->children[0], in, &separator);
    if (status != STATUS_OK) {
        return status;
    }
    bool is_null = separator.is_null;
    if (is_null) {
        separator = value_string("", 0);
    }
    status = concatenate(node, 1, &separator, in, out);
    if (status == STATUS_OK && is_null) {
        *out = value_null(VALUE_STRING);
    }
    return status;
}

const struct function string_functions[] = {
    {"length", "s", 'j', .evaluate = length, .form = "length(s)",
     .meaning = "number of characters; also `char_length`, `character_length`"},
    {"char_length", "s", 'j', .evaluate = length},
    {"character_length", "s", 'j', .evaluate = length},
    {"octet_length", "s", 'j', .evaluate = octet_length, .form = "octet_length(s)",
     .meaning = "number of bytes in UTF-8"},
    {"lower", "s", 's', .evaluate = lower, .form = "lower(s)",
     .meaning = "A to Z in small letters; other characters stay"},
    {"upper", "s", 's', .evaluate = upper, .form = "upper(s)",
     .meaning = "a to z in capital letters; other characters stay"},
    {"initcap", "s", 's', .evaluate = initcap, .form = "initcap(s)",
     .meaning = "words of ASCII letters and digits with a capital first letter"},
    {"TRIM", .result = 's', .form = "TRIM([BOTH \\| LEADING \\| TRAILING] [c] FROM s)",
     .meaning = "without the characters of `c`, or spaces, at both ends or one; also `TRIM(s)`"},
    {"btrim", "s", 's', .evaluate = btrim, .form = "btrim(s [, c])",
     .meaning = "as `TRIM`, and `ltrim` and `rtrim` for one end"},
    {"btrim", "ss", 's', .evaluate = btrim},
    {"ltrim", "s", 's', .evaluate = ltrim},
    {"ltrim", "ss", 's', .evaluate = ltrim},
    {"rtrim", "s", 's', .evaluate = rtrim},
    {"rtrim", "ss", 's', .evaluate = rtrim},
    {"SUBSTRING", .result = 's', .form = "SUBSTRING(s FROM n [FOR k])",
     .meaning = "`k` characters from the `n`th on; also `SUBSTRING(s FOR k)`"},
    {"substring", "sk", 's', .evaluate = substr},
    {"substring", "skk", 's', .evaluate = substr},
    {"substr", "sk", 's', .evaluate = substr, .form = "substr(s, n [, k])",
     .meaning = "the same; also `substring(s, n [, k])`"},
    {"substr", "skk", 's', .evaluate = substr},
    {"left", "sk", 's', .evaluate = left, .form = "left(s, n)",
     .meaning = "the first `n` characters, or all but the last `-n`"},
    {"right", "sk", 's', .evaluate = right, .form = "right(s, n)",
     .meaning = "the last `n` characters, or all but the first `-n`"},
    {"split_part", "ssk", 's', .evaluate = split_part, .form = "split_part(s, d, n)",
     .meaning = "the `n`th of the parts between the `d`s, from the end where `n` is negative"},
    {"POSITION", .result = 'j', .form = "POSITION(x IN s)",
     .meaning = "the place of the first `x` in `s`, from 1; 0 if there is none"},
    {"strpos", "ss", 'j', .evaluate = strpos, .form = "strpos(s, x)", .meaning = "the same"},
    {"starts_with", "ss", 'b', .evaluate = starts_with, .form = "starts_with(s, x)",
     .meaning = "whether `s` begins with `x`"},
    {"replace", "sss", 's', .evaluate = replace, .form = "replace(s, x, y)",
     .meaning = "each `x` by `y`"},
    {"translate", "sss", 's', .evaluate = translate, .form = "translate(s, x, y)",
     .meaning = "each character of `x` by the one at its place in `y`, or by none"},
    {"reverse", "s", 's', .evaluate = reverse, .form = "reverse(s)",
     .meaning = "the characters backwards"},
    {"repeat", "sk", 's', .evaluate = repeat, .form = "repeat(s, n)", .meaning = "`n` times `s`"},
    {"lpad", "sk", 's', .evaluate = lpad, .form = "lpad(s, n [, c])",
     .meaning = "filled at the start, or cut at the end, to `n` characters; `rpad` fills the end"},
    {"lpad", "sks", 's', .evaluate = lpad},
    {"rpad", "sk", 's', .evaluate = rpad},
    {"rpad", "sks", 's', .evaluate = rpad},
    {"concat", "a*", 's', .evaluate_whole = concat, .form = "concat(a, b, ...)",
     .meaning = "the texts of all that are not NULL, joined; true is `t` and false `f`"},
    {"concat_ws", "sa*", 's', .evaluate_whole = concat_ws, .form = "concat_ws(d, a, b, ...)",
     .meaning = "the same with `d` in between"},
    {"ascii", "s", 'j', .evaluate = ascii, .form = "ascii(s)",
     .meaning = "the code point of the first character; 0 of an empty string"},
    {"chr", "k", 's', .evaluate = chr, .form = "chr(n)",
     .meaning = "the character of a code point"},
    {"LIKE", "ss", 'b', .evaluate = function_like, .form = "s [NOT] LIKE p [ESCAPE c]",
     .meaning = "`%` stands for any characters, `_` for one; `c`, or `\\`, makes the next literal"},
    {"NOT LIKE", "ss", 'b', .evaluate = function_not_like},
    {"ESCAPE", "ss", 's', .evaluate = function_escape},
    {"ILIKE", "ss", 'b', .evaluate = function_ilike, .form = "s [NOT] ILIKE p [ESCAPE c]",
     .meaning = "the same, with A to Z as a to z"},
    {"NOT ILIKE", "ss", 'b', .evaluate = function_not_ilike},
    {"~", .result = 'b', .form = "s ~ 'pattern'",
     .meaning = "whether a regular expression matches somewhere in `s`; `!~` is its negation; see "
                "below"},
    {.name = NULL},
};
