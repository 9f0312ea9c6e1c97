/* SPDX-License-Identifier: Apache-2.0
 *
 * proof_file.c - proofs as text that can be handed to somebody (spec audit 6): written, read strictly, verified.
 */
#include <stdio.h>
#include <string.h>

#include "audit/verify.h"

static const char inclusion_head[] = "dsmil-audit-inclusion v1\n";
static const char consistency_head[] = "dsmil-audit-consistency v1\n";

dbe_err audit_proof_put(const struct audit_proof_file *p, struct audit_text older_note, struct audit_text note,
                        struct base_buf *out)
{
    if (p->consistency) {
        base_buf_str(out, consistency_head);
    } else {
        base_buf_fmt(out, "%s%llu\n", inclusion_head, (unsigned long long)p->index);
        base_buf_bytes(out, p->line.at, p->line.len);
        base_buf_str(out, "\n");
    }
    for (size_t i = 0; i < p->proof.count; i++) {
        base_base64(out, p->proof.hash[i], AUDIT_HASH_BYTES);
        base_buf_str(out, "\n");
    }
    base_buf_str(out, "\n");
    if (p->consistency)
        base_buf_bytes(out, older_note.at, older_note.len);
    base_buf_bytes(out, note.at, note.len);
    return out->err;
}

struct input {
    const char *at, *end;
};

/* The next line without its line feed; false: there is none. */
static bool next_line(struct input *in, struct audit_text *ret)
{
    const char *feed = in->at < in->end ? memchr(in->at, '\n', (size_t)(in->end - in->at)) : NULL;

    if (feed == NULL)
        return false;
    *ret = (struct audit_text){in->at, (size_t)(feed - in->at)};
    in->at = feed + 1;
    return true;
}

static bool begins(struct input *in, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(in->end - in->at) < len || memcmp(in->at, word, len) != 0)
        return false;
    in->at += len;
    return true;
}

static dbe_err get_entry(struct input *in, struct audit_proof_file *p, struct dbe_diag *diag)
{
    struct audit_text number;
    struct audit_line line;
    char digits[24];
    int n;

    if (!next_line(in, &number) || !next_line(in, &p->line) ||
        audit_line_get(p->line.at, p->line.len, &line, NULL) != DBE_OK)
        return dbe_fail(diag, DBE_E_MALFORMED, "audit 6", 0, "the proof's second or third line is none");
    p->index = line.index;
    n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)line.index);
    if ((size_t)n != number.len || memcmp(digits, number.at, number.len) != 0)
        return dbe_fail(diag, DBE_E_MALFORMED, "audit 6", 0, "the proof is for another entry than it shows");
    return DBE_OK;
}

static dbe_err get_hashes(struct input *in, struct audit_proof *proof, struct dbe_diag *diag)
{
    struct audit_text t;
    size_t len;

    for (;;) {
        if (!next_line(in, &t))
            return dbe_fail(diag, DBE_E_MALFORMED, "audit 6", 0, "the proof ends before its checkpoint");
        if (t.len == 0)
            return DBE_OK;
        if (proof->count == AUDIT_PROOF_MAX ||
            base_unbase64(t.at, t.len, proof->hash[proof->count], AUDIT_HASH_BYTES, &len) != DBE_OK ||
            len != AUDIT_HASH_BYTES)
            return dbe_fail(diag, DBE_E_MALFORMED, "audit 6", proof->count, "hash %zu of the proof is none",
                            proof->count);
        proof->count++;
    }
}

static dbe_err get_note(struct input *in, struct audit_note *ret, struct dbe_diag *diag)
{
    size_t len;

    if (audit_note_get(in->at, (size_t)(in->end - in->at), ret, &len) != DBE_OK)
        return dbe_fail(diag, DBE_E_MALFORMED, "audit 6", 0, "the proof's checkpoint is none");
    in->at += len;
    return DBE_OK;
}

dbe_err audit_proof_get(const char *text, size_t len, struct audit_proof_file *ret, struct dbe_diag *diag)
{
    struct input in = {text, text + len};
    struct audit_proof_file p = {0};

    p.consistency = begins(&in, consistency_head);
    if (!p.consistency && !begins(&in, inclusion_head))
        return dbe_fail(diag, DBE_E_MALFORMED, "audit 6", 0, "this is no proof of an audit log");
    if (!p.consistency)
        DBE_TRY(get_entry(&in, &p, diag));
    DBE_TRY(get_hashes(&in, &p.proof, diag));
    if (p.consistency)
        DBE_TRY(get_note(&in, &p.older, diag));
    DBE_TRY(get_note(&in, &p.note, diag));
    if (in.at != in.end)
        return dbe_fail(diag, DBE_E_MALFORMED, "audit 6", (size_t)(in.at - text), "something follows the proof");
    *ret = p;
    return DBE_OK;
}

dbe_err audit_proof_verify(const struct audit_proof_file *p, audit_key_fn *key, void *ctx, struct dbe_diag *diag)
{
    const struct audit_checkpoint *old = &p->older.checkpoint, *c = &p->note.checkpoint;
    uint8_t leaf[AUDIT_HASH_BYTES];
    dbe_err err;

    DBE_TRY(audit_note_verify(&p->note, key, ctx, diag));
    if (p->consistency) {
        DBE_TRY(audit_note_verify(&p->older, key, ctx, diag));
        if (strcmp(old->origin, c->origin) != 0)
            return dbe_fail(diag, DBE_E_AUTH, "audit 6", 0, "the checkpoints are of two logs");
        err = audit_verify_consistency(old->size, old->root, c->size, c->root, &p->proof);
    } else {
        DBE_TRY(audit_leaf_hash(p->line.at, p->line.len, leaf));
        err = audit_verify_inclusion(p->index, c->size, leaf, &p->proof, c->root);
    }
    if (err == DBE_E_AUTH || err == DBE_E_MALFORMED)
        return dbe_fail(diag, DBE_E_AUTH, "audit 6", 0, "the proof does not lead to the checkpoint's root");
    return err;
}
