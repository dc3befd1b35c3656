#!/bin/sh
# Predict the videos of a folder on several nodes of a Slurm cluster: sbatch slurm.sh VIDEOS RESULTS
# Both folders are on a file system that all nodes share. A job that reached its time limit is submitted again: it does
# only what is missing.
#SBATCH --job-name=tinyhd
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=2
#SBATCH --mem-per-cpu=1G
#SBATCH --time=4:00:00
set -eu
videos=$1 results=$2
mkdir -p "$results"
scheduler=$results/scheduler-${SLURM_JOB_ID:-0}.json
trap 'code=$?; trap "" TERM; kill 0; rm -f "$scheduler"; exit "$code"' EXIT

dask scheduler --scheduler-file "$scheduler" --no-dashboard &
while [ ! -s "$scheduler" ]; do sleep 1; done

# One worker per task of Slurm. It has a single thread for Dask, because each worker does one video at a time.
srun dask worker --scheduler-file "$scheduler" --nthreads 1 --memory-limit 0 --no-dashboard \
    --local-directory "${TMPDIR:-/tmp}" &

tinyhd predict "$videos" --csv "{name}.csv" --out-dir "$results" --skip-existing \
    --cluster "$scheduler" --cluster-workers "${SLURM_NTASKS:-1}" --threads "${SLURM_CPUS_PER_TASK:-1}" \
    --json-log --metrics "$results/tinyhd.prom"
