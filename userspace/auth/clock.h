/* SPDX-License-Identifier: GPL-3.0-or-later */
/* auth/clock.h - auth time: the time by which tokens and certificates are judged, also without a battery-backed clock
 * (architecture 6.5).
 *
 * A floor says that it is at least so late. It starts at the time of the build, rises only by a trusted clock (the kernel
 * says that something disciplines the wall clock, or the hub told its time over verified TLS) and is stored. The wall
 * clock counts while floor <= wall <= floor + max_step; else auth time is the floor plus what has elapsed since in this
 * boot. So a clock at 1970 lets no old token pass, and one in 2099 ends no valid one. Reads and
 * hf_auth_clock_trust: any thread; the rest: the owner. Nothing blocks. */
#pragma once
#include "core/buf.h"

struct hf_auth_clock;
enum hf_clock_source { HF_CLOCK_BUILD, HF_CLOCK_STORED, HF_CLOCK_KERNEL, HF_CLOCK_HUB };
struct hf_clock_view {
	int64_t now_s, wall_s, floor_s;
	bool by_wall;			/* the rule in force: the wall clock, else floor + elapsed */
	enum hf_clock_source floor_from;
};
/* stored: as hf_auth_clock_save wrote it, in this boot or an earlier one; empty = none. What cannot be read, or lies
 * before the build, is passed over with a log line. */
int hf_auth_clock_create(int64_t max_step_s, struct hf_span stored, struct hf_auth_clock **ret_clock);
void hf_auth_clock_destroy(struct hf_auth_clock **clock);
int64_t hf_auth_clock_now_s(const struct hf_auth_clock *clock);	/* unix seconds */
/* A trusted clock shows now_s. The floor never falls. */
void hf_auth_clock_trust(struct hf_auth_clock *clock, int64_t now_s, enum hf_clock_source from);
/* Trusts the wall clock if the kernel says that it is disciplined. Call about once a minute. */
void hf_auth_clock_ask_kernel(struct hf_auth_clock *clock);
/* For certificates of the hub: as hf_auth_clock_now_s, but while the floor counts, a lower bound, at least as late as the
 * hint. Without it a gateway that lay on a shelf would refuse a hub whose certificate was made meanwhile, for ever. The
 * hint is not believed otherwise and never stored. */
int64_t hf_auth_clock_hub_s(const struct hf_auth_clock *clock);
void hf_auth_clock_hint(struct hf_auth_clock *clock, int64_t at_least_s);	/* 0 takes it back */
void hf_auth_clock_view(const struct hf_auth_clock *clock, struct hf_clock_view *ret_view);
const char *hf_clock_source_name(enum hf_clock_source from);	/* "build" "stored" "kernel" "hub" */
void hf_auth_clock_save(const struct hf_auth_clock *clock, struct hf_buf *out);	/* appends the stored form */
