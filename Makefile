# Everything here works on a machine that has only python3 (>= 3.11), make and git.
#
#   make demo                     three servers on this machine, and what they are good for
#   make test                     the tests, with 200 simulated worlds; ONLY=name runs some of them,
#                                 SEED=17 replays one world, SEEDS=5000 runs that many
#   make check                    what CI runs: all tests, with 1,000 worlds; changes no file
#   make fix                      formats, writes the blocking handles, and mends what the
#                                 linter can mend
#   make museum                   known bugs of other systems, each to be caught in simulated
#                                 worlds; ONLY=text shows those with it in name or origin
#   make proof                    many simulated worlds; writes what they came to into the docs;
#                                 SEEDS=5000 runs that many
#   make soak HOURS=8             ever new worlds for so long; the report is in build/soak
#   make chaos MINUTES=20         real servers that are killed, paused, parted and whose disks fail;
#                                 SERVERS=5 for five, SEED=17 repeats a plan of faults
#   make fuzz SECONDS=600         ever new inputs for what reads frames, values and files; what
#                                 fails is kept in tests/corpus; ONLY=log tries one reader
#   make bench                    Copycat and its peers, measured here; QUICK=1 for a short run
#   make bench-simulation         simulated events a second, and what the time goes to
#   make bench-costs             what the functions cost whose time simulated worlds charge, against
#                                 the table that they charge it by
#   make clean                    removes what the other targets have made

PYTHON ?= python3
BIN := .venv/bin
# More at once would not leave the tests of real processes the time that they wait for.
PARALLEL := -n auto --maxprocesses 4 --dist worksteal
COMMIT = $(shell git describe --always --dirty --abbrev=12)

demo: .venv/ready
	$(BIN)/copycat demo

test: .venv/ready
	$(if $(SEEDS),COPYCAT_SEEDS=$(SEEDS)) $(if $(SEED),COPYCAT_SEED=$(SEED)) \
	$(BIN)/python -m pytest -q $(if $(ONLY),-k '$(ONLY)',-m 'not long' $(PARALLEL))

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	COPYCAT_WORLDS=1000 $(BIN)/python -m pytest -q $(PARALLEL)

fix: .venv/ready
	$(BIN)/python tools/blocking_handles.py
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

museum: .venv/ready
	$(BIN)/python tests/museum/museum.py $(if $(ONLY),'$(ONLY)')

proof: .venv/ready
	$(BIN)/python -m copycat.testing.proof --docs docs/testing.md --commit "$(COMMIT)" \
	$(if $(SEEDS),--seeds $(SEEDS))

soak: .venv/ready
	$(BIN)/python -m copycat.testing.soak --hours $(or $(HOURS),1) --commit "$(COMMIT)"

chaos: .venv/ready
	$(BIN)/python tests/chaos/chaos.py $(if $(MINUTES),--minutes $(MINUTES)) \
	$(if $(SERVERS),--servers $(SERVERS)) $(if $(SEED),--seed $(SEED))

fuzz: .venv/ready
	$(BIN)/python tests/fuzz/fuzz_readers.py --seconds $(or $(SECONDS),60) \
	$(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only '$(ONLY)')

bench: .venv-bench/ready
	.venv-bench/bin/python -m bench $(if $(QUICK),--quick)

bench-simulation: .venv/ready
	$(BIN)/python -m bench.simulation

bench-costs: .venv/ready
	$(BIN)/python -m bench.costs

clean:
	rm -rf .venv .venv-bench build dist copycat.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv: .venv/ready

# The file `ready` is written last, so an installation that failed half-way is done again.
.venv/ready: pyproject.toml
	@$(call make_environment,.venv)
	.venv/bin/python -m pip install -q -e '.[dev]'
	@touch $@

.venv-bench/ready: pyproject.toml
	@$(call make_environment,.venv-bench)
	.venv-bench/bin/python -m pip install -q -e . pysyncobj grpcio
	@touch $@

define make_environment
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	|| { echo "Copycat needs Python 3.11 or later: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	|| { echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }; \
$(PYTHON) -m venv $(1)
endef

.PHONY: demo test check fix museum proof soak chaos bench bench-simulation bench-costs clean .venv
