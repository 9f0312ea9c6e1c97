/* SPDX-License-Identifier: Apache-2.0
 *
 * explain_test.c - what `dsmil dump` says: every field of a good message by name, and of a broken one the clause, the
 * offset and what was understood up to there. In: DSMIL_SOURCE_ROOT.
 */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/crypto.h"
#include "dbe/msg.h"
#include "kinds.pb-c.h"
#include "payload/explain.h"
#include "payload/json.h"

enum { TEXT = 1 << 18 };

static char text[TEXT];
static uint8_t mem[1 << 16];

/* Explain an exact copy both ways; the JSON is JSON, the text is static. */
static const char *explain(const uint8_t *bytes, size_t len, bool good)
{
    static char json[TEXT * 2];
    struct payload_out o = {.out = (uint8_t *)json, .cap = sizeof json};
    struct json j = {.text = (const uint8_t *)json};
    uint8_t *exact = calloc(1, len > 0 ? len : 1);
    size_t text_len = 0;

    memcpy(exact, bytes, len);
    assert_true(explain_all(exact, len, true, &o) == good);
    assert_true(o.len < sizeof json);
    j.len = o.len;
    assert_int_equal(payload_json_begin(&j), DBE_OK);
    assert_int_equal(payload_json_skip(&j, 4 * EXPLAIN_DEPTH_MAX), DBE_OK);
    assert_int_equal(dbe_msg_explain(exact, len, text, sizeof text, &text_len), DBE_OK);
    assert_int_equal(text_len, strlen(text));
    free(exact);
    return text;
}

static void says(const char *what)
{
    if (strstr(text, what) == NULL)
        fail_msg("no \"%s\" in\n%s", what, text);
}

/* A request with one of everything. */
static size_t rich(void)
{
    static const uint8_t id[16] = {0x5f, 0x0c, 0x1b, 0x1e, 0x27, 0x33, 0x4d, 0x0a, 0x9b, 0x62, 0x0e, 0x6f, 1, 2, 3, 4};
    static const char claim[] = "DCLM\1\0\2\2\0\0\0\1\0\0\1\x8b\xcf\xe5\x68\0\0\0\1\x8b\xcf\xe5\x68\1"
                                "................................\4acme\3bob....";
    static const char payload[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\\n\"}],\"temperature\":0.7,"
                                  "\"stop\":[\"a\"]}";
    uint8_t bytes[256];
    struct dbe_builder b;
    size_t len = 0;

    assert_int_equal(
        dbe_payload_from_json(DBE_MSG_L7_CHAT_REQ, payload, strlen(payload), bytes, sizeof bytes, &len, NULL), DBE_OK);
    dbe_build_begin(&b, mem, sizeof mem, DBE_MSG_L7_CHAT_REQ, DBE_FLAG_STREAMING | DBE_FLAG_REPLAY_PROTECTED, 0x0102);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, "ac\x1b[me");
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_DEV | 0x40);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, DBE_CLSF_SECRET);
    dbe_build_bytes(&b, DBE_TLV_LAYER_PATH, "\x07\x08\x01", 3);
    dbe_build_bytes(&b, DBE_TLV_ROE_TOKEN_ID, id, 16);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, 47);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, 200);
    dbe_build_timestamp_ms(&b, 1700000000123);
    dbe_build_bytes(&b, DBE_TLV_L7_CLAIM_TOKEN, claim, sizeof claim - 1);
    dbe_build_u64(&b, DBE_TLV_SEQUENCE_NUM, UINT64_MAX);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, 9);
    dbe_build_uuid(&b, DBE_TLV_REQUEST_ID, id);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, 60000);
    dbe_build_hops(&b, NULL, &(struct dbe_hop){47, 1000, 1});
    dbe_build_bytes(&b, DBE_TLV_TRACE_CONTEXT, "\0abcdefghijklmnopqrstuvwx\1", 26);
    dbe_build_u8(&b, DBE_TLV_ADVISORY_FLAG, 1);
    dbe_build_bytes(&b, 0x7001, "\1\2", 2);
    dbe_build_payload(&b, bytes, len);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    return len;
}

