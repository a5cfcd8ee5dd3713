VENV := .venv
# The Python to make environments with: make test PYTHON=/usr/bin/python3
PYTHON ?= python3

.PHONY: run test quick settings clients lock soak year day screenshots

# The shop against its sandbox: http://127.0.0.1:5000, or make run PORT=5010
run: $(VENV)/run
	@exec $(VENV)/bin/python app.py

# The whole suite. A test whose program is missing is skipped, and says what it needs. There are two
# processes more than cores, since tests also wait, and a process that is done takes over tests from
# the others. Python writes its bytecode, or each process would compile everything again.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(VENV)/bin/python -m pytest --dist worksteal
test: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PYTEST) -n $$(($$(nproc) + 3))

# For while you work: the tests of rules, pages and what is below them, on SQLite.
quick: $(VENV)/ready
	TEST_POSTGRESQL_URL= $(PYTEST) -n $$(($$(nproc) + 1)) tests/base tests/rules tests/visitors tests/pages

# Write docs/settings.md and deploy/lightning-space.env from the declarations.
settings: $(VENV)/ready
	$(VENV)/bin/python -m lightningspace.base.settings_page > docs/settings.md
	$(VENV)/bin/python -m lightningspace.base.settings_page env > deploy/lightning-space.env

# Other people's programs that tests use, each in an environment of its own, .clients/<name>.
CLIENTS := $(patsubst tests/clients/%,%,$(wildcard tests/clients/*))
clients: $(CLIENTS:%=.clients/%/ready)

# Many generated requests to the API, then many generated lives of accounts against the sandbox's
# panel, about one a second and different ones in each run. EXAMPLES=20000 STEPS=80 make soak runs
# more and longer ones.
soak: $(VENV)/ready
	SOAK=1 $(VENV)/bin/python -m pytest -s --show-capture=no \
		-k "schemathesis or ends_up_as_it_is_wanted or two_processes or a_kill" \
		tests/api/test_openapi.py tests/whole/test_stateful.py tests/gate/test_weather.py

# A simulated year of 300 customers, hour by hour, with faults and restarts. It prints a table of
# what became of them and their money. SEED=n simulates another year.
year: $(VENV)/ready
	CUSTOMERS=300 DAYS=365 $(VENV)/bin/python -m pytest -s --show-capture=no tests/whole/test_year.py

# 24 simulated hours of 2,000 customers in 24 minutes, with the programs as in production: on SQLite
# and then on PostgreSQL, or `make day DATABASES=postgresql`. As root it fills disks as well.
DATABASES := sqlite postgresql
day: $(VENV)/ready
	for database in $(DATABASES); do DAY=1 DATABASE=$$database tests/with-postgresql \
		$(VENV)/bin/python -m pytest -s --show-capture=no tests/day || exit 1; done

# Pictures of every page in every state, light and dark, at 360 and 1280 px wide, in a few minutes.
# screenshots/index.html shows them all; screenshots/shop.webp is the README's picture.
screenshots: $(VENV)/ready
	SCREENSHOTS=screenshots $(VENV)/bin/python -m pytest -s --show-capture=no tests/whole/test_tour.py

# Both are updated when the pinned versions change.
$(VENV)/run: requirements-sandbox.txt
	@echo "Installing what the shop and its sandbox need into $(VENV), once; it takes a minute or two."
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --requirement $<
	@touch $@

$(VENV)/ready: requirements-dev.txt
	@echo "Installing what the shop and its tests need into $(VENV), once; it takes some minutes."
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --requirement $<
	@touch $@ $(VENV)/run

PIP_INSTALL := $(VENV)/bin/pip install --disable-pip-version-check --require-hashes

# Write the exact versions and hashes of everything that pyproject.toml needs, for every Python from
# requires-python on. Locked versions stay unless pyproject.toml forbids them; `make lock
# UPGRADE=--upgrade` upgrades all, `UPGRADE="--upgrade-package flask"` one.
LOCK = .lock/bin/uv pip compile pyproject.toml --quiet --universal --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" $(UPGRADE)
lock: .lock/ready
	$(LOCK) --output-file requirements.txt
	$(LOCK) --extra sandbox --constraints requirements.txt --output-file requirements-sandbox.txt
	$(LOCK) --extra dev --constraints requirements-sandbox.txt --output-file requirements-dev.txt

# uv has an environment of its own: neither the shop nor its tests need it.
.lock/ready: Makefile
	$(PYTHON) -m venv .lock
	.lock/bin/pip install --quiet --disable-pip-version-check uv==0.13.9
	@touch $@

.clients/%/ready: tests/clients/%/requirements.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

.clients/%/ready: tests/clients/%/package.json tests/clients/%/package-lock.json
	rm -rf $(@D)
	mkdir -p $(@D)
	cp $^ $(@D)
	cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund
	touch $@
