"""viz: draws recurrent networks from their recorded graphs.

    import viz
    viz.draw(loss, "lstm.svg")                          # each operation, unrolled over time
    viz.draw(loss, "cells.svg", view="cells")           # one box for each cell at each step
    viz.draw(loss, "circuit.svg", view="circuit")       # the recurrent graph, with delays
    viz.draw(cell, "cell.svg", view="textbook")         # gates in a row, memories on top
    viz.draw(loss, "gradient.svg", gradient=True)       # coloured by the norm of the gradient, arrows as it flows
    viz.draw(loss, "play.html")                         # with a slider over time
    viz.draw(loss, "play.gif")                          # a film of it, for slides; or .mp4

Time runs to the right; the steps are found from the scopes that `nn.Recurrent` or a `with tg.scope(t):` leaves in the
graph; a compiled layer is drawn as its steps. Parameters stand at the left, once. Hidden states run from step to step
in green, memories (states that meet no weights) in purple; losses gather above. Outside of time the graph goes upwards.

An affine map such as x·U + h·W + b is one node, because it is one thing in every textbook; the nonlinearities, gates
and sums that tell cells apart are nodes of their own, and have the names that the cell's code gives them.
"""

from viz.calls import attention, draw, gradient_flow
from viz.charts.chart import Chart
from viz.charts.heatmap import alignment
from viz.charts.normplot import gradient_norms
from viz.drawing import Drawing

__all__ = ["Chart", "Drawing", "alignment", "attention", "draw", "gradient_flow", "gradient_norms"]
