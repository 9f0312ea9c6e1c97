/* SPDX-License-Identifier: Apache-2.0
 *
 * chat_inst.c - the templates that write [INST]: LLaMA 2 and Mistral's. They differ in spaces and in where a system
 * message goes.
 *
 * In:  checked messages. Out: a prompt.
 */
#include "chat_build.h"

/* ---- LLaMA 2 ----------------------------------------------------------------------------------------------------- */

/* A system message goes into the user message that follows it; the two are trimmed as one. */
void chat_render_llama2(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    bool open = false;

    for (size_t i = 0; i < count; i++) {
        const struct llm_message *m = &msgs[i];
        if (chat_is_role(m, "assistant")) {
            chat_put_words(b, open ? " " : "");
            chat_put_trimmed(b, m);
            chat_put_words(b, " ");
            chat_put_id(b, b->v->eos);
            open = false;
            continue;
        }
        const bool system = chat_is_role(m, "system"), joined = i > 0 && chat_is_role(&msgs[i - 1], "system");
        if (!open)
            chat_put_id(b, b->v->bos);
        if (!joined) {
            chat_put_mark(b, "[INST]");
            chat_put_words(b, " ");
        }
        if (system) {
            chat_put_words(b, "<<SYS>>\n");
            chat_put_message(b, m);
            chat_put_words(b, "\n<</SYS>>\n\n");
        } else if (joined) {
            chat_put_text(b, m->text, chat_trimmed_end(m->text, m->text_len));
        } else {
            chat_put_trimmed(b, m);
        }
        if (!system || i + 1 == count || chat_is_role(&msgs[i + 1], "assistant")) {
            chat_put_words(b, " ");
            chat_put_mark(b, "[/INST]");
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
    while (count > 0 && !chat_is_role(&msgs[count - 1], "user"))
        count--;
    return count > 0 ? count - 1 : SIZE_MAX;
}

/* A text of JSON between two marks. */
static void put_between(struct chat_builder *b, const char *mark, const char *gap, const struct llm_message *msg,
                        const char *end)
{
    chat_put_mark(b, mark);
    chat_put_words(b, gap);
    chat_put_message(b, msg);
    if (end)
        chat_put_mark(b, end);
}

static void put_instruction(struct chat_builder *b, const struct mistral *k, const struct llm_message *msgs, size_t i,
                            size_t count)
{
    size_t from = i;

    if (chat_is_role(&msgs[0], "tools") && i == last_user(msgs, count))
        put_between(b, "[AVAILABLE_TOOLS]", k->gap, &msgs[0], "[/AVAILABLE_TOOLS]");
    chat_put_words(b, k->lead);
    chat_put_mark(b, "[INST]");
    chat_put_words(b, k->gap);
    if (k->place == SYSTEM_BEFORE_LAST && i == last_user(msgs, count))
        from = 0;
    else if (k->place == SYSTEM_BEFORE_NEXT && chat_is_role(&msgs[i], "user"))
        while (from > 0 && !chat_is_role(&msgs[from - 1], "user"))
            from--;
    for (; from < i; from++)
        if (chat_is_role(&msgs[from], "system")) {
            chat_put_message(b, &msgs[from]);
            chat_put_words(b, "\n\n");
        }
    chat_put_message(b, &msgs[i]);
    chat_put_words(b, k->tail);
    chat_put_mark(b, "[/INST]");
}

/* A system message that no user message follows stands for one. */
static void render_mistral(struct chat_builder *b, const struct mistral *k, const struct llm_message *msgs,
                           size_t count)
{
    const size_t last = last_user(msgs, count);

    chat_put_id(b, b->v->bos);
    for (size_t i = 0; i < count; i++) {
        const bool system = chat_is_role(&msgs[i], "system");
        if (system && k->place == SYSTEM_ALONE) {
            chat_put_mark(b, "[SYSTEM_PROMPT]");
            chat_put_words(b, k->gap);
            chat_put_message(b, &msgs[i]);
            chat_put_mark(b, "[/SYSTEM_PROMPT]");
        } else if (chat_is_role(&msgs[i], "user") || (system && (last == SIZE_MAX || i > last))) {
            put_instruction(b, k, msgs, i, count);
        } else if (chat_is_role(&msgs[i], "calls")) {
            put_between(b, "[TOOL_CALLS]", k->gap, &msgs[i], NULL);
            chat_put_id(b, b->v->eos);
        } else if (chat_is_role(&msgs[i], "tool")) {
            put_between(b, "[TOOL_RESULTS]", k->gap, &msgs[i], "[/TOOL_RESULTS]");
        } else if (chat_is_role(&msgs[i], "assistant")) {
            chat_put_words(b, k->reply);
            if (k->trim)
                chat_put_trimmed(b, &msgs[i]);
            else
                chat_put_message(b, &msgs[i]);
            chat_put_id(b, b->v->eos);
        }
    }
}

void chat_render_mistral_v0(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    static const struct mistral k = {"", " ", " ", "", false, SYSTEM_BEFORE_NEXT};

    render_mistral(b, &k, msgs, count);
}

void chat_render_mistral_v1(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    static const struct mistral k = {" ", " ", " ", " ", false, SYSTEM_BEFORE_NEXT};

    render_mistral(b, &k, msgs, count);
}

void chat_render_mistral_v3(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    static const struct mistral k = {"", " ", "", " ", true, SYSTEM_BEFORE_LAST};

    render_mistral(b, &k, msgs, count);
}

void chat_render_mistral_tekken(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    static const struct mistral k = {"", "", "", "", false, SYSTEM_BEFORE_LAST};

    render_mistral(b, &k, msgs, count);
}

void chat_render_mistral_v7(struct chat_builder *b, const struct llm_message *msgs, size_t count)
{
    static const struct mistral spaced = {"", " ", "", " ", false, SYSTEM_ALONE};
    static const struct mistral dense = {"", "", "", "", false, SYSTEM_ALONE};

    render_mistral(b, chat_holds(b, "[INST] ") ? &spaced : &dense, msgs, count);
}
