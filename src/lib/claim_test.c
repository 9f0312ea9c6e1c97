/* SPDX-License-Identifier: Apache-2.0
 *
 * claim_test.c - tests of the public claim tokens against the installed interface alone: spec section 10.
 */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dbe/claim.h"

static const uint8_t binding[DBE_CHANNEL_BINDING_BYTES] = {1, 2, 3}, other_binding[DBE_CHANNEL_BINDING_BYTES] = {4};
static char folder[] = "/tmp/dbe-claim-XXXXXX", keys[sizeof folder + 8];
static struct dbe_credential *shim;
static uint8_t public_key[DBE_PUBLIC_KEY_BYTES];

static int setup(void **state)
{
    const struct dbe_issue what = {.name = "shim", .device = 0, .role = DBE_ROLE_SHIM, .layer = 7};
    struct dbe_trust *trust = NULL;
    struct dbe_identity id;
    const uint8_t *der;
    size_t len;

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(keys, sizeof keys, "%s/keys", folder);
    assert_int_equal(dbe_keys_init(keys, "claim.test", 1, NULL), DBE_OK);
    assert_int_equal(dbe_keys_issue(keys, &what, NULL), DBE_OK);
    assert_int_equal(dbe_credential_load(keys, "shim", &shim, NULL), DBE_OK);
    assert_int_equal(dbe_trust_load(keys, &trust, NULL), DBE_OK);
    dbe_credential_cert(shim, &der, &len);
    uint64_t now_ms = dbe_credential_identity(shim)->not_before_ms + 1000;
    assert_int_equal(dbe_trust_verify(trust, der, len, now_ms, &id, public_key, NULL), DBE_OK);
    dbe_trust_free(trust);
    return 0;
}

static int teardown(void **state)
{
    char command[64];

    (void)state;
    dbe_credential_free(shim);
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static struct dbe_claim good(void)
{
    return (struct dbe_claim){.tenant = "t1",
                              .client = "c1",
                              .roe_levels = 1u << DBE_ROE_SOC_ASSIST,
                              .classification_max = DBE_CLSF_SECRET,
                              .compartments = DBE_COMPARTMENT_SOC,
                              .not_before_ms = 1000,
                              .not_after_ms = 2000};
}

/* spec 10.2, 10.4, 10.5 */
static void test_round_trip(void **state)
{
    uint8_t token[DBE_CLAIM_TOKEN_MAX_BYTES];
    struct dbe_claim claim = good(), got = {0};
    size_t len = 0;

    (void)state;
    assert_int_equal(dbe_claim_issue(&claim, shim, binding, token, sizeof token, &len, NULL), DBE_OK);
    assert_int_equal(dbe_claim_verify(token, len, public_key, binding, 1500, &got, NULL), DBE_OK);
    assert_string_equal(got.tenant, "t1");
    assert_string_equal(got.client, "c1");
    assert_int_equal(got.roe_levels, claim.roe_levels);
    assert_int_equal(got.classification_max, DBE_CLSF_SECRET);
    assert_int_equal(got.compartments, DBE_COMPARTMENT_SOC);
    assert_int_equal(got.not_after_ms, 2000);
    assert_false(got.exercise);
    assert_int_equal(dbe_claim_verify(token, len, public_key, binding, 2000, &got, NULL), DBE_E_CLAIM_EXPIRED);
    assert_int_equal(dbe_claim_verify(token, len, public_key, binding, 999, &got, NULL), DBE_E_CLAIM_EXPIRED);
    assert_int_equal(dbe_claim_verify(token, len, public_key, other_binding, 1500, &got, NULL), DBE_E_CLAIM_INVALID);
}

/* spec 10.3: whatever is changed, the token is worth nothing, and the output stays as it was. */
static void test_every_byte_counts(void **state)
{
    uint8_t token[DBE_CLAIM_TOKEN_MAX_BYTES];
    struct dbe_claim claim = good(), got = {.tenant = "untouched"};
    size_t len = 0;

    (void)state;
    assert_int_equal(dbe_claim_issue(&claim, shim, binding, token, sizeof token, &len, NULL), DBE_OK);
    for (size_t i = 0; i < len; i += i < 80 ? 1 : 401) {
        token[i] ^= 1;
        assert_int_equal(dbe_claim_verify(token, len, public_key, binding, 1500, &got, NULL), DBE_E_CLAIM_INVALID);
        token[i] ^= 1;
    }
    assert_int_equal(dbe_claim_verify(token, len - 1, public_key, binding, 1500, &got, NULL), DBE_E_CLAIM_INVALID);
    assert_string_equal(got.tenant, "untouched");
}

/* spec 10.3 */
static void test_what_cannot_stand(void **state)
{
    struct dbe_claim claims[] = {good(), good(), good(), good(), good(), good()};
    uint8_t token[DBE_CLAIM_TOKEN_MAX_BYTES];
    struct dbe_diag diag = {0};
    size_t len = 7;

    (void)state;
    claims[0].tenant[0] = '\0';
    memset(claims[1].client, 'x', sizeof claims[1].client); /* no end */
    claims[2].compartments |= DBE_COMPARTMENT_KINETIC;
    claims[3].not_after_ms = claims[3].not_before_ms + DBE_CLAIM_LIFETIME_MAX_MS + 1;
    claims[4].roe_levels = 0;
    claims[5].classification_max = DBE_CLSF_TS_SIM;
    for (size_t i = 0; i < sizeof claims / sizeof claims[0]; i++)
        assert_int_equal(dbe_claim_issue(&claims[i], shim, binding, token, sizeof token, &len, &diag), DBE_E_ARGUMENT);
    assert_non_null(strstr(diag.text, "cannot stand"));
    claims[0] = good();
    assert_int_equal(dbe_claim_issue(&claims[0], shim, binding, token, 100, &len, NULL), DBE_E_TOO_LARGE);
    assert_int_equal(len, 7);
}

static void test_signature(void **state)
{
    uint8_t sig[DBE_SIGNATURE_BYTES];

    (void)state;
    assert_int_equal(dbe_credential_sign(shim, "ctx", "abc", 3, sig), DBE_OK);
    assert_int_equal(dbe_signature_verify(public_key, "ctx", "abc", 3, sig), DBE_OK);
    assert_int_equal(dbe_signature_verify(public_key, "ctx", "abd", 3, sig), DBE_E_AUTH);
    assert_int_equal(dbe_signature_verify(public_key, "other", "abc", 3, sig), DBE_E_AUTH);
    sig[100] ^= 1;
    assert_int_equal(dbe_signature_verify(public_key, "ctx", "abc", 3, sig), DBE_E_AUTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_byte_counts),
        cmocka_unit_test(test_what_cannot_stand),
        cmocka_unit_test(test_signature),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
