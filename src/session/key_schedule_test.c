/* SPDX-License-Identifier: Apache-2.0
 *
 * key_schedule_test.c - known answers for the wire: two whole handshakes with nothing left to chance, each byte of
 * which and each key stands in key_schedule_vectors.txt (spec 5.2, 6.4 to 6.9, 7.1 to 7.7). key_schedule_test.py works
 * the same file out again from the specification alone.
 *
 * Fixed here are nonces, public values, ciphertext and both secrets; certificates and signatures are in the file, and
 * are real. With DSMIL_VECTORS_WRITE=FILE it signs anew and writes a file instead: only for a deliberate change of the
 * wire.
 */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "session/session_fake.h"

#define OK(expr) assert_int_equal((expr), DBE_OK)

enum { HEAD = DBE_RECORD_HEADER_BYTES, ROWS_MAX = 96, LINE_MAX_BYTES = 65536 };

/* ---- the file: "case name hex" a line -----------------------------------------------------------------------------
 * */

static struct row {
    char name[64];
    uint8_t *data;
    size_t len;
} rows[ROWS_MAX];
static size_t row_count;
static FILE *writing;
static const char *test_case;

static void load(const char *path)
{
    static char line[LINE_MAX_BYTES];
    FILE *f = fopen(path, "re");

    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        char *hex = strrchr(line, ' ');
        struct row *row = &rows[row_count];

        if (line[0] == '#' || hex == NULL)
            continue;
        assert_true(row_count < ROWS_MAX);
        *hex++ = '\0';
        (void)snprintf(row->name, sizeof row->name, "%.60s", line);
        row->data = base_alloc(strlen(hex) / 2 + 1, 1);
        assert_non_null(row->data);
        for (; hex[2 * row->len] > ' '; row->len++) {
            char byte[3] = {hex[2 * row->len], hex[2 * row->len + 1], '\0'};
            row->data[row->len] = (uint8_t)strtoul(byte, NULL, 16);
        }
        row_count++;
    }
    (void)fclose(f);
    assert_true(row_count > 20);
}

static const struct row *find(const char *name)
{
    char full[64];

    (void)snprintf(full, sizeof full, "%s %s", test_case, name);
    for (size_t i = 0; i < row_count; i++)
        if (strcmp(rows[i].name, full) == 0)
            return &rows[i];
    fail_msg("no row \"%s\"", full);
    return NULL;
}

/* This is what `name` must be. */
static void pin(const char *name, const void *data, size_t len)
{
    const uint8_t *at = data;

    if (writing != NULL) {
        (void)fprintf(writing, "%s %s ", test_case, name);
        for (size_t i = 0; i < len; i++)
            (void)fprintf(writing, "%02x", at[i]);
        (void)fprintf(writing, "\n");
        return;
    }
    const struct row *row = find(name);
    if (row->len != len || memcmp(row->data, data, len) != 0)
        print_error("%s %s differs\n", test_case, name);
    assert_int_equal(row->len, len);
    assert_memory_equal(row->data, data, len);
}

/* ---- nothing left to chance -----------------------------------------------------------------------------------------
 * */

static uint8_t draw; /* what every random byte is */

static dbe_err fixed_random(void *ctx, void *buf, size_t len)
{
    (void)ctx;
    memset(buf, draw, len);
    return DBE_OK;
}

static dbe_err fixed_ecdh_keygen(struct crypto_ecdh_key **ret, uint8_t *pub, size_t len)
{
    *ret = base_alloc(1, 1);
    memset(pub, draw ^ 0x0f, len);
    return DBE_OK;
}

static dbe_err fixed_97(struct crypto_ecdh_key **ret, uint8_t *pub)
{
    return fixed_ecdh_keygen(ret, pub, 97);
}

static dbe_err fixed_32(struct crypto_ecdh_key **ret, uint8_t *pub)
{
    return fixed_ecdh_keygen(ret, pub, 32);
}

static dbe_err derive_48(const struct crypto_ecdh_key *key, const uint8_t *pub, uint8_t *ss)
{
    (void)key, (void)pub;
    memset(ss, 0xec, 48);
    return DBE_OK;
}

static dbe_err derive_32(const struct crypto_ecdh_key *key, const uint8_t *pub, uint8_t *ss)
{
    (void)key, (void)pub;
    memset(ss, 0xec, 32);
    return DBE_OK;
}

static void ecdh_free(struct crypto_ecdh_key *key)
{
    base_free(key);
}

static dbe_err kem_keygen(struct crypto_kem_key **ret, uint8_t *ek)
{
    *ret = base_alloc(1, 1);
    memset(ek, 0xe0, CRYPTO_MLKEM1024_EK_BYTES);
    return DBE_OK;
}

static dbe_err kem_encaps(const uint8_t *ek, uint8_t *ct, uint8_t *ss)
{
    (void)ek;
    memset(ct, 0xc7, CRYPTO_MLKEM1024_CT_BYTES);
    memset(ss, 0x5e, CRYPTO_KEM_SS_BYTES);
    return DBE_OK;
}

