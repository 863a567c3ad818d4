# %% [markdown]
# # 02 Three ways to split
#
# **One network, two devices. You can cut between the layers, through the layers, or through the
# data: which of them sends the least, and which makes room for a larger network?**
#
# 45 minutes. You need PyTorch's layers and `backward()`, and the words *rank*, *mini-batch*,
# *micro-batch* and *clock* from lesson 00. No GPU is needed.

# %% [markdown]
# ## After this lesson you can
# - tell network partitioning, layer-wise partitioning and data parallelism apart, whatever a book calls them
# - run all three, and show that each computes what the unsplit network computes
# - count the bytes that each moves, and the barriers at which all ranks wait
# - say for which batch which of them moves the least, before you run it
#
# The answer first, for a small network, the LeNet of *Dive into Deep Learning* (D2L). Two ranks share
# your CPU. Every message of a training step is really sent, and its bytes are counted.

# %%
import copy

import torch
from d2lpart import figures, three_ways
from d2lpart.models.convnet import NAMES, glyphs, lenet

torch.set_num_threads(1)  # one thread is one rank's hardware, here and in the whole course
torch.manual_seed(0)
network, two = lenet(), ["cpu"] * 2
batches = [2, 20, 40, 80, 120, 160, 200, 240]
moved = {"network partitioning": [], "layer-wise partitioning": [], "data parallelism": []}
for n in batches:
    for way in three_ways(network, *glyphs(n), sizes=[6, 4], devices=two, pairs=False).ways:
        moved[way.name].append(way.traffic.bytes_moved / 1e6)
moved["layer-wise partitioning"][4:] = [float("nan")] * 4  # it climbs on, out of the picture
ends = ", ".join(f"{name} {values[3]:.2f} MB" for name, values in moved.items())
figures.curves(batches, moved, xlabel="images in the mini-batch", ylabel="MB moved in a step",
            description=f"Bytes moved by the three ways. With 80 images: {ends}")

# %% [markdown]
# The flat line is the cut through the *data*: it sends the same for any number of images. The cut
# *between* layers climbs slowly, the cut *through* the layers steeply. Each crosses the flat line, and
# there the better choice changes. By the end you will compute such a crossing from two numbers.
#
# ## What is cut
#
# | D2L's name | also called | what is cut | a rank holds | what is sent |
# | --- | --- | --- | --- | --- |
# | network partitioning | layer-wise model parallelism; with micro-batches: pipeline parallelism | between layers | some layers, whole | activations and their gradients |
# | layer-wise partitioning | tensor parallelism | every layer, inside | a part of every layer | activations and their gradients |
# | data parallelism | | the mini-batch | all layers, whole | gradients of weights |
#
# Look at the first two rows again. *Layer-wise partitioning* and *layer-wise model parallelism* are
# **not** the same: D2L and *Foundations of Large Language Models* use one word for two cuts. So ask what
# is cut.

# %%
from d2lpart.course import predict, question

question("02.q1")

# %% [markdown]
# And the names, all at once:

# %%
question("02.q2")

# %% [markdown]
# ## The network
#
# D2L trains a LeNet with 129,068 parameters on several GPUs: two convolutions, two dense layers. A
# guess before you see the table: what part of the work does the second convolution do? Work is counted
# in *multiply-adds* of the forward. Write a number, in %, in place of `None`, or run on.

# %%
guess = predict("02.p1", None)
guess

# %% [markdown]
# Now counted, for one image: parameters, multiply-adds (torch counts them while a layer runs, each as
# two operations), and the numbers that the layer puts out: a cut behind it carries them.

# %% tags=["nbval-check-output"]
from d2lpart import profile

costs = dict(zip(NAMES, profile(network, torch.zeros(1, 1, 28, 28))))
weights = sum(cost.parameters for cost in costs.values())
work = sum(cost.forward_flops for cost in costs.values()) // 2
print(f"{weights:,} parameters, {work:,} multiply-adds\n")
print("          parameters    multiply-adds   output")
for name, cost in costs.items():
    adds, output = cost.forward_flops // 2, cost.boundary_bytes // 4
    print(f"{name:7} {cost.parameters:7,} {cost.parameters / weights:6.1%} {adds:10,} "
          f"{adds / work:6.1%} {output:7,}")
guess.against(100 * costs["conv2"].forward_flops / 2 / work)

