/* SPDX-License-Identifier: Apache-2.0
 *
 * record.c - the record layer: header, nonce, seal, open, and what an opened record means.
 *
 * Header: length u32 (bytes after it) | type u8 | epoch u8 | zero u16 | sequence u64; all of it is the AAD. The nonce
 * is the direction's IV xor the sequence, which counts on over epochs and never back. Order on the way in: open, then
 * replay, then state; nothing unauthenticated changes anything.
 */
#include "session/session_priv.h"

#include <string.h>

void sess_rec_head_put(uint8_t p[DBE_RECORD_HEADER_BYTES], const struct sess_rec_head *h)
{
    base_put_u32(p, h->length);
    p[4] = h->type;
    p[5] = h->epoch;
    base_put_u16(p + 6, h->reserved);
    base_put_u64(p + 8, h->seq);
}

void sess_rec_head_get(const uint8_t p[DBE_RECORD_HEADER_BYTES], struct sess_rec_head *h)
{
    h->length = base_get_u32(p);
    h->type = p[4];
    h->epoch = p[5];
    h->reserved = base_get_u16(p + 6);
    h->seq = base_get_u64(p + 8);
}

void sess_nonce(const uint8_t iv[CRYPTO_AEAD_IV_BYTES], uint64_t seq, uint8_t nonce[CRYPTO_AEAD_IV_BYTES])
{
    memcpy(nonce, iv, CRYPTO_AEAD_IV_BYTES);
    base_put_u64(nonce + 4, base_get_u64(nonce + 4) ^ seq);
}

dbe_err sess_rec_seal(struct sess *s, uint8_t type, const void *msg, size_t len, uint8_t *dst)
{
    struct sess_send *d = &s->send;
    uint8_t nonce[CRYPTO_AEAD_IV_BYTES];
    struct sess_rec_head head = {
        .length = (uint32_t)(len + DBE_RECORD_TAG_BYTES), .type = type, .epoch = d->epoch, .seq = d->next_seq};

    if (head.seq == UINT64_MAX)
        return dbe_fail(&s->diag, DBE_E_LIMIT, "sequence", 0, "the last sequence number is used up");
    /* Always on: a sequence number, and with it a nonce, is used once, whatever becomes of the keys meanwhile. */
    if (d->any && head.seq <= d->last_seq)
        return dbe_fail(&s->diag, DBE_E_STATE, "sequence", 0, "a nonce would have been used twice");
    d->last_seq = head.seq; /* spent, whatever becomes of the record */
    d->any = true;
    d->next_seq++;
    d->epoch_records++;
    d->epoch_bytes += len;

    sess_rec_head_put(dst, &head);
    sess_nonce(d->keys.iv, head.seq, nonce);
    return d->keys.suite->aead->seal(d->keys.aead, nonce, dst, DBE_RECORD_HEADER_BYTES, msg, len,
                                     dst + DBE_RECORD_HEADER_BYTES);
}

static dbe_err open_with(const struct sess_keys *keys, uint64_t seq, uint8_t *rec, size_t len)
{
    uint8_t nonce[CRYPTO_AEAD_IV_BYTES];
    uint8_t *body = rec + DBE_RECORD_HEADER_BYTES;

    sess_nonce(keys->iv, seq, nonce);
    return keys->suite->aead->open(keys->aead, nonce, rec, DBE_RECORD_HEADER_BYTES, body, len - DBE_RECORD_HEADER_BYTES,
                                   body);
}

/* A datagram of the next epoch that overtook the notice: try the keys that will be, and move if they open it. */
static dbe_err open_ahead(struct sess *s, uint64_t seq, uint8_t *rec, size_t len)
{
    struct sess_keys keys = {0};
    uint8_t next[SESS_SECRET_BYTES];
    dbe_err err = sess_ks_next(s->secrets->recv, next);

    if (err == DBE_OK)
        err = sess_ks_keys(s->recv.keys.suite, next, false, &keys);
    if (err == DBE_OK)
        err = open_with(&keys, seq, rec, len);
    sess_keys_free(&keys);
    base_wipe(next, sizeof next);
    return err == DBE_OK ? sess_rekey_take(s, (uint8_t)(s->recv.epoch + 1)) : err;
}

/* Open with the keys of the record's epoch. *ret_old: it is of the epoch before (datagrams). */
static dbe_err open_record(struct sess *s, const struct sess_rec_head *head, uint8_t *rec, size_t len, bool *ret_old)
{
    struct sess_recv *d = &s->recv;

    *ret_old = false;
    if (head->epoch == d->epoch)
        return open_with(&d->keys, head->seq, rec, len);
    if (s->config.datagram && head->epoch == (uint8_t)(d->epoch - 1) && d->prev.aead != NULL) {
        *ret_old = true;
        return open_with(&d->prev, head->seq, rec, len);
    }
    if (s->config.datagram && head->epoch == (uint8_t)(d->epoch + 1))
        return open_ahead(s, head->seq, rec, len);
    return dbe_fail(&s->diag, DBE_E_AUTH, "epoch", 5, "record of epoch %u, expected %u", head->epoch, d->epoch);
}

/* What an authentic, new record says. */
static dbe_err apply(struct sess *s, const struct sess_rec_head *head, uint8_t *msg, size_t len, bool old,
                     struct sess_out *out)
{
    switch (head->type) {
    case SESS_REC_DATA:
        s->stats.opened++;
        s->stats.opened_bytes += len;
        out->event = SESS_MESSAGE;
        out->msg = msg;
        out->msg_len = len;
        return DBE_OK;
    case SESS_REC_REKEY:
        out->event = SESS_REKEYED;
        return old ? DBE_OK : sess_rekey_take(s, msg[0]); /* old: a record of the new epoch was here first */
    case SESS_REC_CLOSE:
        out->event = SESS_PEER_CLOSED;
        sess_move(s, SESS_CLOSED);
        return DBE_OK;
    case SESS_REC_REHANDSHAKE: return sess_renew_take(s, msg, len, out);
    case SESS_REC_SWITCH: return sess_renew_switch(s, msg[0], out);
    default: return DBE_E_PROTOCOL;
    }
}

dbe_err sess_rec_take(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out)
{
    struct sess_rec_head head;
    dbe_err err;
    bool old = false;

    sess_rec_head_get(rec, &head);
    err = open_record(s, &head, rec, len, &old);
    if (err == DBE_OK) {
        err = sess_replay_check(&s->recv.replay, head.seq);
        s->stats.replays_refused += err != DBE_OK;
    }
    if (s->config.datagram && (err == DBE_E_AUTH || err == DBE_E_REPLAY)) {
        s->diag_old = true;
        out->event = SESS_DROPPED;
        return DBE_OK;
    }
    if (err == DBE_E_REPLAY)
        return dbe_fail(&s->diag, err, "sequence", 8, "record %llu, expected %llu", (unsigned long long)head.seq,
                        (unsigned long long)s->recv.replay.next);
    if (err == DBE_E_AUTH && s->diag.clause == NULL)
        return dbe_fail(&s->diag, err, "record", 0, "record %llu does not open", (unsigned long long)head.seq);
    if (err != DBE_OK)
        return err;
    sess_replay_commit(&s->recv.replay, head.seq);
    s->recv.any = true;
    if (s->flight != NULL)
        sess_flight_free(s); /* whoever seals has our last message */
    return apply(s, &head, rec + DBE_RECORD_HEADER_BYTES, len - DBE_RECORD_HEADER_BYTES - DBE_RECORD_TAG_BYTES, old,
                 out);
}
