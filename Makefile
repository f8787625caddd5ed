# Everything starts here; each target does what it needs first. The second time costs nothing.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
BELLHOP := $(TARGET)/debug/bellhop
BELLHOP_RELEASE := $(TARGET)/release/bellhop
SLACK := target/plugins/slack.wasm

# How much `make faults` does: full or quick. KILLS=1000 and SEED=N go to it as well.
FAULTS ?= full
FAULTS_TEST := $(CARGO) test --quiet --workspace --features bellhop/faults --test faults --

.PHONY: help setup build plugins demo test check bench faults mutants

help:
	@echo 'make demo     watch a person join a Slack organisation and leave it again'
	@echo 'make test     build the plugins, run every test, print the counts'
	@echo 'make check    formatting, lints and the fast tests'
	@echo 'make plugins  build the Slack actions to $(SLACK)'
	@echo 'make bench    measure, in a release build'
	@echo 'make faults   end the program at every point, and at random, and compare what Slack has (FAULTS=quick, KILLS=1000, SEED=N)'
	@echo 'make mutants  plant one mistake after the other: each has to be caught'
	@echo 'make setup    the toolchain for guests; the others do it too'

setup:
	@.ci/setup

build: setup
	$(CARGO) build --quiet --workspace --bin bellhop

plugins: build
	$(BELLHOP) plugin build plugins/slack --out $(SLACK)

demo: plugins
	$(BELLHOP) demo

test: plugins
	@CARGO='$(CARGO)' .ci/test

check: setup
	@CARGO='$(CARGO)' .ci/lint
	$(CARGO) test --quiet --workspace --lib --bins

# What is built for these two can be made to die; afterwards the ordinary program is put back.
faults: setup
	@status=0; $(FAULTS_TEST) $(FAULTS) $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) || status=$$?; \
	$(CARGO) build --quiet --workspace --bin bellhop; exit $$status

mutants: setup
	@status=0; $(FAULTS_TEST) mutants || status=$$?; $(CARGO) build --quiet --workspace --bin bellhop; exit $$status

bench: setup
	$(CARGO) build --release -p bellhop
	$(BELLHOP_RELEASE) plugin build plugins/slack --out $(SLACK)
	$(BELLHOP_RELEASE) bench
