/* SPDX-License-Identifier: Apache-2.0
 *
 * payloads.h - requests as L7ChatRequest and L7EmbedRequest, answers out of L7ChatResponse and L7EmbedResponse.
 *
 * In:   struct shim_req; payloads of the router (hostile)
 * Out:  views for the packer; struct shim_answer and struct shim_vectors
 * Not:  no mesh, no JSON
 */
#ifndef SHIM_PAYLOADS_H
#define SHIM_PAYLOADS_H

#include "dbe/msg.h"
#include "dsmil.pb-c.h"
#include "shim/openai.h"

/* Views into `req`, which has to outlive them. */
struct shim_packing;
dbe_err shim_pack(const struct shim_req *req, struct shim_packing **ret,
                  const ProtobufCMessage **ret_payload) DBE_MUST_CHECK;
void shim_packing_free(struct shim_packing *p);

/* What a message says. An answer has at least one choice, except in the last message of a stream. */
struct shim_taken {
    struct shim_answer answer;
    struct shim_vectors vectors;
    /* what these point into */
    Dsmil__L7ChatResponse *response;
    Dsmil__L7EmbedResponse *embedded;
    struct shim_choice choices[SHIM_CHOICES_MAX];
    struct shim_prob *probs;
    struct shim_call *calls;
    const uint8_t **values;
    size_t *bytes;
};
/* E_MALFORMED: it is no such answer. E_NOMEM. */
dbe_err shim_take(const struct dbe_msg *msg, struct shim_taken **ret) DBE_MUST_CHECK;
void shim_taken_free(struct shim_taken *t); /* takes NULL */

#endif
