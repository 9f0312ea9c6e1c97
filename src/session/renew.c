/* SPDX-License-Identifier: Apache-2.0
 *
 * renew.c - a handshake inside the channel: new suite, keys and certificates under traffic, with nothing lost.
 *
 * A session of its own (the inner one) makes and takes the same three messages; its records travel whole in REHANDSHAKE
 * records of the channel, and its transcript begins with the channel's binding. The keys that come of it are used from
 * the SWITCH of each direction on: whoever answered message 1 switches first, the other when it has seen that. Until
 * then either side can still give up, and both go on as before: so want of memory on one host costs a renewal, not a
 * channel.
 *
 *   who began   -REHANDSHAKE(1)->           <-REHANDSHAKE(2)-   -REHANDSHAKE(3)->
 *                                           <-SWITCH-           -SWITCH->
 *
 * Nothing is sent from here. What is to be said is owed, and send.c seals it before the next record, in order.
 * Not:  it judges no certificate beyond that the SPIFFE id must not change; the owner's rules apply as in any
 * handshake.
 */
#include "session/session_priv.h"

#include <string.h>

#define BIT(state) (1u << (state))

enum {
    SWITCH_BYTES = DBE_RECORD_HEADER_BYTES + 1 + DBE_RECORD_TAG_BYTES,
    ALERT_BYTES = DBE_RECORD_HEADER_BYTES + SESS_ALERT_RECORD_BYTES + DBE_RECORD_TAG_BYTES,
    FRAME_BYTES = DBE_RECORD_HEADER_BYTES + DBE_RECORD_TAG_BYTES,
};

/* ---- states ---------------------------------------------------------------------------------------------------- */

static const unsigned may_follow[SESS_RENEW_STATES] = {
    [SESS_RENEW_WAIT_2] = BIT(SESS_RENEW_READY),
    [SESS_RENEW_WAIT_3] = BIT(SESS_RENEW_READY),
    [SESS_RENEW_READY] = BIT(SESS_RENEW_SENT) | BIT(SESS_RENEW_TAKEN),
    [SESS_RENEW_SENT] = 0, /* it ends */
    [SESS_RENEW_TAKEN] = 0,
};

static bool began(const struct sess_renew *r)
{
    return r->inner->config.role == SESS_INITIATOR;
}

bool sess_renew_holds(const struct sess *s)
{
    const struct sess_renew *r = s->renew;

    if (r == NULL)
        return true;
    bool send = r->inner->send.keys.aead != NULL, recv = r->inner->recv.keys.aead != NULL;
    if (s->config.datagram || s->state > SESS_CLOSING)
        return false;
    switch (r->state) {
    case SESS_RENEW_WAIT_2: return began(r) && r->inner->state == SESS_I_WAIT_2;
    case SESS_RENEW_WAIT_3: return !began(r) && (r->inner->state == SESS_R_WAIT_1 || r->inner->state == SESS_R_WAIT_3);
    case SESS_RENEW_READY: return r->inner->state == SESS_UP && send && recv;
    case SESS_RENEW_SENT: return !began(r) && r->inner->state == SESS_UP && !send && recv && r->say.len == 0;
    case SESS_RENEW_TAKEN: return began(r) && r->inner->state == SESS_UP && send && !recv && r->say.len == 0;
    default: return false;
    }
}

static void move(struct sess *s, enum sess_renew_state next)
{
    BASE_INVARIANT((may_follow[s->renew->state] & BIT(next)) != 0);
    s->renew->state = next;
    BASE_INVARIANT(sess_renew_holds(s));
}

void sess_renew_free(struct sess *s)
{
    struct sess_renew *r = s->renew;

    if (r == NULL)
        return;
    sess_free(r->inner); /* keys that moved into the channel left zeros behind */
    base_buf_free(&r->say);
    base_free(r);
    s->renew = NULL;
}

void sess_renew_closing(struct sess *s)
{
    const struct sess_renew *r = s->renew;

    s->owed_alert = 0;
    if (r != NULL && r->state != SESS_RENEW_SENT && !(r->state == SESS_RENEW_READY && began(r)))
        sess_renew_free(s);
}

/* ---- the inner session: its owner is this channel -------------------------------------------------------------- */

static void own_cert(void *ctx, const uint8_t **ret_der, size_t *ret_len)
{
    const struct sess *s = ctx;

    s->config.auth.own_cert(s->config.auth.ctx, ret_der, ret_len);
}

