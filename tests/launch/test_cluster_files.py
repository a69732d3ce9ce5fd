"""The files of `sweeps/cluster`, as far as they can be checked without a cloud or Slurm."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeper.planning.planner import preview_sweep
from sweeper.sweepfile.schema import load_sweep

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "sweeps/cluster"

RAY_JOB_FIELDS = {
    "activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate", "metadata",
    "clusterSelector", "submitterConfig", "managedBy", "deletionStrategy", "entrypoint",
    "runtimeEnvYAML", "jobId", "submissionMode", "entrypointResources", "entrypointNumCpus",
    "entrypointNumGpus", "ttlSecondsAfterFinished", "shutdownAfterJobFinishes", "suspend",
}  # fmt: skip
RAY_CLUSTER_FIELDS = {
    "suspend", "managedBy", "authOptions", "autoscalerOptions", "headServiceAnnotations",
    "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec", "rayVersion",
    "workerGroupSpecs",
}  # fmt: skip
HEAD_GROUP_FIELDS = {"template", "headService", "enableIngress", "rayStartParams", "serviceType"}
WORKER_GROUP_FIELDS = {
    "suspend", "groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds",
    "rayStartParams", "template", "scaleStrategy", "numOfHosts",
}  # fmt: skip
AUTOSCALER_FIELDS = {
    "resources", "image", "imagePullPolicy", "securityContext", "idleTimeoutSeconds",
    "upscalingMode", "version", "env", "envFrom", "volumeMounts",
}  # fmt: skip
"""Fields of ray.io/v1 by KubeRay's API reference, which lists all there are."""


def _read(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))


def _kubernetes() -> dict[str, Any]:
    """The objects of rayjob.yaml, by kind."""
    text = (CLUSTER / "rayjob.yaml").read_text(encoding="utf-8")
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


