/* SPDX-License-Identifier: Apache-2.0
 *
 * wycheproof_test.c - the Wycheproof vectors of the suites' algorithms, against the ops of the backend in use.
 *
 * In: DSMIL_TEST_DATA/wycheproof (v1 JSON), or ../shared/data beside the source tree. Absent: each test says that it
 *     skips. A file that is there must hold vectors that were really run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "crypto/crypto.h"

#define OK(expr) assert_int_equal((expr), DBE_OK)

struct bytes {
    uint8_t *at;
    size_t len;
};

struct counts {
    unsigned run, skipped; /* skipped: sizes that the op cannot be asked for */
};

typedef void vector_fn(const json_t *group, const json_t *test, bool valid, struct counts *counts);

static struct bytes hex_of(const json_t *obj, const char *name)
{
    const char *hex = json_string_value(json_object_get(obj, name));
    struct bytes b = {0};

    if (hex == NULL)
        hex = "";
    b.len = strlen(hex) / 2;
    b.at = base_alloc(b.len + 1, 1);
    assert_non_null(b.at);
    OK(base_unhex(hex, b.at, b.len));
    return b;
}

static json_t *load(const char *file)
{
    const char *dir = getenv("DSMIL_TEST_DATA"), *root = getenv("DSMIL_SOURCE_ROOT");
    char path[4096];

    if (dir != NULL)
        snprintf(path, sizeof path, "%s/wycheproof/%s", dir, file);
    else
        snprintf(path, sizeof path, "%s/../shared/data/wycheproof/%s", root != NULL ? root : ".", file);
    return json_load_file(path, 0, NULL);
}

/* Run `fn` over every vector of `file`. */
static void each(const char *file, vector_fn *fn)
{
    json_t *doc = load(file);
    const json_t *group, *test;
    size_t i, j;
    struct counts counts = {0};

    if (doc == NULL) {
        print_message("skipped: no %s (set DSMIL_TEST_DATA to the folder that holds wycheproof/)\n", file);
        skip();
    }
    json_array_foreach(json_object_get(doc, "testGroups"), i, group)
    {
        json_array_foreach(json_object_get(group, "tests"), j, test)
        {
            const char *result = json_string_value(json_object_get(test, "result"));
            unsigned before = counts.run;

            fn(group, test, strcmp(result, "invalid") != 0, &counts);
            counts.skipped += counts.run == before;
        }
    }
    print_message("%s: %u run, %u not applicable\n", file, counts.run, counts.skipped);
    assert_true(counts.run > 0);
    json_decref(doc);
}

/* Compare with the vector; on a difference say which one. */
static void expect(const json_t *test, bool ok)
{
    if (!ok)
        print_error("tcId %lld: %s\n", (long long)json_integer_value(json_object_get(test, "tcId")),
                    json_string_value(json_object_get(test, "comment")));
    assert_true(ok);
}

static void gcm_vector(const json_t *group, const json_t *test, bool valid, struct counts *counts)
{
    const struct crypto_aead *aead = crypto_suite(CRYPTO_SUITE_1)->aead;
    struct crypto_aead_ctx *seal = NULL, *open = NULL;
    struct bytes key = hex_of(test, "key"), iv = hex_of(test, "iv"), aad = hex_of(test, "aad");
    struct bytes msg = hex_of(test, "msg"), ct = hex_of(test, "ct"), tag = hex_of(test, "tag");

    if (key.len == CRYPTO_AEAD_KEY_BYTES && iv.len == CRYPTO_AEAD_IV_BYTES && tag.len == CRYPTO_AEAD_TAG_BYTES) {
        uint8_t *box = base_alloc(ct.len + tag.len + 1, 1), *out = base_alloc(msg.len + tag.len + 1, 1);

        assert_true(box != NULL && out != NULL && json_is_object(group));
        memcpy(box, ct.at, ct.len);
        memcpy(box + ct.len, tag.at, tag.len);
        OK(aead->new_ctx(key.at, true, &seal));
        OK(aead->new_ctx(key.at, false, &open));
        OK(aead->seal(seal, iv.at, aad.at, aad.len, msg.at, msg.len, out));
        expect(test, (memcmp(out, box, ct.len + tag.len) == 0) == valid);
        expect(test,
               aead->open(open, iv.at, aad.at, aad.len, box, ct.len + tag.len, out) == (valid ? DBE_OK : DBE_E_AUTH));
        expect(test, !valid || memcmp(out, msg.at, msg.len) == 0);
        aead->free_ctx(seal);
        aead->free_ctx(open);
        base_free(box);
        base_free(out);
        counts->run++;
    }
    base_free(key.at), base_free(iv.at), base_free(aad.at), base_free(msg.at), base_free(ct.at), base_free(tag.at);
}

