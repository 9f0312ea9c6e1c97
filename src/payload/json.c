/* SPDX-License-Identifier: Apache-2.0
 *
 * json.c - reading JSON (RFC 8259) token by token, strictly. In: any text. Does not allocate, builds no tree and knows
 * no schema.
 */
#include "payload/json.h"

#include <string.h>

#include "payload/wire.h"

dbe_err payload_json_fail(const struct json *j, dbe_err err, const char *field, const char *what)
{
    return dbe_fail(j->diag, err, field != NULL ? field : "RFC 8259", j->token, "%s: %s",
                    field != NULL ? field : "JSON", what);
}

dbe_err payload_json_begin(struct json *j)
{
    if (j->len > DBE_PAYLOAD_JSON_MAX_BYTES)
        return payload_json_fail(j, DBE_E_TOO_LARGE, NULL, "the text is too large");
    if (base_utf8_valid(j->text, j->len))
        return DBE_OK;
    for (size_t step = 1; step <= BASE_MIN(j->len - j->token, 4);) /* character by character to the bad one */
        if (base_utf8_valid(j->text + j->token, step)) {
            j->token += step;
            step = 1;
        } else {
            step++;
        }
    return payload_json_fail(j, DBE_E_UTF8, NULL, "is not UTF-8, or holds a zero byte");
}

void payload_json_space(struct json *j)
{
    while (j->at < j->len && (j->text[j->at] == ' ' || j->text[j->at] == '\n' || j->text[j->at] == '\t' ||
                              j->text[j->at] == '\r'))
        j->at++;
    j->token = j->at;
}

char payload_json_peek(struct json *j)
{
    payload_json_space(j);
    return j->at < j->len ? (char)j->text[j->at] : '\0';
}

bool payload_json_take(struct json *j, char c)
{
    if (payload_json_peek(j) != c)
        return false;
    j->at++;
    return true;
}

bool payload_json_more(struct json *j, char close, bool *first)
{
    if (payload_json_take(j, close))
        return false;
    if (*first) {
        *first = false;
        return true;
    }
    if (payload_json_take(j, ',')) {
        if (payload_json_peek(j) != close) /* no comma before the end */
            return true;
    }
    j->broken = true;
    return false;
}

/* ---- strings ------------ */

/* Four hex digits at j->at; 0x10000 where there are none. */
static uint32_t hex4(struct json *j)
{
    char text[5] = "";
    uint8_t v[2];

    if (j->len - j->at < 4)
        return 0x10000;
    memcpy(text, j->text + j->at, 4);
    if (base_unhex(text, v, 2) != DBE_OK)
        return 0x10000;
    j->at += 4;
    return base_get_u16(v);
}

static void put_utf8(struct payload_out *out, uint32_t c)
{
    if (c < 0x80) {
        payload_put_u8(out, (uint8_t)c);
        return;
    }
    if (c < 0x800) {
        payload_put_u8(out, (uint8_t)(0xC0 | c >> 6));
    } else {
        if (c < 0x10000) {
            payload_put_u8(out, (uint8_t)(0xE0 | c >> 12));
        } else {
            payload_put_u8(out, (uint8_t)(0xF0 | c >> 18));
            payload_put_u8(out, (uint8_t)(0x80 | (c >> 12 & 63)));
        }
        payload_put_u8(out, (uint8_t)(0x80 | (c >> 6 & 63)));
    }
    payload_put_u8(out, (uint8_t)(0x80 | (c & 63)));
}

