/* Regular expressions without back-tracking: K. Thompson, "Regular Expression Search Algorithm",
 * CACM 11 (1968), as a list of instructions (R. Cox, "Regular Expression Matching: the Virtual
 * Machine Approach", 2009). All places in the pattern where a match could stand are kept at once,
 * so each character costs at most one step for each instruction.
 *
 * The syntax is that of PostgreSQL's documentation, 9.7.3. Compiled patterns are immutable; any
 * thread. */
#include "core/functions/regex.h"

#include <stdio.h>
#include <string.h>

#include "core/functions/characters.h"

enum { GROUP_DEPTH_MAX = 50, RANGE_MAX = 200, PARTS_MAX = 1000, LAST_CHARACTER = 0x10FFFF };

struct range {
    uint32_t low, high;
};

struct set {
    const struct range *ranges;
    size_t count;
    bool negated;
};

enum opcode {
    OP_SET,   /* one character of the set */
    OP_START, /* only at the string's start */
    OP_END,   /* only at its end */
    OP_SPLIT, /* go on at x and at y */
    OP_JUMP,  /* go on at x */
    OP_MATCH,
};

struct instruction {
    enum opcode op;
    size_t x, y;
    struct set set;
};

struct regex {
    struct instruction *code;
    size_t count;
};

/* --- the tree of a pattern --- */

enum part_kind { PART_SET, PART_START, PART_END, PART_SEQUENCE, PART_CHOICE, PART_REPEAT };

struct part {
    enum part_kind kind;
    struct set set;
    struct part *first;   /* of a sequence or choice; what is repeated */
    struct part *next;    /* its neighbour there */
    uint32_t least, most; /* repetitions; most is UINT32_MAX for any number */
};

struct compiler {
    const char *at, *end;
    struct arena *arena;
    struct error *error;
    struct instruction *code;
    size_t count, parts;
    unsigned depth;
};

static enum status refuse(struct compiler *compiler, const char *why)
{
    return error_set(compiler->error, STATUS_REJECT, "regular expression: %s", why);
}

static enum status new_part(struct compiler *compiler, enum part_kind kind, struct part **out)
{
    if (++compiler->parts > PARTS_MAX) {
        return refuse(compiler, "it is too long");
    }
    *out = arena_alloc(compiler->arena, sizeof **out);
    if (*out == NULL) {
        return error_no_memory(compiler->error);
    }
    **out = (struct part){.kind = kind};
    return STATUS_OK;
}

static bool at_end(const struct compiler *compiler)
{
    return compiler->at == compiler->end;
}

static bool skip(struct compiler *compiler, const char *text)
{
    size_t length = strlen(text);
    if ((size_t)(compiler->end - compiler->at) < length ||
        memcmp(compiler->at, text, length) != 0) {
        return false;
    }
    compiler->at += length;
    return true;
}

static uint32_t take(struct compiler *compiler)
{
    uint32_t character = character_decode(compiler->at);
    compiler->at += character_bytes(compiler->at);
    return character;
}

/* --- sets of characters --- */

struct ranges {
    struct range range[RANGE_MAX];
    size_t count;
};

static bool add_range(struct ranges *ranges, uint32_t low, uint32_t high)
{
    if (ranges->count == RANGE_MAX) {
        return false;
    }
    ranges->range[ranges->count++] = (struct range){low, high};
    return true;
}

static const struct {
    const char *name;
    struct range ranges[4];
    size_t count;
} classes[] = {
    {"alpha", {{'A', 'Z'}, {'a', 'z'}}, 2},
    {"digit", {{'0', '9'}}, 1},
    {"alnum", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}, 3},
    {"upper", {{'A', 'Z'}}, 1},
    {"lower", {{'a', 'z'}}, 1},
    {"space", {{'\t', '\r'}, {' ', ' '}}, 2},
    {"punct", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}, 4},
    {"xdigit", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}, 3},
    {"word", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}, {'_', '_'}}, 4},
};

static bool add_class(struct ranges *ranges, const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (strlen(classes[i].name) != length || memcmp(classes[i].name, name, length) != 0) {
            continue;
        }
        for (size_t k = 0; k < classes[i].count; k++) {
            if (!add_range(ranges, classes[i].ranges[k].low, classes[i].ranges[k].high)) {
                return false;
            }
        }
        return true;
    }
    return false;
}

/* What follows a backslash: d w s for a class, n r t for a character, punctuation for itself. */
static enum status read_escape(struct compiler *compiler, struct ranges *ranges, uint32_t *single)
{
    static const char controls[] = "n\nr\rt\tf\fv\v";
    *single = 0;

