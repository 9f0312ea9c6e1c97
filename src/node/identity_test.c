/* SPDX-License-Identifier: Apache-2.0
 *
 * identity_test.c - certificates that must be refused, and a key store that never loses or leaks a key.
 */
#include "dbe/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/x509v3.h>

#include "cert.h"
#include "keystore.h"
#include "profile.h"

#define DAY_MS UINT64_C(86400000)

struct fixture {
    char dir[64];
    struct dbe_trust *trust;
    struct crypto_key *ca_key, *key;
    struct dbe_identity id; /* a good one, to be bent */
};

static uint64_t virtual_ms;

static uint64_t virtual_mono(void *ctx)
{
    (void)ctx;
    return virtual_ms * BASE_NS_PER_MS;
}

static uint64_t virtual_wall(void *ctx)
{
    (void)ctx;
    return virtual_ms;
}

static const struct base_clock_ops virtual_clock = {virtual_mono, virtual_wall, NULL};

static const struct dbe_issue router = {.device = DBE_DEV_EXTENDED_ANALYTICS, .role = DBE_ROLE_ROUTER};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct dbe_diag diag = {0};

    assert_non_null(f);
    virtual_ms = UINT64_C(1800000000000);
    base_clock_set(&virtual_clock);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/dsmil-id-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(dbe_keys_init(f->dir, "mesh.test", 0, &diag), DBE_OK);
    assert_int_equal(dbe_trust_load(f->dir, &f->trust, &diag), DBE_OK);
    assert_int_equal(keys_read_key(f->dir, "ca", "key", &f->ca_key, &diag), DBE_OK);
    assert_int_equal(crypto_key_generate(&f->key), DBE_OK);
    f->id = (struct dbe_identity){.mesh = "mesh.test",
                                  .device = DBE_DEV_EXTENDED_ANALYTICS,
                                  .layer = DBE_LAYER_EXTENDED,
                                  .role = DBE_ROLE_ROUTER,
                                  .classification_max = DBE_CLSF_SECRET,
                                  .compartments = DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_CRYPTO,
                                  .not_before_ms = virtual_ms - 1000,
                                  .not_after_ms = virtual_ms + DAY_MS};
    assert_int_equal(profile_write_spiffe(&f->id, &diag), DBE_OK);
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

    dbe_trust_free(f->trust);
    crypto_key_free(f->ca_key);
    crypto_key_free(f->key);
    assert_int_equal(nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    base_clock_set(NULL);
    free(f);
    return 0;
}

static void path_in(const struct fixture *f, const char *file, char ret[PATH_MAX])
{
    (void)snprintf(ret, PATH_MAX, "%s/%s", f->dir, file);
}

/* The file's bytes; freed by the caller. */
static struct base_buf slurp(const struct fixture *f, const char *file)
{
    char path[PATH_MAX];
    struct base_buf b;

    path_in(f, file, path);
    base_buf_init(&b, KEYS_FILE_MAX_BYTES);
    assert_int_equal(base_file_read(path, KEYS_FILE_MAX_BYTES, &b, NULL), DBE_OK);
    return b;
}

static bool there(const struct fixture *f, const char *file)
{
    char path[PATH_MAX];

    path_in(f, file, path);
    return access(path, F_OK) == 0;
}

static dbe_err verify(const struct fixture *f, const struct base_buf *der, struct dbe_identity *ret)
{
    struct dbe_diag diag = {0};
    struct dbe_identity mine, *id = ret != NULL ? ret : &mine;

    memset(id, 0xA5, sizeof *id);
    mine = *id;
    dbe_err err = dbe_trust_verify(f->trust, der->data, der->len, virtual_ms, id, NULL, &diag);
    if (err != DBE_OK) {
        assert_memory_equal(id, &mine, sizeof mine); /* untouched */
        assert_true(diag.text[0] != '\0');
    }
    return err;
}

/* Make a certificate that says `f->id`, verify it. */
static dbe_err made(const struct fixture *f, struct dbe_identity *ret)
{
    struct base_buf der;

    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    assert_int_equal(cert_make_node(f->trust, f->ca_key, f->key, &f->id, &der), DBE_OK);
    dbe_err err = verify(f, &der, ret);
    base_buf_free(&der);
    return err;
}

/* ---- certificates ---------------------------------------------------------------------------------------------- */

