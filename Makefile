# SPDX-License-Identifier: GPL-2.0-or-later
#
# The only build entry. `make help` lists what it does.
#
#   make SAN=address|undefined|thread   builds into build/SAN/ with that sanitizer
#   make CC=clang                       gcc and clang are both kept warning-free
#
# A room's sources are whatever *.c lies in its folder: adding a file needs no edit here.

prefix     ?= /usr/local
bindir     ?= $(prefix)/bin
libdir     ?= $(prefix)/lib/bqlstat
mandir     ?= $(prefix)/share/man
compdir    ?= $(prefix)/share/bash-completion/completions
zcompdir   ?= $(prefix)/share/zsh/site-functions
schemadir  ?= $(prefix)/share/bqlstat/schema
unitdir    ?= $(prefix)/lib/systemd/system
sharedir   ?= $(prefix)/share/bqlstat

BUILD      := build
O          := $(BUILD)$(if $(SAN),/$(SAN))
VERSION    := 0.1

PACKAGES   := gcc make pkg-config clang llvm bpftool libbpf-dev libelf-dev libzydis-dev \
	      libglib2.0-dev libjson-glib-dev libsqlite3-dev zlib1g-dev \
	      libdw-dev libncurses-dev libmicrohttpd-dev libbabeltrace2-dev liblttng-ust-dev \
	      qemu-system-x86 seabios ipxe-qemu scdoc
# What `make check` starts a QEMU from, and what lttng-tools needs. They start no service.
LIBVIRT    := libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients
TEST_PACKAGES := $(LIBVIRT) chromium \
	      libpopt0 libxml2 libkmod2 libclang-rt-14-dev python3-jsonschema python3-prometheus-client
# What `make bench` compares with.
BENCH_PACKAGES := babeltrace2 bpftrace linux-perf libpopt0 libxml2 libkmod2

# `make clean deps` and friends must work before the packages are there: no pkg-config, no flags.
pkgcfg      = $(shell pkg-config $(1) 2>/dev/null)
PKGS       := glib-2.0 json-glib-1.0 sqlite3 libdw ncursesw libmicrohttpd babeltrace2
PKG_CFLAGS := $(call pkgcfg,--cflags $(PKGS))
PKG_LIBS   := -Wl,--as-needed $(call pkgcfg,--libs $(PKGS))

# make itself defines CC as cc.
ifeq ($(origin CC),default)
CC         := gcc
endif
CLANG      ?= clang
BPFTOOL    ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/bin/bpftool) bpftool)
WARN       := -Wall -Wextra -Werror -Wmissing-prototypes -Wvla
CFLAGS     ?= -O2 -g
ALL_CFLAGS := -std=gnu17 -D_GNU_SOURCE -DBQLSTAT_VERSION='"$(VERSION)"' -I. -I$(O) $(WARN) \
	      $(CFLAGS) $(PKG_CFLAGS) $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
ALL_LDFLAGS := $(LDFLAGS) $(if $(SAN),-fsanitize=$(SAN))
BPF_CFLAGS := -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Wno-unused-parameter -Werror \
	      -D__TARGET_ARCH_x86 -I. -I/usr/include/$(shell gcc -print-multiarch 2>/dev/null)

objects     = $(patsubst %,$(O)/%.o,$(basename $(1)))

