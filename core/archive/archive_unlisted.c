/* Removing files that no manifest row names: see core/archive/archive.h. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
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
