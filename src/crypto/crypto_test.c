/* SPDX-License-Identifier: Apache-2.0
 *
 * crypto_test.c - known answers (computed with Python's hashlib and hmac), round trips, and wrong inputs of every op.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "crypto/backend/backend.h"
#include "crypto/secret.h"

enum { MLKEM1024_DK_BYTES = 3168 }; /* FIPS 203 table 3 */

#define OK(expr) assert_int_equal((expr), DBE_OK)
#define ERR(err, expr) assert_int_equal((expr), (err))

static void expect_hex(const uint8_t *got, size_t len, const char *hex)
{
    uint8_t want[256];

    assert_true(len <= sizeof want && strlen(hex) == 2 * len);
    OK(base_unhex(hex, want, len));
    assert_memory_equal(got, want, len);
}

static void fill(uint8_t *buf, size_t len, unsigned from)
{
    for (size_t i = 0; i < len; i++)
        buf[i] = (uint8_t)(from + i);
}

static void test_init(void **state)
{
    struct dbe_diag diag = {0};

    (void)state;
    OK(crypto_init(&diag)); /* again: idempotent */
    assert_non_null(strstr(crypto_backend_version(), "OpenSSL 3."));
}

static void test_sha3(void **state)
{
    uint8_t in[200], out[64], mid[64];
    struct crypto_hash *h = NULL;

    (void)state;
    fill(in, sizeof in, 0);
    OK(crypto_sha3_512("abc", 3, out));
    expect_hex(out, 64,
               "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e"
               "10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0");
    OK(crypto_sha3_512("", 0, out));
    expect_hex(out, 64,
               "a69f73cca23a9ac5c8b567dc185a756e97c982164fe25859e0d1dcc1475c80a6"
               "15b2123af1f5f94c11e3e9402c3ac558f500199d95b6d3e301758586281dcd26");
    OK(crypto_hash_new(&h));
    OK(crypto_hash_update(h, in, 77));
    OK(crypto_hash_peek(h, mid)); /* a look in between changes nothing */
    OK(crypto_hash_update(h, in + 77, sizeof in - 77));
    OK(crypto_hash_peek(h, out));
    expect_hex(out, 64,
               "ea5d05f19348dd589793354793a15f37a73b4c0bb4e750b9a00757dfce2f8b65"
               "a64191bb9b137de00feef6474cfd47abf7880efbc51614a5715df12cfe0caee3");
    assert_memory_not_equal(mid, out, 64);
    crypto_hash_free(h);
    crypto_hash_free(NULL);
}

static void test_hmac(void **state)
{
    uint8_t key[200], out[64];

    (void)state;
    fill(key, sizeof key, 0);
    OK(crypto_hmac(key, 32, "DSMIL-DBE", 9, out));
    expect_hex(out, 64,
               "370d104af7f65f3a21160a795071edf615e60e88b9012bc657e333fbf1ca28d1"
               "3ce12698cd63f19d82a14e6360688cd39bea3ed764c82c963554480ab68be93c");
    OK(crypto_hmac(NULL, 0, "DSMIL-DBE", 9, out));
    expect_hex(out, 64,
               "5ce5f77540e278d804f6340cb6982ae112fb4be30bf41c4c24a8a0af241abcab"
               "6ea0d59e59c87812af203c96e9a9cc9d1cd1cfdc1dcdec6760512c0560b513fc");
    OK(crypto_hmac(key, 200, "DSMIL-DBE", 9, out)); /* longer than the block */
    expect_hex(out, 64,
               "ceeb30191291606506ddbe448f3f61c45fc7e2f012dc3803923140265faf69b9"
               "932b1da7a02970965d400e174903c469724ef11f7c45947ee1c76d76eab3deba");
}

