/* SPDX-License-Identifier: Apache-2.0
 *
 * secret.h - a heap for private material: left out of core dumps, locked into memory as far as the limit allows, wiped
 * when freed.
 *
 * base_secret_alloc gives whole pages, one mapping each. Keys are many and small (ten thousand channels hold twenty
 * thousand key schedules), so this heap shares chunks of pages among them. It also serves all of OpenSSL where that is
 * our private copy: what the library keeps of a key (ML-KEM and ML-DSA vectors, EC scalars, AES key schedules, HMAC and
 * HKDF states, decoded PEM) then lies here as well, and not only what it deems secret itself.
 *
 * Memory goes back to the system only in blocks above CRYPTO_SECRET_BLOCK_MAX; the rest is kept for the next use, so
 * the heap is as large as it once had to be. Threads: all of this is thread-safe, fork included.
 * What it cannot do is said in SOUNDNESS.md: the stack, registers, and pages beyond RLIMIT_MEMLOCK.
 */
#ifndef CRYPTO_SECRET_H
#define CRYPTO_SECRET_H

#include "base/base.h"

enum {
    CRYPTO_SECRET_ALIGN = 64,
    CRYPTO_SECRET_CHUNK_BYTES = 256 * 1024,
    CRYPTO_SECRET_BLOCK_MAX = 256 * 1024,
};

/* Zeroed, aligned to CRYPTO_SECRET_ALIGN; NULL when there is none. Counts as an allocation for base_fail_alloc_at. */
void *crypto_secret_alloc(size_t len);
/* Wipes, then frees; takes NULL. */
void crypto_secret_free(void *ptr);

/* Put this heap behind OpenSSL, before its first allocation; idempotent. False, and OpenSSL keeps the ordinary heap,
 * where the OpenSSL is the system's, which other code of the process shares; where something has used it already; and
 * under AddressSanitizer, which is to see every object by itself. */
bool crypto_secret_serve_openssl(void);

struct crypto_secret_stats {
    size_t mapped_bytes;           /* taken from the system */
    size_t live_bytes, live_count; /* asked for and not freed */
    size_t held_bytes;             /* what that takes, heads and rounding included */
    bool openssl;                  /* crypto_secret_serve_openssl took hold */
};
struct crypto_secret_stats crypto_secret_stats(void);

/* For tests: make the n-th allocation of OpenSSL from now on fail, once; 0 never. And those since then. */
void crypto_secret_fail_at(uint64_t nth);
uint64_t crypto_secret_count(void);

/* The three functions that OpenSSL is given: as malloc, realloc and free, aligned to 16. Exposed for the tests. */
void *crypto_secret_malloc(size_t len, const char *file, int line);
void *crypto_secret_realloc(void *ptr, size_t len, const char *file, int line);
void crypto_secret_release(void *ptr, const char *file, int line);

#endif
