# %% [markdown]
# # 06 Pipeline parallelism
#
# **The same work, the same four ranks, and one of these steps takes less than a third of the other:
# what is the order worth?**
#
# 55 minutes. You need lesson 05: idle time, the two bubbles, the critical path. No GPU is needed.

# %% [markdown]
# ## After this lesson you can
# - derive the bubble of a pipelined step, and hold it against a simulation and a real run
# - say what GPipe, 1F1B, interleaved 1F1B and zero-bubble orders pay for a smaller bubble, and measure it
# - choose the number of micro-batches by the step, not by the bubble
# - write a schedule of your own, have it checked and explained, and run it for real

# %%
from d2lpart import Link, build_schedule, simulate

even = {"F": 1, "I": 1, "W": 1}  # seconds; a whole backward B takes I + W
naive, zero = (simulate(build_schedule(name, 4, 8), even) for name in ("naive", "zb-h1"))
naive.compare(zero)

# %% [markdown] card="Pipeline Parallelism"
# ## Pipeline Parallelism
#
# Above, the 8 pieces of a mini-batch go through one after another. Below they follow each other
# closely, and each backward is done in two halves, `I` and `W`. It is the same work, and the same
# result. Between the two lie several ideas, and you will meet them one by one, each with what it
# costs.
#
# The first one you know from lesson 05: cut the mini-batch into **micro-batches**. The optimizer
# still steps once, when all of them are through, so nothing about the training changes. What changes
# is that rank 0 can begin the second piece while rank 1 has the first.
#
# ## The bubble, once more
#
# Count in slots of one forward and one backward. Of $p$ even ranks each works in $m$ slots, one for
# each micro-batch. The last one begins $p-1$ forwards late, and after its last backward $p-1$
# backwards are still to come. So
#
# $$\text{idle/total} = \frac{p-1}{m+p-1}.$$
#
# Turn it round:

# %%
from d2lpart.course import predict, question

question("06.q1")

# %% [markdown]
# The formula, the simulator, and a real run, for three numbers of micro-batches. The decoder has 8
# layers, two a rank; on the *virtual* clock every action really runs and is timed alone, and the
# starts are placed by the dependencies.

# %%
from dataclasses import replace

import torch
from d2lpart import Decoder, Pipeline, corpus
from d2lpart.repeats import undisturbed

torch.set_num_threads(1)
torch.manual_seed(0)
decoder = Decoder(vocab_size=256, width=64, num_layers=6, num_heads=4, context=32)
inputs, targets = next(corpus().batches(batch_size=32, context=32))