static void test_hkdf(void **state)
{
    uint8_t salt[13], ikm[22], info[10], prk[64], okm[130];

    (void)state;
    fill(salt, sizeof salt, 0);
    memset(ikm, 0x0b, sizeof ikm);
    fill(info, sizeof info, 0xf0);
    OK(crypto_hkdf_extract(salt, sizeof salt, ikm, sizeof ikm, prk));
    expect_hex(prk, 64,
               "e1c543094f64f3d6c6658a94a94e3818ba13d0b3e77074b80f88f32e6b8433b7"
               "03536cb500753967fae2ea977e11e4dd4f45389807cdf255b395e46807c87d5d");
    OK(crypto_hkdf_expand(prk, info, sizeof info, okm, 42));
    expect_hex(okm, 42, "40e9f17e9bf2ef99425c2b23ccdf20a018ea5513f9ae68e1ea8c626deb57dfa4d56c27ccf2a2a24488a5");
    OK(crypto_hkdf_expand(prk, NULL, 0, okm, 130));
    expect_hex(okm, 130,
               "a028cafac3bc77073b20cc81200f52e4a324f5a36be5320adc7991248092eef519e6ce5f0b48302c58e9e9fe64960590"
               "992cc082424cd77438faff3ad18a6d3193f7fdfaff003353ce6cdcc55fe0c8f77eb259dae0ff26383c10d6fe17f54dc1"
               "5245c3f08c606989c1394b940e4761705cc140855a27f433683b7266f08002806140");
    OK(crypto_hkdf_extract(NULL, 0, ikm, sizeof ikm, prk));
    expect_hex(prk, 64,
               "37a48c72dce8c34bf1a08356c929133ea60a20c6c2eb3ce26d2c3ce6b0e23855"
               "72e82fc77418ace2f6df0419eacafc847fdf283b0324163d7d88265a8e7e4992");
    ERR(DBE_E_ARGUMENT, crypto_hkdf_expand(prk, info, sizeof info, okm, 0));
    ERR(DBE_E_ARGUMENT, crypto_hkdf_expand(prk, info, sizeof info, okm, 255 * 64 + 1));
}

