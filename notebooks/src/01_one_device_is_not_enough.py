# %% [markdown]
# # 01 Why one device is not enough
#
# **The weights of a model of 7 billion parameters take 14 GB in 16 bits, and a GPU of 80 GB cannot
# train it: what fills the memory?**
#
# 50 minutes. You need the words *rank*, *stage* and *micro-batch* and the schedule `1f1b` from lesson 00.
# No GPU is needed.

# %% [markdown]
# ## After this lesson you can
# - write the memory ledger of a training step: weights, gradients, optimizer, activations
# - say which of them a smaller batch, a cut, or computing twice makes smaller, and which not
# - predict what each rank of a pipeline will hold, and hold that against what it really holds
# - say how many GPUs of a given size a model needs at the very least
#
# Here is the answer for the whole model, and below it the same model cut over four ranks. A micro-batch is
# one sequence of 2,048 tokens, the optimizer is Adam, and the vertical line is the 80 GB.

# %%
from d2lpart import DecoderShape, Ledgers, build_schedule, decoder_ledger

seven = DecoderShape(num_layers=32, width=4096, num_heads=32)
schedule = build_schedule("1f1b", num_ranks=4, num_microbatches=16)
whole = decoder_ledger(seven, parameters=7e9)
stages = [decoder_ledger(seven, schedule, rank, parameters=7e9) for rank in range(4)]
Ledgers([whole, *stages], capacity=[80e9] * 5).plot(
    names=["whole model", *(f"rank {rank} of 4" for rank in range(4))])

# %% [markdown] card="Rationale for Model Partitioning"
# ## Rationale for Model Partitioning
#
# > While this controls the memory footprint per GPU and allows for the training of larger networks, it
# > introduces significant bottlenecks.
#
# The first half of this sentence is this lesson: the model does not fit into one device, and each of four
# parts does. (The bottlenecks are in lessons 02 and 05.) The figure is *computed* from formulas that you
# will have by the end, and that you will have held against a real layer. Four words first:
#
# - **weights**: the numbers that are trained
# - **gradients**: one for each weight, from its backward to the optimizer's step
# - **optimizer**: what it remembers of each weight between steps
# - **activations**: what the forward makes and the backward still needs
#
# A `Ledger` has these four items of one rank, in bytes. The first three are the **state**: they do
# not depend on the data. How large are they?

# %%
from d2lpart.course import predict, question

question("01.q1")

# %% [markdown]
# *Mixed precision*, the usual way to train, computes in 16 bits, and lets the optimizer keep a copy
# of the weights in 32 (ZeRO, arXiv 1910.02054, section 3.1). By item, and for other ways to train,
# in bytes for each parameter:

# %% tags=["nbval-check-output"]
from d2lpart.memory import formulas as recipes

for name in ("ADAM_MIXED", "ADAM_MIXED_FP32_GRADIENTS", "ADAM_FP32", "MOMENTUM_FP32", "SGD_FP32"):
    recipe = getattr(recipes, name)
    print(f"{name:26}weights {recipe.weights}, gradients {recipe.gradients}, "
          f"optimizer {recipe.optimizer:2}: {recipe.total:2} bytes a parameter, 7B {7 * recipe.total:3} GB")

# %% [markdown]
# Note the two rows with 16: computing in 16 bits does not make the *state* smaller. It makes the
# work faster and the activations smaller. (`torch.autocast` gets there otherwise. It leaves
# weights and gradients in 32 bits, as in `ADAM_FP32`, and makes copies of 16 bits when it needs them.)
#
# ## The smallest case, measured
#
# One linear layer of 4 inputs and 4 outputs, three samples, one rank, all in 32 bits. With
# `memory=True` a step counts the *storages* that its rank keeps alive. A storage is the memory behind a
# tensor; views share it, and it counts once. Before you run it: the layer has 16 weights and 4 biases.
# Which of the four items can you tell without a computer?

# %% tags=["nbval-check-output"]
import torch
from d2lpart import Pipeline

torch.set_num_threads(1)
torch.manual_seed(0)
tiny = Pipeline([torch.nn.Linear(4, 4)], [1], ["cpu"])
adam = torch.optim.Adam(tiny.parameters())
samples, classes = torch.randn(3, 4), torch.tensor([0, 1, 2])
for number in (1, 2):
    adam.zero_grad()
    ledger = tiny.step(samples, classes, memory=True).memory[0]
    adam.step()
    print(f"step {number}, bytes {ledger.source}:", dict(ledger.items()))

