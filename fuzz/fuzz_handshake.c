/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_handshake.c - both roles of the handshake and the open channel against hostile bytes.
 *
 * The first byte of the input chooses what the rest is:
 *   0  bytes to a responder                      1  bytes to an initiator that has sent message 1
 *   2  changes to a valid handshake: message u8, then (offset u16, xor u8) again and again
 *   3  the auth block of message 3, sealed as a peer with the right keys would
 *   4  the auth block of message 2, likewise
 *   5  bytes to an open channel                  6  an authentic record: type u8, then its content
 * Trapped beside what the sanitizers see: a channel that comes up on changed bytes, a dead session with keys.
 * Every run is the same for the same input: base_random is replaced by a counter here.
 */
#include <stdlib.h>
#include <string.h>

#include "session/session_fake.h"

#define MUST(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond))                                                                                                   \
            __builtin_trap();                                                                                          \
    } while (0)

enum { HEAD = DBE_RECORD_HEADER_BYTES };

static struct fake alice, bob;
static uint64_t random_state;

dbe_err base_random(void *buf, size_t len)
{
    uint8_t *at = buf;

    for (size_t i = 0; i < len; i++) { /* SplitMix64, a byte a step */
        uint64_t z = random_state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        at[i] = (uint8_t)(z >> 56);
    }
    return DBE_OK;
}

static void check_dead(const struct sess *s)
{
    static const struct sess_secrets none;

    MUST(s->state == SESS_DEAD && s->hs == NULL && s->send.keys.aead == NULL && s->recv.keys.aead == NULL);
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
        clear += SESS_MSG2_FIXED_BYTES + CRYPTO_P384_PUB_BYTES + CRYPTO_MLKEM1024_CT_BYTES;
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

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    MUST(crypto_init(NULL) == DBE_OK && fake_init(&alice, 1, 1) == DBE_OK && fake_init(&bob, 2, 1) == DBE_OK);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    struct fake_pair p;
    uint8_t mode = size > 0 ? data[0] % 7 : 0;

    if (size > 0)
        data++, size--;
    random_state = mode == 1 ? 2 : 1; /* the responder's answer in the corpus is one to another message 1 */
    ci.datagram = cr.datagram = mode >= 5 && size > 0 && (data[size - 1] & 1) != 0;
    MUST(fake_pair_new(&p, &ci, &cr) == DBE_OK);
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
    } else {
        MUST(fake_handshake(&p) == DBE_OK);
        if (mode == 5)
            (void)feed_all(p.r, data, size, &p.to_i);
        else
            fuzz_record(&p, data, size);
    }
    fake_pair_free(&p);
    return 0;
}
