"""Ray, and only it: the nodes, the bank in the object store, the store as an actor, and the trials under Ray Tune.

Its modules are imported one by one: a process that only stores rows or reads the bank needs no torch.
"""

import os

TRIAL_VARIABLE = "PL_DISABLE_FORK"
"""Set by Ray Tune in the processes of its trials, and in no other."""

READERS = 2
"""Arrays that are read into the object store at a time: each by a process that takes most of a gigabyte itself."""
# Read by Ray when it is imported: no automatic loggers, no tables on the terminal, workers stay in the driver's folder,
# Ctrl-C reaches the driver, tasks without a GPU leave CUDA_VISIBLE_DEVICES alone, no worker stays idle for long
# (each holds a gigabyte), no snapshot of the driver's state in a year, since none is ever read, results are told
# together (by ``train_buffered`` of the trials, whatever their number). Processes are started as ``starting`` says:
# no others in advance, readers and trials all at once, and those of trials import what they need by themselves.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "31536000")
os.environ.setdefault("TUNE_RESULT_BUFFER_LENGTH", "2")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
os.environ.setdefault("RAY_enable_worker_prestart", "0")
os.environ.setdefault("RAY_worker_maximum_startup_concurrency", str((os.cpu_count() or 1) + READERS))
os.environ.setdefault("RAY_preload_python_modules", "bench.cluster.preload")
os.environ.setdefault("RAY_num_workers_soft_limit", "0")
os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "30000")
