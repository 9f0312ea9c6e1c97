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
    struct audit_scan_end end;
    struct audit_senders *senders;
    struct audit_archived archived; /* size 0: nothing was put away */
    bool archive_told;              /* its record is in the log */
    struct audit_finding cut;       /* what the log lacks at its beginning, and nobody put away */
};

static const char clause[] = "audit 9";

/* ---- points -------------------------------------------------------------------------------------------------- */

/* What is known of the archived part alone cannot be held against anything here. */
static dbe_err add_point(struct verify *v, uint64_t size, const uint8_t *root, const char *anchor)
{
    if (size < v->tree.size)
        return DBE_OK;
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

static dbe_err take_note(struct verify *v, const struct audit_note *note)
{
    struct audit_report *r = v->report;
    uint64_t size = note->checkpoint.size;

    if (size < r->signed_entries)
        audit_found(&r->finding, AUDIT_WRONG_SIGNATURE, size,
                    "checkpoint of %" PRIu64 " entries stands behind one of %" PRIu64, size, r->signed_entries);
    DBE_TRY(judge_note(v, note, "in the log"));
    DBE_TRY(add_point(v, size, note->checkpoint.root, NULL));
    r->signed_entries = size;
    r->checkpoints++;
    return DBE_OK;
}

static dbe_err read_notes(struct verify *v)
{
    struct audit_report *r = v->report;
    struct audit_notes *notes = NULL;
    struct audit_note note;
    struct audit_text text;
    struct dbe_diag why = {0};
    dbe_err err = audit_notes_open(&v->what->place, 0, 0, &notes, v->diag);

    while (err == DBE_OK && (err = audit_notes_next(notes, &note, &text, &why)) == DBE_OK)
        err = take_note(v, &note);
    audit_notes_close(notes);
    if (err == DBE_E_MALFORMED) {
        audit_found(&r->finding, AUDIT_WRONG_SIGNATURE, r->signed_entries,
                    "checkpoint number %" PRIu64 ", after the one of %" PRIu64 " entries, is damaged",
                    r->checkpoints + 1, r->signed_entries);
        return DBE_OK;
    }
    if (err == DBE_E_IO)
        return dbe_fail(v->diag, err, why.clause, why.offset, "%s", why.text);
    return err == DBE_E_NOT_FOUND ? DBE_OK : err;
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
    v->report->archived_anchors += err == DBE_OK && a.size > 0 && a.size < v->report->archived;
    return err;
}

/* ---- what was put away --------------------------------------------------------------------------------------- */

/* The log begins behind entry 0: Device 14 must have signed that, as far as it begins later. */
static void judge_beginning(struct verify *v, dbe_err err, const char *why)
{
    uint64_t first = v->report->archived;

    if (err == DBE_OK && v->archived.size >= first)
        return;
    if (err == DBE_OK)
        audit_found(&v->cut, AUDIT_WRONG_ANCHOR, v->archived.size,
                    "entry %" PRIu64 ": missing, as all from there to %" PRIu64 ": those before it were archived alone",
                    v->archived.size, first - 1);
    else if (err == DBE_E_NOT_FOUND)
        audit_found(&v->cut, AUDIT_WRONG_ANCHOR, 0,
                    "entry 0: missing, as all from there to %" PRIu64 ": Device 14 did not archive them", first - 1);
    else
        audit_found(&v->cut, AUDIT_WRONG_SIGNATURE, 0, "entries 0 to %" PRIu64 " are said to be archived: %.120s",
                    first - 1, why);
}

static dbe_err read_beginning(struct verify *v)
{
    struct dbe_diag why = {0};
    struct audit_base base;

    DBE_TRY(audit_scan_begin(&v->what->place, &v->end, &base, &v->report->finding, v->diag));
    v->tree = base.tree;
    v->good = v->report->archived = base.tree.size;
    if (base.tree.size > 0)
        audit_senders_set_late(v->senders);
    dbe_err err = audit_archived_read(v->what->place.dir, v->what->key, v->what->ctx, &v->archived, &why);
    if (err == DBE_E_NOMEM || err == DBE_E_IO || err == DBE_E_CRYPTO)
        return dbe_fail(v->diag, err, why.clause, why.offset, "%s", why.text);
    if (base.tree.size > 0)
        judge_beginning(v, err, why.text);
    else if (err != DBE_OK && err != DBE_E_NOT_FOUND)
        audit_found(&v->cut, AUDIT_WRONG_SIGNATURE, 0, "the statement of an archive: %.150s", why.text);
    return err == DBE_OK ? add_point(v, v->archived.size, v->archived.root, "the archive") : DBE_OK;
}

/* A statement without its record in the log is half of an archive. */
static void judge_record(struct verify *v)
{
    uint64_t at = v->archived.record;

    if (v->archived.size > 0 && at >= v->tree.size)
        audit_found(&v->report->finding, AUDIT_WRONG_ANCHOR, v->tree.size,
                    "entry %" PRIu64 ": missing, as all from there to %" PRIu64 ": the archive saw them", v->tree.size,
                    at);
    else if (v->archived.size > 0 && !v->archive_told)
        audit_found(&v->report->finding, AUDIT_WRONG_ANCHOR, at,
                    "entry %" PRIu64 ": not the record of the archive of %" PRIu64 " entries", at, v->archived.size);
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
    v->archive_told |= line->index == v->archived.record && line->kind == AUDIT_ARCHIVED &&
                       audit_is_own(v->archived.origin, line->sender);
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
    struct dbe_diag why = {0};

    if (v->count > 0)
        qsort(v->points, v->count, sizeof *v->points, by_size);
    DBE_TRY(compare(v)); /* of an empty log, or of what was put away */
    dbe_err err = audit_scan_more(&v->what->place, on_entry, v, &v->end, &v->report->finding, &why);
    v->report->entries = v->end.entries;
    v->report->torn_bytes = v->end.torn_bytes;
    /* A changed entry breaks the chain behind it: that names it more exactly than the checkpoint that covers it. */
    if (v->points_finding.what != AUDIT_RIGHT &&
        (v->report->finding.what == AUDIT_RIGHT || v->report->finding.entry >= v->points_end))
        v->report->finding = v->points_finding;
    if (err == DBE_E_MALFORMED && v->report->finding.what != AUDIT_RIGHT)
        return DBE_OK;
    if (err != DBE_OK)
        return dbe_fail(v->diag, err, why.clause, why.offset, "%s", why.text);
    judge_end(v);
    judge_record(v);
    return DBE_OK;
}

/* The chain names an entry most exactly, so it is asked before signatures: their finding is kept aside. What is missing
 * at the beginning comes before all of it. */
static dbe_err verify_all(struct verify *v)
{
    struct audit_finding signatures, *f = &v->report->finding;
    dbe_err err = read_beginning(v);

    if (err == DBE_E_MALFORMED && f->what != AUDIT_RIGHT)
        return DBE_OK;
    DBE_TRY(err);
    DBE_TRY(read_notes(v));
    for (size_t i = 0; i < v->what->anchor_count; i++)
        DBE_TRY(read_anchor(v, v->what->anchors[i]));
    signatures = *f;
    *f = (struct audit_finding){0};
    DBE_TRY(pass(v));
    if (f->what == AUDIT_RIGHT || (signatures.what == AUDIT_WRONG_SIGNATURE && f->what == AUDIT_WRONG_ANCHOR))
        *f = signatures.what != AUDIT_RIGHT ? signatures : *f;
    if (v->cut.what != AUDIT_RIGHT)
        *f = v->cut;
    return audit_tree_root(&v->tree, v->report->root);
}

dbe_err audit_verify(const struct audit_verify *what, struct audit_report *ret, struct dbe_diag *diag)
{
    struct audit_report report = {0};
    struct verify *v = base_alloc(1, sizeof *v);

    if (v == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory to verify the log");
    v->what = what;
    v->report = &report;
    v->diag = diag;
    dbe_err err = audit_senders_new(&v->senders);
    if (err == DBE_OK)
        err = verify_all(v);
    audit_senders_free(v->senders);
    base_free(v->points);
    base_free(v);
    if (err == DBE_OK)
        *ret = report;
    return err;
}
