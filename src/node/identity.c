/* SPDX-License-Identifier: Apache-2.0
 *
 * identity.c - credentials and the trust anchor as objects: load, sign, verify, free.
 *
 * In:   the key store (keystore.c), DER from peers    Out: signatures, verified identities
 * Does not: touch files itself, nor decide who may do what.
 */
#include "dbe/identity.h"

#include <string.h>

#include "cert.h"
#include "keystore.h"

static const char clause[] = "identity";

dbe_err dbe_trust_verify(const struct dbe_trust *trust, const uint8_t *der, size_t len, uint64_t now_ms,
                         struct dbe_identity *ret, uint8_t *ret_pk, struct dbe_diag *diag)
{
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    struct dbe_identity id = {0};
    X509 *x = NULL;

    DBE_TRY(cert_parse(der, len, &x, diag));
    dbe_err err = cert_read_node(trust, x, &id, pk, diag);
    X509_free(x);
    DBE_TRY(err);
    DBE_TRY(cert_check_standing(trust, &id, now_ms, diag));
    *ret = id;
    if (ret_pk != NULL)
        memcpy(ret_pk, pk, sizeof pk);
    return DBE_OK;
}

dbe_err dbe_trust_check(const struct dbe_trust *trust, const struct dbe_identity *id, uint64_t now_ms,
                        struct dbe_diag *diag)
{
    return cert_check_standing(trust, id, now_ms, diag);
}

dbe_err dbe_trust_set_pcr_policy(struct dbe_trust *trust, const char *text, size_t len, struct dbe_diag *diag)
{
    struct pcr_policy *policy = NULL;

    DBE_TRY(pcr_policy_parse(text, len, &policy, diag));
    pcr_policy_free(trust->pcrs);
    trust->pcrs = policy;
    return DBE_OK;
}

const char *dbe_trust_mesh(const struct dbe_trust *trust)
{
    return trust->mesh;
}

void dbe_trust_validity(const struct dbe_trust *trust, uint64_t *ret_not_before_ms, uint64_t *ret_not_after_ms)
{
    *ret_not_before_ms = trust->not_before_ms;
    *ret_not_after_ms = trust->not_after_ms;
}

const uint8_t *dbe_trust_fingerprint(const struct dbe_trust *trust)
{
    return trust->fingerprint;
}

void dbe_trust_free(struct dbe_trust *trust)
{
    if (trust == NULL)
        return;
    X509_free(trust->ca);
    crl_free(trust->revoked);
    pcr_policy_free(trust->pcrs);
    base_free(trust);
}

/* One pair of files: both readable, in good standing, belonging together. `der` and `cred` are cleared on error. */
static dbe_err load_pair(const char *dir, const char *name, const struct dbe_trust *trust, const char *const suffix[2],
                         struct dbe_credential *cred, struct base_buf *der, struct dbe_diag *diag)
{
    uint8_t in_cert[CRYPTO_MLDSA87_PK_BYTES], in_key[CRYPTO_MLDSA87_PK_BYTES];
    struct dbe_diag why = {0};

    DBE_TRY(keys_read_key(dir, name, suffix[0], &cred->key, diag));
    base_buf_clear(der);
    dbe_err err = keys_read_cert_at(dir, name, suffix[1], trust, &cred->id, in_cert, der, &why);
    if (err == DBE_OK)
        err = cert_check_standing(trust, &cred->id, base_wall_ms(), &why);
    if (err == DBE_OK)
        err = crypto_key_public(cred->key, in_key);
    if (err == DBE_OK && memcmp(in_cert, in_key, sizeof in_key) != 0)
        err = dbe_fail(diag, DBE_E_CERT, clause, 0,
                       "%.60s.key is not the key of %.60s.crt: move both away and issue again", name, name);
    else if (err == DBE_E_CERT || err == DBE_E_EXPIRED || err == DBE_E_REVOKED)
        err = dbe_fail(diag, err, clause, 0, "%.40s.crt: %.105s; run dsmil keys %s", name, why.text,
                       err == DBE_E_REVOKED ? "renew" : "issue");
    else if (err != DBE_OK)
        err = dbe_fail(diag, err, why.clause, why.offset, "%s", why.text);
    if (err != DBE_OK) {
        crypto_key_free(cred->key);
        cred->key = NULL;
    }
    return err;
}

