/* SPDX-License-Identifier: Apache-2.0
 *
 * receipt.c - `dsmil receipt show | verify FILE`: what a worker signed about an answer, judged without the mesh.
 *
 * In:   a receipt, as bytes or as base64; the mesh's CA certificate; perhaps request, answer and what else is expected
 * Out:  what the receipt says; exit 1 and the field that is wrong if it cannot be believed
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "cli/cli.h"
#include "e2e/receipt.h"

enum { RECEIPT_FILE_MAX = 2 * E2E_RECEIPT_MAX_BYTES, TEXT_FILE_MAX = 64 * 1024 * 1024 };

struct receipt_opts {
    bool json, verify;
    const char *file, *keys, *request, *answer, *worker, *model, *quantisation, *model_digest, *policy_digest,
        *request_id;
};

static int usage(FILE *out, int code)
{
    fputs(
        "usage: dsmil receipt verify [OPTIONS] FILE      dsmil receipt show [--json] FILE\n\n"
        "  --request FILE        the request's payload, as the gateway gave it back with the receipt\n"
        "  --request-id UUID     the request, as the answer's dsmil object names it\n"
        "  --answer FILE         the answer's text, without the line feed that a terminal adds\n"
        "  --worker ID           SPIFFE id of the worker that must have answered\n"
        "  --model NAME          model that must have answered\n"
        "  --model-digest HEX    SHA3-512 of its file\n"
        "  --quantisation NAME   its quantisation\n"
        "  --policy-digest HEX   policy that must have been in force\n"
        "  --keys DIR            folder with the mesh's ca.crt, and ca.crl if there is one (default: the mesh's own)\n"
        "  --json                as one JSON object\n\n"
        "A receipt is judged by the mesh's certificate alone; nothing needs to run.\n",
        out);
    return code;
}

static int parse(int argc, char **argv, struct receipt_opts *o)
{
    const struct {
        const char *name, **to;
    } texts[] = {{"--request", &o->request},
                 {"--request-id", &o->request_id},
                 {"--answer", &o->answer},
                 {"--worker", &o->worker},
                 {"--model", &o->model},
                 {"--model-digest", &o->model_digest},
                 {"--quantisation", &o->quantisation},
                 {"--keys", &o->keys},
                 {"--policy-digest", &o->policy_digest}};

    if (argc < 2 || strcmp(argv[1], "--help") == 0)
        return argc < 2 ? cli_wrong("receipt", "verify or show?") : usage(stdout, -1);
    o->verify = strcmp(argv[1], "verify") == 0;
    if (!o->verify && strcmp(argv[1], "show") != 0)
        return cli_wrong("receipt", "no verb \"%s\"", argv[1]);
    for (int i = 2; i < argc; i++) {
        const char *v = NULL;
        if (strcmp(argv[i], "--help") == 0)
            return usage(stdout, -1);
        if (strcmp(argv[i], "--json") == 0) {
            o->json = true;
            continue;
        }
        for (size_t t = 0; t < BASE_ARRAY_LEN(texts) && v == NULL; t++)
            if ((v = cli_opt(argc, argv, &i, texts[t].name)) != NULL)
                *texts[t].to = v;
        if (v != NULL)
            continue;
        if (argv[i][0] == '-' || o->file != NULL)
            return cli_wrong("receipt", "\"%s\" is no option, or one file too many", argv[i]);
        o->file = argv[i];
    }
    return o->file != NULL ? CLI_OK : cli_wrong("receipt", "which file?");
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

/* The receipt's bytes: as they are, or out of base64 with or without line feeds. */
static dbe_err read_receipt(const char *path, struct base_buf *ret, struct dbe_diag *diag)
{
    struct base_buf file = {0};
    size_t len = 0, got = 0;

    DBE_TRY(base_file_read(path, RECEIPT_FILE_MAX, &file, diag));
    dbe_err err = DBE_OK;
    if (file.len >= 4 && memcmp(file.data, "DRCP", 4) == 0) {
        base_buf_bytes(ret, file.data, file.len);
        err = ret->err;
    } else {
        for (size_t i = 0; i < file.len; i++)
            if (file.data[i] != '\n' && file.data[i] != '\r')
                file.data[len++] = file.data[i];
        uint8_t *room = base_buf_grow(ret, len);
        err = room == NULL ? ret->err : base_unbase64((const char *)file.data, len, room, len, &got);
        ret->len = err == DBE_OK ? got : 0;
        if (err == DBE_E_MALFORMED)
            err = dbe_fail(diag, err, NULL, 0, "%.120s is neither a receipt nor base64 of one", path);
    }
    base_buf_free(&file);
    return err;
}

static dbe_err digest_file(const char *path, uint8_t ret[CRYPTO_HASH_BYTES], struct dbe_diag *diag)
{
    struct base_buf file = {0};

    DBE_TRY(base_file_read(path, TEXT_FILE_MAX, &file, diag));
    dbe_err err = crypto_sha3_512(file.data, file.len, ret);
    base_buf_free(&file);
    return err;
}

