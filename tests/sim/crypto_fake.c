/* SPDX-License-Identifier: Apache-2.0
 *
 * crypto_fake.c - crypto/crypto.h with arithmetic in place of cryptography, so that the session's own object code runs
 * through a handshake in microseconds and a simulator can run a hundred thousand of them.
 *
 * In:   base_random, which the simulator seeds   Out: everything of crypto.h that src/session calls
 * Does: behaves as the real thing does towards whoever does not look inside: sizes, who can derive what from which
 *       bytes, what is malformed, implicit rejection, hedged signatures, a tag over header and text. Keeps a ledger of
 *       every key and nonce that sealed, and a count of what is alive.
 * Not:  any security. Whoever reads a public key can sign with it. No product links this file; a test looks.
 */
#include "crypto_fake.h"

#include <stdlib.h>
#include <string.h>

enum { LANES = 8, BLOCK = LANES * 8 };

static int64_t live;

int64_t crypto_fake_live(void)
{
    return live;
}

static void *make(size_t size)
{
    void *p = base_alloc(1, size);

    live += p != NULL;
    return p;
}

static void drop(void *p, size_t size)
{
    if (p == NULL)
        return;
    live--;
    base_wipe(p, size);
    base_free(p);
}

dbe_err crypto_init(struct dbe_diag *diag)
{
    (void)diag;
    return DBE_OK;
}

/* ---- hash, MAC, KDF ---------------------------------------------------------------------------------------------- */

struct crypto_hash {
    uint64_t lane[LANES];
    uint8_t tail[BLOCK];
    size_t tail_len;
    uint64_t total;
};

static const uint64_t odd[LANES] = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 0xd6e8feb86659fd93,
                                    0xa0761d6478bd642f, 0xe7037ed1a0b428db, 0x8ebc6af09c88c6e3, 0x589965cc75374cc3};

static void stir(uint64_t lane[LANES])
{
    for (size_t i = 0; i < LANES; i++) {
        lane[i] *= odd[i];
        lane[i] ^= lane[i] >> 29;
    }
    for (size_t i = 0; i < LANES; i++) {
        uint64_t next = lane[(i + 1) % LANES];

        lane[i] += next << 23 | next >> 41;
    }
}

static void absorb(struct crypto_hash *h, const uint8_t block[BLOCK])
{
    for (size_t i = 0; i < LANES; i++) {
        uint64_t word;

        memcpy(&word, block + 8 * i, sizeof word);
        h->lane[i] ^= word;
    }
    stir(h->lane);
}

static void hash_begin(struct crypto_hash *h)
{
    memset(h, 0, sizeof *h);
    memcpy(h->lane, odd, sizeof odd);
}

static void hash_add(struct crypto_hash *h, const void *data, size_t len)
{
    const uint8_t *at = data;

    h->total += len;
    while (len > 0) {
        if (h->tail_len == 0 && len >= BLOCK) {
            absorb(h, at);
            at += BLOCK, len -= BLOCK;
            continue;
        }
        size_t n = BASE_MIN(len, BLOCK - h->tail_len);
        memcpy(h->tail + h->tail_len, at, n);
        h->tail_len += n, at += n, len -= n;
        if (h->tail_len == BLOCK) {
            absorb(h, h->tail);
            h->tail_len = 0;
        }
    }
}

static void hash_end(const struct crypto_hash *h, uint8_t out[CRYPTO_HASH_BYTES])
{
    struct crypto_hash last = *h;

    memset(last.tail + last.tail_len, 0, BLOCK - last.tail_len);
    absorb(&last, last.tail);
    last.lane[0] ^= last.total;
    for (int round = 0; round < 5; round++)
        stir(last.lane);
    memcpy(out, last.lane, CRYPTO_HASH_BYTES);
}

/* A hash of up to four strings, each with its length. */
struct part {
    const void *data;
    size_t len;
};

static void digest(const char *label, const struct part *parts, size_t count, uint8_t out[CRYPTO_HASH_BYTES])
{
    struct crypto_hash h;

    hash_begin(&h);
    hash_add(&h, label, strlen(label) + 1);
    for (size_t i = 0; i < count; i++) {
        hash_add(&h, &parts[i].len, sizeof parts[i].len);
        hash_add(&h, parts[i].data, parts[i].len);
    }
    hash_end(&h, out);
}

#define DIGEST(label, out, ...)                                                                                        \
    digest(label, (const struct part[]){__VA_ARGS__},                                                                  \
           sizeof((const struct part[]){__VA_ARGS__}) / sizeof(struct part), out)

