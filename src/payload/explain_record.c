/* SPDX-License-Identifier: Apache-2.0
 *
 * explain_record.c - records explained: header, and of a handshake what is in the clear (docs/spec/dbe-v1.md, sections
 * 5 and 6). In: any bytes. Opens nothing: what is sealed is shown as sealed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "codec/wire.h"
#include "crypto/crypto.h"
#include "dbe/policy.h"
#include "payload/explain.h"

enum {
    REC_AT_TYPE = 4,
    REC_AT_EPOCH = 5,
    REC_AT_RESERVED = 6,
    REC_AT_SEQUENCE = 8,
    NONCE_BYTES = 32,
    REGISTRY_BYTES = 32,
    MSG1_FIXED_BYTES = 1 + 1 + NONCE_BYTES + REGISTRY_BYTES + DBE_POLICY_DIGEST_BYTES,
    MSG2_FIXED_BYTES = 1 + 2 + NONCE_BYTES,
    HANDSHAKE_MAX = DBE_HANDSHAKE_MAX_BYTES - DBE_RECORD_HEADER_BYTES,
    TAG = DBE_RECORD_TAG_BYTES,
    ALERT_BYTES = 2,
};

static void body_msg1(struct explain *x, size_t at, size_t len);
static void body_msg2(struct explain *x, size_t at, size_t len);
static void body_alert(struct explain *x, size_t at, size_t len);

/* The table of spec 5.3. */
static const struct rec_kind {
    uint8_t type;
    bool clear; /* epoch and sequence are zero */
    uint32_t min, max;
    const char *name;
    void (*body)(struct explain *x, size_t at, size_t len); /* NULL: sealed */
} kinds[] = {
    {0x01, true, MSG1_FIXED_BYTES, HANDSHAKE_MAX, "message 1 of a handshake", body_msg1},
    {0x02, true, MSG2_FIXED_BYTES, HANDSHAKE_MAX, "message 2 of a handshake", body_msg2},
    {0x03, true, 2 + 2 + CRYPTO_MLDSA87_SIG_BYTES + CRYPTO_HASH_BYTES + TAG, HANDSHAKE_MAX, "message 3 of a handshake",
     NULL},
    {0x10, false, TAG, DBE_MESSAGE_MAX_BYTES + TAG, "DATA", NULL},
    {0x11, false, 1 + TAG, 1 + TAG, "REKEY", NULL},
    {0x12, false, TAG, TAG, "CLOSE", NULL},
    {0x13, false, DBE_RECORD_HEADER_BYTES + ALERT_BYTES + TAG, DBE_HANDSHAKE_MAX_BYTES + TAG, "REHANDSHAKE", NULL},
    {0x14, false, 1 + TAG, 1 + TAG, "SWITCH", NULL},
    {0x20, true, ALERT_BYTES, ALERT_BYTES, "alert", body_alert},
};

static const struct rec_kind *kind_of(uint8_t type)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(kinds); i++)
        if (kinds[i].type == type)
            return &kinds[i];
    return NULL;
}

static const char *suite_name(uint16_t id)
{
    const struct crypto_suite *suite = crypto_suite(id);

    return suite != NULL ? suite->name : "a suite that this build does not have";
}

/* What is left when a body ends early. */
static void cut(struct explain *x, size_t at, size_t end, const char *what)
{
    explain_field(x, at, end - at, "not read", "%zu bytes: %s is not all there", end - at, what);
    explain_wrong(x, DBE_E_MALFORMED, "spec 6.10", at, "%s is not all there", what);
}

