/* SPDX-License-Identifier: Apache-2.0
 *
 * gguf.h - reader of the GGUF container (versions 2 and 3, little endian).
 *
 * In:   a file or bytes in memory; hostile.
 * Out:  checked metadata (key -> typed value) and a checked table of tensors whose data can be read by range.
 * Not:  no meaning of keys or tensors (model.c, vocab.c), no writing (quantize.c).
 *
 * The file is read with pread into memory of our own, never mapped: weights are repacked at load anyway, a map would
 * hold every page twice for a while, and a file that shrinks under a map kills the process where a short read is an
 * error. Source: the GGUF specification of the ggml project.
 */
#ifndef LLM_GGUF_H
#define LLM_GGUF_H

#include "base/base.h"
#include "quants.h"

enum {
    GGUF_KVS_MAX = 4096,
    GGUF_TENSORS_MAX = 65536,
    GGUF_DIMS_MAX = 4,
    GGUF_NAME_MAX = 127,             /* bytes of a tensor's name or a key */
    GGUF_META_BYTES_MAX = 256 << 20, /* everything before the tensors' data */
    GGUF_ARRAY_MAX = 4 << 20,        /* elements of one array */
    GGUF_STRING_MAX = 1 << 20,       /* bytes of one string */
    GGUF_ALIGN_MAX = 1 << 16,
    GGUF_ALIGN_DEFAULT = 32
};
#define GGUF_FILE_BYTES_MAX (UINT64_C(1) << 42)
#define GGUF_DIM_MAX (UINT64_C(1) << 31)

enum gguf_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12
};

enum { GGUF_Q8_0_VALUES = 32, GGUF_Q8_0_BYTES = 34 };

struct gguf_kv {
    size_t key_at; /* offset of the key in meta */
    uint32_t key_len;
    uint32_t type;      /* enum gguf_type */
    uint32_t elem_type; /* of an array */
    uint64_t count;     /* elements of an array; 1 otherwise */
    size_t value_at;    /* offset of the value, of an array's first element, of a string's bytes */
    size_t value_len;   /* bytes */
};

struct gguf_tensor {
    char name[GGUF_NAME_MAX + 1];
    uint32_t type; /* enum gguf_tensor_type */
    uint32_t n_dims;
    uint64_t dims[GGUF_DIMS_MAX]; /* dims[0] is the row length; unused ones are 1 */
    uint64_t offset;              /* from the start of the file */
    uint64_t bytes;
};

struct gguf {
    int fd; /* -1: memory */
    const uint8_t *mem;
    uint64_t size;
    uint8_t *meta; /* the first meta_len bytes of the file */
    size_t meta_len;
    uint32_t version;
    uint32_t alignment;
    uint64_t data_at;
    struct gguf_kv *kvs;
    size_t kv_count;
    struct gguf_tensor *tensors;
    size_t tensor_count;
};

/* Open and check. On error nothing is held. E_NOT_FOUND, E_IO, E_MODEL, E_TOO_LARGE, E_NOMEM. */
dbe_err gguf_open(const char *path, struct gguf **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
/* The same with a file that is open for reading, which stays the caller's. It is read at offsets. */
dbe_err gguf_open_fd(int fd, struct gguf **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
/* `data` must outlive the reader. */
dbe_err gguf_open_mem(const void *data, size_t len, struct gguf **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
void gguf_close(struct gguf *g);

/* Lookup; NULL: not there. */
const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name);
const char *gguf_type_name(uint32_t tensor_type);

/* Typed access. A missing key gives `absent` for the ..._or forms; a key of another type is E_MODEL. */
dbe_err gguf_get_u32(const struct gguf *g, const char *key, uint32_t *ret, struct dbe_diag *diag) DBE_MUST_CHECK;
dbe_err gguf_get_u32_or(const struct gguf *g, const char *key, uint32_t absent, uint32_t *ret,
                        struct dbe_diag *diag) DBE_MUST_CHECK;
dbe_err gguf_get_f32(const struct gguf *g, const char *key, float *ret, struct dbe_diag *diag) DBE_MUST_CHECK;
dbe_err gguf_get_f32_or(const struct gguf *g, const char *key, float absent, float *ret,
                        struct dbe_diag *diag) DBE_MUST_CHECK;
dbe_err gguf_get_bool_or(const struct gguf *g, const char *key, bool absent, bool *ret,
                         struct dbe_diag *diag) DBE_MUST_CHECK;
/* Bytes of a string value (not NUL-terminated, in g->meta); absent: *ret = NULL, *ret_len = 0. */
dbe_err gguf_get_str_or_null(const struct gguf *g, const char *key, const char **ret, size_t *ret_len,
                             struct dbe_diag *diag) DBE_MUST_CHECK;
/* An array of `elem_type`; `required` makes absence an error, else *ret = NULL. */
dbe_err gguf_get_array(const struct gguf *g, const char *key, uint32_t elem_type, bool required,
                       const struct gguf_kv **ret, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Walk an array of strings: start with *at = kv->value_at; call kv->count times. */
const char *gguf_next_str(const struct gguf *g, size_t *at, size_t *ret_len);
/* Element `i` of an array of F32 or I32/U32. */
float gguf_array_f32(const struct gguf *g, const struct gguf_kv *kv, uint64_t i);
uint32_t gguf_array_u32(const struct gguf *g, const struct gguf_kv *kv, uint64_t i);

/* Copy `len` bytes from `at` of a tensor's data. E_IO, E_MODEL (the file shrank). */
dbe_err gguf_read(const struct gguf *g, const struct gguf_tensor *t, uint64_t at, void *dst, size_t len,
                  struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
