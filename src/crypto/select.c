/* SPDX-License-Identifier: Apache-2.0
 *
 * select.c - which backend does which primitives.
 *
 * In:   the text of dbe_crypto_select, or of the environment's DSMIL_CRYPTO, once, in crypto_init
 * Out:  the suites' ops, and the text about the backends of this build
 * Not:  no fallback. A backend that was asked for and is absent, or fails its own test, is an error, not OpenSSL.
 */
#include "crypto/backend/backend.h"
#include "crypto/secret.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ENVIRONMENT "DSMIL_CRYPTO"

static const struct crypto_backend *const backends[] = {
    &crypto_openssl,
#ifdef CRYPTO_HAVE_IPSECMB
    &crypto_ipsecmb,
#endif
#ifdef CRYPTO_HAVE_OQS
    &crypto_oqs,
#endif
};

static struct {
    struct crypto_choice choice;
    bool chosen, ready;
    char version[256];
} crypto;

enum { BACKENDS_TEXT_BYTES = 1024 };
static char backends_text[BACKENDS_TEXT_BYTES];

size_t crypto_backends(const struct crypto_backend *const **ret)
{
    *ret = backends;
    return BASE_ARRAY_LEN(backends);
}

static const struct crypto_backend *find(const char *name, size_t len)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(backends); i++)
        if (strlen(backends[i]->name) == len && memcmp(backends[i]->name, name, len) == 0)
            return backends[i];
    return NULL;
}

const struct crypto_backend *crypto_backend(const char *name)
{
    return find(name, strlen(name));
}

/* ---- the choice ------------------------------------------------------------------------------------------------- */

enum slot { SLOT_ECDH, SLOT_KEM, SLOT_SIG, SLOT_AEAD, SLOTS };
static const char *const slot_names[SLOTS] = {"ecdh", "kem", "sig", "aead"};

static bool fills(const struct crypto_backend *b, enum slot slot)
{
    const bool has[SLOTS] = {b->ecdh[0] != NULL, b->kem[0] != NULL, b->sig[0] != NULL, b->aead[0] != NULL};

    return has[slot];
}

static const struct crypto_backend **slot_of(struct crypto_choice *choice, enum slot slot)
{
    const struct crypto_backend **at[SLOTS] = {&choice->ecdh, &choice->kem, &choice->sig, &choice->aead};

    return at[slot];
}

/* The names of the backends that can fill `slot`, for a diag. */
static const char *present(enum slot slot, char *text, size_t cap)
{
    struct base_buf b;

    base_buf_init_fixed(&b, text, cap);
    for (size_t i = 0; i < BASE_ARRAY_LEN(backends); i++)
        if (fills(backends[i], slot))
            base_buf_fmt(&b, "%s%s", b.len > 0 ? ", " : "", backends[i]->name);
    return base_buf_cstr(&b);
}

/* One "slot=backend" of `len` bytes. */
static dbe_err parse_one(const char *text, size_t len, const char *where, size_t offset, struct crypto_choice *choice,
                         struct dbe_diag *diag)
{
    const char *equals = memchr(text, '=', len);
    enum slot slot = SLOT_ECDH;
    char names[128];

    if (equals == NULL)
        return dbe_fail(diag, DBE_E_ARGUMENT, where, offset, "\"%.*s\" is not of the form slot=backend",
                        (int)BASE_MIN(len, sizeof names), text);

    size_t slot_len = (size_t)(equals - text), name_len = len - slot_len - 1;

    while (slot < SLOTS && (strlen(slot_names[slot]) != slot_len || memcmp(slot_names[slot], text, slot_len) != 0))
        slot++;
    if (slot == SLOTS)
        return dbe_fail(diag, DBE_E_ARGUMENT, where, offset, "no slot \"%.*s\"; there are ecdh, kem, sig and aead",
                        (int)BASE_MIN(slot_len, sizeof names), text);

    const struct crypto_backend *backend = find(equals + 1, name_len), **at = slot_of(choice, slot);

