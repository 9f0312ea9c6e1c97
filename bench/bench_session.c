/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_session.c - what the channel costs beside its bare primitives, in one run on one thread.
 *
 * In:   bench_session [--json FILE]
 * Out:  a table, and with --json the same as JSON: seal and open of 64 B, 1 KiB and 64 KiB; for each suite the
 *       handshake, the handshake inside a channel and a rekey, both sides. Ratios are what counts, figures drift with
 *       the machine. Both halves of a ratio alternate in small slices, so that they drift together.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/median.h"
#include "session/session_fake.h"

#define MUST(expr)                                                                                                     \
    do {                                                                                                               \
        dbe_err must_err_ = (expr);                                                                                    \
        if (must_err_ != DBE_OK) {                                                                                     \
            fprintf(stderr, "bench_session: %s: %s\n", #expr, dbe_err_name(must_err_));                                \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { SLICES = 60, HANDSHAKES = 400, REKEYS = 2000 };

static struct fake alice, bob;

static FILE *json;
static const char *json_comma = "";

/* `bare` 0: there is nothing to compare it with. */
static void row(const char *what, const char *suite, double ours, double bare)
{
    printf("%-44s %10.3f", what, ours);
    if (bare > 0)
        printf(" %10.3f us  %6.3fx\n", bare, ours / bare);
    else
        printf(" %10s us  %.0f a second\n", "", 1e6 / ours);
    if (json == NULL)
        return;
    (void)fprintf(json, "%s\n  {\"what\": \"%s\", \"suite\": \"%s\", \"unit\": \"us\", \"value\": %.3f", json_comma,
                  what, suite, ours);
    if (bare > 0)
        (void)fprintf(json, ", \"bare\": %.3f, \"ratio\": %.4f", bare, ours / bare);
    (void)fprintf(json, "}");
    json_comma = ",";
}

/* A signature takes as long as its rejections want, in both halves alike: it is timed by itself, and its median over
 * both halves counts in both. */
static double sign_us;

static double cpu_us(void)
{
    return (double)clock() * 1e6 / CLOCKS_PER_SEC; /* of which whatever else runs takes less than of the wall's */
}

static dbe_err timed_sign(void *ctx, const char *sig_ctx, const void *msg, size_t len,
                          uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    double start = cpu_us();
    dbe_err err = fake_sign(ctx, sig_ctx, msg, len, sig);

    sign_us += cpu_us() - start;
    return err;
}

static void pair_new(struct fake_pair *p, const struct crypto_suite *suite)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);

    ci.suites[0] = suite->id;
    ci.suites_count = 1;
    ci.auth.sign = cr.auth.sign = timed_sign;
    MUST(fake_pair_new(p, &ci, &cr));
    MUST(fake_handshake(p));
    base_buf_clear(&p->to_i);
    base_buf_clear(&p->to_r);
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
    struct records r = {.aead = crypto_suite(CRYPTO_SUITE_1)->aead, .len = len};
    uint8_t key[CRYPTO_AEAD_KEY_BYTES] = {1};
    double ours[SLICES], bare[SLICES];
    char what[64];

    r.msg = base_alloc(len, 1);
    r.box = base_alloc(len + CRYPTO_AEAD_TAG_BYTES, 1);
    MUST(r.msg != NULL && r.box != NULL ? DBE_OK : DBE_E_NOMEM);
    pair_new(&r.p, crypto_suite(CRYPTO_SUITE_1));
    MUST(r.aead->new_ctx(key, true, &r.seal));
    MUST(r.aead->new_ctx(key, false, &r.open));
    for (size_t i = 0; i < SLICES; i++)
        slice(&r, n, &ours[i], &bare[i]);
    (void)snprintf(what, sizeof what, "seal + open, %zu B", len);
    row(what, "any", median(ours, SLICES) / 1000, median(bare, SLICES) / 1000);
    r.aead->free_ctx(r.seal);
    r.aead->free_ctx(r.open);
    fake_pair_free(&r.p);
    base_free(r.msg);
    base_free(r.box);
}

/* The primitives of one handshake, both sides, and nothing else; beside the owner's check of a certificate, which is
 * not the channel's: here one hash. Transcript, key schedule and seals are what the channel adds. */
static void primitives(const struct crypto_suite *suite)
{
    struct crypto_ecdh_key *a = NULL, *b = NULL;
    struct crypto_kem_key *dk = NULL;
    uint8_t pa[CRYPTO_ECDH_PUB_MAX_BYTES], pb[CRYPTO_ECDH_PUB_MAX_BYTES], ss[CRYPTO_ECDH_SS_MAX_BYTES];
    uint8_t ek[CRYPTO_MLKEM1024_EK_BYTES], ct[CRYPTO_MLKEM1024_CT_BYTES], sig[CRYPTO_MLDSA87_SIG_BYTES];
    struct fake *signer[2] = {&alice, &bob};
    uint8_t hash[CRYPTO_HASH_BYTES];

    MUST(suite->ecdh->keygen(&a, pa));
    MUST(suite->ecdh->keygen(&b, pb));
    MUST(suite->ecdh->derive(a, pb, ss));
    MUST(suite->ecdh->derive(b, pa, ss));
    MUST(suite->kem->keygen(&dk, ek));
    MUST(suite->kem->encaps(ek, ct, ss));
    MUST(suite->kem->decaps(dk, ct, ss));
    for (size_t i = 0; i < 2; i++) {
        struct crypto_key *key = NULL;

        MUST(timed_sign(signer[i], "bench", ss, sizeof ss, sig));
        MUST(crypto_key_from_public(signer[i]->cert + 6, &key));
        MUST(crypto_verify(key, "bench", ss, sizeof ss, sig, sizeof sig));
        MUST(crypto_sha3_512(signer[i]->cert, FAKE_CERT_BYTES - CRYPTO_HASH_BYTES, hash));
        crypto_key_free(key);
    }
    suite->ecdh->key_free(a);
    suite->ecdh->key_free(b);
    suite->kem->key_free(dk);
}

struct halves {
    double ours[HANDSHAKES], bare[HANDSHAKES], sign[2 * HANDSHAKES];
    size_t count;
    double start, middle;
};
static struct halves halves;

static void begin_bare(struct halves *h)
{
    sign_us = 0;
    h->start = cpu_us();
}

static void begin_ours(struct halves *h)
{
    h->middle = cpu_us();
    h->bare[h->count] = h->middle - h->start - sign_us;
    h->sign[2 * h->count] = sign_us;
    sign_us = 0;
    h->middle = cpu_us();
}

static void end_ours(struct halves *h)
{
    h->ours[h->count] = cpu_us() - h->middle - sign_us;
    h->sign[2 * h->count + 1] = sign_us;
    h->count++;
}

static void halves_row(struct halves *h, const char *what, const struct crypto_suite *suite)
{
    double sign = median(h->sign, 2 * h->count);
    char name[64];

    (void)snprintf(name, sizeof name, "%s, %s", what, suite->ecdh->name);
    row(name, suite->name, median(h->ours, h->count) + sign, median(h->bare, h->count) + sign);
    h->count = 0;
}

static void bench_handshake(const struct crypto_suite *suite)
{
    for (size_t i = 0; i < HANDSHAKES; i++) {
        struct fake_pair p;

        begin_bare(&halves);
        primitives(suite);
        begin_ours(&halves);
        pair_new(&p, suite);
        fake_pair_free(&p);
        end_ours(&halves);
    }
    halves_row(&halves, "handshake, both sides", suite);
}

/* The symmetric primitives of one handshake, both sides: what transcript, key schedule and seals cost by themselves. */
static void bench_symmetric(const struct crypto_suite *suite)
{
    enum { BLOCK = 2 + FAKE_CERT_BYTES + 2 + CRYPTO_MLDSA87_SIG_BYTES + CRYPTO_HASH_BYTES, DERIVED = 15, PEEKED = 9 };
    static uint8_t transcript[2 * BLOCK + 8192], box[BLOCK + CRYPTO_AEAD_TAG_BYTES];
    static double us[HANDSHAKES];
    uint8_t key[CRYPTO_HASH_BYTES] = {1}, out[CRYPTO_HASH_BYTES], iv[CRYPTO_AEAD_IV_BYTES] = {0};
    size_t len = 2 * BLOCK + SESS_MSG1_FIXED_BYTES + SESS_MSG2_FIXED_BYTES + 2 * suite->ecdh->pub_bytes +
                 suite->kem->ek_bytes + suite->kem->ct_bytes;
    char what[64];

    for (size_t i = 0; i < HANDSHAKES; i++) {
        double start = cpu_us();

        for (int side = 0; side < 2; side++) {
            struct crypto_hash *h = NULL;

            MUST(crypto_hash_new(&h));
            MUST(crypto_hash_update(h, transcript, len));
            for (int n = 0; n < PEEKED; n++)
                MUST(crypto_hash_peek(h, out));
            crypto_hash_free(h);
            MUST(crypto_hkdf_extract(key, sizeof key, key, sizeof key, out));
            for (int n = 0; n < DERIVED; n++)
                MUST(crypto_hkdf_expand(key, "DSMIL-DBE hs key i2r", 21, out, sizeof out));
            for (int n = 0; n < 4; n++) { /* two blocks, and the keys of the channel */
                struct crypto_aead_ctx *ctx = NULL;

                MUST(suite->aead->new_ctx(key, true, &ctx));
                if (n < 2)
                    MUST(suite->aead->seal(ctx, iv, key, 16, transcript, BLOCK, box));
                suite->aead->free_ctx(ctx);
                if (n < 2)
                    MUST(crypto_hmac(key, sizeof key, key, sizeof key, out));
            }
        }
        us[i] = cpu_us() - start;
    }
    (void)snprintf(what, sizeof what, "of it transcript, keys, seals, %s", suite->ecdh->name);
    row(what, suite->name, median(us, HANDSHAKES), 0);
}

/* One record of `from` to `s`, whose own follow into `to`. */
static void hand_over(struct sess *s, struct base_buf *from, struct base_buf *to)
{
    enum sess_event ev;
    const uint8_t *msg;
    size_t len;

    MUST(fake_step(s, from, to, &ev, &msg, &len));
    MUST(sess_flush(s, 1, to));
}

/* The same inside a channel, up to both directions having switched. */
static void bench_rehandshake(const struct crypto_suite *suite)
{
    struct fake_pair p;

    pair_new(&p, suite);
    for (size_t i = 0; i < HANDSHAKES; i++) {
        begin_bare(&halves);
        primitives(suite);
        begin_ours(&halves);
        MUST(sess_rehandshake(p.i, NULL, 0, 1, &p.to_r));
        while (p.to_r.len > 0 || p.to_i.len > 0) {
            while (p.to_r.len > 0)
                hand_over(p.r, &p.to_r, &p.to_i);
            while (p.to_i.len > 0)
                hand_over(p.i, &p.to_i, &p.to_r);
        }
        end_ours(&halves);
    }
    fake_pair_free(&p);
    halves_row(&halves, "handshake inside a channel", suite);
}

static void bench_rekey(const struct crypto_suite *suite)
{
    struct fake_pair p;
    enum sess_event ev;
    const uint8_t *msg;
    size_t used, len;
    char what[64];

    pair_new(&p, suite);
    uint64_t start = base_mono_ns();
    for (size_t i = 0; i < REKEYS; i++) {
        base_buf_clear(&p.to_r);
        MUST(sess_rekey(p.i, 1, &p.to_r));
        MUST(sess_feed(p.r, p.to_r.data, p.to_r.len, &used, &ev, &msg, &len, &p.to_i));
    }
    double us = (double)(base_mono_ns() - start) / REKEYS / 1000;
    (void)snprintf(what, sizeof what, "rekey, both sides, %s", suite->ecdh->name);
    row(what, suite->name, us, 0);
    fake_pair_free(&p);
}

int main(int argc, char *argv[])
{
    const struct crypto_suite *const *suites = NULL;
    struct dbe_diag diag = {0};
    size_t count = crypto_suites(&suites);

    if (argc != 1 && (argc != 3 || strcmp(argv[1], "--json") != 0)) {
        (void)fprintf(stderr, "usage: bench_session [--json FILE]\n");
        return 2;
    }
    MUST(crypto_init(&diag));
    MUST(fake_init(&alice, 1, 1));
    MUST(fake_init(&bob, 2, 1));
    if (argc == 3 && (json = fopen(argv[2], "we")) == NULL) {
        (void)fprintf(stderr, "bench_session: cannot write %s\n", argv[2]);
        return 1;
    }
    if (json != NULL)
        (void)fprintf(json, "{\"bench\": \"session\", \"crypto\": \"%s\", \"rows\": [", crypto_backend_version());
    printf("%s\n%-44s %10s %10s\n", crypto_backend_version(), "", "channel", "bare");
    bench_records(64, 2000);
    bench_records(1024, 1000);
    bench_records(65536, 50);
    for (size_t i = 0; i < count; i++) {
        bench_handshake(suites[i]);
        bench_symmetric(suites[i]);
        bench_rehandshake(suites[i]);
        bench_rekey(suites[i]);
    }
    fake_fini(&alice);
    fake_fini(&bob);
    if (json != NULL)
        (void)fprintf(json, "\n]}\n");
    return json != NULL && fclose(json) != 0 ? 1 : 0;
}