static void hmac_vector(const json_t *group, const json_t *test, bool valid, struct counts *counts)
{
    struct bytes key = hex_of(test, "key"), msg = hex_of(test, "msg"), tag = hex_of(test, "tag");
    uint8_t out[CRYPTO_HASH_BYTES];

    assert_true(json_is_object(group) && tag.len <= sizeof out);
    OK(crypto_hmac(key.at, key.len, msg.at, msg.len, out));
    expect(test, (memcmp(out, tag.at, tag.len) == 0) == valid); /* shorter tags are prefixes */
    counts->run++;
    base_free(key.at), base_free(msg.at), base_free(tag.at);
}

static void p384_vector(const json_t *group, const json_t *test, bool valid, struct counts *counts)
{
    const struct crypto_ecdh *ecdh = crypto_suite(CRYPTO_SUITE_1)->ecdh;
    struct bytes pub = hex_of(test, "public"), priv = hex_of(test, "private"), want = hex_of(test, "shared");
    struct crypto_ecdh_key *key = NULL;
    uint8_t d[CRYPTO_P384_SS_BYTES] = {0}, ss[CRYPTO_P384_SS_BYTES];
    size_t lead = priv.len > sizeof d ? priv.len - sizeof d : 0; /* a leading zero of DER */

    assert_true(json_is_object(group));
    if (pub.len == CRYPTO_P384_PUB_BYTES) {
        memcpy(d + sizeof d - (priv.len - lead), priv.at + lead, priv.len - lead);
        OK(ecdh->from_private(d, &key));
        bool same = false;
        dbe_err err = ecdh->derive(key, pub.at, ss);
        if (err == DBE_OK)
            same = want.len == sizeof ss && memcmp(ss, want.at, sizeof ss) == 0;
        expect(test, same == valid && (err == DBE_OK || err == DBE_E_MALFORMED));
        ecdh->key_free(key);
        counts->run++;
    }
    base_free(pub.at), base_free(priv.at), base_free(want.at);
}

static void x25519_vector(const json_t *group, const json_t *test, bool valid, struct counts *counts)
{
    const struct crypto_ecdh *ecdh = crypto_suite(CRYPTO_SUITE_2)->ecdh;
    struct bytes pub = hex_of(test, "public"), priv = hex_of(test, "private"), want = hex_of(test, "shared");
    struct crypto_ecdh_key *key = NULL;
    uint8_t ss[CRYPTO_X25519_BYTES], zero[CRYPTO_X25519_BYTES] = {0};

    assert_true(json_is_object(group) && pub.len == sizeof ss && priv.len == sizeof ss && want.len == sizeof ss);
    OK(ecdh->from_private(priv.at, &key));
    /* spec 6.11: the all-zero secret, which RFC 7748 leaves to the protocol, is refused */
    if (memcmp(want.at, zero, sizeof zero) == 0)
        expect(test, ecdh->derive(key, pub.at, ss) == DBE_E_MALFORMED);
    else
        expect(test, valid && ecdh->derive(key, pub.at, ss) == DBE_OK && memcmp(ss, want.at, sizeof ss) == 0);
    ecdh->key_free(key);
    counts->run++;
    base_free(pub.at), base_free(priv.at), base_free(want.at);
}

static void kem_vector(const json_t *group, const json_t *test, bool valid, struct counts *counts)
{
    const struct crypto_kem *kem = crypto_suite(CRYPTO_SUITE_1)->kem;
    struct bytes seed = hex_of(test, "seed"), ek = hex_of(test, "ek"), ct = hex_of(test, "c"), want = hex_of(test, "K");
    struct crypto_kem_key *dk = NULL;
    uint8_t got_ek[CRYPTO_MLKEM1024_EK_BYTES], ss[CRYPTO_KEM_SS_BYTES];

    assert_true(json_is_object(group));
    if (seed.len == CRYPTO_MLKEM_SEED_BYTES && ct.len == kem->ct_bytes) {
        OK(kem->from_seed(seed.at, &dk, got_ek));
        expect(test, ek.len == 0 || (ek.len == sizeof got_ek && memcmp(ek.at, got_ek, sizeof got_ek) == 0));
        OK(kem->decaps(dk, ct.at, ss));
        expect(test, (want.len == sizeof ss && memcmp(ss, want.at, sizeof ss) == 0) == valid);
        kem->key_free(dk);
        counts->run++;
    }
    base_free(seed.at), base_free(ek.at), base_free(ct.at), base_free(want.at);
}

