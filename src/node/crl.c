/* SPDX-License-Identifier: Apache-2.0
 *
 * crl.c - revocation lists: strict reading, lookup, making.
 *
 * In:   DER from <dir>/ca.crl and from peers    Out: struct crl; or DER, signed by the CA
 * Does: verifies the signature over the bytes as they came before it looks into them; takes DER alone; refuses a
 *       critical extension that it does not know, a serial that occurs twice, and a list without a number.
 * Does not: read delta lists or lists of other issuers (both carry critical extensions), nor judge nextUpdate: a list
 *       counts until a newer one comes (clause 8.14).
 */
#include "crl.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/x509v3.h>

#include "cert.h"
#include "der.h"

static const char clause[] = "revocation list";

enum {
    CRL_V2 = 1,
    EXTENSIONS_MAX = 16,
    REASON_UNUSED = 7,
    REASON_REMOVE = 8, /* of delta lists alone */
    REASON_LAST = 10,
    SIGNATURE_ROOM_BYTES = 4800, /* signature, its headers and those of the list */
};

/* AlgorithmIdentifier of ML-DSA-87: 2.16.840.1.101.3.4.3.19, no parameters (RFC 9881). */
static const uint8_t mldsa87[] = {0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x13};
static const uint8_t oid_crl_number[] = {0x55, 0x1D, 0x14};    /* 2.5.29.20 */
static const uint8_t oid_reason[] = {0x55, 0x1D, 0x15};        /* 2.5.29.21 */
static const uint8_t oid_authority_key[] = {0x55, 0x1D, 0x23}; /* 2.5.29.35 */

#define SPAN(array) ((struct der_span){(array), sizeof(array)})

static dbe_err bad(struct dbe_diag *diag, const char *what)
{
    return dbe_fail(diag, DBE_E_CERT, clause, 0, "%s", what);
}

/* ---- lookup ------------------------------------------------------------------------------------------------------ */

int crl_entry_order(const void *a, const void *b)
{
    const struct crl_entry *x = a, *y = b;

    if (x->serial_len != y->serial_len)
        return x->serial_len < y->serial_len ? -1 : 1;
    return memcmp(x->serial, y->serial, x->serial_len);
}

