/* SPDX-License-Identifier: Apache-2.0
 *
 * claim_test.c - claim tokens: what is issued verifies, and nothing else does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "policy/credential_fake.h"
#include "policy/internal.h"

enum { NOW = 1000000, SIG = CRYPTO_MLDSA87_SIG_BYTES };

static struct dbe_credential issuer, stranger;
static uint8_t issuer_pk[CRYPTO_MLDSA87_PK_BYTES];
static const uint8_t binding[32] = {1, 2, 3, 4};

static struct pol_claim sample(void)
{
    struct pol_claim c = {
        .tenant = "LOCAL_TOOL_USER",
        .client = "curl",
        .roe_levels = 1u << DBE_ROE_SOC_ASSIST,
        .classification_max = DBE_CLSF_SECRET,
        .compartments = DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_DEV,
        .not_before_ms = NOW - 1000,
        .not_after_ms = NOW + 60000,
    };
    memcpy(c.channel_binding, binding, sizeof binding);
    return c;
}

static size_t issue(const struct pol_claim *c, uint8_t out[POL_CLAIM_TOKEN_MAX])
{
    size_t len = 0;
    assert_int_equal(pol_claim_issue(c, &issuer, out, POL_CLAIM_TOKEN_MAX, &len), DBE_OK);
    return len;
}

static dbe_err verify(const uint8_t *token, size_t len, uint64_t now_ms, struct pol_claim *ret)
{
    return pol_claim_verify(token, len, issuer.key, binding, now_ms, ret, NULL);
}

/* Sign arbitrary body bytes as the issuer would: what a broken or lying issuer can send. */
static dbe_err verify_body(const uint8_t *body, size_t len)
{
    uint8_t token[2 * POL_CLAIM_BODY_MAX + SIG];
    struct pol_claim claim = {.client = "untouched"};

    memcpy(token, body, len);
    assert_int_equal(crypto_sign(issuer.key, "DSMIL-DBE claim v1", body, len, token + len), DBE_OK);
    dbe_err err = verify(token, len + SIG, NOW, &claim);
    if (err != DBE_OK)
        assert_string_equal(claim.client, "untouched");
    return err;
}

/* spec 10.2 */
static void test_round_trip(void **state)
{
    struct pol_claim in = sample(), out;
    uint8_t token[POL_CLAIM_TOKEN_MAX];

    (void)state;
    for (int exercise = 0; exercise < 2; exercise++) {
        in.exercise = exercise;
        size_t len = issue(&in, token);
        assert_int_equal(len, POL_CLAIM_BODY_FIXED + 1 + 15 + 1 + 4 + SIG);
        assert_int_equal(verify(token, len, NOW, &out), DBE_OK);
        assert_string_equal(out.tenant, in.tenant);
        assert_string_equal(out.client, in.client);
        assert_int_equal(out.roe_levels, in.roe_levels);
        assert_int_equal(out.classification_max, in.classification_max);
        assert_int_equal(out.exercise, in.exercise);
        assert_int_equal(out.compartments, in.compartments);
        assert_int_equal(out.not_before_ms, in.not_before_ms);
        assert_int_equal(out.not_after_ms, in.not_after_ms);
        assert_memory_equal(out.channel_binding, binding, 32);
    }
    memset(in.tenant, 't', DBE_TENANT_MAX_BYTES);
    memset(in.client, 'c', POL_CLAIM_NAME_MAX);
    in.tenant[DBE_TENANT_MAX_BYTES] = in.client[POL_CLAIM_NAME_MAX] = '\0';
    assert_int_equal(issue(&in, token), POL_CLAIM_TOKEN_MAX);
    assert_int_equal(verify(token, POL_CLAIM_TOKEN_MAX, NOW, &out), DBE_OK);
}

/* spec 10.2: the body's bytes as the specification prints them. */
static void test_known_body(void **state)
{
    struct pol_claim in = sample();
    uint8_t token[POL_CLAIM_TOKEN_MAX];
    char hex[2 * 28 + 1];

    (void)state;
    memset(in.channel_binding, 0xAB, 32);
    size_t len = 0;
    assert_int_equal(pol_claim_issue(&in, &issuer, token, sizeof token, &len), DBE_OK);
    base_hex(token, 28, hex);
    assert_string_equal(hex, "44434c4d01000402"
                             "00000003"
                             "00000000000f3e58"
                             "0000000000102ca0");
    assert_int_equal(token[60], 15);
    assert_memory_equal(token + 61,
                        "LOCAL_TOOL_USER\x04"
                        "curl",
                        20);
}

