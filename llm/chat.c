/* SPDX-License-Identifier: Apache-2.0
 *
 * chat.c - renders chat messages as token ids.
 *
 * A prompt is built from markers of ours and texts of others. A marker that is a control token of the vocabulary is
 * inserted by its id; everything else is collected and tokenised together, as it was in training, without reading
 * control tokens in it. So no text can end a turn or begin one where the model's markers are control tokens. The
 * markers of LLaMA 2 ("[INST]") and Zephyr ("<|user|>") are plain text in those models; there a message that contains
 * them is refused.
 */
#include "chat.h"

#include <string.h>

#include "model.h"

enum { CHAT_BYTES_MAX = LLM_TEXT_BYTES_MAX };

struct builder {
    const struct llm_vocab *v;
    struct base_buf text; /* not tokenised yet */
    bool begin;
    struct llm_tokens *out;
    dbe_err err;
};

/* ---- building ---------------------------------------------------------------------------------------------------- */

static void flush(struct builder *b)
{
    if (b->err == DBE_OK && b->text.err != DBE_OK)
        b->err = b->text.err;
    if (b->err == DBE_OK && b->text.len > 0) {
        b->err = llm_vocab_tokenize(b->v, (const char *)b->text.data, b->text.len, b->begin, b->out);
        b->begin = false;
    }
    base_buf_clear(&b->text);
}

static void put_id(struct builder *b, int32_t id)
{
    flush(b);
    if (b->err == DBE_OK)
        b->err = llm_tokens_push(b->out, id);
    b->begin = true;
}

static void put_text(struct builder *b, const char *text, size_t len)
{
    base_buf_bytes(&b->text, text, len);
}

/* Ours: "<|im_end|>", by its id where the vocabulary has it. */
static void put_marker(struct builder *b, const char *marker)
{
    const int32_t id = llm_vocab_control(b->v, marker);

    if (id >= 0)
        put_id(b, id);
    else
        put_text(b, marker, strlen(marker));
}

static void put_words(struct builder *b, const char *words)
{
    put_text(b, words, strlen(words));
}

static void put_trimmed(struct builder *b, const struct llm_message *msg)
{
    const char *p = msg->text;
    size_t n = msg->text_len;

    while (n > 0 && strchr(" \t\r\n", p[0]) && p[0] != '\0') {
        p++;
        n--;
    }
    while (n > 0 && strchr(" \t\r\n", p[n - 1]) && p[n - 1] != '\0')
        n--;
    put_text(b, p, n);
}

static void put_bos(struct builder *b)
{
    if (b->v->bos >= 0)
        put_id(b, b->v->bos);
}

static void put_eos(struct builder *b)
{
    if (b->v->eos >= 0)
        put_id(b, b->v->eos);
}

static bool is_role(const struct llm_message *msg, const char *role)
{
    return strcmp(msg->role, role) == 0;
}

/* ---- templates --------------------------------------------------------------------------------------------------- */

static void render_chatml(struct builder *b, const struct llm_message *msgs, size_t count)
{
    if (b->v->add_bos)
        put_bos(b);
    for (size_t i = 0; i < count; i++) {
        put_marker(b, "<|im_start|>");
        put_words(b, msgs[i].role);
        put_words(b, "\n");
        put_text(b, msgs[i].text, msgs[i].text_len);
        put_marker(b, "<|im_end|>");
        put_words(b, "\n");
    }
    put_marker(b, "<|im_start|>");
    put_words(b, "assistant\n");
}

static void render_llama3(struct builder *b, const struct llm_message *msgs, size_t count)
{
    put_bos(b);
    for (size_t i = 0; i <= count; i++) {
        put_marker(b, "<|start_header_id|>");
        put_words(b, i < count ? msgs[i].role : "assistant");
        put_marker(b, "<|end_header_id|>");
        put_words(b, "\n\n");
        if (i < count) {
            put_trimmed(b, &msgs[i]);
            put_marker(b, "<|eot_id|>");
        }
    }
}

static void render_zephyr(struct builder *b, const struct llm_message *msgs, size_t count)
{
    if (b->v->add_bos)
        put_bos(b);
    for (size_t i = 0; i < count; i++) {
        put_words(b, "<|");
        put_words(b, msgs[i].role);
        put_words(b, "|>\n");
        put_text(b, msgs[i].text, msgs[i].text_len);
        put_eos(b);
        put_words(b, "\n");
    }
    put_words(b, "<|assistant|>\n");
}