# %% [markdown]
# 20 numbers of 4 bytes are 80, and so are their gradients. In the first step Adam has nothing yet; it
# makes its moments when it steps: 2 × 80 bytes, and a counter of 4 for each of the two tensors. The
# activations: 48 bytes of input for the weight's gradient; the loss keeps 48 bytes of logarithms, 24 of
# targets, and their number in 4 more. All of this is 124.
#
# ## A decoder, measured
#
# Now a decoder of 12 layers that you can train on any laptop. Your guess first.

# %%
guess = predict("01.p1", None)
guess

# %% [markdown]
# We need it again and again, so here is a function that builds it, and the usual loop. It takes two steps,
# because Adam has its moments only after the first.

# %%
from d2lpart import Decoder, corpus


def decoder():
    torch.manual_seed(0)
    return Decoder(vocab_size=256, width=128, num_layers=10, num_heads=4, context=64)


def train(pipeline, inputs, targets, steps=2, **options):
    """Take some steps with Adam, and return what they returned."""
    adam = torch.optim.Adam(pipeline.parameters(), lr=1e-3)
    results = []
    for _ in range(steps):
        adam.zero_grad()
        results.append(pipeline.step(inputs, targets, **options))
        adam.step()
    return results

# %% [markdown]
# The batch is 8 sequences of 64 tokens, in one piece:

# %%
inputs, targets = next(corpus().batches(batch_size=8, context=64))
one_rank = Pipeline(decoder(), [12], ["cpu"])
ledger = train(one_rank, inputs, targets, memory=True)[-1].memory[0]
print(ledger)
guess.against(100 * ledger.weights / ledger.total)

# %% [markdown]
# (An MB has $10^6$ bytes, an MiB $2^{20}$.) The last row is the most that was alive *at one moment*. It is
# less than the total, since the activations go while the gradients come. What an operation needs only while
# it runs is not counted, so a real device needs some room on top.
#
# ## Out of memory, for real
#
# Give the rank a **capacity** of 30 MB. (A device of this size is a *unit* in the question that I quote
# below.) From now on it is an error to hold more. The storages are counted as they are made; on a GPU the
# allocator is limited as well. The weights fit easily.

# %%
from d2lpart import OutOfMemoryError

unit = 30e6  # bytes
small = Pipeline(decoder(), [12], ["cpu"], capacity=unit)
try:
    small.step(inputs, targets)
except OutOfMemoryError as error:
    print(error)

# %% [markdown]
# It names the rank, the action and the layer, what was asked for, and what lay there at that moment.
# Here activations took most of it. What now?

# %%
question("01.q2")

# %% [markdown]
# One sequence in place of eight, to see it:

# %%
adam = torch.optim.Adam(small.parameters())
result = small.step(inputs[:1], targets[:1])
print(result.memory, end="\n\n")
try:
    adam.step()
except OutOfMemoryError as error:
    print(error)

# %% [markdown]
# The step went through, and the optimizer found no room for what it has to remember. No batch is small
# enough: *the state alone is larger than the unit*.

# %% [markdown] card="A research team is training a neural network that is too large to fit into the memory of a single processing unit."
# ## Cut it
#
# > A research team is training a neural network that is too large to fit into the memory of a single processing unit. To overcome this limitation, they decide to split the network's layers, placing the first set of layers on the first unit, the next set on the second unit, and so on, with the data flowing through them in sequence. Which statement best analyzes how this strategy addresses the memory constraint?

# %%
question("01.q3")

# %% [markdown]
# The same decoder, the same 8 sequences, four units of the same 30 MB:

# %%
split = Pipeline(decoder(), [3, 3, 3, 3], ["cpu"] * 4, num_microbatches=4, capacity=unit)
results = train(split, inputs, targets, steps=10)
print(f"loss {results[0].loss:.3f} -> {results[-1].loss:.3f} in 10 steps")
results[-1].memory

# %% [markdown]
# It trains. (Rank 1 is the fullest. It has three blocks, rank 0 only two and the embedding.) The statement,
# in three numbers:

