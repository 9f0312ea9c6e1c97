/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_world.c - two sessions, their wires, what they say and how it is checked when it comes out.
 *
 * In: a seed, moves of a scenario   Out: nothing, or the end of the program with the seed that repeats it
 * Not: no attack (sim_attack.c) and no plan (the scenarios).
 */
#include "sim.h"

enum { PARTIAL_MAX = 4 << 20, HS_MAX = 256 << 10 };

void sim_fail(const struct sim *w, const char *cond, const char *file, int line)
{
    (void)fprintf(stderr, "sim: %s:%d: %s\nsim: scenario %s\n", file, line, cond, w->scenario);
    for (size_t k = 0; k < 2; k++) {
        const struct sim_side *d = &w->side[k];

        (void)fprintf(stderr, "sim: side %zu: state %d, died %s, sent %llu, got %llu, diag %s\n", k,
                      d->s != NULL ? (int)d->s->state : -1, dbe_err_name(d->died), (unsigned long long)d->sent,
                      (unsigned long long)d->got, d->s != NULL ? sess_diag(d->s)->text : "");
    }
    (void)fprintf(stderr, "sim: repeat with --scenario %s --seed %llu --runs 1\n", w->scenario,
                  (unsigned long long)w->seed);
    abort();
}

/* ---- beginning and end ------------------------------------------------------------------------------------------- */

dbe_err sim_fill_random(void *ctx, void *buf, size_t len)
{
    struct sim_rng *r = ctx;
    uint8_t *at = buf;

    for (size_t i = 0; i < len; i += 8) {
        uint64_t z = sim_u64(r);

        memcpy(at + i, &z, BASE_MIN(len - i, sizeof z));
    }
    return DBE_OK;
}

void sim_creds_init(struct sim_cred creds[SIM_CREDS])
{
    struct sim w = {.scenario = "credentials"};

    static const uint8_t device[SIM_CREDS] = {1, 2, 3, 4, 1, 2};

    for (uint8_t k = 0; k < SIM_CREDS; k++) {
        SIM_CHECK(&w, fake_init(&creds[k].fake, device[k], k == SIM_EVE ? 2 : 1) == DBE_OK);
        creds[k].want_device = -1;
    }
}

void sim_creds_fini(struct sim_cred creds[SIM_CREDS])
{
    for (size_t k = 0; k < SIM_CREDS; k++)
        fake_fini(&creds[k].fake);
}

static dbe_err verify(void *ctx, const uint8_t *der, size_t len, struct dbe_identity *ret,
                      uint8_t ret_pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    const struct sim_cred *cred = ctx;

    DBE_TRY(fake_verify(ctx, der, len, ret, ret_pk, diag));
    if (cred->want_device >= 0 && ret->device != cred->want_device)
        return dbe_fail(diag, DBE_E_CERT, "certificate", 0, "device %d is wanted, not %d", cred->want_device,
                        (int)ret->device);
    return DBE_OK;
}

/* Signing comes before confirming: here a side can be robbed of the channel's key. */
static dbe_err sign(void *ctx, const char *sig_ctx, const void *msg, size_t len, uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    const struct sim_cred *cred = ctx;

    for (size_t k = 0; cred->spoil_mac != NULL && k < 2; k++)
        cred->spoil_mac->hs->secrets->k_mac[k][0] ^= 1;
    return fake_sign(ctx, sig_ctx, msg, len, sig);
}

struct sess_config sim_config(struct sim *w, enum sess_role role)
{
    struct sess_config c = fake_config(role, &w->creds[role].fake);

    c.auth.verify_cert = verify;
    c.auth.sign = sign;
    if (sim_chance(&w->rng, 30))
        fake_with_evidence(&c);
    c.datagram = w->datagram;
    return c;
}

/* The simulator's own memory comes from the C library: the n-th allocation that fails is one of the code under test. */
static uint8_t own_mem[2][2][PARTIAL_MAX + 2 * HS_MAX]; /* of the run, and of the other channel inside it */
static size_t own_depth;

