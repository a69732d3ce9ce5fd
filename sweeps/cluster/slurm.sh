#!/bin/bash
# A sweep on Slurm: one job starts Ray on its nodes and drives the sweep until it is done.
#
#   sbatch sweeps/cluster/slurm.sh sweeps/quick.yaml /shared/results [options of `sweeper run`]
#
# Results must lie on a file system that all nodes share. `sweeper` must be on the path, or in
# .venv of the folder the job is submitted from. docs/cluster.md says what survives what.

#SBATCH --job-name=sweeper
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# To this script alone, five minutes before the time limit. The driver needs one for checkpoints.
#SBATCH --signal=B:USR1@300

set -u
sweep=${1:?"expected a sweep file: sbatch $0 SWEEP RESULTS"}
results=${2:?"expected a folder of results that all nodes share"}
shift 2
PATH="$PWD/.venv/bin:$PATH"

fail() {
  echo "error: $*" >&2
  exit 2
}

end_ray() {
  local running
  running=$(jobs -pr)
  # shellcheck disable=SC2086  # one word for each process
  [ -z "$running" ] || kill -TERM $running 2> /dev/null
  wait
  rm -rf "/tmp/ray-$SLURM_JOB_ID"
}

start_ray() { # NODES HOW… — a Ray node on each, which ends with this job
  local n_nodes=$1
  shift
  srun --nodes="$n_nodes" --ntasks="$n_nodes" --ntasks-per-node=1 "$@" --block \
    --num-cpus="${SLURM_CPUS_PER_TASK:-1}" &
}

# The head is the first node, on which this script runs. Between machines, Ray's servers listen on
# every interface of a node: hence the token, and no start on a node that is on the internet.
start_cluster() {
  local head address tries
  head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  address=${SWEEPER_HEAD_ADDRESS:-}
  if [ -z "$address" ]; then
    address=$(hostname --ip-address | tr ' ' '\n' | grep -v : | head -n 1)
    case $address in
      10.* | 192.168.* | 172.1[6-9].* | 172.2[0-9].* | 172.3[01].*) ;;
      127.*) fail "$head calls itself $address, where others miss it; set SWEEPER_HEAD_ADDRESS" ;;
      *) fail "$head has the public address $address; set SWEEPER_HEAD_ADDRESS to a private one" ;;
    esac
  fi
  address=$address:$((20000 + SLURM_JOB_ID % 20000)) # jobs that share a node need own ports

  # Without the token anybody on the network could run code on these nodes. `srun` passes it on.
  RAY_AUTH_TOKEN=$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')
  export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
  trap end_ray EXIT
  # A short folder, because names of Unix sockets are short. Nobody needs the dashboard.
  start_ray 1 --nodelist="$head" ray start --head --node-ip-address="${address%:*}" \
    --port="${address#*:}" --include-dashboard=false --temp-dir="/tmp/ray-$SLURM_JOB_ID"
  tries=0
  until ray status --address "$address" > /dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || fail "Ray has not started on $head; see above"
    sleep 1
  done
  start_ray $((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" ray start --address="$address"
  cluster=(--address "$address")
}

cluster=() # on one node Ray is embedded in the driver, and listens on loopback alone
[ "$SLURM_JOB_NUM_NODES" -eq 1 ] || start_cluster

# The driver stops at checkpoints on SIGTERM. USR1 is the time limit, TERM a preemption or `scancel`.
is_time_up=0
is_signalled=0
stop_driver() {
  is_signalled=1
  kill -TERM "$driver" 2> /dev/null
}
sweeper run "$sweep" --results "$results" ${cluster[@]+"${cluster[@]}"} "$@" &
driver=$!
trap 'is_time_up=1; stop_driver' USR1
trap stop_driver TERM
while wait "$driver"; code=$?; [ "$is_signalled" -eq 1 ]; do
  is_signalled=0 # a signal ended `wait`, not the driver
done

# Preempted jobs are put back into the queue by Slurm itself, because of --requeue.
if [ "$is_time_up" -eq 1 ] && [ "$code" -eq 3 ]; then
  echo "time is up: queueing job $SLURM_JOB_ID again, to go on where it stopped"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
