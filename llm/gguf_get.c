/* SPDX-License-Identifier: Apache-2.0
 *
 * gguf_get.c - keys and tensors of an open GGUF file by their names, values by their types.
 *
 * In:   a checked file. Out: values, or which key is missing or of another type.
 */
#include <inttypes.h>
#include <string.h>

#include "gguf_priv.h"

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
    size_t len = strlen(key);

    for (size_t i = 0; i < g->kv_count; i++)
        if (g->kvs[i].key_len == len && memcmp(g->meta + g->kvs[i].key_at, key, len) == 0)
            return &g->kvs[i];
    return NULL;
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name)
{
    for (size_t i = 0; i < g->tensor_count; i++)
        if (strcmp(g->tensors[i].name, name) == 0)
            return &g->tensors[i];
    return NULL;
}

static dbe_err wrong_type(const struct gguf_kv *kv, const char *key, const char *want, struct dbe_diag *diag)
{
    return dbe_fail(diag, DBE_E_MODEL, CLAUSE, kv->value_at, "key %s: has type %" PRIu32 ", %s expected", key, kv->type,
                    want);
}

static dbe_err missing(const char *key, struct dbe_diag *diag)
{
    return dbe_fail(diag, DBE_E_MODEL, CLAUSE, 0, "key %s: missing", key);
}

dbe_err gguf_get_u32_or(const struct gguf *g, const char *key, uint32_t absent, uint32_t *ret, struct dbe_diag *diag)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    uint64_t v;

    if (!kv) {
        *ret = absent;
        return DBE_OK;
    }
    const uint8_t *p = g->meta + kv->value_at;
    switch (kv->type) {
    case GGUF_U8: v = p[0]; break;
    case GGUF_U16: v = (uint64_t)p[0] | (uint64_t)p[1] << 8; break;
    case GGUF_U32: v = le32(p); break;
    case GGUF_I32: v = le32(p) >> 31 ? UINT64_MAX : le32(p); break;
    case GGUF_U64: v = le64(p); break;
    case GGUF_I64: v = le64(p); break;
    default: return wrong_type(kv, key, "an integer", diag);
    }
    if (v > UINT32_MAX)
        return dbe_fail(diag, DBE_E_MODEL, CLAUSE, kv->value_at, "key %s: value out of range", key);
    *ret = (uint32_t)v;
    return DBE_OK;
}

dbe_err gguf_get_u32(const struct gguf *g, const char *key, uint32_t *ret, struct dbe_diag *diag)
{
    return gguf_find(g, key) ? gguf_get_u32_or(g, key, 0, ret, diag) : missing(key, diag);
}

dbe_err gguf_get_f32_or(const struct gguf *g, const char *key, float absent, float *ret, struct dbe_diag *diag)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (!kv) {
        *ret = absent;
        return DBE_OK;
    }
    if (kv->type != GGUF_F32)
        return wrong_type(kv, key, "F32", diag);
    uint32_t bits = le32(g->meta + kv->value_at);
    memcpy(ret, &bits, sizeof *ret);
    return DBE_OK;
}

dbe_err gguf_get_f32(const struct gguf *g, const char *key, float *ret, struct dbe_diag *diag)
{
    return gguf_find(g, key) ? gguf_get_f32_or(g, key, 0, ret, diag) : missing(key, diag);
}

dbe_err gguf_get_bool_or(const struct gguf *g, const char *key, bool absent, bool *ret, struct dbe_diag *diag)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (kv && kv->type != GGUF_BOOL)
        return wrong_type(kv, key, "BOOL", diag);
    *ret = kv ? g->meta[kv->value_at] != 0 : absent;
    return DBE_OK;
}

dbe_err gguf_get_str_or_null(const struct gguf *g, const char *key, const char **ret, size_t *ret_len,
                             struct dbe_diag *diag)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (kv && kv->type != GGUF_STRING)
        return wrong_type(kv, key, "STRING", diag);
    *ret = kv ? (const char *)g->meta + kv->value_at : NULL;
    *ret_len = kv ? kv->value_len : 0;
    return DBE_OK;
}

dbe_err gguf_get_array(const struct gguf *g, const char *key, uint32_t elem_type, bool required,
                       const struct gguf_kv **ret, struct dbe_diag *diag)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (!kv && required)
        return missing(key, diag);
    if (kv && (kv->type != GGUF_ARRAY || kv->elem_type != elem_type))
        return dbe_fail(diag, DBE_E_MODEL, CLAUSE, kv->value_at, "key %s: not an array of type %" PRIu32, key,
                        elem_type);
    *ret = kv;
    return DBE_OK;
}

const char *gguf_next_str(const struct gguf *g, size_t *at, size_t *ret_len)
{
    const uint8_t *p = g->meta + *at;

    *ret_len = (size_t)le64(p); /* checked when the file was parsed */
    *at += 8 + *ret_len;
    return (const char *)p + 8;
}

uint32_t gguf_array_u32(const struct gguf *g, const struct gguf_kv *kv, uint64_t i)
{
    return le32(g->meta + kv->value_at + i * 4);
}

float gguf_array_f32(const struct gguf *g, const struct gguf_kv *kv, uint64_t i)
{
    uint32_t bits = gguf_array_u32(g, kv, i);
    float v;

    memcpy(&v, &bits, sizeof v);
    return v;
}
