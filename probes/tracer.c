/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tracer's life: load the programs, take QEMUs on and let them go, pass events on, give access
 * to the tables that the kernel fills.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "probes/features.h"
#include "probes/private.h"
#include "probes/uprobes.h"

#define KERNEL_BTF "/sys/kernel/btf/vmlinux"

/* libbpf's last complaint, for the sentence when loading fails. */
static char libbpf_said[160];

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

void tracer_fail(struct tracer_error *err, const char *format, ...)
{
	va_list args;

	if (!err)
		return;
	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
}

static int listen_to_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	if (getenv("BQLSTAT_DEBUG"))
		return vfprintf(stderr, format, args);
	if (level == LIBBPF_WARN) {
		vsnprintf(libbpf_said, sizeof(libbpf_said), format, args);
		libbpf_said[strcspn(libbpf_said, "\n")] = 0;
	}
	return 0;
}

static size_t table_bytes(struct bpf_map *map)
{
	size_t page = sysconf(_SC_PAGESIZE);
	size_t value = (bpf_map__value_size(map) + 7) & ~7UL;

	return (value * bpf_map__max_entries(map) + page - 1) & ~(page - 1);
}

static void *map_table(struct bpf_map *map, int protection)
{
	void *at = mmap(NULL, table_bytes(map), protection, MAP_SHARED, bpf_map__fd(map), 0);

	return at == MAP_FAILED ? NULL : at;
}

static void unmap_table(struct bpf_map *map, const void *at)
{
	if (at)
		munmap((void *)at, table_bytes(map));
}

static struct target *target_of_event(struct tracer *t, uint32_t slot, uint32_t epoch)
{
	struct target *target = slot < ABI_SLOTS ? &t->targets[slot] : NULL;

	return target && target->epoch == epoch && target->map ? target : NULL;
}

static const char *device_name(struct target *target, uint64_t address, const char *said)
{
	struct device_name *d;
	const char *in_file;

	if (!address)
		return "";
	for (size_t i = 0; i < target->nr_devices; i++)
		if (target->devices[i].address == address)
			return target->devices[i].name;
	d = realloc(target->devices, (target->nr_devices + 1) * sizeof(*d));
	if (!d)
		return "?";
	target->devices = d;
	d += target->nr_devices++;
	d->address = address;
	if (said && *said) {
		snprintf(d->name, sizeof(d->name), "%s", said);
	} else if (!process_read_string(target->mem_fd, address, d->name, sizeof(d->name))) {
		in_file = seam_map_string(target->map, address - target->bias);
		snprintf(d->name, sizeof(d->name), "%s", in_file ? in_file : "?");
	}
	return d->name;
}

static int on_event(void *opaque, void *data, size_t size)
{
	struct tracer *t = opaque;
	const uint32_t *type = data;

	if (*type == ABI_EVENT_HOLD && size >= sizeof(struct abi_event_hold)) {
		const struct abi_event_hold *e = data;

		if (target_of_event(t, e->hold.slot, e->epoch) && t->opts.sink.hold)
			t->opts.sink.hold(t->opts.sink.opaque, e->hold.slot, &e->hold);
	} else if (*type == ABI_EVENT_PHASE && size >= sizeof(struct abi_event_phase)) {
		const struct abi_event_phase *e = data;
		struct target *target = target_of_event(t, e->slot, e->epoch);

		if (target && t->opts.sink.phase)
			t->opts.sink.phase(t->opts.sink.opaque, e->slot, e,
					   device_name(target, e->now.device, e->name));
	}
	return 0;
}

static int on_stack(void *opaque, void *data, size_t size)
{
	const struct abi_stack *s = data;
	struct tracer *t = opaque;

	if (size >= offsetof(struct abi_stack, bytes) &&
	    size - offsetof(struct abi_stack, bytes) >= s->size &&
	    target_of_event(t, s->slot, s->epoch) && t->opts.sink.stack)
		t->opts.sink.stack(t->opts.sink.opaque, s->slot, s);
	return 0;
}

