/* SPDX-License-Identifier: Apache-2.0
 *
 * evidence_test.c - quotes: which count, which do not, and what a policy makes of them. Most run on a key of our own in
 * the place of a TPM's; the last ones on swtpm.
 */
#include "tpm_fixture.h"

#include <openssl/ec.h>
#include <openssl/evp.h>

#include "evidence.h"

/* A peer that quotes, its TPM played by an EC key here. */
struct fake {
    EVP_PKEY *key;
    struct dbe_identity id;
    struct dbe_trust trust;
    uint8_t th[CRYPTO_HASH_BYTES], point[TPM_POINT_BYTES];
    struct tpm_quote quote;
    uint32_t pcrs;
};

static int setup(void **state)
{
    struct fake *f = calloc(1, sizeof *f);
    size_t len = 0;

    assert_non_null(f);
    assert_int_equal(crypto_init(NULL), DBE_OK);
    f->key = EVP_EC_gen("P-256");
    assert_non_null(f->key);
    assert_int_equal(EVP_PKEY_get_octet_string_param(f->key, "encoded-pub-key", f->point, sizeof f->point, &len), 1);
    assert_int_equal(len, TPM_POINT_BYTES);
    f->id = (struct dbe_identity){.spiffe_id = "spiffe://mesh.test/l7/router/43", .device = 43,
                                  .role = DBE_ROLE_ROUTER, .attested = true};
    assert_int_equal(evidence_sha256(f->point, sizeof f->point, f->id.ak_sha256), DBE_OK);
    for (size_t i = 0; i < sizeof f->th; i++)
        f->th[i] = (uint8_t)i;
    for (unsigned i = 0; i < TPM_PCRS; i++)
        memset(f->quote.pcrs[i], (int)i, TPM_DIGEST_BYTES);
    f->pcrs = 0x81;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fake *f = *state;

    EVP_PKEY_free(f->key);
    pcr_policy_free(f->trust.pcrs);
    free(f);
    return 0;
}

/* How a statement is bent before it is signed. */
struct bend {
    uint32_t magic, selections;
    uint16_t type, nonce_len, hash, digest_len;
    uint8_t select_len;
    bool more;
};
static const struct bend straight = {0xFF544347, 1, 0x8018, 32, 0x000B, 32, 3, false};

static void put_statement(struct base_buf *b, const struct fake *f, const struct bend *how)
{
    uint8_t shown[TPM_PCRS * TPM_DIGEST_BYTES], digest[64] = {0};
    size_t n = 0;

    for (unsigned i = 0; i < TPM_PCRS; i++)
        if ((f->pcrs >> i & 1) != 0)
            memcpy(shown + TPM_DIGEST_BYTES * n++, f->quote.pcrs[i], TPM_DIGEST_BYTES);
    assert_int_equal(evidence_sha256(shown, n * TPM_DIGEST_BYTES, digest), DBE_OK);
    base_buf_u32(b, how->magic);
    base_buf_u16(b, how->type);
    base_buf_u16(b, 4);
    base_buf_bytes(b, "name", 4);
    base_buf_u16(b, how->nonce_len);
    base_buf_bytes(b, f->th, how->nonce_len);
    base_buf_bytes(b, (uint8_t[17]){0}, 17);
    base_buf_u64(b, 9);
    base_buf_u32(b, how->selections);
    base_buf_u16(b, how->hash);
    base_buf_u8(b, how->select_len);
    for (unsigned i = 0; i < how->select_len; i++)
        base_buf_u8(b, i < 4 ? (uint8_t)(f->pcrs >> (8 * i)) : 0);
    base_buf_u16(b, how->digest_len);
    base_buf_bytes(b, digest, how->digest_len);
    if (how->more)
        base_buf_u8(b, 0);
}

static void sign_quote(struct fake *f)
{
    uint8_t der[80];
    size_t len = sizeof der;
    const unsigned char *at = der;
    EVP_MD_CTX *md = EVP_MD_CTX_new();

    assert_int_equal(EVP_DigestSignInit_ex(md, NULL, "SHA256", NULL, NULL, f->key, NULL), 1);
    assert_int_equal(EVP_DigestSign(md, der, &len, f->quote.attest, f->quote.attest_len), 1);
    EVP_MD_CTX_free(md);
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)len);
    assert_non_null(sig);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(sig), f->quote.r, 32), 32);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(sig), f->quote.s, 32), 32);
    ECDSA_SIG_free(sig);
}

