/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Randomness, hashing, constant-time compare, files. */
#include "core/util.h"
#include <errno.h>
#include <fcntl.h>
#include <holdfast/err.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

void hf_random(void *p, size_t n)
{
	uint8_t *at = p;

	while (n) {
		ssize_t got = getrandom(at, n, 0);

		if (got < 0 && errno != EINTR)
			abort();
		if (got > 0) {
			at += got;
			n -= (size_t)got;
		}
	}
}

uint64_t hf_random_u64(void)
{
	uint64_t v;

	hf_random(&v, sizeof v);
	return v;
}

static uint64_t hash_seed[2];
static pthread_once_t hash_once = PTHREAD_ONCE_INIT;

static void seed_hash(void)
{
	hf_random(hash_seed, sizeof hash_seed);
}

#define ROTL(x, b) ((x) << (b) | (x) >> (64 - (b)))
#define SIP_ROUND                                                                                  \
	do {                                                                                       \
		v0 += v1; v1 = ROTL(v1, 13); v1 ^= v0; v0 = ROTL(v0, 32);                          \
		v2 += v3; v3 = ROTL(v3, 16); v3 ^= v2;                                             \
		v0 += v3; v3 = ROTL(v3, 21); v3 ^= v0;                                             \
		v2 += v1; v1 = ROTL(v1, 17); v1 ^= v2; v2 = ROTL(v2, 32);                          \
	} while (0)

/* SipHash-1-3 with a key of this process: a peer cannot aim for collisions. */
uint64_t hf_hash64(const void *p, size_t n)
{
	const uint8_t *in = p;
	uint64_t v0, v1, v2, v3, m, last = (uint64_t)n << 56;

	pthread_once(&hash_once, seed_hash);
	v0 = hash_seed[0] ^ 0x736f6d6570736575u;
	v1 = hash_seed[1] ^ 0x646f72616e646f6du;
	v2 = hash_seed[0] ^ 0x6c7967656e657261u;
	v3 = hash_seed[1] ^ 0x7465646279746573u;
	for (; n >= 8; n -= 8, in += 8) {
		memcpy(&m, in, 8);
		v3 ^= m;
		SIP_ROUND;
		v0 ^= m;
	}
	for (size_t i = 0; i < n; i++)
		last |= (uint64_t)in[i] << (8 * i);
	v3 ^= last;
	SIP_ROUND;
	v0 ^= last;
	v2 ^= 0xff;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

bool hf_ct_eq(struct hf_span a, struct hf_span b)
{
	volatile uint8_t diff = 0;

	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		diff = (uint8_t)(diff | (a.ptr[i] ^ b.ptr[i]));
	return diff == 0;
}

int hf_read_file(const char *path, size_t cap, struct hf_buf *out)
{
	hf_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	size_t total = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	for (;;) {
		uint8_t *to = hf_buf_reserve(out, 4096);
		ssize_t n = to ? read(fd, to, 4096) : 0;

		if (!to)
			return out->err;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		total += (size_t)n;
		if (total > cap)
			return HF_ELIMIT;
		hf_buf_grow(out, (size_t)n);
	}
}

int hf_lock_dir(const char *dir, int *ret_fd)
{
	hf_autofree char *path = NULL;
	hf_autoclose int fd = -1;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (asprintf(&path, "%s/lock", dir) < 0)
		return -ENOMEM;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	*ret_fd = fd;
	fd = -1;
	return 0;
}