static dbe_err digest_hex(const char *hex, const char *what, uint8_t ret[CRYPTO_HASH_BYTES], struct dbe_diag *diag)
{
    if (strlen(hex) != 2 * (size_t)CRYPTO_HASH_BYTES || base_unhex(hex, ret, CRYPTO_HASH_BYTES) != DBE_OK)
        return dbe_fail(diag, DBE_E_ARGUMENT, NULL, 0, "%s: %d hexadecimal digits", what, 2 * CRYPTO_HASH_BYTES);
    return DBE_OK;
}

struct digests {
    uint8_t request_id[16], request[CRYPTO_HASH_BYTES], answer[CRYPTO_HASH_BYTES], model[CRYPTO_HASH_BYTES],
        policy[CRYPTO_HASH_BYTES];
};

/* 8-4-4-4-12 hexadecimal digits. */
static dbe_err read_uuid(const char *text, uint8_t ret[16], struct dbe_diag *diag)
{
    uint8_t id[16];
    char hex[33] = "", again[37];
    size_t n = 0;

    for (const char *at = text; *at != '\0' && n < sizeof hex - 1; at++)
        if (*at != '-')
            hex[n++] = *at;
    if (n != sizeof hex - 1 || base_unhex(hex, id, sizeof id) != DBE_OK)
        return dbe_fail(diag, DBE_E_ARGUMENT, NULL, 0, "--request-id: a UUID");
    base_uuid_text(id, again);
    if (strcasecmp(again, text) != 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, NULL, 0, "--request-id: a UUID");
    memcpy(ret, id, sizeof id);
    return DBE_OK;
}

static dbe_err expect(const struct receipt_opts *o, struct digests *d, struct e2e_receipt_expect *ret,
                      struct dbe_diag *diag)
{
    *ret = (struct e2e_receipt_expect){.worker = o->worker, .model = o->model, .quantisation = o->quantisation};
    if (o->request != NULL) {
        DBE_TRY(digest_file(o->request, d->request, diag));
        ret->request_digest = d->request;
    }
    if (o->answer != NULL) {
        DBE_TRY(digest_file(o->answer, d->answer, diag));
        ret->answer_digest = d->answer;
    }
    if (o->request_id != NULL) {
        DBE_TRY(read_uuid(o->request_id, d->request_id, diag));
        ret->request_id = d->request_id;
    }
    if (o->model_digest != NULL) {
        DBE_TRY(digest_hex(o->model_digest, "--model-digest", d->model, diag));
        ret->model_digest = d->model;
    }
    if (o->policy_digest != NULL) {
        DBE_TRY(digest_hex(o->policy_digest, "--policy-digest", d->policy, diag));
        ret->policy_digest = d->policy;
    }
    return DBE_OK;
}

static dbe_err load_trust(const struct receipt_opts *o, struct dbe_trust **ret, struct dbe_diag *diag)
{
    const char *env = getenv("DSMIL_KEYS");
    char state[CLI_PATH_MAX], dir[CLI_PATH_MAX];

    if (o->keys != NULL)
        return dbe_trust_load(o->keys, ret, diag);
    if (env != NULL && env[0] != '\0')
        return dbe_trust_load(env, ret, diag);
    DBE_TRY(cli_state_dir(state, sizeof state, diag));
    DBE_TRY(cli_join(dir, sizeof dir, state, "keys"));
    return dbe_trust_load(dir, ret, diag);
}

/* ---- showing ---------------------------------------------------------------------------------------------------- */

static const char *finish_name(uint8_t finish)
{
    static const char *const names[] = {"stop", "length", "tool_calls"};

    return finish < BASE_ARRAY_LEN(names) ? names[finish] : "unknown";
}

