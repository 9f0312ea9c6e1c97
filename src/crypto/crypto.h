/* SPDX-License-Identifier: Apache-2.0
 *
 * crypto.h - the seam between the protocol and the primitives. No primitive is written here: a backend fills ops
 * structs, a suite names one of each.
 *
 * To add an algorithm: write its ops struct in a file of backend/ (that of OpenSSL is the reference and the default),
 * name it in a row of suite.c, and give that row a line in spec 6.2. Session, node and tests find it by the row; the
 * vectors of the algorithm go into wycheproof_test.c. To do an algorithm by another library as well: write an ops
 * struct with the same `name` and put it into that backend's row (backend/backend.h). Nothing else knows of either.
 *
 * Words: ek dk ct ss as in FIPS 203, pk sk ctx as in FIPS 204. Algorithms are fetched once, in crypto_init;
 * nothing fetches on a message's path. Threads: crypto_init once before threads; afterwards objects belong to one
 * thread, except crypto_key, whose use is read-only and thread-safe. An object is freed by the ops that made it.
 */
#ifndef CRYPTO_CRYPTO_H
#define CRYPTO_CRYPTO_H

#include "base/base.h"
#include "dbe/crypto.h"

enum {
    CRYPTO_HASH_BYTES = 64,       /* SHA3-512 */
    CRYPTO_KEM_SS_BYTES = 32,
    CRYPTO_MLKEM_SEED_BYTES = 64, /* d || z, FIPS 203 section 7.1 */
    CRYPTO_MLKEM_M_BYTES = 32,
    CRYPTO_MLKEM1024_EK_BYTES = 1568,
    CRYPTO_MLKEM1024_CT_BYTES = 1568,
    CRYPTO_P384_PUB_BYTES = 97,   /* SEC 1 uncompressed point */
    CRYPTO_P384_SS_BYTES = 48,
    CRYPTO_X25519_BYTES = 32,     /* private key, public value and secret alike */
    CRYPTO_ECDH_PUB_MAX_BYTES = 97,
    CRYPTO_ECDH_SS_MAX_BYTES = 48,
    CRYPTO_MLDSA87_PK_BYTES = 2592,
    CRYPTO_MLDSA87_SK_BYTES = 4896, /* skEncode, FIPS 204 section 7.2 */
    CRYPTO_MLDSA87_SIG_BYTES = 4627,
    CRYPTO_MLDSA_SEED_BYTES = 32, /* xi */
    CRYPTO_MLDSA_RND_BYTES = 32,
    CRYPTO_SIG_CTX_MAX_BYTES = 255,
    CRYPTO_AEAD_KEY_BYTES = 32,
    CRYPTO_AEAD_IV_BYTES = 12,
    CRYPTO_AEAD_TAG_BYTES = 16,
};

/* Fetch every algorithm, check that OpenSSL is 3.5 or later and the one this was built with, and put the backends that
 * dbe_crypto_select or the environment (DSMIL_CRYPTO) name behind the suites. Idempotent. E_UNSUPPORTED with a diag
 * that names what is missing; E_ARGUMENT if what was asked for cannot be read. */
dbe_err crypto_init(struct dbe_diag *diag) DBE_MUST_CHECK;
/* "OpenSSL 3.5.x ...", and after it what other backends are in use: for `dsmil status` and logs. */
const char *crypto_backend_version(void);

/* ---- hash, MAC, KDF -------------------------------------------------------------------------------------- */

/* Running SHA3-512 (FIPS 202). */
struct crypto_hash;
dbe_err crypto_hash_new(struct crypto_hash **ret) DBE_MUST_CHECK;
void    crypto_hash_free(struct crypto_hash *h);
dbe_err crypto_hash_update(struct crypto_hash *h, const void *data, size_t len) DBE_MUST_CHECK;
/* Digest so far; the hash goes on (transcripts are read at several points). */
dbe_err crypto_hash_peek(const struct crypto_hash *h, uint8_t out[CRYPTO_HASH_BYTES]) DBE_MUST_CHECK;
dbe_err crypto_sha3_512(const void *data, size_t len, uint8_t out[CRYPTO_HASH_BYTES]) DBE_MUST_CHECK;

/* HMAC-SHA3-512 (RFC 2104, FIPS 202). */
dbe_err crypto_hmac(const void *key, size_t key_len, const void *data, size_t len, uint8_t out[CRYPTO_HASH_BYTES])
    DBE_MUST_CHECK;
