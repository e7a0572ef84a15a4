/* Log-linear buckets as HdrHistogram has them: the index is the position of the highest bit and the
 * six bits behind it, so adding is a shift and an increment, and merging or printing needs no
 * knowledge of the values beforehand. */
#include "weir/base/histogram.h"

#define SUB (1 << HISTOGRAM_SUB_BITS)

static size_t bucket_of(int64_t value)
{
	int shift;

	if (value < SUB)
		return (size_t)value;
	shift = 63 - __builtin_clzll((unsigned long long)value) - HISTOGRAM_SUB_BITS;
	return (size_t)(shift + 1) * SUB + (size_t)((value >> shift) - SUB);
}

/* The largest value of a bucket. */
static int64_t bucket_end(size_t bucket)
{
	size_t row = bucket / SUB;

	if (row == 0)
		return (int64_t)bucket;
	return ((int64_t)(bucket % SUB + SUB + 1) << (row - 1)) - 1;
}

void histogram_add(struct histogram *h, int64_t value)
{
	if (value < 0)
		value = 0;
	if (value > HISTOGRAM_MAX)
		value = HISTOGRAM_MAX;
	h->counts[bucket_of(value)]++;
	h->count++;
	h->sum += (double)value;
	if (value > h->max)
		h->max = value;
}

int64_t histogram_quantile(const struct histogram *h, double share)
{
	uint64_t wanted, seen = 0;
	int64_t end;

	if (h->count == 0)
		return 0;
	wanted = (uint64_t)(share * (double)h->count);
	if ((double)wanted < share * (double)h->count || wanted == 0)
		wanted++;
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->counts[i];
		if (seen < wanted)
			continue;
		end = bucket_end(i);
		return end < h->max ? end : h->max;
	}
	return h->max;
}

double histogram_mean(const struct histogram *h)
{
	return h->count ? h->sum / (double)h->count : 0;
}