static void test_gcm(void **state)
{
    const struct crypto_aead *aead = crypto_suite(CRYPTO_SUITE_1)->aead;
    struct crypto_aead_ctx *seal = NULL, *open = NULL;
    uint8_t key[32], iv[12], text[100], box[116], out[100], zero[100] = {0};

    (void)state;
    fill(key, sizeof key, 1);
    fill(iv, sizeof iv, 50);
    fill(text, sizeof text, 9);
    OK(aead->new_ctx(key, true, &seal));
    OK(aead->new_ctx(key, false, &open));
    OK(aead->seal(seal, iv, "head", 4, text, sizeof text, box));
    OK(aead->open(open, iv, "head", 4, box, sizeof box, out));
    assert_memory_equal(out, text, sizeof text);
    for (size_t bit = 0; bit < 8 * sizeof box; bit++) { /* every bit of the box */
        box[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ERR(DBE_E_AUTH, aead->open(open, iv, "head", 4, box, sizeof box, out));
        assert_memory_equal(out, zero, sizeof out);
        box[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ERR(DBE_E_AUTH, aead->open(open, iv, "heal", 4, box, sizeof box, out));
    iv[11] ^= 1;
    ERR(DBE_E_AUTH, aead->open(open, iv, "head", 4, box, sizeof box, out));
    iv[11] ^= 1;
    for (size_t len = 0; len < sizeof box; len++)
        ERR(DBE_E_AUTH, aead->open(open, iv, "head", 4, box, len, out));
    OK(aead->open(open, iv, "head", 4, box, sizeof box, box)); /* in place, and after failures */
    assert_memory_equal(box, text, sizeof text);
    OK(aead->seal(seal, iv, NULL, 0, text, 0, box)); /* nothing at all */
    OK(aead->open(open, iv, NULL, 0, box, 16, out));
    ERR(DBE_E_STATE, aead->seal(open, iv, NULL, 0, text, 1, box)); /* a direction is a direction */
    ERR(DBE_E_STATE, aead->open(seal, iv, NULL, 0, box, 16, out));
    aead->free_ctx(seal);
    aead->free_ctx(open);
    aead->free_ctx(NULL);
}

static void test_kem(void **state)
{
    const struct crypto_kem *kem = crypto_suite(CRYPTO_SUITE_1)->kem;
    struct crypto_kem_key *dk = NULL;
    uint8_t ek[CRYPTO_MLKEM1024_EK_BYTES], ct[CRYPTO_MLKEM1024_CT_BYTES], a[32], b[32], c[32];

    (void)state;
    OK(kem->keygen(&dk, ek));
    OK(kem->encaps(ek, ct, a));
    OK(kem->decaps(dk, ct, b));
    assert_memory_equal(a, b, 32);
    ct[100] ^= 1; /* implicit rejection: another secret, the same each time, and no error */
    OK(kem->decaps(dk, ct, b));
    OK(kem->decaps(dk, ct, c));
    assert_memory_not_equal(a, b, 32);
    assert_memory_equal(b, c, 32);
    memset(ek, 0xff, 3); /* coefficients 4095 >= q */
    ERR(DBE_E_MALFORMED, kem->encaps(ek, ct, a));
    kem->key_free(dk);
    kem->key_free(NULL);
}

static void make_dk(uint8_t dk[MLKEM1024_DK_BYTES], uint8_t ek[CRYPTO_MLKEM1024_EK_BYTES])
{
    EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ML-KEM-1024");
    size_t dk_len = MLKEM1024_DK_BYTES, ek_len = CRYPTO_MLKEM1024_EK_BYTES;

    assert_non_null(pkey);
    assert_int_equal(EVP_PKEY_get_raw_private_key(pkey, dk, &dk_len), 1);
    assert_int_equal(EVP_PKEY_get_raw_public_key(pkey, ek, &ek_len), 1);
    assert_true(dk_len == MLKEM1024_DK_BYTES && ek_len == CRYPTO_MLKEM1024_EK_BYTES);
    EVP_PKEY_free(pkey);
}

/* FIPS 203 section 7.3: a decapsulation key has its length, and the hash of its encapsulation key in it. */
static void test_kem_dk(void **state)
{
    const struct crypto_kem *kem = crypto_suite(CRYPTO_SUITE_1)->kem;
    struct crypto_kem_key *dk = NULL;
    uint8_t bytes[MLKEM1024_DK_BYTES], ek[CRYPTO_MLKEM1024_EK_BYTES], ct[CRYPTO_MLKEM1024_CT_BYTES], a[32], b[32];

    (void)state;
    make_dk(bytes, ek);
    OK(kem->from_dk(bytes, sizeof bytes, &dk));
    OK(kem->encaps(ek, ct, a));
    OK(kem->decaps(dk, ct, b));
    assert_memory_equal(a, b, sizeof a);
    kem->key_free(dk);
    dk = NULL;
    ERR(DBE_E_MALFORMED, kem->from_dk(bytes, sizeof bytes - 1, &dk));
    bytes[MLKEM1024_DK_BYTES - 64] ^= 1; /* the hash */
    ERR(DBE_E_MALFORMED, kem->from_dk(bytes, sizeof bytes, &dk));
    assert_null(dk);
}

/* spec 6.11: P-384 takes points of the curve alone. */
static void test_p384(void **state)
{
    const struct crypto_ecdh *ecdh = crypto_suite(CRYPTO_SUITE_1)->ecdh;
    struct crypto_ecdh_key *a = NULL, *b = NULL;
    uint8_t pa[97], pb[97], sa[48], sb[48];

    (void)state;
    OK(ecdh->keygen(&a, pa));
    OK(ecdh->keygen(&b, pb));
    assert_memory_not_equal(pa, pb, sizeof pa);
    OK(ecdh->derive(a, pb, sa));
    OK(ecdh->derive(b, pa, sb));
    assert_memory_equal(sa, sb, sizeof sa);
    for (size_t i = 0; i < sizeof pb; i++) { /* a point with one byte changed is on the curve with probability 0 */
        pb[i] ^= 0x10;
        ERR(DBE_E_MALFORMED, ecdh->derive(a, pb, sa));
        pb[i] ^= 0x10;
    }
    for (unsigned form = 0; form < 256; form++) { /* compressed, hybrid, infinity: one form alone */
        pb[0] = (uint8_t)form;
        ERR(form == 4 ? DBE_OK : DBE_E_MALFORMED, ecdh->derive(a, pb, sa));
    }
    memset(pb, 0, sizeof pb);
    ERR(DBE_E_MALFORMED, ecdh->derive(a, pb, sa));
    pb[0] = 4;
    ERR(DBE_E_MALFORMED, ecdh->derive(a, pb, sa));
    ecdh->key_free(a);
    ecdh->key_free(b);
    ecdh->key_free(NULL);
}

/* spec 6.11: X25519 takes every value but those that give the all-zero secret. */
static void test_x25519(void **state)
{
    static const char *const small_order[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    };
    const struct crypto_ecdh *ecdh = crypto_suite(CRYPTO_SUITE_2)->ecdh;
    struct crypto_ecdh_key *a = NULL, *b = NULL;
    uint8_t pa[32], pb[32], sa[32], sb[32], zero[32] = {0};

    (void)state;
    OK(ecdh->keygen(&a, pa));
    OK(ecdh->keygen(&b, pb));
    assert_memory_not_equal(pa, pb, sizeof pa);
    OK(ecdh->derive(a, pb, sa));
    OK(ecdh->derive(b, pa, sb));
    assert_memory_equal(sa, sb, sizeof sa);
    pb[31] |= 0x80; /* RFC 7748 section 5: the top bit is ignored */
    OK(ecdh->derive(a, pb, sb));
    assert_memory_equal(sa, sb, sizeof sa);
    for (size_t i = 0; i < BASE_ARRAY_LEN(small_order); i++) {
        OK(base_unhex(small_order[i], pb, 32));
        ERR(DBE_E_MALFORMED, ecdh->derive(a, pb, sb));
        assert_memory_equal(sb, zero, sizeof sb);
    }
    ecdh->key_free(a);
    ecdh->key_free(b);
    ecdh->key_free(NULL);
}

static void test_sign(void **state)
{
    struct crypto_key *key = NULL, *pub = NULL, *other = NULL;
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], sig[CRYPTO_MLDSA87_SIG_BYTES], again[CRYPTO_MLDSA87_SIG_BYTES];

    (void)state;
    OK(crypto_key_generate(&key));
    OK(crypto_key_generate(&other));
    OK(crypto_key_public(key, pk));
    OK(crypto_key_from_public(pk, &pub));
    assert_true(crypto_key_is_private(key));
    assert_false(crypto_key_is_private(pub));
    assert_non_null(crypto_key_native(pub));
    OK(crypto_sign(key, "ctx", "message", 7, sig));
    OK(crypto_sign(key, "ctx", "message", 7, again));
    assert_memory_not_equal(sig, again, sizeof sig); /* hedged */
    OK(crypto_verify(pub, "ctx", "message", 7, sig, sizeof sig));
    OK(crypto_verify(key, "ctx", "message", 7, again, sizeof sig));
    ERR(DBE_E_AUTH, crypto_verify(pub, "ctY", "message", 7, sig, sizeof sig));
    ERR(DBE_E_AUTH, crypto_verify(pub, "", "message", 7, sig, sizeof sig));
    ERR(DBE_E_AUTH, crypto_verify(pub, "ctx", "messagE", 7, sig, sizeof sig));
    ERR(DBE_E_AUTH, crypto_verify(pub, "ctx", "message", 6, sig, sizeof sig));
    ERR(DBE_E_AUTH, crypto_verify(other, "ctx", "message", 7, sig, sizeof sig));
    ERR(DBE_E_AUTH, crypto_verify(pub, "ctx", "message", 7, sig, sizeof sig - 1));
    ERR(DBE_E_AUTH, crypto_verify(pub, "ctx", "message", 7, sig, 0));
    for (size_t i = 0; i < sizeof sig; i += 61) {
        sig[i] ^= 0x40;
        ERR(DBE_E_AUTH, crypto_verify(pub, "ctx", "message", 7, sig, sizeof sig));
        sig[i] ^= 0x40;
    }
    ERR(DBE_E_ARGUMENT, crypto_sign(pub, "ctx", "message", 7, sig)); /* no private part */
    char long_ctx[257];
    memset(long_ctx, 'c', 256);
    long_ctx[256] = '\0';
    ERR(DBE_E_ARGUMENT, crypto_sign(key, long_ctx, "message", 7, sig));
    ERR(DBE_E_ARGUMENT, crypto_verify(pub, long_ctx, "message", 7, sig, sizeof sig));
    assert_ptr_equal(crypto_key_ref(key), key);
    crypto_key_free(key);
    OK(crypto_sign(key, "ctx", "message", 7, sig)); /* the second reference still stands */
    crypto_key_free(key);
    crypto_key_free(pub);
    crypto_key_free(other);
    crypto_key_free(NULL);
}

static void test_pem(void **state)
{
    static const char ec_pem[] = "-----BEGIN PRIVATE KEY-----\n"
                                 "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
                                 "-----END PRIVATE KEY-----\n";
    struct crypto_key *key = NULL, *back = NULL;
    struct base_buf pem, small;
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], pk2[CRYPTO_MLDSA87_PK_BYTES], sig[CRYPTO_MLDSA87_SIG_BYTES];

    (void)state;
    OK(crypto_key_generate(&key));
    OK(crypto_key_public(key, pk));
    base_buf_init(&pem, 64 * 1024);
    OK(crypto_key_to_pem(key, &pem));
    assert_memory_equal(pem.data, "-----BEGIN PRIVATE KEY-----", 27);
    OK(crypto_key_from_pem(pem.data, pem.len, &back));
    OK(crypto_key_public(back, pk2));
    assert_memory_equal(pk, pk2, sizeof pk);
    OK(crypto_sign(back, "c", "m", 1, sig));
    OK(crypto_verify(key, "c", "m", 1, sig, sizeof sig));
    crypto_key_free(back);
    for (size_t cut = 0; cut + 30 < pem.len; cut += 97) { /* truncated: the end line is gone */
        back = NULL;
        ERR(DBE_E_MALFORMED, crypto_key_from_pem(pem.data, cut, &back));
        assert_null(back);
    }
    ERR(DBE_E_MALFORMED, crypto_key_from_pem(ec_pem, sizeof ec_pem - 1, &back)); /* Ed25519 */
    base_buf_init(&small, 100);
    ERR(DBE_E_TOO_LARGE, crypto_key_to_pem(key, &small));
    base_buf_free(&small);
    base_buf_free(&pem);
    OK(crypto_key_from_public(pk, &back));
    base_buf_init(&pem, 64 * 1024);
    ERR(DBE_E_ARGUMENT, crypto_key_to_pem(back, &pem));
    base_buf_free(&pem);
    crypto_key_free(back);
    crypto_key_free(key);
}

/* A key as X.509 holds it. */
static void test_native(void **state)
{
    struct crypto_key *key = NULL, *from = NULL;
    EVP_PKEY *other = EVP_PKEY_Q_keygen(NULL, NULL, "ML-DSA-65");
    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES];

    (void)state;
    OK(crypto_key_generate(&key));
    OK(crypto_sign(key, "", "m", 1, sig));
    OK(crypto_key_from_native(crypto_key_native(key), &from));
    assert_false(crypto_key_is_private(from)); /* whatever the handle could do */
    OK(crypto_verify(from, "", "m", 1, sig, sizeof sig));
    ERR(DBE_E_ARGUMENT, crypto_sign(from, "", "m", 1, sig));
    crypto_key_free(from);
    from = NULL;
    assert_non_null(other);
    ERR(DBE_E_MALFORMED, crypto_key_from_native(other, &from));
    ERR(DBE_E_MALFORMED, crypto_key_from_native(NULL, &from));
    assert_null(from);
    EVP_PKEY_free(other);
    crypto_key_free(key);
}