static void own_bufs(struct sim_side *d, uint8_t *mem)
{
    base_buf_init_fixed(&d->partial, mem, PARTIAL_MAX);
    base_buf_init_fixed(&d->hs_said, mem + PARTIAL_MAX, HS_MAX);
    base_buf_init_fixed(&d->hs_heard, mem + PARTIAL_MAX + HS_MAX, HS_MAX);
}

void sim_begin(struct sim *w, uint64_t seed, const char *scenario, const struct sim_cred *creds)
{
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->scenario = scenario;
    w->rng.state = seed * 0x2545f4914f6cdd1du + 1;
    w->fill.state = ~seed;
    w->now_ns = 1;
    memcpy(w->creds, creds, sizeof w->creds);
    w->mem_before = sim_mem_live();
    sim_crypto_reset();
    base_random_set(&(const struct base_random_ops){sim_fill_random, &w->fill});
    BASE_INVARIANT(own_depth < BASE_ARRAY_LEN(own_mem));
    for (size_t k = 0; k < 2; k++) {
        w->side[k].cred = &w->creds[k];
        own_bufs(&w->side[k], own_mem[own_depth][k]);
    }
    own_depth++;
}

void sim_open(struct sim *w, const struct sess_config *ci, const struct sess_config *cr)
{
    struct sess_config plain[2] = {sim_config(w, SESS_INITIATOR), sim_config(w, SESS_RESPONDER)};
    dbe_err err;

    if (ci != NULL)
        plain[0] = *ci;
    if (cr != NULL)
        plain[1] = *cr;
    for (size_t k = 0; k < 2; k++) {
        w->side[k].device = w->creds[k].fake.cert[4];
        err = sess_new(&plain[k], &w->side[k].s);
        SIM_CHECK(w, err == DBE_OK || (w->fault && (err == DBE_E_NOMEM || err == DBE_E_RANDOM)));
        if (err != DBE_OK) {
            w->side[k].s = NULL;
            w->side[k].died = err;
        }
    }
}

static void rec_free(struct sim_rec *rec)
{
    free(rec->data);
    *rec = (struct sim_rec){0};
}

void sim_end(struct sim *w)
{
    for (size_t k = 0; k < 2; k++) {
        struct sim_side *d = &w->side[k];

        sess_free(d->s);
        d->s = NULL;
        for (size_t i = 0; i < d->in_count; i++)
            rec_free(&d->in[i]);
        for (size_t i = 0; i < BASE_MIN(d->history_count, (size_t)SIM_HISTORY_MAX); i++)
            rec_free(&d->history[i]);
        free(d->seen);
    }
    for (size_t i = 0; i < w->splice_count; i++)
        rec_free(&w->splice[i]);
    own_depth--;
    base_random_set(NULL);
    SIM_CHECK(w, sim_mem_live() == w->mem_before);
    SIM_CHECK(w, sim_crypto_clean());
}

/* ---- what is said ------------------------------------------------------------------------------------------------ */

size_t sim_message(uint64_t seed, size_t side, uint64_t number, uint8_t *out)
{
    struct sim_rng r = {seed ^ (number * 2 + side + 1) * 0xd6e8feb86659fd93u};
    uint64_t shape = sim_u64(&r);
    size_t len = 8 + (shape % 64 == 0 ? sim_below(&r, SIM_MESSAGE_MAX - 8) : shape % 8 == 0 ? 0 : sim_below(&r, 200));

    base_put_u64(out, number);
    for (size_t at = 8; at < len; at += 8) {
        uint64_t z = sim_u64(&r);

        memcpy(out + at, &z, BASE_MIN(len - at, sizeof z));
    }
    return len;
}

