/* SPDX-License-Identifier: Apache-2.0
 *
 * explain_tlv.c - TLVs explained: names of the registries for numbers, and what a value holds inside. In: an area whose
 * TLVs the decoder has found good up to its end. Judges nothing: whether a value may stand is policy.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "codec/wire.h"
#include "crypto/crypto.h"
#include "payload/explain.h"

enum { CLAIM_FIXED_BYTES = 60, CLAIM_AT_LEVELS = 6, CLAIM_AT_MASK = 8, CLAIM_AT_FROM = 12, CLAIM_AT_BINDING = 28 };

/* "SOC | DEV", and bits that no row has. */
static void name_compartments(uint32_t mask, char out[EXPLAIN_VALUE_BYTES])
{
    size_t n = 0;

    out[0] = '\0';
    for (uint32_t bit = 1; bit != 0 && n < EXPLAIN_VALUE_BYTES; bit <<= 1) {
        const struct dbe_num_row *row = (mask & bit) != 0 ? dbe_reg_compartment(bit) : NULL;
        if (row != NULL)
            n += (size_t)snprintf(out + n, EXPLAIN_VALUE_BYTES - n, "%s%s", n > 0 ? " | " : "", row->name);
    }
    if ((mask & ~(uint32_t)DBE_COMPARTMENT_ALL) != 0)
        (void)snprintf(out + n, EXPLAIN_VALUE_BYTES - n, "%sbits of no row: 0x%08" PRIx32, n > 0 ? ", " : "",
                       mask & ~(uint32_t)DBE_COMPARTMENT_ALL);
    else if (mask == 0)
        (void)snprintf(out, EXPLAIN_VALUE_BYTES, "none");
}

static void name_time(uint64_t unix_ms, char out[EXPLAIN_VALUE_BYTES])
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm tm = {0};

    if (unix_ms >> 48 != 0 || gmtime_r(&seconds, &tm) == NULL)
        (void)snprintf(out, EXPLAIN_VALUE_BYTES, "%" PRIu64 " ms", unix_ms);
    else
        (void)snprintf(out, EXPLAIN_VALUE_BYTES, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", tm.tm_year + 1900,
                       tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned)(unix_ms % 1000));
}

static void name_device(uint8_t id, char out[EXPLAIN_VALUE_BYTES])
{
    const struct dbe_device_row *row = dbe_reg_device(id);

    (void)snprintf(out, EXPLAIN_VALUE_BYTES, "%u, %s", id, row != NULL ? row->title : "no such device");
}

static const char *num_name(const struct dbe_num_row *row)
{
    return row != NULL ? row->name : "no row of the registry";
}

static void name_layers(const uint8_t *p, size_t len, char out[EXPLAIN_VALUE_BYTES])
{
    size_t n = 0;

    for (size_t i = 0; i < len && n < EXPLAIN_VALUE_BYTES; i++) {
        const struct dbe_layer_row *row = dbe_reg_layer(p[i]);
        n += (size_t)snprintf(out + n, EXPLAIN_VALUE_BYTES - n, "%s%u %s", i > 0 ? " > " : "", p[i],
                              row != NULL ? row->name : "?");
    }
}

static void name_trace(const uint8_t *p, char out[EXPLAIN_VALUE_BYTES])
{
    char trace[33], parent[17];

    base_hex(p + 1, 16, trace);
    base_hex(p + 17, 8, parent);
    (void)snprintf(out, EXPLAIN_VALUE_BYTES, "%02x-%s-%s-%02x", p[0], trace, parent, p[25]);
}

static void name_bytes(const uint8_t *p, size_t len, char out[EXPLAIN_VALUE_BYTES])
{
    char hex[65];

    base_hex(p, BASE_MIN(len, (size_t)32), hex);
    (void)snprintf(out, EXPLAIN_VALUE_BYTES, "%zu bytes: %s%s", len, hex, len > 32 ? "..." : "");
}

