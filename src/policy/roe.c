/* SPDX-License-Identifier: Apache-2.0
 *
 * roe.c - ROE tokens: see roe.h.
 *
 * Form of a body, network byte order; there is one encoding of each:
 *   0   4  magic "DROE"     24   1  classification max      110  1  tenant length t (1 to 64), then t bytes
 *   4   1  version 2        25   1  ROE level             111+t  1  requester length r, then r bytes
 *   5  16  id               26   4  compartments
 *  21   1  verb             30   8  not before, ms
 *  22   1  device           38   8  not after, ms
 *  23   1  category         46  64  SHA3-512 of the payload
 */
#include "policy/roe.h"

#include <stdio.h>
#include <string.h>

#include "policy/internal.h"

#define ROE_MAGIC 0x44524F45u /* "DROE" */
#define ROE_CONTEXT "DSMIL-DBE roe v1"
#define ROE_ASK_CONTEXT "DSMIL-DBE roe request v1"

enum { FINGERPRINT_BYTES = 64, LAYER_EXECUTIVE = 9 };
static const char clause[] = "section 16";

/* ---- form --------------------------------------------------------------------------------------- */

/* A person reads it before signing: nothing in it may move a cursor or end a line. */
static bool name_ok(const char *text, size_t max)
{
    size_t len = strnlen(text, max + 1);

    for (size_t i = 0; i < len; i++) {
        const uint8_t c = (uint8_t)text[i];
        if (c < ' ' || c == 0x7F || (c == 0xC2 && (uint8_t)text[i + 1] < 0xA0)) /* U+0080 to U+009F */
            return false;
    }
    return len > 0 && len <= max && base_utf8_valid(text, len);
}

/* Why this token cannot stand, NULL if it can. */
static const char *fault(const struct pol_roe *r)
{
    static const uint8_t none[sizeof r->id];
    const struct dbe_msg_row *row = dbe_reg_msg(r->verb);

    if (memcmp(r->id, none, sizeof none) == 0)
        return "its id is zero";
    if (row == NULL || row->type != r->verb)
        return "its verb is no message type";
    if (dbe_reg_device(r->device) == NULL)
        return "its device is unknown";
    if (r->category != POL_ROE_ADVISORY && r->category != POL_ROE_NC3)
        return "its category is unknown";
    if ((r->category == POL_ROE_NC3) != (r->device == DBE_DEV_NC3_INTEGRATION))
        return "category NC3 is for device 61, and device 61 for nothing else";
    if (dbe_reg_classification(r->classification_max) == NULL)
        return "its classification is unknown";
    if (dbe_reg_roe(r->roe_level) == NULL)
        return "its ROE level is unknown";
    if ((r->compartments & DBE_COMPARTMENT_KINETIC) != 0 || (r->compartments & ~(uint32_t)DBE_COMPARTMENT_ALL) != 0)
        return "its compartments name KINETIC or an unknown bit";
    if (r->not_before_ms >= r->not_after_ms || r->not_after_ms - r->not_before_ms > POL_ROE_LIFETIME_MAX_MS)
        return "its window is empty or longer than 24 hours";
    if (!name_ok(r->tenant, DBE_TENANT_MAX_BYTES))
        return "its tenant is empty, too long or no printable UTF-8";
    if (!name_ok(r->requester, sizeof r->requester - 1))
        return "its requester is empty, too long or no printable UTF-8";
    return NULL;
}

dbe_err pol_roe_encode(const struct pol_roe *roe, struct base_buf *out, struct dbe_diag *diag)
{
    const char *why = fault(roe);

    if (why != NULL)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "such an ROE token cannot stand: %s", why);
    base_buf_u32(out, ROE_MAGIC);
    base_buf_u8(out, POL_ROE_VERSION);
    base_buf_bytes(out, roe->id, sizeof roe->id);
    base_buf_u8(out, roe->verb);
    base_buf_u8(out, roe->device);
    base_buf_u8(out, roe->category);
    base_buf_u8(out, roe->classification_max);
    base_buf_u8(out, roe->roe_level);
    base_buf_u32(out, roe->compartments);
    base_buf_u64(out, roe->not_before_ms);
    base_buf_u64(out, roe->not_after_ms);
    base_buf_bytes(out, roe->payload_digest, sizeof roe->payload_digest);
    base_buf_name(out, roe->tenant);
    base_buf_name(out, roe->requester);
    return out->err;
}