/* "attach cookies, task storage", or "". */
static void missing_features(char *text, size_t size)
{
	struct features features;
	size_t used = 0;

	*text = 0;
	features_probe(&features);
	for (int i = 0; i < FEATURES && used < size; i++)
		if (features.has[i] == FEATURE_NO)
			used += snprintf(text + used, size - used, "%s%s", used ? ", " : "",
					 feature_name(i));
}

static int load_failed(int ret, struct tracer_error *err)
{
	char missing[160];
	struct utsname kernel;

	if (access(KERNEL_BTF, R_OK)) {
		tracer_fail(err,
			    "this kernel has no BTF (%s): bqlstat needs Linux 5.15 or newer built "
			    "with CONFIG_DEBUG_INFO_BTF",
			    KERNEL_BTF);
		return ret;
	}
	if (ret == -EPERM) {
		tracer_fail(err,
			    "cannot load the kernel programs: run as root or grant CAP_BPF and "
			    "CAP_PERFMON");
		return ret;
	}
	missing_features(missing, sizeof(missing));
	uname(&kernel);
	if (*missing)
		tracer_fail(err,
			    "this kernel (Linux %s) lacks what bqlstat needs: %s; Linux 5.15 and "
			    "newer have it",
			    kernel.release, missing);
	else
		tracer_fail(err, "cannot load the kernel programs: %s (%s)", strerror(-ret),
			    *libbpf_said ? libbpf_said : "BQLSTAT_DEBUG=1 tells more");
	return ret;
}

/* A program is loaded for one way of attaching it. */
static void use_multi(struct bpf_object *obj)
{
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, obj) if (bpf_program__type(prog) == BPF_PROG_TYPE_KPROBE)
		bpf_program__set_expected_attach_type(prog, (enum bpf_attach_type)UPROBES_MULTI);
}

/* It keeps nothing of ours but the programs that go on QEMUs. */
static int new_keeper(struct tracer *t)
{
	int fds[sizeof(t->skel->progs) / sizeof(struct bpf_program *)];
	struct bpf_program *prog;
	size_t n = 0;

	bpf_object__for_each_program(prog, t->skel->obj) if (bpf_program__type(prog) ==
							     BPF_PROG_TYPE_KPROBE) fds[n++] =
		bpf_program__fd(prog);
	return keeper_new(fds, n, &t->keeper);
}

int tracer_new(const struct tracer_opts *opts, struct tracer **tracer, struct tracer_error *err)
{
	struct tracer *t = calloc(1, sizeof(*t));
	struct bql_bpf *skel = NULL;
	uint64_t begin, end;
	int ret = -ENOMEM;

	*tracer = NULL;
	if (!t)
		goto cleanup;
	t->opts = *opts;
	t->max_sites = opts->max_sites ? opts->max_sites : ABI_SITES;
	t->files = calloc(t->max_sites, sizeof(*t->files));
	if (!t->files)
		goto cleanup;
	libbpf_set_print(listen_to_libbpf);
	*libbpf_said = 0;
	skel = t->skel = bql_bpf__open();
	if (!skel) {
		ret = load_failed(-errno, err);
		goto cleanup;
	}
	skel->rodata->threshold_ns = opts->threshold_ns;
	skel->rodata->max_sites = t->max_sites;
	if (!kernel_function("handle_userfault", &begin, &end)) {
		skel->rodata->userfault_begin = begin;
		skel->rodata->userfault_end = end;
	}
	skel->bss->take_stacks = opts->stacks;
	bpf_map__set_max_entries(skel->maps.sites, t->max_sites);
	bpf_map__set_max_entries(skel->maps.site_index, t->max_sites);
	bpf_map__set_max_entries(skel->maps.free_sites, t->max_sites);
	bpf_map__set_max_entries(skel->maps.blocked, 2 * t->max_sites);
	if (opts->ring_bytes)
		bpf_map__set_max_entries(skel->maps.events, opts->ring_bytes);
	/* For comparing the two ways, and should a kernel have a defect that we do not see. */
	t->multi = !getenv("BQLSTAT_ONE_BY_ONE") && uprobes_multi_works();
	if (t->multi)
		use_multi(skel->obj);
	ret = bql_bpf__load(skel);
	if (ret) {
		load_failed(ret, err);
		goto cleanup;
	}
	t->slots = map_table(skel->maps.slots, PROT_READ | PROT_WRITE);
	t->threads = map_table(skel->maps.threads, PROT_READ | PROT_WRITE);
	t->ring = ring_buffer__new(bpf_map__fd(skel->maps.events), on_event, t, NULL);
	skel->links.on_switch = bpf_program__attach(skel->progs.on_switch);
	skel->links.on_waking = bpf_program__attach(skel->progs.on_waking);
	skel->links.on_exit = bpf_program__attach(skel->progs.on_exit);
	if (!t->slots || !t->threads || !sites_reserve(t) || !t->ring ||
	    ring_buffer__add(t->ring, bpf_map__fd(skel->maps.stacks), on_stack, t) ||
	    !skel->links.on_switch || !skel->links.on_waking || !skel->links.on_exit) {
		ret = load_failed(-errno, err);
		goto cleanup;
	}
	ret = new_keeper(t);
	if (ret) {
		tracer_fail(err, "cannot start a process that holds the probes: %s",
			    strerror(-ret));
		goto cleanup;
	}
	if (opts->calibrate)
		tracer_calibrate(t);
	*tracer = t;
	return 0;

cleanup:
	if (ret == -ENOMEM)
		tracer_fail(err, "out of memory");
	tracer_free(t);
	return ret;
}

