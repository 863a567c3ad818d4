# %% [markdown]
# # 03 Splitting a transformer decoder
#
# **Can you cut a decoder in four and not change a single bit of the result?**
#
# 45 minutes. You need PyTorch's `backward()` and the words *stage*, *rank* and *micro-batch* from lesson 00. No GPU is needed: one CPU plays all four workers.

# %% [markdown]
# ## After this lesson you can
# - cut a decoder by hand: activations go forward, gradients come back, in half a dozen lines
# - say which action follows which, how many messages cross, and what they weigh
# - prove that the cut model is the uncut one, bit by bit
# - catch four mistakes that are easily made
#
# First, a guess. The decoder below has 77 weights (tensors, that is). We cut it into four stages of two layers and run one training step. Then we run the same step uncut and compare the gradients. **In how many of the 77 does at least one bit differ?**

# %%
from d2lpart.course import predict

guess = predict("03.p1", None)
guess

# %% [markdown]
# Here is the step, cut in four:

# %%
import copy

import torch
from d2lpart import Decoder, Pipeline, corpus

torch.set_num_threads(1)  # one thread: every sum is taken in one fixed order
torch.manual_seed(0)
model = Decoder(vocab_size=256, width=64, num_layers=6, num_heads=4, context=32)
whole = copy.deepcopy(model)
tokens, targets = next(corpus().batches(batch_size=8, context=32))

pipeline = Pipeline(model.layers, [2, 2, 2, 2], ["cpu"] * 4, schedule="naive", clock="wall")
pipeline.step(tokens, targets)  # to warm up
model.zero_grad()
result = pipeline.step(tokens, targets)
result.timeline

# %% [markdown]
# One lane a rank, time from left to right, read from the wall clock. A plain box is the forward of a stage, a hatched box its backward. The 0 in it is the micro-batch; there is only one. Work goes down the stairs and comes up again. That most of the picture is blank is the subject of lesson 05. Here we ask whether what the four of them compute is right: now the same step uncut, and your guess beside the count.

# %% tags=["nbval-check-output"]
from torch.nn.functional import cross_entropy


def loss_of(outputs, targets):
    return cross_entropy(outputs.flatten(0, 1), targets.flatten())


def differing(model, other):
    """Count the weights whose two gradients differ in at least one bit."""
    pairs = zip(model.parameters(), other.parameters())
    return sum(a.grad is None or not torch.equal(a.grad, b.grad) for a, b in pairs)


loss = loss_of(whole(tokens), targets)
loss.backward()
print("gradients that differ:", differing(model, whole), "of", len(list(model.parameters())))
print("loss equal:", result.loss == loss.item())
guess.against(differing(model, whole))

# %% [markdown]
# Rounding did not get in the way, and by the end of the next section you will know why it could not. We now do by hand what `Pipeline` has done.
#
# ## One cut, by hand
#
# A decoder is a list of layers. Each takes one tensor and hands one on; nothing jumps over a layer (a block's skip connections end inside it). So any run of consecutive layers is a model by itself. That is a *stage*, and a slice makes one. It holds the layers themselves, not copies.
#
# At the cut, stage 0 hands its *activation* to stage 1. A wire carries numbers; it does not carry the graph in which autograd remembers how they were made. `detach()` keeps the numbers and drops that history. `requires_grad_()` asks autograd to collect a gradient here, because that gradient has to travel back.

# %% tags=["nbval-check-output"]
model.zero_grad()
front, back = model[:4], model[4:]  # stage 0, stage 1
print(front, back, sep="\n")

activation = front(tokens)  # stage 0 computes
message = activation.detach().requires_grad_()  # numbers cross the cut
loss = loss_of(back(message), targets)  # stage 1 computes

print("shape", tuple(message.shape), "bytes", message.nbytes)
print("history before the cut:", activation.grad_fn is not None)
print("history behind the cut:", message.grad_fn is not None)

# %% [markdown]
# The forward is done. Before you run the backward of stage 1, say how far it will get.

# %%
from d2lpart.course import question

question("03.q1")

# %% [markdown]
# Run it and look at each layer.


# %% tags=["nbval-check-output"]
def has_gradients(layer):
    return all(p.grad is not None for p in layer.parameters())


def layers_with_gradients(model):
    return [number for number, layer in enumerate(model.layers) if has_gradients(layer)]


loss.backward()  # stage 1 goes back
print("layers with gradients:", layers_with_gradients(model))
print("message.grad has shape", tuple(message.grad.shape))

