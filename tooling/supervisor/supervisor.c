// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The only program that the lab puts on a machine that is not its own. It owns one private folder there and every
 * process of a test, and removes both when the lab is gone.
 *
 *   supervisor hold FOLDER           keep the files of a job for as long as standard input speaks, see below
 *   supervisor keep FOLDER LOCK      keep those of a test, and run what it starts
 *   supervisor connect SOCKET        join standard input and output to a unix socket
 *
 * `keep` waits until no other supervisor on this machine holds the name LOCK. Both print "ready" and then read lines:
 *
 *   alive    the lab is there; QUIET_SECONDS without any line, or the end of input, mean that the lab is gone
 *   start    run `sh FOLDER/start`; only `keep` can
 *
 * What `start` runs has a network and process ids of its own: no port of a guest can be reached by others on the machine,
 * and the kernel ends every process of it with the first. FOLDER/guest.sock leads to port 2222 in that network. At the
 * end `sh FOLDER/undo`, where there is such a file, puts back the settings that the lab has changed. A second process,
 * the guard, does the same where the first was killed, so that nothing stays behind.
 *
 * The program is static, so that it runs whatever the machine's C library is.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GUEST_PORT 2222
#define QUIET_SECONDS 30
#define UNDO_SECONDS 60

static const char *folder;
static volatile sig_atomic_t told_to_end;

static void note_end(int signal_number)
{
	(void)signal_number;
	told_to_end = 1;
}

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *place)
{
	(void)about, (void)kind, (void)place;
	return remove(path) && errno != ENOENT ? -1 : 0;
}

static void remove_folder(void)
{
	nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Leave the lab's connection and its terminal's signals. */
static void detach(void)
{
	int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	for (int stream = 0; stream < 3; stream++)
		dup2(nothing, stream);
}

/* Start a script of the folder, away from the lab's connection. Returns its process id. */
static pid_t start_script(const char *name, unsigned int seconds)
{
	pid_t child = fork();
	char path[512];

	if (child)
		return child;
	detach();
	alarm(seconds); /* 0: no limit */
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	execl("/bin/sh", "sh", path, (char *)NULL);
	_exit(127);
}

/* Put back what the lab has changed on this machine. */
static void undo(void)
{
	char path[512];
	pid_t child;

	snprintf(path, sizeof(path), "%s/undo", folder);
	if (access(path, R_OK))
		return;
	child = start_script("undo", UNDO_SECONDS);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

/*
 * Fork a process that puts everything back when all others of the supervisor have ended, however they did: each of them
 * holds the pipe. It has the user's rights, which a process in a user namespace has not, and the lock, if we have it.
 */
static void start_guard(void)
{
	int ends[2];
	pid_t child;
	char none;

	if (pipe2(ends, O_CLOEXEC))
		err(1, "pipe");
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (child) {
		close(ends[0]);
		return; /* the other end is never closed */
	}
	close(ends[1]);
	detach();
	while (read(ends[0], &none, 1) < 0 && errno == EINTR)
		;
	undo();
	remove_folder();
	_exit(0);
}

static int unix_socket(const char *name, int abstract, struct sockaddr_un *address, socklen_t *length)
{
	size_t size = strlen(name);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (size + 1 >= sizeof(address->sun_path))
		errx(2, "the path of this socket is too long: %s", name);
	memcpy(address->sun_path + abstract, name, size);
	*length = offsetof(struct sockaddr_un, sun_path) + abstract + size;
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int write_all(int to, const char *data, ssize_t length)
{
	while (length > 0) {
		ssize_t written = write(to, data, length);

		if (written < 0 && errno != EINTR)
			return -1;
		if (written > 0) {
			data += written;
			length -= written;
		}
	}
	return 0;
}

/* Copy in both directions until the far side ends; what ends on the near side is told to the far one. */
static void join(int in, int out, int far)
{
	struct pollfd ends[2] = {{.fd = in, .events = POLLIN}, {.fd = far, .events = POLLIN}};
	char data[65536];

	for (;;) {
		if (poll(ends, 2, -1) < 0 && errno != EINTR)
			return;
		for (int end = 0; end < 2; end++) {
			ssize_t length;

			if (!(ends[end].revents & (POLLIN | POLLHUP | POLLERR)))
				continue;
			length = read(ends[end].fd, data, sizeof(data));
			if (length < 0 && errno == EINTR)
				continue;
			if (length <= 0 && end == 1)
				return;
			if (length <= 0) {
				shutdown(far, SHUT_WR);
				ends[0].fd = -1;
				ends[0].revents = 0;
				continue;
			}
			if (write_all(end ? out : far, data, length))
				return;
		}
	}
}

static int connect_to(const char *name)
{
	struct sockaddr_un address;
	socklen_t length;
	int far = unix_socket(name, 0, &address, &length);

	if (connect(far, (struct sockaddr *)&address, length))
		err(1, "%s", name);
	signal(SIGPIPE, SIG_IGN);
	join(STDIN_FILENO, STDOUT_FILENO, far);
	return 0;
}

static void serve_guest(int listener)
{
	struct sockaddr_in guest = {
		.sin_family = AF_INET, .sin_port = htons(GUEST_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int near = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	int far;

	if (near < 0 || fork())
		goto out;
	far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!connect(far, (struct sockaddr *)&guest, sizeof(guest)))
		join(near, near, far);
	_exit(0);
out:
	close(near);
}

static void bring_up_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (ioctl(any, SIOCSIFFLAGS, &request))
		err(1, "the loopback of a network of its own cannot be brought up");
	close(any);
}

/*
 * The first process in the namespaces: everything that a test starts is its child, and ends with it. `orders` is the
 * socket from the keeper: its end is the keeper's.
 */
static int first_process(int orders, int listener)
{
	struct pollfd ends[2] = {{.fd = orders, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
	char order;

	bring_up_loopback();
	if (write(orders, "u", 1) != 1)
		return 1;
	for (;;) {
		int ready = poll(ends, 2, 1000);

		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (ready <= 0)
			continue;
		if (ends[1].revents & POLLIN)
			serve_guest(listener);
		if (!(ends[0].revents & (POLLIN | POLLHUP)))
			continue;
		if (read(orders, &order, 1) != 1)
			break;
		start_script("start", 0);
	}
	kill(-1, SIGKILL); /* here -1 means this namespace */
	while (wait(NULL) > 0 || errno == EINTR)
		; /* the guard begins when we end */
	return 0;
}

static void write_map(pid_t process, const char *name, const char *text)
{
	char path[64];
	int file;

	snprintf(path, sizeof(path), "/proc/%d/%s", process, name);
	file = open(path, O_WRONLY | O_CLOEXEC);
	if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text))
		err(1, "%s of a user namespace cannot be written", name);
	close(file);
}

struct first {
	int orders[2];
	int listener;
};

static int begin(void *argument)
{
	struct first *first = argument;
	char go;

	close(first->orders[0]);
	if (read(first->orders[1], &go, 1) != 1) /* the maps are written now */
		return 1;
	return first_process(first->orders[1], first->listener);
}

/* Make the namespaces and their first process. An ordinary user gets them together with a user namespace. */
static pid_t make_first_process(struct first *first)
{
	static char stack[256 * 1024] __attribute__((aligned(16)));
	int flags = CLONE_NEWNET | CLONE_NEWPID | SIGCHLD | (geteuid() ? CLONE_NEWUSER : 0);
	pid_t child = clone(begin, stack + sizeof(stack), flags, first);
	char map[64];

	if (child < 0)
		err(1, "this machine does not let us make a network and process ids of our own (%s)",
		    geteuid() ? "user namespaces are off; see /proc/sys/user/max_user_namespaces" : "as root");
	if (geteuid()) {
		write_map(child, "setgroups", "deny");
		snprintf(map, sizeof(map), "0 %d 1", geteuid());
		write_map(child, "uid_map", map);
		snprintf(map, sizeof(map), "0 %d 1", getegid());
		write_map(child, "gid_map", map);
	}
	return child;
}

static int listen_for_guest(void)
{
	struct sockaddr_un address;
	socklen_t length;
	char path[512];
	int listener;

	snprintf(path, sizeof(path), "%s/guest.sock", folder);
	listener = unix_socket(path, 0, &address, &length);
	if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 8))
		err(1, "%s", path);
	return listener;
}

/* One line of the lab's; 0 for "alive" and what is not known, 1 for "start", -1 where the lab is gone. */
static int read_order(void)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	static char line[64];
	static size_t length;
	int ready = poll(&input, 1, QUIET_SECONDS * 1000);
	char byte;

	if (told_to_end || ready == 0)
		return -1;
	if (ready < 0)
		return errno == EINTR ? 0 : -1;
	if (read(STDIN_FILENO, &byte, 1) != 1)
		return -1;
	if (byte != '\n') {
		line[length < sizeof(line) - 1 ? length++ : length] = byte;
		return 0;
	}
	line[length] = '\0';
	length = 0;
	return strcmp(line, "start") == 0;
}

