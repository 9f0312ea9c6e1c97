/* SPDX-License-Identifier: Apache-2.0
 *
 * pretoken_test.c - where each family of tokenizer.ggml.pre cuts texts, against what a library of regular expressions
 * makes of the families' patterns; and that every cut is one of whole characters, whatever the text.
 */
#include <stdio.h>
#include <string.h>

#include "test_vocab.h"

enum { CASES_TEXT = 300, ROUNDS = 4000 };

/* Lengths of the pieces in bytes. */
static const struct {
    const char *text;
    const char *want[VOCAB_PRE_COUNT];
} cases[] = {
    {"Hello world",
     {[VOCAB_PRE_DEFAULT] = "5,6",
      [VOCAB_PRE_GPT2] = "5,6",
      [VOCAB_PRE_LLAMA3] = "5,6",
      [VOCAB_PRE_QWEN2] = "5,6",
      [VOCAB_PRE_QWEN35] = "5,6",
      [VOCAB_PRE_SMOLLM] = "5,6",
      [VOCAB_PRE_TEKKEN] = "5,6",
      [VOCAB_PRE_GPT4O] = "5,6",
      [VOCAB_PRE_FALCON] = "5,6",
      [VOCAB_PRE_DEEPSEEK_CODER] = "5,6",
      [VOCAB_PRE_DEEPSEEK_LLM] = "5,6"}},
    {"I'm  you'LL we're",
     {[VOCAB_PRE_DEFAULT] = "1,1,1,1,4,1,2,3,1,2",
      [VOCAB_PRE_GPT2] = "1,2,1,4,1,2,3,3",
      [VOCAB_PRE_LLAMA3] = "1,2,1,4,3,3,3",
      [VOCAB_PRE_QWEN2] = "1,2,1,4,3,3,3",
      [VOCAB_PRE_QWEN35] = "1,2,1,4,3,3,3",
      [VOCAB_PRE_SMOLLM] = "1,2,1,4,1,2,3,3",
      [VOCAB_PRE_TEKKEN] = "1,2,1,4,3,3,3",
      [VOCAB_PRE_GPT4O] = "3,1,7,6",
      [VOCAB_PRE_FALCON] = "1,1,1,1,4,1,2,3,1,2",
      [VOCAB_PRE_DEEPSEEK_CODER] = "1,1,1,1,4,1,2,3,1,2",
      [VOCAB_PRE_DEEPSEEK_LLM] = "1,1,1,1,4,1,2,3,1,2"}},
    {"a  b   c",
     {[VOCAB_PRE_DEFAULT] = "1,1,2,2,2",
      [VOCAB_PRE_GPT2] = "1,1,2,2,2",
      [VOCAB_PRE_LLAMA3] = "1,1,2,2,2",
      [VOCAB_PRE_QWEN2] = "1,1,2,2,2",
      [VOCAB_PRE_QWEN35] = "1,1,2,2,2",
      [VOCAB_PRE_SMOLLM] = "1,1,2,2,2",
      [VOCAB_PRE_TEKKEN] = "1,1,2,2,2",
      [VOCAB_PRE_GPT4O] = "1,1,2,2,2",
      [VOCAB_PRE_FALCON] = "1,1,2,2,2",
      [VOCAB_PRE_DEEPSEEK_CODER] = "1,1,2,2,2",
      [VOCAB_PRE_DEEPSEEK_LLM] = "1,1,2,2,2"}},
    {"x\012\012  y",
     {[VOCAB_PRE_DEFAULT] = "1,3,2",
      [VOCAB_PRE_GPT2] = "1,3,2",
      [VOCAB_PRE_LLAMA3] = "1,2,1,2",
      [VOCAB_PRE_QWEN2] = "1,2,1,2",
      [VOCAB_PRE_QWEN35] = "1,2,1,2",
      [VOCAB_PRE_SMOLLM] = "1,3,2",
      [VOCAB_PRE_TEKKEN] = "1,2,1,2",
      [VOCAB_PRE_GPT4O] = "1,2,1,2",
      [VOCAB_PRE_FALCON] = "1,3,2",
      [VOCAB_PRE_DEEPSEEK_CODER] = "1,1,1,1,2",
      [VOCAB_PRE_DEEPSEEK_LLM] = "1,1,1,1,2"}},
    {"  \012 \012 z ",
     {[VOCAB_PRE_DEFAULT] = "5,2,1",
      [VOCAB_PRE_GPT2] = "5,2,1",
      [VOCAB_PRE_LLAMA3] = "5,2,1",
      [VOCAB_PRE_QWEN2] = "5,2,1",
      [VOCAB_PRE_QWEN35] = "5,2,1",
      [VOCAB_PRE_SMOLLM] = "5,2,1",
      [VOCAB_PRE_TEKKEN] = "5,2,1",
      [VOCAB_PRE_GPT4O] = "5,2,1",
      [VOCAB_PRE_FALCON] = "5,2,1",
      [VOCAB_PRE_DEEPSEEK_CODER] = "2,1,1,1,2,1",
      [VOCAB_PRE_DEEPSEEK_LLM] = "2,1,1,1,2,1"}},
    {"1234567 89",
     {[VOCAB_PRE_DEFAULT] = "3,3,1,1,2",
      [VOCAB_PRE_GPT2] = "7,3",
      [VOCAB_PRE_LLAMA3] = "3,3,1,1,2",
      [VOCAB_PRE_QWEN2] = "1,1,1,1,1,1,1,1,1,1",
      [VOCAB_PRE_QWEN35] = "1,1,1,1,1,1,1,1,1,1",
      [VOCAB_PRE_SMOLLM] = "1,1,1,1,1,1,1,1,1,1",
      [VOCAB_PRE_TEKKEN] = "1,1,1,1,1,1,1,1,1,1",
      [VOCAB_PRE_GPT4O] = "3,3,1,1,2",
      [VOCAB_PRE_FALCON] = "3,3,1,3",
      [VOCAB_PRE_DEEPSEEK_CODER] = "1,1,1,1,1,1,1,1,1,1",
      [VOCAB_PRE_DEEPSEEK_LLM] = "7,1,2"}},
    {"price: $12.50!!\012\012next",
     {[VOCAB_PRE_DEFAULT] = "5,1,1,1,2,1,2,2,1,1,4",
      [VOCAB_PRE_GPT2] = "5,1,2,2,1,2,2,1,1,4",
      [VOCAB_PRE_LLAMA3] = "5,1,2,2,1,2,4,4",
      [VOCAB_PRE_QWEN2] = "5,1,2,1,1,1,1,1,4,4",
      [VOCAB_PRE_QWEN35] = "5,1,2,1,1,1,1,1,4,4",
      [VOCAB_PRE_SMOLLM] = "5,1,2,1,1,1,1,1,2,1,1,4",
      [VOCAB_PRE_TEKKEN] = "5,1,2,1,1,1,1,1,4,4",
      [VOCAB_PRE_GPT4O] = "5,1,2,2,1,2,4,4",
      [VOCAB_PRE_FALCON] = "5,1,1,1,2,1,2,2,1,1,4",
      [VOCAB_PRE_DEEPSEEK_CODER] = "5,1,2,1,1,1,1,1,2,1,1,4",
      [VOCAB_PRE_DEEPSEEK_LLM] = "5,1,2,2,1,2,2,1,1,4"}},
    {"na\303\257ve \346\274\242\345\255\227\343\203\206\343\202\271\343\203\210",
     {[VOCAB_PRE_DEFAULT] = "6,16",
      [VOCAB_PRE_GPT2] = "6,16",
      [VOCAB_PRE_LLAMA3] = "6,16",
      [VOCAB_PRE_QWEN2] = "6,16",
      [VOCAB_PRE_QWEN35] = "6,16",
      [VOCAB_PRE_SMOLLM] = "6,16",
      [VOCAB_PRE_TEKKEN] = "6,16",
      [VOCAB_PRE_GPT4O] = "6,16",
      [VOCAB_PRE_FALCON] = "6,16",
      [VOCAB_PRE_DEEPSEEK_CODER] = "6,1,15",
      [VOCAB_PRE_DEEPSEEK_LLM] = "2,2,2,1,15"}},
    {"\302\275\342\205\247\331\241 x",
     {[VOCAB_PRE_DEFAULT] = "7,2",
      [VOCAB_PRE_GPT2] = "7,2",
      [VOCAB_PRE_LLAMA3] = "7,2",
      [VOCAB_PRE_QWEN2] = "2,3,2,2",
      [VOCAB_PRE_QWEN35] = "2,3,2,2",
      [VOCAB_PRE_SMOLLM] = "2,3,2,2",
      [VOCAB_PRE_TEKKEN] = "2,3,2,2",
      [VOCAB_PRE_GPT4O] = "7,2",
      [VOCAB_PRE_FALCON] = "7,2",
      [VOCAB_PRE_DEEPSEEK_CODER] = "2,3,2,2",
      [VOCAB_PRE_DEEPSEEK_LLM] = "2,3,2,2"}},
    {"\360\237\230\200\360\237\221\215\360\237\217\275 ok",
     {[VOCAB_PRE_DEFAULT] = "12,3",
      [VOCAB_PRE_GPT2] = "12,3",
      [VOCAB_PRE_LLAMA3] = "12,3",
      [VOCAB_PRE_QWEN2] = "12,3",
      [VOCAB_PRE_QWEN35] = "12,3",
      [VOCAB_PRE_SMOLLM] = "12,3",
      [VOCAB_PRE_TEKKEN] = "12,3",
      [VOCAB_PRE_GPT4O] = "12,3",
      [VOCAB_PRE_FALCON] = "12,3",
      [VOCAB_PRE_DEEPSEEK_CODER] = "12,3",
      [VOCAB_PRE_DEEPSEEK_LLM] = "12,3"}},
    {"tab\011x\015\012y",
     {[VOCAB_PRE_DEFAULT] = "3,1,1,1,1,1",
      [VOCAB_PRE_GPT2] = "3,1,1,1,1,1",
      [VOCAB_PRE_LLAMA3] = "3,2,2,1",
      [VOCAB_PRE_QWEN2] = "3,2,2,1",
      [VOCAB_PRE_QWEN35] = "3,2,2,1",
      [VOCAB_PRE_SMOLLM] = "3,1,1,1,1,1",
      [VOCAB_PRE_TEKKEN] = "3,2,2,1",
      [VOCAB_PRE_GPT4O] = "3,2,2,1",
      [VOCAB_PRE_FALCON] = "3,1,1,1,1,1",
      [VOCAB_PRE_DEEPSEEK_CODER] = "3,2,1,1,1",
      [VOCAB_PRE_DEEPSEEK_LLM] = "3,2,1,1,1"}},
    {"\302\240\342\200\203a",
     {[VOCAB_PRE_DEFAULT] = "2,3,1",
      [VOCAB_PRE_GPT2] = "2,3,1",
      [VOCAB_PRE_LLAMA3] = "2,4",
      [VOCAB_PRE_QWEN2] = "2,4",
      [VOCAB_PRE_QWEN35] = "2,4",
      [VOCAB_PRE_SMOLLM] = "2,3,1",
      [VOCAB_PRE_TEKKEN] = "2,4",
      [VOCAB_PRE_GPT4O] = "2,4",
      [VOCAB_PRE_FALCON] = "2,3,1",
      [VOCAB_PRE_DEEPSEEK_CODER] = "2,3,1",
      [VOCAB_PRE_DEEPSEEK_LLM] = "2,3,1"}},
    {"e\314\201t\303\251 \314\201x",
     {[VOCAB_PRE_DEFAULT] = "1,2,3,3,1",
      [VOCAB_PRE_GPT2] = "1,2,3,3,1",
      [VOCAB_PRE_LLAMA3] = "1,5,3,1",
      [VOCAB_PRE_QWEN2] = "1,5,3,1",
      [VOCAB_PRE_QWEN35] = "6,4",
      [VOCAB_PRE_SMOLLM] = "1,2,3,3,1",
      [VOCAB_PRE_TEKKEN] = "6,4",
      [VOCAB_PRE_GPT4O] = "6,4",
      [VOCAB_PRE_FALCON] = "1,2,3,3,1",
      [VOCAB_PRE_DEEPSEEK_CODER] = "1,2,3,3,1",
      [VOCAB_PRE_DEEPSEEK_LLM] = "1,2,1,2,3,1"}},
    {"helloWorldFOOBar \303\251\303\211\303\251",
     {[VOCAB_PRE_DEFAULT] = "16,7",
      [VOCAB_PRE_GPT2] = "16,7",
      [VOCAB_PRE_LLAMA3] = "16,7",
      [VOCAB_PRE_QWEN2] = "16,7",
      [VOCAB_PRE_QWEN35] = "16,7",
      [VOCAB_PRE_SMOLLM] = "16,7",
      [VOCAB_PRE_TEKKEN] = "5,5,6,3,4",
      [VOCAB_PRE_GPT4O] = "5,5,6,3,4",
      [VOCAB_PRE_FALCON] = "16,7",
      [VOCAB_PRE_DEEPSEEK_CODER] = "16,7",
      [VOCAB_PRE_DEEPSEEK_LLM] = "16,7"}},
    {"x=`a`+b^2; // c/d\012/",
     {[VOCAB_PRE_DEFAULT] = "1,1,1,1,1,1,1,1,1,1,1,2,2,1,1,1,1",
      [VOCAB_PRE_GPT2] = "1,2,1,2,1,1,1,1,3,2,1,1,1,1",
      [VOCAB_PRE_LLAMA3] = "1,2,1,2,1,1,1,1,3,2,2,1,1",
      [VOCAB_PRE_QWEN2] = "1,2,1,2,1,1,1,1,3,2,2,1,1",
      [VOCAB_PRE_QWEN35] = "1,2,1,2,1,1,1,1,3,2,2,1,1",
      [VOCAB_PRE_SMOLLM] = "1,2,1,2,1,1,1,1,3,2,1,1,1,1",
      [VOCAB_PRE_TEKKEN] = "1,2,1,2,1,1,1,1,3,2,2,1,1",
      [VOCAB_PRE_GPT4O] = "1,2,1,2,1,1,1,1,3,2,2,1,1",
      [VOCAB_PRE_FALCON] = "1,2,1,2,1,1,1,1,1,2,2,1,1,1,1",
      [VOCAB_PRE_DEEPSEEK_CODER] = "1,2,1,2,1,1,1,1,3,2,1,1,1,1",
      [VOCAB_PRE_DEEPSEEK_LLM] = "1,2,1,2,1,1,1,1,3,2,1,1,1,1"}},
    {"12 345 6789",
     {[VOCAB_PRE_DEFAULT] = "2,1,3,1,3,1",
      [VOCAB_PRE_GPT2] = "2,4,5",
      [VOCAB_PRE_LLAMA3] = "2,1,3,1,3,1",
      [VOCAB_PRE_QWEN2] = "1,1,1,1,1,1,1,1,1,1,1",
      [VOCAB_PRE_QWEN35] = "1,1,1,1,1,1,1,1,1,1,1",
      [VOCAB_PRE_SMOLLM] = "1,1,1,1,1,1,1,1,1,1,1",
      [VOCAB_PRE_TEKKEN] = "1,1,1,1,1,1,1,1,1,1,1",
      [VOCAB_PRE_GPT4O] = "2,1,3,1,3,1",
      [VOCAB_PRE_FALCON] = "2,1,3,1,3,1",
      [VOCAB_PRE_DEEPSEEK_CODER] = "1,1,1,1,1,1,1,1,1,1,1",
      [VOCAB_PRE_DEEPSEEK_LLM] = "2,1,3,1,4"}},
    {"'s 'S don'T",
     {[VOCAB_PRE_DEFAULT] = "1,1,1,1,1,4,1,1",
      [VOCAB_PRE_GPT2] = "2,2,1,4,1,1",
      [VOCAB_PRE_LLAMA3] = "2,2,1,4,2",
      [VOCAB_PRE_QWEN2] = "2,2,1,4,2",
      [VOCAB_PRE_QWEN35] = "2,2,1,4,2",
      [VOCAB_PRE_SMOLLM] = "2,2,1,4,1,1",
      [VOCAB_PRE_TEKKEN] = "2,2,1,4,2",
      [VOCAB_PRE_GPT4O] = "2,2,1,6",
      [VOCAB_PRE_FALCON] = "1,1,1,1,1,4,1,1",
      [VOCAB_PRE_DEEPSEEK_CODER] = "1,1,2,1,4,1,1",
      [VOCAB_PRE_DEEPSEEK_LLM] = "1,1,2,1,4,1,1"}},
    {"\346\274\242A\345\255\227A\312\260b",
     {[VOCAB_PRE_DEFAULT] = "11",
      [VOCAB_PRE_GPT2] = "11",
      [VOCAB_PRE_LLAMA3] = "11",
      [VOCAB_PRE_QWEN2] = "11",
      [VOCAB_PRE_QWEN35] = "11",
      [VOCAB_PRE_SMOLLM] = "11",
      [VOCAB_PRE_TEKKEN] = "11",
      [VOCAB_PRE_GPT4O] = "11",
      [VOCAB_PRE_FALCON] = "11",
      [VOCAB_PRE_DEEPSEEK_CODER] = "3,1,3,4",
      [VOCAB_PRE_DEEPSEEK_LLM] = "3,1,3,1,2,1"}},
    {"\342\200\213\302\205z",
     {[VOCAB_PRE_DEFAULT] = "3,2,1",
      [VOCAB_PRE_GPT2] = "3,2,1",
      [VOCAB_PRE_LLAMA3] = "3,3",
      [VOCAB_PRE_QWEN2] = "3,3",
      [VOCAB_PRE_QWEN35] = "3,3",
      [VOCAB_PRE_SMOLLM] = "3,2,1",
      [VOCAB_PRE_TEKKEN] = "3,3",
      [VOCAB_PRE_GPT4O] = "3,3",
      [VOCAB_PRE_FALCON] = "3,2,1",
      [VOCAB_PRE_DEEPSEEK_CODER] = "3,3",
      [VOCAB_PRE_DEEPSEEK_LLM] = "3,3"}},
};

