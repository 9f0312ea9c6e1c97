/* SPDX-License-Identifier: Apache-2.0
 *
 * engine.h - many chat answers over one model: a queue, a thread that computes, and what it has to tell.
 *
 * In:   chats with sampling parameters
 * Out:  text as it comes, and one result for each
 * Does: moves all running sessions on together, a forward pass at a time; one whose text nobody fetches pauses
 * Not:  no DBE, no log. Rendering, admission and computing all happen in the engine's own thread.
 *
 * Threads: every function on the owner's thread, the same one always. `wake` is called from the engine's thread.
 */
#ifndef L7_WORKER_ENGINE_H
#define L7_WORKER_ENGINE_H

#include "base/base.h"
#include "llm/llm.h"

enum {
    ENGINE_SESSIONS_MAX = 64,
    ENGINE_QUEUE_MAX = 1024,
    ENGINE_TEXT_PAUSE_BYTES = 32 * 1024,
    ENGINE_ANSWER_MAX_BYTES = 4 * 1024 * 1024,
    ENGINE_PROBS_PAUSE_BYTES = 256 * 1024, /* likewise, of probabilities: a message has no more than so many elements */
    ENGINE_PROBS_MAX_BYTES = 32 * 1024 * 1024, /* struct llm_token_prob of one answer that nobody has fetched */
};

struct engine;
struct engine_job;

struct engine_params {
    struct llm_model *model; /* borrowed: outlives the engine */
    uint32_t sessions_max;   /* computed together */
    uint32_t queue_max;      /* waiting beside them */
    uint32_t pause_bytes;    /* unfetched text of a stream at which its session pauses; 0: ENGINE_TEXT_PAUSE_BYTES */
    void (*wake)(void *ctx); /* there is news: call engine_news soon. Any thread. */
    void *ctx;
};

/* Calls of tools, told apart from the text of an answer and kept to their grammar. */
struct engine_call {
    const char *mark; /* what the answer says before a call, for us and nobody else; NULL: it calls nothing */
    const char *lead; /* text behind the mark that is not left to the model */
    /* With the mark "": the answer begins with a JSON object whose "name" is one of these. The grammar remakes it. */
    const char *const *names;
    size_t name_count;
    bool first; /* the mark counts at the beginning of an answer alone */
    bool at_once;
    const struct llm_grammar *grammar; /* of what follows mark and lead */
};

struct engine_chat {
    const struct llm_message *messages; /* these, the inputs, the stops, biases and grammars belong to `owned` */
    size_t count;
    struct llm_session_params params;
    bool raw;                        /* the text of the one message is continued as it stands, without a template */
    bool echo;                       /* with raw: the answer begins with its prompt */
    const char *const *inputs;       /* texts to be embedded */
    size_t input_count;              /* not 0: there is no chat */
    const struct llm_tokens *tokens; /* not NULL: of each input, or of the prompt of a raw chat, in place of its text */
    struct engine_call call;
    bool shares;                  /* what is computed of its prompt serves others with the same salt, and vice versa */
    uint8_t salt[LLM_SALT_BYTES]; /* goes into the parameters */
    bool stream;                  /* false: the text is told at the end only */
    void *owned;                  /* freed by the engine, in either thread, when the job goes */
    void (*free_owned)(void *owned);
};

struct engine_result {
    dbe_err err;
    char reason[192]; /* of an error, "" without */
    enum llm_finish finish;
    uint32_t prompt_tokens, cached_tokens, answer_tokens;
    uint64_t queued_ns, first_token_ns, total_ns; /* since submission */
    uint64_t passes; /* of the model, for all chats, after this one's first token: each reads the weights once */
};

dbe_err engine_new(const struct engine_params *params, struct engine **ret) DBE_MUST_CHECK;
/* Ends everything and waits for the thread. Jobs are gone with it. Takes NULL. */
void engine_free(struct engine *engine);

/* Queue a chat. On success the engine owns chat->owned; on error it stays the caller's. E_LIMIT: the queue is full. */
dbe_err engine_submit(struct engine *engine, const struct engine_chat *chat, void *user,
                      struct engine_job **ret) DBE_MUST_CHECK;
/* Nobody wants this answer any more; the job is gone for the caller when this returns. */
void engine_cancel(struct engine_job *job);

/* Next job that has text or a result, NULL when there is none now. */
struct engine_job *engine_news(struct engine *engine);
void *engine_job_user(const struct engine_job *job);
/* What a job says beside its text; each may be NULL when it is not wanted. */
struct engine_extras {
    struct base_buf *probs; /* struct llm_token_prob one behind the other, of the tokens of the text */
    struct base_buf *call;  /* calls of tools, from the first one's mark on; cut unless it ended with LLM_FINISH_STOP */
};
/* Move the job's text, or the vectors of its inputs (float32), to the end of `text`, and the rest to `extras` (may be
 * NULL). True: it is complete, `ret` is filled and the job is gone. */
bool engine_take(struct engine_job *job, struct base_buf *text, const struct engine_extras *extras,
                 struct engine_result *ret);
/* Leave the text where it is and hear of this job again at the next engine_postponed. */
void engine_postpone(struct engine_job *job);
/* Bring postponed jobs back into the news. */
void engine_postponed(struct engine *engine);

struct engine_load {
    uint32_t running, queued;
};
struct engine_load engine_load(const struct engine *engine);

#endif
