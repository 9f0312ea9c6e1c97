/* SPDX-License-Identifier: Apache-2.0
 *
 * ipsecmb.c - AES-256-GCM (NIST SP 800-38D) by intel-ipsec-mb, one context per key and direction.
 *
 * Does: the library chooses its code for this processor once, and tests itself; a record is one call of its direct
 *       interface, without jobs. The key schedule and the working state lie in secret memory.
 * Not:  it does not know which IVs were used: that each is new is the record layer's invariant.
 */
#include "crypto/backend/backend.h"
#include "crypto/secret.h"

#include <limits.h>
#include <string.h>

#include <intel-ipsec-mb.h>

/* Function pointers for this processor; read-only once made, so threads share it. Lives as long as the process. */
static IMB_MGR *mgr;

struct crypto_aead_ctx {
    struct gcm_key_data key; /* its type asks for 64 bytes' alignment, which is what secret memory gives */
    struct gcm_context_data work;
    bool seal;
};
_Static_assert(_Alignof(struct crypto_aead_ctx) <= CRYPTO_SECRET_ALIGN, "what crypto_secret_alloc aligns to");

static void gcm_free(struct crypto_aead_ctx *ctx)
{
    crypto_secret_free(ctx);
}

static dbe_err gcm_new(const uint8_t key[CRYPTO_AEAD_KEY_BYTES], bool seal, struct crypto_aead_ctx **ret)
{
    struct crypto_aead_ctx *ctx;

    if (mgr == NULL)
        return DBE_E_STATE;
    ctx = crypto_secret_alloc(sizeof *ctx);
    if (ctx == NULL)
        return DBE_E_NOMEM;
    ctx->seal = seal;
    IMB_AES256_GCM_PRE(mgr, key, &ctx->key);
    *ret = ctx;
    return DBE_OK;
}

static dbe_err gcm_seal(struct crypto_aead_ctx *ctx, const uint8_t iv[CRYPTO_AEAD_IV_BYTES], const void *aad,
                        size_t aad_len, const void *in, size_t len, uint8_t *out)
{
    if (!ctx->seal)
        return DBE_E_STATE;
    if (len > INT_MAX - CRYPTO_AEAD_TAG_BYTES || aad_len > INT_MAX)
        return DBE_E_TOO_LARGE;
    IMB_AES256_GCM_ENC(mgr, &ctx->key, &ctx->work, out, in, len, iv, aad, aad_len, out + len, CRYPTO_AEAD_TAG_BYTES);
    return DBE_OK;
}

/* base_equal_ct in two words: its bytes cost a third of the opening of a small record. */
static bool tag_equal(const uint8_t a[CRYPTO_AEAD_TAG_BYTES], const uint8_t b[CRYPTO_AEAD_TAG_BYTES])
{
    uint64_t x[2], y[2], diff;

    memcpy(x, a, sizeof x);
    memcpy(y, b, sizeof y);
    diff = (x[0] ^ y[0]) | (x[1] ^ y[1]);
    __asm__("" : "+r"(diff)); /* nothing may be concluded from one word alone */
    return diff == 0;
}

static dbe_err gcm_open(struct crypto_aead_ctx *ctx, const uint8_t iv[CRYPTO_AEAD_IV_BYTES], const void *aad,
                        size_t aad_len, const void *in, size_t len, uint8_t *out)
{
    uint8_t tag[CRYPTO_AEAD_TAG_BYTES];
    size_t text_len;

    if (ctx->seal)
        return DBE_E_STATE;
    if (len < CRYPTO_AEAD_TAG_BYTES)
        return DBE_E_AUTH;
    if (len > INT_MAX || aad_len > INT_MAX)
        return DBE_E_TOO_LARGE;
    text_len = len - CRYPTO_AEAD_TAG_BYTES;
    IMB_AES256_GCM_DEC(mgr, &ctx->key, &ctx->work, out, in, text_len, iv, aad, aad_len, tag, sizeof tag);
    if (tag_equal(tag, (const uint8_t *)in + text_len)) /* `out` ends before the tag, over `in` too */
        return DBE_OK;
    base_wipe(out, text_len);   /* plain text that nobody vouches for */
    base_wipe(tag, sizeof tag); /* what would have been right */
    return DBE_E_AUTH;
}

static const struct crypto_aead ipsecmb_aes_256_gcm = {
    .name = "AES-256-GCM",
    .new_ctx = gcm_new,
    .free_ctx = gcm_free,
    .seal = gcm_seal,
    .open = gcm_open,
};

static const char *ipsecmb_version(void)
{
    return "intel-ipsec-mb " IMB_VERSION_STR;
}

static dbe_err ipsecmb_init(struct dbe_diag *diag)
{
    IMB_ARCH arch = IMB_ARCH_NONE;
    IMB_MGR *made;

    if (mgr != NULL)
        return DBE_OK;
    if (imb_get_version() < IMB_VERSION_NUM)
        return dbe_fail(diag, DBE_E_UNSUPPORTED, "intel-ipsec-mb", 0, "built with %s, found %s at run time",
                        IMB_VERSION_STR, imb_get_version_str());
    made = alloc_mb_mgr(0);
    if (made == NULL)
        return DBE_E_NOMEM;
    init_mb_mgr_auto(made, &arch);
    if (imb_get_errno(made) == 0 && arch != IMB_ARCH_NONE && (made->features & IMB_FEATURE_SELF_TEST_PASS) != 0) {
        mgr = made;
        return DBE_OK;
    }
    dbe_err err = dbe_fail(diag, DBE_E_CRYPTO, "intel-ipsec-mb", 0, "the library's own test failed: %s",
                           imb_get_strerror(imb_get_errno(made)));

    free_mb_mgr(made);
    return err;
}

const struct crypto_backend crypto_ipsecmb = {
    .name = "ipsec-mb",
    .version = ipsecmb_version,
    .init = ipsecmb_init,
    .aead = {&ipsecmb_aes_256_gcm},
};