static void a_good_message(void **state)
{
    static const char *const words[] = {
        "L7_CHAT_REQ",
        "chat completion request",
        "STREAMING | REPLAY_PROTECTED",
        "0x0000000000000102",
        "\"ac\\u001b[me\"",
        "SOC | DEV, bits of no row: 0x00000040",
        "2, SECRET",
        "7 EXTENDED > 8 ENHANCED_SEC > 1 ?",
        "47, Advanced AI/ML",
        "200, no such device",
        "2023-11-14T22:13:20.123Z",
        "18446744073709551615",
        "9, no row of the registry",
        "5f0c1b1e-2733-4d0a-9b62-0e6f01020304",
        "60000 ms",
        "1000 us; suite 0x0001, P384-MLKEM1024-MLDSA87-AES256GCM-SHA3-512",
        "00-6162636465666768696a6b6c6d6e6f70-7172737475767778-01",
        "unknown, kept when forwarded; 2 bytes: 0102",
        "messages[0]",
        "\"user\"",
        "\"hi\\n\"",
        "temperature      0.7",
        "stop[0]",
        "\"acme\"",
        "\"bob\"",
        "2023-11-14T22:13:20.000Z to 2023-11-14T22:13:20.001Z",
    };
    size_t len = rich();

    (void)state;
    (void)explain(mem, len, true);
    for (size_t i = 0; i < BASE_ARRAY_LEN(words); i++)
        says(words[i]);
    assert_null(strchr(text, 0x1b)); /* nothing reaches a terminal raw */
    assert_null(strstr(text, "**"));
}

static void messages_one_after_the_other(void **state)
{
    size_t len = rich(), found = 0;

    (void)state;
    memcpy(mem + len, mem, len);
    memcpy(mem + 2 * len, mem, 10);
    (void)explain(mem, 2 * len + 10, false);
    for (const char *at = text; (at = strstr(at, "message ")) != NULL; at++)
        found++;
    assert_true(found >= 3);
    says("E_MALFORMED, spec 3.1");
}

/* One broken rule a row: a byte put somewhere into a message with three TLVs and a payload. */
static const struct {
    const char *clause;
    size_t cut; /* bytes that come, 0: all of them */
    size_t at;
    uint8_t value;
    const char *offset, *understood;
} broken[] = {
    {"E_MALFORMED, spec 3.1", 31, 0, 'D', "0x001f", "L8_ALERT"},
    {"E_MALFORMED, spec 3.1", 1, 0, 'D', "0x0001", "broken"},
    {"E_MALFORMED, spec 3.3", 0, 3, 'X', "0x0000", "not \"DSMI\""},
    {"E_UNSUPPORTED, spec 3.4", 0, 4, 9, "0x0004", "version          9"},
    {"E_UNSUPPORTED, spec 3.5", 0, 5, 0x99, "0x0005", "\"acme\""},
    {"E_RANGE, spec 3.6", 0, 6, 0x80, "0x0006", "and 0x8000, without meaning"},
    {"E_TOO_LARGE, spec 3.8", 0, 16, 1, "0x0010", "payload_len"},
    {"E_TOO_LARGE, spec 3.9", 0, 24, 1, "0x0018", "tlv_len"},
    {"E_MALFORMED, spec 3.10", 0, 31, 1, "0x001c", "0x00000001"},
    {"E_MALFORMED, spec 3.11", 52, 5, 0x40, "0x0010", "\"acme\""},
    {"E_MALFORMED, spec 4.1", 0, 43, 200, "0x0028", "\"acme\""},
    {"E_MALFORMED, spec 4.3", 0, 41, 0, "0x0028", "\"acme\""},
    {"E_DUPLICATE, spec 4.4", 0, 46, 3, "0x002d", "2, SECRET"},
    {"E_RANGE, spec 4.5", 0, 41, 2, "0x0028", "\"acme\""},
    {"E_UTF8, spec 4.6", 0, 36, 0xFF, "0x0020", "not read"},
    {"E_CRITICAL_TLV, spec 4.8", 0, 45, 0x80, "0x002d", "2, SECRET"},
    {"E_MALFORMED, spec 3.13", 0, 50, 0x07, "0x0032", "not read"},
    {"E_RANGE, spec 3.15", 0, 51, 5, "0x0032", "severity         5"},
};

