/* SPDX-License-Identifier: Apache-2.0
 *
 * first_light.c - `dsmil first-light`: the mesh's main job, shown. One question answered over HTTP, one streamed, and
 * five messages sent straight to the router of which one passes and four must not.
 *
 * Out: lines for people, or with --json one object. Exit code 0 only if every step came out as it must.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/probe.h"

enum { API_KEY_MAX = 512, WRAP = 96 };

struct light {
    struct cli_paths paths;
    struct base_buf key;
    unsigned port;
    bool json, colour;
    json_t *steps;
    unsigned column; /* of the streamed text */
};

static void verdict(const struct light *l, bool good)
{
    if (l->json)
        return;
    if (l->colour)
        fputs(good ? "\033[32mok\033[0m" : "\033[31mFAILED\033[0m", stdout);
    else
        fputs(good ? "ok" : "FAILED", stdout);
}

static void title(const struct light *l, const char *name)
{
    if (l->json)
        return;
    printf(l->colour ? "\n\033[1m%s\033[0m\n" : "\n%s\n", name);
    fflush(stdout);
}

/* Text in lines of a width that reads well, indented; the column carries over from piece to piece. */
static void print_wrapped(struct light *l, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\n' || (*at == ' ' && l->column > WRAP)) {
            fputs("\n    ", stdout);
            l->column = 0;
        } else {
            putchar(*at);
            l->column++;
        }
    }
    fflush(stdout);
}

static void on_text(void *ctx, const char *text)
{
    struct light *l = ctx;
    if (!l->json)
        print_wrapped(l, text);
}

static int tokens(const struct cli_answer *a, const char *key)
{
    return (int)json_integer_value(json_object_get(a->usage, key));
}

static void print_facts(const struct cli_answer *a)
{
    struct base_buf path;

    base_buf_init(&path, 4096);
    base_buf_str(&path, "\n    path    client -> ");
    cli_path_text(a->dsmil, &path);
    base_buf_str(&path, "\n    suite   ");
    cli_suites_text(a->dsmil, &path);
    printf("%s, handshake to the router %.1f ms\n", base_buf_cstr(&path),
           json_number_value(json_object_get(a->dsmil, "handshake_ms")));
    printf("    model   %s, %d tokens in, %d out, finish reason %s\n", a->model, tokens(a, "prompt_tokens"),
           tokens(a, "completion_tokens"), a->finish_reason);
    base_buf_free(&path);
}

/* An answer counts if it is one: text, an end, the hops it took. A stream also has to come as events; how many is a
 * matter of who had the processor when, since those that wait together go as one. */
static bool answer_good(const struct cli_chat *chat, const struct cli_answer *a)
{
    return a->status == 200 && a->text.len > 0 && a->error_code[0] == '\0' && a->finish_reason[0] != '\0' &&
           json_array_size(json_object_get(a->dsmil, "path")) == 3 && (!chat->stream || a->pieces > 0);
}

static json_t *answer_json(const char *name, bool good, const struct cli_answer *a)
{
    return json_pack("{s:s,s:b,s:i,s:s%,s:s,s:s,s:O?,s:O?,s:i,s:f,s:f,s:s}", "step", name, "ok", good, "status",
                     a->status, "text", a->text.len > 0 ? (const char *)a->text.data : "", a->text.len, "model",
                     a->model, "finish_reason", a->finish_reason, "dsmil", a->dsmil, "usage", a->usage, "pieces",
                     (int)a->pieces, "total_ms", a->total_ms, "first_ms", a->first_ms, "error", a->error_text);
}

static bool ask(struct light *l, const char *name, struct cli_chat *chat)
{
    struct cli_answer a = {0};
    struct dbe_diag diag = {0};
    bool good;
    dbe_err err;

    chat->port = l->port;
    chat->api_key = base_buf_cstr(&l->key);
    chat->on_text = on_text;
    chat->ctx = l;
    l->column = 0;
    if (!l->json)
        printf("    > %s\n    ", chat->question);
    if ((err = cli_chat(chat, &a, &diag)) != DBE_OK) {
        json_array_append_new(l->steps, json_pack("{s:s,s:b,s:s,s:s}", "step", name, "ok", 0, "code", dbe_err_name(err),
                                                  "error", diag.text));
        if (!l->json)
            printf("%s (%s)\n    FAILED\n", diag.text, dbe_err_name(err));
        return false;
    }
    good = answer_good(chat, &a);
    json_array_append_new(l->steps, answer_json(name, good, &a));
    if (!l->json) {
        if (!chat->stream)
            print_wrapped(l, base_buf_cstr(&a.text));
        if (a.status != 200 || a.error_code[0] != '\0')
            printf("the gateway answered %d: %s (%s)", a.status, a.error_text, a.error_code);
        print_facts(&a);
        if (chat->stream)
            printf("    stream  %u pieces, first after %.1f ms, last after %.1f ms\n    ", a.pieces, a.first_ms,
                   a.total_ms);
        else
            printf("    time    %.1f ms over HTTP\n    ", a.total_ms);
        verdict(l, good);
        putchar('\n');
    }
    cli_answer_free(&a);
    return good;
}

