/* SPDX-License-Identifier: Apache-2.0
 *
 * agent.h - one task for the agent, sent straight to the router of the running mesh, as first light and `dsmil agent`
 * do it.
 */
#ifndef CLI_AGENT_H
#define CLI_AGENT_H

#include "cli/cli.h"

struct agent_ask {
    const char *task, *text;       /* "triage", what it is about */
    const char *names_key, *names; /* "labels" or "fields" and the list; NULL: none */
    const char *profile;           /* of the agent's own calls; NULL: the router's choice */
    unsigned timeout_s;
};
struct agent_told {
    dbe_err code; /* DBE_OK: there is a result */
    char rule[64], reason[256];
    struct base_buf result; /* JSON */
    char model[96];
    unsigned steps, prompt_tokens, answer_tokens;
    double ms;
};

/* E_UNAVAILABLE and others: the task could not be sent, and `ret` is untouched; what the mesh refused stands in `ret`.
 * Free with agent_told_free. */
dbe_err agent_ask(const struct cli_paths *paths, const struct agent_ask *ask, struct agent_told *ret,
                  struct dbe_diag *diag) DBE_MUST_CHECK;
void agent_told_free(struct agent_told *told);

#endif