static dbe_err kem_decaps(const struct crypto_kem_key *dk, const uint8_t *ct, uint8_t *ss)
{
    (void)dk, (void)ct;
    memset(ss, 0x5e, CRYPTO_KEM_SS_BYTES);
    return DBE_OK;
}

static void kem_free(struct crypto_kem_key *dk)
{
    base_free(dk);
}

static const struct crypto_ecdh ecdh_97 = {
    .name = "97", .pub_bytes = 97, .ss_bytes = 48, .keygen = fixed_97, .derive = derive_48, .key_free = ecdh_free};
static const struct crypto_ecdh ecdh_32 = {
    .name = "32", .pub_bytes = 32, .ss_bytes = 32, .keygen = fixed_32, .derive = derive_32, .key_free = ecdh_free};
static const struct crypto_kem kem = {.name = "kem",
                                      .ek_bytes = CRYPTO_MLKEM1024_EK_BYTES,
                                      .ct_bytes = CRYPTO_MLKEM1024_CT_BYTES,
                                      .ss_bytes = CRYPTO_KEM_SS_BYTES,
                                      .keygen = kem_keygen,
                                      .encaps = kem_encaps,
                                      .decaps = kem_decaps,
                                      .key_free = kem_free};

/* One side: its certificate and signature come from the file, or are made and go there. */
struct actor {
    const char *who;
    struct sess *s;
    struct crypto_key *key;
    uint8_t cert[FAKE_CERT_BYTES];
    char name[64];
};

static const char *named(struct actor *a, const char *what)
{
    (void)snprintf(a->name, sizeof a->name, "%s_%s", a->who, what);
    return a->name;
}

static void actor_init(struct actor *a, const char *who, uint8_t device)
{
    *a = (struct actor){.who = who};
    if (writing != NULL) {
        struct fake f;
        OK(fake_init(&f, device, 1));
        a->key = f.key;
        memcpy(a->cert, f.cert, sizeof a->cert);
    } else {
        const struct row *row = find(named(a, "certificate"));
        assert_int_equal(row->len, sizeof a->cert);
        memcpy(a->cert, row->data, sizeof a->cert);
    }
    pin(named(a, "certificate"), a->cert, sizeof a->cert);
}

static void own_cert(void *ctx, const uint8_t **ret_der, size_t *ret_len)
{
    struct actor *a = ctx;

    *ret_der = a->cert;
    *ret_len = sizeof a->cert;
}

/* The keys of the handshake exist while it signs, and only then can they be looked at. */
static dbe_err sign(void *ctx, const char *sig_ctx, const void *msg, size_t len, uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    struct actor *a = ctx;
    const struct sess_hs_secrets *k = a->s->hs->secrets;

    pin(named(a, "signed"), msg, len);
    pin(named(a, "prk"), k->prk, sizeof k->prk);
    pin(named(a, "hs_key_i2r"), k->key[0], sizeof k->key[0]);
    pin(named(a, "hs_key_r2i"), k->key[1], sizeof k->key[1]);
    pin(named(a, "hs_iv_i2r"), k->iv[0], sizeof k->iv[0]);
    pin(named(a, "hs_iv_r2i"), k->iv[1], sizeof k->iv[1]);
    pin(named(a, "confirm_initiator"), k->k_mac[0], sizeof k->k_mac[0]);
    pin(named(a, "confirm_responder"), k->k_mac[1], sizeof k->k_mac[1]);
    if (writing != NULL)
        OK(crypto_sign(a->key, sig_ctx, msg, len, sig));
    else
        memcpy(sig, find(named(a, "signature"))->data, CRYPTO_MLDSA87_SIG_BYTES);
    pin(named(a, "signature"), sig, CRYPTO_MLDSA87_SIG_BYTES);
    return DBE_OK;
}

static dbe_err verify_cert(void *ctx, const uint8_t *der, size_t len, struct dbe_identity *ret,
                           uint8_t ret_pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    (void)ctx, (void)diag;
    assert_int_equal(len, FAKE_CERT_BYTES);
    memset(ret, 0, sizeof *ret);
    memcpy(ret_pk, der + 6, CRYPTO_MLDSA87_PK_BYTES);
    return DBE_OK;
}

static dbe_err evidence(void *ctx, const uint8_t th[CRYPTO_HASH_BYTES], struct base_buf *out)
{
    struct actor *a = ctx;

    pin(named(a, "evidence_over"), th, CRYPTO_HASH_BYTES);
    base_buf_str(out, a->who);
    return DBE_OK;
}

static void actor_sess(struct actor *a, enum sess_role role, const struct crypto_suite *suite, const uint8_t *binding)
{
    struct sess_config config = {
        .role = role,
        .auth = {.own_cert = own_cert, .sign = sign, .verify_cert = verify_cert, .evidence = evidence, .ctx = a},
        .policy_digest = {{1, 2, 3, 4, 5, 6, 7, 8, [31] = 32}},
    };

    OK(sess_new(&config, &a->s));
    a->s->suites[0] = suite;
    a->s->suites_count = 1;
    memset(a->s->hs->registry, 0x4e, sizeof a->s->hs->registry); /* the real one changes with every new row */
    if (binding != NULL) {                                       /* as a handshake inside a channel begins, spec 7.12 */
        OK(crypto_hash_update(a->s->hs->transcript, SESS_RENEW_ID, sizeof SESS_RENEW_ID - 1));
        OK(crypto_hash_update(a->s->hs->transcript, binding, 32));
    }
}

