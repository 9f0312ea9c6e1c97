/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_amx_tile.h - a part of kern_amx.c: blocks of packed weights (panel.h) become tiles of bfloat16.
 *
 * In: a panel and the number of a block of 32 columns. Out: value = quant * scale (- minimum) as quants.h says, rounded
 * once, to nearest even; columns beyond the last are zero. The including file defines KERN_TARGET, INLINE and, for the
 * emulated build, the loads.
 */
/* One tile of weights, the 32 columns `block` of a panel: out[16 pairs of columns][16 rows][2]. `unit` is the block's,
 * `data` are its own quants or values; `columns` are those of the panel. The packed forms are those of panel.h. */
typedef void tile_fn(const uint8_t *unit, const uint8_t *data, size_t columns, size_t block, uint8_t *out);

#ifndef KERN_EMULATED
INLINE __m512i pairs(__m512 even, __m512 odd)
{
    static const uint16_t order[32]
        __attribute__((aligned(64))) = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

    return _mm512_permutexvar_epi16(_mm512_load_si512((const void *)order), KERN_BF16_32(even, odd));
}
#endif

/* How bytes become values: an unsigned byte u is put into the fraction of a float, 128 + u / 2, so that one fused
 * multiply-add both takes an offset off and scales: (128 + u / 2 - (128 + zero / 2)) * 2 scale. Every product of such a
 * sum and a scale is exact, so the only rounding is that to bfloat16. Types with a minimum subtract it instead, and
 * 128 before: the sum of both would not be exact. */
struct affine {
    __m512 scale, offset;
    float base;
};

INLINE struct affine affine(__m512 scale, float zero)
{
    const __m512 twice = _mm512_add_ps(scale, scale);

    return (struct affine){twice, _mm512_mul_ps(twice, _mm512_set1_ps(-128.0f - zero * 0.5f)), 0};
}

INLINE struct affine affine_min(__m512 scale, __m512 min)
{
    return (struct affine){_mm512_add_ps(scale, scale), _mm512_sub_ps(_mm512_setzero_ps(), min), 128};
}

INLINE __m512 fraction(__m512i shifted, struct affine a)
{
    const __m512i bits =
        _mm512_or_si512(_mm512_and_si512(shifted, _mm512_set1_epi32(0x007f8000)), _mm512_set1_epi32(0x43000000));
    const __m512 f = _mm512_castsi512_ps(bits);

    return _mm512_fmadd_ps(a.base > 0 ? _mm512_sub_ps(f, _mm512_set1_ps(a.base)) : f, a.scale, a.offset);
}

/* Four columns, byte j of each lane one's, of 16 rows: two lines of the tile. */
INLINE void put4(__m512i bytes, struct affine a, uint8_t *out)
{
    const __m512 c0 = fraction(_mm512_slli_epi32(bytes, 15), a), c1 = fraction(_mm512_slli_epi32(bytes, 7), a);
    const __m512 c2 = fraction(_mm512_srli_epi32(bytes, 1), a), c3 = fraction(_mm512_srli_epi32(bytes, 9), a);

    _mm512_storeu_si512((void *)out, KERN_BF16_PAIRS(c0, c1));
    _mm512_storeu_si512((void *)(out + LINE), KERN_BF16_PAIRS(c2, c3));
}

INLINE __m512i load(const uint8_t *p)
{
    return _mm512_loadu_si512((const void *)p);
}

INLINE __m512i mask8(__m512i v, int byte)
{
    return _mm512_and_si512(v, _mm512_set1_epi32(byte * 0x01010101));
}

/* Nibbles of a block: low ones are groups 0 to 3, high ones 4 to 7. */
INLINE __m512i nibbles(const uint8_t *data, size_t g)
{
    const __m512i v = load(data + g % 4 * LINE);

    return mask8(g < 4 ? v : _mm512_srli_epi32(v, 4), 0x0f);
}

/* Each byte's bits from `bit` on moved to bit 4 and the next; `bit` is a constant. */
INLINE __m512i to_bit4(__m512i v, size_t bit)
{
    switch (bit) {
    case 0: return _mm512_slli_epi32(v, 4);
    case 1: return _mm512_slli_epi32(v, 3);
    case 2: return _mm512_slli_epi32(v, 2);
    case 3: return _mm512_slli_epi32(v, 1);
    case 4: return v;
    case 5: return _mm512_srli_epi32(v, 1);
    case 6: return _mm512_srli_epi32(v, 2);
    default: return _mm512_srli_epi32(v, 3);
    }
}

static KERN_TARGET void tile_q8_0(const uint8_t *unit, const uint8_t *data, size_t columns, size_t block, uint8_t *out)
{
    const struct affine a = affine(KERN_HALF16(unit + block % 2 * ROWS * 2), 128); /* packed with 128 added */

    (void)columns;
    for (size_t g = 0; g < STEP / 4; g++)
        put4(load(data + g * LINE), a, out + g * 2 * LINE);
}

static KERN_TARGET void tile_f16(const uint8_t *unit, const uint8_t *data, size_t columns, size_t block, uint8_t *out)
{
    const size_t left = columns - block * STEP;
    const __m512 zero = _mm512_setzero_ps();

    (void)unit;
    for (size_t c = 0; c < STEP; c += 2, data += 4 * ROWS, out += LINE) {
        const __m512 even = c < left ? KERN_HALF16(data) : zero;
        const __m512 odd = c + 1 < left ? KERN_HALF16(data + 2 * ROWS) : zero;
        _mm512_storeu_si512((void *)out, KERN_BF16_PAIRS(even, odd));
    }
}

