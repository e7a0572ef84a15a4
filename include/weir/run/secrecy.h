/* Keeps the process's memory, which holds every secret, to the process. */
#ifndef WEIR_RUN_SECRECY_H
#define WEIR_RUN_SECRECY_H

#include <stdbool.h>

/* From now on a crash leaves no core file, wherever cores go, and other processes of the same user
 * can neither attach nor read the memory. False: the kernel refuses. */
bool secrecy_no_cores(void);

#endif
