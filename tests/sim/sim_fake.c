/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_fake.c - the simulator on crypto_fake.c: what only that can tell.
 */
#include "crypto_fake.h"
#include "sim.h"

static int64_t live_before;

const char sim_crypto_name[] = "fake";

void sim_crypto_reset(void)
{
    live_before = crypto_fake_live();
    crypto_fake_ledger_reset();
}

bool sim_crypto_clean(void)
{
    return crypto_fake_live() == live_before && crypto_fake_nonces_reused() == 0;
}

size_t sim_suite_ids(uint16_t out[DBE_SUITES_MAX])
{
    memcpy(out, crypto_fake_suite_ids, sizeof crypto_fake_suite_ids);
    return CRYPTO_FAKE_SUITES;
}
