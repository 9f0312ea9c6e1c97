/* SPDX-License-Identifier: Apache-2.0
 *
 * device47.c - the memory of device 47: which models are in it, what each is charged, what is refused.
 *
 * In:   a budget, paths of model files. Out: contexts; see dsmil/dsmil_layer7_llm.h.
 * Does: one table of models under one lock. A second lock lets one load run at a time, so that what it found free is
 *       still free when it ends, while questions are answered meanwhile.
 * Not:  no inference. Nothing of a caller's context is believed but its model_id.
 */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "dsmil/dsmil_layer7_llm.h"
#include "llm/llm.h"

enum { DEVICE = 47, LAYER = 7, MODELS_MAX = 16, NAME_BYTES = 96 };
#define GIB (UINT64_C(1) << 30)
#define POOL_BYTES (40 * GIB)   /* layer 7 */
#define DEVICE_BYTES (20 * GIB) /* of it, device 47 */
#define KV_BYTES_MAX (10 * GIB) /* of that, KV caches */
#define ACCURACY_MIN 0.95f      /* to be exceeded */

struct slot {
    uint32_t id; /* 0: free */
    struct llm_model *model;
    uint64_t charged;
    char name[NAME_BYTES];
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER, load_lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot slots[MODELS_MAX];
static uint64_t budget; /* 0: not initialised */
static uint32_t last_id;

/* ---- the table, under its lock ----------------------------------------------------------------------------------- */

static struct slot *slot_of(uint32_t id)
{
    for (size_t i = 0; i < MODELS_MAX; i++)
        if (slots[i].id == id)
            return &slots[i];
    return NULL;
}

static const struct slot *slot_of_ctx(const dsmil_device47_llm_ctx_t *ctx)
{
    return ctx && ctx->model_id != 0 ? slot_of(ctx->model_id) : NULL;
}

static uint64_t charged_bytes(void)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < MODELS_MAX; i++)
        sum += slots[i].charged;
    return sum;
}

/* ---- loading ----------------------------------------------------------------------------------------------------- */

static uint64_t charge_of(const struct llm_model_info *i)
{
    return i->weights_bytes + i->workspace_bytes + i->kv_budget_bytes;
}

static void name_slot(struct slot *s, const char *path)
{
    const char *given = llm_model_info(s->model)->name, *slash = strrchr(path, '/');

    snprintf(s->name, sizeof s->name, "%s", given[0] ? given : slash ? slash + 1 : path);
}

static void fill_ctx(const struct slot *s, dsmil_device47_llm_ctx_t *ctx)
{
    const struct llm_model_info *i = llm_model_info(s->model);
    const uint64_t held = i->kv_bytes_per_token ? i->kv_budget_bytes / i->kv_bytes_per_token : 0;

    *ctx = (dsmil_device47_llm_ctx_t){.device_id = DEVICE,
                                      .layer = LAYER,
                                      .memory_budget_bytes = budget,
                                      .memory_used_bytes = s->charged,
                                      .int8_quantized = true,
                                      .model_id = s->id,
                                      .model_name = s->name,
                                      .kv_cache_size_bytes = i->kv_budget_bytes,
                                      .context_length = (uint32_t)BASE_MIN(held, (uint64_t)i->n_ctx),
                                      .quantization_accuracy = i->retention_top1};
}

/* What a load may take now. E_STATE before init, E_LIMIT where nothing is left. */
static dbe_err free_bytes(uint64_t *ret)
{
    dbe_err err = DBE_OK;

    (void)pthread_mutex_lock(&table_lock);
    const uint64_t used = charged_bytes();
    if (budget == 0)
        err = DBE_E_STATE;
    else if (used >= budget || !slot_of(0) || last_id == UINT32_MAX)
        err = DBE_E_LIMIT;
    else
        *ret = budget - used;
    (void)pthread_mutex_unlock(&table_lock);
    return err;
}