/* HKDF-SHA3-512 (RFC 5869). */
dbe_err crypto_hkdf_extract(const void *salt, size_t salt_len, const void *ikm, size_t ikm_len,
                            uint8_t prk[CRYPTO_HASH_BYTES]) DBE_MUST_CHECK;
dbe_err crypto_hkdf_expand(const uint8_t prk[CRYPTO_HASH_BYTES], const void *info, size_t info_len, void *out,
                           size_t out_len) DBE_MUST_CHECK;

/* ---- key encapsulation, Diffie-Hellman --------------------------------------------------------------------- */

struct crypto_kem_key;  /* a decapsulation key, wiped when freed */
struct crypto_kem {
    const char *name; /* "ML-KEM-1024" */
    size_t ek_bytes, ct_bytes, ss_bytes;
    dbe_err (*keygen)(struct crypto_kem_key **ret, uint8_t *ek);
    dbe_err (*encaps)(const uint8_t *ek, uint8_t *ct, uint8_t *ss);           /* E_MALFORMED: ek fails FIPS 203 7.2 */
    dbe_err (*decaps)(const struct crypto_kem_key *dk, const uint8_t *ct, uint8_t *ss); /* implicit rejection */
    void    (*key_free)(struct crypto_kem_key *dk);
    /* Known answers: the same with what keygen and encaps draw from base_random given. */
    dbe_err (*from_seed)(const uint8_t seed[CRYPTO_MLKEM_SEED_BYTES], struct crypto_kem_key **ret, uint8_t *ek);
    dbe_err (*encaps_m)(const uint8_t *ek, const uint8_t m[CRYPTO_MLKEM_M_BYTES], uint8_t *ct, uint8_t *ss);
    /* An expanded key from elsewhere. E_MALFORMED: its length or its hash (FIPS 203 section 7.3) is wrong. */
    dbe_err (*from_dk)(const uint8_t *dk, size_t len, struct crypto_kem_key **ret);
};

struct crypto_ecdh_key;
struct crypto_ecdh {
    const char *name; /* "P-384", "X25519" */
    size_t pub_bytes, ss_bytes;
    dbe_err (*keygen)(struct crypto_ecdh_key **ret, uint8_t *pub);
    /* E_MALFORMED: not on the curve (P-384), or the secret is all zeros (X25519, RFC 7748 section 6.1) */
    dbe_err (*derive)(const struct crypto_ecdh_key *key, const uint8_t *peer_pub, uint8_t *ss);
    /* A key whose private part is given, ss_bytes in network order (P-384) or as RFC 7748 has it: known answers. */
    dbe_err (*from_private)(const uint8_t *d, struct crypto_ecdh_key **ret);
    void    (*key_free)(struct crypto_ecdh_key *key);
};

/* ---- signatures (ML-DSA-87, FIPS 204) ------------------------------------------------------------------------ */

/* A key is loaded once and used many times. Its life (generation, PEM, X.509) is OpenSSL's, whichever backend signs and
 * verifies with it: a key store written under one backend is read under all. */
struct crypto_key;
struct crypto_sig_key; /* a backend's own form of one */
struct crypto_sig {
    const char *name; /* "ML-DSA-87" */
    size_t pk_bytes, sig_bytes;
    /* What the backend needs of `key`, once for each key. */
    dbe_err (*load)(const struct crypto_key *key, struct crypto_sig_key **ret);
    void    (*unload)(struct crypto_sig_key *own);
    /* `rnd` is what makes a signature hedged; zeros make it deterministic (FIPS 204 section 5.2). `own` is private. */
    dbe_err (*sign)(const struct crypto_sig_key *own, const void *ctx, size_t ctx_len, const void *msg, size_t len,
                    const uint8_t rnd[CRYPTO_MLDSA_RND_BYTES], uint8_t *sig);
    dbe_err (*verify)(const struct crypto_sig_key *own, const void *ctx, size_t ctx_len, const void *msg, size_t len,
                      const uint8_t *sig); /* E_AUTH */
};
dbe_err crypto_key_generate(struct crypto_key **ret) DBE_MUST_CHECK;
dbe_err crypto_key_from_public(const uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], struct crypto_key **ret) DBE_MUST_CHECK;
/* A public key out of an X.509 structure: OpenSSL's handle (EVP_PKEY *), which stays the caller's. E_MALFORMED: it is
 * of another algorithm. */
