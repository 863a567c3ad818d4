# %% [markdown]
# # 04 Placement and balance
#
# **Which layer goes where, and who decides?**
#
# 50 minutes. You need *layer*, *stage*, *rank* and the two messages over a cut (an activation forward, its gradient back) from lesson 03. No GPU is needed.

# %% [markdown]
# ## After this lesson you can
# - tell a layer-wise placement from its look-alikes, and say what each of them costs
# - find the best cut of any list of layers, and prove that no better one exists
# - say when balance matters and when it does not matter at all
# - cut by measured costs, under a memory limit
#
# First, a guess. Fourteen layers and four ranks. The embedding costs 1, each of twelve blocks 10, the head 40; think of milliseconds. The obvious cut counts layers: 3 + 4 + 4 + 3.

# %% tags=["nbval-check-output"]
from d2lpart import Partition

costs = [1] + [10] * 12 + [40]
Partition([3, 4, 4, 3], costs)

# %% [markdown]
# One bar a stage, made of its layers, as long as they cost. The sum of a bar is the stage's **load**, the largest load is the **bottleneck**. The counts are as even as they can be, and stage 3 has nearly three times the load of stage 0.
#
# Write down four numbers that do better. How low can the bottleneck get? Put your numbers here and run the cell:

# %%
yours = [3, 4, 4, 3]  # the layers of stages 0 to 3: they add up to 14
print("your bottleneck:", Partition(yours, costs).bottleneck(costs))

# %% [markdown]
# Keep that number. At the end of the lesson you will know, without trying them all, that no cut of these layers gets below 41.
#
# Your four numbers have taken one thing for granted: that a rank gets a *run* of layers. Must it?

# %% [markdown] card="An engineer is tasked with training a very large neural network composed of 24 sequential layers."
# ## Which layers together?
#
# > An engineer is tasked with training a very large neural network composed of 24 sequential layers. The model is too large to fit into the memory of a single processing device. To solve this, the engineer decides to distribute the model across 4 identical devices by partitioning it based on its layers. Which of the following strategies correctly applies this layer-based distribution method?

# %%
from d2lpart.course import question

question("04.q1")

# %% [markdown]
# A **placement** names the device of each layer. `check_placement` reads one and gives its verdict. The last line stands for two of the options: each layer is on all four devices, as a copy or as a part.

# %% tags=["nbval-check-output"]
from d2lpart import check_placement