static dbe_err sign(void *ctx, const char *sig_ctx, const void *msg, size_t len, uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    const struct sess *s = ctx;

    return s->config.auth.sign(s->config.auth.ctx, sig_ctx, msg, len, sig);
}

static dbe_err verify_cert(void *ctx, const uint8_t *der, size_t len, struct dbe_identity *ret,
                           uint8_t ret_pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    const struct sess *s = ctx;

    DBE_TRY(s->config.auth.verify_cert(s->config.auth.ctx, der, len, ret, ret_pk, diag));
    if (strncmp(ret->spiffe_id, s->peer.spiffe_id, sizeof ret->spiffe_id) != 0)
        return dbe_fail(diag, DBE_E_AUTH, "identity", 0, "the peer of this channel now says that it is another node");
    return DBE_OK;
}

static dbe_err evidence(void *ctx, const uint8_t th[CRYPTO_HASH_BYTES], struct base_buf *out)
{
    const struct sess *s = ctx;

    return s->config.auth.evidence(s->config.auth.ctx, th, out);
}

static dbe_err verify_evidence(void *ctx, const struct dbe_identity *peer, const uint8_t th[CRYPTO_HASH_BYTES],
                               const uint8_t *bytes, size_t len, struct dbe_diag *diag)
{
    const struct sess *s = ctx;

    return s->config.auth.verify_evidence(s->config.auth.ctx, peer, th, bytes, len, diag);
}

static dbe_err inner_new(struct sess *s, enum sess_role role, const uint16_t *suites, size_t count, struct sess **ret)
{
    struct sess_config config = {
        .role = role,
        .auth = {.own_cert = own_cert, .sign = sign, .verify_cert = verify_cert, .ctx = s},
        .suites_count = count,
        .policy_digest = s->config.policy_digest,
        .policy_digest_before = s->config.policy_digest_before,
    };
    struct sess *inner = NULL;
    dbe_err err;

    if (count > DBE_SUITES_MAX)
        return DBE_E_ARGUMENT;
    for (size_t i = 0; i < count; i++)
        config.suites[i] = suites[i];
    if (s->config.auth.evidence != NULL)
        config.auth.evidence = evidence;
    if (s->config.auth.verify_evidence != NULL)
        config.auth.verify_evidence = verify_evidence;
    DBE_TRY(sess_new(&config, &inner));
    err = crypto_hash_update(inner->hs->transcript, SESS_RENEW_ID, sizeof SESS_RENEW_ID - 1);
    if (err == DBE_OK)
        err = crypto_hash_update(inner->hs->transcript, s->secrets->binding, sizeof s->secrets->binding);
    if (err == DBE_OK)
        *ret = inner;
    else
        sess_free(inner);
    return err;
}

static dbe_err begin(struct sess *s, enum sess_role role, const uint16_t *suites, size_t count)
{
    struct sess_renew *r = base_alloc(1, sizeof *r);
    dbe_err err;

    if (r == NULL)
        return DBE_E_NOMEM;
    err = inner_new(s, role, suites, count, &r->inner);
    if (err != DBE_OK) {
        base_free(r);
        return err;
    }
    r->state = role == SESS_INITIATOR ? SESS_RENEW_WAIT_2 : SESS_RENEW_WAIT_3;
    base_buf_init(&r->say, DBE_HANDSHAKE_MAX_BYTES);
    s->renew = r;
    return DBE_OK;
}

dbe_err sess_rehandshake(struct sess *s, const uint16_t *suites, size_t count, uint64_t now_ns, struct base_buf *out)
{
    const uint16_t *list = count > 0 ? suites : &s->suite->id;
    dbe_err err;

    sess_fresh_diag(s);
    DBE_TRY(sess_may_send(s));
    if (s->config.datagram)
        return DBE_E_STATE;
    if (s->renew != NULL)
        return DBE_E_AGAIN;
    DBE_TRY(begin(s, SESS_INITIATOR, list, BASE_MAX(count, (size_t)1)));
    err = sess_start(s->renew->inner, &s->renew->say);
    if (err == DBE_OK)
        err = sess_flush(s, now_ns, out);
    if (err != DBE_OK)
        sess_renew_free(s);
    else
        BASE_INVARIANT(sess_renew_holds(s));
    return err;
}

/* ---- on the way in ----------------------------------------------------------------------------------------------- */

