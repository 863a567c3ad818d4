# %% [markdown]
# # 00 Start here
#
# **A network is too large for one device, so you cut it into four parts and give each part to a
# worker. How much of the time does each worker really work?**
#
# The answer is drawn below. In five minutes you will have split a decoder yourself, and will have
# measured it.
#
# 25 minutes. You need Python and a first acquaintance with PyTorch. No GPU is needed.

# %% [markdown]
# ## After this lesson you can
# - cut a transformer decoder over four workers and train it on real text
# - read off a timeline who is idle, for how long, and why
# - say what of this your own machine shows for real, and what it models
#
# One training step on four workers, each with a quarter of the layers:

# %%
from d2lpart import build_schedule, simulate

simulate(build_schedule("naive", num_ranks=4, num_microbatches=1), {"F": 1, "B": 2})

# %% [markdown]
# One lane for each worker; we call a worker a **rank**. Time runs to the right. A box is an
# **action**: plain is the forward of a rank's layers, hatched their backward. The number in it is
# the piece of the data, here 0, as all data comes in one piece; so we write `F0` and `B0`. Blank means
# **idle**: the rank computes nothing. Forward goes down the stairs, backward climbs up again. The
# order in which each rank takes its actions is the **schedule**; this one is called `naive`.
#
# Nothing has been measured yet. Each forward is *said* to take 1 s and each backward 2 s; this is
# the **predicted** clock, and every picture in this course says which clock it comes from.
#
# Your first prediction. Run the cell and give your number in the field under the question. Where
# there is no field, run `question("00.q1").check(40)` in a cell of your own, with your number in it.

# %%
from d2lpart.course import question

question("00.q1")

# %% [markdown]
# A timeline answers such questions itself. First the picture above, then more ranks and fewer:

# %% tags=["nbval-check-output"]
timeline = simulate(build_schedule("naive", 4, 1), {"F": 1, "B": 2})
for rank in range(4):
    print(f"rank {rank}: busy {timeline.busy(rank):.0f} s, idle {timeline.idle_fraction(rank):.0%}")
for n in (2, 4, 10):
    step = simulate(build_schedule("naive", n, 1), {"F": 1, "B": 2})
    print(f"{n} ranks: each idle {step.idle_fraction():.0%} of the step")

# %% [markdown]
# One of *n* ranks works, *n* − 1 wait. So, with equal parts, each is idle (*n* − 1)/*n* of the step.
# The timeline also knows the reason of every gap. Rank 1 waits for the rank before it, then for the
# rank after it, and then it has nothing left to do (a number in front names the part of the network:
# `2B0` is the `B0` of part 2):

# %% tags=["nbval-check-output"]
for gap in timeline.gaps(1):
    print(f"{gap.start:4.0f} s to {gap.end:4.0f} s  {gap.reason}")

# %% [markdown] card="Network Partitioning"
# ## Network Partitioning
#
# > Network partitioning, also known as layer-wise model parallelism, is a multiple-GPU training
# > strategy where the neural network is divided sequentially across devices. Each GPU takes the
# > input for a specific set of layers, processes it, and transfers the intermediate activations to
# > the next GPU.
#
# So the textbooks define it. Now for real. A `Decoder` is a list of **layers**: an embedding, some
# blocks, a head. Nothing about it knows that it will be cut.

# %% tags=["nbval-check-output"]
import torch
from d2lpart import Decoder, Pipeline, corpus

torch.manual_seed(0)
torch.set_num_threads(1)  # one thread is one worker's hardware, here and in the whole course
decoder = Decoder(vocab_size=256, width=96, num_layers=3, num_heads=3, context=32)
for number, layer in enumerate(decoder.layers):
    print(number, layer)

# %% [markdown]
# The text to learn from is on your machine already: the source code of Python's own standard
# library, of which we take the first 60,000 bytes. A sample is 32 bytes; the target at each place is
# the byte that follows.

# %%
text = corpus(60_000)
inputs, targets = next(text.batches(batch_size=16, context=32))
print(inputs.shape, targets.shape)
print(repr(text.decode(inputs[0])))

# %% [markdown]
# A **partition** says how many consecutive layers make up each **stage**: 2 + 1 + 1 + 1. Every
# stage goes to a rank, every rank to a device. Four ranks may share your one CPU; they are still
# four ranks, with their own layers, messages and threads.

# %%
pipeline = Pipeline(decoder, [2, 1, 1, 1], devices=["cpu"] * 4, schedule="naive", clock="wall")
steps = [pipeline.step(inputs, targets) for _ in range(5)]
step = min(steps, key=lambda step: step.timeline.makespan)  # the one least disturbed
step.timeline

# %% [markdown]
# This is a *measurement*: four threads, one a rank, on the **wall** clock, the quickest of five steps.
# Only one of them works at any time, so even a machine with one core shows the true idle time. (A
# note under the picture may say that ranks share cores. Here that costs nothing.)
#
# Set it beside the prediction:

