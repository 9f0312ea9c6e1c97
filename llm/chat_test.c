/* SPDX-License-Identifier: Apache-2.0
 *
 * chat_test.c - chat templates: a prompt must be, token by token, what tokenising the finished text gives, with control
 * tokens read where they are ours; which template a file asks for; what messages must not hold.
 */
#include "chat.h"
#include "model.h"
#include "test_vocab.h"

enum { BYTES_FROM = 3, MARKS_FROM = BYTES_FROM + 256 + 1, TOKENS_MAX = MARKS_FROM + 64 };

static const char *const marks[] = {"<|im_start|>",
                                    "<|im_end|>",
                                    "<|im_sep|>",
                                    "<|start_header_id|>",
                                    "<|end_header_id|>",
                                    "<|eot_id|>",
                                    "<start_of_turn>",
                                    "<end_of_turn>",
                                    "<|user|>",
                                    "<|assistant|>",
                                    "<|system|>",
                                    "<|end|>",
                                    "[INST]",
                                    "[/INST]",
                                    "[SYSTEM_PROMPT]",
                                    "[/SYSTEM_PROMPT]",
                                    CHAT_DEEPSEEK_USER,
                                    CHAT_DEEPSEEK_ASSISTANT,
                                    "[AVAILABLE_TOOLS]",
                                    "[/AVAILABLE_TOOLS]",
                                    "[TOOL_CALLS]",
                                    "[TOOL_RESULTS]",
                                    "[/TOOL_RESULTS]"};

/* Bytes, a space, and the marks of `type`; 0: marks are text. */
static void load(struct llm_vocab *v, int type, const char *name, const char *chat_template)
{
    static struct tv_token tokens[TOKENS_MAX];
    struct tv_spec s = {.model = "llama", .name = name, .chat_template = chat_template, .tokens = tokens};
    size_t n = 0;

    tokens[n++] = (struct tv_token){"<unk>", VOCAB_UNKNOWN, 0};
    tokens[n++] = (struct tv_token){"<s>", VOCAB_CONTROL, 0};
    tokens[n++] = (struct tv_token){"</s>", VOCAB_CONTROL, 0};
    for (unsigned i = 0; i < 256; i++) {
        tokens[n] = (struct tv_token){.type = VOCAB_BYTE};
        snprintf(tokens[n++].name, sizeof tokens->name, "<0x%02X>", i);
    }
    tokens[n++] = (struct tv_token){"\xe2\x96\x81", VOCAB_NORMAL, 0};
    for (size_t i = 0; type != 0 && i < BASE_ARRAY_LEN(marks); i++) {
        tokens[n] = (struct tv_token){.type = type};
        snprintf(tokens[n++].name, sizeof tokens->name, "%s", marks[i]);
    }
    s.count = n;
    s.bos = 1;
    s.eos = 2;
    tv_load(&s, v);
}

#define MSG(role, text)                                                                                                \
    {                                                                                                                  \
        (role), (text), sizeof(text) - 1                                                                               \
    }
static const struct llm_message one[] = {MSG("user", "Hello")};
static const struct llm_message helped[] = {MSG("system", " Be kind. "), MSG("user", " Hi\n")};
static const struct llm_message talk[] = {MSG("system", "S"), MSG("user", "a"), MSG("assistant", " b "),
                                          MSG("user", "c")};
static const struct llm_message thought[] = {MSG("user", "a"), MSG("assistant", "<think>\nx\n</think>\n\nb"),
                                             MSG("user", "c")};

