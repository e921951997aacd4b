# make demo   set up a virtual environment, train a language model on real text, sample from it, draw it
# make quick  the tests to run while editing: ops, graph, rewrites, optimisers, decoding, a cell of each family
# make test   set it up with the test tools, and run the tests
# make gallery draw every view of six networks: docs/gallery/index.html
# make slow   more random cells than there is time for each day
# make cuda   all tests of compiled cells on CUDA kernels, which g++ compiles and the CPU runs: a quarter of an hour
# make mutants break lines of the library one by one: a test of each part must notice
# make lint   style, types, and the direction of the imports
# make docs   the documentation as a site, docs/_build/html/index.html: pages, notebooks that run, a reference,
#             and, where npm is, the library in the browser: python -m http.server -d docs/_build/html
# make bench  the engines beside their peers (installs them: about 1 GB)
# make gpu    on a GPU, in six minutes: tests, training, and times beside PyTorch's (installs CuPy and PyTorch)
#
# make demo DEVICE=gpu   the same on a GPU; CUDA=12 here and for make gpu if the driver is one of CUDA 12

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEVICE ?= $(or $(TINYGRAD_RNN_DEVICE),cpu)
CUDA   ?= 13

demo: $(VENV)/installed-demo $(if $(filter-out cpu,$(DEVICE)),$(VENV)/installed-cupy)
	$(BIN)/tinygrad-rnn train lm --device $(DEVICE) --out runs/demo $(if $(wildcard runs/demo/config.json),--resume)
	$(BIN)/tinygrad-rnn sample runs/demo --prompt "The statement " --length 300 --temperature 0.5 --seed 2
	$(BIN)/tinygrad-rnn score runs/demo "The function returns a value."

QUICK := $(addsuffix .py,$(addprefix tests/test_,graph ops passes verify optim decode compiler))
FAMILY := RNN or LSTM or GRU or peepholes or nested or attention

quick: $(VENV)/installed-test
	$(BIN)/python -m pytest -q -n 2 $(QUICK) \
		-k "not test_compiler or (equals_eager_in_values and numpy and float64 and ($(FAMILY)))"

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -q -n auto

gallery: $(VENV)/installed-demo
	$(BIN)/tinygrad-rnn draw --layers 2 --steps 4 --out docs/lstm.svg
	$(BIN)/python examples/gallery.py docs/gallery

slow: $(VENV)/installed-test
	$(BIN)/python -m pytest -q -n auto -m slow

COMPILED := $(addsuffix .py,$(addprefix tests/test_,compiler states lengths layers_over_time attention variants \
	recording_key dtypes_of_steps places_of_values random_cells))

cuda: $(VENV)/installed-test
	PYTHONPATH=tests $(BIN)/python -m pytest -q -n auto -p cuda_plugin -m "slow or not slow" $(COMPILED) -k llvm

mutants: $(VENV)/installed-test
	$(BIN)/python tests/mutants.py

oracle: $(VENV)/installed-oracle
	$(BIN)/python -m pytest -q -m oracle

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html
	$(BIN)/python docs/browser/build.py docs/_build/html/browser

bench: $(VENV)/installed-peers
	$(BIN)/python benchmarks/eager.py
	$(BIN)/python benchmarks/recurrent.py
	$(BIN)/python benchmarks/drawing.py

gpu: $(VENV)/installed-gpu
	$(BIN)/python benchmarks/gpu.py

$(VENV)/installed-demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[plot,fast]"
	touch $@

$(VENV)/installed-test: $(VENV)/installed-demo
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[plot,fast,bleu,examples,dev]"
	touch $@

$(VENV)/installed-docs: $(VENV)/installed-demo
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[plot,fast,docs]"
	touch $@

$(VENV)/installed-oracle: $(VENV)/installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check "torch==2.13.0" "keras>=3.9"
	touch $@

$(VENV)/installed-cupy: $(VENV)/installed-demo
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[cuda$(CUDA)]"
	touch $@

$(VENV)/installed-gpu: $(VENV)/installed-oracle $(VENV)/installed-cupy
	$(BIN)/pip install --quiet --disable-pip-version-check nvidia-nccl-cu$(CUDA)
	touch $@

$(VENV)/installed-peers: $(VENV)/installed-oracle
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[peers]"
	touch $@

.PHONY: demo quick test gallery slow cuda mutants oracle lint docs bench gpu
