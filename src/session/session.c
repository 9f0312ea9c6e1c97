/* SPDX-License-Identifier: Apache-2.0
 *
 * session.c - the states of a channel and the moves between them, the table of records, and the calls of session.h.
 *
 * In: bytes of one ordered stream (or datagrams), one record a call   Out: bytes to send, events, opened messages
 * Does: every record is checked against the table (is it allowed now, is its length possible) before a byte of it is
 *       believed. An error ends the session: keys are wiped at once, whoever holds it can only free it.
 * Not:  no I/O, no clock, no threads, no memory beyond `out` and what sess_new takes.
 */
#include "session/session_priv.h"

#include <string.h>

#define BIT(state) (1u << (state))

/* ---- states ------------------------------------------------------------------------------------------------ */

static const unsigned may_follow[SESS_STATES] = {
    [SESS_I_NEW] = BIT(SESS_I_WAIT_2) | BIT(SESS_DEAD),
    [SESS_I_WAIT_2] = BIT(SESS_UP) | BIT(SESS_DEAD),
    [SESS_R_WAIT_1] = BIT(SESS_R_WAIT_3) | BIT(SESS_DEAD),
    [SESS_R_WAIT_3] = BIT(SESS_UP) | BIT(SESS_DEAD),
    [SESS_UP] = BIT(SESS_CLOSING) | BIT(SESS_CLOSED) | BIT(SESS_DEAD),
    [SESS_CLOSING] = BIT(SESS_CLOSED) | BIT(SESS_DEAD),
    [SESS_CLOSED] = BIT(SESS_DEAD),
    [SESS_DEAD] = BIT(SESS_DEAD),
};

/* What is true of every session in its state. */
static bool holds(const struct sess *s)
{
    bool send = s->send.keys.aead != NULL, recv = s->recv.keys.aead != NULL;

    switch (s->state) {
    case SESS_I_NEW:
    case SESS_R_WAIT_1: return s->hs != NULL && s->suite == NULL && !send && !recv && !s->peer_known;
    case SESS_I_WAIT_2: return s->hs != NULL && s->hs->kem[0] != NULL && !send && !recv && !s->peer_known;
    case SESS_R_WAIT_3: return s->hs != NULL && s->suite != NULL && !send && !recv && !s->peer_known;
    case SESS_UP:
    case SESS_CLOSING: return s->hs == NULL && s->suite != NULL && send && recv && s->peer_known && sess_renew_holds(s);
    case SESS_CLOSED:
    case SESS_DEAD: return s->hs == NULL && s->renew == NULL && !send && !recv && s->recv.prev.aead == NULL;
    default: return false;
    }
}

void sess_end_handshake(struct sess *s)
{
    if (s->hs == NULL)
        return;
    crypto_hash_free(s->hs->transcript);
    for (size_t i = 0; i < DBE_SUITES_MAX; i++) {
        const struct crypto_suite *suite = s->config.role == SESS_INITIATOR ? s->suites[i] : s->suite;

        if (s->hs->ecdh[i] != NULL)
            suite->ecdh->key_free(s->hs->ecdh[i]);
        if (s->hs->kem[i] != NULL)
            suite->kem->key_free(s->hs->kem[i]);
    }
    base_secret_free(s->hs->secrets, sizeof *s->hs->secrets);
    base_wipe(s->hs, sizeof *s->hs);
    base_free(s->hs);
    s->hs = NULL;
}

static void wipe_keys(struct sess *s)
{
    sess_end_handshake(s);
    sess_renew_free(s);
    sess_flight_free(s);
    s->owed_alert = 0;
    sess_keys_free(&s->send.keys);
    sess_keys_free(&s->recv.keys);
    sess_keys_free(&s->recv.prev);
    if (s->secrets != NULL)
        base_wipe(s->secrets, sizeof *s->secrets);
}

void sess_move(struct sess *s, enum sess_state next)
{
    BASE_INVARIANT((may_follow[s->state] & BIT(next)) != 0);
    if (next == SESS_CLOSED || next == SESS_DEAD)
        wipe_keys(s);
    s->state = next;
    BASE_INVARIANT(holds(s));
}

