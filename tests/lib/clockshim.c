/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Preloaded by tests: the wall clock of one program is wrong, and nothing disciplines it.
 * HOLDFAST_TEST_CLOCK=PROGRAM:SECONDS shifts the wall clock of PROGRAM by SECONDS. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>

static long long shift_s(void)
{
	static long long shift;
	static int known;
	const char *text = getenv("HOLDFAST_TEST_CLOCK"), *colon = text ? strchr(text, ':') : NULL;

	if (!known && colon && strncmp(program_invocation_short_name, text, (size_t)(colon - text)) == 0 &&
	    program_invocation_short_name[colon - text] == '\0')
		shift = atoll(colon + 1);
	known = 1;
	return shift;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	static int (*real)(clockid_t, struct timespec *);
	int r;

	if (!real)
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	r = real(id, t);
	if (r == 0 && id == CLOCK_REALTIME)
		t->tv_sec += shift_s();
	return r;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec t;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	*tv = (struct timeval){ .tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000 };
	return 0;
}

time_t time(time_t *ret)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (ret)
		*ret = t.tv_sec;
	return t.tv_sec;
}

int adjtimex(struct timex *t)
{
	static int (*real)(struct timex *);
	int r;

	if (!real)
		real = (int (*)(struct timex *))dlsym(RTLD_NEXT, "adjtimex");
	r = real(t);
	if (shift_s())
		t->status |= STA_UNSYNC;
	return shift_s() ? TIME_ERROR : r;
}