/* A message came out: it is the next one (stream) or one not seen before (datagrams), to the last bit. */
static void hear(struct sim *w, size_t side, const uint8_t *msg, size_t len)
{
    static uint8_t want[SIM_MESSAGE_MAX];
    struct sim_side *d = &w->side[side], *other = &w->side[1 - side];
    uint64_t number;

    SIM_CHECK(w, d->s->state == SESS_UP || d->s->state == SESS_CLOSING);
    SIM_CHECK(w, !d->poisoned || w->datagram);
    SIM_CHECK(w, len >= 8);
    number = base_get_u64(msg);
    SIM_CHECK(w, number < other->sent);
    SIM_CHECK(w, len == sim_message(w->seed, 1 - side, number, want) && memcmp(msg, want, len) == 0);
    if (w->datagram) {
        if (d->seen == NULL)
            d->seen = calloc(SIM_DATAGRAMS_MAX, 1);
        SIM_CHECK(w, d->seen != NULL && number < SIM_DATAGRAMS_MAX && d->seen[number] == 0);
        d->seen[number] = 1;
    } else {
        SIM_CHECK(w, number == d->got);
    }
    d->got++;
}

/* ---- wires ------------------------------------------------------------------------------------------------------- */

static struct sim_rec rec_of(const uint8_t *data, size_t len, bool bad)
{
    struct sim_rec rec = {.data = malloc(len > 0 ? len : 1), .len = len, .bad = bad};

    BASE_INVARIANT(rec.data != NULL);
    if (len > 0)
        memcpy(rec.data, data, len);
    return rec;
}

void sim_put(struct sim *w, size_t to, size_t at, const uint8_t *data, size_t len, bool bad)
{
    struct sim_side *d = &w->side[to];

    SIM_CHECK(w, d->in_count < SIM_WIRE_MAX && at <= d->in_count);
    memmove(&d->in[at + 1], &d->in[at], (d->in_count - at) * sizeof d->in[0]);
    d->in[at] = rec_of(data, len, bad);
    d->in_count++;
}

void sim_take_out(struct sim *w, size_t to, size_t at)
{
    struct sim_side *d = &w->side[to];

    rec_free(&d->in[at]);
    d->in_count--;
    memmove(&d->in[at], &d->in[at + 1], (d->in_count - at) * sizeof d->in[0]);
}

static void remember(struct sim_side *d, const uint8_t *data, size_t len)
{
    struct sim_rec *slot = &d->history[d->history_count % SIM_HISTORY_MAX];

    rec_free(slot);
    *slot = rec_of(data, len, false);
    d->history_count++;
}

static bool is_clear(uint8_t type)
{
    return type == SESS_REC_MSG_1 || type == SESS_REC_MSG_2 || type == SESS_REC_MSG_3;
}

/* A handshake record is said once, or again with the same bytes. */
static void note_said(struct sim *w, struct sim_side *d, const uint8_t *rec, size_t len)
{
    unsigned bit = 1u << rec[4];

    if ((d->hs_said_types & bit) == 0)
        base_buf_bytes(&d->hs_said, rec, len);
    else
        SIM_CHECK(w, w->datagram && memmem(d->hs_said.data, d->hs_said.len, rec, len) != NULL);
    d->hs_said_types |= bit;
}

void sim_post(struct sim *w, size_t from, struct base_buf *out)
{
    struct sim_side *d = &w->side[from], *other = &w->side[1 - from];

    for (size_t at = 0; at < out->len;) {
        size_t len = DBE_RECORD_HEADER_BYTES + (size_t)base_get_u32(out->data + at);

        SIM_CHECK(w, len <= out->len - at); /* only whole records are said */
        if (is_clear(out->data[at + 4]))
            note_said(w, d, out->data + at, len);
        remember(d, out->data + at, len);
        if (!other->cut)
            sim_put(w, 1 - from, other->in_count, out->data + at, len, other->gap);
        other->gap = false;
        at += len;
    }
    base_buf_free(out);
}

/* ---- moves ------------------------------------------------------------------------------------------------------- */

bool sim_lives(const struct sim_side *d)
{
    return d->s != NULL && d->died == DBE_OK && !d->closed;
}

/* A call into the session said no. */
static void note_death(struct sim *w, size_t side, dbe_err err)
{
    struct sim_side *d = &w->side[side];

    d->died = err;
    SIM_CHECK(w, dbe_err_name(err)[0] != '\0' && sess_diag(d->s)->text[0] != '\0');
    SIM_CHECK(w, d->s->state == SESS_DEAD);
}

