# %% [markdown]
# # 02 Three ways to split: exercises
#
# Four exercises, about 45 minutes. They go with
# [lesson 02](../notebooks/02_three_ways_to_split.ipynb).

# %% [markdown]
# Write a function in place of `raise NotImplementedError`, run its cell, then the check below it.
# The hints unfold, one inside the other; the last shows another problem solved. Ranks and layers
# count from 0, and the names are D2L's.

# %%
import torch
from d2lpart import TensorParallel, three_ways
from d2lpart.course import check, hints
from d2lpart.models.convnet import NAMES, glyphs, lenet

# %% [markdown]
# ## Exercise 02.1 ● (10 minutes): Name the split
#
# `weights[r][i]` says what part of the weights of layer `i` rank `r` holds: 1.0 is all, 0.0 none. Write
# `name_the_split(weights)`. It returns `"network partitioning"`, `"layer-wise partitioning"` or
# `"data parallelism"`, and `"none of the three"` where layers are whole on one rank each, but not in
# runs of neighbours. A layer that is split need not be split evenly, and any rank may have the first
# layers. (Each table has at least two ranks, each rank holds something, and nothing else occurs.)
#
# `name_the_split([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])` is `"network partitioning"`.

# %%
hints("02.1")

# %% [markdown]
# Write it here:

# %%
def name_the_split(weights):
    """The way to split: `weights[r][i]` is the part of layer i's weights that rank r holds."""
    ### BEGIN SOLUTION
    parts = {part for own in weights for part in own}
    if parts == {1}:
        return "data parallelism"
    if parts - {0, 1}:
        return "layer-wise partitioning"
    for own in weights:
        places = [place for place, part in enumerate(own) if part]
        if places[-1] - places[0] != len(places) - 1:
            return "none of the three"
    return "network partitioning"
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 02.1
# MISCONCEPTION: "layer-wise" as in the other book
# EXPECT: You mix the names of two books
def name_the_split(weights):
    parts = {part for own in weights for part in own}
    if parts == {1}:
        return "data parallelism"
    if parts - {0, 1}:
        return "network partitioning"
    for own in weights:
        places = [place for place, part in enumerate(own) if part]
        if places[-1] - places[0] != len(places) - 1:
            return "none of the three"
    return "layer-wise partitioning"

# %% tags=["wrong-answer"]
# EXERCISE: 02.1
# MISCONCEPTION: whole layers in any order are network partitioning
# EXPECT: are not consecutive
def name_the_split(weights):
    parts = {part for own in weights for part in own}
    if parts == {1}:
        return "data parallelism"
    return "layer-wise partitioning" if parts - {0, 1} else "network partitioning"

# %% tags=["wrong-answer"]
# EXERCISE: 02.1
# MISCONCEPTION: whoever has something of every layer is a replica
# EXPECT: A replica has all of it
def name_the_split(weights):
    if all(part > 0 for own in weights for part in own):
        return "data parallelism"
    for own in weights:
        places = [place for place, part in enumerate(own) if part]
        if places[-1] - places[0] != len(places) - 1:
            return "none of the three"
    return "network partitioning"

# %% tags=["wrong-answer"]
# EXERCISE: 02.1
# MISCONCEPTION: a layer is always split evenly
# EXPECT: need not divide evenly
def name_the_split(weights):
    if all(part == 1 for own in weights for part in own):
        return "data parallelism"
    if weights[0][0] == 1 / len(weights):
        return "layer-wise partitioning"
    for own in weights:
        places = [place for place, part in enumerate(own) if part]
        if places[-1] - places[0] != len(places) - 1:
            return "none of the three"
    return "network partitioning"

# %% tags=["wrong-answer"]
# EXERCISE: 02.1
# MISCONCEPTION: rank 0 has the first layers
# EXPECT: any rank may have the first layers
def name_the_split(weights):
    layers = list(zip(*weights))
    if all(sum(layer) == len(layer) for layer in layers):
        return "data parallelism"
    if all(0 < part < 1 for layer in layers for part in layer):
        return "layer-wise partitioning"
    owners = [layer.index(1) for layer in layers]
    return "network partitioning" if owners == sorted(owners) else "none of the three"

# %% tags=["right-answer"]
# EXERCISE: 02.1
def name_the_split(weights):
    layers = list(zip(*weights))
    if all(sum(layer) == len(layer) for layer in layers):
        return "data parallelism"
    if all(0 < part < 1 for layer in layers for part in layer):
        return "layer-wise partitioning"
    owners = [layer.index(1) for layer in layers]
    moves = sum(owners[i] != owners[i + 1] for i in range(len(owners) - 1))
    return "network partitioning" if moves == len(weights) - 1 else "none of the three"

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("02.1", name_the_split)
result