    if (at_end(compiler)) {
        return refuse(compiler, "it ends in \\");
    }
    uint32_t c = take(compiler);
    const char *class = c == 'd' ? "digit" : c == 'w' ? "word" : c == 's' ? "space" : NULL;
    if (class != NULL) {
        return add_class(ranges, class, strlen(class)) ? STATUS_OK
                                                       : refuse(compiler, "a set is too long");
    }
    for (size_t i = 0; controls[i] != '\0'; i += 2) {
        if (c == (uint32_t)controls[i]) {
            *single = (uint32_t)controls[i + 1];
        }
    }
    bool is_letter = c >= 0x80 || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    if (*single == 0 && is_letter) {
        return refuse(compiler, "of \\ and a letter or digit there are \\d \\w \\s \\D \\W \\S \\n "
                                "\\r \\t \\f \\v");
    }
    *single = *single == 0 ? c : *single;
    return STATUS_OK;
}

static enum status finish_set(struct compiler *compiler, const struct ranges *ranges, bool negated,
                              struct set *set)
{
    struct range *copy = arena_alloc(compiler->arena, (ranges->count + 1) * sizeof *copy);
    if (copy == NULL) {
        return error_no_memory(compiler->error);
    }
    memcpy(copy, ranges->range, ranges->count * sizeof *copy);
    *set = (struct set){.ranges = copy, .count = ranges->count, .negated = negated};
    return STATUS_OK;
}

/* One end of a range, or a class: *single is 0 then. */
static enum status read_set_member(struct compiler *compiler, struct ranges *ranges,
                                   uint32_t *single)
{
    *single = 0;
    if (skip(compiler, "[:")) {
        const char *name = compiler->at;
        while (!at_end(compiler) && *compiler->at != ':') {
            compiler->at++;
        }
        size_t length = (size_t)(compiler->at - name);
        bool is_word = length == 4 && memcmp(name, "word", 4) == 0; /* our own name for \w */
        if (!skip(compiler, ":]") || is_word || !add_class(ranges, name, length)) {
            return refuse(compiler, "of the classes there are alpha, digit, alnum, upper, lower, "
                                    "space, punct and xdigit");
        }
        return STATUS_OK;
    }
    if (skip(compiler, "[.") || skip(compiler, "[=")) {
        return refuse(compiler, "collating elements are not supported");
    }
    if (skip(compiler, "\\")) {
        return read_escape(compiler, ranges, single);
    }
    *single = take(compiler);
    return STATUS_OK;
}

/* Behind [ up to ]. */
static enum status read_set(struct compiler *compiler, struct set *set)
{
    struct ranges ranges = {.count = 0};
    bool negated = skip(compiler, "^");
    bool is_first = true;

    while (is_first || !skip(compiler, "]")) {
        uint32_t low, high;
        if (at_end(compiler)) {
            return refuse(compiler, "[ without ]");
        }
        if (*compiler->at == '-' && !is_first &&
            !(compiler->end - compiler->at > 1 && compiler->at[1] == ']')) {
            return refuse(compiler, "a - in a set stands between two characters, first or last");
        }
        is_first = false;
        enum status status = read_set_member(compiler, &ranges, &low);
        if (status != STATUS_OK) {
            return status;
        }
        high = low;
        bool is_range =
            compiler->end - compiler->at > 1 && compiler->at[0] == '-' && compiler->at[1] != ']';
        if (is_range) {
            compiler->at++;
            status = read_set_member(compiler, &ranges, &high);
            if (status != STATUS_OK) {
                return status;
            }
            if (low == 0 || high == 0 || low > high) {
                return refuse(compiler, "a range in a set goes from a character to a later one");
            }
        }
        if (low != 0 && !add_range(&ranges, low, high)) {
            return refuse(compiler, "a set is too long");
        }
    }
    return finish_set(compiler, &ranges, negated, set);
}

static enum status set_part(struct compiler *compiler, uint32_t low, uint32_t high,
                            struct part **out)
{
    struct ranges ranges = {.range = {{low, high}}, .count = 1};
    enum status status = new_part(compiler, PART_SET, out);
    return status == STATUS_OK ? finish_set(compiler, &ranges, false, &(*out)->set) : status;
}

/* --- parsing: choice of sequences of repeated atoms --- */

static enum status read_choice(struct compiler *compiler, struct part **out);