/* spec 8.3, 8.5, 8.8 */
static void issued_credential_round_trips(void **state)
{
    struct fixture *f = *state;
    struct dbe_credential *cred = NULL;
    struct dbe_diag diag = {0};
    struct dbe_identity id = {0};
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], sig[CRYPTO_MLDSA87_SIG_BYTES];
    const uint8_t *der = NULL;
    size_t len = 0;
    struct crypto_key *pub = NULL;

    assert_int_equal(dbe_keys_issue(f->dir, &router, &diag), DBE_OK);
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_OK);
    dbe_credential_cert(cred, &der, &len);
    assert_int_equal(dbe_trust_verify(f->trust, der, len, virtual_ms, &id, pk, &diag), DBE_OK);
    assert_string_equal(id.spiffe_id, "spiffe://mesh.test/l7/router/43");
    assert_string_equal(id.mesh, "mesh.test");
    assert_string_equal(dbe_trust_mesh(f->trust), "mesh.test");
    assert_int_equal(id.device, 43);
    assert_int_equal(id.layer, 7);
    assert_int_equal(id.role, DBE_ROLE_ROUTER);
    assert_int_equal(id.classification_max, DBE_CLSF_SECRET);
    assert_int_equal(id.compartments, PROFILE_DEFAULT_COMPARTMENTS);
    assert_false(id.exercise);
    assert_int_equal(id.not_before_ms, virtual_ms - KEYS_BACKDATE_MS);
    assert_int_equal(id.not_after_ms, virtual_ms + 90 * DAY_MS);
    assert_int_equal(id.serial_len, CERT_SERIAL_BYTES);
    assert_memory_equal(&id, dbe_credential_identity(cred), sizeof id);
    assert_int_equal(dbe_credential_sign(cred, "test", "message", 7, sig), DBE_OK);
    assert_int_equal(crypto_key_from_public(pk, &pub), DBE_OK);
    assert_int_equal(crypto_verify(pub, "test", "message", 7, sig, sizeof sig), DBE_OK);
    assert_int_equal(crypto_verify(pub, "other", "message", 7, sig, sizeof sig), DBE_E_AUTH);
    crypto_key_free(pub);
    dbe_credential_free(cred);
    dbe_credential_free(NULL);
    dbe_trust_free(NULL);
}

/* spec 8.6, 8.7 */
static void ceilings_and_roles_round_trip(void **state)
{
    struct fixture *f = *state;
    struct dbe_identity id;
    const struct {
        uint8_t device, layer, role, classification;
        uint32_t compartments;
        bool exercise;
    } rows[] = {
        {0, 7, DBE_ROLE_SHIM, DBE_CLSF_UNCLAS, DBE_COMPARTMENT_SOC, false},
        {47, 7, DBE_ROLE_WORKER, DBE_CLSF_EXEC, 0x3F, true},
        {58, 8, DBE_ROLE_SERVICE, DBE_CLSF_TS, DBE_COMPARTMENT_NUCLEAR, false},
        {63, 10, DBE_ROLE_SERVICE, DBE_CLSF_UNCLAS, DBE_COMPARTMENT_LAB, true},
        {14, 0, DBE_ROLE_SERVICE, DBE_CLSF_ATOMAL, DBE_COMPARTMENT_SOC, false},
        {59, 9, DBE_ROLE_PERSON, DBE_CLSF_EXEC, DBE_COMPARTMENT_SIGNALS, false},
    };

    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        f->id.device = rows[i].device;
        f->id.layer = rows[i].layer;
        f->id.role = rows[i].role;
        f->id.classification_max = rows[i].classification;
        f->id.compartments = rows[i].compartments;
        f->id.exercise = rows[i].exercise;
        assert_int_equal(profile_write_spiffe(&f->id, NULL), DBE_OK);
        assert_int_equal(made(f, &id), DBE_OK);
        assert_int_equal(id.device, rows[i].device);
        assert_int_equal(id.layer, rows[i].layer);
        assert_int_equal(id.role, rows[i].role);
        assert_int_equal(id.classification_max, rows[i].classification);
        assert_int_equal(id.compartments, rows[i].compartments);
        assert_int_equal(id.exercise, rows[i].exercise);
    }
}

