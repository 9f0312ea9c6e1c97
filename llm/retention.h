/* SPDX-License-Identifier: Apache-2.0
 *
 * retention.h - how much of a model its quantised form kept, measured on a text.
 *
 * In:   two model files of one vocabulary, a text. Out: agreement of greedy choices, divergence, perplexity.
 * Does: loads one after the other, never both: the larger alone may fill the machine.
 */
#ifndef LLM_RETENTION_H
#define LLM_RETENTION_H

#include "llm.h"

enum {
    RETENTION_TOKENS_MAX = 1024,
    RETENTION_WINDOW = 256,                /* tokens that start from an empty context */
    RETENTION_LOGITS_BYTES_MAX = 256 << 20 /* of the first model, kept while the second runs */
};

/* The text that is measured on where the user gives none: prose, figures, code, two languages. */
extern const char llm_retention_text[];

/* E_ARGUMENT: the text has fewer than two tokens. Else as llm_model_load and llm_logits. */
dbe_err llm_retention_measure(const char *original, const char *quantised, const struct llm_quantize_params *params,
                              struct llm_retention *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