/* By kind, where a type has no words of its own. */
static void name_by_kind(const struct dbe_tlv_row *row, const uint8_t *p, size_t len, char out[EXPLAIN_VALUE_BYTES])
{
    switch (row->kind) {
    case DBE_TLV_KIND_U8: (void)snprintf(out, EXPLAIN_VALUE_BYTES, "%u", p[0]); return;
    case DBE_TLV_KIND_U16: (void)snprintf(out, EXPLAIN_VALUE_BYTES, "%u", codec_u16(p)); return;
    case DBE_TLV_KIND_U32: (void)snprintf(out, EXPLAIN_VALUE_BYTES, "%" PRIu32, codec_u32(p)); return;
    case DBE_TLV_KIND_U64: (void)snprintf(out, EXPLAIN_VALUE_BYTES, "%" PRIu64, codec_u64(p)); return;
    case DBE_TLV_KIND_UUID: base_uuid_text(p, out); return;
    case DBE_TLV_KIND_TEXT: explain_quote(p, len, out); return;
    case DBE_TLV_KIND_HOPS: (void)snprintf(out, EXPLAIN_VALUE_BYTES, "%zu hops", len / DBE_HOP_BYTES); return;
    default: name_bytes(p, len, out); return;
    }
}

/* What the value of a known type means. */
static void name_value(const struct dbe_tlv_row *row, const uint8_t *p, size_t len, char out[EXPLAIN_VALUE_BYTES])
{
    switch (row->type) {
    case DBE_TLV_COMPARTMENT_MASK: name_compartments(codec_u32(p), out); return;
    case DBE_TLV_CLASSIFICATION:
        (void)snprintf(out, EXPLAIN_VALUE_BYTES, "%u, %s", p[0], num_name(dbe_reg_classification(p[0])));
        return;
    case DBE_TLV_ROE_LEVEL:
        (void)snprintf(out, EXPLAIN_VALUE_BYTES, "%u, %s", p[0], num_name(dbe_reg_roe(p[0])));
        return;
    case DBE_TLV_DEVICE_ID_SRC:
    case DBE_TLV_DEVICE_ID_DST: name_device(p[0], out); return;
    case DBE_TLV_LAYER_PATH: name_layers(p, len, out); return;
    case DBE_TLV_TIMESTAMP: name_time(codec_u64(p) >> 16, out); return;
    case DBE_TLV_TIMEOUT_MS: (void)snprintf(out, EXPLAIN_VALUE_BYTES, "%" PRIu32 " ms", codec_u32(p)); return;
    case DBE_TLV_TRACE_CONTEXT: name_trace(p, out); return;
    default: name_by_kind(row, p, len, out); return;
    }
}

/* Each record of a HOP_TRACE. */
static void explain_hops(struct explain *x, size_t at, size_t len)
{
    char name[EXPLAIN_VALUE_BYTES];

    for (size_t i = 0; i + DBE_HOP_BYTES <= len; i += DBE_HOP_BYTES) {
        const uint8_t *p = x->bytes + at + i;
        const struct crypto_suite *suite = crypto_suite(codec_u16(p + 5));
        name_device(p[0], name);
        explain_field(x, at + i, DBE_HOP_BYTES, "hop", "device %.64s; %" PRIu32 " us; suite 0x%04x, %s", name,
                      codec_u32(p + 1), codec_u16(p + 5), suite != NULL ? suite->name : "unknown");
    }
}

/* A text of a claim: a length, and as many bytes. Returns what follows, 0 if it does not fit. */
static size_t explain_claim_text(struct explain *x, size_t at, size_t end, const char *name)
{
    char text[EXPLAIN_VALUE_BYTES];
    size_t len;

    if (at >= end || (len = x->bytes[at]) > end - at - 1)
        return 0;
    explain_quote(x->bytes + at + 1, len, text);
    explain_field(x, at, 1 + len, name, "%s", text);
    return at + 1 + len;
}