dbe_err sess_kill(struct sess *s, dbe_err err)
{
    if (s->diag.text[0] == '\0')
        (void)dbe_fail(&s->diag, err, NULL, 0, "%s", dbe_err_text(err));
    sess_move(s, SESS_DEAD);
    return err;
}

void sess_fresh_diag(struct sess *s)
{
    if (!s->diag_old)
        return;
    s->diag = (struct dbe_diag){0};
    s->diag_old = false;
}

static bool in_handshake(const struct sess *s)
{
    return s->state < SESS_UP;
}

static bool is_open(const struct sess *s)
{
    return s->state == SESS_UP || s->state == SESS_CLOSING;
}

/* ---- records ----------------------------------------------------------------------------------------------- */

/* The peer gave up. Nobody vouches for it: the channel dies, which whoever can write to the stream can have anyway, and
 * only a code of the classes that a peer may cause is believed. */
static dbe_err alert_take(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out)
{
    dbe_err err = (dbe_err)base_get_u16(rec + DBE_RECORD_HEADER_BYTES);

    (void)len, (void)out;
    /* after message 3 the initiator is up before it knows whether the responder agrees */
    if (!in_handshake(s) && (s->config.role == SESS_RESPONDER || s->recv.any))
        return dbe_fail(&s->diag, DBE_E_PROTOCOL, "alert", 0, "an alert in the clear on an established channel");
    if (err == DBE_OK || (dbe_err_class(err) != DBE_CLASS_PEER && dbe_err_class(err) != DBE_CLASS_DROP))
        err = DBE_E_PROTOCOL;
    return dbe_fail(&s->diag, err, "alert", 0, "the peer refused the handshake, it says %s", dbe_err_name(err));
}

uint16_t sess_alert_code(dbe_err err)
{
    bool of_peer = dbe_err_class(err) == DBE_CLASS_PEER || dbe_err_class(err) == DBE_CLASS_DROP;

    return (uint16_t)(of_peer ? err : DBE_E_CLOSED);
}

void sess_alert_put(uint16_t code, uint8_t dst[SESS_ALERT_RECORD_BYTES])
{
    struct sess_rec_head head = {.length = SESS_ALERT_BYTES, .type = SESS_REC_ALERT};

    sess_rec_head_put(dst, &head);
    base_put_u16(dst + DBE_RECORD_HEADER_BYTES, code);
}

typedef dbe_err take_fn(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out);

enum { HS_MAX = DBE_HANDSHAKE_MAX_BYTES - DBE_RECORD_HEADER_BYTES, TAG = DBE_RECORD_TAG_BYTES };

static const struct rule {
    enum sess_rec type;
    unsigned states;   /* where it may come */
    uint32_t min, max; /* of `length` */
    take_fn *take;
    bool streams_only;
} rules[] = {
    {SESS_REC_DATA, BIT(SESS_UP) | BIT(SESS_CLOSING), TAG, DBE_MESSAGE_MAX_BYTES + TAG, sess_rec_take, false},
    {SESS_REC_REKEY, BIT(SESS_UP) | BIT(SESS_CLOSING), 1 + TAG, 1 + TAG, sess_rec_take, false},
    {SESS_REC_CLOSE, BIT(SESS_UP) | BIT(SESS_CLOSING), TAG, TAG, sess_rec_take, false},
    {SESS_REC_REHANDSHAKE, BIT(SESS_UP) | BIT(SESS_CLOSING), SESS_ALERT_RECORD_BYTES + TAG,
     DBE_HANDSHAKE_MAX_BYTES + TAG, sess_rec_take, true},
    {SESS_REC_SWITCH, BIT(SESS_UP) | BIT(SESS_CLOSING), 1 + TAG, 1 + TAG, sess_rec_take, true},
    {SESS_REC_MSG_1, BIT(SESS_R_WAIT_1), SESS_MSG1_FIXED_BYTES, HS_MAX, sess_msg1_take, false},
    {SESS_REC_MSG_2, BIT(SESS_I_WAIT_2), SESS_MSG2_FIXED_BYTES, HS_MAX, sess_msg2_take, false},
    {SESS_REC_MSG_3, BIT(SESS_R_WAIT_3), SESS_AUTH_FIXED_BYTES + TAG, HS_MAX, sess_msg3_take, false},
    {SESS_REC_ALERT, BIT(SESS_I_WAIT_2) | BIT(SESS_R_WAIT_3) | BIT(SESS_UP) | BIT(SESS_CLOSING), SESS_ALERT_BYTES,
     SESS_ALERT_BYTES, alert_take, false},
};

