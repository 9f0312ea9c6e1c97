/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_x86.h - what the x86 kernel files share: CPU detection and the float kernels of the 256-bit tables.
 */
#ifndef LLM_KERN_X86_H
#define LLM_KERN_X86_H

#include "kernels.h"

struct kern_x86_cpu {
    bool avx2;       /* AVX2, FMA and F16C */
    bool avxvnni;    /* the same and AVX-VNNI */
    bool avx512vnni; /* AVX-512 F, BW, DQ, VL and VNNI */
};
/* What CPU and operating system (XCR0) both support. */
struct kern_x86_cpu kern_x86_cpu(void);

llm_gemm_f_fn kern_avx2_gemm_f;
void kern_avx2_quantise(const float *x, size_t tokens, size_t blocks, size_t tile, struct llm_q8 *out);
void kern_avx2_to_f16(const float *x, size_t n, uint16_t *out);
void kern_avx2_silu_mul(float *gate, const float *up, size_t n);
void kern_avx2_gelu_mul(float *gate, const float *up, size_t n);
void kern_avx2_rms_norm(const float *x, const float *weight, size_t n, float eps, float *out);

/* A gemm_f: the file's f_gemm() with the type as a constant. */
#define KERN_GEMM_F(linkage, name)                                                                                     \
    linkage KERN_TARGET void name(uint32_t type, const uint8_t *w, size_t panels, size_t rows_left, size_t columns,    \
                                  const float *x, size_t tokens, float *y, size_t y_stride)                            \
    {                                                                                                                  \
        if (type == GGUF_TENSOR_F16)                                                                                   \
            f_gemm(w, panels, rows_left, columns, x, tokens, y, y_stride, GGUF_TENSOR_F16);                            \
        else if (type == GGUF_TENSOR_BF16)                                                                             \
            f_gemm(w, panels, rows_left, columns, x, tokens, y, y_stride, GGUF_TENSOR_BF16);                           \
        else                                                                                                           \
            f_gemm(w, panels, rows_left, columns, x, tokens, y, y_stride, GGUF_TENSOR_F32);                            \
    }

/* Bytes of a value of a float matrix. */
static inline size_t kern_float_bytes(uint32_t type)
{
    return type == GGUF_TENSOR_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* What the table "amx" has of its own. Floats stay floats: prefill does not take F32. */
#define KERN_AMX_BIT(type) (UINT64_C(1) << GGUF_TENSOR_##type)
#define KERN_AMX_TYPES                                                                                                 \
    (KERN_AMX_BIT(F16) | KERN_AMX_BIT(BF16) | KERN_AMX_BIT(Q8_0) | KERN_AMX_BIT(Q4_0) | KERN_AMX_BIT(Q4_K) |           \
     KERN_AMX_BIT(Q5_K) | KERN_AMX_BIT(Q6_K))
llm_prefill_fn kern_amx_prefill;
void kern_amx_to_bf16(const float *x, size_t tokens, size_t columns, uint16_t *out);
bool kern_amx_usable(void);

/* Slots that all three tables fill alike. */
#define KERN_AVX2_SLOTS                                                                                                \
    .to_f16 = kern_avx2_to_f16, .silu_mul = kern_avx2_silu_mul, .gelu_mul = kern_avx2_gelu_mul,                        \
    .rms_norm = kern_avx2_rms_norm

#endif
