/* SPDX-License-Identifier: Apache-2.0
 *
 * compile.c - a site's policy as YAML into tables.
 *
 * In:   the tree of a file
 * Out:  pol_policy, sorted and sealed with its digest
 * Not:  no I/O, no clock. What a single key may hold is the schema's affair (the tables below, held against the file by
 *       conf_bind); what only makes sense together is checked after it, with the place of what does not fit.
 */
#include "policy/compile.h"

#include <stdlib.h>
#include <string.h>

#include "policy/internal.h"

enum { TYPES_MAX = 64, LAYER_MAX = 11, DEVICE_MAX = DBE_DEVICE_COUNT - 1, RATE_MAX = 1000000000, KV_MAX_GIB = 1024 };
enum effect { EFFECT_ALLOW, EFFECT_DENY };
enum sealing { SEALING_OPTIONAL, SEALING_REQUIRED };

/* ---- the file, as it is bound -------------------------------------------------------------------- */

struct list { /* of small numbers */
    uint8_t at[DBE_DEVICE_COUNT];
    size_t count;
};

struct file_tenant {
    char name[DBE_TENANT_MAX_BYTES + 1];
    uint8_t classification, roe_levels, sealed;
    uint32_t compartments, parallel;
    struct conf_rate requests, tokens;
    uint64_t kv_bytes;
};

struct file_rule {
    char name[POL_NAME_MAX + 1];
    uint8_t effect, roe_levels, classification_min;
    uint32_t from_roles, to_roles, compartments;
    struct list types, from_layers, to_layers, from_devices, to_devices;
    char tenants[POL_TENANTS_MAX][DBE_TENANT_MAX_BYTES + 1];
    size_t tenant_count;
};

struct file {
    uint64_t version;
    uint32_t refused, forwarders;
    uint8_t roe_levels;
    struct list claimed, token_types, token_layers, token_devices;
    struct file_tenant tenants[POL_TENANTS_MAX + 1]; /* and "*" */
    size_t tenant_count;
    struct file_rule rules[POL_RULES_MAX];
    size_t rule_count;
};

static bool effect_names(const char *name, uint64_t *ret)
{
    *ret = strcmp(name, "deny") == 0 ? EFFECT_DENY : EFFECT_ALLOW;
    return *ret == EFFECT_DENY || strcmp(name, "allow") == 0;
}

static bool sealing_names(const char *name, uint64_t *ret)
{
    *ret = strcmp(name, "required") == 0 ? SEALING_REQUIRED : SEALING_OPTIONAL;
    return *ret == SEALING_REQUIRED || strcmp(name, "optional") == 0;
}

static bool ceiling_names(const char *name, uint64_t *ret)
{
    return pol_name_classification(name, ret) && *ret != DBE_CLSF_TS_SIM;
}

/* ---- schema --------------------------------------------------------------------------------------- */

#define END                                                                                                            \
    {                                                                                                                  \
        .kind = CONF_END                                                                                               \
    }

static const struct conf_key type_item[] = {
    {"", CONF_NAME, .size = 1, .names = pol_name_msg, .expected = "a message type such as L7_CHAT_REQ"}, END};
static const struct conf_key layer_item[] = {{"", CONF_UINT, .size = 1, .max = LAYER_MAX}, END};
static const struct conf_key device_item[] = {{"", CONF_UINT, .size = 1, .max = DEVICE_MAX}, END};
static const struct conf_key tenant_item[] = {
    {"", CONF_TEXT, .size = DBE_TENANT_MAX_BYTES + 1, .min = 1, .expected = "the name of a tenant"}, END};

/* A list of numbers in the member `field` of `type`: the count is counted from the struct that is bound. */
#define NUMBERS(type, field, items_, most)                                                                             \
    &(const struct conf_items)                                                                                         \
    {                                                                                                                  \
        .item = items_, .item_size = 1, .max = most, .count_offset = offsetof(type, field.count)                       \
    }
#define LIST(key_, least, type, field, item_, most)                                                                    \
    {                                                                                                                  \
        key_, CONF_ITEMS, .min = least, .offset = offsetof(type, field.at), .items = NUMBERS(type, field, item_, most) \
    }

