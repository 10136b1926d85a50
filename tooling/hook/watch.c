// SPDX-License-Identifier: GPL-2.0-or-later
/* What a call does to the state of the called vCPU, and of all others that are at rest. state.h has the report. */
#include "state.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Hold the gate of a vCPU that is not inside KVM_RUN. Nobody waits here: two clients may hold each other's vCPU. */
static bool hold(struct vcpu *vcpu)
{
	if (pthread_mutex_trylock(&vcpu->gate))
		return false;
	if (!vcpu->in_run)
		return true;
	pthread_mutex_unlock(&vcpu->gate);
	return false;
}

/*
 * Read the state right before a call: of the others first, unless `alone`, then of the called vCPU. The caller holds the
 * gate of the called one. Those of the others are held until end_watch(), so that they stay at rest.
 */
void begin_watch(struct watch *watch, struct vcpu *called, bool alone)
{
	prepare_state(called);
	watch->called = called;
	watch->count = alone ? 0 : vcpu_count;
	for (int i = 0; i < watch->count; i++) {
		watch->held[i] = &vcpus[i] != called && hold(&vcpus[i]);
		if (watch->held[i])
			vcpus[i].before = read_state(&vcpus[i], vcpus[i].before);
	}
	called->before = read_state(called, called->before);
}

static void report(FILE *out, struct vcpu *vcpu)
{
	vcpu->after = read_state(vcpu, vcpu->after);
	if (vcpu->before && vcpu->after)
		print_report(out, vcpu, vcpu->before, vcpu->after);
	else
		fprintf(out, "u %lu memory %d %d\n", vcpu->id, ENOMEM, ENOMEM);
}

/* Read the state again, release the others, and return the report, which the caller frees; NULL: there is no memory. */
char *end_watch(struct watch *watch)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	if (out)
		report(out, watch->called);
	for (int i = 0; i < watch->count; i++) {
		if (watch->held[i] && out)
			report(out, &vcpus[i]);
		else if (&vcpus[i] != watch->called && out)
			fprintf(out, "n %lu\n", vcpus[i].id);
		if (watch->held[i])
			pthread_mutex_unlock(&vcpus[i].gate);
	}
	if (out)
		fclose(out);
	return text;
}

/* Print the state before (1) or after (2) the last set that was watched. */
void show_state(FILE *out, struct vcpu *vcpu, unsigned int which)
{
	char *text = NULL;
	size_t length;
	FILE *lines = open_memstream(&text, &length);

	if (!lines) {
		fprintf(out, "err %d no memory\n", ENOMEM);
		return;
	}
	pthread_mutex_lock(&vcpu->gate);
	if (vcpu->before && vcpu->after) {
		print_state(lines, which == 1 ? vcpu->before : vcpu->after);
		fputs("ok state=kept\n", lines);
	} else {
		fprintf(lines, "err %d no set was watched\n", ENODATA);
	}
	pthread_mutex_unlock(&vcpu->gate);
	fclose(lines);
	fputs(text, out);	/* the client may read slowly: the gate is free */
	free(text);
}

/* Write a report into the log: each line is an event, with commas for its blanks. */
void note_report(char *text)
{
	char *rest;

	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		for (char *at = line; *at; at++)
			*at = *at == ' ' ? ',' : *at;
		note("state what=%s", line);
	}
}
