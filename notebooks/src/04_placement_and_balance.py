# %% [markdown]
# # 04 Placement and balance
#
# **Which layer goes where, and who decides?**
#
# 50 minutes. You need the *clocks* of lesson 00, and *layer*, *stage*, *rank* and the two messages over a cut (an activation forward, its gradient back) from lesson 03. No GPU is needed.

# %% [markdown]
# ## After this lesson you can
# - tell a layer-based partition from its look-alikes, and say what each of them costs
# - find the best cut of any list of layers, and prove that no better one exists
# - say when balance matters and when it does not matter at all
# - cut by measured costs, under a memory limit
#
# First, a guess. A decoder has 14 layers, and there are four ranks. The embedding costs 1, each of twelve blocks 10, the head 40; think of milliseconds. The obvious cut counts layers: 3 + 4 + 4 + 3.

# %% tags=["nbval-check-output"]
from d2lpart import Partition

costs = [1] + [10] * 12 + [40]
yours = [3, 4, 4, 3]  # the layers of stages 0 to 3: they add up to 14
Partition(yours, costs)

# %% [markdown]
# One bar a stage, made of its layers, as long as they cost. The sum of a bar is the stage's **load**, the largest load is the **bottleneck**. The counts are as even as they can be; stage 3 has nearly three times the load of stage 0.
#
# Write four numbers that do better into `yours`, and run the cell again. How low can the bottleneck get? Halfway through the lesson you will know, without trying all cuts, that none gets below 41.
#
# Your four numbers take one thing for granted: that a rank gets a *run* of layers. Must it?

# %% [markdown] card="An engineer is tasked with training a very large neural network composed of 24 sequential layers."
# ## Which layers together?
#
# > An engineer is tasked with training a very large neural network composed of 24 sequential layers. The model is too large to fit into the memory of a single processing device. To solve this, the engineer decides to distribute the model across 4 identical devices by partitioning it based on its layers. Which of the following strategies correctly applies this layer-based distribution method?

# %%
from d2lpart.course import question

question("04.q1")

# %% [markdown]
# A **placement** names the device of each layer. A **crossing** is a pair of neighbouring layers on different devices. `check_placement` counts them and gives its verdict. The last placement stands for two of the options: each layer is on all four devices, as a copy or as a part.

# %% tags=["nbval-check-output"]
from d2lpart import check_placement

