/* Reading results, and what an SQLSTATE means for the work that met it. */
#include <string.h>

#include "pg_priv.h"

size_t pg_rows(const struct pg_result *r)
{
	return (size_t)PQntuples(r->res);
}

size_t pg_affected(const struct pg_result *r)
{
	int64_t n;

	/* PQcmdTuples only reads; its parameter is not const for history's sake. */
	if (str_to_int(str_of(PQcmdTuples(r->res)), 0, INT64_MAX, &n) != ERR_OK)
		return 0;
	return (size_t)n;
}

struct str pg_value(const struct pg_result *r, size_t row, size_t col)
{
	int y = (int)row, x = (int)col;

	if (row >= pg_rows(r) || col >= (size_t)PQnfields(r->res) || PQgetisnull(r->res, y, x))
		return STR_NONE;
	return str_n(PQgetvalue(r->res, y, x), (size_t)PQgetlength(r->res, y, x));
}

int64_t pg_int8(const struct pg_result *r, size_t row, size_t col)
{
	struct str s = pg_value(r, row, col);
	uint64_t v;

	if (s.len != 4 && s.len != 8)
		return 0;
	v = ((unsigned char)s.ptr[0] & 0x80) ? UINT64_MAX : 0; /* the sign goes all the way up */
	for (size_t i = 0; i < s.len; i++)
		v = v << 8 | (unsigned char)s.ptr[i];
	return (int64_t)v;
}

static bool in_class(const char *sqlstate, const char *class)
{
	return strncmp(sqlstate, class, strlen(class)) == 0;
}

enum err pg_err_of_sqlstate(const char *sqlstate, const char *constraint)
{
	static const struct {
		const char *class;
		enum err err;
	} classes[] = {
	    /* the first that fits */
	    {"22", ERR_DATA},
	    {"23", ERR_DATA},
	    {"54", ERR_DATA},
	    {"42P01", ERR_NOTABLE},
	    {"3F000", ERR_NOTABLE},
	    {"42501", ERR_DENIED},
	    {"42", ERR_BUG},
	    {"28", ERR_DENIED},
	    {"57014", ERR_TIMEOUT},
	    /* No event is to blame for these: a full disk, no connection left, others' locks, a
	     * server that takes no writes. (Out of memory, 53200, may be one's own doing.) */
	    {"53200", ERR_UNAVAILABLE},
	    {"53", ERR_FULL},
	    {"40", ERR_AGAIN},
	    {"55P03", ERR_AGAIN},
	    {"25006", ERR_AGAIN},
	};

	if (strcmp(sqlstate, "23514") == 0 && (!constraint || !*constraint))
		return ERR_NOTABLE; /* no partition takes the row */
	for (size_t i = 0; i < sizeof(classes) / sizeof(*classes); i++)
		if (in_class(sqlstate, classes[i].class))
			return classes[i].err;
	return ERR_UNAVAILABLE;
}
