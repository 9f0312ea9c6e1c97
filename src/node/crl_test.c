/* SPDX-License-Identifier: Apache-2.0
 *
 * crl_test.c - revocation lists: what is refused, what is found, and a store that is usable after every kill.
 */
#include "keys_fixture.h"

#include <signal.h>
#include <sys/wait.h>

#include <openssl/x509v3.h>

#include "der.h"

/* A list made and signed here. */
static struct base_buf made(const struct kf *f, struct crl_entry *entries, size_t count, uint64_t number)
{
    struct base_buf der;

    base_buf_init(&der, DBE_CRL_MAX_BYTES);
    assert_int_equal(crl_make(f->trust, f->ca_key, entries, count, number, kf_now_ms, &der), DBE_OK);
    return der;
}

static dbe_err read_list(const struct kf *f, const struct base_buf *der, struct crl **ret)
{
    struct dbe_diag diag = {0};
    dbe_err err = crl_read(f->trust, der->data, der->len, ret, &diag);

    if (err != DBE_OK)
        assert_true(diag.text[0] != '\0');
    return err;
}

/* spec 8.13 */
static void list_round_trips(void **state)
{
    struct kf *f = *state;
    struct crl_entry in[] = {
        {{0x7F, 1, 2}, 3, DBE_REVOKE_KEY_COMPROMISE, UINT64_C(1700000000000)},
        {{0x80, 1, 2}, 3, DBE_REVOKE_UNSPECIFIED, UINT64_C(2600000000000)}, /* beyond 2049: GeneralizedTime */
        {{0}, 1, DBE_REVOKE_AA_COMPROMISE, 0},
        {{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
          0xFF, 0xFF},
         20, DBE_REVOKE_SUPERSEDED, UINT64_C(1700000001000)},
    };
    struct base_buf der = made(f, in, BASE_ARRAY_LEN(in), 77);
    struct crl *crl = NULL;

    assert_int_equal(read_list(f, &der, &crl), DBE_OK);
    assert_int_equal(crl->number, 77);
    assert_int_equal(crl->made_ms, kf_now_ms);
    assert_int_equal(crl->count, BASE_ARRAY_LEN(in));
    for (size_t i = 0; i < BASE_ARRAY_LEN(in); i++) {
        const struct crl_entry *e = crl_find(crl, in[i].serial, in[i].serial_len);
        assert_non_null(e);
        assert_int_equal(e->reason, in[i].reason);
        assert_int_equal(e->revoked_ms, in[i].revoked_ms);
        assert_memory_equal(e->serial, in[i].serial, sizeof e->serial);
    }
    assert_null(crl_find(crl, (const uint8_t *)"\x7F\x01\x03", 3));
    assert_null(crl_find(crl, (const uint8_t *)"\x7F\x01", 2));
    assert_null(crl_find(crl, der.data, 21));
    assert_null(crl_find(NULL, in[0].serial, 3));
    crl_free(crl);
    crl_free(NULL);
    base_buf_free(&der);
    der = made(f, NULL, 0, 1); /* nobody is on it */
    assert_int_equal(read_list(f, &der, &crl), DBE_OK);
    assert_int_equal(crl->count, 0);
    assert_null(crl_find(crl, in[0].serial, 3));
    crl_free(crl);
    base_buf_free(&der);
}

static void every_tampered_byte_is_refused(void **state)
{
    struct kf *f = *state;
    struct crl_entry in[] = {{{0x51, 2}, 2, DBE_REVOKE_HOLD, 0}, {{0x52, 2}, 2, 0, 0}};
    struct base_buf der = made(f, in, 2, 5);
    struct crl *crl = NULL;

    for (size_t i = 0; i < der.len; i += i < 400 || i > der.len - 100 ? 1 : 23) {
        uint8_t was = der.data[i];
        der.data[i] = (uint8_t)(was ^ (1U << (i % 8)));
        if (read_list(f, &der, &crl) != DBE_E_CERT)
            fail_msg("byte %zu may be changed", i);
        der.data[i] = was;
    }
    for (size_t cut = 0; cut < der.len; cut += cut < 300 ? 1 : 97) {
        struct base_buf part = der;
        part.len = cut;
        assert_int_equal(read_list(f, &part, &crl), DBE_E_CERT);
    }
    base_buf_u8(&der, 0);
    assert_int_equal(read_list(f, &der, &crl), DBE_E_CERT);
    assert_null(crl);
    base_buf_free(&der);
}

static void other_ca_is_refused(void **state)
{
    struct kf *f = *state;
    struct crypto_key *key = NULL;
    struct base_buf der;
    struct crl *crl = NULL;
    struct dbe_diag diag = {0};

    base_buf_init(&der, DBE_CRL_MAX_BYTES);
    assert_int_equal(crypto_key_generate(&key), DBE_OK);
    assert_int_equal(crl_make(f->trust, key, NULL, 0, 9, kf_now_ms, &der), DBE_OK); /* our name, another's key */
    assert_int_equal(crl_read(f->trust, der.data, der.len, &crl, &diag), DBE_E_CERT);
    assert_non_null(strstr(diag.text, "not signed by this mesh's CA"));
    base_buf_free(&der);
    crypto_key_free(key);

    char dir[PATH_MAX]; /* our key, another's name */
    struct dbe_trust *other = NULL;
    kf_path(f, "other", dir);
    assert_int_equal(dbe_keys_init(dir, "other.test", 0, NULL), DBE_OK);
    assert_int_equal(dbe_trust_load(dir, &other, NULL), DBE_OK);
    base_buf_init(&der, DBE_CRL_MAX_BYTES);
    assert_int_equal(crl_make(other, f->ca_key, NULL, 0, 9, kf_now_ms, &der), DBE_OK);
    assert_int_equal(crl_read(f->trust, der.data, der.len, &crl, &diag), DBE_E_CERT);
    assert_non_null(strstr(diag.text, "not issued by this mesh's CA"));
    base_buf_free(&der);
    dbe_trust_free(other);
}