static void test_issue_refuses(void **state)
{
    uint8_t token[POL_CLAIM_TOKEN_MAX];
    size_t len = 77;

    (void)state;
    for (int i = 0; i < 11; i++) {
        struct pol_claim c = sample();
        switch (i) {
        case 0: c.tenant[0] = '\0'; break;
        case 1: c.client[0] = '\0'; break;
        case 2: c.compartments |= DBE_COMPARTMENT_KINETIC; break;
        case 3: c.compartments |= 0x100; break;
        case 4: c.roe_levels = 0; break;
        case 5: c.roe_levels |= 1; break;
        case 6: c.classification_max = DBE_CLSF_TS_SIM; break;
        case 7: c.not_after_ms = c.not_before_ms; break;
        case 8: c.not_after_ms = c.not_before_ms + POL_CLAIM_LIFETIME_MAX_MS + 1; break;
        case 9: memcpy(c.tenant, "\xFF\xFE", 3); break;
        default: memset(c.client, 'x', sizeof c.client); break;
        }
        assert_int_equal(pol_claim_issue(&c, &issuer, token, sizeof token, &len), DBE_E_ARGUMENT);
    }
    struct pol_claim good = sample();
    assert_int_equal(pol_claim_issue(&good, &issuer, token, 4000, &len), DBE_E_TOO_LARGE);
    assert_int_equal(len, 77);
}

/* spec 10.4 */
static void test_every_byte_counts(void **state)
{
    struct pol_claim in = sample(), out = {.client = "untouched"};
    uint8_t token[POL_CLAIM_TOKEN_MAX];
    size_t len = issue(&in, token), body = len - SIG;

    (void)state;
    for (size_t i = 0; i < len; i += i < body ? 1 : 37) {
        for (int bit = 0; bit < 8; bit += i < body ? 1 : 3) {
            token[i] ^= (uint8_t)(1 << bit);
            assert_int_equal(verify(token, len, NOW, &out), DBE_E_CLAIM_INVALID);
            token[i] ^= (uint8_t)(1 << bit);
        }
    }
    token[len - 1] ^= 1;
    assert_int_equal(verify(token, len, NOW, &out), DBE_E_CLAIM_INVALID);
    token[len - 1] ^= 1;
    assert_string_equal(out.client, "untouched");
    assert_int_equal(verify(token, len, NOW, &out), DBE_OK);
}

/* spec 10.2, 10.3 */
static void test_lengths_lie(void **state)
{
    struct pol_claim in = sample(), out;
    uint8_t token[POL_CLAIM_TOKEN_MAX + 1], body[POL_CLAIM_BODY_MAX + 1];
    size_t len = issue(&in, token), body_len = len - SIG;

    (void)state;
    for (size_t cut = 0; cut < len; cut += cut < 200 ? 1 : 211)
        assert_int_equal(verify(token, cut, NOW, &out), DBE_E_CLAIM_INVALID);
    token[len] = 0;
    assert_int_equal(verify(token, len + 1, NOW, &out), DBE_E_CLAIM_INVALID);
    /* signed by the issuer, so that the form alone can refuse it */
    memcpy(body, token, body_len);
    assert_int_equal(verify_body(body, body_len), DBE_OK);
    body[body_len] = 'x';
    assert_int_equal(verify_body(body, body_len + 1), DBE_E_CLAIM_INVALID); /* a byte after the end */
    assert_int_equal(verify_body(body, body_len - 1), DBE_E_CLAIM_INVALID);
    body[60] = 16; /* tenant one longer: swallows the client's length */
    assert_int_equal(verify_body(body, body_len), DBE_E_CLAIM_INVALID);
    body[60] = 0;
    assert_int_equal(verify_body(body, body_len), DBE_E_CLAIM_INVALID);
    body[60] = 255;
    assert_int_equal(verify_body(body, body_len), DBE_E_CLAIM_INVALID);
    body[60] = 15;
    body[65] = '\0'; /* NUL inside of the tenant */
    assert_int_equal(verify_body(body, body_len), DBE_E_CLAIM_INVALID);
    memcpy(body, token, body_len);
    body[5] = 2; /* unknown flag */
    assert_int_equal(verify_body(body, body_len), DBE_E_CLAIM_INVALID);
    memcpy(body, token, body_len);
    body[11] |= DBE_COMPARTMENT_KINETIC;
    assert_int_equal(verify_body(body, body_len), DBE_E_CLAIM_INVALID);
}

