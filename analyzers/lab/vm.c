/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One QEMU of the lab: its command line, its monitor, its guest's signs of life.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "analyzers/lab/guest.h"
#include "analyzers/lab/internal.h"

#define MACHINE	      "pc-q35-7.2"
#define TIMEOUT_MS    15000
#define MEMORY_MIB    128
#define DIRTY_MIB     8
#define ROUND_MS      10
#define TIMER_HZ      1193182
#define PAGES_PER_MIB 256
#define DISK_BYTES    (1 << 20) /* SeaBIOS boots no disk smaller than a track */

struct lab_vm {
	char *name;
	char *qmp_path, *poller_path, *serial_path, *disk_path;
	unsigned timeout_ms;
	struct lab_process *process;
	struct qmp *qmp;
};

/*
 * Fixed slots keep section names the same on both sides and on every version. Option ROMs are left
 * out: their size differs between versions, which QEMU refuses to migrate, and they slow the boot.
 */
static const struct {
	const char *option, *value;
} dozen[] = {
	{"-netdev", "hubport,id=net0,hubid=0"},
	{"-netdev", "hubport,id=net1,hubid=0"},
	{"-netdev", "hubport,id=net2,hubid=0"},
	{"-blockdev", "null-co,node-name=disk0,size=1073741824,read-zeroes=on"},
	{"-blockdev", "null-co,node-name=disk1,size=1073741824,read-zeroes=on"},
	{"-object", "rng-random,id=rng0,filename=/dev/urandom"},
	{"-chardev", "null,id=console0"},
	{"-audiodev", "none,id=audio0"},
	{"-device", "virtio-net-pci,addr=04.0,netdev=net0,romfile="},
	{"-device", "virtio-blk-pci,addr=05.0,drive=disk0"},
	{"-device", "virtio-scsi-pci,addr=06.0,id=scsi0"},
	{"-device", "scsi-hd,bus=scsi0.0,drive=disk1"},
	{"-device", "virtio-rng-pci,addr=07.0,rng=rng0"},
	{"-device", "virtio-balloon-pci,addr=08.0"},
	{"-device", "virtio-serial-pci,addr=09.0,id=serial0"},
	{"-device", "virtserialport,bus=serial0.0,chardev=console0"},
	{"-device", "e1000,addr=0a.0,netdev=net1,romfile="},
	{"-device", "ich9-ahci,addr=0b.0"},
	{"-device", "qemu-xhci,addr=0c.0,id=xhci0"},
	{"-device", "usb-tablet,bus=xhci0.0"},
	{"-device", "intel-hda,addr=0d.0,id=hda0"},
	{"-device", "hda-duplex,bus=hda0.0,audiodev=audio0"},
	{"-device", "virtio-keyboard-pci,addr=0e.0"},
	{"-device", "lsi53c895a,addr=0f.0"},
	{"-device", "i6300esb,addr=10.0"},
	{"-device", "rtl8139,addr=11.0,netdev=net2,romfile="},
};

static void add(GPtrArray *argv, const char *const *words)
{
	for (; words && *words; words++)
		g_ptr_array_add(argv, g_strdup(*words));
}

#define ADD(argv, ...) add(argv, (const char *const[]){__VA_ARGS__, NULL})
#define ADDF(argv, option, ...)                                                                    \
	(g_ptr_array_add(argv, g_strdup(option)),                                                  \
	 g_ptr_array_add(argv, g_strdup_printf(__VA_ARGS__)))

