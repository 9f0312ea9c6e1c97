/* SPDX-License-Identifier: Apache-2.0
 *
 * gguf_check.c - what the entries of a GGUF file must be to each other.
 *
 * In:   keys and tensors that were read, each sound by itself. Out: where tensors lie, or which two entries clash.
 * Not:  no reading (gguf.c), no meaning of keys.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_priv.h"

/* ---- tensors' data ----------------------------------------------------------------------------------------------- */

static int by_offset(const void *a, const void *b)
{
    const struct gguf_tensor *const *x = a, *const *y = b;
    return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

/* Offsets become absolute; every tensor lies inside the file, aligned, and shares no byte with another. */
static dbe_err place_tensors(struct gguf *g, size_t table_end, struct dbe_diag *diag)
{
    BASE_AUTO_FREE struct gguf_tensor **sorted = base_alloc(g->tensor_count + 1, sizeof(struct gguf_tensor *));

    if (!sorted)
        return dbe_fail(diag, DBE_E_NOMEM, CLAUSE, 0, "no memory");
    g->data_at = ((uint64_t)table_end + g->alignment - 1) / g->alignment * g->alignment;
    for (size_t i = 0; i < g->tensor_count; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        if (t->offset % g->alignment != 0)
            return dbe_fail(diag, DBE_E_MODEL, CLAUSE, table_end,
                            "tensor %s: offset %" PRIu64 " is not a multiple of the alignment %" PRIu32, t->name,
                            t->offset, g->alignment);
        if (g->data_at > g->size || t->offset > g->size - g->data_at || t->bytes > g->size - g->data_at - t->offset)
            return dbe_fail(diag, DBE_E_MODEL, CLAUSE, table_end,
                            "tensor %s: offset %" PRIu64 " with %" PRIu64 " bytes is beyond end of file", t->name,
                            t->offset, t->bytes);
        t->offset += g->data_at;
        sorted[i] = t;
    }
    qsort(sorted, g->tensor_count, sizeof *sorted, by_offset);
    for (size_t i = 1; i < g->tensor_count; i++)
        if (sorted[i - 1]->offset + sorted[i - 1]->bytes > sorted[i]->offset)
            return dbe_fail(diag, DBE_E_MODEL, CLAUSE, table_end, "tensor %.80s: its data overlap tensor %.80s",
                            sorted[i]->name, sorted[i - 1]->name);
    return DBE_OK;
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

struct name_ref {
    const char *p;
    size_t len;
};

static int by_name(const void *a, const void *b)
{
    const struct name_ref *x = a, *y = b;
    int d = memcmp(x->p, y->p, BASE_MIN(x->len, y->len));
    return d != 0 ? d : (x->len > y->len) - (x->len < y->len);
}

static dbe_err refuse_equal_names(struct name_ref *names, size_t count, const char *what, struct dbe_diag *diag)
{
    qsort(names, count, sizeof *names, by_name);
    for (size_t i = 1; i < count; i++)
        if (by_name(&names[i - 1], &names[i]) == 0)
            return dbe_fail(diag, DBE_E_MODEL, CLAUSE, 0, "%s %.*s: occurs twice", what, (int)names[i].len, names[i].p);
    return DBE_OK;
}

static dbe_err refuse_duplicates(const struct gguf *g, struct dbe_diag *diag)
{
    size_t most = BASE_MAX(g->kv_count, g->tensor_count);
    BASE_AUTO_FREE struct name_ref *names = base_alloc(most + 1, sizeof *names);

    if (!names)
        return dbe_fail(diag, DBE_E_NOMEM, CLAUSE, 0, "no memory");
    for (size_t i = 0; i < g->kv_count; i++)
        names[i] = (struct name_ref){(const char *)g->meta + g->kvs[i].key_at, g->kvs[i].key_len};
    DBE_TRY(refuse_equal_names(names, g->kv_count, "key", diag));
    for (size_t i = 0; i < g->tensor_count; i++)
        names[i] = (struct name_ref){g->tensors[i].name, strlen(g->tensors[i].name)};
    return refuse_equal_names(names, g->tensor_count, "tensor", diag);
}

dbe_err gguf_check(struct gguf *g, size_t table_end, struct dbe_diag *diag)
{
    DBE_TRY(refuse_duplicates(g, diag));
    DBE_TRY(gguf_get_u32_or(g, "general.alignment", GGUF_ALIGN_DEFAULT, &g->alignment, diag));
    if (g->alignment < 8 || g->alignment > GGUF_ALIGN_MAX || (g->alignment & (g->alignment - 1)) != 0)
        return dbe_fail(diag, DBE_E_MODEL, CLAUSE, 0,
                        "key general.alignment: %" PRIu32 " is not a power of two from 8 to %d", g->alignment,
                        GGUF_ALIGN_MAX);
    return place_tensors(g, table_end, diag);
}
