/* SPDX-License-Identifier: Apache-2.0
 *
 * up_prepare.c - everything `dsmil up` needs before the first service starts. Idempotent: what is there and valid is
 * kept.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/up.h"
#include "cli/policy.h"
#include "crypto/crypto.h"
#include "dbe/identity.h"

enum { CA_DAYS = 3650, NODE_DAYS = 90, RENEW_BEFORE_DAYS = 7, API_KEY_RANDOM = 32 };

static const char mesh_default[] = "dsmil.local";

/* They find each other in any order. */
static const struct node_row {
    const char *program, *credential, *socket; /* socket NULL: no listener */
    uint8_t device, role, layer;
} nodes[UP_SERVICES] = {
    [UP_WORKER_47] = {"dsmil-l7-llm-worker-47", "worker-47", "l7-worker-47", 47, DBE_ROLE_WORKER, 7},
    [UP_WORKER_44] = {"dsmil-l7-llm-worker-npu", "worker-44", "l7-worker-44", 44, DBE_ROLE_WORKER, 7},
    [UP_AGENT] = {"dsmil-l7-agent", "agent-48", "l7-agent-48", 48, DBE_ROLE_AGENT, 7},
    [UP_ROUTER] = {"dsmil-l7-router", "router-43", "l7-router", 43, DBE_ROLE_ROUTER, 7},
    [UP_SHIM] = {"dsmil-openai-shim", "shim-0", NULL, 0, DBE_ROLE_SHIM, 7},
    [UP_AUDIT] = {"dsmil-audit", "audit-14", "audit", 14, DBE_ROLE_AUDIT, 0},
};

/* ---- lock ------------ */

static dbe_err take_lock(struct up *u, struct dbe_diag *diag)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    u->lock_fd = open(u->paths.lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (u->lock_fd < 0)
        return dbe_fail(diag, DBE_E_IO, NULL, 0, "%s: %s", u->paths.lock, strerror(errno));
    if (fcntl(u->lock_fd, F_SETLK, &fl) == 0) {
        /* What an earlier mesh left would tell `dsmil ask` a wrong port until the new one is ready. */
        unlink(u->paths.mesh_json);
        return DBE_OK;
    }
    return dbe_fail(diag, DBE_E_EXISTS, NULL, 0,
                    "this mesh is up already (supervisor %d); `dsmil status` shows it, `dsmil down` stops it",
                    cli_supervisor_pid(&u->paths));
}

/* ---- keys ------------ */

static bool have(const struct up *u, const char *name, const char *suffix)
{
    char path[CLI_PATH_MAX];
    return dbe_keys_path(u->paths.keys, name, suffix, path, sizeof path) == DBE_OK && access(path, F_OK) == 0;
}

/* True if the credential must be issued: missing, half written, expired or about to. Any other fault is an error: a
 * key that others could read is not replaced in silence. */
static dbe_err needs_issue(const struct up *u, const char *name, bool *ret, struct dbe_diag *diag)
{
    struct dbe_credential *cred = NULL;
    dbe_err err;
    uint64_t soon_ms = base_wall_ms() + RENEW_BEFORE_DAYS * UINT64_C(86400000);

    *ret = true;
    if (!have(u, name, "key") || !have(u, name, "crt"))
        return DBE_OK;
    err = dbe_credential_load(u->paths.keys, name, &cred, diag);
    if (err == DBE_E_EXPIRED)
        return DBE_OK;
    if (err == DBE_OK)
        *ret = dbe_credential_identity(cred)->not_after_ms < soon_ms;
    dbe_credential_free(cred);
    return err;
}

static dbe_err issue_nodes(struct up *u, struct base_buf *made, struct dbe_diag *diag)
{
    for (size_t i = 0; i < UP_SERVICES; i++) {
        const struct dbe_issue what = {.name = nodes[i].credential,
                                       .device = nodes[i].device,
                                       .role = nodes[i].role,
                                       .layer = nodes[i].layer,
                                       .valid_days = NODE_DAYS};
        bool need;

        DBE_TRY(needs_issue(u, nodes[i].credential, &need, diag));
        if (!need)
            continue;
        DBE_TRY(dbe_keys_issue(u->paths.keys, &what, diag));
        base_buf_fmt(made, " %s", nodes[i].credential);
    }
    return DBE_OK;
}

static dbe_err prepare_keys(struct up *u, struct dbe_diag *diag)
{
    struct dbe_trust *trust = NULL;
    struct base_buf made;
    bool fresh = !have(u, "ca", "crt"); /* a key that a killed run left alone is taken up */
    dbe_err err = DBE_OK;

    base_buf_init(&made, 200);
    if (fresh)
        err = dbe_keys_init(u->paths.keys, mesh_default, CA_DAYS, diag);
    if (err == DBE_OK)
        err = dbe_trust_load(u->paths.keys, &trust, diag);
    if (err == DBE_OK)
        err = issue_nodes(u, &made, diag);
    if (err == DBE_OK) {
        snprintf(u->mesh, sizeof u->mesh, "%s", dbe_trust_mesh(trust));
        snprintf(u->keys_words, sizeof u->keys_words, "mesh %s, ML-DSA-87%s%s%s", u->mesh,
                 fresh ? ", certificate authority made" : "", made.len > 0 ? ", issued" : ", all valid",
                 base_buf_cstr(&made));
    }
    dbe_trust_free(trust);
    base_buf_free(&made);
    return err;
}

