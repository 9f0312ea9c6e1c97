/* SPDX-License-Identifier: Apache-2.0
 *
 * tables.c - a compiled policy: looking things up in it, its canonical form and digest, and the one that is built in.
 *
 * In:   struct pol_policy    Out: rows, the rule that matches, bytes, SHA3-512
 * Not:  it reads no file (compile.c makes tables from YAML) and decides nothing (decide.c).
 */
#include <string.h>

#include "policy/internal.h"

enum { CANONICAL_MAX_BYTES = 64 * 1024 };
static const char magic[] = "DSMIL-DBE policy v1";

/* ---- looking up -------------------------------------------------------------------------------- */

const struct pol_tenant *pol_policy_tenant(const struct pol_policy *policy, const char *name)
{
    size_t low = 0, high = policy->tenant_count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(name, policy->tenants[mid].name);
        if (order == 0)
            return &policy->tenants[mid];
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return policy->any_tenant ? &policy->any : NULL;
}

uint64_t pol_policy_tenant_bit(const struct pol_policy *policy, const struct pol_tenant *tenant)
{
    if (tenant == NULL || tenant == &policy->any)
        return 0;
    return UINT64_C(1) << (tenant - policy->tenants);
}

/* Bit `at` of a mask; a number that no mask can hold matches only where nothing is asked. */
static bool in_mask(uint32_t mask, uint32_t all, uint8_t at)
{
    return mask == all || (at < 32 && (mask >> at & 1) != 0);
}

static bool rule_matches(const struct pol_rule *r, const struct pol_flow *f)
{
    return pol_set_has(&r->types, f->type) && in_mask(r->from_roles, UINT32_MAX, f->from->role) &&
           in_mask(r->to_roles, UINT32_MAX, f->to->role) && in_mask(r->from_layers, UINT16_MAX, f->from->layer) &&
           in_mask(r->to_layers, UINT16_MAX, f->to->layer) && pol_set_has(&r->from_devices, f->from->device) &&
           pol_set_has(&r->to_devices, f->to->device) && (r->tenants == UINT64_MAX || (r->tenants & f->tenant) != 0) &&
           in_mask(r->roe_levels, UINT8_MAX, f->labels->roe_level) &&
           (r->compartments == UINT32_MAX || (r->compartments & f->labels->compartments) != 0) &&
           f->labels->classification >= r->classification_min;
}

const struct pol_rule *pol_rules_match(const struct pol_policy *policy, const struct pol_flow *flow)
{
    const struct pol_rule *allows = NULL;

    for (size_t i = 0; i < policy->rule_count; i++) {
        const struct pol_rule *r = &policy->rules[i];
        if ((allows != NULL && !r->deny) || !rule_matches(r, flow))
            continue;
        if (r->deny)
            return r;
        allows = r;
    }
    return allows;
}

/* ---- canonical form ---------------------------------------------------------------------------- */

static void put_set(struct base_buf *b, const struct pol_set *set)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(set->bits); i++)
        base_buf_u64(b, set->bits[i]);
}

static void put_rate(struct base_buf *b, const struct pol_rate *rate)
{
    base_buf_u64(b, rate->count);
    base_buf_u64(b, rate->window_ms);
}

static void put_tenant(struct base_buf *b, const struct pol_tenant *t)
{
    base_buf_name(b, t->name);
    base_buf_u8(b, t->classification_max);
    base_buf_u8(b, t->roe_levels);
    base_buf_u32(b, t->compartments);
    put_rate(b, &t->limits.requests);
    put_rate(b, &t->limits.tokens);
    base_buf_u32(b, t->limits.parallel);
    base_buf_u64(b, t->limits.kv_bytes);
    base_buf_u8(b, t->sealed);
}

static void put_rule(struct base_buf *b, const struct pol_rule *r)
{
    base_buf_name(b, r->name);
    base_buf_u8(b, r->deny);
    base_buf_u8(b, r->roe_levels);
    base_buf_u8(b, r->classification_min);
    base_buf_u16(b, r->from_layers);
    base_buf_u16(b, r->to_layers);
    base_buf_u32(b, r->from_roles);
    base_buf_u32(b, r->to_roles);
    base_buf_u32(b, r->compartments);
    base_buf_u64(b, r->tenants);
    put_set(b, &r->types);
    put_set(b, &r->from_devices);
    put_set(b, &r->to_devices);
}

void pol_policy_canonical(const struct pol_policy *policy, struct base_buf *out)
{
    base_buf_bytes(out, magic, sizeof magic);
    base_buf_u64(out, policy->version);
    base_buf_u32(out, policy->kinetic_mask);
    base_buf_u8(out, policy->roe_levels);
    put_set(out, &policy->claim_required);
    base_buf_u32(out, policy->claim_forwarders);
    put_set(out, &policy->token_types);
    put_set(out, &policy->token_devices);
    base_buf_u16(out, policy->token_layers);
    base_buf_u16(out, (uint16_t)policy->tenant_count);
    for (size_t i = 0; i < policy->tenant_count; i++)
        put_tenant(out, &policy->tenants[i]);
    base_buf_u8(out, policy->any_tenant);
    if (policy->any_tenant)
        put_tenant(out, &policy->any);
    base_buf_u16(out, (uint16_t)policy->rule_count);
    for (size_t i = 0; i < policy->rule_count; i++)
        put_rule(out, &policy->rules[i]);
}

