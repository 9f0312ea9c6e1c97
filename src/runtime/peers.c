/* SPDX-License-Identifier: Apache-2.0
 *
 * peers.c - channels that come and go: what is kept of each, which link it belongs to, handshakes that failed.
 *
 * In:   the node's on_up and on_down
 * Out:  the device's link_up and link_down, requests of a lost channel ended, counters and log lines
 * Not:  no messages (req.c).
 */
#include "runtime/crash.h"
#include "runtime/audit.h"
#include "runtime/priv.h"

#include <stdio.h>

static void count_handshake(struct svc *svc, const char *node, const char *status)
{
    char labels[SVC_LABELS_MAX];

    svc_labels(labels, "node", svc->node_name, "peer_node", node, "status", status, NULL);
    svc_metric_add(&svc->metrics, SVC_M_pqc_handshakes_total, labels, 1);
}

static void log_channel(struct svc *svc, enum svc_level level, const char *type, const char *peer, const char *what,
                        const char *detail)
{
    const struct svc_field field = {.key = "peer", .text = peer};
    const struct svc_event e = {.type = type, .fields = &field, .field_count = 1};

    svc_log_event(svc, level, &e, "%s: %s", what, detail);
}

static struct svc_link *link_of(struct svc *svc, const struct dbe_peer *peer)
{
    for (size_t i = 0; i < svc->link_count; i++)
        if (svc->links[i].link != NULL && dbe_link_peer(svc->links[i].link) == peer)
            return &svc->links[i];
    return NULL;
}

/* A renewed credential signs claims as soon as a channel knows it, not before: the receiver could not verify them. */
static void adopt_renewed(struct svc *svc)
{
    if (svc->renewed == NULL)
        return;
    svc->former[svc->former_count++] = svc->credential; /* svc_channels_do saw to it that there is room */
    svc->credential = svc->renewed;
    svc->renewed = NULL;
}

/* Not one of the device's neighbours, but the runtime's own. */
static bool is_audit(const struct svc_link *link)
{
    return link->neighbour->role == DBE_ROLE_AUDIT;
}

static void on_up(void *ctx, struct dbe_peer *peer)
{
    struct svc *svc = ctx;
    const struct dbe_identity *id = dbe_peer_identity(peer);
    const struct dbe_role_row *role = dbe_reg_role(id->role);
    struct svc_peer *sp = base_alloc(1, sizeof *sp);

    if (sp == NULL || svc->closing) {
        base_free(sp);
        dbe_peer_close(peer, DBE_E_NOMEM);
        return;
    }
    sp->svc = svc;
    sp->peer = peer;
    sp->link = link_of(svc, peer);
    snprintf(sp->node, sizeof sp->node, "%s-%u", role != NULL ? role->path : "node", id->device);
    sp->next = svc->peers;
    sp->prev = &svc->peers;
    if (sp->next != NULL)
        sp->next->prev = &sp->next;
    svc->peers = sp;
    dbe_peer_set_user(peer, sp);
    adopt_renewed(svc);
    count_handshake(svc, sp->node, "ok");
    svc_audit_channel(sp);
    svc_audit_event(svc, AUDIT_HANDSHAKE, DBE_OK, peer, 0, dbe_peer_suite(peer));
    log_channel(svc, SVC_INFO, "channel_up", id->spiffe_id, "channel is up", dbe_peer_suite(peer));
    if (sp->link != NULL) {
        sp->link->peer = peer;
        sp->link->up_once = true;
        svc_audit_link_up(svc, sp->link);
        if (svc->dev->link_up != NULL && !is_audit(sp->link))
            svc->dev->link_up(svc, svc->state, sp->link);
    }
    svc_check_ready(svc);
}

static void peer_free(struct svc_peer *sp)
{
    *sp->prev = sp->next;
    if (sp->next != NULL)
        sp->next->prev = sp->prev;
    pol_claim_cache_free(sp->cache);
    base_free(sp);
}