/* Evidence of this peer, its statement bent. */
static struct base_buf made(struct fake *f, const struct bend *how)
{
    struct base_buf b;

    base_buf_init_fixed(&b, f->quote.attest, sizeof f->quote.attest);
    put_statement(&b, f, how);
    assert_int_equal(b.err, DBE_OK);
    f->quote.attest_len = b.len;
    sign_quote(f);
    base_buf_init(&b, DBE_EVIDENCE_MAX_BYTES);
    evidence_put(&b, f->point, f->pcrs, &f->quote);
    assert_int_equal(b.err, DBE_OK);
    return b;
}

static dbe_err judge(const struct fake *f, const struct base_buf *b)
{
    struct dbe_diag diag = {0};
    dbe_err err = node_evidence_check(&f->trust, &f->id, f->th, b->data, b->len, &diag);

    assert_true(err == DBE_OK || (err == DBE_E_EVIDENCE && diag.text[0] != '\0'));
    return err;
}

static void policy(struct fake *f, const char *text)
{
    struct dbe_diag diag = {0};

    if (dbe_trust_set_pcr_policy(&f->trust, text, strlen(text), &diag) != DBE_OK)
        fail_msg("%s: %s", text, diag.text);
}

/* spec 8.15 to 8.17 */
static void good_quote_counts(void **state)
{
    struct fake *f = *state;

    for (uint32_t pcrs = 1; pcrs <= 0x00FFFFFF; pcrs = pcrs << 3 | 5) {
        f->pcrs = pcrs & 0x00FFFFFF;
        struct base_buf b = made(f, &straight);
        assert_int_equal(judge(f, &b), DBE_OK);
        base_buf_free(&b);
    }
    f->pcrs = 0x00FFFFFF;
    struct base_buf b = made(f, &straight);
    assert_int_equal(judge(f, &b), DBE_OK);
    f->th[EVIDENCE_NONCE_BYTES] ^= 1; /* what follows the first 32 bytes is bound by the signature of the session */
    assert_int_equal(judge(f, &b), DBE_OK);
    f->th[EVIDENCE_NONCE_BYTES - 1] ^= 1;
    assert_int_equal(judge(f, &b), DBE_E_EVIDENCE);
    base_buf_free(&b);
}

static void every_tampered_byte_is_refused(void **state)
{
    struct fake *f = *state;
    struct base_buf b = made(f, &straight);

    for (size_t i = 0; i < b.len; i++) {
        b.data[i] ^= (uint8_t)(1U << (i % 8));
        if (judge(f, &b) == DBE_OK)
            fail_msg("byte %zu may be changed", i);
        b.data[i] ^= (uint8_t)(1U << (i % 8));
    }
    for (size_t cut = 1; cut < b.len; cut++) {
        struct base_buf part = b;
        part.len = cut;
        assert_int_equal(judge(f, &part), DBE_E_EVIDENCE);
    }
    base_buf_u8(&b, 0);
    assert_int_equal(judge(f, &b), DBE_E_EVIDENCE);
    base_buf_free(&b);
    base_buf_init(&b, DBE_EVIDENCE_MAX_BYTES + 1);
    memset(base_buf_grow(&b, DBE_EVIDENCE_MAX_BYTES + 1), 1, DBE_EVIDENCE_MAX_BYTES + 1);
    assert_int_equal(judge(f, &b), DBE_E_EVIDENCE);
    base_buf_free(&b);
}

/* spec 8.16: well signed, and yet not what a quote has to say. */
static void bent_statements_are_refused(void **state)
{
    struct fake *f = *state;
    struct bend rows[11];

    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        rows[i] = straight;
    rows[0].magic = 0xFF544348;
    rows[1].type = 0x8017; /* another kind of statement */
    rows[2].nonce_len = 31;
    rows[3].nonce_len = 33;
    rows[4].selections = 2;
    rows[5].hash = 0x0004; /* SHA-1 */
    rows[6].digest_len = 20;
    rows[7].select_len = 0;
    rows[8].select_len = 5;
    rows[9].more = true;
    rows[10].nonce_len = 0;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct base_buf b = made(f, &rows[i]);
        if (judge(f, &b) == DBE_OK)
            fail_msg("row %zu counts", i);
        base_buf_free(&b);
    }
    struct bend four = straight; /* four bytes of selection are as good as three */
    four.select_len = 4;
    struct base_buf b = made(f, &four);
    assert_int_equal(judge(f, &b), DBE_OK);
    base_buf_free(&b);
}