/* spec 10.5 */
static void test_window(void **state)
{
    struct pol_claim in = sample(), out;
    uint8_t token[POL_CLAIM_TOKEN_MAX];
    size_t len = issue(&in, token);

    (void)state;
    assert_int_equal(verify(token, len, in.not_before_ms - 1, &out), DBE_E_CLAIM_EXPIRED);
    assert_int_equal(verify(token, len, in.not_before_ms, &out), DBE_OK);
    assert_int_equal(verify(token, len, in.not_after_ms - 1, &out), DBE_OK);
    assert_int_equal(verify(token, len, in.not_after_ms, &out), DBE_E_CLAIM_EXPIRED);
    assert_int_equal(verify(token, len, 0, &out), DBE_E_CLAIM_EXPIRED);
    assert_int_equal(verify(token, len, UINT64_MAX, &out), DBE_E_CLAIM_EXPIRED);
}

/* spec 10.1, 10.4 */
static void test_other_channel_other_issuer(void **state)
{
    struct pol_claim in = sample(), out;
    uint8_t token[POL_CLAIM_TOKEN_MAX], other[32] = {9};
    struct dbe_diag diag = {0};
    size_t len = issue(&in, token);

    (void)state;
    assert_int_equal(pol_claim_verify(token, len, issuer.key, other, NOW, &out, &diag), DBE_E_CLAIM_INVALID);
    assert_string_equal(diag.clause, "channel binding");
    assert_int_equal(pol_claim_verify(token, len, stranger.key, binding, NOW, &out, &diag), DBE_E_CLAIM_INVALID);
    assert_string_equal(diag.clause, "signature");
    /* the right key, but a signature made for another purpose */
    assert_int_equal(crypto_sign(issuer.key, "DSMIL-DBE handshake", token, len - SIG, token + len - SIG), DBE_OK);
    assert_int_equal(verify(token, len, NOW, &out), DBE_E_CLAIM_INVALID);
}

/* spec 10.5, 10.6 */
static void test_cache(void **state)
{
    struct pol_claim in = sample();
    uint8_t tokens[POL_CLAIM_CACHE + 1][POL_CLAIM_TOKEN_MAX];
    size_t lens[POL_CLAIM_CACHE + 1];
    struct pol_claim_cache *cache = NULL;
    const struct pol_claim *got = NULL;
    bool hit = true;

    (void)state;
    assert_int_equal(pol_claim_cache_new(issuer_pk, binding, &cache), DBE_OK);
    for (int i = 0; i <= POL_CLAIM_CACHE; i++) {
        snprintf(in.client, sizeof in.client, "client-%d", i);
        lens[i] = issue(&in, tokens[i]);
        assert_int_equal(pol_claim_cached(cache, tokens[i], lens[i], NOW, &got, &hit, NULL), DBE_OK);
        assert_false(hit);
        assert_string_equal(got->client, in.client);
    }
    /* the first gave way to the last; all others are there */
    for (int i = 1; i <= POL_CLAIM_CACHE; i++) {
        assert_int_equal(pol_claim_cached(cache, tokens[i], lens[i], NOW, &got, &hit, NULL), DBE_OK);
        assert_true(hit);
        snprintf(in.client, sizeof in.client, "client-%d", i);
        assert_string_equal(got->client, in.client);
    }
    assert_int_equal(pol_claim_cached(cache, tokens[0], lens[0], NOW, &got, &hit, NULL), DBE_OK);
    assert_false(hit);
    /* a cached token expires all the same */
    assert_int_equal(pol_claim_cached(cache, tokens[2], lens[2], in.not_after_ms, &got, &hit, NULL),
                     DBE_E_CLAIM_EXPIRED);
    assert_int_equal(pol_claim_cached(cache, tokens[2], lens[2], in.not_before_ms - 1, &got, &hit, NULL),
                     DBE_E_CLAIM_EXPIRED);
    /* one bit off is no hit, and is refused, however often it comes */
    tokens[3][lens[3] - 5] ^= 1;
    for (int i = 0; i < 3; i++)
        assert_int_equal(pol_claim_cached(cache, tokens[3], lens[3], NOW, &got, &hit, NULL), DBE_E_CLAIM_INVALID);
    tokens[3][lens[3] - 5] ^= 1;
    assert_int_equal(pol_claim_cached(cache, tokens[3], lens[3], NOW, &got, &hit, NULL), DBE_OK);
    assert_true(hit);
    assert_int_equal(pol_claim_cached(cache, tokens[3], 0, NOW, &got, &hit, NULL), DBE_E_CLAIM_INVALID);
    pol_claim_cache_free(cache);
    pol_claim_cache_free(NULL);
}

