/* SPDX-License-Identifier: Apache-2.0
 *
 * agent.c - `dsmil agent TASK`: a bounded task on a text, its result as JSON on standard output.
 *
 * The identity is issued in memory by the mesh's own CA (this user's key store) and is never written down, as in
 * probe.c.
 */
#include "cli/agent.h"
#include "cli/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "dbe/node.h"
#include "dbe/payload.h"
#include "dsmil.pb-c.h"
#include "policy/policy.h"

enum {
    LINK_TIMEOUT_MS = 5000,
    IDENTITY_MS = 60 * 60 * 1000,
    TLV_ROOM_BYTES = 1024,
    ANSWER_MAX_BYTES = 1024 * 1024,
    TEXT_MAX_BYTES = 64 * 1024,
    TIMEOUT_DEFAULT_S = 120,
    TIMEOUT_MAX_S = 3600,
};

static const char agent_tenant[] = "LOCAL_TOOL_USER";

struct line { /* a channel to the router */
    struct dbe_loop *loop;
    struct dbe_credential *self;
    struct dbe_trust *trust;
    struct dbe_node *node;
    struct dbe_link *link;
    struct dbe_peer *peer;
};

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx, (void)peer, (void)msg; /* nobody asks us anything */
}

static void on_up(void *ctx, struct dbe_peer *peer)
{
    ((struct line *)ctx)->peer = peer;
}

static void hang_up(struct line *l)
{
    dbe_link_close(l->link);
    dbe_node_free(l->node);
    dbe_credential_free(l->self);
    dbe_trust_free(l->trust);
    base_loop_free(l->loop);
}

static dbe_err dial(struct line *l, const struct cli_paths *paths, struct dbe_diag *diag)
{
    static const struct dbe_node_ops ops = {.on_message = on_message, .on_up = on_up};
    const struct dbe_issue what = {.device = 0, .role = DBE_ROLE_SHIM, .layer = 7};
    struct dbe_node_config config = {.ops = &ops, .ctx = l};
    const uint64_t end = base_mono_ns() + LINK_TIMEOUT_MS * (uint64_t)BASE_NS_PER_MS;
    char address[CLI_PATH_MAX + 32];
    static struct pol_policy policy; /* large */

    DBE_TRY(cli_policy_load(paths->policy, &policy, diag));
    DBE_TRY(base_loop_new(&l->loop));
    DBE_TRY(dbe_trust_load(paths->keys, &l->trust, diag));
    DBE_TRY(dbe_keys_issue_ephemeral(paths->keys, &what, IDENTITY_MS, &l->self, diag));
    config.credential = l->self;
    config.trust = l->trust;
    config.policy_digest = pol_policy_digest(&policy);
    DBE_TRY(dbe_node_new(l->loop, &config, &l->node));
    snprintf(address, sizeof address, "uds:%s/l7-router.sock", paths->run);
    DBE_TRY(dbe_node_link(l->node, address, DBE_ROLE_ROUTER, DBE_DEV_EXTENDED_ANALYTICS, &l->link));
    while (l->peer == NULL && base_mono_ns() < end)
        DBE_TRY(base_loop_turn(l->loop, 100));
    return l->peer != NULL ? DBE_OK
                           : dbe_fail(diag, DBE_E_UNAVAILABLE, NULL, 0, "the router does not answer: is the mesh up?");
}

/* ---- the message ------------ */

static dbe_err make_claim(const struct line *l, unsigned timeout_s, uint8_t *out, size_t cap, size_t *ret_len)
{
    const uint64_t now = base_wall_ms();
    struct pol_claim claim = {.roe_levels = 1u << DBE_ROE_SOC_ASSIST,
                              .classification_max = DBE_CLSF_SECRET,
                              .compartments = DBE_COMPARTMENT_SOC,
                              .not_before_ms = now - 1000,
                              .not_after_ms = now + BASE_MIN(timeout_s, 3000u) * (uint64_t)1000};

    snprintf(claim.tenant, sizeof claim.tenant, "%s", agent_tenant);
    snprintf(claim.client, sizeof claim.client, "dsmil-agent");
    DBE_TRY(dbe_peer_channel_binding(l->peer, claim.channel_binding));
    return pol_claim_issue(&claim, l->self, out, cap, ret_len);
}

