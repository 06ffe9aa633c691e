/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All maps, one place. All are pinned by name under kern.pin_dir/maps. */
#ifndef HF_MAPS_H
#define HF_MAPS_H
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <holdfast/abi.h>

/* (port, destination prefix) -> service. Written by the daemon at start and reload, read by steer. Full: the
 * daemon's insert fails and it falls back loudly. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, HF_SERVE_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct hf_serve_key);
	__type(value, struct hf_serve_value);
} hf_serve SEC(".maps");

/* slot -> listening socket of a worker. Written by the daemon; an entry vanishes with the socket's last
 * descriptor, and then the service refuses. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, HF_WORKERS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} hf_workers SEC(".maps");

/* enum hf_stat -> count. Written by steer, read by the daemon and bpftool. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HF_STAT__COUNT);
	__type(key, __u32);
	__type(value, __u64);
} hf_stats SEC(".maps");

/* 0 -> ABI version and the number of workers. The daemon writes n_workers last at start, first at stop. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hf_cfg_value);
} hf_cfg SEC(".maps");
#endif
