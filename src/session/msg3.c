/* SPDX-License-Identifier: Apache-2.0
 *
 * msg3.c - message 3: the initiator's identity, sealed. When it verified, the channel is up on the responder's side.
 */
#include "session/session_priv.h"

dbe_err sess_msg3_make(struct sess *s, struct base_buf *buf)
{
    size_t start = buf->len, total = DBE_RECORD_HEADER_BYTES + sess_auth_sealed_bytes(s);
    struct sess_rec_head head = {.length = (uint32_t)(total - DBE_RECORD_HEADER_BYTES), .type = SESS_REC_MSG_3};
    uint8_t *p = base_buf_grow(buf, total);
    struct base_buf b;
    dbe_err err;

    if (p == NULL)
        return buf->err;
    base_buf_init_fixed(&b, p, total);
    sess_rec_head_put(base_buf_grow(&b, DBE_RECORD_HEADER_BYTES), &head);
    err = crypto_hash_update(s->hs->transcript, p, DBE_RECORD_HEADER_BYTES);
    if (err == DBE_OK)
        err = sess_auth_make(s, p, &b);
    if (err != DBE_OK) {
        base_wipe(p, total);
        buf->len = start;
    }
    return err;
}

dbe_err sess_msg3_take(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out)
{
    struct dbe_identity peer = {0};

    DBE_TRY(crypto_hash_update(s->hs->transcript, rec, DBE_RECORD_HEADER_BYTES));
    DBE_TRY(sess_auth_take(s, rec, rec + DBE_RECORD_HEADER_BYTES, len - DBE_RECORD_HEADER_BYTES, &peer));
    DBE_TRY(sess_ks_application(s));
    s->peer = peer;
    s->peer_known = true;
    sess_end_handshake(s);
    sess_move(s, SESS_UP);
    out->event = SESS_ESTABLISHED;
    return DBE_OK;
}
