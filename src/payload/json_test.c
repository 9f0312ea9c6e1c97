/* SPDX-License-Identifier: Apache-2.0
 *
 * json_test.c - payloads as JSON and back: every kind of field, every message type, what the first users write, and
 * what is refused with which field and offset.
 */
#include "base/test.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dsmil.pb-c.h"
#include "kinds.pb-c.h"
#include "payload/wire.h"

enum { ROOM = 8192 };

/* JSON -> bytes -> JSON by `desc`; returns the second text, static. The bytes are those that protobuf-c packs. */
static const char *there_and_back(const payload_desc *desc, const char *json)
{
    static char text[ROOM];
    uint8_t bytes[ROOM], packed[ROOM];
    struct payload_out o = {.out = bytes, .cap = sizeof bytes}, t = {.out = (uint8_t *)text, .cap = sizeof text - 1};
    struct dbe_diag diag = {0};
    ProtobufCMessage *m;

    if (payload_parse(&o, desc, json, strlen(json), &diag) != DBE_OK)
        fail_msg("%s: %s", json, diag.text);
    m = protobuf_c_message_unpack(desc, NULL, o.len, bytes);
    assert_non_null(m);
    assert_int_equal(protobuf_c_message_get_packed_size(m), o.len);
    assert_int_equal(protobuf_c_message_pack(m, packed), o.len);
    assert_memory_equal(packed, bytes, o.len);
    protobuf_c_message_free_unpacked(m, NULL);
    payload_print(&t, desc, bytes, o.len);
    assert_true(t.len < sizeof text);
    text[t.len] = '\0';
    return text;
}

#define ALL_TAIL                                                                                                       \
    "\"many\":[],\"wide\":[],\"texts\":[],\"colours\":[],\"truths\":[],\"named\":{},\"blobs\":{},\"inners\":[]}"
#define ALL_HEAD                                                                                                       \
    "{\"i32\":0,\"s32\":0,\"sf32\":0,\"u32\":0,\"f32\":0,\"i64\":0,\"s64\":0,\"sf64\":0,\"u64\":0,\"f64\":0,"          \
    "\"real32\":0.0,\"real64\":0.0,\"truth\":false,\"colour\":\"NONE\","
#define ALL_ZERO ALL_HEAD ALL_TAIL

static void every_kind(void **state)
{
    static const char extremes[] =
        "{\"i32\":-2147483648,\"s32\":-2147483648,\"sf32\":-2147483648,\"u32\":4294967295,\"f32\":4294967295,"
        "\"i64\":-9223372036854775808,\"s64\":-9223372036854775808,\"sf64\":-9223372036854775808,"
        "\"u64\":18446744073709551615,\"f64\":18446744073709551615,\"real32\":3.4028235e+38,"
        "\"real64\":5e-324,\"truth\":true,\"colour\":\"BLUE\",\"text\":\"\xC3\xA9 \\\"\\\\\\n\\u0001/\","
        "\"raw\":\"AAEC+/8=\",\"maybe\":0,\"maybe_text\":\"x\",\"many\":[0,-1,1,-2147483648],"
        "\"wide\":[1,18446744073709551615],\"texts\":[\"\",\"b\"],\"colours\":[\"RED\",5,\"BLUE\"],"
        "\"truths\":[true,false],\"named\":{\"a\":" ALL_ZERO ",\"\":" ALL_ZERO "},"
        "\"blobs\":{\"k\":\"aGk=\",\"e\":\"\"},"
        "\"inners\":[" ALL_ZERO "]}";

    (void)state;
    assert_string_equal(there_and_back(&kinds__all__descriptor, "{}"), ALL_ZERO);
    assert_string_equal(there_and_back(&kinds__all__descriptor, extremes), extremes);
    assert_string_equal(there_and_back(&kinds__all__descriptor, " { \"inner\" : { } , \"i32\" : null } "),
                        ALL_HEAD "\"inner\":" ALL_ZERO "," ALL_TAIL);
    assert_string_equal(
        there_and_back(&kinds__all__descriptor, "{\"text\":\"\",\"raw\":\"\",\"colour\":0,\"real64\":-0.0}"), ALL_ZERO);
}

