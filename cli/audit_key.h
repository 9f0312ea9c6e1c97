/* SPDX-License-Identifier: Apache-2.0
 *
 * audit_key.h - what `dsmil audit` and dsmil-audit-verify share: keys of checkpoints, and the verification in words.
 */
#ifndef CLI_AUDIT_KEY_H
#define CLI_AUDIT_KEY_H

#include "audit/verify.h"
#include "dbe/identity.h"

/* Exit codes of a verification. */
enum {
    AUDIT_EXIT_RIGHT = 0,
    AUDIT_EXIT_FAILED = 1, /* it could not be read */
    AUDIT_EXIT_USAGE = 2,
    AUDIT_EXIT_CHAIN = 4, /* an entry was changed, removed, inserted or moved */
    AUDIT_EXIT_SIGNATURE = 5,
    AUDIT_EXIT_ANCHOR = 6, /* entries that were seen are missing, or are others */
};

struct audit_keys {           /* stays where it was opened */
    struct audit_certs certs; /* for audit_certs_find */
    struct dbe_trust *trust;
};
dbe_err audit_keys_open(struct audit_keys *k, const char *dir, const char *keys, struct dbe_diag *diag) DBE_MUST_CHECK;
void audit_keys_close(struct audit_keys *k);
/* Verify the log by the CA in `keys` and say on stdout what was found, as words or one JSON object. Returns the exit
 * code. */
int audit_check_log(const struct audit_place *place, const char *keys, const char *const *anchors, size_t count,
                    bool json);
/* The same for a file with a proof; certificates are looked up beside the log. */
int audit_check_proof(const char *dir, const char *keys, const char *path, bool json);

#endif
