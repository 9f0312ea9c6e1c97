/* SPDX-License-Identifier: Apache-2.0
 *
 * anchor.c - what this service remembers of the audit log, outside the log (spec audit 8): a log that was cut, set back
 * or written anew does not agree with it.
 *
 * In:   heads and checkpoints from acknowledgements    Out: a file, written by a thread of its own
 * Not:  it proves nothing by itself; `dsmil audit verify` does.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/audit.h"

static void write_file(struct svc_anchor *n)
{
    struct dbe_diag diag = {0};

    /* Without a disk there is no anchor; the log's own files say what is wrong with it. */
    (void)!base_file_write(n->path, n->file, n->file_len, 0600, &diag);
}

static void *write_thread(void *ctx)
{
    struct svc_anchor *n = ctx;

    write_file(n);
    atomic_store(&n->busy, false);
    return NULL;
}

/* The thread's copy of what to write, and where. */
static bool prepare(struct svc *svc, const char *suffix)
{
    struct svc_anchor *n = &svc->audit->anchor;
    struct base_buf b;

    if (n->started)
        pthread_join(n->thread, NULL);
    n->started = false;
    base_buf_init_fixed(&b, n->file, sizeof n->file);
    if (audit_anchor_put(&n->now, &b) != DBE_OK)
        return false;
    n->file_len = b.len;
    snprintf(n->path, sizeof n->path, "%s%s", svc->cfg.audit_anchor, suffix);
    return true;
}

static void write_soon(struct svc *svc)
{
    struct svc_anchor *n = &svc->audit->anchor;
    uint64_t now = base_mono_ns();

    if (!n->dirty || atomic_load(&n->busy) || now < n->written_ns + (uint64_t)SVC_ANCHOR_PERIOD_MS * BASE_NS_PER_MS ||
        !prepare(svc, ""))
        return;
    atomic_store(&n->busy, true);
    n->started = pthread_create(&n->thread, NULL, write_thread, n) == 0;
    if (!n->started)
        atomic_store(&n->busy, false);
    n->dirty = !n->started;
    n->written_ns = now;
}

/* The head we knew stays beside the new one, for good: it is the evidence. */
static void conflict(struct svc *svc, uint64_t size)
{
    struct svc_anchor *n = &svc->audit->anchor;
    char words[160];

    snprintf(words, sizeof words, "the log has %llu entries now; this service saw another one of %llu",
             (unsigned long long)size, (unsigned long long)n->now.size);
    svc_audit_event(svc, AUDIT_ANCHOR, DBE_E_AUTH, NULL, 0, words);
    svc_log(svc, SVC_ERROR, NULL, "audit: %s", words);
    if (n->frozen)
        return;
    n->frozen = true;
    if (svc->cfg.audit_anchor[0] != '\0' && prepare(svc, ".conflict") && access(n->path, F_OK) != 0)
        write_file(n);
}

void svc_anchor_take(struct svc *svc, uint64_t size, const uint8_t root[AUDIT_HASH_BYTES], const char *note,
                     size_t note_len)
{
    struct svc_anchor *n = &svc->audit->anchor;
    struct audit_note parsed;
    size_t len;

    if (size < n->now.size || (size == n->now.size && memcmp(root, n->now.root, AUDIT_HASH_BYTES) != 0))
        conflict(svc, size);
    n->dirty |= size != n->now.size;
    n->now.size = size;
    memcpy(n->now.root, root, AUDIT_HASH_BYTES);
    if (note_len > 0 && note_len <= sizeof n->note && audit_note_get(note, note_len, &parsed, &len) == DBE_OK &&
        len == note_len) {
        memcpy(n->note, note, note_len);
        n->now.has_note = true;
        n->now.note = (struct audit_text){n->note, note_len};
        n->note_size = parsed.checkpoint.size;
        n->dirty = true;
    }
    if (svc->cfg.audit_anchor[0] != '\0')
        write_soon(svc);
}

uint64_t svc_anchor_note_size(const struct svc *svc)
{
    return svc->audit->anchor.note_size;
}

/* A file that cannot be read as an anchor is put aside, never overwritten: it may be all that is left. */
dbe_err svc_anchor_open(struct svc *svc)
{
    struct svc_anchor *n = &svc->audit->anchor;
    struct base_buf text = {0};
    struct audit_anchor a;
    struct audit_note parsed;
    struct dbe_diag diag = {0};
    size_t len;

    if (svc->cfg.audit_anchor[0] == '\0')
        return DBE_OK;
    dbe_err err = base_file_read(svc->cfg.audit_anchor, SVC_ANCHOR_FILE_MAX, &text, &diag);
    if (err == DBE_E_NOT_FOUND)
        return DBE_OK;
    if (err == DBE_OK)
        err = audit_anchor_get((const char *)text.data, text.len, &a);
    if (err == DBE_OK) {
        n->now = a;
        if (a.has_note && audit_note_get(a.note.at, a.note.len, &parsed, &len) == DBE_OK) {
            memcpy(n->note, a.note.at, a.note.len);
            n->now.note.at = n->note;
            n->note_size = parsed.checkpoint.size;
        }
    } else {
        snprintf(n->path, sizeof n->path, "%s.damaged", svc->cfg.audit_anchor);
        svc_log(svc, SVC_ERROR, NULL, "the audit anchor %s is damaged; it is kept as %s", svc->cfg.audit_anchor,
                n->path);
        if (rename(svc->cfg.audit_anchor, n->path) != 0)
            err = DBE_E_CONFIG;
    }
    base_buf_free(&text);
    return err == DBE_E_CONFIG || err == DBE_E_NOMEM ? err : DBE_OK;
}

void svc_anchor_close(struct svc *svc)
{
    struct svc_anchor *n = &svc->audit->anchor;

    if (svc->cfg.audit_anchor[0] == '\0')
        return;
    if (prepare(svc, "") && n->dirty)
        write_file(n);
}
