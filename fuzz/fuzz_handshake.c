/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_handshake.c - both roles of the handshake, over streams and datagrams, the open channel, and the handshake
 * inside it, against hostile bytes and hostile orders of events.
 *
 * The first byte of the input chooses what the rest is:
 *   0  bytes to a responder                      1  bytes to an initiator that has sent message 1
 *   2  changes to a valid handshake: message u8, then (offset u16, xor u8) again and again
 *   3  the auth block of message 3, sealed as a peer with the right keys would
 *   4  the auth block of message 2, likewise
 *   5  bytes to an open channel                  6  an authentic record: type u8, then its content
 *   7  how far a handshake inside the channel is, u8, then authentic records: (type u8, length u16, content) ...
 *   8  what two owners and a wire do, a byte each: messages, rekeys, handshakes inside the channel, goodbye, deliveries
 *   9  the same over datagrams: deliveries in any order, losses, repetitions, changed bytes, timers
 * Trapped beside what the sanitizers see: a channel that comes up on changed bytes, a dead session with keys, two ends
 * that do not agree when all is quiet, a message lost or doubled on a stream.
 * Every run is the same for the same input: randomness is a counter here.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz_handshake.h"

static void check_dead(const struct sess *s)
{
    static const struct sess_secrets none;

    MUST(s->state == SESS_DEAD && s->hs == NULL && s->send.keys.aead == NULL && s->recv.keys.aead == NULL);
    MUST(s->renew == NULL && s->flight == NULL);
    MUST(memcmp(s->secrets, &none, sizeof none) == 0);
}

/* Feed all of `data`, record by record. Returns the error that ended it. */
static dbe_err feed_all(struct sess *s, const uint8_t *data, size_t len, struct base_buf *out)
{
    uint8_t *copy = malloc(len + 1); /* its own memory: a byte past the end is seen */
    size_t at = 0, used = 1, msg_len = 0;
    dbe_err err = DBE_OK;

    MUST(copy != NULL);
    if (len > 0)
        memcpy(copy, data, len);
    copy = realloc(copy, len > 0 ? len : 1);
    while (err == DBE_OK && used > 0 && at < len) {
        enum sess_event ev = SESS_NEED_MORE;
        const uint8_t *msg = NULL;

        err = sess_feed(s, copy + at, len - at, &used, &ev, &msg, &msg_len, out);
        if (err != DBE_OK)
            break;
        MUST(used <= len - at && (used > 0) == (ev != SESS_NEED_MORE));
        MUST(ev != SESS_MESSAGE || (msg >= copy + at && msg + msg_len <= copy + at + used));
        at += used;
    }
    if (err != DBE_OK && err != DBE_E_CLOSED)
        check_dead(s);
    MUST(out->len <= 2 * DBE_HANDSHAKE_MAX_BYTES);
    free(copy);
    return err;
}

/* Message 1, 2 or 3 is under way. */
static struct base_buf *until(struct fake_pair *p, unsigned n)
{
    enum sess_event ev;
    const uint8_t *msg;
    size_t len;

    MUST(sess_start(p->i, &p->to_r) == DBE_OK);
    if (n >= 2)
        MUST(fake_step(p->r, &p->to_r, &p->to_i, &ev, &msg, &len) == DBE_OK);
    if (n >= 3)
        MUST(fake_step(p->i, &p->to_i, &p->to_r, &ev, &msg, &len) == DBE_OK);
    return n == 2 ? &p->to_i : &p->to_r;
}

static void fuzz_changes(struct fake_pair *p, const uint8_t *data, size_t len)
{
    unsigned n = len > 0 ? 1 + data[0] % 3 : 1;
    struct base_buf *wire = until(p, n), orig;

    base_buf_init(&orig, 2 * DBE_HANDSHAKE_MAX_BYTES);
    base_buf_bytes(&orig, wire->data, wire->len);
    for (size_t at = 1; at + 3 <= len; at += 3)
        wire->data[base_get_u16(data + at) % wire->len] ^= data[at + 2];
    bool changed = memcmp(orig.data, wire->data, wire->len) != 0;
    base_buf_free(&orig);

    for (int turn = n == 2 ? 1 : 0; turn < 4; turn++) {
        struct base_buf *from = turn % 2 == 0 ? &p->to_r : &p->to_i, *to = turn % 2 == 0 ? &p->to_i : &p->to_r;

        (void)feed_all(turn % 2 == 0 ? p->r : p->i, from->data, from->len, to);
        base_buf_clear(from);
        if (p->i->state == SESS_DEAD || p->r->state == SESS_DEAD)
            break;
    }
    MUST((sess_is_up(p->r) && sess_is_up(p->i)) == !changed);
    MUST(!changed || !sess_is_up(p->r)); /* the last word is always the responder's */
}