/* ---- lists of a form that the CA would never sign ---------------------------------------------------------------- */

static void wrap(struct base_buf *b, uint8_t tag)
{
    struct base_buf out;

    base_buf_init(&out, DBE_CRL_MAX_BYTES + 65536);
    der_put(&out, tag, b->data, b->len);
    base_buf_free(b);
    *b = out;
}

static void hex_into(struct base_buf *b, const char *hex)
{
    size_t n = strlen(hex) / 2;

    if (n > 0)
        assert_int_equal(base_unhex(hex, base_buf_grow(b, n), n), DBE_OK);
}

#define ALG "300b0609608648016503040313"
#define NAME "30003000"
#define T1 "170d3236313132313030303030305a"
#define T2 "170d3237313132313030303030305a"
#define NUM "300a0603551d140403020105"

/* A list whose signed part is `tbs` (hex, content of the SEQUENCE), with a signature of the right size. */
static dbe_err parsed(const char *tbs, const char *alg, const char *bits)
{
    struct base_buf b, sig;
    struct crl *crl = NULL;

    base_buf_init(&b, DBE_CRL_MAX_BYTES + 65536);
    base_buf_init(&sig, 65536);
    hex_into(&b, tbs);
    wrap(&b, DER_SEQ);
    hex_into(&b, alg);
    hex_into(&sig, bits);
    memset(base_buf_grow(&sig, CRYPTO_MLDSA87_SIG_BYTES), 7, CRYPTO_MLDSA87_SIG_BYTES);
    wrap(&sig, DER_BITS);
    base_buf_bytes(&b, sig.data, sig.len);
    wrap(&b, DER_SEQ);
    dbe_err err = crl_parse(b.data, b.len, &crl, NULL);
    crl_free(crl);
    base_buf_free(&sig);
    base_buf_free(&b);
    return err;
}

/* spec 8.13: one row, one rule. */
static void bent_lists_are_refused(void **state)
{
#define HEAD "020101" ALG "3000" T1 T2
#define TAIL "a00e300c" NUM
    static const struct {
        const char *tbs;
        dbe_err err;
    } rows[] = {
        {HEAD TAIL, DBE_OK},
        {HEAD "30133011020105" "170d3236313132313030303030305a" TAIL, DBE_E_CERT},     /* length of entry too short */
        {HEAD "30143012020105" T1 TAIL, DBE_OK},
        {HEAD "30143012020185" T1 TAIL, DBE_E_CERT},                                   /* negative serial */
        {HEAD "30153013" "02020005" T1 TAIL, DBE_E_CERT},                              /* a byte to spare */
        {HEAD "30283012020106" T1 "3012020105" T1 TAIL, DBE_OK},                       /* any order */
        {HEAD "30283012020105" T1 "3012020105" T1 TAIL, DBE_E_CERT},                   /* twice */
        {HEAD "3000" TAIL, DBE_E_CERT},                                                /* empty must be absent */
        {"020100" ALG "3000" T1 T2 TAIL, DBE_E_CERT},                                  /* version 1 */
        {ALG "3000" T1 T2 TAIL, DBE_E_CERT},
        {"020101" "300b0609608648016503040312" "3000" T1 T2 TAIL, DBE_E_CERT},         /* ML-DSA-65 inside */
        {"020101" ALG "3000" T1 TAIL, DBE_E_CERT},                                     /* no nextUpdate */
        {"020101" ALG "3000" T2 T1 TAIL, DBE_E_CERT},                                  /* they are swapped */
        {"020101" ALG "3000" "170d3236313332313030303030305a" T2 TAIL, DBE_E_CERT},    /* 13th month */
        {"020101" ALG "3000" "170d3236303233303030303030305a" T2 TAIL, DBE_E_CERT},    /* 30th of February */
        {"020101" ALG "3000" "180f32303236313132313030303030305a" T2 TAIL, DBE_E_CERT}, /* other form for the year */
        {"020101" ALG "3000" "170d3236313132313030303030302b" T2 TAIL, DBE_E_CERT},    /* no Z */
        {HEAD, DBE_E_CERT},                                                            /* no number */
        {HEAD "a0023000", DBE_E_CERT},
        {HEAD "a00e300c" "300a0603551d140403020100", DBE_E_CERT},                      /* number 0 */
        {HEAD "a00e300c" "300a0603551d1404030201ff", DBE_E_CERT},                      /* number -1 */
        {HEAD "a0153013" "30110603551d14040a0208" "8000000000000000", DBE_E_CERT},     /* negative */
        {HEAD "a0163014" "30120603551d14040b0209" "008000000000000000", DBE_E_CERT},   /* 2^63 */
        {HEAD "a0153013" "30110603551d14040a0208" "7fffffffffffffff", DBE_OK},
        {HEAD "a01a3018" NUM NUM, DBE_E_CERT},                                         /* twice */
        {HEAD "a0193017" NUM "30090603551d1c04020500", DBE_OK},                        /* unknown, not critical */
        {HEAD "a01c301a" NUM "300c0603551d1c0101ff04020500", DBE_E_CERT},              /* critical: another scope */
        {HEAD "a01c301a" NUM "300c0603551d1b0101ff04020500", DBE_E_CERT},              /* delta list */
        {HEAD "a01c301a" NUM "300c0603551d1c01010004020500", DBE_E_CERT},              /* FALSE is not written */
        {HEAD TAIL "0500", DBE_E_CERT},
        {HEAD "30223020020105" T1 "300c300a0603551d1504030a0101" TAIL, DBE_OK},
        {HEAD "30223020020105" T1 "300c300a0603551d1504030a0107" TAIL, DBE_E_CERT},    /* reason 7 is no reason */
        {HEAD "30223020020105" T1 "300c300a0603551d1504030a0108" TAIL, DBE_E_CERT},    /* removeFromCRL */
        {HEAD "30223020020105" T1 "300c300a0603551d1504030a010b" TAIL, DBE_E_CERT},
        {HEAD "30163014020105" T1 "3000" TAIL, DBE_E_CERT},
        {HEAD "30243022020105" T1 "300e300c0603551d1d0101ff04020500" TAIL, DBE_E_CERT}, /* another issuer */
        {HEAD "30273025" "0215" "010203040506070809101112131415161718192021" T1 TAIL, DBE_E_CERT}, /* 21 bytes */
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        dbe_err err = parsed(rows[i].tbs, ALG, "00");
        if (err != rows[i].err)
            fail_msg("row %zu: %s", i, dbe_err_name(err));
    }
    assert_int_equal(parsed(rows[0].tbs, "300d06096086480165030403130500", "00"), DBE_E_CERT); /* parameters */
    assert_int_equal(parsed(rows[0].tbs, ALG, "01"), DBE_E_CERT); /* unused bits */
    assert_int_equal(parsed(rows[0].tbs, ALG, "0000"), DBE_E_CERT);
    assert_int_equal(parsed(rows[0].tbs, ALG, ""), DBE_E_CERT);
}

