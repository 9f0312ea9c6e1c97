/* SPDX-License-Identifier: Apache-2.0
 *
 * secret_test.c - the heap for private material: sizes, wiping, threads, fork, limits; and that nothing private of ours
 * or of OpenSSL's lies where a core dump would carry it off.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/backend/backend.h"
#include "crypto/secret.h"

#define OK(expr) assert_int_equal((expr), DBE_OK)

static bool all(const uint8_t *at, uint8_t value, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (at[i] != value)
            return false;
    return true;
}

static void test_sizes(void **state)
{
    struct crypto_secret_stats before = crypto_secret_stats();

    (void)state;
    for (size_t len = 0; len < 3 * CRYPTO_SECRET_BLOCK_MAX; len = len < 600 ? len + 1 : len * 21 / 20) {
        uint8_t *a = crypto_secret_alloc(len), *b = crypto_secret_alloc(len);

        assert_true(a != NULL && b != NULL && (a + len <= b || b + len <= a));
        assert_int_equal((uintptr_t)a % CRYPTO_SECRET_ALIGN, 0);
        assert_true(all(a, 0, len));
        memset(a, 0xa5, len);
        memset(b, 0x5a, len);
        assert_true(all(a, 0xa5, len));
        assert_int_equal(crypto_secret_stats().live_bytes, before.live_bytes + 2 * len);
        assert_true(crypto_secret_stats().held_bytes - before.held_bytes >= 2 * len);
        crypto_secret_free(a);
        crypto_secret_free(b);
    }
    crypto_secret_free(NULL);
    assert_int_equal(crypto_secret_stats().live_count, before.live_count);
    assert_int_equal(crypto_secret_stats().live_bytes, before.live_bytes);
    assert_int_equal(crypto_secret_stats().held_bytes, before.held_bytes);
}

/* What was freed is used again, and no secret is left in it. */
static void test_reuse(void **state)
{
    uint8_t *first = crypto_secret_alloc(1000), *again;
    size_t mapped = crypto_secret_stats().mapped_bytes;

    (void)state;
    assert_non_null(first);
    memset(first, 0xa5, 1000);
    crypto_secret_free(first);
    assert_true(all(first, 0, 1000)); /* the page is still ours: only its block is free */
    for (int i = 0; i < 100000; i++) {
        again = crypto_secret_alloc(1000);
        assert_ptr_equal(again, first);
        crypto_secret_free(again);
    }
    assert_int_equal(crypto_secret_stats().mapped_bytes, mapped);
}

static void test_no_memory(void **state)
{
    (void)state;
    base_fail_alloc_at(1);
    assert_null(crypto_secret_alloc(10));
    base_fail_alloc_at(0);
    assert_null(crypto_secret_alloc(SIZE_MAX));
    assert_null(crypto_secret_alloc(SIZE_MAX / 4)); /* no overflow, but no such memory either */
    crypto_secret_fail_at(2);
    void *one = crypto_secret_malloc(1, NULL, 0);
    assert_non_null(one);
    assert_null(crypto_secret_malloc(1, NULL, 0));
    assert_int_equal(crypto_secret_count(), 2);
    crypto_secret_fail_at(1);
    assert_null(crypto_secret_realloc(one, 1000, NULL, 0)); /* and `one` stays */
    crypto_secret_fail_at(0);
    crypto_secret_release(one, NULL, 0);
}

static void test_growing(void **state)
{
    uint8_t *p = crypto_secret_realloc(NULL, 10, NULL, 0), *q;

    (void)state;
    assert_non_null(p);
    memset(p, 1, 10);
    for (size_t len = 10; len < 3 * CRYPTO_SECRET_BLOCK_MAX; len *= 2) { /* grows, into pages of its own at the end */
        p = crypto_secret_realloc(p, 2 * len, NULL, 0);
        assert_non_null(p);
        assert_true(all(p, 1, len));
        memset(p, 1, 2 * len);
    }
    p = crypto_secret_realloc(p, 100, NULL, 0);
    assert_true(p != NULL && all(p, 1, 100));
    q = crypto_secret_realloc(p, 30, NULL, 0); /* in place, and what is cut off is wiped */
    assert_ptr_equal(p, q);
    assert_true(all(q, 1, 30) && all(q + 30, 0, 70));
    assert_null(crypto_secret_realloc(q, 0, NULL, 0)); /* as free */
}

