"""Several processes: the same run as with one, whatever their number; and none waits for one that has failed."""

import csv
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys

from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, parallel
from tinygrad_rnn.data import python_reference
from tinygrad_rnn.parallel import launcher
from tinygrad_rnn.parallel.nccl import Nccl
from tinygrad_rnn.parallel.start import world
from tinygrad_rnn.tasks.checkpoint import load_checkpoint
from tinygrad_rnn.tasks.fit import Trainer

HERE = Path(__file__).parent
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
OPEN_MPI = MPIEXEC is not None and Path(MPIEXEC).with_name("ompi_info").exists()
needs_mpi = pytest.mark.skipif(MPIEXEC is None, reason="no mpiexec")
SMALL = ["--text", "text.txt", "--hidden", "16", "--embed", "8", "--batch", "6", "--steps", "16", "--dtype", "float64"]
LM = ["lm", *SMALL, "--epochs", "2"]
PAIRS = ["seq2seq", "--pairs", "pairs.tsv", "--hidden", "8", "--embed", "4", "--batch", "7", "--dtype", "float64"]
PAIRS += ["--epochs", "2"]
GPUS = ["--device", "gpu"]


def environment(**more):
    """Without what a launcher says; MPICH and Open MPI may be started by root, with more processes than processors."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI", "MV2", "SLURM", "OMP_NUM"))}
    root = {f"{prefix}_ALLOW_RUN_AS_ROOT{s}": "1" for prefix in ("OMPI", "PRTE") for s in ("", "_CONFIRM")}
    here = {"PYTHONPATH": str(HERE.parent), "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    return {**ours, **root, **here, "OMPI_MCA_rmaps_base_oversubscribe": "1", **more}


def command(n, *args, script=("-m", "tinygrad_rnn")):
    """n: how many processes; 0: one, without a launcher"""
    return [*([MPIEXEC, "-n", str(n)] if n else []), sys.executable, *map(str, script), *args]


def run(n, *args, script=("-m", "tinygrad_rnn"), timeout=120, **more):
    return subprocess.run(
        command(n, *args, script=script), capture_output=True, text=True, timeout=timeout, env=environment(**more)
    )


def train(n, *args, happens=None, **options):
    """happens: in which process, at which batch, and what, as rank:batch:what"""
    script = ("-m", "tinygrad_rnn") if happens is None else (HERE / "parallel_run.py", happens)
    return run(n, "train", *args, script=script, **options)


def lines(done):
    """What the product said on standard error; MPI's launchers add to it."""
    return [line for line in done.stderr.splitlines() if "tinygrad-rnn:" in line]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in files().items():
        (tmp_path / name).write_text(text)
    return tmp_path


@functools.cache
def files():
    pairs = "".join(f"{'ab' * (i % 7 + 1)}{i}\t{i}{'ba' * (i % 5)}\n" for i in range(50))
    return {"text.txt": python_reference()[:8000], "pairs.tsv": pairs}


def rows(folder):
    with (Path(folder) / "metrics.csv").open() as file:
        return [[float(v) for k, v in row.items() if "per_second" not in k] for row in csv.DictReader(file)]


def weights(folder):
    arrays, _ = load_checkpoint(Path(folder) / "last.safetensors")
    return {k: a for k, a in arrays.items() if k.startswith(("model", "optimizer"))}


def assert_same_run(a, b, rtol=1e-12):
    np.testing.assert_allclose(rows(a), rows(b), rtol=rtol)
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(theirs[name], array, rtol=rtol, atol=rtol * max(np.abs(array).max(), 1))


# ---- sums, overlap, rows, a shared update: see parallel_checks.py --------------------------------------------------

CHECKS = re.findall(r"^@check\ndef (\w+)", (HERE / "parallel_checks.py").read_text(), re.M)


def check(n, *args):
    """All checks in one start of n processes, which takes longer than they do; those after one that failed are left."""
    done = run(n, *args, script=(HERE / "parallel_checks.py",))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "\n".join(f"{name}: {error}" for name, error in found.items() if error) == ""
    return set(found)


@needs_mpi
@pytest.mark.parametrize("n", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4))])
def test_several_processes(n):
    assert check(n) == {*CHECKS}


