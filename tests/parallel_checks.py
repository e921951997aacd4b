"""Checks that several processes make together: `mpiexec -n 3 python parallel_checks.py` prints what failed.

With --gpu as the first argument on GPUs, one for each process: CuPy's if it is installed, else the stand-in's two.
"""

import importlib.util
import json
import sys
import traceback

from contextlib import contextmanager, nullcontext

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim, parallel
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.tensor import Parameter
from tinygrad_rnn.parallel import buckets
from tinygrad_rnn.parallel.overlap import Overlap
from tinygrad_rnn.parallel.sums import Sums

WORLD = parallel.world()
GPU = "--gpu" in sys.argv[1:2]
if GPU:
    sys.argv.pop(1)
    if importlib.util.find_spec("cupy") is None:
        import strict_cupy

        sys.modules.update(strict_cupy.modules())
    tg.set_default_device(WORLD.device("gpu"))
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def each_rank(of):
    """An array that each rank computes for all: [of(0), of(1), …]."""
    return [of(rank) for rank in range(WORLD.size)]


def parameters_of(shapes, dtype="float64"):
    rng = np.random.default_rng(0)
    return [Parameter(tg.tensor(rng.normal(size=shape), dtype)) for shape in shapes]


def gradient_of(p, i, rank):
    return np.random.default_rng([i, rank]).normal(size=p.shape).astype(p.dtype)


def set_gradients(parameters, missing=lambda i, rank: False):
    for i, p in enumerate(parameters):
        p.grad = None if missing(i, WORLD.rank) else tg.tensor(gradient_of(p, i, WORLD.rank))


def summed(p, i, missing=lambda i, rank: False):
    found = [gradient_of(p, i, rank) for rank in range(WORLD.size) if not missing(i, rank)]
    return sum(found[1:], found[0].astype(np.promote_types(p.dtype, np.float32)))


SHAPES = [(7, 5), (), (1,), (40, 30), (0, 3), (11,)]


class Model(nn.Module):
    """What sends gradients in ways of its own: an embedding, compiled layers, a weight that is read twice."""

    def __init__(self, V=30, H=8):
        self.embedding, self.recurrent = (
            nn.Embedding(V, H),
            nn.Recurrent(nn.Stack([nn.LSTMCell(H, H), nn.GRUCell(H, H)])),
        )
        self.twice, self.output = Parameter(tg.tensor(np.eye(H))), nn.Linear(H, V)

    def forward(self, ids):
        return self.output(self.recurrent(self.embedding(ids) @ self.twice)[0] @ self.twice)