/* The clear fields of a claim token (spec 10.2). Whether it is true is not for us to say. */
static void explain_claim(struct explain *x, size_t at, size_t len)
{
    const uint8_t *p = x->bytes + at;
    char from[EXPLAIN_VALUE_BYTES], to[EXPLAIN_VALUE_BYTES], mask[EXPLAIN_VALUE_BYTES];
    size_t end = at + len, next;

    if (len < CLAIM_FIXED_BYTES || memcmp(p, "DCLM", 4) != 0)
        return;
    name_compartments(codec_u32(p + CLAIM_AT_MASK), mask);
    name_time(codec_u64(p + CLAIM_AT_FROM), from);
    name_time(codec_u64(p + CLAIM_AT_FROM + 8), to);
    explain_field(x, at + 4, 2, "version, flags", "%u, %s", p[4], (p[5] & 1) != 0 ? "exercise" : "none");
    explain_field(x, at + CLAIM_AT_LEVELS, 1, "ROE levels", "0x%02x", p[CLAIM_AT_LEVELS]);
    explain_field(x, at + CLAIM_AT_LEVELS + 1, 1, "classification", "%u, %s", p[CLAIM_AT_LEVELS + 1],
                  num_name(dbe_reg_classification(p[CLAIM_AT_LEVELS + 1])));
    explain_field(x, at + CLAIM_AT_MASK, 4, "compartments", "%s", mask);
    explain_field(x, at + CLAIM_AT_FROM, 16, "window", "%.32s to %.32s", from, to);
    explain_field(x, at + CLAIM_AT_BINDING, 32, "channel binding", "of the one channel that it is good for");
    next = explain_claim_text(x, at + CLAIM_FIXED_BYTES, end, "tenant");
    if (next > 0)
        next = explain_claim_text(x, next, end, "client");
    if (next > 0)
        explain_field(x, next, end - next, "signature", "%zu bytes, not checked here", end - next);
}

static void explain_tlv(struct explain *x, size_t at, uint16_t type, size_t len)
{
    const struct dbe_tlv_row *row = dbe_reg_tlv(type);
    size_t value = at + DBE_TLV_HEADER_BYTES;
    char text[EXPLAIN_VALUE_BYTES] = "", name[32];

    if (row == NULL) {
        (void)snprintf(name, sizeof name, "TLV 0x%04x", type);
        name_bytes(x->bytes + value, len, text);
        explain_field(x, at, DBE_TLV_HEADER_BYTES + len, name, "unknown, %s; %s",
                      (type & CODEC_CRITICAL_BIT) != 0 ? "critical" : "kept when forwarded", text);
        return;
    }
    name_value(row, x->bytes + value, len, text);
    if (type != DBE_TLV_HOP_TRACE && type != DBE_TLV_L7_CLAIM_TOKEN) {
        explain_field(x, at, DBE_TLV_HEADER_BYTES + len, row->name, "%s", text);
    } else if (explain_open(x, at, DBE_TLV_HEADER_BYTES + len, row->name, "%s", text)) {
        if (type == DBE_TLV_HOP_TRACE)
            explain_hops(x, value, len);
        else
            explain_claim(x, value, len);
        explain_close(x);
    }
}

size_t explain_tlvs(struct explain *x, size_t at, size_t end)
{
    while (at < end && end - at >= DBE_TLV_HEADER_BYTES) {
        uint16_t type = codec_u16(x->bytes + at);
        size_t len = codec_u16(x->bytes + at + 2);
        const char *clause;
        if (len > end - at - DBE_TLV_HEADER_BYTES ||
            codec_tlv_check(codec_rule_of(type), x->bytes + at + DBE_TLV_HEADER_BYTES, len, &clause) != DBE_OK)
            break; /* where the message was refused for its length, the decoder has not looked at these */
        explain_tlv(x, at, type, len);
        at += DBE_TLV_HEADER_BYTES + len;
    }
    return at;
}
