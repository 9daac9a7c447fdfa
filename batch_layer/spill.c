/* Runs of rows on disk: see spill.h.
 *
 * A row is a struct header, the key's bytes and the fields' bytes, in this machine's order: nobody
 * else reads them. A file holds any number of runs, one behind the other, and is only appended to;
 * a run that is not needed any more becomes a hole.
 * A run's checksum is XXH3 over all its bytes, computed again while it is read. */
#include "batch_layer/spill.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/program/program.h"

static const char name_prefix[] = "dovetail-spill-";

struct header {
    int64_t window_start_us;
    int64_t id;
    uint32_t key_length;
    uint32_t length;
};

_Static_assert(sizeof(struct header) + ROW_KEY_MAX < SPILL_BUFFER_BYTES, "a key is in the buffer");

struct spill {
    char *directory;
    size_t memory_bytes;
    atomic_bool made; /* the directory, by us */
    atomic_llong files;
    atomic_llong bytes;
    atomic_llong runs;
};

struct spill_file {
    struct spill *spill;
    int fd;
    int64_t length;
    char *buffer;
    size_t filled;
    XXH3_state_t *hash; /* of the run that is being written */
    int64_t begun;
};

struct spill_reader {
    struct spill_run run;
    int64_t at; /* of the file, behind what is in the buffer */
    char *buffer;
    size_t next;
    size_t filled;
    XXH3_state_t *hash;
    struct header header;
    bool has_row; /* the header's key and fields are next */
};

static enum status trouble(const struct spill *spill, int number, struct error *error)
{
    return error_set(error, STATUS_FATAL, "batch.spill: %s: %s", spill->directory,
                     strerror(number));
}

/* --- the directory --- */

/* Only what has our name; whoever holds such a file open loses nothing. */
static enum status remove_left(const struct spill *spill, struct error *error)
{
    DIR *folder = opendir(spill->directory);
    if (folder == NULL)
        return errno == ENOENT ? STATUS_OK : trouble(spill, errno, error);
    enum status status = STATUS_OK;
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(folder)) != NULL;)
        if (strncmp(entry->d_name, name_prefix, sizeof name_prefix - 1) == 0 &&
            unlinkat(dirfd(folder), entry->d_name, 0) != 0 && errno != ENOENT)
            status = trouble(spill, errno, error);
    closedir(folder);
    return status;
}

enum status spill_create(const char *directory, int64_t memory_bytes, struct spill **out,
                         struct error *error)
{
    struct spill *spill = calloc(1, sizeof *spill);
    *out = NULL;
    if (spill == NULL)
        return error_no_memory(error);
    spill->memory_bytes = (size_t)memory_bytes;
    spill->directory = strdup(directory);
    enum status status = spill->directory == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK)
        status = remove_left(spill, error);
    if (status != STATUS_OK) {
        spill_destroy(spill);
        return status;
    }
    *out = spill;
    return STATUS_OK;
}

void spill_destroy(struct spill *spill)
{
    if (spill == NULL)
        return;
    if (atomic_load(&spill->made))
        rmdir(spill->directory); /* an empty directory is as good as none */
    free(spill->directory);
    free(spill);
}

size_t spill_memory(const struct spill *spill)
{
    return spill->memory_bytes;
}

struct spill_counts spill_counts(const struct spill *spill)
{
    return (struct spill_counts){.bytes = atomic_load(&spill->bytes),
                                 .runs = atomic_load(&spill->runs)};
}

static enum status make_directory(struct spill *spill, struct error *error)
{
    if (mkdir(spill->directory, 0700) == 0)
        atomic_store(&spill->made, true);
    else if (errno != EEXIST)
        return trouble(spill, errno, error);
    return STATUS_OK;
}

/* --- writing --- */

/* Another run with this directory may have removed the name first. */
static enum status open_file(struct spill_file *file, struct error *error)
{
    struct spill *spill = file->spill;
    char *path = NULL;
    if (asprintf(&path, "%s/%s%ld-%lld", spill->directory, name_prefix, (long)getpid(),
                 (long long)atomic_fetch_add(&spill->files, 1)) < 0)
        return error_no_memory(error);
    enum status status = STATUS_OK;
    file->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file->fd < 0 || (unlink(path) != 0 && errno != ENOENT))
        status = trouble(spill, errno, error);
    free(path);
    return status;
}

