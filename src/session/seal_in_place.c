/* SPDX-License-Identifier: Apache-2.0
 *
 * seal_in_place.c - DATA records whose content was gathered in the send buffer itself, so that sealing copies nothing.
 *
 * In:   a buffer with room for a record's header and, behind it, what the record holds    Out: the sealed record there
 * Does: puts the notice of a rekey that is due, and what is owed, before the record; that moves the content, rarely.
 * Not:  it does not look at what is sealed, nor does it send.
 */
#include "session/session_priv.h"

#include <string.h>

dbe_err sess_seal_in_place(struct sess *s, size_t head_at, uint64_t now_ns, struct base_buf *out)
{
    const size_t before = out->len;

    sess_fresh_diag(s);
    DBE_TRY(sess_may_send(s));
    if (head_at > before || before - head_at < DBE_RECORD_HEADER_BYTES)
        return DBE_E_ARGUMENT;
    const size_t len = before - head_at - DBE_RECORD_HEADER_BYTES;
    if (len > DBE_MESSAGE_MAX_BYTES)
        return DBE_E_TOO_LARGE;
    const bool rekey = sess_ages(s, len, now_ns);
    const size_t notice = sess_before_bytes(s, rekey);
    if (base_buf_grow(out, notice + DBE_RECORD_TAG_BYTES) == NULL) {
        dbe_err err = out->err;
        out->err = DBE_OK; /* as it was: the caller may make room and try again */
        return err;
    }
    uint8_t *head = out->data + head_at, *text = head + DBE_RECORD_HEADER_BYTES;
    dbe_err err = DBE_OK;
    if (notice > 0) {
        memmove(text + notice, text, len);
        err = sess_before_put(s, rekey, now_ns, head);
    }
    if (err == DBE_OK)
        err = sess_rec_seal(s, SESS_REC_DATA, text + notice, len, head + notice);
    if (err != DBE_OK) {
        base_wipe(text, len + notice); /* what a caller who goes on regardless must not send in the clear */
        out->len = head_at;
        return sess_kill(s, err);
    }
    s->stats.sealed++;
    s->stats.sealed_bytes += len;
    return DBE_OK;
}
