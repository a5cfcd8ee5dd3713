VENV := .venv

.PHONY: run test settings clients soak year

# The shop against its sandbox: http://127.0.0.1:5000
run: $(VENV)/ready
	@exec $(VENV)/bin/python app.py

# The whole suite; what a test needs is skipped by name where it is missing. In two processes more
# than there are cores: tests wait as well as work. One that is done takes tests over from another,
# or the longest would be run alone in the end.
test: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest -n $$(($$(nproc) + 2)) --dist worksteal

# docs/settings.md, from the declarations.
settings: $(VENV)/ready
	$(VENV)/bin/python -m lightningspace.base.settings_page > docs/settings.md

# Programs of others that the tests use, each in an environment of its own, .clients/<name>.
CLIENTS := $(patsubst tests/clients/%,%,$(wildcard tests/clients/*))
clients: $(CLIENTS:%=.clients/%/ready)

# Many generated lives of accounts against the sandbox's panel, other ones at each run; about one
# a second. EXAMPLES=20000 STEPS=80 make soak runs more and longer ones.
soak: $(VENV)/ready
	SOAK=1 $(VENV)/bin/python -m pytest -s --show-capture=no tests/whole/test_stateful.py

# A simulated year of 300 customers, with faults and restarts, hour by hour; it prints the table of
# what became of them and their money. SEED=n makes up another one.
year: $(VENV)/ready
	CUSTOMERS=300 DAYS=365 $(VENV)/bin/python -m pytest -s --show-capture=no tests/whole/test_year.py

# Made anew when the pinned versions change.
$(VENV)/ready: requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	touch $@

.clients/%/ready: tests/clients/%/requirements.txt
	rm -rf $(@D)
	python3 -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

.clients/%/ready: tests/clients/%/package.json tests/clients/%/package-lock.json
	rm -rf $(@D)
	mkdir -p $(@D)
	cp $^ $(@D)
	cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund
	touch $@