strategies = {
    "consecutive": [layer // 6 for layer in range(24)],
    "dealt out": [layer % 4 for layer in range(24)],
    "copies or parts": [[0, 1, 2, 3]] * 24,
}
for name, placement in strategies.items():
    verdict = check_placement(placement, num_devices=4)
    print(f"{name}: {'yes' if verdict else 'no'}. {verdict.reason}")

# %% [markdown]
# A **crossing** is a pair of neighbouring layers on different devices. Four groups must touch in three places; 3 is the fewest there can be, and only runs of neighbours reach it.
#
# Try a placement of your own. What does the verdict say of a device that comes up twice, of one without layers, of a layer without a device?

# %%
mine = [0] * 6 + [1] * 6 + [0] * 6 + [2] * 6
print(check_placement(mine, num_devices=4).reason)

# %% [markdown] card="Consider a large neural network with 12 sequential layers"
# ## Equal counts are not consecutive groups
#
# > Consider a large neural network with 12 sequential layers that needs to be distributed across 3 processing devices because it is too large for a single device. An engineer proposes the following distribution: Device 1 runs layers 1, 4, 7, 10; Device 2 runs layers 2, 5, 8, 11; and Device 3 runs layers 3, 6, 9, 12. This proposed method represents a correct implementation of a layer-based partitioning strategy where groups of consecutive layers are assigned to different devices.

# %%
question("04.q2")

# %% [markdown]
# (The engineer counts from 1, we count from 0.) Here are both placements, and the crossings of each: walk through the layers and count where the device changes.

# %% tags=["nbval-check-output"]
from itertools import pairwise

groups = [layer // 4 for layer in range(12)]
dealt = [layer % 3 for layer in range(12)]
for placement in (groups, dealt):
    changes = [a != b for a, b in pairwise(placement)]
    print(*placement, " counts", [placement.count(d) for d in range(3)], " crossings", sum(changes))

# %% [markdown]
# Four layers a device both times, 2 crossings against 11. So the statement is false. But is the proposal *broken*? Lesson 03 says that cuts change no result, and nothing there asked for few of them. Before you run it, answer for yourself: which of these will differ between the two placements: the loss, the gradients, the weights a rank keeps, the bytes it holds for its backward, the bytes that move?
#
# `Pipeline` can place layers so. Give it 12 stages of one layer and 3 devices: stage *s* goes to rank *s* mod 3. The schedule is the *naive* one of the lessons before: the mini-batch passes through in one piece, forward and then back.

# %% tags=["nbval-check-output"]
import torch
from d2lpart import Decoder, Pipeline, corpus

torch.set_num_threads(1)
inputs, targets = next(corpus().batches(batch_size=8, context=32))
results, gradients = {}, {}
for name, sizes in {"groups": [4, 4, 4], "dealt out": [1] * 12}.items():
    torch.manual_seed(0)
    model = Decoder(vocab_size=256, width=64, num_layers=10, num_heads=4, context=32)
    pipeline = Pipeline(model.layers, sizes, ["cpu"] * 3, schedule="naive", clock="wall")
    results[name] = pipeline.step(inputs, targets)
    gradients[name] = [p.grad for p in model.parameters()]
    print(f"{name}: {results[name].bytes_moved:,} bytes moved")
same = all(map(torch.equal, *gradients.values()))
print("loss equal:", results["groups"].loss == results["dealt out"].loss, "| gradients equal:", same)
print("held for the backward, by rank:", *(list(r.peak_bytes) for r in results.values()), sep="\n  ")

# %% [markdown]
# Equal, down to the last bit and byte, but for the bytes moved: 1,441,792 for 262,144, which is 11 : 2. Each rank has four layers to keep either way (rank 0 has the embedding, rank 2 the head), so memory is no reason to prefer one. The dealt-out placement is correct, and it is expensive.
#
# How expensive, for a model of real size?

# %%
question("04.q3")

# %% [markdown]
# Each crossing is passed twice, by an activation and by its gradient. Unfold the answer if yours was another one.
#
# And in time? On the predicted clock, let each layer take 1 s forward and 2 s back, and let every message be half a second under way.

# %% tags=["nbval-check-output"]
from d2lpart import Link, build_schedule, simulate


def step_of(schedule, chunks, microbatches, hop):
    """12 layers on 3 ranks, 4 / chunks layers a stage; a message takes `hop` seconds."""
    layers = 4 / chunks
    orders = build_schedule(schedule, 3, microbatches, chunks=chunks)
    return simulate(orders, {"F": layers, "B": 2 * layers}, Link(latency=hop))


step_of("naive", 1, 1, hop=0.5).compare(step_of("naive", 4, 1, hop=0.5))

# %% [markdown]
# The work is 36 s in both. The first step pays 4 messages, 2 s; the second 22 messages, 11 s. While the mini-batch goes through in one piece, dealing out buys nothing, and groups are the faster machine as well.
#
# ### When somebody pays for crossings on purpose
#
# Now cut the mini-batch into micro-batches, so that ranks can work at the same time. The schedule is *GPipe*: each rank runs the forwards of all micro-batches, then all the backwards. Something changes.

# %%
question("04.q4")

# %% [markdown]
# Look at the two pictures before you read on. Where has the idle time gone?

# %% tags=["nbval-check-output"]
step_of("gpipe", 1, 3, hop=0).compare(step_of("gpipe", 4, 3, hop=0))

# %% [markdown]
# Rank 2 cannot begin before its first layers get something. In groups that means eight layers' wait, dealt out only two. Small stages fill and drain the pipeline sooner. *Interleaved* pipelines place layers in turn for this reason. It is not a partition into one group a device; it is a trade: 11 crossings for a smaller *bubble*, which is what the idle time of a pipeline is called.
#
# Trades have a price at which they stop. We let the message take longer and longer:

# %% tags=["nbval-check-output"]
from d2lpart import draw

hops = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
steps = {
    name: [step_of("gpipe", chunks, 3, hop).makespan for hop in hops]
    for name, chunks in {"consecutive groups": 1, "dealt out": 4}.items()
}
draw.curves(
    hops, steps, xlabel="seconds a message is under way (a layer's forward: 1 s)",
    ylabel="step in seconds, predicted",
    description=f"Step by message time: groups {steps['consecutive groups'][0]:.0f} to "
    f"{steps['consecutive groups'][-1]:.0f} s, dealt out {steps['dealt out'][0]:.0f} to "
    f"{steps['dealt out'][-1]:.0f} s; equal at {steps['dealt out'][4]:.0f} s, message time 1 s.",
)

# %% [markdown]
# With three micro-batches the lines meet where a message takes as long as a layer's forward. Where on that axis are real machines? Take the model of question 04.q3. One layer takes 24·s·h² + 4·s²·h operations forward; say the device does half of 312 teraFLOP/s, an A100's best.

# %% tags=["nbval-check-output"]
positions, width, bytes_a_number = 2048, 5120, 2
message = positions * width * bytes_a_number
print(f"a message is {message / 1e6:.1f} MB; crossings, there and back:", end=" ")
print(f"2 make {2 * 2 * message / 1e6:.0f} MB, 11 make {2 * 11 * message / 1e6:.0f} MB")
layer_seconds = (24 * positions * width**2 + 4 * positions**2 * width) / (312e12 / 2)
for link, bandwidth in {"NVLink 3": 300e9, "100 Gb/s network": 12.5e9, "1 Gb/s network": 0.125e9}.items():
    print(f"{link}: a message takes {message / bandwidth / layer_seconds:.3g} forwards of a layer")

# %% [markdown]
# So inside a node, and over a good network, the trade is open; over office Ethernet it is absurd. This ignores that messages share a link and get in each other's way, and that the smallest stage is a layer.
#
# From here on, one group a device. The first decision is made by the order of the layers: neighbours stay together. The second is where to cut.

# %% [markdown] card="Network Partitioning"
# ## Where to cut?
#
# > Furthermore, ensuring that sequential computational workloads are evenly matched between layers is highly difficult, making linear scaling challenging to achieve.
#
# Take twelve layers of which the first four are heavy: 4, 4, 4, 4, then eight times 1. Three stages of four layers have loads 16, 4 and 4; that is an **imbalance** (largest load over mean load) of 2. Stages of 2, 2 and 8 layers have 8 each, an imbalance of 1, which is perfect. What is that worth?

# %%
question("04.q5")

# %% [markdown]
# That was one rank at a time. And with 64 micro-batches that overlap? Write how many times as long the cut by count takes, in place of `None`:

# %%
from d2lpart.course import predict

guess = predict("04.p1", None)
guess

# %% [markdown]
# Test it, and go on to micro-batches. The naive schedule sends one after another all the way through; GPipe lets them overlap. On each stage F of a micro-batch takes the load, B twice the load. So more micro-batches are more work here: compare the two cuts in one line, not one line with another.

# %% tags=["nbval-check-output"]
heavy_front = [4, 4, 4, 4] + [1] * 8
by_count, balanced = Partition([4, 4, 4]), Partition([2, 2, 8])
print("imbalance:", by_count.imbalance(heavy_front), "and", balanced.imbalance(heavy_front))


def uneven(cut, schedule, microbatches):
    loads = cut.loads(heavy_front)
    return simulate(build_schedule(schedule, 3, microbatches), [{"F": x, "B": 2 * x} for x in loads])


print("                 by count  balanced  ratio")
for schedule, m in [("naive", 1), ("naive", 8), ("gpipe", 2), ("gpipe", 8), ("gpipe", 64)]:
    a, b = (uneven(cut, schedule, m).makespan for cut in (by_count, balanced))
    print(f"{schedule:5}  m = {m:2}   {a:8.0f}  {b:8.0f}  {a / b:5.2f}")

# %% [markdown]
# The last line is your guess's:

# %% tags=["nbval-check-output"]
guess.against(uneven(by_count, "gpipe", 64).makespan / uneven(balanced, "gpipe", 64).makespan)

# %% [markdown]
# Balance matters only as far as ranks work at the same time. In turn, each micro-batch takes the sum of all loads, and a cut moves no work away. With GPipe the first micro-batch takes the sum, and each of the *m* − 1 others comes out one bottleneck later (a load is F and B together here, in the same proportion on every stage):
#
# $$\text{step} = \sum_s \text{load}_s + (m-1)\,\max_s \text{load}_s .$$
#
# The ratio grows towards 16 : 8. The picture shows whom it costs: with the cut by count, ranks 1 and 2 wait for rank 0, in the forwards at every micro-batch, and after their backwards until the end.

# %% tags=["nbval-check-output"]
uneven(by_count, "gpipe", 8).compare(uneven(balanced, "gpipe", 8))

# %% [markdown]
# ## How low can it get?
#
# First the bound, then the search. Two things hold for every cut into *p* stages:
#
# - the most expensive layer is in some stage, so the bottleneck is at least that layer;
# - the loads add up to the sum of all costs, so the largest is at least their mean.
#
# $$\text{bottleneck} \ge \max\left(\max_i c_i,\ \tfrac{1}{p}\sum_i c_i\right)$$

# %%
question("04.q6")

# %% [markdown]
# Three lists: the bound, the best there is, and the bottleneck of a careless cut by count, whose last stage takes what is left over (for the decoder that is worse still than our 3 + 4 + 4 + 3).

# %% tags=["nbval-check-output"]
from d2lpart import partition

for name, layers, p in [("heavy front", heavy_front, 3), ("31 equal", [1] * 31, 8), ("decoder", costs, 4)]:
    each = len(layers) // p
    counted = Partition([each] * (p - 1) + [len(layers) - each * (p - 1)]).bottleneck(layers)
    bound = max(max(layers), sum(layers) / p)
    best = partition(layers, p)
    print(f"{name}: bound {bound:g}, best {best.bottleneck(layers):g} with {best.sizes}, counted {counted:g}")

# %% [markdown]
# There is the 41 of the first page. The mean of the decoder's loads is 40.25; all its costs are whole numbers, so no bottleneck lies between 40.25 and 41. A cut that reaches 41 is the best, and needs no comparison with others.
#
# Move the boundaries yourself. How near do you get to the best, and what happens to the blanks? (Without
# sliders you see the cut by count; `partition_report(heavy_front, [2, 2, 8])` answers for any other.)

# %%
from d2lpart.widgets import partition_editor

partition_editor(heavy_front, 3, boundary_bytes=2_000_000)

# %% [markdown]
# Now in your head: six layers.

# %%
question("04.q9")

# %% [markdown]
# ## How the best cut is found
#
# Turn the question round. Not "what is the smallest bottleneck?" but "**with no load above a limit, how many stages do I need?**" That is easy: fill a stage until the next layer does not fit, then open another. Nothing is gained by closing one early. Then raise the limit from the bound until the stages suffice.

# %% tags=["nbval-check-output"]
import math

def stages_needed(costs, limit):
    stages, load = 1, 0
    for cost in costs:
        if load + cost > limit:
            stages, load = stages + 1, 0
        load += cost
    return stages


def smallest_bottleneck(costs, p):
    limit = math.ceil(max(max(costs), sum(costs) / p))
    while stages_needed(costs, limit) > p:
        limit += 1
    return limit


print([(limit, stages_needed(costs, limit)) for limit in (40, 41, 50, 60)])
print(smallest_bottleneck(costs, 4), smallest_bottleneck(heavy_front, 3), smallest_bottleneck([1] * 31, 8))

# %% [markdown]
# A limit of 40 takes five stages, 41 takes four. That settles it from below: what is the best can be *shown* not to be beaten. The sketch has its limits. Real costs are no whole numbers, and a step of 1 would jump over the answer; it may leave a stage without layers; it knows no memory. `partition` handles all of that, exactly, and from now on we import it.
#
# An algorithm should be held against brute force once. Four stages of 14 layers are 3 cuts in 13 places:

# %% tags=["nbval-check-output"]
from itertools import combinations

bottlenecks = []
for cuts in combinations(range(1, 14), 3):
    sizes = [b - a for a, b in pairwise((0, *cuts, 14))]
    bottlenecks.append(Partition(sizes).bottleneck(costs))
least = min(bottlenecks)
print(f"{len(bottlenecks)} cuts: the least bottleneck is {least}, reached by {bottlenecks.count(least)}")
partition(costs, 4)

# %% [markdown]
# The head has a stage of its own. It looks unfair by count, 1 layer against 5, and all four loads lie within 1 of each other. Where was your guess?

# %%
guess = Partition(yours).bottleneck(costs)
print(f"your cut {yours}: {guess}, the best: {least}")
print(f"with many micro-batches your step is up to {guess / least:.2f} times as long")

# %% [markdown]
# ## Who knows the costs?
#
# So far they fell from the sky. A decoder is twelve equal blocks, and two layers that are no blocks. What do those weigh?

# %%
question("04.q7")

# %% [markdown]
# `profile` runs each layer on a sample and reports. The sample must have the size of one micro-batch, since that is what a stage will be given. One more thing runs on the last rank and is no layer: the loss. Most of it is a log-softmax over the vocabulary, so we profile one behind the head.

# %%
from d2lpart import profile

torch.manual_seed(0)
model = Decoder(vocab_size=4096, width=64, num_layers=12, num_heads=4, context=32)
inputs, targets = next(corpus().batches(batch_size=64, context=32))
measured = profile([*model.layers, torch.nn.LogSoftmax(dim=-1)], inputs[:8])
print("layer          weights   million FLOP   measured ms")
for number in (0, 1, 12, 13, 14):
    cost = measured[number]
    print(f"{number:2} {cost.name:10} {cost.parameters:9,}", end=" ")
    print(f"{cost.forward_flops / 1e6:14.1f} {1e3 * cost.seconds:13.2f}")

# %% [markdown]
# Three columns, three opinions about who is heavy. By weights the embedding is as heavy as the head, and as five blocks. By operations it is free, and so is the loss. The clock has the last word, since only the clock sees memory traffic, small kernels and start-up costs.
#
# Clocks are noisy, though. The twelve blocks are the same code, so we give each the median of all twelve; and the loss goes with the head. Then we let each opinion make a cut, and judge all cuts by the clock.

# %%
from statistics import median


def typical(what):
    values = [getattr(cost, what) for cost in measured]
    return [values[0]] + [median(values[1:13])] * 12 + [values[13] + values[14]]


forward, backward = typical("forward_seconds"), typical("backward_seconds")
seconds = [f + b for f, b in zip(forward, backward)]
opinions = {"layers": [1] * 14, "weights": typical("parameters")}
opinions |= {"operations": typical("forward_flops"), "seconds": seconds}
cuts = {name: partition(opinion, 4) for name, opinion in opinions.items()}
for name, cut in cuts.items():
    print(f"by {name:10} {cut.sizes!s:14} bottleneck {1e3 * cut.bottleneck(seconds):6.2f} ms,", end=" ")
    print(f"imbalance {cut.imbalance(seconds):.2f}")

# %% [markdown]
# No other cut can be below the last line: it is the best for these seconds, by the argument above. Whether the others come close depends on your machine, and that is the point.
#
# ## Predict, then run
#
# The profile predicts a whole step: F and B of a stage are the sums over its layers. Then `Pipeline` runs the same two cuts for real. So that no four free cores are needed, we use the **virtual** clock: every action really runs and is timed alone, and the starts are placed as if each rank had its own hardware. Each runs 40 times, for 8 micro-batches in 5 steps, the two cuts in turn; we keep the fastest time, which the rest of the machine has disturbed least.

# %%
orders = build_schedule("gpipe", num_ranks=4, num_microbatches=8)
two = {name: cuts[name] for name in ("layers", "seconds")}
cpus, predicted, ran = ["cpu"] * 4, {}, {}
lines = {n: Pipeline(model.layers, two[n], cpus, schedule=orders, clock="virtual") for n in two}
trials = [{n: lines[n].step(inputs, targets).timeline for n in two} for _ in range(5)]
for name, cut in two.items():
    loads = zip(cut.loads(forward), cut.loads(backward))
    predicted[name] = simulate(orders, [{"F": f, "B": b} for f, b in loads])
    spans = [[span for trial in trials for span in trial[name].of_rank(r)] for r in range(4)]
    least = [{k: min(s.seconds for s in own if s.action.kind == k) for k in "FB"} for own in spans]
    ran[name] = simulate(orders, least, clock="virtual", note="each duration: fastest of 40 measured")
    print(f"by {name:8} predicted {1e3 * predicted[name].makespan:6.1f} ms,", end=" ")
    print(f"ran in {1e3 * ran[name].makespan:6.1f} ms (virtual clock)")
for kind, steps in {"predicted": predicted, "ran": ran}.items():
    ratio = steps["layers"].makespan / steps["seconds"].makespan
    print(f"{kind}: the cut by layers takes {ratio:.2f} times as long")
ran["layers"].compare(ran["seconds"])

# %% [markdown]
# The milliseconds will not agree: the profile takes medians, which a busy machine stretches, and we took the fastest; a layer in the middle of a step finds other things in the cache than a layer alone, and the loss is more than its log-softmax. What we ask of a prediction is the order of the two cuts and about the size of the gap. If yours says otherwise, the two cuts are nearly equal on your machine, or it was busy: run both cells again. Real systems go round too: profile, cut, run, look, and cut again with the times of the run.
#
# ## When the best cut does not fit
#
# Time is one cost of a layer, memory another, and they do not weigh the layers alike. Say the embedding and the head need 40 of memory each and a block 10, while the costs in time stay 1, 10, 40. In the cut with bottleneck 41 the light embedding drags its large table along.


# %%
question("04.q8")

# %% [markdown]
# `partition` takes the memory of each layer, and the capacity of a stage.

# %% tags=["nbval-check-output"]
memory = [40] + [10] * 12 + [40]
fastest = partition(costs, 4)
fits = partition(costs, 4, memory=memory, capacity=60)
for name, cut in {"fastest": fastest, "fits in 60": fits}.items():
    print(f"{name}: time {cut.loads(costs)}, memory {cut.loads(memory)}")
print(f"slower by {fits.bottleneck(costs) / fastest.bottleneck(costs) - 1:.0%} for each micro-batch")
fits

# %% [markdown]
# The fastest cut is even in time, and needs 80 in one place and 40 in the others. Within 60 the bottleneck is 50 instead of 41. How does the price depend on the room? All layers need 200, so four stages need 50 at the very least, and with 80 the fastest cut fits.

# %% tags=["nbval-check-output"]
room = list(range(50, 91, 5))
price = [partition(costs, 4, memory=memory, capacity=c).bottleneck(costs) for c in room]
counted = Partition([3, 4, 4, 3])
by_counting = [counted.bottleneck(costs) if counted.bottleneck(memory) <= c else math.nan for c in room]
bound = [sum(costs) / 4] * len(room)
draw.curves(
    room, {"best that fits": price, "cut by counting": by_counting, "bound of time": bound},
    xlabel="memory of a device", ylabel="bottleneck", markers=["best that fits"],
    description=f"Bottleneck {price[0]} for memory 50 to 75, {price[-1]} from 80 on; bound {bound[0]}. "
    f"The cut by counting fits from 60 on and has {by_counting[-1]}.",
)

# %% [markdown]
# A cliff, not a slope: from 50 to 79, more memory buys nothing. And below 50 nothing helps. The error says by how much:

# %% tags=["nbval-check-output"]
from d2lpart import PartitionError

try:
    partition(costs, 4, memory=memory, capacity=45)
except PartitionError as error:
    print(error)

# %% [markdown]
# What is the memory of a layer? With Adam in mixed precision 16 bytes for each weight (weight, gradient, and the optimizer's share), plus the activations of every micro-batch that a stage holds at once. So the schedule has a say, too: GPipe holds all *m* of them.
#
# ## Who decides?
#
# | question | who decides |
# | --- | --- |
# | which layers together | the order of the layers: neighbours, for the fewest crossings |
# | whether a device gets one group or several | the schedule and the link: bubble against crossings |
# | whether balance matters | the schedule: only where ranks work at the same time |
# | where to cut | the measured costs of a micro-batch |
# | which cuts are allowed | the memory of each device |
#
# ## To remember
#
# - Layer-wise placement gives each device one run of neighbours. Equal counts are neither that nor balance.
# - Dealing layers out is correct and moves 5.5 times the bytes here; it pays only when a pipeline gains more from small stages than it loses on the way.
# - A GPipe step takes the sum of the loads and *m* − 1 times the largest. In turn, balance changes nothing.
# - No cut is below max(largest layer, mean load). A cut that reaches the bound needs no rival.
# - Measure costs, at the size of a micro-batch. Embedding and head are not blocks, and memory may forbid the fastest cut.
#
# The exercises for this lesson are in [04_placement_and_balance.ipynb](../exercises/04_placement_and_balance.ipynb). Next: why three of four ranks wait, [lesson 05](05_worker_idle_time.ipynb).
#
# **Read on.** Huang et al., [GPipe](https://arxiv.org/abs/1811.06965), for the filled pipeline and its balance. Narayanan et al., [Efficient Large-Scale Language Model Training on GPU Clusters](https://arxiv.org/abs/2104.04473), for interleaved stages. D2L, [Training on Multiple GPUs](https://d2l.ai/chapter_computational-performance/multiple-gpus.html), for the same doubts about balance. Rajbhandari et al., [ZeRO](https://arxiv.org/abs/1910.02054), for the 16 bytes.
