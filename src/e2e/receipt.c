/* SPDX-License-Identifier: Apache-2.0
 *
 * receipt.c - receipts: encode and sign, read, verify against a mesh (docs/spec/dbe-v1.md, section 17).
 *
 * Form, network byte order; there is one encoding of each receipt:
 *   0   4  magic "DRCP"         24  8  time, ms              44  64  model digest
 *   4   1  version 2            32  4  prompt tokens        108  64  policy digest
 *   5   1  device               36  4  cached tokens        172  64  request digest
 *   6   1  finish               40  4  completion tokens    236  64  answer digest
 *   7   1  zero                                             300  worker, model, quantisation: length (u8), UTF-8
 *   8  16  request id
 * then 4627 bytes ML-DSA-87 over all that precedes, context string "DSMIL receipt v2", then the worker's certificate:
 * length (u16), DER. The certificate is not signed again: it is the CA's, and must be that of the signature's key.
 */
#include "e2e/receipt.h"

#include <string.h>

#define RECEIPT_MAGIC 0x44524350u /* "DRCP" */
#define RECEIPT_CONTEXT "DSMIL receipt v2"

dbe_err e2e_answer_end(struct crypto_hash *content, const char *name, const char *arguments,
                       uint8_t ret[CRYPTO_HASH_BYTES])
{
    if (name != NULL) { /* text of a model holds no NUL: it cannot be taken for a call */
        DBE_TRY(crypto_hash_update(content, "", 1));
        DBE_TRY(crypto_hash_update(content, name, strlen(name)));
        DBE_TRY(crypto_hash_update(content, "", 1));
        DBE_TRY(crypto_hash_update(content, arguments, strlen(arguments)));
    }
    return crypto_hash_peek(content, ret);
}

/* ---- form ------------------------------------------------------------------------------------------------------- */

static bool text_ok(const char *text, size_t max)
{
    size_t len = strnlen(text, max + 1);

    return len > 0 && len <= max && base_utf8_valid(text, len);
}

/* The field that cannot stand, NULL if all can. */
static const char *wrong_field(const struct e2e_receipt *r)
{
    if (r->finish > E2E_FINISH_TOOL)
        return "finish";
    if (r->cached_tokens > r->prompt_tokens)
        return "cached_tokens";
    if (r->time_ms == 0)
        return "time";
    if (!text_ok(r->worker, sizeof r->worker - 1))
        return "worker";
    if (!text_ok(r->model, E2E_RECEIPT_NAME_MAX))
        return "model";
    if (!text_ok(r->quantisation, E2E_RECEIPT_QUANT_MAX))
        return "quantisation";
    return NULL;
}

static void put_body(struct base_buf *b, const struct e2e_receipt *r)
{
    base_buf_u32(b, RECEIPT_MAGIC);
    base_buf_u8(b, E2E_RECEIPT_VERSION);
    base_buf_u8(b, r->device);
    base_buf_u8(b, r->finish);
    base_buf_u8(b, 0);
    base_buf_bytes(b, r->request_id, sizeof r->request_id);
    base_buf_u64(b, r->time_ms);
    base_buf_u32(b, r->prompt_tokens);
    base_buf_u32(b, r->cached_tokens);
    base_buf_u32(b, r->completion_tokens);
    base_buf_bytes(b, r->model_digest, sizeof r->model_digest);
    base_buf_bytes(b, r->policy_digest, sizeof r->policy_digest);
    base_buf_bytes(b, r->request_digest, sizeof r->request_digest);
    base_buf_bytes(b, r->answer_digest, sizeof r->answer_digest);
    base_buf_name(b, r->worker);
    base_buf_name(b, r->model);
    base_buf_name(b, r->quantisation);
}