/* A length that no longer fits one byte moves what was written. */
static void long_texts(void **state)
{
    static char json[ROOM / 2];
    char text[300];

    (void)state;
    for (size_t len = 120; len < sizeof text; len += 3) {
        memset(text, 'a', len);
        text[len] = '\0';
        snprintf(json, sizeof json, "{\"inner\":{\"text\":\"%s\",\"texts\":[\"%s\"]},\"blobs\":{\"%.256s\":\"aGk=\"}}",
                 text, text, text);
        assert_non_null(strstr(there_and_back(&kinds__all__descriptor, json), text));
    }
}

static void escapes(void **state)
{
    static const struct {
        const char *json, *text;
    } rows[] = {
        {"{\"text\":\"\\b\\f\\n\\r\\t\\/\\\"\\\\\"}", "\"text\":\"\\u0008\\u000c\\n\\r\\t/\\\"\\\\\""},
        {"{\"text\":\"\\u00e9\\u20AC\\ud83d\\ude00\\u0041\"}", "\"text\":\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"
                                                               "A\""},
        {"{\"te\\u0078t\":\"x\"}", "\"text\":\"x\""},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        assert_non_null(strstr(there_and_back(&kinds__all__descriptor, rows[i].json), rows[i].text));
}

/* The fewest digits that bring the value back, in any locale. */
static void floats(void **state)
{
    static const struct {
        const char *in, *real32, *real64;
    } rows[] = {
        {"0.7", "0.7", "0.7"},
        {"0.1", "0.1", "0.1"},
        {"12.3", "12.3", "12.3"},
        {"1", "1.0", "1.0"},
        {"1e3", "1000.0", "1000.0"},
        {"16777217", "16777216.0", "16777217.0"},
        {"0.30000000000000004", "0.3", "0.30000000000000004"},
        {"1E+20", "1e+20", "1e+20"},
        {"-1.17549435e-38", "-1.1754944e-38", "-1.17549435e-38"},
        {"3.141592653589793", "3.1415927", "3.141592653589793"},
    };
    char json[128], want[128];

    (void)state;
    (void)setlocale(LC_ALL, "de_DE.UTF-8"); /* where it is installed, its comma must not show */
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        snprintf(json, sizeof json, "{\"real32\":%s,\"real64\":%s}", rows[i].in, rows[i].in);
        snprintf(want, sizeof want, "\"real32\":%s,\"real64\":%s,", rows[i].real32, rows[i].real64);
        assert_non_null(strstr(there_and_back(&kinds__all__descriptor, json), want));
    }
    (void)setlocale(LC_ALL, "C");
}

/* Every bit pattern of a float, in steps, comes back from its text. */
static void floats_come_back(void **state)
{
    (void)state;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 65521 * 7) {
        char text[64] = "";
        struct payload_out o = {.out = (uint8_t *)text, .cap = sizeof text - 1};
        uint64_t wide = bits * UINT64_C(0x100000001);
        float v = payload_float(bits);
        double d = payload_double(wide);
        if (v - v == 0) { /* finite */
            payload_put_float(&o, v);
            assert_true(strtof(text, NULL) == v);
        }
        if (d - d == 0) {
            memset(text, 0, sizeof text);
            o.len = 0;
            payload_put_double(&o, d);
            assert_true(strtod(text, NULL) == d);
        }
    }
}

