/* SPDX-License-Identifier: Apache-2.0
 *
 * cert.c - reads certificates: strict DER, one CA, one profile.
 *
 * In:   DER from peers and files    Out: struct dbe_identity
 * Does: demands canonical DER, version 3, ML-DSA-87, exactly the extensions of the profile; an unknown critical one is
 *       refused, an unknown other one carries no meaning here.
 * Does not: build chains: there is one CA and it signs nodes directly.
 */
#include "cert.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "der.h"
#include "profile.h"

static const char clause[] = "certificate";

#define KEY_ALGORITHM "ML-DSA-87"

/* Which extensions were seen, and which must be critical. */
enum { EXT_BASIC = 1, EXT_USAGE = 2, EXT_NAMES = 4, EXT_SUBJECT_KEY = 8, EXT_ISSUER_KEY = 16, EXT_CEILING = 32,
       EXT_ATTEST = 64 };

static dbe_err bad(struct dbe_diag *diag, const char *what)
{
    ERR_clear_error();
    return dbe_fail(diag, DBE_E_CERT, clause, 0, "%s", what);
}

void cert_time_text(uint64_t unix_ms, char ret[24])
{
    time_t t = (time_t)(unix_ms / 1000);
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL || strftime(ret, 24, "%Y-%m-%d %H:%M UTC", &tm) == 0)
        (void)snprintf(ret, 24, "%s", "an unknown time");
}

/* ---- bytes ----------------------------------------------------------------------------------------------------- */

/* Encode again from the parsed structure: anything that is not DER comes out different. */
static bool is_canonical(X509 *x, const uint8_t *der, size_t len)
{
    unsigned char *tbs = NULL, *whole = NULL;
    bool same = false;

    if (i2d_re_X509_tbs(x, &tbs) > 0) {
        int n = i2d_X509(x, &whole);
        same = n > 0 && (size_t)n == len && memcmp(whole, der, len) == 0;
    }
    OPENSSL_free(tbs);
    OPENSSL_free(whole);
    return same;
}

dbe_err cert_parse(const uint8_t *der, size_t len, X509 **ret, struct dbe_diag *diag)
{
    const unsigned char *at = der;

    if (len > DBE_CERT_MAX_BYTES)
        return dbe_fail(diag, DBE_E_TOO_LARGE, clause, 0, "the certificate has %zu bytes, above the limit of %d", len,
                        DBE_CERT_MAX_BYTES);
    X509 *x = len == 0 ? NULL : d2i_X509(NULL, &at, (long)len);
    if (x == NULL)
        return bad(diag, "the bytes are no X.509 certificate");
    if (at != der + len || !is_canonical(x, der, len)) {
        X509_free(x);
        return bad(diag, "the certificate is not one whole piece of canonical DER");
    }
    *ret = x;
    return DBE_OK;
}

static dbe_err read_time(const ASN1_TIME *t, uint64_t *ret_ms, struct dbe_diag *diag)
{
    struct tm tm = {0};

    if (ASN1_TIME_to_tm(t, &tm) != 1)
        return bad(diag, "a validity time is malformed");
    time_t s = timegm(&tm);
    if (s < 0)
        return bad(diag, "a validity time lies before 1970");
    *ret_ms = (uint64_t)s * 1000;
    return DBE_OK;
}

/* ---- extensions ------------------------------------------------------------------------------------------------ */

/* The extensions of our own, by their object identifiers. */
struct own_oids {
    ASN1_OBJECT *ceiling, *attest;
};

/* What they hold; NULL where one is absent. */
struct own_values {
    ASN1_OCTET_STRING *ceiling, *attest;
};

/* Bit of the extension, 0 if it is none of ours. */
static unsigned ext_bit(X509_EXTENSION *ext, const struct own_oids *oids)
{
    const ASN1_OBJECT *obj = X509_EXTENSION_get_object(ext);

    switch (OBJ_obj2nid(obj)) {
    case NID_basic_constraints: return EXT_BASIC;
    case NID_key_usage: return EXT_USAGE;
    case NID_subject_alt_name: return EXT_NAMES;
    case NID_subject_key_identifier: return EXT_SUBJECT_KEY;
    case NID_authority_key_identifier: return EXT_ISSUER_KEY;
    default:
        return OBJ_cmp(obj, oids->ceiling) == 0  ? (unsigned)EXT_CEILING
               : OBJ_cmp(obj, oids->attest) == 0 ? (unsigned)EXT_ATTEST
                                                 : 0;
    }
}