/* Is this record possible now? From its header alone, before its body is awaited. */
static dbe_err check_head(struct sess *s, const struct sess_rec_head *head, const struct rule **ret)
{
    const struct rule *rule = NULL;

    for (size_t i = 0; i < BASE_ARRAY_LEN(rules) && rule == NULL; i++)
        if (rules[i].type == head->type)
            rule = &rules[i];
    if (rule == NULL || (rule->states & BIT(s->state)) == 0 || (rule->streams_only && s->config.datagram))
        return dbe_fail(&s->diag, DBE_E_PROTOCOL, "record type", 4, "record type 0x%02x is not allowed now",
                        head->type);
    if (head->length > rule->max)
        return dbe_fail(&s->diag, DBE_E_TOO_LARGE, "record length", 0, "%u bytes, at most %u are allowed", head->length,
                        rule->max);
    if (head->length < rule->min)
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "record length", 0, "%u bytes are too few", head->length);
    if (head->reserved != 0)
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "record reserved", 6, "it is not zero");
    if (rule->take != sess_rec_take && (head->epoch != 0 || head->seq != 0))
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "record epoch, sequence", 5,
                        "they are not zero in a handshake record");
    *ret = rule;
    return DBE_OK;
}

size_t sess_recv_max(const struct sess *s)
{
    size_t most = 0;

    for (size_t i = 0; i < BASE_ARRAY_LEN(rules); i++)
        if ((rules[i].states & BIT(s->state)) != 0 && rules[i].max > most)
            most = rules[i].max;
    return DBE_RECORD_HEADER_BYTES + most;
}

/* The whole record is at `in`, or the datagram is not a whole record. */
static dbe_err find_record(struct sess *s, const uint8_t *in, size_t len, const struct rule **ret, size_t *ret_len)
{
    struct sess_rec_head head;

    *ret = NULL;
    if (len < DBE_RECORD_HEADER_BYTES)
        return DBE_OK;
    sess_rec_head_get(in, &head);
    DBE_TRY(check_head(s, &head, ret));
    *ret_len = DBE_RECORD_HEADER_BYTES + (size_t)head.length;
    if (len < *ret_len)
        *ret = NULL;
    return DBE_OK;
}

/* A datagram that is no record of this channel, or comes too early or too late: anybody, or the network, may have done
 * that. */
static bool droppable(const struct sess *s, const struct rule *rule, dbe_err err)
{
    return s->config.datagram && (err != DBE_OK || rule == NULL || (is_open(s) && rule->take == alert_take));
}

/* One whole record. What answers a handshake datagram is kept, to be said again. */
static dbe_err take(struct sess *s, const struct rule *rule, uint8_t *rec, size_t len, struct sess_out *out)
{
    uint8_t digest[CRYPTO_HASH_BYTES];
    size_t start = out->buf->len;

    if (!s->config.datagram || rule->take == sess_rec_take || rule->take == alert_take)
        return rule->take(s, rec, len, out);
    DBE_TRY(crypto_sha3_512(rec, len, digest)); /* taking opens it in place */
    DBE_TRY(rule->take(s, rec, len, out));
    /* message 3 is answered by nothing, into a buffer that may not even exist */
    return sess_flight_keep(s, out->buf->len > start ? out->buf->data + start : NULL, out->buf->len - start, digest);
}

