/* SPDX-License-Identifier: Apache-2.0
 *
 * sealed_ends.c - sealing a request to a worker's card, and opening it with the worker's key, once.
 */
#include <string.h>

#include "e2e/sealed_priv.h"

struct e2e_key {
    const struct crypto_suite *suite;
    struct crypto_kem_key *kem;
    struct crypto_ecdh_key *ecdh;
    uint8_t id[E2E_KEY_ID_BYTES], digest[CRYPTO_HASH_BYTES];
    uint64_t not_before_ms, not_after_ms;
    struct base_buf card;
    struct e2e_seen seen;
};

static const uint8_t zero_iv[CRYPTO_AEAD_IV_BYTES]; /* each key seals one request */

/* ---- the worker's key ------------------------------------------------------------------------------------------- */

void e2e_key_free(struct e2e_key *key)
{
    if (key == NULL)
        return;
    if (key->kem != NULL)
        key->suite->kem->key_free(key->kem);
    if (key->ecdh != NULL)
        key->suite->ecdh->key_free(key->ecdh);
    base_buf_free(&key->card);
    base_free(key);
}

static dbe_err make_key(struct e2e_key *key, const struct dbe_credential *worker)
{
    struct e2e_card card = {.not_before_ms = key->not_before_ms, .not_after_ms = key->not_after_ms};

    DBE_TRY(key->suite->kem->keygen(&key->kem, card.ek));
    DBE_TRY(key->suite->ecdh->keygen(&key->ecdh, card.pub));
    DBE_TRY(e2e_card_make(worker, &card, &key->card));
    memcpy(key->id, key->card.data + 8, sizeof key->id);
    return crypto_sha3_512(key->card.data, E2E_CARD_BODY_BYTES, key->digest);
}

dbe_err e2e_key_new(const struct dbe_credential *worker, uint64_t now_ms, uint64_t life_ms, struct e2e_key **ret)
{
    if (life_ms == 0 || life_ms > E2E_CARD_LIFE_MAX_MS)
        return DBE_E_ARGUMENT;
    struct e2e_key *key = base_alloc(1, sizeof *key);
    if (key == NULL)
        return DBE_E_NOMEM;
    key->suite = crypto_suite(CRYPTO_SUITE_1);
    key->not_before_ms = now_ms;
    key->not_after_ms = now_ms + life_ms;
    base_buf_init(&key->card, E2E_CARD_MAX_BYTES);
    dbe_err err = make_key(key, worker);
    if (err != DBE_OK)
        e2e_key_free(key);
    else
        *ret = key;
    return err;
}

void e2e_key_card(const struct e2e_key *key, const uint8_t **ret, size_t *ret_len)
{
    *ret = key->card.data;
    *ret_len = key->card.len;
}

bool e2e_key_is(const struct e2e_key *key, const void *sealed, size_t len)
{
    struct e2e_head head;

    return e2e_head_read(sealed, len, &head) == DBE_OK && memcmp(head.key_id, key->id, sizeof key->id) == 0;
}

bool e2e_key_expired(const struct e2e_key *key, uint64_t now_ms)
{
    return now_ms >= key->not_after_ms;
}

/* ---- once ------------------------------------------------------------------------------------------------------- */

dbe_err e2e_seen_add(struct e2e_seen *seen, const uint8_t id[16], uint64_t until_ms, uint64_t now_ms)
{
    size_t room = E2E_SEEN_MAX;

    if (until_ms <= seen->floor_ms)
        return DBE_E_EXPIRED;
    for (size_t n = 0; n < E2E_SEEN_MAX; n++) {
        const size_t i = (seen->hint + n) % E2E_SEEN_MAX;
        struct e2e_seen_row *row = &seen->rows[i];
        if (row->until_ms > now_ms && memcmp(row->id, id, sizeof row->id) == 0)
            return DBE_E_REPLAY;
        if (room == E2E_SEEN_MAX && row->until_ms <= now_ms)
            room = i;
    }
    if (room == E2E_SEEN_MAX)
        return DBE_E_LIMIT;
    seen->floor_ms = BASE_MAX(seen->floor_ms, seen->rows[room].until_ms);
    memcpy(seen->rows[room].id, id, sizeof seen->rows[room].id);
    seen->rows[room].until_ms = until_ms;
    seen->hint = (room + 1) % E2E_SEEN_MAX;
    return DBE_OK;
}

