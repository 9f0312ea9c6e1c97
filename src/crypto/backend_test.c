/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_test.c - the backends of this build against each other, and the choice among them.
 *
 * spec 6.2 fixes the algorithms: what one backend made, every other one takes, bit by bit the same where nothing is
 * drawn. The choice by dbe_crypto_select is tested in children, for it is made once in a process's life.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/backend/backend.h"

#define OK(expr) assert_int_equal((expr), DBE_OK)
#define ERR(err, expr) assert_int_equal((expr), (err))

static const struct crypto_backend *const *all;
static size_t count;

/* ---- one makes, another takes ----------------------------------------------------------------------------------- */

static void cross_aead(const struct crypto_aead *from, const struct crypto_aead *to)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 64, 255, 256, 1024, 4097, 65536};
    static uint8_t text[65536], box[65536 + 16], same[65536 + 16], out[65536];
    struct crypto_aead_ctx *seal = NULL, *also = NULL, *open = NULL;
    uint8_t key[32], iv[12];

    OK(base_random(key, sizeof key));
    OK(base_random(text, sizeof text));
    OK(from->new_ctx(key, true, &seal));
    OK(to->new_ctx(key, true, &also));
    OK(to->new_ctx(key, false, &open));
    for (size_t i = 0; i < BASE_ARRAY_LEN(sizes); i++) {
        for (size_t aad_len = 0; aad_len <= 48; aad_len += 16) {
            size_t len = sizes[i];

            OK(base_random(iv, sizeof iv));
            OK(from->seal(seal, iv, key, aad_len % sizeof key, text, len, box));
            OK(to->seal(also, iv, key, aad_len % sizeof key, text, len, same));
            assert_memory_equal(box, same, len + 16);
            OK(to->open(open, iv, key, aad_len % sizeof key, box, len + 16, out));
            assert_memory_equal(out, text, len);
            box[len] ^= 1;
            ERR(DBE_E_AUTH, to->open(open, iv, key, aad_len % sizeof key, box, len + 16, out));
        }
    }
    from->free_ctx(seal);
    to->free_ctx(also);
    to->free_ctx(open);
}

static void cross_kem(const struct crypto_kem *from, const struct crypto_kem *to)
{
    struct crypto_kem_key *dk = NULL, *other = NULL;
    uint8_t seed[64], m[32], ek[1568], ek2[1568], ct[1568], ct2[1568], a[32], b[32], c[32];

    for (int i = 0; i < 16; i++) {
        OK(base_random(seed, sizeof seed));
        OK(base_random(m, sizeof m));
        OK(from->from_seed(seed, &dk, ek));
        OK(to->from_seed(seed, &other, ek2));
        assert_memory_equal(ek, ek2, sizeof ek);
        OK(from->encaps_m(ek, m, ct, a));
        OK(to->encaps_m(ek, m, ct2, b));
        assert_memory_equal(ct, ct2, sizeof ct);
        assert_memory_equal(a, b, sizeof a);
        OK(to->encaps(ek, ct, a)); /* drawn by one, opened by the other */
        OK(from->decaps(dk, ct, b));
        assert_memory_equal(a, b, sizeof a);
        ct[i] ^= 1; /* and rejected alike: FIPS 203 section 6.3 */
        OK(from->decaps(dk, ct, b));
        OK(to->decaps(other, ct, c));
        assert_memory_equal(b, c, sizeof b);
        assert_memory_not_equal(a, b, sizeof a);
        from->key_free(dk);
        to->key_free(other);
    }
}

static void cross_sig(const struct crypto_key *made, const struct crypto_sig *from, const struct crypto_sig *to)
{
    static const uint8_t zeros[CRYPTO_MLDSA_RND_BYTES];
    struct crypto_key *a = NULL, *b = NULL;
    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES], same[CRYPTO_MLDSA87_SIG_BYTES], msg[200];

    OK(crypto_key_with(made, from, &a));
    OK(crypto_key_with(made, to, &b));
    for (size_t len = 0; len <= sizeof msg; len += 50) {
        OK(base_random(msg, sizeof msg));
        OK(crypto_sign(a, "cross", msg, len, sig));
        OK(crypto_verify(b, "cross", msg, len, sig, sizeof sig));
        ERR(DBE_E_AUTH, crypto_verify(b, "crosS", msg, len, sig, sizeof sig));
        sig[len] ^= 4;
        ERR(DBE_E_AUTH, crypto_verify(b, "cross", msg, len, sig, sizeof sig));
        OK(crypto_sign_rnd(a, msg, len, msg, len, zeros, sig));
        OK(crypto_sign_rnd(b, msg, len, msg, len, zeros, same));
        assert_memory_equal(sig, same, sizeof sig);
    }
    crypto_key_free(a);
    crypto_key_free(b);
}

