/* SPDX-License-Identifier: Apache-2.0
 *
 * person.c - who is enrolled: a certificate of the key store, looked up by its fingerprint.
 *
 * In:   the key store, a fingerprint that somebody showed
 * Out:  identity and public key of a certificate of this mesh that is good now
 * Not:  no cache: whoever was enrolled or revoked a moment ago counts as that. Approvals are rare.
 */
#include <string.h>

#include "issue.h"

/* By its bytes alone. Whoever may send a message may show any fingerprint: one that nobody has must not cost a
 * verification of all certificates. */
static bool has_fingerprint(const char *dir, const char *name, const uint8_t fingerprint[64])
{
    uint8_t digest[CRYPTO_HASH_BYTES];
    struct base_buf der;

    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = keys_read_cert_der(dir, name, "crt", &der, NULL);
    if (err == DBE_OK)
        err = crypto_sha3_512(der.data, der.len, digest);
    base_buf_free(&der);
    return err == DBE_OK && memcmp(digest, fingerprint, sizeof digest) == 0;
}

/* True if it is the one; its key is in `ret_pk` then. */
static bool try_name(const char *dir, const char *name, const struct dbe_trust *trust, const uint8_t fingerprint[64],
                     struct dbe_identity *ret_id, uint8_t *ret_pk)
{
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    struct dbe_identity id = {0};
    struct base_buf der;

    if (!has_fingerprint(dir, name, fingerprint))
        return false;
    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = keys_read_cert(dir, name, trust, &id, pk, &der, NULL);
    base_buf_free(&der);
    if (err != DBE_OK || memcmp(id.fingerprint, fingerprint, sizeof id.fingerprint) != 0 ||
        dbe_trust_check(trust, &id, base_wall_ms(), NULL) != DBE_OK)
        return false;
    *ret_id = id;
    memcpy(ret_pk, pk, sizeof pk);
    return true;
}

bool keys_find(const char *dir, const struct dbe_trust *trust, const uint8_t fingerprint[64],
               struct dbe_identity *ret_id, uint8_t *ret_pk)
{
    char **names = base_alloc(KEYS_LIST_MAX, sizeof *names);
    size_t count = 0;
    bool found = false;
    dbe_err err = names != NULL ? keys_collect(dir, names, &count, NULL) : DBE_E_NOMEM;

    for (size_t i = 0; i < count; i++) {
        found = found || (err == DBE_OK && try_name(dir, names[i], trust, fingerprint, ret_id, ret_pk));
        base_free(names[i]);
    }
    base_free(names);
    return found;
}
