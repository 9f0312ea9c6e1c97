/* SPDX-License-Identifier: Apache-2.0
 *
 * fixture.h - a mesh of its own under /tmp, with a worker and a router, for the tests of this room.
 */
#ifndef E2E_FIXTURE_H
#define E2E_FIXTURE_H

#include "base/test.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "crypto/crypto.h"
#include "dbe/identity.h"

struct mesh {
    char dir[64];
    struct dbe_trust *trust;
    struct dbe_credential *worker, *router, *other; /* other: the worker of device 44 */
};

static inline int mesh_remove(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static inline struct dbe_credential *mesh_issue(const struct mesh *m, const char *name, uint8_t device, uint8_t role)
{
    const struct dbe_issue what = {.name = name, .device = device, .role = role, .layer = 7};
    struct dbe_credential *ret = NULL;

    assert_int_equal(dbe_keys_issue(m->dir, &what, NULL), DBE_OK);
    assert_int_equal(dbe_credential_load(m->dir, name, &ret, NULL), DBE_OK);
    return ret;
}

static inline int mesh_setup(void **state)
{
    struct mesh *m = calloc(1, sizeof *m);

    assert_non_null(m);
    assert_int_equal(crypto_init(NULL), DBE_OK);
    (void)snprintf(m->dir, sizeof m->dir, "/tmp/dsmil-e2e-XXXXXX");
    assert_non_null(mkdtemp(m->dir));
    assert_int_equal(dbe_keys_init(m->dir, "mesh.test", 0, NULL), DBE_OK);
    m->worker = mesh_issue(m, "worker", 47, DBE_ROLE_WORKER);
    m->other = mesh_issue(m, "other", 44, DBE_ROLE_WORKER);
    m->router = mesh_issue(m, "router", 43, DBE_ROLE_ROUTER);
    assert_int_equal(dbe_trust_load(m->dir, &m->trust, NULL), DBE_OK);
    *state = m;
    return 0;
}

static inline int mesh_teardown(void **state)
{
    struct mesh *m = *state;

    dbe_credential_free(m->worker);
    dbe_credential_free(m->other);
    dbe_credential_free(m->router);
    dbe_trust_free(m->trust);
    assert_int_equal(nftw(m->dir, mesh_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
    free(m);
    return 0;
}

#endif
