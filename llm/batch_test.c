/* SPDX-License-Identifier: Apache-2.0
 *
 * batch_test.c - many sessions in one pass: same texts in any company, fair shares, grammars, errors that stay with
 * their session.
 */
#include "test_gguf.h"

#include "batch.h"

enum { MIX = 12, PROMPT_MAX = 150, ANSWER = 14, TEXT_MAX = 512 };

/* ---- sessions of a mix ------------------------------------------------------------------------------------------- */

struct want {
    int32_t prompt[PROMPT_MAX];
    size_t length;
    uint8_t salt[LLM_SALT_BYTES];
    struct llm_session_params params;
    char alone[TEXT_MAX], mixed[TEXT_MAX];
    size_t at;
    struct llm_session *s;
    bool done;
};

static uint32_t dice(uint64_t *state, uint32_t sides)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33) % sides;
}

static struct llm_model *model(unsigned threads)
{
    struct tg_shape shape = tg_defaults();

    shape.n_ctx = 1024;
    return tg_load(&shape, &(struct llm_model_params){.threads = threads, .prefix_percent = 50});
}

static void make_want(struct want *w, size_t index, uint64_t *state)
{
    *w = (struct want){.length = 1 + dice(state, PROMPT_MAX)};
    w->prompt[0] = 1;
    for (size_t i = 1; i < w->length; i++) /* beginnings that some have in common */
        w->prompt[i] = 262 + (int32_t)(i < 100 ? i % 20 : dice(state, 20));
    memset(w->salt, 1 + (int)(index % 2), sizeof w->salt);
    w->params = (struct llm_session_params){.temperature = dice(state, 3) == 0 ? 0 : 1.2f,
                                            .top_k = dice(state, 2) * 30,
                                            .seed = dice(state, 1000),
                                            .max_tokens = 1 + dice(state, ANSWER),
                                            .prefill_chunk = dice(state, 2) * (1 + dice(state, 70)),
                                            .ignore_eos = true};
}

static void admit(struct llm_model *m, struct want *w, bool with_salt)
{
    struct dbe_diag diag = {0};

    w->params.salt = with_salt && w->salt[0] == 1 ? w->salt : NULL;
    w->done = false;
    w->at = 0;
    if (llm_session_new(m, w->prompt, w->length, &w->params, &w->s, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
}

static void take(struct want *w, char *text, const struct llm_piece *p)
{
    assert_true(w->at + p->text_len < TEXT_MAX);
    memcpy(text + w->at, p->text, p->text_len);
    w->at += p->text_len;
    w->done = p->done;
    if (p->done) {
        llm_session_free(w->s);
        w->s = NULL;
    }
}

static void say_alone(struct llm_model *m, struct want *w)
{
    struct llm_piece p = {0};

    admit(m, w, false);
    while (!w->done) {
        assert_int_equal(llm_session_step(w->s, &p), DBE_OK);
        take(w, w->alone, &p);
    }
}

/* Sessions come at random times and take part in passes at random. */
static void say_together(struct llm_model *m, struct want *wants, uint64_t *state)
{
    size_t left = MIX;

    for (size_t i = 0; i < MIX; i++)
        wants[i].done = false;
    while (left > 0) {
        struct llm_session *in[MIX];
        struct llm_piece pieces[MIX];
        dbe_err errs[MIX];
        size_t who[MIX], n = 0;
        for (size_t i = 0; i < MIX; i++) {
            if (!wants[i].done && !wants[i].s && dice(state, 4) == 0)
                admit(m, &wants[i], true);
            if (!wants[i].s || dice(state, 5) == 0)
                continue;
            who[n] = i;
            in[n++] = wants[i].s;
        }
        assert_int_equal(llm_batch_step(m, in, n, pieces, errs), DBE_OK);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(errs[i], DBE_OK);
            take(&wants[who[i]], wants[who[i]].mixed, &pieces[i]);
            left -= pieces[i].done;
        }
    }
}

static void same_text_in_any_company(void **state)
{
    static struct want wants[MIX];

    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct llm_model *m = model(seed % 2 ? 1 : 3);
        uint64_t random = seed;
        for (size_t i = 0; i < MIX; i++) {
            make_want(&wants[i], i, &random);
            say_alone(m, &wants[i]);
        }
        say_together(m, wants, &random);
        for (size_t i = 0; i < MIX; i++)
            assert_string_equal(wants[i].alone, wants[i].mixed);
        assert_int_equal(llm_model_kv_used_bytes(m), 0);
        llm_model_free(m);
    }
}

/* ---- shares ------------------------------------------------------------------------------------------------------ */

static struct llm_session *long_prompt(struct llm_model *m, size_t length, uint8_t salt_byte, int32_t first)
{
    static int32_t prompt[1024];
    uint8_t salt[LLM_SALT_BYTES];
    struct llm_session *s;

