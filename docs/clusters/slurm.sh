#!/usr/bin/env bash
# A grid on several nodes of a Slurm cluster: `ray symmetric-run` starts Ray on every node and the grid on the first.
# Shortly before its time limit the job requeues itself. It then repeats its command, which resumes from the next missing
# rounds. tests/test_slurm.py runs this script; docs/clusters/README.md says on what it was tried.
#
#   sbatch docs/clusters/slurm.sh paper      # from a clone on the shared file system; options of bench.grid may follow
#   tail -f activekd-JOB-0.log               # JOB is the number that sbatch printed; one log per node, the first is the grid's
#   python -m bench.grid status paper
#
# Adapt the lines that begin with #SBATCH; options of sbatch on the command line take precedence (--gpus-per-node=0 for
# CPUs alone). The nodes must be whole (--exclusive): Ray starts only where no other Ray runs. A round must be shorter than
# the time limit.
#
# Fill in before the first `sbatch`:
#   FILL_IN_ENVIRONMENT     the Python environment with this project, such as ~/activekd-bench/.venv
#   FILL_IN_SHARED_FOLDER   a folder that every node sees under the same path; data under data/, weights under weights/
#   FILL_IN_LOCAL_DISK      a folder on the disk of each node, such as /scratch; at most 30 characters, for Ray's sockets

#SBATCH --job-name=activekd
#SBATCH --nodes=2
#SBATCH --exclusive
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@180
#SBATCH --open-mode=append
#SBATCH --output=activekd-%j.log

set -euo pipefail

environment=FILL_IN_ENVIRONMENT
share=FILL_IN_SHARED_FOLDER
disk=FILL_IN_LOCAL_DISK

fail() {
    echo "error: $1; expected: $2" >&2
    exit 2
}

for folder in "$environment" "$share" "$disk"; do
    [ -d "$folder" ] || fail "no folder $folder" "the three folders at the top of the script, filled in"
done
[ $# -gt 0 ] || fail "no spec" "sbatch docs/clusters/slurm.sh SPEC"

export PATH="$environment/bin:$PATH"
export ACTIVEKD_DATA="$share/data" ACTIVEKD_WEIGHTS="$share/weights" ACTIVEKD_CACHE="$share/cache" HF_HOME="$share/huggingface"
user=$(id -un)
export RAY_TMPDIR="$disk/$user" ACTIVEKD_NODE_CACHE="$disk/$user/activekd"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=""
for found in $(srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname --ip-address); do
    [[ $found == *:* ]] || address=${address:-$found}
done
case $address in
    "" | 127.*) fail "${nodes[0]} takes itself for '$address'" "its name resolves to its address on the network (/etc/hosts)" ;;
esac

# Where `ray symmetric-run` and --address auto find this cluster; only this job's processes know the token.
export RAY_ADDRESS="$address:6379" RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
# Seconds for all nodes to start: Ray's 30 are too few where Python is read from a shared file system.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

# A trial takes one GPU and an equal share of the CPUs, which read and decode its images; without GPUs, one CPU.
gpus=${SLURM_GPUS_ON_NODE:-0}
if [ "$gpus" -gt 0 ]; then
    trial=(--device cuda --gpus-per-trial 1 --cpus-per-trial "$((SLURM_CPUS_PER_TASK / gpus))")
else
    trial=(--device cpu --cpus-per-trial 1)
fi

requeue() {
    echo "$(date --iso-8601=seconds): requeued before the time limit; the job resumes from the next missing rounds"
    scontrol requeue "$SLURM_JOB_ID" && exit 0
    echo "error: not requeued; expected: the same sbatch command again" >&2
}
trap requeue USR1

code="$PWD/activekd-$SLURM_JOB_ID.code"
rm -f "$code"
# shellcheck disable=SC2016  # expanded on the first node
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0 \
    --open-mode=append --output="activekd-%j-%n.log" \
    ray symmetric-run --address "$RAY_ADDRESS" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "$gpus" -- \
    bash -c 'python -m bench.grid run "$@"; echo $? > "$0"' "$code" --address auto "${trial[@]}" "$@" &

# The job ends with the grid: Ray on the other nodes would notice its end a minute later.
while [ ! -s "$code" ] && kill -0 $! 2> /dev/null; do
    sleep 2
done
trap "" USR1
kill $! 2> /dev/null || true
[ -s "$code" ] || fail "Ray did not start, or a node was lost" "nodes that reach each other (see activekd-$SLURM_JOB_ID-*.log)"
read -r ended < "$code"
rm "$code"
exit "$ended"
