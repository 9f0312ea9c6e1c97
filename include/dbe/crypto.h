/* SPDX-License-Identifier: Apache-2.0
 *
 * crypto.h - which library does the cryptography.
 *
 * The protocol fixes the algorithms (docs/spec/dbe-v1.md, clause 6.2); which library computes them is a matter of one
 * host and never shows on the wire. OpenSSL does everything unless told otherwise. Where this build found them,
 * intel-ipsec-mb can do AES-256-GCM ("ipsec-mb") and liboqs ML-KEM-1024 and ML-DSA-87 ("oqs"). Key files are the same
 * under all of them.
 *
 * Instead of by the call below the choice can be made by the environment: DSMIL_CRYPTO holds the same text. The call
 * wins over the environment.
 */
#ifndef DBE_CRYPTO_H
#define DBE_CRYPTO_H

#include "dbe/err.h"

DBE_BEGIN_DECLS

/* Choose the backends before anything else of the library is used.
 *
 * `spec` names slots and backends, separated by commas: "aead=ipsec-mb,kem=oqs,sig=oqs". Slots: ecdh, kem, sig, aead. A
 * slot that is not named is OpenSSL's, and so is all of "". A further call before the first use replaces the choice.
 *
 * DBE_E_ARGUMENT: the text cannot be read, or a slot is named twice. DBE_E_UNSUPPORTED: this build has no such backend,
 * or it does not do what the slot is for; `diag` (may be NULL) names those that are here. DBE_E_STATE: the library is
 * already in use. After an error the choice is what it was. Not thread-safe: call it before threads start. */
dbe_err dbe_crypto_select(const char *spec, struct dbe_diag *diag) DBE_MUST_CHECK;

/* The backends of this build, for people: one line for each, its name, the slots it can fill and its version. The text
 * belongs to the library and does not change. Thread-safe. Never NULL. */
const char *dbe_crypto_backends(void);

DBE_END_DECLS

#endif
