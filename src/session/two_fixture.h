/* SPDX-License-Identifier: Apache-2.0
 *
 * two_fixture.h - for tests that need no more than two nodes of one mesh: alice and bob, made once for the group.
 */
#ifndef SESSION_TWO_FIXTURE_H
#define SESSION_TWO_FIXTURE_H

#include "session/session_fake.h"

static struct fake alice, bob;

static int setup(void **state)
{
    (void)state;
    return crypto_init(NULL) == DBE_OK && fake_init(&alice, 1, 1) == DBE_OK && fake_init(&bob, 2, 1) == DBE_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    fake_fini(&alice);
    fake_fini(&bob);
    return 0;
}

#endif