/* What is refused: error, offset, and a word of the diagnostic. */
static const struct {
    const char *json;
    dbe_err err;
    size_t offset;
    const char *word;
} bad_rows[] = {
    {"", DBE_E_RANGE, 0, "object"},
    {"[]", DBE_E_RANGE, 0, "object"},
    {"{", DBE_E_MALFORMED, 1, "name"},
    {"{}x", DBE_E_MALFORMED, 2, "follows"},
    {"{\"i32\":1,}", DBE_E_MALFORMED, 9, "comma"},
    {"{\"i32\":1 \"u32\":1}", DBE_E_MALFORMED, 9, "comma"},
    {"{\"i32\"}", DBE_E_MALFORMED, 6, "i32"},
    {"{\"i32\":}", DBE_E_MALFORMED, 7, "value"},
    {"{i32:1}", DBE_E_MALFORMED, 1, "name"},
    {"{\"i32\":1,\"i32\":2}", DBE_E_DUPLICATE, 9, "i32"},
    {"{\"nothing\":1}", DBE_E_RANGE, 1, "\"nothing\""},
    {"{\"nothing_that_is_this_long_is_a_name_of_any_field_in_any_schema_of_ours\":1}", DBE_E_RANGE, 1, "nothing"},
    {"{\"i32\":2147483648}", DBE_E_RANGE, 7, "i32"},
    {"{\"i32\":-2147483649}", DBE_E_RANGE, 7, "i32"},
    {"{\"u32\":4294967296}", DBE_E_RANGE, 7, "u32"},
    {"{\"u32\":-1}", DBE_E_RANGE, 7, "u32"},
    {"{\"u64\":18446744073709551616}", DBE_E_RANGE, 7, "u64"},
    {"{\"i64\":9223372036854775808}", DBE_E_RANGE, 7, "i64"},
    {"{\"u64\":1.0}", DBE_E_RANGE, 7, "integer"},
    {"{\"u64\":1e3}", DBE_E_RANGE, 7, "integer"},
    {"{\"u64\":\"1\"}", DBE_E_RANGE, 7, "number"},
    {"{\"u64\":01}", DBE_E_MALFORMED, 7, "value"},
    {"{\"u64\":+1}", DBE_E_MALFORMED, 7, "value"},
    {"{\"real64\":1.}", DBE_E_MALFORMED, 10, "value"},
    {"{\"real64\":.5}", DBE_E_MALFORMED, 10, "value"},
    {"{\"real64\":1e}", DBE_E_MALFORMED, 10, "value"},
    {"{\"real64\":1e400}", DBE_E_RANGE, 10, "real64"},
    {"{\"real32\":1e39}", DBE_E_RANGE, 10, "real32"},
    {"{\"real64\":NaN}", DBE_E_MALFORMED, 10, "value"},
    {"{\"real64\":true}", DBE_E_RANGE, 10, "number"},
    {"{\"truth\":1}", DBE_E_RANGE, 9, "true or false"},
    {"{\"truth\":tru}", DBE_E_MALFORMED, 9, "value"},
    {"{\"colour\":\"GREEN\"}", DBE_E_RANGE, 10, "colour"},
    {"{\"text\":5}", DBE_E_RANGE, 8, "text"},
    {"{\"text\":\"\\ud800\"}", DBE_E_UTF8, 8, "surrogate"},
    {"{\"text\":\"\\ud800\\u0041\"}", DBE_E_UTF8, 8, "surrogate"},
    {"{\"text\":\"\\udc00\\ud800\"}", DBE_E_UTF8, 8, "surrogate"},
    {"{\"text\":\"\\u0000\"}", DBE_E_UTF8, 8, "U+0000"},
    {"{\"text\":\"\\u00g0\"}", DBE_E_MALFORMED, 8, "hex"},
    {"{\"text\":\"\\u00", DBE_E_MALFORMED, 8, "hex"},
    {"{\"text\":\"\\x\"}", DBE_E_MALFORMED, 8, "escape"},
    {"{\"text\":\"\\", DBE_E_MALFORMED, 8, "end"},
    {"{\"text\":\"a", DBE_E_MALFORMED, 8, "end"},
    {"{\"text\":\"a\nb\"}", DBE_E_MALFORMED, 8, "control"},
    {"{\"text\":\"\xFF\"}", DBE_E_UTF8, 9, "UTF-8"},
    {"{\"text\":\"\xC3\xA9\xE2\x82\"}", DBE_E_UTF8, 11, "UTF-8"},
    {"{\"raw\":1}", DBE_E_RANGE, 7, "base64"},
    {"{\"raw\":\"a\"}", DBE_E_RANGE, 7, "base64"},
    {"{\"raw\":\"aGk\"}", DBE_E_RANGE, 7, "base64"},
    {"{\"raw\":\"aGl=\"}", DBE_E_RANGE, 7, "base64"}, /* bits beyond the last byte */
    {"{\"raw\":\"aR==\"}", DBE_E_RANGE, 7, "base64"},
    {"{\"raw\":\"aG=k\"}", DBE_E_RANGE, 7, "base64"},
    {"{\"raw\":\"=AAA\"}", DBE_E_RANGE, 7, "base64"},
    {"{\"raw\":\"aGk=aGk=\"}", DBE_E_RANGE, 7, "base64"},
    {"{\"raw\":\"aG k\"}", DBE_E_RANGE, 7, "base64"},
    {"{\"inner\":[]}", DBE_E_RANGE, 9, "object"},
    {"{\"inner\":{\"x\":1}}", DBE_E_RANGE, 10, "\"x\""},
    {"{\"texts\":{}}", DBE_E_RANGE, 9, "array"},
    {"{\"texts\":[null]}", DBE_E_RANGE, 10, "texts"},
    {"{\"texts\":[\"a\"", DBE_E_MALFORMED, 13, "comma"},
    {"{\"texts\":[\"a\",]}", DBE_E_MALFORMED, 14, "comma"},
    {"{\"many\":[1 2]}", DBE_E_MALFORMED, 11, "comma"},
    {"{\"many\":[\"x\"]}", DBE_E_RANGE, 9, "many"},
    {"{\"blobs\":[]}", DBE_E_RANGE, 9, "object"},
    {"{\"blobs\":{\"a\":\"\",\"\\u0061\":\"\"}}", DBE_E_DUPLICATE, 6, "blobs"},
    {"{\"blobs\":{\"a\" \"\"}}", DBE_E_MALFORMED, 14, "value"},
    {"{\"blobs\":{\"a\":null}}", DBE_E_RANGE, 14, "value"},
    {"{\"blobs\":{5:\"\"}}", DBE_E_MALFORMED, 10, "name"},
};

