/* SPDX-License-Identifier: Apache-2.0
 *
 * json.h - reading JSON (RFC 8259) token by token, strictly. In: any text. Does not allocate and builds no tree.
 * Private to this room.
 */
#ifndef PAYLOAD_JSON_H
#define PAYLOAD_JSON_H

#include "base/base.h"
#include "dbe/payload.h"

struct payload_out;

struct json {
    const uint8_t *text;
    size_t at, len;
    size_t token; /* where what was read last began: offset of an error */
    bool broken;  /* payload_json_more found neither a comma nor the end */
    struct dbe_diag *diag;
};

/* "field: what", or "JSON: what" where `field` (static, may be NULL) is not known. Returns `err`. */
dbe_err payload_json_fail(const struct json *j, dbe_err err, const char *field, const char *what);
/* Size and UTF-8 of all of it, so that nothing below has to look at either. */
dbe_err payload_json_begin(struct json *j) DBE_MUST_CHECK;
void payload_json_space(struct json *j);
/* Next character that is no white space, not taken; '\0' at the end. */
char payload_json_peek(struct json *j);
/* Take that character if it is `c`. */
bool payload_json_take(struct json *j, char c);
/* Is there one more element before `close`? Takes the comma, or `close`; *first starts true. Sets j->broken. */
bool payload_json_more(struct json *j, char close, bool *first);

/* A string; E_MALFORMED, E_UTF8. Decoded into `out`. */
dbe_err payload_json_string(struct json *j, const char *field, struct payload_out *out) DBE_MUST_CHECK;
/* A short string, NUL-terminated; one that does not fit is cut, for it names nothing of ours. */
dbe_err payload_json_name(struct json *j, char *ret, size_t cap) DBE_MUST_CHECK;
/* A string of base64, decoded. E_RANGE: no string, or no base64. */
dbe_err payload_json_base64(struct json *j, const char *field, struct payload_out *out) DBE_MUST_CHECK;
/* The characters of a number, NUL-terminated. E_RANGE: no number, or a longer one. */
dbe_err payload_json_number(struct json *j, const char *field, char ret[DBE_PAYLOAD_NUMBER_MAX + 1]) DBE_MUST_CHECK;
/* Takes true or false. */
bool payload_json_bool(struct json *j, bool *ret);
bool payload_json_null(struct json *j);
/* Step over one value, whatever it is, at most `depth` brackets deep. */
dbe_err payload_json_skip(struct json *j, unsigned depth) DBE_MUST_CHECK;

#endif