/* `len` bytes that depend on the seed alone; xored onto `out` where `onto`. */
static void expand(const uint8_t seed[CRYPTO_HASH_BYTES], const uint8_t *in, uint8_t *out, size_t len)
{
    uint64_t lane[LANES], first[LANES];

    memcpy(first, seed, sizeof first);
    for (size_t at = 0; at < len; at += BLOCK) {
        size_t n = BASE_MIN(len - at, (size_t)BLOCK);
        uint8_t block[BLOCK];

        memcpy(lane, first, sizeof lane);
        lane[at / BLOCK % LANES] ^= at + 1;
        lane[0] += at * odd[3];
        stir(lane);
        stir(lane);
        memcpy(block, lane, sizeof block);
        for (size_t i = 0; i < n; i++)
            out[at + i] = (uint8_t)((in != NULL ? in[at + i] : 0) ^ block[i]);
    }
}

dbe_err crypto_hash_new(struct crypto_hash **ret)
{
    struct crypto_hash *h = make(sizeof *h);

    if (h == NULL)
        return DBE_E_NOMEM;
    hash_begin(h);
    *ret = h;
    return DBE_OK;
}

void crypto_hash_free(struct crypto_hash *h)
{
    drop(h, sizeof *h);
}

dbe_err crypto_hash_update(struct crypto_hash *h, const void *data, size_t len)
{
    hash_add(h, data, len);
    return DBE_OK;
}

dbe_err crypto_hash_peek(const struct crypto_hash *h, uint8_t out[CRYPTO_HASH_BYTES])
{
    hash_end(h, out);
    return DBE_OK;
}

dbe_err crypto_sha3_512(const void *data, size_t len, uint8_t out[CRYPTO_HASH_BYTES])
{
    struct crypto_hash h;

    hash_begin(&h);
    hash_add(&h, data, len);
    hash_end(&h, out);
    return DBE_OK;
}

dbe_err crypto_hmac(const void *key, size_t key_len, const void *data, size_t len, uint8_t out[CRYPTO_HASH_BYTES])
{
    DIGEST("hmac", out, {key, key_len}, {data, len});
    return DBE_OK;
}

dbe_err crypto_hkdf_extract(const void *salt, size_t salt_len, const void *ikm, size_t ikm_len,
                            uint8_t prk[CRYPTO_HASH_BYTES])
{
    DIGEST("extract", prk, {salt, salt_len}, {ikm, ikm_len});
    return DBE_OK;
}

dbe_err crypto_hkdf_expand(const uint8_t prk[CRYPTO_HASH_BYTES], const void *info, size_t info_len, void *out,
                           size_t out_len)
{
    uint8_t seed[CRYPTO_HASH_BYTES];

    DIGEST("expand", seed, {prk, CRYPTO_HASH_BYTES}, {info, info_len});
    expand(seed, NULL, out, out_len);
    return DBE_OK;
}

/* ---- key encapsulation ------------------------------------------------------------------------------------------- */

enum { KEM_BYTES = CRYPTO_MLKEM1024_EK_BYTES, KEM_SEED = 32 };

struct crypto_kem_key {
    uint8_t seed[KEM_SEED], ekh[CRYPTO_HASH_BYTES];
};

static dbe_err kem_keygen(struct crypto_kem_key **ret, uint8_t *ek)
{
    struct crypto_kem_key *dk = make(sizeof *dk);
    uint8_t h[CRYPTO_HASH_BYTES];
    dbe_err err;

    if (dk == NULL)
        return DBE_E_NOMEM;
    err = base_random(dk->seed, sizeof dk->seed);
    if (err != DBE_OK) {
        drop(dk, sizeof *dk);
        return err;
    }
    DIGEST("ek", h, {dk->seed, sizeof dk->seed});
    expand(h, NULL, ek, KEM_BYTES);
    ek[0] &= 0x7f; /* what has the bit is no key: FIPS 203 section 7.2 has a check, too */
    DIGEST("ekh", dk->ekh, {ek, KEM_BYTES});
    *ret = dk;
    return DBE_OK;
}

