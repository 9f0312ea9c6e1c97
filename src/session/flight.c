/* SPDX-License-Identifier: Apache-2.0
 *
 * flight.c - handshakes over datagrams, some of which are lost: the last handshake record is kept and said again, the
 * same bytes, when the owner's timer asks for it or when what it answered comes a second time.
 *
 * In:   datagrams that repeat message 1 or 2    Out: the record that answered it the first time
 * Does: nothing is signed, derived or sealed again, so no nonce is used twice and a repetition costs one hash. One
 *       record is kept, until the peer has shown that it took it: by the next message, or by its first sealed record.
 * Not:  it has no timer; whoever owns the session knows the time. On streams nothing of this exists.
 */
#include "session/session_priv.h"

#include <string.h>

void sess_flight_free(struct sess *s)
{
    if (s->flight == NULL)
        return;
    base_buf_free(&s->flight->bytes);
    base_free(s->flight);
    s->flight = NULL;
}

dbe_err sess_flight_keep(struct sess *s, const uint8_t *rec, size_t len, const uint8_t answers[CRYPTO_HASH_BYTES])
{
    struct sess_flight *f;

    sess_flight_free(s);
    if (len == 0)
        return DBE_OK; /* message 3 needs no answer */
    f = base_alloc(1, sizeof *f);
    if (f == NULL)
        return DBE_E_NOMEM;
    s->flight = f;
    base_buf_init(&f->bytes, DBE_HANDSHAKE_MAX_BYTES);
    base_buf_bytes(&f->bytes, rec, len);
    if (answers != NULL)
        memcpy(f->answers, answers, sizeof f->answers);
    return f->bytes.err;
}

/* May a record of this type be one that was answered already? */
static bool may_repeat(const struct sess *s, uint8_t type)
{
    if (s->state == SESS_R_WAIT_3)
        return type == SESS_REC_MSG_1;
    return s->state == SESS_UP && s->config.role == SESS_INITIATOR && type == SESS_REC_MSG_2;
}

bool sess_flight_repeat(struct sess *s, const uint8_t *in, size_t len, struct sess_out *out)
{
    uint8_t digest[CRYPTO_HASH_BYTES];
    struct sess_flight *f = s->flight;
    size_t start = out->buf->len;

    if (f == NULL || len < DBE_RECORD_HEADER_BYTES || !may_repeat(s, in[4]) ||
        crypto_sha3_512(in, len, digest) != DBE_OK || memcmp(digest, f->answers, sizeof digest) != 0)
        return false;
    out->event = SESS_HANDSHAKING;
    s->stats.flights_resent++;
    if (s->state == SESS_UP) {
        f->due = true; /* an open channel appends nothing by itself */
        return true;
    }
    base_buf_bytes(out->buf, f->bytes.data, f->bytes.len);
    if (out->buf->err != DBE_OK)
        sess_cut(out->buf, start); /* as if it had been lost once more */
    return true;
}

dbe_err sess_resend(struct sess *s, struct base_buf *out)
{
    size_t start = out->len;

    if (!s->config.datagram || (s->state != SESS_I_WAIT_2 && s->state != SESS_R_WAIT_3 && s->state != SESS_UP))
        return DBE_E_STATE;
    if (s->flight == NULL)
        return DBE_OK;
    DBE_TRY(out->err);
    base_buf_bytes(out, s->flight->bytes.data, s->flight->bytes.len);
    if (out->err != DBE_OK) {
        dbe_err err = out->err;
        sess_cut(out, start);
        return err;
    }
    s->stats.flights_resent++;
    return DBE_OK;
}
