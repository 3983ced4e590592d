# counterlens is a mapped package (setup.cfg), which static tools do not follow: they read a link farm.
PYTHON ?= python
FARM = .typecheck/counterlens

.PHONY: test lint typecheck docs farm

test:
	$(PYTHON) -m pytest -n auto

lint:
	ruff check .
	ruff format --check .

farm:
	mkdir -p $(FARM)
	for name in core plugins cli benchmarks; do ln -sfn ../../$$name $(FARM)/$$name; done
	for name in api/*; do ln -sfn ../../$$name $(FARM)/$${name#api/}; done

typecheck: farm
	cd .typecheck && MYPYPATH=. $(PYTHON) -m mypy --config-file ../pyproject.toml -p counterlens

docs:
	$(PYTHON) -m counterlens.cli.reference docs/reference
