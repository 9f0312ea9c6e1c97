/* SPDX-License-Identifier: Apache-2.0
 *
 * seal.h - how a private key lies in its file: plain, under a passphrase, or bound to a TPM 2.0. One row each.
 * Private to this folder and its tests.
 */
#ifndef NODE_SEAL_H
#define NODE_SEAL_H

#include "base/base.h"
#include "crypto/crypto.h"
#include "dbe/identity.h"

enum {
    /* scrypt (RFC 7914): 16 MiB, which is what OpenSSL's own tools accept, and five passes to make up for it. */
    SEAL_SCRYPT_N = 16384,
    SEAL_SCRYPT_R = 8,
    SEAL_SCRYPT_P = 5,
    SEAL_SALT_BYTES = 16,
    SEAL_KEY_BYTES = 32, /* key-encryption key in the TPM */
    SEAL_TEXT_MAX_BYTES = 64 * 1024,
};

/* How to seal a key, with what the row needs. */
struct seal_how {
    enum dbe_seal_kind kind;
    uint32_t           pcrs; /* TPM: mask of the registers in the policy, 0: no policy */
};

struct key_seal_ops {
    enum dbe_seal_kind kind;
    const char *name;   /* for people */
    const char *begins; /* how a file of this row begins */
    /* Append the file's text. */
    dbe_err (*seal)(const struct crypto_key *key, const struct seal_how *how, struct base_buf *out,
                    struct dbe_diag *diag);
    /* `file` is for diagnostics and for who gives the passphrase. E_SEALED, E_TPM, E_CONFIG, E_UNSUPPORTED. */
    dbe_err (*open)(const uint8_t *text, size_t len, const char *file, struct crypto_key **ret,
                    struct dbe_diag *diag);
};
extern const struct key_seal_ops seal_plain, seal_passphrase, seal_tpm;

/* The row of a file's text; NULL if it is of none. */
const struct key_seal_ops *seal_row_of(const uint8_t *text, size_t len);

/* How a new key is to be sealed: as dbe_keys_set_seal said; else as `like` (the text of the file it replaces, may be
 * NULL) is; else as the environment says; else plain. */
struct seal_how seal_choose(const uint8_t *like, size_t len);

dbe_err seal_key(const struct crypto_key *key, const struct seal_how *how, struct base_buf *out,
                 struct dbe_diag *diag) DBE_MUST_CHECK;
dbe_err seal_open(const uint8_t *text, size_t len, const char *file, struct crypto_key **ret, struct dbe_diag *diag)
    DBE_MUST_CHECK;

/* The passphrase for `file`, into base_secret_alloc memory of DBE_PASSPHRASE_MAX_BYTES that the caller frees. */
dbe_err seal_get_passphrase(const char *file, char **ret, size_t *ret_len, struct dbe_diag *diag) DBE_MUST_CHECK;
/* TCTI configuration of the TPM; NULL: the TSS's own choice. */
const char *seal_tcti(void);

/* PKCS#8 DER of a key, and back. The DER is in base_secret_alloc memory of SEAL_TEXT_MAX_BYTES, freed by the caller. */
dbe_err seal_to_der(const struct crypto_key *key, uint8_t **ret, size_t *ret_len) DBE_MUST_CHECK;
dbe_err seal_from_der(const uint8_t *der, size_t len, struct crypto_key **ret) DBE_MUST_CHECK;

/* ---- a TPM's file, as bytes (the armour is off) ------------------------------------------------------------------ */

enum {
    SEAL_TPM_VERSION = 1,
    SEAL_TPM_BLOB_MAX_BYTES = 1024,
    SEAL_TPM_PCRS_ALL = 0x00FFFFFF, /* 0 to 23 */
};
/* Spans into the text that was decoded. */
struct seal_tpm_file {
    uint32_t       pcrs;
    const uint8_t *pub, *priv;
    size_t         pub_len, priv_len;
    const uint8_t *iv, *sealed;
    size_t         sealed_len;
    size_t         aad_len; /* bytes from the start that the seal covers besides */
};
/* Exactly one such file. E_MALFORMED. */
dbe_err seal_tpm_parse(const uint8_t *bytes, size_t len, struct seal_tpm_file *ret) DBE_MUST_CHECK;
/* The same from the text of the file: `out` holds the bytes that `ret` points into. */
dbe_err seal_tpm_read(const uint8_t *text, size_t len, struct base_buf *out, struct seal_tpm_file *ret)
    DBE_MUST_CHECK;

#endif
