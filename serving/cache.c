/* Kept answers and receipts: see serving/cache.h.
 *
 * Invariant: `bytes` is the sum over the entries in the table, each of which is in the list and in
 * one bucket; what has been taken out but is still borrowed is no longer counted, and is freed by
 * its last borrower. There are at most as many such as threads. The lock guards all of it and every
 * user count. Where memory is short nothing is kept. */
#include "serving/cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum {
    RECEIPT_SLOTS = 256, /* a slot for each version and layer; two that share one take turns */
    BYTES_FOR_BUCKET = 4096,
    BUCKETS_MIN = 64,
    BUCKETS_MAX = 1 << 18,
    LARGEST_SHARE = 4, /* one answer may fill a quarter */
};

struct entry {
    struct kept_answer answer; /* first: cache_release_answer casts back */
    struct entry *next;        /* of the bucket */
    struct entry *newer, *older;
    uint64_t hash;
    size_t bytes;
    int users; /* the table is one */
    size_t key_length;
    char key[];
};

struct receipt_box {
    struct kept_receipt kept; /* first: cache_release_receipt casts back */
    int32_t version;
    enum query_layer layer;
    int users;
    int64_t confirmed_us;                /* when it was last asked for, and held; under the lock */
    struct query_partition partitions[]; /* the topic's name follows */
};

struct cache {
    pthread_mutex_t lock;
    size_t limit_bytes;
    size_t bytes;
    size_t answers;
    uint64_t hits, misses, evictions;
    atomic_uint_fast64_t held, moved;
    atomic_bool is_moving; /* as was found last */
    struct entry *newest, *oldest;
    struct receipt_box *receipts[RECEIPT_SLOTS];
    size_t bucket_count; /* a power of two */
    struct entry *buckets[];
};

struct cache *cache_create(size_t limit_bytes)
{
    size_t buckets = BUCKETS_MIN;
    while (buckets < BUCKETS_MAX && buckets < limit_bytes / BYTES_FOR_BUCKET)
        buckets *= 2;
    struct cache *cache = calloc(1, sizeof *cache + buckets * sizeof cache->buckets[0]);
    if (cache == NULL)
        return NULL;
    cache->limit_bytes = limit_bytes;
    cache->bucket_count = buckets;
    pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

bool cache_is_on(const struct cache *cache)
{
    return cache->limit_bytes > 0;
}

static void free_answer(const struct kept_answer *answer)
{
    free(answer->head);
    free(answer->tail);
    free(answer->page);
}

/* One user less. Under the lock. */
static void leave(struct entry *entry)
{
    if (--entry->users > 0)
        return;
    free_answer(&entry->answer);
    free(entry);
}

static void leave_receipt(struct receipt_box *box)
{
    if (box != NULL && --box->users == 0)
        free(box);
}

/* --- the list and the table; all under the lock --- */

static void unlink_entry(struct cache *cache, struct entry *entry)
{
    *(entry->newer != NULL ? &entry->newer->older : &cache->newest) = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &cache->oldest) = entry->newer;
}

static void link_newest(struct cache *cache, struct entry *entry)
{
    entry->newer = NULL;
    entry->older = cache->newest;
    *(cache->newest != NULL ? &cache->newest->newer : &cache->oldest) = entry;
    cache->newest = entry;
}

static struct entry **find(struct cache *cache, const void *key, size_t key_length, uint64_t hash)
{
    struct entry **at = &cache->buckets[hash & (cache->bucket_count - 1)];
    while (*at != NULL && ((*at)->hash != hash || (*at)->key_length != key_length ||
                           memcmp((*at)->key, key, key_length) != 0))
        at = &(*at)->next;
    return at;
}

static void take_out(struct cache *cache, struct entry **at)
{
    struct entry *entry = *at;
    *at = entry->next;
    unlink_entry(cache, entry);
    cache->bytes -= entry->bytes;
    cache->answers--;
    leave(entry);
}

static void make_room(struct cache *cache, size_t bytes)
{
    while (cache->bytes + bytes > cache->limit_bytes) {
        struct entry *oldest = cache->oldest;
        take_out(cache, find(cache, oldest->key, oldest->key_length, oldest->hash));
        cache->evictions++;
    }
}

/* --- answers --- */

struct kept_answer *cache_find(struct cache *cache, const void *key, size_t key_length)
{
    if (!cache_is_on(cache))
        return NULL;
    uint64_t hash = XXH3_64bits(key, key_length);
    pthread_mutex_lock(&cache->lock);
    struct entry *entry = *find(cache, key, key_length, hash);
    if (entry != NULL) {
        entry->users++;
        unlink_entry(cache, entry);
        link_newest(cache, entry);
    }
    pthread_mutex_unlock(&cache->lock);
    return entry != NULL ? &entry->answer : NULL;
}

void cache_release_answer(struct cache *cache, struct kept_answer *answer)
{
    if (answer == NULL)
        return;
    pthread_mutex_lock(&cache->lock);
    leave((struct entry *)answer);
    pthread_mutex_unlock(&cache->lock);
}

