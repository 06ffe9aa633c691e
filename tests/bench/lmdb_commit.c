/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Bare LMDB as a yardstick: records of 256 bytes + 41 of key and header, appended in batches, each batch committed
 * and synced. usage: lmdb_commit DIR BATCH SECONDS; prints records per second. */
#include <lmdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void check(int r, const char *what)
{
	if (r != 0) {
		fprintf(stderr, "lmdb_commit: %s: %s\n", what, mdb_strerror(r));
		exit(1);
	}
}

int main(int argc, char **argv)
{
	uint8_t key[13] = { 0 }, value[284] = { 0 };
	char path[512];
	uint64_t seq = 0;
	MDB_env *env;
	MDB_dbi dbi;
	MDB_txn *txn;

	if (argc != 4) {
		fprintf(stderr, "usage: lmdb_commit DIR BATCH SECONDS\n");
		return 2;
	}
	unsigned long batch = strtoul(argv[2], NULL, 10);
	double seconds = strtod(argv[3], NULL);
	snprintf(path, sizeof path, "%s/bare.mdb", argv[1]);
	remove(path);
	check(mdb_env_create(&env), "create");
	check(mdb_env_set_mapsize(env, (size_t)4 << 30), "map size");
	check(mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NORDAHEAD, 0600), path);
	check(mdb_txn_begin(env, NULL, 0, &txn), "begin");
	check(mdb_dbi_open(txn, NULL, 0, &dbi), "table");
	check(mdb_txn_commit(txn), "commit");
	double begin = now();
	while (now() - begin < seconds) {
		check(mdb_txn_begin(env, NULL, 0, &txn), "begin");
		for (unsigned long i = 0; i < batch; i++, seq++) {
			for (int b = 0; b < 8; b++)
				key[5 + b] = (uint8_t)(seq >> (56 - 8 * b));
			MDB_val k = { sizeof key, key }, v = { sizeof value, value };
			check(mdb_put(txn, dbi, &k, &v, MDB_APPEND), "put");
		}
		check(mdb_txn_commit(txn), "commit");
	}
	printf("%.0f\n", (double)seq / (now() - begin));
	mdb_env_close(env);
	remove(path);
	strncat(path, "-lock", sizeof path - strlen(path) - 1);
	remove(path);
	return 0;
}
