/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_session.c - what the channel costs beside its bare primitives, in one run on one thread.
 *
 * Out: a table: seal and open of 64 B, 1 KiB and 64 KiB; the handshake, both sides; a rekey. Ratios are what counts,
 *      figures drift with the machine. Both halves of a ratio alternate in small slices, so that they drift together.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/session_fake.h"

#define MUST(expr)                                                                                                     \
    do {                                                                                                               \
        dbe_err must_err_ = (expr);                                                                                    \
        if (must_err_ != DBE_OK) {                                                                                     \
            fprintf(stderr, "bench_session: %s: %s\n", #expr, dbe_err_name(must_err_));                                \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { SLICES = 60, HANDSHAKES = 200, REKEYS = 2000 };

static struct fake alice, bob;

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}

static void row(const char *what, double ours, double bare, const char *unit)
{
    printf("%-28s %10.3f %10.3f %s  %6.2fx\n", what, ours, bare, unit, bare > 0 ? ours / bare : 0);
}

struct records {
    struct fake_pair p;
    const struct crypto_aead *aead;
    struct crypto_aead_ctx *seal, *open;
    uint8_t *msg, *box;
    size_t len;
    uint64_t count; /* nonces of the bare half */
};

/* One slice of `n` records each way; nanoseconds a record. */
static void slice(struct records *r, size_t n, double *ret_ours, double *ret_bare)
{
    uint8_t iv[CRYPTO_AEAD_IV_BYTES] = {0}, head[DBE_RECORD_HEADER_BYTES] = {0};
    enum sess_event ev;
    const uint8_t *msg;
    size_t used, len;
    uint64_t start = base_mono_ns();

    for (size_t i = 0; i < n; i++) {
        base_put_u64(iv + 4, r->count++);
        MUST(r->aead->seal(r->seal, iv, head, sizeof head, r->msg, r->len, r->box));
        MUST(r->aead->open(r->open, iv, head, sizeof head, r->box, r->len + CRYPTO_AEAD_TAG_BYTES, r->box));
    }
    uint64_t middle = base_mono_ns();
    for (size_t i = 0; i < n; i++) {
        base_buf_clear(&r->p.to_r);
        MUST(sess_seal(r->p.i, r->msg, r->len, 1, &r->p.to_r));
        MUST(sess_feed(r->p.r, r->p.to_r.data, r->p.to_r.len, &used, &ev, &msg, &len, &r->p.to_i));
    }
    *ret_ours = (double)(base_mono_ns() - middle) / (double)n;
    *ret_bare = (double)(middle - start) / (double)n;
}

static void bench_records(size_t len, size_t n)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    struct records r = {.aead = crypto_suite(CRYPTO_SUITE_1)->aead, .len = len};
    uint8_t key[CRYPTO_AEAD_KEY_BYTES] = {1};
    double ours[SLICES], bare[SLICES];
    char what[64];

    r.msg = base_alloc(len, 1);
    r.box = base_alloc(len + CRYPTO_AEAD_TAG_BYTES, 1);
    MUST(r.msg != NULL && r.box != NULL ? DBE_OK : DBE_E_NOMEM);
    MUST(fake_pair_new(&r.p, &ci, &cr));
    MUST(fake_handshake(&r.p));
    MUST(r.aead->new_ctx(key, true, &r.seal));
    MUST(r.aead->new_ctx(key, false, &r.open));
    for (size_t i = 0; i < SLICES; i++)
        slice(&r, n, &ours[i], &bare[i]);
    (void)snprintf(what, sizeof what, "seal + open, %zu B", len);
    row(what, median(ours, SLICES) / 1000, median(bare, SLICES) / 1000, "us");
    r.aead->free_ctx(r.seal);
    r.aead->free_ctx(r.open);
    fake_pair_free(&r.p);
    base_free(r.msg);
    base_free(r.box);
}

/* The primitives of one handshake, both sides, and nothing else. */
static void primitives(const struct crypto_suite *suite)
{
    struct crypto_ecdh_key *a = NULL, *b = NULL;
    struct crypto_kem_key *dk = NULL;
    uint8_t pa[CRYPTO_P384_PUB_BYTES], pb[CRYPTO_P384_PUB_BYTES], ss[CRYPTO_P384_SS_BYTES];
    uint8_t ek[CRYPTO_MLKEM1024_EK_BYTES], ct[CRYPTO_MLKEM1024_CT_BYTES], sig[CRYPTO_MLDSA87_SIG_BYTES];
    struct fake *signer[2] = {&alice, &bob};

    MUST(suite->ecdh->keygen(&a, pa));
    MUST(suite->ecdh->keygen(&b, pb));
    MUST(suite->ecdh->derive(a, pb, ss));
    MUST(suite->ecdh->derive(b, pa, ss));
    MUST(suite->kem->keygen(&dk, ek));
    MUST(suite->kem->encaps(ek, ct, ss));
    MUST(suite->kem->decaps(dk, ct, ss));
    for (size_t i = 0; i < 2; i++) {
        struct crypto_key *key = NULL;

        MUST(crypto_sign(signer[i]->key, "bench", ss, sizeof ss, sig));
        MUST(crypto_key_from_public(signer[i]->cert + 6, &key));
        MUST(crypto_verify(key, "bench", ss, sizeof ss, sig, sizeof sig));
        crypto_key_free(key);
    }
    suite->ecdh->key_free(a);
    suite->ecdh->key_free(b);
    suite->kem->key_free(dk);
}

/* A signature's time varies with its rejections, so means: everything is done HANDSHAKES times. */
static void bench_handshake(void)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    uint64_t ours = 0, bare = 0;

    for (size_t i = 0; i < HANDSHAKES; i++) {
        struct fake_pair p;
        uint64_t start = base_mono_ns();

        primitives(crypto_suite(CRYPTO_SUITE_1));
        uint64_t middle = base_mono_ns();
        MUST(fake_pair_new(&p, &ci, &cr));
        MUST(fake_handshake(&p));
        fake_pair_free(&p);
        ours += base_mono_ns() - middle;
        bare += middle - start;
    }
    row("handshake, both sides", (double)ours / HANDSHAKES / 1000, (double)bare / HANDSHAKES / 1000, "us");
}

static void bench_rekey(void)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    struct fake_pair p;
    enum sess_event ev;
    const uint8_t *msg;
    size_t used, len;

    MUST(fake_pair_new(&p, &ci, &cr));
    MUST(fake_handshake(&p));
    uint64_t start = base_mono_ns();
    for (size_t i = 0; i < REKEYS; i++) {
        base_buf_clear(&p.to_r);
        MUST(sess_rekey(p.i, 1, &p.to_r));
        MUST(sess_feed(p.r, p.to_r.data, p.to_r.len, &used, &ev, &msg, &len, &p.to_i));
    }
    double us = (double)(base_mono_ns() - start) / REKEYS / 1000;
    printf("%-28s %10.3f %10s us  %.0f a second\n", "rekey, both sides", us, "", 1e6 / us);
    fake_pair_free(&p);
}

int main(void)
{
    struct dbe_diag diag = {0};

    MUST(crypto_init(&diag));
    MUST(fake_init(&alice, 1, 1));
    MUST(fake_init(&bob, 2, 1));
    printf("%s, %s\n", crypto_backend_version(), crypto_suite(CRYPTO_SUITE_1)->name);
    printf("%-28s %10s %10s\n", "", "channel", "bare");
    bench_records(64, 2000);
    bench_records(1024, 1000);
    bench_records(65536, 50);
    bench_handshake();
    bench_rekey();
    fake_fini(&alice);
    fake_fini(&bob);
    return 0;
}
