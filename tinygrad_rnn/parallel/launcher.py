"""Was this process started by a launcher of MPI, as one of several? MPI itself takes up to a second to start."""

from __future__ import annotations

import os

from typing import Any

SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")  # of Open MPI; of MPICH and its kin
LAUNCHED = (*SIZES, "PMIX_RANK")  # srun --mpi=pmix
SLURM = "SLURM_STEP_NUM_TASKS"


def mpi() -> Any:
    """The module mpi4py.MPI, if a launcher has started several processes; None if this one is alone.

    RuntimeError if there is a launcher, and MPI is missing, or another one than the launcher's.
    """
    asked = next((int(os.environ[name]) for name in SIZES if name in os.environ), None)
    if not any(name in os.environ for name in LAUNCHED):
        _refuse_srun()
        return None
    if asked == 1:
        return None
    try:
        from mpi4py import MPI  # noqa: PLC0415 (only under a launcher)
    except (ImportError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RuntimeError(
            f"parallel: a launcher of MPI started this process, so mpi4py and an MPI must be there, got {reason!r}; "
            'pip install "tinygrad-rnn[mpi]"'
        ) from None
    if asked not in (None, MPI.COMM_WORLD.size):
        raise RuntimeError(
            f"parallel: the launcher must be that of {_name(MPI)}, got another one, whose {asked} processes do not see "
            "one another; use the mpiexec of the same MPI"
        )
    return MPI if MPI.COMM_WORLD.size > 1 else None


def _refuse_srun() -> None:
    """Slurm's launcher starts processes also if it knows of no MPI: each would believe to be alone."""
    n = os.environ.get(SLURM, "1")
    if n.isdecimal() and int(n) > 1:
        raise RuntimeError(
            f"parallel: srun must be told of MPI, it started {n} processes that do not see one another; add --mpi=pmix "
            f"or --mpi=pmi2 (or unset {SLURM} for {n} runs, each alone)"
        )


def _name(mpi: Any) -> str:
    return " ".join(mpi.Get_library_version().split()[:3]).rstrip(",")
