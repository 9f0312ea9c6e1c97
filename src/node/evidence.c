/* SPDX-License-Identifier: Apache-2.0
 *
 * evidence.c - quotes as evidence: made, read strictly, judged.
 *
 * In:   bytes of a peer, its verified identity, the transcript's hash, the policy    Out: yes, or E_EVIDENCE and why
 *
 *   version u8 = 1 | point 65 | statement u16 + bytes | r 32 | s 32 | registers u32 | values 32 each, ascending
 *
 * Order, cheap first: form, the certified key, what the TPM states, and only then the signature over it. The values
 * count by the digest in the statement, and the statement by the key that the CA certified.
 * Does not: say that a TPM is a real one: the CA vouched for that when it certified the attestation key.
 */
#include "evidence.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "cert.h"
#include "seal.h"

static const char clause[] = "evidence";

enum {
    TPM_MAGIC = 0xFF544347, /* "\xFFTCG": made by a TPM, never by who asks it to sign */
    TPM_QUOTE = 0x8018,
    TPM_SHA256 = 0x000B,
    TPM_NAME_MAX_BYTES = 68,
    CLOCK_INFO_BYTES = 8 + 4 + 4 + 1,
    SELECT_MAX_BYTES = 4,
    ECDSA_DER_MAX_BYTES = 80,
};

static dbe_err bad(struct dbe_diag *diag, size_t at, const char *what)
{
    ERR_clear_error();
    return dbe_fail(diag, DBE_E_EVIDENCE, clause, at, "%s", what);
}

dbe_err evidence_sha256(const void *data, size_t len, uint8_t ret[32])
{
    return EVP_Q_digest(NULL, "SHA256", NULL, data, len, ret, NULL) == 1 ? DBE_OK : DBE_E_CRYPTO;
}

static size_t count_bits(uint32_t mask)
{
    return (size_t)__builtin_popcount(mask);
}

/* ---- form -------------------------------------------------------------------------------------------------------- */

dbe_err evidence_parse(const uint8_t *bytes, size_t len, struct evidence *ret, struct dbe_diag *diag)
{
    struct base_cur c = base_cur_of(bytes, len);
    struct evidence e = {0};

    if (len > DBE_EVIDENCE_MAX_BYTES)
        return bad(diag, 0, "the evidence is too large");
    if (base_cur_u8(&c) != EVIDENCE_VERSION)
        return bad(diag, 0, "the evidence has a form that this side does not know");
    e.point = base_cur_bytes(&c, TPM_POINT_BYTES);
    e.attest_len = base_cur_u16(&c);
    e.attest = base_cur_bytes(&c, e.attest_len);
    e.r = base_cur_bytes(&c, 32);
    e.s = base_cur_bytes(&c, 32);
    e.pcrs = base_cur_u32(&c);
    if (c.bad || e.attest_len == 0 || e.pcrs == 0 || (e.pcrs & ~(uint32_t)SEAL_TPM_PCRS_ALL) != 0)
        return bad(diag, base_cur_offset(&c), "the evidence's lengths do not add up");
    e.values = base_cur_bytes(&c, count_bits(e.pcrs) * TPM_DIGEST_BYTES);
    if (base_cur_end(&c) != DBE_OK)
        return bad(diag, base_cur_offset(&c), "the evidence's lengths do not add up");
    *ret = e;
    return DBE_OK;
}

dbe_err quote_parse(const uint8_t *attest, size_t len, struct quote *ret, struct dbe_diag *diag)
{
    struct base_cur c = base_cur_of(attest, len);
    struct quote q = {0};

    if (base_cur_u32(&c) != TPM_MAGIC || base_cur_u16(&c) != TPM_QUOTE)
        return bad(diag, 0, "the statement is not a TPM's quote");
    size_t name_len = base_cur_u16(&c);
    (void)base_cur_bytes(&c, name_len);
    size_t nonce_len = base_cur_u16(&c);
    q.nonce = base_cur_bytes(&c, nonce_len);
    (void)base_cur_bytes(&c, CLOCK_INFO_BYTES);
    (void)base_cur_u64(&c); /* firmware version */
    uint32_t selections = base_cur_u32(&c);
    uint16_t hash = base_cur_u16(&c);
    size_t select_len = base_cur_u8(&c);
    const uint8_t *select = base_cur_bytes(&c, select_len);
    size_t digest_len = base_cur_u16(&c);
    q.digest = base_cur_bytes(&c, digest_len);
    if (base_cur_end(&c) != DBE_OK || name_len > TPM_NAME_MAX_BYTES || nonce_len != EVIDENCE_NONCE_BYTES ||
        selections != 1 || hash != TPM_SHA256 || select_len == 0 || select_len > SELECT_MAX_BYTES ||
        digest_len != TPM_DIGEST_BYTES)
        return bad(diag, base_cur_offset(&c), "the TPM's statement is malformed, or not over one bank of SHA-256");
    for (size_t i = 0; i < select_len; i++)
        q.pcrs |= (uint32_t)select[i] << (8 * i);
    *ret = q;
    return DBE_OK;
}

