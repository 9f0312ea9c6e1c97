/* SPDX-License-Identifier: Apache-2.0
 *
 * gguf.c - reader of the GGUF container: the file's bytes, and its entries one by one; see gguf.h.
 *
 * In:   a file or memory, hostile. Out: keys and tensors, each sound by itself, and bytes.
 * Not:  what they say of each other (gguf_check.c), values by name (gguf_get.c).
 *
 * The metadata is read into one growing copy of the file's beginning; a cursor walks it and asks for more bytes as it
 * goes, so no count in the file is believed before the bytes it announces are there.
 */
#include "gguf_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { META_CHUNK = 1 << 20, HEADER_BYTES = 24, TENSOR_MIN_BYTES = 8 + 4 + 8 + 4 + 8, KV_MIN_BYTES = 8 + 4 + 1 };

struct cursor {
    struct gguf *g;
    size_t at, cap;
    struct dbe_diag *diag;
};

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

static dbe_err read_at(const struct gguf *g, uint64_t at, void *dst, size_t len, struct dbe_diag *diag)
{
    uint8_t *to = dst;

    if (at > g->size || len > g->size - at)
        return dbe_fail(diag, DBE_E_MODEL, CLAUSE, (size_t)at, "%zu bytes at offset %" PRIu64 ": beyond end of file",
                        len, at);
    if (g->mem) {
        memcpy(dst, g->mem + at, len);
        return DBE_OK;
    }
    while (len > 0) {
        ssize_t n = pread(g->fd, to, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return dbe_fail(diag, DBE_E_IO, CLAUSE, (size_t)at, "read: %s", strerror(errno));
        if (n == 0)
            return dbe_fail(diag, DBE_E_MODEL, CLAUSE, (size_t)at, "the file became shorter while it was read");
        to += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return DBE_OK;
}

/* Make bytes [c->at, c->at + len) of the file present in meta. */
static dbe_err need(struct cursor *c, uint64_t len, const char *what)
{
    struct gguf *g = c->g;

    if (len > g->size - c->at)
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, c->at, "%s: beyond end of file", what);
    if (c->at + len > GGUF_META_BYTES_MAX)
        return dbe_fail(c->diag, DBE_E_TOO_LARGE, CLAUSE, c->at, "%s: metadata exceed %d bytes", what,
                        GGUF_META_BYTES_MAX);
    if (c->at + len <= g->meta_len)
        return DBE_OK;
    uint64_t want = BASE_MIN(BASE_MAX(c->at + len, g->meta_len * 2 + META_CHUNK), g->size);
    want = BASE_MIN(want, (uint64_t)GGUF_META_BYTES_MAX);
    uint8_t *grown = base_realloc(g->meta, (size_t)want, 1);
    if (!grown)
        return dbe_fail(c->diag, DBE_E_NOMEM, CLAUSE, c->at, "no memory for %" PRIu64 " bytes of metadata", want);
    g->meta = grown;
    DBE_TRY(read_at(g, g->meta_len, g->meta + g->meta_len, (size_t)want - g->meta_len, c->diag));
    g->meta_len = (size_t)want;
    return DBE_OK;
}

static dbe_err take_u32(struct cursor *c, uint32_t *ret, const char *what)
{
    DBE_TRY(need(c, 4, what));
    *ret = le32(c->g->meta + c->at);
    c->at += 4;
    return DBE_OK;
}

static dbe_err take_u64(struct cursor *c, uint64_t *ret, const char *what)
{
    DBE_TRY(need(c, 8, what));
    *ret = le64(c->g->meta + c->at);
    c->at += 8;
    return DBE_OK;
}

static dbe_err take_string(struct cursor *c, uint64_t max, size_t *ret_at, size_t *ret_len, const char *what)
{
    uint64_t len;

    DBE_TRY(take_u64(c, &len, what));
    if (len > max)
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, c->at, "%s: length %" PRIu64 " exceeds %" PRIu64, what, len, max);
    DBE_TRY(need(c, len, what));
    *ret_at = c->at;
    *ret_len = (size_t)len;
    c->at += (size_t)len;
    return DBE_OK;
}

