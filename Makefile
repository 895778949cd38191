# Needs make, a Python from 3.11 on, and a package index; nothing else. `make` alone lists the commands.

SHELL = /bin/sh
VENV = .venv
RUNNABLE = -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1

# The first that really runs: a name on the PATH may be a shim for a version that is not there.
PYTHON := $(shell for python in python3.13 python3 python3.14 python3.12 python3.11; do \
    "$$python" $(RUNNABLE) && echo "$$python" && break; done)
PYTHON_VERSION := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

# Made anew when the requirements or the Python have changed.
READY = $(VENV)/ready-$(PYTHON_VERSION)
BIN = $(VENV)/bin
CHECKOV = $(VENV)/checkov
CLIENTS = $(VENV)/clients
POSTGRES15 ?= /usr/lib/postgresql/15
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

export SAM_CLI_TELEMETRY = 0
export AWS_DEFAULT_REGION = us-east-1

.PHONY: help run demo webhooks shell test test-postgres15 test-clients lint format types validate build containers move bench \
    bench-scale openapi screenshots passwords lock clean node-and-chromium

help: ## List these commands
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; \
	    do printf '%-21s %s\n' "$$name" "$$text"; done

run: $(READY) ## Run the whole API on this machine, at http://127.0.0.1:3000 or PORT=
	@exec $(BIN)/python -m local

demo: $(READY) ## Fill the running API with invented people, and say what to try
	@$(BIN)/python -m tools.demo

webhooks: $(READY) ## Show the webhooks of the first invented person as they arrive
	@$(BIN)/python -m tools.demo.receiver

shell: $(READY) ## Open psql at the database of the running API, as its owner
	@exec $(BIN)/python -m tools.shell

# In this order, and not reordered: the longest files begin first.
test: lint types validate ## All checks and all tests
	@echo "Running the tests ..."
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/e2e tests/integration tests/unit

test-postgres15: $(READY) ## The tests of the database on PostgreSQL 15; needs Debian's postgresql-15
	@TEST_POSTGRES=$(POSTGRES15) $(BIN)/python -m pytest -n 2 --dist loadfile tests/integration

test-clients: node-and-chromium $(CLIENTS)/ready ## The same API through a browser and generated clients; needs Node.js and Chromium
	@CLIENTS=$(CLIENTS) CHROMIUM="$(CHROMIUM)" $(BIN)/python -m pytest tests/clients

lint: $(READY) ## Check style and format
	@echo "Checking style and format ..."
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "\`make format\` puts the format right." >&2; exit 1; }

format: $(READY) ## Put format and imports right
	@$(BIN)/ruff check --quiet --fix --select I .
	@$(BIN)/ruff format .

types: $(READY) ## Check types
	@echo "Checking types ..."
	@$(BIN)/mypy --no-error-summary functions layers/common/healthcare local tools

validate: $(READY) $(CHECKOV)/ready ## Check template.yaml
	@echo "Checking template.yaml ..."
	@$(BIN)/sam validate --lint > $(VENV)/validate.log 2>&1 || { cat $(VENV)/validate.log >&2; exit 1; }
	@$(BIN)/cfn-lint -r us-east-1 -r eu-central-1 -r ap-southeast-2 -- template.yaml
	@$(CHECKOV)/bin/checkov --file template.yaml --framework cloudformation --skip-download --compact --quiet \
	    > $(VENV)/checkov.log 2>&1 || { cat $(VENV)/checkov.log >&2; exit 1; }

build: $(READY) ## Build what `sam deploy` uploads, for Lambda's processor and with byte code
	@$(BIN)/python -m tools.build

containers: $(READY) ## Prepare `sam local start-api`, which needs Docker, beside `make run`
	@$(BIN)/python -m tools.containers

move: $(READY) ## Take the database of the original API, FROM=postgresql://..., into this one; docs/moving.md
	@$(BIN)/python -m tools.move

