/* SPDX-License-Identifier: Apache-2.0
 *
 * control.c - new keys for open channels: on command, because the node's suites changed, because its certificate did.
 *
 * In:   commands of the owner, outcomes from the session    Out: records to out.c, on_switched to the owner
 * Does: begins a few handshakes a turn where many channels have to follow, so that messages keep flowing; asks again
 *       where a handshake was in progress already.
 * Does not: wait for the outcome, nor end a channel whose peer does not want to change.
 */
#include "node_impl.h"

#include <string.h>

static struct dbe_node *node_of(struct node_due *due)
{
    return (struct dbe_node *)(void *)((char *)due - offsetof(struct dbe_node, swap_due));
}

dbe_err control_check_suites(const uint16_t *suites, size_t count)
{
    if (count > DBE_SUITES_MAX || (count > 0 && suites == NULL))
        return DBE_E_ARGUMENT;
    for (size_t i = 0; i < count; i++) {
        if (crypto_suite(suites[i]) == NULL)
            return DBE_E_UNSUPPORTED;
        for (size_t j = 0; j < i; j++)
            if (suites[j] == suites[i])
                return DBE_E_DUPLICATE;
    }
    return DBE_OK;
}

/* ---- one channel ----------------------------------------------------------------------------------------------- */

dbe_err dbe_peer_rekey(struct dbe_peer *p)
{
    if (p->state != PEER_UP || p->doom != DBE_OK)
        return DBE_E_CLOSED;
    node_enter(p->node);
    dbe_err err = out_seal(p);
    if (err == DBE_OK)
        err = out_reserve(p, NODE_SEAL_EXTRA_BYTES);
    if (err == DBE_OK)
        err = sess_rekey(p->sess, node_now_ns(p->node), &p->out);
    err = out_result(p, err);
    node_leave(p->node);
    return err;
}

dbe_err dbe_peer_rehandshake(struct dbe_peer *p, const uint16_t *suites, size_t count)
{
    if (p->state != PEER_UP || p->doom != DBE_OK)
        return DBE_E_CLOSED;
    node_enter(p->node);
    dbe_err err = out_seal(p);
    if (err == DBE_OK)
        err = out_reserve(p, NODE_SEAL_EXTRA_BYTES);
    if (err == DBE_OK) {
        err = sess_rehandshake(p->sess, suites, count, node_now_ns(p->node), &p->out);
        p->out.err = DBE_OK; /* an append that found no memory changed nothing */
    }
    err = out_result(p, err);
    node_leave(p->node);
    return err;
}

/* ---- channels that have to follow the node
 * ------------------------------------------------------------------------ */

/* What the node wants most: the first of its list, or of this build. Offered alone, for of two the peer takes whichever
 * comes first in its own list (spec 6.10). */
static uint16_t wanted(const struct dbe_node *node)
{
    const struct crypto_suite *const *all = NULL;

    (void)crypto_suites(&all);
    return node->suites_count > 0 ? node->suites[0] : all[0]->id;
}

static bool other_policy(const struct dbe_peer *p)
{
    return !sess_same_policy(sess_policy_digest(p->sess), &p->node->config.policy_digest);
}

static void want_swap(struct dbe_peer *p, bool suite, bool cert)
{
    p->swap_suite |= suite && dbe_peer_suite_id(p) != wanted(p->node);
    p->swap_cert |= cert;
    if (p->swap_suite || p->swap_cert || p->swap_policy)
        dues_set(&p->node->dues, &p->node->swap_due, base_mono_ns());
}

/* True if it counts as one of those begun at once. */
static bool begin_swap(struct dbe_peer *p)
{
    const uint16_t suite = wanted(p->node);
    dbe_err err = dbe_peer_rehandshake(p, &suite, p->swap_suite ? 1 : 0);

    if (err == DBE_E_AGAIN)
        return false; /* still owed when the one in progress is over */
    p->swap_suite = p->swap_cert = p->swap_policy = false;
    return true;
}

