/* SPDX-License-Identifier: Apache-2.0
 *
 * load.c - the worker's model and the one that drafts for it: read from their files, measured, named.
 *
 * In:   the worker's parameters
 * Out:  models, and what is said about them: name, digest, fingerprint, how fast memory can be read
 */
#include "devices/l7_worker/model_file.h"
#include "devices/l7_worker/worker.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "crypto/crypto.h"

enum { BANDWIDTH_MS = 200 }; /* to measure how fast memory can be read, once */

/* A name that clients can type: the model's own, or the file's, in lower case with hyphens. */
static void name_model(struct worker *w, const char *given)
{
    const char *slash = strrchr(w->model_path, '/');
    const char *from = given[0] != '\0' ? given : slash != NULL ? slash + 1 : w->model_path;
    size_t n = 0;

    if (w->model_name[0] != '\0')
        return;
    for (; from[n] != '\0' && n < WORKER_NAME_MAX; n++) {
        unsigned char c = (unsigned char)from[n];
        bool keep = c < 0x80 && (isalnum(c) || c == '.' || c == '_');
        w->model_name[n] = (char)(keep ? tolower(c) : '-');
    }
    w->model_name[n] = '\0';
    if (given[0] == '\0' && n > 5 && strcmp(w->model_name + n - 5, ".gguf") == 0)
        w->model_name[n - 5] = '\0';
}

/* Same file, same arithmetic, same seed: same text. */
static dbe_err fingerprint(struct worker *w, const char *digest)
{
    const struct llm_model_info *info = llm_model_info(w->model);
    uint8_t hash[CRYPTO_HASH_BYTES];
    char words[192];

    int n = snprintf(words, sizeof words, "%s %s %s %s", digest, info->kernel, info->quantisation, w->kv_type);
    DBE_TRY(crypto_sha3_512(words, (size_t)n, hash));
    memcpy(w->fingerprint, "fp_", 4);
    base_hex(hash, FINGERPRINT_BYTES, w->fingerprint + 3);
    return DBE_OK;
}

dbe_err worker_load_model(struct worker *w, struct dbe_diag *diag)
{
    struct llm_model_params params = {.threads = (unsigned)w->threads,
                                      .kv_budget_bytes = (size_t)w->kv_budget_mib << 20,
                                      .kv_type = w->kv_type,
                                      .memory_budget_bytes = w->memory_budget_mib << 20,
                                      .n_ctx_max = (uint32_t)w->ctx_max};
    struct dbe_diag why = {0};
    struct model_file file;
    char digest[MODEL_FILE_HEX] = ""; /* says in the log which model it was */

    if (w->model_path[0] == '\0')
        return dbe_fail(diag, DBE_E_CONFIG, "model", 0, "--model FILE is required: a GGUF file");
    w->read_bytes_per_s = (uint64_t)llm_read_bandwidth(params.threads, BANDWIDTH_MS);
    if (model_file_begin(&file, w->model_path, &why) != DBE_OK)
        return dbe_fail(diag, DBE_E_CONFIG, "model", 0, "cannot read the model file %.120s", w->model_path);
    dbe_err err = llm_model_load_fd(file.fd, &params, &w->model, &why);
    const dbe_err changed = model_file_end(&file, digest, err == DBE_OK ? &why : NULL);
    err = err == DBE_OK ? changed : err; /* the model goes with the worker */
    memcpy(w->model_digest, file.digest, sizeof w->model_digest);
    if (err == DBE_E_LIMIT) /* the numbers are more use than the path */
        return dbe_fail(diag, err, "model", 0, "%s", why.text);
    if (err != DBE_OK)
        return dbe_fail(diag, err, "model", why.offset, "model file %.60s: %.110s", w->model_path,
                        why.text[0] != '\0' ? why.text : dbe_err_text(err));
    const struct llm_model_info *info = llm_model_info(w->model);
    name_model(w, info->name);
    DBE_TRY(fingerprint(w, digest));
    svc_log(
        w->svc, SVC_INFO, NULL,
        "model %s loaded: sha3-512 %s, %s %s, %" PRIu64 " parameters, context %" PRIu32
        " tokens, kernel %s, %u threads, "
        "weights %" PRIu64 " bytes, workspace %" PRIu64 " bytes, KV budget %" PRIu64 " bytes; memory reads %.1f GB/s",
        w->model_name, digest, info->arch, info->quantisation, info->n_params, info->n_ctx, info->kernel, info->threads,
        info->weights_bytes, info->workspace_bytes, info->kv_budget_bytes, (double)w->read_bytes_per_s / 1e9);
    if (info->retention_top1 >= 0)
        svc_log(w->svc, SVC_INFO, NULL, "quantisation kept %.2f %% of this model's greedy choices, its file says",
                100 * (double)info->retention_top1);
    w->kv_limit = info->kv_budget_bytes;
    w->memory_limit = w->memory_budget_mib << 20;
    return DBE_OK;
}

static bool same_file(const char *a, const char *b)
{
    struct stat at, bt;

    return stat(a, &at) == 0 && stat(b, &bt) == 0 && at.st_dev == bt.st_dev && at.st_ino == bt.st_ino;
}

dbe_err worker_load_draft(struct worker *w, struct dbe_diag *diag)
{
    const struct llm_model_info *info = llm_model_info(w->model);
    uint64_t used = info->weights_bytes + info->workspace_bytes + info->kv_budget_bytes;
    struct llm_model_params params = {.threads = (unsigned)w->threads,
                                      .kv_budget_bytes = (size_t)w->kv_budget_mib << 20,
                                      .kv_type = w->kv_type,
                                      .memory_budget_bytes = w->memory_limit > used ? w->memory_limit - used : 1,
                                      .n_ctx_max = (uint32_t)w->ctx_max,
                                      .prefix_percent = -1};
    struct dbe_diag why = {0};

    if (w->draft_path[0] == '\0')
        return DBE_OK;
    dbe_err err = same_file(w->model_path, w->draft_path)
                      ? dbe_fail(&why, DBE_E_ARGUMENT, NULL, 0, "it is the model itself")
                      : llm_model_load(w->draft_path, &params, &w->draft, &why);
    if (err == DBE_E_NOT_FOUND || err == DBE_E_IO || err == DBE_E_MODEL)
        return dbe_fail(diag, err, "draft-model", why.offset, "draft model %.60s: %.110s", w->draft_path,
                        why.text[0] != '\0' ? why.text : dbe_err_text(err));
    if (err == DBE_OK && llm_model_info(w->draft)->pass_bytes >= info->pass_bytes)
        err = dbe_fail(&why, DBE_E_ARGUMENT, NULL, 0, "it is no smaller than the model");
    if (err == DBE_OK)
        err = llm_draft_fits(w->model, w->draft, &why);
    if (err == DBE_OK) {
        svc_log(w->svc, SVC_INFO, NULL, "draft model %.100s guesses tokens ahead", w->draft_path);
        return DBE_OK;
    }
    svc_log(w->svc, SVC_INFO, NULL, "no draft model: %.100s: %s", w->draft_path,
            why.text[0] != '\0' ? why.text : dbe_err_text(err));
    llm_model_free(w->draft);
    w->draft = NULL;
    return DBE_OK;
}
