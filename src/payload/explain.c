/* SPDX-License-Identifier: Apache-2.0
 *
 * explain.c - messages and records explained as a protocol analyser would: header, verdict, and what follows what. In:
 * any bytes. Out: text for people, or the same as JSON. Opens nothing that is sealed and keeps nothing.
 */
#include "payload/explain.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "codec/wire.h"

enum { JSON_HEX_BYTES = 64 };

/* ---- nodes ------------ */

/* Comma, or indentation. False where nothing more is shown. */
static bool node_begin(struct explain *x)
{
    if (x->lines == EXPLAIN_LINES_MAX || x->depth == EXPLAIN_DEPTH_MAX) {
        x->left_out++;
        return false;
    }
    x->lines++;
    if (!x->json) {
        for (unsigned i = 0; i < x->depth; i++)
            payload_put_text(x->out, "  ");
        return true;
    }
    if (x->filled[x->depth])
        payload_put_u8(x->out, ',');
    x->filled[x->depth] = true;
    return true;
}

static void put_hex(struct explain *x, size_t at, size_t len)
{
    char hex[2 * JSON_HEX_BYTES + 1];
    size_t most = x->json ? (size_t)JSON_HEX_BYTES : (size_t)EXPLAIN_HEX_BYTES, n = BASE_MIN(len, most);
    char text[4 * EXPLAIN_HEX_BYTES] = "";

    base_hex(x->bytes + at, n, hex);
    if (x->json) {
        payload_put_text(x->out, ",\"hex\":");
        payload_put_string(x->out, hex, 2 * n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        (void)snprintf(text + 3 * i, 4, "%.2s ", hex + 2 * i);
    if (len > n)
        memcpy(text + 3 * n - 1, "..", 2);
    payload_put_text(x->out, text);
    for (size_t i = strlen(text); i < 3 * EXPLAIN_HEX_BYTES + 2; i++)
        payload_put_u8(x->out, ' ');
}

/* "0x0010  hex  name  value", without what ends it. */
static void node_head(struct explain *x, size_t at, size_t len, const char *name, const char *value)
{
    char text[64];

    if (x->json) {
        payload_put_text(x->out, "{\"name\":");
        payload_put_string(x->out, name, strlen(name));
        (void)snprintf(text, sizeof text, ",\"offset\":%zu,\"length\":%zu", at, len);
        payload_put_text(x->out, text);
        put_hex(x, at, len);
        payload_put_text(x->out, ",\"value\":");
        payload_put_string(x->out, value, strlen(value));
        return;
    }
    (void)snprintf(text, sizeof text, "0x%04zx  ", at);
    payload_put_text(x->out, text);
    put_hex(x, at, len);
    (void)snprintf(text, sizeof text, "%-16.40s ", name);
    payload_put_text(x->out, text);
    payload_put_text(x->out, value);
}

bool explain_open(struct explain *x, size_t at, size_t len, const char *name, const char *fmt, ...)
{
    char value[EXPLAIN_VALUE_BYTES];
    va_list args;

    if (!node_begin(x))
        return false;
    va_start(args, fmt);
    (void)vsnprintf(value, sizeof value, fmt, args);
    va_end(args);
    node_head(x, at, len, name, value);
    payload_put_text(x->out, x->json ? ",\"fields\":[" : "\n");
    x->depth++;
    if (x->depth < EXPLAIN_DEPTH_MAX)
        x->filled[x->depth] = false;
    return true;
}

void explain_close(struct explain *x)
{
    x->depth--;
    if (x->json)
        payload_put_text(x->out, "]}");
}

void explain_field(struct explain *x, size_t at, size_t len, const char *name, const char *fmt, ...)
{
    char value[EXPLAIN_VALUE_BYTES];
    va_list args;

    if (!node_begin(x))
        return;
    va_start(args, fmt);
    (void)vsnprintf(value, sizeof value, fmt, args);
    va_end(args);
    node_head(x, at, len, name, value);
    payload_put_text(x->out, x->json ? "}" : "\n");
}

void explain_problem(struct explain *x, dbe_err err, const struct dbe_diag *diag, size_t base)
{
    const char *clause = diag->clause != NULL ? diag->clause : "";
    char text[96];

    x->broken = true;
    if (x->lines == EXPLAIN_LINES_MAX)
        x->lines--; /* a problem is always shown */
    if (!node_begin(x))
        return;
    if (!x->json) {
        (void)snprintf(text, sizeof text, "**  %s, %s, at 0x%04zx: ", dbe_err_name(err), clause, base + diag->offset);
        payload_put_text(x->out, text);
        payload_put_text(x->out, diag->text);
        payload_put_u8(x->out, '\n');
        return;
    }
    payload_put_text(x->out, "{\"problem\":");
    payload_put_string(x->out, dbe_err_name(err), strlen(dbe_err_name(err)));
    payload_put_text(x->out, ",\"clause\":");
    payload_put_string(x->out, clause, strlen(clause));
    (void)snprintf(text, sizeof text, ",\"offset\":%zu,\"text\":", base + diag->offset);
    payload_put_text(x->out, text);
    payload_put_string(x->out, diag->text, strlen(diag->text));
    payload_put_u8(x->out, '}');
}

void explain_wrong(struct explain *x, dbe_err err, const char *clause, size_t at, const char *fmt, ...)
{
    struct dbe_diag diag = {.clause = clause, .offset = at};
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(diag.text, sizeof diag.text, fmt, args);
    va_end(args);
    explain_problem(x, err, &diag, 0);
}

void explain_quote(const void *text, size_t len, char out[EXPLAIN_VALUE_BYTES])
{
    struct base_buf b;
    size_t n = BASE_MIN(len, (size_t)EXPLAIN_TEXT_BYTES);

    while (n > 0 && n < len && ((const uint8_t *)text)[n] >> 6 == 2) /* not within a character */
        n--;
    for (;; n = n * 3 / 4) { /* escapes take room: less of the text, then */
        base_buf_init_fixed(&b, out, EXPLAIN_VALUE_BYTES - 8);
        base_json_str(&b, text, n);
        if (b.err == DBE_OK)
            break;
    }
    out[b.len] = '\0';
    if (n < len)
        (void)snprintf(out + b.len, EXPLAIN_VALUE_BYTES - b.len, "...");
}

/* ---- message ------------ */

/* A field of the header, if its bytes are there. */
static bool has(size_t left, size_t at, size_t len)
{
    return at + len <= left;
}

static void explain_flags(struct explain *x, size_t at, uint16_t flags)
{
    static const struct {
        uint16_t mask;
        const char *name;
    } names[] = {
#define FLAG(name, mask, doc) {mask, #name},
#include "schema/flags.def"
#undef FLAG
    };
    char text[EXPLAIN_VALUE_BYTES] = "";
    size_t n = 0;

    for (size_t i = 0; i < BASE_ARRAY_LEN(names); i++)
        if ((flags & names[i].mask) != 0)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n > 0 ? " | " : "", names[i].name);
    if ((flags & ~(unsigned)DBE_FLAG_ALL) != 0)
        (void)snprintf(text + n, sizeof text - n, "%sand 0x%04x, without meaning", n > 0 ? " " : "",
                       flags & ~(unsigned)DBE_FLAG_ALL);
    explain_field(x, at, 2, "flags", "%s", flags == 0 ? "none" : text);
}

/* The fixed header, as far as it is there. */
static void explain_header(struct explain *x, size_t at, size_t left)
{
    const uint8_t *p = x->bytes + at;
    const struct dbe_msg_row *row;

    if (has(left, CODEC_AT_MAGIC, 4))
        explain_field(x, at, 4, "magic", codec_u32(p) == DBE_MAGIC ? "\"DSMI\"" : "not \"DSMI\"");
    if (has(left, CODEC_AT_VERSION, 1))
        explain_field(x, at + CODEC_AT_VERSION, 1, "version", "%u", p[CODEC_AT_VERSION]);
    if (has(left, CODEC_AT_TYPE, 1)) {
        row = dbe_reg_msg(p[CODEC_AT_TYPE]);
        if (row == NULL)
            explain_field(x, at + CODEC_AT_TYPE, 1, "msg_type", "unknown");
        else
            explain_field(x, at + CODEC_AT_TYPE, 1, "msg_type", "%s%s: %s", row->name,
                          row->type != p[CODEC_AT_TYPE] ? " (alias)" : "", row->doc);
    }
    if (has(left, CODEC_AT_FLAGS, 2))
        explain_flags(x, at + CODEC_AT_FLAGS, codec_u16(p + CODEC_AT_FLAGS));
    if (has(left, CODEC_AT_CORRELATION, 8))
        explain_field(x, at + CODEC_AT_CORRELATION, 8, "correlation_id", "0x%016" PRIx64,
                      codec_u64(p + CODEC_AT_CORRELATION));
    if (has(left, CODEC_AT_PAYLOAD_LEN, 8))
        explain_field(x, at + CODEC_AT_PAYLOAD_LEN, 8, "payload_len", "%" PRIu64, codec_u64(p + CODEC_AT_PAYLOAD_LEN));
    if (has(left, CODEC_AT_TLV_LEN, 4))
        explain_field(x, at + CODEC_AT_TLV_LEN, 4, "tlv_len", "%" PRIu32, codec_u32(p + CODEC_AT_TLV_LEN));
    if (has(left, CODEC_AT_RESERVED, 4))
        explain_field(x, at + CODEC_AT_RESERVED, 4, "reserved", "0x%08" PRIx32, codec_u32(p + CODEC_AT_RESERVED));
}

/* What lies behind a header that frames: TLVs up to `stop`, where the first one is broken, and a payload. */
static void explain_body(struct explain *x, size_t at, const struct codec_header *h, size_t end, size_t stop)
{
    size_t area = at + DBE_HEADER_BYTES, payload = area + h->tlv_len, read;
    const struct dbe_msg_row *row = dbe_reg_msg(h->type);

    read = explain_tlvs(x, area, BASE_MIN(BASE_MIN(payload, end), stop));
    if (read < BASE_MIN(payload, end))
        explain_field(x, read, BASE_MIN(payload, end) - read, "not read", "%zu bytes of the TLV area",
                      BASE_MIN(payload, end) - read);
    if (payload >= end && h->payload_len > 0)
        return;
    if (payload + h->payload_len > end || row == NULL)
        explain_field(x, payload, BASE_MIN(end - payload, (size_t)h->payload_len), "payload", "%zu of %u bytes%s",
                      BASE_MIN(end - payload, (size_t)h->payload_len), h->payload_len,
                      row == NULL ? " of an unknown message" : "");
    else
        explain_payload(x, payload_desc_of(row->type), payload, h->payload_len);
}

size_t explain_message(struct explain *x, size_t at, size_t left)
{
    const uint8_t *p = x->bytes + at;
    struct codec_header h = {0};
    struct dbe_diag diag = {0};
    struct dbe_msg msg;
    size_t len = left, stop = SIZE_MAX;
    const struct dbe_msg_row *row = left > CODEC_AT_TYPE ? dbe_reg_msg(p[CODEC_AT_TYPE]) : NULL;
    bool framed = left >= DBE_HEADER_BYTES && codec_header_read(p, true, &h, NULL) == DBE_OK;
    dbe_err err;

    if (framed)
        len = BASE_MIN(left, DBE_HEADER_BYTES + (size_t)h.tlv_len + h.payload_len);
    err = dbe_msg_decode(p, len, &msg, &diag);
    if (!explain_open(x, at, len, "message", "%s, %zu bytes%s", row != NULL ? row->name : "of no known type", len,
                      err != DBE_OK ? ", broken" : ""))
        return len;
    explain_header(x, at, left);
    if (err != DBE_OK && diag.offset >= DBE_HEADER_BYTES)
        stop = at + diag.offset;
    if (framed)
        explain_body(x, at, &h, at + len, stop);
    if (err != DBE_OK)
        explain_problem(x, err, &diag, at);
    explain_close(x);
    return BASE_MAX(len, (size_t)1);
}

/* ---- all of it ------------ */

/* No record is long enough for a first byte above 1, and no message begins with one below "D". */
bool explain_is_record(const uint8_t *p, size_t left)
{
    return left > 0 && p[0] <= DBE_RECORD_MAX_BYTES >> 24;
}

bool explain_all(const uint8_t *bytes, size_t len, bool json, struct payload_out *out)
{
    struct explain x = {.out = out, .bytes = bytes, .len = len, .json = json};
    char text[64];

    if (json)
        payload_put_text(out, "{\"items\":[");
    for (size_t at = 0; at < len && x.left_out == 0;)
        at += explain_is_record(bytes + at, len - at) ? explain_record(&x, at, len - at)
                                                      : explain_message(&x, at, len - at);
    if (len == 0)
        explain_wrong(&x, DBE_E_MALFORMED, "spec 3.1", 0, "there are no bytes");
    if (json) {
        (void)snprintf(text, sizeof text, "],\"left_out\":%zu,\"broken\":%s}\n", x.left_out,
                       x.broken ? "true" : "false");
        payload_put_text(out, text);
    } else if (x.left_out > 0) {
        (void)snprintf(text, sizeof text, "... and more than %d lines\n", EXPLAIN_LINES_MAX);
        payload_put_text(out, text);
    }
    return !x.broken;
}

dbe_err dbe_msg_explain(const void *bytes, size_t len, char *out, size_t cap, size_t *ret_len)
{
    struct payload_out o = {.out = (uint8_t *)out, .cap = cap};

    (void)explain_all(bytes, len, false, &o);
    if (o.len < cap)
        out[o.len] = '\0';
    return payload_finish(&o, "the text", ret_len, NULL);
}
