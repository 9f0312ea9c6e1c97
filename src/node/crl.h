/* SPDX-License-Identifier: Apache-2.0
 *
 * crl.h - revocation lists of the mesh: X.509 CRL version 2 (RFC 5280, section 5) with an ML-DSA-87 signature, read and
 * made (docs/spec/dbe-v1.md, section 8). Private to this folder and its tests.
 */
#ifndef NODE_CRL_H
#define NODE_CRL_H

#include "base/base.h"
#include "crypto/crypto.h"
#include "dbe/identity.h"

enum { CRL_SERIAL_MAX_BYTES = 20 };

struct crl_entry {
    uint8_t  serial[CRL_SERIAL_MAX_BYTES]; /* magnitude without leading zero bytes */
    uint8_t  serial_len;
    uint8_t  reason; /* enum dbe_revoke_reason */
    uint64_t revoked_ms;
};

/* A list as read: at most DBE_REVOKED_MAX entries, sorted by serial, none twice. */
struct crl {
    uint64_t          number;  /* crlNumber, 1 to 2^63 - 1 */
    uint64_t          made_ms; /* thisUpdate */
    size_t            count;
    struct crl_entry *entries;
    uint8_t          *der; /* the bytes it was read from, to be passed on */
    size_t            der_len;
};

/* Read without asking who signed: form and profile alone. For fuzzing and tests; everybody else calls crl_read.
 * E_CERT, E_TOO_LARGE, E_NOMEM. */
dbe_err crl_parse(const uint8_t *der, size_t len, struct crl **ret, struct dbe_diag *diag) DBE_MUST_CHECK;

/* The signature is the CA's, the issuer is the CA, the profile is kept. The signature is verified before an entry is
 * looked at. E_CERT, E_TOO_LARGE, E_NOMEM. */
dbe_err crl_read(const struct dbe_trust *trust, const uint8_t *der, size_t len, struct crl **ret,
                 struct dbe_diag *diag) DBE_MUST_CHECK;
void    crl_free(struct crl *crl); /* takes NULL */

/* The entry of a serial, NULL if it is not on the list; `crl` may be NULL. Binary search. */
const struct crl_entry *crl_find(const struct crl *crl, const uint8_t *serial, size_t len);

/* Order of entries: shorter serials first, then by bytes. For qsort. */
int crl_entry_order(const void *a, const void *b);

/* Sign a list of `entries`, which are sorted here in place. `number` must be above that of every earlier list.
 * E_LIMIT: too many entries. The DER is appended. */
dbe_err crl_make(const struct dbe_trust *trust, const struct crypto_key *ca_key, struct crl_entry *entries,
                 size_t count, uint64_t number, uint64_t now_ms, struct base_buf *der) DBE_MUST_CHECK;

#endif