enum status spill_file_create(struct spill *spill, struct spill_file **out, struct error *error)
{
    struct spill_file *file = calloc(1, sizeof *file);
    *out = NULL;
    if (file == NULL)
        return error_no_memory(error);
    file->spill = spill;
    file->fd = -1;
    file->buffer = malloc(SPILL_BUFFER_BYTES);
    file->hash = XXH3_createState();
    enum status status =
        file->buffer == NULL || file->hash == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK)
        status = make_directory(spill, error);
    if (status == STATUS_OK)
        status = open_file(file, error);
    if (status != STATUS_OK) {
        spill_file_destroy(file);
        return status;
    }
    *out = file;
    return STATUS_OK;
}

void spill_file_destroy(struct spill_file *file)
{
    if (file == NULL)
        return;
    if (file->fd >= 0)
        close(file->fd);
    free(file->buffer);
    XXH3_freeState(file->hash);
    free(file);
}

static enum status write_all(struct spill_file *file, const char *data, size_t length,
                             struct error *error)
{
    if (program_stopping())
        return error_set(error, STATUS_RETRY, "stopped");
    XXH3_64bits_update(file->hash, data, length);
    while (length > 0) {
        ssize_t written = write(file->fd, data, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return trouble(file->spill, written < 0 ? errno : ENOSPC, error);
        data += written;
        length -= (size_t)written;
        file->length += written;
        atomic_fetch_add(&file->spill->bytes, written);
    }
    return STATUS_OK;
}

static enum status flush(struct spill_file *file, struct error *error)
{
    size_t length = file->filled;
    file->filled = 0;
    return write_all(file, file->buffer, length, error);
}

static enum status put(struct spill_file *file, const void *data, size_t length,
                       struct error *error)
{
    enum status status = STATUS_OK;
    if (length > SPILL_BUFFER_BYTES - file->filled)
        status = flush(file, error);
    if (status == STATUS_OK && length > SPILL_BUFFER_BYTES)
        return write_all(file, data, length, error);
    if (status != STATUS_OK || length == 0)
        return status;
    memcpy(file->buffer + file->filled, data, length);
    file->filled += length;
    return STATUS_OK;
}

enum status spill_begin(struct spill_file *file, struct error *error)
{
    file->filled = 0;
    file->begun = file->length;
    if (XXH3_64bits_reset(file->hash) != XXH_OK)
        return error_no_memory(error);
    return STATUS_OK;
}

enum status spill_add(struct spill_file *file, const struct row *row, struct error *error)
{
    struct header header = {.window_start_us = row->window_start_us,
                            .id = row->id,
                            .key_length = (uint32_t)row->key_length,
                            .length = (uint32_t)row->length};
    if (row->key_length > ROW_KEY_MAX || row->length > UINT32_MAX)
        return error_set(error, STATUS_FATAL, "batch.spill: a row of %zu bytes", row->length);
    enum status status = put(file, &header, sizeof header, error);
    if (status == STATUS_OK)
        status = put(file, row->key, row->key_length, error);
    if (status == STATUS_OK)
        status = put(file, row->fields, row->length, error);
    return status;
}

enum status spill_end(struct spill_file *file, struct spill_run *out, struct error *error)
{
    enum status status = flush(file, error);
    if (status != STATUS_OK)
        return status;
    *out = (struct spill_run){.file = file,
                              .begin = file->begun,
                              .end = file->length,
                              .checksum = XXH3_64bits_digest(file->hash)};
    atomic_fetch_add(&file->spill->runs, 1);
    return STATUS_OK;
}

enum status spill_run_free(const struct spill_run *run, struct error *error)
{
    const int how = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (run->begin == run->end)
        return STATUS_OK;
    while (fallocate(run->file->fd, how, run->begin, run->end - run->begin) != 0)
        if (errno == EOPNOTSUPP || errno == ENOSYS)
            return STATUS_OK; /* then with the file */
        else if (errno != EINTR)
            return trouble(run->file->spill, errno, error);
    return STATUS_OK;
}

/* --- reading --- */

enum status spill_reader_open(const struct spill_run *run, struct spill_reader **out,
                              struct error *error)
{
    struct spill_reader *reader = calloc(1, sizeof *reader);
    *out = NULL;
    if (reader == NULL)
        return error_no_memory(error);
    reader->run = *run;
    reader->at = run->begin;
    reader->buffer = malloc(SPILL_BUFFER_BYTES);
    reader->hash = XXH3_createState();
    if (reader->buffer == NULL || reader->hash == NULL ||
        XXH3_64bits_reset(reader->hash) != XXH_OK) {
        spill_reader_close(reader);
        return error_no_memory(error);
    }
    *out = reader;
    return STATUS_OK;
}

void spill_reader_close(struct spill_reader *reader)
{
    if (reader == NULL)
        return;
    free(reader->buffer);
    XXH3_freeState(reader->hash);
    free(reader);
}

static enum status damaged(const struct spill_reader *reader, struct error *error)
{
    return error_set(error, STATUS_FATAL,
                     "batch.spill: %s: what is read is not what was written: is the disk sound?",
                     reader->run.file->spill->directory);
}

/* `length` bytes of the run that follow. */
static enum status read_all(struct spill_reader *reader, char *data, size_t length,
                            struct error *error)
{
    if (program_stopping())
        return error_set(error, STATUS_RETRY, "stopped");
    for (size_t done = 0; done < length;) {
        ssize_t got =
            pread(reader->run.file->fd, data + done, length - done, reader->at + (int64_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return trouble(reader->run.file->spill, errno, error);
        if (got == 0)
            return damaged(reader, error);
        done += (size_t)got;
    }
    reader->at += (int64_t)length;
    XXH3_64bits_update(reader->hash, data, length);
    return STATUS_OK;
}

/* Has at least `wanted` bytes in the buffer, which is as large. */
static enum status fill(struct spill_reader *reader, size_t wanted, struct error *error)
{
    size_t there = reader->filled - reader->next;
    if (there >= wanted)
        return STATUS_OK;
    int64_t left = reader->run.end - reader->at;
    if (left < (int64_t)(wanted - there))
        return damaged(reader, error);
    memmove(reader->buffer, reader->buffer + reader->next, there);
    reader->next = 0;
    reader->filled = there;
    size_t room = SPILL_BUFFER_BYTES - there;
    size_t length = left < (int64_t)room ? (size_t)left : room;
    enum status status = read_all(reader, reader->buffer + there, length, error);
    if (status == STATUS_OK)
        reader->filled += length;
    return status;
}

/* The row that nobody wanted the fields of, too: the checksum is of all bytes. */
static enum status skip_row(struct spill_reader *reader, struct error *error)
{
    size_t left = reader->header.key_length + (size_t)reader->header.length;
    enum status status = STATUS_OK;
    while (reader->has_row && status == STATUS_OK && left > 0) {
        size_t piece = left < SPILL_BUFFER_BYTES ? left : SPILL_BUFFER_BYTES;
        status = fill(reader, piece, error);
        reader->next += status == STATUS_OK ? piece : 0;
        left -= piece;
    }
    reader->has_row = false;
    return status;
}

enum status spill_reader_next(struct spill_reader *reader, struct row *row, bool *end,
                              struct error *error)
{
    struct header *header = &reader->header;
    enum status status = skip_row(reader, error);
    *end = status == STATUS_OK && reader->next == reader->filled && reader->at == reader->run.end;
    if (*end)
        return XXH3_64bits_digest(reader->hash) == reader->run.checksum ? STATUS_OK
                                                                        : damaged(reader, error);
    if (status == STATUS_OK)
        status = fill(reader, sizeof *header, error);
    if (status != STATUS_OK)
        return status;
    memcpy(header, reader->buffer + reader->next, sizeof *header);
    reader->next += sizeof *header;
    if (header->key_length > ROW_KEY_MAX)
        return damaged(reader, error);
    status = fill(reader, header->key_length, error);
    reader->has_row = status == STATUS_OK;
    *row = (struct row){.window_start_us = header->window_start_us,
                        .id = header->id,
                        .key = (unsigned char *)reader->buffer + reader->next,
                        .key_length = header->key_length,
                        .length = header->length};
    return status;
}

enum status spill_reader_fields(struct spill_reader *reader, struct pgbinary_writer *room,
                                struct row *row, struct error *error)
{
    size_t key_length = reader->header.key_length;
    size_t length = reader->header.length;
    enum status status;
    if (key_length + length <= SPILL_BUFFER_BYTES) {
        status = fill(reader, key_length + length, error);
        row->key = (unsigned char *)reader->buffer + reader->next;
        row->fields = (uint8_t *)reader->buffer + reader->next + key_length;
        return status;
    }
    /* What is there stays where it is, the key at its front; the rest is read behind a copy. */
    size_t there = reader->filled - reader->next - key_length;
    if ((int64_t)(length - there) > reader->run.end - reader->at)
        return damaged(reader, error);
    pgbinary_writer_clear(room);
    pgbinary_put_fields(room, reader->buffer + reader->next + key_length, there);
    char *rest = pgbinary_put_room(room, length - there);
    status = rest == NULL ? error_no_memory(error) : read_all(reader, rest, length - there, error);
    row->key = (unsigned char *)reader->buffer + reader->next;
    row->fields = (uint8_t *)room->data;
    reader->filled = reader->next + key_length;
    reader->header.length = 0; /* of the row only its key is in the buffer */
    return status;
}