/* The ciphertext of `m`; the same for whoever knows the encapsulation key. */
static void kem_wrap(const uint8_t ekh[CRYPTO_HASH_BYTES], const uint8_t m[KEM_SEED], uint8_t *ct,
                     uint8_t ss[CRYPTO_KEM_SS_BYTES])
{
    uint8_t h[CRYPTO_HASH_BYTES];

    DIGEST("mask", h, {ekh, CRYPTO_HASH_BYTES});
    for (size_t i = 0; i < KEM_SEED; i++)
        ct[i] = m[i] ^ h[i];
    DIGEST("ct", h, {ekh, CRYPTO_HASH_BYTES}, {m, KEM_SEED});
    expand(h, NULL, ct + KEM_SEED, KEM_BYTES - KEM_SEED);
    DIGEST("ss", h, {ekh, CRYPTO_HASH_BYTES}, {m, KEM_SEED});
    memcpy(ss, h, CRYPTO_KEM_SS_BYTES);
}

static dbe_err kem_encaps(const uint8_t *ek, uint8_t *ct, uint8_t *ss)
{
    uint8_t ekh[CRYPTO_HASH_BYTES], m[KEM_SEED];

    if ((ek[0] & 0x80) != 0)
        return DBE_E_MALFORMED;
    DBE_TRY(base_random(m, sizeof m));
    DIGEST("ekh", ekh, {ek, KEM_BYTES});
    kem_wrap(ekh, m, ct, ss);
    return DBE_OK;
}

static dbe_err kem_decaps(const struct crypto_kem_key *dk, const uint8_t *ct, uint8_t *ss)
{
    uint8_t h[CRYPTO_HASH_BYTES], m[KEM_SEED], again[KEM_BYTES];

    DIGEST("mask", h, {dk->ekh, CRYPTO_HASH_BYTES});
    for (size_t i = 0; i < KEM_SEED; i++)
        m[i] = ct[i] ^ h[i];
    kem_wrap(dk->ekh, m, again, ss);
    if (memcmp(again, ct, KEM_BYTES) != 0) {
        DIGEST("rejected", h, {dk->seed, sizeof dk->seed}, {ct, KEM_BYTES});
        memcpy(ss, h, CRYPTO_KEM_SS_BYTES);
    }
    return DBE_OK;
}

static void kem_key_free(struct crypto_kem_key *dk)
{
    drop(dk, sizeof *dk);
}

static const struct crypto_kem fake_kem = {
    .name = "ML-KEM-1024",
    .ek_bytes = CRYPTO_MLKEM1024_EK_BYTES,
    .ct_bytes = CRYPTO_MLKEM1024_CT_BYTES,
    .ss_bytes = CRYPTO_KEM_SS_BYTES,
    .keygen = kem_keygen,
    .encaps = kem_encaps,
    .decaps = kem_decaps,
    .key_free = kem_key_free,
};

/* ---- Diffie-Hellman: exponents modulo 2^61 - 1 ------------------------------------------------------------------- */

#define DH_P ((UINT64_C(1) << 61) - 1)
enum { X_PUB_BYTES = 32, X_SS_BYTES = 32, DH_BYTES = 8 };

struct crypto_ecdh_key {
    uint64_t x;
};

static uint64_t dh_pow(uint64_t base, uint64_t exponent)
{
    uint64_t result = 1;

    for (; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) != 0)
            result = (uint64_t)((unsigned __int128)result * base % DH_P);
        base = (uint64_t)((unsigned __int128)base * base % DH_P);
    }
    return result;
}

static dbe_err dh_key_new(struct crypto_ecdh_key **ret)
{
    struct crypto_ecdh_key *key = make(sizeof *key);
    dbe_err err;

    if (key == NULL)
        return DBE_E_NOMEM;
    err = base_random(&key->x, sizeof key->x);
    if (err != DBE_OK) {
        drop(key, sizeof *key);
        return err;
    }
    key->x = key->x % (DH_P - 2) + 1;
    *ret = key;
    return DBE_OK;
}

static void dh_key_free(struct crypto_ecdh_key *key)
{
    drop(key, sizeof *key);
}

/* The bytes that follow the number in a public value: on the curve means that they fit. */
static void dh_rest(uint64_t number, uint8_t *out, size_t len)
{
    uint8_t h[CRYPTO_HASH_BYTES];

    DIGEST("point", h, {&number, sizeof number});
    expand(h, NULL, out, len);
}

static void dh_shared(const struct crypto_ecdh_key *key, uint64_t peer, const uint8_t *extra, size_t extra_len,
                      uint8_t *ss, size_t ss_len)
{
    uint64_t number = dh_pow(peer % DH_P, key->x);
    uint8_t h[CRYPTO_HASH_BYTES];

    DIGEST("dh", h, {&number, sizeof number}, {extra, extra_len});
    memcpy(ss, h, ss_len);
}

