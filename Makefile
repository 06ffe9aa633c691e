# SPDX-License-Identifier: GPL-3.0-or-later
# One non-recursive build. `make help` lists the targets.
#
#   BUILD=release (default, into build/)  debug asan ubsan tsan (into build/FLAVOUR/)
#   CC=gcc|clang   V=1 shows commands   WERROR=0 for foreign compilers

BUILD   ?= release
CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
CLANG   ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
V       ?= 0
WERROR  ?= 1
Q       := $(if $(filter 1,$(V)),,@)
say      = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(2)')

flavours := release debug asan ubsan tsan fuzz
ifeq ($(filter $(BUILD),$(flavours)),)
$(error BUILD=$(BUILD) is none of: $(flavours))
endif
out := build$(if $(filter-out release,$(BUILD)),/$(BUILD))
obj := $(out)/obj

VERSION := 0.1.0
PKGS    := libuv jansson libcares libnl-3.0 libnl-route-3.0 libconfig libbpf wolfssl libcap-ng
CPPFLAGS += -Iinclude -Iuserspace -I$(obj) -D_GNU_SOURCE -DHF_VERSION='"$(VERSION)"' \
	$(shell pkg-config --cflags $(PKGS) 2>/dev/null)
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wundef \
	-Wpointer-arith -Wwrite-strings $(if $(filter 1,$(WERROR)),-Werror)
CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection -fcf-protection
CFLAGS_debug   := -O0 -g3 -DHF_DEBUG
CFLAGS_asan    := -O1 -g -DHF_DEBUG -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_ubsan   := -O1 -g -DHF_DEBUG -fsanitize=undefined -fno-sanitize-recover=all
CFLAGS_tsan    := -O1 -g -DHF_DEBUG -fsanitize=thread
CFLAGS_fuzz    := -O1 -g -DHF_DEBUG -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
SAN_LD  := $(filter -fsanitize=%,$(CFLAGS_$(BUILD)))
CFLAGS  += -std=gnu11 -fPIE -pthread $(CFLAGS_$(BUILD)) $(WARN)
LDFLAGS += -pie -pthread -Wl,-z,relro,-z,now -Wl,--gc-sections -Wl,--as-needed $(SAN_LD)
LDLIBS  += $(shell pkg-config --libs $(PKGS) 2>/dev/null) -llmdb -lhttp_parser -lwslay -lqpid-proton -lm