/* Each extension is known or not critical, none occurs twice, all of `needed` are there, `critical` ones marked so. */
static dbe_err check_extensions(X509 *x, unsigned needed, unsigned critical, struct own_values *ret,
                                struct dbe_diag *diag)
{
    struct own_oids oids = {OBJ_txt2obj(PROFILE_CEILING_OID, 1), OBJ_txt2obj(PROFILE_ATTEST_OID, 1)};
    unsigned seen = 0, marked = 0;
    const char *problem = oids.ceiling == NULL || oids.attest == NULL ? "no memory" : NULL;

    for (int i = 0; problem == NULL && i < X509_get_ext_count(x); i++) {
        X509_EXTENSION *ext = X509_get_ext(x, i);
        unsigned bit = ext_bit(ext, &oids);
        if ((bit == 0 || bit == EXT_ATTEST) && X509_EXTENSION_get_critical(ext))
            problem = "the certificate has a critical extension that this side does not know";
        if ((seen & bit) != 0)
            problem = "an extension occurs twice in the certificate";
        seen |= bit;
        marked |= X509_EXTENSION_get_critical(ext) ? bit : 0;
        if (bit == EXT_CEILING)
            ret->ceiling = X509_EXTENSION_get_data(ext);
        if (bit == EXT_ATTEST)
            ret->attest = X509_EXTENSION_get_data(ext);
    }
    ASN1_OBJECT_free(oids.ceiling);
    ASN1_OBJECT_free(oids.attest);
    if (problem == NULL && ((seen & needed) != needed || (marked & critical) != critical))
        problem = "an extension of the profile is missing or not marked critical";
    return problem == NULL ? DBE_OK : bad(diag, problem);
}

static dbe_err check_usage(X509 *x, bool ca, struct dbe_diag *diag)
{
    BASIC_CONSTRAINTS *bc = X509_get_ext_d2i(x, NID_basic_constraints, NULL, NULL);
    uint32_t usage = X509_get_key_usage(x);
    bool is_ca = bc != NULL && bc->ca != 0, known = bc != NULL;

    BASIC_CONSTRAINTS_free(bc);
    if (!known || is_ca != ca)
        return bad(diag, ca ? "the certificate is not one of a CA" : "a CA certificate is no node certificate");
    if (usage != (ca ? (uint32_t)(KU_KEY_CERT_SIGN | KU_CRL_SIGN) : (uint32_t)KU_DIGITAL_SIGNATURE))
        return bad(diag, "the certificate's key usage is not that of the profile");
    return DBE_OK;
}

/* The one URI in subjectAltName; any other name beside it is refused. Lives as long as *ret_names. */
static dbe_err only_uri(X509 *x, GENERAL_NAMES **ret_names, const ASN1_IA5STRING **ret_uri, struct dbe_diag *diag)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);

    if (names == NULL || sk_GENERAL_NAME_num(names) != 1 || sk_GENERAL_NAME_value(names, 0)->type != GEN_URI) {
        GENERAL_NAMES_free(names);
        return bad(diag, "the certificate must name exactly one URI and nothing else in subjectAltName");
    }
    *ret_names = names;
    *ret_uri = sk_GENERAL_NAME_value(names, 0)->d.uniformResourceIdentifier;
    return DBE_OK;
}

/* The signature over the certificate's body, by the backend that verifies all others; X509_verify is OpenSSL's
 * whatever was chosen. */
static dbe_err verify_signature(X509 *x, EVP_PKEY *ca_key, struct dbe_diag *diag)
{
    const ASN1_BIT_STRING *sig = NULL;
    const X509_ALGOR *algorithm = NULL;
    unsigned char *tbs = NULL;
    struct crypto_key *key = NULL;
    dbe_err err = DBE_E_AUTH;

    X509_get0_signature(&sig, &algorithm, x);
    DBE_TRY(crypto_key_from_native(ca_key, &key));

    int len = i2d_re_X509_tbs(x, &tbs);

    if (len > 0 && (sig->flags & 7) == 0 && X509_ALGOR_cmp(algorithm, X509_get0_tbs_sigalg(x)) == 0)
        err = crypto_verify(key, "", tbs, (size_t)len, ASN1_STRING_get0_data(sig), (size_t)ASN1_STRING_length(sig));
    OPENSSL_free(tbs);
    crypto_key_free(key);
    return err == DBE_E_AUTH ? bad(diag, "the certificate was not signed by this mesh's CA") : err;
}