# %% [markdown]
# The layers of LeNet that have weights, as the package splits them over two ranks:

# %% tags=["nbval-check-output"]
name_the_split = result.or_reference()

network = lenet()
weighty = [layer for layer in network if list(layer.parameters())]
split = TensorParallel(weighty, ["cpu"] * 2, pairs=False)
parts = [[layer.parts[rank].weight.numel() for layer in split.children()] for rank in range(2)]
table = [[n / layer.weight.numel() for n, layer in zip(own, weighty)] for own in parts]
print(table, "is", name_the_split(table))

# %% [markdown]
# ## Exercise 02.2 ●● (10 minutes): The LeNet table
#
# A network is a list of layers `(kind, inputs, outputs, width)`:
#
# - `("conv", inputs, outputs, width)`: a convolution of that many channels with a square window, no
#   padding, stride 1, and a bias for each output channel;
# - `("pool", channels, channels, width)`: averages over squares that do not overlap; what does not
#   fill a square is left out;
# - `("dense", inputs, outputs, 1)`: a linear layer with a bias for each output.
#
# Write `layer_table(layers, size)`: for an image of `size` × `size` pixels a list of pairs
# `(parameters, multiply-adds)`, one a layer. A bias is a parameter; adding it is no multiply-add. A
# pool has `(0, 0)`.
#
# For LeNet and `size=28` the list begins with `(200, 121680)`.

# %%
hints("02.2")

# %% [markdown]
# Write it here:

# %%
def layer_table(layers, size):
    """(parameters, multiply-adds) of each layer, for one image of size × size pixels."""
    ### BEGIN SOLUTION
    table = []
    for kind, inputs, outputs, width in layers:
        if kind == "conv":
            size = size - width + 1
            weights = inputs * outputs * width**2
            table.append((weights + outputs, weights * size**2))
        elif kind == "pool":
            size = size // width
            table.append((0, 0))
        else:
            table.append((inputs * outputs + outputs, inputs * outputs))
    return table
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 02.2
# MISCONCEPTION: a convolution uses each weight once
# EXPECT: It is used at every place of the output
def layer_table(layers, size):
    table = []
    for kind, inputs, outputs, width in layers:
        weights = inputs * outputs * width**2
        table.append((0, 0) if kind == "pool" else (weights + outputs, weights))
    return table

# %% tags=["wrong-answer"]
# EXERCISE: 02.2
# MISCONCEPTION: computes at every place of the input
# EXPECT: count the places of the output
def layer_table(layers, size):
    table = []
    for kind, inputs, outputs, width in layers:
        weights = inputs * outputs * width**2
        if kind == "conv":
            table.append((weights + outputs, weights * size**2))
            size = size - width + 1
        elif kind == "pool":
            size = size // width
            table.append((0, 0))
        else:
            table.append((weights + outputs, weights))
    return table

# %% tags=["wrong-answer"]
# EXERCISE: 02.2
# MISCONCEPTION: forgets the biases
# EXPECT: The biases are parameters, too
def layer_table(layers, size):
    table = []
    for kind, inputs, outputs, width in layers:
        weights = inputs * outputs * width**2
        if kind == "conv":
            size = size - width + 1
            table.append((weights, weights * size**2))
        elif kind == "pool":
            size = size // width
            table.append((0, 0))
        else:
            table.append((weights, weights))
    return table

# %% tags=["wrong-answer"]
# EXERCISE: 02.2
# MISCONCEPTION: a multiply-add is two
# EXPECT: Together they are 1 multiply-add
def layer_table(layers, size):
    table = []
    for kind, inputs, outputs, width in layers:
        if kind == "conv":
            size = size - width + 1
            weights = inputs * outputs * width**2
            table.append((weights + outputs, 2 * weights * size**2))
        elif kind == "pool":
            size = size // width
            table.append((0, 0))
        else:
            table.append((inputs * outputs + outputs, 2 * inputs * outputs))
    return table

# %% tags=["wrong-answer"]
# EXERCISE: 02.2
# MISCONCEPTION: one window for each output channel
# EXPECT: one for each input channel
def layer_table(layers, size):
    table = []
    for kind, inputs, outputs, width in layers:
        if kind == "conv":
            size = size - width + 1
            weights = outputs * width**2
            table.append((weights + outputs, weights * size**2))
        elif kind == "pool":
            size = size // width
            table.append((0, 0))
        else:
            table.append((inputs * outputs + outputs, inputs * outputs))
    return table