/* What a call that sends said. With an injected fault it may refuse once and live on, or die. */
static void note_call(struct sim *w, size_t side, dbe_err err)
{
    if (err == DBE_OK)
        return;
    SIM_CHECK(w, w->fault && (err == DBE_E_NOMEM || err == DBE_E_RANDOM));
    if (w->side[side].s->state == SESS_DEAD)
        note_death(w, side, err);
}

void sim_start(struct sim *w)
{
    struct base_buf out;

    base_buf_init(&out, SIZE_MAX / 2);
    for (size_t k = 0; k < 2; k++)
        if (sim_lives(&w->side[k])) {
            note_call(w, k, sess_start(w->side[k].s, &out));
            sim_post(w, k, &out);
            base_buf_init(&out, SIZE_MAX / 2);
        }
}

void sim_say(struct sim *w, size_t side)
{
    static uint8_t msg[SIM_MESSAGE_MAX];
    struct sim_side *d = &w->side[side];
    struct base_buf out;
    dbe_err err;

    if (!sim_lives(d) || !sess_is_up(d->s) || w->side[1 - side].in_count >= SIM_WIRE_MAX - 64)
        return;
    base_buf_init(&out, SIZE_MAX / 2);
    size_t len = sim_message(w->seed, side, d->sent, msg);
    err = sess_seal(d->s, msg, len, w->now_ns, &out);
    note_call(w, side, err);
    d->sent += err == DBE_OK;
    sim_post(w, side, &out);
}

void sim_rekey(struct sim *w, size_t side)
{
    struct sim_side *d = &w->side[side];
    uint8_t before[SESS_SECRET_BYTES];
    struct base_buf out;
    dbe_err err;

    if (!sim_lives(d) || !sess_is_up(d->s))
        return;
    base_buf_init(&out, SIZE_MAX / 2);
    memcpy(before, d->s->secrets->send, sizeof before);
    err = sess_rekey(d->s, w->now_ns, &out);
    note_call(w, side, err);
    SIM_CHECK(w, err != DBE_OK || memcmp(before, d->s->secrets->send, sizeof before) != 0); /* who has it has no more */
    sim_post(w, side, &out);
}

void sim_rehandshake(struct sim *w, size_t side)
{
    struct sim_side *d = &w->side[side];
    uint16_t ids[DBE_SUITES_MAX], one;
    size_t known = sim_suite_ids(ids);
    struct base_buf out;
    dbe_err err;

    if (!sim_lives(d) || !sess_is_up(d->s))
        return;
    base_buf_init(&out, SIZE_MAX / 2);
    one = ids[sim_below(&w->rng, known)];
    err = sess_rehandshake(d->s, &one, sim_below(&w->rng, 3) > 0 ? 1 : 0, w->now_ns, &out);
    if (err == DBE_E_AGAIN)
        SIM_CHECK(w, out.len == 0 && d->s->renew != NULL); /* one is in progress */
    else
        note_call(w, side, err);
    sim_post(w, side, &out);
}

void sim_flush(struct sim *w, size_t side)
{
    struct sim_side *d = &w->side[side];
    struct base_buf out;
    bool owed;

    if (!sim_lives(d) || !sess_is_up(d->s))
        return;
    base_buf_init(&out, SIZE_MAX / 2);
    owed = sess_owes(d->s);
    note_call(w, side, sess_flush(d->s, w->now_ns, &out));
    SIM_CHECK(w, owed || out.len == 0);
    SIM_CHECK(w, w->fault || !sess_owes(d->s));
    sim_post(w, side, &out);
}

void sim_resend(struct sim *w, size_t side)
{
    struct sim_side *d = &w->side[side];
    struct base_buf out;
    dbe_err err;

    if (!sim_lives(d))
        return;
    base_buf_init(&out, SIZE_MAX / 2);
    err = sess_resend(d->s, &out);
    SIM_CHECK(w, err == DBE_OK || (err == DBE_E_STATE && !sess_is_up(d->s) && out.len == 0));
    sim_post(w, side, &out);
}

