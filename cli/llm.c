/* SPDX-License-Identifier: Apache-2.0
 *
 * llm.c - `dsmil llm VERB ...`: the engine's tool, so that a model can be looked at, measured and quantised without a
 * mesh.
 */
#include "cli/cli.h"
#include "llm/llm.h"

int cli_llm(int argc, char **argv)
{
    cli_json_said(); /* in its own words */
    return llm_tool_main(argc - 1, argv + 1);
}
