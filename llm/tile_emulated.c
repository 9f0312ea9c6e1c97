/* SPDX-License-Identifier: Apache-2.0
 *
 * tile_emulated.c - see tile_emulated.h. Palette 1: eight tiles of up to 16 rows of up to 64 bytes.
 */
#include "tile_emulated.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

enum { TILES = 8, ROWS = 16, BYTES = 64 };

static _Thread_local struct {
    bool live;
    unsigned rows[TILES], bytes[TILES];
    uint8_t data[TILES][ROWS][BYTES];
} unit;

static _Atomic(const char *) first_fault;

static void fault(const char *why)
{
    const char *none = NULL;

    (void)atomic_compare_exchange_strong(&first_fault, &none, why);
}

const char *tile_emulated_fault(void)
{
    return atomic_exchange(&first_fault, NULL);
}

int tile_emulated_live(void)
{
    return unit.live;
}

void tile_emulated_release(void)
{
    memset(&unit, 0, sizeof unit);
}

void tile_emulated_config(const void *config)
{
    uint8_t c[64];

    memcpy(c, config, sizeof c);
    if (c[0] > 1) {
        fault("ldtilecfg: no such palette");
        return;
    }
    for (size_t i = 2; i < 16; i++)
        if (c[i] != 0) {
            fault("ldtilecfg: a reserved byte is set");
            return;
        }
    for (size_t i = 0; i < 16; i++) {
        const unsigned rows = c[48 + i], bytes = c[16 + 2 * i] | (unsigned)c[17 + 2 * i] << 8;
        if (rows > (i < TILES ? ROWS : 0) || bytes > (i < TILES ? BYTES : 0) || (rows == 0) != (bytes == 0)) {
            fault("ldtilecfg: a tile beyond the palette");
            return;
        }
    }
    tile_emulated_release();
    unit.live = c[0] == 1;
    for (size_t i = 0; i < TILES && unit.live; i++) {
        unit.rows[i] = c[48 + i];
        unit.bytes[i] = c[16 + 2 * i];
    }
}

static bool configured(unsigned t, const char *why)
{
    if (unit.live && t < TILES && unit.rows[t] != 0)
        return true;
    fault(why);
    return false;
}

void tile_emulated_zero(unsigned t)
{
    if (configured(t, "tilezero: not configured"))
        memset(unit.data[t], 0, sizeof unit.data[t]);
}

void tile_emulated_load(unsigned t, const void *p, size_t stride)
{
    if (!configured(t, "tileload: not configured"))
        return;
    memset(unit.data[t], 0, sizeof unit.data[t]);
    for (size_t r = 0; r < unit.rows[t]; r++)
        memcpy(unit.data[t][r], (const uint8_t *)p + r * stride, unit.bytes[t]);
}

void tile_emulated_store(unsigned t, void *p, size_t stride)
{
    if (!configured(t, "tilestore: not configured"))
        return;
    for (size_t r = 0; r < unit.rows[t]; r++)
        memcpy((uint8_t *)p + r * stride, unit.data[t][r], unit.bytes[t]);
}

static float float_of(uint32_t bits)
{
    float f;

    if ((bits & 0x7f800000u) == 0)
        bits &= 0x80000000u; /* subnormal: zero */
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float flushed(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    return float_of(bits);
}

static float value(unsigned t, size_t row, size_t i)
{
    uint16_t h;

    memcpy(&h, unit.data[t][row] + 2 * i, sizeof h);
    return float_of((uint32_t)h << 16);
}

/* One sum: even and odd products are summed apart, then together, then into the tile. A product of two bfloat16 is
 * exact in float, so a multiplication and an addition are a fused one. */
static float dot(unsigned a, unsigned b, size_t m, size_t n)
{
    float even = 0, odd = 0;

    for (size_t k = 0; k < unit.bytes[a] / 4; k++) {
        even = flushed(even + value(a, m, 2 * k) * value(b, k, 2 * n));
        odd = flushed(odd + value(a, m, 2 * k + 1) * value(b, k, 2 * n + 1));
    }
    return flushed(even + odd);
}

void tile_emulated_dot_bf16(unsigned c, unsigned a, unsigned b)
{
    if (!configured(a, "tdp: not configured") || !configured(b, "tdp: not configured") ||
        !configured(c, "tdp: not configured"))
        return;
    if (c == a || c == b || a == b) {
        fault("tdp: one tile twice");
        return;
    }
    if (unit.rows[c] != unit.rows[a] || unit.bytes[c] != unit.bytes[b] || unit.bytes[a] != unit.rows[b] * 4 ||
        unit.bytes[c] % 4 != 0) {
        fault("tdp: shapes do not fit");
        return;
    }
    for (size_t m = 0; m < unit.rows[c]; m++)
        for (size_t n = 0; n < unit.bytes[c] / 4; n++) {
            float f;
            memcpy(&f, unit.data[c][m] + 4 * n, sizeof f);
            f = flushed(flushed(f) + dot(a, b, m, n));
            memcpy(unit.data[c][m] + 4 * n, &f, sizeof f);
        }
}

uint16_t tile_emulated_bf16(float f)
{
    uint32_t bits;

    f = flushed(f);
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