# %%
measured = step.timeline
print(f"predicted idle time: {timeline.idle_fraction():.1%}")
print(f"measured idle time:  {measured.idle_fraction():.1%}")
print("by rank:", ", ".join(f"{measured.idle_fraction(r):.1%}" for r in range(4)))

# %% [markdown]
# All together the ranks lie at the prediction or above it: handing over takes time, too, and the
# more so on a busy machine. One by one they differ, because the stages are not equally heavy. Rank 3
# has the head alone, and no block. Lesson 04 is about that.
#
# ## What did the cut cost?
#
# First, did it change the result? Here is the loss, from the pipeline and from the plain model, and
# what was sent from rank to rank:

# %%
with torch.no_grad():
    whole = torch.nn.functional.cross_entropy(decoder(inputs).flatten(0, 1), targets.flatten())
print(f"pipeline {step.loss:.6f}, uncut decoder {whole.item():.6f}")
print(f"moved from rank to rank: {step.bytes_moved:,} bytes")

# %% [markdown]
# The loss is that of the uncut decoder; so are the gradients, which lesson 03 compares bit by bit.
# Bytes are a price: an activation of 16 × 32 × 96 numbers of 4 bytes, over three cuts, and as much
# back.
#
# And time? Predict before you go on.

# %%
question("00.q2")

# %% [markdown]
# Test it on your machine: the same step on one rank and on four, in turn, ten times. The quickest of
# each count.

# %%
one = Pipeline(decoder, [5], devices=["cpu"], schedule="naive", clock="wall")
four = Pipeline(decoder, [2, 1, 1, 1], devices=["cpu"] * 4, schedule="naive", clock="wall")
seconds = {one: [], four: []}
for _ in range(10):
    for cut in (one, four):
        seconds[cut].append(cut.step(inputs, targets).timeline.makespan)
print(f"four ranks take {min(seconds[four]) / min(seconds[one]):.2f} times as long as one")

# %% [markdown]
# Four times the workers, and about the same time; what is above or below 1 is hand-over and chance.
# This is the weakness of plain network partitioning, and the reason for lessons 05 and 06.
#
# ## Let them work at the same time
#
# Cut the *data* too: the **mini-batch** into **micro-batches**. While rank 1 works on micro-batch
# 0, rank 0 can begin micro-batch 1. That is pipeline parallelism. Predict what is left of the idle
# time with four micro-batches:

# %%
question("00.q3")

# %% [markdown]
# Was it 0, now that all can work? Or 75% divided by four? Look. The schedule is `1f1b`: in the middle
# each rank takes one forward, one backward, in turn.

# %% tags=["nbval-check-output"]
ideal = simulate(build_schedule("1f1b", 4, 4), {"F": 1, "B": 2})
ideal

# %% [markdown]
# The pipeline has to fill, and to drain. Call a forward and a backward of one micro-batch a slot. A
# rank works for 4 slots and waits for 3. In general, with *p* ranks and *m* micro-batches,
# (*p* − 1)/(*m* + *p* − 1) of the step is idle, here 3/7. Lesson 05 derives this formula.
#
# Now on your machine. Four ranks that work at once need four devices, or four cores. If you have
# fewer, the **virtual** clock helps: every action really runs, alone, and is timed. Then the starts
# are placed by the **dependency rule**, as if each rank had the hardware to itself: an action starts
# when its rank is free and its input is there. Loss and gradients are real either way.
#
# How much idle time will it show?

# %%
from d2lpart.course import predict

guess = predict("00.p1", None)
guess

# %% [markdown]
# And now the machine:

# %%
pipeline = Pipeline(
    decoder, [2, 1, 1, 1], ["cpu"] * 4, schedule="1f1b", num_microbatches=4, clock="virtual"
)
steps = [pipeline.step(inputs, targets) for _ in range(5)]
step = min(steps, key=lambda step: step.timeline.makespan)
step.timeline

# %% [markdown]
# Compare with the formula, rank by rank, and with your guess:

# %%
for rank in range(4):
    here = step.timeline.idle_fraction(rank)
    print(f"rank {rank}: predicted {ideal.idle_fraction(rank):.1%} idle, measured {here:.1%}")
print(f"all ranks: {ideal.idle_fraction():.1%} and {step.timeline.idle_fraction():.1%}")
guess.against(100 * step.timeline.idle_fraction())

# %% [markdown]
# If your guess was the formula, it has failed. Why does the pipeline not do what the formula says?

# %%
question("00.q4")

# %% [markdown]
# The slowest stage sets the pace; the others wait for it. These are the longest gaps of rank 3, the
# last and lightest:

# %%
for gap in sorted(step.timeline.gaps(3), key=lambda gap: -gap.seconds)[:4]:
    print(f"{gap.seconds * 1e3:6.2f} ms  {gap.reason}")

# %% [markdown]
# It waits for rank 2, the only rank that sends it anything, and has ended its own part
# before the others have.
#
# ## Train it
#
# The pipeline leaves gradients in the parameters, as `loss.backward()` does. So any optimizer
# works. Four ranks, micro-batches, real text, 300 steps.