/* spec 8.9 */
static void validity_is_checked(void **state)
{
    struct fixture *f = *state;

    f->id.not_before_ms = virtual_ms + 2000;
    f->id.not_after_ms = virtual_ms + DAY_MS;
    assert_int_equal(made(f, NULL), DBE_E_EXPIRED);
    f->id.not_before_ms = virtual_ms - DAY_MS;
    f->id.not_after_ms = virtual_ms - 1000;
    assert_int_equal(made(f, NULL), DBE_E_EXPIRED);
    f->id.not_after_ms = virtual_ms;
    assert_int_equal(made(f, NULL), DBE_OK);
    f->id.not_after_ms = virtual_ms + 20 * 365 * DAY_MS; /* the node's lives on, the CA's does not */
    assert_int_equal(made(f, NULL), DBE_OK);
    virtual_ms += 11 * 365 * DAY_MS;
    assert_int_equal(made(f, NULL), DBE_E_EXPIRED);
}

/* spec 8.6, 8.7 */
static void profile_violations_are_refused(void **state)
{
    struct fixture *f = *state;
    const struct dbe_identity good = f->id;
    struct dbe_identity bad[10];

    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++)
        bad[i] = good;
    bad[0].compartments = DBE_COMPARTMENT_KINETIC;
    bad[1].compartments |= DBE_COMPARTMENT_KINETIC;
    bad[2].compartments = 0;
    bad[3].compartments |= 0x40; /* a bit without a meaning */
    bad[4].compartments |= 0x10000;
    bad[5].classification_max = DBE_CLSF_EXEC + 1;
    bad[6].classification_max = DBE_CLSF_TS_SIM;
    bad[7].layer = 8; /* a router belongs on layer 7, as its device does */
    bad[8].device = 52;
    bad[8].layer = 8;
    bad[9].role = DBE_ROLE_WORKER;
    bad[9].device = 14; /* a layer 0 device */
    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++) {
        f->id = bad[i];
        assert_int_equal(profile_write_spiffe(&f->id, NULL), DBE_OK);
        assert_int_equal(made(f, NULL), DBE_E_CERT);
    }
    f->id = good;
    assert_int_equal(made(f, NULL), DBE_OK);
}

/* spec 8.5 */
static void spellings_of_the_spiffe_id(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {
        "spiffe://mesh.test/l7/router/043",   "spiffe://mesh.test/l07/router/43", "spiffe://mesh.test/l7/router/43/",
        "spiffe://mesh.test//l7/router/43",   "spiffe://mesh.test/l7/router",     "spiffe://mesh.test/l7/pilot/43",
        "spiffe://mesh.test/l7/router/104",   "spiffe://mesh.test/l7/router/299", "spiffe://mesh.test/7/router/43",
        "spiffe://mesh.test/l7/router/43?x",  "spiffe://Mesh.test/l7/router/43",  "SPIFFE://mesh.test/l7/router/43",
        "spiffe:///l7/router/43",             "https://mesh.test/l7/router/43",   "spiffe://mesh.test/l7/router/-1",
        "spiffe://mesh.test:1/l7/router/43",  "spiffe://mesh.test",               "spiffe://mesh.test/l7/ROUTER/43",
        "spiffe://mesh.test2/l7/router/43", /* well-formed, of another mesh */
    };

    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++) {
        (void)snprintf(f->id.spiffe_id, sizeof f->id.spiffe_id, "%s", bad[i]);
        assert_int_equal(made(f, NULL), DBE_E_CERT);
    }
}

/* spec 8.1 */
static void other_ca_is_refused(void **state)
{
    struct fixture *f = *state;
    char dir[PATH_MAX];
    struct dbe_credential *cred = NULL;
    struct dbe_identity id;
    struct dbe_diag diag = {0};
    const uint8_t *der = NULL;
    size_t len = 0;

    path_in(f, "other", dir); /* the same mesh name, made by somebody else */
    assert_int_equal(dbe_keys_init(dir, "mesh.test", 10, &diag), DBE_OK);
    assert_int_equal(dbe_keys_issue_ephemeral(dir, &router, 60000, &cred, &diag), DBE_OK);
    dbe_credential_cert(cred, &der, &len);
    assert_int_equal(dbe_trust_verify(f->trust, der, len, virtual_ms, &id, NULL, &diag), DBE_E_CERT);
    assert_non_null(strstr(diag.text, "not signed by this mesh's CA"));
    dbe_credential_free(cred);
}

