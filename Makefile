# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

.DEFAULT_GOAL := help
N ?= 1
TESTS ?=
BENCH ?=
DEFECTS ?=

.PHONY: help setup test everything lint sanity unit integration fuzz chaos older faults reference defects fleet fleet-down demo demo-clean bench simulation changelog clean

help: ## Say what there is to make
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | expand -t 16

setup: ## Install what is missing (Debian 12 or 13, as root)
	@tests/tools/setup.sh

test: setup ## All tests, and with the second pair of ansible-core and Nix what depends on versions
	@tests/tools/test.sh

everything: setup ## All tests and all of ansible-test sanity with both pairs, and the defects
	@tests/tools/test.sh --everything
	@"$${VENV:-.venv}/bin/python" tests/tools/defects.py

lint: setup ## ruff, mypy, shellcheck, yamllint, ansible-lint, antsibull
	@tests/tools/lint.sh

sanity: setup ## ansible-test sanity
	@tests/tools/sanity.sh

unit: setup ## The unit tests, with this Debian's pair; TESTS='-k name' chooses
	@tests/tools/pytest.sh tests/unit $(TESTS)

integration: setup ## The tests against live machines, with this Debian's pair
	@tests/tools/pytest.sh tests/integration $(TESTS)

fuzz: setup ## Try many more examples of what machines, files and Nix may say
	@NIX_OPS_FUZZ=5000 tests/tools/pytest.sh tests/unit/test_fuzz.py $(TESTS)

chaos: setup ## Try every misbehaviour of a machine in every call, and the faults that take long (an hour)
	@NIX_OPS_CHAOS=yes tests/tools/pytest.sh --numprocesses=1 tests/integration $(TESTS)

older: setup ## Record how this version leaves machines and projects, for the tests of later ones
	@tests/tools/pytest.sh --numprocesses=0 tests/older/record.py $(TESTS)
	@tests/tools/enter.sh tests/tools/pytest.sh --numprocesses=0 tests/older/record.py -k facts

faults: setup ## Write docs/faults.md from what all its tests see
	@NIX_OPS_WRITE_FAULTS=yes tests/tools/pytest.sh $(TESTS)

reference: setup ## Write docs/reference.md from the specifications of the playbooks and roles
	@"$${VENV:-.venv}/bin/python" tests/tools/reference.py

defects: setup ## Show that the tests of what a deploy survives can fail; DEFECTS="clock disk" chooses
	@"$${VENV:-.venv}/bin/python" tests/tools/defects.py $(DEFECTS)

fleet: setup ## Start N live machines
	@tests/fleet/fleet up $$(seq -f machine%g $(N))

fleet-down: ## Stop them all
	@tests/fleet/fleet down --all

demo: ## Deploy examples/ to a live machine, as a user would
	@examples/demo.sh

demo-clean: ## Remove every trace of the demo
	@examples/demo.sh clean

bench: setup ## Compare the deploy with the bare commands; BENCH='--repetitions 9'
	@"$${VENV:-.venv}/bin/python" tests/bench/run $(BENCH)

simulation: setup ## Deploy light machines, up to 1000; BENCH='--machines 100 400'
	@"$${VENV:-.venv}/bin/python" tests/bench/simulate $(BENCH)

changelog: setup ## Bring the entry of the version that galaxy.yml names up to date
	@PATH="$(CURDIR)/.venv/bin:$$PATH" antsibull-changelog release --update-existing --reload-plugins

clean: ## Remove what the tests keep in the checkout
	@rm -rf .ansible .cache .venv tests/output nix-ops-*.tar.gz