/* After a renewal the key before is good once more, the one before that is not. */
static void test_cache_renewed(void **state)
{
    struct pol_claim in = sample();
    uint8_t token[POL_CLAIM_TOKEN_MAX];
    size_t len = issue(&in, token);
    struct pol_claim_cache *cache = NULL;
    const struct pol_claim *got = NULL;
    uint8_t stranger_pk[CRYPTO_MLDSA87_PK_BYTES];

    (void)state;
    assert_int_equal(crypto_key_public(stranger.key, stranger_pk), DBE_OK);
    assert_int_equal(pol_claim_cache_new(stranger_pk, binding, &cache), DBE_OK);
    assert_int_equal(pol_claim_cached(cache, token, len, NOW, &got, NULL, NULL), DBE_E_CLAIM_INVALID);
    base_fail_alloc_at(1);
    dbe_err err = pol_claim_cache_renew(cache, issuer_pk);
    base_fail_alloc_at(0);
    if (err != DBE_OK) /* nothing changed */
        assert_int_equal(pol_claim_cached(cache, token, len, NOW, &got, NULL, NULL), DBE_E_CLAIM_INVALID);
    assert_int_equal(pol_claim_cache_renew(cache, issuer_pk), DBE_OK);
    assert_int_equal(pol_claim_cache_renew(cache, stranger_pk), DBE_OK);
    assert_int_equal(pol_claim_cached(cache, token, len, NOW, &got, NULL, NULL), DBE_OK); /* by the former key */
    pol_claim_cache_free(cache);

    assert_int_equal(pol_claim_cache_new(issuer_pk, binding, &cache), DBE_OK);
    assert_int_equal(pol_claim_cache_renew(cache, stranger_pk), DBE_OK);
    assert_int_equal(pol_claim_cache_renew(cache, stranger_pk), DBE_OK);
    assert_int_equal(pol_claim_cached(cache, token, len, NOW, &got, NULL, NULL), DBE_E_CLAIM_INVALID);
    pol_claim_cache_free(cache);
}

static void test_cache_without_memory(void **state)
{
    struct pol_claim_cache *cache = NULL;

    (void)state;
    base_fail_alloc_at(1);
    assert_int_equal(pol_claim_cache_new(issuer_pk, binding, &cache), DBE_E_NOMEM);
    assert_null(cache);
    base_fail_alloc_at(0);
}

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(crypto_init(NULL), DBE_OK);
    assert_int_equal(crypto_key_generate(&issuer.key), DBE_OK);
    assert_int_equal(crypto_key_generate(&stranger.key), DBE_OK);
    assert_int_equal(crypto_key_public(issuer.key, issuer_pk), DBE_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    crypto_key_free(issuer.key);
    crypto_key_free(stranger.key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_known_body),
        cmocka_unit_test(test_issue_refuses),
        cmocka_unit_test(test_every_byte_counts),
        cmocka_unit_test(test_lengths_lie),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_other_channel_other_issuer),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_cache_renewed),
        cmocka_unit_test(test_cache_without_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