void tracer_free(struct tracer *t)
{
	if (!t)
		return;
	/* All begin, then all wait. */
	for (int slot = 0; slot < ABI_SLOTS; slot++)
		if (t->targets[slot].attached)
			slot_disarm(t, slot);
	for (int slot = 0; slot < ABI_SLOTS; slot++) {
		if (t->targets[slot].attached)
			slot_release(t, slot);
		target_clear(&t->targets[slot]);
	}
	keeper_free(t->keeper);
	names_free(t);
	copy_free(&t->blocked);
	copy_free(&t->charges);
	free(t->files);
	ring_buffer__free(t->ring);
	if (t->skel) {
		unmap_table(t->skel->maps.slots, t->slots);
		unmap_table(t->skel->maps.threads, t->threads);
		sites_unmap(t);
		bql_bpf__destroy(t->skel);
	}
	free(t);
}

int tracer_add(struct tracer *t, pid_t pid, struct tracer_error *err)
{
	struct seam_error seam_err = {};
	struct seam_map *map = NULL;
	struct target *target;
	char path[64];
	uint64_t bias;
	int ret, slot;

	for (slot = 0; slot < ABI_SLOTS; slot++) {
		if (t->targets[slot].attached && t->targets[slot].pid == pid) {
			tracer_fail(err, "process %d is being traced already", pid);
			return -EBUSY;
		}
	}
	ret = seam_map_open_pid(pid, &map, &bias, &seam_err);
	if (ret) {
		tracer_fail(err, "%s", seam_err.text);
		return ret;
	}
	slot = slot_take(t, pid);
	if (slot < 0) {
		tracer_fail(err, "more than %d QEMUs at once: record fewer", ABI_SLOTS);
		seam_map_free(map);
		return slot;
	}
	target = &t->targets[slot];
	target->map = map;
	target->bias = bias;
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	target->mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (target->mem_fd < 0) {
		ret = -errno;
		tracer_fail(err,
			    "cannot read the memory of process %d: run as root, or as its user "
			    "with CAP_SYS_PTRACE",
			    pid);
		slot_release(t, slot);
		return ret;
	}
	ret = attach_plan(t, slot, err);
	if (ret) {
		slot_release(t, slot);
		return ret;
	}
	slot_arm(t, slot, target->bias + seam_map_bql(map));
	return slot;
}

void tracer_remove(struct tracer *t, int slot)
{
	if (slot < 0 || slot >= ABI_SLOTS || !t->targets[slot].attached)
		return;
	slot_release(t, slot);
	tracer_poll(t);
}

/* Whose name is it: a site of this target in this very attach, or NULL. */
static struct target *target_of_site(struct tracer *t, const struct abi_site *site)
{
	const struct abi_thread *thread = &t->threads[site->thread];