dbe_err pol_policy_seal(struct pol_policy *policy)
{
    uint8_t digest[POL_DIGEST_BYTES];
    struct crypto_hash *hash = NULL;
    struct base_buf bytes;
    dbe_err err;

    base_buf_init(&bytes, CANONICAL_MAX_BYTES);
    pol_policy_canonical(policy, &bytes);
    err = bytes.err != DBE_OK ? bytes.err : crypto_hash_new(&hash);
    if (err == DBE_OK)
        err = crypto_hash_update(hash, bytes.data, bytes.len);
    if (err == DBE_OK)
        err = crypto_hash_peek(hash, digest);
    crypto_hash_free(hash);
    base_buf_free(&bytes);
    if (err != DBE_OK)
        return err;
    memcpy(policy->digest, digest, sizeof digest);
    return DBE_OK;
}

struct dbe_policy_digest pol_policy_digest(const struct pol_policy *policy)
{
    struct dbe_policy_digest ret;

    memcpy(ret.bytes, policy->digest, sizeof ret.bytes);
    return ret;
}

/* ---- the built-in policy ----------------------------------------------------------------------- */

static struct pol_set set_of(const uint8_t *numbers, size_t count)
{
    struct pol_set set = {0};

    for (size_t i = 0; i < count; i++)
        pol_set_add(&set, numbers[i]);
    return set;
}

/* A rule without conditions. */
static struct pol_rule rule_any(const char *name, bool deny)
{
    struct pol_rule r = {
        .deny = deny,
        .roe_levels = UINT8_MAX,
        .from_layers = UINT16_MAX,
        .to_layers = UINT16_MAX,
        .from_roles = UINT32_MAX,
        .to_roles = UINT32_MAX,
        .compartments = UINT32_MAX,
        .tenants = UINT64_MAX,
    };

    memset(&r.types, 0xFF, sizeof r.types);
    memset(&r.from_devices, 0xFF, sizeof r.from_devices);
    memset(&r.to_devices, 0xFF, sizeof r.to_devices);
    memcpy(r.name, name, strlen(name));
    return r;
}

/* Alerts and courses of action are seen where they were made and above, never below. Upper bound: not included. */
static struct pol_rule rule_not_down(const char *name, uint8_t type, unsigned layer)
{
    struct pol_rule r = rule_any(name, true);

    r.types = set_of(&type, 1);
    r.to_layers = (uint16_t)((1u << layer) - 1);
    return r;
}

/* Kept here instead of computed, so that nobody who asks for the built-in policy can fail; a test holds it against
 * pol_policy_seal. */
/* clang-format off */
static const uint8_t default_digest[POL_DIGEST_BYTES] = {
    0x4F, 0xD4, 0xF3, 0x73, 0xDB, 0x41, 0x13, 0x82, 0xB6, 0x7E, 0x47, 0x23, 0x9E, 0xBD, 0xDA, 0xA6,
    0xC2, 0x7D, 0xE5, 0x0E, 0x10, 0xCC, 0x21, 0xD0, 0x3B, 0x2F, 0xA2, 0xD1, 0x67, 0x09, 0xD3, 0x47,
    0xF7, 0x4C, 0x91, 0x71, 0xF4, 0x04, 0xE3, 0x94, 0xE9, 0x8D, 0x8B, 0xD1, 0x83, 0x7D, 0x02, 0x75,
    0x26, 0x66, 0x90, 0xCC, 0xCC, 0xB7, 0xB5, 0x49, 0xD5, 0x8F, 0xE0, 0xA7, 0xDC, 0x83, 0x9B, 0x4A,
};
/* clang-format on */

void pol_policy_default(struct pol_policy *ret)
{
    static const uint8_t claimed[] = {DBE_MSG_L7_CHAT_REQ, DBE_MSG_L7_EMBED_REQ, DBE_MSG_L7_AGENT_TASK,
                                      DBE_MSG_L7_POLICY_CHECK};
    static const uint8_t guarded[] = {DBE_DEV_NC3_INTEGRATION};
    struct pol_rule nc3 = rule_any("nc3-training-only", true);

    nc3.to_devices = set_of(guarded, BASE_ARRAY_LEN(guarded));
    nc3.roe_levels = 1u << DBE_ROE_ANALYSIS_ONLY | 1u << DBE_ROE_SOC_ASSIST;
    *ret = (struct pol_policy){
        .version = 1,
        .claim_required = set_of(claimed, BASE_ARRAY_LEN(claimed)),
        .claim_forwarders = 1u << DBE_ROLE_ROUTER,
        .roe_levels = POL_ROE_ALL,
        .kinetic_mask = DBE_COMPARTMENT_KINETIC,
        .token_devices = set_of(guarded, BASE_ARRAY_LEN(guarded)),
        .token_layers = 1u << DBE_LAYER_EXECUTIVE,
        .any_tenant = true,
        .any = {.name = "*",
                .classification_max = DBE_CLSF_EXEC,
                .roe_levels = POL_ROE_ALL,
                .compartments = (uint32_t)DBE_COMPARTMENT_ALL & ~(uint32_t)DBE_COMPARTMENT_KINETIC},
        .rules = {rule_not_down("l8-alert-not-down", DBE_MSG_L8_ALERT, DBE_LAYER_ENHANCED_SEC),
                  rule_not_down("l9-coa-not-down", DBE_MSG_L9_COA, DBE_LAYER_EXECUTIVE), nc3, rule_any("allow", false)},
        .rule_count = 4,
    };
    memcpy(ret->digest, default_digest, sizeof default_digest);
}
