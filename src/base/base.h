/* SPDX-License-Identifier: Apache-2.0
 *
 * base.h - what every room stands on: clock, randomness, memory, bytes. Depends on libc alone.
 *
 * All impurity goes through here (tools/lint checks it), so that tests can own the clock, make the n-th random
 * draw or the n-th allocation fail, and the simulator can run on virtual time.
 * Threads: functions are thread-safe unless said otherwise; hooks are set before threads start.
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dbe/err.h"

#define BASE_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define BASE_MIN(a, b) ((a) < (b) ? (a) : (b))
#define BASE_MAX(a, b) ((a) > (b) ? (a) : (b))

enum { BASE_NS_PER_MS = 1000000, BASE_NS_PER_US = 1000 };
#define BASE_NS_PER_S UINT64_C(1000000000)

/* ---- clock -------------------------------------------------------------------------------------------- */

/* Monotonic nanoseconds: deadlines and durations. Never goes back. */
uint64_t base_mono_ns(void);

/* Unix milliseconds: what is written down and certificates' validity. May jump. */
uint64_t base_wall_ms(void);

/* Replace both clocks (tests, simulator); NULL restores the system's. Not thread-safe. */
struct base_clock_ops {
    uint64_t (*mono_ns)(void *ctx);
    uint64_t (*wall_ms)(void *ctx);
    void *ctx;
};
void base_clock_set(const struct base_clock_ops *ops);

/* ---- randomness --------------------------------------------------------------------------------------- */

/* Fill `buf` from the kernel's generator. DBE_E_RANDOM leaves it zeroed. */
dbe_err base_random(void *buf, size_t len) DBE_MUST_CHECK;

/* Replace the generator (tests, simulator, fuzzing); NULL restores the kernel's. Not thread-safe. */
struct base_random_ops {
    dbe_err (*fill)(void *ctx, void *buf, size_t len);
    void *ctx;
};
void base_random_set(const struct base_random_ops *ops);

/* ---- memory ------------------------------------------------------------------------------------------- */

/* Zeroed memory for `count` objects of `size` bytes, NULL when there is none or count * size overflows.
 * Free with base_free, which takes NULL. */
void *base_alloc(size_t count, size_t size);
void *base_realloc(void *ptr, size_t count, size_t size); /* new bytes are not zeroed; NULL leaves `ptr` valid */
char *base_strdup(const char *text);
void  base_free(void *ptr);

/* Overwrite; the compiler cannot remove it. */
void base_wipe(void *ptr, size_t len);

/* Zeroed memory for secrets: locked where the limit allows it, left out of core dumps, wiped when freed. Up to 1024
 * bytes share pages with others of their size, more has pages of its own. NULL when there is none; `len` to free is the
 * one that was asked for. */
void *base_secret_alloc(size_t len);
void  base_secret_free(void *ptr, size_t len);
/* How often memory for secrets could not be locked (RLIMIT_MEMLOCK): it is used all the same, and may reach swap. */
uint64_t base_secret_unlocked_count(void);

/* Compare without leaking where the difference is. */
bool base_equal_ct(const void *a, const void *b, size_t len);

/* Make the n-th call from now on fail, once; 0 never. For tests: allocations and random draws. */
void base_fail_alloc_at(uint64_t nth);
void base_fail_random_at(uint64_t nth);
/* For an allocator that is not of base: count one allocation; true if it is the one that a test wants to fail. */
bool base_alloc_fails(void);
/* Calls since the last base_fail_..._at. */
uint64_t base_alloc_count(void);
uint64_t base_random_count(void);

/* Owned pointers and descriptors that free themselves when the scope ends; BASE_TAKE hands ownership on. */
void base_free_p(void *pp);
void base_close_p(int *fd);
#define BASE_AUTO_FREE __attribute__((cleanup(base_free_p)))
#define BASE_AUTO_CLOSE __attribute__((cleanup(base_close_p)))
#define BASE_TAKE(p)                                                                                                   \
    ({                                                                                                                 \
        __typeof__(p) base_taken_ = (p);                                                                               \
        (p) = NULL;                                                                                                    \
        base_taken_;                                                                                                   \
    })