	return target_of_event(t, thread->slot, thread->epoch);
}

static const char *read_file_name(struct tracer *t, struct target *target,
				  const struct abi_site *site)
{
	uint64_t address = site->file;
	char name[256];
	const char *in_file;

	/* Shorter than its room: whole. */
	if (*site->name && strnlen(site->name, ABI_PATH) < ABI_PATH - 1) {
		snprintf(name, sizeof(name), "%.*s", ABI_PATH, site->name);
		return keep_name(t, name);
	}
	/* The process first: a site may lie in a library that was loaded into it. */
	if (target->mem_fd >= 0 && process_read_string(target->mem_fd, address, name, sizeof(name)))
		return keep_name(t, name);
	in_file = seam_map_string(target->map, address - target->bias);
	return in_file && *in_file ? keep_name(t, in_file) : NULL;
}

static void learn_file(struct tracer *t, uint32_t index)
{
	const struct abi_site *site = &t->sites[index];
	struct target *target = target_of_site(t, site);

	if (t->files[index] || !site->file || !target)
		return;
	for (uint32_t i = 0; i < index; i++) {
		if (t->files[i] && t->sites[i].file == site->file &&
		    target_of_site(t, &t->sites[i]) == target) {
			t->files[index] = t->files[i];
			return;
		}
	}
	t->files[index] = read_file_name(t, target, site);
}

/* Somebody killed the keeper: another takes its place. What passed meanwhile was not recorded. */
static int replace_keeper(struct tracer *t)
{
	struct keeper *dead = t->keeper;
	int ret = new_keeper(t);

	if (ret)
		return ret;
	keeper_free(dead);
	for (int slot = 0; slot < ABI_SLOTS; slot++) {
		slot_bereft(t, slot);
		if (t->targets[slot].attached)
			budget_again(t, slot);
	}
	return 0;
}

int tracer_poll(struct tracer *t)
{
	int ret = keeper_lives(t->keeper) ? 0 : replace_keeper(t);
	uint32_t used;

	if (!ret)
		ret = ring_buffer__consume(t->ring);
	used = sites_used(t);

	t->blocked.fresh = t->charges.fresh = false;
	for (int slot = 0; slot < ABI_SLOTS; slot++)
		if (t->targets[slot].attached && t->targets[slot].map)
			budget_step(t, slot);
	for (uint32_t i = t->nr_files_known; i < used; i++)
		learn_file(t, i);
	while (t->nr_files_known < used && t->files[t->nr_files_known])
		t->nr_files_known++;
	return ret < 0 ? ret : 0;
}

const struct tracer_cost *tracer_cost(const struct tracer *t)
{
	return &t->cost;
}

const struct seam_map *tracer_map(const struct tracer *t, int slot)
{
	return t->targets[slot].map;
}

pid_t tracer_pid(const struct tracer *t, int slot)
{
	return t->targets[slot].pid;
}

size_t tracer_points(struct tracer *t, int slot, const struct tracer_point **points)
{
	struct target *target = &t->targets[slot];

	for (size_t i = 0; i < target->nr_points; i++)
		target->points[i].hit = t->slots[slot].hit[i];
	*points = target->points;
	return target->nr_points;
}

void tracer_lost(const struct tracer *t, int slot, uint64_t lost[ABI_LOST_KINDS])
{
	memcpy(lost, t->slots[slot].lost, sizeof(t->slots[slot].lost));
}

void tracer_span(const struct tracer *t, int slot, uint64_t *begin_ns, uint64_t *end_ns)
{
	*begin_ns = t->targets[slot].armed_ns;
	*end_ns = t->targets[slot].attached ? now_ns() : t->targets[slot].disarmed_ns;
}

static uint32_t owner_now(const struct tracer *t, int slot)
{
	if (!t->targets[slot].attached)
		return t->targets[slot].last_owner;
	return __atomic_load_n(&t->skel->bss->owners[slot], __ATOMIC_ACQUIRE);
}