/* A key under a passphrase is refused; nobody is asked for one. */
static void test_encrypted_pem(void **state)
{
    struct crypto_key *key = NULL, *back = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;

    (void)state;
    OK(crypto_key_generate(&key));
    assert_int_equal(
        PEM_write_bio_PKCS8PrivateKey(bio, crypto_key_native(key), EVP_aes_256_cbc(), "secret", 6, NULL, NULL), 1);

    long len = BIO_get_mem_data(bio, &text);

    assert_memory_equal(text, "-----BEGIN ENCRYPTED PRIVATE KEY-----", 37);
    ERR(DBE_E_MALFORMED, crypto_key_from_pem(text, (size_t)len, &back));
    assert_null(back);
    BIO_free(bio);
    crypto_key_free(key);
}

static void test_suites(void **state)
{
    const struct crypto_suite *const *all = NULL;
    size_t count = crypto_suites(&all);

    (void)state;
    assert_true(count >= 1 && count <= 16);
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(crypto_suite(all[i]->id), all[i]); /* a number means one suite */
        assert_non_null(strstr(all[i]->name, "MLKEM"));
        assert_non_null(strstr(all[i]->name, "MLDSA"));
        assert_memory_equal(all[i]->kem->name, "ML-KEM", 6);
        assert_true(all[i]->ecdh->pub_bytes <= CRYPTO_ECDH_PUB_MAX_BYTES);
        assert_true(all[i]->ecdh->ss_bytes <= CRYPTO_ECDH_SS_MAX_BYTES);
    }
    assert_string_equal(crypto_suite(CRYPTO_SUITE_2)->ecdh->name, "X25519");
    assert_null(crypto_suite(0));
    assert_null(crypto_suite(0xffff));
}