static void time_text(uint64_t ms, char *ret, size_t cap)
{
    const time_t s = (time_t)(ms / 1000);
    struct tm tm = {0};
    char day[32] = "";

    if (gmtime_r(&s, &tm) == NULL || strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        (void)snprintf(ret, cap, "%" PRIu64 " ms", ms);
    else
        (void)snprintf(ret, cap, "%s.%03uZ", day, (unsigned)(ms % 1000));
}

/* Whoever made the file chose these words: nothing in them moves a cursor or ends a line. */
static void print_field(const char *name, const char *text, const char *rest)
{
    struct base_buf safe;

    base_buf_init(&safe, E2E_RECEIPT_MAX_BYTES);
    base_text_shown(&safe, text, strlen(text), false);
    printf("%-16s %s%s\n", name, base_buf_cstr(&safe), rest);
    base_buf_free(&safe);
}

static void show_text(const struct e2e_receipt *r, const char *model, const char *id, const char *request,
                      const char *answer, const char *policy)
{
    char time[48], device[32];

    time_text(r->time_ms, time, sizeof time);
    (void)snprintf(device, sizeof device, " (device %u)", r->device);
    print_field("worker", r->worker, device);
    print_field("model", r->model, "");
    print_field("quantisation", r->quantisation, "");
    printf("model digest     %s\nrequest          %s\nrequest digest   %s\nanswer digest    %s\n", model, id, request,
           answer);
    printf("tokens           %" PRIu32 " prompt (%" PRIu32 " cached), %" PRIu32 " answer, ended by %s\n",
           r->prompt_tokens, r->cached_tokens, r->completion_tokens, finish_name(r->finish));
    printf("policy           %s\ntime             %s\n", policy, time);
}

static int show(const struct e2e_receipt *r, bool verified, bool json)
{
    char id[37], model[2 * CRYPTO_HASH_BYTES + 1], policy[sizeof model], request[sizeof model], answer[sizeof model];
    char time[48];

    base_uuid_text(r->request_id, id);
    base_hex(r->model_digest, CRYPTO_HASH_BYTES, model);
    base_hex(r->policy_digest, CRYPTO_HASH_BYTES, policy);
    base_hex(r->request_digest, CRYPTO_HASH_BYTES, request);
    base_hex(r->answer_digest, CRYPTO_HASH_BYTES, answer);
    time_text(r->time_ms, time, sizeof time);
    if (json)
        return cli_print_json(json_pack("{s:b,s:s,s:i,s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:s,s:s,s:s}", "verified",
                                        verified, "worker", r->worker, "device", r->device, "model", r->model,
                                        "quantisation", r->quantisation, "model_digest", model, "request_id", id,
                                        "time", time, "finish_reason", finish_name(r->finish), "prompt_tokens",
                                        (json_int_t)r->prompt_tokens, "cached_tokens", (json_int_t)r->cached_tokens,
                                        "completion_tokens", (json_int_t)r->completion_tokens, "request_digest",
                                        request, "answer_digest", answer, "policy_digest", policy));
    show_text(r, model, id, request, answer, policy);
    puts(verified ? "verified: this worker of the mesh signed it" : "NOT verified: this is only what it says");
    return CLI_OK;
}

static int refused(const struct receipt_opts *o, dbe_err err, const struct dbe_diag *diag)
{
    if (o->json) {
        (void)cli_print_json(json_pack("{s:b,s:s,s:s,s:o}", "verified", 0, "code", dbe_err_name(err), "field",
                                       diag->clause != NULL ? diag->clause : "", "reason",
                                       cli_json_text(diag->text[0] != '\0' ? diag->text : dbe_err_text(err))));
        return CLI_FAILED;
    }
    fprintf(stderr, "dsmil receipt: REFUSED, %s: %s\n", diag->clause != NULL ? diag->clause : dbe_err_name(err),
            diag->text[0] != '\0' ? diag->text : dbe_err_text(err));
    return CLI_FAILED;
}

static int judge(const struct receipt_opts *o, const struct base_buf *bytes)
{
    struct e2e_receipt_expect want = {0};
    struct e2e_receipt_parts parts;
    struct e2e_receipt receipt;
    struct digests digests;
    struct dbe_trust *trust = NULL;
    struct dbe_diag diag = {0};
    dbe_err err;

    if (!o->verify) {
        err = e2e_receipt_read(bytes->data, bytes->len, &parts, &diag);
        return err == DBE_OK ? show(&parts.says, false, o->json) : refused(o, err, &diag);
    }
    if ((err = load_trust(o, &trust, &diag)) != DBE_OK)
        return cli_fail(CLI_NOT_UP, "the mesh's certificate", err, &diag);
    if ((err = expect(o, &digests, &want, &diag)) != DBE_OK) {
        dbe_trust_free(trust);
        return cli_fail(CLI_USAGE, "receipt", err, &diag);
    }
    err = e2e_receipt_verify(bytes->data, bytes->len, trust, &want, &receipt, NULL, &diag);
    dbe_trust_free(trust);
    return err == DBE_OK ? show(&receipt, true, o->json) : refused(o, err, &diag);
}

int cli_receipt(int argc, char **argv)
{
    struct receipt_opts o = {0};
    struct base_buf bytes;
    struct dbe_diag diag = {0};
    int code = parse(argc, argv, &o);

    if (code != CLI_OK)
        return code < 0 ? CLI_OK : code;
    base_buf_init(&bytes, RECEIPT_FILE_MAX);
    dbe_err err = crypto_init(&diag);
    if (err == DBE_OK)
        err = read_receipt(o.file, &bytes, &diag);
    code = err == DBE_OK ? judge(&o, &bytes) : cli_fail(CLI_FAILED, "receipt", err, &diag);
    base_buf_free(&bytes);
    return code;
}