static enum status read_escaped_atom(struct compiler *compiler, struct part **out)
{
    struct ranges ranges = {.count = 0};
    uint32_t single;
    char letter = at_end(compiler) ? '\0' : *compiler->at;
    bool negated = letter == 'D' || letter == 'W' || letter == 'S';

    enum status status = new_part(compiler, PART_SET, out);
    if (status == STATUS_OK && negated) {
        compiler->at++;
        const char *class = letter == 'D' ? "digit" : letter == 'W' ? "word" : "space";
        (void)add_class(&ranges, class, strlen(class));
    } else if (status == STATUS_OK) {
        status = read_escape(compiler, &ranges, &single);
        if (status == STATUS_OK && single != 0) {
            (void)add_range(&ranges, single, single);
        }
    }
    return status == STATUS_OK ? finish_set(compiler, &ranges, negated, &(*out)->set) : status;
}

static enum status read_group(struct compiler *compiler, struct part **out)
{
    if (skip(compiler, "?") && !skip(compiler, ":")) {
        return refuse(compiler, "of (? there is (?: only");
    }
    if (++compiler->depth > GROUP_DEPTH_MAX) {
        return refuse(compiler, "groups are nested too deep");
    }
    enum status status = read_choice(compiler, out);
    compiler->depth--;
    if (status == STATUS_OK && !skip(compiler, ")")) {
        return refuse(compiler, "( without )");
    }
    return status;
}

static enum status read_atom(struct compiler *compiler, struct part **out)
{
    if (skip(compiler, "^")) {
        return new_part(compiler, PART_START, out);
    }
    if (skip(compiler, "$")) {
        return new_part(compiler, PART_END, out);
    }
    if (skip(compiler, "(")) {
        return read_group(compiler, out);
    }
    if (skip(compiler, ".")) {
        return set_part(compiler, 0, LAST_CHARACTER, out);
    }
    if (skip(compiler, "[")) {
        enum status status = new_part(compiler, PART_SET, out);
        return status == STATUS_OK ? read_set(compiler, &(*out)->set) : status;
    }
    if (skip(compiler, "\\")) {
        return read_escaped_atom(compiler, out);
    }
    if (strchr("*+?{", *compiler->at) != NULL) {
        return refuse(compiler, "a * + ? or { without something before it that it could repeat; "
                                "write \\ before it where it means itself");
    }
    uint32_t character = take(compiler);
    return set_part(compiler, character, character, out);
}

static bool read_number(struct compiler *compiler, uint32_t *out)
{
    const char *start = compiler->at;
    *out = 0;
    while (!at_end(compiler) && *compiler->at >= '0' && *compiler->at <= '9' && *out < 1000) {
        *out = *out * 10 + (uint32_t)(*compiler->at++ - '0');
    }
    return compiler->at != start && *out <= REGEX_REPEAT_MAX;
}

/* Behind an atom; *found is false where there is none. */
static enum status read_repeat(struct compiler *compiler, uint32_t *least, uint32_t *most,
                               bool *found)
{
    *least = 0;
    *most = UINT32_MAX;
    *found = true;
    if (skip(compiler, "*")) {
    } else if (skip(compiler, "+")) {
        *least = 1;
    } else if (skip(compiler, "?")) {
        *most = 1;
    } else if (skip(compiler, "{")) {
        bool good = read_number(compiler, least);
        *most = *least;
        if (good && skip(compiler, ",")) {
            *most = UINT32_MAX;
            good = (!at_end(compiler) && *compiler->at == '}') || read_number(compiler, most);
        }
        if (!good || !skip(compiler, "}") || *least > *most) {
            return refuse(compiler, "a repetition is {m}, {m,} or {m,n}, up to 255");
        }
    } else {
        *found = false;
        return STATUS_OK;
    }
    if (!at_end(compiler) && strchr("*+?{", *compiler->at) != NULL) {
        return refuse(compiler, "a repetition cannot be repeated, nor made non-greedy");
    }
    return STATUS_OK;
}

static enum status read_sequence(struct compiler *compiler, struct part **out)
{
    struct part **next;

