/* SPDX-License-Identifier: Apache-2.0
 *
 * state.c - what the writer knew at a checkpoint, so that it need not read all that came before again (spec audit 4.9).
 *
 * In:   the log's head and its senders' numbers; or a file that nobody vouches for
 * Out:  a signed file; or the same, once its signature and its tree's root are those of that checkpoint
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "audit/lines.h"
#include "audit/log_priv.h"

enum { STATE_MAX_BYTES = 1024 * 1024 };

static const char state_head[] = "dsmil-audit-state v1";

static dbe_err put(const struct audit_log *log, const struct audit_signer *signer, uint64_t time_ms,
                   struct base_buf *out)
{
    struct audit_base b = {.tree = log->durable.tree};
    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES];

    memcpy(b.last, log->durable.last, sizeof b.last);
    base_buf_fmt(out, "%s\n%s\n", state_head, log->origin);
    audit_base_put(&b, out);
    base_buf_fmt(out, "segment %" PRIu64 "\n", log->segment);
    base_buf_fmt(out, "segment-bytes %" PRIu64 "\n", log->segment_bytes);
    base_buf_fmt(out, "note %" PRIu64 "\n", log->note_at);
    base_buf_fmt(out, "late %d\n", audit_senders_late(log->senders));
    base_buf_fmt(out, "time %" PRIu64 "\n", time_ms);
    audit_senders_put(log->senders, out);
    DBE_TRY(out->err);
    DBE_TRY(signer->sign(signer->ctx, AUDIT_STATE_CTX, out->data, out->len, sig));
    audit_put_signature(out, log->origin, signer->key_id, sig);
    return out->err;
}

dbe_err audit_log_save(struct audit_log *log, const struct audit_signer *signer, uint64_t time_ms,
                       struct dbe_diag *diag)
{
    struct base_buf out;

    if (log->failed || log->note_size != log->durable.tree.size || log->durable.tree.size == 0 ||
        log->note_segment != log->segment)
        return DBE_E_STATE;
    base_buf_init(&out, STATE_MAX_BYTES);
    dbe_err err = put(log, signer, time_ms, &out);
    if (err == DBE_OK)
        err = audit_sys_replace(log->dir, "state", out.data, out.len, diag);
    base_buf_free(&out);
    return err;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

static uint64_t value(struct audit_lines *s, const char *word)
{
    return audit_lines_number(s, audit_lines_after(s, audit_lines_next(s), word));
}

/* "run HEX NEXT SENDER", up to the empty line. */
static dbe_err get_runs(struct audit_lines *s, struct audit_senders *senders)
{
    while (!s->bad && s->at < s->end && *s->at != '\n') {
        struct audit_text t = audit_lines_after(s, audit_lines_next(s), "run ");
        char hex[2 * AUDIT_RUN_BYTES + 1] = {0};
        uint8_t run[AUDIT_RUN_BYTES];
        const char *space = s->bad || t.len < sizeof hex || t.at[sizeof hex - 1] != ' '
                                ? NULL
                                : memchr(t.at + sizeof hex, ' ', t.len - sizeof hex);
        if (space == NULL)
            return DBE_E_MALFORMED;
        memcpy(hex, t.at, sizeof hex - 1);
        DBE_TRY(base_unhex(hex, run, sizeof run));
        struct audit_text digits = {t.at + sizeof hex, (size_t)(space - t.at) - sizeof hex};
        uint64_t next = audit_lines_number(s, digits);
        struct audit_text sender = {space + 1, t.len - (size_t)(space + 1 - t.at)};
        if (s->bad || sender.len > AUDIT_PEER_MAX)
            return DBE_E_MALFORMED;
        audit_senders_restore(senders, sender, run, next);
    }
    return s->bad ? DBE_E_MALFORMED : DBE_OK;
}

dbe_err audit_state_get(const char *text, size_t len, const char *origin, audit_key_fn *key, void *ctx,
                        struct audit_state *ret, struct audit_senders *senders, struct dbe_diag *diag)
{
    struct audit_lines s = {text, text + len, false};
    struct audit_state st = {0};
    uint8_t key_id[AUDIT_KEY_ID_BYTES], sig[CRYPTO_MLDSA87_SIG_BYTES];
    char whose[AUDIT_ORIGIN_MAX] = "";
    size_t base_len = 0;

    s.bad |= audit_lines_after(&s, audit_lines_next(&s), state_head).len != 0;
    audit_lines_origin(&s, whose);
    if (s.bad || strcmp(whose, origin) != 0 ||
        audit_base_get(s.at, (size_t)(s.end - s.at), &st.base, &base_len) != DBE_OK)
        return dbe_fail(diag, DBE_E_MALFORMED, "audit 4.9", 0, "it is no state of this log");
    s.at += base_len;
    st.segment = value(&s, "segment ");
    st.segment_bytes = value(&s, "segment-bytes ");
    st.note_at = value(&s, "note ");
    st.late = value(&s, "late ") != 0;
    uint64_t time_ms = value(&s, "time ");
    if (get_runs(&s, senders) != DBE_OK)
        s.bad = true;
    size_t body = (size_t)(s.at - text);
    audit_lines_signature(&s, origin, key_id, sig);
    if (s.bad || s.at != s.end || st.base.tree.size == 0)
        return dbe_fail(diag, DBE_E_MALFORMED, "audit 4.9", 0, "it is damaged");
    if (st.late)
        audit_senders_set_late(senders);
    DBE_TRY(audit_signed(AUDIT_STATE_CTX, origin, time_ms, key_id, text, body, sig, key, ctx, diag));
    *ret = st;
    return DBE_OK;
}

dbe_err audit_state_read(const struct audit_log_config *c, struct audit_state *ret, struct audit_senders *senders,
                         struct dbe_diag *diag)
{
    char path[AUDIT_PATH_MAX];
    struct base_buf text = {0};

    if (snprintf(path, sizeof path, "%s/state", c->dir) >= (int)sizeof path)
        return DBE_E_TOO_LARGE;
    dbe_err err = base_file_read(path, STATE_MAX_BYTES, &text, diag);
    if (err == DBE_E_NOT_FOUND && diag != NULL)
        diag->text[0] = '\0'; /* nothing to complain of */
    if (err == DBE_OK)
        err = audit_state_get((const char *)text.data, text.len, c->origin, c->key, c->key_ctx, ret, senders, diag);
    base_buf_free(&text);
    return err;
}
