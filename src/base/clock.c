/* Two clocks behind one switch, and a date formatter that knows neither zones nor locales. */
#include "weir/base/clock.h"

#include <time.h>

#define USEC_PER_DAY (86400 * USEC_PER_SEC)
/* The years that RFC 3339 can write. */
#define WALL_MIN (-719528 * USEC_PER_DAY)
#define WALL_MAX (2932897 * USEC_PER_DAY - 1)

static usec_t (*mono_source)(void);
static usec_t (*wall_source)(void);

static usec_t clock_read(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (usec_t)ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000;
}

usec_t clock_mono(void)
{
	return mono_source ? mono_source() : clock_read(CLOCK_MONOTONIC);
}

usec_t clock_wall(void)
{
	return wall_source ? wall_source() : clock_read(CLOCK_REALTIME);
}

void clock_set_source(usec_t (*mono)(void), usec_t (*wall)(void))
{
	mono_source = mono;
	wall_source = wall;
}

/* Gregorian date of a day counted from 1970-01-01. Years begin in March here, so that the leap day
 * is the last of its year; eras of 400 years all have 146097 days. */
static void civil_date(int64_t day, int *ret_year, int *ret_month, int *ret_day)
{
	int64_t z = day + 719468; /* from 0000-03-01 */
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153; /* 0 is March */

	*ret_day = (int)(doy - (153 * mp + 2) / 5 + 1);
	*ret_month = (int)(mp < 10 ? mp + 3 : mp - 9);
	*ret_year = (int)(yoe + era * 400 + (*ret_month <= 2));
}

static char *put_digits(char *out, int value, int digits, char after)
{
	for (int i = digits - 1; i >= 0; i--) {
		out[i] = (char)('0' + value % 10);
		value /= 10;
	}
	out[digits] = after;
	return out + digits + 1;
}

void clock_rfc3339(usec_t wall, char out[CLOCK_RFC3339_LEN])
{
	usec_t t = wall < WALL_MIN ? WALL_MIN : wall > WALL_MAX ? WALL_MAX : wall;
	int64_t days = t / USEC_PER_DAY;
	usec_t rest = t % USEC_PER_DAY;
	int year, month, day, ms;

	if (rest < 0) {
		rest += USEC_PER_DAY;
		days--;
	}
	ms = (int)(rest / USEC_PER_MSEC);
	civil_date(days, &year, &month, &day);
	out = put_digits(out, year, 4, '-');
	out = put_digits(out, month, 2, '-');
	out = put_digits(out, day, 2, 'T');
	out = put_digits(out, ms / 3600000, 2, ':');
	out = put_digits(out, ms / 60000 % 60, 2, ':');
	out = put_digits(out, ms / 1000 % 60, 2, '.');
	out = put_digits(out, ms % 1000, 3, 'Z');
	*out = '\0';
}
