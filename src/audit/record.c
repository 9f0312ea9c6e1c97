/* SPDX-License-Identifier: Apache-2.0
 *
 * record.c - audit records as bytes: one version, fixed fields, four short texts (spec audit 2).
 *
 * In:   what a service saw, or hostile bytes    Out: bytes, or the record
 * Not:  no meaning is judged here beyond what the format fixes.
 */
#include <string.h>

#include "audit/audit.h"

enum { HAS_LABELS = 1, HAS_REQUEST = 2, HAS_CHANNEL = 4, HAS_ALL = 7 };

static const char channel_label[] = "DSMIL audit channel v1";
static const char batch_label[] = "DSMIL audit batch v1";

static const struct kind_row {
    uint8_t kind;
    bool security;
    const char *name;
} kinds[] = {
#define KIND(name, number, text, security, doc) {number, security, text},
#include "audit/kinds.def"
#undef KIND
};

static const struct kind_row *kind_row(uint8_t kind)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(kinds); i++)
        if (kinds[i].kind == kind)
            return &kinds[i];
    return NULL;
}

const char *audit_kind_name(uint8_t kind)
{
    const struct kind_row *row = kind_row(kind);

    return row != NULL ? row->name : NULL;
}

bool audit_kind_security(uint8_t kind)
{
    const struct kind_row *row = kind_row(kind);

    return row != NULL && row->security;
}

bool audit_kind_own(uint8_t kind)
{
    return kind == AUDIT_MISSING || kind == AUDIT_TORN || kind == AUDIT_ARCHIVED;
}

/* ---- writing ------------------------------------------------------------------------------------------------- */

/* Returns how many bytes it took. */
static size_t put_text(uint8_t *out, struct audit_text t, size_t max)
{
    size_t len = BASE_MIN(t.len, max);

    while (len > 0 && len < t.len && ((unsigned char)t.at[len] & 0xC0) == 0x80)
        len--; /* not within a character */
    if (len > 0 && !base_utf8_valid(t.at, len))
        len = 0;
    out[0] = (uint8_t)len;
    if (len > 0)
        memcpy(out + 1, t.at, len);
    return 1 + len;
}

/* A busy service makes a record with each message: it is put together where it stays. */
size_t audit_record_write(const struct audit_record *r, uint8_t b[AUDIT_RECORD_MAX])
{
    size_t at = AUDIT_RECORD_FIXED;

    memset(b, 0, AUDIT_RECORD_FIXED);
    b[0] = AUDIT_VERSION;
    b[1] = r->kind;
    b[2] = (uint8_t)((r->labelled ? HAS_LABELS : 0) | (r->has_request ? HAS_REQUEST : 0) |
                     (r->has_channel ? HAS_CHANNEL : 0));
    b[3] = r->msg_type;
    base_put_u16(b + 4, r->code);
    if (r->labelled) {
        b[6] = r->classification;
        b[7] = r->roe_level;
        base_put_u32(b + 8, r->compartments);
    }
    base_put_u32(b + 12, r->count);
    base_put_u64(b + 16, r->seq);
    base_put_u64(b + 24, r->time_ms);
    if (r->has_request)
        memcpy(b + 32, r->request_id, sizeof r->request_id);
    if (r->has_channel)
        memcpy(b + 48, r->channel, sizeof r->channel); /* and 8 bytes that are reserved */
    at += put_text(b + at, r->rule, AUDIT_RULE_MAX);
    at += put_text(b + at, r->tenant, AUDIT_TENANT_MAX);
    at += put_text(b + at, r->peer, AUDIT_PEER_MAX);
    at += put_text(b + at, r->detail, AUDIT_DETAIL_MAX);
    return at;
}

