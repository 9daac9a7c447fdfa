/* ${NAME} and ${file:/path} inside the strings of a configuration: see
 * core/program/config_options.h.
 *
 * Invariant: what a variable or a file holds is never part of a message, because it is a secret
 * more often than not; and it is not expanded again. Reads the environment and files, at start
 * only. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/program/config_options.h"

enum { SECRET_MAX_BYTES = 64 * 1024 };

/* Appends a file without the line feed at its end. */
static enum status append_file(FILE *out, const char *path, struct error *error)
{
    char *content = NULL;
    enum status status = STATUS_OK;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return error_set(error, STATUS_REJECT, "cannot read %s: %s", path, strerror(errno));
    content = malloc(SECRET_MAX_BYTES + 1);
    if (content == NULL) {
        status = error_no_memory(error);
        goto cleanup;
    }
    size_t length = fread(content, 1, SECRET_MAX_BYTES + 1, file);
    if (ferror(file)) {
        status = error_set(error, STATUS_REJECT, "cannot read %s: %s", path, strerror(errno));
    } else if (length > SECRET_MAX_BYTES) {
        status =
            error_set(error, STATUS_REJECT, "%s has more than %d bytes", path, SECRET_MAX_BYTES);
    } else if (memchr(content, '\0', length) != NULL) {
        status = error_set(error, STATUS_REJECT, "%s is not a text file", path);
    } else {
        if (length > 0 && content[length - 1] == '\n')
            length--;
        if (length > 0 && content[length - 1] == '\r')
            length--;
        fwrite(content, 1, length, out);
    }
cleanup:
    free(content);
    fclose(file);
    return status;
}

static bool is_variable_name(const char *name)
{
    if (!isalpha((unsigned char)*name) && *name != '_')
        return false;
    for (; *name != '\0'; name++)
        if (!isalnum((unsigned char)*name) && *name != '_')
            return false;
    return true;
}

/* `reference` is what stands between the braces. */
static enum status append_reference(FILE *out, const char *reference, struct error *error)
{
    if (strncmp(reference, "file:", 5) == 0)
        return append_file(out, reference + 5, error);
    if (!is_variable_name(reference))
        return error_set(error, STATUS_REJECT,
                         "${...} must hold the name of an environment variable or file:/path; "
                         "write $${ for a plain ${");
    const char *value = getenv(reference);
    if (value == NULL)
        return error_set(error, STATUS_REJECT, "environment variable %s is not set", reference);
    fputs(value, out);
    return STATUS_OK;
}

static enum status expand_into(FILE *out, const char *text, struct error *error)
{
    for (const char *at = text; *at != '\0';) {
        if (strncmp(at, "$${", 3) == 0) {
            fputs("${", out);
            at += 3;
            continue;
        }
        if (strncmp(at, "${", 2) != 0) {
            fputc(*at++, out);
            continue;
        }
        const char *end = strchr(at, '}');
        if (end == NULL)
            return error_set(error, STATUS_REJECT, "${ without }; write $${ for a plain ${");
        char *reference = strndup(at + 2, (size_t)(end - at - 2));
        if (reference == NULL)
            return error_no_memory(error);
        enum status status = append_reference(out, reference, error);
        free(reference);
        if (status != STATUS_OK)
            return status;
        at = end + 1;
    }
    return STATUS_OK;
}

enum status config_expand(const char *text, char **out, struct error *error)
{
    size_t length = 0;
    *out = NULL;
    FILE *stream = open_memstream(out, &length);
    if (stream == NULL)
        return error_no_memory(error);
    enum status status = expand_into(stream, text, error);
    bool failed = ferror(stream) != 0;
    if ((fclose(stream) != 0 || failed) && status == STATUS_OK)
        status = error_no_memory(error);
    if (status != STATUS_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}