dbe_err pol_roe_decode(const uint8_t *body, size_t len, struct pol_roe *ret, struct dbe_diag *diag)
{
    struct base_cur c = base_cur_of(body, len);
    struct pol_roe roe = {0};

    if (base_cur_u32(&c) != ROE_MAGIC || base_cur_u8(&c) != POL_ROE_VERSION)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "not an ROE token of version %d", POL_ROE_VERSION);
    base_cur_copy(&c, roe.id, sizeof roe.id);
    roe.verb = base_cur_u8(&c);
    roe.device = base_cur_u8(&c);
    roe.category = base_cur_u8(&c);
    roe.classification_max = base_cur_u8(&c);
    roe.roe_level = base_cur_u8(&c);
    roe.compartments = base_cur_u32(&c);
    roe.not_before_ms = base_cur_u64(&c);
    roe.not_after_ms = base_cur_u64(&c);
    base_cur_copy(&c, roe.payload_digest, sizeof roe.payload_digest);
    bool names = base_cur_name(&c, roe.tenant, DBE_TENANT_MAX_BYTES) &&
                 base_cur_name(&c, roe.requester, sizeof roe.requester - 1);
    if (!names || base_cur_end(&c) != DBE_OK)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, base_cur_offset(&c), "the ROE token's lengths do not fit");
    const char *why = fault(&roe);
    if (why != NULL)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "the ROE token cannot stand: %s", why);
    *ret = roe;
    return DBE_OK;
}

/* ---- approvals ------------------------------------------------------------------------------------- */

/* Why this one may not approve, NULL if it may. */
static const char *may_not(const struct pol_roe *roe, const struct dbe_identity *who)
{
    if (who->role != DBE_ROLE_PERSON)
        return "is no person";
    if (strcmp(who->spiffe_id, roe->requester) == 0)
        return "asked for it";
    return NULL;
}

dbe_err pol_roe_approve(const uint8_t *body, size_t len, const struct dbe_identity *who,
                        const struct dbe_credential *cred, uint8_t ret[POL_ROE_APPROVAL_BYTES], struct dbe_diag *diag)
{
    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES];
    struct pol_roe roe;

    DBE_TRY(pol_roe_decode(body, len, &roe, diag));
    const char *why = may_not(&roe, who);
    if (why != NULL)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "%.100s may not approve this token: it %s", who->spiffe_id,
                        why);
    DBE_TRY(dbe_credential_sign(cred, ROE_CONTEXT, body, len, sig));
    memcpy(ret, who->fingerprint, FINGERPRINT_BYTES);
    memcpy(ret + FINGERPRINT_BYTES, sig, sizeof sig);
    return DBE_OK;
}

static dbe_err check_signature(const char *context, const uint8_t *body, size_t len,
                               const uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], const uint8_t *sig)
{
    struct crypto_key *key = NULL;

    DBE_TRY(crypto_key_from_public(pk, &key));
    dbe_err err = crypto_verify(key, context, body, len, sig, CRYPTO_MLDSA87_SIG_BYTES);
    crypto_key_free(key);
    return err == DBE_E_MALFORMED ? DBE_E_AUTH : err;
}

dbe_err pol_roe_ask(const uint8_t *body, size_t len, const struct dbe_identity *who, const struct dbe_credential *cred,
                    uint8_t ret[POL_ROE_APPROVAL_BYTES], struct dbe_diag *diag)
{
    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES];
    struct pol_roe roe;

    DBE_TRY(pol_roe_decode(body, len, &roe, diag));
    if (strcmp(who->spiffe_id, roe.requester) != 0)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "the token names %.100s as who asked", roe.requester);
    if (who->role != DBE_ROLE_PERSON)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "%.100s may not ask for a token: it is no person",
                        who->spiffe_id);
    DBE_TRY(dbe_credential_sign(cred, ROE_ASK_CONTEXT, body, len, sig));
    memcpy(ret, who->fingerprint, FINGERPRINT_BYTES);
    memcpy(ret + FINGERPRINT_BYTES, sig, sizeof sig);
    return DBE_OK;
}

dbe_err pol_roe_check_asked(const uint8_t *body, size_t len, const uint8_t proof[POL_ROE_APPROVAL_BYTES],
                            pol_person_fn *person, void *ctx, struct dbe_diag *diag)
{
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    struct dbe_identity who = {0};
    struct pol_roe roe;

    DBE_TRY(pol_roe_decode(body, len, &roe, diag));
    bool known =
        person(ctx, proof, &who, pk) && who.role == DBE_ROLE_PERSON && strcmp(who.spiffe_id, roe.requester) == 0;
    dbe_err err = known ? check_signature(ROE_ASK_CONTEXT, body, len, pk, proof + FINGERPRINT_BYTES) : DBE_E_AUTH;
    if (err == DBE_E_AUTH)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "nothing here proves that %.100s asked for it",
                        roe.requester);
    return err;
}

dbe_err pol_roe_check_approval(const uint8_t *body, size_t len, const uint8_t *approval, size_t approval_len,
                               pol_person_fn *person, void *ctx, struct dbe_identity *ret_who, struct dbe_diag *diag)
{
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    struct dbe_identity who = {0};
    struct pol_roe roe;

    DBE_TRY(pol_roe_decode(body, len, &roe, diag));
    if (approval_len != POL_ROE_APPROVAL_BYTES)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "an approval does not have %zu bytes", approval_len);
    if (!person(ctx, approval, &who, pk))
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "an approval is of nobody who is enrolled here");
    const char *why = may_not(&roe, &who);
    if (why != NULL)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "%.100s may not approve this token: it %s", who.spiffe_id,
                        why);
    dbe_err err = check_signature(ROE_CONTEXT, body, len, pk, approval + FINGERPRINT_BYTES);
    if (err == DBE_E_AUTH)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "the approval's signature is not that of %.100s",
                        who.spiffe_id);
    DBE_TRY(err);
    *ret_who = who;
    return DBE_OK;
}