/* ---- reading bytes: bounds-checked cursor -------------------------------------------------------------- */

/* A read past the end sets `bad`, returns zeros and moves nothing; check once with base_cur_end or base_cur_ok. */
struct base_cur {
    const uint8_t *at, *end, *start;
    bool bad;
};
struct base_cur base_cur_of(const void *data, size_t len);
uint8_t         base_cur_u8(struct base_cur *c);
uint16_t        base_cur_u16(struct base_cur *c); /* network byte order, as all of these */
uint32_t        base_cur_u32(struct base_cur *c);
uint64_t        base_cur_u48(struct base_cur *c);
uint64_t        base_cur_u64(struct base_cur *c);
const uint8_t  *base_cur_bytes(struct base_cur *c, size_t len); /* into the input; NULL when short */
void            base_cur_copy(struct base_cur *c, void *dst, size_t len);
/* A name with its length (u8) in front, of at most `max` bytes, into `ret`, which has room for max + 1. False: too
 * long, cut off, or with a NUL, so that it would end earlier than its length says. Empty is for the caller to judge. */
bool            base_cur_name(struct base_cur *c, char *ret, size_t max);
size_t          base_cur_left(const struct base_cur *c);
size_t          base_cur_offset(const struct base_cur *c);
bool            base_cur_ok(const struct base_cur *c);
/* DBE_OK if nothing was short and every byte was consumed, else DBE_E_MALFORMED. */
dbe_err         base_cur_end(const struct base_cur *c) DBE_MUST_CHECK;

/* ---- writing bytes: growable buffer with its maximum ---------------------------------------------------- */

/* A write that does not fit into `max` sets `err` (E_TOO_LARGE or E_NOMEM) and changes nothing; later writes do
 * nothing. With `fixed` set the memory is the caller's and never grows. Not thread-safe. */
struct base_buf {
    uint8_t *data;
    size_t   len, cap, max;
    bool     fixed;
    dbe_err  err;
};
void    base_buf_init(struct base_buf *b, size_t max);                    /* grows on the heap, up to `max` */
void    base_buf_init_fixed(struct base_buf *b, void *mem, size_t cap);   /* caller's memory */
void    base_buf_free(struct base_buf *b);                                /* wipes, then frees; takes a zeroed one */
void    base_buf_clear(struct base_buf *b);                               /* keeps the memory, resets err */
void    base_buf_u8(struct base_buf *b, uint8_t v);
void    base_buf_u16(struct base_buf *b, uint16_t v);
void    base_buf_u32(struct base_buf *b, uint32_t v);
void    base_buf_u48(struct base_buf *b, uint64_t v);
void    base_buf_u64(struct base_buf *b, uint64_t v);
void    base_buf_bytes(struct base_buf *b, const void *data, size_t len);
void    base_buf_str(struct base_buf *b, const char *text);
/* A name with its length (u8) in front; E_TOO_LARGE above 255 bytes. */
void    base_buf_name(struct base_buf *b, const char *name);
void    base_buf_fmt(struct base_buf *b, const char *fmt, ...) DBE_PRINTF(2, 3);
/* Room for `len` more bytes, already counted into b->len; NULL on error. */
void   *base_buf_grow(struct base_buf *b, size_t len);
/* Remove `len` bytes from the front. */
void    base_buf_consume(struct base_buf *b, size_t len);
/* NUL-terminated view (the NUL is not counted); "" on error. */
const char *base_buf_cstr(struct base_buf *b);