/* What follows "\u". */
static dbe_err put_unicode(struct json *j, const char *field, struct payload_out *out)
{
    uint32_t c = hex4(j), low;

    if (c > 0xFFFF)
        return payload_json_fail(j, DBE_E_MALFORMED, field, "\\u takes four hex digits");
    if (c == 0)
        return payload_json_fail(j, DBE_E_UTF8, field, "text cannot hold U+0000");
    if (c >= 0xD800 && c <= 0xDFFF) {
        if (c > 0xDBFF || j->len - j->at < 2 || memcmp(j->text + j->at, "\\u", 2) != 0)
            return payload_json_fail(j, DBE_E_UTF8, field, "half a surrogate pair");
        j->at += 2;
        low = hex4(j);
        if (low < 0xDC00 || low > 0xDFFF)
            return payload_json_fail(j, DBE_E_UTF8, field, "half a surrogate pair");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    put_utf8(out, c);
    return DBE_OK;
}

static dbe_err put_escaped(struct json *j, const char *field, struct payload_out *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *at;

    if (j->at == j->len)
        return payload_json_fail(j, DBE_E_MALFORMED, field, "a string does not end");
    if (j->text[j->at] == 'u') {
        j->at++;
        return put_unicode(j, field, out);
    }
    at = strchr(from, (char)j->text[j->at]);
    if (at == NULL)
        return payload_json_fail(j, DBE_E_MALFORMED, field, "an escape that JSON does not have");
    payload_put_u8(out, (uint8_t)to[at - from]);
    j->at++;
    return DBE_OK;
}

dbe_err payload_json_string(struct json *j, const char *field, struct payload_out *out)
{
    if (!payload_json_take(j, '"'))
        return payload_json_fail(j, DBE_E_RANGE, field, "takes a text");
    while (j->at < j->len) {
        size_t run = j->at;
        while (j->at < j->len && j->text[j->at] >= 0x20 && j->text[j->at] != '"' && j->text[j->at] != '\\')
            j->at++;
        payload_put(out, j->text + run, j->at - run);
        if (j->at == j->len)
            break;
        switch (j->text[j->at++]) {
        case '"': return DBE_OK;
        case '\\': DBE_TRY(put_escaped(j, field, out)); break;
        default: return payload_json_fail(j, DBE_E_MALFORMED, field, "a control character in a string");
        }
    }
    return payload_json_fail(j, DBE_E_MALFORMED, field, "a string does not end");
}

dbe_err payload_json_name(struct json *j, char *ret, size_t cap)
{
    struct payload_out out = {.out = (uint8_t *)ret, .cap = cap - 1};

    if (payload_json_peek(j) != '"')
        return payload_json_fail(j, DBE_E_MALFORMED, NULL, "a name in quotes is missing");
    DBE_TRY(payload_json_string(j, NULL, &out));
    ret[BASE_MIN(out.len, cap - 1)] = '\0';
    return DBE_OK;
}

/* ---- base64 ------------ */

/* Value of a digit, 64 for "=", 65 for anything else. */
static uint32_t base64_digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - (uint32_t)'A';
    if (c >= 'a' && c <= 'z')
        return c - (uint32_t)'a' + 26;
    if (c >= '0' && c <= '9')
        return c - (uint32_t)'0' + 52;
    if (c == '+')
        return 62;
    if (c == '/')
        return 63;
    return c == '=' ? 64 : 65;
}

/* Four digits into one to three bytes; how many, 0 if they are none. Bits that are dropped must be zero, so that there
 * is one spelling of each value. */
static size_t base64_four(const uint8_t *p, uint8_t bytes[3])
{
    uint32_t d[4], v;

    for (size_t i = 0; i < 4; i++)
        d[i] = base64_digit(p[i]);
    if (d[0] > 63 || d[1] > 63 || d[2] > 64 || d[3] > 64 || (d[2] == 64 && d[3] != 64))
        return 0;
    v = d[0] << 18 | d[1] << 12 | (d[2] & 63) << 6 | (d[3] & 63);
    bytes[0] = (uint8_t)(v >> 16);
    bytes[1] = (uint8_t)(v >> 8);
    bytes[2] = (uint8_t)v;
    if (d[2] == 64)
        return bytes[1] == 0 ? 1 : 0;
    if (d[3] == 64)
        return bytes[2] == 0 ? 2 : 0;
    return 3;
}

dbe_err payload_json_base64(struct json *j, const char *field, struct payload_out *out)
{
    uint8_t bytes[3];

    if (!payload_json_take(j, '"'))
        return payload_json_fail(j, DBE_E_RANGE, field, "takes base64 in quotes");
    while (j->len - j->at >= 4 && j->text[j->at] != '"') {
        size_t got = base64_four(j->text + j->at, bytes);
        if (got == 0)
            return payload_json_fail(j, DBE_E_RANGE, field, "is not base64");
        payload_put(out, bytes, got);
        j->at += 4;
        if (got < 3)
            break;
    }
    if (j->at == j->len || j->text[j->at] != '"')
        return payload_json_fail(j, DBE_E_RANGE, field, "is not base64");
    j->at++;
    return DBE_OK;
}

