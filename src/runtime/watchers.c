/* SPDX-License-Identifier: Apache-2.0
 *
 * watchers.c - those who follow a service's status: requests that stay open and are answered as a stream.
 *
 * In:   requests that a device takes in; a status to tell
 * Out:  streamed answers, each request ended before its deadline does it with an error
 * Not:  when to tell: the device does that on a change, and from its tick
 */
#include "dbe/payload.h"
#include "dsmil.pb-c.h"
#include "runtime/priv.h"

enum { WATCH_END_BEFORE_MS = 2000 }; /* more than a tick, so that a deadline never comes first */

static void on_gone(void *user, struct svc_req *req, dbe_err why)
{
    struct svc_watchers *w = user;

    (void)why;
    for (size_t i = 0; i < SVC_WATCHERS_MAX; i++)
        if (w->reqs[i] == req)
            w->reqs[i] = NULL;
}

dbe_err svc_watchers_add(struct svc_watchers *w, struct svc_req *req)
{
    for (size_t i = 0; i < SVC_WATCHERS_MAX; i++) {
        if (w->reqs[i] != NULL)
            continue;
        w->reqs[i] = req;
        svc_req_set_user(req, w);
        svc_req_on_gone(req, on_gone);
        return DBE_OK;
    }
    return DBE_E_LIMIT;
}

static bool wants_watch(const struct dbe_msg *question)
{
    Dsmil__L7ModelStatus *asked = NULL;

    if (question->payload_len > 0 &&
        dbe_payload_check(question->type, question->payload, question->payload_len, NULL) == DBE_OK)
        asked = dsmil__l7_model_status__unpack(NULL, question->payload_len, question->payload);
    const bool watch = asked != NULL && asked->watch;
    if (asked != NULL)
        dsmil__l7_model_status__free_unpacked(asked, NULL);
    return watch;
}

dbe_err svc_watchers_answer(struct svc *svc, struct svc_watchers *w, struct svc_req *req,
                            const struct dbe_msg *question, const void *status, size_t len)
{
    const bool watch = wants_watch(question);

    DBE_TRY(svc_reply(svc, req, DBE_MSG_L7_MODEL_STATUS, status, len, !watch));
    return watch ? svc_watchers_add(w, req) : DBE_OK;
}

void svc_watchers_tell(struct svc *svc, struct svc_watchers *w, uint8_t type, const void *payload, size_t len,
                       bool last)
{
    const uint64_t end_before_ns = WATCH_END_BEFORE_MS * (uint64_t)BASE_NS_PER_MS;

    for (size_t i = 0; i < SVC_WATCHERS_MAX; i++) {
        struct svc_req *req = w->reqs[i];
        if (req == NULL)
            continue;
        bool ends = last || svc_req_deadline_ns(req) < svc_now_ns(svc) + end_before_ns;
        if (ends)
            w->reqs[i] = NULL;
        if (svc_reply(svc, req, type, payload, len, ends) == DBE_OK)
            continue;
        w->reqs[i] = NULL;
        svc_refuse(svc, req, DBE_E_LIMIT, NULL, NULL);
    }
}
