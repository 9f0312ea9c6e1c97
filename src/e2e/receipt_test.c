/* SPDX-License-Identifier: Apache-2.0
 *
 * receipt_test.c - receipts: what a worker signs verifies, and nothing that was altered, moved or made up does.
 */
#include "e2e/receipt.h"

#include "e2e/fixture.h"

enum { BODY_FIXED = 300 };

static struct e2e_receipt sample(void)
{
    struct e2e_receipt r = {.finish = E2E_FINISH_STOP,
                            .time_ms = base_wall_ms() + 1000,
                            .prompt_tokens = 40,
                            .cached_tokens = 16,
                            .completion_tokens = 9,
                            .model = "tiny",
                            .quantisation = "Q8_0"};

    memset(r.request_id, 0x11, sizeof r.request_id);
    memset(r.model_digest, 0x22, sizeof r.model_digest);
    memset(r.policy_digest, 0x33, sizeof r.policy_digest);
    memset(r.request_digest, 0x44, sizeof r.request_digest);
    memset(r.answer_digest, 0x55, sizeof r.answer_digest);
    return r;
}

static void issue(const struct e2e_receipt *r, const struct dbe_credential *by, struct base_buf *out)
{
    base_buf_init(out, E2E_RECEIPT_MAX_BYTES);
    assert_int_equal(e2e_receipt_issue(r, by, out), DBE_OK);
}

static dbe_err verify(const struct mesh *m, const struct base_buf *b, const struct e2e_receipt_expect *e,
                      struct dbe_diag *diag)
{
    struct e2e_receipt r = {.finish = 99};
    const struct e2e_receipt_expect any = {0};
    dbe_err err = e2e_receipt_verify(b->data, b->len, m->trust, e != NULL ? e : &any, &r, NULL, diag);

    if (err != DBE_OK)
        assert_int_equal(r.finish, 99); /* untouched */
    return err;
}

/* spec 17.1, 17.2 and 17.3 */
static void test_round_trip(void **state)
{
    const struct mesh *m = *state;
    const struct e2e_receipt r = sample();
    const struct e2e_receipt_expect any = {0};
    struct e2e_receipt got;
    struct dbe_identity id;
    struct base_buf b;

    issue(&r, m->worker, &b);
    assert_int_equal(e2e_receipt_verify(b.data, b.len, m->trust, &any, &got, &id, NULL), DBE_OK);
    assert_string_equal(got.worker, dbe_credential_identity(m->worker)->spiffe_id);
    assert_string_equal(id.spiffe_id, got.worker);
    assert_int_equal(got.device, 47);
    assert_string_equal(got.model, "tiny");
    assert_string_equal(got.quantisation, "Q8_0");
    assert_int_equal(got.time_ms, r.time_ms);
    assert_int_equal(got.prompt_tokens, 40);
    assert_int_equal(got.cached_tokens, 16);
    assert_int_equal(got.completion_tokens, 9);
    assert_memory_equal(got.request_id, r.request_id, sizeof r.request_id);
    assert_memory_equal(got.model_digest, r.model_digest, sizeof r.model_digest);
    assert_memory_equal(got.policy_digest, r.policy_digest, sizeof r.policy_digest);
    assert_memory_equal(got.request_digest, r.request_digest, sizeof r.request_digest);
    assert_memory_equal(got.answer_digest, r.answer_digest, sizeof r.answer_digest);
    b.data[4] = E2E_RECEIPT_VERSION - 1;
    assert_int_equal(verify(m, &b, NULL, NULL), DBE_E_UNSUPPORTED);
    base_buf_free(&b);
}

/* spec 17.4: a bit of any byte before the certificate, and of the certificate */
static void test_altered(void **state)
{
    const struct mesh *m = *state;
    const struct e2e_receipt r = sample();
    struct base_buf b;

    issue(&r, m->worker, &b);
    const size_t body = BODY_FIXED + 3 + strlen(dbe_credential_identity(m->worker)->spiffe_id) + 4 + 4;
    for (size_t at = 0; at < b.len; at += at < body ? 1 : 97) {
        struct dbe_diag diag = {0};
        b.data[at] ^= 1;
        assert_int_not_equal(verify(m, &b, NULL, &diag), DBE_OK);
        assert_non_null(diag.clause);
        b.data[at] ^= 1;
    }
    assert_int_equal(verify(m, &b, NULL, NULL), DBE_OK);
    base_buf_free(&b);
}