def run(schedule, num_microbatches, stages_a_rank=1):
    sizes = [8 // (4 * stages_a_rank)] * (4 * stages_a_rank)
    pipeline = Pipeline(decoder, sizes, ["cpu"] * 4, schedule=schedule,
                        num_microbatches=num_microbatches, clock="virtual")
    pipeline.step(inputs, targets)  # to warm up
    steps = [pipeline.step(inputs, targets) for _ in range(5)]
    return replace(steps[0], timeline=undisturbed(step.timeline for step in steps))

# %% [markdown]
# `run` takes six steps. Of each action it keeps the shortest of the last five times, the one that the rest
# of your machine has disturbed least, and places these.

# %%
print(" m   formula  simulated  measured")
for m in (2, 8, 32):
    simulated = simulate(build_schedule("gpipe", 4, m), even)
    measured = run("gpipe", m).timeline
    print(f"{m:2}   {3 / (m + 3):7.1%}  {simulated.idle_fraction():9.1%}  {measured.idle_fraction():8.1%}")

# %% [markdown]
# The first two columns agree to the last digit, though the simulator knows no formula: it only places
# each action as early as it can. The measured column is larger, for the stages are not
# even: rank 3 has the head, rank 0 an embedding.
#
# ## GPipe against 1F1B
#
# `gpipe` runs all forwards, then all backwards. `1f1b` runs a few forwards ahead, and then one forward
# and one backward in turn.

# %% tags=["nbval-check-output"]
gpipe, one_f_one_b = (simulate(build_schedule(name, 4, 8), even) for name in ("gpipe", "1f1b"))
print(gpipe.compare(one_f_one_b).lanes())

# %% [markdown]
# Look at the middle of the second picture: there is hardly a blank. So which bubble is smaller?

# %%
question("06.q2")

# %% [markdown]
# Then what is it good for? An activation has to be kept from its forward until its backward.

# %%
question("06.q3")

# %% [markdown]
# Now in bytes, on your machine. A step reports how much each rank really held at most: the storages
# that autograd kept. Your guess first, with 16 micro-batches:

# %%
guess = predict("06.p1", None)
guess

# %% [markdown]
# Run both:

# %%
steps = {name: run(name, 16) for name in ("gpipe", "1f1b")}
for name, step in steps.items():
    held = ", ".join(f"{nbytes / 1e6:5.2f}" for nbytes in step.peak_bytes)
    print(f"{name:6} holds {held} MB on ranks 0 to 3; loss {step.loss:.4f}")
guess.against(steps["gpipe"].peak_bytes[0] / steps["1f1b"].peak_bytes[0])

# %% [markdown]
# The same loss, the same bubble, and a fraction of the memory: on rank $r$ no more than $p - r$
# micro-batches, however many there are. That is why one can afford many with 1F1B, and cannot with
# GPipe. (It does not fall with more ranks, though. Rank 0 holds $p$ micro-batches of $1/p$ of the
# layers: about one micro-batch of the whole network.)
#
# ## More micro-batches, faster step?
#
# Since memory no longer forbids it: cut finer?

# %%
question("06.q4")

# %% [markdown]
# Here is your machine's answer, with one mini-batch of 32 samples:

# %%
from d2lpart import draw

counts = [1, 2, 4, 8, 16, 32]
runs = {m: run("1f1b", m).timeline for m in counts}
for m, timeline in runs.items():
    work = sum(map(timeline.busy, range(4)))
    print(f"m = {m:2}: idle {timeline.idle_fraction():5.1%}, work {1e3 * work:6.1f} ms, "
          f"step {1e3 * timeline.makespan:6.1f} ms")
draw.curves(
    counts,
    {"step": [1e3 * runs[m].makespan for m in counts],
     "work of one rank": [1e3 * sum(map(runs[m].busy, range(4))) / 4 for m in counts]},
    xlabel="micro-batches m", ylabel="ms (virtual clock)",
    description="1F1B on four ranks. " + ", ".join(
        f"m = {m}: step {1e3 * runs[m].makespan:.0f} ms" for m in counts),
)

# %% [markdown]
# What lies between the two curves is idle time, and it closes. But to the right the lower curve rises: a
# smaller piece costs more for each sample, since every action has a price of its own. The step is shortest
# where the two balance. On a GPU the reason is a different one, small kernels that do not fill the
# chip, and the curve looks the same. **Choose $m$ by the step, not by the bubble.**
#
# ## Interleaving
#
# The blanks of a pipeline are as long as a stage. So make stages shorter, without more ranks: give
# each rank $v$ of them, dealt out in turn. Rank 0 of four gets stages 0 and 4, rank 1 gets 1 and 5, and so on.

# %%
half = {kind: seconds / 2 for kind, seconds in even.items()}
interleaved = simulate(build_schedule("interleaved", 4, 8, chunks=2), half)
interleaved

# %% [markdown]
# In lesson 04 you have called 12 layers dealt out to 3 devices *no* layer-wise partition, with 11
# crossings for 2. That was right, and this is the other side of it. Interleave 12 stages of one layer
# each over 3 ranks, and you have that very placement:

# %% tags=["nbval-check-output"]
from d2lpart import check_placement

dealt = build_schedule("interleaved", 3, 6, chunks=4).stage_to_rank
print("stage by stage, the ranks:", *dealt)
print(check_placement(dealt, 3).reason)
for v in (1, 4):
    t = simulate(build_schedule("interleaved", 3, 6, chunks=v), dict.fromkeys("FIW", 1 / v))
    print(f"{v} stages a rank: {3 * v - 1:2} crossings, idle {t.idle_fraction():.1%}, step {t.makespan} s")

# %% [markdown]
# Who pays the crossings may buy a smaller bubble with them. What else is in the price?

# %%
question("06.q5")

# %% [markdown]
# And how much smaller does it get?

# %%
question("06.q6")

# %% [markdown]
# A rank's work now takes $vm$ short slots, and $p-1$ of them are blank: idle/total is
# $(p-1)/(vm+p-1)$. Whether that is a good trade depends on the link. Each message takes a while, and
# there are more of them:

# %% tags=["nbval-check-output"]
for latency in (0, 0.3, 1, 3):
    plain = simulate(build_schedule("1f1b", 4, 8), even, Link(latency))
    split = simulate(build_schedule("interleaved", 4, 8, chunks=2), half, Link(latency))
    print(f"{latency:3} s a message: 1F1B {plain.makespan:5.1f} s, interleaved {split.makespan:5.1f} s")

# %% [markdown]
# On a free link interleaving wins; as messages take longer, it wins less, and in the end it loses.
#
# ## Zero bubble
#
# The backward of a stage has two halves. `I` computes the gradient of the stage's *input*; `W` the
# gradients of its *weights*. Both are about as long as the forward: each is a matrix product of the
# same size.

# %%
question("06.q7")

# %% [markdown]
# So a rank runs I at once, and fills with W what would be a gap. First the order that the dependencies
# ask for:

# %%
question("06.q8")

# %% [markdown]
# Three orders from the paper that had this idea (arXiv 2401.10241). H1 holds no more than 1F1B's rank 0,
# H2 almost twice as much, and V folds the pipeline: rank 0 has the first stage *and the last*.

# %% tags=["nbval-check-output"]
print("              step   idle/total  longest rank  held by the fullest rank")
for name in ("1f1b", "interleaved", "zb-h1", "zb-h2", "zb-v"):
    chunks = 2 if name == "interleaved" else None
    schedule = build_schedule(name, 4, 8, chunks=chunks)
    share = 4 / schedule.num_stages
    t = simulate(schedule, dict.fromkeys("FIW", share))
    held = max(t.peak_in_flight(rank) for rank in range(4))
    print(f"{name:12} {t.makespan:5.1f} s  {t.idle_fraction():8.1%}  {t.bubble_rate():12.1%}  {held:10.1f}")

# %% [markdown]
# Two columns for the bubble, and ZB-H2 has 0.0% in one of them. The paper counts each rank from its
# own first start to its own last end: `bubble_rate()`. Our idle/total counts the whole step for all,
# and the ranks' stagger at both ends with it. Neither is wrong. When you read "zero bubble", ask which.

# %%
question("06.q9")

# %% [markdown]
# Does it hold up for real? The pipeline splits the backward in earnest: I runs the graph down to the
# stage's input and keeps what W will need; W is computed later, once, and nothing runs twice. With 8
# micro-batches on four ranks:

# %%
guess = predict("06.p2", None)
guess

# %% [markdown]
# Every schedule, the same decoder, the same batch:

# %%
results = {name: run(name, 8, 2 if name in ("interleaved", "zb-v") else 1)
           for name in ("naive", "gpipe", "1f1b", "interleaved", "zb-h1", "zb-h2", "zb-v")}
for name, step in results.items():
    t = step.timeline
    print(f"{name:12} step {1e3 * t.makespan:6.1f} ms  idle {t.idle_fraction():5.1%}  fullest rank "
          f"{max(step.peak_bytes) / 1e6:5.2f} MB  loss {step.loss:.5f}")
results["zb-h1"].timeline

# %% [markdown]
# All losses are the same: an order changes no result. Your guess:

# %%
guess.against(100 * results["zb-h1"].timeline.idle_fraction())

# %% [markdown]
# The zero-bubble orders idle less than 1F1B. Do they also take less time? Look at the column *step*
# before you read on. Where it says no, the split itself is the reason: I and W together cost more
# than one whole backward, in Python calls and in memory traffic. By how much, here?

# %%
def seconds_of(name, kinds):
    return sum(span.seconds for span in results[name].timeline.spans if span.action.kind in kinds)


print(f"I and W of all stages take {seconds_of('zb-h1', 'IW') / seconds_of('1f1b', 'B'):.2f} times as "
      f"long as B; I alone {seconds_of('zb-h1', 'I') / seconds_of('1f1b', 'B'):.2f} times")

# %% [markdown]
# The wider the layers, the less that should count: the products grow, the calls do not. Four times as wide:

# %%
decoder = Decoder(vocab_size=256, width=256, num_layers=6, num_heads=4, context=32)
wide = {name: run(name, 8).timeline for name in ("1f1b", "zb-h1")}
for name, timeline in wide.items():
    print(f"{name:6} step {1e3 * timeline.makespan:6.1f} ms, idle {timeline.idle_fraction():.1%}")
print(f"step of ZB-H1 / step of 1F1B: {wide['zb-h1'].makespan / wide['1f1b'].makespan:.2f}; "
      f"narrow: {results['zb-h1'].timeline.makespan / results['1f1b'].timeline.makespan:.2f}")

# %% [markdown]
# So measure before you choose.
#
# What 1F1B promised for even stages, and what came of it, side by side. Each row names its definition of
# the bubble. The last one, the paper's, counts the busiest rank's work as needed, so what the *other*
# ranks wait for it is no bubble there:

# %%
from d2lpart.bubble_table import bubbles

print(bubbles(simulate(build_schedule("1f1b", 4, 8), even), results["1f1b"].timeline))

# %% [markdown]
# ## Why is there a gap?
#
# A timeline knows the chain behind each blank. Take the longest wait of rank 1 in 1F1B, on paper:

# %% tags=["nbval-check-output"]
waits = [gap for gap in one_f_one_b.gaps(1) if gap.kind == "wait"]
print(one_f_one_b.why(1, max(waits, key=lambda gap: gap.seconds)))

# %% [markdown]
# Read it upwards: the last line is where it began. A gap is as long as the chain behind it, so a faster
# device helps only if it is in the chain.
#
# Now try for yourself. Choose a schedule and its sizes, and ask any gap why it is there. (Without
# controls you see the start; `schedule_report("zb-v", 4, 8, latency=0.5)` from
# `d2lpart.schedule_report` answers for other values, and its `why(0)` for the longest gap.)

# %%
from d2lpart.widgets import schedule_explorer

schedule_explorer("zb-h1", forward=1, backward=2)

# %% [markdown]
# Three things to look for: the latency at which interleaving loses to 1F1B; the number of micro-batches
# below which ZB-V keeps a bubble; and what a longer backward does to ZB-H2.
#
# ## A schedule of your own
#
# A schedule is nothing but an order for each rank: write it down, and it is checked. This one asks for
# a gradient before there can be one:

# %% tags=["nbval-check-output"]
from d2lpart import Schedule, ScheduleError, validate

try:
    validate(Schedule(["0F0 0B0 0F1 0B1", "1F1 1B1 1F0 1B0"], [0, 1]))
except ScheduleError as error:
    print(error)

# %% [markdown]
# A deadlock: each rank waits for what the other will do later. Change the order of rank 1 in your copy
# until it runs.
#
# Mostly one writes a function of $p$ and $m$. Here is an idea: GPipe holds too much, so run it on $p$
# micro-batches at a time. Where will it stand among the others, if no rank may hold more than 4?

# %%
from d2lpart.ranking import ranking


def my_schedule(p, m):
    groups = [range(k, min(k + p, m)) for k in range(0, m, p)]
    return [[f"{r}{kind}{k}" for group in groups for kind in "FB" for k in group] for r in range(p)]


mine = Schedule(my_schedule(4, 8), range(4), "mine")
print(ranking(mine, even, most_held=4, chunks=1))
print(f"for real: idle {run(mine, 8).timeline.idle_fraction():.1%}")
simulate(mine, even)

# %% [markdown]
# It keeps to the memory, and pays: the pipeline runs empty between the groups. 1F1B holds as little and
# never runs empty. To run a schedule of your own for real, hand it to a `Pipeline`, as `run` does.
#
# Or build one without any mistake: here only the actions that can run next have a button, and any other
# tells you what it waits for. Three ranks, three micro-batches, and no rank may hold more than three. In
# the end it compares yours with par, the best named schedule with one stage a rank.

# %%
from d2lpart.widgets_builder import schedule_builder

builder = schedule_builder(3, 3, split=True, most_held=3)
for move in ("0F0", "0F1", "1F0"):
    builder.report.place(move)
builder

# %% [markdown]
# (Without buttons, `builder.report.place("2F0")` makes the next move, and says no to what cannot run;
# `builder.report.undo()` takes it back.)
#
# Then the challenge: four ranks, 8 micro-batches, and at most 4 held, as in the table above. 1F1B takes
# 33 s. **Par is 27 s.** The last [exercise](../exercises/06_pipeline_parallelism.ipynb) checks yours,
# says how far it is from par, and runs it for real.
#
# ## To remember
#
# - Even stages: idle/total $(p-1)/(vm+p-1)$. GPipe and 1F1B have the same bubble; 1F1B holds $p-r$
#   micro-batches on rank $r$, GPipe all $m$.
# - Interleaving divides the blanks by $v$, for $vp-1$ crossings and more memory.
# - The backward has two halves, and nobody waits for W. Zero-bubble orders fill the gaps with it.
# - There are three bubbles in the wild: idle/total, idle/ideal, and that of the longest rank.
# - The smallest bubble need not be the fastest step: fixed costs, messages and uneven stages decide.
#
# **Read on.** Huang et al., [GPipe](https://arxiv.org/abs/1811.06965). Narayanan et al.,
# [Megatron-LM](https://arxiv.org/abs/2104.04473), sections 2.2 and 3, for 1F1B and interleaving. Qi et
# al., [Zero Bubble Pipeline Parallelism](https://arxiv.org/abs/2401.10241), for I, W, H1, H2 and V.
