/* SPDX-License-Identifier: Apache-2.0
 *
 * talk.c - `dsmil chat`: a conversation with the mesh's model, on the terminal or over a pipe.
 *
 * In:   lines of standard input, each a turn or a /command
 * Out:  answers as they come, on standard output; everything about them on standard error
 * Not:  what a model says does not steer the terminal. Nothing is written to disk unless /save asks for it.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"

enum { API_KEY_MAX = 512, TURN_MAX_BYTES = 256 * 1024, MESSAGES_MAX = 1000, WORD_BYTES = 256, WIDTH_DEFAULT = 80 };

enum got { GOT_TURN, GOT_NOTHING, GOT_END };

struct talk {
    struct cli_paths paths;
    struct cli_chat chat;
    json_t *messages; /* user and assistant by turns; the system message is apart, so that it is never forgotten */
    json_t *last;     /* the last answer's "dsmil" object, or NULL */
    struct base_buf key, turn, system;
    bool asks, terminal, colour; /* asks: standard input is a terminal; terminal: standard output is */
    bool failed;
    /* the line that is being written */
    char word[WORD_BYTES];
    size_t word_len;
    unsigned column, width;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signo)
{
    (void)signo;
    interrupted = 1;
}

static int usage(FILE *out, int code)
{
    fputs(
        "usage: dsmil chat [OPTIONS]      a conversation with the mesh's model; each line is a turn\n\n"
        "  --system TEXT      system message\n"
        "  --model NAME       model or alias (default: what the mesh serves)\n"
        "  --max-tokens N     longest answer\n"
        "  --temperature X    0 to 2; 0 always takes the likeliest token\n"
        "  --seed N           same seed, same text\n\n"
        "A line that ends in a backslash goes on in the next. Ctrl-C stops an answer, Ctrl-D ends, /help tells more.\n"
        "Where standard input is no terminal there is no prompt, and the exit code is 1 if a turn failed.\n",
        out);
    return code;
}

/* A remark beside the conversation. */
DBE_PRINTF(2, 3) static void remark(const struct talk *t, const char *fmt, ...)
{
    va_list args;

    fflush(stdout);
    fputs(t->colour ? "\x1b[2m(" : "(", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputs(t->colour ? ")\x1b[0m\n" : ")\n", stderr);
}

/* ---- an answer on the terminal ------------ */

static unsigned width_of(const char *text, size_t len)
{
    unsigned width = 0;

    for (size_t i = 0; i < len; i++)
        width += ((uint8_t)text[i] & 0xC0) != 0x80;
    return width;
}

static void put_word(struct talk *t)
{
    const unsigned width = width_of(t->word, t->word_len);

    if (t->column > 0 && t->column + width > t->width) {
        putchar('\n');
        t->column = 0;
    }
    fwrite(t->word, 1, t->word_len, stdout);
    t->column += width;
    t->word_len = 0;
}

/* Words are held until they end, so that none is broken at the terminal's edge. */
static void put_wrapped(struct talk *t, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        if (c != ' ' && c != '\n' && c != '\t') {
            if (t->word_len == sizeof t->word)
                put_word(t);
            t->word[t->word_len++] = c;
            continue;
        }
        put_word(t);
        if (c == '\n' || t->column + 1 >= t->width) {
            putchar('\n');
            t->column = 0;
        } else {
            putchar(c);
            t->column += c == '\t' ? 8 - t->column % 8 : 1;
        }
    }
}

static void on_text(void *ctx, const char *text)
{
    struct talk *t = ctx;
    struct base_buf safe;

    if (!t->terminal) {
        fputs(text, stdout);
        fflush(stdout);
        return;
    }
    base_buf_init(&safe, TURN_MAX_BYTES);
    base_text_shown(&safe, text, strlen(text), true);
    put_wrapped(t, (const char *)safe.data, safe.len);
    base_buf_free(&safe);
    fflush(stdout);
}

static void measure(struct talk *t)
{
    struct winsize size;

    t->column = 0;
    t->width = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20 ? size.ws_col : WIDTH_DEFAULT;
}

