/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_fixture.h - for tests of the runtime: a front (the shim's role), a router and a worker in one loop, over
 * the in-process transport, with real keys, handshakes and policy. Devices and clock are fake.
 */
#ifndef RUNTIME_MESH_FIXTURE_H
#define RUNTIME_MESH_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "runtime/priv.h"

enum { TURNS_MAX = 3000, ANSWERS_MAX = 16 };

/* Stands still unless turned or moved. */
extern uint64_t clock_ns;

enum mode { ANSWER, STREAM, HOLD, FORWARD, FAIL, REFUSE, ANSWER_THEN_FAIL };

struct server { /* state of router and worker alike */
    enum mode       mode;
    unsigned        handled, gone, wakes, link_ups, link_downs, drains;
    dbe_err         gone_why;
    struct svc_req *held;
    struct svc     *svc;
    uint64_t        call_id, jobs;
    bool            not_ready;
    uint8_t         layer_path[DBE_LAYER_PATH_MAX];
    size_t          layer_path_len;
    bool            saw_claim, saw_timeout, watch;
    struct svc_watchers watchers;  /* of L7_MODEL_STATUS, with `watch` */
    uint8_t         asked_type, asked_dst; /* by L7_POLICY_CHECK */
    struct pol_verdict verdict;            /* its answer */
};

extern struct server *router, *worker, *front; /* the running devices' states */
extern const struct svc_device front_device, router_device, worker_device;

extern char dir[64]; /* key store; other files of a test too */

struct mesh {
    struct dbe_loop *loop;
    struct svc       *front, *router, *worker;
    int               log_fd;
};

struct answer { /* what came back for the last request */
    unsigned count;
    bool     last;
    dbe_err  err;
    uint8_t  type[ANSWERS_MAX], payload[ANSWERS_MAX];
    size_t   payload_len;
    struct dbe_hop hops[DBE_HOPS_MAX];
    size_t   hop_count;
    uint32_t code;
    char     rule[64], reason[128];
    struct pol_labels labels;
    bool     labelled;
};

extern struct answer answer;

struct ask { /* what the front sends; zero fields are fine as ask_good() gives them */
    uint8_t     type, src, dst, classification, roe;
    uint32_t    compartments, timeout_ms;
    const char *tenant;
    bool        claim, forge, foreign_claim, no_id;
    const char *payload;
};

/* One turn of the loop, a little later. */
void turn(struct mesh *m);

#define PUMP_UNTIL(m, cond)                                                                                            \
    do {                                                                                                               \
        for (int turns_ = 0; !(cond) && turns_ < TURNS_MAX; turns_++)                                                  \
            turn(m);                                                                                                   \
        assert_true(cond);                                                                                             \
    } while (0)

/* Turns in which something could still arrive, when the point is that nothing does. */
void settle(struct mesh *m);

struct svc_config config_for(const struct mesh *m, const char *name, const char *listen);
struct svc       *start(struct mesh *m, const struct svc_device *dev, const struct svc_config *cfg);
void              start_worker(struct mesh *m);
void              start_front(struct mesh *m);
bool              logged(const struct mesh *m, const char *text);

/* A request that nothing speaks against. */
struct ask ask_good(void);
size_t build_message(struct mesh *m, const struct ask *a, uint8_t *out, size_t cap);
/* Takes what comes back into `answer`. */
void on_answer(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err);
/* As the shim sends: checked on its own side first. */
dbe_err try_send(struct mesh *m, const struct ask *a, uint64_t *ret_id) DBE_MUST_CHECK;
/* As a front sends that checks nothing. */
void send_raw(struct mesh *m, const struct ask *a);
/* As the shim sends, and it must be sent. Returns the call's id. */
uint64_t ask(struct mesh *m, const struct ask *a);

void remove_tree(const char *path);

/* cmocka's fixtures: the keys of a group, the mesh of a test. */
int group_up(void **state);
int group_down(void **state);
int mesh_up(void **state);
int mesh_down(void **state);
#define MESH_TEST(fn) cmocka_unit_test_setup_teardown(fn, mesh_up, mesh_down)

#endif
