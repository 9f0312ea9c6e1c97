/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_handshake.c - runs in which somebody is not who they should be, in which the offer is changed on the way, and
 * one run for every single bit.
 */
#include "sim.h"

/* ---- identities -------------------------------------------------------------------------------------------------- */

enum wrong {
    WRONG_CA,
    EXPIRED,
    REVOKED,
    UNWANTED,
    STOLEN_CERT,
    WRONG_ROLE,
    OURSELVES,
    FORGED,
    NO_KEY,
    DISBELIEVED,
    WRONGS
};

/* Make side `liar` wrong in one way; returns what the other side must die of. */
static dbe_err spoil(struct sim *w, size_t liar, enum wrong how, const struct sim_cred *creds)
{
    struct sim_cred *c = &w->creds[liar], *judge = &w->creds[1 - liar];

    switch (how) {
    case WRONG_CA: *c = creds[SIM_EVE]; return c->fake.any_mesh = true, DBE_E_CERT;
    case EXPIRED: judge->fake.verify_err = DBE_E_EXPIRED; return DBE_E_EXPIRED;
    case REVOKED: judge->fake.verify_err = DBE_E_REVOKED; return DBE_E_REVOKED;
    case UNWANTED:
        judge->want_device = c->fake.cert[4];
        *c = creds[SIM_CAROL];
        return DBE_E_CERT;
    case STOLEN_CERT: c->fake.sign_with = creds[SIM_CAROL].fake.key; return DBE_E_AUTH;
    case WRONG_ROLE:
        c->fake.sign_ctx = liar == SESS_INITIATOR ? "DSMIL-DBE v1 responder" : "DSMIL-DBE v1 initiator";
        return DBE_E_AUTH;
    case OURSELVES: *c = *judge; return DBE_E_AUTH;
    case FORGED:
        c->fake.cert[4] = 9; /* the CA signed another device */
        return DBE_E_CERT;
    case NO_KEY: return DBE_E_AUTH; /* set below: it needs the session */
    case DISBELIEVED: judge->fake.evidence_verdict = DBE_E_CERT; return DBE_E_CERT;
    case WRONGS: break;
    }
    return DBE_OK;
}

void sim_identity(uint64_t seed, const struct sim_cred *creds)
{
    static struct sim w;
    size_t liar;
    enum wrong how;
    dbe_err want;

    sim_begin(&w, seed, "identity", creds);
    liar = sim_below(&w.rng, 2);
    how = (enum wrong)sim_below(&w.rng, WRONGS);
    want = spoil(&w, liar, how, creds);
    struct sess_config ci = sim_config(&w, SESS_INITIATOR), cr = sim_config(&w, SESS_RESPONDER);
    fake_with_evidence(&ci);
    fake_with_evidence(&cr);
    sim_open(&w, &ci, &cr);
    if (how == NO_KEY)
        w.creds[liar].spoil_mac = w.side[liar].s;
    sim_start(&w);
    for (int i = 0; i < 12; i++) {
        sim_deliver(&w, sim_below(&w.rng, 2), sim_chance(&w.rng, 50) ? SIZE_MAX : 1 + sim_below(&w.rng, 3000));
        sim_say(&w, sim_below(&w.rng, 2));
    }
    sim_drain(&w);
    SIM_CHECK(&w, w.side[1 - liar].died == want || how == OURSELVES || how == NO_KEY);
    for (size_t k = 0; k < 2; k++) {
        SIM_CHECK(&w, w.side[k].died != DBE_OK && w.side[k].got == 0);
        SIM_CHECK(&w, dbe_err_class(w.side[k].died) == DBE_CLASS_PEER);
    }
    SIM_CHECK(&w, !w.side[SESS_RESPONDER].up_once);
    SIM_CHECK(&w, liar == SESS_INITIATOR || !w.side[SESS_INITIATOR].up_once);
    sim_end(&w);
}

/* ---- identities that change while the channel lives -------------------------------------------------------------- */

enum change { RENEWED, OTHER_NODE, OTHER_MESH, NOW_EXPIRED, NOW_REVOKED, NOW_DISBELIEVED, CHANGES };

/* What `side` is from now on; returns what the other side must die of in the next handshake, DBE_OK if of nothing. */
static dbe_err change(struct sim *w, size_t side, enum change how, const struct sim_cred *creds)
{
    struct sim_cred *c = &w->creds[side], *judge = &w->creds[1 - side];

    switch (how) {
    case RENEWED: c->fake = creds[side == 0 ? SIM_ALICE_NEW : SIM_BOB_NEW].fake; break;
    case OTHER_NODE: c->fake = creds[SIM_CAROL].fake; return DBE_E_AUTH;
    case OTHER_MESH: c->fake = creds[SIM_EVE].fake; return c->fake.any_mesh = true, DBE_E_CERT;
    case NOW_EXPIRED: judge->fake.verify_err = DBE_E_EXPIRED; return DBE_E_EXPIRED;
    case NOW_REVOKED: judge->fake.verify_err = DBE_E_REVOKED; return DBE_E_REVOKED;
    case NOW_DISBELIEVED: judge->fake.evidence_verdict = DBE_E_CERT; return DBE_E_CERT;
    case CHANGES: break;
    }
    return DBE_OK;
}

