/* SPDX-License-Identifier: Apache-2.0
 *
 * msg3.c - message 3: the initiator's identity, sealed. When it verified, the channel is up on the responder's side.
 */
#include "session/session_priv.h"

static dbe_err put_all(struct sess *s, struct base_buf *b)
{
    struct sess_rec_head head = {.type = SESS_REC_MSG_3}; /* its length comes with the auth block */
    size_t start = b->len;
    uint8_t *p = base_buf_grow(b, DBE_RECORD_HEADER_BYTES);

    if (p == NULL)
        return b->err;
    sess_rec_head_put(p, &head);
    DBE_TRY(sess_auth_hash_head(s, p));
    return sess_auth_make(s, start, b);
}

dbe_err sess_msg3_make(struct sess *s, struct base_buf *buf)
{
    size_t start = buf->len;
    dbe_err err = put_all(s, buf);

    if (err != DBE_OK)
        sess_cut(buf, start); /* may hold the certificate in the clear */
    return err;
}

dbe_err sess_msg3_take(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out)
{
    struct dbe_identity peer = {0};

    DBE_TRY(sess_auth_hash_head(s, rec));
    DBE_TRY(sess_auth_take(s, rec, rec + DBE_RECORD_HEADER_BYTES, len - DBE_RECORD_HEADER_BYTES, &peer));
    DBE_TRY(sess_ks_application(s));
    s->peer = peer;
    s->peer_known = true;
    sess_end_handshake(s);
    sess_move(s, SESS_UP);
    out->event = SESS_ESTABLISHED;
    return DBE_OK;
}