/* ---- metadata ---------------------------------------------------------------------------------------------------- */

static size_t scalar_bytes(uint32_t type)
{
    switch (type) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_BOOL: return 1;
    case GGUF_U16:
    case GGUF_I16: return 2;
    case GGUF_U32:
    case GGUF_I32:
    case GGUF_F32: return 4;
    case GGUF_U64:
    case GGUF_I64:
    case GGUF_F64: return 8;
    default: return 0;
    }
}

static dbe_err take_array(struct cursor *c, struct gguf_kv *kv, const char *name)
{
    DBE_TRY(take_u32(c, &kv->elem_type, name));
    DBE_TRY(take_u64(c, &kv->count, name));
    if (kv->count > GGUF_ARRAY_MAX)
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, c->at, "key %s: array of %" PRIu64 " elements, at most %d", name,
                        kv->count, GGUF_ARRAY_MAX);
    kv->value_at = c->at;
    if (kv->elem_type == GGUF_STRING) {
        for (uint64_t i = 0; i < kv->count; i++) {
            size_t at, len;
            DBE_TRY(take_string(c, GGUF_STRING_MAX, &at, &len, name));
        }
    } else {
        size_t size = scalar_bytes(kv->elem_type);
        if (size == 0)
            return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, c->at, "key %s: array of unknown type %" PRIu32, name,
                            kv->elem_type);
        DBE_TRY(need(c, kv->count * size, name));
        c->at += (size_t)kv->count * size;
    }
    kv->value_len = c->at - kv->value_at;
    return DBE_OK;
}

static dbe_err take_value(struct cursor *c, struct gguf_kv *kv, const char *name)
{
    kv->count = 1;
    if (kv->type == GGUF_ARRAY)
        return take_array(c, kv, name);
    if (kv->type == GGUF_STRING)
        return take_string(c, GGUF_STRING_MAX, &kv->value_at, &kv->value_len, name);
    size_t size = scalar_bytes(kv->type);
    if (size == 0)
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, c->at, "key %s: unknown type %" PRIu32, name, kv->type);
    DBE_TRY(need(c, size, name));
    kv->value_at = c->at;
    kv->value_len = size;
    c->at += size;
    if (kv->type == GGUF_BOOL && c->g->meta[kv->value_at] > 1)
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, kv->value_at, "key %s: a bool that is neither 0 nor 1", name);
    return DBE_OK;
}

/* Names go into diagnostics and comparisons, so they are printable ASCII. */
static bool name_ok(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] <= ' ' || p[i] > '~')
            return false;
    return len > 0;
}

static dbe_err take_kv(struct cursor *c, struct gguf_kv *kv, uint64_t index)
{
    char name[GGUF_NAME_MAX + 1];
    size_t len;

    snprintf(name, sizeof name, "key %" PRIu64, index);
    DBE_TRY(take_string(c, GGUF_NAME_MAX, &kv->key_at, &len, name));
    kv->key_len = (uint32_t)len;
    if (!name_ok(c->g->meta + kv->key_at, len))
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, kv->key_at, "key %" PRIu64 ": its name is not printable ASCII",
                        index);
    memcpy(name, c->g->meta + kv->key_at, len);
    name[len] = '\0';
    DBE_TRY(take_u32(c, &kv->type, name));
    return take_value(c, kv, name);
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

const char *gguf_type_name(uint32_t type)
{
    static const char *const names[] = {"F32",  "F16",  "Q4_0",      "Q4_1",       NULL,         NULL,         "Q5_0",
                                        "Q5_1", "Q8_0", "Q8_1",      "Q2_K",       "Q3_K",       "Q4_K",       "Q5_K",
                                        "Q6_K", "Q8_K", [24] = "I8", [25] = "I16", [26] = "I32", [30] = "BF16"};
    return type < BASE_ARRAY_LEN(names) && names[type] ? names[type] : "unknown";
}