static void lengths_have_one_form(void **state)
{
    static const char *const bad[] = {
        "3080", "30ff", "3081", "308105", "30817f", "30820080", "3083000080", "3084ffffffff", "308500000000ff",
        "1f0100", "", "30", "3001",
    };
    uint8_t bytes[16];
    (void)state;

    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++) {
        size_t n = strlen(bad[i]) / 2;
        if (n > 0)
            assert_int_equal(base_unhex(bad[i], bytes, n), DBE_OK);
        struct base_cur c = base_cur_of(bytes, n);
        struct base_cur in = der_enter(&c, DER_SEQ);
        if (!c.bad || !in.bad)
            fail_msg("%s is taken", bad[i]);
        assert_int_equal(der_peek(&in), 0);
        assert_int_equal(der_whole(&in).len, 0);
    }
}

/* spec 8.13: the maximum can be made and read, one more cannot. */
static void list_is_bounded(void **state)
{
    struct kf *f = *state;
    struct crl_entry *many = calloc(DBE_REVOKED_MAX + 1, sizeof *many);
    struct base_buf der;
    struct crl *crl = NULL;

    assert_non_null(many);
    for (size_t i = 0; i <= DBE_REVOKED_MAX; i++) {
        many[i].serial_len = 20;
        many[i].reason = DBE_REVOKE_KEY_COMPROMISE;
        many[i].revoked_ms = UINT64_C(2600000000000);
        memset(many[i].serial, 0xFF, 20);
        base_put_u32(many[i].serial + 16, (uint32_t)(DBE_REVOKED_MAX - i));
    }
    der = made(f, many, DBE_REVOKED_MAX, 3);
    assert_int_equal(read_list(f, &der, &crl), DBE_OK);
    assert_int_equal(crl->count, DBE_REVOKED_MAX);
    assert_non_null(crl_find(crl, many[DBE_REVOKED_MAX / 3].serial, 20));
    crl_free(crl);
    assert_int_equal(crl_make(f->trust, f->ca_key, many, DBE_REVOKED_MAX + 1, 3, kf_now_ms, &der), DBE_E_LIMIT);
    assert_int_equal(crl_make(f->trust, f->ca_key, many, 1, 0, kf_now_ms, &der), DBE_E_LIMIT);
    base_buf_free(&der);
    free(many);

    base_buf_init(&der, DBE_CRL_MAX_BYTES + 1);
    memset(base_buf_grow(&der, DBE_CRL_MAX_BYTES + 1), 0x30, DBE_CRL_MAX_BYTES + 1);
    assert_int_equal(read_list(f, &der, &crl), DBE_E_TOO_LARGE);
    base_buf_free(&der);
    base_buf_init(&der, DBE_CRL_MAX_BYTES); /* more entries than are permitted, each of two bytes */
    hex_into(&der, "020101" ALG "3000" T1 T2);
    struct base_buf list;
    base_buf_init(&list, DBE_CRL_MAX_BYTES);
    for (size_t i = 0; i <= DBE_REVOKED_MAX; i++)
        hex_into(&list, "3000");
    wrap(&list, DER_SEQ);
    base_buf_bytes(&der, list.data, list.len);
    wrap(&der, DER_SEQ);
    hex_into(&der, ALG);
    base_buf_clear(&list);
    memset(base_buf_grow(&list, CRYPTO_MLDSA87_SIG_BYTES + 1), 0, CRYPTO_MLDSA87_SIG_BYTES + 1);
    wrap(&list, DER_BITS);
    base_buf_bytes(&der, list.data, list.len);
    wrap(&der, DER_SEQ);
    assert_int_equal(crl_parse(der.data, der.len, &crl, NULL), DBE_E_TOO_LARGE);
    base_buf_free(&list);
    base_buf_free(&der);
}