/* Wait until no other supervisor holds the name: one test at a time on a machine. The kernel drops it with our end. */
static int wait_for_turn(const char *name)
{
	struct sockaddr_un address;
	socklen_t length;
	int lock = unix_socket(name, 1, &address, &length);
	int told = 0;

	while (bind(lock, (struct sockaddr *)&address, length)) {
		struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

		if (errno != EADDRINUSE)
			err(1, "the lock of this machine");
		if (!told++)
			puts("waiting");
		fflush(stdout);
		if (poll(&input, 1, 500) > 0 && read_order() < 0)
			return -1;
		if (told_to_end)
			return -1;
	}
	return lock;
}

static void end_first_process(pid_t child)
{
	kill(child, SIGKILL); /* the kernel ends all others of its namespace with it */
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

static void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}

static int hold(void)
{
	start_guard();
	say_ready();
	while (read_order() >= 0)
		;
	return 0;
}

static int keep(const char *lock)
{
	struct first first;
	char up;
	pid_t child;
	int order;

	if (wait_for_turn(lock) < 0)
		return 0;
	start_guard();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, first.orders))
		err(1, "socketpair");
	first.listener = listen_for_guest();
	child = make_first_process(&first);
	close(first.orders[1]);
	if (write(first.orders[0], "g", 1) != 1 || read(first.orders[0], &up, 1) != 1) {
		end_first_process(child);
		errx(1, "the network of a test's own did not come up");
	}
	say_ready();
	while ((order = read_order()) >= 0)
		if (order && write(first.orders[0], "s", 1) != 1)
			break;
	end_first_process(child);
	undo();
	return 0;
}

static void at_end(void)
{
	remove_folder();
}

int main(int count, char **words)
{
	struct sigaction action = {.sa_handler = note_end};

	if (count == 3 && !strcmp(words[1], "connect"))
		return connect_to(words[2]);
	if (!(count == 3 && !strcmp(words[1], "hold")) && !(count == 4 && !strcmp(words[1], "keep")))
		errx(2, "usage: supervisor hold FOLDER | keep FOLDER LOCK | connect SOCKET");
	folder = words[2];
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	atexit(at_end);
	return count == 4 ? keep(words[3]) : hold();
}
