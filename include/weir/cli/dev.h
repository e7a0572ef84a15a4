/* The pieces of `weir dev`: a folder with a lock, child processes that cannot outlive it, and the
 * two private servers. All of it blocks, and waits in dev_wait(), which a signal ends. */
#ifndef WEIR_CLI_DEV_H
#define WEIR_CLI_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "weir/base/clock.h"
#include "weir/base/err.h"

#define DEV_PATH 1024
/* sun_path holds 108 bytes; the socket's own name needs some of them. */
#define DEV_SOCKET_DIR_MAX 80

struct dev_child {
	const char *name; /* for people */
	/* One argument of its command line that no other program has: how an orphan is known again.
	 * Below it stands `pid_file`. */
	char mark[DEV_PATH];
	char pid_file[DEV_PATH];
	char log[DEV_PATH]; /* "": the terminal */
	int stop_signal;    /* asks it to end in good order */
	int death_signal;   /* what it gets when this process dies */
	pid_t pid;          /* 0: not running */
	int status;         /* as waitpid() gave it, once it ran */
};

struct dev {
	char dir[DEV_PATH];     /* absolute */
	char shown[DEV_PATH];   /* as the caller wrote it */
	char data[DEV_PATH];    /* the servers' data; dir/data, or where that points */
	char sockets[DEV_PATH]; /* short enough for a socket */
	char conf[DEV_PATH];    /* settings of the weir that is served */
	char tools[DEV_PATH];
	char redis_bin[DEV_PATH];
	char postgres_bin[DEV_PATH]; /* the folder */
	bool own_tools;              /* the tools file is the demo's */
	bool ephemeral;
	bool sockets_apart; /* the sockets' folder lies in /tmp, and goes with this process */
	bool drop;          /* this process is root: the servers run as uid, gid */
	uid_t uid;
	gid_t gid;
	int lock_fd;
	int port, health_port, admin_port;
	char admin_token[33]; /* hex; made anew at each start */
	struct dev_child redis, postgres, serve, helper;
};

/* ---- dev_path.c ---- */

/* ERR_TOOBIG when it does not fit. */
enum err dev_path(char out[DEV_PATH], const char *fmt, ...) PRINTF_LIKE(2, 3) MUST_CHECK;
/* Replaces the file in one step. Says itself what failed. */
enum err dev_write(const char *path, mode_t mode, const char *text) MUST_CHECK;
/* The file's first `space` - 1 bytes as a string; false when it cannot be read. */
bool dev_read(const char *path, char *out, size_t space);
void dev_remove_tree(const char *path);
/* An executable of that name in $PATH or the usual folders. */
bool dev_find(const char *name, char ret[DEV_PATH]);

/* ---- dev_dir.c: each returns an exit code, and says what is wrong unless it is 0 ---- */

/* Makes the folder, takes its lock, and finds where data and sockets go. `dir` NULL: a new one
 * below /tmp, removed by dev_dir_close(). */
int dev_dir_open(struct dev *d, const char *dir);
/* Ends what a killed `weir dev` left running in this folder. */
int dev_dir_sweep(struct dev *d);
void dev_dir_close(struct dev *d);

/* ---- dev_child.c ---- */

enum dev_event { DEV_NOTHING, DEV_STOP, DEV_CHILD };

/* Names the children and their signals; once, before all else. */
void dev_children_init(struct dev *d);
/* Signals are taken by dev_wait() from now on. */
void dev_signals_init(void);
/* Waits for a signal: DEV_STOP once for each SIGINT, SIGTERM or SIGHUP, DEV_CHILD when a child may
 * have ended, DEV_NOTHING when `timeout` passed. */
enum dev_event dev_wait(usec_t timeout);

struct dev_spawn {
	const char *path;
	const char *const *argv;
	const char *const *env; /* NULL: a bare one for servers */
	const char *input;      /* file for stdin; NULL: /dev/null */
	const char *cwd;        /* NULL: stays */
	bool drop;              /* to the servers' account, if this process is root */
};

/* ERR_IO: could not start, said so. The child is in a session of its own, so that the terminal's
 * Ctrl-C reaches this process only. */
enum err dev_child_start(struct dev *d, struct dev_child *c, const struct dev_spawn *s) MUST_CHECK;
/* True when it has ended; then c->pid is 0 and c->status holds how. */
bool dev_child_reap(struct dev_child *c);
/* Runs a helper to its end. 0 when it exited with 0; CLI_FAILED otherwise, and says why. */
int dev_child_run(struct dev *d, const char *name, const char *log, const struct dev_spawn *s,
                  usec_t timeout);
/* Asks it to end, and kills it after `grace`. A DEV_STOP meanwhile asks once more. */
void dev_child_stop(struct dev_child *c, usec_t grace);
/* "NAME ended with exit code 1; its log ends:" and the log's last lines, on stderr. */
void dev_child_explain(const struct dev_child *c);
/* True while `pid` is a process with this argument in its command line. */
bool dev_pid_is(pid_t pid, const char *mark);

/* ---- dev_servers.c: each returns an exit code ---- */

int dev_servers_find(struct dev *d);
int dev_servers_start(struct dev *d);
void dev_servers_stop(struct dev *d);

#endif
