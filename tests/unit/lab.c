/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lab's parts that need no QEMU: the guest's image, the proxy's rules, the arithmetic of
 * latencies, processes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analyzers/lab/guest.h"
#include "analyzers/lab/internal.h"

#define PATIENCE_MS 20000
#define STALL_MS    1000

/* ---- the guest's image ---- */

static uint32_t image_u32(GBytes *image, unsigned offset)
{
	uint32_t value;

	memcpy(&value, (const char *)g_bytes_get_data(image, NULL) + offset, sizeof(value));
	return value;
}

static void guest_parameters(void)
{
	const struct lab_vm_options options = {.memory_mib = 256, .fill_mib = 200, .dirty_mib = 3};
	g_autoptr(GBytes) image = lab_guest_image(&options, NULL);
	const uint8_t *bytes = g_bytes_get_data(image, NULL);

	g_assert_cmpuint(image_u32(image, LAB_GUEST_FILL_PAGES), ==, 200 * 256);
	g_assert_cmpuint(image_u32(image, LAB_GUEST_DIRTY_PAGES), ==, 3 * 256);
	g_assert_cmpuint(image_u32(image, LAB_GUEST_DIVISOR) & 0xffff, ==, 11931);
	g_assert_cmphex(bytes[510], ==, 0x55);
	g_assert_cmphex(bytes[511], ==, 0xaa);
}

static void guest_flat_out(void)
{
	g_autoptr(GBytes) image =
		lab_guest_image(&(struct lab_vm_options){.flat_out = true, .dirty_mib = 9}, NULL);

	g_assert_cmpuint(image_u32(image, LAB_GUEST_DIVISOR) & 0xffff, ==, 0);
	/* What is dirtied is filled first, or the guest would take untouched pages for lost ones.
	 */
	g_assert_cmpuint(image_u32(image, LAB_GUEST_FILL_PAGES), ==, 9 * 256);
}

static void guest_too_big(void)
{
	g_autoptr(GError) error = NULL;

	g_assert_null(lab_guest_image(&(struct lab_vm_options){.memory_mib = 64, .fill_mib = 63},
				      &error));
	g_assert_error(error, LAB_ERROR, LAB_ERROR_IO);
}

/* ---- latencies ---- */

static void latency_ranks(void)
{
	struct lab_sample samples[1000];
	struct lab_latency latency;

	for (unsigned i = 0; i < 1000; i++)
		samples[i] = (struct lab_sample){.sent_ns = i, .latency_ns = (i * 7 % 1000) + 1};
	lab_latency_of(samples, 1000, &latency);
	g_assert_cmpuint(latency.n, ==, 1000);
	g_assert_cmpuint(latency.p50_ns, ==, 500);
	g_assert_cmpuint(latency.p90_ns, ==, 900);
	g_assert_cmpuint(latency.p99_ns, ==, 990);
	g_assert_cmpuint(latency.max_ns, ==, 1000);
	g_assert_cmpuint(latency.max_at_ns * 7 % 1000, ==, 999);
}

static void latency_few(void)
{
	struct lab_sample one = {.sent_ns = 5, .latency_ns = 7};
	struct lab_latency latency;

	lab_latency_of(&one, 1, &latency);
	g_assert_cmpuint(latency.p50_ns, ==, 7);
	g_assert_cmpuint(latency.p99_ns, ==, 7);
	lab_latency_of(NULL, 0, &latency);
	g_assert_cmpuint(latency.n, ==, 0);
	g_assert_cmpuint(latency.max_ns, ==, 0);
}

/* ---- the proxy ---- */

/* A server, a proxy in front of it, and what has been sent through. */
struct wire {
	int listener;
	struct lab_proxy *proxy;
};