    enum status status = new_part(compiler, PART_SEQUENCE, out);
    if (status != STATUS_OK) {
        return status;
    }
    next = &(*out)->first;
    while (!at_end(compiler) && *compiler->at != '|' && *compiler->at != ')') {
        struct part *atom = NULL, *repeat = NULL;
        uint32_t least, most;
        bool found;
        status = read_atom(compiler, &atom);
        status = status == STATUS_OK ? read_repeat(compiler, &least, &most, &found) : status;
        if (status != STATUS_OK) {
            return status;
        }
        if (found) {
            if (atom->kind == PART_START || atom->kind == PART_END) {
                return refuse(compiler, "^ and $ cannot be repeated");
            }
            status = new_part(compiler, PART_REPEAT, &repeat);
            if (status != STATUS_OK) {
                return status;
            }
            repeat->first = atom;
            repeat->least = least;
            repeat->most = most;
            atom = repeat;
        }
        *next = atom;
        next = &atom->next;
    }
    return STATUS_OK;
}

static enum status read_choice(struct compiler *compiler, struct part **out)
{
    enum status status = new_part(compiler, PART_CHOICE, out);
    struct part **next = status == STATUS_OK ? &(*out)->first : NULL;

    do {
        status = status == STATUS_OK ? read_sequence(compiler, next) : status;
        if (status != STATUS_OK) {
            return status;
        }
        next = &(*next)->next;
    } while (skip(compiler, "|"));
    return STATUS_OK;
}

/* --- instructions --- */

static enum status emit(struct compiler *compiler, struct instruction instruction, size_t *at)
{
    if (compiler->count == REGEX_INSTRUCTION_MAX) {
        return refuse(compiler, "it is too long, repetitions written out");
    }
    *at = compiler->count;
    compiler->code[compiler->count++] = instruction;
    return STATUS_OK;
}

static enum status emit_part(struct compiler *compiler, const struct part *part);

static enum status emit_choice(struct compiler *compiler, const struct part *part)
{
    size_t jumps[PARTS_MAX], count = 0, split = 0;
    enum status status = STATUS_OK;

    for (const struct part *one = part->first; status == STATUS_OK && one != NULL;
         one = one->next) {
        bool more = one->next != NULL;
        if (more) {
            status = emit(compiler, (struct instruction){.op = OP_SPLIT}, &split);
            compiler->code[split].x = compiler->count;
        }
        status = status == STATUS_OK ? emit_part(compiler, one) : status;
        if (status == STATUS_OK && more) {
            status = emit(compiler, (struct instruction){.op = OP_JUMP}, &jumps[count++]);
            compiler->code[split].y = compiler->count;
        }
    }
    for (size_t i = 0; i < count; i++) {
        compiler->code[jumps[i]].x = compiler->count;
    }
    return status;
}

static enum status emit_repeat(struct compiler *compiler, const struct part *part)
{
    enum status status = STATUS_OK;
    size_t at = 0, jump = 0, splits[REGEX_REPEAT_MAX], count = 0;

    for (uint32_t i = 0; status == STATUS_OK && i < part->least; i++) {
        status = emit_part(compiler, part->first);
    }
    if (part->most == UINT32_MAX && status == STATUS_OK) { /* split; part; jump to the split */
        status = emit(compiler, (struct instruction){.op = OP_SPLIT}, &at);
        compiler->code[at].x = at + 1;
        status = status == STATUS_OK ? emit_part(compiler, part->first) : status;
        status = status == STATUS_OK
                     ? emit(compiler, (struct instruction){.op = OP_JUMP, .x = at}, &jump)
                     : status;
        compiler->code[at].y = compiler->count;
        return status;
    }
    for (uint32_t i = part->least; status == STATUS_OK && i < part->most; i++) {
        status = emit(compiler, (struct instruction){.op = OP_SPLIT}, &splits[count]);
        if (status == STATUS_OK) {
            compiler->code[splits[count++]].x = compiler->count;
            status = emit_part(compiler, part->first);
        }
    }
    for (size_t i = 0; i < count; i++) {
        compiler->code[splits[i]].y = compiler->count;
    }
    return status;
}

static enum status emit_part(struct compiler *compiler, const struct part *part)
{
    size_t at;
    enum status status = STATUS_OK;

    switch (part->kind) {
    case PART_SET:
        return emit(compiler, (struct instruction){.op = OP_SET, .set = part->set}, &at);
    case PART_START:
        return emit(compiler, (struct instruction){.op = OP_START}, &at);
    case PART_END:
        return emit(compiler, (struct instruction){.op = OP_END}, &at);
    case PART_SEQUENCE:
        for (const struct part *one = part->first; status == STATUS_OK && one != NULL;
             one = one->next) {
            status = emit_part(compiler, one);
        }
        return status;
    case PART_CHOICE:
        return emit_choice(compiler, part);
    case PART_REPEAT:
        return emit_repeat(compiler, part);
    }
    return STATUS_OK;
}