/* ---- failures --------------------------------------------------------------------------------------------------- */

/* An operation from beginning to end; frees what it made, whatever happened. */
typedef dbe_err whole_fn(void);

static struct {
    const struct crypto_suite *suite;
    struct crypto_kem_key *dk;
    struct crypto_ecdh_key *ec;
    struct crypto_key *key;
    struct base_buf pem;
    uint8_t ek[CRYPTO_MLKEM1024_EK_BYTES], ct[CRYPTO_MLKEM1024_CT_BYTES], pub[CRYPTO_ECDH_PUB_MAX_BYTES];
    uint8_t dk_bytes[MLKEM1024_DK_BYTES];
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], sig[CRYPTO_MLDSA87_SIG_BYTES];
} given;

static dbe_err whole_kem_keygen(void)
{
    struct crypto_kem_key *dk = NULL;
    uint8_t ek[CRYPTO_MLKEM1024_EK_BYTES];
    dbe_err err = given.suite->kem->keygen(&dk, ek);

    assert_true((err == DBE_OK) == (dk != NULL));
    given.suite->kem->key_free(dk);
    return err;
}

/* Key material is zeros when there is an error. */
static dbe_err zeros_or_ok(dbe_err err, const uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len && err != DBE_OK; i++)
        assert_int_equal(out[i], 0);
    return err;
}

