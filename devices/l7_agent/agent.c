/* SPDX-License-Identifier: Apache-2.0
 *
 * agent.c - device 48, the agent: bounded tasks on a given text, answered as JSON (layer 7).
 *
 *   RECV -> READ -> ASK -> CHECK -> REPLY       from ASK on a task is a job (job.c)
 *
 * In:   L7_AGENT_TASK, L7_MODEL_STATUS, from the router
 * Out:  L7_AGENT_RESULT; what the agent is doing, for those who follow it
 * Does: keeps every task within its bounds: bytes of text, calls of the model, tokens, time
 * Not:  no tool, no file, no network, no memory from task to task; it acts on nothing. No text of a task in a log.
 *
 * Labels only rise: a task's calls carry its own labels, and what comes back is held against them by the runtime.
 * Reading order: on_task, then job.c. Source: 001 section 2.2. Tests: task_test.c, tests/scenario/r_agent.py
 */
#include "devices/l7_agent/agent.h"

#include <inttypes.h>
#include <string.h>

#include "dbe/payload.h"

#define AGENT_LABEL "device_id=\"48\""

/* ---- status ----------------------------------------------------------------------------------------------------- */

static size_t pack_status(const struct agent *a, uint8_t out[64])
{
    Dsmil__L7ModelStatus status = DSMIL__L7_MODEL_STATUS__INIT;

    status.active_requests = (uint32_t)a->running;
    status.max_requests = status.sessions = (uint32_t)a->tasks_max;
    status.ready = !a->draining && a->router != NULL && svc_link_is_up(a->router);
    return dsmil__l7_model_status__pack(&status, out);
}

void agent_tell_status(struct agent *a, bool last)
{
    uint8_t packed[64];
    size_t len = pack_status(a, packed);

    svc_watchers_tell(a->svc, &a->watchers, DBE_MSG_L7_MODEL_STATUS, packed, len, last);
}

static dbe_err on_model_status(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    struct agent *a = state;
    uint8_t packed[64];
    size_t len = pack_status(a, packed);

    return svc_watchers_answer(svc, &a->watchers, req, msg, packed, len);
}

/* ---- tasks ------------------------------------------------------------------------------------------------------ */

static struct agent_job *free_slot(struct agent *a)
{
    for (size_t i = 0; i < AGENT_JOBS_MAX && a->running < a->tasks_max; i++)
        if (a->jobs[i].req == NULL)
            return &a->jobs[i];
    return NULL;
}

static uint64_t deadline_of(const struct agent *a, const struct svc_req *req, int32_t timeout_seconds)
{
    const uint64_t own_ns = svc_now_ns(a->svc) + (uint64_t)BASE_MAX(timeout_seconds, 0) * BASE_NS_PER_S;

    return timeout_seconds > 0 ? BASE_MIN(own_ns, svc_req_deadline_ns(req)) : svc_req_deadline_ns(req);
}

/* What the task is; `job` is whole when it is DBE_OK, and untouched else. */
static dbe_err job_begin(struct agent *a, struct agent_job *job, struct svc_req *req, const struct dbe_msg *msg,
                         const char **reason)
{
    struct agent_job fresh = {.agent = a, .req = req};

    *reason = "the payload is no L7AgentTask";
    DBE_TRY(dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL));
    dbe_err err = dbe_tlv_text(msg, DBE_TLV_L7_PROFILE, fresh.profile, sizeof fresh.profile);
    if (err != DBE_OK && err != DBE_E_NOT_FOUND)
        return err;
    fresh.request = dsmil__l7_agent_task__unpack(NULL, msg->payload_len, msg->payload);
    if (fresh.request == NULL)
        return DBE_E_MALFORMED;
    base_buf_init(&fresh.prompt, AGENT_PROMPT_MAX_BYTES);
    base_buf_init(&fresh.schema, AGENT_SCHEMA_MAX_BYTES);
    err = agent_task_read(fresh.request, (size_t)a->text_max_bytes, &fresh.task, reason);
    if (err == DBE_OK && (err = agent_task_prompt(&fresh.task, &fresh.prompt)) == DBE_OK)
        err = agent_task_schema(&fresh.task, &fresh.schema);
    if (err != DBE_OK) {
        dsmil__l7_agent_task__free_unpacked(fresh.request, NULL);
        base_buf_free(&fresh.prompt);
        base_buf_free(&fresh.schema);
        return err;
    }
    fresh.deadline_ns = deadline_of(a, req, fresh.request->timeout_seconds);
    *job = fresh;
    return DBE_OK;
}

