/* SPDX-License-Identifier: Apache-2.0
 *
 * svc.c - the life of a service: open, ready, serve, drain, close.
 *
 * In:   a device, its configuration, an event loop
 * Out:  a member of the mesh that listens, links, serves and says how it is
 * Not:  no signals, no process attributes, no exit: those belong to main.c, so that several services can share
 *       a process in tests.
 *
 * Order of opening: keys, node, the device's init, admin pages, links, listening. What was opened closes in reverse.
 */
#include "runtime/audit.h"
#include "runtime/priv.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- timers and wake-ups --------------------------------------------------------------------- */

static void on_tick(void *ctx)
{
    struct svc *svc = ctx;

    if (svc->dev->tick != NULL)
        svc->dev->tick(svc, svc->state);
    svc_check_ready(svc);
    uint64_t next_ms = svc->ready ? SVC_TICK_MS : SVC_TICK_STARTING_MS;
    base_timer_set(svc->tick_timer, base_mono_ns() + next_ms * BASE_NS_PER_MS);
}

static void on_wake(void *ctx, int fd, unsigned events)
{
    struct svc *svc = ctx;
    uint64_t count;

    (void)events;
    if (read(fd, &count, sizeof count) != (ssize_t)sizeof count)
        return;
    if (svc->dev->wake != NULL)
        svc->dev->wake(svc, svc->state);
    svc_check_ready(svc);
}

void svc_wake(struct svc *svc)
{
    const uint64_t one = 1;

    /* Fails only when the counter is full: then a wake-up waits already. */
    if (write(svc->wake_fd, &one, sizeof one) < 0)
        return;
}

/* ---- drain ----------------------------------------------------------------------------------- */

static size_t queued_bytes(const struct svc *svc)
{
    size_t sum = 0;

    for (const struct svc_peer *p = svc->peers; p != NULL; p = p->next)
        sum += dbe_peer_queued_bytes(p->peer);
    return sum;
}

static void on_drain(void *ctx)
{
    struct svc *svc = ctx;
    uint64_t now = base_mono_ns();
    bool idle =
        svc->req_count == 0 && svc->call_count == 0 && svc->holds == 0 && queued_bytes(svc) == 0 && svc_audit_idle(svc);

    if (svc->stopped)
        return;
    if (!idle && now < svc->drain_until_ns) {
        base_timer_set(svc->drain_timer, now + (uint64_t)SVC_DRAIN_POLL_MS * BASE_NS_PER_MS);
        return;
    }
    if (!idle)
        svc_log(svc, SVC_WARN, NULL, "stopping with %zu requests and %zu calls unfinished", svc->req_count,
                svc->call_count);
    svc->stopped = true;
    svc->on_stopped(svc->on_stopped_ctx);
}

void svc_drain(struct svc *svc, void (*on_stopped)(void *ctx), void *ctx)
{
    const struct svc_event e = {.type = "lifecycle"};

    if (svc->draining)
        return;
    svc->draining = true;
    svc->on_stopped = on_stopped;
    svc->on_stopped_ctx = ctx;
    svc->drain_until_ns = base_mono_ns() + (uint64_t)SVC_DRAIN_MS * BASE_NS_PER_MS;
    svc_log_event(svc, SVC_INFO, &e, "draining");
    svc_audit_event(svc, AUDIT_STOP, DBE_OK, NULL, 0, "");
    svc_notify(svc, "STOPPING=1\n");
    if (svc->dev->drain != NULL)
        svc->dev->drain(svc, svc->state);
    base_timer_set(svc->drain_timer, base_mono_ns() + 1);
}

void svc_hold(struct svc *svc)
{
    svc->holds++;
}

