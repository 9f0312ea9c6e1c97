/* SPDX-License-Identifier: Apache-2.0
 *
 * auth_block.c - how a side proves who it is: certificate, signature over the transcript, key confirmation; sealed
 * under the handshake keys. The same block in messages 2 and 3, made and taken here.
 *
 * Order on the way in, cheap first: seal, lengths, key confirmation, reflection, then the certificate, and only with
 * the key that the certificate vouches for the signature. Nothing but the transcript is committed.
 */
#include "session/session_priv.h"

#include <string.h>

static const char *const sig_context[2] = {"DSMIL-DBE v1 initiator", "DSMIL-DBE v1 responder"};

static size_t index_of(enum sess_role role)
{
    return role == SESS_INITIATOR ? 0 : 1;
}

size_t sess_auth_sealed_bytes(const struct sess *s)
{
    const uint8_t *der;
    size_t len;

    s->config.auth.own_cert(s->config.auth.ctx, &der, &len);
    return SESS_AUTH_FIXED_BYTES + len + DBE_RECORD_TAG_BYTES;
}

/* HMAC over the transcript so far, with the sender's confirmation key. */
static dbe_err confirm(const struct sess *s, size_t sender, uint8_t out[CRYPTO_HASH_BYTES])
{
    uint8_t th[CRYPTO_HASH_BYTES];

    DBE_TRY(crypto_hash_peek(s->hs->transcript, th));
    return crypto_hmac(s->secrets->k_mac[sender], sizeof s->secrets->k_mac[sender], th, sizeof th, out);
}

/* A handshake key seals one block, so its nonce is the IV itself. */
static dbe_err with_hs_key(const struct sess *s, size_t sender, bool seal, const uint8_t *rec_head, uint8_t *at,
                           size_t len)
{
    const struct crypto_aead *aead = s->suite->aead;
    struct crypto_aead_ctx *ctx = NULL;
    dbe_err err;

    DBE_TRY(aead->new_ctx(s->secrets->hs_key[sender], seal, &ctx));
    err = (seal ? aead->seal : aead->open)(ctx, s->secrets->hs_iv[sender], rec_head, DBE_RECORD_HEADER_BYTES, at, len,
                                           at);
    aead->free_ctx(ctx);
    return err;
}

dbe_err sess_auth_make(struct sess *s, const uint8_t *rec_head, struct base_buf *b)
{
    const struct sess_auth_ops *auth = &s->config.auth;
    struct crypto_hash *t = s->hs->transcript;
    size_t self = index_of(s->config.role), cert_len;
    const uint8_t *cert;
    uint8_t th[CRYPTO_HASH_BYTES], *block, *sig, *mac;

    auth->own_cert(auth->ctx, &cert, &cert_len);
    block = base_buf_grow(b, SESS_AUTH_FIXED_BYTES + cert_len + DBE_RECORD_TAG_BYTES);
    if (block == NULL)
        return b->err;
    base_put_u16(block, (uint16_t)cert_len);
    memcpy(block + 2, cert, cert_len);
    sig = block + 2 + cert_len;
    mac = sig + CRYPTO_MLDSA87_SIG_BYTES;

    DBE_TRY(crypto_hash_update(t, block, 2 + cert_len));
    DBE_TRY(crypto_hash_peek(t, th));
    DBE_TRY(auth->sign(auth->ctx, sig_context[self], th, sizeof th, sig));
    DBE_TRY(crypto_hash_update(t, sig, CRYPTO_MLDSA87_SIG_BYTES));
    DBE_TRY(confirm(s, self, mac));
    DBE_TRY(crypto_hash_update(t, mac, CRYPTO_HASH_BYTES));
    return with_hs_key(s, self, true, rec_head, block, SESS_AUTH_FIXED_BYTES + cert_len);
}

/* The certificate by the owner's rules, then the signature by the key in it. */
static dbe_err check_identity(struct sess *s, const uint8_t *cert, size_t cert_len, const uint8_t th[CRYPTO_HASH_BYTES],
                              const uint8_t *sig, struct dbe_identity *ret_peer)
{
    const struct sess_auth_ops *auth = &s->config.auth;
    const uint8_t *own;
    size_t own_len, peer = 1 - index_of(s->config.role);
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    struct crypto_key *key = NULL;
    dbe_err err;

    auth->own_cert(auth->ctx, &own, &own_len);
    if (own_len == cert_len && memcmp(own, cert, cert_len) == 0)
        return dbe_fail(&s->diag, DBE_E_AUTH, "identity", 0, "the peer presents our own certificate");
    DBE_TRY(auth->verify_cert(auth->ctx, cert, cert_len, ret_peer, pk, &s->diag));
    DBE_TRY(crypto_key_from_public(pk, &key));
    err = crypto_verify(key, sig_context[peer], th, CRYPTO_HASH_BYTES, sig, CRYPTO_MLDSA87_SIG_BYTES);
    crypto_key_free(key);
    if (err == DBE_E_AUTH)
        return dbe_fail(&s->diag, err, "signature", 0, "the transcript's signature is not the certificate's key's");
    return err;
}

dbe_err sess_auth_take(struct sess *s, const uint8_t *rec_head, uint8_t *sealed, size_t len,
                       struct dbe_identity *ret_peer)
{
    struct crypto_hash *t = s->hs->transcript;
    size_t peer = 1 - index_of(s->config.role);
    uint8_t th[CRYPTO_HASH_BYTES], want[CRYPTO_HASH_BYTES];
    struct base_cur c;

    if (len < SESS_AUTH_FIXED_BYTES + DBE_RECORD_TAG_BYTES)
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "auth block", 0, "%zu bytes are too few", len);
    dbe_err err = with_hs_key(s, peer, false, rec_head, sealed, len);
    if (err == DBE_E_AUTH)
        return dbe_fail(&s->diag, err, "auth block", 0, "it does not open: the two sides have different keys");
    DBE_TRY(err);

    c = base_cur_of(sealed, len - DBE_RECORD_TAG_BYTES);
    size_t cert_len = base_cur_u16(&c);
    const uint8_t *cert = base_cur_bytes(&c, cert_len);
    const uint8_t *sig = base_cur_bytes(&c, CRYPTO_MLDSA87_SIG_BYTES);
    const uint8_t *mac = base_cur_bytes(&c, CRYPTO_HASH_BYTES);
    if (base_cur_end(&c) != DBE_OK || cert_len == 0 || cert_len > DBE_CERT_MAX_BYTES)
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "auth block", 0, "its lengths do not add up");

    DBE_TRY(crypto_hash_update(t, sealed, 2 + cert_len));
    DBE_TRY(crypto_hash_peek(t, th));
    DBE_TRY(crypto_hash_update(t, sig, CRYPTO_MLDSA87_SIG_BYTES));
    DBE_TRY(confirm(s, peer, want));
    if (!base_equal_ct(want, mac, sizeof want))
        return dbe_fail(&s->diag, DBE_E_AUTH, "key confirmation", 0, "it is not made with this channel's key");
    DBE_TRY(crypto_hash_update(t, mac, CRYPTO_HASH_BYTES));
    return check_identity(s, cert, cert_len, th, sig, ret_peer);
}
