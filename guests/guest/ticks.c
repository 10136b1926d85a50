// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ticks MILLISECONDS COUNT [CPU ...]: how late does a timer fire? On each named CPU, or on every online one, a thread
 * sleeps COUNT times until the next multiple of MILLISECONDS after its start. The first line is "armed". Nothing more is
 * printed before all have ended, since a packet would bring an interrupt. Then each CPU has a line: its number, and by how
 * many microseconds each of its timers was late, by CLOCK_MONOTONIC.
 *
 * With COUNT 0 a thread runs once on each CPU: that wakes a CPU which no timer wakes.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MOST 1000

struct ticker {
	pthread_t thread;
	long late[MOST];	/* microseconds */
	int error;
};

static struct ticker tickers[CPU_SETSIZE];
static long period_ms, count;

static void *tick(void *argument)
{
	struct ticker *ticker = argument;
	struct timespec due, now;

	clock_gettime(CLOCK_MONOTONIC, &due);
	for (long i = 0; i < count; i++) {
		due.tv_nsec += period_ms * 1000000;
		due.tv_sec += due.tv_nsec / 1000000000;
		due.tv_nsec %= 1000000000;
		while ((ticker->error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL)) == EINTR)
			;
		clock_gettime(CLOCK_MONOTONIC, &now);
		ticker->late[i] = (now.tv_sec - due.tv_sec) * 1000000 + (now.tv_nsec - due.tv_nsec) / 1000;
	}
	return NULL;
}

static void start_on(int cpu)
{
	pthread_attr_t attributes;
	cpu_set_t one;
	int error;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	pthread_attr_init(&attributes);
	pthread_attr_setaffinity_np(&attributes, sizeof(one), &one);
	error = pthread_create(&tickers[cpu].thread, &attributes, tick, &tickers[cpu]);
	if (error) {
		errno = error;
		err(1, "CPU %d", cpu);
	}
}

int main(int words, char **word)
{
	cpu_set_t cpus;

	period_ms = words > 2 ? atol(word[1]) : 0;
	count = words > 2 ? atol(word[2]) : -1;
	if (period_ms < 0 || period_ms > 10000 || count < 0 || count > MOST)
		errx(2, "usage: ticks MILLISECONDS COUNT [CPU ...]");
	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		err(1, "sched_getaffinity");
	if (words > 3)
		CPU_ZERO(&cpus);
	for (int i = 3; i < words; i++)
		CPU_SET(atoi(word[i]), &cpus);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &cpus))
			start_on(cpu);
	printf("armed\n");
	fflush(stdout);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &cpus))
			continue;
		pthread_join(tickers[cpu].thread, NULL);
		if (tickers[cpu].error) {
			errno = tickers[cpu].error;
			err(1, "CPU %d", cpu);
		}
	}
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &cpus))
			continue;
		printf("%d", cpu);
		for (long i = 0; i < count; i++)
			printf(" %ld", tickers[cpu].late[i]);
		printf("\n");
	}
	return 0;
}
