/* SPDX-License-Identifier: Apache-2.0
 *
 * file_test.c - whole files in a folder of our own: bounds, modes, atomic replacement, what the diagnostic says.
 */
#include "base/test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

static char dir[64];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/dsmil-file-XXXXXX");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static const char *in_dir(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static int teardown(void **state)
{
    static const char *names[] = {"f", "fifo", "a/b/c", "a/b", "a", ""};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(names); i++)
        (void)remove(in_dir(names[i]));
    return access(dir, F_OK) == 0 ? -1 : 0; /* nothing else may have been left behind */
}

static size_t entries(void)
{
    DIR *d = opendir(dir);
    size_t n = 0;

    while (d != NULL && readdir(d) != NULL)
        n++;
    closedir(d);
    return n - 2;
}

static void a_file_goes_there_and_back(void **state)
{
    struct base_buf b = {0};
    struct dbe_diag diag;
    struct stat st;

    (void)state;
    assert_int_equal(base_file_write(in_dir("f"), "hello", 5, 0640, &diag), DBE_OK);
    assert_int_equal(base_file_replace(in_dir("f"), "worlds", 6, 0600, &diag), DBE_OK);
    assert_int_equal(base_file_write(in_dir("f"), "world!", 6, 0600, &diag), DBE_OK); /* replaces */
    assert_int_equal(stat(in_dir("f"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(entries(), 1); /* no temporary file stays */
    assert_int_equal(base_file_read(in_dir("f"), 6, &b, &diag), DBE_OK);
    assert_string_equal(base_buf_cstr(&b), "world!");
    assert_int_equal(base_file_read_private(in_dir("f"), 6, &b, &diag),
                     DBE_E_TOO_LARGE); /* b takes six bytes, and is full */
    assert_int_equal(b.len, 6);
    base_buf_free(&b);
}

static void a_large_file_is_refused(void **state)
{
    struct base_buf b = {0}, fixed;
    struct dbe_diag diag;
    char mem[4];

    (void)state;
    assert_int_equal(base_file_write(in_dir("f"), "12345", 5, 0600, NULL), DBE_OK);
    assert_int_equal(base_file_read(in_dir("f"), 4, &b, &diag), DBE_E_TOO_LARGE);
    assert_non_null(strstr(diag.text, in_dir("f")));
    assert_null(b.data);
    base_buf_init_fixed(&fixed, mem, sizeof mem);
    assert_int_equal(base_file_read(in_dir("f"), 100, &fixed, &diag), DBE_E_TOO_LARGE);
    assert_int_equal(fixed.len, 0);
    assert_int_equal(base_file_write(in_dir("f"), "1234", 4, 0600, NULL), DBE_OK);
    assert_int_equal(base_file_read(in_dir("f"), 100, &fixed, &diag), DBE_OK);
    assert_memory_equal(mem, "1234", 4);
}

static void private_files_are_private(void **state)
{
    struct base_buf b = {0};
    struct dbe_diag diag;

    (void)state;
    assert_int_equal(base_file_write(in_dir("f"), "key", 3, 0640, NULL), DBE_OK);
    assert_int_equal(base_file_read_private(in_dir("f"), 9, &b, &diag), DBE_E_PERMISSION);
    assert_non_null(strstr(diag.text, "chmod 600"));
    assert_int_equal(chmod(in_dir("f"), 0600), 0);
    assert_int_equal(base_file_read_private(in_dir("f"), 9, &b, &diag), DBE_OK);
    base_buf_free(&b);
}

static void what_is_no_file_is_refused(void **state)
{
    struct base_buf b = {0};
    struct dbe_diag diag;

    (void)state;
    assert_int_equal(base_file_read(in_dir("absent"), 9, &b, &diag), DBE_E_NOT_FOUND);
    assert_int_equal(base_file_read(dir, 9, &b, &diag), DBE_E_IO);
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    assert_int_equal(base_file_read(in_dir("fifo"), 9, &b, &diag), DBE_E_IO); /* and does not wait for a writer */
    assert_int_equal(base_file_write(in_dir("absent/f"), "x", 1, 0600, &diag), DBE_E_NOT_FOUND);
}

static void every_failed_allocation_is_reported(void **state)
{
    struct base_buf b = {0};
    uint64_t nth = 0;
    dbe_err err;

    (void)state;
    assert_int_equal(base_file_write(in_dir("f"), "12345", 5, 0600, NULL), DBE_OK);
    do {
        base_fail_alloc_at(++nth);
        err = base_file_read(in_dir("f"), 100000, &b, NULL);
        base_fail_alloc_at(0);
        assert_true(err == DBE_OK || (err == DBE_E_NOMEM && b.data == NULL));
    } while (err != DBE_OK);
    assert_true(nth > 1);
    base_buf_free(&b);
}

static void directories_are_made(void **state)
{
    struct dbe_diag diag;
    struct stat st;

    (void)state;
    assert_int_equal(base_mkdirs(in_dir("a/b/c"), 0700, &diag), DBE_OK);
    assert_int_equal(base_mkdirs(in_dir("a/b/c"), 0700, &diag), DBE_OK);
    assert_int_equal(stat(in_dir("a/b"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(base_file_write(in_dir("f"), "x", 1, 0600, NULL), DBE_OK);
    assert_int_equal(base_mkdirs(in_dir("f/x"), 0700, &diag), DBE_E_IO);
    assert_int_equal(base_mkdirs("", 0700, &diag), DBE_E_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_goes_there_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_file_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(private_files_are_private, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(every_failed_allocation_is_reported, setup, teardown),
        cmocka_unit_test_setup_teardown(directories_are_made, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