# %%
print(f"largest stage {results[-1].memory.largest / 1e6:.1f} MB  <  "
      f"one unit {unit / 1e6:.0f} MB  <  whole model {ledger.total / 1e6:.1f} MB")
states = [rank.state for rank in results[-1].memory]
print(f"state: {' + '.join(f'{n / 1e6:.1f}' for n in states)} = {sum(states) / 1e6:.1f} MB, "
      f"whole model {ledger.state / 1e6:.1f} MB")

# %% [markdown]
# Nothing was compressed: the parts add up to the whole. Each rank has only its own layers' weights,
# gradients and optimizer state. And the result is that of one large device which takes the same
# micro-batches one after another, to the last bit; lesson 03 shows it.
#
# ## What does not shrink
#
# Look at the activations in the figure at the top again, dotted. On rank 0 of four they are as long as for
# the whole model on one device.

# %%
question("01.q4")

# %% [markdown]
# The first gradient comes back to rank 0 when the first micro-batch has been on all ranks. By then rank 0
# has taken in one micro-batch for each of them, and only now it lets one go before it takes in the next.
# Those that it holds are *in flight*. In letters: under 1F1B rank $r$ of $p$ has at most
# $\min(m, p - r)$ of $m$ micro-batches in flight, each in $L/p$ layers. For rank 0 and $m \ge p$ that is
#
# $$p \cdot \frac{L}{p} = L \text{ layers of one micro-batch, whatever } p \text{ is.}$$
#
# So the state falls with $1/p$, and the activations of rank 0 do not fall. Now measured: our ten blocks,
# evenly over 1, 2, 5 and 10 ranks (the embedding and the head go to the ends), 16 sequences, each a
# micro-batch.

# %%
more_inputs, more_targets = next(corpus().batches(batch_size=16, context=64))


def measure(num_ranks, **options):
    blocks = 10 // num_ranks
    sizes = [12] if num_ranks == 1 else [blocks + 1, *[blocks] * (num_ranks - 2), blocks + 1]
    pipeline = Pipeline(decoder(), sizes, ["cpu"] * num_ranks, num_microbatches=16,
                        clock="virtual", **options)
    return train(pipeline, more_inputs, more_targets, memory=True)[-1].memory


memory = {p: measure(p) for p in (1, 2, 5, 10)}
Ledgers([memory[p][0] for p in memory]).plot(names=[f"rank 0 of {p}" for p in memory])

# %% [markdown]
# The first three items melt away, and the last one, dotted, stays. (On one rank it is a little longer:
# there rank 0 has the head and the loss as well.) The ranks after rank 0 hold less and less, here of five:

# %%
print(memory[5])

# %% [markdown]
# What does help against activations? Smaller micro-batches, as long as a device is still busy with one.
# Or holding only the *input* of each stage, and running its forward once more when the backward needs
# it: **recompute**. Your guess:

# %%
guess = predict("01.p2", None)
guess

# %% [markdown]
# The same five ranks with it; compare with the table before:

# %%
again = measure(5, recompute=True)
print(again)
guess.against(100 * again[0].activations / memory[5][0].activations)

# %% [markdown]
# ## Predict before you build
#
# You do not have to run a pipeline to know what it will hold. A *profile* runs each layer by itself, on
# one micro-batch, and notes what autograd keeps. The schedule says how many micro-batches are in flight.
# The rest is adding up. (`input_bytes` is the batch itself, which lies on rank 0.)

# %%
from d2lpart import predict_memory, profile

costs = profile(decoder().layers, more_inputs[:1])
predicted = predict_memory(costs, [3, 2, 2, 2, 3], build_schedule("1f1b", 5, 16),
                           input_bytes=more_inputs.nbytes)
comparison = predicted.compare(memory[5])
print(comparison)
comparison

# %% [markdown]
# Prediction and measurement are of one type, so one line compares them. In our tests, on small decoders,
# they agree to 5% under every schedule of the course, with and without recompute.
#
# ## By formula
#
# Before there are any layers to profile, on a sheet of paper, a formula does it. A layer of a decoder like
# GPT (a perceptron four times as wide, dropout) in mixed precision holds, for a micro-batch of $b$
# sequences of $s$ positions, width $h$ and $a$ heads,
#
# $$s\,b\,h\,\Big(34 + 5\,\frac{a\,s}{h}\Big) \text{ bytes}$$
#
# (Korthikanti et al., arXiv 2205.05198, table 2). The 34 is for all that exists once for each position:
# inputs of the matrices, of GELU, of the normalisations, masks of dropout. The second term is for the
# scores of the attention: one for each pair of positions, in each head.