/* ---- turns ------------ */

static bool add_message(struct talk *t, const char *role, const char *text)
{
    return json_array_append_new(t->messages, json_pack("{s:s,s:s}", "role", role, "content", text)) == 0;
}

static void drop_last(struct talk *t)
{
    json_array_remove(t->messages, json_array_size(t->messages) - 1);
}

/* Forget the oldest question and its answer, never the newest question. */
static bool forget(struct talk *t)
{
    if (json_array_size(t->messages) < 3)
        return false;
    json_array_remove(t->messages, 0);
    json_array_remove(t->messages, 0);
    return true;
}

static bool too_long(const struct cli_answer *a)
{
    return a->pieces == 0 && (strcmp(a->error_code, "context_length_exceeded") == 0 || a->status == 413);
}

/* One request; the conversation is cut until the model can read it. */
static dbe_err request(struct talk *t, struct cli_answer *ret, struct dbe_diag *diag)
{
    unsigned forgotten = 0;
    dbe_err err;

    for (;;) {
        t->chat.messages = t->messages;
        t->chat.system = t->system.len > 0 ? base_buf_cstr(&t->system) : NULL;
        err = cli_chat(&t->chat, ret, diag);
        if (err != DBE_OK || !too_long(ret) || interrupted != 0 || !forget(t))
            break;
        cli_answer_free(ret);
        forgotten++;
    }
    if (forgotten > 0)
        remark(t, "the conversation is longer than the model reads: its oldest %u %s forgotten", forgotten,
               forgotten == 1 ? "turn is" : "turns are");
    return err;
}

static void tell(const struct talk *t, const struct cli_answer *a)
{
    const json_t *tokens = json_object_get(a->usage, "completion_tokens");

    if (strcmp(a->finish_reason, "stopped") == 0)
        remark(t, "stopped");
    else if (strcmp(a->finish_reason, "length") == 0)
        remark(t, "cut: the answer reached its longest length");
    if (t->asks && t->terminal && tokens != NULL && a->total_ms > 0)
        remark(t, "%lld tokens, the first after %.2f s, all in %.2f s", (long long)json_integer_value(tokens),
               a->first_ms / 1e3, a->total_ms / 1e3);
}

static void keep(struct talk *t, struct cli_answer *a)
{
    if (t->terminal)
        put_word(t);
    if (a->text.len > 0)
        putchar('\n');
    fflush(stdout);
    if (a->status != 200 || a->error_code[0] != '\0') {
        t->failed = true;
        struct base_buf safe;
        base_buf_init(&safe, 4096);
        base_text_shown(&safe, a->error_text, strlen(a->error_text), false);
        fprintf(stderr, "dsmil: the gateway answered %d: %s (%s)\n", a->status, base_buf_cstr(&safe), a->error_code);
        base_buf_free(&safe);
    } else {
        tell(t, a);
    }
    if (a->text.len == 0 || !add_message(t, "assistant", base_buf_cstr(&a->text)))
        drop_last(t); /* a question without an answer would stand there twice when it is asked again */
    if (a->dsmil != NULL) {
        json_decref(t->last);
        t->last = json_incref(a->dsmil);
    }
}

static void answer(struct talk *t, const char *question)
{
    struct cli_answer a = {0};
    struct dbe_diag diag = {0};

    while (json_array_size(t->messages) >= MESSAGES_MAX && forget(t))
        continue;
    if (!add_message(t, "user", question)) {
        t->failed = true;
        (void)cli_fail(CLI_FAILED, "chat", DBE_E_UTF8, NULL);
        return;
    }
    interrupted = 0;
    measure(t);
    dbe_err err = request(t, &a, &diag);
    if (err == DBE_OK) {
        keep(t, &a);
        cli_answer_free(&a);
    } else {
        if (t->terminal)
            put_word(t);
        if (t->column > 0)
            putchar('\n');
        fflush(stdout);
        drop_last(t);
        t->failed = true;
        (void)cli_fail(CLI_FAILED, "chat", err, &diag);
    }
    interrupted = 0;
}

/* ---- commands ------------ */

