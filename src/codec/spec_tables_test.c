/* SPDX-License-Identifier: Apache-2.0
 *
 * spec_tables_test.c - the tables of docs/spec/dbe-v1.md are those of this implementation: the header, the TLVs, the
 * classes and ranges of errors, the limits. In: DSMIL_SOURCE_ROOT.
 */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/wire.h"

enum { SPEC_MAX_BYTES = 1 << 20, CELLS = 8, CELL_BYTES = 160, ROWS_MAX = 64 };

static struct base_buf spec;

struct table {
    char cell[ROWS_MAX][CELLS][CELL_BYTES];
    size_t rows;
};
static struct table table;

static int read_spec(void **state)
{
    char path[4096];
    const char *root = getenv("DSMIL_SOURCE_ROOT");
    struct dbe_diag diag = {0};

    (void)state;
    snprintf(path, sizeof path, "%s/docs/spec/dbe-v1.md", root != NULL ? root : ".");
    if (base_file_read(path, SPEC_MAX_BYTES, &spec, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    return 0;
}

static int free_spec(void **state)
{
    (void)state;
    base_buf_free(&spec);
    return 0;
}

/* One line "| a | b |" as cells, without blanks and code marks around them. */
static void read_row(const char *line, char cells[CELLS][CELL_BYTES])
{
    for (size_t c = 0; c < CELLS; c++) {
        const char *end;
        size_t n = 0;
        line += strspn(line, "| `");
        end = line + strcspn(line, "|\n");
        while (end > line && (end[-1] == ' ' || end[-1] == '`'))
            end--;
        n = BASE_MIN((size_t)(end - line), (size_t)CELL_BYTES - 1);
        memcpy(cells[c], line, n);
        cells[c][n] = '\0';
        line += strcspn(line, "|\n");
        if (*line != '|' || line[1] == '\n')
            break;
    }
}

/* The table of a clause, without its head. */
static void read_table(const char *clause)
{
    char mark[16];
    const char *at, *next;

    memset(&table, 0, sizeof table);
    snprintf(mark, sizeof mark, "\n**%s**", clause);
    at = strstr(base_buf_cstr(&spec), mark);
    assert_non_null(at);
    next = strstr(at + 1, "\n**");
    at = strstr(at, "\n|---");
    assert_true(at != NULL && (next == NULL || at < next));
    for (at = strchr(at + 1, '\n'); at != NULL && at[1] == '|' && table.rows < ROWS_MAX; at = strchr(at + 1, '\n'))
        read_row(at + 1, table.cell[table.rows++]);
}

/* spec 2.5, 3.2: offsets and widths, which follow each other up to the header's end. */
static void the_header(void **state)
{
    static const struct {
        const char *name;
        size_t at;
    } fields[] = {
        {"magic", CODEC_AT_MAGIC},       {"version", CODEC_AT_VERSION},   {"msg_type", CODEC_AT_TYPE},
        {"flags", CODEC_AT_FLAGS},       {"correlation_id", CODEC_AT_CORRELATION},
        {"payload_len", CODEC_AT_PAYLOAD_LEN}, {"tlv_len", CODEC_AT_TLV_LEN}, {"reserved", CODEC_AT_RESERVED},
    };
    size_t at = 0;

    (void)state;
    read_table("3.2");
    assert_int_equal(table.rows, BASE_ARRAY_LEN(fields));
    for (size_t i = 0; i < table.rows; i++) {
        assert_int_equal(strtoul(table.cell[i][0], NULL, 10), at);
        assert_int_equal(fields[i].at, at);
        assert_string_equal(table.cell[i][2], fields[i].name);
        at += strtoul(table.cell[i][1], NULL, 10);
    }
    assert_int_equal(at, DBE_HEADER_BYTES);
}

/* spec 4.13: every TLV of the registry stands in the table, under its number. */
static void the_tlvs(void **state)
{
    size_t known = 0, shown = 0;

    (void)state;
    read_table("4.13");
    for (size_t i = 0; i < table.rows; i++) {
        uint16_t type = (uint16_t)strtoul(table.cell[i][0], NULL, 16);
        const char *name = table.cell[i][1];
        const struct dbe_tlv_row *row = dbe_reg_tlv(type);
        assert_non_null(row);
        shown += strchr(table.cell[i][0], ',') != NULL ? 2 : 1; /* a row of two: the signatures A and B */
        if (strncmp(name, row->name, strlen(row->name)) != 0)
            fail_msg("0x%04x is %s in the registry, %s in the specification", type, row->name, name);
    }
    for (uint32_t type = 0; type <= UINT16_MAX; type++)
        known += dbe_reg_tlv((uint16_t)type) != NULL;
    assert_int_equal(known, DBE_TLV_TYPE_COUNT);
    assert_int_equal(shown, known);
}

static const char *const class_names[] = {
    [DBE_CLASS_NONE] = "NONE",   [DBE_CLASS_DROP] = "DROP",   [DBE_CLASS_PEER] = "PEER",   [DBE_CLASS_DENY] = "DENY",
    [DBE_CLASS_RETRY] = "RETRY", [DBE_CLASS_LIMIT] = "LIMIT", [DBE_CLASS_LOCAL] = "LOCAL", [DBE_CLASS_FATAL] = "FATAL",
};

/* spec 9.1, 9.2: the classes are those of the table, and every error has one number, one name and one class. */
static void the_classes(void **state)
{
    (void)state;
    read_table("9.2");
    assert_int_equal(table.rows, BASE_ARRAY_LEN(class_names));
    for (size_t i = 0; i < table.rows; i++)
        assert_string_equal(table.cell[i][0], class_names[i]);
    for (int err = 0; err < 1 << 16; err++) {
        const struct dbe_err_row *row = dbe_reg_err(err);
        if (row == NULL)
            continue;
        assert_int_equal(row->err, err);
        assert_true((unsigned)row->cls < BASE_ARRAY_LEN(class_names) && row->name[0] != '\0' && row->doc[0] != '\0');
        assert_int_equal(dbe_err_class((dbe_err)err), row->cls);
        for (int other = 0; other < err && other < 128; other++) {
            const struct dbe_err_row *before = dbe_reg_err(other);
            assert_false(before != NULL && strcmp(before->name, row->name) == 0);
        }
    }
}

/* spec 9.3: a number that is not known is read by its range, so every known one has the class of its range. */
static void the_ranges(void **state)
{
    (void)state;
    read_table("9.3");
    for (size_t i = 0; i < table.rows; i++) {
        char *to;
        unsigned long first = strtoul(table.cell[i][0], &to, 10), last = UINT16_MAX;
        if (strncmp(to, " to ", 4) == 0)
            last = strtoul(to + 4, NULL, 10);
        for (unsigned long err = first; err <= last; err++) {
            const struct dbe_err_row *row = dbe_reg_err((int)err);
            if (row == NULL)
                continue;
            if (i + 1 < table.rows)
                assert_string_equal(class_names[row->cls], table.cell[i][1]);
            else
                assert_true(row->cls == DBE_CLASS_LOCAL || row->cls == DBE_CLASS_FATAL);
        }
    }
    assert_int_equal(table.rows, 6);
}

/* spec 13.1: the limits that are numbers of bytes, records or times. */
static void the_limits(void **state)
{
    static const struct {
        const char *name;
        uint64_t value;
    } limits[] = {
        {"header", DBE_HEADER_BYTES},
        {"TLV area", DBE_TLV_AREA_MAX_BYTES},
        {"TLVs in a message", DBE_TLVS_MAX},
        {"payload", DBE_PAYLOAD_MAX_BYTES},
        {"LAYER_PATH, HOP_TRACE", DBE_HOPS_MAX},
        {"handshake message", DBE_HANDSHAKE_MAX_BYTES},
        {"certificate", DBE_CERT_MAX_BYTES},
        {"suites offered", DBE_SUITES_MAX},
        {"SPIFFE id", DBE_SPIFFE_ID_MAX_BYTES - 1},
        {"mesh name", DBE_MESH_NAME_MAX_BYTES - 1},
        {"tenant", DBE_TENANT_MAX_BYTES},
        {"age of a key", DBE_REKEY_AGE_NS / 1000000000},
        {"replay window, datagrams", DBE_REPLAY_WINDOW},
        {"handshake", DBE_HANDSHAKE_TIMEOUT_MS / 1000},
        {"channels of a node", DBE_PEERS_MAX},
        {"requests in flight on a channel", DBE_CALLS_IN_FLIGHT_MAX},
        {"bytes waiting to be sent on a channel", DBE_SEND_QUEUE_MAX_BYTES},
    };
    size_t found = 0;

    (void)state;
    read_table("13.1");
    for (size_t i = 0; i < table.rows; i++)
        for (size_t k = 0; k < BASE_ARRAY_LEN(limits); k++) {
            if (strcmp(table.cell[i][0], limits[k].name) != 0)
                continue;
            assert_int_equal(strtoull(table.cell[i][1], NULL, 10), limits[k].value);
            found++;
        }
    assert_int_equal(found, BASE_ARRAY_LEN(limits));
    _Static_assert(DBE_REKEY_RECORDS == 1 << 30, "records under one key");
    assert_true(DBE_REKEY_BYTES == UINT64_C(1) << 36);
    assert_int_equal(DBE_LAYER_PATH_MAX, DBE_HOPS_MAX);
    assert_int_equal(DBE_RECORD_MAX_BYTES, DBE_MESSAGE_MAX_BYTES + 16 + 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_header),  cmocka_unit_test(the_tlvs),   cmocka_unit_test(the_classes),
        cmocka_unit_test(the_ranges), cmocka_unit_test(the_limits),
    };

    return cmocka_run_group_tests(tests, read_spec, free_spec);
}
