/* SPDX-License-Identifier: Apache-2.0
 *
 * map_dbe.h - a checked request to L7_CHAT_REQ or L7_EMBED_REQ, and what comes back to a shim_answer or a problem.
 *
 * The shim is a dumb adapter: labels and tenant are its configuration's, never the client's, and it decides nothing.
 * Threads: the loop's.
 */
#ifndef SHIM_MAP_DBE_H
#define SHIM_MAP_DBE_H

#include "runtime/svc.h"
#include "shim/openai.h"
#include "shim/roe.h"
#include "shim/sealed.h"

enum {
    SHIM_DEVICE = 0,
    SHIM_ROE_LEVEL = DBE_ROE_SOC_ASSIST, /* 001 section 3.3: what the shim says on behalf of local tools */
};
enum { SHIM_CLAIM_LIFETIME_MS = 15 * 60 * 1000, SHIM_MODELS_FRESH_MS = 3000, SHIM_CLAIMS_MAX = 64 };

/* For whom a request is made: what its claim says. */
struct shim_tenant {
    char name[DBE_TENANT_MAX_BYTES + 1];
    uint8_t classification; /* ceiling */
    uint32_t compartments;  /* ceiling */
};

/* One claim a channel and tenant, used until three quarters of its life are over. */
struct shim_claim {
    struct shim_tenant tenant;
    uint8_t bytes[DBE_CLAIM_MAX_BYTES];
    size_t len;
    uint64_t renew_ms, not_before_ms, used;
};

/* What the shim knows of the mesh. Zeroed, then shim_mesh_init. */
struct shim_mesh {
    struct svc *svc;
    struct svc_link *router;
    uint64_t timeout_ms;                       /* of one chat */
    struct shim_claim claims[SHIM_CLAIMS_MAX]; /* of the tenants that asked lately */
    uint64_t clock;                            /* of their use */
    /* models: as told last, and the last list that was not empty (a name is not unknown because its worker stopped) */
    struct shim_models serving, known;
    uint64_t told_ns, asked_ns, models_call;
    bool asking, settled;       /* settled: the router said once that it is ready */
    const char *sealed_tenants; /* sealed whether they ask or not, beside the policy's: names with commas, or * */
    struct shim_cards cards;
    uint64_t unopened; /* sealed answers that did not open */
};

void shim_mesh_init(struct shim_mesh *mesh, struct svc *svc, uint64_t timeout_ms);
void shim_mesh_link_changed(struct shim_mesh *mesh); /* up or down */
/* Follow what the router says that it serves, unless that is done already: one question, answered as a stream. */
void shim_mesh_follow_models(struct shim_mesh *mesh);
void shim_mesh_forget_models(struct shim_mesh *mesh); /* ask no more: a drain does not wait for the answer */
/* Models served now. E_UNAVAILABLE (`p` filled) when the router did not tell lately. */
dbe_err shim_mesh_models(const struct shim_mesh *mesh, const struct shim_models **ret,
                         struct shim_problem *p) DBE_MUST_CHECK;
bool shim_mesh_is_ready(const struct shim_mesh *mesh);

/* One chat in flight; lives in the caller's memory until an end was told or it was cancelled. */
struct shim_chat;
struct shim_chat_ops {
    /* Part of a streamed answer: what came of some of its choices. */
    void (*delta)(struct shim_chat *chat, const struct shim_answer *part);
    /* The rest of the answer, or all of it. Pointers end with the callback. Ends the chat. */
    void (*done)(struct shim_chat *chat, const struct shim_answer *answer, const struct shim_trace *trace);
    /* The vectors that were asked for. Ends the chat. */
    void (*vectors)(struct shim_chat *chat, const struct shim_vectors *vectors, const struct shim_trace *trace);
    void (*failed)(struct shim_chat *chat, const struct shim_problem *p); /* ends the chat */
};
struct shim_chat {
    struct shim_mesh *mesh;
    const struct shim_chat_ops *ops;
    struct shim_tenant tenant;
    uint8_t id[16];
    char id_text[37];
    uint64_t begin_ns, created_unix, call_id;
    bool open, embed, receipt;
    bool stream, began; /* told in pieces; the first has come */
    char profile[sizeof((struct shim_model *)0)->profile];
    struct e2e_talk *talk;      /* of a sealed one, until its end */
    const struct shim_roe *roe; /* the caller's, while it is sent; may be NULL */
    struct base_buf request;    /* its payload, where a receipt is wanted, until its end */
};

/* Send. `chat->id` and `chat->tenant` are set. On error nothing is told later and `p` says what to answer. */
dbe_err shim_chat_start(struct shim_mesh *mesh, struct shim_chat *chat, const struct shim_chat_ops *ops,
                        const struct shim_req *req, struct shim_problem *p) DBE_MUST_CHECK;
/* What would be sent, as JSON, in place of sending it. */
dbe_err shim_chat_payload(const struct shim_tenant *tenant, const struct shim_req *req,
                          struct base_buf *out) DBE_MUST_CHECK;
void shim_chat_cancel(struct shim_chat *chat); /* nothing is told afterwards; an ended one is ignored */

/* ---- map_answers.c ----------------------------------------------------------------------------------------------- */

/* A dbe_reply_fn of a chat. */
void shim_chat_on_reply(void *chat, const struct dbe_msg *msg, bool last, dbe_err err);
void shim_chat_let_go(struct shim_chat *chat); /* of what it keeps until its end */

#endif
