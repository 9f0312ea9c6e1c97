/* SPDX-License-Identifier: Apache-2.0
 *
 * auth_block.c - how a side proves who it is: certificate, evidence, signature over the transcript, key confirmation;
 * sealed under the handshake keys. The same block in messages 2 and 3, made and taken here.
 *
 * Order on the way in, cheap first: seal, lengths, key confirmation, reflection, then the certificate, only with the
 * key that the certificate vouches for the signature, and only then the evidence, which is the peer's by that
 * signature. Nothing but the transcript is committed.
 */
#include "session/session_priv.h"

#include <string.h>

static const char *const sig_context[2] = {"DSMIL-DBE v1 initiator", "DSMIL-DBE v1 responder"};

static size_t index_of(enum sess_role role)
{
    return role == SESS_INITIATOR ? 0 : 1;
}

dbe_err sess_auth_hash_head(struct sess *s, const uint8_t rec_head[DBE_RECORD_HEADER_BYTES])
{
    uint8_t head[DBE_RECORD_HEADER_BYTES];

    memcpy(head, rec_head, sizeof head);
    base_put_u32(head, 0);
    return crypto_hash_update(s->hs->transcript, head, sizeof head);
}

/* HMAC over the transcript so far, with the sender's confirmation key. */
static dbe_err confirm(const struct sess *s, size_t sender, uint8_t out[CRYPTO_HASH_BYTES])
{
    uint8_t th[CRYPTO_HASH_BYTES];

    DBE_TRY(crypto_hash_peek(s->hs->transcript, th));
    return crypto_hmac(s->hs->secrets->k_mac[sender], SESS_SECRET_BYTES, th, sizeof th, out);
}

/* A handshake key seals one block, so its nonce is the IV itself. */
static dbe_err with_hs_key(const struct sess *s, size_t sender, bool seal, const uint8_t *rec_head, uint8_t *at,
                           size_t len)
{
    const struct crypto_aead *aead = s->suite->aead;
    struct crypto_aead_ctx *ctx = NULL;
    dbe_err err;

    DBE_TRY(aead->new_ctx(s->hs->secrets->key[sender], seal, &ctx));
    err = (seal ? aead->seal : aead->open)(ctx, s->hs->secrets->iv[sender], rec_head, DBE_RECORD_HEADER_BYTES, at, len,
                                           at);
    aead->free_ctx(ctx);
    return err;
}

/* length u16 | certificate, and the transcript's hash up to it. */
static dbe_err put_cert(struct sess *s, struct base_buf *b, uint8_t ret_th[CRYPTO_HASH_BYTES])
{
    const struct sess_auth_ops *auth = &s->config.auth;
    const uint8_t *cert;
    uint8_t *at;
    size_t len;

    auth->own_cert(auth->ctx, &cert, &len);
    at = base_buf_grow(b, 2 + len);
    if (at == NULL)
        return b->err;
    base_put_u16(at, (uint16_t)len);
    memcpy(at + 2, cert, len);
    DBE_TRY(crypto_hash_update(s->hs->transcript, at, 2 + len));
    return crypto_hash_peek(s->hs->transcript, ret_th);
}

/* length u16 | evidence; `th` moves on to the transcript's hash up to it. */
static dbe_err put_evidence(struct sess *s, struct base_buf *b, uint8_t th[CRYPTO_HASH_BYTES])
{
    const struct sess_auth_ops *auth = &s->config.auth;
    uint8_t mem[SESS_EVIDENCE_MAX_BYTES], *at;
    struct base_buf made;

    base_buf_init_fixed(&made, mem, sizeof mem);
    if (auth->evidence != NULL)
        DBE_TRY(auth->evidence(auth->ctx, th, &made));
    DBE_TRY(made.err);
    at = base_buf_grow(b, 2 + made.len);
    if (at == NULL)
        return b->err;
    base_put_u16(at, (uint16_t)made.len);
    memcpy(at + 2, mem, made.len);
    DBE_TRY(crypto_hash_update(s->hs->transcript, at, 2 + made.len));
    return crypto_hash_peek(s->hs->transcript, th);
}

dbe_err sess_auth_make(struct sess *s, size_t start, struct base_buf *b)
{
    const struct sess_auth_ops *auth = &s->config.auth;
    struct crypto_hash *t = s->hs->transcript;
    size_t self = index_of(s->config.role), block = b->len;
    uint8_t th[CRYPTO_HASH_BYTES], *sig, *mac;

    DBE_TRY(put_cert(s, b, th));
    DBE_TRY(put_evidence(s, b, th));
    sig = base_buf_grow(b, CRYPTO_MLDSA87_SIG_BYTES + CRYPTO_HASH_BYTES + DBE_RECORD_TAG_BYTES);
    if (sig == NULL)
        return b->err;
    mac = sig + CRYPTO_MLDSA87_SIG_BYTES;
    DBE_TRY(auth->sign(auth->ctx, sig_context[self], th, sizeof th, sig));
    DBE_TRY(crypto_hash_update(t, sig, CRYPTO_MLDSA87_SIG_BYTES));
    DBE_TRY(confirm(s, self, mac));
    DBE_TRY(crypto_hash_update(t, mac, CRYPTO_HASH_BYTES));
    base_put_u32(b->data + start, (uint32_t)(b->len - start - DBE_RECORD_HEADER_BYTES));
    return with_hs_key(s, self, true, b->data + start, b->data + block, b->len - block - DBE_RECORD_TAG_BYTES);
}

