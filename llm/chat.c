/* SPDX-License-Identifier: Apache-2.0
 *
 * chat.c - chooses the chat template of a model and checks the messages that go into it.
 *
 * In:  the vocabulary with tokenizer.chat_template, messages of others. Out: token ids (chat_render.c).
 * Not: the template of the file is a program of strangers; it is searched for marks and never run.
 *
 * A prompt is built from marks of ours and texts of others. A mark that is a control token of the vocabulary is
 * inserted by its id, and no text becomes such a token, so no text can end a turn or begin one. Where a model's marks
 * are plain text ("[INST]" of LLaMA 2, "<|user|>" of Zephyr) or tokens that text may become, a message that contains
 * them is refused.
 */
#include "chat.h"

#include <string.h>

#include "model.h"

struct chat_template {
    const char *name;
    const char *marks[8]; /* that no message may hold where they are no control tokens */
};

#define MISTRAL_TOOL_MARKS                                                                                             \
    "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"

static const struct chat_template templates[CHAT_KINDS] = {
    [CHAT_PLAIN] = {"plain", {NULL}},
    [CHAT_CHATML] = {"chatml", {"<|im_start|>", "<|im_end|>"}},
    [CHAT_IM_SEP] = {"phi4", {"<|im_start|>", "<|im_sep|>", "<|im_end|>"}},
    [CHAT_LLAMA2] = {"llama2", {"[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"}},
    [CHAT_LLAMA3] = {"llama3", {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}},
    [CHAT_ZEPHYR] = {"zephyr", {"<|user|>", "<|system|>", "<|assistant|>"}},
    [CHAT_MISTRAL] = {"mistral", {"[INST]", "[/INST]"}},
    [CHAT_MISTRAL_V1] = {"mistral-v1", {"[INST]", "[/INST]", MISTRAL_TOOL_MARKS}},
    [CHAT_MISTRAL_V3] = {"mistral-v3", {"[INST]", "[/INST]", MISTRAL_TOOL_MARKS}},
    [CHAT_MISTRAL_TEKKEN] = {"mistral-tekken", {"[INST]", "[/INST]", MISTRAL_TOOL_MARKS}},
    [CHAT_MISTRAL_V7] = {"mistral-v7", {"[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"}},
    [CHAT_GEMMA] = {"gemma", {"<start_of_turn>", "<end_of_turn>"}},
    [CHAT_PHI3] = {"phi3", {"<|user|>", "<|system|>", "<|assistant|>", "<|end|>"}},
    [CHAT_DEEPSEEK] = {"deepseek", {CHAT_DEEPSEEK_USER, CHAT_DEEPSEEK_ASSISTANT}},
};

/* ---- choice ------------------------------------------------------------------------------------------------------ */

static bool holds(const struct llm_vocab *v, const char *words)
{
    return strstr(v->chat_template, words) != NULL;
}

/* Templates that write "[INST]" differ in the spaces around it and in where a system message goes. */
static enum chat_kind detect_inst(const struct llm_vocab *v)
{
    if (holds(v, "[SYSTEM_PROMPT]"))
        return CHAT_MISTRAL_V7;
    if (holds(v, "' [INST] ' + system_message"))
        return CHAT_MISTRAL_V1;
    if (holds(v, "[AVAILABLE_TOOLS]"))
        return holds(v, " [INST]") ? CHAT_MISTRAL_V1 : holds(v, "\"[INST]\"") ? CHAT_MISTRAL_TEKKEN : CHAT_MISTRAL_V3;
    return holds(v, "[INST]") && !holds(v, "<<SYS>>") && holds(v, "content'] + eos_token") ? CHAT_MISTRAL : CHAT_LLAMA2;
}

/* No template in the file: the vocabulary's control tokens tell the family. */
static enum chat_kind detect_tokens(const struct llm_vocab *v)
{
    if (llm_vocab_special(v, "<|im_start|>") >= 0 && llm_vocab_special(v, "<|im_end|>") >= 0)
        return CHAT_CHATML;
    if (llm_vocab_special(v, "<|start_header_id|>") >= 0)
        return CHAT_LLAMA3;
    if (llm_vocab_special(v, "<start_of_turn>") >= 0 && llm_vocab_special(v, "<end_of_turn>") >= 0)
        return CHAT_GEMMA;
    return llm_vocab_special(v, "<|assistant|>") >= 0 && llm_vocab_special(v, "<|end|>") >= 0 ? CHAT_PHI3 : CHAT_PLAIN;
}

