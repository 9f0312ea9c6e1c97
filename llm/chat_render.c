/* SPDX-License-Identifier: Apache-2.0
 *
 * chat_render.c - the chat templates: messages between the marks that each family of models was trained with.
 *
 * In:  checked messages and the kind of template. Out: token ids.
 * Not: no choice of the template and no checks of the messages (chat.c); templates with [INST] are in chat_inst.c.
 */
#include <string.h>

#include "chat_build.h"

/* ---- thoughts ---------------------------------------------------------------------------------------------------- */

#define THOUGHT_END "</think>"

/* What an answer of old says after its thoughts, which models that think are not shown again; `trim` drops the line
 * feeds between the two. */
static struct llm_message without_thoughts(const struct llm_message *msg, bool trim)
{
    const size_t mark = strlen(THOUGHT_END);
    struct llm_message rest = *msg;

    for (const char *p; rest.text && (p = memmem(rest.text, rest.text_len, THOUGHT_END, mark));) {
        rest.text_len -= (size_t)(p - rest.text) + mark;
        rest.text = p + mark;
    }
    while (trim && rest.text != msg->text && rest.text_len > 0 && rest.text[0] == '\n') {
        rest.text++;
        rest.text_len--;
    }
    return rest;
}

/* ---- chatml ------------------------------------------------------------------------------------------------------ */

/* The system message that the template writes itself when a chat brings none: literal text between the marks, which
 * templates write with a line feed or with \n. */
const char *llm_chat_default_system(const struct llm_vocab *v, size_t *ret_len)
{
    static const char open[] = "<|im_start|>system";

    for (const char *p = v->chat_template; (p = strstr(p, open));) {
        p += strlen(open);
        const size_t skip = p[0] == '\n' ? 1 : p[0] == '\\' && p[1] == 'n' ? 2 : 0;
        const size_t len = strcspn(p + skip, "'\"{}\\<");
        if (skip > 0 && len > 0 && strncmp(p + skip + len, "<|im_end|>", 10) == 0) {
            *ret_len = len;
            return p + skip;
        }
    }
    return NULL;
}

static void put_turn(struct chat_builder *b, const char *role, const char *text, size_t len)
{
    chat_put_mark(b, "<|im_start|>");
    chat_put_words(b, role);
    chat_put_words(b, "\n");
    chat_put_text(b, text, len);
    chat_put_mark(b, "<|im_end|>");
    chat_put_words(b, "\n");
}

/* Does the template open the answer's thoughts itself? Literal text that ends behind the mark; one that goes on with an
 * end of thoughts is for answers without. */
static bool opens_thoughts(const struct llm_vocab *v)
{
    static const char *const opens[] = {"<|im_start|>assistant\\n<think>\\n", "<|im_start|>assistant\n<think>\n"};

    for (size_t i = 0; i < BASE_ARRAY_LEN(opens); i++) {
        const size_t len = strlen(opens[i]);
        for (const char *p = v->chat_template; (p = strstr(p, opens[i])); p += len)
            if (p[len] != '\\' && p[len] != '\n' && p[len] != '<')
                return true;
    }
    return false;
}

static void render_chatml(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    const bool thinks = chat_holds(b, "split('" THOUGHT_END "')");
    size_t len;
    const char *system = chat_is_role(&msgs[0], "system") ? NULL : llm_chat_default_system(b->v, &len);

    chat_put_bos_if_asked(b);
    if (system)
        put_turn(b, "system", system, len);
    for (size_t i = 0; i < count; i++) {
        const bool old = thinks && chat_is_role(&msgs[i], "assistant");
        const struct llm_message msg = old ? without_thoughts(&msgs[i], true) : msgs[i];
        put_turn(b, msg.role, msg.text, msg.text_len);
    }
    chat_put_mark(b, "<|im_start|>");
    chat_put_words(b, "assistant\n");
    if (opens_thoughts(b->v)) {
        chat_put_mark(b, "<think>");
        chat_put_words(b, "\n");
    }
}

/* Phi-4 */
static void render_im_sep(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    chat_put_bos_if_asked(b);
    for (size_t i = 0; i <= count; i++) {
        chat_put_mark(b, "<|im_start|>");
        chat_put_words(b, i < count ? msgs[i].role : "assistant");
        chat_put_mark(b, "<|im_sep|>");
        if (i < count) {
            chat_put_message(b, &msgs[i]);
            chat_put_mark(b, "<|im_end|>");
        }
    }
}

/* ---- LLaMA ------------------------------------------------------------------------------------------------------- */

static void put_header(struct chat_builder *b, const char *role)
{
    chat_put_mark(b, "<|start_header_id|>");
    chat_put_words(b, role);
    chat_put_mark(b, "<|end_header_id|>");
    chat_put_words(b, "\n\n");
}

/* From 3.1 on there is always a system message and it names two dates. The engine has no clock: today is the date that
 * the templates fall back to. */
