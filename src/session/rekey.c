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

bool sess_rekey_due(const struct sess *s, size_t len, uint64_t now_ns)
{
    const struct sess_send *d = &s->send;

    /* the notice itself is a record of the epoch: leave room for it */
    if (d->epoch_records + 2 > limit_of(s->config.rekey_records, DBE_REKEY_RECORDS))
        return d->epoch_records > 0;
    if (d->epoch_bytes + len > limit_of(s->config.rekey_bytes, DBE_REKEY_BYTES))
        return d->epoch_records > 0;
    return d->aged && now_ns > d->epoch_start_ns &&
           now_ns - d->epoch_start_ns >= limit_of(s->config.rekey_age_ns, DBE_REKEY_AGE_NS);
}

/* Make the keys of the epoch after `secret`; commit nothing on error. */
static dbe_err advance(const struct crypto_suite *suite, uint8_t secret[SESS_SECRET_BYTES], bool seal,
                       struct sess_keys *ret)
{
    uint8_t next[SESS_SECRET_BYTES];
    dbe_err err = sess_ks_next(secret, next);

    if (err == DBE_OK)
        err = sess_ks_keys(suite, next, seal, ret);
    if (err == DBE_OK)
        memcpy(secret, next, sizeof next);
    base_wipe(next, sizeof next);
    return err;
}

dbe_err sess_rekey_send(struct sess *s, uint64_t now_ns, uint8_t dst[SESS_REKEY_NOTICE_BYTES])
{
    struct sess_send *d = &s->send;
    struct sess_keys fresh = {0};
    uint8_t epoch = (uint8_t)(d->epoch + 1);
    dbe_err err;

    DBE_TRY(sess_rec_seal(s, SESS_REC_REKEY, &epoch, 1, dst));
    err = advance(s->suite, s->secrets->send, true, &fresh);
    if (err != DBE_OK)
        return err;
    sess_keys_free(s->suite, &d->keys);
    d->keys = fresh;
    d->epoch = epoch;
    d->key_used = false;
    d->epoch_records = d->epoch_bytes = 0;
    d->epoch_start_ns = now_ns;
    d->aged = true;
    s->stats.rekeys++;
    base_wipe(&fresh, sizeof fresh);
    return DBE_OK;
}

dbe_err sess_rekey_take(struct sess *s, uint8_t epoch)
{
    struct sess_recv *d = &s->recv;
    struct sess_keys fresh = {0};

    if (epoch != (uint8_t)(d->epoch + 1))
        return dbe_fail(&s->diag, DBE_E_MALFORMED, "rekey", 0, "the notice names epoch %u after epoch %u", epoch,
                        d->epoch);
    DBE_TRY(advance(s->suite, s->secrets->recv, false, &fresh));
    sess_keys_free(s->suite, &d->prev);
    if (s->config.datagram)
        d->prev = d->keys; /* what was overtaken may still arrive */
    else
        sess_keys_free(s->suite, &d->keys);
    d->keys = fresh;
    d->epoch = epoch;
    base_wipe(&fresh, sizeof fresh);
    return DBE_OK;
}
