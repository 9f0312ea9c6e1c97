/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_evidence.c - evidence of a peer, statements of a TPM, files of attestation keys, PCR policies.
 *
 * First byte: 0 evidence, judged whole (nobody without the certified key makes one that counts); 1 a TPM's statement;
 * 2 the bytes of an attestation key's file; 3 the text of a policy.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "node/cert.h"
#include "node/evidence.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool cond)
{
    if (!cond)
        abort();
}

static void whole(const uint8_t *data, size_t size)
{
    static const uint8_t th[CRYPTO_HASH_BYTES];
    const struct dbe_trust trust = {0};
    struct dbe_identity id = {.attested = true};
    struct evidence e;
    struct dbe_diag diag;

    if (evidence_parse(data, size, &e, &diag) != DBE_OK)
        return;
    require(e.values + (size_t)__builtin_popcount(e.pcrs) * TPM_DIGEST_BYTES == data + size);
    require(evidence_sha256(e.point, TPM_POINT_BYTES, id.ak_sha256) == DBE_OK); /* as if it were certified */
    require(node_evidence_check(&trust, &id, th, data, size, &diag) != DBE_OK);
}

static void statement(const uint8_t *data, size_t size)
{
    struct quote q;
    struct dbe_diag diag;

    if (quote_parse(data, size, &q, &diag) != DBE_OK)
        return;
    require(q.nonce > data && q.nonce + EVIDENCE_NONCE_BYTES <= data + size);
    require(q.digest + TPM_DIGEST_BYTES == data + size);
}

static void key(const uint8_t *data, size_t size)
{
    static struct node_ak ak;

    if (ak_parse(data, size, &ak) == DBE_OK)
        require(ak.pcrs != 0 && ak.blob.pub_len <= TPM_BLOB_MAX_BYTES && ak.blob.priv_len <= TPM_BLOB_MAX_BYTES);
}

static void policy(const uint8_t *data, size_t size)
{
    static const uint8_t values[TPM_PCRS * TPM_DIGEST_BYTES];
    const struct dbe_identity id = {.role = DBE_ROLE_ROUTER, .device = 43};
    struct pcr_policy *p = NULL;
    struct dbe_diag diag;

    if (pcr_policy_parse((const char *)data, size, &p, &diag) != DBE_OK)
        return;
    if (!pcr_policy_wants(p, &id))
        require(pcr_policy_check(p, &id, 0x00FFFFFF, values, &diag) == DBE_OK);
    (void)pcr_policy_check(p, &id, 0x81, values, &diag);
    pcr_policy_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[])(const uint8_t *, size_t) = {whole, statement, key, policy};

    require(crypto_init(NULL) == DBE_OK);
    if (size > 0 && data[0] < BASE_ARRAY_LEN(kinds))
        kinds[data[0]](data + 1, size - 1);
    return 0;
}