# %% [markdown]
# The first dense layer holds four fifths of the weights; the second convolution does nine tenths of the
# work. A convolution uses each of its weights at every place of its output; a dense layer uses each of
# its weights once. **Balance of memory is not balance of compute.**
#
# Look at the last column, too. Where the network is narrow, a cut between layers is cheap: behind
# `pool2` there are 800 numbers, behind `conv1` 13,520, about seventeen times as many.

# %% [markdown] card="Network Partitioning"
# ## Network Partitioning
#
# > The interfaces between layers require tight synchronization and massive data transfers of
# > activations and gradients, which can easily overwhelm GPU bus bandwidth.
#
# How massive? That depends on the place. First your number, for a cut behind `pool2`:

# %%
question("02.q3")

# %% [markdown]
# Run it. `Pipeline` puts the first six layers on rank 0 and the other four on rank 1, and counts every
# byte that goes from one to the other.

# %% tags=["nbval-check-output"]
from d2lpart import Pipeline

images, digits = glyphs(16)
for name in ("conv1", "pool1", "pool2", "dense1"):
    place = NAMES.index(name) + 1
    pipeline = Pipeline(lenet(), [place, 10 - place], two, schedule="naive", clock="virtual")
    step = pipeline.step(images, digits)
    print(f"cut behind {name:6}: {step.bytes_moved / 1e3:7.1f} kB in {len(step.timeline.transfers)} messages")

# %% [markdown]
# Two messages whatever the place: the activation forward, its gradient back. A bad place costs about a
# hundred times as much as the best one here. A rank waits for its neighbour, and never for *all* ranks, so we
# count no barrier. Four things are said about this way to split; one of them is true.

# %%
question("02.q4")

# %% [markdown]
# The passage goes on:
#
# > Furthermore, ensuring that sequential computational workloads are evenly matched between layers is
# > highly difficult, making linear scaling challenging to achieve.
#
# So where is the place for two equal halves?

# %%
question("02.q5")

# %% [markdown]
# Over `conv2` rank 0's part of the work jumps from 5% to 95%, and no cut lies inside. Here is the step,
# cut behind `pool2`, on the wall clock: two threads, of which one works at a time. Of thirty steps we
# take the fastest, which other programs have disturbed least:

# %%
pipeline = Pipeline(copy.deepcopy(network), [6, 4], two, schedule="naive", clock="wall")
steps = [pipeline.step(images, digits).timeline for _ in range(30)]
min(steps, key=lambda timeline: timeline.makespan)

# %% [markdown]
# Rank 1 holds 80% of the weights and hardly works; while it does, rank 0 waits. (Where both lanes are
# blank, one thread has finished and the other wakes up.) A cut between layers is only as even as the
# layers are.

# %% [markdown] card="Layerwise Partitioning"
# ## Layerwise Partitioning
#
# If one convolution is the problem, cut *it*. It has 50 output channels, and each is computed from the
# same input by weights of its own. So each of two ranks computes 25 of them:

# %% tags=["nbval-check-output"]
from torch.nn.functional import conv2d

conv2 = network[NAMES.index("conv2")]
x = torch.randn(16, 20, 13, 13)
with torch.no_grad():
    whole = conv2(x)
    halves = [conv2d(x, w, b) for w, b in zip(conv2.weight.chunk(2), conv2.bias.chunk(2))]
    print([tuple(half.shape) for half in halves])
    print("side by side they are the whole:", torch.allclose(torch.cat(halves, 1), whole, atol=1e-6))

# %% [markdown]
# Half of the weights and half of the work on each rank, of a single layer. But the next layer needs all
# 50 channels, and each rank has 25. So each sends its own to all others, an **all-gather**. That is a
# **barrier**: nobody goes on before all have given their part. Going back, the input's gradient is a sum
# over the ranks, and all wait again.

# %%
question("02.q6")

# %% [markdown]
# `TensorParallel` splits all layers so. With `pairs=False` it gathers before each layer that has weights,
# as D2L describes it.

# %% tags=["nbval-check-output"]
from d2lpart import TensorParallel

split = TensorParallel(network, two, pairs=False)
step = split.step(images, digits)
print(step.barriers, "barriers,", f"{step.bytes_moved / 1e3:.1f} kB moved;",
      "weights on each rank:", [f"{n / 1e3:.1f} kB" for n in step.parameter_bytes])
for name, layer in zip(NAMES, split.children()):
    if list(layer.parameters()):
        print(f"{name:7} on rank 0: {layer.parts[0]}")