void sim_close(struct sim *w, size_t side)
{
    struct sim_side *d = &w->side[side];
    struct base_buf out;
    dbe_err err;

    if (!sim_lives(d) || !sess_is_up(d->s))
        return;
    base_buf_init(&out, SIZE_MAX / 2);
    err = sess_close(d->s, &out);
    note_call(w, side, err);
    d->closing = err == DBE_OK;
    sim_post(w, side, &out);
}

bool sim_feed(struct sim *w, size_t side)
{
    struct sim_side *d = &w->side[side];
    enum sess_event ev = SESS_NEED_MORE;
    const uint8_t *msg = NULL;
    size_t used = 0, len = 0;
    struct base_buf out;
    uint8_t type = d->partial.len > 4 ? d->partial.data[4] : 0;
    struct sim_rec head = {0};

    base_buf_init(&out, SIZE_MAX / 2);
    if (is_clear(type)) /* opening it in place changes it */
        head = rec_of(d->partial.data, d->partial.len, false);
    dbe_err err = sess_feed(d->s, d->partial.data, d->partial.len, &used, &ev, &msg, &len, &out);
    if (err == DBE_OK && used > 0 && head.len >= used && ev != SESS_DROPPED && (d->hs_heard_types & 1u << type) == 0) {
        base_buf_bytes(&d->hs_heard, head.data, used);
        d->hs_heard_types |= 1u << type;
    }
    rec_free(&head);
    if (err != DBE_OK)
        note_death(w, side, err);
    if (err == DBE_OK && ev == SESS_MESSAGE)
        hear(w, side, msg, len);
    d->up_once = d->up_once || (err == DBE_OK && sess_is_up(d->s));
    d->closed = d->closed || (err == DBE_OK && ev == SESS_PEER_CLOSED);
    d->switched += err == DBE_OK && ev == SESS_SWITCHED;
    d->refused += err == DBE_OK && ev == SESS_REFUSED;
    SIM_CHECK(w, !sess_is_up(d->s) || ev == SESS_ESTABLISHED || out.len == 0 || w->datagram);
    sim_post(w, side, &out);
    if (err != DBE_OK)
        return false;
    SIM_CHECK(w, used <= d->partial.len && (used == 0) == (ev == SESS_NEED_MORE));
    base_buf_consume(&d->partial, used);
    return used > 0 && d->partial.len > 0 && sim_lives(d);
}

void sim_deliver(struct sim *w, size_t side, size_t len)
{
    struct sim_side *d = &w->side[side];
    size_t n;

    if (!sim_lives(d) || d->in_count == 0)
        return;
    n = BASE_MIN(len, d->in[0].len - d->in_off);
    base_buf_bytes(&d->partial, d->in[0].data + d->in_off, n);
    SIM_CHECK(w, d->partial.err == DBE_OK);
    d->in_off += n;
    d->poisoned = d->poisoned || d->in[0].bad;
    if (d->in_off == d->in[0].len) {
        sim_take_out(w, side, 0);
        d->in_off = 0;
    }
    while (sim_feed(w, side))
        ;
    d->stalled = sim_lives(d) && d->partial.len > 0;
    sim_invariants(w);
}

void sim_drain(struct sim *w)
{
    for (int turn = 0; turn < 100000; turn++) {
        size_t side = w->side[0].in_count > 0 && sim_lives(&w->side[0]) ? 0 : 1;

        if (w->side[side].in_count > 0 && sim_lives(&w->side[side])) {
            sim_deliver(w, side, SIZE_MAX);
            continue;
        }
        sim_flush(w, 0);
        sim_flush(w, 1);
        if (w->side[0].in_count == 0 && w->side[1].in_count == 0)
            return;
        if (!sim_lives(&w->side[0]) && !sim_lives(&w->side[1]))
            return;
        if ((w->side[0].in_count == 0 || !sim_lives(&w->side[0])) &&
            (w->side[1].in_count == 0 || !sim_lives(&w->side[1])))
            return;
    }
    sim_fail(w, "the two never fall silent", __FILE__, __LINE__);
}

