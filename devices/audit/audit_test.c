/* SPDX-License-Identifier: Apache-2.0
 *
 * audit_test.c - Device 14 on a runtime that the test plays: acknowledged is what is synced, and nothing else; whatever
 * fails, senders hear of it, and the log goes on (spec audit 2.7, 2.8 and 4).
 */
#include "devices/audit/runtime_fake.h"

/* ---- tests --------------------------------------------------------------------------------------------------- */

/* spec audit 2.8 */
static void acknowledged_when_synced(void **state)
{
    struct svc_req a, b;

    (void)state;
    assert_int_equal(send(&a, 0, 3, false), DBE_OK);
    assert_int_equal(send(&b, 3, 5, false), DBE_OK);
    assert_false(a.acked || b.acked);
    assert_int_equal(stored(), 0);
    turn();
    assert_true(a.acked && b.acked);
    assert_int_equal(a.next, 5); /* both were written together */
    assert_int_equal(b.size, 5);
    assert_int_equal(send(&a, 3, 5, false), DBE_OK); /* the acknowledgement was lost */
    turn();
    assert_true(a.acked);
    assert_int_equal(a.next, 5);
    assert_int_equal(stored(), 5);
}

/* spec audit 2.7 */
static void refuses_forged(void **state)
{
    struct svc_req a, b;

    (void)state;
    assert_int_equal(send(&a, 0, 3, true), DBE_E_AUTH);
    assert_int_equal(events[AUDIT_MALFORMED], 1);
    assert_int_equal(send(&b, 0, 0, false), DBE_E_MALFORMED);
    turn();
    assert_int_equal(stored(), 0);
    assert_int_equal(d->refused, 2);
}

/* spec audit 4.6: a disk that is full: nobody is told that it was kept, health says so, and it goes on by itself */
static void disk_full(void **state)
{
    struct svc_req a, b;

    (void)state;
    assert_int_equal(send(&a, 0, 3, false), DBE_OK);
    turn();
    audit_sys_fail_at(1, ENOSPC);
    assert_int_equal(send(&b, 3, 9, false), DBE_OK);
    turn();
    assert_true(b.refused);
    assert_int_equal(b.code, DBE_E_UNAVAILABLE);
    assert_false(audit_device.ready(NULL, d));
    assert_int_equal(stored(), 3);
    assert_int_equal(d->write_failures, 1);
    assert_int_equal(send(&b, 3, 9, false), DBE_OK);
    turn();
    assert_true(b.acked);
    assert_true(audit_device.ready(NULL, d));
    assert_int_equal(stored(), 9);
}

/* spec audit 4.6: a sync that fails: the files are read anew, and the records come again */
static void sync_fails(void **state)
{
    struct svc_req a, b;

    (void)state;
    audit_sys_fail_at(2, EIO);
    assert_int_equal(send(&a, 0, 4, false), DBE_OK);
    turn();
    assert_true(a.refused);
    assert_int_equal(send(&b, 0, 4, false), DBE_E_UNAVAILABLE);
    assert_false(audit_device.ready(NULL, d));
    audit_device.tick(NULL, d);
    assert_true(audit_device.ready(NULL, d));
    assert_int_equal(send(&b, 0, 4, false), DBE_OK);
    turn();
    assert_true(b.acked);
    assert_int_equal(stored(), 4); /* once each, whether or not the first write had reached the disk */
}

/* spec audit 4.7 */
static void missing(void **state)
{
    struct svc_req a;

    (void)state;
    assert_int_equal(send(&a, 2, 4, false), DBE_OK);
    turn();
    assert_int_equal(events[AUDIT_MISSING], 2);
    assert_int_equal(d->missing, 2);
    assert_true(a.acked);
}

/* A caller that goes before the sync: its records stay, and nobody answers a request that is no more. */
static void caller_goes(void **state)
{
    struct svc_req a, b;

    (void)state;
    assert_int_equal(send(&a, 0, 2, false), DBE_OK);
    assert_int_equal(send(&b, 2, 3, false), DBE_OK);
    a.on_gone(a.user, &a, DBE_E_CLOSED);
    turn();
    assert_false(a.acked || a.refused);
    assert_true(b.acked);
    assert_int_equal(stored(), 3);
}

/* spec audit 7: signed by number of entries and by age; whoever has none is told */
static void checkpoints(void **state)
{
    struct svc_req a;

    (void)state;
    d->checkpoint_entries = 4;
    assert_int_equal(send(&a, 0, 4, false), DBE_OK);
    turn();
    assert_int_equal(d->checkpoints, 1);
    assert_int_equal(a.note_len, 0); /* signed behind the acknowledgement */
    assert_int_equal(send(&a, 4, 5, false), DBE_OK);
    turn();
    assert_true(a.note_len > 0);
    audit_device.tick(NULL, d);
    assert_int_equal(d->checkpoints, 1);
    clock_ns += 61 * BASE_NS_PER_S;
    audit_device.tick(NULL, d);
    assert_int_equal(d->checkpoints, 2);
    clock_ns += 61 * BASE_NS_PER_S;
    audit_device.tick(NULL, d);
    assert_int_equal(d->checkpoints, 2); /* nothing new */
}