# %% tags=["wrong-answer"]
# EXERCISE: 02.2
# MISCONCEPTION: a window is a line
# EXPECT: A window is a square
def layer_table(layers, size):
    table = []
    for kind, inputs, outputs, width in layers:
        if kind == "conv":
            size = size - width + 1
            weights = inputs * outputs * width
            table.append((weights + outputs, weights * size**2))
        elif kind == "pool":
            size = size // width
            table.append((0, 0))
        else:
            table.append((inputs * outputs + outputs, inputs * outputs))
    return table

# %% tags=["right-answer"]
# EXERCISE: 02.2
def layer_table(layers, size):
    def row(kind, inputs, outputs, width):
        nonlocal size
        size = {"conv": size - width + 1, "pool": size // width, "dense": 1}[kind]
        if kind == "pool":
            return [0, 0]
        return [outputs * (inputs * width * width + 1), size * size * inputs * outputs * width * width]

    return tuple(row(*layer) for layer in layers)

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("02.2", layer_table)
result

# %% [markdown]
# LeNet, and what its largest layers are:

# %% tags=["nbval-check-output"]
layer_table = result.or_reference()

LENET = [("conv", 1, 20, 3), ("pool", 20, 20, 2), ("conv", 20, 50, 5), ("pool", 50, 50, 2),
         ("dense", 800, 128, 1), ("dense", 128, 10, 1)]
rows = layer_table(LENET, 28)
weights, work = (sum(column) for column in zip(*rows))
for layer, (count, adds) in zip(LENET, rows):
    print(f"{layer[0]:5} {count:7,} parameters {count / weights:5.1%}",
          f"{adds:9,} multiply-adds {adds / work:5.1%}", sep="  ")

# %% [markdown]
# ## Exercise 02.3 ●● (10 minutes): Two layers, split inside
#
# Two linear layers with a relu between them, `relu(x @ first.T + bias) @ second.T`, are split over
# `ranks`: the first by its outputs, the second by its inputs. Rank `r` has the `r`-th run of hidden
# units, and all runs are equally long. Write `split_terms(x, first, bias, second, ranks)`: a list of
# what each rank computes, the terms that one all-reduce then adds up. Rank `r` may use only what
# belongs to its own hidden units.
#
# `x` is (samples, inputs), `first` (hidden, inputs), `bias` (hidden), `second` (outputs, hidden).

# %%
hints("02.3")

# %% [markdown]
# Write it here:

# %%
def split_terms(x, first, bias, second, ranks):
    """The terms of relu(x @ first.T + bias) @ second.T, one a rank, hidden units split evenly."""
    ### BEGIN SOLUTION
    terms = []
    for rank in range(ranks):
        own = slice(rank * len(bias) // ranks, (rank + 1) * len(bias) // ranks)
        hidden = torch.relu(x @ first[own].T + bias[own])
        terms.append(hidden @ second[:, own].T)
    return terms
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 02.3
# MISCONCEPTION: everybody computes all
# EXPECT: Each rank computes the whole output
def split_terms(x, first, bias, second, ranks):
    return [torch.relu(x @ first.T + bias) @ second.T] * ranks

# %% tags=["wrong-answer"]
# EXERCISE: 02.3
# MISCONCEPTION: the relu after the sum
# EXPECT: It belongs to the hidden units
def split_terms(x, first, bias, second, ranks):
    terms, each = [], len(bias) // ranks
    for rank in range(ranks):
        own = slice(rank * each, (rank + 1) * each)
        terms.append(torch.relu((x @ first[own].T + bias[own]) @ second[:, own].T))
    return terms

# %% tags=["wrong-answer"]
# EXERCISE: 02.3
# MISCONCEPTION: the right sum in the wrong way
# EXPECT: each rank has used all
def split_terms(x, first, bias, second, ranks):
    return [torch.relu(x @ first.T + bias) @ second.T / ranks for _ in range(ranks)]

# %% tags=["wrong-answer"]
# EXERCISE: 02.3
# MISCONCEPTION: no relu at all
# EXPECT: There is no relu
def split_terms(x, first, bias, second, ranks):
    parts = zip(first.chunk(ranks), bias.chunk(ranks), second.chunk(ranks, dim=1))
    return [(x @ f.T + b) @ s.T for f, b, s in parts]

# %% tags=["right-answer"]
# EXERCISE: 02.3
def split_terms(x, first, bias, second, ranks):
    parts = zip(first.chunk(ranks), bias.chunk(ranks), second.chunk(ranks, dim=1))
    return [(x @ f.T + b).clamp(min=0) @ s.T for f, b, s in parts]

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("02.3", split_terms)
result

# %% [markdown]
# The dense layers of LeNet over 1 to 8 ranks: the sum of the terms against the unsplit output.

# %%
split_terms = result.or_reference()

torch.manual_seed(0)
dense1, dense2 = network[NAMES.index("dense1")], network[NAMES.index("dense2")]
x = torch.randn(16, 800)
with torch.no_grad():
    whole = torch.relu(dense1(x)) @ dense2.weight.T
    for ranks in (1, 2, 4, 8):
        terms = split_terms(x, dense1.weight, dense1.bias, dense2.weight, ranks)
        off = (sum(terms) - whole).abs().max() / whole.abs().max()
        print(f"{ranks} ranks: off by {off:.0e} of the largest output")

# %% [markdown]
# ## Exercise 02.4 ●●● (15 minutes): From which batch on are replicas cheaper?
#
# A network of `parameters` weights can be cut between its layers at given places; `cuts` says how many
# numbers one sample carries over each cut, one way. That makes one stage more than cuts, each on a
# device of its own. The same devices could hold as many replicas, which sum their gradients by a ring.
# Write `first_batch_for_replicas(parameters, cuts)`: the smallest batch with which the replicas
# together move *fewer* bytes in a step than the stages together.
#
# `first_batch_for_replicas(129068, [800])` is 162.

# %%
hints("02.4")

# %% [markdown]
# Write it here:

# %%
def first_batch_for_replicas(parameters, cuts):
    """The smallest batch at which replicas move fewer bytes than the stages between these cuts."""
    ### BEGIN SOLUTION
    return len(cuts) * parameters // sum(cuts) + 1
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 02.4
# MISCONCEPTION: always two devices
# EXPECT: There are as many as stages
def first_batch_for_replicas(parameters, cuts):
    return parameters // sum(cuts) + 1

# %% tags=["wrong-answer"]
# EXERCISE: 02.4
# MISCONCEPTION: one rank of the ring against all cuts
# EXPECT: what *one* rank of the ring sends
def first_batch_for_replicas(parameters, cuts):
    n = len(cuts) + 1
    return (2 * (n - 1) * parameters // n) // (2 * sum(cuts)) + 1

# %% tags=["wrong-answer"]
# EXERCISE: 02.4
# MISCONCEPTION: equal is cheaper
# EXPECT: both move equally many
def first_batch_for_replicas(parameters, cuts):
    n = len(cuts) + 1
    return -(-(n - 1) * parameters // sum(cuts))

# %% tags=["wrong-answer"]
# EXERCISE: 02.4
# MISCONCEPTION: forgets the gradients that come back over the cut
# EXPECT: A cut is crossed twice
def first_batch_for_replicas(parameters, cuts):
    ring = 2 * len(cuts) * parameters
    return ring // sum(cuts) + 1

# %% tags=["wrong-answer"]
# EXERCISE: 02.4
# MISCONCEPTION: where the lines cross
# EXPECT: A batch is a whole number
def first_batch_for_replicas(parameters, cuts):
    return len(cuts) * parameters / sum(cuts)

# %% tags=["wrong-answer"]
# EXERCISE: 02.4
# MISCONCEPTION: the nearest whole number
# EXPECT: from the next whole number above on
def first_batch_for_replicas(parameters, cuts):
    return round(len(cuts) * parameters / sum(cuts))

# %% tags=["wrong-answer"]
# EXERCISE: 02.4
# MISCONCEPTION: cut off
# EXPECT: from the next whole number above on
def first_batch_for_replicas(parameters, cuts):
    return len(cuts) * parameters // sum(cuts)

# %% tags=["wrong-answer"]
# EXERCISE: 02.4
# MISCONCEPTION: the ring in bytes, the cut in numbers
# EXPECT: You set bytes against numbers
def first_batch_for_replicas(parameters, cuts):
    return int(4 * len(cuts) * parameters / sum(cuts)) + 1

# %% tags=["right-answer"]
# EXERCISE: 02.4
def first_batch_for_replicas(parameters, cuts):
    n = len(cuts) + 1
    ring = 2 * (n - 1) * parameters
    for batch in range(1, ring + 2):
        if 2 * batch * sum(cuts) > ring:
            return batch

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("02.4", first_batch_for_replicas)
result

# %% [markdown]
# And counted, on both sides of it, for LeNet cut behind pool2:

# %% tags=["nbval-check-output"]
first_batch_for_replicas = result.or_reference()

first = first_batch_for_replicas(129_068, [800])
for batch in (first - 1, first):
    images, digits = glyphs(batch)
    table = three_ways(network, images, digits, sizes=[6, 4], devices=["cpu"] * 2)
    cut, replicas = (table[name].traffic.bytes_moved
                     for name in ("network partitioning", "data parallelism"))
    print(f"{batch} images: cut {cut:,} bytes, replicas {replicas:,} bytes")