# --- programs -------------------------------------------------------------------------------------
lib_src  := $(sort $(filter-out userspace/app/%,$(wildcard userspace/*/*.c userspace/*/*/*.c)))
lib_obj  := $(lib_src:%.c=$(obj)/%.o) $(obj)/portal_files.o
programs := $(out)/holdfastd $(out)/holdfastctl $(out)/holdfast-hub
bpf_skel := $(patsubst bpf/%.bpf.c,$(obj)/%.skel.h,$(wildcard bpf/*.bpf.c))

.PHONY: all help bpf deps demo test test-long bench bench-programs fuzz-programs fuzz-smoke lint clean check-unit
.DEFAULT_GOAL := all
all: $(programs)

$(obj)/libholdfast.a: $(lib_obj)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar qcs $@ $^
$(out)/holdfastd: $(obj)/userspace/app/holdfastd.o $(obj)/libholdfast.a
$(out)/holdfastctl: $(obj)/userspace/app/holdfastctl.o $(obj)/libholdfast.a
$(out)/holdfast-hub: $(obj)/userspace/app/holdfast_hub.o $(obj)/libholdfast.a
$(programs):
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The time below which no clock is believed: of the sources, so that the same sources make the same program.
BUILD_TIME := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),$(shell date +%s))
$(obj)/userspace/auth/clock.o: CPPFLAGS += -DHF_BUILD_TIME_S='INT64_C($(BUILD_TIME))'

$(obj)/%.o: %.c | $(bpf_skel)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# --- the portal's pages: into read-only data, as they are ------------------------------------------------
portal_files := $(sort $(wildcard $(addprefix userspace/hub/portal/pages/*.,html css js svg)))
$(obj)/portal_files.c: scripts/embed userspace/hub/portal/pages $(portal_files)
	$(call say,EMBED,$@)
	@mkdir -p $(@D)
	$(Q)scripts/embed $(portal_files) > $@.tmp && mv $@.tmp $@
$(obj)/portal_files.o: $(obj)/portal_files.c
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# --- kernel side ----------------------------------------------------------------------------------
bpf: $(bpf_skel)
$(obj)/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/lib/*.h) include/holdfast/abi.h
	$(call say,BPF,$<)
	@mkdir -p $(@D)
	$(Q)$(CLANG) -g -O2 -mcpu=v3 -target bpf -Wall -Werror -Iinclude -Ibpf/lib \
		-I/usr/include/$(shell gcc -print-multiarch 2>/dev/null) -c -o $@ $<
$(obj)/%.skel.h: $(obj)/%.bpf.o
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@.tmp && mv $@.tmp $@

# --- unit tests (cmocka): every tests/unit/test_*.c is one program ------------------------------------
unit_src := $(wildcard tests/unit/test_*.c tests/unit/prop_*.c)
unit_bin := $(unit_src:tests/unit/%.c=$(out)/unit/%)
$(out)/unit/%: $(obj)/tests/unit/%.o $(obj)/libholdfast.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
# This one makes reads of the store fail.
$(out)/unit/prop_pump: LDFLAGS += -Wl,--wrap=hf_store_read
.SECONDARY:
unit: $(unit_bin)

# --- measuring programs: every tests/bench/*.c is one --------------------------------------------------
bench_bin := $(patsubst tests/bench/%.c,$(out)/bench/%,$(wildcard tests/bench/*.c))
$(out)/bench/%: $(obj)/tests/bench/%.o $(obj)/libholdfast.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
bench-programs: $(bench_bin)

# --- fuzzing: every tests/fuzz/fuzz_*.c is a target; seeds in tests/fuzz/seeds/TARGET -----------------------
fuzz_bin  := $(patsubst tests/fuzz/%.c,$(out)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
fuzz_main := $(if $(filter fuzz,$(BUILD)),,$(obj)/tests/fuzz/replay.o)
$(out)/fuzz/%: $(obj)/tests/fuzz/%.o $(obj)/tests/fuzz/model.o $(obj)/tests/fuzz/head.o $(fuzz_main) $(obj)/libholdfast.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $(if $(fuzz_main),,-fsanitize=fuzzer) -o $@ $^ $(LDLIBS)
fuzz-programs: $(fuzz_bin)
check-unit: $(unit_bin)
	$(Q)set -e; for t in $(unit_bin); do echo "== $$t"; $$t; done

# --- for people and CI ------------------------------------------------------------------------------
# The programs are built by a second make: this one may have started before pkg-config was installed.
deps:
	$(Q)scripts/deps
demo: deps
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all
	$(Q)scripts/demo
test: deps
	$(Q)scripts/test
test-long: deps
	$(Q)scripts/test --long $(SUITE)
lint:
	$(Q)scripts/check
bench: deps
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all bench-programs
	$(Q)$(if $(AGAINST),tests/bench/against $(AGAINST),tests/bench/run)
SECONDS ?= 60
fuzz-smoke: deps
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) BUILD=fuzz CC=$(CLANG) fuzz-programs
	$(Q)scripts/fuzz-smoke $(SECONDS) $(TARGET)
help:
	@printf '%s\n' \
		'make               programs into build/ (BUILD=debug|asan|ubsan|tsan: into build/FLAVOUR/)' \
		'make demo          a minute of the main job: children publish while the uplink is cut (root)' \
		'make test          all tests (root); make test-long [SUITE=kill]: the same with larger counts' \
		'make unit          unit test programs;  make check-unit runs them' \
		'make bench         measures beside Mosquitto and bare LMDB, build/bench.json (root)' \
		'make bench AGAINST=REV   measures this tree beside an older revision, build/against.json (root)' \
		'make fuzz-smoke [SECONDS=60] [TARGET=query]   fuzzes each target of tests/fuzz for that long (clang)' \
		'make lint          house rules, shellcheck' \
		'make deps          what is needed to build and test;  make clean'

clean:
	rm -rf build
-include $(shell find $(obj) -name '*.d' 2>/dev/null)
