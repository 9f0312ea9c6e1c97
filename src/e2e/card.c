/* SPDX-License-Identifier: Apache-2.0
 *
 * card.c - cards: the public half of the key that prompts are sealed to, signed by its worker.
 *
 * Form, network byte order:
 *   0  4  magic "DKEM"      8  8  key id: SHA3-512 of the two public values, shortened     32    1568  ML-KEM-1024 key
 *   4  1  version 1        16  8  not before, ms                                           1600    97  P-384 point
 *   5  1  device           24  8  not after, ms
 *   6  2  suite, 1
 * then 4627 bytes ML-DSA-87 over all that precedes, context string "DSMIL sealed card v1", then the worker's
 * certificate: length (u16), DER.
 */
#include <string.h>

#include "e2e/sealed_priv.h"

#define CARD_MAGIC 0x444B454Du /* "DKEM" */
#define CARD_CONTEXT "DSMIL sealed card v1"

static dbe_err key_id(const uint8_t *publics, uint8_t ret[E2E_KEY_ID_BYTES])
{
    uint8_t digest[CRYPTO_HASH_BYTES];

    DBE_TRY(crypto_sha3_512(publics, CRYPTO_MLKEM1024_EK_BYTES + CRYPTO_P384_PUB_BYTES, digest));
    memcpy(ret, digest, E2E_KEY_ID_BYTES);
    return DBE_OK;
}

dbe_err e2e_card_make(const struct dbe_credential *worker, const struct e2e_card *card, struct base_buf *out)
{
    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES], id[E2E_KEY_ID_BYTES];
    const uint8_t *cert;
    size_t cert_len;

    base_buf_u32(out, CARD_MAGIC);
    base_buf_u8(out, E2E_SEALED_VERSION);
    base_buf_u8(out, dbe_credential_identity(worker)->device);
    base_buf_u16(out, CRYPTO_SUITE_1);
    uint8_t *id_at = base_buf_grow(out, E2E_KEY_ID_BYTES);
    if (id_at == NULL)
        return out->err;
    base_buf_u64(out, card->not_before_ms);
    base_buf_u64(out, card->not_after_ms);
    base_buf_bytes(out, card->ek, sizeof card->ek);
    base_buf_bytes(out, card->pub, sizeof card->pub);
    DBE_TRY(out->err);
    DBE_TRY(key_id(out->data + 32, id));
    memcpy(out->data + 8, id, sizeof id);
    DBE_TRY(dbe_credential_sign(worker, CARD_CONTEXT, out->data, E2E_CARD_BODY_BYTES, sig));
    dbe_credential_cert(worker, &cert, &cert_len);
    base_buf_bytes(out, sig, sizeof sig);
    base_buf_u16(out, (uint16_t)cert_len);
    base_buf_bytes(out, cert, cert_len);
    return out->err;
}

/* ---- reading and verifying -------------------------------------------------------------------------------------- */

dbe_err e2e_card_read(const void *bytes, size_t len, struct e2e_card_parts *ret, struct dbe_diag *diag)
{
    struct base_cur c = base_cur_of(bytes, len);
    struct e2e_card_parts p = {0};
    uint8_t id[E2E_KEY_ID_BYTES];

    if (base_cur_u32(&c) != CARD_MAGIC)
        return dbe_fail(diag, DBE_E_MALFORMED, "magic", 0, "this is no card of a worker's key");
    const bool known = base_cur_u8(&c) == E2E_SEALED_VERSION;
    p.device = base_cur_u8(&c);
    if (!known || base_cur_u16(&c) != CRYPTO_SUITE_1)
        return dbe_fail(diag, DBE_E_UNSUPPORTED, "version", 4, "a card of another version or suite");
    base_cur_copy(&c, p.card.id, sizeof p.card.id);
    p.card.not_before_ms = base_cur_u64(&c);
    p.card.not_after_ms = base_cur_u64(&c);
    base_cur_copy(&c, p.card.ek, sizeof p.card.ek);
    base_cur_copy(&c, p.card.pub, sizeof p.card.pub);
    p.signature = base_cur_bytes(&c, CRYPTO_MLDSA87_SIG_BYTES);
    p.certificate_len = base_cur_u16(&c);
    p.certificate = base_cur_bytes(&c, p.certificate_len);
    if (base_cur_end(&c) != DBE_OK || p.certificate_len == 0 || p.certificate_len > DBE_CERT_MAX_BYTES)
        return dbe_fail(diag, DBE_E_MALFORMED, "length", base_cur_offset(&c), "the card's lengths do not fit");
    if (p.card.not_after_ms <= p.card.not_before_ms ||
        p.card.not_after_ms - p.card.not_before_ms > E2E_CARD_LIFE_MAX_MS)
        return dbe_fail(diag, DBE_E_RANGE, "window", 16, "the card's key lives not at all, or longer than a day");
    DBE_TRY(key_id((const uint8_t *)bytes + 32, id));
    if (memcmp(id, p.card.id, sizeof id) != 0)
        return dbe_fail(diag, DBE_E_MALFORMED, "key id", 8, "the card's key id is not its key's");
    *ret = p;
    return DBE_OK;
}

static dbe_err check_signature(const uint8_t *bytes, const struct e2e_card_parts *p, const uint8_t *pk,
                               struct dbe_diag *diag)
{
    struct crypto_key *key = NULL;

    DBE_TRY(crypto_key_from_public(pk, &key));
    dbe_err err = crypto_verify(key, CARD_CONTEXT, bytes, E2E_CARD_BODY_BYTES, p->signature, CRYPTO_MLDSA87_SIG_BYTES);
    crypto_key_free(key);
    return err == DBE_E_AUTH ? dbe_fail(diag, err, "signature", 0, "the worker did not sign this card") : err;
}

dbe_err e2e_card_verify(const void *bytes, size_t len, const struct dbe_trust *trust, uint64_t now_ms,
                        struct e2e_card *ret, struct dbe_diag *diag)
{
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    struct e2e_card_parts p;

    DBE_TRY(e2e_card_read(bytes, len, &p, diag));
    DBE_TRY(dbe_trust_verify(trust, p.certificate, p.certificate_len, now_ms, &p.card.worker, pk, diag));
    DBE_TRY(check_signature(bytes, &p, pk, diag));
    if (p.card.worker.role != DBE_ROLE_WORKER)
        return dbe_fail(diag, DBE_E_CERT, "role", 0, "%.120s is no worker", p.card.worker.spiffe_id);
    if (p.card.worker.device != p.device)
        return dbe_fail(diag, DBE_E_CERT, "device", 5, "the card names another device than its certificate");
    if (now_ms >= p.card.not_after_ms || now_ms + E2E_WINDOW_MS < p.card.not_before_ms)
        return dbe_fail(diag, DBE_E_EXPIRED, "window", 16, "the card's key is over, or not good yet");
    DBE_TRY(crypto_sha3_512(bytes, E2E_CARD_BODY_BYTES, p.card.digest));
    *ret = p.card;
    return DBE_OK;
}
