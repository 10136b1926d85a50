/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of a vCPU: state.c has the table of its parts, msrs.c and stats.c read what is more than one call, watch.c
 * reads it right before and right after a call. A report has these lines:
 *
 *   w VCPU PARTS LISTED TWICE READ FAILED   what was read of a vCPU: the names of the parts, joined by "+", where "-" is
 *                             before the name of a part whose capability this KVM lacks; how many MSRs stand in all
 *                             lists together, and were in an earlier list; of how many KVM told the value, or did not
 *   d VCPU PART AT OLD NEW    a word of 64 bits that differs. AT is its offset in bytes, the index of an MSR in
 *                             hexadecimal, or the name of a statistic; the values are hexadecimal, or "-" for an MSR that
 *                             KVM does not tell
 *   u VCPU PART ERRNO ERRNO   a part that KVM has, and that could not be read before or after the call
 *   n VCPU                    a vCPU that was not read: it may be inside KVM_RUN
 */
#ifndef STATE_H
#define STATE_H

#include "cpuidhook.h"

/* state.c */
void prepare_state(struct vcpu *vcpu);
struct state *read_state(struct vcpu *vcpu, struct state *state);
void print_report(FILE *out, const struct vcpu *vcpu, const struct state *before, const struct state *after);
void print_state(FILE *out, const struct state *state);

/* msrs.c: two words each, the value and whether KVM does not tell it */
unsigned int msr_bytes(struct vcpu *vcpu, int extent);
int read_msrs(struct vcpu *vcpu, uint64_t *words, unsigned int bytes);
void print_msr(FILE *out, unsigned int word);
void print_msr_counts(FILE *out, const uint64_t *words);

/* stats.c */
unsigned int stats_bytes(struct vcpu *vcpu, int extent);
int read_stats(struct vcpu *vcpu, uint64_t *words, unsigned int bytes);
void print_stat(FILE *out, unsigned int word);

#endif