/* The files as they are; or, where they do not belong together or do not count any more, the pair that a renewal left
 * or is just putting in place (see renew.c). */
static dbe_err load_parts(const char *dir, const char *name, const struct dbe_trust *trust, struct dbe_credential *cred,
                          struct base_buf *der, struct dbe_diag *diag)
{
    static const char *const pairs[][2] = {{"key", "crt"}, {"key", "crt.next"}, {"key.next", "crt.next"}};
    enum { TRIES = 3 }; /* a renewal may put both files in place between our two reads */
    dbe_err err = DBE_OK;

    for (int i = 0; i < TRIES; i++) {
        err = load_pair(dir, name, trust, pairs[0], cred, der, diag);
        if (err != DBE_E_CERT && err != DBE_E_EXPIRED && err != DBE_E_REVOKED)
            return err;
        for (size_t k = 1; k < BASE_ARRAY_LEN(pairs); k++)
            if (load_pair(dir, name, trust, pairs[k], cred, der, NULL) == DBE_OK)
                return DBE_OK;
    }
    return err;
}

/* The attestation key of an identity that has one. Its file may be missing: then the node shows no evidence, and those
 * who want some say so. */
static dbe_err load_ak(const char *dir, const char *name, struct dbe_credential *cred, struct dbe_diag *diag)
{
    uint8_t hash[32];

    if (!cred->id.attested)
        return DBE_OK;
    cred->ak = base_alloc(1, sizeof *cred->ak);
    if (cred->ak == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory for the credential");
    dbe_err err = ak_read(dir, name, cred->ak, diag);
    if (err == DBE_E_NOT_FOUND) {
        base_free(cred->ak);
        cred->ak = NULL;
        return DBE_OK;
    }
    if (err == DBE_OK)
        err = evidence_sha256(cred->ak->point, sizeof cred->ak->point, hash);
    if (err == DBE_OK && memcmp(hash, cred->id.ak_sha256, sizeof hash) != 0)
        err = dbe_fail(diag, DBE_E_CONFIG, clause, 0, "%.60s.ak is not the attestation key that %.60s.crt names", name,
                       name);
    return err;
}

dbe_err dbe_credential_load(const char *dir, const char *name, struct dbe_credential **ret, struct dbe_diag *diag)
{
    struct dbe_trust *trust = NULL;
    struct base_buf der;

    DBE_TRY(dbe_trust_load(dir, &trust, diag));
    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    struct dbe_credential *cred = base_alloc(1, sizeof *cred);
    dbe_err err = cred == NULL ? dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory for the credential")
                               : load_parts(dir, name, trust, cred, &der, diag);
    if (err == DBE_OK)
        err = load_ak(dir, name, cred, diag);
    dbe_trust_free(trust);
    if (err != DBE_OK) {
        base_buf_free(&der);
        dbe_credential_free(cred);
        return err;
    }
    cred->der = der.data; /* the buffer's memory is the credential's now */
    cred->der_len = der.len;
    *ret = cred;
    return DBE_OK;
}

void dbe_credential_free(struct dbe_credential *cred)
{
    if (cred == NULL)
        return;
    crypto_key_free(cred->key); /* wipes */
    base_free(cred->der);
    base_free(cred->ak);
    base_wipe(cred, sizeof *cred);
    base_free(cred);
}

dbe_err dbe_credential_sign(const struct dbe_credential *cred, const char *ctx, const void *msg, size_t len,
                            uint8_t *sig)
{
    return crypto_sign(cred->key, ctx, msg, len, sig);
}

void dbe_credential_cert(const struct dbe_credential *cred, const uint8_t **ret_der, size_t *ret_len)
{
    *ret_der = cred->der;
    *ret_len = cred->der_len;
}

const struct dbe_identity *dbe_credential_identity(const struct dbe_credential *cred)
{
    return &cred->id;
}