GBytes *lab_guest_image(const struct lab_vm_options *o, GError **error)
{
	uint32_t dirty = (o->dirty_mib ? o->dirty_mib : DIRTY_MIB) * PAGES_PER_MIB;
	uint32_t fill = MAX(o->fill_mib * PAGES_PER_MIB, dirty);
	uint32_t memory = (o->memory_mib ? o->memory_mib : MEMORY_MIB) * PAGES_PER_MIB;
	unsigned round_ms = o->round_ms ? o->round_ms : ROUND_MS;
	uint16_t divisor = o->flat_out ? 0 : MIN(round_ms * TIMER_HZ / 1000, UINT16_MAX);
	uint32_t hammer = o->hammer;
	uint8_t *image;

	/* 1 MiB below, and the firmware's tables at the top, which the machine may write. */
	if (fill + 2 * PAGES_PER_MIB > memory) {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO,
			    "the guest cannot fill %u MiB of %u: leave 2 MiB", fill / PAGES_PER_MIB,
			    memory / PAGES_PER_MIB);
		return NULL;
	}
	image = g_malloc0(DISK_BYTES);
	memcpy(image, lab_guest_sector, LAB_GUEST_SIZE);
	memcpy(image + LAB_GUEST_HAMMER, &hammer, sizeof(hammer));
	memcpy(image + LAB_GUEST_FILL_PAGES, &fill, sizeof(fill));
	memcpy(image + LAB_GUEST_DIRTY_PAGES, &dirty, sizeof(dirty));
	memcpy(image + LAB_GUEST_DIVISOR, &divisor, sizeof(divisor));
	return g_bytes_new_take(image, DISK_BYTES);
}

static bool write_disk(struct lab_vm *vm, const struct lab_vm_options *o, GError **error)
{
	g_autoptr(GBytes) image = lab_guest_image(o, error);
	gsize size;
	const char *data;

	if (!image)
		return false;
	data = g_bytes_get_data(image, &size);
	return g_file_set_contents_full(vm->disk_path, data, size, G_FILE_SET_CONTENTS_NONE, 0600,
					error);
}

static char **command_line(struct lab_vm *vm, const char *binary, const struct lab_vm_options *o)
{
	GPtrArray *argv = g_ptr_array_new();

	add(argv, o->launcher);
	ADD(argv, binary, "-accel", "tcg", "-display", "none", "-nodefaults", "-no-user-config");
	ADDF(argv, "-name", "%s,debug-threads=on", vm->name);
	ADD(argv, "-machine", o->machine ? o->machine : MACHINE);
	ADDF(argv, "-m", "%u", o->memory_mib ? o->memory_mib : MEMORY_MIB);
	ADDF(argv, "-smp", "%u", o->cpus ? o->cpus : 1);
	ADDF(argv, "-chardev", "socket,id=qmp0,path=%s,server=on,wait=off", vm->qmp_path);
	ADDF(argv, "-chardev", "socket,id=qmp1,path=%s,server=on,wait=off", vm->poller_path);
	ADD(argv, "-mon", "chardev=qmp0,mode=control", "-mon", "chardev=qmp1,mode=control");
	ADDF(argv, "-chardev", "file,id=com1,path=%s", vm->serial_path);
	ADD(argv, "-serial", "chardev:com1");
	if (o->guest) {
		ADDF(argv, "-drive", "if=none,id=boot,format=raw,file=%s", vm->disk_path);
		ADD(argv, "-device", "ide-hd,bus=ide.0,drive=boot,bootindex=0");
	} else {
		ADD(argv, "-S");
	}
	for (size_t i = 0; o->devices == LAB_DEVICES_DOZEN && i < G_N_ELEMENTS(dozen); i++)
		ADD(argv, dozen[i].option, dozen[i].value);
	if (o->incoming)
		ADD(argv, "-incoming", o->incoming);
	if (o->preconfig)
		ADD(argv, "--preconfig");
	add(argv, o->args);
	g_ptr_array_add(argv, NULL);
	return (char **)g_ptr_array_free(argv, FALSE);
}

/* Every error about a VM says which, and what its QEMU said last if it has ended. */
static void blame(struct lab_vm *vm, GError **error)
{
	g_autofree char *says = NULL;
	char *last;
	int status;

	if (!error || !*error)
		return;
	g_prefix_error(error, "%s: ", vm->name);
	if (!g_error_matches(*error, LAB_ERROR, LAB_ERROR_EXITED) ||
	    !lab_process_wait(vm->process, 1000, &status, NULL))
		return;
	says = g_strchomp(lab_process_stderr(vm->process));
	last = strrchr(says, '\n');
	g_free((*error)->message);
	(*error)->message = g_strdup_printf("%s: QEMU ended with status %d: %s", vm->name, status,
					    last    ? last + 1
					    : *says ? says
						    : "it said nothing");
}

