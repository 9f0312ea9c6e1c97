/* SPDX-License-Identifier: Apache-2.0
 *
 * claim.c - claim tokens: encode and sign, decode and verify (docs/spec/dbe-v1.md, section 10).
 *
 * In:   what a claim says and who signs it; the bytes of a token and whose signature it must bear
 * Out:  the token; the claim it carries, once nothing about it is in doubt
 * Not:  no clock (now_ms comes in), no cache (claim_cache.c), no decision (decide.c).
 *
 * Form, network byte order; there is one encoding of each claim:
 *   0   4  magic "DCLM"          8   4  compartments          60  1  tenant length t (1 to 64), then t bytes
 *   4   1  version 1            12   8  not before, ms        61+t  1  client length c (1 to 64), then c bytes
 *   5   1  flags, bit 0 exercise 20   8  not after, ms         then 4627 bytes ML-DSA-87 over all that precedes,
 *   6   1  ROE levels           28  32  channel binding            context string "DSMIL-DBE claim v1"
 *   7   1  classification max
 */
#include "policy/policy.h"

#include <string.h>

#include "policy/internal.h"

#define CLAIM_MAGIC 0x44434C4Du /* "DCLM" */
#define CLAIM_CONTEXT "DSMIL-DBE claim v1"

enum { CLAIM_FLAG_EXERCISE = 1, CLAIM_BINDING_BYTES = 32 };

/* ---- form: what may stand in a claim, the same for both directions --------------------------- */

static bool name_ok(const char *text, size_t max)
{
    size_t len = strnlen(text, max + 1);

    return len > 0 && len <= max && base_utf8_valid(text, len);
}

/* Why this claim cannot stand, NULL if it can. */
static const char *claim_fault(const struct pol_claim *c)
{
    if (!name_ok(c->tenant, DBE_TENANT_MAX_BYTES))
        return "tenant is empty, too long or not UTF-8";
    if (!name_ok(c->client, POL_CLAIM_NAME_MAX))
        return "client is empty, too long or not UTF-8";
    if (c->roe_levels == 0 || (c->roe_levels & ~POL_ROE_ALL) != 0)
        return "ROE levels are none or unknown";
    if (c->classification_max > DBE_CLSF_EXEC)
        return "classification ceiling is unknown";
    if ((c->compartments & DBE_COMPARTMENT_KINETIC) != 0 || (c->compartments & ~(uint32_t)DBE_COMPARTMENT_ALL) != 0)
        return "compartments name KINETIC or an unknown bit";
    if (c->not_before_ms >= c->not_after_ms)
        return "the window is empty";
    if (c->not_after_ms - c->not_before_ms > POL_CLAIM_LIFETIME_MAX_MS)
        return "the window is longer than an hour";
    return NULL;
}

static void encode_body(const struct pol_claim *c, struct base_buf *b)
{
    base_buf_u32(b, CLAIM_MAGIC);
    base_buf_u8(b, POL_CLAIM_VERSION);
    base_buf_u8(b, c->exercise ? CLAIM_FLAG_EXERCISE : 0);
    base_buf_u8(b, c->roe_levels);
    base_buf_u8(b, c->classification_max);
    base_buf_u32(b, c->compartments);
    base_buf_u64(b, c->not_before_ms);
    base_buf_u64(b, c->not_after_ms);
    base_buf_bytes(b, c->channel_binding, sizeof c->channel_binding);
    base_buf_name(b, c->tenant);
    base_buf_name(b, c->client);
}

dbe_err pol_claim_issue(const struct pol_claim *claim, const struct dbe_credential *issuer, uint8_t *out, size_t cap,
                        size_t *ret_len)
{
    uint8_t body[POL_CLAIM_BODY_MAX], sig[CRYPTO_MLDSA87_SIG_BYTES];
    struct base_buf b;

    if (claim_fault(claim) != NULL)
        return DBE_E_ARGUMENT;
    base_buf_init_fixed(&b, body, sizeof body);
    encode_body(claim, &b);
    DBE_TRY(b.err);
    if (cap < b.len + sizeof sig)
        return DBE_E_TOO_LARGE;
    DBE_TRY(dbe_credential_sign(issuer, CLAIM_CONTEXT, body, b.len, sig));
    memcpy(out, body, b.len);
    memcpy(out + b.len, sig, sizeof sig);
    *ret_len = b.len + sizeof sig;
    return DBE_OK;
}