# %% [markdown]
# And its gradients, put together again, against those of the unsplit network:

# %%
def compare(gradients):
    """Tell how far gradients (by name) are off the unsplit network's, in its largest gradient."""
    network.zero_grad()
    torch.nn.functional.cross_entropy(network(images), digits).backward()
    unsplit = {name: weight.grad for name, weight in network.named_parameters()}
    largest = max(gradient.abs().max() for gradient in unsplit.values())
    return max(((gradients[name] - own).abs().max() / largest).item() for name, own in unsplit.items())


print(f"off by {compare(split.gradients()):.0e} of the largest gradient")

# %% [markdown]
# The same up to rounding: numbers are added up in another order.
#
# ### Fewer barriers
#
# There is a second way to cut a layer: by its *inputs*. `conv2` has 20 input channels. If `conv1` is
# split by outputs, each rank has ten of these 20 already. It applies the weights that belong to them,
# and gets a *term* of all 50 outputs:

# %% tags=["nbval-check-output"]
with torch.no_grad():
    parts = zip(x.chunk(2, dim=1), conv2.weight.chunk(2, dim=1))  # 10 input channels each
    terms = [conv2d(own, w) for own, w in parts]
    added = sum(terms) + conv2.bias.view(-1, 1, 1)
    print([tuple(term.shape) for term in terms])
    print("their sum is the whole:", torch.allclose(added, whole, atol=1e-5))

# %% [markdown]
# So split the layers by outputs and by inputs in turn. Then ranks meet only at the ends of a pair: forward
# behind its second layer, to add up their terms, and back in front of its first layer, to add up the
# gradients. A sum whose result every rank gets is an **all-reduce**. Megatron-LM splits decoders like
# this, and calls the two *column* and *row parallel*. LeNet both ways, and two layers with a wide middle,
# as each block of a decoder has:

# %% tags=["nbval-check-output"]
from torch import nn

wide = [nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)]
for name, layers, x in (("LeNet", network, images), ("wide middle", wide, torch.randn(16, 64))):
    for pairs in (False, True):
        step = TensorParallel(layers, two, pairs=pairs).step(x, digits)
        print(f"{name:11} pairs={pairs!s:5}: barriers {step.barriers}, {step.bytes_moved / 1e3:6.1f} kB")

# %% [markdown] card="Data Parallelism"
# In pairs there are fewer barriers. The bytes depend on the layers: what lies inside a pair is not sent.
# That helps where the middle is wide, and hurts in LeNet, where all of `conv2`'s output goes round before
# it is pooled.
#
# ## Data Parallelism
#
# The third way cuts no layer at all. Each rank has the whole network, a *replica*, and a share of the
# images. By hand, with two:

# %% tags=["nbval-check-output"]
replicas = [network, copy.deepcopy(network)]
for replica, x, y in zip(replicas, images.chunk(2), digits.chunk(2)):
    replica.zero_grad()
    (torch.nn.functional.cross_entropy(replica(x), y) / 2).backward()
pairs = zip(*(replica.parameters() for replica in replicas))
total = {name: a.grad + b.grad for (name, _), (a, b) in zip(network.named_parameters(), pairs)}
print("the sum is the gradient of all 16 images:", compare(total) < 2e-5)

# %% [markdown]
# The loss is a mean over all images. Each replica divides the mean over its own half by two, and the
# gradients add up. This sum, an all-reduce, is the one thing that replicas have to tell each other, and
# the one barrier of the step.

# %%
question("02.q7")

# %% [markdown]
# There are several ways to do an all-reduce. One rank can collect all gradients, add them up and send the sum
# back; D2L begins so. Or each of $n$ ranks cuts its gradients into $n$ pieces, and they go round a
# *ring*: $n - 1$ rounds to add them up, $n - 1$ to pass the sums on.

# %%
question("02.q8")

# %% [markdown]
# Four replicas of LeNet, both ways:

# %% tags=["nbval-check-output"]
from d2lpart.splits.collectives import all_reduce, all_reduce_at_one
from d2lpart import DataParallel

for reduce in (all_reduce_at_one, all_reduce):
    step = DataParallel(lenet(), ["cpu"] * 4, reduce=reduce).step(images, digits)
    sent = ", ".join(f"{n / 1e6:.2f}" for n in step.traffic.sent)
    print(f"{reduce.__name__:17} {step.bytes_moved / 1e6:.2f} MB in all, {step.barriers} barrier; "
          f"sent by ranks 0 to 3: {sent} MB")

