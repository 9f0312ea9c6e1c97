/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_audit.c - what of an audit log may come from anywhere: records, lines, notes, anchors, proofs.
 *
 * First byte: which. What is read is written again and must be the same bytes.
 */
#include <stdlib.h>
#include <string.h>

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[])(const uint8_t *, size_t) = {records, line, note, anchor, proof};

    if (size > 0 && data[0] < BASE_ARRAY_LEN(kinds))
        kinds[data[0]](data + 1, size - 1);
    return 0;
}
