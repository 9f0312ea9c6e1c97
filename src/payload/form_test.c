/* SPDX-License-Identifier: Apache-2.0
 *
 * form_test.c - the form and ranges of payloads as rows: bytes in, error, clause and offset out; and that the rules are
 * those which the schema states. In: DSMIL_SOURCE_ROOT.
 */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dsmil.pb-c.h"
#include "kinds.pb-c.h"
#include "payload/wire.h"

#define BYTES(...) {__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

/* Judge an exact copy, so that a sanitizer sees one byte too many. */
static dbe_err judge(const payload_desc *desc, const uint8_t *bytes, size_t len, bool rules, struct dbe_diag *diag)
{
    uint8_t *exact = calloc(1, len > 0 ? len : 1);
    dbe_err err;

    memcpy(exact, bytes, len);
    err = payload_form(desc, exact, len, rules, diag);
    free(exact);
    return err;
}

/* spec 3.13 and 3.14: what a payload may not be, and where it says so. */
static void bad_forms(void **state)
{
    static const struct {
        uint8_t bytes[24];
        size_t len;
        dbe_err err;
        const char *clause;
        size_t offset;
        const char *path;
    } rows[] = {
        {BYTES(0x80), DBE_E_MALFORMED, "spec 3.13", 0, "All"},                            /* a tag does not end */
        {BYTES(0x80, 0x80, 0x80, 0x80, 0x80, 1), DBE_E_MALFORMED, "spec 3.13", 0, "All"}, /* nor here */
        {BYTES(0x00, 0x00), DBE_E_MALFORMED, "spec 3.13", 0, "All"},                      /* field number 0 */
        {BYTES(0x08), DBE_E_MALFORMED, "spec 3.13", 0, "All"},                            /* no value */
        {BYTES(0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF), DBE_E_MALFORMED, "spec 3.13", 0,
         "All"},
        {BYTES(0x0B), DBE_E_MALFORMED, "spec 3.13", 0, "All"},          /* a group */
        {BYTES(0x0E), DBE_E_MALFORMED, "spec 3.13", 0, "All"},          /* wire type 6 */
        {BYTES(0x1D, 1, 2, 3), DBE_E_MALFORMED, "spec 3.13", 0, "All"}, /* 3 of 4 bytes */
        {BYTES(0x41, 1, 2, 3, 4, 5, 6, 7), DBE_E_MALFORMED, "spec 3.13", 0, "All"},
        {BYTES(0x7A, 2, 'a'), DBE_E_MALFORMED, "spec 3.13", 0, "All"}, /* 1 of 2 bytes */
        {BYTES(0x7A, 0x80), DBE_E_MALFORMED, "spec 3.13", 0, "All"},   /* a length does not end */
        {BYTES(0x7A, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F), DBE_E_MALFORMED, "spec 3.13", 0, "All"},
        {BYTES(0x08, 1, 0x0D, 1, 2, 3, 4), DBE_E_MALFORMED, "spec 3.13", 2, "i32"}, /* int32 as fixed32 */
        {BYTES(0x78, 1), DBE_E_MALFORMED, "spec 3.13", 0, "text"},
        {BYTES(0xA2, 1, 1, 0x80), DBE_E_MALFORMED, "spec 3.13", 3, "many[0]"}, /* an element does not end */
        {BYTES(0xAA, 1, 2, 1, 2), DBE_E_MALFORMED, "spec 3.13", 3, "wide[0]"}, /* 2 of 8 bytes */
        {BYTES(0x08, 1, 0x08, 1), DBE_E_DUPLICATE, "spec 3.14", 2, "i32"},
        {BYTES(0x8A, 1, 0, 0x8A, 1, 0), DBE_E_DUPLICATE, "spec 3.14", 3, "inner"},
        {BYTES(0x7A, 1, 0xFF), DBE_E_UTF8, "spec 3.14", 2, "text"},
        {BYTES(0x7A, 1, 0), DBE_E_UTF8, "spec 3.14", 2, "text"},
        {BYTES(0xB2, 1, 1, 'a', 0xB2, 1, 1, 0xC0), DBE_E_UTF8, "spec 3.14", 7, "texts[1]"},
        {BYTES(0x5D, 0, 0, 0x80, 0x7F), DBE_E_RANGE, "spec 3.14", 0, "real32"},             /* infinite */
        {BYTES(0x61, 0, 0, 0, 0, 0, 0, 0xF8, 0x7F), DBE_E_RANGE, "spec 3.14", 0, "real64"}, /* NaN */
        {BYTES(0x8A, 1, 3, 0x8A, 1, 5), DBE_E_MALFORMED, "spec 3.13", 3, "inner.All"},
        {BYTES(0xCA, 1, 3, 0x0A, 1, 'k', 0xCA, 1, 3, 0x0A, 1, 'k'), DBE_E_DUPLICATE, "spec 3.14", 6, "named[1]"},
        {BYTES(0xCA, 1, 0, 0xCA, 1, 2, 0x0A, 0), DBE_E_DUPLICATE, "spec 3.14", 3, "named[1]"}, /* both keys are "" */
        {BYTES(0xCA, 1, 3, 0x0A, 1, 0xFF), DBE_E_UTF8, "spec 3.14", 5, "named[0].key"},
    };
    struct dbe_diag diag;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        memset(&diag, 0, sizeof diag);
        assert_int_equal(judge(&kinds__all__descriptor, rows[i].bytes, rows[i].len, false, NULL), rows[i].err);
        assert_int_equal(judge(&kinds__all__descriptor, rows[i].bytes, rows[i].len, false, &diag), rows[i].err);
        assert_string_equal(diag.clause, rows[i].clause);
        assert_int_equal(diag.offset, rows[i].offset);
        if (strstr(diag.text, rows[i].path) == NULL && strstr(rows[i].path, ".All") == NULL)
            fail_msg("row %zu: \"%s\" does not name %s", i, diag.text, rows[i].path);
    }
}

