/* SPDX-License-Identifier: Apache-2.0
 *
 * llm.h - the engine: load a GGUF model, render a chat, generate text step by step.
 *
 * In:   a model file, chat messages or token ids, sampling parameters.
 * Out:  pieces of UTF-8 text, token counts, a finish reason.
 * Not:  no network, no DBE, no HTTP, no clock, no log. What was wrong is told through dbe_diag.
 *
 * Use: llm_model_load -> llm_chat_render -> llm_session_new (admission: nothing is computed before it said yes)
 *      -> llm_session_step until piece.done -> llm_session_free -> llm_model_free.
 * One step is one chunk of the prompt or one new token; llm_batch_step takes one of many sessions in one forward pass.
 *
 * Threads: a model may be used from several threads: steps of its sessions take turns inside (each step itself runs
 * on the model's thread pool). One session belongs to one thread at a time; llm_session_cancel alone may be called
 * from anywhere. A model must outlive its sessions.
 * Results do not depend on the number of threads nor on what other sessions do.
 */
#ifndef LLM_LLM_H
#define LLM_LLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dbe/err.h"

/* Named maxima of the public interface. */
enum {
    LLM_THREADS_MAX = 64,
    LLM_SESSIONS_MAX = 128,   /* of one batch step               */
    LLM_STOPS_MAX = 16,       /* stop strings a session          */
    LLM_STOP_BYTES_MAX = 256, /* bytes of one stop string        */
    LLM_MESSAGES_MAX = 1024,  /* messages of one chat            */
    LLM_BIASES_MAX = 1024,    /* logit biases a session          */
    LLM_LOGPROBS_MAX = 21,    /* the chosen token and 20 others  */
    LLM_DRAFTS_MAX = 16,      /* guessed tokens a session, step  */
    LLM_SALT_BYTES = 32,
    LLM_TEXT_BYTES_MAX = 2 << 20 /* bytes of text tokenised at once */
};

struct llm_model;
struct llm_session;

/* ---- model ------------------------------------------------------------------------------------------------------- */

struct llm_model_params {
    unsigned threads;       /* 0: one a CPU that this process may run on                                     */
    size_t kv_budget_bytes; /* KV caches of all sessions together; 0: 1 GiB                                  */
    uint32_t n_ctx_max;     /* cap on the context of a session; 0: what the model was trained for            */
    /* Weights, working memory and the KV budget together must fit, or nothing is loaded (E_LIMIT); 0: no limit. */
    uint64_t memory_budget_bytes;
    const char *kv_type; /* of the KV cache's values: "f16", "int8"; NULL: f16                                 */
    /* Part of the KV budget that cached beginnings of prompts may keep while no session uses them (sessions that need
     * it get it); 0: 50, below 0: none are cached. */
    int prefix_percent;
    const char *kernel; /* "portable", "avx2", "avx-vnni", "avx512-vnni", "amx"; NULL: the best of this CPU */
};

/* What a loaded model is. Strings are UTF-8, owned by the model. */
struct llm_model_info {
    char name[96];          /* general.name as one line, or "" */
    char arch[16];          /* "llama" */
    char quantisation[16];  /* type of most of the weights: "F32", "F16", "Q8_0" */
    char chat_template[16]; /* "chatml", "llama3", "gemma", ... (chat.c), "plain" */
    char tokenizer[16];     /* "llama", "gpt2" */
    char kernel[16];        /* the chosen kernel table */
    unsigned threads;
    uint32_t n_ctx; /* longest context of a session, tokens */
    uint32_t n_vocab, n_embd, n_layers, n_heads, n_kv_heads, head_dim, n_ff;
    uint64_t n_params;
    uint64_t weights_bytes; /* resident, repacked */
    uint64_t pass_bytes;    /* of these, what one forward pass reads: not a table of embeddings of its own */
    uint64_t kv_bytes_per_token;
    uint64_t kv_budget_bytes;
    uint64_t workspace_bytes; /* working memory of forward passes */
    float retention_top1;     /* share of greedy answers that quantisation kept, measured when the file was made and
                                 written in it; NaN: nobody measured */
};

/* Read and check a GGUF file (v2 or v3) and repack its weights into memory of our own: a file that changes
 * afterwards cannot harm. `params` may be NULL for defaults. The file is hostile input; the diag names the field.
 * DBE_E_NOT_FOUND, E_IO, E_MODEL (malformed or not supported), E_TOO_LARGE, E_NOMEM, E_ARGUMENT (unknown kernel),
 * E_LIMIT (over the memory budget). */
dbe_err llm_model_load(const char *path, const struct llm_model_params *params, struct llm_model **ret,
                       struct dbe_diag *diag) DBE_MUST_CHECK;
