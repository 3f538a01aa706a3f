/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a long hold is made of, on real QEMUs that a VM arrives at: the page fault that waits for
 * the source while a device loads, the poll inside the activation of disks; each with phase, device
 * and a stack that is followed to its beginning, the coroutine's or the thread's, and that agrees
 * with the calls in the code.
 */
#include "analyzers/lab/journey.h"
#include "tests/scenarios/exact.h"
#include "tests/scenarios/recording.h"

enum { ARRIVE_MS = 60000 };

static const struct frame *frame_at(const struct run *run, const struct stack *stack, unsigned i)
{
	return &g_array_index(run->frames, struct frame, g_array_index(stack->frames, unsigned, i));
}

static const struct stack *stack_of(const struct run *run, const struct hold *h)
{
	return h->stack ? &g_array_index(run->stacks, struct stack, h->stack - 1) : NULL;
}

/* How deep that function is on the hold's stack; -1: it is not. */
static int depth_of(const struct run *run, const struct hold *h, const char *function)
{
	const struct stack *s = stack_of(run, h);

	for (unsigned i = 0; s && i < s->frames->len; i++) {
		const struct frame *f = frame_at(run, s, i);

		if (f->inside && !strcmp(f->symbol, function))
			return i;
	}
	return -1;
}

static void tell(const struct run *run, const struct hold *h)
{
	const struct stack *s = stack_of(run, h);

	g_test_message("%.1f ms, longest block %.1f ms in %s, %s %s, stack %s", h->hold_ns / 1e6,
		       h->longest_ns / 1e6, cause_text(h->longest_cause),
		       phase_name(h->at_longest.phase), h->at_longest.device,
		       !s	  ? "none"
		       : s->whole ? "whole"
				  : "cut");
	for (unsigned i = 0; s && i < s->frames->len; i++) {
		const struct frame *f = frame_at(run, s, i);

		g_test_message("    %s%s+0x%x", f->inside ? "" : "~", f->symbol,
			       (unsigned)f->offset);
	}
}

/* Every frame of it, and a few beyond doubt. */
static void expect_exact(const struct run *run, const struct hold *h)
{
	const struct stack *s = stack_of(run, h);
	struct exactness e;

	g_assert_nonnull(s);
	g_assert_true(s->whole);
	e = exactness_of(run, s);
	g_test_message("%u frames, %u calls, %u of them certain", s->frames->len, e.calls,
		       e.certain);
	g_assert_cmpuint(e.wrong, ==, 0);
	g_assert_cmpuint(e.calls, >=, s->frames->len - 2);
	g_assert_cmpuint(e.certain, >=, 3);
}

static void put(uint8_t *at, unsigned bytes, uint64_t value)
{
	for (unsigned i = 0; i < bytes; i++)
		at[i] = value >> 8 * (bytes - 1 - i);
}

/*
 * An empty qcow2 image of 64 MiB (docs/interop/qcow2.txt in QEMU's sources), whose taking over
 * reads its tables anew. Clusters: header, refcount table, its one block, L1 table. g_free()
 */
static char *empty_image(void)
{
	enum { CLUSTER = 1 << 16, CLUSTERS = 4 };
	g_autofree uint8_t *image = g_malloc0(CLUSTERS * CLUSTER);
	char *path = fresh_path("disk.qcow2");

	memcpy(image, "QFI\xfb", 4);
	put(image + 4, 4, 2); /* version */
	put(image + 20, 4, 16);
	put(image + 24, 8, 64 << 20);
	put(image + 36, 4, 1); /* entries of the L1 table */
	put(image + 40, 8, 3 * CLUSTER);
	put(image + 48, 8, CLUSTER);
	put(image + 56, 4, 1); /* clusters of the refcount table */
	put(image + CLUSTER, 8, 2 * CLUSTER);
	for (unsigned i = 0; i < CLUSTERS; i++)
		put(image + 2 * CLUSTER + 2 * i, 2, 1);
	g_assert_true(g_file_set_contents(path, (char *)image, CLUSTERS * CLUSTER, NULL));
	return path;
}

