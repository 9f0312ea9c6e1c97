/* SPDX-License-Identifier: Apache-2.0
 *
 * bundle_import.c - takes a bundle into a key store.
 *
 * In:   a file from anywhere, a fingerprint from elsewhere or a store that knows the CA    Out: files that are newer
 * Does: believes in order: the CA's certificate by its fingerprint, the whole text by the CA's signature, each part by
 *       its own; only then writes, each file in one step.
 * Does not: make or move a private key.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "bundle.h"
#include "issue.h"

static const char clause[] = "bundle";

struct import {
    const char *dir;
    dbe_bundle_fn *fn;
    void *ctx;
    struct base_buf text;
    struct bundle_head head;
    struct dbe_trust *trust; /* the bundle's CA, with the bundle's list */
    struct base_cur nodes;   /* the certificates in the text */
};

static void tell(const struct import *im, const char *part, bool installed, const char *why)
{
    if (im->fn != NULL)
        im->fn(im->ctx, part, installed, why);
}

/* ---- believing --------------------------------------------------------------------------------------------------- */

static dbe_err damaged(dbe_err err, struct dbe_diag *diag)
{
    if (err == DBE_E_NOMEM)
        return dbe_fail(diag, err, clause, 0, "no memory to read the bundle");
    return dbe_fail(diag, DBE_E_CERT, clause, 0, "the file is damaged, or is no bundle");
}

/* The CA's certificate in the bundle: by the fingerprint, or as the one that the store has. */
static dbe_err trust_ca(struct import *im, const uint8_t *fingerprint, struct dbe_diag *diag)
{
    struct dbe_trust *own = NULL;
    X509 *x = NULL;
    char hex[2 * CRYPTO_HASH_BYTES + 1];

    DBE_TRY(cert_parse(im->head.ca.data, im->head.ca.len, &x, diag));
    im->trust = base_alloc(1, sizeof *im->trust);
    dbe_err err = im->trust == NULL ? dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory to read the bundle")
                                    : cert_read_ca(x, im->trust, diag);
    if (err != DBE_OK) {
        X509_free(x);
        base_free(im->trust);
        im->trust = NULL;
        return err;
    }
    base_hex(im->trust->fingerprint, CRYPTO_HASH_BYTES, hex);
    if (strcmp(im->head.mesh, im->trust->mesh) != 0)
        return damaged(DBE_E_CERT, diag);
    if (fingerprint != NULL && memcmp(fingerprint, im->trust->fingerprint, CRYPTO_HASH_BYTES) != 0)
        return dbe_fail(diag, DBE_E_CERT, clause, 0, "the bundle's CA has another fingerprint: %.128s", hex);
    if (!keys_file_there(im->dir, "ca", "crt"))
        return fingerprint != NULL ? DBE_OK
                                   : dbe_fail(diag, DBE_E_CERT, clause, 0,
                                              "%.60s holds no mesh yet: ask who made the bundle for the CA's "
                                              "fingerprint, and give it (--fingerprint)", im->dir);
    DBE_TRY(keys_load_ca(im->dir, &own, diag));
    bool same = memcmp(own->fingerprint, im->trust->fingerprint, CRYPTO_HASH_BYTES) == 0;
    dbe_trust_free(own);
    return same ? DBE_OK
                : dbe_fail(diag, DBE_E_EXISTS, clause, 0, "%.80s holds another mesh than the bundle's, which is %.60s",
                           im->dir, im->head.mesh);
}

static dbe_err check_signature(const struct import *im, const struct bundle_halves *halves, struct dbe_diag *diag)
{
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    size_t len = sizeof pk;
    struct crypto_key *key = NULL;

    if (EVP_PKEY_get_raw_public_key(X509_get0_pubkey(im->trust->ca), pk, &len) != 1 || len != sizeof pk)
        return damaged(DBE_E_CERT, diag);
    DBE_TRY(crypto_key_from_public(pk, &key));
    dbe_err err = crypto_verify(key, BUNDLE_SIGNATURE_CTX, halves->text, halves->signed_len, halves->signature,
                                sizeof halves->signature);
    crypto_key_free(key);
    return err == DBE_E_AUTH ? dbe_fail(diag, DBE_E_CERT, clause, 0, "the bundle is not signed by its CA") : err;
}