dbe_err e2e_receipt_issue(const struct e2e_receipt *r, const struct dbe_credential *worker, struct base_buf *out)
{
    const struct dbe_identity *id = dbe_credential_identity(worker);
    uint8_t body[E2E_RECEIPT_BODY_MAX], sig[CRYPTO_MLDSA87_SIG_BYTES];
    struct e2e_receipt said = *r;
    struct base_buf b;
    const uint8_t *cert;
    size_t cert_len;

    memcpy(said.worker, id->spiffe_id, sizeof said.worker);
    said.device = id->device;
    if (wrong_field(&said) != NULL)
        return DBE_E_ARGUMENT;
    base_buf_init_fixed(&b, body, sizeof body);
    put_body(&b, &said);
    DBE_TRY(b.err);
    DBE_TRY(dbe_credential_sign(worker, RECEIPT_CONTEXT, body, b.len, sig));
    dbe_credential_cert(worker, &cert, &cert_len);
    if (cert_len > DBE_CERT_MAX_BYTES)
        return DBE_E_TOO_LARGE;
    uint8_t *room = base_buf_grow(out, b.len + sizeof sig + 2 + cert_len); /* all of it or nothing */
    if (room == NULL)
        return out->err;
    memcpy(room, body, b.len);
    memcpy(room + b.len, sig, sizeof sig);
    base_put_u16(room + b.len + sizeof sig, (uint16_t)cert_len);
    memcpy(room + b.len + sizeof sig + 2, cert, cert_len);
    return DBE_OK;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static dbe_err get_head(struct base_cur *c, struct e2e_receipt *r, struct dbe_diag *diag)
{
    if (base_cur_u32(c) != RECEIPT_MAGIC)
        return dbe_fail(diag, DBE_E_MALFORMED, "magic", 0, "this is no receipt");
    if (base_cur_u8(c) != E2E_RECEIPT_VERSION)
        return dbe_fail(diag, DBE_E_UNSUPPORTED, "version", 4, "a receipt of another version than %d",
                        E2E_RECEIPT_VERSION);
    r->device = base_cur_u8(c);
    r->finish = base_cur_u8(c);
    if (base_cur_u8(c) != 0)
        return dbe_fail(diag, DBE_E_MALFORMED, "reserved", 7, "the receipt's byte 7 is not zero");
    base_cur_copy(c, r->request_id, sizeof r->request_id);
    r->time_ms = base_cur_u64(c);
    r->prompt_tokens = base_cur_u32(c);
    r->cached_tokens = base_cur_u32(c);
    r->completion_tokens = base_cur_u32(c);
    base_cur_copy(c, r->model_digest, sizeof r->model_digest);
    base_cur_copy(c, r->policy_digest, sizeof r->policy_digest);
    base_cur_copy(c, r->request_digest, sizeof r->request_digest);
    base_cur_copy(c, r->answer_digest, sizeof r->answer_digest);
    return DBE_OK;
}

dbe_err e2e_receipt_read(const void *bytes, size_t len, struct e2e_receipt_parts *ret, struct dbe_diag *diag)
{
    struct base_cur c = base_cur_of(bytes, len);
    struct e2e_receipt_parts p = {0};

    DBE_TRY(get_head(&c, &p.says, diag));
    const bool texts = base_cur_name(&c, p.says.worker, sizeof p.says.worker - 1) &&
                       base_cur_name(&c, p.says.model, E2E_RECEIPT_NAME_MAX) &&
                       base_cur_name(&c, p.says.quantisation, E2E_RECEIPT_QUANT_MAX);
    p.body_len = base_cur_offset(&c);
    p.signature = base_cur_bytes(&c, CRYPTO_MLDSA87_SIG_BYTES);
    p.certificate_len = base_cur_u16(&c);
    p.certificate = base_cur_bytes(&c, p.certificate_len);
    if (!texts || base_cur_end(&c) != DBE_OK || p.certificate_len == 0 || p.certificate_len > DBE_CERT_MAX_BYTES)
        return dbe_fail(diag, DBE_E_MALFORMED, "length", base_cur_offset(&c),
                        "the receipt's lengths do not fit its %zu bytes", len);
    const char *wrong = wrong_field(&p.says);
    if (wrong != NULL)
        return dbe_fail(diag, DBE_E_RANGE, wrong, 0, "the receipt's %s cannot stand", wrong);
    *ret = p;
    return DBE_OK;
}

/* ---- verifying -------------------------------------------------------------------------------------------------- */

static dbe_err differs(const char *field, struct dbe_diag *diag)
{
    return dbe_fail(diag, DBE_E_AUTH, field, 0, "the receipt is for another %s", field);
}

static bool text_differs(const char *want, const char *is)
{
    return want != NULL && strcmp(want, is) != 0;
}

static bool bytes_differ(const uint8_t *want, const uint8_t *is, size_t len)
{
    return want != NULL && memcmp(want, is, len) != 0;
}

static dbe_err check_expected(const struct e2e_receipt *r, const struct e2e_receipt_expect *e, struct dbe_diag *diag)
{
    if (text_differs(e->worker, r->worker))
        return differs("worker", diag);
    if (text_differs(e->model, r->model))
        return differs("model", diag);
    if (text_differs(e->quantisation, r->quantisation))
        return differs("quantisation", diag);
    if (bytes_differ(e->request_id, r->request_id, sizeof r->request_id))
        return differs("request_id", diag);
    if (bytes_differ(e->model_digest, r->model_digest, sizeof r->model_digest))
        return differs("model_digest", diag);
    if (bytes_differ(e->policy_digest, r->policy_digest, sizeof r->policy_digest))
        return differs("policy_digest", diag);
    if (bytes_differ(e->request_digest, r->request_digest, sizeof r->request_digest))
        return differs("request", diag);
    if (bytes_differ(e->answer_digest, r->answer_digest, sizeof r->answer_digest))
        return differs("answer", diag);
    return DBE_OK;
}

static dbe_err check_signature(const uint8_t *bytes, const struct e2e_receipt_parts *p,
                               const uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    struct crypto_key *key = NULL;

    DBE_TRY(crypto_key_from_public(pk, &key));
    dbe_err err = crypto_verify(key, RECEIPT_CONTEXT, bytes, p->body_len, p->signature, CRYPTO_MLDSA87_SIG_BYTES);
    crypto_key_free(key);
    if (err == DBE_E_AUTH)
        return dbe_fail(diag, err, "signature", p->body_len,
                        "the signature is not the worker's over this receipt: something in it was altered");
    return err;
}

dbe_err e2e_receipt_verify(const void *bytes, size_t len, const struct dbe_trust *trust,
                           const struct e2e_receipt_expect *expect, struct e2e_receipt *ret,
                           struct dbe_identity *ret_id, struct dbe_diag *diag)
{
    struct e2e_receipt_parts p;
    struct dbe_identity id;
    struct dbe_diag why = {0};
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];

    DBE_TRY(e2e_receipt_read(bytes, len, &p, diag));
    dbe_err err = dbe_trust_verify(trust, p.certificate, p.certificate_len, p.says.time_ms, &id, pk, &why);
    if (err != DBE_OK)
        return dbe_fail(diag, err, err == DBE_E_EXPIRED ? "time" : "certificate", 0, "the worker's certificate: %.150s",
                        why.text[0] != '\0' ? why.text : dbe_err_text(err));
    DBE_TRY(check_signature(bytes, &p, pk, diag));
    if (id.role != DBE_ROLE_WORKER)
        return dbe_fail(diag, DBE_E_CERT, "role", 0, "%.120s is no worker and gives no receipts", id.spiffe_id);
    if (strcmp(id.spiffe_id, p.says.worker) != 0)
        return dbe_fail(diag, DBE_E_CERT, "worker", 0, "the receipt names another worker than its certificate");
    if (id.device != p.says.device)
        return dbe_fail(diag, DBE_E_CERT, "device", 0, "the receipt names another device than its certificate");
    DBE_TRY(check_expected(&p.says, expect, diag));
    *ret = p.says;
    if (ret_id != NULL)
        *ret_id = id;
    return DBE_OK;
}
