# FLOps in C. `make help` lists what there is to run.
#
# Variants live side by side: BUILD=dev (default) | asan | tsan | release | fuzz | cov | cross/linux-arm64,
# each under build/$(BUILD). One archive a layer; a test links the archives of its own layer and below, so a
# call upward is an undefined reference.

BUILD ?= dev
O := build/$(BUILD)
CC := gcc
AR := gcc-ar
PKG_CONFIG := pkg-config

LAYERS := lib api controller workloads reconcilers
PACKAGES := jansson yaml-0.1 libcurl libevent libevent_pthreads libevent_openssl openssl \
            libsodium sqlite3 libpcre2-8 zlib libgit2 libzstd

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
            -Wold-style-definition -Wwrite-strings -Wpointer-arith -Wvla -Wformat=2 -Wundef \
            -Wimplicit-fallthrough -Wnull-dereference -Wconversion -Wno-sign-conversion
GCC_WARNINGS := -Wlogical-op -Wduplicated-cond -Wduplicated-branches -Wtrampolines \
                -Wbidi-chars=any

CFLAGS_dev := -O1 -g
# Compiled three times as fast as optimized, for half of the speed; most of what is made here runs once.
CFLAGS_asan := -O0 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all \
               -fno-omit-frame-pointer -DFL_ARENA_DEBUG -Wno-null-dereference
CFLAGS_tsan := -O0 -g1 -fsanitize=thread -DFL_ARENA_DEBUG -Wno-null-dereference
# fl_malloc never returns NULL; of leaks see hack/make/quality.mk.
CFLAGS_analyzer := -O1 -fanalyzer -Wno-analyzer-possible-null-dereference \
                   -Wno-analyzer-possible-null-argument -Wno-analyzer-malloc-leak
CFLAGS_cov := -O0 -g --coverage
CFLAGS_fuzz := -O1 -g1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
               -DFL_ARENA_DEBUG
CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection \
                  -fcf-protection=full -fno-delete-null-pointer-checks -fno-strict-overflow \
                  -ftrivial-auto-var-init=zero
CFLAGS_cross/linux-arm64 := -O2 -D_FORTIFY_SOURCE=3 -fstack-protector-strong \
                            -fstack-clash-protection -mbranch-protection=standard \
                            -fno-delete-null-pointer-checks -fno-strict-overflow \
                            -ftrivial-auto-var-init=zero
# mold, since some four hundred programs are linked.
LDFLAGS_asan := -fuse-ld=mold -fsanitize=address,undefined
LDFLAGS_tsan := -fuse-ld=mold -fsanitize=thread
LDFLAGS_cov := --coverage
LDFLAGS_fuzz := -fuse-ld=mold -fsanitize=address,undefined
LDFLAGS_release := -Wl,-z,relro,-z,now,-z,noexecstack
LDFLAGS_cross/linux-arm64 := $(LDFLAGS_release) -s
ifeq ($(BUILD),fuzz)
CC := clang-14
AR := llvm-ar-14
GCC_WARNINGS := -Wno-gnu-zero-variadic-macro-arguments -Wno-format-nonliteral
endif
# Another platform: Debian's cross compiler, and libraries in a folder of their own. Tests, which run
# here by emulation, take their loader and libraries from there too.
ifeq ($(BUILD),cross/linux-arm64)
SYSROOT := $(CURDIR)/build/cross/sysroot-arm64
SYSROOT_LIBRARIES := $(SYSROOT)/usr/lib/aarch64-linux-gnu
CC := aarch64-linux-gnu-gcc --sysroot=$(SYSROOT)
AR := aarch64-linux-gnu-gcc-ar
PKG_CONFIG := PKG_CONFIG_SYSROOT_DIR=$(SYSROOT) PKG_CONFIG_LIBDIR=$(SYSROOT_LIBRARIES)/pkgconfig pkg-config
TEST_LDFLAGS := -Wl,--disable-new-dtags,--dynamic-linker=$(SYSROOT)/lib/ld-linux-aarch64.so.1 \
                -Wl,-rpath,$(SYSROOT_LIBRARIES):$(SYSROOT)/lib/aarch64-linux-gnu \
                -Wl,-rpath,$(SYSROOT_LIBRARIES)/openblas-pthread
endif

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
CPPFLAGS := -D_GNU_SOURCE -I. $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
CFLAGS := -std=gnu17 -fPIE -pthread -ffp-contract=off $(WARNINGS) $(GCC_WARNINGS) \
          $(CFLAGS_$(BUILD)) $(EXTRA_CFLAGS)
LDFLAGS := -pie -pthread -Wl,--as-needed,--gc-sections $(LDFLAGS_$(BUILD)) $(EXTRA_LDFLAGS)
# The shared libarchive drags in XML, ACLs and more: of the static one only what is used is linked,
# which its writers need --gc-sections for. Its write filters and its disk writer are not used.
ARCHIVE_LIBS := -l:libarchive.a -llzma -lbz2 -lnettle
# One function of it, which no image then needs a package for.
HASH_LIBS := -l:libxxhash.a
LDLIBS := $(ARCHIVE_LIBS) $(HASH_LIBS) $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null) -lm

