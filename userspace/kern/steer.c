/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "kern/steer.h"
#include "core/log.h"
#include "core/util.h"
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <holdfast/err.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "steer.skel.h"

#define BPF_FS_MAGIC_NUMBER 0xcafe4a11

struct hf_steer {
	char *pin_dir;
	char state[160];
	bool is_active;
	int dir_fd;	/* holds the flock */
	struct steer_bpf *skel;
	struct bpf_link *link;
};

static const char *const stat_names[HF_STAT__COUNT] = {
	[HF_STAT_PASS_OTHER] = "passOther",
	[HF_STAT_STEERED] = "steered",
	[HF_STAT_DROP_NO_SOCKET] = "dropNoSocket",
	[HF_STAT_DROP_ASSIGN] = "dropAssign",
	[HF_STAT_PASS_NOT_READY] = "passNotReady",
};

static __attribute__((format(printf, 2, 0))) int quiet_libbpf(enum libbpf_print_level level, const char *fmt,
							      va_list ap)
{
	char line[512];

	if (level == LIBBPF_DEBUG)
		return 0;
	vsnprintf(line, sizeof line, fmt, ap);
	line[strcspn(line, "\n")] = 0;
	hf_log(HF_LOG_DEBUG, "kern.libbpf", "%s", line);
	return 0;
}

static int fall_back(struct hf_steer *s, const char *what, int err)
{
	if (err)
		snprintf(s->state, sizeof s->state, "fallback:%s: %s", what, strerror(err < 0 ? -err : err));
	else
		snprintf(s->state, sizeof s->state, "fallback:%s", what);
	hf_log(HF_LOG_WARN, "kern.steer.fallback", "%s; SO_REUSEPORT serves", s->state + 9);
	return -1;
}

static void pin_path(const struct hf_steer *s, const char *rest, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/%s", s->pin_dir, rest);
}

static const char *const pin_names[] = { "links/steer",	  "maps/hf_serve", "maps/hf_workers",
					 "maps/hf_stats", "maps/hf_cfg",   "progs/hf_steer" };

static void remove_pins(const struct hf_steer *s)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < HF_ARRAY_LEN(pin_names); i++) {
		pin_path(s, pin_names[i], path);
		if (unlink(path) < 0 && errno != ENOENT && errno != ENOTDIR)
			hf_log(HF_LOG_WARN, "kern.steer.unpin", "%s: %s", path, strerror(errno));
	}
}

static int make_pin_dir(struct hf_steer *s)
{
	static const char *const subdirs[] = { "", "links", "maps", "progs" };
	char path[PATH_MAX];
	struct statfs fs;

	for (size_t i = 0; i < HF_ARRAY_LEN(subdirs); i++) {
		pin_path(s, subdirs[i], path);
		if (mkdir(path, 0750) < 0 && errno != EEXIST)
			return fall_back(s, "cannot make kern.pin_dir", errno);
		if (i == 0 && (statfs(path, &fs) < 0 || fs.f_type != BPF_FS_MAGIC_NUMBER)) {
			rmdir(path);
			return fall_back(s, "kern.pin_dir is not on a bpffs", 0);
		}
	}
	s->dir_fd = open(s->pin_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0)
		return fall_back(s, "cannot open kern.pin_dir", errno);
	if (flock(s->dir_fd, LOCK_EX | LOCK_NB) < 0)
		return fall_back(s, "kern.pin_dir is in use by another daemon", 0);
	return 0;
}

