/* SPDX-License-Identifier: Apache-2.0
 *
 * cert.h - X.509 certificates of the mesh, made and read. Private to this folder and its tests.
 */
#ifndef NODE_CERT_H
#define NODE_CERT_H

#include <openssl/x509.h>

#include "base/base.h"
#include "crl.h"
#include "crypto/crypto.h"
#include "dbe/identity.h"
#include "evidence.h"

enum { CERT_SERIAL_BYTES = 16 };

struct dbe_credential {
    struct crypto_key  *key;
    uint8_t            *der;
    size_t              der_len;
    struct dbe_identity id;
    struct node_ak     *ak; /* NULL: it shows no evidence */
};

struct dbe_trust {
    X509    *ca;
    char     mesh[DBE_MESH_NAME_MAX_BYTES];
    uint64_t not_before_ms, not_after_ms;
    uint8_t  fingerprint[CRYPTO_HASH_BYTES];
    struct crl *revoked;     /* NULL: no list was seen yet */
    struct pcr_policy *pcrs; /* NULL: nobody must show evidence */
};

/* Self-signed certificate of a mesh CA, appended as DER. */
dbe_err cert_make_ca(const struct crypto_key *key, const char *mesh, uint64_t not_before_ms, uint64_t not_after_ms,
                     struct base_buf *der) DBE_MUST_CHECK;

/* Certificate for `subject`, saying what `id` says (serial and fingerprint are not read), appended as DER. Does not
 * judge `id`: callers check it with profile_check, tests make bad ones. */
dbe_err cert_make_node(const struct dbe_trust *trust, const struct crypto_key *ca_key, const struct crypto_key *subject,
                       const struct dbe_identity *id, struct base_buf *der) DBE_MUST_CHECK;
/* The same in two steps, for tests that bend the certificate before it is signed. */
dbe_err cert_build_node(const struct dbe_trust *trust, const struct crypto_key *subject, const struct dbe_identity *id,
                        X509 **ret) DBE_MUST_CHECK;
dbe_err cert_sign(X509 *x, const struct crypto_key *ca_key, struct base_buf *der) DBE_MUST_CHECK;

/* Exactly one certificate in strict DER. E_CERT, E_TOO_LARGE. */
dbe_err cert_parse(const uint8_t *der, size_t len, X509 **ret, struct dbe_diag *diag) DBE_MUST_CHECK;

/* A CA certificate: own signature and profile. Fills `ret`, which then owns `x`; validity is not judged here. */
dbe_err cert_read_ca(X509 *x, struct dbe_trust *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

/* A node certificate signed by `trust`: signature, profile, registries; whether it is valid now is asked apart, so that
 * an expired one can still be named. E_CERT. */
dbe_err cert_read_node(const struct dbe_trust *trust, X509 *x, struct dbe_identity *ret, uint8_t *ret_pk,
                       struct dbe_diag *diag) DBE_MUST_CHECK;
/* The certificate and its CA are both valid at `now_ms`. E_EXPIRED. */
dbe_err cert_check_validity(const struct dbe_trust *trust, const struct dbe_identity *id, uint64_t now_ms,
                            struct dbe_diag *diag) DBE_MUST_CHECK;

/* Neither revoked nor outside its validity at `now_ms`. E_REVOKED before E_EXPIRED. */
dbe_err cert_check_standing(const struct dbe_trust *trust, const struct dbe_identity *id, uint64_t now_ms,
                            struct dbe_diag *diag) DBE_MUST_CHECK;

/* "2026-11-21 03:40 UTC". */
void cert_time_text(uint64_t unix_ms, char ret[24]);

#endif