/* ---- what is always true ----------------------------------------------------------------------------------------- */

static bool same_bytes(const struct base_buf *said, const struct base_buf *heard, size_t len)
{
    return said->len >= len && heard->len >= len && memcmp(said->data, heard->data, len) == 0;
}

/* Who is up has heard exactly what the other one said, and the other one exactly what it said: one transcript. */
static void check_up(struct sim *w, size_t side)
{
    const struct sim_side *d = &w->side[side], *other = &w->side[1 - side];
    const struct dbe_identity *id = sess_peer(d->s);

    SIM_CHECK(w, id != NULL && id->device == other->device);
    SIM_CHECK(w, d->hs_heard.len > 0 && same_bytes(&other->hs_said, &d->hs_heard, d->hs_heard.len));
    if (side == SESS_INITIATOR) /* message 1; the other has yet to hear message 3 */
        SIM_CHECK(w, other->hs_heard.len > 0 && same_bytes(&d->hs_said, &other->hs_heard, other->hs_heard.len));
    else
        SIM_CHECK(w, same_bytes(&d->hs_said, &other->hs_heard, d->hs_said.len));
}

void sim_invariants(struct sim *w)
{
    for (size_t k = 0; k < 2; k++) {
        struct sim_side *d = &w->side[k];
        uint8_t now[32];

        if (d->s == NULL)
            continue;
        if (sess_is_up(d->s)) {
            check_up(w, k);
            SIM_CHECK(w, sess_channel_binding(d->s, now) == DBE_OK);
            if (!d->bound) /* for the channel's life, whatever becomes of its keys */
                memcpy(d->binding, now, sizeof now);
            d->bound = true;
            SIM_CHECK(w, memcmp(d->binding, now, sizeof now) == 0);
        }
        SIM_CHECK(w, d->got <= w->side[1 - k].sent);
        if (d->died != DBE_OK)
            SIM_CHECK(w, d->s->state == SESS_DEAD && d->s->send.keys.aead == NULL && d->s->recv.keys.aead == NULL);
    }
}

void sim_settled(struct sim *w)
{
    struct sess *i = w->side[SESS_INITIATOR].s, *r = w->side[SESS_RESPONDER].s;
    uint8_t a[32], b[32];

    for (size_t k = 0; k < 2; k++) {
        const struct sim_side *d = &w->side[k], *other = &w->side[1 - k];

        SIM_CHECK(w, d->died == DBE_OK && d->up_once && !d->stalled && d->in_count == 0);
        SIM_CHECK(w, d->got == other->sent || w->datagram);
        SIM_CHECK(w, d->closed == other->closing);
    }
    if (w->side[0].closing || w->side[1].closing)
        return;
    SIM_CHECK(w, sess_channel_binding(i, a) == DBE_OK && sess_channel_binding(r, b) == DBE_OK);
    SIM_CHECK(w, memcmp(a, b, sizeof a) == 0);
    SIM_CHECK(w, sess_log_key(i, b) == DBE_OK && memcmp(a, b, sizeof a) != 0);
    SIM_CHECK(w, sess_log_key(r, a) == DBE_OK && memcmp(a, b, sizeof a) == 0);
    SIM_CHECK(w, memcmp(i->secrets->send, r->secrets->recv, SESS_SECRET_BYTES) == 0);
    SIM_CHECK(w, memcmp(r->secrets->send, i->secrets->recv, SESS_SECRET_BYTES) == 0);
    SIM_CHECK(w, memcmp(i->secrets->send, r->secrets->send, SESS_SECRET_BYTES) != 0);
    SIM_CHECK(w, i->send.epoch == r->recv.epoch && r->send.epoch == i->recv.epoch);
    SIM_CHECK(w, sess_suite(i) == sess_suite(r) && i->renew == NULL && r->renew == NULL);
    SIM_CHECK(w, i->send.keys.suite == r->recv.keys.suite && r->send.keys.suite == i->recv.keys.suite);
    SIM_CHECK(w, w->side[0].switched == w->side[1].switched);
}
