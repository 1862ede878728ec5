# `make test`: all that must hold, on a fresh system too.

# Tests whose subject has threads; the others need no TSan run.
THREADED := $(filter $(O)/lib/loop_test $(O)/lib/crew_test $(O)/lib/http_% $(O)/controller/store/% \
                     $(O)/lib/run_test $(O)/controller/source/% $(O)/controller/client/% \
                     $(O)/controller/apiserver/% $(O)/controller/content/% $(O)/controller/registry/% $(O)/controller/queue/% $(O)/controller/cache/% \
                     $(O)/workloads/transfer/% $(O)/workloads/serve/% $(O)/workloads/simulate/% \
                     $(O)/workloads/strategy/exact_test $(O)/workloads/aggregator/folding_test \
                     $(O)/controller/runtime/metrics_test $(O)/controller/runtime/manager_test \
                     $(O)/reconcilers/workload/local/% $(O)/reconcilers/imagebuild/builder_% $(O)/reconcilers/tracking/% \
                     $(O)/reconcilers/workload/orchestrator_contract_test \
                     $(O)/reconcilers/workload/workload_threads_test, \
                     $(filter %_test,$(TESTS)))

.PHONY: deps
deps: ## install the packages that build and tests need
	@hack/deps.sh

.PHONY: layers
layers: ## a folder includes only what stands before it
	@hack/check-layers

.PHONY: check-threads
check-threads: $(THREADED) ## the tests with threads (BUILD=tsan)
	@hack/run-tests $(O) $(THREADED) --

.PHONY: interop
interop: all ## unmodified kubectls, the Python client and client-go judge bin/flops
	@hack/run-interop

.PHONY: check-frameworks
check-frameworks: all ## Keras and PyTorch from a Git link to a served model: fetches gigabytes (FRAMEWORKS=)
	@python3 e2e/local/frameworks.py $(FRAMEWORKS)

.PHONY: test
test: deps ## everything: set-up, unit tests, sanitizers, fuzzing for a while, other people's clients
	@hack/test

.PHONY: demo
demo: deps ## a federation from nothing to a served model, and nothing left of it
	@$(MAKE) --no-print-directory all
	@hack/demo

.PHONY: bench
bench: ## speed and memory; a real kube-apiserver and controller-runtime as yardstick in the same run
	@PATH=$(CURDIR)/build/tools/bin:$$PATH hack/yardstick.sh build
	@$(MAKE) --no-print-directory BUILD=release all
	@hack/bench/run.sh
	@python3 hack/bench/controllers.py
	@$(MAKE) --no-print-directory BUILD=release build/release/workloads/trainer/host_bench
	@python3 hack/bench/python_adapter.py build/release/workloads/trainer/host_bench
	@python3 hack/bench/supernode.py
	@FLOPS=build/release/flops python3 hack/bench/images.py
