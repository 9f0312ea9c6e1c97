/* SPDX-License-Identifier: Apache-2.0
 *
 * health.c - is this service well: /healthz, readiness, and the gauges that are read when somebody asks for metrics.
 *
 * unhealthy: not ready, or draining (503: send it no work). degraded: ready, but a neighbour is down. healthy:
 * all is up.
 *
 * Ready for the first time: each configured neighbour was up once, or was met and is not who it should be, or did not
 * come within --start-wait. So whoever starts a mesh and waits for its services finds all of it, and one member that
 * is missing for good keeps nobody waiting for ever. Later nothing but the device's own word counts.
 */
#include "runtime/audit.h"
#include "runtime/priv.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool svc_links_up_once(const struct svc *svc)
{
    for (size_t i = 0; i < svc->link_count; i++)
        if (svc->links[i].neighbour->required && !svc->links[i].up_once)
            return false;
    return true;
}

/* The neighbour was met, and something is wrong that does not pass by waiting. */
static bool hopeless(const struct svc_link *link)
{
    const dbe_err last = link->link != NULL ? dbe_link_last_error(link->link, NULL) : DBE_OK;

    return dbe_err_class(last) == DBE_CLASS_PEER && last != DBE_E_CLOSED;
}

bool svc_links_settled(const struct svc *svc)
{
    if (svc->ready || base_mono_ns() - svc->started_ns >= svc->cfg.start_wait_ms * BASE_NS_PER_MS)
        return true;
    for (size_t i = 0; i < svc->link_count; i++)
        if (!svc->links[i].up_once && !hopeless(&svc->links[i]))
            return false;
    return true;
}

static bool device_ready(const struct svc *svc)
{
    return svc->dev->ready == NULL || svc->dev->ready(svc, svc->state);
}

static bool serving(const struct svc *svc)
{
    return svc->listening && svc->inited && !svc->draining && svc_links_up_once(svc) && svc_links_settled(svc) &&
           device_ready(svc);
}

void svc_check_ready(struct svc *svc)
{
    if (svc->ready || !serving(svc))
        return;
    svc->ready = true;
    const struct svc_event e = {.type = "lifecycle"};
    svc_log_event(svc, SVC_INFO, &e, "ready");
    svc_notify_ready(svc);
}

static void put_check(struct base_buf *out, const char *sep, const char *name, bool good, const char *problem)
{
    base_buf_str(out, sep);
    base_json_str(out, name, strlen(name));
    base_buf_str(out, ":");
    base_json_str(out, good ? "ok" : problem, strlen(good ? "ok" : problem));
}

dbe_err svc_health_render(struct svc *svc, struct base_buf *out, unsigned *ret_http_status)
{
    bool up = serving(svc), degraded = false;
    char when[32], name[SVC_NAME_MAX + 8];

    for (size_t i = 0; i < svc->link_count; i++)
        degraded |= svc->links[i].peer == NULL;
    svc_timestamp(base_wall_ms(), when);
    base_buf_fmt(out, "{\"status\":\"%s\",\"device_id\":%u,\"layer\":%u,\"service\":",
                 !up        ? "unhealthy"
                 : degraded ? "degraded"
                            : "healthy",
                 svc->dev->device_id, svc->dev->layer);
    base_json_str(out, svc->service, strlen(svc->service));
    put_check(out, ",\"checks\":{", "mesh", svc->listening, "not listening");
    put_check(out, ",", "device", device_ready(svc), "not ready");
    put_check(out, ",", "service", !svc->draining, "stopping");
    for (size_t i = 0; i < svc->link_count; i++) {
        snprintf(name, sizeof name, "link-%s", svc->links[i].neighbour->name);
        put_check(out, ",", name, svc->links[i].peer != NULL, svc_link_problem(&svc->links[i]));
    }
    base_buf_fmt(out, "},\"last_check_timestamp\":\"%s\"}\n", when);
    DBE_TRY(out->err);
    *ret_http_status = up ? 200 : 503;
    return DBE_OK;
}

static double resident_bytes(void)
{
    unsigned long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (f == NULL)
        return 0;
    if (fscanf(f, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

/* What is known only when asked: taken fresh for every scrape. */
static void refresh(struct svc *svc)
{
    struct svc_metrics *m = &svc->metrics;
    const struct dbe_device_row *row = dbe_reg_device(svc->dev->device_id);
    struct dbe_node_stats s;
    char labels[SVC_LABELS_MAX];

    dbe_node_stats(svc->node, &s);
    svc_audit_refresh(svc);
    svc_labels(labels, "node", svc->node_name, NULL);
    svc_metric_set(m, SVC_M_dbe_peers, labels, (double)s.peers);
    svc_metric_set(m, SVC_M_dbe_calls_in_flight, labels, (double)svc->call_count);
    svc_labels(labels, "node", svc->node_name, "direction", "in", NULL);
    svc_metric_set_counter(m, SVC_M_dbe_bytes_total, labels, s.bytes_in);
    svc_labels(labels, "node", svc->node_name, "direction", "out", NULL);
    svc_metric_set_counter(m, SVC_M_dbe_bytes_total, labels, s.bytes_out);
    svc_labels(labels, "device_id", m->device_id, "device_name", row != NULL ? row->title : "", NULL);
    svc_metric_set(m, SVC_M_dsmil_device_status, labels, serving(svc) ? 1 : 0);
    svc_metric_set(m, SVC_M_dsmil_system_uptime_seconds, "", (double)(base_mono_ns() - svc->started_ns) / 1e9);
    svc_metric_set(m, SVC_M_dsmil_system_memory_bytes, "", resident_bytes());
}

dbe_err svc_metrics_render(struct svc *svc, struct base_buf *out)
{
    refresh(svc);
    svc_metrics_write(&svc->metrics, svc->dev->counters, svc->state, out);
    return out->err;
}
