/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_audit.c - what of an audit log may come from anywhere: records, lines, notes, anchors, proofs,
 * what stands before a segment, statements of archives, states.
 *
 * First byte: which. What is read is written again and must be the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "audit/log_priv.h"
#include "audit/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool cond)
{
    if (!cond)
        abort();
}

static void same(struct base_buf *again, const uint8_t *data, size_t len)
{
    require(again->err == DBE_OK && again->len == len && memcmp(again->data, data, len) == 0);
    base_buf_free(again);
}

static void records(const uint8_t *data, size_t size)
{
    struct audit_record r;
    size_t one;

    for (size_t at = 0; at < size; at += one) {
        struct base_buf again;
        if (audit_record_get(data + at, size - at, &r, &one) != DBE_OK)
            return;
        base_buf_init(&again, AUDIT_RECORD_MAX);
        require(audit_record_put(&r, &again) == DBE_OK);
        same(&again, data + at, one);
        struct audit_entry e = {.sender = "spiffe://m/l7/router/43", .record = r};
        struct audit_line line;
        base_buf_init(&again, AUDIT_LINE_MAX);
        require(audit_line_put(&e, &again) == DBE_OK);
        require(audit_line_get((char *)again.data, again.len, &line, NULL) == DBE_OK);
        require(line.seq == r.seq && line.kind == r.kind && line.count == r.count);
        base_buf_free(&again);
    }
}

static void line(const uint8_t *data, size_t size)
{
    struct audit_line l;

    if (audit_line_get((const char *)data, size, &l, NULL) == DBE_OK)
        require(l.sender.at >= (const char *)data && l.sender.at + l.sender.len < (const char *)data + size);
}

static void note(const uint8_t *data, size_t size)
{
    struct audit_note n;
    struct base_buf again;
    size_t len;

    if (audit_note_get((const char *)data, size, &n, &len) != DBE_OK)
        return;
    base_buf_init(&again, AUDIT_NOTE_MAX);
    require(audit_note_put(&n.checkpoint, n.key_id, n.sig, &again) == DBE_OK);
    same(&again, data, len);
}

static void anchor(const uint8_t *data, size_t size)
{
    struct audit_anchor a;
    struct base_buf again;

    if (audit_anchor_get((const char *)data, size, &a) != DBE_OK)
        return;
    base_buf_init(&again, 2 * AUDIT_NOTE_MAX);
    require(audit_anchor_put(&a, &again) == DBE_OK);
    same(&again, data, size);
}

static void proof(const uint8_t *data, size_t size)
{
    static struct audit_proof_file p;

    if (audit_proof_get((const char *)data, size, &p, NULL) == DBE_OK)
        require(p.proof.count <= AUDIT_PROOF_MAX);
}

static void base(const uint8_t *data, size_t size)
{
    struct audit_base b;
    struct base_buf again;
    size_t len;

    if (audit_base_get((const char *)data, size, &b, &len) != DBE_OK)
        return;
    base_buf_init(&again, AUDIT_NOTE_MAX);
    audit_base_put(&b, &again);
    same(&again, data, len);
}

static dbe_err signed_before(void *ctx, const char *use, const void *msg, size_t len,
                             uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    (void)use, (void)msg, (void)len;
    memcpy(sig, ((const struct audit_archived *)ctx)->sig, CRYPTO_MLDSA87_SIG_BYTES);
    return DBE_OK;
}

static void archived(const uint8_t *data, size_t size)
{
    struct audit_archived a;
    struct audit_signer signer = {.sign = signed_before, .ctx = &a};
    struct base_buf again;

    if (audit_archived_get((const char *)data, size, &a) != DBE_OK)
        return;
    memcpy(signer.key_id, a.key_id, sizeof a.key_id);
    base_buf_init(&again, AUDIT_NOTE_MAX);
    require(audit_archived_put(&a, &signer, &again) == DBE_OK);
    same(&again, data, size);
}

static dbe_err no_key(void *ctx, const char *origin, const uint8_t key_id[AUDIT_KEY_ID_BYTES], uint64_t time_ms,
                      uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    (void)ctx, (void)origin, (void)key_id, (void)time_ms, (void)pk, (void)diag;
    return DBE_E_NOT_FOUND;
}

/* Whatever it says: without a key it is not believed. */
static void state(const uint8_t *data, size_t size)
{
    struct audit_senders *senders = NULL;
    struct audit_state s;

    if (audit_senders_new(&senders) != DBE_OK)
        return;
    require(audit_state_get((const char *)data, size, "m/audit/14", no_key, NULL, &s, senders, NULL) != DBE_OK);
    audit_senders_free(senders);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[])(const uint8_t *, size_t) = {records, line, note, anchor, proof, base, archived, state};

    if (size > 0 && data[0] < BASE_ARRAY_LEN(kinds))
        kinds[data[0]](data + 1, size - 1);
    return 0;
}
