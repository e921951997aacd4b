"""A mutation run, `make mutants`: lines of the library are broken one by one, and the tests of the part must notice.

    python tests/mutants.py [words]    those whose names have one of the words

Each line is broken in a copy of the files that git knows, and the tests that are to notice run there. Exit status 1 if
a mutant survives; and if its line has changed: break it anew in the table here. First of all these tests must pass with
nothing broken.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from test_verify import MUTATIONS

ROOT = Path(__file__).parents[1]
AT_ONCE = 2  # copies that are broken at once
PATIENCE = 120  # seconds for the tests of one mutant
ENDED = {0: "SURVIVED", 2: "CANNOT BE RUN", 4: "NO SUCH TEST", 5: "NO SUCH TEST"}  # of pytest's exit status; 1: caught


class Mutant(NamedTuple):
    """What is wrong, the file, a text that stands once in it, what that is broken to, the tests that must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str

    def broken(self, source: str) -> str:
        """The source of its file, broken. ValueError if the text does not stand there once."""
        if (n := source.count(self.old)) != 1:
            raise ValueError(f"{self.file} must have the line of {self.name!r} once, has it {n} times: break it anew")
        return source.replace(self.old, self.new)


# ---- the mutants -----------------------------------------------------------------------------------------------------

Rows = dict[str, tuple[str, str]]
PROCESSES, TWO = "tests/test_parallel.py", "'test_several_processes and 2 and not gpu'"
# by file, and by the tests that must notice: what is wrong, a text that stands once in the file, what it is broken to
FILES: list[tuple[str, str, Rows]] = [
    ("tinygrad_rnn/compiler/schedule/dataflow.py", "tests/test_schedule.py -k 'the_schedule'", {
        "a sum over time moves": ('return v.op != "tsum" and self', "return self"),
        "what a contraction reads is not read": (
            "if self.contracted(a) or a in self.accumulating:",
            "if a in self.accumulating:"),
        "what a product on top of a term reads is not read": (
            "if self.contracted(a) or a in self.accumulating:",
            "if self.contracted(a):"),
        "a product that others read is a contraction": (
            'if not all(u is not None and u.op == "tsum" for u in self.users[v]) or self.level[v] != PARALLEL:',
            "if self.level[v] != PARALLEL:"),
        "a sum over columns is a contraction": (
            'return v.op == "sum" and v.static["axis"] == (0,) and',
            'return v.op == "sum" and'),
        "a sum that keeps its axis is a contraction": (' and not v.static["keepdims"] and', " and"),
        "two that move are rows and weights": (
            "return self.moves(m.args[0]) and not self.moves(m.args[1])",
            "return self.moves(m.args[0])"),
    }),
    ("tinygrad_rnn/compiler/schedule/views.py", "tests/test_schedule.py -k 'the_schedule'", {
        "chosen elements are a view": (
            "return not any(map(_chooses, key if isinstance(key, tuple) else (key,)))",
            "return True"),
        "columns in another shape are a view": (
            'return x.op != "zeros" and (only_ones(v) or not (is_view(x) or x.op == "pack"))',
            'return x.op != "zeros"'),
        "zeros in another shape are a view": ('return x.op != "zeros" and (only_ones', "return (only_ones"),
    }),
    ("tinygrad_rnn/compiler/schedule/order.py", "tests/test_schedule.py -k 'the_schedule'", {
        "two new states are one value": (" and v not in others\n", "\n"),
        "a new state is a view": ("return v.moves and not is_view(v) and", "return v.moves and"),
        "a state without a gradient has an old one": (
            'if v is None and name == "dstate" and leaf in read:',
            "if False:"),
        "a contraction is added up in a loop": (" and not flow.contracted(v.args[0]):", ":"),
        "what others read too sinks into a loop": (
            "home = homes.pop() if len(homes) == 1 else PARALLEL",
            "home = homes.pop()"),
        "a product sinks into a loop": ("else _is_cheap(v)) and fits:", "else True) and fits:"),
        "a delay is not waited for": (
            "for a in (*u.values, *([behind[u]] if u in behind else []))]",
            "for a in u.values]"),
        "what a sum over time leads to through a view comes first": (
            "after |= {v, *_views_of(flow, v)}",
            "after |= {v}"),
        "a loop runs forward in the backward pass": ("loop=True, backward=n in against)", "loop=True)"),
        "outputs of one operation are not computed with it": ("for u in (v, *_picked(flow, v))]", "for u in (v,)]"),
    }),
    ("tinygrad_rnn/compiler/schedule/lifetimes.py", "tests/test_schedule.py -k 'the_schedule'", {
        "results die with their last reader": (
            "return last | {base(v): FOREVER for v in flow.circuit.wanted}",
            "return last"),
        "gradients of x are not kept": ('("y", "dx", "dwatched")', '("y", "dwatched")'),
        "gradients that are watched are not kept": ('("y", "dx", "dwatched")', '("y", "dx")'),
        "what is read through a view is not kept": ("for a in map(base, flow.reads(v)):", "for a in flow.reads(v):"),
        "operands of a product on top of a term die before": (
            "for v, n in position.items() for a in flow.reads(v)}",
            "for v, n in position.items() for a in v.values}"),
    }),
    ("tinygrad_rnn/compiler/schedule/places.py", "tests/test_schedule.py -k 'the_schedule'", {
        "a short pack is where a long one is overwritten": (
            "if any(self.taken_from.get(p, FOREVER) <= self.life.last.get(v, -1) for p in v.args):",
            "if False:"),
        "a state is overwritten before its last reader": (" or read > life.position[v]\n", "\n"),
        "a state of all steps has one place": ("kept = not life.stage_of[v].loop or ", "kept = "),
        "a gradient goes to the step after": (
            "Place(buffer, int(back)), Place(buffer, int(not back))",
            "Place(buffer, 0), Place(buffer, 1)"),
        "a gradient that no loop reads has one place": (
            "if not kept and (leaf in self.flow.level or not back):",
            "if not kept:"),
        "what is read in two ways is overwritten": (
            "return dead and not any(b is not a and base(b) is a for b in v.values)",
            "return dead"),
        "a pack is overwritten before its pieces are read": (
            'parts = [base(p) for p in a.values] if a.op == "pack" else []',
            "parts = []"),
        "what is looked at in another shape is a column": (
            "time, free = self._needs_time(v), v not in self.reshaped\n",
            "time, free = self._needs_time(v), True\n"),
        "what is computed once is overwritten at each step": (
            "a not in life.position or moves(a) != moves(v) or",
            "a not in life.position or"),
        "numbers are where masks are": (" or a.dtype != where.buffer.dtype:", ":"),
        "what is kept has one place": ("if not where.buffer.time and a in life.kept_over_time:", "if False:"),
        "a carried gradient is overwritten": ("if life.position[a] <= where.buffer.free_from or a.dtype", "if a.dtype"),
        "columns that overlap are overwritten": (
            "if not readers or any(p[1] > q[0] for p, q in itertools.pairwise(cuts)):",
            "if not readers:"),
        "columns are overwritten between two readers": ("return len(once) == len(readers) and all(", "return all("),
        "columns of another stage are overwritten": (
            "u is not None and stage_of.get(u) is stage_of[v] for u in once",
            "u is not None for u in once"),
        "pieces with others between them lie side by side": ("if any(p != q or end != begin for", "if any(p != q for"),
        "pieces of two packs lie side by side": ("if any(p != q or end != begin for", "if any(end != begin for"),
        "what is kept is in columns of one step": ("if self.place[z].buffer.time or not time:", "if True:"),
        "what another loop makes is in columns of one step": (
            "Buffer(z.shape, z.dtype, time or apart)",
            "Buffer(z.shape, z.dtype, time)"),
        "what a loop shares dies within it": (
            "if b.time or not (lo <= ends[0] <= hi and lo <= ends[1] <= hi):",
            "if False:"),
        "what a nest shares dies within it": ("for g in self.fusion.together:  #", "for g in ():  #"),
    }),
    ("tinygrad_rnn/compiler/schedule/places.py", "tests/test_schedule.py -k overlap", {
        "columns overlap only if they begin together": ("(a[2] < b[3] and b[2] < a[3])", "a[2] == b[2]"),
    }),
    ("tinygrad_rnn/compiler/schedule/nests.py", "tests/test_schedule.py -k 'the_schedule'", {
        "a view of what a nest makes is read in it": (
            " and not any(is_view(a) and base(a) in nest for a in v.values)",
            ""),
        "values of two shapes are in one nest": ("return v.shape == nest[0].shape and", "return"),
        "what another nest reads is in registers": (
            "all(u is not None and nest_of.get(u) is nest_of[v]",
            "all(u is not None and u in nest_of"),
        "a product that others read is on top of a term": ("and flow.users[m] == [v] and", "and"),
        "a product of all steps is on top of a term of one": (" and flow.level[m] == flow.level[v] and", " and"),
        "a product is on top of itself": ("or a is m or", "or"),
        "a product is on top of a mask": (" or a.dtype != v.dtype:", ":"),
        "a product is on top of a column": (
            "return a.shape in (v.shape, v.shape[-1:], (1, v.shape[-1]))",
            "return True"),
        "a new state comes before the last reader of the old one": (" or (v in leaf and late):", ":"),
    }),
    ("tinygrad_rnn/compiler/schedule/nest_places.py", "tests/test_schedule.py -k 'the_schedule'", {
        "what is read after a nest is overwritten in it": ("and self.life.last.get(a, -1) <= end:", ":"),
        "what is read through a view too is overwritten": (
            "not is_view(a) and a not in views and",
            "not is_view(a) and"),
        "columns that another nest reads are overwritten": ("if readers and readers <= inside and", "if readers and"),
        "columns with others behind them are overwritten": (
            "if [lo for lo, _ in parts] != [0, *(hi for _, hi in parts[:-1])] or parts[-1][1] != z.shape[-1]:",
            "if False:"),
        "two dying values take one place": (
            "                    del free[u]\n                    break",
            "                    break"),
        "columns go where there are fewer results": (
            "if len(results) == len(parts) and self._share",
            "if results and self._share"),
    }),
    ("tinygrad_rnn/compiler/schedule/batch_rows.py", "tests/test_schedule.py -k rows", {
        "a sum keeps rows": ('"sum": lambda v: 0 not in v.static["axis"],', '"sum": lambda v: True,'),
        "what is turned keeps rows": ('"permute": lambda v: v.static["axes"][0] == 0,', '"permute": lambda v: True,'),
        "any number of rows is that of the batch": ("v.shape[0] % B == 0 and", ""),
        "any slice keeps rows": (
            "return isinstance(first, slice) and first == slice(None)",
            "return isinstance(first, slice)"),
        "numbers of rows are those of columns": (
            '"broadcast_to": lambda v: v.args[0].shape[:1] == v.shape[:1] and len(v.args[0].shape) == len(v.shape),',
            '"broadcast_to": lambda v: True,'),
        "a product of rows with rows keeps rows": (
            "return flow.moves(a) and len(b.shape) == 2 and not flow.moves(b)",
            "return True"),
        "an operand of fewer axes has the same rows": (
            "all(len(a.shape) == len(v.shape) and a.shape[0] == B for",
            "all(a.shape[0] == B for"),
        "only the last view keeps rows": ("    while is_view(a):\n        a = a.args[0]\n        yield a\n", ""),
    }),
    ("tinygrad_rnn/compiler/schedule/places.py", "tests/test_places_of_values.py -k alive", {
        "memory is used again at its last reader": ("if e[0] < b.span[0]), None)", "if e[0] <= b.span[0]), None)"),
    }),
    ("tinygrad_rnn/compiler/runtime/memory.py", "tests/test_spare.py", {
        "memory that somebody holds is used again": (
            "if getrefcount(block) == FREE:",
            "if getrefcount(block) <= FREE + 1:"),
    }),
    ("tinygrad_rnn/compiler/runtime/programs.py", "tests/test_compiler.py -k 'numpy and several_calls and LSTM'", {
        "a program in use is lent again": ("            program.arena.busy = True\n", ""),
    }),
    ("tinygrad_rnn/compiler/runtime/settle.py", "tests/test_record.py", {
        "two recordings are not compared": (
            "    _check_same(found, _recorded(step, x, found[2], found[3], options))\n",
            ""),
        "two recordings for one batch are not compared": (
            "    _check_same(found, _recorded(step, x, states, constant, options))\n    return Programs",
            "    return Programs"),
        "what two recordings capture is not compared": (" or not all(map(_is_same, found[1], again[1])):", ":"),
        "arrays of one shape are the same": (
            "return to_numpy(p).tobytes() == to_numpy(q).tobytes()",
            "return True"),
        "two batches may capture different arrays": ("if same and all(map(_is_same, captured, again[1])):", "if same:"),
        "two batches may have different circuits": (
            "if same and all(map(_is_same, captured, again[1])):",
            "if all(map(_is_same, captured, again[1])):"),
        "a batch may lie along columns": (
            "            if programs.sound:\n                return programs",
            "            return programs"),
        "a state may change the kind of its dtype": ("if v.dtype.kind != states[i].dtype.kind:", "if False:"),
        "a state that no step changes is carried": ("{i for i, s, v in pairs if v is s}", "set()"),
        "a state may change its number of tensors": ("if len(new) != len(states):", "if False:"),
    }),
    ("tinygrad_rnn/compiler/record/derive.py", "tests/test_record.py -k 'gradient or rule'", {
        "the last gradient is the sum": ("grads[v] = grads[v] + g if v in grads else g", "grads[v] = g"),
        "a gradient of what stays is not summed": ("if not v.moves and trace.value(g).moves:", "if False:"),
        "a gradient keeps the shape of the result": ("unbroadcast(dx, v.args[i]) if op.broadcasts else dx", "dx"),
        "no gradient of an output is None": (
            "trace.symbol(trace.circuit.zeros(s, d)) if each is None else each for",
            "each for"),
    }),
    ("tinygrad_rnn/compiler/record/record.py", "tests/test_record.py", {
        "a refusal that is caught is forgotten": (
            "            if trace.ended is not None:\n                raise trace.ended\n",
            ""),
    }),
    ("tinygrad_rnn/compiler/record/trace.py", "tests/test_record.py", {
        "a tensor of another recording is taken": ("if a.trace is not self:", "if False:"),
        "a small array is not copied": ("a if large else np.array(a), name, False)", "a, name, False)"),
        "arrays of two dtypes are one": ("(a.shape, a.dtype, a.tobytes())", "(a.shape, a.tobytes())"),
        "arrays of two shapes are one": ("(a.shape, a.dtype, a.tobytes())", "(a.dtype, a.tobytes())"),
        "equal values are one though they are watched": (
            "        if self.distinct:\n            self.circuit.known.clear()\n",
            ""),
        "what stays does not move though it is watched": (
            "made.moves = made.moves or self.distinct",
            "made.moves = made.moves"),
    }),
    ("tinygrad_rnn/nn/recording.py", "tests/test_record.py", {
        "tensors found nowhere may change": ("return tensors and all(", "return all("),
        "items of large arrays may change": ("return tensors and all(", "return tensors or all("),
        "NaN is another number each time": ('equal_nan=a.dtype.kind in "fc"', "equal_nan=False"),
        "a state is known without what asks for a gradient": (
            "return (state.array.shape, state.array.dtype, context.recording and state.requires_grad)",
            "return (state.array.shape, state.array.dtype)"),
        "a state is known without its types": (
            "return (type(state), *map(structure_of, state))",
            "return tuple(map(structure_of, state))"),
        "leaves of a state are the caller's tensors": (
            "leaves = [Tensor(s.array, s.node) for s in nest.leaves(state)]",
            "leaves = list(nest.leaves(state))"),
    }),
    ("tinygrad_rnn/nn/recording.py", "tests/test_recording_key.py -k 'a_large_array and numpy'", {
        "a large array that is captured is not copied": ("return Tensor(source.copy())", "return Tensor(source)"),
    }),
    ("tinygrad_rnn/nn/recordings.py",
     "tests/test_recording_key.py -k 'a_number-numpy or item_of_a_large_array or seldom'", {
        "what a cell holds is not compared": ("if last is None or not last[0].unchanged(cell):", "if last is None:"),
        "a recording is valid for ever": ("if asked in quick and still_valid(quick[asked]):", "if asked in quick:"),
        "one that was made before is valid for ever": (
            "if found is None or not still_valid(found[0]):",
            "if found is None:"),
        "what cannot be recorded is tried each time": (
            "return reason if calls > TRIES and calls & (calls - 1) else None",
            "return None"),
        "what cannot be recorded is not tried again": (
            "return reason if calls > TRIES and calls & (calls - 1) else None",
            "return reason"),
    }),
    ("tinygrad_rnn/nn/recordings.py",
     "tests/test_compiler.py -k 'LSTM-numpy and (lengths_that or gradients_of_some)'", {
        "lengths are not asked for": (
            "asked = (*engine, masked, ",
            "asked = (*engine, "),
        "a gradient of x is not asked for": (
            "context.recording and xs.requires_grad, structure_of(state))",
            "structure_of(state))"),
    }),
    ("tinygrad_rnn/nn/recordings.py", "tests/test_record.py -k 'asked_before or found_again'", {
        "the states of all steps are not asked for": (
            " options.all_states, bool(options.hooks), shapes)",
            " bool(options.hooks), shapes)"),
        "hooks are not asked for": (
            " options.all_states, bool(options.hooks), shapes)",
            " options.all_states, shapes)"),
        "what was recorded before is not found": ("found = self._known((asked, held.key))", "found = None"),
    }),
    ("tinygrad_rnn/nn/capture/inventory.py", "tests/test_recording_key.py -k 'a_number-numpy'", {
        "attributes are not compared": (
            "            if not place.same():\n                return False",
            "            pass"),
    }),
    ("tinygrad_rnn/compiler/llvm/writer.py", "tests/test_places_of_values.py -k machine_code", {
        "a result is written before all operands are read": (
            "ready[max([k, *(i for a, i in first.items() if self.s.where(a).overlaps(there))])].append(u)",
            "ready[k].append(u)"),
    }),
    ("tinygrad_rnn/compiler/llvm/functions.py", "tests/test_fast_functions.py -k 'exp or tanh'", {
        "exp ends at 80": ("x = _clamped(code, x, -104.0, 89.0)", "x = _clamped(code, x, -80.0, 80.0)"),
        "a coefficient of tanh is wrong by a hundred-thousandth": ("0.003127251716446586", "0.003137251716446586"),
    }),
    ("tinygrad_rnn/ops/elementwise.py", "tests/test_ops.py -k 'differences and tanh'", {
        "the derivative of tanh has one y too few": ("return g - g * y * y", "return g - g * y"),
    }),
    ("tinygrad_rnn/ops/reduce.py", "tests/test_ops.py -k equal_extremes", {
        "each of equal extremes has the whole gradient": ("best / best.sum(axis=axis, keepdims=True)", "best"),
    }),
    ("tinygrad_rnn/autograd/backward.py", "tests/test_graph.py -k another_tensor_holds", {
        "a gradient that others hold is added to in place": (
            "        if node in self.owned:\n            return operator.iadd(old, g)",
            "        if True:\n            return operator.iadd(old, g)"),
    }),
    ("tinygrad_rnn/autograd/primitive.py", "tests/test_graph.py -k its_owner_changes", {
        "an array that its owner may write into is kept": ('"", data), value.copy()', '"", data), value'),
    }),
    ("tinygrad_rnn/optim/optimizers.py", "tests/test_optim.py -k follow_the_equations", {
        "Adam has no second correction": ("1 / math.sqrt(1 - beta2**self.t)", "1.0"),
    }),
    ("tinygrad_rnn/nn/losses.py", "tests/test_layers.py -k cross_entropy", {
        "smoothing counts padding": (
            "label_smoothing * ops.where(counts, logp.mean(-1), 0)",
            "label_smoothing * logp.mean(-1)"),
    }),
    ("tinygrad_rnn/decode/beam.py", "tests/test_decode.py -k 'beam_as_wide and 0.6'", {
        "finished hypotheses get longer": ("length = found.length + ~found.finished", "length = found.length + 1"),
    }),
    ("viz/read/runs.py", "tests/test_views.py -k neighbours_are_looked_at", {
        "neighbours of drawn steps are not looked at": ("for k in (i - 1, i, i + 1)}", "for k in (i,)}"),
    }),
    ("tinygrad_rnn/autograd/backward.py", "tests/test_early_gradients.py", {
        "early: a leaf is complete after its newest reader": (
            "for node in order if waiting else ():", "for node in reversed(order) if waiting else ():",
        ),
        "early: a product that was put off is no part of a gradient": (
            "g = grads.pending.pop(leaf).complete(grads, leaf) if leaf in grads.pending else grads.sums.get(leaf)",
            "g = grads.sums.get(leaf)",
        ),
    }),
    ("tinygrad_rnn/nn/layer_by_layer.py", "tests/test_early_gradients.py", {
        "early: a stack that drops runs layer by layer": (
            "len(cell.cells) > 1 and not (cell.dropout.training and cell.dropout.p)", "len(cell.cells) > 1",
        ),
        "early: lengths are forgotten": ("each(ys, s, lengths, all_states", "each(ys, s, None, all_states"),
    }),
    ("tinygrad_rnn/parallel/buckets.py", f"{PROCESSES} -k {TWO}", {
        "processes: what was in a bucket is added again": (
            "self.views[i][...] = 0 if g is None else g", "self.views[i][...] += 0 if g is None else g",
        ),
        "processes: the first rows travel": (
            "0 if g is None else g[self.rows]", "0 if g is None else g[: len(self.rows)]",
        ),
        "processes: buckets fit whatever comes": (
            " and all(a == b for a, b in zip(now, self.described, strict=True))", "",
        ),
    }),
    ("tinygrad_rnn/parallel/gradients.py", f"{PROCESSES} -k {TWO}", {
        "processes: a gradient that nobody has is zero": (
            "p.grad = bucket.gradient(i) if id(p) in has else None", "p.grad = bucket.gradient(i)",
        ),
        "processes: numbers are added up in float32": ("else float(x) for x in", "else np.float32(x) for x in"),
    }),
    ("tinygrad_rnn/parallel/overlap.py", f"{PROCESSES} -k {TWO}", {
        "processes: gradients of passes before are forgotten": (
            "g.array if before is None else before.array + g.array", "g.array",
        ),
        "processes: a second backward pass is overlooked": ("if i not in self.missing[number]:", "if False:"),
        "processes: no bucket waits for its gradients": (
            "while self.next < len(self.buckets) and not self.missing[self.next]:",
            "while self.next < len(self.buckets):",
        ),
    }),
    ("tinygrad_rnn/optim/zero_redundancy.py", f"{PROCESSES} -k {TWO}", {
        "processes: the norm is that of one's own part": (
            "math.sqrt(self.world.total(clip_grad_norm_(mine, math.inf).item() ** 2)[0])",
            "clip_grad_norm_(mine, math.inf).item()",
        ),
        "processes: values that others set are overlooked": (
            "if self.values.get(id(s.whole)) is not s.whole.array:", "if id(s.whole) not in self.values:",
        ),
        "processes: what has no gradient is counted": ("[n + (id(p) in self.has) for", "[n + 1 for"),
    }),
    ("tinygrad_rnn/parallel/launcher.py", f"{PROCESSES} -k launcher", {
        "processes: another launcher's MPI will do": (
            "if asked not in (None, MPI.COMM_WORLD.size):", "if False:",
        ),
        "processes: srun without MPI will do": ("if n.isdecimal() and int(n) > 1:", "if False:"),
        "processes: one alone imports MPI": ("    if asked == 1:\n        return None\n", ""),
    }),
    ("tinygrad_rnn/parallel/failures.py", f"{PROCESSES} -k 'fails_ends or own'", {
        "processes: all say what happened": ("if speaker == rank:", "if True:"),
        "processes: an error that nobody catches is told to nobody": ("        sys.excepthook = hook\n", ""),
    }),
    ("tinygrad_rnn/compiler/runtime/memory.py", "tests/test_spare.py", {
        "memory: it is kept without end": (
            "_most[0] = max(ARRAYS, (_size[0] + available()) // SHARE)", "_most[0] = 1 << 60",
        ),
        "memory: a container's limit is overlooked": ("found.append(limit - used)", "pass"),
    }),
    ("tinygrad_rnn/compiler/cuda/graphs.py", "tests/test_cuda_graphs.py", {
        "what has moved is taken for what it was": (
            "if given.flags.c_contiguous and self.at.setdefault(buffer, at) == at:", "if given.flags.c_contiguous:",
        ),
        "a copy is made once": ("        self.copies[buffer][...] = given\n", ""),
        "they are kept without end": ("> KEPT:\n            self", "> 1 << 60:\n            self"),
        "what runs first is a graph": ("if seen and graph is None:", "if graph is None:"),
    }),
    ("tinygrad_rnn/compiler/cuda/program.py", "tests/test_cuda_graphs.py", {
        "any addresses will do": ("key = T, *[r.where for r in several]", "key = T"),
        "CuPy's own functions are in a graph": ("if len(fixed) == len(actions) + len(turn) else None", ""),
        "products stay on another stream": ("    library().begin(space)  # on", "    # on"),
    }),
    ("tinygrad_rnn/nn/recording.py", "tests/test_cuda_graphs.py", {
        "a host's address goes to a kernel": ("return move(captured, device)", "return captured"),
        "a tensor of the host's does too": ("if at == device:", "if True:"),
    }),
    ("tinygrad_rnn/nn/linear_loss.py", "tests/test_linear_loss.py", {
        "the kernel forgets the bias": ("of(z, b, targets[rows]", "of(z, None, targets[rows]"),
    }),
]  # fmt: skip

