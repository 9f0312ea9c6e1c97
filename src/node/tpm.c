/* SPDX-License-Identifier: Apache-2.0
 *
 * tpm.c - a TPM 2.0 by tpm2-tss (ESYS): sealing, unsealing, an attestation key, quotes.
 *
 * In:   TCTI configuration, blobs of files    Out: blobs, secrets, quotes
 * Does: makes the storage primary anew from its template for each connection (it is the same key each time) and speaks
 *       over a session salted to it, so that nobody on the bus reads a secret or changes an answer.
 * Does not: link the TSS: it is loaded at the first use, so that a machine without a TPM needs none of it, and its
 *       libcrypto, which may be another version than ours, never takes part in ours. Keeps nothing in the TPM.
 */
#include "tpm.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include <tss2/tss2_esys.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_tctildr.h>

static const char clause[] = "TPM";

/* ---- the TSS, loaded --------------------------------------------------------------------------------------------- */

enum { LIB_ESYS, LIB_MU, LIB_TCTI, LIB_COUNT };
static const char *const libraries[LIB_COUNT] = {"libtss2-esys.so.0", "libtss2-mu.so.0", "libtss2-tctildr.so.0"};

#define TSS_FUNCTIONS(F)                                                                                               \
    F(LIB_ESYS, Esys_Initialize)                                                                                       \
    F(LIB_ESYS, Esys_Finalize)                                                                                         \
    F(LIB_ESYS, Esys_Free)                                                                                             \
    F(LIB_ESYS, Esys_CreatePrimary)                                                                                    \
    F(LIB_ESYS, Esys_Create)                                                                                           \
    F(LIB_ESYS, Esys_Load)                                                                                             \
    F(LIB_ESYS, Esys_Unseal)                                                                                           \
    F(LIB_ESYS, Esys_FlushContext)                                                                                     \
    F(LIB_ESYS, Esys_StartAuthSession)                                                                                 \
    F(LIB_ESYS, Esys_TRSess_SetAttributes)                                                                             \
    F(LIB_ESYS, Esys_PolicyPCR)                                                                                        \
    F(LIB_ESYS, Esys_PolicyGetDigest)                                                                                  \
    F(LIB_ESYS, Esys_PCR_Read)                                                                                         \
    F(LIB_ESYS, Esys_Quote)                                                                                            \
    F(LIB_MU, Tss2_MU_TPM2B_PUBLIC_Marshal)                                                                            \
    F(LIB_MU, Tss2_MU_TPM2B_PUBLIC_Unmarshal)                                                                          \
    F(LIB_MU, Tss2_MU_TPM2B_PRIVATE_Marshal)                                                                           \
    F(LIB_MU, Tss2_MU_TPM2B_PRIVATE_Unmarshal)                                                                         \
    F(LIB_TCTI, Tss2_TctiLdr_Initialize)                                                                               \
    F(LIB_TCTI, Tss2_TctiLdr_Finalize)

#define TSS_MEMBER(lib, name) __typeof__(name) *name;
static struct {
    const char *missing; /* what could not be loaded; NULL: all is there */
    TSS_FUNCTIONS(TSS_MEMBER)
} tss;

static pthread_once_t tss_once = PTHREAD_ONCE_INIT;