/* spec audit 10.2: what Device 14 alone can know, nobody else tells it */
static void refuses_own_kinds(void **state)
{
    static const uint8_t kinds[] = {AUDIT_MISSING, AUDIT_TORN, AUDIT_ARCHIVED};
    struct svc_req a;

    (void)state;
    for (size_t i = 0; i < sizeof kinds; i++)
        assert_int_equal(send_kind(&a, kinds[i], i, i + 1, false), DBE_E_DENIED);
    turn();
    assert_int_equal(stored(), 0);
    assert_int_equal(d->refused, 3);
}

static void fill(uint64_t from, uint64_t to)
{
    struct svc_req a;

    for (uint64_t i = from; i < to; i += 500) {
        assert_int_equal(send(&a, i, i + 500, false), DBE_OK);
        turn();
        assert_true(a.acked);
    }
}

static void start_again(void)
{
    struct dbe_diag diag = {0};

    audit_device.fini(NULL, d);
    d->credential = NULL;
    assert_int_equal(audit_device.init(NULL, d, &diag), DBE_OK);
}

/* spec audit 4.9: a start after a stop reads nothing again, and says so; without the state it reads all, and says so */
static void starts_again(void **state)
{
    char path[128];

    (void)state;
    fill(0, 3000);
    start_again();
    assert_int_equal(stored(), 3000);
    assert_non_null(strstr(said, "has 3000 entries; 0 of them were read, after the checkpoint of 3000"));
    fill(3000, 3500);
    snprintf(path, sizeof path, "%s/state", dir);
    audit_device.fini(NULL, d);
    assert_int_equal(unlink(path), 0);
    d->credential = NULL;
    assert_int_equal(audit_device.init(NULL, d, NULL), DBE_OK);
    assert_non_null(strstr(said, "3500, were read and checked"));
}

/* spec audit 10.1: an order puts closed segments away, and so does a retention, each as far as it says */
static void archives(void **state)
{
    struct dbe_diag diag = {0};
    struct base_buf words;

    (void)state;
    fill(0, 8000); /* more than two segments of a MiB */
    base_buf_init(&words, 4096);
    assert_int_equal(audit_device.order(NULL, d, "archive", "entry:100", &words, &diag), DBE_E_NOT_FOUND);
    assert_int_equal(audit_device.order(NULL, d, "archive", "entry:x", &words, &diag), DBE_E_ARGUMENT);
    assert_int_equal(audit_device.order(NULL, d, "archive", "9", &words, &diag), DBE_E_ARGUMENT);
    assert_int_equal(audit_device.order(NULL, d, "forget", "entry:9", &words, &diag), DBE_E_NOT_FOUND);
    assert_int_equal(d->archived, 0);
    audit_dev_checkpoint(d, false);
    assert_int_equal(audit_device.order(NULL, d, "archive", "entry:3500", &words, &diag), DBE_OK);
    assert_non_null(strstr(base_buf_cstr(&words), "entries 0 to"));
    assert_true(d->archived > 1000 && d->archived <= 3500);
    assert_int_equal(stored(), 8001);
    base_buf_free(&words);
    uint64_t before = d->archived;
    d->retention_days = 30;
    audit_device.tick(NULL, d);
    assert_int_equal(d->archived, before); /* nothing is so old */
    wall_ms += UINT64_C(31) * 86400 * 1000;
    clock_ns += 3601 * BASE_NS_PER_S;
    audit_device.tick(NULL, d);
    assert_true(d->archived > before);
    before = d->archived;
    start_again();
    assert_int_equal(d->archived, before);
    fill(8000, 8500);
}

/* A log that stops waits for the last records of others, but not for ever. */
static void lingers(void **state)
{
    (void)state;
    peers = 1;
    audit_device.drain(NULL, d);
    turn();
    assert_int_equal(holds, 1);
    clock_ns += 2 * BASE_NS_PER_S;
    turn();
    assert_int_equal(holds, 1);
    peers = 0;
    clock_ns += BASE_NS_PER_S / 10;
    turn();
    assert_int_equal(holds, 0);
}

#define DEVICE_TEST(fn) cmocka_unit_test_setup_teardown(fn, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DEVICE_TEST(acknowledged_when_synced),
        DEVICE_TEST(refuses_forged),
        DEVICE_TEST(disk_full),
        DEVICE_TEST(sync_fails),
        DEVICE_TEST(missing),
        DEVICE_TEST(caller_goes),
        DEVICE_TEST(checkpoints),
        DEVICE_TEST(refuses_own_kinds),
        DEVICE_TEST(starts_again),
        DEVICE_TEST(archives),
        DEVICE_TEST(lingers),
    };
    return cmocka_run_group_tests(tests, group_up, group_down);
}