/* spec 8.1, 8.2 */
static void node_cannot_sign_nodes(void **state)
{
    struct fixture *f = *state;
    struct base_buf der;

    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    assert_int_equal(cert_make_node(f->trust, f->key, f->key, &f->id, &der), DBE_OK); /* signed by itself */
    assert_int_equal(verify(f, &der, NULL), DBE_E_CERT);
    base_buf_clear(&der); /* the CA's own certificate is no node's */
    unsigned char *at = base_buf_grow(&der, (size_t)i2d_X509(f->trust->ca, NULL));
    assert_non_null(at);
    assert_int_equal(i2d_X509(f->trust->ca, &at), der.len);
    assert_int_equal(verify(f, &der, NULL), DBE_E_CERT);
    base_buf_free(&der);
}

/* spec 8.1 */
static void every_tampered_byte_is_refused(void **state)
{
    struct fixture *f = *state;
    struct base_buf der;

    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    assert_int_equal(cert_make_node(f->trust, f->ca_key, f->key, &f->id, &der), DBE_OK);
    assert_int_equal(verify(f, &der, NULL), DBE_OK);
    for (size_t i = 0; i < der.len; i += i < 400 || i > der.len - 400 ? 1 : 23) {
        uint8_t was = der.data[i];
        der.data[i] = (uint8_t)(was ^ (1U << (i % 8)));
        if (verify(f, &der, NULL) == DBE_OK)
            fail_msg("byte %zu may be changed", i);
        der.data[i] = was;
    }
    for (size_t cut = 0; cut < 40; cut++) { /* cut short, at both kinds of places */
        struct base_buf part = der;
        part.len = cut < 20 ? cut * 100 : der.len - (cut - 19);
        assert_int_equal(verify(f, &part, NULL), DBE_E_CERT);
    }
    base_buf_u8(&der, 0); /* one byte too many */
    assert_int_equal(verify(f, &der, NULL), DBE_E_CERT);
    struct base_buf large;
    base_buf_init(&large, DBE_CERT_MAX_BYTES + 1);
    assert_non_null(base_buf_grow(&large, DBE_CERT_MAX_BYTES + 1));
    memset(large.data, 0x30, large.len);
    assert_int_equal(verify(f, &large, NULL), DBE_E_TOO_LARGE);
    base_buf_free(&large);
    base_buf_free(&der);
}

/* ---- bent extensions ------------------------------------------------------------------------------------------- */

static void drop_ext(X509 *x, const char *name)
{
    ASN1_OBJECT *obj = OBJ_txt2obj(name, 0);
    int at = X509_get_ext_by_OBJ(x, obj, -1);

    assert_true(at >= 0);
    X509_EXTENSION_free(X509_delete_ext(x, at));
    ASN1_OBJECT_free(obj);
}

static void add_ext(X509 *x, const char *oid, int critical, const char *value, int len)
{
    ASN1_OBJECT *obj = OBJ_txt2obj(oid, 0);
    ASN1_OCTET_STRING *s = ASN1_OCTET_STRING_new();

    assert_int_equal(ASN1_OCTET_STRING_set(s, (const unsigned char *)value, len), 1);
    X509_EXTENSION *ext = X509_EXTENSION_create_by_OBJ(NULL, obj, critical, s);
    assert_non_null(ext);
    assert_int_equal(X509_add_ext(x, ext, -1), 1);
    X509_EXTENSION_free(ext);
    ASN1_OCTET_STRING_free(s);
    ASN1_OBJECT_free(obj);
}

