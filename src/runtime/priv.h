/* SPDX-License-Identifier: Apache-2.0
 *
 * priv.h - what the runtime's own files share: the service, its requests, links, calls, log and metrics.
 *
 * Nobody outside src/runtime includes it, except tests of the runtime. Reading order: svc.c (life), req.c (what
 * comes in), req_life.c (how that ends), forward.c (what goes out), then the rest.
 */
#ifndef RUNTIME_PRIV_H
#define RUNTIME_PRIV_H

#include <netinet/in.h>

#include "runtime/admin.h"
#include "runtime/svc.h"

enum {
    SVC_LINKS_MAX = 16,
    SVC_RENEWALS_MAX = 64,        /* credentials that one process can follow; then it wants a restart */
    SVC_REQS_MAX = 4096,          /* requests being served, all peers together */
    SVC_CALLS_MAX = 8192,         /* calls to neighbours in flight */
    SVC_DRAIN_MS = 5000,
    SVC_DRAIN_POLL_MS = 10,
    SVC_TICK_MS = 1000,
    SVC_TICK_STARTING_MS = 100, /* until ready: what a device waits for, it asks for in its tick */
    SVC_PATH_MAX = 1024,
    SVC_SUITES_TEXT_MAX = 256,    /* a list of suites by name or number */
    SVC_ADDRESS_MAX = 200,
    SVC_NAME_MAX = 64,
    SVC_LOG_LINE_MAX = 4096,      /* bytes of one line */
    SVC_LOG_LINES_PER_S = 1000,   /* beyond it lines are counted, not written */
    SVC_DUMP_MAX_BYTES = 65536,
    SVC_CONFIG_FILE_MAX = 65536,
    SVC_SERIES_MAX = 64,          /* label sets of one metric; further ones are counted as "other" */
    SVC_LABELS_MAX = 256,         /* bytes of one label set */
    SVC_LABEL_VALUE_MAX = 64,
    SVC_BUCKETS = 16,
    SVC_SCRATCH_KEEP_BYTES = 1024 * 1024,
    SVC_TLV_ROOM_BYTES = 1024,    /* what we stamp on a message: labels, ids, hops, path */
};

enum svc_exit { SVC_EXIT_OK = 0, SVC_EXIT_FAILED = 1, SVC_EXIT_USAGE = 2, SVC_EXIT_KEYS = 3 };

/* ---- configuration (config.c) ---------------------------------------------------------------- */

struct svc_config {
    char     keys[SVC_PATH_MAX], name[SVC_NAME_MAX], listen[SVC_ADDRESS_MAX], metrics_socket[SVC_PATH_MAX];
    char     suites[SVC_SUITES_TEXT_MAX], policy[SVC_PATH_MAX], roe_used[SVC_PATH_MAX];
    char     config_file[SVC_PATH_MAX], log_level[16];
    uint64_t metrics_port, ready_fd; /* ready_fd 0: none, as descriptor 0 is standard input */
    uint64_t start_wait_ms;          /* how long readiness waits for neighbours that are not there */
    char     audit[SVC_ADDRESS_MAX], audit_anchor[SVC_PATH_MAX];
    char     links[SVC_LINKS_MAX][SVC_ADDRESS_MAX]; /* in the order of dev->neighbours; "": not configured */
    enum svc_level level;
    char     sandbox_text[8];
    bool     parent_death, help, version, sandbox;
    int64_t  parent_pid; /* 0: whoever started us */
    int      log_fd;
    int          argc; /* where it came from, to read it again; argv lives as long as the process */
    char *const *argv;
};

/* Defaults, file, environment, options, in this order. `state` takes the device's parameters. E_CONFIG; diag
 * names option, variable or file and line. */
dbe_err svc_config_load(int argc, char *const argv[], const struct svc_device *dev, struct svc_config *cfg, void *state,
                        struct dbe_diag *diag) DBE_MUST_CHECK;
/* What the sources said when they were read last: what a later reading is held against. */
struct svc_said {
    struct svc_config cfg;
    _Alignas(max_align_t) uint8_t state[]; /* of the device's size */
};
/* Keep the configuration as it was read, before the device's init. E_NOMEM. */
dbe_err svc_remember_config(struct svc *svc) DBE_MUST_CHECK;
/* Read the configuration again and take over what may change. Whatever is wrong changes nothing. `words` says either
 * way what came of it, as the log does. */