@pytest.mark.slow
def test_the_launchers_file_satisfies_rays_own_schema() -> None:
    check = (
        "import sys, yaml; from ray.autoscaler._private.util import prepare_config, validate_config"
        "; validate_config(prepare_config(yaml.safe_load(open(sys.argv[1]))))"
    )
    file = CLUSTER / "ray-aws-spot.yaml"
    done = subprocess.run(
        [sys.executable, "-c", check, file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_launchers_head_trains_nothing_and_its_workers_are_spot() -> None:
    config = _read("ray-aws-spot.yaml")
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    spot = config["available_node_types"]["gpu_spot"]
    assert spot["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert (spot["min_workers"], spot["max_workers"]) == (0, config["max_workers"])
    assert all(rule not in config["rsync_exclude"] for rule in ("sweeper", "analysis"))


def test_no_dashboard_is_bound_beyond_loopback() -> None:
    for file in CLUSTER.iterdir():
        text = file.read_text(encoding="utf-8")
        assert "0.0.0.0" not in text, file.name
        assert "LoadBalancer" not in text, file.name
        assert "NodePort" not in text, file.name
    (start,) = [
        line for line in _read("ray-aws-spot.yaml")["head_start_ray_commands"] if "--head" in line
    ]
    assert "--dashboard-host=127.0.0.1" in start


def test_images_and_pins_name_one_version_of_ray() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (version,) = [pin.removeprefix("ray==") for pin in pins if pin.startswith("ray==")]
    docker = _read("ray-aws-spot.yaml")["docker"]
    assert docker["head_image"].startswith(f"rayproject/ray:{version}-")
    assert docker["worker_image"].startswith(f"rayproject/ray:{version}-")
    assert _kubernetes()["RayJob"]["spec"]["rayClusterSpec"]["rayVersion"] == version


def test_the_ray_job_uses_only_fields_that_exist() -> None:
    job = _kubernetes()["RayJob"]
    assert job["apiVersion"] == "ray.io/v1"
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert set(spec) <= RAY_JOB_FIELDS
    assert set(cluster) <= RAY_CLUSTER_FIELDS
    assert set(cluster["headGroupSpec"]) <= HEAD_GROUP_FIELDS
    assert set(cluster["autoscalerOptions"]) <= AUTOSCALER_FIELDS
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKER_GROUP_FIELDS
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    assert all(isinstance(v, str) for v in cluster["headGroupSpec"]["rayStartParams"].values())
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode")


def test_every_volume_of_the_ray_job_exists() -> None:
    objects = _kubernetes()
    cluster = objects["RayJob"]["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = pod["containers"][0]["volumeMounts"]
        assert {mount["name"] for mount in mounts} == set(volumes)
        claim = volumes["results"]["persistentVolumeClaim"]["claimName"]
        assert claim == objects["PersistentVolumeClaim"]["metadata"]["name"]
        assert volumes["sweep"]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_sweep_of_the_ray_job_can_be_planned(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(_kubernetes()["ConfigMap"]["data"]["sweep.yaml"])
    loaded = load_sweep(tmp_path / "sweep.yaml")
    assert preview_sweep(loaded, bfloat16_from_width=1.0).warnings == ()


@pytest.mark.parametrize(
    ("code", "expected"), [(0, 0), (1, 0), (2, 0), (3, 3), (4, 0), (127, 127), (137, 137)]
)
def test_kubernetes_repeats_what_was_interrupted_and_nothing_else(
    tmp_path: Path, code: int, expected: int
) -> None:
    _program(tmp_path, "sweeper", f'echo "$@" > {tmp_path}/called; exit {code}')
    (tmp_path / "drive.sh").write_text(_kubernetes()["ConfigMap"]["data"]["drive.sh"])
    done = subprocess.run(
        ["bash", tmp_path / "drive.sh"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=False,
    )
    assert done.returncode == expected
    called = (tmp_path / "called").read_text().split()
    assert called == ["run", "/sweep/sweep.yaml", "--address", "auto", "--results", "/results"]


def _program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """A folder of programs that stand in for Slurm, Ray and the driver, and note their calls."""
    note = f'echo "$(basename "$0") $*" >> {tmp_path}/calls'
    (tmp_path / "calls").touch()
    _program(tmp_path, "scontrol", f'{note}; [ "$1" = requeue ] || printf "node1\\nnode2\\n"')
    _program(tmp_path, "hostname", "echo fd00::2 10.0.0.7")
    _program(tmp_path, "ray", note)
    _program(tmp_path, "srun", f"{note}; env | grep RAY_AUTH >> {tmp_path}/seen; exec sleep 60")
    return tmp_path


def _sbatch(
    folder: Path, n_nodes: int = 2, results: str = "/shared/my results", **changes: str
) -> subprocess.Popen[str]:
    environment = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": str(n_nodes),
        "SLURM_CPUS_PER_TASK": "3",
    }
    return subprocess.Popen(
        ["bash", CLUSTER / "slurm.sh", "a sweep.yaml", results, "--takeover"],
        cwd=folder,
        env=environment | changes,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _exit_code(job: subprocess.Popen[str]) -> int:
    job.communicate(timeout=30)
    return job.returncode


def _calls(folder: Path, program: str) -> list[str]:
    lines = (folder / "calls").read_text().splitlines()
    return [line for line in lines if line.partition(" ")[0] == program]


def test_slurm_starts_one_head_and_the_other_nodes_and_passes_the_exit_code_on(slurm: Path) -> None:
    wait = f"until [ $(grep -c ^srun {slurm}/calls) -eq 2 ]; do sleep 0.02; done"
    _program(slurm, "sweeper", f'printf "%s|" "$@" > {slurm}/driver; {wait}; exit 1')
    assert _exit_code(_sbatch(slurm)) == 1
    head, others = _calls(slurm, "srun")
    port = 20000 + 123456 % 20000
    assert "--nodes=1 --ntasks=1 --ntasks-per-node=1 --nodelist=node1 ray start --head" in head
    assert f"--node-ip-address=10.0.0.7 --port={port} --include-dashboard=false" in head
    assert "--nodes=1 --ntasks=1 --ntasks-per-node=1 --exclude=node1 ray start" in others
    assert f"--address=10.0.0.7:{port} --block --num-cpus=3" in others
    assert (slurm / "driver").read_text().split("|")[:-1] == [
        "run", "a sweep.yaml", "--results", "/shared/my results",
        "--address", f"10.0.0.7:{port}", "--takeover",
    ]  # fmt: skip
    assert not _calls(slurm, "scontrol")[1:]


def test_slurm_gives_every_job_a_token_of_its_own(slurm: Path) -> None:
    _program(slurm, "sweeper", "exit 0")
    for _ in range(2):
        assert _exit_code(_sbatch(slurm)) == 0
    seen = set((slurm / "seen").read_text().split())
    tokens = {line for line in seen if line.startswith("RAY_AUTH_TOKEN=")}
    assert seen - tokens == {"RAY_AUTH_MODE=token"}
    assert len(tokens) == 2
    assert all(len(token) == len("RAY_AUTH_TOKEN=") + 64 for token in tokens)
    assert not any(token.partition("=")[2] in (slurm / "calls").read_text() for token in tokens)


def test_slurm_on_one_node_embeds_ray(slurm: Path) -> None:
    _program(slurm, "sweeper", f'printf "%s|" "$@" > {slurm}/driver; exit 0')
    assert _exit_code(_sbatch(slurm, n_nodes=1)) == 0
    assert _calls(slurm, "srun") == []
    assert "--address" not in (slurm / "driver").read_text()


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.1.1", "where others miss it"), ("203.0.113.5", "the public address 203.0.113.5")],
)
def test_slurm_starts_nothing_on_a_head_that_is_public_or_cannot_be_found(
    slurm: Path, address: str, expected: str
) -> None:
    _program(slurm, "hostname", f"echo {address}")
    _program(slurm, "sweeper", "exit 0")
    job = _sbatch(slurm)
    _, errors = job.communicate(timeout=30)
    assert job.returncode == 2
    assert expected in errors
    assert _calls(slurm, "srun") == []
    assert _exit_code(_sbatch(slurm, SWEEPER_HEAD_ADDRESS=address)) == 0


GRACEFUL = """\
trap 'sleep 0.3; exit 3' TERM
touch started
while :; do sleep 0.05; done
"""
"""A driver that takes a moment to stop at checkpoints."""


@pytest.mark.parametrize(("number", "n_requeued"), [(signal.SIGUSR1, 1), (signal.SIGTERM, 0)])
def test_slurm_stops_the_driver_at_checkpoints_and_queues_again_what_ran_out_of_time(
    slurm: Path, number: signal.Signals, n_requeued: int
) -> None:
    _program(slurm, "sweeper", GRACEFUL)
    job = _sbatch(slurm)
    _wait_for(slurm / "started")
    job.send_signal(number)
    assert _exit_code(job) == 3
    requeues = [call for call in _calls(slurm, "scontrol") if "requeue" in call]
    assert requeues == ["scontrol requeue 123456"] * n_requeued


def test_slurm_does_not_queue_again_what_was_cancelled_or_done(slurm: Path) -> None:
    for code in (0, 3, 4):
        _program(slurm, "sweeper", f"exit {code}")
        assert _exit_code(_sbatch(slurm)) == code
    assert not [call for call in _calls(slurm, "scontrol") if "requeue" in call]


def _wait_for(path: Path) -> None:
    give_up_s = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


SWEEP = """\
name: pilot
corpus: {source: "synthetic:markov?vocab=16&tokens=100000", seq_len: 16}
series: {masked: {family: masked}}
design: {grid: {sizes: [1.7K, 2.6K], tokens: [40K]}}
train: {batch_tokens: 128, learning_rate: 0.05}
evaluation: {sequences: 64}
"""

RUN_HERE = """\
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""
"""Runs what `srun` is given on this machine."""


@pytest.mark.ray
@pytest.mark.slow
def test_slurm_trains_a_sweep_on_two_real_ray_nodes(slurm: Path) -> None:
    (slurm / "ray").unlink()
    _program(slurm, "srun", RUN_HERE)
    _program(
        slurm, "sweeper", f'exec {sys.executable} -c "from sweeper.cli import main; main()" "$@"'
    )
    (slurm / "a sweep.yaml").write_text(SWEEP)
    job = _sbatch(
        slurm,
        results=str(slurm / "results"),
        PATH=f"{slurm}:{Path(sys.executable).parent}:/usr/bin:/bin",
        PYTHONPATH=str(ROOT),
        HOME=str(slurm),
        OMP_NUM_THREADS="1",
        SLURM_JOB_ID=str(os.getpid()),
        SLURM_CPUS_PER_TASK="1",
        SWEEPER_HEAD_ADDRESS="127.0.0.1",
    )
    output, errors = job.communicate(timeout=240)
    assert job.returncode == 0, errors
    assert output.count("Ray runtime started") == 2
    assert len(list((slurm / "results" / "pilot" / "published").iterdir())) == 2
