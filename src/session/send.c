/* SPDX-License-Identifier: Apache-2.0
 *
 * send.c - what the owner has sealed: messages, rekeys, goodbye, and what must go before each of them.
 *
 * In:   a message, or nothing                              Out: sealed records, appended to the owner's buffer
 * Does: puts before a record the notice of a rekey that is due and whatever a handshake inside the channel owes the
 *       peer. All of one call is appended or nothing is.
 * Not:  it does not send, and has no clock: the owner says what time it is.
 */
#include "session/session_priv.h"

dbe_err sess_may_send(const struct sess *s)
{
    if (s->state == SESS_CLOSING || s->state == SESS_CLOSED)
        return DBE_E_CLOSED;
    return s->state == SESS_UP ? DBE_OK : DBE_E_STATE;
}

bool sess_ages(struct sess *s, size_t len, uint64_t now_ns)
{
    struct sess_owed owed = sess_owed(s);

    if (!s->send.aged) {
        s->send.aged = true;
        s->send.epoch_start_ns = now_ns;
    }
    return sess_rekey_due(s, owed.records + 1, owed.bytes + len, now_ns);
}

size_t sess_before_bytes(const struct sess *s, bool rekey)
{
    return (rekey ? (size_t)SESS_REKEY_NOTICE_BYTES : 0) + sess_owed(s).bytes;
}

/* The notice first: what is owed counts to the new epoch. */
dbe_err sess_before_put(struct sess *s, bool rekey, uint64_t now_ns, uint8_t *dst)
{
    if (rekey) {
        DBE_TRY(sess_rekey_send(s, now_ns, dst));
        dst += SESS_REKEY_NOTICE_BYTES;
    }
    return sess_owed_put(s, now_ns, dst);
}

/* Room in `out`, or the error with `out` as it was. */
static dbe_err reserve(struct base_buf *out, size_t len, uint8_t **ret)
{
    dbe_err err;

    DBE_TRY(out->err);
    *ret = base_buf_grow(out, len);
    err = out->err;
    out->err = DBE_OK; /* the caller may make room and try again */
    return err;
}

/* Seal what goes before, and a record (type 0: none), into `out`: all or nothing. */
static dbe_err emit(struct sess *s, bool rekey, uint8_t type, const void *msg, size_t len, uint64_t now_ns,
                    struct base_buf *out)
{
    size_t start = out->len, before = sess_before_bytes(s, rekey);
    uint8_t *p = NULL;
    dbe_err err;

    DBE_TRY(reserve(out, before + (type != 0 ? DBE_RECORD_HEADER_BYTES + len + DBE_RECORD_TAG_BYTES : 0), &p));
    err = before > 0 ? sess_before_put(s, rekey, now_ns, p) : DBE_OK;
    if (err == DBE_OK && type != 0)
        err = sess_rec_seal(s, type, msg, len, p + before);
    if (err != DBE_OK) {
        sess_cut(out, start);
        return sess_kill(s, err);
    }
    return DBE_OK;
}

dbe_err sess_seal(struct sess *s, const void *msg, size_t len, uint64_t now_ns, struct base_buf *out)
{
    sess_fresh_diag(s);
    DBE_TRY(sess_may_send(s));
    if (len > DBE_MESSAGE_MAX_BYTES)
        return DBE_E_TOO_LARGE;
    DBE_TRY(emit(s, sess_ages(s, len, now_ns), SESS_REC_DATA, msg, len, now_ns, out));
    s->stats.sealed++;
    s->stats.sealed_bytes += len;
    return DBE_OK;
}

dbe_err sess_rekey(struct sess *s, uint64_t now_ns, struct base_buf *out)
{
    sess_fresh_diag(s);
    DBE_TRY(sess_may_send(s));
    return emit(s, true, 0, NULL, 0, now_ns, out);
}

bool sess_owes(const struct sess *s)
{
    return s->state == SESS_UP && sess_owed(s).bytes > 0;
}

dbe_err sess_flush(struct sess *s, uint64_t now_ns, struct base_buf *out)
{
    sess_fresh_diag(s);
    DBE_TRY(sess_may_send(s));
    if (!sess_owes(s))
        return DBE_OK;
    return emit(s, sess_ages(s, 0, now_ns), 0, NULL, 0, now_ns, out);
}

dbe_err sess_close(struct sess *s, struct base_buf *out)
{
    uint8_t *p = NULL;
    dbe_err err;

    sess_fresh_diag(s);
    DBE_TRY(sess_may_send(s));
    DBE_TRY(reserve(out, DBE_RECORD_HEADER_BYTES + DBE_RECORD_TAG_BYTES, &p));
    err = sess_rec_seal(s, SESS_REC_CLOSE, NULL, 0, p); /* whatever is owed means nothing any more */
    if (err != DBE_OK) {
        sess_cut(out, out->len - DBE_RECORD_HEADER_BYTES - DBE_RECORD_TAG_BYTES);
        return sess_kill(s, err);
    }
    sess_renew_closing(s);
    sess_move(s, SESS_CLOSING);
    return DBE_OK;
}