/* ---- trust ------------------------------------------------------------------------------------------------------- */

/* spec 8.11, 8.14 */
static void revoked_certificate_is_refused(void **state)
{
    struct kf *f = *state;
    struct dbe_credential *cred = NULL;
    struct dbe_identity id, got;
    struct dbe_diag diag = {0};
    const uint8_t *der = NULL, *list = f->trust->fingerprint;
    size_t len = 0, list_len = 9;
    uint64_t number = 9;

    assert_int_equal(dbe_keys_issue_ephemeral(f->dir, &kf_router, KF_DAY_MS, &cred, &diag), DBE_OK);
    id = *dbe_credential_identity(cred);
    dbe_credential_cert(cred, &der, &len);
    dbe_trust_revocations(f->trust, &list, &list_len, &number);
    assert_null(list);
    assert_int_equal(list_len, 0);
    assert_int_equal(number, 0);
    assert_int_equal(dbe_trust_verify(f->trust, der, len, kf_now_ms, &got, NULL, &diag), DBE_OK);

    struct crl_entry e = {.serial_len = id.serial_len, .reason = DBE_REVOKE_KEY_COMPROMISE, .revoked_ms = kf_now_ms};
    memcpy(e.serial, id.serial, id.serial_len);
    struct base_buf first = made(f, NULL, 0, 1), second = made(f, &e, 1, 2), forged = made(f, &e, 1, 3);
    assert_int_equal(dbe_trust_set_revocations(f->trust, second.data, second.len, &diag), DBE_OK);
    assert_int_equal(dbe_trust_set_revocations(f->trust, second.data, second.len, &diag), DBE_E_EXISTS);
    assert_int_equal(dbe_trust_set_revocations(f->trust, first.data, first.len, &diag), DBE_E_EXISTS);
    forged.data[forged.len - 1] ^= 1;
    assert_int_equal(dbe_trust_set_revocations(f->trust, forged.data, forged.len, &diag), DBE_E_CERT);
    dbe_trust_revocations(f->trust, &list, &list_len, &number);
    assert_int_equal(number, 2);
    assert_int_equal(list_len, second.len);
    assert_memory_equal(list, second.data, second.len);
    dbe_trust_revocations(f->trust, NULL, NULL, NULL);
    assert_int_equal(dbe_trust_revoked_count(f->trust), 1);

    memset(&got, 0xA5, sizeof got);
    assert_int_equal(dbe_trust_verify(f->trust, der, len, kf_now_ms, &got, NULL, &diag), DBE_E_REVOKED);
    assert_int_equal(got.device, 0xA5); /* untouched */
    assert_non_null(strstr(diag.text, "key-compromise"));
    assert_int_equal(dbe_trust_check(f->trust, &id, kf_now_ms, &diag), DBE_E_REVOKED);
    assert_int_equal(dbe_trust_check(f->trust, &id, kf_now_ms + 9 * KF_DAY_MS, &diag), DBE_E_REVOKED);
    id.serial[0] ^= 1;
    assert_int_equal(dbe_trust_check(f->trust, &id, kf_now_ms, &diag), DBE_OK);
    assert_int_equal(dbe_trust_check(f->trust, &id, kf_now_ms + 9 * KF_DAY_MS, &diag), DBE_E_EXPIRED);
    base_buf_free(&first);
    base_buf_free(&second);
    base_buf_free(&forged);
    dbe_credential_free(cred);
}

static void reasons_have_names(void **state)
{
    enum dbe_revoke_reason reason = DBE_REVOKE_HOLD;
    (void)state;

    for (int i = 0; i <= 10; i++) {
        const char *name = dbe_revoke_reason_name((enum dbe_revoke_reason)i);
        if (i == 7 || i == 8) {
            assert_string_equal(name, "unknown");
            continue;
        }
        assert_int_equal(dbe_revoke_reason_named(name, &reason), DBE_OK);
        assert_int_equal(reason, i);
    }
    assert_int_equal(dbe_revoke_reason_named("whim", &reason), DBE_E_NOT_FOUND);
}

/* ---- the store --------------------------------------------------------------------------------------------------- */

