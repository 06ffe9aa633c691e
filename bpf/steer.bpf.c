/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sk_lookup: port and destination -> service -> the listening socket of one worker.
 *
 * Runs once per new connection. Unknown traffic passes untouched. A known service without a live socket is
 * refused (the kernel answers RST): nobody else on the box may answer for it. */
#include "maps.h"
#include <bpf/bpf_endian.h>
#include <linux/in.h>

#define HF_AF_INET 2

char LICENSE[] SEC("license") = "GPL";

static __always_inline void count(__u32 stat)
{
	__u64 *n = bpf_map_lookup_elem(&hf_stats, &stat);

	if (n)
		*n += 1;
}

static __always_inline void serve_key(struct bpf_sk_lookup *ctx, struct hf_serve_key *key)
{
	key->prefix_len = 16 + 128;
	key->port = bpf_htons(ctx->local_port);
	if (ctx->family == HF_AF_INET) {
		__u32 ip4 = ctx->local_ip4;

		key->addr[10] = 0xff;
		key->addr[11] = 0xff;
		__builtin_memcpy(&key->addr[12], &ip4, 4);
	} else {
		__u32 ip6[4] = { ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2],
				 ctx->local_ip6[3] };

		__builtin_memcpy(key->addr, ip6, 16);
	}
}

/* Spreads connections over the workers; the source port alone differs between connections of one child. */
static __always_inline __u32 spread(struct bpf_sk_lookup *ctx, __u32 n)
{
	/* Both are readable for either family (0 for the other); a branch here makes clang index ctx. */
	__u32 h = ctx->remote_port ^ ctx->remote_ip4 ^ ctx->remote_ip6[3];

	h *= 0x9e3779b1u;
	h ^= h >> 15;
	return h % n;
}

SEC("sk_lookup")
int hf_steer(struct bpf_sk_lookup *ctx)
{
	struct hf_serve_key key = {};
	struct hf_serve_value *serve;
	struct hf_cfg_value *cfg;
	struct bpf_sock *sk;
	__u32 zero = 0, slot;
	long err;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	serve_key(ctx, &key);
	serve = bpf_map_lookup_elem(&hf_serve, &key);
	if (!serve) {
		count(HF_STAT_PASS_OTHER);
		return SK_PASS;
	}
	cfg = bpf_map_lookup_elem(&hf_cfg, &zero);
	if (!cfg || cfg->n_workers == 0 || cfg->n_workers > HF_SERVICE_SLOTS) {
		count(HF_STAT_PASS_NOT_READY);
		return SK_PASS;
	}
	slot = serve->service * HF_SERVICE_SLOTS + spread(ctx, cfg->n_workers);
	sk = bpf_map_lookup_elem(&hf_workers, &slot);
	if (!sk) {
		count(HF_STAT_DROP_NO_SOCKET);
		return SK_DROP;
	}
	err = bpf_sk_assign(ctx, sk, BPF_SK_LOOKUP_F_NO_REUSEPORT);
	bpf_sk_release(sk);
	if (err) {
		count(HF_STAT_DROP_ASSIGN);
		return SK_DROP;
	}
	count(HF_STAT_STEERED);
	return SK_PASS;
}
