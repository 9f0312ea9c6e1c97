/* SPDX-License-Identifier: Apache-2.0
 *
 * profile.c - names, layers and ceilings of a node certificate.
 *
 * In:   text and DER of certificates, or what an operator asks for    Out: struct dbe_identity, or what is wrong
 * Does: takes exactly one spelling of everything - what was read is written again and compared.
 * Does not: trust anything: who signed the certificate is cert.c's question.
 */
#include "profile.h"

#include <stdio.h>
#include <string.h>

static const char clause[] = "identity";

bool profile_mesh_valid(const char *mesh)
{
    size_t len = strlen(mesh);

    return len > 0 && len < DBE_MESH_NAME_MAX_BYTES && strspn(mesh, "abcdefghijklmnopqrstuvwxyz0123456789.-_") == len;
}

uint8_t profile_layer_of(uint8_t device, uint8_t role)
{
    const struct dbe_device_row *row = dbe_reg_device(device);

    if (row == NULL)
        return 0;
    return role == DBE_ROLE_SHIM && row->layer == DBE_LAYER_SYSTEM ? (uint8_t)DBE_LAYER_EXTENDED : row->layer;
}

dbe_err profile_write_spiffe(struct dbe_identity *id, struct dbe_diag *diag)
{
    const struct dbe_role_row *role = dbe_reg_role(id->role);

    if (!profile_mesh_valid(id->mesh))
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0,
                        "\"%.60s\" is no mesh name: 1 to %d of a-z 0-9 . - _ are allowed", id->mesh,
                        DBE_MESH_NAME_MAX_BYTES - 1);
    if (role == NULL)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "there is no role %u", id->role);
    if (dbe_reg_device(id->device) == NULL)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "there is no device %u", id->device);
    int n = snprintf(id->spiffe_id, sizeof id->spiffe_id, "spiffe://%s/l%u/%s/%u", id->mesh, id->layer, role->path,
                     id->device);
    if (n < 0 || (size_t)n >= sizeof id->spiffe_id)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "the SPIFFE id is too long");
    return DBE_OK;
}

/* A decimal number of at most three digits; *at moves behind it. -1: none, or above 255. */
static int read_number(const char **at)
{
    int value = 0, digits = 0;

    for (; **at >= '0' && **at <= '9' && digits < 3; (*at)++, digits++)
        value = value * 10 + (**at - '0');
    return digits == 0 || value > 255 ? -1 : value;
}

/* Split "<mesh>/l<layer>/<role>/<device>". False: not of this form. */
static bool split_id(char *text, struct dbe_identity *id)
{
    char *path = strchr(text, '/');
    char role_path[32];

    if (path == NULL || (size_t)(path - text) >= sizeof id->mesh)
        return false;
    memcpy(id->mesh, text, (size_t)(path - text));
    id->mesh[path - text] = '\0';
    const char *at = path + 1;
    if (*at++ != 'l')
        return false;
    int layer = read_number(&at);
    if (layer < 0 || *at++ != '/')
        return false;
    size_t n = strcspn(at, "/");
    if (n == 0 || n >= sizeof role_path || at[n] != '/')
        return false;
    memcpy(role_path, at, n);
    role_path[n] = '\0';
    const struct dbe_role_row *role = dbe_reg_role_path(role_path);
    at += n + 1;
    int device = read_number(&at);
    if (role == NULL || device < 0 || *at != '\0')
        return false;
    id->layer = (uint8_t)layer;
    id->role = role->role;
    id->device = (uint8_t)device;
    return true;
}

dbe_err profile_read_spiffe(const void *uri, size_t len, struct dbe_identity *ret, struct dbe_diag *diag)
{
    static const char scheme[] = "spiffe://";
    char text[DBE_SPIFFE_ID_MAX_BYTES];
    struct dbe_identity id = *ret;

    if (len >= sizeof text || memchr(uri, '\0', len) != NULL)
        return dbe_fail(diag, DBE_E_CERT, clause, 0, "the SPIFFE id is too long or holds a NUL");
    memcpy(text, uri, len);
    text[len] = '\0';
    if (strncmp(text, scheme, sizeof scheme - 1) != 0 || !split_id(text + sizeof scheme - 1, &id) ||
        profile_write_spiffe(&id, NULL) != DBE_OK || strcmp(text, id.spiffe_id) != 0)
        return dbe_fail(diag, DBE_E_CERT, clause, 0,
                        "the certificate's URI is not spiffe://<mesh>/l<layer>/<role>/<device>");
    *ret = id;
    return DBE_OK;
}

static bool is_layer_seven(uint8_t role)
{
    return role == DBE_ROLE_SHIM || role == DBE_ROLE_ROUTER || role == DBE_ROLE_WORKER || role == DBE_ROLE_AGENT;
}

