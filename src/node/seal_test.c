/* SPDX-License-Identifier: Apache-2.0
 *
 * seal_test.c - keys under a passphrase and in a TPM: they open where they should and nowhere else, and say why not.
 */
#include "tpm_fixture.h"

#include <openssl/pem.h>

#include "armour.h"
#include "seal.h"

static int setup(void **state)
{
    assert_int_equal(unsetenv("DSMIL_PASSPHRASE_FILE"), 0);
    assert_int_equal(unsetenv("DSMIL_TPM"), 0);
    assert_int_equal(dbe_keys_set_seal(NULL, NULL), DBE_OK);
    return kf_setup(state);
}

static int teardown(void **state)
{
    assert_int_equal(dbe_keys_set_seal(NULL, NULL), DBE_OK);
    return kf_teardown(state);
}

/* A passphrase in a file of the store's folder. */
static void passphrase_file(const struct kf *f, const char *words, char ret[PATH_MAX])
{
    kf_write(f, "pass", words, strlen(words));
    kf_path(f, "pass", ret);
}

static dbe_err load(const struct kf *f, struct dbe_diag *diag)
{
    struct dbe_credential *cred = NULL;
    dbe_err err = dbe_credential_load(f->dir, "router-43", &cred, diag);

    dbe_credential_free(cred);
    return err;
}

static bool begins(const struct kf *f, const char *file, const char *words)
{
    struct base_buf b = kf_slurp(f, file);
    bool yes = b.len >= strlen(words) && memcmp(b.data, words, strlen(words)) == 0;

    base_buf_free(&b);
    return yes;
}

/* ---- armour ------------------------------------------------------------------------------------------------------ */

static void armour_has_one_spelling(void **state)
{
    uint8_t bytes[200];
    struct base_buf text, back;
    (void)state;

    for (size_t len = 0; len < sizeof bytes; len++) {
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)(i * 37 + len);
        base_buf_init(&text, 1024);
        base_buf_init(&back, 1024);
        armour_put(&text, "X Y", bytes, len);
        struct base_cur c = base_cur_of(text.data, text.len);
        assert_true(armour_is(&c, "X Y"));
        assert_false(armour_is(&c, "X"));
        assert_int_equal(armour_take(&c, "X Y", &back), DBE_OK);
        assert_int_equal(base_cur_end(&c), DBE_OK);
        assert_int_equal(back.len, len);
        if (len > 0)
            assert_memory_equal(back.data, bytes, len);
        for (size_t i = 0; i < text.len && len % 20 == 7; i++) { /* every flip is refused or means something else */
            text.data[i] ^= 1;
            base_buf_clear(&back);
            c = base_cur_of(text.data, text.len);
            if (armour_take(&c, "X Y", &back) == DBE_OK && base_cur_end(&c) == DBE_OK)
                assert_true(back.len == len && memcmp(back.data, bytes, len) != 0);
            text.data[i] ^= 1;
        }
        base_buf_free(&text);
        base_buf_free(&back);
    }
    static const char *const bad[] = {
        "", "-----BEGIN X-----\n", "-----BEGIN X-----\n-----END Y-----\n", "-----BEGIN X-----\nQQ==\n",
        "-----BEGIN X-----\nQR==\n-----END X-----\n",         /* bits to spare */
        "-----BEGIN X-----\nQ===\n-----END X-----\n", "-----BEGIN X-----\nQQ=\n-----END X-----\n",
        "-----BEGIN X-----\nQQ==\nQQ==\n-----END X-----\n",   /* a short line within */
        "-----BEGIN X-----\nQUJD\nQUJD\n-----END X-----\n", "-----BEGIN X-----\n\nQUJD\n-----END X-----\n",
        "-----BEGIN X-----\r\nQUJD\r\n-----END X-----\r\n", "-----BEGIN X-----\nQU D\n-----END X-----\n",
        " -----BEGIN X-----\nQUJD\n-----END X-----\n", "-----BEGIN X-----\nQUJD\n-----END X-----",
        "-----BEGIN X-----\nQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJD\n-----END X-----\n",
    };
    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++) {
        struct base_cur c = base_cur_of(bad[i], strlen(bad[i]));
        base_buf_init(&back, 1024);
        if (armour_take(&c, "X", &back) == DBE_OK)
            fail_msg("row %zu is taken", i);
        base_buf_free(&back);
    }
}

