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

LINTED := $(filter-out api/gen/% hack/bench/%,$(call sources,$(LAYERS) cmd hack))

.PHONY: lint
lint: lint-format lint-headers lint-tidy lint-cppcheck lint-analyzer lint-scripts ## all static analysis

.PHONY: lint-format
lint-format:
	@$(CLANG_FORMAT) --dry-run -Werror $(FORMATTED)

# Each header compiles alone.
.PHONY: lint-headers
lint-headers:
	@for header in $(filter-out hack/cppcheck.h,$(filter %.h,$(FORMATTED))); do \
	  echo "#include \"$$header\"" | $(CC) $(CPPFLAGS) -std=gnu17 -Wall -Wextra -Werror -fsyntax-only -x c - || \
	    { echo "$$header does not compile alone"; exit 1; }; \
	done

.PHONY: lint-tidy
lint-tidy: $(addprefix $(O)/tidy/,$(addsuffix .ok,$(LINTED)))

$(O)/tidy/%.c.ok: %.c $(O)/%.o .clang-tidy # the object knows the headers
	@mkdir -p $(@D)
	@echo "  TIDY    $<"
	@$(CLANG_TIDY) --quiet $< -- $(CPPFLAGS) -DFL_VERSION='""' -std=gnu17 2>$@.err || { cat $@.err; exit 1; }
	@touch $@

.PHONY: lint-cppcheck
lint-cppcheck:
	@cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr -j 2 \
	  --error-exitcode=1 --suppressions-list=hack/cppcheck.suppress -D_GNU_SOURCE --include=hack/cppcheck.h -I. $(LINTED)

# A real compile with gcc's analyser, which understands cleanup attributes and what mem.h says of
# allocations. It loses sight of an object that a list, a map, a library or a loop holds from then on,
# and so calls it leaked: leaks are left to the sanitizer, under which all unit tests run.
#
# It does not know of functions elsewhere, nor across a recursion, that what they return where they have
# failed is negative, which clang's does.
TAKES_FAILURES_FOR_SUCCESS := api/cel_check reconcilers/workload/local/images_pull \
                              reconcilers/workload/oakestra/worker workloads/strategy/exact
$(TAKES_FAILURES_FOR_SUCCESS:%=build/analyzer/%.o): CFLAGS += -Wno-analyzer-null-dereference
# Rows of vectors of which only as many are read as were loaded.
build/analyzer/workloads/trainer/thin.o: CFLAGS += -Wno-analyzer-use-of-uninitialized-value
.PHONY: lint-analyzer
lint-analyzer:
	@$(MAKE) --no-print-directory BUILD=analyzer $(addprefix build/analyzer/,$(LINTED:.c=.o))

.PHONY: lint-scripts
lint-scripts:
	@shellcheck -x -P SCRIPTDIR $$(git ls-files | xargs grep -lE '^#!/bin/(ba)?sh' --)
	@codespell --quiet-level=2 --skip='./build,./.git,./api/gen,*/testdata/*,*/corpora/*,go.sum' \
	  --ignore-words=hack/codespell.ignore --ignore-regex='\\[abfnrtv]' .

# Not a gate: the longest and the most branching functions, to look at.
.PHONY: mirror
mirror: ## the longest and most complex functions
	@pmccabe $(LINTED) | sort -k5,5nr | head -15