static void set_text_ext(X509 *x, const char *name, const char *value)
{
    drop_ext(x, name);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, OBJ_txt2nid(name), value);
    assert_non_null(ext);
    assert_int_equal(X509_add_ext(x, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

#define CEILING PROFILE_CEILING_OID
#define OTHER "2.25.1"

static void bend(X509 *x, int how)
{
    static const char uri[] = "URI:spiffe://mesh.test/l7/router/43";
    char two[160];

    switch (how) {
    case 0: break; /* as it should be */
    case 1: add_ext(x, OTHER, 0, "\x05\x00", 2); break; /* unknown, not critical: carries no meaning */
    case 2: add_ext(x, OTHER, 1, "\x05\x00", 2); break;
    case 3: drop_ext(x, CEILING); break;
    case 4: drop_ext(x, "subjectAltName"); break;
    case 5: drop_ext(x, "keyUsage"); break;
    case 6: drop_ext(x, "basicConstraints"); break;
    case 7: add_ext(x, CEILING, 1, "\x30\x09\x02\x01\x02\x02\x01\x01\x01\x01\x00", 11); break; /* twice */
    case 8: drop_ext(x, CEILING), add_ext(x, CEILING, 0, "\x30\x09\x02\x01\x02\x02\x01\x01\x01\x01\x00", 11); break;
    case 9: drop_ext(x, CEILING), add_ext(x, CEILING, 1, "\x30\x0a\x02\x02\x00\x02\x02\x01\x01\x01\x01\x00", 12); break;
    case 10: drop_ext(x, CEILING), add_ext(x, CEILING, 1, "\x30\x09\x02\x01\x02\x02\x01\x01\x01\x01\x01", 11); break;
    case 11:
        drop_ext(x, CEILING);
        add_ext(x, CEILING, 1, "\x30\x09\x02\x01\x02\x02\x01\x01\x01\x01\x00\x00", 12);
        break;
    case 12: drop_ext(x, CEILING), add_ext(x, CEILING, 1, "\x30\x06\x02\x01\x02\x02\x01\x01", 8); break;
    case 13: drop_ext(x, CEILING), add_ext(x, CEILING, 1, "\x30\x09\x02\x01\x82\x02\x01\x01\x01\x01\x00", 11); break;
    case 14: drop_ext(x, CEILING), add_ext(x, CEILING, 1, "", 0); break;
    case 15: (void)snprintf(two, sizeof two, "%s,DNS:example.test", uri), set_text_ext(x, "subjectAltName", two); break;
    case 16: (void)snprintf(two, sizeof two, "%s,%s", uri, uri), set_text_ext(x, "subjectAltName", two); break;
    case 17: set_text_ext(x, "subjectAltName", "DNS:example.test"); break;
    case 18: set_text_ext(x, "keyUsage", "critical,digitalSignature,keyCertSign"); break;
    case 19: set_text_ext(x, "keyUsage", "digitalSignature"); break;
    case 20: set_text_ext(x, "basicConstraints", "critical,CA:TRUE"); break;
    case 21: set_text_ext(x, "basicConstraints", "CA:FALSE"); break;
    default: assert_int_equal(X509_set_issuer_name(x, X509_get_subject_name(x)), 1); break;
    }
}

/* spec 8.3, 8.4, 8.7 */
static void bent_certificates_are_refused(void **state)
{
    struct fixture *f = *state;

    for (int how = 0; how < 23; how++) {
        X509 *x = NULL;
        struct base_buf der;
        base_buf_init(&der, DBE_CERT_MAX_BYTES);
        assert_int_equal(cert_build_node(f->trust, f->key, &f->id, &x), DBE_OK);
        bend(x, how);
        assert_int_equal(cert_sign(x, f->ca_key, &der), DBE_OK);
        dbe_err err = verify(f, &der, NULL);
        if (err != (how < 2 ? DBE_OK : DBE_E_CERT))
            fail_msg("case %d: %s", how, dbe_err_name(err));
        X509_free(x);
        base_buf_free(&der);
    }
}

/* spec 8.1 */
static void key_of_another_kind_is_refused(void **state)
{
    struct fixture *f = *state;
    X509 *x = NULL;
    struct base_buf der;
    EVP_PKEY *p384 = EVP_EC_gen("P-384");

    assert_non_null(p384);
    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    assert_int_equal(cert_build_node(f->trust, f->key, &f->id, &x), DBE_OK);
    assert_int_equal(X509_set_pubkey(x, p384), 1);
    assert_int_equal(cert_sign(x, f->ca_key, &der), DBE_OK);
    assert_int_equal(verify(f, &der, NULL), DBE_E_CERT);
    X509_free(x);
    EVP_PKEY_free(p384);
    base_buf_free(&der);
}

/* ---- key store ------------------------------------------------------------------------------------------------- */

static void expect_mode(const struct fixture *f, const char *file, mode_t mode)
{
    char path[PATH_MAX];
    struct stat st;

    path_in(f, file, path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, mode);
}

/* spec 8.12 */
static void files_are_private(void **state)
{
    struct fixture *f = *state;
    struct dbe_credential *cred = NULL;
    struct dbe_diag diag = {0};
    char path[PATH_MAX];

    assert_int_equal(dbe_keys_issue(f->dir, &router, &diag), DBE_OK);
    expect_mode(f, "", 0700);
    expect_mode(f, "ca.key", 0600);
    expect_mode(f, "router-43.key", 0600);
    path_in(f, "router-43.key", path);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_E_PERMISSION);
    assert_non_null(strstr(diag.text, "router-43.key"));
    assert_non_null(strstr(diag.text, "chmod 600"));
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(chmod(f->dir, 0750), 0);
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_E_PERMISSION);
    assert_non_null(strstr(diag.text, "chmod 700"));
    assert_int_equal(dbe_keys_issue(f->dir, &router, &diag), DBE_E_PERMISSION);
    assert_int_equal(chmod(f->dir, 0700), 0);
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_OK);
    dbe_credential_free(cred);
}

