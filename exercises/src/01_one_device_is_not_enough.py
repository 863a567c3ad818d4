# %% [markdown]
# # 01 Why one device is not enough: exercises
#
# Three exercises, about 35 minutes. They go with
# [lesson 01](../notebooks/01_one_device_is_not_enough.ipynb).

# %% [markdown]
# Write a function in place of `raise NotImplementedError`, run its cell, then the check below it.
# A check runs your function on many cases and tells you what it saw; you may check as often as
# you like. All sizes are in bytes; a GB is $10^9$ of them.

# %%
import math

import torch
from d2lpart import (Decoder, DecoderShape, OutOfMemoryError, Pipeline, build_schedule, corpus,
                     decoder_ledger, predict_memory, profile)
from d2lpart.course import check, hints

torch.set_num_threads(1)

# %% [markdown]
# ## Exercise 01.1 ● (5 minutes): Bytes for a 7B
#
# Weights and gradients have 16 bits. The optimizer keeps numbers of 32 bits: a copy of the weights, and so
# many `moments` of each parameter (Adam keeps 2, momentum 1, plain SGD none). Write
# `training_bytes(parameters, moments)`: the bytes of weights, gradients and optimizer, as three numbers.
#
# For example `training_bytes(7 * 10**9, 2)` gives `(14 * 10**9, 14 * 10**9, 84 * 10**9)`.

# %%
hints("01.1")

# %% [markdown]
# Write it here:

# %%
def training_bytes(parameters, moments):
    """Bytes of weights, gradients and optimizer; it keeps so many moments of each parameter."""
    ### BEGIN SOLUTION
    weights = gradients = 2 * parameters
    optimizer = 4 * (1 + moments) * parameters  # a copy of the weights, and the moments
    return weights, gradients, optimizer
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 01.1
# MISCONCEPTION: moments, and no copy of the weights
# EXPECT: which 16 bits would lose
def training_bytes(parameters, moments):
    return 2 * parameters, 2 * parameters, moments * 4 * parameters

# %% tags=["wrong-answer"]
# EXERCISE: 01.1
# MISCONCEPTION: moments of 16 bits
# EXPECT: The copy has 4 bytes, and so has each
def training_bytes(parameters, moments):
    return 2 * parameters, 2 * parameters, parameters * (4 + 2 * moments)

# %% tags=["wrong-answer"]
# EXERCISE: 01.1
# MISCONCEPTION: 16 bits throughout
# EXPECT: What the optimizer keeps has 32 bits
def training_bytes(parameters, moments):
    two = 2 * parameters
    return two, two, two + moments * two

# %% tags=["wrong-answer"]
# EXERCISE: 01.1
# MISCONCEPTION: 32 bits throughout
# EXPECT: That is training in 32 bits
def training_bytes(parameters, moments):
    four = 4 * parameters
    return four, four, moments * four

# %% tags=["wrong-answer"]
# EXERCISE: 01.1
# MISCONCEPTION: bits for bytes
# EXPECT: 8 of them are a byte
def training_bytes(parameters, moments):
    return 16 * parameters, 16 * parameters, 32 * (moments + 1) * parameters

# %% tags=["wrong-answer"]
# EXERCISE: 01.1
# MISCONCEPTION: always Adam
# EXPECT: That is Adam, which keeps 2 moments
def training_bytes(parameters, moments):
    return 2 * parameters, 2 * parameters, 12 * parameters

# %% tags=["right-answer"]
# EXERCISE: 01.1
def training_bytes(parameters, moments):
    numbers = [parameters] * (1 + moments)
    return [parameters * 2, parameters * 2, sum(4 * n for n in numbers)]

# %% tags=["right-answer"]
# EXERCISE: 01.1
def training_bytes(parameters, moments):
    bits = torch.tensor([16, 16, 32 * (1 + moments)])
    return bits * parameters / 8

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("01.1", training_bytes)
result

# %% [markdown]
# A 7B with three optimizers. What does it save to remember less?

# %% tags=["nbval-check-output"]
training_bytes = result.or_reference()