/* It comes to nothing; the channel goes on. */
static void give_up(struct sess *s, struct sess_out *out)
{
    sess_renew_free(s);
    s->diag_old = true;
    s->stats.refused++;
    out->event = SESS_REFUSED;
}

/* Is `err` a matter of means, of suites or of whose policy is newer, and not of trust? */
static bool is_harmless(dbe_err err)
{
    switch (dbe_err_class(err)) {
    case DBE_CLASS_RETRY:
    case DBE_CLASS_LIMIT:
    case DBE_CLASS_LOCAL: return true;
    default: return err == DBE_E_UNSUPPORTED || err == DBE_E_POLICY || err == DBE_E_RANDOM || err == DBE_E_CRYPTO;
    }
}

/* Our side of it failed. */
static dbe_err failed(struct sess *s, dbe_err err, struct sess_out *out)
{
    if (s->renew != NULL && s->renew->inner->diag.text[0] != '\0')
        s->diag = s->renew->inner->diag;
    else
        (void)dbe_fail(&s->diag, err, "rehandshake", 0, "%s", dbe_err_text(err));
    if (!is_harmless(err))
        return err;
    s->owed_alert = sess_alert_code(err);
    give_up(s, out);
    return DBE_OK;
}

/* The peer gave up, and says a number. */
static dbe_err alert(struct sess *s, const uint8_t *rec, size_t len, struct sess_out *out)
{
    const struct sess_renew *r = s->renew;
    struct sess_rec_head head;
    dbe_err code;

    sess_rec_head_get(rec, &head);
    if (r == NULL || r->state > SESS_RENEW_READY || (r->state == SESS_RENEW_READY && !began(r)))
        return dbe_fail(&s->diag, DBE_E_PROTOCOL, "rehandshake alert", 0, "there is no rehandshake to give up");
    if (len != SESS_ALERT_RECORD_BYTES || head.length != SESS_ALERT_BYTES || head.epoch != 0 || head.reserved != 0 ||
        head.seq != 0)
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "rehandshake alert", 0, "its header is wrong");
    code = (dbe_err)base_get_u16(rec + DBE_RECORD_HEADER_BYTES);
    (void)dbe_fail(&s->diag, code, "rehandshake", 0, "the peer does not renew the channel, it says %s",
                   dbe_err_name(code));
    give_up(s, out);
    return DBE_OK;
}

/* Message 1 of the peer while none of ours is answered. */
static dbe_err answer(struct sess *s)
{
    sess_renew_free(s); /* ours, if it was the one that has to yield */
    return begin(s, SESS_RESPONDER, s->config.suites, s->config.suites_count);
}

/* Give a record to the inner session. */
static dbe_err advance(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out)
{
    struct sess_renew *r = s->renew;
    enum sess_event event;
    const uint8_t *msg;
    size_t msg_len, used = 0;
    dbe_err err = sess_feed(r->inner, rec, len, &used, &event, &msg, &msg_len, &r->say);

    if (err == DBE_OK && used != len)
        err = dbe_fail(&r->inner->diag, DBE_E_MALFORMED, "rehandshake", 0, "it does not hold one whole record");
    if (err != DBE_OK)
        return failed(s, err, out);
    if (r->inner->state == SESS_UP)
        move(s, SESS_RENEW_READY);
    BASE_INVARIANT(sess_renew_holds(s));
    out->event = SESS_HANDSHAKING;
    return DBE_OK;
}

dbe_err sess_renew_take(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out)
{
    struct sess_renew *r = s->renew;
    uint8_t type = rec[4]; /* the table of records saw to it that there is a header */

    out->event = SESS_HANDSHAKING;
    if (s->state != SESS_UP)
        return DBE_OK; /* we said goodbye and cannot answer */
    if (type == SESS_REC_ALERT)
        return alert(s, rec, len, out);
    if (type != SESS_REC_MSG_1 && type != SESS_REC_MSG_2 && type != SESS_REC_MSG_3)
        return dbe_fail(&s->diag, DBE_E_PROTOCOL, "rehandshake", 4, "record type 0x%02x has no place in it", type);
    if (type == SESS_REC_MSG_1 && r != NULL && r->state == SESS_RENEW_WAIT_2 && s->config.role == SESS_INITIATOR) {
        if (r->ignored)
            return dbe_fail(&s->diag, DBE_E_PROTOCOL, "rehandshake", 4, "the peer began a second time");
        r->ignored = true; /* both began; ours goes through, and the peer will answer it */
        return DBE_OK;
    }
    if (type == SESS_REC_MSG_1 && (r == NULL || r->state == SESS_RENEW_WAIT_2)) {
        dbe_err err = answer(s);
        if (err != DBE_OK)
            return failed(s, err, out);
    } else if (r == NULL) {
        return dbe_fail(&s->diag, DBE_E_PROTOCOL, "rehandshake", 4, "none is in progress");
    }
    return advance(s, rec, len, out);
}