# %% [markdown]
# The same bytes in all, $2(n-1)$ times the gradients. But rank 0, which collects them, sends $n/2$ times
# as much as a rank of the ring, here twice as much, and the others wait for it.
#
# ## All three learn the same
#
# Now train, in all three ways from the same weights. The images are digits that the package draws;
# nothing is downloaded.

# %%
def train(model):
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=2e-3), []
    for x, y in zip(train_images.split(32), train_digits.split(32)):
        optimizer.zero_grad()
        losses.append(model.step(x, y).loss)
        optimizer.step()
    return losses


train_images, train_digits = glyphs(960, seed=1)
start = lenet()
losses = {
    "network partitioning": train(Pipeline(copy.deepcopy(start), [6, 4], two, schedule="naive")),
    "layer-wise partitioning": train(TensorParallel(start, two)),
    "data parallelism": train(DataParallel(copy.deepcopy(start), two)),
}
ends = ", ".join(f"{name} from {loss[0]:.2f} to {loss[-1]:.2f}" for name, loss in losses.items())
figures.curves(range(1, 31), losses, xlabel="step", ylabel="loss", description=f"Loss: {ends}.",
            markers=["layer-wise partitioning", "data parallelism"])

# %% [markdown]
# One curve, drawn three times. Whichever way you split, it is the same training. So the choice is about
# memory, traffic and time alone.
#
# ## One table
#
# A guess first. You can work it out from what you have:

# %%
guess = predict("02.p2", None)
guess

# %% [markdown]
# All three, side by side:

# %% tags=["nbval-check-output"]
table = three_ways(network, images, digits, sizes=[6, 4], devices=two, pairs=False)
print(table)
guess.against(table["data parallelism"].traffic.bytes_moved
              / table["network partitioning"].traffic.bytes_moved)

# %% [markdown]
# Read it by columns. Data parallelism does not save a byte of weights; layer-wise partitioning halves
# them; the cut behind `pool2` leaves most of them on one rank. It has no barrier, though; data parallelism
# has one, layer-wise partitioning seven.
#
# ## Where the lines cross
#
# Take $P$ parameters, $A$ numbers an image at the cut, $B$ images, two devices. The numbers moved in a
# step are
#
# $$\text{cut: } 2AB \qquad \text{replicas: } 2(n-1)P = 2P \qquad \text{equal at } B = P/A,$$
#
# as long as an activation and a gradient have equally many bytes. One side grows with the images, the
# other with the weights. Use it:

# %%
question("02.q9")

# %% [markdown]
# For LeNet and `pool2` it is 129,068/800, about 161: there the lines of the first picture cross. (The
# exercises count on both sides of it.) This is one reason why data parallelism is what people use while
# the model fits, with batches as large as learning allows. The others begin where it does not fit.
#
# ## Bytes or barriers?
#
# Bytes are not the whole cost. A message takes a *latency*, however short it is, and then its bytes over
# the bandwidth. Messages that are under way together count once. Take two links: PCIe 4.0 with 16 lanes,
# by D2L's numbers, and gigabit Ethernet, with a latency that we assume. The time of one step's messages,
# modelled:

# %% tags=["nbval-check-output"]
from d2lpart import Link

links = {"PCIe": Link(latency=5e-6, bandwidth=32e9), "Ethernet": Link(latency=50e-6, bandwidth=125e6)}
for label, link in links.items():
    print(f"{label:9}", ", ".join(
        f"{way.name} {1e6 * way.traffic.seconds(link):.0f} µs" for way in table.ways))

# %% [markdown]
# On PCIe layer-wise partitioning comes last: seven barriers are seven latencies, though it moves about
# half the bytes of data parallelism. On Ethernet bytes count most, and data parallelism comes last. (This
# model ignores overlap: in practice gradients travel while the backward still runs.)
#
# ## A decoder
#
# Now a network whose layers are alike, on four ranks: a decoder of eight blocks, with 16 samples of 32
# bytes. Inside, a block is two pairs. Attention is split by its attention heads, the perceptron behind it
# by its hidden units: each first layer by outputs, each second one by inputs. The last layer, the decoder's
# *head*, is split by outputs. Before you read the table:

# %%
question("02.q10")

# %% [markdown]
# The cut network has its ten layers on four ranks: 3, 2, 2 and 3.