/* Every certificate is this CA's, under a name that can stand, once, in order. */
static dbe_err check_nodes(const struct import *im, struct dbe_diag *diag)
{
    struct base_cur c = im->nodes;
    char last[KEYS_NAME_MAX_BYTES + 1] = "", name[KEYS_NAME_MAX_BYTES + 1], path[PATH_MAX];
    size_t count = 0;

    while (base_cur_left(&c) > 0) {
        struct base_buf der;
        struct dbe_identity id = {0};
        X509 *x = NULL;
        base_buf_init(&der, DBE_CERT_MAX_BYTES);
        dbe_err err = bundle_take_node(&c, name, &der);
        if (err != DBE_OK || count++ == DBE_BUNDLE_NODES_MAX || strcmp(last, name) >= 0 || strcmp(name, "ca") == 0 ||
            dbe_keys_path(im->dir, name, "crt.next", path, sizeof path) != DBE_OK)
            err = damaged(err, diag);
        if (err == DBE_OK)
            err = cert_parse(der.data, der.len, &x, diag);
        if (err == DBE_OK)
            err = cert_read_node(im->trust, x, &id, NULL, diag);
        X509_free(x);
        base_buf_free(&der);
        DBE_TRY(err);
        memcpy(last, name, sizeof last);
    }
    return DBE_OK;
}

static dbe_err believe(struct import *im, const uint8_t *fingerprint, struct dbe_diag *diag)
{
    struct bundle_halves halves;
    struct base_cur c;
    dbe_err err = bundle_split(im->text.data, im->text.len, &halves);

    if (err != DBE_OK)
        return damaged(err, diag);
    c = base_cur_of(halves.text, halves.signed_len);
    err = bundle_take_head(&c, &im->head);
    if (err != DBE_OK)
        return damaged(err, diag);
    DBE_TRY(trust_ca(im, fingerprint, diag));
    DBE_TRY(check_signature(im, &halves, diag));
    if (im->head.list_number != 0)
        DBE_TRY(dbe_trust_set_revocations(im->trust, im->head.list.data, im->head.list.len, diag));
    if (im->head.list_number != 0 && im->trust->revoked->number != im->head.list_number)
        return damaged(DBE_E_CERT, diag);
    im->nodes = c;
    return check_nodes(im, diag);
}

/* ---- installing -------------------------------------------------------------------------------------------------- */

/* A key of this name lies here: is it the certificate's? */
static const char *key_objects(const char *dir, const char *name, const uint8_t *pk)
{
    uint8_t in_key[CRYPTO_MLDSA87_PK_BYTES];
    struct crypto_key *key = NULL;

    if (!keys_file_there(dir, name, "key"))
        return NULL;
    if (keys_read_key(dir, name, "key", &key, NULL) != DBE_OK)
        return "a key of this name lies here and cannot be opened";
    dbe_err err = crypto_key_public(key, in_key);
    crypto_key_free(key);
    return err == DBE_OK && memcmp(in_key, pk, sizeof in_key) == 0
               ? NULL
               : "a key of this name lies here, and the certificate is not for it";
}