for name, moments in (("SGD", 0), ("momentum", 1), ("Adam", 2)):
    parts = training_bytes(7 * 10**9, moments)
    print(f"{name:9}" + " + ".join(f"{part / 1e9:.0f}" for part in parts), f"= {sum(parts) / 1e9:.0f} GB")

# %% [markdown]
# Even without any moment it is four times the 14 GB that the weights take.
#
# ## Exercise 01.2 ●● (10 minutes): The smallest number of GPUs
#
# A model of `num_layers` equal layers is cut *between* its layers, and trained with Adam at 16 bytes a
# parameter. Of each GPU `usable_bytes` can be used. Write
# `fewest_gpus(parameters, num_layers, usable_bytes)`: the smallest number of GPUs whose fullest one still
# holds the state of its layers, activations left aside. If no number is enough, return `math.inf`.
#
# For example `fewest_gpus(200 * 10**9, 110, 36_800_000_000)` gives 110.

# %%
hints("01.2")

# %% [markdown]
# Write it here:

# %%
def fewest_gpus(parameters, num_layers, usable_bytes):
    """The fewest GPUs for the state of a model cut between its equal layers; infinite if none."""
    ### BEGIN SOLUTION
    most = usable_bytes * num_layers // (16 * parameters)  # layers on one GPU
    return math.ceil(num_layers / most) if most else math.inf
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 01.2
# MISCONCEPTION: cut anywhere
# EXPECT: only whole ones can be placed
def fewest_gpus(parameters, num_layers, usable_bytes):
    return math.ceil(16 * parameters / usable_bytes)

# %% tags=["wrong-answer"]
# EXERCISE: 01.2
# MISCONCEPTION: cut anywhere, and at most a GPU a layer
# EXPECT: Count the whole layers that one GPU holds
def fewest_gpus(parameters, num_layers, usable_bytes):
    return min(math.ceil(16 * parameters / usable_bytes), num_layers)

# %% tags=["wrong-answer"]
# EXERCISE: 01.2
# MISCONCEPTION: weights alone
# EXPECT: can be read so, not trained
def fewest_gpus(parameters, num_layers, usable_bytes):
    most = int(usable_bytes / (2 * parameters / num_layers))
    return math.ceil(num_layers / most) if most else math.inf

# %% tags=["wrong-answer"]
# EXERCISE: 01.2
# MISCONCEPTION: rounded down
# EXPECT: has no place. Round up.
def fewest_gpus(parameters, num_layers, usable_bytes):
    most = int(usable_bytes / (16 * parameters / num_layers))
    return num_layers // most if most else math.inf

# %% tags=["wrong-answer"]
# EXERCISE: 01.2
# MISCONCEPTION: equally many layers on each GPU
# EXPECT: with fewer on the last
def fewest_gpus(parameters, num_layers, usable_bytes):
    for gpus in range(1, num_layers + 1):
        if num_layers % gpus == 0 and 16 * parameters / gpus <= usable_bytes:
            return gpus
    return math.inf

# %% tags=["wrong-answer"]
# EXERCISE: 01.2
# MISCONCEPTION: a layer that just fits does not fit
# EXPECT: how many whole layers does a GPU of 4 GB hold
def fewest_gpus(parameters, num_layers, usable_bytes):
    for gpus in range(1, num_layers + 1):
        if math.ceil(num_layers / gpus) * 16 * parameters < usable_bytes * num_layers:
            return gpus
    return math.inf

# %% tags=["wrong-answer"]
# EXERCISE: 01.2
# MISCONCEPTION: none needed where none helps
# EXPECT: so return `math.inf`
def fewest_gpus(parameters, num_layers, usable_bytes):
    most = usable_bytes * num_layers // (16 * parameters)
    return math.ceil(num_layers / most) if most else 0

# %% tags=["wrong-answer"]
# EXERCISE: 01.2
# MISCONCEPTION: a GPU a layer, whatever there is room for
# EXPECT: How many have room in
def fewest_gpus(parameters, num_layers, usable_bytes):
    return num_layers

# %% tags=["wrong-answer"]
# EXERCISE: 01.2
# MISCONCEPTION: at least one layer always fits
# EXPECT: no number of GPUs helps
def fewest_gpus(parameters, num_layers, usable_bytes):
    most = max(1, int(usable_bytes / (16 * parameters / num_layers)))
    return math.ceil(num_layers / most)