static void others_evidence_is_refused(void **state)
{
    struct fake *f = *state;
    struct base_buf b = made(f, &straight);
    EVP_PKEY *own = f->key;

    f->id.attested = false; /* the certificate says nothing of a key */
    assert_int_equal(judge(f, &b), DBE_E_EVIDENCE);
    f->id.attested = true;
    base_buf_free(&b);
    f->key = EVP_EC_gen("P-256"); /* signed by another key under the certified one's name */
    b = made(f, &straight);
    assert_int_equal(judge(f, &b), DBE_E_EVIDENCE);
    EVP_PKEY_free(f->key);
    f->key = own;
    base_buf_free(&b);
    memset(f->point + 1, 0xFF, 64); /* a certified point that is on no curve */
    assert_int_equal(evidence_sha256(f->point, sizeof f->point, f->id.ak_sha256), DBE_OK);
    b = made(f, &straight);
    assert_int_equal(judge(f, &b), DBE_E_EVIDENCE);
    base_buf_free(&b);
}

/* ---- certificate ------------------------------------------------------------------------------------------------- */

/* A certificate with this extension, or with what `id` says where `value` is NULL; verified. */
static dbe_err certified(const struct kf *f, const struct dbe_identity *id, int critical, const char *value, int len,
                         struct dbe_identity *ret)
{
    struct crypto_key *key = NULL;
    struct base_buf der;
    X509 *x = NULL;

    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    assert_int_equal(crypto_key_generate(&key), DBE_OK);
    assert_int_equal(cert_build_node(f->trust, key, id, &x), DBE_OK);
    if (value != NULL) {
        ASN1_OBJECT *oid = OBJ_txt2obj(PROFILE_ATTEST_OID, 1);
        ASN1_OCTET_STRING *s = ASN1_OCTET_STRING_new();
        assert_int_equal(ASN1_OCTET_STRING_set(s, (const unsigned char *)value, len), 1);
        X509_EXTENSION *ext = X509_EXTENSION_create_by_OBJ(NULL, oid, critical, s);
        assert_int_equal(X509_add_ext(x, ext, -1), 1);
        X509_EXTENSION_free(ext);
        ASN1_OCTET_STRING_free(s);
        ASN1_OBJECT_free(oid);
    }
    assert_int_equal(cert_sign(x, f->ca_key, &der), DBE_OK);
    dbe_err err = dbe_trust_verify(f->trust, der.data, der.len, kf_now_ms, ret, NULL, NULL);
    X509_free(x);
    base_buf_free(&der);
    crypto_key_free(key);
    return err;
}

/* spec 8.15 */
static void attestation_key_is_named_in_one_way(void **state)
{
    struct kf *f = *state;
    static const struct {
        int critical, len;
        const char *value;
        dbe_err err;
    } rows[] = {
        {0, 34, "\x04\x20" "0123456789abcdef0123456789abcdef", DBE_OK},
        {1, 34, "\x04\x20" "0123456789abcdef0123456789abcdef", DBE_E_CERT},
        {0, 33, "\x04\x1f" "0123456789abcdef0123456789abcde", DBE_E_CERT},
        {0, 35, "\x04\x20" "0123456789abcdef0123456789abcdef\0", DBE_E_CERT},
        {0, 35, "\x04\x81\x20" "0123456789abcdef0123456789abcdef", DBE_E_CERT},
        {0, 0, "", DBE_E_CERT},
    };
    struct dbe_identity id = {.mesh = "mesh.test",
                              .device = DBE_DEV_EXTENDED_ANALYTICS,
                              .layer = DBE_LAYER_EXTENDED,
                              .role = DBE_ROLE_ROUTER,
                              .compartments = DBE_COMPARTMENT_SOC,
                              .not_before_ms = kf_now_ms - 1000,
                              .not_after_ms = kf_now_ms + KF_DAY_MS};
    struct dbe_identity got = {0};

    assert_int_equal(profile_write_spiffe(&id, NULL), DBE_OK);
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        if (certified(f, &id, rows[i].critical, rows[i].value, rows[i].len, &got) != rows[i].err)
            fail_msg("row %zu", i);
        if (rows[i].err == DBE_OK)
            assert_memory_equal(got.ak_sha256, rows[i].value + 2, 32);
    }
    id.attested = true; /* written as it is read */
    memset(id.ak_sha256, 0xA1, sizeof id.ak_sha256);
    assert_int_equal(certified(f, &id, 0, NULL, 0, &got), DBE_OK);
    assert_true(got.attested);
    assert_memory_equal(got.ak_sha256, id.ak_sha256, 32);
    assert_int_equal(certified(f, &id, 0, rows[0].value, rows[0].len, &got), DBE_E_CERT); /* twice */
}