def model_and_batches(batches=3, B=7, V=30, dtype="float64"):
    tg.manual_seed(0)
    model, rng = Model(V).to(dtype), np.random.default_rng(1)
    return model, [rng.integers(0, V // 2, (6, B)) for _ in range(batches)]


def loss_of(model, ids, part):
    if part.start == part.stop:
        return None
    return nn.cross_entropy(model(ids[:-1, part]), ids[1:, part], reduction="sum") / ids[1:].size


def learn(part, all_reduce, block=lambda *_: nullcontext(), clip=0.5, make=optim.Adam, shared=False, rows=False):
    """The losses, and the parameters in the end."""
    model, batches = model_and_batches()
    optimizer = make(model.parameters(), 0.05)
    optimizer = optim.ZeroRedundancyOptimizer(optimizer) if shared else optimizer
    parameters, losses = optimizer.parameters, []
    for ids in [*batches, *batches]:
        only = {model.embedding.E: np.unique(ids[:-1])} if rows else {}
        with block(parameters, only):
            loss = loss_of(model, ids, part(ids.shape[1]))
            if loss is not None:
                loss.backward()
        nats = 0.0 if loss is None else loss.item()
        losses += optimizer.all_reduce(nats, rows=only) if shared else all_reduce(parameters, nats, rows=only)
        optimizer.clip_grad_norm_(clip) if shared else optim.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad()
    return losses, [p.numpy() for p in parameters], optimizer


@contextmanager
def early(*_):
    """Layers run one by one, as where gradients are awaited; nothing is summed meanwhile."""
    context.early = True
    yield
    context.early = False


def alone(**options):
    return learn(lambda n: slice(0, n), parallel.World().all_reduce, **options)


def assert_alike(found, wanted, rtol=1e-10):
    np.testing.assert_allclose(found[0], wanted[0], rtol=rtol)
    for a, b in zip(found[1], wanted[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-11)


# ---- sums --------------------------------------------------------------------------------------------------------


@check
def gradients_are_added_up_in_every_dtype_together():
    for dtypes in (["float64"], ["float32"], ["float16"], ["float32", "float64", "float16"]):
        ps = [Parameter(tg.tensor(np.ones(s), dtypes[i % len(dtypes)])) for i, s in enumerate(SHAPES)]
        set_gradients(ps)
        assert WORLD.all_reduce(ps, 1.5, WORLD.rank) == [1.5 * WORLD.size, sum(range(WORLD.size))]
        for i, p in enumerate(ps):
            assert p.grad.dtype == p.dtype
            eps = np.finfo(p.dtype).eps
            np.testing.assert_allclose(p.grad.numpy(), summed(p, i).astype(p.dtype), rtol=8 * eps, atol=8 * eps)


@check
def a_gradient_that_nobody_has_stays_missing_and_one_that_somebody_has_is_everywhere():
    ps = parameters_of(SHAPES)
    missing = lambda i, rank: i == 0 or (i == 3 and rank != WORLD.size - 1)
    set_gradients(ps, missing)
    WORLD.all_reduce(ps)
    assert ps[0].grad is None
    np.testing.assert_array_equal(ps[3].grad.numpy(), gradient_of(ps[3], 3, WORLD.size - 1))
    WORLD.all_reduce(ps)  # also where it had one before
    assert ps[0].grad is None


@check
def numbers_are_what_they_were_and_exact():
    ps = parameters_of([(2,)], "float32")
    ps[0].grad = tg.ones(2)
    tensor = tg.tensor(np.float32(0.5 + WORLD.rank))
    a, b, c = WORLD.all_reduce(ps, tensor, 2.0**40 + WORLD.rank, WORLD.rank == 0)
    assert isinstance(a, tg.Tensor) and a.dtype == np.float32 and a.item() == sum(each_rank(lambda r: 0.5 + r))
    assert b == sum(each_rank(lambda r: 2.0**40 + r)) and c == 1  # float32 would have lost it
    assert WORLD.total(1, WORLD.rank) == [WORLD.size, sum(range(WORLD.size))]


@check
def many_buckets_are_one():
    found = {}
    sizes = buckets.LARGE, buckets.SMALL, buckets.FEW
    for most in (1, 100, 1 << 24):
        buckets.LARGE = buckets.SMALL = buckets.FEW = most
        ps = parameters_of(SHAPES, "float32")
        set_gradients(ps)
        WORLD.all_reduce(ps)
        made = WORLD.gradients.buckets.buckets
        assert len(made) == {1: 6, 100: 4, 1 << 24: 1}[most], [len(b.parameters) for b in made]
        found[most] = [p.grad.numpy() for p in ps]
    buckets.LARGE, buckets.SMALL, buckets.FEW = sizes
    for a, b, c in zip(*found.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
        np.testing.assert_allclose(b, c, rtol=1e-6)


@check
def the_buckets_follow_parameters_that_change():
    model, _ = model_and_batches()
    for dtype in "float64", "float32", "float64":
        model.to(dtype)
        ps = list(model.parameters())
        set_gradients(ps)
        WORLD.all_reduce(ps)
        for i, p in enumerate(ps):
            np.testing.assert_allclose(p.grad.numpy(), summed(p, i), rtol=1e-5, atol=1e-6)


@check
def gradients_of_before_are_added_to():
    ps = parameters_of([(3, 2), (4,)])
    for block in (lambda: nullcontext(), lambda: WORLD.overlapping(ps)):
        for p in ps:
            p.grad = tg.tensor(np.full(p.shape, 10.0 * WORLD.rank))
        with block():
            sum((p * (WORLD.rank + 1.0)).sum() for p in ps).backward()
        WORLD.all_reduce(ps)
        for p in ps:
            np.testing.assert_array_equal(p.grad.numpy(), sum(each_rank(lambda r: 11.0 * r + 1)))


# ---- the same run --------------------------------------------------------------------------------------------------


@check
def several_learn_what_one_learns():
    assert_alike(learn(WORLD.part, WORLD.all_reduce), alone())


@check
def so_do_they_overlapping():
    found = learn(WORLD.part, WORLD.all_reduce, WORLD.overlapping)
    assert_alike(found, alone())
    plain = learn(WORLD.part, WORLD.all_reduce, early)
    assert found[0] == plain[0] and all((a == b).all() for a, b in zip(found[1], plain[1], strict=True))  # bit for bit


@check
def so_do_they_overlapping_in_many_buckets():
    sizes = buckets.LARGE, buckets.SMALL, buckets.FEW
    buckets.LARGE = buckets.SMALL = buckets.FEW = 1000
    try:
        assert_alike(learn(WORLD.part, WORLD.all_reduce, WORLD.overlapping), alone())
    finally:
        buckets.LARGE, buckets.SMALL, buckets.FEW = sizes


@check
def so_do_they_when_rows_travel():
    assert_alike(learn(WORLD.part, WORLD.all_reduce, rows=True), alone())
    assert_alike(learn(WORLD.part, WORLD.all_reduce, WORLD.overlapping, rows=True), alone())


@check
def so_do_they_with_a_shared_update():
    for make in (optim.Adam, optim.AdamW, lambda ps, lr: optim.SGD(ps, lr, momentum=0.9), optim.RMSprop):
        assert_alike(learn(WORLD.part, None, make=make, shared=True), alone(make=make))
    assert_alike(learn(WORLD.part, None, shared=True, rows=True), alone())


@check
def all_processes_keep_the_same_parameters_bit_for_bit():
    for options in ({}, {"shared": True}, {"rows": True}, {"block": WORLD.overlapping}):
        _, _, optimizer = learn(WORLD.part, WORLD.all_reduce, **options)
        assert WORLD.same(optimizer.parameters)


@check
def a_process_without_a_part_takes_part():
    part = lambda n: slice(0, n) if WORLD.rank == WORLD.size - 1 else slice(0, 0)
    assert_alike(learn(part, WORLD.all_reduce), alone())
    assert_alike(learn(part, WORLD.all_reduce, WORLD.overlapping, rows=True), alone())
    assert_alike(learn(part, None, shared=True), alone())


def on_gpus_nobody_waits_for_a_step():
    model, (ids, *_) = model_and_batches()
    optimizer = optim.Adam(model.parameters(), 0.05)
    for shown in (False, True):
        for k in range(2):
            with sys.modules["strict_cupy"].counted() as counts:
                with WORLD.overlapping(optimizer.parameters) if shown else nullcontext():
                    loss = loss_of(model, ids, WORLD.part(ids.shape[1]))
                    loss.backward()
                (total,) = WORLD.all_reduce(optimizer.parameters, loss)
                optim.clip_grad_norm_(optimizer.parameters, 1.0)
                optimizer.step()
                optimizer.zero_grad()
            assert not k or counts.syncs == 0, counts
        assert total.device == WORLD.device("gpu")


if GPU and "strict_cupy" in sys.modules:  # who else would count?
    check(on_gpus_nobody_waits_for_a_step)


# ---- what travels --------------------------------------------------------------------------------------------------


def travelled(function):
    """The bytes that this process gave to sums meanwhile, at once and in the background."""
    nbytes, add_up, init = [], Sums.add_up, Overlap.__init__
    noted = lambda f: lambda *args: (nbytes.append(args[-1].nbytes), f(*args))[1]
    Sums.add_up = noted(add_up)
    Overlap.__init__ = lambda self, buckets, begin: init(self, buckets, noted(begin))
    try:
        function()
    finally:
        Sums.add_up, Overlap.__init__ = add_up, init
    return sum(nbytes)


@check
def of_an_embedding_only_the_rows_that_were_read_travel():
    E, ids = parameters_of([(500, 4)], "float32")[0], np.array([3, 77, 400])
    read = ids[[WORLD.rank % 3]]
    for shown in (False, True):
        E.grad = None

        def step(shown=shown):
            with WORLD.overlapping([E], {E: ids}) if shown else nullcontext():
                E[read].sum().backward()
            WORLD.all_reduce([E], rows={E: ids})

        assert travelled(step) == 3 * 4 * 4
        wanted = np.zeros((500, 4))
        np.add.at(wanted, ids[[r % 3 for r in range(WORLD.size)]], 1)
        np.testing.assert_array_equal(E.grad.numpy(), wanted)


@check
def the_optimisers_memory_is_shared_out():
    _, _, optimizer = learn(WORLD.part, None, shared=True)
    mine = sum(a.nbytes for state in optimizer.inner.states for a in state.values())
    whole = sum(2 * p.array.nbytes for p in optimizer.parameters)
    assert WORLD.total(mine) == [whole] and mine <= whole / WORLD.size + 2 * 8 * len(optimizer.parameters)


@check
def a_shared_optimiser_goes_on_from_its_state_and_from_that_of_a_plain_one():
    _, wanted, plain = alone()
    _, _, shared = learn(WORLD.part, None, shared=True)
    state = shared.state_dict()
    if WORLD.rank == 0:
        expected = plain.state_dict()
        assert state.keys() == expected.keys()
        for name, array in expected.items():
            assert array.shape == state[name].shape and array.dtype == state[name].dtype
            np.testing.assert_allclose(state[name], array, rtol=1e-11, atol=1e-14)
    for values in (WORLD.first(lambda: state), plain.state_dict()):
        found, again = [], optim.ZeroRedundancyOptimizer(optim.Adam(parameters_of([w.shape for w in wanted]), 0.05))
        again.load_state_dict(values)
        assert again.steps == plain.steps and again.counts == plain.counts
        other = optim.Adam(parameters_of([w.shape for w in wanted]), 0.05)
        other.load_state_dict(plain.state_dict())
        for optimizer in again, other:
            set_gradients(optimizer.parameters)
            (optimizer.all_reduce() if optimizer is again else WORLD.all_reduce(optimizer.parameters))
            optimizer.step()
            found.append([p.numpy() for p in optimizer.parameters])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


@check
def a_shared_optimiser_leaves_alone_what_has_no_gradient_and_sees_values_that_others_set():
    ps = parameters_of([(5, 3), (4,)])
    optimizer = optim.ZeroRedundancyOptimizer(optim.SGD(ps, 1.0))
    before = ps[1].numpy()
    for _ in range(2):
        ps[0].data = np.zeros((5, 3))
        ps[0].grad, ps[1].grad = tg.tensor(np.ones((5, 3))), None
        optimizer.all_reduce()
        optimizer.step()
        np.testing.assert_array_equal(ps[0].numpy(), -WORLD.size)
    np.testing.assert_array_equal(ps[1].numpy(), before)
    assert optimizer.counts == [2, 0]


# ---- the rest of the world -----------------------------------------------------------------------------------------


@check
def parts_follow_one_another():
    for n in (0, 1, WORLD.size - 1, WORLD.size, 10, 64):
        parts = WORLD.joined([np.arange(n)[WORLD.part(n)]])
        if WORLD.rank == 0:
            np.testing.assert_array_equal(parts[0], np.arange(n))
        sizes = each_rank(lambda r, n=n: n * (r + 1) // WORLD.size - n * r // WORLD.size)
        assert max(sizes) - min(sizes) <= 1


@check
def all_get_what_the_first_one_has():
    for dtype in ("float16", "float32", "float64", "int64", "bool"):
        t = tg.tensor((np.arange(6).reshape(2, 3) * WORLD.rank + 1).astype(dtype))
        assert WORLD.size == 1 or dtype == "bool" or not WORLD.same([t])
        WORLD.broadcast([t])
        assert WORLD.same([t]) and t.dtype == dtype
        np.testing.assert_array_equal(t.numpy(), np.ones((2, 3), dtype))
    assert WORLD.first(lambda: {"rank": WORLD.rank}) == {"rank": 0}


@check
def what_the_first_one_raises_is_raised_there_and_told_in_the_others():
    def fails():
        raise KeyError("no such file")

    try:
        WORLD.first(fails)
    except Exception as error:
        assert type(error) is (KeyError if WORLD.rank == 0 else parallel.Failed), error
    else:
        raise AssertionError("nothing raised")


def told(shown, p, fails):
    """What a step raises in which the last process fails, before its backward pass or in it."""
    try:
        error = None
        try:
            with WORLD.overlapping([p]) if shown else nullcontext():
                if WORLD.rank == WORLD.size - 1:
                    fails(p)
                (p * p).sum().backward()
        except Exception as caught:
            error = caught
        WORLD.all_reduce([p], error=error)
    except Exception as error:
        return type(error)
    return None


@check
def an_error_in_one_process_is_told_in_all():
    (p,) = parameters_of([(3,)])

    def before(p):
        raise ZeroDivisionError

    def within(p):
        def hook(g):
            raise ZeroDivisionError

        q = p * 1
        q.register_hook(hook)
        q.sum().backward()

    for shown in (False, True):
        for fails in (before, within):
            p.grad = None
            mine = WORLD.rank == WORLD.size - 1
            assert told(shown, p, fails) is (ZeroDivisionError if mine else parallel.Failed)
        p.grad = None
        assert told(shown, p, lambda p: None) is None  # and the next step is made
        np.testing.assert_allclose(p.grad.numpy(), 2 * WORLD.size * p.numpy())


@check
def a_second_backward_pass_in_the_block_is_refused():
    (p,) = parameters_of([(3,)])
    message = ""
    try:
        with WORLD.overlapping([p]):
            (p * 2).sum().backward()
            (p * 2).sum().backward()
    except RuntimeError as error:
        message = str(error)
        try:
            WORLD.all_reduce([p], error=error)
        except RuntimeError as again:
            assert again is error
    assert "only the last backward pass" in message


@check
def threads_are_shared_out():
    import os

    from threadpoolctl import threadpool_info

    share = max(1, len(os.sched_getaffinity(0)) // WORLD.size)
    assert os.environ["OMP_NUM_THREADS"] == str(share)
    assert all(pool["num_threads"] == share for pool in threadpool_info() if pool["user_api"] == "blas")


if __name__ == "__main__":
    wanted = sys.argv[1:] or CHECKS
    found = {}
    for name in wanted:
        error = ""
        try:
            CHECKS[name]()
        except BaseException:
            error = f"rank {WORLD.rank}:\n{traceback.format_exc()}"
        errors = WORLD.comm.allgather(error)
        found[name] = "\n".join(filter(None, errors))
        if found[name]:
            break  # others may wait for what never comes
    if WORLD.rank == 0:
        print(json.dumps(found))
