/* Files that no manifest row names: see core/archive/archive.h. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/archive/archive.h"
#include "core/archive/archive_format.h"

static bool is_listed(const char *name, const struct archive_segment *segments, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *slash = strrchr(segments[i].file, '/');
        if (strcmp(slash == NULL ? segments[i].file : slash + 1, name) == 0)
            return true;
    }
    return false;
}

enum status archive_remove_unlisted(const char *directory, const char *topic, int32_t partition,
                                    const struct archive_segment *segments, size_t count,
                                    struct error *error)
{
    char path[ARCHIVE_PATH_BYTES];
    if (!archive_topic_is_valid(topic))
        return error_set(error, STATUS_REJECT, "archive: \"%s\" is not a topic's name", topic);
    int length = snprintf(path, sizeof path, "%s/%s/%" PRId32, directory, topic, partition);
    if (length < 0 || (size_t)length >= sizeof path)
        return error_set(error, STATUS_REJECT, "archive: the path is too long");
    DIR *folder = opendir(path);
    if (folder == NULL && errno == ENOENT)
        return STATUS_OK;
    if (folder == NULL)
        return error_set(error, STATUS_RETRY, "archive: %s: %s", path, strerror(errno));
    enum status status = STATUS_OK;
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            is_listed(entry->d_name, segments, count))
            continue;
        if (unlinkat(dirfd(folder), entry->d_name, 0) != 0 && errno != ENOENT)
            status = error_set(error, STATUS_RETRY, "archive: %s/%s: %s", path, entry->d_name,
                               strerror(errno));
    }
    closedir(folder);
    return status;
}

/* --- finding them --- */

struct finder {
    const char *topic;
    const struct archive_segment *segments;
    size_t segment_count;
    struct archive_unlisted *found;
    size_t count;
};

static enum status path_failure(struct error *error, const char *path)
{
    return error_set(error, STATUS_RETRY, "archive: %s: %s", path, strerror(errno));
}

/* "<start>-<end>.jsonl.zst", offsets as 20 digits. */
static bool read_name(const char *name, int64_t *start, int64_t *end)
{
    static const char digits[] = "0123456789";
    enum { DIGITS = 20 };
    if (strspn(name, digits) != DIGITS || name[DIGITS] != '-' ||
        strspn(name + DIGITS + 1, digits) != DIGITS ||
        strcmp(name + 2 * DIGITS + 1, ".jsonl.zst") != 0)
        return false;
    errno = 0;
    *start = strtoll(name, NULL, 10);
    *end = strtoll(name + DIGITS + 1, NULL, 10);
    return errno == 0 && *start < *end;
}

/* Also of another partition's: what counts is the whole name in the manifest. */
static bool is_segment(const struct finder *finder, const char *file)
{
    for (size_t i = 0; i < finder->segment_count; i++)
        if (strcmp(finder->segments[i].file, file) == 0)
            return true;
    return false;
}

static enum status add_found(struct finder *finder, int32_t partition, const char *name,
                             struct error *error)
{
    struct archive_unlisted entry = {.partition = partition};
    if (!read_name(name, &entry.start_offset, &entry.end_offset))
        return STATUS_OK;
    if (asprintf(&entry.file, "%s/%" PRId32 "/%s", finder->topic, partition, name) < 0)
        return error_no_memory(error);
    if (is_segment(finder, entry.file)) {
        free(entry.file);
        return STATUS_OK;
    }
    struct archive_unlisted *grown = reallocarray(finder->found, finder->count + 1, sizeof *grown);
    if (grown == NULL) {
        free(entry.file);
        return error_no_memory(error);
    }
    finder->found = grown;
    finder->found[finder->count++] = entry;
    return STATUS_OK;
}

static enum status find_in_folder(struct finder *finder, const char *path, int32_t partition,
                                  struct error *error)
{
    DIR *folder = opendir(path);
    if (folder == NULL)
        return errno == ENOENT || errno == ENOTDIR ? STATUS_OK : path_failure(error, path);
    enum status status = STATUS_OK;
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(folder)) != NULL;)
        status = add_found(finder, partition, entry->d_name, error);
    closedir(folder);
    return status;
}

/* The name of a partition's folder, as a writer makes it. */
static bool read_partition(const char *name, int32_t *partition)
{
    char again[16];
    long number = strtol(name, NULL, 10);
    if (number < ARCHIVE_IMPORTED || number > INT32_MAX)
        return false;
    *partition = (int32_t)number;
    snprintf(again, sizeof again, "%" PRId32, *partition);
    return strcmp(again, name) == 0;
}

static int compare_unlisted(const void *a, const void *b)
{
    const struct archive_unlisted *left = a;
    const struct archive_unlisted *right = b;
    if (left->partition != right->partition)
        return left->partition < right->partition ? -1 : 1;
    if (left->start_offset != right->start_offset)
        return left->start_offset < right->start_offset ? -1 : 1;
    return (left->end_offset > right->end_offset) - (left->end_offset < right->end_offset);
}

enum status archive_find_unlisted(const char *directory, const char *topic,
                                  const struct archive_segment *segments, size_t count,
                                  struct archive_unlisted **out, size_t *out_count,
                                  struct error *error)
{
    struct finder finder = {.topic = topic, .segments = segments, .segment_count = count};
    char path[ARCHIVE_PATH_BYTES];
    *out = NULL;
    *out_count = 0;
    if (!archive_topic_is_valid(topic))
        return error_set(error, STATUS_REJECT, "archive: \"%s\" is not a topic's name", topic);
    int length = snprintf(path, sizeof path, "%s/%s", directory, topic);
    if (length < 0 || (size_t)length >= sizeof path)
        return error_set(error, STATUS_REJECT, "archive: the path is too long");
    DIR *folders = opendir(path);
    if (folders == NULL) /* a file of that name is no topic, and holds no segment */
        return errno == ENOENT || errno == ENOTDIR ? STATUS_OK : path_failure(error, path);
    enum status status = STATUS_OK;
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(folders)) != NULL;) {
        char folder[ARCHIVE_PATH_BYTES + 300];
        int32_t partition;
        snprintf(folder, sizeof folder, "%s/%s", path, entry->d_name);
        if (read_partition(entry->d_name, &partition))
            status = find_in_folder(&finder, folder, partition, error);
    }
    closedir(folders);
    if (status != STATUS_OK) {
        archive_unlisted_free(finder.found, finder.count);
        return status;
    }
    if (finder.count > 0)
        qsort(finder.found, finder.count, sizeof *finder.found, compare_unlisted);
    *out = finder.found;
    *out_count = finder.count;
    return STATUS_OK;
}

void archive_unlisted_free(struct archive_unlisted *unlisted, size_t count)
{
    for (size_t i = 0; unlisted != NULL && i < count; i++)
        free(unlisted[i].file);
    free(unlisted);
}

enum status archive_remove_file(const char *directory, const char *file, struct error *error)
{
    char path[ARCHIVE_PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/%s", directory, file);
    if (length < 0 || (size_t)length >= sizeof path)
        return error_set(error, STATUS_REJECT, "archive: the path is too long");
    return unlink(path) == 0 || errno == ENOENT ? STATUS_OK : path_failure(error, path);
}
