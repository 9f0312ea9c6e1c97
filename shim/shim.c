/* SPDX-License-Identifier: Apache-2.0
 *
 * shim.c - the OpenAI gateway (device 0, role shim): HTTP of local programs on loopback, DBE towards the router.
 *
 * In:   HTTP (http.c), answers of the router (map_dbe.c)
 * Out:  L7_CHAT_REQ and L7_EMBED_REQ with a claim token for the key's tenant; OpenAI's JSON and event streams
 * Not:  no policy: the router decides; no model; no address but loopback
 *
 * Source: 001 section 3.3.      Docs: docs/openai.md      Tests: openai_test.c, http_test.c
 */
#include "shim/shim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the API key ------------------------------------------------------------------------------------------------ */

static dbe_err take_key(struct shim *shim, const char *text, size_t len, const char *where, struct dbe_diag *diag)
{
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r' || text[len - 1] == ' '))
        len--;
    bool good = len >= SHIM_API_KEY_MIN_BYTES && len <= SHIM_API_KEY_MAX_BYTES;
    for (size_t i = 0; i < len && good; i++)
        good = text[i] > 0x20 && text[i] < 0x7F;
    if (!good)
        return dbe_fail(diag, DBE_E_CONFIG, "api-key", 0,
                        "the API key in %.100s must be %d to %d visible ASCII characters", where,
                        SHIM_API_KEY_MIN_BYTES, SHIM_API_KEY_MAX_BYTES);
    memcpy(shim->api_key, text, len);
    shim->api_key[len] = '\0';
    return DBE_OK;
}