static const struct conf_key limit_keys[] = {
    {"requests", CONF_RATE, CONF_FIELD(struct file_tenant, requests), .min = 1, .max = RATE_MAX,
     .window_max_ms = POL_RATE_WINDOW_MAX_MS},
    {"tokens", CONF_RATE, CONF_FIELD(struct file_tenant, tokens), .min = 1, .max = RATE_MAX,
     .window_max_ms = POL_RATE_WINDOW_MAX_MS},
    {"parallel", CONF_UINT, CONF_FIELD(struct file_tenant, parallel), .min = 1, .max = 65536},
    {"kv", CONF_BYTES, CONF_FIELD(struct file_tenant, kv_bytes), .min = 1, .max = (uint64_t)KV_MAX_GIB << 30},
    END};
static const struct conf_key tenant_keys[] = {
    {"classification", CONF_NAME, .required = true, CONF_FIELD(struct file_tenant, classification),
     .names = ceiling_names, .expected = POL_WORDS_CLASSIFICATION},
    {"compartments", CONF_FLAGS, .required = true, CONF_FIELD(struct file_tenant, compartments),
     .names = pol_name_compartment, .expected = POL_WORDS_COMPARTMENTS},
    {"roe_levels", CONF_FLAGS, .required = true, CONF_FIELD(struct file_tenant, roe_levels), .names = pol_name_roe_bit,
     .expected = "a list of " POL_WORDS_ROE},
    {"sealed", CONF_NAME, CONF_FIELD(struct file_tenant, sealed), .names = sealing_names,
     .expected = "required or optional"},
    {"limits", CONF_SUB, .sub = limit_keys},
    END};
static const struct conf_items tenant_list = {tenant_keys,
                                              sizeof(struct file_tenant),
                                              POL_TENANTS_MAX + 1,
                                              offsetof(struct file, tenant_count),
                                              offsetof(struct file_tenant, name),
                                              sizeof(((struct file_tenant *)0)->name)};

static const struct conf_items rule_tenants = {.item = tenant_item,
                                               .item_size = DBE_TENANT_MAX_BYTES + 1,
                                               .max = POL_TENANTS_MAX,
                                               .count_offset = offsetof(struct file_rule, tenant_count)};
static const struct conf_key rule_keys[] = {
    {"name", CONF_TEXT, .required = true, CONF_FIELD(struct file_rule, name), .min = 1},
    {"effect", CONF_NAME, .required = true, CONF_FIELD(struct file_rule, effect), .names = effect_names,
     .expected = "allow or deny"},
    LIST("types", 1, struct file_rule, types, type_item, TYPES_MAX),
    {"from_roles", CONF_FLAGS, .min = 1, CONF_FIELD(struct file_rule, from_roles), .names = pol_name_role_bit,
     .expected = "a list of " POL_WORDS_ROLES},
    {"to_roles", CONF_FLAGS, .min = 1, CONF_FIELD(struct file_rule, to_roles), .names = pol_name_role_bit,
     .expected = "a list of " POL_WORDS_ROLES},
    LIST("from_layers", 1, struct file_rule, from_layers, layer_item, LAYER_MAX + 1),
    LIST("to_layers", 1, struct file_rule, to_layers, layer_item, LAYER_MAX + 1),
    LIST("from_devices", 1, struct file_rule, from_devices, device_item, DEVICE_MAX + 1),
    LIST("to_devices", 1, struct file_rule, to_devices, device_item, DEVICE_MAX + 1),
    {"tenants", CONF_ITEMS, .min = 1, .offset = offsetof(struct file_rule, tenants), .items = &rule_tenants},
    {"roe_levels", CONF_FLAGS, .min = 1, CONF_FIELD(struct file_rule, roe_levels), .names = pol_name_roe_bit,
     .expected = "a list of " POL_WORDS_ROE},
    {"compartments", CONF_FLAGS, .min = 1, CONF_FIELD(struct file_rule, compartments), .names = pol_name_compartment,
     .expected = POL_WORDS_COMPARTMENTS},
    {"classification_from", CONF_NAME, CONF_FIELD(struct file_rule, classification_min), .names = ceiling_names,
     .expected = POL_WORDS_CLASSIFICATION},
    END};
static const struct conf_items rule_list = {.item = rule_keys,
                                            .item_size = sizeof(struct file_rule),
                                            .max = POL_RULES_MAX,
                                            .count_offset = offsetof(struct file, rule_count)};

static const struct conf_key claim_keys[] = {LIST("required", 0, struct file, claimed, type_item, TYPES_MAX),
                                             {"forwarders", CONF_FLAGS, CONF_FIELD(struct file, forwarders),
                                              .names = pol_name_role_bit, .expected = "a list of " POL_WORDS_ROLES},
                                             END};