/* The gateway's key: made once, kept. Form: dsmil_v1_<tenant>_<64 hex>. */
static dbe_err prepare_api_key(struct up *u, struct dbe_diag *diag)
{
    uint8_t raw[API_KEY_RANDOM];
    char hex[2 * API_KEY_RANDOM + 1], text[128];
    dbe_err err;

    if (access(u->paths.api_key, F_OK) == 0)
        return DBE_OK;
    DBE_TRY(base_random(raw, sizeof raw));
    base_hex(raw, sizeof raw, hex);
    snprintf(text, sizeof text, "dsmil_v1_LOCAL_TOOL_USER_%s\n", hex);
    err = base_file_write(u->paths.api_key, text, strlen(text), 0600, diag);
    base_wipe(raw, sizeof raw);
    base_wipe(hex, sizeof hex);
    base_wipe(text, sizeof text);
    return err;
}

/* ---- port ------------ */

/* Check that the port is free, or find a free one: a clear message now beats a service that dies later. */
static dbe_err prepare_port(struct up *u, struct dbe_diag *diag)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)u->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return dbe_fail(diag, DBE_E_IO, NULL, 0, "socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&in, sizeof in) != 0 || getsockname(fd, (struct sockaddr *)&in, &len) != 0) {
        int why = errno;
        close(fd);
        return dbe_fail(diag, DBE_E_CONFIG, NULL, 0, "127.0.0.1:%u: %s; choose another with `dsmil up --port N`",
                        u->port, strerror(why));
    }
    close(fd);
    u->port = ntohs(in.sin_port);
    snprintf(u->port_text, sizeof u->port_text, "%u", u->port);
    return DBE_OK;
}

/* ---- services ------------ */

static void add(struct sup_spec *s, const char *a, const char *b)
{
    size_t n = 0;

    while (s->args[n] != NULL)
        n++;
    BASE_INVARIANT(n + 2 < SUP_ARGS_MAX);
    s->args[n] = a;
    s->args[n + 1] = b;
}

static dbe_err prepare_spec(struct up *u, size_t i, struct dbe_diag *diag)
{
    const struct node_row *row = &nodes[i];
    struct sup_spec *s = &u->specs[i];

    if (cli_find_program(row->program, u->at[i].program, sizeof u->at[i].program) != DBE_OK)
        return dbe_fail(diag, DBE_E_NOT_FOUND, NULL, 0,
                        "the program %s is neither in the build folder nor installed; run `make`", row->program);
    snprintf(u->at[i].log, sizeof u->at[i].log, "%.3900s/%s.log", u->paths.log, row->program);
    *s = (struct sup_spec){
        .name = row->program, .program = u->at[i].program, .log_path = u->at[i].log, .device = row->device};
    add(s, "--keys", u->paths.keys);
    add(s, "--name", row->credential);
    snprintf(u->at[i].metrics, sizeof u->at[i].metrics, "%.3900s/%s.http", u->paths.run,
             row->socket != NULL ? row->socket : row->program);
    s->metrics_socket = u->at[i].metrics;
    add(s, "--metrics-socket", u->at[i].metrics);
    if (row->socket != NULL) {
        snprintf(u->at[i].listen, sizeof u->at[i].listen, "uds:%.3900s/%s.sock", u->paths.run, row->socket);
        add(s, "--listen", u->at[i].listen);
    }
    return DBE_OK;
}

/* Every service sends its records to Device 14, and keeps what it was told of the log in a place of its own. */
static dbe_err prepare_audit(struct up *u, struct dbe_diag *diag)
{
    char anchors[CLI_PATH_MAX];
    size_t log = 0;

    while (nodes[log].role != DBE_ROLE_AUDIT)
        log++;
    DBE_TRY(cli_join(u->audit_dir, sizeof u->audit_dir, u->paths.state, "audit"));
    DBE_TRY(cli_join(anchors, sizeof anchors, u->paths.state, "anchors"));
    DBE_TRY(base_mkdirs(anchors, 0700, diag));
    add(&u->specs[log], "--audit-dir", u->audit_dir);
    for (size_t i = 0; i < UP_SERVICES; i++) {
        if (i == log)
            continue;
        DBE_TRY(cli_join(u->at[i].anchor, sizeof u->at[i].anchor, anchors, nodes[i].credential));
        add(&u->specs[i], "--audit", u->at[log].listen);
        add(&u->specs[i], "--audit-anchor", u->at[i].anchor);
    }
    return DBE_OK;
}