static void every_clause(void **state)
{
    /* TENANT_ID acme, CLASSIFICATION 2, ROE_LEVEL 1; an L8 alert of severity 1 */
    static const uint8_t good[] = {'D', 'S', 'M', 'I', 1, 0x40, 0, 4, 0, 0,  0,    0, 0, 0, 0,    0, 0, 0,
                                   0,   0,   0,   0,   0, 2,    0, 0, 0, 18, 0,    0, 0, 0, 0,    1, 0, 4,
                                   'a', 'c', 'm', 'e', 0, 3,    0, 1, 2, 0,  0x0E, 0, 1, 1, 0x30, 1};
    uint8_t bytes[sizeof good];

    (void)state;
    (void)explain(good, sizeof good, true);
    for (size_t i = 0; i < BASE_ARRAY_LEN(broken); i++) {
        char want[128];
        memcpy(bytes, good, sizeof good);
        bytes[broken[i].at] = broken[i].value;
        (void)explain(bytes, broken[i].cut > 0 ? broken[i].cut - (broken[i].cut == sizeof good) : sizeof good, false);
        snprintf(want, sizeof want, "%s, at %s", broken[i].clause, broken[i].offset);
        says(want);
        says(broken[i].understood);
    }
    (void)explain(good, 0, false);
    says("spec 3.1");
}

/* spec 4.2 and 4.7, which take more than one byte. */
static void clauses_of_many_bytes(void **state)
{
    size_t len = DBE_HEADER_BYTES;

    (void)state;
    memset(mem, 0, sizeof mem);
    memcpy(mem, "DSMI\1\xFF", 6);
    for (uint16_t i = 0; i <= DBE_TLVS_MAX; i++, len += 4)
        base_put_u16(mem + len, (uint16_t)(0x1000 + i));
    base_put_u32(mem + 24, (uint32_t)len - DBE_HEADER_BYTES);
    (void)explain(mem, len, false);
    says("E_TOO_LARGE, spec 4.2, at 0x0120");
    says("TLV 0x103f");
    memset(mem + 32, 0, 64);
    memcpy(mem + 32, "\0\x11\0\x08", 4);
    base_put_u32(mem + 24, 12);
    (void)explain(mem, 44, false);
    says("E_RANGE, spec 4.7, at 0x0020");
}

/* What a payload can hold: unknown fields, other types, packed numbers, and the place where it breaks. */
static void payloads(void **state)
{
    static const struct {
        uint8_t type;
        const char *bytes;
        size_t len;
        bool good;
        const char *words;
    } rows[] = {
        {DBE_MSG_L8_ALERT, "\x30\1\xF8\7\1", 5, true, "field 127        unknown, ignored"},
        {DBE_MSG_L8_ALERT, "\x30\1\x0D\1\2\3\4", 7, false, "encoded as another type"},
        {DBE_MSG_L8_ALERT, "\x30\1\x0A\2\xFF\xFE", 6, false, "spec 3.14"},
        {DBE_MSG_L7_CANCEL,
         "\x0A\x10"
         "0123456789abcdef",
         18, true, "16 bytes: 3031323334"},
        {DBE_MSG_SOC_EVENT, "\x4A\x0C\x0A\1k\x11\0\0\0\0\0\0\xE0\x3F", 14, true, "value            0.5"},
        {DBE_MSG_SOC_EVENT, "\x4A\x03\x0A\5k", 5, false, "not read"},
        {DBE_MSG_ERROR, "", 0, true, "ErrorReply, 0 bytes"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct dbe_builder b;
        size_t len = 0;
        dbe_build_begin(&b, mem, sizeof mem, rows[i].type, 0, 0);
        dbe_build_payload(&b, rows[i].bytes, rows[i].len);
        assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
        (void)explain(mem, len, rows[i].good);
        says(rows[i].words);
    }
}

/* Kinds of fields that the schema does not use yet. */
static void other_kinds(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        bool good;
        const char *words;
    } rows[] = {
        {"\xA2\1\3\1\2\3", 6, true, "-1, 1, -2"},
        {"\xA2\1\2\1\x80", 5, false, "spec 3.13"},
        {"\xB8\1\5\xB8\1\1", 6, true, "\"RED\""},
        {"\x8A\1\4\x8A\1\1\7", 7, false, "inner"},
        {"\x6D\1\2\3\4", 5, false, "encoded as another type"},
    };
    static char many[300];

    (void)state;
    for (size_t i = 0; i <= BASE_ARRAY_LEN(rows); i++) {
        bool last = i == BASE_ARRAY_LEN(rows);
        struct payload_out o = {.out = (uint8_t *)text, .cap = sizeof text - 1};
        struct explain x = {.out = &o, .bytes = (const uint8_t *)(last ? many : rows[i].bytes)};
        memcpy(many, "\xA2\1\xA8\2", 4); /* 296 numbers: more than a line takes */
        memset(many + 4, 8, sizeof many - 4);
        explain_payload(&x, &kinds__all__descriptor, 0, last ? sizeof many : rows[i].len);
        text[o.len] = '\0';
        assert_true(x.broken == !(last || rows[i].good));
        says(last ? "4, 4, 4" : rows[i].words);
    }
}

