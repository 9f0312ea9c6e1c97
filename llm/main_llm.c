/* SPDX-License-Identifier: Apache-2.0
 *
 * main_llm.c - `dsmil-llm VERB ...`: the engine's tool as a program of its own.
 */
#include "llm.h"
#include "tool.h"

int main(int argc, char **argv)
{
    return tool_finish(llm_tool_main(argc - 1, argv + 1));
}
