/* SPDX-License-Identifier: Apache-2.0
 *
 * verify.c - the log held against itself, against its checkpoints, and against what its peers remember.
 *
 * In:   a directory, a way to find keys, anchors    Out: a report with the first thing that is wrong
 *
 * Checkpoints and anchors are points: at this size the tree has this root. They are sorted by size and compared in one
 * pass over the entries.
 */
#include "audit/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct point {
    uint64_t size;
    uint8_t root[AUDIT_HASH_BYTES];
    const char *anchor; /* NULL: a checkpoint of the log's own */
};

struct verify {
    const struct audit_verify *what;
    struct audit_report *report;
    struct dbe_diag *diag;
    struct point *points;
    size_t count, cap, next;
    uint64_t good;                       /* size of the last point that was right */
    struct audit_finding points_finding; /* the first point that is not */
    uint64_t points_end;                 /* its size */
    struct audit_tree tree;
    struct audit_senders *senders;
};

static const char clause[] = "audit 9";

/* ---- points -------------------------------------------------------------------------------------------------- */

static dbe_err add_point(struct verify *v, uint64_t size, const uint8_t *root, const char *anchor)
{
    if (v->count == v->cap) {
        size_t cap = v->cap == 0 ? 64 : v->cap * 2;
        struct point *more = base_realloc(v->points, cap, sizeof *more);
        if (more == NULL)
            return dbe_fail(v->diag, DBE_E_NOMEM, clause, 0, "no memory for %zu checkpoints", cap);
        v->points = more;
        v->cap = cap;
    }
    struct point *p = &v->points[v->count++];
    p->size = size;
    memcpy(p->root, root, sizeof p->root);
    p->anchor = anchor;
    return DBE_OK;
}

static int by_size(const void *a, const void *b)
{
    const struct point *x = a, *y = b;

    return x->size != y->size ? (x->size < y->size ? -1 : 1) : (x->anchor != NULL) - (y->anchor != NULL);
}

dbe_err audit_note_verify(const struct audit_note *note, audit_key_fn *key, void *ctx, struct dbe_diag *diag)
{
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    struct crypto_key *k = NULL;

    DBE_TRY(key(ctx, note->checkpoint.origin, note->key_id, note->checkpoint.time_ms, pk, diag));
    DBE_TRY(crypto_key_from_public(pk, &k));
    dbe_err err = crypto_verify(k, AUDIT_CHECKPOINT_CTX, note->body.at, note->body.len, note->sig, sizeof note->sig);
    crypto_key_free(k);
    return err == DBE_E_AUTH ? dbe_fail(diag, err, clause, 0, "the signature is not the key's") : err;
}

/* A signature that does not hold is a finding; that there was no memory to check it is an error. */
static dbe_err judge_note(struct verify *v, const struct audit_note *note, const char *whose)
{
    struct dbe_diag why = {0};
    dbe_err err = audit_note_verify(note, v->what->key, v->what->ctx, &why);

    if (err == DBE_E_NOMEM || err == DBE_E_CRYPTO)
        return err;
    if (err != DBE_OK)
        audit_found(&v->report->finding, AUDIT_WRONG_SIGNATURE, note->checkpoint.size,
                    "checkpoint of %" PRIu64 " entries (%.60s): %.150s", note->checkpoint.size, whose,
                    why.text[0] != '\0' ? why.text : dbe_err_text(err));
    return DBE_OK;
}

