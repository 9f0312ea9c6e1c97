/* SPDX-License-Identifier: Apache-2.0
 *
 * keys_words.c - what `dsmil keys` says about an identity, to people and to programs.
 *
 * In:   identities of certificates    Out: text, JSON
 */
#include <stdio.h>
#include <time.h>

#include "cli/keys_priv.h"

void keys_time_text(uint64_t unix_ms, char ret[KEYS_TIME_BYTES])
{
    time_t t = (time_t)(unix_ms / 1000);
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL || strftime(ret, KEYS_TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)snprintf(ret, KEYS_TIME_BYTES, "unknown");
}

const char *keys_role_text(uint8_t role)
{
    const struct dbe_role_row *row = dbe_reg_role(role);

    return row != NULL ? row->path : "?";
}

const char *keys_classification_text(uint8_t classification)
{
    const struct dbe_num_row *row = dbe_reg_classification(classification);

    return row != NULL ? row->name : "?";
}

void keys_compartments_text(uint32_t mask, char *ret, size_t cap)
{
    size_t len = 0;

    ret[0] = '\0';
    for (uint32_t bit = 1; bit != 0 && bit <= DBE_COMPARTMENT_ALL; bit <<= 1) {
        const struct dbe_num_row *row = (mask & bit) != 0 ? dbe_reg_compartment(bit) : NULL;
        if (row != NULL && len < cap)
            len += (size_t)snprintf(ret + len, cap - len, "%s%s", len > 0 ? "," : "", row->name);
    }
}

json_t *keys_identity_json(const char *name, const struct dbe_identity *id)
{
    char from[KEYS_TIME_BYTES], until[KEYS_TIME_BYTES], serial[2 * sizeof id->serial + 1];
    char print[2 * sizeof id->fingerprint + 1];
    json_t *list = json_array(), *obj;

    keys_time_text(id->not_before_ms, from);
    keys_time_text(id->not_after_ms, until);
    base_hex(id->serial, id->serial_len, serial);
    base_hex(id->fingerprint, sizeof id->fingerprint, print);
    for (uint32_t bit = 1; bit != 0 && bit <= DBE_COMPARTMENT_ALL; bit <<= 1) {
        const struct dbe_num_row *row = (id->compartments & bit) != 0 ? dbe_reg_compartment(bit) : NULL;
        if (row != NULL)
            (void)json_array_append_new(list, json_string(row->name));
    }
    obj = json_pack("{s:s s:s s:i s:i s:s s:s s:o s:b s:s s:s s:s s:s}", "name", name, "spiffe_id", id->spiffe_id,
                    "device", id->device, "layer", id->layer, "role", keys_role_text(id->role), "classification_max",
                    keys_classification_text(id->classification_max), "compartments", list, "exercise", id->exercise,
                    "not_before", from, "not_after", until, "serial", serial, "fingerprint_sha3_512", print);
    return obj;
}

void keys_print_identity(const char *name, const struct dbe_identity *id)
{
    const struct dbe_device_row *device = dbe_reg_device(id->device);
    char from[KEYS_TIME_BYTES], until[KEYS_TIME_BYTES], hex[2 * sizeof id->fingerprint + 1], comps[128];

    keys_time_text(id->not_before_ms, from);
    keys_time_text(id->not_after_ms, until);
    keys_compartments_text(id->compartments, comps, sizeof comps);
    printf("%s\n  identity      %s\n", name, id->spiffe_id);
    printf("  device        %u %s, layer %u, %s\n", id->device, device != NULL ? device->title : "?", id->layer,
           keys_role_text(id->role));
    printf("  ceiling       %s, %s%s\n", keys_classification_text(id->classification_max), comps,
           id->exercise ? ", exercise data only" : "");
    printf("  valid         %s to %s\n", from, until);
    base_hex(id->serial, id->serial_len, hex);
    printf("  serial        %s\n", hex);
    if (id->attested) {
        base_hex(id->ak_sha256, sizeof id->ak_sha256, hex);
        printf("  attestation   SHA-256 %s\n", hex);
    }
    base_hex(id->fingerprint, sizeof id->fingerprint, hex);
    printf("  SHA3-512      %.64s\n                %s\n", hex, hex + 64);
}