static void nothing_is_overwritten(void **state)
{
    struct fixture *f = *state;
    struct dbe_diag diag = {0};
    struct base_buf ca_key = slurp(f, "ca.key"), ca_crt = slurp(f, "ca.crt");

    assert_int_equal(dbe_keys_init(f->dir, "other.test", 0, &diag), DBE_E_EXISTS);
    assert_int_equal(dbe_keys_issue(f->dir, &router, &diag), DBE_OK);
    struct base_buf key = slurp(f, "router-43.key"), crt = slurp(f, "router-43.crt");
    assert_int_equal(dbe_keys_issue(f->dir, &router, &diag), DBE_E_EXISTS);
    assert_non_null(strstr(diag.text, "router-43"));
    struct dbe_issue worker = {.name = "router-43", .device = 47, .role = DBE_ROLE_WORKER};
    virtual_ms += 80 * DAY_MS; /* soon over, but another node's */
    assert_int_equal(dbe_keys_issue(f->dir, &worker, &diag), DBE_E_EXISTS);
    worker.name = "ca";
    assert_int_equal(dbe_keys_issue(f->dir, &worker, &diag), DBE_E_ARGUMENT);
    worker.name = "../escape";
    assert_int_equal(dbe_keys_issue(f->dir, &worker, &diag), DBE_E_ARGUMENT);
    struct base_buf now[] = {slurp(f, "ca.key"), slurp(f, "ca.crt"), slurp(f, "router-43.key"),
                             slurp(f, "router-43.crt")};
    struct base_buf *was[] = {&ca_key, &ca_crt, &key, &crt};
    for (size_t i = 0; i < BASE_ARRAY_LEN(now); i++) {
        assert_int_equal(now[i].len, was[i]->len);
        assert_memory_equal(now[i].data, was[i]->data, now[i].len);
        base_buf_free(&now[i]);
        base_buf_free(was[i]);
    }
}

static void renewal_keeps_the_key(void **state)
{
    struct fixture *f = *state;
    struct dbe_diag diag = {0};
    struct dbe_credential *cred = NULL;

    assert_int_equal(dbe_keys_issue(f->dir, &router, &diag), DBE_OK);
    struct base_buf key = slurp(f, "router-43.key");
    virtual_ms += 91 * DAY_MS;
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_E_EXPIRED);
    assert_non_null(strstr(diag.text, "router-43"));
    assert_non_null(strstr(diag.text, "dsmil keys issue"));
    assert_int_equal(dbe_keys_issue(f->dir, &router, &diag), DBE_OK);
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_OK);
    assert_int_equal(dbe_credential_identity(cred)->not_after_ms, virtual_ms + 90 * DAY_MS);
    struct base_buf again = slurp(f, "router-43.key");
    assert_int_equal(again.len, key.len);
    assert_memory_equal(again.data, key.data, key.len);
    base_buf_free(&key);
    base_buf_free(&again);
    dbe_credential_free(cred);
}

