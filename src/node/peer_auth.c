/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_auth.c - what a handshake asks of the node: our certificate and signature, whether the peer's are good, evidence
 * of both sides' machines.
 *
 * In:   questions of src/session    Out: answers from the node's credential and trust
 * Does not: send or receive (peer.c).
 */
#include "evidence.h"
#include "node_impl.h"

#include <string.h>

/* One credential for one handshake, though the node may be given another meanwhile. */
static const struct dbe_credential *own_credential(struct dbe_peer *p)
{
    if (p->credential == NULL)
        p->credential = p->node->config.credential;
    return p->credential;
}

static void auth_own_cert(void *ctx, const uint8_t **ret_der, size_t *ret_len)
{
    dbe_credential_cert(own_credential(ctx), ret_der, ret_len);
}

static dbe_err auth_sign(void *ctx, const char *sig_ctx, const void *msg, size_t len,
                         uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    return dbe_credential_sign(own_credential(ctx), sig_ctx, msg, len, sig);
}

static dbe_err auth_verify(void *ctx, const uint8_t *der, size_t len, struct dbe_identity *ret,
                           uint8_t ret_pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    struct dbe_peer *p = ctx;
    struct dbe_identity id;

    if (p->pk_next == NULL)
        p->pk_next = base_alloc(CRYPTO_MLDSA87_PK_BYTES, 1);
    if (p->pk_next == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, "channel", 0, "no memory for the peer's key");
    DBE_TRY(dbe_trust_verify(p->node->config.trust, der, len, base_wall_ms(), &id, p->pk_next, diag));
    if (p->link != NULL)
        DBE_TRY(link_accepts(p->link, &id, diag));
    *ret = id;
    memcpy(ret_pk, p->pk_next, CRYPTO_MLDSA87_PK_BYTES);
    return DBE_OK;
}

void peer_end_handshake(struct dbe_peer *p, bool ok)
{
    p->credential = NULL;
    if (ok && p->pk_next != NULL) {
        base_free(p->pk);
        p->pk = p->pk_next;
    } else {
        base_free(p->pk_next);
    }
    p->pk_next = NULL;
}

/* Spec 8.16: a quote of our TPM, if our certificate names a key for it. */
static dbe_err auth_evidence(void *ctx, const uint8_t th[CRYPTO_HASH_BYTES], struct base_buf *out)
{
    return node_evidence_make(own_credential(ctx), th, out, NULL);
}

/* Spec 8.17, 8.18: what the peer shows, or that it shows nothing. */
static dbe_err auth_verify_evidence(void *ctx, const struct dbe_identity *peer, const uint8_t th[CRYPTO_HASH_BYTES],
                                    const uint8_t *bytes, size_t len, struct dbe_diag *diag)
{
    const struct dbe_peer *p = ctx;

    return node_evidence_check(p->node->config.trust, peer, th, bytes, len, diag);
}

dbe_err peer_make_session(struct dbe_peer *p)
{
    const struct dbe_node *node = p->node;
    struct sess_config config = {
        .role = p->incoming ? SESS_RESPONDER : SESS_INITIATOR,
        .auth = {.own_cert = auth_own_cert,
                 .sign = auth_sign,
                 .verify_cert = auth_verify,
                 .evidence = auth_evidence,
                 .verify_evidence = auth_verify_evidence,
                 .ctx = p},
        .suites_count = node->suites_count,
        .policy_digest = node->config.policy_digest,
        .policy_digest_before = node->policy_digest_before,
        .rekey_records = node->config.rekey_records,
        .rekey_bytes = node->config.rekey_bytes,
        .rekey_age_ns = node->config.rekey_age_ns,
    };

    memcpy(config.suites, node->suites, sizeof config.suites);
    p->generation = node->generation;
    p->began_ns = base_mono_ns();
    return sess_new(&config, &p->sess);
}
