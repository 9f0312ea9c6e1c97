/* SPDX-License-Identifier: Apache-2.0
 *
 * ask.c - `dsmil ask "QUESTION"`: the answer on stdout as it comes, where it went on stderr when asked for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum { API_KEY_MAX = 512, QUESTION_MAX = 512 * 1024 };

static void print_piece(void *ctx, const char *text)
{
    (void)ctx;
    cli_print_text(text);
    fflush(stdout);
}

static int usage(FILE *out, int code)
{
    fputs("usage: dsmil ask [OPTIONS] \"QUESTION\"      (\"-\" reads the question from standard input)\n\n"
          "  --system TEXT      system message\n"
          "  --model NAME       model or alias (default: what the mesh serves)\n"
          "  --max-tokens N     longest answer\n"
          "  --temperature X    0 to 2; 0 always takes the likeliest token\n"
          "  --seed N           same seed, same text\n"
          "  --no-stream        wait for the whole answer\n"
          "  --path             tell on stderr where the question went, and how long each hop took\n"
          "  --sealed           seal the question to the worker, so that the router can read nothing\n"
          "  --receipt FILE     have the worker sign what it answered; FILE.request and FILE.answer go with it\n"
          "  --json             the whole answer as one JSON object\n",
          out);
    return code;
}

struct ask {
    struct cli_chat chat;
    bool path, json;
    const char *receipt; /* file, or NULL */
};

/* Options; returns CLI_OK, or what to exit with. */
static int parse(int argc, char **argv, struct ask *ask)
{
    enum cli_given given;
    const char *v;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            return usage(stdout, -1);
        if (strcmp(argv[i], "--no-stream") == 0)
            ask->chat.stream = false;
        else if (strcmp(argv[i], "--path") == 0)
            ask->path = true;
        else if (strcmp(argv[i], "--json") == 0)
            ask->json = true;
        else if (strcmp(argv[i], "--sealed") == 0)
            ask->chat.sealed = true;
        else if ((v = cli_opt(argc, argv, &i, "--receipt")) != NULL)
            ask->receipt = v, ask->chat.receipt = true;
        else if ((v = cli_opt(argc, argv, &i, "--system")) != NULL)
            ask->chat.system = v;
        else if ((given = cli_chat_option(argc, argv, &i, &ask->chat)) == CLI_GIVEN)
            continue;
        else if (given == CLI_GIVEN_WRONG)
            return cli_wrong("ask", "\"%s\" does not fit its option", argv[i]);
        else if (argv[i][0] == '-' && argv[i][1] != '\0')
            return cli_wrong("ask", "no option %s, or its value is missing", argv[i]);
        else if (ask->chat.question == NULL)
            ask->chat.question = argv[i];
        else
            return cli_wrong("ask", "one question; \"%s\" is a second, perhaps for want of quotes", argv[i]);
    }
    return ask->chat.question != NULL ? CLI_OK : cli_wrong("ask", "what is the question?");
}

static dbe_err read_stdin(struct base_buf *out)
{
    char piece[4096];
    ssize_t n;

    while ((n = read(STDIN_FILENO, piece, sizeof piece)) > 0)
        base_buf_bytes(out, piece, (size_t)n);
    return n < 0 ? DBE_E_IO : out->err;
}

static int print_json(const struct cli_answer *a)
{
    json_t *o = json_pack("{s:i,s:s%,s:s,s:s,s:O?,s:O?,s:f}", "status", a->status, "text", (const char *)a->text.data,
                          a->text.len, "model", a->model, "finish_reason", a->finish_reason, "usage", a->usage, "dsmil",
                          a->dsmil, "total_ms", a->total_ms);
    if (a->error_code[0] != '\0')
        json_object_set_new(o, "error", json_pack("{s:s,s:s}", "code", a->error_code, "message", a->error_text));
    return cli_print_json(o);
}