dbe_err sess_renew_switch(struct sess *s, uint8_t epoch, struct sess_out *out)
{
    struct sess_renew *r = s->renew;
    struct sess_recv *d = &s->recv;
    bool due =
        r != NULL && (r->state == SESS_RENEW_SENT || (r->state == SESS_RENEW_READY && began(r) && r->say.len == 0));

    if (!due)
        return dbe_fail(&s->diag, DBE_E_PROTOCOL, "switch", 4, "there are no keys to switch to");
    if (epoch != (uint8_t)(d->epoch + 1))
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "switch", 0, "it names epoch %u after epoch %u", epoch, d->epoch);
    sess_keys_free(&d->keys);
    d->keys = r->inner->recv.keys;
    base_wipe(&r->inner->recv.keys, sizeof r->inner->recv.keys);
    memcpy(s->secrets->recv, r->inner->secrets->recv, SESS_SECRET_BYTES);
    d->epoch = epoch;
    s->suite = r->inner->suite;
    s->peer = r->inner->peer;
    s->policy_digest = r->inner->policy_digest;
    s->stats.switches++;
    if (r->state == SESS_RENEW_READY && s->state == SESS_UP)
        move(s, SESS_RENEW_TAKEN);
    else
        sess_renew_free(s);
    out->event = SESS_SWITCHED;
    return DBE_OK;
}

/* ---- on the way out ---------------------------------------------------------------------------------------------- */

static bool owes_switch(const struct sess_renew *r)
{
    return r->state == SESS_RENEW_TAKEN || (r->state == SESS_RENEW_READY && !began(r));
}

struct sess_owed sess_owed(const struct sess *s)
{
    const struct sess_renew *r = s->renew;
    struct sess_owed owed = {0};

    if (s->flight != NULL && s->flight->due)
        owed.bytes += s->flight->bytes.len; /* as it is: it is sealed already */
    if (s->owed_alert != 0)
        owed.records++, owed.bytes += ALERT_BYTES;
    if (r != NULL && r->say.len > 0)
        owed.records++, owed.bytes += FRAME_BYTES + r->say.len;
    if (r != NULL && owes_switch(r))
        owed.records++, owed.bytes += SWITCH_BYTES;
    return owed;
}

/* The last record of the old keys; then the own direction has the new ones. */
static dbe_err put_switch(struct sess *s, uint64_t now_ns, uint8_t *dst)
{
    struct sess *inner = s->renew->inner;
    uint8_t epoch = (uint8_t)(s->send.epoch + 1);

    DBE_TRY(sess_rec_seal(s, SESS_REC_SWITCH, &epoch, 1, dst));
    sess_send_install(s, &inner->send.keys, inner->secrets->send, now_ns);
    if (s->renew->state == SESS_RENEW_READY)
        move(s, SESS_RENEW_SENT);
    else
        sess_renew_free(s);
    return DBE_OK;
}

dbe_err sess_owed_put(struct sess *s, uint64_t now_ns, uint8_t *dst)
{
    uint8_t told[SESS_ALERT_RECORD_BYTES];

    if (s->flight != NULL && s->flight->due) {
        memcpy(dst, s->flight->bytes.data, s->flight->bytes.len);
        s->flight->due = false;
        dst += s->flight->bytes.len;
    }
    if (s->owed_alert != 0) { /* of one that is over: before anything of the next */
        sess_alert_put(s->owed_alert, told);
        DBE_TRY(sess_rec_seal(s, SESS_REC_REHANDSHAKE, told, sizeof told, dst));
        s->owed_alert = 0;
        dst += ALERT_BYTES;
    }
    if (s->renew != NULL && s->renew->say.len > 0) {
        struct base_buf *say = &s->renew->say;
        DBE_TRY(sess_rec_seal(s, SESS_REC_REHANDSHAKE, say->data, say->len, dst));
        dst += FRAME_BYTES + say->len;
        base_buf_clear(say);
    }
    if (s->renew != NULL && owes_switch(s->renew))
        return put_switch(s, now_ns, dst);
    return DBE_OK;
}
