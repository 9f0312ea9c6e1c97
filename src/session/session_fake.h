/* SPDX-License-Identifier: Apache-2.0
 *
 * session_fake.h - for tests, fuzzing and the bench: credentials with real ML-DSA-87 keys and a toy certificate
 * ("FAKE" | device u8 | mesh u8 | ML-DSA-87 public key | SHA3-512 of all that), and a pair of sessions wired to each
 * other.
 */
#ifndef SESSION_FAKE_H
#define SESSION_FAKE_H

#include <stdio.h>
#include <string.h>

#include "session/session_priv.h"

enum { FAKE_CERT_BYTES = 6 + CRYPTO_MLDSA87_PK_BYTES + CRYPTO_HASH_BYTES };

struct fake {
    struct crypto_key *key;       /* of the certificate */
    struct crypto_key *sign_with; /* what really signs; NULL: key */
    const char *sign_ctx;         /* a wrong context string; NULL: the right one */
    uint8_t cert[FAKE_CERT_BYTES];
    dbe_err verify_err; /* the owner's rule says no */
    dbe_err sign_err;
    bool any_mesh;           /* verifies certificates of every mesh */
    const uint8_t *evidence; /* what it proves besides its key; see fake_evidence */
    size_t evidence_len;
    dbe_err evidence_err, evidence_verdict;
    uint8_t th_made[CRYPTO_HASH_BYTES], th_seen[CRYPTO_HASH_BYTES], seen[16]; /* last evidence made, and judged */
    size_t seen_len;
    unsigned evidence_judged;
    unsigned verified, signatures; /* how often it did */
    struct sess *break_mac; /* spoil this session's confirmation keys before they are used */
};

static inline dbe_err fake_init(struct fake *f, uint8_t device, uint8_t mesh)
{
    memset(f, 0, sizeof *f);
    DBE_TRY(crypto_key_generate(&f->key));
    memcpy(f->cert, "FAKE", 4);
    f->cert[4] = device;
    f->cert[5] = mesh;
    DBE_TRY(crypto_key_public(f->key, f->cert + 6));
    return crypto_sha3_512(f->cert, FAKE_CERT_BYTES - CRYPTO_HASH_BYTES, f->cert + FAKE_CERT_BYTES - CRYPTO_HASH_BYTES);
}

static inline void fake_fini(struct fake *f)
{
    crypto_key_free(f->key);
    f->key = NULL;
}

static inline void fake_own_cert(void *ctx, const uint8_t **ret_der, size_t *ret_len)
{
    struct fake *f = ctx;

    *ret_der = f->cert;
    *ret_len = sizeof f->cert;
    if (f->break_mac != NULL)
        f->break_mac->hs->secrets->k_mac[0][0] ^= 1, f->break_mac->hs->secrets->k_mac[1][0] ^= 1;
}

static inline dbe_err fake_sign(void *ctx, const char *sig_ctx, const void *msg, size_t len,
                                uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    struct fake *f = ctx;

    DBE_TRY(f->sign_err);
    f->signatures++;
    return crypto_sign(f->sign_with != NULL ? f->sign_with : f->key, f->sign_ctx != NULL ? f->sign_ctx : sig_ctx, msg,
                       len, sig);
}

static inline dbe_err fake_verify(void *ctx, const uint8_t *der, size_t len, struct dbe_identity *ret,
                                  uint8_t ret_pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    struct fake *f = ctx;
    uint8_t hash[CRYPTO_HASH_BYTES];

    f->verified++;
    if (f->verify_err != DBE_OK)
        return dbe_fail(diag, f->verify_err, "certificate", 0, "the owner does not want this peer");
    if (len != FAKE_CERT_BYTES || memcmp(der, "FAKE", 4) != 0 || (der[5] != f->cert[5] && !f->any_mesh))
        return dbe_fail(diag, DBE_E_CERT, "certificate", 0, "not of this mesh");
    DBE_TRY(crypto_sha3_512(der, len - sizeof hash, hash));
    if (memcmp(hash, der + len - sizeof hash, sizeof hash) != 0)
        return dbe_fail(diag, DBE_E_CERT, "certificate", 0, "not signed by the CA");
    memset(ret, 0, sizeof *ret);
    ret->device = der[4];
    memcpy(ret->fingerprint, hash, sizeof ret->fingerprint);
    (void)snprintf(ret->spiffe_id, sizeof ret->spiffe_id, "spiffe://fake/l7/test/%u", der[4]);
    memcpy(ret_pk, der + 6, CRYPTO_MLDSA87_PK_BYTES);
    return DBE_OK;
}