static const struct conf_key token_keys[] = {
    LIST("types", 0, struct file, token_types, type_item, TYPES_MAX),
    LIST("layers", 0, struct file, token_layers, layer_item, LAYER_MAX + 1),
    LIST("devices", 0, struct file, token_devices, device_item, DEVICE_MAX + 1), END};
static const struct conf_key file_keys[] = {
    {"version", CONF_UINT, .required = true, CONF_FIELD(struct file, version), .min = 1, .max = INT64_MAX},
    {"refused", CONF_FLAGS, CONF_FIELD(struct file, refused), .names = pol_name_compartment,
     .expected = "a list of compartments"},
    {"roe_levels", CONF_FLAGS, .required = true, CONF_FIELD(struct file, roe_levels), .names = pol_name_roe_bit,
     .expected = "a list of " POL_WORDS_ROE},
    {"claims", CONF_SUB, .required = true, .sub = claim_keys, .expected = "a map with required and forwarders"},
    {"roe_tokens", CONF_SUB, .sub = token_keys},
    {"tenants", CONF_NAMED, .required = true, .offset = offsetof(struct file, tenants), .items = &tenant_list},
    {"rules", CONF_ITEMS, .required = true, .offset = offsetof(struct file, rules), .items = &rule_list},
    END};

/* ---- what only makes sense together ------------------------------------------------------------------ */

static const struct conf_node *nth(const struct conf_node *list, size_t n)
{
    const struct conf_node *at = list != NULL ? list->first : NULL;

    while (at != NULL && n-- > 0)
        at = at->next;
    return at;
}

static dbe_err check_rules(const struct conf_doc *doc, const struct file *f, struct dbe_diag *diag)
{
    const struct conf_node *rules = conf_get(conf_root(doc), "rules");

    for (size_t i = 0; i < f->rule_count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(f->rules[i].name, f->rules[j].name) == 0)
                return conf_fail(doc, conf_get(nth(rules, i), "name"), diag,
                                 "name \"%.40s\" is rule %zu's already; expected one of its own", f->rules[i].name,
                                 j + 1);
    return DBE_OK;
}

static dbe_err check_tenants(const struct conf_doc *doc, const struct file *f, struct dbe_diag *diag)
{
    const struct conf_node *tenants = conf_get(conf_root(doc), "tenants");

    for (size_t i = 0; i < f->tenant_count; i++)
        if ((f->tenants[i].compartments & DBE_COMPARTMENT_KINETIC) != 0)
            return conf_fail(doc, conf_get(nth(tenants, i), "compartments"), diag,
                             "compartment KINETIC is refused everywhere, always; expected " POL_WORDS_COMPARTMENTS);
    if (f->tenant_count > POL_TENANTS_MAX && conf_get(tenants, "*") == NULL)
        return conf_fail(doc, tenants, diag, "tenants has %zu entries; expected at most %d and \"*\"", f->tenant_count,
                         POL_TENANTS_MAX);
    return DBE_OK;
}

/* ---- into tables ------------------------------------------------------------------------------------ */

static struct pol_set to_set(const struct list *list)
{
    struct pol_set set = {0};

    for (size_t i = 0; i < list->count; i++)
        pol_set_add(&set, list->at[i]);
    return set;
}

/* No list, or an empty one: no condition. */
static struct pol_set to_condition(const struct list *list)
{
    struct pol_set all;

    memset(&all, 0xFF, sizeof all);
    return list->count > 0 ? to_set(list) : all;
}

static uint16_t to_layers(const struct list *list)
{
    unsigned mask = 0;

    for (size_t i = 0; i < list->count; i++)
        mask |= 1u << list->at[i];
    return (uint16_t)mask;
}

static struct pol_tenant to_tenant(const struct file_tenant *t)
{
    struct pol_tenant row = {
        .classification_max = t->classification,
        .roe_levels = t->roe_levels,
        .compartments = t->compartments,
        .sealed = t->sealed == SEALING_REQUIRED,
        .limits = {.requests = {t->requests.count, t->requests.window_ms},
                   .tokens = {t->tokens.count, t->tokens.window_ms},
                   .parallel = t->parallel,
                   .kv_bytes = t->kv_bytes},
    };

    memcpy(row.name, t->name, sizeof row.name);
    return row;
}