static void talk(struct sim *w, int steps)
{
    while (steps-- > 0) {
        sim_say(w, sim_below(&w->rng, 2));
        sim_deliver(w, sim_below(&w->rng, 2), sim_chance(&w->rng, 50) ? SIZE_MAX : 1 + sim_below(&w->rng, 3000));
    }
}

void sim_renewal(uint64_t seed, const struct sim_cred *creds)
{
    static struct sim w;
    struct sess_config ci, cr;
    size_t side;
    enum change how;
    dbe_err want;

    sim_begin(&w, seed, "renewal", creds);
    ci = sim_config(&w, SESS_INITIATOR);
    cr = sim_config(&w, SESS_RESPONDER);
    fake_with_evidence(&ci);
    fake_with_evidence(&cr);
    sim_open(&w, &ci, &cr);
    sim_start(&w);
    talk(&w, 10);
    sim_drain(&w);
    side = sim_below(&w.rng, 2);
    how = (enum change)sim_below(&w.rng, CHANGES);
    want = change(&w, side, how, creds);
    if (sim_chance(&w.rng, 30))
        sim_rehandshake(&w, 0), sim_rehandshake(&w, 1);
    else
        sim_rehandshake(&w, sim_below(&w.rng, 2));
    if (want == DBE_OK) {
        talk(&w, 20);
        sim_drain(&w);
        sim_settled(&w);
        SIM_CHECK(&w, w.side[0].switched == 1);
    } else {
        sim_drain(&w);
        SIM_CHECK(&w, w.side[1 - side].died == want && w.side[1 - side].switched == 0);
    }
    sim_end(&w);
}

/* ---- offers ------------------------------------------------------------------------------------------------------ */

/* A random choice of `at_least` to `count` of the numbers below `count`, in random order. */
static size_t pick_some(struct sim_rng *r, size_t count, size_t at_least, size_t out[DBE_SUITES_MAX])
{
    size_t n = at_least + sim_below(r, count - at_least + 1);

    for (size_t i = 0; i < count; i++)
        out[i] = i;
    for (size_t i = 0; i < n; i++) {
        size_t j = i + sim_below(r, count - i), kept = out[i];

        out[i] = out[j];
        out[j] = kept;
    }
    return n;
}

/* Rewrite the offer under way: some of its entries, in another order. False: it is what it was. */
static bool rewrite_offer(struct sim *w)
{
    struct sim_rec *rec = &w->side[SESS_RESPONDER].in[0];
    size_t head = DBE_RECORD_HEADER_BYTES + SESS_MSG1_FIXED_BYTES, at[DBE_SUITES_MAX], len[DBE_SUITES_MAX];
    size_t count = rec->data[DBE_RECORD_HEADER_BYTES + 1], order[DBE_SUITES_MAX], n, total = head;
    uint8_t *old = malloc(rec->len);
    bool changed;

    SIM_CHECK(w, old != NULL && count >= 1 && count <= DBE_SUITES_MAX);
    memcpy(old, rec->data, rec->len);
    for (size_t i = 0, pos = head; i < count; i++) {
        at[i] = pos;
        len[i] = 4 + (size_t)base_get_u16(old + pos + 2);
        pos += len[i];
    }
    n = pick_some(&w->rng, count, 0, order);
    for (size_t i = 0; i < n; i++) {
        memcpy(rec->data + total, old + at[order[i]], len[order[i]]);
        total += len[order[i]];
    }
    rec->data[DBE_RECORD_HEADER_BYTES + 1] = (uint8_t)n;
    base_put_u32(rec->data, (uint32_t)(total - DBE_RECORD_HEADER_BYTES));
    changed = total != rec->len || memcmp(old, rec->data, total) != 0;
    rec->len = total;
    rec->bad = changed;
    free(old);
    return changed;
}

static void configure(struct sim *w, struct sess_config *c)
{
    uint16_t ids[DBE_SUITES_MAX];
    size_t order[DBE_SUITES_MAX], known = sim_suite_ids(ids);

    c->suites_count = pick_some(&w->rng, known, 1, order);
    for (size_t i = 0; i < c->suites_count; i++)
        c->suites[i] = ids[order[i]];
}

static bool share_a_suite(const struct sess_config *a, const struct sess_config *b)
{
    for (size_t i = 0; i < a->suites_count; i++)
        for (size_t j = 0; j < b->suites_count; j++)
            if (a->suites[i] == b->suites[j])
                return true;
    return false;
}

