/* SPDX-License-Identifier: GPL-3.0-or-later */
/* kern/steer.h - connection steering: sk_lookup program, pinned maps and link (architecture 8).
 *
 * Creation never fails the daemon: without BPF the listeners, which all carry SO_REUSEPORT, serve alone with
 * the same behaviour, and the state says "fallback:<reason>". Thread: main. Calls block for syscalls only. */
#pragma once
#include <holdfast/abi.h>
#include <jansson.h>
#include <stdbool.h>

struct hf_steer;
struct hf_steer_service {
	enum hf_service service;
	const char *const *listen;	/* "0.0.0.0:8883", "[::]:8883": addresses that lead to this service */
	unsigned n_listen;
	const int *fds;			/* n_workers listening sockets; worker i answers for all addresses */
	unsigned n_workers;		/* 1..HF_SERVICE_SLOTS */
};
struct hf_steer_cfg {
	bool off;			/* kern.mode = "off": pins of an earlier run are removed */
	const char *pin_dir;		/* below a bpffs, e.g. /sys/fs/bpf/holdfast; created 0750 */
	const struct hf_steer_service *services;
	unsigned n_services;
};
/* 0 also when steering is not possible (see state); -ENOMEM only. */
int hf_steer_create(const struct hf_steer_cfg *cfg, struct hf_steer **ret_steer);
/* Leaves pins and link in place: they serve the next daemon, and refuse meanwhile. */
void hf_steer_destroy(struct hf_steer **steer);
const char *hf_steer_state(const struct hf_steer *steer);	/* "active", "off", "fallback:<reason>" */
/* Sum over CPUs per verdict; HF_EUNSUPPORTED when not active. */
int hf_steer_counters(const struct hf_steer *steer, uint64_t ret_counts[HF_STAT__COUNT]);
/* For `kern show`: {"layer":"steer","state":..,"pinDir":..,"programId":..,"linkId":..,"counters":{..}}. */
json_t *hf_steer_show(const struct hf_steer *steer);
