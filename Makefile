# `make demo` and `make test` are all a newcomer needs; each sets up what it uses.
#
#   make demo                                   classify synthetic pieces
#   make demo FILES="a.mp3 b.flac"              classify your own music
#   make demo FILES="'two words.mp3' ~/Music"   quote a name with spaces once more

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
NEWEST := .venv-newest

# Many small matrix products: threads would only fight over the cores.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help demo test lowest newest alone lint docs bench clean
# With `make -j`, several pips would install into the same environment at once.
.NOTPARALLEL:

help:  ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-8s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/core.stamp  ## Classify music: FILES="a.mp3 b.flac", or synthetic pieces without
ifdef FILES
	@$(BIN)/tonearm classify $(FILES)
else
	@$(BIN)/python -m tonearm.synth demo > /dev/null
	@echo 'No FILES given, so these are synthetic pieces that a program rendered, in the style'
	@echo 'their names tell. They show that everything works, not how good the model is.'
	@echo
	@$(BIN)/tonearm classify demo
	@echo
	@echo 'Your own music:  make demo FILES="song.mp3 album/"'
	@echo 'A space in it:   make demo FILES="'"'my song.mp3'"'"'
	@echo 'Without make:    $(BIN)/tonearm classify song.mp3'
endif

test: $(VENV)/dev.stamp  ## Run the tests
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS)

lowest: $(LOWEST)/dev.stamp  ## Run the tests with the oldest versions allowed (takes gigabytes)
	$(ONE_THREAD) $(LOWEST)/bin/python -m pytest -n $(JOBS)

newest:  ## Run the tests with what pip takes where nothing is said (takes gigabytes)
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --editable '.[dev]'
	$(ONE_THREAD) $(NEWEST)/bin/python -m pytest -n $(JOBS)

# An extra and what it is for. `train` is left out for its gigabytes.
ALONE := plot:matplotlib,tonearm.explanation_plot report:tonearm.evaluation.report \
	learn:onnx,tonearm.library.head,tonearm.baselines.classical \
	data:mirdata,pyarrow.parquet serve:uvicorn,tonearm.serving \
	cluster:ray.data,fsspec,pyarrow,tonearm.library.cluster beets:beetsplug.tonearm

alone:  ## Install each extra by itself, as `newest` does, and import what it is for
	@for each in $(ALONE); do \
		$(PYTHON) -m venv --clear $(NEWEST) && \
		$(NEWEST)/bin/python -m pip install --quiet ".[$${each%%:*}]" && \
		$(NEWEST)/bin/python -c "import $${each#*:}" || exit 1; \
		echo "$${each%%:*}: complete"; \
	done

lint: $(VENV)/dev.stamp  ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/docs.stamp  ## Build the pages of docs/ into site/
	$(BIN)/mkdocs build --strict --quiet
	@echo 'site/index.html'

bench: $(VENV)/dev.stamp  ## Measure: against librosa, decoding alone, the imports alone
	@for script in benchmarks/classify.py benchmarks/decode.py benchmarks/frontend.py \
		benchmarks/scan.py; do \
		echo "== $$script"; $(ONE_THREAD) $(BIN)/python "$$script" || exit 1; \
	done

clean:  ## Remove what the other targets made, .venv included
	rm -rf $(VENV) $(LOWEST) $(NEWEST) demo site build dist
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was installed from, or the target installs again. Once it is,
# nothing here needs the network.
$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || \
		{ echo "Tonearm needs Python 3.11 to 3.14, $(PYTHON) is $$($(PYTHON) --version 2>&1):" \
		"make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/core.stamp: pyproject.toml constraints.txt $(VENV)/python.stamp
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt $(VENV)/python.stamp
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/core.stamp

# What pyproject.toml says is at least needed, as exactly that: "av>=17.1" becomes av==17.1.
$(LOWEST)/dev.stamp: pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	grep -oE '"[a-z0-9-]+(\[[a-z]+\])?>=[0-9.]+' $< | sed -E 's/"([a-z0-9-]+).*>=/\1==/' | sort -u \
		> $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --constraint $(LOWEST)/constraints.txt \
		--editable '.[dev]'
	@touch $@

$(VENV)/docs.stamp: pyproject.toml $(VENV)/python.stamp
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@ $(VENV)/core.stamp
