/* What private servers of the tests have in common: a process and a folder, which both go. */
#ifndef WEIR_TEST_PRIVATE_SERVER_H
#define WEIR_TEST_PRIVATE_SERVER_H

#include <errno.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline void private_server_nap(long msec)
{
	struct timespec t = {msec / 1000, msec % 1000 * 1000000};

	nanosleep(&t, NULL);
}

static inline void private_server_signal(pid_t pid, int signo)
{
	if (pid > 0)
		kill(pid, signo);
}

/* Also a stopped one gets the signal, and this waits for its end. */
static inline void private_server_down(pid_t *pid, int signo)
{
	if (*pid <= 0)
		return;
	kill(*pid, signo);
	kill(*pid, SIGCONT);
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	*pid = 0;
}

static inline void private_server_clear(char *dir)
{
	pid_t pid;

	if (!dir[0])
		return;
	pid = fork();
	if (pid == 0) {
		execl("/bin/rm", "rm", "-rf", "--", dir, (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
	dir[0] = '\0';
}

#endif