static void help(void)
{
    fputs("/new            begin a new conversation\n"
          "/system [TEXT]  set the system message; without TEXT show it\n"
          "/path           which way the last answer came, and how long each hop took\n"
          "/save FILE      write the conversation down; as JSON if the name ends in .json\n"
          "/help           this list\n"
          "/quit           end, as Ctrl-D does\n"
          "A line that begins with // is a turn that begins with /.\n",
          stderr);
}

static void show_path(const struct talk *t)
{
    struct base_buf text;

    if (t->last == NULL) {
        remark(t, "no answer yet");
        return;
    }
    base_buf_init(&text, 8192);
    base_buf_str(&text, "path   ");
    cli_path_text(t->last, &text);
    base_buf_str(&text, "\nsuite  ");
    cli_suites_text(t->last, &text);
    fprintf(stderr, "%s\n", base_buf_cstr(&text));
    base_buf_free(&text);
}

static void save(const struct talk *t, const char *path)
{
    const size_t len = strlen(path);
    const bool json = len > 5 && strcasecmp(path + len - 5, ".json") == 0;
    struct dbe_diag diag = {0};
    json_t *all = json_array(), *message;
    struct base_buf out;
    size_t i;

    base_buf_init(&out, MESSAGES_MAX * (size_t)TURN_MAX_BYTES);
    if (t->system.len > 0)
        json_array_append_new(
            all, json_pack("{s:s,s:s%}", "role", "system", "content", (const char *)t->system.data, t->system.len));
    json_array_extend(all, t->messages);
    if (json) {
        char *text = json_dumps(all, CLI_JSON_FLAGS);
        base_buf_str(&out, text != NULL ? text : "");
        base_buf_str(&out, "\n");
        free(text);
    }
    json_array_foreach(all, i, message)
    {
        if (!json)
            base_buf_fmt(&out, "%s## %s\n\n", i > 0 ? "\n" : "", json_string_value(json_object_get(message, "role")));
        base_buf_str(&out, json ? "" : json_string_value(json_object_get(message, "content")));
        base_buf_str(&out, json ? "" : "\n");
    }
    dbe_err err = out.err == DBE_OK ? base_file_write(path, out.data, out.len, 0600, &diag) : out.err;
    if (err == DBE_OK)
        remark(t, "%zu messages are in %s", json_array_size(all), path);
    else
        (void)cli_fail(CLI_FAILED, path, err, &diag);
    json_decref(all);
    base_buf_free(&out);
}

static void set_system(struct talk *t, const char *text)
{
    if (*text != '\0') {
        base_buf_clear(&t->system);
        base_buf_str(&t->system, text);
        return;
    }
    if (t->system.len > 0)
        fprintf(stderr, "%s\n", base_buf_cstr(&t->system));
    else
        remark(t, "no system message");
}

/* False: end. */
static bool command(struct talk *t, const char *line)
{
    const size_t len = strcspn(line, " \t");
    const char *rest = line + len + strspn(line + len, " \t");
    char name[16];

    snprintf(name, sizeof name, "%.*s", (int)BASE_MIN(len, sizeof name - 1), line);
    if (strcmp(name, "/quit") == 0 || strcmp(name, "/exit") == 0)
        return false;
    if (strcmp(name, "/help") == 0)
        help();
    else if (strcmp(name, "/new") == 0)
        json_array_clear(t->messages), remark(t, "a new conversation");
    else if (strcmp(name, "/system") == 0)
        set_system(t, rest);
    else if (strcmp(name, "/path") == 0)
        show_path(t);
    else if (strcmp(name, "/save") == 0 && *rest != '\0')
        save(t, rest);
    else
        remark(t, strcmp(name, "/save") == 0 ? "/save needs a file's name" : "no such command; /help lists them");
    return true;
}

/* ---- lines ------------ */

/* One turn, which may have several lines, in t->turn. */
static enum got read_turn(struct talk *t)
{
    int c;

