"""Many processes, one run: each learns from its part of every batch, and what they find is added up over all of them.

`mpiexec -n 4 tinygrad-rnn train lm …` starts four, on one machine or on several. A batch is that of all of them
together, and all make the same step, so that a run is the same with any number of them, to rounding; only what is drawn
at random while it learns (dropout, scheduled sampling) each process draws for itself. A training loop of one's own
needs five lines, the same for one process and for many:

    world = parallel.world()
    world.broadcast(model.parameters())                            # rank 0's, everywhere
    for xs, targets in batches:                                    # of all processes together: (T, B, I), (T, B)
        mine = world.part(xs.shape[1])                             # the part of the batch that is this process's
        loss = nn.cross_entropy(model(xs[:, mine]), targets[:, mine], reduction="sum")
        (loss / targets.size).backward()                           # Σ over its part, divided by the number of all
        (nats,) = world.all_reduce(model.parameters(), loss.item())
        optimizer.step()
        optimizer.zero_grad()

Numbers are summed by MPI (the extra "mpi"), gradients on GPUs by NCCL. Without a launcher of MPI neither is imported.
"""

from tinygrad_rnn.parallel.start import world
from tinygrad_rnn.parallel.world import Failed, World

__all__ = ["Failed", "World", "world"]
