/* SPDX-License-Identifier: Apache-2.0
 *
 * key_schedule.c - every key of a channel, by HKDF-SHA3-512 (RFC 5869) from the two shared secrets and the transcript.
 *
 *   prk    = extract(salt = transcript up to the clear part of message 2, ikm = ECDH secret || ML-KEM secret)
 *   hs     = expand(prk, "DSMIL-DBE hs ..."), k_mac = expand(prk, "DSMIL-DBE confirm ...")
 *   master = expand(prk, "DSMIL-DBE master", whole transcript)
 *   send, recv, K_log, binding = expand(master, ...); key, iv = expand(secret of the epoch, ...)
 *   secret of the next epoch = expand(secret, "DSMIL-DBE rekey"), the old one wiped
 *
 * Both lengths in ikm are fixed by the suite, which is in the transcript. info = label || 0x00 || context.
 */
#include "session/session_priv.h"

#include <string.h>

enum { LABEL_MAX_BYTES = 48 };

static dbe_err derive(const uint8_t prk[SESS_SECRET_BYTES], const char *label, const uint8_t *context,
                      size_t context_len, void *out, size_t out_len)
{
    uint8_t info[LABEL_MAX_BYTES + CRYPTO_HASH_BYTES];
    size_t label_len = strlen(label) + 1; /* with its NUL: no label is the beginning of another */

    BASE_INVARIANT(label_len <= LABEL_MAX_BYTES && context_len <= CRYPTO_HASH_BYTES);
    memcpy(info, label, label_len);
    if (context_len > 0)
        memcpy(info + label_len, context, context_len);
    return crypto_hkdf_expand(prk, info, label_len + context_len, out, out_len);
}

dbe_err sess_ks_handshake(struct sess *s)
{
    static const char *const key_label[2] = {"DSMIL-DBE hs key i2r", "DSMIL-DBE hs key r2i"};
    static const char *const iv_label[2] = {"DSMIL-DBE hs iv i2r", "DSMIL-DBE hs iv r2i"};
    static const char *const mac_label[2] = {"DSMIL-DBE confirm initiator", "DSMIL-DBE confirm responder"};
    struct sess_hs_secrets *k = s->hs->secrets;
    uint8_t th[CRYPTO_HASH_BYTES];

    DBE_TRY(crypto_hash_peek(s->hs->transcript, th));
    DBE_TRY(crypto_hkdf_extract(th, sizeof th, k->ikm, s->suite->ecdh->ss_bytes + s->suite->kem->ss_bytes, k->prk));
    base_wipe(k->ikm, sizeof k->ikm);
    for (size_t role = 0; role < 2; role++) {
        DBE_TRY(derive(k->prk, key_label[role], NULL, 0, k->key[role], sizeof k->key[role]));
        DBE_TRY(derive(k->prk, iv_label[role], NULL, 0, k->iv[role], sizeof k->iv[role]));
        DBE_TRY(derive(k->prk, mac_label[role], NULL, 0, k->k_mac[role], sizeof k->k_mac[role]));
    }
    return DBE_OK;
}

dbe_err sess_ks_application(struct sess *s)
{
    static const char *const label[2] = {"DSMIL-DBE app i2r", "DSMIL-DBE app r2i"};
    struct sess_hs_secrets *hs = s->hs->secrets;
    struct sess_secrets *k = s->secrets;
    size_t own = s->config.role == SESS_INITIATOR ? 0 : 1;
    uint8_t th[CRYPTO_HASH_BYTES];

    DBE_TRY(crypto_hash_peek(s->hs->transcript, th));
    DBE_TRY(derive(hs->prk, "DSMIL-DBE master", th, sizeof th, hs->master, sizeof hs->master));
    DBE_TRY(derive(hs->master, label[own], NULL, 0, k->send, sizeof k->send));
    DBE_TRY(derive(hs->master, label[1 - own], NULL, 0, k->recv, sizeof k->recv));
    DBE_TRY(derive(hs->master, "DSMIL-DBE log", NULL, 0, k->k_log, sizeof k->k_log));
    DBE_TRY(derive(hs->master, "DSMIL-DBE channel binding", NULL, 0, k->binding, sizeof k->binding));
    DBE_TRY(sess_ks_keys(s->suite, k->send, true, &s->send.keys));
    DBE_TRY(sess_ks_keys(s->suite, k->recv, false, &s->recv.keys));
    s->send.epoch = s->recv.epoch = SESS_FIRST_EPOCH;
    s->recv.replay.window = s->config.datagram;
    return DBE_OK;
}

dbe_err sess_ks_next(const uint8_t secret[SESS_SECRET_BYTES], uint8_t next[SESS_SECRET_BYTES])
{
    return derive(secret, "DSMIL-DBE rekey", NULL, 0, next, SESS_SECRET_BYTES);
}

dbe_err sess_ks_keys(const struct crypto_suite *suite, const uint8_t secret[SESS_SECRET_BYTES], bool seal,
                     struct sess_keys *ret)
{
    uint8_t key[CRYPTO_AEAD_KEY_BYTES];
    struct sess_keys made = {.suite = suite};
    dbe_err err;

    err = derive(secret, "DSMIL-DBE key", NULL, 0, key, sizeof key);
    if (err == DBE_OK)
        err = derive(secret, "DSMIL-DBE iv", NULL, 0, made.iv, sizeof made.iv);
    if (err == DBE_OK)
        err = suite->aead->new_ctx(key, seal, &made.aead);
    if (err == DBE_OK)
        *ret = made;
    base_wipe(key, sizeof key);
    base_wipe(&made, sizeof made);
    return err;
}

void sess_keys_free(struct sess_keys *keys)
{
    if (keys->aead != NULL)
        keys->suite->aead->free_ctx(keys->aead);
    base_wipe(keys, sizeof *keys);
}
