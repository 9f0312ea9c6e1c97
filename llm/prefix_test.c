/* SPDX-License-Identifier: Apache-2.0
 *
 * prefix_test.c - cached beginnings of prompts: who gets them, who never does, that nothing else changes, and that room
 * is made by dropping the oldest.
 */
#include "test_gguf.h"

#include "model.h"
#include "prefix.h"

enum { PROMPT = 100, PAGE = LLM_KV_PAGE };

static const uint8_t alice[LLM_SALT_BYTES] = {1}, bob[LLM_SALT_BYTES] = {[LLM_SALT_BYTES - 1] = 1};

static struct llm_model *model_of(uint64_t pages, int percent)
{
    struct tg_shape shape = tg_defaults();

    shape.n_ctx = 1024;
    return tg_load(&shape, &(struct llm_model_params){.threads = 1,
                                                      .kv_budget_bytes = pages * 2 * 2 * 2 * 8 * 2 * PAGE,
                                                      .prefix_percent = percent});
}

static void prompt_of(int32_t *tokens, size_t count, uint32_t seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = (int32_t)(3 + (seed >> 16) % 250);
    }
}

/* Compute positions [from, to). */
static void compute(struct llm_model *m, struct llm_kv *kv, const int32_t *tokens, uint32_t from, uint32_t to,
                    float *logits)
{
    for (uint32_t i = from; i < to; i++) {
        const struct llm_row row = {kv, i, tokens[i], i + 1 == to ? logits : NULL, true};
        assert_int_equal(llm_forward(m, &row, 1, NULL), DBE_OK);
    }
}

