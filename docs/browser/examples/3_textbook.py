"""RNN, LSTM and GRU as textbooks draw them, with their equations."""

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn

for make in nn.RNNCell, nn.LSTMCell, nn.GRUCell:
    display(viz.draw(tg.circuit(make(3, 4), tg.zeros(1, 3)), view="textbook", equations=True))

# what the forget gate hangs on; gates have the names that the code of the cell gives them
viz.draw(tg.circuit(nn.LSTMCell(3, 4), tg.zeros(1, 3)), view="textbook", highlight="f")