static void good_forms(void **state)
{
    static const struct {
        uint8_t bytes[24];
        size_t len;
    } rows[] = {
        {BYTES(0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1)}, /* -1 */
        {BYTES(0xF8, 7, 1)},                                                    /* unknown field 127 */
        {BYTES(0x08, 1, 0xF8, 7, 1, 0xF8, 7, 1)},                               /* unknown twice */
        {BYTES(0xA2, 1, 2, 1, 2)},                                              /* packed */
        {BYTES(0xA0, 1, 1, 0xA0, 1, 2)},                                        /* the same, not packed */
        {BYTES(0xC2, 1, 2, 0, 1)},                                              /* packed without being marked so */
        {BYTES(0xCA, 1, 0)},                                                    /* an entry of nothing */
        {BYTES(0x88, 0x80, 0x80, 0x80, 0x20, 1)},                               /* unknown field 2^30 + 1 */
    };
    struct dbe_diag diag;

    (void)state;
    assert_int_equal(payload_form(&kinds__all__descriptor, NULL, 0, false, &diag), DBE_OK);
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        diag.text[0] = '\0';
        if (judge(&kinds__all__descriptor, rows[i].bytes, rows[i].len, false, &diag) != DBE_OK)
            fail_msg("row %zu: %s", i, diag.text);
    }
}

/* spec 3.14: messages within messages. */
static void depth_has_its_maximum(void **state)
{
    uint8_t bytes[3 * DBE_PAYLOAD_DEPTH_MAX];
    struct dbe_diag diag = {0};
    size_t len = 0;

    (void)state;
    for (size_t depth = 1; depth <= DBE_PAYLOAD_DEPTH_MAX; depth++) {
        if (depth > 1) { /* one more around it */
            memmove(bytes + 3, bytes, len);
            memcpy(bytes, (const uint8_t[]){0x8A, 1, (uint8_t)len}, 3);
            len += 3;
        }
        assert_int_equal(judge(&kinds__all__descriptor, bytes, len, false, &diag), DBE_OK);
    }
    memmove(bytes + 3, bytes, len);
    memcpy(bytes, (const uint8_t[]){0x8A, 1, (uint8_t)len}, 3);
    assert_int_equal(judge(&kinds__all__descriptor, bytes, len + 3, false, &diag), DBE_E_TOO_LARGE);
    assert_string_equal(diag.clause, "spec 3.14");
}

