/* SPDX-License-Identifier: Apache-2.0
 *
 * router_accounts_test.c - what tenants have used, over a restart of the router: when it is written, and what becomes
 * of a file that is damaged or cannot be written.
 */
#include "devices/l7_router/router_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

#include "crypto/crypto.h"

static char dir[] = "/tmp/dsmil-accounts-XXXXXX", path[sizeof dir + 16], damaged[sizeof path + 16];

static int make_dir(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    (void)snprintf(path, sizeof path, "%s/accounts", dir);
    (void)snprintf(damaged, sizeof damaged, "%s.damaged", path);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

/* The process ends, in whatever way the test says, and a new one starts. */
static void again(bool killed)
{
    struct router *old = router;

    down(FIRST);
    old->accounts.open = old->accounts.open && !killed;
    l7_router_device.fini(NULL, old);
    free(old);
    router = calloc(1, sizeof *router);
    assert_non_null(router);
    (void)snprintf(router->accounts.path, sizeof router->accounts.path, "%s", path);
    assert_int_equal(l7_router_device.init(NULL, router, &(struct dbe_diag){0}), DBE_OK);
    router->config.queue.overload = ROUTER_OVERLOAD_REJECT;
    up(FIRST);
    tell_status(true, 4, 1);
}

/* A router with a file, and a tenant who may ask twice a minute. */
static int set_up_kept(void **state)
{
    int err = set_up(state);

    again(false);
    pol_policy_default(&rt.policy);
    rt.policy.any.limits = (struct pol_limits){.requests = {2, 60000}};
    return err;
}

static int tear_down_kept(void **state)
{
    int err = tear_down(state);

    (void)unlink(path);
    (void)unlink(damaged);
    return err;
}

static void use_up(void)
{
    answer(chat(0, NULL), DBE_MSG_L7_CHAT_RESP, true);
    answer(chat(1, NULL), DBE_MSG_L7_CHAT_RESP, true);
    assert_int_equal(chat(2, NULL)->refused, DBE_E_LIMIT);
}

static void a_killed_router_remembers(void **state)
{
    struct stat st;

    (void)state;
    tick_after(1000);
    assert_int_equal(access(path, F_OK), -1); /* there is nothing to keep */
    use_up();
    tick_after(1000);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    rt.now_ns += 20 * BASE_NS_PER_S;
    again(true);
    assert_int_equal(chat(3, NULL)->refused, DBE_E_LIMIT);
    assert_in_range(rt.reqs[3].retry_ms, 38900, 39034);
    rt.now_ns += 40 * BASE_NS_PER_S;
    answer(chat(4, NULL), DBE_MSG_L7_CHAT_RESP, true);
}

/* Once a second while something changes, and not when nothing does. */
static void written_at_a_bounded_rate(void **state)
{
    (void)state;
    use_up();
    tick_after(1000);
    assert_int_equal(unlink(path), 0);
    tick_after(1000);
    assert_int_equal(access(path, F_OK), -1);
    rt.now_ns += 61 * BASE_NS_PER_S;
    tell_status(true, 4, 1);
    answer(chat(0, NULL), DBE_MSG_L7_CHAT_RESP, true);
    tick_after(0);
    assert_int_equal(unlink(path), 0);
    answer(chat(1, NULL), DBE_MSG_L7_CHAT_RESP, true);
    tick_after(900);
    assert_int_equal(access(path, F_OK), -1);
    tick_after(100);
    assert_int_equal(access(path, F_OK), 0);
}

static void an_orderly_end_forgets_nothing(void **state)
{
    (void)state;
    use_up();
    again(false);
    assert_int_equal(chat(3, NULL)->refused, DBE_E_LIMIT);
    again(true); /* what was read is still there, whoever is killed before anything changes */
    assert_int_equal(chat(3, NULL)->refused, DBE_E_LIMIT);
}

static void a_damaged_file_is_put_aside(void **state)
{
    (void)state;
    use_up();
    tick_after(1000);
    assert_int_equal(truncate(path, 40), 0);
    again(true);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(damaged, F_OK), 0);
    use_up(); /* a full allowance, and not more */
    again(false);
    assert_int_equal(chat(3, NULL)->refused, DBE_E_LIMIT);
}

static void a_file_of_others_is_not_read(void **state)
{
    (void)state;
    use_up();
    tick_after(1000);
    assert_int_equal(chmod(path, 0644), 0);
    again(true);
    assert_int_equal(access(damaged, F_OK), 0);
}

/* Nothing that requests could feel; counted, and tried again. */
static void a_file_that_cannot_be_written(void **state)
{
    (void)state;
    (void)snprintf(router->accounts.path, sizeof router->accounts.path, "%s/nowhere/accounts", dir);
    use_up();
    tick_after(1000);
    tick_after(1000);
    assert_int_equal(router->accounts.failures, 2);
    assert_int_equal(chat(3, NULL)->refused, DBE_E_LIMIT);
    (void)snprintf(router->accounts.path, sizeof router->accounts.path, "%s", path);
    tick_after(1000);
    assert_int_equal(router->accounts.failures, 2);
    assert_int_equal(access(path, F_OK), 0);
}

int main(void)
{
#define KEPT_TEST(test) cmocka_unit_test_setup_teardown(test, set_up_kept, tear_down_kept)
    const struct CMUnitTest tests[] = {
        KEPT_TEST(a_killed_router_remembers),      KEPT_TEST(written_at_a_bounded_rate),
        KEPT_TEST(an_orderly_end_forgets_nothing), KEPT_TEST(a_damaged_file_is_put_aside),
        KEPT_TEST(a_file_of_others_is_not_read),   KEPT_TEST(a_file_that_cannot_be_written),
    };

    if (crypto_init(NULL) != DBE_OK)
        return 1;
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