void     base_put_u16(uint8_t *p, uint16_t v);
void     base_put_u32(uint8_t *p, uint32_t v);
void     base_put_u64(uint8_t *p, uint64_t v);
uint16_t base_get_u16(const uint8_t *p);
uint32_t base_get_u32(const uint8_t *p);
uint64_t base_get_u64(const uint8_t *p);

/* ---- text ----------------------------------------------------------------------------------------------- */

/* True if `len` bytes are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms) without NUL. */
bool base_utf8_valid(const void *text, size_t len);
/* Make a NUL-terminated text one line that may be sent and shown: a '?' for each byte that is of no such character, or
 * of a control character. */
void base_text_mend(char *text);
/* Append text that came from outside, without what would steer a terminal: controls become '?'. Line feeds and tabs
 * stay with `lines`, else they become spaces. `text` is UTF-8, or is shown as the bytes it is. */
void base_text_shown(struct base_buf *out, const char *text, size_t len, bool lines);
/* Lower-case hex of `len` bytes into `out` (2 * len + 1 bytes). */
void base_hex(const void *data, size_t len, char *out);
/* Parse exactly `len` bytes of hex. */
dbe_err base_unhex(const char *hex, void *out, size_t len) DBE_MUST_CHECK;
/* Append `len` bytes as base64 (RFC 4648, section 4), padded, without line feeds. */
void base_base64(struct base_buf *b, const void *data, size_t len);
/* Read base64 in exactly that spelling. E_MALFORMED; E_TOO_LARGE: more than `cap` bytes. `out` may be written on
 * error. */
dbe_err base_unbase64(const char *text, size_t len, uint8_t *out, size_t cap, size_t *ret_len) DBE_MUST_CHECK;
/* Version 4 UUID (RFC 9562) from base_random; text form takes 37 bytes. */
dbe_err base_uuid(uint8_t out[16]) DBE_MUST_CHECK;
void    base_uuid_text(const uint8_t uuid[16], char out[37]);
/* Append `text` as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void base_json_str(struct base_buf *b, const char *text, size_t len);

/* ---- files ---------------------------------------------------------------------------------------------- */

/* Append a whole regular file of at most `max` bytes to `out`, which is an initialised buffer (its own maximum counts
 * as well) or a zeroed one (it gets `max`). DBE_E_NOT_FOUND, E_TOO_LARGE, E_IO, E_NOMEM; diag names path. On error the
 * bytes of `out` are as before. */
dbe_err base_file_read(const char *path, size_t max, struct base_buf *out, struct dbe_diag *diag) DBE_MUST_CHECK;
/* The same for private material: refuses a file that is not ours or readable by others (E_PERMISSION, says chmod). */
dbe_err base_file_read_private(const char *path, size_t max, struct base_buf *out, struct dbe_diag *diag)
    DBE_MUST_CHECK;
/* Write atomically (temporary file, fsync, rename, fsync of the directory). kill -9 leaves the old or the new. */
dbe_err base_file_write(const char *path, const void *data, size_t len, unsigned mode, struct dbe_diag *diag)
    DBE_MUST_CHECK;
/* The same without waiting for the disk: kill -9 leaves the old or the new, a power cut perhaps neither whole. For what
 * is written often, checked when it is read, and can be done without. */
dbe_err base_file_replace(const char *path, const void *data, size_t len, unsigned mode, struct dbe_diag *diag)
    DBE_MUST_CHECK;
/* mkdir -p with `mode` for what is made. */
dbe_err base_mkdirs(const char *path, unsigned mode, struct dbe_diag *diag) DBE_MUST_CHECK;

/* The always-on check of our own invariants in daemons and tests; never on bytes from outside. */
#define BASE_INVARIANT(cond)                                                                                           \
    do {                                                                                                               \
        if (__builtin_expect(!(cond), 0))                                                                              \
            base_invariant_failed(#cond, __FILE__, __LINE__);                                                          \
    } while (0)
_Noreturn void base_invariant_failed(const char *cond, const char *file, int line);

#endif
