/* SPDX-License-Identifier: Apache-2.0
 *
 * tools.h - function calling as a model sees it: the functions described in the system message, calls and results as
 * text between marks, and a grammar that a call keeps to.
 *
 * In:   a request's tools and messages (hostile)     Out: plain messages, a grammar; of an answer, its call
 * Not:  no model, no choice of when to call: that is the model's, or the request's
 *
 * The marks are those that Hermes, Qwen and models trained after them use; others learn them from the system message.
 */
#ifndef L7_WORKER_TOOLS_H
#define L7_WORKER_TOOLS_H

#include "base/base.h"
#include "dsmil.pb-c.h"
#include "llm/grammar.h"
#include "llm/llm.h"

enum { WORKER_TOOLS_MAX = 64, WORKER_TOOL_NAME_MAX = 64, WORKER_CALL_ID_BYTES = 32 };

#define WORKER_CALL_MARK "<tool_call>"

/* Messages with everything of tools made into text. Zeroed, then filled by worker_tools_render. */
struct worker_prompt {
    struct llm_message *messages; /* into the request, or into `made` */
    size_t count;
    char **made;
    size_t made_count;
};
/* May `r`'s answer call one of its tools? */
bool worker_tools_offered(const Dsmil__L7ChatRequest *r);
/* E_RANGE (`ret_reason` names the field), E_UTF8, E_NOMEM. */
dbe_err worker_tools_render(const Dsmil__L7ChatRequest *r, struct worker_prompt *ret,
                            const char **ret_reason) DBE_MUST_CHECK;
void worker_prompt_free(struct worker_prompt *p); /* wipes */

/* The grammar of a call of any of the tools, or of the one that tool_choice names. E_RANGE: a schema that cannot be
 * kept to (`diag` says why), E_NOMEM. */
dbe_err worker_tools_grammar(const Dsmil__L7ChatRequest *r, struct llm_grammar **ret,
                             struct dbe_diag *diag) DBE_MUST_CHECK;

/* The call in an answer's text; false when it is not whole. `ret` holds strings of the caller's to free. */
struct worker_call {
    char id[WORKER_CALL_ID_BYTES], *name, *arguments;
};
bool worker_call_read(const char *text, size_t len, struct worker_call *ret);
void worker_call_free(struct worker_call *call);

#endif