/* spec 3.14: entries of a map. */
static void maps_have_their_maximum(void **state)
{
    static uint8_t bytes[(DBE_PAYLOAD_MAP_MAX + 1) * 9];
    size_t len = 0, full = 0;
    struct dbe_diag diag = {0};

    (void)state;
    for (size_t i = 0; i <= DBE_PAYLOAD_MAP_MAX; i++) {
        char key[8];
        full = len;
        snprintf(key, sizeof key, "%04zx", i);
        memcpy(bytes + len, (const uint8_t[]){0xD2, 1, 6, 0x0A, 4}, 5);
        memcpy(bytes + len + 5, key, 4);
        len += 9;
    }
    assert_int_equal(judge(&kinds__all__descriptor, bytes, full, false, &diag), DBE_OK);
    assert_int_equal(judge(&kinds__all__descriptor, bytes, len, false, &diag), DBE_E_TOO_LARGE);
    assert_int_equal(diag.offset, full);
    bytes[full] = 0xCA; /* an entry of another map counts as well, with a key of its own */
    assert_int_equal(judge(&kinds__all__descriptor, bytes, len, false, &diag), DBE_E_TOO_LARGE);
}

/* spec 3.14: elements of repeated fields, wherever they are. */
static void elements_have_their_maximum(void **state)
{
    static uint8_t bytes[3 * (DBE_PAYLOAD_ELEMENTS_MAX + 2)];
    struct dbe_diag diag = {0};

    (void)state;
    for (size_t i = 0; i < DBE_PAYLOAD_ELEMENTS_MAX + 2; i++)
        memcpy(bytes + 3 * i, "\xB2\1\0", 3); /* an empty text */
    assert_int_equal(judge(&kinds__all__descriptor, bytes, 3 * DBE_PAYLOAD_ELEMENTS_MAX, false, &diag), DBE_OK);
    assert_int_equal(judge(&kinds__all__descriptor, bytes, 3 * DBE_PAYLOAD_ELEMENTS_MAX + 3, false, &diag),
                     DBE_E_TOO_LARGE);
    assert_int_equal(diag.offset, 3 * DBE_PAYLOAD_ELEMENTS_MAX);
    memcpy(bytes, "\x8A\1\3", 3); /* one of them in a message of its own counts as well, the message does not */
    assert_int_equal(judge(&kinds__all__descriptor, bytes, 3 * DBE_PAYLOAD_ELEMENTS_MAX + 3, false, &diag), DBE_OK);
    assert_int_equal(judge(&kinds__all__descriptor, bytes, sizeof bytes, false, &diag), DBE_E_TOO_LARGE);
}

/* spec 3.14: the length of a key; and two maps may have the same one. */
static void keys_have_their_maximum(void **state)
{
    static uint8_t bytes[7 + DBE_PAYLOAD_KEY_MAX + 1];
    struct dbe_diag diag = {0};

    (void)state;
    for (size_t len = DBE_PAYLOAD_KEY_MAX - 1; len <= DBE_PAYLOAD_KEY_MAX + 1; len++) {
        size_t entry = 3 + len; /* tag, and a length of two bytes */
        memcpy(bytes,
               (const uint8_t[]){0xD2, 1, (uint8_t)(entry | 0x80), (uint8_t)(entry >> 7), 0x0A, (uint8_t)(len | 0x80),
                                 (uint8_t)(len >> 7)},
               7);
        memset(bytes + 7, 'k', len);
        assert_int_equal(payload_form(&kinds__all__descriptor, bytes, 7 + len, false, &diag),
                         len <= DBE_PAYLOAD_KEY_MAX ? DBE_OK : DBE_E_TOO_LARGE);
    }
    assert_int_equal(diag.offset, 4);
    memcpy(bytes, "\xCA\1\3\x0A\1k\xD2\1\3\x0A\1k", 12);
    assert_int_equal(judge(&kinds__all__descriptor, bytes, 12, false, &diag), DBE_OK);
}

/* However the entries lie, a large payload is judged in one pass; looking back over all of it takes minutes. */
static void junk_between_entries_costs_nothing(void **state)
{
    size_t len = DBE_PAYLOAD_MAX_BYTES, at = 0;
    uint8_t *bytes = malloc(len);

    (void)state;
    for (; at + 16 < len - DBE_PAYLOAD_MAP_MAX * 16; at += 3)
        memcpy(bytes + at, "\xF8\7\1", 3); /* an unknown field, five million times */
    for (size_t i = 0; i < DBE_PAYLOAD_MAP_MAX; i++, at += 9) {
        char key[8];
        snprintf(key, sizeof key, "%04zx", i);
        memcpy(bytes + at, "\xD2\1\6\x0A\4", 5);
        memcpy(bytes + at + 5, key, 4);
    }
    assert_int_equal(payload_form(&kinds__all__descriptor, bytes, at, false, NULL), DBE_OK);
    free(bytes);
}

