# %% [markdown]
# # Attention
#
# A decoder writes words backwards. Nobody tells it where to look.

# %%
import numpy as np

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import decode, nn, optim

tg.manual_seed(0)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
START, END, V, H = 26, 27, 28, 32
encoder = nn.GRU(16, H, bidirectional=True)
attention = nn.AdditiveAttention(H, 2 * H)
decoder = nn.AttentionCell(nn.GRUCell(16 + 2 * H, H), attention)
bridge = nn.Bridge(nn.state_size(encoder.cells), decoder.cell)
source, target, output = nn.Embedding(V, 16), nn.Embedding(V, 16), nn.Linear(H + 2 * H, V)
model = nn.EncoderDecoder(source, encoder, bridge, target, decoder, output)

# %%
rng, optimizer = np.random.default_rng(0), optim.Adam(model.parameters(), lr=0.01)
for step in range(1, 301):
    ids = rng.integers(0, 26, (rng.integers(3, 6), 64))  # (T, B): 64 words of 3 to 5 letters
    edge = np.ones((1, 64), int)
    read, said = [START * edge, ids[::-1]], [ids[::-1], END * edge]
    loss = nn.cross_entropy(model(ids, np.concatenate(read)), np.concatenate(said))
    optimizer.zero_grad()
    loss.backward()
    optim.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step}: {loss.item():.3f} nats a letter; {np.log(V):.3f} for guessing")

# %% [markdown]
# It says the word backwards, letter by letter; at its third letter it looks at the third last.

# %%
word = "gates"
ids = np.array([[LETTERS.index(letter)] for letter in word])
[best] = decode.greedy(model.step, model.encode(ids), start=START, end=END, max_length=8)
said = [LETTERS[i] for i in best.tokens] + ["END"] * best.finished
print(*said)
read = np.array([[START], *ids[::-1]])
loss = nn.cross_entropy(model(ids, read), np.array([*ids[::-1], [END]]))
viz.draw(loss, view="attention", tokens=word, targets=[*word[::-1], "END"], steps=3)
