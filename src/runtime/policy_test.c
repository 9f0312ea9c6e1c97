/* SPDX-License-Identifier: Apache-2.0
 *
 * policy_test.c - a mesh whose policy changes under it: decisions follow, channels agree inside, no request is lost,
 * and a file with an error changes nothing.
 */
#include "runtime/mesh_fixture.h"

#include <stdio.h>
#include <unistd.h>

#define HEAD                                                                                                           \
    "version: 2\n"                                                                                                     \
    "roe_levels: [ANALYSIS_ONLY, SOC_ASSIST, TRAINING]\n"                                                              \
    "claims: {required: [L7_CHAT_REQ], forwarders: [router]}\n"                                                        \
    "tenants:\n"                                                                                                       \
    "  \"*\": {classification: EXEC, compartments: [SOC, DEV, LAB, CRYPTO], roe_levels: [ANALYSIS_ONLY, "              \
    "SOC_ASSIST]}\n"
#define ALLOW_ALL HEAD "rules:\n  - {name: site-allow, effect: allow}\n"
#define DENY_CHAT                                                                                                      \
    HEAD "rules:\n  - {name: site-allow, effect: allow}\n  - {name: no-chats-today, effect: deny, types: "             \
         "[L7_CHAT_REQ]}\n"

static char path[128];

static void write_policy(struct mesh *m, const char *text)
{
    struct svc *all[] = {m->front, m->router, m->worker};

    snprintf(path, sizeof path, "%s/policy.yaml", dir);
    assert_int_equal(base_file_write(path, text, strlen(text), 0600, NULL), DBE_OK);
    for (size_t i = 0; i < BASE_ARRAY_LEN(all); i++)
        snprintf(all[i]->cfg.policy, sizeof all[i]->cfg.policy, "%s", path);
}

static void answered_with(struct mesh *m, uint8_t type)
{
    const struct ask a = ask_good();

    memset(&answer, 0, sizeof answer);
    (void)ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.type[0], type);
}

/* spec 6.16 */
static void decisions_follow_and_channels_agree(void **state)
{
    struct mesh *m = *state;

    answered_with(m, DBE_MSG_L7_CHAT_RESP);
    write_policy(m, DENY_CHAT);
    assert_int_equal(svc_policy_reload(m->router, NULL), DBE_OK);
    answered_with(m, DBE_MSG_ERROR); /* at once, though the front has the policy before */
    assert_string_equal(answer.rule, "no-chats-today");
    assert_int_equal(answer.code, DBE_E_DENIED);
    assert_int_equal(svc_policy_reload(m->front, NULL), DBE_OK);
    assert_int_equal(svc_policy_reload(m->worker, NULL), DBE_OK);
    PUMP_UNTIL(m, logged(m, "channel has new keys"));
    settle(m);
    write_policy(m, ALLOW_ALL);
    assert_int_equal(svc_policy_reload(m->worker, NULL), DBE_OK);
    assert_int_equal(svc_policy_reload(m->front, NULL), DBE_OK);
    assert_int_equal(svc_policy_reload(m->router, NULL), DBE_OK);
    answered_with(m, DBE_MSG_L7_CHAT_RESP);
    assert_memory_equal(m->router->policy.digest, m->front->policy.digest, POL_DIGEST_BYTES);
    assert_int_equal(router->link_downs, 0);
    assert_int_equal(front->link_downs, 0);
}

/* A request that is held while all three change is answered by the channel it came by. */
static void no_request_is_lost(void **state)
{
    struct mesh *m = *state;
    const struct ask a = ask_good();

    for (int round = 0; round < 6; round++) {
        memset(&answer, 0, sizeof answer);
        router->mode = HOLD;
        router->held = NULL;
        (void)ask(m, &a);
        PUMP_UNTIL(m, router->held != NULL);
        write_policy(m, round % 2 == 0 ? DENY_CHAT : ALLOW_ALL);
        assert_int_equal(svc_policy_reload(m->front, NULL), DBE_OK);
        turn(m);
        assert_int_equal(svc_policy_reload(m->router, NULL), DBE_OK);
        assert_int_equal(svc_policy_reload(m->worker, NULL), DBE_OK);
        settle(m);
        assert_int_equal(svc_reply(m->router, router->held, DBE_MSG_L7_CHAT_RESP, "x", 1, true), DBE_OK);
        PUMP_UNTIL(m, answer.last);
        assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
        write_policy(m, ALLOW_ALL); /* so that the next round's request comes in */
        assert_int_equal(svc_policy_reload(m->router, NULL), DBE_OK);
        assert_int_equal(svc_policy_reload(m->front, NULL), DBE_OK);
        assert_int_equal(svc_policy_reload(m->worker, NULL), DBE_OK);
        settle(m);
    }
    assert_int_equal(router->link_downs, 0);
    assert_int_equal(front->link_downs, 0);
}

