/* SPDX-License-Identifier: Apache-2.0
 *
 * record_test.c - audit records and lines: there and back, one spelling, hostile bytes (spec audit 2 and 3).
 */
#include <stddef.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

#include "audit/audit.h"
#include "dbe/registry.h"

#define T(s)                                                                                                           \
    (struct audit_text)                                                                                                \
    {                                                                                                                  \
        s, sizeof(s) - 1                                                                                               \
    }

static struct audit_record sample(void)
{
    struct audit_record r = {.kind = AUDIT_DECISION,
                             .seq = 7,
                             .time_ms = UINT64_C(1800000000123),
                             .code = DBE_E_CLASSIFICATION,
                             .msg_type = DBE_MSG_L7_CHAT_REQ,
                             .labelled = true,
                             .classification = DBE_CLSF_UNCLAS,
                             .roe_level = DBE_ROE_ANALYSIS_ONLY,
                             .compartments = DBE_COMPARTMENT_SOC,
                             .has_request = true,
                             .has_channel = true,
                             .rule = T("classification"),
                             .tenant = T("LOCAL"),
                             .peer = T("spiffe://m/l7/shim/0"),
                             .detail = T("above the ceiling of \"the\" claim")};
    memset(r.request_id, 0x11, sizeof r.request_id);
    memset(r.channel, 0x22, sizeof r.channel);
    return r;
}

static void same_text(struct audit_text a, struct audit_text b)
{
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.at, b.at, a.len);
}

/* spec audit 2.1 */
static void record_there_and_back(void **state)
{
    struct audit_record r = sample(), back;
    uint8_t again[AUDIT_RECORD_MAX];
    struct base_buf b, c;
    size_t len;

    (void)state;
    base_buf_init(&b, 4096);
    assert_int_equal(audit_record_put(&r, &b), DBE_OK);
    assert_int_equal(audit_record_get(b.data, b.len, &back, &len), DBE_OK);
    assert_int_equal(len, b.len);
    assert_int_equal(back.seq, 7);
    assert_int_equal(back.code, DBE_E_CLASSIFICATION);
    same_text(back.rule, r.rule);
    same_text(back.detail, r.detail);
    base_buf_init_fixed(&c, again, sizeof again);
    assert_int_equal(audit_record_put(&back, &c), DBE_OK);
    assert_int_equal(c.len, b.len);
    assert_memory_equal(c.data, b.data, b.len);
    base_buf_free(&b);
}

/* spec audit 2.2 and 2.3: every cut is refused, and so is every other spelling of absent things */
static void record_hostile(void **state)
{
    struct audit_record r = sample(), back;
    struct base_buf b;
    size_t len;

    (void)state;
    base_buf_init(&b, 4096);
    assert_int_equal(audit_record_put(&r, &b), DBE_OK);
    for (size_t n = 0; n < b.len; n++)
        assert_int_not_equal(audit_record_get(b.data, n, &back, &len), DBE_OK);
    b.data[0] = 2;
    assert_int_equal(audit_record_get(b.data, b.len, &back, &len), DBE_E_UNSUPPORTED);
    b.data[0] = 1;
    b.data[1] = 200;
    assert_int_equal(audit_record_get(b.data, b.len, &back, &len), DBE_E_RANGE);
    b.data[1] = AUDIT_DECISION;
    b.data[2] = 0; /* no labels, no request, no channel; their fields are not zero */
    assert_int_equal(audit_record_get(b.data, b.len, &back, &len), DBE_E_MALFORMED);
    b.data[2] = 0x0F;
    assert_int_equal(audit_record_get(b.data, b.len, &back, &len), DBE_E_MALFORMED);
    b.data[2] = 7;
    b.data[AUDIT_RECORD_FIXED + 1] = 0xC0; /* no UTF-8 */
    assert_int_equal(audit_record_get(b.data, b.len, &back, &len), DBE_E_UTF8);
    base_buf_free(&b);
}

/* spec audit 2.4: words give way, the record does not */
static void record_cuts_words(void **state)
{
    char big[300];
    struct audit_record r = {.kind = AUDIT_MALFORMED, .detail = {big, sizeof big}, .rule = {"\xff\xfe", 2}}, back;
    struct base_buf b;
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof big; i += 2)
        memcpy(big + i, "\xc3\xa4", 2); /* 255 lies within one of them */
    base_buf_init(&b, 4096);
    assert_int_equal(audit_record_put(&r, &b), DBE_OK);
    assert_int_equal(audit_record_get(b.data, b.len, &back, &len), DBE_OK);
    assert_int_equal(back.detail.len, 254);
    assert_int_equal(back.rule.len, 0);
    base_buf_free(&b);
}

static void put_line(struct base_buf *b, uint64_t index)
{
    struct audit_entry e = {
        .index = index, .stored_ms = UINT64_C(1800000000456), .sender = "spiffe://m/l7/router/43", .record = sample()};

    memset(e.run, 0xAB, sizeof e.run);
    assert_int_equal(audit_line_put(&e, b), DBE_OK);
}