/* ---- decode ---------------------------------------------------------------------------------- */

static dbe_err decode_body(const uint8_t *body, size_t len, struct pol_claim *ret, struct dbe_diag *diag)
{
    struct base_cur c = base_cur_of(body, len);
    struct pol_claim claim = {0};

    if (base_cur_u32(&c) != CLAIM_MAGIC || base_cur_u8(&c) != POL_CLAIM_VERSION)
        return dbe_fail(diag, DBE_E_CLAIM_INVALID, "section 10", 0, "not a claim token of version %d",
                        POL_CLAIM_VERSION);
    uint8_t flags = base_cur_u8(&c);
    if ((flags & ~CLAIM_FLAG_EXERCISE) != 0)
        return dbe_fail(diag, DBE_E_CLAIM_INVALID, "section 10", 5, "the claim token has unknown flags 0x%02x", flags);
    claim.exercise = (flags & CLAIM_FLAG_EXERCISE) != 0;
    claim.roe_levels = base_cur_u8(&c);
    claim.classification_max = base_cur_u8(&c);
    claim.compartments = base_cur_u32(&c);
    claim.not_before_ms = base_cur_u64(&c);
    claim.not_after_ms = base_cur_u64(&c);
    base_cur_copy(&c, claim.channel_binding, sizeof claim.channel_binding);
    bool names =
        base_cur_name(&c, claim.tenant, DBE_TENANT_MAX_BYTES) && base_cur_name(&c, claim.client, POL_CLAIM_NAME_MAX);
    if (!names || base_cur_end(&c) != DBE_OK)
        return dbe_fail(diag, DBE_E_CLAIM_INVALID, "section 10", base_cur_offset(&c),
                        "the claim token's lengths do not fit its bytes");
    const char *fault = claim_fault(&claim);
    if (fault != NULL)
        return dbe_fail(diag, DBE_E_CLAIM_INVALID, "section 10", 0, "the claim token cannot stand: %s", fault);
    *ret = claim;
    return DBE_OK;
}

dbe_err pol_claim_window(const struct pol_claim *claim, uint64_t now_ms, struct dbe_diag *diag)
{
    if (now_ms < claim->not_before_ms)
        return dbe_fail(diag, DBE_E_CLAIM_EXPIRED, "not_before", 0, "the claim token is not valid yet");
    if (now_ms >= claim->not_after_ms)
        return dbe_fail(diag, DBE_E_CLAIM_EXPIRED, "not_after", 0, "the claim token has expired");
    return DBE_OK;
}

/* Cheap checks first: a forged token costs a signature check only if it is well formed and names this very
 * channel. The window comes last, so that "expired" is said of genuine tokens alone. */
dbe_err pol_claim_verify(const uint8_t *token, size_t len, const struct crypto_key *issuer, const uint8_t binding[32],
                         uint64_t now_ms, struct pol_claim *ret, struct dbe_diag *diag)
{
    struct pol_claim claim;

    if (len <= CRYPTO_MLDSA87_SIG_BYTES || len > POL_CLAIM_TOKEN_MAX)
        return dbe_fail(diag, DBE_E_CLAIM_INVALID, "section 10", 0, "a claim token does not have %zu bytes", len);
    size_t body_len = len - CRYPTO_MLDSA87_SIG_BYTES;
    DBE_TRY(decode_body(token, body_len, &claim, diag));
    if (!base_equal_ct(claim.channel_binding, binding, CLAIM_BINDING_BYTES))
        return dbe_fail(diag, DBE_E_CLAIM_INVALID, "channel binding", 28,
                        "the claim token is bound to another channel");
    dbe_err err = crypto_verify(issuer, CLAIM_CONTEXT, token, body_len, token + body_len, CRYPTO_MLDSA87_SIG_BYTES);
    if (err == DBE_E_AUTH || err == DBE_E_MALFORMED)
        return dbe_fail(diag, DBE_E_CLAIM_INVALID, "signature", body_len,
                        "the claim token's signature is not the sender's");
    DBE_TRY(err);
    DBE_TRY(pol_claim_window(&claim, now_ms, diag));
    *ret = claim;
    return DBE_OK;
}
