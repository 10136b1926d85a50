// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Is this guest healthy? `health MARK LEAF.SUBLEAF ...` prints sections that cpuidlab.experiment.health reads. They
 * contain the kernel log from record MARK on, and the CPUID leaves that are named. This is one static program: under
 * emulation the start of a program costs more than everything that this program does.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KNOWN "5852.332160563 3908 6d5b3ebe"
#define WORDS 16384

static void print_uptime(void)
{
	char text[64] = "";
	int file = open("/proc/uptime", O_RDONLY);

	if (file < 0 || read(file, text, sizeof(text) - 1) <= 0)
		err(1, "/proc/uptime");
	close(file);
	printf("== uptime\n%.*s\n", (int)strcspn(text, " "), text);
}

/* Use floating point, integers and memory. Every healthy processor computes KNOWN. */
static void work(char *result, size_t size)
{
	uint32_t check = 0, word = 1, *memory = malloc(WORDS * sizeof(*memory));
	double sum = 0;
	int rest = 0;

	for (int i = 1; i <= 300; i++) {
		sum = sum * 0.999 + i / 7.0;
		rest = (rest * 31 + i) % 65521;
	}
	for (int i = 0; memory && i < WORDS; i++)
		memory[i] = word = word * 1664525 + 1013904223;
	for (int i = WORDS; memory && i--;)
		check = (check << 1 | check >> 31) ^ memory[i];
	snprintf(result, size, "%.9f %d %08x", sum, rest, check);
}

/* Let a process work on each online CPU, all at once. Each prints a line: CPU, 1 for a wrong result, result. */
static void work_on_all_cpus(void)
{
	cpu_set_t online, one;
	char result[64];

	if (sched_getaffinity(0, sizeof(online), &online))
		err(1, "sched_getaffinity");
	printf("== work\n");
	fflush(stdout);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &online) || fork())
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			snprintf(result, sizeof(result), "cannot run there: %m");
		else
			work(result, sizeof(result));
		dprintf(STDOUT_FILENO, "%d %d %s\n", cpu, strcmp(result, KNOWN) != 0, result);
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
}

/* Print what CPUID returns on each online CPU. A leaf is named "LEAF.SUBLEAF", both hexadecimal. */
static void print_cpuid(char **leaves)
{
	cpu_set_t online, one;

	if (sched_getaffinity(0, sizeof(online), &online))
		err(1, "sched_getaffinity");
	printf("== cpuid\n");
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &online))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			err(1, "CPU %d", cpu);
		printf("CPU %d:\n", cpu);
		for (char **word = leaves; *word; word++) {
			unsigned int leaf, subleaf, eax, ebx, ecx, edx;

			if (sscanf(*word, "%x.%x", &leaf, &subleaf) != 2)
				errx(1, "not a leaf: %s", *word);
			__cpuid_count(leaf, subleaf, eax, ebx, ecx, edx);
			printf("   0x%08x 0x%02x: eax=0x%08x ebx=0x%08x ecx=0x%08x edx=0x%08x\n", leaf, subleaf, eax,
			       ebx, ecx, edx);
		}
	}
	sched_setaffinity(0, sizeof(online), &online);
}

/* Each read returns one record: "level,sequence,...". At the end of the log a read would block. */
static void print_log(unsigned long mark)
{
	char record[8192], *sequence;
	int file = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	ssize_t length;

	printf("== kmsg\n");
	/* EPIPE: records were overwritten. The sequence number of the next record shows that they are missing. */
	while ((length = read(file, record, sizeof(record) - 1)) > 0 || (length < 0 && errno == EPIPE)) {
		record[length > 0 ? length : 0] = 0;
		sequence = strchr(record, ',');
		if (sequence && strtoul(sequence + 1, NULL, 10) >= mark)
			fwrite(record, length, 1, stdout);
	}
	close(file);
}

int main(int count, char **words)
{
	if (count < 2)
		errx(2, "usage: health MARK LEAF.SUBLEAF ...");
	print_uptime();
	work_on_all_cpus();
	print_cpuid(words + 2);
	print_uptime();
	print_log(strtoul(words[1], NULL, 10));
	printf("== end\n");
	return 0;
}