enum { SVC_RELOAD_WORDS = 1024 };
dbe_err svc_reload(struct svc *svc, char *words, size_t cap);
void    svc_config_help(const struct svc_device *dev, struct base_buf *out);

/* ---- metrics (metrics.c) --------------------------------------------------------------------- */

enum svc_metric_kind { SVC_METRIC_COUNTER, SVC_METRIC_GAUGE, SVC_METRIC_HISTOGRAM };

enum svc_metric {
#define METRIC(name, kind, labels, help) SVC_M_##name,
#include "runtime/metrics.def"
#undef METRIC
    SVC_METRIC_COUNT
};

struct svc_series {
    char     labels[SVC_LABELS_MAX];
    double   value; /* gauge; histogram: sum */
    uint64_t count; /* counter; histogram: observations */
    uint64_t buckets[SVC_BUCKETS];
};

struct svc_metrics {
    struct {
        struct svc_series *series; /* at most SVC_SERIES_MAX + 1: the last one is "other" */
        size_t             count, cap;
    } of[SVC_METRIC_COUNT];
    char device_id[4];
    const char *node;
};

/* Label set from pairs of name and value, ended by NULL; values are escaped, shortened and made valid. */
void svc_labels(char out[SVC_LABELS_MAX], ...) __attribute__((sentinel));
void svc_metric_add(struct svc_metrics *m, enum svc_metric id, const char *labels, uint64_t add);
/* A counter that somebody else keeps. */
void svc_metric_set_counter(struct svc_metrics *m, enum svc_metric id, const char *labels, uint64_t value);
void svc_metric_set(struct svc_metrics *m, enum svc_metric id, const char *labels, double value);
void svc_metric_observe(struct svc_metrics *m, enum svc_metric id, const char *labels, double value);
void svc_metrics_free(struct svc_metrics *m);
/* The registry alone, without the device's counters. */
void svc_metrics_write(const struct svc_metrics *m, const struct svc_counter *counters, const void *state,
                       struct base_buf *out);

/* ---- the service ----------------------------------------------------------------------------- */

struct svc_peer { /* what we keep of one channel, in dbe_peer_user */
    struct svc             *svc;
    struct dbe_peer        *peer;
    struct svc_link        *link;  /* the link it belongs to, or NULL: it came to us */
    struct pol_claim_cache *cache; /* made when the first claim comes */
    bool                    has_channel;
    uint8_t                 channel[16]; /* its name in audit records */
    char                    node[SVC_NAME_MAX]; /* "shim-0" */
    struct svc_peer        *next, **prev;
};

struct svc_link {
    struct svc                 *svc;
    const struct svc_neighbour *neighbour;
    struct dbe_link            *link;
    struct dbe_peer            *peer; /* NULL while down */
    void                       *user;
    bool                        up_once;
    char                        problem[192];
};

struct svc_req {
    struct svc       *svc;
    struct dbe_peer  *peer;
    uint8_t           type, src_device;
    bool              answers; /* the caller waits for an answer */
    bool              gone;    /* on_gone is running */
    uint64_t          correlation, received_ns, deadline_ns;
    uint8_t           id[16];
    struct pol_labels labels;
    void             *user;
    void            (*on_gone)(void *user, struct svc_req *req, dbe_err why);
    struct svc_req   *next, **prev;
};

struct svc_call { /* one call to a neighbour */
    struct svc       *svc;
    struct svc_link  *link;
    struct dbe_peer  *peer;
    uint64_t          id, node_call_id, correlation;
    uint8_t           request_id[16];
    struct pol_labels labels;
    dbe_reply_fn     *fn;
    void             *ctx;
    struct svc_call  *next, **prev;
};

struct svc_http;  /* http_admin.c */
struct svc_audit; /* audit.c */

struct svc {
    const struct svc_device *dev;
    void                    *state; /* the device's */
    struct svc_config        cfg;
    struct svc_said         *said;
    struct dbe_loop        *loop; /* borrowed */
    struct dbe_credential   *credential;
    struct dbe_credential   *renewed;                  /* shown in handshakes already; NULL mostly */
    struct dbe_credential   *former[SVC_RENEWALS_MAX]; /* a handshake may still be using one */
    size_t                   former_count;
    struct dbe_trust        *trust;
    struct dbe_node         *node;
    struct pol_policy        policy;
    struct svc_roe          *roe; /* which ROE tokens were used; NULL before the first */
    struct svc_metrics       metrics;
    struct svc_http         *http;
    struct svc_audit        *audit; /* NULL: nobody keeps a log */

