"""The grid on Ray: nodes, the bank in the object store, the store as an actor, and the trials under Ray Tune.

Import its modules one by one: a process that only stores rows or reads the bank needs no torch.
"""

import os

# Documented variables of Ray Tune, read when it is imported: no automatic loggers, no tables on the terminal, Ctrl-C
# reaches the driver, workers stay in the driver's folder, and a year between snapshots of the driver's state, since the
# grid reads none.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "31536000")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
