/* SPDX-License-Identifier: Apache-2.0
 *
 * models.c - which L7_PROFILE a client's model name stands for. The one place of the mapping.
 *
 * In:   the name a client gave; the models that the mesh serves now (L7_MODEL_STATUS)
 * Out:  a profile, or a refusal. A name that is in neither list is unknown: nothing falls back silently.
 * Not:  whether a worker is up: the router says that
 */
#include "shim/openai.h"

#include <string.h>

/* Names of 001 section 3.3, and "dsmil" for whatever the mesh's own worker serves. They choose a profile; the answer's
 * `model` always says what really answered. */
static const struct {
    const char *name, *profile;
} aliases[] = {
    {"dsmil", "llm-7b-amx"},      {"llama-7b-int8-amx", "llm-7b-amx"}, {"mistral-7b-int8-amx", "llm-7b-amx"},
    {"llm-1b-npu", "llm-1b-npu"}, {"gpt-3.5-turbo", "llm-7b-amx"},     {"gpt-4", "llm-7b-amx"},
};

const struct shim_model *shim_models_find(const struct shim_models *models, const char *id)
{
    for (size_t i = 0; i < models->count; i++)
        if (strcmp(models->list[i].id, id) == 0)
            return &models->list[i];
    return NULL;
}

dbe_err shim_models_resolve(const struct shim_models *models, const char *name, const char **ret_profile,
                            struct shim_problem *p)
{
    if (name[0] == '\0') {
        if (models->count != 1)
            return shim_problem_set(p, 400, "missing_required_parameter", "model",
                                    "Missing required parameter: 'model'.");
        *ret_profile = models->list[0].profile;
        return DBE_OK;
    }
    const struct shim_model *served = shim_models_find(models, name);
    if (served != NULL) {
        *ret_profile = served->profile;
        return DBE_OK;
    }
    for (size_t i = 0; i < BASE_ARRAY_LEN(aliases); i++) {
        if (strcmp(name, aliases[i].name) == 0) {
            *ret_profile = aliases[i].profile;
            return DBE_OK;
        }
    }
    return shim_problem_set(p, 404, "model_not_found", "model", "The model '%.128s' does not exist.", name);
}