/* One offered share; returns where the next begins, `end` where it is cut. */
static size_t share(struct explain *x, size_t at, size_t end)
{
    const uint8_t *p = x->bytes + at;
    const struct crypto_suite *suite;
    size_t len;

    if (end - at < 4 || (len = codec_u16(p + 2)) > end - at - 4) {
        cut(x, at, end, "a share");
        return end;
    }
    suite = crypto_suite(codec_u16(p));
    if (explain_open(x, at, 4 + len, "share", "0x%04x, %s", codec_u16(p), suite_name(codec_u16(p)))) {
        if (suite != NULL && len == suite->ecdh->pub_bytes + suite->kem->ek_bytes) {
            explain_field(x, at + 4, suite->ecdh->pub_bytes, "public value", "%s", suite->ecdh->name);
            explain_field(x, at + 4 + suite->ecdh->pub_bytes, suite->kem->ek_bytes, "encapsulation", "key of %s",
                          suite->kem->name);
        } else {
            explain_field(x, at + 4, len, "share", "%zu bytes", len);
            if (suite != NULL)
                explain_wrong(x, DBE_E_MALFORMED, "spec 6.10", at + 2, "a share of %zu bytes for %s", len, suite->name);
        }
        explain_close(x);
    }
    return at + 4 + len;
}

static void body_msg1(struct explain *x, size_t at, size_t len)
{
    const uint8_t *p = x->bytes + at;
    size_t end = at + len, next = at + MSG1_FIXED_BYTES;
    size_t registry = 2 + NONCE_BYTES, policy = registry + REGISTRY_BYTES;
    char digest[2 * DBE_POLICY_DIGEST_BYTES + 1];
    unsigned shares = 0;

    explain_field(x, at, 1, "version", "%u of the handshake", p[0]);
    explain_field(x, at + 1, 1, "suites", "%u offered", p[1]);
    explain_field(x, at + 2, NONCE_BYTES, "nonce", "of the initiator");
    explain_field(x, at + registry, REGISTRY_BYTES, "registry hash", "%s",
                  memcmp(p + registry, dbe_registry_hash, REGISTRY_BYTES) == 0 ? "the same as ours"
                                                                               : "another registry than ours");
    base_hex(p + policy, DBE_POLICY_DIGEST_BYTES, digest);
    explain_field(x, at + policy, DBE_POLICY_DIGEST_BYTES, "policy digest", "%s", digest);
    for (; shares < p[1] && next < end; shares++) /* a body of this length ends them, whatever p[1] says */
        next = share(x, next, end);
    if (next < end || shares < p[1])
        cut(x, next, end, "the list of shares");
}

static void body_msg2(struct explain *x, size_t at, size_t len)
{
    const uint8_t *p = x->bytes + at;
    const struct crypto_suite *suite = len >= 3 ? crypto_suite(codec_u16(p + 1)) : NULL;
    size_t end = at + len, clear = MSG2_FIXED_BYTES, pub = at + MSG2_FIXED_BYTES, ct;

    if (suite != NULL)
        clear += suite->ecdh->pub_bytes + suite->kem->ct_bytes;
    if (len < clear) {
        cut(x, at, end, "message 2");
        return;
    }
    explain_field(x, at, 1, "version", "%u of the handshake", p[0]);
    explain_field(x, at + 1, 2, "suite", "0x%04x, %s", codec_u16(p + 1), suite_name(codec_u16(p + 1)));
    explain_field(x, at + 3, NONCE_BYTES, "nonce", "of the responder");
    if (suite == NULL) {
        explain_field(x, pub, end - pub, "rest", "%zu bytes", end - pub);
        return;
    }
    ct = pub + suite->ecdh->pub_bytes;
    explain_field(x, pub, suite->ecdh->pub_bytes, "public value", "%s", suite->ecdh->name);
    explain_field(x, ct, suite->kem->ct_bytes, "ciphertext", "of %s", suite->kem->name);
    explain_field(x, at + clear, len - clear, "auth block", "sealed, %zu bytes", len - clear);
}

static void body_alert(struct explain *x, size_t at, size_t len)
{
    uint16_t code = len >= ALERT_BYTES ? codec_u16(x->bytes + at) : 0;
    const struct dbe_err_row *row = dbe_reg_err(code);

    explain_field(x, at, len, "error", "%u, %s; not authenticated", code, row != NULL ? row->name : "no row");
}

