/* SPDX-License-Identifier: Apache-2.0
 *
 * armour.h - blocks of text around bytes, as PEM has them (RFC 7468), in their one strict spelling: base64 in lines of
 * 64, no headers, no blanks. Private to this folder and its tests.
 */
#ifndef NODE_ARMOUR_H
#define NODE_ARMOUR_H

#include "base/base.h"

/* Append a block of `len` bytes with `label` ("CERTIFICATE"). */
void armour_put(struct base_buf *out, const char *label, const void *data, size_t len);

/* True if a block of this label begins at the cursor. */
bool armour_is(const struct base_cur *c, const char *label);

/* Take the block at the cursor, which must have this label; its bytes are appended to `out`. Only what armour_put
 * writes is taken. E_MALFORMED (the cursor is bad then), or the buffer's own error. */
dbe_err armour_take(struct base_cur *c, const char *label, struct base_buf *out) DBE_MUST_CHECK;

#endif
