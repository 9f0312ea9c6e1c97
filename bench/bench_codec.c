/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_codec.c - what it costs to read and to write a message, without a channel around it.
 *
 * In:  --json FILE
 * Out: a table and, if asked for, JSON: nanoseconds to decode and to encode messages of 0, 12 and 64 TLVs, to read the
 *      labels out of one, to peek a length, and to refuse a bad one. Medians of many slices on one CPU.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/median.h"
#include "base/base.h"
#include "dbe/msg.h"

enum { SLICES = 200, ROUNDS = 5000, ROOM = 8192 };

struct row {
    const char *name, *doc;
    void (*run)(void);
    double ns;
};

static uint8_t mem[ROOM], out[ROOM], plain[DBE_HEADER_BYTES + 64], many[ROOM], bad[ROOM];
static size_t mem_len, plain_len, many_len;
static struct dbe_msg view;
static uint64_t sink; /* what is read is used, so that the compiler keeps it */

static const uint8_t request_id[16] = {0x5f, 0x0c, 0x1b, 0x1e, 0x27, 0x33, 0x4d, 0x0a,
                                       0x9b, 0x62, 0x0e, 0x6f, 0x3a, 0x51, 0xc4, 0xd7};

/* The request of a shim, as a router sees it: twelve TLVs. */
static size_t encode_12(uint8_t *to)
{
    struct dbe_builder b;
    size_t len = 0;

    dbe_build_begin(&b, to, ROOM, DBE_MSG_L7_CHAT_REQ, DBE_FLAG_REPLAY_PROTECTED, dbe_correlation_of(request_id));
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, request_id, sizeof request_id);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, "acme-operations");
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_DEV);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, DBE_CLSF_SECRET);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, DBE_ROE_SOC_ASSIST);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, 0);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, 43);
    dbe_build_layer_path(&b, NULL, 7);
    dbe_build_timestamp_ms(&b, 1700000000000);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, 60000);
    dbe_build_text(&b, DBE_TLV_L7_PROFILE, "llm-7b-amx");
    dbe_build_u64(&b, DBE_TLV_SEQUENCE_NUM, 42);
    dbe_build_payload(&b, "0123456789012345678901234567890123456789012345678901234567890123", 64);
    if (dbe_build_end(&b, &len) != DBE_OK)
        abort();
    return len;
}

static void make_messages(void)
{
    struct dbe_builder b;

    mem_len = encode_12(mem);
    dbe_build_begin(&b, plain, sizeof plain, DBE_MSG_ERROR, 0, 1);
    dbe_build_payload(&b, "", 0);
    if (dbe_build_end(&b, &plain_len) != DBE_OK)
        abort();
    dbe_build_begin(&b, many, sizeof many, DBE_MSG_ERROR, 0, 1);
    for (uint16_t i = 0; i < DBE_TLVS_MAX; i++)
        dbe_build_u32(&b, (uint16_t)(0x7000 + i), i);
    if (dbe_build_end(&b, &many_len) != DBE_OK || dbe_msg_decode(mem, mem_len, &view, NULL) != DBE_OK)
        abort();
    memcpy(bad, mem, mem_len);
    bad[mem_len - 64 - 9] = 200; /* the last TLV ends beyond the area */
}

static void run_decode(void)
{
    sink += (uint64_t)dbe_msg_decode(mem, mem_len, &view, NULL) + view.tlv_count;
}
static void run_decode_plain(void)
{
    sink += (uint64_t)dbe_msg_decode(plain, plain_len, &view, NULL);
}
static void run_decode_many(void)
{
    sink += (uint64_t)dbe_msg_decode(many, many_len, &view, NULL);
}
static void run_refuse(void)
{
    sink += (uint64_t)dbe_msg_decode(bad, mem_len, &view, NULL);
}
static void run_encode(void)
{
    sink += encode_12(out);
}
static void run_peek(void)
{
    size_t len = 0;

    sink += (uint64_t)dbe_msg_peek_len(mem, &len) + len;
}
static void run_labels(void)
{
    uint32_t mask = 0;
    uint8_t src = 0, dst = 0, clsf = 0, roe = 0;

    sink += (uint64_t)dbe_tlv_u32(&view, DBE_TLV_COMPARTMENT_MASK, &mask) +
            (uint64_t)dbe_tlv_u8(&view, DBE_TLV_DEVICE_ID_SRC, &src) +
            (uint64_t)dbe_tlv_u8(&view, DBE_TLV_DEVICE_ID_DST, &dst) +
            (uint64_t)dbe_tlv_u8(&view, DBE_TLV_CLASSIFICATION, &clsf) +
            (uint64_t)dbe_tlv_u8(&view, DBE_TLV_ROE_LEVEL, &roe) + mask + src + dst + clsf + roe;
}

static struct row rows[] = {
    {"decode_12", "decode, 12 TLVs, 64 bytes of payload", run_decode, 0},
    {"encode_12", "encode the same", run_encode, 0},
    {"decode_0", "decode a header alone", run_decode_plain, 0},
    {"decode_64", "decode, 64 unknown TLVs", run_decode_many, 0},
    {"refuse_12", "refuse it for its last TLV", run_refuse, 0},
    {"peek", "length of the message that begins here", run_peek, 0},
    {"labels", "read five labels", run_labels, 0},
};

/* Slices of all rows in turn, so that they drift together. */
static void measure(void)
{
    static double slices[BASE_ARRAY_LEN(rows)][SLICES];

    for (size_t s = 0; s < SLICES; s++)
        for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
            uint64_t start = base_mono_ns();
            for (int n = 0; n < ROUNDS; n++) {
                rows[i].run();
                __asm__ volatile("" ::: "memory");
            }
            slices[i][s] = (double)(base_mono_ns() - start) / ROUNDS;
        }
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        rows[i].ns = median(slices[i], SLICES);
    }
}

static int write_json(const char *path)
{
    struct base_buf b;
    struct dbe_diag diag = {0};

    base_buf_init(&b, 4096);
    base_buf_str(&b, "{\"bench\":\"codec\",\"unit\":\"ns\",\"rows\":{");
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        base_buf_fmt(&b, "%s\"%s\":%.1f", i > 0 ? "," : "", rows[i].name, rows[i].ns);
    base_buf_str(&b, "}}\n");
    if (b.err != DBE_OK || base_file_write(path, b.data, b.len, 0644, &diag) != DBE_OK) {
        fprintf(stderr, "bench_codec: %s: %s\n", path, diag.text);
        return 1;
    }
    base_buf_free(&b);
    return 0;
}

int main(int argc, char **argv)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET((unsigned)sched_getcpu(), &one);
    (void)sched_setaffinity(0, sizeof one, &one);
    make_messages();
    measure();
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        printf("%-12s %8.1f ns  %s\n", rows[i].name, rows[i].ns, rows[i].doc);
    if (argc > 2 && strcmp(argv[1], "--json") == 0)
        return write_json(argv[2]);
    return sink == 0;
}
