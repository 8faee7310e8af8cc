# Everything a developer runs. `make test` is what CI runs before its own checks.
CARGO ?= cargo
PYTHON ?= python3
# Tests and the demo run the code as deployed, without the minutes that fat LTO takes.
PROFILE ?= ci
BIN := target/$(PROFILE)
ZIPS := target/zips

.PHONY: help demo demo-full endurance test bench fuzz mutations test-long lint build functions clean-embedded

help: ## What there is.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

functions: ## Build the two functions and the command.
	$(CARGO) build --profile $(PROFILE) --bin ingest --bin merge --bin strait

demo: functions ## A small shop's history through the built functions into an embedded BigQuery, compared row by row.
	$(BIN)/strait demo

# What it needs beside cargo, gcc and make: mariadb-server, postgresql-15 and Python 3.13.
CHANGES ?= 6000
RATE ?= 200
demo-full: ## Real MariaDB and PostgreSQL, a real broker, the built functions, each table compared with its database (CHANGES=1000000 RATE=0, SETTINGS="wanted other defaults", KILLS=50).
	$(CARGO) build --profile $(PROFILE) --workspace --bins
	$(BIN)/demo-full --changes $(CHANGES) --rate $(RATE) $(addprefix --settings ,$(SETTINGS)) $(addprefix --kill-poller ,$(KILLS)) $(DEMO_FULL)

endurance: ## The same for MINUTES=60, while pollers, functions, DMS tasks, the embedded BigQuery and the broker are killed at random.
	$(CARGO) build --profile $(PROFILE) --workspace --bins
	$(BIN)/demo-full --endurance $(or $(MINUTES),60) --rate $(RATE) $(addprefix --settings ,$(SETTINGS)) $(DEMO_FULL)

# Processes of tests side by side (tests/run.py says why), each with so many tests at once. WORDS="schedules types" for some of them.
TEST_JOBS ?= 2
TEST_THREADS ?= 4
test: functions ## Everything that can be checked on one machine.
	$(PYTHON) events/generate.py --check
	$(PYTHON) tests/mutations/run.py --check
	CARGO="$(CARGO)" $(PYTHON) tests/run.py --profile $(PROFILE) --jobs $(TEST_JOBS) --threads $(TEST_THREADS) $(WORDS)

# The functions are measured as deployed, out of the zips, which are built when a source is newer. The alternative in Rust is built by
# itself, so that no feature that Strait asks of a shared crate makes it another one than its documentation's.
SOURCES := Cargo.toml Cargo.lock $(shell find shared/src functions -name '*.rs' -o -name Cargo.toml)
bench: ## What the functions cost, beside the alternatives: about 15 minutes and the release build (SHORT=1: whether it works; TABLES=500 for more tables).
ifdef SHORT
	$(CARGO) build --profile $(PROFILE) --workspace --bins
	$(BIN)/strait-bench --short --functions $(BIN) --alternatives $(BIN)
else
	@for source in $(SOURCES); do [ $(ZIPS)/merge.zip -nt $$source ] || { $(MAKE) build; break; }; done
	$(CARGO) build --release $(FOR_LAMBDA) -p strait-bench-insert-all
	$(CARGO) build --release $(FOR_LAMBDA) -p strait-bench
	@mkdir -p target/bench/functions
	@for function in ingest merge; do \
	  (cd target/bench/functions && $(PYTHON) -m zipfile -e ../../../$(ZIPS)/$$function.zip . && mv bootstrap $$function && chmod +x $$function) || exit 1; \
	done
	target/$(TARGET)/release/strait-bench --functions target/bench/functions --alternatives target/$(TARGET)/release --zips $(ZIPS) $(addprefix --tables ,$(TABLES))
endif

fuzz: ## libFuzzer over every reader and writer of text, MINUTES=10 each (TARGETS="names event" for some of them).
	MINUTES=$(or $(MINUTES),10) CARGO=$(CARGO) ./fuzz/run $(TARGETS)

# How long, and how it is split: the statements get most of it, for they are what the algorithm's check cannot see.
BUDGET ?= 30m
test-long: ## Random schedules on all levels for BUDGET (30m, 1800s): histories, records, wrong.
	BUDGET=$(BUDGET) CARGO="$(CARGO)" PROFILE=$(PROFILE) $(PYTHON) tests/long.py

