/* SPDX-License-Identifier: Apache-2.0
 *
 * base.c - where a segment begins (spec audit 4.8): what its reader must know of the entries before it, so that they
 * may be elsewhere; and what Device 14 signs when it has put them there (spec audit 10).
 *
 * In:   text that nobody vouches for    Out: a tree of N leaves and the hash of the last; a statement
 * Not:  it is right only if a root that was signed comes of it: that is for the caller to find out.
 */
#include "audit/lines.h"
#include "audit/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BASE_FILE_MAX = 64 * 1024 };

static const char base_head[] = "dsmil-audit-base v1";

void audit_base_put(const struct audit_base *b, struct base_buf *out)
{
    base_buf_fmt(out, "%s\n%" PRIu64 "\n", base_head, b->tree.size);
    base_base64(out, b->last, sizeof b->last);
    base_buf_str(out, "\n");
    for (unsigned k = 0; k < 64; k++)
        if ((b->tree.size >> k & 1) != 0) {
            base_base64(out, b->tree.node[k], AUDIT_HASH_BYTES);
            base_buf_str(out, "\n");
        }
}

dbe_err audit_base_get(const char *text, size_t len, struct audit_base *ret, size_t *ret_len)
{
    struct audit_lines s = {text, text + len, false};
    struct audit_base b = {0};

    s.bad |= audit_lines_after(&s, audit_lines_next(&s), base_head).len != 0;
    b.tree.size = audit_lines_number(&s, audit_lines_next(&s));
    audit_lines_base64(&s, audit_lines_next(&s), b.last, sizeof b.last);
    for (unsigned k = 0; k < 64 && !s.bad; k++)
        if ((b.tree.size >> k & 1) != 0)
            audit_lines_base64(&s, audit_lines_next(&s), b.tree.node[k], AUDIT_HASH_BYTES);
    if (s.bad)
        return DBE_E_MALFORMED;
    *ret = b;
    *ret_len = (size_t)(s.at - text);
    return DBE_OK;
}

dbe_err audit_base_read(const char *dir, uint64_t first, struct audit_base *ret, struct dbe_diag *diag)
{
    char path[AUDIT_PATH_MAX];
    struct base_buf text = {0};
    struct audit_base b;
    size_t len;

    DBE_TRY(audit_file_path(dir, AUDIT_FILE_BASE, first, path));
    dbe_err err = base_file_read(path, BASE_FILE_MAX, &text, diag);
    if (err == DBE_OK && (audit_base_get((const char *)text.data, text.len, &b, &len) != DBE_OK || len != text.len ||
                          b.tree.size != first))
        err = dbe_fail(diag, DBE_E_MALFORMED, "audit 4.8", 0, "%.120s is not where a segment begins", path);
    base_buf_free(&text);
    if (err == DBE_OK)
        *ret = b;
    return err;
}

/* ---- the statement of an archive -------------------------------------------------------------------------------- */

static void put_body(const struct audit_archived *a, struct base_buf *out)
{
    base_buf_fmt(out, "%s\narchived %" PRIu64 "\n", a->origin, a->size);
    base_base64(out, a->root, sizeof a->root);
    base_buf_fmt(out, "\nrecord %" PRIu64 "\ntime %" PRIu64 "\n", a->record, a->time_ms);
}

dbe_err audit_archived_put(const struct audit_archived *a, const struct audit_signer *signer, struct base_buf *out)
{
    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES];

    put_body(a, out);
    DBE_TRY(out->err);
    DBE_TRY(signer->sign(signer->ctx, AUDIT_ARCHIVE_CTX, out->data, out->len, sig));
    audit_put_signature(out, a->origin, signer->key_id, sig);
    return out->err;
}

dbe_err audit_archived_get(const char *text, size_t len, struct audit_archived *ret)
{
    struct audit_lines s = {text, text + len, false};
    struct audit_archived a = {0};

    audit_lines_origin(&s, a.origin);
    a.size = audit_lines_number(&s, audit_lines_after(&s, audit_lines_next(&s), "archived "));
    audit_lines_base64(&s, audit_lines_next(&s), a.root, sizeof a.root);
    a.record = audit_lines_number(&s, audit_lines_after(&s, audit_lines_next(&s), "record "));
    a.time_ms = audit_lines_number(&s, audit_lines_after(&s, audit_lines_next(&s), "time "));
    a.body_len = (size_t)(s.at - text);
    audit_lines_signature(&s, a.origin, a.key_id, a.sig);
    if (s.bad || s.at != s.end || a.record < a.size)
        return DBE_E_MALFORMED;
    *ret = a;
    return DBE_OK;
}

dbe_err audit_archived_read(const char *dir, audit_key_fn *key, void *ctx, struct audit_archived *ret,
                            struct dbe_diag *diag)
{
    char path[AUDIT_PATH_MAX];
    struct base_buf text = {0};
    struct audit_archived a;

    if (snprintf(path, sizeof path, "%s/archived", dir) >= (int)sizeof path)
        return dbe_fail(diag, DBE_E_ARGUMENT, "audit 10", 0, "the directory's path is too long");
    dbe_err err = base_file_read(path, AUDIT_NOTE_MAX, &text, diag);
    if (err == DBE_OK && audit_archived_get((const char *)text.data, text.len, &a) != DBE_OK)
        err = dbe_fail(diag, DBE_E_MALFORMED, "audit 10", 0, "%.120s is no statement of an archive", path);
    if (err == DBE_OK)
        err = audit_signed(AUDIT_ARCHIVE_CTX, a.origin, a.time_ms, a.key_id, text.data, a.body_len, a.sig, key, ctx,
                           diag);
    base_buf_free(&text);
    if (err == DBE_OK)
        *ret = a;
    return err;
}

/* Device 14's own id: spiffe://MESH/l<layer>/audit/14, for the origin MESH/audit/14. */
bool audit_is_own(const char *origin, struct audit_text sender)
{
    static const char scheme[] = "spiffe://";
    const char *slash = strchr(origin, '/');
    size_t mesh = slash != NULL ? (size_t)(slash - origin) : 0, tail = slash != NULL ? strlen(slash) : 0;
    size_t head = sizeof scheme - 1 + mesh;

    if (slash == NULL || sender.len <= head + 2 + tail || memcmp(sender.at, scheme, sizeof scheme - 1) != 0 ||
        memcmp(sender.at + sizeof scheme - 1, origin, mesh) != 0 || memcmp(sender.at + head, "/l", 2) != 0 ||
        memcmp(sender.at + sender.len - tail, slash, tail) != 0)
        return false;
    return memchr(sender.at + head + 2, '/', sender.len - tail - head - 2) == NULL;
}
