"""cupy.cuda.nccl over MPI: what a communicator is told to do on a stream is done when somebody waits for the stream."""

import ctypes

import numpy as np

from strict_cupy import counts, cuda

available = True
NCCL_UINT8, NCCL_FLOAT32, NCCL_FLOAT64 = 1, 7, 8
NCCL_SUM = 0
_DTYPES = {NCCL_UINT8: np.uint8, NCCL_FLOAT32: np.float32, NCCL_FLOAT64: np.float64}


def get_unique_id():
    return bytes(range(128))


class NcclCommunicator:
    """The processes of COMM_WORLD, each with the GPU that was its current one when this was made."""

    def __init__(self, ndev, commId, rank):
        if not isinstance(commId, bytes) or len(commId) != 128:
            raise TypeError(f"commId must be what get_unique_id returned, got {commId!r}")
        if not 0 <= rank < ndev:
            raise RuntimeError("NCCL_ERROR_INVALID_ARGUMENT: invalid argument")
        self.size, self.device, self.comm = ndev, cuda.current_device(), None
        if ndev > 1:
            from mpi4py import MPI

            self.comm, self.MPI = MPI.COMM_WORLD.Dup(), MPI
            devices = self.comm.allgather((MPI.Get_processor_name(), self.device))
            if (self.comm.size, self.comm.rank) != (ndev, rank) or len({*devices}) < ndev:
                raise RuntimeError("NCCL_ERROR_INVALID_USAGE: Duplicate GPU detected")

    def check_async_error(self):
        return 0

    def allReduce(self, sendbuf, recvbuf, count, datatype, op, stream):
        def work():
            mine = _memory(sendbuf, count, datatype).copy()
            into = _memory(recvbuf, count, datatype)
            into[...] = mine
            if self.comm is not None:
                self.comm.Allreduce(mine, into)

        self._begin("allReduce", work, stream, op)

    def reduceScatter(self, sendbuf, recvbuf, recvcount, datatype, op, stream):
        def work():
            mine = _memory(sendbuf, recvcount * self.size, datatype).copy()
            into = _memory(recvbuf, recvcount, datatype)
            into[...] = mine[:recvcount]
            if self.comm is not None:
                self.comm.Reduce_scatter_block(mine, into)

        self._begin("reduceScatter", work, stream, op)

    def allGather(self, sendbuf, recvbuf, count, datatype, stream):
        def work():
            mine = _memory(sendbuf, count, datatype).copy()
            into = _memory(recvbuf, count * self.size, datatype)
            into[:count] = mine
            if self.comm is not None:
                self.comm.Allgather(mine, into)

        self._begin("allGather", work, stream)

    def _begin(self, name, work, stream, op=NCCL_SUM):
        if op != NCCL_SUM or cuda.current_device() != self.device:
            raise RuntimeError("NCCL_ERROR_INVALID_ARGUMENT: invalid argument")
        current = cuda.get_current_stream()
        if stream != current.ptr:
            raise TypeError("the stand-in works on the current stream")
        cuda.begin_work()
        counts.launch(name)
        current.do_later(work)


def _memory(at, count, datatype):
    """The host's memory at an address, as an array."""
    if type(at) is not int or type(count) is not int:
        raise TypeError(f"an address and a count must be integers, got {at!r} and {count!r}")
    dtype = np.dtype(_DTYPES[datatype])
    if not count:
        return np.empty(0, dtype)
    return np.frombuffer((ctypes.c_char * (count * dtype.itemsize)).from_address(at), dtype)