static void tss_load(void)
{
    void *lib[LIB_COUNT];

    for (size_t i = 0; i < LIB_COUNT; i++) {
        lib[i] = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
        if (lib[i] == NULL) {
            tss.missing = libraries[i];
            return;
        }
    }
#define TSS_SYMBOL(which, name)                                                                                        \
    {                                                                                                                  \
        void *at = dlsym(lib[which], #name);                                                                           \
        memcpy(&tss.name, &at, sizeof at);                                                                             \
        if (at == NULL)                                                                                                \
            tss.missing = #name;                                                                                       \
    }
    TSS_FUNCTIONS(TSS_SYMBOL)
}

bool tpm_supported(void)
{
    return true;
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

enum { TPM_ERROR_MASK = 0xBF }; /* a format-one code without the number of its handle, parameter or session */

static dbe_err tpm_fail(struct dbe_diag *diag, TSS2_RC rc, const char *doing)
{
    TSS2_RC layer = rc & TSS2_RC_LAYER_MASK, code = rc & TPM_ERROR_MASK;

    if (layer == TSS2_TPM_RC_LAYER && (rc & TPM2_RC_FMT1) != 0 && code == TPM2_RC_POLICY_FAIL)
        return dbe_fail(diag, DBE_E_SEALED, clause, 0,
                        "the TPM refuses: its registers (PCRs) are not what they were when the key was sealed");
    if (layer == TSS2_TPM_RC_LAYER && (rc & TPM2_RC_FMT1) != 0 &&
        (code == TPM2_RC_INTEGRITY || code == TPM2_RC_SENSITIVE || code == TPM2_RC_BINDING))
        return dbe_fail(diag, DBE_E_SEALED, clause, 0, "this TPM did not make it: it belongs to another machine");
    if (layer != TSS2_TPM_RC_LAYER)
        return dbe_fail(diag, DBE_E_TPM, clause, 0, "the TPM does not answer (%s: error 0x%x)", doing, (unsigned)rc);
    return dbe_fail(diag, DBE_E_TPM, clause, 0, "the TPM refused: %s, error 0x%x", doing, (unsigned)rc);
}

/* Return the failure of an ESYS call to the caller. */
#define TPM_TRY(diag, doing, call)                                                                                     \
    do {                                                                                                               \
        TSS2_RC tpm_rc_ = (call);                                                                                      \
        if (tpm_rc_ != TSS2_RC_SUCCESS)                                                                                \
            return tpm_fail(diag, tpm_rc_, doing);                                                                     \
    } while (0)

/* ---- connection -------------------------------------------------------------------------------------------------- */

struct tpm {
    TSS2_TCTI_CONTEXT *tcti;
    ESYS_CONTEXT *esys;
    ESYS_TR primary, session; /* ESYS_TR_NONE: not there */
};

static const TPMT_SYM_DEF aes = {.algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB};

/* Storage primary: ECC P-256, restricted decryption, the TCG's template. */
static dbe_err make_primary(struct tpm *t, struct dbe_diag *diag)
{
    const TPM2B_SENSITIVE_CREATE sensitive = {0};
    const TPM2B_DATA outside = {0};
    const TPML_PCR_SELECTION none = {0};
    const TPM2B_PUBLIC template = {
        .publicArea = {
            .type = TPM2_ALG_ECC,
            .nameAlg = TPM2_ALG_SHA256,
            .objectAttributes = TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT | TPMA_OBJECT_FIXEDTPM |
                                TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH |
                                TPMA_OBJECT_NODA,
            .parameters.eccDetail = {.symmetric = {.algorithm = TPM2_ALG_AES, .keyBits.aes = 128,
                                                   .mode.aes = TPM2_ALG_CFB},
                                     .scheme.scheme = TPM2_ALG_NULL,
                                     .curveID = TPM2_ECC_NIST_P256,
                                     .kdf.scheme = TPM2_ALG_NULL},
        }};

    TPM_TRY(diag, "making its storage key",
            tss.Esys_CreatePrimary(t->esys, ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                   &sensitive, &template, &outside, &none, &t->primary, NULL, NULL, NULL, NULL));
    return DBE_OK;
}

static dbe_err start_session(struct tpm *t, TPM2_SE type, ESYS_TR *ret, struct dbe_diag *diag)
{
    const TPMA_SESSION both = TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT;

    TPM_TRY(diag, "starting a session",
            tss.Esys_StartAuthSession(t->esys, t->primary, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                      NULL, type, &aes, TPM2_ALG_SHA256, ret));
    if (type == TPM2_SE_TRIAL)
        return DBE_OK;
    TPM_TRY(diag, "setting up a session", tss.Esys_TRSess_SetAttributes(t->esys, *ret, both, 0xFF));
    return DBE_OK;
}

static void flush(struct tpm *t, ESYS_TR handle)
{
    if (handle != ESYS_TR_NONE)
        (void)tss.Esys_FlushContext(t->esys, handle);
}

void tpm_close(struct tpm *t)
{
    if (t == NULL)
        return;
    if (t->esys != NULL) {
        flush(t, t->session);
        flush(t, t->primary);
        tss.Esys_Finalize(&t->esys);
    }
    if (t->tcti != NULL)
        tss.Tss2_TctiLdr_Finalize(&t->tcti);
    base_free(t);
}

static dbe_err connect_to(struct tpm *t, const char *tcti, struct dbe_diag *diag)
{
    TSS2_RC rc = tss.Tss2_TctiLdr_Initialize(tcti, &t->tcti);

    if (rc != TSS2_RC_SUCCESS) {
        t->tcti = NULL;
        return dbe_fail(diag, DBE_E_TPM, clause, 0,
                        "there is no TPM at %.80s (error 0x%x): is it there, may you use it, does DSMIL_TPM name it?",
                        tcti != NULL ? tcti : "the usual places", (unsigned)rc);
    }
    TPM_TRY(diag, "connecting", tss.Esys_Initialize(&t->esys, t->tcti, NULL));
    DBE_TRY(make_primary(t, diag));
    return start_session(t, TPM2_SE_HMAC, &t->session, diag);
}

dbe_err tpm_open(const char *tcti, struct tpm **ret, struct dbe_diag *diag)
{
    (void)pthread_once(&tss_once, tss_load);
    if (tss.missing != NULL)
        return dbe_fail(diag, DBE_E_TPM, clause, 0, "%s is not installed: install tpm2-tss (libtss2-esys, "
                        "libtss2-tctildr)", tss.missing);
    struct tpm *t = base_alloc(1, sizeof *t);
    if (t == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory for a connection to the TPM");
    t->primary = t->session = ESYS_TR_NONE;
    dbe_err err = connect_to(t, tcti, diag);
    if (err != DBE_OK) {
        tpm_close(t);
        return err;
    }
    *ret = t;
    return DBE_OK;
}

/* ---- objects ----------------------------------------------------------------------------------------------------- */

static void selection_of(uint32_t pcrs, TPML_PCR_SELECTION *ret)
{
    *ret = (TPML_PCR_SELECTION){
        .count = 1,
        .pcrSelections[0] = {.hash = TPM2_ALG_SHA256,
                             .sizeofSelect = 3,
                             .pcrSelect = {(BYTE)pcrs, (BYTE)(pcrs >> 8), (BYTE)(pcrs >> 16)}}};
}

static dbe_err blob_of(const TPM2B_PUBLIC *pub, const TPM2B_PRIVATE *priv, struct tpm_blob *ret,
                       struct dbe_diag *diag)
{
    size_t pub_len = 0, priv_len = 0;

    TPM_TRY(diag, "encoding an object", tss.Tss2_MU_TPM2B_PUBLIC_Marshal(pub, ret->pub, sizeof ret->pub, &pub_len));
    TPM_TRY(diag, "encoding an object",
            tss.Tss2_MU_TPM2B_PRIVATE_Marshal(priv, ret->priv, sizeof ret->priv, &priv_len));
    ret->pub_len = pub_len;
    ret->priv_len = priv_len;
    return DBE_OK;
}

/* Make an object under the primary. `ret_pub` may be NULL; free it with Esys_Free. */
static dbe_err create(struct tpm *t, const TPM2B_SENSITIVE_CREATE *sensitive, const TPM2B_PUBLIC *template,
                      struct tpm_blob *ret, TPM2B_PUBLIC **ret_pub, struct dbe_diag *diag)
{
    const TPM2B_DATA outside = {0};
    const TPML_PCR_SELECTION none = {0};
    TPM2B_PRIVATE *priv = NULL;
    TPM2B_PUBLIC *pub = NULL;

    TPM_TRY(diag, "making an object",
            tss.Esys_Create(t->esys, t->primary, t->session, ESYS_TR_NONE, ESYS_TR_NONE, sensitive, template,
                            &outside, &none, &priv, &pub, NULL, NULL, NULL));
    dbe_err err = blob_of(pub, priv, ret, diag);
    tss.Esys_Free(priv);
    if (err == DBE_OK && ret_pub != NULL)
        *ret_pub = pub;
    else
        tss.Esys_Free(pub);
    return err;
}

static dbe_err load(struct tpm *t, const struct tpm_blob *blob, ESYS_TR *ret, struct dbe_diag *diag)
{
    TPM2B_PRIVATE priv = {0};
    TPM2B_PUBLIC pub = {0};
    size_t at = 0;

    if (tss.Tss2_MU_TPM2B_PUBLIC_Unmarshal(blob->pub, blob->pub_len, &at, &pub) != TSS2_RC_SUCCESS ||
        at != blob->pub_len)
        return dbe_fail(diag, DBE_E_SEALED, clause, 0, "what should be an object of a TPM is damaged");
    at = 0;
    if (tss.Tss2_MU_TPM2B_PRIVATE_Unmarshal(blob->priv, blob->priv_len, &at, &priv) != TSS2_RC_SUCCESS ||
        at != blob->priv_len)
        return dbe_fail(diag, DBE_E_SEALED, clause, 0, "what should be an object of a TPM is damaged");
    TPM_TRY(diag, "loading an object",
            tss.Esys_Load(t->esys, t->primary, t->session, ESYS_TR_NONE, ESYS_TR_NONE, &priv, &pub, ret));
    return DBE_OK;
}

/* ---- sealing ----------------------------------------------------------------------------------------------------- */

/* Digest of the policy "these registers have the values that they have now". */
static dbe_err policy_digest(struct tpm *t, uint32_t pcrs, TPM2B_DIGEST *ret, struct dbe_diag *diag)
{
    const TPM2B_DIGEST now = {0};
    TPML_PCR_SELECTION selection;
    TPM2B_DIGEST *digest = NULL;
    ESYS_TR trial = ESYS_TR_NONE;
    TSS2_RC rc;

    selection_of(pcrs, &selection);
    DBE_TRY(start_session(t, TPM2_SE_TRIAL, &trial, diag));
    rc = tss.Esys_PolicyPCR(t->esys, trial, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &now, &selection);
    if (rc == TSS2_RC_SUCCESS)
        rc = tss.Esys_PolicyGetDigest(t->esys, trial, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &digest);
    flush(t, trial);
    if (rc != TSS2_RC_SUCCESS)
        return tpm_fail(diag, rc, "reading its registers");
    *ret = *digest;
    tss.Esys_Free(digest);
    return DBE_OK;
}

dbe_err tpm_seal(struct tpm *t, uint32_t pcrs, const uint8_t secret[32], struct tpm_blob *ret, struct dbe_diag *diag)
{
    TPM2B_SENSITIVE_CREATE sensitive = {.sensitive.data.size = 32};
    TPM2B_PUBLIC template = {.publicArea = {.type = TPM2_ALG_KEYEDHASH,
                                            .nameAlg = TPM2_ALG_SHA256,
                                            .objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                                                                TPMA_OBJECT_NODA,
                                            .parameters.keyedHashDetail.scheme.scheme = TPM2_ALG_NULL}};

    if (pcrs == 0)
        template.publicArea.objectAttributes |= TPMA_OBJECT_USERWITHAUTH;
    else
        DBE_TRY(policy_digest(t, pcrs, &template.publicArea.authPolicy, diag));
    memcpy(sensitive.sensitive.data.buffer, secret, 32);
    dbe_err err = create(t, &sensitive, &template, ret, NULL, diag);
    base_wipe(&sensitive, sizeof sensitive);
    return err;
}

/* A session that may use the sealed object. */
static dbe_err unseal_session(struct tpm *t, uint32_t pcrs, ESYS_TR *ret, struct dbe_diag *diag)
{
    const TPM2B_DIGEST now = {0};
    TPML_PCR_SELECTION selection;

    DBE_TRY(start_session(t, pcrs != 0 ? TPM2_SE_POLICY : TPM2_SE_HMAC, ret, diag));
    if (pcrs != 0) {
        selection_of(pcrs, &selection);
        TPM_TRY(diag, "reading its registers", tss.Esys_PolicyPCR(t->esys, *ret, ESYS_TR_NONE, ESYS_TR_NONE,
                                                                  ESYS_TR_NONE, &now, &selection));
    }
    /* the request has no parameter to encrypt */
    TPM_TRY(diag, "setting up a session",
            tss.Esys_TRSess_SetAttributes(t->esys, *ret, TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_ENCRYPT, 0xFF));
    return DBE_OK;
}

dbe_err tpm_unseal(struct tpm *t, uint32_t pcrs, const struct tpm_blob *blob, uint8_t secret[32],
                   struct dbe_diag *diag)
{
    TPM2B_SENSITIVE_DATA *data = NULL;
    ESYS_TR object = ESYS_TR_NONE, session = ESYS_TR_NONE;
    dbe_err err = load(t, blob, &object, diag);

    if (err == DBE_OK)
        err = unseal_session(t, pcrs, &session, diag);
    if (err == DBE_OK) {
        TSS2_RC rc = tss.Esys_Unseal(t->esys, object, session, ESYS_TR_NONE, ESYS_TR_NONE, &data);
        if (rc != TSS2_RC_SUCCESS)
            err = tpm_fail(diag, rc, "unsealing");
        else if (data->size != 32)
            err = dbe_fail(diag, DBE_E_SEALED, clause, 0, "what the TPM unsealed is not a key of ours");
        else
            memcpy(secret, data->buffer, 32);
    }
    if (data != NULL)
        base_wipe(data, sizeof *data);
    tss.Esys_Free(data);
    flush(t, session);
    flush(t, object);
    return err;
}

/* ---- quotes ------------------------------------------------------------------------------------------------------ */

/* A coordinate of at most 32 bytes, with its leading zeros. */
static bool pad_32(uint8_t out[32], const BYTE *data, size_t len)
{
    if (len > 32)
        return false;
    memset(out, 0, 32);
    memcpy(out + 32 - len, data, len);
    return true;
}

dbe_err tpm_ak_make(struct tpm *t, struct tpm_blob *ret, uint8_t point[TPM_POINT_BYTES], struct dbe_diag *diag)
{
    const TPM2B_SENSITIVE_CREATE sensitive = {0};
    const TPM2B_PUBLIC template = {
        .publicArea = {
            .type = TPM2_ALG_ECC,
            .nameAlg = TPM2_ALG_SHA256,
            .objectAttributes = TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_SIGN_ENCRYPT | TPMA_OBJECT_FIXEDTPM |
                                TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH |
                                TPMA_OBJECT_NODA,
            .parameters.eccDetail = {.symmetric.algorithm = TPM2_ALG_NULL,
                                     .scheme = {.scheme = TPM2_ALG_ECDSA, .details.ecdsa.hashAlg = TPM2_ALG_SHA256},
                                     .curveID = TPM2_ECC_NIST_P256,
                                     .kdf.scheme = TPM2_ALG_NULL},
        }};
    TPM2B_PUBLIC *pub = NULL;

    DBE_TRY(create(t, &sensitive, &template, ret, &pub, diag));
    const TPMS_ECC_POINT *p = &pub->publicArea.unique.ecc;
    point[0] = 4;
    bool ok = pad_32(point + 1, p->x.buffer, p->x.size) && pad_32(point + 33, p->y.buffer, p->y.size);
    tss.Esys_Free(pub);
    return ok ? DBE_OK : dbe_fail(diag, DBE_E_TPM, clause, 0, "the TPM made a key that is not on P-256");
}

/* Read the registers of `pcrs`; a TPM gives a few in each answer. */
static dbe_err read_pcrs(struct tpm *t, uint32_t pcrs, uint8_t ret[TPM_PCRS][TPM_DIGEST_BYTES], struct dbe_diag *diag)
{
    while (pcrs != 0) {
        TPML_PCR_SELECTION selection, *got = NULL;
        TPML_DIGEST *values = NULL;
        uint32_t done = 0;
        size_t n = 0;

        selection_of(pcrs, &selection);
        TPM_TRY(diag, "reading its registers",
                tss.Esys_PCR_Read(t->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &selection, NULL, &got, &values));
        for (unsigned i = 0; i < TPM_PCRS && got->count == 1; i++) {
            bool here = (got->pcrSelections[0].pcrSelect[i / 8] >> (i % 8) & 1) != 0;
            if (!here || n >= values->count || values->digests[n].size != TPM_DIGEST_BYTES)
                continue;
            memcpy(ret[i], values->digests[n++].buffer, TPM_DIGEST_BYTES);
            done |= 1U << i;
        }
        tss.Esys_Free(got);
        tss.Esys_Free(values);
        if ((done & pcrs) == 0)
            return dbe_fail(diag, DBE_E_TPM, clause, 0, "the TPM has no SHA-256 registers for this policy");
        pcrs &= ~done;
    }
    return DBE_OK;
}

static dbe_err take_quote(const TPM2B_ATTEST *attest, const TPMT_SIGNATURE *sig, struct tpm_quote *ret,
                          struct dbe_diag *diag)
{
    const TPMS_SIGNATURE_ECC *ecc = &sig->signature.ecdsa;

    if (sig->sigAlg != TPM2_ALG_ECDSA || attest->size > sizeof ret->attest ||
        !pad_32(ret->r, ecc->signatureR.buffer, ecc->signatureR.size) ||
        !pad_32(ret->s, ecc->signatureS.buffer, ecc->signatureS.size))
        return dbe_fail(diag, DBE_E_TPM, clause, 0, "the TPM's quote is not signed with ECDSA on P-256");
    memcpy(ret->attest, attest->attestationData, attest->size);
    ret->attest_len = attest->size;
    return DBE_OK;
}

dbe_err tpm_quote(struct tpm *t, const struct tpm_blob *ak, uint32_t pcrs, const uint8_t nonce[32],
                  struct tpm_quote *ret, struct dbe_diag *diag)
{
    const TPMT_SIG_SCHEME own = {.scheme = TPM2_ALG_NULL}; /* the key's */
    TPM2B_DATA qualifying = {.size = 32};
    TPML_PCR_SELECTION selection;
    TPM2B_ATTEST *attest = NULL;
    TPMT_SIGNATURE *sig = NULL;
    ESYS_TR key = ESYS_TR_NONE;

    selection_of(pcrs, &selection);
    memcpy(qualifying.buffer, nonce, 32);
    DBE_TRY(read_pcrs(t, pcrs, ret->pcrs, diag));
    DBE_TRY(load(t, ak, &key, diag));
    TSS2_RC rc = tss.Esys_Quote(t->esys, key, t->session, ESYS_TR_NONE, ESYS_TR_NONE, &qualifying, &own, &selection,
                                &attest, &sig);
    flush(t, key);
    dbe_err err = rc == TSS2_RC_SUCCESS ? take_quote(attest, sig, ret, diag) : tpm_fail(diag, rc, "quoting");
    tss.Esys_Free(attest);
    tss.Esys_Free(sig);
    return err;
}
