/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_real.c - the simulator on the cryptography that the product is linked with.
 *
 * Not: a ledger of nonces; that is sim_fake.c's.
 */
#include "sim.h"

const char sim_crypto_name[] = "real";

void sim_crypto_reset(void)
{
}

bool sim_crypto_clean(void)
{
    return true;
}

size_t sim_suite_ids(uint16_t out[DBE_SUITES_MAX])
{
    const struct crypto_suite *const *all;
    size_t count = crypto_suites(&all);

    for (size_t i = 0; i < count && i < DBE_SUITES_MAX; i++)
        out[i] = all[i]->id;
    return BASE_MIN(count, (size_t)DBE_SUITES_MAX);
}
