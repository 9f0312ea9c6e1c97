/* SPDX-License-Identifier: Apache-2.0
 *
 * err.h - the one error idiom of the project.
 *
 * Every fallible function returns dbe_err; DBE_OK is 0. On error its outputs are untouched, or zeroised where
 * they are key material. Callers branch on the class (dbe_err_class), only people read names. The numbers,
 * classes and sentences come from schema/errors.def.
 */
#ifndef DBE_ERR_H
#define DBE_ERR_H

#include <stddef.h>

#include "dbe/registry.h" /* generated: enum dbe_err, enum dbe_err_class */

DBE_BEGIN_DECLS

#define DBE_MUST_CHECK __attribute__((warn_unused_result))
#define DBE_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Return the error of `expr` to the caller, if there is one. */
#define DBE_TRY(expr)                                                                                                  \
    do {                                                                                                               \
        dbe_err dbe_try_err_ = (expr);                                                                                 \
        if (dbe_try_err_ != DBE_OK)                                                                                    \
            return dbe_try_err_;                                                                                       \
    } while (0)

/* Name of an error as in schema/errors.def ("E_MALFORMED"); "E_UNKNOWN" for a number that is in no row. */
const char *dbe_err_name(dbe_err err);

/* One sentence for people, without a final full stop. Never NULL. */
const char *dbe_err_text(dbe_err err);

/* What to do about it. An unknown number is DBE_CLASS_FATAL. */
enum dbe_err_class dbe_err_class(dbe_err err);

/* What exactly was wrong and where, for the person who reads it. Filled by decoders and loaders beside the
 * error they return; a caller that does not care passes NULL. Never carries secrets or payload bytes. */
struct dbe_diag {
    const char *clause;    /* clause of the specification or field that is broken; static string or NULL */
    size_t      offset;    /* byte offset into the input, where that has a meaning                        */
    char        text[192]; /* one line of UTF-8, NUL-terminated; "" when unset                            */
};

/* Fill `diag` (may be NULL) and return `err`, so that a decoder can write
 * `return dbe_fail(diag, DBE_E_MALFORMED, "clause 3.2", off, "tlv_len %u exceeds ...", n);` */
dbe_err dbe_fail(struct dbe_diag *diag, dbe_err err, const char *clause, size_t offset, const char *fmt, ...)
    DBE_PRINTF(5, 6);

DBE_END_DECLS

#endif
