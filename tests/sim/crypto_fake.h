/* SPDX-License-Identifier: Apache-2.0
 *
 * crypto_fake.h - what the simulator may ask of crypto_fake.c beside crypto/crypto.h. For tests and fuzz targets alone.
 */
#ifndef SIM_CRYPTO_FAKE_H
#define SIM_CRYPTO_FAKE_H

#include "crypto/crypto.h"

enum { CRYPTO_FAKE_SUITES = 3 };

/* The suites' numbers: 1 and 2 have the sizes of the real ones, 3 exists here alone. */
extern const uint16_t crypto_fake_suite_ids[CRYPTO_FAKE_SUITES];

/* Forget every (key, nonce) that was sealed under. */
void crypto_fake_ledger_reset(void);
/* How often something was sealed since then. */
uint64_t crypto_fake_seals(void);
/* How often under a key and nonce that had been used before. Anything but 0 is a broken channel. */
uint64_t crypto_fake_nonces_reused(void);
/* Hashes, keys and contexts that were made and not freed. */
int64_t crypto_fake_live(void);

#endif