dbe_err audit_record_put(const struct audit_record *r, struct base_buf *out)
{
    uint8_t b[AUDIT_RECORD_MAX];

    base_buf_bytes(out, b, audit_record_write(r, b));
    return out->err;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

static dbe_err get_text(struct base_cur *c, size_t max, struct audit_text *ret)
{
    size_t len = base_cur_u8(c);
    const uint8_t *at = base_cur_bytes(c, len);

    if (at == NULL || len > max)
        return DBE_E_MALFORMED;
    if (!base_utf8_valid(at, len))
        return DBE_E_UTF8;
    *ret = (struct audit_text){(const char *)at, len};
    return DBE_OK;
}

static bool zeros(const uint8_t *p, size_t len)
{
    while (len > 0 && *p == 0)
        p++, len--;
    return len == 0;
}

/* What is absent is zero: a record has one spelling. */
static dbe_err check_absent(const struct audit_record *r)
{
    if (!r->labelled && (r->classification != 0 || r->roe_level != 0 || r->compartments != 0))
        return DBE_E_MALFORMED;
    if (!r->has_request && !zeros(r->request_id, sizeof r->request_id))
        return DBE_E_MALFORMED;
    return r->has_channel || zeros(r->channel, sizeof r->channel) ? DBE_OK : DBE_E_MALFORMED;
}

static dbe_err get_fixed(struct base_cur *c, struct audit_record *r)
{
    uint8_t version = base_cur_u8(c), flags;

    if (base_cur_ok(c) && version != AUDIT_VERSION)
        return DBE_E_UNSUPPORTED;
    r->kind = base_cur_u8(c);
    flags = base_cur_u8(c);
    r->labelled = (flags & HAS_LABELS) != 0;
    r->has_request = (flags & HAS_REQUEST) != 0;
    r->has_channel = (flags & HAS_CHANNEL) != 0;
    r->msg_type = base_cur_u8(c);
    r->code = base_cur_u16(c);
    r->classification = base_cur_u8(c);
    r->roe_level = base_cur_u8(c);
    r->compartments = base_cur_u32(c);
    r->count = base_cur_u32(c);
    r->seq = base_cur_u64(c);
    r->time_ms = base_cur_u64(c);
    base_cur_copy(c, r->request_id, sizeof r->request_id);
    base_cur_copy(c, r->channel, sizeof r->channel);
    uint64_t reserved = base_cur_u64(c);
    if (!base_cur_ok(c) || reserved != 0 || (flags & ~HAS_ALL) != 0)
        return DBE_E_MALFORMED;
    return audit_kind_name(r->kind) != NULL ? check_absent(r) : DBE_E_RANGE;
}

dbe_err audit_record_get(const void *bytes, size_t len, struct audit_record *ret, size_t *ret_len)
{
    struct audit_record r = {0};
    struct base_cur c = base_cur_of(bytes, len);

    DBE_TRY(get_fixed(&c, &r));
    DBE_TRY(get_text(&c, AUDIT_RULE_MAX, &r.rule));
    DBE_TRY(get_text(&c, AUDIT_TENANT_MAX, &r.tenant));
    DBE_TRY(get_text(&c, AUDIT_PEER_MAX, &r.peer));
    DBE_TRY(get_text(&c, AUDIT_DETAIL_MAX, &r.detail));
    *ret = r;
    *ret_len = base_cur_offset(&c);
    return DBE_OK;
}

/* ---- binding to a channel ------------------------------------------------------------------------------------ */

dbe_err audit_channel_id(const uint8_t k_log[32], uint8_t ret[AUDIT_CHANNEL_BYTES])
{
    uint8_t mac[AUDIT_HASH_BYTES];

    DBE_TRY(crypto_hmac(k_log, 32, channel_label, sizeof channel_label - 1, mac));
    memcpy(ret, mac, AUDIT_CHANNEL_BYTES);
    return DBE_OK;
}

dbe_err audit_batch_tag(const uint8_t k_log[32], const uint8_t run[AUDIT_RUN_BYTES],
                        const uint8_t nonce[CRYPTO_AEAD_IV_BYTES], const void *records, size_t len,
                        uint8_t ret[AUDIT_TAG_BYTES])
{
    const struct crypto_aead *aead = crypto_suite(CRYPTO_SUITE_1)->aead;
    uint8_t text[sizeof batch_label - 1 + AUDIT_RUN_BYTES], key[AUDIT_HASH_BYTES];
    struct crypto_aead_ctx *ctx = NULL;

    memcpy(text, batch_label, sizeof batch_label - 1);
    memcpy(text + sizeof batch_label - 1, run, AUDIT_RUN_BYTES);
    DBE_TRY(crypto_hmac(k_log, 32, text, sizeof text, key));
    dbe_err err = aead->new_ctx(key, true, &ctx);
    base_wipe(key, sizeof key);
    DBE_TRY(err);
    memcpy(ret, nonce, CRYPTO_AEAD_IV_BYTES);
    err = aead->seal(ctx, nonce, records, len, "", 0, ret + CRYPTO_AEAD_IV_BYTES);
    aead->free_ctx(ctx);
    return err;
}
