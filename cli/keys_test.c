/* SPDX-License-Identifier: Apache-2.0
 *
 * keys_test.c - `dsmil keys` as people and programs meet it: exit codes, what stands on disk, JSON that parses.
 */
#include <stddef.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

enum { ARGS_MAX = 16 };

struct fixture {
    char dir[64], out[96];
    int saved_out, saved_err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/dsmil-keys-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->out, sizeof f->out, "%s/out", f->dir);
    assert_int_equal(setenv("DSMIL_STATE", f->dir, 1), 0);
    assert_int_equal(unsetenv("DSMIL_KEYS"), 0);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    free(f);
    return 0;
}

/* Run `dsmil keys ...`; what it prints on either stream lands in f->out. */
static int run(struct fixture *f, const char *line)
{
    char words[512], *argv[ARGS_MAX] = {(char[]){"keys"}}, *save = NULL;
    int argc = 1;

    (void)snprintf(words, sizeof words, "%s", line);
    for (char *w = strtok_r(words, " ", &save); w != NULL && argc < ARGS_MAX; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    (void)fflush(NULL);
    f->saved_out = dup(STDOUT_FILENO);
    f->saved_err = dup(STDERR_FILENO);
    FILE *to = fopen(f->out, "we");
    assert_non_null(to);
    (void)dup2(fileno(to), STDOUT_FILENO);
    (void)dup2(fileno(to), STDERR_FILENO);
    int rc = cli_keys(argc, argv);
    (void)fflush(NULL);
    (void)dup2(f->saved_out, STDOUT_FILENO);
    (void)dup2(f->saved_err, STDERR_FILENO);
    (void)close(f->saved_out);
    (void)close(f->saved_err);
    (void)fclose(to);
    return rc;
}

static bool printed(const struct fixture *f, const char *words)
{
    struct base_buf b;

    base_buf_init(&b, 65536);
    assert_int_equal(base_file_read(f->out, 65535, &b, NULL), DBE_OK);
    bool there = strstr(base_buf_cstr(&b), words) != NULL;
    base_buf_free(&b);
    return there;
}

static void from_nothing_to_a_mesh(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(run(f, "list"), CLI_NOT_UP);
    assert_true(printed(f, "run dsmil keys init"));
    assert_int_equal(run(f, "init --mesh cli.test --days=30"), CLI_OK);
    assert_true(printed(f, "cli.test"));
    assert_int_equal(run(f, "init"), CLI_FAILED);
    assert_true(printed(f, "never overwritten"));
    assert_int_equal(run(f, "list"), CLI_OK);
    assert_true(printed(f, "no nodes yet"));
    assert_int_equal(run(f, "issue --device 43 --role router"), CLI_OK);
    assert_true(printed(f, "spiffe://cli.test/l7/router/43"));
    assert_int_equal(run(f, "issue --device 47 --role worker --name w --classification TS --compartments SOC,LAB"),
                     CLI_OK);
    assert_true(printed(f, "TS, SOC,LAB"));
    assert_int_equal(run(f, "issue --device 43 --role router"), CLI_FAILED);
    assert_int_equal(run(f, "list"), CLI_OK);
    assert_true(printed(f, "router-43"));
    assert_int_equal(run(f, "show w"), CLI_OK);
    assert_int_equal(run(f, "show nobody"), CLI_NOT_UP);
}

static void wrong_words_are_explained(void **state)
{
    struct fixture *f = *state;
    static const char *const wrong[] = {
        "",
        "frobnicate",
        "list --bogus",
        "show",
        "issue",
        "issue --device 43",
        "issue --device 43 --role pilot",
        "issue --device 104 --role router",
        "issue --device 4x --role router",
        "issue --device -1 --role router",
        "issue --device 52 --role router",
        "issue --device 43 --role router --classification COSMIC",
        "issue --device 43 --role router --compartments SOC,NOPE",
        "issue --device 43 --role router --compartments SOC,,DEV",
        "issue --device 43 --role router --days 99999999",
        "issue --device 43 --role router --name ../../x",
        "init --mesh Not_A_Mesh!",
        "renew",
        "renew ca",
        "revoke",
        "revoke ca",
        "revoke 12 --reason whim",
        "renew x --reason whim",
        "verify",
        "verify a b",
        "seal",
        "seal ca",
        "seal ca --pcrs 7",
        "seal ca --tpm --pcrs 24",
        "seal ca --tpm --pcrs 7,",
        "seal ca --tpm --pcrs ,7",
        "seal ca --tpm --pcrs -1",
        "seal ca --tpm --pcrs=",
        "bundle",
        "bundle carry x",
        "bundle export",
        "bundle import x --fingerprint 12",
    };

    assert_int_equal(run(f, "init"), CLI_OK);
    for (size_t i = 0; i < BASE_ARRAY_LEN(wrong); i++)
        if (run(f, wrong[i]) != CLI_USAGE)
            fail_msg("dsmil keys %s", wrong[i]);
    assert_int_equal(run(f, "issue --device 43 --role router --compartments SOC,KINETIC"), CLI_FAILED);
    assert_true(printed(f, "KINETIC"));
    assert_int_equal(run(f, "list"), CLI_OK);
    assert_true(printed(f, "no nodes yet")); /* none of these left anything behind */
    assert_int_equal(run(f, "--help"), CLI_OK);
    assert_true(printed(f, "usage: dsmil keys"));
}

static void programs_read_json(void **state)
{
    struct fixture *f = *state;
    json_error_t error;
    const char *mesh = NULL, *name = NULL, *state_text = NULL;
    int device = -1;

    assert_int_equal(run(f, "init"), CLI_OK);
    assert_int_equal(run(f, "issue --device 0 --role shim"), CLI_OK);
    assert_int_equal(run(f, "list --json"), CLI_OK);
    json_t *list = json_load_file(f->out, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(list);
    assert_int_equal(json_unpack(list, "{s:s s:[{s:s s:i s:s}]}", "mesh", &mesh, "nodes", "name", &name, "device",
                                 &device, "state", &state_text),
                     0);
    assert_string_equal(mesh, "dsmil.local");
    assert_string_equal(name, "shim-0");
    assert_string_equal(state_text, "ok");
    assert_int_equal(device, 0);
    json_decref(list);
    assert_int_equal(run(f, "show shim-0 --json"), CLI_OK);
    json_t *one = json_load_file(f->out, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(one);
    assert_string_equal(json_string_value(json_object_get(one, "spiffe_id")), "spiffe://dsmil.local/l7/shim/0");
    assert_int_equal(json_integer_value(json_object_get(one, "layer")), 7);
    json_decref(one);
}

static void identities_end_and_begin_again(void **state)
{
    struct fixture *f = *state;
    json_error_t error;
    char line[160];

    assert_int_equal(run(f, "init --mesh cli.test"), CLI_OK);
    assert_int_equal(run(f, "issue --device 43 --role router"), CLI_OK);
    assert_int_equal(run(f, "verify router-43"), CLI_OK);
    assert_true(printed(f, "spiffe://cli.test/l7/router/43"));
    assert_int_equal(run(f, "revoke router-43 --reason key-compromise"), CLI_OK);
    assert_true(printed(f, "key-compromise"));
    assert_int_equal(run(f, "revoke router-43"), CLI_FAILED);
    assert_int_equal(run(f, "verify router-43"), CLI_FAILED);
    assert_true(printed(f, "E_REVOKED"));
    assert_int_equal(run(f, "list"), CLI_FAILED);
    assert_true(printed(f, "E_REVOKED"));
    assert_true(printed(f, "1 revoked"));
    assert_int_equal(run(f, "renew router-43 --days 5"), CLI_OK);
    assert_int_equal(run(f, "list --json"), CLI_OK);
    json_t *list = json_load_file(f->out, JSON_REJECT_DUPLICATES, &error);
    assert_int_equal(json_integer_value(json_object_get(list, "revocation_list")), 1);
    assert_int_equal(json_integer_value(json_object_get(list, "revoked")), 1);
    json_decref(list);
    assert_int_equal(run(f, "renew router-43 --revoke"), CLI_OK);
    assert_true(printed(f, "on the revocation list"));
    assert_int_equal(run(f, "list"), CLI_OK);
    assert_true(printed(f, "2 revoked"));
    (void)snprintf(line, sizeof line, "verify %s/keys/router-43.crt --json", f->dir);
    assert_int_equal(run(f, line), CLI_OK);
    json_t *one = json_load_file(f->out, JSON_REJECT_DUPLICATES, &error);
    assert_int_equal(json_integer_value(json_object_get(one, "device")), 43);
    json_decref(one);
    (void)snprintf(line, sizeof line, "verify %s/keys/nothing.crt", f->dir);
    assert_int_equal(run(f, line), CLI_NOT_UP);
    assert_int_equal(run(f, "revoke nobody"), CLI_NOT_UP);
    assert_int_equal(run(f, "renew nobody"), CLI_NOT_UP);
    assert_int_equal(run(f, "revoke 4f:a0:01"), CLI_OK);
    assert_int_equal(run(f, "list"), CLI_OK);
    assert_true(printed(f, "3 revoked"));
}

static void keys_are_sealed(void **state)
{
    struct fixture *f = *state;
    char pass[96], line[256];

    (void)snprintf(pass, sizeof pass, "%s/pass", f->dir);
    assert_int_equal(base_file_write(pass, "words\n", 6, 0600, NULL), DBE_OK);
    (void)snprintf(line, sizeof line, "init --passphrase-file %s", pass);
    assert_int_equal(run(f, line), CLI_OK);
    assert_int_equal(run(f, "issue --device 43 --role router"), CLI_USAGE);
    assert_true(printed(f, "E_SEALED"));
    assert_true(printed(f, "DSMIL_PASSPHRASE_FILE"));
    (void)snprintf(line, sizeof line, "issue --device 43 --role router --plain --passphrase-file %s", pass);
    assert_int_equal(run(f, line), CLI_OK);
    assert_int_equal(run(f, "show router-43"), CLI_OK); /* needs no passphrase */
    (void)snprintf(line, sizeof line, "seal router-43 --passphrase-file %s", pass);
    assert_int_equal(run(f, line), CLI_OK);
    assert_true(printed(f, "under a passphrase"));
    assert_int_equal(run(f, "show router-43"), CLI_USAGE);
    assert_int_equal(setenv("DSMIL_PASSPHRASE_FILE", pass, 1), 0);
    assert_int_equal(run(f, "show router-43"), CLI_OK);
    assert_int_equal(run(f, "seal router-43 --plain"), CLI_OK);
    assert_true(printed(f, "plain"));
    assert_int_equal(run(f, "seal nobody"), CLI_NOT_UP);
    assert_int_equal(unsetenv("DSMIL_PASSPHRASE_FILE"), 0);
    assert_int_equal(run(f, "show router-43"), CLI_OK);
}

static void mesh_travels(void **state)
{
    struct fixture *f = *state;
    char line[400], print[129];
    struct base_buf b;

    assert_int_equal(run(f, "init --mesh cli.test"), CLI_OK);
    assert_int_equal(run(f, "issue --device 43 --role router"), CLI_OK);
    (void)snprintf(line, sizeof line, "bundle export %s/mesh.bundle", f->dir);
    assert_int_equal(run(f, line), CLI_OK);
    assert_true(printed(f, "1 certificates"));
    base_buf_init(&b, 65536);
    assert_int_equal(base_file_read(f->out, 65535, &b, NULL), DBE_OK);
    const char *at = strstr(base_buf_cstr(&b), "--fingerprint ");
    assert_non_null(at);
    (void)snprintf(print, sizeof print, "%s", at + strlen("--fingerprint "));
    base_buf_free(&b);
    (void)snprintf(line, sizeof line, "bundle import %s/mesh.bundle --dir %s/far", f->dir, f->dir);
    assert_int_equal(run(f, line), CLI_NOT_UP);
    (void)snprintf(line, sizeof line, "bundle import %s/mesh.bundle --dir %s/far --fingerprint %s", f->dir, f->dir,
                   print);
    assert_int_equal(run(f, line), CLI_OK);
    assert_true(printed(f, "2 of these are new"));
    assert_int_equal(run(f, line), CLI_OK);
    assert_true(printed(f, "0 of these are new"));
    (void)snprintf(line, sizeof line, "list --dir %s/far", f->dir); /* keys elsewhere are no fault */
    assert_int_equal(run(f, line), CLI_OK);
    (void)snprintf(line, sizeof line, "bundle export %s/far/x --dir %s/far", f->dir, f->dir);
    assert_int_equal(run(f, line), CLI_NOT_UP); /* no CA key there */
    assert_true(printed(f, "ca.key"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(from_nothing_to_a_mesh),         T(wrong_words_are_explained), T(programs_read_json),
        T(identities_end_and_begin_again), T(keys_are_sealed),           T(mesh_travels),
    };
    return cmocka_run_group_tests_name("cli-keys", tests, NULL, NULL);
}