static dbe_err build(const struct line *l, const struct agent_ask *ask, const Dsmil__L7AgentTask *task, uint8_t *out,
                     size_t cap, size_t *ret_len)
{
    uint8_t id[16], claim[DBE_CLAIM_MAX_BYTES];
    struct dbe_builder b;
    size_t claim_len;

    DBE_TRY(base_uuid(id));
    DBE_TRY(make_claim(l, ask->timeout_s, claim, sizeof claim, &claim_len));
    dbe_build_begin(&b, out, cap, DBE_MSG_L7_AGENT_TASK, DBE_FLAG_REPLAY_PROTECTED, dbe_correlation_of(id));
    dbe_build_text(&b, DBE_TLV_TENANT_ID, agent_tenant);
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, DBE_COMPARTMENT_SOC);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, DBE_CLSF_SECRET);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, DBE_ROE_SOC_ASSIST);
    dbe_build_layer_path(&b, NULL, 7);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, 0);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, DBE_DEV_EXTENDED_ANALYTICS);
    dbe_build_timestamp_ms(&b, base_wall_ms());
    if (ask->profile != NULL)
        dbe_build_text(&b, DBE_TLV_L7_PROFILE, ask->profile);
    dbe_build_bytes(&b, DBE_TLV_L7_CLAIM_TOKEN, claim, claim_len);
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, id, sizeof id);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, ask->timeout_s * 1000);
    uint8_t *room = dbe_build_payload_room(&b, dsmil__l7_agent_task__get_packed_size(task));
    if (room != NULL)
        dsmil__l7_agent_task__pack(task, room);
    return dbe_build_end(&b, ret_len);
}

/* ---- the answer ------------ */

static dbe_err take_result(const struct dbe_msg *msg, struct agent_told *ret)
{
    Dsmil__L7AgentResult *r = dsmil__l7_agent_result__unpack(NULL, msg->payload_len, msg->payload);

    if (r == NULL)
        return DBE_E_NOMEM;
    base_buf_str(&ret->result, r->result);
    snprintf(ret->model, sizeof ret->model, "%s", r->model);
    ret->steps = r->steps;
    if (r->usage != NULL) {
        ret->prompt_tokens = r->usage->prompt_tokens;
        ret->answer_tokens = r->usage->completion_tokens;
    }
    dsmil__l7_agent_result__free_unpacked(r, NULL);
    return ret->result.err;
}

static dbe_err take_refusal(const struct dbe_msg *msg, struct agent_told *ret)
{
    Dsmil__ErrorReply *e = dsmil__error_reply__unpack(NULL, msg->payload_len, msg->payload);

    if (e == NULL)
        return DBE_E_NOMEM;
    ret->code = e->code != 0 ? (dbe_err)e->code : DBE_E_STATE;
    snprintf(ret->rule, sizeof ret->rule, "%s", e->rule);
    snprintf(ret->reason, sizeof ret->reason, "%s", e->reason);
    dsmil__error_reply__free_unpacked(e, NULL);
    return DBE_OK;
}

static dbe_err take_answer(const uint8_t *bytes, size_t len, struct agent_told *ret)
{
    struct dbe_msg msg;

    DBE_TRY(dbe_msg_decode(bytes, len, &msg, NULL));
    if (msg.type != DBE_MSG_ERROR && msg.type != DBE_MSG_L7_AGENT_RESULT)
        return DBE_E_PROTOCOL;
    DBE_TRY(dbe_payload_check(msg.type, msg.payload, msg.payload_len, NULL));
    return msg.type == DBE_MSG_ERROR ? take_refusal(&msg, ret) : take_result(&msg, ret);
}

