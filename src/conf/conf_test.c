/* SPDX-License-Identifier: Apache-2.0
 *
 * conf_test.c - configuration files: what is taken, and for everything else the place and the words.
 */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/conf.h"

/* ---- a schema with every kind -------------------------------------------------------------------- */

struct limit {
    struct conf_rate requests;
    uint64_t kv_bytes;
};

struct tenant {
    char name[9];
    struct limit limit;
    uint8_t level;
};

struct config {
    bool debug;
    uint16_t port;
    double share;
    uint64_t timeout_ms, cache_bytes;
    char title[12];
    uint32_t mask;
    struct limit defaults;
    struct tenant tenants[2];
    size_t tenant_count;
    uint8_t devices[3];
    size_t device_count;
};

static bool level_names(const char *name, uint64_t *ret)
{
    static const char *const names[] = {"LOW", "HIGH"};

    for (size_t i = 0; i < BASE_ARRAY_LEN(names); i++)
        if (strcmp(names[i], name) == 0) {
            *ret = i + 1;
            return true;
        }
    return false;
}

static const struct conf_key limit_keys[] = {
    {"requests", CONF_RATE, .required = true, CONF_FIELD(struct limit, requests), .min = 1, .max = 1000,
     .window_max_ms = UINT64_C(744) * 3600 * 1000},
    {"kv", CONF_BYTES, CONF_FIELD(struct limit, kv_bytes), .max = 1 << 30},
    {.kind = CONF_END},
};
static const struct conf_key tenant_keys[] = {
    {"limit", CONF_SUB, .required = true, .offset = offsetof(struct tenant, limit), .sub = limit_keys},
    {"level", CONF_NAME, CONF_FIELD(struct tenant, level), .names = level_names, .expected = "LOW or HIGH"},
    {.kind = CONF_END},
};
static const struct conf_items tenant_items = {tenant_keys,
                                               sizeof(struct tenant),
                                               2,
                                               offsetof(struct config, tenant_count),
                                               offsetof(struct tenant, name),
                                               sizeof(((struct tenant *)0)->name)};
static const struct conf_key device_keys[] = {{"", CONF_UINT, .size = 1, .max = 103}, {.kind = CONF_END}};
static const struct conf_items device_items = {
    .item = device_keys, .item_size = 1, .max = 3, .count_offset = offsetof(struct config, device_count)};
static const struct conf_key keys[] = {
    {"debug", CONF_BOOL, CONF_FIELD(struct config, debug)},
    {"port", CONF_UINT, CONF_FIELD(struct config, port), .min = 1},
    {"share", CONF_REAL, CONF_FIELD(struct config, share), .real_max = 1},
    {"timeout", CONF_DURATION, CONF_FIELD(struct config, timeout_ms), .min = 100, .max = 3600000},
    {"cache", CONF_BYTES, CONF_FIELD(struct config, cache_bytes)},
    {"title", CONF_TEXT, CONF_FIELD(struct config, title), .min = 1},
    {"mask", CONF_FLAGS, CONF_FIELD(struct config, mask), .names = level_names, .expected = "a list of LOW, HIGH"},
    {"defaults", CONF_SUB, .offset = offsetof(struct config, defaults), .sub = limit_keys},
    {"tenants", CONF_NAMED, .offset = offsetof(struct config, tenants), .items = &tenant_items},
    {"list", CONF_ITEMS, .min = 1, .offset = offsetof(struct config, devices), .items = &device_items},
    {"devices", CONF_ITEMS, .offset = offsetof(struct config, devices), .items = &device_items},
    {.kind = CONF_END},
};

static dbe_err take_len(const char *text, size_t len, struct config *cfg, struct dbe_diag *diag)
{
    struct conf_doc *doc = NULL;
    dbe_err err = conf_parse("x.yaml", text, len, &doc, diag);

    if (err == DBE_OK)
        err = conf_bind(doc, conf_root(doc), keys, cfg, diag);
    conf_free(doc);
    return err;
}

static dbe_err take(const char *text, struct config *cfg, struct dbe_diag *diag)
{
    return take_len(text, strlen(text), cfg, diag);
}

/* ---- what is taken --------------------------------------------------------------------------------- */