/* A child that issues and is killed by the kernel when a file grows beyond `bytes`. */
static void issue_and_be_killed(const struct fixture *f, rlim_t bytes)
{
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0}, limit = {bytes, bytes};
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)setrlimit(RLIMIT_FSIZE, &limit);
        _exit(dbe_keys_issue(f->dir, &router, NULL) == DBE_OK ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void killed_run_leaves_nothing_half_written(void **state)
{
    struct fixture *f = *state;
    struct dbe_diag diag = {0};
    struct dbe_credential *cred = NULL;
    struct base_buf ca = slurp(f, "ca.key");
    const size_t key_bytes = ca.len; /* a certificate is larger than a key */

    base_buf_free(&ca);
    issue_and_be_killed(f, 1000); /* inside the key */
    assert_false(there(f, "router-43.key"));
    assert_false(there(f, "router-43.crt"));
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_E_NOT_FOUND);
    assert_non_null(strstr(diag.text, "dsmil keys issue"));
    issue_and_be_killed(f, key_bytes + 100); /* inside the certificate */
    assert_true(there(f, "router-43.key"));
    assert_false(there(f, "router-43.crt"));
    struct base_buf key = slurp(f, "router-43.key");
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_E_NOT_FOUND);
    assert_int_equal(dbe_keys_issue(f->dir, &router, &diag), DBE_OK);
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_OK);
    struct base_buf again = slurp(f, "router-43.key");
    assert_memory_equal(again.data, key.data, key.len); /* the key was taken up, not replaced */
    base_buf_free(&key);
    base_buf_free(&again);
    dbe_credential_free(cred);
}

static void two_inits_make_one_ca(void **state)
{
    struct fixture *f = *state;
    char dir[PATH_MAX];
    pid_t pids[4];
    unsigned made_it = 0, exists = 0;

    path_in(f, "race", dir);
    for (size_t i = 0; i < BASE_ARRAY_LEN(pids); i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0)
            _exit((int)dbe_keys_init(dir, "mesh.test", 0, NULL));
    }
    for (size_t i = 0; i < BASE_ARRAY_LEN(pids); i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status));
        made_it += WEXITSTATUS(status) == DBE_OK;
        exists += WEXITSTATUS(status) == DBE_E_EXISTS;
    }
    assert_int_equal(made_it, 1);
    assert_int_equal(exists, BASE_ARRAY_LEN(pids) - 1);
}

static void bad_requests_are_refused(void **state)
{
    struct fixture *f = *state;
    struct dbe_diag diag = {0};
    struct dbe_issue what = router;
    struct dbe_credential *cred = NULL;
    char dir[PATH_MAX];

    what.ceilings_set = true;
    what.compartments = DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_KINETIC;
    assert_int_equal(dbe_keys_issue(f->dir, &what, &diag), DBE_E_KINETIC);
    assert_non_null(strstr(diag.text, "KINETIC"));
    assert_int_equal(dbe_keys_issue_ephemeral(f->dir, &what, 60000, &cred, &diag), DBE_E_KINETIC);
    what = router;
    what.device = 52;
    assert_int_equal(dbe_keys_issue(f->dir, &what, &diag), DBE_E_ARGUMENT);
    what.device = 200;
    assert_int_equal(dbe_keys_issue(f->dir, &what, &diag), DBE_E_ARGUMENT);
    what = router;
    what.role = 99;
    assert_int_equal(dbe_keys_issue(f->dir, &what, &diag), DBE_E_ARGUMENT);
    what = router;
    what.valid_days = KEYS_DAYS_MAX + 1;
    assert_int_equal(dbe_keys_issue(f->dir, &what, &diag), DBE_E_ARGUMENT);
    assert_int_equal(dbe_keys_init(f->dir, "Not A Mesh", 0, &diag), DBE_E_ARGUMENT);
    assert_int_equal(dbe_keys_issue_ephemeral(f->dir, &router, 0, &cred, &diag), DBE_E_ARGUMENT);
    path_in(f, "nothing-here", dir);
    assert_int_equal(dbe_keys_issue(dir, &router, &diag), DBE_E_NOT_FOUND);
    assert_non_null(strstr(diag.text, "dsmil keys init"));
    assert_null(cred);
    assert_false(there(f, "router-43.key"));
}

static void ephemeral_credential_leaves_no_file_and_ends(void **state)
{
    struct fixture *f = *state;
    struct dbe_diag diag = {0};
    struct dbe_credential *cred = NULL;
    struct dbe_identity id;
    const uint8_t *der = NULL;
    size_t len = 0;

    assert_int_equal(dbe_keys_issue_ephemeral(f->dir, &router, 60000, &cred, &diag), DBE_OK);
    assert_false(there(f, "router-43.key"));
    assert_false(there(f, "router-43.crt"));
    dbe_credential_cert(cred, &der, &len);
    assert_int_equal(dbe_trust_verify(f->trust, der, len, virtual_ms + 60000, &id, NULL, &diag), DBE_OK);
    assert_int_equal(dbe_trust_verify(f->trust, der, len, virtual_ms + 61000, &id, NULL, &diag), DBE_E_EXPIRED);
    dbe_credential_free(cred);
}

