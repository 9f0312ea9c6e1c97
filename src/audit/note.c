/* SPDX-License-Identifier: Apache-2.0
 *
 * note.c - checkpoints as signed notes, and anchors (spec audit 7 and 8).
 *
 * The form is that of C2SP's tlog-checkpoint and signed-note; hash and signature are the mesh's, SHA3-512 and
 * ML-DSA-87. Reading is strict: a note has one spelling.
 */
#include <string.h>

#include "audit/audit.h"

static const char dash[] = "\xe2\x80\x94 "; /* an em dash and a space begin a signature line */
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
    uint8_t both[AUDIT_KEY_ID_BYTES + CRYPTO_MLDSA87_SIG_BYTES];

    memcpy(both, key_id, AUDIT_KEY_ID_BYTES);
    memcpy(both + AUDIT_KEY_ID_BYTES, sig, CRYPTO_MLDSA87_SIG_BYTES);
    DBE_TRY(audit_checkpoint_put(c, out));
    base_buf_fmt(out, "\n%s%s ", dash, c->origin);
    base_base64(out, both, sizeof both);
    base_buf_u8(out, '\n');
    return out->err;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

struct lines {
    const char *at, *end;
    bool bad;
};

/* The next line, without its line feed. */
static struct audit_text next_line(struct lines *s)
{
    const char *feed = s->bad || s->at == s->end ? NULL : memchr(s->at, '\n', (size_t)(s->end - s->at));

    if (feed == NULL) {
        s->bad = true;
        return (struct audit_text){s->at, 0};
    }
    struct audit_text t = {s->at, (size_t)(feed - s->at)};
    s->at = feed + 1;
    return t;
}

static uint64_t number(struct lines *s, struct audit_text t)
{
    uint64_t v = 0;

    if (t.len == 0 || (t.len > 1 && t.at[0] == '0'))
        s->bad = true;
    for (size_t i = 0; i < t.len && !s->bad; i++) {
        unsigned d = (unsigned)(t.at[i] - '0');
        if (d > 9 || v > (UINT64_MAX - d) / 10)
            s->bad = true;
        v = v * 10 + d;
    }
    return v;
}

static void exactly(struct lines *s, struct audit_text t, uint8_t *out, size_t len)
{
    size_t got = 0;

    if (base_unbase64(t.at, t.len, out, len, &got) != DBE_OK || got != len)
        s->bad = true;
}

/* What follows `word` in the line. */
static struct audit_text after(struct lines *s, struct audit_text t, const char *word)
{
    size_t len = strlen(word);

    if (t.len < len || memcmp(t.at, word, len) != 0) {
        s->bad = true;
        return (struct audit_text){t.at, 0};
    }
    return (struct audit_text){t.at + len, t.len - len};
}

static void get_origin(struct lines *s, struct audit_checkpoint *c)
{
    struct audit_text t = next_line(s);

    if (t.len == 0 || t.len >= sizeof c->origin || !base_utf8_valid(t.at, t.len) || memchr(t.at, ' ', t.len) != NULL ||
        memchr(t.at, '+', t.len) != NULL) {
        s->bad = true;
        return;
    }
    memcpy(c->origin, t.at, t.len);
    c->origin[t.len] = '\0';
}

dbe_err audit_note_get(const char *text, size_t len, struct audit_note *ret, size_t *ret_len)
{
    struct lines s = {text, text + len, false};
    struct audit_note n = {0};
    uint8_t both[AUDIT_KEY_ID_BYTES + CRYPTO_MLDSA87_SIG_BYTES];

    get_origin(&s, &n.checkpoint);
    n.checkpoint.size = number(&s, next_line(&s));
    exactly(&s, next_line(&s), n.checkpoint.root, sizeof n.checkpoint.root);
    n.checkpoint.time_ms = number(&s, after(&s, next_line(&s), time_word));
    n.body = (struct audit_text){text, (size_t)(s.at - text)};
    s.bad |= next_line(&s).len != 0;
    struct audit_text sig = after(&s, next_line(&s), dash);
    sig = after(&s, sig, n.checkpoint.origin);
    exactly(&s, after(&s, sig, " "), both, sizeof both);
    if (s.bad)
        return DBE_E_MALFORMED;
    memcpy(n.key_id, both, sizeof n.key_id);
    memcpy(n.sig, both + sizeof n.key_id, sizeof n.sig);
    *ret = n;
    *ret_len = (size_t)(s.at - text);
    return DBE_OK;
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
    struct lines s = {text + BASE_MIN(head, len), text + len, len < head || memcmp(text, anchor_head, head) != 0};
    struct audit_anchor a = {0};
    struct audit_note note;
    size_t note_len;

    a.size = number(&s, next_line(&s));
    exactly(&s, next_line(&s), a.root, sizeof a.root);
    if (!s.bad && s.at != s.end) {
        s.bad |= next_line(&s).len != 0;
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
