/* SPDX-License-Identifier: Apache-2.0
 *
 * registry_test.c - the generated tables answer as schema/ says.
 */
#include "dbe/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void aliases_are_read_as_chat(void **state)
{
    (void)state;
    assert_ptr_equal(dbe_reg_msg(0x30), dbe_reg_msg(DBE_MSG_L7_CHAT_REQ));
    assert_ptr_equal(dbe_reg_msg(0x31), dbe_reg_msg(DBE_MSG_L7_CHAT_RESP));
    assert_null(dbe_reg_msg(0x00));
    assert_int_equal(dbe_reg_msg(0x41)->reply, 0x42);
}

static void every_device_stands_at_its_number(void **state)
{
    (void)state;
    for (unsigned id = 0; id < DBE_DEVICE_COUNT; id++)
        assert_int_equal(dbe_reg_device((uint8_t)id)->id, id);
    assert_null(dbe_reg_device(DBE_DEVICE_COUNT));
    assert_int_equal(dbe_reg_device(47)->layer, 7);
    assert_int_equal(dbe_reg_device(61)->layer, 9);
}

/* spec 11.5 */
static void nobody_may_say_what_is_not_listed(void **state)
{
    (void)state;
    assert_int_equal(dbe_reg_may_emit(DBE_ROLE_SHIM, DBE_MSG_L7_CHAT_REQ, DBE_ROLE_ROUTER), 1);
    assert_int_equal(dbe_reg_may_emit(DBE_ROLE_SHIM, DBE_MSG_L7_CHAT_REQ, DBE_ROLE_WORKER), 0);
    assert_int_equal(dbe_reg_may_emit(DBE_ROLE_WORKER, DBE_MSG_L7_CHAT_REQ, DBE_ROLE_ROUTER), 0);
    assert_int_equal(dbe_reg_may_emit(0, 0, 0), 0);
    assert_int_equal(dbe_reg_may_emit(UINT8_MAX, UINT8_MAX, UINT8_MAX), 0);
}

/* Exactly the rows of emits.def: each of them, and no more of all that could be asked. */
static void the_emit_table_is_its_rows(void **state)
{
    static const uint8_t rows[][3] = {
#define EMIT(src, msg, dst) {DBE_ROLE_##src, DBE_MSG_##msg, DBE_ROLE_##dst},
#include "emits.def"
#undef EMIT
    };
    size_t allowed = 0, listed = sizeof rows / sizeof rows[0];

    (void)state;
    for (size_t i = 0; i < listed; i++)
        assert_int_equal(dbe_reg_may_emit(rows[i][0], rows[i][1], rows[i][2]), 1);
    for (unsigned src = 0; src < 256; src++)
        for (unsigned msg = 0; msg < 256; msg++)
            for (unsigned dst = 0; dst < 256; dst++)
                allowed += dbe_reg_may_emit((uint8_t)src, (uint8_t)msg, (uint8_t)dst) != 0;
    assert_int_equal(allowed, listed);
}

/* spec 1.3 */
static void no_verb_is_kinetic(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        const struct dbe_msg_row *row = dbe_reg_msg((uint8_t)type);
        if (row != NULL) {
            assert_null(strstr(row->name, "STRIKE"));
            assert_null(strstr(row->name, "KINETIC"));
            assert_null(strstr(row->name, "EXECUTE"));
        }
    }
    assert_int_equal(dbe_reg_compartment_named("KINETIC")->num, 0x80);
}

static void names_lead_back_to_rows(void **state)
{
    (void)state;
    assert_int_equal(dbe_reg_tlv_named("REQUEST_ID")->type, DBE_TLV_REQUEST_ID);
    assert_null(dbe_reg_tlv_named("NO_SUCH_TLV"));
    assert_int_equal(dbe_reg_classification_named("EXEC")->num, DBE_CLSF_EXEC);
    assert_int_equal(dbe_reg_roe_named("SOC_ASSIST")->num, DBE_ROE_SOC_ASSIST);
    assert_int_equal(dbe_reg_role_path("router")->role, DBE_ROLE_ROUTER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aliases_are_read_as_chat),     cmocka_unit_test(every_device_stands_at_its_number),
        cmocka_unit_test(nobody_may_say_what_is_not_listed),
        cmocka_unit_test(the_emit_table_is_its_rows), cmocka_unit_test(no_verb_is_kinetic),
        cmocka_unit_test(names_lead_back_to_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