# %%
question("01.q5")

# %% [markdown]
# *Selective* recompute computes the scores once more in the backward, and an attention kernel that never
# writes them down does the same: then the second term goes. Our decoder has such a kernel. So its layer
# should hold 34 bytes. Does it? On the device `meta` tensors have shapes and no memory, so a layer of the
# 7B can be profiled anywhere:

# %%
with torch.device("meta"):
    real = Decoder(vocab_size=256, width=4096, num_layers=1, num_heads=32, context=2048, dropout=0.1)
    tokens = torch.zeros(1, 2048, dtype=torch.long)
embedding, block, head = profile(real.bfloat16(), tokens)
held = embedding.boundary_bytes + block.activation_bytes  # its input, and what autograd keeps
print(f"{held / (2048 * 4096):.2f} bytes for each position and each of the width")

# %% [markdown]
# It does; the few hundredths are what the kernel notes for each row of scores. *Full* recompute keeps the
# input of each layer alone, $2sbh$, and has one layer in full while that runs backward. (Our `Pipeline`
# keeps the input of each *stage*.) For one sequence in our 7B, without that one layer:

# %% tags=["nbval-check-output"]
from d2lpart.memory.formulas import layer_activations

for recompute in ("none", "selective", "full"):
    nbytes = layer_activations(seven, microbatch=1, recompute=recompute)
    print(f"{recompute:9}  {nbytes / 1e6:6.1f} MB a layer, {32 * nbytes / 1e9:5.2f} GB in 32 layers")

# %% [markdown]
# Does our function agree with the paper's figure 1? That shows the activations of each GPU for two models, in
# GiB, with every layer split over $t = 8$ GPUs (*tensor parallelism*, lesson 02). The 175B also runs
# in a pipeline of 8 ranks with 3 stages each. *Light* is selective recompute, and *sequence parallelism*:
# what tensor parallelism leaves whole, around the normalisations, is shared out by positions.

# %% tags=["nbval-check-output"]
light = {"sequence_parallel": True, "recompute": "selective"}
print("       figure 1  computed  figure 1, light  computed, light")
for name, shape, batch, orders, shown in (
    ("22B", DecoderShape(48, 6144, 64), 4, None, (59.25, 9.5625)),
    ("175B", DecoderShape(96, 12288, 96), 1, build_schedule("interleaved", 8, 64, chunks=3),
     (66.84375, 12.3515625)),
):
    found = [decoder_ledger(shape, orders, microbatch=batch, tensor=8, **options).activations / 2**30
             for options in ({}, light)]
    print(f"{name:5} {shown[0]:10} {found[0]:9} {shown[1]:16} {found[1]:16}")

# %% [markdown]
# To the last digit; and how many micro-batches are in flight was read off our schedule.

# %% [markdown] card="Choosing a Parallelism Strategy for a Large Model"
# ## Choosing a Parallelism Strategy for a Large Model
#
# 200 billion parameters, and GPUs with 40 GB. Of these I use 92%: the rest is for what operations need
# while they run, for CUDA itself, and for gaps between tensors. (The 92% is a rule of thumb; measure yours.)
# First the bound: how many GPUs, if the state could be cut into pieces of any size?

# %%
question("01.q6")

# %% [markdown]
# Now which strategy can get there?

# %%
question("01.q7")

# %% [markdown]
# (A copy need not be whole: ZeRO and FSDP share the state out among the copies, and send weights about for
# it. On 110 of them `ADAM_MIXED.sharded(3, 110)` leaves as much as a cut into 110.)
#
# Take network partitioning. The bound is 87, but a cut lies between two layers. A decoder of this size has
# 110 of them, say. With fewer than 110 GPUs one of them has two layers, as it has with 55:

