/* SPDX-License-Identifier: Apache-2.0
 *
 * quants.c - see quants.h.
 */
#include "quants.h"

#include <math.h>
#include <string.h>

#include "half.h"

static const struct quant_type types[] = {
    [GGUF_TENSOR_F32] = {"F32", 1, 4},       [GGUF_TENSOR_F16] = {"F16", 1, 2},
    [GGUF_TENSOR_Q4_0] = {"Q4_0", 32, 18},   [GGUF_TENSOR_Q8_0] = {"Q8_0", 32, 34},
    [GGUF_TENSOR_Q4_K] = {"Q4_K", 256, 144}, [GGUF_TENSOR_Q5_K] = {"Q5_K", 256, 176},
    [GGUF_TENSOR_Q6_K] = {"Q6_K", 256, 210}, [GGUF_TENSOR_BF16] = {"BF16", 1, 2},
};

const struct quant_type *quant_type(uint32_t type)
{
    return type < sizeof types / sizeof types[0] && types[type].name ? &types[type] : NULL;
}

size_t quant_row_bytes(uint32_t type, size_t columns)
{
    const struct quant_type *t = quant_type(type);

    return t ? columns / t->values * t->bytes : 0;
}

static float half_at(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, sizeof h);
    return half_to_f32(h);
}

static float bf16_at(const uint8_t *p)
{
    const uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

static float f32_at(const uint8_t *p)
{
    float f;

    memcpy(&f, p, sizeof f);
    return f;
}

static bool half_finite(const uint8_t *p)
{
    return (p[1] & 0x7c) != 0x7c;
}

bool quant_row_finite(uint32_t type, const uint8_t *row, size_t columns)
{
    const struct quant_type *t = quant_type(type);
    bool ok = t != NULL;

    for (size_t i = 0; ok && i < columns / t->values; i++, row += t->bytes) {
        switch (type) {
        case GGUF_TENSOR_F32: ok = isfinite(f32_at(row)); break;
        case GGUF_TENSOR_BF16: ok = isfinite(bf16_at(row)); break;
        case GGUF_TENSOR_Q4_K:
        case GGUF_TENSOR_Q5_K: ok = half_finite(row) && half_finite(row + 2); break;
        case GGUF_TENSOR_Q6_K: ok = half_finite(row + 208); break;
        default: ok = half_finite(row); break;
        }
    }
    return ok;
}

void quant_k_scales(const uint8_t packed[12], uint8_t scales[QUANT_SUBS], uint8_t mins[QUANT_SUBS])
{
    for (size_t i = 0; i < 4; i++) {
        scales[i] = packed[i] & 63;
        mins[i] = packed[i + 4] & 63;
        scales[i + 4] = (uint8_t)((packed[i + 8] & 15) | packed[i] >> 6 << 4);
        mins[i + 4] = (uint8_t)(packed[i + 8] >> 4 | packed[i + 4] >> 6 << 4);
    }
}

/* Q4_K, and Q5_K with its fifth bits in `fifth`: sub-blocks 2i and 2i + 1 are the low and high nibbles of 32 bytes. */
static void block_k45(const uint8_t *p, const uint8_t *fifth, const uint8_t *nibbles, float *out)
{
    const float d = half_at(p), dmin = half_at(p + 2);
    uint8_t scales[QUANT_SUBS], mins[QUANT_SUBS];

    quant_k_scales(p + 4, scales, mins);
    for (size_t sub = 0; sub < QUANT_SUBS; sub++) {
        const float scale = d * (float)scales[sub], min = dmin * (float)mins[sub];
        for (size_t i = 0; i < QUANT_BLOCK; i++) {
            int q = nibbles[sub / 2 * QUANT_BLOCK + i] >> (sub % 2 * 4) & 15;
            if (fifth)
                q |= (fifth[i] >> sub & 1) << 4;
            out[sub * QUANT_BLOCK + i] = scale * (float)q - min;
        }
    }
}

/* Each half of 128 values has 64 bytes of nibbles and 32 of bit pairs; its sub-blocks of 32 are, in this order, the low
 * nibbles of the first 32 bytes and of the second, then the high ones; byte i's bit pairs are those of value i of
 * each. */
static void block_k6(const uint8_t *p, float *out)
{
    const int8_t *scales = (const int8_t *)p + 192;
    const float d = half_at(p + 208);

    for (size_t sub = 0; sub < QUANT_SUBS; sub++) {
        const uint8_t *low = p + sub / 4 * 64 + sub % 2 * 32, *pairs = p + 128 + sub / 4 * 32;
        for (size_t i = 0; i < QUANT_BLOCK; i++) {
            const int q = (low[i] >> (sub % 4 / 2 * 4) & 15) | (pairs[i] >> (sub % 4 * 2) & 3) << 4;
            out[sub * QUANT_BLOCK + i] = d * (float)scales[sub * 2 + i / 16] * (float)(q - 32);
        }
    }
}

void quant_row_f32(uint32_t type, const uint8_t *row, size_t columns, float *out)
{
    const struct quant_type *t = quant_type(type);

    if (!t)
        return;
    for (size_t c = 0; c + t->values <= columns; c += t->values, row += t->bytes, out += t->values) {
        switch (type) {
        case GGUF_TENSOR_F32: *out = f32_at(row); break;
        case GGUF_TENSOR_F16: *out = half_at(row); break;
        case GGUF_TENSOR_BF16: *out = bf16_at(row); break;
        case GGUF_TENSOR_Q8_0:
            for (size_t i = 0; i < QUANT_BLOCK; i++)
                out[i] = half_at(row) * (float)(int8_t)row[2 + i];
            break;
        case GGUF_TENSOR_Q4_0:
            for (size_t i = 0; i < QUANT_BLOCK; i++)
                out[i] = half_at(row) * (float)((row[2 + i % 16] >> (i / 16 * 4) & 15) - 8);
            break;
        case GGUF_TENSOR_Q4_K: block_k45(row, NULL, row + 16, out); break;
        case GGUF_TENSOR_Q5_K: block_k45(row, row + 16, row + 48, out); break;
        default: block_k6(row, out); break;
        }
    }
}