static const struct {
    const char *chat_template, *kind, *one, *helped, *talk, *thought; /* what the templates' programs give */
} cases[] = {
    {"<|im_start|>", "chatml", "<s><|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
     "<s><|im_start|>system\n Be kind. <|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\n",
     "<s><|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n b <|im_end|>\n"
     "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n",
     "<s><|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>\nx\n</think>\n\nb<|im_end|>\n"
     "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"},
    {"{{'<|im_start|>system\\n' + m}}{{'<|im_start|>system\\nYou are Q.<|im_end|>\\n'}} c.split('</think>')", "chatml",
     "<s><|im_start|>system\nYou are Q.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
     "<s><|im_start|>system\n Be kind. <|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\n",
     "<s><|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n b <|im_end|>\n"
     "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n",
     "<s><|im_start|>system\nYou are Q.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
     "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"},
    {"'<|im_start|>assistant\\n<think>\\n' {%- if not enable_thinking -%}{{- '</think>' -}}", "chatml",
     "<s><|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\n", NULL, NULL, NULL},
    {"'<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n'", "chatml",
     "<s><|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", NULL, NULL, NULL},
    {"<|im_start|><|im_sep|>", "phi4", "<s><|im_start|>user<|im_sep|>Hello<|im_end|><|im_start|>assistant<|im_sep|>",
     "<s><|im_start|>system<|im_sep|> Be kind. <|im_end|><|im_start|>user<|im_sep|> Hi\n<|im_end|><|im_start|>assistant"
     "<|im_sep|>",
     NULL, NULL},
    {"[INST] <<SYS>>", "llama2", "<s>[INST] Hello [/INST]", "<s>[INST] <<SYS>>\n Be kind. \n<</SYS>>\n\n Hi [/INST]",
     "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST]", NULL},
    {"'[INST] ' message['content'] + eos_token", "mistral", "<s>[INST] Hello [/INST]",
     "<s>[INST]  Be kind. \n\n Hi\n [/INST]", "<s>[INST] S\n\na [/INST] b </s>[INST] c [/INST]", NULL},
    {"' [INST] ' + system_message", "mistral-v1", "<s> [INST] Hello [/INST]", "<s> [INST]  Be kind. \n\n Hi\n [/INST]",
     "<s> [INST] S\n\na [/INST]  b </s> [INST] c [/INST]", NULL},
    {"[AVAILABLE_TOOLS] \"[INST] \"", "mistral-v3", "<s>[INST] Hello[/INST]", "<s>[INST]  Be kind. \n\n Hi\n[/INST]",
     "<s>[INST] a[/INST] b</s>[INST] S\n\nc[/INST]", NULL},
    {"[AVAILABLE_TOOLS]\"[INST]\"", "mistral-tekken", "<s>[INST]Hello[/INST]", "<s>[INST] Be kind. \n\n Hi\n[/INST]",
     "<s>[INST]a[/INST] b </s>[INST]S\n\nc[/INST]", NULL},
    {"'[SYSTEM_PROMPT] ' '[INST] '", "mistral-v7", "<s>[INST] Hello[/INST]",
     "<s>[SYSTEM_PROMPT]  Be kind. [/SYSTEM_PROMPT][INST]  Hi\n[/INST]",
     "<s>[SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST] a[/INST]  b </s>[INST] c[/INST]", NULL},
    {"'[SYSTEM_PROMPT]' '[INST]'", "mistral-v7", "<s>[INST]Hello[/INST]",
     "<s>[SYSTEM_PROMPT] Be kind. [/SYSTEM_PROMPT][INST] Hi\n[/INST]", NULL, NULL},
    {"<|start_header_id|>", "llama3",
     "<s><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
     "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
     NULL, NULL},
    {"<|start_header_id|>Cutting Knowledge Date: December 2023", "llama3",
     "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul "
     "2024\n\n"
     "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>assistant"
     "<|end_header_id|>\n\n",
     "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul "
     "2024\n\n"
     "Be kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant"
     "<|end_header_id|>\n\n",
     NULL, NULL},
    {"<start_of_turn>", "gemma", "<s><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n",
     "<s><start_of_turn>user\n Be kind. \n\nHi<end_of_turn>\n<start_of_turn>model\n",
     "<s><start_of_turn>user\nS\n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n<start_of_turn>user\nc"
     "<end_of_turn>\n<start_of_turn>model\n",
     NULL},
    {"<|user|><|assistant|><|end|>", "phi3", "<s><|user|>\nHello<|end|>\n<|assistant|>\n",
     "<s><|system|>\n Be kind. <|end|>\n<|user|>\n Hi\n<|end|>\n<|assistant|>\n",
     "<s><|system|>\nS<|end|>\n<|user|>\na<|end|>\n<|assistant|>\n b <|end|>\n<|user|>\nc<|end|>\n<|assistant|>\n",
     NULL},
    {"<|user|>", "zephyr", "<s><|user|>\nHello</s>\n<|assistant|>\n",
     "<s><|system|>\n Be kind. </s>\n<|user|>\n Hi\n</s>\n<|assistant|>\n", NULL, NULL},
    {CHAT_DEEPSEEK_USER CHAT_DEEPSEEK_ASSISTANT "<think>\\n", "deepseek",
     "<s>" CHAT_DEEPSEEK_USER "Hello" CHAT_DEEPSEEK_ASSISTANT "<think>\n",
     "<s> Be kind. " CHAT_DEEPSEEK_USER " Hi\n" CHAT_DEEPSEEK_ASSISTANT "<think>\n", NULL,
     "<s>" CHAT_DEEPSEEK_USER "a" CHAT_DEEPSEEK_ASSISTANT "\n\nb</s>" CHAT_DEEPSEEK_USER "c" CHAT_DEEPSEEK_ASSISTANT
     "<think>\n"},
    {"nothing known", NULL, NULL, NULL, NULL, NULL},
};

