/* SPDX-License-Identifier: Apache-2.0
 *
 * audit_prove.c - `dsmil audit prove`: that an entry is in the log, or that the log grew from an older one, as a file.
 *
 * In:   the log's files, and its archive where it is needed    Out: a proof that carries all that its reader needs
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/audit.h"

struct proving {
    struct audit_prover *prover;
    uint64_t index, size;
    bool inclusion;
    struct base_buf line;
};

static dbe_err on_leaf(void *ctx, const struct audit_line *line, const char *bytes, size_t len,
                       const uint8_t leaf[AUDIT_HASH_BYTES])
{
    struct proving *p = ctx;

    if (line->index >= p->size)
        return DBE_OK;
    if (p->inclusion && line->index == p->index)
        base_buf_bytes(&p->line, bytes, len);
    return audit_prover_leaf(p->prover, leaf);
}

/* The two checkpoints that a proof may need: the last, and the one of `from` entries. */
struct found_notes {
    struct base_buf last, older;
};

static dbe_err find_notes(const struct audit_options *o, struct found_notes *ret, struct dbe_diag *diag)
{
    struct audit_notes *notes = NULL;
    struct audit_note n;
    struct audit_text text;
    dbe_err err = audit_notes_open(&o->place, 0, 0, &notes, diag);

    while (err == DBE_OK && (err = audit_notes_next(notes, &n, &text, diag)) == DBE_OK) {
        base_buf_clear(&ret->last);
        base_buf_bytes(&ret->last, text.at, text.len);
        if (o->have_from && n.checkpoint.size == o->from) {
            base_buf_clear(&ret->older);
            base_buf_bytes(&ret->older, text.at, text.len);
        }
    }
    audit_notes_close(notes);
    if (err != DBE_E_NOT_FOUND)
        return err;
    DBE_TRY(ret->last.err);
    DBE_TRY(ret->older.err);
    return ret->last.len > 0 ? DBE_OK : dbe_fail(diag, DBE_E_NOT_FOUND, NULL, 0, "there is no checkpoint yet");
}

static dbe_err plan(const struct audit_options *o, const struct found_notes *notes, struct proving *p,
                    struct audit_proof_file *file, struct dbe_diag *diag)
{
    size_t len;

    DBE_TRY(audit_note_get((const char *)notes->last.data, notes->last.len, &file->note, &len));
    p->size = file->note.checkpoint.size;
    p->inclusion = !o->have_from;
    file->consistency = o->have_from;
    if (o->have_from) {
        if (notes->older.len == 0)
            return dbe_fail(diag, DBE_E_NOT_FOUND, NULL, 0, "there is no checkpoint of %" PRIu64 " entries", o->from);
        return audit_prover_consistency(o->from, p->size, &p->prover);
    }
    file->index = p->index;
    if (p->index >= p->size)
        return dbe_fail(diag, DBE_E_RANGE, NULL, 0, "the last checkpoint covers entries 0 to %" PRIu64 " alone",
                        p->size - 1);
    return audit_prover_inclusion(p->index, p->size, &p->prover);
}

/* One pass over the entries that are there; the tree of those that are not stands for them. */
static dbe_err feed(const struct audit_options *o, struct proving *p, struct dbe_diag *diag)
{
    struct audit_scan_end end;
    struct audit_base base;
    struct audit_finding f = {0};

    DBE_TRY(audit_scan_begin(&o->place, &end, &base, &f, diag));
    dbe_err err = audit_prover_begin(p->prover, &base.tree);
    if (err == DBE_OK && p->inclusion && p->index < base.tree.size)
        err = DBE_E_RANGE;
    if (err == DBE_E_RANGE)
        return dbe_fail(diag, err, NULL, 0, "entries 0 to %" PRIu64 " are archived: give the archive",
                        base.tree.size - 1);
    DBE_TRY(err);
    return audit_scan_more(&o->place, on_leaf, p, &end, &f, diag);
}

static struct audit_text as_text(const struct base_buf *b)
{
    return (struct audit_text){(const char *)b->data, b->len};
}

static dbe_err make_proof(const struct audit_options *o, uint64_t index, struct base_buf *out, struct dbe_diag *diag)
{
    struct proving p = {.index = index};
    struct audit_proof_file file = {0};
    struct found_notes notes = {0};

    base_buf_init(&p.line, AUDIT_LINE_MAX);
    base_buf_init(&notes.last, AUDIT_NOTE_MAX);
    base_buf_init(&notes.older, AUDIT_NOTE_MAX);
    dbe_err err = find_notes(o, &notes, diag);
    if (err == DBE_OK)
        err = plan(o, &notes, &p, &file, diag);
    if (err == DBE_OK)
        err = feed(o, &p, diag);
    if (err == DBE_OK)
        err = audit_prover_finish(p.prover, &file.proof);
    file.line = as_text(&p.line);
    if (err == DBE_OK)
        err = audit_proof_put(&file, as_text(&notes.older), as_text(&notes.last), out);
    audit_prover_free(p.prover);
    base_buf_free(&notes.last);
    base_buf_free(&notes.older);
    base_buf_free(&p.line);
    return err;
}

int cli_audit_prove(struct audit_options *o)
{
    struct base_buf out;
    struct dbe_diag diag = {0};
    uint64_t index = 0;

    if ((o->text == NULL) != o->have_from || (o->text != NULL && !cli_audit_number(o->text, &index)))
        return cli_wrong("audit", "prove needs an entry's number, or --from with the size of a checkpoint");
    base_buf_init(&out, 1 << 20);
    dbe_err err = make_proof(o, index, &out, &diag);
    if (err == DBE_OK && o->out != NULL)
        err = base_file_write(o->out, out.data, out.len, 0644, &diag);
    else if (err == DBE_OK)
        fwrite(out.data, 1, out.len, stdout);
    base_buf_free(&out);
    return err == DBE_OK ? CLI_OK : cli_fail(CLI_FAILED, "audit prove", err, &diag);
}
