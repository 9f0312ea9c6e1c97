/* SPDX-License-Identifier: Apache-2.0
 *
 * select_test.c - the choice of a worker as a table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "devices/l7_router/select.h"

#define BIG "llm-7b-amx"
#define SMALL "llm-1b-npu"

/* One worker in short: configured profile, reported profile or NULL, up, ready, in flight, maximum. */
struct row {
    const char *configured, *reported;
    bool up, ready;
    uint32_t in_flight, max;
};

struct test_case {
    const char *what;
    struct row rows[3];
    size_t count;
    const char *profile;
    dbe_err err;
    size_t index; /* when DBE_OK */
};

static const struct test_case cases[] = {
    {"no worker at all", {{0}}, 0, BIG, DBE_E_PROFILE, 0},
    {"one that is up", {{BIG, BIG, true, true, 0, 4}}, 1, BIG, DBE_OK, 0},
    {"a profile that nobody serves", {{BIG, BIG, true, true, 0, 4}}, 1, "gpt-9", DBE_E_PROFILE, 0},
    {"profiles compare whole", {{BIG, BIG, true, true, 0, 4}}, 1, "llm-7b", DBE_E_PROFILE, 0},
    {"configured and never seen", {{BIG, NULL, false, false, 0, 0}}, 1, BIG, DBE_E_UNAVAILABLE, 0},
    {"seen and gone", {{BIG, BIG, false, true, 0, 4}}, 1, BIG, DBE_E_UNAVAILABLE, 0},
    {"up and not ready", {{BIG, BIG, true, false, 0, 4}}, 1, BIG, DBE_E_UNAVAILABLE, 0},
    {"full", {{BIG, BIG, true, true, 4, 4}}, 1, BIG, DBE_E_LIMIT, 0},
    {"no maximum said", {{BIG, BIG, true, true, 9, 0}}, 1, BIG, DBE_OK, 0},
    {"what it reports counts, not what was configured", {{BIG, SMALL, true, true, 0, 4}}, 1, BIG, DBE_E_PROFILE, 0},
    {"reported profile", {{BIG, SMALL, true, true, 0, 4}}, 1, SMALL, DBE_OK, 0},
    {"the first of equals", {{BIG, BIG, true, true, 1, 4}, {BIG, BIG, true, true, 1, 4}}, 2, BIG, DBE_OK, 0},
    {"the less loaded", {{BIG, BIG, true, true, 2, 4}, {BIG, BIG, true, true, 1, 4}}, 2, BIG, DBE_OK, 1},
    {"load is relative to size", {{BIG, BIG, true, true, 2, 3}, {BIG, BIG, true, true, 3, 8}}, 2, BIG, DBE_OK, 1},
    {"a full one is passed over", {{BIG, BIG, true, true, 1, 1}, {BIG, BIG, true, true, 7, 8}}, 2, BIG, DBE_OK, 1},
    {"never another profile, however idle",
     {{BIG, BIG, true, true, 4, 4}, {SMALL, SMALL, true, true, 0, 4}},
     2,
     BIG,
     DBE_E_LIMIT,
     0},
    {"one down, one full", {{BIG, BIG, false, true, 0, 4}, {BIG, BIG, true, true, 4, 4}}, 2, BIG, DBE_E_LIMIT, 0},
    {"the third is the one",
     {{SMALL, SMALL, true, true, 0, 4}, {BIG, BIG, false, true, 0, 4}, {BIG, BIG, true, true, 3, 4}},
     3,
     BIG,
     DBE_OK,
     2},
};

static void test_select(void **state)
{
    (void)state;
    for (size_t c = 0; c < BASE_ARRAY_LEN(cases); c++) {
        struct router_worker workers[3];
        size_t index = 99;
        memset(workers, 0, sizeof workers);
        for (size_t i = 0; i < cases[c].count; i++) {
            const struct row *row = &cases[c].rows[i];
            workers[i] = (struct router_worker){.name = "w",
                                                .profile = row->configured,
                                                .up = row->up,
                                                .ready = row->ready,
                                                .in_flight = row->in_flight,
                                                .max_requests = row->max};
            workers[i].model_count = row->reported != NULL;
            strcpy(workers[i].models[0].profile, row->reported != NULL ? row->reported : "");
        }
        dbe_err err = router_select(workers, cases[c].count, cases[c].profile, &index);
        if (err != cases[c].err || (err == DBE_OK ? index != cases[c].index : index != 99))
            fail_msg("%s: %s, row %zu", cases[c].what, dbe_err_name(err), index);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_select)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
