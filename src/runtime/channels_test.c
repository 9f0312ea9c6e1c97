/* SPDX-License-Identifier: Apache-2.0
 *
 * channels_test.c - lists of suites; new keys, suites and certificates of a running mesh, with requests answered
 * before, meanwhile and after.
 */
#include "runtime/mesh_fixture.h"

#include <stdio.h>

static uint16_t suite_of(struct svc *svc)
{
    return dbe_peer_suite_id(svc->peers->peer);
}

static void answered(struct mesh *m, const struct ask *a)
{
    (void)ask(m, a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.err, DBE_OK);
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
}

static void test_lists(void **state)
{
    static const struct {
        const char *text, *problem; /* problem NULL: good */
        size_t count;
        uint16_t first;
    } rows[] = {
        {"", NULL, 0, 0},
        {"1", NULL, 1, 1},
        {"2,1", NULL, 2, 2},
        {" 0x0002 , X25519-MLKEM1024-MLDSA87-AES256GCM-SHA3-512", "twice", 0, 0},
        {"P384-MLKEM1024-MLDSA87-AES256GCM-SHA3-512,2", NULL, 2, 1},
        {"1,1", "twice", 0, 0},
        {"7", "no suite \"7\"", 0, 0},
        {"P384", "no suite \"P384\"", 0, 0},
        {"1x", "no suite \"1x\"", 0, 0},
    };
    char longest[SVC_SUITES_TEXT_MAX + 1];

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        uint16_t got[DBE_SUITES_MAX] = {77};
        struct dbe_diag diag = {0};
        size_t count = 77;
        dbe_err err = svc_suites_parse(rows[i].text, got, &count, &diag);
        assert_int_equal(err, rows[i].problem == NULL ? DBE_OK : DBE_E_CONFIG);
        if (rows[i].problem != NULL) {
            assert_non_null(strstr(diag.text, rows[i].problem));
            assert_int_equal(count, 77); /* untouched */
            assert_int_equal(got[0], 77);
            continue;
        }
        assert_int_equal(count, rows[i].count);
        assert_int_equal(got[0], rows[i].first);
    }
    memset(longest, ' ', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(svc_suites_parse(longest, (uint16_t[DBE_SUITES_MAX]){0}, &(size_t){0}, NULL), DBE_E_CONFIG);
}

static void test_order_unknown(void **state)
{
    struct mesh *m = *state;
    struct dbe_diag diag = {0};

    assert_int_equal(svc_channels_do(m->router, "stop", "", &diag), DBE_E_NOT_FOUND);
    assert_int_equal(svc_channels_do(m->router, "suite", "", &diag), DBE_E_CONFIG);
    assert_int_equal(svc_channels_do(m->router, "suite", "nonsense", &diag), DBE_E_CONFIG);
    assert_non_null(strstr(diag.text, "nonsense"));
}

/* A held request is answered by the channel that changed suite under it. */
static void test_suite(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();
    struct dbe_diag diag = {0};
    struct base_buf out;

    answered(m, &a);
    assert_int_equal(suite_of(m->front), 1);
    router->mode = HOLD;
    (void)ask(m, &a);
    PUMP_UNTIL(m, router->held != NULL);
    assert_int_equal(svc_channels_do(m->router, "suite", "2", &diag), DBE_OK);
    PUMP_UNTIL(m, suite_of(m->front) == 2 && suite_of(m->worker) == 2);
    assert_false(answer.last);
    assert_int_equal(svc_reply(m->router, router->held, DBE_MSG_L7_CHAT_RESP, "x", 1, true), DBE_OK);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
    assert_int_equal(router->link_downs, 0);
    assert_true(logged(m, "channel has new keys"));

    router->mode = FORWARD;
    assert_int_equal(svc_channels_do(m->worker, "suite", "P384-MLKEM1024-MLDSA87-AES256GCM-SHA3-512", &diag), DBE_OK);
    PUMP_UNTIL(m, suite_of(m->worker) == 1);
    answered(m, &a);
    assert_int_equal(suite_of(m->front), 2);

    base_buf_init(&out, 65536);
    assert_int_equal(svc_channels_render(m->router, &out), DBE_OK);
    assert_non_null(strstr(base_buf_cstr(&out), "\"peer\": \"spiffe://test.mesh/l7/worker/47\""));
    assert_non_null(strstr(base_buf_cstr(&out), "X25519-MLKEM1024"));
    base_buf_free(&out);
}

static void test_rekey(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();
    struct dbe_diag diag = {0};

    for (int i = 0; i < 5; i++) {
        assert_int_equal(svc_channels_do(m->front, "rekey", "", &diag), DBE_OK);
        assert_int_equal(svc_channels_do(m->router, "rekey", "", &diag), DBE_OK);
        answered(m, &a);
    }
}

/* The front's key changes: claims that it signed before are still good on this channel, and so are those after. */
static void test_renew(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();
    struct dbe_diag diag = {0};
    uint8_t before[sizeof dbe_credential_identity(m->front->credential)->fingerprint];

    answered(m, &a);
    memcpy(before, dbe_credential_identity(m->front->credential)->fingerprint, sizeof before);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(dbe_keys_renew(dir, "shim-0", &(struct dbe_renew){0}, &diag), DBE_OK);
        assert_int_equal(svc_channels_do(m->front, "renew", "", &diag), DBE_OK);
        answered(m, &a); /* on its way while the handshake is */
        PUMP_UNTIL(m, m->front->renewed == NULL);
        answered(m, &a);
        assert_memory_equal(dbe_peer_identity(m->router->peers->peer)->fingerprint,
                            dbe_credential_identity(m->front->credential)->fingerprint, sizeof before);
        assert_memory_not_equal(before, dbe_credential_identity(m->front->credential)->fingerprint, sizeof before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists), MESH_TEST(test_order_unknown), MESH_TEST(test_suite),
        MESH_TEST(test_rekey),        MESH_TEST(test_renew),
    };
    return cmocka_run_group_tests(tests, group_up, group_down);
}
