/* SPDX-License-Identifier: Apache-2.0
 *
 * wait.c - calls made simple: one that waits for its answer, one that is taken back aloud.
 *
 * In:   requests of the owner    Out: the answer, copied; L7_CANCEL to the peer
 * Does not: anything that dbe_call, dbe_call_cancel and the loop do not do.
 */
#include "node_impl.h"

#include <string.h>

/* ---- waiting --------------------------------------------------------------------------------------------------- */

struct wait {
    uint8_t *out;
    size_t   cap, len;
    bool     done;
    dbe_err  err;
};

static void on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct wait *w = ctx;

    w->done = last;
    if (!last)
        return;
    w->err = err;
    if (msg == NULL)
        return;
    w->len = msg->len;
    if (msg->len > w->cap)
        w->err = DBE_E_TOO_LARGE;
    else
        memcpy(w->out, msg->bytes, msg->len);
}

dbe_err dbe_call_wait(struct dbe_peer *p, const void *bytes, size_t len, uint64_t deadline_ns, void *out, size_t cap,
                      size_t *ret_len)
{
    struct dbe_loop *loop = p->node->loop;
    struct wait w = {.out = out, .cap = cap};
    dbe_err err = DBE_OK;
    uint64_t id = 0;

    if (p->node->depth > 0)
        return DBE_E_STATE; /* the turn that we are in delivers the answer, when it goes on */
    DBE_TRY(dbe_call(p, bytes, len, deadline_ns, on_reply, &w, &id));
    while (!w.done && err == DBE_OK)
        err = base_loop_turn(loop, -1);
    if (!w.done) {
        dbe_call_cancel(p, id); /* the peer lives: its end would have ended the call */
        return err;
    }
    DBE_TRY(w.err);
    *ret_len = w.len;
    return DBE_OK;
}

/* ---- taking back ----------------------------------------------------------------------------------------------- */

enum {
    UUID_BYTES = 16,
    CANCEL_PAYLOAD_BYTES = 2 + UUID_BYTES, /* L7Cancel.request_id: field 1, 16 bytes */
    CANCEL_SPARE_BYTES = 64,               /* header and payload beside the labels */
};

/* The request's own, except what concerns it alone: L7_CANCEL has no claim, deadline or trace, and a time of its
 * own. */
static const uint16_t left_behind[] = {DBE_TLV_L7_CLAIM_TOKEN, DBE_TLV_TIMEOUT_MS, DBE_TLV_TIMESTAMP,
                                       DBE_TLV_HOP_TRACE, DBE_TLV_SEQUENCE_NUM, 0};

static dbe_err send_cancel(struct dbe_peer *p, const struct dbe_msg *request)
{
    const struct dbe_tlv *id = dbe_tlv_find(request, DBE_TLV_REQUEST_ID);
    const size_t cap = DBE_HEADER_BYTES + (size_t)request->tlv_area_len + CANCEL_SPARE_BYTES;
    uint8_t payload[CANCEL_PAYLOAD_BYTES] = {0x0A, UUID_BYTES}, *msg;
    struct dbe_builder b;
    size_t len = 0;

    if (id == NULL)
        return DBE_E_MALFORMED;
    msg = base_alloc(cap, 1);
    if (msg == NULL)
        return DBE_E_NOMEM;
    memcpy(payload + 2, id->value, UUID_BYTES);
    dbe_build_begin(&b, msg, cap, DBE_MSG_L7_CANCEL, DBE_FLAG_REPLAY_PROTECTED, request->correlation_id);
    dbe_build_copy_tlvs(&b, request, left_behind);
    dbe_build_timestamp_ms(&b, base_wall_ms());
    dbe_build_payload(&b, payload, sizeof payload);
    dbe_err err = dbe_build_end(&b, &len);
    if (err == DBE_OK)
        err = dbe_send(p, msg, len);
    base_free(msg);
    return err;
}

dbe_err dbe_call_abort(struct dbe_peer *p, uint64_t call_id, const void *request, size_t len)
{
    struct dbe_msg msg;

    if (!call_known(p, call_id))
        return DBE_E_NOT_FOUND;
    dbe_call_cancel(p, call_id);
    DBE_TRY(dbe_msg_decode(request, len, &msg, NULL));
    return msg.correlation_id == call_id ? send_cancel(p, &msg) : DBE_E_MALFORMED;
}