static void swapped_key_is_noticed(void **state)
{
    struct fixture *f = *state;
    struct dbe_diag diag = {0};
    struct dbe_credential *cred = NULL;
    struct dbe_issue worker = {.device = 47, .role = DBE_ROLE_WORKER};
    char from[PATH_MAX], to[PATH_MAX];

    assert_int_equal(dbe_keys_issue(f->dir, &router, &diag), DBE_OK);
    assert_int_equal(dbe_keys_issue(f->dir, &worker, &diag), DBE_OK);
    path_in(f, "worker-47.key", from);
    path_in(f, "router-43.key", to);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_E_CERT);
    assert_non_null(strstr(diag.text, "is not the key of"));
    assert_int_equal(base_file_write(to, "junk", 4, 0600, &diag), DBE_OK);
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_E_CONFIG);
}

struct listing {
    unsigned rows, fine, soon, expired, broken;
    char last[KEYS_NAME_MAX_BYTES + 1];
};

static void on_row(void *ctx, const char *name, const struct dbe_identity *id, dbe_err err, const char *problem)
{
    struct listing *l = ctx;

    assert_true(strcmp(l->last, name) < 0); /* sorted */
    (void)snprintf(l->last, sizeof l->last, "%s", name);
    l->rows++;
    l->fine += err == DBE_OK && problem == NULL && id != NULL;
    l->soon += err == DBE_OK && problem != NULL && id != NULL;
    l->expired += err == DBE_E_EXPIRED && problem != NULL && id != NULL;
    l->broken += (err == DBE_E_CERT || err == DBE_E_NOT_FOUND) && problem != NULL;
}

static void list_tells_what_is_wrong(void **state)
{
    struct fixture *f = *state;
    struct dbe_diag diag = {0};
    struct listing l = {0};
    struct dbe_issue what = {.device = 47, .role = DBE_ROLE_WORKER};
    char path[PATH_MAX];

    assert_int_equal(dbe_keys_list(f->dir, on_row, &l, &diag), DBE_OK);
    assert_int_equal(l.rows, 0);
    what.name = "expired", what.valid_days = 1;
    assert_int_equal(dbe_keys_issue(f->dir, &what, &diag), DBE_OK);
    what.name = "soon", what.valid_days = 3;
    assert_int_equal(dbe_keys_issue(f->dir, &what, &diag), DBE_OK);
    what.name = "fine", what.valid_days = 90;
    assert_int_equal(dbe_keys_issue(f->dir, &what, &diag), DBE_OK);
    what.name = "nokey";
    assert_int_equal(dbe_keys_issue(f->dir, &what, &diag), DBE_OK);
    path_in(f, "nokey.key", path);
    assert_int_equal(unlink(path), 0);
    path_in(f, "junk.crt", path);
    assert_int_equal(base_file_write(path, "junk", 4, 0600, &diag), DBE_OK);
    virtual_ms += 5 * DAY_MS / 2;
    assert_int_equal(dbe_keys_list(f->dir, on_row, &l, &diag), DBE_OK);
    assert_int_equal(l.rows, 5);
    assert_int_equal(l.fine, 1);
    assert_int_equal(l.soon, 1);
    assert_int_equal(l.expired, 1);
    assert_int_equal(l.broken, 2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(issued_credential_round_trips),
        T(ceilings_and_roles_round_trip),
        T(validity_is_checked),
        T(profile_violations_are_refused),
        T(spellings_of_the_spiffe_id),
        T(other_ca_is_refused),
        T(node_cannot_sign_nodes),
        T(every_tampered_byte_is_refused),
        T(bent_certificates_are_refused),
        T(key_of_another_kind_is_refused),
        T(files_are_private),
        T(nothing_is_overwritten),
        T(renewal_keeps_the_key),
        T(killed_run_leaves_nothing_half_written),
        T(two_inits_make_one_ca),
        T(bad_requests_are_refused),
        T(ephemeral_credential_leaves_no_file_and_ends),
        T(swapped_key_is_noticed),
        T(list_tells_what_is_wrong),
    };
    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
