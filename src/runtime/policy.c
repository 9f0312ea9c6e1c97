/* SPDX-License-Identifier: Apache-2.0
 *
 * policy.c - the policy in force: loaded when the service opens, loaded again on SIGHUP or on an operator's order.
 *
 * In:   the file that --policy names; none: the built-in policy
 * Out:  svc->policy, changed between two messages or not at all; the node's digest of it; a log line, a counter
 * Not:  it decides nothing. A file with an error changes nothing, and its place is in the log and in the answer.
 *
 * Open channels agree about the new policy inside (spec 6.16), and no message is lost: each is judged by the policy
 * that is in force where it arrives.
 */
#include "runtime/audit.h"
#include "runtime/priv.h"

#include <string.h>

#include "conf/conf.h"
#include "policy/compile.h"

static dbe_err read_policy(const struct svc *svc, struct pol_policy *ret, struct dbe_diag *diag)
{
    struct conf_doc *doc = NULL;
    dbe_err err;

    DBE_TRY(conf_load(svc->cfg.policy, &doc, diag));
    err = pol_compile(doc, ret, diag);
    conf_free(doc);
    return err;
}

dbe_err svc_policy_open(struct svc *svc, struct dbe_diag *diag)
{
    pol_policy_default(&svc->policy);
    DBE_TRY(crypto_init(diag)); /* of a file's policy the digest is computed */
    return svc->cfg.policy[0] == '\0' ? DBE_OK : read_policy(svc, &svc->policy, diag);
}

void svc_policy_audit(struct svc *svc)
{
    char digest[2 * POL_DIGEST_BYTES + 1];

    base_hex(svc->policy.digest, POL_DIGEST_BYTES, digest);
    svc_audit_event(svc, AUDIT_POLICY, DBE_OK, NULL, (uint32_t)svc->policy.version, digest);
}

static void tell(struct svc *svc, dbe_err err, const struct dbe_diag *diag)
{
    char labels[SVC_LABELS_MAX], digest[2 * DBE_POLICY_DIGEST_BYTES + 1];
    const struct svc_field fields[] = {
        {.key = "file", .text = svc->cfg.policy},
        {.key = "digest", .text = digest},
        {.key = "version", .number = svc->policy.version},
    };
    const struct svc_event e = {
        .type = err == DBE_OK ? "policy_reloaded" : "policy_refused", .fields = fields, .field_count = 3};

    base_hex(svc->policy.digest, DBE_POLICY_DIGEST_BYTES, digest); /* as a refusal of another policy says it */
    svc_labels(labels, "device_id", svc->metrics.device_id, "status", err == DBE_OK ? "ok" : dbe_err_name(err), NULL);
    svc_metric_add(&svc->metrics, SVC_M_dsmil_policy_reloads_total, labels, 1);
    if (err == DBE_OK) {
        svc_policy_audit(svc);
        svc_log_event(svc, SVC_INFO, &e, "policy version %llu is in force", (unsigned long long)svc->policy.version);
    } else {
        svc_audit_event(svc, AUDIT_POLICY, err, NULL, (uint32_t)svc->policy.version, diag->text);
        svc_log_event(svc, SVC_ERROR, &e, "%s; policy version %llu stays in force",
                      diag->text[0] != '\0' ? diag->text : dbe_err_text(err), (unsigned long long)svc->policy.version);
    }
}

dbe_err svc_policy_reload(struct svc *svc, struct dbe_diag *diag)
{
    struct pol_policy *fresh = base_alloc(1, sizeof *fresh);
    struct dbe_diag own = {0};
    dbe_err err = fresh == NULL ? DBE_E_NOMEM : DBE_OK;

    if (err == DBE_OK && svc->cfg.policy[0] == '\0')
        err = dbe_fail(&own, DBE_E_CONFIG, "policy", 0,
                       "this service was started without a policy file; start it again with one");
    if (err == DBE_OK)
        err = read_policy(svc, fresh, &own);
    if (err == DBE_OK) {
        const struct dbe_policy_digest digest = pol_policy_digest(fresh);
        svc->policy = *fresh;
        dbe_node_set_policy_digest(svc->node, &digest);
        svc_roe_open(svc);
    }
    base_free(fresh);
    tell(svc, err, &own);
    if (err != DBE_OK && diag != NULL)
        *diag = own;
    return err;
}

void svc_policy_catch_up(struct svc *svc)
{
    struct pol_policy *now = svc->cfg.policy[0] != '\0' ? base_alloc(1, sizeof *now) : NULL;

    /* What is wrong with the file by now is told to whoever asks for a reload. */
    bool other = now != NULL && read_policy(svc, now, NULL) == DBE_OK &&
                 memcmp(now->digest, svc->policy.digest, sizeof now->digest) != 0;
    base_free(now);
    if (!other)
        return;
    dbe_err err = svc_policy_reload(svc, NULL);
    (void)err; /* it is in the log */
}

dbe_err svc_policy_render(struct svc *svc, struct base_buf *out)
{
    char digest[2 * POL_DIGEST_BYTES + 1];

    base_hex(svc->policy.digest, POL_DIGEST_BYTES, digest);
    base_buf_fmt(out, "{\"version\": %llu, \"digest\": \"%s\", \"tenants\": %zu, \"rules\": %zu, \"file\": ",
                 (unsigned long long)svc->policy.version, digest, svc->policy.tenant_count, svc->policy.rule_count);
    base_json_str(out, svc->cfg.policy, strlen(svc->cfg.policy));
    base_buf_str(out, "}\n");
    return out->err;
}

const struct pol_policy *svc_policy(const struct svc *svc)
{
    return &svc->policy;
}