static size_t pack_chat(float temperature, float top_p, size_t stops, uint8_t out[256])
{
    Dsmil__L7ChatRequest m = DSMIL__L7_CHAT_REQUEST__INIT;
    char *texts[] = {(char *)"a", (char *)"b", (char *)"c", (char *)"d", (char *)"e"};

    m.has_temperature_case = DSMIL__L7_CHAT_REQUEST__HAS_TEMPERATURE_TEMPERATURE;
    m.temperature = temperature;
    m.has_top_p_case = DSMIL__L7_CHAT_REQUEST__HAS_TOP_P_TOP_P;
    m.top_p = top_p;
    m.stop = texts;
    m.n_stop = stops;
    return dsmil__l7_chat_request__pack(&m, out);
}

/* spec 3.15: the ranges of a chat request. */
static void chat_ranges(void **state)
{
    static const struct {
        float temperature, top_p;
        size_t stops;
        dbe_err err;
        const char *field;
    } rows[] = {
        {0.0F, 1.0F, 4, DBE_OK, ""},
        {2.0F, 0.001F, 0, DBE_OK, ""},
        {2.001F, 1.0F, 0, DBE_E_RANGE, "temperature"},
        {-0.001F, 1.0F, 0, DBE_E_RANGE, "temperature"},
        {1.0F, 0.0F, 0, DBE_E_RANGE, "top_p"},
        {1.0F, 1.001F, 0, DBE_E_RANGE, "top_p"},
        {1.0F, 1.0F, 5, DBE_E_RANGE, "stop"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct dbe_diag diag = {0};
        uint8_t bytes[256];
        size_t len = pack_chat(rows[i].temperature, rows[i].top_p, rows[i].stops, bytes);
        assert_int_equal(dbe_payload_check(DBE_MSG_L7_CHAT_REQ, bytes, len, &diag), rows[i].err);
        assert_non_null(strstr(diag.text, rows[i].field));
        if (rows[i].err != DBE_OK)
            assert_string_equal(diag.clause, "spec 3.15");
    }
    assert_int_equal(dbe_payload_check(DBE_MSG_L7_CHAT_REQ, NULL, 0, NULL), DBE_OK); /* absent is no value */
}

/* spec 3.15: the other types. */
static void other_ranges(void **state)
{
    static const struct {
        uint8_t type;
        uint8_t bytes[24];
        size_t len;
        dbe_err err;
    } rows[] = {
        {DBE_MSG_L7_CANCEL, BYTES(0x0A, 16, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8), DBE_OK},
        {DBE_MSG_L7_CANCEL, BYTES(0x0A, 15, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7), DBE_E_RANGE},
        {DBE_MSG_L7_CANCEL, {0}, 0, DBE_E_RANGE},
        {DBE_MSG_L9_COA, BYTES(0x20, 1), DBE_OK},
        {DBE_MSG_L9_COA, BYTES(0x20, 0), DBE_E_RANGE},
        {DBE_MSG_L9_COA, {0}, 0, DBE_E_RANGE},
        {DBE_MSG_L8_ALERT, BYTES(0x30, 1), DBE_OK},
        {DBE_MSG_L8_ALERT, BYTES(0x30, 4), DBE_OK},
        {DBE_MSG_L8_ALERT, BYTES(0x30, 5), DBE_E_RANGE},
        {DBE_MSG_L8_ALERT, {0}, 0, DBE_E_RANGE},
        {DBE_MSG_L3_EVENT, BYTES(0x31, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F), DBE_OK},      /* 1.0 */
        {DBE_MSG_L3_EVENT, BYTES(0x31, 1, 0, 0, 0, 0, 0, 0xF0, 0x3F), DBE_E_RANGE}, /* the next double */
        {DBE_MSG_L3_EVENT, BYTES(0x31, 0, 0, 0, 0, 0, 0, 0xF0, 0xBF), DBE_E_RANGE},
        {DBE_MSG_L9_COA, BYTES(0x20, 1, 0x12, 9, 0x21, 0, 0, 0, 0, 0, 0, 0, 0x40), DBE_E_RANGE}, /* a score of 2 */
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        assert_int_equal(dbe_payload_check(rows[i].type, rows[i].bytes, rows[i].len, NULL), rows[i].err);
    assert_int_equal(dbe_payload_check(0x99, NULL, 0, NULL), DBE_E_UNSUPPORTED);
    assert_int_equal(dbe_payload_check(DBE_MSG_ERROR, rows[0].bytes, DBE_PAYLOAD_MAX_BYTES + 1U, NULL),
                     DBE_E_TOO_LARGE);
}

/* Comment of a field in the schema: "0 to 1" and so on; "" where there is none. */
static void comment_of(const char *proto, const char *message, const char *field, char out[128])
{
    char head[64], name[64];
    const char *start, *end, *at, *line, *note;

    snprintf(head, sizeof head, "\nmessage %s {", message);
    snprintf(name, sizeof name, " %s = ", field);
    start = strstr(proto, head);
    assert_non_null(start);
    end = strstr(start, "\n}");
    at = strstr(start, name);
    out[0] = '\0';
    assert_true(at != NULL && at < end);
    line = strchr(at, '\n');
    note = strstr(at, "//");
    if (note != NULL && note < line)
        snprintf(out, 128, "%.*s", (int)(line - note), note);
}

/* Every rule stands beside its field in the schema, and every range that stands there is a rule. */
static void rules_are_the_schema_s(void **state)
{
    static const char *const words[] = {"0 to 2",          "(0, 1]",     "at most 4",   "16 bytes",
                                        "0 to 1",          "1 low to 4", "always",      "-2 to 2",
                                        "within 100 of 0", "at most 64", "at most 2048"};
    const struct payload_rule *rules;
    size_t count = payload_rules(&rules), stated = 0;
    struct base_buf proto = {0};
    struct dbe_diag diag = {0};
    char path[4096], note[128];
    const char *root = getenv("DSMIL_SOURCE_ROOT");

    (void)state;
    snprintf(path, sizeof path, "%s/schema/proto/dsmil.proto", root != NULL ? root : ".");
    if (base_file_read(path, 1 << 20, &proto, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    for (size_t i = 0; i < count; i++) {
        bool found = false;
        comment_of(base_buf_cstr(&proto), rules[i].message, rules[i].field, note);
        for (size_t w = 0; w < BASE_ARRAY_LEN(words); w++)
            found |= strstr(note, words[w]) != NULL;
        if (!found)
            fail_msg("%s.%s: the schema says \"%s\"", rules[i].message, rules[i].field, note);
    }
    for (size_t w = 0; w < BASE_ARRAY_LEN(words); w++)
        for (const char *at = base_buf_cstr(&proto); (at = strstr(at, words[w])) != NULL; at++)
            stated++;
    assert_int_equal(stated, count);
    base_buf_free(&proto);
}

/* Nothing of the schema is beyond what this room handles. */
static void judge_schema(const payload_desc *desc, unsigned depth)
{
    assert_true(desc->n_fields <= PAYLOAD_FIELDS_MAX && depth < DBE_PAYLOAD_DEPTH_MAX);
    for (unsigned i = 0; i < desc->n_fields; i++) {
        const payload_field *f = &desc->fields[i];
        assert_true(f->label != PROTOBUF_C_LABEL_REQUIRED);
        if (payload_is_map(f))
            assert_int_equal(((const payload_desc *)f->descriptor)->fields[0].type, PROTOBUF_C_TYPE_STRING);
        for (unsigned k = 0; k < i; k++) /* a oneof holds one field */
            assert_false((f->flags & desc->fields[k].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
                         f->quantifier_offset == desc->fields[k].quantifier_offset);
        if (f->type == PROTOBUF_C_TYPE_MESSAGE)
            judge_schema(f->descriptor, depth + 1);
    }
}

static void the_schema_is_handled(void **state)
{
    size_t types = 0;

    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        const struct dbe_msg_row *row = dbe_reg_msg((uint8_t)type);
        const payload_desc *desc = payload_desc_of((uint8_t)type);
        assert_true((row == NULL) == (desc == NULL));
        if (row == NULL)
            continue;
        assert_string_equal(desc->short_name, row->payload);
        judge_schema(desc, 1);
        types += row->type == type;
    }
    assert_int_equal(types, DBE_MSG_TYPE_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_forms),
        cmocka_unit_test(good_forms),
        cmocka_unit_test(depth_has_its_maximum),
        cmocka_unit_test(maps_have_their_maximum),
        cmocka_unit_test(elements_have_their_maximum),
        cmocka_unit_test(keys_have_their_maximum),
        cmocka_unit_test(junk_between_entries_costs_nothing),
        cmocka_unit_test(chat_ranges),
        cmocka_unit_test(other_ranges),
        cmocka_unit_test(rules_are_the_schema_s),
        cmocka_unit_test(the_schema_is_handled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
