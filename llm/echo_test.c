/* SPDX-License-Identifier: Apache-2.0
 *
 * echo_test.c - prompts that are told: each token with the probability that the logits before it give, in any company
 * and whatever is cached; their text; prompts without an answer.
 */
#include "test_gguf.h"

#include "batch_pass.h"
#include "echo.h"
#include "prefix.h"

enum { LENGTH = 150, TEXT_MAX = 4096 };

static const uint8_t salt[LLM_SALT_BYTES] = {7};

static struct llm_model *model(unsigned threads)
{
    struct tg_shape shape = tg_defaults();

    shape.n_ctx = 256;
    return tg_load(&shape, &(struct llm_model_params){.threads = threads, .prefix_percent = 50});
}

static void make_prompt(int32_t prompt[LENGTH])
{
    for (size_t i = 0; i < LENGTH; i++)
        prompt[i] = i == 0 ? 1 : 262 + (int32_t)(i * 7 % 20);
}

struct said {
    char text[TEXT_MAX];
    size_t len, count, steps;
    struct llm_token_prob probs[2 * LENGTH];
    enum llm_finish finish;
};

static struct llm_session *begin(struct llm_model *m, const int32_t *prompt, size_t count,
                                 const struct llm_session_params *params)
{
    struct llm_session *s;
    struct dbe_diag diag = {0};

    if (llm_session_new(m, prompt, count, params, &s, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    return s;
}

static void take(struct said *said, const struct llm_piece *p)
{
    assert_true(said->len + p->text_len < TEXT_MAX && said->count + p->prob_count <= 2 * LENGTH);
    memcpy(said->text + said->len, p->text, p->text_len);
    memcpy(said->probs + said->count, p->probs, p->prob_count * sizeof *p->probs);
    said->len += p->text_len;
    said->count += p->prob_count;
    said->steps++;
    said->finish = p->finish;
}

static void say(struct llm_model *m, const int32_t *prompt, size_t count, const struct llm_session_params *params,
                struct said *said)
{
    struct llm_session *s = begin(m, prompt, count, params);
    struct llm_piece p = {0};

    memset(said, 0, sizeof *said);
    while (!p.done) {
        assert_int_equal(llm_session_step(s, &p), DBE_OK);
        take(said, &p);
    }
    llm_session_free(s);
}

/* ---- probabilities ----------------------------------------------------------------------------------------------- */

/* ln p of each token after those before it, by the way that `dsmil llm perplexity` goes. */
static void expect(struct llm_model *m, const int32_t *tokens, size_t count, double *ret)
{
    const size_t n = llm_model_info(m)->n_vocab;
    float *logits = base_alloc(count * n, sizeof *logits);

    assert_non_null(logits);
    assert_int_equal(llm_logits(m, tokens, count, logits, NULL), DBE_OK);
    for (size_t t = 1; t < count; t++) {
        const float *z = logits + (t - 1) * n;
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += exp((double)z[i]);
        ret[t] = (double)z[tokens[t]] - log(sum);
    }
    base_free(logits);
}

static void check_probs(const struct said *said, const int32_t *prompt, size_t count, const double *want)
{
    assert_true(said->count >= count);
    assert_int_equal(said->probs[0].id, prompt[0]);
    assert_true(isnan(said->probs[0].logprob));
    assert_int_equal(said->probs[0].top_count, 0);
    for (size_t t = 1; t < count; t++) {
        const struct llm_token_prob *p = &said->probs[t];
        assert_int_equal(p->id, prompt[t]);
        assert_true(fabs((double)p->logprob - want[t]) < 1e-4);
        assert_int_equal(p->top_count, 2);
        assert_true(p->top[0].logprob >= p->top[1].logprob && p->top[0].id != p->id && p->top[1].id != p->id);
    }
}

static void each_token_has_its_probability(void **state)
{
    static struct said said, plain;
    int32_t prompt[LENGTH];
    double want[LENGTH];

    (void)state;
    make_prompt(prompt);
    for (unsigned threads = 1; threads <= 3; threads += 2) {
        struct llm_model *m = model(threads);
        expect(m, prompt, LENGTH, want);
        say(m, prompt, LENGTH, &(struct llm_session_params){.max_tokens = 5, .logprobs = 3, .ignore_eos = true},
            &plain);
        for (uint32_t chunk = 0; chunk < 70; chunk = chunk * 3 + 1) { /* as many as there is room for; 1, 4, 13, 40 */
            const struct llm_session_params params = {.max_tokens = 5,
                                                      .logprobs = 3,
                                                      .ignore_eos = true,
                                                      .prefill_chunk = chunk,
                                                      .lookup_tokens = chunk % 2 * 4,
                                                      .echo = LLM_ECHO_TOKENS};
            say(m, prompt, LENGTH, &params, &said);
            assert_int_equal(said.count, LENGTH + 5);
            check_probs(&said, prompt, LENGTH, want);
            for (size_t i = 0; i < 5; i++)
                assert_memory_equal(&said.probs[LENGTH + i], &plain.probs[i], sizeof *plain.probs);
            assert_true(said.len > plain.len);
            assert_string_equal(said.text + said.len - plain.len, plain.text);
        }
        assert_int_equal(llm_model_kv_used_bytes(m), 0);
        llm_model_free(m);
    }
}

/* The room for logits is that of a few rows, however long the prompt. */
static void room_for_logits_is_bounded(void **state)
{
    static struct said said;
    struct llm_model *m = model(2);
    int32_t prompt[LENGTH];

    (void)state;
    make_prompt(prompt);
    say(m, prompt, LENGTH, &(struct llm_session_params){.max_tokens = 1, .logprobs = 1, .echo = LLM_ECHO_TOKENS},
        &said);
    assert_int_equal(said.steps, 1);
    assert_int_equal(said.count, LENGTH + 1);
    assert_int_equal(m->batch->logits_rows, LLM_ECHO_ROWS);
    llm_model_free(m);
}

/* What is cached has no logits: all is computed, and left for others. Beside sessions that take it. */
static void the_cache_is_filled_and_not_read(void **state)
{
    static struct said said;
    struct llm_model *m = model(2);
    struct llm_session *s[3];
    struct llm_piece p[3] = {{0}};
    dbe_err errs[3];
    int32_t prompt[LENGTH];
    double want[LENGTH];

    (void)state;
    make_prompt(prompt);
    expect(m, prompt, LENGTH, want);
    const struct llm_session_params plain = {.max_tokens = 1, .salt = salt};
    const struct llm_session_params told = {
        .max_tokens = 1, .logprobs = 3, .salt = salt, .echo = LLM_ECHO_TOKENS, .prefill_chunk = 50};
    for (int round = 0; round < 2; round++) { /* the second time all of it is cached */
        bool done = false;
        s[0] = begin(m, prompt, LENGTH, &plain);
        s[1] = begin(m, prompt, LENGTH, &told);
        s[2] = begin(m, prompt, LENGTH, &plain);
        memset(&said, 0, sizeof said);
        while (!done) { /* the others end earlier */
            assert_int_equal(llm_batch_step(m, s, 3, p, errs), DBE_OK);
            assert_int_equal(errs[1], DBE_OK);
            take(&said, &p[1]);
            done = p[1].done;
        }
        check_probs(&said, prompt, LENGTH, want);
        assert_int_equal(llm_session_cached_tokens(s[1]), 0);
        for (size_t i = 0; i < 3; i++)
            llm_session_free(s[i]);
    }
    llm_prefix_clear(m);
    say(m, prompt, LENGTH, &told, &said);
    s[0] = begin(m, prompt, LENGTH, &plain);
    assert_int_equal(llm_session_cached_tokens(s[0]), LENGTH / LLM_KV_PAGE * LLM_KV_PAGE);
    llm_session_free(s[0]);
    llm_model_free(m);
}

static void cancelling_ends_it(void **state)
{
    struct llm_model *m = model(1);
    int32_t prompt[LENGTH];
    struct llm_piece p;

    (void)state;
    make_prompt(prompt);
    struct llm_session *s = begin(
        m, prompt, LENGTH,
        &(struct llm_session_params){.max_tokens = 1, .logprobs = 1, .echo = LLM_ECHO_TOKENS, .prefill_chunk = 40});
    assert_int_equal(llm_session_step(s, &p), DBE_OK);
    llm_session_cancel(s);
    assert_int_equal(llm_session_step(s, &p), DBE_E_CANCELLED);
    llm_session_free(s);
    llm_model_free(m);
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static void without_probabilities_the_cache_serves(void **state)
{
    static struct said first, second;
    struct llm_model *m = model(1);
    int32_t prompt[LENGTH];
    const struct llm_session_params params = {
        .max_tokens = 4, .ignore_eos = true, .salt = salt, .echo = LLM_ECHO_TOKENS, .prefill_chunk = 30};

    (void)state;
    make_prompt(prompt);
    say(m, prompt, LENGTH, &params, &first);
    say(m, prompt, LENGTH, &params, &second);
    assert_true(second.steps < first.steps);
    assert_string_equal(first.text, second.text);
    assert_int_equal(first.count, 4); /* of the answer alone */
    llm_model_free(m);
}

/* The text of a prompt is the text that was tokenised, and the tokens say which bytes of theirs it has. */
static void text_comes_back(void **state)
{
    static const char *const texts[] = {"hello world", " hello", "zz hello", "\xc3\xa9\xe2\x82\xac", "a"};
    static struct said said;

    (void)state;
    for (int prefix = 0; prefix < 2; prefix++) {
        struct tg_shape shape = tg_defaults();
        shape.no_space_prefix = prefix == 0;
        struct llm_model *m = tg_load(&shape, NULL);
        for (size_t i = 0; i < BASE_ARRAY_LEN(texts); i++) {
            struct llm_tokens t = {0};
            size_t bytes = 0, len;
            assert_int_equal(llm_tokenize(m, texts[i], strlen(texts[i]), LLM_TOKENIZE_BOS, &t), DBE_OK);
            const struct llm_session_params params = {.prompt_only = true, .logprobs = 1, .echo = LLM_ECHO_TEXT};
            say(m, t.ids, t.count, &params, &said);
            assert_string_equal(said.text, texts[i]);
            assert_int_equal(said.count, t.count);
            for (size_t k = 0; k < said.count; k++) {
                (void)llm_token_bytes(m, said.probs[k].id, &len);
                bytes += len - said.probs[k].lead;
            }
            assert_int_equal(bytes, strlen(texts[i]));
            llm_tokens_free(&t);
        }
        llm_model_free(m);
    }
}

/* As tokens the same prompt says the space that stands in them. */
static void tokens_say_what_they_stand_for(void **state)
{
    static struct said said;
    struct llm_model *m = model(1);
    const int32_t prompt[] = {1, tg_id("_hello"), tg_id("_world"), TG_IM_START};

    (void)state;
    say(m, prompt, 4, &(struct llm_session_params){.prompt_only = true, .echo = LLM_ECHO_TOKENS}, &said);
    assert_string_equal(said.text, " hello world");
    assert_int_equal(said.count, 0);
    llm_model_free(m);
}

/* A character that the prompt begins and the answer does not go on with is told by neither; stops are for answers. */
static void stops_and_characters(void **state)
{
    static struct said said;
    struct llm_model *m = model(1);
    const char *const stops[] = {"hello"};
    const int32_t whole[] = {1, tg_id("_hello"), TG_BYTES_FROM + 0xc3, TG_BYTES_FROM + 0xa9};

    (void)state;
    const struct llm_session_params params = {
        .prompt_only = true, .echo = LLM_ECHO_TOKENS, .stops = stops, .stop_count = 1, .prefill_chunk = 1};
    say(m, whole, 4, &params, &said);
    assert_string_equal(said.text, " hello\xc3\xa9");
    say(m, whole, 3, &params, &said);
    assert_string_equal(said.text, " hello");
    llm_model_free(m);
}

/* ---- no answer --------------------------------------------------------------------------------------------------- */

static void a_prompt_alone_may_fill_the_context(void **state)
{
    static struct said said;
    struct tg_shape shape = tg_defaults();
    struct llm_model *m;
    struct llm_session *s;
    int32_t prompt[LENGTH];

    (void)state;
    make_prompt(prompt);
    shape.n_ctx = LENGTH;
    m = tg_load(&shape, NULL);
    const struct llm_session_params params = {.prompt_only = true, .logprobs = 1, .echo = LLM_ECHO_TOKENS};
    say(m, prompt, LENGTH, &params, &said);
    assert_int_equal(said.count, LENGTH);
    assert_int_equal(said.finish, LLM_FINISH_LENGTH);
    assert_int_equal(llm_session_new(m, prompt, LENGTH, NULL, &s, NULL), DBE_E_CONTEXT);
    assert_int_equal(
        llm_session_new(m, prompt, 2, &(struct llm_session_params){.prompt_only = true, .max_tokens = 1}, &s, NULL),
        DBE_E_ARGUMENT);
    llm_model_free(m);
}

static void no_memory_is_an_answer(void **state)
{
    struct llm_model *m = model(1);
    int32_t prompt[LENGTH];
    struct llm_session *s;
    dbe_err err = DBE_E_NOMEM;

    (void)state;
    make_prompt(prompt);
    const struct llm_session_params params = {.prompt_only = true, .logprobs = 1, .echo = LLM_ECHO_TOKENS};
    for (size_t at = 1; err == DBE_E_NOMEM; at++) {
        base_fail_alloc_at(at);
        err = llm_session_new(m, prompt, LENGTH, &params, &s, NULL);
        base_fail_alloc_at(0);
    }
    assert_int_equal(err, DBE_OK);
    llm_session_free(s);
    llm_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_token_has_its_probability),         cmocka_unit_test(room_for_logits_is_bounded),
        cmocka_unit_test(the_cache_is_filled_and_not_read),       cmocka_unit_test(cancelling_ends_it),
        cmocka_unit_test(without_probabilities_the_cache_serves), cmocka_unit_test(text_comes_back),
        cmocka_unit_test(tokens_say_what_they_stand_for),         cmocka_unit_test(stops_and_characters),
        cmocka_unit_test(a_prompt_alone_may_fill_the_context),    cmocka_unit_test(no_memory_is_an_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