# %% [markdown]
# Stage 1 stopped at the message and left there the one thing stage 0 lacks: how the loss changes with each number of its activation. This is the second message. It has the shape of the first and crosses the same cut, the other way. Stage 0 starts from it as if it were its own.

# %% tags=["nbval-check-output"]
activation.backward(message.grad)  # the gradient crosses back, and stage 0 goes on from it
print("layers with gradients:", layers_with_gradients(model))
print("gradients that differ:", differing(model, whole))

# %% [markdown]
# This is the chain rule, interrupted. For a weight *w* of stage 0 and the activation *a* at the cut,
#
# $$\frac{\partial\,\text{loss}}{\partial w} = \frac{\partial\,\text{loss}}{\partial a}\cdot\frac{\partial a}{\partial w}.$$
#
# Stage 1 computes the first factor, stage 0 multiplies by the second. Autograd does the same two things in the same order when nothing is cut. **The cut adds no operation, removes none and moves none.** The same operations on the same numbers give the same bits. Keep this sentence: with it you can tell, further down, which kinds of cut are exact and which are not.
#
# (One condition: an operation has to give the same bits twice. On one thread of a CPU all of ours do. On a GPU some add in an order that changes from run to run, cut or not, unless you ask for `torch.use_deterministic_algorithms(True)`.)

# %% [markdown] card="Process Flow in Layer-wise Model Parallelism"
# ## Process Flow in Layer-wise Model Parallelism
#
# You have done all of it for two stages. In which order?

# %%
question("03.q2")

# %% [markdown]
# With more stages it is the same in two loops: forward from the first stage to the last, each receiving what the one before has sent; then backward from the last to the first, as the loss is at the last. We write an action as stage, kind, micro-batch: `2F0` is the forward of stage 2 on micro-batch 0.


# %% tags=["nbval-check-output"]
def split_step(stages, tokens, targets):
    """One step by hand: leaves the gradients, returns the loss and the actions in order."""
    received, sent, log = [tokens], [stages[0](tokens)], ["0F0"]
    for number, stage in enumerate(stages[1:], start=1):  # first stage to last
        received.append(sent[-1].detach().requires_grad_())
        sent.append(stage(received[-1]))
        log.append(f"{number}F0")
    sent[-1] = loss_of(sent[-1], targets)
    gradient = None  # the loss needs none to start from
    for number in reversed(range(len(stages))):  # last stage to first
        sent[number].backward(gradient)
        gradient = received[number].grad
        log.append(f"{number}B0")
    return sent[-1].item(), log


model.zero_grad()
loss, log = split_step([model[:2], model[2:4], model[4:6], model[6:]], tokens, targets)
print(" ".join(log))
print("gradients that differ:", differing(model, whole))

# %% [markdown]
# `3F0` and `3B0` stand side by side in the middle: the last stage turns round at once. All others wait until the gradient comes back up to them. Next, the messages. Count them before the package does.

# %%
question("03.q3")

# %% [markdown]
# The simulator draws the same step with times we give it: a forward takes 1 s, a backward 2 s, as it does about twice the work. The clock is *predicted*, so nothing is measured here.

# %% tags=["nbval-check-output"]
from d2lpart import build_schedule, figures, simulate

predicted = simulate(build_schedule("naive", num_ranks=4, num_microbatches=1), {"F": 1, "B": 2})
for sent in predicted.transfers:
    what = "activation" if sent.action.kind == "F" else "gradient"
    print(f"after {sent.action} the {what} goes from rank {sent.source} to rank {sent.target}")
predicted

# %% [markdown]
# In general, *p* stages run 2*p* actions and send 2(*p* − 1) messages: each of the *p* − 1 cuts is crossed once forward and once backward. With one layer a stage, *p* is the number of layers *L*: 2*L* events and 2(*L* − 1) messages.
#
# ## Is every cut right?
#
# Four stages of two layers were our choice. Between 8 layers there are 7 places to cut, so there are 2⁷ = 128 ways.

# %%
question("03.q4")

# %% [markdown]
# Do not believe it; try all of them.

# %% tags=["nbval-check-output"]
from itertools import pairwise, product


def all_ways(num_layers):
    """Yield every way to cut the layers, as the list of places where stages begin and end."""
    for cuts in product([False, True], repeat=num_layers - 1):
        yield [0, *(place for place, cut in enumerate(cuts, start=1) if cut), num_layers]


found = []
for places in all_ways(len(model.layers)):
    model.zero_grad()
    split_step([model[a:b] for a, b in pairwise(places)], tokens, targets)
    found.append(differing(model, whole))
print(len(found), "ways; gradients that differ, at most:", max(found))

