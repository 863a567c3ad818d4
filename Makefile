# The commands of the course. `make lab` opens it, `make test` checks everything; whatever needs
# the Python environment in .venv makes it first, from pyproject.toml and constraints.txt.

PYTHON  :=
LAB_ARGS :=
BENCH :=
WORKERS := 2
SANITIZE := tests/sanitize.cfg

.PHONY: help setup lab test style types unit nbval colab wheel notebooks bench soak clean
.NOTPARALLEL:

help:
	@echo 'make lab        set up, and open JupyterLab on lesson 00'
	@echo 'make test       set up, and check style, types, code and all notebooks'
	@echo 'make colab      run the notebooks and the widgets with the versions that Colab has'
	@echo 'make wheel      build a wheel, and run lesson 00 on it in an empty environment'
	@echo 'make notebooks  build the notebooks anew from notebooks/src and exercises/src'
	@echo 'make bench      time the package beside its peers on this machine, in about 20 minutes'
	@echo 'make soak       interrupt 5,000 steps at random moments, and look what is lost'
	@echo 'make setup      only make .venv, or bring it up to date'
	@echo 'make clean      remove .venv and all caches'
	@echo
	@echo 'Options: PYTHON=python3.12  the Python that a new .venv is made from'
	@echo '         LAB_ARGS=--no-browser  more arguments for JupyterLab'
	@echo '         BENCH=quick  a smoke check of the benchmarks, in a minute or two'
	@echo '         WORKERS=4  test processes at a time (2 if not given)'

# ---- the environment ---------------------------------------------------------------------------

VENV_PYTHON := .venv/bin/python
READY := .venv/ready
UNFINISHED := .venv/unfinished

# READY is written last and holds the place of the checkout; UNFINISHED is there while an
# installation runs. So .venv is made from nothing when an installation broke off, when the checkout
# has moved, and when the Python underneath has gone.
state := $(shell $(VENV_PYTHON) -c 'print("runs")' 2>/dev/null) $(shell cat $(READY) 2>/dev/null)
ifneq ($(state),runs $(shell pwd -P))
.PHONY: $(READY)
endif

define JUDGE_PYTHON
import sys
version = "Python %d.%d.%d" % sys.version_info[:3]
try:
    import ensurepip, venv
except ImportError:
    version += " without ensurepip or venv (Debian, Ubuntu: apt install python3-venv)"
    print(version)
else:
    print("fit" if sys.version_info >= (3, 11) else version + " is too old")
endef
export JUDGE_PYTHON

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@set -e; \
	place=$$(cat $(READY) 2>/dev/null || pwd -P); \
	if [ -e $(UNFINISHED) ] || [ "$$place" != "$$(pwd -P)" ] \
	    || ! $(VENV_PYTHON) -m pip --version >/dev/null 2>&1; then \
	    set -- python3 python3.13 python3.12 python3.11; \
	    if [ -n '$(PYTHON)' ]; then set -- '$(PYTHON)'; fi; \
	    python=; seen=; \
	    for name; do \
	        verdict=$$("$$name" -c "$$JUDGE_PYTHON" 2>/dev/null) || verdict='not found'; \
	        if [ "$$verdict" = fit ]; then python=$$name; break; fi; \
	        seen="$$seen\n  $$name: $$verdict"; \
	    done; \
	    if [ -z "$$python" ]; then \
	        printf '%b\n' "d2lpart needs Python 3.11 or newer, with venv and pip. Looked at:$$seen"; \
	        echo 'Install one, or name one: make PYTHON=/path/to/python3'; \
	        exit 1; \
	    fi; \
	    echo "== Make .venv with $$python =="; \
	    rm -rf .venv; mkdir .venv; touch $(UNFINISHED); \
	    "$$python" -m venv .venv; \
	fi; \
	echo '== Install the packages into .venv; the first time this takes minutes =='; \
	rm -f $(READY); touch $(UNFINISHED); \
	$(VENV_PYTHON) -m pip install --constraint constraints.txt --editable '.[lab,hf,browser,dev]'; \
	pwd -P > $(READY); rm $(UNFINISHED)

# ---- the course --------------------------------------------------------------------------------

# What runs here is no learner's progress.
unit nbval colab wheel notebooks bench: export D2LPART_PROGRESS := off

lab: $(READY)
	@root=; if [ "$$(id -u)" = 0 ]; then root=--allow-root; fi; \
	exec $(VENV_PYTHON) -m jupyterlab $$root --ServerApp.root_dir="$$PWD" \
	    --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(LAB_ARGS)

notebooks: $(READY)
	$(VENV_PYTHON) -m d2lpart.course.notebooks.build
	$(VENV_PYTHON) -m d2lpart.course.notebooks.build --cover

# The peers stand in an environment of their own, which sees all that is in .venv.
BENCH_PYTHON := .venv-bench/bin/python

