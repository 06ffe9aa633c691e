/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "priv/sealkey.h"
#include "core/log.h"
#include "core/util.h"
#include <errno.h>
#include <fcntl.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <sys/stat.h>

static int make_key(const char *path)
{
	uint8_t key[32];
	hf_autoclose int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ssize_t n;

	if (fd < 0)
		return -errno;
	hf_random(key, sizeof key);
	n = write(fd, key, sizeof key);
	explicit_bzero(key, sizeof key);
	if (n != sizeof key || fsync(fd) < 0) {
		unlink(path);
		return n < 0 ? -errno : -EIO;
	}
	hf_log(HF_LOG_NOTICE, "seal", "made a new seal key: %s", path);
	return 0;
}

static int read_key(const char *path, uint8_t ret_key[32])
{
	hf_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t key[33];
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (st.st_mode & 077)) {
		hf_log(HF_LOG_ERR, "seal", "%s: must be a file that only its owner can read (chmod 600)", path);
		return HF_EDENIED;
	}
	n = read(fd, key, sizeof key);
	if (n == 32)
		memcpy(ret_key, key, 32);
	explicit_bzero(key, sizeof key);
	if (n != 32) {
		hf_log(HF_LOG_ERR, "seal", "%s: must hold exactly 32 bytes", path);
		return HF_EINVALID;
	}
	return 0;
}

int hf_seal_key(const char *path, uint8_t ret_key[32])
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	char credential[512];
	int r;

	if (dir && snprintf(credential, sizeof credential, "%s/holdfast.seal", dir) < (int)sizeof credential &&
	    access(credential, R_OK) == 0)
		path = credential;
	r = read_key(path, ret_key);
	if (r == -ENOENT) {
		r = make_key(path);
		if (r == 0)
			r = read_key(path, ret_key);
	}
	if (r != 0)
		hf_log(HF_LOG_ERR, "seal", "%s: %s", path, hf_strerror(r));
	return r;
}
