/* SPDX-License-Identifier: Apache-2.0
 *
 * runtime_fake.h - for the test of Device 14: a runtime that the test plays, with one peer, the router.
 */
#ifndef DEVICES_AUDIT_RUNTIME_FAKE_H
#define DEVICES_AUDIT_RUNTIME_FAKE_H

#include <stddef.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/audit/audit.h"
#include "dsmil.pb-c.h"

/* ---- the runtime --------------------------------------------------------------------------------------------- */

struct svc_req {
    const struct dbe_peer *peer;
    void *user;
    void (*on_gone)(void *user, struct svc_req *req, dbe_err why);
    bool acked, refused;
    dbe_err code;
    uint64_t next, size;
    size_t note_len;
};

static struct dbe_loop *loop;
static struct dbe_identity self = {
    .mesh = "m", .device = 14, .role = DBE_ROLE_AUDIT, .spiffe_id = "spiffe://m/l0/audit/14"};
static struct dbe_identity router = {.mesh = "m", .device = 43, .spiffe_id = "spiffe://m/l7/router/43"};
static struct crypto_key *key;
static const uint8_t k_log[32] = {7};
static uint64_t clock_ns = 1, wall_ms = UINT64_C(1800000000000);
static unsigned events[32], own_stored, own_failed, holds, peers;
static char dir[64], said[512]; /* said: the last line of the service's log */
static int a_peer, a_credential;
static struct audit_device *d;

static inline const struct dbe_peer *peer(void)
{
    return (const struct dbe_peer *)(const void *)&a_peer; /* nobody looks into it */
}

uint64_t svc_now_ns(const struct svc *svc)
{
    (void)svc;
    return clock_ns;
}
struct dbe_loop *svc_loop(struct svc *svc)
{
    (void)svc;
    return loop;
}
const struct dbe_identity *svc_identity(const struct svc *svc)
{
    (void)svc;
    return &self;
}
const struct dbe_credential *svc_credential(const struct svc *svc)
{
    (void)svc;
    return (const struct dbe_credential *)(const void *)&a_credential;
}
dbe_err svc_public_key(const struct svc *svc, uint8_t ret[CRYPTO_MLDSA87_PK_BYTES])
{
    (void)svc;
    return crypto_key_public(key, ret);
}
const struct dbe_trust *svc_trust(const struct svc *svc)
{
    (void)svc;
    return NULL;
}
/* The one certificate that there is. */
dbe_err dbe_trust_verify(const struct dbe_trust *trust, const uint8_t *der, size_t len, uint64_t now_ms,
                         struct dbe_identity *ret, uint8_t *ret_pk, struct dbe_diag *diag)
{
    (void)trust, (void)now_ms, (void)diag;
    if (len != 11 || memcmp(der, "certificate", 11) != 0)
        return DBE_E_CERT;
    *ret = self;
    return crypto_key_public(key, ret_pk);
}
void svc_log(struct svc *svc, enum svc_level level, const struct svc_req *req, const char *fmt, ...)
{
    va_list ap;

    (void)svc, (void)level, (void)req;
    va_start(ap, fmt);
    vsnprintf(said, sizeof said, fmt, ap);
    va_end(ap);
}
void svc_observe(struct svc *svc, const char *metric, const char *labels, double value)
{
    (void)svc, (void)metric, (void)labels, (void)value;
}
void svc_dumpf(struct svc_dump *out, const char *fmt, ...)
{
    (void)out, (void)fmt;
}
void svc_audit_event(struct svc *svc, uint8_t kind, dbe_err code, const struct dbe_peer *from, uint32_t count,
                     const char *detail)
{
    (void)svc, (void)code, (void)from, (void)detail;
    events[kind] += kind == AUDIT_MISSING || kind == AUDIT_TORN ? count : 1;
}
void svc_audit_set_sink(struct svc *svc, svc_audit_sink *sink, void *ctx)
{
    (void)svc, (void)sink, (void)ctx;
}
void svc_audit_stored(struct svc *svc, uint64_t next)
{
    (void)svc, (void)next;
    own_stored++;
}
void svc_audit_failed(struct svc *svc)
{
    (void)svc;
    own_failed++;
}
void svc_hold(struct svc *svc)
{
    (void)svc;
    holds++;
}
void svc_release(struct svc *svc)
{
    (void)svc;
    holds--;
}
size_t svc_peer_count(const struct svc *svc)
{
    (void)svc;
    return peers;
}
const struct dbe_peer *svc_req_peer(const struct svc_req *req)
{
    return req->peer;
}
void svc_req_set_user(struct svc_req *req, void *user)
{
    req->user = user;
}
void svc_req_on_gone(struct svc_req *req, void (*fn)(void *user, struct svc_req *req, dbe_err why))
{
    req->on_gone = fn;
}
dbe_err svc_reply(struct svc *svc, struct svc_req *req, uint8_t type, const void *payload, size_t len, bool last)
{
    (void)svc;
    assert_true(last && type == DBE_MSG_AUDIT_ACK && !req->acked && !req->refused);
    Dsmil__AuditAck *ack = dsmil__audit_ack__unpack(NULL, len, payload);
    assert_non_null(ack);
    req->acked = true;
    req->next = ack->next;
    req->size = ack->size;
    req->note_len = ack->checkpoint.len;
    dsmil__audit_ack__free_unpacked(ack, NULL);
    return DBE_OK;
}
void svc_refuse(struct svc *svc, struct svc_req *req, dbe_err code, const char *rule, const char *reason)
{
    (void)svc, (void)rule, (void)reason;
    assert_true(!req->acked && !req->refused);
    req->refused = true;
    req->code = code;
}
const struct dbe_identity *dbe_peer_identity(const struct dbe_peer *p)
{
    (void)p;
    return &router;
}
dbe_err dbe_peer_log_key(const struct dbe_peer *p, uint8_t ret[32])
{
    (void)p;
    memcpy(ret, k_log, 32);
    return DBE_OK;
}
dbe_err dbe_credential_sign(const struct dbe_credential *cred, const char *ctx, const void *msg, size_t len,
                            uint8_t *sig)
{
    (void)cred;
    return crypto_sign(key, ctx, msg, len, sig);
}
void dbe_credential_cert(const struct dbe_credential *cred, const uint8_t **ret_der, size_t *ret_len)
{
    (void)cred;
    *ret_der = (const uint8_t *)"certificate";
    *ret_len = 11;
}