SEAMS      := $(call objects,$(wildcard runtime/seams/*.c))
TRACE      := $(call objects,$(wildcard runtime/trace/*.c))
DETOUR     := $(call objects,$(wildcard runtime/detour/*.c runtime/detour/*.S))
THREAD     := $(call objects,$(wildcard runtime/thread/*.c))
BPF        := $(patsubst %.bpf.c,$(O)/%.skel.h,$(wildcard probes/*.bpf.c))
PROBES     := $(call objects,$(filter-out %.bpf.c,$(wildcard probes/*.c)))
ANALYZERS  := $(call objects,$(filter-out analyzers/lab/%,$(wildcard analyzers/*.c \
	      analyzers/*/*.c analyzers/*/*.S)))
LAB_MAINS  := analyzers/lab/demo.c analyzers/lab/demo-dashboard.c
LAB        := $(call objects,$(filter-out $(LAB_MAINS),$(wildcard analyzers/lab/*.c \
	      analyzers/lab/*.S)))
DANCE      := $(call objects,$(wildcard analyzers/lab/dance/*.c))
DANCES     := $(O)/lockdance $(O)/lockdance-7.2 $(O)/lockdance-11.1
HOST       := $(call objects,$(wildcard tests/host/*.c))
UNIT       := $(patsubst %.c,$(O)/%,$(wildcard tests/unit/*.c))
SCENARIOS  := $(patsubst %.c,$(O)/%,$(filter-out %.bpf.c,$(wildcard tests/scenarios/*.c)))
BENCH      := $(patsubst %.c,$(O)/%,$(filter-out %.bpf.c tests/bench/subject.c, \
	      $(wildcard tests/bench/*.c)))

FUZZ       := $(patsubst %.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/*.c))

MAN        := $(patsubst %.scd,$(O)/%,$(wildcard docs/man/*.scd))

PROGRAMS   := $(O)/loadvm $(O)/libloadvm.so $(O)/libloadvm-core.so $(O)/libloadvm-lttng.so $(O)/bqlstat $(DANCES) $(O)/demo \
	      $(O)/demo-dashboard

.PHONY: help deps all build demo demo-dashboard check vmcheck vmcheck-lsm fuzz fuzzers bench reports soak install clean tests man
.DELETE_ON_ERROR:
.SECONDARY:

all: $(PROGRAMS)

help:
	@echo 'make demo      install what is missing, build, show the table: stock against io-free'
	@echo 'make demo-dashboard  the dashboards, drawn in a browser while VMs arrive (wants npm)'
	@echo 'make check     install what is missing, build, run every test'
	@echo 'make           build only'
	@echo 'make deps      install the Debian packages (as root; prints the command otherwise)'
	@echo 'make soak      200 QEMUs and 200 recordings that come and go, every combination of the arrival tests, then N=500 random migrations a'
	@echo '               version, SEED=1 (about half an hour)'
	@echo 'make vmcheck   the tests that depend on the kernel, under Linux 5.10, 6.1, 6.12 and 7.2,'
	@echo '               and make vmcheck-lsm: loadvm confined by AppArmor and by SELinux'
	@echo 'make fuzz      libFuzzer on the readers of files and the mover of code, TIME=60 s each'
	@echo 'make bench     measure the probes and the runtime on this machine'
	@echo 'make reports   draw the pages of docs/reports from the runs that ship beside them'
	@echo 'make install   into $$(DESTDIR)$$(prefix), default /usr/local'
	@echo 'options        SAN=address|undefined|thread  CC=clang  CFLAGS=...  V=1  TESTS="seams store"'

deps:
	@missing=; for p in $(PACKAGES); do \
		dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || \
			missing="$$missing $$p"; done; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" -ne 0 ]; then \
		echo "Packages are missing. Run this as root, then again what you ran:"; \
		echo "  apt-get update && apt-get install -y --no-install-recommends$$missing"; exit 1; fi; \
	echo "installing:$$missing"; \
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
		apt-get -qq install -y --no-install-recommends $$missing >/dev/null

demo: deps
	+@$(MAKE) --no-print-directory all
	@$(O)/demo

# The page that draws the dashboards needs a charting library, from npm; nothing else does.
PAGE       := $(O)/dashboards
demo-dashboard: deps
	@command -v npm >/dev/null || { echo "npm is needed: apt-get install -y npm"; exit 3; }
	+@$(MAKE) --no-print-directory all
	@mkdir -p $(PAGE)/boards
	@cp dashboards/render/* $(PAGE) && cp dashboards/*.json $(PAGE)/boards
	@cd $(PAGE) && npm install --silent --no-audit --no-fund --no-package-lock && \
		cp node_modules/uplot/dist/uPlot.iife.min.js node_modules/uplot/dist/uPlot.min.css .
	@$(O)/demo-dashboard $(PAGE) $(ARGS)

check: PACKAGES += $(TEST_PACKAGES)
check: deps
	+@$(MAKE) --no-print-directory all tests fuzzers
	@O=$(O) tests/run $(UNIT) $(SCENARIOS)

bench: PACKAGES += $(BENCH_PACKAGES)
bench: deps
	+@$(MAKE) --no-print-directory all $(O)/tests/bench/subject $(BENCH)
	@set -e; for b in $(BENCH); do O=$(O) $$b; done

# QEMU-scenario-policy.html, compared with stock, from QEMU-scenario.bql.xz.
PAGES      := $(wildcard docs/reports/*.html)
reports: $(PAGES)
.PHONY: $(PAGES)
$(PAGES): docs/reports/%.html: $(O)/bqlstat
	@mkdir -p $(O)/reports
	@set -e; name=$*; policy=$${name##*-stall-}; runs=$${name%-$$policy}.bql; \
	cd $(O)/reports; xz -dc $(CURDIR)/docs/reports/$$runs.xz >$$runs; \
	$(abspath $(O))/bqlstat diff $$runs --a stock --b $$policy --html $(CURDIR)/$@ >/dev/null

N          ?= 500
SEED       ?= 1
soak: deps
	+@$(MAKE) --no-print-directory all $(filter %/arrival %/arrival-ends %/arrival-changes \
		%/scenarios/export-many %/scenarios/cycles,$(SCENARIOS)) $(O)/tests/soak/soak
	@O=$(O) EXPORT_CYCLES=200 tests/run $(filter %/scenarios/export-many,$(SCENARIOS))
	@O=$(O) CYCLES=200 KILLS=20 TEST_TIMEOUT=3600 tests/run $(filter %/scenarios/cycles,$(SCENARIOS))
	@O=$(O) ARRIVAL=all TEST_TIMEOUT=3600 tests/run \
		$(filter %/arrival %/arrival-ends %/arrival-changes,$(SCENARIOS))
	@O=$(O) $(O)/tests/soak/soak $(N) $(SEED)

# The same tests under each kernel that `build/vm --list` names. VM_KERNELS="6.1" for one.
VM_KERNELS ?= 5.10 6.1 6.12 7.2
vmcheck: PACKAGES += xz-utils zstd
vmcheck: deps
	+@$(MAKE) --no-print-directory all $(O)/vm $(O)/vm-init $(O)/tests/vm/kernel
	@failed=0; for k in $(VM_KERNELS); do \
		echo "## Linux $$k"; \
		$(O)/vm -k $$k -- true; \
		case $$? in \
		0) O=$(O) $(O)/vm -k $$k -t 900 -- tests/run $(O)/tests/vm/kernel || failed=1;; \
		3) echo "SKIP Linux $$k: it cannot be had here";; \
		*) failed=1;; esac; done; \
	$(MAKE) --no-print-directory vmcheck-lsm || failed=1; exit $$failed

# loadvm in a QEMU that a security module confines. What the modules need is unpacked, not installed:
# only the VM is to be confined.
vmcheck-lsm: PACKAGES += xz-utils zstd $(LIBVIRT)
vmcheck-lsm: deps
	+@$(MAKE) --no-print-directory all $(O)/vm $(O)/vm-init $(O)/tests/vm/apparmor \
		$(O)/tests/vm/selinux
	@failed=0; \
	under() { \
		module=$$1 words=$$2; shift 2; \
		echo "## $$module"; \
		tests/vm/fetch-packages.sh bookworm $(BUILD)/$$module "$$@" && \
			$(O)/vm -k 6.1 -- true; \
		case $$? in \
		0) O=$(O) TEST_TIMEOUT=1100 $(O)/vm -k 6.1 -a "$$words" -t 1200 -- \
			tests/run $(O)/tests/vm/$$module || failed=1;; \
		3) echo "SKIP $$module: its packages or Linux 6.1 cannot be had here";; \
		*) failed=1;; esac; \
	}; \
	under apparmor 'security=apparmor' apparmor libvirt-daemon-system; \
	under selinux 'security=selinux selinux=1' checkpolicy; \
	exit $$failed

TIME       ?= 60
fuzz: PACKAGES += $(TEST_PACKAGES)
fuzz: deps
	+@$(MAKE) --no-print-directory all fuzzers
	@for f in $(FUZZ); do echo "# $$f"; mkdir -p $$f.found; \
		$$f -max_total_time=$(TIME) -timeout=20 -max_len=512 -len_control=0 -rss_limit_mb=4096 -print_final_stats=1 \
			-artifact_prefix=$$f.found/ 2>$$f.log || { cat $$f.log; exit 1; }; \
		grep -E 'number_of_executed|cov:' $$f.log | tail -n 2; done

# libFuzzer is clang's. Without its runtime there are no fuzzers, and their test says so.
fuzzers:
	+@if echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | \
		$(CLANG) -x c - -fsanitize=fuzzer -o /dev/null 2>/dev/null; then \
		$(MAKE) --no-print-directory O=$(BUILD)/fuzz SAN= CC=$(CLANG) \
			CFLAGS='-O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all' \
			$(FUZZ); fi

tests: $(UNIT) $(SCENARIOS)

man: $(MAN)

install: all man
	install -d $(DESTDIR)$(bindir) $(DESTDIR)$(libdir) $(DESTDIR)$(mandir)/man1 \
		$(DESTDIR)$(compdir) $(DESTDIR)$(zcompdir) $(DESTDIR)$(sharedir)/scenarios
	install -m 755 $(O)/bqlstat $(O)/loadvm docs/examples/qemu-system-x86_64-loadvm \
		$(DESTDIR)$(bindir)
	install -m 755 $(O)/libloadvm.so $(O)/libloadvm-core.so $(O)/libloadvm-lttng.so \
		$(DESTDIR)$(libdir)
	install -m 644 $(MAN) $(DESTDIR)$(mandir)/man1
	install -m 644 analyzers/lab/scenarios/*.ini $(DESTDIR)$(sharedir)/scenarios
	install -d $(DESTDIR)$(unitdir)
	install -m 644 docs/bqlstat-export.service $(DESTDIR)$(unitdir)
	sed -i 's,/usr/local/bin,$(bindir),' $(DESTDIR)$(unitdir)/bqlstat-export.service
	install -m 644 docs/completion/bqlstat.bash $(DESTDIR)$(compdir)/bqlstat
	ln -sf bqlstat $(DESTDIR)$(compdir)/loadvm
	install -m 644 docs/completion/_bqlstat $(DESTDIR)$(zcompdir)
	install -d $(DESTDIR)$(schemadir)
	install -m 644 docs/schema/*.json $(DESTDIR)$(schemadir)

clean:
	rm -rf $(filter-out $(BUILD)/qemu,$(wildcard $(BUILD)/*))

# One short line a command; V=1 shows it whole.
say         = $(if $(V),,@printf '  %-7s %s\n' $(1) $@;)

# --- compiling -------------------------------------------------------------------------------------

$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(ALL_CFLAGS) -fPIC -MMD -MP -c -o $@ $<

$(O)/%.o: %.S
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(ALL_CFLAGS) -fPIC -MMD -MP -c -o $@ $<

$(O)/%.bpf.o: %.bpf.c
	@mkdir -p $(@D)
	$(call say,BPF)$(CLANG) $(BPF_CFLAGS) -MMD -MP -c -o $@ $<

$(O)/docs/man/%: docs/man/%.scd
	@mkdir -p $(@D)
	$(call say,MAN)scdoc < $< > $@

# libbpf 1.1's generated header is not -Wextra clean for strict prototypes; it is included as a system header.
$(O)/%.skel.h: $(O)/%.bpf.o
	$(call say,SKEL)$(BPFTOOL) gen skeleton $< name $(notdir $*)_bpf > $@

$(PROBES) $(ANALYZERS): | $(BPF)

# The inside of QEMU: nothing of it may be found by, or collide with, QEMU's own symbols.
$(SEAMS) $(DETOUR) $(THREAD) $(TRACE): ALL_CFLAGS += -fvisibility=hidden

# Linux 6.18 turns its probe sites into calls, which push: no red zone for them to push into.
$(O)/runtime/trace/sites.o: ALL_CFLAGS += -mno-red-zone

$(O)/lib%.a:
	@rm -f $@
	$(call say,AR)ar rcs $@ $^

$(O)/libseams.a: $(SEAMS)
$(O)/libdetour.a: $(DETOUR)
$(O)/libprobes.a: $(PROBES)
$(O)/liblab.a: $(LAB)
# What bqlstat is made of, without its main(): the tests link it.
$(O)/libbqlstat.a: $(filter-out $(O)/analyzers/bqlstat.o,$(ANALYZERS))

SEAM_LIBS  := -lelf -lZydis
BPF_LIBS   := -lbpf -lelf -lz
MAP        := $(O)/libseams.a
TRACER     := $(O)/libbqlstat.a $(O)/libprobes.a

$(O)/loadvm: $(O)/runtime/loadvm.o $(O)/runtime/thread/policy.o
	$(call say,LINK)$(CC) $(ALL_LDFLAGS) -o $@ $^

ifdef SAN
# A sanitizer wants to be first in its process; inside QEMU these never are. They stay plain.
$(O)/libloadvm.so $(O)/libloadvm-core.so $(O)/libloadvm-lttng.so: FORCE
	@mkdir -p $(@D)
	+@$(MAKE) --no-print-directory SAN= $(BUILD)/$(@F)
	@cmp -s $(BUILD)/$(@F) $@ || cp $(BUILD)/$(@F) $@
FORCE:
else
# Preloaded into whatever loadvm starts: libc only, so that no missing library can stop a QEMU.
$(O)/libloadvm.so: $(O)/runtime/gate.o
	$(call say,LINK)$(CC) $(ALL_LDFLAGS) -shared -o $@ $^

$(O)/libloadvm-core.so: $(THREAD) $(TRACE) $(O)/libdetour.a $(MAP)
	$(call say,LINK)$(CC) $(ALL_LDFLAGS) -shared -Wl,-z,defs -o $@ $^ $(SEAM_LIBS) -lpthread

# Loaded by the core when asked for, as it needs a library that most machines lack.
$(O)/libloadvm-lttng.so: $(O)/runtime/trace/lttng/provider.o
	$(call say,LINK)$(CC) $(ALL_LDFLAGS) -shared -o $@ $^ -llttng-ust -ldl
endif

$(O)/bqlstat: $(O)/analyzers/bqlstat.o $(O)/libbqlstat.a $(O)/liblab.a $(O)/libprobes.a $(MAP)
	$(call say,LINK)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(BPF_LIBS) $(SEAM_LIBS) $(PKG_LIBS) -lm

# The same dance with the lock functions of each generation (10.0's has the plain name).
$(O)/analyzers/lab/dance/bql-%.o: analyzers/lab/dance/bql.S
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(ALL_CFLAGS) -DGENERATION=$(subst .,,$*) -fPIC -MMD -MP -c -o $@ $<

$(O)/lockdance: $(O)/analyzers/lab/dance/bql-10.0.o
$(O)/lockdance-7.2: $(O)/analyzers/lab/dance/bql-7.2.o
$(O)/lockdance-11.1: $(O)/analyzers/lab/dance/bql-11.1.o
$(DANCES): $(DANCE)
	$(call say,LINK)$(CC) $(ALL_LDFLAGS) -rdynamic -o $@ $^ -lpthread

$(O)/demo $(O)/demo-dashboard: $(O)/%: $(O)/analyzers/lab/%.o $(O)/liblab.a $(TRACER) $(MAP)
	$(call say,LINK)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(BPF_LIBS) $(SEAM_LIBS) $(PKG_LIBS) -lm

$(O)/tests/%: $(O)/tests/%.o $(O)/liblab.a $(TRACER) $(O)/libdetour.a $(MAP)
	$(call say,LINK)$(CC) $(ALL_LDFLAGS) -rdynamic -o $@ $(filter %.o,$^) $(filter-out %.o,$^) $(BPF_LIBS) $(SEAM_LIBS) $(PKG_LIBS) -lpthread -lm

$(O)/tests/soak/soak: $(O)/tests/soak/plan.o

$(O)/tests/fuzz/%: ALL_LDFLAGS += -fsanitize=fuzzer,address,undefined

# A command of this machine under another kernel, and the first process there.
$(O)/vm: $(O)/tests/vm/vm.o $(O)/tests/vm/initramfs.o
	$(call say,LINK)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(O)/vm-init: tests/vm/init.c tests/vm/vm.h
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) -std=gnu17 -D_GNU_SOURCE -I. $(WARN) $(CFLAGS) -static -o $@ $<

# A QEMU in small, whose exports loadvm takes for a QEMU's.
$(O)/tests/host/host: $(HOST)
	$(call say,LINK)$(CC) $(ALL_LDFLAGS) -rdynamic -o $@ $^ $(call pkgcfg,--libs glib-2.0) -lpthread

# It is a program of ours, which has the sanitizer: in this one the core may have it, too.
HOST_LIBS  := $(O)/libloadvm.so $(O)/libloadvm-core.so
ifdef SAN
HOST_LIBS  := $(O)/tests/host/libloadvm.so $(O)/tests/host/libloadvm-core.so
$(O)/tests/host/libloadvm.so: $(O)/libloadvm.so
	@mkdir -p $(@D)
	@cp $< $@
# Not -z defs: clang's sanitizers are part of the program, and no library to link with.
$(O)/tests/host/libloadvm-core.so: $(THREAD) $(TRACE) $(O)/libdetour.a $(MAP)
	$(call say,LINK)$(CC) $(ALL_LDFLAGS) -shared -o $@ $^ $(SEAM_LIBS) -lpthread
endif

$(O)/tests/unit/load-thread: $(O)/runtime/thread/policy.o | $(O)/tests/host/host $(O)/loadvm $(HOST_LIBS)

$(O)/tests/scenarios/usdt.o: | $(O)/tests/scenarios/usdt.skel.h

$(O)/tests/bench/cost.o: | $(O)/tests/bench/cost.skel.h

# They look into the tracer.
$(O)/tests/scenarios/anatomy.o $(O)/tests/bench/cost.o: | $(O)/probes/bql.skel.h

# Its probe sites may be 5-byte nops, which Linux 6.18 turns into calls: no red zone for them to push into.
$(O)/tests/bench/subject: tests/bench/subject.c tests/bench/subject-lttng.h \
		$(filter-out %/install.o,$(TRACE)) $(O)/libdetour.a
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) -mno-red-zone -DWITH_LTTNG -DLTTNG_UST_TRACEPOINT_CREATE_PROBES -rdynamic \
		-o $@ $(filter %.c %.o %.a,$^) -lZydis -lpthread -llttng-ust -ldl

# It passes the runtime's own LTTng tracepoints.
$(O)/tests/subjects/traced: $(O)/tests/subjects/traced.o
	$(call say,LINK)$(CC) $(ALL_LDFLAGS) -o $@ $^ -lpthread -llttng-ust -ldl

$(O)/tests/scenarios/ctf $(O)/tests/bench/ctf: | $(O)/tests/subjects/traced

# The dashboards are part of the program.
$(O)/analyzers/export/embedded.o: $(wildcard dashboards/*.json dashboards/*/*.yaml)

# Written along with the objects. Without this make would try to build them, by linking NAME.d.o.
$(O)/%.d: ;

-include $(shell find $(O) \( -name qemu -o -name kernel \) -prune -o -type f -name '*.d' -print 2>/dev/null)
