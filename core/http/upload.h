/* Bodies of requests that are wanted, as they come: bounded each, and all together. */
#ifndef DOVETAIL_UPLOAD_H
#define DOVETAIL_UPLOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* Memory of all bodies. Any thread. */
struct upload_budget {
    size_t limit_bytes;
    atomic_size_t used_bytes;
};

/* Takes that much, or nothing: false. */
bool upload_budget_take(struct upload_budget *budget, size_t bytes);
void upload_budget_give_back(struct upload_budget *budget, size_t bytes);

/* One body; belongs to one thread at a time. Begins zeroed but for max and budget. */
struct upload {
    size_t max; /* bytes that may come; 0: no body is wanted */
    struct upload_budget *budget;
    char *data; /* 0-terminated where there is any */
    size_t length;
    size_t capacity;
    size_t come; /* bytes, those that were not kept too */
    int fault;   /* 0; 413: longer than max; 503: there was no memory for it */
};

/* Keeps them, or notes why not. False: so many have come that nobody need wait for the end. */
bool upload_add(struct upload *upload, const char *bytes, size_t count);
void upload_release(struct upload *upload); /* its memory; nothing is left in it */

#endif