static dbe_err tensor_size(struct cursor *c, struct gguf_tensor *t)
{
    const struct quant_type *q = quant_type(t->type);
    uint64_t count = 1;

    for (uint32_t i = 0; i < t->n_dims; i++)
        if (t->dims[i] == 0 || t->dims[i] > GGUF_DIM_MAX || __builtin_mul_overflow(count, t->dims[i], &count))
            return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, c->at, "tensor %s: dimension %" PRIu32 " is %" PRIu64,
                            t->name, i, t->dims[i]);
    if (count > GGUF_FILE_BYTES_MAX / 4)
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, c->at, "tensor %s: %" PRIu64 " values are too many", t->name,
                        count);
    if (!q)
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, c->at,
                        "tensor %s: type %s (%" PRIu32 ") is not supported; F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K and "
                        "Q6_K are",
                        t->name, gguf_type_name(t->type), t->type);
    if (t->dims[0] % q->values != 0)
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, c->at,
                        "tensor %s: %s rows of %" PRIu64 " values, not a multiple of %u", t->name, q->name, t->dims[0],
                        q->values);
    t->bytes = count / q->values * q->bytes;
    return DBE_OK;
}

static dbe_err take_tensor(struct cursor *c, struct gguf_tensor *t, uint64_t index)
{
    size_t at, len;
    char what[GGUF_NAME_MAX + 16];

    snprintf(what, sizeof what, "tensor %" PRIu64, index);
    DBE_TRY(take_string(c, GGUF_NAME_MAX, &at, &len, what));
    if (!name_ok(c->g->meta + at, len))
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, at, "tensor %" PRIu64 ": its name is not printable ASCII", index);
    memcpy(t->name, c->g->meta + at, len);
    t->name[len] = '\0';
    snprintf(what, sizeof what, "tensor %s", t->name);
    DBE_TRY(take_u32(c, &t->n_dims, what));
    if (t->n_dims < 1 || t->n_dims > GGUF_DIMS_MAX)
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, c->at, "tensor %s: %" PRIu32 " dimensions, 1 to %d allowed",
                        t->name, t->n_dims, GGUF_DIMS_MAX);
    for (uint32_t i = 0; i < GGUF_DIMS_MAX; i++)
        t->dims[i] = 1;
    for (uint32_t i = 0; i < t->n_dims; i++)
        DBE_TRY(take_u64(c, &t->dims[i], what));
    DBE_TRY(take_u32(c, &t->type, what));
    DBE_TRY(take_u64(c, &t->offset, what));
    return tensor_size(c, t);
}

/* ---- the whole file ---------------------------------------------------------------------------------------------- */

static dbe_err parse_header(struct cursor *c)
{
    struct gguf *g = c->g;
    uint64_t tensors, kvs;

    DBE_TRY(need(c, HEADER_BYTES, "header"));
    if (memcmp(g->meta, "GGUF", 4) != 0)
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, 0, "not a GGUF file: it does not begin with GGUF");
    c->at = 4;
    DBE_TRY(take_u32(c, &g->version, "version"));
    if (g->version != 2 && g->version != 3)
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, 4, "version %" PRIu32 " is not supported; 2 and 3 are%s",
                        g->version, (g->version & 0xffff) == 0 ? " (big-endian files are not)" : "");
    DBE_TRY(take_u64(c, &tensors, "tensor_count"));
    DBE_TRY(take_u64(c, &kvs, "metadata_kv_count"));
    if (tensors > GGUF_TENSORS_MAX || tensors > g->size / TENSOR_MIN_BYTES)
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, 8, "tensor_count %" PRIu64 " is not possible here", tensors);
    if (kvs > GGUF_KVS_MAX || kvs > g->size / KV_MIN_BYTES)
        return dbe_fail(c->diag, DBE_E_MODEL, CLAUSE, 16, "metadata_kv_count %" PRIu64 " is not possible here", kvs);
    g->kv_count = (size_t)kvs;
    g->tensor_count = (size_t)tensors;
    g->kvs = base_alloc(g->kv_count + 1, sizeof *g->kvs);
    g->tensors = base_alloc(g->tensor_count + 1, sizeof *g->tensors);
    if (!g->kvs || !g->tensors)
        return dbe_fail(c->diag, DBE_E_NOMEM, CLAUSE, 0, "no memory");
    return DBE_OK;
}