static void kem_keygen_vector(const json_t *group, const json_t *test, bool valid, struct counts *counts)
{
    const struct crypto_kem *kem = crypto_suite(CRYPTO_SUITE_1)->kem;
    struct bytes seed = hex_of(test, "seed"), ek = hex_of(test, "ek");
    struct crypto_kem_key *dk = NULL;
    uint8_t got[CRYPTO_MLKEM1024_EK_BYTES];

    assert_true(json_is_object(group));
    if (seed.len == CRYPTO_MLKEM_SEED_BYTES && ek.len == sizeof got) {
        OK(kem->from_seed(seed.at, &dk, got));
        expect(test, (memcmp(got, ek.at, sizeof got) == 0) == valid);
        kem->key_free(dk);
        counts->run++;
    }
    base_free(seed.at), base_free(ek.at);
}

static void kem_encaps_vector(const json_t *group, const json_t *test, bool valid, struct counts *counts)
{
    const struct crypto_kem *kem = crypto_suite(CRYPTO_SUITE_1)->kem;
    struct bytes ek = hex_of(test, "ek"), m = hex_of(test, "m"), ct = hex_of(test, "c"), want = hex_of(test, "K");
    uint8_t got_ct[CRYPTO_MLKEM1024_CT_BYTES], ss[CRYPTO_KEM_SS_BYTES];

    assert_true(json_is_object(group));
    if (ek.len == CRYPTO_MLKEM1024_EK_BYTES && m.len == CRYPTO_MLKEM_M_BYTES) {
        dbe_err err = kem->encaps_m(ek.at, m.at, got_ct, ss);

        expect(test, err == (valid ? DBE_OK : DBE_E_MALFORMED));
        if (valid)
            expect(test, ct.len == sizeof got_ct && memcmp(got_ct, ct.at, ct.len) == 0 && want.len == sizeof ss &&
                             memcmp(ss, want.at, sizeof ss) == 0);
        counts->run++;
    }
    base_free(ek.at), base_free(m.at), base_free(ct.at), base_free(want.at);
}

static void kem_dk_vector(const json_t *group, const json_t *test, bool valid, struct counts *counts)
{
    const struct crypto_kem *kem = crypto_suite(CRYPTO_SUITE_1)->kem;
    struct bytes dk = hex_of(test, "dk"), ct = hex_of(test, "c"), want = hex_of(test, "K");
    struct crypto_kem_key *key = NULL;
    uint8_t ss[CRYPTO_KEM_SS_BYTES];
    dbe_err err = kem->from_dk(dk.at, dk.len, &key);

    assert_true(json_is_object(group));
    if (err == DBE_OK && ct.len == CRYPTO_MLKEM1024_CT_BYTES) {
        OK(kem->decaps(key, ct.at, ss));
        expect(test, (want.len == sizeof ss && memcmp(ss, want.at, sizeof ss) == 0) == valid);
    } else {
        expect(test, !valid); /* a key or a ciphertext of the wrong length, or a key whose hash is wrong */
    }
    kem->key_free(key);
    counts->run++;
    base_free(dk.at), base_free(ct.at), base_free(want.at);
}

static void dsa_verify_vector(const json_t *group, const json_t *test, bool valid, struct counts *counts)
{
    struct bytes pk = hex_of(group, "publicKey"), msg = hex_of(test, "msg"), sig = hex_of(test, "sig");
    struct bytes ctx = hex_of(test, "ctx");
    struct crypto_key *key = NULL;

    if (pk.len == CRYPTO_MLDSA87_PK_BYTES) {
        OK(crypto_key_from_public(pk.at, &key));
        expect(test, (crypto_verify_ctx(key, ctx.at, ctx.len, msg.at, msg.len, sig.at, sig.len) == DBE_OK) == valid);
        crypto_key_free(key);
        counts->run++;
    }
    base_free(pk.at), base_free(msg.at), base_free(sig.at), base_free(ctx.at);
}

/* PKCS#8 in DER as PEM: the way in that the key store uses. */
static dbe_err key_from_der(const struct bytes *der, struct crypto_key **ret)
{
    struct base_buf pem;
    uint8_t *b64 = base_alloc(der->len * 2 + 64, 1);
    dbe_err err;

    assert_non_null(b64);
    base_buf_init(&pem, 64 * 1024);
    base_buf_str(&pem, "-----BEGIN PRIVATE KEY-----\n");
    for (size_t i = 0; i < der->len; i += 48) {
        EVP_EncodeBlock(b64, der->at + i, (int)BASE_MIN(der->len - i, (size_t)48));
        base_buf_str(&pem, (const char *)b64);
        base_buf_str(&pem, "\n");
    }
    base_buf_str(&pem, "-----END PRIVATE KEY-----\n");
    err = crypto_key_from_pem(pem.data, pem.len, ret);
    base_buf_free(&pem);
    base_free(b64);
    return err;
}

