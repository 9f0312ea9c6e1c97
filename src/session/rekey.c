/* SPDX-License-Identifier: Apache-2.0
 *
 * rekey.c - moving one direction to the next epoch: when it is due, the notice, and the new keys.
 *
 * The notice is the last record of the old epoch and names the new one (modulo 256; only the very next is accepted, so
 * that wrapping means nothing). The secret of the old epoch is wiped: who takes the keys later cannot read what came
 * before. Directions are independent, so both sides may move at once.
 */
#include "session/session_priv.h"

#include <string.h>

static uint64_t limit_of(uint64_t asked, uint64_t most)
{
    return asked > 0 && asked < most ? asked : most;
}

bool sess_rekey_due(const struct sess *s, uint64_t records, size_t len, uint64_t now_ns)
{
    const struct sess_send *d = &s->send;

    /* the notice itself is a record of the epoch: leave room for it */
    if (d->epoch_records + records + 1 > limit_of(s->config.rekey_records, DBE_REKEY_RECORDS))
        return d->epoch_records > 0;
    if (d->epoch_bytes + len > limit_of(s->config.rekey_bytes, DBE_REKEY_BYTES))
        return d->epoch_records > 0;
    return d->aged && now_ns > d->epoch_start_ns &&
           now_ns - d->epoch_start_ns >= limit_of(s->config.rekey_age_ns, DBE_REKEY_AGE_NS);
}

/* The secret and the keys of the epoch after `secret`. */
static dbe_err advance(const struct crypto_suite *suite, const uint8_t secret[SESS_SECRET_BYTES],
                       uint8_t next[SESS_SECRET_BYTES], bool seal, struct sess_keys *ret)
{
    DBE_TRY(sess_ks_next(secret, next));
    return sess_ks_keys(suite, next, seal, ret);
}

void sess_send_install(struct sess *s, struct sess_keys *fresh, const uint8_t secret[SESS_SECRET_BYTES],
                       uint64_t now_ns)
{
    struct sess_send *d = &s->send;

    sess_keys_free(&d->keys);
    d->keys = *fresh;
    base_wipe(fresh, sizeof *fresh);
    memcpy(s->secrets->send, secret, SESS_SECRET_BYTES);
    d->epoch++;
    d->epoch_records = d->epoch_bytes = 0;
    d->epoch_start_ns = now_ns;
    d->aged = true;
}

dbe_err sess_rekey_send(struct sess *s, uint64_t now_ns, uint8_t dst[SESS_REKEY_NOTICE_BYTES])
{
    uint8_t epoch = (uint8_t)(s->send.epoch + 1), next[SESS_SECRET_BYTES];
    struct sess_keys fresh = {0};
    dbe_err err;

    DBE_TRY(sess_rec_seal(s, SESS_REC_REKEY, &epoch, 1, dst));
    err = advance(s->send.keys.suite, s->secrets->send, next, true, &fresh);
    if (err == DBE_OK) {
        sess_send_install(s, &fresh, next, now_ns);
        s->stats.rekeys++;
    }
    base_wipe(next, sizeof next);
    return err;
}

dbe_err sess_rekey_take(struct sess *s, uint8_t epoch)
{
    struct sess_recv *d = &s->recv;
    struct sess_keys fresh = {0};
    uint8_t next[SESS_SECRET_BYTES];
    dbe_err err;

    if (epoch != (uint8_t)(d->epoch + 1))
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "rekey", 0, "the notice names epoch %u after epoch %u", epoch,
                        d->epoch);
    err = advance(d->keys.suite, s->secrets->recv, next, false, &fresh);
    if (err == DBE_OK) {
        sess_keys_free(&d->prev);
        if (s->config.datagram)
            d->prev = d->keys; /* what was overtaken may still arrive */
        else
            sess_keys_free(&d->keys);
        d->keys = fresh;
        d->epoch = epoch;
        memcpy(s->secrets->recv, next, sizeof next);
        base_wipe(&fresh, sizeof fresh);
    }
    base_wipe(next, sizeof next);
    return err;
}
