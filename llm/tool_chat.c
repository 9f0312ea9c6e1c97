/* SPDX-License-Identifier: Apache-2.0
 *
 * tool_chat.c - the verb run with -i: a conversation, line by line.
 *
 * In:   lines of standard input; one that ends in a backslash goes on in the next.
 * Out:  answers on standard output, as they come; what is no answer on standard error.
 * Does: Ctrl-C stops an answer, or clears the line; Ctrl-D ends. Where the context is full, the oldest turn goes.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "grammar.h"
#include "tool.h"

enum { TURNS_MAX = 1024, TEXT_BYTES_MAX = 4 << 20, LEAST_ANSWER = 16, ANSWER_DEFAULT = 1024 };

struct turn {
    struct base_buf user, assistant;
};

struct chat {
    const struct tool_args *a;
    struct llm_model *m;
    struct llm_grammar *grammar;
    struct turn *turns; /* [TURNS_MAX] */
    size_t count;
    bool terminal;
    char read[4096]; /* of standard input, and how much of it was taken */
    size_t read_len, read_at;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

/* ---- turns ------------------------------------------------------------------------------------------------------- */

static void forget(struct chat *c, size_t at)
{
    base_buf_free(&c->turns[at].user);
    base_buf_free(&c->turns[at].assistant);
    memmove(c->turns + at, c->turns + at + 1, (c->count - at - 1) * sizeof *c->turns);
    c->count--;
}

static void forget_oldest(struct chat *c)
{
    forget(c, 0);
    fputs("[the context is full: the oldest turn is forgotten]\n", stderr);
}

static dbe_err render(const struct chat *c, struct llm_tokens *out, struct dbe_diag *diag)
{
    BASE_AUTO_FREE struct llm_message *msgs = base_alloc(2 * c->count + 1, sizeof *msgs);
    size_t n = 0;

    if (!msgs)
        return DBE_E_NOMEM;
    if (c->a->system)
        msgs[n++] = (struct llm_message){"system", c->a->system, strlen(c->a->system)};
    for (size_t i = 0; i < c->count; i++) {
        const struct turn *t = &c->turns[i];
        msgs[n++] = (struct llm_message){"user", base_buf_cstr(&c->turns[i].user), t->user.len};
        if (i + 1 < c->count)
            msgs[n++] = (struct llm_message){"assistant", base_buf_cstr(&c->turns[i].assistant), t->assistant.len};
    }
    return llm_chat_render(c->m, msgs, n, out, diag);
}

/* The conversation as a session, without its oldest turns where they leave no room for an answer. */
static dbe_err begin(struct chat *c, struct llm_session **ret, struct dbe_diag *diag)
{
    static const uint8_t salt[LLM_SALT_BYTES] = {1}; /* the turns before are not computed again */
    const uint32_t n_ctx = llm_model_info(c->m)->n_ctx;
    struct llm_session_params params = c->a->sampling;
    struct llm_tokens prompt = {0};
    dbe_err err = render(c, &prompt, diag);

    while (err == DBE_OK && prompt.count + LEAST_ANSWER > n_ctx && c->count > 1) {
        forget_oldest(c);
        prompt.count = 0;
        err = render(c, &prompt, diag);
    }
    if (err == DBE_OK) {
        const uint32_t left = prompt.count < n_ctx ? n_ctx - (uint32_t)prompt.count : 0;
        params.max_tokens = BASE_MIN(c->a->n ? c->a->n : (uint32_t)ANSWER_DEFAULT, left);
        params.salt = salt;
        params.grammar = c->grammar;
        params.logprobs = 0; /* nowhere to tell them */
        params.echo = LLM_ECHO_NONE;
        err = llm_session_new(c->m, prompt.ids, prompt.count, &params, ret, diag);
    }
    llm_tokens_free(&prompt);
    return err;
}

static dbe_err answer(struct chat *c, struct dbe_diag *diag)
{
    struct llm_session *s = NULL;
    struct llm_piece piece = {0};
    dbe_err err = begin(c, &s, diag);
    struct base_buf *text = &c->turns[c->count - 1].assistant;

    while (err == DBE_OK && !piece.done && !interrupted) {
        err = llm_session_step(s, &piece);
        if (err != DBE_OK)
            break;
        tool_print_text(piece.text, piece.text_len);
        fflush(stdout);
        base_buf_bytes(text, piece.text, piece.text_len);
        err = text->err;
    }
    if (err == DBE_OK) {
        putchar('\n');
        fflush(stdout);
        fprintf(stderr, "[%u prompt tokens, %u answer tokens, finish: %s]\n", llm_session_prompt_tokens(s),
                llm_session_answer_tokens(s),
                !piece.done                         ? "stopped"
                : piece.finish == LLM_FINISH_LENGTH ? "length"
                                                    : "stop");
    }
    llm_session_free(s);
    return err;
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

/* The next byte of standard input, EOF at its end or when it was interrupted. Ctrl-C is let in while it waits and at no
 * other time, so that none is missed between looking and waiting. */
static int next_byte(struct chat *c)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    sigset_t none;

    if (c->read_at == c->read_len) {
        sigemptyset(&none);
        while (ppoll(&in, 1, NULL, &none) < 0)
            if (errno != EINTR || interrupted)
                return EOF;
        const ssize_t n = read(STDIN_FILENO, c->read, sizeof c->read);
        c->read_at = 0;
        c->read_len = n > 0 ? (size_t)n : 0;
        if (n <= 0)
            return EOF;
    }
    return (unsigned char)c->read[c->read_at++];
}

