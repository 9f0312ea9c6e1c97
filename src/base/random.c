/* SPDX-License-Identifier: Apache-2.0
 *
 * random.c - the only place that draws random bytes outside the cryptographic library. Out: bytes of the kernel's
 * generator, or what a test put in its place. Holds no state of its own but that and the counters with which a test
 * makes the n-th draw fail.
 */
#include "base/base.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/random.h>

static _Atomic uint64_t random_calls, random_fail_at;
static struct base_random_ops random_ops; /* a NULL slot: the kernel's generator */

void base_random_set(const struct base_random_ops *ops)
{
    random_ops = ops != NULL ? *ops : (struct base_random_ops){0};
}

void base_fail_random_at(uint64_t nth)
{
    atomic_store(&random_calls, 0);
    atomic_store(&random_fail_at, nth);
}

uint64_t base_random_count(void)
{
    return atomic_load(&random_calls);
}

dbe_err base_random(void *buf, size_t len)
{
    uint8_t *at = buf;
    size_t left = len;
    uint64_t call = atomic_fetch_add(&random_calls, 1) + 1;
    bool failed = call == atomic_load(&random_fail_at);

    if (!failed && random_ops.fill != NULL)
        return random_ops.fill(random_ops.ctx, buf, len);
    while (!failed && left > 0) {
        ssize_t got = getrandom(at, left, 0);
        if (got > 0) {
            at += got;
            left -= (size_t)got;
        } else if (errno != EINTR) {
            failed = true;
        }
    }
    if (failed)
        base_wipe(buf, len);
    return failed ? DBE_E_RANDOM : DBE_OK;
}