/* The budget may have shrunk while the model was read. */
static dbe_err enter(struct llm_model *model, const char *path, dsmil_device47_llm_ctx_t *ctx)
{
    const uint64_t charge = charge_of(llm_model_info(model));
    dbe_err err = DBE_E_LIMIT;

    (void)pthread_mutex_lock(&table_lock);
    const uint64_t used = charged_bytes();
    if (used <= budget && charge <= budget - used) {
        struct slot *s = slot_of(0);
        s->id = ++last_id;
        s->model = model;
        s->charged = charge;
        name_slot(s, path);
        fill_ctx(s, ctx);
        err = DBE_OK;
    }
    (void)pthread_mutex_unlock(&table_lock);
    return err;
}

static dbe_err load(const char *path, dsmil_device47_llm_ctx_t *ctx)
{
    struct llm_model_params params = {0};
    struct llm_model *model;
    uint64_t left;

    DBE_TRY(free_bytes(&left));
    params.memory_budget_bytes = left;
    params.kv_budget_bytes = (size_t)BASE_MIN(BASE_MAX(left / 2, UINT64_C(1)), KV_BYTES_MAX);
    DBE_TRY(llm_model_load(path, &params, &model, NULL));
    const struct llm_model_info *info = llm_model_info(model);
    dbe_err err = strcmp(info->quantisation, "Q8_0") != 0 ? DBE_E_MODEL : enter(model, path, ctx);
    if (err != DBE_OK)
        llm_model_free(model);
    return err;
}

/* ---- the device's face ------------------------------------------------------------------------------------------- */

int dsmil_device47_llm_init(uint64_t memory_budget)
{
    if (memory_budget > POOL_BYTES)
        return -(int)DBE_E_RANGE;
    (void)pthread_mutex_lock(&table_lock);
    budget = BASE_MIN(memory_budget ? memory_budget : POOL_BYTES, DEVICE_BYTES);
    (void)pthread_mutex_unlock(&table_lock);
    return 0;
}

int dsmil_device47_llm_load(const char *model_path, dsmil_device47_llm_ctx_t *ctx)
{
    if (!model_path || !ctx)
        return -(int)DBE_E_ARGUMENT;
    (void)pthread_mutex_lock(&load_lock);
    const dbe_err err = load(model_path, ctx);
    (void)pthread_mutex_unlock(&load_lock);
    return -(int)err;
}

bool dsmil_device47_verify_int8_quantization(const dsmil_device47_llm_ctx_t *ctx)
{
    (void)pthread_mutex_lock(&table_lock);
    const struct slot *s = slot_of_ctx(ctx);
    const bool verified = s && llm_model_info(s->model)->retention_top1 > ACCURACY_MIN; /* NaN exceeds nothing */
    (void)pthread_mutex_unlock(&table_lock);
    return verified;
}

uint64_t dsmil_device47_get_memory_usage(const dsmil_device47_llm_ctx_t *ctx)
{
    (void)pthread_mutex_lock(&table_lock);
    const struct slot *s = slot_of_ctx(ctx);
    const uint64_t used = s ? s->charged : 0;
    (void)pthread_mutex_unlock(&table_lock);
    return used;
}

bool dsmil_device47_check_memory_budget(const dsmil_device47_llm_ctx_t *ctx)
{
    (void)pthread_mutex_lock(&table_lock);
    const bool within = slot_of_ctx(ctx) != NULL && charged_bytes() <= budget;
    (void)pthread_mutex_unlock(&table_lock);
    return within;
}

int dsmil_device47_llm_unload(dsmil_device47_llm_ctx_t *ctx)
{
    struct llm_model *model = NULL;

    if (!ctx)
        return -(int)DBE_E_ARGUMENT;
    (void)pthread_mutex_lock(&table_lock);
    struct slot *s = ctx->model_id != 0 ? slot_of(ctx->model_id) : NULL;
    if (s) {
        model = s->model;
        *s = (struct slot){0};
    }
    (void)pthread_mutex_unlock(&table_lock);
    if (!model)
        return -(int)DBE_E_NOT_FOUND;
    llm_model_free(model);
    *ctx = (dsmil_device47_llm_ctx_t){.device_id = DEVICE, .layer = LAYER, .quantization_accuracy = NAN};
    return 0;
}