static void render_llama3(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    const bool tools = chat_is_role(&msgs[0], "tools"),
               dates = chat_holds(b, "Cutting Knowledge Date: December 2023") || tools;
    size_t i = tools ? 1 : 0;

    chat_put_id(b, b->v->bos);
    if (dates) {
        put_header(b, "system");
        chat_put_words(b, tools ? "Environment: ipython\n" : "");
        chat_put_words(b, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
        if (i < count && chat_is_role(&msgs[i], "system"))
            chat_put_trimmed(b, &msgs[i++]);
        chat_put_mark(b, "<|eot_id|>");
    }
    for (; i < count; i++) {
        put_header(b, chat_is_role(&msgs[i], "tool") ? "ipython" : msgs[i].role);
        chat_put_trimmed(b, &msgs[i]);
        chat_put_mark(b, "<|eot_id|>");
    }
    put_header(b, "assistant");
}

/* ---- others ------------------------------------------------------------------------------------------------------ */

static void put_bar_role(struct chat_builder *b, const char *role)
{
    chat_put_mark(b, strcmp(role, "user") == 0     ? "<|user|>"
                     : strcmp(role, "system") == 0 ? "<|system|>"
                                                   : "<|assistant|>");
}

static void render_zephyr(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    chat_put_bos_if_asked(b);
    for (size_t i = 0; i < count; i++) {
        put_bar_role(b, msgs[i].role);
        chat_put_words(b, "\n");
        chat_put_message(b, &msgs[i]);
        chat_put_id(b, b->v->eos);
        chat_put_words(b, "\n");
    }
    chat_put_mark(b, "<|assistant|>");
    chat_put_words(b, "\n");
}

/* Phi-4 mini writes no line feeds. */
static void render_phi3(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    const char *feed = chat_holds(b, "'|>' + message['content'] + '<|end|>'") ? "" : "\n";

    chat_put_bos_if_asked(b);
    for (size_t i = 0; i < count; i++) {
        put_bar_role(b, msgs[i].role);
        chat_put_words(b, feed);
        chat_put_message(b, &msgs[i]);
        chat_put_mark(b, "<|end|>");
        chat_put_words(b, feed);
    }
    chat_put_mark(b, "<|assistant|>");
    chat_put_words(b, feed);
}

/* There is no system role: such a message goes in front of the user message that follows it. */
static void render_gemma(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    chat_put_id(b, b->v->bos);
    for (size_t i = 0; i < count; i++) {
        const bool system = chat_is_role(&msgs[i], "system");
        if (i == 0 || !chat_is_role(&msgs[i - 1], "system")) {
            chat_put_mark(b, "<start_of_turn>");
            chat_put_words(b, chat_is_role(&msgs[i], "assistant") ? "model\n" : "user\n");
        }
        if (system && i + 1 < count && !chat_is_role(&msgs[i + 1], "assistant")) {
            chat_put_message(b, &msgs[i]);
            chat_put_words(b, "\n\n");
            continue;
        }
        chat_put_trimmed(b, &msgs[i]);
        chat_put_mark(b, "<end_of_turn>");
        chat_put_words(b, "\n");
        if (system && i + 1 < count) { /* an answer follows at once: it has a turn of its own */
            chat_put_mark(b, "<start_of_turn>");
            chat_put_words(b, "model\n");
        }
    }
    chat_put_mark(b, "<start_of_turn>");
    chat_put_words(b, "model\n");
}

static void render_deepseek(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    chat_put_id(b, b->v->bos);
    for (size_t i = 0; i < count; i++) {
        if (chat_is_role(&msgs[i], "assistant")) {
            const struct llm_message msg = without_thoughts(&msgs[i], false);
            chat_put_mark(b, CHAT_DEEPSEEK_ASSISTANT);
            chat_put_message(b, &msg);
            chat_put_id(b, b->v->eos);
            continue;
        }
        if (chat_is_role(&msgs[i], "user"))
            chat_put_mark(b, CHAT_DEEPSEEK_USER);
        chat_put_message(b, &msgs[i]);
    }
    chat_put_mark(b, CHAT_DEEPSEEK_ASSISTANT);
    if (chat_holds(b, CHAT_DEEPSEEK_ASSISTANT "<think>\\n")) {
        chat_put_mark(b, "<think>");
        chat_put_words(b, "\n");
    }
}

static void render_plain(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    chat_put_bos_if_asked(b);
    for (size_t i = 0; i < count; i++) {
        chat_put_words(b, msgs[i].role);
        chat_put_words(b, ": ");
        chat_put_message(b, &msgs[i]);
        chat_put_words(b, "\n");
    }
    chat_put_words(b, "assistant:");
}

dbe_err llm_chat_write(enum chat_kind kind, const struct llm_vocab *v, const struct llm_message *msgs, size_t count,
                       struct llm_tokens *out)
{
    static chat_render_fn *const render[CHAT_KINDS] = {
        [CHAT_PLAIN] = render_plain,
        [CHAT_CHATML] = render_chatml,
        [CHAT_IM_SEP] = render_im_sep,
        [CHAT_LLAMA2] = chat_render_llama2,
        [CHAT_LLAMA3] = render_llama3,
        [CHAT_ZEPHYR] = render_zephyr,
        [CHAT_MISTRAL] = chat_render_mistral_v0,
        [CHAT_MISTRAL_V1] = chat_render_mistral_v1,
        [CHAT_MISTRAL_V3] = chat_render_mistral_v3,
        [CHAT_MISTRAL_TEKKEN] = chat_render_mistral_tekken,
        [CHAT_MISTRAL_V7] = chat_render_mistral_v7,
        [CHAT_GEMMA] = render_gemma,
        [CHAT_PHI3] = render_phi3,
        [CHAT_DEEPSEEK] = render_deepseek,
    };
    struct chat_builder b = {.v = v, .out = out, .begin = true};

    base_buf_init(&b.text, CHAT_BYTES_MAX + 4096);
    render[kind](&b, msgs, count);
    chat_put_end(&b);
    base_buf_free(&b.text);
    return b.err;
}
