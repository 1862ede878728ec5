# Bench programs: x_bench.c beside what they measure, built as $(O)/x_bench, run by hand.

BENCHES := $(patsubst %.c,$(O)/%,$(sort $(shell find $(LAYERS) hack -name '*_bench.c' 2>/dev/null)))

.PHONY: benches
benches: $(BENCHES) ## build the bench programs (BUILD=release for figures that mean something)

.SECONDEXPANSION:
$(O)/%_bench: $(O)/%_bench.o $$(archives_from_$$(call layer_of,$$*))
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# Many learners in one process, for hack/bench/data.py.
CROWD := $(O)/hack/bench/crowd/crowd

$(CROWD): $(call objects,hack/bench/crowd) $(archives_from_workloads)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# Too much for `make bench`: some ten minutes, and Flower is fetched from PyPI.
.PHONY: bench-data
bench-data: ## the data plane: speed and memory, with Flower as yardstick in the same run (CASES=)
	@$(MAKE) --no-print-directory BUILD=release all build/release/hack/bench/crowd/crowd \
	  build/release/workloads/aggregator/folding_bench
	@python3 hack/bench/data.py $(CASES)

.PHONY: bench-serve
bench-serve: ## the inference server beside FastAPI with scikit-learn, in the same run
	@$(MAKE) --no-print-directory BUILD=release bin/flops
	@FLOPS=build/release/flops python3 hack/bench/serve.py

.PHONY: bench-images
bench-images: ## images of learners: compose beside buildah with the same files, in the same run (TURNS=)
	@$(MAKE) --no-print-directory BUILD=release bin/flops
	@FLOPS=build/release/flops python3 hack/bench/images.py
