"""Two devices, their streams and events, and what the CUDA runtime says: cupy.cuda.

Everything runs at once, but for copies to the device on a stream that is not the null stream: these wait until somebody
waits for the stream, or works on it; work on the null stream waits for all streams but those that are `non_blocking`.
Copies to the host that do not block come when the host has begun a good deal more work, or waits for them.
What is read too early is not there, and a buffer that is written too early is what gets copied.
"""

import operator
import threading

from types import SimpleNamespace

import numpy as np

from cuda_on_cpu import CompileError

from strict_cupy import counts

compiler = SimpleNamespace(CompileException=CompileError)
nvrtc = SimpleNamespace(getVersion=lambda: (13, 0))


class _Current(threading.local):
    id = 0
    stream = None  # the null stream


_current = _Current()


def current_device():
    """The number of the thread's current device."""
    return _current.id


def check_device(array):
    """ValueError unless the array is on the current device."""
    at, now = array.device.id, _current.id
    if at != now:
        raise ValueError(f"Array device must be same as the current device: array device = {at} while current = {now}")


class Device:
    """A GPU, by number; as a context, the current one inside the block."""

    compute_capability = "90"
    mem_info = (64 << 30, 80 << 30)

    def __init__(self, device=None):
        self.id = _current.id if device is None else operator.index(device)
        self.outer = []

    def use(self):
        _current.id = self.id

    def synchronize(self):
        counts.sync("Device.synchronize")
        wait()
        for stream in [*_waiting]:
            stream.catch_up()

    def __int__(self):
        return self.id

    def __enter__(self):
        self.outer.append(_current.id)
        self.use()
        return self

    def __exit__(self, *_):
        _current.id = self.outer.pop()


LATE = 100  # pieces of work that the device may be behind the host

_waiting = []  # streams with copies to be made
_leaving = []  # copies to the host that have not come: how much more work will have begun by then, and what to do


def leave(work):
    """A copy to the host, for which nobody waits yet: made when the host has begun a good deal more, or waits."""
    _leaving.append([LATE, work])


def arrive(copies):
    """Make these of the copies to the host."""
    for copy in [c for c in copies if c in _leaving]:
        _leaving.remove(copy)
        copy[1]()


def wait():
    """The host waits until the device has done what was begun."""
    arrive([*_leaving])
    begin_work()


def begin_work():
    """What the current stream waits for is done. Nothing but kernels of one's own and products can be recorded: of all
    else CuPy makes memory that a graph would find in use by others."""
    if get_current_stream().graph is not None:
        raise runtime.CUDARuntimeError("the stand-in records no more than kernels and products")
    for copy in [*_leaving]:
        copy[0] -= 1
    arrive([copy for copy in _leaving if copy[0] <= 0])
    if _waiting:
        current = get_current_stream()
        null = current is Stream.null
        for stream in [s for s in _waiting if s is current or (null and not s.non_blocking)]:
            stream.catch_up()


def launch(name, work):
    """Do work on the current stream; recorded in the graph that the stream makes, if it makes one."""
    graph = get_current_stream().graph
    if graph is not None:
        graph.work.append(work)
        return
    begin_work()
    counts.launch(name)
    work()


class Graph:
    """What was launched while a stream recorded it."""

    def __init__(self):
        self.work = []

    def launch(self, stream=None):
        with stream or get_current_stream():
            launch("graph", lambda: [work() for work in self.work])


