/* SPDX-License-Identifier: Apache-2.0
 *
 * roe.c - `dsmil roe`: ask for an ROE token, approve it as one of two persons, show one.
 *
 * In:   the key store with the credential of who speaks and the certificates of who is enrolled; the payload that the
 *       token is for
 * Out:  a token file: body, up to two approvals, and until both are there that who is named asked
 * Not:  it sends nothing. Whoever receives the message verifies body and approvals again; the request is verified here
 *       alone, by who approves.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "dbe/identity.h"
#include "node/keystore.h"
#include "policy/compile.h"
#include "policy/roe.h"

enum {
    APPROVALS_MAX = POL_ROE_APPROVALS_MAX,
    VALID_DEFAULT_MS = 600000,
    PAYLOAD_MAX_BYTES = 64 * 1024 * 1024,
    FILE_MAX_BYTES = 16 * 1024,
    TIME_BYTES = 32,
    COMPARTMENTS_BYTES = 128,
};

struct file {
    struct base_buf body;
    uint8_t asked[POL_ROE_APPROVAL_BYTES];
    uint8_t approvals[APPROVALS_MAX][POL_ROE_APPROVAL_BYTES];
    size_t count;
};

struct args {
    const char *file, *as, *payload;
    struct pol_roe roe;
    uint64_t valid_ms;
    bool device_given, force, json;
    const char *of_request, *of_signer; /* an option that was given and is that of `request`, or of who signs, alone */
};

struct store { /* of keys, and what is asked of it */
    struct cli_paths paths;
    struct dbe_trust *trust;
};

static int usage(FILE *out, int code)
{
    fputs("usage: dsmil roe request --as NAME --verb TYPE --device N --tenant T --payload FILE [--classification C]\n"
          "                         [--compartments A,B] [--roe-level L] [--valid 10min] [--force] TOKEN\n"
          "       dsmil roe approve --as NAME --payload FILE TOKEN     after having read both; not who asked\n"
          "       dsmil roe show [--json] TOKEN                       what it permits, who asked, who approved\n"
          "All take --json. `request` leaves a file that is there already alone, but for --force.\n"
          "Persons are enrolled with `dsmil keys issue --role person --device N --name NAME`.\n"
          "docs/policy.md tells more.\n",
          out);
    return code;
}

/* ---- files ------------------------------------------------------------------------------------------ */

static dbe_err save(const char *path, const struct file *f, struct dbe_diag *diag)
{
    struct base_buf out;

    base_buf_init(&out, FILE_MAX_BYTES);
    base_buf_str(&out, POL_ROE_MAGIC);
    base_buf_u16(&out, (uint16_t)f->body.len);
    base_buf_bytes(&out, f->body.data, f->body.len);
    base_buf_u8(&out, (uint8_t)f->count);
    base_buf_bytes(&out, f->approvals, f->count * POL_ROE_APPROVAL_BYTES);
    if (f->count < APPROVALS_MAX)
        base_buf_bytes(&out, f->asked, sizeof f->asked);
    dbe_err err = out.err != DBE_OK ? out.err : base_file_write(path, out.data, out.len, 0600, diag);
    base_buf_free(&out);
    return err;
}

static dbe_err parse(const char *path, const struct base_buf *bytes, struct file *ret, struct dbe_diag *diag)
{
    struct pol_roe_parts parts;
    const char *why;

    if (pol_roe_parts_read(bytes->data, bytes->len, &parts, &why) != DBE_OK)
        return dbe_fail(diag, DBE_E_MALFORMED, NULL, 0, "%.120s %s", path, why);
    ret->count = parts.count;
    for (size_t i = 0; i < ret->count; i++)
        memcpy(ret->approvals[i], parts.approvals[i], POL_ROE_APPROVAL_BYTES);
    if (parts.asked != NULL)
        memcpy(ret->asked, parts.asked, sizeof ret->asked);
    base_buf_bytes(&ret->body, parts.body, parts.body_len);
    return ret->body.err;
}

static dbe_err load(const char *path, struct file *ret, struct pol_roe *ret_roe, struct dbe_diag *diag)
{
    struct base_buf bytes = {0};

    DBE_TRY(base_file_read(path, FILE_MAX_BYTES, &bytes, diag));
    dbe_err err = parse(path, &bytes, ret, diag);
    base_buf_free(&bytes);
    return err == DBE_OK ? pol_roe_decode(ret->body.data, ret->body.len, ret_roe, diag) : err;
}