static int set_pin_paths(struct hf_steer *s)
{
	struct bpf_map *map;
	char path[PATH_MAX];

	bpf_object__for_each_map(map, s->skel->obj)
	{
		if (bpf_map__name(map)[0] == '.')
			continue;
		int n = snprintf(path, sizeof path, "%s/maps/%s", s->pin_dir, bpf_map__name(map));

		if (n < 0 || (size_t)n >= sizeof path)
			return -ENAMETOOLONG;
		int r = bpf_map__set_pin_path(map, path);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Opens and loads; adopts pinned maps only of the same ABI. */
static int load(struct hf_steer *s)
{
	uint32_t zero = 0;

	for (int attempt = 0; attempt < 2; attempt++) {
		struct hf_cfg_value cfg = { 0 };

		s->skel = steer_bpf__open();
		if (!s->skel)
			return fall_back(s, "cannot open the program", errno);
		int r = set_pin_paths(s);
		if (r == 0)
			r = steer_bpf__load(s->skel);
		if (r == 0)
			r = bpf_map_lookup_elem(bpf_map__fd(s->skel->maps.hf_cfg), &zero, &cfg);
		if (r == 0 && (cfg.abi_version == 0 || cfg.abi_version == HF_ABI_VERSION))
			return 0;
		steer_bpf__destroy(s->skel);
		s->skel = NULL;
		if (attempt == 1)
			return fall_back(s, "cannot load sk_lookup", r ? r : EINVAL);
		hf_log(HF_LOG_NOTICE, "kern.steer.rebuild", "pins in %s do not fit (ABI %u, code %d): rebuilding",
		       s->pin_dir, cfg.abi_version, r);
		remove_pins(s);
	}
	return -1;
}

static int parse_serve_key(const char *text, struct hf_serve_key *ret_key)
{
	static const uint8_t any[16];
	struct hf_serve_key key = { 0 };
	char host[64];
	const char *colon = strrchr(text, ':');
	size_t n = colon ? (size_t)(colon - text) : 0;
	int64_t port;

	if (!colon || n == 0 || n >= sizeof host ||
	    hf_parse_i64(hf_span_str(colon + 1), 1, 65535, &port) != 0)
		return HF_EINVALID;
	memcpy(host, text, n);
	host[n] = 0;
	key.port = htons((uint16_t)port);
	if (host[0] == '[') {
		host[n - 1] = 0;
		if (inet_pton(AF_INET6, host + 1, key.addr) != 1)
			return HF_EINVALID;
		key.prefix_len = memcmp(key.addr, any, 16) ? 16 + 128 : 16;
	} else {
		if (inet_pton(AF_INET, host, key.addr + 12) != 1)
			return HF_EINVALID;
		key.addr[10] = key.addr[11] = 0xff;
		key.prefix_len = memcmp(key.addr + 12, any, 4) ? 16 + 128 : 16 + 96;
	}
	*ret_key = key;
	return 0;
}

static int clear_serve(int fd)
{
	struct hf_serve_key key;

	while (bpf_map_get_next_key(fd, NULL, &key) == 0)
		if (bpf_map_delete_elem(fd, &key) < 0)
			return -errno;
	return 0;
}

static int fill_service(struct hf_steer *s, const struct hf_steer_service *svc)
{
	struct hf_serve_value value = { .service = svc->service };

	if (svc->n_workers == 0 || svc->n_workers > HF_SERVICE_SLOTS)
		return fall_back(s, "more workers than slots", 0);
	for (unsigned w = 0; w < svc->n_workers; w++) {
		uint32_t slot = (uint32_t)svc->service * HF_SERVICE_SLOTS + w;
		uint64_t fd = (uint64_t)svc->fds[w];

		if (bpf_map_update_elem(bpf_map__fd(s->skel->maps.hf_workers), &slot, &fd, BPF_ANY) < 0)
			return fall_back(s, "cannot fill hf_workers", errno);
	}
	for (unsigned a = 0; a < svc->n_listen; a++) {
		struct hf_serve_key key;

		if (parse_serve_key(svc->listen[a], &key) < 0)
			return fall_back(s, "listen address not understood", 0);
		if (bpf_map_update_elem(bpf_map__fd(s->skel->maps.hf_serve), &key, &value, BPF_ANY) < 0)
			return fall_back(s, "cannot fill hf_serve", errno);
	}
	return 0;
}

/* n_workers is written last: until then the program passes everything. */
static int fill_maps(struct hf_steer *s, const struct hf_steer_cfg *cfg)
{
	struct hf_cfg_value value = { .abi_version = HF_ABI_VERSION };
	uint32_t zero = 0;

	if (clear_serve(bpf_map__fd(s->skel->maps.hf_serve)) < 0)
		return fall_back(s, "cannot clear hf_serve", errno);
	for (unsigned i = 0; i < cfg->n_services; i++) {
		if (fill_service(s, &cfg->services[i]) < 0)
			return -1;
		value.n_workers = cfg->services[i].n_workers;
	}
	if (bpf_map_update_elem(bpf_map__fd(s->skel->maps.hf_cfg), &zero, &value, BPF_ANY) < 0)
		return fall_back(s, "cannot write hf_cfg", errno);
	return 0;
}

/* The pinned link, if it is attached to this network namespace and takes the new program. */
static bool adopt_link(struct hf_steer *s, const char *path, uint64_t netns_ino)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof info;

	s->link = bpf_link__open(path);
	if (!s->link)
		return false;
	if (bpf_obj_get_info_by_fd(bpf_link__fd(s->link), &info, &len) == 0 &&
	    info.netns.netns_ino == netns_ino &&
	    bpf_link__update_program(s->link, s->skel->progs.hf_steer) == 0)
		return true;
	bpf_link__destroy(s->link);
	s->link = NULL;
	return false;
}

static int attach(struct hf_steer *s)
{
	char path[PATH_MAX], prog[PATH_MAX];
	struct stat ns;

	pin_path(s, "links/steer", path);
	pin_path(s, "progs/hf_steer", prog);
	hf_autoclose int ns_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (ns_fd < 0 || fstat(ns_fd, &ns) < 0)
		return fall_back(s, "no network namespace", errno);
	if (!adopt_link(s, path, ns.st_ino)) {
		unlink(path);
		s->link = bpf_program__attach_netns(s->skel->progs.hf_steer, ns_fd);
		if (!s->link)
			return fall_back(s, "cannot attach sk_lookup", errno);
		if (bpf_link__pin(s->link, path) < 0)
			return fall_back(s, "cannot pin the link", errno);
	}
	unlink(prog);
	if (bpf_program__pin(s->skel->progs.hf_steer, prog) < 0)
		return fall_back(s, "cannot pin the program", errno);
	return 0;
}

/* A half-built steering must not refuse anybody. */
static void undo(struct hf_steer *s)
{
	if (s->link) {
		bpf_link__detach(s->link);
		bpf_link__destroy(s->link);
		s->link = NULL;
	}
	steer_bpf__destroy(s->skel);
	s->skel = NULL;
	remove_pins(s);
}

int hf_steer_create(const struct hf_steer_cfg *cfg, struct hf_steer **ret_steer)
{
	struct hf_steer *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	s->dir_fd = -1;
	s->pin_dir = strdup(cfg->pin_dir);
	if (!s->pin_dir) {
		free(s);
		return -ENOMEM;
	}
	libbpf_set_print(quiet_libbpf);
	if (cfg->off) {
		snprintf(s->state, sizeof s->state, "off");
		remove_pins(s);
	} else if (make_pin_dir(s) == 0) {
		if (load(s) == 0 && fill_maps(s, cfg) == 0 && attach(s) == 0) {
			s->is_active = true;
			snprintf(s->state, sizeof s->state, "active");
		} else {
			undo(s);
		}
	}
	hf_log(HF_LOG_NOTICE, "kern.steer", "%s", s->state);
	*ret_steer = s;
	return 0;
}

void hf_steer_destroy(struct hf_steer **steer)
{
	struct hf_steer *s = *steer;

	if (!s)
		return;
	if (s->link) {
		bpf_link__disconnect(s->link);	/* the pin keeps it attached */
		bpf_link__destroy(s->link);
	}
	steer_bpf__destroy(s->skel);
	if (s->dir_fd >= 0)
		close(s->dir_fd);
	free(s->pin_dir);
	free(s);
	*steer = NULL;
}

const char *hf_steer_state(const struct hf_steer *steer)
{
	return steer->state;
}

int hf_steer_counters(const struct hf_steer *steer, uint64_t ret_counts[HF_STAT__COUNT])
{
	int n_cpus = libbpf_num_possible_cpus();

	if (!steer->is_active || n_cpus <= 0)
		return HF_EUNSUPPORTED;
	hf_autofree uint64_t *cells = calloc((size_t)n_cpus, sizeof *cells);
	if (!cells)
		return -ENOMEM;
	for (uint32_t id = 0; id < HF_STAT__COUNT; id++) {
		uint64_t sum = 0;

		if (bpf_map_lookup_elem(bpf_map__fd(steer->skel->maps.hf_stats), &id, cells) < 0)
			return -errno;
		for (int cpu = 0; cpu < n_cpus; cpu++)
			sum += cells[cpu];
		ret_counts[id] = sum;
	}
	return 0;
}

static uint32_t link_id(const struct bpf_link *link)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof info;

	return bpf_obj_get_info_by_fd(bpf_link__fd(link), &info, &len) == 0 ? info.id : 0;
}

static uint32_t prog_id(const struct bpf_program *prog)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof info;

	return bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &len) == 0 ? info.id : 0;
}

json_t *hf_steer_show(const struct hf_steer *steer)
{
	uint64_t counts[HF_STAT__COUNT];
	json_t *counters, *show = json_pack("{s:s, s:s}", "layer", "steer", "state", steer->state);

	if (!show || hf_steer_counters(steer, counts) != 0)
		return show;
	counters = json_object();
	for (int i = 0; i < HF_STAT__COUNT; i++)
		json_object_set_new(counters, stat_names[i], json_integer((json_int_t)counts[i]));
	json_object_set_new(show, "counters", counters);
	json_object_set_new(show, "pinDir", json_string(steer->pin_dir));
	json_object_set_new(show, "programId", json_integer(prog_id(steer->skel->progs.hf_steer)));
	json_object_set_new(show, "linkId", json_integer(link_id(steer->link)));
	return show;
}
