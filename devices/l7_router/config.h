/* SPDX-License-Identifier: Apache-2.0
 *
 * config.h - what /etc/dsmil/l7_router.yaml says, checked; and when it says something new.
 *
 * In:   a YAML file (docs/l7.md lists every key), or none: embedded defaults
 * Out:  struct router_config; one sentence with file, line and what was expected when something is wrong
 * Not:  no policy, no addresses: those are the runtime's
 */
#ifndef L7_ROUTER_CONFIG_H
#define L7_ROUTER_CONFIG_H

#include "devices/l7_router/select.h"

enum { ROUTER_PROFILES_MAX = 16, ROUTER_QUEUE_MAX = 4096, ROUTER_PATH_MAX = 1024 };

#define ROUTER_CONFIG_SECTION "routing" /* the rest of the file is the runtime's */
#define ROUTER_CONFIG_PATH "/etc/dsmil/l7_router.yaml"

/* What happens to a request that finds no place at a worker. */
enum router_overload {
    ROUTER_OVERLOAD_WAIT,   /* it waits in its profile's queue, for a limited time */
    ROUTER_OVERLOAD_REJECT, /* it is refused at once */
};

struct router_limits {
    uint64_t overload; /* enum router_overload */
    uint64_t max;      /* requests that wait */
    uint64_t wait_ms;  /* how long each may */
};

struct router_profile_limits { /* an exception */
    char name[ROUTER_PROFILE_MAX_BYTES + 1];
    struct router_limits queue;
};

struct router_expected { /* what a worker serves, until it has said */
    char name[ROUTER_PROFILE_MAX_BYTES + 1], profile[ROUTER_PROFILE_MAX_BYTES + 1];
};

struct router_config {
    char default_profile[ROUTER_PROFILE_MAX_BYTES + 1]; /* of a request that names none */
    struct router_limits queue;
    struct router_profile_limits profiles[ROUTER_PROFILES_MAX];
    size_t profile_count;
    struct router_expected workers[ROUTER_WORKERS_MAX];
    size_t worker_count;
    struct breaker_config breaker;
    uint64_t attempts;        /* workers that a request may be sent to, one after the other */
    uint64_t ahead;           /* requests given to a worker beyond those that it serves at once */
    uint64_t reserve_percent; /* of a profile's places, kept from a tenant that holds the others */
    uint64_t silence_ms;      /* a worker that says nothing for so long gets no request */
};

void router_config_default(struct router_config *ret);
/* Read the section of a file on top of the defaults. E_CONFIG, E_TOO_LARGE, E_NOMEM, E_NOT_FOUND, E_IO; `ret` is
 * untouched then. */
dbe_err router_config_read(const char *path, struct router_config *ret, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Limits of one profile. */
const struct router_limits *router_config_limits(const struct router_config *config, const char *profile);

/* A file that is looked at again and again. */
struct router_file {
    char path[ROUTER_PATH_MAX]; /* "": none */
    bool optional;              /* that it is missing is no fault */
    uint64_t seen[4];           /* what stat said of the version in force or refused; zeroes: it was not there */
};
/* True if the file is another than at the last call; then it is the one of this call. */
bool router_file_changed(struct router_file *file);

#endif