static dbe_err on_task(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    struct agent *a = state;
    struct agent_job *job = free_slot(a);
    const char *reason = "all places for tasks are taken";

    a->tasks++;
    dbe_err err = job != NULL ? job_begin(a, job, req, msg, &reason) : DBE_E_LIMIT;
    if (err != DBE_OK) {
        a->refused++;
        svc_refuse(svc, req, err, NULL, reason);
        return DBE_OK;
    }
    a->running++;
    svc_req_set_user(req, job);
    svc_req_on_gone(req, agent_job_gone);
    err = agent_job_ask(job);
    if (err != DBE_OK)
        agent_job_fail(job, err, NULL, err == DBE_E_UNAVAILABLE ? svc_link_problem(a->router) : NULL);
    else
        agent_tell_status(a, false);
    return DBE_OK;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static dbe_err agent_init(struct svc *svc, void *state, struct dbe_diag *diag)
{
    struct agent *a = state;

    (void)diag;
    a->svc = svc;
    a->router = svc_link_named(svc, "router");
    return DBE_OK;
}

static void agent_tick(struct svc *svc, void *state)
{
    (void)svc;
    agent_tell_status(state, false);
}

static void agent_link(struct svc *svc, void *state, struct svc_link *link)
{
    (void)svc;
    (void)link;
    agent_tell_status(state, false);
}

static void agent_drain(struct svc *svc, void *state)
{
    struct agent *a = state;

    (void)svc;
    a->draining = true;
    agent_tell_status(a, true);
}

static void agent_dump(const void *state, struct svc_dump *out)
{
    const struct agent *a = state;

    svc_dumpf(out, "tasks running=%" PRIu64 "/%" PRIu64, a->running, a->tasks_max);
    for (size_t i = 0; i < AGENT_JOBS_MAX; i++)
        if (a->jobs[i].req != NULL)
            svc_dumpf(out, "task %zu kind=%s steps=%" PRIu32 " calling=%d", i, a->jobs[i].task.kind->name,
                      a->jobs[i].steps, a->jobs[i].calling);
}

/* ---- the device, declared --------------------------------------------------------------------------------------- */

static const struct svc_route routes[] = {
    {DBE_MSG_L7_AGENT_TASK, on_task},
    {DBE_MSG_L7_MODEL_STATUS, on_model_status},
    {0, NULL},
};
static const struct svc_neighbour neighbours[] = {
    {.name = "router", .role = DBE_ROLE_ROUTER, .device = AGENT_ROUTER_DEVICE, .required = true},
    {0},
};

#define UINT(name, unit_, def_, min_, max_, f, words)                                                                  \
    {                                                                                                                  \
        .key = name, .unit = unit_, .kind = SVC_PARAM_UINT, .def = def_, .min = min_, .max = max_,                     \
        .offset = offsetof(struct agent, f), .size = sizeof(uint64_t), .doc = words                                    \
    }
static const struct svc_param params[] = {
    UINT("max-tasks", "tasks", 4, 1, AGENT_JOBS_MAX, tasks_max, "tasks at once; further ones are refused with E_LIMIT"),
    UINT("text-max", "bytes", 16384, 1, AGENT_TEXT_MAX_BYTES, text_max_bytes, "longest text of a task"),
    UINT("steps-max", "calls", 3, 1, 16, steps_max, "calls of the model a task, all of them for one valid result"),
    UINT("answer-tokens", "tokens", 400, 16, 8192, answer_tokens, "longest answer of one call"),
    UINT("tokens-max", "tokens", 16384, 16, 1 << 20, tokens_max, "tokens after which a task makes no further call"),
    {0},
};

#define COUNTER(metric, words, how, f)                                                                                 \
    {                                                                                                                  \
        metric, words, AGENT_LABEL, how, offsetof(struct agent, f)                                                     \
    }
static const struct svc_counter counters[] = {
    COUNTER("dsmil_l7_agent_tasks_total", "tasks received", SVC_COUNTER, tasks),
    COUNTER("dsmil_l7_agent_refused_total", "of these, refused or failed", SVC_COUNTER, refused),
    COUNTER("dsmil_l7_agent_cancelled_total", "of these, left by their caller", SVC_COUNTER, cancelled),
    COUNTER("dsmil_l7_agent_running", "tasks now", SVC_GAUGE, running),
    COUNTER("dsmil_l7_agent_calls_total", "calls of a model", SVC_COUNTER, calls),
    COUNTER("dsmil_l7_agent_invalid_total", "of these, without a valid result", SVC_COUNTER, invalid),
    {0},
};

extern const struct svc_device l7_agent_device;
const struct svc_device l7_agent_device = {
    .device_id = AGENT_DEVICE,
    .layer = 7,
    .role = DBE_ROLE_AGENT,
    .name = "l7-agent",
    .purpose = "summarise, classify, extract from and triage given texts, within bounds, as JSON",
    .state_size = sizeof(struct agent),
    .routes = routes,
    .neighbours = neighbours,
    .params = params,
    .counters = counters,
    .init = agent_init,
    .tick = agent_tick,
    .link_up = agent_link,
    .link_down = agent_link,
    .drain = agent_drain,
    .dump = agent_dump,
};

SVC_MAIN(l7_agent_device)