/* ---- policy ------------------------------------------------------------------------------------------------------ */

#define HEX_00 "0000000000000000000000000000000000000000000000000000000000000000"
#define HEX_07 "0707070707070707070707070707070707070707070707070707070707070707"

/* spec 8.18 */
static void policy_says_who_and_what(void **state)
{
    struct fake *f = *state;
    static const struct {
        const char *text;
        bool wants, holds;
    } rows[] = {
        {"", false, true},
        {"# nobody\n\n  \t\n", false, true},
        {"worker quote\n", false, true},
        {"router quote", true, true},
        {"43 quote # the router", true, true},
        {"* quote\n", true, true},
        {"44 quote\n", false, true},
        {"router 7 = " HEX_07 "\n", true, true},
        {"router 7 = " HEX_00 "\n", true, false},
        {"router 7 = " HEX_00 "\r\n43 7 = " HEX_07 "\n", true, true}, /* the one or the other */
        {"router 0 = " HEX_00 "\n* 7 = " HEX_07 "\n", true, true},
        {"router 0 = " HEX_07 "\n* 7 = " HEX_07 "\n", true, false},
        {"router 1 = " HEX_00 "\n", true, false}, /* not shown */
        {"worker 7 = " HEX_00 "\n", false, true},
    };

    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        policy(f, rows[i].text);
        struct base_buf b = made(f, &straight), nothing = {0};
        if (judge(f, &nothing) != (rows[i].wants ? DBE_E_EVIDENCE : DBE_OK) ||
            judge(f, &b) != (rows[i].holds ? DBE_OK : DBE_E_EVIDENCE))
            fail_msg("row %zu", i);
        base_buf_free(&b);
    }
}

static void policy_is_read_strictly(void **state)
{
    struct fake *f = *state;
    static const char *const bad[] = {
        "pilot quote", "router", "router 7", "router 7 =", "router quote quote", "router 24 = " HEX_00,
        "router 7 = 00", "router 7 = " HEX_00 "0", "router 7 = " HEX_00 " x", "router 7 : " HEX_00,
        "router 7= " HEX_00, "104 quote", "-1 quote", "router -1 = " HEX_00, "0043 quote",
        "router 7 = 0g" HEX_00, "router 07777 = " HEX_00,
    };
    struct dbe_diag diag = {0};

    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++) {
        char text[200];
        (void)snprintf(text, sizeof text, "\n%s\n", bad[i]);
        if (dbe_trust_set_pcr_policy(&f->trust, text, strlen(text), &diag) != DBE_E_CONFIG)
            fail_msg("\"%s\" is taken", bad[i]);
        assert_non_null(strstr(diag.text, "line 2"));
    }
    assert_int_equal(dbe_trust_set_pcr_policy(&f->trust, "\0", 1, &diag), DBE_E_CONFIG);
    struct base_buf b;
    base_buf_init(&b, PCR_POLICY_MAX_BYTES + 100);
    for (int i = 0; i < PCR_POLICY_LINES_MAX; i++)
        base_buf_str(&b, "* quote\n");
    assert_int_equal(dbe_trust_set_pcr_policy(&f->trust, base_buf_cstr(&b), b.len, &diag), DBE_OK);
    base_buf_str(&b, "* quote\n");
    assert_int_equal(dbe_trust_set_pcr_policy(&f->trust, base_buf_cstr(&b), b.len, &diag), DBE_E_CONFIG);
    while (b.len <= PCR_POLICY_MAX_BYTES)
        base_buf_str(&b, "#######\n");
    assert_int_equal(dbe_trust_set_pcr_policy(&f->trust, base_buf_cstr(&b), b.len, &diag), DBE_E_CONFIG);
    base_buf_free(&b);
    base_fail_alloc_at(1);
    assert_int_equal(dbe_trust_set_pcr_policy(&f->trust, "", 0, &diag), DBE_E_NOMEM);
    base_fail_alloc_at(0);
}