static dbe_err payload_digest(const char *path, uint8_t ret[64], struct dbe_diag *diag)
{
    struct base_buf bytes = {0};

    DBE_TRY(base_file_read(path, PAYLOAD_MAX_BYTES, &bytes, diag));
    dbe_err err = crypto_sha3_512(bytes.data, bytes.len, ret);
    base_buf_free(&bytes);
    return err;
}

/* ---- keys --------------------------------------------------------------------------------------------- */

static dbe_err open_store(struct store *s, struct dbe_diag *diag)
{
    DBE_TRY(cli_paths_init(&s->paths, diag));
    return dbe_trust_load(s->paths.keys, &s->trust, diag);
}

static bool find_person(void *ctx, const uint8_t fingerprint[64], struct dbe_identity *ret_id,
                        uint8_t ret_pk[CRYPTO_MLDSA87_PK_BYTES])
{
    const struct store *s = ctx;

    return keys_find(s->paths.keys, s->trust, fingerprint, ret_id, ret_pk);
}

/* ---- show ------------------------------------------------------------------------------------------------ */

static void time_text(uint64_t unix_ms, char out[TIME_BYTES])
{
    time_t t = (time_t)(unix_ms / 1000);
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL || strftime(out, TIME_BYTES, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        snprintf(out, TIME_BYTES, "?");
}

static const char *state_words(const struct pol_roe *roe, size_t good)
{
    uint64_t now_ms = base_wall_ms();

    if (now_ms >= roe->not_after_ms)
        return "expired";
    if (good < APPROVALS_MAX)
        return good == 0 ? "two approvals are missing" : "one approval is missing";
    return now_ms < roe->not_before_ms ? "complete, not valid yet" : "complete";
}

/* Who approved, those whose signature holds and who differ. Others leave the file, and make room for one that holds. */
static size_t approvers(struct store *s, struct file *f, struct dbe_identity who[APPROVALS_MAX])
{
    size_t good = 0;

    for (size_t i = 0; i < f->count; i++) {
        struct dbe_identity id;
        if (pol_roe_check_approval(f->body.data, f->body.len, f->approvals[i], POL_ROE_APPROVAL_BYTES, find_person, s,
                                   &id, NULL) != DBE_OK ||
            (good > 0 && strcmp(who[0].spiffe_id, id.spiffe_id) == 0))
            continue;
        memmove(f->approvals[good], f->approvals[i], POL_ROE_APPROVAL_BYTES);
        who[good++] = id;
    }
    f->count = good;
    return good;
}

static void compartments_text(uint32_t mask, char out[COMPARTMENTS_BYTES])
{
    size_t at = 0;

    snprintf(out, COMPARTMENTS_BYTES, "none");
    for (uint32_t bit = 1; bit != 0; bit <<= 1) {
        const struct dbe_num_row *row = (mask & bit) != 0 ? dbe_reg_compartment(bit) : NULL;
        if (row != NULL && at < COMPARTMENTS_BYTES)
            at += (size_t)snprintf(out + at, COMPARTMENTS_BYTES - at, "%s%s", at > 0 ? "," : "", row->name);
    }
}

static void print_roe(const struct pol_roe *roe, bool asked, const struct dbe_identity *who, size_t good)
{
    char from[TIME_BYTES], to[TIME_BYTES], id[33], digest[129], compartments[COMPARTMENTS_BYTES];

    compartments_text(roe->compartments, compartments);
    time_text(roe->not_before_ms, from);
    time_text(roe->not_after_ms, to);
    base_hex(roe->id, sizeof roe->id, id);
    base_hex(roe->payload_digest, sizeof roe->payload_digest, digest);
    printf("token      %s: %s\n", id, state_words(roe, good));
    printf("permits    %s to device %u (%s), once\n", dbe_reg_msg(roe->verb)->name, roe->device,
           roe->category == POL_ROE_NC3 ? "NC3" : "advisory");
    printf("labels     tenant %s, up to %s, compartments %s, %s\n", roe->tenant,
           dbe_reg_classification(roe->classification_max)->name, compartments, dbe_reg_roe(roe->roe_level)->name);
    printf("payload    sha3-512 %s\nfrom       %s\nuntil      %s\nasked by   %s%s\n", digest, from, to, roe->requester,
           asked ? "" : ", which NOTHING HERE PROVES");
    for (size_t i = 0; i < good; i++)
        printf("approved   %s\n", who[i].spiffe_id);
}

static json_t *roe_json(const struct pol_roe *roe, bool asked, const struct dbe_identity *who, size_t good)
{
    char id[33], digest[129];
    json_t *names = json_array();

    base_hex(roe->id, sizeof roe->id, id);
    base_hex(roe->payload_digest, sizeof roe->payload_digest, digest);
    for (size_t i = 0; i < good; i++)
        json_array_append_new(names, json_string(who[i].spiffe_id));
    return json_pack("{s:s, s:s, s:s, s:i, s:s, s:s, s:i, s:s, s:s, s:I, s:I, s:s, s:b, s:o}", "id", id, "state",
                     state_words(roe, good), "verb", dbe_reg_msg(roe->verb)->name, "device", (int)roe->device, "tenant",
                     roe->tenant, "classification", dbe_reg_classification(roe->classification_max)->name,
                     "compartments", (int)roe->compartments, "roe_level", dbe_reg_roe(roe->roe_level)->name,
                     "payload_sha3_512", digest, "not_before_ms", (json_int_t)roe->not_before_ms, "not_after_ms",
                     (json_int_t)roe->not_after_ms, "requester", roe->requester, "requester_proven", (int)asked,
                     "approvers", names);
}

static dbe_err tell(const struct args *a, struct store *s, struct file *f, const struct pol_roe *roe)
{
    struct dbe_identity who[APPROVALS_MAX];
    const size_t good = approvers(s, f, who);
    /* Who approved has seen that it was asked for: a complete token says so by that. */
    const bool asked = good == APPROVALS_MAX ||
                       pol_roe_check_asked(f->body.data, f->body.len, f->asked, find_person, s, NULL) == DBE_OK;

    if (a->json)
        return cli_print_json(roe_json(roe, asked, who, good)) == CLI_OK ? DBE_OK : DBE_E_NOMEM;
    print_roe(roe, asked, who, good);
    return DBE_OK;
}

static dbe_err show(const struct args *a, struct store *s, struct file *f, struct dbe_diag *diag)
{
    struct pol_roe roe;

    DBE_TRY(load(a->file, f, &roe, diag));
    return tell(a, s, f, &roe);
}

/* ---- request, approve ---------------------------------------------------------------------------------------- */

/* The body, and that `cred` asked for it. */
static dbe_err ask(struct pol_roe *roe, const struct dbe_credential *cred, struct file *f, struct dbe_diag *diag)
{
    const struct dbe_identity *who = dbe_credential_identity(cred);

    snprintf(roe->requester, sizeof roe->requester, "%s", who->spiffe_id);
    DBE_TRY(pol_roe_encode(roe, &f->body, diag));
    return pol_roe_ask(f->body.data, f->body.len, who, cred, f->asked, diag);
}

static dbe_err request(const struct args *a, struct store *s, struct file *f, struct dbe_diag *diag)
{
    struct dbe_credential *cred = NULL;
    struct pol_roe roe = a->roe;

    /* Device 0 is one like others: nobody is to sign for it because the number was forgotten. */
    if (a->as == NULL || a->payload == NULL || !a->device_given || roe.verb == 0 || roe.tenant[0] == '\0')
        return dbe_fail(diag, DBE_E_ARGUMENT, NULL, 0, "request needs --as, --verb, --device, --tenant and --payload");
    if (!a->force && access(a->file, F_OK) == 0)
        return dbe_fail(diag, DBE_E_EXISTS, NULL, 0, "%.150s is there already; --force asks anew, and forgets it",
                        a->file);
    DBE_TRY(base_uuid(roe.id));
    DBE_TRY(payload_digest(a->payload, roe.payload_digest, diag));
    roe.not_before_ms = base_wall_ms();
    roe.not_after_ms = roe.not_before_ms + a->valid_ms;
    roe.category = roe.device == DBE_DEV_NC3_INTEGRATION ? POL_ROE_NC3 : POL_ROE_ADVISORY;
    DBE_TRY(dbe_credential_load(s->paths.keys, a->as, &cred, diag));
    dbe_err err = ask(&roe, cred, f, diag);
    dbe_credential_free(cred);
    DBE_TRY(err);
    DBE_TRY(save(a->file, f, diag));
    return tell(a, s, f, &roe);
}

static dbe_err add_approval(const struct args *a, struct store *s, struct file *f, struct dbe_diag *diag)
{
    struct dbe_credential *cred = NULL;
    struct dbe_identity who[APPROVALS_MAX];
    size_t good = approvers(s, f, who);

    if (f->count == APPROVALS_MAX)
        return dbe_fail(diag, DBE_E_EXISTS, NULL, 0, "%.100s has its two approvals", a->file);
    DBE_TRY(dbe_credential_load(s->paths.keys, a->as, &cred, diag));
    const struct dbe_identity *self = dbe_credential_identity(cred);
    dbe_err err =
        good > 0 && strcmp(who[0].spiffe_id, self->spiffe_id) == 0
            ? dbe_fail(diag, DBE_E_EXISTS, NULL, 0, "%.100s approved already; it takes another person", self->spiffe_id)
            : pol_roe_approve(f->body.data, f->body.len, self, cred, f->approvals[f->count], diag);
    dbe_credential_free(cred);
    f->count += err == DBE_OK;
    return err;
}

static dbe_err approve(const struct args *a, struct store *s, struct file *f, struct dbe_diag *diag)
{
    uint8_t digest[64];
    struct pol_roe roe;

    if (a->as == NULL || a->payload == NULL)
        return dbe_fail(diag, DBE_E_ARGUMENT, NULL, 0, "approve needs --as and --payload: who approves has seen it");
    DBE_TRY(load(a->file, f, &roe, diag));
    DBE_TRY(payload_digest(a->payload, digest, diag));
    if (memcmp(digest, roe.payload_digest, sizeof digest) != 0)
        return dbe_fail(diag, DBE_E_ROE_TOKEN, NULL, 0, "%.100s is not the payload that was asked for", a->payload);
    DBE_TRY(pol_roe_check_asked(f->body.data, f->body.len, f->asked, find_person, s, diag));
    DBE_TRY(add_approval(a, s, f, diag));
    DBE_TRY(save(a->file, f, diag));
    return tell(a, s, f, &roe);
}

/* ---- words ------------------------------------------------------------------------------------------------------ */

static bool parse_byte(bool (*names)(const char *, uint64_t *), const char *text, uint8_t *ret)
{
    uint64_t value = 0;

    if (!names(text, &value))
        return false;
    *ret = (uint8_t)value;
    return true;
}

static bool parse_device(const char *text, uint8_t *ret)
{
    char *end = NULL;
    unsigned long n = strtoul(text, &end, 10);

    *ret = (uint8_t)n;
    return end != text && *end == '\0' && n < DBE_DEVICE_COUNT;
}

static bool parse_compartments(const char *text, uint32_t *ret)
{
    char copy[128], *rest = copy, *name;
    uint64_t bit = 0;

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

/* 90s, 10min, 2h. */
static bool parse_valid(const char *text, uint64_t *ret)
{
    char *end = NULL;
    unsigned long n = strtoul(text, &end, 10);
    uint64_t unit = strcmp(end, "s") == 0     ? 1000
                    : strcmp(end, "min") == 0 ? 60000
                    : strcmp(end, "h") == 0   ? 3600000
                                              : 0;

    *ret = n * unit;
    return end != text && unit != 0 && n > 0 && n <= POL_ROE_LIFETIME_MAX_MS / unit;
}

/* One of who signs; or none of them. */
static bool parse_signer(int argc, char **argv, int *i, struct args *a)
{
    const char *v, *name = argv[*i];

    if ((v = cli_opt(argc, argv, i, "--as")) != NULL)
        a->as = v;
    else if ((v = cli_opt(argc, argv, i, "--payload")) != NULL)
        a->payload = v;
    else
        return false;
    a->of_signer = name;
    return true;
}

/* What a request is for; false: none of these, or not with that value. */
static bool parse_request(int argc, char **argv, int *i, struct args *a)
{
    const char *v;

    a->of_request = argv[*i];
    if (strcmp(argv[*i], "--force") == 0)
        return a->force = true;
    if ((v = cli_opt(argc, argv, i, "--verb")) != NULL)
        return parse_byte(pol_name_msg, v, &a->roe.verb);
    if ((v = cli_opt(argc, argv, i, "--device")) != NULL)
        return a->device_given = parse_device(v, &a->roe.device);
    if ((v = cli_opt(argc, argv, i, "--tenant")) != NULL)
        return snprintf(a->roe.tenant, sizeof a->roe.tenant, "%s", v) < (int)sizeof a->roe.tenant;
    if ((v = cli_opt(argc, argv, i, "--classification")) != NULL)
        return parse_byte(pol_name_classification, v, &a->roe.classification_max);
    if ((v = cli_opt(argc, argv, i, "--compartments")) != NULL)
        return parse_compartments(v, &a->roe.compartments);
    if ((v = cli_opt(argc, argv, i, "--roe-level")) != NULL)
        return parse_byte(pol_name_roe, v, &a->roe.roe_level);
    if ((v = cli_opt(argc, argv, i, "--valid")) != NULL)
        return parse_valid(v, &a->valid_ms);
    return false;
}

static bool parse_option(int argc, char **argv, int *i, struct args *a)
{
    if (strcmp(argv[*i], "--json") == 0)
        return a->json = true;
    if (argv[*i][0] == '-')
        return parse_signer(argc, argv, i, a) || parse_request(argc, argv, i, a);
    if (a->file != NULL)
        return false;
    a->file = argv[*i];
    return true;
}

static int run(dbe_err (*verb)(const struct args *, struct store *, struct file *, struct dbe_diag *),
               const struct args *a)
{
    static struct store store;
    static struct file file;
    struct dbe_diag diag = {0};

    base_buf_init(&file.body, POL_ROE_BODY_MAX);
    dbe_err err = open_store(&store, &diag);
    if (err == DBE_OK)
        err = verb(a, &store, &file, &diag);
    base_buf_free(&file.body);
    dbe_trust_free(store.trust);
    if (err == DBE_OK)
        return CLI_OK;
    return cli_fail(err == DBE_E_ROE_TOKEN || err == DBE_E_EXISTS ? CLI_FAILED : CLI_USAGE, "roe", err, &diag);
}

typedef dbe_err verb_fn(const struct args *, struct store *, struct file *, struct dbe_diag *);

static const struct verb {
    const char *name;
    verb_fn *run;
    bool asks, signs; /* takes the options of a request, those of who signs */
} verbs[] = {{"request", request, true, true}, {"approve", approve, false, true}, {"show", show, false, false}};

/* What is wrong with these words, for `verb`; NULL: nothing. */
static const char *unfit(const struct verb *verb, const struct args *a)
{
    return !verb->asks && a->of_request != NULL   ? a->of_request
           : !verb->signs && a->of_signer != NULL ? a->of_signer
                                                  : NULL;
}

int cli_roe(int argc, char **argv)
{
    struct args a = {.valid_ms = VALID_DEFAULT_MS, .roe.roe_level = DBE_ROE_ANALYSIS_ONLY};
    const struct verb *verb = NULL;

    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0)
            return usage(stdout, CLI_OK);
    if (argc < 2)
        return cli_wrong("roe", "request, approve or show?");
    for (size_t i = 0; i < BASE_ARRAY_LEN(verbs); i++)
        verb = strcmp(argv[1], verbs[i].name) == 0 ? &verbs[i] : verb;
    if (verb == NULL)
        return cli_wrong("roe", "no verb \"%s\"", argv[1]);
    for (int i = 2; i < argc; i++)
        if (!parse_option(argc, argv, &i, &a))
            return cli_wrong("roe", "\"%s\" is no option, or not with that value", argv[i]);
    if (unfit(verb, &a) != NULL)
        return cli_wrong("roe", "%s is not one of `roe %s`", unfit(verb, &a), verb->name);
    return a.file != NULL ? run(verb->run, &a)
                          : cli_wrong("roe", "which token? It is the file that %s",
                                      verb->asks ? "is written" : "`roe request` wrote");
}
