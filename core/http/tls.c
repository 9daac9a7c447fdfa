/* TLS: see core/http/tls.h. */
#include "core/http/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX_BYTES = 1 << 20 };

/* The whole of a file, 0-terminated. */
static enum status read_file(const char *key, const char *path, char **out, struct error *error)
{
    char *text = calloc(1, FILE_MAX_BYTES + 1);
    FILE *file = fopen(path, "re");
    *out = text;
    if (text == NULL || file == NULL) {
        int cause = errno;
        if (file != NULL)
            fclose(file);
        return text == NULL ? error_no_memory(error)
                            : error_set(error, STATUS_REJECT, "%s: the file cannot be read: %s",
                                        key, strerror(cause));
    }
    setvbuf(file, NULL, _IONBF, 0); /* no copy of a key in a buffer */
    size_t length = fread(text, 1, FILE_MAX_BYTES, file);
    bool failed = ferror(file) != 0;
    fclose(file);
    if (failed || length == 0 || length == FILE_MAX_BYTES || strlen(text) != length)
        return error_set(error, STATUS_REJECT, "%s: the file is empty, too large or no PEM", key);
    return STATUS_OK;
}

static gnutls_datum_t datum(const char *text)
{
    return (gnutls_datum_t){.data = (unsigned char *)text, .size = (unsigned int)strlen(text)};
}

/* What libmicrohttpd will do with the texts, which would not say what is wrong with them. */
static enum status check(const struct tls *tls, struct error *error)
{
    gnutls_certificate_credentials_t credentials;
    const gnutls_datum_t certificate = datum(tls->certificate);
    const gnutls_datum_t key = datum(tls->key);
    if (gnutls_certificate_allocate_credentials(&credentials) != GNUTLS_E_SUCCESS)
        return error_no_memory(error);
    enum status status = STATUS_OK;
    int code =
        gnutls_certificate_set_x509_key_mem(credentials, &certificate, &key, GNUTLS_X509_FMT_PEM);
    if (code < 0)
        status = error_set(error, STATUS_REJECT, "serving.tls_certificate, serving.tls_key: %s",
                           gnutls_strerror(code));
    if (status == STATUS_OK && tls->client_ca != NULL) {
        const gnutls_datum_t authorities = datum(tls->client_ca);
        code =
            gnutls_certificate_set_x509_trust_mem(credentials, &authorities, GNUTLS_X509_FMT_PEM);
        if (code <= 0)
            status = error_set(error, STATUS_REJECT, "serving.tls_client_ca: %s",
                               code < 0 ? gnutls_strerror(code) : "has no certificate");
    }
    gnutls_certificate_free_credentials(credentials);
    return status;
}

enum status tls_load(const struct config *config, struct tls **out, struct error *error)
{
    *out = NULL;
    if (config->serving_tls_key == NULL)
        return STATUS_OK;
    struct tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL)
        return error_no_memory(error);
    enum status status = read_file("serving.tls_certificate", config->serving_tls_certificate,
                                   &tls->certificate, error);
    if (status == STATUS_OK)
        status = read_file("serving.tls_key", config->serving_tls_key, &tls->key, error);
    if (status == STATUS_OK && config->serving_tls_client_ca != NULL)
        status = read_file("serving.tls_client_ca", config->serving_tls_client_ca, &tls->client_ca,
                           error);
    if (status == STATUS_OK)
        status = check(tls, error);
    if (status != STATUS_OK) {
        tls_destroy(tls);
        return status;
    }
    *out = tls;
    return STATUS_OK;
}

void tls_destroy(struct tls *tls)
{
    if (tls == NULL)
        return;
    if (tls->key != NULL)
        explicit_bzero(tls->key, FILE_MAX_BYTES);
    free(tls->key);
    free(tls->certificate);
    free(tls->client_ca);
    free(tls);
}

bool tls_client_is_known(void *session)
{
    unsigned int faults = 0;
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                     .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT};
    return session != NULL &&
           gnutls_certificate_verify_peers(session, &purpose, 1, &faults) == GNUTLS_E_SUCCESS &&
           faults == 0;
}
