/* SPDX-License-Identifier: Apache-2.0
 *
 * test.h - what cmocka wants to be included before it, and the header itself. For tests only.
 */
#ifndef BASE_TEST_H
#define BASE_TEST_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#endif