void svc_release(struct svc *svc)
{
    svc->holds -= svc->holds > 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Types that only ever answer: the reply of some type, and no question themselves; and ERROR. */
static void mark_answers(struct svc *svc)
{
    for (unsigned type = 1; type < 256; type++) {
        const struct dbe_msg_row *row = dbe_reg_msg((uint8_t)type);
        if (row == NULL || row->type != type || row->reply == 0)
            continue;
        const struct dbe_msg_row *reply = dbe_reg_msg(row->reply);
        svc->is_answer[row->reply] = reply != NULL && reply->reply == 0;
    }
    svc->is_answer[DBE_MSG_ERROR] = true;
}

static dbe_err load_keys(struct svc *svc, struct dbe_diag *diag)
{
    DBE_TRY(crypto_init(diag));
    DBE_TRY(dbe_trust_load(svc->cfg.keys, &svc->trust, diag));
    DBE_TRY(dbe_credential_load(svc->cfg.keys, svc->cfg.name, &svc->credential, diag));
    const struct dbe_identity *id = dbe_credential_identity(svc->credential);
    if (id->device != svc->dev->device_id || id->role != svc->dev->role || id->layer != svc->dev->layer)
        return dbe_fail(diag, DBE_E_CERT, NULL, 0, "%.60s in the key store is %.80s, not layer %u device %u",
                        svc->cfg.name, id->spiffe_id, svc->dev->layer, svc->dev->device_id);
    return DBE_OK;
}

static dbe_err open_timers(struct svc *svc)
{
    svc->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (svc->wake_fd < 0)
        return DBE_E_IO;
    DBE_TRY(base_loop_watch(svc->loop, svc->wake_fd, BASE_LOOP_READ, on_wake, svc, &svc->wake_watch));
    DBE_TRY(base_loop_timer(svc->loop, on_tick, svc, &svc->tick_timer));
    DBE_TRY(base_loop_timer(svc->loop, svc_reqs_deadline, svc, &svc->deadline_timer));
    return base_loop_timer(svc->loop, on_drain, svc, &svc->drain_timer);
}

/* Every service but Device 14 itself has one neighbour more, which its device is not told of. */
static dbe_err name_audit_link(struct svc *svc, struct dbe_diag *diag)
{
    static const struct svc_neighbour audit = {.name = SVC_AUDIT_LINK, .role = DBE_ROLE_AUDIT, .device = -1};

    if (svc->cfg.audit[0] == '\0')
        return DBE_OK;
    if (svc->link_count >= SVC_LINKS_MAX)
        return dbe_fail(diag, DBE_E_LIMIT, NULL, 0, "no place for the link to the audit log");
    struct svc_link *link = &svc->links[svc->link_count++];
    link->svc = svc;
    link->neighbour = &audit;
    return DBE_OK;
}

/* Links by name, so that a device finds its neighbours when it is made; they come up later. */
static dbe_err name_links(struct svc *svc, struct dbe_diag *diag)
{
    const struct svc_neighbour *n = svc->dev->neighbours;

    for (size_t i = 0; n != NULL && n[i].name != NULL; i++) {
        if (i >= SVC_LINKS_MAX)
            return dbe_fail(diag, DBE_E_LIMIT, NULL, 0, "a device has at most %d neighbours", SVC_LINKS_MAX);
        if (svc->cfg.links[i][0] == '\0')
            continue;
        struct svc_link *link = &svc->links[svc->link_count++];
        link->svc = svc;
        link->neighbour = &n[i];
    }
    return name_audit_link(svc, diag);
}

static dbe_err open_links(struct svc *svc, struct dbe_diag *diag)
{
    for (size_t i = 0; i < svc->link_count; i++) {
        struct svc_link *link = &svc->links[i];
        const struct svc_neighbour *n = link->neighbour;
        bool own = strcmp(n->name, SVC_AUDIT_LINK) == 0;
        const char *address = own ? svc->cfg.audit : svc->cfg.links[n - svc->dev->neighbours];
        dbe_err err = dbe_node_link(svc->node, address, n->role, n->device, &link->link);
        if (err != DBE_OK)
            return dbe_fail(diag, err, NULL, 0, "%s%.40s %.80s: %.50s", own ? "--" : "--link-", n->name, address,
                            dbe_err_text(err));
    }
    return DBE_OK;
}

static dbe_err open_mesh(struct svc *svc, struct dbe_diag *diag)
{
    uint16_t suites[DBE_SUITES_MAX];
    struct dbe_node_config config = {.credential = svc->credential,
                                     .trust = svc->trust,
                                     .ops = &svc_node_ops,
                                     .ctx = svc,
                                     .policy_digest = pol_policy_digest(&svc->policy),
                                     .suites = suites};

    DBE_TRY(svc_suites_parse(svc->cfg.suites, suites, &config.suites_count, diag));
    DBE_TRY(open_timers(svc));
    DBE_TRY(dbe_node_new(svc->loop, &config, &svc->node));
    DBE_TRY(dbe_node_watch_keys(svc->node, svc->cfg.keys, diag));
    DBE_TRY(name_links(svc, diag));
    if (svc->cfg.audit[0] != '\0' || svc->dev->role == DBE_ROLE_AUDIT)
        DBE_TRY(svc_audit_open(svc));
    svc_audit_event(svc, AUDIT_START, DBE_OK, NULL, 0, DSMIL_VERSION);
    svc_policy_audit(svc);
    svc->begun = true;
    DBE_TRY(svc->dev->init(svc, svc->state, diag));
    svc->inited = true;
    DBE_TRY(svc_http_open(svc, &svc->http, diag));
    svc_policy_catch_up(svc);
    DBE_TRY(open_links(svc, diag));
    if (svc->cfg.listen[0] != '\0')
        DBE_TRY(dbe_node_listen(svc->node, svc->cfg.listen, diag));
    svc->listening = true; /* a gateway listens to no peer and is none the worse for it */
    base_timer_set(svc->tick_timer, base_mono_ns() + 1);
    return DBE_OK;
}

static void log_start(struct svc *svc)
{
    const struct svc_field fields[] = {
        {.key = "spiffe_id", .text = svc_identity(svc)->spiffe_id},
        {.key = "listen", .text = svc->cfg.listen},
        {.key = "crypto", .text = crypto_backend_version()},
    };
    const struct svc_event e = {.type = "lifecycle", .fields = fields, .field_count = BASE_ARRAY_LEN(fields)};

    svc_log_event(svc, SVC_INFO, &e, "started: %s", svc->dev->purpose);
}

dbe_err svc_open(struct dbe_loop *loop, const struct svc_device *dev, const struct svc_config *cfg, void *state,
                 struct svc **ret, enum svc_exit *ret_exit, struct dbe_diag *diag)
{
    struct svc *svc = base_alloc(1, sizeof *svc);
    const struct dbe_role_row *role = dbe_reg_role(dev->role);

    BASE_INVARIANT(dev->init != NULL && dev->dump != NULL && dev->name != NULL &&
                   dbe_reg_device(dev->device_id) != NULL);
    *ret_exit = SVC_EXIT_FAILED;
    if (svc == NULL) {
        base_free(state);
        return DBE_E_NOMEM;
    }
    svc->dev = dev;
    svc->state = state;
    svc->cfg = *cfg;
    svc->loop = loop;
    svc->wake_fd = -1;
    svc->started_ns = base_mono_ns();
    svc->started_wall_ms = base_wall_ms();
    snprintf(svc->service, sizeof svc->service, "dsmil-%s", dev->name);
    snprintf(svc->node_name, sizeof svc->node_name, "%s-%u", role != NULL ? role->path : "node", dev->device_id);
    snprintf(svc->metrics.device_id, sizeof svc->metrics.device_id, "%u", dev->device_id);
    svc->metrics.node = svc->node_name;
    mark_answers(svc);
    dbe_err err = svc_remember_config(svc);
    if (err == DBE_OK && (err = svc_policy_open(svc, diag)) != DBE_OK)
        *ret_exit = SVC_EXIT_USAGE;
    if (err == DBE_OK && (err = load_keys(svc, diag)) != DBE_OK)
        *ret_exit = SVC_EXIT_KEYS;
    if (err == DBE_OK) {
        log_start(svc);
        svc_roe_open(svc);
        err = open_mesh(svc, diag);
        if (dbe_err_class(err) == DBE_CLASS_LOCAL)
            *ret_exit = err == DBE_E_CONFIG || err == DBE_E_ARGUMENT ? SVC_EXIT_USAGE : SVC_EXIT_FAILED;
    }
    if (err != DBE_OK) {
        svc_close(svc);
        return err;
    }
    *ret = svc;
    return DBE_OK;
}

/* Requests and calls end first, while the device still stands; then the channels; then the device. */
void svc_close(struct svc *svc)
{
    if (svc == NULL)
        return;
    svc->draining = true;
    svc->closing = true;
    if (svc->inited)
        svc_reqs_end(svc, NULL, DBE_E_CANCELLED);
    svc_http_free(svc->http);
    dbe_node_free(svc->node);
    svc_calls_free(svc);
    svc_roe_free(svc);
    svc_peers_free(svc);
    svc_audit_flush(svc);
    if (svc->begun && svc->dev->fini != NULL)
        svc->dev->fini(svc, svc->state);
    svc_audit_close(svc);
    base_timer_free(svc->tick_timer);
    base_timer_free(svc->deadline_timer);
    base_timer_free(svc->drain_timer);
    base_watch_free(svc->wake_watch);
    if (svc->wake_fd >= 0)
        close(svc->wake_fd);
    dbe_credential_free(svc->credential);
    dbe_credential_free(svc->renewed);
    for (size_t i = 0; i < svc->former_count; i++)
        dbe_credential_free(svc->former[i]);
    dbe_trust_free(svc->trust);
    svc_metrics_free(&svc->metrics);
    if (svc->scratch != NULL)
        base_wipe(svc->scratch, svc->scratch_cap);
    base_free(svc->scratch);
    base_free(svc->said);
    base_free(svc->state);
    base_free(svc);
}

/* ---- what devices ask ------------------------------------------------------------------------ */

uint64_t svc_now_ns(const struct svc *svc)
{
    (void)svc;
    return base_mono_ns();
}

const char *svc_config_path(const struct svc *svc)
{
    return svc->cfg.config_file;
}

struct dbe_loop *svc_loop(struct svc *svc)
{
    return svc->loop;
}

const struct dbe_identity *svc_identity(const struct svc *svc)
{
    return dbe_credential_identity(svc->credential);
}

const struct dbe_trust *svc_trust(const struct svc *svc)
{
    return svc->trust;
}

const struct dbe_credential *svc_credential(const struct svc *svc)
{
    return svc->credential;
}

dbe_err svc_public_key(const struct svc *svc, uint8_t ret[CRYPTO_MLDSA87_PK_BYTES])
{
    struct dbe_identity id;
    const uint8_t *der;
    size_t len;

    dbe_credential_cert(svc->credential, &der, &len);
    return dbe_trust_verify(svc->trust, der, len, base_wall_ms(), &id, ret, NULL);
}