/* spec audit 3.1: the line, byte for byte */
static void line_known(void **state)
{
    static const char tail[] =
        "\",\"stored\":\"2027-01-15T08:00:00.456Z\",\"sender\":\"spiffe://m/l7/router/"
        "43\",\"run\":\"abababababababab\","
        "\"seq\":7,\"time\":\"2027-01-15T08:00:00.123Z\",\"kind\":\"decision\",\"count\":0,\"outcome\":\"deny\","
        "\"code\":\"E_CLASSIFICATION\",\"rule\":\"classification\",\"msg_type\":\"L7_CHAT_REQ\","
        "\"peer\":\"spiffe://m/l7/shim/0\",\"channel\":\"22222222222222222222222222222222\","
        "\"request_id\":\"11111111-1111-1111-1111-111111111111\",\"tenant\":\"LOCAL\",\"compartments\":1,"
        "\"classification\":\"UNCLAS\",\"roe_level\":\"ANALYSIS_ONLY\","
        "\"detail\":\"above the ceiling of \\\"the\\\" claim\"}";
    static const char head[] = "{\"v\":1,\"index\":5,\"prev\":\"";
    struct base_buf b;

    (void)state;
    base_buf_init(&b, AUDIT_LINE_MAX);
    put_line(&b, 5);
    assert_memory_equal(b.data, head, sizeof head - 1);
    assert_string_equal(base_buf_cstr(&b) + sizeof head - 1 + 128, tail);
    base_buf_free(&b);
}

/* spec audit 3.2: the front is read back, and every change of it or cut is refused or shows */
static void line_there_and_back(void **state)
{
    struct audit_line l, m;
    struct base_buf b;

    (void)state;
    base_buf_init(&b, AUDIT_LINE_MAX);
    put_line(&b, 12345);
    assert_int_equal(audit_line_get((char *)b.data, b.len, &l, NULL), DBE_OK);
    assert_int_equal(l.index, 12345);
    assert_int_equal(l.seq, 7);
    assert_int_equal(l.kind, AUDIT_DECISION);
    assert_int_equal(l.sender.len, strlen("spiffe://m/l7/router/43"));
    for (size_t n = 0; n < b.len; n++)
        assert_int_not_equal(audit_line_get((char *)b.data, n, &m, NULL), DBE_OK);
    for (size_t i = 0; i < 9; i++) { /* the first key */
        b.data[i] ^= 1;
        assert_int_equal(audit_line_get((char *)b.data, b.len, &m, NULL), DBE_E_MALFORMED);
        b.data[i] ^= 1;
    }
    base_buf_free(&b);
}

static void times(void **state)
{
    char out[32];

    (void)state;
    audit_time_text(0, out);
    assert_string_equal(out, "1970-01-01T00:00:00.000Z");
    audit_time_text(UINT64_C(951782400007), out);
    assert_string_equal(out, "2000-02-29T00:00:00.007Z");
    audit_time_text(UINT64_MAX, out);
    assert_string_equal(out, "9999-12-31T23:59:59.999Z");
}

/* spec audit 2.6: channel ids and tags need the key; a tag covers run and records */
static void bound_to_channels(void **state)
{
    const uint8_t a[32] = {1}, b[32] = {2}, run[AUDIT_RUN_BYTES] = {3}, other[AUDIT_RUN_BYTES] = {4};
    const uint8_t nonce[CRYPTO_AEAD_IV_BYTES] = {5};
    uint8_t x[AUDIT_HASH_BYTES], y[AUDIT_HASH_BYTES];

    (void)state;
    assert_int_equal(audit_channel_id(a, x), DBE_OK);
    assert_int_equal(audit_channel_id(b, y), DBE_OK);
    assert_memory_not_equal(x, y, AUDIT_CHANNEL_BYTES);
    assert_int_equal(audit_batch_tag(a, run, nonce, "abc", 3, x), DBE_OK);
    assert_int_equal(audit_batch_tag(b, run, nonce, "abc", 3, y), DBE_OK);
    assert_memory_not_equal(x, y, AUDIT_TAG_BYTES);
    assert_int_equal(audit_batch_tag(a, other, nonce, "abc", 3, y), DBE_OK);
    assert_memory_not_equal(x, y, AUDIT_TAG_BYTES);
    assert_int_equal(audit_batch_tag(a, run, nonce, "abd", 3, y), DBE_OK);
    assert_memory_not_equal(x, y, AUDIT_TAG_BYTES);
}

static int setup(void **state)
{
    (void)state;
    return crypto_init(NULL) == DBE_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(record_there_and_back), cmocka_unit_test(record_hostile),
        cmocka_unit_test(record_cuts_words),     cmocka_unit_test(line_known),
        cmocka_unit_test(line_there_and_back),   cmocka_unit_test(times),
        cmocka_unit_test(bound_to_channels),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
