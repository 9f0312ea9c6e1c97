/* SPDX-License-Identifier: Apache-2.0
 *
 * policy.c - `dsmil policy`: hold a policy against its schema, ask it about one message, run a table of cases.
 *
 * In:   YAML files, options that describe a message
 * Out:  what is wrong and where; the decision, the rule and why; a line a case
 * Not:  it needs no mesh and changes none; `dsmil policy reload` alone talks to one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/policy.h"
#include "policy/cases.h"

enum { DIGEST_TEXT_BYTES = 2 * POL_DIGEST_BYTES + 1, MASK_TEXT_BYTES = 96 };

dbe_err cli_policy_load(const char *path, struct pol_policy *ret, struct dbe_diag *diag)
{
    struct conf_doc *doc = NULL;
    dbe_err err;

    DBE_TRY(crypto_init(diag));
    if (path == NULL || path[0] == '\0') {
        pol_policy_default(ret);
        return DBE_OK;
    }
    err = conf_load(path, &doc, diag);
    if (err == DBE_OK)
        err = pol_compile(doc, ret, diag);
    conf_free(doc);
    return err;
}

static int usage(FILE *out, int code)
{
    fputs("usage: dsmil policy check FILE [--json]          is it a policy? what is wrong, where, what is expected\n"
          "       dsmil policy explain [--policy FILE] [--type T] [--from ROLE[:DEVICE]] [--to ROLE[:DEVICE]]\n"
          "                            [--tenant T] [--classification C] [--compartments A,B] [--roe-level L]\n"
          "                            [--sealed] [--no-claim] [--json]     the decision over such a message, why\n"
          "       dsmil policy test FILE [--json]           a table of cases: expected allow or deny, and the rule\n"
          "       dsmil policy reload [--json]              put the mesh's policy file in force, under traffic\n"
          "Without a FILE the built-in policy is meant. docs/policy.md explains both files.\n",
          out);
    return code;
}

/* One FILE, with --json before or behind it. NULL after saying that it is not so. */
static const char *one_file(int argc, char **argv, bool *ret_json)
{
    const char *file = NULL;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            *ret_json = true;
        else if (file != NULL || argv[i][0] == '-')
            return (void)cli_wrong("policy", "%s takes one FILE and --json, no \"%s\"", argv[0], argv[i]), NULL;
        else
            file = argv[i];
    }
    if (file == NULL)
        (void)cli_wrong("policy", "%s which FILE?", argv[0]);
    return file;
}

/* ---- check ---------------------------------------------------------------------------------------- */

static int check(int argc, char **argv)
{
    static struct pol_policy policy;
    bool json = false;
    const char *file = one_file(argc, argv, &json);
    char digest[DIGEST_TEXT_BYTES];
    struct dbe_diag diag = {0};

    if (file == NULL)
        return CLI_USAGE;
    dbe_err err = cli_policy_load(file, &policy, &diag);
    if (err != DBE_OK && json)
        return cli_print_json(json_pack("{s:b, s:s, s:o}", "ok", 0, "code", dbe_err_name(err), "error",
                                        cli_json_text(diag.text))) == CLI_OK
                   ? CLI_USAGE
                   : CLI_FAILED;
    if (err != DBE_OK)
        return cli_fail(CLI_USAGE, "policy", err, &diag);
    base_hex(policy.digest, sizeof policy.digest, digest);
    if (json)
        return cli_print_json(json_pack("{s:b, s:I, s:s, s:I, s:I, s:b}", "ok", 1, "version",
                                        (json_int_t)policy.version, "digest", digest, "tenants",
                                        (json_int_t)policy.tenant_count, "rules", (json_int_t)policy.rule_count,
                                        "any_tenant", (int)policy.any_tenant));
    printf("%s: version %llu, %zu tenants%s, %zu rules\nsha3-512 %s\n", file, (unsigned long long)policy.version,
           policy.tenant_count, policy.any_tenant ? " and any other" : "", policy.rule_count, digest);
    return CLI_OK;
}

/* ---- explain --------------------------------------------------------------------------------------- */

/* "router" or "router:43". */
static bool parse_party(const char *text, uint8_t *ret_role, uint8_t *ret_device)
{
    const char *colon = strchr(text, ':');
    char role[32], *end = NULL;
    uint64_t value;

    if (snprintf(role, sizeof role, "%.*s", colon != NULL ? (int)(colon - text) : 31, text) >= (int)sizeof role ||
        !pol_name_role(role, &value))
        return false;
    *ret_role = (uint8_t)value;
    *ret_device = pol_role_device(*ret_role);
    if (colon == NULL)
        return true;
    unsigned long device = strtoul(colon + 1, &end, 10);
    *ret_device = (uint8_t)device;
    return end != colon + 1 && *end == '\0' && device < DBE_DEVICE_COUNT;
}

static bool parse_mask(const char *text, uint32_t *ret)
{
    char copy[MASK_TEXT_BYTES], *rest = copy, *name;
    uint64_t bit;

    *ret = 0;
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
        return false;
    while ((name = strtok_r(rest, ",", &rest)) != NULL) {
        if (!pol_name_compartment(name, &bit))
            return false;
        *ret |= (uint32_t)bit;
    }
    return true;
}