.venv-bench/ready: tests/benchmarks/peers.txt constraints.txt $(READY)
	@echo '== Make .venv-bench, with what the package is measured beside =='
	@rm -rf .venv-bench; $(VENV_PYTHON) -m venv .venv-bench
	@ours=$$($(VENV_PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	theirs=$$($(BENCH_PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	echo "import site; site.addsitedir('$$ours')" > "$$theirs/course.pth"
	$(BENCH_PYTHON) -m pip install --quiet -r tests/benchmarks/peers.txt --constraint constraints.txt \
	    || echo 'Not all peers can be installed; the tables say which are missing'
	@touch $@

bench: .venv-bench/ready
	$(BENCH_PYTHON) tests/benchmarks/bench.py $(if $(BENCH),--$(BENCH))

soak: $(READY)
	$(VENV_PYTHON) tests/benchmarks/soak.py

# ---- the checks --------------------------------------------------------------------------------

# Each test process computes on one core; the tests compare to the last bit, which needs that too.
ONE_CORE := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
NBVAL := $(ONE_CORE) $(VENV_PYTHON) -m pytest --nbval-lax --nbval-current-env \
    --nbval-cell-timeout=120 --nbval-sanitize-with $(SANITIZE) -n $(WORKERS) --dist loadfile

test: style types unit nbval

style: $(READY)
	@echo '== Style: ruff =='
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .

types: $(READY)
	@echo '== Types: mypy =='
	$(VENV_PYTHON) -m mypy

# The profile: the same random cases each time, and no time limit on any.
unit: $(READY)
	@echo '== Code: pytest over tests and docstrings =='
	MPLBACKEND=agg $(ONE_CORE) $(VENV_PYTHON) -m pytest -n $(WORKERS) --dist loadgroup \
	    --hypothesis-profile=ci

nbval: $(READY)
	@failed=; \
	echo '== Lessons, and exercises unsolved: nbval =='; \
	$(NBVAL) notebooks exercises --ignore=exercises/solutions || failed="$$failed notebooks"; \
	echo '== Exercises, solved, each check strict: nbval =='; \
	D2LPART_STRICT=1 $(NBVAL) exercises/solutions || failed="$$failed solutions"; \
	if [ -n "$$failed" ]; then echo "Failed:$$failed"; exit 1; fi

# Colab has the package on its path, not installed; so has this. Its notebooks are run by the older
# IPython and ipykernel, and its widgets are those of ipywidgets 7.
COLAB_PYTHON := .venv-colab/bin/python
COLAB_TESTS := tests/course/questions/test_widget.py tests/course/questions/test_kinds.py \
    tests/course/questions/test_hints.py tests/explorers/test_widgets.py tests/common/test_display.py tests/figures/test_plotting.py

.venv-colab/ready: .ci/colab.txt constraints.txt $(READY)
	@echo '== Make .venv-colab, with the versions that Colab has =='
	@rm -rf .venv-colab; $(VENV_PYTHON) -m venv .venv-colab
	@names=$$(sed -n 's/==.*//p' .ci/colab.txt | tr '\n' '|'); \
	grep -vE "^($${names}widgetsnbextension|jupyterlab.widgets|matplotlib.inline)==" \
	    constraints.txt > .venv-colab/constraints.txt
	$(COLAB_PYTHON) -m pip install --quiet -r .ci/colab.txt torch nbval nbformat nbclient jupytext \
	    hypothesis pytest pytest-xdist --constraint .venv-colab/constraints.txt
	@touch $@

colab: .venv-colab/ready
	@echo '== The versions of Colab: widgets, lessons and exercises =='
	PYDEVD_DISABLE_FILE_VALIDATION=1 PYTHONPATH="$$PWD" MPLBACKEND=agg $(ONE_CORE) $(COLAB_PYTHON) -m pytest -q $(COLAB_TESTS)
	PYDEVD_DISABLE_FILE_VALIDATION=1 PYTHONPATH="$$PWD" $(ONE_CORE) $(COLAB_PYTHON) -m pytest -q --nbval-lax --nbval-current-env \
	    --nbval-cell-timeout=120 --nbval-sanitize-with $(SANITIZE) -n $(WORKERS) --dist loadfile \
	    notebooks exercises

# Run from another folder, so that nothing but the wheel can be what is imported.
wheel: $(READY)
	@echo '== The wheel: built, installed into an empty environment, lesson 00 run on it =='
	@rm -rf build dist .venv-wheel
	$(VENV_PYTHON) -m build
	$(VENV_PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	@cd .venv-wheel && PYTHONSAFEPATH=1 MPLBACKEND=agg $(ONE_CORE) bin/python ../notebooks/src/00_start_here.py > lesson_00.txt \
	    && bin/python -I -c 'import d2lpart; print("lesson 00 ran on", d2lpart.__file__)'
	@rm -rf .venv-wheel

clean:
	rm -rf .venv .venv-colab .venv-bench .venv-wheel .pytest_cache .mypy_cache .ruff_cache .hypothesis build d2lpart.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
