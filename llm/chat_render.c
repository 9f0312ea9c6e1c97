/* SPDX-License-Identifier: Apache-2.0
 *
 * chat_render.c - the chat templates: messages between the marks that each family of models was trained with.
 *
 * In:  checked messages and the kind of template. Out: token ids.
 * Not: no choice of the template and no checks of the messages (chat.c).
 *
 * A mark that is a special token of the vocabulary is inserted by its id; everything else is collected and tokenised
 * together, as it was in training, without reading control tokens in it.
 */
#include <string.h>

#include "chat.h"

struct builder {
    const struct llm_vocab *v;
    struct base_buf text; /* not tokenised yet */
    bool begin;           /* it stands at the start or after a special token */
    bool strip;           /* and white space after that token is dropped */
    struct llm_tokens *out;
    dbe_err err;
};

/* ---- building ---------------------------------------------------------------------------------------------------- */

static bool is_white(uint32_t code)
{
    return (code >= 0x1c && code <= 0x1f) || llm_unicode_class(code) == UNI_SPACE;
}

static void flush(struct builder *b)
{
    const char *p = (const char *)b->text.data;
    size_t n = b->text.len;

    if (b->err == DBE_OK && b->text.err != DBE_OK)
        b->err = b->text.err;
    while (b->strip && n > 0 && (*p == ' ' || (*p >= '\t' && *p <= '\r'))) {
        p++;
        n--;
    }
    if (b->err == DBE_OK && n > 0) {
        b->err = llm_vocab_tokenize(b->v, p, n, b->begin, b->out);
        b->begin = b->strip = false;
    }
    base_buf_clear(&b->text);
}

static void put_id(struct builder *b, int32_t id)
{
    if (id < 0)
        return;
    flush(b);
    if (b->err == DBE_OK)
        b->err = llm_tokens_push(b->out, id);
    b->begin = true;
    b->strip = llm_vocab_strips(b->v, id);
}

static void put_text(struct builder *b, const char *text, size_t len)
{
    base_buf_bytes(&b->text, text, len);
}

static void put_words(struct builder *b, const char *words)
{
    put_text(b, words, strlen(words));
}

/* Ours: "<|im_end|>", by its id where the vocabulary has it. */
static void put_mark(struct builder *b, const char *mark)
{
    const int32_t id = llm_vocab_special(b->v, mark);

    if (id >= 0)
        put_id(b, id);
    else
        put_words(b, mark);
}

static void put_message(struct builder *b, const struct llm_message *msg)
{
    put_text(b, msg->text, msg->text_len);
}

/* Length of the text without white space at its end. */
static size_t trimmed_end(const char *p, size_t len)
{
    while (len > 0) {
        size_t n = 1, step;
        while (n < 4 && n < len && ((uint8_t)p[len - n] & 0xc0) == 0x80)
            n++;
        if (!is_white(llm_utf8_next(p + len - n, n, &step)) || step != n)
            break;
        len -= n;
    }
    return len;
}

static void put_trimmed(struct builder *b, const struct llm_message *msg)
{
    const char *p = msg->text;
    size_t len = trimmed_end(p, msg->text_len), step;

    while (len > 0 && is_white(llm_utf8_next(p, len, &step))) {
        p += step;
        len -= step;
    }
    put_text(b, p, len);
}

static bool is_role(const struct llm_message *msg, const char *role)
{
    return strcmp(msg->role, role) == 0;
}

static void put_bos_if_asked(struct builder *b)
{
    if (b->v->add_bos)
        put_id(b, b->v->bos);
}

/* ---- thoughts ---------------------------------------------------------------------------------------------------- */

#define THOUGHT_END "</think>"

/* What an answer of old says after its thoughts, which models that think are not shown again; `trim` drops the line
 * feeds between the two. */
static struct llm_message without_thoughts(const struct llm_message *msg, bool trim)
{
    const size_t mark = strlen(THOUGHT_END);
    struct llm_message rest = *msg;

