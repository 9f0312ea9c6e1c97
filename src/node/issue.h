/* SPDX-License-Identifier: Apache-2.0
 *
 * issue.h - what issue.c, renew.c, revoke.c and bundle.c share: the CA as the one who signs, the store's lock, files
 * written whole. Private to this folder.
 */
#ifndef NODE_ISSUE_H
#define NODE_ISSUE_H

#include "cert.h"
#include "keystore.h"

#define KEYS_MS_PER_DAY UINT64_C(86400000)

/* The CA as the one who signs: certificate and key that belong together. */
struct keys_signer {
    struct dbe_trust *trust;
    struct crypto_key *key;
};
/* E_EXPIRED when the CA's certificate is over; otherwise as keys_read_key and dbe_trust_load. On error call
 * keys_signer_fini as well. */
dbe_err keys_signer_load(const char *dir, struct keys_signer *s, struct dbe_diag *diag) DBE_MUST_CHECK;
void    keys_signer_fini(struct keys_signer *s);

/* Hold the store alone; the lock goes with the descriptor. */
dbe_err keys_lock(const char *dir, int *ret_fd, struct dbe_diag *diag) DBE_MUST_CHECK;

bool    keys_file_there(const char *dir, const char *name, const char *suffix);
dbe_err keys_write_key(const char *dir, const char *name, const char *suffix, const struct crypto_key *key,
                       struct dbe_diag *diag) DBE_MUST_CHECK;
dbe_err keys_write_cert(const char *dir, const char *name, const char *suffix, const struct base_buf *der,
                        struct dbe_diag *diag) DBE_MUST_CHECK;
dbe_err keys_check_days(uint32_t days, struct dbe_diag *diag) DBE_MUST_CHECK;

/* With the lock held: put certificates on the list in <dir>/ca.crl. E_EXISTS if it is there already. */
dbe_err keys_revoke_serial(const char *dir, const struct keys_signer *s, const uint8_t *serial, size_t len,
                           enum dbe_revoke_reason reason, struct dbe_diag *diag) DBE_MUST_CHECK;

/* With the lock held: dbe_keys_save_revocations. */
dbe_err keys_save_list(const char *dir, const uint8_t *der, size_t len, struct dbe_diag *diag) DBE_MUST_CHECK;

/* With the lock held: complete or clear what a killed renewal of `name` left (see renew.c). */
dbe_err keys_settle(const char *dir, const char *name, const struct dbe_trust *trust, struct dbe_diag *diag)
    DBE_MUST_CHECK;

/* Called with the number of each step of a renewal before it is taken; for tests, which kill the process there. */
extern void (*keys_step_hook)(int step);

#endif
