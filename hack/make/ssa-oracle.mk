# Field ownership against the library that Kubernetes uses itself (needs Go and its module proxy).

SSA_STEPS ?= 20000

.PHONY: ssa-oracle
ssa-oracle: $(O)/e2e/interop/ssa_driver $(O)/ssa-oracle ## field ownership, compared with Kubernetes' own library
	$(O)/ssa-oracle -steps $(SSA_STEPS) $(O)/e2e/interop/ssa_driver

$(O)/e2e/interop/ssa_driver: $(O)/e2e/interop/ssa_driver.o $(archives_from_api)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(O)/ssa-oracle: $(wildcard e2e/interop/ssa-oracle/*)
	cd e2e/interop/ssa-oracle && go build -o $(CURDIR)/$@ .
