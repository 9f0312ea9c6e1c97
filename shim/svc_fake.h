/* SPDX-License-Identifier: Apache-2.0
 *
 * svc_fake.h - the runtime as the gateway sees it, without a mesh: a test plays the router.
 *
 * Not:  no threads, no crypto. The clock moves with real time plus what a test adds.
 */
#ifndef SHIM_SVC_FAKE_H
#define SHIM_SVC_FAKE_H

#include "runtime/svc.h"

enum { FAKE_CALLS_MAX = 16 };

struct fake_call { /* one call to the router that waits for its answer */
    bool open;
    uint8_t type;
    uint8_t *bytes; /* the whole message for gateway calls, else the payload; on the heap */
    size_t len;
    uint64_t id;
    dbe_reply_fn *fn;
    void *ctx;
};

struct fake_svc {
    struct dbe_loop *loop;
    bool link_up;
    uint64_t clock_ahead_ns, next_id;
    struct fake_call calls[FAKE_CALLS_MAX];
    int cancelled, claims, holds, audited;
    int first_tokens, latencies; /* observed */
    dbe_err call_err;            /* what the next gateway call answers */
    struct pol_policy policy;    /* of one tenant at most: `any` */
};

struct svc *fake_svc_of(struct fake_svc *fake);
/* The oldest open call of `type`, NULL if there is none. */
struct fake_call *fake_call_of(struct fake_svc *fake, uint8_t type);
/* Play the router: an answer with this payload and its hops, or an end (type 0) with `err`. */
void fake_answer(struct fake_svc *fake, struct fake_call *call, uint8_t type, const void *payload, size_t len,
                 bool last);
void fake_end(struct fake_svc *fake, struct fake_call *call, dbe_err err);
void fake_svc_clear(struct fake_svc *fake); /* forgets all calls */

#endif