# %% [markdown]
# One result, however it is cut. Where you cut is a question of time and memory (lesson 04), never of the result.
#
# ## What crosses, and what stays
#
# You know how many messages there are. What is in them?

# %%
question("03.q5")

# %% [markdown]
# Now weigh them.

# %%
question("03.q6")

# %% [markdown]
# Every cut of a decoder has the same shape, (samples, positions, width), so
#
# $$\text{bytes} = 2(p-1)\cdot \text{samples}\cdot\text{positions}\cdot\text{width}\cdot\text{bytes a number}.$$
#
# Neither the number of layers in a stage nor their weights stand in it. What a rank *keeps* is another matter: the weights of its layers, their gradients, what the optimizer remembers of them, and all that its forward left behind for its backward. At the start of this lesson `Pipeline` has counted what crossed and what was left behind.

# %%
samples, positions = tokens.shape
formula = 2 * (4 - 1) * samples * positions * 64 * 4
print(f"crossed: {result.bytes_moved} bytes; by the formula: {formula}")
print("rank  layers  weights kB  kept for B kB  sent kB")
for rank, stage in enumerate(pipeline.partition.stages):
    weights = sum(p.nbytes for layer in stage for p in model[layer].parameters())
    kept = result.peak_bytes[rank]
    sent = sum(t.nbytes for t in result.timeline.transfers if t.source == rank)
    print(f"{rank:4}  {list(stage)}  {weights / 1e3:10.0f}  {kept / 1e3:13.0f}  {sent / 1e3:7.0f}")
print(f"The smallest GPT-2: width 768, 50257 tokens, {50257 / 768:.0f} times as many")

# %% [markdown]
# A rank keeps many times what it sends, and nobody else keeps it: this is how the cut saves memory. The targets go to the last rank alone, which needs them for the loss, and the tokens to the first. A cut *behind* the head would be dear: in the smallest GPT-2 its output is 65 times as wide as any cut before it. So the head and the loss stay together.

# %% [markdown] card="Example of Model Parallelism with a Transformer Decoder"
# ## Example of Model Parallelism with a Transformer Decoder
#
# The usual example puts one block on each worker. Ours has four blocks and four ranks; the embedding goes with the first block, the head with the last. Two statements are made about it: outputs and gradients are those of a single device, and the blocks run at the same time. You have seen the first. And the second?

# %%
question("03.q7")

# %% [markdown]
# We check the first statement bit by bit, and the second on the wall clock: sort the actions by start, and see whether one begins before the one before it has ended.


# %%
def small_decoder(seed, **options):
    torch.manual_seed(seed)
    return Decoder(vocab_size=256, width=64, num_layers=4, num_heads=4, context=32, **options)


model, whole = small_decoder(seed=1), small_decoder(seed=1)
loss_of(whole(tokens), targets).backward()

pipeline = Pipeline(model.layers, [2, 1, 1, 2], ["cpu"] * 4, schedule="naive", clock="wall")
pipeline.step(tokens, targets)
with torch.no_grad():
    print("outputs equal:", torch.equal(pipeline(tokens), whole(tokens)))
print("gradients that differ:", differing(model, whole))
timeline = pipeline.step(tokens, targets).timeline  # the first step was to warm up
overlaps = sum(later.start < earlier.end for earlier, later in pairwise(timeline.spans))
working = sum(span.seconds for span in timeline.spans) / timeline.makespan
print(f"{overlaps} of {len(timeline.spans)} actions begin before the one before has ended;")
print(f"someone works in {working:.1%} of the step, the rest is hand-over between ranks")
timeline

# %% [markdown]
# Equal, and strictly one after another. This gives a bound: if one of *p* ranks works at a time, at least 1 − 1/*p* of all rank time is idle, 75% for four, and every hand-over adds to it. The figure in the picture's headline cannot lie below that bound, on any machine. Four workers make a model *fit*; they do not make it fast.

# %% [markdown] card="Network Partitioning"
# ## One thing with two names, one name for two things
#
# What you have just done, *Dive into Deep Learning* (D2L) calls *network partitioning*, and *Foundations of Large Language Models* calls *layer-wise model parallelism*. D2L's *layer-wise partitioning* sounds like the latter and is another cut (lesson 02).

# %%
question("03.q8")

# %% [markdown] card="Layerwise Partitioning"
# The sentence about operations tells the two cuts apart. A matrix can be shared by its outputs or by its inputs. Megatron-LM does one and then the other, so that workers meet once for each pair of matrices. Take the second linear layer of a block's perceptron, give a quarter of its inputs to each of four workers, and add up what they return.