static inline dbe_err fake_evidence(void *ctx, const uint8_t th[CRYPTO_HASH_BYTES], struct base_buf *out)
{
    struct fake *f = ctx;

    memcpy(f->th_made, th, CRYPTO_HASH_BYTES);
    base_buf_bytes(out, f->evidence, f->evidence_len);
    return f->evidence_err;
}

static inline dbe_err fake_verify_evidence(void *ctx, const struct dbe_identity *peer,
                                           const uint8_t th[CRYPTO_HASH_BYTES], const uint8_t *bytes, size_t len,
                                           struct dbe_diag *diag)
{
    struct fake *f = ctx;

    (void)peer;
    f->evidence_judged++;
    memcpy(f->th_seen, th, CRYPTO_HASH_BYTES);
    f->seen_len = len;
    memcpy(f->seen, bytes, BASE_MIN(len, sizeof f->seen));
    if (f->evidence_verdict != DBE_OK)
        return dbe_fail(diag, f->evidence_verdict, "evidence", 0, "the owner does not believe it");
    return DBE_OK;
}

/* With both slots of evidence filled in. */
static inline void fake_with_evidence(struct sess_config *config)
{
    config->auth.evidence = fake_evidence;
    config->auth.verify_evidence = fake_verify_evidence;
}

static inline struct sess_config fake_config(enum sess_role role, struct fake *f)
{
    return (struct sess_config){
        .role = role,
        .auth = {.own_cert = fake_own_cert, .sign = fake_sign, .verify_cert = fake_verify, .ctx = f},
        .policy_digest = {{7}},
    };
}

/* An initiator, a responder, and the bytes under way between them. */
struct fake_pair {
    struct sess *i, *r;
    struct base_buf to_i, to_r;
};

static inline void fake_pair_free(struct fake_pair *p)
{
    sess_free(p->i);
    sess_free(p->r);
    base_buf_free(&p->to_i);
    base_buf_free(&p->to_r);
    memset(p, 0, sizeof *p);
}

static inline dbe_err fake_pair_new(struct fake_pair *p, const struct sess_config *ci, const struct sess_config *cr)
{
    memset(p, 0, sizeof *p);
    base_buf_init(&p->to_i, SIZE_MAX / 2);
    base_buf_init(&p->to_r, SIZE_MAX / 2);
    DBE_TRY(sess_new(ci, &p->i));
    return sess_new(cr, &p->r);
}

/* Give `s` one record from `from`; what it answers goes to `to`. */
static inline dbe_err fake_step(struct sess *s, struct base_buf *from, struct base_buf *to, enum sess_event *ret_event,
                                const uint8_t **ret_msg, size_t *ret_len)
{
    size_t used = 0;

    DBE_TRY(sess_feed(s, from->data, from->len, &used, ret_event, ret_msg, ret_len, to));
    base_buf_consume(from, used); /* moves the bytes: a message is looked at before, by fake_open */
    return DBE_OK;
}

/* The whole handshake. */
static inline dbe_err fake_handshake(struct fake_pair *p)
{
    enum sess_event ev = SESS_NEED_MORE;
    const uint8_t *msg;
    size_t len;

    DBE_TRY(sess_start(p->i, &p->to_r));
    DBE_TRY(fake_step(p->r, &p->to_r, &p->to_i, &ev, &msg, &len));
    DBE_TRY(fake_step(p->i, &p->to_i, &p->to_r, &ev, &msg, &len));
    if (ev != SESS_ESTABLISHED)
        return DBE_E_STATE;
    DBE_TRY(fake_step(p->r, &p->to_r, &p->to_i, &ev, &msg, &len));
    return ev == SESS_ESTABLISHED ? DBE_OK : DBE_E_STATE;
}

#endif
