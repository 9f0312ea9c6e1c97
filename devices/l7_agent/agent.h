/* SPDX-License-Identifier: Apache-2.0
 *
 * agent.h - what the agent holds, and what its two files give each other: tasks as they come (agent.c), and one task's
 * calls of the model up to its result (job.c).
 */
#ifndef DEVICES_L7_AGENT_AGENT_H
#define DEVICES_L7_AGENT_AGENT_H

#include "devices/l7_agent/task.h"
#include "runtime/svc.h"

enum { AGENT_DEVICE = 48, AGENT_ROUTER_DEVICE = 43, AGENT_JOBS_MAX = 32 };

struct agent;

struct agent_job { /* one task between request and result */
    struct agent *agent;
    struct svc_req *req; /* NULL: free slot */
    Dsmil__L7AgentTask *request;
    struct agent_task task; /* points into it */
    struct base_buf prompt, schema;
    char profile[65];
    uint64_t deadline_ns, call_id;
    uint32_t steps, prompt_tokens, answer_tokens;
    bool calling;
};

struct agent {
    struct svc *svc;
    struct svc_link *router;
    struct agent_job jobs[AGENT_JOBS_MAX];
    struct svc_watchers watchers;
    bool draining;
    /* parameters */
    uint64_t tasks_max, text_max_bytes, steps_max, answer_tokens, tokens_max;
    /* counters */
    uint64_t tasks, refused, cancelled, running, calls, invalid;
};

/* Whoever follows the agent's status is told of it; with `last` they are ended. */
void agent_tell_status(struct agent *a, bool last);
/* Make the next call of the model; the job ends with its answer. On an error nothing was sent. */
dbe_err agent_job_ask(struct agent_job *job) DBE_MUST_CHECK;
/* Refuse the task; the job is free then. */
void agent_job_fail(struct agent_job *job, dbe_err err, const char *rule, const char *reason);
/* Its caller went away. */
void agent_job_gone(void *user, struct svc_req *req, dbe_err why);

#endif