static KERN_TARGET void tile_bf16(const uint8_t *unit, const uint8_t *data, size_t columns, size_t block, uint8_t *out)
{
    const size_t left = columns - block * STEP;
    const __m512i zero = _mm512_setzero_si512();

    (void)unit;
    for (size_t c = 0; c < STEP; c += 2, data += 4 * ROWS, out += LINE) {
        const __m512i even = c < left ? KERN_WORD16(data) : zero;
        const __m512i odd = c + 1 < left ? KERN_WORD16(data + 2 * ROWS) : zero;
        _mm512_storeu_si512((void *)out, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
    }
}

static KERN_TARGET void tile_q4_0(const uint8_t *unit, const uint8_t *data, size_t columns, size_t block, uint8_t *out)
{
    const struct affine a = affine(KERN_HALF16(unit + block % 2 * ROWS * 2), 8);

    (void)columns;
    for (size_t g = 0; g < STEP / 4; g++)
        put4(nibbles(data, g), a, out + g * 2 * LINE);
}

/* Of a block of Q4_K and Q5_K: d * scale and dmin * minimum. */
INLINE struct affine affine_k(const uint8_t *unit, size_t block)
{
    const uint8_t *bytes = unit + ROWS * 4 + block % 8 * ROWS;
    const __m512 scale = _mm512_cvtepi32_ps(KERN_WIDEN_BYTES(bytes));
    const __m512 min = _mm512_cvtepi32_ps(KERN_WIDEN_BYTES(bytes + 8 * ROWS));

    return affine_min(_mm512_mul_ps(KERN_HALF16(unit), scale), _mm512_mul_ps(KERN_HALF16(unit + ROWS * 2), min));
}

static KERN_TARGET void tile_q4_k(const uint8_t *unit, const uint8_t *data, size_t columns, size_t block, uint8_t *out)
{
    const struct affine a = affine_k(unit, block);

    (void)columns;
    for (size_t g = 0; g < STEP / 4; g++)
        put4(nibbles(data, g), a, out + g * 2 * LINE);
}

/* A group of Q5_K or Q6_K: nibbles, and from bit `bit` of each byte on those of `upper` in `mask`. */
INLINE void put_upper(const uint8_t *data, size_t g, __m512i upper, size_t bit, int mask, struct affine a, uint8_t *out)
{
    put4(_mm512_or_si512(nibbles(data, g), mask8(to_bit4(upper, bit), mask)), a, out + g * 2 * LINE);
}

/* Eight calls, because a compiler does not unroll a loop with a switch in it. */
static KERN_TARGET void tile_q5_k(const uint8_t *unit, const uint8_t *data, size_t columns, size_t block, uint8_t *out)
{
    const struct affine a = affine_k(unit, block);
    const __m512i fifth = load(data + 4 * LINE);

    (void)columns;
    put_upper(data, 0, fifth, 0, 0x10, a, out);
    put_upper(data, 1, fifth, 1, 0x10, a, out);
    put_upper(data, 2, fifth, 2, 0x10, a, out);
    put_upper(data, 3, fifth, 3, 0x10, a, out);
    put_upper(data, 4, fifth, 4, 0x10, a, out);
    put_upper(data, 5, fifth, 5, 0x10, a, out);
    put_upper(data, 6, fifth, 6, 0x10, a, out);
    put_upper(data, 7, fifth, 7, 0x10, a, out);
}

/* Four groups, which are a scale's. */
INLINE void half_q6_k(const uint8_t *data, size_t g, __m512i pairs_of_bits, __m512 d, const uint8_t *scales,
                      uint8_t *out)
{
    const struct affine a = affine(_mm512_mul_ps(d, _mm512_cvtepi32_ps(KERN_WIDEN_INT8(scales))), 32);

    put_upper(data, g, pairs_of_bits, 0, 0x30, a, out);
    put_upper(data, g + 1, pairs_of_bits, 2, 0x30, a, out);
    put_upper(data, g + 2, pairs_of_bits, 4, 0x30, a, out);
    put_upper(data, g + 3, pairs_of_bits, 6, 0x30, a, out);
}

static KERN_TARGET void tile_q6_k(const uint8_t *unit, const uint8_t *data, size_t columns, size_t block, uint8_t *out)
{
    const uint8_t *scales = unit + ROWS * 2 + block % 8 * (2 * ROWS);
    const __m512 d = KERN_HALF16(unit);

    (void)columns;
    half_q6_k(data, 0, load(data + 4 * LINE), d, scales, out);
    half_q6_k(data, 4, load(data + 5 * LINE), d, scales + ROWS, out);
}

static tile_fn *tile_of(uint32_t type)
{
    switch (type) {
    case GGUF_TENSOR_Q8_0: return tile_q8_0;
    case GGUF_TENSOR_Q4_0: return tile_q4_0;
    case GGUF_TENSOR_Q4_K: return tile_q4_k;
    case GGUF_TENSOR_Q5_K: return tile_q5_k;
    case GGUF_TENSOR_Q6_K: return tile_q6_k;
    case GGUF_TENSOR_BF16: return tile_bf16;
    default: return tile_f16;
    }
}
