/* SPDX-License-Identifier: Apache-2.0
 *
 * policy.h - may this message pass here? One pure function decides; every receiver calls it before its handler sees a
 * byte (NIST SP 800-207: the runtime is the PEP, pol_decide the PDP). Default deny, deny overrides.
 *
 * In:   what the channel proved (peer's certificate), the verified claim if there is one, the message's labels
 * Out:  allow, or deny with a stable code (schema/errors.def), the rule's name and a reason
 * Not:  no I/O, no clock, no allocation, no log.
 * Sources: 000 section 4; 001 sections 3.1 and 4.2.
 */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include "base/base.h"
#include "crypto/crypto.h"
#include "dbe/identity.h"
#include "dbe/msg.h"
#include "dbe/policy.h"

/* ---- claim tokens ---------------------------------------------------------------------------- */

enum { POL_CLAIM_VERSION = 1, POL_CLAIM_NAME_MAX = 64, POL_CLAIM_LIFETIME_MAX_MS = 3600 * 1000 };

/* What a claim says. Canonical binary form: docs/spec/dbe-v1.md, section 10. */
struct pol_claim {
    char tenant[DBE_TENANT_MAX_BYTES + 1];
    char client[POL_CLAIM_NAME_MAX + 1];
    uint8_t roe_levels;         /* bit (1 << roe level) for each level it may use */
    uint8_t classification_max; /* enum dbe_classification below TS_SIM */
    bool exercise;
    uint32_t compartments;
    uint64_t not_before_ms, not_after_ms; /* Unix */
    uint8_t channel_binding[32];          /* the channel it may be used on, and no other */
};

/* Encode and sign. `issuer` must outlive the call only. E_ARGUMENT if a field cannot stand (empty tenant,
 * KINETIC, window). */
dbe_err pol_claim_issue(const struct pol_claim *claim, const struct dbe_credential *issuer, uint8_t *out, size_t cap,
                        size_t *ret_len) DBE_MUST_CHECK;
/* Verify signature (issuer's public key), form, window at `now_ms` and channel binding. E_CLAIM_INVALID,
 * E_CLAIM_EXPIRED. */