/* The group's key by the way in that the key store uses, in whichever form the group has it. */
static dbe_err key_of(const json_t *group, struct crypto_key **ret)
{
    static const uint8_t before_seed[] = {0x30, 0x34, 0x02, 0x01, 0x00, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86,
                                          0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x13, 0x04, 0x22, 0x80, 0x20};
    struct bytes der = hex_of(group, "privateKeyPkcs8"), seed = hex_of(group, "privateSeed");
    struct bytes raw = hex_of(group, "privateKey");
    uint8_t made[sizeof before_seed + CRYPTO_MLDSA_SEED_BYTES];
    dbe_err err = DBE_E_MALFORMED;

    if (der.len > 0) {
        err = key_from_der(&der, ret);
    } else if (seed.len == CRYPTO_MLDSA_SEED_BYTES) { /* RFC 9881 section 6: seed [0] */
        memcpy(made, before_seed, sizeof before_seed);
        memcpy(made + sizeof before_seed, seed.at, seed.len);
        err = key_from_der(&(struct bytes){made, sizeof made}, ret);
    } else if (raw.len > 0) { /* expandedKey: OpenSSL writes that form of a key whose seed it does not know */
        EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key_ex(NULL, "ML-DSA-87", NULL, raw.at, raw.len);
        BIO *bio = BIO_new(BIO_s_mem());
        char *text = NULL;

        if (pkey != NULL && PEM_write_bio_PKCS8PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL) == 1) {
            long len = BIO_get_mem_data(bio, &text);

            err = crypto_key_from_pem(text, (size_t)len, ret);
        }
        BIO_free(bio);
        EVP_PKEY_free(pkey);
    }
    base_free(der.at), base_free(seed.at), base_free(raw.at);
    return err;
}

static void dsa_sign_vector(const json_t *group, const json_t *test, bool valid, struct counts *counts)
{
    static const uint8_t zeros[CRYPTO_MLDSA_RND_BYTES]; /* deterministic, unless the vector says otherwise */
    struct bytes msg = hex_of(test, "msg"), sig = hex_of(test, "sig"), ctx = hex_of(test, "ctx");
    struct bytes rnd = hex_of(test, "rnd");
    struct crypto_key *key = NULL;
    uint8_t got[CRYPTO_MLDSA87_SIG_BYTES];

    if (json_object_get(test, "msg") != NULL) { /* not only mu, which is for other interfaces */
        dbe_err err = key_of(group, &key);

        if (err == DBE_OK)
            err = crypto_sign_rnd(key, ctx.at, ctx.len, msg.at, msg.len, rnd.len > 0 ? rnd.at : zeros, got);
        expect(test, (err == DBE_OK) == valid);
        expect(test, !valid || (sig.len == sizeof got && memcmp(got, sig.at, sizeof got) == 0));
        crypto_key_free(key);
        counts->run++;
    }
    base_free(msg.at), base_free(sig.at), base_free(ctx.at), base_free(rnd.at);
}

#define VECTORS(name, file, fn)                                                                                        \
    static void name(void **state)                                                                                     \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        each(file, fn);                                                                                                \
    }
VECTORS(test_gcm, "aes_gcm_test.json", gcm_vector)
VECTORS(test_hmac, "hmac_sha3_512_test.json", hmac_vector)
VECTORS(test_p384, "ecdh_secp384r1_ecpoint_test.json", p384_vector)
VECTORS(test_x25519, "x25519_test.json", x25519_vector)
VECTORS(test_kem, "mlkem_1024_test.json", kem_vector)
VECTORS(test_kem_keygen, "mlkem_1024_keygen_seed_test.json", kem_keygen_vector)
VECTORS(test_kem_encaps, "mlkem_1024_encaps_test.json", kem_encaps_vector)
VECTORS(test_kem_dk, "mlkem_1024_semi_expanded_decaps_test.json", kem_dk_vector)
VECTORS(test_dsa_verify, "mldsa_87_verify_test.json", dsa_verify_vector)
VECTORS(test_dsa_sign, "mldsa_87_sign_seed_test.json", dsa_sign_vector)
VECTORS(test_dsa_sign_expanded, "mldsa_87_sign_noseed_test.json", dsa_sign_vector)

static int setup(void **state)
{
    struct dbe_diag diag = {0};

    (void)state;
    return crypto_init(&diag) == DBE_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gcm),
        cmocka_unit_test(test_hmac),
        cmocka_unit_test(test_p384),
        cmocka_unit_test(test_x25519),
        cmocka_unit_test(test_kem),
        cmocka_unit_test(test_kem_keygen),
        cmocka_unit_test(test_kem_encaps),
        cmocka_unit_test(test_kem_dk),
        cmocka_unit_test(test_dsa_verify),
        cmocka_unit_test(test_dsa_sign),
        cmocka_unit_test(test_dsa_sign_expanded),
    };
    return cmocka_run_group_tests_name("wycheproof", tests, setup, NULL);
}
