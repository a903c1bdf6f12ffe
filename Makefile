# Everything runs from a virtual environment in .venv, which scripts/setup makes and keeps current.
# Variables: PYTHON chooses the interpreter, ARGS goes to the program that is run, WORKERS is how many
# processes test side by side (most tests wait).

WORKERS ?= 4

.NOTPARALLEL:
.PHONY: help setup demo test crash-test model-test lint types bench bench-writeback bench-large bench-jobs api-docs clean

help:
	@echo 'make demo    mount an emulated centre to play with; Ctrl-C leaves nothing behind'
	@echo 'make setup   only the set-up: the program is then .venv/bin/firecrestfs'
	@echo 'make test    run all tests, on real mounts too;  make test ARGS="-x -k rename"'
	@echo 'make crash-test  kill mounts by the thousand;  make crash-test ARGS="--kills 5000"'
	@echo 'make model-test  compare random operations with a plain directory, 500 times over'
	@echo 'make lint    check the style with ruff'
	@echo 'make types   check the types with mypy'
	@echo 'make bench   measure a mount of the emulated centre'
	@echo 'make bench-writeback  measure copying into it, beside rclone, sshfs and pyfirecrest'
	@echo 'make bench-large  measure files of a gigabyte, beside curl and pyfirecrest'
	@echo 'make bench-jobs  measure its .jobs'
	@echo 'make api-docs  write the reference of the Python client into build/api'
	@echo 'make clean   remove .venv and all caches'
	@echo
	@echo 'Each does the set-up that it needs first, and says what it installs.'
	@echo 'PYTHON=/path/to/python3.12 make ...  uses that interpreter.'

setup:
	@scripts/setup demo
	@echo 'ready: .venv/bin/firecrestfs'

demo:
	@scripts/setup demo
	@.venv/bin/firecrestfs demo $(ARGS)

test:
	@scripts/setup test
	@.venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

crash-test:
	@scripts/setup test
	@.venv/bin/python scripts/crash_test.py $(ARGS)

model-test:
	@scripts/setup test
	@FIRECRESTFS_TEST_EXAMPLES=500 .venv/bin/python -m pytest tests/model $(ARGS)

lint:
	@scripts/setup dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

types:
	@scripts/setup dev
	@.venv/bin/mypy $(ARGS)

bench:
	@scripts/setup test
	@.venv/bin/python scripts/bench_mount.py $(ARGS)

bench-writeback:
	@scripts/setup test
	@.venv/bin/python scripts/bench_writeback.py $(ARGS)

bench-large:
	@scripts/setup test
	@.venv/bin/python scripts/bench_large.py $(ARGS)

bench-jobs:
	@scripts/setup test
	@.venv/bin/python scripts/bench_jobs.py $(ARGS)

api-docs:
	@scripts/setup dev
	@.venv/bin/pdoc --no-show-source -o build/api firecrestfs.api
	@echo 'written: build/api/index.html'

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