static void every_kind_lands_in_its_field(void **state)
{
    static const char text[] = "debug: true   # a comment\n"
                               "port: 8001\n"
                               "share: 0.25\n"
                               "timeout: 2 s\n"
                               "cache: 16MiB\n"
                               "title: \"12 # kept\"\n"
                               "mask: [LOW, HIGH]\n"
                               "defaults: {requests: 5/s}\n"
                               "tenants:\n"
                               "  ALPHA:\n"
                               "    limit:\n"
                               "      requests: 100/min\n"
                               "      kv: 64KiB\n"
                               "    level: HIGH\n"
                               "  BRAVO: {limit: {requests: 5/5min}}\n"
                               "devices:\n"
                               "  - 43\n"
                               "  - 0\n";
    struct config cfg = {0};
    struct dbe_diag diag = {0};

    (void)state;
    assert_int_equal(take(text, &cfg, &diag), DBE_OK);
    assert_true(cfg.debug);
    assert_int_equal(cfg.port, 8001);
    assert_true(cfg.share == 0.25);
    assert_int_equal(cfg.timeout_ms, 2000);
    assert_int_equal(cfg.cache_bytes, 16 << 20);
    assert_string_equal(cfg.title, "12 # kept");
    assert_int_equal(cfg.mask, 3);
    assert_int_equal(cfg.defaults.requests.count, 5);
    assert_int_equal(cfg.defaults.requests.window_ms, 1000);
    assert_int_equal(cfg.tenant_count, 2);
    assert_string_equal(cfg.tenants[0].name, "ALPHA");
    assert_int_equal(cfg.tenants[0].limit.requests.window_ms, 60000);
    assert_int_equal(cfg.tenants[0].limit.kv_bytes, 65536);
    assert_int_equal(cfg.tenants[0].level, 2);
    assert_string_equal(cfg.tenants[1].name, "BRAVO");
    assert_int_equal(cfg.tenants[1].limit.requests.window_ms, 300000);
    assert_int_equal(cfg.device_count, 2);
    assert_int_equal(cfg.devices[0], 43);
    assert_int_equal(cfg.devices[1], 0);
}

static void absent_keys_leave_defaults(void **state)
{
    struct config cfg = {.port = 7, .title = "default"};

    (void)state;
    assert_int_equal(take("share: 1\n", &cfg, NULL), DBE_OK);
    assert_int_equal(cfg.port, 7);
    assert_string_equal(cfg.title, "default");
    assert_int_equal(take("{}", &cfg, NULL), DBE_OK);
}

/* ---- what is refused, with its place ------------------------------------------------------------------ */