/* A service that was loading when the others followed is told by nobody: it looks once more when it can be reached. */
static void who_starts_slowly_has_the_policy_of_the_others(void **state)
{
    struct mesh *m = *state;

    write_policy(m, DENY_CHAT);
    assert_int_equal(svc_policy_reload(m->router, NULL), DBE_OK);
    assert_int_equal(svc_policy_reload(m->front, NULL), DBE_OK);
    assert_memory_not_equal(m->worker->policy.digest, m->router->policy.digest, POL_DIGEST_BYTES);
    svc_policy_catch_up(m->worker);
    assert_memory_equal(m->worker->policy.digest, m->router->policy.digest, POL_DIGEST_BYTES);
    write_policy(m, "version: [\n"); /* being written at this moment, say: what was read stays */
    svc_policy_catch_up(m->worker);
    assert_memory_equal(m->worker->policy.digest, m->router->policy.digest, POL_DIGEST_BYTES);
    base_fail_alloc_at(1);
    svc_policy_catch_up(m->worker);
    base_fail_alloc_at(0);
    settle(m);
    assert_int_equal(router->link_downs, 0);
}

/* spec 15.5 */
static void an_error_changes_nothing(void **state)
{
    struct mesh *m = *state;
    static struct pol_policy before;
    struct dbe_diag diag = {0};
    char said[200];

    write_policy(m, HEAD "rules:\n  - {name: a, effect: permit}\n");
    before = m->router->policy;
    assert_int_equal(svc_policy_reload(m->router, &diag), DBE_E_CONFIG);
    snprintf(said, sizeof said, "%s:7:23: effect is \"permit\"; expected allow or deny", path);
    assert_string_equal(diag.text, said);
    assert_memory_equal(&m->router->policy, &before, sizeof before);
    assert_true(logged(m, "effect is \\\"permit\\\""));
    assert_true(logged(m, "policy version 1 stays in force"));
    answered_with(m, DBE_MSG_L7_CHAT_RESP);
    unlink(path);
    assert_int_equal(svc_policy_reload(m->router, &diag), DBE_E_NOT_FOUND);
    m->router->cfg.policy[0] = '\0';
    assert_int_equal(svc_policy_reload(m->router, &diag), DBE_E_CONFIG);
    assert_memory_equal(&m->router->policy, &before, sizeof before);
    assert_int_equal(router->link_downs, 0);
}

static void every_allocation_may_fail(void **state)
{
    struct mesh *m = *state;
    dbe_err err = DBE_E_NOMEM;

    write_policy(m, DENY_CHAT);
    for (uint64_t nth = 1; err != DBE_OK && nth < 500; nth++) {
        const struct dbe_policy_digest before = pol_policy_digest(&m->router->policy);
        base_fail_alloc_at(nth);
        err = svc_policy_reload(m->router, NULL);
        base_fail_alloc_at(0);
        assert_true(err == DBE_OK || memcmp(m->router->policy.digest, before.bytes, sizeof before.bytes) == 0);
    }
    assert_int_equal(err, DBE_OK);
}

static void the_page_says_what_is_in_force(void **state)
{
    struct mesh *m = *state;
    struct base_buf out;

    write_policy(m, ALLOW_ALL);
    assert_int_equal(svc_policy_reload(m->router, NULL), DBE_OK);
    base_buf_init(&out, 4096);
    assert_int_equal(svc_policy_render(m->router, &out), DBE_OK);
    assert_non_null(strstr(base_buf_cstr(&out), "{\"version\": 2, \"digest\": \""));
    assert_non_null(strstr(base_buf_cstr(&out), path));
    base_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MESH_TEST(decisions_follow_and_channels_agree),
        MESH_TEST(no_request_is_lost),
        MESH_TEST(who_starts_slowly_has_the_policy_of_the_others),
        MESH_TEST(an_error_changes_nothing),
        MESH_TEST(every_allocation_may_fail),
        MESH_TEST(the_page_says_what_is_in_force),
    };
    return cmocka_run_group_tests(tests, group_up, group_down);
}
