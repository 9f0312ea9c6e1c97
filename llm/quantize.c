/* SPDX-License-Identifier: Apache-2.0
 *
 * quantize.c - writes a GGUF file again with its matrices as Q8_0.
 *
 * In:   a checked GGUF file of F32, F16, BF16 or Q8_0 tensors. Out: a GGUF v3 file, written beside its final name,
 *       measured against the input (retention.c) and renamed when it kept enough. Metadata are copied byte for byte
 *       but for general.file_type, general.quantization_version and dsmil.retention.*.
 * Q8_0: blocks of 32; d = max|x| / 127 as binary16, q = round(x / d), halves away from zero.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf.h"
#include "half.h"
#include "quants.h"
#include "retention.h"

enum { FILE_TYPE_Q8_0 = 7, QUANTIZATION_VERSION = 2, PATH_BYTES_MAX = 4096 };

static const char *const replaced_keys[] = {"general.file_type", "general.quantization_version"};
static const char *const retention_keys[] = {"dsmil.retention.top1", "dsmil.retention.kl", "dsmil.retention.ppl_ratio"};
enum { RETENTION_KEYS = BASE_ARRAY_LEN(retention_keys) };

struct writer {
    const struct gguf *g;
    FILE *f;
    uint64_t at;
    enum kept { KEPT_MEASURED, KEPT_COPIED, KEPT_DROPPED } kept; /* what becomes of dsmil.retention.* */
    uint64_t kept_at[RETENTION_KEYS];                            /* where the measured values go */
    struct dbe_diag *diag;
};

/* ---- bytes out --------------------------------------------------------------------------------------------------- */

static dbe_err put(struct writer *w, const void *data, size_t len)
{
    if (len > 0 && fwrite(data, 1, len, w->f) != len)
        return dbe_fail(w->diag, DBE_E_IO, "quantize", (size_t)w->at, "write: %s", strerror(errno));
    w->at += len;
    return DBE_OK;
}

static dbe_err put_le(struct writer *w, uint64_t v, size_t bytes)
{
    uint8_t out[8];

    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(v >> (8 * i));
    return put(w, out, bytes);
}

static dbe_err put_string(struct writer *w, const char *text)
{
    DBE_TRY(put_le(w, strlen(text), 8));
    return put(w, text, strlen(text));
}

static dbe_err pad(struct writer *w)
{
    while (w->at % w->g->alignment != 0)
        DBE_TRY(put_le(w, 0, 1));
    return DBE_OK;
}

/* ---- metadata ---------------------------------------------------------------------------------------------------- */

static bool is_one_of(const struct gguf *g, const struct gguf_kv *kv, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (kv->key_len == strlen(keys[i]) && memcmp(g->meta + kv->key_at, keys[i], kv->key_len) == 0)
            return true;
    return false;
}

static bool is_replaced(const struct writer *w, const struct gguf_kv *kv)
{
    return is_one_of(w->g, kv, replaced_keys, BASE_ARRAY_LEN(replaced_keys)) ||
           (w->kept != KEPT_COPIED && is_one_of(w->g, kv, retention_keys, RETENTION_KEYS));
}

/* Room for the values that are known only when the file can be loaded. */
static dbe_err put_retention_room(struct writer *w)
{
    for (size_t i = 0; i < RETENTION_KEYS; i++) {
        DBE_TRY(put_string(w, retention_keys[i]));
        DBE_TRY(put_le(w, GGUF_F32, 4));
        w->kept_at[i] = w->at;
        DBE_TRY(put_le(w, 0, 4));
    }
    return DBE_OK;
}