    if (*at != NULL)
        return dbe_fail(diag, DBE_E_ARGUMENT, where, offset, "%s is named twice", slot_names[slot]);
    if (backend == NULL || !fills(backend, slot))
        return dbe_fail(diag, DBE_E_UNSUPPORTED, where, offset, "no backend \"%.*s\" for %s in this build; it has %s",
                        (int)BASE_MIN(name_len, sizeof names / 2), equals + 1, slot_names[slot],
                        present(slot, names, sizeof names));
    *at = backend;
    return DBE_OK;
}

dbe_err crypto_choice_parse(const char *spec, const char *where, struct crypto_choice *ret, struct dbe_diag *diag)
{
    struct crypto_choice choice = {0};
    const char *at = spec;

    while (*spec != '\0') {
        size_t len = strcspn(at, ",");

        DBE_TRY(parse_one(at, len, where, (size_t)(at - spec), &choice, diag));
        if (at[len] == '\0')
            break;
        at += len + 1;
    }
    *ret = choice;
    return DBE_OK;
}

dbe_err dbe_crypto_select(const char *spec, struct dbe_diag *diag)
{
    if (crypto.ready)
        return dbe_fail(diag, DBE_E_STATE, "dbe_crypto_select", 0,
                        "the library is in use; choose before anything else");
    DBE_TRY(crypto_choice_parse(spec, "dbe_crypto_select", &crypto.choice, diag));
    crypto.chosen = true;
    return DBE_OK;
}

/* ---- start ------------------------------------------------------------------------------------------------------ */

static void write_version(void)
{
    struct base_buf b;

    base_buf_init_fixed(&b, crypto.version, sizeof crypto.version);
    base_buf_str(&b, crypto_openssl.version());
    for (enum slot slot = SLOT_ECDH; slot < SLOTS; slot++) {
        const struct crypto_backend *backend = *slot_of(&crypto.choice, slot);

        if (backend != NULL && backend != &crypto_openssl)
            base_buf_fmt(&b, "; %s by %s", slot_names[slot], backend->version());
    }
    (void)base_buf_cstr(&b);
}

dbe_err crypto_init(struct dbe_diag *diag)
{
    struct crypto_choice choice = crypto.choice;
    const char *spec = secure_getenv(ENVIRONMENT);

    if (crypto.ready)
        return DBE_OK;
    (void)crypto_secret_serve_openssl();
    DBE_TRY(crypto_openssl.init(diag));
    if (!crypto.chosen && spec != NULL)
        DBE_TRY(crypto_choice_parse(spec, ENVIRONMENT, &choice, diag));
    for (enum slot slot = SLOT_ECDH; slot < SLOTS; slot++) {
        const struct crypto_backend *backend = *slot_of(&choice, slot);

        if (backend != NULL)
            DBE_TRY(backend->init(diag));
    }
    crypto_suites_resolve(&choice);
    crypto_key_use(crypto_suite(CRYPTO_SUITE_1)->sig);
    crypto.choice = choice;
    write_version();
    crypto.ready = true;
    return DBE_OK;
}

/* ---- for people ------------------------------------------------------------------------------------------------- */

const char *crypto_backend_version(void)
{
    return crypto.ready ? crypto.version : crypto_openssl.version();
}

static void write_backends(void)
{
    struct base_buf b;

    base_buf_init_fixed(&b, backends_text, sizeof backends_text);
    for (size_t i = 0; i < BASE_ARRAY_LEN(backends); i++) {
        base_buf_fmt(&b, "%s:", backends[i]->name);
        for (enum slot slot = SLOT_ECDH; slot < SLOTS; slot++)
            if (fills(backends[i], slot))
                base_buf_fmt(&b, " %s", slot_names[slot]);
        base_buf_fmt(&b, " (%s)\n", backends[i]->version());
    }
    (void)base_buf_cstr(&b);
}

const char *dbe_crypto_backends(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, write_backends);
    return backends_text;
}
