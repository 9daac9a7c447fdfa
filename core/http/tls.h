/* TLS: the files of serving.tls_*, checked, and the judgement of clients' certificates.
 *
 * GnuTLS, because libmicrohttpd speaks TLS with it. Errors name the key of the configuration, never
 * a path or anything of a file: a path may have come from ${...}. */
#ifndef DOVETAIL_TLS_H
#define DOVETAIL_TLS_H

#include "core/program/config.h"

/* TLS 1.2 and 1.3, and of them what GnuTLS holds for at least 128 bits. */
#define TLS_PRIORITIES "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"

/* Texts in PEM. */
struct tls {
    char *certificate;
    char *key;
    char *client_ca; /* NULL: clients need no certificate */
};

/* *out is NULL where the configuration has no TLS. STATUS_REJECT: a file cannot be read, has not
 * what it should, or key and certificate do not belong together. */
enum status tls_load(const struct config *config, struct tls **out, struct error *error) MUST_CHECK;
void tls_destroy(struct tls *tls); /* accepts NULL; the key's memory is wiped */

/* Has the client of this gnutls_session_t shown a certificate that one of the authorities vouches
 * for, valid now and for this use? */
bool tls_client_is_known(void *session);

#endif