# %% tags=["right-answer"]
# EXERCISE: 01.2
def fewest_gpus(parameters, num_layers, usable_bytes):
    layer = 16 * parameters / num_layers
    most = math.floor(usable_bytes / layer)
    return float(math.ceil(num_layers / most)) if most else float("inf")

# %% tags=["right-answer"]
# EXERCISE: 01.2
def fewest_gpus(parameters, num_layers, usable_bytes):
    for gpus in range(1, num_layers + 1):
        fullest = -(-num_layers // gpus)
        if fullest * 16 * parameters <= usable_bytes * num_layers:
            return gpus
    return math.inf

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("01.2", fewest_gpus)
result

# %% [markdown]
# What do whole layers cost? The same 200 billion parameters in layers of several sizes, on GPUs of 40 GB,
# with the bound beside:

# %% tags=["nbval-check-output"]
fewest_gpus = result.or_reference()

usable = 36_800_000_000
print(f"bound: {16 * 200e9 / usable:.1f} GPUs")
for num_layers in (60, 87, 96, 110, 128, 192, 440):
    gpus = fewest_gpus(200 * 10**9, num_layers, usable)
    print(f"{num_layers:3} layers of {16 * 200 / num_layers:4.1f} GB: {gpus} GPUs")

# %% [markdown]
# Layers that are too thick fit nowhere. Thin ones come near the bound. In between each GPU has a layer and a
# rest that is too small for another one. (A layer that fits nowhere can be split inside; that is lesson 02.)
#
# ## Exercise 01.3 ●●● (20 minutes): A batch limited by activations
#
# A rank has `capacity` bytes, and `state_bytes` of them are taken. Under 1F1B it holds at most `ahead`
# micro-batches at a time, and of course no more than there are. One sequence leaves `sequence_bytes` of
# activations with it. A batch of `batch` sequences is cut into *equal* micro-batches. Write
# `largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity)`: the largest size of a
# micro-batch, in sequences, with which the rank fits; 0 if none does.
#
# For example `largest_microbatch(16, 4, 10**9, 8 * 10**9, 20 * 10**9)` gives 2: eight micro-batches of two
# sequences, four of them held, are 8 GB beside the state. With 4 it would be 16.

# %%
hints("01.3")

# %% [markdown]
# Write it here:

# %%
def largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity):
    """The largest micro-batch that divides the batch and lets a rank fit under 1F1B; 0 if none."""
    ### BEGIN SOLUTION
    for size in range(batch, 0, -1):
        held = min(batch // size, ahead)  # micro-batches in flight
        if batch % size == 0 and state_bytes + held * size * sequence_bytes <= capacity:
            return size
    return 0
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 01.3
# MISCONCEPTION: one micro-batch in flight
# EXPECT: Under 1F1B this rank takes in up to
def largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity):
    fits = [s for s in range(1, batch + 1) if batch % s == 0
            and state_bytes + s * sequence_bytes <= capacity]
    return max(fits, default=0)

# %% tags=["wrong-answer"]
# EXERCISE: 01.3
# MISCONCEPTION: all micro-batches in flight, as under GPipe
# EXPECT: as GPipe does
def largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity):
    return batch if state_bytes + batch * sequence_bytes <= capacity else 0

# %% tags=["wrong-answer"]
# EXERCISE: 01.3
# MISCONCEPTION: always `ahead` in flight, even if there are fewer
# EXPECT: When the micro-batches are large
def largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity):
    for size in range(batch, 0, -1):
        if batch % size == 0 and state_bytes + ahead * size * sequence_bytes <= capacity:
            return size
    return 0

