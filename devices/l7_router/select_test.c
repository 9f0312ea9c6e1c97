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

/* One worker in short: configured profile, reported profile or NULL, up, ready, in flight, maximum, served at once,
 * what it reported, broken, tried, an agent. */
struct row {
    const char *configured, *reported;
    bool up, ready;
    uint32_t in_flight, max, sessions, active;
    bool broken, tried, tasks;
};

struct test_case {
    const char *what;
    struct row rows[3];
    size_t count;
    const char *profile;
    dbe_err err;
    size_t index; /* when DBE_OK */
};

#define W(conf, rep, is_up, is_ready, count, most, ...)                                                                \
    {                                                                                                                  \
        .configured = conf, .reported = rep, .up = is_up, .ready = is_ready, .in_flight = count, .max = most,          \
        __VA_ARGS__                                                                                                    \
    }

static const struct test_case cases[] = {
    {"no worker at all", {{.up = false}}, 0, BIG, DBE_E_PROFILE, 0},
    {"one that is up", {W(BIG, BIG, true, true, 0, 4)}, 1, BIG, DBE_OK, 0},
    {"a profile that nobody serves", {W(BIG, BIG, true, true, 0, 4)}, 1, "gpt-9", DBE_E_PROFILE, 0},
    {"profiles compare whole", {W(BIG, BIG, true, true, 0, 4)}, 1, "llm-7b", DBE_E_PROFILE, 0},
    {"configured and never seen", {W(BIG, NULL, false, false, 0, 0)}, 1, BIG, DBE_E_UNAVAILABLE, 0},
    {"seen and gone", {W(BIG, BIG, false, true, 0, 4)}, 1, BIG, DBE_E_UNAVAILABLE, 0},
    {"up and not ready", {W(BIG, BIG, true, false, 0, 4)}, 1, BIG, DBE_E_UNAVAILABLE, 0},
    {"full", {W(BIG, BIG, true, true, 4, 4)}, 1, BIG, DBE_E_LIMIT, 0},
    {"no maximum said", {W(BIG, BIG, true, true, 9, 0)}, 1, BIG, DBE_OK, 0},
    {"what it reports counts, not what was configured", {W(BIG, SMALL, true, true, 0, 4)}, 1, BIG, DBE_E_PROFILE, 0},
    {"reported profile", {W(BIG, SMALL, true, true, 0, 4)}, 1, SMALL, DBE_OK, 0},
    {"the first of equals", {W(BIG, BIG, true, true, 1, 4), W(BIG, BIG, true, true, 1, 4)}, 2, BIG, DBE_OK, 0},
    {"the less loaded", {W(BIG, BIG, true, true, 2, 4), W(BIG, BIG, true, true, 1, 4)}, 2, BIG, DBE_OK, 1},
    {"load is relative to size", {W(BIG, BIG, true, true, 2, 3), W(BIG, BIG, true, true, 3, 8)}, 2, BIG, DBE_OK, 1},
    {"a full one is passed over", {W(BIG, BIG, true, true, 1, 1), W(BIG, BIG, true, true, 7, 8)}, 2, BIG, DBE_OK, 1},
    {"never another profile, however idle",
     {W(BIG, BIG, true, true, 4, 4), W(SMALL, SMALL, true, true, 0, 4)},
     2,
     BIG,
     DBE_E_LIMIT,
     0},
    {"one down, one full", {W(BIG, BIG, false, true, 0, 4), W(BIG, BIG, true, true, 4, 4)}, 2, BIG, DBE_E_LIMIT, 0},
    {"the third is the one",
     {W(SMALL, SMALL, true, true, 0, 4), W(BIG, BIG, false, true, 0, 4), W(BIG, BIG, true, true, 3, 4)},
     3,
     BIG,
     DBE_OK,
     2},
    {"what others gave it counts",
     {W(BIG, BIG, true, true, 0, 4, .active = 3), W(BIG, BIG, true, true, 1, 4, .active = 1)},
     2,
     BIG,
     DBE_OK,
     1},
    {"served at once, and two ahead", {W(BIG, BIG, true, true, 3, 64, .sessions = 2)}, 1, BIG, DBE_OK, 0},
    {"no more than two ahead", {W(BIG, BIG, true, true, 4, 64, .sessions = 2)}, 1, BIG, DBE_E_LIMIT, 0},
    {"nor more than the maximum", {W(BIG, BIG, true, true, 2, 2, .sessions = 2)}, 1, BIG, DBE_E_LIMIT, 0},
    {"a broken one", {W(BIG, BIG, true, true, 0, 4, .broken = true)}, 1, BIG, DBE_E_UNAVAILABLE, 0},
    {"one that was tried",
     {W(BIG, BIG, true, true, 0, 4, .tried = true), W(BIG, BIG, true, true, 3, 4)},
     2,
     BIG,
     DBE_OK,
     1},
    {"an agent takes no chat", {W(BIG, NULL, true, true, 0, 4, .tasks = true)}, 1, BIG, DBE_E_PROFILE, 0},
};

static void test_select(void **state)
{
    (void)state;
    for (size_t c = 0; c < BASE_ARRAY_LEN(cases); c++) {
        static const struct breaker_config breaker = {1, 1000, 1000, 1};
        struct router_want want = {.profile = cases[c].profile, .ahead = 2, .breaker = &breaker};
        struct router_worker workers[3];
        size_t index = 99;
        memset(workers, 0, sizeof workers);
        for (size_t i = 0; i < cases[c].count; i++) {
            const struct row *row = &cases[c].rows[i];
            workers[i] = (struct router_worker){.name = "w",
                                                .up = row->up,
                                                .ready = row->ready,
                                                .in_flight = row->in_flight,
                                                .max_requests = row->max,
                                                .sessions = row->sessions,
                                                .reported = row->active,
                                                .tasks = row->tasks};
            strcpy(workers[i].profile, row->configured);
            if (row->broken)
                breaker_fail(&workers[i].breaker, &breaker, 0);
            want.tried |= row->tried ? 1u << i : 0;
            workers[i].model_count = row->reported != NULL;
            strcpy(workers[i].models[0].profile, row->reported != NULL ? row->reported : "");
        }
        dbe_err err = router_select(workers, cases[c].count, &want, &index);
        if (err != cases[c].err || (err == DBE_OK ? index != cases[c].index : index != 99))
            fail_msg("%s: %s, row %zu", cases[c].what, dbe_err_name(err), index);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_select)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
