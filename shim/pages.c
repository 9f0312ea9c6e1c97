/* SPDX-License-Identifier: Apache-2.0
 *
 * pages.c - what the gateway tells of itself and of the mesh: models, metrics, health.
 *
 * In:   a request     Out: its answer, decided at once
 */
#include "shim/server.h"

dbe_err shim_models_handle(struct shim_http *http)
{
    const struct shim_models *models = NULL;
    const struct shim_model *one = NULL;
    struct shim_problem p;
    struct base_buf out;

    if (shim_mesh_models(&http->shim->mesh, &models, &p) != DBE_OK) {
        shim_http_refuse(http, &p);
        return DBE_OK;
    }
    base_buf_init(&out, SHIM_PAGE_MAX_BYTES);
    if (http->model_id == NULL) {
        shim_models_json(&out, models);
        shim_http_answer(http, 200, "application/json", &out);
    } else if ((one = shim_models_find(models, http->model_id)) != NULL) {
        shim_model_json(&out, one);
        shim_http_answer(http, 200, "application/json", &out);
    } else {
        (void)shim_problem_set(&p, 404, "model_not_found", "model", "The model '%.128s' does not exist.",
                               http->model_id);
        shim_http_refuse(http, &p);
    }
    base_buf_free(&out);
    return DBE_OK;
}

dbe_err shim_metrics_handle(struct shim_http *http)
{
    struct base_buf out;

    base_buf_init(&out, SVC_METRICS_MAX_BYTES);
    dbe_err err = svc_metrics_render(http->shim->svc, &out);
    if (err == DBE_OK)
        shim_http_answer(http, 200, SVC_METRICS_CONTENT_TYPE, &out);
    base_buf_free(&out);
    return err;
}

dbe_err shim_health_handle(struct shim_http *http)
{
    struct base_buf out;
    unsigned status = 503;

    base_buf_init(&out, SVC_HEALTH_MAX_BYTES);
    dbe_err err = svc_health_render(http->shim->svc, &out, &status);
    if (err == DBE_OK)
        shim_http_answer(http, status, SVC_HEALTH_CONTENT_TYPE, &out);
    base_buf_free(&out);
    return err;
}
