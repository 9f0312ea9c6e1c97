/* SPDX-License-Identifier: Apache-2.0
 *
 * answer.h - what the engine said, as L7ChatResponse and L7EmbedResponse payloads.
 *
 * Pure: no svc. Text of a model may be anything; NULs, which protobuf text cannot carry here, are left out.
 */
#ifndef L7_WORKER_ANSWER_H
#define L7_WORKER_ANSWER_H

#include "devices/l7_worker/request.h"

struct worker_choice { /* one answer, or a part of it */
    uint32_t index;
    struct base_buf *text;              /* consumed */
    const struct base_buf *probs;       /* struct llm_token_prob, or NULL */
    const struct base_buf *call;        /* text of calls, or NULL: those that are whole are told */
    size_t *called;                     /* with `call`: bytes of it that were told before; moved on */
    const struct engine_result *result; /* NULL: more follows of this one */
    size_t behind;                      /* bytes at the end of the text that stand behind its calls */
};

struct worker_answer {
    const struct worker_choice *choices;
    size_t count;                       /* at most WORKER_ANSWERS_MAX */
    const struct engine_result *totals; /* of all choices together; NULL: more follows */
    const char *model, *fingerprint;
    const struct llm_model *llm; /* for the bytes of tokens; may be NULL without probabilities */
    uint8_t device;
    const struct base_buf *receipt; /* with totals; may be NULL */
};
/* Append the packed L7ChatResponse. E_NOMEM, E_TOO_LARGE. */
dbe_err worker_answer_pack(const struct worker_answer *answer, struct base_buf *out) DBE_MUST_CHECK;

/* Append the packed L7EmbedResponse: `vectors` are `count` of the same length. E_NOMEM, E_TOO_LARGE. */
dbe_err worker_answer_pack_embed(const struct worker_answer *answer, const struct base_buf *vectors, size_t count,
                                 struct base_buf *out) DBE_MUST_CHECK;

#endif