static const struct {
    const char *text, *said;
} refusals[] = {
    {"prot: 1\n", "x.yaml:1:1: unknown key \"prot\"; expected one of: debug, port, share"},
    {"port: 1\n\nport: 2\n", "x.yaml:3:1: key \"port\" a second time; it stands in line 1 already"},
    {"port: 0\n", "x.yaml:1:7: port is 0; expected 1 to 65535"},
    {"port: 65536\n", "x.yaml:1:7: port is 65536; expected 1 to 65535"},
    {"port: -1\n", "port is \"-1\"; expected a whole number"},
    {"port: 010\n", "port is \"010\"; expected a whole number"},
    {"port: 0x10\n", "expected a whole number"},
    {"port: 1.5\n", "expected a whole number"},
    {"port: 99999999999999999999999\n", "expected a whole number"},
    {"port: \"80\"\n", "port is \"80\" in quotes; expected a whole number"},
    {"debug: yes\n", "x.yaml:1:8: debug is \"yes\"; expected true or false"},
    {"timeout: 30\n", "x.yaml:1:10: timeout is \"30\"; expected a duration such as 250ms, 2s, 5min or 1h"},
    {"timeout: 30m\n", "expected a duration"},
    {"timeout: 30KiB\n", "expected a duration"},
    {"timeout: 2h\n", "timeout is 2h; expected 100ms to 1h"},
    {"timeout: 99999999999999999999h\n", "expected a duration"},
    {"timeout: 18446744073709551615h\n", "expected a duration"},
    {"cache: 16MB\n", "cache is \"16MB\"; expected a size such as 512B, 64KiB, 16MiB or 1GiB"},
    {"cache: 2s\n", "expected a size"},
    {"share: 1.01\n", "share is 1.01; expected 0 to 1"},
    {"share: nan\n", "share is \"nan\"; expected a number"},
    {"share: 0x1\n", "expected a number"},
    {"share: 1e999\n", "expected a number"},
    {"title: \"\"\n", "title has 0 bytes; expected 1 to 11"},
    {"title: thirteen is too long\n", "title has 20 bytes; expected 1 to 11"},
    {"title: \"a\\tb\"\n", "title holds a control character"},
    {"title: [a]\n", "x.yaml:1:8: title is a list; expected text"},
    {"title:\n", "no value; expected one"},
    {"list: []\n", "x.yaml:1:7: list is empty; expected "},
    {"mask: LOW\n", "mask is \"LOW\"; expected a list of LOW, HIGH"},
    {"mask:\n  - LOW\n  - MIDDLE\n", "x.yaml:3:5: mask is \"MIDDLE\"; expected a list of LOW, HIGH"},
    {"defaults: {}\n", "x.yaml:1:11: key \"requests\" is missing: a rate such as 5/s, 100/min or 5/5min"},
    {"defaults: {requests: 100}\n", "requests is \"100\"; expected a rate"},
    {"defaults: {requests: 100/0s}\n", "expected a rate"},
    {"defaults: {requests: 100/KiB}\n", "expected a rate"},
    {"defaults: {requests: 1001/min}\n", "requests is 1001/min; expected 1 to 1000"},
    {"defaults: {requests: 5/745h}\n", "requests is 5/745h; expected a window of at most 744h"},
    {"defaults: {requests: 5/18446744073709551615ms}\n", "expected a window of at most 744h"},
    {"defaults: 3\n", "x.yaml:1:11: expected a map of keys and values"},
    {"tenants: [A]\n", "tenants is a list; expected a map of names"},
    {"tenants: {TOOLONGNAME: {limit: {requests: 1/s}}}\n", "the name has 11 bytes; expected 1 to 8"},
    {"tenants:\n  A: {limit: {requests: 1/s}, lvel: LOW}\n", "x.yaml:2:31: unknown key \"lvel\"; expected one of: "
                                                             "limit, level"},
    {"tenants: {A: {limit: {requests: 1/s}, level: MID}}\n", "level is \"MID\"; expected LOW or HIGH"},
    {"tenants: {A: {limit: {requests: 1/s}}, B: {limit: {requests: 1/s}}, C: {limit: {requests: 1/s}}}\n",
     "tenants has 3 entries; expected at most 2"},
    {"devices: [104]\n", "is 104; expected 0 to 103"},
    {"devices: [1, 2, 3, 4]\n", "devices has 4 entries; expected at most 3"},
    /* not this kind of YAML */
    {"", "x.yaml:1:1: expected a map of keys and values; there is nothing"},
    {"- 1\n", "x.yaml:1:1: expected a map of keys and values"},
    {"just text\n", "x.yaml:1:1: expected a map"},
    {"port: &a 1\n", "x.yaml:1:7: an anchor (&name) is not taken here"},
    {"port: *a\n", "x.yaml:1:7: an alias (*name) is not taken here"},
    {"? &k port\n: 1\n", "an anchor"},
    {"port: !!int 1\n", "x.yaml:1:7: a tag (!name) is not taken here"},
    {"!x {}\n", "a tag"},
    {"%YAML 1.1\n---\nport: 1\n", "a directive"},
    {"%TAG ! tag:x,2000:\n---\nport: 1\n", "a directive"},
    {"port: 1\n---\nport: 2\n", "the end of the file; one document is taken"},
    {"[a]: 1\n", "a key must be a word"},
    {"? {a: b}\n: 1\n", "a key must be a word"},
    {"port: 1\n debug: true\n", "x.yaml:2:7: this is not YAML: "},
    {"port: [1\n", "this is not YAML"},
    {"port: \"1\n", "this is not YAML"},
    {"\tport: 1\n", "this is not YAML"},
    {"<<: {port: 1}\n", "unknown key \"<<\""},
    {"title: \"a\\0b\"\n", "not UTF-8 text without NUL"},
    {"title: \xff\n", "x.yaml: byte 7: "},
    {"\xff\xfep\0o\0", "x.yaml: byte 0: "},
};

static void refusals_say_where_and_what(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(refusals); i++) {
        struct config cfg, before;
        struct dbe_diag diag = {0};

        memset(&cfg, 0x5A, sizeof cfg);
        before = cfg;
        if (take(refusals[i].text, &cfg, &diag) != DBE_E_CONFIG || strstr(diag.text, refusals[i].said) == NULL)
            fail_msg("%zu: %s\n said:     %s\n expected: %s", i, refusals[i].text, diag.text, refusals[i].said);
        assert_memory_equal(&cfg, &before, sizeof cfg); /* what came before the fault was not stored either */
    }
}

static void first_of_two_faults_stores_nothing(void **state)
{
    struct config cfg = {.port = 7};

    (void)state;
    assert_int_equal(take("port: 8\ndebug: true\nshare: 3\n", &cfg, NULL), DBE_E_CONFIG);
    assert_int_equal(cfg.port, 7);
    assert_false(cfg.debug);
}

/* ---- bounds ---------------------------------------------------------------------------------------------- */

static dbe_err parse_only(const struct base_buf *text, struct dbe_diag *diag)
{
    struct conf_doc *doc = NULL;
    dbe_err err = conf_parse("x.yaml", text->data, text->len, &doc, diag);

    conf_free(doc);
    return err;
}

static dbe_err nested(size_t depth, struct dbe_diag *diag)
{
    struct base_buf text;
    dbe_err err;

    base_buf_init(&text, CONF_FILE_MAX_BYTES);
    base_buf_str(&text, "a: ");
    for (size_t i = 1; i < depth; i++)
        base_buf_str(&text, "[");
    for (size_t i = 1; i < depth; i++)
        base_buf_str(&text, "]");
    err = parse_only(&text, diag);
    base_buf_free(&text);
    return err;
}