static dbe_err whole_encaps(void)
{
    uint8_t ct[CRYPTO_MLKEM1024_CT_BYTES], ss[CRYPTO_KEM_SS_BYTES] = {0};

    return zeros_or_ok(given.suite->kem->encaps(given.ek, ct, ss), ss, sizeof ss);
}

static dbe_err whole_decaps(void)
{
    uint8_t ss[CRYPTO_KEM_SS_BYTES] = {0};

    return zeros_or_ok(given.suite->kem->decaps(given.dk, given.ct, ss), ss, sizeof ss);
}

static dbe_err whole_from_dk(void)
{
    struct crypto_kem_key *dk = NULL;
    dbe_err err = given.suite->kem->from_dk(given.dk_bytes, sizeof given.dk_bytes, &dk);

    assert_true((err == DBE_OK) == (dk != NULL));
    given.suite->kem->key_free(dk);
    return err;
}

static dbe_err whole_ecdh(void)
{
    struct crypto_ecdh_key *ec = NULL;
    uint8_t pub[CRYPTO_ECDH_PUB_MAX_BYTES], ss[CRYPTO_ECDH_SS_MAX_BYTES] = {0};
    dbe_err err = given.suite->ecdh->keygen(&ec, pub);

    assert_true((err == DBE_OK) == (ec != NULL));
    if (err == DBE_OK)
        err = zeros_or_ok(given.suite->ecdh->derive(ec, given.pub, ss), ss, given.suite->ecdh->ss_bytes);
    given.suite->ecdh->key_free(ec);
    return err;
}

static dbe_err whole_from_private(void)
{
    struct crypto_ecdh_key *ec = NULL;
    uint8_t d[CRYPTO_ECDH_SS_MAX_BYTES] = {0, 1, 2, 3};
    dbe_err err = given.suite->ecdh->from_private(d, &ec);

    assert_true((err == DBE_OK) == (ec != NULL));
    given.suite->ecdh->key_free(ec);
    return err;
}

static dbe_err whole_key_generate(void)
{
    struct crypto_key *key = NULL;
    dbe_err err = crypto_key_generate(&key);

    assert_true((err == DBE_OK) == (key != NULL));
    crypto_key_free(key);
    return err;
}

static dbe_err whole_from_public(void)
{
    struct crypto_key *key = NULL;
    dbe_err err = crypto_key_from_public(given.pk, &key);

    if (err == DBE_OK && crypto_key_native(key) == NULL)
        err = DBE_E_NOMEM;
    if (err == DBE_OK)
        err = crypto_verify(key, "c", "m", 1, given.sig, sizeof given.sig);
    crypto_key_free(key);
    return err;
}