/* Judge what is at `in`, and take it. `ret_told`: it was an alert, which is not answered. */
static dbe_err step(struct sess *s, uint8_t *in, size_t len, size_t *ret_used, struct sess_out *out, bool *ret_told)
{
    const struct rule *rule = NULL;
    size_t whole = 0;
    dbe_err err;

    *ret_used = len;
    if (s->config.datagram && sess_flight_repeat(s, in, len, out))
        return DBE_OK;
    err = find_record(s, in, len, &rule, &whole);
    if (droppable(s, rule, err)) {
        s->diag_old = true; /* why it was dropped is not why the session ends one day */
        out->event = len > 0 ? SESS_DROPPED : SESS_NEED_MORE;
        return DBE_OK;
    }
    DBE_TRY(err);
    *ret_used = rule == NULL ? 0 : whole;
    if (rule == NULL)
        return DBE_OK;
    *ret_told = rule->take == alert_take;
    return take(s, rule, in, whole, out);
}

dbe_err sess_feed(struct sess *s, uint8_t *in, size_t len, size_t *ret_used, enum sess_event *ret_event,
                  const uint8_t **ret_msg, size_t *ret_msg_len, struct base_buf *out)
{
    struct sess_out res = {.event = SESS_NEED_MORE, .buf = out};
    size_t used = 0, start = out->len;
    bool told = false;
    dbe_err err;

    if (s->state == SESS_CLOSED)
        return DBE_E_CLOSED;
    if (s->state == SESS_DEAD || s->state == SESS_I_NEW)
        return DBE_E_STATE;
    sess_fresh_diag(s);
    err = step(s, in, len, &used, &res, &told);
    if (err != DBE_OK) {
        bool tell = in_handshake(s) && !told;

        sess_cut(out, start); /* nothing that was half said */
        uint8_t *at = tell ? base_buf_grow(out, SESS_ALERT_RECORD_BYTES) : NULL;
        if (at != NULL)
            sess_alert_put(sess_alert_code(err), at);
        return sess_kill(s, err);
    }
    *ret_used = used;
    *ret_event = res.event;
    *ret_msg = res.msg;
    *ret_msg_len = res.msg_len;
    return DBE_OK;
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

dbe_err sess_start(struct sess *s, struct base_buf *out)
{
    size_t start = out->len;
    dbe_err err;

    if (s->config.role == SESS_RESPONDER)
        return s->state == SESS_R_WAIT_1 ? DBE_OK : DBE_E_STATE; /* it waits to be spoken to */
    if (s->state != SESS_I_NEW)
        return DBE_E_STATE;
    err = sess_msg1_make(s, out);
    if (err == DBE_OK && s->config.datagram)
        err = sess_flight_keep(s, out->data + start, out->len - start, NULL);
    if (err != DBE_OK) {
        sess_cut(out, start);
        return sess_kill(s, err);
    }
    sess_move(s, SESS_I_WAIT_2);
    return DBE_OK;
}

dbe_err sess_suites_of(const uint16_t *ids, size_t count, enum sess_role role,
                       const struct crypto_suite *ret[DBE_SUITES_MAX], size_t *ret_count)
{
    const struct crypto_suite *const *all = NULL;
    size_t known = crypto_suites(&all);

    if (count > DBE_SUITES_MAX)
        return DBE_E_ARGUMENT;
    for (size_t i = 0; i < count; i++) {
        ret[i] = crypto_suite(ids[i]);
        if (ret[i] == NULL)
            return DBE_E_UNSUPPORTED;
        for (size_t j = 0; j < i; j++)
            if (ret[j] == ret[i])
                return DBE_E_DUPLICATE;
    }
    if (count > 0) {
        *ret_count = count;
        return DBE_OK;
    }
    /* By default: every suite offered costs a share of its own, whether it is chosen or not; accepting costs nothing.
     * */
    *ret_count = role == SESS_INITIATOR ? 1 : BASE_MIN(known, (size_t)DBE_SUITES_MAX);
    for (size_t i = 0; i < *ret_count; i++)
        ret[i] = all[i];
    return DBE_OK;
}

static dbe_err begin(struct sess *s)
{
    const uint8_t *cert = NULL;
    size_t cert_len = 0;

    s->config.auth.own_cert(s->config.auth.ctx, &cert, &cert_len);
    if (cert == NULL || cert_len == 0 || cert_len > DBE_CERT_MAX_BYTES)
        return DBE_E_ARGUMENT;
    DBE_TRY(sess_suites_of(s->config.suites, s->config.suites_count, s->config.role, s->suites, &s->suites_count));
    s->secrets = base_secret_alloc(sizeof *s->secrets);
    s->hs = base_alloc(1, sizeof *s->hs);
    if (s->hs == NULL || s->secrets == NULL)
        return DBE_E_NOMEM;
    s->hs->secrets = base_secret_alloc(sizeof *s->hs->secrets);
    if (s->hs->secrets == NULL)
        return DBE_E_NOMEM;
    memcpy(s->hs->registry, dbe_registry_hash, SESS_REGISTRY_BYTES);
    DBE_TRY(crypto_hash_new(&s->hs->transcript));
    return crypto_hash_update(s->hs->transcript, SESS_PROTOCOL_ID, sizeof SESS_PROTOCOL_ID - 1);
}

dbe_err sess_new(const struct sess_config *config, struct sess **ret)
{
    struct sess *s;
    dbe_err err;

    if (config->auth.own_cert == NULL || config->auth.sign == NULL || config->auth.verify_cert == NULL ||
        (config->role != SESS_INITIATOR && config->role != SESS_RESPONDER))
        return DBE_E_ARGUMENT;
    s = base_alloc(1, sizeof *s);
    if (s == NULL)
        return DBE_E_NOMEM;
    s->config = *config;
    s->state = config->role == SESS_INITIATOR ? SESS_I_NEW : SESS_R_WAIT_1;
    err = begin(s);
    if (err != DBE_OK) {
        sess_free(s);
        return err;
    }
    *ret = s;
    return DBE_OK;
}

void sess_free(struct sess *s)
{
    if (s == NULL)
        return;
    wipe_keys(s);
    base_secret_free(s->secrets, sizeof *s->secrets);
    base_wipe(s, sizeof *s);
    base_free(s);
}

/* ---- looking ----------------------------------------------------------------------------------------------------- */

dbe_err sess_set_suites(struct sess *s, const uint16_t *suites, size_t count)
{
    const struct crypto_suite *found[DBE_SUITES_MAX];
    size_t found_count;

    DBE_TRY(sess_suites_of(suites, count, SESS_RESPONDER, found, &found_count));
    for (size_t i = 0; i < count; i++)
        s->config.suites[i] = suites[i];
    s->config.suites_count = count;
    return DBE_OK;
}

const struct dbe_policy_digest sess_policy_none;

void sess_set_policy_digest(struct sess *s, const struct dbe_policy_digest *digest,
                            const struct dbe_policy_digest *before)
{
    s->config.policy_digest = *digest;
    s->config.policy_digest_before = *before;
}

const struct dbe_policy_digest *sess_policy_digest(const struct sess *s)
{
    return &s->policy_digest;
}

bool sess_same_policy(const struct dbe_policy_digest *a, const struct dbe_policy_digest *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

bool sess_is_up(const struct sess *s)
{
    return s->state == SESS_UP;
}

const struct dbe_identity *sess_peer(const struct sess *s)
{
    return s->peer_known ? &s->peer : NULL;
}

const struct crypto_suite *sess_suite(const struct sess *s)
{
    return s->suite;
}

const struct dbe_diag *sess_diag(const struct sess *s)
{
    return &s->diag;
}

dbe_err sess_channel_binding(const struct sess *s, uint8_t ret[32])
{
    if (!is_open(s))
        return DBE_E_STATE;
    memcpy(ret, s->secrets->binding, sizeof s->secrets->binding);
    return DBE_OK;
}

dbe_err sess_log_key(const struct sess *s, uint8_t ret[32])
{
    if (!is_open(s))
        return DBE_E_STATE;
    memcpy(ret, s->secrets->k_log, sizeof s->secrets->k_log);
    return DBE_OK;
}

void sess_stats(const struct sess *s, struct sess_stats *ret)
{
    *ret = s->stats;
    ret->epoch_send = s->send.epoch;
    ret->epoch_recv = s->recv.epoch;
}