static dbe_err read_notes(struct verify *v, const struct base_buf *notes)
{
    const char *at = (const char *)notes->data, *end = at + notes->len;
    struct audit_report *r = v->report;
    struct audit_note note;
    size_t len;

    while (at < end) {
        if (audit_note_get(at, (size_t)(end - at), &note, &len) != DBE_OK) {
            if (end - at >= AUDIT_NOTE_MAX || end[-1] == '\n')
                audit_found(&r->finding, AUDIT_WRONG_SIGNATURE, r->signed_entries,
                            "checkpoint number %" PRIu64 ", after the one of %" PRIu64 " entries, is damaged",
                            r->checkpoints + 1, r->signed_entries);
            return DBE_OK;
        }
        if (note.checkpoint.size < r->signed_entries)
            audit_found(&r->finding, AUDIT_WRONG_SIGNATURE, note.checkpoint.size,
                        "checkpoint of %" PRIu64 " entries stands behind one of %" PRIu64, note.checkpoint.size,
                        r->signed_entries);
        DBE_TRY(judge_note(v, &note, "in the log"));
        DBE_TRY(add_point(v, note.checkpoint.size, note.checkpoint.root, NULL));
        r->signed_entries = note.checkpoint.size;
        r->checkpoints++;
        at += len;
    }
    return DBE_OK;
}

static dbe_err read_anchor(struct verify *v, const char *path)
{
    struct base_buf text = {0};
    struct audit_anchor a;
    struct audit_note note;
    size_t len;
    dbe_err err = base_file_read(path, AUDIT_ANCHOR_MAX_BYTES, &text, v->diag);

    if (err == DBE_OK && audit_anchor_get((const char *)text.data, text.len, &a) != DBE_OK)
        err = dbe_fail(v->diag, DBE_E_MALFORMED, clause, 0, "%.120s is no anchor", path);
    if (err == DBE_OK && a.size > 0)
        err = add_point(v, a.size, a.root, path);
    if (err == DBE_OK && a.has_note)
        err = audit_note_get(a.note.at, a.note.len, &note, &len);
    if (err == DBE_OK && a.has_note)
        err = judge_note(v, &note, path);
    if (err == DBE_OK && a.has_note && note.checkpoint.size > 0)
        err = add_point(v, note.checkpoint.size, note.checkpoint.root, path);
    base_buf_free(&text);
    v->report->anchors += err == DBE_OK;
    return err;
}

/* ---- the pass ------------------------------------------------------------------------------------------------ */

static void differ(struct verify *v, const struct point *p)
{
    char whose[96] = "a checkpoint";

    if (v->points_finding.what != AUDIT_RIGHT)
        return;
    v->points_end = p->size;
    if (p->anchor != NULL)
        snprintf(whose, sizeof whose, "%.90s", p->anchor);
    if (p->size == v->good)
        audit_found(&v->points_finding, AUDIT_WRONG_ANCHOR, v->good,
                    "%s knows another tree of %" PRIu64 " entries than the checkpoints", whose, p->size);
    else if (p->size == v->good + 1)
        audit_found(&v->points_finding, p->anchor != NULL ? AUDIT_WRONG_ANCHOR : AUDIT_WRONG_CHAIN, v->good,
                    "entry %" PRIu64 ": not the one that %s covers", v->good, whose);
    else
        audit_found(&v->points_finding, p->anchor != NULL ? AUDIT_WRONG_ANCHOR : AUDIT_WRONG_CHAIN, v->good,
                    "entries %" PRIu64 " to %" PRIu64 ": one of them or more is not what %s covers", v->good,
                    p->size - 1, whose);
}

static dbe_err compare(struct verify *v)
{
    uint8_t root[AUDIT_HASH_BYTES];

    if (v->next == v->count || v->points[v->next].size != v->tree.size)
        return DBE_OK;
    DBE_TRY(audit_tree_root(&v->tree, root));
    for (; v->next < v->count && v->points[v->next].size == v->tree.size; v->next++) {
        const struct point *p = &v->points[v->next];
        if (memcmp(root, p->root, sizeof root) == 0)
            v->good = p->size;
        else
            differ(v, p);
    }
    return DBE_OK;
}

