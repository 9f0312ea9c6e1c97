/* SPDX-License-Identifier: Apache-2.0
 *
 * dsmil_layer7_llm.h - device 47, the language model device of layer 7: its memory and what may be loaded into it.
 *
 * In:   a budget, model files (GGUF). Out: a context that says what was loaded and what it takes.
 * Does: keeps weights, workspace and KV caches of all its models within the budget; refuses models that are not INT8.
 * Not:  it generates no text; the worker of device 47 does that with the same engine.
 *
 * Threads: every function may be called from any thread. A context is a copy for its holder to read: the functions go
 * by its model_id and look everything else up, so writing into it changes nothing.
 * Numbers below zero are the project's errors, negated: -80 over a limit, -97 no such file, -100 a wrong argument,
 * -102 a file that is no usable model; docs/registries.md has them all.
 */
#ifndef DSMIL_LAYER7_LLM_H
#define DSMIL_LAYER7_LLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    uint32_t device_id;           /* 47 */
    uint8_t layer;                /* 7 */
    uint64_t memory_budget_bytes; /* of the device, for all its models */
    uint64_t memory_used_bytes;   /* by this model: weights, workspace, KV reservation */
    bool int8_quantized;          /* always true of a loaded model */
    uint32_t model_id;            /* from 1, never used twice; 0: nothing loaded */
    const char *model_name;       /* valid until the model is unloaded */
    uint64_t kv_cache_size_bytes; /* reserved for the model's KV caches, charged from the start */
    uint32_t context_length;      /* tokens that the model allows and the reservation holds */
    float quantization_accuracy;  /* share of greedy answers that quantisation kept, as measured when the file was
                                       made; NaN: nobody measured */
} dsmil_device47_llm_ctx_t;

/* Set the device's budget, in bytes; 0: the default. The pool of layer 7 has 40 GiB, of which device 47 may have 20:
 * more than the pool is refused (-3), more than the device's part is cut to it. May be called again: models that are
 * loaded stay, and dsmil_device47_check_memory_budget tells whether they fit. */
int dsmil_device47_llm_init(uint64_t memory_budget);

/* Load a model and fill `ctx`. Refused, with `ctx` untouched and nothing held: before dsmil_device47_llm_init (-112),
 * a file most of whose weights are not INT8 (-102), a model that does not fit beside what is loaded (-80). Half of what
 * is free, at most 10 GiB, is reserved for KV caches. */
int dsmil_device47_llm_load(const char *model_path, dsmil_device47_llm_ctx_t *ctx);

/* True if the model is INT8 and more than 95 % of its greedy answers were measured to be those of the model it was
 * quantised from. The measurement is made by `dsmil llm quantize` and stands in the file; without it: false. */
bool dsmil_device47_verify_int8_quantization(const dsmil_device47_llm_ctx_t *ctx);

/* Bytes that the model takes: weights as they lie in memory, workspace, KV reservation. 0: not loaded. */
uint64_t dsmil_device47_get_memory_usage(const dsmil_device47_llm_ctx_t *ctx);

/* True if the model is loaded and all models of the device together are within its budget. */
bool dsmil_device47_check_memory_budget(const dsmil_device47_llm_ctx_t *ctx);

/* Unload this model and no other; its memory is free for the next, and `ctx` names nothing any more. -97: not
 * loaded. */
int dsmil_device47_llm_unload(dsmil_device47_llm_ctx_t *ctx);

#ifdef __cplusplus
}
#endif

#endif /* DSMIL_LAYER7_LLM_H */
