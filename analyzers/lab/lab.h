/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * liblab: pairs of real QEMUs with faults, for bench, demo and tests.
 *
 * Rules for everything here:
 *  - Nothing blocks for ever: each call has a time-out, its own or the VM's.
 *  - A call that can fail takes a GError ** (domain LAB_ERROR) as its last parameter but for
 *    printf-like ones; it returns false or NULL exactly when it sets it. The message is one
 * sentence and, when a QEMU has died, ends in what that QEMU said last.
 *  - An option left 0 or NULL takes the default that stands beside it.
 *  - Times are CLOCK_MONOTONIC (`_ns`), durations `_ms` or `_ns`, sizes `_mib` or `_bytes`.
 *  - A VM or a pair belongs to one thread at a time. Start them from a thread that lives as long as
 *    they do: the kernel kills each QEMU when the *thread* that started it ends (PR_SET_PDEATHSIG),
 *    which is what leaves nothing behind when a test aborts. Proxy and pollers run threads of their
 *    own; their functions may be called from anywhere.
 *  - `_free` functions accept NULL, kill what runs and wait for it. g_autoptr works on every type.
 */
#ifndef LAB_H
#define LAB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <glib.h>
#include <json-glib/json-glib.h>

#define LAB_ERROR (lab_error_quark())
GQuark lab_error_quark(void);

enum lab_error {
	LAB_ERROR_UNAVAILABLE, /* cannot be had on this machine: a test skips */
	LAB_ERROR_TIMEOUT,
	LAB_ERROR_EXITED, /* the process is gone */
	LAB_ERROR_QMP,	  /* QMP answered with an error; the message is QEMU's */
	LAB_ERROR_IO,
};

uint64_t lab_now_ns(void);

/* ---- where things are ---- */

/* This process's private folder, made at the first call, removed at exit. Owned by the lab. */
const char *lab_tmpdir(void);

/*
 * How to start a QEMU of that version ("7.2" the system's, else "10.0", "11.1"; what holds a slash is
 * taken as a program's path): one path, a
 * program or a wrapper that execs it. Others than 7.2 are looked for in $LAB_QEMU_DIR/VERSION, then
 * in build/qemu/VERSION above the program and above the working directory, and 10.0 and 11.1 are
 * fetched into build/qemu when absent. NULL and a reason when it cannot be had (remembered: asked
 * once). Strings are owned by the lab.
 */
const char *lab_qemu_path(const char *version, const char **why);
/* The ELF file that lab_qemu_path() ends up in, for tools that read it. */
const char *lab_qemu_binary(const char *version, const char **why);

/* A program of this build ("loadvm", "lockdance"): in $O, beside or above this one; or NULL. */
const char *lab_program(const char *name);

/*
 * LTTng's control programs, lttng and lttng-sessiond: on PATH from here on, unpacked into
 * build/lttng where the system has none. False: they cannot be had.
 */
bool lab_lttng(GError **error);

/* ---- processes ---- */

/* Any program, in a process group of its own, with stdout and stderr captured. */
struct lab_process;

/* `argv` and `env` ("NAME=value" to add, may be NULL) are NULL-terminated and copied. */
struct lab_process *lab_process_new(const char *const *argv, const char *const *env,
				    GError **error);
void lab_process_free(struct lab_process *process);
pid_t lab_process_pid(const struct lab_process *process);
bool lab_process_running(struct lab_process *process);
/* Wait for its end; *status is its exit code, or 128 + signal. */
bool lab_process_wait(struct lab_process *process, unsigned timeout_ms, int *status,
		      GError **error);
void lab_process_kill(struct lab_process *process, int signal); /* the whole group */
bool lab_process_write(struct lab_process *process, const char *text, GError **error); /* stdin */
/* What it has printed so far; g_free(). */
char *lab_process_stdout(struct lab_process *process);
char *lab_process_stderr(struct lab_process *process);
/* Wait until its stdout or stderr holds `text`. */
bool lab_process_expect(struct lab_process *process, const char *text, unsigned timeout_ms,
			GError **error);

/* ---- one VM ---- */

struct lab_vm;

enum lab_devices {
	LAB_DEVICES_NONE,
	/*
	 * A dozen and more migratable PCI devices of different kinds that need nothing of the host,
	 * at fixed slots, so that sections have known names: LAB_SECTION_NET and so on below. The
	 * same on every version, so pairs of versions match.
	 */
	LAB_DEVICES_DOZEN,
};