static void wire_up(struct wire *w, const struct lab_rule *rules, size_t n_rules)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	g_autoptr(GError) error = NULL;
	g_autofree char *target = NULL;

	w->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(bind(w->listener, (struct sockaddr *)&address, len), ==, 0);
	g_assert_cmpint(listen(w->listener, 8), ==, 0);
	g_assert_cmpint(getsockname(w->listener, (struct sockaddr *)&address, &len), ==, 0);
	target = g_strdup_printf("tcp:127.0.0.1:%u", ntohs(address.sin_port));
	w->proxy = lab_proxy_new(target, rules, n_rules, &error);
	g_assert_no_error(error);
}

static void wire_down(struct wire *w)
{
	lab_proxy_free(w->proxy);
	close(w->listener);
}

static int dial(struct wire *w)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_port = htons(atoi(strrchr(lab_proxy_uri(w->proxy), ':') + 1));
	g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
	return fd;
}

static int answer(struct wire *w)
{
	struct pollfd wait = {.fd = w->listener, .events = POLLIN};

	g_assert_cmpint(poll(&wait, 1, PATIENCE_MS), ==, 1);
	return accept4(w->listener, NULL, NULL, SOCK_CLOEXEC);
}

static void say(int fd, const void *data, size_t len)
{
	g_assert_cmpint(send(fd, data, len, MSG_NOSIGNAL), ==, len);
}

/* How many bytes come within the time, up to `len`. */
static size_t hear(int fd, void *data, size_t len, unsigned ms)
{
	uint64_t deadline = deadline_in(ms);
	size_t got = 0;

	while (got < len) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&wait, 1, deadline_left_ms(deadline)) <= 0)
			break;
		n = recv(fd, (char *)data + got, len - got, MSG_DONTWAIT);
		if (n <= 0)
			break;
		got += n;
	}
	return got;
}

/* What recv() says once something happens: 0 an orderly end, or -errno. */
static int ending(int fd)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	char byte;
	ssize_t n;

	g_assert_cmpint(poll(&wait, 1, PATIENCE_MS), ==, 1);
	n = recv(fd, &byte, 1, MSG_DONTWAIT);
	return n < 0 ? -errno : (int)n;
}