static void revoke_by_name_and_by_serial(void **state)
{
    struct kf *f = *state;
    struct dbe_issue worker = {.device = 47, .role = DBE_ROLE_WORKER};
    struct dbe_credential *a = NULL, *b = NULL;
    struct dbe_trust *trust = NULL;
    struct dbe_diag diag = {0};
    char serial[80] = "", hex[41];
    uint64_t number = 0;

    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
    assert_int_equal(dbe_keys_issue(f->dir, &worker, &diag), DBE_OK);
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &a, &diag), DBE_OK);
    assert_int_equal(dbe_credential_load(f->dir, "worker-47", &b, &diag), DBE_OK);
    assert_int_equal(dbe_keys_revoke(f->dir, "router-43", DBE_REVOKE_CESSATION, &diag), DBE_OK);
    assert_int_equal(dbe_keys_revoke(f->dir, "router-43", DBE_REVOKE_CESSATION, &diag), DBE_E_EXISTS);
    assert_non_null(strstr(diag.text, "cessation"));
    base_hex(dbe_credential_identity(b)->serial, dbe_credential_identity(b)->serial_len, hex);
    for (size_t i = 0; hex[i] != '\0'; i += 2)
        (void)snprintf(serial + strlen(serial), 4, "%s%.2s", i > 0 ? ":" : "", hex + i);
    assert_int_equal(dbe_keys_revoke(f->dir, serial, DBE_REVOKE_UNSPECIFIED, &diag), DBE_OK);
    assert_int_equal(dbe_keys_revoke(f->dir, hex, DBE_REVOKE_UNSPECIFIED, &diag), DBE_E_EXISTS);
    assert_int_equal(dbe_keys_revoke(f->dir, "0012", DBE_REVOKE_UNSPECIFIED, &diag), DBE_OK); /* as 12 */
    assert_int_equal(dbe_keys_revoke(f->dir, "12", DBE_REVOKE_UNSPECIFIED, &diag), DBE_E_EXISTS);
    static const char *const nobody[] = {"nobody", "../ca", "", "1", "123", "12:", ":12", "1:2", "0x12",
                                         "000102030405060708090a0b0c0d0e0f1011121314"};
    for (size_t i = 0; i < BASE_ARRAY_LEN(nobody); i++)
        if (dbe_keys_revoke(f->dir, nobody[i], DBE_REVOKE_UNSPECIFIED, &diag) != DBE_E_NOT_FOUND)
            fail_msg("\"%s\" was revoked", nobody[i]);
    assert_int_equal(dbe_keys_revoke(f->dir, "ca", DBE_REVOKE_UNSPECIFIED, &diag), DBE_E_ARGUMENT);
    assert_int_equal(dbe_keys_revoke(f->dir, "ab", (enum dbe_revoke_reason)7, &diag), DBE_E_ARGUMENT);

    assert_int_equal(dbe_trust_load(f->dir, &trust, &diag), DBE_OK);
    dbe_trust_revocations(trust, NULL, NULL, &number);
    assert_int_equal(number, 3);
    assert_int_equal(dbe_trust_revoked_count(trust), 3);
    assert_int_equal(dbe_trust_check(trust, dbe_credential_identity(a), kf_now_ms, &diag), DBE_E_REVOKED);
    assert_int_equal(dbe_trust_check(trust, dbe_credential_identity(b), kf_now_ms, &diag), DBE_E_REVOKED);
    dbe_trust_free(trust);
    dbe_credential_free(a);
    dbe_credential_free(b);
    a = NULL;
    assert_int_equal(dbe_credential_load(f->dir, "router-43", &a, &diag), DBE_E_REVOKED);
    assert_non_null(strstr(diag.text, "dsmil keys renew"));
    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_E_EXISTS);
    assert_non_null(strstr(diag.text, "dsmil keys renew"));
    assert_null(a);
}

/* spec 8.14: the file in the store obeys the same order as a list from a peer. */
static void lists_are_kept_in_order(void **state)
{
    struct kf *f = *state;
    struct dbe_trust *trust = NULL;
    struct dbe_diag diag = {0};
    struct crl_entry e = {{0x44}, 1, 0, 0};
    struct base_buf two = made(f, &e, 1, 2), three = made(f, &e, 1, 3);

    assert_int_equal(dbe_trust_load_revocations(f->trust, f->dir, &diag), DBE_E_NOT_FOUND);
    assert_int_equal(dbe_keys_save_revocations(f->dir, three.data, three.len, &diag), DBE_OK);
    assert_int_equal(dbe_keys_save_revocations(f->dir, two.data, two.len, &diag), DBE_E_EXISTS);
    assert_int_equal(dbe_trust_load_revocations(f->trust, f->dir, &diag), DBE_OK);
    assert_int_equal(dbe_trust_load_revocations(f->trust, f->dir, &diag), DBE_E_EXISTS);
    assert_int_equal(dbe_keys_revoke(f->dir, "45", DBE_REVOKE_UNSPECIFIED, &diag), DBE_OK);
    assert_int_equal(dbe_trust_load_revocations(f->trust, f->dir, &diag), DBE_OK);
    assert_int_equal(f->trust->revoked->number, 4);
    kf_write(f, "ca.crl", "junk", 4);
    assert_int_equal(dbe_trust_load(f->dir, &trust, &diag), DBE_E_CERT); /* never as if nobody were revoked */
    assert_non_null(strstr(diag.text, "ca.crl"));
    assert_int_equal(dbe_keys_save_revocations(f->dir, (const uint8_t *)"junk", 4, &diag), DBE_E_CERT);
    assert_int_equal(dbe_keys_save_revocations(f->dir, three.data, three.len, &diag), DBE_OK); /* mends it */
    assert_int_equal(dbe_trust_load(f->dir, &trust, &diag), DBE_OK);
    dbe_trust_free(trust);
    base_buf_free(&two);
    base_buf_free(&three);
}

