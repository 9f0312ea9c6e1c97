/* SPDX-License-Identifier: Apache-2.0
 *
 * cert_make.c - makes certificates: the CA's own and those of nodes.
 *
 * In:   keys and what to say about them    Out: DER
 * Does: X.509 version 3, ML-DSA-87, random serial of 16 bytes, the extensions that cert.c demands.
 * Does not: judge whether the names and ceilings are permitted (profile.c), nor write files (keystore.c).
 */
#include "cert.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "der.h"
#include "profile.h"

enum {
    KEY_ID_BYTES = 20,
    NAME_FIELD_MAX_BYTES = 64, /* RFC 5280 appendix A: ub-organization-name */
};

static dbe_err lib_fail(void)
{
    ERR_clear_error();
    return DBE_E_CRYPTO;
}

/* 16 random bytes, positive and of full length. */
static dbe_err set_serial(X509 *x)
{
    uint8_t serial[CERT_SERIAL_BYTES];
    dbe_err err = DBE_E_CRYPTO;

    DBE_TRY(base_random(serial, sizeof serial));
    serial[0] = (uint8_t)((serial[0] & 0x7F) | 0x40);
    BIGNUM *bn = BN_bin2bn(serial, sizeof serial, NULL);
    if (bn != NULL && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x)) != NULL)
        err = DBE_OK;
    BN_free(bn);
    return err;
}

static dbe_err set_times(X509 *x, uint64_t not_before_ms, uint64_t not_after_ms)
{
    /* Whole seconds: the start rounds down, the end up. */
    if (ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(not_before_ms / 1000)) == NULL ||
        ASN1_TIME_set(X509_getm_notAfter(x), (time_t)((not_after_ms + 999) / 1000)) == NULL)
        return lib_fail();
    return DBE_OK;
}

static dbe_err add_name(X509_NAME *name, const char *field, const char *text)
{
    return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, (const unsigned char *)text, -1, -1, 0) == 1
               ? DBE_OK
               : lib_fail();
}

/* The mesh for people, as far as the field takes it; what counts is the URI. */
static dbe_err add_mesh(X509_NAME *name, const char *mesh)
{
    char text[NAME_FIELD_MAX_BYTES + 1] = {0};

    memcpy(text, mesh, strnlen(mesh, NAME_FIELD_MAX_BYTES));
    return add_name(name, "O", text);
}

/* Extension from its text form, as in openssl.cnf. */
static dbe_err add_text_ext(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    int ok = ext != NULL && X509_add_ext(x, ext, -1) == 1;

    X509_EXTENSION_free(ext);
    return ok ? DBE_OK : lib_fail();
}

static dbe_err add_uri(X509 *x, const char *uri)
{
    struct base_buf b;

    base_buf_init(&b, DBE_SPIFFE_ID_MAX_BYTES + 8);
    base_buf_fmt(&b, "URI:%s", uri);
    dbe_err err = b.err == DBE_OK ? add_text_ext(x, NID_subject_alt_name, base_buf_cstr(&b)) : b.err;
    base_buf_free(&b);
    return err;
}

/* Key identifier: the first 20 bytes of SHA3-512 of the public key. RFC 5280 4.2.1.2 leaves the method open. */
static dbe_err key_id(const struct crypto_key *key, ASN1_OCTET_STRING **ret)
{
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], hash[CRYPTO_HASH_BYTES];

    DBE_TRY(crypto_key_public(key, pk));
    DBE_TRY(crypto_sha3_512(pk, sizeof pk, hash));
    ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
    if (id == NULL || ASN1_OCTET_STRING_set(id, hash, KEY_ID_BYTES) != 1) {
        ASN1_OCTET_STRING_free(id);
        return lib_fail();
    }
    *ret = id;
    return DBE_OK;
}

static dbe_err add_subject_key_id(X509 *x, const struct crypto_key *key)
{
    ASN1_OCTET_STRING *id = NULL;

    DBE_TRY(key_id(key, &id));
    int ok = X509_add1_ext_i2d(x, NID_subject_key_identifier, id, 0, X509V3_ADD_APPEND) == 1;
    ASN1_OCTET_STRING_free(id);
    return ok ? DBE_OK : lib_fail();
}

static dbe_err add_issuer_key_id(X509 *x, X509 *ca)
{
    const ASN1_OCTET_STRING *id = X509_get0_subject_key_id(ca);
    AUTHORITY_KEYID *aki = AUTHORITY_KEYID_new();
    bool ok = false;

    if (aki != NULL && id != NULL && (aki->keyid = ASN1_OCTET_STRING_dup(id)) != NULL)
        ok = X509_add1_ext_i2d(x, NID_authority_key_identifier, aki, 0, X509V3_ADD_APPEND) == 1;
    AUTHORITY_KEYID_free(aki);
    return ok ? DBE_OK : lib_fail();
}