static void proxy_passes(void)
{
	struct wire w;
	struct lab_connection seen;
	size_t size = 8 << 20, sent = 0, got = 0;
	g_autofree uint8_t *out = g_malloc(size), *in = g_malloc(size);
	int client, server;

	for (size_t i = 0; i < size; i++)
		out[i] = i * 2654435761u >> 13;
	wire_up(&w, NULL, 0);
	client = dial(&w);
	server = answer(&w);
	while (got < size) {
		ssize_t n = send(client, out + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		sent += n > 0 ? n : 0;
		if (sent == size)
			shutdown(client, SHUT_WR);
		n = hear(server, in + got, MIN(size - got, 65536), 1000);
		g_assert_cmpint(n, >, 0);
		got += n;
	}
	g_assert_cmpmem(out, size, in, size);
	/* A half-closed connection still carries the other way. */
	g_assert_cmpint(ending(server), ==, 0);
	say(server, "back", 4);
	g_assert_cmpuint(hear(client, in, 4, PATIENCE_MS), ==, 4);
	g_assert_true(lab_proxy_connection(w.proxy, 0, &seen));
	g_assert_cmpuint(seen.forward_bytes, ==, size);
	g_assert_cmpuint(seen.backward_bytes, ==, 4);
	g_assert_cmpint(seen.channel, ==, LAB_CHANNEL_ACCEPTED);
	g_assert_false(lab_proxy_connection(w.proxy, 1, &seen));
	close(client);
	close(server);
	wire_down(&w);
}

static void proxy_stalls_at_offset(void)
{
	const struct lab_rule rule = {
		.offset_bytes = 100, .fault = LAB_FAULT_STALL, .stall_ms = STALL_MS};
	struct wire w;
	char out[1000], in[1000];
	uint64_t fired, over;
	int client, server;

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = i;
	wire_up(&w, &rule, 1);
	client = dial(&w);
	server = answer(&w);
	g_assert_cmpuint(lab_proxy_fired_ns(w.proxy, 0), ==, 0);
	say(client, out, sizeof(out));
	g_assert_true(lab_proxy_wait_fired(w.proxy, 0, PATIENCE_MS, NULL));
	/* The other way stalls too: a network has no direction. */
	say(server, "back", 4);
	g_assert_cmpuint(hear(server, in, sizeof(in), 100), ==, 100);
	g_assert_cmpuint(hear(client, in + 100, 4, 0), ==, 0);
	g_assert_cmpuint(hear(server, in + 100, 900, PATIENCE_MS), ==, 900);
	over = lab_now_ns();
	fired = lab_proxy_fired_ns(w.proxy, 0);
	g_assert_cmpuint(over - fired, >=, STALL_MS * 1000000ULL);
	g_assert_cmpmem(out, sizeof(out), in, sizeof(in));
	g_assert_cmpuint(hear(client, in, 4, PATIENCE_MS), ==, 4);
	close(client);
	close(server);
	wire_down(&w);
}

/* A hoarding stall takes in more than any socket buffer holds, and gives it all back after. */
static void proxy_hoards(void)
{
	const struct lab_rule rule = {
		.offset_bytes = 100, .hoard = true, .fault = LAB_FAULT_HALF_OPEN};
	const size_t size = 48 << 20;
	g_autofree uint8_t *out = g_malloc(size), *in = g_malloc(size);
	uint64_t deadline = deadline_in(PATIENCE_MS);
	struct wire w;
	size_t sent = 0;
	int client, server;

	for (size_t i = 0; i < size; i++)
		out[i] = i * 2654435761u >> 13;
	wire_up(&w, &rule, 1);
	client = dial(&w);
	server = answer(&w);
	while (sent < size) {
		struct pollfd wait = {.fd = client, .events = POLLOUT};
		ssize_t n;

		g_assert_cmpint(poll(&wait, 1, deadline_left_ms(deadline)), ==, 1);
		n = send(client, out + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += n > 0 ? n : 0;
	}
	g_assert_cmpuint(hear(server, in, size, 50), ==, 100);
	lab_proxy_release(w.proxy, 0);
	g_assert_cmpuint(hear(server, in + 100, size - 100, PATIENCE_MS), ==, size - 100);
	g_assert_cmpmem(out, size, in, size);
	close(client);
	close(server);
	wire_down(&w);
}

static void proxy_finds_section(void)
{
	const struct lab_rule rule = {
		.section = "pci/net", .offset_bytes = 2, .fault = LAB_FAULT_HALF_OPEN};
	/* First a longer name that begins with the section's, as a RAM block's does. */
	static const char out[] = "QEVM....\013pci/net.rom--\007pci/netABCD";
	const size_t cut = sizeof(out) - 1 - 8, until = sizeof(out) - 1 - 2;
	struct wire w;
	struct lab_connection seen;
	char in[64];
	int client, server;

	wire_up(&w, &rule, 1);
	client = dial(&w);
	server = answer(&w);
	/* The name comes in two pieces. */
	say(client, out, cut);
	g_assert_cmpuint(hear(server, in, cut, PATIENCE_MS), ==, cut);
	g_assert_cmpuint(lab_proxy_fired_ns(w.proxy, 0), ==, 0);
	say(client, out + cut, sizeof(out) - 1 - cut);
	g_assert_true(lab_proxy_wait_fired(w.proxy, 0, PATIENCE_MS, NULL));
	g_assert_cmpuint(hear(server, in + cut, sizeof(in) - cut, 50), ==, until - cut);
	g_assert_true(lab_proxy_connection(w.proxy, 0, &seen));
	g_assert_cmpuint(seen.forward_bytes, ==, until);
	g_assert_cmpint(seen.channel, ==, LAB_CHANNEL_MAIN);
	lab_proxy_release(w.proxy, 0);
	g_assert_cmpuint(hear(server, in + until, 2, PATIENCE_MS), ==, 2);
	g_assert_cmpmem(in, sizeof(out) - 1, out, sizeof(out) - 1);
	close(client);
	close(server);
	wire_down(&w);
}

static void proxy_rules_in_turn(void)
{
	const struct lab_rule rules[] = {
		{.pattern = "one", .fault = LAB_FAULT_STALL, .stall_ms = 50},
		{.pattern = "two", .fault = LAB_FAULT_STALL, .stall_ms = 50},
		{.pattern = "two", .offset_bytes = 1, .fault = LAB_FAULT_FIN},
	};
	struct wire w;
	char in[64];
	int client, server;

	wire_up(&w, rules, G_N_ELEMENTS(rules));
	client = dial(&w);
	server = answer(&w);
	/* All at once: later rules must be looked for in what had been read before. */
	say(client, "two-one-two-two!!", 17);
	g_assert_cmpuint(hear(server, in, sizeof(in), PATIENCE_MS), ==, 16);
	g_assert_cmpint(ending(server), ==, 0);
	g_assert_cmpint(ending(client), ==, 0);
	g_assert_cmpuint(lab_proxy_fired_ns(w.proxy, 0), <, lab_proxy_fired_ns(w.proxy, 1));
	g_assert_cmpuint(lab_proxy_fired_ns(w.proxy, 1), <, lab_proxy_fired_ns(w.proxy, 2));
	close(client);
	close(server);
	wire_down(&w);
}

static void multifd_hello(uint8_t *hello, uint8_t id)
{
	static const uint8_t magic[] = {0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1};

	memset(hello, 0, 64);
	memcpy(hello, magic, sizeof(magic));
	hello[24] = id;
}

static void proxy_tells_channels_apart(void)
{
	const struct lab_rule rules[] = {
		{.channel = LAB_CHANNEL_MULTIFD,
		 .nth = 0,
		 .offset_bytes = 64,
		 .fault = LAB_FAULT_HALF_OPEN},
		{.channel = LAB_CHANNEL_MAIN, .offset_bytes = 10, .fault = LAB_FAULT_HALF_OPEN},
	};
	/* Order of acceptance, by multifd id; 2: the main channel. */
	static const uint8_t order[] = {1, 2, 0};
	static const size_t passes[] = {80, 10, 64};
	struct wire w;
	int client[3], server[3];

	wire_up(&w, rules, 2);
	for (unsigned i = 0; i < 3; i++) {
		uint8_t out[80] = "QEVM", in[80];
		struct lab_connection seen;

		client[i] = dial(&w);
		server[i] = answer(&w);
		if (order[i] < 2)
			multifd_hello(out, order[i]);
		/* Byte by byte at first: it is told by what has come so far. */
		for (unsigned k = 0; k < 30; k++)
			say(client[i], out + k, 1);
		say(client[i], out + 30, 50);
		g_assert_cmpuint(hear(server[i], in, passes[i], PATIENCE_MS), ==, passes[i]);
		g_assert_cmpuint(hear(server[i], in + passes[i], sizeof(in) - passes[i], 100), ==,
				 0);
		g_assert_cmpmem(out, passes[i], in, passes[i]);
		g_assert_true(lab_proxy_connection(w.proxy, i, &seen));
		g_assert_cmpint(seen.channel, ==,
				order[i] < 2 ? LAB_CHANNEL_MULTIFD : LAB_CHANNEL_MAIN);
		g_assert_cmpuint(seen.multifd_id, ==, order[i] < 2 ? order[i] : 0);
	}
	g_assert_cmpuint(lab_proxy_fired_ns(w.proxy, 0), >, lab_proxy_fired_ns(w.proxy, 1));
	for (unsigned i = 0; i < 3; i++) {
		close(client[i]);
		close(server[i]);
	}
	wire_down(&w);
}

static void proxy_resets(void)
{
	const struct lab_rule rule = {.nth = 1, .offset_bytes = 5, .fault = LAB_FAULT_RESET};
	struct wire w;
	char in[64];
	int client[2], server[2];

	wire_up(&w, &rule, 1);
	for (unsigned i = 0; i < 2; i++) {
		client[i] = dial(&w);
		server[i] = answer(&w);
		say(client[i], "0123456789", 10);
	}
	g_assert_cmpuint(hear(server[0], in, 10, PATIENCE_MS), ==, 10);
	g_assert_true(lab_proxy_wait_fired(w.proxy, 0, PATIENCE_MS, NULL));
	g_assert_cmpint(ending(client[1]), ==, -ECONNRESET);
	say(client[0], "more", 4);
	g_assert_cmpuint(hear(server[0], in, 4, PATIENCE_MS), ==, 4);
	for (unsigned i = 0; i < 2; i++) {
		close(client[i]);
		close(server[i]);
	}
	wire_down(&w);
}

static void proxy_slows(void)
{
	const struct lab_rule rule = {
		.offset_bytes = 1000, .fault = LAB_FAULT_SLOW, .bytes_per_second = 100000};
	struct wire w;
	char data[21000] = {0};
	uint64_t begin;
	int client, server;

	wire_up(&w, &rule, 1);
	client = dial(&w);
	server = answer(&w);
	begin = lab_now_ns();
	say(client, data, sizeof(data));
	g_assert_cmpuint(hear(server, data, sizeof(data), PATIENCE_MS), ==, sizeof(data));
	/* 20,000 bytes at 100,000 a second. */
	g_assert_cmpuint(lab_now_ns() - begin, >=, 195000000);
	close(client);
	close(server);
	wire_down(&w);
}

static uint64_t settling_ns(struct wire *w)
{
	uint64_t begin = lab_now_ns();

	lab_proxy_settle(w->proxy);
	return lab_now_ns() - begin;
}

/* Waits for a reader that has not read yet, until it takes it for frozen. */
static void proxy_settles(void)
{
	const struct lab_rule rule = {.offset_bytes = 100, .fault = LAB_FAULT_HALF_OPEN};
	uint64_t frozen, soon = UINT64_MAX;
	char data[1000] = {0};
	struct wire w;
	int client, server;

	wire_up(&w, &rule, 1);
	client = dial(&w);
	server = answer(&w);
	say(client, data, sizeof(data));
	g_assert_true(lab_proxy_wait_fired(w.proxy, 0, PATIENCE_MS, NULL));
	frozen = settling_ns(&w);
	g_assert_cmpuint(hear(server, data, 100, PATIENCE_MS), ==, 100);
	/* One of them on a machine that does not stand still. */
	for (int i = 0; i < 5; i++)
		soon = MIN(soon, settling_ns(&w));
	g_assert_cmpuint(frozen, >=, 400000000);
	g_assert_cmpuint(soon, <, 400000000);
	close(client);
	close(server);
	wire_down(&w);
}

static void proxy_refuses(void)
{
	g_autofree char *long_name = g_strnfill(256, 'x');
	const struct lab_rule rule = {.section = long_name};
	g_autoptr(GError) error = NULL;

	g_assert_null(lab_proxy_new("tcp:127.0.0.1:1", &rule, 1, &error));
	g_assert_error(error, LAB_ERROR, LAB_ERROR_IO);
	g_clear_error(&error);
	g_assert_null(lab_proxy_new("nowhere", NULL, 0, &error));
	g_assert_error(error, LAB_ERROR, LAB_ERROR_IO);
}

/* ---- processes ---- */

static void process_speaks(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_process) p = NULL;
	g_autofree char *says = NULL;
	int status;

	p = lab_process_new((const char *[]){"sh", "-c",
					     "read word; echo \"$word $WHO\"; echo no >&2; exit 7",
					     NULL},
			    (const char *[]){"WHO=there", NULL}, &error);
	g_assert_no_error(error);
	g_assert_true(lab_process_running(p));
	g_assert_true(lab_process_write(p, "hello\n", &error));
	g_assert_true(lab_process_expect(p, "hello there", PATIENCE_MS, &error));
	g_assert_true(lab_process_wait(p, PATIENCE_MS, &status, &error));
	g_assert_cmpint(status, ==, 7);
	says = lab_process_stderr(p);
	g_assert_cmpstr(says, ==, "no\n");
	g_assert_false(lab_process_expect(p, "never", PATIENCE_MS, &error));
	g_assert_error(error, LAB_ERROR, LAB_ERROR_EXITED);
}

static void process_group_dies(void)
{
	g_autofree char *says = NULL;
	struct lab_process *p;
	int grandchild;

	p = lab_process_new((const char *[]){"sh", "-c", "sleep 100 & echo $!; wait", NULL}, NULL,
			    NULL);
	g_assert_nonnull(p);
	g_assert_true(lab_process_expect(p, "\n", PATIENCE_MS, NULL));
	says = lab_process_stdout(p);
	grandchild = atoi(says);
	g_assert_cmpint(kill(grandchild, 0), ==, 0);
	g_assert_false(lab_process_wait(p, 10, NULL, NULL));
	lab_process_free(p);
	for (unsigned i = 0; i < 1000; i++) {
		g_autofree char *path = g_strdup_printf("/proc/%d/stat", grandchild);
		g_autofree char *stat = NULL;

		/* Who reaps it is the system's business: a zombie is dead. */
		if (!g_file_get_contents(path, &stat, NULL, NULL) || strstr(stat, ") Z "))
			return;
		g_usleep(10000);
	}
	g_assert_not_reached();
}

static void process_missing(void)
{
	g_autoptr(GError) error = NULL;

	g_assert_null(lab_process_new((const char *[]){"/nowhere/at/all", NULL}, NULL, &error));
	g_assert_error(error, LAB_ERROR, LAB_ERROR_IO);
	g_assert_nonnull(strstr(error->message, "No such file"));
}

/* As if the machine stood still: this process alone does. */
static void stillness_tells(void)
{
	struct lab_stillness *stillness = lab_stillness_new();
	pid_t child;

	g_usleep(20000);
	child = fork();
	if (!child) {
		kill(getppid(), SIGSTOP);
		usleep(300000);
		kill(getppid(), SIGCONT);
		_exit(0);
	}
	g_assert_cmpint(waitpid(child, NULL, 0), ==, child);
	g_assert_cmpuint(lab_stillness_end(stillness), >=, 200000000);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/lab/guest/parameters", guest_parameters);
	g_test_add_func("/lab/guest/flat-out", guest_flat_out);
	g_test_add_func("/lab/guest/too-big", guest_too_big);
	g_test_add_func("/lab/latency/ranks", latency_ranks);
	g_test_add_func("/lab/latency/few", latency_few);
	g_test_add_func("/lab/proxy/passes", proxy_passes);
	g_test_add_func("/lab/proxy/stalls-at-offset", proxy_stalls_at_offset);
	g_test_add_func("/lab/proxy/hoards", proxy_hoards);
	g_test_add_func("/lab/proxy/finds-section", proxy_finds_section);
	g_test_add_func("/lab/proxy/rules-in-turn", proxy_rules_in_turn);
	g_test_add_func("/lab/proxy/tells-channels-apart", proxy_tells_channels_apart);
	g_test_add_func("/lab/proxy/resets", proxy_resets);
	g_test_add_func("/lab/proxy/slows", proxy_slows);
	g_test_add_func("/lab/proxy/settles", proxy_settles);
	g_test_add_func("/lab/proxy/refuses", proxy_refuses);
	g_test_add_func("/lab/stillness", stillness_tells);
	g_test_add_func("/lab/process/speaks", process_speaks);
	g_test_add_func("/lab/process/group-dies", process_group_dies);
	g_test_add_func("/lab/process/missing", process_missing);
	return g_test_run();
}