static dbe_err p384_keygen(struct crypto_ecdh_key **ret, uint8_t *pub)
{
    uint64_t number;

    DBE_TRY(dh_key_new(ret));
    number = dh_pow(37, (*ret)->x);
    pub[0] = 4;
    base_put_u64(pub + 1, number);
    dh_rest(number, pub + 1 + DH_BYTES, CRYPTO_P384_PUB_BYTES - 1 - DH_BYTES);
    return DBE_OK;
}

static dbe_err p384_derive(const struct crypto_ecdh_key *key, const uint8_t *peer_pub, uint8_t *ss)
{
    uint64_t number = base_get_u64(peer_pub + 1);
    uint8_t rest[CRYPTO_P384_PUB_BYTES];

    dh_rest(number, rest, CRYPTO_P384_PUB_BYTES - 1 - DH_BYTES);
    if (peer_pub[0] != 4 || number == 0 || number >= DH_P ||
        memcmp(rest, peer_pub + 1 + DH_BYTES, CRYPTO_P384_PUB_BYTES - 1 - DH_BYTES) != 0)
        return DBE_E_MALFORMED;
    dh_shared(key, number, NULL, 0, ss, CRYPTO_P384_SS_BYTES);
    return DBE_OK;
}

/* As X25519 does: the top bit of the last byte counts for nothing, every other string is a point, zero gives none. */
static dbe_err x_keygen(struct crypto_ecdh_key **ret, uint8_t *pub)
{
    uint64_t number;

    DBE_TRY(dh_key_new(ret));
    number = dh_pow(37, (*ret)->x);
    base_put_u64(pub, number);
    dh_rest(number, pub + DH_BYTES, X_PUB_BYTES - DH_BYTES);
    pub[X_PUB_BYTES - 1] &= 0x7f;
    return DBE_OK;
}

static dbe_err x_derive(const struct crypto_ecdh_key *key, const uint8_t *peer_pub, uint8_t *ss)
{
    uint64_t number = base_get_u64(peer_pub);
    uint8_t rest[X_PUB_BYTES], pub[X_PUB_BYTES];
    bool regular;

    if (number % DH_P == 0)
        return DBE_E_MALFORMED;
    memcpy(pub, peer_pub, sizeof pub);
    pub[X_PUB_BYTES - 1] &= 0x7f;
    dh_rest(number, rest, X_PUB_BYTES - DH_BYTES);
    rest[X_PUB_BYTES - DH_BYTES - 1] &= 0x7f;
    regular = memcmp(rest, pub + DH_BYTES, X_PUB_BYTES - DH_BYTES) == 0;
    dh_shared(key, number, pub, regular ? 0 : sizeof pub, ss, X_SS_BYTES);
    return DBE_OK;
}

static const struct crypto_ecdh fake_p384 = {
    .name = "P-384",
    .pub_bytes = CRYPTO_P384_PUB_BYTES,
    .ss_bytes = CRYPTO_P384_SS_BYTES,
    .keygen = p384_keygen,
    .derive = p384_derive,
    .key_free = dh_key_free,
};
static const struct crypto_ecdh fake_x25519 = {
    .name = "X25519",
    .pub_bytes = X_PUB_BYTES,
    .ss_bytes = X_SS_BYTES,
    .keygen = x_keygen,
    .derive = x_derive,
    .key_free = dh_key_free,
};

/* ---- signatures -------------------------------------------------------------------------------------------------- */

enum { HEDGE = 32 };

struct crypto_key {
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    bool is_private;
    unsigned refs;
};

dbe_err crypto_key_generate(struct crypto_key **ret)
{
    struct crypto_key *key = make(sizeof *key);
    uint8_t seed[32], h[CRYPTO_HASH_BYTES];
    dbe_err err;

    if (key == NULL)
        return DBE_E_NOMEM;
    err = base_random(seed, sizeof seed);
    if (err != DBE_OK) {
        drop(key, sizeof *key);
        return err;
    }
    DIGEST("pk", h, {seed, sizeof seed});
    expand(h, NULL, key->pk, sizeof key->pk);
    key->is_private = true;
    key->refs = 1;
    *ret = key;
    return DBE_OK;
}

dbe_err crypto_key_from_public(const uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], struct crypto_key **ret)
{
    struct crypto_key *key = make(sizeof *key);

    if (key == NULL)
        return DBE_E_NOMEM;
    memcpy(key->pk, pk, sizeof key->pk);
    key->refs = 1;
    *ret = key;
    return DBE_OK;
}

