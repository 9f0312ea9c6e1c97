/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_crypto.c - what each primitive costs, on each backend of this build, on one thread.
 *
 * In:   bench_crypto [--json FILE]
 * Out:  a table, and with --json the same as JSON. Nanoseconds a call, the median of slices; the slices of the backends
 *       alternate, so that they drift together with the machine. The last column is against OpenSSL of the same run.
 *       Two rows of memory: bytes that an idle channel's pair of contexts takes.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/median.h"
#include "crypto/backend/backend.h"
#include "crypto/secret.h"

#define MUST(expr)                                                                                                     \
    do {                                                                                                               \
        dbe_err must_err_ = (expr);                                                                                    \
        if (must_err_ != DBE_OK) {                                                                                     \
            fprintf(stderr, "bench_crypto: %s: %s\n", #expr, dbe_err_name(must_err_));                                 \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { SLICES = 41, SLICE_NS = 2000000, HEAD_BYTES = 16, LARGE_BYTES = 64 * 1024, PAIRS = 256 };

static FILE *json;
static const char *json_comma = "";

/* ---- the table -------------------------------------------------------------------------------------------------- */

static void row(const char *what, const char *backend, const char *unit, double value, double reference)
{
    double ratio = reference > 0 ? value / reference : 0;

    printf("%-28s %-10s %12.1f %-5s %7.2fx\n", what, backend, value, unit, ratio);
    if (json != NULL)
        fprintf(json, "%s\n  {\"what\": \"%s\", \"kind\": \"%s\", \"unit\": \"%s\", \"value\": %.2f, \"ratio\": %.4f}",
                json_comma, what, backend, unit, value, ratio);
    json_comma = ",";
}

/* ---- one measure on several backends ---------------------------------------------------------------------------- */

/* What a measured call works on. */
struct subject {
    const struct crypto_backend *backend;
    const struct crypto_aead *aead;
    struct crypto_aead_ctx *seal, *open;
    const struct crypto_kem *kem;
    struct crypto_kem_key *dk;
    const struct crypto_ecdh *ecdh;
    struct crypto_ecdh_key *ec;
    struct crypto_key *key;
    size_t len;
    uint64_t iv;
    uint8_t ek[CRYPTO_MLKEM1024_EK_BYTES], ct[CRYPTO_MLKEM1024_CT_BYTES], sig[CRYPTO_MLDSA87_SIG_BYTES];
    uint8_t pub[CRYPTO_ECDH_PUB_MAX_BYTES], pk[CRYPTO_MLDSA87_PK_BYTES];
    uint8_t *text, *box;
};

typedef void call_fn(struct subject *s);

/* Calls that fill a slice. */
static size_t calls_a_slice(call_fn *call, struct subject *s)
{
    for (size_t n = 1;; n *= 2) {
        uint64_t start = base_mono_ns();

        for (size_t i = 0; i < n; i++)
            call(s);
        if (base_mono_ns() - start > SLICE_NS / 2)
            return n;
    }
}

static void measure(const char *what, call_fn *call, struct subject *subjects, size_t count)
{
    double ns[8][SLICES];
    size_t calls[8];

    for (size_t k = 0; k < count; k++)
        calls[k] = calls_a_slice(call, &subjects[k]);
    for (size_t i = 0; i < SLICES; i++) {
        for (size_t k = 0; k < count; k++) {
            uint64_t start = base_mono_ns();

            for (size_t n = 0; n < calls[k]; n++)
                call(&subjects[k]);
            ns[k][i] = (double)(base_mono_ns() - start) / (double)calls[k];
        }
    }
    for (size_t k = 0; k < count; k++) {
        double ours = median(ns[k], SLICES); /* the reference first: it is sorted by then */
        row(what, subjects[k].backend->name, "ns", ours, ns[0][SLICES / 2]);
    }
}

/* ---- AEAD ------------------------------------------------------------------------------------------------------- */

static void call_seal(struct subject *s)
{
    uint8_t iv[CRYPTO_AEAD_IV_BYTES] = {0};

    base_put_u64(iv + 4, s->iv++);
    MUST(s->aead->seal(s->seal, iv, s->pub, HEAD_BYTES, s->text, s->len, s->box));
}

/* The nonce of the box that stands there. */
static void call_open(struct subject *s)
{
    uint8_t iv[CRYPTO_AEAD_IV_BYTES] = {0};

    base_put_u64(iv + 4, s->iv - 1);
    MUST(s->aead->open(s->open, iv, s->pub, HEAD_BYTES, s->box, s->len + CRYPTO_AEAD_TAG_BYTES, s->text));
}

static void call_new_ctx(struct subject *s)
{
    struct crypto_aead_ctx *ctx = NULL;

    MUST(s->aead->new_ctx(s->pub, true, &ctx));
    s->aead->free_ctx(ctx);
}

static void bench_aead(struct subject *subjects, size_t count)
{
    static const size_t sizes[] = {64, 1024, LARGE_BYTES};
    char what[64];

    for (size_t k = 0; k < count; k++) {
        subjects[k].text = base_alloc(LARGE_BYTES, 1);
        subjects[k].box = base_alloc(LARGE_BYTES + CRYPTO_AEAD_TAG_BYTES, 1);
        MUST(subjects[k].text != NULL && subjects[k].box != NULL ? DBE_OK : DBE_E_NOMEM);
        MUST(subjects[k].aead->new_ctx(subjects[k].pub, true, &subjects[k].seal));
        MUST(subjects[k].aead->new_ctx(subjects[k].pub, false, &subjects[k].open));
    }
    for (size_t i = 0; i < BASE_ARRAY_LEN(sizes); i++) {
        for (size_t k = 0; k < count; k++)
            subjects[k].len = sizes[i];
        snprintf(what, sizeof what, "AES-256-GCM seal %zu B", sizes[i]);
        measure(what, call_seal, subjects, count);
        snprintf(what, sizeof what, "AES-256-GCM open %zu B", sizes[i]);
        measure(what, call_open, subjects, count);
    }
    measure("AES-256-GCM key", call_new_ctx, subjects, count);
    for (size_t k = 0; k < count; k++) {
        subjects[k].aead->free_ctx(subjects[k].seal);
        subjects[k].aead->free_ctx(subjects[k].open);
        base_free(subjects[k].text);
        base_free(subjects[k].box);
    }
}

/* Bytes of both heaps that are in use. */
static size_t in_use(void)
{
    return mallinfo2().uordblks + crypto_secret_stats().held_bytes;
}

static void bench_memory(struct subject *subjects, size_t count)
{
    struct crypto_aead_ctx *made[2 * PAIRS];
    double reference = 0;

    for (size_t k = 0; k < count; k++) {
        size_t before = in_use();

        for (size_t i = 0; i < BASE_ARRAY_LEN(made); i++)
            MUST(subjects[k].aead->new_ctx(subjects[k].pub, i % 2 == 0, &made[i]));

        double pair = (double)(in_use() - before) / PAIRS;

        reference = k == 0 ? pair : reference;
        row("idle pair of contexts", subjects[k].backend->name, "bytes", pair, reference);
        for (size_t i = 0; i < BASE_ARRAY_LEN(made); i++)
            subjects[k].aead->free_ctx(made[i]);
    }
}

/* ---- KEM, Diffie-Hellman, signatures, KDF ----------------------------------------------------------------------- */

static void call_kem_keygen(struct subject *s)
{
    struct crypto_kem_key *dk = NULL;

    MUST(s->kem->keygen(&dk, s->ek));
    s->kem->key_free(s->dk);
    s->dk = dk;
}

static void call_encaps(struct subject *s)
{
    uint8_t ss[CRYPTO_KEM_SS_BYTES];

    MUST(s->kem->encaps(s->ek, s->ct, ss));
}

static void call_decaps(struct subject *s)
{
    uint8_t ss[CRYPTO_KEM_SS_BYTES];

    MUST(s->kem->decaps(s->dk, s->ct, ss));
}

static void call_ecdh_keygen(struct subject *s)
{
    struct crypto_ecdh_key *ec = NULL;

    MUST(s->ecdh->keygen(&ec, s->pub));
    if (s->ec != NULL)
        s->ecdh->key_free(s->ec);
    s->ec = ec;
}

static void call_ecdh_derive(struct subject *s)
{
    uint8_t ss[CRYPTO_ECDH_SS_MAX_BYTES];

    MUST(s->ecdh->derive(s->ec, s->pub, ss));
}

static void call_sign(struct subject *s)
{
    MUST(crypto_sign(s->key, "bench", s->pub, CRYPTO_HASH_BYTES, s->sig));
}

static void call_verify(struct subject *s)
{
    MUST(crypto_verify(s->key, "bench", s->pub, CRYPTO_HASH_BYTES, s->sig, sizeof s->sig));
}

/* As a handshake meets a peer's key: loaded and used once. */
static void call_load_verify(struct subject *s)
{
    struct crypto_key *key = NULL;

    crypto_key_use(s->backend->sig[0]);
    MUST(crypto_key_from_public(s->pk, &key));
    MUST(crypto_verify(key, "bench", s->pub, CRYPTO_HASH_BYTES, s->sig, sizeof s->sig));
    crypto_key_free(key);
}

static void call_hkdf(struct subject *s)
{
    uint8_t out[CRYPTO_AEAD_KEY_BYTES];

    MUST(crypto_hkdf_expand(s->pk, "DSMIL-DBE key", 14, out, sizeof out));
}

static void call_hmac(struct subject *s)
{
    uint8_t out[CRYPTO_HASH_BYTES];

    MUST(crypto_hmac(s->pk, CRYPTO_HASH_BYTES, s->pk, CRYPTO_HASH_BYTES, out));
}

static void call_sha3(struct subject *s)
{
    uint8_t out[CRYPTO_HASH_BYTES];

    MUST(crypto_sha3_512(s->ct, 1024, out));
}

static void bench_kem(struct subject *subjects, size_t count)
{
    measure("ML-KEM-1024 key", call_kem_keygen, subjects, count);
    measure("ML-KEM-1024 encaps", call_encaps, subjects, count);
    measure("ML-KEM-1024 decaps", call_decaps, subjects, count);
    for (size_t k = 0; k < count; k++)
        subjects[k].kem->key_free(subjects[k].dk);
}

static void bench_sig(struct subject *subjects, size_t count)
{
    struct crypto_key *key = NULL;

    MUST(crypto_key_generate(&key));
    for (size_t k = 0; k < count; k++) {
        MUST(crypto_key_with(key, subjects[k].backend->sig[0], &subjects[k].key));
        MUST(crypto_key_public(key, subjects[k].pk));
    }
    measure("ML-DSA-87 sign", call_sign, subjects, count);
    measure("ML-DSA-87 verify", call_verify, subjects, count);
    measure("ML-DSA-87 load and verify", call_load_verify, subjects, count);
    for (size_t k = 0; k < count; k++)
        crypto_key_free(subjects[k].key);
    crypto_key_free(key);
}

static void bench_ecdh(const struct crypto_backend *backend)
{
    char what[64];

    for (size_t i = 0; backend->ecdh[i] != NULL; i++) {
        struct subject s = {.backend = backend, .ecdh = backend->ecdh[i]};

        snprintf(what, sizeof what, "%s key", s.ecdh->name);
        measure(what, call_ecdh_keygen, &s, 1);
        snprintf(what, sizeof what, "%s derive", s.ecdh->name);
        measure(what, call_ecdh_derive, &s, 1);
        s.ecdh->key_free(s.ec);
    }
}

/* Every backend that has the slot, OpenSSL first. */
static void bench_all(void)
{
    static struct subject aead[8], kem[8], sig[8], one;
    const struct crypto_backend *const *all = NULL;
    size_t count = crypto_backends(&all), aeads = 0, kems = 0, sigs = 0;

    for (size_t i = 0; i < count && i < BASE_ARRAY_LEN(aead); i++) {
        MUST(all[i]->init(NULL));
        if (all[i]->aead[0] != NULL)
            aead[aeads++] = (struct subject){.backend = all[i], .aead = all[i]->aead[0]};
        if (all[i]->sig[0] != NULL)
            sig[sigs++] = (struct subject){.backend = all[i]};
        if (all[i]->kem[0] != NULL) {
            kem[kems] = (struct subject){.backend = all[i], .kem = all[i]->kem[0]};
            MUST(kem[kems].kem->keygen(&kem[kems].dk, kem[kems].ek));
            kems++;
        }
    }
    one.backend = all[0];
    bench_aead(aead, aeads);
    bench_memory(aead, aeads);
    bench_kem(kem, kems);
    bench_ecdh(all[0]);
    bench_sig(sig, sigs);
    measure("SHA3-512 1024 B", call_sha3, &one, 1);
    measure("HMAC-SHA3-512 64 B", call_hmac, &one, 1);
    measure("HKDF-SHA3-512 expand", call_hkdf, &one, 1);
}

int main(int argc, char **argv)
{
    struct dbe_diag diag = {0};

    if (argc == 3 && strcmp(argv[1], "--json") == 0) {
        json = fopen(argv[2], "w");
    } else if (argc != 1) {
        fprintf(stderr, "usage: bench_crypto [--json FILE]\n");
        return 2;
    }
    if ((argc == 3 && json == NULL) || crypto_init(&diag) != DBE_OK) {
        fprintf(stderr, "bench_crypto: %s\n", argc == 3 && json == NULL ? "cannot write the file" : diag.text);
        return 1;
    }
    if (json != NULL)
        fputs("{\"bench\": \"crypto\", \"rows\": [", json);
    fputs(dbe_crypto_backends(), stdout);
    bench_all();
    if (json != NULL)
        fputs("\n]}\n", json);
    return json != NULL && fclose(json) != 0 ? 1 : 0;
}
