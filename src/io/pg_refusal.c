/* Why a connection was not to be had. libpq gives no SQLSTATE of a log-in that failed, and its
 * words depend on the server's language; but a verbose message has the code in it. */
#include <string.h>

#include "pg_priv.h"
#include "weir/base/mem.h"

/* "...: FATAL:  28P01: password authentication failed ...\nLOCATION: ...": takes the code, and what
 * is behind the message, out of it. False: the text is none of a server. */
static bool take_sqlstate(char *text, char ret_state[6])
{
	char *at = strstr(text, ":  "), *location;

	for (; at; at = strstr(at + 1, ":  ")) {
		if (strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5 || at[8] != ':')
			continue;
		memcpy(ret_state, at + 3, 5);
		ret_state[5] = '\0';
		memmove(at + 3, at + 10, strlen(at + 10) + 1);
		location = strstr(at, "\nLOCATION:");
		if (location)
			*location = '\0';
		return true;
	}
	return false;
}

enum err pg_refusal(PGconn *pg, char ret_reason[PG_REASON_LEN])
{
	char state[6] = "", *text = mem_strdup(PQerrorMessage(pg));
	enum err e = PQconnectionNeedsPassword(pg) ? ERR_DENIED : ERR_UNAVAILABLE;

	pg_reason(ret_reason, text ? "" : PQerrorMessage(pg));
	if (!text)
		return ERR_NOMEM;
	if (take_sqlstate(text, state))
		e = strncmp(state, "28", 2) == 0  ? ERR_DENIED
		    : strcmp(state, "3D000") == 0 ? ERR_NOTFOUND
		                                  : e;
	pg_reason(ret_reason, text);
	mem_free(text);
	return e;
}
