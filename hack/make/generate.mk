# What is generated from crds/: committed, and checked against its source.

CRDGEN := $(O)/hack/crdgen/crdgen
CRDS := $(sort $(wildcard crds/*.yaml))
GENERATED := api/gen docs/reference.md docs/openapi

$(CRDGEN): $(call objects,hack/crdgen) $(O)/lib.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

.PHONY: generate
generate: $(CRDGEN) ## write the types, tables and documents that follow from crds/
	$(CRDGEN) . $(CRDS)

.PHONY: verify
verify: $(CRDGEN) ## fail where what is generated does not match crds/
	@rm -rf build/generated && mkdir -p build/generated
	@$(CRDGEN) build/generated $(CRDS)
	@for path in $(GENERATED); do \
	  diff -ru $$path build/generated/$$path || { echo "stale: run make generate"; exit 1; }; \
	done
	@echo "generated files match crds/"