static void on_down(void *ctx, struct dbe_peer *peer, dbe_err why, const struct dbe_diag *diag)
{
    struct svc *svc = ctx;
    struct svc_peer *sp = peer != NULL ? dbe_peer_user(peer) : NULL;
    const char *detail = diag != NULL && diag->text[0] != '\0' ? diag->text : dbe_err_text(why);
    char labels[SVC_LABELS_MAX];

    if (sp == NULL) { /* never came up */
        if (dbe_err_class(why) == DBE_CLASS_LOCAL || why == DBE_E_CLOSED || svc->closing)
            return; /* nobody there: the link's own error says so */
        count_handshake(svc, "unknown", "failed");
        svc_labels(labels, "device_id", svc->metrics.device_id, NULL);
        svc_metric_add(&svc->metrics, SVC_M_dsmil_security_auth_failures_total, labels, 1);
        log_channel(svc, SVC_WARN, "handshake_failed", "unknown", dbe_err_name(why), detail);
        svc_audit_event(svc, AUDIT_HANDSHAKE_REFUSED, why, NULL, 0, detail);
        return;
    }
    struct svc_link *link = sp->link;
    log_channel(svc, SVC_INFO, "channel_down", dbe_peer_identity(peer)->spiffe_id, "channel is down", detail);
    svc_audit_event(svc, AUDIT_CHANNEL_DOWN, why == DBE_E_CLOSED ? DBE_OK : why, peer, 0, detail);
    svc_reqs_end(svc, peer, DBE_E_CLOSED);
    if (link != NULL && link->peer == peer) {
        link->peer = NULL;
        if (svc->dev->link_down != NULL && !is_audit(link))
            svc->dev->link_down(svc, svc->state, link);
    }
    dbe_peer_set_user(peer, NULL);
    peer_free(sp);
}

/* A handshake inside the channel is over. */
static void on_switched(void *ctx, struct dbe_peer *peer, dbe_err err, const struct dbe_diag *diag)
{
    struct svc *svc = ctx;
    struct svc_peer *sp = dbe_peer_user(peer);
    const char *who = dbe_peer_identity(peer)->spiffe_id;

    if (err != DBE_OK) {
        log_channel(svc, SVC_WARN, "channel_kept", who, dbe_err_name(err),
                    diag != NULL && diag->text[0] != '\0' ? diag->text : dbe_err_text(err));
        svc_audit_event(svc, AUDIT_CHANNEL_SWITCHED, err, peer, 0, dbe_err_text(err));
        return;
    }
    if (sp != NULL && sp->cache != NULL && pol_claim_cache_renew(sp->cache, dbe_peer_public_key(peer)) != DBE_OK) {
        pol_claim_cache_free(sp->cache); /* made anew with the next claim */
        sp->cache = NULL;
    }
    adopt_renewed(svc);
    svc_audit_event(svc, AUDIT_CHANNEL_SWITCHED, DBE_OK, peer, 0, dbe_peer_suite(peer));
    log_channel(svc, SVC_INFO, "channel_switched", who, "channel has new keys", dbe_peer_suite(peer));
}

/* A list of revoked certificates was adopted, or one could not be. */
static void on_revocations(void *ctx, uint64_t number, dbe_err err, const struct dbe_diag *diag)
{
    struct svc *svc = ctx;
    const struct svc_event adopted = {.type = "revocations"}, refused = {.type = "revocations_refused"};

    svc_audit_event(svc, AUDIT_REVOCATIONS, err, NULL, (uint32_t)number, err == DBE_OK ? "" : diag->text);
    if (err == DBE_OK)
        svc_log_event(svc, SVC_INFO, &adopted, "list %llu of revoked certificates is in force",
                      (unsigned long long)number);
    else
        svc_log_event(svc, SVC_WARN, &refused, "%s: %s; list %llu stays in force", dbe_err_name(err),
                      diag->text[0] != '\0' ? diag->text : dbe_err_text(err), (unsigned long long)number);
}

size_t svc_peer_count(const struct svc *svc)
{
    size_t n = 0;

    for (const struct svc_peer *p = svc->peers; p != NULL; p = p->next)
        n++;
    return n;
}

void svc_peers_free(struct svc *svc)
{
    while (svc->peers != NULL)
        peer_free(svc->peers);
}

const struct dbe_node_ops svc_node_ops = {
    .on_message = svc_on_message,
    .on_malformed = svc_on_malformed,
    .on_up = on_up,
    .on_down = on_down,
    .on_switched = on_switched,
    .on_revocations = on_revocations,
};
