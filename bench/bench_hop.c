/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_hop.c - what DBE adds to a round trip besides the seal: both messages built and decoded, the replay check, the
 * policy's decision about the request and about its answer. One thread, nothing sent.
 *
 * Out: nanoseconds of each part and their sum, medians; `--json FILE` writes the same as JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/median.h"
#include "policy/policy.h"
#include "session/session_priv.h"

enum { SLICES = 41, COUNT = 5000, PAYLOAD = 1024, ROUTER = 43, WORKER = 47 };

static uint8_t box[2048], payload[PAYLOAD], request_id[16];
static struct dbe_msg msg;
static size_t box_len;
static struct pol_policy policy;
static struct sess_replay replay;
static const struct dbe_identity router = {.device = ROUTER, .role = DBE_ROLE_ROUTER, .layer = 7,
                                           .classification_max = DBE_CLSF_SECRET, .compartments = 0xf};
static const struct dbe_identity worker = {.device = WORKER, .role = DBE_ROLE_WORKER, .layer = 7,
                                           .classification_max = DBE_CLSF_SECRET, .compartments = 0xf};
static const struct pol_labels asked = {.tenant = "SOC_TEAM_ALPHA", .compartments = DBE_COMPARTMENT_SOC,
                                        .classification = DBE_CLSF_CONFIDENTIAL, .roe_level = DBE_ROE_SOC_ASSIST};

static void must(dbe_err err)
{
    if (err == DBE_OK)
        return;
    (void)fprintf(stderr, "bench_hop: %s\n", dbe_err_name(err));
    exit(1);
}

static void build(void)
{
    struct dbe_builder b;

    dbe_build_begin(&b, box, sizeof box, DBE_MSG_L7_MODEL_STATUS, 0, 1);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, asked.tenant);
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, asked.compartments);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, asked.classification);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, asked.roe_level);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, ROUTER);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, WORKER);
    dbe_build_timestamp_ms(&b, 1700000000000);
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, request_id, sizeof request_id);
    dbe_build_payload(&b, payload, sizeof payload);
    must(dbe_build_end(&b, &box_len));
}

static void decode(void)
{
    must(dbe_msg_decode(box, box_len, &msg, NULL));
}

static void replay_one(void)
{
    uint64_t seq = replay.next;

    must(sess_replay_check(&replay, seq));
    sess_replay_commit(&replay, seq);
}

static void decide(void)
{
    const struct pol_subject subject = {.peer = &router, .self = &worker};
    struct pol_verdict verdict;

    pol_decide(&subject, &msg, &policy, 1700000000000, &verdict);
    must(verdict.code);
}

static void decide_answer(void)
{
    struct pol_verdict verdict;

    /* the request seen from the other side is as good an answer: the same rules run to their end */
    pol_decide_answer(&router, &worker, &asked, &msg, &verdict);
    must(verdict.code);
}

static const struct part {
    const char *name;
    void (*run)(void);
    unsigned in_round_trip;
} parts[] = {
    {"build", build, 2},
    {"decode", decode, 2},
    {"replay", replay_one, 2},
    {"decide", decide, 1},
    {"decide answer", decide_answer, 1},
};

static double median_ns(const struct part *p)
{
    double ns[SLICES];

    for (size_t i = 0; i < SLICES; i++) {
        uint64_t start = base_mono_ns();
        for (size_t n = 0; n < COUNT; n++)
            p->run();
        ns[i] = (double)(base_mono_ns() - start) / COUNT;
    }
    return median(ns, SLICES);
}

int main(int argc, char *argv[])
{
    FILE *json = argc == 3 && strcmp(argv[1], "--json") == 0 ? fopen(argv[2], "w") : NULL;
    double sum = 0;

    pol_policy_default(&policy);
    build();
    decode();
    if (json != NULL)
        (void)fprintf(json, "{\"bench\": \"hop\", \"tlvs\": 8, \"ns\": {");
    printf("what DBE adds to a round trip of two messages with 8 TLVs, nanoseconds\n");
    for (size_t i = 0; i < BASE_ARRAY_LEN(parts); i++) {
        double ns = median_ns(&parts[i]);
        sum += ns * parts[i].in_round_trip;
        printf("%-16s %8.1f  x %u\n", parts[i].name, ns, parts[i].in_round_trip);
        if (json != NULL)
            (void)fprintf(json, "\"%s\": %.1f, ", parts[i].name, ns);
    }
    printf("%-16s %8.1f\n", "round trip", sum);
    if (json != NULL)
        return fprintf(json, "\"round trip\": %.1f}}\n", sum) < 0 || fclose(json) != 0;
    return 0;
}
