/* SPDX-License-Identifier: Apache-2.0
 *
 * sealed.c - what both ends of a sealed prompt do alike: the head, the labels' one form, the keys; and the answer,
 * piece by piece.
 *
 * Form of what is sealed, network byte order:
 *   0  4  magic "DSLR"      6  2  suite, 1       24   1568  ML-KEM-1024 ciphertext
 *   4  1  version 1         8  8  key id       1592     97  P-384 point
 *   5  1  device           16  8  time, ms     1689         AES-256-GCM, tag last; the head and the labels are its AAD
 * A piece of the answer: 1 if it is the last, else 0 (u8), then AES-256-GCM.
 */
#include <string.h>

#include "e2e/sealed_priv.h"

#define SEALED_MAGIC 0x44534C52u /* "DSLR" */
#define SEALED_SALT "DSMIL sealed prompt v1"
#define LABELS_DOMAIN "DSMIL sealed labels v1"

/* ---- head and labels -------------------------------------------------------------------------------------------- */

dbe_err e2e_head_read(const void *sealed, size_t len, struct e2e_head *ret)
{
    struct base_cur c = base_cur_of(sealed, len);
    struct e2e_head h = {0};

    if (len < E2E_SEALED_OVERHEAD_BYTES || base_cur_u32(&c) != SEALED_MAGIC)
        return DBE_E_MALFORMED;
    const bool known = base_cur_u8(&c) == E2E_SEALED_VERSION;
    h.device = base_cur_u8(&c);
    if (!known || base_cur_u16(&c) != CRYPTO_SUITE_1)
        return DBE_E_UNSUPPORTED;
    base_cur_copy(&c, h.key_id, sizeof h.key_id);
    h.time_ms = base_cur_u64(&c);
    h.ct = base_cur_bytes(&c, CRYPTO_MLKEM1024_CT_BYTES);
    h.pub = base_cur_bytes(&c, CRYPTO_P384_PUB_BYTES);
    *ret = h;
    return DBE_OK;
}

dbe_err e2e_labels_put(const struct e2e_labels *l, struct base_buf *out)
{
    const size_t tenant = strnlen(l->tenant, DBE_TENANT_MAX_BYTES + 1);
    const size_t profile = strnlen(l->profile, E2E_PROFILE_MAX + 1);

    if (tenant == 0 || tenant > DBE_TENANT_MAX_BYTES || profile > E2E_PROFILE_MAX)
        return DBE_E_ARGUMENT;
    base_buf_bytes(out, LABELS_DOMAIN, sizeof LABELS_DOMAIN);
    base_buf_u8(out, l->type);
    base_buf_u8(out, l->device);
    base_buf_u8(out, l->classification);
    base_buf_u8(out, l->roe_level);
    base_buf_u32(out, l->compartments);
    base_buf_bytes(out, l->request_id, sizeof l->request_id);
    base_buf_name(out, l->tenant);
    base_buf_name(out, l->profile);
    return out->err;
}

/* ---- keys ------------------------------------------------------------------------------------------------------- */

/* Both secrets go in, so that it takes both algorithms to break it; the card and the head go in, so that keys belong to
 * this worker's card and to this encapsulation. */
dbe_err e2e_derive(const uint8_t kem_ss[CRYPTO_KEM_SS_BYTES], const uint8_t ecdh_ss[CRYPTO_P384_SS_BYTES],
                   const uint8_t card_digest[CRYPTO_HASH_BYTES], const uint8_t *head, uint8_t ret[E2E_KEYS_BYTES],
                   uint8_t ret_id[16])
{
    uint8_t ikm[CRYPTO_KEM_SS_BYTES + CRYPTO_P384_SS_BYTES], prk[CRYPTO_HASH_BYTES], transcript[CRYPTO_HASH_BYTES];
    struct crypto_hash *h = NULL;

    DBE_TRY(crypto_hash_new(&h));
    dbe_err err = crypto_hash_update(h, card_digest, CRYPTO_HASH_BYTES);
    if (err == DBE_OK)
        err = crypto_hash_update(h, head, E2E_SEALED_HEAD_BYTES);
    if (err == DBE_OK)
        err = crypto_hash_peek(h, transcript);
    crypto_hash_free(h);
    memcpy(ikm, kem_ss, CRYPTO_KEM_SS_BYTES);
    memcpy(ikm + CRYPTO_KEM_SS_BYTES, ecdh_ss, CRYPTO_P384_SS_BYTES);
    if (err == DBE_OK)
        err = crypto_hkdf_extract(SEALED_SALT, sizeof SEALED_SALT - 1, ikm, sizeof ikm, prk);
    if (err == DBE_OK)
        err = crypto_hkdf_expand(prk, transcript, sizeof transcript, ret, E2E_KEYS_BYTES);
    if (err == DBE_OK)
        memcpy(ret_id, transcript, 16);
    base_wipe(ikm, sizeof ikm);
    base_wipe(prk, sizeof prk);
    return err;
}