@needs_mpi
@pytest.mark.gpu
@pytest.mark.slow
def test_several_processes_with_a_gpu_each():
    assert check(2, "--gpu") >= {*CHECKS}  # and one that counts, on the stand-in


def test_sums_of_one_gpu_change_nothing(gpu, cupy):
    try:
        nccl = Nccl(0, 1, lambda function: function())
    except RuntimeError as error:
        pytest.skip(str(error))
    for dtype in "float32", "float64":
        values = np.random.default_rng(0).random(1000).astype(dtype)
        buffer, part = cupy.asarray(values), cupy.empty(1000, dtype)
        nccl.add_up(buffer)
        nccl.add_up_part(buffer, part)
        whole = cupy.empty(1000, dtype)
        nccl.gather(part.view(np.uint8), whole.view(np.uint8))
        nccl.check()
        np.testing.assert_array_equal(whole.get(), values)


@pytest.mark.parametrize("how", ["without the module", "without the library"])
def test_what_is_missing_for_sums_between_gpus_is_told(gpu, cupy, monkeypatch, how):
    if how == "without the module":
        monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", None)
        monkeypatch.delattr(cupy.cuda, "nccl", raising=False)
    else:
        monkeypatch.setattr("cupy.cuda.nccl.available", False)
    with pytest.raises(RuntimeError, match=r"^parallel: sums between GPUs need NCCL.*; pip install nvidia-nccl-cu13"):
        Nccl(0, 1, lambda function: function())


def test_a_sum_between_gpus_that_failed_is_told(gpu, cupy, monkeypatch):
    pytest.importorskip("strict_cupy")
    from strict_cupy import nccl as stand_in

    if cupy.cuda.nccl is not stand_in:
        pytest.skip("the stand-in's errors")
    monkeypatch.setattr(stand_in.NcclCommunicator, "check_async_error", lambda self: 6)
    with pytest.raises(RuntimeError, match="NCCL failed in a sum between GPUs"):
        Nccl(0, 1, lambda function: function()).check()


# ---- the same run --------------------------------------------------------------------------------------------------


