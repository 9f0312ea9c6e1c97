/* SPDX-License-Identifier: Apache-2.0
 *
 * audit_test.c - a service's queue of audit records, its anchor, and what becomes a record, through the mesh of the
 * fixture (spec audit 1, 2.5, 2.8 and 8.2). A sink stands where Device 14 is.
 */
#include "runtime/mesh_fixture.h"

#include <stdio.h>
#include <unistd.h>

#include "runtime/audit.h"

enum { SEEN_MAX = 70000 };

static struct taken {
    struct svc *svc;
    size_t count, batches;
    struct {
        uint8_t kind, msg_type;
        uint16_t code;
        uint32_t count;
        uint64_t seq;
        bool has_channel;
        char rule[32];
    } seen[SEEN_MAX];
    bool refuse, silent;
    uint64_t next;
} taken;

static dbe_err sink(void *ctx, const uint8_t run[8], const void *records, size_t len)
{
    const uint8_t *at = records, *end = at + len;
    struct audit_record r;
    size_t one;

    (void)ctx, (void)run;
    taken.batches++;
    assert_true(len <= AUDIT_BATCH_MAX_BYTES);
    if (taken.refuse)
        return DBE_E_UNAVAILABLE;
    for (; at < end; at += one) {
        assert_int_equal(audit_record_get(at, (size_t)(end - at), &r, &one), DBE_OK);
        taken.next = r.seq + 1;
        if (taken.silent)
            continue;
        assert_true(taken.count < SEEN_MAX);
        taken.seen[taken.count].kind = r.kind;
        taken.seen[taken.count].msg_type = r.msg_type;
        taken.seen[taken.count].code = r.code;
        taken.seen[taken.count].count = r.count;
        taken.seen[taken.count].seq = r.seq;
        taken.seen[taken.count].has_channel = r.has_channel;
        snprintf(taken.seen[taken.count].rule, sizeof taken.seen[0].rule, "%.*s", (int)r.rule.len, r.rule.at);
        taken.count++;
    }
    return DBE_OK;
}

static void acknowledge(void)
{
    svc_audit_stored(taken.svc, taken.next);
}

/* The router's records from here on. */
static void listen_in(struct mesh *m)
{
    memset(&taken, 0, sizeof taken);
    taken.svc = m->router;
    assert_int_equal(svc_audit_open(m->router), DBE_OK);
    svc_audit_set_sink(m->router, sink, NULL);
}

static size_t seen_of(uint8_t kind, uint16_t code, const char *rule)
{
    size_t n = 0;

    for (size_t i = 0; i < taken.count; i++)
        n += taken.seen[i].kind == kind && taken.seen[i].code == code &&
             (rule == NULL || strcmp(taken.seen[i].rule, rule) == 0);
    return n;
}

/* spec audit 1.1: one record for a message that is allowed, one for one that is not */
static void decisions(void **state)
{
    struct mesh *m = *state;
    struct ask good = ask_good(), bad = ask_good();

    listen_in(m);
    ask(m, &good);
    PUMP_UNTIL(m, answer.last);
    bad.compartments |= DBE_COMPARTMENT_KINETIC;
    PUMP_UNTIL(m, taken.batches == 1);
    acknowledge();
    send_raw(m, &bad);
    PUMP_UNTIL(m, seen_of(AUDIT_DECISION, DBE_E_KINETIC, "kinetic") == 1);
    assert_int_equal(seen_of(AUDIT_DECISION, DBE_OK, NULL), 1);
    assert_int_equal(taken.seen[0].msg_type, DBE_MSG_L7_CHAT_REQ);
    for (size_t i = 0; i < taken.count; i++)
        assert_int_equal(taken.seen[i].seq, i);
}

/* spec audit 2.8: what is not acknowledged comes again, and is not forgotten before */
static void comes_again(void **state)
{
    struct mesh *m = *state;

    listen_in(m);
    taken.refuse = true;
    svc_audit_event(m->router, AUDIT_ORDER, DBE_OK, NULL, 0, "first");
    for (unsigned i = 1; i <= 3; i++) {
        PUMP_UNTIL(m, taken.batches >= i);
        clock_ns += SVC_AUDIT_RETRY_MAX_MS * (uint64_t)BASE_NS_PER_MS;
    }
    assert_true(m->router->audit->failures >= 2);
    assert_false(svc_audit_idle(m->router));
    taken.refuse = false;
    svc_audit_event(m->router, AUDIT_ORDER, DBE_OK, NULL, 0, "second");
    clock_ns += SVC_AUDIT_RETRY_MAX_MS * (uint64_t)BASE_NS_PER_MS;
    PUMP_UNTIL(m, taken.count == 2);
    assert_false(svc_audit_idle(m->router));
    acknowledge();
    assert_true(svc_audit_idle(m->router));
}

/* spec audit 2.5: beyond the queue's size permitted messages are counted and stand in one gap record; refusals and
 * events still find room, and no number is skipped */