const struct crl_entry *crl_find(const struct crl *crl, const uint8_t *serial, size_t len)
{
    struct crl_entry key = {.serial_len = (uint8_t)len};

    if (crl == NULL || crl->count == 0 || len > sizeof key.serial)
        return NULL;
    memcpy(key.serial, serial, len);
    return bsearch(&key, crl->entries, crl->count, sizeof key, crl_entry_order);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* The three parts of a signed structure. */
struct parts {
    struct der_span signed_bytes, signature;
};

static dbe_err split(const uint8_t *der, size_t len, struct parts *ret, struct dbe_diag *diag)
{
    struct base_cur c = base_cur_of(der, len);

    if (len > DBE_CRL_MAX_BYTES)
        return dbe_fail(diag, DBE_E_TOO_LARGE, clause, 0, "the list has %zu bytes, above the limit of %d", len,
                        DBE_CRL_MAX_BYTES);
    struct base_cur list = der_enter(&c, DER_SEQ);
    struct der_span tbs = der_whole(&list), algorithm = der_content(&list, DER_SEQ);
    struct der_span bits = der_content(&list, DER_BITS);
    if (base_cur_end(&list) != DBE_OK || base_cur_end(&c) != DBE_OK)
        return bad(diag, "the bytes are no revocation list in DER");
    if (!der_same(algorithm, SPAN(mldsa87)) || bits.len != 1 + CRYPTO_MLDSA87_SIG_BYTES || bits.data[0] != 0)
        return bad(diag, "the list is not signed with ML-DSA-87");
    *ret = (struct parts){tbs, {bits.data + 1, bits.len - 1}};
    return DBE_OK;
}

/* What the extensions of a list or of an entry said. */
struct extensions {
    uint64_t number; /* 0: none */
    uint8_t reason;
};

static void read_reason(struct der_span value, struct base_cur *c, struct extensions *ret)
{
    struct base_cur in = base_cur_of(value.data, value.len);
    struct der_span code = der_content(&in, DER_ENUM);

    if (base_cur_end(&in) != DBE_OK || code.len != 1 || code.data[0] > REASON_LAST || code.data[0] == REASON_UNUSED ||
        code.data[0] == REASON_REMOVE)
        c->bad = true;
    else
        ret->reason = code.data[0];
}

static void read_number(struct der_span value, struct base_cur *c, struct extensions *ret)
{
    struct base_cur in = base_cur_of(value.data, value.len);
    uint64_t number = der_uint(&in);

    if (base_cur_end(&in) != DBE_OK || number == 0)
        c->bad = true;
    ret->number = number;
}

/* SEQUENCE OF Extension in `c`, to its end. None twice; a critical one is `known` or refused; of the others only
 * `known` is read. */
static void read_extensions(struct base_cur *c, struct der_span known,
                            void (*read)(struct der_span, struct base_cur *, struct extensions *),
                            struct extensions *ret)
{
    struct der_span seen[EXTENSIONS_MAX];
    size_t count = 0;

    if (base_cur_left(c) == 0)
        c->bad = true; /* an empty list of extensions must be left out */
    while (!c->bad && base_cur_left(c) > 0) {
        struct base_cur ext = der_enter(c, DER_SEQ);
        struct der_span oid = der_content(&ext, DER_OID), critical = {(const uint8_t *)"", 0};
        if (der_peek(&ext) == DER_BOOL)
            critical = der_content(&ext, DER_BOOL);
        struct der_span value = der_content(&ext, DER_OCTETS);
        /* DEFAULT FALSE is left out in DER: what is there says TRUE. */
        if (base_cur_end(&ext) != DBE_OK || oid.len == 0 || count == EXTENSIONS_MAX ||
            (critical.len > 0 && (critical.len != 1 || critical.data[0] != 0xFF)))
            c->bad = true;
        for (size_t i = 0; i < count && !c->bad; i++)
            c->bad = der_same(seen[i], oid);
        if (c->bad)
            return;
        seen[count++] = oid;
        if (der_same(oid, known))
            read(value, c, ret);
        else if (critical.len > 0)
            c->bad = true;
    }
}

static void read_entry(struct base_cur *c, struct crl_entry *ret)
{
    struct base_cur in = der_enter(c, DER_SEQ);
    struct der_span serial = der_magnitude(&in);
    struct extensions ext = {0};

    ret->revoked_ms = der_time_ms(&in);
    if (der_peek(&in) == DER_SEQ) {
        struct base_cur exts = der_enter(&in, DER_SEQ);
        read_extensions(&exts, SPAN(oid_reason), read_reason, &ext);
        in.bad = in.bad || exts.bad;
    }
    if (base_cur_end(&in) != DBE_OK || serial.len > sizeof ret->serial) {
        c->bad = true;
        return;
    }
    memcpy(ret->serial, serial.data, serial.len);
    ret->serial_len = (uint8_t)serial.len;
    ret->reason = ext.reason;
}

/* How many entries the SEQUENCE OF holds, without looking into them. */
static size_t count_entries(struct base_cur c)
{
    size_t count = 0;

    while (!c.bad && base_cur_left(&c) > 0) {
        (void)der_whole(&c);
        count++;
    }
    return count;
}

static dbe_err read_entries(struct base_cur *c, struct crl *crl, struct dbe_diag *diag)
{
    size_t count = count_entries(*c);

    if (count > DBE_REVOKED_MAX)
        return dbe_fail(diag, DBE_E_TOO_LARGE, clause, 0, "the list has more than %d entries", DBE_REVOKED_MAX);
    if (count == 0)
        return bad(diag, "the list has an empty list of entries");
    crl->entries = base_alloc(count, sizeof *crl->entries);
    if (crl->entries == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory for a revocation list");
    while (!c->bad && base_cur_left(c) > 0 && crl->count < count)
        read_entry(c, &crl->entries[crl->count++]);
    if (base_cur_end(c) != DBE_OK)
        return bad(diag, "an entry of the list is malformed or has a critical extension that this side does not know");
    qsort(crl->entries, count, sizeof *crl->entries, crl_entry_order);
    for (size_t i = 1; i < count; i++)
        if (crl_entry_order(&crl->entries[i - 1], &crl->entries[i]) == 0)
            return bad(diag, "a serial number stands twice on the list");
    return DBE_OK;
}

/* TBSCertList. `ret_issuer` is the Name, whole. */
static dbe_err read_tbs(struct der_span tbs, struct crl *crl, struct der_span *ret_issuer, struct dbe_diag *diag)
{
    struct base_cur c = base_cur_of(tbs.data, tbs.len);
    struct base_cur in = der_enter(&c, DER_SEQ);
    struct extensions ext = {0};

    if (der_uint(&in) != CRL_V2 || !der_same(der_content(&in, DER_SEQ), SPAN(mldsa87)))
        return bad(diag, "the list is not an X.509 CRL of version 2 with ML-DSA-87");
    *ret_issuer = der_whole(&in);
    crl->made_ms = der_time_ms(&in);
    uint64_t next_ms = der_time_ms(&in);
    if (in.bad || next_ms < crl->made_ms)
        return bad(diag, "the times of the list are malformed");
    if (der_peek(&in) == DER_SEQ) {
        struct base_cur entries = der_enter(&in, DER_SEQ);
        DBE_TRY(read_entries(&entries, crl, diag));
    }
    struct base_cur tagged = der_enter(&in, DER_CTX_0), exts = der_enter(&tagged, DER_SEQ);
    read_extensions(&exts, SPAN(oid_crl_number), read_number, &ext);
    if (exts.bad || base_cur_end(&tagged) != DBE_OK || base_cur_end(&in) != DBE_OK || base_cur_end(&c) != DBE_OK)
        return bad(diag, "the list's extensions are malformed, or one is critical and not known here");
    if (ext.number == 0)
        return bad(diag, "the list has no crlNumber");
    crl->number = ext.number;
    return DBE_OK;
}

void crl_free(struct crl *crl)
{
    if (crl == NULL)
        return;
    base_free(crl->entries);
    base_free(crl->der);
    base_free(crl);
}

static dbe_err parse_parts(const uint8_t *der, size_t len, const struct parts *p, struct crl **ret,
                           struct der_span *ret_issuer, struct dbe_diag *diag)
{
    struct crl *crl = base_alloc(1, sizeof *crl);
    dbe_err err = DBE_OK;

    if (crl == NULL || (crl->der = base_alloc(len, 1)) == NULL)
        err = dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory for a revocation list");
    else
        err = read_tbs(p->signed_bytes, crl, ret_issuer, diag);
    if (err != DBE_OK) {
        crl_free(crl);
        return err;
    }
    memcpy(crl->der, der, len);
    crl->der_len = len;
    *ret = crl;
    return DBE_OK;
}

dbe_err crl_parse(const uint8_t *der, size_t len, struct crl **ret, struct dbe_diag *diag)
{
    struct der_span issuer;
    struct parts p;

    DBE_TRY(split(der, len, &p, diag));
    return parse_parts(der, len, &p, ret, &issuer, diag);
}

/* Is `issuer` the subject of the CA? */
static bool is_issuer(const struct dbe_trust *trust, struct der_span issuer)
{
    const unsigned char *name = NULL;
    size_t len = 0;

    return X509_NAME_get0_der(X509_get_subject_name(trust->ca), &name, &len) == 1 &&
           der_same(issuer, (struct der_span){name, len});
}

static dbe_err check_signature(const struct dbe_trust *trust, const struct parts *p, struct dbe_diag *diag)
{
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    size_t len = sizeof pk;
    struct crypto_key *key = NULL;

    if (EVP_PKEY_get_raw_public_key(X509_get0_pubkey(trust->ca), pk, &len) != 1 || len != sizeof pk)
        return bad(diag, "the CA's public key cannot be read");
    DBE_TRY(crypto_key_from_public(pk, &key));
    dbe_err err = crypto_verify(key, "", p->signed_bytes.data, p->signed_bytes.len, p->signature.data,
                                p->signature.len);
    crypto_key_free(key);
    return err == DBE_E_AUTH ? bad(diag, "the list was not signed by this mesh's CA") : err;
}

dbe_err crl_read(const struct dbe_trust *trust, const uint8_t *der, size_t len, struct crl **ret,
                 struct dbe_diag *diag)
{
    struct der_span issuer = {0};
    struct crl *crl = NULL;
    struct parts p;

    DBE_TRY(split(der, len, &p, diag));
    DBE_TRY(check_signature(trust, &p, diag));
    DBE_TRY(parse_parts(der, len, &p, &crl, &issuer, diag));
    if (!is_issuer(trust, issuer)) {
        crl_free(crl);
        return bad(diag, "the list was not issued by this mesh's CA");
    }
    *ret = crl;
    return DBE_OK;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

/* One Extension, not critical. */
static void put_extension(struct base_buf *out, struct der_span oid, const struct base_buf *value)
{
    uint8_t mem[128];
    struct base_buf b;

    base_buf_init_fixed(&b, mem, sizeof mem);
    der_put(&b, DER_OID, oid.data, oid.len);
    der_put(&b, DER_OCTETS, value->data, value->len);
    if (b.err != DBE_OK || value->err != DBE_OK)
        out->err = DBE_E_TOO_LARGE;
    else
        der_put(out, DER_SEQ, b.data, b.len);
}

static void put_entry(struct base_buf *out, const struct crl_entry *e)
{
    uint8_t mem[128], ext_mem[64], value_mem[8];
    struct base_buf b, ext, value;

    base_buf_init_fixed(&b, mem, sizeof mem);
    der_put_magnitude(&b, e->serial, e->serial_len);
    if (!der_put_time_ms(&b, e->revoked_ms))
        b.err = DBE_E_RANGE;
    if (e->reason != DBE_REVOKE_UNSPECIFIED) { /* RFC 5280, section 5.3.1: left out rather than said */
        base_buf_init_fixed(&value, value_mem, sizeof value_mem);
        base_buf_init_fixed(&ext, ext_mem, sizeof ext_mem);
        der_put(&value, DER_ENUM, &e->reason, 1);
        put_extension(&ext, SPAN(oid_reason), &value);
        der_put(&b, DER_SEQ, ext.data, ext.len);
    }
    if (b.err != DBE_OK)
        out->err = b.err;
    else
        der_put(out, DER_SEQ, b.data, b.len);
}

/* authorityKeyIdentifier with the CA's key identifier, and crlNumber. */
static void put_list_extensions(struct base_buf *out, const struct dbe_trust *trust, uint64_t number)
{
    const ASN1_OCTET_STRING *id = X509_get0_subject_key_id(trust->ca);
    uint8_t mem[256], seq_mem[256], value_mem[96], id_mem[64];
    struct base_buf b, value, inner, seq;

    base_buf_init_fixed(&b, mem, sizeof mem);
    if (id != NULL) {
        base_buf_init_fixed(&inner, id_mem, sizeof id_mem);
        der_put(&inner, 0x80, ASN1_STRING_get0_data(id), (size_t)ASN1_STRING_length(id)); /* [0] keyIdentifier */
        base_buf_init_fixed(&value, value_mem, sizeof value_mem);
        der_put(&value, DER_SEQ, inner.data, inner.len);
        put_extension(&b, SPAN(oid_authority_key), &value);
    }
    base_buf_init_fixed(&value, value_mem, sizeof value_mem);
    der_put_uint(&value, number);
    put_extension(&b, SPAN(oid_crl_number), &value);
    base_buf_init_fixed(&seq, seq_mem, sizeof seq_mem);
    der_put(&seq, DER_SEQ, b.data, b.len);
    if (b.err != DBE_OK || seq.err != DBE_OK)
        out->err = DBE_E_TOO_LARGE;
    else
        der_put(out, DER_CTX_0, seq.data, seq.len);
}

/* Content of TBSCertList. */
static dbe_err put_tbs(struct base_buf *out, const struct dbe_trust *trust, const struct crl_entry *entries,
                       size_t count, uint64_t number, uint64_t now_ms)
{
    const unsigned char *name = NULL;
    size_t name_len = 0;
    struct base_buf list;

    if (X509_NAME_get0_der(X509_get_subject_name(trust->ca), &name, &name_len) != 1)
        return DBE_E_CRYPTO;
    der_put_uint(out, CRL_V2);
    der_put(out, DER_SEQ, mldsa87, sizeof mldsa87);
    base_buf_bytes(out, name, name_len);
    if (!der_put_time_ms(out, now_ms) || !der_put_time_ms(out, BASE_MAX(now_ms, trust->not_after_ms)))
        return DBE_E_RANGE;
    base_buf_init(&list, DBE_CRL_MAX_BYTES);
    for (size_t i = 0; i < count; i++)
        put_entry(&list, &entries[i]);
    if (count > 0)
        der_put(out, DER_SEQ, list.data, list.len);
    dbe_err err = list.err;
    base_buf_free(&list);
    put_list_extensions(out, trust, number);
    return err != DBE_OK ? err : out->err;
}

dbe_err crl_make(const struct dbe_trust *trust, const struct crypto_key *ca_key, struct crl_entry *entries,
                 size_t count, uint64_t number, uint64_t now_ms, struct base_buf *der)
{
    uint8_t bits[1 + CRYPTO_MLDSA87_SIG_BYTES] = {0};
    struct base_buf content, parts;

    if (count > DBE_REVOKED_MAX || number == 0 || number > INT64_MAX)
        return DBE_E_LIMIT;
    if (count > 0)
        qsort(entries, count, sizeof *entries, crl_entry_order);
    base_buf_init(&content, DBE_CRL_MAX_BYTES - SIGNATURE_ROOM_BYTES);
    base_buf_init(&parts, DBE_CRL_MAX_BYTES);
    dbe_err err = put_tbs(&content, trust, entries, count, number, now_ms);
    if (err == DBE_OK) {
        der_put(&parts, DER_SEQ, content.data, content.len);
        err = parts.err;
    }
    if (err == DBE_OK)
        err = crypto_sign(ca_key, "", parts.data, parts.len, bits + 1);
    if (err == DBE_OK) {
        der_put(&parts, DER_SEQ, mldsa87, sizeof mldsa87);
        der_put(&parts, DER_BITS, bits, sizeof bits);
        err = parts.err;
    }
    if (err == DBE_OK) {
        der_put(der, DER_SEQ, parts.data, parts.len);
        err = der->err;
    }
    base_buf_free(&content);
    base_buf_free(&parts);
    return err;
}