static int by_name(const void *a, const void *b)
{
    const struct pol_tenant *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static void put_tenants(const struct file *f, struct pol_policy *p)
{
    for (size_t i = 0; i < f->tenant_count; i++) {
        if (strcmp(f->tenants[i].name, "*") == 0) {
            p->any_tenant = true;
            p->any = to_tenant(&f->tenants[i]);
        } else {
            p->tenants[p->tenant_count++] = to_tenant(&f->tenants[i]);
        }
    }
    qsort(p->tenants, p->tenant_count, sizeof p->tenants[0], by_name);
}

/* Bits of the tenants that a rule names. */
static dbe_err rule_tenant_bits(const struct conf_doc *doc, const struct file *f, size_t at, const struct pol_policy *p,
                                uint64_t *ret, struct dbe_diag *diag)
{
    const struct file_rule *r = &f->rules[at];
    uint64_t bits = 0;

    for (size_t i = 0; i < r->tenant_count; i++) {
        uint64_t bit = pol_policy_tenant_bit(p, pol_policy_tenant(p, r->tenants[i]));
        const struct conf_node *rule = nth(conf_get(conf_root(doc), "rules"), at);
        if (bit == 0)
            return conf_fail(doc, nth(conf_get(rule, "tenants"), i), diag,
                             "\"%.40s\" is no tenant; expected one that stands under tenants by name", r->tenants[i]);
        bits |= bit;
    }
    *ret = r->tenant_count > 0 ? bits : UINT64_MAX;
    return DBE_OK;
}

static dbe_err put_rules(const struct conf_doc *doc, const struct file *f, struct pol_policy *p, struct dbe_diag *diag)
{
    for (size_t i = 0; i < f->rule_count; i++) {
        const struct file_rule *r = &f->rules[i];
        struct pol_rule *rule = &p->rules[i];
        *rule = (struct pol_rule){
            .deny = r->effect == EFFECT_DENY,
            .roe_levels = r->roe_levels != 0 ? r->roe_levels : UINT8_MAX,
            .classification_min = r->classification_min,
            .from_layers = r->from_layers.count > 0 ? to_layers(&r->from_layers) : UINT16_MAX,
            .to_layers = r->to_layers.count > 0 ? to_layers(&r->to_layers) : UINT16_MAX,
            .from_roles = r->from_roles != 0 ? r->from_roles : UINT32_MAX,
            .to_roles = r->to_roles != 0 ? r->to_roles : UINT32_MAX,
            .compartments = r->compartments != 0 ? r->compartments : UINT32_MAX,
            .types = to_condition(&r->types),
            .from_devices = to_condition(&r->from_devices),
            .to_devices = to_condition(&r->to_devices),
        };
        memcpy(rule->name, r->name, sizeof rule->name);
        DBE_TRY(rule_tenant_bits(doc, f, i, p, &rule->tenants, diag));
    }
    p->rule_count = f->rule_count;
    return DBE_OK;
}

static dbe_err compile(const struct conf_doc *doc, const struct file *f, struct pol_policy *p, struct dbe_diag *diag)
{
    DBE_TRY(check_rules(doc, f, diag));
    DBE_TRY(check_tenants(doc, f, diag));
    p->version = f->version;
    p->kinetic_mask = f->refused | DBE_COMPARTMENT_KINETIC;
    p->roe_levels = f->roe_levels;
    p->claim_required = to_set(&f->claimed);
    p->claim_forwarders = f->forwarders;
    p->token_types = to_set(&f->token_types);
    p->token_devices = to_set(&f->token_devices);
    p->token_layers = to_layers(&f->token_layers);
    put_tenants(f, p);
    DBE_TRY(put_rules(doc, f, p, diag));
    return pol_policy_seal(p);
}

dbe_err pol_compile(const struct conf_doc *doc, struct pol_policy *ret, struct dbe_diag *diag)
{
    struct file *file = base_alloc(1, sizeof *file);
    struct pol_policy *made = base_alloc(1, sizeof *made);
    dbe_err err = file != NULL && made != NULL ? DBE_OK : DBE_E_NOMEM;

    if (err == DBE_OK)
        err = conf_bind(doc, conf_root(doc), file_keys, file, diag);
    if (err == DBE_OK)
        err = compile(doc, file, made, diag);
    if (err == DBE_OK)
        *ret = *made;
    base_free(made);
    base_free(file);
    return err;
}