static void bad_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(bad_rows); i++) {
        uint8_t bytes[256];
        struct payload_out o = {.out = bytes, .cap = sizeof bytes};
        struct dbe_diag diag = {0};
        dbe_err err = payload_parse(&o, &kinds__all__descriptor, bad_rows[i].json, strlen(bad_rows[i].json), &diag);
        if (err != bad_rows[i].err || diag.offset != bad_rows[i].offset || strstr(diag.text, bad_rows[i].word) == NULL)
            fail_msg("%s: %s at %zu: %s", bad_rows[i].json, dbe_err_name(err), diag.offset, diag.text);
        o.len = 0;
        assert_int_equal(payload_parse(&o, &kinds__all__descriptor, bad_rows[i].json, strlen(bad_rows[i].json), NULL),
                         err);
    }
}

static void json_has_its_limits(void **state)
{
    static char json[65536];
    uint8_t bytes[ROOM];
    struct payload_out o = {.out = bytes, .cap = sizeof bytes};
    struct dbe_diag diag = {0};
    size_t len = 0;

    (void)state;
    for (int depth = 0; depth <= DBE_PAYLOAD_DEPTH_MAX; depth++)
        len += (size_t)snprintf(json + len, sizeof json - len, "{\"inner\":");
    assert_int_equal(payload_parse(&o, &kinds__all__descriptor, json, len, &diag), DBE_E_MALFORMED); /* cut off */
    memset(json + len, '{', 1);                                                                      /* closed again */
    memset(json + len + 1, '}', DBE_PAYLOAD_DEPTH_MAX + 2);
    assert_int_equal(payload_parse(&o, &kinds__all__descriptor, json, len + DBE_PAYLOAD_DEPTH_MAX + 3, &diag),
                     DBE_E_TOO_LARGE);
    memcpy(json, "{\"text\":", 8);
    memset(json + 8, '[', 100);
    assert_int_equal(payload_parse(&o, &kinds__all__descriptor, json, 108, &diag), DBE_E_TOO_LARGE);
    assert_int_equal(payload_parse(&o, &kinds__all__descriptor, json, DBE_PAYLOAD_JSON_MAX_BYTES + 1U, &diag),
                     DBE_E_TOO_LARGE);
    o.len = 0;
    memcpy(json, "{\"real64\":0.", 12);
    memset(json + 12, '0', DBE_PAYLOAD_NUMBER_MAX - 2);
    json[12 + DBE_PAYLOAD_NUMBER_MAX - 2] = '}';
    assert_int_equal(payload_parse(&o, &kinds__all__descriptor, json, 13 + DBE_PAYLOAD_NUMBER_MAX - 2, &diag), DBE_OK);
    json[12 + DBE_PAYLOAD_NUMBER_MAX - 2] = '0';
    json[13 + DBE_PAYLOAD_NUMBER_MAX - 2] = '}';
    assert_int_equal(payload_parse(&o, &kinds__all__descriptor, json, 14 + DBE_PAYLOAD_NUMBER_MAX - 2, &diag),
                     DBE_E_RANGE);
    len = (size_t)snprintf(json, sizeof json, "{\"blobs\":{");
    for (int i = 0; i <= DBE_PAYLOAD_MAP_MAX; i++)
        len += (size_t)snprintf(json + len, sizeof json - len, "%s\"%d\":\"\"", i > 0 ? "," : "", i);
    len += (size_t)snprintf(json + len, sizeof json - len, "}}");
    assert_int_equal(payload_parse(&o, &kinds__all__descriptor, json, len, &diag), DBE_E_TOO_LARGE);
}