static dbe_err put_metadata(struct writer *w)
{
    const struct gguf *g = w->g;
    uint64_t kept = BASE_ARRAY_LEN(replaced_keys) + (w->kept == KEPT_MEASURED ? RETENTION_KEYS : 0);

    for (size_t i = 0; i < g->kv_count; i++)
        kept += !is_replaced(w, &g->kvs[i]);
    DBE_TRY(put(w, "GGUF", 4));
    DBE_TRY(put_le(w, 3, 4));
    DBE_TRY(put_le(w, g->tensor_count, 8));
    DBE_TRY(put_le(w, kept, 8));
    for (size_t i = 0; i < g->kv_count; i++) {
        const struct gguf_kv *kv = &g->kvs[i];
        const size_t from = kv->key_at - 8; /* a pair is one run of bytes, from its key's length on */
        if (!is_replaced(w, kv))
            DBE_TRY(put(w, g->meta + from, kv->value_at + kv->value_len - from));
    }
    if (w->kept == KEPT_MEASURED)
        DBE_TRY(put_retention_room(w));
    const uint32_t values[] = {FILE_TYPE_Q8_0, QUANTIZATION_VERSION};
    for (size_t i = 0; i < BASE_ARRAY_LEN(values); i++) {
        DBE_TRY(put_string(w, replaced_keys[i]));
        DBE_TRY(put_le(w, GGUF_U32, 4));
        DBE_TRY(put_le(w, values[i], 4));
    }
    return DBE_OK;
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static uint32_t target_type(const struct gguf_tensor *t)
{
    if (t->n_dims == 1)
        return GGUF_TENSOR_F32;
    return t->dims[0] % GGUF_Q8_0_VALUES == 0 ? GGUF_TENSOR_Q8_0 : t->type;
}

static uint64_t row_count(const struct gguf_tensor *t)
{
    return t->dims[1] * t->dims[2] * t->dims[3];
}

static dbe_err put_tensor_table(struct writer *w)
{
    uint64_t offset = 0;

    for (size_t i = 0; i < w->g->tensor_count; i++) {
        const struct gguf_tensor *t = &w->g->tensors[i];
        const uint32_t type = target_type(t);
        DBE_TRY(put_string(w, t->name));
        DBE_TRY(put_le(w, t->n_dims, 4));
        for (uint32_t d = 0; d < t->n_dims; d++)
            DBE_TRY(put_le(w, t->dims[d], 8));
        DBE_TRY(put_le(w, type, 4));
        DBE_TRY(put_le(w, offset, 8));
        offset += quant_row_bytes(type, (size_t)t->dims[0]) * row_count(t);
        offset = (offset + w->g->alignment - 1) / w->g->alignment * w->g->alignment;
    }
    return pad(w);
}

/* False: a value is not finite or too large for a binary16 scale. */
static bool row_to_q8(const float *in, uint64_t columns, uint8_t *out)
{
    for (uint64_t b = 0; b < columns / GGUF_Q8_0_VALUES; b++, in += GGUF_Q8_0_VALUES, out += GGUF_Q8_0_BYTES) {
        float amax = 0;
        for (size_t i = 0; i < GGUF_Q8_0_VALUES; i++) {
            if (!isfinite(in[i]))
                return false;
            amax = fmaxf(amax, fabsf(in[i]));
        }
        const float d = amax / 127.0f, inverse = d > 0 ? 1.0f / d : 0.0f;
        const uint16_t h = half_from_f32(d);
        if ((h & 0x7c00u) == 0x7c00u)
            return false;
        out[0] = (uint8_t)h;
        out[1] = (uint8_t)(h >> 8);
        for (size_t i = 0; i < GGUF_Q8_0_VALUES; i++) {
            const float q = isfinite(inverse) ? roundf(in[i] * inverse) : 0.0f;
            out[2 + i] = (uint8_t)(int8_t)q;
        }
    }
    return true;
}

static dbe_err put_tensor(struct writer *w, const struct gguf_tensor *t)
{
    const uint32_t type = target_type(t);
    const size_t in_bytes = quant_row_bytes(t->type, (size_t)t->dims[0]);
    const size_t out_bytes = quant_row_bytes(type, (size_t)t->dims[0]);
    BASE_AUTO_FREE uint8_t *in = base_alloc(in_bytes, 1), *out = base_alloc(out_bytes, 1);
    BASE_AUTO_FREE float *values = base_alloc((size_t)t->dims[0], sizeof(float));

    if (!in || !out || !values)
        return dbe_fail(w->diag, DBE_E_NOMEM, "quantize", 0, "tensor %s: no memory for a row", t->name);
    for (uint64_t r = 0; r < row_count(t); r++) {
        DBE_TRY(gguf_read(w->g, t, r * in_bytes, in, in_bytes, w->diag));
        if (type == t->type) {
            DBE_TRY(put(w, in, in_bytes));
            continue;
        }
        quant_row_f32(t->type, in, (size_t)t->dims[0], values);
        if (type == GGUF_TENSOR_F32)
            memcpy(out, values, out_bytes);
        else if (!row_to_q8(values, t->dims[0], out))
            return dbe_fail(w->diag, DBE_E_MODEL, "quantize", (size_t)t->offset,
                            "tensor %s: row %llu holds a value that is not finite or too large", t->name,
                            (unsigned long long)r);
        DBE_TRY(put(w, out, out_bytes));
    }
    return pad(w);
}

static bool is_plain(uint32_t type)
{
    return type == GGUF_TENSOR_F32 || type == GGUF_TENSOR_F16 || type == GGUF_TENSOR_BF16;
}

static dbe_err check_types(const struct gguf *g, struct dbe_diag *diag)
{
    for (size_t i = 0; i < g->tensor_count; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        if (!is_plain(t->type) && t->type != GGUF_TENSOR_Q8_0)
            return dbe_fail(diag, DBE_E_MODEL, "quantize", 0,
                            "tensor %s: is %s; quantise from the model's F32, F16 or BF16 form", t->name,
                            gguf_type_name(t->type));
        if (t->type == GGUF_TENSOR_Q8_0 && target_type(t) != GGUF_TENSOR_Q8_0)
            return dbe_fail(diag, DBE_E_MODEL, "quantize", 0, "tensor %s: a vector as Q8_0", t->name);
    }
    return DBE_OK;
}

/* Against a file that holds Q8_0 already, nothing can be measured: the original is not there. Its own measurement stays
 * true if no weight changes. */
static enum kept what_of_retention(const struct gguf *g)
{
    bool quantised = false, changes = false;

    for (size_t i = 0; i < g->tensor_count; i++) {
        quantised = quantised || g->tensors[i].type == GGUF_TENSOR_Q8_0;
        changes = changes || g->tensors[i].type != target_type(&g->tensors[i]);
    }
    return !quantised ? KEPT_MEASURED : changes ? KEPT_DROPPED : KEPT_COPIED;
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static dbe_err write_all(struct writer *w)
{
    DBE_TRY(put_metadata(w));
    DBE_TRY(put_tensor_table(w));
    for (size_t i = 0; i < w->g->tensor_count; i++)
        DBE_TRY(put_tensor(w, &w->g->tensors[i]));
    return fflush(w->f) == 0 ? DBE_OK : dbe_fail(w->diag, DBE_E_IO, "quantize", 0, "write: %s", strerror(errno));
}

static dbe_err put_measured(struct writer *w, const struct llm_retention *kept)
{
    const float values[RETENTION_KEYS] = {(float)kept->top1, (float)kept->kl, (float)kept->ppl_ratio};

    for (size_t i = 0; i < RETENTION_KEYS; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        if (fseeko(w->f, (off_t)w->kept_at[i], SEEK_SET) != 0)
            return dbe_fail(w->diag, DBE_E_IO, "quantize", 0, "seek: %s", strerror(errno));
        DBE_TRY(put_le(w, bits, 4));
    }
    return DBE_OK;
}

static dbe_err measure(struct writer *w, const char *in, const char *temp, const struct llm_quantize_params *params,
                       struct llm_retention *kept)
{
    DBE_TRY(llm_retention_measure(in, temp, params, kept, w->diag));
    if (!(kept->top1 >= params->min_top1))
        return dbe_fail(w->diag, DBE_E_RANGE, "retention", 0,
                        "kept %.2f %% of the greedy choices over %zu tokens (KL %.4g, perplexity ratio %.4g); %.2f %% "
                        "are asked for",
                        100 * kept->top1, kept->tokens, kept->kl, kept->ppl_ratio, 100 * params->min_top1);
    return put_measured(w, kept);
}

/* The descriptor's temporary file becomes `out`, or goes. */
static dbe_err write_file(struct writer *w, const char *in, const char *temp, const char *out,
                          const struct llm_quantize_params *params, struct llm_retention *kept)
{
    dbe_err err = write_all(w);

    if (err == DBE_OK && w->kept == KEPT_MEASURED)
        err = measure(w, in, temp, params, kept);
    if (err == DBE_OK && (fflush(w->f) != 0 || fsync(fileno(w->f)) != 0))
        err = dbe_fail(w->diag, DBE_E_IO, "quantize", 0, "write: %s", strerror(errno));
    (void)fchmod(fileno(w->f), 0644);
    if (fclose(w->f) != 0 && err == DBE_OK)
        err = dbe_fail(w->diag, DBE_E_IO, "quantize", 0, "%.120s: %s", temp, strerror(errno));
    if (err == DBE_OK && rename(temp, out) != 0)
        err = dbe_fail(w->diag, DBE_E_IO, "quantize", 0, "%.120s: %s", out, strerror(errno));
    if (err != DBE_OK)
        unlink(temp);
    return err;
}

static dbe_err convert(const struct gguf *g, const char *in, const char *out, const struct llm_quantize_params *params,
                       struct llm_retention *kept, struct dbe_diag *diag)
{
    struct writer w = {.g = g, .kept = what_of_retention(g), .diag = diag};
    char temp[PATH_BYTES_MAX];
    const int n = snprintf(temp, sizeof temp, "%s.XXXXXX", out);

    DBE_TRY(check_types(g, diag));
    if (n < 0 || (size_t)n >= sizeof temp)
        return dbe_fail(diag, DBE_E_ARGUMENT, "quantize", 0, "the path of the output is too long");
    const int fd = mkostemp(temp, O_CLOEXEC);
    w.f = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (!w.f) {
        const int why = errno;
        if (fd >= 0) {
            close(fd);
            unlink(temp);
        }
        return dbe_fail(diag, DBE_E_IO, "quantize", 0, "%.120s: %s", temp, strerror(why));
    }
    return write_file(&w, in, temp, out, params, kept);
}

dbe_err llm_quantize_file(const char *in, const char *out, const struct llm_quantize_params *params,
                          struct llm_retention *ret_kept, struct dbe_diag *diag)
{
    static const struct llm_quantize_params defaults = {.min_top1 = LLM_RETENTION_MIN};
    struct llm_retention kept = {0};
    struct stat a, b;
    struct gguf *g;

    if (stat(in, &a) == 0 && stat(out, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return dbe_fail(diag, DBE_E_ARGUMENT, "quantize", 0, "%.120s: is the input itself", out);
    DBE_TRY(gguf_open(in, &g, diag));
    const dbe_err err = convert(g, in, out, params ? params : &defaults, &kept, diag);
    gguf_close(g);
    if (ret_kept && (err == DBE_OK || err == DBE_E_RANGE))
        *ret_kept = kept;
    return err;
}