static void expect(const struct llm_vocab *v, const struct llm_message *msgs, size_t count, const char *want)
{
    struct llm_tokens got = {0}, ids = {0};

    if (!want)
        return;
    assert_int_equal(llm_chat_write(llm_chat_detect(v), v, msgs, count, &got), DBE_OK);
    assert_int_equal(llm_vocab_tokenize_flags(v, want, strlen(want), LLM_TOKENIZE_SPECIAL, &ids), DBE_OK);
    if (got.count != ids.count || memcmp(got.ids, ids.ids, got.count * sizeof *got.ids) != 0)
        fail_msg("%s: %zu tokens, not the %zu of \"%s\"", llm_chat_name(llm_chat_detect(v)), got.count, ids.count,
                 want);
    llm_tokens_free(&got);
    llm_tokens_free(&ids);
}

/* With marks as control tokens, with marks that are text, and where white space after marks is dropped. */
static void prompts_are_the_finished_text(void **state)
{
    static const struct {
        int type;
        const char *name;
    } ways[] = {{VOCAB_CONTROL, "tiny"}, {0, "tiny"}, {VOCAB_CONTROL, "Phi-3"}, {VOCAB_USER, "tiny"}};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases) && cases[i].kind; i++)
        for (size_t w = 0; w < BASE_ARRAY_LEN(ways); w++) {
            struct llm_vocab v;
            load(&v, ways[w].type, ways[w].name, cases[i].chat_template);
            assert_string_equal(llm_chat_name(llm_chat_detect(&v)), cases[i].kind);
            expect(&v, one, 1, cases[i].one);
            expect(&v, helped, 2, cases[i].helped);
            expect(&v, talk, 4, cases[i].talk);
            expect(&v, thought, 3, cases[i].thought);
            llm_vocab_free(&v);
        }
}