strategies = {
    "consecutive": [layer // 6 for layer in range(24)],
    "dealt out": [layer % 4 for layer in range(24)],
    "one comes back": [0] * 6 + [1] * 6 + [2] * 6 + [3] * 3 + [0] * 3,
    "copies or parts": [[0, 1, 2, 3]] * 24,
}
for name, placement in strategies.items():
    verdict = check_placement(placement, num_devices=4)
    print(f"{name}: {'yes' if verdict else 'no'}. {verdict.reason}")

# %% [markdown]
# Four groups touch in three places, so 3 crossings are the fewest there can be, and only runs of neighbours reach that. Change a placement and run the cell again: what does the verdict say of a device without layers, of a layer whose device is `None`?

# %% [markdown] card="Consider a large neural network with 12 sequential layers"
# ## Equal counts are not consecutive groups
#
# > Consider a large neural network with 12 sequential layers that needs to be distributed across 3 processing devices because it is too large for a single device. An engineer proposes the following distribution: Device 1 runs layers 1, 4, 7, 10; Device 2 runs layers 2, 5, 8, 11; and Device 3 runs layers 3, 6, 9, 12. This proposed method represents a correct implementation of a layer-based partitioning strategy where groups of consecutive layers are assigned to different devices.

# %%
question("04.q2")

# %% [markdown]
# (The engineer counts from 1, we count from 0.) The statement is false. But is the proposal *broken*? Cuts change no result, says lesson 03, and nothing there asked for few of them. Before you run it: which of these differ between three groups and the proposal, the loss, the gradients, the weights a rank keeps, the bytes it holds for its backward, the bytes that move?
#
# `Pipeline` can place layers so. Give it 12 stages of one layer and 3 devices: stage *s* goes to rank *s* mod 3. The schedule is *naive*, as before: the mini-batch passes through in one piece, forward and then back.

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
    print(f"{name}: {pipeline.partition.crossings} crossings, {results[name].bytes_moved:,} bytes moved")
    held = ", ".join(f"{nbytes:,}" for nbytes in results[name].peak_bytes)
    print(f"  bytes held for the backward, rank by rank: {held}")
print("loss equal:", results["groups"].loss == results["dealt out"].loss)
print("gradients equal:", all(map(torch.equal, *gradients.values())))

# %% [markdown]
# All is equal, down to the last bit and byte, but for the crossings and with them the bytes moved, 11 : 2. Each rank keeps four layers either way (rank 0 the embedding, rank 2 the head), so memory is no reason to prefer one. The dealt-out placement computes the right thing, and it is expensive.
#
# How expensive, for a model of real size?

# %%
question("04.q3")

# %% [markdown]
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
# The work is 36 s in both. The first step pays 4 messages, 2 s; the second 22 messages, 11 s. While the mini-batch goes through in one piece, dealing out buys nothing.
#
# ### When somebody pays for crossings on purpose
#
# Now cut the mini-batch into *micro-batches*, so that ranks can work at the same time. The schedule is *GPipe*: each rank runs the forwards of all micro-batches, then all the backwards.

# %%
question("04.q4")

# %% [markdown]
# Where has the idle time gone?

# %% tags=["nbval-check-output"]
step_of("gpipe", 1, 3, hop=0).compare(step_of("gpipe", 4, 3, hop=0))

# %% [markdown]
# Rank 2 cannot begin before the layers in front of its first one are done. In groups these are eight layers, dealt out only two. Small stages fill and drain the pipeline sooner, and *interleaved* pipelines deal out groups of layers for this reason. That is no longer one group a device. It is a trade: more crossings for a smaller *bubble*, which is what the idle time of a pipeline is called.
#
# A trade can become too dear. We let the message take longer and longer:

# %% tags=["nbval-check-output"]
from d2lpart import figures

hops = [0, 0.5, 1, 1.5, 2]
steps = {
    name: [step_of("gpipe", chunks, 3, hop).makespan for hop in hops]
    for name, chunks in {"consecutive groups": 1, "dealt out": 4}.items()
}
figures.curves(
    hops, steps, xlabel="seconds a message is under way (a layer's forward: 1 s)",
    ylabel="step in seconds, predicted",
    description="Step for messages of " + ", ".join(
        f"{hop} s: groups {a:.0f} s, dealt out {b:.0f} s" for hop, a, b in zip(hops, *steps.values())
    ),
)

# %% [markdown]
# With three micro-batches the lines meet where a message takes as long as a layer's forward. Where on that axis are real machines? Take the model of question 04.q3. A layer of width *h* takes 24·*s*·*h*² + 4·*s*²·*h* operations forward for *s* positions (arXiv 2104.04473); say the device does half of 312 teraFLOP/s, an A100's best.

# %% tags=["nbval-check-output"]
positions, width, bytes_a_number = 2048, 5120, 2
message = positions * width * bytes_a_number
print(f"a message is {message / 1e6:.1f} MB")
layer_seconds = (24 * positions * width**2 + 4 * positions**2 * width) / (312e12 / 2)
for link, bandwidth in {"NVLink 3": 300e9, "100 Gb/s network": 12.5e9, "1 Gb/s network": 0.125e9}.items():
    print(f"{link}: a message takes {message / bandwidth / layer_seconds:.3g} forwards of a layer")

# %% [markdown]
# Inside a node, and over a good network, a message is shorter than a layer and the trade is open; over office Ethernet it is absurd. This ignores that messages share a link and get in each other's way.
#
# From here on, one group a device. The order of the layers has made the first decision: neighbours stay together. The second is where to cut.

# %% [markdown] card="Network Partitioning"
# ## Where to cut?
#
# > Furthermore, ensuring that sequential computational workloads are evenly matched between layers is highly difficult, making linear scaling challenging to achieve.
#
# Take twelve layers of which the first four are heavy: 4, 4, 4, 4, then eight times 1. Three stages of four layers have loads 16, 4 and 4; that is an **imbalance** (largest load over mean load) of 2. Stages of 2, 2 and 8 layers have 8 each, an imbalance of 1. What is that worth?

# %%
question("04.q5")

# %% [markdown]
# That was one rank at a time. And if 64 micro-batches overlap? How many times as long does the cut by count take then? Write it in place of `None`:

# %%
from d2lpart.course import predict

guess = predict("04.p1", None)
guess

# %% [markdown]
# We test both. The naive schedule sends one micro-batch after another all the way through; GPipe lets them overlap. The costs are the seconds of a forward (F), and a backward (B) takes twice as long. More micro-batches are more work here: compare the two cuts in a line, not one line with another.

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
guess.against(a / b)

# %% [markdown]
# Balance matters only as far as ranks work at the same time. Where they take turns, a micro-batch takes the sum of all loads, and no cut makes the sum smaller. With GPipe the first micro-batch takes the sum, and each of the *m* − 1 others comes out one bottleneck later. With F and B together as the load,
#
# $$\text{step} = \sum_s \text{load}_s + (m-1)\,\max_s \text{load}_s .$$
#
# (This holds where B is the same multiple of F on every stage, and messages take no time.) The more micro-batches, the nearer the ratio comes to that of the bottlenecks, 16 : 8. The picture shows whom it costs: with the cut by count, ranks 1 and 2 wait for rank 0, in the forwards at every micro-batch, and after their backwards until the end.

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
# Three lists of layers: the bound, the best there is, and a careless cut by count, whose last stage takes what is left over.

# %% tags=["nbval-check-output"]
from d2lpart import partition

for name, layers, p in [("heavy front", heavy_front, 3), ("31 equal", [1] * 31, 8), ("decoder", costs, 4)]:
    each = len(layers) // p
    counted = Partition([each] * (p - 1) + [len(layers) - each * (p - 1)])
    bound = max(max(layers), sum(layers) / p)
    best = partition(layers, p)
    print(f"{name}: bound {bound:g}, best {best.bottleneck(layers):g} with {best.sizes}, "
          f"counted {counted.bottleneck(layers):g} with {counted.sizes}")

# %% [markdown]
# There is the 41 of the first page. The mean of the decoder's loads is 40.25; its costs are whole numbers, so no bottleneck lies between 40.25 and 41. A cut that reaches 41 is the best.
#
# Move the boundaries yourself, with the mouse or the arrow keys. How near do you get to the best, and what happens to the blanks? (Where you see no sliders, `explorers.partition_report(heavy_front, [2, 2, 8], schedule="gpipe")` answers for any cut.)

# %%
from d2lpart import explorers

explorers.partition_editor(heavy_front, 3, boundary_bytes=2_000_000, schedule="gpipe")

# %% [markdown]
# Now six layers, in your head:

# %%
question("04.q9")

# %% [markdown]
# ## How the best cut is found
#
# Turn the question round: "**with no load above a limit, how many stages do I need?**" That is easy: fill a stage until the next layer would exceed the limit, then open another. Nothing is gained by closing one early. Begin with the bound as the limit, and raise it until there are stages enough.

# %% tags=["nbval-check-output"]
import math


def stages_needed(costs, limit):
    stages, load = 1, 0
    for cost in costs:
        if load + cost > limit:
            stages, load = stages + 1, 0
        load += cost
    return stages


limit = math.ceil(max(max(costs), sum(costs) / 4))
while stages_needed(costs, limit) > 4:
    limit += 1
print("smallest bottleneck:", limit)
print("limit and stages:", [(limit, stages_needed(costs, limit)) for limit in (40, 41, 50, 60)])

# %% [markdown]
# A limit of 40 takes five stages, 41 takes four: with four stages nothing below 41 is possible. The sketch is not finished. Real costs are no whole numbers, and a step of 1 would jump over the answer; it may leave stages over that get no layers; it knows no memory. `partition` handles all of that, exactly, and from now on we use it.
#
# An algorithm should be held against brute force once. Four stages of 14 layers are 3 cuts in 13 places. And where was your own cut?

# %%
from itertools import combinations, pairwise

bottlenecks = []
for cuts in combinations(range(1, 14), 3):
    sizes = [b - a for a, b in pairwise((0, *cuts, 14))]
    bottlenecks.append(Partition(sizes).bottleneck(costs))
least = min(bottlenecks)
print(f"{len(bottlenecks)} cuts: the least bottleneck is {least}, reached by {bottlenecks.count(least)}")
print(f"your cut {yours}: {Partition(yours).bottleneck(costs)}")
print(f"the cut by count is {Partition([3, 4, 4, 3]).bottleneck(costs) / least:.2f} times the least")
partition(costs, 4)

# %% [markdown]
# The head has a stage of its own. By count that looks unfair; all four loads lie within 1 of each other. With many micro-batches the obvious cut takes up to 60/41 times as long.
#
# ## Who knows the costs?
#
# So far they fell from the sky. A decoder is many equal blocks, and two layers that are no blocks. What do those weigh?

# %%
question("04.q7")

# %% [markdown]
# `profile` runs each layer on a sample and reports. The sample must have the size of one micro-batch, since that is what a stage will be given. One more thing runs on the last rank and is no layer: the loss. Given the targets, `profile` counts its seconds with the head's.

# %%
from d2lpart import profile

torch.manual_seed(0)
model = Decoder(vocab_size=4096, width=64, num_layers=12, num_heads=4, context=32)
inputs, targets = next(corpus().batches(batch_size=64, context=32))
measured = profile(model.layers, inputs[:8], targets=targets[:8], passes=5)
print("layer          weights   million FLOP   measured ms")
for number in (0, 1, 12, 13):
    cost = measured[number]
    print(f"{number:2} {cost.name:10} {cost.parameters:9,}", end=" ")
    print(f"{cost.forward_flops / 1e6:14.1f} {1e3 * cost.seconds:13.2f}")

# %% [markdown]
# Three columns, three opinions about who is heavy. By weights the embedding is as heavy as the head, and as five blocks. By operations the embedding is free. The clock has the last word: only the clock sees memory traffic, start-up costs, and the loss.
#
# Let each opinion make a cut, and judge all cuts by the clock:

# %%
opinions = {
    "layers": [1] * 14,
    "weights": [cost.parameters for cost in measured],
    "operations": [cost.forward_flops for cost in measured],
    "seconds": [cost.seconds for cost in measured],
}
cuts = {name: partition(opinion, 4) for name, opinion in opinions.items()}
for name, cut in cuts.items():
    milliseconds = 1e3 * cut.bottleneck(opinions["seconds"])
    print(f"by {name:10} {cut.sizes!s:14} bottleneck {milliseconds:6.2f} ms")

# %% [markdown]
# No cut can be below the last line: it is the best for these seconds. Whether the others come close depends on your machine.
#
# ## Predict, then run
#
# The profile also predicts a whole step: on each stage F and B are the sums over its layers. `forecast` adds them up and simulates. Then `Pipeline` runs the same two cuts for real, in turn. So that no four free cores are needed, we use the **virtual** clock: every action really runs and is timed alone, and the starts are placed as if each rank had its own hardware.

# %%
from d2lpart import forecast, forecast_error

orders = build_schedule("gpipe", num_ranks=4, num_microbatches=8)
lines = {
    name: Pipeline(model.layers, cuts[name], ["cpu"] * 4, schedule=orders, clock="virtual")
    for name in ("layers", "seconds")
}
steps = {name: [] for name in lines}
for _ in range(6):
    for name, line in lines.items():
        steps[name].append(line.step(inputs, targets).timeline)
predicted = {name: forecast(measured, cuts[name], orders) for name in lines}
for name, (_, *ran) in steps.items():  # the first step is to warm up
    print(f"by {name:7}  {forecast_error(predicted[name], *ran)}")
ratio = predicted["seconds"].makespan / predicted["layers"].makespan
print(f"second step / first step, predicted: {ratio:.3f}")
shortest = [min(own[1:], key=lambda step: step.makespan) for own in steps.values()]
shortest[0].compare(shortest[1])

# %% [markdown]
# The pictures are the shortest step of each cut, the one that other programs have disturbed least. The milliseconds may be off: a busy machine stretches now the profile and now the step. What we ask of a prediction is which cut is faster, and about by how much. If yours says otherwise, the two cuts are nearly equal on your machine, or it was busy: begin again at the profile. Real systems go round, too: profile, cut, run, look, and cut again.
#
# ## When the best cut does not fit
#
# Time is one cost of a layer, memory another, and they do not weigh the layers alike. Go back to the decoder whose layers take 1, 10 and 40 ms, and say that in memory the embedding and the head need 40 each and a block 10. In the cut with bottleneck 41 the quick embedding drags its large table along.

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
# The fastest cut needs 80 of memory in one place and 40 in the others. Within 60 the bottleneck is 50 in place of 41. How does it depend on the room? All layers need 200, so four stages need 50 at the very least.

# %% tags=["nbval-check-output"]
room = list(range(sum(memory) // 4, 91))
price = [partition(costs, 4, memory=memory, capacity=c).bottleneck(costs) for c in room]
counted = Partition([3, 4, 4, 3])
by_counting = [counted.bottleneck(costs) if counted.bottleneck(memory) <= c else math.nan for c in room]
enough = room[price.index(least)]
figures.curves(
    room, {"best that fits": price, "cut by count": by_counting, "bound": [sum(costs) / 4] * len(room)},
    xlabel="memory of a device", ylabel="bottleneck, ms",
    description=f"Bottleneck {price[0]} from {room[0]} to {enough - 1} of memory, {least} from {enough} on; "
    f"bound {sum(costs) / 4}. The cut by count fits from {counted.bottleneck(memory)} on and has 60.",
)

# %% [markdown]
# A cliff: from 50 to 79, more memory buys nothing.
#
# What is the memory of a layer? With Adam in mixed precision 16 bytes for each weight: the weight, its gradient, and the optimizer's share. On top come the activations of every micro-batch that a stage holds at once. GPipe holds all *m*, for it begins the backwards when all forwards are done. So the schedule has a say, too. Let each layer hold 1 for a micro-batch, and a device have 90:

# %% tags=["nbval-check-output"]
from d2lpart import PartitionError

for m in (1, 2, 4, 8, 16):
    held = {"activations": [1] * 14, "schedule": "gpipe", "num_microbatches": m}
    try:
        cut = partition(costs, 4, memory=memory, capacity=90, **held)
        print(f"m = {m:2}: bottleneck {cut.bottleneck(costs)} with {cut.sizes}")
    except PartitionError as error:
        print(f"m = {m:2}: {error}")

# %% [markdown]
# Here a micro-batch keeps its size, so more of them are a larger mini-batch. They shrink the bubble and crowd the memory: first they cost the best cut, then any cut. The error says how much is missing. Lesson 06 has schedules that hold fewer.
#
# ## Who decides?
#
# | question | who decides |
# | --- | --- |
# | which layers together | the order of the layers: neighbours, for the fewest crossings |
# | whether a device gets one group or several | the schedule and the link: bubble against crossings |
# | whether balance matters | the schedule: only where ranks work at the same time |
# | where to cut | the measured costs of a micro-batch |
# | which cuts are allowed | the memory of each device, and how many micro-batches the schedule holds |
#
# ## To remember
#
# - A layer-based partition gives each device one run of neighbours. Equal counts make neither a partition nor balance.
# - Dealing layers out changes no result. Twelve layers on three devices move 11/2 times the bytes, which pays only where a pipeline gains more from small stages than it loses on the way.
# - A GPipe step takes the sum of the loads and *m* − 1 times the largest. Where ranks take turns, balance changes nothing.
# - No cut is below max(largest layer, mean load). A cut that reaches this bound is the best.
# - Measure costs, at the size of a micro-batch. Embedding and head are not blocks, and memory may forbid the fastest cut.
#
# The exercises for this lesson are in [04_placement_and_balance.ipynb](../exercises/04_placement_and_balance.ipynb). Next: why three of four ranks wait, [lesson 05](05_worker_idle_time.ipynb).
#
# **Read on.** Huang et al., [GPipe](https://arxiv.org/abs/1811.06965), for the schedule and its balance. Narayanan et al., [Efficient Large-Scale Language Model Training on GPU Clusters](https://arxiv.org/abs/2104.04473), for interleaved stages. D2L, [Training on Multiple GPUs](https://d2l.ai/chapter_computational-performance/multiple-gpus.html), for the same doubts about balance. Rajbhandari et al., [ZeRO](https://arxiv.org/abs/1910.02054), for the 16 bytes.
