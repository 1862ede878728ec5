# Exported models, judged by other people's runtimes (from PyPI).

.PHONY: models-judge
models-judge: $(O)/e2e/interop/model_driver ## exported models, judged by ONNX Runtime and MLflow
	e2e/interop/models.sh $(O)/e2e/interop/model_driver

$(O)/e2e/interop/model_driver: $(O)/e2e/interop/model_driver.o $(archives_from_workloads)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
