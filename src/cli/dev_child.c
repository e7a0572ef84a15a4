/* Child processes of `weir dev`. Signals are blocked and taken with sigtimedwait: no handler, no
 * race between a check and a wait, and every wait is cut short by Ctrl-C. Each child gets
 * PR_SET_PDEATHSIG, so that even a killed `weir dev` leaves nothing running. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "weir/base/str.h"
#include "weir/cli/command.h"
#include "weir/cli/dev.h"

#define POLL       (20 * USEC_PER_MSEC)
#define KILL_GRACE (10 * USEC_PER_SEC)
#define TAIL_BYTES 16384
#define TAIL_LINES 20

static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGCHLD};

static void taken_set(sigset_t *set)
{
	sigemptyset(set);
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		sigaddset(set, taken[i]);
}

void dev_signals_init(void)
{
	sigset_t set;

	taken_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	/* What a caller ignores never becomes pending: a shell's background job would not hear
	 * SIGINT, and under an ignored SIGCHLD the kernel would reap our children. */
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		signal(taken[i], SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
}

enum dev_event dev_wait(usec_t timeout)
{
	struct timespec ts = {.tv_sec = timeout / USEC_PER_SEC,
	                      .tv_nsec = timeout % USEC_PER_SEC * 1000};
	sigset_t set;
	int sig;

	taken_set(&set);
	sig = sigtimedwait(&set, NULL, &ts);
	if (sig < 0)
		return DEV_NOTHING;
	return sig == SIGCHLD ? DEV_CHILD : DEV_STOP;
}

void dev_children_init(struct dev *d)
{
	d->redis = (struct dev_child){
	    .name = "redis-server", .stop_signal = SIGTERM, .death_signal = SIGTERM};
	/* SIGINT is Postgres's fast shutdown, SIGQUIT its immediate one. */
	d->postgres =
	    (struct dev_child){.name = "postgres", .stop_signal = SIGINT, .death_signal = SIGQUIT};
	d->serve = (struct dev_child){
	    .name = "weir serve", .stop_signal = SIGTERM, .death_signal = SIGKILL};
	d->helper =
	    (struct dev_child){.name = "helper", .stop_signal = SIGTERM, .death_signal = SIGKILL};
}

/* ---- between fork and exec ---- */

static void die(const char *what)
{
	dprintf(STDERR_FILENO, "weir dev: %s: %s\n", what, strerror(errno));
	_exit(127);
}

