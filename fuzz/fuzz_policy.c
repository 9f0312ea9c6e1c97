/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_policy.c - any bytes as a policy file, as a table of cases, and as the body of an ROE token.
 *
 * In:   input: first byte chooses; the rest is the file, or the body
 * Finds: reads and writes outside, a policy that permits KINETIC, a refusal that is not said, a token's body that does
 *        not survive its own encoding
 */
#include <stdlib.h>
#include <string.h>

#include "policy/cases.h"
#include "policy/roe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pol_policy policy;
static struct pol_cases cases;

static void fuzz_file(bool table, const uint8_t *data, size_t size)
{
    struct conf_doc *doc = NULL;
    struct dbe_diag diag = {0};
    dbe_err err = conf_parse("fuzz", data, size, &doc, &diag);

    if (err == DBE_OK)
        err = table ? pol_cases_read(doc, &cases, &diag) : pol_compile(doc, &policy, &diag);
    conf_free(doc);
    if (err != DBE_OK && err != DBE_E_NOMEM && diag.text[0] == '\0')
        abort();
    if (err != DBE_OK || table)
        return;
    struct pol_verdict v;
    struct pol_case c;
    pol_case_default(&c);
    c.compartments = DBE_COMPARTMENT_KINETIC;
    if (pol_case_run(&c, &policy, &v) != DBE_OK || v.code != DBE_E_KINETIC)
        abort();
    for (size_t i = 0; i < policy.tenant_count; i++)
        if (pol_policy_tenant(&policy, policy.tenants[i].name) != &policy.tenants[i])
            abort();
}

static void fuzz_body(const uint8_t *data, size_t size)
{
    struct base_buf again;
    struct pol_roe roe;

    if (pol_roe_decode(data, size, &roe, NULL) != DBE_OK)
        return;
    base_buf_init(&again, POL_ROE_BODY_MAX);
    if (pol_roe_encode(&roe, &again, NULL) != DBE_OK || again.len != size || memcmp(again.data, data, size) != 0)
        abort();
    base_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;

    if (!ready && crypto_init(NULL) != DBE_OK)
        abort();
    ready = true;
    if (size == 0)
        return 0;
    if (data[0] == 'r')
        fuzz_body(data + 1, size - 1);
    else
        fuzz_file(data[0] == 'c', data + 1, size - 1);
    return 0;
}
