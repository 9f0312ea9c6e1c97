/* SPDX-License-Identifier: Apache-2.0
 *
 * lines.h - the text files of the log, line by line: one spelling each, or they are refused. Nobody outside src/audit
 * includes it.
 */
#ifndef AUDIT_LINES_H
#define AUDIT_LINES_H

#include "audit/audit.h"

/* A reader that stops being good at the first thing that is not as it must be. */
struct audit_lines {
    const char *at, *end;
    bool bad;
};
struct audit_text audit_lines_next(struct audit_lines *s);               /* without its line feed */
uint64_t audit_lines_number(struct audit_lines *s, struct audit_text t); /* decimal, no zeros in front */
void audit_lines_base64(struct audit_lines *s, struct audit_text t, uint8_t *out, size_t len); /* exactly `len` bytes */
struct audit_text audit_lines_after(struct audit_lines *s, struct audit_text t, const char *word);
void audit_lines_origin(struct audit_lines *s, char ret[AUDIT_ORIGIN_MAX]);
/* An empty line and a signature line for what stands before them. */
void audit_lines_signature(struct audit_lines *s, const char *origin, uint8_t key_id[AUDIT_KEY_ID_BYTES],
                           uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES]);
void audit_put_signature(struct base_buf *out, const char *origin, const uint8_t key_id[AUDIT_KEY_ID_BYTES],
                         const uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES]);

#endif