# %% tags=["nbval-check-output"]
from d2lpart import Decoder, corpus

decoder = Decoder(vocab_size=256, width=64, num_layers=8, num_heads=4, context=32)
tokens, targets = next(corpus().batches(batch_size=16, context=32))
ways = three_ways(decoder, tokens, targets, sizes=[3, 2, 2, 3], devices=["cpu"] * 4)
print("losses equal:", max(way.loss for way in ways.ways) - min(way.loss for way in ways.ways) < 1e-4)
weights = sum(weight.numel() for weight in decoder.parameters())
print(f"{weights:,} parameters, P/A = {weights / (32 * 64):.0f} samples")
ways

# %% [markdown]
# With 16 samples the cut network moves the least, by far. Every cut is as wide as any other, so with $n$
# ranks there are $n - 1$ equal cuts; the formula holds as it stands, and the replicas catch up at $P/A$
# samples. Layer-wise partitioning has four barriers a block and moves the most: it is used *inside* a
# machine, where links are fast. (Its ranks hold more than a quarter of the weights, for the embedding is
# on each.) So why not always cut between layers?

# %%
question("02.q11")

# %% [markdown]
# The one that sends the least lets all ranks but one wait, as in the timeline above. Lesson 05 measures
# the waiting, and lesson 06 takes most of it away.
#
# ## What breaks it
#
# Three mistakes. First, replicas that do not sum their gradients: after training their weights differ.
# Second, a layer that looks at the whole mini-batch: a replica sees only a part of it. Third, more ranks
# than a block has attention heads.

# %% tags=["nbval-check-output"]
def alone(group, gradients):
    """No sum: each keeps its own."""
    return list(gradients)


for reduce in (all_reduce, alone):
    model = DataParallel(copy.deepcopy(start), two, reduce=reduce)
    train(model)
    pairs = zip(*(replica.parameters() for replica in model.replicas))
    equal = all(torch.equal(a, b) for a, b in pairs)
    print(f"gradients by {reduce.__name__}: weights {'equal' if equal else 'differ'}")
for wrong in (lambda: DataParallel([nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)], two),
              lambda: TensorParallel(decoder, ["cpu"] * 5)):
    try:
        wrong()
    except ValueError as error:
        print("", error, sep="\n")

# %% [markdown]
# ## In earnest
#
# What you have run here is small on purpose: one process, and every message in plain sight. For work,
# take what torch has. For network partitioning `torch.distributed.pipelining`; for layer-wise
# partitioning `torch.distributed.tensor.parallel`, with `ColwiseParallel` and `RowwiseParallel`; for data
# parallelism `DistributedDataParallel`, which sends while the backward still runs, or `fully_shard`,
# which also shares the weights out, and so does save memory, for more messages.
#
# ## To remember
#
# - Ask what is cut: between layers (network partitioning), inside each layer (D2L's layer-wise
#   partitioning, tensor parallelism), or the mini-batch (data parallelism).
# - All three compute the same. They differ in what a rank holds, what it sends, and how often all wait.
# - A cut moves $2AB$ numbers; replicas $2(n-1)P$, whatever the batch; layer-wise partitioning moves
#   activations at every layer or every pair of layers, forward and back, with a barrier each time.
# - Data parallelism saves no memory for the weights. Layer-wise partitioning divides every layer, even
#   the largest. Network partitioning sends the least while the batch is small, and waits the most.
# - Balance of memory is not balance of compute: in LeNet one layer holds 79% of the weights, and
#   another does 90% of the work.
#
# The exercises are in [02_three_ways_to_split.ipynb](../exercises/02_three_ways_to_split.ipynb). Next:
# the first way by hand, [lesson 03](03_splitting_a_decoder.ipynb).
#
# **Read on.** D2L, [Training on Multiple
# GPUs](https://d2l.ai/chapter_computational-performance/multiple-gpus.html), for the three ways and their
# names, and [Hardware](https://d2l.ai/chapter_computational-performance/hardware.html), for PCIe. Xiao and
# Zhu, [Foundations of Large Language Models](https://arxiv.org/abs/2501.09223), for the other names.
# Shoeybi et al., [Megatron-LM](https://arxiv.org/abs/1909.08053), section 3, for the pairs. Patarasuk
# and Yuan, [Bandwidth optimal all-reduce](https://doi.org/10.1016/j.jpdc.2008.09.002), for the ring.