dbe_err crypto_key_public(const struct crypto_key *key, uint8_t pk[CRYPTO_MLDSA87_PK_BYTES])
{
    memcpy(pk, key->pk, CRYPTO_MLDSA87_PK_BYTES);
    return DBE_OK;
}

bool crypto_key_is_private(const struct crypto_key *key)
{
    return key->is_private;
}

struct crypto_key *crypto_key_ref(struct crypto_key *key)
{
    key->refs++;
    return key;
}

void crypto_key_free(struct crypto_key *key)
{
    if (key != NULL && --key->refs == 0)
        drop(key, sizeof *key);
}

static void sig_fill(const struct crypto_key *key, const char *ctx, const void *msg, size_t len, const uint8_t *hedge,
                     uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    uint8_t h[CRYPTO_HASH_BYTES];

    DIGEST("sig", h, {key->pk, sizeof key->pk}, {ctx, strlen(ctx)}, {msg, len}, {hedge, HEDGE});
    memmove(sig, hedge, HEDGE);
    expand(h, NULL, sig + HEDGE, CRYPTO_MLDSA87_SIG_BYTES - HEDGE);
}

dbe_err crypto_sign(const struct crypto_key *key, const char *ctx, const void *msg, size_t len,
                    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    uint8_t hedge[HEDGE];

    if (!key->is_private)
        return DBE_E_ARGUMENT;
    DBE_TRY(base_random(hedge, sizeof hedge));
    sig_fill(key, ctx, msg, len, hedge, sig);
    return DBE_OK;
}

dbe_err crypto_verify(const struct crypto_key *key, const char *ctx, const void *msg, size_t len, const uint8_t *sig,
                      size_t sig_len)
{
    uint8_t want[CRYPTO_MLDSA87_SIG_BYTES];

    if (sig_len != sizeof want)
        return DBE_E_AUTH;
    sig_fill(key, ctx, msg, len, sig, want);
    return memcmp(want, sig, sizeof want) == 0 ? DBE_OK : DBE_E_AUTH;
}

/* ---- AEAD and its ledger ----------------------------------------------------------------------------------------- */

enum { LEDGER_FIRST = 1024 };

/* An open-addressed set of digests of (key, nonce). A run number makes forgetting free. */
struct entry {
    uint64_t a, b, run;
};
static struct entry *ledger;
static size_t ledger_cap, ledger_count;
static uint64_t ledger_run = 1, seals, reused;

void crypto_fake_ledger_reset(void)
{
    ledger_run++;
    ledger_count = 0;
    seals = reused = 0;
}

uint64_t crypto_fake_seals(void)
{
    return seals;
}

uint64_t crypto_fake_nonces_reused(void)
{
    return reused;
}

/* True if it was not there. */
static bool ledger_put(uint64_t a, uint64_t b)
{
    size_t at = a & (ledger_cap - 1);

    while (ledger[at].run == ledger_run) {
        if (ledger[at].a == a && ledger[at].b == b)
            return false;
        at = (at + 1) & (ledger_cap - 1);
    }
    ledger[at] = (struct entry){a, b, ledger_run};
    ledger_count++;
    return true;
}

/* The ledger is the test's own memory: it comes from the C library, so that the n-th allocation of the code under test
 * is the n-th with and without it. */
static void ledger_grow(void)
{
    struct entry *old = ledger;
    size_t old_cap = ledger_cap;

    ledger_cap = old_cap > 0 ? old_cap * 2 : LEDGER_FIRST;
    ledger = calloc(ledger_cap, sizeof *ledger);
    BASE_INVARIANT(ledger != NULL);
    ledger_count = 0;
    for (size_t i = 0; i < old_cap; i++)
        if (old[i].run == ledger_run)
            (void)ledger_put(old[i].a, old[i].b);
    free(old);
}

static void ledger_note(const uint8_t *key, const uint8_t *iv)
{
    uint8_t h[CRYPTO_HASH_BYTES];

    if (ledger_count * 2 >= ledger_cap)
        ledger_grow();
    DIGEST("used", h, {key, CRYPTO_AEAD_KEY_BYTES}, {iv, CRYPTO_AEAD_IV_BYTES});
    seals++;
    reused += !ledger_put(base_get_u64(h), base_get_u64(h + 8));
}