/* The same from a file that is open for reading and stays the caller's; it is read at offsets. */
dbe_err llm_model_load_fd(int fd, const struct llm_model_params *params, struct llm_model **ret,
                          struct dbe_diag *diag) DBE_MUST_CHECK;
/* The same from bytes in memory; they are not needed afterwards. */
dbe_err llm_model_load_mem(const void *data, size_t len, const struct llm_model_params *params, struct llm_model **ret,
                           struct dbe_diag *diag) DBE_MUST_CHECK;
/* Takes NULL. All sessions must be gone. */
void llm_model_free(struct llm_model *model);
const struct llm_model_info *llm_model_info(const struct llm_model *model);
/* KV bytes that sessions hold at present. */
uint64_t llm_model_kv_used_bytes(const struct llm_model *model);

/* What the model has computed since it was loaded. Any thread. */
struct llm_model_stats {
    uint64_t passes, decode_passes;     /* forward passes; of them, those with a row of an answer */
    uint64_t decode_rows, prefill_rows; /* tokens of answers and of prompts, in all passes */
    uint64_t prefix_lookups, prefix_hits, prefix_reused_tokens, prefix_cached_bytes;
};
void llm_model_stats(struct llm_model *model, struct llm_model_stats *ret);

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

/* A growing list of token ids; start with zeroes, release with llm_tokens_free. */
struct llm_tokens {
    int32_t *ids;
    size_t count, cap;
};
void llm_tokens_free(struct llm_tokens *tokens);

enum {
    LLM_TOKENIZE_BOS = 1,    /* begin-of-sequence (and end, if the model says so) as the model's flags say */
    LLM_TOKENIZE_SPECIAL = 2 /* read control tokens such as "<|im_end|>" in the text: NEVER for text of users */
};

/* Append the tokens of `text` (`len` bytes, UTF-8; bad bytes are tokenised as bytes). E_TOO_LARGE, E_NOMEM. */
dbe_err llm_tokenize(const struct llm_model *model, const char *text, size_t len, unsigned flags,
                     struct llm_tokens *out) DBE_MUST_CHECK;
/* Bytes of one token as generation would print it ("" for control tokens); not NUL-terminated, owned by the model. */
const char *llm_token_bytes(const struct llm_model *model, int32_t id, size_t *ret_len);
/* The token's name in the vocabulary, for people; NULL for an id that does not exist. */
const char *llm_token_name(const struct llm_model *model, int32_t id, size_t *ret_len);

struct llm_message {
    const char *role; /* "system", "user" or "assistant"; see llm_chat_tools for others */
    const char *text; /* UTF-8 */
    size_t text_len;  /* bytes */
};

/* Append the prompt of a chat in the model's template, ready for the assistant's answer. Control tokens are inserted
 * by id; the text of messages is tokenised without reading control tokens in it.
 * E_ARGUMENT (unknown role, no message), E_LIMIT (too many messages), E_TOO_LARGE, E_NOMEM. */
dbe_err llm_chat_render(const struct llm_model *model, const struct llm_message *messages, size_t count,
                        struct llm_tokens *out, struct dbe_diag *diag) DBE_MUST_CHECK;

/* How a model was trained to read of functions and to call them, as its template tells. */
enum llm_tools {
    LLM_TOOLS_TEXT,    /* nothing is known: in the words of messages                                              */
    LLM_TOOLS_LLAMA3,  /* a message "tools" (empty, the first of all) announces them; one "tool" is a result          */
    LLM_TOOLS_MISTRAL, /* "tools": their list, the first message of all; "calls": what the assistant called; "tool": a
                        * result. Their texts are JSON. Answers begin calls with "[TOOL_CALLS]".                      */
    LLM_TOOLS_MISTRAL_SPACED /* the same with a space behind the mark                                              */
};
enum llm_tools llm_chat_tools(const struct llm_model *model);
/* The system message that the template writes where a chat has none; NULL: none. Not NUL-terminated, the model's. */
const char *llm_chat_system(const struct llm_model *model, size_t *ret_len);

/* May `draft` guess for `model` (llm_session_params.draft)? E_ARGUMENT: it has another vocabulary; the diag says so. */
dbe_err llm_draft_fits(const struct llm_model *model, const struct llm_model *draft,
                       struct dbe_diag *diag) DBE_MUST_CHECK;

/* ---- session ----------------------------------------------------------------------------------------------------- */

/* Added to a token's logit; -100 forbids it. */
struct llm_logit_bias {
    int32_t id;
    float bias; /* in [-100, 100] */
};

struct llm_grammar; /* see grammar.h */

