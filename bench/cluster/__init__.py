"""Ray, and only it: the nodes, the bank in the object store, the store as an actor, and the trials under Ray Tune.

Its modules are imported one by one: a process that only stores rows or reads the bank needs no torch.
"""

import os

# Read by Ray when it is imported: no automatic loggers, no tables on the terminal, workers stay in the driver's folder,
# Ctrl-C reaches the driver, tasks without a GPU leave CUDA_VISIBLE_DEVICES alone, no worker stays idle for long
# (each holds a gigabyte), no snapshot of the driver's state in a year, since none is ever read, results are told
# together (by ``train_buffered`` of the trials, whatever their number).
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "31536000")
os.environ.setdefault("TUNE_RESULT_BUFFER_LENGTH", "2")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
os.environ.setdefault("RAY_num_workers_soft_limit", "0")
os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "3000")