/* `block` as the auth block of message n, sealed with the keys of the side that would send it. */
static void fuzz_auth_block(struct fake_pair *p, unsigned n, const uint8_t *block, size_t len)
{
    struct base_buf *wire = until(p, n);
    const struct sess *with = p->r; /* it holds the handshake keys of both directions */
    const struct crypto_aead *aead = with->suite->aead;
    struct crypto_aead_ctx *ctx = NULL;
    size_t sender = n == 2 ? 1 : 0, clear = HEAD;
    struct base_buf rec;

    if (n == 2)
        clear += SESS_MSG2_FIXED_BYTES + with->suite->ecdh->pub_bytes + with->suite->kem->ct_bytes;
    base_buf_init(&rec, SIZE_MAX / 2);
    base_buf_bytes(&rec, wire->data, clear);
    base_put_u32(rec.data, (uint32_t)(clear - HEAD + len + DBE_RECORD_TAG_BYTES));
    uint8_t *sealed = base_buf_grow(&rec, len + DBE_RECORD_TAG_BYTES);
    MUST(sealed != NULL && aead->new_ctx(with->hs->secrets->key[sender], true, &ctx) == DBE_OK);
    MUST(aead->seal(ctx, with->hs->secrets->iv[sender], rec.data, HEAD, block, len, sealed) == DBE_OK);
    aead->free_ctx(ctx);
    (void)feed_all(n == 2 ? p->i : p->r, rec.data, rec.len, n == 2 ? &p->to_r : &p->to_i);
    MUST(!sess_is_up(n == 2 ? p->i : p->r));
    base_buf_free(&rec);
}

static void fuzz_record(struct fake_pair *p, const uint8_t *data, size_t len)
{
    uint8_t *rec;

    if (len == 0)
        return;
    rec = malloc(len - 1 + HEAD + DBE_RECORD_TAG_BYTES);
    MUST(rec != NULL && sess_rec_seal(p->i, data[0], data + 1, len - 1, rec) == DBE_OK);
    (void)feed_all(p->r, rec, len - 1 + HEAD + DBE_RECORD_TAG_BYTES, &p->to_i);
    free(rec);
}

/* ---- a handshake inside the channel -------------------------------------------------------------------------------
 * */

/* What both ends say is numbered; on a stream it must come in order. */
struct ends {
    struct fake_pair *p;
    uint64_t said[2], heard[2];
    bool over;
};

static struct sess *end_of(struct ends *e, unsigned side)
{
    return side == 0 ? e->p->i : e->p->r;
}

static struct base_buf *way_to(struct ends *e, unsigned side)
{
    return side == 0 ? &e->p->to_i : &e->p->to_r;
}

static void say(struct ends *e, unsigned side)
{
    uint8_t msg[8];

    base_put_u64(msg, e->said[side]);
    if (sess_seal(end_of(e, side), msg, sizeof msg, 1, way_to(e, 1 - side)) == DBE_OK)
        e->said[side]++;
}

/* The next record to `side`. */
static void deliver(struct ends *e, unsigned side)
{
    struct base_buf *in = way_to(e, side), none;
    enum sess_event ev = SESS_NEED_MORE;
    const uint8_t *msg = NULL;
    size_t used = 0, len = 0;
    dbe_err err;

    if (in->len == 0 || e->over)
        return;
    base_buf_init(&none, 4096);
    err = sess_feed(end_of(e, side), in->data, in->len, &used, &ev, &msg, &len, &none);
    MUST(none.len == 0); /* an open channel appends nothing by itself */
    base_buf_free(&none);
    if (err != DBE_OK) {
        e->over = true;
        if (err != DBE_E_CLOSED)
            check_dead(end_of(e, side));
        return;
    }
    if (ev == SESS_MESSAGE && len == 8 && base_get_u64(msg) == e->heard[side])
        e->heard[side]++;
    base_buf_consume(in, used);
    e->over = e->over || ev == SESS_PEER_CLOSED || ev == SESS_NEED_MORE;
}

