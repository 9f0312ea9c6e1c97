/* SPDX-License-Identifier: Apache-2.0
 *
 * cli.h - what the verbs of `dsmil` share: where state lies, how to talk to the gateway, how to speak to people.
 *
 * One file a verb; main.c holds the table. Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 not up or no keys.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <signal.h>

#include "base/base.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_NOT_UP = 3, CLI_PATH_MAX = 4096, CLI_PORT_DEFAULT = 8001 };

/* How JSON is printed: for eyes as well, and times without digits that mean nothing. */
#define CLI_JSON_FLAGS (JSON_INDENT(2) | JSON_REAL_PRECISION(6))

/* ---- verbs ------------ */

int cli_up(int argc, char **argv);
int cli_down(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_ask(int argc, char **argv);
int cli_keys(int argc, char **argv);
int cli_api_key(int argc, char **argv);
int cli_channels(int argc, char **argv);
int cli_reload(int argc, char **argv);
int cli_policy(int argc, char **argv);
int cli_roe(int argc, char **argv);
int cli_dump(int argc, char **argv);
int cli_receipt(int argc, char **argv);
int cli_llm(int argc, char **argv);
int cli_audit(int argc, char **argv);
int cli_first_light(int argc, char **argv);
int cli_agent(int argc, char **argv);
int cli_talk(int argc, char **argv);
int cli_top(int argc, char **argv);
int cli_logs(int argc, char **argv);
int cli_completion(int argc, char **argv);

/* main.c's table: name of the n-th verb, what it does in a line, and its function; NULL after the last. */
const char *cli_verb(size_t n, const char **ret_doc, int (**ret_run)(int argc, char **argv));

/* ---- state.c: paths ------------ */

/* Where everything of this user's mesh lies. Filled by cli_paths_init; all strings NUL-terminated. */
struct cli_paths {
    char state[CLI_PATH_MAX];     /* $DSMIL_STATE, else ${XDG_STATE_HOME:-~/.local/state}/dsmil */
    char keys[CLI_PATH_MAX];      /* $DSMIL_KEYS, else <state>/keys */
    char run[CLI_PATH_MAX];       /* sockets; short enough for sun_path */
    char log[CLI_PATH_MAX];       /* <state>/log */
    char api_key[CLI_PATH_MAX];   /* file with the gateway's key, 0600 */
    char policy[CLI_PATH_MAX];    /* $DSMIL_POLICY, else <state>/policy.yaml where it is; "": the built-in policy */
    char lock[CLI_PATH_MAX];      /* held by the supervisor while the mesh is up */
    char mesh_json[CLI_PATH_MAX]; /* what the supervisor runs */
};
dbe_err cli_paths_init(struct cli_paths *ret, struct dbe_diag *diag) DBE_MUST_CHECK;
/* <state>/keys without making anything, for `dsmil keys`. */
dbe_err cli_state_dir(char *ret, size_t cap, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Full path of a service program, or of a model shipped with the project: beside this executable in a build tree, else
 * where `make install` put it. E_NOT_FOUND. */
dbe_err cli_find_program(const char *name, char *ret, size_t cap) DBE_MUST_CHECK;
dbe_err cli_find_model(char *ret, size_t cap) DBE_MUST_CHECK;
/* pid of the running supervisor, 0 if the mesh is down. */
int cli_supervisor_pid(const struct cli_paths *paths);
/* Path of one file in `dir`; E_TOO_LARGE. */
/* mesh.json as a supervisor writes it, a reference of the caller's. E_UNAVAILABLE: the mesh is down. E_AGAIN: it
 * starts. E_STATE: the file is damaged. */
dbe_err cli_mesh_read(const struct cli_paths *paths, json_t **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
/* The running mesh as its supervisor describes it, a reference of the caller's; NULL, and said so, when it is down. */
json_t *cli_mesh(const struct cli_paths *paths);
/* "healthy", "degraded", "unhealthy" as a service says it, or why nobody answered. */
void cli_service_health(const json_t *service, unsigned port, char *ret, size_t cap);
/* {"up": false}, the one document of a verb's --json when the mesh is down, or the error that cli_fail told, where that
 * is another; CLI_NOT_UP. */
int cli_print_down(void);
/* `path` of one service's own socket, its body in `ret`. E_UNAVAILABLE, or E_STATE where it says no: diag has its
 * words. */
dbe_err cli_service_ask(const json_t *service, const char *path, bool post, struct base_buf *ret,
                        struct dbe_diag *diag) DBE_MUST_CHECK;

dbe_err cli_join(char *ret, size_t cap, const char *dir, const char *file) DBE_MUST_CHECK;

/* ---- http.c: a client for the gateway on loopback ------------ */

struct cli_http {
    const char *unix_path; /* NULL: 127.0.0.1:port */
    unsigned port;
    const char *path;                  /* "/v1/models" */
    const char *bearer;                /* NULL: none */
    const char *body;                  /* NULL: GET, else POST as JSON */
    unsigned timeout_ms;               /* whole exchange */
    const volatile sig_atomic_t *stop; /* E_CANCELLED soon after it is not 0; may be NULL */
    /* Called with pieces of the body as they come; NULL: collect into the result. */
    void (*on_data)(void *ctx, const char *data, size_t len);
    void *ctx;
};
struct cli_http_result {
    int status;           /* HTTP status */
    struct base_buf body; /* free with base_buf_free */
};
dbe_err cli_http(const struct cli_http *req, struct cli_http_result *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

/* The same over a connected stream socket, which stays the caller's. */
dbe_err cli_http_fd(const struct cli_http *req, int fd, struct cli_http_result *ret,
                    struct dbe_diag *diag) DBE_MUST_CHECK;

/* Lines "data: ..." of an event stream, whatever the pieces they come in. */
struct cli_sse {
    struct base_buf line;
    void (*on_event)(void *ctx, const char *json, size_t len);
    void *ctx;
};
void cli_sse_init(struct cli_sse *sse, void (*on_event)(void *, const char *, size_t), void *ctx);
void cli_sse_feed(void *sse, const char *data, size_t len); /* fits cli_http.on_data */
void cli_sse_free(struct cli_sse *sse);

/* ---- chat.c: one request ------------ */

struct cli_chat {
    unsigned port;
    const char *api_key, *model, *system, *question; /* model, system may be NULL */
    const json_t *messages;                          /* a conversation in place of a question; borrowed */
    double temperature;                              /* < 0: the worker's default */
    unsigned max_tokens;                             /* 0: the worker's default */
    uint64_t seed;
    bool seed_set, stream, receipt, sealed;
    void (*on_text)(void *ctx, const char *text); /* pieces of a streamed answer; may be NULL */
    void *ctx;
    /* Once it is not 0, the answer ends with what has come, and finish_reason "stopped". May be NULL. */
    const volatile sig_atomic_t *stop;
};
struct cli_answer {
    int status;
    struct base_buf text; /* the answer */
    json_t *dsmil;        /* the answer's "dsmil" object (path, suite, labels), or NULL */
    json_t *usage;        /* or NULL */
    char model[96], finish_reason[32], error_code[64], error_text[256];
    unsigned pieces; /* of a streamed answer */
    double total_ms, first_ms;
};
/* What `ask` and `chat` share of options: --model, --max-tokens, --temperature, --seed. At argv[*i] is none of them;
 * or one, which was taken, and *i moved; or one whose value does not fit. */
enum cli_given { CLI_GIVEN_NONE, CLI_GIVEN, CLI_GIVEN_WRONG };
enum cli_given cli_chat_option(int argc, char **argv, int *i, struct cli_chat *chat) DBE_MUST_CHECK;
dbe_err cli_chat(const struct cli_chat *chat, struct cli_answer *ret, struct dbe_diag *diag) DBE_MUST_CHECK;
void cli_answer_free(struct cli_answer *a);
/* "openai-shim (device 0) 0.2 ms -> l7-router (device 43) 0.1 ms -> ..." into `out`: what each hop itself took. */
void cli_path_text(const json_t *dsmil, struct base_buf *out);
/* The suite of the sealed channels on the way: one name if all have the same, else one each. */
void cli_suites_text(const json_t *dsmil, struct base_buf *out);
/* Port and key of the running mesh. E_UNAVAILABLE with a diag that says how to start it. */
dbe_err cli_gateway(const struct cli_paths *paths, unsigned *ret_port, struct base_buf *ret_key,
                    struct dbe_diag *diag) DBE_MUST_CHECK;

/* ---- words ------------ */

/* How this program was called, so that what we tell people to type works where they stand. */
extern const char *cli_self;

/* "dsmil: what: why" on stderr; returns `code`. */
int cli_fail(int code, const char *what, dbe_err err, const struct dbe_diag *diag);
/* What was typed cannot be meant: "dsmil: verb: words; `dsmil verb --help` tells how" on stderr; CLI_USAGE.
 * `verb` "": it is dsmil itself. */
int cli_wrong(const char *verb, const char *fmt, ...) DBE_PRINTF(2, 3);
/* The words behind a verb (argv[0]) that takes --json and no other. CLI_OK: go on. -1: --help was asked for and has
 * been given, with `doc` in its line. CLI_USAGE: said. */
int cli_json_alone(int argc, char **argv, const char *doc, bool *ret_json) DBE_MUST_CHECK;
/* Value of option `name` at argv[*i] ("--name value" or "--name=value"), NULL if argv[*i] is something else. Moves
 * *i. */
const char *cli_opt(int argc, char **argv, int *i, const char *name);
/* A whole number from `min` to `max`, or one from 0 to `max` that need not be whole; false, and nothing of `ret`,
 * where `text` is anything else. */
bool cli_count(const char *text, uint64_t min, uint64_t max, uint64_t *ret) DBE_MUST_CHECK;
bool cli_number(const char *text, double max, double *ret) DBE_MUST_CHECK;
/* Print one JSON object and let go of it. NULL, which is what a failed json_pack gives, is CLI_FAILED. */
int cli_print_json(json_t *obj);
/* What --json was to print has been said, or is said in another way than by one document. */
void cli_json_said(void);
/* Has cli_fail told of anything but a mesh that is down? */
bool cli_failed_otherwise(void);
/* {"error": {"code": ..., "message": ...}} with the last words of cli_fail, for a verb that ended with `code` and said
 * nothing to who asked for JSON. Returns `code`. */
int cli_json_failure(int code);
/* As a JSON string, also where it is no UTF-8: diagnostics repeat bytes of files and paths, and are cut to fit. */
json_t *cli_json_text(const char *text);
/* Print what a model said: as it is to a file or pipe, without what would steer it to a terminal. */
void cli_print_text(const char *text);
bool cli_colour(int fd); /* people's terminal, and NO_COLOR unset */

#endif