/* Version, key and signature algorithm, and the signature itself. */
static dbe_err check_signature(X509 *x, EVP_PKEY *ca_key, struct dbe_diag *diag)
{
    EVP_PKEY *own = X509_get0_pubkey(x);

    if (X509_get_version(x) != X509_VERSION_3)
        return bad(diag, "the certificate is not X.509 version 3");
    if (own == NULL || EVP_PKEY_is_a(own, KEY_ALGORITHM) != 1 || X509_get_signature_nid(x) != NID_ML_DSA_87)
        return bad(diag, "the certificate's key or signature is not ML-DSA-87");
    return ca_key == NULL ? bad(diag, "the mesh's CA has no key") : verify_signature(x, ca_key, diag);
}

/* ---- CA -------------------------------------------------------------------------------------------------------- */

static dbe_err read_mesh(X509 *x, char mesh[DBE_MESH_NAME_MAX_BYTES], struct dbe_diag *diag)
{
    static const char scheme[] = "spiffe://";
    const size_t skip = sizeof scheme - 1;
    GENERAL_NAMES *names = NULL;
    const ASN1_IA5STRING *uri = NULL;
    bool ok = false;

    DBE_TRY(only_uri(x, &names, &uri, diag));
    const unsigned char *text = ASN1_STRING_get0_data(uri);
    size_t len = (size_t)ASN1_STRING_length(uri);
    if (len > skip && len - skip < DBE_MESH_NAME_MAX_BYTES && memcmp(text, scheme, skip) == 0 &&
        memchr(text, '\0', len) == NULL) {
        memcpy(mesh, text + skip, len - skip);
        mesh[len - skip] = '\0';
        ok = profile_mesh_valid(mesh);
    }
    GENERAL_NAMES_free(names);
    return ok ? DBE_OK : bad(diag, "the CA certificate names no mesh");
}

static dbe_err fingerprint_of(X509 *x, uint8_t ret[CRYPTO_HASH_BYTES])
{
    unsigned char *der = NULL;
    int n = i2d_X509(x, &der);
    dbe_err err = n > 0 ? crypto_sha3_512(der, (size_t)n, ret) : DBE_E_NOMEM;

    OPENSSL_free(der);
    return err;
}

dbe_err cert_read_ca(X509 *x, struct dbe_trust *ret, struct dbe_diag *diag)
{
    const unsigned needed = EXT_BASIC | EXT_USAGE | EXT_NAMES | EXT_SUBJECT_KEY;
    struct own_values own = {0};
    struct dbe_trust t = {.ca = x};

    if (X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) != 0)
        return bad(diag, "the CA certificate is not self-signed");
    DBE_TRY(check_signature(x, X509_get0_pubkey(x), diag));
    DBE_TRY(check_extensions(x, needed, EXT_BASIC | EXT_USAGE, &own, diag));
    DBE_TRY(check_usage(x, true, diag));
    DBE_TRY(read_mesh(x, t.mesh, diag));
    DBE_TRY(read_time(X509_get0_notBefore(x), &t.not_before_ms, diag));
    DBE_TRY(read_time(X509_get0_notAfter(x), &t.not_after_ms, diag));
    DBE_TRY(fingerprint_of(x, t.fingerprint));
    ERR_clear_error();
    *ret = t;
    return DBE_OK;
}

/* ---- node ------------------------------------------------------------------------------------------------------ */

static dbe_err read_serial(X509 *x, struct dbe_identity *id, struct dbe_diag *diag)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(x);
    int len = ASN1_STRING_length(serial);

    if (ASN1_STRING_type(serial) != V_ASN1_INTEGER || len < 1 || (size_t)len > sizeof id->serial)
        return bad(diag, "the serial number is negative or too long");
    memcpy(id->serial, ASN1_STRING_get0_data(serial), (size_t)len);
    id->serial_len = (uint8_t)len;
    return DBE_OK;
}