/* ---- refusals ------------ */

static const struct refusal {
    enum probe_kind kind;
    const char *name, *words;
    dbe_err expect;
    bool at_handshake; /* refused there; which of the named errors depends on how much the peer may learn */
} refusals[] = {
    {PROBE_CONTROL, "control", "the same request with nothing wrong in it", DBE_OK, false},
    {PROBE_KINETIC, "kinetic", "compartment KINETIC", DBE_E_KINETIC, false},
    {PROBE_EXEC, "exec", "classification EXEC to layer 7", DBE_E_EXEC, false},
    {PROBE_FORGED_CLAIM, "forged-claim", "a claim signed by another key", DBE_E_CLAIM_INVALID, false},
    {PROBE_FOREIGN_MESH, "foreign-mesh", "a node of another mesh", DBE_E_CERT, true},
};

static bool refusal_good(const struct refusal *r, const struct probe_result *res)
{
    if (r->expect == DBE_OK)
        return res->answered;
    if (r->at_handshake)
        return !res->answered && res->at_handshake && dbe_err_class(res->code) == DBE_CLASS_PEER;
    return !res->answered && res->code == r->expect;
}

static bool refuse(struct light *l, const struct refusal *r)
{
    struct probe_result res = {0};
    struct dbe_diag diag = {0};
    dbe_err err = probe_run(&l->paths, r->kind, &res, &diag);
    bool good = err == DBE_OK && refusal_good(r, &res);
    const char *reason = err == DBE_OK ? res.reason : diag.text;
    dbe_err code = err == DBE_OK ? res.code : err;

    json_array_append_new(l->steps, json_pack("{s:s,s:b,s:b,s:s,s:s,s:s,s:f}", "step", r->name, "ok", good, "answered",
                                              res.answered, "code", dbe_err_name(code), "rule", res.rule, "reason",
                                              reason, "ms", res.ms));
    if (!l->json) {
        printf("    %-42s %s: %s ", r->words, res.answered ? "answered" : dbe_err_name(code), reason);
        printf("(%.1f ms) ", res.ms);
        verdict(l, good);
        putchar('\n');
        fflush(stdout);
    }
    return good;
}

/* ---- the whole ------------ */

static int run(struct light *l)
{
    struct cli_chat whole = {.question = "What is DSMIL?", .temperature = 0, .max_tokens = 160};
    struct cli_chat streamed = {.question = "Triage this event: 412 failed SSH logins for root from 203.0.113.7 in 5 "
                                            "minutes on host web-2, then one success.",
                                .temperature = 0,
                                .max_tokens = 200,
                                .stream = true};
    unsigned good = 0, total = 2 + (unsigned)BASE_ARRAY_LEN(refusals);

    title(l, "first light 1: a question over HTTP, answered by the local model");
    good += ask(l, "answer", &whole);
    title(l, "first light 2: a SOC event, triaged as a stream");
    good += ask(l, "stream", &streamed);
    title(l, "first light 3: straight to the router, under a valid identity and claim; four must be refused");
    for (size_t i = 0; i < BASE_ARRAY_LEN(refusals); i++)
        good += refuse(l, &refusals[i]);
    if (l->json) {
        json_t *all = json_pack("{s:b,s:i,s:i,s:O}", "ok", good == total, "passed", (int)good, "failed",
                                (int)(total - good), "steps", l->steps);
        if (cli_print_json(all) != CLI_OK)
            return CLI_FAILED;
    } else {
        printf("\nfirst light: %u of %u as they must be\n", good, total);
    }
    return good == total ? CLI_OK : CLI_FAILED;
}

int cli_first_light(int argc, char **argv)
{
    static struct light l;
    struct dbe_diag diag = {0};
    dbe_err err;
    int code = cli_json_alone(argc, argv, "against the running mesh; exit code 0 if all is as it must be", &l.json);

    if (code != CLI_OK)
        return code < 0 ? CLI_OK : code;
    l.colour = cli_colour(STDOUT_FILENO);
    base_buf_init(&l.key, API_KEY_MAX);
    if ((err = cli_paths_init(&l.paths, &diag)) != DBE_OK)
        return cli_fail(CLI_USAGE, "state", err, &diag);
    if ((err = cli_gateway(&l.paths, &l.port, &l.key, &diag)) != DBE_OK) {
        (void)cli_fail(CLI_NOT_UP, "first light", err, &diag);
        return l.json ? cli_print_down() : CLI_NOT_UP;
    }
    l.steps = json_array();
    code = run(&l);
    json_decref(l.steps);
    base_buf_free(&l.key);
    return code;
}