dbe_err profile_check(const struct dbe_identity *id, struct dbe_diag *diag)
{
    const struct dbe_role_row *role = dbe_reg_role(id->role);
    const struct dbe_device_row *device = dbe_reg_device(id->device);

    if (role == NULL || device == NULL || dbe_reg_layer(id->layer) == NULL)
        return dbe_fail(diag, DBE_E_CERT, clause, 0, "device %u, layer %u or role %u is in no registry", id->device,
                        id->layer, id->role);
    if (id->layer != profile_layer_of(id->device, id->role))
        return dbe_fail(diag, DBE_E_CERT, clause, 0, "device %u (%s) as %s is on layer %u, not on layer %u", id->device,
                        device->name, role->path, profile_layer_of(id->device, id->role), id->layer);
    if (is_layer_seven(id->role) && id->layer != DBE_LAYER_EXTENDED)
        return dbe_fail(diag, DBE_E_CERT, clause, 0, "a %s is a node of layer 7, and device %u (%s) is on layer %u",
                        role->path, id->device, device->name, id->layer);
    if ((id->compartments & DBE_COMPARTMENT_KINETIC) != 0)
        return dbe_fail(diag, DBE_E_CERT, clause, 0, "no certificate may hold the KINETIC compartment");
    if (id->compartments == 0 || (id->compartments & ~(uint32_t)DBE_COMPARTMENT_ALL) != 0)
        return dbe_fail(diag, DBE_E_CERT, clause, 0, "compartment mask 0x%x is empty or has bits that mean nothing",
                        id->compartments);
    if (id->classification_max > DBE_CLSF_EXEC)
        return dbe_fail(diag, DBE_E_CERT, clause, 0, "classification ceiling %u is not one of UNCLAS to EXEC",
                        id->classification_max);
    return DBE_OK;
}

/* ---- ceilings, DER --------------------------------------------------------------------------------------------- */

enum { DER_BOOLEAN = 0x01, DER_INTEGER = 0x02, DER_SEQUENCE = 0x30, DER_TRUE = 0xFF };

/* A non-negative INTEGER in its shortest form. Returns the bytes written. */
static size_t put_integer(uint8_t *out, uint32_t value)
{
    uint8_t be[5] = {0};
    size_t skip = 0;

    base_put_u32(be + 1, value);
    while (skip < sizeof be - 1 && be[skip] == 0 && be[skip + 1] < 0x80)
        skip++;
    size_t n = sizeof be - skip;
    out[0] = DER_INTEGER;
    out[1] = (uint8_t)n;
    memcpy(out + 2, be + skip, n);
    return n + 2;
}

size_t profile_write_ceiling(const struct dbe_identity *id, uint8_t out[PROFILE_CEILING_MAX_BYTES])
{
    size_t n = 2;

    n += put_integer(out + n, id->classification_max);
    n += put_integer(out + n, id->compartments);
    out[n++] = DER_BOOLEAN;
    out[n++] = 1;
    out[n++] = id->exercise ? DER_TRUE : 0;
    out[0] = DER_SEQUENCE;
    out[1] = (uint8_t)(n - 2);
    return n;
}

static uint32_t get_integer(struct base_cur *c)
{
    uint32_t value = 0;

    if (base_cur_u8(c) != DER_INTEGER)
        c->bad = true;
    uint8_t n = base_cur_u8(c);
    if (n == 0 || n > 5)
        c->bad = true;
    for (uint8_t i = 0; i < n && !c->bad; i++)
        value = value << 8 | base_cur_u8(c);
    return value;
}

dbe_err profile_read_ceiling(const void *der, size_t len, struct dbe_identity *ret, struct dbe_diag *diag)
{
    struct base_cur c = base_cur_of(der, len);
    uint8_t again[PROFILE_CEILING_MAX_BYTES];
    struct dbe_identity id = *ret;

    if (base_cur_u8(&c) != DER_SEQUENCE || base_cur_u8(&c) != base_cur_left(&c))
        c.bad = true;
    uint32_t classification = get_integer(&c);
    id.compartments = get_integer(&c);
    id.classification_max = (uint8_t)classification;
    if (base_cur_u8(&c) != DER_BOOLEAN || base_cur_u8(&c) != 1)
        c.bad = true;
    id.exercise = base_cur_u8(&c) != 0;
    /* Written again it must be the same bytes: nothing but DER, and nothing that was cut off above. */
    if (base_cur_end(&c) != DBE_OK || classification > UINT8_MAX || profile_write_ceiling(&id, again) != len ||
        memcmp(again, der, len) != 0)
        return dbe_fail(diag, DBE_E_CERT, clause, 0, "the extension with the ceilings is malformed");
    *ret = id;
    return DBE_OK;
}