static void cuts_follow_the_patterns(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++)
        for (int pre = 0; pre < VOCAB_PRE_COUNT; pre++) {
            const size_t len = strlen(cases[i].text);
            char got[CASES_TEXT] = "";
            struct pretokens it;
            size_t n, used = 0;
            llm_pretokens_init(&it, (enum vocab_pre)pre, cases[i].text, len);
            while ((n = llm_pretokens_next(&it)) > 0)
                used += (size_t)snprintf(got + used, sizeof got - used, used ? ",%zu" : "%zu", n);
            assert_int_equal(it.at, len);
            if (strcmp(got, cases[i].want[pre]) != 0)
                fail_msg("family %d, \"%s\": %s, not %s", pre, cases[i].text, got, cases[i].want[pre]);
        }
}

static void any_bytes_are_cut(void **state)
{
    uint64_t seed = 7;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        char text[40];
        const size_t len = tv_random(&seed, sizeof text) + 1;
        for (size_t i = 0; i < len; i++)
            text[i] = tv_random(&seed, 3) ? "a 1'\n.Z\xc3\xa9\xe4\xbd\xa0 s"[tv_random(&seed, 15)]
                                          : (char)tv_random(&seed, 256);
        for (int pre = 0; pre < VOCAB_PRE_COUNT; pre++) {
            struct pretokens it;
            size_t n, sum = 0, step;
            llm_pretokens_init(&it, (enum vocab_pre)pre, text, len);
            while ((n = llm_pretokens_next(&it)) > 0) {
                sum += n;
                assert_true(sum <= len);
                for (size_t at = 0; at < n; at += step) { /* a character is not cut in two */
                    (void)llm_utf8_next(text + sum - n + at, len - (sum - n) - at, &step);
                    assert_true(at + step <= n);
                }
            }
            assert_int_equal(sum, len);
        }
    }
}

