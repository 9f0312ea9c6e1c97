/* SPDX-License-Identifier: Apache-2.0
 *
 * bundle.c - bundles: their text, and how the CA's machine writes one.
 *
 * In:   the key store; or text    Out: a signed file; or parts
 * Does: reads strictly: each part that was read, written again, is the same text.
 * Does not: believe anything it reads, nor install it: bundle_import.c.
 */
#include "bundle.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "armour.h"
#include "issue.h"

static const char clause[] = "bundle";

static const char first_line[] = "DSMIL bundle 1";
static const char cert_label[] = "CERTIFICATE", list_label[] = "X509 CRL", sig_label[] = "DSMIL BUNDLE SIGNATURE";

enum { LINE_MAX_BYTES = 200, NUMBER_MAX_DIGITS = 19 };

/* ---- lines ------------------------------------------------------------------------------------------------------- */

/* Take one line "<field><value>\n"; the value goes to `ret`. */
static void take_line(struct base_cur *c, const char *field, char *ret, size_t cap)
{
    size_t skip = strlen(field);
    const uint8_t *end = c->bad ? NULL : memchr(c->at, '\n', BASE_MIN(base_cur_left(c), (size_t)LINE_MAX_BYTES));
    size_t len = end != NULL ? (size_t)(end - c->at) : 0;

    ret[0] = '\0';
    if (end == NULL || len < skip || len - skip >= cap || memcmp(c->at, field, skip) != 0 ||
        memchr(c->at, '\0', len) != NULL) {
        c->bad = true;
        return;
    }
    memcpy(ret, c->at + skip, len - skip);
    ret[len - skip] = '\0';
    (void)base_cur_bytes(c, len + 1);
}

static bool is_time(const char *text)
{
    static const char form[] = "dddd-dd-ddTdd:dd:ddZ";

    for (size_t i = 0; i < sizeof form; i++)
        if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
            return false;
    return true;
}

/* A number in decimal without leading zeros, below 2^63. */
static bool read_number(const char *text, uint64_t *ret)
{
    size_t len = strlen(text);
    uint64_t value = 0;

    if (len == 0 || len > NUMBER_MAX_DIGITS || (text[0] == '0' && len > 1) || strspn(text, "0123456789") != len)
        return false;
    for (size_t i = 0; i < len; i++)
        value = value * 10 + (uint64_t)(text[i] - '0');
    *ret = value;
    return value <= INT64_MAX;
}

/* ---- parts ------------------------------------------------------------------------------------------------------- */

void bundle_head_init(struct bundle_head *head)
{
    *head = (struct bundle_head){0};
    base_buf_init(&head->ca, DBE_CERT_MAX_BYTES);
    base_buf_init(&head->list, DBE_CRL_MAX_BYTES);
}

void bundle_head_fini(struct bundle_head *head)
{
    base_buf_free(&head->ca);
    base_buf_free(&head->list);
}

dbe_err bundle_take_head(struct base_cur *c, struct bundle_head *ret)
{
    char nothing[2], number[NUMBER_MAX_DIGITS + 1];

    take_line(c, first_line, nothing, sizeof nothing);
    take_line(c, "mesh: ", ret->mesh, sizeof ret->mesh);
    take_line(c, "made: ", ret->made, sizeof ret->made);
    take_line(c, "list: ", number, sizeof number);
    if (c->bad || nothing[0] != '\0' || !is_time(ret->made) || !read_number(number, &ret->list_number)) {
        c->bad = true;
        return DBE_E_MALFORMED;
    }
    DBE_TRY(armour_take(c, cert_label, &ret->ca));
    return ret->list_number == 0 ? DBE_OK : armour_take(c, list_label, &ret->list);
}

dbe_err bundle_take_node(struct base_cur *c, char name[KEYS_NAME_MAX_BYTES + 1], struct base_buf *der)
{
    take_line(c, "name: ", name, KEYS_NAME_MAX_BYTES + 1);
    if (c->bad || name[0] == '\0') {
        c->bad = true;
        return DBE_E_MALFORMED;
    }
    return armour_take(c, cert_label, der);
}

void bundle_put_head(struct base_buf *out, const struct bundle_head *head)
{
    base_buf_fmt(out, "%s\nmesh: %s\nmade: %s\nlist: %llu\n", first_line, head->mesh, head->made,
                 (unsigned long long)head->list_number);
    armour_put(out, cert_label, head->ca.data, head->ca.len);
    if (head->list_number != 0)
        armour_put(out, list_label, head->list.data, head->list.len);
}

void bundle_put_node(struct base_buf *out, const char *name, const struct base_buf *der)
{
    base_buf_fmt(out, "name: %s\n", name);
    armour_put(out, cert_label, der->data, der->len);
}

void bundle_put_signature(struct base_buf *out, const uint8_t signature[CRYPTO_MLDSA87_SIG_BYTES])
{
    armour_put(out, sig_label, signature, CRYPTO_MLDSA87_SIG_BYTES);
}