# %%
layer = model[1].perceptron.output  # 256 inputs, 64 outputs
x = torch.randn(256, 256)
uncut = x @ layer.weight.T
shared = sum(x[:, worker::4] @ layer.weight[:, worker::4].T for worker in range(4))
off = (shared - uncut).abs().max() / uncut.abs().max()
print(f"equal: {torch.equal(shared, uncut)}; largest difference: {off:.0e} of the largest output")

# %% [markdown]
# Each output is a sum of 256 products; now it is four sums of 64, added up. This cut goes through a sum, and the last digits of a floating-point sum depend on its order. The result is as good, but in general not the same. (Shared by outputs, each output stays whole, and the sum is cut in the backward: the gradient of the input.) Between layers there is no sum to cut.
#
# ## What breaks it
#
# Four mistakes that are easily made.
#
# ### 1 The gradient stays behind

# %%
question("03.q9")

# %% [markdown]
# We train the decoder twice on real text, cut in three. Once the gradients are sent back; once every stage keeps its own to itself.


# %%
def train(send_back):
    model, losses = small_decoder(seed=2), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for x, y in corpus().batches(8, 32, steps=30, seed=3):
        optimizer.zero_grad()
        losses.append(split_step([model[:2], model[2:4], model[4:]], x, y)[0])
        if not send_back:
            model[:4].zero_grad()  # stages 0 and 1 never heard from stage 2
        optimizer.step()
    print(f"sent back: {send_back}; layers with gradients: {layers_with_gradients(model)}")
    return losses


both = {"sent back": train(send_back=True), "kept": train(send_back=False)}
ends = "; ".join(f"{name}, from {loss[0]:.2f} to {loss[-1]:.2f}" for name, loss in both.items())
figures.curves(
    range(1, 31), both, xlabel="step", ylabel="loss", markers=["kept"], description=f"Loss: {ends}"
)

# %% [markdown]
# Both losses fall. In the broken run two of three stages keep the random weights they were born with, and the last one learns enough to look healthy. The curves cannot tell you; the two printed lines can. A falling loss does not test a backward. One comparison with the uncut model does.
#
# ### 2 `detach` is forgotten
#
# Without `detach` the message brings its history along, and the two stages share one graph. The backward of stage 1 runs on into stage 0 and does its work. In one process that goes unnoticed; between two there is no graph to run on into. When stage 0 then starts its own backward, PyTorch stops it and ends the error with a piece of advice: specify `retain_graph=True`. Many take it.

# %%
question("03.q10")

# %% [markdown]
# First the error, then what comes of the advice:


# %%
def without_detach(**advice):
    model.zero_grad()
    message = activation = model[:3](tokens)
    message.retain_grad()
    loss_of(model[3:](message), targets).backward(**advice)
    after_stage_1 = model[0].token.weight.grad.clone()
    activation.backward(message.grad)
    return model[0].token.weight.grad.norm() / after_stage_1.norm()


try:
    without_detach()
except RuntimeError as error:
    print("RuntimeError:", error)
ratio = without_detach(retain_graph=True)
print(f"stage 0's gradient is {ratio:.3f} times what stage 1 had left there")

# %% [markdown]
# No error any more, and plain gradient descent moves stage 0 at twice the rate of stage 1. Adam divides the factor out and hides it, until something looks at the size of gradients, such as clipping. `detach` is not a nuisance to be worked around. It is the cut.
#
# ### 3 One weight on two stages
#
# Many decoders are *tied*: the head's matrix and the embedding's vectors are one weight. The embedding is in the first stage and the head in the last, so on two devices there must be two copies.

# %%
question("03.q11")

# %% [markdown]
# By hand, with a copy for stage 1:


# %%
def distance(a, b):
    """How far a is from b, in lengths of b."""
    return ((a - b).norm() / b.norm()).item()


tied, whole = small_decoder(seed=4, tied=True), small_decoder(seed=4, tied=True)
loss_of(whole(tokens), targets).backward()
front, back = tied[:3], copy.deepcopy(tied[3:])  # one weight becomes two
split_step([front, back], tokens, targets)

expected = whole[0].token.weight.grad
own, other = front[0].token.weight.grad, back[-1].projection.weight.grad
print(f"the embedding's copy alone is off by {distance(own, expected):.0%}")
print("the sum of both shares is the gradient:", torch.equal(own + other, expected))

# %% [markdown]
# Each stage has found its own share; the gradient is their sum. In this decoder the head's share is the larger one by far. Without that sum the two copies also take different steps, and the model is tied no longer.
#
# `Pipeline` keeps one weight, at *home* in the first stage that uses it. Other stages compute with a *shadow*: the same numbers, refreshed each step, with a gradient that is sent home and added.

