/* SPDX-License-Identifier: Apache-2.0
 *
 * limits.h - wire format constants and every named maximum, in one place. Reads as docs/spec/dbe-v1.md.
 */
#ifndef DBE_LIMITS_H
#define DBE_LIMITS_H

enum {
    /* message, spec section 3 */
    DBE_HEADER_BYTES = 32,
    DBE_VERSION = 1,
    DBE_TLV_HEADER_BYTES = 4,
    DBE_TLV_AREA_MAX_BYTES = 65536,
    DBE_TLVS_MAX = 64, /* TLVs in one message */
    DBE_PAYLOAD_MAX_BYTES = 16 * 1024 * 1024,
    DBE_MESSAGE_MAX_BYTES = DBE_HEADER_BYTES + DBE_TLV_AREA_MAX_BYTES + DBE_PAYLOAD_MAX_BYTES,
    DBE_LAYER_PATH_MAX = 32,
    DBE_HOPS_MAX = 32,
    DBE_HOP_BYTES = 7, /* device u8, microseconds u32, suite u16 */

    /* record, spec section 5: length u32, type u8, epoch u8, reserved u16, sequence u64 */
    DBE_RECORD_HEADER_BYTES = 16,
    DBE_RECORD_TAG_BYTES = 16,
    DBE_RECORD_TYPE_AT = 4, /* offset of the type */
    DBE_RECORD_TYPE_DATA = 0x10,
    DBE_RECORD_MAX_BYTES = DBE_RECORD_HEADER_BYTES + DBE_MESSAGE_MAX_BYTES + DBE_RECORD_TAG_BYTES,

    /* handshake, spec section 6 */
    DBE_HANDSHAKE_MAX_BYTES = 32768, /* one handshake message */
    DBE_HANDSHAKE_TIMEOUT_MS = 10000,
    DBE_CERT_MAX_BYTES = 16384,
    DBE_SUITES_MAX = 16,

    /* identity, spec section 8 */
    DBE_REVOKED_MAX = 8192,           /* entries of a revocation list */
    DBE_CRL_MAX_BYTES = 512 * 1024,   /* a revocation list, DER */
    DBE_EVIDENCE_MAX_BYTES = 4096,    /* what a node shows of its state in a handshake */
    DBE_PASSPHRASE_MAX_BYTES = 1024,
    DBE_BUNDLE_MAX_BYTES = 16 * 1024 * 1024, /* a mesh's public files in one */
    DBE_BUNDLE_NODES_MAX = 1024,

    /* record layer, spec section 7 */
    DBE_REKEY_RECORDS = 1 << 30,         /* well below the 2^32 of NIST SP 800-38D for this nonce construction */
    DBE_REPLAY_WINDOW = 1024,            /* records, datagram transports */

    /* node */
    DBE_PEERS_MAX = 1024,                /* unless configured otherwise */
    DBE_PEERS_LIMIT = 65536,             /* the most that may be configured */
    DBE_CALLS_IN_FLIGHT_MAX = 4096,      /* per peer */
    DBE_SEND_QUEUE_MAX_BYTES = 64 * 1024 * 1024, /* per peer; beyond it sends answer E_LIMIT */
    DBE_SEND_QUEUE_LOW_BYTES = 1024 * 1024, /* after an E_LIMIT, on_drained comes when no more than this waits */
    DBE_SPIFFE_ID_MAX_BYTES = 256,
    DBE_MESH_NAME_MAX_BYTES = 128,
    DBE_TENANT_MAX_BYTES = 64,
    DBE_CLAIM_MAX_BYTES = 16384,
    DBE_CLAIM_ROLES_MAX = 8,
    DBE_CALL_TIMEOUT_DEFAULT_MS = 60000,
    DBE_CALL_TIMEOUT_MAX_MS = 3600000,
};

#define DBE_MAGIC 0x44534D49u /* "DSMI" */
#define DBE_REKEY_BYTES (UINT64_C(1) << 36) /* 64 GiB in one direction */
#define DBE_REKEY_AGE_NS (UINT64_C(3600) * 1000000000u)

#endif