dbe_err bundle_split(const uint8_t *text, size_t len, struct bundle_halves *ret)
{
    static const uint8_t any[CRYPTO_MLDSA87_SIG_BYTES];
    struct base_buf block, sig;

    base_buf_init(&block, 2 * CRYPTO_MLDSA87_SIG_BYTES);
    base_buf_init_fixed(&sig, ret->signature, sizeof ret->signature);
    bundle_put_signature(&block, any); /* they all have this length */
    dbe_err err = block.err != DBE_OK ? block.err : len < block.len ? DBE_E_MALFORMED : DBE_OK;
    if (err == DBE_OK) {
        struct base_cur c = base_cur_of(text + len - block.len, block.len);
        ret->text = text;
        ret->signed_len = len - block.len;
        err = armour_take(&c, sig_label, &sig);
        if (err == DBE_OK)
            err = base_cur_end(&c);
        if (err == DBE_OK && sig.len != sizeof ret->signature)
            err = DBE_E_MALFORMED;
    }
    base_buf_free(&block);
    return err;
}

/* ---- export ------------------------------------------------------------------------------------------------------ */

static dbe_err fill_head(const struct keys_signer *s, struct bundle_head *head)
{
    time_t now = (time_t)(base_wall_ms() / 1000);
    struct tm tm;
    const uint8_t *list = NULL;
    size_t list_len = 0;
    int n = i2d_X509(s->trust->ca, NULL);
    unsigned char *at = n > 0 ? base_buf_grow(&head->ca, (size_t)n) : NULL;

    if (at == NULL || i2d_X509(s->trust->ca, &at) != n || gmtime_r(&now, &tm) == NULL ||
        strftime(head->made, sizeof head->made, "%Y-%m-%dT%H:%M:%SZ", &tm) != BUNDLE_TIME_BYTES)
        return head->ca.err != DBE_OK ? head->ca.err : DBE_E_CRYPTO;
    memcpy(head->mesh, s->trust->mesh, sizeof head->mesh);
    dbe_trust_revocations(s->trust, &list, &list_len, &head->list_number);
    if (list_len > 0)
        base_buf_bytes(&head->list, list, list_len);
    return head->list.err;
}

/* The certificates in good standing, sorted by name. */
static dbe_err put_nodes(const char *dir, const struct dbe_trust *trust, struct base_buf *out, size_t *ret_count,
                         struct dbe_diag *diag)
{
    char **names = base_alloc(KEYS_LIST_MAX, sizeof *names);
    size_t count = 0, in = 0;
    dbe_err err = names == NULL ? dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory to list the certificates")
                                : keys_collect(dir, names, &count, diag);

    for (size_t i = 0; i < count; i++) {
        struct dbe_identity id = {0};
        struct base_buf der;
        base_buf_init(&der, DBE_CERT_MAX_BYTES);
        if (err == DBE_OK && keys_read_cert(dir, names[i], trust, &id, NULL, &der, NULL) == DBE_OK &&
            cert_check_standing(trust, &id, base_wall_ms(), NULL) == DBE_OK) {
            bundle_put_node(out, names[i], &der);
            in++;
        }
        base_buf_free(&der);
        base_free(names[i]);
    }
    base_free(names);
    *ret_count = in;
    return err;
}

static dbe_err put_bundle(const char *dir, const struct keys_signer *s, struct base_buf *out, size_t *ret_count,
                          struct dbe_diag *diag)
{
    uint8_t signature[CRYPTO_MLDSA87_SIG_BYTES];
    struct bundle_head head;

    bundle_head_init(&head);
    dbe_err err = fill_head(s, &head);
    if (err == DBE_OK)
        bundle_put_head(out, &head);
    else
        (void)dbe_fail(diag, err, clause, 0, "cannot make the bundle");
    bundle_head_fini(&head);
    DBE_TRY(err);
    DBE_TRY(put_nodes(dir, s->trust, out, ret_count, diag));
    err = out->err;
    if (err == DBE_OK)
        err = crypto_sign(s->key, BUNDLE_SIGNATURE_CTX, out->data, out->len, signature);
    if (err == DBE_OK) {
        bundle_put_signature(out, signature);
        err = out->err;
    }
    return err == DBE_OK ? DBE_OK : dbe_fail(diag, err, clause, 0, "cannot make the bundle");
}

dbe_err dbe_keys_bundle_export(const char *dir, const char *path, size_t *ret_count, struct dbe_diag *diag)
{
    struct keys_signer s = {0};
    struct base_buf out;
    size_t count = 0;
    BASE_AUTO_CLOSE int lock = -1;

    DBE_TRY(crypto_init(diag));
    DBE_TRY(keys_lock(dir, &lock, diag));
    base_buf_init(&out, DBE_BUNDLE_MAX_BYTES);
    dbe_err err = keys_signer_load(dir, &s, diag);
    if (err == DBE_OK)
        err = put_bundle(dir, &s, &out, &count, diag);
    if (err == DBE_OK)
        err = base_file_write(path, out.data, out.len, 0644, diag);
    base_buf_free(&out);
    keys_signer_fini(&s);
    if (err == DBE_OK && ret_count != NULL)
        *ret_count = count;
    return err;
}