void cache_keep(struct cache *cache, const void *key, size_t key_length,
                const struct kept_answer *answer)
{
    size_t bytes = sizeof(struct entry) + key_length + answer->head_length + answer->tail_length +
                   (answer->page != NULL ? strlen(answer->page) : 0);
    struct entry *entry =
        bytes <= cache->limit_bytes / LARGEST_SHARE ? malloc(sizeof *entry + key_length) : NULL;
    if (entry == NULL) {
        free_answer(answer);
        return;
    }
    *entry = (struct entry){.answer = *answer,
                            .hash = XXH3_64bits(key, key_length),
                            .bytes = bytes,
                            .users = 1,
                            .key_length = key_length};
    memcpy(entry->key, key, key_length);
    pthread_mutex_lock(&cache->lock);
    struct entry **at = find(cache, key, key_length, entry->hash);
    if (*at != NULL)
        take_out(cache, at);
    make_room(cache, bytes);
    struct entry **bucket = &cache->buckets[entry->hash & (cache->bucket_count - 1)];
    entry->next = *bucket;
    *bucket = entry;
    link_newest(cache, entry);
    cache->bytes += bytes;
    cache->answers++;
    pthread_mutex_unlock(&cache->lock);
}

void cache_count(struct cache *cache, bool hit)
{
    pthread_mutex_lock(&cache->lock);
    if (hit)
        cache->hits++;
    else
        cache->misses++;
    pthread_mutex_unlock(&cache->lock);
}

void cache_read_counts(struct cache *cache, struct cache_counts *out)
{
    pthread_mutex_lock(&cache->lock);
    *out = (struct cache_counts){.hits = cache->hits,
                                 .misses = cache->misses,
                                 .evictions = cache->evictions,
                                 .held = atomic_load(&cache->held),
                                 .moved = atomic_load(&cache->moved),
                                 .answers = cache->answers,
                                 .bytes = cache->bytes,
                                 .limit_bytes = cache->limit_bytes};
    pthread_mutex_unlock(&cache->lock);
}

/* --- receipts --- */

static struct receipt_box **slot_of(struct cache *cache, int32_t version, enum query_layer layer)
{
    return &cache->receipts[((uint32_t)version * 3 + (uint32_t)layer) % RECEIPT_SLOTS];
}

struct kept_receipt *cache_find_receipt(struct cache *cache, int32_t version,
                                        enum query_layer layer, int64_t since_us)
{
    pthread_mutex_lock(&cache->lock);
    struct receipt_box *box = *slot_of(cache, version, layer);
    if (box != NULL && box->version == version && box->layer == layer &&
        box->confirmed_us >= since_us)
        box->users++;
    else
        box = NULL;
    pthread_mutex_unlock(&cache->lock);
    return box != NULL ? &box->kept : NULL;
}

void cache_release_receipt(struct cache *cache, struct kept_receipt *receipt)
{
    if (receipt == NULL)
        return;
    pthread_mutex_lock(&cache->lock);
    leave_receipt((struct receipt_box *)receipt);
    pthread_mutex_unlock(&cache->lock);
}

void cache_confirm_receipt(struct cache *cache, struct kept_receipt *receipt, int64_t asked_us)
{
    struct receipt_box *box = (struct receipt_box *)receipt;
    pthread_mutex_lock(&cache->lock);
    if (box->confirmed_us < asked_us)
        box->confirmed_us = asked_us;
    pthread_mutex_unlock(&cache->lock);
}

void cache_note_hold(struct cache *cache, bool held, bool was_asked)
{
    if (was_asked)
        atomic_fetch_add(held ? &cache->held : &cache->moved, 1);
    atomic_store(&cache->is_moving, !held);
}

bool cache_expects_hold(struct cache *cache)
{
    return !atomic_load(&cache->is_moving);
}

void cache_keep_receipt(struct cache *cache, int32_t version, enum query_layer layer,
                        const struct query_receipt *receipt, int64_t read_us)
{
    size_t count = receipt->partition_count;
    const char *topic = count > 0 ? receipt->partitions[0].topic : "";
    size_t bytes = count * sizeof receipt->partitions[0];
    size_t topic_bytes = strlen(topic) + 1;
    struct receipt_box *box = malloc(sizeof *box + bytes + topic_bytes);
    if (box == NULL)
        return;
    *box = (struct receipt_box){
        .kept = {.state = query_state_of(receipt), .read_us = read_us, .receipt = *receipt},
        .version = version,
        .layer = layer,
        .users = 1,
        .confirmed_us = read_us};
    char *own_topic = (char *)&box->partitions[count];
    memcpy(own_topic, topic, topic_bytes);
    for (size_t i = 0; i < count; i++) {
        box->partitions[i] = receipt->partitions[i];
        box->partitions[i].topic = own_topic;
    }
    box->kept.receipt.partitions = box->partitions;
    pthread_mutex_lock(&cache->lock);
    struct receipt_box **slot = slot_of(cache, version, layer);
    bool older = *slot != NULL && (*slot)->version == version && (*slot)->layer == layer &&
                 (*slot)->kept.read_us > read_us;
    struct receipt_box *gone = older ? box : *slot;
    if (!older)
        *slot = box;
    leave_receipt(gone);
    pthread_mutex_unlock(&cache->lock);
}

void cache_destroy(struct cache *cache)
{
    if (cache == NULL)
        return;
    for (struct entry *entry = cache->newest, *older; entry != NULL; entry = older) {
        older = entry->older;
        leave(entry);
    }
    for (size_t i = 0; i < RECEIPT_SLOTS; i++)
        leave_receipt(cache->receipts[i]);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}