/* Long texts are cut between characters, whatever they are escaped to. */
static void long_texts_are_cut(void **state)
{
    static const struct {
        const char *unit, *shown;
    } rows[] = {{"a", "aaaa"}, {"\xC3\xA9", "\xC3\xA9\xC3\xA9"}, {"\x01", "\\u0001\\u0001"}, {"\xFF", "\xEF\xBF\xBD"}};
    char value[EXPLAIN_VALUE_BYTES];

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        for (size_t count = 0; count < 400; count++) {
            size_t unit = strlen(rows[i].unit), len = count * unit;
            for (size_t k = 0; k < len; k++)
                mem[k] = (uint8_t)rows[i].unit[k % unit];
            explain_quote(mem, len, value);
            assert_true(base_utf8_valid(value, strlen(value)));
            if (count == 399)
                assert_true(strstr(value, rows[i].shown) != NULL && strcmp(value + strlen(value) - 3, "...") == 0);
        }
}

/* A message of nothing but fields is shown up to the maximum, and its problem after that. */
static void lines_have_their_maximum(void **state)
{
    static uint8_t many[3 * EXPLAIN_LINES_MAX];
    struct payload_out o = {0};

    (void)state;
    memset(many, 0, sizeof many);
    memcpy(many, "DSMI\1\x46", 6);
    base_put_u64(many + 16, sizeof many - DBE_HEADER_BYTES);
    for (size_t i = DBE_HEADER_BYTES; i + 1 < sizeof many; i += 2) {
        many[i] = 0x78; /* field 15, which no policy check has */
        many[i + 1] = 1;
    }
    assert_true(explain_all(many, sizeof many, false, &o));
    assert_true(o.len > EXPLAIN_LINES_MAX * 50 && o.len < EXPLAIN_LINES_MAX * 120);
    many[sizeof many - 1] = 0x80;
    o.len = 0;
    assert_false(explain_all(many, sizeof many, true, &o));
}

/* ---- records ------------ */

static size_t record(uint8_t type, uint8_t epoch, uint64_t sequence, size_t len)
{
    memset(mem, 0, DBE_RECORD_HEADER_BYTES + len);
    base_put_u32(mem, (uint32_t)len);
    mem[4] = type;
    mem[5] = epoch;
    base_put_u64(mem + 8, sequence);
    return DBE_RECORD_HEADER_BYTES + len;
}

