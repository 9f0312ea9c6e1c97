/* SPDX-License-Identifier: Apache-2.0
 *
 * instance.h - what tells one worker program from another: its device and the defaults that follow from it (001 section
 * 2.2). The build names the device; everything else a parameter can change.
 */
#ifndef L7_WORKER_INSTANCE_H
#define L7_WORKER_INSTANCE_H

#ifndef WORKER_DEVICE
#define WORKER_DEVICE 47
#endif

#if WORKER_DEVICE == 47
#define WORKER_NAME "l7-llm-worker-47"
#define WORKER_LABEL "device_id=\"47\""
#define WORKER_PROFILE "llm-7b-amx"
#define WORKER_MEMORY_MIB 20480
#define WORKER_KV_MIB 1024
#elif WORKER_DEVICE == 44
#define WORKER_NAME "l7-llm-worker-npu"
#define WORKER_LABEL "device_id=\"44\""
#define WORKER_PROFILE "llm-1b-npu"
#define WORKER_MEMORY_MIB 2048
#define WORKER_KV_MIB 256
#else
#error "a worker is device 44 or 47"
#endif

#endif
