/* SPDX-License-Identifier: Apache-2.0
 *
 * worker.h - state of a worker, shared by its two files: worker.c (requests, status, tables) and load.c (the model).
 */
#ifndef L7_WORKER_WORKER_H
#define L7_WORKER_WORKER_H

#include "devices/l7_worker/answer.h"
#include "devices/l7_worker/instance.h"
#include "devices/l7_worker/sealed.h"
#include "runtime/svc.h"

enum {
    DEVICE = WORKER_DEVICE,
    WORKER_REQS_MAX = ENGINE_SESSIONS_MAX + ENGINE_QUEUE_MAX,
    WORKER_QUEUED_HIGH_BYTES = 256 * 1024, /* towards the router: above it sessions keep their text */
    WORKER_POSTPONE_MS = 5,
    WORKER_NOTICE_MS = 20, /* changes within it are told together */
    WORKER_NAME_MAX = 128,
    WORKER_PATH_MAX = 1024,
    WORKER_PROBS_MAX_BYTES = 32 * 1024 * 1024,
    FINGERPRINT_BYTES = 5,
};

struct worker;

struct worker_req;

struct worker_part { /* one of the answers to a request */
    struct worker_req *wr;
    uint32_t index;
    struct engine_job *job; /* NULL: not begun, or over */
    bool ended;
    struct base_buf text, probs, call; /* what has not been sent */
    struct engine_result result;
};

struct worker_req { /* one chat, or texts to embed, between request and last answer */
    struct worker *worker;
    struct svc_req *req; /* NULL: free slot */
    bool stream, embed;
    struct engine_chat chat; /* for the parts that begin when the first one's prompt is computed */
    uint32_t count, begun;
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
    uint64_t requests, refused, cancelled, prompt_tokens, running, queued, tokens_per_s;
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

#endif
