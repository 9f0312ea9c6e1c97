/* SPDX-License-Identifier: Apache-2.0
 *
 * identity.h - who a node is: what its certificate says once verified, and the key store on disk.
 *
 * A node certificate is X.509 signed by the mesh CA with ML-DSA-87. The SPIFFE id
 * spiffe://<mesh>/l<layer>/<role>/<device> stands in subjectAltName; ceilings (classification, compartments) stand in
 * a critical extension of our own, so that a stolen node can never claim more (docs/spec/dbe-v1.md, section 8).
 */
#ifndef DBE_IDENTITY_H
#define DBE_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "dbe/err.h"
#include "dbe/limits.h"

DBE_BEGIN_DECLS

/* What a verified certificate says. Plain data; copy freely. */
struct dbe_identity {
    char     spiffe_id[DBE_SPIFFE_ID_MAX_BYTES];
    char     mesh[DBE_MESH_NAME_MAX_BYTES]; /* trust domain */
    uint8_t  device, layer, role;           /* enum dbe_device, dbe_layer, dbe_role */
    uint8_t  classification_max;            /* enum dbe_classification below TS_SIM */
    bool     exercise;                      /* may carry TS_SIM, and then nothing else */
    uint32_t compartments;                  /* mask; never KINETIC */
    uint64_t not_before_ms, not_after_ms;   /* Unix */
    uint8_t  serial[20];
    uint8_t  serial_len;
    uint8_t  fingerprint[64];               /* SHA3-512 of the certificate's DER */
};

/* A node's own credentials, or a trust anchor: opaque, loaded from the key store. */
struct dbe_credential; /* certificate + private key */
struct dbe_trust;      /* CA certificate */

/* ---- key store: <dir>/ca.key ca.crt <name>.key <name>.crt, keys mode 0600 ------------------------------------- */

/* Make a mesh CA in `dir` (made 0700). E_EXISTS if there is one: a CA is never overwritten. */
dbe_err dbe_keys_init(const char *dir, const char *mesh, uint32_t valid_days, struct dbe_diag *diag) DBE_MUST_CHECK;

/* What to issue. Zero fields take the defaults of the device's row: ceiling SECRET, compartments SOC|DEV|LAB|CRYPTO. */
struct dbe_issue {
    const char *name;               /* file name, e.g. "router-43"; NULL: "<role>-<device>" */
    uint8_t     device, role;
    uint8_t     layer;              /* 0: the device's own layer; the shim (device 0) says 7 */
    uint8_t     classification_max; /* with ceilings_set */
    uint32_t    compartments;       /* with ceilings_set */
    bool        ceilings_set, exercise;
    uint32_t    valid_days;         /* 0: 90 */
};
/* Make a key and a certificate signed by the CA in `dir`, into `dir`. Both files are written or neither counts. */
dbe_err dbe_keys_issue(const char *dir, const struct dbe_issue *what, struct dbe_diag *diag) DBE_MUST_CHECK;
/* The same, in memory only: for short-lived identities. Free with dbe_credential_free. */
dbe_err dbe_keys_issue_ephemeral(const char *dir, const struct dbe_issue *what, uint64_t valid_ms,
                                 struct dbe_credential **ret, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Load. diag names the file and what to do about it (missing, expired, unreadable, readable by others). */
dbe_err dbe_credential_load(const char *dir, const char *name, struct dbe_credential **ret, struct dbe_diag *diag)
    DBE_MUST_CHECK;
dbe_err dbe_trust_load(const char *dir, struct dbe_trust **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
void    dbe_credential_free(struct dbe_credential *cred); /* takes NULL; wipes */
void    dbe_trust_free(struct dbe_trust *trust);          /* takes NULL */

/* Sign with the credential's ML-DSA-87 key (FIPS 204, context string `ctx`); sig takes 4627 bytes. */
dbe_err dbe_credential_sign(const struct dbe_credential *cred, const char *ctx, const void *msg, size_t len,
                            uint8_t *sig) DBE_MUST_CHECK;
/* The certificate, DER; lives as long as the credential. */
void    dbe_credential_cert(const struct dbe_credential *cred, const uint8_t **ret_der, size_t *ret_len);
const struct dbe_identity *dbe_credential_identity(const struct dbe_credential *cred);
const char                *dbe_trust_mesh(const struct dbe_trust *trust);

/* Verify a certificate (DER) against the mesh CA: signature, profile, validity at `now_ms`, mesh name, ceilings.
 * `ret_pk` (may be NULL) takes the ML-DSA-87 public key (2592 bytes). E_CERT, E_EXPIRED; outputs untouched on error. */
dbe_err dbe_trust_verify(const struct dbe_trust *trust, const uint8_t *der, size_t len, uint64_t now_ms,
                         struct dbe_identity *ret, uint8_t *ret_pk, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Certificates of the store, for `dsmil keys list`: calls `fn` for each; a broken one comes with its error. */
typedef void dbe_keys_list_fn(void *ctx, const char *name, const struct dbe_identity *id, dbe_err err,
                              const char *problem);
dbe_err dbe_keys_list(const char *dir, dbe_keys_list_fn *fn, void *ctx, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Certificate file of `name` as PEM, for tools that read X.509 ("ca" for the CA's). */
dbe_err dbe_keys_path(const char *dir, const char *name, const char *suffix, char *ret, size_t cap) DBE_MUST_CHECK;

DBE_END_DECLS

#endif
