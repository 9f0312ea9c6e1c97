/* SPDX-License-Identifier: Apache-2.0
 *
 * note.c - checkpoints as signed notes, and anchors (spec audit 7 and 8).
 *
 * The form is that of C2SP's tlog-checkpoint and signed-note; hash and signature are the mesh's, SHA3-512 and
 * ML-DSA-87. Reading is strict: a note has one spelling.
 */
#include <string.h>

#include "audit/lines.h"

static const char time_word[] = "time ";
static const char anchor_head[] = "dsmil-audit-anchor v1\n";

/* ---- writing ------------------------------------------------------------------------------------------------- */

dbe_err audit_checkpoint_put(const struct audit_checkpoint *c, struct base_buf *out)
{
    base_buf_fmt(out, "%s\n%llu\n", c->origin, (unsigned long long)c->size);
    base_base64(out, c->root, sizeof c->root);
    base_buf_fmt(out, "\n%s%llu\n", time_word, (unsigned long long)c->time_ms);
    return out->err;
}

dbe_err audit_key_id(const char *origin, const uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], uint8_t ret[AUDIT_KEY_ID_BYTES])
{
    static const char kind[] = "\n\xffML-DSA-87";
    uint8_t text[AUDIT_ORIGIN_MAX + sizeof kind + CRYPTO_MLDSA87_PK_BYTES], digest[AUDIT_HASH_BYTES];
    struct base_buf b;

    base_buf_init_fixed(&b, text, sizeof text);
    base_buf_str(&b, origin);
    base_buf_bytes(&b, kind, sizeof kind - 1);
    base_buf_bytes(&b, pk, CRYPTO_MLDSA87_PK_BYTES);
    DBE_TRY(b.err);
    DBE_TRY(crypto_sha3_512(b.data, b.len, digest));
    memcpy(ret, digest, AUDIT_KEY_ID_BYTES);
    return DBE_OK;
}

dbe_err audit_note_put(const struct audit_checkpoint *c, const uint8_t key_id[AUDIT_KEY_ID_BYTES],
                       const uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES], struct base_buf *out)
{
    DBE_TRY(audit_checkpoint_put(c, out));
    audit_put_signature(out, c->origin, key_id, sig);
    return out->err;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

dbe_err audit_note_get(const char *text, size_t len, struct audit_note *ret, size_t *ret_len)
{
    struct audit_lines s = {text, text + len, false};
    struct audit_note n = {0};

    audit_lines_origin(&s, n.checkpoint.origin);
    n.checkpoint.size = audit_lines_number(&s, audit_lines_next(&s));
    audit_lines_base64(&s, audit_lines_next(&s), n.checkpoint.root, sizeof n.checkpoint.root);
    n.checkpoint.time_ms = audit_lines_number(&s, audit_lines_after(&s, audit_lines_next(&s), time_word));
    n.body = (struct audit_text){text, (size_t)(s.at - text)};
    audit_lines_signature(&s, n.checkpoint.origin, n.key_id, n.sig);
    if (s.bad)
        return DBE_E_MALFORMED;
    *ret = n;
    *ret_len = (size_t)(s.at - text);
    return DBE_OK;
}

/* ---- signatures ---------------------------------------------------------------------------------------------- */

dbe_err audit_signed(const char *use, const char *origin, uint64_t time_ms, const uint8_t key_id[AUDIT_KEY_ID_BYTES],
                     const void *text, size_t len, const uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES], audit_key_fn *key,
                     void *ctx, struct dbe_diag *diag)
{
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    struct crypto_key *k = NULL;

    DBE_TRY(key(ctx, origin, key_id, time_ms, pk, diag));
    DBE_TRY(crypto_key_from_public(pk, &k));
    dbe_err err = crypto_verify(k, use, text, len, sig, CRYPTO_MLDSA87_SIG_BYTES);
    crypto_key_free(k);
    return err == DBE_E_AUTH ? dbe_fail(diag, err, "audit 9", 0, "the signature is not the key's") : err;
}

dbe_err audit_note_verify(const struct audit_note *note, audit_key_fn *key, void *ctx, struct dbe_diag *diag)
{
    return audit_signed(AUDIT_CHECKPOINT_CTX, note->checkpoint.origin, note->checkpoint.time_ms, note->key_id,
                        note->body.at, note->body.len, note->sig, key, ctx, diag);
}

/* ---- anchors ------------------------------------------------------------------------------------------------- */

dbe_err audit_anchor_put(const struct audit_anchor *a, struct base_buf *out)
{
    base_buf_fmt(out, "%s%llu\n", anchor_head, (unsigned long long)a->size);
    base_base64(out, a->root, sizeof a->root);
    base_buf_str(out, "\n");
    if (a->has_note) {
        base_buf_str(out, "\n");
        base_buf_bytes(out, a->note.at, a->note.len);
    }
    return out->err;
}

dbe_err audit_anchor_get(const char *text, size_t len, struct audit_anchor *ret)
{
    size_t head = sizeof anchor_head - 1;
    struct audit_lines s = {text + BASE_MIN(head, len), text + len, len < head || memcmp(text, anchor_head, head) != 0};
    struct audit_anchor a = {0};
    struct audit_note note;
    size_t note_len;

    a.size = audit_lines_number(&s, audit_lines_next(&s));
    audit_lines_base64(&s, audit_lines_next(&s), a.root, sizeof a.root);
    if (!s.bad && s.at != s.end) {
        s.bad |= audit_lines_next(&s).len != 0;
        a.has_note = true;
        a.note = (struct audit_text){s.at, (size_t)(s.end - s.at)};
        if (s.bad || audit_note_get(a.note.at, a.note.len, &note, &note_len) != DBE_OK || note_len != a.note.len)
            s.bad = true;
    }
    if (s.bad)
        return DBE_E_MALFORMED;
    *ret = a;
    return DBE_OK;
}