# %% tags=["nbval-check-output"]
large = DecoderShape(num_layers=110, width=12288, num_heads=96)
usable = 0.92 * 40  # GB
print(f"{large.parameters / 1e9:.1f} billion parameters; {usable:.1f} GB of a GPU can be used")
for p in (55, 110):
    state = 16 * 200 / p
    verdict = f"fits, {usable - state:.1f} GB are left" if state < usable else "does not fit"
    print(f"{p:3} GPUs, {110 // p} layer{'s' * (p < 110)} each: {state:.1f} GB of state, {verdict}")
print(f"the embedding alone: {16 * large.vocab_size * large.width / 1e9:.1f} GB of state")

# %% [markdown]
# One layer each, so 110 GPUs. And 7.7 GB are left for activations. Is that enough? Under 1F1B, with 64
# micro-batches of one sequence, rank 0 holds all 64:

# %%
cases = {"recompute none": (64, "none"), "recompute selective": (64, "selective"),
         "recompute full": (64, "full"), "none, 1 micro-batch": (1, "none")}
rows = {name: decoder_ledger(large, build_schedule("1f1b", 110, m), parameters=200e9, recompute=kind)
        for name, (m, kind) in cases.items()}
print(f"with full recompute {usable - rows['recompute full'].total / 1e9:.1f} GB to spare")
Ledgers(rows.values(), capacity=[usable * 1e9] * 4).plot(names=list(rows))

# %% [markdown]
# With full recompute it fits. So **110 GPUs** is this ledger's answer for network
# partitioning alone, against a bound of 87. It is for the layers: a ledger by formula spreads the embedding
# evenly, and no cut can. The 10.1 GB have no room beside a layer, so they take a GPU more, and a head that is
# not tied another one. (A single micro-batch, in the last row, fits with nothing recomputed. Then 109 of
# 110 GPUs wait.)
#
# Splitting inside the layers too, $t$ GPUs for each stage, gives other numbers to choose from:

# %% tags=["nbval-check-output"]
print("GB on the fullest GPU, recompute none, selective and full; * fits")
print("   t    p  GPUs   state    none   selective        full     idle")
for t, p in ((1, 110), (2, 55), (4, 22), (4, 55), (8, 11), (8, 22)):
    orders, totals = build_schedule("1f1b", p, 64), []
    for recompute in ("none", "selective", "full"):
        row = decoder_ledger(large, orders, parameters=200e9, tensor=t,
                             sequence_parallel=t > 1, recompute=recompute)
        totals.append(row.total / 1e9)
    print(f"{t:4} {p:4} {t * p:5}  {3200 / (t * p):6.1f}  "
          + "     ".join(f"{x:6.1f}{'*' if x < usable else ' '}" for x in totals)
          + f"  {(p - 1) / (64 + p - 1):6.0%}")

# %% [markdown]
# 88 GPUs are one more than the bound, and fit in no row: the state all but fills them. 110 do it with full
# recompute. With 176 the cheaper *selective* recompute is enough, and an eighth of the embedding has room
# as well. More GPUs alone do not help: 220 in the wrong shape need full recompute again.
#
# Which of them is *fast* is another question. The last column is the formula of lesson 00 for 64
# micro-batches, and says nothing of traffic yet. This lesson says what is possible at all.
#
# ## To remember
#
# - Training with Adam takes 16 bytes a parameter before the first activation, 8 times the weights in 16
#   bits. No smaller batch helps against that.
# - Network partitioning divides this state: largest stage < one unit < whole model. It compresses nothing,
#   splits no batch, and makes no pass faster.
# - Under 1F1B, with enough micro-batches, rank 0 holds the activations of about one micro-batch of the
#   *whole* network, however many ranks there are. Smaller micro-batches and recompute help.
# - A ledger is quickly computed; measure it once all the same. A bound comes first: what fits by no bound
#   needs no plan.
#
# The exercises are in
# [01_one_device_is_not_enough.ipynb](../exercises/01_one_device_is_not_enough.ipynb). Next: other ways to
# split, [lesson 02](02_three_ways_to_split.ipynb).
#
# **Read on.** Rajbhandari et al., [ZeRO](https://arxiv.org/abs/1910.02054), section 3, for the 16 bytes.
# Korthikanti et al., [Reducing Activation Recomputation](https://arxiv.org/abs/2205.05198), for the 34 and
# where it comes from.
# Xiao and Zhu, [Foundations of Large Language Models](https://arxiv.org/abs/2501.09223), chapter 2, for why
# models are partitioned.