static dbe_err exchange(const struct line *l, const struct agent_ask *ask, struct agent_told *ret)
{
    Dsmil__L7AgentTask__ParametersEntry text = DSMIL__L7_AGENT_TASK__PARAMETERS_ENTRY__INIT;
    Dsmil__L7AgentTask__ParametersEntry names = DSMIL__L7_AGENT_TASK__PARAMETERS_ENTRY__INIT;
    Dsmil__L7AgentTask__ParametersEntry *parameters[] = {&text, &names};
    Dsmil__L7AgentTask task = DSMIL__L7_AGENT_TASK__INIT;
    const uint64_t deadline = base_mono_ns() + ask->timeout_s * BASE_NS_PER_S;
    size_t len = 0;

    text.key = (char *)(uintptr_t) "text"; /* packing only reads */
    text.value = (char *)(uintptr_t)ask->text;
    names.key = (char *)(uintptr_t)ask->names_key;
    names.value = (char *)(uintptr_t)ask->names;
    task.task_type = (char *)(uintptr_t)ask->task;
    task.n_parameters = ask->names_key != NULL ? 2 : 1;
    task.parameters = parameters;
    const size_t cap = BASE_MAX((size_t)ANSWER_MAX_BYTES, DBE_HEADER_BYTES + TLV_ROOM_BYTES + DBE_CLAIM_MAX_BYTES +
                                                              dsmil__l7_agent_task__get_packed_size(&task));
    uint8_t *bytes = base_alloc(1, cap);
    dbe_err err = bytes != NULL ? build(l, ask, &task, bytes, cap, &len) : DBE_E_NOMEM;
    if (err == DBE_OK) /* sealed before the wait begins: the answer may take its place */
        err = dbe_call_wait(l->peer, bytes, len, deadline, bytes, cap, &len);
    if (err == DBE_OK)
        err = take_answer(bytes, len, ret);
    base_free(bytes);
    return err;
}

dbe_err agent_ask(const struct cli_paths *paths, const struct agent_ask *ask, struct agent_told *ret,
                  struct dbe_diag *diag)
{
    struct agent_told told = {0};
    struct line l = {0};
    dbe_err err = dial(&l, paths, diag);
    const uint64_t start = base_mono_ns();

    base_buf_init(&told.result, ANSWER_MAX_BYTES);
    if (err == DBE_OK)
        err = exchange(&l, ask, &told);
    told.ms = (double)(base_mono_ns() - start) / 1e6;
    hang_up(&l);
    if (err != DBE_OK)
        base_buf_free(&told.result);
    else
        *ret = told;
    return err;
}

void agent_told_free(struct agent_told *told)
{
    base_buf_free(&told->result);
}

/* ---- the verb ------------ */

static int usage(FILE *out, int code)
{
    fputs("usage: dsmil agent TASK [OPTIONS]      the text comes from --file or standard input\n\n"
          "  summarise                 a few plain sentences\n"
          "  classify --labels A,B     the one label that fits best, and why\n"
          "  extract --fields A,B      what the text states for each field, or null\n"
          "  triage                    severity, category, summary and next step of a security event\n\n"
          "  --file FILE               the text, at most 64 KiB\n"
          "  --profile NAME            which model does it (default: the router's choice)\n"
          "  --timeout S               1 to 3600 seconds (default 120)\n"
          "  --json                    the result with steps, tokens, model and time\n",
          out);
    return code;
}

/* All of a file, or of standard input. */
static dbe_err read_text(const char *path, struct base_buf *out, struct dbe_diag *diag)
{
    char piece[4096];
    ssize_t n;

    if (path != NULL)
        return base_file_read(path, TEXT_MAX_BYTES, out, diag);
    while ((n = read(STDIN_FILENO, piece, sizeof piece)) > 0)
        base_buf_bytes(out, piece, (size_t)n);
    return n < 0 ? DBE_E_IO : out->err;
}

