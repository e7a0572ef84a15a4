/* Latencies as a histogram with a relative error of at most 1 in 64, whatever their size: buckets
 * of width 1 up to 64, from there on 64 in each power of two. One fixed struct, no allocation. */
#ifndef WEIR_BASE_HISTOGRAM_H
#define WEIR_BASE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_SUB_BITS 6
#define HISTOGRAM_MAX      ((int64_t)1 << 40) /* larger values count as this one */
#define HISTOGRAM_BUCKETS  ((40 - HISTOGRAM_SUB_BITS + 1) * (1 << HISTOGRAM_SUB_BITS) + 1)

/* All zero is an empty one. */
struct histogram {
	uint64_t counts[HISTOGRAM_BUCKETS];
	uint64_t count;
	int64_t max; /* exact */
	double sum;  /* exact up to rounding */
};

/* Negative values count as 0. The unit is the caller's. */
void histogram_add(struct histogram *h, int64_t value);
/* The least value that at least `share` (0..1) of all values are not above: the upper end of its
 * bucket, never above the maximum. 0 for an empty one. */
int64_t histogram_quantile(const struct histogram *h, double share);
double histogram_mean(const struct histogram *h);

#endif
