/* SPDX-License-Identifier: Apache-2.0
 *
 * api_keys.h - keys by which programs use a gateway: whom each stands for, and under which ceilings.
 *
 * In:   text of a file of keys (an operator's, and checked all the same); a key as a client sent it
 * Out:  rows; the row of a key
 * Not:  no file, no clock; the keys themselves are nowhere: a row holds their SHA3-512
 *
 * The file: a line "dsmil-api-keys 1", then one line a key:
 *   ID HASH TENANT CLASSIFICATION COMPARTMENTS CREATED [COMMENT]
 * ID 1 to 16 letters and digits; HASH 128 hex digits; CLASSIFICATION and each of COMPARTMENTS ("SOC+DEV") by name;
 * CREATED in Unix seconds. Empty lines and lines that begin with '#' are skipped.
 */
#ifndef POLICY_API_KEYS_H
#define POLICY_API_KEYS_H

#include "base/base.h"
#include "crypto/crypto.h"
#include "dbe/limits.h"

enum {
    POL_API_KEYS_MAX = 1024,
    POL_API_KEY_ID_MAX = 16,
    POL_API_KEY_COMMENT_MAX = 120,
    POL_API_KEYS_FILE_MAX = 1024 * 1024,
    POL_API_KEY_RANDOM_BYTES = 32,
    POL_API_KEY_TEXT_BYTES = 4 + 2 * POL_API_KEY_RANDOM_BYTES + 1, /* "dsk-" and hex, with NUL */
};

struct pol_api_key {
    char id[POL_API_KEY_ID_MAX + 1];
    uint8_t hash[CRYPTO_HASH_BYTES];
    char tenant[DBE_TENANT_MAX_BYTES + 1];
    uint8_t classification; /* ceiling, enum dbe_classification */
    uint32_t compartments;  /* ceiling, mask; never KINETIC */
    uint64_t created_unix;
    char comment[POL_API_KEY_COMMENT_MAX + 1];
};

/* Read all rows. E_CONFIG: `diag` names the line and what was expected; E_TOO_LARGE: more than `cap`. */
dbe_err pol_api_keys_read(const char *text, size_t len, struct pol_api_key *ret, size_t cap, size_t *ret_count,
                          struct dbe_diag *diag) DBE_MUST_CHECK;
/* The same rows as text. Sticks in out->err. */
void pol_api_keys_write(const struct pol_api_key *keys, size_t count, struct base_buf *out);
/* May a row hold these? E_CONFIG with the words for a person. */
dbe_err pol_api_key_check(const struct pol_api_key *key, struct dbe_diag *diag) DBE_MUST_CHECK;
/* "SOC+DEV" to a mask; false: a name is unknown, or KINETIC. */
bool pol_api_key_compartments(const char *text, uint32_t *ret);

/* A new key, and the row's id and hash of it. Errors are those of randomness and the hash. */
dbe_err pol_api_key_new(char ret_key[POL_API_KEY_TEXT_BYTES], struct pol_api_key *ret) DBE_MUST_CHECK;
/* The row of a key that a client sent; NULL: there is none. Every row is looked at, whichever matches. */
const struct pol_api_key *pol_api_keys_find(const struct pol_api_key *keys, size_t count, const char *key);

#endif