/* What the gateway, a worker and a router write. */
static void the_first_users(void **state)
{
    static const struct {
        uint8_t type;
        const char *in, *out;
    } rows[] = {
        {DBE_MSG_L7_CHAT_RESP, "{\"error\": \"NO_WORKER_AVAILABLE\", \"choices\": []}",
         "{\"choices\":[],\"device_id\":0,\"latency_ms\":0.0,\"ttft_ms\":0.0,\"error\":\"NO_WORKER_AVAILABLE\"}"},
        {DBE_MSG_L7_CHAT_RESP,
         "{\"choices\": [{\"message\": {\"role\": \"assistant\", \"content\": \"hi\"}, \"finish_reason\": \"stop\"}], "
         "\"usage\": {\"prompt_tokens\": 5, \"completion_tokens\": 2, \"total_tokens\": 7}, "
         "\"model\": \"llama-7b-int8-amx\", \"device_id\": 47, \"latency_ms\": 12.3}",
         "{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"hi\",\"tool_calls\":[]},"
         "\"finish_reason\":\"stop\",\"logprobs\":[],\"behind_calls\":0}],"
         "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"total_tokens\":7,\"cached_tokens\":0},"
         "\"model\":\"llama-7b-int8-amx\",\"device_id\":47,\"latency_ms\":12.3,\"ttft_ms\":0.0}"},
        {DBE_MSG_L7_CHAT_REQ,
         "{\"messages\": [{\"role\": \"user\", \"content\": \"?\"}], \"temperature\": 0.7, \"max_tokens\": 512}",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"?\",\"tool_calls\":[]}],\"temperature\":0.7,\"max_tokens\":"
         "512,"
         "\"stop\":[],\"stream\":false,"
         "\"frequency_penalty\":0.0,\"presence_penalty\":0.0,\"logit_bias\":[],\"logprobs\":0,\"n\":0,\"tools\":[],"
         "\"raw\":false,\"single_call\":false,\"prompts\":[],\"echo\":false,\"receipt\":false,\"answers\":0}"},
        {0x30, "{\"seed\":18446744073709551615}",
         "{\"messages\":[],\"seed\":18446744073709551615,\"stop\":[],\"stream\":false,"
         "\"frequency_penalty\":0.0,\"presence_penalty\":0.0,\"logit_bias\":[],\"logprobs\":0,\"n\":0,\"tools\":[],"
         "\"raw\":false,\"single_call\":false,\"prompts\":[],\"echo\":false,\"receipt\":false,\"answers\":0}"},
        {DBE_MSG_SOC_EVENT, "{\"event_id\":\"e\",\"signals\":{\"beacon\":0.25}}",
         "{\"event_id\":\"e\",\"ts_ms\":0,\"source_layer\":0,\"device_id_src\":0,\"score\":0.0,"
         "\"signals\":{\"beacon\":0.25}}"},
        {DBE_MSG_L7_AGENT_TASK, "{\"parameters\":{\"b\":\"2\",\"a\":\"1\"},\"timeout_seconds\":-1}",
         "{\"parameters\":{\"b\":\"2\",\"a\":\"1\"},\"timeout_seconds\":-1}"},
        {DBE_MSG_L7_CANCEL, "{\"request_id\":\"AAECAwQFBgcICQoLDA0ODw==\"}",
         "{\"request_id\":\"AAECAwQFBgcICQoLDA0ODw==\"}"},
    };
    uint8_t bytes[1024];
    char text[1024];
    size_t len = 0, text_len = 0;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        assert_int_equal(
            dbe_payload_from_json(rows[i].type, rows[i].in, strlen(rows[i].in), bytes, sizeof bytes, &len, NULL),
            DBE_OK);
        assert_int_equal(dbe_payload_to_json(rows[i].type, bytes, len, text, sizeof text, &text_len, NULL), DBE_OK);
        assert_string_equal(text, rows[i].out);
        assert_int_equal(strlen(text), text_len);
    }
}

