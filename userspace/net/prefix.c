/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/prefix.h"
#include "core/util.h"
#include <arpa/inet.h>
#include <holdfast/err.h>
#include <netinet/in.h>

enum { MAPPED_BITS = 96, PEER_BITS_V6 = 64 };
static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	return memcmp(a, b, whole) == 0 && (!rest || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

/* Clears what is behind the prefix. */
static void cut(uint8_t addr[16], unsigned bits)
{
	for (unsigned i = 0; i < 16; i++)
		addr[i] &= (uint8_t)(bits >= 8 * (i + 1) ? 0xff : bits <= 8 * i ? 0 : 0xff << (8 * (i + 1) - bits));
}

static int parse_address(const char *text, struct hf_prefix *p)
{
	p->v6 = strchr(text, ':') != NULL;
	if (!p->v6)
		memcpy(p->addr, mapped, sizeof mapped);
	return inet_pton(p->v6 ? AF_INET6 : AF_INET, text, p->v6 ? p->addr : p->addr + sizeof mapped) == 1 ? 0 : HF_EINVALID;
}

int hf_prefix_parse(const char *text, struct hf_prefix *ret_prefix)
{
	const char *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - text) : strlen(text);
	struct hf_prefix p = { 0 };
	uint8_t whole[16];
	char host[64];
	int64_t bits;

	if (n >= sizeof host)
		return HF_EINVALID;
	memcpy(host, text, n);
	host[n] = '\0';
	if (parse_address(host, &p) != 0)
		return HF_EINVALID;
	bits = p.v6 ? 128 : 32;
	if (slash && hf_parse_i64(hf_span_str(slash + 1), 0, bits, &bits) != 0)
		return HF_EINVALID;
	p.bits = (uint8_t)(p.v6 ? bits : MAPPED_BITS + bits);
	memcpy(whole, p.addr, sizeof whole);
	cut(p.addr, p.bits);
	if (memcmp(whole, p.addr, sizeof whole) != 0)
		return HF_EINVALID;
	*ret_prefix = p;
	return 0;
}

const char *hf_prefix_refuse(const char *text)
{
	struct hf_prefix p;

	return hf_prefix_parse(text, &p) == 0 ? NULL : "ADDRESS/BITS with no bit set behind it, such as \"10.0.0.0/8\" or \"fd00::/48\"";
}

static bool from_peer(const struct sockaddr_storage *peer, struct hf_prefix *ret)
{
	*ret = (struct hf_prefix){ .bits = 128, .v6 = peer->ss_family == AF_INET6 };
	if (peer->ss_family == AF_INET) {
		memcpy(ret->addr, mapped, sizeof mapped);
		memcpy(ret->addr + sizeof mapped, &((const struct sockaddr_in *)peer)->sin_addr, 4);
	} else if (ret->v6) {
		memcpy(ret->addr, &((const struct sockaddr_in6 *)peer)->sin6_addr, 16);
	}
	return ret->v6 || peer->ss_family == AF_INET;
}

bool hf_prefix_has(const struct hf_prefix *prefix, const struct sockaddr_storage *peer)
{
	struct hf_prefix p;

	return from_peer(peer, &p) && p.v6 == prefix->v6 && same_bits(p.addr, prefix->addr, prefix->bits);
}

bool hf_prefix_of_peer(const struct sockaddr_storage *peer, struct hf_prefix *ret_prefix)
{
	if (!from_peer(peer, ret_prefix))
		return false;
	if (ret_prefix->v6) {
		ret_prefix->bits = PEER_BITS_V6;
		cut(ret_prefix->addr, PEER_BITS_V6);
	}
	return true;
}
