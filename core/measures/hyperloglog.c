/* approx_count_distinct(x): HyperLogLog (Flajolet, Fusy, Gandouet, Meunier, 2007) with 2^14
 * registers of 5 bits: a standard error of 1.04 / sqrt(2^14) = 0.81 %, and exact up to 128
 * different hashes.
 *
 * State: struct sketch, a set of hashes, or once there are more than 128 the registers they give.
 * Monoid: union of sets; registers are the greatest rank seen, so max is associative, commutative
 * and idempotent. Which of the two it is depends on the number of hashes alone. In memory registers
 * have a byte each.
 *
 * Stored are the bytes of the HyperLogLog storage specification 1.0.0 of Aggregate Knowledge,
 * schema version 1, so that the PostgreSQL extension hll reads and unions them (b::hll), with its
 * parameters log2m 14, regwidth 5, expthresh 128, sparseon 1:
 *
 *   0x10 | type   0x8E   0x48   data
 *   1 EMPTY       none
 *   2 EXPLICIT    the hashes, ascending as signed numbers, 8 bytes each, big-endian
 *   3 SPARSE      index (14 bits) and rank (5 bits) of each register that is not 0, ascending;
 *                 where that takes fewer bits than FULL
 *   4 FULL        all registers, 5 bits each
 *
 * Wider registers would not do: of large sets with 6 bits the extension (2.17) estimates NaN.
 *
 * The hash is MurmurHash3 x64_128, as in hll_hash_text and hll_hash_bigint: of a string's bytes, an
 * integer's or a timestamp's (microseconds since 1970) 8 bytes little-endian, a boolean's one byte,
 * a trimmed decimal's text. Its low 14 bits are the register, the rank is the place of the lowest 1
 * in the rest, counted from 1 and at most 31; a rest of zeros leaves the register alone, as there.
 *
 * The estimate is Ertl's improved raw estimator (Otmar Ertl, New cardinality estimation algorithms
 * for HyperLogLog sketches, 2017), which needs no correction for few values, in integers of 2^-64,
 * each step rounded down: the same number on every machine and in SQL. Its correction for registers
 * that are full (rank 31) is left out: they are below 1 % of all up to 10^11 different values. */
#include <endian.h>
#include <string.h>

#include "core/measures/kinds.h"
#include "core/base/murmur3.h"

enum {
    LOG2M = 14,
    REGISTERS = 1 << LOG2M,
    WIDTH = 5,
    RANK_MAX = (1 << WIDTH) - 1,
    HASHES_MAX = 128,
    HASHES_AT_FIRST = 4,
    PAIR_BITS = LOG2M + WIDTH,
    HEADER_BYTES = 3,
    FULL_BYTES = REGISTERS * WIDTH / 8,
    PAIRS_MAX = (REGISTERS * WIDTH - 1) / PAIR_BITS, /* of SPARSE */
};

enum type { EMPTY = 1, EXPLICIT, SPARSE, FULL };

static const uint8_t parameter_bytes[] = {(WIDTH - 1) << 5 | LOG2M,
                                          1 << 6 | 8 /* 2^(8-1) hashes */};

struct sketch {
    size_t count; /* of hashes */
    size_t capacity;
    int64_t *hashes;    /* ascending */
    uint8_t *registers; /* NULL: the hashes are the state */
};

static enum status hll_bind(struct measure *measure, struct error *error)
{
    if (measure->argument_count != 1) {
        return error_set(error, STATUS_REJECT, "wants one argument");
    }
    measure->result_type = VALUE_INTEGER;
    measure->state_bytes = sizeof(struct sketch);
    measure->columns[0] = (struct measure_column){.oid = PG_OID_BYTEA, .sql_type = "bytea"};
    measure->column_count = 1;
    measure->oracle_text =
        measure_text(measure, "pg_temp.verify_hll(array_agg(DISTINCT ({1}\n)::%s) {filter})",
                     value_type_sql(measure->argument_type));
    return measure->oracle_text == NULL ? error_no_memory(error) : STATUS_OK;
}

static void hll_init(const struct measure *measure, void *state)
{
    (void)measure;
    *(struct sketch *)state = (struct sketch){0};
}

/* --- the set --- */

static void set_register(struct sketch *sketch, size_t index, uint8_t rank)
{
    if (sketch->registers[index] < rank) {
        sketch->registers[index] = rank;
    }
}

