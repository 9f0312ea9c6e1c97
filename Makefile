# SPDX-License-Identifier: Apache-2.0
#
# The front door: each target prepares the machine, configures and builds as far as it needs, then does its one thing.
# The build itself is Meson's (meson.build); what is here could be typed by hand.
#
# Variables: ARGS (for `dsmil up`), MODEL, NAME and ID (of a new device), PREFIX, DESTDIR, T, RUNS, SEED,
# FUZZ_SECONDS, FUZZ_TARGETS, COVERAGE_MIN, DSMIL_DEPS, DSMIL_JOBS, CC

PREFIX ?= /usr/local
SANITIZER_OPTIONS = -Dwerror=false -Dbuildtype=debugoptimized

.DEFAULT_GOAL := all
.NOTPARALLEL:
.PHONY: all run test sim model coverage valgrind bench fuzz lint sanitize asan tsan clients new-device install setup \
	setup-dev build help clean distclean

all: build ## build everything (the default)

run: build ## build, make keys, start the mesh, show its first light and stay up (MODEL=FILE, ARGS="--port 8088")
	@exec ./build/dsmil up $(if $(MODEL),--model '$(MODEL)') $(ARGS)

test: build ## run all tests (T="name ..." runs some)
	@scripts/test build

sim: setup ## simulate RUNS (200000) channels from SEED (1000000), then whole nodes in virtual time
	@NINJA_TARGETS="tests/sim/sim_session_fake tests/sim/sim_session_real tests/sim/sim_node" scripts/build build
	@build/tests/sim/sim_session_fake --runs $(or $(RUNS),200000) --seed $(or $(SEED),1000000)
	@build/tests/sim/sim_session_real --runs 3000 --seed $(or $(SEED),1000000)
	@build/tests/sim/sim_node --runs 12 --seed $(or $(SEED),1000000)

model: setup-dev ## check the models of the handshake and the channel with spin
	@tests/model/run build-model

coverage: setup-dev ## which lines of codec, session and crypto the tests run; fails below COVERAGE_MIN (95) percent
	@scripts/coverage build-coverage

valgrind: setup-dev ## run the unit tests of the protocol's core under memcheck
	@scripts/valgrind build

sanitize: asan tsan ## run all tests under AddressSanitizer + UBSan, then under ThreadSanitizer

asan: setup ## the first half of sanitize
	@scripts/build build-asan $(SANITIZER_OPTIONS) -Db_sanitize=address,undefined -Dc_args=-fno-sanitize-recover=undefined
	@scripts/test build-asan --timeout-multiplier 4

tsan: setup ## the second half of sanitize
	@scripts/build build-tsan $(SANITIZER_OPTIONS) -Db_sanitize=thread
	@scripts/test build-tsan --timeout-multiplier 6

fuzz: setup-dev ## run each fuzz target for FUZZ_SECONDS (20)
	@CC=clang scripts/build build-fuzz -Dfuzz=true -Dtests=false
	@scripts/fuzz build-fuzz

bench: setup ## measure, in a release build
	@scripts/build build-bench -Dbuildtype=release -Dtests=false
	@meson test -C build-bench --no-rebuild --benchmark --verbose
	@mkdir -p build/bench && cp build-bench/bench/*.json build/bench/

lint: setup-dev ## check the rules of the tree: include direction, banned calls, lengths, registries, layout
	@python3 -B tools/lint/lint_test.py
	@tools/lint/run

new-device: ## begin a device: make new-device NAME=crypto_ai ID=53
	@python3 -B tools/new_device.py '$(NAME)' '$(ID)'

clients: build ## run real OpenAI clients against the gateway (fetches them from their registries)
	@if [ -x tests/clients/run ]; then tests/clients/run; else echo "no client tests in this tree"; fi

install: build ## install under PREFIX (/usr/local), DESTDIR honoured
	@meson configure build -Dprefix='$(PREFIX)'
	@meson install -C build $(if $(DESTDIR),--destdir '$(DESTDIR)')

setup: ## install what the build needs and is missing (silent when nothing is)
	@scripts/setup

setup-dev: ## the same with what lint, sanitizers and fuzzing need
	@scripts/setup --dev

build: setup
	@scripts/build build
	@[ -e build/dsmil ] || ln -sf cli/dsmil build/dsmil

clean: ## remove what these targets built
	rm -rf build build-asan build-tsan build-fuzz build-bench build-coverage build-model build-ci

distclean: clean ## the same and the private OpenSSL
	rm -rf .deps

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile
