/* SPDX-License-Identifier: Apache-2.0
 *
 * svc_fake.c - see svc_fake.h.
 */
#include "shim/svc_fake.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "audit/audit.h"
#include "runtime/admin.h"

struct svc_link {
    int unused;
};
struct dbe_peer {
    int unused;
};

static struct svc_link router;
static struct dbe_peer channel;

static struct fake_svc *current; /* the one of this test */

static struct fake_svc *of(const struct svc *svc)
{
    return (struct fake_svc *)(void *)(uintptr_t)svc;
}

struct svc *fake_svc_of(struct fake_svc *fake)
{
    current = fake;
    return (struct svc *)(void *)fake;
}

/* ---- what the gateway calls ------------------------------------------------------------------------------------- */

uint64_t svc_now_ns(const struct svc *svc)
{
    return base_mono_ns() + of(svc)->clock_ahead_ns;
}

struct dbe_loop *svc_loop(struct svc *svc)
{
    return of(svc)->loop;
}

void pol_decide_send(const struct dbe_identity *to, const struct pol_labels *labels, struct pol_verdict *ret)
{
    (void)to;
    *ret = (struct pol_verdict){.code = DBE_OK, .labels = *labels};
}

const struct pol_policy *svc_policy(const struct svc *svc)
{
    return &of(svc)->policy;
}

const struct pol_tenant *pol_policy_tenant(const struct pol_policy *policy, const char *name)
{
    return policy->any_tenant && strcmp(policy->any.name, name) == 0 ? &policy->any : NULL;
}

const struct dbe_trust *svc_trust(const struct svc *svc)
{
    (void)svc;
    return NULL;
}

const struct dbe_credential *svc_credential(const struct svc *svc)
{
    (void)svc;
    return NULL;
}

void svc_log(struct svc *svc, enum svc_level level, const struct svc_req *req, const char *fmt, ...)
{
    (void)svc;
    (void)level;
    (void)req;
    (void)fmt;
}

void svc_observe(struct svc *svc, const char *metric, const char *labels, double value)
{
    const bool first = strcmp(metric, "dsmil_l7_first_token_seconds") == 0;

    assert_string_equal(metric, first ? "dsmil_l7_first_token_seconds" : "dsmil_l7_latency_seconds");
    assert_string_equal(labels, first ? "device_id=\"0\"" : "device_id=\"0\",profile=\"llm-7b-amx\"");
    assert_true(value >= 0);
    *(first ? &of(svc)->first_tokens : &of(svc)->latencies) += 1;
}

void svc_dumpf(struct svc_dump *out, const char *fmt, ...)
{
    (void)out;
    (void)fmt;
}

void svc_hold(struct svc *svc)
{
    of(svc)->holds++;
}

void svc_release(struct svc *svc)
{
    of(svc)->holds--;
}

struct svc_link *svc_link_named(struct svc *svc, const char *name)
{
    (void)svc;
    return strcmp(name, "router") == 0 ? &router : NULL;
}

bool svc_link_is_up(const struct svc_link *link)
{
    (void)link;
    return current->link_up;
}

struct dbe_peer *svc_link_peer(const struct svc_link *link)
{
    (void)link;
    return current->link_up ? &channel : NULL;
}

const char *svc_link_problem(const struct svc_link *link)
{
    (void)link;
    return current->link_up ? "" : "connection refused";
}

const char *dbe_suite_name(uint16_t suite)
{
    return suite == 1 ? "suite one" : "unknown";
}

const char *dbe_peer_suite(const struct dbe_peer *peer)
{
    (void)peer;
    return "fake-suite";
}

uint64_t dbe_peer_handshake_us(const struct dbe_peer *peer)
{
    (void)peer;
    return 1234;
}

dbe_err dbe_peer_channel_binding(const struct dbe_peer *peer, uint8_t ret[32])
{
    (void)peer;
    memset(ret, 7, 32);
    return DBE_OK;
}

dbe_err pol_claim_issue(const struct pol_claim *claim, const struct dbe_credential *issuer, uint8_t *out, size_t cap,
                        size_t *ret_len)
{
    (void)issuer;
    assert_true(cap >= 8);
    assert_int_equal(claim->channel_binding[0], 7);
    memcpy(out, "a claim!", 8);
    *ret_len = 8;
    current->claims++;
    return DBE_OK;
}

dbe_err svc_metrics_render(struct svc *svc, struct base_buf *out)
{
    (void)svc;
    base_buf_str(out, "fake_metric 1\n");
    return out->err;
}

