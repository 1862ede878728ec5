# CEL and JSONPath, judged by Kubernetes' own libraries (fetched by Go).

CEL_EXPRESSIONS ?= 20000
CEL_SEED ?= 1

.PHONY: cel-oracle
cel-oracle: $(O)/e2e/interop/cel_driver $(O)/cel-oracle ## CEL and JSONPath, compared with Kubernetes' own libraries
	$(O)/cel-oracle -n $(CEL_EXPRESSIONS) -seed $(CEL_SEED) $(O)/e2e/interop/cel_driver

$(O)/e2e/interop/cel_driver: $(O)/e2e/interop/cel_driver.o $(archives_from_api)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(O)/cel-oracle: $(wildcard e2e/interop/cel-oracle/*)
	cd e2e/interop/cel-oracle && go build -o $(CURDIR)/$@ .
