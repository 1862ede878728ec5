# The program for linux/arm64, by Debian's cross compiler (gcc-aarch64-linux-gnu): what images of that platform are
# made of, found there by `flops build` and `flops up`. Its tests run by QEMU's user emulation.

ARM64_SYSROOT := build/cross/sysroot-arm64/.complete

$(ARM64_SYSROOT): hack/cross-sysroot hack/deps.sh
	@hack/cross-sysroot arm64 $(@D)
	@touch $@

.PHONY: cross
cross: $(ARM64_SYSROOT) ## the program for linux/arm64: build/cross/linux-arm64/flops
	@$(MAKE) --no-print-directory BUILD=cross/linux-arm64 programs

.PHONY: check-arm64
check-arm64: cross ## the unit tests and fuzz corpora of the arm64 program, under QEMU
	@$(MAKE) --no-print-directory BUILD=cross/linux-arm64 check-emulated

# What depends on the machine: numbers, bytes, bits, and who speaks with the kernel. Not what takes long there.
.PHONY: check-arm64-quick
check-arm64-quick: cross ## those of them that depend on the machine and are quick
	@$(MAKE) --no-print-directory BUILD=cross/linux-arm64 check-emulated-quick

.PHONY: programs
programs: $(PROGRAMS)

# Emulation is some twenty times as slow as the machine.
EMULATED := LIMITS=hack/emulated-limits TEST_TIMEOUT=2400 hack/emulated hack/run-tests $(O)
QUICK_EMULATED := $(filter-out $(addprefix $(O)/,lib/http_% lib/oci/registry% api/schema_test api/protobuf_test), \
                      $(filter $(addprefix $(O)/,lib/% api/% workloads/tensor/% workloads/model/% workloads/protocol/% \
                          workloads/serve/request% workloads/strategy/strategy_% workloads/data/npy% workloads/data/store% \
                          workloads/trainer/layers%),$(TESTS)))

.PHONY: check-emulated check-emulated-quick
check-emulated: $(TESTS) $(FUZZERS)
	@$(EMULATED) $(TESTS) -- $(FUZZERS)
check-emulated-quick: $(QUICK_EMULATED)
	@$(EMULATED) $(QUICK_EMULATED) --