# the tests of each pass that test_verify breaks: words of their names
PASSES = {
    "simplify": "algebra", "normalise": "normal_form", "reassociate": "chain", "merge_reductions": "sibling",
    "merge_products": "merging or activation", "merge_elementwise": "merging", "copy_transposed": "transposed",
    "lower_softmax": "softmax", "one_dtype": "one_dtype", "sum_rows": "sums_of_rows",
}  # fmt: skip


def mutants() -> list[Mutant]:
    """All of them, those of passes from the table of test_verify."""
    found = [
        Mutant(f"{Path(file).stem.replace('_', ' ')}: {what}", file, old, new, tests)
        for file, tests, rows in FILES
        for what, (old, new) in rows.items()
    ]
    for what, (name, module, old, new, *_) in MUTATIONS.items():
        file = f"tinygrad_rnn/compiler/{module.replace('.', '/')}.py"
        tests = f"tests/test_passes.py -k '{PASSES[name]}'"
        found.append(Mutant(f"{name.replace('_', ' ')}: {what}", file, old, new, tests))
    return found


# ---- running their tests ---------------------------------------------------------------------------------------------


def copied(folder: Path) -> Path:
    """The files that git knows, in a folder. Compiled code is known by what a source holds, not by when it changed."""
    known = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, known.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    how = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash"]
    subprocess.run([sys.executable, *how, "tinygrad_rnn", "viz"], cwd=folder, check=True)
    return folder


