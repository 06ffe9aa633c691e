/* SPDX-License-Identifier: GPL-2.0-or-later */
/* holdfast/abi.h - what the eBPF programs and the daemon share: map keys, values, limits, ABI version.
 *
 * Fixed-width integers only, explicit padding, no pointers. Maps are pinned and outlive the daemon: a change
 * of any size or meaning here raises HF_ABI_VERSION, and a pin directory of another version is rebuilt. */
#ifndef HOLDFAST_ABI_H
#define HOLDFAST_ABI_H

#ifdef __bpf__
#include <linux/types.h>
typedef __u8 uint8_t;
typedef __u16 uint16_t;
typedef __u32 uint32_t;
typedef __u64 uint64_t;
#else
#include <stdint.h>
#endif

#define HF_ABI_VERSION 1
#define HF_WORKERS_MAX 64	/* slots of hf_workers: service * HF_SERVICE_SLOTS + worker */
#define HF_SERVICE_SLOTS 16	/* worker slots of one service */
#define HF_SERVE_MAX 64

/* Services: which listener group a connection belongs to. */
enum hf_service { HF_SERVICE_MQTT = 0, HF_SERVICE__COUNT };

/* hf_serve: longest prefix match on (port, destination). IPv4 is mapped into ::ffff:0:0/96. A port alone must
 * not catch the appliance's own services on other addresses, so the destination is part of the key. */
struct hf_serve_key {
	uint32_t prefix_len;	/* 16 for the port + 0..128 bits of the address */
	uint16_t port;		/* network byte order: matched bit by bit */
	uint8_t addr[16];
	uint8_t pad[2];
};
struct hf_serve_value {
	uint32_t service;	/* enum hf_service */
};

/* hf_cfg, one element. */
struct hf_cfg_value {
	uint32_t abi_version;
	uint32_t n_workers;	/* slots in use per service; 0 = steering not ready, everything passes */
};

/* hf_stats: one per-CPU counter per verdict; every early return of the program has one. */
enum hf_stat {
	HF_STAT_PASS_OTHER,	/* not one of our services */
	HF_STAT_STEERED,	/* assigned to a worker's listener */
	HF_STAT_DROP_NO_SOCKET,	/* our service, empty slot: refused, nobody else may answer */
	HF_STAT_DROP_ASSIGN,	/* bpf_sk_assign failed: refused */
	HF_STAT_PASS_NOT_READY,	/* our service, steering not enabled yet */
	HF_STAT__COUNT
};

#ifndef __bpf__
_Static_assert(sizeof(struct hf_serve_key) == 24, "abi");
_Static_assert(sizeof(struct hf_serve_value) == 4, "abi");
_Static_assert(sizeof(struct hf_cfg_value) == 8, "abi");
_Static_assert(HF_SERVICE__COUNT * HF_SERVICE_SLOTS <= HF_WORKERS_MAX, "abi");
#endif
#endif