struct crypto_aead_ctx {
    uint8_t key[CRYPTO_AEAD_KEY_BYTES];
    bool seal;
};

static dbe_err aead_new(const uint8_t key[CRYPTO_AEAD_KEY_BYTES], bool seal, struct crypto_aead_ctx **ret)
{
    struct crypto_aead_ctx *ctx = make(sizeof *ctx);

    if (ctx == NULL)
        return DBE_E_NOMEM;
    memcpy(ctx->key, key, sizeof ctx->key);
    ctx->seal = seal;
    *ret = ctx;
    return DBE_OK;
}

static void aead_free(struct crypto_aead_ctx *ctx)
{
    drop(ctx, sizeof *ctx);
}

static void aead_pad(const struct crypto_aead_ctx *ctx, const uint8_t *iv, const uint8_t *in, size_t len, uint8_t *out)
{
    uint8_t h[CRYPTO_HASH_BYTES];

    DIGEST("stream", h, {ctx->key, sizeof ctx->key}, {iv, CRYPTO_AEAD_IV_BYTES});
    expand(h, in, out, len);
}

static void aead_tag(const struct crypto_aead_ctx *ctx, const uint8_t *iv, const void *aad, size_t aad_len,
                     const uint8_t *text, size_t len, uint8_t tag[CRYPTO_HASH_BYTES])
{
    DIGEST("tag", tag, {ctx->key, sizeof ctx->key}, {iv, CRYPTO_AEAD_IV_BYTES}, {aad, aad_len}, {text, len});
}

static dbe_err aead_seal(struct crypto_aead_ctx *ctx, const uint8_t iv[CRYPTO_AEAD_IV_BYTES], const void *aad,
                         size_t aad_len, const void *in, size_t len, uint8_t *out)
{
    uint8_t tag[CRYPTO_HASH_BYTES];

    BASE_INVARIANT(ctx->seal);
    ledger_note(ctx->key, iv);
    aead_pad(ctx, iv, in, len, out);
    aead_tag(ctx, iv, aad, aad_len, out, len, tag);
    memcpy(out + len, tag, CRYPTO_AEAD_TAG_BYTES);
    return DBE_OK;
}

static dbe_err aead_open(struct crypto_aead_ctx *ctx, const uint8_t iv[CRYPTO_AEAD_IV_BYTES], const void *aad,
                         size_t aad_len, const void *in, size_t len, uint8_t *out)
{
    uint8_t tag[CRYPTO_HASH_BYTES];
    const uint8_t *text = in;

    BASE_INVARIANT(!ctx->seal);
    if (len < CRYPTO_AEAD_TAG_BYTES)
        return DBE_E_AUTH;
    len -= CRYPTO_AEAD_TAG_BYTES;
    aead_tag(ctx, iv, aad, aad_len, text, len, tag);
    if (memcmp(tag, text + len, CRYPTO_AEAD_TAG_BYTES) != 0) {
        memset(out, 0, len);
        return DBE_E_AUTH;
    }
    aead_pad(ctx, iv, in, len, out);
    return DBE_OK;
}

static const struct crypto_aead fake_aead = {
    .name = "AES-256-GCM",
    .new_ctx = aead_new,
    .free_ctx = aead_free,
    .seal = aead_seal,
    .open = aead_open,
};

/* ---- suites ------------------------------------------------------------------------------------------------------ */

const uint16_t crypto_fake_suite_ids[CRYPTO_FAKE_SUITES] = {1, 2, 3};

static const struct crypto_suite rows[CRYPTO_FAKE_SUITES] = {
    {.id = 1, .name = "FAKE-1", .ecdh = &fake_p384, .kem = &fake_kem, .aead = &fake_aead},
    {.id = 2, .name = "FAKE-2", .ecdh = &fake_x25519, .kem = &fake_kem, .aead = &fake_aead},
    {.id = 3, .name = "FAKE-3", .ecdh = &fake_x25519, .kem = &fake_kem, .aead = &fake_aead},
};
static const struct crypto_suite *const suites[CRYPTO_FAKE_SUITES] = {&rows[0], &rows[1], &rows[2]};

const struct crypto_suite *crypto_suite(uint16_t id)
{
    for (size_t i = 0; i < CRYPTO_FAKE_SUITES; i++)
        if (rows[i].id == id)
            return &rows[i];
    return NULL;
}

size_t crypto_suites(const struct crypto_suite *const **ret)
{
    *ret = suites;
    return CRYPTO_FAKE_SUITES;
}