/* The destination of one migration, recorded from before it began; NULL after a skip. */
static struct run *record_arrival(const char *version, enum lab_copy copy, const char *launcher)
{
	g_autofree char *image = empty_image();
	g_autofree char *file_node = g_strdup_printf("file,node-name=image,filename=%s", image);
	const char *const disk[] = {
		"-object",   "throttle-group,id=slow,x-iops-total=10",
		"-blockdev", file_node,
		"-blockdev", "throttle,node-name=slowly,throttle-group=slow,file=image",
		"-blockdev", "qcow2,node-name=disk9,file=slowly",
		"-device",   "virtio-blk-pci,addr=1e.0,drive=disk9",
		NULL,
	};
	const char *const loadvm[] = {lab_program("loadvm"), "--policy", launcher, "--", NULL};
	struct lab_pair_options options = {
		.vm =
			{
				.version = version,
				.devices = LAB_DEVICES_DOZEN,
				.guest = true,
				.fill_mib = 32,
				.dirty_mib = 4,
				.args = disk,
			},
		.destination_launcher = launcher ? loadvm : NULL,
	};
	const struct lab_journey journey = {.copy = copy};
	g_autofree char *file = fresh_path("arrival.run"), *pid = NULL;
	struct lab_process *recorder;
	GError *error = NULL;
	struct lab_pair *pair = lab_journey_new(&journey, &options, &error);
	struct run *run = NULL;

	if (!pair && lab_skip(error))
		return NULL;
	g_assert_no_error(error);
	pid = g_strdup_printf("%d", lab_vm_pid(lab_pair_destination(pair)));
	recorder = start_recording(file, pid, "200us");
	if (recorder) {
		lab_journey_arrive(&journey, pair, ARRIVE_MS, NULL, &error);
		g_assert_no_error(error);
		stop_recording(recorder);
		run = load(file, 1);
		g_assert_cmpuint(run_lost(run), ==, 0);
	}
	lab_pair_free(pair);
	return run;
}

/* A device's state needs a page that is still on the source: the whole QEMU waits for it. */
static void userfault(gconstpointer version)
{
	struct run *run = record_arrival(version, LAB_COPY_POST, NULL);
	const struct hold *found = NULL;

	if (!run)
		return;
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);

		if (h->longest_cause != CAUSE_USERFAULT || !h->longest_ns)
			continue;
		tell(run, h);
		if (depth_of(run, h, "virtio_load") >= 0 &&
		    (!found || h->longest_ns > found->longest_ns))
			found = h;
	}
	g_assert_nonnull(found);
	/* A page's way at 10 MB/s, with what is under way before it. */
	g_assert_cmpuint(found->longest_ns, >, 1000000);
	g_assert_cmpint(found->at_longest.phase, ==, PHASE_DEVICE);
	g_assert_nonnull(strstr(found->at_longest.device, "virtio"));
	g_assert_cmpint(found->taken, ==, TAKEN_BLOCKED);
	expect_exact(run, found);
	g_assert_cmpint(depth_of(run, found, "virtio_load"), <,
			depth_of(run, found, "vmstate_load_state"));
	run_free(run);
}

/*
 * The same in a thread of loadvm's, whose detours are on the way: their stubs and the library's own
 * functions have unwind tables too.
 */
static void detoured(gconstpointer version)
{
	struct run *run = record_arrival(version, LAB_COPY_POST, "section");
	const struct hold *found = NULL;

	if (!run)
		return;
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);
		const struct thread *t = &g_array_index(run->threads, struct thread, h->thread);

		if (!h->longest_ns || h->longest_cause != CAUSE_USERFAULT ||
		    t->role != ROLE_INCOMING)
			continue;
		tell(run, h);
		if (depth_of(run, h, "virtio_load") >= 0)
			found = h;
	}
	g_assert_nonnull(found);
	g_assert_cmpint(found->at_longest.phase, ==, PHASE_DEVICE);
	expect_exact(run, found);
	g_assert_cmpint(depth_of(run, found, "virtio_load"), <,
			depth_of(run, found, "qemu_loadvm_state"));
	run_free(run);
}

/* The block layer polls for its own requests while it takes the disks over. */
static void activation(gconstpointer version)
{
	struct run *run = record_arrival(version, LAB_COPY_PRE, NULL);
	const struct hold *found = NULL;

	if (!run)
		return;
	for (unsigned i = 0; i < run->holds->len; i++) {
		const struct hold *h = &g_array_index(run->holds, struct hold, i);

		if (!h->longest_ns)
			continue;
		tell(run, h);
		if (depth_of(run, h, "bdrv_activate_all") >= 0)
			found = h;
	}
	g_assert_nonnull(found);
	g_assert_cmpstr(cause_name(found->longest_cause), ==, "ppoll");
	g_assert_cmpint(found->at_longest.phase, ==, PHASE_ACTIVATE);
	expect_exact(run, found);
	run_free(run);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/causes/userfault/7.2", "7.2", userfault);
	g_test_add_data_func("/causes/userfault/10.0", "10.0", userfault);
	g_test_add_data_func("/causes/activation/7.2", "7.2", activation);
	g_test_add_data_func("/causes/activation/10.0", "10.0", activation);
	g_test_add_data_func("/causes/detoured/7.2", "7.2", detoured);
	g_test_add_data_func("/causes/detoured/10.0", "10.0", detoured);
	return g_test_run();
}
