/* SPDX-License-Identifier: Apache-2.0
 *
 * bundle_test.c - a mesh carried to another machine: what is installed, what is kept, what is refused.
 */
#include "keys_fixture.h"

#include "bundle.h"

struct fates {
    unsigned installed, kept;
    char why[160]; /* of the last part that was not installed */
};

static void on_part(void *ctx, const char *part, bool installed, const char *why)
{
    struct fates *f = ctx;

    assert_true(part[0] != '\0' && installed == (why == NULL));
    f->installed += installed;
    f->kept += !installed;
    if (why != NULL)
        (void)snprintf(f->why, sizeof f->why, "%s", why);
}

static const struct dbe_issue worker = {.device = 47, .role = DBE_ROLE_WORKER};

/* A bundle of the fixture's mesh with two nodes and a list. */
static void exported(const struct kf *f, char path[PATH_MAX])
{
    struct dbe_diag diag = {0};
    size_t count = 0;

    kf_path(f, "bundle", path);
    if (!kf_there(f, "router-43.crt")) {
        assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
        assert_int_equal(dbe_keys_issue(f->dir, &worker, &diag), DBE_OK);
        assert_int_equal(dbe_keys_revoke(f->dir, "77", DBE_REVOKE_HOLD, &diag), DBE_OK);
    }
    if (dbe_keys_bundle_export(f->dir, path, &count, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    assert_int_equal(count, 2);
}

/* spec 8.19 */
static void mesh_travels_and_is_kept_up(void **state)
{
    struct kf *f = *state;
    char path[PATH_MAX], dir[PATH_MAX];
    struct fates fates = {0};
    struct dbe_trust *trust = NULL;
    struct dbe_diag diag = {0};
    uint64_t number = 0;

    exported(f, path);
    kf_path(f, "far", dir);
    assert_int_equal(dbe_keys_bundle_import(dir, path, NULL, on_part, &fates, &diag), DBE_E_NOT_FOUND);
    assert_int_equal(dbe_keys_bundle_import(dir, path, f->trust->fingerprint, on_part, &fates, &diag), DBE_OK);
    assert_int_equal(fates.installed, 4); /* ca, list, two nodes */
    assert_int_equal(dbe_trust_load(dir, &trust, &diag), DBE_OK);
    dbe_trust_revocations(trust, NULL, NULL, &number);
    assert_int_equal(number, 1);
    assert_memory_equal(trust->fingerprint, f->trust->fingerprint, 64);
    dbe_trust_free(trust);
    assert_int_equal(dbe_keys_verify(dir, "worker-47", NULL, &diag), DBE_OK);
    assert_false(kf_there(f, "far/ca.key"));
    assert_false(kf_there(f, "far/worker-47.key"));

    fates = (struct fates){0}; /* again: nothing is newer */
    assert_int_equal(dbe_keys_bundle_import(dir, path, NULL, on_part, &fates, &diag), DBE_OK);
    assert_int_equal(fates.installed, 0);
    assert_int_equal(fates.kept, 4);

    struct base_buf old = kf_slurp(f, "bundle");
    kf_now_ms += KF_DAY_MS;
    assert_int_equal(dbe_keys_renew(f->dir, "worker-47", &(struct dbe_renew){.revoke_old = true}, &diag), DBE_OK);
    exported(f, path);
    fates = (struct fates){0};
    assert_int_equal(dbe_keys_bundle_import(dir, path, NULL, on_part, &fates, &diag), DBE_OK);
    assert_int_equal(fates.installed, 2); /* the list and the worker */
    kf_write(f, "bundle", old.data, old.len); /* an old one brings nothing back */
    fates = (struct fates){0};
    assert_int_equal(dbe_keys_bundle_import(dir, path, NULL, on_part, &fates, &diag), DBE_OK);
    assert_int_equal(fates.installed, 0);
    assert_int_equal(dbe_trust_load(dir, &trust, &diag), DBE_OK);
    assert_int_equal(dbe_trust_revoked_count(trust), 2);
    dbe_trust_free(trust);
    base_buf_free(&old);
}

static void revoked_and_expired_stay_out(void **state)
{
    struct kf *f = *state;
    struct dbe_issue brief = {.name = "brief", .device = 47, .role = DBE_ROLE_WORKER, .valid_days = 1};
    struct dbe_diag diag = {0};
    char path[PATH_MAX];
    size_t count = 9;

    kf_path(f, "bundle", path);
    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
    assert_int_equal(dbe_keys_issue(f->dir, &brief, &diag), DBE_OK);
    assert_int_equal(dbe_keys_revoke(f->dir, "router-43", DBE_REVOKE_HOLD, &diag), DBE_OK);
    kf_now_ms += 2 * KF_DAY_MS;
    assert_int_equal(dbe_keys_bundle_export(f->dir, path, &count, &diag), DBE_OK);
    assert_int_equal(count, 0);
}

static void import(const struct kf *f, const char *path, const char *why)
{
    char dir[PATH_MAX];
    struct fates fates = {0};
    struct dbe_diag diag = {0};

    kf_path(f, "far", dir);
    if (dbe_keys_bundle_import(dir, path, f->trust->fingerprint, on_part, &fates, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    if (strstr(fates.why, why) == NULL)
        fail_msg("\"%s\" instead of \"%s\"", fates.why, why);
}

/* A certificate is never taken away from the key that lies beside it. */
static void what_is_here_is_kept(void **state)
{
    struct kf *f = *state;
    struct dbe_issue other = {.name = "worker-47", .device = 44, .role = DBE_ROLE_WORKER};
    struct dbe_diag diag = {0};
    char path[PATH_MAX], dir[PATH_MAX];

    exported(f, path);
    kf_path(f, "far", dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    struct base_buf key = kf_slurp(f, "router-43.key"), crt;
    kf_write(f, "far/worker-47.key", key.data, key.len);
    import(f, path, "not for it");
    kf_write(f, "far/worker-47.key", "junk", 4);
    import(f, path, "cannot be opened");
    base_buf_free(&key);
    key = kf_slurp(f, "worker-47.key");
    kf_write(f, "far/worker-47.key", key.data, key.len); /* its own: a node made elsewhere gets its certificate */
    import(f, path, "already");
    assert_int_equal(dbe_keys_verify(dir, "worker-47", NULL, &diag), DBE_OK);
    base_buf_free(&key);
    kf_write(f, "far/worker-47.crt", "junk", 4);
    import(f, path, "move it away");
    kf_path(f, "worker-47.crt", path); /* another identity of that name */
    assert_int_equal(remove(path), 0);
    kf_path(f, "worker-47.key", path);
    assert_int_equal(remove(path), 0);
    assert_int_equal(dbe_keys_issue(f->dir, &other, &diag), DBE_OK);
    crt = kf_slurp(f, "worker-47.crt");
    kf_write(f, "far/worker-47.crt", crt.data, crt.len);
    kf_path(f, "bundle", path);
    import(f, path, "another identity");
    base_buf_free(&crt);
}

static void others_bundles_are_refused(void **state)
{
    struct kf *f = *state;
    char path[PATH_MAX], dir[PATH_MAX], far[PATH_MAX];
    struct dbe_diag diag = {0};
    uint8_t wrong[64];

    exported(f, path);
    kf_path(f, "far", far);
    memcpy(wrong, f->trust->fingerprint, sizeof wrong);
    wrong[63] ^= 1;
    assert_int_equal(dbe_keys_bundle_import(far, path, wrong, NULL, NULL, &diag), DBE_E_CERT);
    assert_non_null(strstr(diag.text, "fingerprint"));
    assert_int_equal(dbe_keys_bundle_import(far, path, NULL, NULL, NULL, &diag), DBE_E_CERT);
    assert_non_null(strstr(diag.text, "--fingerprint"));
    assert_false(kf_there(f, "far/ca.crt"));
    kf_path(f, "other", dir); /* a store of another mesh */
    assert_int_equal(dbe_keys_init(dir, "mesh.test", 0, &diag), DBE_OK);
    assert_int_equal(dbe_keys_bundle_import(dir, path, NULL, NULL, NULL, &diag), DBE_E_EXISTS);
    assert_int_equal(dbe_keys_bundle_import(dir, path, f->trust->fingerprint, NULL, NULL, &diag), DBE_E_EXISTS);
    kf_path(f, "nothing", path);
    assert_int_equal(dbe_keys_bundle_import(dir, path, NULL, NULL, NULL, &diag), DBE_E_NOT_FOUND);
}

static void every_tampered_byte_is_refused(void **state)
{
    struct kf *f = *state;
    char path[PATH_MAX], far[PATH_MAX];
    struct dbe_diag diag = {0};

    exported(f, path);
    kf_path(f, "far", far);
    struct base_buf b = kf_slurp(f, "bundle");
    for (size_t i = 0; i < b.len; i += i < 200 || i > b.len - 200 ? 1 : 199) {
        b.data[i] ^= 1;
        kf_write(f, "bundle", b.data, b.len);
        if (dbe_keys_bundle_import(far, path, f->trust->fingerprint, NULL, NULL, &diag) != DBE_E_CERT)
            fail_msg("byte %zu may be changed: %s", i, diag.text);
        b.data[i] ^= 1;
    }
    for (size_t cut = 0; cut < b.len; cut += 997) {
        kf_write(f, "bundle", b.data, cut);
        assert_int_equal(dbe_keys_bundle_import(far, path, f->trust->fingerprint, NULL, NULL, &diag), DBE_E_CERT);
    }
    assert_false(kf_there(f, "far/ca.crt"));
    base_buf_free(&b);
}

/* Sign any text as the CA would. */
static void signed_bundle(const struct kf *f, struct base_buf *text)
{
    uint8_t signature[CRYPTO_MLDSA87_SIG_BYTES];

    assert_int_equal(crypto_sign(f->ca_key, BUNDLE_SIGNATURE_CTX, text->data, text->len, signature), DBE_OK);
    bundle_put_signature(text, signature);
    assert_int_equal(text->err, DBE_OK);
    kf_write(f, "bundle", text->data, text->len);
}

/* Well signed, and yet not of the form that a CA writes. */
static void form_is_checked_too(void **state)
{
    struct kf *f = *state;
    char path[PATH_MAX], far[PATH_MAX];
    struct dbe_diag diag = {0};
    struct bundle_head head;
    struct base_buf good_node, text;

    exported(f, path);
    kf_path(f, "far", far);
    struct base_buf whole = kf_slurp(f, "bundle");
    struct base_cur c = base_cur_of(whole.data, whole.len);
    char name[KEYS_NAME_MAX_BYTES + 1];
    bundle_head_init(&head);
    base_buf_init(&good_node, DBE_CERT_MAX_BYTES);
    assert_int_equal(bundle_take_head(&c, &head), DBE_OK);
    assert_string_equal(head.mesh, "mesh.test");
    assert_int_equal(bundle_take_node(&c, name, &good_node), DBE_OK);
    static const char *const names[][2] = {{"a", "b"}, {"b", "a"}, {"a", "a"}, {"ca", "d"}, {"../x", "y"},
                                           {"a b", "c"}};
    for (size_t i = 0; i < BASE_ARRAY_LEN(names); i++) {
        base_buf_init(&text, DBE_BUNDLE_MAX_BYTES);
        bundle_put_head(&text, &head);
        bundle_put_node(&text, names[i][0], &good_node);
        bundle_put_node(&text, names[i][1], &good_node);
        signed_bundle(f, &text);
        dbe_err err = dbe_keys_bundle_import(far, path, f->trust->fingerprint, NULL, NULL, &diag);
        if (err != (i == 0 ? DBE_OK : DBE_E_CERT))
            fail_msg("row %zu: %s", i, diag.text);
        base_buf_free(&text);
    }
    for (int i = 0; i < 6; i++) {
        struct bundle_head bent = head;
        base_buf_init(&text, DBE_BUNDLE_MAX_BYTES);
        if (i == 0)
            bent.list_number++;
        else if (i == 1)
            (void)snprintf(bent.mesh, sizeof bent.mesh, "mesh.tes");
        else if (i == 2)
            bent.made[4] = '/';
        bundle_put_head(&text, &bent);
        if (i == 3)
            base_buf_str(&text, "name: x\n");
        if (i == 4)
            base_buf_str(&text, "\n");
        if (i == 5)
            text.data[0] = 'd';
        signed_bundle(f, &text);
        if (dbe_keys_bundle_import(far, path, f->trust->fingerprint, NULL, NULL, &diag) != DBE_E_CERT)
            fail_msg("head %d is taken", i);
        base_buf_free(&text);
    }
    bundle_head_fini(&head);
    base_buf_free(&good_node);
    base_buf_free(&whole);
}

static void every_failure_is_an_error(void **state)
{
    struct kf *f = *state;
    char path[PATH_MAX], far[PATH_MAX];
    struct dbe_diag diag = {0};

    exported(f, path);
    kf_path(f, "far", far);
    for (int kind = 0; kind < 3; kind++) {
        dbe_err err = DBE_E_NOMEM;
        uint64_t n = 0;
        while (err != DBE_OK && ++n < 400) {
            (kind == 2 ? base_fail_random_at : base_fail_alloc_at)(n);
            err = kind == 1 ? dbe_keys_bundle_import(far, path, f->trust->fingerprint, NULL, NULL, &diag)
                            : dbe_keys_bundle_export(f->dir, path, NULL, &diag);
            base_fail_alloc_at(0);
            base_fail_random_at(0);
        }
        assert_int_equal(err, DBE_OK);
        assert_true(n > 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KF(mesh_travels_and_is_kept_up),
        KF(revoked_and_expired_stay_out),
        KF(what_is_here_is_kept),
        KF(others_bundles_are_refused),
        KF(every_tampered_byte_is_refused),
        KF(form_is_checked_too),
        KF(every_failure_is_an_error),
    };
    return cmocka_run_group_tests_name("bundle", tests, NULL, NULL);
}
