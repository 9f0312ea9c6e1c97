/* SPDX-License-Identifier: Apache-2.0
 *
 * err.c - names, sentences and classes of errors over the generated table, the diagnostic, and the end of a process
 * whose own invariant broke. Holds no state.
 */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *dbe_err_name(dbe_err err)
{
    const struct dbe_err_row *row = dbe_reg_err((int)err);

    return row != NULL ? row->name : "E_UNKNOWN";
}

const char *dbe_err_text(dbe_err err)
{
    const struct dbe_err_row *row = dbe_reg_err((int)err);

    return row != NULL ? row->doc : "an error that this build does not know";
}

enum dbe_err_class dbe_err_class(dbe_err err)
{
    const struct dbe_err_row *row = dbe_reg_err((int)err);

    return row != NULL ? row->cls : DBE_CLASS_FATAL;
}

dbe_err dbe_fail(struct dbe_diag *diag, dbe_err err, const char *clause, size_t offset, const char *fmt, ...)
{
    va_list args;

    if (diag == NULL)
        return err;
    diag->clause = clause;
    diag->offset = offset;
    va_start(args, fmt);
    (void)vsnprintf(diag->text, sizeof diag->text, fmt, args);
    va_end(args);
    base_text_mend(diag->text); /* the words of others may be in it, and may be cut in the middle of a character */
    return err;
}

_Noreturn void base_invariant_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "invariant broken: %s (%s:%d)\n", cond, file, line);
    abort();
}
