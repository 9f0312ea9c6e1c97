/* SPDX-License-Identifier: Apache-2.0
 *
 * router_fixture.h - for tests of the router: a runtime that is played, in virtual time. Requests, links and workers
 * are what the test says.
 */
#ifndef L7_ROUTER_ROUTER_FIXTURE_H
#define L7_ROUTER_ROUTER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "devices/l7_router/router.h"
#include "dsmil.pb-c.h"

enum { REQS = ROUTER_JOBS_MAX + 1, LINKS = 3 };

struct svc_link {
    const char *name;
    dbe_reply_fn *ask; /* model status; NULL: nobody asks */
    void *ask_ctx;
    uint64_t ask_id;
};
struct svc_req { /* a request, and what became of it */
    struct pol_labels labels;
    uint64_t deadline_ns;
    uint32_t retry_ms;
    uint8_t payload[128];
    size_t payload_len;
    struct svc_link *link; /* it was forwarded to */
    void *user;
    void (*on_gone)(void *user, struct svc_req *req, dbe_err why);
    int forwarded, relayed, ended; /* times it was sent; answers passed on; times it was finished */
    int replied;                   /* answers of the router's own */
    dbe_err refused;
    char reason[128];
    dbe_reply_fn *fn; /* of the forwarded call */
    void *ctx;
    uint64_t call_id;
};

struct played { /* what the runtime holds, and is told to do */
    struct dbe_loop *loop;
    struct svc_link links[LINKS];
    size_t link_count; /* configured */
    struct svc_req reqs[REQS];
    const char *tenant; /* of the next request */
    bool starting;      /* the runtime waits for neighbours */
    uint8_t sealed_to;  /* of the next requests; 0: in clear */
    const char *card;   /* bytes of it in the next status; NULL: none */
    dbe_err forward_err, relay_err;
    int asked, cancelled, limits_audited;
    uint64_t now_ns;
    struct pol_verdict verdict;
    struct pol_policy policy;
    uint64_t next_id, cancelled_id;
    uint8_t reply[65536];
    size_t reply_len;
};
extern struct played rt;
extern struct router *router;

enum { FIRST = 0, SECOND = 1, AGENT = 2 };
#define BIG "llm-7b-amx"

struct says { /* a worker's status */
    bool ready;
    uint32_t max, sessions, active;
    size_t models;
    const char *profile;
};

struct dbe_msg message(uint8_t *bytes, size_t cap, uint8_t type, const char *profile, const void *payload, size_t len);
void tell(size_t link, const struct says *says);
void tell_status(bool ready, uint32_t max, size_t models);
void up(size_t link);
/* As the runtime does it: first the calls end, then the link. */
void down(size_t link);
void tick_after(uint64_t ms);
struct svc_req *request_with(size_t slot, uint8_t type, const char *profile, const void *payload, size_t len);
struct svc_req *request(size_t slot, uint8_t type, const char *profile);
struct svc_req *chat(size_t slot, const char *profile);
void answer_with(struct svc_req *req, uint8_t type, const void *payload, size_t len, bool last);
void answer(struct svc_req *req, uint8_t type, bool last);
void answer_error(struct svc_req *req, dbe_err code);
/* One worker of BIG is up, with four places; without a place there is no waiting. */
int set_up(void **state);
/* Two workers of one profile. */
int set_up_two(void **state);
/* A queue of eight, two seconds long. */
int set_up_queue(void **state);
int tear_down(void **state);

#endif