/* Write what the member `name` of the answer's "dsmil" holds in base64. */
static dbe_err save_base64(const struct cli_answer *a, const char *name, const char *path, struct dbe_diag *diag)
{
    const json_t *text = json_object_get(a->dsmil, name);
    const size_t len = json_string_length(text);
    BASE_AUTO_FREE uint8_t *bytes = base_alloc(1, len + 1);
    size_t got = 0;

    if (!json_is_string(text))
        return dbe_fail(diag, DBE_E_NOT_FOUND, NULL, 0, "the answer came without a receipt");
    if (bytes == NULL)
        return DBE_E_NOMEM;
    DBE_TRY(base_unbase64(json_string_value(text), len, bytes, len, &got));
    return base_file_write(path, bytes, got, 0600, diag);
}

/* The receipt, and beside it what it is about: as much as `dsmil receipt verify` takes. */
static int save_receipt(const char *file, const struct cli_answer *a)
{
    char request[CLI_PATH_MAX], answer[CLI_PATH_MAX];
    struct dbe_diag diag = {0};
    dbe_err err = DBE_E_TOO_LARGE;

    if ((size_t)snprintf(request, sizeof request, "%s.request", file) < sizeof request &&
        (size_t)snprintf(answer, sizeof answer, "%s.answer", file) < sizeof answer)
        err = save_base64(a, "receipt", file, &diag);
    if (err == DBE_OK)
        err = save_base64(a, "receipt_request", request, &diag);
    if (err == DBE_OK)
        err = base_file_write(answer, a->text.data, a->text.len, 0600, &diag);
    return err == DBE_OK ? CLI_OK : cli_fail(CLI_FAILED, "receipt", err, &diag);
}

static int show(const struct ask *ask, struct cli_answer *a)
{
    int code = CLI_OK;

    if (ask->json) {
        base_buf_cstr(&a->text);
        code = print_json(a);
    } else if (!ask->chat.stream) {
        cli_print_text(base_buf_cstr(&a->text));
    }
    if (!ask->json && a->text.len > 0)
        puts("");
    fflush(stdout); /* before what follows on stderr */
    if (ask->path && a->dsmil != NULL) {
        struct base_buf path;
        base_buf_init(&path, 4096);
        base_buf_str(&path, "path   ");
        cli_path_text(a->dsmil, &path);
        base_buf_str(&path, "\nsuite  ");
        cli_suites_text(a->dsmil, &path);
        fprintf(stderr, "%s\n", base_buf_cstr(&path));
        base_buf_free(&path);
    }
    if (a->error_code[0] != '\0' || a->status != 200) {
        if (!ask->json)
            fprintf(stderr, "dsmil: the gateway answered %d: %s (%s)\n", a->status, a->error_text, a->error_code);
        return CLI_FAILED;
    }
    return code;
}

int cli_ask(int argc, char **argv)
{
    static struct cli_paths paths;
    struct ask ask = {.chat = {.temperature = -1, .stream = true}};
    struct cli_answer ans = {0};
    struct dbe_diag diag = {0};
    struct base_buf key, question;
    int code = parse(argc, argv, &ask);
    dbe_err err;

    if (code != CLI_OK)
        return code < 0 ? CLI_OK : code;
    base_buf_init(&key, API_KEY_MAX);
    base_buf_init(&question, QUESTION_MAX);
    if ((err = cli_paths_init(&paths, &diag)) != DBE_OK)
        return cli_fail(CLI_USAGE, "state", err, &diag);
    if (strcmp(ask.chat.question, "-") == 0) {
        if ((err = read_stdin(&question)) != DBE_OK)
            return cli_fail(CLI_FAILED, "standard input", err, NULL);
        ask.chat.question = base_buf_cstr(&question);
    }
    if ((err = cli_gateway(&paths, &ask.chat.port, &key, &diag)) != DBE_OK)
        return cli_fail(CLI_NOT_UP, "ask", err, &diag);
    ask.chat.api_key = base_buf_cstr(&key);
    ask.chat.on_text = ask.json ? NULL : print_piece;
    ask.chat.stream = ask.chat.stream && !ask.json;
    err = cli_chat(&ask.chat, &ans, &diag);
    code = err == DBE_OK ? show(&ask, &ans) : cli_fail(CLI_FAILED, "ask", err, &diag);
    if (code == CLI_OK && ask.receipt != NULL)
        code = save_receipt(ask.receipt, &ans);
    if (err == DBE_OK)
        cli_answer_free(&ans);
    base_buf_free(&key);
    base_buf_free(&question);
    return code;
}
