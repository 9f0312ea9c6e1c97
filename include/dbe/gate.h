/* SPDX-License-Identifier: Apache-2.0
 *
 * gate.h - what a receiver must decide before anything acts on a message (docs/spec/dbe-v1.md, section 11).
 *
 * A node hands over every message that its peer sealed; whether it may pass is the owner's to decide, and this is the
 * decision: the built-in policy of the mesh over the peer's certificate, one's own, the claim token, and the labels. A
 * gate stands at one channel, from on_up to on_down, and remembers the claim tokens that it has verified.
 *
 * Threads: a gate belongs to one thread at a time. Nothing here does I/O.
 */
#ifndef DBE_GATE_H
#define DBE_GATE_H

#include <stdint.h>

#include "dbe/identity.h"
#include "dbe/limits.h"
#include "dbe/msg.h"
#include "dbe/node.h"
#include "dbe/policy.h"

DBE_BEGIN_DECLS

enum { DBE_REASON_MAX_BYTES = 128 };

/* The labels a message travels with. */
struct dbe_labels {
    char     tenant[DBE_TENANT_MAX_BYTES + 1];
    uint32_t compartments;   /* mask of enum dbe_compartment */
    uint8_t  classification; /* enum dbe_classification */
    uint8_t  roe_level;      /* enum dbe_roe_level */
};

/* What was decided, and why. An ERROR reply may carry all of it to the peer (spec 9.4). */
struct dbe_verdict {
    dbe_err           code;                         /* DBE_OK: allowed */
    const char       *rule;                         /* name of the rule that decided; static */
    char              reason[DBE_REASON_MAX_BYTES]; /* one sentence; "" when allowed */
    struct dbe_labels labels;                       /* as decided, when allowed */
};

/* Digest of the built-in policy, for dbe_node_config.policy_digest: services under it accept no peer with another. */
struct dbe_policy_digest dbe_policy_default(void);

struct dbe_gate;

/* A gate at the channel of `peer`, for the node that owns `self`. Takes what it needs from both: it may outlive the
 * peer. When the channel switched to a renewed certificate (on_switched), make a new one. E_ARGUMENT: the peer is not
 * authenticated. E_NOMEM, E_CRYPTO. */
dbe_err dbe_gate_new(const struct dbe_peer *peer, const struct dbe_credential *self, struct dbe_gate **ret)
    DBE_MUST_CHECK;
void    dbe_gate_free(struct dbe_gate *gate); /* takes NULL */

/* May this message, which the peer sent, pass here (spec 11.1 to 11.11)? Returns the code that the verdict holds.
 * `now_ms`: Unix. Verifies the claim token, if there is one: about 0.2 ms the first time it is seen. */
dbe_err dbe_gate_message(struct dbe_gate *gate, const struct dbe_msg *msg, uint64_t now_ms, struct dbe_verdict *ret)
    DBE_MUST_CHECK;
/* May this answer of the peer stand for a request that carried these labels (spec 11.12)? */
dbe_err dbe_gate_answer(const struct dbe_gate *gate, const struct dbe_labels *request, const struct dbe_msg *answer,
                        struct dbe_verdict *ret) DBE_MUST_CHECK;
/* May content with these labels be sent to the peer at all (spec 11.13)? To be asked before sending. */
dbe_err dbe_gate_send(const struct dbe_gate *gate, const struct dbe_labels *labels, struct dbe_verdict *ret)
    DBE_MUST_CHECK;

/* The labels that a message carries. E_NOT_FOUND: one of the four is missing, `ret` is untouched. */
dbe_err dbe_labels_read(const struct dbe_msg *msg, struct dbe_labels *ret) DBE_MUST_CHECK;

DBE_END_DECLS

#endif
