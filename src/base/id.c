/* Layout: 48 bits of milliseconds, version, 12 + 14 bits of counter around the variant, 48 random
 * bits. The counter starts anew at a random value below half of its range in each millisecond, so
 * that two processes rarely share one, and there is room for 33 million ids before it would borrow
 * from the next millisecond. A clock that steps back is waited out by counting on. */
#include "weir/base/id.h"

#include "weir/base/digest.h"
#include "weir/base/rnd.h"

#define COUNTER_BITS 26
#define MSEC_MAX     ((UINT64_C(1) << 48) - 1)

static struct {
	uint64_t msec;
	uint32_t counter;
} last;

static uint64_t msec_of(usec_t wall)
{
	uint64_t msec = wall > 0 ? (uint64_t)(wall / USEC_PER_MSEC) : 0;

	return msec < MSEC_MAX ? msec : MSEC_MAX;
}

static uint32_t first_count(void)
{
	return (uint32_t)(rnd_u64() >> (64 - (COUNTER_BITS - 1)));
}

static void step(uint64_t msec)
{
	if (msec <= last.msec) {
		if (++last.counter >> COUNTER_BITS == 0)
			return;
		msec = last.msec + 1;
	}
	last.msec = msec;
	last.counter = first_count();
}

static void put_msec(uint8_t *b, uint64_t msec)
{
	for (int i = 0; i < 6; i++)
		b[i] = (uint8_t)(msec >> (40 - 8 * i));
}

void uuid_of(uint64_t msec, uint64_t number, struct uuid *ret)
{
	uint8_t *b = ret->bytes;

	put_msec(b, msec);
	b[6] = 0x70;
	b[7] = 0;
	for (int i = 0; i < 8; i++)
		b[8 + i] = (uint8_t)(number >> (56 - 8 * i));
	b[8] = (uint8_t)(0x80 | (b[8] & 0x3f)); /* the variant has the first two bits */
}

void uuid_make(usec_t wall, struct uuid *ret)
{
	uint8_t *b = ret->bytes;

	step(msec_of(wall));
	put_msec(b, last.msec);
	b[6] = (uint8_t)(0x70 | last.counter >> 22);
	b[7] = (uint8_t)(last.counter >> 14);
	b[8] = (uint8_t)(0x80 | (last.counter >> 8 & 0x3f));
	b[9] = (uint8_t)last.counter;
	rnd_bytes(b + 10, 6);
}

/* Where each byte's digits stand: 8-4-4-4-12 of them. */
static const uint8_t digits_at[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};

void uuid_format(const struct uuid *u, char out[UUID_TEXT_LEN + 1])
{
	static const char hex[] = "0123456789abcdef";

	for (int i = 0; i < 16; i++) {
		out[digits_at[i]] = hex[u->bytes[i] >> 4];
		out[digits_at[i] + 1] = hex[u->bytes[i] & 15];
	}
	out[8] = out[13] = out[18] = out[23] = '-';
	out[UUID_TEXT_LEN] = '\0';
}

enum err uuid_parse(struct str s, struct uuid *ret)
{
	char digits[32];
	struct uuid u;
	size_t len;

	if (s.len != UUID_TEXT_LEN || s.ptr[8] != '-' || s.ptr[13] != '-' || s.ptr[18] != '-' ||
	    s.ptr[23] != '-')
		return ERR_INVAL;
	for (int i = 0; i < 16; i++)
		memcpy(digits + 2 * i, s.ptr + digits_at[i], 2);
	if (hex_decode(str_n(digits, sizeof(digits)), u.bytes, sizeof(u.bytes), &len))
		return ERR_INVAL;
	*ret = u;
	return ERR_OK;
}