static void count_hash(struct sketch *sketch, int64_t hash)
{
    uint64_t rest = (uint64_t)hash >> LOG2M;
    int rank = rest == 0 ? 0 : __builtin_ctzll(rest) + 1;
    set_register(sketch, (uint64_t)hash % REGISTERS, (uint8_t)(rank > RANK_MAX ? RANK_MAX : rank));
}

static enum status use_registers(struct sketch *sketch, struct arena *arena, struct error *error)
{
    if (sketch->registers != NULL) {
        return STATUS_OK;
    }
    sketch->registers = arena_alloc(arena, REGISTERS);
    if (sketch->registers == NULL) {
        return error_no_memory(error);
    }
    memset(sketch->registers, 0, REGISTERS);
    for (size_t i = 0; i < sketch->count; i++) {
        count_hash(sketch, sketch->hashes[i]);
    }
    sketch->count = 0;
    return STATUS_OK;
}

static enum status make_room(struct sketch *sketch, struct arena *arena, struct error *error)
{
    if (sketch->count < sketch->capacity) {
        return STATUS_OK;
    }
    size_t capacity = sketch->capacity == 0 ? HASHES_AT_FIRST : sketch->capacity * 2;
    int64_t *hashes = arena_alloc(arena, capacity * sizeof *hashes);
    if (hashes == NULL) {
        return error_no_memory(error);
    }
    if (sketch->count > 0) {
        memcpy(hashes, sketch->hashes, sketch->count * sizeof *hashes);
    }
    sketch->hashes = hashes;
    sketch->capacity = capacity;
    return STATUS_OK;
}

