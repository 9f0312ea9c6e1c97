/* SPDX-License-Identifier: Apache-2.0
 *
 * line.c - an entry of the log as a line of JSON (spec audit 3). The bytes of the line are what is hashed, so there is
 * one spelling: keys in a fixed order, no white space, absent things left out.
 *
 * In:   a record and what the log adds; or a line of a log that nobody vouches for
 * Out:  the line; or the front of it, read strictly
 */
#include <string.h>
#include <time.h>

#include "audit/audit.h"
#include "dbe/registry.h"

void audit_time_text(uint64_t unix_ms, char out[32])
{
    static const uint64_t last_ms = UINT64_C(253402300799999); /* the year 9999 ends */
    time_t seconds;
    struct tm tm;

    unix_ms = BASE_MIN(unix_ms, last_ms);
    seconds = (time_t)(unix_ms / 1000);
    if (gmtime_r(&seconds, &tm) == NULL)
        memset(&tm, 0, sizeof tm);
    size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S.", &tm);
    for (unsigned k = 100, left = (unsigned)(unix_ms % 1000); k > 0; left %= k, k /= 10)
        out[n++] = (char)('0' + left / k);
    out[n++] = 'Z';
    out[n] = '\0';
}

/* ---- writing ------------------------------------------------------------------------------------------------- */

/* Numbers and hex by hand: printf would be most of what an entry costs. */
static void put_number(struct base_buf *b, const char *key, uint64_t v)
{
    char digits[20];
    size_t at = sizeof digits;

    do
        digits[--at] = (char)('0' + v % 10);
    while ((v /= 10) != 0);
    base_buf_str(b, key);
    base_buf_bytes(b, digits + at, sizeof digits - at);
}

static void put_hex(struct base_buf *b, const char *key, const uint8_t *data, size_t len)
{
    char hex[2 * AUDIT_HASH_BYTES + 1];

    base_hex(data, len, hex);
    base_buf_str(b, key);
    base_buf_bytes(b, hex, 2 * len);
    base_buf_u8(b, '"');
}

static void put_text(struct base_buf *b, const char *key, struct audit_text t)
{
    if (t.len == 0)
        return;
    base_buf_str(b, key);
    base_json_str(b, t.at, t.len);
}

static void put_name(struct base_buf *b, const char *key, const char *name, uint64_t number)
{
    if (name == NULL) {
        put_number(b, key, number);
        return;
    }
    base_buf_str(b, key);
    base_json_str(b, name, strlen(name));
}

static void put_labels(struct base_buf *b, const struct audit_record *r)
{
    const struct dbe_num_row *c = dbe_reg_classification(r->classification);
    const struct dbe_num_row *roe = dbe_reg_roe(r->roe_level);

    put_number(b, ",\"compartments\":", r->compartments);
    put_name(b, ",\"classification\":", c != NULL ? c->name : NULL, r->classification);
    put_name(b, ",\"roe_level\":", roe != NULL ? roe->name : NULL, r->roe_level);
}

static void put_outcome(struct base_buf *b, const struct audit_record *r)
{
    const char *name = dbe_err_name((dbe_err)r->code);

    if (r->code == 0) {
        base_buf_str(b, r->kind == AUDIT_DECISION ? ",\"outcome\":\"allow\"" : ",\"outcome\":\"ok\"");
        return;
    }
    base_buf_str(b, r->kind == AUDIT_DECISION || r->kind == AUDIT_ANSWER ? ",\"outcome\":\"deny\""
                                                                         : ",\"outcome\":\"failed\"");
    put_name(b, ",\"code\":", name, r->code);
}

static void put_record(struct base_buf *b, const struct audit_record *r)
{
    const struct dbe_msg_row *msg = r->msg_type != 0 ? dbe_reg_msg(r->msg_type) : NULL;
    char uuid[37];

    put_outcome(b, r);
    put_text(b, ",\"rule\":", r->rule);
    if (r->msg_type != 0)
        put_name(b, ",\"msg_type\":", msg != NULL ? msg->name : NULL, r->msg_type);
    put_text(b, ",\"peer\":", r->peer);
    if (r->has_channel)
        put_hex(b, ",\"channel\":\"", r->channel, sizeof r->channel);
    if (r->has_request) {
        base_uuid_text(r->request_id, uuid);
        put_name(b, ",\"request_id\":", uuid, 0);
    }
    put_text(b, ",\"tenant\":", r->tenant);
    if (r->labelled)
        put_labels(b, r);
    put_text(b, ",\"detail\":", r->detail);
}

static void put_time(struct base_buf *b, const char *key, uint64_t ms)
{
    char when[32];

    audit_time_text(ms, when);
    base_buf_str(b, key);
    base_buf_bytes(b, when, AUDIT_TIME_CHARS);
    base_buf_u8(b, '"');
}

