# Lint, formatting, generated files, fuzzing.

CLANG_FORMAT ?= clang-format-14
CLANG_TIDY ?= clang-tidy-14

.PHONY: format
format: ## format the sources in place
	$(CLANG_FORMAT) -i $(FORMATTED)

.PHONY: fuzz
fuzz: ## fuzz each parser for FUZZ_SECONDS (default 20), keeping what it finds in build/corpora
	@$(MAKE) --no-print-directory BUILD=fuzz run-fuzzers

.PHONY: run-fuzzers
run-fuzzers: $(FUZZERS)
	@hack/run-fuzzers $(O) $(FUZZERS)