static void *churn(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    uint8_t *mine[64] = {0};
    size_t len[64] = {0};

    for (int i = 0; i < 20000; i++) {
        seed = seed * 1103515245u + 12345u;

        size_t at = seed >> 8 & 63;

        if (mine[at] != NULL && !all(mine[at], (uint8_t)at, len[at]))
            return arg;
        crypto_secret_free(mine[at]);
        len[at] = seed >> 16 & 4095;
        mine[at] = crypto_secret_alloc(len[at]);
        if (mine[at] == NULL)
            return arg;
        memset(mine[at], (int)at, len[at]);
    }
    for (size_t at = 0; at < 64; at++)
        crypto_secret_free(mine[at]);
    return NULL;
}

static void test_threads(void **state)
{
    struct crypto_secret_stats before = crypto_secret_stats();
    pthread_t threads[4];

    (void)state;
    for (uintptr_t i = 0; i < BASE_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)), 0);
    for (size_t i = 0; i < BASE_ARRAY_LEN(threads); i++) {
        void *failed = NULL;

        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_int_equal(crypto_secret_stats().live_count, before.live_count);
}

/* Run `fn` in a child; true if it says so. */
static bool in_child(bool (*fn)(void))
{
    pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(fn() ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool use_a_little(void)
{
    return churn((void *)(uintptr_t)7) == NULL;
}

static _Atomic bool stop;

static void *churn_on(void *arg)
{
    while (!stop)
        if (churn(arg) != NULL)
            return arg;
    return NULL;
}

/* A child of a process whose other thread is inside the heap finds the heap usable. */
static void test_fork(void **state)
{
    pthread_t thread;
    void *failed = NULL;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, churn_on, (void *)(uintptr_t)3), 0);
    for (int i = 0; i < 20; i++)
        assert_true(in_child(use_a_little));
    stop = true;
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
}

static bool without_locking(void)
{
    struct rlimit none = {0};
    uint8_t *large;

    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0)
        return false;
    large = crypto_secret_alloc(4 * CRYPTO_SECRET_BLOCK_MAX);
    if (large == NULL)
        return false;
    crypto_secret_free(large);
    return churn((void *)(uintptr_t)9) == NULL;
}

static void test_no_locking(void **state)
{
    (void)state;
    assert_true(in_child(without_locking));
}

/* ---- where secrets lie ------------------------------------------------------------------------------------------ */

/* How often `what` stands in memory that a core dump would hold. The caller has it on the stack, which does not count;
 * nor does ours. `secret_at`: tells whether that address is left out of dumps. */
static size_t find_in_dump(const uint8_t *what, size_t len, const void *secret_at, bool *ret_left_out)
{
    FILE *maps = fopen("/proc/self/smaps", "r");
    char line[512], name[512] = "";
    unsigned long from = 0, to = 0;
    char mode[8] = "";
    size_t found = 0;

    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long a, b;
        char m[8];

        if (sscanf(line, "%lx-%lx %7s", &a, &b, m) == 3) {
            from = a, to = b;
            memcpy(mode, m, sizeof mode);
            memcpy(name, line, sizeof name);
        } else if (strncmp(line, "VmFlags:", 8) == 0) {
            bool left_out = strstr(line, " dd") != NULL;

            if ((uintptr_t)secret_at >= from && (uintptr_t)secret_at < to)
                *ret_left_out = left_out;
            if (left_out || mode[0] != 'r' || mode[1] != 'w' || strstr(name, "[stack") != NULL)
                continue;
            for (const uint8_t *at = (const uint8_t *)from; at + len <= (const uint8_t *)to; at++)
                found += at[0] == what[0] && memcmp(at, what, len) == 0;
        }
    }
    (void)fclose(maps);
    return found;
}

/* Sanitizers and valgrind watch every byte that is read, and map memory of their own by the terabyte. */
static void skip_if_watched(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    bool watched = false;

    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL)
        watched |= strstr(line, "vgpreload") != NULL;
    (void)fclose(maps);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    watched = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
    watched = true;
#endif
#endif
    if (watched) {
        print_message("skipped: under a sanitizer or valgrind\n");
        skip();
    }
}

static void test_left_out_of_dumps(void **state)
{
    uint8_t secret[32];
    uint8_t *ours, *plain;
    bool left_out = false;

    (void)state;
    skip_if_watched();
    ours = crypto_secret_alloc(sizeof secret);
    plain = base_alloc(sizeof secret, 1);
    OK(base_random(secret, sizeof secret));
    assert_true(ours != NULL && plain != NULL);
    memcpy(plain, secret, sizeof secret);
    assert_true(find_in_dump(secret, sizeof secret, ours, &left_out) >= 1); /* the search can find something */
    assert_true(left_out);
    base_wipe(plain, sizeof secret);
    memcpy(ours, secret, sizeof secret);
    assert_int_equal(find_in_dump(secret, sizeof secret, ours, &left_out), 0);
    crypto_secret_free(ours);
    base_free(plain);
}