/* NULL: install it. Otherwise why not. */
static const char *node_objects(const struct import *im, const char *name, const struct base_buf *der)
{
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    struct dbe_identity id = {0}, old = {0};
    struct base_buf old_der;
    X509 *x = NULL;

    if (cert_parse(der->data, der->len, &x, NULL) != DBE_OK)
        return "it cannot be read";
    dbe_err err = cert_read_node(im->trust, x, &id, pk, NULL);
    X509_free(x);
    if (err != DBE_OK || cert_check_standing(im->trust, &id, base_wall_ms(), NULL) != DBE_OK)
        return "it is revoked or outside its validity";
    if (!keys_file_there(im->dir, name, "crt"))
        return key_objects(im->dir, name, pk);
    base_buf_init(&old_der, DBE_CERT_MAX_BYTES);
    err = keys_read_cert(im->dir, name, im->trust, &old, NULL, &old_der, NULL);
    bool same = old_der.len == der->len && memcmp(old_der.data, der->data, der->len) == 0;
    base_buf_free(&old_der);
    if (err != DBE_OK)
        return "what lies here under this name cannot be read: move it away";
    if (same)
        return "it is here already";
    if (strcmp(old.spiffe_id, id.spiffe_id) != 0)
        return "another identity lies here under this name";
    if (old.not_before_ms >= id.not_before_ms)
        return "the one that is here is newer";
    return key_objects(im->dir, name, pk);
}

static dbe_err install_nodes(struct import *im, struct dbe_diag *diag)
{
    char name[KEYS_NAME_MAX_BYTES + 1];
    dbe_err err = DBE_OK;

    while (err == DBE_OK && base_cur_left(&im->nodes) > 0) {
        struct base_buf der;
        base_buf_init(&der, DBE_CERT_MAX_BYTES);
        err = bundle_take_node(&im->nodes, name, &der);
        if (err != DBE_OK) {
            err = damaged(err, diag);
        } else {
            const char *why = node_objects(im, name, &der);
            if (why == NULL)
                err = keys_write_cert(im->dir, name, "crt", &der, diag);
            if (err == DBE_OK)
                tell(im, name, why == NULL, why);
        }
        base_buf_free(&der);
    }
    return err;
}

static dbe_err install(struct import *im, struct dbe_diag *diag)
{
    bool have_ca = keys_file_there(im->dir, "ca", "crt");

    if (!have_ca)
        DBE_TRY(keys_write_cert(im->dir, "ca", "crt", &im->head.ca, diag));
    tell(im, "ca", !have_ca, have_ca ? "it is here already" : NULL);
    if (im->head.list_number != 0) {
        dbe_err err = keys_save_list(im->dir, im->head.list.data, im->head.list.len, diag);
        if (err != DBE_OK && err != DBE_E_EXISTS)
            return err;
        tell(im, "list", err == DBE_OK, err == DBE_OK ? NULL : "the one that is here is as new");
    }
    return install_nodes(im, diag);
}

dbe_err dbe_keys_bundle_import(const char *dir, const char *path, const uint8_t *fingerprint, dbe_bundle_fn *fn,
                               void *ctx, struct dbe_diag *diag)
{
    struct import im = {.dir = dir, .fn = fn, .ctx = ctx};
    BASE_AUTO_CLOSE int lock = -1;

    DBE_TRY(crypto_init(diag));
    bundle_head_init(&im.head);
    base_buf_init(&im.text, DBE_BUNDLE_MAX_BYTES);
    dbe_err err = base_file_read(path, DBE_BUNDLE_MAX_BYTES, &im.text, diag);
    if (err == DBE_OK && fingerprint != NULL)
        err = base_mkdirs(dir, 0700, diag);
    if (err == DBE_OK && (err = keys_lock(dir, &lock, diag)) == DBE_E_NOT_FOUND)
        err = dbe_fail(diag, err, clause, 0, "there is no key store in %.80s: to make it, give the CA's fingerprint "
                       "(--fingerprint)", dir);
    if (err == DBE_OK)
        err = believe(&im, fingerprint, diag);
    if (err == DBE_OK)
        err = install(&im, diag);
    dbe_trust_free(im.trust);
    bundle_head_fini(&im.head);
    base_buf_free(&im.text);
    return err;
}