/* The header judged as clause 5.4 says, with the state left aside. */
static dbe_err judge(const uint8_t *p, const struct rec_kind *kind, struct dbe_diag *diag)
{
    uint32_t length = codec_u32(p);

    if (kind == NULL)
        return dbe_fail(diag, DBE_E_PROTOCOL, "spec 5.4", REC_AT_TYPE, "no record type 0x%02x", p[REC_AT_TYPE]);
    if (length > kind->max)
        return dbe_fail(diag, DBE_E_TOO_LARGE, "spec 5.4", 0, "%" PRIu32 " bytes of %s, %" PRIu32 " are the most",
                        length, kind->name, kind->max);
    if (length < kind->min)
        return dbe_fail(diag, DBE_E_MALFORMED, "spec 5.4", 0, "%" PRIu32 " bytes of %s, %" PRIu32 " are the least",
                        length, kind->name, kind->min);
    if (codec_u16(p + REC_AT_RESERVED) != 0)
        return dbe_fail(diag, DBE_E_MALFORMED, "spec 5.4", REC_AT_RESERVED, "reserved bytes are not zero");
    if (kind->clear && (p[REC_AT_EPOCH] != 0 || codec_u64(p + REC_AT_SEQUENCE) != 0))
        return dbe_fail(diag, DBE_E_MALFORMED, "spec 5.4", REC_AT_EPOCH, "%s has an epoch or a sequence", kind->name);
    return DBE_OK;
}

static void record_head(struct explain *x, size_t at, const struct rec_kind *kind)
{
    const uint8_t *p = x->bytes + at;

    explain_field(x, at, 4, "length", "%" PRIu32, codec_u32(p));
    explain_field(x, at + REC_AT_TYPE, 1, "type", "%s", kind != NULL ? kind->name : "unknown");
    explain_field(x, at + REC_AT_EPOCH, 1, "epoch", "%u", p[REC_AT_EPOCH]);
    explain_field(x, at + REC_AT_RESERVED, 2, "reserved", "0x%04x", codec_u16(p + REC_AT_RESERVED));
    explain_field(x, at + REC_AT_SEQUENCE, 8, "sequence", "%" PRIu64, codec_u64(p + REC_AT_SEQUENCE));
}

/* Body of a record whose header is good; `there` bytes of it came. */
static void record_body(struct explain *x, size_t at, size_t there, size_t length, const struct rec_kind *kind)
{
    if (there < length) {
        explain_field(x, at, there, "body", "%zu of %zu bytes", there, length);
        explain_wrong(x, DBE_E_CLOSED, "spec 5.12", at, "the record is cut: %zu bytes are missing", length - there);
    } else if (kind->body != NULL) {
        kind->body(x, at, length);
    } else {
        explain_field(x, at, length, "body", "sealed: %zu bytes and a tag of %d", length - TAG, TAG);
    }
}

size_t explain_record(struct explain *x, size_t at, size_t left)
{
    const uint8_t *p = x->bytes + at;
    const struct rec_kind *kind = left >= DBE_RECORD_HEADER_BYTES ? kind_of(p[REC_AT_TYPE]) : NULL;
    struct dbe_diag diag = {0};
    size_t len = left, there;
    dbe_err err;

    if (left < DBE_RECORD_HEADER_BYTES) {
        explain_field(x, at, left, "not read", "%zu bytes", left);
        explain_wrong(x, DBE_E_MALFORMED, "spec 5.2", at, "%zu bytes are no header of a record", left);
        return left;
    }
    err = judge(p, kind, &diag);
    if (err == DBE_OK)
        len = BASE_MIN(left, DBE_RECORD_HEADER_BYTES + (size_t)codec_u32(p));
    there = len - DBE_RECORD_HEADER_BYTES;
    if (!explain_open(x, at, len, "record", "%s, %zu bytes%s", kind != NULL ? kind->name : "of no known type", len,
                      err != DBE_OK ? ", broken" : ""))
        return len;
    record_head(x, at, kind);
    if (err == DBE_OK)
        record_body(x, at + DBE_RECORD_HEADER_BYTES, there, codec_u32(p), kind);
    else
        explain_problem(x, err, &diag, at);
    explain_close(x);
    return len; /* of what cannot be framed, all of it */
}