    memset(salt, salt_byte, sizeof salt);
    for (size_t i = 0; i < length; i++)
        prompt[i] = first + (int32_t)(i % 7);
    assert_int_equal(llm_session_new(m, prompt, length,
                                     &(struct llm_session_params){.max_tokens = 20, .ignore_eos = true, .salt = salt},
                                     &s, NULL),
                     DBE_OK);
    return s;
}

static void step_all(struct llm_model *m, struct llm_session *const *s, size_t count)
{
    struct llm_piece pieces[16];
    dbe_err errs[16];

    assert_int_equal(llm_batch_step(m, s, count, pieces, errs), DBE_OK);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(errs[i], DBE_OK);
}

/* Six long prompts of one salt get no more together than one prompt of another, and an answer goes on beside them. */
static void shares_are_fair(void **state)
{
    struct llm_model *m = model(1);
    struct llm_session *s[8];

    (void)state;
    s[0] = long_prompt(m, 1, 1, 262);
    step_all(m, s, 1);
    assert_int_equal(llm_session_answer_tokens(s[0]), 1);
    for (size_t i = 1; i < 7; i++)
        s[i] = long_prompt(m, 900, 1, 262 + (int32_t)i);
    s[7] = long_prompt(m, 256, 2, 262);
    for (uint32_t n = 1; n <= 4; n++) {
        uint32_t others = 0;
        step_all(m, s, 8);
        assert_int_equal(llm_session_answer_tokens(s[0]), 1 + n);
        assert_int_equal(llm_session_prefilled_tokens(s[7]), 64 * n);
        for (size_t i = 1; i < 7; i++)
            others += llm_session_prefilled_tokens(s[i]);
        assert_int_equal(others, 64 * n);
    }
    assert_int_equal(llm_session_answer_tokens(s[7]), 1);
    for (size_t i = 1; i < 7; i++) /* 256 rows among six: nobody was left out */
        assert_in_range(llm_session_prefilled_tokens(s[i]), 32, 64);
    for (size_t i = 0; i < 8; i++)
        llm_session_free(s[i]);
    llm_model_free(m);
}