static void child_signals(void)
{
	sigset_t none;

	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		signal(taken[i], SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_files(int in, int log)
{
	if (dup2(in, STDIN_FILENO) < 0)
		die("stdin");
	if (log >= 0 && (dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0))
		die("log");
}

static void child_account(const struct dev *d)
{
	if (setgroups(0, NULL) != 0 || setgid(d->gid) != 0 || setuid(d->uid) != 0)
		die("changing to the servers' account");
}

static void child_exec(const struct dev *d, const struct dev_child *c, const struct dev_spawn *s,
                       const int fds[2], pid_t parent)
{
	static const char *const bare[] = {"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", NULL};
	const char *const *env = s->env ? s->env : bare;

	child_files(fds[0], fds[1]);
	setsid();
	if (s->drop && d->drop)
		child_account(d);
	/* After setuid, which clears it; and the parent may have died before it. */
	prctl(PR_SET_PDEATHSIG, c->death_signal);
	if (getppid() != parent)
		_exit(127);
	if (s->cwd && chdir(s->cwd) != 0)
		die(s->cwd);
	child_signals();
	execve(s->path, (char *const *)s->argv, (char *const *)env);
	die(s->path);
}

static void write_pid(const struct dev_child *c)
{
	char text[32];

	if (!c->pid_file[0])
		return;
	snprintf(text, sizeof(text), "%d\n", (int)c->pid);
	if (dev_write(c->pid_file, 0644, text) != ERR_OK)
		cli_error("%s would not be found again after a crash", c->name);
}

enum err dev_child_start(struct dev *d, struct dev_child *c, const struct dev_spawn *s)
{
	const char *input = s->input ? s->input : "/dev/null";
	int fds[2] = {open(input, O_RDONLY | O_CLOEXEC), -1};
	pid_t parent = getpid(), pid = -1;

	if (fds[0] >= 0 && c->log[0])
		fds[1] = open(c->log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
	if (fds[0] >= 0 && (fds[1] >= 0 || !c->log[0])) {
		fflush(NULL);
		pid = fork();
	}
	if (pid == 0)
		child_exec(d, c, s, fds, parent);
	if (pid < 0)
		cli_error("%s cannot be started: %s", c->name, strerror(errno));
	if (fds[0] >= 0)
		close(fds[0]);
	if (fds[1] >= 0)
		close(fds[1]);
	if (pid < 0)
		return ERR_IO;
	c->pid = pid;
	write_pid(c);
	return ERR_OK;
}

/* ---- ends ---- */

bool dev_child_reap(struct dev_child *c)
{
	int status;

	if (c->pid == 0)
		return true;
	if (waitpid(c->pid, &status, WNOHANG) != c->pid)
		return false;
	c->status = status;
	c->pid = 0;
	if (c->pid_file[0])
		unlink(c->pid_file);
	return true;
}

/* Waits until it has ended, at most `grace`. `again`: a signal from outside is passed on. */
static bool ended_within(struct dev_child *c, usec_t grace, bool again)
{
	usec_t end = clock_mono() + grace;

	while (!dev_child_reap(c)) {
		if (clock_mono() >= end)
			return false;
		if (dev_wait(POLL) == DEV_STOP && again)
			kill(c->pid, c->stop_signal);
	}
	return true;
}

void dev_child_stop(struct dev_child *c, usec_t grace)
{
	if (dev_child_reap(c))
		return;
	kill(c->pid, c->stop_signal);
	kill(c->pid, SIGCONT);
	if (ended_within(c, grace, true))
		return;
	cli_error("%s did not end within %d s: killed", c->name, (int)(grace / USEC_PER_SEC));
	kill(c->pid, SIGKILL);
	(void)ended_within(c, KILL_GRACE, false);
}

/* The start of the last lines of `text`. */
static const char *last_lines(const char *text, size_t len, int lines)
{
	const char *p = text + len;

	while (p > text)
		if (*--p == '\n' && p + 1 < text + len && lines-- == 0)
			return p + 1;
	return text;
}

static void print_tail(const char *path)
{
	char text[TAIL_BYTES + 1];
	off_t size;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	size = lseek(fd, 0, SEEK_END);
	n = pread(fd, text, TAIL_BYTES, size > TAIL_BYTES ? size - TAIL_BYTES : 0);
	close(fd);
	if (n <= 0)
		return;
	text[n] = '\0';
	fputs(last_lines(text, (size_t)n, TAIL_LINES - 1), stderr);
	if (text[n - 1] != '\n')
		fputc('\n', stderr);
}

void dev_child_explain(const struct dev_child *c)
{
	const char *how = WIFSIGNALED(c->status) ? "was ended by signal" : "ended with exit code";
	int code = WIFSIGNALED(c->status) ? WTERMSIG(c->status) : WEXITSTATUS(c->status);

	cli_error("%s %s %d%s%s", c->name, how, code, c->log[0] ? "; the end of " : "", c->log);
	if (c->log[0])
		print_tail(c->log);
}

int dev_child_run(struct dev *d, const char *name, const char *log, const struct dev_spawn *s,
                  usec_t timeout)
{
	struct dev_child *c = &d->helper;
	usec_t end = clock_mono() + timeout;

	*c = (struct dev_child){
	    .name = name, .stop_signal = SIGTERM, .death_signal = SIGKILL, .pid = 0};
	if (dev_path(c->log, "%s", log) != ERR_OK || dev_child_start(d, c, s) != ERR_OK)
		return CLI_FAILED;
	while (!dev_child_reap(c)) {
		if (clock_mono() >= end) {
			cli_error("%s takes longer than %d s", name, (int)(timeout / USEC_PER_SEC));
			return CLI_FAILED;
		}
		if (dev_wait(POLL) == DEV_STOP)
			return CLI_FAILED;
	}
	if (c->status == 0)
		return CLI_DONE;
	dev_child_explain(c);
	return WIFEXITED(c->status) ? WEXITSTATUS(c->status) : CLI_FAILED;
}

/* ---- orphans ---- */

bool dev_pid_is(pid_t pid, const char *mark)
{
	char path[64], args[16384];
	size_t len, want = strlen(mark);
	FILE *f;

	if (pid <= 1)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	len = fread(args, 1, sizeof(args) - 1, f);
	fclose(f);
	args[len] = '\0';
	for (const char *p = args; p < args + len; p += strlen(p) + 1)
		if (strlen(p) == want && memcmp(p, mark, want) == 0)
			return true;
	return false;
}
