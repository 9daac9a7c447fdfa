/* Characters of UTF-8 that is known to be valid: code points, as PostgreSQL counts them. */
#ifndef DOVETAIL_CHARACTERS_H
#define DOVETAIL_CHARACTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline bool character_continues(char byte)
{
    return ((unsigned char)byte & 0xC0) == 0x80;
}

/* Bytes of the character at `at`. */
static inline size_t character_bytes(const char *at)
{
    unsigned char first = (unsigned char)*at;
    return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

static inline size_t characters_count(const char *data, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        count += !character_continues(data[i]);
    }
    return count;
}

/* Where the first `count` characters end, or the string does. */
static inline size_t characters_end(const char *data, size_t length, size_t count)
{
    size_t at = 0;
    while (at < length && count > 0) {
        at += character_bytes(data + at);
        count--;
    }
    return at;
}

/* The code point at `at`. */
static inline uint32_t character_decode(const char *at)
{
    const unsigned char *byte = (const unsigned char *)at;
    switch (character_bytes(at)) {
    case 1:
        return byte[0];
    case 2:
        return (byte[0] & 0x1Fu) << 6 | (byte[1] & 0x3Fu);
    case 3:
        return (byte[0] & 0x0Fu) << 12 | (byte[1] & 0x3Fu) << 6 | (byte[2] & 0x3Fu);
    default:
        return (byte[0] & 0x07u) << 18 | (byte[1] & 0x3Fu) << 12 | (byte[2] & 0x3Fu) << 6 |
               (byte[3] & 0x3Fu);
    }
}

/* True where the character at `at` is one of `set`; *index counts those before it. */
static inline bool character_is_among(const char *at, const char *set, size_t set_length,
                                      size_t *index)
{
    size_t bytes = character_bytes(at);

    *index = 0;
    for (size_t i = 0; i < set_length; i += character_bytes(set + i), ++*index) {
        if (character_bytes(set + i) == bytes && memcmp(set + i, at, bytes) == 0) {
            return true;
        }
    }
    return false;
}

#endif