/* ---- batches ------------------------------------------------------------------------------------------------- */

static const uint8_t run[AUDIT_RUN_BYTES] = {1};

/* Records `from` to `to` (excluded) of a kind as a message; `spoil` changes one byte behind the tag. */
static inline dbe_err send_kind(struct svc_req *req, uint8_t kind, uint64_t from, uint64_t to, bool spoil)
{
    Dsmil__AuditRecords p = DSMIL__AUDIT_RECORDS__INIT;
    uint8_t tag[AUDIT_TAG_BYTES], packed[65536];
    const uint8_t nonce[CRYPTO_AEAD_IV_BYTES] = {9};
    struct dbe_msg msg = {.type = DBE_MSG_AUDIT_RECORDS, .payload = packed};
    struct base_buf b;

    base_buf_init(&b, 60000);
    for (uint64_t i = from; i < to; i++)
        assert_int_equal(audit_record_put(&(struct audit_record){.kind = kind, .seq = i}, &b), DBE_OK);
    assert_int_equal(audit_batch_tag(k_log, run, nonce, b.data, b.len, tag), DBE_OK);
    if (spoil)
        b.data[b.len / 2] ^= 1;
    p.run = (ProtobufCBinaryData){sizeof run, (uint8_t *)(uintptr_t)run};
    p.records = (ProtobufCBinaryData){b.len, b.data};
    p.tag = (ProtobufCBinaryData){sizeof tag, tag};
    msg.payload_len = dsmil__audit_records__pack(&p, packed);
    base_buf_free(&b);
    *req = (struct svc_req){.peer = peer()};
    return audit_device.routes[0].handler(NULL, d, req, &msg);
}

static inline dbe_err send(struct svc_req *req, uint64_t from, uint64_t to, bool spoil)
{
    return send_kind(req, AUDIT_ORDER, from, to, spoil);
}

static inline void turn(void)
{
    clock_ns += 1000;
    assert_int_equal(base_loop_turn(loop, 0), DBE_OK);
}

static inline uint64_t fake_mono(void *ctx)
{
    (void)ctx;
    return clock_ns;
}
static inline uint64_t fake_wall(void *ctx)
{
    (void)ctx;
    return wall_ms;
}

static inline uint64_t stored(void)
{
    uint64_t size;
    uint8_t root[AUDIT_HASH_BYTES];

    audit_log_head(d->log, &size, root);
    return size;
}

/* ---- life ---------------------------------------------------------------------------------------------------- */

static inline int up(void **state)
{
    struct dbe_diag diag = {0};

    (void)state;
    memset(events, 0, sizeof events);
    snprintf(dir, sizeof dir, "/tmp/dsmil-device14-XXXXXX");
    if (mkdtemp(dir) == NULL || base_loop_new(&loop) != DBE_OK)
        return -1;
    d = base_alloc(1, sizeof *d);
    assert_non_null(d);
    snprintf(d->dir, sizeof d->dir, "%s", dir);
    d->segment_mib = 1;
    d->checkpoint_entries = 4096;
    d->checkpoint_s = 60;
    audit_sys_fail_at(0, 0);
    return audit_device.init(NULL, d, &diag) == DBE_OK ? 0 : -1;
}

static inline void empty(const char *path)
{
    char name[512];
    struct dirent *e;
    DIR *open = opendir(path);

    while (open != NULL && (e = readdir(open)) != NULL) {
        snprintf(name, sizeof name, "%s/%.200s", path, e->d_name);
        if (e->d_name[0] != '.' && unlink(name) != 0)
            empty(name);
    }
    if (open != NULL)
        closedir(open);
    rmdir(path);
}

static inline int down(void **state)
{
    (void)state;
    audit_sys_fail_at(0, 0);
    audit_device.fini(NULL, d);
    base_free(d);
    base_loop_free(loop);
    empty(dir);
    return 0;
}

static inline int group_up(void **state)
{
    static const struct base_clock_ops ops = {fake_mono, fake_wall, NULL};

    (void)state;
    base_clock_set(&ops);
    return crypto_init(NULL) == DBE_OK && crypto_key_generate(&key) == DBE_OK ? 0 : -1;
}

static inline int group_down(void **state)
{
    (void)state;
    crypto_key_free(key);
    return 0;
}

#endif
