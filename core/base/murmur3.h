/* MurmurHash3, the variant x64_128 (Austin Appleby, 2011, public domain), of which the first 64
 * bits are the hash that the HyperLogLog storage format of Aggregate Knowledge is used with.
 *
 * Pure; any thread; the same on every machine. */
#ifndef DOVETAIL_MURMUR3_H
#define DOVETAIL_MURMUR3_H

#include <stddef.h>
#include <stdint.h>

/* The first 64 bits, with seed 0. */
uint64_t murmur3_hash64(const void *data, size_t length);

#endif
