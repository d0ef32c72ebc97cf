# Two commands: `make train` and `make test`. The environment is made on first use, and installed
# again only when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMPILATION := spfde_keras/kernels/compilation.py
KERNELS = $(BIN)/python $(COMPILATION)
KERNEL_FILES := $(shell $(PYTHON) $(COMPILATION) --sources)
CXX_FILES := $(KERNEL_FILES) $(wildcard tests/kernels/*.cc tflite/android/*.h tflite/android/*.cpp)
export KERAS_BACKEND := tensorflow
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: train test slow coverage lint bench evidence docs wheels mobile-kit test-packages web web-learning clean

train: $(VENV)/.kernels
	$(BIN)/python -m apps.train $(ARGS)

test: $(VENV)/.installed-dev $(VENV)/.kernels
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile $(ARGS)

slow: $(VENV)/.installed-dev $(VENV)/.kernels
	$(BIN)/python -m pytest -m slow $(ARGS)

# The tests, and which lines of spfde_keras and apps they leave out.
coverage: $(VENV)/.installed-dev $(VENV)/.kernels
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --cov $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	printf '%s\n' $(filter-out %.h,$(CXX_FILES)) | xargs -P "$$(nproc)" -n 1 sh -c \
	  '$(BIN)/clang-tidy --quiet "$$0" -- $(shell $(KERNELS) --flags) 2>/dev/null'

bench: $(VENV)/.installed-dev $(VENV)/.kernels
	mkdir -p runs
	$(BIN)/python benchmarks/step_time.py --json runs/step_time.json
	$(BIN)/python benchmarks/architectures.py --json runs/architectures.json
	$(BIN)/python benchmarks/step_memory.py --json runs/step_memory.json
	$(BIN)/python benchmarks/sparse_conv.py --json runs/sparse_conv.json
	$(BIN)/python benchmarks/mask_update.py --json runs/mask_update.json
	$(BIN)/python benchmarks/scaling.py --json runs/scaling.json
	$(BIN)/python benchmarks/mobile.py --json runs/mobile.json

# The comparison of methods, in hours; what is done is not repeated. DATA is the folder of the
# prepared tensorflow-datasets.
evidence: $(VENV)/.installed-dev $(VENV)/.kernels
	$(BIN)/python benchmarks/evidence.py $(if $(DATA),--data_dir=$(DATA)) $(ARGS)

# The sdist, the wheel for any platform and, made from the sdist as well, the one for this platform
# with the kernels for the TensorFlow in .venv.
wheels: $(VENV)/.installed-dev
	rm -rf dist
	SPFDE_BUILD_KERNELS=no $(BIN)/python -m build --outdir dist
	SPFDE_BUILD_KERNELS=yes $(BIN)/python -m pip wheel --no-deps --wheel-dir dist dist/*.tar.gz

# The site, into build/site/; a warning is an error.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# What runs .tflite files in XNNPACK's sparse mode, without a phone; ARGS="wasm" for that part only.
mobile-kit: $(VENV)/.installed
	$(BIN)/python tflite/kit/install.py $(ARGS)

# Debian's packages for the tests of the page and of the C++ runner; as root.
test-packages:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium chromium-driver cmake g++ g++-aarch64-linux-gnu >/dev/null

# The page that runs dense and sparse sub-nets side by side; needs the kit.
web: $(VENV)/.installed
	test -f runs/web/results.json || $(BIN)/python -m apps.train --model=mobilenet_sparse --width=0.5 --method=ast --sparsity=0.9,0.95,0.98 --freeze_reduction=0 --sieve_fraction=0 --output_dir=runs/web
	$(BIN)/python tflite/convert.py runs/web/model.keras runs/web/dense.tflite --nosparse
	$(BIN)/python tflite/web/build.py runs/web runs/page --dense=runs/web/dense.tflite
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory runs/page

# The page on which a sparse net learns digits that its user draws; needs the kit.
web-learning: $(VENV)/.installed
	mkdir -p runs
	$(BIN)/python tflite/web/build_learning.py runs/learning
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory runs/learning

clean:
	rm -rf $(VENV)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	SPFDE_BUILD_KERNELS=no $(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

# After TensorFlow is there. Without a compiler all works, more slowly.
$(VENV)/.kernels: pyproject.toml $(KERNEL_FILES) $(COMPILATION) | $(VENV)/.installed
	$(KERNELS) || true
	touch $@
