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

/* ---- writing ------------------------------------------------------------------------------------------------- */

static void put_text(struct base_buf *out, struct audit_text t, size_t max)
{
    size_t len = BASE_MIN(t.len, max);

    while (len > 0 && len < t.len && ((unsigned char)t.at[len] & 0xC0) == 0x80)
        len--; /* not within a character */
    if (len > 0 && !base_utf8_valid(t.at, len))
        len = 0;
    base_buf_u8(out, (uint8_t)len);
    if (len > 0)
        base_buf_bytes(out, t.at, len);
}

dbe_err audit_record_put(const struct audit_record *r, struct base_buf *out)
{
    static const uint8_t none[16] = {0};

    base_buf_u8(out, AUDIT_VERSION);
    base_buf_u8(out, r->kind);
    base_buf_u8(out, (uint8_t)((r->labelled ? HAS_LABELS : 0) | (r->has_request ? HAS_REQUEST : 0) |
                               (r->has_channel ? HAS_CHANNEL : 0)));
    base_buf_u8(out, r->msg_type);
    base_buf_u16(out, r->code);
    base_buf_u8(out, r->labelled ? r->classification : 0);
    base_buf_u8(out, r->labelled ? r->roe_level : 0);
    base_buf_u32(out, r->labelled ? r->compartments : 0);
    base_buf_u32(out, r->count);
    base_buf_u64(out, r->seq);
    base_buf_u64(out, r->time_ms);
    base_buf_bytes(out, r->has_request ? r->request_id : none, sizeof r->request_id);
    base_buf_bytes(out, r->has_channel ? r->channel : none, sizeof r->channel);
    base_buf_u64(out, 0); /* reserved */
    put_text(out, r->rule, AUDIT_RULE_MAX);
    put_text(out, r->tenant, AUDIT_TENANT_MAX);
    put_text(out, r->peer, AUDIT_PEER_MAX);
    put_text(out, r->detail, AUDIT_DETAIL_MAX);
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

dbe_err audit_batch_tag(const uint8_t k_log[32], const uint8_t run[AUDIT_RUN_BYTES], const void *records, size_t len,
                        uint8_t ret[AUDIT_HASH_BYTES])
{
    uint8_t text[sizeof batch_label - 1 + AUDIT_RUN_BYTES + AUDIT_HASH_BYTES];
    size_t at = sizeof batch_label - 1;

    memcpy(text, batch_label, at);
    memcpy(text + at, run, AUDIT_RUN_BYTES);
    DBE_TRY(crypto_sha3_512(records, len, text + at + AUDIT_RUN_BYTES)); /* the records need not be copied */
    return crypto_hmac(k_log, 32, text, sizeof text, ret);
}