/* Where the hash is, or belongs. */
static size_t find(const struct sketch *sketch, int64_t hash)
{
    size_t low = 0, high = sketch->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (sketch->hashes[middle] < hash) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static enum status add(struct sketch *sketch, int64_t hash, struct arena *arena,
                       struct error *error)
{
    if (sketch->registers != NULL) {
        count_hash(sketch, hash);
        return STATUS_OK;
    }
    size_t at = find(sketch, hash);
    if (at < sketch->count && sketch->hashes[at] == hash) {
        return STATUS_OK;
    }
    if (sketch->count == HASHES_MAX) {
        enum status promoted = use_registers(sketch, arena, error);
        return promoted == STATUS_OK ? add(sketch, hash, arena, error) : promoted;
    }
    enum status status = make_room(sketch, arena, error);
    if (status == STATUS_OK) {
        memmove(&sketch->hashes[at + 1], &sketch->hashes[at],
                (sketch->count - at) * sizeof *sketch->hashes);
        sketch->hashes[at] = hash;
        sketch->count++;
    }
    return status;
}

static int64_t hash_of(const struct value *value)
{
    char text[DECIMAL_TEXT_SIZE];
    struct decimal trimmed;
    uint64_t little;
    uint8_t byte;

    switch (value->type) {
    case VALUE_STRING:
        return (int64_t)murmur3_hash64(value->string.data, value->string.length);
    case VALUE_DECIMAL:
        trimmed = decimal_trim(&value->decimal);
        return (int64_t)murmur3_hash64(text, decimal_format(&trimmed, text, sizeof text));
    case VALUE_BOOLEAN:
        byte = value->boolean ? 1 : 0;
        return (int64_t)murmur3_hash64(&byte, 1);
    default:
        little = htole64(
            (uint64_t)(value->type == VALUE_TIMESTAMP ? value->timestamp_us : value->integer));
        return (int64_t)murmur3_hash64(&little, sizeof little);
    }
}

static enum status hll_fold(const struct measure *measure, void *state,
                            const struct value *arguments, const struct measure_origin *origin,
                            struct arena *arena, struct error *error)
{
    (void)measure, (void)origin;
    return arguments[0].is_null ? STATUS_OK : add(state, hash_of(&arguments[0]), arena, error);
}

static enum status hll_merge(const struct measure *measure, void *into, const void *from,
                             struct arena *arena, struct error *error)
{
    const struct sketch *other = from;
    enum status status = STATUS_OK;

    (void)measure;
    for (size_t i = 0; i < other->count && status == STATUS_OK; i++) {
        status = add(into, other->hashes[i], arena, error);
    }
    if (status == STATUS_OK && other->registers != NULL) {
        status = use_registers(into, arena, error);
        for (size_t i = 0; i < REGISTERS && status == STATUS_OK; i++) {
            set_register(into, i, other->registers[i]);
        }
    }
    return status;
}

/* --- stored bytes --- */

/* Packs numbers of some bits, the high ones first. */
struct bits {
    uint8_t *next;
    uint64_t held;
    int count; /* bits in `held`, below 8 between two calls */
};

static void put_bits(struct bits *bits, uint32_t number, int width)
{
    bits->held = bits->held << width | number;
    for (bits->count += width; bits->count >= 8; bits->count -= 8) {
        *bits->next++ = (uint8_t)(bits->held >> (bits->count - 8));
    }
}

static size_t registers_used(const struct sketch *sketch)
{
    size_t used = 0;

    for (size_t i = 0; i < REGISTERS; i++) {
        used += sketch->registers[i] != 0;
    }
    return used;
}

static size_t encode_registers(const struct sketch *sketch, uint8_t *out)
{
    bool sparse = registers_used(sketch) <= PAIRS_MAX;
    struct bits bits = {.next = out + HEADER_BYTES};

    out[0] = 0x10 | (sparse ? SPARSE : FULL);
    for (uint32_t i = 0; i < REGISTERS; i++) {
        if (!sparse) {
            put_bits(&bits, sketch->registers[i], WIDTH);
        } else if (sketch->registers[i] != 0) {
            put_bits(&bits, i << WIDTH | sketch->registers[i], PAIR_BITS);
        }
    }
    if (bits.count > 0) {
        put_bits(&bits, 0, 8 - bits.count);
    }
    return (size_t)(bits.next - out);
}

static size_t encode_hashes(const struct sketch *sketch, uint8_t *out)
{
    out[0] = 0x10 | (sketch->count == 0 ? EMPTY : EXPLICIT);
    for (size_t i = 0; i < sketch->count; i++) {
        uint64_t network = htobe64((uint64_t)sketch->hashes[i]);
        memcpy(out + HEADER_BYTES + i * sizeof network, &network, sizeof network);
    }
    return HEADER_BYTES + sketch->count * sizeof(uint64_t);
}

static enum status hll_encode(const struct measure *measure, const void *state,
                              struct pgbinary_writer *writer, struct error *error)
{
    const struct sketch *sketch = state;
    uint8_t bytes[HEADER_BYTES + FULL_BYTES];

    (void)measure, (void)error;
    memcpy(bytes + 1, parameter_bytes, sizeof parameter_bytes);
    pgbinary_put_bytes(writer, bytes,
                       sketch->registers != NULL ? encode_registers(sketch, bytes)
                                                 : encode_hashes(sketch, bytes));
    return STATUS_OK;
}

static enum status damaged(struct error *error)
{
    return error_set(error, STATUS_FATAL, "stored state: not a HyperLogLog that Dovetail writes");
}

static enum status decode_hashes(struct sketch *sketch, const uint8_t *data, size_t length,
                                 struct arena *arena, struct error *error)
{
    size_t count = length / sizeof(uint64_t);

    if (length % sizeof(uint64_t) != 0 || count == 0 || count > HASHES_MAX) {
        return damaged(error);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t network;
        memcpy(&network, data + i * sizeof network, sizeof network);
        int64_t hash = (int64_t)be64toh(network);
        if (i > 0 && hash <= sketch->hashes[i - 1]) {
            return damaged(error);
        }
        enum status status = add(sketch, hash, arena, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* `width` bits that begin at bit `at`; they are inside. */
static uint32_t get_bits(const uint8_t *data, size_t at, int width)
{
    uint32_t number = 0;

    for (size_t i = at; i < at + (size_t)width; i++) {
        number = number << 1 | ((uint32_t)data[i / 8] >> (7 - i % 8) & 1);
    }
    return number;
}

static enum status decode_sparse(struct sketch *sketch, const uint8_t *data, size_t length,
                                 struct error *error)
{
    size_t count = length * 8 / PAIR_BITS, bits = count * PAIR_BITS;
    uint32_t next = 0;

    if (count > PAIRS_MAX || (bits + 7) / 8 != length ||
        get_bits(data, bits, (int)(length * 8 - bits)) != 0) {
        return damaged(error);
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t pair = get_bits(data, i * PAIR_BITS, PAIR_BITS);
        uint32_t index = pair >> WIDTH, rank = pair & RANK_MAX;
        if (index < next || rank == 0) {
            return damaged(error);
        }
        sketch->registers[index] = (uint8_t)rank;
        next = index + 1;
    }
    return STATUS_OK;
}

static enum status decode_full(struct sketch *sketch, const uint8_t *data, size_t length,
                               struct error *error)
{
    if (length != FULL_BYTES) {
        return damaged(error);
    }
    for (size_t i = 0; i < REGISTERS; i += 8, data += WIDTH) { /* 8 registers in 5 bytes */
        uint64_t eight = 0;
        for (size_t byte = 0; byte < WIDTH; byte++) {
            eight = eight << 8 | data[byte];
        }
        for (size_t r = 0; r < 8; r++) {
            sketch->registers[i + r] = eight >> WIDTH * (7 - r) & RANK_MAX;
        }
    }
    return registers_used(sketch) > PAIRS_MAX ? STATUS_OK : damaged(error);
}

static enum status hll_decode(const struct measure *measure, void *state,
                              const struct pgbinary_field *fields, struct arena *arena,
                              struct error *error)
{
    const uint8_t *bytes = fields[0].data, *data;
    struct sketch *sketch = state;

    (void)measure;
    if (bytes == NULL || fields[0].length < HEADER_BYTES ||
        memcmp(bytes + 1, parameter_bytes, sizeof parameter_bytes) != 0) {
        return damaged(error);
    }
    size_t length = fields[0].length - HEADER_BYTES;
    data = bytes + HEADER_BYTES;
    if (bytes[0] == (0x10 | EMPTY)) {
        return length == 0 ? STATUS_OK : damaged(error);
    }
    if (bytes[0] == (0x10 | EXPLICIT)) {
        return decode_hashes(sketch, data, length, arena, error);
    }
    if (bytes[0] != (0x10 | SPARSE) && bytes[0] != (0x10 | FULL)) {
        return damaged(error);
    }
    enum status status = use_registers(sketch, arena, error);
    if (status != STATUS_OK) {
        return status;
    }
    return bytes[0] == (0x10 | SPARSE) ? decode_sparse(sketch, data, length, error)
                                       : decode_full(sketch, data, length, error);
}

/* --- the estimate --- */

/* sigma(x) = x + sum over k >= 1 of x^(2^k) 2^(k-1), with x = empty / m below 1, in units of 2^-64.
 */
static uint128 sigma(uint64_t empty)
{
    uint64_t power = empty << (64 - LOG2M);
    uint128 sum = power;

    for (int k = 0; power != 0; k++) {
        power = (uint64_t)((uint128)power * power >> 64);
        sum += (uint128)power << k;
    }
    return sum;
}

/* alpha m^2 / (sum over registers that are not 0 of 2^-rank + m sigma(empty / m)), alpha = 1 / (2
 * ln 2) in units of 2^-64; the sum, too. */
static int64_t estimate(const uint8_t *registers)
{
    static const uint64_t alpha = 13306513097844322492u;
    uint128 sum = 0;
    uint64_t empty = 0;

    for (size_t i = 0; i < REGISTERS; i++) {
        if (registers[i] == 0) {
            empty++;
        } else {
            sum += (uint128)1 << (64 - registers[i]);
        }
    }
    if (empty == REGISTERS) {
        return 0;
    }
    sum += sigma(empty) << LOG2M;
    uint128 count = (((uint128)alpha << (2 * LOG2M + 1)) + sum) / (2 * sum); /* half up */
    return count > INT64_MAX ? INT64_MAX : (int64_t)count;
}

static enum status hll_finish(const struct measure *measure, const void *state, struct arena *arena,
                              struct value *out, const char **wide_text, struct error *error)
{
    const struct sketch *sketch = state;

    (void)measure, (void)arena, (void)error;
    *wide_text = NULL;
    *out = value_integer(sketch->registers != NULL ? estimate(sketch->registers)
                                                   : (int64_t)sketch->count);
    return STATUS_OK;
}

static const char *hll_sql(const struct measure *measure)
{
    (void)measure;
    return "dovetail_internal.hll_cardinality(array_agg({}))";
}

static const char *hll_oracle_sql(const struct measure *measure)
{
    return measure->oracle_text;
}

const struct measure_kind measure_approx_count_distinct = {
    .name = "approx_count_distinct",
    .help = "approx_count_distinct(x): how many different values, with a standard error of 0.81 % "
            "(HyperLogLog); exact up to 128",
    .bind = hll_bind,
    .init = hll_init,
    .fold = hll_fold,
    .merge = hll_merge,
    .encode = hll_encode,
    .decode = hll_decode,
    .finish = hll_finish,
    .sql = hll_sql,
    .oracle_sql = hll_oracle_sql,
};