/* What a shell command prints; its exit status is returned. */
static int shell(const char *command, char *out, size_t cap)
{
    FILE *pipe = popen(command, "r");

    assert_non_null(pipe);
    size_t n = fread(out, 1, cap - 1, pipe);
    out[n] = '\0';
    return pclose(pipe);
}

/* The library's reader agrees with ours, and so does the tool where there is one. */
static void standard_tools_read_the_list(void **state)
{
    struct kf *f = *state;
    struct dbe_diag diag = {0};
    char command[PATH_MAX + 80], text[65536];

    assert_int_equal(dbe_keys_revoke(f->dir, "7f01", DBE_REVOKE_KEY_COMPROMISE, &diag), DBE_OK);
    struct base_buf der = kf_slurp(f, "ca.crl");
    const unsigned char *at = der.data;
    X509_CRL *crl = d2i_X509_CRL(NULL, &at, (long)der.len);
    assert_non_null(crl);
    assert_ptr_equal(at, der.data + der.len);
    assert_int_equal(X509_CRL_verify(crl, X509_get0_pubkey(f->trust->ca)), 1);
    assert_int_equal(X509_CRL_get_version(crl), X509_CRL_VERSION_2);
    assert_int_equal(X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(f->trust->ca)), 0);
    ASN1_INTEGER *number = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
    assert_non_null(number);
    assert_int_equal(ASN1_INTEGER_get(number), 1);
    ASN1_INTEGER_free(number);
    assert_int_equal(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)), 1);
    const X509_REVOKED *r = sk_X509_REVOKED_value(X509_CRL_get_REVOKED(crl), 0);
    assert_int_equal(ASN1_INTEGER_get(X509_REVOKED_get0_serialNumber(r)), 0x7F01);
    ASN1_ENUMERATED *reason = X509_REVOKED_get_ext_d2i(r, NID_crl_reason, NULL, NULL);
    assert_int_equal(ASN1_ENUMERATED_get(reason), CRL_REASON_KEY_COMPROMISE);
    ASN1_ENUMERATED_free(reason);
    X509_CRL_free(crl);
    base_buf_free(&der);
    if (system("command -v openssl >/dev/null 2>&1") != 0)
        return;
    (void)snprintf(command, sizeof command, "openssl crl -inform DER -in %s/ca.crl -noout -text 2>&1", f->dir);
    assert_int_equal(shell(command, text, sizeof text), 0);
    assert_non_null(strstr(text, "Version 2"));
    assert_non_null(strstr(text, "Serial Number: 7F01"));
    assert_non_null(strstr(text, "Key Compromise"));
    assert_non_null(strstr(text, "X509v3 CRL Number"));
}

/* ---- renewal ----------------------------------------------------------------------------------------------------- */

static void renewal_changes_key_and_certificate(void **state)
{
    struct kf *f = *state;
    struct dbe_issue worker = {.name = "w", .device = 47, .role = DBE_ROLE_WORKER, .ceilings_set = true,
                               .classification_max = DBE_CLSF_TS, .compartments = DBE_COMPARTMENT_LAB};
    struct dbe_renew what = {.valid_days = 10, .revoke_old = true};
    struct dbe_credential *cred = NULL;
    struct dbe_identity old, new;
    struct dbe_diag diag = {0};

    assert_int_equal(dbe_keys_issue(f->dir, &worker, &diag), DBE_OK);
    assert_int_equal(dbe_keys_verify(f->dir, "w", &old, &diag), DBE_OK);
    struct base_buf key = kf_slurp(f, "w.key"), crt = kf_slurp(f, "w.crt");
    kf_now_ms += KF_DAY_MS;
    assert_int_equal(dbe_keys_renew(f->dir, "w", NULL, &diag), DBE_OK);
    assert_false(kf_there(f, "ca.crl"));
    struct base_buf key2 = kf_slurp(f, "w.key"), crt2 = kf_slurp(f, "w.crt");
    assert_true(key.len != key2.len || memcmp(key.data, key2.data, key.len) != 0);
    kf_write(f, "old.crt", crt.data, crt.len);
    assert_int_equal(dbe_keys_renew(f->dir, "w", &what, &diag), DBE_OK);
    kf_write(f, "middle.crt", crt2.data, crt2.len);
    assert_int_equal(dbe_credential_load(f->dir, "w", &cred, &diag), DBE_OK);
    new = *dbe_credential_identity(cred);
    assert_string_equal(new.spiffe_id, old.spiffe_id);
    assert_int_equal(new.classification_max, DBE_CLSF_TS);
    assert_int_equal(new.compartments, DBE_COMPARTMENT_LAB);
    assert_int_equal(new.not_after_ms, kf_now_ms + 10 * KF_DAY_MS);
    assert_memory_not_equal(new.serial, old.serial, old.serial_len);
    assert_int_equal(dbe_keys_verify(f->dir, "old", NULL, &diag), DBE_OK); /* nobody asked to revoke that one */
    assert_int_equal(dbe_keys_verify(f->dir, "middle", NULL, &diag), DBE_E_REVOKED);
    assert_non_null(strstr(diag.text, "superseded"));
    assert_false(kf_there(f, "w.key.next"));
    assert_false(kf_there(f, "w.crt.next"));
    dbe_credential_free(cred);
    base_buf_free(&key);
    base_buf_free(&key2);
    base_buf_free(&crt);
    base_buf_free(&crt2);

    assert_int_equal(dbe_keys_renew(f->dir, "nobody", NULL, &diag), DBE_E_NOT_FOUND);
    assert_int_equal(dbe_keys_renew(f->dir, "ca", NULL, &diag), DBE_E_ARGUMENT);
    assert_int_equal(dbe_keys_renew(f->dir, "../w", NULL, &diag), DBE_E_ARGUMENT);
    what.valid_days = KEYS_DAYS_MAX + 1;
    assert_int_equal(dbe_keys_renew(f->dir, "w", &what, &diag), DBE_E_ARGUMENT);
    what = (struct dbe_renew){.reason = (enum dbe_revoke_reason)8};
    assert_int_equal(dbe_keys_renew(f->dir, "w", &what, &diag), DBE_E_ARGUMENT);
}