    struct svc_link links[SVC_LINKS_MAX];
    size_t          link_count;
    struct svc_peer *peers;
    struct svc_req  *reqs;
    size_t           req_count;
    struct svc_req  *handling; /* the request whose handler runs; NULL once it is finished */
    struct svc_call *calls;
    size_t           call_count;
    uint64_t         next_call_id;

    struct base_timer *tick_timer, *deadline_timer, *drain_timer;
    struct base_watch *wake_watch;
    int                wake_fd;
    uint64_t           started_ns, started_wall_ms, drain_until_ns, holds;
    bool               listening, begun, inited, ready, draining, closing, stopped;
    void             (*on_stopped)(void *ctx); /* a drain has ended */
    void              *on_stopped_ctx;

    uint8_t *scratch; /* messages are built here */
    size_t   scratch_cap;
    bool     is_answer[256]; /* types that only ever answer */
    char     node_name[SVC_NAME_MAX]; /* "router-43" */
    char     service[SVC_NAME_MAX];   /* "dsmil-l7-router" */
    uint64_t log_second, log_lines, log_suppressed;
};

/* Load keys, make the node, call the device's init, listen, link. `state` was filled by svc_config_load and is
 * the service's from now on, also on error. `ret_exit` says what a process should end with. */
dbe_err svc_open(struct dbe_loop *loop, const struct svc_device *dev, const struct svc_config *cfg, void *state,
                 struct svc **ret, enum svc_exit *ret_exit, struct dbe_diag *diag) DBE_MUST_CHECK;
void    svc_close(struct svc *svc); /* takes NULL */
/* Take no new work, finish what runs, then call on_stopped. */
void    svc_drain(struct svc *svc, void (*on_stopped)(void *ctx), void *ctx);
void    svc_check_ready(struct svc *svc);
bool    svc_links_up_once(const struct svc *svc);

/* ---- channels (channels.c) -------------------------------------------------------------------- */

/* "2,1" or names, best first. E_CONFIG; diag says which entry is wrong. An empty text is an empty list. */
dbe_err svc_suites_parse(const char *text, uint16_t ret[DBE_SUITES_MAX], size_t *ret_count, struct dbe_diag *diag)
    DBE_MUST_CHECK;
/* The open channels as JSON: peer, suite, microseconds of the handshake, bytes that wait. */
dbe_err svc_channels_render(struct svc *svc, struct base_buf *out) DBE_MUST_CHECK;
/* What an operator may have done to all channels, none of it losing a message: "rekey"; "renew" (the credential is
 * loaded again, and shown in a handshake inside each channel); "suite" (`value`: a list, whose first is used from now
 * on). E_NOT_FOUND: no such thing. */
dbe_err svc_channels_do(struct svc *svc, const char *what, const char *value, struct dbe_diag *diag) DBE_MUST_CHECK;

/* ---- policy (policy.c) ------------------------------------------------------------------------ */

