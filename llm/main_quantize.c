/* SPDX-License-Identifier: Apache-2.0
 *
 * main_quantize.c - `dsmil-quantize IN.gguf OUT.gguf`: the tool's verb as a program of its own.
 */
#include "llm.h"
#include "tool.h"

int main(int argc, char **argv)
{
    static char verb[] = "quantize";

    if (argc > 0)
        argv[0] = verb;
    return tool_finish(llm_tool_main(argc, argv));
}
