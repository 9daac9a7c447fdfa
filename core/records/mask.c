/* Keys and masked values: see core/records/mask.h. The HMAC is libcrypto's; no text here holds a
 * key or a value. */
#include "core/records/mask.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "core/program/program.h"

enum { DIGEST_BYTES = 32 };

_Static_assert(MASK_BYTES == 2 * DIGEST_BYTES, "hexadecimal");

struct mask {
    EVP_MAC *algorithm;
    EVP_MAC_CTX *context; /* has the key */
};

/* What is hashed for the fingerprint: longer than any value that means something. */
static const char fingerprint_text[] = "dovetail: fingerprint of the key that masks values";

/* --- the key --- */

static void warn_if_exposed(const char *path, const struct stat *stat)
{
    static atomic_bool warned;
    if ((stat->st_mode & S_IROTH) == 0 || atomic_exchange(&warned, true))
        return;
    program_log(LOG_WARNING, "mask.key_file: everybody may read %s; make it 0600 or 0640", path);
}

/* *length is what the file has, at most MASK_KEY_MAX_BYTES + 1. */
static enum status read_file(const char *path, unsigned char *key, size_t *length,
                             struct error *error)
{
    struct stat stat;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &stat) != 0) {
        enum status status =
            error_set(error, STATUS_REJECT, "%s: cannot be read: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return status;
    }
    enum status status = STATUS_OK;
    *length = 0;
    for (ssize_t got = 1; got != 0 && *length <= MASK_KEY_MAX_BYTES && status == STATUS_OK;) {
        got = read(fd, key + *length, MASK_KEY_MAX_BYTES + 1 - *length);
        if (got > 0)
            *length += (size_t)got;
        else if (got < 0 && errno != EINTR)
            status =
                error_set(error, STATUS_REJECT, "%s: cannot be read: %s", path, strerror(errno));
    }
    close(fd);
    if (status == STATUS_OK)
        warn_if_exposed(path, &stat);
    return status;
}

static enum status read_key(const char *path, unsigned char *key, size_t *length,
                            struct error *error)
{
    enum status status = read_file(path, key, length, error);
    if (status != STATUS_OK)
        return status;
    if (*length > MASK_KEY_MAX_BYTES)
        return error_set(error, STATUS_REJECT, "%s: is longer than %d bytes", path,
                         (int)MASK_KEY_MAX_BYTES);
    if (*length > 0 && key[*length - 1] == '\n')
        (*length)--;
    if (*length > 0 && key[*length - 1] == '\r')
        (*length)--;
    if (*length < MASK_KEY_MIN_BYTES)
        return error_set(error, STATUS_REJECT, "%s: has %zu bytes; a key has at least %d", path,
                         *length, (int)MASK_KEY_MIN_BYTES);
    return STATUS_OK;
}

static enum status use_key(struct mask *mask, const unsigned char *key, size_t length,
                           struct error *error)
{
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    mask->algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);
    mask->context = mask->algorithm == NULL ? NULL : EVP_MAC_CTX_new(mask->algorithm);
    if (mask->context == NULL || EVP_MAC_init(mask->context, key, length, parameters) != 1)
        return error_set(error, STATUS_FATAL, "libcrypto has no HMAC-SHA-256");
    return STATUS_OK;
}

static enum status check_fingerprint(const struct source *source, struct mask *mask,
                                     struct error *error)
{
    char fingerprint[MASK_BYTES + 1];
    if (source->mask_fingerprint[0] == '\0')
        return STATUS_OK;
    enum status status = mask_fingerprint(mask, fingerprint, error);
    if (status == STATUS_OK && strcmp(fingerprint, source->mask_fingerprint) != 0)
        status =
            error_set(error, STATUS_REJECT,
                      "%s: is not the key that was registered; hashes of another key would not "
                      "be equal to those that are stored",
                      source->mask_key_file);
    return status;
}

enum status mask_create(const struct source *source, struct mask **out, struct error *error)
{
    unsigned char key[MASK_KEY_MAX_BYTES + 1];
    size_t length = 0;
    struct mask *mask = calloc(1, sizeof *mask);
    *out = NULL;
    if (mask == NULL)
        return error_no_memory(error);
    enum status status = read_key(source->mask_key_file, key, &length, error);
    if (status == STATUS_OK)
        status = use_key(mask, key, length, error);
    OPENSSL_cleanse(key, sizeof key);
    if (status == STATUS_OK)
        status = check_fingerprint(source, mask, error);
    if (status != STATUS_OK) {
        mask_destroy(mask);
        return error_wrap(error, "source %s: mask.key_file", source->name);
    }
    *out = mask;
    return STATUS_OK;
}

void mask_destroy(struct mask *mask)
{
    if (mask == NULL)
        return;
    EVP_MAC_CTX_free(mask->context);
    EVP_MAC_free(mask->algorithm);
    free(mask);
}

/* --- values --- */

enum status mask_value(struct mask *mask, const void *data, size_t length, char *out,
                       struct error *error)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[DIGEST_BYTES];
    size_t written = 0;
    /* Without a key the context begins anew with the one it has. */
    if (EVP_MAC_init(mask->context, NULL, 0, NULL) != 1 ||
        EVP_MAC_update(mask->context, data, length) != 1 ||
        EVP_MAC_final(mask->context, digest, &written, sizeof digest) != 1 ||
        written != sizeof digest)
        return error_set(error, STATUS_FATAL, "libcrypto: an HMAC failed");
    for (size_t i = 0; i < sizeof digest; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    return STATUS_OK;
}

enum status mask_fingerprint(struct mask *mask, char out[MASK_BYTES + 1], struct error *error)
{
    out[MASK_BYTES] = '\0';
    return mask_value(mask, fingerprint_text, sizeof fingerprint_text - 1, out, error);
}

/* --- which fields --- */

static json_t *path_json(const struct source_field *field)
{
    json_t *path = json_array();
    for (size_t i = 0; path != NULL && i < field->path_count; i++) {
        if (json_array_append_new(path, json_string(field->path[i])) != 0) {
            json_decref(path);
            path = NULL;
        }
    }
    return path;
}

char *mask_paths_text(const struct source *source)
{
    json_t *paths = json_array();
    bool failed = paths == NULL;
    for (size_t i = 0; !failed && i < source->mask_count; i++)
        failed =
            json_array_append_new(paths, path_json(&source->fields[source->mask_fields[i]])) != 0;
    char *text = failed ? NULL : json_dumps(paths, JSON_COMPACT);
    json_decref(paths);
    return text;
}

uint64_t mask_fields_in(const struct source *source, const char *paths_text)
{
    uint64_t bits = 0;
    json_t *paths = paths_text == NULL ? NULL : json_loads(paths_text, 0, NULL);
    for (size_t i = 0; i < source->mask_count; i++) {
        json_t *path = path_json(&source->fields[source->mask_fields[i]]);
        for (size_t p = 0; p < json_array_size(paths); p++)
            if (json_equal(path, json_array_get(paths, p)))
                bits |= UINT64_C(1) << i;
        json_decref(path);
    }
    json_decref(paths);
    return bits;
}