dbe_err pol_roe_check_both(const uint8_t *body, size_t len, const struct dbe_tlv *a, const struct dbe_tlv *b,
                           pol_person_fn *person, void *ctx, struct dbe_identity ret_who[2], struct dbe_diag *diag)
{
    struct dbe_identity who[2] = {0};

    DBE_TRY(pol_roe_check_approval(body, len, a->value, a->len, person, ctx, &who[0], diag));
    if (b->len == a->len && memcmp(a->value, b->value, FINGERPRINT_BYTES) == 0)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "%.100s approved twice; it takes two persons",
                        who[0].spiffe_id);
    DBE_TRY(pol_roe_check_approval(body, len, b->value, b->len, person, ctx, &who[1], diag));
    if (strcmp(who[0].spiffe_id, who[1].spiffe_id) == 0) /* by two certificates */
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "%.100s approved twice; it takes two persons",
                        who[0].spiffe_id);
    memcpy(ret_who, who, sizeof who);
    return DBE_OK;
}

/* ---- a message with a token --------------------------------------------------------------------------- */

bool pol_roe_needed(const struct pol_policy *policy, const struct dbe_identity *self, const struct dbe_identity *peer,
                    uint8_t type)
{
    const bool forwarded = peer != NULL && peer->role < 32 && (policy->claim_forwarders >> peer->role & 1) != 0;

    return self->layer == LAYER_EXECUTIVE || self->device == DBE_DEV_NC3_INTEGRATION ||
           (self->layer < 16 && (policy->token_layers >> self->layer & 1) != 0) ||
           pol_set_has(&policy->token_devices, self->device) || (pol_set_has(&policy->token_types, type) && !forwarded);
}

/* Everything that a comparison tells. */
static const char *mismatch(const struct pol_roe *roe, const struct dbe_msg *msg, uint8_t self_device,
                            const struct dbe_tlv *id)
{
    struct pol_labels labels;

    if (memcmp(id->value, roe->id, sizeof roe->id) != 0)
        return "names another token than ROE_TOKEN_ID";
    if (roe->verb != msg->type)
        return "is for another message type";
    if (roe->device != self_device)
        return "is for another device";
    if (pol_labels_read(msg, &labels) != DBE_OK)
        return "permits no message without labels";
    if (strcmp(labels.tenant, roe->tenant) != 0)
        return "is another tenant's";
    if ((labels.compartments & ~roe->compartments) != 0)
        return "does not cover the message's compartments";
    if ((labels.classification == DBE_CLSF_TS_SIM) != (roe->classification_max == DBE_CLSF_TS_SIM) ||
        labels.classification > roe->classification_max)
        return "does not cover the message's classification";
    if (labels.roe_level != roe->roe_level)
        return "is for another ROE level";
    return NULL;
}

static dbe_err check_payload(const struct pol_roe *roe, const struct dbe_msg *msg, struct dbe_diag *diag)
{
    uint8_t digest[CRYPTO_HASH_BYTES];

    DBE_TRY(crypto_sha3_512(msg->payload, msg->payload_len, digest));
    if (memcmp(digest, roe->payload_digest, sizeof digest) != 0)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "the ROE token was approved for another payload");
    return DBE_OK;
}

dbe_err pol_roe_verify(const struct dbe_msg *msg, uint8_t self_device, uint64_t now_ms, pol_person_fn *person,
                       void *ctx, struct pol_roe *ret, struct dbe_diag *diag)
{
    const struct dbe_tlv *body = dbe_tlv_find(msg, DBE_TLV_ROE_TOKEN), *id = dbe_tlv_find(msg, DBE_TLV_ROE_TOKEN_ID);
    const struct dbe_tlv *a = dbe_tlv_find(msg, DBE_TLV_TWO_PERSON_SIG_A);
    const struct dbe_tlv *b = dbe_tlv_find(msg, DBE_TLV_TWO_PERSON_SIG_B);
    struct dbe_identity who[2];
    struct pol_roe roe;

    if (body == NULL || id == NULL || a == NULL || b == NULL)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "the message carries no ROE token with two approvals");
    DBE_TRY(pol_roe_decode(body->value, body->len, &roe, diag));
    const char *why = mismatch(&roe, msg, self_device, id);
    if (why != NULL)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "the ROE token %s", why);
    if (now_ms < roe.not_before_ms || now_ms >= roe.not_after_ms)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, clause, 0, "the ROE token %s",
                        now_ms < roe.not_before_ms ? "is not valid yet" : "has expired");
    DBE_TRY(check_payload(&roe, msg, diag));
    DBE_TRY(pol_roe_check_both(body->value, body->len, a, b, person, ctx, who, diag));
    *ret = roe;
    return DBE_OK;
}
