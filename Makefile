# What needs more than `uv run --group test pytest -n auto`.

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: bench
bench: ## run every benchmark of the CPU, about an hour on an idle machine
	uv run --group test --with tonic python benchmarks/all.py

.PHONY: gpu
gpu: ## run every CUDA test, then every CUDA benchmark; needs a CUDA device
	uv run --group test pytest -m gpu
	uv run --group test python benchmarks/gpu.py --output benchmarks/results