/* A whole prompt from admission to its last logits; returns what was reused. The sequence is freed. */
static uint32_t whole(struct llm_model *m, const uint8_t *salt, const int32_t *tokens, uint32_t count, float *logits)
{
    struct llm_kv kv;
    uint32_t reused = 99;
    struct dbe_diag diag = {0};

    if (llm_prefix_admit(m, salt, tokens, count, count + 10, &kv, &reused, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    compute(m, &kv, tokens, reused, count, logits);
    llm_prefix_put(m, salt, tokens, count, &kv);
    llm_kv_free(m, &kv);
    assert_int_equal(llm_model_kv_used_bytes(m), 0);
    return reused;
}

static void free_pages_are_zero(struct llm_model *m)
{
    static const uint8_t no_salt[LLM_SALT_BYTES];

    for (const struct llm_kv_page *page = m->kv_pool.free; page; page = page->next) {
        for (size_t i = 0; i < m->kv_pool.page_bytes; i++)
            assert_int_equal(page->data[i], 0);
        for (size_t i = 0; i < PAGE; i++)
            assert_int_equal(page->tokens[i], 0);
        assert_memory_equal(page->salt, no_salt, sizeof no_salt);
    }
}

static void one_owner_hits_and_no_other(void **state)
{
    struct llm_model *m = model_of(64, 0);
    int32_t tokens[PROMPT], other[PROMPT];
    float want[TG_SPM_COUNT], got[TG_SPM_COUNT];

    (void)state;
    prompt_of(tokens, PROMPT, 1);
    assert_int_equal(whole(m, alice, tokens, PROMPT, want), 0);
    assert_int_equal(whole(m, alice, tokens, PROMPT, got), 96);
    assert_memory_equal(want, got, sizeof want);
    assert_int_equal(whole(m, bob, tokens, PROMPT, got), 0);
    assert_memory_equal(want, got, sizeof want);
    assert_int_equal(whole(m, NULL, tokens, PROMPT, got), 0);
    assert_memory_equal(want, got, sizeof want);
    assert_int_equal(whole(m, NULL, tokens, PROMPT, got), 0); /* without a salt nothing was kept */
    assert_int_equal(whole(m, bob, tokens, PROMPT, got), 96);
    assert_memory_equal(want, got, sizeof want);

    memcpy(other, tokens, sizeof tokens);
    other[40]++; /* in the second page: the first is shared, and not the third, though its tokens are the same */
    assert_int_equal(whole(m, alice, other, PROMPT, want), 32);
    assert_int_equal(whole(m, NULL, other, PROMPT, got), 0);
    assert_memory_equal(want, got, sizeof want);
    other[0]++;
    assert_int_equal(whole(m, alice, other, PROMPT, got), 0);
    const struct llm_prefix_stats stats = llm_prefix_stats(m);
    assert_int_equal(stats.lookups, 6);
    assert_int_equal(stats.hits, 3);
    assert_int_equal(stats.reused_tokens, 96 + 96 + 32);
    assert_int_equal(stats.evictions, 0);
    assert_int_equal(stats.cached_bytes, (3 + 3 + 2 + 3) * m->kv_pool.page_bytes);
    llm_model_free(m);
}

static void last_token_is_always_computed(void **state)
{
    struct llm_model *m = model_of(64, 0);
    int32_t tokens[PROMPT];
    float logits[TG_SPM_COUNT];

    (void)state;
    prompt_of(tokens, PROMPT, 2);
    whole(m, alice, tokens, 64, logits);
    assert_int_equal(whole(m, alice, tokens, 64, logits), 32);
    assert_int_equal(whole(m, alice, tokens, 65, logits), 64);
    assert_int_equal(whole(m, alice, tokens, 33, logits), 32);
    assert_int_equal(whole(m, alice, tokens, 32, logits), 0);
    assert_int_equal(whole(m, alice, tokens, 1, logits), 0);
    llm_model_free(m);
}

/* Two begin at once: what the first has computed, the second takes midway, and pages both have are held once. */
static void sequences_at_once_share(void **state)
{
    struct llm_model *m = model_of(64, 0);
    const uint64_t page = m->kv_pool.page_bytes;
    int32_t tokens[PROMPT];
    float want[TG_SPM_COUNT], got[TG_SPM_COUNT];
    struct llm_kv a, b;
    uint32_t reused;

    (void)state;
    prompt_of(tokens, PROMPT, 3);
    whole(m, NULL, tokens, PROMPT, want);
    assert_int_equal(llm_prefix_admit(m, alice, tokens, PROMPT, PROMPT, &a, &reused, NULL), DBE_OK);
    assert_int_equal(llm_prefix_admit(m, alice, tokens, PROMPT, PROMPT, &b, &reused, NULL), DBE_OK);
    assert_int_equal(llm_model_kv_used_bytes(m), 8 * page);
    compute(m, &a, tokens, 0, 80, NULL);
    llm_prefix_put(m, alice, tokens, 80, &a);
    assert_int_equal(a.shared, 2);
    compute(m, &b, tokens, 0, 20, NULL);
    assert_int_equal(llm_prefix_take(m, bob, tokens, PROMPT, 20, &b), 20);
    assert_int_equal(llm_prefix_take(m, alice, tokens, PROMPT, 20, &b), 64);
    assert_ptr_equal(a.pages[1], b.pages[1]);
    assert_int_equal(llm_model_kv_used_bytes(m), 6 * page);
    assert_int_equal(llm_prefix_take(m, alice, tokens, PROMPT, 64, &b), 64);
    compute(m, &b, tokens, 64, PROMPT, got);
    compute(m, &a, tokens, 80, PROMPT, NULL);
    assert_memory_equal(want, got, sizeof want);
    llm_prefix_put(m, alice, tokens, PROMPT, &b);
    llm_prefix_put(m, alice, tokens, PROMPT, &a); /* known by now: the copy goes */
    assert_ptr_equal(a.pages[2], b.pages[2]);
    assert_int_equal(llm_model_kv_used_bytes(m), 5 * page);
    free_pages_are_zero(m);
    llm_kv_free(m, &a);
    assert_int_equal(llm_model_kv_used_bytes(m), 4 * page);
    llm_kv_free(m, &b);
    assert_int_equal(llm_model_kv_used_bytes(m), 0);
    assert_int_equal(llm_prefix_stats(m).cached_bytes, 3 * page);
    llm_prefix_clear(m);
    assert_int_equal(llm_prefix_stats(m).cached_bytes, 0);
    free_pages_are_zero(m);
    llm_model_free(m);
}

/* Admissions get the room of what nobody uses; the oldest text goes first, from its end. */
static void room_is_made_for_admissions(void **state)
{
    struct llm_model *m = model_of(10, 100);
    int32_t one[PROMPT], two[PROMPT];
    float logits[TG_SPM_COUNT];
    struct llm_kv big, small;
    uint32_t reused;

    (void)state;
    prompt_of(one, PROMPT, 4);
    prompt_of(two, PROMPT, 5);
    whole(m, alice, one, PROMPT, logits);
    whole(m, bob, two, PROMPT, logits);
    assert_int_equal(m->kv_pool.idle, 6);
    assert_int_equal(llm_kv_init(m, 6 * PAGE, &big, NULL), DBE_OK); /* 10 - 6 = 4 free: two pages are dropped */
    assert_int_equal(llm_prefix_stats(m).evictions, 2);
    for (uint32_t i = 0; i < big.page_count; i++)
        for (size_t j = 0; j < m->kv_pool.page_bytes; j++)
            assert_int_equal(big.pages[i]->data[j], 0);
    assert_int_equal(llm_prefix_admit(m, alice, one, PROMPT, PAGE, &small, &reused, NULL), DBE_OK);
    assert_int_equal(reused, 0); /* more prompt than capacity: not looked for */
    llm_kv_free(m, &small);
    assert_int_equal(llm_prefix_admit(m, bob, two, PROMPT, PROMPT, &small, &reused, NULL), DBE_OK);
    assert_int_equal(reused, 96); /* all four pages that are left, three of them shared */
    assert_int_equal(llm_kv_init(m, 1, &(struct llm_kv){0}, NULL), DBE_E_LIMIT);
    llm_kv_free(m, &big);
    llm_kv_free(m, &small);
    assert_int_equal(llm_model_kv_used_bytes(m), 0);
    free_pages_are_zero(m);
    llm_model_free(m);
}

static void share_of_the_budget_is_kept(void **state)
{
    static const struct {
        int percent;
        uint64_t idle;
    } cases[] = {{-1, 0}, {10, 2}, {0, 10}, {100, 20}};
    float logits[TG_SPM_COUNT];

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++) {
        struct llm_model *m = model_of(20, cases[i].percent);
        for (uint32_t seed = 0; seed < 8; seed++) {
            int32_t tokens[PROMPT];
            prompt_of(tokens, PROMPT, 100 + seed);
            whole(m, alice, tokens, PROMPT, logits);
        }
        assert_in_range(m->kv_pool.idle, cases[i].idle == 20 ? 16 : cases[i].idle, cases[i].idle);
        assert_int_equal(m->kv_pool.cached, m->kv_pool.idle);
        free_pages_are_zero(m);
        llm_model_free(m);
    }
}

/* A refused admission lets go of the pages that it had found. */
static void failures_leave_nothing_behind(void **state)
{
    struct llm_model *m = model_of(8, 0);
    int32_t tokens[PROMPT];
    float logits[TG_SPM_COUNT];
    struct llm_kv kv, held;
    uint32_t reused = 77;
    dbe_err err = DBE_E_NOMEM;

    (void)state;
    prompt_of(tokens, PROMPT, 6);
    whole(m, alice, tokens, PROMPT, logits);
    assert_int_equal(llm_kv_init(m, 2 * PAGE, &held, NULL), DBE_OK);
    assert_int_equal(llm_prefix_admit(m, alice, tokens, PROMPT, 7 * PAGE, &kv, &reused, NULL), DBE_E_LIMIT);
    assert_int_equal(reused, 77);
    assert_int_equal(llm_model_kv_used_bytes(m), 2 * m->kv_pool.page_bytes);
    assert_int_equal(m->kv_pool.idle, 3);
    llm_kv_free(m, &held);
    for (uint64_t n = 1; err != DBE_OK; n++) {
        base_fail_alloc_at(n);
        err = llm_prefix_admit(m, alice, tokens, PROMPT, 7 * PAGE, &kv, &reused, NULL);
        base_fail_alloc_at(0);
        assert_true(err == DBE_OK || err == DBE_E_NOMEM);
        assert_true(n < 20);
        if (err != DBE_OK) {
            assert_int_equal(llm_model_kv_used_bytes(m), 0);
            assert_int_equal(m->kv_pool.idle, 3);
        }
    }
    assert_int_equal(reused, 96);
    llm_kv_free(m, &kv);
    assert_int_equal(llm_model_kv_used_bytes(m), 0);
    llm_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_owner_hits_and_no_other), cmocka_unit_test(last_token_is_always_computed),
        cmocka_unit_test(sequences_at_once_share),     cmocka_unit_test(room_is_made_for_admissions),
        cmocka_unit_test(share_of_the_budget_is_kept), cmocka_unit_test(failures_leave_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