/* ---- passphrase -------------------------------------------------------------------------------------------------- */

static void passphrase_seals_and_opens(void **state)
{
    struct kf *f = *state;
    char path[PATH_MAX];
    struct dbe_diag diag = {0};
    struct dbe_seal how = {.kind = DBE_SEAL_PASSPHRASE, .passphrase_file = path};
    enum dbe_seal_kind kind = DBE_SEAL_AUTO;

    passphrase_file(f, "correct horse battery staple\n", path);
    assert_int_equal(dbe_keys_set_seal(&how, &diag), DBE_OK);
    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
    assert_true(begins(f, "router-43.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    assert_int_equal(load(f, &diag), DBE_OK);
    assert_int_equal(dbe_keys_seal_kind(f->dir, "router-43", &kind, &diag), DBE_OK);
    assert_int_equal(kind, DBE_SEAL_PASSPHRASE);
    assert_int_equal(dbe_keys_seal_kind(f->dir, "ca", &kind, &diag), DBE_OK);
    assert_int_equal(kind, DBE_SEAL_PLAIN);

    assert_int_equal(dbe_keys_set_seal(NULL, &diag), DBE_OK); /* the environment is as good, and without it: */
    assert_int_equal(load(f, &diag), DBE_E_SEALED);
    assert_non_null(strstr(diag.text, "DSMIL_PASSPHRASE_FILE"));
    assert_non_null(strstr(diag.text, "router-43.key"));
    assert_int_equal(setenv("DSMIL_PASSPHRASE_FILE", path, 1), 0);
    assert_int_equal(load(f, &diag), DBE_OK);
    struct dbe_renew revoke = {.revoke_old = true}; /* a renewed key is sealed as the old one */
    assert_int_equal(dbe_keys_renew(f->dir, "router-43", &revoke, &diag), DBE_OK);
    assert_true(begins(f, "router-43.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    assert_int_equal(load(f, &diag), DBE_OK);

    passphrase_file(f, "correct horse battery stapler", path);
    assert_int_equal(load(f, &diag), DBE_E_SEALED);
    assert_non_null(strstr(diag.text, "does not open"));
    passphrase_file(f, "\n", path);
    assert_int_equal(load(f, &diag), DBE_E_SEALED);
    passphrase_file(f, "", path);
    assert_int_equal(load(f, &diag), DBE_E_SEALED);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(load(f, &diag), DBE_E_PERMISSION);
    assert_non_null(strstr(diag.text, "chmod 600"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(load(f, &diag), DBE_E_NOT_FOUND);
    char *large = calloc(1, DBE_PASSPHRASE_MAX_BYTES + 2);
    memset(large, 'x', DBE_PASSPHRASE_MAX_BYTES + 1);
    passphrase_file(f, large, path);
    assert_int_equal(load(f, &diag), DBE_E_TOO_LARGE);
    free(large);
}

static int give_password(char *buf, int size, int rwflag, void *u)
{
    (void)rwflag, (void)u;
    return snprintf(buf, (size_t)size, "open sesame");
}

/* What `openssl pkey` does with such a file. */
static void standard_library_opens_it(void **state)
{
    struct kf *f = *state;
    char path[PATH_MAX], text[65536];
    struct dbe_diag diag = {0};

    passphrase_file(f, "open sesame", path);
    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
    assert_int_equal(setenv("DSMIL_PASSPHRASE_FILE", path, 1), 0);
    assert_int_equal(dbe_keys_seal(f->dir, "router-43", &diag), DBE_OK);
    assert_int_equal(load(f, &diag), DBE_OK);
    struct base_buf b = kf_slurp(f, "router-43.key");
    BIO *bio = BIO_new_mem_buf(b.data, (int)b.len);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, give_password, NULL);
    assert_non_null(key);
    assert_int_equal(EVP_PKEY_is_a(key, "ML-DSA-87"), 1);
    EVP_PKEY_free(key);
    BIO_free(bio);
    base_buf_free(&b);
    if (system("command -v openssl >/dev/null 2>&1") != 0)
        return;
    char command[PATH_MAX + 120];
    (void)snprintf(command, sizeof command, "openssl asn1parse -in %s/router-43.key 2>&1", f->dir);
    FILE *pipe = popen(command, "r");
    size_t n = fread(text, 1, sizeof text - 1, pipe);
    text[n] = '\0';
    assert_int_equal(pclose(pipe), 0);
    assert_non_null(strstr(text, "PBES2"));
    assert_non_null(strstr(text, "scrypt"));
    assert_non_null(strstr(text, "aes-256-cbc"));
}

static void standard_tool_reads_the_certificate(void **state)
{
    struct kf *f = *state;
    struct dbe_diag diag = {0};
    char command[PATH_MAX + 80], text[65536];

    if (system("command -v openssl >/dev/null 2>&1") != 0)
        skip();
    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
    (void)snprintf(command, sizeof command, "openssl x509 -in %s/router-43.crt -noout -text 2>&1", f->dir);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = fread(text, 1, sizeof text - 1, pipe);
    text[n] = '\0';
    assert_int_equal(pclose(pipe), 0);
    assert_non_null(strstr(text, "URI:spiffe://mesh.test/l7/router/43"));
    assert_non_null(strstr(text, PROFILE_CEILING_OID ": critical"));
    assert_true(strstr(text, "CN = router-43") != NULL || strstr(text, "CN=router-43") != NULL); /* 3.0, 3.2 */
}

static dbe_err ask_says = DBE_OK;

static dbe_err ask(void *ctx, const char *file, char *buf, size_t cap, size_t *ret_len)
{
    const char *words = ctx;

    assert_true(strlen(words) <= cap && file[0] != '\0');
    if (ask_says != DBE_OK)
        return ask_says;
    memcpy(buf, words, strlen(words));
    *ret_len = strlen(words);
    return DBE_OK;
}

static void callback_gives_the_passphrase(void **state)
{
    struct kf *f = *state;
    char words[] = "from the caller's own vault";
    struct dbe_diag diag = {0};
    struct dbe_seal how = {.kind = DBE_SEAL_PASSPHRASE, .passphrase = ask, .ctx = words};
    struct crypto_key *key = NULL;

    assert_int_equal(dbe_keys_set_seal(&how, &diag), DBE_OK);
    assert_int_equal(dbe_keys_seal(f->dir, "ca", &diag), DBE_OK); /* the CA's as well */
    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
    assert_int_equal(load(f, &diag), DBE_OK);
    ask_says = DBE_E_CANCELLED;
    assert_int_equal(load(f, &diag), DBE_E_CANCELLED);
    ask_says = DBE_OK;
    words[0] = 'F';
    assert_int_equal(load(f, &diag), DBE_E_SEALED);
    words[0] = 'f';
    how.kind = DBE_SEAL_PLAIN; /* and back */
    assert_int_equal(dbe_keys_set_seal(&how, &diag), DBE_OK);
    assert_int_equal(dbe_keys_seal(f->dir, "ca", &diag), DBE_OK);
    assert_int_equal(dbe_keys_set_seal(NULL, &diag), DBE_OK);
    assert_int_equal(keys_read_key(f->dir, "ca", "key", &key, &diag), DBE_OK);
    uint8_t a[CRYPTO_MLDSA87_PK_BYTES], b[CRYPTO_MLDSA87_PK_BYTES];
    assert_int_equal(crypto_key_public(key, a), DBE_OK);
    assert_int_equal(crypto_key_public(f->ca_key, b), DBE_OK);
    assert_memory_equal(a, b, sizeof a);
    crypto_key_free(key);
}

static void wrong_requests_are_refused(void **state)
{
    struct kf *f = *state;
    struct dbe_diag diag = {0};
    char large[PATH_MAX + 1];
    enum dbe_seal_kind kind;

    memset(large, 'x', sizeof large);
    large[PATH_MAX] = '\0';
    assert_int_equal(dbe_keys_set_seal(&(struct dbe_seal){.kind = (enum dbe_seal_kind)4}, &diag), DBE_E_ARGUMENT);
    assert_int_equal(dbe_keys_set_seal(&(struct dbe_seal){.pcrs = 1U << 24}, &diag), DBE_E_ARGUMENT);
    assert_int_equal(dbe_keys_set_seal(&(struct dbe_seal){.passphrase_file = large}, &diag), DBE_E_ARGUMENT);
    assert_int_equal(dbe_keys_set_seal(&(struct dbe_seal){.tpm = large}, &diag), DBE_E_ARGUMENT);
    assert_int_equal(dbe_keys_seal(f->dir, "nobody", &diag), DBE_E_NOT_FOUND);
    assert_int_equal(dbe_keys_seal_kind(f->dir, "nobody", &kind, &diag), DBE_E_NOT_FOUND);
    static const char *const damaged[] = {
        "", "junk", "-----BEGIN PRIVATE KEY-----\njunk", "-----BEGIN ENCRYPTED PRIVATE KEY-----\njunk",
        "-----BEGIN DSMIL TPM SEALED KEY-----\nAAAA\n-----END DSMIL TPM SEALED KEY-----\n",
        "-----BEGIN DSMIL TPM SEALED KEY-----\njunk",
    };
    char path[PATH_MAX];
    passphrase_file(f, "x", path);
    assert_int_equal(setenv("DSMIL_PASSPHRASE_FILE", path, 1), 0);
    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
    for (size_t i = 0; i < BASE_ARRAY_LEN(damaged); i++) {
        kf_write(f, "router-43.key", damaged[i], strlen(damaged[i]));
        if (load(f, &diag) != DBE_E_CONFIG)
            fail_msg("row %zu: %s", i, diag.text);
        assert_non_null(strstr(diag.text, "router-43.key"));
    }
}

/* The n-th allocation or random draw fails: an error, the old file, no leak. */
static void every_failure_leaves_the_key_as_it_was(void **state)
{
    struct kf *f = *state;
    char words[] = "x";
    struct dbe_diag diag = {0};
    struct dbe_seal how = {.kind = DBE_SEAL_PASSPHRASE, .passphrase = ask, .ctx = words};

    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
    assert_int_equal(dbe_keys_set_seal(&how, &diag), DBE_OK);
    for (int kind = 0; kind < 2; kind++) {
        dbe_err err = DBE_E_NOMEM;
        for (uint64_t n = 1; err != DBE_OK && n < 100; n++) {
            struct base_buf before = kf_slurp(f, "router-43.key");
            (kind == 0 ? base_fail_alloc_at : base_fail_random_at)(n);
            err = dbe_keys_seal(f->dir, "router-43", &diag);
            base_fail_alloc_at(0);
            base_fail_random_at(0);
            struct base_buf after = kf_slurp(f, "router-43.key");
            if (err != DBE_OK) {
                assert_int_equal(before.len, after.len);
                assert_memory_equal(before.data, after.data, after.len);
            }
            base_buf_free(&before);
            base_buf_free(&after);
        }
        assert_int_equal(err, DBE_OK);
        assert_int_equal(load(f, &diag), DBE_OK);
    }
}

/* ---- TPM --------------------------------------------------------------------------------------------------------- */

static void tpm_file_is_read_strictly(void **state)
{
    struct base_buf b;
    struct seal_tpm_file f;
    (void)state;

    base_buf_init(&b, 4096);
    base_buf_u8(&b, 1);
    base_buf_u32(&b, 0x81);
    base_buf_u16(&b, 3);
    base_buf_bytes(&b, "pub", 3);
    base_buf_u16(&b, 4);
    base_buf_bytes(&b, "priv", 4);
    base_buf_bytes(&b, "iviviviviviv", 12);
    base_buf_u32(&b, 17);
    base_buf_bytes(&b, "0123456789abcdefg", 17);
    assert_int_equal(seal_tpm_parse(b.data, b.len, &f), DBE_OK);
    assert_int_equal(f.pcrs, 0x81);
    assert_int_equal(f.pub_len, 3);
    assert_memory_equal(f.priv, "priv", 4);
    assert_int_equal(f.aad_len, 5 + 5 + 6);
    assert_int_equal(f.sealed_len, 17);
    for (size_t cut = 0; cut < b.len; cut++)
        assert_int_equal(seal_tpm_parse(b.data, cut, &f), DBE_E_MALFORMED);
    static const size_t at[] = {0, 1, 6, 11, 31}; /* version, a register 31, three lengths */
    for (size_t i = 0; i < BASE_ARRAY_LEN(at); i++) {
        b.data[at[i]] ^= 0x80;
        assert_int_equal(seal_tpm_parse(b.data, b.len, &f), DBE_E_MALFORMED);
        b.data[at[i]] ^= 0x80;
    }
    base_buf_u8(&b, 0);
    assert_int_equal(seal_tpm_parse(b.data, b.len, &f), DBE_E_MALFORMED);
    base_buf_free(&b);
}

static void tpm_seals_and_opens(void **state)
{
    struct kf *f = *state;
    struct tf t, other;
    struct dbe_diag diag = {0};

    if (!tf_up(&t))
        skip();
    assert_int_equal(setenv("DSMIL_TPM", t.tcti, 1), 0);
    if (dbe_keys_issue(f->dir, &kf_router, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    assert_true(begins(f, "router-43.key", "-----BEGIN DSMIL TPM SEALED KEY-----\n"));
    if (load(f, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    tf_extend(&t, 7);
    assert_int_equal(load(f, &diag), DBE_OK); /* no policy was asked for */

    struct base_buf key = kf_slurp(f, "router-43.key"); /* the TPM's part is whole, the rest was changed */
    struct base_buf bytes;
    struct seal_tpm_file file;
    base_buf_init(&bytes, SEAL_TEXT_MAX_BYTES);
    assert_int_equal(seal_tpm_read(key.data, key.len, &bytes, &file), DBE_OK);
    bytes.data[bytes.len - 40] ^= 1;
    base_buf_clear(&key);
    armour_put(&key, "DSMIL TPM SEALED KEY", bytes.data, bytes.len);
    struct base_buf good = kf_slurp(f, "router-43.key");
    kf_write(f, "router-43.key", key.data, key.len);
    assert_int_equal(load(f, &diag), DBE_E_CONFIG);
    kf_write(f, "router-43.key", good.data, good.len);
    base_buf_free(&key);
    base_buf_free(&good);
    base_buf_free(&bytes);

    assert_true(tf_up(&other)); /* another machine */
    assert_int_equal(setenv("DSMIL_TPM", other.tcti, 1), 0);
    assert_int_equal(load(f, &diag), DBE_E_SEALED);
    assert_non_null(strstr(diag.text, "another machine"));
    tf_down(&other);
    assert_int_equal(load(f, &diag), DBE_E_TPM); /* and none at all */
    assert_non_null(strstr(diag.text, "router-43.key"));
    assert_int_equal(setenv("DSMIL_TPM", t.tcti, 1), 0);
    assert_int_equal(load(f, &diag), DBE_OK);
    tf_stop(&t);
    assert_int_equal(load(f, &diag), DBE_E_TPM);
    assert_true(tf_start(&t)); /* a restart: the same TPM */
    if (load(f, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    tf_down(&t);
}

static void tpm_policy_of_registers(void **state)
{
    struct kf *f = *state;
    struct tf t;
    struct dbe_diag diag = {0};

    if (!tf_up(&t))
        skip();
    struct dbe_seal how = {.kind = DBE_SEAL_TPM, .tpm = t.tcti, .pcrs = 1U << 0 | 1U << 7 | 1U << 10};
    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
    assert_int_equal(dbe_keys_set_seal(&how, &diag), DBE_OK);
    assert_int_equal(dbe_keys_seal(f->dir, "router-43", &diag), DBE_OK);
    assert_int_equal(load(f, &diag), DBE_OK);
    tf_extend(&t, 9);
    assert_int_equal(load(f, &diag), DBE_OK); /* not in the policy */
    how = (struct dbe_seal){.tpm = t.tcti};   /* a renewed key gets the policy of the old one */
    assert_int_equal(dbe_keys_set_seal(&how, &diag), DBE_OK);
    assert_int_equal(dbe_keys_renew(f->dir, "router-43", NULL, &diag), DBE_OK);
    assert_int_equal(load(f, &diag), DBE_OK);
    tf_extend(&t, 7);
    assert_int_equal(load(f, &diag), DBE_E_SEALED);
    assert_non_null(strstr(diag.text, "PCR"));
    tf_down(&t);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(armour_has_one_spelling),
        T(passphrase_seals_and_opens),
        T(standard_library_opens_it),
        T(standard_tool_reads_the_certificate),
        T(callback_gives_the_passphrase),
        T(wrong_requests_are_refused),
        T(every_failure_leaves_the_key_as_it_was),
        cmocka_unit_test(tpm_file_is_read_strictly),
        T(tpm_seals_and_opens),
        T(tpm_policy_of_registers),
    };
    return cmocka_run_group_tests_name("seal", tests, NULL, NULL);
}