# %% tags=["nbval-check-output"]
pipeline = Pipeline(tied.layers, [3, 3], ["cpu"] * 2, schedule="naive", clock="virtual")
tied.zero_grad()
result = pipeline.step(tokens, targets)
print("gradients that differ:", differing(tied, whole))
print(result.bytes_moved, "bytes of activations and their gradients")
print(result.tied_bytes, "bytes for the tie")

# %% [markdown]
# The tie has its price: vocabulary × width × 4 bytes for the gradient of every micro-batch, however few samples are in it. (To add up first and send once would be cheaper, but would take the sum in another order.) Here both ranks are one CPU, and the shadow reads the weight where it lies; between two devices the refresh costs as much once more in each step.
#
# ### 4 Micro-batches are not alike
#
# The last mistake needs no cut; it waits in the step everybody takes next, and lesson 00 took already: the mini-batch goes through in micro-batches, and their gradients add up. Samples differ in length, and where the text of one has ended, the target is −100: ignore.

# %%
question("03.q12")

# %% [markdown]
# Eight samples, the first one full, the last with 2 targets, in three micro-batches. Once we weigh each by 1/3; once by its share of the targets that count.

# %%
padded = targets.clone()
for row, length in enumerate([32, 26, 20, 14, 10, 6, 4, 2]):
    padded[row, length:] = -100
parts = list(zip(tokens.tensor_split(3), padded.tensor_split(3)))
counts = [int((y != -100).sum()) for _, y in parts]


def in_parts(parts, weights):
    """Return a decoder with the weighed gradients of all micro-batches added up."""
    model = small_decoder(seed=5)
    for (x, y), weight in zip(parts, weights):
        (loss_of(model(x), y) * weight).backward()
    return model


whole = in_parts([(tokens, padded)], [1])
alike, shares = in_parts(parts, [1 / 3] * 3), in_parts(parts, [n / sum(counts) for n in counts])
for name, model in {"each weighed 1/3": alike, "weighed by shares": shares}.items():
    off = distance(model[0].token.weight.grad, whole[0].token.weight.grad)
    print(f"{name}: the embedding's gradient is off by {off:.2g} of its length")

# %% [markdown]
# The mean of means is wrong in its first digits, the weighed sum right up to rounding. `Pipeline` weighs for you. Two comparisons, and this time think before you read: against one backward of the whole mini-batch, and against the same three micro-batches on one device.

# %%
pipeline = Pipeline(
    small_decoder(seed=5).layers, [3, 3], ["cpu"] * 2, num_microbatches=3, clock="virtual"
)
pipeline.step(tokens, padded)
print("gradients that differ from one full batch:         ", differing(pipeline, whole))
print("gradients that differ from the three on one device:", differing(pipeline, shares))

# %% [markdown]
# Micro-batches cut the mini-batch, and a gradient *is a sum* over the mini-batch, so last digits may change. The cut between layers changed nothing, again.
#
# (Some layers look at the whole mini-batch: in training, BatchNorm normalises by its mean, which no micro-batch knows. `Pipeline` refuses such a layer rather than train another model than yours.)
#
# ## To remember
#
# - A cut between layers adds no operation and moves none. So outputs and gradients are those of the uncut model, bit by bit, wherever you cut.
# - Forward from the first stage to the last, activations as messages; backward from the last to the first, gradients as messages: 2*p* actions, 2(*p* − 1) messages of one size.
# - `detach` is the cut: numbers cross, history does not.
# - A cut through a sum, inside a layer or through the mini-batch, is right up to rounding; and the parts of a mini-batch have to be weighed.
# - A falling loss proves nothing about a backward. Compare one step with the uncut model.
#
# The exercises are in [03_splitting_a_decoder.ipynb](../exercises/03_splitting_a_decoder.ipynb). Next: which layer goes where, [lesson 04](04_placement_and_balance.ipynb).
#
# **Read on.** D2L, [Training on Multiple GPUs](https://d2l.ai/chapter_computational-performance/multiple-gpus.html), for network and layer-wise partitioning. Xiao and Zhu, [Foundations of Large Language Models](https://arxiv.org/abs/2501.09223), for layer-wise model parallelism. Huang et al., [GPipe](https://arxiv.org/abs/1811.06965), for the same cut with micro-batches. Shoeybi et al., [Megatron-LM](https://arxiv.org/abs/1909.08053), for the cut inside layers. Press and Wolf, [Using the Output Embedding to Improve Language Models](https://arxiv.org/abs/1608.05859), for tied weights.