/* A stage that looks far ahead at every character would take hours here. */
static void long_runs_are_cut(void **state)
{
    enum { RUN = 1 << 19 };
    static const char *const units[] = {" ", "\n", "\xc2\xa0", "a", "A", "1", "!", "'", "\xe3\x80\x80", "\xe4\xbd\xa0"};
    char *text = base_alloc(RUN + 4, 1);

    (void)state;
    assert_non_null(text);
    for (size_t u = 0; u < BASE_ARRAY_LEN(units); u++) {
        const size_t unit = strlen(units[u]);
        size_t len = 0, n, sum;
        while (len < RUN) {
            memcpy(text + len, units[u], unit);
            len += unit;
        }
        text[len++] = '5';
        for (int pre = 0; pre < VOCAB_PRE_COUNT; pre++) {
            struct pretokens it;
            llm_pretokens_init(&it, (enum vocab_pre)pre, text, len);
            for (sum = 0; (n = llm_pretokens_next(&it)) > 0;)
                sum += n;
            assert_int_equal(sum, len);
        }
    }
    base_free(text);
}

static void classes_of_characters(void **state)
{
    static const struct {
        uint32_t code;
        enum unicode_class want;
    } some[] = {{'A', UNI_UPPER},     {'z', UNI_LOWER},      {'7', UNI_NUMBER},     {' ', UNI_SPACE},
                {'_', UNI_PUNCT},     {'$', UNI_SYMBOL},     {0x1c, UNI_OTHER},     {0x7f, UNI_OTHER},
                {0x85, UNI_SPACE},    {0xa0, UNI_SPACE},     {0xb2, UNI_NUMBER},    {0xe9, UNI_LOWER},
                {0x1c5, UNI_UPPER},   {0x2b0, UNI_LETTER},   {0x301, UNI_MARK},     {0x2028, UNI_SPACE},
                {0x2167, UNI_NUMBER}, {0x3001, UNI_PUNCT},   {0x4f60, UNI_LETTER},  {0x1f600, UNI_SYMBOL},
                {0xe000, UNI_OTHER},  {0x10ffff, UNI_OTHER}, {0x110000, UNI_OTHER}, {UINT32_MAX, UNI_OTHER}};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(some); i++)
        assert_int_equal(llm_unicode_class(some[i].code), some[i].want);
}

static void names_of_families(void **state)
{
    static const struct {
        const char *name;
        enum vocab_pre want;
    } known[] = {{"default", VOCAB_PRE_DEFAULT}, {"llama-bpe", VOCAB_PRE_LLAMA3}, {"qwen2", VOCAB_PRE_QWEN2},
                 {"smollm", VOCAB_PRE_SMOLLM},   {"tekken", VOCAB_PRE_TEKKEN},    {"phi-2", VOCAB_PRE_GPT2}};
    enum vocab_pre pre = VOCAB_PRE_COUNT;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(known); i++) {
        assert_true(llm_pretoken_by_name(known[i].name, strlen(known[i].name), &pre));
        assert_int_equal(pre, known[i].want);
    }
    pre = VOCAB_PRE_COUNT;
    assert_false(llm_pretoken_by_name("qwen", 4, &pre));
    assert_false(llm_pretoken_by_name("qwen22", 6, &pre));
    assert_int_equal(pre, VOCAB_PRE_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_follow_the_patterns), cmocka_unit_test(any_bytes_are_cut),
        cmocka_unit_test(long_runs_are_cut),        cmocka_unit_test(classes_of_characters),
        cmocka_unit_test(names_of_families),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