static dbe_err whole_from_native(void)
{
    struct crypto_key *key = NULL;
    dbe_err err = crypto_key_from_native(crypto_key_native(given.key), &key);

    assert_true((err == DBE_OK) == (key != NULL));
    crypto_key_free(key);
    return err;
}

static dbe_err whole_pem(void)
{
    struct crypto_key *key = NULL;
    struct base_buf pem;
    dbe_err err = crypto_key_from_pem(given.pem.data, given.pem.len, &key);

    base_buf_init(&pem, 64 * 1024);
    if (err == DBE_OK)
        err = crypto_key_to_pem(key, &pem);
    base_buf_free(&pem);
    crypto_key_free(key);
    return err;
}

static dbe_err whole_with(void)
{
    struct crypto_key *key = NULL;
    dbe_err err = crypto_key_with(given.key, given.suite->sig, &key);

    crypto_key_free(key);
    return err;
}

static dbe_err whole_sign(void)
{
    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES] = {0};

    return zeros_or_ok(crypto_sign(given.key, "c", "m", 1, sig), sig, sizeof sig);
}

static dbe_err whole_verify(void)
{
    return crypto_verify(given.key, "c", "m", 1, given.sig, sizeof given.sig);
}

static dbe_err whole_aead(void)
{
    struct crypto_aead_ctx *seal = NULL, *open = NULL;
    uint8_t key[CRYPTO_AEAD_KEY_BYTES] = {1}, iv[CRYPTO_AEAD_IV_BYTES] = {2}, text[40] = {3}, box[56] = {0};
    dbe_err err = given.suite->aead->new_ctx(key, true, &seal);

    if (err == DBE_OK)
        err = given.suite->aead->new_ctx(key, false, &open);
    if (err == DBE_OK)
        err = zeros_or_ok(given.suite->aead->seal(seal, iv, key, 16, text, sizeof text, box), box, sizeof box);
    if (err == DBE_OK)
        err = zeros_or_ok(given.suite->aead->open(open, iv, key, 16, box, sizeof box, text), text, sizeof text);
    given.suite->aead->free_ctx(seal);
    given.suite->aead->free_ctx(open);
    return err;
}

static dbe_err whole_hash(void)
{
    struct crypto_hash *h = NULL;
    uint8_t out[CRYPTO_HASH_BYTES];
    dbe_err err = crypto_hash_new(&h);

    if (err == DBE_OK)
        err = crypto_hash_update(h, "abc", 3);
    if (err == DBE_OK)
        err = crypto_hash_peek(h, out);
    if (err == DBE_OK)
        err = crypto_sha3_512("abc", 3, out);
    crypto_hash_free(h);
    return err;
}

static dbe_err whole_kdf(void)
{
    uint8_t out[CRYPTO_HASH_BYTES] = {0};
    dbe_err err = zeros_or_ok(crypto_hkdf_extract("salt", 4, "ikm", 3, out), out, sizeof out);

    return err != DBE_OK ? err : zeros_or_ok(crypto_hkdf_expand(out, "info", 4, out, 32), out, 32);
}

/* Fail each draw, each allocation of ours, and each of OpenSSL's in turn. */
static void sweep_once(whole_fn *fn)
{
    uint64_t n, failed = 0;

    for (n = 1, base_fail_random_at(n); fn() != DBE_OK; base_fail_random_at(++n))
        assert_true(n < 100);
    assert_int_equal(base_random_count(), n - 1); /* every draw had its failure, and each was an error */
    base_fail_random_at(0);
    for (n = 1, base_fail_alloc_at(n); fn() != DBE_OK; base_fail_alloc_at(++n))
        assert_true(n < 100);
    assert_int_equal(base_alloc_count(), n - 1);
    base_fail_alloc_at(0);
    for (n = 1;; n++) {
        crypto_secret_fail_at(n);
        failed += fn() != DBE_OK;
        if (crypto_secret_count() < n)
            break;
        assert_true(n < 5000);
    }
    crypto_secret_fail_at(0);
    assert_true(failed > 0 || n == 1); /* it may do without a few of its allocations, but not without all */
}

/* Blocks that OpenSSL holds, but for what it keeps for this thread: its errors' texts, its blinding's generator. */
static size_t held(void)
{
    OPENSSL_thread_stop();
    return crypto_secret_stats().live_count;
}