static void flush(struct ends *e, unsigned side)
{
    (void)(sess_flush(end_of(e, side), 1, way_to(e, 1 - side)) == DBE_OK);
}

static void settle(struct ends *e)
{
    for (unsigned turn = 0; turn < 64 && !e->over; turn++)
        for (unsigned side = 0; side < 2; side++) {
            while (way_to(e, side)->len > 0 && !e->over)
                deliver(e, side);
            flush(e, side);
        }
}

static void check_agree(struct ends *e)
{
    const struct sess *i = e->p->i, *r = e->p->r;

    MUST(i->renew == NULL && r->renew == NULL && sess_suite(i) == sess_suite(r));
    MUST(memcmp(i->secrets->send, r->secrets->recv, SESS_SECRET_BYTES) == 0);
    MUST(memcmp(r->secrets->send, i->secrets->recv, SESS_SECRET_BYTES) == 0);
    MUST(memcmp(i->secrets->binding, r->secrets->binding, 32) == 0);
    MUST(i->send.epoch == r->recv.epoch && r->send.epoch == i->recv.epoch);
}

/* An authentic peer that says what it likes, at a point of the handshake that the first byte names. */
static void fuzz_inside(struct fake_pair *p, const uint8_t *data, size_t len)
{
    struct ends e = {.p = p};
    unsigned stage = len > 0 ? data[0] % 6 : 0;

    for (unsigned n = 0; n < stage; n++) {
        if (n == 0)
            MUST(sess_rehandshake(p->i, NULL, 0, 1, &p->to_r) == DBE_OK);
        else
            deliver(&e, n % 2 == 1 ? 1 : 0), flush(&e, n % 2 == 1 ? 1 : 0);
    }
    while (p->to_r.len > 0)
        deliver(&e, 1);
    for (size_t at = 1; at + 3 <= len && sess_is_up(p->i) && !e.over;) {
        size_t body = BASE_MIN((size_t)base_get_u16(data + at + 1), len - at - 3);
        uint8_t *rec = base_buf_grow(&p->to_r, HEAD + body + DBE_RECORD_TAG_BYTES);

        MUST(rec != NULL && sess_rec_seal(p->i, data[at], data + at + 3, body, rec) == DBE_OK);
        deliver(&e, 1);
        at += 3 + body;
    }
    MUST(p->r->stats.switches == 0 || stage >= 4); /* nothing that was made up gives new keys */
}

/* Only what two honest owners do: whatever the order, nothing is lost and both ends agree. */
static void fuzz_orders(struct fake_pair *p, const uint8_t *data, size_t len)
{
    struct ends e = {.p = p};
    bool closed = false;

    for (size_t at = 0; at < BASE_MIN(len, (size_t)200) && !e.over; at++) {
        unsigned side = data[at] & 1;
        uint16_t suite = (data[at] & 2) != 0 ? CRYPTO_SUITE_2 : CRYPTO_SUITE_1;
        dbe_err err = DBE_OK;

        switch (data[at] >> 2 & 7) {
        case 0:
        case 1:
        case 2: deliver(&e, side); break;
        case 3: flush(&e, side); break;
        case 4: say(&e, side); break;
        case 5: err = sess_rekey(end_of(&e, side), 1, way_to(&e, 1 - side)); break;
        case 6: err = sess_rehandshake(end_of(&e, side), &suite, 1, 1, way_to(&e, 1 - side)); break;
        default:
            if (data[at] >> 5 == 7) {
                err = sess_close(end_of(&e, side), way_to(&e, 1 - side));
                closed = true;
            }
        }
        MUST(err == DBE_OK || err == DBE_E_AGAIN || err == DBE_E_CLOSED);
    }
    settle(&e);
    if (closed)
        return;
    MUST(!e.over && e.heard[0] == e.said[1] && e.heard[1] == e.said[0]);
    check_agree(&e);
}

