# SPDX-License-Identifier: GPL-2.0-or-later
# Two commands do everything on a fresh Debian or Ubuntu machine: make run, make check.
#
#   make run [HOSTS=5.10,6.12] [PAGING=npt,shadow] [ARGS="more options of avocado run"]
#   make matrix [PAGING=npt] [RESUME=last] [ARGS="more options of avocado run"]
#   make check [SMOKE_ARGS="options of avocado run for the end-to-end smoke"]
#
# Two commands test the suite itself: make mutants [MUTANTS="NAME ..."], make steady [ROUNDS=20].

HOSTS ?=
PAGING ?=
RESUME ?=
ARGS ?=
MUTANTS ?=
ROUNDS ?=
HOMES ?=
SMOKE_ARGS ?= --hosts 5.10+warning --paging npt
SMOKE_TESTS = tests/test_untouched.py tests/test_before_run.py tests/test_after_run.py

BIN := .venv/bin
C_SOURCES = $(wildcard tooling/*/*.c guests/*.c guests/*/*.c selftests/fakes/*.c)
# Every file that begins with a shell's `#!`, so that a new script cannot be forgotten.
SHELL_SCRIPTS = $(shell grep -rlIE '^\#!.*[/ ](ba|da)?sh( |$$)' --exclude-dir='.venv' .ci guests tooling benchmarks selftests 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help setup doctor run matrix check lint types selftests smoke fresh fresh-if-changed benchmark mutants answers steady clean

help: ## show these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

setup: ## install system packages and the Python environment; does nothing if nothing has changed
	@tooling/setup.sh

doctor: setup ## show what this machine can do, what is missing, and how to install it
	@$(BIN)/cpuidlab doctor

run: doctor ## boot the hosts, run every test, print the matrix
	@$(BIN)/avocado run tests/ $(if $(HOSTS),--hosts '$(HOSTS)') $(if $(PAGING),--paging '$(PAGING)') $(ARGS)

matrix: doctor ## test every kernel of the archive in both paging modes; RESUME=last continues the latest job
	@$(BIN)/avocado run tests/ --hosts all $(if $(PAGING),--paging '$(PAGING)') $(if $(RESUME),--resume '$(RESUME)') $(ARGS)

check: lint types selftests smoke fresh-if-changed ## lint, types, selftests, a short end-to-end run; clean roots if the set-up has changed

lint: setup ## ruff, shellcheck, and the C compiler with every warning as an error
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(if $(SHELL_SCRIPTS),shellcheck -x $(SHELL_SCRIPTS))
	@$(foreach source,$(C_SOURCES),gcc -std=gnu11 -O2 -fPIC -Wall -Wextra -Werror -c -o /dev/null $(source) &&) true

types: setup ## mypy --strict
	@$(BIN)/mypy

selftests: setup ## tests of the tooling itself: no virtual machine, no network
	@$(BIN)/pytest

smoke: doctor ## a few end-to-end tests on one host
	@$(BIN)/avocado run $(SMOKE_TESTS) $(SMOKE_ARGS)

fresh: setup ## try set-up, doctor and smoke in clean roots; HOMES="debian-13" for some of them
	@$(BIN)/cpuidlab fresh $(HOMES)

fresh-if-changed: setup smoke
	@$(BIN)/cpuidlab fresh --if-changed

benchmark: doctor ## the speed figures, as ratios measured in one run
	@$(BIN)/python benchmarks/run.py

mutants: doctor ## rebuild KVM with one fault at a time: does a test notice? MUTANTS="NAME ..." for some
	@$(BIN)/cpuidlab mutants $(MUTANTS) --markdown docs/mutants.md

answers: doctor ## write docs/matrix.md from the latest job (make matrix), docs/mutability.md from a new sweep
	@sed '/^- carrier:/d' job-results/latest/matrix.md >docs/matrix.md
	@$(BIN)/cpuidlab sweep --host all
	@cp sweep-results/sweep.md docs/mutability.md

steady: doctor ## run the suite 20 times on kernels without a fault: is there a false alarm? ROUNDS=N
	@$(BIN)/cpuidlab steady $(if $(ROUNDS),--rounds $(ROUNDS))

clean: ## remove what was made in this folder; the cache of kernels and snapshots stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis job-results setup.log tooling/*.egg-info
	@find tooling tests selftests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
