# The simulation: the control plane in virtual time. HACKING.md says how to read it.

SIM := $(O)/e2e/sim/sim
SIM_JOBS ?= 2
RUNS ?= 1000
CRASH_POINTS ?= 5000
FAULT_POINTS ?= 1000

$(SIM): $(patsubst %.c,$(O)/%.o,$(filter-out %_test.c,$(wildcard e2e/sim/*.c))) $(archives_from_e2e)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

sim_run = $(SIM) --jobs $(SIM_JOBS) $(if $(SCENARIO),--scenario $(SCENARIO)) \
          $(if $(SEED),--seed $(SEED)) $(if $(AT),--at $(AT)) $(if $(FAULT),--fault $(FAULT)) \
          $(if $(FAULTLESS),--faultless) $(if $(PLANTED),--planted $(PLANTED))

.PHONY: sim
sim: $(SIM) ## the control plane in virtual time (SCENARIO= SEED= RUNS= CRASH_POINTS= AT= FAULT=)
	@$(sim_run) --runs $(RUNS) --crash-points $(CRASH_POINTS) \
	  --fault-points $(FAULT_POINTS)

.PHONY: sim-proof
sim-proof: $(SIM) ## planted bugs, each of which the simulation must find
	@$(if $(PROOF_ONLY),:,$(SIM) --jobs $(SIM_JOBS) --runs 200 --crash-points 200 --fault-points 0)
	@$(SIM) --jobs $(SIM_JOBS) --proof $(if $(PLANTED),--planted $(PLANTED))

.PHONY: sim-nightly
sim-nightly: $(SIM) ## the same as sim, much more of it
	@$(sim_run) --runs 20000 --crash-points 100000 --fault-points 40000 --first-seed $$(date +%Y%m%d)000