/* Every type at its default, there and back. */
static void every_type(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        uint8_t bytes[256];
        char text[1024], again[1024];
        size_t len = 77, text_len = 77;
        dbe_err err = dbe_payload_to_json((uint8_t)type, NULL, 0, text, sizeof text, &text_len, NULL);
        if (dbe_reg_msg((uint8_t)type) == NULL) {
            assert_int_equal(err, DBE_E_UNSUPPORTED);
            assert_int_equal(dbe_payload_from_json((uint8_t)type, "{}", 2, bytes, sizeof bytes, &len, NULL),
                             DBE_E_UNSUPPORTED);
            assert_int_equal(len, 77);
            continue;
        }
        assert_int_equal(err, DBE_OK);
        assert_int_equal(dbe_payload_from_json((uint8_t)type, text, text_len, bytes, sizeof bytes, &len, NULL), DBE_OK);
        assert_int_equal(len, 0);
        assert_int_equal(dbe_payload_to_json((uint8_t)type, bytes, len, again, sizeof again, &len, NULL), DBE_OK);
        assert_string_equal(text, again);
    }
}

/* With every room from none to enough, the length is the same and nothing beyond the room is touched. */
static void every_capacity(void **state)
{
    static const char json[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\",\"tool_calls\":[]}],\"temperature\":0.5,"
        "\"stop\":[\"a\"],\"stream\":true,"
        "\"frequency_penalty\":0.0,\"presence_penalty\":0.0,\"logit_bias\":[],\"logprobs\":0,\"n\":0,\"tools\":[],"
        "\"raw\":false,\"single_call\":false,\"prompts\":[],\"echo\":false,\"receipt\":false,\"answers\":0}";
    uint8_t bytes[256];
    char text[512];
    size_t full = 0, need = 0, text_full = 0;

    (void)state;
    assert_int_equal(dbe_payload_from_json(DBE_MSG_L7_CHAT_REQ, json, strlen(json), bytes, sizeof bytes, &full, NULL),
                     DBE_OK);
    for (size_t cap = 0; cap < full; cap++) {
        uint8_t small[256];
        memset(small, 0x5A, sizeof small);
        assert_int_equal(dbe_payload_from_json(DBE_MSG_L7_CHAT_REQ, json, strlen(json), small, cap, &need, NULL),
                         DBE_E_TOO_LARGE);
        assert_int_equal(need, full);
        assert_int_equal(small[cap], 0x5A);
    }
    assert_int_equal(dbe_payload_to_json(DBE_MSG_L7_CHAT_REQ, bytes, full, NULL, 0, &text_full, NULL), DBE_E_TOO_LARGE);
    assert_int_equal(text_full, strlen(json));
    for (size_t cap = 0; cap <= text_full + 1; cap++) {
        memset(text, 0x5A, sizeof text);
        assert_int_equal(dbe_payload_to_json(DBE_MSG_L7_CHAT_REQ, bytes, full, text, cap, &need, NULL),
                         cap < text_full ? DBE_E_TOO_LARGE : DBE_OK);
        assert_int_equal(need, text_full);
        assert_int_equal(text[cap], 0x5A);
    }
    assert_string_equal(text, json); /* the last room had one byte more, for the NUL */
    need = 77;
    assert_int_equal(dbe_payload_to_json(DBE_MSG_L7_CHAT_REQ, "\x08", 1, text, sizeof text, &need, NULL),
                     DBE_E_MALFORMED);
    assert_int_equal(need, 77);
}

/* Neither direction allocates, whatever stands in the payload. */
static void nothing_is_allocated(void **state)
{
    static const char json[] = "{\"event_id\":\"e\",\"signals\":{\"a\":0.5,\"b\":1},\"score\":0.25}";
    uint8_t bytes[256];
    char out[4096];
    size_t len = 0, out_len = 0;

    (void)state;
    base_fail_alloc_at(1);
    assert_int_equal(dbe_payload_from_json(DBE_MSG_SOC_EVENT, json, strlen(json), bytes, sizeof bytes, &len, NULL),
                     DBE_OK);
    assert_int_equal(dbe_payload_to_json(DBE_MSG_SOC_EVENT, bytes, len, out, sizeof out, &out_len, NULL), DBE_OK);
    assert_int_equal(dbe_payload_check(DBE_MSG_SOC_EVENT, bytes, len, NULL), DBE_OK);
    assert_int_equal(dbe_msg_explain(bytes, len, out, sizeof out, &out_len), DBE_OK);
    assert_int_equal(base_alloc_count(), 0);
    base_fail_alloc_at(0);
}

/* A payload that would exceed its maximum is refused even where nothing is written. */
static void a_payload_has_its_maximum(void **state)
{
    size_t len = DBE_PAYLOAD_MAX_BYTES + 100, need = 77;
    char *json = malloc(len);
    struct dbe_diag diag = {0};

    (void)state;
    memset(json, 'a', len);
    memcpy(json, "{\"model\":\"", 10);
    memcpy(json + len - 2, "\"}", 2);
    assert_int_equal(dbe_payload_from_json(DBE_MSG_L7_CHAT_REQ, json, len, NULL, 0, &need, &diag), DBE_E_TOO_LARGE);
    assert_int_equal(need, 77);
    memcpy(json + len - 200, "\"}", 2);
    assert_int_equal(dbe_payload_from_json(DBE_MSG_L7_CHAT_REQ, json, len - 198, NULL, 0, &need, &diag),
                     DBE_E_TOO_LARGE);
    assert_int_equal(need, len - 210 + 5); /* the text, its tag and a length of four bytes */
    free(json);
}

/* Fields out of order, unknown ones between them, and unpacked what could be packed. */
static void any_order(void **state)
{
    static const uint8_t bytes[] = {0xA0, 1,    3, 0xF8, 7,    1, 0x18 | 5, 1, 0,   0,    0, 0xA2, 1, 2, 1,
                                    2,    0xCA, 1, 5,    0x12, 0, 0x0A,     1, 'k', 0x08, 5, 0xA0, 1, 4};
    char text[1024] = "";
    struct payload_out o = {.out = (uint8_t *)text, .cap = sizeof text - 1};

    (void)state;
    assert_int_equal(payload_form(&kinds__all__descriptor, bytes, sizeof bytes, false, NULL), DBE_OK);
    payload_print(&o, &kinds__all__descriptor, bytes, sizeof bytes);
    assert_non_null(strstr(text, "{\"i32\":5,\"s32\":0,\"sf32\":1,"));
    assert_non_null(strstr(text, "\"many\":[-2,-1,1,2]"));
    assert_non_null(strstr(text, "\"named\":{\"k\":{\"i32\":0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind),
        cmocka_unit_test(long_texts),
        cmocka_unit_test(escapes),
        cmocka_unit_test(floats),
        cmocka_unit_test(floats_come_back),
        cmocka_unit_test(bad_json),
        cmocka_unit_test(the_first_users),
        cmocka_unit_test(json_has_its_limits),
        cmocka_unit_test(every_type),
        cmocka_unit_test(every_capacity),
        cmocka_unit_test(any_order),
        cmocka_unit_test(a_payload_has_its_maximum),
        cmocka_unit_test(nothing_is_allocated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
