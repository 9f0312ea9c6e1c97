/* SPDX-License-Identifier: Apache-2.0
 *
 * svc.h - service runtime: what every device is given, and what it must give.
 *
 * A device is ONE const struct (svc_device). The runtime owns main(), argv, configuration, log, event loop, mesh node,
 * policy check, counters, /metrics and /healthz, readiness and graceful stop; the device owns its decision.
 *
 * Threads:  all callbacks of one device run on the loop's thread, never re-entrantly. A device that computes in
 *           a thread of its own comes back through svc_wake.
 * Time:     svc_now_ns() only, so that tests own the clock.
 * Lifetime: every `msg` is borrowed until the callback returns. A `req` lives until it is finished (svc_reply
 *           with last, svc_refuse, svc_relay of a last message) or until on_gone was called for it.
 */
#ifndef RUNTIME_SVC_H
#define RUNTIME_SVC_H

#include "base/base.h"
#include "base/loop.h"
#include "dbe/identity.h"
#include "dbe/msg.h"
#include "dbe/node.h"
#include "policy/policy.h"

struct svc;
struct svc_req;  /* one request being served */
struct svc_link; /* one configured neighbour this service calls */
struct svc_dump;

/* Handle one message that policy has allowed. Return DBE_OK and answer now or later through `req`; an error
 * returned here is sent as the refusal. One-way messages have req too; finishing it then sends nothing. */
typedef dbe_err svc_handler_fn(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg);

struct svc_route { /* one row per message type this device reacts to; ends with type 0 */
    uint8_t         type;
    svc_handler_fn *handler;
};

enum svc_param_kind { SVC_PARAM_END, SVC_PARAM_UINT, SVC_PARAM_DOUBLE, SVC_PARAM_TEXT };
struct svc_param { /* configuration key, option --key, environment DSMIL_KEY; doc is printed by --help. A whole
                      number whose unit is ms, s, min, h or B, KiB, MiB, GiB may be written with another of them. */
    const char         *key, *unit;
    enum svc_param_kind kind;
    double              def, min, max;  /* numbers */
    const char         *def_text;       /* text */
    size_t              offset, size;   /* into state: uint64_t, double, or char[size] */
    const char         *doc;
    bool                reload;         /* may change while the service runs: the device reads it at each use */
};

enum svc_counter_kind { SVC_COUNTER, SVC_GAUGE };
struct svc_counter { /* a uint64_t in state; exported under its full Prometheus name; ends with NULL */
    const char           *name, *doc, *labels; /* labels: static text such as device_id="47", or NULL */
    enum svc_counter_kind kind;
    size_t                offset;
};

struct svc_neighbour { /* ends with NULL: whom this device calls; addresses come from configuration (--link-NAME) */
    const char *name;
    uint8_t     role;
    int         device; /* -1: any */
    bool        required; /* not ready until it is up once */
};

struct svc_device {
    uint8_t     device_id, layer, role;
    const char *name;    /* program dsmil-<name> */
    const char *purpose; /* one sentence */
    const char *config_default; /* file that is read where --config names none, if it is there; NULL: none */
    const char *config_section; /* key of the file whose map the device reads itself (svc_config_path); NULL: none */
    size_t      state_size; /* runtime gives zeroed state of this size, parameters filled in */

    const struct svc_route     *routes;
    const struct svc_neighbour *neighbours; /* may be NULL */
    const struct svc_param     *params;     /* may be NULL */
    const struct svc_counter   *counters;   /* may be NULL */

    dbe_err (*init)(struct svc *svc, void *state, struct dbe_diag *diag); /* required; diag says what to do */
    void    (*tick)(struct svc *svc, void *state); /* optional: every second; ten times as often until ready */
    void    (*wake)(struct svc *svc, void *state);                        /* optional: after svc_wake */
    void    (*link_up)(struct svc *svc, void *state, struct svc_link *link);   /* optional */
    void    (*link_down)(struct svc *svc, void *state, struct svc_link *link); /* optional */
    void    (*reloaded)(struct svc *svc, void *state); /* optional: reloadable parameters have new values (SIGHUP) */
    bool    (*ready)(const struct svc *svc, const void *state);           /* optional: device's own part of readiness */
    void    (*drain)(struct svc *svc, void *state);                       /* optional: stop taking work */
    /* optional: an operator's order (POST /device/WHAT?value=VALUE on the Unix socket); `said`: a line for people */
    dbe_err (*order)(struct svc *svc, void *state, const char *what, const char *value, struct base_buf *said,
                     struct dbe_diag *diag);
    void    (*dump)(const void *state, struct svc_dump *out);             /* required: what it holds, for people */
    void    (*fini)(struct svc *svc, void *state); /* optional, idempotent; also after an init that failed half way */
};

/* ---- what the device may call ---------------------------------------------------------------- */