/* The SHA-256 of an attestation key's point: an OCTET STRING of 32 bytes. `value` may be NULL. */
static dbe_err read_attest(const ASN1_OCTET_STRING *value, struct dbe_identity *id, struct dbe_diag *diag)
{
    struct base_cur c;

    if (value == NULL)
        return DBE_OK;
    c = base_cur_of(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
    struct der_span hash = der_content(&c, DER_OCTETS);
    if (base_cur_end(&c) != DBE_OK || hash.len != sizeof id->ak_sha256)
        return bad(diag, "the extension with the attestation key is malformed");
    memcpy(id->ak_sha256, hash.data, hash.len);
    id->attested = true;
    return DBE_OK;
}

static dbe_err read_names(X509 *x, const struct dbe_trust *trust, struct dbe_identity *id, struct dbe_diag *diag)
{
    GENERAL_NAMES *names = NULL;
    const ASN1_IA5STRING *uri = NULL;

    DBE_TRY(only_uri(x, &names, &uri, diag));
    dbe_err err = profile_read_spiffe(ASN1_STRING_get0_data(uri), (size_t)ASN1_STRING_length(uri), id, diag);
    GENERAL_NAMES_free(names);
    if (err == DBE_OK && strcmp(id->mesh, trust->mesh) != 0)
        return dbe_fail(diag, DBE_E_CERT, clause, 0, "%.80s is not of mesh %.60s", id->spiffe_id, trust->mesh);
    return err;
}

dbe_err cert_check_validity(const struct dbe_trust *trust, const struct dbe_identity *id, uint64_t now_ms,
                            struct dbe_diag *diag)
{
    char when[24];

    if (now_ms < id->not_before_ms || now_ms < trust->not_before_ms) {
        cert_time_text(BASE_MAX(id->not_before_ms, trust->not_before_ms), when);
        return dbe_fail(diag, DBE_E_EXPIRED, clause, 0, "the certificate of %.90s is not valid before %s",
                        id->spiffe_id, when);
    }
    if (now_ms > id->not_after_ms || now_ms > trust->not_after_ms) {
        cert_time_text(BASE_MIN(id->not_after_ms, trust->not_after_ms), when);
        return dbe_fail(diag, DBE_E_EXPIRED, clause, 0, "the certificate of %.90s expired at %s", id->spiffe_id, when);
    }
    return DBE_OK;
}

dbe_err cert_check_standing(const struct dbe_trust *trust, const struct dbe_identity *id, uint64_t now_ms,
                            struct dbe_diag *diag)
{
    const struct crl_entry *entry = crl_find(trust->revoked, id->serial, id->serial_len);
    char when[24];

    if (entry == NULL)
        return cert_check_validity(trust, id, now_ms, diag);
    cert_time_text(entry->revoked_ms, when);
    return dbe_fail(diag, DBE_E_REVOKED, clause, 0, "the certificate of %.90s was revoked on %s (%s)", id->spiffe_id,
                    when, dbe_revoke_reason_name(entry->reason));
}

static dbe_err read_public_key(X509 *x, uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    size_t len = CRYPTO_MLDSA87_PK_BYTES;

    if (EVP_PKEY_get_raw_public_key(X509_get0_pubkey(x), pk, &len) != 1 || len != CRYPTO_MLDSA87_PK_BYTES)
        return bad(diag, "the certificate's public key cannot be read");
    return DBE_OK;
}

dbe_err cert_read_node(const struct dbe_trust *trust, X509 *x, struct dbe_identity *ret, uint8_t *ret_pk,
                       struct dbe_diag *diag)
{
    const unsigned needed = EXT_BASIC | EXT_USAGE | EXT_NAMES | EXT_CEILING;
    struct own_values own = {0};
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    struct dbe_identity id = {0};

    if (X509_NAME_cmp(X509_get_issuer_name(x), X509_get_subject_name(trust->ca)) != 0)
        return bad(diag, "the certificate was not issued by this mesh's CA");
    DBE_TRY(check_signature(x, X509_get0_pubkey(trust->ca), diag));
    DBE_TRY(check_extensions(x, needed, EXT_BASIC | EXT_USAGE | EXT_CEILING, &own, diag));
    DBE_TRY(check_usage(x, false, diag));
    DBE_TRY(read_names(x, trust, &id, diag));
    DBE_TRY(profile_read_ceiling(ASN1_STRING_get0_data(own.ceiling), (size_t)ASN1_STRING_length(own.ceiling), &id,
                                 diag));
    DBE_TRY(read_attest(own.attest, &id, diag));
    DBE_TRY(profile_check(&id, diag));
    DBE_TRY(read_serial(x, &id, diag));
    DBE_TRY(read_time(X509_get0_notBefore(x), &id.not_before_ms, diag));
    DBE_TRY(read_time(X509_get0_notAfter(x), &id.not_after_ms, diag));
    DBE_TRY(read_public_key(x, pk, diag));
    DBE_TRY(fingerprint_of(x, id.fingerprint));
    ERR_clear_error();
    *ret = id;
    if (ret_pk != NULL)
        memcpy(ret_pk, pk, sizeof pk);
    return DBE_OK;
}