static bool parse_byte(bool (*names)(const char *, uint64_t *), const char *text, uint8_t *ret)
{
    uint64_t value;

    if (!names(text, &value))
        return false;
    *ret = (uint8_t)value;
    return true;
}

/* One option of explain at argv[*i]. False: there is no such option, or its value is none. */
static bool parse_option(int argc, char **argv, int *i, struct pol_case *c, const char **ret_policy)
{
    const char *v;

    if (strcmp(argv[*i], "--no-claim") == 0)
        return c->claim = false, true;
    if (strcmp(argv[*i], "--sealed") == 0)
        return c->sealed = true, true;
    if ((v = cli_opt(argc, argv, i, "--policy")) != NULL)
        return *ret_policy = v, true;
    if ((v = cli_opt(argc, argv, i, "--type")) != NULL)
        return parse_byte(pol_name_msg, v, &c->type);
    if ((v = cli_opt(argc, argv, i, "--from")) != NULL)
        return parse_party(v, &c->from_role, &c->from_device);
    if ((v = cli_opt(argc, argv, i, "--to")) != NULL)
        return parse_party(v, &c->to_role, &c->to_device);
    if ((v = cli_opt(argc, argv, i, "--tenant")) != NULL)
        return snprintf(c->tenant, sizeof c->tenant, "%s", v) < (int)sizeof c->tenant;
    if ((v = cli_opt(argc, argv, i, "--classification")) != NULL)
        return parse_byte(pol_name_classification, v, &c->classification);
    if ((v = cli_opt(argc, argv, i, "--compartments")) != NULL)
        return parse_mask(v, &c->compartments);
    if ((v = cli_opt(argc, argv, i, "--roe-level")) != NULL)
        return parse_byte(pol_name_roe, v, &c->roe_level);
    return false;
}

static void mask_text(uint32_t mask, char out[MASK_TEXT_BYTES])
{
    size_t len = 0;

    out[0] = '\0';
    for (uint32_t bit = 1; bit != 0; bit <<= 1) {
        const struct dbe_num_row *row = (mask & bit) != 0 ? dbe_reg_compartment(bit) : NULL;
        if (row != NULL && len < MASK_TEXT_BYTES)
            len += (size_t)snprintf(out + len, MASK_TEXT_BYTES - len, "%s%s", len > 0 ? "," : "", row->name);
    }
    if (len == 0)
        snprintf(out, MASK_TEXT_BYTES, "none");
}

static json_t *verdict_json(const struct pol_verdict *v)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "decision", v->code == DBE_OK ? "allow" : "deny", "code",
                     dbe_err_name(v->code), "rule", v->rule, "reason", v->reason);
}

static void explain_print(const struct pol_case *c, const struct pol_policy *p, const struct pol_verdict *v)
{
    char mask[MASK_TEXT_BYTES], digest[DIGEST_TEXT_BYTES];

    mask_text(c->compartments, mask);
    base_hex(p->digest, sizeof p->digest, digest);
    printf("decision  %s\nrule      %s\n", v->code == DBE_OK ? "allow" : "deny", v->rule);
    if (v->code != DBE_OK)
        printf("code      %s (%d): %s\nwhy       %s\n", dbe_err_name(v->code), (int)v->code, dbe_err_text(v->code),
               v->reason);
    printf("message   %s from %s (device %u) to %s (device %u)%s%s\n", dbe_reg_msg(c->type)->name,
           dbe_reg_role(c->from_role)->path, c->from_device, dbe_reg_role(c->to_role)->path, c->to_device,
           c->claim ? ", with a claim" : "", c->sealed ? ", sealed" : "");
    printf("labels    tenant %s, %s, compartments %s, %s\n", c->tenant, dbe_reg_classification(c->classification)->name,
           mask, dbe_reg_roe(c->roe_level)->name);
    printf("policy    version %llu, sha3-512 %.*s...\n", (unsigned long long)p->version, 2 * DBE_POLICY_DIGEST_BYTES,
           digest);
}

static int explain(int argc, char **argv)
{
    static struct pol_policy policy;
    const char *path = NULL;
    struct dbe_diag diag = {0};
    struct pol_verdict v;
    struct pol_case c;
    bool json = false;

    pol_case_default(&c);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (!parse_option(argc, argv, &i, &c, &path)) {
            return cli_wrong("policy", "\"%s\" is no option, or not with that value", argv[i]);
        }
    }
    dbe_err err = cli_policy_load(path, &policy, &diag);
    if (err == DBE_OK)
        err = pol_case_run(&c, &policy, &v);
    if (err != DBE_OK)
        return cli_fail(CLI_USAGE, "policy", err, &diag);
    if (json)
        return cli_print_json(verdict_json(&v));
    explain_print(&c, &policy, &v);
    return CLI_OK;
}

/* ---- test -------------------------------------------------------------------------------------------- */