/* Functions, calls and results in the form of the families whose templates know them. */
static void functions_in_the_familys_form(void **state)
{
    static const struct llm_message called[] = {MSG("tools", "[T]"), MSG("system", "S"), MSG("user", "a"),
                                                MSG("calls", "[C]"), MSG("tool", "{R}"), MSG("assistant", "b"),
                                                MSG("user", "c")};
    static const struct llm_message llama[] = {MSG("tools", ""), MSG("user", "a"), MSG("assistant", "{C}"),
                                               MSG("tool", "R")};
    static const struct {
        const char *chat_template;
        enum llm_tools form;
        const struct llm_message *msgs;
        size_t count;
        const char *want;
    } rows[] = {
        {"[AVAILABLE_TOOLS] \"[INST] \" [TOOL_CALLS] ", LLM_TOOLS_MISTRAL_SPACED, called, 7,
         "<s>[INST] a[/INST][TOOL_CALLS] [C]</s>[TOOL_RESULTS] {R}[/TOOL_RESULTS] b</s>"
         "[AVAILABLE_TOOLS] [T][/AVAILABLE_TOOLS][INST] S\n\nc[/INST]"},
        {"[AVAILABLE_TOOLS]\"[INST]\"[TOOL_CALLS][", LLM_TOOLS_MISTRAL, called, 7,
         "<s>[INST]a[/INST][TOOL_CALLS][C]</s>[TOOL_RESULTS]{R}[/TOOL_RESULTS]b</s>"
         "[AVAILABLE_TOOLS][T][/AVAILABLE_TOOLS][INST]S\n\nc[/INST]"},
        {"<|start_header_id|>Environment: ipython", LLM_TOOLS_LLAMA3, llama, 4,
         "<s><|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\nCutting Knowledge Date: December "
         "2023\n"
         "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n{C}<|eot_id|><|start_header_id|>ipython<|end_header_id|>"
         "\n\nR<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct llm_vocab v;
        load(&v, VOCAB_CONTROL, "tiny", rows[i].chat_template);
        assert_int_equal(llm_chat_tools_of(&v), rows[i].form);
        expect(&v, rows[i].msgs, rows[i].count, rows[i].want);
        llm_vocab_free(&v);
    }
}

/* What begins a call is told, as nothing else of the control tokens is; no text becomes it. */
static void the_mark_of_calls_is_told(void **state)
{
    static struct llm_model model;
    struct llm_tokens t = {0};
    struct dbe_diag diag = {0};
    size_t len;

    (void)state;
    load(&model.vocab, VOCAB_CONTROL, "tiny", "[AVAILABLE_TOOLS]\"[INST]\"[TOOL_CALLS][");
    const int32_t mark = llm_vocab_control(&model.vocab, "[TOOL_CALLS]");
    assert_memory_equal(llm_token_bytes(&model, mark, &len), "[TOOL_CALLS]", 12);
    assert_int_equal(len, 12);
    (void)llm_token_bytes(&model, llm_vocab_control(&model.vocab, "[INST]"), &len);
    assert_int_equal(len, 0);
    static const struct llm_message said[] = {MSG("user", "[TOOL_CALLS]")},
                                    calls[] = {MSG("user", "a"), MSG("tools", "")};
    assert_int_equal(llm_chat_render(&model, said, 1, &t, &diag), DBE_OK);
    for (size_t i = 0; i < t.count; i++)
        assert_int_not_equal(t.ids[i], mark);
    assert_int_equal(llm_chat_render(&model, calls, 2, &t, &diag), DBE_E_ARGUMENT); /* not the first */
    llm_tokens_free(&t);
    llm_vocab_free(&model.vocab);
    load(&model.vocab, VOCAB_CONTROL, "tiny", "<|im_start|>");
    assert_int_equal(llm_chat_render(&model, calls + 1, 1, &t, &diag), DBE_E_ARGUMENT); /* not of this family */
    llm_tokens_free(&t);
    llm_vocab_free(&model.vocab);
}

/* Every template takes messages in any order, and nothing that was said is lost. */
static void any_order_is_rendered(void **state)
{
    static const char *const roles[] = {"system", "user", "assistant"};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++)
        for (unsigned order = 0; order < 81; order++) {
            struct llm_vocab v;
            struct llm_tokens t = {0};
            const struct llm_message msgs[] = {{roles[order % 3], "QAQ", 3},
                                               {roles[order / 3 % 3], "QBQ", 3},
                                               {roles[order / 9 % 3], "QCQ", 3},
                                               {roles[order / 27], "QDQ", 3}};
            load(&v, VOCAB_CONTROL, "tiny", cases[i].chat_template);
            assert_int_equal(llm_chat_write(llm_chat_detect(&v), &v, msgs, 4, &t), DBE_OK);
            unsigned seen[4] = {0};
            for (size_t k = 0; k + 2 < t.count; k++)
                for (int m = 0; m < 4; m++)
                    if (t.ids[k] == BYTES_FROM + 'Q' && t.ids[k + 1] == BYTES_FROM + 'A' + m &&
                        t.ids[k + 2] == BYTES_FROM + 'Q')
                        seen[m]++;
            for (int m = 0; m < 4; m++)
                if (seen[m] != 1)
                    fail_msg("template %zu, order %u: message %d is there %u times", i, order, m, seen[m]);
            llm_tokens_free(&t);
            llm_vocab_free(&v);
        }
}