def outcome(tests: Sequence[str], folder: Path) -> tuple[int | None, str]:
    """pytest's exit status for these tests in a copy, None if they do not end, and which of them fails."""
    own = {"PYTHONPATH": str(folder), "OPENBLAS_NUM_THREADS": "1", "TINYGRAD_RNN_CACHE": str(folder.parent / "code")}
    call = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "--tb=no", "-p", "no:cacheprovider", *tests]
    try:
        ran = subprocess.run(call, cwd=folder, env=os.environ | own, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return None, ""
    said = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))] or [ran.stderr[-300:]]
    return ran.returncode, said[0].partition(" - ")[0].removeprefix("FAILED ")


def verdict(mutant: Mutant, folder: Path) -> tuple[bool, str]:
    """Is a mutant caught, and by which test, or what else becomes of it?"""
    path = folder / mutant.file
    source = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutant.broken(source), encoding="utf-8")
        status, said = outcome(shlex.split(mutant.tests), folder)
    except ValueError as error:
        return False, str(error)
    finally:
        path.write_text(source, encoding="utf-8")
    return status == 1, said if status == 1 else f"{ENDED.get(status, 'DOES NOT END')}: {mutant.tests} {said}"


def together(tests: Sequence[str]) -> Iterator[list[str]]:
    """Selections of tests in as few calls of pytest as there are files."""
    words: dict[str, list[str]] = {}
    for file, *choice in map(shlex.split, dict.fromkeys(tests)):
        words.setdefault(file, []).append(choice[1] if choice else "")
    for file, choices in words.items():
        yield [file] if "" in choices else [file, "-k", " or ".join(f"({c})" for c in choices)]