/* A system message goes into the user message that follows it. */
static void render_llama2(struct builder *b, const struct llm_message *msgs, size_t count)
{
    bool open = false;

    for (size_t i = 0; i < count; i++) {
        if (is_role(&msgs[i], "assistant")) {
            put_words(b, open ? " " : "");
            put_trimmed(b, &msgs[i]);
            put_words(b, " ");
            put_eos(b);
            open = false;
            continue;
        }
        const bool system = is_role(&msgs[i], "system");
        if (!open)
            put_bos(b);
        if (!open || i == 0 || !is_role(&msgs[i - 1], "system"))
            put_words(b, "[INST] ");
        put_words(b, system ? "<<SYS>>\n" : "");
        put_trimmed(b, &msgs[i]);
        put_words(b, system ? "\n<</SYS>>\n\n" : " [/INST]");
        open = true;
    }
    if (count > 0 && is_role(&msgs[count - 1], "system"))
        put_words(b, " [/INST]");
}

static void render_plain(struct builder *b, const struct llm_message *msgs, size_t count)
{
    if (b->v->add_bos)
        put_bos(b);
    for (size_t i = 0; i < count; i++) {
        put_words(b, msgs[i].role);
        put_words(b, ": ");
        put_text(b, msgs[i].text, msgs[i].text_len);
        put_words(b, "\n");
    }
    put_words(b, "assistant:");
}

/* ---- choice ------------------------------------------------------------------------------------------------------ */

struct chat_template {
    const char *name;
    const char *marker;       /* in tokenizer.chat_template */
    const char *forbidden[6]; /* markers that are plain text in such models */
    void (*render)(struct builder *, const struct llm_message *, size_t);
};

static const struct chat_template templates[] = {
    [CHAT_PLAIN] = {"plain", NULL, {NULL}, render_plain},
    [CHAT_CHATML] = {"chatml", "<|im_start|>", {"<|im_start|>", "<|im_end|>"}, render_chatml},
    [CHAT_LLAMA2] = {"llama2", "[INST]", {"[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"}, render_llama2},
    [CHAT_LLAMA3] = {"llama3",
                     "<|start_header_id|>",
                     {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
                     render_llama3},
    [CHAT_ZEPHYR] = {"zephyr", "<|user|>", {"<|user|>", "<|system|>", "<|assistant|>"}, render_zephyr},
};

enum chat_kind llm_chat_detect(const struct llm_vocab *v)
{
    static const enum chat_kind order[] = {CHAT_CHATML, CHAT_LLAMA3, CHAT_LLAMA2, CHAT_ZEPHYR};

    for (size_t i = 0; i < BASE_ARRAY_LEN(order); i++)
        if (strstr(v->chat_template, templates[order[i]].marker))
            return order[i];
    /* no template in the file: the vocabulary's control tokens tell the family */
    if (llm_vocab_control(v, "<|im_start|>") >= 0 && llm_vocab_control(v, "<|im_end|>") >= 0)
        return CHAT_CHATML;
    return llm_vocab_control(v, "<|start_header_id|>") >= 0 ? CHAT_LLAMA3 : CHAT_PLAIN;
}

const char *llm_chat_name(enum chat_kind kind)
{
    return templates[kind].name;
}

/* Does the text hold a marker that this vocabulary cannot tell from text? */
static const char *forged_marker(const struct llm_vocab *v, const struct chat_template *t,
                                 const struct llm_message *msg)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(t->forbidden) && t->forbidden[i]; i++)
        if (llm_vocab_control(v, t->forbidden[i]) < 0 &&
            memmem(msg->text, msg->text_len, t->forbidden[i], strlen(t->forbidden[i])))
            return t->forbidden[i];
    return NULL;
}

static dbe_err check_messages(const struct llm_vocab *v, const struct chat_template *t, const struct llm_message *msgs,
                              size_t count, struct dbe_diag *diag)
{
    size_t total = 0;

    if (count == 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, "messages", 0, "a chat needs at least one message");
    if (count > LLM_MESSAGES_MAX)
        return dbe_fail(diag, DBE_E_LIMIT, "messages", count, "%zu messages, at most %d", count, LLM_MESSAGES_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct llm_message *m = &msgs[i];
        if (!m->role || (!m->text && m->text_len > 0) ||
            !(is_role(m, "system") || is_role(m, "user") || is_role(m, "assistant")))
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
    const struct chat_template *t = &templates[llm_chat_detect(&model->vocab)];
    struct builder b = {.v = &model->vocab, .begin = true, .out = out};
    const size_t before = out->count;

    DBE_TRY(check_messages(&model->vocab, t, msgs, count, diag));
    base_buf_init(&b.text, CHAT_BYTES_MAX + 4096);
    t->render(&b, msgs, count);
    flush(&b);
    base_buf_free(&b.text);
    if (b.err != DBE_OK) {
        out->count = before;
        return dbe_fail(diag, b.err, "messages", 0, "%s", dbe_err_text(b.err));
    }
    return DBE_OK;
}
