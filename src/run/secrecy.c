/* The flag and not RLIMIT_CORE, for a handler that cores are piped to (systemd-coredump, say) does
 * not ask the limit. Marking the pages of keys alone would not do: copies of them stand in
 * OpenSSL's contexts, and in the environment that this process was started with. */
#include "weir/run/secrecy.h"

#include <sys/prctl.h>

bool secrecy_no_cores(void)
{
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
}