/* ---- the handshake
 * ---------------------------------------------------------------------------------------------------- */

static void feed(struct sess *s, struct base_buf *from, struct base_buf *to)
{
    enum sess_event ev;
    const uint8_t *msg;
    size_t len;

    OK(fake_step(s, from, to, &ev, &msg, &len));
}

static void pin_digest(const char *name, const struct base_buf *record)
{
    uint8_t digest[CRYPTO_HASH_BYTES];

    OK(crypto_sha3_512(record->data, record->len, digest));
    pin(name, digest, sizeof digest);
}

static void pin_records(struct sess *s, const char *direction)
{
    struct base_buf out;
    char name[64];

    base_buf_init(&out, 4096);
    (void)snprintf(name, sizeof name, "app_%s", direction);
    pin(name, s->secrets->send, SESS_SECRET_BYTES);
    (void)snprintf(name, sizeof name, "iv_%s", direction);
    pin(name, s->send.keys.iv, sizeof s->send.keys.iv);
    OK(sess_seal(s, "known", 5, 1, &out));
    OK(sess_rekey(s, 1, &out));
    OK(sess_seal(s, "answer", 6, 1, &out));
    (void)snprintf(name, sizeof name, "records_%s", direction);
    pin(name, out.data, out.len);
    (void)snprintf(name, sizeof name, "app2_%s", direction);
    pin(name, s->secrets->send, SESS_SECRET_BYTES);
    (void)snprintf(name, sizeof name, "iv2_%s", direction);
    pin(name, s->send.keys.iv, sizeof s->send.keys.iv);
    base_buf_free(&out);
}

static void whole_handshake(const char *name, const struct crypto_suite *suite, const uint8_t *binding)
{
    struct base_random_ops ops = {.fill = fixed_random};
    struct actor i, r;
    struct base_buf to_i, to_r;

    test_case = name;
    base_buf_init(&to_i, 1 << 16);
    base_buf_init(&to_r, 1 << 16);
    actor_init(&i, "initiator", 1);
    actor_init(&r, "responder", 2);
    actor_sess(&i, SESS_INITIATOR, suite, binding);
    actor_sess(&r, SESS_RESPONDER, suite, binding);
    base_random_set(&ops);
    draw = 0xa1;
    OK(sess_start(i.s, &to_r));
    pin("message_1", to_r.data, to_r.len);
    draw = 0xb2;
    feed(r.s, &to_r, &to_i);
    pin("message_2_clear", to_i.data, HEAD + SESS_MSG2_FIXED_BYTES + suite->ecdh->pub_bytes + suite->kem->ct_bytes);
    pin_digest("message_2_sha3", &to_i);
    feed(i.s, &to_i, &to_r);
    pin_digest("message_3_sha3", &to_r);
    feed(r.s, &to_r, &to_i);
    base_random_set(NULL);
    assert_true(sess_is_up(i.s) && sess_is_up(r.s));
    pin("log", i.s->secrets->k_log, 32);
    pin("binding", i.s->secrets->binding, 32);
    pin_records(i.s, "i2r");
    pin_records(r.s, "r2i");
    sess_free(i.s);
    sess_free(r.s);
    crypto_key_free(i.key);
    crypto_key_free(r.key);
    base_buf_free(&to_i);
    base_buf_free(&to_r);
}

static void known_answers(void **state)
{
    const struct crypto_suite one = {
        .id = 1, .name = "one", .ecdh = &ecdh_97, .kem = &kem, .aead = crypto_suite(CRYPTO_SUITE_1)->aead};
    const struct crypto_suite two = {
        .id = 2, .name = "two", .ecdh = &ecdh_32, .kem = &kem, .aead = crypto_suite(CRYPTO_SUITE_2)->aead};
    uint8_t binding[32];

    (void)state;
    memset(binding, 0xb1, sizeof binding);
    whole_handshake("outer", &one, NULL);
    whole_handshake("inner", &two, binding);
}

static int setup(void **state)
{
    const char *root = getenv("DSMIL_SOURCE_ROOT"), *write = getenv("DSMIL_VECTORS_WRITE");
    char path[4096];

    (void)state;
    if (crypto_init(NULL) != DBE_OK)
        return -1;
    if (write != NULL) {
        writing = fopen(write, "we");
        return writing != NULL ? 0 : -1;
    }
    (void)snprintf(path, sizeof path, "%s/src/session/key_schedule_vectors.txt", root != NULL ? root : ".");
    load(path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < row_count; i++)
        base_free(rows[i].data);
    return writing == NULL || fclose(writing) == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_answers)};

    return cmocka_run_group_tests_name("key-schedule", tests, setup, teardown);
}