/* idstr of some sections of LAB_DEVICES_DOZEN, for rules, in the order they are sent. */
#define LAB_SECTION_NET	  "0000:00:04.0/virtio-net"
#define LAB_SECTION_BLK	  "0000:00:05.0/virtio-blk"
#define LAB_SECTION_SCSI  "0000:00:06.0/virtio-scsi"
#define LAB_SECTION_E1000 "0000:00:0a.0/e1000"

struct lab_vm_options {
	const char *name;    /* in messages; "vm" */
	const char *version; /* "7.2" */
	const char *binary;  /* started instead of the version's */
	const char *machine; /* "pc-q35-7.2": every version from 7.2 on has it */
	unsigned memory_mib; /* 128 */
	unsigned cpus;	     /* 1 */
	enum lab_devices devices;
	bool guest;	      /* boot our guest; it runs within about a second */
	unsigned fill_mib;    /* RAM from 1 MiB up made non-zero once, page-distinct; dirty_mib */
	unsigned dirty_mib;   /* of it, written again each round; 8 */
	unsigned round_ms;    /* the guest sleeps (hlt) between rounds, 1..54; 10 */
	bool flat_out;	      /* it never sleeps */
	unsigned hammer;      /* writes a round to where no device is: each takes the BQL */
	const char *incoming; /* -incoming */
	bool preconfig;	      /* --preconfig, and told to go on as soon as QMP answers */
	const char *const *launcher; /* argv prefix, e.g. build/loadvm --policy io-free -- */
	const char *const *args;     /* appended */
	const char *const *env;	     /* "NAME=value", added to ours */
	unsigned timeout_ms; /* of each QMP command, and of the start if that is longer; 15000 */
};

/*
 * Start it and connect QMP; with .guest and without .incoming also wait until the guest runs.
 * -accel tcg -nodefaults -display none. LAB_ERROR_UNAVAILABLE: no such version here.
 */
struct lab_vm *lab_vm_new(const struct lab_vm_options *options, GError **error);
void lab_vm_free(struct lab_vm *vm);

const char *lab_vm_name(const struct lab_vm *vm);
pid_t lab_vm_pid(const struct lab_vm *vm); /* the QEMU's own: launcher and wrappers exec */
struct lab_process *lab_vm_process(struct lab_vm *vm); /* owned by the VM */
char *lab_vm_stderr(struct lab_vm *vm);		       /* g_free() */
bool lab_vm_wait_exit(struct lab_vm *vm, unsigned timeout_ms, int *status, GError **error);
/* QMP quit, then wait; *status may be NULL. */
bool lab_vm_quit(struct lab_vm *vm, unsigned timeout_ms, int *status, GError **error);
void lab_vm_kill(struct lab_vm *vm, int signal);

/* Rounds the guest has reported on this VM's serial port (a byte each). */
uint64_t lab_vm_rounds(struct lab_vm *vm);
/*
 * The guest goes on: its serial port says three more rounds within the time-out. Fails too when the
 * guest says that a page of the dirty range did not hold what it had last written there.
 */
bool lab_vm_alive(struct lab_vm *vm, unsigned timeout_ms, GError **error);

/* ---- QMP ---- */

/*
 * One command: its name, then, after a blank, its arguments as QEMU's JSON, single quotes welcome:
 *   lab_qmp(vm, &error, "migrate {'uri': 'tcp:127.0.0.1:%d'}", port)
 * Returns the "return" member (free with json_node_unref or g_autoptr), within the VM's timeout_ms.
 */