/* Equal prompts of one salt that come at once are computed once. */
static void equal_prompts_are_computed_once(void **state)
{
    struct llm_model *m = model(1);
    struct llm_session *s[4];
    uint32_t computed = 0;

    (void)state;
    for (size_t i = 0; i < 4; i++)
        s[i] = long_prompt(m, 330, i < 3 ? 1 : 2, 262);
    for (int n = 0; n < 40 && llm_session_answer_tokens(s[2]) == 0; n++)
        step_all(m, s, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_true(llm_session_answer_tokens(s[i]) > 0);
        computed += 330 - llm_session_cached_tokens(s[i]);
    }
    assert_int_equal(llm_session_cached_tokens(s[3]), 0); /* another salt */
    assert_int_equal(computed, 330 + 10 + 10 + 330);      /* ten full pages are shared */
    for (size_t i = 0; i < 4; i++)
        llm_session_free(s[i]);
    llm_model_free(m);
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

static void errors_stay_with_their_session(void **state)
{
    struct llm_model *m = model(1), *other = model(1);
    struct llm_session *s[LLM_SESSIONS_MAX + 1] = {NULL};
    struct llm_piece pieces[4] = {{0}};
    dbe_err errs[4];

    (void)state;
    for (size_t i = 0; i < 3; i++)
        s[i] = long_prompt(m, 5 + i, 1, 262);
    llm_session_cancel(s[1]);
    pieces[1].done = true;
    assert_int_equal(llm_batch_step(m, s, 3, pieces, errs), DBE_OK);
    assert_int_equal(errs[0], DBE_OK);
    assert_int_equal(errs[1], DBE_E_CANCELLED);
    assert_int_equal(errs[2], DBE_OK);
    assert_true(pieces[1].done); /* untouched */
    assert_int_equal(llm_session_answer_tokens(s[0]), 1);
    assert_int_equal(llm_session_prefilled_tokens(s[1]), 0);
    struct llm_session *const twice[] = {s[0], s[0]};
    assert_int_equal(llm_batch_step(m, twice, 2, pieces, errs), DBE_OK);
    assert_int_equal(errs[0], DBE_OK);
    assert_int_equal(errs[1], DBE_E_STATE);
    assert_int_equal(llm_batch_step(other, s, 1, pieces, errs), DBE_E_ARGUMENT);
    assert_int_equal(llm_batch_step(m, s, LLM_SESSIONS_MAX + 1, pieces, errs), DBE_E_ARGUMENT);
    struct llm_model_stats before, after;
    llm_model_stats(m, &before);
    llm_session_cancel(s[0]);
    llm_session_cancel(s[2]);
    assert_int_equal(llm_batch_step(m, s, 3, pieces, errs), DBE_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(errs[i], DBE_E_CANCELLED);
    llm_model_stats(m, &after);
    assert_int_equal(after.passes, before.passes); /* nothing was computed */
    for (size_t i = 0; i < 3; i++)
        llm_session_free(s[i]);
    llm_model_free(m);
    llm_model_free(other);
}

/* A session ends for want of memory for its text; the others go on. */
static void no_memory_ends_one(void **state)
{
    struct llm_model *m = model(1);
    struct llm_session *s[3];
    struct llm_piece pieces[3];
    dbe_err errs[3];
    size_t failed = 0;

    (void)state;
    for (size_t i = 0; i < 3; i++)
        s[i] = long_prompt(m, 5 + i, 1, 262);
    base_fail_alloc_at(1);
    assert_int_equal(llm_batch_step(m, s, 3, pieces, errs), DBE_OK);
    base_fail_alloc_at(0);
    for (size_t i = 0; i < 3; i++)
        failed += errs[i] == DBE_E_NOMEM;
    assert_int_equal(failed, 1);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(llm_session_answer_tokens(s[i]), 1);
        llm_session_free(s[i]);
    }
    llm_model_free(m);
}

static void probabilities_come_with_the_text(void **state)
{
    static const int32_t prompt[] = {1, 270, 271};
    struct llm_model *m = model(1);
    struct llm_session *s;
    struct llm_piece p = {0};
    float logits[3 * 512], sum = 0, max = -INFINITY;

    (void)state;
    const uint32_t n = llm_model_info(m)->n_vocab;
    assert_true(n <= 512);
    assert_int_equal(llm_logits(m, prompt, 3, logits, NULL), DBE_OK);
    for (uint32_t i = 0; i < n; i++)
        max = BASE_MAX(max, logits[2 * n + i]);
    for (uint32_t i = 0; i < n; i++)
        sum += expf(logits[2 * n + i] - max);
    assert_int_equal(llm_session_new(m, prompt, 3, &(struct llm_session_params){.logprobs = 3}, &s, NULL), DBE_OK);
    assert_int_equal(llm_session_step(s, &p), DBE_OK);
    assert_int_equal(p.prob_count, 1);
    assert_true(fabsf(p.probs[0].logprob + logf(sum)) < 1e-4f); /* greedy: the best one */
    assert_int_equal(p.probs[0].top_count, 2);
    assert_true(p.probs[0].top[0].logprob >= p.probs[0].top[1].logprob);
    llm_session_free(s);
    llm_model_free(m);
}

/* Answers under a grammar are what it allows, whole when they end, with guesses and in company as alone. */
static void grammars_hold(void **state)
{
    static const int32_t prompt[] = {1, 270, 271, 272, 270, 271};
    struct llm_model *m = model(2);
    struct llm_grammar *g;
    struct llm_session *s[2];
    char text[2][2048] = {{0}};

    (void)state;
    assert_int_equal(llm_grammar_json(&g, NULL), DBE_OK);
    for (uint64_t seed = 0; seed < 6; seed++) {
        size_t at[2] = {0}, left = 2;
        bool done[2] = {false};
        enum llm_finish finish[2] = {LLM_FINISH_NONE};
        for (uint32_t i = 0; i < 2; i++)
            assert_int_equal(
                llm_session_new(
                    m, prompt, 6,
                    &(struct llm_session_params){
                        .temperature = 1, .seed = seed, .max_tokens = 120, .grammar = g, .lookup_tokens = i * 6},
                    &s[i], NULL),
                DBE_OK);
        while (left > 0)
            for (int i = 0; i < 2; i++) {
                struct llm_piece p;
                if (done[i])
                    continue;
                assert_int_equal(llm_session_step(s[i], &p), DBE_OK);
                memcpy(text[i] + at[i], p.text, p.text_len);
                at[i] += p.text_len;
                done[i] = p.done;
                finish[i] = p.finish;
                left -= p.done;
            }
        struct llm_grammar_state *check;
        assert_int_equal(at[0], at[1]);
        assert_memory_equal(text[0], text[1], at[0]);
        assert_int_equal(llm_grammar_state_new(g, &check), DBE_OK);
        assert_true(llm_grammar_accept(check, text[0], at[0]));
        assert_true(finish[0] == LLM_FINISH_LENGTH || llm_grammar_can_end(check));
        llm_grammar_state_free(check);
        llm_session_free(s[0]);
        llm_session_free(s[1]);
    }
    llm_grammar_free(g);
    llm_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_text_in_any_company),
        cmocka_unit_test(shares_are_fair),
        cmocka_unit_test(equal_prompts_are_computed_once),
        cmocka_unit_test(errors_stay_with_their_session),
        cmocka_unit_test(no_memory_ends_one),
        cmocka_unit_test(grammars_hold),
        cmocka_unit_test(probabilities_come_with_the_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