dbe_err audit_line_put(const struct audit_entry *e, struct base_buf *out)
{
    size_t before = out->len;
    const char *kind = audit_kind_name(e->record.kind);

    if (kind == NULL)
        return DBE_E_ARGUMENT;
    put_number(out, "{\"v\":", AUDIT_VERSION);
    put_number(out, ",\"index\":", e->index);
    put_hex(out, ",\"prev\":\"", e->prev, sizeof e->prev);
    put_time(out, ",\"stored\":\"", e->stored_ms);
    base_buf_str(out, ",\"sender\":");
    base_json_str(out, e->sender, strlen(e->sender));
    put_hex(out, ",\"run\":\"", e->run, sizeof e->run);
    put_number(out, ",\"seq\":", e->record.seq);
    put_time(out, ",\"time\":\"", e->record.time_ms);
    base_buf_str(out, ",\"kind\":");
    base_json_str(out, kind, strlen(kind));
    put_number(out, ",\"count\":", e->record.count);
    put_record(out, &e->record);
    base_buf_u8(out, '}');
    DBE_TRY(out->err);
    return out->len - before <= AUDIT_LINE_MAX ? DBE_OK : DBE_E_TOO_LARGE;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

struct scan {
    const char *at, *end;
    bool bad;
};

static void want(struct scan *s, const char *text)
{
    size_t len = strlen(text);

    if (s->bad || (size_t)(s->end - s->at) < len || memcmp(s->at, text, len) != 0)
        s->bad = true;
    else
        s->at += len;
}

static uint64_t number(struct scan *s)
{
    uint64_t v = 0;
    const char *from = s->at;

    while (!s->bad && s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        unsigned d = (unsigned)(*s->at++ - '0');
        if (v > (UINT64_MAX - d) / 10)
            s->bad = true;
        v = v * 10 + d;
    }
    if (s->at == from || (*from == '0' && s->at - from > 1))
        s->bad = true;
    return v;
}

static void hex(struct scan *s, uint8_t *out, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    char pair[2];

    for (size_t i = 0; i < len && !s->bad; i++) {
        if (s->end - s->at < 2) {
            s->bad = true;
            return;
        }
        memcpy(pair, s->at, 2);
        const char *hi = memchr(digits, pair[0], 16), *lo = memchr(digits, pair[1], 16);
        if (hi == NULL || lo == NULL) {
            s->bad = true;
            return;
        }
        out[i] = (uint8_t)((hi - digits) << 4 | (lo - digits));
        s->at += 2;
    }
}

/* Up to the next quote; nothing in it needed an escape. */
static struct audit_text plain(struct scan *s)
{
    struct audit_text t = {s->at, 0};

    while (!s->bad && s->at < s->end && *s->at != '"') {
        if (*s->at == '\\' || (unsigned char)*s->at < 0x20)
            s->bad = true;
        s->at++;
    }
    t.len = (size_t)(s->at - t.at);
    return t;
}

static void time_of(struct scan *s)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";

    for (size_t i = 0; i < AUDIT_TIME_CHARS && !s->bad; i++, s->at++) {
        bool fits = s->at < s->end && (form[i] == 'd' ? *s->at >= '0' && *s->at <= '9' : *s->at == form[i]);
        s->bad = !fits;
    }
}

static uint8_t kind_of(struct audit_text name)
{
    for (unsigned k = 1; k < 256; k++) {
        const char *known = audit_kind_name((uint8_t)k);
        if (known != NULL && strlen(known) == name.len && memcmp(known, name.at, name.len) == 0)
            return (uint8_t)k;
    }
    return 0;
}

dbe_err audit_line_get(const char *line, size_t len, struct audit_line *ret, struct dbe_diag *diag)
{
    struct scan s = {line, line + len, len < 2 || line[len - 1] != '}'};
    struct audit_line l = {0};

    want(&s, "{\"v\":1,\"index\":");
    l.index = number(&s);
    want(&s, ",\"prev\":\"");
    hex(&s, l.prev, sizeof l.prev);
    want(&s, "\",\"stored\":\"");
    time_of(&s);
    want(&s, "\",\"sender\":\"");
    l.sender = plain(&s);
    want(&s, "\",\"run\":\"");
    hex(&s, l.run, sizeof l.run);
    want(&s, "\",\"seq\":");
    l.seq = number(&s);
    want(&s, ",\"time\":\"");
    time_of(&s);
    want(&s, "\",\"kind\":\"");
    l.kind = kind_of(plain(&s));
    want(&s, "\",\"count\":");
    l.count = number(&s);
    want(&s, ",\"outcome\":\"");
    if (s.bad || l.kind == 0)
        return dbe_fail(diag, DBE_E_MALFORMED, "audit 3", (size_t)(s.at - line), "it is no line of an audit log");
    *ret = l;
    return DBE_OK;
}
