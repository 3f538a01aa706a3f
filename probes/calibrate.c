/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What do the probes cost here, and what does an empty critical section read? A forked child runs
 * empty lock/unlock pairs under the very same programs, on instructions that the kernel emulates as
 * it does those in QEMU. Everything that is recorded carries this bias; the reports take it off.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probes/private.h"

#define CHUNKS 100
#define PAIRS  200 /* a chunk: short enough that most chunks see no interrupt */

void bqlstat_pair(const char *file, int line);
void bqlstat_pair_ask(void), bqlstat_pair_acquired(void), bqlstat_pair_released(void);

/*
 * The instructions that QEMU's own points stand on: a call to the lock, a jump behind it, a jump to
 * the unlock. No nop5 and nothing in the red zone: the kernel may turn a probed nop5 into a call.
 */
asm(".text\n"
    ".type bqlstat_pair, @function\n"
    "bqlstat_pair:\n"
    "bqlstat_pair_ask:		call 2f\n"
    "bqlstat_pair_acquired:	jmp 1f\n"
    "1:\n"
    "bqlstat_pair_released:	jmp 2f\n"
    "2:	ret\n"
    ".size bqlstat_pair, . - bqlstat_pair\n");

struct shared {
	uint64_t chunk_ns[2][CHUNKS]; /* without, with probes */
};

/* Runs one round for each byte it is sent, and answers with one. */
static void child(struct shared *shared, int commands, int answers)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int round = 0; round < 2; round++) {
		char go;

		if (read(commands, &go, 1) != 1)
			_exit(1);
		for (int i = 0; i < CHUNKS; i++) {
			uint64_t begin = now_ns();

			for (int j = 0; j < PAIRS; j++)
				bqlstat_pair(__FILE__, __LINE__);
			shared->chunk_ns[round][i] = now_ns() - begin;
		}
		if (write(answers, &go, 1) != 1)
			_exit(1);
	}
	_exit(0);
}

static bool round_trip(int commands, int answers)
{
	char go = 'g';

	return write(commands, &go, 1) == 1 && read(answers, &go, 1) == 1;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t median_chunk(uint64_t *chunks)
{
	qsort(chunks, CHUNKS, sizeof(*chunks), compare);
	return chunks[CHUNKS / 2] / PAIRS;
}

/* The middle value, interpolated inside its bucket. */
static uint64_t median(const uint64_t *buckets)
{
	uint64_t total = 0, seen = 0;

	for (uint32_t b = 0; b < ABI_BUCKETS; b++)
		total += buckets[b];
	for (uint32_t b = 0; b < ABI_BUCKETS; b++) {
		if (buckets[b] && seen + buckets[b] > total / 2)
			return abi_bucket_low(b) +
			       abi_bucket_width(b) * (total / 2 - seen) / buckets[b];
		seen += buckets[b];
	}
	return 0;
}

static void read_result(struct tracer *t, struct shared *shared, uint32_t epoch)
{
	uint64_t without = median_chunk(shared->chunk_ns[0]);
	uint64_t with = median_chunk(shared->chunk_ns[1]);

	for (uint32_t i = 0, used = sites_used(t); i < used; i++) {
		const struct abi_site *site = &t->sites[i];

		if (t->threads[site->thread].epoch != epoch || site->holds != CHUNKS * PAIRS)
			continue;
		t->cost.hold_bias_ns = median(site->hold);
		t->cost.wait_bias_ns = median(site->wait);
		t->cost.pair_ns = with > without ? with - without : 0;
		t->cost.pairs = site->holds;
		t->cost.measured = true;
	}
}

void tracer_calibrate(struct tracer *t)
{
	const struct {
		struct bpf_program *prog;
		void (*at)(void);
	} points[] = {
		{t->skel->progs.on_ask, bqlstat_pair_ask},
		{t->skel->progs.on_acquired, bqlstat_pair_acquired},
		{t->skel->progs.on_released, bqlstat_pair_released},
	};
	int commands[2] = {-1, -1}, answers[2] = {-1, -1}, slot = -1;
	struct shared *shared;
	uint64_t offset;
	pid_t pid = -1;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED || pipe2(commands, O_CLOEXEC) || pipe2(answers, O_CLOEXEC))
		goto cleanup;
	pid = fork();
	if (pid == 0) {
		close(commands[1]);
		close(answers[0]);
		child(shared, commands[0], answers[1]);
	}
	if (pid < 0)
		goto cleanup;
	/* The child's ends must close with it, else its death would leave us waiting. */
	close(answers[1]);
	answers[1] = -1;
	slot = slot_take(t, pid);
	if (slot < 0 || !round_trip(commands[1], answers[0]))
		goto cleanup;
	for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++) {
		if (!own_offset(points[i].at, &offset) ||
		    slot_add(t, slot, points[i].prog, offset, 0))
			goto cleanup;
	}
	t->targets[slot].path = strdup("/proc/self/exe");
	slot_attach(t, slot, ALL_KINDS);
	for (size_t i = 0; i < t->targets[slot].nr_points; i++)
		if (t->targets[slot].probes[i].err)
			goto cleanup;
	slot_arm(t, slot, 0);
	if (round_trip(commands[1], answers[0]))
		read_result(t, shared, t->targets[slot].epoch);

cleanup:
	if (slot >= 0)
		slot_release(t, slot);
	for (int i = 0; i < 2; i++) {
		if (commands[i] >= 0)
			close(commands[i]);
		if (answers[i] >= 0)
			close(answers[i]);
	}
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	if (shared != MAP_FAILED)
		munmap(shared, sizeof(*shared));
}