static bool in_window(uint64_t time_ms, uint64_t now_ms)
{
    return time_ms <= now_ms ? now_ms - time_ms < E2E_WINDOW_MS : time_ms - now_ms < E2E_WINDOW_MS;
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static dbe_err keys_of(const struct e2e_key *key, const struct e2e_head *head, const uint8_t *bytes,
                       uint8_t ret[E2E_KEYS_BYTES], uint8_t ret_id[16])
{
    uint8_t kem_ss[CRYPTO_KEM_SS_BYTES], ecdh_ss[CRYPTO_P384_SS_BYTES];

    dbe_err err = key->suite->kem->decaps(key->kem, head->ct, kem_ss);
    if (err == DBE_OK)
        err = key->suite->ecdh->derive(key->ecdh, head->pub, ecdh_ss);
    if (err == DBE_OK)
        err = e2e_derive(kem_ss, ecdh_ss, key->digest, bytes, ret, ret_id);
    base_wipe(kem_ss, sizeof kem_ss);
    base_wipe(ecdh_ss, sizeof ecdh_ss);
    return err;
}

/* AAD: the head as it stands, then the labels. */
static dbe_err aad_of(const uint8_t *head, const struct e2e_labels *labels, struct base_buf *ret)
{
    base_buf_bytes(ret, head, E2E_SEALED_HEAD_BYTES);
    return e2e_labels_put(labels, ret);
}

static dbe_err decrypt(const struct e2e_key *key, const uint8_t *aead_key, const struct e2e_labels *labels,
                       const uint8_t *sealed, size_t len, struct base_buf *out)
{
    const struct crypto_aead *aead = key->suite->aead;
    struct crypto_aead_ctx *ctx = NULL;
    const size_t before = out->len;
    uint8_t mem[E2E_SEALED_HEAD_BYTES + 256], *room = base_buf_grow(out, len - E2E_SEALED_HEAD_BYTES);
    struct base_buf aad;

    if (room == NULL)
        return out->err;
    base_buf_init_fixed(&aad, mem, sizeof mem);
    dbe_err err = aad_of(sealed, labels, &aad);
    if (err == DBE_OK)
        err = aead->new_ctx(aead_key, false, &ctx);
    if (err == DBE_OK)
        err = aead->open(ctx, zero_iv, aad.data, aad.len, sealed + E2E_SEALED_HEAD_BYTES, len - E2E_SEALED_HEAD_BYTES,
                         room);
    aead->free_ctx(ctx);
    out->len = err == DBE_OK ? before + len - E2E_SEALED_OVERHEAD_BYTES : before;
    return err;
}

/* What opened is taken back: the caller may not see it. */
static void take_back(struct base_buf *out, size_t before)
{
    base_wipe(out->data + before, out->len - before);
    out->len = before;
}

dbe_err e2e_open_request(struct e2e_key *key, const struct e2e_labels *labels, const void *sealed, size_t len,
                         uint64_t now_ms, struct base_buf *out, struct e2e_talk **ret)
{
    uint8_t keys[E2E_KEYS_BYTES], id[16];
    const size_t before = out->len;
    struct e2e_talk *talk = NULL;
    struct e2e_head head;

    DBE_TRY(e2e_head_read(sealed, len, &head));
    if (memcmp(head.key_id, key->id, sizeof key->id) != 0)
        return DBE_E_AUTH;
    if (e2e_key_expired(key, now_ms) || !in_window(head.time_ms, now_ms))
        return DBE_E_EXPIRED;
    dbe_err err = keys_of(key, &head, sealed, keys, id);
    if (err == DBE_E_MALFORMED)
        err = DBE_E_AUTH; /* a point that is none */
    if (err == DBE_OK)
        err = decrypt(key, keys, labels, sealed, len, out);
    if (err == DBE_OK) { /* only what is genuine takes room among what was seen */
        err = e2e_talk_new(keys + CRYPTO_AEAD_KEY_BYTES, true, &talk);
        if (err == DBE_OK)
            err = e2e_seen_add(&key->seen, id, head.time_ms + E2E_WINDOW_MS, now_ms);
        if (err != DBE_OK)
            take_back(out, before);
    }
    base_wipe(keys, sizeof keys);
    if (err != DBE_OK)
        e2e_talk_free(talk);
    else
        *ret = talk;
    return err;
}

/* ---- sealing ---------------------------------------------------------------------------------------------------- */

static dbe_err encapsulate(const struct crypto_suite *s, const struct e2e_card *card, uint8_t *head,
                           uint8_t ret[E2E_KEYS_BYTES])
{
    uint8_t kem_ss[CRYPTO_KEM_SS_BYTES], ecdh_ss[CRYPTO_P384_SS_BYTES], id[16];
    struct crypto_ecdh_key *own = NULL;

    DBE_TRY(s->ecdh->keygen(&own, head + 24 + CRYPTO_MLKEM1024_CT_BYTES));
    dbe_err err = s->kem->encaps(card->ek, head + 24, kem_ss);
    if (err == DBE_OK)
        err = s->ecdh->derive(own, card->pub, ecdh_ss);
    if (err == DBE_OK)
        err = e2e_derive(kem_ss, ecdh_ss, card->digest, head, ret, id);
    s->ecdh->key_free(own);
    base_wipe(kem_ss, sizeof kem_ss);
    base_wipe(ecdh_ss, sizeof ecdh_ss);
    return err;
}

static dbe_err encrypt(const struct crypto_suite *s, const uint8_t *aead_key, const struct e2e_labels *labels,
                       uint8_t *head, const void *plain, size_t len)
{
    struct crypto_aead_ctx *ctx = NULL;
    uint8_t mem[E2E_SEALED_HEAD_BYTES + 256];
    struct base_buf aad;

    base_buf_init_fixed(&aad, mem, sizeof mem);
    DBE_TRY(aad_of(head, labels, &aad));
    DBE_TRY(s->aead->new_ctx(aead_key, true, &ctx));
    dbe_err err = s->aead->seal(ctx, zero_iv, aad.data, aad.len, plain, len, head + E2E_SEALED_HEAD_BYTES);
    s->aead->free_ctx(ctx);
    return err;
}

dbe_err e2e_seal_request(const struct e2e_card *card, const struct e2e_labels *labels, const void *plain, size_t len,
                         uint64_t now_ms, struct base_buf *out, struct e2e_talk **ret)
{
    const struct crypto_suite *s = crypto_suite(CRYPTO_SUITE_1);
    uint8_t keys[E2E_KEYS_BYTES];
    const size_t before = out->len;

    if (labels->device != card->worker.device)
        return DBE_E_ARGUMENT;
    uint8_t *head = base_buf_grow(out, E2E_SEALED_OVERHEAD_BYTES + len);
    if (head == NULL)
        return out->err;
    memcpy(head, "DSLR", 4);
    head[4] = E2E_SEALED_VERSION;
    head[5] = card->worker.device;
    base_put_u16(head + 6, CRYPTO_SUITE_1);
    memcpy(head + 8, card->id, sizeof card->id);
    base_put_u64(head + 16, now_ms);
    dbe_err err = encapsulate(s, card, head, keys);
    if (err == DBE_OK)
        err = encrypt(s, keys, labels, head, plain, len);
    if (err == DBE_OK)
        err = e2e_talk_new(keys + CRYPTO_AEAD_KEY_BYTES, false, ret);
    base_wipe(keys, sizeof keys);
    if (err != DBE_OK)
        take_back(out, before);
    return err;
}
