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
    bool     attested;                      /* the certificate names an attestation key of a TPM */
    uint8_t  ak_sha256[32];                 /* of its point; with attested */
};

/* A node's own credentials, or a trust anchor: opaque, loaded from the key store. */
struct dbe_credential; /* certificate + private key */
struct dbe_trust;      /* CA certificate, and the newest list of what it revoked */

/* ---- key store: <dir>/ca.key ca.crt ca.crl <name>.key <name>.crt, keys mode 0600 ------------------------------ */

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
    bool        attest;             /* make an attestation key in this machine's TPM and certify it (<name>.ak) */
    uint32_t    quote_pcrs;         /* with attest: mask of the registers it quotes; 0: PCR 0 to 7 */
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

/* Verify a certificate (DER) against the mesh CA: signature, profile, mesh name, ceilings, that it is not revoked, and
 * validity at `now_ms`. `ret_pk` (may be NULL) takes the ML-DSA-87 public key (2592 bytes). E_CERT, E_REVOKED,
 * E_EXPIRED; outputs untouched on error. */
dbe_err dbe_trust_verify(const struct dbe_trust *trust, const uint8_t *der, size_t len, uint64_t now_ms,
                         struct dbe_identity *ret, uint8_t *ret_pk, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Judge again an identity that dbe_trust_verify gave earlier: E_REVOKED if a list that came since names it, E_EXPIRED
 * outside its validity at `now_ms`. Cheap (a binary search); for channels that live long. */
dbe_err dbe_trust_check(const struct dbe_trust *trust, const struct dbe_identity *id, uint64_t now_ms,
                        struct dbe_diag *diag) DBE_MUST_CHECK;

/* ---- sealed keys -----------------------------------------------------------------------------------------------
 *
 * A key file says itself how it is sealed, and one store may hold all kinds. Whatever opens a key needs what seals it:
 * for a passphrase the file that DSMIL_PASSPHRASE_FILE names (yours alone, mode 0600; a newline at its end does not
 * count) or a callback, never an argument; for a TPM 2.0 a TCTI configuration in DSMIL_TPM ("device:/dev/tpmrm0",
 * "swtpm:path=..."), or none for the TSS's own choice. Errors of opening: E_SEALED (another passphrase, another TPM,
 * registers that changed), E_TPM (no TPM to be reached), E_PERMISSION, E_CONFIG (damaged), E_UNSUPPORTED (this build
 * cannot use a TPM). */

enum dbe_seal_kind {
    DBE_SEAL_AUTO,       /* as the file that is replaced; a new key by DSMIL_TPM or DSMIL_PASSPHRASE_FILE, else plain */
    DBE_SEAL_PLAIN,      /* PKCS#8 in PEM, mode 0600 */
    DBE_SEAL_PASSPHRASE, /* PKCS#8 in PEM, encrypted: PBES2, scrypt, AES-256-CBC; `openssl pkey` reads it */
    DBE_SEAL_TPM,        /* opens on this machine's TPM alone */
};

/* Give the passphrase of `file` in buf[0..*ret_len), at most `cap` bytes, not NUL-terminated. The memory is locked and
 * wiped by the caller. Anything but DBE_OK is handed on. */
typedef dbe_err dbe_passphrase_fn(void *ctx, const char *file, char *buf, size_t cap, size_t *ret_len);

struct dbe_seal {
    enum dbe_seal_kind kind;            /* how keys are written from now on; opening goes by the file */
    const char        *passphrase_file; /* instead of $DSMIL_PASSPHRASE_FILE */
    dbe_passphrase_fn *passphrase;      /* asked where there is no passphrase_file */
    void              *ctx;
    const char        *tpm;             /* instead of $DSMIL_TPM */
    uint32_t           pcrs;            /* TPM: bit i demands that PCR i (SHA-256 bank) is what it is now; 0: none */
};
/* How this process seals and opens keys; the strings are copied. NULL: the environment alone, as at the start. Not
 * thread-safe: call it before threads start. E_ARGUMENT. */
dbe_err dbe_keys_set_seal(const struct dbe_seal *how, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Seal the key of `name` ("ca" as well) anew, as dbe_keys_set_seal said, in place and in one step. What lay unsealed on
 * the disk before may be found there still. */
dbe_err dbe_keys_seal(const char *dir, const char *name, struct dbe_diag *diag) DBE_MUST_CHECK;
/* How the key of `name` is sealed. E_NOT_FOUND, E_CONFIG. */
dbe_err dbe_keys_seal_kind(const char *dir, const char *name, enum dbe_seal_kind *ret, struct dbe_diag *diag)
    DBE_MUST_CHECK;

/* ---- evidence (spec 8.15 to 8.18) --------------------------------------------------------------------------------
 *
 * A node whose certificate names an attestation key shows a quote of its TPM in each handshake. Which nodes must, and
 * what their registers must hold, stands in <dir>/pcrs.policy, which dbe_trust_load reads if it is there:
 *
 *   # who   register = SHA-256 value        who: a role, a device's number, or * for everybody
 *   worker  quote
 *   router  7 = 65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e34eb3068d
 *   43      0 = d0c70a9310cd0b55767084333022ce53f42befbb69c059ee6c0a32766f160783
 *
 * Whoever is named must show a quote; of several lines for one register one must hold. */

/* Take a policy from memory instead. E_CONFIG names the line. */
dbe_err dbe_trust_set_pcr_policy(struct dbe_trust *trust, const char *text, size_t len, struct dbe_diag *diag)
    DBE_MUST_CHECK;

/* ---- revocation (spec 8.11, 8.13, 8.14) --------------------------------------------------------------------------
 *
 * The CA revokes certificates by a signed list: an X.509 CRL version 2 (RFC 5280, section 5) in DER, at most
 * DBE_REVOKED_MAX entries and DBE_CRL_MAX_BYTES bytes, in <dir>/ca.crl. Each list has a number above the one before; an
 * older list never takes a newer one's place. A trust anchor belongs to one thread at a time; these functions change
 * it. */

/* Why a certificate was revoked: numbers of RFC 5280, section 5.3.1. */
enum dbe_revoke_reason {
    DBE_REVOKE_UNSPECIFIED = 0,
    DBE_REVOKE_KEY_COMPROMISE = 1,
    DBE_REVOKE_CA_COMPROMISE = 2,
    DBE_REVOKE_AFFILIATION_CHANGED = 3,
    DBE_REVOKE_SUPERSEDED = 4,
    DBE_REVOKE_CESSATION = 5,
    DBE_REVOKE_HOLD = 6,
    DBE_REVOKE_PRIVILEGE_WITHDRAWN = 9,
    DBE_REVOKE_AA_COMPROMISE = 10,
};
/* "key-compromise" and so on; "unknown" for a number that is none. */
const char *dbe_revoke_reason_name(enum dbe_revoke_reason reason);
/* The reason of such a name. E_NOT_FOUND. */
dbe_err dbe_revoke_reason_named(const char *name, enum dbe_revoke_reason *ret) DBE_MUST_CHECK;

/* Revoke a certificate of the mesh, by the name of its file in the store or by its serial number in hex (as `openssl
 * x509 -serial` prints it; colons may stand between bytes). Needs the CA's key. The new list replaces the old one in
 * one step: killed at any moment, the store holds the one or the other.
 * E_EXISTS: it is revoked already. E_NOT_FOUND: neither a name of the store nor a serial number. E_LIMIT: the list is
 * full. */
dbe_err dbe_keys_revoke(const char *dir, const char *name_or_serial, enum dbe_revoke_reason reason,
                        struct dbe_diag *diag) DBE_MUST_CHECK;

/* What `dbe_keys_renew` is asked for. All zero is a useful request. */
struct dbe_renew {
    uint32_t               valid_days; /* 0: 90 */
    bool                   revoke_old; /* put the certificate that is replaced on the list */
    enum dbe_revoke_reason reason;     /* with revoke_old; UNSPECIFIED is written as SUPERSEDED */
};
/* Make a new key and a new certificate for the identity that <dir>/<name>.crt names, with the same ceilings; `what` may
 * be NULL. An expired or revoked certificate is renewed as well. Key and certificate change together: whoever loads the
 * credential meanwhile, or after a kill at any moment, gets the old pair or the new one, and the next call that writes
 * to the store completes or clears what a killed one left. */
dbe_err dbe_keys_renew(const char *dir, const char *name, const struct dbe_renew *what, struct dbe_diag *diag)
    DBE_MUST_CHECK;

/* Verify a certificate of the store (`name_or_path` is a name; then its key, if it is there, must belong to it) or any
 * certificate file in PEM or DER (it holds a '/' or is no name of the store), against the CA and list in `dir`, now.
 * `ret` may be NULL. E_NOT_FOUND, E_CERT, E_REVOKED, E_EXPIRED, and what dbe_credential_load says of keys. */
dbe_err dbe_keys_verify(const char *dir, const char *name_or_path, struct dbe_identity *ret, struct dbe_diag *diag)
    DBE_MUST_CHECK;

/* Adopt a list (DER, from anywhere): from then on dbe_trust_verify and dbe_trust_check answer E_REVOKED for what it
 * names. The bytes are copied. E_EXISTS: it is not newer than the one held (nothing changes; no fault of whoever sent
 * it). E_CERT: not signed by this CA, or breaks the profile. E_TOO_LARGE, E_NOMEM. */
dbe_err dbe_trust_set_revocations(struct dbe_trust *trust, const uint8_t *der, size_t len, struct dbe_diag *diag)
    DBE_MUST_CHECK;
/* The list held, to be passed on: DER and crlNumber; NULL, 0 and 0 when there is none. The bytes live until the next
 * list is adopted or the trust is freed. Each of the three may be NULL. */
void dbe_trust_revocations(const struct dbe_trust *trust, const uint8_t **ret_der, size_t *ret_len,
                           uint64_t *ret_number);
/* How many certificates the list held names. */
size_t dbe_trust_revoked_count(const struct dbe_trust *trust);
/* Adopt <dir>/ca.crl if it is newer: for whoever watches the store. E_NOT_FOUND: there is no such file; otherwise as
 * dbe_trust_set_revocations. dbe_trust_load has done it once. */
dbe_err dbe_trust_load_revocations(struct dbe_trust *trust, const char *dir, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Keep a list that came from elsewhere as <dir>/ca.crl, if it is valid there and newer than the file. E_EXISTS: it is
 * not newer. */
dbe_err dbe_keys_save_revocations(const char *dir, const uint8_t *der, size_t len, struct dbe_diag *diag)
    DBE_MUST_CHECK;

/* ---- bundles (spec 8.19) -----------------------------------------------------------------------------------------
 *
 * What a mesh is, without a secret: the CA's certificate, the newest revocation list and the certificates of its nodes,
 * in one text file that the CA signed. It carries a mesh to another machine, and news to one that has it. */

/* Write the bundle of the mesh in `dir` to `path`, mode 0644. Needs the CA's key. Certificates that are revoked or
 * outside their validity stay out. `ret_count` (may be NULL) takes how many are in. */
dbe_err dbe_keys_bundle_export(const char *dir, const char *path, size_t *ret_count, struct dbe_diag *diag)
    DBE_MUST_CHECK;

/* What became of one part: "ca", "list" or a node's name; `why` says it for people where it was not installed, or is
 * NULL. */
typedef void dbe_bundle_fn(void *ctx, const char *part, bool installed, const char *why);
/* Install from a bundle into `dir` (made if it is not there) what is newer than what is there. `fingerprint` is the
 * SHA3-512 of the CA's certificate (64 bytes), known from elsewhere; NULL: `dir` must hold the CA already. All is
 * verified before anything is written. A node's certificate never replaces one of another identity, nor takes the
 * certificate of a key that lies in `dir` away from it. `fn` may be NULL.
 * E_CERT: the bundle is another mesh's, forged or damaged. E_EXISTS: `dir` holds another mesh. */
dbe_err dbe_keys_bundle_import(const char *dir, const char *path, const uint8_t *fingerprint, dbe_bundle_fn *fn,
                               void *ctx, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Certificates of the store, for `dsmil keys list`: calls `fn` for each; a broken one comes with its error. */
typedef void dbe_keys_list_fn(void *ctx, const char *name, const struct dbe_identity *id, dbe_err err,
                              const char *problem);
dbe_err dbe_keys_list(const char *dir, dbe_keys_list_fn *fn, void *ctx, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Certificate file of `name` as PEM, for tools that read X.509 ("ca" for the CA's). */
dbe_err dbe_keys_path(const char *dir, const char *name, const char *suffix, char *ret, size_t cap) DBE_MUST_CHECK;

DBE_END_DECLS

#endif
