# Everything starts here; each target does what it needs first. The second time costs nothing.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
BELLHOP := $(TARGET)/debug/bellhop
BELLHOP_RELEASE := $(TARGET)/release/bellhop
RELEASE := --release --package bellhop --features bellhop/jemalloc
SLACK := target/plugins/slack.wasm

# How much `make faults` does: quick, full, or all, which plays those pairs of points one by one, too, that are the same
# case. KILLS=1000, SEED=N and SCENARIOS=NAME,NAME go to it as well; pairs of scenarios that are named are all played.
FAULTS ?= full
FAULTS_TEST := $(CARGO) test --quiet --workspace --features bellhop/faults --test faults --

.PHONY: help setup build plugins demo test check simulate generated bench peers faults mutants hostile soak surroundings package package-test

help:
	@echo 'make demo     watch a person join a Slack organisation and leave it again'
	@echo 'make test     build the plugins, run every test, print the counts'
	@echo 'make check    formatting, lints, and the fast tests of what has changed'
	@echo 'make plugins  build the Slack actions to $(SLACK)'
	@echo 'make simulate SEEDS=10000   play so many random worlds, with faults and crashes; SEED=17 plays one and shows it'
	@echo 'make generated COUNT=5000   so many generated people, groups, channels and messages against the strict simulator (SEED=N)'
	@echo 'make bench    measure, in a release build; BEFORE=COMMIT plays each row against that commit; ONLY=ROW,ROW'
	@echo 'make peers    measure Bellhop and Restate in turn, with one load generator; the last line is ours to theirs'
	@echo 'make hostile  send a release build what tries to end, block, grow or fool it (CASES=10000, SEED=N, CASE=NAME)'
	@echo 'make soak     a release build under mixed load for MINUTES=30: what it gathers may not rise'
	@echo 'make surroundings  start a release build in odd surroundings and flood it: streams, folders, clocks, networks (CASE=NAME)'
	@echo 'make faults   end the program at every point, and at random, and compare what Slack has (FAULTS=quick or all, KILLS=1000, SEED=N)'
	@echo 'make mutants  plant one mistake after the other: each has to be caught (ONLY=NAME; SHARD=3/40 for cargo-mutants)'
	@echo 'make package  what a release is, in target/package: Debian package, archive, image, notices, checksums'
	@echo 'make package-test   install and run the package and the image in roots of their own (as root, on Debian)'
	@echo 'make setup    the toolchain for guests; the others do it too'

setup:
	@.ci/setup

build: setup
	$(CARGO) build --quiet --workspace --bin bellhop

# Guests are built in one folder, because what their bindings are made with is built there for the first of them.
PLUGIN_BUILD = CARGO_TARGET_DIR='$(TARGET)/guests' $(1) plugin build plugins/slack --out $(SLACK)
plugins: build
	$(call PLUGIN_BUILD,$(BELLHOP))

demo: plugins
	$(BELLHOP) demo

test: plugins
	@CARGO='$(CARGO)' .ci/test

check: setup
	@CARGO='$(CARGO)' .ci/check

# What is built for these two can be made to die; afterwards the ordinary program is put back, unless BACK is empty.
BACK ?= $(CARGO) build --quiet --workspace --bin bellhop
faults: setup
	@status=0; $(FAULTS_TEST) $(FAULTS) $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(SCENARIOS),--scenarios $(SCENARIOS)) || status=$$?; \
	$(if $(BACK),$(BACK);) exit $$status

# SHARD=3/40 plays the third of forty parts of what cargo-mutants changes in the heart instead.
ifdef SHARD
mutants: setup
	@CARGO='$(CARGO)' .ci/mutants '$(SHARD)'
else
mutants: setup
	@status=0; $(FAULTS_TEST) mutants $(if $(ONLY),--only $(ONLY)) || status=$$?; $(if $(BACK),$(BACK);) exit $$status
endif

# The harness is a test; what it drives is the release build. CASE=NAME plays one case, SEED=N the generated ones of that
# seed, CASES=N so many of them.
hostile: setup
	$(CARGO) build --quiet $(RELEASE)
	$(CARGO) test --quiet -p bellhop --test hostile -- full --program $(BELLHOP_RELEASE) \
	  $(if $(CASES),--cases $(CASES)) $(if $(SEED),--seed $(SEED)) $(if $(CASE),--case '$(CASE)')

MINUTES ?= 30
soak: setup
	$(CARGO) build --quiet $(RELEASE)
	$(CARGO) test --quiet -p bellhop --test soak -- --program $(BELLHOP_RELEASE) --minutes $(MINUTES)

# As `make hostile`. CASE=NAME plays one case.
surroundings: setup
	$(CARGO) build --quiet $(RELEASE)
	$(CARGO) test --quiet -p bellhop --test surroundings_table -- full --program $(BELLHOP_RELEASE) $(if $(CASE),--case '$(CASE)')

generated: export COUNT ?= 5000
generated: setup
	$(CARGO) test --quiet --workspace --lib -- --nocapture tests::generated::

# One thread after the other, so that the tables stand alone.
simulate: export SEEDS ?= 1000
simulate: setup
	$(CARGO) test --quiet --workspace --lib -- \
	  --test-threads=1 --nocapture tests::simulate::$(if $(SEED),worlds)$(if $(TURNS),two_hosts)

# With BEFORE=COMMIT that commit is built in a work tree of its own, and each row is played by both programs in turn.
# ONLY=ROW,ROW measures only these.
bench: setup
	$(if $(BEFORE),CARGO='$(CARGO)' .ci/before '$(BEFORE)')
	$(CARGO) build $(RELEASE)
	$(call PLUGIN_BUILD,$(BELLHOP_RELEASE))
	$(BELLHOP_RELEASE) bench $(if $(BEFORE),--before target/before/bellhop) $(if $(ONLY),--only $(ONLY))

peers: setup
	$(CARGO) build $(RELEASE)
	$(call PLUGIN_BUILD,$(BELLHOP_RELEASE))
	CARGO='$(CARGO)' .ci/peers $(BELLHOP_RELEASE) $(SLACK)

# The tools that it lacks are built first, once, which takes longer than the rest.
package: setup
	@CARGO='$(CARGO)' host/packaging/package

package-test:
	@[ -e target/package/SHA256SUMS ] || $(MAKE) package
	@host/packaging/package-test