dbe_err crypto_key_from_native(void *pkey, struct crypto_key **ret) DBE_MUST_CHECK;
/* PKCS#8 PEM, unencrypted. Buffers hold secrets: free with base_buf_free. */
dbe_err crypto_key_from_pem(const void *pem, size_t len, struct crypto_key **ret) DBE_MUST_CHECK;
dbe_err crypto_key_to_pem(const struct crypto_key *key, struct base_buf *out) DBE_MUST_CHECK;
dbe_err crypto_key_public(const struct crypto_key *key, uint8_t pk[CRYPTO_MLDSA87_PK_BYTES]) DBE_MUST_CHECK;
bool    crypto_key_is_private(const struct crypto_key *key);
struct crypto_key *crypto_key_ref(struct crypto_key *key); /* shares; free once per ref */
void    crypto_key_free(struct crypto_key *key);
/* Pure ML-DSA with context string `ctx` (FIPS 204 section 5.2), at most 255 bytes; hedged. */
dbe_err crypto_sign(const struct crypto_key *key, const char *ctx, const void *msg, size_t len,
                    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES]) DBE_MUST_CHECK;
/* E_AUTH if the signature is not `key`'s over `msg` in `ctx`. */
dbe_err crypto_verify(const struct crypto_key *key, const char *ctx, const void *msg, size_t len, const uint8_t *sig,
                      size_t sig_len) DBE_MUST_CHECK;
/* The same with the context string as bytes and the randomness given: known answers. */
dbe_err crypto_sign_rnd(const struct crypto_key *key, const void *ctx, size_t ctx_len, const void *msg, size_t len,
                        const uint8_t rnd[CRYPTO_MLDSA_RND_BYTES], uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
    DBE_MUST_CHECK;
dbe_err crypto_verify_ctx(const struct crypto_key *key, const void *ctx, size_t ctx_len, const void *msg, size_t len,
                          const uint8_t *sig, size_t sig_len) DBE_MUST_CHECK;
/* OpenSSL's handle (EVP_PKEY *), for the X.509 code in src/node alone; the key's, for as long as the key. Made when it
 * is first asked for where OpenSSL is not the backend that verifies; NULL if there is no memory. */
void *crypto_key_native(const struct crypto_key *key);
/* The private key as FIPS 204 encodes it, into secret memory. E_ARGUMENT if `key` is a public one. */
dbe_err crypto_key_secret(const struct crypto_key *key, uint8_t sk[CRYPTO_MLDSA87_SK_BYTES]) DBE_MUST_CHECK;

/* ---- AEAD ------------------------------------------------------------------------------------------------------ */

struct crypto_aead_ctx; /* one key, one direction; wiped when freed */
struct crypto_aead {
    const char *name; /* "AES-256-GCM" */
    dbe_err (*new_ctx)(const uint8_t key[CRYPTO_AEAD_KEY_BYTES], bool seal, struct crypto_aead_ctx **ret);
    void    (*free_ctx)(struct crypto_aead_ctx *ctx);
    /* out takes len + 16 bytes; out == in is allowed. */
    dbe_err (*seal)(struct crypto_aead_ctx *ctx, const uint8_t iv[CRYPTO_AEAD_IV_BYTES], const void *aad,
                    size_t aad_len, const void *in, size_t len, uint8_t *out);
    /* in has len bytes with the tag; out takes len - 16. E_AUTH leaves out zeroed. out == in is allowed. */
    dbe_err (*open)(struct crypto_aead_ctx *ctx, const uint8_t iv[CRYPTO_AEAD_IV_BYTES], const void *aad,
                    size_t aad_len, const void *in, size_t len, uint8_t *out);
};

/* ---- suites ------------------------------------------------------------------------------------------------------ */

struct crypto_suite {
    uint16_t    id;    /* on the wire */
    const char *name;  /* "P384-MLKEM1024-MLDSA87-AES256GCM-SHA3-512" */
    const struct crypto_ecdh *ecdh;
    const struct crypto_kem  *kem;
    const struct crypto_sig  *sig;
    const struct crypto_aead *aead;
};
enum { CRYPTO_SUITE_1 = 0x0001, CRYPTO_SUITE_2 = 0x0002 };
/* NULL if this build has no such suite. No suite without ML-KEM and ML-DSA exists. */
const struct crypto_suite *crypto_suite(uint16_t id);
/* All suites, best first; returns their count. */
size_t crypto_suites(const struct crypto_suite *const **ret);

#endif