void control_swap_due(struct node_due *due)
{
    struct dbe_node *node = node_of(due);
    unsigned begun = 0;

    for (struct dbe_peer *p = node->peers.first; p != NULL; p = p->next) {
        if (p->state != PEER_UP || (!p->swap_suite && !p->swap_cert && !p->swap_policy))
            continue;
        if (begun == NODE_SWAPS_A_TURN) {
            dues_set(&node->dues, due, base_mono_ns() + (uint64_t)NODE_SWAP_PAUSE_MS * BASE_NS_PER_MS);
            return;
        }
        begun += begin_swap(p);
    }
}

static void follow(struct dbe_peer *p)
{
    const struct dbe_node *node = p->node;
    dbe_err err = sess_set_suites(p->sess, node->suites, node->suites_count);

    (void)err; /* the list was checked, and the channel is up */
    sess_set_policy_digest(p->sess, &node->config.policy_digest, &node->policy_digest_before);
    p->swap_policy = other_policy(p);
    p->generation = node->generation;
    want_swap(p, node->swap_suites, node->swap_certs);
}

void control_peer_up(struct dbe_peer *p)
{
    if (p->generation != p->node->generation)
        follow(p);
}

void control_switched(struct dbe_peer *p, dbe_err err)
{
    struct dbe_node *node = p->node;
    const struct dbe_diag none = {0}, *diag = err == DBE_OK ? &none : sess_diag(p->sess);

    node->stats.switches += err == DBE_OK;
    node->stats.switches_refused += err != DBE_OK;
    /* A peer that refused our policy has not followed yet, and begins one when it does. */
    p->swap_policy = err == DBE_OK && other_policy(p);
    if (p->swap_suite || p->swap_cert || p->swap_policy) {
        const bool suite = p->swap_suite;
        p->swap_suite = false; /* perhaps this one brought it */
        want_swap(p, suite, p->swap_cert);
    }
    if (node->config.ops->on_switched != NULL)
        node->config.ops->on_switched(node->config.ctx, p, err, diag);
}

static void all_follow(struct dbe_node *node, bool suites, bool certs)
{
    node->generation++;
    node->swap_suites = suites;
    node->swap_certs = certs;
    for (struct dbe_peer *p = node->peers.first; p != NULL; p = p->next)
        if (p->state == PEER_UP)
            follow(p);
}

dbe_err dbe_node_set_suites(struct dbe_node *node, const uint16_t *suites, size_t count, bool now)
{
    DBE_TRY(control_check_suites(suites, count));
    if (count > 0)
        memcpy(node->suites, suites, count * sizeof *suites);
    node->suites_count = count;
    all_follow(node, now, false);
    return DBE_OK;
}

dbe_err dbe_node_set_credential(struct dbe_node *node, const struct dbe_credential *credential, bool now)
{
    const struct dbe_identity *old = dbe_credential_identity(node->config.credential);

    if (credential == NULL || strcmp(dbe_credential_identity(credential)->spiffe_id, old->spiffe_id) != 0)
        return DBE_E_ARGUMENT;
    node->config.credential = credential;
    all_follow(node, false, now);
    return DBE_OK;
}

/* ---- policy ------------------------------------------------------------------------------------------------------ */

/* Whoever has not followed by now has another policy: spec 6.16. */
void control_policy_due(struct node_due *due)
{
    struct dbe_node *node = (struct dbe_node *)(void *)((char *)due - offsetof(struct dbe_node, policy_due));

    node->policy_digest_before = sess_policy_none;
    for (struct dbe_peer *p = node->peers.first; p != NULL; p = p->next) {
        if (p->state != PEER_UP || p->doom != DBE_OK)
            continue;
        sess_set_policy_digest(p->sess, &node->config.policy_digest, &node->policy_digest_before);
        if (!other_policy(p))
            continue;
        p->doom = DBE_E_POLICY;
        peer_soon(p);
    }
}

void dbe_node_set_policy_digest(struct dbe_node *node, const struct dbe_policy_digest *digest)
{
    if (sess_same_policy(digest, &node->config.policy_digest))
        return;
    node->policy_digest_before = node->config.policy_digest;
    node->config.policy_digest = *digest;
    dues_set(&node->dues, &node->policy_due, base_mono_ns() + (uint64_t)NODE_POLICY_GRACE_MS * BASE_NS_PER_MS);
    all_follow(node, false, false);
}