/* spec 17.3: the length is exact */
static void test_truncated(void **state)
{
    const struct mesh *m = *state;
    const struct e2e_receipt r = sample();
    struct base_buf b;

    issue(&r, m->worker, &b);
    const size_t whole = b.len;
    for (b.len = 0; b.len < whole; b.len += b.len < 700 ? 1 : 61)
        assert_int_not_equal(verify(m, &b, NULL, NULL), DBE_OK);
    b.len = whole;
    base_buf_u8(&b, 0);
    assert_int_equal(verify(m, &b, NULL, NULL), DBE_E_MALFORMED);
    base_buf_free(&b);
}

/* spec 17.5: what is expected is named when it differs */
static void test_expected(void **state)
{
    const struct mesh *m = *state;
    const struct e2e_receipt r = sample();
    const uint8_t other[CRYPTO_HASH_BYTES] = {1};
    const char *self = dbe_credential_identity(m->worker)->spiffe_id;
    const struct {
        const char *field;
        struct e2e_receipt_expect e;
    } rows[] = {
        {"worker", {.worker = dbe_credential_identity(m->other)->spiffe_id}},
        {"model", {.worker = self, .model = "tiny2"}},
        {"quantisation", {.model = r.model, .quantisation = "Q4_0"}},
        {"request_id", {.quantisation = r.quantisation, .request_id = other}},
        {"model_digest", {.request_id = r.request_id, .model_digest = other}},
        {"policy_digest", {.model_digest = r.model_digest, .policy_digest = other}},
        {"request", {.policy_digest = r.policy_digest, .request_digest = other}},
        {"answer", {.request_digest = r.request_digest, .answer_digest = other}},
    };
    const struct e2e_receipt_expect all = {.worker = self, .answer_digest = r.answer_digest};
    struct base_buf b;

    issue(&r, m->worker, &b);
    assert_int_equal(verify(m, &b, &all, NULL), DBE_OK);
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct dbe_diag diag = {0};
        assert_int_equal(verify(m, &b, &rows[i].e, &diag), DBE_E_AUTH);
        assert_string_equal(diag.clause, rows[i].field);
    }
    base_buf_free(&b);
}

/* A genuine body under another worker's certificate, and one that no worker signed. spec 17.4 */
static void test_other_signers(void **state)
{
    const struct mesh *m = *state;
    const struct e2e_receipt r = sample();
    struct dbe_diag diag = {0};
    struct base_buf b, o;
    struct e2e_receipt_parts p;
    const uint8_t *cert;
    size_t len;

    issue(&r, m->worker, &b);
    assert_int_equal(e2e_receipt_read(b.data, b.len, &p, NULL), DBE_OK);
    dbe_credential_cert(m->other, &cert, &len);
    base_buf_init(&o, E2E_RECEIPT_MAX_BYTES);
    base_buf_bytes(&o, b.data, p.body_len + CRYPTO_MLDSA87_SIG_BYTES);
    base_buf_u16(&o, (uint16_t)len);
    base_buf_bytes(&o, cert, len);
    assert_int_equal(verify(m, &o, NULL, &diag), DBE_E_AUTH);
    assert_string_equal(diag.clause, "signature");
    base_buf_clear(&o);
    /* the same body, signed anew by the other worker: it speaks for itself alone */
    base_buf_bytes(&o, b.data, p.body_len);
    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES];
    assert_int_equal(dbe_credential_sign(m->other, "DSMIL receipt v2", b.data, p.body_len, sig), DBE_OK);
    base_buf_bytes(&o, sig, sizeof sig);
    base_buf_u16(&o, (uint16_t)len);
    base_buf_bytes(&o, cert, len);
    assert_int_equal(verify(m, &o, NULL, &diag), DBE_E_CERT);
    assert_string_equal(diag.clause, "worker");
    base_buf_free(&o);
    base_buf_free(&b);
    issue(&r, m->router, &b);
    assert_int_equal(verify(m, &b, NULL, &diag), DBE_E_CERT);
    assert_string_equal(diag.clause, "role");
    base_buf_free(&b);
}