static char *file_of(const char *name, unsigned n, const char *suffix)
{
	return g_strdup_printf("%s/%s-%u.%s", lab_tmpdir(), name, n, suffix);
}

struct lab_vm *lab_vm_new(const struct lab_vm_options *o, GError **error)
{
	static int serial;
	unsigned n = g_atomic_int_add(&serial, 1);
	const char *version = o->version ? o->version : "7.2", *why = NULL;
	const char *binary = o->binary ? o->binary : lab_qemu_path(version, &why);
	unsigned start_ms;
	struct lab_vm *vm;
	g_auto(GStrv) argv = NULL;

	if (!binary) {
		g_set_error_literal(error, LAB_ERROR, LAB_ERROR_UNAVAILABLE, why);
		return NULL;
	}
	vm = g_new0(struct lab_vm, 1);
	vm->name = g_strdup(o->name ? o->name : "vm");
	vm->timeout_ms = o->timeout_ms ? o->timeout_ms : TIMEOUT_MS;
	start_ms = MAX(vm->timeout_ms, TIMEOUT_MS);
	vm->qmp_path = file_of(vm->name, n, "qmp");
	vm->poller_path = file_of(vm->name, n, "poll");
	vm->serial_path = file_of(vm->name, n, "serial");
	vm->disk_path = file_of(vm->name, n, "disk");
	if (o->guest && !write_disk(vm, o, error))
		goto fail;
	argv = command_line(vm, binary, o);
	vm->process = lab_process_new((const char *const *)argv, o->env, error);
	if (!vm->process)
		goto fail;
	vm->qmp = qmp_connect(vm->qmp_path, vm->process, deadline_in(start_ms), error);
	if (!vm->qmp) {
		blame(vm, error);
		goto fail;
	}
	if (o->preconfig && !lab_qmp_ok(vm, error, "x-exit-preconfig"))
		goto fail;
	if (o->guest && !o->incoming && !lab_vm_alive(vm, start_ms, error))
		goto fail;
	return vm;
fail:
	lab_vm_free(vm);
	return NULL;
}

struct lab_vm *lab_vm_new_idle(const char *version, GError **error)
{
	return lab_vm_new(
		&(struct lab_vm_options){.name = "idle", .version = version, .memory_mib = 16},
		error);
}

void lab_vm_free(struct lab_vm *vm)
{
	if (!vm)
		return;
	qmp_free(vm->qmp);
	lab_process_free(vm->process);
	unlink(vm->qmp_path);
	unlink(vm->poller_path);
	unlink(vm->serial_path);
	unlink(vm->disk_path);
	g_free(vm->qmp_path);
	g_free(vm->poller_path);
	g_free(vm->serial_path);
	g_free(vm->disk_path);
	g_free(vm->name);
	g_free(vm);
}

const char *lab_vm_name(const struct lab_vm *vm)
{
	return vm->name;
}

pid_t lab_vm_pid(const struct lab_vm *vm)
{
	return lab_process_pid(vm->process);
}

struct lab_process *lab_vm_process(struct lab_vm *vm)
{
	return vm->process;
}

const char *lab_vm_poller_path(const struct lab_vm *vm)
{
	return vm->poller_path;
}

char *lab_vm_stderr(struct lab_vm *vm)
{
	return lab_process_stderr(vm->process);
}

bool lab_vm_wait_exit(struct lab_vm *vm, unsigned timeout_ms, int *status, GError **error)
{
	if (lab_process_wait(vm->process, timeout_ms, status, error))
		return true;
	blame(vm, error);
	return false;
}

bool lab_vm_quit(struct lab_vm *vm, unsigned timeout_ms, int *status, GError **error)
{
	uint64_t id;

	/* Its answer does not matter and may not come: what counts is that it ends. */
	if (lab_process_running(vm->process))
		qmp_send(vm->qmp, "quit", NULL, &id, NULL);
	return lab_vm_wait_exit(vm, timeout_ms, status, error);
}

