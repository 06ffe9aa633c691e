/* SPDX-License-Identifier: GPL-3.0-or-later */
/* net/prefix.h - address prefixes such as 10.0.0.0/8, and the key that stands for one peer. Pure, any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct hf_prefix {
	uint8_t addr[16];	/* IPv4 in its mapped form, ::ffff:a.b.c.d */
	uint8_t bits;		/* of these 16 bytes */
	bool v6;
};
/* "10.0.0.0/8", "fd00::/48", or an address alone. No bit may be set behind the prefix. HF_EINVALID. */
int hf_prefix_parse(const char *text, struct hf_prefix *ret_prefix);
/* For configuration: NULL when hf_prefix_parse can read text, else what is expected. */
const char *hf_prefix_refuse(const char *text);
bool hf_prefix_has(const struct hf_prefix *prefix, const struct sockaddr_storage *peer);
/* One peer: an IPv4 address, or a /64 of IPv6, since whoever has one address of it has all of them. False when peer is
 * neither. */
bool hf_prefix_of_peer(const struct sockaddr_storage *peer, struct hf_prefix *ret_prefix);