@functools.cache
def folder_of_one(root, *args):
    """A run of one process, started once."""
    folder = Path(root) / f"one-{abs(hash(args))}"
    for name, text in files().items():
        (Path(root) / name).write_text(text)
    done = subprocess.run(
        command(0, "train", *args, "--out", str(folder)), capture_output=True, text=True, cwd=root, env=environment()
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def one(tmp_path_factory):
    root = tmp_path_factory.getbasetemp() / "one"
    root.mkdir(exist_ok=True)
    return lambda *args: folder_of_one(str(root), *args)


SAME_RUNS = {
    "a language model": (2, LM, None),
    "more processes than held-out strands": (3, [*LM, "--valid", "0.05"], None),
    "more processes than processors": (4, LM, None),
    "overlapping": (3, LM, "0:0:overlap"),
    "rows of an embedding": (3, LM, "0:0:rows"),
    "rows of an embedding, overlapping": (2, [*LM, "--layers", "2"], "0:0:overlap"),
    "a shared update": (3, [*LM, "--share-update"], None),
    "sgd, in parts": (2, [*LM, "--optimizer", "sgd", "--accumulate", "2", "--share-update"], None),
    "a plateau, in parts": (3, [*LM, "--schedule", "plateau", "--lr", "0.02", "--accumulate", "3"], "0:0:overlap"),
    "pairs, in parts": (2, [*PAIRS, "--dropout", "0", "--accumulate", "3", "--optimizer", "adamw"], None),
    "a tied embedding": (2, [*LM, "--tie", "--embed", "16"], "0:0:rows"),
    "a strand for each": (3, [*LM, "--batch", "3"], None),
    "a gru of two layers": (2, [*LM, "--cell", "gru", "--layers", "2"], None),
    "on two GPUs": (2, [*LM, *GPUS], "0:0:gpu"),
    "pairs on two GPUs, a shared update": (2, [*PAIRS, "--dropout", "0", *GPUS, "--share-update"], "0:0:gpu"),
    "pairs, fewer in the last batch than there are processes": (4, [*PAIRS, "--dropout", "0"], None),
    "pairs, rows of their embeddings": (2, [*PAIRS, "--dropout", "0", "--attention", "additive"], "0:0:rows"),
    "pairs, without attention": (2, [*PAIRS, "--dropout", "0", "--attention", "context"], "0:0:overlap"),
}  # fmt: skip


@needs_mpi
@pytest.mark.slow  # each day a run that is killed and goes on is held to the same
@pytest.mark.parametrize("name", SAME_RUNS)
def test_a_run_is_the_same_with_several_processes(here, one, name):
    n, args, happens = SAME_RUNS[name]
    done = train(n, *args, "--out", "several", happens=happens)
    assert done.returncode == 0, done.stderr
    assert f", {n} processes; in several/" in done.stdout
    assert done.stdout.count("epoch 2/2") == 1 and not lines(done)
    assert_same_run(one(*[a for a in args if a not in ("--share-update", *GPUS)]), "several")
    config = json.loads(Path("several/config.json").read_text())
    assert not any("process" in key for key in config)


@needs_mpi
@pytest.mark.slow
def test_so_it_is_in_float32_to_its_rounding(here, one):
    args = [a if a != "float64" else "float32" for a in LM]
    assert train(2, *args, "--out", "several").returncode == 0
    np.testing.assert_allclose(rows("several"), rows(one(*args)), rtol=1e-4)


@needs_mpi
@pytest.mark.slow
def test_the_same_number_of_processes_draws_the_same_dropout(here):
    for folder in "first", "second":
        done = train(2, *PAIRS, "--sampling", "0.5", "--dropout", "0.5", "--out", folder)
        assert done.returncode == 0, done.stderr
    first, second = weights("first"), weights("second")
    assert all((second[k] == a).all() for k, a in first.items())


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("way", [(2, 3, 0), (0, 4, 2)])
def test_a_run_that_is_killed_goes_on_with_any_number_of_processes(here, one, way):
    first, second, third = way
    args = [*LM, "--save-every", "0", "--out", "several"]
    done = train(first, *args, happens=f"{max(first - 1, 0)}:50:kill")
    assert done.returncode != 0
    assert load_checkpoint(Path("several/last.safetensors"))[1]["batch"] > 30
    resume = ["lm", "--resume", "--text", "text.txt", "--save-every", "0", "--out", "several"]
    done = train(second, *resume, happens=f"{second - 1}:70:kill")
    assert done.returncode != 0
    _, progress = load_checkpoint(Path("several/last.safetensors"))
    assert progress["epoch"] == 1 and 20 < progress["batch"] < 60
    shared = ["--share-update"] if third else []
    done = train(third, *resume, *shared)
    assert done.returncode == 0, done.stderr
    assert_same_run(one(*LM), "several")


@needs_mpi
@pytest.mark.slow
def test_only_the_first_process_needs_the_files_and_other_commands_run_once(here):
    done = run(2, "train", *LM, "--out", "run")
    assert done.returncode == 0 and done.stdout.count("wrote run/loss.png") == 1
    done = run(3, "score", "run", "The")
    assert done.returncode == 0 and done.stdout.count("log P") == 1


# ---- what goes wrong -----------------------------------------------------------------------------------------------

FAILURES = {
    "an error in a batch": ("1:40:raise", "rank 1 of 2: the data are bad", 2),
    "a loss that is not finite": ("1:40:nan", "train: the loss must stay finite, got nan; .*", 2),
    "a full disk": ("0:0:disk", "last.safetensors: No space left on device.*", 2),
    "an error elsewhere": ("1:0:valid", "rank 1 of 2: not what it should be.*", 2),
}


@needs_mpi
@pytest.mark.parametrize(
    "name", [n if FAILURES[n][0].startswith("1") else pytest.param(n, marks=pytest.mark.slow) for n in FAILURES]
)
def test_a_process_that_fails_ends_the_run_and_says_why_once(here, name):
    happens, said, code = FAILURES[name]
    done = train(2, *LM, "--out", "run", happens=happens, timeout=90)
    assert done.returncode == code
    assert len(lines(done)) == 1 and re.fullmatch(f"tinygrad-rnn: {said}", lines(done)[0]), done.stderr
    assert "Traceback" not in done.stderr


@needs_mpi
def test_an_error_in_the_program_ends_the_run_with_its_traceback(here):
    done = train(2, *LM, "--out", "run", happens="1:0:type", timeout=90)
    assert done.returncode != 0
    assert done.stderr.count("Traceback") == 1 and "rank 1 of 2" in done.stderr
    assert "TypeError: not what it should be" in done.stderr


@needs_mpi
@pytest.mark.slow
def test_bad_options_are_told_once(here):
    for options, said in (
        (["--batch", "2"], "--batch: must be at least the number of processes, 3, got 2"),
        (["--text", "/nosuch"], "text: there is no file '/nosuch'"),
        (["--lr", "-1"], "--lr: must be a finite number greater than 0, got -1.0"),
        (["--device", "gpu:0"], "--device: 'gpu:0' is one GPU for the 3 processes of this machine; \"gpu\" gives .*"),
    ):
        done = train(3, *LM, "--out", "run", *options)
        assert done.returncode == 2
        (line,) = lines(done)
        assert re.fullmatch(f"tinygrad-rnn: {said}", line), line
    assert not Path("run").exists()


@needs_mpi
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_is_saved_after_a_whole_batch(here, number):
    args = command(2, "train", "lm", *SMALL, "--epochs", "9999", "--save-every", "9999", "--out", "run")
    with subprocess.Popen(
        args, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        while "epoch 1/" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        process.stdout.read()
        said = [line for line in process.stderr.read().splitlines() if "stopped" in line]
    if not OPEN_MPI:  # its launcher lets nobody speak any more, and says itself how it ended
        assert said == ["tinygrad-rnn: stopped; --resume goes on from the last checkpoint"]
        assert process.returncode == 130
    assert load_checkpoint(Path("run/last.safetensors"))[1]["epoch"] > 0


@needs_mpi
@pytest.mark.slow
def test_a_process_that_does_not_come_is_named(here):
    done = train(3, *LM, "--out", "run", happens="1:40:sleep")
    assert done.returncode == 0
    said = r"tinygrad-rnn: rank 1 \(.+\) of 3 has not come to a sum for \d s; 2 others wait"
    assert 1 <= sum(re.fullmatch(said, line) is not None for line in lines(done)) <= 3, done.stderr


@needs_mpi
@pytest.mark.slow
def test_processes_that_have_drifted_apart_are_brought_together_and_it_is_said(here):
    done = train(2, *LM, "--save-every", "0", "--out", "run", happens="1:40:drift")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("were no longer the same in all processes") == 1


OWN = """
import sys
from tinygrad_rnn import parallel
from tinygrad_rnn.parallel import failures
failures.PATIENCE = 1.0
world = parallel.world()
if sys.argv[1] == "all" or world.rank == 1:
    raise ValueError("nobody catches this")
world.total(1)
"""


@needs_mpi
@pytest.mark.parametrize("who", [pytest.param("all", marks=pytest.mark.slow), "one"])
def test_an_error_in_a_script_of_ones_own_ends_all_processes(here, who):
    Path("own.py").write_text(OWN)
    done = run(3, who, script=("own.py",), timeout=90)
    assert done.returncode != 0
    assert done.stderr.count("ValueError: nobody catches this") == 1, done.stderr


# ---- launchers -----------------------------------------------------------------------------------------------------

ASK = "from tinygrad_rnn.cli.main import main; raise SystemExit(main(['train', 'lm', '--out', 'run']))"


def test_without_a_launcher_there_is_one_process_and_mpi_is_not_imported():
    code = (
        "import sys; from tinygrad_rnn import parallel; w = parallel.world(); "
        "said = 'mpi4py', 'tinygrad_rnn.parallel.nccl'; "
        "print(type(w) is parallel.World, w.size, *(m in sys.modules for m in said))"
    )
    for more in ({}, {"PMI_SIZE": "1"}, {"OMPI_COMM_WORLD_SIZE": "1", "PMIX_RANK": "0"}):
        done = run(0, script=("-c", code), **more)
        assert done.stdout == "True 1 False False\n", (done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("hide", "environ", "said"),
    [
        ("mpi4py", {"PMI_SIZE": "2"}, r'must be there, got .*; pip install "tinygrad-rnn\[mpi\]"'),
        (
            "",
            {"PMI_SIZE": "2"},
            "the launcher must be that of .*, got another one, whose 2 processes do not see one .*",
        ),
        ("", {"SLURM_STEP_NUM_TASKS": "4"}, "srun must be told of MPI, it started 4 processes .*--mpi=pmix.*"),
    ],
    ids=["no mpi4py", "another MPI's launcher", "srun without MPI"],
)
def test_a_launcher_without_its_mpi_is_told(here, hide, environ, said):
    if not hide and "PMI_SIZE" in environ:
        pytest.importorskip("mpi4py")
    hidden = f"import sys; sys.modules[{hide!r}] = None; " if hide else ""
    done = run(0, script=("-W", "ignore", "-c", hidden + ASK), **environ)
    assert done.returncode == 2
    assert re.search(said, done.stderr), done.stderr
    assert len(lines(done)) == 1 and not Path("run").exists()


def test_a_launcher_that_says_nothing_of_its_size_is_asked(monkeypatch):
    for name in (*launcher.LAUNCHED, launcher.SLURM):
        monkeypatch.delenv(name, raising=False)
    assert launcher.mpi() is None
    found = type("MPI", (), {"COMM_WORLD": type("Comm", (), {"size": 3})})
    monkeypatch.setitem(sys.modules, "mpi4py", type("mpi4py", (), {"MPI": found}))
    monkeypatch.setenv("PMIX_RANK", "0")
    assert launcher.mpi() is found
    found.COMM_WORLD.size = 1
    assert launcher.mpi() is None


# ---- one process ---------------------------------------------------------------------------------------------------


def test_one_process_copies_nothing():
    alone, p = parallel.World(), nn.Parameter(tg.tensor(np.ones(3)))
    g = p.grad = tg.ones(3, dtype="float64")
    array = g.array
    loss = tg.tensor(1.0)
    found, n = alone.all_reduce([p], loss, 2.0)
    assert found is loss and n == 2.0 and p.grad.array is array
    with alone.overlapping([p]):
        pass
    alone.broadcast([p])
    arrays = [np.ones(2)]
    assert alone.joined(arrays)[0] is arrays[0] and alone.first(lambda: 3) == 3 and alone.total(1, 2) == [1.0, 2.0]
    assert alone.part(7) == slice(0, 7) and alone.same([p]) and alone.device("gpu:1") == "gpu:1"
    with pytest.raises(KeyError):
        alone.all_reduce([p], error=KeyError("mine"))


class Two(parallel.World):
    """What a trainer sees of two processes."""

    size = 2


def test_a_task_that_does_not_know_of_the_processes_is_refused():
    task = type("Task", (), {"loss": lambda self, batch, carry: None})()
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"^Task: a task that 2 processes share must know of them, got one .*`world`"):
        Trainer(model, tg.optim.SGD(model.parameters(), 0.1), task, None, world=Two())


def test_the_world_is_found_out_once(monkeypatch):
    assert world() is world() is parallel.world()


def test_a_long_wait_costs_little(monkeypatch):
    """A request that is complete at the n-th look: the first looks come at once, later ones after naps."""
    from tinygrad_rnn.parallel import waiting

    naps = []
    monkeypatch.setattr(waiting.time, "sleep", naps.append)
    clock = iter(np.arange(0, 1000, 0.004))
    monkeypatch.setattr(waiting.time, "monotonic", lambda: next(clock))

    class Comm:
        rank, size = 0, 1
        allgather = staticmethod(lambda name: [name])
        Iprobe = staticmethod(lambda *_: False)

    class MPI:
        ANY_SOURCE = ANY_TAG = -1
        Status = staticmethod(lambda: None)
        Get_processor_name = staticmethod(lambda: "here")

    class Request:
        def __init__(self, looks):
            self.looks = looks

        def Test(self):
            self.looks -= 1
            return self.looks < 0

    w = waiting.Waiting(MPI, Comm, pytest.fail)
    w.wait(Request(0))
    assert not naps
    w.wait(Request(50))
    assert len(naps) > 40 and set(naps) == {waiting.NAP}