void lab_vm_kill(struct lab_vm *vm, int signal)
{
	lab_process_kill(vm->process, signal);
}

/* ---- the guest ---- */

uint64_t lab_vm_rounds(struct lab_vm *vm)
{
	struct stat st;

	return stat(vm->serial_path, &st) ? 0 : st.st_size;
}

static char last_byte(struct lab_vm *vm)
{
	int fd = open(vm->serial_path, O_RDONLY | O_CLOEXEC);
	char byte = 0;

	if (fd < 0)
		return 0;
	if (lseek(fd, -1, SEEK_END) < 0 || read(fd, &byte, 1) != 1)
		byte = 0;
	close(fd);
	return byte;
}

bool lab_vm_alive(struct lab_vm *vm, unsigned timeout_ms, GError **error)
{
	uint64_t deadline = deadline_in(timeout_ms), begin = lab_vm_rounds(vm);

	while (lab_vm_rounds(vm) < begin + 3) {
		bool running = lab_process_running(vm->process);

		if (running && deadline_left_ms(deadline)) {
			g_usleep(2000);
			continue;
		}
		g_set_error(
			error, LAB_ERROR, running ? LAB_ERROR_TIMEOUT : LAB_ERROR_EXITED,
			"the guest does not go on: %u ms without three rounds on its serial port",
			timeout_ms);
		blame(vm, error);
		return false;
	}
	if (last_byte(vm) == '!') {
		g_set_error(error, LAB_ERROR, LAB_ERROR_IO,
			    "%s: the guest found a page that lost its contents", vm->name);
		return false;
	}
	return true;
}

/* ---- QMP ---- */

static JsonNode *run(struct lab_vm *vm, const char *command, const char *arguments, GError **error)
{
	JsonNode *answer = NULL;
	uint64_t id;

	if (qmp_send(vm->qmp, command, arguments, &id, error))
		answer = qmp_answer(vm->qmp, id, deadline_in(vm->timeout_ms), error);
	if (!answer) {
		g_prefix_error(error, "%s: ", command);
		blame(vm, error);
	}
	return answer;
}

bool lab_vm_pass_fd(struct lab_vm *vm, int fd, const char *name, GError **error)
{
	g_autoptr(JsonNode) answer = NULL;
	uint64_t id;

	if (qmp_send_fd(vm->qmp, fd, name, &id, error))
		answer = qmp_answer(vm->qmp, id, deadline_in(vm->timeout_ms), error);
	if (!answer) {
		g_prefix_error(error, "getfd: ");
		blame(vm, error);
	}
	return answer;
}

static JsonNode *run_text(struct lab_vm *vm, char *text, GError **error)
{
	char *arguments = strchr(text, ' ');

	if (arguments)
		*arguments++ = '\0';
	return run(vm, text, arguments, error);
}

JsonNode *lab_qmp(struct lab_vm *vm, GError **error, const char *format, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	return run_text(vm, text, error);
}

bool lab_qmp_ok(struct lab_vm *vm, GError **error, const char *format, ...)
{
	g_autofree char *text = NULL;
	g_autoptr(JsonNode) answer = NULL;
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	answer = run_text(vm, text, error);
	return answer;
}

char *lab_hmp(struct lab_vm *vm, GError **error, const char *format, ...)
{
	g_autofree char *line = NULL, *escaped = NULL, *arguments = NULL;
	g_autoptr(JsonNode) answer = NULL;
	va_list args;

	va_start(args, format);
	line = g_strdup_vprintf(format, args);
	va_end(args);
	escaped = g_strescape(line, NULL);
	arguments = g_strdup_printf("{\"command-line\": \"%s\"}", escaped);
	answer = run(vm, "human-monitor-command", arguments, error);
	return answer ? json_node_dup_string(answer) : NULL;
}

JsonNode *lab_qmp_event(struct lab_vm *vm, const char *name, unsigned timeout_ms, GError **error)
{
	JsonNode *event = qmp_event(vm->qmp, name, deadline_in(timeout_ms), error);

	if (!event) {
		g_prefix_error(error, "%s: ", name);
		blame(vm, error);
	}
	return event;
}