    base_buf_clear(&t->turn);
    for (;;) {
        if (t->asks) {
            fputs(t->colour ? "\x1b[1m" : "", stderr);
            fputs(t->turn.len > 0 ? "... " : "> ", stderr);
            fputs(t->colour ? "\x1b[0m" : "", stderr);
        }
        while ((c = getchar()) != EOF && c != '\n')
            base_buf_u8(&t->turn, (uint8_t)c);
        if (c == EOF && ferror(stdin) && errno == EINTR) {
            clearerr(stdin);
            interrupted = 0;
            fputc('\n', stderr);
            return GOT_NOTHING;
        }
        if (c == EOF)
            return t->turn.len > 0 ? GOT_TURN : GOT_END;
        if (t->turn.len == 0 || t->turn.err != DBE_OK || t->turn.data[t->turn.len - 1] != '\\')
            return t->turn.len > 0 || t->turn.err != DBE_OK ? GOT_TURN : GOT_NOTHING;
        t->turn.data[t->turn.len - 1] = '\n';
    }
}

static void converse(struct talk *t)
{
    enum got got;

    if (t->asks)
        remark(t, "/help lists commands, Ctrl-C stops an answer, Ctrl-D ends");
    while ((got = read_turn(t)) != GOT_END) {
        const char *line = base_buf_cstr(&t->turn);
        if (got == GOT_NOTHING)
            continue;
        if (t->turn.err != DBE_OK || strlen(line) != t->turn.len || !base_utf8_valid(line, t->turn.len)) {
            t->failed = true;
            remark(t, "left out: a turn is at most %d KiB of UTF-8", TURN_MAX_BYTES / 1024);
        } else if (line[0] == '/' && line[1] != '/') {
            if (!command(t, line))
                return;
        } else {
            answer(t, line[0] == '/' ? line + 1 : line);
        }
    }
    if (t->asks)
        fputc('\n', stderr);
}

/* ---- command line ------------ */

static int parse(int argc, char **argv, struct talk *t)
{
    const char *v;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return usage(stdout, -1);
        if ((v = cli_opt(argc, argv, &i, "--system")) != NULL)
            set_system(t, v);
        else if (cli_chat_option(argc, argv, &i, &t->chat) != CLI_GIVEN)
            return cli_wrong("chat", "\"%s\" is no option, or not with that value", argv[i]);
    }
    return CLI_OK;
}

static int run(struct talk *t)
{
    const struct sigaction act = {.sa_handler = on_interrupt}; /* without SA_RESTART: it ends a read */
    struct sigaction old;
    struct dbe_diag diag = {0};
    dbe_err err;

    if ((err = cli_paths_init(&t->paths, &diag)) != DBE_OK)
        return cli_fail(CLI_USAGE, "state", err, &diag);
    if ((err = cli_gateway(&t->paths, &t->chat.port, &t->key, &diag)) != DBE_OK)
        return cli_fail(CLI_NOT_UP, "chat", err, &diag);
    t->chat.api_key = base_buf_cstr(&t->key);
    t->messages = json_array();
    t->asks = isatty(STDIN_FILENO) == 1;
    t->terminal = isatty(STDOUT_FILENO) == 1;
    t->colour = t->terminal && cli_colour(STDERR_FILENO);
    if (t->asks)
        sigaction(SIGINT, &act, &old);
    converse(t);
    if (t->asks)
        sigaction(SIGINT, &old, NULL);
    return t->failed && !t->asks ? CLI_FAILED : CLI_OK;
}

int cli_talk(int argc, char **argv)
{
    static struct talk t;

    t.chat = (struct cli_chat){.temperature = -1, .stream = true, .on_text = on_text, .ctx = &t, .stop = &interrupted};
    base_buf_init(&t.key, API_KEY_MAX);
    base_buf_init(&t.turn, TURN_MAX_BYTES);
    base_buf_init(&t.system, TURN_MAX_BYTES);
    int code = parse(argc, argv, &t);
    if (code == CLI_OK)
        code = run(&t);
    json_decref(t.messages);
    json_decref(t.last);
    base_buf_free(&t.key);
    base_buf_free(&t.turn);
    base_buf_free(&t.system);
    return code < 0 ? CLI_OK : code;
}