sources = $(sort $(filter-out %_test.c %_fuzz.c %_bench.c,$(shell find $(1) -name '*.c' 2>/dev/null)))
objects = $(patsubst %.c,$(O)/%.o,$(call sources,$(1)))
# The archive of a layer and of those below it, the highest first.
archives_from_lib := $(O)/lib.a
archives_from_api := $(O)/api.a $(archives_from_lib)
archives_from_controller := $(O)/controller.a $(archives_from_api)
archives_from_workloads := $(O)/workloads.a $(archives_from_api)
archives_from_reconcilers := $(O)/reconcilers.a $(O)/controller.a $(O)/workloads.a $(archives_from_api)
archives_from_cmd := $(O)/cmd.a $(archives_from_reconcilers)
archives_from_e2e := $(archives_from_reconcilers)
archives_from_hack := $(archives_from_api)
layer_of = $(firstword $(subst /, ,$(1)))

# The longest ones begin first.
LONG_TESTS := $(addprefix $(O)/,workloads/aggregator/protocol_sim_test controller/runtime/faults_test)
TESTS := $(patsubst %.c,$(O)/%,$(sort $(shell find $(LAYERS) cmd hack e2e -name '*_test.c' 2>/dev/null)))
TESTS := $(LONG_TESTS) $(filter-out $(LONG_TESTS),$(TESTS))
FUZZERS := $(patsubst %.c,$(O)/%,$(sort $(shell find $(LAYERS) hack -name '*_fuzz.c' 2>/dev/null)))
PROGRAMS := $(O)/flops $(O)/flops-shim $(O)/flops-init
FORMATTED := $(shell find $(LAYERS) cmd hack e2e -name '*.[ch]' ! -path '*/gen/*' ! -path hack/cppcheck.h 2>/dev/null)

.PHONY: all
all: bin/flops ## build the program: bin/flops

include hack/make/*.mk

bin/flops: $(PROGRAMS)
	@mkdir -p bin
	@ln -sf ../$(O)/flops-init bin/flops-init
	@ln -sf ../$(O)/flops-shim bin/flops-shim
	@ln -sf ../$(O)/flops bin/flops

$(O)/flops: $(O)/cmd/main.o $(archives_from_cmd)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# One for each run is in memory, so it is small and needs no library: found beside flops. Sanitizers
# cannot be linked so.
SHIM_LDFLAGS := $(if $(filter dev release cross/%,$(BUILD)),$(filter-out -pie,$(LDFLAGS)) -static-pie,$(LDFLAGS))
$(O)/flops-shim: $(O)/cmd/shim/main.o $(archives_from_lib)
	@echo "  LINK    $@"
	@$(CC) $(SHIM_LDFLAGS) -o $@ $^

# The first process of containers, whatever their images hold: so it is static, and has no sanitizer.
$(O)/flops-init: cmd/init/main.c Makefile
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) -D_GNU_SOURCE -std=gnu17 -Os -s $(WARNINGS) -static -o $@ $<

# Tests that run containers.
$(O)/reconcilers/workload/orchestrator_contract_test $(O)/reconcilers/workload/local/container_test: | $(O)/flops-init

define layer_archive
$(O)/$(1).a: $(filter-out %/main.o,$(call objects,$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	@echo "  AR      $$@"
	@$(AR) rcs $$@ $$^
endef
$(foreach layer,$(LAYERS) cmd,$(eval $(call layer_archive,$(layer))))

$(O)/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Tests of what misbehaves write into what may be closed.
$(O)/%_test.o: CFLAGS += -Wno-unused-result
$(O)/cmd/version.o: CPPFLAGS += -DFL_VERSION='"$(VERSION)"'

.SECONDARY: # objects of tests are kept
.SECONDEXPANSION:
$(O)/%_test: $(O)/%_test.o $$(archives_from_$$(call layer_of,$$*))
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $(TEST_LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

$(O)/%_fuzz: $(O)/%_fuzz.o $(if $(filter fuzz,$(BUILD)),,$(O)/hack/fuzz_main.o) \
             $$(archives_from_$$(call layer_of,$$*))
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) $(TEST_LDFLAGS) $(if $(filter fuzz,$(BUILD)),-fsanitize=fuzzer) -o $@ $^ $(LDLIBS)

-include $(shell find $(O) -name '*.d' 2>/dev/null)

.PHONY: check
check: $(TESTS) $(FUZZERS) ## unit and contract tests, and the fuzz corpora (BUILD=asan|tsan too)
	@hack/run-tests $(O) $(TESTS) -- $(FUZZERS)

.PHONY: clean
clean: ## remove all that was built
	rm -rf build bin

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | \
	  awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# The table of built-in kinds is part of the object file (.incbin), which no -MMD sees.
$(O)/api/resource.o: $(wildcard api/builtin/*.yaml)
