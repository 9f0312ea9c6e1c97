/* SPDX-License-Identifier: Apache-2.0
 *
 * arch.c - the table of families; see arch.h.
 */
#include "arch.h"

#include <string.h>

#include "base/base.h"

static const struct llm_arch archs[] = {
    {"llama", LLM_ROPE_NORM, LLM_ACT_SILU,
     LLM_ARCH_WINDOW | LLM_ARCH_BLOCK_BIAS | LLM_ARCH_ROPE_FREQS | LLM_ARCH_ROPE_FACTORS},
    {"qwen2", LLM_ROPE_NEOX, LLM_ACT_SILU, LLM_ARCH_OUTPUT_BIAS},
    {"qwen3", LLM_ROPE_NEOX, LLM_ACT_SILU, LLM_ARCH_QK_NORM},
    {"gemma2", LLM_ROPE_NEOX, LLM_ACT_GELU,
     LLM_ARCH_POST_NORM | LLM_ARCH_EMBD_SCALE | LLM_ARCH_SOFTCAP | LLM_ARCH_WINDOW_EVERY | LLM_ARCH_TIED},
    {"phi3", LLM_ROPE_NEOX, LLM_ACT_SILU, LLM_ARCH_WINDOW | LLM_ARCH_FUSED_FFN | LLM_ARCH_ROPE_FACTORS},
};

const struct llm_arch *llm_arch_find(const char *name, size_t len)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(archs); i++)
        if (strlen(archs[i].name) == len && memcmp(archs[i].name, name, len) == 0)
            return &archs[i];
    return NULL;
}

const char *llm_arch_names(void)
{
    return "llama, qwen2, qwen3, gemma2 and phi3";
}