/* Is the prompt told, too, before the answer to it? */
enum llm_echo {
    LLM_ECHO_NONE,
    LLM_ECHO_TOKENS, /* what its tokens stand for */
    LLM_ECHO_TEXT    /* the same without the space that llm_tokenize put before a text: the prompt is such a text */
};

struct llm_session_params {
    uint32_t max_tokens;      /* new tokens at most; 0: as many as the context leaves                      */
    float temperature;        /* 0: greedy; in [0, 2]                                                      */
    uint32_t top_k;           /* 0: off                                                                    */
    float top_p;              /* 0 or 1: off; in [0, 1]                                                    */
    uint64_t seed;            /* same model, prompt, parameters and seed: same text                        */
    const char *const *stops; /* stop strings; text ends before the first of them                          */
    size_t stop_count;
    uint32_t prefill_chunk; /* prompt tokens a step; 0: the scheduler's choice                          */
    bool ignore_eos;        /* benches: generate on past the end token                                   */

    float min_p;              /* 0: off; keeps tokens at least this share as likely as the likeliest; in [0, 1] */
    float repetition_penalty; /* 0 or 1: off; in (0, 2]: divides positive logits of seen tokens, multiplies others */
    float presence_penalty;   /* in [-2, 2]: subtracted once from tokens of the answer so far                 */
    float frequency_penalty;  /* in [-2, 2]: subtracted for each time a token stands in the answer            */
    const struct llm_logit_bias *biases;
    size_t bias_count;                 /* at most LLM_BIASES_MAX                                              */
    uint32_t logprobs;                 /* 0: none; n: the n - 1 likeliest beside the chosen, at most LLM_LOGPROBS_MAX */
    const struct llm_grammar *grammar; /* constrains the answer; NULL: none. Must outlive the session         */
    uint32_t lookup_tokens;            /* speculation by prompt look-up: drafts a step; 0: off                */
    struct llm_model *draft;           /* speculation by a smaller model with the same vocabulary; NULL: off. Outlives
                                        * the session, which takes KV memory of its budget                          */
    uint32_t draft_tokens;             /* its drafts a step; 0: its choice; at most LLM_DRAFTS_MAX                   */
    const uint8_t *salt;               /* LLM_SALT_BYTES: who may share cached prefixes; NULL: nobody         */
    enum llm_echo echo;                /* with logprobs each token of the prompt comes with its own; then all of it is
                                        * computed, whatever is cached. Stop strings do not look at it               */
    bool prompt_only;                  /* there is no answer: max_tokens must be 0, the finish is LLM_FINISH_LENGTH  */
};

enum llm_finish {
    LLM_FINISH_NONE = 0, /* not finished */
    LLM_FINISH_STOP,     /* end token or stop string */
    LLM_FINISH_LENGTH    /* max_tokens or the context is used up */
};

struct llm_logprob {
    int32_t id;
    float logprob;
};

/* A token of the answer, or of a prompt that is told. Probabilities are of the model's own logits, before biases,
 * penalties and all else. */
struct llm_token_prob {
    int32_t id;
    float logprob; /* 0 unless asked for; -INFINITY: its logit is not finite; NAN: nothing is before it to say one */
    uint32_t lead; /* bytes at its beginning that are not told (LLM_ECHO_TEXT) */
    uint32_t top_count;
    struct llm_logprob top[LLM_LOGPROBS_MAX - 1]; /* the likeliest beside the chosen one, best first */
};

/* What one step gave. */
struct llm_piece {
    const char *text;       /* whole UTF-8 characters, may be empty; valid until the next call on this session */
    size_t text_len;        /* bytes */
    bool done;              /* nothing follows */
    enum llm_finish finish; /* set when done */
    const struct llm_token_prob *probs; /* of the tokens that this step added; valid as long as the text */
    size_t prob_count;                  /* with echo and logprobs those of the prompt come first */
};

/* Bytes that a session of `n_tokens` (prompt and answer together) would take from the budget. */
uint64_t llm_session_kv_bytes(const struct llm_model *model, size_t n_tokens);

/* Admit a prompt. Reserves all memory of the session now; nothing is computed yet. `prompt` and the stops are copied.
 * E_CONTEXT: prompt + max_tokens exceed the context. E_LIMIT: the KV budget is used up (try again later).
 * E_TOO_LARGE: a prompt to be told stands for more than LLM_TEXT_BYTES_MAX.
 * E_ARGUMENT: a parameter out of range or a token id that does not exist. E_NOMEM. */
dbe_err llm_session_new(struct llm_model *model, const int32_t *prompt, size_t prompt_count,
                        const struct llm_session_params *params, struct llm_session **ret,
                        struct dbe_diag *diag) DBE_MUST_CHECK;
/* Takes NULL. The KV cache is wiped before its memory is given back. */
void llm_session_free(struct llm_session *session);