@contextmanager
def copies() -> Iterator[Callable]:
    """each(run, things): run(thing, a copy that nobody else has) for each thing, in their order."""
    free: SimpleQueue[Path] = SimpleQueue()

    def borrowed(run: Callable, thing: object) -> tuple:
        folder = free.get()
        try:
            return run(thing, folder)
        finally:
            free.put(folder)

    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(AT_ONCE) as pool:
        for n in range(AT_ONCE):
            free.put(copied(Path(place) / f"copy{n}"))
        yield lambda run, things: pool.map(partial(borrowed, run), things)


def main(words: Sequence[str]) -> int:
    """Try those whose names have one of the words, and print what becomes of each."""
    asked = [m for m in mutants() if not words or any(word in m.name for word in words)]
    start, survived = time.monotonic(), 0
    with copies() as each:
        whole = each(outcome, list(together([m.tests for m in asked])))
        if failed := [said or "pytest cannot run" for status, said in whole if status != 0]:
            print("with nothing broken:", *failed, sep="\n    ")
            return 1
        for mutant, (caught, said) in zip(asked, each(verdict, asked), strict=True):
            survived += not caught
            print(f"{mutant.name}\n    {said}", flush=True)
    print(f"{len(asked) - survived} of {len(asked)} caught in {time.monotonic() - start:.0f} s")
    return int(survived > 0 or not asked)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
