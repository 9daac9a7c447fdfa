/* MurmurHash3 x64_128, written from its description: see murmur3.h. */
#include "core/base/murmur3.h"

#include <endian.h>
#include <string.h>

static const uint64_t c1 = 0x87C37B91114253D5u, c2 = 0x4CF5AD432745937Fu;

static uint64_t rotate_left(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static uint64_t mix_first(uint64_t k)
{
    return rotate_left(k * c1, 31) * c2;
}

static uint64_t mix_second(uint64_t k)
{
    return rotate_left(k * c2, 33) * c1;
}

/* Every bit of the input changes every bit of the result. */
static uint64_t finish(uint64_t h)
{
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCDu;
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53u;
    return h ^ h >> 33;
}

static uint64_t load(const uint8_t *bytes)
{
    uint64_t little;
    memcpy(&little, bytes, sizeof little);
    return le64toh(little);
}

uint64_t murmur3_hash64(const void *data, size_t length)
{
    const uint8_t *next = data;
    uint64_t h1 = 0, h2 = 0;
    uint8_t rest[16] = {0};

    for (size_t left = length; left >= 16; left -= 16, next += 16) {
        h1 = (rotate_left(h1 ^ mix_first(load(next)), 27) + h2) * 5 + 0x52DCE729;
        h2 = (rotate_left(h2 ^ mix_second(load(next + 8)), 31) + h1) * 5 + 0x38495AB5;
    }
    if (length % 16 != 0) { /* zeros behind the end mix to nothing */
        memcpy(rest, next, length % 16);
        h1 ^= mix_first(load(rest));
        h2 ^= mix_second(load(rest + 8));
    }
    h1 ^= length;
    h2 ^= length;
    h1 += h2;
    h2 += h1;
    return finish(h1) + finish(h2);
}
