/* SPDX-License-Identifier: Apache-2.0
 *
 * keystore.h - what the key store tells the `dsmil keys` verb beyond dbe/identity.h.
 */
#ifndef NODE_KEYSTORE_H
#define NODE_KEYSTORE_H

#include "base/base.h"
#include "crypto/crypto.h"
#include "dbe/identity.h"

enum {
    KEYS_NAME_MAX_BYTES = 64,
    KEYS_FILE_MAX_BYTES = 64 * 1024,
    KEYS_LIST_MAX = 1024,
    KEYS_DAYS_MAX = 36500,
    KEYS_DAYS_DEFAULT = 90,
    KEYS_BACKDATE_MS = 5 * 60 * 1000, /* certificates begin earlier than now: clocks differ */
};

/* Validity and fingerprint (SHA3-512 of the DER, 64 bytes) of the CA certificate. */
void dbe_trust_validity(const struct dbe_trust *trust, uint64_t *ret_not_before_ms, uint64_t *ret_not_after_ms);
const uint8_t *dbe_trust_fingerprint(const struct dbe_trust *trust);

/* Less than a third of its life is left: time to issue again. */
bool keys_expires_soon(const struct dbe_identity *id, uint64_t now_ms);

/* Read <dir>/<name>.crt (PEM), signed by `trust`; whether it is valid now is the caller's question. `ret_pk` may be
 * NULL; `ret_der` takes the DER. */
dbe_err keys_read_cert(const char *dir, const char *name, const struct dbe_trust *trust, struct dbe_identity *ret,
                       uint8_t *ret_pk, struct base_buf *ret_der, struct dbe_diag *diag) DBE_MUST_CHECK;
/* <dir>/<name>.<suffix> from PEM to DER; nothing about it is checked. */
dbe_err keys_read_cert_der(const char *dir, const char *name, const char *suffix, struct base_buf *der,
                           struct dbe_diag *diag) DBE_MUST_CHECK;
/* keys_read_cert from <dir>/<name>.<suffix>. */
dbe_err keys_read_cert_at(const char *dir, const char *name, const char *suffix, const struct dbe_trust *trust,
                          struct dbe_identity *ret, uint8_t *ret_pk, struct base_buf *ret_der,
                          struct dbe_diag *diag) DBE_MUST_CHECK;
/* The certificate with this fingerprint among those of the store, if it is good now. `ret_pk`:
 * CRYPTO_MLDSA87_PK_BYTES. */
bool    keys_find(const char *dir, const struct dbe_trust *trust, const uint8_t fingerprint[64],
                  struct dbe_identity *ret_id, uint8_t *ret_pk);
/* One certificate, in PEM or DER, of any file; nothing about it is checked. */
dbe_err keys_read_cert_file(const char *path, struct base_buf *ret_der, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Read <dir>/<name>.<suffix>; the suffix is "key", or "key.next" within a renewal. */
dbe_err keys_read_key(const char *dir, const char *name, const char *suffix, struct crypto_key **ret,
                      struct dbe_diag *diag) DBE_MUST_CHECK;
/* The text of that file, as it lies there. `out` is the caller's. */
dbe_err keys_read_key_text(const char *dir, const char *name, const char *suffix, struct base_buf *out,
                           struct dbe_diag *diag) DBE_MUST_CHECK;
/* Names of <name>.crt in `dir`, without ca, sorted, into `names` of KEYS_LIST_MAX; free each with base_free, also after
 * an error. */
dbe_err keys_collect(const char *dir, char **names, size_t *ret_count, struct dbe_diag *diag) DBE_MUST_CHECK;
/* dbe_trust_load without the revocation list. */
dbe_err keys_load_ca(const char *dir, struct dbe_trust **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
/* `dir` is a directory, ours, closed to others. E_NOT_FOUND, E_PERMISSION, E_IO. */
dbe_err keys_check_dir(const char *dir, struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