/* What an auth block says, in the block. */
struct block {
    const uint8_t *cert, *evidence, *sig, *mac;
    size_t cert_len, evidence_len;
};

static dbe_err parse(struct sess *s, const uint8_t *block, size_t len, struct block *ret)
{
    struct base_cur c = base_cur_of(block, len);

    ret->cert_len = base_cur_u16(&c);
    ret->cert = base_cur_bytes(&c, ret->cert_len);
    ret->evidence_len = base_cur_u16(&c);
    ret->evidence = base_cur_bytes(&c, ret->evidence_len);
    ret->sig = base_cur_bytes(&c, CRYPTO_MLDSA87_SIG_BYTES);
    ret->mac = base_cur_bytes(&c, CRYPTO_HASH_BYTES);
    if (base_cur_end(&c) != DBE_OK || ret->cert_len == 0 || ret->cert_len > DBE_CERT_MAX_BYTES ||
        ret->evidence_len > SESS_EVIDENCE_MAX_BYTES)
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "auth block", 0, "its lengths do not add up");
    return DBE_OK;
}

/* The certificate by the owner's rules, the signature by the key in it, the evidence by the owner's rules. */
static dbe_err check_identity(struct sess *s, const struct block *b, const uint8_t th_cert[CRYPTO_HASH_BYTES],
                              const uint8_t th_signed[CRYPTO_HASH_BYTES], struct dbe_identity *ret_peer)
{
    const struct sess_auth_ops *auth = &s->config.auth;
    const uint8_t *own;
    size_t own_len, peer = 1 - index_of(s->config.role);
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    struct crypto_key *key = NULL;
    dbe_err err;

    auth->own_cert(auth->ctx, &own, &own_len);
    if (own_len == b->cert_len && memcmp(own, b->cert, b->cert_len) == 0)
        return dbe_fail(&s->diag, DBE_E_AUTH, "identity", 0, "the peer presents our own certificate");
    DBE_TRY(auth->verify_cert(auth->ctx, b->cert, b->cert_len, ret_peer, pk, &s->diag));
    DBE_TRY(crypto_key_from_public(pk, &key));
    err = crypto_verify(key, sig_context[peer], th_signed, CRYPTO_HASH_BYTES, b->sig, CRYPTO_MLDSA87_SIG_BYTES);
    crypto_key_free(key);
    if (err == DBE_E_AUTH)
        return dbe_fail(&s->diag, err, "signature", 0, "the transcript's signature is not the certificate's key's");
    DBE_TRY(err);
    if (auth->verify_evidence == NULL)
        return DBE_OK;
    return auth->verify_evidence(auth->ctx, ret_peer, th_cert, b->evidence, b->evidence_len, &s->diag);
}

dbe_err sess_auth_take(struct sess *s, const uint8_t *rec_head, uint8_t *sealed, size_t len,
                       struct dbe_identity *ret_peer)
{
    struct crypto_hash *t = s->hs->transcript;
    size_t peer = 1 - index_of(s->config.role);
    uint8_t th_cert[CRYPTO_HASH_BYTES], th_signed[CRYPTO_HASH_BYTES], want[CRYPTO_HASH_BYTES];
    struct block b;

    if (len < SESS_AUTH_FIXED_BYTES + DBE_RECORD_TAG_BYTES)
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "auth block", 0, "%zu bytes are too few", len);
    dbe_err err = with_hs_key(s, peer, false, rec_head, sealed, len);
    if (err == DBE_E_AUTH)
        return dbe_fail(&s->diag, err, "auth block", 0, "it does not open: the two sides have different keys");
    DBE_TRY(err);
    DBE_TRY(parse(s, sealed, len - DBE_RECORD_TAG_BYTES, &b));

    DBE_TRY(crypto_hash_update(t, sealed, 2 + b.cert_len));
    DBE_TRY(crypto_hash_peek(t, th_cert));
    DBE_TRY(crypto_hash_update(t, sealed + 2 + b.cert_len, 2 + b.evidence_len));
    DBE_TRY(crypto_hash_peek(t, th_signed));
    DBE_TRY(crypto_hash_update(t, b.sig, CRYPTO_MLDSA87_SIG_BYTES));
    DBE_TRY(confirm(s, peer, want));
    if (!base_equal_ct(want, b.mac, sizeof want))
        return dbe_fail(&s->diag, DBE_E_AUTH, "key confirmation", 0, "it is not made with this channel's key");
    DBE_TRY(crypto_hash_update(t, b.mac, CRYPTO_HASH_BYTES));
    return check_identity(s, &b, th_cert, th_signed, ret_peer);
}