# %% tags=["wrong-answer"]
# EXERCISE: 01.3
# MISCONCEPTION: the state takes nothing
# EXPECT: are taken before the first activation
def largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity):
    for size in range(batch, 0, -1):
        held = min(batch // size, ahead)
        if batch % size == 0 and held * size * sequence_bytes <= capacity:
            return size
    return 0

# %% tags=["wrong-answer"]
# EXERCISE: 01.3
# MISCONCEPTION: any size divides
# EXPECT: cannot be cut into equal micro-batches
def largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity):
    left = capacity - state_bytes
    if left >= batch * sequence_bytes:
        return batch
    return max(0, min(batch, left // (ahead * sequence_bytes)))

# %% tags=["wrong-answer"]
# EXERCISE: 01.3
# MISCONCEPTION: their number, not their size
# EXPECT: how many sequences one of them
def largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity):
    for m in range(1, batch + 1):
        fits = state_bytes + min(m, ahead) * (batch // m) * sequence_bytes <= capacity
        if batch % m == 0 and fits:
            return m
    return 0

# %% tags=["wrong-answer"]
# EXERCISE: 01.3
# MISCONCEPTION: what just fits does not fit
# EXPECT: to the last one still fits
def largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity):
    for size in range(batch, 0, -1):
        held = min(batch // size, ahead)
        if batch % size == 0 and state_bytes + held * size * sequence_bytes < capacity:
            return size
    return 0

# %% tags=["wrong-answer"]
# EXERCISE: 01.3
# MISCONCEPTION: the smallest is the safest
# EXPECT: Is there a larger divisor
def largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity):
    return 1 if state_bytes + min(batch, ahead) * sequence_bytes <= capacity else 0

# %% tags=["right-answer"]
# EXERCISE: 01.3
def largest_microbatch(batch, ahead, sequence_bytes, state_bytes, capacity):
    best = 0
    for m in range(1, batch + 1):
        if batch % m == 0 and min(m, ahead) * (batch // m) * sequence_bytes <= capacity - state_bytes:
            best = max(best, batch // m)
    return best

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("01.3", largest_microbatch)
result

# %% [markdown]
# Now for real: three ranks, a batch of 24 sequences, and 20 MB for rank 0, which holds the most
# micro-batches. (The others have no limit here.) The profile of one sequence says what rank 0 holds of
# it, and what its state is:

# %% tags=["nbval-check-output"]
largest_microbatch = result.or_reference()


def decoder():
    torch.manual_seed(0)
    return Decoder(vocab_size=256, width=128, num_layers=10, num_heads=4, context=64)


inputs, targets = next(corpus().batches(batch_size=24, context=64))
one = predict_memory(profile(decoder().layers, inputs[:1]), [4, 4, 4], build_schedule("naive", 3, 1))[0]
size = largest_microbatch(24, 3, one.activations, one.state, 20 * 10**6)
print(f"state {one.state / 1e6:.1f} MB, one sequence {one.activations / 1e6:.2f} MB: "
      f"micro-batches of {size} sequences")

# %% [markdown]
# Does it fit? And the next larger size, which divides 24 as well?

# %%
for sequences in (size, size + 1):
    pipeline = Pipeline(decoder(), [4, 4, 4], ["cpu"] * 3, num_microbatches=24 // sequences,
                        clock="virtual", capacity=[20e6, math.inf, math.inf])
    adam = torch.optim.Adam(pipeline.parameters())
    try:
        pipeline.step(inputs, targets)
        adam.step()
        adam.zero_grad()
        print(f"{sequences}: it fits, {pipeline.step(inputs, targets).memory[0].total / 1e6:.1f} MB")
    except OutOfMemoryError as error:
        print(f"{sequences}: {error}")

# %% [markdown]
# Your function has found the edge without running anything.
#
# ## A challenge without a check
#
# GPipe holds all micro-batches, 1F1B at most $p - r$. At which number of micro-batches of one sequence does
# rank 0 of four overflow 80 GB under GPipe, for the 7B of the lesson? And under 1F1B? Use
# `decoder_ledger(DecoderShape(32, 4096, 32), build_schedule(name, 4, m), parameters=7e9)`.

# %% tags=["solution-only"]
for name in ("gpipe", "1f1b"):
    rows = {m: decoder_ledger(DecoderShape(32, 4096, 32), build_schedule(name, 4, m), parameters=7e9)
            for m in range(1, 65)}
    over = [m for m, row in rows.items() if row.total > 80e9]
    print(f"{name}: {f'from {min(over)} on' if over else 'never'}; with 64: {rows[64].total / 1e9:.1f} GB")
