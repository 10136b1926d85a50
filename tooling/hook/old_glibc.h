/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Let a hook that is compiled with a new glibc load under an old one, from 2.28 on (RHEL 8, Debian 10): a real machine
 * may be older than this one. New headers choose a new version of a symbol, or a new name, for what old versions do as
 * well. `.symver NAME,OLD@VERSION` names the old one, which each later glibc still has for old programs.
 */
#ifndef OLD_GLIBC_H
#define OLD_GLIBC_H

/* glibc 2.32 to 2.34 moved these from libpthread and libdl to libc, with new versions */
__asm__(".symver dlsym,dlsym@GLIBC_2.2.5");
__asm__(".symver pthread_condattr_setclock,pthread_condattr_setclock@GLIBC_2.3.3");
__asm__(".symver pthread_create,pthread_create@GLIBC_2.2.5");
__asm__(".symver pthread_detach,pthread_detach@GLIBC_2.2.5");
__asm__(".symver pthread_mutex_trylock,pthread_mutex_trylock@GLIBC_2.2.5");
__asm__(".symver pthread_once,pthread_once@GLIBC_2.2.5");
__asm__(".symver pthread_sigmask,pthread_sigmask@GLIBC_2.2.5");
/* the headers of 2.38 and later name functions that also read binary numbers of C23 */
__asm__(".symver __isoc23_sscanf,__isoc99_sscanf@GLIBC_2.7");
__asm__(".symver __isoc23_strtoul,strtoul@GLIBC_2.2.5");

#endif