/* spec 17.6: judged at the time it names, and against the list of what was revoked */
static void test_time_and_revocation(void **state)
{
    struct mesh *m = *state;
    struct e2e_receipt r = sample();
    struct dbe_diag diag = {0};
    struct base_buf b;

    r.time_ms = dbe_credential_identity(m->worker)->not_after_ms + 1;
    issue(&r, m->worker, &b);
    assert_int_equal(verify(m, &b, NULL, &diag), DBE_E_EXPIRED);
    assert_string_equal(diag.clause, "time");
    base_buf_free(&b);
    r.time_ms = base_wall_ms() + 1000;
    issue(&r, m->other, &b);
    assert_int_equal(verify(m, &b, NULL, &diag), DBE_OK);
    assert_int_equal(dbe_keys_revoke(m->dir, "other", DBE_REVOKE_KEY_COMPROMISE, NULL), DBE_OK);
    assert_int_equal(dbe_trust_load_revocations(m->trust, m->dir, NULL), DBE_OK);
    assert_int_equal(verify(m, &b, NULL, &diag), DBE_E_REVOKED);
    assert_string_equal(diag.clause, "certificate");
    base_buf_free(&b);
}

/* spec 17.2: what cannot stand is not signed, and not read */
static void test_fields_that_cannot_stand(void **state)
{
    const struct mesh *m = *state;
    struct e2e_receipt bad[5];
    struct base_buf b;

    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++)
        bad[i] = sample();
    bad[0].finish = E2E_FINISH_TOOL + 1;
    bad[1].cached_tokens = bad[1].prompt_tokens + 1;
    bad[2].model[0] = '\0';
    bad[3].quantisation[0] = (char)0xff;
    bad[4].time_ms = 0;
    base_buf_init(&b, E2E_RECEIPT_MAX_BYTES);
    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++) {
        assert_int_equal(e2e_receipt_issue(&bad[i], m->worker, &b), DBE_E_ARGUMENT);
        assert_int_equal(b.len, 0);
    }
    base_buf_free(&b);
    /* room that does not suffice is left as it was */
    const struct e2e_receipt good = sample();
    base_buf_init(&b, 5000);
    assert_int_equal(e2e_receipt_issue(&good, m->worker, &b), DBE_E_TOO_LARGE);
    assert_int_equal(b.len, 0);
    base_buf_free(&b);
}

/* spec 17.7 */
static void test_answer(void **state)
{
    static const char with_call[] = "text\0f\0{}";
    uint8_t want[CRYPTO_HASH_BYTES], got[CRYPTO_HASH_BYTES];
    struct crypto_hash *h = NULL;

    (void)state;
    assert_int_equal(crypto_hash_new(&h), DBE_OK);
    assert_int_equal(crypto_hash_update(h, "te", 2), DBE_OK);
    assert_int_equal(crypto_hash_update(h, "xt", 2), DBE_OK);
    assert_int_equal(e2e_answer_end(h, NULL, NULL, got), DBE_OK);
    assert_int_equal(crypto_sha3_512("text", 4, want), DBE_OK);
    assert_memory_equal(got, want, sizeof want);
    assert_int_equal(e2e_answer_end(h, "f", "{}", got), DBE_OK);
    assert_int_equal(crypto_sha3_512(with_call, sizeof with_call - 1, want), DBE_OK);
    assert_memory_equal(got, want, sizeof want);
    crypto_hash_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_altered),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_expected),
        cmocka_unit_test(test_other_signers),
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_fields_that_cannot_stand),
        cmocka_unit_test(test_time_and_revocation), /* last: it revokes */
    };

    return cmocka_run_group_tests_name("receipts", tests, mesh_setup, mesh_teardown);
}
