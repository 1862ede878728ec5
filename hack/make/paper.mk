# Published results, repeated: long (hours on a small machine), so by hand.
PAPER ?=

.PHONY: paper
paper: ## FedAvg's tables and attacks x strategies, beside the published numbers (PAPER="--rows 2NN tables")
	@hack/get-data.sh build/data
	@$(MAKE) --no-print-directory BUILD=release all
	@python3 hack/paper/paper.py $(PAPER)