static void store_reads_its_policy(void **state)
{
    struct kf *f = *state;
    struct dbe_trust *trust = NULL;
    struct dbe_diag diag = {0};
    const struct dbe_identity router = {.role = DBE_ROLE_ROUTER, .device = 43};

    kf_write(f, "pcrs.policy", "router quote\n", 13);
    assert_int_equal(dbe_trust_load(f->dir, &trust, &diag), DBE_OK);
    assert_true(pcr_policy_wants(trust->pcrs, &router));
    dbe_trust_free(trust);
    kf_write(f, "pcrs.policy", "router quota\n", 13);
    assert_int_equal(dbe_trust_load(f->dir, &trust, &diag), DBE_E_CONFIG); /* never as if nobody had to show any */
    assert_non_null(strstr(diag.text, "pcrs.policy, line 1"));
}

/* ---- a TPM ------------------------------------------------------------------------------------------------------- */

static const struct dbe_issue attested = {
    .device = DBE_DEV_EXTENDED_ANALYTICS, .role = DBE_ROLE_ROUTER, .attest = true, .quote_pcrs = 0x10FF81};

/* Lines that want of a router just what it shows. */
static void policy_of(struct dbe_trust *trust, const struct base_buf *shown)
{
    struct evidence e;
    struct base_buf text;
    size_t n = 0;

    assert_int_equal(evidence_parse(shown->data, shown->len, &e, NULL), DBE_OK);
    assert_int_equal(e.pcrs, attested.quote_pcrs);
    base_buf_init(&text, PCR_POLICY_MAX_BYTES);
    for (unsigned i = 0; i < TPM_PCRS; i++) {
        char hex[65];
        if ((e.pcrs >> i & 1) == 0)
            continue;
        base_hex(e.values + TPM_DIGEST_BYTES * n++, TPM_DIGEST_BYTES, hex);
        base_buf_fmt(&text, "router %u = %s\n", i, hex);
    }
    assert_int_equal(dbe_trust_set_pcr_policy(trust, base_buf_cstr(&text), text.len, NULL), DBE_OK);
    base_buf_free(&text);
}

static dbe_err show(const struct dbe_credential *cred, const struct dbe_trust *trust, const uint8_t *th,
                    struct base_buf *b, struct dbe_diag *diag)
{
    base_buf_clear(b);
    dbe_err err = node_evidence_make(cred, th, b, diag);

    return err != DBE_OK
               ? err
               : node_evidence_check(trust, dbe_credential_identity(cred), th, b->data, b->len, diag);
}