/* The policy that a table of cases names, beside the table unless it is an absolute path. */
static bool beside(const char *table, const char *policy, char out[CLI_PATH_MAX])
{
    const char *slash = strrchr(table, '/');

    if (policy[0] == '\0' || policy[0] == '/' || slash == NULL)
        return snprintf(out, CLI_PATH_MAX, "%s", policy) < CLI_PATH_MAX;
    return snprintf(out, CLI_PATH_MAX, "%.*s/%s", (int)(slash - table), table, policy) < CLI_PATH_MAX;
}

/* One case; true if it came out as expected. */
static bool run_case(const struct pol_case *c, const struct pol_policy *policy, json_t *all)
{
    struct pol_verdict v;
    bool ran = pol_case_run(c, policy, &v) == DBE_OK;
    bool good = ran && (v.code == DBE_OK) == c->allow && (c->rule[0] == '\0' || strcmp(c->rule, v.rule) == 0);

    if (all != NULL) {
        json_t *one = ran ? verdict_json(&v) : json_object();
        json_object_set_new(one, "name", json_string(c->name));
        json_object_set_new(one, "passed", json_boolean(good));
        json_array_append_new(all, one);
    } else if (good) {
        printf("passed  %s\n", c->name);
    } else {
        printf("FAILED  %s: expected %s%s%s, got %s by %s%s%s\n", c->name, c->allow ? "allow" : "deny",
               c->rule[0] != '\0' ? " by " : "", c->rule, ran && v.code == DBE_OK ? "allow" : "deny",
               ran ? v.rule : "nothing", ran && v.code != DBE_OK ? ": " : "", ran ? v.reason : "no such message");
    }
    return good;
}

static dbe_err read_cases(const char *path, struct pol_cases *ret, struct pol_policy *policy, struct dbe_diag *diag)
{
    static char policy_path[CLI_PATH_MAX];
    struct conf_doc *doc = NULL;

    DBE_TRY(conf_load(path, &doc, diag));
    dbe_err err = pol_cases_read(doc, ret, diag);
    conf_free(doc);
    DBE_TRY(err);
    if (!beside(path, ret->policy, policy_path))
        return dbe_fail(diag, DBE_E_TOO_LARGE, NULL, 0, "the path of the policy is too long");
    return cli_policy_load(policy_path, policy, diag);
}

static int test(int argc, char **argv)
{
    static struct pol_policy policy;
    static struct pol_cases table;
    bool json = false;
    const char *file = one_file(argc, argv, &json);
    struct dbe_diag diag = {0};
    size_t failed = 0;

    if (file == NULL)
        return CLI_USAGE;
    dbe_err err = read_cases(file, &table, &policy, &diag);
    if (err != DBE_OK)
        return cli_fail(CLI_USAGE, "policy", err, &diag);
    json_t *all = json ? json_array() : NULL;
    for (size_t i = 0; i < table.count; i++)
        failed += !run_case(&table.cases[i], &policy, all);
    if (json && cli_print_json(json_pack("{s:I, s:I, s:o}", "passed", (json_int_t)(table.count - failed), "failed",
                                         (json_int_t)failed, "cases", all)) != CLI_OK)
        return CLI_FAILED;
    if (!json)
        printf("%zu passed, %zu failed\n", table.count - failed, failed);
    return failed == 0 ? CLI_OK : CLI_FAILED;
}

/* ---- reload ---------------------------------------------------------------------------------------------- */

static int reload(int argc, char **argv)
{
    static struct cli_paths paths;
    struct dbe_diag diag = {0};
    const bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
    int code = CLI_OK;
    json_t *service, *all;
    size_t i;

    if (argc > 1 && !json)
        return cli_wrong("policy", "reload takes no \"%s\"", argv[1]);
    dbe_err err = cli_paths_init(&paths, &diag);
    if (err != DBE_OK)
        return cli_fail(CLI_USAGE, "state", err, &diag);
    json_t *mesh = cli_mesh(&paths);
    if (mesh == NULL)
        return json ? cli_print_down() : CLI_NOT_UP;
    all = json_object();
    json_array_foreach(json_object_get(mesh, "services"), i, service)
    {
        const char *name = json_string_value(json_object_get(service, "name"));
        struct base_buf said = {0};
        err = cli_service_ask(service, "/policy/reload", true, &said, &diag);
        base_buf_free(&said);
        json_object_set_new(all, name, json_pack("{s:b,s:s}", "ok", err == DBE_OK, "code", dbe_err_name(err)));
        if (err != DBE_OK)
            code = cli_fail(CLI_FAILED, name, err, &diag);
        else if (!json)
            printf("%-24s done\n", name);
    }
    json_decref(mesh);
    if (!json)
        json_decref(all);
    else if (cli_print_json(all) != CLI_OK)
        return CLI_FAILED;
    return code;
}

int cli_policy(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } verbs[] = {{"check", check}, {"explain", explain}, {"test", test}, {"reload", reload}};

    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return usage(stdout, CLI_OK);
    for (size_t i = 0; argc > 1 && i < BASE_ARRAY_LEN(verbs); i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    return argc > 1 ? cli_wrong("policy", "no verb \"%s\"", argv[1])
                    : cli_wrong("policy", "check, explain, test or reload?");
}
