/* SPDX-License-Identifier: Apache-2.0
 *
 * dump.c - what the service holds right now, for people: SIGUSR1 writes it to the log, one line a line.
 *
 * Not:  no payload, no keys, no claims.
 */
#include "runtime/priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct svc_dump {
    struct svc *svc;
    size_t bytes; /* written so far; beyond SVC_DUMP_MAX_BYTES the rest is left out */
    bool full;
};

void svc_dumpf(struct svc_dump *out, const char *fmt, ...)
{
    static const struct svc_event event = {.type = "dump"};
    char line[512];
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (n < 0 || out->full)
        return;
    out->bytes += strlen(line);
    out->full = out->bytes > SVC_DUMP_MAX_BYTES;
    svc_log_event(out->svc, SVC_INFO, &event, "%s", out->full ? "(dump too long, rest left out)" : line);
}

static void dump_node(struct svc *svc, struct svc_dump *out)
{
    struct dbe_node_stats s;

    dbe_node_stats(svc->node, &s);
    svc_dumpf(out, "node peers=%llu handshakes ok=%llu failed=%llu messages in=%llu out=%llu malformed=%llu calls=%llu",
              (unsigned long long)s.peers, (unsigned long long)s.handshakes_ok, (unsigned long long)s.handshakes_failed,
              (unsigned long long)s.messages_in, (unsigned long long)s.messages_out, (unsigned long long)s.malformed,
              (unsigned long long)s.calls_in_flight);
}

static void dump_work(struct svc *svc, struct svc_dump *out)
{
    char id[37];
    uint64_t now = base_mono_ns();

    for (const struct svc_peer *p = svc->peers; p != NULL; p = p->next)
        svc_dumpf(out, "peer %s suite=%s queued=%zu handshake_us=%llu", p->node, dbe_peer_suite(p->peer),
                  dbe_peer_queued_bytes(p->peer), (unsigned long long)dbe_peer_handshake_us(p->peer));
    for (size_t i = 0; i < svc->link_count; i++)
        svc_dumpf(out, "link %s %s", svc->links[i].neighbour->name, svc->links[i].peer != NULL ? "up" : "down");
    for (const struct svc_req *r = svc->reqs; r != NULL; r = r->next) {
        base_uuid_text(r->id, id);
        svc_dumpf(out, "request %s %s from device %u age_ms=%llu left_ms=%lld", id, svc_msg_name(r->type),
                  r->src_device, (unsigned long long)((now - r->received_ns) / BASE_NS_PER_MS),
                  (long long)(r->deadline_ns - now) / BASE_NS_PER_MS);
    }
    for (const struct svc_call *c = svc->calls; c != NULL; c = c->next) {
        base_uuid_text(c->request_id, id);
        svc_dumpf(out, "call %s to %s", id, c->link->neighbour->name);
    }
}

void svc_dump_state(struct svc *svc)
{
    struct svc_dump out = {.svc = svc};

    svc_dumpf(&out, "%s ready=%d draining=%d requests=%zu calls=%zu holds=%llu", svc->service, svc->ready,
              svc->draining, svc->req_count, svc->call_count, (unsigned long long)svc->holds);
    dump_node(svc, &out);
    dump_work(svc, &out);
    svc->dev->dump(svc->state, &out);
}