static int die_at;

static void die(int step)
{
    if (step == die_at)
        (void)raise(SIGKILL);
}

/* Renew in a child that is killed before step `at`. */
static void renew_and_be_killed(const struct kf *f, const struct dbe_renew *what, int at)
{
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        die_at = at;
        keys_step_hook = die;
        _exit(dbe_keys_renew(f->dir, "router-43", what, NULL) == DBE_OK ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

/* Whatever step a renewal is killed at, the credential loads, and the next renewal works. */
static void killed_renewal_leaves_a_usable_store(void **state)
{
    struct kf *f = *state;
    struct dbe_diag diag = {0};

    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
    for (int revoke = 0; revoke < 2; revoke++) {
        const struct dbe_renew what = {.revoke_old = revoke == 1};
        for (int at = 1; at <= 6; at++) {
            struct dbe_credential *cred = NULL;
            struct dbe_identity before = {0};
            assert_int_equal(dbe_keys_verify(f->dir, "router-43", &before, &diag), DBE_OK);
            renew_and_be_killed(f, &what, at);
            if (dbe_credential_load(f->dir, "router-43", &cred, &diag) != DBE_OK)
                fail_msg("killed at step %d: %s", at, diag.text);
            assert_int_equal(dbe_keys_verify(f->dir, "router-43", NULL, &diag), DBE_OK);
            bool same = memcmp(dbe_credential_identity(cred)->serial, before.serial, before.serial_len) == 0;
            assert_int_equal(same, at < 4 || (at == 4 && revoke == 0));
            dbe_credential_free(cred);
            assert_int_equal(dbe_keys_renew(f->dir, "router-43", &what, &diag), DBE_OK);
            assert_false(kf_there(f, "router-43.key.next"));
            assert_false(kf_there(f, "router-43.crt.next"));
            if (revoke == 1)
                assert_int_equal(dbe_keys_verify(f->dir, "router-43", NULL, &diag), DBE_OK);
        }
    }
    die_at = 5; /* `issue`, too, completes what was left */
    struct dbe_identity left = {0};
    renew_and_be_killed(f, &(struct dbe_renew){0}, 5);
    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_E_EXISTS);
    assert_false(kf_there(f, "router-43.crt.next"));
    assert_int_equal(dbe_keys_verify(f->dir, "router-43", &left, &diag), DBE_OK);
}

/* What is half written goes with the next command; what only looks like it stays. */
static void debris_is_swept(void **state)
{
    struct kf *f = *state;
    static const char *const gone[] = {"a.key.a1B2c3", "a.crt.XXXXXX", "ca.crl.000000", "b.ak.zzzzzz",
                                       "a.key.next.aaaaaa", "a.crt.next.aaaaaa"};
    static const char *const kept[] = {"a.key", "a.crt.next", "notes.abcdef", ".key.abcdef", "a.key.abcde",
                                       "a.key.abcdefg", "pcrs.policy", "keyabcdef"};

    for (size_t i = 0; i < BASE_ARRAY_LEN(gone); i++)
        kf_write(f, gone[i], "x", 1);
    for (size_t i = 0; i < BASE_ARRAY_LEN(kept); i++)
        kf_write(f, kept[i], "x", 1);
    assert_int_equal(dbe_keys_revoke(f->dir, "12", DBE_REVOKE_UNSPECIFIED, NULL), DBE_E_CONFIG); /* that policy */
    for (size_t i = 0; i < BASE_ARRAY_LEN(gone); i++)
        if (kf_there(f, gone[i]))
            fail_msg("%s is there", gone[i]);
    for (size_t i = 0; i < BASE_ARRAY_LEN(kept); i++)
        if (!kf_there(f, kept[i]))
            fail_msg("%s is gone", kept[i]);
}

/* Who loads a credential while it is renewed gets the old pair or the new one, always. */
static void loading_during_renewal_never_fails(void **state)
{
    struct kf *f = *state;
    struct dbe_diag diag = {0};
    int status = 0, done = 0;

    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int rc = 0;
        for (int i = 0; i < 20 && rc == 0; i++)
            rc = dbe_keys_renew(f->dir, "router-43", &(struct dbe_renew){.revoke_old = i % 2 == 1}, NULL) != DBE_OK;
        _exit(rc);
    }
    while (done == 0) {
        struct dbe_credential *cred = NULL;
        if (dbe_credential_load(f->dir, "router-43", &cred, &diag) != DBE_OK)
            fail_msg("%s", diag.text);
        dbe_credential_free(cred);
        done = waitpid(pid, &status, WNOHANG);
        assert_true(done >= 0);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void anything_may_be_verified(void **state)
{
    struct kf *f = *state;
    struct dbe_identity id = {0};
    struct dbe_diag diag = {0};
    struct dbe_credential *cred = NULL;
    char path[PATH_MAX];
    const uint8_t *der = NULL;
    size_t len = 0;

    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
    assert_int_equal(dbe_keys_verify(f->dir, "router-43", &id, &diag), DBE_OK);
    kf_path(f, "router-43.crt", path);
    assert_int_equal(dbe_keys_verify(f->dir, path, NULL, &diag), DBE_OK);
    assert_int_equal(dbe_keys_issue_ephemeral(f->dir, &kf_router, 60000, &cred, &diag), DBE_OK);
    dbe_credential_cert(cred, &der, &len);
    kf_write(f, "x.der", der, len);
    dbe_credential_free(cred);
    kf_path(f, "x.der", path);
    assert_int_equal(dbe_keys_verify(f->dir, path, &id, &diag), DBE_OK);
    kf_now_ms += KF_DAY_MS;
    assert_int_equal(dbe_keys_verify(f->dir, path, &id, &diag), DBE_E_EXPIRED);
    kf_path(f, "ca.crt", path);
    assert_int_equal(dbe_keys_verify(f->dir, path, &id, &diag), DBE_E_CERT);
    kf_path(f, "router-43.key", path);
    assert_int_equal(dbe_keys_verify(f->dir, path, &id, &diag), DBE_E_CERT);
    assert_int_equal(dbe_keys_verify(f->dir, "nothing-here", &id, &diag), DBE_E_NOT_FOUND);
    kf_write(f, "router-43.key", "", 0);
    assert_int_equal(dbe_keys_verify(f->dir, "router-43", &id, &diag), DBE_E_CONFIG);
    kf_path(f, "router-43.key", path);
    assert_int_equal(unlink(path), 0); /* certificates without a key here are verified as well */
    assert_int_equal(dbe_keys_verify(f->dir, "router-43", &id, &diag), DBE_OK);
}

/* ---- the n-th thing fails ---------------------------------------------------------------------------------------- */

static void every_failure_leaves_the_list_as_it_was(void **state)
{
    struct kf *f = *state;
    struct dbe_diag diag = {0};
    struct dbe_identity id;
    char serial[8];

    assert_int_equal(dbe_keys_issue(f->dir, &kf_router, &diag), DBE_OK);
    assert_int_equal(dbe_keys_revoke(f->dir, "01", DBE_REVOKE_UNSPECIFIED, &diag), DBE_OK);
    for (int kind = 0; kind < 4; kind++) {
        dbe_err err = DBE_E_NOMEM;
        for (uint64_t n = 1; err != DBE_OK; n++) {
            struct base_buf before = kf_slurp(f, "ca.crl");
            (void)snprintf(serial, sizeof serial, "%02d%02x", kind + 10, (unsigned)(n & 0xFF));
            if (kind % 2 == 0)
                base_fail_alloc_at(n);
            else
                base_fail_random_at(n);
            err = kind < 2 ? dbe_keys_revoke(f->dir, serial, DBE_REVOKE_HOLD, &diag)
                           : dbe_keys_renew(f->dir, "router-43", &(struct dbe_renew){.revoke_old = true}, &diag);
            base_fail_alloc_at(0);
            base_fail_random_at(0);
            struct base_buf after = kf_slurp(f, "ca.crl");
            if (err != DBE_OK && kind < 2) {
                assert_int_equal(before.len, after.len);
                assert_memory_equal(before.data, after.data, before.len);
            }
            base_buf_free(&before);
            base_buf_free(&after);
            if (dbe_keys_verify(f->dir, "router-43", &id, &diag) != DBE_OK)
                fail_msg("kind %d, n %llu: %s", kind, (unsigned long long)n, diag.text);
            assert_true(n < 200);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KF(list_round_trips),
        KF(every_tampered_byte_is_refused),
        KF(other_ca_is_refused),
        cmocka_unit_test(bent_lists_are_refused),
        cmocka_unit_test(lengths_have_one_form),
        KF(list_is_bounded),
        KF(revoked_certificate_is_refused),
        cmocka_unit_test(reasons_have_names),
        KF(revoke_by_name_and_by_serial),
        KF(lists_are_kept_in_order),
        KF(standard_tools_read_the_list),
        KF(renewal_changes_key_and_certificate),
        KF(killed_renewal_leaves_a_usable_store),
        KF(debris_is_swept),
        KF(loading_during_renewal_never_fails),
        KF(anything_may_be_verified),
        KF(every_failure_leaves_the_list_as_it_was),
    };
    return cmocka_run_group_tests_name("crl", tests, NULL, NULL);
}