static dbe_err parse(struct gguf *g, struct dbe_diag *diag)
{
    struct cursor c = {.g = g, .diag = diag};

    if (g->size > GGUF_FILE_BYTES_MAX)
        return dbe_fail(diag, DBE_E_TOO_LARGE, CLAUSE, 0, "a file of %" PRIu64 " bytes", g->size);
    DBE_TRY(parse_header(&c));
    for (size_t i = 0; i < g->kv_count; i++)
        DBE_TRY(take_kv(&c, &g->kvs[i], i));
    for (size_t i = 0; i < g->tensor_count; i++)
        DBE_TRY(take_tensor(&c, &g->tensors[i], i));
    return gguf_check(g, c.at, diag);
}

static dbe_err open_common(struct gguf *g, struct gguf **ret, struct dbe_diag *diag)
{
    dbe_err err = parse(g, diag);

    if (err != DBE_OK) {
        gguf_close(g);
        return err;
    }
    *ret = g;
    return DBE_OK;
}

dbe_err gguf_open_mem(const void *data, size_t len, struct gguf **ret, struct dbe_diag *diag)
{
    struct gguf *g = base_alloc(1, sizeof *g);

    if (!g)
        return dbe_fail(diag, DBE_E_NOMEM, CLAUSE, 0, "no memory");
    g->fd = -1;
    g->mem = data ? data : (const void *)"";
    g->size = len;
    return open_common(g, ret, diag);
}

/* Takes `fd` over, also on error; `name` is for people. */
static dbe_err open_file(int fd, const char *name, struct gguf **ret, struct dbe_diag *diag)
{
    struct stat st;
    struct gguf *g;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return dbe_fail(diag, DBE_E_IO, CLAUSE, 0, "%.120s: not a regular file", name);
    }
    g = base_alloc(1, sizeof *g);
    if (!g) {
        close(fd);
        return dbe_fail(diag, DBE_E_NOMEM, CLAUSE, 0, "no memory");
    }
    g->fd = fd;
    g->size = (uint64_t)st.st_size;
    return open_common(g, ret, diag);
}

dbe_err gguf_open(const char *path, struct gguf **ret, struct dbe_diag *diag)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return dbe_fail(diag, errno == ENOENT ? DBE_E_NOT_FOUND : DBE_E_IO, CLAUSE, 0, "%.120s: %s", path,
                        strerror(errno));
    return open_file(fd, path, ret, diag);
}

dbe_err gguf_open_fd(int fd, struct gguf **ret, struct dbe_diag *diag)
{
    const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (own < 0)
        return dbe_fail(diag, DBE_E_IO, CLAUSE, 0, "the open file: %s", strerror(errno));
    return open_file(own, "the open file", ret, diag);
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    if (g->fd >= 0)
        close(g->fd);
    base_free(g->meta);
    base_free(g->kvs);
    base_free(g->tensors);
    base_free(g);
}

dbe_err gguf_read(const struct gguf *g, const struct gguf_tensor *t, uint64_t at, void *dst, size_t len,
                  struct dbe_diag *diag)
{
    if (at > t->bytes || len > t->bytes - at)
        return dbe_fail(diag, DBE_E_STATE, CLAUSE, (size_t)at, "tensor %s: read outside of it", t->name);
    return read_at(g, t->offset + at, dst, len, diag);
}
