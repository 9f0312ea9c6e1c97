/* SPDX-License-Identifier: Apache-2.0
 *
 * names.c - the registries' names, as files and command lines spell them, to numbers and bits.
 */
#include <string.h>

#include "policy/compile.h"

bool pol_name_msg(const char *name, uint64_t *ret)
{
    for (unsigned type = 1; type < 256; type++) {
        const struct dbe_msg_row *row = dbe_reg_msg((uint8_t)type);
        if (row != NULL && row->type == type && strcmp(row->name, name) == 0) {
            *ret = type;
            return true;
        }
    }
    return false;
}

bool pol_name_role(const char *name, uint64_t *ret)
{
    const struct dbe_role_row *row = dbe_reg_role_path(name);

    if (row == NULL)
        return false;
    *ret = row->role;
    return true;
}

bool pol_name_role_bit(const char *name, uint64_t *ret)
{
    if (!pol_name_role(name, ret) || *ret >= 32)
        return false;
    *ret = UINT64_C(1) << *ret;
    return true;
}

bool pol_name_compartment(const char *name, uint64_t *ret)
{
    const struct dbe_num_row *row = dbe_reg_compartment_named(name);

    if (row == NULL)
        return false;
    *ret = row->num;
    return true;
}

bool pol_name_roe(const char *name, uint64_t *ret)
{
    const struct dbe_num_row *row = dbe_reg_roe_named(name);

    if (row == NULL)
        return false;
    *ret = row->num;
    return true;
}

bool pol_name_roe_bit(const char *name, uint64_t *ret)
{
    if (!pol_name_roe(name, ret) || *ret >= 8)
        return false;
    *ret = UINT64_C(1) << *ret;
    return true;
}

bool pol_name_classification(const char *name, uint64_t *ret)
{
    const struct dbe_num_row *row = dbe_reg_classification_named(name);

    if (row == NULL)
        return false;
    *ret = row->num;
    return true;
}