bench: $(READY) ## Measure it beside FastAPI and Express, which takes ten minutes and Node.js; OPTIONS=--quick
	@$(BIN)/python -m tests.benchmarks $(OPTIONS)
	@$(BIN)/python -m tests.benchmarks.booking

bench-scale: $(READY) ## Measure it with a thousand to five million patients, which takes ten minutes and 15 GB
	@$(BIN)/python -m tests.benchmarks.scale $(or $(OPTIONS),--sizes 1000 100000 5000000)

openapi: $(READY) ## Write openapi.json, the problem pages' texts, the sample events and docs/requests.http anew
	@$(BIN)/python -m tools.openapi

screenshots: node-and-chromium $(CLIENTS)/ready ## Take docs/screenshots anew; needs Node.js and Chromium
	@CLIENTS=$(CLIENTS) CHROMIUM="$(CHROMIUM)" SCREENSHOTS="$(CURDIR)/docs/screenshots" \
	    $(BIN)/python -m pytest tests/clients -k browser

passwords: $(READY) ## Write the list of common passwords anew
	@$(BIN)/python -m tools.passwords

lock: ## Write constraints.txt anew; with the oldest Python, so that it holds for all
	@rm -rf $(VENV)-lock
	@$(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip install -qq --disable-pip-version-check --upgrade setuptools wheel
	@$(VENV)-lock/bin/python -m pip install -qq --disable-pip-version-check -r requirements-dev.txt
	@{ echo "# Made by \`make lock\`: every package that requirements-dev.txt brings."; \
	    $(VENV)-lock/bin/python -m pip freeze -qq --disable-pip-version-check --all --exclude pip; } > constraints.txt
	@rm -rf $(VENV)-lock

clean: ## Remove the state of the local run, the virtual environment and caches
	@if [ -n "$(PYTHON)" ]; then $(PYTHON) -m tools.clean; fi
	@rm -rf $(VENV) $(VENV)-lock .aws-sam .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@rm -rf tests/clients/node_modules tests/clients/generated
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements-dev.txt constraints.txt layers/common/requirements.txt
	@"$(PYTHON)" $(RUNNABLE) || { echo "This needs Python 3.11 or newer: install it, or name one with PYTHON=" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null || { \
	    echo "$(PYTHON) has no venv module: install it, on Debian and Ubuntu with \`apt install python$(PYTHON_VERSION)-venv\`." >&2; \
	    exit 1; }
	@echo "Creating $(VENV) with Python $(PYTHON_VERSION) ..."
	@"$(PYTHON)" -m venv --clear $(VENV)
	@echo "Installing dependencies (about a minute) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements-dev.txt -c constraints.txt || { \
	    echo "The packages could not be installed; the lines above say why. Behind a proxy, pip reads HTTPS_PROXY; for" \
	    "another index, PIP_INDEX_URL. Then try again." >&2; exit 1; }
	@touch $@

node-and-chromium:
	@node -e 'const [major, minor] = process.versions.node.split("."); process.exit(+(major * 100 + +minor < 2019))' 2>/dev/null \
	    && command -v npm >/dev/null && test -x "$(CHROMIUM)" || { \
	    echo "This needs Node.js 20.19 or newer with npm, and Chromium: install them, or name a Chromium with CHROMIUM=" >&2; \
	    exit 1; }

$(CLIENTS)/ready: $(READY) requirements-clients.txt tests/clients/package-lock.json
	@echo "Installing what the clients need (half a minute) ..."
	@"$(PYTHON)" -m venv --clear $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install -qq --disable-pip-version-check -r requirements-clients.txt
	@cd tests/clients && npm ci --loglevel=error >/dev/null
	@touch $@

.DEFAULT:
	@echo "There is no \`make $@\`; \`make\` alone lists the commands." >&2; exit 1

$(CHECKOV)/ready: $(READY) requirements-checkov.txt
	@echo "Installing checkov (half a minute) ..."
	@"$(PYTHON)" -m venv --clear $(CHECKOV)
	@$(CHECKOV)/bin/python -m pip install -qq --disable-pip-version-check -r requirements-checkov.txt
	@touch $@