dbe_err svc_health_render(struct svc *svc, struct base_buf *out, unsigned *ret_http_status)
{
    base_buf_str(out, "{\"status\":\"fake\"}");
    *ret_http_status = of(svc)->link_up ? 200 : 503;
    return out->err;
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

static dbe_err add_call(struct fake_svc *fake, uint8_t type, const void *bytes, size_t len, dbe_reply_fn *fn, void *ctx,
                        uint64_t *ret_call_id)
{
    for (size_t i = 0; i < FAKE_CALLS_MAX; i++) {
        struct fake_call *c = &fake->calls[i];
        if (c->open)
            continue;
        *c = (struct fake_call){.open = true, .type = type, .len = len, .id = ++fake->next_id, .fn = fn, .ctx = ctx};
        if (len > 0) {
            c->bytes = malloc(len);
            assert_non_null(c->bytes);
            memcpy(c->bytes, bytes, len);
        }
        *ret_call_id = c->id;
        return DBE_OK;
    }
    fail_msg("more calls than the test expects");
    return DBE_E_LIMIT;
}

static void close_call(struct fake_call *c)
{
    if (c->bytes != NULL)
        free(c->bytes);
    memset(c, 0, sizeof *c);
}

dbe_err svc_call(struct svc *svc, struct svc_link *link, uint8_t type, const void *payload, size_t len,
                 uint64_t deadline_ns, dbe_reply_fn *fn, void *ctx, uint64_t *ret_call_id)
{
    (void)link;
    (void)deadline_ns;
    return add_call(of(svc), type, payload, len, fn, ctx, ret_call_id);
}

dbe_err svc_call_message(struct svc *svc, struct svc_link *link, const void *bytes, size_t len, uint64_t deadline_ns,
                         dbe_reply_fn *fn, void *ctx, uint64_t *ret_call_id)
{
    struct dbe_msg msg;

    (void)link;
    (void)deadline_ns;
    assert_int_equal(dbe_msg_decode(bytes, len, &msg, NULL), DBE_OK);
    if (of(svc)->call_err != DBE_OK)
        return of(svc)->call_err;
    return add_call(of(svc), msg.type, bytes, len, fn, ctx, ret_call_id);
}

void svc_call_cancel(struct svc *svc, struct svc_link *link, uint64_t call_id)
{
    (void)link;
    for (size_t i = 0; i < FAKE_CALLS_MAX; i++) {
        struct fake_call *c = &of(svc)->calls[i];
        if (!c->open || c->id != call_id)
            continue;
        close_call(c);
        of(svc)->cancelled++;
    }
}

void svc_audit_event(struct svc *svc, uint8_t kind, dbe_err code, const struct dbe_peer *peer, uint32_t count,
                     const char *detail)
{
    (void)peer;
    (void)count;
    assert_true(kind == AUDIT_SEALED && code != DBE_OK && strstr(detail, "does not open") != NULL);
    of(svc)->audited++;
}

/* ---- the router's part ------------------------------------------------------------------------------------------ */

struct fake_call *fake_call_of(struct fake_svc *fake, uint8_t type)
{
    struct fake_call *oldest = NULL;

    for (size_t i = 0; i < FAKE_CALLS_MAX; i++) {
        struct fake_call *c = &fake->calls[i];
        if (c->open && c->type == type && (oldest == NULL || c->id < oldest->id))
            oldest = c;
    }
    return oldest;
}

void fake_answer(struct fake_svc *fake, struct fake_call *call, uint8_t type, const void *payload, size_t len,
                 bool last)
{
    struct dbe_builder b;
    struct dbe_msg msg, hop;
    size_t cap = len + 1024, n = 0, hop_len = 0;
    uint8_t *bytes = test_malloc(cap), inner[256];
    dbe_reply_fn *fn = call->fn;
    void *ctx = call->ctx;

    (void)fake;
    dbe_build_begin(&b, inner, sizeof inner, type, 0, 1);
    dbe_build_hops(&b, NULL, &(struct dbe_hop){47, 1000, 1});
    dbe_build_payload(&b, "", 0);
    assert_int_equal(dbe_build_end(&b, &hop_len), DBE_OK);
    assert_int_equal(dbe_msg_decode(inner, hop_len, &hop, NULL), DBE_OK);
    dbe_build_begin(&b, bytes, cap, type, last ? 0 : DBE_FLAG_STREAMING, 1);
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, DBE_COMPARTMENT_SOC);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, DBE_CLSF_SECRET);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, DBE_ROE_SOC_ASSIST);
    if (last)
        dbe_build_hops(&b, &hop, &(struct dbe_hop){43, 2000, 1});
    dbe_build_payload(&b, payload, len);
    assert_int_equal(dbe_build_end(&b, &n), DBE_OK);
    assert_int_equal(dbe_msg_decode(bytes, n, &msg, NULL), DBE_OK);
    if (last)
        close_call(call);
    fn(ctx, &msg, last, DBE_OK);
    test_free(bytes);
}

void fake_end(struct fake_svc *fake, struct fake_call *call, dbe_err err)
{
    dbe_reply_fn *fn = call->fn;
    void *ctx = call->ctx;

    (void)fake;
    close_call(call);
    fn(ctx, NULL, true, err);
}

void fake_svc_clear(struct fake_svc *fake)
{
    for (size_t i = 0; i < FAKE_CALLS_MAX; i++)
        if (fake->calls[i].open)
            close_call(&fake->calls[i]);
}