static void tpm_quotes_and_policy_holds(void **state)
{
    struct kf *f = *state;
    struct tf t;
    struct dbe_credential *cred = NULL;
    struct dbe_diag diag = {0};
    struct base_buf b;
    uint8_t th[CRYPTO_HASH_BYTES] = {7};

    if (!tf_up(&t))
        skip();
    base_buf_init(&b, DBE_EVIDENCE_MAX_BYTES);
    assert_int_equal(dbe_keys_set_seal(&(struct dbe_seal){.kind = DBE_SEAL_PLAIN, .tpm = t.tcti}, &diag), DBE_OK);
    if (dbe_keys_issue(f->dir, &attested, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    assert_true(kf_there(f, "router-43.ak"));
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_OK);
    assert_true(dbe_credential_identity(cred)->attested);
    if (show(cred, f->trust, th, &b, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    policy_of(f->trust, &b);
    assert_int_equal(show(cred, f->trust, th, &b, &diag), DBE_OK);
    struct base_buf old = b; /* of another handshake */
    th[0] ^= 1;
    assert_int_equal(node_evidence_check(f->trust, dbe_credential_identity(cred), th, old.data, old.len, &diag),
                     DBE_E_EVIDENCE);
    th[0] ^= 1;
    tf_extend(&t, 1); /* neither quoted nor wanted */
    assert_int_equal(show(cred, f->trust, th, &b, &diag), DBE_OK);
    tf_extend(&t, 7);
    assert_int_equal(show(cred, f->trust, th, &b, &diag), DBE_E_EVIDENCE);
    assert_non_null(strstr(diag.text, "(PCR) 7"));
    dbe_credential_free(cred);
    /* a renewed certificate names the same attestation key */
    assert_int_equal(dbe_keys_renew(f->dir, "router-43", NULL, &diag), DBE_OK);
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_OK);
    assert_int_equal(dbe_trust_set_pcr_policy(f->trust, "* quote", 7, &diag), DBE_OK);
    assert_int_equal(show(cred, f->trust, th, &b, &diag), DBE_OK);
    tf_stop(&t);
    assert_int_equal(show(cred, f->trust, th, &b, &diag), DBE_E_TPM);
    dbe_credential_free(cred);
    base_buf_free(&b);
    tf_down(&t);
    assert_int_equal(dbe_keys_set_seal(NULL, NULL), DBE_OK);
}

static void attestation_key_belongs_to_its_certificate(void **state)
{
    struct kf *f = *state;
    struct tf t;
    struct dbe_issue other = attested;
    struct dbe_credential *cred = NULL;
    struct dbe_diag diag = {0};
    struct base_buf b;
    uint8_t th[CRYPTO_HASH_BYTES] = {0};
    char a[PATH_MAX], c[PATH_MAX];

    if (!tf_up(&t))
        skip();
    assert_int_equal(dbe_keys_set_seal(&(struct dbe_seal){.kind = DBE_SEAL_PLAIN, .tpm = t.tcti}, &diag), DBE_OK);
    assert_int_equal(dbe_keys_issue(f->dir, &attested, &diag), DBE_OK);
    other.name = "b";
    assert_int_equal(dbe_keys_issue(f->dir, &other, &diag), DBE_OK);
    kf_path(f, "router-43.ak", a);
    kf_path(f, "b.ak", c);
    assert_int_equal(rename(c, a), 0);
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_E_CONFIG);
    assert_non_null(strstr(diag.text, "router-43.ak"));
    kf_write(f, "router-43.ak", "junk", 4);
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_E_CONFIG);
    assert_int_equal(unlink(a), 0); /* without it the node shows nothing, and is taken where nobody asks */
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &cred, &diag), DBE_OK);
    base_buf_init(&b, DBE_EVIDENCE_MAX_BYTES);
    assert_int_equal(show(cred, f->trust, th, &b, &diag), DBE_OK);
    assert_int_equal(b.len, 0);
    assert_int_equal(dbe_trust_set_pcr_policy(f->trust, "* quote", 7, &diag), DBE_OK);
    assert_int_equal(show(cred, f->trust, th, &b, &diag), DBE_E_EVIDENCE);
    dbe_credential_free(cred);
    base_buf_free(&b);
    tf_down(&t);
    assert_int_equal(dbe_keys_set_seal(NULL, NULL), DBE_OK);
    other.name = "c"; /* no TPM: nothing is issued */
    assert_int_equal(setenv("DSMIL_TPM", t.tcti, 1), 0);
    assert_int_equal(dbe_keys_issue(f->dir, &other, &diag), DBE_E_TPM);
    assert_int_equal(unsetenv("DSMIL_TPM"), 0);
    assert_false(kf_there(f, "c.crt"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(good_quote_counts),
        T(every_tampered_byte_is_refused),
        T(bent_statements_are_refused),
        T(others_evidence_is_refused),
        T(policy_says_who_and_what),
        T(policy_is_read_strictly),
        KF(attestation_key_is_named_in_one_way),
        KF(store_reads_its_policy),
        KF(tpm_quotes_and_policy_holds),
        KF(attestation_key_belongs_to_its_certificate),
    };
    return cmocka_run_group_tests_name("evidence", tests, NULL, NULL);
}
