/* SPDX-License-Identifier: Apache-2.0
 *
 * models_test.c - how the gateway follows what the router serves: one question whose answer is a stream. The test plays
 * the router.
 */
#include "shim/http_fixture.h"

static void tick_after(struct fixture *f, uint64_t ms)
{
    f->fake.clock_ahead_ns += ms * BASE_NS_PER_MS;
    openai_shim_device.tick(f->shim.svc, &f->shim);
}

/* The question that is open, if there is one. */
static struct fake_call *question(struct fixture *f)
{
    return fake_call_of(&f->fake, DBE_MSG_L7_MODEL_STATUS);
}

static void tell(struct fixture *f, bool ready, size_t models, bool last)
{
    Dsmil__L7ModelStatus status = DSMIL__L7_MODEL_STATUS__INIT;
    Dsmil__ModelInfo info = DSMIL__MODEL_INFO__INIT, *list[] = {&info, &info};
    char id[] = "tiny", profile[] = "llm-7b-amx";
    uint8_t packed[256];

    info.id = id;
    info.profile = profile;
    status.models = list;
    status.n_models = models;
    status.ready = ready;
    size_t len = dsmil__l7_model_status__pack(&status, packed);
    assert_non_null(question(f));
    fake_answer(&f->fake, question(f), DBE_MSG_L7_MODEL_STATUS, packed, len, last);
}

static bool ready(const struct fixture *f)
{
    return openai_shim_device.ready(f->shim.svc, &f->shim);
}

/* Models that a client would be told of; -1: that nobody knows. */
static int served(const struct fixture *f)
{
    const struct shim_models *models;
    struct shim_problem p;

    return shim_mesh_models(&f->shim.mesh, &models, &p) == DBE_OK ? (int)models->count : -1;
}

/* A gateway that is told nothing yet. */
static void start_over(struct fixture *f)
{
    openai_shim_device.link_down(f->shim.svc, &f->shim, NULL);
    fake_svc_clear(&f->fake);
    f->shim.mesh.settled = false;
    f->shim.mesh.known.count = f->shim.mesh.serving.count = 0;
    openai_shim_device.link_up(f->shim.svc, &f->shim, NULL);
}

static void test_one_question_and_a_stream(void **state)
{
    struct fixture *f = *state;

    start_over(f);
    assert_non_null(question(f)); /* asked as soon as the channel is up */
    Dsmil__L7ModelStatus *asked = dsmil__l7_model_status__unpack(NULL, question(f)->len, question(f)->bytes);
    assert_true(asked != NULL && asked->watch);
    dsmil__l7_model_status__free_unpacked(asked, NULL);
    const uint64_t id = question(f)->id;
    for (int i = 0; i < 10; i++) {
        tell(f, true, i == 5 ? 0 : (size_t)(1 + i % 2), false);
        assert_int_equal(served(f), i == 5 ? 0 : 1 + i % 2);
        tick_after(f, 1000);
        assert_int_equal(question(f)->id, id);
        assert_int_equal(f->fake.next_id, id); /* and no other was asked */
    }
    assert_int_equal(f->fake.cancelled, 0);
}

/* The router may have models and still wait for workers: so does the gateway, and answers nevertheless. */
static void test_ready_after_the_router(void **state)
{
    struct fixture *f = *state;

    start_over(f);
    assert_false(ready(f));
    tell(f, false, 1, false);
    assert_false(ready(f));
    assert_int_equal(served(f), 1);
    tell(f, true, 1, false);
    assert_true(ready(f));
    tell(f, false, 0, false); /* all workers are gone: the router's trouble, which it answers with */
    assert_true(ready(f));
    f->fake.link_up = false;
    assert_false(ready(f));
    f->fake.link_up = true;
}

/* A stream that ended, whether by a last answer, as from a router that streams nothing, or by an error. */
static void test_asks_anew(void **state)
{
    struct fixture *f = *state;

    start_over(f);
    tell(f, true, 1, true);
    assert_null(question(f));
    tick_after(f, 1000);
    tell(f, true, 2, false);
    assert_int_equal(served(f), 2);
    fake_end(&f->fake, question(f), DBE_E_LIMIT);
    assert_int_equal(served(f), 2); /* until it is old */
    tick_after(f, 1000);
    assert_non_null(question(f));
    openai_shim_device.link_down(f->shim.svc, &f->shim, NULL);
    fake_svc_clear(&f->fake); /* a channel's end ends its calls */
    openai_shim_device.link_up(f->shim.svc, &f->shim, NULL);
    assert_non_null(question(f));
}

/* A router that says nothing: what it said is not told on, and it is asked again. */
static void test_silence(void **state)
{
    struct fixture *f = *state;

    start_over(f);
    tell(f, true, 1, false);
    const uint64_t id = question(f)->id;
    tick_after(f, SHIM_MODELS_FRESH_MS + 500);
    assert_int_equal(served(f), -1);
    assert_int_equal(f->fake.cancelled, 1);
    assert_true(question(f) != NULL && question(f)->id != id);
    const uint64_t again = question(f)->id;
    tick_after(f, 1000); /* which has its time, too */
    assert_int_equal(question(f)->id, again);
    tell(f, true, 1, false);
    assert_int_equal(served(f), 1);
}

static void test_drain_ends_it(void **state)
{
    struct fixture *f = *state;

    start_over(f);
    tell(f, true, 1, false);
    openai_shim_device.drain(f->shim.svc, &f->shim);
    assert_null(question(f));
    tick_after(f, 1000);
    assert_null(question(f));
}

int main(void)
{
#define WITH_SHIM(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_SHIM(test_one_question_and_a_stream),
        WITH_SHIM(test_ready_after_the_router),
        WITH_SHIM(test_asks_anew),
        WITH_SHIM(test_silence),
        WITH_SHIM(test_drain_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