uint64_t          svc_now_ns(const struct svc *svc);
/* The configuration file that was read, "" for none. */
const char       *svc_config_path(const struct svc *svc);
struct dbe_loop *svc_loop(struct svc *svc);
void              svc_wake(struct svc *svc); /* from any thread: wake() runs soon on the loop's thread */
const struct dbe_identity   *svc_identity(const struct svc *svc);
const struct dbe_credential *svc_credential(const struct svc *svc);
/* The public key of that credential. */
dbe_err svc_public_key(const struct svc *svc, uint8_t ret[CRYPTO_MLDSA87_PK_BYTES]) DBE_MUST_CHECK;
/* The mesh's anchor, with the newest list of what was revoked. */
const struct dbe_trust *svc_trust(const struct svc *svc);

enum svc_level { SVC_DEBUG, SVC_INFO, SVC_WARN, SVC_ERROR };
/* One JSON line with 002's fields: timestamp, level, device_id, layer, service, message, request_id and tenant
 * when `req` is given. */
void svc_log(struct svc *svc, enum svc_level level, const struct svc_req *req, const char *fmt, ...) DBE_PRINTF(4, 5);
/* Record one observation of a histogram, add to a counter, or set a gauge (svc_count with its value), by its
 * name in runtime/metrics.def. `labels` is static-bounded text. Families that start with dsmil_l7_ are the
 * devices' own; what the runtime knows by itself (messages, errors, refusals, handshakes, dsmil_device_*) it
 * counts by itself. */
void svc_observe(struct svc *svc, const char *metric, const char *labels, double value);
void svc_count(struct svc *svc, const char *metric, const char *labels, uint64_t add);
void svc_dumpf(struct svc_dump *out, const char *fmt, ...) DBE_PRINTF(2, 3);

/* ---- requests -------------------------------------------------------------------------------- */

const struct pol_labels *svc_req_labels(const struct svc_req *req);
const uint8_t           *svc_req_id(const struct svc_req *req);       /* REQUEST_ID, 16 bytes */
uint64_t                 svc_req_deadline_ns(const struct svc_req *req);
uint64_t                 svc_req_elapsed_us(const struct svc_req *req);
/* Bytes that wait to be written to the caller: a service that streams stops feeding a caller who reads slowly. */
size_t                   svc_req_queued_bytes(const struct svc_req *req);
void                    *svc_req_user(const struct svc_req *req);
void                     svc_req_set_user(struct svc_req *req, void *user);
/* Called once if the caller cancels (L7_CANCEL), its deadline passes or its channel ends before the request is
 * finished; the req is invalid when fn returns. */
void svc_req_on_gone(struct svc_req *req, void (*fn)(void *user, struct svc_req *req, dbe_err why));

/* Send one answer: labels of the request, own DEVICE_ID_SRC, REQUEST_ID, TIMESTAMP; with `last` also HOP_TRACE,
 * and the request ends. E_LIMIT: the peer reads too slowly and its queue is full; nothing was sent. */
dbe_err svc_reply(struct svc *svc, struct svc_req *req, uint8_t type, const void *payload, size_t len, bool last)
    DBE_MUST_CHECK;
/* End the request with an ERROR message: stable code, the code's sentence unless `reason` is given, rule may be
 * NULL. */
void    svc_refuse(struct svc *svc, struct svc_req *req, dbe_err code, const char *rule, const char *reason);
/* The same, and when it is worth trying again: milliseconds, 0 for unknown. */
void    svc_refuse_for(struct svc *svc, struct svc_req *req, dbe_err code, const char *rule, const char *reason,
                       uint32_t retry_after_ms);
/* Pass an answer of a forwarded call on: header rewritten, payload untouched and not decoded. */
dbe_err svc_relay(struct svc *svc, struct svc_req *req, const struct dbe_msg *answer, bool last) DBE_MUST_CHECK;

/* Those who follow a status (L7_MODEL_STATUS with `watch`): each request stays open and is answered as a stream. Part
 * of a device's state; zeroed is empty. */
enum { SVC_WATCHERS_MAX = 8 };
struct svc_watchers {
    struct svc_req *reqs[SVC_WATCHERS_MAX];
};
/* Take a request in; its user data and on_gone are the watchers' from then on. E_LIMIT: it stays the caller's. */
dbe_err svc_watchers_add(struct svc_watchers *w, struct svc_req *req) DBE_MUST_CHECK;
/* Answer an L7_MODEL_STATUS with `status`; one that wants to watch is taken in. Errors of svc_reply, E_LIMIT. */
dbe_err svc_watchers_answer(struct svc *svc, struct svc_watchers *w, struct svc_req *req,
                            const struct dbe_msg *question, const void *status, size_t len) DBE_MUST_CHECK;
/* Tell all of them; with `last` they are ended. One whose deadline is near is ended with this message, too: it asks
 * anew. One that cannot take it is dropped. */
void svc_watchers_tell(struct svc *svc, struct svc_watchers *w, uint8_t type, const void *payload, size_t len,
                       bool last);

/* What would policy say of a message of `type` for `dst_device` (ourselves or a neighbour) that carries the labels and
 * the claim of `msg`, which is being handled in `req`? Nothing is sent, counted or audited. */
