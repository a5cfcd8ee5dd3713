VENV := .venv

.PHONY: run test

# The shop against its sandbox: http://127.0.0.1:5000
run: $(VENV)/ready
	@exec $(VENV)/bin/python app.py

# The whole suite; what a test needs is skipped by name where it is missing.
test: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest -n auto

# Made anew when the pinned versions change.
$(VENV)/ready: requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	touch $@