# Java 17, mariadb-server and postgresql are Debian's; where one is missing this says so and ends well.
DEBEZIUM := target/debezium
$(DEBEZIUM)/installed: tests/debezium/requirements.txt
	$(PYTHON) -m venv $(DEBEZIUM)/venv
	$(DEBEZIUM)/venv/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

.PHONY: debezium-real
debezium-real: functions ## Real events: every type in MariaDB and PostgreSQL, captured by Debezium, through the functions, compared value by value (about five minutes).
	@mkdir -p $(DEBEZIUM); if $(MAKE) --no-print-directory $(DEBEZIUM)/installed >$(DEBEZIUM)-install.log 2>&1; then \
	  STRAIT=$(BIN)/strait $(DEBEZIUM)/venv/bin/python tests/debezium/real.py $(DEBEZIUM)/events $(VARIANTS) 2>$(DEBEZIUM)/connector.log; status=$$?; \
	else status=77; fi; \
	case $$status in \
	  0) STRAIT_DEBEZIUM_EVENTS=$(DEBEZIUM)/events $(CARGO) test --profile $(PROFILE) --workspace --test end_to_end debezium_real:: -- --nocapture ;; \
	  77) echo "SKIPPED: Debezium cannot be had here:"; grep -h SKIPPED $(DEBEZIUM)/connector.log 2>/dev/null || tail -3 $(DEBEZIUM)-install.log ;; \
	  *) grep -v ' \[INFO\] \|^   ' $(DEBEZIUM)/connector.log | tail -20; exit $$status ;; \
	esac

mutations: ## Break each rule of the product in turn, in a copy, and expect its test to notice (ONLY=23 for one case).
	CARGO=$(CARGO) $(PYTHON) tests/mutations/run.py $(addprefix --only ,$(ONLY))

lint: ## Formatting, lints, dependencies, one TLS provider.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --profile $(PROFILE) --workspace --all-targets -- -D warnings
	$(CARGO) fetch --locked --quiet
	$(CARGO) deny --offline check bans licenses sources
	./.ci/one-tls-provider

# For the processors that Lambda has, as cargo lambda does for `sam build`: x86_64 with AVX2 (AWS, "Using AVX2 vectorization in Lambda"), Graviton2.
TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')
FOR_LAMBDA = --target $(TARGET) --config 'target.$(TARGET).rustflags = ["-Ctarget-cpu=$(if $(filter aarch64-%,$(TARGET)),neoverse-n1,haswell)"]'
build: ## Deployable zips, one per function (TARGET=aarch64-unknown-linux-gnu for Graviton, with its toolchain installed).
	$(CARGO) build --release $(FOR_LAMBDA) -p strait-ingest -p strait-merge
	@mkdir -p $(ZIPS)
	@for function in ingest merge; do \
	  cp target/$(TARGET)/release/$$function $(ZIPS)/bootstrap && \
	  (cd $(ZIPS) && rm -f $$function.zip && $(PYTHON) -m zipfile -c $$function.zip bootstrap && ls -l $$function.zip) || exit 1; \
	done; rm -f $(ZIPS)/bootstrap

# sam, and cargo lambda with its zig, which links for Amazon Linux's C library wherever this runs.
.PHONY: sam-validate sam-build
SAM := target/sam/bin
ARCHITECTURE ?= x86_64
target/sam/installed: tests/template/sam-requirements.txt
	$(PYTHON) -m venv target/sam
	$(SAM)/pip install --quiet --disable-pip-version-check -r $<
	touch $@

SAM_RUN = PATH="$(abspath $(SAM)):$$PATH" SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-central-1 $(SAM)/sam

sam-validate: target/sam/installed ## SAM's own validation of the template, with its linter.
	$(SAM_RUN) validate --lint --template template.yaml

sam-build: sam-validate ## What `sam deploy` would upload, with sizes (ARCHITECTURE=arm64 for Graviton, with its target installed; about ten minutes).
	$(SAM_RUN) build --template template.yaml --build-dir target/sam-build --parameter-overrides Architecture=$(ARCHITECTURE)
	@cd target/sam-build && for function in IngestFunction MergeFunction; do \
	  rm -f $$function.zip && $(PYTHON) -m zipfile -c $$function.zip $$function/bootstrap && ls -l $$function/bootstrap $$function.zip || exit 1; \
	done

clean-embedded: ## Remove the embedded BigQuery's virtual environment.
	rm -rf target/*/embedded-bigquery target/embedded-bigquery