/* ---- numbers and words ------------ */

static size_t digits(const struct json *j, size_t at)
{
    size_t start = at;

    while (at < j->len && j->text[at] >= '0' && j->text[at] <= '9')
        at++;
    return at - start;
}

/* Length of the number at j->at, 0 if there is none (RFC 8259, section 6). */
static size_t number_len(const struct json *j)
{
    size_t at = j->at, n;

    if (at < j->len && j->text[at] == '-')
        at++;
    n = digits(j, at);
    if (n == 0 || (n > 1 && j->text[at] == '0'))
        return 0;
    at += n;
    if (at < j->len && j->text[at] == '.') {
        n = digits(j, at + 1);
        if (n == 0)
            return 0;
        at += 1 + n;
    }
    if (at < j->len && (j->text[at] == 'e' || j->text[at] == 'E')) {
        at++;
        if (at < j->len && (j->text[at] == '+' || j->text[at] == '-'))
            at++;
        n = digits(j, at);
        if (n == 0)
            return 0;
        at += n;
    }
    return at - j->at;
}

dbe_err payload_json_number(struct json *j, const char *field, char ret[DBE_PAYLOAD_NUMBER_MAX + 1])
{
    size_t len;

    payload_json_space(j);
    len = number_len(j);
    if (len == 0)
        return payload_json_fail(j, DBE_E_RANGE, field, "takes a number");
    if (len > DBE_PAYLOAD_NUMBER_MAX)
        return payload_json_fail(j, DBE_E_RANGE, field, "has a number of too many characters");
    memcpy(ret, j->text + j->at, len);
    ret[len] = '\0';
    j->at += len;
    return DBE_OK;
}

static bool word(struct json *j, const char *text)
{
    size_t len = strlen(text);

    payload_json_space(j);
    if (j->len - j->at < len || memcmp(j->text + j->at, text, len) != 0)
        return false;
    j->at += len;
    return true;
}

bool payload_json_bool(struct json *j, bool *ret)
{
    *ret = word(j, "true");
    return *ret || word(j, "false");
}

bool payload_json_null(struct json *j)
{
    return word(j, "null");
}

/* Step over the elements of an array or the members of an object. */
static dbe_err skip_inside(struct json *j, char close, unsigned depth)
{
    struct payload_out nowhere = {0};

    if (depth == 0)
        return payload_json_fail(j, DBE_E_TOO_LARGE, NULL, "brackets are nested too deeply");
    for (bool first = true; payload_json_more(j, close, &first);) {
        if (close == '}') {
            if (payload_json_peek(j) != '"')
                return payload_json_fail(j, DBE_E_MALFORMED, NULL, "a name in quotes is missing");
            DBE_TRY(payload_json_string(j, NULL, &nowhere));
            if (!payload_json_take(j, ':'))
                return payload_json_fail(j, DBE_E_MALFORMED, NULL, "a name has no value");
        }
        DBE_TRY(payload_json_skip(j, depth - 1));
    }
    return j->broken ? payload_json_fail(j, DBE_E_MALFORMED, NULL, "a comma or a bracket is missing") : DBE_OK;
}

dbe_err payload_json_skip(struct json *j, unsigned depth)
{
    struct payload_out nowhere = {0};
    bool is_true;
    size_t len;

    switch (payload_json_peek(j)) {
    case '{': j->at++; return skip_inside(j, '}', depth);
    case '[': j->at++; return skip_inside(j, ']', depth);
    case '"': return payload_json_string(j, NULL, &nowhere);
    case 't':
    case 'f':
    case 'n':
        if (payload_json_bool(j, &is_true) || payload_json_null(j))
            return DBE_OK;
        break;
    default:
        len = number_len(j);
        j->at += len;
        if (len > 0)
            return DBE_OK;
        break;
    }
    return payload_json_fail(j, DBE_E_MALFORMED, NULL, "no value");
}