    for (const char *p; (p = memmem(rest.text, rest.text_len, THOUGHT_END, mark));) {
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

static bool holds(const struct builder *b, const char *words)
{
    return strstr(b->v->chat_template, words) != NULL;
}

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

static void put_turn(struct builder *b, const char *role, const char *text, size_t len)
{
    put_mark(b, "<|im_start|>");
    put_words(b, role);
    put_words(b, "\n");
    put_text(b, text, len);
    put_mark(b, "<|im_end|>");
    put_words(b, "\n");
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

static void render_chatml(struct builder *b, const struct llm_message *msgs, size_t count)
{
    const bool thinks = holds(b, "split('" THOUGHT_END "')");
    size_t len;
    const char *system = is_role(&msgs[0], "system") ? NULL : llm_chat_default_system(b->v, &len);

    put_bos_if_asked(b);
    if (system)
        put_turn(b, "system", system, len);
    for (size_t i = 0; i < count; i++) {
        const bool old = thinks && is_role(&msgs[i], "assistant");
        const struct llm_message msg = old ? without_thoughts(&msgs[i], true) : msgs[i];
        put_turn(b, msg.role, msg.text, msg.text_len);
    }
    put_mark(b, "<|im_start|>");
    put_words(b, "assistant\n");
    if (opens_thoughts(b->v)) {
        put_mark(b, "<think>");
        put_words(b, "\n");
    }
}

/* Phi-4 */
static void render_im_sep(struct builder *b, const struct llm_message *msgs, size_t count)
{
    put_bos_if_asked(b);
    for (size_t i = 0; i <= count; i++) {
        put_mark(b, "<|im_start|>");
        put_words(b, i < count ? msgs[i].role : "assistant");
        put_mark(b, "<|im_sep|>");
        if (i < count) {
            put_message(b, &msgs[i]);
            put_mark(b, "<|im_end|>");
        }
    }
}

/* ---- LLaMA ------------------------------------------------------------------------------------------------------- */

static void put_header(struct builder *b, const char *role)
{
    put_mark(b, "<|start_header_id|>");
    put_words(b, role);
    put_mark(b, "<|end_header_id|>");
    put_words(b, "\n\n");
}

/* From 3.1 on there is always a system message and it names two dates. The engine has no clock: today is the date that
 * the templates fall back to. */
static void render_llama3(struct builder *b, const struct llm_message *msgs, size_t count)
{
    const bool tools = is_role(&msgs[0], "tools"), dates = holds(b, "Cutting Knowledge Date: December 2023") || tools;
    size_t i = tools ? 1 : 0;

    put_id(b, b->v->bos);
    if (dates) {
        put_header(b, "system");
        put_words(b, tools ? "Environment: ipython\n" : "");
        put_words(b, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
        if (i < count && is_role(&msgs[i], "system"))
            put_trimmed(b, &msgs[i++]);
        put_mark(b, "<|eot_id|>");
    }
    for (; i < count; i++) {
        put_header(b, is_role(&msgs[i], "tool") ? "ipython" : msgs[i].role);
        put_trimmed(b, &msgs[i]);
        put_mark(b, "<|eot_id|>");
    }
    put_header(b, "assistant");
}

/* A system message goes into the user message that follows it; the two are trimmed as one. */
static void render_llama2(struct builder *b, const struct llm_message *msgs, size_t count)
{
    bool open = false;

    for (size_t i = 0; i < count; i++) {
        const struct llm_message *m = &msgs[i];
        if (is_role(m, "assistant")) {
            put_words(b, open ? " " : "");
            put_trimmed(b, m);
            put_words(b, " ");
            put_id(b, b->v->eos);
            open = false;
            continue;
        }
        const bool system = is_role(m, "system"), joined = i > 0 && is_role(&msgs[i - 1], "system");
        if (!open)
            put_id(b, b->v->bos);
        if (!joined) {
            put_mark(b, "[INST]");
            put_words(b, " ");
        }
        if (system) {
            put_words(b, "<<SYS>>\n");
            put_message(b, m);
            put_words(b, "\n<</SYS>>\n\n");
        } else if (joined) {
            put_text(b, m->text, trimmed_end(m->text, m->text_len));
        } else {
            put_trimmed(b, m);
        }
        if (!system || i + 1 == count || is_role(&msgs[i + 1], "assistant")) {
            put_words(b, " ");
            put_mark(b, "[/INST]");
        }
        open = true;
    }
}

/* ---- Mistral ----------------------------------------------------------------------------------------------------- */

enum system_place { SYSTEM_BEFORE_NEXT, SYSTEM_BEFORE_LAST, SYSTEM_ALONE };

struct mistral {
    const char *lead;  /* before [INST] */
    const char *gap;   /* after it */
    const char *tail;  /* before [/INST] */
    const char *reply; /* before an answer */
    bool trim;         /* answers */
    enum system_place place;
};

static size_t last_user(const struct llm_message *msgs, size_t count)
{
    while (count > 0 && !is_role(&msgs[count - 1], "user"))
        count--;
    return count > 0 ? count - 1 : SIZE_MAX;
}

/* A text of JSON between two marks. */
static void put_between(struct builder *b, const char *mark, const char *gap, const struct llm_message *msg,
                        const char *end)
{
    put_mark(b, mark);
    put_words(b, gap);
    put_message(b, msg);
    if (end)
        put_mark(b, end);
}

static void put_instruction(struct builder *b, const struct mistral *k, const struct llm_message *msgs, size_t i,
                            size_t count)
{
    size_t from = i;

    if (is_role(&msgs[0], "tools") && i == last_user(msgs, count))
        put_between(b, "[AVAILABLE_TOOLS]", k->gap, &msgs[0], "[/AVAILABLE_TOOLS]");
    put_words(b, k->lead);
    put_mark(b, "[INST]");
    put_words(b, k->gap);
    if (k->place == SYSTEM_BEFORE_LAST && i == last_user(msgs, count))
        from = 0;
    else if (k->place == SYSTEM_BEFORE_NEXT && is_role(&msgs[i], "user"))
        while (from > 0 && !is_role(&msgs[from - 1], "user"))
            from--;
    for (; from < i; from++)
        if (is_role(&msgs[from], "system")) {
            put_message(b, &msgs[from]);
            put_words(b, "\n\n");
        }
    put_message(b, &msgs[i]);
    put_words(b, k->tail);
    put_mark(b, "[/INST]");
}

/* A system message that no user message follows stands for one. */
static void render_mistral(struct builder *b, const struct mistral *k, const struct llm_message *msgs, size_t count)
{
    const size_t last = last_user(msgs, count);

    put_id(b, b->v->bos);
    for (size_t i = 0; i < count; i++) {
        const bool system = is_role(&msgs[i], "system");
        if (system && k->place == SYSTEM_ALONE) {
            put_mark(b, "[SYSTEM_PROMPT]");
            put_words(b, k->gap);
            put_message(b, &msgs[i]);
            put_mark(b, "[/SYSTEM_PROMPT]");
        } else if (is_role(&msgs[i], "user") || (system && (last == SIZE_MAX || i > last))) {
            put_instruction(b, k, msgs, i, count);
        } else if (is_role(&msgs[i], "calls")) {
            put_between(b, "[TOOL_CALLS]", k->gap, &msgs[i], NULL);
            put_id(b, b->v->eos);
        } else if (is_role(&msgs[i], "tool")) {
            put_between(b, "[TOOL_RESULTS]", k->gap, &msgs[i], "[/TOOL_RESULTS]");
        } else if (is_role(&msgs[i], "assistant")) {
            put_words(b, k->reply);
            if (k->trim)
                put_trimmed(b, &msgs[i]);
            else
                put_message(b, &msgs[i]);
            put_id(b, b->v->eos);
        }
    }
}

static void render_mistral_v0(struct builder *b, const struct llm_message *msgs, size_t count)
{
    static const struct mistral k = {"", " ", " ", "", false, SYSTEM_BEFORE_NEXT};

    render_mistral(b, &k, msgs, count);
}

static void render_mistral_v1(struct builder *b, const struct llm_message *msgs, size_t count)
{
    static const struct mistral k = {" ", " ", " ", " ", false, SYSTEM_BEFORE_NEXT};

    render_mistral(b, &k, msgs, count);
}

static void render_mistral_v3(struct builder *b, const struct llm_message *msgs, size_t count)
{
    static const struct mistral k = {"", " ", "", " ", true, SYSTEM_BEFORE_LAST};

    render_mistral(b, &k, msgs, count);
}

static void render_mistral_tekken(struct builder *b, const struct llm_message *msgs, size_t count)
{
    static const struct mistral k = {"", "", "", "", false, SYSTEM_BEFORE_LAST};

    render_mistral(b, &k, msgs, count);
}

static void render_mistral_v7(struct builder *b, const struct llm_message *msgs, size_t count)
{
    static const struct mistral spaced = {"", " ", "", " ", false, SYSTEM_ALONE};
    static const struct mistral dense = {"", "", "", "", false, SYSTEM_ALONE};

    render_mistral(b, holds(b, "[INST] ") ? &spaced : &dense, msgs, count);
}

/* ---- others ------------------------------------------------------------------------------------------------------ */

static void put_bar_role(struct builder *b, const char *role)
{
    put_mark(b, strcmp(role, "user") == 0 ? "<|user|>" : strcmp(role, "system") == 0 ? "<|system|>" : "<|assistant|>");
}

static void render_zephyr(struct builder *b, const struct llm_message *msgs, size_t count)
{
    put_bos_if_asked(b);
    for (size_t i = 0; i < count; i++) {
        put_bar_role(b, msgs[i].role);
        put_words(b, "\n");
        put_message(b, &msgs[i]);
        put_id(b, b->v->eos);
        put_words(b, "\n");
    }
    put_mark(b, "<|assistant|>");
    put_words(b, "\n");
}

/* Phi-4 mini writes no line feeds. */
static void render_phi3(struct builder *b, const struct llm_message *msgs, size_t count)
{
    const char *feed = holds(b, "'|>' + message['content'] + '<|end|>'") ? "" : "\n";

    put_bos_if_asked(b);
    for (size_t i = 0; i < count; i++) {
        put_bar_role(b, msgs[i].role);
        put_words(b, feed);
        put_message(b, &msgs[i]);
        put_mark(b, "<|end|>");
        put_words(b, feed);
    }
    put_mark(b, "<|assistant|>");
    put_words(b, feed);
}

/* There is no system role: such a message goes in front of the user message that follows it. */
static void render_gemma(struct builder *b, const struct llm_message *msgs, size_t count)
{
    put_id(b, b->v->bos);
    for (size_t i = 0; i < count; i++) {
        const bool system = is_role(&msgs[i], "system");
        if (i == 0 || !is_role(&msgs[i - 1], "system")) {
            put_mark(b, "<start_of_turn>");
            put_words(b, is_role(&msgs[i], "assistant") ? "model\n" : "user\n");
        }
        if (system && i + 1 < count && !is_role(&msgs[i + 1], "assistant")) {
            put_message(b, &msgs[i]);
            put_words(b, "\n\n");
            continue;
        }
        put_trimmed(b, &msgs[i]);
        put_mark(b, "<end_of_turn>");
        put_words(b, "\n");
        if (system && i + 1 < count) { /* an answer follows at once: it has a turn of its own */
            put_mark(b, "<start_of_turn>");
            put_words(b, "model\n");
        }
    }
    put_mark(b, "<start_of_turn>");
    put_words(b, "model\n");
}

static void render_deepseek(struct builder *b, const struct llm_message *msgs, size_t count)
{
    put_id(b, b->v->bos);
    for (size_t i = 0; i < count; i++) {
        if (is_role(&msgs[i], "assistant")) {
            const struct llm_message msg = without_thoughts(&msgs[i], false);
            put_mark(b, CHAT_DEEPSEEK_ASSISTANT);
            put_message(b, &msg);
            put_id(b, b->v->eos);
            continue;
        }
        if (is_role(&msgs[i], "user"))
            put_mark(b, CHAT_DEEPSEEK_USER);
        put_message(b, &msgs[i]);
    }
    put_mark(b, CHAT_DEEPSEEK_ASSISTANT);
    if (holds(b, CHAT_DEEPSEEK_ASSISTANT "<think>\\n")) {
        put_mark(b, "<think>");
        put_words(b, "\n");
    }
}

static void render_plain(struct builder *b, const struct llm_message *msgs, size_t count)
{
    put_bos_if_asked(b);
    for (size_t i = 0; i < count; i++) {
        put_words(b, msgs[i].role);
        put_words(b, ": ");
        put_message(b, &msgs[i]);
        put_words(b, "\n");
    }
    put_words(b, "assistant:");
}

dbe_err llm_chat_write(enum chat_kind kind, const struct llm_vocab *v, const struct llm_message *msgs, size_t count,
                       struct llm_tokens *out)
{
    static void (*const render[CHAT_KINDS])(struct builder *, const struct llm_message *, size_t) = {
        [CHAT_PLAIN] = render_plain,
        [CHAT_CHATML] = render_chatml,
        [CHAT_IM_SEP] = render_im_sep,
        [CHAT_LLAMA2] = render_llama2,
        [CHAT_LLAMA3] = render_llama3,
        [CHAT_ZEPHYR] = render_zephyr,
        [CHAT_MISTRAL] = render_mistral_v0,
        [CHAT_MISTRAL_V1] = render_mistral_v1,
        [CHAT_MISTRAL_V3] = render_mistral_v3,
        [CHAT_MISTRAL_TEKKEN] = render_mistral_tekken,
        [CHAT_MISTRAL_V7] = render_mistral_v7,
        [CHAT_GEMMA] = render_gemma,
        [CHAT_PHI3] = render_phi3,
        [CHAT_DEEPSEEK] = render_deepseek,
    };
    struct builder b = {.v = v, .out = out, .begin = true};

    base_buf_init(&b.text, CHAT_BYTES_MAX + 4096);
    render[kind](&b, msgs, count);
    flush(&b);
    base_buf_free(&b.text);
    return b.err;
}