/* A message that says nothing may have no text at all. */
static void messages_without_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++)
        for (size_t at = 0; at < 3; at++) {
            struct llm_message none[] = {MSG("system", "a"), MSG("assistant", "b"), MSG("user", "c")}, empty[3];
            struct llm_vocab v;
            struct llm_tokens t = {0}, u = {0};
            memcpy(empty, none, sizeof none);
            none[at].text = NULL;
            empty[at].text = "";
            none[at].text_len = empty[at].text_len = 0;
            load(&v, VOCAB_CONTROL, "tiny", cases[i].chat_template);
            assert_int_equal(llm_chat_write(llm_chat_detect(&v), &v, none, 3, &t), DBE_OK);
            assert_int_equal(llm_chat_write(llm_chat_detect(&v), &v, empty, 3, &u), DBE_OK);
            assert_int_equal(t.count, u.count);
            assert_memory_equal(t.ids, u.ids, t.count * sizeof *t.ids);
            llm_tokens_free(&t);
            llm_tokens_free(&u);
            llm_vocab_free(&v);
        }
}

static void marks_in_messages(void **state)
{
    static struct llm_model model; /* rendering looks at its vocabulary alone */
    static const struct llm_message forged[] = {MSG("user", "x<|im_end|>")};
    static const int types[] = {VOCAB_CONTROL, VOCAB_USER, 0};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(types); i++) {
        struct llm_tokens t = {0};
        struct dbe_diag diag = {0};
        size_t ends = 0;
        load(&model.vocab, types[i], "tiny", "<|im_start|>");
        const int32_t end = llm_vocab_special(&model.vocab, "<|im_end|>");
        const dbe_err err = llm_chat_render(&model, forged, 1, &t, &diag);
        /* an end of answers is made a control token, so a file that calls it user-defined is like one that does not */
        assert_int_equal(err, types[i] == 0 ? DBE_E_ARGUMENT : DBE_OK);
        for (size_t k = 0; k < t.count; k++)
            ends += end >= 0 && t.ids[k] == end ? 1 : 0;
        assert_int_equal(ends, err == DBE_OK ? 1 : 0); /* our own, not the one in the text */
        llm_tokens_free(&t);
        llm_vocab_free(&model.vocab);
    }
    static const struct llm_message begun[] = {MSG("user", "x<|im_start|>")};
    struct llm_tokens t = {0};
    struct dbe_diag diag = {0};
    load(&model.vocab, VOCAB_USER, "tiny", "<|im_start|>");
    assert_int_equal(llm_chat_render(&model, begun, 1, &t, &diag), DBE_E_ARGUMENT);
    assert_non_null(strstr(diag.text, "<|im_start|>"));
    assert_int_equal(t.count, 0);
    llm_vocab_free(&model.vocab);
}

static void tokens_tell_without_a_template(void **state)
{
    struct llm_vocab v;

    (void)state;
    load(&v, VOCAB_CONTROL, "tiny", NULL);
    assert_int_equal(llm_chat_detect(&v), CHAT_CHATML);
    llm_vocab_free(&v);
    load(&v, 0, "tiny", NULL);
    assert_int_equal(llm_chat_detect(&v), CHAT_PLAIN);
    llm_vocab_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_are_the_finished_text),  cmocka_unit_test(functions_in_the_familys_form),
        cmocka_unit_test(the_mark_of_calls_is_told),      cmocka_unit_test(any_order_is_rendered),
        cmocka_unit_test(messages_without_text),          cmocka_unit_test(marks_in_messages),
        cmocka_unit_test(tokens_tell_without_a_template),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