/* Move `count` <= LLM_SESSIONS_MAX different sessions of `model` on in one forward pass: each that is past its prompt
 * by a token (or several, when guesses were right), the others by rows of their prompts as far as there is room, shared
 * out fairly: among the salts first, then among the sessions of one. For session i either pieces[i] is filled and
 * errs[i] is DBE_OK, or errs[i] says why not: E_CANCELLED after llm_session_cancel; E_STATE when it was done before;
 * E_NOMEM. One session's error does not touch the others. A session's text is the same whatever else is in the batch.
 * E_ARGUMENT: too many sessions, or one of another model. */
dbe_err llm_batch_step(struct llm_model *model, struct llm_session *const *sessions, size_t count,
                       struct llm_piece *pieces, dbe_err *errs) DBE_MUST_CHECK;
/* The same for one session alone. */
dbe_err llm_session_step(struct llm_session *session, struct llm_piece *out) DBE_MUST_CHECK;
/* Ends the session at its next step; a step that runs now ends between two layers if no other session is in it. Any
 * thread. */
void llm_session_cancel(struct llm_session *session);

uint32_t llm_session_prompt_tokens(const struct llm_session *session);    /* of the prompt                     */
uint32_t llm_session_prefilled_tokens(const struct llm_session *session); /* of the prompt, computed so far    */
uint32_t llm_session_cached_tokens(const struct llm_session *session);    /* of these, by others with its salt */
uint32_t llm_session_answer_tokens(const struct llm_session *session);    /* new ones so far                   */

/* ---- tools ------------------------------------------------------------------------------------------------------- */

/* Logits after each of `count` tokens from an empty context: out[count][n_vocab], float32. E_CONTEXT, E_LIMIT,
 * E_ARGUMENT, E_NOMEM. */
dbe_err llm_logits(struct llm_model *model, const int32_t *tokens, size_t count, float *out,
                   struct dbe_diag *diag) DBE_MUST_CHECK;

struct llm_quantize_params {
    const char *text; /* measured on; NULL: a text that is built in */
    size_t text_len;
    double min_top1; /* refuse below this share of greedy choices kept; 0: never refuse */
    unsigned threads;
};
#define LLM_RETENTION_MIN 0.95

/* What the quantised model kept of the original. */
struct llm_retention {
    size_t tokens;       /* compared; 0: the input was quantised already, so nothing was measured */
    double top1;         /* share of positions at which both choose the same token */
    double kl;           /* mean divergence of the original from the quantised, nats */
    double ppl_original; /* the original's perplexity on the text */
    double ppl_ratio;    /* the quantised model's perplexity divided by it */
};

/* Write the F32, F16 or BF16 GGUF file `in` as Q8_0 to `out` (atomically; never onto `in`): matrices whose rows are a
 * multiple of 32 become Q8_0, vectors F32, other matrices stay as they are. Before the file gets its name both models
 * run over a text; what was kept is written into the file's metadata (dsmil.retention.top1, .kl, .ppl_ratio) and to
 * `ret_kept` (may be NULL; filled on refusal, too). `params` NULL: defaults, with LLM_RETENTION_MIN.
 * DBE_E_RANGE: too little was kept, there is no output. DBE_E_ARGUMENT when out is in, else as llm_model_load. */
dbe_err llm_quantize_file(const char *in, const char *out, const struct llm_quantize_params *params,
                          struct llm_retention *ret_kept, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Bytes a second that `threads` threads (0: one a CPU) can read of this machine's memory: the best of several passes
 * within about `max_ms`, over a block of up to 1 GiB that is given back. 0: it could not be measured. */
double llm_read_bandwidth(unsigned threads, unsigned max_ms);
/* The same again and again over one block: what the memory gives changes within seconds where neighbours share it. */
struct llm_reader;
dbe_err llm_reader_new(unsigned threads, struct llm_reader **ret) DBE_MUST_CHECK; /* E_NOMEM */
double llm_reader_run(struct llm_reader *reader, unsigned max_ms);                /* two passes at least */
void llm_reader_free(struct llm_reader *reader);

/* The embedding of a text: the last states of its tokens, pooled as the model's file says (pooling_type: mean, first
 * or last token; mean where it says nothing), scaled to length 1: out[n_embd]. Errors as llm_logits. */
dbe_err llm_embed(struct llm_model *model, const int32_t *tokens, size_t count, float *out,
                  struct dbe_diag *diag) DBE_MUST_CHECK;

/* `dsmil llm VERB ...`: argv[0] is the verb (run, info, logits, embed, tokenize, perplexity, bench,
 * quantize). Prints to
 * stdout and stderr; returns the exit status. */
int llm_tool_main(int argc, char **argv);

#endif