/* Twice: what the library makes once and keeps, it has after the first. Nothing else may be left behind. */
static void sweep(whole_fn *fn)
{
    size_t before;

    sweep_once(fn);
    OK(fn());
    before = held();
    sweep_once(fn);
    OK(fn());
    assert_int_equal(held(), before);
}

static void test_failures(void **state)
{
    static whole_fn *const of_suites[] = {whole_kem_keygen, whole_encaps,       whole_decaps, whole_from_dk,
                                          whole_ecdh,       whole_from_private, whole_aead};
    static whole_fn *const of_all[] = {whole_key_generate, whole_from_native, whole_from_public, whole_pem, whole_with,
                                       whole_sign,         whole_verify,      whole_hash,        whole_kdf};
    const struct crypto_suite *const *all = NULL;
    size_t count = crypto_suites(&all);
    uint8_t ss[CRYPTO_KEM_SS_BYTES], other_ek[CRYPTO_MLKEM1024_EK_BYTES];

    (void)state;
    for (size_t i = 0; i < count; i++) {
        given.suite = all[i];
        OK(given.suite->kem->keygen(&given.dk, given.ek));
        OK(given.suite->kem->encaps(given.ek, given.ct, ss));
        OK(given.suite->ecdh->keygen(&given.ec, given.pub));
        make_dk(given.dk_bytes, other_ek);
        for (size_t k = 0; k < BASE_ARRAY_LEN(of_suites); k++)
            sweep(of_suites[k]);
        given.suite->kem->key_free(given.dk);
        given.suite->ecdh->key_free(given.ec);
    }
    base_buf_init(&given.pem, 64 * 1024);
    OK(crypto_key_generate(&given.key));
    OK(crypto_key_public(given.key, given.pk));
    OK(crypto_key_to_pem(given.key, &given.pem));
    OK(crypto_sign(given.key, "c", "m", 1, given.sig));
    for (size_t k = 0; k < BASE_ARRAY_LEN(of_all); k++)
        sweep(of_all[k]);
    crypto_key_free(given.key);
    base_buf_free(&given.pem);
}

/* Lengths that the library's int cannot hold are refused before anything is touched. */
static void test_too_long(void **state)
{
    const struct crypto_aead *aead = crypto_suite(CRYPTO_SUITE_1)->aead;
    struct crypto_aead_ctx *seal = NULL, *open = NULL;
    uint8_t key[32] = {0}, iv[12] = {0}, box[32];
    struct crypto_key *made = NULL;

    (void)state;
    OK(aead->new_ctx(key, true, &seal));
    OK(aead->new_ctx(key, false, &open));
    ERR(DBE_E_TOO_LARGE, aead->seal(seal, iv, NULL, 0, box, (size_t)INT_MAX, box));
    ERR(DBE_E_TOO_LARGE, aead->seal(seal, iv, box, (size_t)INT_MAX + 1, box, 1, box));
    ERR(DBE_E_TOO_LARGE, aead->open(open, iv, NULL, 0, box, (size_t)INT_MAX + 1, box));
    ERR(DBE_E_TOO_LARGE, aead->open(open, iv, box, (size_t)INT_MAX + 1, box, 17, box));
    aead->free_ctx(seal);
    aead->free_ctx(open);
    ERR(DBE_E_MALFORMED, crypto_key_from_pem(box, 0, &made));
    ERR(DBE_E_MALFORMED, crypto_key_from_pem(box, 64 * 1024 + 1, &made));
    assert_null(made);
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
        cmocka_unit_test(test_init),          cmocka_unit_test(test_sha3),   cmocka_unit_test(test_hmac),
        cmocka_unit_test(test_hkdf),          cmocka_unit_test(test_gcm),    cmocka_unit_test(test_kem),
        cmocka_unit_test(test_kem_dk),        cmocka_unit_test(test_p384),   cmocka_unit_test(test_x25519),
        cmocka_unit_test(test_sign),          cmocka_unit_test(test_pem),    cmocka_unit_test(test_native),
        cmocka_unit_test(test_encrypted_pem), cmocka_unit_test(test_suites), cmocka_unit_test(test_failures),
        cmocka_unit_test(test_too_long),
    };
    return cmocka_run_group_tests_name("crypto", tests, setup, NULL);
}