enum status regex_compile(const char *pattern, size_t length, struct arena *arena,
                          const struct regex **out, struct error *error)
{
    struct compiler compiler = {
        .at = pattern, .end = pattern + length, .arena = arena, .error = error};
    struct part *tree = NULL;
    size_t at;

    compiler.code = arena_alloc(arena, REGEX_INSTRUCTION_MAX * sizeof *compiler.code);
    struct regex *regex = arena_alloc(arena, sizeof *regex);
    if (compiler.code == NULL || regex == NULL) {
        return error_no_memory(error);
    }
    enum status status = read_choice(&compiler, &tree);
    if (status == STATUS_OK && !at_end(&compiler)) {
        return refuse(&compiler, ") without (");
    }
    status = status == STATUS_OK ? emit_part(&compiler, tree) : status;
    status =
        status == STATUS_OK ? emit(&compiler, (struct instruction){.op = OP_MATCH}, &at) : status;
    *regex = (struct regex){.code = compiler.code, .count = compiler.count};
    *out = regex;
    return status;
}

/* --- searching --- */

struct states {
    size_t *at; /* instructions, each once */
    size_t count;
};

struct search {
    const struct regex *regex;
    size_t *stack;   /* of instructions to follow */
    size_t *entered; /* the step in which an instruction was last entered */
    size_t step;
    bool is_start, is_end, matched;
};

/* Adds an instruction and where it leads without a character. */
static void enter(struct search *search, struct states *states, size_t first)
{
    size_t depth = 0;

    search->stack[depth++] = first;
    while (depth > 0) {
        size_t at = search->stack[--depth];
        const struct instruction *instruction = &search->regex->code[at];
        if (search->entered[at] == search->step) {
            continue;
        }
        search->entered[at] = search->step;
        switch (instruction->op) {
        case OP_SET:
            states->at[states->count++] = at;
            break;
        case OP_START:
        case OP_END:
            if (instruction->op == OP_START ? search->is_start : search->is_end) {
                search->stack[depth++] = at + 1;
            }
            break;
        case OP_SPLIT:
            search->stack[depth++] = instruction->y;
            search->stack[depth++] = instruction->x;
            break;
        case OP_JUMP:
            search->stack[depth++] = instruction->x;
            break;
        case OP_MATCH:
            search->matched = true;
            break;
        }
    }
}

static bool set_has(const struct set *set, uint32_t character)
{
    for (size_t i = 0; i < set->count; i++) {
        if (character >= set->ranges[i].low && character <= set->ranges[i].high) {
            return !set->negated;
        }
    }
    return set->negated;
}

enum status regex_search(const struct regex *regex, const char *string, size_t length,
                         struct arena *scratch, bool *found, struct error *error)
{
    /* An instruction is on the stack at most twice: each is followed once, and pushes two. */
    size_t *memory = arena_alloc(scratch, 6 * (regex->count + 1) * sizeof *memory);
    if (memory == NULL) {
        return error_no_memory(error);
    }
    struct states now = {.at = memory}, next = {.at = memory + regex->count};
    struct search search = {.regex = regex,
                            .entered = memory + 2 * regex->count,
                            .stack = memory + 3 * regex->count,
                            .is_start = true,
                            .is_end = length == 0,
                            .step = 1};
    memset(search.entered, 0, regex->count * sizeof *memory);
    enter(&search, &now, 0);
    for (size_t i = 0; i < length && !search.matched;) {
        uint32_t character = character_decode(string + i);
        i += character_bytes(string + i);
        search.step++;
        search.is_start = false;
        search.is_end = i == length;
        next.count = 0;
        for (size_t k = 0; k < now.count; k++) {
            if (set_has(&regex->code[now.at[k]].set, character)) {
                enter(&search, &next, now.at[k] + 1);
            }
        }
        enter(&search, &next, 0); /* a match may begin anywhere */
        struct states swapped = now;
        now = next;
        next = swapped;
    }
    *found = search.matched;
    return STATUS_OK;
}

enum status regex_evaluate(const struct expression *node, struct evaluation *in, struct value *out)
{
    struct value string;
    bool found;

    enum status status = expression_run(node->children[0], in, &string);
    if (status != STATUS_OK) {
        return status;
    }
    if (string.is_null) {
        *out = value_null(VALUE_BOOLEAN);
        return STATUS_OK;
    }
    status = regex_search(node->match.regex, string.string.data, string.string.length, in->scratch,
                          &found, in->error);
    *out = value_boolean(found != node->match.negated);
    return status;
}