/* An extension of our own. */
static dbe_err add_own(X509 *x, const char *name, int critical, const uint8_t *der, size_t len)
{
    ASN1_OBJECT *oid = OBJ_txt2obj(name, 1);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    X509_EXTENSION *ext = NULL;
    bool ok = false;

    if (oid != NULL && value != NULL && ASN1_OCTET_STRING_set(value, der, (int)len) == 1)
        ext = X509_EXTENSION_create_by_OBJ(NULL, oid, critical, value);
    if (ext != NULL)
        ok = X509_add_ext(x, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    ASN1_OCTET_STRING_free(value);
    ASN1_OBJECT_free(oid);
    return ok ? DBE_OK : lib_fail();
}

static dbe_err add_ceiling(X509 *x, const struct dbe_identity *id)
{
    uint8_t der[PROFILE_CEILING_MAX_BYTES];
    size_t len = profile_write_ceiling(id, der);

    return add_own(x, PROFILE_CEILING_OID, 1, der, len);
}

static dbe_err add_attest(X509 *x, const struct dbe_identity *id)
{
    uint8_t der[2 + sizeof id->ak_sha256] = {DER_OCTETS, sizeof id->ak_sha256};

    if (!id->attested)
        return DBE_OK;
    memcpy(der + 2, id->ak_sha256, sizeof id->ak_sha256);
    return add_own(x, PROFILE_ATTEST_OID, 0, der, sizeof der);
}

dbe_err cert_sign(X509 *x, const struct crypto_key *ca_key, struct base_buf *der)
{
    /* ML-DSA signs the message itself: no digest is named. */
    if (X509_sign(x, crypto_key_native(ca_key), NULL) <= 0)
        return lib_fail();
    int n = i2d_X509(x, NULL);
    if (n <= 0)
        return lib_fail();
    unsigned char *at = base_buf_grow(der, (size_t)n);
    if (at == NULL)
        return der->err;
    return i2d_X509(x, &at) == n ? DBE_OK : lib_fail();
}

static dbe_err build_ca(X509 *x, const struct crypto_key *key, const char *mesh, uint64_t not_before_ms,
                        uint64_t not_after_ms)
{
    char uri[DBE_MESH_NAME_MAX_BYTES + 16];
    struct base_buf b;

    if (X509_set_version(x, X509_VERSION_3) != 1 || X509_set_pubkey(x, crypto_key_native(key)) != 1)
        return lib_fail();
    DBE_TRY(set_serial(x));
    DBE_TRY(set_times(x, not_before_ms, not_after_ms));
    DBE_TRY(add_mesh(X509_get_subject_name(x), mesh));
    DBE_TRY(add_name(X509_get_subject_name(x), "CN", "DSMIL mesh CA"));
    if (X509_set_issuer_name(x, X509_get_subject_name(x)) != 1)
        return lib_fail();
    base_buf_init_fixed(&b, uri, sizeof uri);
    base_buf_fmt(&b, "spiffe://%s", mesh);
    DBE_TRY(add_text_ext(x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
    DBE_TRY(add_text_ext(x, NID_key_usage, "critical,keyCertSign,cRLSign"));
    DBE_TRY(add_uri(x, base_buf_cstr(&b)));
    return add_subject_key_id(x, key);
}

dbe_err cert_make_ca(const struct crypto_key *key, const char *mesh, uint64_t not_before_ms, uint64_t not_after_ms,
                     struct base_buf *der)
{
    X509 *x = X509_new();
    dbe_err err = x == NULL ? DBE_E_NOMEM : build_ca(x, key, mesh, not_before_ms, not_after_ms);

    if (err == DBE_OK)
        err = cert_sign(x, key, der);
    X509_free(x);
    return err;
}

static dbe_err build_node(X509 *x, const struct dbe_trust *trust, const struct crypto_key *subject,
                          const struct dbe_identity *id)
{
    const struct dbe_role_row *role = dbe_reg_role(id->role);
    struct base_buf b;
    char cn[64];

    if (X509_set_version(x, X509_VERSION_3) != 1 || X509_set_pubkey(x, crypto_key_native(subject)) != 1 ||
        X509_set_issuer_name(x, X509_get_subject_name(trust->ca)) != 1)
        return lib_fail();
    DBE_TRY(set_serial(x));
    DBE_TRY(set_times(x, id->not_before_ms, id->not_after_ms));
    base_buf_init_fixed(&b, cn, sizeof cn);
    base_buf_fmt(&b, "%s-%u", role != NULL ? role->path : "node", id->device);
    DBE_TRY(add_mesh(X509_get_subject_name(x), trust->mesh));
    DBE_TRY(add_name(X509_get_subject_name(x), "CN", base_buf_cstr(&b)));
    DBE_TRY(add_text_ext(x, NID_basic_constraints, "critical,CA:FALSE"));
    DBE_TRY(add_text_ext(x, NID_key_usage, "critical,digitalSignature"));
    DBE_TRY(add_uri(x, id->spiffe_id));
    DBE_TRY(add_ceiling(x, id));
    DBE_TRY(add_attest(x, id));
    DBE_TRY(add_subject_key_id(x, subject));
    return add_issuer_key_id(x, trust->ca);
}

dbe_err cert_build_node(const struct dbe_trust *trust, const struct crypto_key *subject, const struct dbe_identity *id,
                        X509 **ret)
{
    X509 *x = X509_new();
    dbe_err err = x == NULL ? DBE_E_NOMEM : build_node(x, trust, subject, id);

    if (err != DBE_OK) {
        X509_free(x);
        return err;
    }
    *ret = x;
    return DBE_OK;
}

dbe_err cert_make_node(const struct dbe_trust *trust, const struct crypto_key *ca_key, const struct crypto_key *subject,
                       const struct dbe_identity *id, struct base_buf *der)
{
    X509 *x = NULL;

    DBE_TRY(cert_build_node(trust, subject, id, &x));
    dbe_err err = cert_sign(x, ca_key, der);
    X509_free(x);
    return err;
}
