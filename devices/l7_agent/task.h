/* SPDX-License-Identifier: Apache-2.0
 *
 * task.h - what the agent can be asked: which tasks there are, what each takes, what its result looks like.
 *
 * In:   an L7AgentTask, from the mesh and hostile all the same
 * Out:  the text and names of the task; the words for the model; a JSON schema; whether a result keeps to it
 * Not:  no message, no clock, no call. A task reads text and gives JSON: none has a tool, and none acts on anything.
 *
 * The text of a task is data. It stands in a message of its own, is never part of the instructions, and whatever it
 * says cannot change the schema that the answer is made under.
 */
#ifndef L7_AGENT_TASK_H
#define L7_AGENT_TASK_H

#include "base/base.h"
#include "dsmil.pb-c.h"

enum {
    AGENT_TEXT_MAX_BYTES = 64 * 1024,
    AGENT_NAMES_MAX = 16,
    AGENT_NAME_MAX_BYTES = 64,
    AGENT_SCHEMA_MAX_BYTES = 8192,
    AGENT_PROMPT_MAX_BYTES = 4096,
    AGENT_PARAMETERS_MAX = 4,
};

struct agent_kind {
    const char *name;
    const char *names;  /* parameter that lists names: "labels", "fields"; NULL: it takes none */
    const char *prompt; /* instructions; the names follow */
    const char *schema; /* whole, or NULL: made of the names */
};

struct agent_task {
    const struct agent_kind *kind;
    const char *text; /* the request's */
    size_t text_len;
    char names[AGENT_NAMES_MAX][AGENT_NAME_MAX_BYTES + 1];
    size_t name_count;
};

/* `ret` points into `request`. E_RANGE (what is wrong stands in ret_reason, static), E_TOO_LARGE, E_UTF8. */
dbe_err agent_task_read(const Dsmil__L7AgentTask *request, size_t text_max_bytes, struct agent_task *ret,
                        const char **ret_reason) DBE_MUST_CHECK;
/* Append the instructions for the model. */
dbe_err agent_task_prompt(const struct agent_task *task, struct base_buf *out) DBE_MUST_CHECK;
/* Append the JSON schema of the result. */
dbe_err agent_task_schema(const struct agent_task *task, struct base_buf *out) DBE_MUST_CHECK;
/* Is this text JSON that keeps to the schema? E_RANGE: no. E_ARGUMENT, E_NOMEM. */
dbe_err agent_result_check(const char *schema, size_t schema_len, const char *text, size_t len,
                           struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