dbe_err pol_claim_verify(const uint8_t *token, size_t len, const struct crypto_key *issuer, const uint8_t binding[32],
                         uint64_t now_ms, struct pol_claim *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Verified tokens of one channel, so that a signature is checked once and not on every message. A hit compares
 * the whole token, byte by byte; the window is checked on every use. Small and fixed; the oldest gives way. */
enum { POL_CLAIM_CACHE = 16 };
struct pol_claim_cache;
dbe_err pol_claim_cache_new(const uint8_t issuer_pk[CRYPTO_MLDSA87_PK_BYTES], const uint8_t binding[32],
                            struct pol_claim_cache **ret) DBE_MUST_CHECK;
void pol_claim_cache_free(struct pol_claim_cache *cache);
/* The channel switched to a renewed certificate with this key. Claims of the key before are taken as well, until the
 * next renewal: the binding keeps them on this channel, and what the peer signed before it changed is still on its way.
 * On error nothing changed. */
dbe_err pol_claim_cache_renew(struct pol_claim_cache *cache,
                              const uint8_t issuer_pk[CRYPTO_MLDSA87_PK_BYTES]) DBE_MUST_CHECK;
/* Verified view of `token`, valid until the next call. `ret_hit` (may be NULL): came from the cache. */
dbe_err pol_claim_cached(struct pol_claim_cache *cache, const uint8_t *token, size_t len, uint64_t now_ms,
                         const struct pol_claim **ret, bool *ret_hit, struct dbe_diag *diag) DBE_MUST_CHECK;

/* ---- the decision ---------------------------------------------------------------------------- */

struct pol_subject {
    const struct dbe_identity *peer; /* who sent it: from its certificate */
    const struct dbe_identity *self; /* who decides: the destination's ceilings */
    const struct pol_claim *claim;   /* verified; NULL: the message carried none */
    dbe_err claim_err;               /* why the claim it carried was not accepted; DBE_OK otherwise */
    const char *claim_fault;         /* the same in words, for the reason; NULL: the code's sentence */
    bool roe_verified;               /* it carries an ROE token that permits it (roe.h) */
    dbe_err roe_err;                 /* why the one it carried does not; DBE_OK otherwise */
    const char *roe_fault;           /* the same in words */
};

/* A compiled policy: tables that a decision only looks things up in. Made by pol_compile (compile.h) from the site's
 * YAML, or by pol_policy_default. Sizes are limits of the file. */
enum { POL_TENANTS_MAX = 64, POL_RULES_MAX = 64, POL_NAME_MAX = 64, POL_DIGEST_BYTES = CRYPTO_HASH_BYTES };

#define POL_RATE_WINDOW_MAX_MS (UINT64_C(744) * 3600 * 1000) /* 31 days */

/* So many within any window of that length, at most POL_RATE_WINDOW_MAX_MS; count 0: no limit. */
struct pol_rate {
    uint64_t count, window_ms;
};

/* What one tenant may use (rate.h keeps the accounts). 0: no limit. */
struct pol_limits {
    struct pol_rate requests, tokens;
    uint32_t parallel;
    uint64_t kv_bytes;
};

struct pol_tenant {
    char name[DBE_TENANT_MAX_BYTES + 1];
    uint8_t classification_max;
    uint8_t roe_levels; /* bit per level */
    uint32_t compartments;
    bool sealed; /* its prompts travel sealed to a worker, or not at all */
    struct pol_limits limits;
};

/* A set of numbers below 256, as message types and devices are. */
struct pol_set {
    uint64_t bits[4];
};
static inline bool pol_set_has(const struct pol_set *set, uint8_t number)
{
    return (set->bits[number / 64] >> (number % 64) & 1) != 0;
}
static inline void pol_set_add(struct pol_set *set, uint8_t number)
{
    set->bits[number / 64] |= UINT64_C(1) << (number % 64);
}

/* A rule of the site matches a message when all of these do. Everything set: no condition. */
struct pol_rule {
    char name[POL_NAME_MAX + 1];
    bool deny;
    uint8_t roe_levels, classification_min;
    uint16_t from_layers, to_layers; /* bit (1 << layer) */
    uint32_t from_roles, to_roles;   /* bit (1 << role) */
    uint32_t compartments;           /* at least one of these; UINT32_MAX: no condition */
    uint64_t tenants;                /* bit per row of pol_policy.tenants; UINT64_MAX: no condition */
    struct pol_set types, from_devices, to_devices;
};

struct pol_policy {
    uint64_t version;              /* the site's own number, for people */
    struct pol_set claim_required; /* message types that must carry a valid claim */
    uint32_t claim_forwarders;     /* bit (1 << role): these forward, and checked the claim where it came in */
    uint8_t roe_levels;            /* bit per level that this mesh accepts */
    uint32_t kinetic_mask;         /* compartments refused always; never 0 */
    struct pol_set token_types, token_devices;  /* an ROE token is needed for these types; by these receivers */
    uint16_t token_layers;                      /* and on these layers: bit (1 << layer) */
    struct pol_tenant tenants[POL_TENANTS_MAX]; /* sorted by name */
    size_t tenant_count;
    bool any_tenant; /* `any` stands for tenants that have no row */
    struct pol_tenant any;
    struct pol_rule rules[POL_RULES_MAX]; /* in the site's order */
    size_t rule_count;
    uint8_t digest[POL_DIGEST_BYTES]; /* SHA3-512 of the canonical form: docs/spec/dbe-v1.md, section 15 */
};
/* The built-in policy: claims on requests that come from a shim, all three ROE levels, KINETIC refused, any tenant,
 * no limits. The same as src/policy/default.yaml, compiled. */
void pol_policy_default(struct pol_policy *ret);
/* Row of a tenant, `any` for one that has none, NULL where neither is. Valid as long as `policy`. */
const struct pol_tenant *pol_policy_tenant(const struct pol_policy *policy, const char *name);
/* Digest over the canonical form. E_NOMEM, E_CRYPTO. */
dbe_err pol_policy_seal(struct pol_policy *policy) DBE_MUST_CHECK;
/* As much of the digest as enters the handshake. */
struct dbe_policy_digest pol_policy_digest(const struct pol_policy *policy);

/* Labels a message travels with, as decided: what answers and forwarded messages carry. */
struct pol_labels {
    char tenant[DBE_TENANT_MAX_BYTES + 1];
    uint32_t compartments;
    uint8_t classification, roe_level;
};

struct pol_verdict {
    dbe_err code;     /* DBE_OK: allowed */
    const char *rule; /* name of the rule that decided; static, or the policy's */
    char reason[128];
    struct pol_labels labels; /* when allowed */
};

/* Decide. Rules in order, first refusal wins; each is a row of one table: kinetic, source, destination, emit,
 * exec, sim-mix, roe-level, claim, tenant, compartment ceilings (claim, tenant, peer, self), classification ceilings,
 * roe-token, sealed, then the site's rules: the first that denies refuses, then the first that allows lets it pass (its
 * name is the verdict's), and what none allows is refused. A message type without claim_required still needs source,
 * destination, emit and labels within all ceilings. */
void pol_decide(const struct pol_subject *subject, const struct dbe_msg *msg, const struct pol_policy *policy,
                uint64_t now_ms, struct pol_verdict *ret);

/* Labels of a message as it carries them, none missing. E_NOT_FOUND, `ret` untouched. */
dbe_err pol_labels_read(const struct dbe_msg *msg, struct pol_labels *ret) DBE_MUST_CHECK;

/* May content with these labels go to a node with this certificate? Asked before sending: a receiver that
 * refuses has seen it already. `ret->labels` is `labels` when allowed. */
void pol_decide_send(const struct dbe_identity *to, const struct pol_labels *labels, struct pol_verdict *ret);

/* May this answer stand? It must come from the peer, be for us, be of a type that the peer may say to us, and
 * carry no label above those of the request. An ERROR may travel without labels: it carries nothing of the
 * request. */
void pol_decide_answer(const struct dbe_identity *peer, const struct dbe_identity *self,
                       const struct pol_labels *request, const struct dbe_msg *answer, struct pol_verdict *ret);

#endif
