# make demo: see it work.  make test: every test.  make lint: what the tests do not see.  make docs: the documentation.
# ARGS is handed on: make demo ARGS=--no-lab (or --like-2.8, --no-delete, --damaged; regnb demo --help lists all), make test ARGS='-k browser' (ARGS='-n 0': in one process).  PYTHON names the interpreter for .venv.
ARGS ?=
BIN := .venv/bin
export PYTHON

.PHONY: demo test lint docs dist image image-test release bench soak lock clean

demo: .venv/demo.stamp
	@$(BIN)/regnb demo $(ARGS)

test: .venv/test.stamp
	@.ci/install
	$(BIN)/python -m pytest --numprocesses 3 $(ARGS)

lint: .venv/test.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict -p regnb
	$(BIN)/lint-imports
	$(BIN)/biome lint --error-on-warnings
	$(BIN)/djlint regnb --lint --quiet --profile=jinja --ignore=H021
	$(BIN)/nbstripout --verify notebooks/*.ipynb

# The documentation as a site, in build/docs; the tutorials are the notebooks, executed on the sample registry.
docs: .venv/test.stamp
	$(BIN)/python docs/tutorials.py
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs
	@echo "Open build/docs/index.html"

# Wheel and sdist, in dist.
dist: .venv/test.stamp
	rm -rf dist
	$(BIN)/python -m hatchling build

# make image IMAGE=registry.example/ops/regnb:0.1.0, with BASE and CA_BUNDLE as docs/how-to/image.md has them.
image: dist
	@.ci/image $(IMAGE)

# The image over a base of Debian's packages, started and asked; as root, for some minutes.
image-test: export BASE ?= debootstrap
image-test: export BUILDAH_ISOLATION ?= chroot
image-test: dist
	@.ci/image localhost/regnb:test
	REGNB_TESTS_IMAGE=localhost/regnb:test $(BIN)/python -m pytest --numprocesses 0 tests/test_containerfile.py

# make release VERSION=1.2.3
release: .venv/test.stamp
	@.ci/release $(VERSION)

bench: .venv/test.stamp
	@.ci/install
	$(BIN)/python benchmarks/bench.py $(ARGS)
	$(BIN)/python benchmarks/forecast.py

# Predictions against real collections, 1,000 rounds, then random operations through faults, until Ctrl-C or what ARGS
# says: make soak ARGS='--seconds 3600'. Both go on with their logs in build/.
soak: .venv/test.stamp
	@.ci/install
	$(BIN)/python benchmarks/proof.py
	$(BIN)/python benchmarks/soak.py $(ARGS)

# Resolve every dependency anew and write down what was found. Do it with the oldest Python that must work (Debian 12 has
# 3.11.2): what it gets, later ones get too, and not the other way round.
lock:
	rm -rf .venv
	mkdir -p build
	: > constraints.txt
	.ci/venv all test
	$(BIN)/python -m pip freeze --exclude-editable --exclude pip > constraints.txt
	{ sed -n '/^#/p' requirements.txt; $(BIN)/uv pip compile --quiet pyproject.toml --extra all --generate-hashes --universal \
	    --python-version 3.11.2 --constraint constraints.txt --no-header --no-annotate; } > build/requirements.txt
	mv build/requirements.txt requirements.txt
	touch .venv/demo.stamp .venv/test.stamp

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What an editable install copies, and does not read from here.
COPIED := $(shell find share -type f)

.venv/demo.stamp: pyproject.toml constraints.txt $(COPIED)
	@.ci/venv all
	@touch $@

.venv/test.stamp: pyproject.toml constraints.txt $(COPIED)
	@.ci/venv all test
	@touch $@ .venv/demo.stamp