static int show(const struct agent_told *told, bool json)
{
    json_t *result =
        told->code == DBE_OK ? json_loadb((const char *)told->result.data, told->result.len, 0, NULL) : NULL;

    if (json)
        return cli_print_json(json_pack("{s:b,s:s,s:s,s:s,s:o?,s:s,s:i,s:i,s:i,s:f}", "ok", told->code == DBE_OK,
                                        "code", dbe_err_name(told->code), "rule", told->rule, "reason", told->reason,
                                        "result", result, "model", told->model, "steps", (int)told->steps,
                                        "prompt_tokens", (int)told->prompt_tokens, "answer_tokens",
                                        (int)told->answer_tokens, "ms", told->ms)) == CLI_OK &&
                       told->code == DBE_OK
                   ? CLI_OK
                   : CLI_FAILED;
    if (told->code != DBE_OK) {
        struct dbe_diag diag = {0};
        return cli_fail(CLI_FAILED, "agent", dbe_fail(&diag, told->code, NULL, 0, "%.150s", told->reason), &diag);
    }
    return cli_print_json(result);
}

static int parse(int argc, char **argv, struct agent_ask *ask, const char **file, bool *json)
{
    const char *v;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            return usage(stdout, -1);
        if (strcmp(argv[i], "--json") == 0)
            *json = true;
        else if ((v = cli_opt(argc, argv, &i, "--file")) != NULL)
            *file = v;
        else if ((v = cli_opt(argc, argv, &i, "--profile")) != NULL)
            ask->profile = v;
        else if ((v = cli_opt(argc, argv, &i, "--labels")) != NULL)
            ask->names_key = "labels", ask->names = v;
        else if ((v = cli_opt(argc, argv, &i, "--fields")) != NULL)
            ask->names_key = "fields", ask->names = v;
        else if ((v = cli_opt(argc, argv, &i, "--timeout")) != NULL) {
            char *end = NULL;
            unsigned long s = strtoul(v, &end, 10);
            if (*v == '\0' || *end != '\0' || s < 1 || s > TIMEOUT_MAX_S)
                return cli_wrong("agent", "--timeout takes 1 to %d, not \"%s\"", TIMEOUT_MAX_S, v);
            ask->timeout_s = (unsigned)s;
        } else if (argv[i][0] != '-' && ask->task == NULL)
            ask->task = argv[i];
        else
            return cli_wrong("agent", "\"%s\" is no option, or one task too many", argv[i]);
    }
    return ask->task != NULL ? CLI_OK : cli_wrong("agent", "which task? summarise, classify, extract or triage");
}

int cli_agent(int argc, char **argv)
{
    static struct cli_paths paths;
    struct agent_ask ask = {.timeout_s = TIMEOUT_DEFAULT_S};
    struct agent_told told = {0};
    struct dbe_diag diag = {0};
    const char *file = NULL;
    bool json = false;
    struct base_buf text;
    int code = parse(argc, argv, &ask, &file, &json);
    dbe_err err;

    if (code != CLI_OK)
        return code < 0 ? CLI_OK : code;
    if ((err = cli_paths_init(&paths, &diag)) != DBE_OK)
        return cli_fail(CLI_USAGE, "state", err, &diag);
    if (cli_supervisor_pid(&paths) == 0) {
        fprintf(stderr, "dsmil: the mesh is down; start it with `%s up`\n", cli_self);
        return json ? cli_print_down() : CLI_NOT_UP;
    }
    base_buf_init(&text, TEXT_MAX_BYTES + 1);
    if ((err = read_text(file, &text, &diag)) != DBE_OK)
        code = cli_fail(CLI_USAGE, "text", err, &diag);
    ask.text = base_buf_cstr(&text);
    if (code == CLI_OK && (err = agent_ask(&paths, &ask, &told, &diag)) != DBE_OK)
        code = cli_fail(CLI_FAILED, "agent", err, &diag);
    else if (code == CLI_OK)
        code = show(&told, json);
    agent_told_free(&told);
    base_buf_free(&text);
    return code;
}