/* The policy to begin with. E_CONFIG, E_NOT_FOUND: diag says file, line and what was expected. */
dbe_err svc_policy_open(struct svc *svc, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Load it again and put it in force, whole or not at all. Logs and counts the outcome; `diag` may be NULL. */
dbe_err svc_policy_reload(struct svc *svc, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Record which policy is in force: at the start of a run, and when another is. */
void svc_policy_audit(struct svc *svc);
/* An operator can reach the service now: take over what the file became since svc_policy_open read it. A reload that
 * came meanwhile did not find this one, which would have the policy before until the next. */
void svc_policy_catch_up(struct svc *svc);
/* Version, digest and file as JSON. */
dbe_err svc_policy_render(struct svc *svc, struct base_buf *out) DBE_MUST_CHECK;

/* ---- ROE tokens (roe.c) ------------------------------------------------------------------------ */

struct pol_roe;
/* Verify the token of a message that policy wants one for, into `subject`; nothing for others. `ret` is set where
 * subject->roe_verified is. */
void svc_roe_check(struct svc *svc, const struct dbe_msg *msg, struct pol_subject *subject, struct pol_roe *ret,
                   struct dbe_diag *diag);
/* The message is allowed: spend its token, durably, or turn the verdict. */
void svc_roe_spend(struct svc *svc, const struct pol_roe *roe, struct pol_verdict *verdict);
/* Open the memory of used tokens where the policy asks for tokens here; the log says if that fails. At the start, and
 * when the policy has changed. */
void svc_roe_open(struct svc *svc);
void svc_roe_free(struct svc *svc);

/* ---- messages (build.c) ---------------------------------------------------------------------- */

/* Memory for a message of `tlv_bytes` copied TLVs and `payload_bytes`, besides what we stamp. */
dbe_err svc_scratch(struct svc *svc, size_t tlv_bytes, size_t payload_bytes) DBE_MUST_CHECK;
void    svc_scratch_release(struct svc *svc);
/* DEVICE_ID_SRC/DST, TIMESTAMP, and the four labels unless NULL. */
void    svc_stamp(struct svc *svc, struct dbe_builder *b, uint8_t dst_device, const struct pol_labels *labels);
struct svc_refusal { /* what an ERROR message says */
    dbe_err     code;
    const char *rule, *reason;  /* may be NULL */
    uint32_t    retry_after_ms; /* 0: unknown */
};
/* An ERROR message for what came with `correlation`; `labels` and `request_id` may be NULL. */
dbe_err svc_send_error(struct svc *svc, struct dbe_peer *peer, uint64_t correlation, const uint8_t *request_id,
                       const struct pol_labels *labels, const struct svc_refusal *refusal,
                       const uint32_t *elapsed_us) DBE_MUST_CHECK;
const char *svc_msg_name(uint8_t type);

/* ---- requests (req.c, req_life.c), calls (forward.c) ----------------------------------------- */

extern const struct dbe_node_ops svc_node_ops; /* peers.c */
void svc_on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg);
void svc_on_malformed(void *ctx, struct dbe_peer *peer, dbe_err err, const struct dbe_diag *diag);
/* Count, log, forget: the one place where a request is freed. */
void svc_req_end(struct svc_req *req, dbe_err code, const char *reason);
void svc_count_error(struct svc *svc, dbe_err code);
void svc_reqs_end(struct svc *svc, struct dbe_peer *peer, dbe_err why); /* peer NULL: all */
void svc_reqs_deadline(void *ctx);                                      /* timer: end what is late */
void svc_reqs_arm(struct svc *svc);                                     /* set it for the earliest deadline */
/* From here on the request is being served, and has a deadline. */
void svc_req_link(struct svc *svc, struct svc_req *req);
/* The caller is gone or out of time: tell the device, then forget. */
void svc_req_gone(struct svc_req *req, dbe_err why);
void svc_peers_free(struct svc *svc);
void svc_calls_free(struct svc *svc);
/* Count and log a refusal: one line with code, rule, reason, peer, tenant and request id. */
struct svc_denied {
    const struct dbe_identity *peer; /* who sent it */
    uint8_t                    type;
    const uint8_t             *request_id; /* may be NULL */
    const char                *tenant, *what;
};
void svc_audit_deny(struct svc *svc, const struct svc_denied *d, dbe_err code, const char *rule, const char *reason);
void svc_audit_message(struct svc *svc, const struct dbe_identity *peer, const struct dbe_msg *msg, const char *what,
                       const struct pol_verdict *v);

/* ---- log (log.c), dump (dump.c), notify (notify.c), http (http_admin.c) ---------------------- */

struct svc_field { /* one entry of the log's context object; text NULL: the number */
    const char *key, *text;
    uint64_t    number;
};
struct svc_event { /* who and what a line is about; all may be NULL */
    const char             *type;
    const uint8_t          *request_id;
    const char             *tenant;
    const struct svc_field *fields;
    size_t                  field_count;
};
void svc_log_event(struct svc *svc, enum svc_level level, const struct svc_event *event, const char *fmt, ...)
    DBE_PRINTF(4, 5);
/* ISO 8601 in UTC with milliseconds. */
void svc_timestamp(uint64_t unix_ms, char out[32]);

void svc_dump_state(struct svc *svc);

void svc_notify(struct svc *svc, const char *state); /* sd_notify's datagram */
void svc_notify_ready(struct svc *svc);              /* the ready descriptor, and READY=1 */

dbe_err svc_http_open(struct svc *svc, struct svc_http **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
void    svc_http_free(struct svc_http *http); /* takes NULL */

#endif