enum chat_kind llm_chat_detect(const struct llm_vocab *v)
{
    if (v->chat_template[0] == '\0')
        return detect_tokens(v);
    if (holds(v, "<|im_start|>"))
        return holds(v, "<|im_sep|>") ? CHAT_IM_SEP : CHAT_CHATML;
    if (holds(v, "[INST]"))
        return detect_inst(v);
    if (holds(v, "<|start_header_id|>"))
        return CHAT_LLAMA3;
    if (holds(v, "<start_of_turn>"))
        return CHAT_GEMMA;
    if (holds(v, CHAT_DEEPSEEK_USER) && holds(v, CHAT_DEEPSEEK_ASSISTANT))
        return CHAT_DEEPSEEK;
    if (holds(v, "<|assistant|>") && holds(v, "<|end|>"))
        return CHAT_PHI3;
    if (holds(v, "<|user|>"))
        return CHAT_ZEPHYR;
    return detect_tokens(v);
}

const char *llm_chat_name(enum chat_kind kind)
{
    return templates[kind].name;
}

/* A family's own form is taken where its template speaks of functions in it. */
enum llm_tools llm_chat_tools_of(const struct llm_vocab *v)
{
    switch (llm_chat_detect(v)) {
    case CHAT_LLAMA3: return holds(v, "Environment: ipython") ? LLM_TOOLS_LLAMA3 : LLM_TOOLS_TEXT;
    case CHAT_MISTRAL_V1:
    case CHAT_MISTRAL_V3:
    case CHAT_MISTRAL_TEKKEN:
        if (!holds(v, "[AVAILABLE_TOOLS]") || llm_vocab_control(v, "[TOOL_CALLS]") < 0)
            return LLM_TOOLS_TEXT;
        return holds(v, "[TOOL_CALLS] ") ? LLM_TOOLS_MISTRAL_SPACED : LLM_TOOLS_MISTRAL;
    default: return LLM_TOOLS_TEXT;
    }
}

enum llm_tools llm_chat_tools(const struct llm_model *model)
{
    return llm_chat_tools_of(&model->vocab);
}

const char *llm_chat_system(const struct llm_model *model, size_t *ret_len)
{
    return llm_chat_detect(&model->vocab) == CHAT_CHATML ? llm_chat_default_system(&model->vocab, ret_len) : NULL;
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static bool is_role(const struct llm_message *msg, const char *role)
{
    return strcmp(msg->role, role) == 0;
}

/* Beside the three that every template has. */
static bool is_tool_role(const struct llm_message *m, size_t at, enum llm_tools tools)
{
    if (tools == LLM_TOOLS_TEXT)
        return false;
    return is_role(m, "tool") || (is_role(m, "tools") && at == 0) || (is_role(m, "calls") && tools != LLM_TOOLS_LLAMA3);
}

/* Does the text hold a marker that this vocabulary cannot tell from text? */
static const char *forged_marker(const struct llm_vocab *v, const struct chat_template *t,
                                 const struct llm_message *msg)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(t->marks) && t->marks[i]; i++)
        if (llm_vocab_control(v, t->marks[i]) < 0 && memmem(msg->text, msg->text_len, t->marks[i], strlen(t->marks[i])))
            return t->marks[i];
    return NULL;
}

static dbe_err check_messages(const struct llm_vocab *v, const struct chat_template *t, const struct llm_message *msgs,
                              size_t count, struct dbe_diag *diag)
{
    const enum llm_tools tools = llm_chat_tools_of(v);
    size_t total = 0;

    if (count == 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, "messages", 0, "a chat needs at least one message");
    if (count > LLM_MESSAGES_MAX)
        return dbe_fail(diag, DBE_E_LIMIT, "messages", count, "%zu messages, at most %d", count, LLM_MESSAGES_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct llm_message *m = &msgs[i];
        if (!m->role || (!m->text && m->text_len > 0) ||
            !(is_role(m, "system") || is_role(m, "user") || is_role(m, "assistant") || is_tool_role(m, i, tools)))
            return dbe_fail(diag, DBE_E_ARGUMENT, "messages", i,
                            "message %zu: its role is not system, user or assistant", i);
        const char *forged = m->text ? forged_marker(v, t, m) : NULL;
        if (forged)
            return dbe_fail(diag, DBE_E_ARGUMENT, "messages", i,
                            "message %zu: holds \"%s\", which this model would take for the chat's own mark", i,
                            forged);
        total += m->text_len;
        if (m->text_len > CHAT_BYTES_MAX || total > CHAT_BYTES_MAX)
            return dbe_fail(diag, DBE_E_TOO_LARGE, "messages", i, "more than %d bytes of text", CHAT_BYTES_MAX);
    }
    return DBE_OK;
}

dbe_err llm_chat_render(const struct llm_model *model, const struct llm_message *msgs, size_t count,
                        struct llm_tokens *out, struct dbe_diag *diag)
{
    const enum chat_kind kind = llm_chat_detect(&model->vocab);
    const size_t before = out->count;

    DBE_TRY(check_messages(&model->vocab, &templates[kind], msgs, count, diag));
    const dbe_err err = llm_chat_write(kind, &model->vocab, msgs, count, out);
    if (err != DBE_OK) {
        out->count = before;
        return dbe_fail(diag, err, "messages", 0, "%s", dbe_err_text(err));
    }
    return DBE_OK;
}
