/* SPDX-License-Identifier: Apache-2.0
 *
 * main.c - program dsmil-openai-shim: the runtime runs the service that shim.c declares.
 */
#include "shim/shim.h"

SVC_MAIN(openai_shim_device)