static void overflow(void **state)
{
    struct mesh *m = *state;
    struct audit_record permitted = {.kind = AUDIT_DECISION}, refused = {.kind = AUDIT_DECISION, .code = DBE_E_DENIED};
    uint64_t put = 0, next = 0, gaps = 0;

    listen_in(m);
    while (m->router->audit->lost < 1000) {
        svc_audit_put(m->router, &permitted);
        put++;
    }
    for (int i = 0; i < 100; i++) {
        svc_audit_put(m->router, &refused);
        put++;
    }
    assert_int_equal(m->router->audit->lost, 1000);
    while (next < put) {
        size_t before = taken.count;
        PUMP_UNTIL(m, taken.count > before);
        for (size_t i = before; i < taken.count; i++) {
            uint64_t first =
                taken.seen[i].kind == AUDIT_GAP ? taken.seen[i].seq - taken.seen[i].count + 1 : taken.seen[i].seq;
            assert_int_equal(first, next);
            next = taken.seen[i].seq + 1;
            gaps += taken.seen[i].kind == AUDIT_GAP ? taken.seen[i].count : 0;
        }
        acknowledge();
    }
    assert_int_equal(gaps, 1000);
    assert_int_equal(seen_of(AUDIT_DECISION, DBE_E_DENIED, NULL), 100);
}

/* A queue that never empties goes round and round: every record comes once, in order, however much of a batch is
 * acknowledged. */
static void goes_round(void **state)
{
    struct mesh *m = *state;
    char words[200];
    uint64_t put = 0, next = 0;

    listen_in(m);
    for (unsigned round = 0; round < 90; round++) {
        for (unsigned i = 0; i < 1500 && m->router->audit->lost == 0 && round < 70; i++, put++) {
            memset(words, 'x', sizeof words);
            struct audit_record r = {.kind = AUDIT_ORDER, .detail = {words, (put * 7) % sizeof words}};
            svc_audit_put(m->router, &r);
        }
        if (next == put)
            break;
        size_t before = taken.batches;
        taken.count = 0;
        PUMP_UNTIL(m, taken.batches > before);
        assert_int_equal(taken.seen[0].seq, next);
        for (size_t i = 0; i < taken.count; i++)
            assert_int_equal(taken.seen[i].seq, next + i);
        next += round % 3 == 2 ? taken.count / 2 : taken.count; /* a part of it, at times */
        svc_audit_stored(m->router, next);
    }
    while (next < put) {
        size_t before = taken.batches;
        taken.count = 0;
        PUMP_UNTIL(m, taken.batches > before);
        assert_int_equal(taken.seen[0].seq, next);
        next = taken.next;
        acknowledge();
    }
    assert_int_equal(m->router->audit->lost, 0);
    assert_true(put * 150 > 2 * SVC_AUDIT_RING_BYTES);
    assert_true(svc_audit_idle(m->router));
}

/* Even the reserved share ends: that is counted, and a gap record waits for the first room. */
static void overflow_of_refusals(void **state)
{
    struct mesh *m = *state;
    struct audit_record refused = {.kind = AUDIT_DECISION, .code = DBE_E_DENIED};
    uint64_t put = 0, gaps = 0;

    listen_in(m);
    for (; m->router->audit->lost < 10; put++)
        svc_audit_put(m->router, &refused);
    while (taken.next < put) {
        size_t before = taken.count;
        PUMP_UNTIL(m, taken.count > before);
        for (size_t i = before; i < taken.count; i++)
            gaps += taken.seen[i].kind == AUDIT_GAP ? taken.seen[i].count : 0;
        acknowledge();
    }
    assert_int_equal(gaps, 10);
}

/* ---- anchor -------------------------------------------------------------------------------------------------- */

static bool exists(const char *suffix)
{
    char path[128];

    snprintf(path, sizeof path, "%s/anchor%s", dir, suffix);
    return access(path, F_OK) == 0;
}

static uint64_t anchored(const char *suffix)
{
    char path[128];
    struct base_buf text = {0};
    struct audit_anchor a = {0};

    snprintf(path, sizeof path, "%s/anchor%s", dir, suffix);
    assert_int_equal(base_file_read(path, 65536, &text, NULL), DBE_OK);
    assert_int_equal(audit_anchor_get((char *)text.data, text.len, &a), DBE_OK);
    base_buf_free(&text);
    return a.size;
}

/* spec audit 8.1, 8.2: the newest head is kept; a smaller log, or another of its size, is put aside and recorded */
static void anchors(void **state)
{
    struct mesh *m = *state;
    uint8_t root[AUDIT_HASH_BYTES] = {1}, other[AUDIT_HASH_BYTES] = {2};

    snprintf(m->router->cfg.audit_anchor, sizeof m->router->cfg.audit_anchor, "%s/anchor", dir);
    listen_in(m);
    svc_anchor_take(m->router, 10, root, NULL, 0);
    svc_anchor_take(m->router, 12, other, NULL, 0);
    svc_audit_close(m->router);
    assert_int_equal(anchored(""), 12);
    assert_false(exists(".conflict"));
    listen_in(m);
    svc_anchor_take(m->router, 12, other, NULL, 0);
    assert_false(exists(".conflict"));
    svc_anchor_take(m->router, 12, root, NULL, 0);
    assert_int_equal(anchored(".conflict"), 12);
    svc_anchor_take(m->router, 3, root, NULL, 0);
    assert_int_equal(anchored(".conflict"), 12); /* the first stays */
    PUMP_UNTIL(m, seen_of(AUDIT_ANCHOR, DBE_E_AUTH, NULL) == 2);
    svc_audit_close(m->router);
    assert_int_equal(anchored(""), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MESH_TEST(decisions),  MESH_TEST(comes_again),          MESH_TEST(overflow),
        MESH_TEST(goes_round), MESH_TEST(overflow_of_refusals), MESH_TEST(anchors),
    };
    return cmocka_run_group_tests(tests, group_up, group_down);
}
