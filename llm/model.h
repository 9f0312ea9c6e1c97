/* SPDX-License-Identifier: Apache-2.0
 *
 * model.h - a loaded model inside the engine: shape, weights, vocabulary, working memory.
 */
#ifndef LLM_MODEL_H
#define LLM_MODEL_H

#include <pthread.h>
#include <stdatomic.h>

#include "arch.h"
#include "kern_attn.h"
#include "kv.h"
#include "llm.h"
#include "matrix.h"
#include "vocab.h"

/* Bounds on the shape that a file may ask for. */
enum {
    LLM_LAYERS_MAX = 512,
    LLM_EMBD_MAX = 1 << 16,
    LLM_FF_MAX = 1 << 18,
    LLM_HEADS_MAX = 1024,
    LLM_HEAD_DIM_MAX = 1024,
    LLM_VOCAB_MAX = 1 << 20,
    LLM_CTX_MAX = 1 << 20,
    LLM_BATCH_MAX = 512 /* rows of one forward pass */
};

struct llm_shape {
    uint32_t n_ctx, n_vocab, n_embd, n_layers, n_heads, n_kv_heads, head_dim, n_ff;
    float rms_eps;
    float attn_scale;    /* of query times key */
    float attn_softcap;  /* scores become cap * tanh(score / cap); 0: they do not */
    float final_softcap; /* the same of logits */
    float embd_scale;    /* of the tokens' embeddings */
};

/* Which positions' states make a text's embedding. Numbers as in files, where 0 says none: the mean then, too. */
enum llm_pooling { LLM_POOL_MEAN = 1, LLM_POOL_FIRST = 2, LLM_POOL_LAST = 3 };

/* What a family does not have is NULL. */
struct llm_layer {
    float *attn_norm, *ffn_norm;           /* [n_embd] */
    float *attn_post_norm, *ffn_post_norm; /* [n_embd] */
    float *q_norm, *k_norm;                /* [head_dim], of each head */
    float *qkv_bias;                       /* [(n_heads + 2 * n_kv_heads) * head_dim] */
    float *o_bias, *down_bias;             /* [n_embd] */
    float *gate_bias, *up_bias;            /* [n_ff] */
    struct llm_matrix q, k, v, o;          /* [n_heads * head_dim][n_embd], kv: [n_kv_heads * head_dim][n_embd] */
    struct llm_matrix gate, up, down;      /* [n_ff][n_embd], down: [n_embd][n_ff] */
    uint32_t window;                       /* a query sees this many positions, its own among them; 0: all before it */
};

/* Working memory of one forward pass; every array is [LLM_BATCH_MAX][...]. */
struct llm_work {
    float *x, *h;         /* [n_embd] residual stream; normalised input or a block's output */
    float *q, *k, *v, *a; /* heads; a: attention's output, [n_heads * head_dim] */
    float *gate, *up;     /* [n_ff] */
    float *rope;          /* [2][rope.dims / 2] cosines and sines of the row's position */
    float *attn;          /* [threads][llm_attend_floats] */
    struct llm_q8 *q8;    /* [widest / 32] */
    uint16_t *bf16;       /* in tiles; NULL where the kernels want none */
    size_t decode;        /* leading decode rows of this pass */
    uint64_t bytes;       /* of all of these */
};

struct llm_model {
    struct llm_model_info info;
    const struct llm_arch *arch;
    enum llm_pooling pooling;
    struct llm_shape shape;
    const struct llm_kernels *kernels;
    const struct llm_attn_kernels *attn;
    struct llm_pool *pool;
    pthread_mutex_t step; /* one forward pass at a time */
    struct llm_vocab vocab;
    struct llm_arena arena;           /* of matrices */
    struct llm_matrix embd, output;   /* output.data is NULL: tied, embd is used */
    float *output_norm, *output_bias; /* [n_embd], [n_vocab] */
    struct llm_rope rope;
    struct llm_layer *layers;
    struct llm_work work;
    struct llm_batch *batch; /* of sessions, see batch.h */
    struct llm_kv_pool kv_pool;
    struct {
        _Atomic uint64_t passes, decode_passes, decode_rows, prefill_rows;
    } counts; /* stats.c */
};

/* One row of a forward pass. Rows of one sequence are in order of position, each following what its cache holds. */
struct llm_row {
    struct llm_kv *kv;
    uint32_t pos;
    int32_t token;
    float *logits; /* [n_vocab], or NULL: not wanted */
    bool prefill;  /* of a prompt: may be computed by other kernels than a decode row, but never by either at random */
};
/* At most LLM_BATCH_MAX rows, decode rows before prefill rows; the caller holds model->step. `cancel` (may be NULL)
 * is looked at between layers: E_CANCELLED. Pure but for the caches and the model's working memory. */
dbe_err llm_forward(struct llm_model *model, const struct llm_row *rows, size_t count,
                    const atomic_bool *cancel) DBE_MUST_CHECK;
/* The same, giving each row's last state, normalised, instead of logits: out[count][n_embd]. */
dbe_err llm_forward_states(struct llm_model *model, const struct llm_row *rows, size_t count,
                           float *out) DBE_MUST_CHECK;
/* More logits of the pass before: of its rows [first, first + count), whether they wanted some or not; the step has
 * been held since. out[count][n_vocab]. */
void llm_forward_logits(struct llm_model *model, size_t first, size_t count, float *out);
/* Store the rows' keys and values of a layer, and attend: work.q, k (both rotated), v -> caches, work.a. */
void llm_attend(struct llm_model *model, const struct llm_row *rows, size_t count, uint32_t layer);
size_t llm_attend_floats(const struct llm_shape *shape); /* of scratch memory, a thread */
dbe_err llm_work_init(struct llm_model *model) DBE_MUST_CHECK;
void llm_work_free(struct llm_work *work);
/* stats.c: a pass over these rows is done. */
void llm_count_pass(struct llm_model *model, const struct llm_row *rows, size_t count);
/* budget.c: do the file's weights, the working memory (which must stand) and the KV budget fit into the memory that the
 * caller grants? Asked before a weight is read. E_LIMIT says the numbers. */
dbe_err llm_budget_check(const struct llm_model *model, const struct gguf *g, const struct llm_model_params *params,
                         struct dbe_diag *diag) DBE_MUST_CHECK;
/* Working memory of passes, and what sessions share to sample: at most, however many they are. */
uint64_t llm_workspace_bytes(const struct llm_model *model);
uint64_t llm_kv_budget(const struct llm_model_params *params); /* with the default where none is given */
/* The share of answers that quantisation kept, as the file says; NaN where it says nothing that can be true. */
float llm_retention_of(const struct gguf *g);

#endif