/* Keys of every kind on every backend: their bytes stand nowhere but in this heap. */
static void test_keys_left_out_of_dumps(void **state)
{
    const struct crypto_backend *const *backends = NULL;
    size_t count = crypto_backends(&backends);
    uint8_t secret[CRYPTO_MLKEM_SEED_BYTES], out[CRYPTO_HASH_BYTES], ek[CRYPTO_MLKEM1024_EK_BYTES];
    uint8_t sk[CRYPTO_MLDSA87_SK_BYTES];
    bool unused = false;

    (void)state;
    skip_if_watched();
#ifdef CRYPTO_OPENSSL_PRIVATE
    assert_true(crypto_secret_stats().openssl);
#else
    print_message("skipped: OpenSSL is the system's and keeps the ordinary heap\n");
    skip();
#endif
    for (size_t k = 0; k < count; k++) {
        const struct crypto_backend *b = backends[k];

        OK(b->init(NULL));
        for (size_t i = 0; b->aead[i] != NULL; i++) {
            struct crypto_aead_ctx *ctx = NULL;

            OK(base_random(secret, sizeof secret));
            OK(b->aead[i]->new_ctx(secret, true, &ctx)); /* the schedule of AES-256 begins with the key */
            assert_int_equal(find_in_dump(secret, CRYPTO_AEAD_KEY_BYTES, NULL, &unused), 0);
            b->aead[i]->free_ctx(ctx);
        }
        for (size_t i = 0; b->kem[i] != NULL; i++) {
            struct crypto_kem_key *dk = NULL;

            OK(base_random(secret, sizeof secret));
            OK(b->kem[i]->from_seed(secret, &dk, ek));
            assert_int_equal(find_in_dump(secret, 32, NULL, &unused), 0);
            assert_int_equal(find_in_dump(secret + 32, 32, NULL, &unused), 0); /* z, which the key keeps */
            b->kem[i]->key_free(dk);
        }
        for (size_t i = 0; b->ecdh[i] != NULL; i++) {
            struct crypto_ecdh_key *key = NULL;

            OK(base_random(secret, sizeof secret));
            secret[0] = secret[31] = 0x40; /* below the order of P-384, and as X25519 clamps it */
            OK(b->ecdh[i]->from_private(secret, &key));
            assert_int_equal(find_in_dump(secret + 1, 30, NULL, &unused), 0);
            for (size_t at = 0; at < 24; at++) /* as a big number lies in memory */
                out[at] = secret[24 - at];
            assert_int_equal(find_in_dump(out, 24, NULL, &unused), 0);
            b->ecdh[i]->key_free(key);
        }
        for (size_t i = 0; b->sig[i] != NULL; i++) {
            struct crypto_key *made = NULL, *key = NULL;

            OK(crypto_key_generate(&made));
            OK(crypto_key_with(made, b->sig[i], &key));
            OK(crypto_key_secret(key, sk));
            assert_int_equal(find_in_dump(sk + 32, 32, NULL, &unused), 0);  /* K, which is in every form of the key */
            assert_int_equal(find_in_dump(sk + 128, 64, NULL, &unused), 0); /* s1 */
            crypto_key_free(key);
            crypto_key_free(made);
        }
    }
    OK(base_random(secret, sizeof secret));
    OK(crypto_hkdf_expand(secret, "info", 4, out, sizeof out));
    assert_int_equal(find_in_dump(secret, sizeof secret, NULL, &unused), 0);
    assert_int_equal(find_in_dump(out, sizeof out, NULL, &unused), 0);
    OK(crypto_hmac(secret, sizeof secret, "x", 1, out));
    assert_int_equal(find_in_dump(secret, sizeof secret, NULL, &unused), 0);
}

static int setup(void **state)
{
    struct dbe_diag diag = {0};

    (void)state;
    return crypto_init(&diag) == DBE_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_growing),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_no_locking),
        cmocka_unit_test(test_left_out_of_dumps),
        cmocka_unit_test(test_keys_left_out_of_dumps),
    };
    return cmocka_run_group_tests_name("secret", tests, setup, NULL);
}