static void sealed_records(void **state)
{
    static const struct {
        uint8_t type;
        size_t len;
        const char *words;
    } rows[] = {
        {0x03, 6000, "message 3 of a handshake"},
        {0x10, 116, "sealed: 100 bytes and a tag of 16"},
        {0x11, 17, "REKEY"},
        {0x12, 16, "CLOSE"},
        {0x13, 1000, "REHANDSHAKE"},
        {0x14, 17, "SWITCH"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        bool clear = rows[i].type < 0x10;
        (void)explain(mem, record(rows[i].type, clear ? 0 : 1, clear ? 0 : 7, rows[i].len), true);
        says(rows[i].words);
        says("sealed");
    }
}

/* spec 5.2 to 5.4 and 5.12: what is wrong with a record. */
static void broken_records(void **state)
{
    size_t len;

    (void)state;
    (void)explain(mem, record(0x55, 0, 0, 20), false);
    says("E_PROTOCOL, spec 5.4, at 0x0004");
    (void)explain(mem, record(0x12, 1, 0, 17), false);
    says("E_TOO_LARGE, spec 5.4, at 0x0000");
    (void)explain(mem, record(0x10, 1, 0, 15), false);
    says("E_MALFORMED, spec 5.4, at 0x0000");
    len = record(0x10, 1, 0, 16);
    mem[7] = 1;
    (void)explain(mem, len, false);
    says("E_MALFORMED, spec 5.4, at 0x0006");
    (void)explain(mem, record(0x20, 1, 0, 2), false);
    says("E_MALFORMED, spec 5.4, at 0x0005");
    (void)explain(mem, record(0x10, 1, 0, 100) - 1, false);
    says("spec 5.12");
    says("1 bytes are missing");
    (void)explain(mem, 9, false);
    says("spec 5.2");
}

/* spec 6.4 and 6.5: what of a handshake is in the clear. */
static void handshakes(void **state)
{
    const struct crypto_suite *suite = crypto_suite(1);
    size_t share = suite->ecdh->pub_bytes + suite->kem->ek_bytes, len;

    (void)state;
    len = record(0x01, 0, 0, 98 + 4 + share);
    mem[16] = 1;
    mem[17] = 1;
    memcpy(mem + 16 + 34, dbe_registry_hash, 32);
    memset(mem + 16 + 66, 0xa5, 32);
    base_put_u16(mem + 16 + 98, 1);
    base_put_u16(mem + 16 + 100, (uint16_t)share);
    (void)explain(mem, len, true);
    says("the same as ours");
    mem[17] = 2;
    (void)explain(mem, len, false);
    says("the list of shares is not all there");
    mem[17] = 1;
    says("policy digest    a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5");
    says(suite->name);
    says("key of ML-KEM-1024");
    base_put_u16(mem + 16 + 100, (uint16_t)(share + 1));
    (void)explain(mem, len, false);
    says("a share is not all there");
    base_put_u16(mem + 16 + 100, (uint16_t)(share - 1));
    mem[16 + 34] ^= 1;
    (void)explain(mem, len, false);
    says("another registry");
    says("spec 6.10");
    base_put_u16(mem + 16 + 98, 0x7777);
    (void)explain(mem, len, false); /* an unknown share, and one byte after it */
    says("a suite that this build does not have");

    len = record(0x02, 0, 0, 35 + suite->ecdh->pub_bytes + suite->kem->ct_bytes + 100);
    mem[16] = 1;
    base_put_u16(mem + 17, 1);
    (void)explain(mem, len, true);
    says("sealed, 100 bytes");
    base_put_u16(mem + 17, 0x7777);
    (void)explain(mem, len, true);
    says("rest");
    len = record(0x02, 0, 0, 36);
    base_put_u16(mem + 17, 1);
    (void)explain(mem, len, false);
    says("message 2 is not all there");
    len = record(0x20, 0, 0, 2);
    base_put_u16(mem + 16, DBE_E_REGISTRY);
    (void)explain(mem, len, true);
    says("E_REGISTRY");
}

/* Every byte of a message with everything, turned in every bit: no output that is not JSON, no read beyond it. */
static void every_bit_is_survived(void **state)
{
    static uint8_t bytes[2048];
    size_t len = rich();

    (void)state;
    memcpy(bytes, mem, len);
    for (size_t bit = 0; bit < len * 8; bit++) {
        struct payload_out o = {.out = (uint8_t *)text, .cap = sizeof text};
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        (void)explain_all(bytes, len, bit % 2 != 0, &o);
        assert_true(o.len > 100 && o.len < sizeof text);
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
}

static void room_is_kept(void **state)
{
    size_t len = rich(), need = 0;

    (void)state;
    memset(text, 0x5A, sizeof text);
    assert_int_equal(dbe_msg_explain(mem, len, text, 100, &need), DBE_E_TOO_LARGE);
    assert_true(need > 1000 && text[100] == 0x5A);
    assert_int_equal(dbe_msg_explain(mem, len, text, need, &need), DBE_OK);
    assert_int_equal(text[need], 0x5A);
    assert_int_equal(dbe_msg_explain(mem, len, text, need + 1, &need), DBE_OK);
    assert_int_equal(text[need], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_message),
        cmocka_unit_test(messages_one_after_the_other),
        cmocka_unit_test(every_clause),
        cmocka_unit_test(clauses_of_many_bytes),
        cmocka_unit_test(payloads),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(lines_have_their_maximum),
        cmocka_unit_test(sealed_records),
        cmocka_unit_test(broken_records),
        cmocka_unit_test(handshakes),
        cmocka_unit_test(every_bit_is_survived),
        cmocka_unit_test(room_is_kept),
        cmocka_unit_test(other_kinds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