JsonNode *lab_qmp(struct lab_vm *vm, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* The same when only success matters. */
bool lab_qmp_ok(struct lab_vm *vm, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* What the human monitor prints; g_free(). */
char *lab_hmp(struct lab_vm *vm, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* The next event of that name, those already queued first; it is taken from the queue. */
JsonNode *lab_qmp_event(struct lab_vm *vm, const char *name, unsigned timeout_ms, GError **error);
/* A member by dotted path ("ram.transferred"): NULL or 0 when absent. Owned by the node. */
const char *lab_json_string(JsonNode *node, const char *path);
int64_t lab_json_int(JsonNode *node, const char *path);

/* ---- the proxy ---- */

enum lab_channel {
	LAB_CHANNEL_ACCEPTED, /* the nth accepted, whatever it is */
	LAB_CHANNEL_MAIN,     /* begins with QEMU's stream magic */
	LAB_CHANNEL_MULTIFD,  /* the multifd channel whose id is nth */
};

enum lab_fault {
	LAB_FAULT_STALL,     /* nothing passes, either way, for stall_ms; then goes on */
	LAB_FAULT_SLOW,	     /* from here on bytes_per_second towards the destination */
	LAB_FAULT_RESET,     /* both sides get RST */
	LAB_FAULT_FIN,	     /* both sides see an orderly end */
	LAB_FAULT_HALF_OPEN, /* nothing passes any more, but nothing closes while the proxy lives */
};

/*
 * On one connection, at one place of the stream from source to destination, one fault. The place
 * is, whichever is given: after `section`'s name (exact idstr; its state follows), after `pattern`,
 * else the start; plus `offset_bytes`. Everything before the place is passed on first.
 */
struct lab_rule {
	enum lab_channel channel;
	unsigned nth; /* from 0 */
	const char *section;
	const char *pattern;
	uint64_t offset_bytes;
	enum lab_fault fault;
	unsigned stall_ms;
	/*
	 * While stalled, go on taking in what the source sends, as a long network path would: the
	 * source then notices nothing, so what follows the stall does not depend on socket buffers.
	 */
	bool hoard;
	uint64_t bytes_per_second;
};

struct lab_proxy;

/*
 * Listen on 127.0.0.1 and pass each connection to `target` ("tcp:HOST:PORT" or "unix:PATH"). Rules
 * and their strings are copied. Rules of one connection fire in the order given.
 */
struct lab_proxy *lab_proxy_new(const char *target, const struct lab_rule *rules, size_t n_rules,
				GError **error);
void lab_proxy_free(struct lab_proxy *proxy);
const char *lab_proxy_uri(const struct lab_proxy *proxy); /* "tcp:127.0.0.1:PORT" */
/* When rule n fired; 0: not (yet). */
uint64_t lab_proxy_fired_ns(struct lab_proxy *proxy, size_t rule);
bool lab_proxy_wait_fired(struct lab_proxy *proxy, size_t rule, unsigned timeout_ms,
			  GError **error);
/*
 * Wait until the destination has taken in what has passed so far, or takes in no more of it because
 * it is frozen; and then for the moment in which it loads what it has just read.
 */
void lab_proxy_settle(struct lab_proxy *proxy);
/* End a stall or half-open now (idempotent). */
void lab_proxy_release(struct lab_proxy *proxy, size_t rule);

struct lab_connection {
	enum lab_channel
		channel; /* LAB_CHANNEL_ACCEPTED: neither main nor multifd, or not known yet */
	unsigned multifd_id;
	uint64_t forward_bytes; /* source to destination */
	uint64_t backward_bytes;
};

/* The nth accepted connection, false when there is none. */
bool lab_proxy_connection(struct lab_proxy *proxy, unsigned nth, struct lab_connection *connection);

/* ---- a pair ---- */

/*
 * What carries the stream. A file is written to its end before the destination begins to read.
 */
enum lab_way {
	LAB_WAY_TCP,
	LAB_WAY_UNIX,
	LAB_WAY_FD,   /* fd:, a pipe between the two */
	LAB_WAY_EXEC, /* exec:cat into a file, and out of it */
	LAB_WAY_FILE, /* file:, QEMU 8.2 or later */
	LAB_WAYS
};

struct lab_pair_options {
	const char *name; /* the destination's; the source is NAME-source. "destination", "source" */
	struct lab_vm_options vm; /* both sides; .name and .incoming are the pair's */
	/* Where the destination differs. */
	const char *destination_version;
	const char *destination_binary;
	const char *const *destination_launcher;
	const char *const *destination_args; /* instead of .vm.args */
	const char *const *destination_env;

	unsigned multifd;		 /* channels; 0: off */
	const char *const *capabilities; /* switched on, on both sides */
	const char *parameters;		 /* more members for migrate-set-parameters, both sides */
	uint64_t max_bandwidth;		 /* bytes/s; 0: unlimited */
	unsigned downtime_limit_ms;	 /* 2000: converges at once under TCG */
	enum lab_way way;		 /* others than TCP have no proxy */
	bool stay_on_error; /* migrate-incoming's exit-on-error off; QEMU 9.1 or later */
	bool proxy;			 /* a proxy between the two even without rules */
	const struct lab_rule *rules;	 /* copied */
	size_t n_rules;
};

struct lab_pair;

/*
 * Start both; the guest runs on the source, the destination waits for its stream with capabilities
 * and parameters set on both sides. Attach tracers and pollers now.
 */
struct lab_pair *lab_pair_new(const struct lab_pair_options *options, GError **error);
void lab_pair_free(struct lab_pair *pair);
struct lab_vm *lab_pair_source(struct lab_pair *pair);
struct lab_vm *lab_pair_destination(struct lab_pair *pair);
struct lab_proxy *lab_pair_proxy(struct lab_pair *pair); /* NULL without one */

/* Starts it; with a file, first waits until the source has written all of it. */
bool lab_pair_migrate(struct lab_pair *pair, GError **error);
bool lab_pair_start_postcopy(struct lab_pair *pair, GError **error);

struct lab_migration {
	char status[32];	     /* the source's last: "completed", "failed", "cancelled" */
	char destination_status[32]; /* "exited" when it is gone */
	int destination_exit;	     /* its exit code, -1 while it runs */
	int64_t total_time_ms, downtime_ms, setup_time_ms; /* the source's figures; 0 unknown */
	int64_t transferred_bytes;
	char *source_error;	 /* error-desc, or NULL */
	char *destination_error; /* error-desc, else the last line it printed, or NULL */
};

/*
 * Wait until it has ended on both sides, well or not: the destination runs or has exited. A failed
 * migration is a result, not an error. Polls the *source* only, so that a frozen destination is not
 * disturbed; asks the destination once the source has ended.
 */
bool lab_pair_wait(struct lab_pair *pair, unsigned timeout_ms, struct lab_migration *result,
		   GError **error);
void lab_migration_clear(struct lab_migration *result);
/*
 * How long the guest stood still: from the source's STOP to the destination's RESUME, which are taken
 * from their queues, or waited for.
 */
bool lab_pair_blackout(struct lab_pair *pair, unsigned timeout_ms, uint64_t *ns, GError **error);

/* ---- monitor latency ---- */

/*
 * A client of the VM's second QMP socket that sends query-status every 5 ms from a thread of its
 * own, whether or not the last answer has come (an answer that takes 3 s holds 600 requests up, and
 * each counts). A request still unanswered at the end counts with its age. Uses no QMP of the VM's
 * owner.
 */
struct lab_poller;

struct lab_latency {
	uint64_t n;
	uint64_t p50_ns, p90_ns, p99_ns, max_ns;
	uint64_t max_at_ns;   /* when the slowest was sent */
	uint64_t outstanding; /* of n, never answered */
};

struct lab_sample {
	uint64_t sent_ns;
	uint64_t latency_ns;
};

struct lab_poller *lab_poller_new(struct lab_vm *vm, GError **error);
/*
 * The same with commands of the caller's, in turn (NULL-terminated, not copied), one every
 * `interval_us`: for a flood. Errors in answers count as answers.
 */
struct lab_poller *lab_poller_new_with(struct lab_vm *vm, const char *const *commands,
				       unsigned interval_us, GError **error);
/* Stop; the results stay until it is freed. Idempotent. */
void lab_poller_stop(struct lab_poller *poller, struct lab_latency *latency);
/* The same, after asking no more, and waiting for what has not been answered yet. */
void lab_poller_finish(struct lab_poller *poller, unsigned timeout_ms, struct lab_latency *latency);
/* Every sample, in the order sent; after the stop. Owned by the poller. */
const struct lab_sample *lab_poller_samples(struct lab_poller *poller, size_t *n);
/* Only samples sent within [from, to): e.g. around a stall. After the stop. */
void lab_poller_window(struct lab_poller *poller, uint64_t from_ns, uint64_t to_ns,
		       struct lab_latency *latency);
void lab_poller_free(struct lab_poller *poller);
/* The arithmetic: sorts `samples` by latency. */
void lab_latency_of(struct lab_sample *samples, size_t n, struct lab_latency *latency);

/*
 * The idle control: a stopped QEMU of that version with nothing in it. A poller on it in the same
 * window measures what the machine's scheduler alone does to an answer.
 */
struct lab_vm *lab_vm_new_idle(const char *version, GError **error);

/*
 * For a promise of a time that a machine which stands still cannot keep: how long it did, from the
 * one call to the other. On the processor on which it did longest; 0 on most machines most of the
 * time, however busy they are.
 */
struct lab_stillness;
struct lab_stillness *lab_stillness_new(void);
uint64_t lab_stillness_end(struct lab_stillness *stillness); /* ns; frees it */

/*
 * In a g_test: when the error says that something cannot be had on this machine, skip the running
 * test with the error's sentence and return true.
 */
bool lab_skip(const GError *error);

/* For g_autoptr(lab_vm) and the like; elsewhere say `struct`. */
typedef struct lab_process lab_process;
typedef struct lab_vm lab_vm;
typedef struct lab_pair lab_pair;
typedef struct lab_proxy lab_proxy;
typedef struct lab_poller lab_poller;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(lab_process, lab_process_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(lab_vm, lab_vm_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(lab_pair, lab_pair_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(lab_proxy, lab_proxy_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(lab_poller, lab_poller_free)

#endif
