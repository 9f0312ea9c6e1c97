/* SPDX-License-Identifier: Apache-2.0
 *
 * msg2.c - message 2: the responder's choice and shares in the clear, then its identity sealed.
 *
 * The keys of the seal come from both shared secrets and the transcript up to the end of the clear part. The initiator
 * says who it is (message 3) only after all of this verified.
 */
#include "session/session_priv.h"

#include <string.h>

static size_t clear_bytes(const struct crypto_suite *suite)
{
    return SESS_MSG2_FIXED_BYTES + suite->ecdh->pub_bytes + suite->kem->ct_bytes;
}

/* Own shares, and both secrets against the peer's. */
static dbe_err put_shares(struct sess *s, const uint8_t *peer_pub, const uint8_t *peer_ek, uint8_t *at)
{
    const struct crypto_suite *suite = s->suite;
    uint8_t *ikm = s->hs->secrets->ikm;
    dbe_err err;

    DBE_TRY(suite->ecdh->keygen(&s->hs->ecdh[0], at));
    err = suite->ecdh->derive(s->hs->ecdh[0], peer_pub, ikm);
    if (err == DBE_E_MALFORMED)
        return dbe_fail(&s->diag, err, "message 1 share", 0, "the public value is not a point of %s",
                        suite->ecdh->name);
    DBE_TRY(err);
    err = suite->kem->encaps(peer_ek, at + suite->ecdh->pub_bytes, ikm + suite->ecdh->ss_bytes);
    if (err == DBE_E_MALFORMED)
        return dbe_fail(&s->diag, err, "message 1 share", 0, "the key is not one of %s", suite->kem->name);
    return err;
}

static dbe_err put_all(struct sess *s, const uint8_t *peer_pub, const uint8_t *peer_ek, struct base_buf *b)
{
    size_t start = b->len, clear = DBE_RECORD_HEADER_BYTES + clear_bytes(s->suite);
    struct sess_rec_head head = {.type = SESS_REC_MSG_2}; /* its length comes with the auth block */
    uint8_t *p = base_buf_grow(b, clear);

    if (p == NULL)
        return b->err;
    sess_rec_head_put(p, &head);
    DBE_TRY(base_random(s->hs->nonce, sizeof s->hs->nonce));
    p[DBE_RECORD_HEADER_BYTES] = SESS_HS_VERSION;
    base_put_u16(p + DBE_RECORD_HEADER_BYTES + 1, s->suite->id);
    memcpy(p + DBE_RECORD_HEADER_BYTES + 3, s->hs->nonce, SESS_NONCE_BYTES);
    DBE_TRY(put_shares(s, peer_pub, peer_ek, p + DBE_RECORD_HEADER_BYTES + SESS_MSG2_FIXED_BYTES));
    DBE_TRY(crypto_hash_update(s->hs->transcript, p, clear));
    DBE_TRY(sess_ks_handshake(s));
    return sess_auth_make(s, start, b);
}

dbe_err sess_msg2_make(struct sess *s, const uint8_t *peer_pub, const uint8_t *peer_ek, struct base_buf *buf)
{
    size_t start = buf->len;
    dbe_err err = put_all(s, peer_pub, peer_ek, buf);

    if (err != DBE_OK)
        sess_cut(buf, start); /* may hold the certificate in the clear */
    return err;
}

/* The suite that the responder chose must be one that we offered. */
static dbe_err find_offered(struct sess *s, uint16_t id, size_t *ret_index)
{
    for (size_t i = 0; i < s->suites_count; i++)
        if (s->suites[i]->id == id) {
            *ret_index = i;
            return DBE_OK;
        }
    return dbe_fail(&s->diag, DBE_E_PROTOCOL, "message 2 suite", 1, "the peer chose suite %u, which was not offered",
                    id);
}

static dbe_err take_shares(struct sess *s, size_t index, const uint8_t *pub, const uint8_t *ct)
{
    const struct crypto_suite *suite = s->suites[index];
    dbe_err err;

    if (memcmp(pub, s->hs->ecdh_pub[index], suite->ecdh->pub_bytes) == 0)
        return dbe_fail(&s->diag, DBE_E_AUTH, "message 2 share", 0, "the peer sent our own public value back");
    err = suite->ecdh->derive(s->hs->ecdh[index], pub, s->hs->secrets->ikm);
    if (err == DBE_E_MALFORMED)
        return dbe_fail(&s->diag, err, "message 2 share", 0, "the public value is not a point of %s",
                        suite->ecdh->name);
    DBE_TRY(err);
    return suite->kem->decaps(s->hs->kem[index], ct, s->hs->secrets->ikm + suite->ecdh->ss_bytes);
}

dbe_err sess_msg2_take(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out)
{
    struct base_cur c = base_cur_of(rec + DBE_RECORD_HEADER_BYTES, len - DBE_RECORD_HEADER_BYTES);
    uint8_t version = base_cur_u8(&c);
    uint16_t id = base_cur_u16(&c);
    const uint8_t *nonce = base_cur_bytes(&c, SESS_NONCE_BYTES), *pub, *ct;
    size_t index = 0, sealed_at;
    struct dbe_identity peer = {0};

    if (nonce == NULL)
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "message 2", 0, "%zu bytes are too few", len);
    if (version != SESS_HS_VERSION)
        return dbe_fail(&s->diag, DBE_E_UNSUPPORTED, "message 2 version", 0, "the peer speaks version %u", version);
    DBE_TRY(find_offered(s, id, &index));
    s->suite = s->suites[index];
    pub = base_cur_bytes(&c, s->suite->ecdh->pub_bytes);
    ct = base_cur_bytes(&c, s->suite->kem->ct_bytes);
    if (!base_cur_ok(&c))
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "message 2", 0, "%zu bytes are too few", len);
    if (memcmp(nonce, s->hs->nonce, SESS_NONCE_BYTES) == 0)
        return dbe_fail(&s->diag, DBE_E_AUTH, "message 2 nonce", 3, "the peer sent our own nonce back");
    DBE_TRY(take_shares(s, index, pub, ct));
    sealed_at = DBE_RECORD_HEADER_BYTES + base_cur_offset(&c);
    DBE_TRY(sess_auth_hash_head(s, rec));
    DBE_TRY(crypto_hash_update(s->hs->transcript, rec + DBE_RECORD_HEADER_BYTES, sealed_at - DBE_RECORD_HEADER_BYTES));
    DBE_TRY(sess_ks_handshake(s));
    DBE_TRY(sess_auth_take(s, rec, rec + sealed_at, len - sealed_at, &peer));
    DBE_TRY(sess_msg3_make(s, out->buf));
    DBE_TRY(sess_ks_application(s));
    s->peer = peer;
    s->peer_known = true;
    sess_end_handshake(s);
    sess_move(s, SESS_UP);
    out->event = SESS_ESTABLISHED;
    return DBE_OK;
}