static void test_cross(void **state)
{
    struct crypto_key *made = NULL;

    (void)state;
    OK(crypto_key_generate(&made));
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            if (all[i]->aead[0] != NULL && all[j]->aead[0] != NULL)
                cross_aead(all[i]->aead[0], all[j]->aead[0]);
            if (all[i]->kem[0] != NULL && all[j]->kem[0] != NULL)
                cross_kem(all[i]->kem[0], all[j]->kem[0]);
            if (all[i]->sig[0] != NULL && all[j]->sig[0] != NULL)
                cross_sig(made, all[i]->sig[0], all[j]->sig[0]);
        }
    }
    crypto_key_free(made);
}

/* A key that one backend's process wrote is read and used by another's; its public half serves X.509 in all. */
static void test_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < count; i++) {
        struct crypto_key *made = NULL, *read = NULL, *pub = NULL;
        struct base_buf pem;
        uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES], pk[CRYPTO_MLDSA87_PK_BYTES], sk[CRYPTO_MLDSA87_SK_BYTES];

        if (all[i]->sig[0] == NULL)
            continue;
        base_buf_init(&pem, 64 * 1024);
        crypto_key_use(all[i]->sig[0]);
        OK(crypto_key_generate(&made));
        OK(crypto_key_to_pem(made, &pem));
        OK(crypto_sign(made, "c", "m", 1, sig));
        for (size_t j = 0; j < count; j++) {
            if (all[j]->sig[0] == NULL)
                continue;
            crypto_key_use(all[j]->sig[0]);
            OK(crypto_key_from_pem(pem.data, pem.len, &read));
            OK(crypto_key_public(read, pk));
            OK(crypto_verify(read, "c", "m", 1, sig, sizeof sig));
            OK(crypto_sign(read, "c", "m", 1, sig));
            OK(crypto_key_from_public(pk, &pub));
            OK(crypto_verify(pub, "c", "m", 1, sig, sizeof sig));
            assert_non_null(crypto_key_native(pub));
            assert_ptr_equal(crypto_key_native(pub), crypto_key_native(pub)); /* made once */
            OK(crypto_key_secret(read, sk));
            ERR(DBE_E_ARGUMENT, crypto_key_secret(pub, sk));
            ERR(DBE_E_ARGUMENT, crypto_sign(pub, "c", "m", 1, sig));
            ERR(DBE_E_ARGUMENT, crypto_key_to_pem(pub, &pem));
            crypto_key_free(read);
            crypto_key_free(pub);
        }
        base_wipe(sk, sizeof sk);
        base_buf_free(&pem);
        crypto_key_free(made);
    }
    crypto_key_use(crypto_suite(CRYPTO_SUITE_1)->sig);
}

/* ---- threads ---------------------------------------------------------------------------------------------------- */

static struct crypto_key *shared_private, *shared_public;

/* Everything that a key's users in several threads may do at once. */
static void *use_keys(void *arg)
{
    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES], msg[32];
    void *native = crypto_key_native(shared_public);

    memset(msg, (int)(uintptr_t)arg, sizeof msg);
    for (int i = 0; i < 20; i++) {
        struct crypto_key *own = crypto_key_ref(shared_private);
        bool ok = crypto_sign(own, "threads", msg, sizeof msg, sig) == DBE_OK &&
                  crypto_verify(shared_public, "threads", msg, sizeof msg, sig, sizeof sig) == DBE_OK &&
                  crypto_key_native(shared_public) == native && native != NULL;

        crypto_key_free(own);
        if (!ok)
            return arg;
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    for (size_t i = 0; i < count; i++) {
        uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
        pthread_t threads[4];

        if (all[i]->sig[0] == NULL)
            continue;
        crypto_key_use(all[i]->sig[0]);
        OK(crypto_key_generate(&shared_private));
        OK(crypto_key_public(shared_private, pk));
        OK(crypto_key_from_public(pk, &shared_public));
        for (uintptr_t t = 0; t < BASE_ARRAY_LEN(threads); t++)
            assert_int_equal(pthread_create(&threads[t], NULL, use_keys, (void *)(t + 1)), 0);
        for (size_t t = 0; t < BASE_ARRAY_LEN(threads); t++) {
            void *failed = NULL;

            assert_int_equal(pthread_join(threads[t], &failed), 0);
            assert_null(failed);
        }
        crypto_key_free(shared_private);
        crypto_key_free(shared_public);
    }
    crypto_key_use(crypto_suite(CRYPTO_SUITE_1)->sig);
}

/* ---- the choice ------------------------------------------------------------------------------------------------- */

