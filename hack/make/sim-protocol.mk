# The round protocol in simulation, many seeds; a failing one is printed and replays exactly.
SEEDS ?= 10000
FIRST ?= 1

.PHONY: sim-protocol
sim-protocol: $(O)/workloads/aggregator/protocol_sim_test ## the round protocol, SEEDS=10000 FIRST=1
	@$< $(SEEDS) $(FIRST)
