/* SPDX-License-Identifier: Apache-2.0
 *
 * bundle.h - the text of a bundle, read and written part by part (docs/spec/dbe-v1.md, clause 8.19). Private to this
 * folder and its tests.
 */
#ifndef NODE_BUNDLE_H
#define NODE_BUNDLE_H

#include "base/base.h"
#include "keystore.h"

#define BUNDLE_SIGNATURE_CTX "DSMIL-DBE v1 bundle"

enum { BUNDLE_TIME_BYTES = 20 /* 2026-11-21T07:00:00Z */ };

/* The first part. */
struct bundle_head {
    char            mesh[DBE_MESH_NAME_MAX_BYTES];
    char            made[BUNDLE_TIME_BYTES + 1];
    uint64_t        list_number; /* 0: there is no list */
    struct base_buf ca, list;    /* DER; `list` is empty without one */
};
void    bundle_head_init(struct bundle_head *head);
void    bundle_head_fini(struct bundle_head *head);

/* Text to parts, in their order. Only what the functions below write is taken. E_MALFORMED, E_TOO_LARGE, E_NOMEM. */
dbe_err bundle_take_head(struct base_cur *c, struct bundle_head *ret) DBE_MUST_CHECK;
dbe_err bundle_take_node(struct base_cur *c, char name[KEYS_NAME_MAX_BYTES + 1], struct base_buf *der)
    DBE_MUST_CHECK;

void bundle_put_head(struct base_buf *out, const struct bundle_head *head);
void bundle_put_node(struct base_buf *out, const char *name, const struct base_buf *der);

/* A bundle is what is signed, then the block of the signature, which has one size. */
struct bundle_halves {
    const uint8_t *text;
    size_t         signed_len;
    uint8_t        signature[CRYPTO_MLDSA87_SIG_BYTES];
};
dbe_err bundle_split(const uint8_t *text, size_t len, struct bundle_halves *ret) DBE_MUST_CHECK;
void    bundle_put_signature(struct base_buf *out, const uint8_t signature[CRYPTO_MLDSA87_SIG_BYTES]);

#endif