static void test_parse(void **state)
{
    struct crypto_choice choice;
    struct dbe_diag diag;

    (void)state;
    OK(crypto_choice_parse("", "here", &choice, &diag));
    assert_true(choice.aead == NULL && choice.kem == NULL && choice.sig == NULL && choice.ecdh == NULL);
    OK(crypto_choice_parse("aead=openssl,kem=openssl,sig=openssl,ecdh=openssl", "here", &choice, &diag));
    assert_ptr_equal(choice.aead, &crypto_openssl);
    assert_ptr_equal(choice.ecdh, &crypto_openssl);
    for (size_t i = 1; i < count; i++) { /* each other backend, for what it does */
        char spec[64];
        struct base_buf b;

        assert_ptr_equal(crypto_backend(all[i]->name), all[i]);
        base_buf_init_fixed(&b, spec, sizeof spec);
        base_buf_fmt(&b, "%s=%s", all[i]->aead[0] != NULL ? "aead" : "sig", all[i]->name);
        OK(crypto_choice_parse(base_buf_cstr(&b), "here", &choice, &diag));
        assert_ptr_equal(all[i]->aead[0] != NULL ? choice.aead : choice.sig, all[i]);
        base_buf_clear(&b);
        base_buf_fmt(&b, "ecdh=%s", all[i]->name); /* which is OpenSSL's alone */
        ERR(DBE_E_UNSUPPORTED, crypto_choice_parse(base_buf_cstr(&b), "here", &choice, &diag));
    }
}

static void test_parse_errors(void **state)
{
    static const struct {
        const char *spec;
        dbe_err err;
        size_t offset;
        const char *says;
    } cases[] = {
        {"aead", DBE_E_ARGUMENT, 0, "slot=backend"},
        {",", DBE_E_ARGUMENT, 0, "slot=backend"},
        {"aead=openssl,", DBE_E_ARGUMENT, 13, "slot=backend"},
        {"aead=openssl,,kem=openssl", DBE_E_ARGUMENT, 13, "slot=backend"},
        {"=openssl", DBE_E_ARGUMENT, 0, "no slot"},
        {"aeads=openssl", DBE_E_ARGUMENT, 0, "no slot \"aeads\""},
        {"AEAD=openssl", DBE_E_ARGUMENT, 0, "no slot"},
        {"aead=openssl,aead=openssl", DBE_E_ARGUMENT, 13, "twice"},
        {"aead=", DBE_E_UNSUPPORTED, 0, "no backend \"\" for aead in this build; it has openssl"},
        {"aead=nettle", DBE_E_UNSUPPORTED, 0, "no backend \"nettle\" for aead in this build; it has openssl"},
        {"aead=openssl ", DBE_E_UNSUPPORTED, 0, "no backend"},
        {"kem=openssl,aead=openss", DBE_E_UNSUPPORTED, 12, "no backend \"openss\""},
    };
    struct crypto_choice choice = {.kem = &crypto_openssl};
    char *endless = base_alloc(100000, 1);

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++) {
        struct dbe_diag diag = {0};

        ERR(cases[i].err, crypto_choice_parse(cases[i].spec, "here", &choice, &diag));
        assert_string_equal(diag.clause, "here");
        assert_int_equal(diag.offset, cases[i].offset);
        assert_non_null(strstr(diag.text, cases[i].says));
        ERR(cases[i].err, crypto_choice_parse(cases[i].spec, "here", &choice, NULL));
    }
    assert_non_null(endless);
    memset(endless, 'a', 99999);
    ERR(DBE_E_ARGUMENT, crypto_choice_parse(endless, "here", &choice, NULL));
    memcpy(endless, "kem=", 4);
    ERR(DBE_E_UNSUPPORTED, crypto_choice_parse(endless, "here", &choice, NULL));
    base_free(endless);
    assert_ptr_equal(choice.kem, &crypto_openssl); /* untouched by all of that */
    assert_null(crypto_backend("nettle"));
}

/* For people: every backend has its line, with what it does. */
static void test_backends_text(void **state)
{
    const char *text = dbe_crypto_backends();

    (void)state;
    assert_ptr_equal(text, dbe_crypto_backends());
    assert_non_null(strstr(text, "openssl: ecdh kem sig aead (OpenSSL 3."));
    for (size_t i = 0; i < count; i++) {
        assert_non_null(strstr(text, all[i]->name));
        assert_non_null(strstr(text, all[i]->version()));
    }
}

/* ---- choices are made once in a process: each in a child of its own --------------------------------------------- */

static void in_child(bool (*fn)(void))
{
    pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0)
        exit(fn() ? 0 : 1); /* not _exit: what was covered shall be counted */
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The last backend that does `slot`, which is another one than OpenSSL where there is one. */
static const struct crypto_backend *last(bool aead)
{
    const struct crypto_backend *found = NULL;

    for (size_t i = 0; i < count; i++)
        if (aead ? all[i]->aead[0] != NULL : all[i]->sig[0] != NULL)
            found = all[i];
    return found;
}