/* Ctrl-C from now on: taken as it comes, or kept until next_byte waits. */
static void let_interrupt(bool now)
{
    sigset_t one;

    sigemptyset(&one);
    sigaddset(&one, SIGINT);
    pthread_sigmask(now ? SIG_UNBLOCK : SIG_BLOCK, &one, NULL);
}

enum heard { HEARD_LINE, HEARD_NOTHING, HEARD_END, HEARD_TOO_MUCH };

/* A line and those that it goes on in. HEARD_NOTHING: an empty one, or Ctrl-C. */
static enum heard listen(struct chat *c, struct base_buf *out)
{
    const char *prompt = "> ";
    int ch = '\n', before;

    if (c->terminal) {
        fputs(prompt, stdout);
        fflush(stdout);
    }
    do {
        before = ch;
        ch = next_byte(c);
        if (ch == '\n' && before == '\\' && out->err == DBE_OK) { /* the line goes on */
            out->data[out->len - 1] = '\n';
            ch = ' ';
            if (c->terminal) {
                fputs(". ", stdout);
                fflush(stdout);
            }
            continue;
        }
        if (ch != '\n' && ch != EOF)
            base_buf_u8(out, (uint8_t)ch);
    } while (ch != '\n' && ch != EOF && !interrupted);
    if (interrupted) {
        putchar('\n');
        return HEARD_NOTHING;
    }
    if (ch == EOF && out->len == 0) {
        if (c->terminal)
            putchar('\n');
        return HEARD_END;
    }
    return out->err != DBE_OK ? HEARD_TOO_MUCH : out->len == 0 ? HEARD_NOTHING : HEARD_LINE;
}

/* One line and its answer; true: that was the last. */
static bool turn(struct chat *c)
{
    struct turn t;
    struct dbe_diag diag = {0};

    interrupted = 0;
    base_buf_init(&t.user, TEXT_BYTES_MAX);
    base_buf_init(&t.assistant, TEXT_BYTES_MAX);
    const enum heard heard = listen(c, &t.user);
    if (heard != HEARD_LINE) {
        base_buf_free(&t.user);
        if (heard == HEARD_TOO_MUCH)
            tool_say(DBE_E_TOO_LARGE, NULL);
        return heard == HEARD_END;
    }
    if (c->count == TURNS_MAX)
        forget_oldest(c);
    c->turns[c->count++] = t;
    interrupted = 0;
    let_interrupt(true);
    const dbe_err err = answer(c, &diag);
    let_interrupt(false);
    if (err != DBE_OK) {
        forget(c, c->count - 1);
        tool_say(err, &diag);
    }
    return false;
}

int tool_chat(const struct tool_args *a)
{
    struct chat c = {.a = a, .terminal = isatty(STDIN_FILENO) == 1};
    const struct sigaction act = {.sa_handler = on_interrupt}; /* without SA_RESTART: it ends a wait */
    struct sigaction old;
    struct dbe_diag diag = {0};

    if (a->prompt || a->json || a->raw || a->answers > 1 || a->draft)
        return tool_wrong("run -i takes no -p, --json, --raw, --n or --draft");
    c.m = tool_load(a);
    if (!c.m)
        return 1;
    c.turns = base_alloc(TURNS_MAX, sizeof *c.turns);
    const dbe_err err = c.turns ? tool_grammar(a, &c.grammar, &diag) : DBE_E_NOMEM;
    if (err == DBE_OK) {
        let_interrupt(false);
        sigaction(SIGINT, &act, &old);
        while (!turn(&c))
            ;
        sigaction(SIGINT, &old, NULL);
        let_interrupt(true);
    }
    while (c.count > 0)
        forget(&c, c.count - 1);
    base_free(c.turns);
    llm_grammar_free(c.grammar);
    llm_model_free(c.m);
    return err == DBE_OK ? 0 : tool_fail(err, &diag);
}