bool tracer_owner(struct tracer *t, int slot, struct tracer_owner *owner)
{
	const struct abi_slot *s = &t->slots[slot];
	uint32_t tid = owner_now(t, slot);

	if (!tid)
		return false;
	owner->since_ns = s->owner_since_ns;
	owner->site_index = s->owner_site;
	owner->site = tracer_site(t, s->owner_site);
	owner->thread = tracer_thread(t, s->owner_thread);
	/* Read while it changed hands: say nobody rather than something mixed. */
	return owner->site && owner->thread && owner->thread->tid == tid &&
	       owner_now(t, slot) == tid;
}

bool tracer_source(const struct tracer *t, int slot, uint64_t *downtime_ns, uint64_t *save_ns)
{
	const struct abi_slot *s = &t->slots[slot];

	if (!s->saved_ns || s->saved_ns < s->save_ns)
		return false;
	*save_ns = s->saved_ns - s->save_ns;
	*downtime_ns = s->stop_ns && s->stop_ns < s->save_ns ? s->saved_ns - s->stop_ns : 0;
	return true;
}

void tracer_phase(const struct tracer *t, int slot, struct abi_phase *phase)
{
	*phase = t->slots[slot].base;
	phase->device = t->slots[slot].device;
	if (phase->device)
		phase->kind = ABI_PHASE_DEVICE;
}

void tracer_snapshot(struct tracer *t, int slot, tracer_site_fn fn, void *opaque)
{
	uint32_t used = sites_used(t);

	for (uint32_t i = 0; i < used; i++) {
		const struct abi_site *site = &t->sites[i];

		if (!site->acquired || target_of_site(t, site) != &t->targets[slot])
			continue;
		learn_file(t, i);
		fn(opaque, site, t->files[i] ? t->files[i] : "", &t->threads[site->thread]);
	}
}

void tracer_blocked(struct tracer *t, int slot, tracer_blocked_fn fn, void *opaque)
{
	const struct abi_blocked_key *keys;
	const struct abi_blocked *sums;

	copy_read(&t->blocked, t->skel->maps.blocked);
	keys = t->blocked.keys;
	sums = t->blocked.values;
	for (uint32_t i = 0; i < t->blocked.count; i++) {
		const struct abi_site *site = tracer_site(t, keys[i].site);

		if (site && target_of_site(t, site) == &t->targets[slot])
			fn(opaque, site, &keys[i], &sums[i]);
	}
}

bool tracer_waker(struct tracer *t, int slot, uint32_t tid, struct abi_waker *waker)
{
	const struct abi_waker_key key = {.epoch = t->targets[slot].epoch, .tid = tid};

	return tid && !bpf_map_lookup_elem(bpf_map__fd(t->skel->maps.wakers), &key, waker);
}

void tracer_charges(struct tracer *t, int slot, tracer_charge_fn fn, void *opaque)
{
	const struct abi_charge_key *keys;
	const struct abi_charge *sums;

	copy_read(&t->charges, t->skel->maps.charges);
	keys = t->charges.keys;
	sums = t->charges.values;
	for (uint32_t i = 0; i < t->charges.count; i++) {
		const struct abi_site *victim = tracer_site(t, keys[i].victim);

		if (victim && target_of_site(t, victim) == &t->targets[slot])
			fn(opaque, keys[i].holder, victim, &sums[i]);
	}
}

void tracer_take_stacks(struct tracer *t, bool take)
{
	__atomic_store_n(&t->skel->bss->take_stacks, take, __ATOMIC_RELAXED);
}

bool tracer_takes_stacks(const struct tracer *t)
{
	return __atomic_load_n(&t->skel->bss->take_stacks, __ATOMIC_RELAXED);
}

const char *tracer_site_file(struct tracer *t, uint32_t site)
{
	if (site >= t->max_sites)
		return "";
	learn_file(t, site);
	return t->files[site] ? t->files[site] : "";
}

const struct abi_thread *tracer_thread(const struct tracer *t, uint32_t thread)
{
	return thread < ABI_THREADS ? &t->threads[thread] : NULL;
}

const char *tracer_device(struct tracer *t, int slot, const struct abi_phase *phase)
{
	return device_name(&t->targets[slot], phase->device, NULL);
}
