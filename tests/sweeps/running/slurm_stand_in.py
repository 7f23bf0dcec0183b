"""A stand-in for SLURM's sbatch, srun, sacct, scontrol and scancel, which acts by its name.

Jobs are processes of this machine that outlive whoever submitted them. A file for each task in
the folder $SLURM_STAND_IN says how it is and which process runs it.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

PLACE = Path(os.environ["SLURM_STAND_IN"])


def sbatch(arguments: list[str]) -> None:
    """Take a script, start its array in the background, tell its number."""
    script = Path(arguments[-1])
    found = re.search(r"#SBATCH --array=0-(\d+)", script.read_text())
    tasks = [None] if found is None else list(range(int(found[1]) + 1))
    number = len(list(PLACE.glob("*.submitted"))) + 100
    (PLACE / f"{number}.submitted").write_text(script.read_text())
    for task in tasks:
        name = f"{number}" if task is None else f"{number}_{task}"
        (PLACE / name).write_text("PENDING 0")
        subprocess.Popen(
            [sys.executable, __file__, "--task", name, str(script)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    print(f"Submitted batch job {number}")


def run_task(name: str, script: str) -> None:
    """In the background: the script as SLURM runs it, then how it ended."""
    number, _, task = name.partition("_")
    environment = {
        **os.environ,
        "SLURM_JOB_ID": str(int(number) + int(task or 0)),
        "SLURM_NTASKS": "1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "here",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
    }
    if task:
        environment |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task}
    again = PLACE / f"{name}.requeued"
    while True:
        (PLACE / name).write_text(f"RUNNING {os.getpid()}")
        code = subprocess.run(["bash", script], env=environment, check=False).returncode
        if not again.exists():
            break
        again.unlink()
        (PLACE / name).write_text("PENDING 0")
    (PLACE / name).write_text(f"{'FAILED' if code else 'COMPLETED'} 0")


def srun(arguments: list[str]) -> None:
    """Run what follows the options, its words in the files they name."""
    command = arguments[next(i for i, a in enumerate(arguments) if a.startswith("/")
                             and arguments[i - 1] not in ("--output", "--error")) :]  # fmt: skip
    array, task = (
        os.environ.get("SLURM_ARRAY_JOB_ID", ""),
        os.environ.get("SLURM_ARRAY_TASK_ID", ""),
    )
    files = []
    for option in ("--output", "--error"):
        path = arguments[arguments.index(option) + 1]
        for mark, value in (("%A", array), ("%a", task), ("%t", "0"), ("%j", array)):
            path = path.replace(mark, value)
        files.append(open(path, "ab"))  # noqa: SIM115
    sys.exit(subprocess.run(command, stdout=files[0], stderr=files[1], check=False).returncode)


def sacct(arguments: list[str]) -> None:
    """How the tasks of the jobs asked for are."""
    print("JobID|State|NodeList")
    wanted = [arguments[i + 1] for i, a in enumerate(arguments) if a == "-j"]
    for path in sorted(PLACE.glob("[0-9]*")):
        if path.suffix or path.name.partition("_")[0] not in wanted:
            continue
        print(f"{path.name}|{path.read_text().split()[0]}|here")


def scontrol(arguments: list[str]) -> None:
    """`requeue` a task: it begins anew once it has ended."""
    verb, name = arguments
    if verb != "requeue" or not (PLACE / name).exists():
        sys.exit(f"scontrol: {arguments}")
    (PLACE / f"{name}.requeued").write_text("")


def scancel(arguments: list[str]) -> None:
    """End a task."""
    path = PLACE / arguments[-1]
    state, pid = path.read_text().split()
    if state == "RUNNING":
        os.killpg(int(pid), signal.SIGTERM)
        time.sleep(0.1)
        os.killpg(int(pid), signal.SIGKILL)
    path.write_text("CANCELLED 0")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        run_task(sys.argv[2], sys.argv[3])
    else:
        acts = {"sbatch": sbatch, "srun": srun, "sacct": sacct, "scontrol": scontrol}
        {**acts, "scancel": scancel}[Path(sys.argv[0]).name](sys.argv[1:])