static void depth_is_bounded(void **state)
{
    struct dbe_diag diag = {0};

    (void)state;
    assert_int_equal(nested(CONF_DEPTH_MAX, &diag), DBE_OK);
    assert_int_equal(nested(CONF_DEPTH_MAX + 1, &diag), DBE_E_CONFIG);
    assert_non_null(strstr(diag.text, "more than 16 deep"));
    assert_int_equal(nested(100000, &diag), DBE_E_CONFIG);
}

static void nodes_keys_and_bytes_are_bounded(void **state)
{
    struct dbe_diag diag = {0};
    struct base_buf text;

    (void)state;
    base_buf_init(&text, 4 * CONF_FILE_MAX_BYTES);
    base_buf_str(&text, "a: [1");
    for (int i = 0; i < CONF_NODES_MAX; i++)
        base_buf_str(&text, ",1");
    base_buf_str(&text, "]");
    assert_int_equal(parse_only(&text, &diag), DBE_E_CONFIG);
    assert_non_null(strstr(diag.text, "more than 16384 values"));

    base_buf_clear(&text);
    for (int i = 0; i <= CONF_KEYS_MAX; i++)
        base_buf_fmt(&text, "k%d: 1\n", i);
    assert_int_equal(parse_only(&text, &diag), DBE_E_CONFIG);
    assert_non_null(strstr(diag.text, "x.yaml:1025:1: more than 1024 keys in one map"));

    base_buf_clear(&text);
    base_buf_str(&text, "a: ");
    for (int i = 0; i <= CONF_SCALAR_MAX_BYTES; i++)
        base_buf_u8(&text, 'x');
    assert_int_equal(parse_only(&text, &diag), DBE_E_CONFIG);
    assert_non_null(strstr(diag.text, "a value of 4097 bytes; at most 4096 are taken"));

    while (text.len <= CONF_FILE_MAX_BYTES)
        base_buf_str(&text, "# a comment is bytes, too\n");
    assert_int_equal(parse_only(&text, &diag), DBE_E_TOO_LARGE);
    base_buf_free(&text);
}

static void long_key_is_refused(void **state)
{
    char text[CONF_KEY_MAX_BYTES + 8];
    struct dbe_diag diag = {0};
    struct config cfg;

    (void)state;
    memset(text, 'k', sizeof text);
    memcpy(text + CONF_KEY_MAX_BYTES + 1, ": 1\n", 5);
    assert_int_equal(take(text, &cfg, &diag), DBE_E_CONFIG);
    assert_non_null(strstr(diag.text, "a key must be UTF-8 text of 1 to 64 bytes"));
}

static void every_allocation_may_fail(void **state)
{
    static const char text[] = "tenants: {A: {limit: {requests: 1/s}}}\nmask: [LOW]\n";
    struct dbe_diag diag = {0};
    struct config cfg = {0};
    dbe_err err = DBE_E_NOMEM;
    uint64_t nth = 1;

    (void)state;
    for (; err != DBE_OK && nth < 100; nth++) {
        base_fail_alloc_at(nth);
        err = take(text, &cfg, &diag);
        assert_true(err == DBE_OK || err == DBE_E_NOMEM);
    }
    base_fail_alloc_at(0);
    assert_int_equal(err, DBE_OK);
    assert_true(nth > 5);
}

static void files_are_named_in_what_is_said(void **state)
{
    char path[] = "/tmp/dsmil-conf-XXXXXX";
    struct conf_doc *doc = NULL;
    struct dbe_diag diag = {0};
    char said[64];
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0 && write(fd, "a: 1\nb: [\n", 10) == 10 && close(fd) == 0);
    assert_int_equal(conf_load(path, &doc, &diag), DBE_E_CONFIG);
    snprintf(said, sizeof said, "%s:3:1: ", path);
    assert_non_null(strstr(diag.text, said));
    assert_int_equal(base_file_write(path, "a: 1\n", 5, 0600, NULL), DBE_OK);
    assert_int_equal(conf_load(path, &doc, &diag), DBE_OK);
    assert_string_equal(conf_name(doc), path);
    assert_string_equal(conf_get(conf_root(doc), "a")->text, "1");
    assert_null(conf_get(conf_root(doc), "b"));
    conf_free(doc);
    unlink(path);
    assert_int_equal(conf_load(path, &doc, &diag), DBE_E_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_lands_in_its_field),
        cmocka_unit_test(absent_keys_leave_defaults),
        cmocka_unit_test(refusals_say_where_and_what),
        cmocka_unit_test(first_of_two_faults_stores_nothing),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(nodes_keys_and_bytes_are_bounded),
        cmocka_unit_test(long_key_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(files_are_named_in_what_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