static dbe_err on_entry(void *ctx, const struct audit_line *line, const char *text, size_t len,
                        const uint8_t leaf[AUDIT_HASH_BYTES])
{
    struct verify *v = ctx;
    uint64_t missing;

    (void)text, (void)len;
    DBE_TRY(audit_tree_add(&v->tree, leaf));
    if (audit_senders_judge(v->senders, line->sender, line->run, line->kind, line->seq, line->count, &missing) ==
        AUDIT_AGAIN)
        audit_found(&v->report->finding, AUDIT_WRONG_CHAIN, line->index,
                    "entry %" PRIu64 ": number %" PRIu64 " of its sender stands twice", line->index, line->seq);
    v->report->missing += missing;
    v->report->gaps += line->kind == AUDIT_GAP ? line->count : 0;
    return compare(v);
}

/* Points beyond the end: the log was longer once. */
static void judge_end(struct verify *v)
{
    uint64_t have = v->tree.size;
    const struct point *far = NULL;

    for (size_t i = v->next; i < v->count; i++)
        if (v->points[i].size > have)
            far = &v->points[i];
    if (far != NULL)
        audit_found(&v->report->finding, AUDIT_WRONG_ANCHOR, have,
                    "entry %" PRIu64 ": missing, as all from there to %" PRIu64 ": %s saw them", have, far->size - 1,
                    far->anchor != NULL ? far->anchor : "a checkpoint");
}

static dbe_err pass(struct verify *v)
{
    struct audit_scan_end end;
    struct dbe_diag why = {0};

    if (v->count > 0)
        qsort(v->points, v->count, sizeof *v->points, by_size);
    DBE_TRY(compare(v)); /* of an empty log */
    dbe_err err = audit_scan(v->what->dir, on_entry, v, &end, &v->report->finding, &why);
    v->report->entries = end.entries;
    v->report->torn_bytes = end.torn_bytes;
    /* A changed entry breaks the chain behind it: that names it more exactly than the checkpoint that covers it. */
    if (v->points_finding.what != AUDIT_RIGHT &&
        (v->report->finding.what == AUDIT_RIGHT || v->report->finding.entry >= v->points_end))
        v->report->finding = v->points_finding;
    if (err == DBE_E_MALFORMED && v->report->finding.what != AUDIT_RIGHT)
        return DBE_OK;
    if (err != DBE_OK)
        return dbe_fail(v->diag, err, why.clause, why.offset, "%s", why.text);
    judge_end(v);
    return DBE_OK;
}

/* The chain names an entry most exactly, so it is asked before signatures: their finding is kept aside. */
static dbe_err verify_all(struct verify *v, const struct base_buf *notes)
{
    struct audit_finding signatures;

    DBE_TRY(read_notes(v, notes));
    for (size_t i = 0; i < v->what->anchor_count; i++)
        DBE_TRY(read_anchor(v, v->what->anchors[i]));
    signatures = v->report->finding;
    v->report->finding = (struct audit_finding){0};
    DBE_TRY(pass(v));
    if (v->report->finding.what == AUDIT_RIGHT ||
        (signatures.what == AUDIT_WRONG_SIGNATURE && v->report->finding.what == AUDIT_WRONG_ANCHOR))
        v->report->finding = signatures.what != AUDIT_RIGHT ? signatures : v->report->finding;
    return audit_tree_root(&v->tree, v->report->root);
}

dbe_err audit_verify(const struct audit_verify *what, struct audit_report *ret, struct dbe_diag *diag)
{
    struct audit_report report = {0};
    struct base_buf notes = {0};
    struct verify *v = base_alloc(1, sizeof *v);

    if (v == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory to verify the log");
    v->what = what;
    v->report = &report;
    v->diag = diag;
    dbe_err err = audit_senders_new(&v->senders);
    if (err == DBE_OK)
        err = audit_read_checkpoints(what->dir, &notes, diag);
    if (err == DBE_OK)
        err = verify_all(v, &notes);
    base_buf_free(&notes);
    audit_senders_free(v->senders);
    base_free(v->points);
    base_free(v);
    if (err == DBE_OK)
        *ret = report;
    return err;
}
