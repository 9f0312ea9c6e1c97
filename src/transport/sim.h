/* SPDX-License-Identifier: Apache-2.0
 *
 * sim.h - what the network of "sim:name" addresses does to those who use it (sim.c).
 */
#ifndef TRANSPORT_SIM_H
#define TRANSPORT_SIM_H

#include "base/base.h"

/* All chances are per million. A zeroed one is a network without delay that does nothing wrong. */
struct tp_sim_config {
    uint64_t seed;
    uint64_t delay_min_ns, delay_max_ns; /* of each piece; order is kept, as on any stream                      */
    uint64_t bytes_per_s;                /* of each direction; 0: no limit                                      */
    uint32_t piece_max_bytes;            /* what is sent arrives in random pieces of at most this; 0: whole     */
    uint32_t flip_ppm;                   /* a piece arrives with one bit changed                                */
    uint32_t cut_ppm;                    /* with a piece the connection breaks; each end hears when it hears    */
    uint32_t half_open_ppm;              /* with a piece the connection goes silent; the ends hear of it only   */
    uint64_t half_open_ns;               /*   after this time                                                   */
    uint32_t refuse_ppm;                 /* nobody seems to listen                                              */
};

struct tp_sim_stats {
    uint64_t connects, pieces, bytes, flips, cuts, half_opens, refusals;
};

/* Set the network of the calling thread and its seed; counters begin at 0. NULL: a zeroed one. */
void tp_sim_set(const struct tp_sim_config *config);
void tp_sim_stats(struct tp_sim_stats *ret);

#endif
