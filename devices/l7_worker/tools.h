/* SPDX-License-Identifier: Apache-2.0
 *
 * tools.h - function calling as a model sees it: functions described in its prompt, calls and results put back in the
 * form of its family, a grammar that calls keep to, and calls read out of an answer.
 *
 * In:   a request's tools and messages (hostile)     Out: messages for the engine, a grammar; of an answer, its calls
 * Not:  no model, no choice of when to call: that is the model's, or the request's
 *
 * Families whose template knows functions get its form (llm_chat_tools); all others that of Hermes and Qwen, which they
 * learn from the system message. Rendering is in tools.c, grammars and reading in calls.c.
 */
#ifndef L7_WORKER_TOOLS_H
#define L7_WORKER_TOOLS_H

#include "base/base.h"
#include "devices/l7_worker/engine.h"
#include "dsmil.pb-c.h"
#include "llm/grammar.h"
#include "llm/llm.h"

enum {
    WORKER_TOOLS_MAX = 64,
    WORKER_TOOL_NAME_MAX = 64,
    WORKER_CALL_ID_BYTES = 32,
    WORKER_CALLS_MAX = 16 /* of one answer */
};

/* What the model was trained with. */
struct worker_tool_style {
    enum llm_tools form;
    const char *system; /* of a chat that brings none; NULL: none */
    size_t system_len;
};
struct worker_tool_style worker_tool_style_of(const struct llm_model *model);

/* Messages with everything of tools in the model's form. Zeroed, then filled by worker_tools_render. */
struct worker_prompt {
    struct llm_message *messages; /* into the request, or into `made` */
    size_t count;
    char **made;
    size_t made_count;
};
/* May `r`'s answer call one of its tools? */
bool worker_tools_offered(const Dsmil__L7ChatRequest *r);
/* The form of this request: a family's own, unless what is asked for goes beyond it. */
enum llm_tools worker_tools_form(const Dsmil__L7ChatRequest *r, enum llm_tools form);
/* E_RANGE (`ret_reason` names the field), E_UTF8, E_NOMEM. */
dbe_err worker_tools_render(const Dsmil__L7ChatRequest *r, const struct worker_tool_style *style,
                            struct worker_prompt *ret, const char **ret_reason) DBE_MUST_CHECK;
void worker_prompt_free(struct worker_prompt *p); /* wipes */

/* How calls of any of the tools, or of the one that tool_choice names, begin and what they keep to. The caller frees
 * ret->grammar and ret->names. E_RANGE: a schema that cannot be kept to (`diag` says why), E_NOMEM. */
dbe_err worker_tools_call(const Dsmil__L7ChatRequest *r, enum llm_tools form, struct engine_call *ret,
                          struct dbe_diag *diag) DBE_MUST_CHECK;

/* Calls in what an answer said from the first one's mark on. */
struct worker_call {
    char id[WORKER_CALL_ID_BYTES], *name, *arguments;
};
struct worker_calls {
    struct worker_call list[WORKER_CALLS_MAX];
    size_t count, end; /* end: bytes of the text that they take */
};
/* The whole ones, up to the first that is not. E_NOMEM, E_RANDOM. */
dbe_err worker_calls_read(const char *text, size_t len, struct worker_calls *ret) DBE_MUST_CHECK;
void worker_calls_free(struct worker_calls *calls);
/* An answer is over: what stands in `call` from `called` on and is no whole call goes to the end of `text`, so that
 * nothing is lost; `ret_behind` is how many bytes of it stand behind a call. Where all are whole, the answer ended by
 * itself, however much room was left. */
dbe_err worker_calls_settle(struct base_buf *text, struct base_buf *call, size_t called, struct engine_result *result,
                            size_t *ret_behind) DBE_MUST_CHECK;

#endif
