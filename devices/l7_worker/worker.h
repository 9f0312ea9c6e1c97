/* SPDX-License-Identifier: Apache-2.0
 *
 * worker.h - state of a worker, shared by its files: worker.c (life, tables), load.c (the model), accept.c (requests),
 * deliver.c (answers), report.c (status, metrics).
 */
#ifndef L7_WORKER_WORKER_H
#define L7_WORKER_WORKER_H

#include "devices/l7_worker/answer.h"
#include "devices/l7_worker/aside.h"
#include "devices/l7_worker/instance.h"
#include "devices/l7_worker/sealed.h"
#include "runtime/svc.h"

enum {
    DEVICE = WORKER_DEVICE,
    WORKER_REQS_MAX = ENGINE_SESSIONS_MAX + ENGINE_QUEUE_MAX,
    WORKER_QUEUED_HIGH_BYTES = 256 * 1024, /* towards the router: above it sessions keep their text */
    WORKER_POSTPONE_MS = 5,
    WORKER_FORMING_MAX = 64, /* requests whose schemas wait to be translated */
    WORKER_NOTICE_MS = 20,   /* changes within it are told together */
    WORKER_NAME_MAX = 128,
    WORKER_PATH_MAX = 1024,
    FINGERPRINT_BYTES = 5,
};

struct worker;

struct worker_req;

struct worker_part { /* one of the answers to a request */
    struct worker_req *wr;
    uint32_t index;
    struct engine_job *job; /* NULL: not begun, or over */
    bool ended;
    struct base_buf text, probs; /* what has not been sent */
    struct base_buf call;        /* what was said from the first call on, and how much of it has been sent as calls */
    size_t called;
    size_t behind; /* bytes at the end of `text` that stand behind calls: set when it has ended */
    struct engine_result result;
};

struct worker_req { /* one chat, or texts to embed, between request and last answer */
    struct worker *worker;
    struct svc_req *req; /* NULL: free slot */
    bool stream, embed;
    struct aside_job *forming; /* its schemas are being translated; nothing has begun */
    struct engine_chat chat;   /* for the parts that begin when the first one's prompt is computed */
    uint32_t count, n, begun;  /* answers: in all, to each prompt, begun */
    size_t input_count;
    struct worker_part *parts;
    struct worker_private private;
};

struct worker {
    /* parameters */
    char model_path[WORKER_PATH_MAX], draft_path[WORKER_PATH_MAX], model_name[WORKER_NAME_MAX + 1], profile[65],
        kv_type[9];
    uint64_t threads, memory_budget_mib, kv_budget_mib, max_sessions, queue_max, ctx_max, lookup;
    double temperature, top_p;
    /* the model */
    struct svc *svc;
    struct llm_model *model, *draft; /* draft: guesses for model; NULL mostly */
    struct engine *engine;
    struct aside *aside; /* translates schemas */
    uint64_t created_unix;
    char fingerprint[4 + 2 * FINGERPRINT_BYTES]; /* of the model's file and how it is computed */
    struct svc_watchers watchers;                /* of our status */
    struct base_timer *notice;
    bool draining;
    struct worker_keys keys;                 /* that prompts are sealed to */
    uint8_t model_digest[CRYPTO_HASH_BYTES]; /* of the model's file */
    /* work */
    struct worker_req reqs[WORKER_REQS_MAX];
    struct base_timer *postpone;
    struct base_buf packed; /* of the message being sent; kept to save allocations */
    /* counters and gauges, exported under the names below */
    uint64_t chats, embeddings, refused, cancelled, unopened, prompt_tokens, running, queued, forming, tokens_per_s;
    uint64_t memory_limit, kv_used, kv_limit, read_bytes_per_s, read_percent, batch_rows;
    struct llm_model_stats stats;
    uint64_t ticked_ns;
};

/* Load the model that the parameters name, and say in the log what it is. E_CONFIG, E_LIMIT, E_MODEL and those of
 * llm_model_load; diag says what to do. */
dbe_err worker_load_model(struct worker *w, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Load the model that guesses tokens ahead for ours, if one is named. One that cannot is no error: then nobody guesses,
 * and the log says why. */
dbe_err worker_load_draft(struct worker *w, struct dbe_diag *diag) DBE_MUST_CHECK;

/* ---- accept.c ---------------------------------------------------------------------------------------------------- */

/* L7_CHAT_REQ and L7_EMBED_REQ: queued, or refused with a reason. */
dbe_err worker_on_request(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg) DBE_MUST_CHECK;

/* Schemas have been translated: their chats begin. */
void worker_formed(struct worker *w);

/* ---- deliver.c --------------------------------------------------------------------------------------------------- */

/* Hand the next part of a request to the engine. On error those that ran before it still do. */
dbe_err worker_begin_part(struct worker *w, struct worker_req *wr) DBE_MUST_CHECK;
void worker_refuse(struct worker *w, struct svc_req *req, dbe_err err, const char *reason); /* reason: or NULL */
/* The slot is free again; jobs that still run are ended. */
void worker_req_free(struct worker_req *wr);
void worker_give_up(struct worker_req *wr, dbe_err err, const char *reason); /* both */
void worker_wake(struct svc *svc, void *state);                              /* the engine has news */
void worker_on_postponed(void *ctx); /* the time to look again at what could not be sent */

/* ---- report.c ---------------------------------------------------------------------------------------------------- */

void worker_count_outcome(struct worker *w, const char *status, uint64_t total_ns);
void worker_tell_end(struct worker *w, const struct svc_req *req, const struct engine_result *r);
/* The load is another: those who watch hear of it soon. */
void worker_load_changed(struct worker *w);
void worker_on_notice(void *ctx); /* it is soon */
/* To all who watch; `last`: nothing follows. */
void worker_tell_status(struct worker *w, bool with_card, bool last);
dbe_err worker_on_model_status(struct svc *svc, void *state, struct svc_req *req,
                               const struct dbe_msg *msg) DBE_MUST_CHECK;
void worker_tick(struct svc *svc, void *state);

#endif