static dbe_err load_key(struct shim *shim, struct dbe_diag *diag)
{
    const char *env = getenv("DSMIL_OPENAI_API_KEY");
    struct base_buf file;

    if (shim->api_key_file[0] == '\0') {
        if (env == NULL || env[0] == '\0')
            return dbe_fail(diag, DBE_E_CONFIG, "api-key", 0,
                            "no API key: give --api-key-file FILE (mode 0600) or set DSMIL_OPENAI_API_KEY");
        return take_key(shim, env, strlen(env), "DSMIL_OPENAI_API_KEY", diag);
    }
    base_buf_init(&file, 4096);
    dbe_err err = base_file_read_private(shim->api_key_file, 4096, &file, diag);
    if (err == DBE_OK)
        err = take_key(shim, (const char *)file.data, file.len, shim->api_key_file, diag);
    base_buf_free(&file);
    return err;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static dbe_err shim_init(struct svc *svc, void *state, struct dbe_diag *diag)
{
    struct shim *shim = state;

    shim->svc = svc;
    shim_mesh_init(&shim->mesh, svc, shim->timeout_ms);
    shim->mesh.sealed_tenants = shim->sealed_tenants;
    shim->local = (struct shim_tenant){.classification = DBE_CLSF_SECRET, .compartments = DBE_COMPARTMENT_SOC};
    memcpy(shim->local.name, shim->tenant, sizeof shim->local.name);
    if (shim->mesh.router == NULL)
        return dbe_fail(diag, DBE_E_CONFIG, "link-router", 0, "--link-router ADDRESS is required");
    DBE_TRY(load_key(shim, diag));
    if (shim->api_keys_file[0] == '\0' && shim->api_key_file[0] != '\0' &&
        strlen(shim->api_key_file) + 1 < sizeof shim->api_keys_file) /* "api-keys" beside "api-key" */
        (void)snprintf(shim->api_keys_file, sizeof shim->api_keys_file, "%.1020ss", shim->api_key_file);
    shim_keys_init(&shim->keys, shim->api_keys_file);
    shim_keys_watch(&shim->keys, svc);
    DBE_TRY(shim_http_start(shim, diag));
    svc_log(svc, SVC_INFO, NULL, "listening on http://127.0.0.1:%" PRIu64 "/v1 for tenant %s", shim->port,
            shim->tenant);
    return DBE_OK;
}

static void shim_tick(struct svc *svc, void *state)
{
    struct shim *shim = state;

    if (!shim->draining)
        shim_mesh_follow_models(&shim->mesh);
    shim_keys_watch(&shim->keys, svc);
    shim_http_tick(shim);
}

static void shim_link_changed(struct svc *svc, void *state, struct svc_link *link)
{
    struct shim *shim = state;

    (void)svc;
    (void)link;
    shim_mesh_link_changed(&shim->mesh);
}

static bool shim_ready(const struct svc *svc, const void *state)
{
    const struct shim *shim = state;

    (void)svc;
    return shim_mesh_is_ready(&shim->mesh);
}

static void shim_drain(struct svc *svc, void *state)
{
    struct shim *shim = state;

    (void)svc;
    shim->draining = true;
    shim_mesh_forget_models(&shim->mesh);
    shim_http_quiesce(shim);
}

static void shim_dump(const void *state, struct svc_dump *out)
{
    const struct shim *shim = state;

    size_t claims = 0;

    for (size_t i = 0; i < SHIM_CLAIMS_MAX; i++)
        claims += shim->mesh.claims[i].len > 0;
    svc_dumpf(out, "port=%" PRIu64 " connections=%" PRIu64 " chats_in_flight=%" PRIu64 " models=%zu claims=%zu",
              shim->port, shim->connections, shim->in_flight, shim->mesh.serving.count, claims);
}

static void shim_fini(struct svc *svc, void *state)
{
    struct shim *shim = state;

    (void)svc;
    shim_http_stop(shim);
    shim_keys_free(&shim->keys);
    base_wipe(shim->api_key, sizeof shim->api_key);
    base_wipe(shim->mesh.claims, sizeof shim->mesh.claims);
}

/* ---- the service, declared -------------------------------------------------------------------------------------- */

static const struct svc_neighbour neighbours[] = {
    {.name = "router", .role = DBE_ROLE_ROUTER, .device = 43, .required = true},
    {0},
};

#define FIELD(f) .offset = offsetof(struct shim, f), .size = sizeof((struct shim *)0)->f
static const struct svc_param params[] = {
    {.key = "sealed-tenants",
     .unit = "names",
     .kind = SVC_PARAM_TEXT,
     .def_text = "",
     FIELD(sealed_tenants),
     .doc = "tenants whose prompts are always sealed to the worker, beside those of the policy; with commas; *: all"},
    {.key = "port",
     .unit = "TCP port",
     .kind = SVC_PARAM_UINT,
     .def = 8001,
     .min = 0,
     .max = 65535,
     FIELD(port),
     .doc = "on 127.0.0.1; 0: one that is free, told in the log"},
    {.key = "api-key-file",
     .unit = "file",
     .kind = SVC_PARAM_TEXT,
     .def_text = "",
     FIELD(api_key_file),
     .doc = "holds the API key, mode 0600; else the environment's DSMIL_OPENAI_API_KEY"},
    {.key = "api-keys-file",
     .unit = "file",
     .kind = SVC_PARAM_TEXT,
     .def_text = "",
     FIELD(api_keys_file),
     .doc = "keys of tenants, kept by `dsmil api-key`; default: api-keys beside the API key's file"},
    {.key = "tenant",
     .unit = "name",
     .kind = SVC_PARAM_TEXT,
     .def_text = "LOCAL_TOOL_USER",
     FIELD(tenant),
     .doc = "tenant that local programs act for"},
    {.key = "timeout-ms",
     .unit = "ms",
     .kind = SVC_PARAM_UINT,
     .def = 300000,
     .min = 100,
     .max = DBE_CALL_TIMEOUT_MAX_MS,
     FIELD(timeout_ms),
     .doc = "time for one whole answer"},
    {.key = "max-connections",
     .unit = "connections",
     .kind = SVC_PARAM_UINT,
     .def = 512,
     .min = 1,
     .max = 16384,
     FIELD(max_connections),
     .doc = "HTTP connections at once; further ones wait for one on which nothing moves"},
    {0},
};

#define COUNTER(metric, words, labels, how, f)                                                                         \
    {                                                                                                                  \
        metric, words, labels, how, offsetof(struct shim, f)                                                           \
    }
#define SENT(name, kind)                                                                                               \
    COUNTER("dsmil_openai_sent_total", "requests sent to the router, by kind", "kind=\"" name "\"", SVC_COUNTER,       \
            sent[kind])
static const struct svc_counter counters[] = {
    COUNTER("dsmil_openai_requests_total", "HTTP requests", NULL, SVC_COUNTER, requests),
    COUNTER("dsmil_openai_responses_total", "HTTP answers by class of status", "code=\"2xx\"", SVC_COUNTER,
            answers_2xx),
    COUNTER("dsmil_openai_responses_total", "HTTP answers by class of status", "code=\"4xx\"", SVC_COUNTER,
            answers_4xx),
    COUNTER("dsmil_openai_responses_total", "HTTP answers by class of status", "code=\"5xx\"", SVC_COUNTER,
            answers_5xx),
    SENT("chat", SHIM_CHAT),
    SENT("completion", SHIM_COMPLETION),
    SENT("embedding", SHIM_EMBEDDING),
    SENT("response", SHIM_RESPONSE),
    COUNTER("dsmil_openai_streams_total", "of these, streamed", NULL, SVC_COUNTER, streams),
    COUNTER("dsmil_openai_disconnects_total", "clients that left before their answer", NULL, SVC_COUNTER, disconnects),
    COUNTER("dsmil_openai_slow_total", "clients whose answer was ended because they read too slowly", NULL, SVC_COUNTER,
            slow),
    COUNTER("dsmil_openai_sealed_refused_total", "sealed answers that did not open", NULL, SVC_COUNTER, mesh.unopened),
    COUNTER("dsmil_openai_connections", "HTTP connections", NULL, SVC_GAUGE, connections),
    COUNTER("dsmil_openai_in_flight", "requests without a complete answer", NULL, SVC_GAUGE, in_flight),
    {0},
};

const struct svc_device openai_shim_device = {
    .device_id = 0,
    .layer = 7,
    .role = DBE_ROLE_SHIM,
    .name = "openai-shim",
    .purpose = "let local programs that speak OpenAI's API use the mesh, on loopback",
    .state_size = sizeof(struct shim),
    .neighbours = neighbours,
    .params = params,
    .counters = counters,
    .init = shim_init,
    .tick = shim_tick,
    .link_up = shim_link_changed,
    .link_down = shim_link_changed,
    .ready = shim_ready,
    .drain = shim_drain,
    .dump = shim_dump,
    .fini = shim_fini,
};