static bool select_all(void)
{
    const struct crypto_backend *aead = last(true), *sig = last(false);
    const struct crypto_suite *s = crypto_suite(CRYPTO_SUITE_2);
    char spec[128];
    struct base_buf b;
    struct dbe_diag diag = {0};

    base_buf_init_fixed(&b, spec, sizeof spec);
    base_buf_fmt(&b, "aead=%s,kem=%s,sig=%s", aead->name, sig->name, sig->name);
    return setenv("DSMIL_CRYPTO", "aead=absent", 1) == 0 && /* the call wins over it */
           dbe_crypto_select("aead=openssl", &diag) == DBE_OK &&
           dbe_crypto_select("aead=absent", &diag) == DBE_E_UNSUPPORTED && /* and leaves the last choice */
           dbe_crypto_select(base_buf_cstr(&b), &diag) == DBE_OK &&        /* the latest counts */
           strstr(crypto_backend_version(), "OpenSSL 3.") != NULL && crypto_init(&diag) == DBE_OK &&
           s->aead == aead->aead[0] && s->kem == sig->kem[0] && s->sig == sig->sig[0] &&
           s->ecdh == crypto_openssl.ecdh[1] && strstr(crypto_backend_version(), aead->version()) != NULL &&
           strstr(crypto_backend_version(), sig->version()) != NULL && dbe_crypto_select("", &diag) == DBE_E_STATE &&
           strstr(diag.text, "in use") != NULL;
}

static bool environment(void)
{
    const struct crypto_backend *aead = last(true);
    char spec[64];
    struct base_buf b;
    struct dbe_diag diag = {0};

    base_buf_init_fixed(&b, spec, sizeof spec);
    base_buf_fmt(&b, "aead=%s", aead->name);
    return setenv("DSMIL_CRYPTO", "aead=absent", 1) == 0 && crypto_init(&diag) == DBE_E_UNSUPPORTED &&
           strcmp(diag.clause, "DSMIL_CRYPTO") == 0 && strstr(diag.text, "absent") != NULL &&
           setenv("DSMIL_CRYPTO", base_buf_cstr(&b), 1) == 0 && crypto_init(&diag) == DBE_OK &&
           crypto_suite(CRYPTO_SUITE_1)->aead == aead->aead[0] && crypto_init(NULL) == DBE_OK;
}

/* Nothing works before crypto_init, and nothing crashes. */
static bool before_init(void)
{
    const struct crypto_suite *s1 = crypto_suite(CRYPTO_SUITE_1), *s2 = crypto_suite(CRYPTO_SUITE_2);
    struct crypto_aead_ctx *aead = NULL;
    struct crypto_ecdh_key *ec = NULL;
    struct crypto_kem_key *dk = NULL;
    struct crypto_key *key = NULL;
    struct crypto_hash *hash = NULL;
    uint8_t buf[CRYPTO_MLDSA87_PK_BYTES] = {0};

    for (size_t i = 0; i < count; i++)
        if (all[i]->aead[0] != NULL && all[i]->aead[0]->new_ctx(buf, true, &aead) != DBE_E_STATE)
            return false;
    return s1->ecdh->keygen(&ec, buf) == DBE_E_STATE && s2->ecdh->keygen(&ec, buf) == DBE_E_STATE &&
           s1->kem->keygen(&dk, buf) == DBE_E_STATE && crypto_key_generate(&key) == DBE_E_STATE &&
           crypto_key_from_public(buf, &key) == DBE_E_STATE && crypto_key_from_native(NULL, &key) == DBE_E_STATE &&
           crypto_key_from_pem("x", 1, &key) == DBE_E_STATE && crypto_hash_new(&hash) == DBE_E_STATE &&
           crypto_sha3_512("", 0, buf) == DBE_E_STATE && crypto_hmac("", 0, "", 0, buf) == DBE_E_STATE &&
           crypto_hkdf_expand(buf, "", 0, buf, 1) == DBE_E_STATE;
}

static void test_choices(void **state)
{
    (void)state;
    in_child(select_all);
    in_child(environment);
    in_child(before_init);
}

static int start(void **state)
{
    (void)state;
    if (crypto_init(NULL) != DBE_OK)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (all[i]->init(NULL) != DBE_OK || all[i]->init(NULL) != DBE_OK) /* twice does no harm */
            return -1;
    return 0;
}

int main(void)
{
    const struct CMUnitTest unstarted[] = {cmocka_unit_test(test_choices)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cross), cmocka_unit_test(test_keys),         cmocka_unit_test(test_threads),
        cmocka_unit_test(test_parse), cmocka_unit_test(test_parse_errors), cmocka_unit_test(test_backends_text),
    };

    count = crypto_backends(&all);
    return cmocka_run_group_tests_name("choices", unstarted, NULL, NULL) +
           cmocka_run_group_tests_name("backends", tests, start, NULL);
}