void evidence_put(struct base_buf *out, const uint8_t point[TPM_POINT_BYTES], uint32_t pcrs,
                  const struct tpm_quote *quote)
{
    base_buf_u8(out, EVIDENCE_VERSION);
    base_buf_bytes(out, point, TPM_POINT_BYTES);
    base_buf_u16(out, (uint16_t)quote->attest_len);
    base_buf_bytes(out, quote->attest, quote->attest_len);
    base_buf_bytes(out, quote->r, sizeof quote->r);
    base_buf_bytes(out, quote->s, sizeof quote->s);
    base_buf_u32(out, pcrs);
    for (unsigned i = 0; i < TPM_PCRS; i++)
        if ((pcrs >> i & 1) != 0)
            base_buf_bytes(out, quote->pcrs[i], TPM_DIGEST_BYTES);
}

/* ---- signature --------------------------------------------------------------------------------------------------- */

/* r and s as the library wants them. 0: no memory. */
static size_t signature_der(const uint8_t *r, const uint8_t *s, uint8_t out[ECDSA_DER_MAX_BYTES])
{
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *a = BN_bin2bn(r, 32, NULL), *b = BN_bin2bn(s, 32, NULL);
    unsigned char *at = out;
    int n = 0;

    if (sig == NULL || a == NULL || b == NULL || ECDSA_SIG_set0(sig, a, b) != 1) {
        BN_free(a);
        BN_free(b);
    } else if (i2d_ECDSA_SIG(sig, NULL) <= (int)ECDSA_DER_MAX_BYTES) {
        n = i2d_ECDSA_SIG(sig, &at);
    }
    ECDSA_SIG_free(sig);
    return n > 0 ? (size_t)n : 0;
}

static EVP_PKEY *point_to_key(const uint8_t point[TPM_POINT_BYTES])
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY *key = NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char[]){"P-256"}, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)point, TPM_POINT_BYTES),
        OSSL_PARAM_construct_end(),
    };

    if (ctx != NULL && (EVP_PKEY_fromdata_init(ctx) != 1 ||
                        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static bool signature_holds(const struct evidence *e)
{
    uint8_t der[ECDSA_DER_MAX_BYTES];
    size_t len = signature_der(e->r, e->s, der);
    EVP_PKEY *key = point_to_key(e->point);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = len > 0 && key != NULL && md != NULL &&
              EVP_DigestVerifyInit_ex(md, NULL, "SHA256", NULL, NULL, key, NULL) == 1 &&
              EVP_DigestVerify(md, der, len, e->attest, e->attest_len) == 1;

    EVP_MD_CTX_free(md);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return ok;
}

/* ---- judging ----------------------------------------------------------------------------------------------------- */

static dbe_err check_quote(const struct dbe_identity *peer, const uint8_t th[CRYPTO_HASH_BYTES],
                           const struct evidence *e, struct dbe_diag *diag)
{
    uint8_t hash[32];
    struct quote q = {0};

    DBE_TRY(evidence_sha256(e->point, TPM_POINT_BYTES, hash));
    if (memcmp(hash, peer->ak_sha256, sizeof hash) != 0)
        return bad(diag, 1, "the evidence is signed by a key that the certificate does not name");
    DBE_TRY(quote_parse(e->attest, e->attest_len, &q, diag));
    if (memcmp(q.nonce, th, EVIDENCE_NONCE_BYTES) != 0)
        return bad(diag, 0, "the quote belongs to another handshake");
    DBE_TRY(evidence_sha256(e->values, count_bits(e->pcrs) * TPM_DIGEST_BYTES, hash));
    if (q.pcrs != e->pcrs || memcmp(hash, q.digest, sizeof hash) != 0)
        return bad(diag, 0, "the registers shown are not those of the quote");
    return signature_holds(e) ? DBE_OK : bad(diag, 0, "the quote's signature does not verify");
}

dbe_err node_evidence_check(const struct dbe_trust *trust, const struct dbe_identity *peer,
                            const uint8_t th[CRYPTO_HASH_BYTES], const uint8_t *bytes, size_t len,
                            struct dbe_diag *diag)
{
    struct evidence e = {0};

    if (len == 0 && pcr_policy_wants(trust->pcrs, peer))
        return dbe_fail(diag, DBE_E_EVIDENCE, clause, 0, "%.120s must show a quote of its TPM and shows none",
                        peer->spiffe_id);
    if (len == 0)
        return DBE_OK;
    if (!peer->attested)
        return bad(diag, 0, "there is evidence, but the certificate names no attestation key");
    DBE_TRY(evidence_parse(bytes, len, &e, diag));
    DBE_TRY(check_quote(peer, th, &e, diag));
    return pcr_policy_check(trust->pcrs, peer, e.pcrs, e.values, diag);
}

dbe_err node_evidence_make(const struct dbe_credential *cred, const uint8_t th[CRYPTO_HASH_BYTES],
                           struct base_buf *out, struct dbe_diag *diag)
{
    struct tpm_quote quote;
    struct tpm *tpm = NULL;

    if (cred->ak == NULL)
        return DBE_OK;
    DBE_TRY(tpm_open(seal_tcti(), &tpm, diag));
    dbe_err err = tpm_quote(tpm, &cred->ak->blob, cred->ak->pcrs, th, &quote, diag);
    tpm_close(tpm);
    DBE_TRY(err);
    evidence_put(out, cred->ak->point, cred->ak->pcrs, &quote);
    return out->err;
}
