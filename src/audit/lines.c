/* SPDX-License-Identifier: Apache-2.0
 *
 * lines.c - the text files of the log, line by line (spec audit 7.3): numbers without leading zeros, base64 with its
 * padding, nothing between the parts.
 *
 * In:   text that nobody vouches for    Out: its parts; or `bad`, and values that mean nothing
 */
#include "audit/lines.h"

#include <string.h>

static const char dash[] = "\xe2\x80\x94 "; /* an em dash and a space begin a signature line */

struct audit_text audit_lines_next(struct audit_lines *s)
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

uint64_t audit_lines_number(struct audit_lines *s, struct audit_text t)
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

void audit_lines_base64(struct audit_lines *s, struct audit_text t, uint8_t *out, size_t len)
{
    size_t got = 0;

    if (base_unbase64(t.at, t.len, out, len, &got) != DBE_OK || got != len)
        s->bad = true;
}

struct audit_text audit_lines_after(struct audit_lines *s, struct audit_text t, const char *word)
{
    size_t len = strlen(word);

    if (t.len < len || memcmp(t.at, word, len) != 0) {
        s->bad = true;
        return (struct audit_text){t.at, 0};
    }
    return (struct audit_text){t.at + len, t.len - len};
}

void audit_lines_origin(struct audit_lines *s, char ret[AUDIT_ORIGIN_MAX])
{
    struct audit_text t = audit_lines_next(s);

    if (t.len == 0 || t.len >= AUDIT_ORIGIN_MAX || !base_utf8_valid(t.at, t.len) || memchr(t.at, ' ', t.len) != NULL ||
        memchr(t.at, '+', t.len) != NULL) {
        s->bad = true;
        return;
    }
    memcpy(ret, t.at, t.len);
    ret[t.len] = '\0';
}

void audit_lines_signature(struct audit_lines *s, const char *origin, uint8_t key_id[AUDIT_KEY_ID_BYTES],
                           uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    uint8_t both[AUDIT_KEY_ID_BYTES + CRYPTO_MLDSA87_SIG_BYTES];

    s->bad |= audit_lines_next(s).len != 0;
    struct audit_text t = audit_lines_after(s, audit_lines_next(s), dash);
    t = audit_lines_after(s, t, origin);
    audit_lines_base64(s, audit_lines_after(s, t, " "), both, sizeof both);
    if (s->bad)
        return;
    memcpy(key_id, both, AUDIT_KEY_ID_BYTES);
    memcpy(sig, both + AUDIT_KEY_ID_BYTES, CRYPTO_MLDSA87_SIG_BYTES);
}

void audit_put_signature(struct base_buf *out, const char *origin, const uint8_t key_id[AUDIT_KEY_ID_BYTES],
                         const uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    uint8_t both[AUDIT_KEY_ID_BYTES + CRYPTO_MLDSA87_SIG_BYTES];

    memcpy(both, key_id, AUDIT_KEY_ID_BYTES);
    memcpy(both + AUDIT_KEY_ID_BYTES, sig, CRYPTO_MLDSA87_SIG_BYTES);
    base_buf_fmt(out, "\n%s%s ", dash, origin);
    base_base64(out, both, sizeof both);
    base_buf_u8(out, '\n');
}
