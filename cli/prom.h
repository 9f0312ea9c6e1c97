/* SPDX-License-Identifier: Apache-2.0
 *
 * prom.h - reads what services say of themselves: Prometheus text format 0.0.4, sample by sample.
 *
 * In:   the body of GET /metrics, which is not trusted: every part of it has a maximum
 * Out:  one call a sample, in the order of the text
 * Not:  HELP and TYPE are comments here; timestamps are checked and not kept.
 */
#ifndef CLI_PROM_H
#define CLI_PROM_H

#include "base/base.h"

enum {
    PROM_TEXT_MAX_BYTES = 8 * 1024 * 1024,
    PROM_SAMPLES_MAX = 100000,
    PROM_LABELS_MAX = 16,
    PROM_NAME_BYTES = 128, /* with the NUL, as the next */
    PROM_VALUE_BYTES = 512
};

struct prom_label {
    char name[PROM_NAME_BYTES], value[PROM_VALUE_BYTES];
};
struct prom_sample {
    char name[PROM_NAME_BYTES];
    struct prom_label labels[PROM_LABELS_MAX];
    size_t label_count;
    double value; /* may be infinite or no number */
};

/* Calls `on_sample` for each sample of `text`; the sample is valid during the call. E_MALFORMED or E_TOO_LARGE: diag
 * names the line, and samples before it have been given. Pure; not for two threads with one ctx. */
dbe_err prom_parse(const char *text, size_t len, void (*on_sample)(void *ctx, const struct prom_sample *s), void *ctx,
                   struct dbe_diag *diag) DBE_MUST_CHECK;
/* Value of the label `name`, or NULL. */
const char *prom_label(const struct prom_sample *s, const char *name);

#endif