/* ---- the answer ------------------------------------------------------------------------------------------------- */

struct e2e_talk {
    const struct crypto_aead *aead;
    struct crypto_aead_ctx *ctx;
    uint64_t next; /* number of the piece */
    bool ended;
};

dbe_err e2e_talk_new(const uint8_t key[CRYPTO_AEAD_KEY_BYTES], bool seals, struct e2e_talk **ret)
{
    struct e2e_talk *t = base_alloc(1, sizeof *t);

    if (t == NULL)
        return DBE_E_NOMEM;
    t->aead = crypto_suite(CRYPTO_SUITE_1)->aead;
    dbe_err err = t->aead->new_ctx(key, seals, &t->ctx);
    if (err != DBE_OK) {
        base_free(t);
        return err;
    }
    *ret = t;
    return DBE_OK;
}

void e2e_talk_free(struct e2e_talk *talk)
{
    if (talk == NULL)
        return;
    talk->aead->free_ctx(talk->ctx);
    base_free(talk);
}

/* The number is never sent: each end counts, so that a piece which is missing, doubled or moved does not open. */
static void piece_iv(const struct e2e_talk *talk, uint8_t iv[CRYPTO_AEAD_IV_BYTES])
{
    memset(iv, 0, CRYPTO_AEAD_IV_BYTES);
    base_put_u64(iv + CRYPTO_AEAD_IV_BYTES - 8, talk->next);
}

dbe_err e2e_seal_piece(struct e2e_talk *talk, const void *plain, size_t len, bool last, struct base_buf *out)
{
    uint8_t iv[CRYPTO_AEAD_IV_BYTES];
    const size_t before = out->len;

    if (talk->ended)
        return DBE_E_STATE;
    uint8_t *room = base_buf_grow(out, len + E2E_PIECE_OVERHEAD_BYTES);
    if (room == NULL)
        return out->err;
    room[0] = last;
    piece_iv(talk, iv);
    dbe_err err = talk->aead->seal(talk->ctx, iv, room, 1, plain, len, room + 1);
    if (err != DBE_OK) {
        out->len = before;
        return err;
    }
    talk->next++;
    talk->ended = last;
    return DBE_OK;
}

dbe_err e2e_open_piece(struct e2e_talk *talk, const void *piece, size_t len, struct base_buf *out, bool *ret_last)
{
    const uint8_t *p = piece;
    uint8_t iv[CRYPTO_AEAD_IV_BYTES];
    const size_t before = out->len;

    if (talk->ended)
        return DBE_E_STATE;
    if (len < E2E_PIECE_OVERHEAD_BYTES || p[0] > 1)
        return DBE_E_MALFORMED;
    uint8_t *room = base_buf_grow(out, len - E2E_PIECE_OVERHEAD_BYTES);
    if (room == NULL && out->err != DBE_OK)
        return out->err;
    piece_iv(talk, iv);
    dbe_err err = talk->aead->open(talk->ctx, iv, p, 1, p + 1, len - 1, room != NULL ? room : iv);
    if (err != DBE_OK) {
        out->len = before;
        return err;
    }
    talk->next++;
    talk->ended = p[0] == 1;
    *ret_last = talk->ended;
    return DBE_OK;
}