# %%
optimizer = torch.optim.AdamW(decoder.parameters(), lr=8e-3)
rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=300)
losses = []
for inputs, targets in text.batches(16, 32, steps=300, seed=1):
    optimizer.zero_grad()
    losses.append(pipeline.step(inputs, targets).loss)
    optimizer.step()
    rate.step()
first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
print(f"loss of the first 10 steps {first:.2f}, of the last 10 {last:.2f}")
print(f"loss of a blind guess among 256 bytes: ln 256 = {torch.tensor(256.0).log():.2f}")

# %% [markdown]
# The loss is cross-entropy: the mean of −ln of the probability that the decoder gave to the byte
# that came.

# %%
from d2lpart import figures

smooth = [sum(losses[i : i + 10]) / 10 for i in range(0, len(losses), 10)]
figures.curves(
    list(range(0, 300, 10)),
    {"loss": smooth},
    xlabel="step",
    ylabel="loss (mean of 10 steps)",
    description=f"The loss falls from {smooth[0]:.2f} to {smooth[-1]:.2f} over 300 steps.",
)

# %% [markdown]
# A pipeline is a model like any other: tokens in, logits out. Let it write.

# %%
from d2lpart import generate

generator = torch.Generator().manual_seed(1)
prompt = text.encode("        if self.")
written = generate(pipeline, prompt, 200, context=32, temperature=0.8, generator=generator)
print(text.decode(written))

# %% [markdown]
# It is no program, but it has begun to look like Python: indentation, brackets, underscores, pieces
# of words. A network that lies in four pieces has learned it, from the first pages of one file
# (`argparse`), so do not expect it to know more than that.
#
# ## What does your machine show for real?
#
# Which clock can one, two or four ranks have on it?

# %%
from d2lpart import devices

print("the best four places here:", ", ".join(map(str, devices(4))))
for ranks in (1, 2, 4):
    layers = Decoder(256, 96, 3, 3, 32).layers
    places = devices(ranks)
    trial = Pipeline(layers, devices=places, num_microbatches=4)
    measured = trial.step(inputs.to(places[0]), targets).timeline
    print(f"ranks {ranks}:", measured.note.split(":")[0])

# %% [markdown]
# `clock="auto"`, the default, takes the wall clock where every rank has a device or a core of its
# own, and the virtual clock elsewhere.
#
# | clock | durations | starts | what it is good for |
# | --- | --- | --- | --- |
# | predicted | given | by the dependency rule | any size, no hardware |
# | virtual | measured, one action at a time | by the dependency rule | many ranks on one device |
# | wall | measured | measured | what really happens |
#
# One last question before you go on.

# %%
question("00.q5")

# %% [markdown]
# Every question has three hints, folded underneath, and then a worked example with other numbers.
# What you tried and passed is kept on your own disk and nowhere else; this is how far you are:

# %%
from d2lpart.course import progress

progress()

# %% [markdown]
# ## To remember
# - Network partitioning cuts a network between its layers; each rank keeps only its own.
# - Without micro-batches one rank works at a time. So of all time of *n* ranks, (*n* − 1)/*n* is idle,
#   at least.
# - Cutting changes no number in the result, and by itself makes no step faster; it makes room.
# - Micro-batches let ranks work at once; filling and draining stay, and the slowest stage sets the
#   pace.
# - Every picture says which clock it comes from: predicted (nothing is measured), virtual (durations
#   are) or wall (everything is).
#
# ## Where to go
#
# | lesson | question |
# | --- | --- |
# | [01 Why one device is not enough](01_one_device_is_not_enough.ipynb) | What fills the memory? |
# | [02 Three ways to split](02_three_ways_to_split.ipynb) | Between the layers, inside them, or through the data: what does each way send, and who waits? |
# | [03 Splitting a decoder](03_splitting_a_decoder.ipynb) | Can you cut a decoder in four and not change a single bit of the result? |
# | [04 Placement and balance](04_placement_and_balance.ipynb) | Which layer goes where, and who decides? |
# | [05 Worker idle time](05_worker_idle_time.ipynb) | Four devices, and three of them always wait: why? |
# | [06 Pipeline parallelism](06_pipeline_parallelism.ipynb) | The same work in less than a third of the time: what is the order worth? |
#
# **Read on.** D2L, [Training on Multiple GPUs](https://d2l.ai/chapter_computational-performance/multiple-gpus.html),
# for network partitioning. Xiao and Zhu, [Foundations of Large Language Models](https://arxiv.org/abs/2501.09223),
# chapter 2, which calls the same thing layer-wise model parallelism. Huang et al.,
# [GPipe](https://arxiv.org/abs/1811.06965), for micro-batches and the formula. Narayanan et al.,
# [Megatron-LM](https://arxiv.org/abs/2104.04473), section 2.2, for 1F1B.
