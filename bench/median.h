/* SPDX-License-Identifier: Apache-2.0
 *
 * median.h - the one statistic of the benchmarks: what the slices of a run say when a few of them were disturbed.
 */
#ifndef BENCH_MEDIAN_H
#define BENCH_MEDIAN_H

#include <stddef.h>
#include <stdlib.h>

static inline int median_by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Sorts `values`; the upper of the two in the middle where `count` is even. */
static inline double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, median_by_value);
    return values[count / 2];
}

#endif