static dbe_err prepare_services(struct up *u, struct dbe_diag *diag)
{
    DBE_TRY(cli_join(u->routing, sizeof u->routing, u->paths.state, "l7_router.yaml"));
    for (size_t i = 0; i < UP_SERVICES; i++)
        DBE_TRY(prepare_spec(u, i, diag));
    u->spec_count = UP_SERVICES;
    add(&u->specs[UP_WORKER_47], "--model", u->model);
    add(&u->specs[UP_WORKER_47], "--draft-model", u->model_44); /* if it can: the worker's log says why not */
    add(&u->specs[UP_WORKER_44], "--model", u->model_44);
    if (u->profile_44 != NULL)
        add(&u->specs[UP_WORKER_44], "--profile", u->profile_44);
    if (u->threads != NULL) {
        add(&u->specs[UP_WORKER_47], "--threads", u->threads);
        add(&u->specs[UP_WORKER_44], "--threads", u->threads);
    }
    add(&u->specs[UP_ROUTER], "--link-worker-47", u->at[UP_WORKER_47].listen);
    add(&u->specs[UP_ROUTER], "--link-worker-44", u->at[UP_WORKER_44].listen);
    add(&u->specs[UP_ROUTER], "--link-agent-48", u->at[UP_AGENT].listen);
    DBE_TRY(cli_join(u->accounts, sizeof u->accounts, u->paths.state, "accounts"));
    add(&u->specs[UP_ROUTER], "--accounts", u->accounts);
    if (access(u->routing, R_OK) == 0)
        add(&u->specs[UP_ROUTER], "--config", u->routing);
    add(&u->specs[UP_AGENT], "--link-router", u->at[UP_ROUTER].listen);
    add(&u->specs[UP_SHIM], "--link-router", u->at[UP_ROUTER].listen);
    add(&u->specs[UP_SHIM], "--port", u->port_text);
    add(&u->specs[UP_SHIM], "--api-key-file", u->paths.api_key);
    return prepare_audit(u, diag);
}

/* The file that was named, or the project's own model. */
static dbe_err prepare_model(const char *given, char *ret, size_t cap, struct dbe_diag *diag)
{
    if (given == NULL) {
        if (cli_find_model(ret, cap) != DBE_OK)
            return dbe_fail(diag, DBE_E_NOT_FOUND, NULL, 0,
                            "the project's own model is missing; name one with --model FILE");
        return DBE_OK;
    }
    if (strlen(given) >= cap)
        return DBE_E_TOO_LARGE;
    snprintf(ret, cap, "%s", given);
    if (!base_utf8_valid(ret, strlen(ret)))
        return dbe_fail(diag, DBE_E_CONFIG, NULL, 0, "the model's path is not UTF-8; give it another name");
    if (access(ret, R_OK) != 0)
        return dbe_fail(diag, DBE_E_NOT_FOUND, NULL, 0, "model %.120s: %s", ret, strerror(errno));
    return DBE_OK;
}

/* A policy with an error starts nothing; services find the file by their environment. */
static dbe_err prepare_policy(struct up *u, struct dbe_diag *diag)
{
    struct pol_policy *policy = base_alloc(1, sizeof *policy);
    dbe_err err = policy != NULL ? cli_policy_load(u->paths.policy, policy, diag) : DBE_E_NOMEM;

    base_free(policy);
    if (err == DBE_OK && u->paths.policy[0] != '\0' && setenv("DSMIL_POLICY", u->paths.policy, 1) != 0)
        err = DBE_E_NOMEM;
    return err;
}

dbe_err up_prepare(struct up *u, struct dbe_diag *diag)
{
    u->lock_fd = -1;
    DBE_TRY(cli_paths_init(&u->paths, diag));
    u->backend = crypto_backend_version();
    DBE_TRY(take_lock(u, diag));
    DBE_TRY(prepare_policy(u, diag));
    DBE_TRY(prepare_model(u->model_arg, u->model, sizeof u->model, diag));
    DBE_TRY(prepare_model(u->model_44_arg, u->model_44, sizeof u->model_44, diag));
    DBE_TRY(prepare_keys(u, diag));
    DBE_TRY(prepare_api_key(u, diag));
    DBE_TRY(prepare_port(u, diag));
    return prepare_services(u, diag);
}

dbe_err up_prepare_keys(struct up *u, struct dbe_diag *diag)
{
    u->lock_fd = -1;
    DBE_TRY(cli_paths_init(&u->paths, diag));
    DBE_TRY(take_lock(u, diag));
    DBE_TRY(prepare_keys(u, diag));
    return prepare_api_key(u, diag);
}

void up_release(struct up *u)
{
    unlink(u->paths.mesh_json);
    if (u->lock_fd >= 0)
        close(u->lock_fd); /* the lock goes with it; the file stays, or two could hold a lock of the same name */
}
