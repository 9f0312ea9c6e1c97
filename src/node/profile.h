/* SPDX-License-Identifier: Apache-2.0
 *
 * profile.h - what a node certificate of this mesh may say (docs/spec/dbe-v1.md, section 8). Pure: text, registry and
 * a few bytes of DER; no X.509, no files, no clock. Private to this folder and its tests.
 */
#ifndef NODE_PROFILE_H
#define NODE_PROFILE_H

#include "base/base.h"
#include "dbe/identity.h"

/* The extension that holds the ceilings: an arc of our own under 2.25.<UUID> (Rec. ITU-T X.667). */
#define PROFILE_CEILING_OID "2.25.123840395588773958632850636671877621216"

/* The extension that names an attestation key; not critical. */
#define PROFILE_ATTEST_OID "2.25.162316966531658185671255372756498065991"

enum {
    PROFILE_CEILING_MAX_BYTES = 16,
    PROFILE_DEFAULT_COMPARTMENTS =
        DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_DEV | DBE_COMPARTMENT_LAB | DBE_COMPARTMENT_CRYPTO,
};

/* A trust domain: 1 to 127 of a-z 0-9 . - _ (SPIFFE-ID, section 2.1). */
bool profile_mesh_valid(const char *mesh);

/* Write id->spiffe_id from mesh, layer, role and device. E_ARGUMENT if one of them has no row. */
dbe_err profile_write_spiffe(struct dbe_identity *id, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Read spiffe_id, mesh, layer, role and device from a URI; only the one canonical spelling is taken. E_CERT. */
dbe_err profile_read_spiffe(const void *uri, size_t len, struct dbe_identity *ret, struct dbe_diag *diag)
    DBE_MUST_CHECK;

/* Layer, role and device belong together, ceilings are within bounds and never KINETIC. E_CERT. */
dbe_err profile_check(const struct dbe_identity *id, struct dbe_diag *diag) DBE_MUST_CHECK;

/* The layer that a device of this role is on when nobody says otherwise. */
uint8_t profile_layer_of(uint8_t device, uint8_t role);

/* SEQUENCE { INTEGER classification_max, INTEGER compartments, BOOLEAN exercise }, DER. */
size_t  profile_write_ceiling(const struct dbe_identity *id, uint8_t out[PROFILE_CEILING_MAX_BYTES]);
dbe_err profile_read_ceiling(const void *der, size_t len, struct dbe_identity *ret, struct dbe_diag *diag)
    DBE_MUST_CHECK;

#endif