/* ---- datagrams
 * -------------------------------------------------------------------------------------------------------- */

enum { WIRE_MAX = 32 };

struct wire {
    struct base_buf rec[WIRE_MAX];
    size_t count;
};

static void wire_put(struct wire *w, struct base_buf *from)
{
    for (size_t at = 0; at < from->len;) {
        size_t len = HEAD + base_get_u32(from->data + at);

        if (w->count < WIRE_MAX) {
            base_buf_init(&w->rec[w->count], 2 * DBE_HANDSHAKE_MAX_BYTES);
            base_buf_bytes(&w->rec[w->count++], from->data + at, len);
        }
        at += len;
    }
    base_buf_clear(from);
}

static void fuzz_datagrams(struct fake_pair *p, const uint8_t *data, size_t len)
{
    struct wire wire[2] = {0};
    struct ends e = {.p = p};
    bool changed = false;

    MUST(sess_start(p->i, &p->to_r) == DBE_OK);
    wire_put(&wire[1], &p->to_r);
    for (size_t at = 0; at + 2 <= BASE_MIN(len, (size_t)400) && !e.over; at += 2) {
        unsigned side = data[at] & 1, what = data[at] >> 1 & 7;
        struct wire *in = &wire[side];
        struct base_buf *rec = in->count > 0 ? &in->rec[data[at + 1] % in->count] : NULL;
        struct base_buf *out = way_to(&e, 1 - side);

        if (what == 0)
            (void)(sess_resend(end_of(&e, side), out) == DBE_OK);
        else if (what == 1)
            say(&e, side);
        else if (what == 2 && rec != NULL)
            rec->data[(size_t)data[at + 1] * 97 % rec->len] ^= 1, changed = true;
        else if (rec != NULL && what > 3) {
            dbe_err err = feed_all(end_of(&e, side), rec->data, rec->len, out);
            MUST(err == DBE_OK || changed);
            e.over = err != DBE_OK;
            if (!e.over && sess_is_up(end_of(&e, side)))
                flush(&e, side);
        }
        if (rec != NULL && (what == 3 || what > 5)) { /* lost, or delivered for good */
            base_buf_free(rec);
            *rec = in->rec[--in->count];
        }
        wire_put(&wire[1 - side], out);
    }
    if (sess_is_up(p->i) && sess_is_up(p->r))
        check_agree(&e);
    for (unsigned side = 0; side < 2; side++)
        while (wire[side].count > 0)
            base_buf_free(&wire[side].rec[--wire[side].count]);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    fuzz_init();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fake_pair p;
    uint8_t mode = size > 0 ? data[0] % 10 : 0;

    if (size > 0)
        data++, size--;
    bool datagram = mode == 9 || ((mode == 5 || mode == 6) && size > 0 && (data[size - 1] & 1) != 0);
    fuzz_pair(&p, mode == 1 ? 2 : 1, datagram); /* the responder's answer in the corpus is one to another message 1 */
    if (mode == 0) {
        (void)feed_all(p.r, data, size, &p.to_i);
        MUST(!sess_is_up(p.r));
    } else if (mode == 1) {
        MUST(sess_start(p.i, &p.to_r) == DBE_OK);
        (void)feed_all(p.i, data, size, &p.to_r);
        MUST(!sess_is_up(p.i));
    } else if (mode == 2) {
        fuzz_changes(&p, data, size);
    } else if (mode == 3 || mode == 4) {
        fuzz_auth_block(&p, mode == 3 ? 3 : 2, data, size);
    } else if (mode == 9) {
        fuzz_datagrams(&p, data, size);
    } else {
        MUST(fake_handshake(&p) == DBE_OK);
        base_buf_clear(&p.to_i);
        base_buf_clear(&p.to_r);
        if (mode == 5)
            (void)feed_all(p.r, data, size, &p.to_i);
        else if (mode == 6)
            fuzz_record(&p, data, size);
        else if (mode == 7)
            fuzz_inside(&p, data, size);
        else
            fuzz_orders(&p, data, size);
    }
    fake_pair_free(&p);
    return 0;
}
