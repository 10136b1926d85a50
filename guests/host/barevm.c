// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Call KVM on VMs of our own, without QEMU. Requests come on standard input, one a line, and each is answered by one
 * line. Descriptors and buffers have numbers that the requests give them; all other numbers are hexadecimal.
 *
 *   open FD PATH                   "RET ERRNO"
 *   ioctl FD REQUEST ARG [NEW]     "RET ERRNO"; ARG is a number, or @N for buffer N. RET is kept as descriptor NEW
 *   run FD IMMEDIATE               "RET ERRNO EXIT_REASON DETAIL" of KVM_RUN; DETAIL is the first word behind the head of
 *                                  struct kvm_run. A vCPU that does not come back is interrupted: EINTR
 *   close FD                       "RET ERRNO"
 *   put BUFFER BYTES               "0 0"; the bytes in hexadecimal, and zeros behind them
 *   point BUFFER OFFSET OTHER      "0 0"; write the address of buffer OTHER
 *   get BUFFER COUNT               the first bytes, in hexadecimal
 *   flush                          no answer; all answers so far are sent
 *
 * What a request means is decided in cpuidlab.experiment.bare_kvm. A request that is none of these ends the program.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>
#include <linux/kvm.h>

#define FDS 256
#define BUFFERS 256
#define ROOM 0x10000	/* of one buffer, in whole pages, so that one can be a guest's memory */
#define RUN_SECONDS 5
#define LINE 0x40000

static int fds[FDS] = { [0 ... FDS - 1] = -1 };
static unsigned char *buffers[BUFFERS];

static void bad(const char *line)
{
	errx(2, "not a request: %.60s", line);
}

static unsigned long number(char **words)
{
	char *word = strsep(words, " "), *end;
	unsigned long value;

	if (!word)
		bad("a word is missing");
	value = strtoul(word, &end, 16);
	if (end == word || *end)
		bad(word);
	return value;
}

static unsigned long below(char **words, unsigned long limit)
{
	unsigned long value = number(words);

	if (value >= limit)
		errx(2, "%lx is not below %lx", value, limit);
	return value;
}

static unsigned char *buffer(char **words)
{
	unsigned long at = below(words, BUFFERS);

	if (!buffers[at]) {
		buffers[at] = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (buffers[at] == MAP_FAILED)
			err(1, "memory");
	}
	return buffers[at];
}

static void answer(int ret)
{
	printf("%d %d\n", ret, ret < 0 ? errno : 0);
}

static void do_open(char *words)
{
	unsigned long at = below(&words, FDS);

	fds[at] = open(words ? words : "", O_RDWR | O_CLOEXEC);
	answer(fds[at]);
}

static void do_ioctl(char *words)
{
	int fd = fds[below(&words, FDS)], ret;
	unsigned long request = number(&words), arg;

	if (words && *words == '@') {
		words++;
		arg = (unsigned long)buffer(&words);
	} else {
		arg = number(&words);
	}
	ret = ioctl(fd, request, arg);
	answer(ret);
	if (words)
		fds[below(&words, FDS)] = ret;
}

static void run(char *words)
{
	int fd = fds[below(&words, FDS)], immediate_exit = number(&words), ret;
	struct itimerval patience = { .it_value.tv_sec = RUN_SECONDS, .it_interval.tv_sec = 1 }, none = { 0 };
	struct kvm_run *run = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	uint64_t detail;

	if (run == MAP_FAILED) {
		printf("-1 %d 0 0\n", errno);
		return;
	}
	run->immediate_exit = immediate_exit;
	setitimer(ITIMER_REAL, &patience, NULL);
	ret = ioctl(fd, KVM_RUN, 0);
	if (ret < 0)
		ret = -errno;
	setitimer(ITIMER_REAL, &none, NULL);
	memcpy(&detail, (char *)run + 32, sizeof(detail));
	printf("%d %d %x %llx\n", ret < 0 ? -1 : ret, ret < 0 ? -ret : 0, run->exit_reason, (unsigned long long)detail);
	munmap(run, 4096);
}

static void do_close(char *words)
{
	answer(close(fds[below(&words, FDS)]));
}

static void put(char *words)
{
	unsigned char *to = buffer(&words), *byte = to;

	memset(to, 0, ROOM);
	for (; words && *words; words += 2, byte++)
		if (byte == to + ROOM || sscanf(words, "%2hhx", byte) != 1 || !words[1])
			bad(words);
	answer(0);
}

static void point(char *words)
{
	unsigned char *to = buffer(&words);
	unsigned long at = below(&words, ROOM - sizeof(void *));
	void *other = buffer(&words);

	memcpy(to + at, &other, sizeof(other));
	answer(0);
}

static void get(char *words)
{
	unsigned char *from = buffer(&words);
	unsigned long count = below(&words, ROOM + 1);

	while (count--)
		printf("%02x", *from++);
	putchar('\n');
}

static void flush(char *words)
{
	(void)words;
	if (fflush(stdout))
		err(1, "standard output");
}

static const struct {
	const char *verb;
	void (*serve)(char *words);
} verbs[] = {
	{ "open", do_open }, { "ioctl", do_ioctl }, { "run", run }, { "close", do_close },
	{ "put", put }, { "point", point }, { "get", get }, { "flush", flush },
};

static void serve(char *line)
{
	const char *verb = strsep(&line, " ");

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(verb, verbs[i].verb)) {
			verbs[i].serve(line);
			return;
		}
	bad(verb);
}

static void ring(int signal)
{
	(void)signal;
}

int main(void)
{
	static char line[LINE];
	struct sigaction action = { .sa_handler = ring }; /* no SA_RESTART: KVM_RUN ends with EINTR */

	sigaction(SIGALRM, &action, NULL);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		serve(line);
	}
	flush(NULL);
	return 0;
}