/* The responder's best among what was offered. */
static uint16_t best_of(const struct sess_config *i, const struct sess_config *r)
{
    for (size_t a = 0; a < r->suites_count; a++)
        for (size_t b = 0; b < i->suites_count; b++)
            if (r->suites[a] == i->suites[b])
                return r->suites[a];
    return 0;
}

void sim_downgrade(uint64_t seed, const struct sim_cred *creds)
{
    static struct sim w;
    struct sess_config ci, cr;
    bool changed;

    sim_begin(&w, seed, "downgrade", creds);
    ci = sim_config(&w, SESS_INITIATOR);
    cr = sim_config(&w, SESS_RESPONDER);
    configure(&w, &ci);
    configure(&w, &cr);
    sim_open(&w, &ci, &cr);
    sim_start(&w);
    changed = rewrite_offer(&w);
    sim_drain(&w);
    if (changed || !share_a_suite(&ci, &cr)) {
        for (size_t k = 0; k < 2; k++)
            SIM_CHECK(&w, !w.side[k].up_once && w.side[k].died != DBE_OK);
    } else {
        sim_settled(&w);
        SIM_CHECK(&w, sess_suite(w.side[0].s)->id == best_of(&ci, &cr));
    }
    sim_end(&w);
}

/* ---- every bit --------------------------------------------------------------------------------------------------- */

enum kind { KIND_MSG_1, KIND_MSG_2, KIND_MSG_3, KIND_DATA, KIND_REKEY, KIND_CLOSE, KIND_INNER_1, KIND_SWITCH, KINDS };

/* Bring a fresh pair to where a record of this kind is under way; returns to whom. Always the same bytes. */
static size_t until(struct sim *w, enum kind kind, const struct sim_cred *creds)
{
    struct sess_config ci;

    sim_begin(w, 42, "every-bit", creds);
    ci = sim_config(w, SESS_INITIATOR);
    ci.suites_count = 1;
    ci.suites[0] = CRYPTO_SUITE_1;
    sim_open(w, &ci, NULL);
    sim_start(w);
    if (kind >= KIND_MSG_2)
        sim_deliver(w, SESS_RESPONDER, SIZE_MAX);
    if (kind >= KIND_MSG_3)
        sim_deliver(w, SESS_INITIATOR, SIZE_MAX);
    if (kind >= KIND_DATA)
        sim_deliver(w, SESS_RESPONDER, SIZE_MAX);
    if (kind == KIND_DATA)
        sim_say(w, SESS_INITIATOR);
    if (kind == KIND_REKEY)
        sim_rekey(w, SESS_INITIATOR);
    if (kind == KIND_CLOSE)
        sim_close(w, SESS_INITIATOR);
    if (kind >= KIND_INNER_1)
        sim_rehandshake(w, SESS_INITIATOR);
    if (kind == KIND_SWITCH) { /* REHANDSHAKE(2) is taken, then comes REHANDSHAKE(3), then SWITCH each way */
        sim_deliver(w, SESS_RESPONDER, SIZE_MAX);
        sim_flush(w, SESS_RESPONDER);
        sim_deliver(w, SESS_INITIATOR, SIZE_MAX);
        sim_flush(w, SESS_INITIATOR);
        sim_deliver(w, SESS_RESPONDER, SIZE_MAX);
        sim_flush(w, SESS_RESPONDER);
        return SESS_INITIATOR;
    }
    return kind == KIND_MSG_2 ? SESS_INITIATOR : SESS_RESPONDER;
}

static void one_bit(enum kind kind, size_t bit, const struct sim_cred *creds)
{
    static struct sim w;
    size_t to = until(&w, kind, creds);
    struct sim_rec *rec = &w.side[to].in[0];

    rec->data[bit / 8] = (uint8_t)(rec->data[bit / 8] ^ 1u << bit % 8);
    rec->bad = true;
    w.seed = (uint64_t)kind << 32 | bit; /* printed when it fails */
    sim_drain(&w);
    SIM_CHECK(&w, w.side[to].died != DBE_OK || w.side[to].stalled);
    SIM_CHECK(&w, w.side[to].got == 0 && !w.side[to].closed);
    SIM_CHECK(&w, kind >= KIND_DATA || !w.side[SESS_RESPONDER].up_once);
    SIM_CHECK(&w, kind >= KIND_MSG_3 || !w.side[SESS_INITIATOR].up_once);
    sim_end(&w);
}

uint64_t sim_every_bit(const struct sim_cred *creds, size_t stride)
{
    static struct sim w;
    uint64_t done = 0;

    for (enum kind kind = KIND_MSG_1; kind < KINDS; kind++) {
        size_t to = until(&w, kind, creds), bits = w.side[to].in[0].len * 8;

        sim_end(&w);
        for (size_t bit = 0; bit < bits; bit += stride, done++)
            one_bit(kind, bit, creds);
    }
    return done;
}
