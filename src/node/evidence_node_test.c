/* SPDX-License-Identifier: Apache-2.0
 *
 * evidence_node_test.c - evidence between two nodes: demanded and not shown, shown and taken, shown by a machine in
 * another state.
 */
#include "tpm_fixture.h"

#include "node_fixture.h"

/* The client is replaced by one of these credentials, and calls; `want` is what the server makes of it. */
static void call_as(struct fx *f, const struct dbe_credential *cred, dbe_err want)
{
    dbe_node_free(f->client.node);
    FX_UNTIL(f, f->server.ups == 0 || f->server.downs > 0); /* the call before this one has ended */
    memset(&f->client, 0, sizeof f->client);
    memset(&f->server.why, 0, sizeof f->server.why);
    f->server.ups = f->server.downs = 0;
    f->server.peer = NULL;
    assert_int_equal(fx_member_init(f, &f->client, cred, fx_world.ours), DBE_OK);
    assert_int_equal(dbe_node_link(f->client.node, f->address, DBE_ROLE_ROUTER, 43, &f->link), DBE_OK);
    if (want == DBE_OK) {
        FX_UNTIL(f, f->server.ups == 1 && dbe_link_peer(f->link) != NULL);
        return;
    }
    FX_UNTIL(f, f->server.downs > 0);
    assert_int_equal(f->server.why, want);
    assert_int_equal(f->server.ups, 0);
}

static void demand(const char *policy)
{
    assert_int_equal(dbe_trust_set_pcr_policy(fx_world.ours, policy, strlen(policy), NULL), DBE_OK);
}

/* spec 8.18 */
static void who_must_show_and_does_not_is_refused(void **state)
{
    struct fx *f = *state;

    assert_int_equal(dbe_node_listen(f->server.node, f->address, NULL), DBE_OK);
    demand("worker quote\n");
    call_as(f, fx_world.shim, DBE_OK);
    call_as(f, fx_world.worker, DBE_E_EVIDENCE);
    demand("");
    call_as(f, fx_world.worker, DBE_OK);
}

/* spec 8.16 to 8.18, with a TPM */
static void who_shows_a_quote_is_taken(void **state)
{
    struct fx *f = *state;
    const struct dbe_issue what = {.name = "tpm-worker", .device = 47, .role = DBE_ROLE_WORKER, .attest = true,
                                   .quote_pcrs = 1U << 7};
    struct dbe_credential *cred = NULL;
    struct dbe_diag diag = {0};
    char dir[FX_NAMES_MAX];
    struct tf t;

    if (!tf_up(&t))
        skip();
    (void)snprintf(dir, sizeof dir, "%s/ours", fx_world.dir);
    assert_int_equal(dbe_keys_set_seal(&(struct dbe_seal){.kind = DBE_SEAL_PLAIN, .tpm = t.tcti}, &diag), DBE_OK);
    if (dbe_keys_issue(dir, &what, &diag) != DBE_OK || dbe_credential_load(dir, "tpm-worker", &cred, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    assert_int_equal(dbe_node_listen(f->server.node, f->address, NULL), DBE_OK);
    demand("worker quote\n");
    call_as(f, cred, DBE_OK);
    demand("worker 7 = 0000000000000000000000000000000000000000000000000000000000000000\n");
    call_as(f, cred, DBE_OK); /* as it is after a start */
    tf_extend(&t, 7);
    call_as(f, cred, DBE_E_EVIDENCE);
    demand("worker 6 = 0000000000000000000000000000000000000000000000000000000000000000\n");
    call_as(f, cred, DBE_E_EVIDENCE); /* it does not show that one */
    demand("");
    dbe_node_free(f->client.node);
    f->client.node = NULL;
    dbe_credential_free(cred);
    assert_int_equal(dbe_keys_set_seal(NULL, NULL), DBE_OK);
    tf_down(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FX_UDS(who_must_show_and_does_not_is_refused),
        FX_UDS(who_shows_a_quote_is_taken),
    };
    return cmocka_run_group_tests_name("evidence-node", tests, fx_world_up, fx_world_down);
}