class Stream:
    """A queue of copies to be made."""

    graph = None  # that it records

    def __init__(self, null=False, non_blocking=False, ptds=False):
        self.null, self.non_blocking = null, non_blocking
        self.ptr = 0 if null else id(self)
        self.work, self.outer = [], []

    def do_later(self, work):
        """Do it when somebody waits for the stream; on the null stream now."""
        if self.null:
            work()
            return
        self.work.append(work)
        if self not in _waiting:
            _waiting.append(self)

    def catch_up(self, n=None):
        """Do the first n things of those that wait."""
        now, self.work = self.work[:n], [] if n is None else self.work[n:]
        for work in now:
            work()
        if not self.work and self in _waiting:
            _waiting.remove(self)

    def use(self):
        _current.stream = self
        return self

    def synchronize(self):
        counts.sync("Stream.synchronize")
        wait()
        self.catch_up()

    def begin_capture(self, mode=None):
        """Record what is launched, and do nothing of it. Not on the null stream."""
        if self.null or self.graph is not None:
            raise runtime.CUDARuntimeError("cudaErrorStreamCaptureUnsupported")
        self.graph = Graph()

    def end_capture(self):
        if self.graph is None:
            raise runtime.CUDARuntimeError("cudaErrorIllegalState")
        found, self.graph = self.graph, None
        return found

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        event.catch_up()

    @property
    def done(self):
        return not self.work

    def __enter__(self):
        self.outer.append(_current.stream)
        return self.use()

    def __exit__(self, *_):
        _current.stream = self.outer.pop()


Stream.null = Stream(null=True)


def get_current_stream():
    return _current.stream or Stream.null


class Event:
    """A place in a stream."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.stream, self.before, self.leaving = None, [], []

    def record(self, stream=None):
        self.stream = stream or get_current_stream()
        self.before, self.leaving = [*self.stream.work], [*_leaving]

    def catch_up(self):
        if self.stream is not None:
            self.stream.catch_up(sum(work in self.before for work in self.stream.work))

    def synchronize(self):
        counts.sync("Event.synchronize")
        arrive(self.leaving)
        self.catch_up()

    @property
    def done(self):
        if any(copy in _leaving for copy in self.leaving):
            return False
        return self.stream is None or not any(work in self.before for work in self.stream.work)


def alloc_pinned_memory(size):
    """A buffer that a stream can copy from while the host goes on; full of 0xff."""
    return memoryview(bytearray(b"\xff" * size))


class OutOfMemoryError(MemoryError):
    """More than the pool may hold."""


class MemoryPool:
    """A limit on what one array may take."""

    def __init__(self):
        self.limit = 0

    def set_limit(self, size=None, fraction=None):
        self.limit = int(size if fraction is None else fraction * Device.mem_info[1])

    def get_limit(self):
        return self.limit

    def free_all_blocks(self):
        pass

    def allocate(self, size):
        """OutOfMemoryError for more than the limit."""
        if self.limit and size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (limit set to: {self.limit:,} bytes).")


memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError, MemoryPool=MemoryPool)
_pool = MemoryPool()


def get_default_memory_pool():
    return _pool


def is_available():
    return True


def get_device_id():
    return _current.id


def _synchronize():
    Device().synchronize()


_PROPERTIES = {
    "name": b"stand-in", "major": 9, "minor": 0, "multiProcessorCount": 132, "warpSize": 32,
    "sharedMemPerBlock": 48 << 10, "sharedMemPerBlockOptin": 227 << 10, "totalGlobalMem": 80 << 30,
}  # fmt: skip

runtime = SimpleNamespace(
    CUDA_R_16F=2,
    CUDA_R_32F=0,
    CUDA_R_64F=1,
    CUDARuntimeError=type("CUDARuntimeError", (RuntimeError,), {}),
    getDeviceCount=lambda: 2,
    getDevice=lambda: _current.id,
    getDeviceProperties=lambda device: dict(_PROPERTIES),
    driverGetVersion=lambda: 13000,
    runtimeGetVersion=lambda: 13000,
    deviceSynchronize=_synchronize,
    memGetInfo=lambda: Device.mem_info,
)


def poisoned(shape, dtype):
    """A host array as the device's memory may be found: full of NaN, or of -1."""
    host = np.empty(shape, dtype)
    _pool.allocate(host.nbytes)
    host.view(np.uint8).fill(255) if host.ndim else host.reshape(1).view(np.uint8).fill(255)
    return host