void svc_policy_ask(struct svc *svc, const struct svc_req *req, const struct dbe_msg *msg, uint8_t type,
                    uint8_t dst_device, struct pol_verdict *ret);

/* ---- calling others -------------------------------------------------------------------------- */

struct svc_link *svc_link_named(struct svc *svc, const char *name); /* NULL: no such neighbour configured */
bool             svc_link_is_up(const struct svc_link *link);
const char      *svc_link_name(const struct svc_link *link);
void            *svc_link_user(const struct svc_link *link);
void             svc_link_set_user(struct svc_link *link, void *user);
/* The neighbour's channel, NULL while it is down: its binding for claim tokens, its suite, its handshake's time. */
struct dbe_peer *svc_link_peer(const struct svc_link *link);
/* Has every configured neighbour come up once, or turned out to be one that cannot, or been waited for long enough
 * (--start-wait)? It stays so. A service is not ready before. */
bool             svc_links_settled(const struct svc *svc);
/* Why the neighbour is not reachable, for the answer that says so; "" when it is up. Valid until the next call. */
const char      *svc_link_problem(const struct svc_link *link);

/* Forward the message of `req` to a neighbour: payload and unknown TLVs kept; DEVICE_ID_SRC/DST, LAYER_PATH,
 * TIMEOUT_MS rewritten; the claim token stays behind (it is bound to the channel it came by). Answers go to
 * fn(ctx...) as in dbe_call. */
dbe_err svc_forward(struct svc *svc, struct svc_req *req, const struct dbe_msg *msg, struct svc_link *link,
                    dbe_reply_fn *fn, void *ctx, uint64_t *ret_call_id) DBE_MUST_CHECK;
/* A call of the service's own (no request behind it): labels UNCLAS, SOC, ANALYSIS_ONLY, tenant "system". */
dbe_err svc_call(struct svc *svc, struct svc_link *link, uint8_t type, const void *payload, size_t len,
                 uint64_t deadline_ns, dbe_reply_fn *fn, void *ctx, uint64_t *ret_call_id) DBE_MUST_CHECK;
/* Send a request that the service built itself, a whole message with its labels and REQUEST_ID (a gateway's
 * requests). Answers are held against its labels as those of svc_forward are. E_UNAVAILABLE while the link is
 * down; E_CLASSIFICATION, E_COMPARTMENT or E_SIM_MIX if the neighbour's certificate may not take these labels:
 * nothing was sent then. */
dbe_err svc_call_message(struct svc *svc, struct svc_link *link, const void *bytes, size_t len, uint64_t deadline_ns,
                         dbe_reply_fn *fn, void *ctx, uint64_t *ret_call_id) DBE_MUST_CHECK;
/* Forget a call and tell the neighbour (L7_CANCEL). */
void svc_call_cancel(struct svc *svc, struct svc_link *link, uint64_t call_id);

/* The policy in force. It may be another after the callback that asked, but the place stays. */
const struct pol_policy *svc_policy(const struct svc *svc);

/* Work that the runtime cannot see (an HTTP answer being written): a drain waits for it, up to its limit. Calls
 * pair. */
void svc_hold(struct svc *svc);
void svc_release(struct svc *svc);

/* ---- the audit log, Device 14 ------------------------------------------------------------------ */

/* Record a security event that the runtime cannot see by itself (kinds: src/audit/kinds.def). `peer` may be NULL, and
 * its identity is recorded otherwise; `count` has the meaning that the kind gives it. Never waits, never fails: what
 * finds no room is counted, and a gap record tells. Decisions and channels are recorded without asking. */
void svc_audit_event(struct svc *svc, uint8_t kind, dbe_err code, const struct dbe_peer *peer, uint32_t count,
                     const char *detail);
/* The same about a request, with its id, labels and sender: a rule of the device refused it. NULL rule and reason: the
 * device's name, the code's sentence. svc_refuse records codes of class DENY without asking. */
void svc_audit_req(struct svc *svc, uint8_t kind, const struct svc_req *req, dbe_err code, const char *rule,
                   const char *reason);
/* For Device 14: its own records go to `sink` instead of a link, in batches; it calls one of the two below when they
 * are on the disk up to the number before `next`, or are not and shall come again. An error is the latter. */
typedef dbe_err svc_audit_sink(void *ctx, const uint8_t run[8], const void *records, size_t len);
void svc_audit_set_sink(struct svc *svc, svc_audit_sink *sink, void *ctx);
void svc_audit_stored(struct svc *svc, uint64_t next);
void svc_audit_failed(struct svc *svc);
/* The channel that a request came by. */
const struct dbe_peer *svc_req_peer(const struct svc_req *req);
size_t svc_peer_count(const struct svc *svc); /* channels that are up */

int svc_main(int argc, char *argv[], const struct svc_device *dev);
#define SVC_MAIN(dev)                                                                                                  \
    int main(int argc, char *argv[]) { return svc_main(argc, argv, &(dev)); }

#endif
