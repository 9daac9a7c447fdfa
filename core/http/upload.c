/* Bodies: see core/http/upload.h.
 *
 * Invariant: what is held of a body is taken from the budget before it is allocated. A body that is
 * refused in the middle is read on, because a response cannot come before its request has; what
 * comes is dropped, and not more than EXCESS of it is waited for. */
#include "core/http/upload.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTES = 4096, EXCESS = 4 };

bool upload_budget_take(struct upload_budget *budget, size_t bytes)
{
    size_t used = atomic_load(&budget->used_bytes);
    do {
        if (bytes > budget->limit_bytes || used > budget->limit_bytes - bytes)
            return false;
    } while (!atomic_compare_exchange_weak(&budget->used_bytes, &used, used + bytes));
    return true;
}

void upload_budget_give_back(struct upload_budget *budget, size_t bytes)
{
    atomic_fetch_sub(&budget->used_bytes, bytes);
}

static bool grow(struct upload *upload, size_t wanted)
{
    size_t capacity = upload->capacity == 0 ? FIRST_BYTES : upload->capacity;
    while (capacity < wanted)
        capacity *= 2;
    if (capacity == upload->capacity)
        return true;
    if (!upload_budget_take(upload->budget, capacity - upload->capacity))
        return false;
    char *grown = realloc(upload->data, capacity + 1);
    if (grown == NULL) {
        upload_budget_give_back(upload->budget, capacity - upload->capacity);
        return false;
    }
    upload->data = grown;
    upload->capacity = capacity;
    return true;
}

static void give_up(struct upload *upload, int fault)
{
    upload_release(upload);
    upload->fault = fault;
}

bool upload_add(struct upload *upload, const char *bytes, size_t count)
{
    upload->come += count;
    if (upload->fault == 0 && upload->come > upload->max)
        give_up(upload, 413);
    if (upload->fault == 0 && !grow(upload, upload->length + count))
        give_up(upload, 503);
    if (upload->fault != 0)
        return upload->come / EXCESS <= upload->max;
    memcpy(upload->data + upload->length, bytes, count);
    upload->length += count;
    upload->data[upload->length] = '\0';
    return true;
}

void upload_release(struct upload *upload)
{
    if (upload->capacity > 0)
        upload_budget_give_back(upload->budget, upload->capacity);
    free(upload->data);
    upload->data = NULL;
    upload->length = 0;
    upload->capacity = 0;
}
