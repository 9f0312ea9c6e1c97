/* SPDX-License-Identifier: Apache-2.0
 *
 * memory_test.c - what one idle channel costs: the session, its secrets and both AEAD contexts, measured as pages of
 * this process; the handshake's memory is gone. The transport and the node have their own share of the 32 KiB a side.
 */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "session/two_fixture.h"

enum { WARM = 20, PAIRS = 300, MOST_BYTES = 8192 };

static struct fake_pair pairs[WARM + PAIRS];

static size_t resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long total = 0, resident = 0;

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &total, &resident), 2);
    (void)fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* Where every byte has a shadow, pages say nothing. */
static bool is_measurable(void)
{
    const char *preload = getenv("LD_PRELOAD");
    bool sanitized = false;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
    sanitized = true;
#endif
#endif
    return !sanitized && (preload == NULL || strstr(preload, "vgpreload") == NULL);
}

static void idle_channels(void **state)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    size_t before = 0;

    (void)state;
    for (size_t i = 0; i < WARM + PAIRS; i++) {
        if (i == WARM)
            before = resident_bytes();
        assert_int_equal(fake_pair_new(&pairs[i], &ci, &cr), DBE_OK);
        assert_int_equal(fake_handshake(&pairs[i]), DBE_OK);
        base_buf_free(&pairs[i].to_i); /* the owner's buffers, not the channel's */
        base_buf_free(&pairs[i].to_r);
    }
    size_t each = (resident_bytes() - before) / (2 * PAIRS);
    print_message("%zu bytes an idle session\n", each);
    if (is_measurable())
        assert_true(each < MOST_BYTES);
    for (size_t i = 0; i < WARM + PAIRS; i++)
        fake_pair_free(&pairs[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(idle_channels)};

    return cmocka_run_group_tests_name("memory", tests, setup, teardown);
}
